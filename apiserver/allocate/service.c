// SPDX-License-Identifier: Apache-2.0
// Services: what the registry gives them and takes back as they are written
// (registry/core/service/storage).
#include "apiserver/allocate/allocate.h"
#include "apiserver/strategy_int.h"

static bool reachable_from_outside(const struct kl_value *spec)
{
    struct kl_str type = kl_text(kl_get(spec, KL_F_type));
    return kl_str_eqz(type, "LoadBalancer") || kl_str_eqz(type, "NodePort") ||
           (kl_str_eqz(type, "ClusterIP") && kl_len(kl_get(spec, KL_F_externalIPs)));
}

static void drop_same(struct kl_req *r, struct kl_value *spec, const struct kl_value *os, kl_sym f)
{
    if (kl_value_equal(kl_get(spec, f), kl_get(os, f)))
        kl_unset(r->arena, spec, f);
}

// What a Service of the old type needed and one of the new type must not have goes unasked, if the
// client sent it back as it was (dropTypeDependentFields).
static int drop_dependent(struct kl_req *r, struct kl_value *spec, const struct kl_value *os)
{
    size_t n = kl_len(kl_get(spec, KL_F_ports));
    int rc = 0;
    if (kl_needs_node_ports(os) && !kl_needs_node_ports(spec)) {
        bool same = n == kl_len(kl_get(os, KL_F_ports));
        for (size_t i = 0; i < n && same; i++)
            same = kl_int_at(kl_at(kl_get(spec, KL_F_ports), i), 0, KL_F_nodePort) ==
                   kl_int_at(kl_at(kl_get(os, KL_F_ports), i), 0, KL_F_nodePort);
        for (size_t i = 0; i < n && same && !rc; i++)
            rc = kl_set_node_port(r, spec, i, 0);
    }
    if (kl_needs_health_port(os) && !kl_needs_health_port(spec) &&
        kl_int_at(spec, 0, KL_F_healthCheckNodePort) == kl_int_at(os, 0, KL_F_healthCheckNodePort))
        kl_unset(r->arena, spec, KL_F_healthCheckNodePort);
    if (kl_str_eqz(kl_text(kl_get(os, KL_F_type)), "LoadBalancer") &&
        !kl_str_eqz(kl_text(kl_get(spec, KL_F_type)), "LoadBalancer")) {
        drop_same(r, spec, os, KL_F_allocateLoadBalancerNodePorts);
        drop_same(r, spec, os, KL_F_loadBalancerClass);
    }
    if (reachable_from_outside(os) && !reachable_from_outside(spec))
        drop_same(r, spec, os, KL_F_externalTrafficPolicy);
    if (kl_str_eqz(kl_text(kl_get(spec, KL_F_type)), "ExternalName")) {
        static const kl_sym gone[] = {KL_F_clusterIP, KL_F_clusterIPs, KL_F_ipFamilies,
                                      KL_F_ipFamilyPolicy};
        for (size_t i = 0; i < KL_COUNT(gone); i++)
            kl_unset(r->arena, spec, gone[i]);
    }
    return rc;
}

static bool is_external(const struct kl_value *spec)
{
    return kl_str_eqz(kl_text(kl_get(spec, KL_F_type)), "ExternalName");
}

static bool is_headless(const struct kl_value *spec)
{
    return kl_str_eqz(kl_text(kl_at(kl_get(spec, KL_F_clusterIPs), 0)), "None");
}

// A client that knows of one address only sends, and changes, that one (normalizeClusterIPs).
static int normalize(struct kl_req *r, struct kl_value *spec, const struct kl_value *os)
{
    const struct kl_value *ip = kl_get(spec, KL_F_clusterIP), *ips = kl_get(spec, KL_F_clusterIPs);
    bool sent = !os && ip && !kl_len(ips);
    bool changed = os && !kl_value_equal(ip, kl_get(os, KL_F_clusterIP)) &&
                   kl_value_equal(ips, kl_get(os, KL_F_clusterIPs));
    if ((!sent && !changed) || !kl_text(ip).n)
        return 0;
    struct kl_value list = kl_new_array();
    if (kl_append(r->arena, &list, *ip) || kl_set(r->arena, spec, KL_F_clusterIPs, list))
        return kl_fail_oom(r), KL_ENOMEM;
    return 0;
}

