// SPDX-License-Identifier: Apache-2.0
// Grants, renewals, revocations and expiries on their way through the queue, and their answers.
#include "store/forward.h"
#include "store/lease_int.h"
#include "store/txn_codec.h"
#include "store/view_int.h"
#include "base/rand.h"
#include <assert.h>
#include <stdlib.h>

// A grant, keep-alive or revocation on its way through the queue.
struct work {
    struct kl_txn txn;
    struct kl_store *store;
    int64_t id;
    struct kl_lease_req *req; // NULL: expiry
    bool last;                // of a revocation: the lease goes with these keys
    bool marked;              // a revocation: the lease takes no more keys
    bool begun;               // a revocation: some of its keys are gone
    bool answered;            // by the server that keeps the leases:
    int64_t ttl_ms, left_ms;
    int64_t expiring_keys; // counted in kl_leases
};

// ---- evaluated ----

static int batch_lease(struct kl_store *s, struct kl_lease_op op)
{
    return kl_commit_need_fill(s) ? KL_ENOMEM : kl_batch_add_lease(s->fill, op);
}

static struct kl_lease_op new_deadline(struct kl_store *s, int64_t id, int64_t ttl_ms,
                                       int64_t deadline_mono_ms)
{
    int64_t left = deadline_mono_ms - kl_store_mono_ms(s);
    return (struct kl_lease_op){id, ttl_ms, kl_store_wall_ms(s) + left, deadline_mono_ms};
}

static enum kl_eval eval_grant(struct kl_store *s, struct work *w)
{
    struct kl_lease_req *q = w->req;
    int64_t id = q->id;
    if (id && kl_lease_find(s, id)) {
        w->txn.code = kl_error_set(&w->txn.err, KL_EEXISTS, "etcdserver: lease already exists");
        return KL_EVAL_ANSWER;
    }
    while (!id || kl_lease_find(s, id))
        id = (int64_t)(kl_rand_u64() >> 1);
    int64_t ttl_s = q->ttl_s < MIN_TTL_S ? MIN_TTL_S : q->ttl_s;
    struct kl_lease_op op = new_deadline(s, id, ttl_s * 1000, kl_store_mono_ms(s) + ttl_s * 1000);
    struct kl_lease *l = kl_lease_add(s, id);
    if (!l || batch_lease(s, op)) {
        if (l)
            kl_lease_drop(s, l);
        return KL_EVAL_NOMEM;
    }
    w->id = id;
    w->txn.row_at = (uint32_t)s->fill->nrows;
    return KL_EVAL_BATCH;
}

static enum kl_eval no_lease(struct work *w)
{
    w->txn.code = kl_error_set(&w->txn.err, KL_ENOTFOUND, "etcdserver: requested lease not found");
    return KL_EVAL_ANSWER;
}

// In memory, as long as a later deadline is durable.
static enum kl_eval eval_keepalive(struct kl_store *s, struct work *w)
{
    struct kl_lease *l = kl_lease_find(s, w->id);
    int64_t now = kl_store_mono_ms(s);
    if (!l || l->pending || l->revoking || l->deadline_mono_ms <= now)
        return no_lease(w);
    // Another server may have taken over without our knowing: it must not end what we promise.
    if (s->forward && s->ops->confirm_head && !w->txn.confirmed)
        return KL_EVAL_HEAD;
    int64_t deadline = now + l->ttl_ms;
    bool stores = false;
    // Who keeps the leases must be told, or it ends this one by what it knows.
    bool tell = kl_lease_keeper(s) != KL_KEEPER_SELF;
    int64_t until = !tell                          ? deadline + AHEAD_MS
                    : deadline > l->stored_mono_ms ? deadline
                                                   : l->stored_mono_ms;
    if (tell || (l->stored_mono_ms < deadline && l->storing_mono_ms < deadline)) {
        l->storing_mono_ms = until;
        if (batch_lease(s, new_deadline(s, w->id, l->ttl_ms, l->storing_mono_ms)))
            return KL_EVAL_NOMEM;
        kl_lease_leave_due(l);
        stores = true;
    } else if (l->stored_mono_ms < deadline + DUE_MS && l->storing_mono_ms < deadline + DUE_MS) {
        kl_lease_enter_due(s, l);
    }
    // At once, so that it does not expire while this is being written: it will be acknowledged.
    kl_lease_place(s, l, deadline);
    if (l->stored_mono_ms >= deadline && !tell)
        return KL_EVAL_ANSWER;
    return stores ? KL_EVAL_BATCH : KL_EVAL_WAIT;
}

