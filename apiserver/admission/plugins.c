// SPDX-License-Identifier: Apache-2.0
// The table of plug-ins, in upstream's order (kubeapiserver/options/plugins.go), and the smallest
// of them. Those with more to say have files, plugin_*.c.
#include "apiserver/admission/chain_int.h"
#include "apiserver/admission/plugins_int.h"

// ---- TaintNodesByCondition

static int taint_new_node(struct kl_admit *ad)
{
    struct kl_arena *a = ad->r->arena;
    if (!kl_admit_is(ad, KL_RES_core_v1_nodes))
        return 0;
    struct kl_value *spec = kl_edit(a, ad->draft, KL_F_spec, KL_STRUCT), t = kl_new_struct();
    for (KL_EACH(x, kl_get(spec, KL_F_taints)))
        if (kl_str_eqz(kl_text(kl_get(x, KL_F_key)), "node.kubernetes.io/not-ready") &&
            kl_str_eqz(kl_text(kl_get(x, KL_F_effect)), "NoSchedule"))
            return 0;
    kl_set(a, &t, KL_F_key, kl_stringz("node.kubernetes.io/not-ready"));
    kl_set(a, &t, KL_F_effect, kl_stringz("NoSchedule"));
    struct kl_value *list = spec ? kl_edit(a, spec, KL_F_taints, KL_ARRAY) : NULL;
    return !list || kl_append(a, list, t) ? kl_admit_oom(ad) : 0;
}

// ---- StorageObjectInUseProtection, PodGroupProtection

static int add_finalizer(struct kl_admit *ad, const char *f)
{
    struct kl_arena *a = ad->r->arena;
    struct kl_value *m = kl_edit(a, ad->draft, KL_F_metadata, KL_STRUCT);
    for (KL_EACH(x, kl_get(m, KL_F_finalizers)))
        if (kl_str_eqz(kl_text(x), f))
            return 0;
    struct kl_value *list = m ? kl_edit(a, m, KL_F_finalizers, KL_ARRAY) : NULL;
    return !list || kl_append(a, list, kl_stringz(f)) ? kl_admit_oom(ad) : 0;
}

static int protect_groups(struct kl_admit *ad)
{
    return kl_admit_is(ad, KL_RES_scheduling_v1alpha2_podgroups) &&
                   kl_gate_named_on(&ad->r->srv->gates, "GenericWorkload")
               ? add_finalizer(ad, "scheduling.k8s.io/podgroup-protection")
               : 0;
}

static int protect_volumes(struct kl_admit *ad)
{
    const char *f =
        kl_admit_is(ad, KL_RES_core_v1_persistentvolumeclaims) ? "kubernetes.io/pvc-protection"
        : kl_admit_is(ad, KL_RES_core_v1_persistentvolumes)    ? "kubernetes.io/pv-protection"
                                                               : NULL;
    return f ? add_finalizer(ad, f) : 0;
}

// ---- DenyServiceExternalIPs

static int no_new_external_ips(struct kl_admit *ad)
{
    if (!kl_admit_is(ad, KL_RES_core_v1_services))
        return 0;
    for (KL_EACH(ip, kl_path(ad->object, KL_F_spec, KL_F_externalIPs))) {
        bool had = false;
        for (KL_EACH(o, kl_path(ad->old, KL_F_spec, KL_F_externalIPs)))
            had |= kl_str_eq(kl_text(o), kl_text(ip));
        if (!had)
            return kl_admit_forbid(ad, "Use of external IPs is denied by admission control");
    }
    return 0;
}

// ---- AlwaysAdmit, AlwaysDeny

static int always_admit(struct kl_admit *ad)
{
    (void)ad;
    return 0;
}

static int always_deny(struct kl_admit *ad)
{
    return kl_admit_forbid(ad, "admission control is denying all modifications");
}

// clang-format off
#define C KL_ADMIT_CREATE
#define U KL_ADMIT_UPDATE
#define D KL_ADMIT_DELETE
#define ALL (C | U | D | KL_ADMIT_CONNECT)
#define ON true
#define OFF false

