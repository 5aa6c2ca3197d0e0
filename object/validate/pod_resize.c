// SPDX-License-Identifier: Apache-2.0
// What the resize subresource may change of a pod (ValidatePodResize): cpu and memory of its
// containers and of the whole, and never the class of its quality of service.
#include "object/quota/amounts.h"
#include "object/validate/pod_int.h"

static const kl_sym amounts[] = {KL_F_limits, KL_F_requests};

static bool removed(const struct kl_value *now, const struct kl_value *old)
{
    for (KL_MAP_EACH_KEY(kv, old))
        if (!kl_map_value(now, kl_text(kv)))
            return true;
    return false;
}

static bool resizable(struct kl_str name)
{
    return kl_str_eqz(name, "cpu") || kl_str_eqz(name, "memory");
}

// Whether two lists are the same but for cpu and memory.
static bool same_rest(const struct kl_value *a, const struct kl_value *b)
{
    for (KL_MAP_EACH_KEY(kv, a))
        if (!resizable(kl_text(kv)) && !kl_value_equal(kl_map_value(b, kl_text(kv)), kv + 1))
            return false;
    for (KL_MAP_EACH_KEY(kv, b))
        if (!resizable(kl_text(kv)) && !kl_map_value(a, kl_text(kv)))
            return false;
    return true;
}

static bool same_rest_of(const struct kl_value *now, const struct kl_value *old)
{
    bool same = true;
    for (size_t i = 0; i < KL_COUNT(amounts); i++)
        same &= same_rest(kl_get(now, amounts[i]), kl_get(old, amounts[i]));
    return same;
}

static bool same_members(const struct kl_value *a, const struct kl_value *b, kl_sym except)
{
    for (KL_EACH(m, a))
        if (m->sym != except && !kl_value_equal(m, kl_get(b, m->sym)))
            return false;
    for (KL_EACH(m, b))
        if (m->sym != except && !kl_get(a, m->sym))
            return false;
    return true;
}

static bool same_container(const struct kl_value *now, const struct kl_value *old)
{
    return same_members(now, old, KL_F_resources) &&
           same_rest_of(kl_get(now, KL_F_resources), kl_get(old, KL_F_resources));
}

static bool is_supported(const struct kl_value *old)
{
    for (KL_EACH(s, kl_path(old, KL_F_status, KL_F_containerStatuses)))
        if (kl_path(s, KL_F_state, KL_F_running))
            return kl_get(s, KL_F_resources) != NULL;
    return true;
}

static void check_pod_level(struct kl_v *c)
{
    const struct kl_value *now = kl_get(kl_v_spec(c), KL_F_resources),
                          *old = kl_get(kl_v_old_spec(c), KL_F_resources);
    const struct kl_vpath *p = F(&c->spec, resources);
    bool any = false;
    for (size_t i = 0; i < KL_COUNT(amounts); i++)
        any |= kl_len(kl_get(now, amounts[i])) || kl_len(kl_get(old, amounts[i]));
    if (!any)
        return;
    if (old && !now) {
        kl_v_forbidden(c, p, "pod-level resources cannot be removed");
        return;
    }
    if (old && removed(kl_get(now, KL_F_requests), kl_get(old, KL_F_requests)))
        kl_v_forbidden(c, F(p, requests), "pod-level resource requests cannot be removed");
    if (old && removed(kl_get(now, KL_F_limits), kl_get(old, KL_F_limits)))
        kl_v_forbidden(c, F(p, limits), "pod-level resource limits cannot be removed");
    if (!same_rest_of(now, old))
        kl_v_forbidden(c, &c->spec, "only cpu and memory resources are mutable at pod-level");
}

