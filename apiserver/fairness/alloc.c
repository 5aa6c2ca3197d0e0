// SPDX-License-Identifier: Apache-2.0
#include "apiserver/fairness/alloc.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MIN_TARGET 0.001
#define EPSILON 0.0000001
#define SMOOTHING 0.977 // of the demand, a period
enum { MAX_RETRY_AFTER_S = 32 };

static double target_of(const struct kl_share *s)
{
    return s->target < MIN_TARGET ? MIN_TARGET : s->target;
}

// The sum of what all get with this proportion.
static double sum_at(const struct kl_share *in, size_t n, double fair)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += fmax(in[i].lower, fmin(in[i].upper, fair * target_of(&in[i])));
    return sum;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The proportion where the sum is reached: it rises with the proportion, in pieces that are
// straight between the bounds.
static bool solve(double sum, const struct kl_share *in, size_t n, double from, double *ret)
{
    double *bound = malloc(2 * n * sizeof(*bound));
    if (!bound)
        return false;
    for (size_t i = 0; i < n; i++) {
        bound[2 * i] = in[i].lower / target_of(&in[i]);
        bound[2 * i + 1] = in[i].upper / target_of(&in[i]);
    }
    qsort(bound, 2 * n, sizeof *bound, by_value);
    double low = from, at_low = sum_at(in, n, low);
    bool found = false;
    for (size_t i = 0; i < 2 * n && !found; i++) {
        if (bound[i] <= low)
            continue;
        double at = sum_at(in, n, bound[i]);
        if (at >= sum) {
            *ret = at > at_low ? low + (sum - at_low) * (bound[i] - low) / (at - at_low) : bound[i];
            found = true;
        }
        low = bound[i];
        at_low = at;
    }
    free(bound);
    return found;
}

bool kl_shares_allocate(int sum, const struct kl_share *in, size_t n, double *ret, double *ret_fair)
{
    double low = 0, high = 0, targets = 0, want = sum;
    double low_min = FLT_MAX, low_max = 0, high_min = FLT_MAX, high_max = 0;
    if (sum < 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        double t = target_of(&in[i]), l = in[i].lower / t, u = in[i].upper / t;
        if (in[i].lower < 0 || in[i].target < in[i].lower || in[i].upper < in[i].lower)
            return false;
        low += in[i].lower;
        high += in[i].upper;
        targets += t;
        low_min = fmin(low_min, l);
        low_max = fmax(low_max, l);
        high_min = fmin(high_min, u);
        high_max = fmax(high_max, u);
    }
    if (low_max > 1 || low - want > EPSILON || want - high > EPSILON)
        return false;
    if (sum == 0) {
        memset(ret, 0, n * sizeof *ret);
        *ret_fair = 0;
        return true;
    }
    if (low - want > -EPSILON || want - high > -EPSILON) {
        bool least = low - want > -EPSILON;
        for (size_t i = 0; i < n; i++)
            ret[i] = least ? in[i].lower : in[i].upper;
        *ret_fair = least ? low_min : high_max;
        return true;
    }
    double fair = want / targets;
    if ((low_max > fair || fair > high_min) && !solve(want, in, n, low_min, &fair))
        return false;
    for (size_t i = 0; i < n; i++)
        ret[i] = fmax(in[i].lower, fmin(in[i].upper, fair * target_of(&in[i])));
    *ret_fair = fair;
    return true;
}

void kl_level_share_demand(struct kl_level_share *l, const struct kl_fq_demand *d)
{
    l->high_watermark = d->max;
    if (d->seconds <= 0)
        return;
    l->average = d->x / d->seconds;
    double variance = d->xx / d->seconds - l->average * l->average;
    l->deviation = variance > 0 ? sqrt(variance) : 0;
    double envelope = l->average + l->deviation;
    l->smoothed = fmax(envelope, SMOOTHING * l->smoothed + (1 - SMOOTHING) * envelope);
}

static int max_int(int a, int b)
{
    return a > b ? a : b;
}

static int least_now(const struct kl_level_share *l)
{
    int hw = l->exempt || l->high_watermark < l->nominal ? l->high_watermark : l->nominal;
    return max_int(l->min, hw);
}

void kl_level_shares_adjust(struct kl_level_share **l, size_t n, int nominal_sum,
                            struct kl_share *work, double *work2, double *ret_fair)
{
    int left = nominal_sum, min_sum = 0, least_sum = 0;
    size_t k = 0;
    *ret_fair = 0;
    for (size_t i = 0; i < n; i++) {
        int least = least_now(l[i]);
        l[i]->target = least;
        if (l[i]->exempt) {
            left -= least;
            continue;
        }
        l[i]->target = fmax(least, l[i]->smoothed);
        work[k++] = (struct kl_share){l[i]->target, least, l[i]->max};
        min_sum += l[i]->min;
        least_sum += least;
    }
    double fraction = 0;
    bool allocated = false;
    if (left > min_sum && left <= least_sum)
        fraction = (double)(left - min_sum) / (least_sum - min_sum);
    else if (left > least_sum)
        allocated = kl_shares_allocate(nominal_sum, work, k, work2, ret_fair);
    k = 0;
    for (size_t i = 0; i < n; i++) {
        int least = least_now(l[i]);
        if (l[i]->exempt) {
            l[i]->current = least;
            continue;
        }
        if (left <= min_sum)
            l[i]->current = l[i]->min;
        else if (left <= least_sum)
            l[i]->current = l[i]->min + (int)lround((least - l[i]->min) * fraction);
        else if (allocated)
            l[i]->current = (int)lround(work2[k]);
        k++;
    }
}

// ---- Retry-After

void kl_drops_init(struct kl_drops *d)
{
    *d = (struct kl_drops){.retry_after = 1};
}

static void remember(struct kl_drops *d)
{
    int64_t keep = 2 * d->retry_after < MAX_RETRY_AFTER_S ? 2 * d->retry_after : MAX_RETRY_AFTER_S;
    int drop = 0;
    if (d->nhistory == KL_DROPS_HISTORY)
        drop = 1;
    while (drop < d->nhistory && d->second - d->history[drop].second > keep)
        drop++;
    d->nhistory -= drop;
    memmove(d->history, d->history + drop, (size_t)d->nhistory * sizeof d->history[0]);
    d->history[d->nhistory].second = d->second;
    d->history[d->nhistory++].n = d->count;
}

void kl_drops_note(struct kl_drops *d, int64_t now)
{
    if (d->second == now) {
        d->count++;
        return;
    }
    remember(d);
    d->second = now;
    d->count = 1;
    int64_t dropped = 0, after = d->retry_after;
    for (int i = d->nhistory - 1; i >= 0 && now - d->history[i].second <= after; i--)
        if (d->history[i].second < now)
            dropped += d->history[i].n;
    if (now - d->updated >= after && dropped >= 3 * after) {
        d->retry_after = 2 * after < MAX_RETRY_AFTER_S ? 2 * after : MAX_RETRY_AFTER_S;
        d->updated = now;
    } else if (dropped < after && after > 1) {
        d->retry_after--;
    }
}
