// SPDX-License-Identifier: Apache-2.0
// The registry is the process's: what is scraped is one process. Only registering and scraping
// take its lock.
#include "base/metrics.h"
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct collector {
    void (*collect)(void *arg);
    void *arg;
    struct collector *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kl_metric *metrics;
static struct collector *collectors;

// Under the lock.
static void add_series(struct kl_metric *m)
{
    assert(m->kind != KL_HISTOGRAM || (m->buckets && m->bounds && m->nbounds > 0));
    // Behind the last series of the same name: the format wants a name's series together.
    struct kl_metric **at = NULL, **p = &metrics;
    for (; *p && *p != m; p = &(*p)->next) {
        if (strcmp((*p)->name, m->name) == 0)
            at = &(*p)->next;
    }
    if (!*p) {
        at = at ? at : p;
        m->next = *at;
        *at = m;
    }
}

void kl_metric_register(struct kl_metric *m)
{
    pthread_mutex_lock(&lock);
    add_series(m);
    pthread_mutex_unlock(&lock);
}

static bool same_series(const struct kl_metric *a, const struct kl_metric *b)
{
    const char *x = a->label_value ? a->label_value : "", *y = b->label_value ? b->label_value : "";
    return strcmp(a->name, b->name) == 0 && strcmp(x, y) == 0;
}

static struct kl_metric *copy_series(const struct kl_metric *like)
{
    struct kl_metric *m = calloc(1, sizeof(*m));
    bool histogram = like->kind == KL_HISTOGRAM;
    if (!m)
        return NULL;
    m->name = like->name;
    m->help = like->help;
    m->kind = like->kind;
    m->label_name = like->label_name;
    m->label_value = like->label_value ? strdup(like->label_value) : NULL;
    m->bounds = like->bounds;
    m->nbounds = like->nbounds;
    m->buckets = histogram ? calloc((size_t)like->nbounds + 1, sizeof(*m->buckets)) : NULL;
    if ((like->label_value && !m->label_value) || (histogram && !m->buckets)) {
        free((char *)m->label_value);
        free(m->buckets);
        free(m);
        return NULL;
    }
    return m;
}

struct kl_metric *kl_metric_shared(const struct kl_metric *like)
{
    pthread_mutex_lock(&lock);
    struct kl_metric *m = metrics;
    while (m && !same_series(m, like))
        m = m->next;
    if (!m && (m = copy_series(like)))
        add_series(m); // still under the lock: others may want the same
    pthread_mutex_unlock(&lock);
    return m;
}

void kl_metric_observe(struct kl_metric *m, double v)
{
    int i = 0;
    while (i < m->nbounds && v > m->bounds[i])
        i++;
    atomic_fetch_add_explicit(&m->buckets[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->sum_e6, (long long)(v * 1e6), memory_order_relaxed);
    atomic_fetch_add_explicit(&m->count, 1, memory_order_relaxed);
}

void kl_metrics_collector(void (*collect)(void *arg), void *arg)
{
    struct collector *c = malloc(sizeof(*c));
    if (!c)
        abort(); // at start-up
    *c = (struct collector){.collect = collect, .arg = arg};
    pthread_mutex_lock(&lock);
    struct collector **p = &collectors;
    while (*p)
        p = &(*p)->next;
    *p = c;
    pthread_mutex_unlock(&lock);
}

static void put_escaped(struct kl_buf *out, const char *z, bool quotes)
{
    for (; *z; z++) {
        if (*z == '\n') {
            kl_buf_puts(out, KL_STR("\\n"));
        } else {
            if (*z == '\\' || (quotes && *z == '"'))
                kl_buf_putc(out, '\\');
            kl_buf_putc(out, *z);
        }
    }
}

// name_suffix{label="value",le="bound"} and the space before the value.
static void put_series(struct kl_buf *out, const struct kl_metric *m, const char *suffix,
                       const char *le)
{
    kl_buf_printf(out, "%s%s", m->name, suffix);
    if (m->label_name) {
        kl_buf_printf(out, "{%s=\"", m->label_name);
        put_escaped(out, m->label_value ? m->label_value : "", true);
        kl_buf_putc(out, '"');
    }
    if (le)
        kl_buf_printf(out, "%sle=\"%s\"", m->label_name ? "," : "{", le);
    if (m->label_name || le)
        kl_buf_putc(out, '}');
    kl_buf_putc(out, ' ');
}

static void put_histogram(struct kl_buf *out, struct kl_metric *m)
{
    // The count is the sum of the buckets read here, so that both agree while others observe.
    long long total = 0, sum = atomic_load_explicit(&m->sum_e6, memory_order_relaxed);
    for (int i = 0; i <= m->nbounds; i++) {
        char le[32] = "+Inf";
        if (i < m->nbounds)
            snprintf(le, sizeof(le), "%.10g", m->bounds[i]);
        total += atomic_load_explicit(&m->buckets[i], memory_order_relaxed);
        put_series(out, m, "_bucket", le);
        kl_buf_printf(out, "%lld\n", total);
    }
    put_series(out, m, "_sum", NULL);
    kl_buf_printf(out, "%.15g\n", (double)sum / 1e6);
    put_series(out, m, "_count", NULL);
    kl_buf_printf(out, "%lld\n", total);
}

void kl_metrics_write(struct kl_buf *out)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    // Outside the lock, as a collector may register. Collectors are only ever added at the end.
    pthread_mutex_lock(&lock);
    struct collector *c = collectors;
    pthread_mutex_unlock(&lock);
    while (c) {
        c->collect(c->arg);
        pthread_mutex_lock(&lock);
        c = c->next;
        pthread_mutex_unlock(&lock);
    }

    pthread_mutex_lock(&lock);
    const char *name = "";
    for (struct kl_metric *m = metrics; m; m = m->next) {
        if (strcmp(name, m->name) != 0) {
            name = m->name;
            kl_buf_printf(out, "# HELP %s ", name);
            put_escaped(out, m->help ? m->help : "", false);
            kl_buf_printf(out, "\n# TYPE %s %s\n", name, kinds[m->kind]);
        }
        if (m->kind == KL_HISTOGRAM) {
            put_histogram(out, m);
        } else {
            put_series(out, m, "", NULL);
            kl_buf_printf(out, "%lld\n", atomic_load_explicit(&m->value, memory_order_relaxed));
        }
    }
    pthread_mutex_unlock(&lock);
}