void kl_lease_add_due(struct kl_store *s, struct kl_batch *b)
{
    struct kl_lease *l;
    for (int i = 0; i < DUE_MAX && (l = s->leases.due); i++) {
        int64_t until = l->deadline_mono_ms + AHEAD_MS;
        if (!l->revoking && kl_batch_add_lease(b, new_deadline(s, l->id, l->ttl_ms, until)))
            return;
        l->storing_mono_ms = until;
        kl_lease_leave_due(l);
    }
}

static enum kl_eval eval_ttl(struct kl_store *s, struct work *w)
{
    const struct kl_lease *l = kl_lease_find(s, w->id);
    if (!l || l->pending)
        return no_lease(w);
    return KL_EVAL_ANSWER;
}

static int compare_keys(const void *a, const void *b)
{
    return kl_str_cmp(((const struct kl_op *)a)->key, ((const struct kl_op *)b)->key);
}

// An expiry that lost against other servers' batches is evaluated again on what they say: one of
// them may have renewed the lease.
static bool was_renewed(struct kl_store *s, struct work *w, struct kl_lease *l)
{
    int64_t end = l->deadline_mono_ms;
    // Or this server keeps the leases no more and goes by what is stored.
    if (end < l->stored_mono_ms && kl_lease_keeper(s) != KL_KEEPER_SELF)
        end = l->stored_mono_ms;
    if (w->req || !w->marked || w->begun || end <= kl_store_mono_ms(s))
        return false;
    l->deadline_mono_ms = end;
    w->marked = l->revoking = false;
    kl_lease_heap_add(&s->leases, l);
    w->txn.code = kl_error_set(&w->txn.err, KL_ECONFLICT, "the lease was renewed");
    return true;
}

// Up to KL_LEASE_BATCH_KEYS deletions, in the order of keys as etcd's, and the lease itself with
// the last of them.
static enum kl_eval eval_revoke(struct kl_store *s, struct work *w)
{
    if (s->leases.unapplied_puts || s->leases.unsettled)
        return KL_EVAL_LATER; // the list of keys is not whole
    struct kl_lease *l = kl_lease_find(s, w->id);
    if (!l || l->pending || (l->revoking && !w->marked))
        return no_lease(w);
    if (was_renewed(s, w, l))
        return KL_EVAL_ANSWER;
    if (!w->marked) {
        w->marked = l->revoking = true;
        kl_lease_heap_remove(&s->leases, l);
    }
    size_t n = l->nkeys < KL_LEASE_BATCH_KEYS ? (size_t)l->nkeys : KL_LEASE_BATCH_KEYS, k = 0;
    w->last = n == (size_t)l->nkeys;
    free(w->txn.body.then);
    w->txn.body.nthen = 0;
    w->txn.body.then = calloc(n ? n : 1, sizeof(struct kl_op));
    if (!w->txn.body.then)
        return KL_EVAL_NOMEM;
    struct kl_kv *kv = l->keys;
    for (size_t i = 0; i < n; i++, kv = kv->lease_next) {
        // What a batch before this one deletes or takes off the lease is left alone.
        if (kl_node_get(s->spec.root, kl_kv_key(kv)) == kv)
            w->txn.body.then[k++] = (struct kl_op){.kind = KL_OP_DELETE, .key = kl_kv_key(kv)};
    }
    w->txn.body.nthen = k;
    qsort(w->txn.body.then, k, sizeof(struct kl_op), compare_keys);
    enum kl_eval how = kl_eval_txn(s, &w->txn);
    if (how == KL_EVAL_NOMEM || w->txn.code)
        return how;
    if (!w->last)
        return how == KL_EVAL_BATCH ? how : KL_EVAL_LATER;
    return batch_lease(s, (struct kl_lease_op){.id = w->id}) ? KL_EVAL_NOMEM : KL_EVAL_BATCH;
}

