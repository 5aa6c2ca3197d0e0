// SPDX-License-Identifier: Apache-2.0
// The evaluator: runs a transaction on the speculative index and puts its writes into the batch
// that is filling. Semantics are etcd's (server/etcdserver/txn): all compares of all nested
// transactions first, then the operations in order.
#include "store/store_int.h"
#include "store/view_int.h"
#include <stdlib.h>

enum { DELETE_STEP = 64 };

struct eval {
    struct kl_store *s;
    const struct kl_index *x; // what is read: s->spec, or a state of its own
    struct kl_batch *b;
    bool wrote, depends; // on what is not durable
    bool sliced;         // goes on in the next turn of the loop when this one is used up
};

// ---- reading the speculative state ----

static struct kl_kv *read_key(struct eval *e, struct kl_str key)
{
    struct kl_store *s = e->s;
    struct kl_kv *kv = kl_node_get(e->x->root, key);
    if (e->x != &s->spec)
        return kv;
    if (kv ? kv->mod_rev > s->view->rev
           : s->spec.root != s->view->root && kl_node_get(s->view->root, key))
        e->depends = true;
    return kv;
}

static void read_range(struct eval *e, struct kl_iter *it, struct kl_str key, struct kl_str end)
{
    if (e->x == &e->s->spec && e->x->root != e->s->view->root)
        e->depends = true;
    kl_iter_init_node(it, e->x->root, key, end);
}

static bool compare_kv(const struct kl_compare *c, const struct kl_kv *kv)
{
    int64_t have = 0;
    int order;
    if (c->target == KL_COMPARE_VALUE) {
        if (!kv)
            return false;
        order = kl_str_cmp(kl_kv_value(kv), c->value);
    } else {
        if (kv) {
            have = c->target == KL_COMPARE_VERSION  ? kv->version
                   : c->target == KL_COMPARE_CREATE ? kv->create_rev
                   : c->target == KL_COMPARE_MOD    ? kv->mod_rev
                                                    : kv->lease;
        }
        order = (have > c->num) - (have < c->num);
    }
    switch (c->result) {
    case KL_COMPARE_EQ:
        return order == 0;
    case KL_COMPARE_GT:
        return order > 0;
    case KL_COMPARE_LT:
        return order < 0;
    default:
        return order != 0;
    }
}

// How many of `rows` more there is time for.
static int64_t take_turn(struct eval *e, int64_t rows)
{
    int64_t left = (int64_t)kl_turn_left(e->s);
    if (e->sliced && rows > left)
        rows = left;
    kl_turn_take(e->s, (size_t)rows);
    return rows;
}

// From where the last slice ended.
static int compare_range(struct eval *e, const struct kl_compare *c, struct kl_txn_body *body)
{
    struct kl_iter it;
    int64_t first, all;
    read_range(e, &it, c->key, c->end);
    if (!it.left) {
        body->succeeded = compare_kv(c, NULL);
        return 0;
    }
    int64_t left = it.left - body->compared_keys, n = take_turn(e, left);
    kl_node_range(e->x->root, c->key, c->end, &first, &all);
    kl_iter_init_rank(&it, e->x->root, first + body->compared_keys, n);
    body->compared_keys += n;
    for (struct kl_kv *kv; body->succeeded && (kv = kl_iter_next(&it));)
        body->succeeded = compare_kv(c, kv);
    if (body->succeeded && n < left)
        return KL_EAGAIN;
    body->compared_keys = 0;
    return 0;
}

// What is to be chosen for the first time, or anew.
static void begin_body(struct kl_txn_body *body)
{
    body->succeeded = true;
    body->chosen = false;
    body->compared = 0;
    body->compared_keys = 0;
}

