// SPDX-License-Identifier: Apache-2.0
// The quality of service of a pod (qos.ComputePodQOS): by cpu and memory of the whole where that is
// said, else of every container.
#include "object/quota/amounts.h"

struct sums {
    __int128 request[2], limit[2]; // cpu, memory; what is not positive does not count
    bool guaranteed;
};

static __int128 amount(const struct kl_value *resources, kl_sym list, const char *name)
{
    struct kl_quantity q;
    const struct kl_value *v = kl_map_value(kl_get(resources, list), kl_str(name));
    return v && !kl_quantity_parse(kl_text(v), &q, NULL) && q.nano > 0 ? q.nano : 0;
}

static void add(struct sums *s, const struct kl_value *resources)
{
    static const char *const names[] = {"cpu", "memory"};
    for (size_t i = 0; i < KL_COUNT(names); i++) {
        __int128 limit = amount(resources, KL_F_limits, names[i]);
        s->request[i] += amount(resources, KL_F_requests, names[i]);
        s->limit[i] += limit;
        s->guaranteed &= limit > 0;
    }
}

const char *kl_pod_qos_class(const struct kl_value *pod)
{
    static const kl_sym lists[] = {KL_F_containers, KL_F_initContainers};
    const struct kl_value *spec = kl_get(pod, KL_F_spec), *whole = kl_get(spec, KL_F_resources);
    struct sums s = {.guaranteed = true};
    if (whole && !kl_is(whole, KL_NULL))
        add(&s, whole);
    else
        for (size_t l = 0; l < KL_COUNT(lists); l++)
            for (KL_EACH(c, kl_get(spec, lists[l])))
                add(&s, kl_get(c, KL_F_resources));
    bool any = false, same = true;
    for (size_t i = 0; i < 2; i++) {
        any |= s.request[i] || s.limit[i];
        same &= s.request[i] == s.limit[i];
    }
    return !any ? "BestEffort" : s.guaranteed && same ? "Guaranteed" : "Burstable";
}
