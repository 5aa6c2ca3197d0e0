// SPDX-License-Identifier: Apache-2.0
// Opening, closing, deadlines and poll events of a connection; conn_io.c moves the bytes.
#include "net/conn_int.h"
#include "net/conn_io.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    LINGER_MS = 500, // Go's rstAvoidanceDelay: the peer reads the answer before a reset
    DRAIN_MS = 30 * 1000,
};

static void maybe_free(struct kl_conn *c)
{
    if (c->open_handles || c->flush_queued || c->reread_queued)
        return;
    if (c->ops->on_free)
        c->ops->on_free(c->arg);
    free(c);
}

static void closed_cb(uv_handle_t *h)
{
    struct kl_conn *c = h->data;
    c->open_handles--;
    maybe_free(c);
}

void kl_conn_close(struct kl_conn *c)
{
    if (c->state == KL_CONN_CLOSED)
        return;
    c->state = KL_CONN_CLOSED;
    uv_close((uv_handle_t *)&c->poll, closed_cb);
    uv_close((uv_handle_t *)&c->timer, closed_cb);
    SSL_free(c->ssl);
    BIO_meth_free(c->bio_method);
    c->ssl = NULL;
    close(c->fd);
    c->fd = -1;
    kl_outq_fini(&c->out);
    kl_buf_fini(&c->cipher);
}

void kl_conn_break(struct kl_conn *c, int status, const struct kl_error *err)
{
    if (c->state == KL_CONN_CLOSED)
        return;
    if (c->state == KL_CONN_LINGER) {
        kl_conn_close(c);
        return;
    }
    c->ops->on_broken(c->arg, status, err);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
    struct kl_conn *c = p->data;
    if (status < 0) {
        int e = 0;
        socklen_t n = sizeof(e);
        struct kl_error err;
        c->events = 0; // libuv stopped it
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &n);
        kl_error_errno(&err, e ? e : ECONNRESET, "%s",
                       c->state == KL_CONN_CONNECTING ? "connect" : "connection");
        kl_conn_break(c, c->state == KL_CONN_CONNECTING ? KL_EUNAVAILABLE : KL_EIO, &err);
        return;
    }
    if (c->state == KL_CONN_CONNECTING) {
        kl_conn_connected(c);
        return;
    }
    if (events & UV_WRITABLE) {
        c->write_blocked = false;
        kl_conn_flush(c);
    }
    if (c->state != KL_CONN_CLOSED && events & UV_READABLE) {
        c->drained = false;
        kl_conn_read(c);
    }
    if (c->state != KL_CONN_CLOSED && events & UV_DISCONNECT && !c->hup) {
        c->hup = true;
        if (c->paused && !c->eof && c->state == KL_CONN_OPEN)
            c->ops->on_eof(c->arg);
    }
    if (c->state != KL_CONN_CLOSED)
        kl_conn_update_events(c);
}

void kl_conn_update_events(struct kl_conn *c)
{
    int want = 0;
    if (c->state == KL_CONN_CLOSED)
        return;
    if (c->state == KL_CONN_CONNECTING) {
        want = UV_WRITABLE;
    } else {
        bool reading = c->state == KL_CONN_HANDSHAKE || !c->paused || c->state == KL_CONN_LINGER;
        bool resting = c->rest_until && c->state == KL_CONN_OPEN;
        if (reading && !c->eof && !resting)
            want |= UV_READABLE;
        // A paused reader still learns that the peer has gone.
        if (!reading && !c->hup && c->watch_hup)
            want |= UV_DISCONNECT;
        if (c->write_blocked)
            want |= UV_WRITABLE;
    }
    if (want == c->events)
        return;
    c->events = want;
    if (want)
        uv_poll_start(&c->poll, want, on_poll);
    else
        uv_poll_stop(&c->poll);
}

static uint64_t next_due(const struct kl_conn *c)
{
    uint64_t due = c->deadline;
    if (c->stall_deadline && (!due || c->stall_deadline < due))
        due = c->stall_deadline;
    if (c->rest_until && (!due || c->rest_until < due))
        due = c->rest_until;
    return due;
}

static void on_timer(uv_timer_t *t);

// The timer is only ever moved closer; a deadline moved away is noticed when it fires.
void kl_conn_arm_timer(struct kl_conn *c)
{
    uint64_t due = next_due(c), now = kl_conn_now(c);
    if (c->state == KL_CONN_CLOSED || !due || (c->timer_due && c->timer_due <= due))
        return;
    c->timer_due = due;
    uv_timer_start(&c->timer, on_timer, due > now ? due - now : 0, 0);
}

