// SPDX-License-Identifier: Apache-2.0
#include "scheduler/queue.h"
#include "base/map.h"
#include <stdlib.h>

enum {
    BACKOFF_MIN_MS = 1000,
    BACKOFF_MAX_MS = 10000,
    FLUSH_MS = 5 * 60 * 1000, // podMaxInUnschedulablePodsDuration
};

struct kl_queue {
    struct kl_timers *ts;
    struct kl_map pods; // uid → kl_queued
    struct kl_queued **heap;
    size_t n, cap;
    size_t counts[KL_QUEUED_TAKEN + 1];
    uint64_t seq;
    void (*ready_cb)(void *arg);
    void *arg;
};

// ---- the heap of the active

static bool goes_before(const struct kl_queued *a, const struct kl_queued *b)
{
    if (a->info->priority != b->info->priority)
        return a->info->priority > b->info->priority;
    if (a->added_ms != b->added_ms)
        return a->added_ms < b->added_ms;
    return a->seq < b->seq;
}

static void place(struct kl_queue *q, size_t i, struct kl_queued *p)
{
    q->heap[i] = p;
    p->slot = i;
}

static void sift_up(struct kl_queue *q, size_t i, struct kl_queued *p)
{
    while (i > 0 && goes_before(p, q->heap[(i - 1) / 2])) {
        place(q, i, q->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(q, i, p);
}

static void sift_down(struct kl_queue *q, size_t i, struct kl_queued *p)
{
    for (size_t c; (c = 2 * i + 1) < q->n; i = c) {
        if (c + 1 < q->n && goes_before(q->heap[c + 1], q->heap[c]))
            c++;
        if (!goes_before(q->heap[c], p))
            break;
        place(q, i, q->heap[c]);
    }
    place(q, i, p);
}

static void heap_remove(struct kl_queue *q, struct kl_queued *p)
{
    struct kl_queued *last = q->heap[--q->n];
    size_t i = p->slot;
    if (last == p)
        return;
    if (i > 0 && goes_before(last, q->heap[(i - 1) / 2]))
        sift_up(q, i, last);
    else
        sift_down(q, i, last);
}

// ---- states

static int64_t backoff_ms(const struct kl_queued *p)
{
    int64_t ms = BACKOFF_MIN_MS;
    for (int i = 1; i < p->attempts && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    return ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
}

static void leave_state(struct kl_queue *q, struct kl_queued *p)
{
    if (p->state == KL_QUEUED_ACTIVE)
        heap_remove(q, p);
    kl_timer_cancel(q->ts, &p->timer);
    q->counts[p->state]--;
}

static void enter_state(struct kl_queue *q, struct kl_queued *p, enum kl_queued_state state)
{
    p->state = state;
    p->since_ms = kl_timers_now_ms(q->ts);
    q->counts[state]++;
    switch (state) {
    case KL_QUEUED_ACTIVE:
        if (q->n == q->cap) {
            q->cap = q->cap ? q->cap * 2 : 64;
            q->heap = realloc(q->heap, q->cap * sizeof(struct kl_queued *));
            if (!q->heap)
                abort(); // a pod that is lost here would never run
        }
        sift_up(q, q->n++, p);
        q->ready_cb(q->arg);
        break;
    case KL_QUEUED_UNSCHEDULABLE:
        kl_timer_after(q->ts, &p->timer, FLUSH_MS);
        break;
    case KL_QUEUED_BACKOFF: // whoever enters it sets the timer
    case KL_QUEUED_GATED:
    case KL_QUEUED_TAKEN:
        break;
    }
}

static void change_state(struct kl_queue *q, struct kl_queued *p, enum kl_queued_state state)
{
    leave_state(q, p);
    enter_state(q, p, state);
}

// To active, or to back-off for what is left of it since the last failure.
static void retry(struct kl_queue *q, struct kl_queued *p)
{
    int64_t left = p->since_ms + backoff_ms(p) - kl_timers_now_ms(q->ts);
    if (p->attempts == 0 || left <= 0) {
        change_state(q, p, KL_QUEUED_ACTIVE);
        return;
    }
    change_state(q, p, KL_QUEUED_BACKOFF);
    kl_timer_after(q->ts, &p->timer, left);
}

static void on_timer(struct kl_timer *t)
{
    struct kl_queued *p = KL_CONTAINER_OF(t, struct kl_queued, timer);
    change_state(p->queue, p, KL_QUEUED_ACTIVE);
}

static void free_queued(struct kl_queue *q, struct kl_queued *p)
{
    leave_state(q, p);
    kl_pod_info_free(p->info);
    free(p);
}

// ---- the functions

struct kl_queue *kl_queue_new(struct kl_timers *ts, void (*ready_cb)(void *arg), void *arg)
{
    struct kl_queue *q = calloc(1, sizeof(*q));
    if (!q)
        return NULL;
    q->ts = ts;
    q->ready_cb = ready_cb;
    q->arg = arg;
    kl_map_init(&q->pods);
    return q;
}

void kl_queue_free(struct kl_queue *q)
{
    if (!q)
        return;
    KL_MAP_EACH (&q->pods, e)
        free_queued(q, e->value);
    kl_map_fini(&q->pods);
    free(q->heap);
    free(q);
}

// What of a pod can change its fate while it waits.
static bool matters(const struct kl_pod_info *was, const struct kl_pod_info *is)
{
    const struct kl_value *a = &was->object->root, *b = &is->object->root;
    return !kl_value_equal(kl_get(a, KL_F_spec), kl_get(b, KL_F_spec)) ||
           !kl_value_equal(kl_meta_labels(a), kl_meta_labels(b));
}

int kl_queue_set(struct kl_queue *q, struct kl_object *pod, bool gated)
{
    struct kl_pod_info *info = kl_pod_info_new(pod);
    if (!info)
        return KL_ENOMEM;
    struct kl_queued *p = kl_map_get(&q->pods, info->uid);
    if (p) {
        struct kl_pod_info *was = p->info;
        bool changed = matters(was, info);
        if (p->state == KL_QUEUED_TAKEN) {
            // Its info is in use; the next attempt reads the pod anew.
            p->moved |= changed;
            kl_pod_info_free(info);
            return 0;
        }
        if (p->state == KL_QUEUED_ACTIVE) // the priority may have changed
            leave_state(q, p);
        p->info = info;
        if (p->state == KL_QUEUED_ACTIVE)
            enter_state(q, p, KL_QUEUED_ACTIVE);
        kl_pod_info_free(was);
        if (gated && p->state != KL_QUEUED_GATED)
            change_state(q, p, KL_QUEUED_GATED);
        else if (!gated && p->state == KL_QUEUED_GATED)
            change_state(q, p, KL_QUEUED_ACTIVE);
        else if (p->state == KL_QUEUED_UNSCHEDULABLE && changed)
            retry(q, p);
        return 0;
    }
    p = calloc(1, sizeof(*p));
    if (!p || kl_map_set(&q->pods, info->uid, p, NULL) < 0) {
        free(p);
        kl_pod_info_free(info);
        return KL_ENOMEM;
    }
    p->info = info;
    p->queue = q;
    p->seq = ++q->seq;
    p->added_ms = kl_timers_now_ms(q->ts);
    p->timer.cb = on_timer;
    enter_state(q, p, gated ? KL_QUEUED_GATED : KL_QUEUED_ACTIVE);
    return 0;
}

void kl_queue_remove(struct kl_queue *q, struct kl_str uid)
{
    struct kl_queued *p = kl_map_get(&q->pods, uid);
    if (!p)
        return;
    if (p->state == KL_QUEUED_TAKEN) {
        p->gone = true;
        return;
    }
    kl_map_del(&q->pods, p->info->uid);
    free_queued(q, p);
}

struct kl_queued *kl_queue_take(struct kl_queue *q)
{
    if (q->n == 0)
        return NULL;
    struct kl_queued *p = q->heap[0];
    p->attempts++;
    p->moved = false;
    change_state(q, p, KL_QUEUED_TAKEN);
    return p;
}

void kl_queue_fail(struct kl_queue *q, struct kl_queued *p, uint32_t rejected_by)
{
    if (p->gone) {
        kl_queue_bound(q, p);
        return;
    }
    p->rejected_by = rejected_by;
    if (rejected_by && !p->moved) {
        change_state(q, p, KL_QUEUED_UNSCHEDULABLE);
        return;
    }
    change_state(q, p, KL_QUEUED_BACKOFF);
    kl_timer_after(q->ts, &p->timer, backoff_ms(p));
}

void kl_queue_bound(struct kl_queue *q, struct kl_queued *p)
{
    kl_map_del(&q->pods, p->info->uid);
    free_queued(q, p);
}

void kl_queue_move(struct kl_queue *q, uint32_t plugins)
{
    if (q->counts[KL_QUEUED_UNSCHEDULABLE] + q->counts[KL_QUEUED_TAKEN] == 0)
        return;
    KL_MAP_EACH (&q->pods, e) {
        struct kl_queued *p = e->value;
        if (p->state == KL_QUEUED_TAKEN)
            p->moved = true;
        else if (p->state == KL_QUEUED_UNSCHEDULABLE && (p->rejected_by & plugins))
            retry(q, p);
    }
}

struct kl_queue_counts kl_queue_count(const struct kl_queue *q)
{
    return (struct kl_queue_counts){
        .active = q->counts[KL_QUEUED_ACTIVE],
        .backoff = q->counts[KL_QUEUED_BACKOFF],
        .unschedulable = q->counts[KL_QUEUED_UNSCHEDULABLE],
        .gated = q->counts[KL_QUEUED_GATED],
        .taken = q->counts[KL_QUEUED_TAKEN],
    };
}

const struct kl_queued *kl_queue_find(const struct kl_queue *q, struct kl_str uid)
{
    return kl_map_get(&q->pods, uid);
}
