// SPDX-License-Identifier: Apache-2.0
// The checks of the baseline level: known ways out of a container.
#include "object/gotext_int.h"
#include "object/podsecurity/checks_int.h"

static const struct kl_value *context(const struct kl_value *container)
{
    return kl_ps_get(container, KL_F_securityContext);
}

static bool one_of(struct kl_str s, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (kl_str_eqz(s, list[i]))
            return true;
    return false;
}

// key="value", as fmt's %s=%q has it.
static struct kl_str annotation_text(struct kl_ps_run *r, struct kl_str key, struct kl_str value)
{
    struct kl_buf b;
    kl_buf_init(&b, 4 * (key.n + value.n) + 64);
    kl_buf_puts(&b, key);
    kl_buf_putc(&b, '=');
    kl_go_quote(&b, value);
    struct kl_str s = kl_arena_dup(r->arena, kl_buf_str(&b));
    r->failed |= b.err || !s.p;
    kl_buf_fini(&b);
    return s.p ? s : KL_STR("");
}

static bool bad_profile(const struct kl_value *context, kl_sym field, struct kl_str *type)
{
    const struct kl_value *p = kl_ps_get(context, field);
    *type = kl_text(kl_get(p, KL_F_type));
    return p && !kl_str_eqz(*type, "RuntimeDefault") && !kl_str_eqz(*type, "Localhost");
}

void kl_ps_app_armor(struct kl_ps_run *r)
{
    static const char prefix[] = "container.apparmor.security.beta.kubernetes.io/";
    struct kl_ps_names bad = {0}, values = {0}, annotations = {0}, setters = {0};
    struct kl_ps_walk w = {0};
    struct kl_str type;
    const struct kl_value *c;
    if (bad_profile(r->pod_context, KL_F_appArmorProfile, &type)) {
        kl_ps_add(r, &setters, KL_STR("pod"));
        kl_ps_insert(r, &values, type);
    }
    while ((c = kl_ps_next(r, &w)))
        if (bad_profile(context(c), KL_F_appArmorProfile, &type)) {
            kl_ps_add(r, &bad, kl_ps_name(c));
            kl_ps_insert(r, &values, type);
        }
    if (bad.n)
        kl_ps_add(r, &setters, kl_ps_containers(r, &bad));
    for (KL_MAP_EACH_KEY(kv, kl_get(r->meta, KL_F_annotations))) {
        struct kl_str key = kl_text(kv), v = kl_text(kv + 1);
        if (kl_str_starts(key, kl_str(prefix)) && v.n && !kl_str_eqz(v, "runtime/default") &&
            !kl_str_starts(v, KL_STR("localhost/")))
            kl_ps_insert(r, &annotations, annotation_text(r, key, v));
    }
    for (size_t i = 0; i < annotations.n; i++)
        kl_ps_add(r, &values, annotations.v[i]);
    if (annotations.n)
        kl_ps_add(r, &setters, kl_str(kl_ps_plural("annotation", "annotations", annotations.n)));
    if (!setters.n)
        return;
    struct kl_str who = kl_ps_joined(r, &setters, " and "), what = kl_ps_quoted(r, &values);
    kl_ps_forbid(
        r, kl_ps_plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.n),
        "%.*s must not set AppArmor profile type to %.*s", KL_PRI(who), KL_PRI(what));
}

void kl_ps_capabilities(struct kl_ps_run *r)
{
    static const char *const allowed[] = {
        "AUDIT_WRITE",      "CHOWN",   "DAC_OVERRIDE", "FOWNER",  "FSETID", "KILL",      "MKNOD",
        "NET_BIND_SERVICE", "SETFCAP", "SETGID",       "SETPCAP", "SETUID", "SYS_CHROOT"};
    struct kl_ps_names bad = {0}, added = {0};
    struct kl_ps_walk w = {0};
    const struct kl_value *c;
    while ((c = kl_ps_next(r, &w))) {
        bool valid = true;
        for (KL_EACH(x, kl_path(c, KL_F_securityContext, KL_F_capabilities, KL_F_add)))
            if (!one_of(kl_text(x), allowed, KL_COUNT(allowed))) {
                valid = false;
                kl_ps_insert(r, &added, kl_text(x));
            }
        if (!valid)
            kl_ps_add(r, &bad, kl_ps_name(c));
    }
    if (!bad.n)
        return;
    struct kl_str who = kl_ps_containers(r, &bad), what = kl_ps_quoted(r, &added);
    kl_ps_forbid(r, "non-default capabilities",
                 "%.*s must not include %.*s in securityContext.capabilities.add", KL_PRI(who),
                 KL_PRI(what));
}

