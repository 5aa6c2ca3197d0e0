// SPDX-License-Identifier: Apache-2.0
#include "scheduler/schedule.h"
#include <stdlib.h>

enum {
    MIN_NODES = 100, // fewer feasible nodes than this are always all looked for
    MIN_PERCENTAGE = 5,
    MAX_SCORE = 100,
};

// How often each reason was given.
struct histogram {
    struct {
        struct kl_str text;
        size_t count;
    } * at;
    size_t n, cap;
};

static int count_reason(struct kl_arena *a, struct histogram *h, struct kl_str text)
{
    for (size_t i = 0; i < h->n; i++) {
        if (kl_str_eq(h->at[i].text, text)) {
            h->at[i].count++;
            return 0;
        }
    }
    if (h->n == h->cap) {
        size_t cap = h->cap ? h->cap * 2 : 16;
        void *grown = kl_arena_alloc(a, cap * sizeof(*h->at));
        if (!grown)
            return KL_ENOMEM;
        if (h->n)
            memcpy(grown, h->at, h->n * sizeof(*h->at));
        h->at = grown;
        h->cap = cap;
    }
    h->at[h->n].text = text;
    h->at[h->n++].count = 1;
    return 0;
}

static int compare_str(const void *a, const void *b)
{
    return kl_str_cmp(*(const struct kl_str *)a, *(const struct kl_str *)b);
}

// "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable."
static struct kl_str fit_error(struct kl_arena *a, size_t nodes, const struct histogram *h)
{
    struct kl_str *lines = kl_arena_alloc(a, (h->n + 1) * sizeof(*lines));
    struct kl_str text = kl_arena_printf(a, "0/%zu nodes are available:", nodes);
    if (!lines)
        return (struct kl_str){0};
    for (size_t i = 0; i < h->n; i++)
        lines[i] = kl_arena_printf(a, "%zu %.*s", h->at[i].count, KL_PRI(h->at[i].text));
    if (h->n)
        qsort(lines, h->n, sizeof(*lines), compare_str);
    for (size_t i = 0; i < h->n && text.p; i++)
        text = kl_arena_printf(a, "%.*s%s%.*s%s", KL_PRI(text), i ? ", " : " ", KL_PRI(lines[i]),
                               i + 1 == h->n ? "." : "");
    return text;
}

// What upstream's PostFilter plugins add when they find no victims.
static struct kl_str preemption_text(struct kl_arena *a, const struct kl_pod_info *pod,
                                     size_t nodes, size_t unresolvable)
{
    struct kl_str policy = kl_text_at(&pod->object->root, KL_F_spec, KL_F_preemptionPolicy);
    if (kl_str_eq(policy, KL_STR("Never")))
        return KL_STR("not eligible due to preemptionPolicy=Never.");
    struct histogram h = {0};
    for (size_t i = 0; i < nodes; i++) {
        if (count_reason(a, &h,
                         i < unresolvable
                             ? KL_STR("Preemption is not helpful for scheduling")
                             : KL_STR("No preemption victims found for incoming pod")) < 0)
            return (struct kl_str){0};
    }
    return fit_error(a, nodes, &h);
}

static size_t nodes_to_find(size_t all, int percentage)
{
    if (all < MIN_NODES)
        return all;
    if (percentage == 0) {
        percentage = 50 - (int)(all / 125);
        if (percentage < MIN_PERCENTAGE)
            percentage = MIN_PERCENTAGE;
    }
    size_t n = all * (size_t)percentage / 100;
    return n < MIN_NODES ? MIN_NODES : n;
}

struct search {
    struct kl_node_info **feasible;
    struct histogram reasons;
    size_t unresolvable;
};

