// SPDX-License-Identifier: Apache-2.0
// Sets of completion indexes (upstream: pkg/controller/job/indexed_job_utils.go).
#include "controllers/job.h"
#include <inttypes.h>
#include <stdio.h>

static struct kl_index_range *make_room(struct kl_arena *a, size_t n)
{
    return kl_arena_alloc(a, (n + 1) * sizeof(struct kl_index_range));
}

int kl_indexes_parse(struct kl_arena *a, struct kl_str text, int64_t completions,
                     struct kl_indexes *ret)
{
    size_t commas = 0;
    for (size_t i = 0; i < text.n; i++)
        commas += text.p[i] == ',';
    struct kl_indexes set = {.v = make_room(a, commas + 1)};
    struct kl_str part;
    if (!set.v)
        return KL_ENOMEM;
    while (kl_str_split(&text, ',', &part)) {
        ptrdiff_t dash = kl_str_chr(part, '-');
        struct kl_str first = dash < 0 ? part : (struct kl_str){part.p, (size_t)dash};
        struct kl_index_range r;
        if (!kl_str_to_i64(first, &r.first))
            continue;
        if (r.first >= completions)
            break;
        r.last = r.first;
        if (dash >= 0 && !kl_str_to_i64(kl_str_from(part, (size_t)dash + 1), &r.last))
            continue;
        if (r.last >= completions)
            r.last = completions - 1;
        if (set.n && set.v[set.n - 1].last == r.first - 1)
            set.v[set.n - 1].last = r.last;
        else
            set.v[set.n++] = r;
    }
    *ret = set;
    return 0;
}

static void put(struct kl_indexes *set, struct kl_index_range r)
{
    struct kl_index_range *last = set->n ? &set->v[set->n - 1] : NULL;
    if (!last || r.first > last->last + 1)
        set->v[set->n++] = r;
    else if (last->last < r.last)
        last->last = r.last;
}

int kl_indexes_merge(struct kl_arena *a, const struct kl_indexes *x, const struct kl_indexes *y,
                     struct kl_indexes *ret)
{
    struct kl_indexes set = {.v = make_room(a, x->n + y->n)};
    size_t i = 0, k = 0;
    if (!set.v)
        return KL_ENOMEM;
    while (i < x->n || k < y->n) {
        if (k == y->n || (i < x->n && x->v[i].first < y->v[k].first))
            put(&set, x->v[i++]);
        else
            put(&set, y->v[k++]);
    }
    *ret = set;
    return 0;
}

int kl_indexes_add(struct kl_arena *a, struct kl_indexes *set, const int64_t *ascending, size_t n)
{
    struct kl_indexes more = {.v = make_room(a, n), .n = n};
    if (!more.v)
        return KL_ENOMEM;
    for (size_t i = 0; i < n; i++)
        more.v[i] = (struct kl_index_range){ascending[i], ascending[i]};
    struct kl_indexes was = *set;
    return kl_indexes_merge(a, &was, &more, set);
}

int64_t kl_indexes_total(const struct kl_indexes *set)
{
    int64_t total = 0;
    for (size_t i = 0; i < set->n; i++)
        total += set->v[i].last - set->v[i].first + 1;
    return total;
}

bool kl_indexes_has(const struct kl_indexes *set, int64_t index)
{
    size_t lo = 0, hi = set->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (set->v[mid].last >= index)
            hi = mid;
        else
            lo = mid + 1;
    }
    return hi < set->n && set->v[hi].first <= index;
}

struct kl_str kl_indexes_text(struct kl_arena *a, const struct kl_indexes *set)
{
    enum { RANGE_MAX = 44 }; // two numbers of 20 digits, two separators, NUL
    size_t cap = set->n * RANGE_MAX + 1, n = 0;
    char *text = kl_arena_alloc(a, cap);
    if (!text)
        return (struct kl_str){NULL, 0};
    text[0] = 0;
    for (size_t i = 0; i < set->n; i++) {
        const struct kl_index_range *r = &set->v[i];
        n += (size_t)snprintf(text + n, cap - n, "%s%" PRId64, n ? "," : "", r->first);
        if (r->last > r->first)
            n += (size_t)snprintf(text + n, cap - n, "%c%" PRId64,
                                  r->last == r->first + 1 ? ',' : '-', r->last);
    }
    return (struct kl_str){text, n};
}

size_t kl_indexes_missing(const struct kl_indexes *set, int64_t completions, int64_t *ret,
                          size_t max)
{
    int64_t next = 0;
    size_t n = 0;
    for (size_t i = 0; i <= set->n; i++) {
        int64_t end = i < set->n ? set->v[i].first : completions;
        for (; next < completions && next < end && n < max; next++)
            ret[n++] = next;
        if (i < set->n && next <= set->v[i].last)
            next = set->v[i].last + 1;
    }
    return n;
}

// ---- what pods say

int64_t kl_pod_completion_index(const struct kl_value *pod)
{
    int64_t index;
    return kl_str_to_i64(kl_annotation(pod, "batch.kubernetes.io/job-completion-index"), &index) &&
                   index >= 0
               ? index
               : -1;
}

static int64_t count_at(const struct kl_value *pod, const char *key)
{
    int64_t n;
    return kl_str_to_i64(kl_annotation(pod, key), &n) && n >= 0 && n <= INT32_MAX ? n : 0;
}

int64_t kl_pod_index_failures(const struct kl_value *pod)
{
    return count_at(pod, "batch.kubernetes.io/job-index-failure-count");
}

int64_t kl_pod_index_ignored(const struct kl_value *pod)
{
    return count_at(pod, "batch.kubernetes.io/job-index-ignored-failure-count");
}
