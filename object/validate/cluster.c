// SPDX-License-Identifier: Apache-2.0
// RBAC, HorizontalPodAutoscalers, PodDisruptionBudgets, Leases, PriorityClasses, RuntimeClasses.
#include "object/validate/pod_int.h"

// ---- RBAC

static void check_policy_rule(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const struct kl_rule resource_rules[] = {
        R_REQUIRED(apiGroups, "resource rules must supply at least one api group"),
        R_REQUIRED(resources, "resource rules must supply at least one resource"), R_END};
    const struct kl_value *urls = kl_get(v, KL_F_nonResourceURLs);
    if (!kl_len(kl_get(v, KL_F_verbs)))
        kl_v_required(c, F(p, verbs), "verbs must contain at least one value");
    if (!kl_len(urls)) {
        kl_v_walk(c, resource_rules, v, p);
        return;
    }
    if (c->res->namespaced)
        kl_v_invalid(c, F(p, nonResourceURLs), urls,
                     "namespaced rules cannot apply to non-resource URLs");
    if (kl_len(kl_get(v, KL_F_apiGroups)) || kl_len(kl_get(v, KL_F_resources)) ||
        kl_len(kl_get(v, KL_F_resourceNames)))
        kl_v_invalid(c, F(p, nonResourceURLs), urls,
                     "rules cannot apply to both regular resources and non-resource URLs");
}

static void check_aggregated(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    bool bad = false;
    kl_v_selector(c, p, v);
    kl_v_selects(v, NULL, &bad);
    if (bad)
        kl_v_invalid(c, p, NULL, "invalid label selector.");
}

static void create_role(struct kl_v *c)
{
    static const struct kl_rule aggregation[] = {
        R_REQUIRED(clusterRoleSelectors,
                   "at least one clusterRoleSelector required if aggregationRule is non-nil"),
        R_EACH_ON(clusterRoleSelectors, check_aggregated), R_END};
    static const struct kl_rule rules[] = {R_EACH_ON(rules, check_policy_rule),
                                           R_SUB(aggregationRule, aggregation), R_END};
    kl_v_meta(c, KL_V_PATH_SEGMENT);
    kl_v_walk(c, rules, c->now, NULL);
}

static void update_role(struct kl_v *c)
{
    create_role(c);
    kl_v_meta_update(c);
}

static const char rbac_group[] = "rbac.authorization.k8s.io";

static void check_subject(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const group_set[] = {rbac_group, NULL}, *const no_group[] = {"", NULL};
    static const char *const kinds[] = {"ServiceAccount", "User", "Group", NULL};
    struct kl_str name = kl_text(kl_get(v, KL_F_name));
    struct kl_str group = kl_text(kl_get(v, KL_F_apiGroup));
    if (!name.n)
        kl_v_required(c, F(p, name), "");
    if (kl_v_is(v, KL_F_kind, "ServiceAccount")) {
        if (name.n)
            kl_v_format(c, F(p, name), name, KL_V_SUBDOMAIN);
        if (group.n)
            kl_v_unsupported(c, F(p, apiGroup), group, no_group);
        if (!c->res->namespaced && !kl_text(kl_get(v, KL_F_namespace)).n)
            kl_v_required(c, F(p, namespace), "");
    } else if (kl_v_is(v, KL_F_kind, "User") || kl_v_is(v, KL_F_kind, "Group")) {
        if (!kl_str_eqz(group, rbac_group))
            kl_v_unsupported(c, F(p, apiGroup), group, group_set);
    } else {
        kl_v_unsupported(c, F(p, kind), kl_text(kl_get(v, KL_F_kind)), kinds);
    }
}

static void check_role_ref(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const groups[] = {rbac_group, NULL};
    static const char *const any[] = {"Role", "ClusterRole", NULL};
    static const char *const wide[] = {"ClusterRole", NULL};
    static const struct kl_rule group[] = {R_ANY_ENUM(apiGroup, groups), R_END};
    static const struct kl_rule in_namespace[] = {R_ANY_ENUM(kind, any),
                                                  R_NAME(name, KL_V_PATH_SEGMENT), R_END};
    static const struct kl_rule in_cluster[] = {R_ANY_ENUM(kind, wide),
                                                R_NAME(name, KL_V_PATH_SEGMENT), R_END};
    kl_v_walk(c, group, v, p);
    kl_v_walk(c, c->res->namespaced ? in_namespace : in_cluster, v, p);
}

