// SPDX-License-Identifier: Apache-2.0
// Compaction: the revision is raised first, in a batch of its own kind; the rows go afterwards in
// steps whose window adapts to the time they take. Nothing is remembered but physical_rev, so that
// a crash at any point is taken up again.
#include "store/forward.h"
#include "store/store_int.h"
#include "store/view_int.h"
#include "base/fault.h"
#include "base/log.h"
#include <assert.h>
#include <stdlib.h>

enum {
    WINDOW_FIRST = 1000,
    WINDOW_MAX = 8000,
    WINDOW_MIN = 16,
    STEP_SLOW_US = 5000,
    STEP_FAST_US = 1000,
    RETRY_MS = 1000,
};

struct work {
    struct kl_txn txn;
    struct kl_store *store;
    kl_rev rev;
    struct kl_compact_wait *wait; // NULL: automatic
};

static void run_wait_cb(struct kl_task *t)
{
    struct kl_compact_wait *c = KL_CONTAINER_OF(t, struct kl_compact_wait, task);
    c->cb(c);
}

static void answer_wait(struct kl_compact_wait *c)
{
    c->task.run = run_wait_cb;
    kl_loop_post(c->loop, &c->task);
}

// ---- the logical part ----

enum kl_eval kl_compact_eval(struct kl_store *s, struct kl_txn *txn)
{
    struct work *w = KL_CONTAINER_OF(txn, struct work, txn);
    kl_rev have = s->view->compact_rev;
    if (s->inflight && s->inflight->compact_rev > have)
        have = s->inflight->compact_rev;
    if (s->fill && s->fill->compact_rev > have)
        have = s->fill->compact_rev;
    txn->code = 0;
    txn->row_n = 0;
    if (w->rev <= have)
        txn->code = kl_error_set(&txn->err, KL_ECOMPACTED,
                                 "etcdserver: mvcc: required revision has been compacted");
    else if (w->rev > s->view->rev)
        txn->code = kl_error_set(&txn->err, KL_EFUTUREREV,
                                 "etcdserver: mvcc: required revision is a future revision");
    if (txn->code)
        return KL_EVAL_ANSWER;
    if (kl_commit_need_fill(s))
        return KL_EVAL_NOMEM;
    txn->row_at = (uint32_t)s->fill->nrows;
    s->fill->compact_rev = w->rev;
    return KL_EVAL_BATCH;
}

static void work_done(struct kl_txn *txn)
{
    struct work *w = KL_CONTAINER_OF(txn, struct work, txn);
    struct kl_store *s = w->store;
    struct kl_compact_wait *c = w->wait;
    if (!c) {
        s->compaction.auto_queued = false;
    } else {
        c->code = txn->code;
        c->err = txn->err;
        if (!c->code && c->physical && !s->stopping && s->compaction.physical < c->rev) {
            c->next = s->compaction.waits;
            s->compaction.waits = c;
        } else {
            answer_wait(c);
        }
    }
    if (!txn->code)
        kl_store_metric(KL_SM_COMPACTIONS, 1);
    free(w);
    kl_compact_run(s);
    kl_store_arm_timer(s);
}

static struct work *new_work(struct kl_store *s, kl_rev rev, struct kl_compact_wait *c)
{
    struct work *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    *w = (struct work){.store = s, .rev = rev, .wait = c};
    w->txn.internal = KL_WORK_COMPACT;
    w->txn.store = s;
    w->txn.loop = s->loop;
    w->txn.cb = work_done;
    atomic_fetch_add_explicit(&s->queued, 1, memory_order_relaxed);
    return w;
}

kl_rev kl_compact_asked(const struct kl_txn *txn)
{
    return KL_CONTAINER_OF(txn, struct work, txn)->rev;
}

bool kl_compact_is_asked(const struct kl_txn *txn)
{
    return KL_CONTAINER_OF(txn, struct work, txn)->wait != NULL;
}

void kl_compact_start(struct kl_store *s, struct kl_compact_wait *c)
{
    struct work *w = new_work(s, c->rev, c);
    if (!w) {
        c->code = KL_ENOMEM;
        answer_wait(c);
        return;
    }
    w->txn.server = c->server;
    w->txn.seq = c->seq;
    w->txn.again = c->again;
    kl_commit_enqueue(s, &w->txn);
}

static void run_compact(struct kl_task *t)
{
    struct kl_compact_wait *c = KL_CONTAINER_OF(t, struct kl_compact_wait, task);
    kl_compact_start(c->store, c);
}

int kl_store_compact(struct kl_store *s, struct kl_compact_wait *c, struct kl_error *err)
{
    if (atomic_load_explicit(&s->refuse, memory_order_acquire))
        return kl_error_set(err, KL_EUNAVAILABLE, "the store is stopping");
    if (!c->loop)
        c->loop = kl_loop_current();
    assert(c->loop);
    c->code = 0;
    c->store = s;
    c->server = c->seq = 0;
    c->again = false;
    c->task.run = run_compact;
    kl_loop_post(s->loop, &c->task);
    return 0;
}

// ---- the physical part ----

