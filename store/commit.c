// SPDX-License-Identifier: Apache-2.0
// The committer: queue (submit.c) → evaluator → batch k+1 fills while batch k is with the back end
// → applied in order (applied.c).
#include "store/big.h"
#include "store/forward.h"
#include "store/store_int.h"
#include "store/view_int.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include <assert.h>
#include <stdlib.h>

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

void kl_commit_reset(struct kl_store *s, struct kl_node *root)
{
    kl_node_unref(s->spec.root);
    s->spec.root = kl_node_ref(root);
    s->spec.gen = ++s->gen;
}

// Throws away what fills and returns its transactions to the head of the queue.
void kl_commit_drop_fill(struct kl_store *s)
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
    kl_queue_prepend(&s->queue, b->txns);
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
            kl_commit_refuse(s, t, KL_ENOMEM, kl_err_text(KL_ENOMEM));
        }
        kl_grave_batch(s, b);
        kl_commit_reset(s, s->view->root);
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
        kl_commit_drop_fill(s);
        kl_commit_reset(s, s->inflight ? s->inflight->root : s->view->root);
        kl_commit_refuse(s, txn, KL_ENOMEM, kl_err_text(KL_ENOMEM));
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

void kl_commit_moved(struct kl_store *s)
{
    if (s->inflight) {
        s->stale = true; // what is evaluated stands on a state that is gone
    } else {
        kl_commit_drop_fill(s);
        kl_commit_reset(s, s->view->root);
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
            kl_commit_refuse(s, t, q->code, "the datastore's head cannot be confirmed");
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

// ---- failed, or no longer ours ----

// What is not proposed goes to whoever evaluates now.
void kl_core_leader_changed(struct kl_store *s)
{
    assert(kl_loop_is_current(s->loop));
    if (!kl_store_leads(s) && (s->fill || s->slice.txn)) {
        kl_commit_drop_fill(s);
        kl_commit_reset(s, s->inflight ? s->inflight->root : s->view->root);
    }
    kl_lease_leader_changed(s);
    kl_store_metrics_leader(s, true);
    kl_forward_run(s);
    kl_store_arm_timer(s);
    kl_commit_pump(s);
}

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
    kl_commit_drop_fill(s);
    kl_lease_batch_undone(s, b);
    if (code == KL_ECONFLICT || (code == KL_ENOSPC && !s->full)) {
        // Evaluated again: on the newer log; or by the rules of a full disk.
        if (code == KL_ENOSPC)
            kl_commit_set_full(s, true);
        kl_queue_prepend(&s->queue, b->txns);
    } else {
        kl_store_set_error(s, code, b->err.msg);
        kl_store_metric(KL_SM_FAILED, 1);
        for (struct kl_txn *t = b->txns, *next; t; t = next) {
            next = t->next;
            kl_commit_refuse(s, t, code, b->err.msg[0] ? b->err.msg : kl_err_text(code));
        }
    }
    kl_grave_batch(s, b);
    kl_commit_reset(s, s->view->root);
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
            kl_commit_refuse(s, t, t->again ? KL_EMAYBE : KL_ECANCELED, "the store is stopping");
    }
}

// When the store stops and nothing is in flight.
void kl_commit_fini(struct kl_store *s)
{
    kl_commit_drop_fill(s);
    kl_commit_cancel(s);
}
