// SPDX-License-Identifier: Apache-2.0
// Services and what leads to them.
#include "object/table_int.h"
#include <stdlib.h>

static const struct kl_value *spec_of(const struct kl_row *r, kl_sym field)
{
    return kl_path(r->root, KL_F_spec, field);
}

// ---- services

enum { MAX_INGRESS = 64 }; // addresses of one load balancer that are sorted and shown

static int compare_strs(const void *a, const void *b)
{
    return kl_str_cmp(*(const struct kl_str *)a, *(const struct kl_str *)b);
}

// The addresses or host names of a load balancer, sorted, each once; how many were put.
static size_t put_balancer(struct kl_row *r)
{
    const struct kl_value *ingress = kl_path(r->root, KL_F_status, KL_F_loadBalancer, KL_F_ingress);
    struct kl_str names[MAX_INGRESS];
    size_t n = 0, put = 0;
    for (KL_EACH(item, ingress)) {
        struct kl_str name = kl_text(kl_get(item, KL_F_ip));
        if (name.n == 0)
            name = kl_text(kl_get(item, KL_F_hostname));
        if (name.n && n < MAX_INGRESS)
            names[n++] = name;
    }
    qsort(names, n, sizeof(names[0]), compare_strs);
    for (size_t i = 0; i < n; i++) {
        if (i && kl_str_eq(names[i], names[i - 1]))
            continue;
        if (put++)
            kl_cell_puts(r, ",");
        kl_cell_put(r, names[i]);
    }
    return put;
}

static void external_ip(struct kl_row *r)
{
    const struct kl_value *type = spec_of(r, KL_F_type);
    const struct kl_value *ips = spec_of(r, KL_F_externalIPs);
    if (kl_text_is(type, "ClusterIP") || kl_text_is(type, "NodePort")) {
        kl_cell_list(r, ips, "<none>");
    } else if (kl_text_is(type, "LoadBalancer")) {
        kl_cell_begin(r);
        size_t put = put_balancer(r);
        for (KL_EACH(ip, ips)) {
            if (put++)
                kl_cell_puts(r, ",");
            kl_cell_put(r, kl_text(ip));
        }
        if (!put)
            kl_cell_puts(r, "<pending>");
        kl_cell_end(r);
    } else if (kl_text_is(type, "ExternalName")) {
        kl_cell(r, kl_text(spec_of(r, KL_F_externalName)));
    } else {
        kl_cell(r, KL_STR("<unknown>"));
    }
}

static void service_ports(struct kl_row *r)
{
    const struct kl_value *ports = spec_of(r, KL_F_ports);
    kl_cell_begin(r);
    if (kl_len(ports) == 0)
        kl_cell_puts(r, "<none>");
    for (size_t i = 0; i < kl_len(ports); i++) {
        const struct kl_value *port = &ports->items[i];
        int64_t node_port = kl_int_or(kl_get(port, KL_F_nodePort), 0);
        if (i)
            kl_cell_puts(r, ",");
        kl_cell_put_int(r, kl_int_or(kl_get(port, KL_F_port), 0));
        if (node_port > 0) {
            kl_cell_puts(r, ":");
            kl_cell_put_int(r, node_port);
        }
        kl_cell_puts(r, "/");
        kl_cell_put(r, kl_text(kl_get(port, KL_F_protocol)));
    }
    kl_cell_end(r);
}

void kl_print_service(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell(r, kl_text(spec_of(r, KL_F_type)));
    kl_cell_or(r, kl_at(spec_of(r, KL_F_clusterIPs), 0), "<none>");
    external_ip(r);
    service_ports(r);
    kl_cell_age(r);
    kl_cell_map(r, spec_of(r, KL_F_selector));
}

// ---- endpoints

static void put_host_port(struct kl_row *r, struct kl_str ip, int64_t port)
{
    bool brackets = kl_str_chr(ip, ':') >= 0 || kl_str_chr(ip, '%') >= 0;
    kl_cell_put(r, brackets ? KL_STR("[") : KL_STR(""));
    kl_cell_put(r, ip);
    kl_cell_put(r, brackets ? KL_STR("]:") : KL_STR(":"));
    kl_cell_put_int(r, port);
}

static void subset(struct kl_row *r, struct kl_short_list *list, const struct kl_value *subset,
                   const struct kl_value *port)
{
    for (KL_EACH(address, kl_get(subset, KL_F_addresses))) {
        struct kl_str ip = kl_text(kl_get(address, KL_F_ip));
        if (!kl_short_list_add(r, list))
            continue;
        if (port)
            put_host_port(r, ip, kl_int_or(kl_get(port, KL_F_port), 0));
        else
            kl_cell_put(r, ip);
    }
}

void kl_print_endpoints(struct kl_row *r)
{
    const struct kl_value *subsets = kl_get(r->root, KL_F_subsets);
    struct kl_short_list list = {.shown = 0};
    kl_cell_name(r);
    kl_cell_begin(r);
    for (KL_EACH(item, subsets)) {
        const struct kl_value *ports = kl_get(item, KL_F_ports);
        if (kl_len(ports) == 0)
            subset(r, &list, item, NULL);
        for (KL_EACH(port, ports))
            subset(r, &list, item, port);
    }
    kl_short_list_end(r, &list, kl_len(subsets) ? "" : "<none>");
    kl_cell_age(r);
}

