// SPDX-License-Identifier: Apache-2.0
// networking.k8s.io and discovery.k8s.io.
#include "object/validate/pod_int.h"

static bool has(struct kl_str s, const char *part)
{
    return memmem(s.p, s.n, part, strlen(part)) != NULL;
}

// ---- NetworkPolicies

static void check_policy_port(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const protocols[] = {"TCP", "UDP", "SCTP", NULL};
    static const struct kl_rule rules[] = {R_ENUM(protocol, protocols), R_END};
    const struct kl_value *port = kl_get(v, KL_F_port), *end = kl_get(v, KL_F_endPort);
    kl_v_walk(c, rules, v, p);
    if (!port) {
        if (end)
            kl_v_invalid(c, F(p, endPort), end,
                         "may not be specified when `port` is not specified");
    } else if (kl_is(port, KL_INT)) {
        kl_v_port(c, F(p, port), kl_int_or(port, 0));
        if (end && kl_int_or(end, 0) < kl_int_or(port, 0))
            kl_v_invalid(c, F(p, endPort), port, "must be greater than or equal to `port`");
        if (end)
            kl_v_port(c, F(p, endPort), kl_int_or(end, 0));
    } else {
        if (end)
            kl_v_invalid(c, F(p, endPort), end, "may not be specified when `port` is non-numeric");
        kl_v_format(c, F(p, port), kl_text(port), KL_V_PORT_NAME);
    }
}

// A network that the policy had already is not looked at again, wherever it stands now.
static bool had_network(const struct kl_v *c, struct kl_str cidr)
{
    static const kl_sym lists[][2] = {{KL_F_ingress, KL_F_from}, {KL_F_egress, KL_F_to}};
    for (size_t l = 0; l < KL_COUNT(lists); l++)
        for (KL_EACH(rule, kl_get(kl_v_old_spec(c), lists[l][0])))
            for (KL_EACH(peer, kl_get(rule, lists[l][1]))) {
                const struct kl_value *block = kl_get(peer, KL_F_ipBlock);
                if (block && kl_str_eq(kl_text(kl_get(block, KL_F_cidr)), cidr))
                    return true;
                for (KL_EACH(x, kl_get(block, KL_F_except)))
                    if (kl_str_eq(kl_text(x), cidr))
                        return true;
            }
    return false;
}

static void check_block(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str cidr = kl_text(kl_get(v, KL_F_cidr));
    size_t i = 0;
    if (!cidr.n) {
        kl_v_required(c, F(p, cidr), "");
        return;
    }
    if (!had_network(c, cidr))
        kl_v_cidr(c, F(p, cidr), cidr, false);
    if (!kl_v_cidr_family(cidr))
        return;
    for (KL_EACH(x, kl_get(v, KL_F_except))) {
        const struct kl_vpath *at = I(F(p, except), i++);
        if (!had_network(c, kl_text(x)))
            kl_v_cidr(c, at, kl_text(x), false);
        if (kl_v_cidr_family(kl_text(x)) && !kl_v_cidr_contains(cidr, kl_text(x), true))
            kl_v_invalid(c, at, x, "must be a strict subset of `cidr`");
    }
}

static void check_peer(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const struct kl_rule rules[] = {R_SELECTOR(podSelector), R_SELECTOR(namespaceSelector),
                                           R_ON(ipBlock, check_block), R_END};
    bool selector = kl_get(v, KL_F_podSelector) || kl_get(v, KL_F_namespaceSelector);
    const struct kl_value *block = kl_get(v, KL_F_ipBlock);
    kl_v_walk(c, rules, v, p);
    if (!selector && !block)
        kl_v_required(c, p, "must specify a peer");
    else if (selector && block)
        kl_v_forbidden(c, p, "may not specify both ipBlock and another peer");
}

