// SPDX-License-Identifier: Apache-2.0
#include "controllers/pods.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct kl_str phase_of(const struct kl_value *pod)
{
    return kl_text_at(pod, KL_F_status, KL_F_phase);
}

bool kl_pod_terminal(const struct kl_value *pod)
{
    struct kl_str phase = phase_of(pod);
    return kl_str_eq(phase, KL_STR("Succeeded")) || kl_str_eq(phase, KL_STR("Failed"));
}

bool kl_pod_active(const struct kl_value *pod)
{
    return !kl_pod_terminal(pod) && !kl_meta_deleting(pod);
}

bool kl_pod_terminating(const struct kl_value *pod)
{
    return !kl_pod_terminal(pod) && kl_meta_deleting(pod);
}

bool kl_pod_ready(const struct kl_value *pod)
{
    return kl_condition_is(kl_path(pod, KL_F_status, KL_F_conditions), "Ready", "True");
}

int64_t kl_pod_ready_since_us(const struct kl_value *pod)
{
    const struct kl_value *c =
        kl_condition_find(kl_path(pod, KL_F_status, KL_F_conditions), "Ready");
    if (!c || !kl_str_eq(kl_text(kl_get(c, KL_F_status)), KL_STR("True")))
        return 0;
    return kl_int_or(kl_get(c, KL_F_lastTransitionTime), 0);
}

bool kl_pod_available(const struct kl_value *pod, int64_t min_ready_s, int64_t now_us)
{
    if (!kl_pod_ready(pod))
        return false;
    int64_t since = kl_pod_ready_since_us(pod);
    return min_ready_s == 0 || (since != 0 && since + min_ready_s * 1000000 <= now_us);
}

// ---- ranking

struct ranked {
    const struct kl_value *pod;
    struct kl_str uid;
    int64_t cost, ready_us, created_us, restarts, sidecar_restarts;
    int rank, phase;
    bool assigned, ready;
};

static int phase_ordinal(struct kl_str phase)
{
    return kl_str_eq(phase, KL_STR("Running")) ? 2 : kl_str_eq(phase, KL_STR("Unknown")) ? 1 : 0;
}

static int64_t max_restarts(const struct kl_value *statuses)
{
    int64_t max = 0;
    for (KL_EACH(c, statuses)) {
        int64_t n = kl_int_or(kl_get(c, KL_F_restartCount), 0);
        max = n > max ? n : max;
    }
    return max;
}

static bool is_sidecar(const struct kl_value *pod, struct kl_str name)
{
    for (KL_EACH(c, kl_path(pod, KL_F_spec, KL_F_initContainers))) {
        if (kl_str_eq(kl_text(kl_get(c, KL_F_name)), name))
            return kl_str_eq(kl_text(kl_get(c, KL_F_restartPolicy)), KL_STR("Always"));
    }
    return false;
}

static int64_t max_sidecar_restarts(const struct kl_value *pod)
{
    int64_t max = 0;
    for (KL_EACH(c, kl_path(pod, KL_F_status, KL_F_initContainerStatuses))) {
        int64_t n = kl_int_or(kl_get(c, KL_F_restartCount), 0);
        if (n > max && is_sidecar(pod, kl_text(kl_get(c, KL_F_name))))
            max = n;
    }
    return max;
}

static struct ranked rank_pod(const struct kl_value *pod, int rank)
{
    struct ranked r = {
        .pod = pod,
        .uid = kl_meta_uid(pod),
        .rank = rank,
        .phase = phase_ordinal(phase_of(pod)),
        .assigned = kl_text_at(pod, KL_F_spec, KL_F_nodeName).n != 0,
        .ready = kl_pod_ready(pod),
        .ready_us = kl_pod_ready_since_us(pod),
        .created_us = kl_int_at(pod, 0, KL_F_metadata, KL_F_creationTimestamp),
        .restarts = max_restarts(kl_path(pod, KL_F_status, KL_F_containerStatuses)),
        .sidecar_restarts = max_sidecar_restarts(pod),
    };
    if (!kl_str_to_i64(kl_annotation(pod, "controller.kubernetes.io/pod-deletion-cost"), &r.cost))
        r.cost = 0;
    return r;
}

