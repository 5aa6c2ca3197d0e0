// SPDX-License-Identifier: Apache-2.0
#include "client/workqueue.h"
#include "base/map.h"
#include "base/metrics.h"
#include <stdlib.h>

enum { BASE_MS = 5, MAX_MS = 1000 * 1000, MAX_FAILURES = 40 };

// An item exists while its key waits, is worked on, is delayed or has failures to remember.
struct item {
    struct kl_timer timer;
    int64_t since_ms; // it waits, or is worked on
    struct item *next;
    struct kl_workqueue *q;
    int failures;
    bool waiting;    // in the list
    bool processing; // taken and not done
    bool again;      // added while processing
    uint32_t key_bytes;
    char key[];
};

// Of one name; queues of the same name share them. NULL: not counted.
struct counts {
    struct kl_metric *adds, *depth, *retries, *queued, *worked;
};

struct kl_workqueue {
    struct kl_timers *ts;
    struct counts m;
    struct kl_map items;
    struct item *head, **tail;
    size_t n;
    int64_t base_ms, max_ms;
    void (*ready_cb)(void *arg);
    void *arg;
};

static struct kl_str item_key(const struct item *it)
{
    return (struct kl_str){it->key, it->key_bytes};
}

struct kl_workqueue *kl_workqueue_new(struct kl_timers *ts, void (*ready_cb)(void *arg), void *arg)
{
    struct kl_workqueue *q = calloc(1, sizeof(*q));
    if (!q)
        return NULL;
    q->ts = ts;
    q->ready_cb = ready_cb;
    q->arg = arg;
    q->tail = &q->head;
    q->base_ms = BASE_MS;
    q->max_ms = MAX_MS;
    kl_map_init(&q->items);
    return q;
}

// Upstream's buckets: 10 ns to 1000 s.
static const double bounds[] = {1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100, 1000};

static struct kl_metric *metric(const char *queue, const char *name, const char *help, int kind)
{
    const struct kl_metric like = {.name = name,
                                   .help = help,
                                   .kind = kind,
                                   .label_name = "name",
                                   .label_value = queue,
                                   .bounds = kind == KL_HISTOGRAM ? bounds : NULL,
                                   .nbounds = kind == KL_HISTOGRAM ? (int)KL_COUNT(bounds) : 0};
    return kl_metric_shared(&like);
}

void kl_workqueue_count(struct kl_workqueue *q, const char *name)
{
    q->m.adds = metric(name, "workqueue_adds_total",
                       "[BETA] Total number of adds handled by workqueue", KL_COUNTER);
    q->m.depth = metric(name, "workqueue_depth", "[BETA] Current depth of workqueue", KL_GAUGE);
    q->m.retries = metric(name, "workqueue_retries_total",
                          "[BETA] Total number of retries handled by workqueue", KL_COUNTER);
    q->m.queued = metric(name, "workqueue_queue_duration_seconds",
                         "[BETA] How long in seconds an item stays in workqueue before being "
                         "requested.",
                         KL_HISTOGRAM);
    q->m.worked =
        metric(name, "workqueue_work_duration_seconds",
               "[BETA] How long in seconds processing an item from workqueue takes.", KL_HISTOGRAM);
}

static void add_to(struct kl_metric *m, long long d)
{
    if (m)
        kl_metric_add(m, d);
}

// Since it began to wait or to be worked on; from here on the other begins.
static void observe(struct kl_workqueue *q, struct kl_metric *m, struct item *it)
{
    if (!m)
        return;
    int64_t now = kl_timers_now_ms(q->ts);
    kl_metric_observe(m, (double)(now - it->since_ms) / 1e3);
    it->since_ms = now;
}

void kl_workqueue_free(struct kl_workqueue *q)
{
    if (!q)
        return;
    add_to(q->m.depth, -(long long)q->n);
    KL_MAP_EACH (&q->items, e) {
        struct item *it = e->value;
        kl_timer_cancel(q->ts, &it->timer);
        free(it);
    }
    kl_map_fini(&q->items);
    free(q);
}

void kl_workqueue_set_backoff(struct kl_workqueue *q, int64_t base_ms, int64_t max_ms)
{
    q->base_ms = base_ms;
    q->max_ms = max_ms;
}