static void create_binding(struct kl_v *c)
{
    static const struct kl_rule rules[] = {R_EACH_ON(subjects, check_subject), R_END};
    kl_v_meta(c, KL_V_PATH_SEGMENT);
    check_role_ref(c, kl_get(c->now, KL_F_roleRef), F(NULL, roleRef));
    kl_v_walk(c, rules, c->now, NULL);
}

static void update_binding(struct kl_v *c)
{
    const struct kl_value *now = kl_get(c->now, KL_F_roleRef);
    create_binding(c);
    kl_v_meta_update(c);
    if (!kl_value_equal(now, kl_get(c->old, KL_F_roleRef)))
        kl_v_invalid_json(c, F(NULL, roleRef), kl_type(KL_TYPE_rbac_v1_RoleRef), now, true,
                          "cannot change roleRef");
}

// ---- HorizontalPodAutoscalers

static void check_reference(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p,
                            bool core_too)
{
    static const struct kl_rule rules[] = {R_NAME(kind, KL_V_PATH_SEGMENT),
                                           R_NAME(name, KL_V_PATH_SEGMENT), R_END};
    struct kl_str version = kl_text(kl_get(v, KL_F_apiVersion));
    size_t slashes = 0;
    kl_v_walk(c, rules, v, p);
    for (size_t i = 0; i < version.n; i++)
        slashes += version.p[i] == '/';
    bool empty = !version.n || kl_str_eqz(version, "/");
    if (slashes > 1)
        kl_v_invalid_str(c, F(p, apiVersion), version,
                         kl_v_text(c, "unexpected GroupVersion string: %.*s", KL_PRI(version)));
    else if (!core_too && (empty || !slashes || version.p[0] == '/'))
        kl_v_invalid_str(c, F(p, apiVersion), version, "apiVersion must specify API group");
}

static void check_target(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const kl_sym amounts[] = {KL_F_value, KL_F_averageValue};
    struct kl_str type = kl_text(kl_get(v, KL_F_type));
    const struct kl_value *percent = kl_get(v, KL_F_averageUtilization);
    if (!type.n)
        kl_v_required(c, F(p, type), "must specify a metric target type");
    if (!kl_str_eqz(type, "Utilization") && !kl_str_eqz(type, "Value") &&
        !kl_str_eqz(type, "AverageValue"))
        kl_v_invalid_str(c, F(p, type), type, "must be either Utilization, Value, or AverageValue");
    for (size_t i = 0; i < KL_COUNT(amounts); i++) {
        const struct kl_value *q = kl_get(v, amounts[i]);
        if (q && kl_v_compare(q, NULL) <= 0)
            kl_v_invalid_str(c, FS(p, amounts[i]), kl_text(q), "must be positive");
    }
    if (percent && kl_int_or(percent, 0) < 1)
        kl_v_invalid(c, F(p, averageUtilization), percent, "must be greater than 0");
}

static void check_metric_name(struct kl_v *c, const struct kl_value *source,
                              const struct kl_vpath *p)
{
    struct kl_str name = kl_text(kl_path(source, KL_F_metric, KL_F_name));
    const struct kl_vpath *at = F(F(p, metric), name);
    if (!name.n)
        kl_v_required(c, at, "must specify a metric name");
    else
        kl_v_format(c, at, name, KL_V_PATH_SEGMENT);
}

static void check_resource_target(struct kl_v *c, const struct kl_value *v,
                                  const struct kl_vpath *p)
{
    const struct kl_value *target = kl_get(v, KL_F_target);
    const struct kl_value *percent = kl_get(target, KL_F_averageUtilization);
    const struct kl_value *raw = kl_get(target, KL_F_averageValue);
    check_target(c, target, F(p, target));
    if (!percent && !raw)
        kl_v_required(c, F(F(p, target), averageUtilization),
                      "must set either a target raw value or a target utilization");
    if (percent && raw)
        kl_v_forbidden(c, F(F(p, target), averageValue),
                       "may not set both a target raw value and a target utilization");
}

