// SPDX-License-Identifier: Apache-2.0
// Node ports: one byte string of bits for the whole range (registry/core/service/portallocator).
#include "apiserver/allocate/allocate.h"
#include "base/rand.h"

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
    struct kl_port_range range;
    const struct kl_value *old, *now; // specs
    uint8_t *bits, *mine;
};

static void release_port(struct ports *p, int64_t port)
{
    size_t n = (size_t)(port - p->range.first);
    if (kl_port_range_has(&p->range, port))
        p->bits[n / 8] &= (uint8_t) ~(1u << (n % 8));
}

// What a Service had it keeps, even when the range is another one now.
static bool had_port(const struct kl_value *old, int64_t port)
{
    for (KL_EACH(q, kl_get(old, KL_F_ports)))
        if (kl_int_at(q, 0, KL_F_nodePort) == port)
            return true;
    return kl_int_at(old, 0, KL_F_healthCheckNodePort) == port;
}

// NULL, or why not. A port may serve several protocols of one Service.
static const char *claim_port(struct kl_req *r, struct ports *p, int64_t port)
{
    size_t n = (size_t)(port - p->range.first);
    bool had = had_port(p->old, port);
    if (!kl_port_range_has(&p->range, port)) {
        char text[KL_PORT_RANGE_TEXT];
        kl_port_range_text(&p->range, text);
        struct kl_str why = kl_arena_printf(
            r->arena, "provided port is not in the valid range. The range of valid ports is %s",
            text);
        return had ? NULL : why.p ? why.p : "provided port is not in the valid range";
    }
    if (bit(p->bits, (uint32_t)n) && !bit(p->mine, (uint32_t)n) && !had)
        return "provided port is already allocated";
    p->bits[n / 8] |= (uint8_t)(1u << (n % 8));
    p->mine[n / 8] |= (uint8_t)(1u << (n % 8));
    return NULL;
}

static int64_t search(const struct ports *p, uint32_t first, uint32_t count)
{
    uint32_t start = count ? (uint32_t)(kl_rand_u64() % count) : 0;
    for (uint32_t k = 0; k < count; k++)
        if (!bit(p->bits, first + (start + k) % count)) {
            int64_t port = (int64_t)p->range.first + first + (start + k) % count;
            if (!had_port(p->now, port)) // what the Service asks for by number is not chosen
                return port;
        }
    return 0;
}

// From a random place upward: above the band that is kept for those who name a port, then in it.
// 0: the range is full.
static int64_t free_port(const struct ports *p)
{
    uint32_t band = kl_port_band(&p->range);
    int64_t port = search(p, band, p->range.count - band);
    return port ? port : search(p, 0, band);
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

// initNodePorts: what a new Service names twice for ports of different numbers it asks for twice.
static bool named_before(const struct kl_value *spec, size_t i, int64_t port)
{
    bool before = false;
    const struct kl_value *list = kl_get(spec, KL_F_ports);
    int64_t number = kl_int_at(kl_at(list, i), 0, KL_F_port);
    for (size_t k = 0; k < i; k++) {
        bool same = kl_int_at(kl_at(list, k), 0, KL_F_nodePort) == port;
        if (same && kl_int_at(kl_at(list, k), 0, KL_F_port) == number)
            return false;
        before |= same;
    }
    return before;
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
        const char *why = !old_spec && named_before(spec, i, port)
                              ? "provided port is already allocated"
                              : claim_port(r, p, port);
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
    const char *why = claim_port(r, p, port);
    if (why) {
        kl_fail_internal(r, "failed to allocate requested HealthCheck NodePort %lld: %s",
                         (long long)port, why);
        return KL_EINTERNAL;
    }
    return kl_set(r->arena, spec, KL_F_healthCheckNodePort, kl_int(port));
}

int kl_claim_ports(struct kl_req *r, struct kl_value *spec, const struct kl_value *old_spec)
{
    struct ports p = {.range = kl_node_ports(r->srv), .old = old_spec, .now = spec};
    struct kl_kv *kv = kl_view_get(kl_req_view(r), KL_NODE_PORTS_KEY);
    size_t n = kl_port_bytes(&p.range);
    uint8_t *before = kl_arena_alloc(r->arena, n);
    p.bits = kl_arena_alloc(r->arena, n);
    p.mine = kl_arena_zalloc(r->arena, n);
    if (!before || !p.bits || !p.mine)
        return kl_fail_oom(r), KL_ENOMEM;
    int rc = kl_ports_read(kv ? kl_kv_value(kv) : KL_STR(""), &p.range, before);
    if (rc < 0) // repair.c writes it anew
        return kl_fail_internal(r, "unable to refresh the port allocations"), KL_EINTERNAL;
    memcpy(p.bits, before, n);
    if (kl_needs_node_ports(old_spec))
        for (KL_EACH(q, kl_get(old_spec, KL_F_ports)))
            release_port(&p, kl_int_at(q, 0, KL_F_nodePort));
    release_port(&p, kl_int_at(old_spec, 0, KL_F_healthCheckNodePort));
    rc = kl_needs_node_ports(spec) ? claim_ports(r, &p, spec, old_spec) : 0;
    if (!rc && kl_needs_health_port(spec))
        rc = claim_health_port(r, &p, spec, old_spec);
    if (rc || r->opts.dry_run || !memcmp(before, p.bits, n))
        return rc;
    struct kl_bytes *b = kl_ports_write(&p.range, p.bits);
    if (!b)
        return kl_fail_oom(r), KL_ENOMEM;
    kl_req_keep_bytes(r, b);
    kl_claim(r, KL_NODE_PORTS_KEY, kv ? kv->mod_rev : 0, b);
    return 0;
}
