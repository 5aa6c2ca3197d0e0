// SPDX-License-Identifier: Apache-2.0
// Warnings of pods and of their templates (pkg/api/pod/warnings.go).
#include "object/validate/earlier_int.h"
#include "object/validate/warn_int.h"

enum {
    SHORT_LIST = 32,          // searched as it stands, without memory
    PORT_PAIRS_MAX = 1 << 20, // compared; of a pod with more than 1,400 ports not all are
};

#define SECCOMP_POD "seccomp.security.alpha.kubernetes.io/pod"
#define SECCOMP_CONTAINER "container.seccomp.security.alpha.kubernetes.io/"
#define APPARMOR_CONTAINER "container.apparmor.security.beta.kubernetes.io/"
#define SECCOMP_TEXT "non-functional in v1.27+; use the \"seccompProfile\" field instead"

static const struct {
    const char *key, *text;
} old_annotations[] = {
    {"scheduler.alpha.kubernetes.io/critical-pod",
     "non-functional in v1.16+; use the \"priorityClassName\" field instead"},
    {"security.alpha.kubernetes.io/sysctls",
     "non-functional in v1.11+; use the \"sysctls\" field instead"},
    {"security.alpha.kubernetes.io/unsafe-sysctls",
     "non-functional in v1.11+; use the \"sysctls\" field instead"},
};

struct pod {
    const struct kl_value *spec, *annotations;
    const struct kl_vpath *at, *spec_at, *annotations_at; // at: NULL for a pod itself
};

// ---- where it runs

static void warn_no_selector(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    if (!kl_get(v, KL_F_labelSelector))
        kl_warn(c, F(p, labelSelector), "a null labelSelector results in matching no pod");
}

static void warn_node_affinity(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_vpath *required =
        F(F(p, requiredDuringSchedulingIgnoredDuringExecution), nodeSelectorTerms);
    const struct kl_vpath *preferred = F(p, preferredDuringSchedulingIgnoredDuringExecution);
    size_t i = 0, k = 0;
    for (KL_EACH(t, kl_path(v, KL_F_requiredDuringSchedulingIgnoredDuringExecution,
                            KL_F_nodeSelectorTerms)))
        kl_warn_node_term(c, t, false, I(required, i++));
    for (KL_EACH(t, kl_get(v, KL_F_preferredDuringSchedulingIgnoredDuringExecution)))
        kl_warn_node_term(c, kl_get(t, KL_F_preference), true, F(I(preferred, k++), preference));
}

static void warn_places(struct kl_v *c, const struct pod *x)
{
    const struct kl_vpath *selector = F(x->spec_at, nodeSelector);
    const struct kl_vpath *spread = F(x->spec_at, topologySpreadConstraints);
    size_t i = 0;
    for (KL_MAP_EACH_KEY(kv, kl_get(x->spec, KL_F_nodeSelector))) {
        const char *text = kl_warn_node_label(kl_text(kv));
        if (text)
            kl_warn(c, K(selector, kl_text(kv)), "%s", text);
    }
    const struct kl_value *v = kl_path(x->spec, KL_F_affinity, KL_F_nodeAffinity);
    if (v)
        warn_node_affinity(c, v, F(F(x->spec_at, affinity), nodeAffinity));
    for (KL_EACH(t, kl_get(x->spec, KL_F_topologySpreadConstraints))) {
        struct kl_str key = kl_text(kl_get(t, KL_F_topologyKey));
        const char *text = kl_warn_node_label(key);
        if (text)
            kl_warn(c, F(I(spread, i), topologyKey), "%.*s is %s", KL_PRI(key), text);
        warn_no_selector(c, t, I(spread, i));
        i++;
    }
}

static void warn_pod_terms(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_vpath *required = F(p, requiredDuringSchedulingIgnoredDuringExecution);
    const struct kl_vpath *preferred = F(p, preferredDuringSchedulingIgnoredDuringExecution);
    size_t i = 0, k = 0;
    for (KL_EACH(t, kl_get(v, KL_F_requiredDuringSchedulingIgnoredDuringExecution)))
        warn_no_selector(c, t, I(required, i++));
    for (KL_EACH(t, kl_get(v, KL_F_preferredDuringSchedulingIgnoredDuringExecution)))
        warn_no_selector(c, kl_get(t, KL_F_podAffinityTerm), F(I(preferred, k++), podAffinityTerm));
}

