// SPDX-License-Identifier: Apache-2.0
// A stream of a SPDY session, as a duplex. What its owner does not read is kept up to a bound; then
// the whole session stops reading, since the peers we talk to (spdystream) know no flow control.
#include "net/spdy_int.h"
#include <stdlib.h>

static struct kl_spdy_stream *of(const struct kl_duplex *d)
{
    return (struct kl_spdy_stream *)d;
}

static void unlink_stream(struct kl_spdy_stream *st)
{
    struct kl_spdy *s = st->s;
    if (!st->linked)
        return;
    st->linked = false;
    if (st->prev)
        st->prev->next = st->next;
    else
        s->streams = st->next;
    if (st->next)
        st->next->prev = st->prev;
    s->nstreams--;
    if (st->blocking) {
        st->blocking = false;
        s->blocked--;
        kl_spdy_update_reading(s);
    }
}

static void free_if_done(struct kl_spdy_stream *st)
{
    if (!st->destroyed || st->task_queued)
        return;
    kl_buf_fini(&st->backlog);
    kl_buf_fini(&st->waiting);
    kl_spdy_unref(st->s);
    free(st);
}

void kl_spdy_stream_end(struct kl_spdy_stream *st, int status)
{
    unlink_stream(st);
    kl_duplex_closed(&st->d, status);
}

static void end_if_both(struct kl_spdy_stream *st)
{
    bool seen = st->d.eof || st->discard;
    if (st->local_fin && st->remote_fin && seen && !st->d.closed)
        kl_spdy_stream_end(st, 0);
}

// ---- Out

static int send_data(struct kl_spdy_stream *st, struct kl_str data, struct kl_bytes *b, bool fin)
{
    struct kl_spdy *s = st->s;
    char head[8];
    if (s->gone || s->closing)
        return KL_ECANCELED;
    if (kl_duplex_pending(s->d) + sizeof(head) > KL_DUPLEX_MAX)
        return KL_ELIMIT;
    do {
        size_t n = data.n < KL_SPDY_MAX_DATA ? data.n : KL_SPDY_MAX_DATA;
        bool last = n == data.n;
        kl_spdy_put32(head, st->id);
        kl_spdy_put32(head + 4, (uint32_t)n);
        head[4] = fin && last ? KL_SPDY_FLAG_FIN : 0;
        int rc = kl_duplex_write(s->d, (struct kl_str){head, sizeof(head)});
        if (!rc && n)
            rc = b ? kl_duplex_write_bytes(s->d, b, (uint32_t)(data.p - b->p), (uint32_t)n)
                   : kl_duplex_write(s->d, (struct kl_str){data.p, n});
        if (rc)
            return rc;
        data = kl_str_from(data, n);
    } while (data.n);
    return 0;
}

static int op_write(struct kl_duplex *d, struct kl_str data, struct kl_bytes *b)
{
    struct kl_spdy_stream *st = of(d);
    // All frames of one write are queued or none.
    if (data.n > KL_DUPLEX_MAX)
        return KL_ELIMIT;
    if (!st->replied)
        return kl_buf_append(&st->waiting, data.p, data.n) ? KL_ELIMIT : 0;
    size_t frames = data.n / KL_SPDY_MAX_DATA + 1;
    if (kl_duplex_pending(st->s->d) + data.n + frames * 8 > 2 * (size_t)KL_DUPLEX_MAX)
        return KL_ELIMIT;
    return send_data(st, data, b, false);
}

static size_t op_pending(const struct kl_duplex *d)
{
    const struct kl_spdy_stream *st = of(d);
    return st->waiting.n + (st->s->gone ? 0 : kl_duplex_pending(st->s->d));
}

static void send_fin(struct kl_spdy_stream *st)
{
    if (st->local_fin)
        return;
    if (!st->replied) {
        st->fin_waits = true;
        return;
    }
    st->local_fin = true;
    send_data(st, KL_STR(""), NULL, true);
    end_if_both(st);
}

static void op_shutdown(struct kl_duplex *d)
{
    send_fin(of(d));
}

void kl_spdy_stream_replied(struct kl_spdy_stream *st, const struct kl_http_header *h, size_t nh)
{
    if (st->replied)
        return;
    st->replied = true;
    if (st->on_reply && !st->d.close_called)
        st->on_reply(st->reply_arg, &st->d, h, nh);
    if (st->d.closed)
        return;
    if (st->waiting.n)
        send_data(st, kl_buf_str(&st->waiting), NULL, false);
    kl_buf_fini(&st->waiting);
    kl_buf_init(&st->waiting, KL_DUPLEX_MAX);
    if (st->fin_waits) {
        st->fin_waits = false;
        send_fin(st);
    }
    if (!st->d.closed)
        kl_duplex_drained(&st->d);
}

// ---- In

static bool may_deliver(const struct kl_spdy_stream *st)
{
    return st->d.started && !st->d.paused && !st->d.closed && !st->d.close_called &&
           !st->delivering;
}

static void was_read(struct kl_spdy_stream *st, size_t n)
{
    st->unacked += n;
    if (st->unacked < st->s->window / 2 || st->remote_fin)
        return;
    kl_spdy_control_id(st->s, KL_SPDY_WINDOW_UPDATE, st->id, (uint32_t)st->unacked);
    st->unacked = 0;
}

