// SPDX-License-Identifier: Apache-2.0
// Finding the keys of a RangeRequest: in the newest view, a held one, or the back end's history;
// filters, order and limit as server/etcdserver/txn executeRange. What takes long goes in slices.
#include "store/etcd/etcd_int.h"
#include <stdlib.h>

enum { SLICE = 512 }; // keys between two looks at the clock

bool kl_etcd_range_is_plain(const struct kl_etcd_range_request *rq)
{
    bool by_key = rq->sort_target == KL_ETCD_RANGE_REQUEST_SORT_TARGET_KEY;
    return rq->sort_order != KL_ETCD_RANGE_REQUEST_SORT_ORDER_DESCEND && by_key &&
           !rq->min_mod_revision && !rq->max_mod_revision && !rq->min_create_revision &&
           !rq->max_create_revision;
}

static bool passes(const struct kl_etcd_range_request *rq, const struct kl_kv *kv)
{
    return (!rq->max_mod_revision || kv->mod_rev <= rq->max_mod_revision) &&
           (!rq->min_mod_revision || kv->mod_rev >= rq->min_mod_revision) &&
           (!rq->max_create_revision || kv->create_rev <= rq->max_create_revision) &&
           (!rq->min_create_revision || kv->create_rev >= rq->min_create_revision);
}

// ---- order

struct order {
    int target;
    bool descend;
};

static int compare(const struct order *o, const struct kl_kv *a, const struct kl_kv *b)
{
    int c = 0;
    switch (o->target) {
    case KL_ETCD_RANGE_REQUEST_SORT_TARGET_KEY:
        c = kl_str_cmp(kl_kv_key(a), kl_kv_key(b));
        break;
    case KL_ETCD_RANGE_REQUEST_SORT_TARGET_VERSION:
        c = (a->version > b->version) - (a->version < b->version);
        break;
    case KL_ETCD_RANGE_REQUEST_SORT_TARGET_CREATE:
        c = (a->create_rev > b->create_rev) - (a->create_rev < b->create_rev);
        break;
    case KL_ETCD_RANGE_REQUEST_SORT_TARGET_MOD:
        c = (a->mod_rev > b->mod_rev) - (a->mod_rev < b->mod_rev);
        break;
    default:
        c = kl_str_cmp(kl_kv_value(a), kl_kv_value(b));
    }
    if (o->descend)
        c = -c;
    return c ? c : kl_str_cmp(kl_kv_key(a), kl_kv_key(b)); // equal ones stay in key order
}

static int compare_slots(const void *a, const void *b, void *arg)
{
    return compare(arg, *(struct kl_kv *const *)a, *(struct kl_kv *const *)b);
}

static void cut(const struct kl_etcd_range_request *rq, struct kl_kv **kvs, size_t *n, bool owned,
                bool *ret_more)
{
    *ret_more = rq->limit > 0 && *n > (size_t)rq->limit;
    if (!*ret_more)
        return;
    for (size_t i = (size_t)rq->limit; owned && i < *n; i++)
        kl_kv_unref(kvs[i]);
    *n = (size_t)rq->limit;
}

// Without an order etcd takes the first keys up to the limit, and one to see whether there are
// more, and orders those by the target.
static void take_first(const struct kl_etcd_range_request *rq, struct kl_kv **kvs, size_t *n,
                       bool owned)
{
    if (rq->sort_order != KL_ETCD_RANGE_REQUEST_SORT_ORDER_NONE || rq->limit <= 0 ||
        rq->min_mod_revision || rq->max_mod_revision || rq->min_create_revision ||
        rq->max_create_revision || *n <= (uint64_t)rq->limit + 1)
        return;
    for (size_t i = (size_t)rq->limit + 1; owned && i < *n; i++)
        kl_kv_unref(kvs[i]);
    *n = (size_t)rq->limit + 1;
}

static void sort_and_cut(const struct kl_etcd_range_request *rq, struct kl_kv **kvs, size_t *n,
                         bool owned, bool *ret_more)
{
    take_first(rq, kvs, n, owned);
    struct order o = {rq->sort_target, rq->sort_order == KL_ETCD_RANGE_REQUEST_SORT_ORDER_DESCEND};
    if (*n > 1 && (o.descend || o.target != KL_ETCD_RANGE_REQUEST_SORT_TARGET_KEY))
        qsort_r(kvs, *n, sizeof(*kvs), compare_slots, &o);
    cut(rq, kvs, n, owned, ret_more);
}

