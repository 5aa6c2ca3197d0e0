// SPDX-License-Identifier: Apache-2.0
// What etcd refuses before it asks the store (server/etcdserver/api/v3rpc/key.go).
#include "store/etcd/kv_int.h"
#include "base/map.h"
#include <stdlib.h>

const char *kl_etcd_check_put(const struct kl_etcd_put_request *rq)
{
    if (!rq->key.n)
        return "etcdserver: key is not provided";
    if (rq->ignore_value && rq->value.n)
        return "etcdserver: value is provided";
    if (rq->ignore_lease && rq->lease)
        return "etcdserver: lease is provided";
    return NULL;
}

const char *kl_etcd_check_delete(const struct kl_etcd_delete_range_request *rq)
{
    return rq->key.n ? NULL : "etcdserver: key is not provided";
}

static const char *check_op(const struct kl_etcd_request_op *op, uint32_t max_ops)
{
    if (op->request_range)
        return kl_etcd_check_range(op->request_range);
    if (op->request_put)
        return kl_etcd_check_put(op->request_put);
    if (op->request_delete_range)
        return kl_etcd_check_delete(op->request_delete_range);
    if (op->request_txn)
        return kl_etcd_check_txn(op->request_txn, max_ops);
    return "etcdserver: key not found";
}

const char *kl_etcd_check_txn(const struct kl_etcd_txn_request *rq, uint32_t max_ops)
{
    size_t n = rq->n_compare;
    n = n < rq->n_success ? rq->n_success : n;
    n = n < rq->n_failure ? rq->n_failure : n;
    if (n > max_ops)
        return "etcdserver: too many operations in txn request";
    const char *wrong = NULL;
    for (size_t i = 0; i < rq->n_compare; i++)
        if (!rq->compare[i].key.n)
            return "etcdserver: key is not provided";
    for (size_t i = 0; i < rq->n_success && !wrong; i++)
        wrong = check_op(&rq->success[i], max_ops - (uint32_t)n);
    for (size_t i = 0; i < rq->n_failure && !wrong; i++)
        wrong = check_op(&rq->failure[i], max_ops - (uint32_t)n);
    return wrong;
}

// ---- overlaps: what one list of operations and the lists below it put and delete

struct range {
    struct kl_str key, end;
    struct range *next;
};

struct writes {
    struct kl_map puts;
    struct range *dels;
};

struct check {
    struct kl_arena *a;
    int depth;
};

static int check_list(struct check *k, const struct kl_etcd_request_op *ops, size_t n,
                      struct writes *w);

static int add_delete(struct check *k, struct writes *w, struct kl_str key, struct kl_str end)
{
    struct range *r = KL_ARENA_NEW(k->a, struct range);
    if (!r)
        return KL_ENOMEM;
    *r = (struct range){key, end, w->dels};
    w->dels = r;
    return 0;
}

// `safe`: a key that is there may come again (the other side of the same transaction put it).
static int add_put(struct writes *w, struct kl_str key, const struct kl_map *safe)
{
    if (kl_map_get(&w->puts, key) && !(safe && kl_map_get(safe, key)))
        return KL_EBADREQUEST;
    for (const struct range *r = w->dels; r; r = r->next)
        if (kl_range_has(r->key, r->end, key))
            return KL_EBADREQUEST;
    return kl_map_set(&w->puts, key, w, NULL);
}

static int check_nested(struct check *k, const struct kl_etcd_txn_request *rq, struct writes *w)
{
    struct writes side[2] = {0};
    kl_map_init(&side[0].puts);
    kl_map_init(&side[1].puts);
    k->depth++;
    int rc = check_list(k, rq->success, rq->n_success, &side[0]);
    if (!rc)
        rc = check_list(k, rq->failure, rq->n_failure, &side[1]);
    k->depth--;
    for (int i = 0; i < 2; i++) {
        KL_MAP_EACH (&side[i].puts, e) {
            if (!rc)
                rc = add_put(w, e->key, i ? &side[0].puts : NULL);
        }
    }
    for (int i = 0; i < 2; i++) {
        for (const struct range *r = side[i].dels; r && !rc; r = r->next)
            rc = add_delete(k, w, r->key, r->end);
        kl_map_fini(&side[i].puts);
    }
    return rc;
}

static int check_list(struct check *k, const struct kl_etcd_request_op *ops, size_t n,
                      struct writes *w)
{
    int rc = k->depth > KL_TXN_MAX_DEPTH ? KL_ELIMIT : 0;
    for (size_t i = 0; i < n && !rc; i++)
        if (ops[i].request_delete_range)
            rc = add_delete(k, w, ops[i].request_delete_range->key,
                            ops[i].request_delete_range->range_end);
    for (size_t i = 0; i < n && !rc; i++)
        if (ops[i].request_txn)
            rc = check_nested(k, ops[i].request_txn, w);
    for (size_t i = 0; i < n && !rc; i++)
        if (ops[i].request_put)
            rc = add_put(w, ops[i].request_put->key, NULL);
    return rc;
}

int kl_etcd_check_overlaps(struct kl_arena *a, const struct kl_etcd_txn_request *rq)
{
    struct check k = {.a = a};
    int rc = 0;
    for (int i = 0; i < 2 && !rc; i++) {
        const struct kl_etcd_request_op *ops = i ? rq->failure : rq->success;
        size_t n = i ? rq->n_failure : rq->n_success;
        if (n < 2 && !(n && ops[0].request_txn))
            continue; // one operation overlaps with nothing
        struct writes w = {0};
        kl_map_init(&w.puts);
        rc = check_list(&k, ops, n, &w);
        kl_map_fini(&w.puts);
    }
    return rc;
}