static void enqueue(struct kl_workqueue *q, struct item *it)
{
    if (it->processing) {
        it->again = true;
        return;
    }
    if (it->waiting)
        return;
    it->waiting = true;
    it->next = NULL;
    *q->tail = it;
    q->tail = &it->next;
    q->n++;
    add_to(q->m.adds, 1);
    add_to(q->m.depth, 1);
    if (q->m.queued)
        it->since_ms = kl_timers_now_ms(q->ts);
    if (q->ready_cb)
        q->ready_cb(q->arg);
}

static void on_delay(struct kl_timer *t)
{
    struct item *it = KL_CONTAINER_OF(t, struct item, timer);
    enqueue(it->q, it);
}

// Allocation failure aborts: a key that is silently lost would leave its object unreconciled.
static struct item *find_or_make(struct kl_workqueue *q, struct kl_str key)
{
    struct item *it = kl_map_get(&q->items, key);
    if (it)
        return it;
    it = calloc(1, sizeof(*it) + key.n + 1);
    if (!it || kl_map_set(&q->items, key, it, NULL) < 0)
        abort();
    it->q = q;
    it->timer.cb = on_delay;
    it->key_bytes = (uint32_t)key.n;
    memcpy(it->key, key.p, key.n);
    return it;
}

static void drop_if_idle(struct kl_workqueue *q, struct item *it)
{
    if (it->waiting || it->processing || it->failures || kl_timer_is_set(&it->timer))
        return;
    kl_map_del(&q->items, item_key(it));
    free(it);
}

void kl_workqueue_add(struct kl_workqueue *q, struct kl_str key)
{
    enqueue(q, find_or_make(q, key));
}

static void delay(struct kl_workqueue *q, struct item *it, int64_t delay_ms)
{
    if (delay_ms <= 0) {
        enqueue(q, it);
        return;
    }
    int64_t at = kl_timers_now_ms(q->ts) + delay_ms;
    if (!kl_timer_is_set(&it->timer) || at < it->timer.at_ms)
        kl_timer_set(q->ts, &it->timer, at);
}

void kl_workqueue_add_after(struct kl_workqueue *q, struct kl_str key, int64_t delay_ms)
{
    delay(q, find_or_make(q, key), delay_ms);
}

void kl_workqueue_add_rate_limited(struct kl_workqueue *q, struct kl_str key)
{
    struct item *it = find_or_make(q, key);
    int64_t ms = q->max_ms;
    if (it->failures < MAX_FAILURES && q->base_ms << it->failures < q->max_ms)
        ms = q->base_ms << it->failures;
    if (it->failures < MAX_FAILURES)
        it->failures++;
    add_to(q->m.retries, 1);
    delay(q, it, ms);
}

void kl_workqueue_forget(struct kl_workqueue *q, struct kl_str key)
{
    struct item *it = kl_map_get(&q->items, key);
    if (!it)
        return;
    it->failures = 0;
    drop_if_idle(q, it);
}

int kl_workqueue_failures(const struct kl_workqueue *q, struct kl_str key)
{
    const struct item *it = kl_map_get(&q->items, key);
    return it ? it->failures : 0;
}

bool kl_workqueue_get(struct kl_workqueue *q, struct kl_str *ret_key)
{
    struct item *it = q->head;
    if (!it)
        return false;
    q->head = it->next;
    if (!q->head)
        q->tail = &q->head;
    q->n--;
    add_to(q->m.depth, -1);
    observe(q, q->m.queued, it);
    it->waiting = false;
    it->processing = true;
    *ret_key = item_key(it);
    return true;
}

void kl_workqueue_done(struct kl_workqueue *q, struct kl_str key)
{
    struct item *it = kl_map_get(&q->items, key);
    if (!it || !it->processing)
        return;
    it->processing = false;
    observe(q, q->m.worked, it);
    if (it->again) {
        it->again = false;
        enqueue(q, it);
        return;
    }
    drop_if_idle(q, it);
}

size_t kl_workqueue_len(const struct kl_workqueue *q)
{
    return q->n;
}