// Ages are compared by their binary logarithm, so that pods of about the same age are equals whom
// the uid orders at random; a zero time is the newest. < 0: a is younger.
static int compare_age(int64_t a_us, int64_t b_us, int64_t now_us, const struct ranked *a,
                       const struct ranked *b)
{
    if (a_us == 0 || b_us == 0)
        return a_us == 0 ? -1 : 1;
    int64_t da = now_us - a_us, db = now_us - b_us;
    int64_t ra = da > 0 ? (int64_t)log2((double)da * 1000) : -1;
    int64_t rb = db > 0 ? (int64_t)log2((double)db * 1000) : -1;
    if (ra != rb)
        return ra < rb ? -1 : 1;
    return kl_str_cmp(a->uid, b->uid);
}

static int compare_ranked(const void *pa, const void *pb, void *now)
{
    const struct ranked *a = pa, *b = pb;
    int64_t now_us = *(const int64_t *)now;
    if (a->assigned != b->assigned)
        return a->assigned ? 1 : -1;
    if (a->phase != b->phase)
        return a->phase - b->phase;
    if (a->ready != b->ready)
        return a->ready ? 1 : -1;
    if (a->cost != b->cost)
        return a->cost < b->cost ? -1 : 1;
    if (a->rank != b->rank)
        return a->rank > b->rank ? -1 : 1;
    if (a->ready && a->ready_us != b->ready_us)
        return compare_age(a->ready_us, b->ready_us, now_us, a, b);
    if (a->restarts != b->restarts)
        return a->restarts > b->restarts ? -1 : 1;
    if (a->sidecar_restarts != b->sidecar_restarts)
        return a->sidecar_restarts > b->sidecar_restarts ? -1 : 1;
    if (a->created_us != b->created_us)
        return compare_age(a->created_us, b->created_us, now_us, a, b);
    return kl_str_cmp(a->uid, b->uid);
}

int kl_pods_sort_for_deletion(const struct kl_value **pods, const int *rank, size_t n,
                              int64_t now_us)
{
    struct ranked *list = n ? calloc(n, sizeof(*list)) : NULL;
    if (n && !list)
        return KL_ENOMEM;
    for (size_t i = 0; i < n; i++)
        list[i] = rank_pod(pods[i], rank ? rank[i] : 0);
    if (n)
        qsort_r(list, n, sizeof(*list), compare_ranked, &now_us);
    for (size_t i = 0; i < n; i++)
        pods[i] = list[i].pod;
    free(list);
    return 0;
}

struct kl_value kl_pod_from_template(struct kl_arena *a, const struct kl_value *pod_template,
                                     const struct kl_resource *owner_res,
                                     const struct kl_value *owner)
{
    static const kl_sym taken[] = {KL_F_labels, KL_F_annotations, KL_F_finalizers};
    struct kl_value pod = kl_new_struct(), meta = kl_new_struct(), owners = kl_new_array();
    for (size_t i = 0; i < KL_COUNT(taken); i++) {
        const struct kl_value *v = kl_path(pod_template, KL_F_metadata, taken[i]);
        if (v)
            kl_set(a, &meta, taken[i], *v);
    }
    struct kl_str name = kl_meta_name(owner);
    kl_set_str(a, &meta, KL_F_generateName, kl_arena_printf(a, "%.*s-", KL_PRI(name)));
    kl_set_str(a, &meta, KL_F_namespace, kl_meta_namespace(owner));
    kl_append(a, &owners, kl_owner_ref(a, owner_res, owner, true, true));
    kl_set(a, &meta, KL_F_ownerReferences, owners);
    kl_set(a, &pod, KL_F_metadata, meta);
    const struct kl_value *spec = kl_get(pod_template, KL_F_spec);
    if (spec)
        kl_set(a, &pod, KL_F_spec, *spec);
    return pod;
}

struct kl_str kl_index_orphans(const struct kl_value *root)
{
    return kl_meta_controller(root) ? (struct kl_str){"", 0} : kl_meta_namespace(root);
}

bool kl_is_namespace_terminating(const struct kl_error *err)
{
    static const char text[] = "because it is being terminated";
    return err->code == KL_EFORBIDDEN &&
           memmem(err->msg, strlen(err->msg), text, sizeof(text) - 1) != NULL;
}