static void answer_waits(struct kl_store *s)
{
    struct kl_compact_wait **p = &s->compaction.waits;
    while (*p) {
        struct kl_compact_wait *c = *p;
        if (c->rev > s->compaction.physical && !s->stopping) {
            p = &c->next;
            continue;
        }
        *p = c->next;
        if (s->stopping && c->rev > s->compaction.physical)
            c->code = KL_ECANCELED;
        answer_wait(c);
    }
}

void kl_compact_cancel(struct kl_store *s)
{
    answer_waits(s);
}

static void adapt_window(struct kl_compaction *c, int64_t took_us)
{
    if (took_us > STEP_SLOW_US && c->window > WINDOW_MIN)
        c->window /= 2;
    else if (took_us < STEP_FAST_US && c->window < WINDOW_MAX)
        c->window *= 2;
}

static void step_done(struct kl_step_req *q)
{
    struct kl_store *s = KL_CONTAINER_OF(q, struct kl_store, compaction.step);
    struct kl_compaction *c = &s->compaction;
    c->stepping = false;
    if (c->outdated) {
        c->outdated = false;
    } else if (q->code) {
        kl_log(KL_LOG_WARN, "store", "compaction step failed, tries again: %s window=%lld",
               kl_err_text(q->code), (long long)c->window);
        c->retry_ms = kl_store_mono_ms(s) + RETRY_MS;
        if (q->code == KL_ENOSPC && !s->full) // the reserve was given up for it
            kl_commit_set_full(s, true);
        // A full disk may have room for a smaller step.
        c->window = c->window / 4 > WINDOW_MIN ? c->window / 4 : WINDOW_MIN;
    } else {
        c->physical = q->through;
        atomic_store_explicit(&s->stat.physical_rev, c->physical, memory_order_relaxed);
        adapt_window(c, q->took_us);
        kl_store_metric(KL_SM_COMPACTED_KEYS, q->rows);
        kl_store_metric_step(q->took_us);
        c->want_tidy = true;
        answer_waits(s);
    }
    kl_compact_run(s);
    kl_store_arm_timer(s);
    kl_store_maybe_stop(s);
}

static void tidy_done(struct kl_tidy_req *q)
{
    struct kl_store *s = KL_CONTAINER_OF(q, struct kl_store, compaction.tidy);
    s->compaction.tidying = false;
    s->compaction.want_tidy = q->more;
    kl_compact_run(s);
    kl_store_arm_timer(s);
    kl_store_maybe_stop(s);
}

void kl_compact_run(struct kl_store *s)
{
    struct kl_compaction *c = &s->compaction;
    if (s->o.read_only || s->stopping || c->stepping || c->tidying ||
        kl_store_mono_ms(s) < c->retry_ms)
        return;
    if (c->physical < s->view->compact_rev) {
        if (!c->window)
            c->window = WINDOW_FIRST;
        c->stepping = true;
        c->step = (struct kl_step_req){.done = step_done,
                                       .after = c->physical,
                                       .until = s->view->compact_rev,
                                       .window = c->window};
        kl_fault_crash("core.step");
        s->ops->compact_step(s->backend, &c->step);
    } else if (c->want_tidy && s->ops->tidy) {
        c->tidying = true;
        c->tidy = (struct kl_tidy_req){.done = tidy_done};
        s->ops->tidy(s->backend, &c->tidy);
    }
}

// ---- the policy ----

int64_t kl_compact_next_ms(struct kl_store *s)
{
    const struct kl_compaction *c = &s->compaction;
    int64_t next = s->o.auto_compact ? c->next_auto_ms : INT64_MAX;
    bool behind =
        !s->o.read_only && !c->stepping && !c->tidying && c->physical < s->view->compact_rev;
    return behind && c->retry_ms < next ? c->retry_ms : next;
}

// Remembers the head now and compacts what was the head compact_age_ms ago, less the newest
// compact_keep_revs.
void kl_compact_tick(struct kl_store *s)
{
    struct kl_compaction *c = &s->compaction;
    int64_t now = kl_store_mono_ms(s);
    kl_compact_run(s);
    if (!s->o.auto_compact || now < c->next_auto_ms)
        return;
    c->next_auto_ms = now + s->o.compact_every_ms;
    kl_store_trim_held(s);
    if (c->nsamples == KL_COMPACT_SAMPLES) {
        // Keep the newest one that is old enough and thin out between it and now.
        memmove(&c->sample[1], &c->sample[2], (KL_COMPACT_SAMPLES - 2) * sizeof(c->sample[0]));
        c->nsamples--;
    }
    c->sample[c->nsamples].ms = now;
    c->sample[c->nsamples++].rev = s->view->rev;
    kl_rev target = 0;
    int old = -1;
    for (int i = 0; i < c->nsamples && now - c->sample[i].ms >= s->o.compact_age_ms; i++) {
        target = c->sample[i].rev;
        old = i;
    }
    if (old > 0) {
        memmove(c->sample, c->sample + old, (size_t)(c->nsamples - old) * sizeof(c->sample[0]));
        c->nsamples -= old;
    }
    if (target > s->view->rev - s->o.compact_keep_revs)
        target = s->view->rev - s->o.compact_keep_revs;
    struct work *w = target > s->view->compact_rev && !c->auto_queued && kl_store_leads(s)
                         ? new_work(s, target, NULL)
                         : NULL;
    c->auto_queued = c->auto_queued || w;
    if (w)
        kl_commit_enqueue(s, &w->txn);
}