void kl_ps_host_namespaces(struct kl_ps_run *r)
{
    struct kl_ps_names used = {0};
    if (kl_is_true(kl_get(r->spec, KL_F_hostNetwork)))
        kl_ps_add(r, &used, KL_STR("hostNetwork=true"));
    if (kl_is_true(kl_get(r->spec, KL_F_hostPID)))
        kl_ps_add(r, &used, KL_STR("hostPID=true"));
    if (kl_is_true(kl_get(r->spec, KL_F_hostIPC)))
        kl_ps_add(r, &used, KL_STR("hostIPC=true"));
    if (!used.n)
        return;
    struct kl_str what = kl_ps_joined(r, &used, ", ");
    kl_ps_forbid(r, "host namespaces", "%.*s", KL_PRI(what));
}

void kl_ps_host_paths(struct kl_ps_run *r)
{
    struct kl_ps_names bad = {0};
    for (KL_EACH(v, kl_get(r->spec, KL_F_volumes)))
        if (kl_ps_get(v, KL_F_hostPath))
            kl_ps_add(r, &bad, kl_ps_name(v));
    if (!bad.n)
        return;
    struct kl_str names = kl_ps_quoted(r, &bad);
    kl_ps_forbid(r, "hostPath volumes", "%s %.*s", kl_ps_plural("volume", "volumes", bad.n),
                 KL_PRI(names));
}

void kl_ps_host_ports(struct kl_ps_run *r)
{
    struct kl_ps_names bad = {0}, ports = {0};
    struct kl_ps_walk w = {0};
    const struct kl_value *c;
    while ((c = kl_ps_next(r, &w))) {
        bool valid = true;
        for (KL_EACH(p, kl_get(c, KL_F_ports))) {
            int64_t n = kl_int_or(kl_get(p, KL_F_hostPort), 0);
            if (!n)
                continue;
            valid = false;
            kl_ps_insert(r, &ports, kl_ps_printf(r, "%lld", (long long)n));
        }
        if (!valid)
            kl_ps_add(r, &bad, kl_ps_name(c));
    }
    if (!bad.n)
        return;
    struct kl_str who = kl_ps_containers(r, &bad), what = kl_ps_joined(r, &ports, ", ");
    kl_ps_forbid(r, "hostPort", "%.*s %s %s %.*s", KL_PRI(who), kl_ps_plural("uses", "use", bad.n),
                 kl_ps_plural("hostPort", "hostPorts", ports.n), KL_PRI(what));
}

// Hosts of a probe or a handler.
static bool add_hosts(struct kl_ps_run *r, const struct kl_value *handler,
                      struct kl_ps_names *hosts)
{
    struct kl_str http = kl_text_at(handler, KL_F_httpGet, KL_F_host),
                  tcp = kl_text_at(handler, KL_F_tcpSocket, KL_F_host);
    if (http.n)
        kl_ps_insert(r, hosts, http);
    if (tcp.n)
        kl_ps_insert(r, hosts, tcp);
    return http.n || tcp.n;
}

void kl_ps_host_probes(struct kl_ps_run *r)
{
    struct kl_ps_names bad = {0}, hosts = {0};
    struct kl_ps_walk w = {0};
    const struct kl_value *c;
    while ((c = kl_ps_next(r, &w))) {
        const struct kl_value *life = kl_get(c, KL_F_lifecycle);
        bool any = add_hosts(r, kl_get(c, KL_F_livenessProbe), &hosts);
        any |= add_hosts(r, kl_get(c, KL_F_readinessProbe), &hosts);
        any |= add_hosts(r, kl_get(c, KL_F_startupProbe), &hosts);
        any |= add_hosts(r, kl_get(life, KL_F_postStart), &hosts);
        any |= add_hosts(r, kl_get(life, KL_F_preStop), &hosts);
        if (any)
            kl_ps_insert(r, &bad, kl_ps_name(c));
    }
    if (!bad.n)
        return;
    struct kl_str who = kl_ps_containers(r, &bad), what = kl_ps_quoted(r, &hosts);
    kl_ps_forbid(r, "probe or lifecycle host", "%.*s %s %s %.*s", KL_PRI(who),
                 kl_ps_plural("uses", "use", bad.n),
                 kl_ps_plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.n),
                 KL_PRI(what));
}

