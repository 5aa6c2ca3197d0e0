// SPDX-License-Identifier: Apache-2.0
// Finding the keys of a RangeRequest: in the newest view, a held one, or the back end's history;
// filters, order and limit as server/etcdserver/txn executeRange. What takes long goes in slices.
#include "store/etcd/etcd_int.h"
#include <stdlib.h>

enum {
    SLICE = 512,              // keys between two looks at the clock
    HELD_BYTES = 4 << 20,     // of an old revision's; what is more is read again when it is sent
    SORTED_BYTES = 128 << 20, // but what has to be sorted, or goes with a transaction
};

static bool has_filter(const struct kl_etcd_range_request *rq)
{
    return rq->min_mod_revision || rq->max_mod_revision || rq->min_create_revision ||
           rq->max_create_revision;
}

bool kl_etcd_range_is_plain(const struct kl_etcd_range_request *rq)
{
    bool by_key = rq->sort_target == KL_ETCD_RANGE_REQUEST_SORT_TARGET_KEY;
    return rq->sort_order != KL_ETCD_RANGE_REQUEST_SORT_ORDER_DESCEND && by_key && !has_filter(rq);
}

bool kl_etcd_range_passes(const struct kl_etcd_range_request *rq, const struct kl_kv *kv)
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
        has_filter(rq) || *n <= (uint64_t)rq->limit + 1)
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
        if (kl_etcd_range_passes(rq, kvs[i]))
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
        } else if (kl_etcd_range_passes(rd->rq, kv) && !add_kv(rd, kv)) {
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

// Answers keep the order of the keys.
static bool in_order(const struct kl_etcd_range_request *rq)
{
    return rq->sort_target == KL_ETCD_RANGE_REQUEST_SORT_TARGET_KEY &&
           rq->sort_order != KL_ETCD_RANGE_REQUEST_SORT_ORDER_DESCEND;
}

static void drop_from(struct kl_etcd_read *rd, size_t n)
{
    while (rd->n > n)
        kl_kv_unref(rd->kvs[--rd->n]);
}

static void end_pages(struct kl_etcd_read *rd, int code)
{
    const struct kl_etcd_range_request *rq = rd->rq;
    if (!code && !rd->pages_again) {
        sort_and_cut(rq, rd->kvs, &rd->n, true, &rd->more);
        rd->kv_bytes = 0;
        measure_all(rd);
    } else if (!code) {
        rd->more = rq->limit > 0 && rd->n > (size_t)rq->limit;
        if (rd->more) { // the one too many, which was measured last
            rd->n--;
            rd->kv_bytes -= rd->last_bytes;
        }
    }
    if (!code && kl_etcd_range_is_plain(rq))
        rd->more = !rq->count_only && rq->limit > 0 && rd->count > rq->limit;
    kl_etcd_pages_fini(rd->pages);
    finish(rd, code);
}

// Of what must be sorted no more is kept than the limit leaves.
static void prune(struct kl_etcd_read *rd)
{
    const struct kl_etcd_range_request *rq = rd->rq;
    if (rq->limit <= 0 || rd->n < 2 * ((size_t)rq->limit + 1) + SLICE)
        return;
    struct order o = {rq->sort_target, rq->sort_order == KL_ETCD_RANGE_REQUEST_SORT_ORDER_DESCEND};
    qsort_r(rd->kvs, rd->n, sizeof(*rd->kvs), compare_slots, &o);
    drop_from(rd, (size_t)rq->limit + 1);
    rd->held_bytes = 0;
    for (size_t i = 0; i < rd->n; i++)
        rd->held_bytes += kl_etcd_kv_size(rd->kvs[i], false);
}

static int take_kv(struct kl_etcd_read *rd, struct kl_kv *kv)
{
    rd->last_bytes = kl_etcd_kv_field_size(kv, rd->rq->keys_only);
    rd->kv_bytes += rd->last_bytes;
    if (rd->pages_again) {
        rd->n++;
        return 0;
    }
    rd->held_bytes += kl_etcd_kv_size(kv, false);
    if (!add_kv(rd, kv))
        return KL_ENOMEM;
    kl_kv_ref(kv);
    return 0;
}

// No more than the limit and one, where what comes later does not count.
static bool has_enough(const struct kl_etcd_read *rd)
{
    const struct kl_etcd_range_request *rq = rd->rq;
    bool any_order = rq->sort_order == KL_ETCD_RANGE_REQUEST_SORT_ORDER_NONE && !has_filter(rq);
    return rq->limit > 0 && rd->n > (size_t)rq->limit && (in_order(rq) || any_order);
}

static int take_page(struct kl_etcd_read *rd, const struct kl_range_at *q)
{
    int rc = 0;
    if (q->want_count)
        rd->count = q->count;
    for (size_t i = 0; i < q->nkvs && !rd->rq->count_only && !rc && !has_enough(rd); i++)
        if (kl_etcd_range_passes(rd->rq, q->kvs[i]))
            rc = take_kv(rd, q->kvs[i]);
    if (rc || rd->held_bytes <= HELD_BYTES)
        return rc;
    if (!in_order(rd->rq))
        prune(rd);
    if (rd->held_bytes > HELD_BYTES && in_order(rd->rq) && !rd->hold) {
        size_t n = rd->n;
        drop_from(rd, 0);
        rd->n = n;
        free(rd->kvs);
        rd->kvs = NULL;
        rd->held_bytes = 0;
        rd->pages_again = true;
        rd->owned = false;
    }
    return rd->held_bytes > SORTED_BYTES ? KL_ETOOMANY : 0;
}

static void page_came(struct kl_etcd_pages *p)
{
    struct kl_etcd_read *rd = p->arg;
    if (p->q.code)
        rd->err = p->q.err;
    int code = p->q.code                     ? p->q.code
               : kl_grpc_rpc_closed(rd->rpc) ? KL_ECANCELED
                                             : take_page(rd, &p->q);
    bool more = !code && kl_etcd_pages_more(p) && !rd->rq->count_only && !has_enough(rd);
    if (more)
        code = kl_etcd_pages_next(p, &rd->err);
    if (code || !more)
        end_pages(rd, code);
}

static void read_history(struct kl_etcd_read *rd)
{
    const struct kl_etcd_range_request *rq = rd->rq;
    rd->owned = true;
    rd->view = NULL;
    rd->pages = KL_ARENA_NEW(kl_grpc_rpc_arena(rd->rpc), struct kl_etcd_pages);
    if (!rd->pages) {
        finish(rd, KL_ENOMEM);
        return;
    }
    rd->pages->came = page_came;
    rd->pages->arg = rd;
    int64_t limit = rq->count_only ? 1 : kl_etcd_range_is_plain(rq) ? rq->limit : 0;
    int rc = kl_etcd_pages_start(rd->pages, rd->l->etcd->store, rq->key, rq->range_end,
                                 rq->revision, limit, true, &rd->err);
    if (rc)
        finish(rd, rc);
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
