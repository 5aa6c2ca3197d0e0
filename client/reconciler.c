// SPDX-License-Identifier: Apache-2.0
#include "client/reconciler.h"
#include "base/log.h"
#include <stdlib.h>

enum { WORKERS = 5, SLICE = 32 }; // decisions in one turn of the loop

struct need {
    struct kl_handler handler;
    struct kl_informer *informer;
    struct kl_reconciler *r;
    struct need *next;
};

struct work {
    struct kl_plan plan;
    struct kl_reconciler *r; // NULL: the reconciler is gone
    struct work *next;
};

struct kl_reconciler {
    struct kl_reconciler_opts o;
    struct kl_workqueue *queue;
    struct kl_timer pump;
    struct work *works;
    struct need *needs;
    int running, waiting_for;
    bool started;
};

static void wake(void *arg)
{
    struct kl_reconciler *r = arg;
    if (r->started && r->waiting_for == 0 && r->running < r->o.workers &&
        !kl_timer_is_set(&r->pump))
        kl_timer_after(r->o.timers, &r->pump, 0);
}

static void on_plan_end(struct kl_plan *p)
{
    struct work *w = KL_CONTAINER_OF(p, struct work, plan);
    struct kl_reconciler *r = w->r;
    if (r) {
        for (struct work **at = &r->works; *at; at = &(*at)->next) {
            if (*at == w) {
                *at = w->next;
                break;
            }
        }
        if (r->o.ended)
            r->o.ended(p);
        struct kl_workqueue *q = r->queue;
        if (p->err.code) {
            int failures = kl_workqueue_failures(q, p->key);
            bool drop = r->o.max_retries && failures >= r->o.max_retries;
            kl_log(p->err.code == KL_ECONFLICT && !drop ? KL_LOG_DEBUG : KL_LOG_WARN, r->o.name,
                   "sync failed key=%.*s failures=%d%s error=\"%s\"", KL_PRI(p->key), failures + 1,
                   drop ? " dropped=true" : "", p->err.msg);
            if (drop)
                kl_workqueue_forget(q, p->key);
            else
                kl_workqueue_add_rate_limited(q, p->key);
        } else {
            kl_workqueue_forget(q, p->key);
        }
        if (p->requeue_ms >= 0)
            kl_workqueue_add_after(q, p->key, p->requeue_ms);
        kl_workqueue_done(q, p->key);
        r->running--;
        if (kl_workqueue_len(q))
            wake(r);
    }
    kl_plan_fini(p);
    free(w);
}

static void begin_work(struct kl_reconciler *r, struct kl_str key)
{
    struct work *w = calloc(1, sizeof(*w));
    if (!w) {
        kl_workqueue_add_rate_limited(r->queue, key);
        kl_workqueue_done(r->queue, key);
        return;
    }
    kl_plan_init(&w->plan, (struct kl_str){0}, r->o.arg);
    w->plan.key = kl_arena_dup(&w->plan.arena, key);
    w->r = r;
    w->next = r->works;
    r->works = w;
    r->running++;
    if (w->plan.key.p)
        r->o.decide(&w->plan);
    else
        kl_error_set(&w->plan.err, KL_ENOMEM, "out of memory");
    kl_plan_run(&w->plan, r->o.client, r->o.recorder, on_plan_end, NULL);
}

static void on_pump(struct kl_timer *t)
{
    struct kl_reconciler *r = KL_CONTAINER_OF(t, struct kl_reconciler, pump);
    struct kl_str key;
    for (int i = 0; i < SLICE && r->running < r->o.workers; i++) {
        if (!kl_workqueue_get(r->queue, &key))
            return;
        begin_work(r, key);
    }
    if (kl_workqueue_len(r->queue))
        wake(r);
}

struct kl_reconciler *kl_reconciler_new(const struct kl_reconciler_opts *o)
{
    struct kl_reconciler *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->o = *o;
    if (r->o.workers <= 0)
        r->o.workers = WORKERS;
    r->pump.cb = on_pump;
    r->queue = kl_workqueue_new(o->timers, wake, r);
    if (!r->queue) {
        free(r);
        return NULL;
    }
    if (r->o.name)
        kl_workqueue_count(r->queue, r->o.name);
    return r;
}

void kl_reconciler_free(struct kl_reconciler *r)
{
    if (!r)
        return;
    kl_timer_cancel(r->o.timers, &r->pump);
    for (struct work *w = r->works, *next; w; w = next) {
        next = w->next;
        w->r = NULL;
        kl_plan_cancel(&w->plan);
    }
    for (struct need *n = r->needs, *next; n; n = next) {
        next = n->next;
        kl_informer_remove_handler(n->informer, &n->handler);
        free(n);
    }
    kl_workqueue_free(r->queue);
    free(r);
}

static void on_synced(struct kl_handler *h)
{
    struct need *n = h->arg;
    n->r->waiting_for--;
    wake(n->r);
}

int kl_reconciler_needs(struct kl_reconciler *r, struct kl_informer *inf)
{
    struct need *n = calloc(1, sizeof(*n));
    if (!n)
        return KL_ENOMEM;
    n->r = r;
    n->informer = inf;
    n->handler.synced = on_synced;
    n->handler.arg = n;
    n->next = r->needs;
    r->needs = n;
    r->waiting_for++;
    kl_informer_add_handler(inf, &n->handler);
    return 0;
}

void kl_reconciler_start(struct kl_reconciler *r)
{
    r->started = true;
    wake(r);
}

void kl_reconciler_add(struct kl_reconciler *r, struct kl_str key)
{
    kl_workqueue_add(r->queue, key);
}

void kl_reconciler_add_after(struct kl_reconciler *r, struct kl_str key, int64_t delay_ms)
{
    kl_workqueue_add_after(r->queue, key, delay_ms);
}

void kl_reconciler_add_object(struct kl_reconciler *r, const struct kl_value *root)
{
    struct kl_str ns = kl_meta_namespace(root), name = kl_meta_name(root);
    char key[520];
    size_t n = 0;
    if (ns.n + name.n + 1 > sizeof(key))
        return;
    if (ns.n) {
        memcpy(key, ns.p, ns.n);
        key[ns.n] = '/';
        n = ns.n + 1;
    }
    memcpy(key + n, name.p, name.n);
    kl_workqueue_add(r->queue, (struct kl_str){key, n + name.n});
}

bool kl_reconciler_idle(const struct kl_reconciler *r)
{
    return r->running == 0 && kl_workqueue_len(r->queue) == 0;
}

struct kl_workqueue *kl_reconciler_queue(struct kl_reconciler *r)
{
    return r->queue;
}