void kl_ps_privileged(struct kl_ps_run *r)
{
    struct kl_ps_names bad = {0};
    struct kl_ps_walk w = {0};
    const struct kl_value *c;
    while ((c = kl_ps_next(r, &w)))
        if (kl_true_at(c, KL_F_securityContext, KL_F_privileged))
            kl_ps_add(r, &bad, kl_ps_name(c));
    if (!bad.n)
        return;
    struct kl_str who = kl_ps_containers(r, &bad);
    kl_ps_forbid(r, "privileged", "%.*s must not set securityContext.privileged=true", KL_PRI(who));
}

void kl_ps_proc_mount(struct kl_ps_run *r)
{
    struct kl_ps_names bad = {0}, types = {0};
    struct kl_ps_walk w = {0};
    const struct kl_value *c, *users = kl_get(r->spec, KL_F_hostUsers);
    // From 1.35 on baseline lets pods in a user namespace have what they like.
    if (r->level == KL_PS_BASELINE && r->minor >= 35 && kl_is(users, KL_BOOL) && !users->b)
        return;
    while ((c = kl_ps_next(r, &w))) {
        const struct kl_value *m = kl_ps_get(context(c), KL_F_procMount);
        if (!m || kl_str_eqz(kl_text(m), "Default"))
            continue;
        kl_ps_add(r, &bad, kl_ps_name(c));
        kl_ps_insert(r, &types, kl_text(m));
    }
    if (!bad.n)
        return;
    struct kl_str who = kl_ps_containers(r, &bad), what = kl_ps_quoted(r, &types);
    kl_ps_forbid(r, "procMount", "%.*s must not set securityContext.procMount to %.*s", KL_PRI(who),
                 KL_PRI(what));
}

struct selinux {
    struct kl_ps_names types;
    bool user, role;
};

static bool bad_selinux(struct kl_ps_run *r, const struct kl_value *context, struct selinux *s)
{
    static const char *const allowed[] = {"", "container_t", "container_init_t", "container_kvm_t",
                                          "container_engine_t"};
    const struct kl_value *o = kl_ps_get(context, KL_F_seLinuxOptions);
    if (!o)
        return false;
    struct kl_str type = kl_text(kl_get(o, KL_F_type));
    bool bad = !one_of(type, allowed, r->minor >= 31 ? 5 : 4);
    bool user = kl_text(kl_get(o, KL_F_user)).n, role = kl_text(kl_get(o, KL_F_role)).n;
    if (bad)
        kl_ps_insert(r, &s->types, type);
    s->user |= user;
    s->role |= role;
    return bad || user || role;
}

void kl_ps_selinux(struct kl_ps_run *r)
{
    struct selinux s = {0};
    struct kl_ps_names bad = {0}, data = {0};
    struct kl_ps_walk w = {0};
    const struct kl_value *c;
    bool pod = bad_selinux(r, r->pod_context, &s);
    while ((c = kl_ps_next(r, &w)))
        if (bad_selinux(r, context(c), &s))
            kl_ps_add(r, &bad, kl_ps_name(c));
    if (!pod && !bad.n)
        return;
    if (s.types.n) {
        struct kl_str types = kl_ps_quoted(r, &s.types);
        kl_ps_add(
            r, &data,
            kl_ps_printf(r, "%s %.*s", kl_ps_plural("type", "types", s.types.n), KL_PRI(types)));
    }
    if (s.user)
        kl_ps_add(r, &data, KL_STR("user may not be set"));
    if (s.role)
        kl_ps_add(r, &data, KL_STR("role may not be set"));
    struct kl_str who = kl_ps_setters(r, pod, &bad), what = kl_ps_joined(r, &data, "; ");
    kl_ps_forbid(r, "seLinuxOptions", "%.*s set forbidden securityContext.seLinuxOptions: %.*s",
                 KL_PRI(who), KL_PRI(what));
}

static void add_annotation(struct kl_ps_run *r, struct kl_ps_names *bad, struct kl_str key)
{
    const struct kl_value *v = kl_map_value(kl_get(r->meta, KL_F_annotations), key);
    struct kl_str s = kl_text(v);
    if (v && !kl_str_eqz(s, "runtime/default") && !kl_str_eqz(s, "docker/default") &&
        !kl_str_starts(s, KL_STR("localhost/")))
        kl_ps_insert(r, bad, annotation_text(r, key, s));
}