static void check_source(struct kl_v *c, kl_sym member, const struct kl_value *v,
                         const struct kl_vpath *p)
{
    const struct kl_value *target = kl_get(v, KL_F_target);
    const struct kl_value *value = kl_get(target, KL_F_value);
    const struct kl_value *average = kl_get(target, KL_F_averageValue);
    struct kl_str name = kl_text(kl_get(v, KL_F_name));
    const struct kl_vpath *tp = F(p, target);
    if (member == KL_F_resource || member == KL_F_containerResource) {
        struct kl_str container = kl_text(kl_get(v, KL_F_container));
        if (!name.n)
            kl_v_required(c, F(p, name), "must specify a resource name");
        else if (member == KL_F_containerResource)
            kl_v_container_resource_name(c, name, F(p, name));
        if (member == KL_F_containerResource && !container.n)
            kl_v_required(c, F(p, container), "must specify a container");
        else if (member == KL_F_containerResource)
            kl_v_format(c, F(p, container), container, KL_V_LABEL);
        check_resource_target(c, v, p);
        return;
    }
    if (member == KL_F_object)
        check_reference(c, kl_get(v, KL_F_describedObject), F(p, describedObject), true);
    check_metric_name(c, v, p);
    check_target(c, target, tp);
    if (member == KL_F_pods && !average)
        kl_v_required(c, F(tp, averageValue), "must specify a positive target averageValue");
    if (member == KL_F_object && !value && !average)
        kl_v_required(c, F(tp, averageValue), "must set either a target value or averageValue");
    if (member == KL_F_external && !value && !average)
        kl_v_required(c, F(tp, averageValue),
                      "must set either a target value for metric or a per-pod target");
    if (member == KL_F_external && value && average)
        kl_v_forbidden(c, F(tp, value),
                       "may not set both a target value for metric and a per-pod target");
}

static void check_metric(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const types[] = {"ContainerResource", "External", "Object", "Pods",
                                        "Resource",          NULL};
    static const struct {
        const char *type;
        kl_sym member;
    } sources[] = {{"Object", KL_F_object},
                   {"External", KL_F_external},
                   {"Pods", KL_F_pods},
                   {"Resource", KL_F_resource},
                   {"ContainerResource", KL_F_containerResource}};
    struct kl_str type = kl_text(kl_get(v, KL_F_type));
    kl_sym expected = KL_SYM_NONE;
    size_t n = 0;
    if (!type.n)
        kl_v_required(c, F(p, type), "must specify a metric source type");
    if (!kl_v_in(type, types))
        kl_v_unsupported(c, F(p, type), type, types);
    for (size_t i = 0; i < KL_COUNT(sources); i++) {
        const struct kl_value *source = kl_get(v, sources[i].member);
        if (source && n++ == 0)
            check_source(c, sources[i].member, source, FS(p, sources[i].member));
        if (kl_str_eqz(type, sources[i].type))
            expected = sources[i].member;
    }
    if (expected && !kl_get(v, expected))
        kl_v_required(c, FS(p, expected), "must populate information for the given metric source");
    if (!expected)
        kl_v_unsupported(c, F(p, type), type, types);
    for (size_t i = 0; n != 1 && i < KL_COUNT(sources); i++)
        if (sources[i].member != expected && kl_get(v, sources[i].member))
            kl_v_forbidden(c, FS(p, sources[i].member),
                           "must populate the given metric source only");
}

static void check_scaling_policy(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const types[] = {"Percent", "Pods", NULL};
    int64_t value = kl_int_at(v, 0, KL_F_value), period = kl_int_at(v, 0, KL_F_periodSeconds);
    struct kl_str type = kl_text(kl_get(v, KL_F_type));
    if (!kl_v_in(type, types))
        kl_v_unsupported(c, F(p, type), type, types);
    if (value <= 0)
        kl_v_invalid_int(c, F(p, value), value, "must be greater than zero");
    if (period <= 0)
        kl_v_invalid_int(c, F(p, periodSeconds), period, "must be greater than zero");
    if (period > 1800)
        kl_v_invalid_int(c, F(p, periodSeconds), period, "must be less than or equal to 1800");
}