static void check_network_policy(struct kl_v *c)
{
    static const char *const types[] = {"Ingress", "Egress", NULL};
    static const struct kl_rule in[] = {R_EACH_ON(ports, check_policy_port),
                                        R_EACH_ON(from, check_peer), R_END};
    static const struct kl_rule out[] = {R_EACH_ON(ports, check_policy_port),
                                         R_EACH_ON(to, check_peer), R_END};
    static const struct kl_rule rules[] = {R_SELECTOR(podSelector), R_EACH(ingress, in),
                                           R_EACH(egress, out), R_END};
    const struct kl_value *spec = kl_v_spec(c), *list = kl_get(spec, KL_F_policyTypes);
    const struct kl_vpath *p = F(&c->spec, policyTypes);
    kl_v_walk(c, rules, spec, &c->spec);
    if (kl_len(list) > 2) {
        kl_v_invalid(c, p, list, "may not specify more than two policyTypes");
        return;
    }
    for (size_t i = 0; i < kl_len(list); i++)
        if (!kl_v_in(kl_text(kl_at(list, i)), types))
            kl_v_unsupported(c, I(p, i), kl_text(kl_at(list, i)), types);
}

static void create_network_policy(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_network_policy(c);
}

static void update_network_policy(struct kl_v *c)
{
    kl_v_meta_update(c);
    check_network_policy(c);
}

// ---- Ingresses

static void check_typed_reference(struct kl_v *c, const struct kl_value *v,
                                  const struct kl_vpath *p)
{
    static const struct kl_rule rules[] = {R_NAME(kind, KL_V_PATH_SEGMENT),
                                           R_NAME(name, KL_V_PATH_SEGMENT), R_END};
    const struct kl_value *group = kl_get(v, KL_F_apiGroup);
    if (group)
        kl_v_format(c, F(p, apiGroup), kl_text(group), KL_V_SUBDOMAIN);
    kl_v_walk(c, rules, v, p);
}

static void check_backend(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *resource = kl_get(v, KL_F_resource), *service = kl_get(v, KL_F_service);
    const struct kl_vpath *sp = F(p, service), *pp = F(sp, port);
    struct kl_str name = kl_text(kl_get(service, KL_F_name));
    struct kl_str port = kl_text(kl_path(service, KL_F_port, KL_F_name));
    int64_t number = kl_int_at(service, 0, KL_F_port, KL_F_number);
    if (resource && service) {
        kl_v_invalid_str(c, p, KL_STR(""), "cannot set both resource and service backends");
        return;
    }
    if (resource) {
        check_typed_reference(c, resource, F(p, resource));
        return;
    }
    if (!service) {
        kl_v_invalid_str(c, p, KL_STR(""), "resource or service backend is required");
        return;
    }
    if (!name.n)
        kl_v_required(c, F(sp, name), "");
    else
        kl_v_format(c, F(sp, name), name, KL_V_LABEL);
    if (port.n && number)
        kl_v_invalid_str(c, p, KL_STR(""), "cannot set both port name & port number");
    else if (port.n)
        kl_v_format(c, F(pp, name), port, KL_V_PORT_NAME);
    else if (number)
        kl_v_port(c, F(pp, number), number);
    else
        kl_v_required(c, p, "port name or number is required");
}

static void check_http_path(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const types[] = {"Exact", "ImplementationSpecific", "Prefix", NULL};
    static const char *const parts[] = {"//", "/./", "/../", "%2f", "%2F"};
    const struct kl_value *type = kl_get(v, KL_F_pathType);
    struct kl_str path = kl_text(kl_get(v, KL_F_path));
    const struct kl_vpath *at = F(p, path);
    if (!type) {
        kl_v_required(c, F(p, pathType), "pathType must be specified");
        return;
    }
    bool open = kl_str_eqz(kl_text(type), "ImplementationSpecific");
    if (!kl_v_in(kl_text(type), types)) {
        kl_v_unsupported(c, F(p, pathType), kl_text(type), types);
    } else {
        if ((!open || path.n) && !kl_str_starts(path, KL_STR("/")))
            kl_v_invalid_str(c, at, path, "must be an absolute path");
        for (size_t i = 0; !open && i < KL_COUNT(parts); i++)
            if (has(path, parts[i]))
                kl_v_invalid_str(c, at, path, kl_v_text(c, "must not contain '%s'", parts[i]));
        if (!open && kl_str_ends(path, KL_STR("/..")))
            kl_v_invalid_str(c, at, path, "cannot end with '/..'");
        if (!open && kl_str_ends(path, KL_STR("/.")))
            kl_v_invalid_str(c, at, path, "cannot end with '/.'");
    }
    check_backend(c, kl_get(v, KL_F_backend), F(p, backend));
}