void kl_etcd_read_refine(const struct kl_etcd_range_request *rq, struct kl_kv **kvs, size_t *n,
                         bool *ret_more)
{
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++) {
        if (passes(rq, kvs[i]))
            kvs[kept++] = kvs[i];
        else
            kl_kv_unref(kvs[i]);
    }
    *n = kept;
    sort_and_cut(rq, kvs, n, true, ret_more);
}

// ---- in a view

static void finish(struct kl_etcd_read *rd, int code)
{
    rd->code = code;
    rd->done(rd);
}

void kl_etcd_read_keep(struct kl_etcd_read *rd)
{
    if (rd->view && !rd->counted) {
        kl_view_ref(rd->view);
        rd->counted = true;
    }
}

static bool add_kv(struct kl_etcd_read *rd, struct kl_kv *kv)
{
    if (rd->n == rd->cap) {
        size_t cap = rd->cap ? rd->cap * 2 : 64;
        struct kl_kv **p = realloc(rd->kvs, cap * sizeof(*p));
        if (!p)
            return false;
        rd->kvs = p;
        rd->cap = cap;
    }
    rd->kvs[rd->n++] = kv;
    return true;
}

static void measure(struct kl_etcd_read *rd, const struct kl_kv *kv)
{
    rd->kv_bytes += kl_etcd_kv_field_size(kv, rd->rq->keys_only);
}

static void measure_all(struct kl_etcd_read *rd)
{
    for (size_t i = 0; i < rd->n; i++)
        measure(rd, rd->kvs[i]);
}

static void run_slice(struct kl_task *t);

static void later(struct kl_etcd_read *rd)
{
    kl_etcd_read_keep(rd);
    rd->task.run = run_slice;
    kl_loop_post(rd->l->loop, &rd->task);
}

// Plain: the size of the first n keys. Else: those that pass.
static void walk(struct kl_etcd_read *rd)
{
    bool plain = kl_etcd_range_is_plain(rd->rq);
    struct kl_kv *kv;
    while ((!plain || rd->at < rd->n) && (kv = kl_iter_next(&rd->it))) {
        if (plain) {
            measure(rd, kv);
        } else if (passes(rd->rq, kv) && !add_kv(rd, kv)) {
            finish(rd, KL_ENOMEM);
            return;
        }
        if (++rd->at % SLICE == 0 && kl_loop_is_late(rd->l->loop)) {
            if (kl_grpc_rpc_closed(rd->rpc))
                finish(rd, KL_ECANCELED);
            else
                later(rd);
            return;
        }
    }
    if (!plain) {
        sort_and_cut(rd->rq, rd->kvs, &rd->n, false, &rd->more);
        measure_all(rd);
    }
    finish(rd, 0);
}

static void run_slice(struct kl_task *t)
{
    walk(KL_CONTAINER_OF(t, struct kl_etcd_read, task));
}

static void read_view(struct kl_etcd_read *rd)
{
    const struct kl_etcd_range_request *rq = rd->rq;
    kl_iter_init(&rd->it, rd->view, rq->key, rq->range_end);
    rd->count = rd->it.left;
    if (rq->count_only) {
        finish(rd, 0);
        return;
    }
    if (kl_etcd_range_is_plain(rq)) {
        rd->more = rq->limit > 0 && rd->count > rq->limit;
        rd->n = (size_t)(rd->more ? rq->limit : rd->count);
    }
    walk(rd);
}

// ---- in history

struct history {
    struct kl_range_at q;
    struct kl_etcd_read *rd;
};

static void next_page(struct kl_etcd_read *rd);

static void end_pages(struct kl_etcd_read *rd)
{
    sort_and_cut(rd->rq, rd->kvs, &rd->n, true, &rd->more);
    if (kl_etcd_range_is_plain(rd->rq))
        rd->more = !rd->rq->count_only && rd->rq->limit > 0 && rd->count > rd->rq->limit;
    measure_all(rd);
    finish(rd, 0);
}

