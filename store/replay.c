// SPDX-License-Identifier: Apache-2.0
// Makes the index after an outside batch, row by row. A transaction that was sent away from here
// meets its own rows on that way: the index before its first row is the state it was evaluated on,
// so that walking its operations beside its rows gives every result it had over there.
#include "store/forward.h"
#include "store/store_int.h"
#include "store/view_int.h"
#include "base/log.h"
#include <assert.h>

struct replay {
    struct kl_store *s;
    struct kl_batch *b;
    struct kl_index *x;
    size_t at, end; // rows of the transaction
    bool differs;
};

static int index_row(struct kl_index *x, struct kl_row *row)
{
    bool found;
    if (!row->prev)
        row->prev = kl_kv_ref(kl_node_get(x->root, kl_kv_key(row->kv)));
    return row->kv->deleted ? kl_index_del(x, kl_kv_key(row->kv), &found)
                            : kl_index_put(x, row->kv);
}

static int index_rows(struct replay *r, size_t end)
{
    int code = 0;
    while (!code && r->at < end)
        code = index_row(r->x, &r->b->rows[r->at++]);
    return code;
}

// The next row, if it is the one that the operation must have written.
static struct kl_row *take_row(struct replay *r, struct kl_str key, bool deleted, int *code)
{
    struct kl_row *row = &r->b->rows[r->at];
    if (r->differs || r->at == r->end || row->kv->deleted != deleted ||
        !kl_str_eq(kl_kv_key(row->kv), key)) {
        r->differs = true;
        return NULL;
    }
    r->at++;
    *code = index_row(r->x, row);
    return row;
}

static int replay_put(struct replay *r, struct kl_op *op)
{
    int code = 0;
    struct kl_row *row = take_row(r, op->key, false, &code);
    if (row) {
        row->op = op; // whose attachments go to kv
        op->kv = kl_kv_ref(row->kv);
        op->prev = kl_kv_ref(row->prev);
    }
    return code;
}

static int replay_delete(struct replay *r, struct kl_op *op)
{
    op->limit = 0; // of reads only
    int code = kl_eval_get(r->s, r->x, op);
    if (code)
        return code;
    if (!op->end.n) {
        op->prev = op->kv;
        op->kv = NULL;
        if (op->prev)
            take_row(r, op->key, true, &code);
        return code;
    }
    for (size_t i = 0; !code && i < op->nkvs; i++)
        take_row(r, kl_kv_key(op->kvs[i]), true, &code);
    return code;
}

static int replay_body(struct replay *r, struct kl_txn_body *body)
{
    struct kl_op *ops = body->succeeded ? body->then : body->els;
    size_t n = body->succeeded ? body->nthen : body->nels;
    int code = 0;
    for (size_t i = 0; !code && !r->differs && i < n; i++) {
        switch (ops[i].kind) {
        case KL_OP_PUT:
            code = replay_put(r, &ops[i]);
            break;
        case KL_OP_DELETE:
            code = replay_delete(r, &ops[i]);
            break;
        case KL_OP_GET:
            code = kl_eval_get(r->s, r->x, &ops[i]);
            break;
        case KL_OP_TXN:
            code = replay_body(r, ops[i].txn);
            break;
        }
    }
    return code;
}

static int replay_txn(struct replay *r, const struct kl_forwarded *f, struct kl_txn *t)
{
    kl_txn_reset(t);
    if (t->internal != KL_WORK_TXN)
        return 0;
    r->end = f->row_at + f->row_n;
    r->differs = false;
    kl_eval_sides(r->s, r->x, &t->body);
    int code = replay_body(r, &t->body);
    if (code || (f->row_n && !r->differs && r->at == r->end && t->body.succeeded == f->succeeded))
        return code;
    // It was stored, but not as it was evaluated: its results are anybody's guess.
    kl_log(KL_LOG_ERROR, "store", "a transaction came back changed server=%016llx seq=%llu",
           (unsigned long long)f->server, (unsigned long long)f->seq);
    kl_txn_reset(t);
    t->code = kl_error_set(&t->err, KL_EMAYBE, "etcdserver: request timed out");
    for (size_t i = f->row_at; i < f->row_at + f->row_n; i++)
        r->b->rows[i].op = NULL;
    return 0;
}

int kl_replay_batch(struct kl_store *s, struct kl_batch *b, struct kl_index *x)
{
    *x = (struct kl_index){kl_node_ref(s->view->root), ++s->gen};
    struct replay r = {.s = s, .b = b, .x = x};
    int code = 0;
    if (b->own) {
        struct kl_forwarded f = {.row_n = (uint32_t)b->nrows, .succeeded = b->own->body.succeeded};
        code = replay_txn(&r, &f, b->own);
    }
    for (size_t i = 0; !code && i < b->nforwarded; i++) {
        struct kl_forwarded *f = &b->forwarded[i];
        struct kl_txn *t = kl_forward_find(s, f);
        if (!t)
            continue;
        if (f->row_at < r.at || f->row_at > b->nrows || f->row_n > b->nrows - f->row_at) {
            f->row_at = (uint32_t)r.at;
            f->row_n = 0;
        }
        code = index_rows(&r, f->row_at);
        if (!code)
            code = replay_txn(&r, f, t);
    }
    if (!code)
        code = index_rows(&r, b->nrows);
    for (size_t i = 0; !code && i < b->nleases; i++)
        code = kl_lease_reserve(s, &b->leases[i]);
    for (size_t i = 0; code && i < b->nrows; i++)
        b->rows[i].op = NULL; // offered again, when the transaction may be gone
    return code;
}
