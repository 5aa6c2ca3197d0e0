// SPDX-License-Identifier: Apache-2.0
// What a Service's EndpointSlices are to be (upstream: k8s.io/endpointslice, reconciler.go). Pods
// whose ports have the same numbers share slices; slices that are there keep what may stay in them,
// so that a change writes as few of them as possible.
#include "controllers/endpointslice.h"
#include "controllers/pods.h"
#include <stdlib.h>

enum fate { KEPT, CHANGED, DROPPED, MADE };

struct want {
    struct kl_str key; // what makes it the same endpoint: addresses, host name, pod
    struct kl_value endpoint;
    bool placed;
};

// Pods with the same ports.
struct group {
    struct kl_value ports;
    struct want *wants;
    size_t n, cap;
};

struct edit {
    const struct kl_value *old; // NULL: a new one
    const struct group *group;  // NULL: the placeholder's, of no ports
    struct kl_value endpoints;
    enum fate fate;
};

struct sync {
    struct kl_plan *p;
    struct kl_slices_view *v;
    struct kl_value labels;
    const char *family;
    struct group *groups;
    size_t ngroups;
    struct edit *edits;
    size_t nedits;
    bool no_memory;
};

static const struct kl_resource *slices_res(void)
{
    return kl_res(KL_RES_discovery_v1_endpointslices);
}

static void append(struct sync *s, struct kl_value *list, struct kl_value v)
{
    s->no_memory |= kl_append(&s->p->arena, list, v) < 0;
}

// ---- one endpoint

static bool is_headless(const struct kl_value *service)
{
    struct kl_str ip = kl_text_at(service, KL_F_spec, KL_F_clusterIP);
    return !ip.n || kl_str_eqz(ip, "None");
}

static const struct kl_value *named_port(const struct kl_value *containers, struct kl_str name,
                                         const struct kl_value *protocol, bool sidecars)
{
    for (KL_EACH(c, containers)) {
        if (sidecars && !kl_str_eqz(kl_text(kl_get(c, KL_F_restartPolicy)), "Always"))
            continue;
        for (KL_EACH(port, kl_get(c, KL_F_ports)))
            if (kl_str_eq(kl_text(kl_get(port, KL_F_name)), name) &&
                kl_value_equal(kl_get(port, KL_F_protocol), protocol))
                return kl_get(port, KL_F_containerPort);
    }
    return NULL;
}

// The number that a Service's port means in a pod; -1: it has no such port.
static int64_t port_number(const struct kl_value *pod, const struct kl_value *port)
{
    const struct kl_value *target = kl_get(port, KL_F_targetPort);
    const struct kl_value *protocol = kl_get(port, KL_F_protocol);
    if (!kl_is(target, KL_STRING))
        return kl_int_or(target, 0);
    const struct kl_value *n =
        named_port(kl_path(pod, KL_F_spec, KL_F_containers), kl_text(target), protocol, false);
    if (!n)
        n = named_port(kl_path(pod, KL_F_spec, KL_F_initContainers), kl_text(target), protocol,
                       true);
    return kl_int_or(n, -1);
}

static struct kl_value ports_of(struct sync *s, const struct kl_value *pod)
{
    struct kl_arena *a = &s->p->arena;
    struct kl_value list = kl_new_array();
    for (KL_EACH(port, kl_path(s->v->service, KL_F_spec, KL_F_ports))) {
        int64_t number = port_number(pod, port);
        if (number < 0)
            continue;
        struct kl_value x = kl_new_struct();
        const struct kl_value *app = kl_get(port, KL_F_appProtocol);
        kl_set_str(a, &x, KL_F_name, kl_text(kl_get(port, KL_F_name)));
        kl_set_str(a, &x, KL_F_protocol, kl_text(kl_get(port, KL_F_protocol)));
        kl_set_int(a, &x, KL_F_port, number);
        if (app)
            kl_set(a, &x, KL_F_appProtocol, *app);
        append(s, &list, x);
    }
    return list;
}

static bool has_port(const struct kl_value *ports, const struct kl_value *port)
{
    for (KL_EACH(x, ports))
        if (kl_value_equal(x, port))
            return true;
    return false;
}

static bool same_ports(const struct kl_value *a, const struct kl_value *b)
{
    if (kl_len(a) != kl_len(b))
        return false;
    for (KL_EACH(port, a))
        if (!has_port(b, port))
            return false;
    return true;
}

