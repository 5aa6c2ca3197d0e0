// SPDX-License-Identifier: Apache-2.0
#include "client/timers.h"
#include "base/clock.h"
#include <stdlib.h>

// A binary heap of pointers to embedded timers; one libuv timer stands at the earliest of them.
struct kl_timers {
    struct kl_timer **heap;
    uint32_t n, cap;
    uint64_t seq;
    bool is_virtual;
    bool running;            // in run_due: the libuv timer is set once at its end
    int64_t now_ms, wall_us; // virtual
    uv_timer_t uv;
};

static bool before(const struct kl_timer *a, const struct kl_timer *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->seq < b->seq;
}

static void place(struct kl_timers *ts, uint32_t i, struct kl_timer *t)
{
    ts->heap[i] = t;
    t->slot = i + 1;
}

static void sift_up(struct kl_timers *ts, uint32_t i, struct kl_timer *t)
{
    while (i > 0 && before(t, ts->heap[(i - 1) / 2])) {
        place(ts, i, ts->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(ts, i, t);
}

static void sift_down(struct kl_timers *ts, uint32_t i, struct kl_timer *t)
{
    for (;;) {
        uint32_t c = 2 * i + 1;
        if (c >= ts->n)
            break;
        if (c + 1 < ts->n && before(ts->heap[c + 1], ts->heap[c]))
            c++;
        if (!before(ts->heap[c], t))
            break;
        place(ts, i, ts->heap[c]);
        i = c;
    }
    place(ts, i, t);
}

static void unlink_timer(struct kl_timers *ts, struct kl_timer *t)
{
    uint32_t i = t->slot - 1;
    struct kl_timer *last = ts->heap[--ts->n];
    t->slot = 0;
    if (last == t)
        return;
    if (i > 0 && before(last, ts->heap[(i - 1) / 2]))
        sift_up(ts, i, last);
    else
        sift_down(ts, i, last);
}

static void run_due(struct kl_timers *ts, int64_t until_ms)
{
    // Timers that a callback sets for now run in the next round, so that none can starve the loop.
    uint64_t newest = ts->seq;
    while (ts->n && ts->heap[0]->at_ms <= until_ms && ts->heap[0]->seq <= newest) {
        struct kl_timer *t = ts->heap[0];
        unlink_timer(ts, t);
        t->cb(t);
    }
}

static void on_uv_timer(uv_timer_t *handle);

static void arm(struct kl_timers *ts)
{
    if (ts->is_virtual || ts->running)
        return;
    if (!ts->n) {
        uv_timer_stop(&ts->uv);
        return;
    }
    int64_t in_ms = ts->heap[0]->at_ms - kl_mono_ms();
    uv_update_time(ts->uv.loop);
    uv_timer_start(&ts->uv, on_uv_timer, in_ms > 0 ? (uint64_t)in_ms : 0, 0);
}

static void on_uv_timer(uv_timer_t *handle)
{
    struct kl_timers *ts = handle->data;
    ts->running = true;
    run_due(ts, kl_mono_ms());
    ts->running = false;
    arm(ts);
}

int kl_timers_new(struct kl_loop *loop, struct kl_timers **ret, struct kl_error *err)
{
    struct kl_timers *ts = calloc(1, sizeof(*ts));
    if (!ts)
        return kl_error_set(err, KL_ENOMEM, "timers: out of memory");
    uv_timer_init(kl_loop_uv(loop), &ts->uv);
    ts->uv.data = ts;
    *ret = ts;
    return 0;
}

struct kl_timers *kl_timers_new_virtual(int64_t wall_us)
{
    struct kl_timers *ts = calloc(1, sizeof(*ts));
    if (!ts)
        return NULL;
    ts->is_virtual = true;
    ts->now_ms = 1000000;
    ts->wall_us = wall_us;
    return ts;
}

static void free_timers(uv_handle_t *handle)
{
    free(handle->data);
}

void kl_timers_free(struct kl_timers *ts)
{
    if (!ts)
        return;
    for (uint32_t i = 0; i < ts->n; i++)
        ts->heap[i]->slot = 0;
    free(ts->heap);
    ts->heap = NULL;
    ts->n = 0;
    if (ts->is_virtual)
        free(ts);
    else
        uv_close((uv_handle_t *)&ts->uv, free_timers);
}

int64_t kl_timers_now_ms(const struct kl_timers *ts)
{
    return ts->is_virtual ? ts->now_ms : kl_mono_ms();
}

int64_t kl_timers_wall_us(const struct kl_timers *ts)
{
    return ts->is_virtual ? ts->wall_us : kl_wall_ns() / 1000;
}

void kl_timer_set(struct kl_timers *ts, struct kl_timer *t, int64_t at_ms)
{
    if (t->slot)
        unlink_timer(ts, t);
    if (ts->n == ts->cap) {
        uint32_t cap = ts->cap ? ts->cap * 2 : 64;
        struct kl_timer **heap = realloc(ts->heap, cap * sizeof(struct kl_timer *));
        if (!heap)
            abort(); // a lost timer is a reconciler that never wakes; nothing sensible is left to
                     // do
        ts->heap = heap;
        ts->cap = cap;
    }
    t->at_ms = at_ms;
    t->seq = ++ts->seq;
    sift_up(ts, ts->n++, t);
    if (ts->heap[0] == t)
        arm(ts);
}

void kl_timer_after(struct kl_timers *ts, struct kl_timer *t, int64_t delay_ms)
{
    kl_timer_set(ts, t, kl_timers_now_ms(ts) + (delay_ms > 0 ? delay_ms : 0));
}

void kl_timer_cancel(struct kl_timers *ts, struct kl_timer *t)
{
    // The libuv timer may now come for nothing, once; cheaper than setting it at each cancel.
    if (t->slot)
        unlink_timer(ts, t);
}

void kl_timers_advance(struct kl_timers *ts, int64_t ms)
{
    int64_t end = ts->now_ms + ms;
    while (ts->n && ts->heap[0]->at_ms <= end) {
        int64_t at = ts->heap[0]->at_ms;
        if (at > ts->now_ms) {
            ts->wall_us += (at - ts->now_ms) * 1000;
            ts->now_ms = at;
        }
        run_due(ts, ts->now_ms);
    }
    ts->wall_us += (end - ts->now_ms) * 1000;
    ts->now_ms = end;
}

int64_t kl_timers_next_ms(const struct kl_timers *ts)
{
    if (!ts->n)
        return -1;
    int64_t in_ms = ts->heap[0]->at_ms - kl_timers_now_ms(ts);
    return in_ms > 0 ? in_ms : 0;
}
