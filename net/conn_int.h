// SPDX-License-Identifier: Apache-2.0
// The inside of a connection (net/conn.h).
#pragma once
#include "net/conn.h"
#include "net/tls_int.h"

enum kl_conn_state {
    KL_CONN_CONNECTING,
    KL_CONN_HANDSHAKE,
    KL_CONN_OPEN,
    KL_CONN_DRAINING,
    KL_CONN_LINGER,
    KL_CONN_CLOSED,
};

struct kl_conn {
    const struct kl_conn_ops *ops;
    void *arg;
    struct kl_loop *loop;
    int fd;
    enum kl_conn_state state;
    SSL *ssl;
    BIO_METHOD *bio_method;
    bool paused, eof, write_blocked, hup, watch_hup;
    bool drained; // the socket gave less than was asked for: the next event says when to ask again
    bool flush_queued, reread_queued, in_flush, want_shut, shut;
    int events; // what uv_poll is set to
    int open_handles;
    uv_poll_t poll;
    uv_timer_t timer;
    uint64_t timer_due, deadline, stall_deadline, rest_until; // loop time in ms; 0: none
    uint32_t stall_ms;
    struct kl_outq out;
    struct kl_buf cipher; // TLS records that the socket did not take yet
    char *stage;          // where records go during a flush
    size_t stage_n;
    struct kl_task flush_task, reread_task;
};

static inline struct kl_outq *kl_conn_out(struct kl_conn *c)
{
    return &c->out;
}
static inline uint64_t kl_conn_now(const struct kl_conn *c)
{
    return uv_now(kl_loop_uv(c->loop));
}