static void check_scaling_rules(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const selects[] = {"Disabled", "Max", "Min", NULL};
    static const struct kl_rule rules[] = {R_ENUM(selectPolicy, selects),
                                           R_REQUIRED(policies, "must specify at least one Policy"),
                                           R_EACH_ON(policies, check_scaling_policy), R_END};
    const struct kl_value *tolerance = kl_get(v, KL_F_tolerance);
    int64_t window = kl_int_at(v, 0, KL_F_stabilizationWindowSeconds);
    if (window < 0)
        kl_v_invalid_int(c, F(p, stabilizationWindowSeconds), window,
                         "must be greater than or equal to zero");
    if (window > 3600)
        kl_v_invalid_int(c, F(p, stabilizationWindowSeconds), window,
                         "must be less than or equal to 3600");
    kl_v_walk(c, rules, v, p);
    if (tolerance && kl_v_compare(tolerance, NULL) < 0)
        kl_v_invalid_str(c, F(p, tolerance), kl_text(tolerance),
                         "must be greater than or equal to 0");
}

static void check_autoscaler(struct kl_v *c)
{
    static const struct kl_rule behavior[] = {R_ON(scaleUp, check_scaling_rules),
                                              R_ON(scaleDown, check_scaling_rules), R_END};
    static const struct kl_rule metrics[] = {R_EACH_ON(metrics, check_metric), R_END};
    static const struct kl_rule rest[] = {R_SUB(behavior, behavior), R_END};
    const struct kl_value *spec = kl_v_spec(c), *min = kl_get(spec, KL_F_minReplicas);
    const struct kl_value *was = kl_get(kl_v_old_spec(c), KL_F_minReplicas);
    const struct kl_vpath *p = &c->spec;
    int64_t max = kl_int_at(spec, 0, KL_F_maxReplicas), low = kl_int_or(min, 1);
    bool zero_too = was && !kl_int_or(was, 1), custom = false;
    if (low < !zero_too)
        kl_v_invalid_int(c, F(p, minReplicas), low,
                         zero_too ? "must be greater than or equal to 0"
                                  : "must be greater than or equal to 1");
    if (!max)
        kl_v_required(c, F(p, maxReplicas), "must be set and greater than 0");
    else if (max < 0)
        kl_v_invalid_int(c, F(p, maxReplicas), max, "must be greater than or equal to 1");
    if (min && max < low)
        kl_v_invalid_int(c, F(p, maxReplicas), max,
                         "must be greater than or equal to `minReplicas`");
    check_reference(c, kl_get(spec, KL_F_scaleTargetRef), F(p, scaleTargetRef), false);
    kl_v_walk(c, metrics, spec, p);
    for (KL_EACH(m, kl_get(spec, KL_F_metrics)))
        custom |= kl_v_is(m, KL_F_type, "Object") || kl_v_is(m, KL_F_type, "External");
    if (min && !low && !custom)
        kl_v_forbidden(c, F(p, metrics),
                       "must specify at least one Object or External metric to support scaling to "
                       "zero replicas");
    kl_v_walk(c, rest, spec, p);
}

static void create_autoscaler(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_autoscaler(c);
}

static void update_autoscaler(struct kl_v *c)
{
    kl_v_meta_update(c);
    check_autoscaler(c);
}

static void status_autoscaler(struct kl_v *c)
{
    static const struct kl_rule rules[] = {R_NONNEG(currentReplicas), R_NONNEG(desiredReplicas),
                                           R_END};
    kl_v_meta_update(c);
    kl_v_walk(c, rules, kl_get(c->now, KL_F_status), &c->status);
}

// ---- PodDisruptionBudgets: their strategy leaves metadata to the registry.

