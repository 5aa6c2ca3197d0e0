// SPDX-License-Identifier: Apache-2.0
// A batch as one etcd transaction, whose guards say that every key it read or wrote is as it was
// when it was evaluated. When the answer is lost, the fence's key is written: from then on the
// transaction, which asks for its absence, cannot be stored any more, and the watch up to there has
// it or it never was.
#include "store/remote/remote_int.h"
#include "store/txn.h"
#include "store/view.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include <stdio.h>
#include <stdlib.h>

struct guards {
    const struct kl_view *view;
    struct kl_etcd_compare *v;
    size_t n, cap;
    bool loose;
    int code;
};

// ---- guards: on the core's loop ----

static struct kl_etcd_compare *new_guard(struct guards *g)
{
    if (g->n == g->cap) {
        size_t cap = g->cap ? g->cap * 2 : 16;
        struct kl_etcd_compare *p = realloc(g->v, cap * sizeof(*p));
        if (!p) {
            g->code = KL_ENOMEM;
            return NULL;
        }
        g->v = p;
        g->cap = cap;
    }
    g->v[g->n] = (struct kl_etcd_compare){.target = KL_ETCD_COMPARE_COMPARE_TARGET_MOD};
    return &g->v[g->n++];
}

static void guard_key(struct guards *g, struct kl_str key)
{
    for (size_t i = 0; i < g->n; i++) {
        if (!g->v[i].range_end.n && kl_str_eq(g->v[i].key, key))
            return;
    }
    const struct kl_kv *kv = kl_view_get(g->view, key);
    struct kl_etcd_compare *c = new_guard(g);
    if (!c)
        return;
    c->key = key;
    c->result = KL_ETCD_COMPARE_COMPARE_RESULT_EQUAL;
    c->mod_revision = kv ? kv->mod_rev : 0;
}

// Nothing was put into it, and what is in it is still there.
static void guard_range(struct guards *g, struct kl_str key, struct kl_str end, bool may_be_loose)
{
    struct kl_iter it;
    if (!end.n) {
        guard_key(g, key);
        return;
    }
    kl_iter_init(&it, g->view, key, end);
    if (it.left > KL_REMOTE_GUARDS && !may_be_loose) {
        g->code = KL_ETOOLARGE;
        return;
    }
    struct kl_etcd_compare *c = new_guard(g);
    if (!c)
        return;
    c->key = key;
    c->range_end = end;
    c->result = KL_ETCD_COMPARE_COMPARE_RESULT_LESS;
    c->mod_revision = kl_view_rev(g->view) + 1;
    g->loose |= it.left > KL_REMOTE_GUARDS;
    if (it.left <= KL_REMOTE_GUARDS)
        for (struct kl_kv *kv; !g->code && (kv = kl_iter_next(&it));)
            guard_key(g, kl_kv_key(kv));
}

static void guard_body(struct guards *g, const struct kl_txn_body *body)
{
    const struct kl_op *ops = body->succeeded ? body->then : body->els;
    size_t n = body->succeeded ? body->nthen : body->nels;
    for (size_t i = 0; !g->code && i < body->ncompares; i++)
        guard_range(g, body->compares[i].key, body->compares[i].end, false);
    for (size_t i = 0; !g->code && i < n; i++) {
        const struct kl_op *op = &ops[i];
        if (op->kind == KL_OP_TXN)
            guard_body(g, op->txn);
        else if (op->kind == KL_OP_PUT)
            guard_key(g, op->key);
        else
            // Results are found anew in what the remote has stored: only what is compared must not
            // have changed, and what is put.
            guard_range(g, op->key, op->end, true);
    }
}

// ---- the request: on the core's loop ----

static bool deletes_range(const struct kl_row *row)
{
    // etcd lets a key that such a deletion ends be put as well when its range has no end.
    return row->op && row->op->kind == KL_OP_DELETE && row->op->end.n &&
           (row->op->count > KL_REMOTE_GUARDS || kl_str_eq(row->op->end, KL_RANGE_TO_LAST));
}

