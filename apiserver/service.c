// SPDX-License-Identifier: Apache-2.0
#include "apiserver/service.h"
#include "base/rand.h"
#include "watchcache/filter.h"

struct search {
    struct kl_api_loop *al;
    struct kl_arena *arena;
    struct kl_str ns;
    struct kl_str service, port_name, family; // "IPv4"; empty: whichever
    bool pods;                                // only addresses of pods that have them
    size_t slices;
    bool found, at_home; // an address; it is of that family
    uint64_t lot;        // the one that was drawn for it: the lowest wins
    struct kl_str ip;
    int port;
};

static const struct kl_value *port_of(const struct kl_value *service, int port)
{
    for (KL_EACH(p, kl_path(service, KL_F_spec, KL_F_ports)))
        if (kl_int_or(kl_get(p, KL_F_port), 0) == port)
            return p;
    return NULL;
}

static int port_in_slice(const struct kl_value *slice, struct kl_str name)
{
    for (KL_EACH(p, kl_get(slice, KL_F_ports))) {
        int port = (int)kl_int_or(kl_get(p, KL_F_port), 0);
        if (port && kl_str_eq(kl_text(kl_get(p, KL_F_name)), name))
            return port;
    }
    return 0;
}

// isValidAddress
static bool is_of_pod(const struct search *s, const struct kl_value *endpoint, struct kl_str ip)
{
    const struct kl_value *ref = kl_get(endpoint, KL_F_targetRef);
    struct kl_str name = kl_text(kl_get(ref, KL_F_name));
    if (!name.n || !kl_str_eq(kl_text(kl_get(ref, KL_F_namespace)), s->ns))
        return false;
    struct kl_object *pod = kl_api_object(s->al, s->arena, KL_RES_core_v1_pods, s->ns, name);
    for (KL_EACH(x, pod ? kl_path(&pod->root, KL_F_status, KL_F_podIPs) : NULL))
        if (kl_str_eq(kl_text(kl_get(x, KL_F_ip)), ip))
            return true;
    return false;
}

static void look_at_slice(struct search *s, const struct kl_value *slice)
{
    int port = port_in_slice(slice, s->port_name);
    bool at_home = !s->family.n || kl_str_eq(kl_text(kl_get(slice, KL_F_addressType)), s->family);
    s->slices++;
    if (!port)
        return;
    for (KL_EACH(e, kl_get(slice, KL_F_endpoints))) {
        const struct kl_value *ready = kl_path(e, KL_F_conditions, KL_F_ready);
        struct kl_str ip = kl_text(kl_at(kl_get(e, KL_F_addresses), 0));
        if (!ip.n || (ready && !kl_is_true(ready)) || (s->at_home && !at_home))
            continue;
        // What was found so far was only better than nothing where this one is at home. Pods are
        // asked of those that would be taken only; who draws does not depend on their answers.
        uint64_t lot = kl_rand_u64();
        if (s->found && at_home == s->at_home && lot >= s->lot)
            continue;
        if (s->pods && !is_of_pod(s, e, ip))
            continue;
        s->found = true;
        s->at_home = at_home;
        s->lot = lot;
        s->ip = ip;
        s->port = port;
    }
}

static int look_at_slices(struct search *s)
{
    const struct kl_resource *res = kl_res(KL_RES_discovery_v1_endpointslices);
    struct kl_filter f = {.res = res, .ns = s->ns};
    struct kl_str prefix = kl_filter_prefix(s->arena, &f);
    char *end = prefix.p ? kl_arena_alloc(s->arena, prefix.n + 1) : NULL;
    struct kl_iter it;
    struct kl_error err;
    if (!end)
        return KL_ENOMEM;
    kl_iter_init(&it, kl_reader_view(s->al->reader), prefix, kl_prefix_end(prefix, end));
    for (struct kl_kv *kv; (kv = kl_iter_next(&it));) {
        struct kl_object *o = kl_cache_object(kv, res, &err);
        struct kl_str of = o ? kl_text(kl_map_value(kl_meta_labels(&o->root),
                                                    KL_STR("kubernetes.io/service-name")))
                             : KL_STR("");
        if (o && kl_str_eq(of, s->service))
            look_at_slice(s, &o->root);
    }
    return 0;
}