enum kl_eval kl_lease_eval(struct kl_store *s, struct kl_txn *txn)
{
    struct work *w = KL_CONTAINER_OF(txn, struct work, txn);
    txn->code = 0;
    if (txn->internal == KL_WORK_REVOKE)
        return eval_revoke(s, w);
    switch (w->req->kind) {
    case KL_LEASE_GRANT:
        return eval_grant(s, w);
    case KL_LEASE_KEEPALIVE:
        return eval_keepalive(s, w);
    default:
        return eval_ttl(s, w);
    }
}

// ---- what another server evaluates ----

bool kl_lease_logged(const struct kl_txn *txn)
{
    const struct work *w = KL_CONTAINER_OF(txn, struct work, txn);
    return txn->internal == KL_WORK_REVOKE ? w->last : w->req->kind == KL_LEASE_GRANT;
}

bool kl_lease_passes_fence(const struct kl_txn *txn, int64_t fence_lease)
{
    const struct work *w = KL_CONTAINER_OF(txn, struct work, txn);
    if (txn->internal == KL_WORK_LEASE && w->req->kind == KL_LEASE_TTL)
        return true;
    return fence_lease && w->id == fence_lease;
}

bool kl_txn_is_asked(const struct kl_txn *txn)
{
    if (txn->internal == KL_WORK_COMPACT)
        return kl_compact_is_asked(txn);
    return txn->internal == KL_WORK_TXN || KL_CONTAINER_OF(txn, struct work, txn)->req;
}

void kl_lease_fill_ask(const struct kl_txn *txn, struct kl_wire_ask *a)
{
    static const enum kl_wire_kind kinds[] = {
        [KL_LEASE_GRANT] = KL_WIRE_GRANT,
        [KL_LEASE_REVOKE] = KL_WIRE_REVOKE,
        [KL_LEASE_KEEPALIVE] = KL_WIRE_KEEPALIVE,
        [KL_LEASE_TTL] = KL_WIRE_LEASE_TTL,
    };
    struct work *w = KL_CONTAINER_OF(txn, struct work, txn);
    while (!w->id || (w->req->kind == KL_LEASE_GRANT && !w->req->id && !txn->attempt &&
                      kl_lease_find(w->store, w->id)))
        w->id = (int64_t)(kl_rand_u64() >> 1); // ours to choose: the answer need not tell
    a->kind = kinds[w->req->kind];
    a->id = w->id;
    a->num = w->req->ttl_s;
}

void kl_lease_take_answer(struct kl_txn *txn, int64_t ttl_ms, int64_t left_ms)
{
    struct work *w = KL_CONTAINER_OF(txn, struct work, txn);
    w->answered = true;
    w->ttl_ms = ttl_ms;
    w->left_ms = left_ms;
}

// ---- answered, on the core's loop ----

static void list_keys(struct kl_store *s, struct kl_lease_req *q, const struct kl_lease *l)
{
    if (!q->want_keys || !l || !l->nkeys)
        return;
    q->kvs = malloc((size_t)l->nkeys * sizeof(*q->kvs));
    if (!q->kvs) {
        q->code = KL_ENOMEM;
        return;
    }
    for (struct kl_kv *kv = l->keys; kv; kv = kv->lease_next) {
        if (!s->leases.unsettled || kl_node_get(s->view->root, kl_kv_key(kv)) == kv)
            q->kvs[q->n++] = kl_kv_ref(kv);
    }
}

static void run_req_cb(struct kl_task *t)
{
    struct kl_lease_req *q = KL_CONTAINER_OF(t, struct kl_lease_req, task);
    q->cb(q);
}

static void answer_req(struct kl_lease_req *q)
{
    q->task.run = run_req_cb;
    kl_loop_post(q->loop, &q->task);
}