static int choose_side(struct eval *e, struct kl_txn_body *body)
{
    while (body->compared < body->ncompares && body->succeeded) {
        const struct kl_compare *c = &body->compares[body->compared];
        if (!c->end.n)
            body->succeeded = compare_kv(c, read_key(e, c->key));
        else if (compare_range(e, c, body))
            return KL_EAGAIN;
        body->compared++;
    }
    body->chosen = true;
    struct kl_op *ops = body->succeeded ? body->then : body->els;
    size_t n = body->succeeded ? body->nthen : body->nels;
    for (size_t i = 0; i < n; i++) {
        ops[i].done = 0;
        if (ops[i].kind == KL_OP_TXN)
            begin_body(ops[i].txn);
    }
    return 0;
}

// KL_EAGAIN: the rest in the next turn, on the same state.
static int choose_sides(struct eval *e, struct kl_txn_body *body)
{
    int r = body->chosen ? 0 : choose_side(e, body);
    struct kl_op *ops = body->succeeded ? body->then : body->els;
    size_t n = body->succeeded ? body->nthen : body->nels;
    for (size_t i = 0; !r && i < n; i++)
        r = ops[i].kind == KL_OP_TXN ? choose_sides(e, ops[i].txn) : 0;
    return r;
}

void kl_eval_begin(struct kl_txn_body *body)
{
    begin_body(body);
}

int kl_eval_sides(struct kl_store *s, const struct kl_index *x, bool sliced,
                  struct kl_txn_body *body)
{
    struct eval e = {.s = s, .x = x, .sliced = sliced};
    return choose_sides(&e, body);
}

// Whether the sides that were chosen change anything.
static bool would_write(struct eval *e, const struct kl_txn_body *body)
{
    const struct kl_op *ops = body->succeeded ? body->then : body->els;
    size_t n = body->succeeded ? body->nthen : body->nels;
    for (size_t i = 0; i < n; i++) {
        struct kl_iter it = {.left = 0};
        if (ops[i].kind == KL_OP_PUT || (ops[i].kind == KL_OP_TXN && would_write(e, ops[i].txn)))
            return true;
        if (ops[i].kind == KL_OP_DELETE)
            read_range(e, &it, ops[i].key, ops[i].end);
        if (it.left)
            return true;
    }
    return false;
}

// ---- what must hold before anything is changed ----

static int admit_put(struct eval *e, const struct kl_op *op, struct kl_error *err)
{
    struct kl_store *s = e->s;
    const struct kl_kv *old =
        op->ignore_value || op->ignore_lease || s->full ? read_key(e, op->key) : NULL;
    if (op->lease && !kl_lease_usable(s, op->lease))
        return kl_error_set(err, KL_ENOTFOUND, "etcdserver: requested lease not found");
    if ((op->ignore_value || op->ignore_lease) && !old)
        return kl_error_set(err, KL_EBADREQUEST, "etcdserver: key not found");
    if (!s->full)
        return 0;
    size_t n = op->value ? op->value->n : 0;
    if (!old || n > kl_kv_value(old).n + KL_FULL_GROWTH_BYTES || s->full_budget < (int64_t)n)
        return kl_error_set(err, KL_ENOSPC,
                            "%.*s: no space left on the datastore's disk; until there is, only "
                            "deletions and updates that do not grow are stored",
                            KL_PRI(op->key));
    s->full_budget -= (int64_t)n;
    return 0;
}

// etcd's checkRange: without a compaction -1 is what everything is compacted to.
static int admit_get(const struct eval *e, const struct kl_op *op, struct kl_error *err)
{
    const struct kl_view *v = e->s->view;
    if (op->at_rev > v->rev)
        return kl_error_set(err, KL_EFUTUREREV,
                            "etcdserver: mvcc: required revision is a future "
                            "revision");
    if (op->at_rev && op->at_rev < (v->compact_rev ? v->compact_rev : -1))
        return kl_error_set(err, KL_ECOMPACTED,
                            "etcdserver: mvcc: required revision has been compacted");
    return 0;
}