static int find_address(struct search *s, struct kl_service_end *ret)
{
    ret->state = KL_SERVICE_NO_SLICES;
    if (look_at_slices(s))
        return KL_ENOMEM;
    if (!s->slices)
        return 0;
    ret->state = KL_SERVICE_NO_ADDRESS;
    if (!s->found)
        return 0;
    ret->state = KL_SERVICE_READY;
    ret->port = s->port;
    ret->host = kl_arena_dup(s->arena, s->ip);
    return ret->host.p ? 0 : KL_ENOMEM;
}

static int find(struct search *s, int port, struct kl_service_end *ret)
{
    struct kl_object *o =
        kl_api_object(s->al, s->arena, KL_RES_core_v1_services, s->ns, s->service);
    const struct kl_value *spec = o ? kl_get(&o->root, KL_F_spec) : NULL;
    *ret = (struct kl_service_end){.state = KL_SERVICE_ABSENT, .service = o, .port = port};
    if (!o)
        return 0;
    if (kl_str_eqz(kl_text(kl_get(spec, KL_F_type)), "ExternalName")) {
        ret->state = KL_SERVICE_EXTERNAL;
        ret->host = kl_arena_dup(s->arena, kl_text(kl_get(spec, KL_F_externalName)));
        return ret->host.p ? 0 : KL_ENOMEM;
    }
    const struct kl_value *p = port_of(&o->root, port);
    ret->state = KL_SERVICE_NO_PORT;
    if (!p)
        return 0;
    s->port_name = ret->port_name = kl_text(kl_get(p, KL_F_name));
    s->family = kl_text(kl_at(kl_get(spec, KL_F_ipFamilies), 0));
    return find_address(s, ret);
}

static int find_pod(struct search *s, struct kl_str port, struct kl_service_end *ret)
{
    int64_t number;
    bool numbered = kl_str_to_i64(port, &number);
    struct kl_object *o =
        kl_api_object(s->al, s->arena, KL_RES_core_v1_services, s->ns, s->service);
    const struct kl_value *spec = o ? kl_get(&o->root, KL_F_spec) : NULL;
    *ret = (struct kl_service_end){.state = KL_SERVICE_ABSENT, .service = o, .port_name = port};
    s->pods = true;
    if (!o && numbered)
        return 0;
    if (numbered) {
        bool fits = number > 0 && number <= UINT16_MAX;
        const struct kl_value *p = fits ? port_of(&o->root, (int)number) : NULL;
        ret->state = KL_SERVICE_NO_PORT;
        if (!p)
            return 0;
        ret->port_name = kl_text(kl_get(p, KL_F_name));
    }
    s->port_name = ret->port_name;
    s->family = kl_text(kl_at(kl_get(spec, KL_F_ipFamilies), 0));
    int rc = find_address(s, ret);
    if (!o && ret->state == KL_SERVICE_NO_SLICES)
        ret->state = KL_SERVICE_ABSENT;
    return rc;
}

static int say(const struct kl_service_end *e, struct kl_str name, int port, struct kl_error *err)
{
    switch (e->state) {
    case KL_SERVICE_READY:
    case KL_SERVICE_EXTERNAL:
        return 0;
    case KL_SERVICE_ABSENT:
        return kl_error_set(err, KL_EUNAVAILABLE, "service \"%.*s\" not found", KL_PRI(name));
    case KL_SERVICE_NO_PORT:
        return kl_error_set(err, KL_EUNAVAILABLE, "no service port %d found for service \"%.*s\"",
                            port, KL_PRI(name));
    case KL_SERVICE_NO_SLICES:
    case KL_SERVICE_NO_ADDRESS:
        break;
    }
    return kl_error_set(err, KL_EUNAVAILABLE, "no endpoints available for service \"%.*s\"",
                        KL_PRI(name));
}

int kl_service_find(struct kl_api_loop *al, struct kl_arena *a, struct kl_str ns,
                    struct kl_str name, int port, struct kl_service_end *ret, struct kl_error *err)
{
    struct search s = {.al = al, .arena = a, .ns = ns, .service = name};
    if (find(&s, port, ret))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    return say(ret, name, port, err);
}

int kl_service_find_pod(struct kl_api_loop *al, struct kl_arena *a, struct kl_str ns,
                        struct kl_str name, struct kl_str port, struct kl_service_end *ret,
                        struct kl_error *err)
{
    struct search s = {.al = al, .arena = a, .ns = ns, .service = name};
    if (find_pod(&s, port, ret))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    return say(ret, name, 0, err);
}