static int find_feasible(struct kl_arena *a, const struct kl_cache *c,
                         const struct kl_pod_info *pod, const struct kl_schedule_opts *o,
                         struct search *s, struct kl_schedule_result *ret)
{
    size_t wanted = nodes_to_find(c->n, o->percentage_of_nodes);
    size_t start = *o->next_start % c->n;
    for (size_t i = 0; i < c->n && ret->feasible < wanted; i++) {
        struct kl_node_info *n = c->list[(start + i) % c->n];
        struct kl_reasons reasons = {.n = 0};
        bool fits = true;
        ret->evaluated++;
        for (size_t f = 0; f < kl_nfilters && fits; f++) {
            fits = kl_filters[f].fits(a, pod, n, &reasons);
            if (!fits)
                ret->rejected_by |= 1u << kl_filters[f].plugin;
        }
        if (fits) {
            s->feasible[ret->feasible++] = n;
            continue;
        }
        s->unresolvable += reasons.unresolvable;
        for (size_t r = 0; r < reasons.n; r++) {
            if (count_reason(a, &s->reasons, reasons.text[r]) < 0)
                return KL_ENOMEM;
        }
    }
    *o->next_start = (start + ret->evaluated) % c->n;
    return 0;
}

static uint64_t next_random(uint64_t *state)
{
    // xorshift64*: which of several equal nodes it is need not be unpredictable
    uint64_t x = *state ? *state : 0x9E3779B97F4A7C15u;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545F4914F6CDD1Du;
}

static int choose(struct kl_arena *a, const struct kl_pod_info *pod,
                  const struct kl_schedule_opts *o, struct kl_node_info **list, size_t n,
                  struct kl_node_info **ret)
{
    int64_t *total = kl_arena_zalloc(a, n * sizeof(*total));
    int64_t *one = kl_arena_alloc(a, n * sizeof(*one));
    if (!total || !one)
        return KL_ENOMEM;
    for (size_t k = 0; k < kl_nscorers; k++) {
        const struct kl_scorer *scorer = &kl_scorers[k];
        if (scorer->skip && scorer->skip(pod))
            continue;
        int64_t max = 0;
        for (size_t i = 0; i < n; i++) {
            one[i] = scorer->score(pod, list[i]);
            max = one[i] > max ? one[i] : max;
        }
        for (size_t i = 0; i < n; i++) {
            int64_t score = one[i];
            if (scorer->normalize)
                score = max ? score * MAX_SCORE / max : 0;
            if (scorer->reverse)
                score = MAX_SCORE - score;
            total[i] += score * scorer->weight;
        }
    }
    size_t best = 0, equals = 1;
    for (size_t i = 1; i < n; i++) {
        if (total[i] > total[best]) {
            best = i;
            equals = 1;
        } else if (total[i] == total[best] && next_random(o->random) % ++equals == 0) {
            best = i; // reservoir sampling: each of the equals with the same chance
        }
    }
    *ret = list[best];
    return 0;
}

int kl_schedule(struct kl_arena *a, const struct kl_cache *c, const struct kl_pod_info *pod,
                const struct kl_schedule_opts *o, struct kl_schedule_result *ret)
{
    *ret = (struct kl_schedule_result){0};
    if (c->n == 0) {
        ret->rejected_by = ~0u;
        ret->message = KL_STR("no nodes available to schedule pods");
        return 0;
    }
    struct search s = {.feasible = kl_arena_alloc(a, c->n * sizeof(struct kl_node_info *))};
    if (!s.feasible || find_feasible(a, c, pod, o, &s, ret) < 0)
        return KL_ENOMEM;
    if (ret->feasible == 1) {
        ret->node = s.feasible[0];
        return 0;
    }
    if (ret->feasible > 1)
        return choose(a, pod, o, s.feasible, ret->feasible, &ret->node);
    // The first part is the answer of DynamicResources for a pod without claims; kube-scheduler
    // shows both since 1.34.
    struct kl_str why = fit_error(a, c->n, &s.reasons);
    struct kl_str preemption = preemption_text(a, pod, c->n, s.unresolvable);
    if (!why.p || !preemption.p)
        return KL_ENOMEM;
    ret->message = kl_arena_printf(a, "%.*s no new claims to deallocate, preemption: %.*s",
                                   KL_PRI(why), KL_PRI(preemption));
    return ret->message.p ? 0 : KL_ENOMEM;
}