static int admit_body(struct eval *e, const struct kl_txn_body *body, struct kl_error *err)
{
    const struct kl_op *ops = body->succeeded ? body->then : body->els;
    size_t n = body->succeeded ? body->nthen : body->nels;
    for (size_t i = 0; i < n; i++) {
        int r = 0;
        if (ops[i].kind == KL_OP_TXN)
            r = admit_body(e, ops[i].txn, err);
        else if (ops[i].kind == KL_OP_PUT)
            r = admit_put(e, &ops[i], err);
        else if (ops[i].kind == KL_OP_GET)
            r = admit_get(e, &ops[i], err);
        if (r)
            return r;
    }
    return 0;
}

// ---- running ----

static int need_batch(struct eval *e)
{
    struct kl_store *s = e->s;
    e->wrote = true;
    if (kl_commit_need_fill(s))
        return KL_ENOMEM;
    e->b = s->fill;
    return 0;
}

// Takes kv's reference.
static int add_write(struct eval *e, struct kl_op *op, struct kl_kv *kv, struct kl_kv *prev)
{
    struct kl_row *row;
    bool found;
    if (!kv || need_batch(e) || kl_batch_row(e->b, &row)) {
        kl_kv_unref(kv);
        return KL_ENOMEM;
    }
    kv->hooks = e->s->o.hooks;
    kl_kv_charge(kv, e->s->evict.home);
    kl_fence_note(e->s, kv);
    *row = (struct kl_row){.kv = kv, .prev = kl_kv_ref(prev), .op = op};
    e->b->bytes += kv->key_len + kl_kv_value(kv).n + 64;
    e->b->ndeletes += kv->deleted;
    if (!kv->deleted)
        e->b->put_bytes += (int64_t)(kv->key_len + kl_kv_value(kv).n);
    if (kv->lease) {
        e->s->leases.unapplied_puts++;
        e->b->nleased++;
    }
    return kv->deleted ? kl_index_del(&e->s->spec, kl_kv_key(kv), &found)
                       : kl_index_put(&e->s->spec, kv);
}

static int run_put(struct eval *e, struct kl_op *op)
{
    if (!take_turn(e, 1))
        return KL_EAGAIN;
    struct kl_kv *prev = read_key(e, op->key);
    struct kl_kv *kv = kl_kv_new(op->key, op->ignore_value ? prev->value : op->value);
    if (!kv)
        return KL_ENOMEM;
    kv->lease = op->ignore_lease ? prev->lease : op->lease;
    kv->version = prev ? prev->version + 1 : 1;
    kv->create_rev = prev ? prev->create_rev : 0; // 0: this transaction's revision, set at its end
    op->kv = kl_kv_ref(kv);
    op->prev = kl_kv_ref(prev);
    return add_write(e, op, kv, prev);
}

static int delete_key(struct eval *e, struct kl_op *op, struct kl_kv *prev)
{
    struct kl_kv *kv = kl_kv_new(kl_kv_key(prev), NULL);
    if (kv)
        kv->deleted = true;
    return add_write(e, op, kv, prev);
}

// The first n keys that are left of the range.
static int delete_some(struct eval *e, struct kl_op *op, int n)
{
    struct kl_kv *kvs[DELETE_STEP];
    struct kl_iter it;
    int r = 0;
    kl_iter_init_node(&it, e->x->root, op->key, op->end);
    for (int i = 0; i < n; i++)
        kvs[i] = kl_kv_ref(kl_iter_next(&it));
    for (int i = 0; i < n; i++) {
        if (!r)
            r = delete_key(e, op, kvs[i]);
        if (op->count_only)
            kl_kv_unref(kvs[i]);
        else
            op->kvs[op->nkvs++] = kvs[i];
    }
    return r;
}

static int delete_range(struct eval *e, struct kl_op *op)
{
    struct kl_iter it;
    read_range(e, &it, op->key, op->end);
    if (op->done != KL_OP_BEGUN) {
        op->count = it.left;
        op->kvs = it.left && !op->count_only ? malloc((size_t)it.left * sizeof(*op->kvs)) : NULL;
        if (it.left && !op->count_only && !op->kvs)
            return KL_ENOMEM;
        op->done = KL_OP_BEGUN;
    }
    int r = 0;
    while (!r && it.left) {
        int64_t n = take_turn(e, it.left < DELETE_STEP ? it.left : DELETE_STEP);
        r = n ? delete_some(e, op, (int)n) : KL_EAGAIN;
        it.left -= n;
    }
    return r;
}

