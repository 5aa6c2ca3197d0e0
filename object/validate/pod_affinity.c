// SPDX-License-Identifier: Apache-2.0
// Where a pod may go: node and pod affinity, tolerations, spreading.
#include "object/validate/pod_int.h"

static void check_term_requirement(struct kl_v *c, const struct kl_value *v,
                                   const struct kl_vpath *p, bool lax)
{
    struct kl_str op = kl_text(kl_get(v, KL_F_operator));
    const struct kl_value *values = kl_get(v, KL_F_values);
    size_t i = 0;
    if (kl_str_eqz(op, "In") || kl_str_eqz(op, "NotIn")) {
        if (!kl_len(values))
            kl_v_required(c, F(p, values), "must be specified when `operator` is 'In' or 'NotIn'");
    } else if (kl_str_eqz(op, "Exists") || kl_str_eqz(op, "DoesNotExist")) {
        if (kl_len(values))
            kl_v_forbidden(c, F(p, values),
                           "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
    } else if (kl_str_eqz(op, "Gt") || kl_str_eqz(op, "Lt")) {
        if (kl_len(values) != 1)
            kl_v_required(c, F(p, values),
                          "must be specified single value when `operator` is 'Lt' or 'Gt'");
    } else {
        kl_v_invalid_str(c, F(p, operator), op, "not a valid selector operator");
    }
    kl_v_format(c, F(p, key), kl_text(kl_get(v, KL_F_key)), KL_V_QUALIFIED);
    if (!lax)
        for (KL_EACH(x, values))
            kl_v_format(c, I(F(p, values), i++), kl_text(x), KL_V_LABEL_VALUE);
}

static void check_term_field(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str op = kl_text(kl_get(v, KL_F_operator)), key = kl_text(kl_get(v, KL_F_key));
    const struct kl_value *values = kl_get(v, KL_F_values);
    size_t i = 0;
    if (!kl_str_eqz(op, "In") && !kl_str_eqz(op, "NotIn"))
        kl_v_invalid_str(c, F(p, operator), op, "not a valid selector operator");
    else if (kl_len(values) != 1)
        kl_v_required(c, F(p, values),
                      "must be only one value when `operator` is 'In' or 'NotIn' for node field "
                      "selector");
    if (!kl_str_eqz(key, "metadata.name"))
        kl_v_invalid_str(c, F(p, key), key, "not a valid field selector key");
    else
        for (KL_EACH(x, values))
            kl_v_format(c, I(F(p, values), i++), kl_text(x), KL_V_SUBDOMAIN);
}

static void check_term(struct kl_v *c, const struct kl_value *term, const struct kl_vpath *p,
                       bool lax)
{
    size_t i = 0, k = 0;
    for (KL_EACH(r, kl_get(term, KL_F_matchExpressions)))
        check_term_requirement(c, r, I(F(p, matchExpressions), i++), lax);
    for (KL_EACH(r, kl_get(term, KL_F_matchFields)))
        check_term_field(c, r, I(F(p, matchFields), k++));
}

void kl_v_node_selector(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *terms = kl_get(v, KL_F_nodeSelectorTerms);
    size_t i = 0;
    if (!kl_len(terms))
        kl_v_required(c, F(p, nodeSelectorTerms), "must have at least one node selector term");
    for (KL_EACH(t, terms))
        check_term(c, t, I(F(p, nodeSelectorTerms), i++), false);
}

static void check_weight(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    int64_t weight = kl_int_at(v, 0, KL_F_weight);
    if (weight <= 0 || weight > 100)
        kl_v_invalid_int(c, F(p, weight), weight, "must be in the range 1-100");
}

static void check_preferred_node(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    check_weight(c, v, p);
    check_term(c, kl_get(v, KL_F_preference), F(p, preference), true);
}

static void check_keys(struct kl_v *c, const struct kl_value *keys, const struct kl_value *selector,
                       const struct kl_vpath *p)
{
    size_t i = 0;
    if (kl_len(keys) && !selector) {
        kl_v_forbidden(c, p, "must not be specified when labelSelector is not set");
        return;
    }
    for (KL_EACH(k, keys))
        kl_v_format(c, I(p, i++), kl_text(k), KL_V_QUALIFIED);
}

// ValidateMatchLabelKeysAndMismatchLabelKeys: matchLabelKeys were merged into the selector already,
// so a key that is there twice was there before.
static void check_label_keys(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p,
                             bool mismatch)
{
    const struct kl_value *match = kl_get(v, KL_F_matchLabelKeys);
    const struct kl_value *not = mismatch ? kl_get(v, KL_F_mismatchLabelKeys) : NULL;
    const struct kl_value *selector = kl_get(v, KL_F_labelSelector);
    const struct kl_value *exprs = kl_get(selector, KL_F_matchExpressions);
    check_keys(c, match, selector, F(p, matchLabelKeys));
    check_keys(c, not, selector, F(p, mismatchLabelKeys));
    for (size_t e = 0; e < kl_len(exprs); e++) {
        struct kl_str key = kl_text(kl_get(kl_at(exprs, e), KL_F_key));
        bool before = kl_map_value(kl_get(selector, KL_F_matchLabels), key) != NULL;
        for (size_t k = 0; k < e && !before; k++)
            before = kl_str_eq(kl_text(kl_get(kl_at(exprs, k), KL_F_key)), key);
        for (size_t i = kl_len(match); before && i--;)
            if (kl_str_eq(kl_text(kl_at(match, i)), key)) {
                kl_v_invalid_str(c, I(p, i), key,
                                 "exists in both matchLabelKeys and labelSelector");
                break;
            }
    }
    for (size_t i = 0; i < kl_len(match); i++)
        if (kl_has_text(not, kl_text(kl_at(match, i))))
            kl_v_invalid_str(c, I(F(p, matchLabelKeys), i), kl_text(kl_at(match, i)),
                             "exists in both matchLabelKeys and mismatchLabelKeys");
}

static void check_pod_term(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str key = kl_text(kl_get(v, KL_F_topologyKey));
    kl_v_selector(c, F(p, labelSelector), kl_get(v, KL_F_labelSelector));
    kl_v_selector(c, F(p, namespaceSelector), kl_get(v, KL_F_namespaceSelector));
    for (KL_EACH(ns, kl_get(v, KL_F_namespaces)))
        kl_v_format(c, F(p, namespace), kl_text(ns), KL_V_LABEL);
    check_label_keys(c, v, p, true);
    if (!key.n)
        kl_v_required(c, F(p, topologyKey), "can not be empty");
    kl_v_format(c, F(p, topologyKey), key, KL_V_QUALIFIED);
}

static void check_weighted(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    check_weight(c, v, p);
    check_pod_term(c, kl_get(v, KL_F_podAffinityTerm), F(p, podAffinityTerm));
}

static const struct kl_rule node_rules[] = {
    R_ON(requiredDuringSchedulingIgnoredDuringExecution, kl_v_node_selector),
    R_EACH_ON(preferredDuringSchedulingIgnoredDuringExecution, check_preferred_node), R_END};
static const struct kl_rule pod_rules[] = {
    R_EACH_ON(requiredDuringSchedulingIgnoredDuringExecution, check_pod_term),
    R_EACH_ON(preferredDuringSchedulingIgnoredDuringExecution, check_weighted), R_END};
static const struct kl_rule affinity_rules[] = {R_SUB(nodeAffinity, node_rules),
                                                R_SUB(podAffinity, pod_rules),
                                                R_SUB(podAntiAffinity, pod_rules), R_END};

void kl_v_affinity(struct kl_v *c, const struct kl_value *affinity, const struct kl_vpath *p)
{
    if (affinity)
        kl_v_walk(c, affinity_rules, affinity, p);
}

void kl_v_taint_effect(struct kl_v *c, struct kl_str effect, bool allow_empty,
                       const struct kl_vpath *p)
{
    static const char *const effects[] = {"NoSchedule", "PreferNoSchedule", "NoExecute", NULL};
    if (!effect.n && !allow_empty)
        kl_v_required(c, p, "");
    else if (!kl_v_in(effect, effects))
        kl_v_unsupported(c, p, effect, effects);
}

static void check_toleration(struct kl_v *c, const struct kl_value *t, const struct kl_vpath *p)
{
    static const char *const known[] = {"Equal", "Exists", NULL};
    static const char *const all[] = {"Equal", "Exists", "Lt", "Gt", NULL};
    struct kl_str key = kl_text(kl_get(t, KL_F_key)), op = kl_text(kl_get(t, KL_F_operator));
    struct kl_str value = kl_text(kl_get(t, KL_F_value)), effect = kl_text(kl_get(t, KL_F_effect));
    bool exists = kl_str_eqz(op, "Exists");
    if (key.n)
        kl_v_format(c, F(p, key), key, KL_V_QUALIFIED);
    if (!key.n && !exists)
        kl_v_invalid_str(c, F(p, operator), op,
                         "operator must be Exists when `key` is empty, which means \"match all "
                         "values and all keys\"");
    if (kl_get(t, KL_F_tolerationSeconds) && !kl_str_eqz(effect, "NoExecute"))
        kl_v_invalid_str(c, F(p, effect), effect,
                         "effect must be 'NoExecute' when `tolerationSeconds` is set");
    if (!op.n || kl_str_eqz(op, "Equal")) {
        const char *msg[KL_V_MESSAGES];
        size_t n = kl_v_messages(KL_V_LABEL_VALUE, value, msg);
        if (n)
            kl_v_invalid_str(c, F(p, operator), value,
                             n > 1 ? kl_v_text(c, "%s;%s", msg[0], msg[1]) : msg[0]);
    } else if (exists) {
        if (value.n)
            kl_v_invalid_str(c, F(p, operator), value,
                             "value must be empty when `operator` is 'Exists'");
    } else {
        kl_v_unsupported(c, F(p, operator), op,
                         kl_str_eqz(op, "Lt") || kl_str_eqz(op, "Gt") ? all : known);
    }
    if (effect.n)
        kl_v_taint_effect(c, effect, true, F(p, effect));
}

void kl_v_tolerations(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    size_t i = 0;
    for (KL_EACH(t, list))
        check_toleration(c, t, I(p, i++));
}

void kl_v_spread(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    static const char *const actions[] = {"DoNotSchedule", "ScheduleAnyway", NULL};
    static const char *const policies[] = {"Honor", "Ignore", NULL};
    static const struct kl_rule head[] = {R_POSITIVE(maxSkew),
                                          R_REQUIRED(topologyKey, "can not be empty"), R_END};
    static const struct kl_rule tail[] = {R_ENUM(nodeAffinityPolicy, policies),
                                          R_ENUM(nodeTaintsPolicy, policies), R_END};
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *v = kl_at(list, i), *min = kl_get(v, KL_F_minDomains);
        const struct kl_vpath *at = I(p, i);
        struct kl_str key = kl_text(kl_get(v, KL_F_topologyKey));
        struct kl_str action = kl_text(kl_get(v, KL_F_whenUnsatisfiable));
        kl_v_walk(c, head, v, at);
        if (!kl_v_in(action, actions))
            kl_v_unsupported(c, F(at, whenUnsatisfiable), action, actions);
        for (size_t k = i + 1; k < kl_len(list); k++) {
            const struct kl_value *o = kl_at(list, k);
            if (!kl_str_eq(kl_text(kl_get(o, KL_F_topologyKey)), key) ||
                !kl_str_eq(kl_text(kl_get(o, KL_F_whenUnsatisfiable)), action))
                continue;
            kl_v_duplicate(c, N(at, "{topologyKey, whenUnsatisfiable}"),
                           kl_str(kl_v_text(c, "{%.*s, %.*s}", KL_PRI(key), KL_PRI(action))));
            break;
        }
        if (min && kl_int_or(min, 0) <= 0)
            kl_v_invalid_int(c, F(at, minDomains), kl_int_or(min, 0), "must be greater than zero");
        if (min && !kl_str_eqz(action, "DoNotSchedule"))
            kl_v_invalid_int(
                c, F(at, minDomains), kl_int_or(min, 0),
                kl_v_text(c, "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not %.*s",
                          KL_PRI(action)));
        kl_v_walk(c, tail, v, at);
        check_label_keys(c, v, at, false);
        kl_v_selector(c, F(at, labelSelector), kl_get(v, KL_F_labelSelector));
    }
}