static struct kl_bytes *encode_txn(const struct kl_batch *b, const struct guards *g)
{
    size_t cap = b->nrows + 1, n = 0;
    struct kl_etcd_request_op *ops = calloc(cap, sizeof(*ops));
    struct kl_etcd_put_request *puts = calloc(cap, sizeof(*puts));
    struct kl_etcd_delete_range_request *dels = calloc(cap, sizeof(*dels));
    struct kl_bytes *bytes = NULL;
    for (size_t i = 0; ops && puts && dels && i < b->nrows; i++) {
        const struct kl_row *row = &b->rows[i];
        bool range = deletes_range(row);
        if (range && i && b->rows[i - 1].op == row->op)
            continue;
        if (row->kv->deleted) {
            dels[n].key = range ? row->op->key : kl_kv_key(row->kv);
            dels[n].range_end = range ? row->op->end : (struct kl_str){NULL, 0};
            ops[n].request_delete_range = &dels[n];
        } else {
            puts[n].key = kl_kv_key(row->kv);
            puts[n].value = kl_kv_value(row->kv);
            puts[n].lease = row->kv->lease;
            ops[n].request_put = &puts[n];
        }
        n++;
    }
    if (ops && puts && dels) {
        struct kl_etcd_txn_request rq = {
            .compare = g->v, .n_compare = g->n, .success = ops, .n_success = n};
        bytes = kl_remote_encode(&kl_etcd_txn_request_desc, &rq);
    }
    free(ops);
    free(puts);
    free(dels);
    return bytes;
}

static int build(struct kl_backend *b, struct kl_remote_write *w)
{
    struct kl_batch *batch = w->batch;
    struct guards g = {.view = kl_core_view(b->core)};
    if (batch->compact_rev) {
        struct kl_etcd_compaction_request rq = {.revision = batch->compact_rev};
        w->request = kl_remote_encode(&kl_etcd_compaction_request_desc, &rq);
        return w->request ? 0 : KL_ENOMEM;
    }
    guard_body(&g, &batch->txns->body);
    for (size_t i = 0; !g.code && i < batch->nrows; i++) {
        if (!deletes_range(&batch->rows[i]))
            guard_key(&g, kl_kv_key(batch->rows[i].kv));
    }
    struct kl_etcd_compare *fence = g.code ? NULL : new_guard(&g);
    if (fence)
        fence->key = kl_str(b->fence);
    w->loose = g.loose;
    w->request = fence ? encode_txn(batch, &g) : NULL;
    free(g.v);
    if (g.code == KL_ETOOLARGE)
        kl_error_set(
            &batch->err, KL_ETOOLARGE,
            "etcdserver: too many operations in txn request: it compares a range of more than "
            "%d keys, which etcd:// does not guard",
            KL_REMOTE_GUARDS);
    return g.code ? g.code : w->request ? 0 : KL_ENOMEM;
}

void kl_remote_new_fence(struct kl_backend *b)
{
    snprintf(b->fence, sizeof(b->fence), "kinglet/fence/%016llx",
             (unsigned long long)kl_rand_u64());
}

// ---- the outcome: on the network's loop ----

static int apply_failed(struct kl_remote_up *u)
{
    struct kl_remote_write *w = KL_CONTAINER_OF(u, struct kl_remote_write, up);
    if (w->fenced)
        kl_remote_new_fence(u->b);
    w->batch->err = w->err;
    kl_core_failed(u->b->core, w->batch, w->code);
    free(w);
    return 0;
}

void kl_remote_write_fail(struct kl_backend *b, int code, const struct kl_error *err)
{
    struct kl_remote_write *w = b->write;
    b->write = NULL;
    w->code = code == KL_EMAYBE && !w->sent ? KL_EUNAVAILABLE : code;
    if (err != &w->err)
        w->err = *err;
    kl_bytes_unref(w->request);
    w->request = NULL;
    w->up.apply = apply_failed;
    if (w->called) { // its answer is of no use any more
        w->detached = true;
        return;
    }
    kl_remote_post(b, &w->up);
}

static void refuse(struct kl_remote_write *w, const struct kl_remote_call *c)
{
    w->outcome = KL_REMOTE_REFUSED;
    w->sent = false;
    w->code = kl_remote_error(c, &w->err);
}

// The server has said what is wrong: nothing was stored.
static bool is_definite(int code)
{
    switch (code) {
    case KL_GRPC_INVALID_ARGUMENT:
    case KL_GRPC_NOT_FOUND:
    case KL_GRPC_ALREADY_EXISTS:
    case KL_GRPC_PERMISSION_DENIED:
    case KL_GRPC_RESOURCE_EXHAUSTED:
    case KL_GRPC_FAILED_PRECONDITION:
    case KL_GRPC_OUT_OF_RANGE:
    case KL_GRPC_UNIMPLEMENTED:
    case KL_GRPC_UNAUTHENTICATED:
        return true;
    default:
        return false;
    }
}

