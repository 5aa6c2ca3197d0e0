// SPDX-License-Identifier: Apache-2.0
// The table of kinds with ways of their own, and the small ones' code. Larger ones have files:
// strategy_pod.c, strategy_service.c.
#include "apiserver/strategy_int.h"
#include "apiserver/auth.h"
#include "base/clock.h"
#include "object/names.h"

// ---- namespaces

static int prepare_namespace(struct kl_req *r, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    struct kl_value *spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT);
    struct kl_value *status = kl_edit(a, draft, KL_F_status, KL_STRUCT);
    if (!spec || !status)
        return kl_fail_oom(r), KL_ENOMEM;
    spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT);
    bool has = false;
    for (KL_EACH(f, kl_get(spec, KL_F_finalizers)))
        has |= kl_str_eqz(kl_text(f), "kubernetes");
    if (!has)
        kl_append(a, kl_edit(a, spec, KL_F_finalizers, KL_ARRAY), kl_stringz("kubernetes"));
    status = kl_edit(a, draft, KL_F_status, KL_STRUCT);
    return kl_set(a, status, KL_F_phase, kl_stringz("Active"));
}

// Only the finalize subresource changes spec.finalizers.
static int update_namespace(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    if (kl_str_eqz(r->info.sub, "finalize"))
        return 0;
    const struct kl_value *f = kl_path(old, KL_F_spec, KL_F_finalizers);
    struct kl_value *spec = kl_edit(r->arena, draft, KL_F_spec, KL_STRUCT);
    if (f)
        return kl_set(r->arena, spec, KL_F_finalizers, *f);
    kl_unset(r->arena, spec, KL_F_finalizers);
    return 0;
}

// ---- small prepare functions

static int phase_pending(struct kl_req *r, struct kl_value *draft)
{
    struct kl_value *st = kl_edit(r->arena, draft, KL_F_status, KL_STRUCT);
    return st ? kl_set(r->arena, st, KL_F_phase, kl_stringz("Pending")) : KL_ENOMEM;
}

static int prepare_pv(struct kl_req *r, struct kl_value *draft)
{
    struct kl_value *st = kl_edit(r->arena, draft, KL_F_status, KL_STRUCT);
    if (!st)
        return KL_ENOMEM;
    kl_set(r->arena, st, KL_F_phase, kl_stringz("Pending"));
    return kl_set(r->arena, st, KL_F_lastPhaseTransitionTime,
                  kl_time(kl_wall_ms() / 1000 * 1000000));
}

static int prepare_csr(struct kl_req *r, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    struct kl_value *spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT), groups = kl_new_array();
    if (!spec)
        return KL_ENOMEM;
    kl_set(a, spec, KL_F_username, kl_string(r->user->name));
    kl_set(a, spec, KL_F_uid, kl_string(r->user->uid));
    for (size_t i = 0; i < r->user->ngroups; i++)
        kl_append(a, &groups, kl_string(r->user->groups[i]));
    kl_set(a, spec, KL_F_groups, groups);
    kl_unset(a, spec, KL_F_extra);
    return 0;
}

static int prepare_job(struct kl_req *r, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    if (kl_true_at(draft, KL_F_spec, KL_F_manualSelector))
        return 0;
    struct kl_str uid = kl_meta_uid(draft), name = kl_meta_name(draft);
    struct kl_value *spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT);
    struct kl_value *tmpl = kl_edit(a, spec, KL_F_template, KL_STRUCT);
    struct kl_value *meta = kl_edit(a, tmpl, KL_F_metadata, KL_STRUCT);
    struct kl_value *labels = kl_edit(a, meta, KL_F_labels, KL_MAP);
    if (!labels)
        return kl_fail_oom(r), KL_ENOMEM;
    kl_map_set_value(a, labels, KL_STR("controller-uid"), kl_string(uid));
    kl_map_set_value(a, labels, KL_STR("job-name"), kl_string(name));
    kl_map_set_value(a, labels, KL_STR("batch.kubernetes.io/controller-uid"), kl_string(uid));
    kl_map_set_value(a, labels, KL_STR("batch.kubernetes.io/job-name"), kl_string(name));
    struct kl_value *sel = kl_edit(a, spec, KL_F_selector, KL_STRUCT);
    struct kl_value *match = kl_edit(a, sel, KL_F_matchLabels, KL_MAP);
    if (!match)
        return kl_fail_oom(r), KL_ENOMEM;
    return kl_map_set_value(a, match, KL_STR("batch.kubernetes.io/controller-uid"), kl_string(uid));
}

