// SPDX-License-Identifier: Apache-2.0
// The committer: queue → evaluator → batch k+1 fills while batch k is with the back end → applied
// in order: index, ring, views, answers.
#include "store/big.h"
#include "store/forward.h"
#include "store/store_int.h"
#include "store/view_int.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include <assert.h>
#include <stdlib.h>

// ---- queues of transactions ----

void kl_queue_init(struct kl_queue *q)
{
    q->first = NULL;
    q->end = &q->first;
    q->n = 0;
}

void kl_queue_push(struct kl_queue *q, struct kl_txn *t)
{
    t->next = NULL;
    *q->end = t;
    q->end = &t->next;
    q->n++;
}

void kl_queue_push_front(struct kl_queue *q, struct kl_txn *t)
{
    t->next = q->first;
    if (!q->first)
        q->end = &t->next;
    q->first = t;
    q->n++;
}

struct kl_txn *kl_queue_pop(struct kl_queue *q)
{
    struct kl_txn *t = q->first;
    if (!t)
        return NULL;
    q->first = t->next;
    if (!q->first)
        q->end = &q->first;
    q->n--;
    return t;
}

// Puts all of `list` before what is in q.
static void prepend_list(struct kl_queue *q, struct kl_txn *list)
{
    struct kl_queue front;
    kl_queue_init(&front);
    while (list) {
        struct kl_txn *next = list->next;
        if (!list->matched)
            kl_txn_reset(list);
        kl_queue_push(&front, list);
        list = next;
    }
    for (struct kl_txn *t; (t = kl_queue_pop(q));)
        kl_queue_push(&front, t);
    kl_queue_init(q);
    if (front.first) {
        *q = front;
        if (front.end == &front.first)
            q->end = &q->first;
    }
}

// ---- submitting and answering ----

static void run_cb(struct kl_task *t)
{
    struct kl_txn *txn = KL_CONTAINER_OF(t, struct kl_txn, task);
    txn->cb(txn);
}

void kl_commit_answer(struct kl_store *s, struct kl_txn *txn)
{
    struct kl_loop *loop = txn->loop;
    kl_forward_forget(s, txn);
    atomic_fetch_sub_explicit(&s->queued, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&s->queued_bytes, txn->bytes, memory_order_relaxed);
    txn->task.run = run_cb;
    kl_loop_post(loop, &txn->task);
}

static void answer_error(struct kl_store *s, struct kl_txn *txn, int code, const char *text)
{
    if (!txn->matched) {
        kl_txn_reset(txn);
        txn->code = kl_error_set(&txn->err, code, "%s", text);
    }
    kl_commit_answer(s, txn);
}

static void run_arrived(struct kl_task *t)
{
    struct kl_txn *txn = KL_CONTAINER_OF(t, struct kl_txn, task);
    kl_commit_enqueue(txn->store, txn);
}

void kl_commit_enqueue(struct kl_store *s, struct kl_txn *txn)
{
    if (s->stopping) {
        answer_error(s, txn, KL_ECANCELED, "the store is stopping");
        return;
    }
    kl_queue_push(&s->queue, txn);
    kl_commit_pump(s);
}

// Any thread. Room in the queue, given back by kl_commit_answer.
int kl_commit_admit(struct kl_store *s, struct kl_txn *txn, size_t bytes, struct kl_error *err)
{
    long long n = atomic_fetch_add_explicit(&s->queued, 1, memory_order_relaxed);
    long long sum =
        atomic_fetch_add_explicit(&s->queued_bytes, (long long)bytes, memory_order_relaxed);
    if (n < (long long)s->o.max_queue && sum <= KL_QUEUE_MAX_BYTES) {
        txn->bytes = (uint32_t)bytes;
        return 0;
    }
    atomic_fetch_sub_explicit(&s->queued, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&s->queued_bytes, (long long)bytes, memory_order_relaxed);
    return kl_error_set(err, KL_ETOOMANY, "etcdserver: too many requests");
}

