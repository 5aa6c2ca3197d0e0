// SPDX-License-Identifier: Apache-2.0
// Calls that wait for the store: one that waits longer than etcd would is told so. All wait equally
// long, so each loop has one list in order of arrival and one timer, which runs while it holds any.
#include "store/etcd/etcd_int.h"

enum { TIMEOUT_MS = 7000, TICK_MS = 500 }; // etcd's ReqTimeout: 5 s and two elections

static void tick(uv_timer_t *t)
{
    struct kl_etcd_loop *l = t->data;
    uint64_t now = uv_now(t->loop);
    struct kl_etcd_waiting *w;
    while ((w = l->waiting) && w->since_ms + TIMEOUT_MS <= now) {
        kl_etcd_waiting_end(w);
        kl_etcd_fail(w->rpc, KL_ETIMEOUT, NULL); // what the store says later is heard by nobody
    }
    if (!l->waiting)
        uv_timer_stop(t);
}

void kl_etcd_waiting_begin(struct kl_etcd_loop *l, struct kl_etcd_waiting *w,
                           struct kl_grpc_rpc *rpc)
{
    w->rpc = rpc;
    w->l = l;
    w->since_ms = uv_now(kl_loop_uv(l->loop));
    w->next = NULL;
    w->prev = l->last_waiting;
    if (w->prev)
        w->prev->next = w;
    else
        l->waiting = w;
    l->last_waiting = w;
    if (!uv_is_active((uv_handle_t *)&l->timer))
        uv_timer_start(&l->timer, tick, TICK_MS, TICK_MS);
}

void kl_etcd_waiting_end(struct kl_etcd_waiting *w)
{
    struct kl_etcd_loop *l = w->l;
    if (!l)
        return;
    w->l = NULL;
    if (w->prev)
        w->prev->next = w->next;
    else
        l->waiting = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        l->last_waiting = w->prev;
}

void kl_etcd_waiting_init(struct kl_etcd_loop *l)
{
    uv_timer_init(kl_loop_uv(l->loop), &l->timer);
    l->timer.data = l;
}

void kl_etcd_waiting_close(struct kl_etcd_loop *l, uv_close_cb closed)
{
    uv_close((uv_handle_t *)&l->timer, closed);
}
