// SPDX-License-Identifier: Apache-2.0
// Makes the index after an outside batch, row by row. A transaction that was sent away from here
// meets its own rows on that way: the index before its first row is the state it was evaluated on,
// so that walking its operations beside its rows gives every result it had over there.
#include "store/forward.h"
#include "store/store_int.h"
#include "store/view_int.h"
#include "base/log.h"
#include <stdlib.h>

enum { DELETE_STEP = 64 };

struct replay {
    struct kl_store *s;
    struct kl_batch *b;
    struct kl_replay *r;
};

static bool take_turn(const struct replay *p)
{
    if (p->r->sliced && !kl_turn_left(p->s))
        return false;
    if (p->r->sliced)
        kl_turn_take(p->s, 1);
    return true;
}

static int index_row(const struct replay *p, struct kl_row *row)
{
    struct kl_index *x = &p->r->x;
    struct kl_kv *kv = row->kv;
    bool found;
    if (!row->prev)
        row->prev = kl_kv_ref(kl_node_get(x->root, kl_kv_key(kv)));
    if (!kv->home) { // else it begins anew
        kv->hooks = p->s->o.hooks;
        kl_kv_charge(kv, p->s->evict.home);
    }
    return kv->deleted ? kl_index_del(x, kl_kv_key(kv), &found) : kl_index_put(x, kv);
}

static int index_rows(const struct replay *p, size_t end)
{
    int code = 0;
    while (!code && p->r->at < end)
        code = take_turn(p) ? index_row(p, &p->b->rows[p->r->at++]) : KL_EAGAIN;
    return code;
}

// The next row, if it is the one that the operation must have written.
static struct kl_row *take_row(const struct replay *p, struct kl_str key, bool deleted, int *code)
{
    struct kl_replay *r = p->r;
    struct kl_row *row = &p->b->rows[r->at];
    if (r->differs || r->at == r->end || row->kv->deleted != deleted ||
        !kl_str_eq(kl_kv_key(row->kv), key)) {
        r->differs = true;
        return NULL;
    }
    r->at++;
    *code = index_row(p, row);
    return row;
}

static int replay_put(const struct replay *p, struct kl_op *op)
{
    int code = 0;
    struct kl_row *row = take_row(p, op->key, false, &code);
    if (row) {
        row->op = op; // whose attachments go to kv
        op->kv = kl_kv_ref(row->kv);
        op->prev = kl_kv_ref(row->prev);
    }
    return code;
}

// The first n keys that are left of the range.
static int delete_some(const struct replay *p, struct kl_op *op, int n)
{
    struct kl_kv *kvs[DELETE_STEP];
    struct kl_iter it;
    int code = 0;
    kl_iter_init_node(&it, p->r->x.root, op->key, op->end);
    for (int i = 0; i < n; i++)
        kvs[i] = kl_kv_ref(kl_iter_next(&it));
    for (int i = 0; i < n; i++) {
        if (!code)
            take_row(p, kl_kv_key(kvs[i]), true, &code);
        op->kvs[op->nkvs++] = kvs[i];
    }
    return code;
}

static int delete_range(const struct replay *p, struct kl_op *op)
{
    int64_t first, left;
    kl_node_range(p->r->x.root, op->key, op->end, &first, &left);
    if (op->done != KL_OP_BEGUN) {
        op->kvs = left ? malloc((size_t)left * sizeof(*op->kvs)) : NULL;
        if (left && !op->kvs)
            return KL_ENOMEM;
        op->count = left;
        op->done = KL_OP_BEGUN;
    }
    int code = 0;
    while (!code && !p->r->differs && left) {
        int n = 0;
        while (n < left && n < DELETE_STEP && take_turn(p))
            n++;
        code = n ? delete_some(p, op, n) : KL_EAGAIN;
        left -= n;
    }
    return code;
}

static int replay_delete(const struct replay *p, struct kl_op *op)
{
    if (op->end.n)
        return delete_range(p, op);
    int code = 0;
    op->prev = kl_kv_ref(kl_node_get(p->r->x.root, op->key));
    op->count = op->prev != NULL;
    if (op->prev)
        take_row(p, op->key, true, &code);
    return code;
}

static int replay_body(const struct replay *p, struct kl_txn_body *body);