static void check_host(struct kl_v *c, const struct kl_vpath *p, struct kl_str host)
{
    kl_v_format(c, p, host, has(host, "*") ? KL_V_WILDCARD : KL_V_SUBDOMAIN);
}

static void check_ingress_rule(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const struct kl_rule http[] = {R_REQUIRED(paths, ""), R_EACH_ON(paths, check_http_path),
                                          R_END};
    static const struct kl_rule rules[] = {R_SUB(http, http), R_END};
    struct kl_str host = kl_text(kl_get(v, KL_F_host));
    if (host.n && kl_v_ip_family(host))
        kl_v_invalid_str(c, F(p, host), host, "must be a DNS name, not an IP address");
    if (host.n)
        check_host(c, F(p, host), host);
    kl_v_walk(c, rules, v, p);
}

static void check_tls(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const struct kl_rule rules[] = {R_FORMAT(secretName, KL_V_SUBDOMAIN), R_END};
    size_t i = 0;
    for (KL_EACH(host, kl_get(v, KL_F_hosts)))
        check_host(c, I(F(p, hosts), i++), kl_text(host));
    kl_v_walk(c, rules, v, p);
}

static void create_ingress(struct kl_v *c)
{
    static const struct kl_rule rules[] = {R_ON(defaultBackend, check_backend),
                                           R_EACH_ON(rules, check_ingress_rule),
                                           R_EACH_ON(tls, check_tls), R_END};
    const struct kl_value *spec = kl_v_spec(c), *class = kl_get(spec, KL_F_ingressClassName);
    const struct kl_value *note = kl_map_value(kl_path(c->now, KL_F_metadata, KL_F_annotations),
                                               KL_STR("kubernetes.io/ingress.class"));
    kl_v_meta(c, KL_V_SUBDOMAIN);
    if (!kl_len(kl_get(spec, KL_F_rules)) && !kl_get(spec, KL_F_defaultBackend))
        kl_v_invalid(c, &c->spec, NULL, "either `defaultBackend` or `rules` must be specified");
    kl_v_walk(c, rules, spec, &c->spec);
    if (class)
        kl_v_format(c, F(&c->spec, ingressClassName), kl_text(class), KL_V_SUBDOMAIN);
    if (!c->old && note && class && !kl_str_eq(kl_text(note), kl_text(class)))
        kl_v_invalid(c, N(F(NULL, annotations), "kubernetes.io/ingress.class"), note,
                     "must match `ingressClassName` when both are specified");
}

static void update_ingress(struct kl_v *c)
{
    kl_v_meta_update(c);
    create_ingress(c);
}

static void status_ingress(struct kl_v *c)
{
    kl_v_meta_update(c);
    kl_v_balancer_status(c, true);
}

// ---- IngressClasses