static bool is_v6(struct kl_str ip)
{
    return kl_str_chr(ip, ':') >= 0;
}

static struct kl_value addresses_of(struct sync *s, const struct kl_value *pod)
{
    bool v6 = strcmp(s->family, "IPv6") == 0;
    struct kl_value list = kl_new_array();
    for (KL_EACH(x, kl_path(pod, KL_F_status, KL_F_podIPs))) {
        struct kl_str ip = kl_text(kl_get(x, KL_F_ip));
        if (ip.n && is_v6(ip) == v6)
            append(s, &list, kl_string(ip));
    }
    return list;
}

static bool is_traffic(const struct sync *s, const char *word)
{
    return kl_str_eqz(kl_text_at(s->v->service, KL_F_spec, KL_F_trafficDistribution), word);
}

static bool is_close(const struct sync *s)
{
    return is_traffic(s, "PreferClose") || is_traffic(s, "PreferSameZone") ||
           is_traffic(s, "PreferSameNode");
}

static void set_hint(struct sync *s, struct kl_value *hints, kl_sym field, struct kl_str name)
{
    struct kl_value x = kl_new_struct(), list = kl_new_array();
    kl_set_str(&s->p->arena, &x, KL_F_name, name);
    append(s, &list, x);
    s->no_memory |= kl_set(&s->p->arena, hints, field, list) < 0;
}

static void set_hints(struct sync *s, struct kl_value *endpoint, struct kl_str zone,
                      struct kl_str node)
{
    struct kl_value hints = kl_new_struct();
    if (zone.n)
        set_hint(s, &hints, KL_F_forZones, zone);
    if (node.n && is_traffic(s, "PreferSameNode"))
        set_hint(s, &hints, KL_F_forNodes, node);
    if (hints.n)
        s->no_memory |= kl_set(&s->p->arena, endpoint, KL_F_hints, hints) < 0;
}

static struct kl_value endpoint_of(struct sync *s, const struct kl_slice_pod *sp,
                                   struct kl_value addresses)
{
    struct kl_arena *a = &s->p->arena;
    const struct kl_value *pod = sp->pod, *service = s->v->service;
    struct kl_value e = kl_new_struct(), conditions = kl_new_struct(), ref = kl_new_struct();
    bool serving = kl_pod_ready(pod), terminating = kl_meta_deleting(pod);
    bool ready =
        kl_true_at(service, KL_F_spec, KL_F_publishNotReadyAddresses) || (serving && !terminating);
    struct kl_str node = kl_text_at(pod, KL_F_spec, KL_F_nodeName);
    struct kl_str host = kl_text_at(pod, KL_F_spec, KL_F_hostname);
    kl_set(a, &conditions, KL_F_ready, kl_bool(ready));
    kl_set(a, &conditions, KL_F_serving, kl_bool(serving));
    kl_set(a, &conditions, KL_F_terminating, kl_bool(terminating));
    kl_set_z(a, &ref, KL_F_kind, "Pod");
    kl_set_str(a, &ref, KL_F_namespace, kl_meta_namespace(pod));
    kl_set_str(a, &ref, KL_F_name, kl_meta_name(pod));
    kl_set_str(a, &ref, KL_F_uid, kl_meta_uid(pod));
    kl_set(a, &e, KL_F_addresses, addresses);
    kl_set(a, &e, KL_F_conditions, conditions);
    kl_set(a, &e, KL_F_targetRef, ref);
    if (node.n)
        kl_set_str(a, &e, KL_F_nodeName, node);
    if (sp->zone.n)
        kl_set_str(a, &e, KL_F_zone, sp->zone);
    if (host.n && kl_str_eq(kl_text_at(pod, KL_F_spec, KL_F_subdomain), kl_meta_name(service)))
        kl_set_str(a, &e, KL_F_hostname, host);
    if (ready && is_close(s))
        set_hints(s, &e, sp->zone, node);
    return e;
}

static struct kl_str key_of(struct sync *s, const struct kl_value *endpoint)
{
    const struct kl_value *addresses = kl_get(endpoint, KL_F_addresses);
    struct kl_str ip = kl_text(kl_at(addresses, 0)), other = kl_text(kl_at(addresses, 1));
    struct kl_str key =
        kl_arena_printf(&s->p->arena, "%.*s\n%.*s\n%.*s\n%.*s\n%.*s", KL_PRI(ip), KL_PRI(other),
                        KL_PRI(kl_text(kl_get(endpoint, KL_F_hostname))),
                        KL_PRI(kl_text_at(endpoint, KL_F_targetRef, KL_F_namespace)),
                        KL_PRI(kl_text_at(endpoint, KL_F_targetRef, KL_F_name)));
    s->no_memory |= !key.p;
    return key.p ? key : KL_STR("");
}

