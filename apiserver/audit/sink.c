// SPDX-License-Identifier: Apache-2.0
#include "apiserver/audit/audit_int.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include <stdlib.h>

struct kl_audit_sink {
    struct kl_audit_sink_options o;
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t filled, room;
    struct kl_bytes **ring; // max_events
    size_t first, n, bytes;
    bool ending, broken, said;
    struct kl_audit_sink_stats stats;
    double tokens; // the thread's
    int64_t filled_ms;
};

static bool is_full(const struct kl_audit_sink *s, size_t more)
{
    return s->n == s->o.max_events || (s->n && s->bytes + more > s->o.max_bytes);
}

bool kl_audit_sink_put(struct kl_audit_sink *s, struct kl_bytes *event)
{
    bool ok = true;
    pthread_mutex_lock(&s->mu);
    while (is_full(s, event->n) && s->o.mode != KL_AUDIT_BATCH && !s->ending)
        pthread_cond_wait(&s->room, &s->mu);
    if (is_full(s, event->n)) {
        s->stats.dropped++;
        ok = false;
    } else {
        s->ring[(s->first + s->n) % s->o.max_events] = kl_bytes_ref(event);
        s->bytes += event->n;
        if (++s->n == 1 || s->n >= s->o.batch)
            pthread_cond_signal(&s->filled);
        ok = s->o.mode != KL_AUDIT_STRICT || !s->broken;
    }
    pthread_mutex_unlock(&s->mu);
    return ok;
}

// Until there is a batch. False: it ends, and there is nothing left.
static bool wait_for_batch(struct kl_audit_sink *s)
{
    while (!s->n && !s->ending)
        pthread_cond_wait(&s->filled, &s->mu);
    if (s->o.max_wait_ms && !s->ending && s->n < s->o.batch) {
        struct timespec until = kl_cond_until(s->o.max_wait_ms);
        while (s->n < s->o.batch && !s->ending)
            if (pthread_cond_timedwait(&s->filled, &s->mu, &until))
                break;
    }
    return s->n > 0;
}

// golang.org/x/time/rate: as many tokens a second, at most `burst` saved up.
static void throttle(struct kl_audit_sink *s)
{
    if (s->o.qps <= 0)
        return;
    int64_t now = kl_mono_ms();
    s->tokens += (double)(now - s->filled_ms) / 1000 * s->o.qps;
    s->filled_ms = now;
    if (s->tokens > s->o.burst)
        s->tokens = s->o.burst;
    s->tokens -= 1;
    if (s->tokens >= 0 || s->ending)
        return;
    struct timespec until = kl_cond_until((int64_t)(-s->tokens / s->o.qps * 1000) + 1);
    while (!s->ending && !pthread_cond_timedwait(&s->filled, &s->mu, &until))
        ;
}

static void *run(void *arg)
{
    struct kl_audit_sink *s = arg;
    struct kl_bytes **batch = calloc(s->o.batch, sizeof(*batch));
    pthread_mutex_lock(&s->mu);
    while (batch && wait_for_batch(s)) {
        throttle(s);
        size_t n = s->n < s->o.batch ? s->n : s->o.batch;
        for (size_t i = 0; i < n; i++) {
            batch[i] = s->ring[s->first];
            s->first = (s->first + 1) % s->o.max_events;
            s->bytes -= batch[i]->n;
        }
        s->n -= n;
        pthread_cond_broadcast(&s->room);
        pthread_mutex_unlock(&s->mu);
        int rc = s->o.ops->write(s->o.arg, batch, n);
        for (size_t i = 0; i < n; i++)
            kl_bytes_unref(batch[i]);
        pthread_mutex_lock(&s->mu);
        s->broken = rc < 0;
        s->stats.events += (int64_t)n;
        if (rc < 0)
            s->stats.failed += (int64_t)n;
    }
    pthread_mutex_unlock(&s->mu);
    free(batch);
    return NULL;
}

int kl_audit_sink_new(const struct kl_audit_sink_options *o, struct kl_audit_sink **ret,
                      struct kl_error *err)
{
    struct kl_audit_sink *s = calloc(1, sizeof *s);
    if (!s || !(s->ring = calloc(o->max_events, sizeof(*s->ring)))) {
        free(s);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    s->o = *o;
    s->tokens = o->burst;
    s->filled_ms = kl_mono_ms();
    pthread_mutex_init(&s->mu, NULL);
    kl_cond_init(&s->filled);
    kl_cond_init(&s->room);
    if (pthread_create(&s->thread, NULL, run, s)) {
        free(s->ring);
        free(s);
        return kl_error_set(err, KL_ETOOMANY, "no thread for the audit %s", o->name);
    }
    *ret = s;
    return 0;
}

void kl_audit_sink_free(struct kl_audit_sink *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->mu);
    s->ending = true;
    pthread_cond_broadcast(&s->filled);
    pthread_cond_broadcast(&s->room);
    pthread_mutex_unlock(&s->mu);
    if (s->o.ops->end)
        s->o.ops->end(s->o.arg);
    pthread_join(s->thread, NULL);
    s->o.ops->free(s->o.arg);
    pthread_mutex_destroy(&s->mu);
    pthread_cond_destroy(&s->filled);
    pthread_cond_destroy(&s->room);
    free(s->ring);
    free(s);
}

void kl_audit_sink_stats(struct kl_audit_sink *s, struct kl_audit_sink_stats *ret)
{
    pthread_mutex_lock(&s->mu);
    *ret = s->stats;
    pthread_mutex_unlock(&s->mu);
}
