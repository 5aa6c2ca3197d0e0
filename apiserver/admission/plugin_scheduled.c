// SPDX-License-Identifier: Apache-2.0
// What hangs on the node of a pod: PodTopologyLabels, PodResizeValidator,
// NodeDeclaredFeatureValidator.
#include "apiserver/admission/plugins_int.h"
#include "object/quota/amounts.h"

// ---- PodTopologyLabels: zone and region of the node, for the pod to read (of a binding they go to
// the pod that is bound)

int kl_topology_labels_mutate(struct kl_admit *ad)
{
    static const char *const keys[] = {"topology.kubernetes.io/zone",
                                       "topology.kubernetes.io/region"};
    struct kl_arena *a = ad->r->arena;
    struct kl_str node = KL_STR("");
    if (kl_admit_is(ad, KL_RES_core_v1_pods))
        node = kl_text_at(ad->draft, KL_F_spec, KL_F_nodeName);
    else if (kl_admit_of(ad, KL_RES_core_v1_pods) && kl_admit_sub(ad, "binding") &&
             kl_str_eqz(kl_text_at(ad->draft, KL_F_target, KL_F_kind), "Node"))
        node = kl_text_at(ad->draft, KL_F_target, KL_F_name);
    if (!node.n || !kl_gate_named_on(&ad->r->srv->gates, "PodTopologyLabelsAdmission"))
        return 0;
    struct kl_object *o = kl_admit_find(ad->r, KL_RES_core_v1_nodes, KL_STR(""), node);
    for (size_t i = 0; o && i < KL_COUNT(keys); i++) {
        const struct kl_value *v = kl_map_value(kl_meta_labels(&o->root), kl_str(keys[i]));
        if (!v)
            continue;
        struct kl_value *m = kl_edit(a, ad->draft, KL_F_metadata, KL_STRUCT);
        struct kl_value *labels = m ? kl_edit(a, m, KL_F_labels, KL_MAP) : NULL;
        struct kl_str s = kl_arena_dup(a, kl_text(v));
        if (!labels || !s.p || kl_map_set_value(a, labels, kl_str(keys[i]), kl_string(s)))
            return kl_admit_oom(ad);
    }
    return 0;
}

// ---- PodResizeValidator: what a node can never give is refused at once

static int refuse(struct kl_admit *ad, const char *cause, struct kl_str why)
{
    struct kl_req *r = ad->r;
    int rc = kl_admit_forbid(ad, "%.*s", KL_PRI(why));
    if (rc == KL_EFORBIDDEN && (r->fail.causes = KL_ARENA_NEW(r->arena, struct kl_cause))) {
        r->fail.ncauses = 1;
        r->fail.causes[0].reason = kl_str(cause);
    }
    return rc;
}

static struct kl_quantity amount(const struct kl_amounts *l, const char *name)
{
    const struct kl_amount *x = kl_amounts_get(l, kl_str(name));
    return x ? x->q : (struct kl_quantity){0};
}

int kl_pod_resize_validate(struct kl_admit *ad)
{
    struct kl_arena *a = ad->r->arena;
    struct kl_str name = kl_text_at(ad->object, KL_F_spec, KL_F_nodeName);
    if (!kl_admit_of(ad, KL_RES_core_v1_pods) || !kl_admit_sub(ad, "resize") || !name.n ||
        kl_int_at(ad->object, 0, KL_F_metadata, KL_F_generation) ==
            kl_int_at(ad->old, 0, KL_F_metadata, KL_F_generation))
        return 0;
    struct kl_object *node = kl_admit_find(ad->r, KL_RES_core_v1_nodes, KL_STR(""), name);
    if (!node)
        return kl_admit_forbid(ad, "node \"%.*s\" not found", KL_PRI(name));
    const struct kl_value *os =
        kl_map_value(kl_meta_labels(&node->root), KL_STR("kubernetes.io/os"));
    struct kl_str is = kl_text(os);
    if (os && !kl_str_eqz(is, "linux"))
        return refuse(ad, "UnsupportedPlatform",
                      kl_arena_printf(a,
                                      "pod resize is only supported on linux nodes, node "
                                      "\"%.*s\" is \"%.*s\"",
                                      KL_PRI(name), KL_PRI(is)));
    struct kl_amounts has, asks;
    kl_amounts_read(&has, a, kl_path(&node->root, KL_F_status, KL_F_allocatable));
    kl_pod_requests(&asks, a, ad->object, 0);
    struct kl_quantity cpu = amount(&asks, "cpu"), memory = amount(&asks, "memory");
    struct kl_quantity cpus = amount(&has, "cpu"), bytes = amount(&has, "memory");
    bool much_cpu = kl_quantity_cmp(&cpu, &cpus) > 0,
         much_memory = kl_quantity_cmp(&memory, &bytes) > 0;
    if (!much_cpu && !much_memory)
        return 0;
    struct kl_str c = KL_STR(""), m = KL_STR("");
    if (much_cpu)
        c = kl_arena_printf(a, "cpu, requested: %lld, allocatable: %lld",
                            (long long)kl_quantity_milli(&cpu),
                            (long long)kl_quantity_milli(&cpus));
    if (much_memory)
        m = kl_arena_printf(a, "%smemory, requested: %lld, allocatable: %lld", c.n ? "; " : "",
                            (long long)kl_quantity_value(&memory),
                            (long long)kl_quantity_value(&bytes));
    return refuse(ad, "NodeCapacity",
                  kl_arena_printf(a, "node didn't have enough allocatable resources: %.*s%.*s",
                                  KL_PRI(c), KL_PRI(m)));
}

