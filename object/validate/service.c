// SPDX-License-Identifier: Apache-2.0
// Services and Endpoints.
#include "object/validate/earlier_int.h"
#include "object/validate/pod_int.h"

static const char *const protocols[] = {"SCTP", "TCP", "UDP", NULL};

static bool is_headless(const struct kl_value *spec)
{
    const struct kl_value *ips = kl_get(spec, KL_F_clusterIPs);
    return kl_len(ips) == 1 && kl_str_eqz(kl_text(kl_at(ips, 0)), "None");
}

static void check_type(struct kl_v *c, const struct kl_value *spec, struct kl_str type)
{
    const struct kl_vpath *p = &c->spec;
    bool balancer = kl_str_eqz(type, "LoadBalancer");
    if ((balancer || kl_str_eqz(type, "NodePort")) && is_headless(spec))
        kl_v_invalid_str(c, I(F(p, clusterIPs), 0), KL_STR("None"),
                         balancer ? "may not be set to 'None' for LoadBalancer services"
                                  : "may not be set to 'None' for NodePort services");
    if (!kl_str_eqz(type, "ExternalName"))
        return;
    static const char refused[] = "may not be set for ExternalName services";
    struct kl_str name = kl_text(kl_get(spec, KL_F_externalName));
    if (kl_len(kl_get(spec, KL_F_clusterIPs)))
        kl_v_forbidden(c, F(p, clusterIPs), refused);
    if (kl_len(kl_get(spec, KL_F_ipFamilies)))
        kl_v_forbidden(c, F(p, ipFamilies), refused);
    if (kl_get(spec, KL_F_ipFamilyPolicy))
        kl_v_forbidden(c, F(p, ipFamilyPolicy), refused);
    if (name.n && name.p[name.n - 1] == '.')
        name.n--;
    if (name.n)
        kl_v_format(c, F(p, externalName), name, KL_V_SUBDOMAIN);
    else
        kl_v_required(c, F(p, externalName), "");
}

static void check_port(struct kl_v *c, const struct kl_value *ports, size_t i, bool is_repeated,
                       const struct kl_vpath *p)
{
    const struct kl_value *v = kl_at(ports, i), *app = kl_get(v, KL_F_appProtocol);
    struct kl_str name = kl_text(kl_get(v, KL_F_name));
    struct kl_str protocol = kl_text(kl_get(v, KL_F_protocol));
    if (!name.n && kl_len(ports) > 1) {
        kl_v_required(c, F(p, name), "");
    } else if (name.n) {
        kl_v_format(c, F(p, name), name, KL_V_LABEL);
        if (is_repeated)
            kl_v_duplicate(c, F(p, name), name);
    }
    kl_v_port(c, F(p, port), kl_int_at(v, 0, KL_F_port));
    if (!protocol.n)
        kl_v_required(c, F(p, protocol), "");
    else if (!kl_v_in(protocol, protocols))
        kl_v_unsupported(c, F(p, protocol), protocol, protocols);
    kl_v_port_or_name(c, F(p, targetPort), kl_get(v, KL_F_targetPort));
    if (app)
        kl_v_format(c, F(p, appProtocol), kl_text(app), KL_V_QUALIFIED);
}