static void check_controller(struct kl_v *c, struct kl_str s, const struct kl_vpath *p)
{
    static const char others[] = "/-._~%!$&'()*+,;=:";
    const char *slash = s.n ? memchr(s.p, '/', s.n) : NULL;
    if (s.n > 250)
        kl_v_too_long(c, p, 250);
    if (!s.n) {
        kl_v_required(c, p, "");
        return;
    }
    if (!slash || slash == s.p || slash + 1 == s.p + s.n) {
        kl_v_invalid_str(c, p, s, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    }
    struct kl_str host = {s.p, (size_t)(slash - s.p)};
    struct kl_str path = {slash + 1, s.n - host.n - 1};
    bool good = true;
    kl_v_format(c, p, host, KL_V_SUBDOMAIN);
    for (size_t i = 0; i < path.n; i++) {
        char x = path.p[i];
        good &= (x >= 'a' && x <= 'z') || (x >= 'A' && x <= 'Z') || (x >= '0' && x <= '9') ||
                (x && strchr(others, x));
    }
    if (!good)
        kl_v_invalid_str(c, p, path,
                         "Invalid path (regex used for validation is "
                         "'[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')");
}

static void check_parameters(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const scopes[] = {"Cluster", "Namespace", NULL};
    const struct kl_value *scope = kl_get(v, KL_F_scope), *ns = kl_get(v, KL_F_namespace);
    check_typed_reference(c, v, p);
    if (!scope)
        kl_v_required(c, F(p, scope), "");
    else if (!kl_v_in(kl_text(scope), scopes))
        kl_v_unsupported(c, F(p, scope), kl_text(scope), scopes);
    else if (kl_str_eqz(kl_text(scope), "Cluster") && ns)
        kl_v_forbidden(c, F(p, namespace), "`parameters.scope` is set to 'Cluster'");
    else if (kl_str_eqz(kl_text(scope), "Namespace") && !ns)
        kl_v_required(c, F(p, namespace), "`parameters.scope` is set to 'Namespace'");
    else if (ns)
        kl_v_format(c, F(p, namespace), kl_text(ns), KL_V_LABEL);
}

static void create_ingress_class(struct kl_v *c)
{
    static const struct kl_rule rules[] = {R_ON(parameters, check_parameters), R_END};
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_controller(c, kl_text(kl_get(kl_v_spec(c), KL_F_controller)), F(&c->spec, controller));
    kl_v_walk(c, rules, kl_v_spec(c), &c->spec);
}

static void update_ingress_class(struct kl_v *c)
{
    struct kl_str now = kl_text(kl_get(kl_v_spec(c), KL_F_controller));
    kl_v_meta_update(c);
    if (!kl_str_eq(now, kl_text(kl_get(kl_v_old_spec(c), KL_F_controller))))
        kl_v_invalid_str(c, F(&c->spec, controller), now, "field is immutable");
    create_ingress_class(c);
}

// ---- IPAddresses, ServiceCIDRs

static void create_ip_address(struct kl_v *c)
{
    static const struct kl_rule rules[] = {
        R_FORMAT(group, KL_V_SUBDOMAIN), R_NAME(resource, KL_V_PATH_SEGMENT),
        R_NAME(name, KL_V_PATH_SEGMENT), R_FORMAT(namespace, KL_V_PATH_SEGMENT), R_END};
    const struct kl_value *ref = kl_get(kl_v_spec(c), KL_F_parentRef);
    kl_v_meta(c, KL_V_NO_CHECK);
    struct kl_str name = kl_text_at(c->now, KL_F_metadata, KL_F_name);
    if (name.n)
        kl_v_ip(c, F(&c->meta, name), name, true);
    if (ref)
        kl_v_walk(c, rules, ref, F(&c->spec, parentRef));
    else
        kl_v_required(c, F(&c->spec, parentRef), "");
}

static void update_ip_address(struct kl_v *c)
{
    create_ip_address(c);
    kl_v_meta_update(c);
    kl_v_immutable(
        c, F(&c->spec, parentRef),
        kl_type_field(kl_type(KL_TYPE_networking_v1_IPAddressSpec), KL_F_parentRef)->type,
        kl_get(kl_v_spec(c), KL_F_parentRef), kl_get(kl_v_old_spec(c), KL_F_parentRef), true);
}

static void check_cidrs(struct kl_v *c)
{
    const struct kl_value *list = kl_get(kl_v_spec(c), KL_F_cidrs);
    const struct kl_vpath *p = F(&c->spec, cidrs);
    if (!kl_len(list)) {
        kl_v_required(c, p, "at least one CIDR required");
        return;
    }
    if (kl_len(list) > 2) {
        kl_v_invalid_json(c, p, kl_type(KL_TYPE_networking_v1_ServiceCIDRSpec), kl_v_spec(c), true,
                          "may only hold up to 2 values");
        return;
    }
    for (size_t i = 0; i < kl_len(list); i++)
        kl_v_cidr(c, I(p, i), kl_text(kl_at(list, i)), true);
    int family = kl_v_cidr_family(kl_text(kl_at(list, 0)));
    if (kl_len(list) == 2 && family && family == kl_v_cidr_family(kl_text(kl_at(list, 1))))
        kl_v_invalid(c, p, list,
                     "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and "
                     "2001:db8::/64");
}

static void create_service_cidr(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_cidrs(c);
}

static void update_service_cidr(struct kl_v *c)
{
    const struct kl_value *now = kl_get(kl_v_spec(c), KL_F_cidrs);
    const struct kl_value *old = kl_get(kl_v_old_spec(c), KL_F_cidrs);
    const struct kl_vpath *p = F(&c->spec, cidrs);
    bool grows = kl_len(old) == 1 && kl_len(now) == 2;
    kl_v_meta_update(c);
    if (kl_len(now) != kl_len(old) && !grows) {
        kl_v_invalid(c, p, now, "field is immutable");
        return;
    }
    for (size_t i = 0; i < kl_len(old); i++)
        if (!kl_value_equal(kl_at(now, i), kl_at(old, i)))
            kl_v_invalid(c, I(p, i), kl_at(now, i), "field is immutable");
    if (grows)
        check_cidrs(c);
}

// ---- EndpointSlices

// IsFullyQualifiedDomainName
static void check_domain(struct kl_v *c, const struct kl_vpath *p, struct kl_str s)
{
    if (!s.n) {
        kl_v_required(c, p, "");
        return;
    }
    if (s.p[s.n - 1] == '.')
        s.n--;
    if (!kl_v_format(c, p, s, KL_V_SUBDOMAIN))
        return;
    if (!s.n || !memchr(s.p, '.', s.n))
        kl_v_invalid_str(c, p, s,
                         "should be a domain with at least two segments separated by dots");
    for (size_t i = 0, from = 0; i <= s.n; i++)
        if (i == s.n || s.p[i] == '.') {
            kl_v_format(c, p, (struct kl_str){s.p + from, i - from}, KL_V_LABEL);
            from = i + 1;
        }
}

static void check_address(struct kl_v *c, struct kl_str type, const struct kl_value *v,
                          const struct kl_vpath *list, size_t i)
{
    const struct kl_vpath *p = I(list, i);
    bool v4 = kl_str_eqz(type, "IPv4"), v6 = kl_str_eqz(type, "IPv6");
    struct kl_str s = kl_text(v);
    if (kl_str_eqz(type, "FQDN")) {
        check_domain(c, p, s);
        return;
    }
    if ((!v4 && !v6) || !kl_v_ip(c, p, s, v6))
        return;
    if (kl_v_ip_family(s) != (v4 ? 4 : 6))
        kl_v_invalid_str(c, list, s, v4 ? "must be an IPv4 address" : "must be an IPv6 address");
    kl_v_endpoint_ip(c, p, s);
}

static void check_hint_names(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p,
                             enum kl_v_format format)
{
    for (size_t i = 0; i < kl_len(list); i++) {
        struct kl_str name = kl_text(kl_get(kl_at(list, i), KL_F_name));
        for (size_t k = 0; k < i; k++)
            if (kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_name)), name)) {
                kl_v_duplicate(c, F(I(p, i), name), name);
                break;
            }
        kl_v_format(c, F(I(p, i), name), name, format);
    }
}