// ---- what may change while a pod is gated

static bool starts_with(const struct kl_value *now, const struct kl_value *old)
{
    for (size_t i = 0; i < kl_len(old); i++)
        if (i >= kl_len(now) || !kl_value_equal(kl_at(now, i), kl_at(old, i)))
            return false;
    return true;
}

void kl_v_node_affinity_change(struct kl_v *c, const struct kl_value *now,
                               const struct kl_value *old, const struct kl_vpath *p)
{
    const kl_sym required = KL_F_requiredDuringSchedulingIgnoredDuringExecution;
    const struct kl_value *was = kl_path(old, required, KL_F_nodeSelectorTerms);
    const struct kl_value *is = kl_path(now, required, KL_F_nodeSelectorTerms);
    const struct kl_type *type =
        kl_type_field(kl_type(KL_TYPE_core_v1_NodeSelector), KL_F_nodeSelectorTerms)->type;
    p = F(FS(p, required), nodeSelectorTerms);
    if (!kl_len(was))
        return;
    if (kl_len(was) != kl_len(is)) {
        kl_v_invalid_json(c, p, type, is, true,
                          "no additions/deletions to non-empty NodeSelectorTerms list are allowed");
        return;
    }
    for (size_t i = 0; i < kl_len(was); i++) {
        const struct kl_value *a = kl_at(was, i), *b = kl_at(is, i);
        bool empty =
            !kl_len(kl_get(a, KL_F_matchExpressions)) && !kl_len(kl_get(a, KL_F_matchFields));
        bool grown =
            kl_len(kl_get(b, KL_F_matchExpressions)) || kl_len(kl_get(b, KL_F_matchFields));
        if ((empty && grown) ||
            !starts_with(kl_get(b, KL_F_matchExpressions), kl_get(a, KL_F_matchExpressions)) ||
            !starts_with(kl_get(b, KL_F_matchFields), kl_get(a, KL_F_matchFields)))
            kl_v_invalid_json(c, I(p, i), type->elem, b, true,
                              "only additions are allowed (no mutations or deletions)");
    }
}
