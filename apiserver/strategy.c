// SPDX-License-Identifier: Apache-2.0
// The table of kinds with ways of their own, and the small ones' code. Larger ones have files:
// strategy_pod.c, strategy_service.c.
#include "apiserver/strategy_int.h"
#include "apiserver/aggregate/aggregate.h"
#include "apiserver/auth/auth.h"
#include "apiserver/auth/csr.h"
#include "apiserver/auth/trust.h"
#include "apiserver/crd/crd.h"
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

static int prepare_job(struct kl_req *r, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    if (kl_true_at(draft, KL_F_spec, KL_F_manualSelector))
        return 0;
    struct kl_str uid = kl_meta_uid(draft), name = kl_meta_name(draft);
    // Defaulting gave a Job without labels those of its template. That is one map there, and so the
    // Job gets what the template gets.
    const struct kl_value *own = kl_meta_labels(draft);
    const struct kl_value *of_pods =
        kl_path(draft, KL_F_spec, KL_F_template, KL_F_metadata, KL_F_labels);
    bool one_map = kl_len(own) && kl_is(of_pods, KL_MAP) && own->items == of_pods->items;
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
    if (one_map)
        labels->owned = 0;
    struct kl_value shared = *labels;
    if (one_map && kl_set(a, kl_edit(a, draft, KL_F_metadata, KL_STRUCT), KL_F_labels, shared))
        return kl_fail_oom(r), KL_ENOMEM;
    spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT);
    struct kl_value *sel = kl_edit(a, spec, KL_F_selector, KL_STRUCT);
    struct kl_value *match = kl_edit(a, sel, KL_F_matchLabels, KL_MAP);
    if (!match)
        return kl_fail_oom(r), KL_ENOMEM;
    return kl_map_set_value(a, match, KL_STR("batch.kubernetes.io/controller-uid"), kl_string(uid));
}

static int check_rbac_create(struct kl_req *r, struct kl_value *draft)
{
    return kl_rbac_check_escalation(r, draft, NULL);
}

static int check_rbac_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    return kl_rbac_check_escalation(r, draft, old);
}

#define GEN KL_STRAT_GENERATION
#define RV KL_STRAT_NEEDS_RV
#define CREATES KL_STRAT_CREATE_ON_UPDATE
#define RETURNS KL_STRAT_RETURN_DELETED
#define ORPHANS KL_STRAT_ORPHANS