static void check_hints(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *zones = kl_get(v, KL_F_forZones), *nodes = kl_get(v, KL_F_forNodes);
    if (kl_len(zones) > 8) {
        kl_v_too_many(c, F(p, forZones), kl_len(zones), 8);
        return;
    }
    check_hint_names(c, zones, F(p, forZones), KL_V_LABEL_VALUE);
    if (kl_len(nodes) > 8)
        kl_v_too_many(c, F(p, forNodes), kl_len(nodes), 8);
    else
        check_hint_names(c, nodes, F(p, forNodes), KL_V_SUBDOMAIN);
}

static void check_endpoint(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *addresses = kl_get(v, KL_F_addresses), *node = kl_get(v, KL_F_nodeName);
    const struct kl_value *host = kl_get(v, KL_F_hostname), *hints = kl_get(v, KL_F_hints);
    const struct kl_value *topology = kl_get(v, KL_F_deprecatedTopology);
    struct kl_str type = kl_text(kl_get(c->now, KL_F_addressType));
    const struct kl_vpath *ap = F(p, addresses);
    size_t i = 0;
    if (!kl_len(addresses))
        kl_v_required(c, ap, "must contain at least 1 address");
    else if (kl_len(addresses) > 100)
        kl_v_too_many(c, ap, kl_len(addresses), 100);
    for (KL_EACH(a, addresses))
        check_address(c, type, a, ap, i++);
    if (node)
        kl_v_format(c, F(p, nodeName), kl_text(node), KL_V_SUBDOMAIN);
    if (topology)
        kl_v_labels(c, F(p, deprecatedTopology), topology);
    if (host)
        kl_v_format(c, F(p, hostname), kl_text(host), KL_V_LABEL);
    if (hints)
        check_hints(c, hints, F(p, hints));
}

