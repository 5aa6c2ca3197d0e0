// SPDX-License-Identifier: Apache-2.0
// The core's loop: what the writer and the feed bring goes up in the order of its numbers.
#include "store/sql/sql_int.h"
#include "base/clock.h"
#include <stdlib.h>

static void set_at(struct kl_backend *b, struct kl_sql_pos at)
{
    b->at = at;
    pthread_mutex_lock(&b->mu);
    b->shared_at = at;
    if (b->seen_rev < at.rev)
        b->seen_rev = at.rev;
    pthread_cond_broadcast(&b->wake); // the writer may be giving way
    pthread_mutex_unlock(&b->mu);
}

// ---- what waits for its turn ----

static void pop_pending(struct kl_backend *b)
{
    struct kl_sql_entry *e = b->pending;
    b->pending = e->next;
    if (!b->pending)
        b->pending_end = &b->pending;
    b->npending--;
    kl_batch_free(e->batch);
    free(e);
}

void kl_sql_free_pending(struct kl_backend *b)
{
    while (b->pending)
        pop_pending(b);
}

static void drain(struct kl_backend *b);

static void run_drain(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, drain_task);
    b->drain_posted = false;
    if (!b->closed)
        drain(b);
}

static void check_head(struct kl_backend *b)
{
    struct kl_head_req *q = b->head;
    bool same = b->at.history_id == b->head_pos.history_id;
    if (!q || (same && b->at.seq < b->head_pos.seq))
        return;
    b->head = NULL;
    q->code = 0;
    q->rev = same ? b->head_pos.rev : b->at.rev;
    q->done(q);
}

// A batch whose compare failed is evaluated again when what it lacked has come up.
static void check_conflict(struct kl_backend *b)
{
    struct kl_sql_write *w = &b->write;
    if (!b->conflicted || (b->at.history_id == w->base.history_id && b->at.seq < w->target_seq))
        return;
    b->conflicted = false;
    kl_core_failed(b->core, w->batch, KL_ECONFLICT);
}

static void drain(struct kl_backend *b)
{
    for (struct kl_sql_entry *e; (e = b->pending);) {
        bool next = e->after.history_id == b->at.history_id && e->after.seq == b->at.seq + 1;
        if (!next && e->after.history_id == b->at.history_id && e->after.seq > b->at.seq)
            break; // behind one of our own that the writer has not settled
        if (next) {
            if (kl_core_applied(b->core, e->batch)) {
                // No memory, or many rows: the others have their turn, then again.
                if (!b->drain_posted) {
                    b->drain_posted = true;
                    b->drain_task.run = run_drain;
                    kl_loop_post(kl_core_loop(b->core), &b->drain_task);
                }
                return;
            }
            e->batch = NULL;
            atomic_store(&b->foreign_ms, kl_mono_ms());
            set_at(b, e->after);
        }
        pop_pending(b);
    }
    check_conflict(b);
    check_head(b);
}

// ---- the feed's ----

static void take_entries(struct kl_backend *b, struct kl_sql_pass *p)
{
    for (struct kl_sql_entry *e, *next = p->entries; (e = next);) {
        next = e->next;
        e->next = NULL;
        *b->pending_end = e;
        b->pending_end = &e->next;
        b->npending++;
    }
    p->entries = NULL;
    p->end = &p->entries;
}

static void take_state(struct kl_backend *b, struct kl_sql_pass *p)
{
    struct kl_sql_state *st = p->state;
    p->state = NULL;
    int r = kl_core_reset(b->core, kl_sql_give_state, st);
    if (!r) {
        kl_sql_free_pending(b);
        set_at(b, st->pos);
    } else {
        p->code = kl_error_set(&p->err, r, "%s", kl_err_text(r));
        p->more = true; // read again
    }
    kl_sql_state_free(st);
}

static void give_up(struct kl_backend *b, const struct kl_sql_pass *p)
{
    struct kl_sql_write *w = &b->write;
    if (!b->conflicted || kl_mono_ms() < w->give_up_ms)
        return;
    b->conflicted = false;
    kl_error_set(&w->batch->err, KL_EUNAVAILABLE, "%s", p->err.msg);
    kl_core_failed(b->core, w->batch, KL_EUNAVAILABLE);
}

void kl_sql_deliver(struct kl_backend *b, struct kl_sql_pass *p)
{
    struct kl_head_req *q = p->q;
    p->q = NULL;
    if (p->state)
        take_state(b, p);
    take_entries(b, p);
    drain(b);
    if (q && p->code) {
        q->code = p->code;
        q->done(q);
    } else if (q) {
        b->head = q;
        b->head_pos = p->head;
        check_head(b);
    }
    if (p->code)
        give_up(b, p);
    if (b->npending > KL_SQL_PENDING_MAX)
        p->more = false; // the writer's next answer goes on
}

// ---- the writer's ----

static void written(struct kl_backend *b, struct kl_sql_write *w, struct kl_batch *batch)
{
    if (b->at.history_id != w->base.history_id) {
        // The log was set back behind the commit. What it goes on from may hold the batch: to run
        // it again could be to run it twice.
        kl_error_set(&batch->err, KL_EMAYBE, "datastore %s was set back meanwhile", b->name);
        kl_core_failed(b->core, batch, KL_EMAYBE);
        return;
    }
    if (b->at.seq < w->after.seq) // otherwise what was read anew meanwhile holds it
        set_at(b, w->after);
    kl_core_applied(b->core, batch);
    kl_sql_tell_peers(b);
}

void kl_sql_written(struct kl_backend *b)
{
    struct kl_sql_write *w = &b->write;
    struct kl_batch *batch = w->batch;
    bool waiting = b->npending > 0;
    atomic_store(&b->inflight_nonce, 0);
    switch (batch->code) {
    case 0:
        written(b, w, batch);
        break;
    case KL_ECONFLICT:
        b->conflicted = true;
        w->give_up_ms = kl_mono_ms() + KL_SQL_WRITE_MS;
        if (w->target_seq == INT64_MAX)
            atomic_store(&b->doubted, true); // is it still the same log?
        kl_sql_kick(b);
        break;
    case KL_EMAYBE:
        // Should it turn out to be stored, it comes like another server's.
        kl_sql_free_pending(b);
        atomic_store(&b->refeed, true);
        kl_core_failed(b->core, batch, KL_EMAYBE);
        kl_sql_kick(b);
        break;
    default:
        kl_core_failed(b->core, batch, batch->code);
    }
    drain(b);
    if (waiting)
        kl_sql_kick(b);
}
