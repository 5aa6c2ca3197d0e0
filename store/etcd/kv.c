// SPDX-License-Identifier: Apache-2.0
// KV.Put, DeleteRange, Txn and Compact: each is a transaction of the store.
#include "store/etcd/kv_int.h"

struct kv_call {
    struct kl_grpc_rpc *rpc; // a reference
    struct kl_etcd_loop *l;
    struct kl_txn txn;
    struct kl_etcd_waiting waiting;
    struct kl_op one;     // Put, DeleteRange
    bool prev_kv, is_txn; // of the one; Txn
    struct kl_etcd_txn_body root;
    int reads; // ranges at old revisions that have not ended
    int read_code;
    struct kl_error read_err;
};

static size_t cost_of_put(const struct kl_etcd_put_request *rq)
{
    return KL_ETCD_KV_COST + rq->key.n + rq->value.n;
}

static size_t cost_of_ops(const struct kl_etcd_request_op *ops, size_t n)
{
    size_t cost = 0;
    for (size_t i = 0; i < n; i++)
        cost += ops[i].request_put ? cost_of_put(ops[i].request_put) : 0;
    return cost;
}

// The dearer side. Nested ones are not looked into, as in etcd.
static size_t cost_of_txn(const struct kl_etcd_txn_request *rq)
{
    size_t then = cost_of_ops(rq->success, rq->n_success);
    size_t els = cost_of_ops(rq->failure, rq->n_failure);
    return then > els ? then : els;
}

// etcd measures the raft entry that it makes of a request: an id in a header, the request in a
// field.
static bool too_large(struct kl_grpc_rpc *c, size_t n)
{
    if (n + 15 + kl_proto_varint_size(n) <= kl_etcd_of(c)->o.max_request_bytes)
        return false;
    kl_etcd_fail(c, KL_ETOOLARGE, NULL);
    return true;
}

static bool refused(struct kl_grpc_rpc *c, const char *wrong)
{
    if (wrong)
        kl_etcd_fail_grpc(c, KL_GRPC_INVALID_ARGUMENT, wrong);
    return wrong != NULL;
}

// ---- building

static int build_put(struct kl_arena *a, struct kl_op *op, const struct kl_etcd_put_request *rq)
{
    op->kind = KL_OP_PUT;
    op->key = kl_arena_dup(a, rq->key);
    op->lease = rq->lease;
    op->ignore_value = rq->ignore_value;
    op->ignore_lease = rq->ignore_lease;
    if (!op->key.p)
        return KL_ENOMEM;
    if (rq->ignore_value)
        return 0;
    op->value = kl_bytes_new(rq->value);
    return op->value ? 0 : KL_ENOMEM;
}

static int build_delete(struct kl_arena *a, struct kl_op *op,
                        const struct kl_etcd_delete_range_request *rq)
{
    op->kind = KL_OP_DELETE;
    op->count_only = !rq->prev_kv;
    op->key = kl_arena_dup(a, rq->key);
    op->end = kl_arena_dup(a, rq->range_end);
    return op->key.p && op->end.p ? 0 : KL_ENOMEM;
}

// What is to be read at an old revision is read afterwards: here its place is kept and, as in etcd,
// the transaction fails when it cannot be.
static int build_range(struct kl_arena *a, struct kl_op *op, struct kl_etcd_range_request *rq)
{
    op->kind = KL_OP_GET;
    rq->key = kl_arena_dup(a, rq->key); // the request outlives the message it points into
    rq->range_end = kl_arena_dup(a, rq->range_end);
    if (!rq->key.p || !rq->range_end.p)
        return KL_ENOMEM;
    op->key = rq->key;
    op->end = rq->revision > 0 ? KL_STR("") : rq->range_end;
    op->at_rev = rq->revision;
    op->limit = rq->count_only ? 1 : kl_etcd_range_is_plain(rq) ? rq->limit : 0;
    return 0;
}

static int build_txn(struct kl_arena *a, struct kl_etcd_txn_body *b,
                     const struct kl_etcd_txn_request *rq);

static int build_op(struct kl_arena *a, struct kl_etcd_op *op, struct kl_op *to,
                    const struct kl_etcd_request_op *rq)
{
    op->rq = rq;
    if (rq->request_range)
        return build_range(a, to, rq->request_range);
    if (rq->request_put)
        return build_put(a, to, rq->request_put);
    if (rq->request_delete_range)
        return build_delete(a, to, rq->request_delete_range);
    to->kind = KL_OP_TXN;
    to->txn = KL_ARENA_NEW(a, struct kl_txn_body);
    op->txn = KL_ARENA_NEW(a, struct kl_etcd_txn_body);
    if (!to->txn || !op->txn)
        return KL_ENOMEM;
    op->txn->body = to->txn;
    return build_txn(a, op->txn, rq->request_txn);
}