static void check_slice_ports(struct kl_v *c)
{
    static const char *const protocols[] = {"SCTP", "TCP", "UDP", NULL};
    const struct kl_value *list = kl_get(c->now, KL_F_ports);
    const struct kl_vpath *ports = F(NULL, ports);
    if (kl_len(list) > 20000) {
        kl_v_too_many(c, ports, kl_len(list), 20000);
        return;
    }
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *v = kl_at(list, i), *protocol = kl_get(v, KL_F_protocol);
        const struct kl_value *app = kl_get(v, KL_F_appProtocol);
        struct kl_str name = kl_text(kl_get(v, KL_F_name));
        const struct kl_vpath *p = I(ports, i);
        if (name.n)
            kl_v_format(c, F(p, name), name, KL_V_LABEL);
        for (size_t k = 0; k < i; k++)
            if (kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_name)), name)) {
                kl_v_duplicate(c, F(p, name), name);
                break;
            }
        if (!protocol)
            kl_v_required(c, F(p, protocol), "");
        else if (!kl_v_in(kl_text(protocol), protocols))
            kl_v_unsupported(c, F(p, protocol), kl_text(protocol), protocols);
        if (app)
            kl_v_format(c, F(p, appProtocol), kl_text(app), KL_V_QUALIFIED);
    }
}

static void create_slice(struct kl_v *c)
{
    static const char *const types[] = {"FQDN", "IPv4", "IPv6", NULL};
    static const struct kl_rule type[] = {R_NEED_ENUM(addressType, types), R_END};
    static const struct kl_rule rules[] = {R_EACH_ON(endpoints, check_endpoint), R_END};
    const struct kl_value *list = kl_get(c->now, KL_F_endpoints);
    kl_v_meta(c, KL_V_SUBDOMAIN);
    kl_v_walk(c, type, c->now, NULL);
    check_slice_ports(c);
    // What was let in once stays as long as it is not touched.
    if (c->old && kl_value_equal(list, kl_get(c->old, KL_F_endpoints)))
        return;
    if (kl_len(list) > 1000)
        kl_v_too_many(c, F(NULL, endpoints), kl_len(list), 1000);
    else
        kl_v_walk(c, rules, c->now, NULL);
}

static void update_slice(struct kl_v *c)
{
    struct kl_str now = kl_text(kl_get(c->now, KL_F_addressType));
    create_slice(c);
    if (!kl_str_eq(now, kl_text(kl_get(c->old, KL_F_addressType))))
        kl_v_invalid_str(c, F(NULL, addressType), now, "field is immutable");
}

const struct kl_v_kind kl_v_network[] = {
    {KL_RES_networking_v1_networkpolicies, create_network_policy, update_network_policy, NULL, NULL,
     NULL},
    {KL_RES_networking_v1_ingresses, create_ingress, update_ingress, status_ingress, NULL, NULL},
    {KL_RES_networking_v1_ingressclasses, create_ingress_class, update_ingress_class, NULL, NULL,
     NULL},
    {KL_RES_networking_v1_ipaddresses, create_ip_address, update_ip_address, NULL, NULL, NULL},
    {KL_RES_networking_v1_servicecidrs, create_service_cidr, update_service_cidr, kl_v_meta_update,
     NULL, NULL},
    {KL_RES_discovery_v1_endpointslices, create_slice, update_slice, NULL, NULL, NULL},
    {0},
};