static int run_delete(struct eval *e, struct kl_op *op)
{
    if (!op->end.n) {
        op->prev = kl_kv_ref(read_key(e, op->key));
        op->count = op->prev != NULL;
        return op->prev ? delete_key(e, op, op->prev) : 0;
    }
    return delete_range(e, op);
}

// From where the last slice ended: nothing else writes meanwhile.
static int get_range(struct eval *e, struct kl_op *op)
{
    struct kl_iter it;
    if (op->done != KL_OP_BEGUN) {
        read_range(e, &it, op->key, op->end);
        op->count = it.left;
        int64_t n = op->limit > 0 && op->limit < it.left ? op->limit : it.left;
        op->kvs = n ? malloc((size_t)n * sizeof(*op->kvs)) : NULL;
        if (!op->kvs)
            return n ? KL_ENOMEM : 0;
        op->done = KL_OP_BEGUN;
    }
    int64_t first, all, most = op->limit > 0 && op->limit < op->count ? op->limit : op->count;
    int64_t left = most - (int64_t)op->nkvs, n = take_turn(e, left);
    kl_node_range(e->x->root, op->key, op->end, &first, &all);
    kl_iter_init_rank(&it, e->x->root, first + (int64_t)op->nkvs, n);
    for (struct kl_kv *kv; (kv = kl_iter_next(&it));)
        op->kvs[op->nkvs++] = kl_kv_ref(kv);
    return n < left ? KL_EAGAIN : 0;
}

static int run_get(struct eval *e, struct kl_op *op)
{
    if (op->end.n)
        return get_range(e, op);
    op->kv = kl_kv_ref(read_key(e, op->key));
    op->count = op->kv != NULL;
    return 0;
}

int kl_eval_get(struct kl_store *s, const struct kl_index *x, bool sliced, struct kl_op *op)
{
    struct eval e = {.s = s, .x = x, .sliced = sliced};
    return run_get(&e, op);
}

static int run_body(struct eval *e, struct kl_txn_body *body)
{
    struct kl_op *ops = body->succeeded ? body->then : body->els;
    size_t n = body->succeeded ? body->nthen : body->nels;
    int r = 0;
    for (size_t i = 0; !r && i < n; i++) {
        if (ops[i].done == KL_OP_DONE)
            continue;
        switch (ops[i].kind) {
        case KL_OP_PUT:
            r = run_put(e, &ops[i]);
            break;
        case KL_OP_DELETE:
            r = run_delete(e, &ops[i]);
            break;
        case KL_OP_GET:
            r = run_get(e, &ops[i]);
            break;
        case KL_OP_TXN:
            r = run_body(e, ops[i].txn);
            break;
        }
        if (!r)
            ops[i].done = KL_OP_DONE;
    }
    return r;
}

static void number_some(struct kl_batch *b, size_t from, size_t end, kl_rev rev)
{
    for (size_t i = from; i < end; i++) {
        struct kl_kv *kv = b->rows[i].kv;
        kv->id = b->base_rev + (kl_rev)i + 1;
        kv->mod_rev = rev;
        if (!kv->deleted && !kv->create_rev)
            kv->create_rev = rev;
    }
}

// All keys of a transaction report its last id.
static int number_rows(struct eval *e, struct kl_txn *txn)
{
    struct kl_batch *b = e->b;
    struct kl_slice *sl = &e->s->slice;
    kl_rev rev = b->base_rev + (kl_rev)b->nrows;
    size_t n = b->nrows - txn->row_at;
    if (e->sliced && n > KL_TURN_ROWS) {
        size_t from = sl->at > txn->row_at ? sl->at : txn->row_at;
        sl->at = from + (size_t)take_turn(e, (int64_t)(b->nrows - from));
        number_some(b, from, sl->at, rev);
        if (sl->at < b->nrows)
            return KL_EAGAIN;
    } else {
        number_some(b, txn->row_at, b->nrows, rev);
    }
    txn->row_n = (uint32_t)n;
    txn->rev = rev;
    return 0;
}