static int take_page(struct kl_etcd_read *rd, const struct kl_range_at *q)
{
    if (q->want_count)
        rd->count = q->count;
    for (size_t i = 0; i < q->nkvs && !rd->rq->count_only; i++) {
        if (!passes(rd->rq, q->kvs[i]))
            continue;
        if (!add_kv(rd, q->kvs[i]))
            return KL_ENOMEM;
        kl_kv_ref(q->kvs[i]);
    }
    return 0;
}

static int go_on_after(struct kl_etcd_read *rd, struct kl_range_at *q)
{
    struct kl_str last = kl_kv_key(q->kvs[q->nkvs - 1]);
    char *p = kl_arena_alloc(kl_grpc_rpc_arena(rd->rpc), last.n + 1);
    if (!p)
        return KL_ENOMEM;
    memcpy(p, last.p, last.n);
    p[last.n] = 0;
    q->key = (struct kl_str){p, last.n + 1};
    return 0;
}

static void page_came(struct kl_range_at *q)
{
    struct kl_etcd_read *rd = KL_CONTAINER_OF(q, struct history, q)->rd;
    const struct kl_etcd_range_request *rq = rd->rq;
    bool full = kl_etcd_range_is_plain(rq) && rq->limit > 0;
    int code = q->code ? q->code : kl_grpc_rpc_closed(rd->rpc) ? KL_ECANCELED : take_page(rd, q);
    bool all = !q->more || !q->nkvs || rq->count_only || (full && rd->n >= (size_t)rq->limit);
    if (q->code)
        rd->err = q->err;
    if (!code && !all)
        code = go_on_after(rd, q);
    kl_range_at_fini(q);
    if (code)
        finish(rd, code);
    else if (all)
        end_pages(rd);
    else
        next_page(rd);
}

static void next_page(struct kl_etcd_read *rd)
{
    const struct kl_etcd_range_request *rq = rd->rq;
    struct kl_range_at *q = &rd->history->q;
    struct kl_str key = q->key, end = q->end;
    bool first = kl_str_eq(key, rq->key);
    int64_t limit = rq->count_only ? 1 : kl_etcd_range_is_plain(rq) ? rq->limit : 0;
    memset(q, 0, sizeof(*q));
    q->key = key;
    q->end = end;
    q->rev = rq->revision;
    q->limit = limit > 0 ? limit - (int64_t)rd->n : 0;
    q->want_count = first;
    q->cb = page_came;
    int rc = kl_store_range_at(rd->l->etcd->store, q, &rd->err);
    if (rc)
        finish(rd, rc);
}

static void read_history(struct kl_etcd_read *rd)
{
    rd->owned = true;
    rd->view = NULL;
    rd->history = KL_ARENA_NEW(kl_grpc_rpc_arena(rd->rpc), struct history);
    if (!rd->history) {
        finish(rd, KL_ENOMEM);
        return;
    }
    rd->history->rd = rd;
    rd->history->q.key = rd->rq->key;
    rd->history->q.end = rd->rq->range_end;
    next_page(rd);
}

// ---- begin and end

void kl_etcd_read_start(struct kl_etcd_read *rd)
{
    kl_rev rev = rd->rq->revision;
    rd->view = kl_reader_view(rd->l->reader);
    rd->head = kl_view_rev(rd->view);
    if (rev <= 0 || rev == rd->head) {
        read_view(rd);
        return;
    }
    struct kl_view *old;
    int rc = kl_store_view_at(rd->l->reader, rev, &old, &rd->err);
    if (!rc) {
        rd->view = old;
        rd->counted = true;
        read_view(rd);
        return;
    }
    rd->view = NULL;
    if (rc == KL_EAGAIN)
        read_history(rd);
    else
        finish(rd, rc);
}

void kl_etcd_read_fini(struct kl_etcd_read *rd)
{
    for (size_t i = 0; rd->owned && i < rd->n; i++)
        kl_kv_unref(rd->kvs[i]);
    free(rd->kvs);
    rd->kvs = NULL;
    rd->n = 0;
    if (rd->counted)
        kl_view_unref(rd->view);
    rd->view = NULL;
    rd->counted = rd->owned = false;
}

int kl_etcd_confirm(struct kl_etcd_loop *l, struct kl_txn *txn)
{
    return kl_store_submit(l->etcd->store, txn, NULL);
}
