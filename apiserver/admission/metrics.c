// SPDX-License-Identifier: Apache-2.0
#include "apiserver/admission/metrics.h"
#include "apiserver/admission/chain_int.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS_MAX = 64, BOUNDS_MAX = 8, OPS = 4, SERIES_MAX = 2048, LABELS_MAX = 1024 };

static const char *const types[] = {"admit", "validate"};
static const char *const ops[OPS] = {"CREATE", "UPDATE", "DELETE", "CONNECT"};
static const char *const truth[] = {"false", "true"};

struct histogram {
    atomic_llong bucket[BOUNDS_MAX + 1], sum_ns;
};

// Of one metric: what it is, and what stands before its samples.
static const struct metric {
    const char *name, *kind, *help;
    double bounds[BOUNDS_MAX];
    int nbounds;
} metrics[] = {
    {"apiserver_admission_step_admission_duration_seconds",
     "histogram",
     "[STABLE] Admission sub-step latency histogram in seconds, broken out for each operation and "
     "API resource and step type (validate or admit).",
     {0.005, 0.025, 0.1, 0.5, 1, 2.5},
     6},
    {"apiserver_admission_controller_admission_duration_seconds",
     "histogram",
     "[STABLE] Admission controller latency histogram in seconds, identified by name and broken "
     "out for each operation and API resource and type (validate or admit).",
     {0.005, 0.025, 0.1, 0.5, 1, 2.5},
     6},
    {"apiserver_admission_webhook_admission_duration_seconds",
     "histogram",
     "[STABLE] Admission webhook latency histogram in seconds, identified by name and broken out "
     "for each operation and API resource and type (validate or admit).",
     {0.005, 0.025, 0.1, 0.5, 1, 2.5, 10, 25},
     8},
    {"apiserver_admission_webhook_request_total",
     "counter",
     "[ALPHA] Admission webhook request total, identified by name and broken out for each "
     "admission type (validating or admit) and operation. Additional labels specify whether the "
     "request was rejected or not and an HTTP status code. Codes greater than 600 are truncated to "
     "600, to keep the metrics cardinality bounded.",
     {0},
     0},
    {"apiserver_admission_webhook_rejection_count",
     "counter",
     "[ALPHA] Admission webhook rejection count, identified by name and broken out for each "
     "admission type (validating or admit) and operation. Additional labels specify an error type "
     "(calling_webhook_error or apiserver_internal_error if an error occurred; no_error otherwise) "
     "and optionally a non-zero rejection code if the webhook rejects the request with an HTTP "
     "status code (honored by the apiserver when the code is greater or equal to 400). Codes "
     "greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
     {0},
     0},
    {"apiserver_admission_webhook_fail_open_count",
     "counter",
     "[ALPHA] Admission webhook fail open count, identified by name and broken out for each "
     "admission type (validating or admit).",
     {0},
     0},
    {"apiserver_admission_match_condition_evaluation_errors_total",
     "counter",
     "[ALPHA] Admission match condition evaluation errors count, identified by name of resource "
     "containing the match condition and broken out for each kind containing matchConditions "
     "(webhook or policy), operation and admission type (validate or admit).",
     {0},
     0},
    {"apiserver_admission_match_condition_exclusions_total",
     "counter",
     "[ALPHA] Admission match condition evaluation exclusions count, identified by name of "
     "resource containing the match condition and broken out for each kind containing "
     "matchConditions (webhook or policy), operation and admission type (validate or admit).",
     {0},
     0},
    {"apiserver_admission_match_condition_evaluation_seconds",
     "histogram",
     "[ALPHA] Admission match condition evaluation time in seconds, identified by name and broken "
     "out for each kind containing matchConditions (webhook or policy), operation and type "
     "(validate or admit).",
     {0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25},
     7},
    {"apiserver_validating_admission_policy_check_total",
     "counter",
     "[BETA] Validation admission policy check total, labeled by policy and further identified by "
     "binding and enforcement action taken.",
     {0},
     0},
    {"apiserver_validating_admission_policy_check_duration_seconds",
     "histogram",
     "[BETA] Validation admission latency for individual validation expressions in seconds, "
     "labeled by policy and further including binding and enforcement action taken.",
     {0.0000005, 0.001, 0.01, 0.1, 1},
     5},
    {"apiserver_mutating_admission_policy_check_total",
     "counter",
     "[ALPHA] Mutation admission policy check total, labeled by policy and further identified by "
     "binding.",
     {0},
     0},
    {"apiserver_mutating_admission_policy_check_duration_seconds",
     "histogram",
     "[ALPHA] Mutation admission latency for individual mutation expressions in seconds, labeled "
     "by policy and binding.",
     {0.0000005, 0.001, 0.01, 0.1, 1},
     5},
};
enum {
    STEP,
    CONTROLLER,
    HOOK_TIME,
    HOOK_REQUESTS,
    HOOK_REJECTIONS,
    HOOK_FAIL_OPEN,
    CONDITION_ERRORS,
    CONDITION_EXCLUSIONS,
    CONDITION_TIME,
    CHECKS,
    CHECK_TIME,
    MUTATIONS,
    MUTATION_TIME,
    METRICS
};
_Static_assert(KL_COUNT(metrics) == METRICS, "one row for each");