// True: w is gone.
static bool end_call(struct kl_remote_write *w)
{
    w->called = false;
    if (!w->detached)
        return false;
    kl_remote_post(w->b, &w->up);
    return true;
}

static void on_txn(struct kl_remote_call *c)
{
    struct kl_remote_write *w = KL_CONTAINER_OF(c, struct kl_remote_write, call);
    struct kl_backend *b = c->b;
    const struct kl_etcd_txn_response *r = c->reply;
    bool ours = false;
    if (!c->code && r->header) {
        ours = kl_remote_check_header(c, r->header);
        w->outcome = r->succeeded ? KL_REMOTE_STORED : KL_REMOTE_LOST;
        w->rev = r->header->revision;
    } else if (is_definite(c->code)) {
        refuse(w, c);
    } else if (!c->sent) {
        w->sent = false;
        w->code = kl_remote_error(c, &w->err);
    }
    kl_remote_call_fini(c);
    if (!end_call(w)) {
        kl_remote_wake(b);
        if (ours || w->outcome == KL_REMOTE_OPEN || w->outcome == KL_REMOTE_REFUSED)
            kl_remote_feed_run(b);
    }
}

// Somebody else may have compacted further: this one is done then, too.
static void on_compact(struct kl_remote_call *c)
{
    struct kl_remote_write *w = KL_CONTAINER_OF(c, struct kl_remote_write, call);
    struct kl_backend *b = c->b;
    bool done = !c->code || (c->code == KL_GRPC_OUT_OF_RANGE && strstr(c->err.msg, "compacted"));
    struct kl_remote_rev *r = NULL;
    if (done && !w->detached)
        r = kl_remote_rev_new(b, b->posted, b->posted);
    if (r) {
        r->own = w->batch;
    } else if (!w->detached) {
        w->outcome = KL_REMOTE_REFUSED;
        w->code =
            done ? kl_error_set(&w->err, KL_ENOMEM, "out of memory") : kl_remote_error(c, &w->err);
    }
    kl_remote_call_fini(c);
    if (end_call(w))
        return;
    if (r) {
        b->write = NULL;
        kl_bytes_unref(w->request);
        free(w);
        kl_remote_rev_post(b, r);
    }
    kl_remote_feed_run(b);
}

static void send_write(struct kl_backend *b, struct kl_remote_write *w)
{
    bool compact = w->batch->compact_rev != 0;
    w->called = true;
    w->sent = !compact;
    w->call = (struct kl_remote_call){.done = compact ? on_compact : on_txn,
                                      .retry = compact,
                                      .request = kl_bytes_ref(w->request),
                                      .deadline_ms = compact ? 0 : w->give_up_ms};
    kl_remote_call(b, &w->call, compact ? KL_ETCD_COMPACT : KL_ETCD_TXN);
}

// ---- what became of it ----

static void on_fence(struct kl_remote_call *c)
{
    struct kl_remote_write *w = KL_CONTAINER_OF(c, struct kl_remote_write, call);
    struct kl_backend *b = c->b;
    const struct kl_etcd_put_response *r = c->reply;
    if (!c->code && r->header && kl_remote_check_header(c, r->header)) {
        w->fenced = true;
        w->rev = r->header->revision;
    } else if (c->code == KL_GRPC_NOT_FOUND) {
        w->fence_lease = 0;
    }
    kl_remote_call_fini(c);
    if (!end_call(w))
        kl_remote_feed_run(b);
}

static void on_fence_lease(struct kl_remote_call *c)
{
    struct kl_remote_write *w = KL_CONTAINER_OF(c, struct kl_remote_write, call);
    const struct kl_etcd_lease_grant_response *r = c->reply;
    if (!c->code)
        w->fence_lease = r->id;
    kl_remote_call_fini(c);
    end_call(w); // the next tick goes on
}

static void find_out(struct kl_backend *b, struct kl_remote_write *w)
{
    struct kl_etcd_lease_grant_request grant = {.ttl = KL_REMOTE_FENCE_TTL_S};
    struct kl_etcd_put_request put = {
        .key = kl_str(b->fence), .value = KL_STR("1"), .lease = w->fence_lease};
    w->called = true;
    w->call = (struct kl_remote_call){
        .done = w->fence_lease ? on_fence : on_fence_lease,
        .retry = true,
        .deadline_ms = w->give_up_ms,
        .request = w->fence_lease ? kl_remote_encode(&kl_etcd_put_request_desc, &put)
                                  : kl_remote_encode(&kl_etcd_lease_grant_request_desc, &grant)};
    kl_remote_call(b, &w->call, w->fence_lease ? KL_ETCD_PUT : KL_ETCD_LEASE_GRANT);
}