int kl_store_submit(struct kl_store *s, struct kl_txn *txn, struct kl_error *err)
{
    size_t bytes;
    int r = kl_txn_check(txn, &s->keys, &bytes, err);
    if (r)
        return r;
    if (atomic_load_explicit(&s->refuse, memory_order_acquire))
        return kl_error_set(err, KL_EUNAVAILABLE, "the store is stopping");
    r = kl_commit_admit(s, txn, bytes, err);
    if (r)
        return r;
    if (!txn->loop)
        txn->loop = kl_loop_current();
    assert(txn->loop);
    txn->store = s;
    txn->internal = KL_WORK_TXN;
    kl_forward_clear(txn);
    txn->task.run = run_arrived;
    kl_loop_post(s->loop, &txn->task);
    return 0;
}

// ---- filling and proposing ----

bool kl_commit_has_writes(const struct kl_batch *b)
{
    return b && (b->nrows || b->nleases || b->compact_rev);
}

int kl_commit_need_fill(struct kl_store *s)
{
    if (s->fill)
        return 0;
    if (!(s->fill = kl_batch_new()))
        return KL_ENOMEM;
    s->fill->origin = s->origin;
    s->fill->base_rev = s->inflight ? s->inflight->last_rev : s->view->rev;
    return 0;
}

static void reset_spec(struct kl_store *s, struct kl_node *root)
{
    kl_node_unref(s->spec.root);
    s->spec.root = kl_node_ref(root);
    s->spec.gen = ++s->gen;
}

// Throws away what fills and returns its transactions to the head of the queue.
static void drop_fill(struct kl_store *s)
{
    struct kl_batch *b = s->fill;
    struct kl_txn *part = s->slice.txn;
    s->fill = NULL;
    s->slice.txn = NULL;
    s->slice.preparing = s->slice.choosing = false;
    if (part) {
        if (!part->matched)
            kl_txn_reset(part);
        kl_queue_push_front(&s->queue, part);
    }
    if (!b)
        return;
    kl_lease_batch_undone(s, b);
    prepend_list(&s->queue, b->txns);
    kl_grave_batch(s, b);
}

static void batch_add_txn(struct kl_batch *b, struct kl_txn *txn)
{
    txn->next = NULL;
    *b->txns_tail = txn;
    b->txns_tail = &txn->next;
    b->ntxns++;
}

// Whatever publishing will need.
static int prepare_batch(struct kl_store *s, struct kl_batch *b)
{
    size_t bytes = 0;
    if (b->big)
        return (b->view = calloc(1, sizeof(*b->view))) ? kl_ring_reserve(&s->room, 0) : KL_ENOMEM;
    for (size_t i = 0; i < b->nrows; i++)
        bytes += kl_event_bytes(&(struct kl_event){b->rows[i].kv, NULL});
    b->view = calloc(1, sizeof(*b->view));
    return b->view ? kl_ring_reserve(&s->room, kl_ring_need(&s->room, b->nrows, bytes)) : KL_ENOMEM;
}

// False: more of it in the next turn.
static bool propose_fill(struct kl_store *s)
{
    struct kl_batch *b = s->fill;
    int r = kl_batch_is_big(b) ? kl_big_prepare(s, b) : 0;
    s->slice.preparing = r == KL_EAGAIN;
    if (r == KL_EAGAIN)
        return false;
    kl_lease_add_due(s, b);
    if (r || prepare_batch(s, b)) {
        s->fill = NULL;
        kl_lease_batch_undone(s, b);
        for (struct kl_txn *t = b->txns, *next; t; t = next) {
            next = t->next;
            answer_error(s, t, KL_ENOMEM, kl_err_text(KL_ENOMEM));
        }
        kl_grave_batch(s, b);
        reset_spec(s, s->view->root);
        return true;
    }
    b->last_rev = b->base_rev + (kl_rev)b->nrows;
    b->seq = ++s->seq;
    b->full = s->full;
    b->root = kl_node_ref(s->spec.root);
    s->spec.gen = ++s->gen; // sealed
    b->proposed_ns = kl_mono_ns();
    s->fill = NULL;
    s->inflight = b;
    kl_fault_crash("core.propose");
    s->ops->propose(s->backend, b);
    return true;
}

static void ask_head(struct kl_store *s);

void kl_commit_confirm(struct kl_store *s, struct kl_txn *txn)
{
    kl_queue_push(&s->head_next, txn);
    ask_head(s);
}

// What another server sent is stored with the batch that ends it.
static int note_forwarded(struct kl_store *s, const struct kl_txn *txn)
{
    if (!txn->server ||
        (txn->internal != KL_WORK_TXN && txn->internal != KL_WORK_COMPACT && !kl_lease_logged(txn)))
        return 0;
    return kl_batch_add_forwarded(s->fill, (struct kl_forwarded){.server = txn->server,
                                                                 .seq = txn->seq,
                                                                 .row_at = txn->row_at,
                                                                 .row_n = txn->row_n,
                                                                 .succeeded = txn->body.succeeded});
}

