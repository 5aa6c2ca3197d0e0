// SPDX-License-Identifier: Apache-2.0
// What a pod asks for, as numbers for the kernel (pkg/kubelet/cm, component-helpers/resource).
#include "kubelet/cgroup.h"
#include "object/quantity.h"
#include <math.h>
#include <stdio.h>

enum { MIN_SHARES = 2, MAX_SHARES = 262144, MIN_QUOTA_US = 1000, PERIOD_US = 100000 };

int64_t kl_cpu_shares(int64_t milli)
{
    if (milli <= 0)
        return MIN_SHARES;
    int64_t shares = milli * 1024 / 1000;
    return shares < MIN_SHARES ? MIN_SHARES : shares > MAX_SHARES ? MAX_SHARES : shares;
}

int64_t kl_cpu_quota(int64_t milli, int64_t period_us)
{
    if (milli <= 0)
        return -1;
    int64_t quota = milli * period_us / 1000;
    return quota < MIN_QUOTA_US ? MIN_QUOTA_US : quota;
}

int64_t kl_cpu_weight(int64_t shares)
{
    if (shares <= MIN_SHARES)
        return 1;
    if (shares >= MAX_SHARES)
        return 10000;
    // opencontainers/cgroups: 2 → 1, 1024 → 100, 262144 → 10000 on one smooth curve.
    double l = log2((double)shares);
    return (int64_t)ceil(pow(10, (l * l + 125 * l) / 612.0 - 7.0 / 34.0));
}

enum which { REQUESTS, LIMITS };

// -1: not declared.
static int64_t amount(const struct kl_value *resources, enum which w, struct kl_str name)
{
    const struct kl_value *v =
        kl_map_value(kl_get(resources, w == REQUESTS ? KL_F_requests : KL_F_limits), name);
    if (!v)
        return -1;
    return kl_str_eqz(name, "cpu") ? kl_quantity_milli_of(kl_text(v))
                                   : kl_quantity_value_of(kl_text(v));
}

static bool is_sidecar(const struct kl_value *c)
{
    return kl_str_eqz(kl_text_at(c, KL_F_restartPolicy), "Always");
}

// Sum over what runs together at the worst moment. *ret_all: every container declares it.
static int64_t pod_amount(const struct kl_value *pod, enum which w, struct kl_str name,
                          bool *ret_all)
{
    const struct kl_value *spec = kl_get(pod, KL_F_spec);
    int64_t pod_level = amount(kl_get(spec, KL_F_resources), w, name);
    int64_t sum = 0, sidecars = 0, worst_init = 0;
    bool all = true;
    for (KL_EACH(c, kl_get(spec, KL_F_containers))) {
        int64_t v = amount(kl_get(c, KL_F_resources), w, name);
        all = all && v > 0;
        sum += v > 0 ? v : 0;
    }
    for (KL_EACH(c, kl_get(spec, KL_F_initContainers))) {
        int64_t v = amount(kl_get(c, KL_F_resources), w, name);
        all = all && v > 0;
        v = v > 0 ? v : 0;
        if (is_sidecar(c)) {
            sidecars += v;
            v = 0;
        }
        if (sidecars + v > worst_init)
            worst_init = sidecars + v;
    }
    sum += sidecars;
    if (worst_init > sum)
        sum = worst_init;
    if (pod_level >= 0) {
        sum = pod_level;
        all = true;
    }
    const struct kl_value *overhead = kl_map_value(kl_get(spec, KL_F_overhead), name);
    if (overhead && (w == REQUESTS || sum))
        sum += kl_str_eqz(name, "cpu") ? kl_quantity_milli_of(kl_text(overhead))
                                       : kl_quantity_value_of(kl_text(overhead));
    if (ret_all)
        *ret_all = all;
    return sum;
}

// What one container (or the pod level) says of Guaranteed and of having anything at all.
static void qos_of(const struct kl_value *resources, bool *any, bool *guaranteed)
{
    static const struct kl_str names[] = {KL_STR_INIT("cpu"), KL_STR_INIT("memory")};
    for (size_t i = 0; i < KL_COUNT(names); i++) {
        int64_t req = amount(resources, REQUESTS, names[i]);
        int64_t lim = amount(resources, LIMITS, names[i]);
        if (req > 0 || lim > 0)
            *any = true;
        if (lim <= 0 || (req >= 0 && req != lim))
            *guaranteed = false;
    }
}

