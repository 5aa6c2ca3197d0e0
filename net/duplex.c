// SPDX-License-Identifier: Apache-2.0
#include "net/duplex.h"
#include <assert.h>

static void run_notify(struct kl_task *t)
{
    struct kl_duplex *d = KL_CONTAINER_OF(t, struct kl_duplex, notify);
    if (!d->started && !d->close_called) {
        d->notify_queued = false; // start will ask again
        return;
    }
    // Stays queued meanwhile: a close from within must not queue it once more.
    if (d->started && !d->notified)
        d->cbs->on_close(d->arg, d->status);
    d->notified = true;
    d->notify_queued = false;
    if (d->close_called)
        d->ops->destroy(d);
}

static void notify_soon(struct kl_duplex *d)
{
    if (d->notify_queued)
        return;
    d->notify_queued = true;
    d->notify.run = run_notify;
    kl_loop_defer(d->loop, &d->notify);
}

void kl_duplex_closed(struct kl_duplex *d, int status)
{
    if (d->closed)
        return;
    d->closed = true;
    d->status = status;
    notify_soon(d);
}

void kl_duplex_start(struct kl_duplex *d, const struct kl_duplex_cbs *cbs, void *arg)
{
    assert(!d->started);
    d->cbs = cbs;
    d->arg = arg;
    d->started = true;
    if (d->closed)
        notify_soon(d);
    else
        d->ops->start(d);
}

void kl_duplex_pause(struct kl_duplex *d)
{
    if (d->paused || d->closed)
        return;
    d->paused = true;
    if (d->started)
        d->ops->pause(d, true);
}

void kl_duplex_resume(struct kl_duplex *d)
{
    if (!d->paused || d->closed)
        return;
    d->paused = false;
    if (d->started)
        d->ops->pause(d, false);
}

static int write_any(struct kl_duplex *d, struct kl_str data, struct kl_bytes *b)
{
    if (d->closed || d->shut || d->close_called)
        return KL_ECANCELED;
    size_t pending = d->ops->pending(d);
    if (pending > KL_DUPLEX_MAX)
        return KL_ELIMIT;
    if (pending + data.n >= KL_DUPLEX_HIGH)
        d->want_drain = true;
    return data.n ? d->ops->write(d, data, b) : 0;
}

int kl_duplex_write(struct kl_duplex *d, struct kl_str data)
{
    return write_any(d, data, NULL);
}

int kl_duplex_write_bytes(struct kl_duplex *d, struct kl_bytes *b, uint32_t off, uint32_t n)
{
    assert((uint64_t)off + n <= b->n);
    return write_any(d, (struct kl_str){b->p + off, n}, b);
}

size_t kl_duplex_pending(const struct kl_duplex *d)
{
    return d->closed ? 0 : d->ops->pending(d);
}

void kl_duplex_shutdown(struct kl_duplex *d)
{
    if (d->closed || d->shut)
        return;
    d->shut = true;
    d->ops->shutdown(d);
}

static void close_any(struct kl_duplex *d, bool drain)
{
    if (d->close_called)
        return;
    d->close_called = true;
    if (!d->closed)
        d->ops->close(d, drain);
    else if (d->notified)
        d->ops->destroy(d);
    else
        notify_soon(d);
}

void kl_duplex_close(struct kl_duplex *d)
{
    if (d)
        close_any(d, false);
}

void kl_duplex_close_drain(struct kl_duplex *d)
{
    if (d)
        close_any(d, true);
}

struct kl_loop *kl_duplex_loop(const struct kl_duplex *d)
{
    return d->loop;
}

void kl_duplex_drained(struct kl_duplex *d)
{
    if (!d->want_drain || d->closed || !d->started || d->ops->pending(d) > KL_DUPLEX_LOW)
        return;
    d->want_drain = false;
    if (d->cbs->on_drain)
        d->cbs->on_drain(d->arg);
}
