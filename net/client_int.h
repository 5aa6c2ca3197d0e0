// SPDX-License-Identifier: Apache-2.0
// The parts of the HTTP client: calls wait at a target; connections of that target take them.
#pragma once
#include "base/arena.h"
#include "net/conn_int.h"
#include "net/http_client.h"
#include "net/http_util.h"
#include <http_parser.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>

struct kl_hc_target;
struct kl_hc_conn;

enum {
    KL_HC_STREAM_WINDOW = 256 * 1024,
    KL_HC_MAX_ADDRS = 8,
    KL_HC_PING_MS = 15000, // an answer to our PING
    KL_HC_STALL_MS = 30000,
};

struct kl_hc_piece {
    struct kl_hc_piece *next;
    struct kl_bytes *bytes;
};

//  WAITING (at the target) -> ACTIVE (on a connection) -> ENDED (only its memory is left)
enum kl_hc_call_state { KL_HC_WAITING, KL_HC_ACTIVE, KL_HC_ENDED };

struct kl_http_call {
    struct kl_http_client *client;
    struct kl_hc_target *target;
    struct kl_hc_conn *conn;
    struct kl_http_call *prev, *next;         // waiting at the target, or on the connection
    struct kl_http_call *all_prev, *all_next; // of the client
    enum kl_hc_call_state state;
    const struct kl_http_call_cbs *cbs;
    void *arg;
    struct kl_arena arena; // what was asked
    struct kl_str method, path, host_header;
    struct kl_http_header *headers;
    size_t nheaders;
    struct kl_bytes *body;
    uint32_t body_sent;
    bool upgrade, retried;
    bool stream_body, body_ended;
    bool body_done; // HTTP/1.1: the end of a streamed body is in the queue
    uint64_t body_length;
    size_t sent;                              // of streamed pieces, not yet told
    struct kl_hc_piece *pieces, **pieces_end; // of a streamed body, behind `body`
    size_t pieces_bytes;

    struct kl_arena resp_arena; // what is answered
    struct kl_http_header *resp, *trailers;
    size_t nresp, cap_resp, resp_bytes, ntrailers;
    int status, version;
    bool got_headers, paused, in_cb, end_pending;
    struct kl_buf backlog; // came while paused
    int32_t stream_id;

    uint32_t timeout_ms, header_timeout_ms;
    bool timer_open, task_queued;
    uv_timer_t timer;
    uint64_t deadline, header_deadline;
    struct kl_task task; // first dispatch, and resuming
    int end_status;
};

struct kl_hc_conn {
    struct kl_http_client *client;
    struct kl_hc_target *target; // not after it is gone
    struct kl_conn *c;           // NULL while a name is looked up
    struct kl_hc_conn *prev, *next;
    bool open, h2, gone, reused, goaway, draining, lookup, freed_by_lookup, ping_sent;
    struct sockaddr_storage addrs[KL_HC_MAX_ADDRS];
    socklen_t addr_lens[KL_HC_MAX_ADDRS];
    int naddrs, next_addr;
    uint64_t connect_due;
    uv_getaddrinfo_t gai;
    struct kl_http_call *calls; // HTTP/1.1: at most one
    int ncalls;
    uint64_t last_read_ms;
    // HTTP/1.1
    http_parser parser;
    struct kl_h1_text field, value;
    bool in_value, keep_alive, complete, upgraded, got_bytes;
    // HTTP/2
    nghttp2_session *session;
    bool settled; // the server's SETTINGS came: until then how many streams it takes is a guess
};

struct kl_hc_target {
    struct kl_http_client *client;
    struct kl_hc_target *next;
    char *host, *unix_path;
    int port;
    struct kl_tls_ctx *tls;
    enum kl_http_proto proto; // KL_HTTP_1 also for upgrades
    struct kl_hc_conn *conns;
    struct kl_http_call *waiting, **waiting_end;
    int nwaiting, nconns, nconnecting;
    int busy;          // functions that go on using it after a callback
    bool known, is_h2; // what ALPN chose the last time
};

struct kl_http_client {
    struct kl_loop *loop;
    uint32_t max_conns, max_idle, idle_ms, connect_ms, ping_ms;
    struct kl_hc_target *targets;
    struct kl_http_call *calls;
    int refs; // itself, calls and connections whose memory is still there
    bool closed;
};

// client_conn.c
void kl_hc_dispatch(struct kl_hc_target *t); // gives waiting calls to connections, opens new ones
void kl_hc_target_free(struct kl_hc_target *t);
void kl_hc_conn_close(struct kl_hc_conn *hc);
void kl_hc_conn_freed(void *arg); // on_free of the connection's ops
// Ends every call of the connection (or sends it again elsewhere) and closes it.
void kl_hc_conn_fail(struct kl_hc_conn *hc, int status, const struct kl_error *err);
void kl_hc_conn_idle(struct kl_hc_conn *hc); // a call has left; arms the idle time-out
void kl_hc_client_unref(struct kl_http_client *c);

// client_call.c
void kl_hc_call_attach(struct kl_http_call *call, struct kl_hc_conn *hc);
void kl_hc_call_detach(struct kl_http_call *call);
void kl_hc_call_end(struct kl_http_call *call, int status, const struct kl_error *err);
void kl_hc_call_requeue(struct kl_http_call *call); // detached, to the head of the queue
int kl_hc_call_add_header(struct kl_http_call *call, struct kl_str name, struct kl_str value);
bool kl_hc_call_next_piece(struct kl_http_call *call); // makes it `body`; false: there is none
// These run user callbacks; false: the call has ended meanwhile.
bool kl_hc_call_headers(struct kl_http_call *call, int status);
bool kl_hc_call_data(struct kl_http_call *call, struct kl_str data); // kept while paused
void kl_hc_call_complete(struct kl_http_call *call); // the answer's end; after the backlog
void kl_hc_call_reset(struct kl_http_call *call);    // an interim answer: forget its headers

// client_h1.c, client_h2.c
extern const struct kl_conn_ops kl_hc_h1_ops, kl_hc_h2_ops;
int kl_hc_h1_start(struct kl_hc_conn *hc);
void kl_hc_h1_send(struct kl_hc_conn *hc, struct kl_http_call *call);
int kl_hc_h2_start(struct kl_hc_conn *hc);
bool kl_hc_h2_has_room(const struct kl_hc_conn *hc);
int kl_hc_h2_send(struct kl_hc_conn *hc, struct kl_http_call *call);
void kl_hc_h2_more(struct kl_hc_conn *hc, struct kl_http_call *call); // of its body
void kl_hc_h2_cancel(struct kl_hc_conn *hc, struct kl_http_call *call);
void kl_hc_h2_consumed(struct kl_hc_conn *hc, struct kl_http_call *call, size_t n);