enum kl_qos kl_pod_qos(const struct kl_value *pod)
{
    const struct kl_value *spec = kl_get(pod, KL_F_spec);
    const struct kl_value *pod_level = kl_get(spec, KL_F_resources);
    bool any = false, guaranteed = true;
    if (kl_len(kl_get(pod_level, KL_F_requests)) || kl_len(kl_get(pod_level, KL_F_limits))) {
        qos_of(pod_level, &any, &guaranteed);
    } else {
        for (KL_EACH(c, kl_get(spec, KL_F_containers)))
            qos_of(kl_get(c, KL_F_resources), &any, &guaranteed);
        for (KL_EACH(c, kl_get(spec, KL_F_initContainers)))
            qos_of(kl_get(c, KL_F_resources), &any, &guaranteed);
    }
    return !any ? KL_QOS_BESTEFFORT : guaranteed ? KL_QOS_GUARANTEED : KL_QOS_BURSTABLE;
}

const char *kl_qos_name(enum kl_qos q)
{
    static const char *const names[] = {"Guaranteed", "Burstable", "BestEffort"};
    return names[q];
}

void kl_cgroup_of_container(const struct kl_value *container, struct kl_cgroup_values *ret)
{
    const struct kl_value *res = kl_get(container, KL_F_resources);
    int64_t req = amount(res, REQUESTS, KL_STR("cpu")), lim = amount(res, LIMITS, KL_STR("cpu"));
    int64_t mem = amount(res, LIMITS, KL_STR("memory"));
    // A limit without a request is its request.
    ret->cpu_shares = kl_cpu_shares(req < 0 && lim > 0 ? lim : req);
    ret->cpu_period_us = PERIOD_US;
    ret->cpu_quota_us = kl_cpu_quota(lim, PERIOD_US);
    ret->memory_limit_bytes = mem > 0 ? mem : -1;
}

void kl_cgroup_of_pod(const struct kl_value *pod, struct kl_cgroup_values *ret)
{
    enum kl_qos qos = kl_pod_qos(pod);
    bool all_cpu, all_mem;
    int64_t lim = pod_amount(pod, LIMITS, KL_STR("cpu"), &all_cpu);
    int64_t mem = pod_amount(pod, LIMITS, KL_STR("memory"), &all_mem);
    ret->cpu_shares = qos == KL_QOS_BESTEFFORT
                          ? MIN_SHARES
                          : kl_cpu_shares(pod_amount(pod, REQUESTS, KL_STR("cpu"), NULL));
    ret->cpu_period_us = PERIOD_US;
    ret->cpu_quota_us = all_cpu ? kl_cpu_quota(lim, PERIOD_US) : -1;
    ret->memory_limit_bytes = all_mem && mem > 0 ? mem : -1;
}

void kl_pod_cgroup_requests(const struct kl_value *pod, int64_t *ret_milli, int64_t *ret_bytes)
{
    *ret_milli = pod_amount(pod, REQUESTS, KL_STR("cpu"), NULL);
    *ret_bytes = pod_amount(pod, REQUESTS, KL_STR("memory"), NULL);
}

int kl_oom_score_adj(const struct kl_value *pod, const struct kl_value *container,
                     int64_t node_memory_bytes)
{
    enum { CRITICAL_PRIORITY = 2000000000, GUARANTEED = -997, BEST_EFFORT = 1000 };
    if (kl_int_at(pod, 0, KL_F_spec, KL_F_priority) >= CRITICAL_PRIORITY)
        return GUARANTEED;
    enum kl_qos qos = kl_pod_qos(pod);
    if (qos == KL_QOS_GUARANTEED)
        return GUARANTEED;
    if (qos == KL_QOS_BESTEFFORT)
        return BEST_EFFORT;
    // The share of memory asked for: who asks for more is killed later.
    int64_t req = amount(kl_get(container, KL_F_resources), REQUESTS, KL_STR("memory"));
    if (req < 0)
        req = amount(kl_get(container, KL_F_resources), LIMITS, KL_STR("memory"));
    int64_t adj = 1000 - (node_memory_bytes > 0 && req > 0
                              ? (int64_t)((__int128)1000 * req / node_memory_bytes)
                              : 0);
    if (adj < 1000 + GUARANTEED)
        return 1000 + GUARANTEED;
    return adj == BEST_EFFORT ? BEST_EFFORT - 1 : (int)adj;
}

void kl_cgroup_pod_path(char *buf, size_t n, const char *root, enum kl_qos qos, struct kl_str uid)
{
    static const char *const part[] = {"", "/burstable", "/besteffort"};
    snprintf(buf, n, "%s/kubepods%s/pod%.*s", root ? root : "", part[qos], KL_PRI(uid));
}