static void check_affinity(struct kl_v *c, const struct kl_value *spec)
{
    static const char *const kinds[] = {"ClientIP", "None", NULL};
    static const char when[] = "when session affinity type is ClientIP";
    struct kl_str s = kl_text(kl_get(spec, KL_F_sessionAffinity));
    const struct kl_value *config = kl_get(spec, KL_F_sessionAffinityConfig);
    const struct kl_value *ip = kl_get(config, KL_F_clientIP);
    const struct kl_value *timeout = kl_get(ip, KL_F_timeoutSeconds);
    const struct kl_vpath *p = F(&c->spec, sessionAffinityConfig);
    if (!s.n)
        kl_v_required(c, F(&c->spec, sessionAffinity), "");
    else if (!kl_v_in(s, kinds))
        kl_v_unsupported(c, F(&c->spec, sessionAffinity), s, kinds);
    if (kl_str_eqz(s, "None") && config)
        kl_v_forbidden(c, p, "must not be set when session affinity is None");
    if (!kl_str_eqz(s, "ClientIP"))
        return;
    if (!config)
        kl_v_required(c, p, when);
    else if (!ip)
        kl_v_required(c, F(p, clientIP), when);
    else if (!timeout)
        kl_v_required(c, F(F(p, clientIP), timeoutSeconds), when);
    else if (kl_int_or(timeout, 0) <= 0 || kl_int_or(timeout, 0) > 86400)
        kl_v_invalid_int(c, F(F(p, clientIP), timeoutSeconds), kl_int_or(timeout, 0),
                         "must be greater than 0 and less than 86400");
}

static const char *family_of(struct kl_str ip)
{
    return kl_v_ip_family(ip) == 6 ? "IPv6" : "IPv4";
}

// ValidateServiceClusterIPsRelatedFields
static void check_cluster_ips(struct kl_v *c, const struct kl_value *spec)
{
    static const char *const families[] = {"IPv4", "IPv6", NULL};
    static const char *const policies[] = {"PreferDualStack", "RequireDualStack", "SingleStack",
                                           NULL};
    const struct kl_value *ips = kl_get(spec, KL_F_clusterIPs),
                          *fams = kl_get(spec, KL_F_ipFamilies);
    const struct kl_value *policy = kl_get(spec, KL_F_ipFamilyPolicy);
    const struct kl_value *old = kl_get(kl_v_old_spec(c), KL_F_clusterIPs);
    struct kl_str ip = kl_text(kl_get(spec, KL_F_clusterIP)), first = kl_text(kl_at(ips, 0));
    const struct kl_vpath *p = F(&c->spec, clusterIPs), *fp = F(&c->spec, ipFamilies);
    bool bad = false;
    if (ip.n && !kl_len(ips))
        kl_v_required(c, p, "");
    else if (ip.n && !kl_str_eq(first, ip))
        kl_v_invalid(c, p, ips, "first value must match `clusterIP`");
    else if (!ip.n && kl_len(ips))
        kl_v_invalid(c, p, ips, "must be empty when `clusterIP` is not specified");
    for (size_t i = 0; i < kl_len(fams); i++) {
        struct kl_str f = kl_text(kl_at(fams, i));
        if (!kl_v_in(f, families))
            kl_v_unsupported(c, I(fp, i), f, families);
        for (size_t k = 0; k < i; k++)
            if (kl_str_eq(kl_text(kl_at(fams, k)), f)) {
                kl_v_duplicate(c, I(fp, i), f);
                break;
            }
    }
    if (policy && !kl_v_in(kl_text(policy), policies))
        kl_v_unsupported(c, F(&c->spec, ipFamilyPolicy), kl_text(policy), policies);
    for (size_t i = 0; i < kl_len(ips); i++) {
        struct kl_str s = kl_text(kl_at(ips, i));
        if (i == 0 && kl_str_eqz(s, "None")) {
            if (kl_len(ips) > 1) {
                bad = true;
                kl_v_invalid(c, p, ips, "'None' must be the first and only value");
            }
            continue;
        }
        if (!kl_has_text(old, s))
            bad |= !kl_v_ip(c, I(p, i), s, false);
    }
    if (kl_len(ips) > 2)
        kl_v_invalid(c, p, ips, "may only hold up to 2 values");
    if (bad)
        return;
    if (kl_len(ips) > 1) {
        bool v4 = false, v6 = false;
        for (KL_EACH(x, ips)) {
            v4 |= kl_v_ip_family(kl_text(x)) == 4;
            v6 |= kl_v_ip_family(kl_text(x)) == 6;
        }
        if (!v4 || !v6)
            kl_v_invalid(c, p, ips, "may specify no more than one IP for each IP family");
    }
    for (size_t i = 0; !is_headless(spec) && i < kl_len(ips) && i < kl_len(fams); i++) {
        struct kl_str s = kl_text(kl_at(ips, i)), f = kl_text(kl_at(fams, i));
        if (kl_v_in(f, families) && !kl_str_eqz(f, family_of(s)))
            kl_v_invalid_str(c, I(p, i), s,
                             kl_v_text(c,
                                       "expected an %.*s value as indicated by `ipFamilies[%zu]`",
                                       KL_PRI(f), i));
    }
}

