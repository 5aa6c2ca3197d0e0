// SPDX-License-Identifier: Apache-2.0
#include "apiserver/allocate/repair.h"
#include "apiserver/allocate/allocate.h"
#include "base/clock.h"
#include "base/log.h"
#include "client/helpers.h"
#include "client/recorder.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    FIRST_MS = 1000,
    PERIOD_MS = 3 * 60 * 1000,
    LEAK_GRACE_S = 60, // an address whose Service may still be on its way
    MAX_FLYING = 64,   // what is left waits for the next round, which then comes soon
    SOON_MS = 1000,
    ARENA_BYTES = 256 << 20,
};

struct kl_repair {
    struct kl_apiserver *srv;
    struct kl_client *client;
    struct kl_timers *timers;
    struct kl_recorder *recorder;
    uv_timer_t timer;
    bool running, stopping, first, more;
    int flying;
    struct kl_port_range range;
    uint8_t *leaks;        // for each port: rounds that it was seen unused
    struct kl_arena arena; // of a round
    // Of a round: one for all that it reads, as a Service comes and goes together with its
    // addresses and the reader's newest view moves on meanwhile.
    struct kl_view *view;
};

static struct kl_object *get(struct kl_repair *r, uint16_t res, struct kl_str ns,
                             struct kl_str name)
{
    struct kl_error err;
    struct kl_str key = kl_object_key(&r->arena, kl_res(res), ns, name);
    struct kl_kv *kv = key.p ? kl_view_get(r->view, key) : NULL;
    return kv ? kl_cache_object(kv, kl_res(res), &err) : NULL;
}

// ---- writes

struct write {
    struct kl_repair *r;
    struct kl_txn txn;
    struct kl_compare cmp[2];
    struct kl_op op;
    struct kl_bytes *value;
    char key[400], with[700];
};

static void on_written(struct kl_txn *t)
{
    struct write *w = KL_CONTAINER_OF(t, struct write, txn);
    w->r->more |= t->code || !t->body.succeeded;
    w->r->flying--;
    kl_bytes_unref(w->value);
    kl_txn_fini(t);
    free(w);
}

// Puts the value (taken over; NULL: deletes) if the key is still at `was`, and `with` (NULL: none)
// as it is. False: another time.
static bool submit(struct kl_repair *r, struct kl_str key, kl_rev was, const struct kl_kv *with,
                   struct kl_bytes *value)
{
    struct kl_str other = with ? kl_kv_key(with) : KL_STR("");
    struct write *w = NULL;
    if (r->flying < MAX_FLYING && key.n < sizeof w->key && other.n < sizeof w->with)
        w = calloc(1, sizeof *w);
    struct kl_error err = {0};
    if (!w) {
        kl_bytes_unref(value);
        r->more = true;
        return false;
    }
    w->r = r;
    w->value = value;
    memcpy(w->key, key.p, key.n);
    key.p = w->key;
    w->cmp[0] = (struct kl_compare){
        .key = key, .target = KL_COMPARE_MOD, .result = KL_COMPARE_EQ, .num = was};
    if (with) {
        memcpy(w->with, other.p, other.n);
        w->cmp[1] = w->cmp[0];
        w->cmp[1].key = (struct kl_str){w->with, other.n};
        w->cmp[1].num = with->mod_rev;
    }
    w->op = value ? (struct kl_op){.kind = KL_OP_PUT, .key = key, .value = value}
                  : (struct kl_op){.kind = KL_OP_DELETE, .key = key};
    w->txn = (struct kl_txn){.cb = on_written};
    w->txn.body = (struct kl_txn_body){
        .compares = w->cmp, .ncompares = with ? 2 : 1, .then = &w->op, .nthen = 1};
    if (kl_store_submit(r->srv->o.store, &w->txn, &err)) {
        kl_bytes_unref(value);
        free(w);
        r->more = true;
        return false;
    }
    r->flying++;
    return true;
}

