// SPDX-License-Identifier: Apache-2.0
#include "apiserver/lease.h"
#include "apiserver/server_int.h"
#include "base/clock.h"
#include <stdlib.h>

struct lease_wait {
    struct kl_lease_req req;
    struct kl_api_loop *al;
    void (*cb)(void *arg, int64_t lease, const struct kl_error *err);
    void *arg;
};

static void on_grant(struct kl_lease_req *q)
{
    struct lease_wait *w = KL_CONTAINER_OF(q, struct lease_wait, req);
    if (!q->code) {
        w->al->event_lease = q->id;
        w->al->event_lease_keys = 1;
        w->al->event_lease_until_ms = kl_mono_ms() + KL_EVENT_LEASE_REUSE_S * 1000;
    }
    if (q->code && !q->err.code)
        kl_error_set(&q->err, q->code, "%s", kl_err_text(q->code));
    w->cb(w->arg, q->id, q->code ? &q->err : NULL);
    kl_lease_req_fini(q);
    free(w);
}

void kl_event_lease(struct kl_api_loop *al,
                    void (*cb)(void *arg, int64_t lease, const struct kl_error *err), void *arg)
{
    if (al->event_lease && kl_mono_ms() < al->event_lease_until_ms &&
        al->event_lease_keys < KL_EVENT_LEASE_KEYS) {
        al->event_lease_keys++;
        cb(arg, al->event_lease, NULL);
        return;
    }
    struct kl_error err = {0};
    struct lease_wait *w = calloc(1, sizeof *w);
    if (!w) {
        kl_error_set(&err, KL_ENOMEM, "out of memory");
        cb(arg, 0, &err);
        return;
    }
    w->al = al;
    w->cb = cb;
    w->arg = arg;
    w->req.kind = KL_LEASE_GRANT;
    w->req.ttl_s = KL_EVENT_TTL_S + KL_EVENT_LEASE_REUSE_S;
    w->req.cb = on_grant;
    if (kl_store_lease(al->srv->o.store, &w->req, &err)) {
        free(w);
        cb(arg, 0, &err);
    }
}