static void check_port_clashes(struct kl_v *c, const struct kl_value *spec, struct kl_str type)
{
    const struct kl_value *ports = kl_get(spec, KL_F_ports);
    const struct kl_vpath *p = F(&c->spec, ports);
    for (size_t i = 0; kl_str_eqz(type, "ClusterIP") && i < kl_len(ports); i++)
        if (kl_int_at(kl_at(ports, i), 0, KL_F_nodePort))
            kl_v_forbidden(c, F(I(p, i), nodePort), "may not be used when `type` is 'ClusterIP'");
    static const kl_sym by_node_port[] = {KL_F_nodePort, KL_F_protocol},
                        by_port[] = {KL_F_port, KL_F_protocol};
    const uint32_t *node_ports = kl_v_earlier(c, ports, by_node_port, KL_COUNT(by_node_port)),
                   *numbers = kl_v_earlier(c, ports, by_port, KL_COUNT(by_port));
    if (!node_ports || !numbers)
        return;
    for (size_t i = 0; i < kl_len(ports); i++) {
        int64_t port = kl_int_at(kl_at(ports, i), 0, KL_F_nodePort);
        if (port && node_ports[i] != KL_V_NONE)
            kl_v_duplicate_text(c, F(I(p, i), nodePort),
                                kl_str(kl_v_text(c, "%lld", (long long)port)));
    }
    for (size_t i = 0; i < kl_len(ports); i++) {
        const struct kl_value *v = kl_at(ports, i);
        // Upstream shows a ServicePort of which only these two are set.
        if (numbers[i] != KL_V_NONE)
            kl_v_duplicate_text(
                c, I(p, i),
                kl_str(kl_v_text(c,
                                 "{\"Name\":\"\",\"Protocol\":\"%.*s\",\"AppProtocol\":null,"
                                 "\"Port\":%lld,\"TargetPort\":0,\"NodePort\":0}",
                                 KL_PRI(kl_text(kl_get(v, KL_F_protocol))),
                                 (long long)kl_int_at(v, 0, KL_F_port))));
    }
}

static void check_source_ranges(struct kl_v *c, const struct kl_value *spec, bool balancer)
{
    static const char key[] = "service.beta.kubernetes.io/load-balancer-source-ranges";
    const struct kl_value *ranges = kl_get(spec, KL_F_loadBalancerSourceRanges);
    const struct kl_value *old = kl_get(kl_v_old_spec(c), KL_F_loadBalancerSourceRanges);
    const struct kl_value *annotation = kl_map_value(kl_meta_annotations(c->now), kl_str(key));
    const struct kl_vpath *p = N(&c->spec, "LoadBalancerSourceRanges");
    size_t i = 0;
    if (!kl_len(ranges) && !annotation)
        return;
    if (!kl_len(ranges))
        p = K(F(&c->meta, annotations), kl_str(key));
    if (!balancer)
        kl_v_forbidden(c, p, "may only be used when `type` is 'LoadBalancer'");
    for (KL_EACH(r, ranges)) {
        struct kl_str s = kl_str_trim(kl_text(r));
        bool had = false;
        for (KL_EACH(o, old))
            had |= kl_str_eq(kl_str_trim(kl_text(o)), s);
        if (!had)
            kl_v_cidr(c, I(p, i), s, false);
        i++;
    }
    struct kl_str rest = kl_str_trim(kl_text(annotation)), part;
    if (kl_len(ranges) || !rest.n ||
        kl_value_equal(annotation, kl_map_value(kl_meta_annotations(c->old), kl_str(key))))
        return;
    while (kl_str_split(&rest, ',', &part))
        kl_v_cidr(c, p, kl_str_trim(part), false);
}