static bool same_endpoint(const struct sync *s, const struct kl_value *was,
                          const struct kl_value *now)
{
    static const kl_sym fields[] = {KL_F_nodeName, KL_F_zone, KL_F_conditions};
    static const kl_sym ref[] = {KL_F_kind, KL_F_namespace, KL_F_name, KL_F_uid};
    for (size_t i = 0; i < KL_COUNT(fields); i++)
        if (!kl_value_equal(kl_get(was, fields[i]), kl_get(now, fields[i])))
            return false;
    for (size_t i = 0; i < KL_COUNT(ref); i++)
        if (!kl_value_equal(kl_path(was, KL_F_targetRef, ref[i]),
                            kl_path(now, KL_F_targetRef, ref[i])))
            return false;
    // Hints of those that get no traffic yet do not matter.
    return (is_close(s) && !kl_true_at(now, KL_F_conditions, KL_F_ready)) ||
           kl_value_equal(kl_get(was, KL_F_hints), kl_get(now, KL_F_hints));
}

// ---- what is wanted

static struct group *group_of(struct sync *s, struct kl_value ports)
{
    for (size_t i = 0; i < s->ngroups; i++)
        if (same_ports(&s->groups[i].ports, &ports))
            return &s->groups[i];
    s->groups[s->ngroups] = (struct group){.ports = ports};
    return &s->groups[s->ngroups++];
}

static void add_want(struct sync *s, struct group *g, struct kl_value endpoint)
{
    if (g->n == g->cap) {
        size_t cap = g->cap ? 2 * g->cap : 16;
        struct want *more = kl_arena_alloc(&s->p->arena, cap * sizeof *more);
        if (!more) {
            s->no_memory = true;
            return;
        }
        if (g->n)
            memcpy(more, g->wants, g->n * sizeof *more);
        g->wants = more;
        g->cap = cap;
    }
    g->wants[g->n++] = (struct want){.key = key_of(s, &endpoint), .endpoint = endpoint};
}

static int by_key(const void *a, const void *b)
{
    return kl_str_cmp(((const struct want *)a)->key, ((const struct want *)b)->key);
}

static bool belongs(const struct kl_value *pod)
{
    return !kl_pod_terminal(pod) && kl_len(kl_path(pod, KL_F_status, KL_F_podIPs));
}

static void note_lost(struct sync *s, const struct kl_value *pod)
{
    struct kl_str ns = kl_meta_namespace(s->v->service), name = kl_meta_name(s->v->service);
    s->v->lost = kl_arena_printf(&s->p->arena,
                                 "skipping Pod %.*s for Service %.*s/%.*s: Node %.*s Not Found",
                                 KL_PRI(kl_meta_name(pod)), KL_PRI(ns), KL_PRI(name),
                                 KL_PRI(kl_text_at(pod, KL_F_spec, KL_F_nodeName)));
}

static void gather(struct sync *s)
{
    const struct kl_value *service = s->v->service;
    bool unready_too = kl_true_at(service, KL_F_spec, KL_F_publishNotReadyAddresses);
    for (size_t i = 0; i < s->v->npods; i++) {
        const struct kl_slice_pod *sp = &s->v->pods[i];
        if (!belongs(sp->pod))
            continue;
        struct group *g = group_of(s, ports_of(s, sp->pod));
        if (sp->no_node && !unready_too) {
            note_lost(s, sp->pod);
            continue;
        }
        struct kl_value addresses = addresses_of(s, sp->pod);
        if (addresses.n)
            add_want(s, g, endpoint_of(s, sp, addresses));
    }
    for (size_t i = 0; i < s->ngroups; i++)
        if (s->groups[i].n)
            qsort(s->groups[i].wants, s->groups[i].n, sizeof(struct want), by_key);
}

// ---- labels

static bool is_reserved(struct kl_str key)
{
    return kl_str_eqz(key, KL_SLICE_SERVICE_LABEL) || kl_str_eqz(key, KL_SLICE_MANAGER_LABEL) ||
           kl_str_eqz(key, "service.kubernetes.io/headless");
}

