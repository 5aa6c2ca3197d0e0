// SPDX-License-Identifier: Apache-2.0
// Warnings of services, endpoints, ingresses and network policies: addresses that are read in more
// than one way, and what is not used any more.
#include "object/validate/warn_int.h"

static const char *const no_address = "None";

static void warn_addresses(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    size_t i = 0;
    for (KL_EACH(x, list))
        kl_warn_ip(c, I(p, i++), kl_text(x));
}

// What a load balancer's address is: the item's own path, as upstream has it.
static void warn_balancer(struct kl_v *c)
{
    const struct kl_vpath *p = F(F(&c->status, loadBalancer), ingress);
    size_t i = 0;
    for (KL_EACH(x, kl_path(c->now, KL_F_status, KL_F_loadBalancer, KL_F_ingress))) {
        struct kl_str ip = kl_text(kl_get(x, KL_F_ip));
        if (ip.n)
            kl_warn_ip(c, I(p, i), ip);
        i++;
    }
}

// ---- services

static void warn_headless(struct kl_v *c, const struct kl_value *spec)
{
    if (kl_text(kl_get(spec, KL_F_loadBalancerIP)).n)
        kl_warn(c, NULL, "spec.loadBalancerIP is ignored for headless services");
    if (kl_len(kl_get(spec, KL_F_externalIPs)))
        kl_warn(c, NULL, "spec.externalIPs is ignored for headless services");
    if (!kl_v_is(spec, KL_F_sessionAffinity, "None"))
        kl_warn(c, NULL, "spec.SessionAffinity is ignored for headless services");
}

static void warn_service(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c), *external = kl_get(spec, KL_F_externalIPs);
    struct kl_str balancer = kl_text(kl_get(spec, KL_F_loadBalancerIP));
    bool named = kl_v_is(spec, KL_F_type, "ExternalName");
    bool headless =
        kl_v_is(spec, KL_F_type, "ClusterIP") && kl_v_is(spec, KL_F_clusterIP, no_address);
    if (kl_map_value(kl_meta_annotations(c->now),
                     KL_STR("service.kubernetes.io/topology-aware-hints")))
        kl_warn(c, NULL,
                "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use "
                "service.kubernetes.io/topology-mode instead");
    if (kl_text(kl_get(spec, KL_F_clusterIP)).n && !kl_v_is(spec, KL_F_clusterIP, no_address))
        warn_addresses(c, kl_get(spec, KL_F_clusterIPs), F(&c->spec, clusterIPs));
    if (headless)
        warn_headless(c, spec);
    warn_addresses(c, external, F(&c->spec, externalIPs));
    if (kl_len(external) && !headless && !named)
        kl_warn(c, NULL,
                "spec.externalIPs is deprecated and may no longer be implemented in some clusters");
    if (balancer.n)
        kl_warn_ip(c, F(&c->spec, loadBalancerIP), balancer);
    size_t i = 0;
    for (KL_EACH(x, kl_get(spec, KL_F_loadBalancerSourceRanges)))
        kl_warn_cidr(c, I(F(&c->spec, loadBalancerSourceRanges), i++), kl_text(x));
    if (named && kl_len(external))
        kl_warn(c, NULL, "spec.externalIPs is ignored when spec.type is \"ExternalName\"");
    if (!named && kl_text(kl_get(spec, KL_F_externalName)).n)
        kl_warn(c, NULL, "spec.externalName is ignored when spec.type is not \"ExternalName\"");
    if (kl_v_is(spec, KL_F_trafficDistribution, "PreferClose"))
        kl_warn(c, NULL,
                "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"");
}

const struct kl_warn_kind kl_warn_services = {.both = warn_service, .status = warn_balancer};

// ---- endpoints

static bool is_labelled(const struct kl_v *c, const char *label, const char *value)
{
    return kl_str_eqz(kl_text(kl_map_value(kl_meta_labels(c->now), kl_str(label))), value);
}

static void warn_ready(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    size_t i = 0;
    for (KL_EACH(x, list))
        kl_warn_ip(c, F(I(p, i++), ip), kl_text(kl_get(x, KL_F_ip)));
}

static void warn_endpoints(struct kl_v *c)
{
    const struct kl_vpath *p = F(NULL, subsets);
    size_t i = 0;
    // The controller puts addresses right itself.
    if (is_labelled(c, "endpoints.kubernetes.io/managed-by", "endpoint-controller"))
        return;
    for (KL_EACH(s, kl_get(c->now, KL_F_subsets))) {
        warn_ready(c, kl_get(s, KL_F_addresses), F(I(p, i), addresses));
        warn_ready(c, kl_get(s, KL_F_notReadyAddresses), F(I(p, i), notReadyAddresses));
        i++;
    }
}

const struct kl_warn_kind kl_warn_endpoints = {.both = warn_endpoints};

static void warn_slice(struct kl_v *c)
{
    static const char label[] = "endpointslice.kubernetes.io/managed-by";
    const struct kl_vpath *p = F(NULL, endpoints);
    size_t i = 0;
    if (is_labelled(c, label, "endpointslice-controller.k8s.io") ||
        is_labelled(c, label, "endpointslicemirroring-controller.k8s.io"))
        return;
    for (KL_EACH(e, kl_get(c->now, KL_F_endpoints)))
        warn_addresses(c, kl_get(e, KL_F_addresses), F(I(p, i++), addresses));
}

static void warn_new_slice(struct kl_v *c)
{
    if (kl_v_is(c->now, KL_F_addressType, "FQDN"))
        kl_warn(c, F(&c->spec, addressType), "FQDN endpoints are deprecated");
    warn_slice(c);
}

const struct kl_warn_kind kl_warn_endpoint_slices = {.create = warn_new_slice, .both = warn_slice};

// ---- ingresses: what an update says nothing of

static void warn_ingress(struct kl_v *c)
{
    if (kl_map_value(kl_meta_annotations(c->now), KL_STR("kubernetes.io/ingress.class")) &&
        !kl_get(kl_v_spec(c), KL_F_ingressClassName))
        kl_warn(c, NULL,
                "annotation \"kubernetes.io/ingress.class\" is deprecated, please use "
                "'spec.ingressClassName' instead");
}

const struct kl_warn_kind kl_warn_ingresses = {.create = warn_ingress, .status = warn_balancer};

// ---- network policies

static void warn_peers(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    size_t i = 0;
    for (KL_EACH(x, list)) {
        const struct kl_value *block = kl_get(x, KL_F_ipBlock);
        const struct kl_vpath *at = F(I(p, i++), ipBlock);
        size_t k = 0;
        if (!block)
            continue;
        kl_warn_cidr(c, F(at, cidr), kl_text(kl_get(block, KL_F_cidr)));
        for (KL_EACH(e, kl_get(block, KL_F_except)))
            kl_warn_cidr(c, I(F(at, except), k++), kl_text(e));
    }
}

static void warn_policy(struct kl_v *c)
{
    size_t i = 0, k = 0;
    for (KL_EACH(x, kl_get(kl_v_spec(c), KL_F_ingress)))
        warn_peers(c, kl_get(x, KL_F_from), F(I(F(&c->spec, ingress), i++), from));
    for (KL_EACH(x, kl_get(kl_v_spec(c), KL_F_egress)))
        warn_peers(c, kl_get(x, KL_F_to), F(I(F(&c->spec, egress), k++), to));
}

const struct kl_warn_kind kl_warn_policies = {.both = warn_policy};
