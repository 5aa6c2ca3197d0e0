// SPDX-License-Identifier: Apache-2.0
#include "apiserver/newer.h"
#include <stdlib.h>

enum { WAIT_MS = 3000 };

static void free_timer(uv_handle_t *h)
{
    free(h);
}

static void stop_timer(struct kl_newer *n)
{
    uv_close((uv_handle_t *)n->timer, free_timer);
    n->timer = NULL;
}

static void on_rev(struct kl_reader_wait *w)
{
    struct kl_newer *n = KL_CONTAINER_OF(w, struct kl_newer, wait);
    stop_timer(n);
    n->done(n, 0);
}

static void on_timeout(uv_timer_t *t)
{
    struct kl_newer *n = t->data;
    kl_reader_wait_cancel(&n->wait);
    stop_timer(n);
    kl_fail_too_large(n->r, n->rev);
    n->done(n, KL_ETIMEOUT);
}

int kl_newer_wait(struct kl_newer *n)
{
    struct kl_req *r = n->r;
    if (n->rev <= kl_view_rev(kl_req_view(r)))
        return 0;
    n->timer = calloc(1, sizeof *n->timer);
    if (!n->timer)
        return kl_fail_oom(r), KL_ENOMEM;
    uv_timer_init(kl_loop_uv(r->al->loop), n->timer);
    n->timer->data = n;
    uv_timer_start(n->timer, on_timeout, WAIT_MS, 0);
    n->wait = (struct kl_reader_wait){.cb = on_rev, .rev = n->rev};
    kl_reader_wait_rev(r->al->reader, &n->wait);
    return 1;
}