static void check_budget(struct kl_v *c)
{
    static const char *const evictions[] = {"AlwaysAllow", "IfHealthyBudget", NULL};
    static const struct kl_rule rules[] = {R_SELECTOR(selector),
                                           R_ENUM(unhealthyPodEvictionPolicy, evictions), R_END};
    const struct kl_value *spec = kl_v_spec(c), *min = kl_get(spec, KL_F_minAvailable);
    const struct kl_value *max = kl_get(spec, KL_F_maxUnavailable);
    const struct kl_vpath *p = &c->spec;
    if (min && max)
        kl_v_invalid_json(c, p, kl_type(KL_TYPE_policy_v1_PodDisruptionBudgetSpec), spec, true,
                          "minAvailable and maxUnavailable cannot be both set");
    if (min) {
        kl_v_positive_or_percent(c, min, F(p, minAvailable));
        kl_v_at_most_all(c, min, F(p, minAvailable));
    }
    if (max) {
        kl_v_positive_or_percent(c, max, F(p, maxUnavailable));
        kl_v_at_most_all(c, max, F(p, maxUnavailable));
    }
    kl_v_walk(c, rules, spec, p);
}

static void status_budget(struct kl_v *c)
{
    static const struct kl_rule rules[] = {R_NONNEG(disruptionsAllowed), R_NONNEG(currentHealthy),
                                           R_NONNEG(desiredHealthy), R_NONNEG(expectedPods), R_END};
    const struct kl_value *status = kl_get(c->now, KL_F_status);
    kl_v_conditions(c, F(&c->status, conditions), kl_get(status, KL_F_conditions));
    kl_v_walk(c, rules, status, &c->status);
}

// ---- Leases

static void check_lease(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c), *strategy = kl_get(spec, KL_F_strategy);
    struct kl_str s = kl_text(strategy);
    const struct kl_vpath *p = &c->spec;
    int64_t duration = kl_int_at(spec, 1, KL_F_leaseDurationSeconds);
    int64_t transitions = kl_int_at(spec, 0, KL_F_leaseTransitions);
    if (duration <= 0)
        kl_v_invalid_int(c, F(p, leaseDurationSeconds), duration, "must be greater than 0");
    if (transitions < 0)
        kl_v_invalid_int(c, F(p, leaseTransitions), transitions,
                         "must be greater than or equal to 0");
    if (strategy)
        kl_v_lease_strategy(c, s, F(p, strategy));
    if (kl_text(kl_get(spec, KL_F_preferredHolder)).n && !s.n)
        kl_v_forbidden(c, F(p, preferredHolder), "may only be specified if `strategy` is defined");
}

static void create_lease(struct kl_v *c)
{
    kl_v_meta_plain(c, KL_V_SUBDOMAIN);
    check_lease(c);
}

static void update_lease(struct kl_v *c)
{
    kl_v_meta_update_plain(c);
    check_lease(c);
}

// ---- PriorityClasses

static void check_system_class(struct kl_v *c, struct kl_str name, int64_t value, bool is_default)
{
    static const struct {
        const char *name;
        int64_t value;
    } known[] = {{"system-node-critical", 2000001000}, {"system-cluster-critical", 2000000000}};
    const char *why = NULL;
    for (size_t i = 0; i < KL_COUNT(known) && !why; i++) {
        if (!kl_str_eqz(name, known[i].name))
            continue;
        if (value != known[i].value)
            why = kl_v_text(c, "value of %s PriorityClass must be %lld", known[i].name,
                            (long long)known[i].value);
        else if (is_default)
            why = kl_v_text(c, "globalDefault of %s PriorityClass must be false", known[i].name);
        else
            return;
    }
    if (!why)
        why = kl_v_text(c, "%.*s is not a known system priority class", KL_PRI(name));
    kl_v_forbidden(c, F(&c->meta, name),
                   kl_v_text(c,
                             "priority class names with 'system-' prefix are reserved for system "
                             "use only. error: %s",
                             why));
}

static void create_priority(struct kl_v *c)
{
    int64_t value = kl_int_at(c->now, 0, KL_F_value);
    struct kl_str name = kl_text_at(c->now, KL_F_metadata, KL_F_name);
    const struct kl_value *preemption = kl_get(c->now, KL_F_preemptionPolicy);
    kl_v_meta(c, KL_V_SUBDOMAIN);
    if (kl_str_starts(name, KL_STR("system-")))
        check_system_class(c, name, value, kl_true_at(c->now, KL_F_globalDefault));
    else if (value > 1000000000)
        kl_v_forbidden(c, F(NULL, value),
                       "maximum allowed value of a user defined priority is 1000000000");
    if (preemption)
        kl_v_preemption(c, preemption, F(NULL, preemptionPolicy));
}

