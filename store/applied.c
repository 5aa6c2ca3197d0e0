// SPDX-License-Identifier: Apache-2.0
// A batch is durable: index, ring, leases, a new view, answers. Whoever wrote it, in order; nothing
// else changes them.
#include "store/big.h"
#include "store/forward.h"
#include "store/view_int.h"
#include "base/clock.h"
#include "base/fault.h"
#include <assert.h>
#include <stdlib.h>

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
        kl_commit_drop_fill(s);
        kl_lease_batch_undone(s, b); // the leases are that state's
        kl_commit_reset(s, s->view->root);
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
    kl_queue_prepend(&s->queue, rest);
    kl_grave_batch(s, own);
    kl_compact_run(s);
    kl_store_arm_timer(s);
    kl_commit_pump(s);
    return 0;
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
