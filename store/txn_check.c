// SPDX-License-Identifier: Apache-2.0
// What is refused before it is queued, on the submitter's thread: etcd's checkTxnRequest and
// checkIntervals (server/etcdserver/api/v3rpc/key.go).
#include "store/store_int.h"
#include <stdlib.h>

struct sums {
    size_t bytes, nops;
    const struct kl_key_rule *keys; // to be stored
};

// ---- sizes and fields ----

static int too_many(struct kl_error *err)
{
    return kl_error_set(err, KL_EBADREQUEST, "etcdserver: too many operations in txn request");
}

static int check_op(const struct kl_op *op, struct sums *sums, struct kl_error *err)
{
    if (!op->key.n)
        return kl_error_set(err, KL_EBADREQUEST, "etcdserver: key is not provided");
    sums->bytes += op->key.n + op->end.n + (op->value && op->kind == KL_OP_PUT ? op->value->n : 0);
    if (op->kind == KL_OP_PUT && op->ignore_value && op->value)
        return kl_error_set(err, KL_EBADREQUEST, "etcdserver: value is provided");
    if (op->kind == KL_OP_PUT && op->ignore_lease && op->lease)
        return kl_error_set(err, KL_EBADREQUEST, "etcdserver: lease is provided");
    return op->kind == KL_OP_PUT ? kl_key_rule_check(sums->keys, op->key, err) : 0;
}

static int check_body(const struct kl_txn_body *body, int depth, struct sums *sums,
                      struct kl_error *err)
{
    sums->nops += body->nthen + body->nels;
    if (depth > KL_TXN_MAX_DEPTH || body->ncompares > KL_TXN_MAX_OPS ||
        body->nthen > KL_TXN_MAX_OPS || body->nels > KL_TXN_MAX_OPS ||
        sums->nops > KL_TXN_MAX_OPS_ALL)
        return too_many(err);
    for (size_t i = 0; i < body->ncompares; i++) {
        const struct kl_compare *c = &body->compares[i];
        if (!c->key.n)
            return kl_error_set(err, KL_EBADREQUEST, "etcdserver: key is not provided");
        sums->bytes += c->key.n + c->end.n + c->value.n;
    }
    for (int side = 0; side < 2; side++) {
        const struct kl_op *ops = side ? body->els : body->then;
        size_t n = side ? body->nels : body->nthen;
        for (size_t i = 0; i < n; i++) {
            int r = ops[i].kind == KL_OP_TXN ? check_body(ops[i].txn, depth + 1, sums, err)
                                             : check_op(&ops[i], sums, err);
            if (r)
                return r;
        }
    }
    return 0;
}

// ---- no key may be put twice, or put and deleted ----

struct touched {
    struct kl_map puts; // key -> the key
    const struct kl_op **dels;
    size_t ndels, cap;
};

static void fini_touched(struct touched *t)
{
    kl_map_fini(&t->puts);
    free(t->dels);
}

static int add_delete(struct touched *t, const struct kl_op *op)
{
    if (t->ndels == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 8;
        const struct kl_op **p = realloc(t->dels, cap * sizeof(*p));
        if (!p)
            return KL_ENOMEM;
        t->dels = p;
        t->cap = cap;
    }
    t->dels[t->ndels++] = op;
    return 0;
}

static int duplicate(struct kl_error *err)
{
    return kl_error_set(err, KL_EBADREQUEST, "etcdserver: duplicate key given in txn request");
}

// `but`: puts that exclude this one, as those of the other branch.
static int add_put(struct touched *t, struct kl_str key, const struct kl_map *but,
                   struct kl_error *err)
{
    if (kl_map_get(&t->puts, key) && !(but && kl_map_get(but, key)))
        return duplicate(err);
    for (size_t i = 0; i < t->ndels; i++) {
        // etcd's interval from a key to the last one meets no key.
        const struct kl_op *d = t->dels[i];
        if (!(d->end.n == 1 && d->end.p[0] == 0) && kl_range_has(d->key, d->end, key))
            return duplicate(err);
    }
    return kl_map_set(&t->puts, key, t, NULL) ? kl_error_set(err, KL_ENOMEM, "out of memory") : 0;
}

static int check_touched(const struct kl_op *ops, size_t n, struct touched *t,
                         struct kl_error *err);

// What the branches of a nested transaction touch is touched by the list that it is in.
static int check_nested(const struct kl_txn_body *body, struct touched *t, struct kl_error *err)
{
    struct touched then, els;
    int r = check_touched(body->then, body->nthen, &then, err);
    if (r)
        return r;
    r = check_touched(body->els, body->nels, &els, err);
    if (r) {
        fini_touched(&then);
        return r;
    }
    KL_MAP_EACH (&then.puts, e)
        r = r ? r : add_put(t, e->key, NULL, err);
    KL_MAP_EACH (&els.puts, e)
        r = r ? r : add_put(t, e->key, &then.puts, err);
    for (size_t i = 0; !r && i < then.ndels; i++)
        r = add_delete(t, then.dels[i]);
    for (size_t i = 0; !r && i < els.ndels; i++)
        r = add_delete(t, els.dels[i]);
    fini_touched(&then);
    fini_touched(&els);
    return r;
}

// Deletions of this level first, then nested transactions, then its puts, as etcd does: what a
// later sibling deletes is not seen by an earlier one.
static int check_touched(const struct kl_op *ops, size_t n, struct touched *t, struct kl_error *err)
{
    *t = (struct touched){0};
    kl_map_init(&t->puts);
    int r = 0;
    for (size_t i = 0; !r && i < n; i++) {
        if (ops[i].kind == KL_OP_DELETE)
            r = add_delete(t, &ops[i]);
    }
    for (size_t i = 0; !r && i < n; i++) {
        if (ops[i].kind == KL_OP_TXN)
            r = check_nested(ops[i].txn, t, err);
    }
    for (size_t i = 0; !r && i < n; i++) {
        if (ops[i].kind == KL_OP_PUT)
            r = add_put(t, ops[i].key, NULL, err);
    }
    if (r)
        fini_touched(t);
    return r;
}

static int check_side(const struct kl_op *ops, size_t n, struct kl_error *err)
{
    if (n == 0 || (n == 1 && ops[0].kind != KL_OP_TXN))
        return 0;
    struct touched t;
    int r = check_touched(ops, n, &t, err);
    if (!r)
        fini_touched(&t);
    return r;
}

int kl_txn_check(const struct kl_txn *txn, const struct kl_key_rule *keys, size_t *ret_bytes,
                 struct kl_error *err)
{
    struct sums sums = {.keys = keys};
    int r = check_body(&txn->body, 0, &sums, err);
    if (!r && sums.bytes > KL_TXN_MAX_BYTES)
        return kl_error_set(err, KL_ETOOLARGE, "etcdserver: request is too large");
    if (!r)
        r = check_side(txn->body.then, txn->body.nthen, err);
    if (!r)
        r = check_side(txn->body.els, txn->body.nels, err);
    *ret_bytes = sums.bytes;
    return r;
}

bool kl_txn_writes(const struct kl_txn_body *body)
{
    for (int side = 0; side < 2; side++) {
        const struct kl_op *ops = side ? body->els : body->then;
        size_t n = side ? body->nels : body->nthen;
        for (size_t i = 0; i < n; i++) {
            if (ops[i].kind == KL_OP_PUT || ops[i].kind == KL_OP_DELETE ||
                (ops[i].kind == KL_OP_TXN && kl_txn_writes(ops[i].txn)))
                return true;
        }
    }
    return false;
}