static void update_priority(struct kl_v *c)
{
    const kl_sym f = KL_F_preemptionPolicy;
    kl_v_meta_update(c);
    if (kl_int_at(c->now, 0, KL_F_value) != kl_int_at(c->old, 0, KL_F_value))
        kl_v_forbidden(c, F(NULL, value), "may not be changed in an update.");
    kl_v_immutable(c, FS(NULL, f), NULL, kl_get(c->now, f), kl_get(c->old, f), false);
}

// ---- RuntimeClasses

static void check_scheduling(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const kl_sym keys[] = {KL_F_key, KL_F_operator, KL_F_value, KL_F_effect};
    const struct kl_value *selector = kl_get(v, KL_F_nodeSelector);
    const struct kl_value *list = kl_get(v, KL_F_tolerations);
    if (selector)
        kl_v_labels(c, F(p, nodeSelector), selector);
    kl_v_tolerations(c, list, F(p, tolerations));
    for (size_t i = 1; i < kl_len(list); i++)
        for (size_t k = 0; k < i; k++) {
            bool same = true;
            for (size_t f = 0; f < KL_COUNT(keys); f++)
                same &= kl_str_eq(kl_text(kl_get(kl_at(list, i), keys[f])),
                                  kl_text(kl_get(kl_at(list, k), keys[f])));
            if (!same)
                continue;
            kl_v_duplicate_text(
                c, I(F(p, tolerations), i),
                kl_v_json(c, kl_type(KL_TYPE_core_v1_Toleration), kl_at(list, i), true));
            break;
        }
}

static void check_runtime(struct kl_v *c)
{
    static const struct kl_rule rest[] = {R_ON(scheduling, check_scheduling), R_END};
    const struct kl_value *fixed = kl_path(c->now, KL_F_overhead, KL_F_podFixed);
    struct kl_str handler = kl_text(kl_get(c->now, KL_F_handler));
    kl_v_meta(c, KL_V_SUBDOMAIN);
    if (handler.n)
        kl_v_format(c, F(NULL, handler), handler, KL_V_LABEL);
    else
        kl_v_required(c, F(NULL, handler), "");
    if (fixed)
        kl_v_overhead(c, fixed, F(NULL, overhead));
    kl_v_walk(c, rest, c->now, NULL);
}

static void update_runtime(struct kl_v *c)
{
    struct kl_str now = kl_text(kl_get(c->now, KL_F_handler));
    check_runtime(c);
    kl_v_meta_update(c);
    if (!kl_str_eq(now, kl_text(kl_get(c->old, KL_F_handler))))
        kl_v_invalid_str(c, F(NULL, handler), now, "field is immutable");
}

const struct kl_v_kind kl_v_cluster[] = {
    {KL_RES_rbac_v1_roles, create_role, update_role, NULL, NULL, NULL},
    {KL_RES_rbac_v1_clusterroles, create_role, update_role, NULL, NULL, NULL},
    {KL_RES_rbac_v1_rolebindings, create_binding, update_binding, NULL, NULL, NULL},
    {KL_RES_rbac_v1_clusterrolebindings, create_binding, update_binding, NULL, NULL, NULL},
    {KL_RES_autoscaling_v2_horizontalpodautoscalers, create_autoscaler, update_autoscaler,
     status_autoscaler, NULL, NULL},
    {KL_RES_policy_v1_poddisruptionbudgets, check_budget, check_budget, status_budget, NULL, NULL},
    {KL_RES_coordination_v1_leases, create_lease, update_lease, NULL, NULL, NULL},
    {KL_RES_scheduling_v1_priorityclasses, create_priority, update_priority, NULL, NULL, NULL},
    {KL_RES_node_v1_runtimeclasses, check_runtime, update_runtime, NULL, NULL, NULL},
    {0},
};