// False: what follows goes by places in the lists, and these differ.
static bool check_order(struct kl_v *c, kl_sym list, const char *what)
{
    const struct kl_value *now = kl_get(kl_v_spec(c), list), *old = kl_get(kl_v_old_spec(c), list);
    const struct kl_vpath *p = FS(&c->spec, list);
    bool same = true;
    if (kl_len(now) != kl_len(old)) {
        kl_v_forbidden(c, p, kl_v_text(c, "%s may not be added or removed on resize", what));
        return false;
    }
    for (size_t i = 0; i < kl_len(old); i++)
        if (!kl_value_equal(kl_get(kl_at(now, i), KL_F_name), kl_get(kl_at(old, i), KL_F_name))) {
            kl_v_forbidden(c, F(I(p, i), name),
                           kl_v_text(c, "%s may not be renamed or reordered on resize", what));
            same = false;
        }
    return same;
}

static void check_removed(struct kl_v *c, kl_sym list)
{
    const struct kl_value *now = kl_get(kl_v_spec(c), list), *old = kl_get(kl_v_old_spec(c), list);
    for (size_t i = 0; i < kl_len(old); i++) {
        const struct kl_vpath *p = F(I(FS(&c->spec, list), i), resources);
        const struct kl_value *a = kl_get(kl_at(now, i), KL_F_resources),
                              *b = kl_get(kl_at(old, i), KL_F_resources);
        if (removed(kl_get(a, KL_F_requests), kl_get(b, KL_F_requests)))
            kl_v_forbidden(c, F(p, requests), "resource requests cannot be removed");
        if (removed(kl_get(a, KL_F_limits), kl_get(b, KL_F_limits)))
            kl_v_forbidden(c, F(p, limits), "resource limits cannot be removed");
    }
}

static bool restarts_container(const struct kl_value *container)
{
    for (KL_EACH(r, kl_get(container, KL_F_resizePolicy)))
        if (kl_v_is(r, KL_F_restartPolicy, "RestartContainer"))
            return true;
    return false;
}

static void check_init(struct kl_v *c, const struct kl_value *now, const struct kl_value *old,
                       const struct kl_vpath *p)
{
    bool sidecar = kl_v_is(now, KL_F_restartPolicy, "Always");
    if (!same_container(now, old))
        kl_v_forbidden(c, p,
                       "only cpu and memory resources for init or sidecar containers are mutable");
    if (!sidecar && !kl_value_equal(now, old) && restarts_container(now))
        kl_v_forbidden(c, p,
                       "non-sidecar init containers with a resize policy of "
                       "RestartContainer cannot be resized");
}

void kl_v_pod_resize(struct kl_v *c)
{
    const struct kl_value *now = kl_v_spec(c), *old = kl_v_old_spec(c);
    const struct kl_value *list = kl_get(now, KL_F_containers);
    struct kl_str was = kl_text_at(c->old, KL_F_status, KL_F_qosClass);
    if (!was.n)
        was = kl_str(kl_pod_qos_class(c->old));
    if (!kl_str_eqz(was, kl_pod_qos_class(c->now)))
        kl_v_invalid_str(c, &c->spec, kl_text_at(c->now, KL_F_status, KL_F_qosClass),
                         "Pod QOS Class may not change as a result of resizing");
    if (!is_supported(c->old))
        kl_v_forbidden(c, &c->spec, "Pod running on node without support for resize");
    check_pod_level(c);
    if (kl_len(kl_path(c->old, KL_F_status, KL_F_nodeAllocatableResourceClaimStatuses)))
        kl_v_forbidden(c, &c->spec, "pods with node allocatable resource claims cannot be resized");
    bool order = check_order(c, KL_F_containers, "containers");
    if (!check_order(c, KL_F_initContainers, "initContainers") || !order)
        return;
    check_removed(c, KL_F_initContainers);
    check_removed(c, KL_F_containers);
    for (size_t i = 0; i < kl_len(list); i++)
        if (!same_container(kl_at(list, i), kl_at(kl_get(old, KL_F_containers), i)))
            kl_v_forbidden(c, &c->spec, "only cpu and memory resources are mutable");
    list = kl_get(now, KL_F_initContainers);
    for (size_t i = 0; i < kl_len(list); i++)
        check_init(c, kl_at(list, i), kl_at(kl_get(old, KL_F_initContainers), i),
                   I(F(&c->spec, initContainers), i));
}
