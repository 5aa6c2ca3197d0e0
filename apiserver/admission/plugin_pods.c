// SPDX-License-Identifier: Apache-2.0
// Small plug-ins about pods: DefaultTolerationSeconds, AlwaysPullImages,
// LimitPodHardAntiAffinityTopology, ExtendedResourceToleration.
#include "apiserver/admission/plugins_int.h"
#include "base/buf.h"
#include "object/names.h"

static const kl_sym container_lists[] = {KL_F_initContainers, KL_F_containers,
                                         KL_F_ephemeralContainers};

// ---- DefaultTolerationSeconds

static bool tolerates(const struct kl_value *spec, const char *key)
{
    for (KL_EACH(t, kl_get(spec, KL_F_tolerations))) {
        struct kl_str k = kl_text(kl_get(t, KL_F_key)), effect = kl_text(kl_get(t, KL_F_effect));
        if ((!k.n || kl_str_eqz(k, key)) && (!effect.n || kl_str_eqz(effect, "NoExecute")))
            return true;
    }
    return false;
}

int kl_default_tolerations_mutate(struct kl_admit *ad)
{
    static const char *const keys[] = {"node.kubernetes.io/not-ready",
                                       "node.kubernetes.io/unreachable"};
    struct kl_arena *a = ad->r->arena;
    if (!kl_admit_is(ad, KL_RES_core_v1_pods))
        return 0;
    const struct kl_value *was = kl_get(ad->draft, KL_F_spec);
    bool has[2] = {tolerates(was, keys[0]), tolerates(was, keys[1])};
    for (size_t i = 0; i < KL_COUNT(keys); i++) {
        if (has[i])
            continue;
        struct kl_value t = kl_new_struct();
        kl_set(a, &t, KL_F_key, kl_stringz(keys[i]));
        kl_set(a, &t, KL_F_operator, kl_stringz("Exists"));
        kl_set(a, &t, KL_F_effect, kl_stringz("NoExecute"));
        kl_set(a, &t, KL_F_tolerationSeconds, kl_int(300));
        struct kl_value *spec = kl_edit(a, ad->draft, KL_F_spec, KL_STRUCT);
        struct kl_value *list = spec ? kl_edit(a, spec, KL_F_tolerations, KL_ARRAY) : NULL;
        if (!list || kl_append(a, list, t))
            return kl_admit_oom(ad);
    }
    return 0;
}

// ---- AlwaysPullImages

static bool has_image(const struct kl_value *spec, struct kl_str image)
{
    for (size_t l = 0; l < KL_COUNT(container_lists); l++)
        for (KL_EACH(c, kl_get(spec, container_lists[l])))
            if (kl_str_eq(kl_text(kl_get(c, KL_F_image)), image))
                return true;
    return false;
}

static bool pulls_nothing_new(const struct kl_admit *ad)
{
    const struct kl_value *spec = kl_get(ad->object, KL_F_spec), *old = kl_get(ad->old, KL_F_spec);
    if (ad->op != KL_ADMIT_UPDATE)
        return false;
    for (size_t l = 0; l < KL_COUNT(container_lists); l++)
        for (KL_EACH(c, kl_get(spec, container_lists[l])))
            if (!has_image(old, kl_text(kl_get(c, KL_F_image))))
                return false;
    return true;
}

int kl_always_pull_mutate(struct kl_admit *ad)
{
    struct kl_arena *a = ad->r->arena;
    if (!kl_admit_is(ad, KL_RES_core_v1_pods) || pulls_nothing_new(ad))
        return 0;
    struct kl_value *spec = kl_edit(a, ad->draft, KL_F_spec, KL_STRUCT);
    for (size_t l = 0; spec && l < KL_COUNT(container_lists); l++) {
        size_t n = kl_len(kl_get(spec, container_lists[l]));
        for (size_t i = 0; i < n; i++) {
            struct kl_value *c = kl_edit_at(a, kl_edit(a, spec, container_lists[l], KL_ARRAY), i);
            if (!c || kl_set(a, c, KL_F_imagePullPolicy, kl_stringz("Always")))
                return kl_admit_oom(ad);
        }
    }
    size_t n = spec ? kl_len(kl_get(spec, KL_F_volumes)) : 0;
    for (size_t i = 0; i < n; i++) {
        if (!kl_get(kl_at(kl_get(spec, KL_F_volumes), i), KL_F_image))
            continue;
        struct kl_value *v = kl_edit_at(a, kl_edit(a, spec, KL_F_volumes, KL_ARRAY), i);
        struct kl_value *image = v ? kl_edit(a, v, KL_F_image, KL_STRUCT) : NULL;
        if (!image || kl_set(a, image, KL_F_pullPolicy, kl_stringz("Always")))
            return kl_admit_oom(ad);
    }
    return spec ? 0 : kl_admit_oom(ad);
}