static void work_done(struct kl_txn *txn)
{
    struct work *w = KL_CONTAINER_OF(txn, struct work, txn);
    struct kl_store *s = w->store;
    struct kl_lease *l = kl_lease_find(s, w->id);
    struct kl_lease_req *q = w->req;
    bool revoke = txn->internal == KL_WORK_REVOKE;
    kl_txn_fini(txn);
    if (revoke && !txn->code && !w->last && !txn->matched) {
        atomic_fetch_add_explicit(&s->queued, 1, memory_order_relaxed);
        w->begun = true;
        kl_commit_enqueue(s, txn); // the next keys; a store that stops cancels
        return;
    }
    s->leases.expiring_keys -= w->expiring_keys;
    if (revoke && w->marked && txn->code && l) {
        l->revoking = false;
        if (!q && txn->code != KL_ECANCELED) { // expiry tries again
            l->deadline_mono_ms = kl_store_mono_ms(s) + RETRY_MS;
            kl_lease_heap_add(&s->leases, l);
        } else if (l->heap_at == SIZE_MAX) {
            kl_lease_heap_add(&s->leases, l);
        }
    }
    if (!txn->code)
        kl_store_metric(revoke                      ? KL_SM_LEASE_REVOKED
                        : q->kind == KL_LEASE_GRANT ? KL_SM_LEASE_GRANTED
                                                    : KL_SM_LEASE_RENEWED,
                        1);
    if (q) {
        q->code = txn->code;
        q->err = txn->err;
        q->rev = kl_view_rev(s->view);
        q->id = w->id;
        if (!q->code && w->answered) {
            q->ttl_s = w->ttl_ms / 1000;
            q->remaining_ms = w->left_ms;
        } else if (!q->code && l && !revoke) {
            q->ttl_s = l->ttl_ms / 1000;
            q->remaining_ms = kl_lease_left_ms(s, l);
        }
        if (!q->code && q->kind == KL_LEASE_TTL)
            list_keys(s, q, l);
        answer_req(q);
    }
    bool expiry = w->expiring_keys > 0;
    free(txn->body.then);
    free(w);
    if (expiry && !s->stopping) { // there is room for the next ones
        kl_lease_expire(s);
        kl_store_arm_timer(s);
    }
}

static struct work *new_work(struct kl_store *s, int kind, int64_t id, struct kl_lease_req *req)
{
    struct work *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    w->store = s;
    w->id = id;
    w->req = req;
    w->txn.internal = kind;
    w->txn.store = s;
    w->txn.loop = s->loop;
    w->txn.cb = work_done;
    if (req) {
        w->txn.server = req->server;
        w->txn.seq = req->seq;
        w->txn.again = req->again;
    }
    atomic_fetch_add_explicit(&s->queued, 1, memory_order_relaxed);
    return w;
}

// ---- requests ----

static void answer_list(struct kl_store *s, struct kl_lease_req *q)
{
    size_t cap = s->leases.by_id.n + 1;
    q->ids = malloc(3 * cap * sizeof(*q->ids));
    if (!q->ids) {
        q->code = KL_ENOMEM;
        return;
    }
    q->ttls_ms = q->ids + cap;
    q->lefts_ms = q->ttls_ms + cap;
    KL_MAP_EACH (&s->leases.by_id, e) {
        const struct kl_lease *l = e->value;
        if (l->pending || kl_lease_is_alarm(l) != q->alarm)
            continue;
        q->ids[q->n] = l->id;
        q->ttls_ms[q->n] = l->ttl_ms;
        q->lefts_ms[q->n++] = kl_lease_left_ms(s, l);
    }
}

// What has no place in the log is answered here, unless another server keeps the leases.
static void answer_ttl(struct kl_store *s, struct kl_lease_req *q)
{
    const struct kl_lease *l = kl_lease_find(s, q->id);
    if (!l || l->pending) {
        q->code = kl_error_set(&q->err, KL_ENOTFOUND, "etcdserver: requested lease not found");
        return;
    }
    q->ttl_s = l->ttl_ms / 1000;
    q->remaining_ms = kl_lease_left_ms(s, l);
    list_keys(s, q, l);
}

static void queue_work(struct kl_store *s, struct kl_lease_req *q, int kind)
{
    struct work *w = new_work(s, kind, q->id, q);
    if (w) {
        kl_commit_enqueue(s, &w->txn);
        return;
    }
    q->code = KL_ENOMEM;
    answer_req(q);
}

void kl_core_lease_done(struct kl_store *s, struct kl_lease_req *q)
{
    q->rev = kl_view_rev(s->view);
    answer_req(q);
}

// What another store keeps.
static void ask_backend(struct kl_store *s, struct kl_lease_req *q)
{
    bool writes =
        q->kind == KL_LEASE_GRANT || (q->kind == KL_LEASE_REVOKE && q->id != kl_fence_lease(s));
    if (s->stopping)
        q->code = kl_error_set(&q->err, KL_ECANCELED, "the store is stopping");
    else if (writes && kl_store_fenced(s))
        q->code = kl_fence_error(s, &q->err);
    if (q->code)
        answer_req(q);
    else
        s->ops->lease(s->backend, q);
}

