// SPDX-License-Identifier: Apache-2.0
#include "apiserver/deprecated.h"

// APILifecycleDeprecated, APILifecycleRemoved and APILifecycleReplacement of k8s.io/api. Stable
// ones come first: most requests look no further.
enum { STABLE = 2 };
static const struct {
    uint16_t res;
    struct kl_str warning;
    const char *removed; // in which release
} deprecated[] = {
    {KL_RES_core_v1_componentstatuses, KL_STR_INIT("v1 ComponentStatus is deprecated in v1.19+"),
     ""},
    {KL_RES_core_v1_endpoints,
     KL_STR_INIT("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
     ""},
    {KL_RES_admissionregistration_v1alpha1_mutatingadmissionpolicies,
     KL_STR_INIT("admissionregistration.k8s.io/v1alpha1 MutatingAdmissionPolicy is deprecated in "
                 "v1.35+, unavailable in v1.38+"),
     "1.38"},
    {KL_RES_admissionregistration_v1alpha1_mutatingadmissionpolicybindings,
     KL_STR_INIT("admissionregistration.k8s.io/v1alpha1 MutatingAdmissionPolicyBinding is "
                 "deprecated in v1.35+, unavailable in v1.38+"),
     "1.38"},
    {KL_RES_coordination_v1alpha2_leasecandidates,
     KL_STR_INIT("coordination.k8s.io/v1alpha2 LeaseCandidate is deprecated in v1.35+, unavailable "
                 "in v1.38+"),
     "1.38"},
    {KL_RES_coordination_v1beta1_leasecandidates,
     KL_STR_INIT("coordination.k8s.io/v1beta1 LeaseCandidate is deprecated in v1.36+, unavailable "
                 "in v1.39+"),
     "1.39"},
    {KL_RES_networking_v1beta1_ipaddresses,
     KL_STR_INIT(
         "networking.k8s.io/v1beta1 IPAddress is deprecated in v1.34+, unavailable in v1.37+"),
     "1.37"},
    {KL_RES_networking_v1beta1_servicecidrs,
     KL_STR_INIT(
         "networking.k8s.io/v1beta1 ServiceCIDR is deprecated in v1.34+, unavailable in v1.37+"),
     "1.37"},
    {KL_RES_resource_v1alpha3_devicetaintrules,
     KL_STR_INIT(
         "resource.k8s.io/v1alpha3 DeviceTaintRule is deprecated in v1.36+, unavailable in v1.39+"),
     "1.39"},
    {KL_RES_resource_v1beta1_deviceclasses,
     KL_STR_INIT(
         "resource.k8s.io/v1beta1 DeviceClass is deprecated in v1.35+, unavailable in v1.38+"),
     "1.38"},
    {KL_RES_resource_v1beta1_resourceclaims,
     KL_STR_INIT(
         "resource.k8s.io/v1beta1 ResourceClaim is deprecated in v1.35+, unavailable in v1.38+"),
     "1.38"},
    {KL_RES_resource_v1beta1_resourceclaimtemplates,
     KL_STR_INIT("resource.k8s.io/v1beta1 ResourceClaimTemplate is deprecated in v1.35+, "
                 "unavailable in v1.38+"),
     "1.38"},
    {KL_RES_resource_v1beta1_resourceslices,
     KL_STR_INIT(
         "resource.k8s.io/v1beta1 ResourceSlice is deprecated in v1.35+, unavailable in v1.38+"),
     "1.38"},
    {KL_RES_resource_v1beta2_deviceclasses,
     KL_STR_INIT(
         "resource.k8s.io/v1beta2 DeviceClass is deprecated in v1.36+, unavailable in v1.39+"),
     "1.39"},
    {KL_RES_resource_v1beta2_resourceclaims,
     KL_STR_INIT(
         "resource.k8s.io/v1beta2 ResourceClaim is deprecated in v1.36+, unavailable in v1.39+"),
     "1.39"},
    {KL_RES_resource_v1beta2_resourceclaimtemplates,
     KL_STR_INIT("resource.k8s.io/v1beta2 ResourceClaimTemplate is deprecated in v1.36+, "
                 "unavailable in v1.39+"),
     "1.39"},
    {KL_RES_resource_v1beta2_resourceslices,
     KL_STR_INIT(
         "resource.k8s.io/v1beta2 ResourceSlice is deprecated in v1.36+, unavailable in v1.39+"),
     "1.39"},
    {KL_RES_storage_v1beta1_volumeattributesclasses,
     KL_STR_INIT("storage.k8s.io/v1beta1 VolumeAttributesClass is deprecated in v1.34+, "
                 "unavailable in v1.37+; use storage.k8s.io/v1 VolumeAttributesClass"),
     "1.37"},
};

_Static_assert(KL_COUNT(deprecated) <= 32, "a bit for each that was asked for");

void kl_deprecated_note(struct kl_req *r)
{
    const struct kl_resource *res = r->info.res;
    size_t n = res && !strcmp(res->version, "v1") ? STABLE : KL_COUNT(deprecated);
    for (size_t i = 0; i < n; i++)
        if (res == kl_res(deprecated[i].res)) {
            kl_req_warn(r, deprecated[i].warning);
            kl_req_note(r, KL_STR("k8s.io/deprecated"), KL_STR("true"), false);
            if (*deprecated[i].removed)
                kl_req_note(r, KL_STR("k8s.io/removed-release"), kl_str(deprecated[i].removed),
                            false);
            atomic_fetch_or_explicit(&r->srv->deprecated, 1u << i, memory_order_relaxed);
        }
}

void kl_deprecated_metrics(struct kl_apiserver *s, struct kl_buf *b)
{
    unsigned asked = atomic_load_explicit(&s->deprecated, memory_order_relaxed);
    kl_buf_puts(b, KL_STR("# HELP apiserver_requested_deprecated_apis [STABLE] Gauge of deprecated "
                          "APIs that have been requested, broken out by API group, version, "
                          "resource, subresource, and removed_release.\n"
                          "# TYPE apiserver_requested_deprecated_apis gauge\n"));
    for (size_t i = 0; i < KL_COUNT(deprecated); i++) {
        const struct kl_resource *res = kl_res(deprecated[i].res);
        if (asked >> i & 1)
            kl_buf_printf(b,
                          "apiserver_requested_deprecated_apis{group=\"%s\",removed_release=\"%s\","
                          "resource=\"%s\",subresource=\"\",version=\"%s\"} 1\n",
                          res->group, deprecated[i].removed, res->plural, res->version);
    }
}
