// SPDX-License-Identifier: Apache-2.0
#include "kubelet/env.h"
#include "kubelet/pod_core.h"
#include "object/quantity.h"
#include <ctype.h>

enum { MAX_ENV = 65536 };

struct env {
    struct kl_arena *a;
    struct kl_cri_key_value *kv;
    size_t n, cap;
};

static int push(struct kl_arena *a, struct kl_cri_key_value **list, size_t *n, size_t *cap,
                struct kl_str key, struct kl_str value)
{
    if (*n == *cap) {
        size_t more = *cap ? *cap * 2 : 32;
        struct kl_cri_key_value *bigger = kl_arena_zalloc(a, more * sizeof(*bigger));
        if (!bigger || more > MAX_ENV)
            return KL_ENOMEM;
        if (*n)
            memcpy(bigger, *list, *n * sizeof(*bigger));
        *list = bigger;
        *cap = more;
    }
    (*list)[(*n)++] = (struct kl_cri_key_value){.key = key, .value = value};
    return 0;
}

static struct kl_cri_key_value *find_env(const struct env *e, struct kl_str key)
{
    for (size_t i = 0; i < e->n; i++)
        if (kl_str_eq(e->kv[i].key, key))
            return &e->kv[i];
    return NULL;
}

static int set_env(struct env *e, struct kl_str key, struct kl_str value)
{
    struct kl_cri_key_value *have = find_env(e, key);
    if (have) {
        have->value = value;
        return 0;
    }
    return push(e->a, &e->kv, &e->n, &e->cap, key, value);
}

static const struct kl_cri_key_value *look_up(struct kl_str name,
                                              const struct kl_cri_key_value *env, size_t n)
{
    for (size_t i = n; i-- > 0;)
        if (kl_str_eq(env[i].key, name))
            return &env[i];
    return NULL;
}

static struct kl_str expand_with(struct kl_arena *a, struct kl_str text,
                                 const struct kl_cri_key_value *env, size_t n,
                                 const struct kl_cri_key_value *more, size_t nmore)
{
    if (kl_str_chr(text, '$') < 0)
        return text;
    struct kl_buf b;
    kl_buf_init(&b, 4 * 1024 * 1024);
    const char *last = memrchr(text.p, ')', text.n); // behind it nobody need look
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c != '$' || i + 1 == text.n) {
            kl_buf_putc(&b, c);
            continue;
        }
        char next = text.p[++i];
        struct kl_str rest = kl_str_from(text, i + 1);
        ptrdiff_t end = next == '(' && last && rest.p <= last ? kl_str_chr(rest, ')') : -1;
        if (next == '$') {
            kl_buf_putc(&b, '$'); // an escaped operator
        } else if (next != '(') {
            kl_buf_putc(&b, '$');
            kl_buf_putc(&b, next);
        } else if (end < 0) {
            kl_buf_puts(&b, KL_STR("$("));
        } else {
            struct kl_str name = {rest.p, (size_t)end};
            const struct kl_cri_key_value *v = look_up(name, env, n);
            if (!v)
                v = look_up(name, more, nmore);
            if (v)
                kl_buf_puts(&b, v->value);
            else
                kl_buf_printf(&b, "$(%.*s)", KL_PRI(name));
            i += (size_t)end + 1;
        }
    }
    struct kl_str s = b.err ? text : kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s.p ? s : text;
}

struct kl_str kl_env_expand(struct kl_arena *a, struct kl_str text,
                            const struct kl_cri_key_value *env, size_t n)
{
    return expand_with(a, text, env, n, NULL, 0);
}

// metadata.labels['key']
static bool subscript(struct kl_str path, struct kl_str head, struct kl_str *ret_key)
{
    if (!kl_str_starts(path, head) || !kl_str_ends(path, KL_STR("']")) || path.n < head.n + 4 ||
        memcmp(path.p + head.n, "['", 2))
        return false;
    *ret_key = (struct kl_str){path.p + head.n + 2, path.n - head.n - 4};
    return true;
}