static int give_all(struct kl_req *r, struct kl_value *draft, struct kl_value *spec,
                    const struct kl_value *os)
{
    int rc = kl_service_families(r, draft, spec, os);
    if (rc)
        return rc > 0 ? 0 : rc; // malformed: validation says how
    if (!is_headless(spec) && (rc = kl_claim_addresses(r, draft, spec, 0)))
        return rc;
    return kl_claim_ports(r, spec, NULL);
}

int kl_service_prepare_create(struct kl_req *r, struct kl_value *draft)
{
    struct kl_value *spec = kl_edit(r->arena, draft, KL_F_spec, KL_STRUCT);
    if (!spec)
        return kl_fail_oom(r), KL_ENOMEM;
    if (is_external(spec))
        return 0;
    int rc = normalize(r, spec, NULL);
    return rc ? rc : give_all(r, draft, spec, NULL);
}

// Another family comes, or the second one goes (updateClusterIPs).
static int update_addresses(struct kl_req *r, struct kl_value *draft, struct kl_value *spec,
                            const struct kl_value *os)
{
    size_t is = kl_len(kl_get(spec, KL_F_ipFamilies)), was = kl_len(kl_get(os, KL_F_ipFamilies));
    if (is_headless(os) || is_headless(spec))
        return 0;
    if (was == 1 && is == 2)
        return kl_claim_addresses(r, draft, spec, 1);
    if (was == 2 && is == 1)
        kl_release_addresses(r, os, 1);
    return 0;
}

int kl_service_prepare_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    struct kl_arena *a = r->arena;
    const struct kl_value *os = kl_get(old, KL_F_spec);
    struct kl_value *spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT);
    static const kl_sym kept[] = {KL_F_clusterIP, KL_F_clusterIPs, KL_F_ipFamilies,
                                  KL_F_ipFamilyPolicy};
    if (!spec)
        return kl_fail_oom(r), KL_ENOMEM;
    if (r->info.sub.n)
        return 0;
    bool external = is_external(spec), was_external = is_external(os);
    if (was_external && !external)
        return kl_service_prepare_create(r, draft);
    int rc = drop_dependent(r, spec, os);
    if (rc)
        return rc;
    for (size_t i = 0; !external && i < KL_COUNT(kept); i++) {
        const struct kl_value *v = kl_get(os, kept[i]), *now = kl_get(spec, kept[i]);
        bool empty = !now || (kept[i] == KL_F_clusterIP        ? !kl_text(now).n
                              : kept[i] == KL_F_ipFamilyPolicy ? false
                                                               : !kl_len(now));
        if (v && empty && kl_set(a, spec, kept[i], *v))
            return kl_fail_oom(r), KL_ENOMEM;
    }
    if (external) {
        if (!was_external)
            kl_release_addresses(r, os, 0);
        return kl_claim_ports(r, spec, os);
    }
    if ((rc = normalize(r, spec, os)) || (rc = kl_service_families(r, draft, spec, os)))
        return rc > 0 ? 0 : rc;
    rc = update_addresses(r, draft, spec, os);
    return rc ? rc : kl_claim_ports(r, spec, os);
}

// The claims of a Service that goes.
int kl_service_release(struct kl_req *r, const struct kl_value *old)
{
    struct kl_value none = kl_new_struct();
    kl_release_addresses(r, kl_get(old, KL_F_spec), 0);
    return kl_claim_ports(r, &none, kl_get(old, KL_F_spec));
}