void kl_lease_start(struct kl_store *s, struct kl_lease_req *q)
{
    q->rev = kl_view_rev(s->view);
    if (s->ops->lease) {
        ask_backend(s, q);
        return;
    }
    const struct kl_lease *l = kl_lease_find(s, q->id);
    if (l && kl_lease_is_alarm(l) && !q->alarm && q->kind != KL_LEASE_GRANT &&
        q->kind != KL_LEASE_LIST) {
        q->code = kl_error_set(&q->err, KL_ENOTFOUND, "etcdserver: requested lease not found");
        answer_req(q);
        return;
    }
    switch (q->kind) {
    case KL_LEASE_TTL:
        if (s->forward && !s->o.read_only) { // it would not be let out
            queue_work(s, q, KL_WORK_LEASE);
            break;
        }
        answer_ttl(s, q);
        answer_req(q);
        break;
    case KL_LEASE_LIST:
        answer_list(s, q);
        answer_req(q);
        break;
    default:
        queue_work(s, q, q->kind == KL_LEASE_REVOKE ? KL_WORK_REVOKE : KL_WORK_LEASE);
    }
}

static void run_req(struct kl_task *t)
{
    struct kl_lease_req *q = KL_CONTAINER_OF(t, struct kl_lease_req, task);
    kl_lease_start(q->store, q);
}

int kl_store_lease(struct kl_store *s, struct kl_lease_req *q, struct kl_error *err)
{
    if (q->kind == KL_LEASE_GRANT && q->ttl_s > KL_LEASE_MAX_TTL && !q->alarm)
        return kl_error_set(err, KL_EINVALID, "etcdserver: too large lease TTL");
    if (atomic_load_explicit(&s->refuse, memory_order_acquire))
        return kl_error_set(err, KL_EUNAVAILABLE, "the store is stopping");
    if (!q->loop)
        q->loop = kl_loop_current();
    assert(q->loop);
    q->code = 0;
    q->store = s;
    q->server = q->seq = 0;
    q->again = false;
    q->task.run = run_req;
    kl_loop_post(s->loop, &q->task);
    return 0;
}

void kl_lease_req_fini(struct kl_lease_req *q)
{
    for (size_t i = 0; q->kvs && i < q->n; i++)
        kl_kv_unref(q->kvs[i]);
    free(q->kvs);
    free(q->ids);
    q->kvs = NULL;
    q->ids = q->ttls_ms = q->lefts_ms = NULL;
    q->n = 0;
}

// ---- expiry ----

// Few at a time, so that clients' writes wait for few deletions however many leases end at once.
static bool may_expire(const struct kl_leases *ls)
{
    return ls->n && ls->expiring_keys < KL_LEASE_BATCH_KEYS;
}

// Behind a fence its own lease alone may end.
static struct kl_lease *first_due(struct kl_store *s)
{
    if (!s->leases.leading || !may_expire(&s->leases))
        return NULL;
    if (!kl_store_fenced(s))
        return s->leases.heap[0];
    int64_t id = kl_fence_lease(s);
    struct kl_lease *l = id ? kl_lease_find(s, id) : NULL;
    return l && l->heap_at != SIZE_MAX ? l : NULL;
}

int64_t kl_lease_next_ms(struct kl_store *s)
{
    const struct kl_lease *l = first_due(s);
    return l ? l->deadline_mono_ms : INT64_MAX;
}

void kl_lease_expire(struct kl_store *s)
{
    int64_t now = kl_store_mono_ms(s);
    for (struct kl_lease *l; (l = first_due(s));) {
        if (l->deadline_mono_ms > now)
            return;
        struct work *w = new_work(s, KL_WORK_REVOKE, l->id, NULL);
        if (!w) { // without memory: again soon, not at once
            l->deadline_mono_ms = now + RETRY_MS;
            kl_lease_heap_fix(&s->leases, l->heap_at);
            return;
        }
        kl_lease_heap_remove(&s->leases, l);
        w->marked = l->revoking = true;
        w->expiring_keys = l->nkeys < 1                     ? 1
                           : l->nkeys < KL_LEASE_BATCH_KEYS ? l->nkeys
                                                            : KL_LEASE_BATCH_KEYS;
        s->leases.expiring_keys += w->expiring_keys;
        kl_commit_enqueue(s, &w->txn);
    }
}