// Before 1.19 seccomp was asked for by annotations.
void kl_ps_seccomp_annotations(struct kl_ps_run *r)
{
    struct kl_ps_names bad = {0};
    struct kl_ps_walk w = {0};
    const struct kl_value *c;
    add_annotation(r, &bad, KL_STR("seccomp.security.alpha.kubernetes.io/pod"));
    while ((c = kl_ps_next(r, &w))) {
        struct kl_str name = kl_ps_name(c);
        add_annotation(
            r, &bad,
            kl_ps_printf(r, "container.seccomp.security.alpha.kubernetes.io/%.*s", KL_PRI(name)));
    }
    if (!bad.n)
        return;
    struct kl_str what = kl_ps_joined(r, &bad, ", ");
    kl_ps_forbid(r, "seccompProfile", "forbidden %s %.*s",
                 kl_ps_plural("annotation", "annotations", bad.n), KL_PRI(what));
}

void kl_ps_seccomp(struct kl_ps_run *r)
{
    struct kl_ps_names bad = {0}, values = {0};
    struct kl_ps_walk w = {0};
    struct kl_str type;
    const struct kl_value *c;
    bool pod = bad_profile(r->pod_context, KL_F_seccompProfile, &type);
    if (pod)
        kl_ps_insert(r, &values, type);
    while ((c = kl_ps_next(r, &w)))
        if (bad_profile(context(c), KL_F_seccompProfile, &type)) {
            kl_ps_add(r, &bad, kl_ps_name(c));
            kl_ps_insert(r, &values, type);
        }
    if (!pod && !bad.n)
        return;
    struct kl_str who = kl_ps_setters(r, pod, &bad), what = kl_ps_quoted(r, &values);
    kl_ps_forbid(r, "seccompProfile",
                 "%.*s must not set securityContext.seccompProfile.type to %.*s", KL_PRI(who),
                 KL_PRI(what));
}

void kl_ps_sysctls(struct kl_ps_run *r)
{
    static const struct {
        const char *name;
        uint8_t since;
    } allowed[] = {{"kernel.shm_rmid_forced", 0},
                   {"net.ipv4.ip_local_port_range", 0},
                   {"net.ipv4.tcp_syncookies", 0},
                   {"net.ipv4.ping_group_range", 0},
                   {"net.ipv4.ip_unprivileged_port_start", 0},
                   {"net.ipv4.ip_local_reserved_ports", 27},
                   {"net.ipv4.tcp_keepalive_time", 29},
                   {"net.ipv4.tcp_fin_timeout", 29},
                   {"net.ipv4.tcp_keepalive_intvl", 29},
                   {"net.ipv4.tcp_keepalive_probes", 29},
                   {"net.ipv4.tcp_rmem", 32},
                   {"net.ipv4.tcp_wmem", 32}};
    struct kl_ps_names bad = {0};
    for (KL_EACH(s, kl_get(r->pod_context, KL_F_sysctls))) {
        bool good = false;
        for (size_t i = 0; i < KL_COUNT(allowed); i++)
            good |= r->minor >= allowed[i].since && kl_str_eqz(kl_ps_name(s), allowed[i].name);
        if (!good)
            kl_ps_add(r, &bad, kl_ps_name(s));
    }
    if (!bad.n)
        return;
    struct kl_str what = kl_ps_joined(r, &bad, ", ");
    kl_ps_forbid(r, "forbidden sysctls", "%.*s", KL_PRI(what));
}

void kl_ps_host_process(struct kl_ps_run *r)
{
    struct kl_ps_names bad = {0};
    struct kl_ps_walk w = {0};
    const struct kl_value *c;
    bool pod = kl_true_at(r->pod_context, KL_F_windowsOptions, KL_F_hostProcess);
    while ((c = kl_ps_next(r, &w)))
        if (kl_true_at(context(c), KL_F_windowsOptions, KL_F_hostProcess))
            kl_ps_add(r, &bad, kl_ps_name(c));
    if (!pod && !bad.n)
        return;
    struct kl_str who = kl_ps_setters(r, pod, &bad);
    kl_ps_forbid(r, "hostProcess",
                 "%.*s must not set securityContext.windowsOptions.hostProcess=true", KL_PRI(who));
}
