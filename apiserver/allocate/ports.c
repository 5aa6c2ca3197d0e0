// SPDX-License-Identifier: Apache-2.0
// Node ports: one byte string of bits for the whole range (registry/core/service/portallocator).
#include "apiserver/allocate/allocate.h"
#include "base/rand.h"
#include <stdlib.h>

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

// The node ports that a spec's ports have, by their numbers: a list may be as long as an object.
struct place {
    int64_t number;
    size_t at; // in the list
    struct kl_str protocol;
    int64_t node_port; // 0: none
    size_t first;      // of a number's first place only: the first with a node port, SIZE_MAX: none
    int64_t first_port;
};

struct places {
    struct place *v; // by number, then as they stand
    size_t n;
};

// The range as this write finds it and leaves it.
struct ports {
    struct kl_port_range range;
    const struct kl_value *old; // spec
    struct places had, now;
    uint8_t *bits, *mine;
    uint8_t *was, *asked; // what the Service had; what it asks for by number
};

static int by_number(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->number != y->number ? (x->number < y->number ? -1 : 1)
                                  : (x->at > y->at) - (x->at < y->at);
}

// The first place of a number; NULL: none.
static struct place *find_number(const struct places *p, int64_t number)
{
    size_t lo = 0, hi = p->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (p->v[mid].number < number)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < p->n && p->v[lo].number == number ? &p->v[lo] : NULL;
}

static void note_port(struct place *head, size_t at, int64_t node_port)
{
    if (node_port && at < head->first) {
        head->first = at;
        head->first_port = node_port;
    }
}

static int places_init(struct kl_arena *a, struct places *p, const struct kl_value *spec)
{
    struct place *head = NULL;
    p->v = kl_arena_alloc(a, (kl_len(kl_get(spec, KL_F_ports)) + 1) * sizeof *p->v);
    if (!p->v)
        return KL_ENOMEM;
    for (KL_EACH(q, kl_get(spec, KL_F_ports))) {
        p->v[p->n] = (struct place){.number = kl_int_at(q, 0, KL_F_port),
                                    .at = p->n,
                                    .protocol = kl_text(kl_get(q, KL_F_protocol)),
                                    .node_port = kl_int_at(q, 0, KL_F_nodePort),
                                    .first = SIZE_MAX};
        p->n++;
    }
    if (p->n)
        qsort(p->v, p->n, sizeof *p->v, by_number);
    for (size_t i = 0; i < p->n; i++) {
        if (!head || head->number != p->v[i].number)
            head = &p->v[i];
        note_port(head, p->v[i].at, p->v[i].node_port);
    }
    return 0;
}

// Bits of the ports in range that a spec names.
static void mark_ports(const struct kl_port_range *range, const struct kl_value *spec,
                       uint8_t *bits)
{
    int64_t health = kl_int_at(spec, 0, KL_F_healthCheckNodePort);
    for (KL_EACH(q, kl_get(spec, KL_F_ports))) {
        int64_t port = kl_int_at(q, 0, KL_F_nodePort);
        if (kl_port_range_has(range, port))
            bits[(port - range->first) / 8] |= (uint8_t)(1u << (port - range->first) % 8);
    }
    if (kl_port_range_has(range, health))
        bits[(health - range->first) / 8] |= (uint8_t)(1u << (health - range->first) % 8);
}

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

// NULL, or why not. A port may serve several protocols of one Service; whether what it asks for
// twice is one claim differs between a new Service and another (initNodePorts, updateNodePorts).
static const char *claim_port(struct kl_req *r, struct ports *p, int64_t port)
{
    size_t n = (size_t)(port - p->range.first);
    if (!kl_port_range_has(&p->range, port)) {
        char text[KL_PORT_RANGE_TEXT];
        kl_port_range_text(&p->range, text);
        struct kl_str why = kl_arena_printf(
            r->arena, "provided port is not in the valid range. The range of valid ports is %s",
            text);
        return had_port(p->old, port) ? NULL
               : why.p                ? why.p
                                      : "provided port is not in the valid range";
    }
    bool own = p->old && (bit(p->mine, (uint32_t)n) || bit(p->was, (uint32_t)n));
    if (bit(p->bits, (uint32_t)n) && !own)
        return "provided port is already allocated";
    p->bits[n / 8] |= (uint8_t)(1u << (n % 8));
    p->mine[n / 8] |= (uint8_t)(1u << (n % 8));
    return NULL;
}

static int64_t search(const struct ports *p, uint32_t first, uint32_t count)
{
    uint32_t start = count ? (uint32_t)(kl_rand_u64() % count) : 0;
    for (uint32_t k = 0; k < count; k++)
        // What the Service asks for by number is not chosen.
        if (!bit(p->bits, first + (start + k) % count) &&
            !bit(p->asked, first + (start + k) % count))
            return (int64_t)p->range.first + first + (start + k) % count;
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

// The node port that the Service had for a port of this number and protocol.
static int64_t port_had(const struct ports *p, const struct kl_value *port)
{
    const struct place *x = find_number(&p->had, kl_int_at(port, 0, KL_F_port));
    struct kl_str protocol = kl_text(kl_get(port, KL_F_protocol));
    for (size_t i = x ? (size_t)(x - p->had.v) : p->had.n;
         i < p->had.n && p->had.v[i].number == x->number; i++)
        if (p->had.v[i].node_port && kl_str_eq(p->had.v[i].protocol, protocol))
            return p->had.v[i].node_port;
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
            port = port_had(p, sp);
        struct place *head = find_number(&p->now, kl_int_at(sp, 0, KL_F_port));
        if (!port)
            port = head->first_port;
        if (!port && !(port = free_port(p)))
            return no_port(r);
        // Of a new Service the first of a number has claimed for those behind it.
        bool claimed = !old_spec && head->first < i && port == head->first_port;
        const char *why = claimed ? NULL : claim_port(r, p, port);
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
        note_port(head, i, port);
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
    struct ports p = {.range = kl_node_ports(r->srv), .old = old_spec};
    struct kl_kv *kv = kl_view_get(kl_req_view(r), KL_NODE_PORTS_KEY);
    size_t n = kl_port_bytes(&p.range);
    uint8_t *before = kl_arena_alloc(r->arena, n);
    p.bits = kl_arena_alloc(r->arena, n);
    p.mine = kl_arena_zalloc(r->arena, n);
    p.was = kl_arena_zalloc(r->arena, n);
    p.asked = kl_arena_zalloc(r->arena, n);
    if (!before || !p.bits || !p.mine || !p.was || !p.asked ||
        places_init(r->arena, &p.had, old_spec) || places_init(r->arena, &p.now, spec))
        return kl_fail_oom(r), KL_ENOMEM;
    mark_ports(&p.range, old_spec, p.was);
    mark_ports(&p.range, spec, p.asked);
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
