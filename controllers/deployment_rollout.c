// SPDX-License-Identifier: Apache-2.0
// How a Deployment's ReplicaSets are sized: in a rollout (upstream's rolling.go, recreate.go) and
// when the Deployment itself is scaled (sync.go).
#include "controllers/deployment.h"
#include <stdlib.h>

static int64_t min_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

// ---- scaling

static bool is_saturated(const struct kl_deployment_view *v)
{
    const struct kl_rs *rs = v->fresh;
    return rs && kl_annotation_int(&rs->draft, KL_DESIRED_REPLICAS) == v->replicas &&
           rs->replicas == v->replicas && rs->available == v->replicas;
}

// The part of the whole that this ReplicaSet gains (or loses, negative).
static int64_t fraction_of(const struct kl_deployment_view *v, const struct kl_rs *rs)
{
    if (v->replicas == 0)
        return -rs->replicas;
    int64_t before = kl_annotation_int(&rs->draft, KL_MAX_REPLICAS);
    if (before <= 0)
        before = kl_int_at(v->d, 0, KL_F_status, KL_F_replicas);
    if (before == 0)
        return 0;
    // rounded half away from zero, as integer.RoundToInt32; both sides are positive
    int64_t scaled = rs->replicas * (v->replicas + v->surge);
    return (2 * scaled + before) / (2 * before) - rs->replicas;
}

static int larger_newer(const void *pa, const void *pb)
{
    const struct kl_rs *a = *(struct kl_rs *const *)pa, *b = *(struct kl_rs *const *)pb;
    if (a->replicas != b->replicas)
        return a->replicas > b->replicas ? -1 : 1;
    if (a->created_us != b->created_us)
        return a->created_us > b->created_us ? -1 : 1;
    return kl_str_cmp(a->name, b->name);
}

static int larger_older(const void *pa, const void *pb)
{
    const struct kl_rs *a = *(struct kl_rs *const *)pa, *b = *(struct kl_rs *const *)pb;
    if (a->replicas != b->replicas)
        return a->replicas > b->replicas ? -1 : 1;
    if (a->created_us != b->created_us)
        return a->created_us < b->created_us ? -1 : 1;
    return kl_str_cmp(a->name, b->name);
}

static void scale_in_proportion(struct kl_arena *a, struct kl_deployment_view *v,
                                struct kl_rs **active, size_t n)
{
    int64_t allowed = v->replicas > 0 ? v->replicas + v->surge : 0;
    int64_t to_add = allowed - kl_deployment_total(v), added = 0;
    int64_t *size = kl_arena_alloc(a, n * sizeof(*size));
    if (!size)
        return;
    if (to_add)
        qsort(active, n, sizeof(*active), to_add > 0 ? larger_newer : larger_older);
    for (size_t i = 0; i < n; i++) {
        int64_t part = 0;
        if (to_add && added != to_add) {
            part = fraction_of(v, active[i]);
            part = to_add > 0 ? min_of(part, to_add - added) : max_of(part, to_add - added);
        }
        size[i] = active[i]->replicas + part;
        added += part;
    }
    // What rounding left over goes to the largest.
    size[0] = max_of(size[0] + to_add - added, 0);
    for (size_t i = 0; i < n; i++)
        kl_rs_scale(a, v, active[i], size[i], true);
}

void kl_deployment_scale(struct kl_arena *a, struct kl_deployment_view *v)
{
    struct kl_rs **active = kl_arena_alloc(a, (v->nold + 1) * sizeof(*active));
    size_t n = 0;
    if (!active)
        return;
    for (size_t i = v->nold; i-- > 0;) {
        if (v->old[i]->replicas > 0)
            active[n++] = v->old[i];
    }
    size_t nold_active = n;
    if (v->fresh && v->fresh->replicas > 0)
        active[n++] = v->fresh;
    if (n <= 1) {
        struct kl_rs *one = n          ? active[0]
                            : v->fresh ? v->fresh
                            : v->nold  ? v->old[v->nold - 1]
                                       : NULL;
        if (one)
            kl_rs_scale(a, v, one, v->replicas, false);
    } else if (is_saturated(v)) {
        for (size_t i = 0; i < nold_active; i++)
            kl_rs_scale(a, v, active[i], 0, false);
    } else if (v->rolling) {
        scale_in_proportion(a, v, active, n);
    }
}

// ---- rolling out

// Old pods that are not available go first: they would only block the rollout.
static int64_t clean_up_unhealthy(struct kl_arena *a, struct kl_deployment_view *v, int64_t max)
{
    int64_t n = 0;
    for (size_t i = 0; i < v->nold && n < max; i++) {
        struct kl_rs *rs = v->old[i];
        int64_t sick = rs->replicas - rs->available;
        if (rs->replicas == 0 || sick == 0)
            continue;
        int64_t down = min_of(max - n, sick);
        if (down <= 0)
            continue;
        kl_rs_scale(a, v, rs, rs->replicas - down, false);
        n += down;
    }
    return n;
}

// A ReplicaSet that has just been scaled down still reports the pods it is about to delete.
// Upstream counts them and so may go below its promise; no more are counted here than will be left.
static int64_t available_for_sure(const struct kl_rs *rs)
{
    return min_of(rs->available, rs->replicas);
}

static int64_t scale_down_old(struct kl_arena *a, struct kl_deployment_view *v)
{
    int64_t available = available_for_sure(v->fresh), n = 0;
    for (size_t i = 0; i < v->nold; i++)
        available += available_for_sure(v->old[i]);
    int64_t may = available - (v->replicas - v->unavailable);
    for (size_t i = 0; i < v->nold && n < may; i++) {
        struct kl_rs *rs = v->old[i];
        int64_t down = min_of(rs->replicas, may - n);
        if (down <= 0)
            continue;
        kl_rs_scale(a, v, rs, rs->replicas - down, false);
        n += down;
    }
    return n;
}

static bool reconcile_old(struct kl_arena *a, struct kl_deployment_view *v)
{
    int64_t old = kl_deployment_total(v) - v->fresh->replicas;
    if (old == 0)
        return false;
    int64_t fresh_unavailable = v->fresh->replicas - v->fresh->available;
    int64_t max = kl_deployment_total(v) - (v->replicas - v->unavailable) - fresh_unavailable;
    if (max <= 0)
        return false;
    int64_t n = clean_up_unhealthy(a, v, max);
    return n + scale_down_old(a, v) > 0;
}

bool kl_deployment_roll(struct kl_arena *a, struct kl_deployment_view *v)
{
    struct kl_rs *rs = v->fresh;
    int64_t size = rs->replicas > v->replicas   ? v->replicas
                   : rs->replicas < v->replicas ? kl_deployment_fresh_size(v, rs->replicas)
                                                : rs->replicas;
    if (size != rs->replicas) {
        kl_rs_scale(a, v, rs, size, false);
        return true;
    }
    return reconcile_old(a, v);
}