// Of targets and results that it does not know etcd says: equal, and true.
static void fix_compare(struct kl_compare *c, bool holds)
{
    c->target = KL_COMPARE_VERSION;
    c->result = holds ? KL_COMPARE_GT : KL_COMPARE_LT;
    c->num = holds ? -1 : 0;
}

static int build_compares(struct kl_arena *a, struct kl_compare *to,
                          const struct kl_etcd_compare *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct kl_etcd_compare *c = &from[i];
        to[i].key = kl_arena_dup(a, c->key);
        to[i].end = kl_arena_dup(a, c->range_end);
        to[i].target = (enum kl_compare_target)c->target;
        to[i].result = (enum kl_compare_result)c->result;
        if (!to[i].key.p || !to[i].end.p)
            return KL_ENOMEM;
        switch (c->target) {
        case KL_ETCD_COMPARE_COMPARE_TARGET_VERSION:
            to[i].num = c->version;
            break;
        case KL_ETCD_COMPARE_COMPARE_TARGET_CREATE:
            to[i].num = c->create_revision;
            break;
        case KL_ETCD_COMPARE_COMPARE_TARGET_MOD:
            to[i].num = c->mod_revision;
            break;
        case KL_ETCD_COMPARE_COMPARE_TARGET_LEASE:
            to[i].num = c->lease;
            break;
        case KL_ETCD_COMPARE_COMPARE_TARGET_VALUE:
            if (!(to[i].value = kl_arena_dup(a, c->value)).p)
                return KL_ENOMEM;
            break;
        default:
            fix_compare(&to[i], c->result == KL_ETCD_COMPARE_COMPARE_RESULT_EQUAL);
        }
        if (c->result < 0 || c->result > KL_ETCD_COMPARE_COMPARE_RESULT_NOT_EQUAL)
            fix_compare(&to[i], true);
    }
    return 0;
}

static int build_txn(struct kl_arena *a, struct kl_etcd_txn_body *b,
                     const struct kl_etcd_txn_request *rq)
{
    struct kl_txn_body *body = b->body;
    struct kl_compare *compares = kl_arena_zalloc(a, (rq->n_compare + 1) * sizeof(*compares));
    body->then = kl_arena_zalloc(a, (rq->n_success + 1) * sizeof(*body->then));
    body->els = kl_arena_zalloc(a, (rq->n_failure + 1) * sizeof(*body->els));
    b->then = kl_arena_zalloc(a, (rq->n_success + 1) * sizeof(*b->then));
    b->els = kl_arena_zalloc(a, (rq->n_failure + 1) * sizeof(*b->els));
    if (!compares || !body->then || !body->els || !b->then || !b->els)
        return KL_ENOMEM;
    int rc = build_compares(a, compares, rq->compare, rq->n_compare);
    body->compares = compares;
    body->ncompares = rq->n_compare;
    // Counted one by one, so that free_values finds what was made.
    for (; body->nthen < rq->n_success && !rc; body->nthen++)
        rc =
            build_op(a, &b->then[body->nthen], &body->then[body->nthen], &rq->success[body->nthen]);
    for (; body->nels < rq->n_failure && !rc; body->nels++)
        rc = build_op(a, &b->els[body->nels], &body->els[body->nels], &rq->failure[body->nels]);
    return rc;
}

static void free_values(struct kl_txn_body *body)
{
    for (int side = 0; side < 2; side++) {
        struct kl_op *ops = side ? body->els : body->then;
        size_t n = side ? body->nels : body->nthen;
        for (size_t i = 0; i < n; i++) {
            kl_bytes_unref(ops[i].value);
            ops[i].value = NULL;
            if (ops[i].txn)
                free_values(ops[i].txn);
        }
    }
}

// ---- the end

static void fini_reads(struct kl_etcd_txn_body *b)
{
    for (int side = 0; side < 2; side++) {
        struct kl_etcd_op *ops = side ? b->els : b->then;
        size_t n = side ? b->body->nels : b->body->nthen;
        for (size_t i = 0; ops && i < n; i++) {
            if (ops[i].read)
                kl_etcd_read_fini(ops[i].read);
            if (ops[i].txn)
                fini_reads(ops[i].txn);
        }
    }
}

static void end_call(struct kv_call *call)
{
    free_values(&call->txn.body);
    kl_txn_fini(&call->txn);
    if (call->is_txn)
        fini_reads(&call->root);
    kl_grpc_rpc_unref(call->rpc);
}

