// SPDX-License-Identifier: Apache-2.0
// Two duplexes pumped into each other.
#include "net/duplex.h"
#include <stdlib.h>

struct side {
    struct kl_splice *s;
    struct kl_duplex *from, *to;
    struct side *back; // the other direction
    uint64_t bytes;
    bool eof, closed;
};

struct kl_splice {
    struct side a, b;
    kl_splice_done_cb done;
    void *arg;
    bool ending;
    int status;
};

static void end(struct kl_splice *s, int status)
{
    if (s->ending)
        return;
    s->ending = true;
    s->status = status;
    // What was accepted still goes out on a side that works.
    kl_duplex_close_drain(s->a.from);
    kl_duplex_close_drain(s->b.from);
}

static void on_data(void *arg, struct kl_str data)
{
    struct side *d = arg;
    if (d->s->ending)
        return;
    int rc = kl_duplex_write(d->to, data);
    if (rc) {
        end(d->s, rc);
        return;
    }
    d->bytes += data.n;
    if (kl_duplex_full(d->to))
        kl_duplex_pause(d->from);
}

static void on_drain(void *arg)
{
    struct side *d = arg; // arg's `from` took what was written to it: read the other side on
    kl_duplex_resume(d->back->from);
}

static void on_eof(void *arg)
{
    struct side *d = arg;
    d->eof = true;
    kl_duplex_shutdown(d->to);
}

static void on_close(void *arg, int status)
{
    struct side *d = arg;
    struct kl_splice *s = d->s;
    d->closed = true;
    end(s, status);
    if (!s->a.closed || !s->b.closed)
        return;
    if (s->done)
        s->done(s->arg, s->status, s->a.bytes, s->b.bytes);
    free(s);
}

static const struct kl_duplex_cbs cbs = {on_data, on_eof, on_drain, on_close};

struct kl_splice *kl_splice_start(struct kl_duplex *a, struct kl_duplex *b, kl_splice_done_cb done,
                                  void *arg)
{
    struct kl_splice *s = calloc(1, sizeof(*s));
    if (!s) {
        kl_duplex_close(a);
        kl_duplex_close(b);
        return NULL;
    }
    s->a = (struct side){.s = s, .from = a, .to = b, .back = &s->b};
    s->b = (struct side){.s = s, .from = b, .to = a, .back = &s->a};
    s->done = done;
    s->arg = arg;
    kl_duplex_start(a, &cbs, &s->a);
    kl_duplex_start(b, &cbs, &s->b);
    return s;
}

void kl_splice_cancel(struct kl_splice *s)
{
    end(s, KL_ECANCELED);
}
