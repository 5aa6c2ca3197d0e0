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

// ---- StorageObjectInUseProtection

static int protect_volumes(struct kl_admit *ad)
{
    struct kl_arena *a = ad->r->arena;
    const char *f =
        kl_admit_is(ad, KL_RES_core_v1_persistentvolumeclaims) ? "kubernetes.io/pvc-protection"
        : kl_admit_is(ad, KL_RES_core_v1_persistentvolumes)    ? "kubernetes.io/pv-protection"
                                                               : NULL;
    if (!f)
        return 0;
    struct kl_value *m = kl_edit(a, ad->draft, KL_F_metadata, KL_STRUCT);
    for (KL_EACH(x, kl_get(m, KL_F_finalizers)))
        if (kl_str_eqz(kl_text(x), f))
            return 0;
    struct kl_value *list = m ? kl_edit(a, m, KL_F_finalizers, KL_ARRAY) : NULL;
    return !list || kl_append(a, list, kl_stringz(f)) ? kl_admit_oom(ad) : 0;
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
#define ON .default_on = true

const struct kl_plugin kl_plugins[] = {
    {"AlwaysAdmit", .validate = always_admit, .operations = ALL},
    {"NamespaceLifecycle", .mutate = kl_namespace_lifecycle_mutate, .operations = C | U | D, ON},
    {"NamespaceExists", .validate = kl_namespace_exists_validate, .operations = C | U | D},
    {"LimitPodHardAntiAffinityTopology", .validate = kl_anti_affinity_validate, .operations = C | U},
    {"LimitRanger", .mutate = kl_limit_ranger_mutate, .validate = kl_limit_ranger_validate, .operations = C | U, ON},
    {"ServiceAccount", .mutate = kl_service_account_mutate, .validate = kl_service_account_validate, .operations = C | U, ON},
    {"NodeRestriction", .mutate = kl_node_restriction_mutate, .operations = C | U | D, ON},
    {"TaintNodesByCondition", .mutate = taint_new_node, .operations = C, ON},
    {"AlwaysPullImages", .mutate = kl_always_pull_mutate, .validate = kl_always_pull_validate, .operations = C | U},
    {"PodSecurity", .validate = kl_pod_security_validate, .operations = C | U, ON},
    {"PodNodeSelector", .mutate = kl_node_selector_mutate, .validate = kl_node_selector_validate, .operations = C},
    {"Priority", .mutate = kl_priority_mutate, .validate = kl_priority_validate, .operations = C | U, ON},
    {"DefaultTolerationSeconds", .mutate = kl_default_tolerations_mutate, .operations = C | U, ON},
    {"PodTolerationRestriction", .mutate = kl_toleration_restriction_mutate, .validate = kl_toleration_restriction_validate, .operations = C | U},
    {"ExtendedResourceToleration", .mutate = kl_extended_toleration_mutate, .operations = C | U},
    {"DefaultStorageClass", .mutate = kl_default_storage_class_mutate, .operations = C, ON},
    {"StorageObjectInUseProtection", .mutate = protect_volumes, .operations = C, ON},
    {"PersistentVolumeClaimResize", .validate = kl_claim_resize_validate, .operations = U, ON},
    {"RuntimeClass", .mutate = kl_runtime_class_mutate, .validate = kl_runtime_class_validate, .operations = C, ON},
    {"CertificateApproval", .validate = kl_certificate_approval_validate, .operations = U, ON},
    {"CertificateSigning", .validate = kl_certificate_signing_validate, .operations = U, ON},
    {"ClusterTrustBundleAttest", .validate = kl_trust_bundle_validate, .operations = C | U, ON},
    {"CertificateSubjectRestriction", .validate = kl_certificate_subject_validate, .operations = C, ON},
    {"DefaultIngressClass", .mutate = kl_default_ingress_class_mutate, .operations = C, ON},
    {"DenyServiceExternalIPs", .validate = no_new_external_ips, .operations = C | U},
    {"PodTopologyLabels", .mutate = kl_topology_labels_mutate, .operations = C, ON},
    {"PodResizeValidator", .validate = kl_pod_resize_validate, .operations = U, ON},
    {"MutatingAdmissionPolicy", .default_on = true, .stage = KL_STAGE_MAP},
    {"MutatingAdmissionWebhook", .default_on = true, .stage = KL_STAGE_MUTATING_WEBHOOKS},
    {"ValidatingAdmissionPolicy", .default_on = true, .stage = KL_STAGE_VAP},
    {"ValidatingAdmissionWebhook", .default_on = true, .stage = KL_STAGE_VALIDATING_WEBHOOKS},
    {"ResourceQuota", .validate = kl_resource_quota_validate, .operations = C | U, ON, .last = true},
    {"AlwaysDeny", .mutate = always_deny, .validate = always_deny, .operations = ALL, .last = true},
};
// clang-format on
const size_t kl_nplugins = KL_COUNT(kl_plugins);
_Static_assert(KL_COUNT(kl_plugins) <= 64, "a set is one word");