static int replay_op(const struct replay *p, struct kl_op *op)
{
    bool many = op->kind == KL_OP_TXN || op->end.n;
    if (!many && !take_turn(p))
        return KL_EAGAIN;
    switch (op->kind) {
    case KL_OP_PUT:
        return replay_put(p, op);
    case KL_OP_DELETE:
        return replay_delete(p, op);
    case KL_OP_GET:
        return kl_eval_get(p->s, &p->r->x, !p->r->at_once, op);
    case KL_OP_TXN:
        return replay_body(p, op->txn);
    }
    return 0;
}

static int replay_body(const struct replay *p, struct kl_txn_body *body)
{
    struct kl_op *ops = body->succeeded ? body->then : body->els;
    size_t n = body->succeeded ? body->nthen : body->nels;
    int code = 0;
    for (size_t i = 0; !code && !p->r->differs && i < n; i++) {
        if (ops[i].done == KL_OP_DONE)
            continue;
        code = replay_op(p, &ops[i]);
        if (!code)
            ops[i].done = KL_OP_DONE;
    }
    return code;
}

// Without being told of it, as others are who touch the results before the batch is published.
static void reset_txn(struct kl_txn *t)
{
    t->replayed = false;
    kl_txn_reset(t);
}

static void begin_txn(const struct replay *p, const struct kl_forwarded *f, struct kl_txn *t)
{
    struct kl_replay *r = p->r;
    reset_txn(t);
    if (t->internal != KL_WORK_TXN)
        return;
    r->end = f->row_at + f->row_n;
    r->differs = false;
    r->in_txn = true;
    t->replayed = true;
    kl_eval_begin(&t->body);
}

static int replay_txn(const struct replay *p, const struct kl_forwarded *f, struct kl_txn *t)
{
    struct kl_replay *r = p->r;
    if (!r->in_txn)
        begin_txn(p, f, t);
    if (!r->in_txn)
        return 0;
    int code = kl_eval_sides(p->s, &r->x, !r->at_once, &t->body);
    if (!code)
        code = replay_body(p, &t->body);
    if (code)
        return code;
    r->in_txn = false;
    if (f->row_n && !r->differs && r->at == r->end && t->body.succeeded == f->succeeded)
        return 0;
    // It was stored, but not as it was evaluated: its results are anybody's guess.
    kl_log(KL_LOG_ERROR, "store", "a transaction came back changed server=%016llx seq=%llu",
           (unsigned long long)f->server, (unsigned long long)f->seq);
    reset_txn(t);
    t->code = kl_error_set(&t->err, KL_EMAYBE, "etcdserver: request timed out");
    t->replayed = true;
    for (size_t i = f->row_at; i < f->row_at + f->row_n; i++)
        p->b->rows[i].op = NULL;
    return 0;
}

static int replay_forwarded(const struct replay *p, struct kl_forwarded *f)
{
    struct kl_replay *r = p->r;
    struct kl_batch *b = p->b;
    struct kl_txn *t = kl_forward_find(p->s, f);
    if (!t)
        return 0;
    if (!r->in_txn &&
        (f->row_at < r->at || f->row_at > b->nrows || f->row_n > b->nrows - f->row_at)) {
        f->row_at = (uint32_t)r->at;
        f->row_n = 0;
    }
    int code = r->in_txn ? 0 : index_rows(p, f->row_at);
    return code ? code : replay_txn(p, f, t);
}

static int replay_rows(const struct replay *p)
{
    struct kl_replay *r = p->r;
    struct kl_batch *b = p->b;
    int code = 0;
    if (b->own && !r->own_done) {
        struct kl_forwarded f = {.row_n = (uint32_t)b->nrows, .succeeded = b->own->body.succeeded};
        code = replay_txn(p, &f, b->own);
        r->own_done = !code;
    }
    while (!code && r->forwarded < b->nforwarded) {
        code = replay_forwarded(p, &b->forwarded[r->forwarded]);
        r->forwarded += !code;
    }
    if (!code)
        code = index_rows(p, b->nrows);
    for (size_t i = 0; !code && i < b->nleases; i++)
        code = kl_lease_reserve(p->s, &b->leases[i]);
    return code;
}

int kl_replay_batch(struct kl_store *s, struct kl_batch *b, struct kl_replay *r)
{
    if (!r->x.gen)
        r->x = (struct kl_index){kl_node_ref(s->view->root), ++s->gen};
    int code = replay_rows(&(struct replay){.s = s, .b = b, .r = r});
    for (size_t i = 0; code == KL_ENOMEM && i < b->nrows; i++)
        b->rows[i].op = NULL; // offered again, when the transaction may be gone
    return code;
}