// Reads without asking the poll first: a peer that was busy a moment ago has sent more, and one
// that goes on like this never gets back to the poll.
static void end_rest(struct kl_conn *c)
{
    c->rest_until = 0;
    if (c->state == KL_CONN_OPEN && !c->paused && !c->eof) {
        c->drained = false;
        kl_conn_read(c);
    }
    kl_conn_update_events(c);
}

void kl_conn_rest(struct kl_conn *c)
{
    if (c->state != KL_CONN_OPEN || c->rest_until)
        return;
    c->rest_until = kl_conn_now(c) + KL_CONN_REST_MS;
    kl_conn_arm_timer(c);
    kl_conn_update_events(c);
}

static void on_timer(uv_timer_t *t)
{
    struct kl_conn *c = t->data;
    uint64_t now = kl_conn_now(c);
    c->timer_due = 0;
    if (c->rest_until && c->rest_until <= now) {
        end_rest(c);
        if (c->state == KL_CONN_CLOSED)
            return;
    }
    if (c->stall_deadline && c->stall_deadline <= now) {
        struct kl_error err;
        kl_error_set(&err, KL_ETIMEOUT, "the peer did not read for %u ms", c->stall_ms);
        c->stall_deadline = 0;
        kl_conn_break(c, KL_ETIMEOUT, &err);
        return;
    }
    if (c->deadline && c->deadline <= now) {
        c->deadline = 0;
        if (c->state == KL_CONN_LINGER) {
            kl_conn_close(c);
            return;
        }
        if (c->state == KL_CONN_DRAINING) {
            struct kl_error err;
            kl_error_set(&err, KL_ETIMEOUT, "connection did not drain");
            kl_conn_break(c, KL_ETIMEOUT, &err);
            return;
        }
        c->ops->on_deadline(c->arg);
    }
    if (c->state != KL_CONN_CLOSED)
        kl_conn_arm_timer(c);
}

void kl_conn_set_deadline(struct kl_conn *c, uint64_t at_ms)
{
    c->deadline = at_ms;
    if (at_ms)
        kl_conn_arm_timer(c);
}

static void run_flush(struct kl_task *t)
{
    struct kl_conn *c = KL_CONTAINER_OF(t, struct kl_conn, flush_task);
    c->flush_queued = false;
    if (c->state == KL_CONN_CLOSED)
        maybe_free(c);
    else if (!c->write_blocked)
        kl_conn_flush(c);
}

static void run_reread(struct kl_task *t)
{
    struct kl_conn *c = KL_CONTAINER_OF(t, struct kl_conn, reread_task);
    c->reread_queued = false;
    if (c->state == KL_CONN_CLOSED)
        maybe_free(c);
    else if (!c->paused || c->state == KL_CONN_LINGER)
        kl_conn_read(c);
}

void kl_conn_flush_soon(struct kl_conn *c)
{
    if (c->flush_queued || c->state == KL_CONN_CLOSED || c->in_flush)
        return;
    c->flush_queued = true;
    kl_loop_defer(c->loop, &c->flush_task);
}

void kl_conn_reread_soon(struct kl_conn *c)
{
    if (c->reread_queued || c->state == KL_CONN_CLOSED)
        return;
    c->reread_queued = true;
    kl_loop_post(c->loop, &c->reread_task);
}

void kl_conn_pause(struct kl_conn *c, bool paused)
{
    if (c->paused == paused)
        return;
    c->paused = paused;
    // TLS may hold bytes that no poll event will announce, and an end seen while paused too.
    if (!paused && c->state == KL_CONN_OPEN && (c->ssl || c->hup) && !c->eof)
        kl_conn_reread_soon(c);
    kl_conn_update_events(c);
}

struct kl_outq *kl_conn_queue(struct kl_conn *c)
{
    return &c->out;
}

SSL *kl_conn_ssl(const struct kl_conn *c)
{
    return c->ssl;
}

void kl_conn_set_ops(struct kl_conn *c, const struct kl_conn_ops *ops, void *arg)
{
    c->ops = ops;
    c->arg = arg;
}