// ---- NodeDeclaredFeatureValidator: what a running pod may become hangs on what its node can do

static bool declares(const struct kl_object *node, const char *feature)
{
    for (KL_EACH(x, kl_path(&node->root, KL_F_status, KL_F_declaredFeatures)))
        if (kl_str_eqz(kl_text(x), feature))
            return true;
    return false;
}

// Resources of a container that runs before the others, and ends.
static bool resizes_init(const struct kl_admit *ad)
{
    const struct kl_value *now = kl_path(ad->object, KL_F_spec, KL_F_initContainers);
    size_t i = 0;
    for (KL_EACH(c, kl_path(ad->old, KL_F_spec, KL_F_initContainers))) {
        const struct kl_value *n = kl_at(now, i++);
        if (!kl_str_eqz(kl_text(kl_get(c, KL_F_restartPolicy)), "Always") &&
            !kl_value_equal(kl_get(c, KL_F_resources), kl_get(n, KL_F_resources)))
            return true;
    }
    return false;
}

int kl_declared_features_validate(struct kl_admit *ad)
{
    // In upstream's order (component-helpers/nodedeclaredfeatures): those that an update may need.
    static const char *const names[] = {"InPlacePodLevelResourcesVerticalScaling",
                                        "InPlacePodVerticalScalingInitContainers"};
    struct kl_arena *a = ad->r->arena;
    struct kl_str node = kl_text_at(ad->object, KL_F_spec, KL_F_nodeName), missing = KL_STR("");
    if (!kl_admit_of(ad, KL_RES_core_v1_pods) || (ad->sub.n && !kl_admit_sub(ad, "resize")) ||
        !node.n ||
        kl_int_at(ad->object, 0, KL_F_metadata, KL_F_generation) ==
            kl_int_at(ad->old, 0, KL_F_metadata, KL_F_generation))
        return 0;
    const bool needs[] = {!kl_value_equal(kl_path(ad->object, KL_F_spec, KL_F_resources),
                                          kl_path(ad->old, KL_F_spec, KL_F_resources)),
                          resizes_init(ad)};
    if ((!needs[0] && !needs[1]) || !kl_gate_named_on(&ad->r->srv->gates, "NodeDeclaredFeatures"))
        return 0;
    struct kl_object *o = kl_admit_find(ad->r, KL_RES_core_v1_nodes, KL_STR(""), node);
    if (!o)
        return kl_admit_forbid(ad, "node \"%.*s\" not found", KL_PRI(node));
    for (size_t i = 0; i < KL_COUNT(names); i++)
        if (needs[i] && !declares(o, names[i]))
            missing =
                kl_arena_printf(a, "%.*s%s%s", KL_PRI(missing), missing.n ? ", " : "", names[i]);
    if (!missing.n)
        return 0;
    return kl_admit_forbid(ad,
                           "pod update requires features %.*s which are not available on node "
                           "\"%.*s\"",
                           KL_PRI(missing), KL_PRI(node));
}
