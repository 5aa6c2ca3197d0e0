// SPDX-License-Identifier: Apache-2.0
// One connected (or connecting) stream socket on a loop, plain or TLS. Reading pushes bytes up;
// writing happens once per loop iteration, after the callbacks, from one queue that the protocol
// above fills when it is asked to.
//
//   CONNECTING -> HANDSHAKE -> OPEN -> DRAINING -> LINGER -> CLOSED
//        (plain: no HANDSHAKE; kl_conn_close goes to CLOSED from anywhere)
#pragma once
#include "base/err.h"
#include "base/loop.h"
#include "net/outq.h"
#include "net/tls.h"
#include <sys/socket.h>

struct kl_conn;

enum {
    KL_CONN_READ_BYTES = 64 * 1024, // one read
    KL_CONN_OUT_LOW = 128 * 1024,   // below this on_fill is asked for more
    KL_CONN_OUT_HIGH = 256 * 1024,  // on_fill stops here
    KL_CONN_OUT_MAX = 1024 * 1024,  // never more than about this (one source's last slice may pass)
    KL_CONN_REST_MS = 1,            // see kl_conn_rest
};

// After each callback the connection may be closed; its memory stays until the loop's iteration
// ends.
struct kl_conn_ops {
    void (*on_open)(void *arg); // connected, TLS done; may be NULL
    void (*on_read)(void *arg, struct kl_str data);
    // Nothing more comes. With watch_hup it is also called when the peer goes while reading is
    // paused (bytes may still wait), and then once more when the end is read.
    void (*on_eof)(void *arg);
    void (*on_fill)(void *arg); // put more into kl_conn_queue() up to KL_CONN_OUT_HIGH; may be NULL
    void (*on_drained)(void *arg); // everything that was queued is written; may be NULL
    void (*on_deadline)(void *arg);
    // The socket or TLS failed, connecting included; the callee calls kl_conn_close.
    void (*on_broken)(void *arg, int status, const struct kl_error *err);
    void (*on_free)(void *arg); // kl_conn_close was called and the memory goes now; may be NULL
};

// Takes the fd (non-blocking from here on) in every case. `tls` NULL: plain. Callbacks come later.
// stall_ms: a write without progress for that long breaks the connection with KL_ETIMEOUT.
int kl_conn_accept(struct kl_loop *l, int fd, struct kl_tls_ctx *tls, uint32_t stall_ms,
                   const struct kl_conn_ops *ops, void *arg, struct kl_conn **ret,
                   struct kl_error *err);
// Starts to connect. host: the name for TLS.
int kl_conn_connect(struct kl_loop *l, const struct sockaddr *sa, socklen_t salen,
                    struct kl_tls_ctx *tls, const char *host, bool no_http2, uint32_t stall_ms,
                    const struct kl_conn_ops *ops, void *arg, struct kl_conn **ret,
                    struct kl_error *err);
void kl_conn_set_ops(struct kl_conn *c, const struct kl_conn_ops *ops, void *arg);
struct kl_outq *kl_conn_queue(struct kl_conn *c); // what waits to be written
SSL *kl_conn_ssl(const struct kl_conn *c);        // NULL: plain, or closed
void kl_conn_flush_soon(struct kl_conn *c);       // write in this iteration, after the callbacks
void kl_conn_pause(struct kl_conn *c, bool paused);
// What comes next can wait for a moment (KL_CONN_REST_MS): it is read together then, instead of
// with a wake-up for each packet.
void kl_conn_rest(struct kl_conn *c);
// Once, at an absolute uv_now; 0: none. The callee sets the next.
void kl_conn_set_deadline(struct kl_conn *c, uint64_t at_ms);
bool kl_conn_is_h2(const struct kl_conn *c); // ALPN chose h2
// Writes what is queued, ends the stream, waits a moment for the peer's end, closes. Only on_broken
// can still come, no on_read.
void kl_conn_drain(struct kl_conn *c);
void kl_conn_shutdown(struct kl_conn *c); // half-close now (after the queue was written)
void kl_conn_close(struct kl_conn *c);    // at once; idempotent