bool kl_conn_is_h2(const struct kl_conn *c)
{
    const unsigned char *p = NULL;
    unsigned n = 0;
    if (c->ssl)
        SSL_get0_alpn_selected(c->ssl, &p, &n);
    return n == 2 && memcmp(p, "h2", 2) == 0;
}

void kl_conn_drain(struct kl_conn *c)
{
    if (c->state == KL_CONN_CONNECTING || c->state == KL_CONN_HANDSHAKE) {
        kl_conn_close(c);
        return;
    }
    if (c->state != KL_CONN_OPEN)
        return;
    c->state = KL_CONN_DRAINING;
    c->paused = true;
    kl_conn_update_events(c);
    kl_conn_set_deadline(c, kl_conn_now(c) + DRAIN_MS);
    kl_conn_flush_soon(c);
}

// Called by the flush when a draining connection has nothing left.
void kl_conn_linger(struct kl_conn *c)
{
    if (c->eof) {
        kl_conn_close(c);
        return;
    }
    c->state = KL_CONN_LINGER;
    kl_conn_update_events(c);
    kl_conn_set_deadline(c, kl_conn_now(c) + LINGER_MS);
}

static int new_conn(struct kl_loop *l, int fd, struct kl_tls_ctx *tls, const char *host,
                    bool no_http2, struct kl_conn **ret, struct kl_error *err)
{
    struct kl_conn *c = calloc(1, sizeof(*c));
    int rc = c ? 0 : kl_error_set(err, KL_ENOMEM, "connection: out of memory");
    if (!rc && tls) {
        rc = kl_tls_ssl_new(tls, host, no_http2, &c->ssl, err);
        if (!rc)
            rc = kl_conn_attach_bio(c, err);
    }
    if (!rc) {
        int r = uv_poll_init(kl_loop_uv(l), &c->poll, fd);
        if (r)
            rc = kl_error_errno(err, -r, "connection");
    }
    if (rc) {
        if (c) {
            SSL_free(c->ssl);
            BIO_meth_free(c->bio_method);
        }
        free(c);
        close(fd);
        return rc;
    }
    uv_timer_init(kl_loop_uv(l), &c->timer);
    c->poll.data = c->timer.data = c;
    c->open_handles = 2;
    c->loop = l;
    c->fd = fd;
    c->watch_hup = true;
    c->flush_task.run = run_flush;
    c->reread_task.run = run_reread;
    kl_buf_init(&c->cipher, 4 * KL_CONN_OUT_MAX);
    *ret = c;
    return 0;
}

static void set_tcp_options(int fd)
{
    int on = 1, idle_s = 60, interval_s = 15, count = 4;
    // Failures (a Unix socket) do not matter.
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s)) == 0) {
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    }
}

int kl_conn_accept(struct kl_loop *l, int fd, struct kl_tls_ctx *tls, uint32_t stall_ms,
                   const struct kl_conn_ops *ops, void *arg, struct kl_conn **ret,
                   struct kl_error *err)
{
    struct kl_conn *c;
    int rc = new_conn(l, fd, tls, NULL, false, &c, err);
    if (rc)
        return rc;
    set_tcp_options(fd);
    c->ops = ops;
    c->arg = arg;
    c->stall_ms = stall_ms;
    c->state = tls ? KL_CONN_HANDSHAKE : KL_CONN_OPEN;
    kl_conn_update_events(c);
    *ret = c;
    return 0;
}

int kl_conn_connect(struct kl_loop *l, const struct sockaddr *sa, socklen_t salen,
                    struct kl_tls_ctx *tls, const char *host, bool no_http2, uint32_t stall_ms,
                    const struct kl_conn_ops *ops, void *arg, struct kl_conn **ret,
                    struct kl_error *err)
{
    struct kl_conn *c;
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return kl_error_errno(err, errno, "socket");
    set_tcp_options(fd);
    if (connect(fd, sa, salen) && errno != EINPROGRESS) {
        // A full backlog of a Unix socket (EAGAIN) counts as refused.
        kl_error_errno(err, errno, "connect");
        close(fd);
        if (err)
            err->code = KL_EUNAVAILABLE;
        return KL_EUNAVAILABLE;
    }
    int rc = new_conn(l, fd, tls, host, no_http2, &c, err);
    if (rc)
        return rc;
    c->ops = ops;
    c->arg = arg;
    c->stall_ms = stall_ms;
    c->state = KL_CONN_CONNECTING;
    kl_conn_update_events(c);
    *ret = c;
    return 0;
}