static void tell_eof(struct kl_spdy_stream *st)
{
    if (!st->remote_fin || st->d.eof || st->backlog.n || !may_deliver(st))
        return;
    st->d.eof = true;
    st->d.cbs->on_eof(st->d.arg);
    end_if_both(st);
}

static void unblock(struct kl_spdy_stream *st)
{
    if (st->blocking && st->backlog.n < KL_SPDY_BACKLOG) {
        st->blocking = false;
        st->s->blocked--;
        kl_spdy_update_reading(st->s);
    }
}

static void run_task(struct kl_task *t)
{
    struct kl_spdy_stream *st = KL_CONTAINER_OF(t, struct kl_spdy_stream, task);
    if (may_deliver(st) && st->backlog.n) {
        struct kl_buf late = st->backlog;
        kl_buf_init(&st->backlog, late.max);
        st->delivering = true; // what comes meanwhile queues behind
        st->d.cbs->on_data(st->d.arg, kl_buf_str(&late));
        st->delivering = false;
        if (!st->d.closed)
            was_read(st, late.n);
        kl_buf_fini(&late);
        if (st->linked)
            unblock(st);
    }
    if (may_deliver(st))
        tell_eof(st);
    st->task_queued = false;
    free_if_done(st);
}

static void task_soon(struct kl_spdy_stream *st)
{
    if (st->task_queued || (!st->backlog.n && !st->remote_fin))
        return;
    st->task_queued = true;
    st->task.run = run_task;
    kl_loop_defer(st->d.loop, &st->task);
}

void kl_spdy_stream_data(struct kl_spdy_stream *st, struct kl_str data)
{
    if (st->remote_fin || st->discard) {
        was_read(st, data.n);
        return;
    }
    if (may_deliver(st) && !st->backlog.n && !st->task_queued) {
        st->task_queued = true; // holds the memory
        st->d.cbs->on_data(st->d.arg, data);
        st->task_queued = false;
        if (!st->d.closed)
            was_read(st, data.n);
        free_if_done(st);
        return;
    }
    if (kl_buf_append(&st->backlog, data.p, data.n)) {
        kl_spdy_control_id(st->s, KL_SPDY_RST_STREAM, st->id, KL_SPDY_RST_CANCEL);
        kl_spdy_stream_end(st, KL_ENOMEM);
        return;
    }
    if (!st->blocking && st->backlog.n >= KL_SPDY_BACKLOG) {
        st->blocking = true;
        st->s->blocked++;
        kl_spdy_update_reading(st->s);
    }
    if (may_deliver(st))
        task_soon(st);
}

void kl_spdy_stream_fin(struct kl_spdy_stream *st)
{
    if (st->remote_fin)
        return;
    st->remote_fin = true;
    if (st->discard)
        end_if_both(st);
    else if (may_deliver(st))
        task_soon(st);
}

static void op_start(struct kl_duplex *d)
{
    if (!d->paused)
        task_soon(of(d));
}

static void op_pause(struct kl_duplex *d, bool paused)
{
    if (!paused)
        task_soon(of(d));
}

// ---- The end

static void op_close(struct kl_duplex *d, bool drain)
{
    struct kl_spdy_stream *st = of(d);
    struct kl_spdy *s = st->s;
    if (drain && !s->gone && !s->closing) {
        send_fin(st);
        if (d->closed)
            return;
        // What the peer still says is not wanted; its end closes the stream.
        st->discard = true;
        kl_buf_clear(&st->backlog);
        unblock(st);
        end_if_both(st);
        return;
    }
    if (!(st->local_fin && st->remote_fin))
        kl_spdy_control_id(s, KL_SPDY_RST_STREAM, st->id, KL_SPDY_RST_CANCEL);
    kl_spdy_stream_end(st, 0);
}

static void op_destroy(struct kl_duplex *d)
{
    of(d)->destroyed = true;
    free_if_done(of(d));
}

static const struct kl_duplex_ops ops = {
    .start = op_start,
    .pause = op_pause,
    .write = op_write,
    .pending = op_pending,
    .shutdown = op_shutdown,
    .close = op_close,
    .destroy = op_destroy,
};

struct kl_spdy_stream *kl_spdy_stream_new(struct kl_spdy *s, uint32_t id, bool ours)
{
    struct kl_spdy_stream *st = calloc(1, sizeof(*st));
    if (!st)
        return NULL;
    st->d.ops = &ops;
    st->d.loop = s->loop;
    st->s = s;
    st->id = id;
    st->ours = ours;
    kl_buf_init(&st->backlog, KL_SPDY_BACKLOG + KL_DUPLEX_MAX);
    kl_buf_init(&st->waiting, KL_DUPLEX_MAX);
    st->next = s->streams;
    if (s->streams)
        s->streams->prev = st;
    s->streams = st;
    s->nstreams++;
    s->refs++;
    st->linked = true;
    return st;
}

struct kl_spdy_stream *kl_spdy_stream_find(struct kl_spdy *s, uint32_t id)
{
    struct kl_spdy_stream *st = s->streams;
    while (st && st->id != id)
        st = st->next;
    return st;
}

uint32_t kl_spdy_stream_id(const struct kl_duplex *stream)
{
    return of(stream)->id;
}