static void place_txn(struct kl_store *s, struct kl_txn *txn, enum kl_eval how)
{
    if (how == KL_EVAL_BATCH && note_forwarded(s, txn))
        how = KL_EVAL_NOMEM;
    switch (how) {
    case KL_EVAL_ANSWER:
        kl_commit_answer(s, txn);
        break;
    case KL_EVAL_BATCH:
        batch_add_txn(s->fill, txn);
        break;
    case KL_EVAL_WAIT:
        if (!kl_commit_has_writes(s->fill)) // it saw all of what is in flight
            txn->row_at = (uint32_t)s->inflight->nrows;
        batch_add_txn(kl_commit_has_writes(s->fill) ? s->fill : s->inflight, txn);
        break;
    case KL_EVAL_HEAD:
        kl_txn_reset(txn);
        kl_commit_confirm(s, txn);
        break;
    case KL_EVAL_ELSEWHERE:
        kl_forward_elsewhere(s, txn);
        break;
    case KL_EVAL_LATER:
        kl_queue_push_front(&s->queue, txn);
        break;
    case KL_EVAL_MORE:
        s->slice.txn = txn;
        break;
    case KL_EVAL_NOMEM:
        drop_fill(s);
        reset_spec(s, s->inflight ? s->inflight->root : s->view->root);
        answer_error(s, txn, KL_ENOMEM, kl_err_text(KL_ENOMEM));
        break;
    }
}

static enum kl_eval evaluate(struct kl_store *s, struct kl_txn *txn)
{
    if (txn->internal == KL_WORK_COMPACT)
        return kl_compact_eval(s, txn);
    if (txn->internal == KL_WORK_HEAD) // it comes here confirmed
        return KL_EVAL_ANSWER;
    if (kl_fence_refuses(s, txn))
        return KL_EVAL_ANSWER;
    return txn->internal == KL_WORK_TXN ? kl_eval_txn(s, txn) : kl_lease_eval(s, txn);
}

static bool has_room(const struct kl_store *s, const struct kl_batch *b)
{
    if (s->ops->one_txn && kl_commit_has_writes(b))
        return false;
    return !b || (b->ntxns < KL_BATCH_MAX_TXNS && b->bytes < KL_BATCH_MAX_BYTES);
}

// Goes on with what takes more than a turn. False: it is still not whole.
static bool finish_slice(struct kl_store *s)
{
    struct kl_txn *txn = s->slice.txn;
    if (txn && !s->stale && kl_turn_left(s)) {
        s->slice.txn = NULL;
        place_txn(s, txn, kl_eval_go_on(s, txn));
    }
    return !s->slice.txn;
}

// False: the turn is used up before the queue is.
static bool run_queue(struct kl_store *s)
{
    enum kl_eval how = KL_EVAL_ANSWER;
    while (s->queue.first && how != KL_EVAL_LATER && how != KL_EVAL_MORE) {
        if (!kl_turn_left(s))
            return false;
        struct kl_txn *txn = kl_queue_pop(&s->queue);
        if (kl_forward_takes(s, txn))
            continue;
        how = s->stale || !has_room(s, s->fill) ? KL_EVAL_LATER : evaluate(s, txn);
        place_txn(s, txn, how);
    }
    return true;
}

static void run_pump(struct kl_task *t)
{
    struct kl_store *s = KL_CONTAINER_OF(t, struct kl_store, pump);
    s->pumping = false;
    bool more = false;
    kl_evict_run(s);
    while (!s->taking && finish_slice(s)) {
        if (!s->slice.preparing)
            more = !run_queue(s);
        if (s->slice.txn || s->inflight || !kl_commit_has_writes(s->fill) || !propose_fill(s))
            break;
    }
    if (more || (s->slice.txn && !s->stale) || s->slice.preparing)
        kl_slice_post(s);
    kl_forward_run(s);
    kl_store_maybe_stop(s);
}

void kl_commit_pump(struct kl_store *s)
{
    if (!s->pumping) {
        s->pumping = true;
        s->pump.run = run_pump;
        kl_loop_defer(s->loop, &s->pump);
    }
}