static struct kl_value labels_for(struct sync *s)
{
    struct kl_arena *a = &s->p->arena;
    struct kl_value map = kl_new_map();
    int rc = 0;
    for (KL_MAP_EACH_KEY(k, kl_meta_labels(s->v->service)))
        if (!is_reserved(kl_text(k)))
            rc |= kl_map_set_value(a, &map, kl_text(k), k[1]);
    if (is_headless(s->v->service))
        rc |= kl_map_set_value(a, &map, KL_STR("service.kubernetes.io/headless"), kl_stringz(""));
    rc |= kl_map_set_value(a, &map, KL_STR(KL_SLICE_SERVICE_LABEL),
                           kl_string(kl_meta_name(s->v->service)));
    rc |= kl_map_set_value(a, &map, KL_STR(KL_SLICE_MANAGER_LABEL), kl_stringz(KL_SLICE_MANAGER));
    s->no_memory |= rc < 0;
    return map;
}

// Reserved ones do not count: a Service does not change whether it has an address.
static bool labels_changed(const struct sync *s, const struct kl_value *slice)
{
    size_t n = 0, wanted = 0;
    for (KL_MAP_EACH_KEY(k, &s->labels)) {
        if (is_reserved(kl_text(k)))
            continue;
        wanted++;
        if (!kl_value_equal(kl_map_value(kl_meta_labels(slice), kl_text(k)), k + 1))
            return true;
    }
    for (KL_MAP_EACH_KEY(k, kl_meta_labels(slice)))
        n += !is_reserved(kl_text(k));
    return n != wanted;
}

// ---- where each endpoint goes

static bool is_owned(const struct sync *s, const struct kl_value *slice)
{
    for (KL_EACH(o, kl_path(slice, KL_F_metadata, KL_F_ownerReferences)))
        if (kl_str_eq(kl_text(kl_get(o, KL_F_uid)), kl_meta_uid(s->v->service)) &&
            kl_str_eqz(kl_text(kl_get(o, KL_F_kind)), "Service") &&
            kl_str_eqz(kl_text(kl_get(o, KL_F_apiVersion)), "v1"))
            return true;
    return false;
}

static struct edit *add_edit(struct sync *s, const struct kl_value *old, const struct group *g,
                             enum fate fate)
{
    struct edit *e = &s->edits[s->nedits++];
    *e = (struct edit){.old = old, .group = g, .endpoints = kl_new_array(), .fate = fate};
    return e;
}

// What a slice holds that is still wanted stays in it.
static size_t keep(struct sync *s, const struct group *g, const struct kl_value *slice)
{
    struct edit *e = add_edit(s, slice, g, KEPT);
    size_t stay = 0;
    bool changed = false;
    for (KL_EACH(old, kl_get(slice, KL_F_endpoints))) {
        struct want what = {.key = key_of(s, old)};
        struct want *w = g->n ? bsearch(&what, g->wants, g->n, sizeof what, by_key) : NULL;
        if (!w || w->placed)
            continue;
        w->placed = true;
        append(s, &e->endpoints, w->endpoint);
        changed |= !same_endpoint(s, old, &w->endpoint);
        stay++;
    }
    if (stay != kl_len(kl_get(slice, KL_F_endpoints)))
        e->fate = stay ? CHANGED : DROPPED;
    else if (changed || labels_changed(s, slice))
        e->fate = CHANGED;
    return stay;
}

static int fuller_first(const void *a, const void *b)
{
    const struct edit *x = a, *y = b;
    if ((x->fate == CHANGED) != (y->fate == CHANGED))
        return x->fate == CHANGED ? -1 : 1;
    return (x->endpoints.n < y->endpoints.n) - (x->endpoints.n > y->endpoints.n);
}

static size_t fill(struct sync *s, struct edit *e, const struct group *g, size_t *next)
{
    size_t n = 0;
    for (; *next < g->n && e->endpoints.n < KL_SLICE_ENDPOINTS_MAX && !s->no_memory; (*next)++) {
        if (g->wants[*next].placed)
            continue;
        g->wants[*next].placed = true;
        append(s, &e->endpoints, g->wants[*next].endpoint);
        n++;
    }
    return n;
}

