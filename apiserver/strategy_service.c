// SPDX-License-Identifier: Apache-2.0
// Services: cluster IPs and node ports, allocated within the write that needs them. The claim on an
// address is its IPAddress object, on a port a bit of the range allocation; both are written in the
// Service's own transaction, so no crash or race leaves one without the other.
#include "apiserver/strategy_int.h"
#include "base/cidr.h"
#include "base/rand.h"
#include "watchcache/filter.h"
#include <arpa/inet.h>
#include <stdio.h>

enum { NODE_PORT_FIRST = 30000, NODE_PORT_COUNT = 2768, IP_TRIES = 256 };
#define NODE_PORTS_KEY KL_STR("/registry/ranges/servicenodeports")

static bool headless(struct kl_str ip)
{
    return kl_str_eqz(ip, "None");
}

static struct kl_str ip_text(struct kl_arena *a, uint32_t ip)
{
    return kl_arena_printf(a, "%u.%u.%u.%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255);
}

static struct kl_str ip_key(struct kl_arena *a, struct kl_str ip)
{
    return kl_object_key(a, kl_res(KL_RES_networking_v1_ipaddresses), KL_STR(""), ip);
}

// The IPAddress object that claims an address for a Service.
static struct kl_bytes *ip_object(struct kl_req *r, struct kl_str ip, struct kl_str ns,
                                  struct kl_str service, struct kl_value *created)
{
    struct kl_arena *a = r->arena;
    const struct kl_resource *res = kl_res(KL_RES_networking_v1_ipaddresses);
    struct kl_value o = kl_new_struct(), m = kl_new_struct(), labels = kl_new_map();
    struct kl_value spec = kl_new_struct(), ref = kl_new_struct();
    char *uuid = kl_arena_alloc(a, 37);
    if (!uuid)
        return NULL;
    kl_uuid(uuid);
    kl_map_set_value(a, &labels, KL_STR("ipaddress.kubernetes.io/ip-family"), kl_stringz("IPv4"));
    kl_map_set_value(a, &labels, KL_STR("ipaddress.kubernetes.io/managed-by"),
                     kl_stringz("ipallocator.k8s.io"));
    kl_set(a, &m, KL_F_name, kl_string(ip));
    kl_set(a, &m, KL_F_uid, kl_stringz(uuid));
    kl_set(a, &m, KL_F_labels, labels);
    if (created)
        kl_set(a, &m, KL_F_creationTimestamp, *created);
    kl_set(a, &ref, KL_F_resource, kl_stringz("services"));
    kl_set(a, &ref, KL_F_namespace, kl_string(ns));
    kl_set(a, &ref, KL_F_name, kl_string(service));
    kl_set(a, &spec, KL_F_parentRef, ref);
    kl_set(a, &o, KL_F_metadata, m);
    kl_set(a, &o, KL_F_spec, spec);
    struct kl_object *frozen = kl_object_freeze(res->type, &o);
    struct kl_bytes *b = frozen ? kl_cache_encode_stored(res, frozen) : NULL;
    kl_object_unref(frozen);
    return b;
}

static int retry(struct kl_write *w)
{
    return ++w->tries < IP_TRIES
               ? 0
               : (kl_fail_internal(w->r, "failed to allocate: retried too often"), KL_EINTERNAL);
}

static void add_put(struct kl_write *w, struct kl_str key, kl_rev expect, struct kl_bytes *value)
{
    kl_write_put_too(w, key, expect, value);
    w->extra_failed = retry;
}

static int taken(struct kl_req *r, struct kl_str ip)
{
    struct kl_field_errors e = {.arena = r->arena};
    kl_field_error(&e, "FieldValueInvalid", KL_STR("spec.clusterIPs"),
                   "Invalid value: [\"%.*s\"]: failed to allocate IP %.*s: provided IP is already "
                   "allocated",
                   KL_PRI(ip), KL_PRI(ip));
    kl_fail_invalid(r, KL_STR("Service"), KL_STR(""), r->info.name, &e);
    return KL_EINVALID;
}

static int choose_ip(struct kl_req *r, struct kl_value *draft, struct kl_value *spec)
{
    uint32_t base, size;
    int prefix;
    struct kl_arena *a = r->arena;
    struct kl_view *v = kl_req_view(r);
    struct kl_str ip = kl_text(kl_get(spec, KL_F_clusterIP));
    if (!kl_cidr4_parse(r->srv->o.service_cidr, &base, &prefix))
        return kl_fail_internal(r, "service CIDR %s is not usable", r->srv->o.service_cidr),
               KL_EINTERNAL;
    struct in6_addr any;
    struct in_addr v4;
    const char *text = kl_arena_dup(a, ip).p;
    if (ip.n && inet_pton(AF_INET, text, &v4) != 1 && inet_pton(AF_INET6, text, &any) != 1) {
        struct kl_field_errors e = {.arena = a};
        kl_field_invalid(&e, KL_STR("spec.clusterIPs[0]"), ip,
                         "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        kl_fail_invalid(r, KL_STR("Service"), KL_STR(""), r->info.name, &e);
        return KL_EINVALID;
    }
    size = 1u << (32 - prefix);
    if (ip.n) {
        struct in_addr want;
        uint32_t n = inet_pton(AF_INET, kl_arena_dup(a, ip).p, &want) == 1 ? ntohl(want.s_addr) : 0;
        if (n <= base || n - base >= size - 1) {
            struct kl_field_errors e = {.arena = a};
            kl_field_error(&e, "FieldValueInvalid", KL_STR("spec.clusterIPs"),
                           "Invalid value: [\"%.*s\"]: failed to allocate IP %.*s: the provided IP "
                           "(%.*s) is not in the valid range. The range of valid IPs is %s",
                           KL_PRI(ip), KL_PRI(ip), KL_PRI(ip), r->srv->o.service_cidr);
            kl_fail_invalid(r, KL_STR("Service"), KL_STR(""), r->info.name, &e);
            return KL_EINVALID;
        }
        if (kl_view_get(v, ip_key(a, ip)))
            return taken(r, ip);
    } else {
        // From a random place upward; the first address is the API server's own.
        uint32_t start = (uint32_t)(kl_rand_u64() % (size - 2)), i = 0;
        for (; i < size - 2; i++) {
            uint32_t off = (start + i) % (size - 2) + 1;
            ip = ip_text(a, base + off);
            if (off > 1 && !kl_view_get(v, ip_key(a, ip)))
                break;
        }
        if (i == size - 2)
            return kl_fail_internal(r, "failed to allocate a serviceIP: range is full"),
                   KL_EINTERNAL;
    }
    struct kl_value now = *kl_path(draft, KL_F_metadata, KL_F_creationTimestamp);
    struct kl_bytes *b = ip_object(r, ip, r->info.ns, kl_meta_name(draft), &now);
    if (!b)
        return kl_fail_oom(r), KL_ENOMEM;
    kl_req_keep_bytes(r, b);
    if (!r->opts.dry_run)
        add_put(r->write, ip_key(a, ip), 0, b);
    struct kl_value ips = kl_new_array();
    kl_append(a, &ips, kl_string(ip));
    kl_set(a, spec, KL_F_clusterIP, kl_string(ip));
    return kl_set(a, spec, KL_F_clusterIPs, ips);
}

// ---- node ports: one byte string of bits

static bool bit(const uint8_t *bits, uint32_t i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

static bool needs_node_ports(const struct kl_value *spec)
{
    struct kl_str type = kl_text(kl_get(spec, KL_F_type));
    return kl_str_eqz(type, "NodePort") || kl_str_eqz(type, "LoadBalancer");
}

static bool needs_health_port(const struct kl_value *spec)
{
    return kl_str_eqz(kl_text(kl_get(spec, KL_F_type)), "LoadBalancer") &&
           kl_str_eqz(kl_text(kl_get(spec, KL_F_externalTrafficPolicy)), "Local");
}

static bool wants_node_ports(const struct kl_value *spec)
{
    const struct kl_value *asked = kl_get(spec, KL_F_allocateLoadBalancerNodePorts);
    return needs_node_ports(spec) &&
           (!kl_str_eqz(kl_text(kl_get(spec, KL_F_type)), "LoadBalancer") || !asked ||
            kl_is_true(asked));
}

// The range as this write finds it and leaves it.
struct ports {
    uint8_t bits[NODE_PORT_COUNT / 8], mine[NODE_PORT_COUNT / 8];
};

static void release_port(struct ports *p, int64_t port)
{
    int64_t n = port - NODE_PORT_FIRST;
    if (n >= 0 && n < NODE_PORT_COUNT)
        p->bits[n / 8] &= (uint8_t) ~(1u << (n % 8));
}

// NULL, or why not. A port may serve several protocols of one Service.
static const char *claim_port(struct ports *p, int64_t port)
{
    int64_t n = port - NODE_PORT_FIRST;
    if (n < 0 || n >= NODE_PORT_COUNT)
        return "provided port is not in the valid range. The range of valid ports is 30000-32767";
    if (bit(p->bits, (uint32_t)n) && !bit(p->mine, (uint32_t)n))
        return "provided port is already allocated";
    p->bits[n / 8] |= (uint8_t)(1u << (n % 8));
    p->mine[n / 8] |= (uint8_t)(1u << (n % 8));
    return NULL;
}

// From a random place upward; 0: the range is full.
static int64_t free_port(const struct ports *p)
{
    uint32_t start = (uint32_t)(kl_rand_u64() % NODE_PORT_COUNT);
    for (uint32_t k = 0; k < NODE_PORT_COUNT; k++)
        if (!bit(p->bits, (start + k) % NODE_PORT_COUNT))
            return NODE_PORT_FIRST + (start + k) % NODE_PORT_COUNT;
    return 0;
}

// The node port that a Service port has: of the same number, and protocol if there is one.
static int64_t node_port_of(const struct kl_value *spec, const struct kl_value *port,
                            bool same_protocol)
{
    for (KL_EACH(q, kl_get(spec, KL_F_ports)))
        if (kl_int_at(q, 0, KL_F_port) == kl_int_at(port, 0, KL_F_port) &&
            (!same_protocol ||
             kl_str_eq(kl_text(kl_get(q, KL_F_protocol)), kl_text(kl_get(port, KL_F_protocol)))) &&
            kl_int_at(q, 0, KL_F_nodePort))
            return kl_int_at(q, 0, KL_F_nodePort);
    return 0;
}

static int set_node_port(struct kl_req *r, struct kl_value *spec, size_t i, int64_t port)
{
    struct kl_value *list = kl_edit(r->arena, spec, KL_F_ports, KL_ARRAY);
    struct kl_value *e = list ? kl_edit_at(r->arena, list, i) : NULL;
    int rc = port ? kl_set(r->arena, e, KL_F_nodePort, kl_int(port))
                  : kl_unset(r->arena, e, KL_F_nodePort);
    return rc ? (kl_fail_oom(r), rc) : 0;
}

static int no_port(struct kl_req *r)
{
    kl_fail_internal(r, "failed to allocate a nodePort: range is full");
    return KL_EINTERNAL;
}

static int claim_ports(struct kl_req *r, struct ports *p, struct kl_value *spec,
                       const struct kl_value *old_spec)
{
    bool wants = wants_node_ports(spec);
    for (size_t i = 0; i < kl_len(kl_get(spec, KL_F_ports)); i++) {
        const struct kl_value *sp = kl_at(kl_get(spec, KL_F_ports), i);
        int64_t port = kl_int_at(sp, 0, KL_F_nodePort);
        if (!port && !wants)
            continue;
        if (!port)
            port = node_port_of(old_spec, sp, true);
        if (!port)
            port = node_port_of(spec, sp, false);
        if (!port && !(port = free_port(p)))
            return no_port(r);
        const char *why = claim_port(p, port);
        if (why) {
            struct kl_field_errors e = {.arena = r->arena};
            kl_field_error(&e, "FieldValueInvalid",
                           kl_arena_printf(r->arena, "spec.ports[%zu].nodePort", i),
                           "Invalid value: %lld: %s", (long long)port, why);
            kl_fail_invalid(r, KL_STR("Service"), KL_STR(""), r->info.name, &e);
            return KL_EINVALID;
        }
        int rc = set_node_port(r, spec, i, port);
        if (rc)
            return rc;
    }
    return 0;
}

static int claim_health_port(struct kl_req *r, struct ports *p, struct kl_value *spec,
                             const struct kl_value *old_spec)
{
    int64_t port = kl_int_at(spec, 0, KL_F_healthCheckNodePort);
    if (!port && needs_health_port(old_spec))
        port = kl_int_at(old_spec, 0, KL_F_healthCheckNodePort);
    if (!port && !(port = free_port(p)))
        return no_port(r);
    const char *why = claim_port(p, port);
    if (why) {
        kl_fail_internal(r, "failed to allocate requested HealthCheck NodePort %lld: %s",
                         (long long)port, why);
        return KL_EINTERNAL;
    }
    return kl_set(r->arena, spec, KL_F_healthCheckNodePort, kl_int(port));
}

static int choose_ports(struct kl_req *r, struct kl_value *spec, const struct kl_value *old_spec)
{
    struct ports p = {0};
    struct kl_kv *kv = kl_view_get(kl_req_view(r), NODE_PORTS_KEY);
    struct kl_str was = kv ? kl_kv_value(kv) : KL_STR("");
    int rc = 0;
    memcpy(p.bits, was.p, was.n < sizeof p.bits ? was.n : sizeof p.bits);
    if (needs_node_ports(old_spec))
        for (KL_EACH(q, kl_get(old_spec, KL_F_ports)))
            release_port(&p, kl_int_at(q, 0, KL_F_nodePort));
    release_port(&p, kl_int_at(old_spec, 0, KL_F_healthCheckNodePort));
    if (needs_node_ports(spec))
        rc = claim_ports(r, &p, spec, old_spec);
    if (!rc && needs_health_port(spec))
        rc = claim_health_port(r, &p, spec, old_spec);
    static const uint8_t none[sizeof p.bits];
    const void *before = was.n == sizeof p.bits ? was.p : (const char *)none;
    if (rc || r->opts.dry_run || !memcmp(before, p.bits, sizeof p.bits))
        return rc;
    struct kl_bytes *b = kl_bytes_new((struct kl_str){(char *)p.bits, sizeof p.bits});
    if (!b)
        return kl_fail_oom(r), KL_ENOMEM;
    kl_req_keep_bytes(r, b);
    add_put(r->write, NODE_PORTS_KEY, kv ? kv->mod_rev : 0, b);
    return 0;
}

static void release_ip(struct kl_req *r, const struct kl_value *old_spec)
{
    struct kl_str ip = kl_text(kl_get(old_spec, KL_F_clusterIP));
    if (r->opts.dry_run || !ip.n || headless(ip))
        return;
    struct kl_str key = ip_key(r->arena, ip);
    if (key.p && kl_view_get(kl_req_view(r), key))
        r->write->extra_op[r->write->nextra_op++] =
            (struct kl_op){.kind = KL_OP_DELETE, .key = key};
}

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
    if (needs_node_ports(os) && !needs_node_ports(spec)) {
        bool same = n == kl_len(kl_get(os, KL_F_ports));
        for (size_t i = 0; i < n && same; i++)
            same = kl_int_at(kl_at(kl_get(spec, KL_F_ports), i), 0, KL_F_nodePort) ==
                   kl_int_at(kl_at(kl_get(os, KL_F_ports), i), 0, KL_F_nodePort);
        for (size_t i = 0; i < n && same && !rc; i++)
            rc = set_node_port(r, spec, i, 0);
    }
    if (needs_health_port(os) && !needs_health_port(spec) &&
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

static int families(struct kl_req *r, struct kl_value *spec)
{
    struct kl_arena *a = r->arena;
    struct kl_value f = kl_new_array();
    kl_append(a, &f, kl_stringz("IPv4"));
    kl_set_default(a, spec, KL_F_ipFamilies, f);
    return kl_set_default(a, spec, KL_F_ipFamilyPolicy, kl_stringz("SingleStack"));
}

int kl_service_prepare_create(struct kl_req *r, struct kl_value *draft)
{
    struct kl_value *spec = kl_edit(r->arena, draft, KL_F_spec, KL_STRUCT);
    int rc;
    if (!spec)
        return kl_fail_oom(r), KL_ENOMEM;
    if (kl_str_eqz(kl_text(kl_get(spec, KL_F_type)), "ExternalName"))
        return 0;
    if ((rc = families(r, spec)))
        return rc;
    if (headless(kl_text(kl_get(spec, KL_F_clusterIP)))) {
        struct kl_value ips = kl_new_array();
        kl_append(r->arena, &ips, kl_stringz("None"));
        kl_set(r->arena, spec, KL_F_clusterIPs, ips);
        return 0;
    }
    rc = choose_ip(r, draft, spec);
    return rc ? rc : choose_ports(r, spec, NULL);
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
    bool external = kl_str_eqz(kl_text(kl_get(spec, KL_F_type)), "ExternalName");
    bool was_external = kl_str_eqz(kl_text(kl_get(os, KL_F_type)), "ExternalName");
    if (was_external && !external)
        return kl_service_prepare_create(r, draft);
    int rc = drop_dependent(r, spec, os);
    if (rc)
        return rc;
    for (size_t i = 0; !external && i < KL_COUNT(kept); i++) {
        const struct kl_value *v = kl_get(os, kept[i]);
        if (v && kl_set_default(a, spec, kept[i], *v))
            return kl_fail_oom(r), KL_ENOMEM;
    }
    // A client that knows of one address only changes both fields with it (normalizeClusterIPs).
    const struct kl_value *ip = kl_get(spec, KL_F_clusterIP);
    if (!external && !kl_value_equal(ip, kl_get(os, KL_F_clusterIP)) &&
        kl_value_equal(kl_get(spec, KL_F_clusterIPs), kl_get(os, KL_F_clusterIPs))) {
        struct kl_value ips = kl_new_array();
        if (kl_append(a, &ips, *ip) || kl_set(a, spec, KL_F_clusterIPs, ips))
            return kl_fail_oom(r), KL_ENOMEM;
    }
    if (external && !was_external)
        release_ip(r, os);
    return choose_ports(r, spec, os);
}

// The claims of a Service that goes.
int kl_service_release(struct kl_req *r, const struct kl_value *old)
{
    struct kl_value none = kl_new_struct();
    release_ip(r, kl_get(old, KL_F_spec));
    return choose_ports(r, &none, kl_get(old, KL_F_spec));
}