static void tell(struct kl_repair *r, uint16_t res, const struct kl_value *about,
                 const char *reason, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
static void tell(struct kl_repair *r, uint16_t res, const struct kl_value *about,
                 const char *reason, const char *fmt, ...)
{
    struct kl_object_ref ref = kl_ref_of(kl_res(res), about);
    va_list ap;
    va_start(ap, fmt);
    struct kl_str text = kl_arena_vprintf(&r->arena, fmt, ap);
    va_end(ap);
    kl_log(KL_LOG_WARN, "allocate", "%.*s/%.*s: %.*s", KL_PRI(kl_meta_namespace(about)),
           KL_PRI(kl_meta_name(about)), KL_PRI(text));
    kl_recorder_event(r->recorder, &ref, "Warning", reason, text);
}

// ---- addresses

static bool is_claimed_by(const struct kl_value *address, const struct kl_value *service)
{
    const struct kl_value *ref = kl_path(address, KL_F_spec, KL_F_parentRef);
    return !kl_text(kl_get(ref, KL_F_group)).n &&
           kl_str_eqz(kl_text(kl_get(ref, KL_F_resource)), "services") &&
           kl_str_eq(kl_text(kl_get(ref, KL_F_namespace)), kl_meta_namespace(service)) &&
           kl_str_eq(kl_text(kl_get(ref, KL_F_name)), kl_meta_name(service));
}

static bool has_address(const struct kl_value *service, struct kl_str ip)
{
    for (KL_EACH(x, kl_path(service, KL_F_spec, KL_F_clusterIPs))) {
        kl_ip a, b;
        bool a6, b6;
        if (kl_ip_parse(kl_text(x), &a, &a6) && kl_ip_parse(ip, &b, &b6) && a6 == b6 && a == b)
            return true;
    }
    return false;
}

static bool is_labelled(const struct kl_value *address, bool v6)
{
    const struct kl_value *l = kl_meta_labels(address);
    return kl_str_eqz(kl_text(kl_map_value(l, KL_STR("ipaddress.kubernetes.io/managed-by"))),
                      "ipallocator.k8s.io") &&
           kl_str_eqz(kl_text(kl_map_value(l, KL_STR("ipaddress.kubernetes.io/ip-family"))),
                      v6 ? "IPv6" : "IPv4");
}

// of: the Service's version that has the address; the claim is not made for one that went.
static void claim_for(struct kl_repair *r, const struct kl_kv *of, const struct kl_value *service,
                      struct kl_str ip, bool v6)
{
    struct kl_arena *a = &r->arena;
    struct kl_str key = kl_ip_key(a, ip);
    struct kl_kv *kv = key.p ? kl_view_get(r->view, key) : NULL;
    struct kl_error err = {0};
    struct kl_bytes *b = kl_ip_object(r->srv->o.encryption, a, ip, v6, kl_meta_namespace(service),
                                      kl_meta_name(service), kl_wall_ms() / 1000 * 1000000, &err);
    if (b)
        submit(r, key, kv ? kv->mod_rev : 0, of, b);
    else
        kl_log(KL_LOG_WARN, "allocate", "%.*s is not repaired: %s", KL_PRI(ip), err.msg);
}

static void check_address(struct kl_repair *r, const struct kl_kv *of,
                          const struct kl_value *service, struct kl_str text,
                          const struct kl_ip_range *ranges, size_t nranges)
{
    const uint16_t res = KL_RES_core_v1_services;
    kl_ip number;
    bool v6, in_range = false;
    if (!kl_ip_parse(text, &number, &v6)) {
        tell(r, res, service, "ClusterIPNotValid",
             "Cluster IP %.*s is not a valid IP; please recreate Service", KL_PRI(text));
        return;
    }
    const char *family = v6 ? "IPv6" : "IPv4";
    struct kl_str ip = kl_ip_text(&r->arena, number, v6);
    for (size_t i = 0; i < nranges; i++)
        in_range |= kl_ip_range_has(&ranges[i], number, v6);
    if (!in_range) {
        tell(r, res, service, "ClusterIPOutOfRange",
             "Cluster IP [%s]: %.*s is not within any configured Service CIDR; please recreate "
             "service",
             family, KL_PRI(ip));
        return;
    }
    struct kl_object *o = get(r, KL_RES_networking_v1_ipaddresses, KL_STR(""), ip);
    if (!o) {
        tell(r, res, service, "ClusterIPNotAllocated",
             "Cluster IP [%s]: %.*s is not allocated; repairing", family, KL_PRI(ip));
        claim_for(r, of, service, ip, v6);
        return;
    }
    if (is_claimed_by(&o->root, service)) {
        if (!is_labelled(&o->root, v6))
            claim_for(r, of, service, ip, v6);
        return;
    }
    const struct kl_value *ref = kl_path(&o->root, KL_F_spec, KL_F_parentRef);
    struct kl_object *other =
        kl_str_eqz(kl_text(kl_get(ref, KL_F_resource)), "services")
            ? get(r, res, kl_text(kl_get(ref, KL_F_namespace)), kl_text(kl_get(ref, KL_F_name)))
            : NULL;
    if (other && has_address(&other->root, ip)) {
        tell(r, res, service, "ClusterIPAlreadyAllocated",
             "Cluster IP [%s]:%.*s was assigned to multiple services; please recreate service",
             family, KL_PRI(ip));
        return;
    }
    tell(r, res, service, "ClusterIPNotAllocated",
         "the ClusterIP [%s]: %.*s for Service %.*s/%.*s has a wrong reference; repairing", family,
         KL_PRI(ip), KL_PRI(kl_meta_namespace(service)), KL_PRI(kl_meta_name(service)));
    claim_for(r, of, service, ip, v6);
}

// An address that the allocator made and no Service has.
static void check_claim(struct kl_repair *r, struct kl_kv *kv, const struct kl_value *address)
{
    const uint16_t res = KL_RES_networking_v1_ipaddresses;
    const struct kl_value *ref = kl_path(address, KL_F_spec, KL_F_parentRef);
    const struct kl_value *by =
        kl_map_value(kl_meta_labels(address), KL_STR("ipaddress.kubernetes.io/managed-by"));
    struct kl_str ns = kl_text(kl_get(ref, KL_F_namespace)), name = kl_text(kl_get(ref, KL_F_name));
    struct kl_str ip = kl_meta_name(address);
    if (!kl_str_eqz(kl_text(by), "ipallocator.k8s.io"))
        return;
    bool of_service = !kl_text(kl_get(ref, KL_F_group)).n &&
                      kl_str_eqz(kl_text(kl_get(ref, KL_F_resource)), "services");
    struct kl_object *s = of_service ? get(r, KL_RES_core_v1_services, ns, name) : NULL;
    if (s && has_address(&s->root, ip))
        return;
    int64_t made_us = kl_int_at(address, 0, KL_F_metadata, KL_F_creationTimestamp);
    bool young = kl_wall_ms() / 1000 - made_us / 1000000 < LEAK_GRACE_S;
    // Before this server served anybody, what is there is not on its way: nobody else writes claims
    // apart from their Services.
    if (of_service && young && !r->first)
        return;
    if (!of_service)
        tell(r, res, address, "IPAddressNotAllocated",
             "IPAddress %.*s appears to have been modified, not referencing a Service: cleaning up",
             KL_PRI(ip));
    else
        tell(r, res, address, "IPAddressNotAllocated",
             "IPAddress: %.*s for Service %.*s/%.*s appears to have leaked: cleaning up",
             KL_PRI(ip), KL_PRI(ns), KL_PRI(name));
    struct kl_str key = kl_ip_key(&r->arena, ip);
    if (key.p)
        submit(r, key, kv->mod_rev, NULL, NULL);
}

// ---- node ports

struct ports {
    uint8_t *rebuilt, *stored;
    bool damaged; // or of another range
};

static bool bit(const uint8_t *bits, int64_t i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

static void take_port(struct kl_repair *r, struct ports *p, const struct kl_value *service,
                      int64_t port, bool again)
{
    const uint16_t res = KL_RES_core_v1_services;
    int64_t i = port - r->range.first;
    if (!port)
        return;
    if (!kl_port_range_has(&r->range, port)) {
        char text[KL_PORT_RANGE_TEXT];
        kl_port_range_text(&r->range, text);
        tell(r, res, service, "PortOutOfRange",
             "Port %lld is not within the port range %s; please recreate service", (long long)port,
             text);
        return;
    }
    if (bit(p->rebuilt, i) && !again)
        tell(r, res, service, "PortAlreadyAllocated",
             "Port %lld was assigned to multiple services; please recreate service",
             (long long)port);
    else if (!bit(p->rebuilt, i) && !bit(p->stored, i))
        tell(r, res, service, "PortNotAllocated", "Port %lld is not allocated; repairing",
             (long long)port);
    p->rebuilt[i / 8] |= (uint8_t)(1u << (i % 8));
    r->leaks[i] = 0;
}

static void take_ports(struct kl_repair *r, struct ports *p, const struct kl_value *service)
{
    const struct kl_value *list = kl_path(service, KL_F_spec, KL_F_ports);
    for (size_t i = 0; i < kl_len(list); i++) {
        int64_t port = kl_int_at(kl_at(list, i), 0, KL_F_nodePort);
        bool again = false; // of the same Service, for another protocol
        for (size_t k = 0; k < i; k++)
            again |= kl_int_at(kl_at(list, k), 0, KL_F_nodePort) == port;
        take_port(r, p, service, port, again);
    }
    take_port(r, p, service, kl_int_at(service, 0, KL_F_spec, KL_F_healthCheckNodePort), false);
}

// A port that nobody has stays taken for some rounds: its Service may be on its way.
static void write_ports(struct kl_repair *r, struct ports *p, kl_rev was)
{
    enum { ROUNDS = 3 };
    for (uint32_t i = 0; i < r->range.count; i++) {
        if (!bit(p->stored, i) || bit(p->rebuilt, i))
            continue;
        if (++r->leaks[i] < ROUNDS && !r->first)
            p->rebuilt[i / 8] |= (uint8_t)(1u << (i % 8));
        else
            kl_log(KL_LOG_WARN, "allocate", "the node port %u appears to have leaked: cleaning up",
                   r->range.first + i);
    }
    if (!p->damaged && !memcmp(p->rebuilt, p->stored, kl_port_bytes(&r->range)))
        return;
    struct kl_bytes *b = kl_ports_write(&r->range, p->rebuilt);
    if (b)
        submit(r, KL_NODE_PORTS_KEY, was, NULL, b);
}

// ---- a round

static void begin_walk(struct kl_repair *r, uint16_t res, struct kl_iter *it, char end[128])
{
    struct kl_str prefix = kl_arena_printf(&r->arena, "%s/", kl_res(res)->etcd_prefix);
    kl_iter_init(it, r->view, prefix, kl_prefix_end(prefix, end));
}

static void walk_services(struct kl_repair *r, struct ports *p)
{
    size_t n;
    const struct kl_ip_range *ranges = kl_ip_ranges_of(&r->srv->loops[0], &r->arena, true, &n);
    struct kl_iter it;
    struct kl_error err;
    char end[128];
    begin_walk(r, KL_RES_core_v1_services, &it, end);
    for (struct kl_kv *kv; (kv = kl_iter_next(&it));) {
        struct kl_object *o = kl_cache_object(kv, kl_res(KL_RES_core_v1_services), &err);
        if (!o)
            continue;
        take_ports(r, p, &o->root);
        if (kl_str_eqz(kl_text_at(&o->root, KL_F_spec, KL_F_type), "ExternalName"))
            continue;
        for (KL_EACH(x, kl_path(&o->root, KL_F_spec, KL_F_clusterIPs)))
            if (kl_text(x).n && !kl_str_eqz(kl_text(x), "None"))
                check_address(r, kv, &o->root, kl_text(x), ranges, n);
    }
}

static void walk_claims(struct kl_repair *r)
{
    const struct kl_resource *res = kl_res(KL_RES_networking_v1_ipaddresses);
    struct kl_iter it;
    struct kl_error err;
    char end[128];
    begin_walk(r, KL_RES_networking_v1_ipaddresses, &it, end);
    for (struct kl_kv *kv; (kv = kl_iter_next(&it));) {
        struct kl_object *o = kl_cache_object(kv, res, &err);
        if (o)
            check_claim(r, kv, &o->root);
    }
}

static void round_of(uv_timer_t *t)
{
    struct kl_repair *r = t->data;
    struct ports p = {0};
    if (r->stopping || !r->srv->loops[0].reader || r->flying)
        return;
    r->view = kl_reader_view(r->srv->loops[0].reader);
    struct kl_kv *kv = kl_view_get(r->view, KL_NODE_PORTS_KEY);
    kl_arena_reset(&r->arena);
    p.stored = kl_arena_alloc(&r->arena, kl_port_bytes(&r->range));
    p.rebuilt = kl_arena_zalloc(&r->arena, kl_port_bytes(&r->range));
    r->more = false;
    if (!p.stored || !p.rebuilt)
        return; // next time
    p.damaged = kl_ports_read(kv ? kl_kv_value(kv) : KL_STR(""), &r->range, p.stored) != 0;
    walk_services(r, &p);
    walk_claims(r);
    write_ports(r, &p, kv ? kv->mod_rev : 0);
    r->first = false;
    uv_timer_start(t, round_of, r->more ? SOON_MS : PERIOD_MS, PERIOD_MS);
}

struct kl_repair *kl_repair_start(struct kl_apiserver *s)
{
    static const char *const groups[] = {"system:masters", NULL};
    struct kl_loop *loop = s->loops[0].loop;
    struct kl_repair *r = calloc(1, sizeof *r);
    struct kl_error err = {0};
    if (!r)
        return NULL;
    r->srv = s;
    r->first = true;
    r->range = kl_node_ports(s);
    r->leaks = calloc(r->range.count, 1);
    kl_arena_init(&r->arena, ARENA_BYTES);
    r->client = kl_apiserver_client(s, loop, "system:apiserver", groups, "kube-apiserver/repair");
    if (!r->leaks || !r->client || kl_timers_new(loop, &r->timers, &err) ||
        !(r->recorder = kl_recorder_new(r->client, r->timers,
                                        KL_STR("ipallocator-repair-controller"), KL_STR(""))) ||
        uv_timer_init(kl_loop_uv(loop), &r->timer)) {
        kl_log(KL_LOG_ERROR, "allocate", "out of memory");
        kl_repair_free(r);
        return NULL;
    }
    r->timer.data = r;
    r->running = true;
    uv_unref((uv_handle_t *)&r->timer);
    uv_timer_start(&r->timer, round_of, FIRST_MS, PERIOD_MS);
    return r;
}

void kl_repair_stop(struct kl_repair *r)
{
    if (!r || r->stopping)
        return;
    r->stopping = true;
    if (r->running)
        uv_close((uv_handle_t *)&r->timer, NULL);
    kl_recorder_free(r->recorder);
    r->recorder = NULL;
    kl_timers_free(r->timers);
    r->timers = NULL;
}

void kl_repair_free(struct kl_repair *r)
{
    if (!r)
        return;
    kl_recorder_free(r->recorder);
    kl_timers_free(r->timers);
    kl_client_free(r->client);
    kl_arena_fini(&r->arena);
    free(r->leaks);
    free(r);
}