void kl_print_endpoint_slice(struct kl_row *r)
{
    struct kl_short_list ports = {.shown = 0}, endpoints = {.shown = 0};
    kl_cell_name(r);
    kl_cell(r, kl_text(kl_get(r->root, KL_F_addressType)));
    kl_cell_begin(r);
    for (KL_EACH(port, kl_get(r->root, KL_F_ports))) {
        const struct kl_value *number = kl_get(port, KL_F_port);
        const struct kl_value *name = kl_get(port, KL_F_name);
        if (!kl_short_list_add(r, &ports))
            continue;
        if (number)
            kl_cell_put_int(r, kl_int_or(number, 0));
        else
            kl_cell_put(r, name ? kl_text(name) : KL_STR("*"));
    }
    // one port without a number and with an empty name shows nothing, which counts as unset
    const struct kl_value *first = kl_at(kl_get(r->root, KL_F_ports), 0);
    if (ports.count == 1 && !kl_get(first, KL_F_port) && kl_get(first, KL_F_name) &&
        kl_text(kl_get(first, KL_F_name)).n == 0)
        ports = (struct kl_short_list){.shown = 0};
    kl_short_list_end(r, &ports, "<unset>");
    kl_cell_begin(r);
    for (KL_EACH(endpoint, kl_get(r->root, KL_F_endpoints)))
        for (KL_EACH(address, kl_get(endpoint, KL_F_addresses)))
            if (kl_short_list_add(r, &endpoints))
                kl_cell_put(r, kl_text(address));
    kl_short_list_end(r, &endpoints, "<unset>");
    kl_cell_age(r);
}

// ---- ingresses

static void ingress_hosts(struct kl_row *r)
{
    enum { SHOWN = 3 };
    const struct kl_value *rules = spec_of(r, KL_F_rules);
    size_t shown = 0;
    bool more = false;
    kl_cell_begin(r);
    for (KL_EACH(rule, rules)) {
        struct kl_str host = kl_text(kl_get(rule, KL_F_host));
        more = more || shown == SHOWN;
        if (more || host.n == 0)
            continue;
        if (shown++)
            kl_cell_puts(r, ",");
        kl_cell_put(r, host);
    }
    if (!shown)
        kl_cell_puts(r, "*");
    if (more) {
        kl_cell_puts(r, " + ");
        kl_cell_put_int(r, (int64_t)kl_len(rules) - SHOWN);
        kl_cell_puts(r, " more...");
    }
    kl_cell_end(r);
}

void kl_print_ingress(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell_or(r, spec_of(r, KL_F_ingressClassName), "<none>");
    ingress_hosts(r);
    kl_cell_begin(r);
    put_balancer(r);
    kl_cell_end(r);
    kl_cell(r, kl_len(spec_of(r, KL_F_tls)) ? KL_STR("80, 443") : KL_STR("80"));
    kl_cell_age(r);
}

void kl_print_ingress_class(struct kl_row *r)
{
    const struct kl_value *parameters = spec_of(r, KL_F_parameters);
    const struct kl_value *group = kl_get(parameters, KL_F_apiGroup);
    bool is_default =
        kl_text_is(kl_map_value(kl_meta_annotations(r->root),
                                KL_STR("ingressclass.kubernetes.io/is-default-class")),
                   "true");
    kl_cell_begin(r);
    kl_cell_put(r, kl_meta_name(r->root));
    kl_cell_put(r, is_default ? KL_STR(" (default)") : KL_STR(""));
    kl_cell_end(r);
    kl_cell(r, kl_text(spec_of(r, KL_F_controller)));
    kl_cell_begin(r);
    if (!parameters) {
        kl_cell_puts(r, "<none>");
    } else {
        kl_cell_put(r, kl_text(kl_get(parameters, KL_F_kind)));
        kl_cell_put(r, group ? KL_STR(".") : KL_STR(""));
        kl_cell_put(r, kl_text(group));
        kl_cell_puts(r, "/");
        kl_cell_put(r, kl_text(kl_get(parameters, KL_F_name)));
    }
    kl_cell_end(r);
    kl_cell_age(r);
}

void kl_print_network_policy(struct kl_row *r)
{
    static const struct kl_value all = {.kind = KL_STRUCT};
    const struct kl_value *selector = spec_of(r, KL_F_podSelector);
    kl_cell_name(r);
    kl_cell_selector(r, selector ? selector : &all);
    kl_cell_age(r);
}

void kl_print_service_cidr(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell_list(r, spec_of(r, KL_F_cidrs), "");
    kl_cell_age(r);
}

void kl_print_ip_address(struct kl_row *r)
{
    const struct kl_value *parent = spec_of(r, KL_F_parentRef);
    struct kl_str group = kl_text(kl_get(parent, KL_F_group));
    struct kl_str namespace = kl_text(kl_get(parent, KL_F_namespace));
    kl_cell_name(r);
    kl_cell_begin(r);
    if (!parent) {
        kl_cell_puts(r, "<none>");
    } else {
        kl_cell_put_lower(r, kl_text(kl_get(parent, KL_F_resource)));
        kl_cell_put(r, group.n ? KL_STR(".") : KL_STR(""));
        kl_cell_put_lower(r, group);
        kl_cell_put(r, namespace.n ? KL_STR("/") : KL_STR(""));
        kl_cell_put(r, namespace);
        kl_cell_puts(r, "/");
        kl_cell_put(r, kl_text(kl_get(parent, KL_F_name)));
    }
    kl_cell_end(r);
    kl_cell_age(r);
}