// Secret.stringData is write-only: it goes into data.
static int fold_string_data(struct kl_req *r, struct kl_value *draft)
{
    const struct kl_value *sd = kl_get(draft, KL_F_stringData);
    if (!sd)
        return 0;
    struct kl_value *data = kl_edit(r->arena, draft, KL_F_data, KL_MAP);
    if (!data)
        return kl_fail_oom(r), KL_ENOMEM;
    for (KL_MAP_EACH_KEY(kv, sd)) {
        struct kl_str v = kl_text(kv + 1);
        kl_map_set_value(r->arena, data, kl_text(kv),
                         (struct kl_value){.kind = KL_BYTES, .n = (uint32_t)v.n, .s = v.p});
    }
    kl_unset(r->arena, draft, KL_F_stringData);
    return 0;
}

static int update_secret(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    (void)old;
    return fold_string_data(r, draft);
}

// ---- validation of the kinds that have nothing else here

// spec.selector of the workloads: must be there, match the template, and never change.
static void validate_workload(struct kl_req *r, const struct kl_value *now,
                              const struct kl_value *old, struct kl_field_errors *e)
{
    const struct kl_value *sel = kl_path(now, KL_F_spec, KL_F_selector);
    const struct kl_value *labels =
        kl_path(now, KL_F_spec, KL_F_template, KL_F_metadata, KL_F_labels);
    struct kl_selector s;
    struct kl_error err = {0};
    int64_t replicas = kl_int_at(now, 0, KL_F_spec, KL_F_replicas);
    if (replicas < 0)
        kl_field_error(e, "FieldValueInvalid", KL_STR("spec.replicas"),
                       "Invalid value: %lld: must be greater than or equal to 0",
                       (long long)replicas);
    if (!sel)
        kl_field_required(e, KL_STR("spec.selector"), "");
    else if (!kl_len(kl_get(sel, KL_F_matchLabels)) && !kl_len(kl_get(sel, KL_F_matchExpressions)))
        kl_field_error(e, "FieldValueInvalid", KL_STR("spec.selector"),
                       "Invalid value: {}: empty selector is invalid for deployment");
    else if (kl_label_selector_from(r->arena, sel, &s, &err))
        kl_field_error(e, "FieldValueInvalid", KL_STR("spec.selector"), "Invalid value: %s",
                       err.msg);
    else if (!kl_selector_matches(&s, labels)) {
        struct kl_buf b;
        kl_buf_init(&b, 1 << 20);
        kl_json_write(&b, labels);
        kl_field_error(e, "FieldValueInvalid", KL_STR("spec.template.metadata.labels"),
                       "Invalid value: %.*s: `selector` does not match template `labels`",
                       KL_PRI(kl_buf_str(&b)));
        kl_buf_fini(&b);
    }
    if (old && !kl_value_equal(sel, kl_path(old, KL_F_spec, KL_F_selector)))
        kl_field_error(e, "FieldValueInvalid", KL_STR("spec.selector"),
                       "Invalid value: field is immutable");
    static const char *const always[] = {"Always", NULL};
    struct kl_str policy = kl_text_at(now, KL_F_spec, KL_F_template, KL_F_spec, KL_F_restartPolicy);
    if (policy.n && !kl_str_eqz(policy, "Always"))
        kl_field_unsupported(e, KL_STR("spec.template.spec.restartPolicy"), policy, always);
    kl_validate_pod_template(r, kl_path(now, KL_F_spec, KL_F_template), "spec.template", e);
}

static void validate_job(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                         struct kl_field_errors *e)
{
    const struct kl_value *t = kl_path(now, KL_F_spec, KL_F_template);
    struct kl_str policy = kl_text_at(t, KL_F_spec, KL_F_restartPolicy);
    kl_validate_pod_template(r, t, "spec.template", e);
    static const char *const allowed[] = {"OnFailure", "Never", NULL};
    if (!kl_str_eqz(policy, "OnFailure") && !kl_str_eqz(policy, "Never"))
        kl_field_unsupported(e, KL_STR("spec.template.spec.restartPolicy"), policy, allowed);
    if (old && !kl_value_equal(t, kl_path(old, KL_F_spec, KL_F_template)))
        kl_field_error(e, "FieldValueInvalid", KL_STR("spec.template"),
                       "Invalid value: field is immutable");
}

