// SPDX-License-Identifier: Apache-2.0
// Which objects a quota with scopes is about.
#include "object/quota/quota_int.h"

// qos.GetPodQOS(pod) == BestEffort
static bool best_effort(const struct kl_value *pod)
{
    struct kl_str said = kl_text_at(pod, KL_F_status, KL_F_qosClass);
    return kl_str_eqz(said.n ? said : kl_str(kl_pod_qos_class(pod)), "BestEffort");
}

static bool crosses(const struct kl_value *term)
{
    const struct kl_value *s = kl_get(term, KL_F_namespaceSelector);
    return kl_len(kl_get(term, KL_F_namespaces)) || (s && !kl_is(s, KL_NULL));
}

static bool crosses_namespaces(const struct kl_value *pod)
{
    static const kl_sym kinds[] = {KL_F_podAffinity, KL_F_podAntiAffinity};
    for (size_t i = 0; i < KL_COUNT(kinds); i++) {
        const struct kl_value *a = kl_path(pod, KL_F_spec, KL_F_affinity, kinds[i]);
        for (KL_EACH(t, kl_get(a, KL_F_requiredDuringSchedulingIgnoredDuringExecution)))
            if (crosses(t))
                return true;
        for (KL_EACH(t, kl_get(a, KL_F_preferredDuringSchedulingIgnoredDuringExecution)))
            if (crosses(kl_get(t, KL_F_podAffinityTerm)))
                return true;
    }
    return false;
}

// A requirement on one label whose value is any of these; no name: the label is absent.
static bool requirement(const struct kl_value *selector, const struct kl_str *names, size_t n)
{
    struct kl_str op = kl_text(kl_get(selector, KL_F_operator));
    bool want = kl_str_eqz(op, "In");
    if (kl_str_eqz(op, "Exists"))
        return n > 0;
    if (kl_str_eqz(op, "DoesNotExist"))
        return n == 0;
    if (!n)
        return !want;
    for (size_t i = 0; i < n; i++) {
        bool in = false;
        for (KL_EACH(v, kl_get(selector, KL_F_values)))
            in |= kl_str_eq(kl_text(v), names[i]);
        if (in == want)
            return true;
    }
    return false;
}

static size_t attribute_classes(const struct kl_value *claim, struct kl_str ret[3])
{
    size_t n = 0;
    const struct kl_str all[] = {
        kl_text_at(claim, KL_F_spec, KL_F_volumeAttributesClassName),
        kl_text_at(claim, KL_F_status, KL_F_currentVolumeAttributesClassName),
        kl_text_at(claim, KL_F_status, KL_F_modifyVolumeStatus,
                   KL_F_targetVolumeAttributesClassName),
    };
    for (size_t i = 0; i < KL_COUNT(all); i++)
        if (all[i].n)
            ret[n++] = all[i];
    return n;
}

// selector NULL: the scope is only named, which asks that it holds.
bool kl_quota_scope_holds(const struct kl_quota_meter *m, struct kl_str scope,
                          const struct kl_value *selector, const struct kl_value *object)
{
    struct kl_str names[3];
    if (m->kind == KL_QUOTA_CLAIMS && kl_str_eqz(scope, "VolumeAttributesClass")) {
        size_t n = attribute_classes(object, names);
        return selector ? requirement(selector, names, n) : n > 0;
    }
    if (m->kind != KL_QUOTA_PODS)
        return false;
    if (kl_str_eqz(scope, "Terminating"))
        return kl_quota_pod_terminating(object);
    if (kl_str_eqz(scope, "NotTerminating"))
        return !kl_quota_pod_terminating(object);
    if (kl_str_eqz(scope, "BestEffort"))
        return best_effort(object);
    if (kl_str_eqz(scope, "NotBestEffort"))
        return !best_effort(object);
    if (kl_str_eqz(scope, "CrossNamespacePodAffinity"))
        return crosses_namespaces(object);
    if (!kl_str_eqz(scope, "PriorityClass"))
        return false;
    names[0] = kl_text_at(object, KL_F_spec, KL_F_priorityClassName);
    return selector ? requirement(selector, names, names[0].n > 0) : names[0].n > 0;
}

bool kl_quota_in_scope(const struct kl_quota_meter *m, const struct kl_value *quota_spec,
                       const struct kl_value *object)
{
    for (KL_EACH(s, kl_get(quota_spec, KL_F_scopes)))
        if (!kl_quota_scope_holds(m, kl_text(s), NULL, object))
            return false;
    for (KL_EACH(s, kl_path(quota_spec, KL_F_scopeSelector, KL_F_matchExpressions)))
        if (!kl_quota_scope_holds(m, kl_text(kl_get(s, KL_F_scopeName)), s, object))
            return false;
    return true;
}