// key="escaped value" lines, sorted by key (the map is).
static struct kl_str format_map(struct kl_arena *a, const struct kl_value *map)
{
    struct kl_buf b;
    kl_buf_init(&b, 4 * 1024 * 1024);
    for (KL_MAP_EACH_KEY(key, map)) {
        struct kl_str v = kl_text(key + 1);
        kl_buf_printf(&b, "%s%.*s=\"", b.n ? "\n" : "", KL_PRI(kl_text(key)));
        for (size_t i = 0; i < v.n; i++) { // as Go's %q
            char c = v.p[i];
            if (c == '"' || c == '\\')
                kl_buf_printf(&b, "\\%c", c);
            else if (c == '\n')
                kl_buf_puts(&b, KL_STR("\\n"));
            else if (c == '\t')
                kl_buf_puts(&b, KL_STR("\\t"));
            else if (c == '\r')
                kl_buf_puts(&b, KL_STR("\\r"));
            else if ((unsigned char)c < 0x20 || c == 0x7f)
                kl_buf_printf(&b, "\\x%02x", (unsigned char)c);
            else
                kl_buf_putc(&b, c);
        }
        kl_buf_putc(&b, '"');
    }
    struct kl_str s = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

struct kl_str kl_field_ref(struct kl_arena *a, const struct kl_env_source *src, struct kl_str path)
{
    const struct kl_value *meta = kl_get(src->pod, KL_F_metadata);
    struct kl_str key;
    if (subscript(path, KL_STR("metadata.labels"), &key))
        return kl_text(kl_map_value(kl_get(meta, KL_F_labels), key));
    if (subscript(path, KL_STR("metadata.annotations"), &key))
        return kl_text(kl_map_value(kl_get(meta, KL_F_annotations), key));
    if (kl_str_eqz(path, "metadata.name"))
        return kl_text_at(meta, KL_F_name);
    if (kl_str_eqz(path, "metadata.namespace"))
        return kl_text_at(meta, KL_F_namespace);
    if (kl_str_eqz(path, "metadata.uid"))
        return kl_text_at(meta, KL_F_uid);
    if (kl_str_eqz(path, "metadata.labels"))
        return format_map(a, kl_get(meta, KL_F_labels));
    if (kl_str_eqz(path, "metadata.annotations"))
        return format_map(a, kl_get(meta, KL_F_annotations));
    if (kl_str_eqz(path, "spec.nodeName"))
        return src->node_name;
    if (kl_str_eqz(path, "spec.serviceAccountName"))
        return kl_text_at(src->pod, KL_F_spec, KL_F_serviceAccountName);
    if (kl_str_eqz(path, "status.hostIP") || kl_str_eqz(path, "status.hostIPs"))
        return src->host_ip;
    if (kl_str_eqz(path, "status.podIP"))
        return src->pod_ip;
    if (kl_str_eqz(path, "status.podIPs"))
        return src->pod_ips.n ? src->pod_ips : src->pod_ip;
    return (struct kl_str){NULL, 0};
}

struct kl_str kl_resource_field_ref(struct kl_arena *a, const struct kl_env_source *src,
                                    const struct kl_value *ref)
{
    struct kl_str what = kl_text_at(ref, KL_F_resource), list = what;
    struct kl_str ctr_name = kl_text_at(ref, KL_F_containerName);
    const struct kl_value *c =
        ctr_name.n ? kl_pod_container(src->pod, ctr_name, NULL) : src->container;
    ptrdiff_t dot = kl_str_chr(what, '.');
    if (!c || dot < 0)
        return (struct kl_str){NULL, 0};
    list.n = (size_t)dot;
    struct kl_str name = kl_str_from(what, (size_t)dot + 1);
    bool cpu = kl_str_eqz(name, "cpu"), limits = kl_str_eqz(list, "limits");
    const struct kl_value *res = kl_get(c, KL_F_resources);
    const struct kl_value *q =
        kl_map_value(kl_get(res, limits ? KL_F_limits : KL_F_requests), name);
    int64_t v = cpu ? kl_quantity_milli_of(kl_text(q)) : kl_quantity_value_of(kl_text(q));
    // A limit that is not set is what the node has.
    if ((!q || !v) && limits)
        v = cpu                                     ? src->allocatable_milli_cpu
            : kl_str_eqz(name, "memory")            ? src->allocatable_bytes
            : kl_str_eqz(name, "ephemeral-storage") ? src->allocatable_ephemeral_bytes
                                                    : 0;
    struct kl_str d = kl_text_at(ref, KL_F_divisor);
    int64_t by = cpu ? kl_quantity_milli_of(d) : kl_quantity_value_of(d);
    if (by <= 0)
        by = cpu ? 1000 : 1;
    return kl_arena_printf(a, "%lld", (long long)((v + by - 1) / by));
}

static int add_from(struct env *e, const struct kl_env_source *src, const struct kl_value *from,
                    struct kl_error *err)
{
    bool secret = kl_get(from, KL_F_secretRef) != NULL;
    const struct kl_value *ref = kl_get(from, secret ? KL_F_secretRef : KL_F_configMapRef);
    struct kl_str name = kl_text_at(ref, KL_F_name), prefix = kl_text_at(from, KL_F_prefix);
    const struct kl_value *o = src->object(src->arg, secret, name);
    if (!o && kl_true_at(ref, KL_F_optional))
        return 0;
    if (!o)
        return kl_error_set(err, KL_EINVALID, "%s \"%.*s\" not found",
                            secret ? "secret" : "configmap", KL_PRI(name));
    int r = 0;
    for (KL_MAP_EACH_KEY(key, kl_get(o, KL_F_data))) {
        struct kl_str k = kl_text(key);
        if (prefix.n)
            k = kl_arena_printf(e->a, "%.*s%.*s", KL_PRI(prefix), KL_PRI(k));
        if (!r)
            r = set_env(e, k, kl_text(key + 1));
    }
    return r;
}

static int from_key(const struct kl_env_source *src, bool secret, const struct kl_value *ref,
                    struct kl_str *ret, bool *ret_skip, struct kl_error *err)
{
    struct kl_str name = kl_text_at(ref, KL_F_name), key = kl_text_at(ref, KL_F_key);
    bool optional = kl_true_at(ref, KL_F_optional);
    const struct kl_value *o = src->object(src->arg, secret, name);
    const struct kl_value *v = kl_map_value(kl_get(o, KL_F_data), key);
    *ret_skip = !v && optional;
    if (v || optional) {
        *ret = kl_text(v);
        return 0;
    }
    if (!o)
        return kl_error_set(err, KL_EINVALID, "%s \"%.*s\" not found",
                            secret ? "secret" : "configmap", KL_PRI(name));
    return kl_error_set(err, KL_EINVALID, "couldn't find key %.*s in %s %.*s/%.*s", KL_PRI(key),
                        secret ? "Secret" : "ConfigMap", KL_PRI(kl_meta_namespace(src->pod)),
                        KL_PRI(name));
}

static int value_of(struct env *e, const struct kl_env_source *src, const struct kl_value *var,
                    struct kl_str *ret, bool *ret_skip, struct kl_error *err)
{
    const struct kl_value *from = kl_get(var, KL_F_valueFrom), *ref;
    *ret_skip = false;
    if (!from) {
        *ret = expand_with(e->a, kl_text_at(var, KL_F_value), e->kv, e->n, src->services,
                           src->nservices);
        return 0;
    }
    if ((ref = kl_get(from, KL_F_fieldRef))) {
        *ret = kl_field_ref(e->a, src, kl_text_at(ref, KL_F_fieldPath));
        return ret->p ? 0
                      : kl_error_set(err, KL_EINVALID, "unsupported fieldPath: %.*s",
                                     KL_PRI(kl_text_at(ref, KL_F_fieldPath)));
    }
    if ((ref = kl_get(from, KL_F_resourceFieldRef))) {
        *ret = kl_resource_field_ref(e->a, src, ref);
        return ret->p ? 0
                      : kl_error_set(err, KL_EINVALID, "unsupported container resource : %.*s",
                                     KL_PRI(kl_text_at(ref, KL_F_resource)));
    }
    if ((ref = kl_get(from, KL_F_configMapKeyRef)))
        return from_key(src, false, ref, ret, ret_skip, err);
    if ((ref = kl_get(from, KL_F_secretKeyRef)))
        return from_key(src, true, ref, ret, ret_skip, err);
    *ret = KL_STR("");
    return 0;
}

int kl_env_build(struct kl_arena *a, const struct kl_env_source *src, struct kl_cri_key_value **ret,
                 size_t *ret_n, struct kl_error *err)
{
    struct env e = {.a = a};
    int r = 0;
    for (KL_EACH(from, kl_get(src->container, KL_F_envFrom)))
        if ((r = add_from(&e, src, from, err)))
            return r;
    for (KL_EACH(var, kl_get(src->container, KL_F_env))) {
        struct kl_str value;
        bool skip;
        if ((r = value_of(&e, src, var, &value, &skip, err)))
            return r;
        if (!skip && (r = set_env(&e, kl_text_at(var, KL_F_name), value)))
            return kl_error_set(err, r, "environment: %s", kl_err_text(r));
    }
    // Services come last and replace nothing.
    for (size_t i = 0; i < src->nservices; i++)
        if (!find_env(&e, src->services[i].key) &&
            (r = set_env(&e, src->services[i].key, src->services[i].value)))
            return kl_error_set(err, r, "environment: %s", kl_err_text(r));
    *ret = e.kv;
    *ret_n = e.n;
    return 0;
}

static struct kl_str upper_name(struct kl_arena *a, struct kl_str s)
{
    struct kl_str u = kl_arena_dup(a, s);
    for (size_t i = 0; u.p && i < u.n; i++) {
        char c = u.p[i];
        ((char *)(uintptr_t)u.p)[i] = c == '-' ? '_' : (char)toupper((unsigned char)c);
    }
    return u.p ? u : s;
}

void kl_env_of_service(struct kl_arena *a, const struct kl_value *service,
                       struct kl_cri_key_value **list, size_t *n, size_t *cap)
{
    const struct kl_value *spec = kl_get(service, KL_F_spec);
    const struct kl_value *ports = kl_get(spec, KL_F_ports);
    struct kl_str ip = kl_text_at(spec, KL_F_clusterIP);
    if (!ip.n || kl_str_eqz(ip, "None") || !kl_len(ports))
        return;
    struct kl_str name = upper_name(a, kl_meta_name(service));
    int64_t first = kl_int_at(kl_at(ports, 0), 0, KL_F_port);
#define PUT(value, ...) push(a, list, n, cap, kl_arena_printf(a, __VA_ARGS__), (value))
    PUT(ip, "%.*s_SERVICE_HOST", KL_PRI(name));
    PUT(kl_arena_printf(a, "%lld", (long long)first), "%.*s_SERVICE_PORT", KL_PRI(name));
    for (KL_EACH(p, ports)) {
        struct kl_str pn = kl_text_at(p, KL_F_name);
        if (pn.n)
            PUT(kl_arena_printf(a, "%lld", (long long)kl_int_at(p, 0, KL_F_port)),
                "%.*s_SERVICE_PORT_%.*s", KL_PRI(name), KL_PRI(upper_name(a, pn)));
    }
    for (KL_EACH(p, ports)) {
        struct kl_str proto = kl_text_at(p, KL_F_protocol);
        if (!proto.n)
            proto = KL_STR("TCP");
        char low[8] = "";
        for (size_t i = 0; i < proto.n && i < 7; i++)
            low[i] = (char)tolower((unsigned char)proto.p[i]);
        long long port = kl_int_at(p, 0, KL_F_port);
        struct kl_str url = kl_arena_printf(a, "%s://%.*s:%lld", low, KL_PRI(ip), port);
        if (p == ports->items)
            PUT(url, "%.*s_PORT", KL_PRI(name));
        PUT(url, "%.*s_PORT_%lld_%.*s", KL_PRI(name), port, KL_PRI(proto));
        PUT(kl_str(kl_arena_printf(a, "%s", low).p), "%.*s_PORT_%lld_%.*s_PROTO", KL_PRI(name),
            port, KL_PRI(proto));
        PUT(kl_arena_printf(a, "%lld", port), "%.*s_PORT_%lld_%.*s_PORT", KL_PRI(name), port,
            KL_PRI(proto));
        PUT(ip, "%.*s_PORT_%lld_%.*s_ADDR", KL_PRI(name), port, KL_PRI(proto));
    }
#undef PUT
}