static const struct kl_strategy strategies[] = {
    {KL_RES_core_v1_pods, GEN | RETURNS, NULL, kl_pod_prepare_create, kl_pod_prepare_update, NULL,
     kl_pod_grace},
    {KL_RES_core_v1_namespaces, 0, kl_name_dns1123_label, prepare_namespace, update_namespace},
    {KL_RES_core_v1_nodes, KL_STRAT_KEEP_STATUS},
    {KL_RES_core_v1_services, CREATES | RETURNS, kl_name_dns1123_label, kl_service_prepare_create,
     kl_service_prepare_update, kl_service_release},
    {KL_RES_core_v1_podtemplates, GEN | RETURNS},
    {KL_RES_core_v1_serviceaccounts, RETURNS},
    {KL_RES_core_v1_resourcequotas, RETURNS},
    {KL_RES_core_v1_persistentvolumeclaims, RETURNS, NULL, phase_pending},
    {KL_RES_core_v1_persistentvolumes, RETURNS, NULL, prepare_pv},
    {KL_RES_core_v1_replicationcontrollers, GEN | ORPHANS},
    {KL_RES_core_v1_limitranges, CREATES},
    {KL_RES_core_v1_events, CREATES | KL_STRAT_NO_GC},
    {KL_RES_core_v1_endpoints, CREATES},
    {KL_RES_apps_v1_deployments, GEN | KL_STRAT_ANNOTATED},
    {KL_RES_apps_v1_replicasets, GEN},
    {KL_RES_apps_v1_daemonsets, GEN, NULL, kl_daemon_set_prepare_create,
     kl_daemon_set_prepare_update},
    {KL_RES_apps_v1_statefulsets, GEN},
    {KL_RES_batch_v1_jobs, GEN | ORPHANS, NULL, prepare_job},
    {KL_RES_batch_v1_cronjobs, GEN},
    {KL_RES_networking_v1_ingresses, GEN},
    {KL_RES_networking_v1_ingressclasses, GEN},
    {KL_RES_networking_v1_networkpolicies, GEN},
    {KL_RES_policy_v1_poddisruptionbudgets, GEN | RV},
    {KL_RES_discovery_v1_endpointslices, GEN | KL_STRAT_LABELLED},
    {KL_RES_flowcontrol_v1_flowschemas, GEN},
    {KL_RES_flowcontrol_v1_prioritylevelconfigurations, GEN},
    {KL_RES_admissionregistration_v1beta1_mutatingadmissionpolicies, GEN | RV},
    {KL_RES_admissionregistration_v1beta1_mutatingadmissionpolicybindings, GEN | RV},
    {KL_RES_admissionregistration_v1_mutatingwebhookconfigurations, GEN | RV},
    {KL_RES_admissionregistration_v1_validatingadmissionpolicies, GEN | RV},
    {KL_RES_admissionregistration_v1_validatingadmissionpolicybindings, GEN | RV},
    {KL_RES_admissionregistration_v1_validatingwebhookconfigurations, GEN | RV},
    {KL_RES_apiextensions_v1_customresourcedefinitions, GEN | RV, NULL, kl_crd_prepare_create,
     kl_crd_prepare_update},
    {KL_RES_apiregistration_v1_apiservices, RV, NULL, kl_apiservice_prepare_create},
    {KL_RES_scheduling_v1_priorityclasses, GEN},
    {KL_RES_resource_v1_deviceclasses, GEN | RETURNS},
    {KL_RES_resource_v1_resourceslices, GEN | RETURNS},
    {KL_RES_resource_v1_resourceclaims, RETURNS, .prepare_update = kl_claim_prepare_update,
     .check_access = kl_claim_check_access},
    {KL_RES_resource_v1_resourceclaimtemplates, RETURNS, .check_access = kl_claim_check_access},
    {KL_RES_resource_v1alpha3_devicetaintrules, GEN | RETURNS,
     .prepare_update = kl_taint_rule_prepare_update},
    {KL_RES_resource_v1alpha3_resourcepoolstatusrequests, RETURNS | RV},
    {KL_RES_storage_v1_csidrivers, RETURNS | RV},
    {KL_RES_storage_v1_csinodes, RETURNS | RV},
    {KL_RES_storage_v1_csistoragecapacities, RV},
    {KL_RES_storage_v1_storageclasses, RETURNS},
    {KL_RES_storage_v1_volumeattachments, RETURNS | RV},
    {KL_RES_storage_v1_volumeattributesclasses, RETURNS},
    {KL_RES_coordination_v1_leases, CREATES | RV},
    {KL_RES_coordination_v1beta1_leasecandidates, CREATES | RV},
    {KL_RES_certificates_v1beta1_clustertrustbundles, RV, .check_more = kl_trust_rules},
    {KL_RES_certificates_v1beta1_podcertificaterequests, RV, .check_more = kl_trust_rules},
    {KL_RES_storagemigration_v1beta1_storageversionmigrations, RV},
    {KL_RES_internal_v1alpha1_storageversions, RV},
    {KL_RES_node_v1_runtimeclasses, CREATES | RV},
    {KL_RES_certificates_v1_certificatesigningrequests, 0, NULL, kl_csr_prepare_create,
     kl_csr_prepare_update},
    {KL_RES_rbac_v1_roles, CREATES, kl_name_path_segment, check_rbac_create, check_rbac_update},
    {KL_RES_rbac_v1_clusterroles, CREATES, kl_name_path_segment, check_rbac_create,
     check_rbac_update},
    {KL_RES_rbac_v1_rolebindings, CREATES, kl_name_path_segment, check_rbac_create,
     check_rbac_update},
    {KL_RES_rbac_v1_clusterrolebindings, CREATES, kl_name_path_segment, check_rbac_create,
     check_rbac_update},
};

static const struct kl_strategy plain = {0};

const struct kl_strategy *kl_strategy_of(const struct kl_resource *storage)
{
    if (storage->custom)
        return &kl_custom_strategy;
    for (size_t i = 0; i < KL_COUNT(strategies); i++)
        if (strategies[i].res == storage->index)
            return &strategies[i];
    return &plain;
}