static void answer(struct kv_call *call)
{
    struct kl_grpc_rpc *c = call->rpc;
    if (call->read_code)
        kl_etcd_fail(c, call->read_code, &call->read_err);
    else if (call->is_txn)
        kl_etcd_answer_txn(c, &call->root, &call->txn);
    else if (call->one.kind == KL_OP_PUT)
        kl_etcd_answer_put(c, &call->one, call->prev_kv, call->txn.rev);
    else
        kl_etcd_answer_delete(c, &call->one, call->prev_kv, call->txn.rev);
    end_call(call);
}

static void read_done(struct kl_etcd_read *rd)
{
    struct kv_call *call = rd->arg;
    if (rd->code && !call->read_code) {
        call->read_code = rd->code;
        call->read_err = rd->err;
    }
    kl_etcd_read_keep(rd);
    if (--call->reads == 0)
        answer(call);
}

static void start_read(struct kv_call *call, struct kl_etcd_op *op)
{
    struct kl_etcd_read *rd = KL_ARENA_NEW(kl_grpc_rpc_arena(call->rpc), struct kl_etcd_read);
    if (!rd) {
        call->read_code = KL_ENOMEM;
        return;
    }
    *rd = (struct kl_etcd_read){.l = call->l,
                                .rpc = call->rpc,
                                .rq = op->rq->request_range,
                                .done = read_done,
                                .arg = call,
                                .hold = true};
    op->read = rd;
    call->reads++;
    kl_etcd_read_start(rd);
}

// Of the sides that ran: what must still be read, and what a filter or an order leaves.
static void finish_ranges(struct kv_call *call, struct kl_etcd_txn_body *b)
{
    bool then = b->body->succeeded;
    struct kl_op *ops = then ? b->body->then : b->body->els;
    struct kl_etcd_op *asked = then ? b->then : b->els;
    size_t n = then ? b->body->nthen : b->body->nels;
    for (size_t i = 0; i < n; i++) {
        const struct kl_etcd_range_request *rq = asked[i].rq->request_range;
        if (ops[i].kind == KL_OP_TXN)
            finish_ranges(call, asked[i].txn);
        if (ops[i].kind != KL_OP_GET)
            continue;
        if (rq->revision > 0)
            start_read(call, &asked[i]);
        else if (kl_etcd_range_is_plain(rq))
            asked[i].more = !rq->count_only && rq->limit > 0 && ops[i].count > rq->limit;
        else if (!rq->count_only && ops[i].end.n)
            kl_etcd_read_refine(rq, ops[i].kvs, &ops[i].nkvs, &asked[i].more);
        else if (!rq->count_only && ops[i].kv) {
            size_t one = 1;
            kl_etcd_read_refine(rq, &ops[i].kv, &one, &asked[i].more);
            if (!one)
                ops[i].kv = NULL;
        }
    }
}

static void txn_done(struct kl_txn *txn)
{
    struct kv_call *call = KL_CONTAINER_OF(txn, struct kv_call, txn);
    kl_etcd_waiting_end(&call->waiting);
    if (txn->code || kl_grpc_rpc_closed(call->rpc)) {
        kl_etcd_fail(call->rpc, txn->code, &txn->err);
        end_call(call);
        return;
    }
    call->reads = 1; // this function
    if (call->is_txn)
        finish_ranges(call, &call->root);
    if (--call->reads == 0)
        answer(call);
}

static struct kv_call *new_call(struct kl_grpc_rpc *c, struct kl_etcd_loop *l)
{
    struct kv_call *call = KL_ARENA_NEW(kl_grpc_rpc_arena(c), struct kv_call);
    if (!call) {
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return NULL;
    }
    call->rpc = kl_grpc_rpc_ref(c);
    call->l = l;
    call->root.body = &call->txn.body;
    call->txn.cb = txn_done;
    return call;
}

static void submit(struct kv_call *call, int rc)
{
    struct kl_error err = {0};
    if (!rc)
        rc = kl_store_submit(call->l->etcd->store, &call->txn, &err);
    if (!rc) {
        kl_etcd_waiting_begin(call->l, &call->waiting, call->rpc);
        return;
    }
    kl_etcd_fail(call->rpc, rc, &err);
    end_call(call);
}

// ---- calls

