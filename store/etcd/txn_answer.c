// SPDX-License-Identifier: Apache-2.0
// Answers of Put, DeleteRange and Txn, written straight into what is sent. Sizes are worked out
// first, from the inside out, as each message carries its length.
#include "store/etcd/kv_int.h"

// Revisions as etcd reports them: operations before a transaction's first change see the one
// before it.
struct revs {
    kl_rev before, after;
    bool changed;
};

// ---- sizes

static size_t small_header_size(kl_rev rev)
{
    return 2 + kl_proto_int_size(rev);
}

static size_t put_size(const struct kl_etcd_op *op, const struct kl_op *did)
{
    return op->rq->request_put->prev_kv && did->prev ? kl_etcd_kv_field_size(did->prev, false) : 0;
}

static size_t delete_size(const struct kl_op *did, bool prev_kv)
{
    size_t n = kl_proto_int_size(did->count);
    if (!prev_kv)
        return n;
    if (did->prev)
        n += kl_etcd_kv_field_size(did->prev, false);
    for (size_t i = 0; i < did->nkvs; i++)
        n += kl_etcd_kv_field_size(did->kvs[i], false);
    return n;
}

// What a range found, wherever it was looked for.
struct found {
    struct kl_kv *const *kvs;
    size_t n;
    int64_t count;
    bool more, keys_only;
};

static struct found found_of(const struct kl_etcd_op *op, const struct kl_op *did)
{
    const struct kl_etcd_range_request *rq = op->rq->request_range;
    struct found f = {.keys_only = rq->keys_only};
    if (op->read) {
        f.kvs = op->read->kvs;
        f.n = op->read->n;
        f.count = op->read->count;
        f.more = op->read->more;
    } else {
        f.kvs = did->end.n ? did->kvs : &did->kv;
        f.n = did->end.n ? did->nkvs : did->kv != NULL;
        f.count = did->count;
        f.more = op->more;
    }
    if (rq->count_only)
        f.n = 0;
    return f;
}

// A walk over what a range found; an old revision's may have to be walked in its view.
struct walk {
    struct found f;
    struct kl_iter it;
    bool by_iter;
    size_t at;
};

static void start_walk(struct walk *w, const struct kl_etcd_op *op, const struct kl_op *did)
{
    w->f = found_of(op, did);
    w->at = 0;
    w->by_iter = op->read && !op->read->kvs && w->f.n;
    if (w->by_iter)
        kl_iter_init(&w->it, op->read->view, op->read->rq->key, op->read->rq->range_end);
}

static const struct kl_kv *next_kv(struct walk *w)
{
    if (w->at == w->f.n)
        return NULL;
    const struct kl_kv *kv = w->by_iter ? kl_iter_next(&w->it) : w->f.kvs[w->at];
    w->at++;
    return kv;
}

static size_t range_size(const struct kl_etcd_op *op, const struct kl_op *did)
{
    struct walk w;
    start_walk(&w, op, did);
    size_t n = (w.f.more ? 2 : 0) + kl_proto_int_size(w.f.count);
    for (const struct kl_kv *kv; (kv = next_kv(&w));)
        n += kl_etcd_kv_field_size(kv, w.f.keys_only);
    return n;
}

static const struct kl_op *done_of(const struct kl_etcd_txn_body *b, size_t i)
{
    return b->body->succeeded ? &b->body->then[i] : &b->body->els[i];
}

static struct kl_etcd_op *op_of(struct kl_etcd_txn_body *b, size_t i)
{
    return b->body->succeeded ? &b->then[i] : &b->els[i];
}

static size_t count_of(const struct kl_etcd_txn_body *b)
{
    return b->body->succeeded ? b->body->nthen : b->body->nels;
}

// TxnResponse without its header.
static void size_body(struct kl_etcd_txn_body *b, struct revs *r)
{
    b->size = b->body->succeeded ? 2 : 0;
    for (size_t i = 0; i < count_of(b); i++) {
        struct kl_etcd_op *op = op_of(b, i);
        const struct kl_op *did = done_of(b, i);
        if (did->kind == KL_OP_TXN) {
            size_body(op->txn, r);
            op->size = 2 + op->txn->size; // an empty header
        } else {
            r->changed |= did->kind == KL_OP_PUT || (did->kind == KL_OP_DELETE && did->count);
            op->size = small_header_size(r->changed ? r->after : r->before);
            op->size += did->kind == KL_OP_PUT ? put_size(op, did)
                        : did->kind == KL_OP_DELETE
                            ? delete_size(did, op->rq->request_delete_range->prev_kv)
                            : range_size(op, did);
        }
        b->size += kl_proto_message_size(kl_proto_message_size(op->size));
    }
}

// ---- writing