static void validate_config_map(struct kl_req *r, const struct kl_value *now,
                                const struct kl_value *old, struct kl_field_errors *e)
{
    static const kl_sym maps[] = {KL_F_data, KL_F_binaryData};
    size_t total = 0;
    for (size_t i = 0; i < 2; i++)
        for (KL_MAP_EACH_KEY(kv, kl_get(now, maps[i]))) {
            struct kl_str key = kl_text(kv);
            bool bad = !key.n || key.n > 253 || kl_str_eqz(key, ".") || kl_str_eqz(key, "..");
            for (size_t k = 0; k < key.n && !bad; k++)
                bad = !((key.p[k] >= 'a' && key.p[k] <= 'z') ||
                        (key.p[k] >= 'A' && key.p[k] <= 'Z') ||
                        (key.p[k] >= '0' && key.p[k] <= '9') || strchr("-_.", key.p[k]));
            if (bad)
                kl_field_invalid(
                    e,
                    kl_arena_printf(r->arena, "%s[%.*s]", i ? "binaryData" : "data", KL_PRI(key)),
                    key,
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' "
                    "(e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation "
                    "is '[-._a-zA-Z0-9]+')");
            total += kl_text(kv + 1).n;
        }
    if (total > 1024 * 1024)
        kl_field_error(e, "FieldValueTooLong", KL_STR(""),
                       "Too long: may not be more than %d bytes", 1024 * 1024);
    if (old && kl_is_true(kl_get(old, KL_F_immutable))) {
        if (!kl_is_true(kl_get(now, KL_F_immutable)))
            kl_field_forbidden(e, KL_STR("immutable"),
                               "field is immutable when `immutable` is set");
        if (!kl_value_equal(kl_get(now, KL_F_data), kl_get(old, KL_F_data)))
            kl_field_forbidden(e, KL_STR("data"), "field is immutable when `immutable` is set");
    }
}

static int check_rbac_create(struct kl_req *r, struct kl_value *draft)
{
    return kl_rbac_check_escalation(r, draft, NULL);
}

static int check_rbac_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    return kl_rbac_check_escalation(r, draft, old);
}

static void validate_binding(struct kl_req *r, const struct kl_value *now,
                             const struct kl_value *old, struct kl_field_errors *e)
{
    static const char *const kinds[] = {"ClusterRole", "Role", NULL};
    static const char *const cluster[] = {"ClusterRole", NULL};
    const struct kl_value *ref = kl_get(now, KL_F_roleRef);
    struct kl_str kind = kl_text(kl_get(ref, KL_F_kind));
    bool in_ns = r->info.res->namespaced;
    if (!kl_str_eqz(kind, "ClusterRole") && !(in_ns && kl_str_eqz(kind, "Role")))
        kl_field_unsupported(e, KL_STR("roleRef.kind"), kind, in_ns ? kinds : cluster);
    if (!kl_text(kl_get(ref, KL_F_name)).n)
        kl_field_required(e, KL_STR("roleRef.name"), "");
    if (old && !kl_value_equal(ref, kl_get(old, KL_F_roleRef)))
        kl_field_error(e, "FieldValueInvalid", KL_STR("roleRef"),
                       "Invalid value: cannot change roleRef");
}

#define GEN KL_STRAT_GENERATION
#define RV KL_STRAT_NEEDS_RV
#define CREATES KL_STRAT_CREATE_ON_UPDATE
#define RETURNS KL_STRAT_RETURN_DELETED
#define ORPHANS KL_STRAT_ORPHANS

