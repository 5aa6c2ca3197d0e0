// SPDX-License-Identifier: Apache-2.0
// A bidirectional byte stream with back-pressure: what an upgraded HTTP connection, a SPDY stream
// or a socket gives. Used on its loop only.
//
// Life: the maker of a duplex owns it and hands it over; the owner calls kl_duplex_start() once,
// and kl_duplex_close() once, whatever happened before. on_close comes exactly once, after which no
// callback comes; it never comes from within kl_duplex_start or kl_duplex_write. The memory is
// freed when both on_close was delivered and kl_duplex_close was called.
#pragma once
#include "base/bytes.h"
#include "base/err.h"
#include "base/loop.h"

struct kl_duplex;

// A writer stops above HIGH pending bytes and goes on at on_drain (below LOW). Above MAX a write is
// refused with KL_ELIMIT.
enum {
    KL_DUPLEX_LOW = 64 * 1024,
    KL_DUPLEX_HIGH = 256 * 1024,
    KL_DUPLEX_MAX = 1024 * 1024,
};

struct kl_duplex_cbs {
    void (*on_data)(void *arg, struct kl_str data); // borrowed until it returns
    void (*on_eof)(void *arg);                      // the peer sends no more; writing still works
    void (*on_drain)(void *arg);                    // may be NULL
    // 0 after both sides ended or kl_duplex_close was called; KL_EIO, KL_EEOF, KL_EPROTO, ... when
    // it broke. What was not yet written is lost.
    void (*on_close)(void *arg, int status);
};

// Sets the callbacks and begins to read. Data that came earlier is delivered soon, not inside.
void kl_duplex_start(struct kl_duplex *d, const struct kl_duplex_cbs *cbs, void *arg);
// Stops and continues on_data and on_eof; the peer is slowed down by flow control. Nests not.
void kl_duplex_pause(struct kl_duplex *d);
void kl_duplex_resume(struct kl_duplex *d);
// Queues a copy, or a slice of `b` by reference. KL_ELIMIT, KL_ENOMEM, KL_ECANCELED (closed or shut
// down). Writing from inside callbacks is cheap: writes of one loop iteration leave together.
int kl_duplex_write(struct kl_duplex *d, struct kl_str data);
int kl_duplex_write_bytes(struct kl_duplex *d, struct kl_bytes *b, uint32_t off, uint32_t n);
size_t kl_duplex_pending(const struct kl_duplex *d); // queued, not yet taken by the transport
static inline bool kl_duplex_full(const struct kl_duplex *d)
{
    return kl_duplex_pending(d) >= KL_DUPLEX_HIGH;
}
void kl_duplex_shutdown(struct kl_duplex *d); // half-close after what is queued
// Closes at once: nothing more is written. Callable from any callback of the duplex.
void kl_duplex_close(struct kl_duplex *d);
// Closes once everything queued was written (or failed, or 30 s passed).
void kl_duplex_close_drain(struct kl_duplex *d);
struct kl_loop *kl_duplex_loop(const struct kl_duplex *d);

// Wraps a connected stream socket; takes the fd (closed on failure too).
int kl_duplex_open_fd(struct kl_loop *l, int fd, struct kl_duplex **ret, struct kl_error *err);
// Connects to a TCP address ("10.0.0.1", "::1"; literal) or, with port 0, a Unix socket path. The
// duplex comes back at once; a failed connect is on_close with a status. Writes are queued.
int kl_duplex_dial(struct kl_loop *l, const char *host, int port, struct kl_duplex **ret,
                   struct kl_error *err);

// Pumps two duplexes into each other, half-closes included, until both directions ended or either
// side broke; then closes both and calls done (may be NULL) once, never inside kl_splice. Takes
// both duplexes, which were not started. The handle is valid until done was called.
struct kl_splice;
typedef void (*kl_splice_done_cb)(void *arg, int status, uint64_t a_to_b_bytes,
                                  uint64_t b_to_a_bytes);
struct kl_splice *kl_splice_start(struct kl_duplex *a, struct kl_duplex *b, kl_splice_done_cb done,
                                  void *arg); // NULL: out of memory, both are closed
void kl_splice_cancel(struct kl_splice *s);

// For those who make duplexes: embed struct kl_duplex first, fill ops and loop, and deliver only
// after start, never while paused. `destroy` frees, called by kl_duplex_closed once both sides are
// done; it never runs inside another op.
struct kl_duplex_ops {
    void (*start)(struct kl_duplex *d);
    void (*pause)(struct kl_duplex *d, bool paused);
    int (*write)(struct kl_duplex *d, struct kl_str data, struct kl_bytes *bytes_or_null);
    size_t (*pending)(const struct kl_duplex *d);
    void (*shutdown)(struct kl_duplex *d);
    void (*close)(struct kl_duplex *d, bool drain); // leads to kl_duplex_closed, at once or later
    void (*destroy)(struct kl_duplex *d);
};
struct kl_duplex {
    const struct kl_duplex_ops *ops;
    struct kl_loop *loop;
    const struct kl_duplex_cbs *cbs;
    void *arg;
    bool started, paused, want_drain, eof, shut, close_called, closed, notify_queued, notified;
    int status;
    struct kl_task notify;
};
// The implementer's side is closed for good: on_close is delivered by a deferred task, and destroy
// follows once the owner has called kl_duplex_close. Idempotent.
void kl_duplex_closed(struct kl_duplex *d, int status);
// Calls on_drain when a writer went over HIGH and pending is below LOW now.
void kl_duplex_drained(struct kl_duplex *d);