static void put_length(struct kl_grpc_out *o, int field, size_t n)
{
    char *p = kl_grpc_out_room(o, 12);
    if (p)
        kl_grpc_out_wrote(o, (size_t)(kl_proto_put_head(p, field, n) - p));
}

static void put_int(struct kl_grpc_out *o, int field, int64_t v)
{
    char *p = v ? kl_grpc_out_room(o, 12) : NULL;
    if (p)
        kl_grpc_out_wrote(o, (size_t)(kl_proto_put_int(p, field, v) - p));
}

static void put_small_header(struct kl_grpc_out *o, kl_rev rev)
{
    put_length(o, 1, kl_proto_int_size(rev));
    put_int(o, 3, rev);
}

static void put_deleted(struct kl_grpc_out *o, const struct kl_op *did, bool prev_kv)
{
    put_int(o, 2, did->count);
    if (prev_kv && did->prev)
        kl_etcd_put_kv(o, 3, did->prev, false);
    for (size_t i = 0; prev_kv && i < did->nkvs; i++)
        kl_etcd_put_kv(o, 3, did->kvs[i], false);
}

static void put_range(struct kl_grpc_out *o, const struct kl_etcd_op *op, const struct kl_op *did)
{
    struct walk w;
    start_walk(&w, op, did);
    for (const struct kl_kv *kv; (kv = next_kv(&w));)
        kl_etcd_put_kv(o, 2, kv, w.f.keys_only);
    put_int(o, 3, w.f.more);
    put_int(o, 4, w.f.count);
}

static void put_body(struct kl_grpc_out *o, struct kl_etcd_txn_body *b, struct revs *r)
{
    static const int fields[] = {
        [KL_OP_GET] = 1, [KL_OP_PUT] = 2, [KL_OP_DELETE] = 3, [KL_OP_TXN] = 4};
    put_int(o, 2, b->body->succeeded);
    for (size_t i = 0; i < count_of(b); i++) {
        struct kl_etcd_op *op = op_of(b, i);
        const struct kl_op *did = done_of(b, i);
        put_length(o, 3, kl_proto_message_size(op->size));
        put_length(o, fields[did->kind], op->size);
        if (did->kind == KL_OP_TXN) {
            put_length(o, 1, 0);
            put_body(o, op->txn, r);
            continue;
        }
        r->changed |= did->kind == KL_OP_PUT || (did->kind == KL_OP_DELETE && did->count);
        put_small_header(o, r->changed ? r->after : r->before);
        if (did->kind == KL_OP_PUT && op->rq->request_put->prev_kv && did->prev)
            kl_etcd_put_kv(o, 2, did->prev, false);
        else if (did->kind == KL_OP_DELETE)
            put_deleted(o, did, op->rq->request_delete_range->prev_kv);
        else if (did->kind == KL_OP_GET)
            put_range(o, op, did);
    }
}

void kl_etcd_answer_txn(struct kl_grpc_rpc *c, struct kl_etcd_txn_body *b, const struct kl_txn *txn)
{
    const struct kl_etcd *e = kl_etcd_of(c);
    struct revs r = {txn->rev - txn->row_n, txn->rev, false};
    struct revs again = r;
    size_body(b, &r);
    size_t size = kl_etcd_header_size(e, txn->rev) + b->size;
    if (!kl_grpc_rpc_fits(c, size))
        return;
    struct kl_grpc_out o;
    kl_grpc_out_init(&o, size + 64);
    kl_etcd_put_full_header(&o, e, txn->rev);
    put_body(&o, b, &again);
    kl_grpc_rpc_reply(c, &o);
}

void kl_etcd_answer_put(struct kl_grpc_rpc *c, const struct kl_op *op, bool prev_kv, kl_rev rev)
{
    struct kl_grpc_out o;
    prev_kv = prev_kv && op->prev;
    kl_grpc_out_init(&o, 64 + (prev_kv ? kl_etcd_kv_size(op->prev, false) : 0));
    kl_etcd_put_full_header(&o, kl_etcd_of(c), rev);
    if (prev_kv)
        kl_etcd_put_kv(&o, 2, op->prev, false);
    kl_grpc_rpc_reply(c, &o);
}

void kl_etcd_answer_delete(struct kl_grpc_rpc *c, const struct kl_op *op, bool prev_kv, kl_rev rev)
{
    size_t size = delete_size(op, prev_kv);
    if (!kl_grpc_rpc_fits(c, size))
        return;
    struct kl_grpc_out o;
    kl_grpc_out_init(&o, 64 + size);
    kl_etcd_put_full_header(&o, kl_etcd_of(c), rev);
    put_deleted(&o, op, prev_kv);
    kl_grpc_rpc_reply(c, &o);
}