int kl_always_pull_validate(struct kl_admit *ad)
{
    static const char *const names[] = {"initContainers", "containers", "ephemeralContainers"};
    const struct kl_value *spec = kl_get(ad->object, KL_F_spec);
    if (!kl_admit_is(ad, KL_RES_core_v1_pods) || pulls_nothing_new(ad))
        return 0;
    for (size_t l = 0; l < KL_COUNT(container_lists); l++) {
        int i = 0;
        for (KL_EACH(c, kl_get(spec, container_lists[l]))) {
            struct kl_str policy = kl_text(kl_get(c, KL_F_imagePullPolicy));
            if (!kl_str_eqz(policy, "Always"))
                return kl_admit_forbid(ad,
                                       "spec.%s[%d].imagePullPolicy: Unsupported value: \"%.*s\": "
                                       "supported values: \"Always\"",
                                       names[l], i, KL_PRI(policy));
            i++;
        }
    }
    return 0;
}

// ---- LimitPodHardAntiAffinityTopology

int kl_anti_affinity_validate(struct kl_admit *ad)
{
    if (!kl_admit_is(ad, KL_RES_core_v1_pods))
        return 0;
    const struct kl_value *terms =
        kl_path(ad->object, KL_F_spec, KL_F_affinity, KL_F_podAntiAffinity,
                KL_F_requiredDuringSchedulingIgnoredDuringExecution);
    for (KL_EACH(t, terms)) {
        struct kl_str key = kl_text(kl_get(t, KL_F_topologyKey));
        if (!kl_str_eqz(key, "kubernetes.io/hostname"))
            return kl_admit_forbid(ad,
                                   "affinity.PodAntiAffinity.RequiredDuringScheduling has "
                                   "TopologyKey %.*s but only key kubernetes.io/hostname is "
                                   "allowed",
                                   KL_PRI(key));
    }
    return 0;
}

// ---- ExtendedResourceToleration

// IsExtendedResourceName
static bool extended(struct kl_arena *a, struct kl_str name)
{
    if (kl_str_chr(name, '/') < 0 || memmem(name.p, name.n, "kubernetes.io/", 14) ||
        kl_str_starts(name, KL_STR("requests.")))
        return false;
    struct kl_str q = kl_arena_printf(a, "requests.%.*s", KL_PRI(name));
    return q.p && !kl_name_qualified(a, q);
}

// AddOrUpdateTolerationInPod
static int tolerate(struct kl_admit *ad, struct kl_str key)
{
    struct kl_arena *a = ad->r->arena;
    struct kl_value t = kl_new_struct();
    kl_set(a, &t, KL_F_key, kl_string(key));
    kl_set(a, &t, KL_F_operator, kl_stringz("Exists"));
    kl_set(a, &t, KL_F_effect, kl_stringz("NoSchedule"));
    struct kl_value *spec = kl_edit(a, ad->draft, KL_F_spec, KL_STRUCT);
    struct kl_value *list = spec ? kl_edit(a, spec, KL_F_tolerations, KL_ARRAY) : NULL;
    for (KL_EACH(x, list)) {
        struct kl_str op = kl_text(kl_get(x, KL_F_operator));
        if (kl_str_eq(kl_text(kl_get(x, KL_F_key)), key) && kl_str_eqz(op, "Exists") &&
            kl_str_eqz(kl_text(kl_get(x, KL_F_effect)), "NoSchedule"))
            return 0;
    }
    return !list || kl_append(a, list, t) ? kl_admit_oom(ad) : 0;
}

int kl_extended_toleration_mutate(struct kl_admit *ad)
{
    static const kl_sym lists[] = {KL_F_containers, KL_F_initContainers};
    struct kl_arena *a = ad->r->arena;
    struct kl_value keys = kl_new_map();
    if (!kl_admit_is(ad, KL_RES_core_v1_pods))
        return 0;
    for (size_t l = 0; l < KL_COUNT(lists); l++)
        for (KL_EACH(c, kl_path(ad->draft, KL_F_spec, lists[l])))
            for (KL_MAP_EACH_KEY(kv, kl_path(c, KL_F_resources, KL_F_requests)))
                if (extended(a, kl_text(kv)) &&
                    kl_map_set_value(a, &keys, kl_text(kv), kl_bool(true)))
                    return kl_admit_oom(ad);
    // By name: the map keeps the order in which they came.
    for (struct kl_str last = {NULL, 0};;) {
        struct kl_str next = {NULL, 0};
        for (KL_MAP_EACH_KEY(kv, &keys))
            if ((!last.p || kl_str_cmp(kl_text(kv), last) > 0) &&
                (!next.p || kl_str_cmp(kl_text(kv), next) < 0))
                next = kl_text(kv);
        if (!next.p)
            return 0;
        int rc = tolerate(ad, next);
        if (rc)
            return rc;
        last = next;
    }
}