static bool needs_health_check(const struct kl_value *spec)
{
    return kl_v_is(spec, KL_F_type, "LoadBalancer") &&
           kl_v_is(spec, KL_F_externalTrafficPolicy, "Local");
}

static void check_traffic(struct kl_v *c, const struct kl_value *spec, struct kl_str type)
{
    static const char *const outer[] = {"Cluster", "Local", NULL};
    static const char *const distributions[] = {"PreferClose", "PreferSameZone", "PreferSameNode",
                                                NULL};
    const struct kl_vpath *p = &c->spec;
    struct kl_str policy = kl_text(kl_get(spec, KL_F_externalTrafficPolicy));
    const struct kl_value *inner = kl_get(spec, KL_F_internalTrafficPolicy);
    const struct kl_value *distribution = kl_get(spec, KL_F_trafficDistribution);
    int64_t port = kl_int_at(spec, 0, KL_F_healthCheckNodePort);
    bool balancer = kl_str_eqz(type, "LoadBalancer"), node = kl_str_eqz(type, "NodePort");
    bool cluster = kl_str_eqz(type, "ClusterIP");
    bool reachable = balancer || node || (cluster && kl_len(kl_get(spec, KL_F_externalIPs)));
    if (!reachable && policy.n)
        kl_v_invalid_str(c, F(p, externalTrafficPolicy), policy,
                         "may only be set for externally-accessible services");
    else if (reachable && !policy.n)
        kl_v_required(c, F(p, externalTrafficPolicy), "");
    else if (reachable && !kl_v_in(policy, outer))
        kl_v_unsupported(c, F(p, externalTrafficPolicy), policy, outer);
    if (!needs_health_check(spec) && port)
        kl_v_invalid_int(
            c, F(p, healthCheckNodePort), port,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
    else if (needs_health_check(spec) && !port)
        kl_v_required(c, F(p, healthCheckNodePort), "");
    else if (needs_health_check(spec))
        kl_v_port(c, F(p, healthCheckNodePort), port);
    if (!inner && (balancer || node || cluster))
        kl_v_required(c, F(p, internalTrafficPolicy), "");
    if (inner && !kl_v_in(kl_text(inner), outer))
        kl_v_unsupported(c, F(p, internalTrafficPolicy), kl_text(inner), outer);
    if (distribution && !kl_v_in(kl_text(distribution), distributions))
        kl_v_unsupported(c, F(p, trafficDistribution), kl_text(distribution), distributions);
}

static void check_class(struct kl_v *c, const struct kl_value *spec)
{
    const struct kl_value *class = kl_get(spec, KL_F_loadBalancerClass);
    const struct kl_vpath *p = F(&c->spec, loadBalancerClass);
    if (class && kl_v_is(spec, KL_F_type, "LoadBalancer"))
        kl_v_format(c, p, kl_text(class), KL_V_QUALIFIED);
    else if (class)
        kl_v_forbidden(c, p, "may only be used when `type` is 'LoadBalancer'");
}

static void check_external_ips(struct kl_v *c, const struct kl_value *spec)
{
    const struct kl_value *old = kl_get(kl_v_old_spec(c), KL_F_externalIPs);
    size_t i = 0;
    for (KL_EACH(x, kl_get(spec, KL_F_externalIPs))) {
        const struct kl_vpath *p = I(F(&c->spec, externalIPs), i++);
        if (kl_has_text(old, kl_text(x)) || kl_v_ip(c, p, kl_text(x), false))
            kl_v_endpoint_ip(c, p, kl_text(x));
    }
}

// validateService
static void check_service(struct kl_v *c)
{
    static const char hints[] = "service.kubernetes.io/topology-aware-hints";
    static const char mode[] = "service.kubernetes.io/topology-mode";
    static const char *const types[] = {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort",
                                        NULL};
    const struct kl_value *spec = kl_v_spec(c), *ports = kl_get(spec, KL_F_ports);
    const struct kl_value *annotations = kl_meta_annotations(c->now);
    const struct kl_value *h = kl_map_value(annotations, kl_str(hints));
    const struct kl_value *m = kl_map_value(annotations, kl_str(mode));
    struct kl_str type = kl_text(kl_get(spec, KL_F_type));
    bool balancer = kl_str_eqz(type, "LoadBalancer");
    if (h && m && !kl_value_equal(h, m))
        kl_v_invalid_str(c, K(F(&c->meta, annotations), kl_str(mode)), kl_text(m),
                         kl_v_text(c, "must match annotations[%s] when both are specified", hints));
    if (!kl_len(ports) && !is_headless(spec) && !kl_str_eqz(type, "ExternalName"))
        kl_v_required(c, F(&c->spec, ports), "");
    check_type(c, spec, type);
    const uint32_t *names = kl_v_earlier(c, ports, (const kl_sym[]){KL_F_name}, 1);
    for (size_t i = 0; names && i < kl_len(ports); i++)
        check_port(c, ports, i, names[i] != KL_V_NONE, I(F(&c->spec, ports), i));
    kl_v_labels(c, F(&c->spec, selector), kl_get(spec, KL_F_selector));
    check_affinity(c, spec);
    if (!kl_str_eqz(type, "ExternalName"))
        check_cluster_ips(c, spec);
    check_external_ips(c, spec);
    if (!type.n)
        kl_v_required(c, F(&c->spec, type), "");
    else if (!kl_v_in(type, types))
        kl_v_unsupported(c, F(&c->spec, type), type, types);
    check_port_clashes(c, spec, type);
    check_source_ranges(c, spec, balancer);
    const struct kl_value *allocate = kl_get(spec, KL_F_allocateLoadBalancerNodePorts);
    if (allocate && !balancer)
        kl_v_forbidden(c, F(&c->spec, allocateLoadBalancerNodePorts),
                       "may only be used when `type` is 'LoadBalancer'");
    if (!allocate && balancer)
        kl_v_required(c, F(NULL, allocateLoadBalancerNodePorts), "");
    check_class(c, spec);
    check_traffic(c, spec, type);
}

static void create_service(struct kl_v *c)
{
    kl_v_meta(c, KL_V_LABEL);
    check_service(c);
}

// ---- what an update may do with addresses and families

static bool single_stack(const struct kl_value *spec)
{
    return kl_v_is(spec, KL_F_ipFamilyPolicy, "SingleStack");
}

static void check_ip_changes(struct kl_v *c, const struct kl_value *now, const struct kl_value *old)
{
    const struct kl_value *is = kl_get(now, KL_F_clusterIPs), *was = kl_get(old, KL_F_clusterIPs);
    const struct kl_vpath *p = F(&c->spec, clusterIPs);
    size_t n = kl_len(is), m = kl_len(was);
    bool other = n && m && !kl_value_equal(kl_at(is, 0), kl_at(was, 0));
    if (n == m) {
        for (size_t i = 0; i < n; i++)
            if (!kl_value_equal(kl_at(is, i), kl_at(was, i)))
                kl_v_invalid(c, I(p, i), is, "may not change once set");
        return;
    }
    if (m > n && !n)
        kl_v_invalid(c, I(p, 0), NULL, "primary clusterIP can not be unset");
    if (other)
        kl_v_invalid(c, I(p, 0), is, "may not change once set");
    if (m > n && n == 1 && !single_stack(now))
        kl_v_invalid(c, F(&c->spec, ipFamilyPolicy), kl_get(now, KL_F_ipFamilyPolicy),
                     "must be set to 'SingleStack' when releasing the secondary clusterIP");
}

static void check_family_changes(struct kl_v *c, const struct kl_value *now,
                                 const struct kl_value *old)
{
    const struct kl_value *is = kl_get(now, KL_F_ipFamilies), *was = kl_get(old, KL_F_ipFamilies);
    const struct kl_value *ips = kl_get(now, KL_F_clusterIPs);
    const struct kl_vpath *p = I(F(&c->spec, ipFamilies), 0);
    size_t n = kl_len(is), m = kl_len(was);
    bool other = n && m && !kl_value_equal(kl_at(is, 0), kl_at(was, 0));
    if (n == m) {
        for (size_t i = 0; i < n; i++)
            if (!kl_value_equal(kl_at(is, i), kl_at(was, i)))
                kl_v_invalid(c, p, is, "may not change once set");
        return;
    }
    if (m > n && !kl_len(ips))
        kl_v_invalid(c, p, is, "primary ipFamily can not be unset");
    if (other)
        kl_v_invalid(c, p, ips, "may not change once set");
    if (m > n && n == 1 && !single_stack(now))
        kl_v_invalid(c, F(&c->spec, ipFamilyPolicy), kl_get(now, KL_F_ipFamilyPolicy),
                     "must be set to 'SingleStack' when releasing the secondary ipFamily");
}

static void update_service(struct kl_v *c)
{
    const struct kl_value *now = kl_v_spec(c), *old = kl_v_old_spec(c);
    bool named = kl_v_is(now, KL_F_type, "ExternalName") || kl_v_is(old, KL_F_type, "ExternalName");
    bool both = kl_v_is(now, KL_F_type, "LoadBalancer") && kl_v_is(old, KL_F_type, "LoadBalancer");
    const struct kl_value *class = kl_get(now, KL_F_loadBalancerClass);
    kl_v_meta_update(c);
    if (!named && !(is_headless(now) && is_headless(old)))
        check_ip_changes(c, now, old);
    if (!named && !is_headless(now) && !is_headless(old))
        check_family_changes(c, now, old);
    if (both && !kl_value_equal(class, kl_get(old, KL_F_loadBalancerClass)))
        kl_v_invalid(c, F(&c->spec, loadBalancerClass), class, "may not change once set");
    check_class(c, now);
    if (needs_health_check(now) && needs_health_check(old) &&
        kl_int_at(now, 0, KL_F_healthCheckNodePort) != kl_int_at(old, 0, KL_F_healthCheckNodePort))
        kl_v_forbidden(c, F(&c->spec, healthCheckNodePort), "field is immutable");
    check_service(c);
}

void kl_v_balancer_status(struct kl_v *c, bool any_type)
{
    static const char *const modes[] = {"Proxy", "VIP", NULL};
    const kl_sym lb = KL_F_loadBalancer;
    const struct kl_value *now = kl_path(c->now, KL_F_status, lb, KL_F_ingress);
    const struct kl_value *old = kl_path(c->old, KL_F_status, lb, KL_F_ingress);
    const struct kl_vpath *p = F(FS(&c->status, lb), ingress);
    if (!any_type && !kl_v_is(kl_v_spec(c), KL_F_type, "LoadBalancer") && kl_len(now)) {
        kl_v_forbidden(c, p, "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    size_t i = 0;
    for (KL_EACH(v, now)) {
        const struct kl_vpath *at = I(p, i++);
        struct kl_str ip = kl_text(kl_get(v, KL_F_ip)), host = kl_text(kl_get(v, KL_F_hostname));
        const struct kl_value *mode = kl_get(v, KL_F_ipMode);
        bool had = false;
        for (KL_EACH(o, old))
            had |= kl_str_eq(kl_text(kl_get(o, KL_F_ip)), ip);
        if (ip.n && !had)
            kl_v_ip(c, F(at, ip), ip, false);
        if (any_type)
            ;
        else if (!mode && ip.n)
            kl_v_required(c, F(at, ipMode), "must be specified when `ip` is set");
        else if (mode && !ip.n)
            kl_v_forbidden(c, F(at, ipMode), "may not be specified when `ip` is not set");
        else if (mode && !kl_v_in(kl_text(mode), modes))
            kl_v_unsupported(c, F(at, ipMode), kl_text(mode), modes);
        if (!host.n)
            continue;
        kl_v_format(c, F(at, hostname), host, KL_V_SUBDOMAIN);
        if (kl_v_ip_family(host))
            kl_v_invalid_str(c, F(at, hostname), host, "must be a DNS name, not an IP address");
    }
}

static void status_service(struct kl_v *c)
{
    kl_v_meta_update(c);
    kl_v_balancer_status(c, false);
}

// ---- Endpoints

static void check_address(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str ip = kl_text(kl_get(v, KL_F_ip)), host = kl_text(kl_get(v, KL_F_hostname));
    const struct kl_value *node = kl_get(v, KL_F_nodeName);
    kl_v_ip(c, F(p, ip), ip, false);
    if (host.n)
        kl_v_format(c, F(p, hostname), host, KL_V_LABEL);
    if (node)
        kl_v_format(c, F(p, nodeName), kl_text(node), KL_V_SUBDOMAIN);
    kl_v_endpoint_ip(c, F(p, ip), ip);
}

static void check_endpoint_port(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const struct kl_rule rules[] = {R_FORMAT(name, KL_V_LABEL), R_RANGE_ANY(port, 1, 65535),
                                           R_NEED_ENUM(protocol, protocols), R_END};
    const struct kl_value *app = kl_get(v, KL_F_appProtocol);
    kl_v_walk(c, rules, v, p);
    if (app)
        kl_v_format(c, F(p, appProtocol), kl_text(app), KL_V_QUALIFIED);
}

static void check_subset(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const struct kl_rule rules[] = {R_EACH_ON(addresses, check_address),
                                           R_EACH_ON(notReadyAddresses, check_address), R_END};
    const struct kl_value *ports = kl_get(v, KL_F_ports);
    size_t i = 0;
    if (!kl_len(kl_get(v, KL_F_addresses)) && !kl_len(kl_get(v, KL_F_notReadyAddresses)))
        kl_v_required(c, p, "must specify `addresses` or `notReadyAddresses`");
    kl_v_walk(c, rules, v, p);
    for (KL_EACH(port, ports)) {
        const struct kl_vpath *at = I(F(p, ports), i++);
        if (kl_len(ports) > 1 && !kl_text(kl_get(port, KL_F_name)).n)
            kl_v_required(c, F(at, name), "");
        check_endpoint_port(c, port, at);
    }
}

static void create_endpoints(struct kl_v *c)
{
    static const struct kl_rule rules[] = {R_EACH_ON(subsets, check_subset), R_END};
    kl_v_meta(c, KL_V_SUBDOMAIN);
    // What was let in once stays as long as it is not touched.
    if (!c->old || !kl_value_equal(kl_get(c->now, KL_F_subsets), kl_get(c->old, KL_F_subsets)))
        kl_v_walk(c, rules, c->now, NULL);
}

static void update_endpoints(struct kl_v *c)
{
    kl_v_meta_update(c);
    create_endpoints(c);
}

const struct kl_v_kind kl_v_services[] = {
    {KL_RES_core_v1_services, create_service, update_service, status_service, NULL, NULL},
    {KL_RES_core_v1_endpoints, create_endpoints, update_endpoints, NULL, NULL, NULL},
    {0},
};
