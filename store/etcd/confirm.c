// SPDX-License-Identifier: Apache-2.0
// Linearizable reads where others write too: an empty transaction confirms the head. Those that
// come in one iteration of a loop share one, which is submitted at its end, so that it is no older
// than any of them.
#include "store/etcd/etcd_int.h"
#include <stdlib.h>

struct kl_etcd_confirming {
    struct kl_etcd_loop *l;
    struct kl_task task;
    struct kl_txn txn;
    struct kl_etcd_confirm *first, **end;
};

static void tell(struct kl_etcd_confirming *g, int code, const struct kl_error *err)
{
    struct kl_etcd_confirm *c = g->first;
    while (c) {
        struct kl_etcd_confirm *next = c->next;
        c->cb(c, code, err);
        c = next;
    }
    free(g);
}

static void confirmed(struct kl_txn *txn)
{
    struct kl_etcd_confirming *g = KL_CONTAINER_OF(txn, struct kl_etcd_confirming, txn);
    kl_txn_fini(txn);
    tell(g, txn->code, &txn->err);
}

static void run_submit(struct kl_task *t)
{
    struct kl_etcd_confirming *g = KL_CONTAINER_OF(t, struct kl_etcd_confirming, task);
    g->l->confirming = NULL;
    int rc = kl_store_submit(g->l->etcd->store, &g->txn, NULL);
    if (rc)
        tell(g, rc, NULL);
}

int kl_etcd_confirm(struct kl_etcd_loop *l, struct kl_etcd_confirm *c)
{
    struct kl_etcd_confirming *g = l->confirming;
    if (!g) {
        if (!(g = calloc(1, sizeof(*g))))
            return KL_ENOMEM;
        g->l = l;
        g->end = &g->first;
        g->txn.cb = confirmed;
        g->task.run = run_submit;
        l->confirming = g;
        kl_loop_defer(l->loop, &g->task);
    }
    c->next = NULL;
    *g->end = c;
    g->end = &c->next;
    return 0;
}