// The slice without changes that all of them fit into best.
static struct edit *best_fit(struct edit *edits, size_t n, size_t left)
{
    struct edit *best = NULL;
    size_t least = KL_SLICE_ENDPOINTS_MAX;
    for (size_t i = 0; i < n; i++) {
        size_t all = edits[i].endpoints.n + left;
        if (edits[i].fate == KEPT && all <= KL_SLICE_ENDPOINTS_MAX &&
            KL_SLICE_ENDPOINTS_MAX - all < least) {
            least = KL_SLICE_ENDPOINTS_MAX - all;
            best = &edits[i];
        }
    }
    return best;
}

static void place(struct sync *s, struct group *g)
{
    size_t first = s->nedits, left = g->n, next = 0;
    for (size_t i = 0; i < s->v->nslices; i++) {
        const struct kl_value *slice = s->v->slices[i];
        if (kl_str_eqz(kl_text(kl_get(slice, KL_F_addressType)), s->family) && is_owned(s, slice) &&
            same_ports(kl_get(slice, KL_F_ports), &g->ports))
            left -= keep(s, g, slice);
    }
    struct edit *edits = s->edits + first;
    size_t n = s->nedits - first;
    if (n)
        qsort(edits, n, sizeof *edits, fuller_first);
    for (size_t i = 0; i < n && edits[i].fate == CHANGED && left; i++)
        left -= fill(s, &edits[i], g, &next);
    while (left && !s->no_memory) {
        struct edit *e = left < KL_SLICE_ENDPOINTS_MAX ? best_fit(edits, n, left) : NULL;
        if (e)
            e->fate = CHANGED;
        else
            e = add_edit(s, NULL, g, MADE);
        left -= fill(s, e, g, &next);
    }
}

// Slices of this family that are another Service's of the same name, or of ports nobody has.
static void drop_others(struct sync *s)
{
    for (size_t i = 0; i < s->v->nslices; i++) {
        const struct kl_value *slice = s->v->slices[i];
        bool placed = false;
        if (!kl_str_eqz(kl_text(kl_get(slice, KL_F_addressType)), s->family))
            continue;
        for (size_t k = 0; k < s->ngroups && is_owned(s, slice); k++)
            placed |= same_ports(kl_get(slice, KL_F_ports), &s->groups[k].ports);
        if (!placed)
            add_edit(s, slice, NULL, DROPPED);
    }
}

static bool is_placeholder(const struct sync *s, const struct kl_value *slice)
{
    return is_owned(s, slice) && !kl_len(kl_get(slice, KL_F_ports)) &&
           !kl_len(kl_get(slice, KL_F_endpoints)) &&
           kl_value_equal(kl_meta_labels(slice), &s->labels);
}

// A Service without endpoints has one empty slice of each family, so that it can be told from one
// that nobody has looked at yet.
static void keep_one(struct sync *s)
{
    for (size_t i = 0; i < s->nedits; i++)
        if (s->edits[i].fate != DROPPED)
            return;
    if (s->nedits == 1 && is_placeholder(s, s->edits[0].old))
        s->edits[0].fate = KEPT;
    else
        add_edit(s, NULL, NULL, MADE);
}

// What is to be made takes the place of what is to go.
static void reuse(struct sync *s)
{
    size_t made = s->nedits;
    for (size_t i = 0; i < s->nedits; i++) {
        struct edit *gone = &s->edits[i];
        if (gone->fate != DROPPED || !is_owned(s, gone->old))
            continue;
        while (made > 0 && s->edits[made - 1].fate != MADE)
            made--;
        if (!made)
            return;
        struct edit *e = &s->edits[--made];
        e->old = gone->old;
        e->fate = CHANGED;
        gone->fate = KEPT; // its name lives on
        gone->old = NULL;
    }
}

// ---- writes

