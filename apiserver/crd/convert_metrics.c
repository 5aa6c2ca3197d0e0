// SPDX-License-Identifier: Apache-2.0
// Calls of conversion webhooks under upstream's names (apiextensions-apiserver
// conversion/metrics.go). They are rare and slow beside a lock.
#include "apiserver/crd/convert.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { SERIES_MAX = 1024, FAILURES = KL_CONVERSION_INVALID + 1, BOUNDS = 15 };

struct histogram {
    uint64_t buckets[BOUNDS + 1], count;
    double sum_s;
};

struct series { // of one definition, pair of versions, outcome
    struct series *next;
    char *definition, *from, *to;
    bool succeeded;
    struct histogram h;
};

struct kl_conversion_metrics {
    pthread_mutex_t lock;
    struct series *first;
    size_t n;
    struct histogram by_failure[FAILURES];
};

static const double conversion_bounds[BOUNDS] = {0.001, 0.002, 0.004, 0.008, 0.016,
                                                 0.032, 0.064, 0.128, 0.256, 0.512,
                                                 1.024, 2.048, 4.096, 8.192, 16.384};
static const double request_bounds[BOUNDS] = {0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1,
                                              2,     5,    10,   20,   30,  45,  60};

static const char *const failures[FAILURES] = {
    [KL_CONVERSION_OK] = "",
    [KL_CONVERSION_CALL] = "conversion_webhook_call_failure",
    [KL_CONVERSION_MALFORMED] = "conversion_webhook_malformed_response_failure",
    [KL_CONVERSION_PARTIAL] = "conversion_webhook_partial_response_failure",
    [KL_CONVERSION_INVALID] = "conversion_webhook_invalid_converted_object_failure",
};

static void add(struct histogram *h, const double *bounds, double s)
{
    int i = 0;
    while (i < BOUNDS && s > bounds[i])
        i++;
    h->buckets[i]++;
    h->count++;
    h->sum_s += s;
}

int kl_conversion_metrics_new(struct kl_conversion_metrics **ret)
{
    struct kl_conversion_metrics *m = calloc(1, sizeof *m);
    if (!m)
        return KL_ENOMEM;
    pthread_mutex_init(&m->lock, NULL);
    *ret = m;
    return 0;
}

void kl_conversion_metrics_free(struct kl_conversion_metrics *m)
{
    if (!m)
        return;
    for (struct series *s = m->first, *next; s; s = next) {
        next = s->next;
        free(s->definition);
        free(s->from);
        free(s->to);
        free(s);
    }
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static struct series *series_of(struct kl_conversion_metrics *m, const char *definition,
                                const char *from, const char *to, bool succeeded)
{
    for (struct series *s = m->first; s; s = s->next)
        if (s->succeeded == succeeded && !strcmp(s->definition, definition) &&
            !strcmp(s->from, from) && !strcmp(s->to, to))
            return s;
    struct series *s = m->n < SERIES_MAX ? calloc(1, sizeof *s) : NULL;
    if (!s)
        return NULL;
    s->definition = strdup(definition);
    s->from = strdup(from);
    s->to = strdup(to);
    s->succeeded = succeeded;
    if (!s->definition || !s->from || !s->to) {
        free(s->definition);
        free(s->from);
        free(s->to);
        free(s);
        return NULL;
    }
    s->next = m->first;
    m->first = s;
    m->n++;
    return s;
}

void kl_conversion_observe(struct kl_apiserver *srv, const char *definition, const char *from,
                           const char *to, enum kl_conversion_failure failure, int64_t took_us)
{
    struct kl_conversion_metrics *m = srv->conversion_metrics;
    double s = (double)took_us / 1e6;
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    struct series *x = series_of(m, definition, from, to, failure == KL_CONVERSION_OK);
    if (x)
        add(&x->h, conversion_bounds, s);
    add(&m->by_failure[failure], request_bounds, s);
    pthread_mutex_unlock(&m->lock);
}

// Labels are names of definitions, versions and our own words: nothing to escape.
static void put(struct kl_buf *out, const char *name, const char *labels, const double *bounds,
                const struct histogram *h)
{
    uint64_t sum = 0;
    for (int i = 0; i <= BOUNDS; i++) {
        char le[32];
        sum += h->buckets[i];
        snprintf(le, sizeof le, i < BOUNDS ? "%g" : "+Inf", i < BOUNDS ? bounds[i] : 0);
        kl_buf_printf(out, "%s_bucket{%s,le=\"%s\"} %llu\n", name, labels, le,
                      (unsigned long long)sum);
    }
    kl_buf_printf(out, "%s_sum{%s} %g\n%s_count{%s} %llu\n", name, labels, h->sum_s, name, labels,
                  (unsigned long long)h->count);
}

static void put_head(struct kl_buf *out, const char *name, const char *help, const char *type)
{
    kl_buf_printf(out, "# HELP %s [ALPHA] %s\n# TYPE %s %s\n", name, help, name, type);
}

static const char *failure_labels(char labels[160], int f)
{
    snprintf(labels, 160, "failure_type=\"%s\",result=\"%s\"", failures[f],
             f == KL_CONVERSION_OK ? "success" : "failure");
    return labels;
}

static void write_all(const struct kl_conversion_metrics *m, struct kl_buf *out)
{
    static const char by_version[] = "apiserver_crd_conversion_webhook_duration_seconds";
    static const char total[] = "apiserver_conversion_webhook_request_total";
    static const char duration[] = "apiserver_conversion_webhook_duration_seconds";
    char labels[160];
    put_head(out, by_version, "CRD webhook conversion duration in seconds", "histogram");
    for (const struct series *s = m->first; s; s = s->next) {
        char all[1024];
        snprintf(all, sizeof all,
                 "crd_name=\"%s\",from_version=\"%s\",succeeded=\"%s\",to_version=\"%s\"",
                 s->definition, s->from, s->succeeded ? "true" : "false", s->to);
        put(out, by_version, all, conversion_bounds, &s->h);
    }
    put_head(out, duration, "Conversion webhook request latency", "histogram");
    for (int f = 0; f < FAILURES; f++)
        if (m->by_failure[f].count)
            put(out, duration, failure_labels(labels, f), request_bounds, &m->by_failure[f]);
    put_head(out, total,
             "Counter for conversion webhook requests with success/failure and failure error type",
             "counter");
    for (int f = 0; f < FAILURES; f++)
        if (m->by_failure[f].count)
            kl_buf_printf(out, "%s{%s} %llu\n", total, failure_labels(labels, f),
                          (unsigned long long)m->by_failure[f].count);
}

void kl_conversion_metrics_write(struct kl_apiserver *s, struct kl_buf *out)
{
    struct kl_conversion_metrics *m = s->conversion_metrics;
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    if (m->by_failure[KL_CONVERSION_OK].count || m->n)
        write_all(m, out);
    pthread_mutex_unlock(&m->lock);
}