static bool same_row(const struct kl_kv *a, const struct kl_kv *b)
{
    return a->deleted == b->deleted && kl_str_eq(kl_kv_key(a), kl_kv_key(b)) &&
           (a->deleted || (a->version == b->version && a->lease == b->lease &&
                           kl_str_eq(kl_kv_value(a), kl_kv_value(b))));
}

// 1: these are its rows. KL_EMAYBE: they may be, but another client's would look the same.
static int looks_like(const struct kl_remote_write *w, const struct kl_batch *b)
{
    const struct kl_batch *own = w->batch;
    size_t same = 0;
    bool puts = false;
    if (w->loose) {
        for (size_t i = 0; i < b->nrows; i++)
            for (size_t k = 0; k < own->nrows; k++)
                if (kl_str_eq(kl_kv_key(b->rows[i].kv), kl_kv_key(own->rows[k].kv)))
                    return KL_EMAYBE;
        return 0;
    }
    for (size_t i = 0; b->nrows == own->nrows && i < b->nrows; i++) {
        same += same_row(b->rows[i].kv, own->rows[i].kv);
        puts |= !b->rows[i].kv->deleted;
    }
    return same < own->nrows ? 0 : puts ? 1 : KL_EMAYBE;
}

void kl_remote_write_judge(struct kl_backend *b)
{
    struct kl_remote_write *w = b->write;
    struct kl_error err;
    if (!w || !w->fenced || w->outcome != KL_REMOTE_OPEN || b->seen < w->rev)
        return;
    for (struct kl_remote_rev *r = b->held; r; r = r->next) {
        int is = looks_like(w, r->batch);
        if (is == KL_EMAYBE) {
            kl_error_set(&err, KL_EMAYBE, "etcdserver: request timed out");
            kl_remote_write_fail(b, KL_EMAYBE, &err);
            return;
        }
        if (is) {
            w->outcome = KL_REMOTE_STORED;
            w->rev = r->batch->last_rev;
            return;
        }
    }
    w->outcome = KL_REMOTE_LOST;
}

void kl_remote_write_tick(struct kl_backend *b, int64_t now)
{
    struct kl_remote_write *w = b->write;
    struct kl_error err;
    if (!w || w->called)
        return;
    if (now > w->give_up_ms || (b->set_back && !w->sent)) {
        if (w->outcome == KL_REMOTE_LOST)
            w->sent = false;
        if (b->set_back)
            kl_error_set(&err, KL_EUNAVAILABLE, "datastore %s: it was set back", b->name);
        else if (w->sent)
            kl_error_set(&err, KL_EMAYBE, "etcdserver: request timed out");
        else if (w->err.msg[0])
            err = w->err;
        else
            kl_error_set(&err, KL_EUNAVAILABLE, "datastore %s: it cannot be reached", b->name);
        kl_remote_write_fail(b, KL_EMAYBE, &err);
        kl_remote_feed_run(b);
    } else if (w->outcome == KL_REMOTE_OPEN && !w->sent) {
        if (b->feed == KL_REMOTE_WATCHING && !b->must_reload)
            send_write(b, w);
    } else if (w->outcome == KL_REMOTE_OPEN && !w->fenced) {
        find_out(b, w);
    }
}

// ---- from the core ----

static void run_write(struct kl_task *t)
{
    struct kl_remote_write *w = KL_CONTAINER_OF(t, struct kl_remote_write, task);
    struct kl_backend *b = w->b;
    int64_t now = kl_mono_ms();
    b->write = w;
    w->give_up_ms = now + KL_REMOTE_WRITE_MS;
    kl_remote_wake(b);
    kl_remote_write_tick(b, now);
}

static void run_refused(struct kl_task *t)
{
    struct kl_batch *batch = KL_CONTAINER_OF(t, struct kl_batch, task);
    kl_core_failed(batch->backend->core, batch, batch->code);
}

void kl_remote_propose(struct kl_backend *b, struct kl_batch *batch)
{
    struct kl_remote_write *w = calloc(1, sizeof(*w));
    batch->backend = b;
    batch->code = KL_ENOMEM;
    if (w) {
        *w = (struct kl_remote_write){.b = b, .batch = batch};
        batch->code = build(b, w);
    }
    if (batch->code) {
        free(w);
        batch->task.run = run_refused;
        kl_loop_defer(kl_core_loop(b->core), &batch->task);
        return;
    }
    w->task.run = run_write;
    kl_loop_post(b->loop, &w->task);
}