// ---- a head that was true after the read came ----

static void head_done(struct kl_head_req *q)
{
    struct kl_store *s = KL_CONTAINER_OF(q, struct kl_store, head);
    s->asking_head = false;
    for (struct kl_txn *t; (t = kl_queue_pop(&s->head_waiting));) {
        if (q->code && s->forward && t->internal != KL_WORK_HEAD && !s->stopping) {
            kl_forward_unconfirmed(s, t);
            continue;
        }
        if (q->code) {
            answer_error(s, t, q->code, "the datastore's head cannot be confirmed");
            continue;
        }
        // What the head includes came up before the answer did: evaluate on it.
        assert(q->rev <= s->view->rev);
        t->confirmed = true;
        kl_queue_push(&s->queue, t);
    }
    ask_head(s);
    kl_commit_pump(s);
}

static void ask_head(struct kl_store *s)
{
    if (s->asking_head || !s->head_next.first)
        return;
    s->asking_head = true;
    for (struct kl_txn *t; (t = kl_queue_pop(&s->head_next));)
        kl_queue_push(&s->head_waiting, t);
    s->head = (struct kl_head_req){.done = head_done};
    s->ops->confirm_head(s->backend, &s->head);
}

// ---- applied ----

static void settle_row(struct kl_store *s, struct kl_row *row)
{
    for (int k = 0; row->op && !row->kv->deleted && k < KL_KV_ATTACH; k++) {
        if (row->op->attach[k])
            kl_kv_attach(row->kv, k, row->op->attach[k]);
        row->op->attach[k] = NULL;
    }
    kl_lease_row_applied(s, row);
    kl_fence_note(s, row->kv);
}

// What the grave does with the rest of it nobody sees, but the leases, which wait for it.
static void publish_big(struct kl_store *s, struct kl_batch *b, struct kl_view *v,
                        struct kl_ring_room *room)
{
    struct kl_big *big = b->big;
    if (!big->view)
        big->view = kl_view_ref(s->view);
    big->published = true;
    for (size_t i = 0; i < big->nmarked; i++)
        settle_row(s, &b->rows[big->marked[i]]);
    s->leases.unsettled += big->settle;
    v->written += big->held;
    kl_ring_link(room, &v->ring, &v->last_n, &big->built);
}

static void publish_rows(struct kl_store *s, struct kl_batch *b, struct kl_view *v,
                         struct kl_ring_room *room)
{
    const struct kl_view *old = s->view;
    bool replaced = false;
    atomic_init(&v->refs, 1);
    v->rev = b->last_rev;
    v->compact_rev = b->compact_rev > old->compact_rev ? b->compact_rev : old->compact_rev;
    v->written = old->written;
    v->ring = kl_ring_ref(old->ring);
    v->last_n = old->last_n;
    if (b->big)
        publish_big(s, b, v, room);
    else
        kl_turn_take(s, b->nrows);
    for (size_t i = 0; i < b->nrows && !b->big; i++) {
        struct kl_row *row = &b->rows[i];
        settle_row(s, row);
        struct kl_event ev = {row->kv, row->prev};
        v->written += (int64_t)kl_event_held(&ev);
        kl_ring_append(room, &v->ring, &v->last_n, &ev, &replaced);
    }
    for (size_t i = 0; i < b->nleases; i++)
        kl_lease_op_applied(s, &b->leases[i]);
    kl_store_publish(s, v);
    if (replaced || b->big) // a few hundred events later
        kl_store_trim_held(s);
    if (room != &s->room)
        kl_ring_bury_later(&s->room, room);
    kl_grave_run(s);
    const struct kl_ring *ring = v->ring;
    atomic_store_explicit(&s->stat.rev, v->rev, memory_order_relaxed);
    atomic_store_explicit(&s->stat.compact_rev, v->compact_rev, memory_order_relaxed);
    atomic_store_explicit(&s->stat.keys, v->root ? v->root->count : 0, memory_order_relaxed);
    atomic_store_explicit(&s->stat.ring_bytes,
                          (long long)(ring->bytes + (ring->n ? ring->chunk[ring->n - 1]->held : 0)),
                          memory_order_relaxed);
    atomic_fetch_add_explicit(&s->stat.rows, (long long)b->nrows, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->stat.batches, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->stat.txns, (long long)b->ntxns, memory_order_relaxed);
}