static void put(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_put_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_put_request_desc, msg) : NULL;
    if (!rq || kl_etcd_is_over_quota(c, cost_of_put(rq)) || refused(c, kl_etcd_check_put(rq)) ||
        too_large(c, msg.n) || kl_etcd_is_corrupt(c) || kl_etcd_is_capped(c))
        return;
    struct kv_call *call = new_call(c, l);
    if (!call)
        return;
    call->prev_kv = rq->prev_kv;
    call->txn.body.then = &call->one;
    call->txn.body.nthen = 1;
    submit(call, build_put(kl_grpc_rpc_arena(c), &call->one, rq));
}

static void delete_range(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_delete_range_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_delete_range_request_desc, msg) : NULL;
    if (!rq || refused(c, kl_etcd_check_delete(rq)) || too_large(c, msg.n) || kl_etcd_is_corrupt(c))
        return;
    struct kv_call *call = new_call(c, l);
    if (!call)
        return;
    call->prev_kv = rq->prev_kv;
    call->txn.body.then = &call->one;
    call->txn.body.nthen = 1;
    submit(call, build_delete(kl_grpc_rpc_arena(c), &call->one, rq));
}

enum { WRITES = 1, PUTS = 2 };

static unsigned traits_of(const struct kl_etcd_request_op *ops, size_t n)
{
    unsigned t = 0;
    for (size_t i = 0; i < n; i++) {
        const struct kl_etcd_request_op *op = &ops[i];
        if (op->request_range)
            continue;
        if (op->request_txn)
            t |= WRITES | traits_of(op->request_txn->success, op->request_txn->n_success) |
                 traits_of(op->request_txn->failure, op->request_txn->n_failure);
        else
            t |= op->request_put ? WRITES | PUTS : WRITES;
    }
    return t;
}

static void txn(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_txn_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_txn_request_desc, msg) : NULL;
    if (!rq || kl_etcd_is_over_quota(c, cost_of_txn(rq)) ||
        refused(c, kl_etcd_check_txn(rq, l->etcd->o.max_txn_ops)))
        return;
    struct kl_arena *a = kl_grpc_rpc_arena(c);
    unsigned traits = traits_of(rq->success, rq->n_success) | traits_of(rq->failure, rq->n_failure);
    if ((traits & WRITES && too_large(c, msg.n)) || kl_etcd_is_corrupt(c) ||
        (traits & PUTS && kl_etcd_is_capped(c)))
        return;
    struct kv_call *call = new_call(c, l);
    if (!call)
        return;
    call->is_txn = true;
    submit(call, build_txn(a, &call->root, rq));
}

struct compact_call {
    struct kl_grpc_rpc *rpc; // a reference
    struct kl_etcd_loop *l;
    struct kl_compact_wait wait;
    struct kl_etcd_waiting waiting;
};

static void compacted(struct kl_compact_wait *w)
{
    struct compact_call *call = KL_CONTAINER_OF(w, struct compact_call, wait);
    struct kl_grpc_rpc *c = call->rpc;
    kl_etcd_waiting_end(&call->waiting);
    if (w->code || kl_grpc_rpc_closed(c)) {
        kl_etcd_fail(c, w->code, &w->err);
    } else {
        struct kl_etcd_response_header h = kl_etcd_header(call->l->etcd, kl_etcd_rev(call->l));
        kl_etcd_reply(c, &kl_etcd_compaction_response_desc,
                      &(struct kl_etcd_compaction_response){.header = &h});
    }
    kl_grpc_rpc_unref(c);
}

static void compact(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_error err = {0};
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_compaction_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_compaction_request_desc, msg) : NULL;
    if (!rq || kl_etcd_is_corrupt(c))
        return;
    struct compact_call *call = KL_ARENA_NEW(kl_grpc_rpc_arena(c), struct compact_call);
    if (!call) {
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return;
    }
    call->rpc = kl_grpc_rpc_ref(c);
    call->l = l;
    call->wait =
        (struct kl_compact_wait){.rev = rq->revision, .physical = rq->physical, .cb = compacted};
    int rc = kl_store_compact(l->etcd->store, &call->wait, &err);
    if (!rc) {
        if (!rq->physical) // that may take long
            kl_etcd_waiting_begin(l, &call->waiting, c);
        return;
    }
    kl_etcd_fail(c, rc, &err);
    kl_grpc_rpc_unref(c);
}

const struct kl_grpc_method kl_etcd_kv_methods[] = {
    {.path = "/etcdserverpb.KV/Txn", .message = txn},
    {.path = "/etcdserverpb.KV/Range", .message = kl_etcd_range},
    {.path = "/etcdserverpb.KV/Put", .message = put},
    {.path = "/etcdserverpb.KV/DeleteRange", .message = delete_range},
    {.path = "/etcdserverpb.KV/Compact", .message = compact},
    {.path = NULL},
};
