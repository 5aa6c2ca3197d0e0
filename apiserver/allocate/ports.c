// SPDX-License-Identifier: Apache-2.0
// Node ports: one byte string of bits for the whole range (registry/core/service/portallocator).
#include "apiserver/allocate/allocate.h"
#include "base/rand.h"

// calculateRangeOffset: min(max(16, size / 32), 128).
enum { PORT_BAND = KL_NODE_PORT_COUNT / 32 };

static bool bit(const uint8_t *bits, uint32_t i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

bool kl_needs_node_ports(const struct kl_value *spec)
{
    struct kl_str type = kl_text(kl_get(spec, KL_F_type));
    return kl_str_eqz(type, "NodePort") || kl_str_eqz(type, "LoadBalancer");
}

bool kl_needs_health_port(const struct kl_value *spec)
{
    return kl_str_eqz(kl_text(kl_get(spec, KL_F_type)), "LoadBalancer") &&
           kl_str_eqz(kl_text(kl_get(spec, KL_F_externalTrafficPolicy)), "Local");
}

static bool wants_node_ports(const struct kl_value *spec)
{
    const struct kl_value *asked = kl_get(spec, KL_F_allocateLoadBalancerNodePorts);
    return kl_needs_node_ports(spec) &&
           (!kl_str_eqz(kl_text(kl_get(spec, KL_F_type)), "LoadBalancer") || !asked ||
            kl_is_true(asked));
}

// The range as this write finds it and leaves it.
struct ports {
    uint8_t bits[KL_NODE_PORT_BYTES], mine[KL_NODE_PORT_BYTES];
};

static void release_port(struct ports *p, int64_t port)
{
    int64_t n = port - KL_NODE_PORT_FIRST;
    if (n >= 0 && n < KL_NODE_PORT_COUNT)
        p->bits[n / 8] &= (uint8_t) ~(1u << (n % 8));
}

// NULL, or why not. A port may serve several protocols of one Service.
static const char *claim_port(struct ports *p, int64_t port)
{
    int64_t n = port - KL_NODE_PORT_FIRST;
    if (n < 0 || n >= KL_NODE_PORT_COUNT)
        return "provided port is not in the valid range. The range of valid ports is 30000-32767";
    if (bit(p->bits, (uint32_t)n) && !bit(p->mine, (uint32_t)n))
        return "provided port is already allocated";
    p->bits[n / 8] |= (uint8_t)(1u << (n % 8));
    p->mine[n / 8] |= (uint8_t)(1u << (n % 8));
    return NULL;
}

static int64_t search(const struct ports *p, uint32_t first, uint32_t count)
{
    uint32_t start = (uint32_t)(kl_rand_u64() % count);
    for (uint32_t k = 0; k < count; k++)
        if (!bit(p->bits, first + (start + k) % count))
            return KL_NODE_PORT_FIRST + first + (start + k) % count;
    return 0;
}

// From a random place upward: above the band that is kept for those who name a port, then in it.
// 0: the range is full.
static int64_t free_port(const struct ports *p)
{
    int64_t port = search(p, PORT_BAND, KL_NODE_PORT_COUNT - PORT_BAND);
    return port ? port : search(p, 0, PORT_BAND);
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

int kl_set_node_port(struct kl_req *r, struct kl_value *spec, size_t i, int64_t port)
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
        int rc = kl_set_node_port(r, spec, i, port);
        if (rc)
            return rc;
    }
    return 0;
}

static int claim_health_port(struct kl_req *r, struct ports *p, struct kl_value *spec,
                             const struct kl_value *old_spec)
{
    int64_t port = kl_int_at(spec, 0, KL_F_healthCheckNodePort);
    if (!port && kl_needs_health_port(old_spec))
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

int kl_claim_ports(struct kl_req *r, struct kl_value *spec, const struct kl_value *old_spec)
{
    struct ports p = {0};
    struct kl_kv *kv = kl_view_get(kl_req_view(r), KL_NODE_PORTS_KEY);
    uint8_t before[KL_NODE_PORT_BYTES];
    int rc = 0;
    if (!kl_ports_read(kv ? kl_kv_value(kv) : KL_STR(""), before)) // repair.c writes it anew
        return kl_fail_internal(r, "unable to refresh the port allocations"), KL_EINTERNAL;
    memcpy(p.bits, before, sizeof before);
    if (kl_needs_node_ports(old_spec))
        for (KL_EACH(q, kl_get(old_spec, KL_F_ports)))
            release_port(&p, kl_int_at(q, 0, KL_F_nodePort));
    release_port(&p, kl_int_at(old_spec, 0, KL_F_healthCheckNodePort));
    if (kl_needs_node_ports(spec))
        rc = claim_ports(r, &p, spec, old_spec);
    if (!rc && kl_needs_health_port(spec))
        rc = claim_health_port(r, &p, spec, old_spec);
    if (rc || r->opts.dry_run || !memcmp(before, p.bits, sizeof p.bits))
        return rc;
    struct kl_bytes *b = kl_ports_write(p.bits);
    if (!b)
        return kl_fail_oom(r), KL_ENOMEM;
    kl_req_keep_bytes(r, b);
    kl_claim(r, KL_NODE_PORTS_KEY, kv ? kv->mod_rev : 0, b);
    return 0;
}