// ---- lists in which something is said twice

// One list; `earlier` is made for a long one.
struct twice {
    struct kl_str few[SHORT_LIST];
    const uint32_t *earlier;
};

static bool begin_twice(struct kl_v *c, struct twice *t, const struct kl_value *list, kl_sym field)
{
    size_t n = kl_len(list);
    t->earlier = NULL;
    if (n > SHORT_LIST)
        return (t->earlier = kl_v_earlier(c, list, &field, 1)) != NULL;
    for (size_t i = 0; n > 1 && i < n; i++)
        t->few[i] = kl_text(kl_get(&list->items[i], field));
    return n > 1;
}

static bool is_twice(const struct twice *t, size_t i)
{
    if (t->earlier)
        return t->earlier[i] != KL_V_NONE;
    for (size_t k = 0; k < i; k++)
        if (t->few[k].n == t->few[i].n && kl_str_eq(t->few[k], t->few[i]))
            return true;
    return false;
}

static void warn_twice(struct kl_v *c, const struct kl_value *list, kl_sym field, const char *what,
                       const struct kl_vpath *p)
{
    struct twice t;
    if (begin_twice(c, &t, list, field))
        for (size_t i = 1; i < kl_len(list); i++)
            if (is_twice(&t, i))
                kl_warn(c, FS(I(p, i), field), "duplicate %s %.*s", what,
                        KL_PRI(kl_v_quoted(c, kl_text(kl_get(kl_at(list, i), field)))));
}

// Whether s has $(name).
static bool refers(struct kl_str s, struct kl_str name, bool wholly)
{
    for (size_t i = 0; i + name.n + 3 <= s.n; i++)
        if (s.p[i] == '$' && s.p[i + 1] == '(' && s.p[i + 2 + name.n] == ')' &&
            (!name.n || !memcmp(s.p + i + 2, name.p, name.n)))
            return !wholly || s.n == name.n + 3;
    return false;
}

static void warn_env(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    struct twice t;
    if (!begin_twice(c, &t, list, KL_F_name))
        return;
    for (size_t i = 1; i < kl_len(list); i++) {
        const struct kl_value *v = kl_at(list, i);
        struct kl_str name = kl_text(kl_get(v, KL_F_name)), s = kl_text(kl_get(v, KL_F_value));
        if (!is_twice(&t, i))
            continue;
        // A value that is made of the one before hides nothing.
        if (kl_get(v, KL_F_valueFrom) || refers(s, name, true) || !refers(s, name, false))
            kl_warn(c, I(p, i),
                    "hides previous definition of %.*s, which may be dropped when using apply",
                    KL_PRI(kl_v_quoted(c, name)));
    }
}

// ---- annotations that are fields now