const struct kl_plugin kl_plugins[] = {
    {"AlwaysAdmit", NULL, always_admit, ALL, OFF},
    {"NamespaceAutoProvision", kl_namespace_provision_mutate, NULL, C, OFF},
    {"NamespaceLifecycle", kl_namespace_lifecycle_mutate, NULL, C | U | D, ON},
    {"NamespaceExists", NULL, kl_namespace_exists_validate, C | U | D, OFF},
    {"LimitPodHardAntiAffinityTopology", NULL, kl_anti_affinity_validate, C | U, OFF},
    {"LimitRanger", kl_limit_ranger_mutate, kl_limit_ranger_validate, C | U, ON},
    {"ServiceAccount", kl_service_account_mutate, kl_service_account_validate, C | U, ON},
    {"NodeRestriction", kl_node_restriction_mutate, NULL, C | U | D, ON},
    {"TaintNodesByCondition", taint_new_node, NULL, C, ON},
    {"AlwaysPullImages", kl_always_pull_mutate, kl_always_pull_validate, C | U, OFF},
    {"ImagePolicyWebhook", NULL, kl_images_validate, C | U, OFF},
    {"PodSecurity", NULL, kl_pod_security_validate, C | U, ON},
    {"PodNodeSelector", kl_node_selector_mutate, kl_node_selector_validate, C, OFF},
    {"Priority", kl_priority_mutate, kl_priority_validate, C | U, ON},
    {"DefaultTolerationSeconds", kl_default_tolerations_mutate, NULL, C | U, ON},
    {"PodTolerationRestriction",
     kl_toleration_restriction_mutate, kl_toleration_restriction_validate, C | U, OFF},
    {"EventRateLimit", NULL, kl_events_validate, C | U, OFF},
    {"ExtendedResourceToleration", kl_extended_toleration_mutate, NULL, C | U, OFF},
    {"DefaultStorageClass", kl_default_storage_class_mutate, NULL, C, ON},
    {"StorageObjectInUseProtection", protect_volumes, NULL, C, ON},
    {"PodGroupProtection", protect_groups, NULL, C, ON},
    {"OwnerReferencesPermissionEnforcement", NULL, kl_owners_validate, C | U, OFF},
    {"PersistentVolumeClaimResize", NULL, kl_claim_resize_validate, U, ON},
    {"RuntimeClass", kl_runtime_class_mutate, kl_runtime_class_validate, C, ON},
    {"CertificateApproval", NULL, kl_certificate_approval_validate, U, ON},
    {"CertificateSigning", NULL, kl_certificate_signing_validate, U, ON},
    {"ClusterTrustBundleAttest", NULL, kl_trust_bundle_validate, C | U, ON},
    {"CertificateSubjectRestriction", NULL, kl_certificate_subject_validate, C, ON},
    {"DefaultIngressClass", kl_default_ingress_class_mutate, NULL, C, ON},
    {"DenyServiceExternalIPs", NULL, no_new_external_ips, C | U, OFF},
    {"PodTopologyLabels", kl_topology_labels_mutate, NULL, C, ON},
    {"PodGroupWorkloadExists", NULL, kl_pod_group_workload_validate, C, ON},
    {"NodeDeclaredFeatureValidator", NULL, kl_declared_features_validate, U, ON},
    {"JobValidation", NULL, kl_job_validate, U, ON},
    {"PodResizeValidator", NULL, kl_pod_resize_validate, U, ON},
    {"MutatingAdmissionPolicy", .default_on = true, .stage = KL_STAGE_MAP},
    {"MutatingAdmissionWebhook", .default_on = true, .stage = KL_STAGE_MUTATING_WEBHOOKS},
    {"ValidatingAdmissionPolicy", .default_on = true, .stage = KL_STAGE_VAP},
    {"ValidatingAdmissionWebhook", .default_on = true, .stage = KL_STAGE_VALIDATING_WEBHOOKS},
    {"ResourceQuota", NULL, kl_resource_quota_validate, C | U, ON, .last = true},
    {"AlwaysDeny", always_deny, always_deny, ALL, OFF, .last = true},
};
// clang-format on
const size_t kl_nplugins = KL_COUNT(kl_plugins);
_Static_assert(KL_COUNT(kl_plugins) <= 64, "a set is one word");