static struct kl_value draft_of(struct sync *s, const struct edit *e)
{
    struct kl_arena *a = &s->p->arena;
    const struct kl_value *service = s->v->service;
    struct kl_value draft = kl_new_struct();
    if (e->old) {
        draft = *e->old;
        draft.owned = 0;
    }
    struct kl_value *meta = kl_edit(a, &draft, KL_F_metadata, KL_STRUCT);
    int rc = kl_set(a, meta, KL_F_labels, s->labels);
    if (e->old) { // when the change began is not kept track of: no time is better than an old one
        struct kl_value *annotations = kl_edit(a, meta, KL_F_annotations, KL_MAP);
        if (!annotations)
            rc = KL_ENOMEM;
        else
            rc |= kl_map_unset(a, annotations,
                               KL_STR("endpoints.kubernetes.io/last-change-trigger-time"));
    } else {
        struct kl_value owners = kl_new_array();
        struct kl_str name = kl_meta_name(service);
        append(s, &owners, kl_owner_ref(a, kl_res(KL_RES_core_v1_services), service, true, true));
        kl_set_str(a, meta, KL_F_generateName, kl_arena_printf(a, "%.*s-", KL_PRI(name)));
        kl_set_str(a, meta, KL_F_namespace, kl_meta_namespace(service));
        rc |= kl_set(a, meta, KL_F_ownerReferences, owners);
        kl_set_z(a, &draft, KL_F_addressType, s->family);
    }
    rc |= kl_set(a, &draft, KL_F_endpoints, e->endpoints);
    rc |= kl_set(a, &draft, KL_F_ports, e->group ? e->group->ports : kl_new_array());
    s->no_memory |= rc < 0;
    return draft;
}

static void write_all(struct sync *s, enum fate fate, enum kl_verb verb)
{
    kl_plan_next_group(s->p);
    for (size_t i = 0; i < s->nedits && !s->no_memory; i++) {
        struct edit *e = &s->edits[i];
        if (e->fate != fate)
            continue;
        struct kl_value draft = draft_of(s, e);
        struct kl_action *a =
            s->no_memory ? NULL : kl_plan_write(s->p, verb, slices_res(), NULL, &draft);
        if (!a)
            return;
        a->done_cb = s->v->written_cb;
        a->arg = (void *)e->old;
    }
}

static void delete_one(struct sync *s, const struct kl_value *slice)
{
    struct kl_action *a = kl_plan_call(s->p, KL_VERB_DELETE, slices_res(), NULL,
                                       kl_meta_namespace(slice), kl_meta_name(slice));
    if (!a)
        return;
    a->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    a->done_cb = s->v->written_cb;
    a->arg = (void *)slice;
}

static void sync_family(struct sync *s, const char *family)
{
    s->family = family;
    s->ngroups = s->nedits = 0;
    gather(s);
    for (size_t i = 0; i < s->ngroups && !s->no_memory; i++)
        place(s, &s->groups[i]);
    drop_others(s);
    keep_one(s);
    reuse(s);
    // One that goes away takes its slices with it; making more would race with that.
    if (!kl_meta_deleting(s->v->service))
        write_all(s, MADE, KL_VERB_CREATE);
    write_all(s, CHANGED, KL_VERB_UPDATE);
    kl_plan_next_group(s->p);
    for (size_t i = 0; i < s->nedits && !s->no_memory; i++)
        if (s->edits[i].fate == DROPPED)
            delete_one(s, s->edits[i].old);
}

static bool has_family(const struct kl_value *service, const char *family)
{
    const struct kl_value *families = kl_path(service, KL_F_spec, KL_F_ipFamilies);
    struct kl_str ip = kl_text_at(service, KL_F_spec, KL_F_clusterIP);
    if (kl_len(families))
        return kl_has_text(families, kl_str(family));
    return is_headless(service) || is_v6(ip) == (strcmp(family, "IPv6") == 0);
}

void kl_endpointslice_decide(struct kl_plan *p, struct kl_slices_view *v)
{
    static const char *const families[] = {"IPv4", "IPv6"};
    struct sync s = {.p = p, .v = v};
    s.groups = kl_arena_alloc(&p->arena, (v->npods + 1) * sizeof *s.groups);
    s.edits = kl_arena_alloc(&p->arena, (v->nslices + v->npods + 2) * sizeof *s.edits);
    if (!s.groups || !s.edits) {
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
        return;
    }
    s.labels = labels_for(&s);
    for (size_t i = 0; i < KL_COUNT(families); i++)
        if (has_family(v->service, families[i]))
            sync_family(&s, families[i]);
    kl_plan_next_group(p);
    for (size_t i = 0; i < v->nslices; i++) {
        struct kl_str type = kl_text(kl_get(v->slices[i], KL_F_addressType));
        bool wanted = false;
        for (size_t k = 0; k < KL_COUNT(families); k++)
            wanted |= kl_str_eqz(type, families[k]) && has_family(v->service, families[k]);
        if (!wanted)
            delete_one(&s, v->slices[i]);
    }
    if (s.no_memory)
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
}