static const struct kl_strategy strategies[] = {
    {KL_RES_core_v1_pods, GEN | RETURNS, NULL, kl_pod_prepare_create, kl_pod_prepare_update,
     kl_pod_validate, NULL, kl_pod_grace},
    {KL_RES_core_v1_namespaces, 0, kl_name_dns1123_label, prepare_namespace, update_namespace},
    {KL_RES_core_v1_nodes, KL_STRAT_KEEP_STATUS},
    {KL_RES_core_v1_services, CREATES | RETURNS, kl_name_dns1035_label, kl_service_prepare_create,
     kl_service_prepare_update, kl_service_validate, kl_service_release},
    {KL_RES_core_v1_podtemplates, GEN | RETURNS},
    {KL_RES_core_v1_serviceaccounts, RETURNS},
    {KL_RES_core_v1_resourcequotas, RETURNS},
    {KL_RES_core_v1_persistentvolumeclaims, RETURNS, NULL, phase_pending},
    {KL_RES_core_v1_persistentvolumes, RETURNS, NULL, prepare_pv},
    {KL_RES_core_v1_replicationcontrollers, GEN | ORPHANS},
    {KL_RES_core_v1_secrets, 0, NULL, fold_string_data, update_secret},
    {KL_RES_core_v1_configmaps, 0, NULL, NULL, NULL, validate_config_map},
    {KL_RES_core_v1_limitranges, CREATES},
    {KL_RES_core_v1_events, CREATES | KL_STRAT_NO_GC},
    {KL_RES_core_v1_endpoints, CREATES},
    {KL_RES_apps_v1_deployments, GEN | KL_STRAT_ANNOTATED, NULL, NULL, NULL, validate_workload},
    {KL_RES_apps_v1_replicasets, GEN, NULL, NULL, NULL, validate_workload},
    {KL_RES_apps_v1_daemonsets, GEN, NULL, NULL, NULL, validate_workload},
    {KL_RES_apps_v1_statefulsets, GEN, NULL, NULL, NULL, validate_workload},
    {KL_RES_batch_v1_jobs, GEN | ORPHANS, NULL, prepare_job, NULL, validate_job},
    {KL_RES_batch_v1_cronjobs, GEN},
    {KL_RES_networking_v1_ingresses, GEN},
    {KL_RES_networking_v1_ingressclasses, GEN},
    {KL_RES_networking_v1_networkpolicies, GEN},
    {KL_RES_policy_v1_poddisruptionbudgets, GEN},
    {KL_RES_discovery_v1_endpointslices, GEN},
    {KL_RES_flowcontrol_v1_flowschemas, GEN},
    {KL_RES_flowcontrol_v1_prioritylevelconfigurations, GEN},
    {KL_RES_admissionregistration_v1_mutatingadmissionpolicies, GEN},
    {KL_RES_admissionregistration_v1_mutatingadmissionpolicybindings, GEN},
    {KL_RES_admissionregistration_v1_mutatingwebhookconfigurations, GEN},
    {KL_RES_admissionregistration_v1_validatingadmissionpolicies, GEN},
    {KL_RES_admissionregistration_v1_validatingadmissionpolicybindings, GEN},
    {KL_RES_admissionregistration_v1_validatingwebhookconfigurations, GEN},
    {KL_RES_apiextensions_v1_customresourcedefinitions, GEN},
    {KL_RES_scheduling_v1_priorityclasses, GEN},
    {KL_RES_resource_v1_deviceclasses, GEN},
    {KL_RES_resource_v1_resourceslices, GEN},
    {KL_RES_coordination_v1_leases, CREATES},
    {KL_RES_certificates_v1_certificatesigningrequests, 0, NULL, prepare_csr},
    {KL_RES_rbac_v1_roles, CREATES, kl_name_path_segment, check_rbac_create, check_rbac_update},
    {KL_RES_rbac_v1_clusterroles, CREATES, kl_name_path_segment, check_rbac_create,
     check_rbac_update},
    {KL_RES_rbac_v1_rolebindings, CREATES, kl_name_path_segment, check_rbac_create,
     check_rbac_update, validate_binding},
    {KL_RES_rbac_v1_clusterrolebindings, CREATES, kl_name_path_segment, check_rbac_create,
     check_rbac_update, validate_binding},
};

static const struct kl_strategy plain = {0};

const struct kl_strategy *kl_strategy_of(const struct kl_resource *storage)
{
    for (size_t i = 0; i < KL_COUNT(strategies); i++)
        if (strategies[i].res == storage->index)
            return &strategies[i];
    return &plain;
}