static int apply_own(struct kl_store *s, struct kl_batch *b)
{
    // A state that was installed while it was being stored may hold it already.
    bool there = b->base_rev < s->view->rev && b->last_rev <= s->view->rev;
    assert(b == s->inflight && (there || b->base_rev == s->view->rev));
    int64_t took_ns = kl_mono_ns() - b->proposed_ns;
    kl_fault_crash("core.durable");
    s->inflight = NULL;
    s->stale = false;
    if (there) {
        drop_fill(s);
        kl_lease_batch_undone(s, b); // the leases are that state's
        reset_spec(s, s->view->root);
    } else {
        struct kl_view *v = b->view;
        s->leases.unapplied_puts -= (int64_t)b->nleased;
        b->view = NULL;
        v->root = b->root;
        b->root = NULL;
        publish_rows(s, b, v, &s->room);
    }
    atomic_store_explicit(&s->stat.last_error, 0, memory_order_relaxed);
    kl_fault_crash("core.published");
    kl_store_metrics_applied(s, b, took_ns);
    for (struct kl_txn *t = b->txns, *next; t; t = next) {
        next = t->next;
        t->rev = kl_batch_rev_at(b, t->row_at + t->row_n);
        kl_commit_answer(s, t);
    }
    kl_fault_crash("core.answered");
    kl_forward_applied(s, b, true);
    if (b->last_rev != b->base_rev + (kl_rev)b->nrows)
        kl_commit_moved(s); // the log gave other revisions than were foreseen
    kl_grave_batch(s, b);
    return 0;
}

void kl_commit_moved(struct kl_store *s)
{
    if (s->inflight) {
        s->stale = true; // what is evaluated stands on a state that is gone
    } else {
        drop_fill(s);
        reset_spec(s, s->view->root);
    }
}

// KL_EAGAIN: one of its transactions reads many keys. KL_ENOMEM. Then nothing is left of it.
static int prepare_small(struct kl_store *s, struct kl_batch *b, struct kl_replay *replay,
                         struct kl_ring_room *room)
{
    size_t bytes = 0;
    for (size_t i = 0; i < b->nrows; i++)
        bytes += kl_event_bytes(&(struct kl_event){b->rows[i].kv, NULL});
    int r = kl_ring_reserve(room, kl_ring_need(room, b->nrows, bytes));
    if (!r)
        r = kl_replay_batch(s, b, replay);
    if (!r)
        return 0;
    kl_node_unref(replay->x.root);
    replay->x.root = NULL;
    kl_outside_undone(b);
    return r;
}

static int apply_outside(struct kl_store *s, struct kl_batch *b)
{
    assert(b->base_rev >= s->view->rev);
    bool big = b->big || kl_batch_is_big(b);
    struct kl_replay replay = {.at_once = b->at_once};
    struct kl_ring_room room;
    kl_ring_room_init(&room, s->o.ring_bytes);
    int r = big ? KL_EAGAIN : prepare_small(s, b, &replay, &room);
    if (r == KL_EAGAIN) {
        big = true;
        r = kl_outside_prepare(s, b);
        if (!r)
            r = kl_ring_reserve(&room, 0);
    }
    struct kl_view *v = r ? NULL : calloc(1, sizeof(*v));
    if (!v) {
        if (r != KL_EAGAIN) {
            kl_node_unref(replay.x.root);
            kl_outside_undone(b);
        }
        kl_ring_room_fini(&room);
        return r ? r : KL_ENOMEM;
    }
    for (size_t i = 0; i < b->nleases; i++)
        b->leases[i].deadline_mono_ms = 0; // another process's clock
    struct kl_index *x = big ? &b->big->replay.x : &replay.x;
    v->root = x->root;
    x->root = NULL;
    publish_rows(s, b, v, &room);
    kl_ring_room_fini(&room);
    kl_forward_applied(s, b, false);
    s->taking = false;
    kl_grave_batch(s, b);
    kl_commit_moved(s);
    return 0;
}

