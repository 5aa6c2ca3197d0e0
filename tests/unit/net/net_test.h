// SPDX-License-Identifier: Apache-2.0
// What the tests of net/ share: loops in threads, waiting with a deadline, raw sockets,
// certificates made on the spot, and a server whose paths each do one thing.
#pragma once
#include "net/http.h"
#include "net/http_client.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
// cmocka wants those before it
#include <cmocka.h>

// ---- Waiting: another thread counts up, the test waits for a number; 60 s, then it fails.
struct event {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    long n;
};
#define EVENT_INIT                                                                                 \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0                                     \
    }
void event_add(struct event *e, long n);
long event_get(struct event *e);
void event_wait_at(struct event *e, long n, const char *file, int line);
#define event_wait(e, n) event_wait_at((e), (n), __FILE__, __LINE__)

// Runs fn(arg) on the loop and waits for it.
void on_loop(struct kl_loop *l, void (*fn)(void *arg), void *arg);

// ---- Raw sockets on 127.0.0.1, blocking, 60 s at most
int raw_connect(int port);
void raw_send(int fd, const void *p, size_t n);
void raw_puts(int fd, const char *s);
// Reads until `needle` was seen (NULL: until the end) or the buffer is full; NUL-terminated.
size_t raw_read_until(int fd, char *buf, size_t cap, const char *needle);
bool raw_at_end(int fd); // the peer has closed (or reset) and nothing is left
int count_of(const char *hay, const char *needle);

// ---- Certificates
struct pems {
    char *cert, *key;
};
// A CA (signer NULL), or a certificate of the signer for localhost, 127.0.0.1 and ::1.
struct pems make_cert(const char *cn, const char *const *orgs, const struct pems *signer);
void free_pems(struct pems *p);
struct kl_tls_pem pem_of(const char *s);

// ---- The server
struct fixture {
    struct kl_loop *loops[2];
    int nloops;
    struct kl_http_server *server;
    int port;
    struct pems ca, server_cert, client_cert;
    struct kl_tls_ctx *tls, *client_tls, *client_tls_cert;
    struct event closed;        // requests closed
    atomic_int last_status;     // of on_close
    atomic_llong pulled_bytes;  // from /endless
    struct event watch_started; // /watch
    struct kl_http_req *watch;  // on its loop
    int watch_left;
    struct event stopped;
};
// Paths: /hello, /echo (body), /stream-echo, /list?N (N slices of 2 KiB), /endless, /hang, /watch,
// /cert, /abort, /fail-midway, /tunnel (upgrade: echo), /trailers, /interim, /conn-id, /head
void fixture_start(struct fixture *f, int nloops, bool tls, const struct kl_http_server_opts *base);
void fixture_stop(struct fixture *f);
void fixture_fire_watch(struct fixture *f, int n); // n more slices of "event\n" on /watch

// ---- A client on its own loop
struct reply {
    struct event done;
    struct fixture *f;
    int status, end_status, version;
    char *body;
    size_t body_n;
    size_t pause_every; // pauses after each so many bytes; the test resumes
    size_t take;        // so many bytes at once, the rest is put back; 0: all
    int64_t turn;       // of the loop, when something was put back
    bool cancel_in_data, paused;
    struct kl_http_call *call;
    struct kl_duplex *tunnel;
    char trailer[64], err[1024];
};
extern const struct kl_http_call_cbs reply_cbs;
void reply_free(struct reply *r);