// By name; the key is the metric's number and the labels as they are written.
struct series {
    long long bucket[BOUNDS_MAX + 1], sum_ns; // a counter is bucket[0]
};

struct kl_admit_metrics {
    struct histogram step[2][OPS][2];
    _Atomic(struct histogram *) plugin[ROWS_MAX][2][OPS][2];
    pthread_mutex_t lock;
    struct kl_map named;
};

static struct kl_admit_metrics *table_of(struct kl_api_loop *al)
{
    struct kl_admit_metrics *m = atomic_load_explicit(&al->admit_metrics, memory_order_acquire);
    if (m || !(m = calloc(1, sizeof *m)))
        return m;
    pthread_mutex_init(&m->lock, NULL);
    kl_map_init(&m->named);
    atomic_store_explicit(&al->admit_metrics, m, memory_order_release);
    return m;
}

void kl_admit_metrics_free(struct kl_admit_metrics *m)
{
    if (!m)
        return;
    struct histogram **h = (struct histogram **)&m->plugin[0][0][0][0];
    for (size_t i = 0; i < sizeof m->plugin / sizeof *h; i++)
        free(h[i]);
    KL_MAP_EACH (&m->named, e)
        free(e->value);
    kl_map_fini(&m->named);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

// ---- counting

static int op_index(enum kl_admit_op op)
{
    return op == KL_ADMIT_CREATE ? 0 : op == KL_ADMIT_UPDATE ? 1 : op == KL_ADMIT_DELETE ? 2 : 3;
}

static int bucket_of(int metric, int64_t took_ns)
{
    const struct metric *m = &metrics[metric];
    int i = 0;
    while (i < m->nbounds && (double)took_ns / 1e9 > m->bounds[i])
        i++;
    return i;
}

// Only its loop changes it.
static void add(atomic_llong *v, long long d)
{
    atomic_store_explicit(v, atomic_load_explicit(v, memory_order_relaxed) + d,
                          memory_order_relaxed);
}

static void observe(struct histogram *h, int metric, int64_t took_ns)
{
    add(&h->bucket[bucket_of(metric, took_ns)], 1);
    add(&h->sum_ns, took_ns);
}

void kl_admit_count_phase(struct kl_admit *ad, bool validating, bool rejected, int64_t took_ns)
{
    struct kl_admit_metrics *m = table_of(ad->r->al);
    if (m)
        observe(&m->step[validating][op_index(ad->op)][rejected], STEP, took_ns);
}

void kl_admit_count_plugin(struct kl_admit *ad, size_t row, bool validating, bool rejected,
                           int64_t took_ns)
{
    struct kl_admit_metrics *m = table_of(ad->r->al);
    if (!m || row >= ROWS_MAX)
        return;
    _Atomic(struct histogram *) *at = &m->plugin[row][validating][op_index(ad->op)][rejected];
    struct histogram *h = atomic_load_explicit(at, memory_order_relaxed);
    if (!h) {
        if (!(h = calloc(1, sizeof *h)))
            return;
        atomic_store_explicit(at, h, memory_order_release);
    }
    observe(h, CONTROLLER, took_ns);
}

static void count(struct kl_admit *ad, int metric, int64_t took_ns, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static void count(struct kl_admit *ad, int metric, int64_t took_ns, const char *fmt, ...)
{
    struct kl_admit_metrics *m = table_of(ad->r->al);
    char key[LABELS_MAX];
    va_list ap;
    if (!m)
        return;
    key[0] = (char)(metric + 1);
    va_start(ap, fmt);
    int n = vsnprintf(key + 1, sizeof key - 1, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof key - 1)
        return;
    struct kl_str k = {key, (size_t)n + 1};
    pthread_mutex_lock(&m->lock);
    struct series *s = kl_map_get(&m->named, k);
    if (!s && m->named.n < SERIES_MAX && (s = calloc(1, sizeof *s)) &&
        kl_map_set(&m->named, k, s, NULL)) {
        free(s);
        s = NULL;
    }
    if (s) {
        s->bucket[bucket_of(metric, took_ns)]++;
        s->sum_ns += took_ns;
    }
    pthread_mutex_unlock(&m->lock);
}

void kl_admit_count_hook(struct kl_admit *ad, struct kl_str name, bool validating,
                         enum kl_hook_end end, bool rejected, int code, int64_t took_ns)
{
    static const char *const errors[] = {"no_error", "calling_webhook_error",
                                         "apiserver_internal_error"};
    const char *type = validating ? "validating" : "admit", *op = ops[op_index(ad->op)];
    if (code > 600)
        code = 600;
    count(ad, HOOK_TIME, took_ns, "name=\"%.*s\",operation=\"%s\",rejected=\"%s\",type=\"%s\"",
          KL_PRI(name), op, truth[rejected], type);
    count(ad, HOOK_REQUESTS, 0,
          "code=\"%d\",name=\"%.*s\",operation=\"%s\",rejected=\"%s\",type=\"%s\"", code,
          KL_PRI(name), op, truth[rejected], type);
    if (rejected)
        count(ad, HOOK_REJECTIONS, 0,
              "error_type=\"%s\",name=\"%.*s\",operation=\"%s\",rejection_code=\"%d\",type=\"%s\"",
              errors[end], KL_PRI(name), op, code, type);
    if (end == KL_HOOK_FAILED_OPEN)
        count(ad, HOOK_FAIL_OPEN, 0, "name=\"%.*s\",type=\"%s\"", KL_PRI(name), type);
}

void kl_admit_count_conditions(struct kl_admit *ad, struct kl_str name, bool policy,
                               bool validating, size_t nerrors, bool excluded, int64_t took_ns)
{
    const char *kind = policy ? "policy" : "webhook", *op = ops[op_index(ad->op)];
    const char *type = policy ? "validate" : validating ? "validating" : "admit"; // as upstream
    count(ad, CONDITION_TIME, took_ns, "kind=\"%s\",name=\"%.*s\",operation=\"%s\",type=\"%s\"",
          kind, KL_PRI(name), op, type);
    for (; nerrors; nerrors--)
        count(ad, CONDITION_ERRORS, 0, "kind=\"%s\",name=\"%.*s\",operation=\"%s\",type=\"%s\"",
              kind, KL_PRI(name), op, type);
    if (excluded)
        count(ad, CONDITION_EXCLUSIONS, 0, "kind=\"%s\",name=\"%.*s\",operation=\"%s\",type=\"%s\"",
              kind, KL_PRI(name), op, type);
}

// policy/validating's and mutating's ErrorType
static const char *error_type(struct kl_str message)
{
    return kl_str_starts(message, KL_STR("compilation")) ? "compile_error"
           : kl_str_starts(message, KL_STR("validation failed due to running out of cost budget"))
               ? "out_of_budget"
               : "invalid_error";
}

void kl_admit_count_check(struct kl_admit *ad, struct kl_str policy, struct kl_str binding,
                          struct kl_str message, const char *action, int64_t took_ns)
{
    const char *error = error_type(message);
    for (int metric = CHECKS; metric <= CHECK_TIME; metric++)
        count(ad, metric, metric == CHECK_TIME ? took_ns : 0,
              "enforcement_action=\"%s\",error_type=\"%s\",policy=\"%.*s\",policy_binding=\"%.*s\"",
              action, error, KL_PRI(policy), KL_PRI(binding));
}

void kl_admit_count_mutation(struct kl_admit *ad, struct kl_str policy, struct kl_str binding,
                             struct kl_str message, int64_t took_ns)
{
    const char *error = message.n ? error_type(message) : "no_error";
    for (int metric = MUTATIONS; metric <= MUTATION_TIME; metric++)
        count(ad, metric, metric == MUTATION_TIME ? took_ns : 0,
              "error_type=\"%s\",policy=\"%.*s\",policy_binding=\"%.*s\"", error, KL_PRI(policy),
              KL_PRI(binding));
}

// ---- writing: what several loops have of the same labels is one series

static void put_series(struct kl_buf *b, int metric, struct kl_str labels, const struct series *s)
{
    const struct metric *m = &metrics[metric];
    long long total = 0;
    if (!m->nbounds) {
        kl_buf_printf(b, "%s{%.*s} %lld\n", m->name, KL_PRI(labels), s->bucket[0]);
        return;
    }
    for (int i = 0; i <= m->nbounds; i++) {
        char le[32] = "+Inf";
        if (i < m->nbounds)
            snprintf(le, sizeof le, "%.10g", m->bounds[i]);
        total += s->bucket[i];
        kl_buf_printf(b, "%s_bucket{%.*s,le=\"%s\"} %lld\n", m->name, KL_PRI(labels), le, total);
    }
    kl_buf_printf(b, "%s_sum{%.*s} %.15g\n%s_count{%.*s} %lld\n", m->name, KL_PRI(labels),
                  (double)s->sum_ns / 1e9, m->name, KL_PRI(labels), total);
}

static void add_histogram(struct series *to, const struct histogram *h)
{
    for (int i = 0; h && i <= BOUNDS_MAX; i++)
        to->bucket[i] += atomic_load_explicit((atomic_llong *)&h->bucket[i], memory_order_relaxed);
    to->sum_ns += h ? atomic_load_explicit((atomic_llong *)&h->sum_ns, memory_order_relaxed) : 0;
}

static bool any(const struct series *s)
{
    for (int i = 0; i <= BOUNDS_MAX; i++)
        if (s->bucket[i])
            return true;
    return false;
}

// One set of labels of phases (row < 0) or of a plug-in.
static void put_place(struct kl_apiserver *s, struct kl_buf *b, int row, int type, int op,
                      int rejected)
{
    struct series sum = {0};
    char labels[160] = "";
    for (int i = 0; i < s->nloops; i++) {
        struct kl_admit_metrics *m =
            atomic_load_explicit(&s->loops[i].admit_metrics, memory_order_acquire);
        if (m)
            add_histogram(&sum, row < 0 ? &m->step[type][op][rejected]
                                        : atomic_load_explicit(&m->plugin[row][type][op][rejected],
                                                               memory_order_acquire));
    }
    if (!any(&sum))
        return;
    int n = row < 0 ? 0 : snprintf(labels, sizeof labels, "name=\"%s\",", kl_plugins[row].name);
    snprintf(labels + n, sizeof labels - (size_t)n, "operation=\"%s\",rejected=\"%s\",type=\"%s\"",
             ops[op], truth[rejected], types[type]);
    put_series(b, row < 0 ? STEP : CONTROLLER, kl_str(labels), &sum);
}

static void put_places(struct kl_apiserver *s, struct kl_buf *b, int row)
{
    for (int type = 0; type < 2; type++)
        for (int op = 0; op < OPS; op++)
            for (int rejected = 0; rejected < 2; rejected++)
                put_place(s, b, row, type, op, rejected);
}

static void head(struct kl_buf *b, int metric)
{
    const struct metric *m = &metrics[metric];
    kl_buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, m->kind);
}

static void gather(struct kl_admit_metrics *m, struct kl_map *all)
{
    pthread_mutex_lock(&m->lock);
    KL_MAP_EACH (&m->named, e) {
        const struct series *from = e->value;
        struct series *s = kl_map_get(all, e->key);
        if (!s && (s = calloc(1, sizeof *s)) && kl_map_set(all, e->key, s, NULL)) {
            free(s);
            s = NULL;
        }
        for (int i = 0; s && i <= BOUNDS_MAX; i++)
            s->bucket[i] += from->bucket[i];
        if (s)
            s->sum_ns += from->sum_ns;
    }
    pthread_mutex_unlock(&m->lock);
}

void kl_admit_metrics_write(struct kl_apiserver *s, struct kl_buf *b)
{
    struct kl_map all;
    head(b, STEP);
    put_places(s, b, -1);
    head(b, CONTROLLER);
    for (size_t row = 0; row < kl_nplugins; row++)
        put_places(s, b, (int)row);
    kl_map_init(&all);
    for (int i = 0; i < s->nloops; i++) {
        struct kl_admit_metrics *m =
            atomic_load_explicit(&s->loops[i].admit_metrics, memory_order_acquire);
        if (m)
            gather(m, &all);
    }
    for (int metric = HOOK_TIME; metric < METRICS && all.n; metric++) {
        bool first = true;
        KL_MAP_EACH (&all, e) {
            if (e->key.p[0] != (char)(metric + 1))
                continue;
            if (first)
                head(b, metric);
            first = false;
            put_series(b, metric, kl_str_from(e->key, 1), e->value);
        }
    }
    KL_MAP_EACH (&all, e)
        free(e->value);
    kl_map_fini(&all);
}