int kl_core_stored(struct kl_store *s, struct kl_batch *own, struct kl_batch *as)
{
    assert(kl_loop_is_current(s->loop) && own == s->inflight);
    // The one that wrote: others in the batch read what it was to write, and are evaluated again.
    struct kl_txn *t = own->txns, *rest = t->next;
    bool compact = own->compact_rev != 0;
    as->own = compact ? NULL : t;
    as->compact_rev = own->compact_rev;
    int64_t took_ns = kl_mono_ns() - own->proposed_ns;
    s->inflight = NULL;
    int r = apply_outside(s, as);
    if (r) {
        s->inflight = own;
        return r;
    }
    s->stale = false;
    t->replayed = false;
    kl_lease_batch_undone(s, own);
    atomic_store_explicit(&s->stat.last_error, 0, memory_order_relaxed);
    kl_store_metrics_applied(s, own, took_ns);
    atomic_fetch_add_explicit(&s->stat.txns, 1, memory_order_relaxed);
    t->rev = s->view->rev;
    kl_commit_answer(s, t);
    prepend_list(&s->queue, rest);
    kl_grave_batch(s, own);
    kl_compact_run(s);
    kl_store_arm_timer(s);
    kl_commit_pump(s);
    return 0;
}

// What is not proposed goes to whoever evaluates now.
void kl_core_leader_changed(struct kl_store *s)
{
    assert(kl_loop_is_current(s->loop));
    if (!kl_store_leads(s) && (s->fill || s->slice.txn)) {
        drop_fill(s);
        reset_spec(s, s->inflight ? s->inflight->root : s->view->root);
    }
    kl_lease_leader_changed(s);
    kl_store_metrics_leader(s, true);
    kl_forward_run(s);
    kl_store_arm_timer(s);
    kl_commit_pump(s);
}

int kl_core_applied(struct kl_store *s, struct kl_batch *b)
{
    assert(kl_loop_is_current(s->loop));
    int r = b == s->inflight ? apply_own(s, b) : apply_outside(s, b);
    if (r)
        return r;
    kl_compact_run(s);
    kl_store_arm_timer(s);
    kl_commit_pump(s);
    return 0;
}

// ---- failed ----

void kl_commit_set_full(struct kl_store *s, bool full)
{
    if (s->full != full)
        kl_log(full ? KL_LOG_ERROR : KL_LOG_INFO, "store",
               full ? "disk full: only deletions and updates that do not grow are stored"
                    : "disk space is back: all writes are stored again");
    s->full = full;
    s->full_budget = KL_FULL_UPDATE_BYTES;
    s->full_check_ms = kl_store_mono_ms(s) + KL_FULL_CHECK_MS;
    atomic_store_explicit(&s->stat.full, full, memory_order_relaxed);
    kl_store_metric(KL_SM_DISK_FULL, full);
}

void kl_core_failed(struct kl_store *s, struct kl_batch *b, int code)
{
    assert(kl_loop_is_current(s->loop));
    if (b != s->inflight) { // faulty+ tried to store it behind our back
        kl_batch_free(b);
        return;
    }
    s->inflight = NULL;
    s->stale = s->taking = false; // what was being taken is offered again, or dropped
    drop_fill(s);
    kl_lease_batch_undone(s, b);
    if (code == KL_ECONFLICT || (code == KL_ENOSPC && !s->full)) {
        // Evaluated again: on the newer log; or by the rules of a full disk.
        if (code == KL_ENOSPC)
            kl_commit_set_full(s, true);
        prepend_list(&s->queue, b->txns);
    } else {
        kl_store_set_error(s, code, b->err.msg);
        kl_store_metric(KL_SM_FAILED, 1);
        for (struct kl_txn *t = b->txns, *next; t; t = next) {
            next = t->next;
            answer_error(s, t, code, b->err.msg[0] ? b->err.msg : kl_err_text(code));
        }
    }
    kl_grave_batch(s, b);
    reset_spec(s, s->view->root);
    kl_compact_run(s);
    kl_store_arm_timer(s);
    kl_commit_pump(s);
}

void kl_commit_cancel(struct kl_store *s)
{
    kl_forward_cancel(s);
    struct kl_queue *q[] = {&s->queue, &s->head_waiting, &s->head_next};
    for (size_t i = 0; i < KL_COUNT(q); i++) {
        for (struct kl_txn *t; (t = kl_queue_pop(q[i]));)
            answer_error(s, t, t->again ? KL_EMAYBE : KL_ECANCELED, "the store is stopping");
    }
}

// When the store stops and nothing is in flight.
void kl_commit_fini(struct kl_store *s)
{
    drop_fill(s);
    kl_commit_cancel(s);
}
