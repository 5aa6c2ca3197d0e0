// SPDX-License-Identifier: Apache-2.0
// What a pod needs as a whole. Init containers run one after the other before the others, so that a
// pod needs the larger of both; those that restart (sidecars) stay and count with all that follow.
#include "object/quota/amounts.h"

static bool pod_level(struct kl_str name, unsigned how)
{
    return kl_str_eqz(name, "cpu") || kl_str_eqz(name, "memory") ||
           (!(how & KL_POD_SUM_PLAIN) && kl_str_starts(name, KL_STR("hugepages-")));
}

static bool any_level(const struct kl_value *map)
{
    for (KL_MAP_EACH_KEY(kv, map))
        if (pod_level(kl_text(kv), 0))
            return true;
    return false;
}

bool kl_pod_level_set(const struct kl_value *pod)
{
    const struct kl_value *r = kl_path(pod, KL_F_spec, KL_F_resources);
    return any_level(kl_get(r, KL_F_requests)) || any_level(kl_get(r, KL_F_limits));
}

static bool infeasible(const struct kl_value *pod)
{
    for (KL_EACH(c, kl_path(pod, KL_F_status, KL_F_conditions)))
        if (kl_str_eqz(kl_text(kl_get(c, KL_F_type)), "PodResizePending"))
            return kl_str_eqz(kl_text(kl_get(c, KL_F_reason)), "Infeasible");
    return false;
}

// The last status of this name: containers before init containers.
static const struct kl_value *status_of(const struct kl_value *pod, struct kl_str name)
{
    static const kl_sym lists[] = {KL_F_containerStatuses, KL_F_initContainerStatuses};
    const struct kl_value *found = NULL;
    for (size_t i = 0; i < KL_COUNT(lists); i++)
        for (KL_EACH(s, kl_path(pod, KL_F_status, lists[i])))
            if (kl_str_eq(kl_text(kl_get(s, KL_F_name)), name))
                found = s;
    return found;
}

static void max_with(struct kl_amounts *l, const struct kl_value *map)
{
    struct kl_amounts more;
    kl_amounts_read(&more, l->arena, map);
    kl_amounts_max_all(l, &more);
}

struct sum {
    const struct kl_value *pod;
    kl_sym field; // requests or limits
    unsigned how;
    struct kl_arena *arena;
};

// One container's list: while a resize is on its way, what it asks for, has and was promised.
static void of_container(const struct sum *s, const struct kl_value *c, bool resizable,
                         struct kl_amounts *ret)
{
    const struct kl_value *spec = kl_path(c, KL_F_resources, s->field);
    const struct kl_value *st = NULL, *res = NULL;
    if ((s->how & KL_POD_SUM_STATUS) && resizable) {
        st = status_of(s->pod, kl_text(kl_get(c, KL_F_name)));
        res = kl_get(st, KL_F_resources);
        if (kl_is(res, KL_NULL))
            res = NULL;
    }
    if (!res) {
        kl_amounts_read(ret, s->arena, spec);
        return;
    }
    bool stuck = infeasible(s->pod);
    kl_amounts_read(ret, s->arena, stuck ? NULL : spec);
    max_with(ret, kl_get(res, s->field));
    if (s->field == KL_F_requests)
        max_with(ret, kl_get(st, KL_F_allocatedResources));
}

static void of_containers(const struct sum *s, struct kl_amounts *l)
{
    const struct kl_value *spec = kl_get(s->pod, KL_F_spec);
    struct kl_amounts one, stay = {.arena = s->arena}, init = {.arena = s->arena};
    for (KL_EACH(c, kl_get(spec, KL_F_containers))) {
        of_container(s, c, true, &one);
        kl_amounts_add_all(l, &one);
    }
    for (KL_EACH(c, kl_get(spec, KL_F_initContainers))) {
        bool restarts = kl_str_eqz(kl_text(kl_get(c, KL_F_restartPolicy)), "Always");
        of_container(s, c, restarts, &one);
        if (restarts) {
            kl_amounts_add_all(l, &one);
            kl_amounts_add_all(&stay, &one);
            kl_amounts_max_all(&init, &stay);
        } else {
            kl_amounts_add_all(&one, &stay);
            kl_amounts_max_all(&init, &one);
        }
    }
    kl_amounts_max_all(l, &init);
}

static void of_pod(struct kl_amounts *l, const struct sum *s)
{
    *l = (struct kl_amounts){.arena = s->arena};
    of_containers(s, l);
    struct kl_amounts level;
    kl_amounts_read(&level, s->arena, kl_path(s->pod, KL_F_spec, KL_F_resources, s->field));
    for (size_t i = 0; i < level.n; i++)
        if (pod_level(level.v[i].name, s->how))
            kl_amounts_set(l, level.v[i].name, &level.v[i].q);
    if (s->how & KL_POD_SUM_NO_OVERHEAD)
        return;
    struct kl_amounts over;
    kl_amounts_read(&over, s->arena, kl_path(s->pod, KL_F_spec, KL_F_overhead));
    for (size_t i = 0; i < over.n; i++) {
        const struct kl_amount *x = kl_amounts_get(l, over.v[i].name);
        if (s->field == KL_F_requests || (x && x->q.nano))
            kl_amounts_add(l, over.v[i].name, &over.v[i].q);
    }
}

void kl_pod_requests(struct kl_amounts *l, struct kl_arena *a, const struct kl_value *pod,
                     unsigned how)
{
    of_pod(l, &(struct sum){pod, KL_F_requests, how, a});
}

void kl_pod_limits(struct kl_amounts *l, struct kl_arena *a, const struct kl_value *pod,
                   unsigned how)
{
    of_pod(l, &(struct sum){pod, KL_F_limits, how, a});
}