static enum kl_eval run_txn(struct eval *e, struct kl_txn *txn)
{
    struct kl_store *s = e->s;
    if (!txn->code) {
        int r = run_body(e, &txn->body);
        if (!r && e->wrote)
            r = number_rows(e, txn);
        if (r == KL_EAGAIN) {
            s->slice.depends = e->depends;
            return KL_EVAL_MORE;
        }
        if (r)
            return KL_EVAL_NOMEM;
        if (e->wrote)
            return KL_EVAL_BATCH;
    }
    // It wrote nothing, so it is a read: of what is durable, at a head that was true after it came.
    txn->rev = s->view->rev;
    // What fills is proposed later still, on the head of then. What is in flight may have been the
    // head, and another server's batch on top of it, before this came.
    bool certain = !s->ops->confirm_head || txn->confirmed, fills = kl_commit_has_writes(s->fill);
    // What was in flight when it was begun may be durable by now.
    if (e->depends && (fills || (certain && s->inflight)))
        return KL_EVAL_WAIT;
    return certain ? KL_EVAL_ANSWER : KL_EVAL_HEAD;
}

// Chooses sides, then runs it.
static enum kl_eval begin_txn(struct eval *e, struct kl_txn *txn)
{
    struct kl_store *s = e->s;
    if (choose_sides(e, &txn->body)) {
        s->slice.depends = e->depends;
        return KL_EVAL_MORE;
    }
    s->slice.choosing = false;
    if (txn->read_here && would_write(e, &txn->body))
        return KL_EVAL_ELSEWHERE;
    txn->code = admit_body(e, &txn->body, &txn->err);
    txn->row_at = s->fill ? (uint32_t)s->fill->nrows : 0;
    s->slice.at = 0;
    return run_txn(e, txn);
}

enum kl_eval kl_eval_txn(struct kl_store *s, struct kl_txn *txn)
{
    struct eval e = {.s = s, .x = &s->spec, .sliced = txn->internal == KL_WORK_TXN};
    if (txn->replayed) // by a batch that was dropped before it was whole
        kl_txn_reset(txn);
    txn->code = 0;
    txn->row_n = 0;
    begin_body(&txn->body);
    s->slice.choosing = true;
    return begin_txn(&e, txn);
}

enum kl_eval kl_eval_go_on(struct kl_store *s, struct kl_txn *txn)
{
    struct eval e = {.s = s, .x = &s->spec, .sliced = true, .depends = s->slice.depends};
    if (s->slice.choosing)
        return begin_txn(&e, txn);
    e.b = s->fill;
    e.wrote = e.b && e.b->nrows > txn->row_at;
    return run_txn(&e, txn);
}

// ---- results ----

static void reset_body(struct kl_txn_body *body)
{
    for (int side = 0; side < 2; side++) {
        struct kl_op *ops = side ? body->els : body->then;
        size_t n = side ? body->nels : body->nthen;
        for (size_t i = 0; i < n; i++) {
            struct kl_op *op = &ops[i];
            if (op->kind == KL_OP_TXN) {
                reset_body(op->txn);
                continue;
            }
            kl_kv_unref(op->kv);
            kl_kv_unref(op->prev);
            for (size_t k = 0; op->kvs && k < op->nkvs; k++)
                kl_kv_unref(op->kvs[k]);
            free(op->kvs);
            op->kv = op->prev = NULL;
            op->kvs = NULL;
            op->nkvs = 0;
            op->count = 0;
        }
    }
}

void kl_txn_reset(struct kl_txn *txn)
{
    if (txn->replayed)
        txn->store->replay_again = true;
    txn->replayed = false;
    reset_body(&txn->body);
    txn->code = 0;
    txn->row_n = 0;
}

void kl_txn_fini(struct kl_txn *txn)
{
    reset_body(&txn->body);
}
