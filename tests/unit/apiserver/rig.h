// SPDX-License-Identifier: Apache-2.0
// A whole API server on a memory store, with loops in threads of their own, and a blocking HTTPS
// client (admin) for the test's thread.
#pragma once
#include "apiserver/apiserver.h"
#include "apiserver/pki.h"
#include "apiserver/settings.h"
#include <openssl/ssl.h>
#include <pthread.h>

enum { RIG_LOOPS_MAX = 4 };

struct rig {
    struct kl_loop *loops[RIG_LOOPS_MAX], *client_loop;
    int nloops, port;
    struct kl_store *store;
    struct kl_pki *pki;
    struct kl_apiserver *srv;
    pthread_mutex_t mu;
    pthread_cond_t event; // ready, or stopped
    int events;           // by mu
    char dir[64];
};

void rig_start(struct rig *g, int nloops);
// The settings (borrowed until rig_stop) instead of the default ones.
void rig_start_with(struct rig *g, int nloops, const struct kl_api_settings *settings);
void rig_stop(struct rig *g);

struct rig_answer {
    int status;
    char *head, *body; // NUL-terminated
    size_t body_n;
};

// One request on a connection of its own, from any thread. `headers` are lines that end in CRLF, or
// NULL; a body without a content-type among them is JSON. Free it with rig_answer_fini.
void rig_request(struct rig *g, const char *method, const char *path, const char *headers,
                 const char *body, size_t body_n, struct rig_answer *ret);
void rig_answer_fini(struct rig_answer *a);
// Makes a connection the admin's.
void rig_use_admin(struct rig *g, SSL *ssl);
// The text of the first "member":"value" of the answer's body, into buf; "" when absent.
const char *rig_member(const struct rig_answer *a, const char *member, char *buf, size_t n);

// Requests in order, each with what its answer must be; watches with a time-out are tried again. In
// path and body $1 stands for what an earlier row saved.
struct rig_row {
    const char *method, *path, *body;
    int status;
    const char *has[6]; // of head and body; with '!' in front: must not be there
    const char *headers;
    const char *save; // member of the answer
};
void rig_rows(struct rig *g, const struct rig_row *rows, size_t n);