// The annotation's value, NULL when there is none of this prefix and name. There may be many of
// them and of containers: they are in the order of their keys, as all maps of canonical objects.
static const struct kl_value *own_annotation(const struct kl_value *map, const char *prefix,
                                             struct kl_str name, struct kl_str *ret_key)
{
    struct kl_str start = kl_str(prefix);
    size_t low = 0, high = kl_is(map, KL_MAP) ? map->n : 0;
    while (low < high) {
        size_t mid = (low + high) / 2;
        struct kl_str key = kl_text(&map->items[2 * mid]);
        int order = kl_str_starts(key, start) ? kl_str_cmp(kl_str_from(key, start.n), name)
                                              : kl_str_cmp(key, start);
        if (!order) {
            *ret_key = key;
            return &map->items[2 * mid + 1];
        }
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

// Whether ApparmorFieldForAnnotation is what the pod has.
static bool is_profile(const struct kl_value *profile, struct kl_str s)
{
    struct kl_str local = KL_STR("localhost/"),
                  path = kl_text(kl_get(profile, KL_F_localhostProfile));
    const char *type = NULL;
    if (kl_str_eqz(s, "unconfined"))
        type = "Unconfined";
    else if (kl_str_eqz(s, "runtime/default"))
        type = "RuntimeDefault";
    if (type)
        return kl_v_is(profile, KL_F_type, type) && !kl_get(profile, KL_F_localhostProfile);
    return kl_str_starts(s, local) && s.n > local.n && kl_v_is(profile, KL_F_type, "Localhost") &&
           kl_str_eq(path, kl_str_from(s, local.n));
}

static void warn_profiles(struct kl_v *c, const struct pod *x, const struct kl_value *ctr)
{
    const struct kl_value *sc = kl_get(ctr, KL_F_securityContext), *v;
    struct kl_str name = kl_text(kl_get(ctr, KL_F_name)), key;
    if (!kl_get(sc, KL_F_seccompProfile) &&
        own_annotation(x->annotations, SECCOMP_CONTAINER, name, &key))
        kl_warn(c, K(x->annotations_at, key), SECCOMP_TEXT);
    // Of a pod this is said when the registry makes it ready.
    if (!x->at || kl_get(sc, KL_F_appArmorProfile))
        return;
    const struct kl_value *profile = kl_path(x->spec, KL_F_securityContext, KL_F_appArmorProfile);
    if ((v = own_annotation(x->annotations, APPARMOR_CONTAINER, name, &key)) &&
        (!profile || !is_profile(profile, kl_text(v))))
        kl_warn(c, K(x->annotations_at, key),
                "deprecated since v1.30; use the \"appArmorProfile\" field instead");
}

static void warn_annotations(struct kl_v *c, const struct pod *x)
{
    for (size_t i = 0; i < KL_COUNT(old_annotations); i++)
        if (kl_map_value(x->annotations, kl_str(old_annotations[i].key)))
            kl_warn(c, K(x->annotations_at, kl_str(old_annotations[i].key)), "%s",
                    old_annotations[i].text);
}

// ---- containers

static void warn_container(struct kl_v *c, const struct kl_value *ctr, const struct kl_vpath *p,
                           void *arg)
{
    const struct kl_value *resources = kl_get(ctr, KL_F_resources);
    static const char *const bytes[] = {"memory", "ephemeral-storage"};
    static const kl_sym lists[] = {KL_F_limits, KL_F_requests};
    const struct pod *x = arg;
    if (x->annotations)
        warn_profiles(c, x, ctr);
    for (size_t b = 0; b < KL_COUNT(bytes); b++)
        for (size_t l = 0; l < KL_COUNT(lists); l++)
            kl_warn_fraction(c, kl_map_value(kl_get(resources, lists[l]), kl_str(bytes[b])),
                             K(FS(F(p, resources), lists[l]), kl_str(bytes[b])));
    warn_env(c, kl_get(ctr, KL_F_env), F(p, env));
}

// ---- ports: each against those before it, in all containers

struct port {
    const struct kl_value *v;
    struct kl_str host_ip, protocol, name;
    int64_t port, host;
    kl_sym list; // where it is: spec.LIST[container].ports[index]
    uint32_t container, index;
};

struct ports {
    struct port few[SHORT_LIST], *all;
    size_t n;
};

static const kl_sym container_lists[] = {KL_F_initContainers, KL_F_containers,
                                         KL_F_ephemeralContainers};

// False when there is no memory for them, or nothing to compare.
static bool gather_ports(struct kl_v *c, const struct kl_value *spec, struct ports *ps)
{
    size_t all = 0;
    for (size_t l = 0; l < KL_COUNT(container_lists); l++)
        for (KL_EACH(ctr, kl_get(spec, container_lists[l])))
            all += kl_len(kl_get(ctr, KL_F_ports));
    ps->n = 0;
    ps->all = all <= SHORT_LIST ? ps->few : kl_arena_alloc(c->f->arena, all * sizeof *ps->all);
    for (size_t l = 0; l < KL_COUNT(container_lists) && ps->all; l++) {
        uint32_t i = 0;
        for (KL_EACH(ctr, kl_get(spec, container_lists[l]))) {
            uint32_t k = 0;
            for (KL_EACH(v, kl_get(ctr, KL_F_ports)))
                ps->all[ps->n++] = (struct port){
                    .v = v,
                    .host_ip = kl_text(kl_get(v, KL_F_hostIP)),
                    .protocol = kl_text(kl_get(v, KL_F_protocol)),
                    .name = kl_text(kl_get(v, KL_F_name)),
                    .port = kl_int_or(kl_get(v, KL_F_containerPort), 0),
                    .host = kl_int_or(kl_get(v, KL_F_hostPort), 0),
                    .list = container_lists[l],
                    .container = i,
                    .index = k++,
                };
            i++;
        }
    }
    return ps->all && ps->n;
}

static const char *conflict(const struct port *a, const struct port *b)
{
    if (a->port != b->port || !kl_str_eq(a->protocol, b->protocol))
        return NULL;
    if (kl_str_eq(a->host_ip, b->host_ip) && a->host == b->host)
        return "duplicate port definition";
    if (!a->host || !b->host)
        return "overlapping port definition";
    return a->host == b->host && !a->host_ip.n != !b->host_ip.n
               ? "dangerously ambiguous port definition"
               : NULL;
}

#define PORT_PATH(x, at) I(F(I(FS((x)->spec_at, (at)->list), (at)->container), ports), (at)->index)

static void warn_port(struct kl_v *c, const struct pod *x, const struct port *first,
                      const struct port *at, size_t *pairs)
{
    if (at->host_ip.n && !at->host)
        kl_warn(c, PORT_PATH(x, at),
                "hostIP set without hostPort: {Name:%.*s HostPort:0 ContainerPort:%lld "
                "Protocol:%.*s HostIP:%.*s}",
                KL_PRI(at->name), (long long)at->port, KL_PRI(at->protocol), KL_PRI(at->host_ip));
    for (const struct port *o = first; o < at && *pairs && !kl_warn_full(c); o++, --*pairs) {
        const char *what = conflict(at, o);
        if (what)
            kl_warn(c, PORT_PATH(x, at), "%s with %.*s", what,
                    KL_PRI(kl_v_path_text(c->f->arena, PORT_PATH(x, o))));
    }
}

static void warn_ports(struct kl_v *c, const struct pod *x)
{
    size_t pairs = PORT_PAIRS_MAX;
    struct ports ps;
    if (!gather_ports(c, x->spec, &ps))
        return;
    for (size_t i = 0; i < ps.n; i++)
        warn_port(c, x, ps.all, &ps.all[i], &pairs);
    for (size_t i = 1; i < ps.n; i++)
        for (size_t k = 0; k < i && ps.all[i].name.n && pairs && !kl_warn_full(c); k++, pairs--)
            if (kl_str_eq(ps.all[k].name, ps.all[i].name)) {
                struct kl_str other = kl_v_path_text(c->f->arena, PORT_PATH(x, &ps.all[k]));
                kl_warn(c, PORT_PATH(x, &ps.all[i]),
                        "duplicate port name %.*s with %.*s, services and probes that select ports "
                        "by name will use %.*s",
                        KL_PRI(kl_v_quoted(c, ps.all[i].name)), KL_PRI(other), KL_PRI(other));
                break;
            }
}

// ---- all of it, in upstream's order

static void warn_lists(struct kl_v *c, const struct pod *x)
{
    const struct kl_value *secrets = kl_get(x->spec, KL_F_imagePullSecrets);
    size_t i = 0;
    warn_twice(c, kl_get(x->spec, KL_F_hostAliases), KL_F_ip, "ip", F(x->spec_at, hostAliases));
    warn_twice(c, secrets, KL_F_name, "name", F(x->spec_at, imagePullSecrets));
    for (KL_EACH(s, secrets)) {
        if (!kl_text(kl_get(s, KL_F_name)).n)
            kl_warn(c, F(I(F(x->spec_at, imagePullSecrets), i), name), "invalid empty name \"\"");
        i++;
    }
}

static void warn_addresses(struct kl_v *c, const struct pod *x)
{
    const struct kl_vpath *servers = F(F(x->spec_at, dnsConfig), nameservers);
    const struct kl_vpath *aliases = F(x->spec_at, hostAliases);
    size_t i = 0, k = 0;
    for (KL_EACH(s, kl_path(x->spec, KL_F_dnsConfig, KL_F_nameservers)))
        kl_warn_ip(c, I(servers, i++), kl_text(s));
    for (KL_EACH(a, kl_get(x->spec, KL_F_hostAliases)))
        kl_warn_ip(c, F(I(aliases, k++), ip), kl_text(kl_get(a, KL_F_ip)));
}

static void warn_spec(struct kl_v *c, struct pod *x)
{
    static const char *const bytes[] = {"memory", "ephemeral-storage"};
    const struct kl_value *affinity = kl_get(x->spec, KL_F_affinity);
    warn_places(c, x);
    if (x->annotations)
        warn_annotations(c, x);
    kl_warn_volumes(c, kl_get(x->spec, KL_F_volumes), F(x->spec_at, volumes));
    warn_lists(c, x);
    for (size_t b = 0; b < KL_COUNT(bytes); b++)
        kl_warn_fraction(c, kl_map_value(kl_get(x->spec, KL_F_overhead), kl_str(bytes[b])),
                         K(F(x->spec_at, overhead), kl_str(bytes[b])));
    if (x->annotations && !kl_path(x->spec, KL_F_securityContext, KL_F_seccompProfile) &&
        kl_map_value(x->annotations, KL_STR(SECCOMP_POD)))
        kl_warn(c, K(x->annotations_at, KL_STR(SECCOMP_POD)), SECCOMP_TEXT);
    kl_v_visit_containers(c, x->spec, x->spec_at, warn_container, x);
    warn_ports(c, x);
    if (kl_int_at(x->spec, 0, KL_F_terminationGracePeriodSeconds) < 0)
        kl_warn(c, F(x->spec_at, terminationGracePeriodSeconds),
                "must be >= 0; negative values are invalid and will be treated as 1");
    if (affinity) {
        const struct kl_vpath *p = F(x->spec_at, affinity);
        warn_pod_terms(c, kl_get(affinity, KL_F_podAffinity), F(p, podAffinity));
        warn_pod_terms(c, kl_get(affinity, KL_F_podAntiAffinity), F(p, podAntiAffinity));
    }
    warn_addresses(c, x);
}

void kl_warn_pod(struct kl_v *c, const struct kl_value *pod, const struct kl_vpath *p)
{
    const struct kl_vpath spec = {.up = p, .sym = KL_F_spec};
    const struct kl_vpath meta = {.up = p, .sym = KL_F_metadata};
    const struct kl_vpath annotations = {.up = &meta, .sym = KL_F_annotations};
    struct pod x = {
        .spec = kl_get(pod, KL_F_spec),
        .annotations = kl_path(pod, KL_F_metadata, KL_F_annotations),
        .at = p,
        .spec_at = &spec,
        .annotations_at = &annotations,
    };
    warn_spec(c, &x);
}

// ---- the kind

static void warn_new_pod(struct kl_v *c)
{
    kl_warn_host_name(c, "the Pod's hostname");
    kl_warn_pod(c, c->now, NULL);
}

static void warn_statuses(struct kl_v *c, kl_sym list)
{
    size_t i = 0;
    for (KL_EACH(x, kl_path(c->now, KL_F_status, list)))
        kl_warn_ip(c, F(I(FS(&c->status, list), i++), ip), kl_text(kl_get(x, KL_F_ip)));
}

static void warn_status(struct kl_v *c)
{
    warn_statuses(c, KL_F_podIPs);
    warn_statuses(c, KL_F_hostIPs);
}

// Nothing on update: it is controllers that change pods, often.
const struct kl_warn_kind kl_warn_pods = {.create = warn_new_pod, .status = warn_status};
