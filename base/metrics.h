// SPDX-License-Identifier: Apache-2.0
// Counters, gauges and histograms in Prometheus' text format. Updated without locks from any
// thread.
#pragma once
#include "base/buf.h"
#include <stdatomic.h>

struct kl_metric {
    const char *name, *help;
    enum { KL_COUNTER, KL_GAUGE, KL_HISTOGRAM } kind;
    const char *label_name;  // NULL: no label
    const char *label_value; // fixed label of this series
    const double *bounds;    // histogram: nbounds upper bounds, rising, in the metric's unit
    int nbounds;
    atomic_llong value;    // counter, gauge
    atomic_llong *buckets; // histogram: nbounds + 1, not cumulated
    atomic_llong sum_e6, count;
    struct kl_metric *next;
};

// Registers a metric with static storage; series of one name are registered one after another.
void kl_metric_register(struct kl_metric *m);
static inline void kl_metric_add(struct kl_metric *m, long long d)
{
    atomic_fetch_add_explicit(&m->value, d, memory_order_relaxed);
}
static inline void kl_metric_set(struct kl_metric *m, long long v)
{
    atomic_store_explicit(&m->value, v, memory_order_relaxed);
}
void kl_metric_observe(struct kl_metric *m, double v);
// The series with this name and label value, registered for the process's life when it is the first
// (its label's value is copied, the rest are constants). NULL: no memory.
struct kl_metric *kl_metric_shared(const struct kl_metric *like);
// Called at each scrape to refresh gauges; registered once at start-up.
void kl_metrics_collector(void (*collect)(void *arg), void *arg);
void kl_metrics_write(struct kl_buf *out);
void kl_metrics_write_process(struct kl_buf *out); // memory and CPU time, as Go's client has them
