// SPDX-License-Identifier: Apache-2.0
// PodSpec and PodTemplateSpec (ValidatePodSpec, ValidatePodTemplateSpec).
#include "object/validate/pod_int.h"

// ---- annotations that once were fields

#define SECCOMP_POD "seccomp.security.alpha.kubernetes.io/pod"
#define SECCOMP_CONTAINER "container.seccomp.security.alpha.kubernetes.io/"
#define APPARMOR_CONTAINER "container.apparmor.security.beta.kubernetes.io/"

static struct kl_str annotation(const struct kl_value *map, const char *key)
{
    return kl_text(kl_map_value(map, kl_str(key)));
}

static void check_deletion_cost(struct kl_v *c, const struct kl_value *map,
                                const struct kl_vpath *p)
{
    static const char key[] = "controller.kubernetes.io/pod-deletion-cost";
    const struct kl_value *v = kl_map_value(map, kl_str(key));
    struct kl_str s = kl_text(v), digits = s;
    int64_t n;
    if (!v)
        return;
    if (s.n && (s.p[0] == '-' || s.p[0] == '+'))
        digits = kl_str_from(s, 1);
    // No sign and no zeros before a number, but a minus is one.
    bool good = digits.n && (digits.p[0] != '0' || digits.n == 1) && s.p[0] != '+' &&
                kl_str_to_i64(s, &n) && n >= INT32_MIN && n <= INT32_MAX;
    if (!good)
        kl_v_invalid_str(c, K(p, KL_STR("controller.kubernetes.io/pod-deletion-cost")), s,
                         "must be a 32bit integer");
}

static void check_seccomp_value(struct kl_v *c, struct kl_str s, const struct kl_vpath *p)
{
    if (kl_str_eqz(s, "runtime/default") || kl_str_eqz(s, "docker/default") ||
        kl_str_eqz(s, "unconfined"))
        return;
    if (kl_str_starts(s, KL_STR("localhost/")))
        kl_v_relative_path(c, p, kl_str_from(s, 10));
    else
        kl_v_invalid_str(c, p, s, "must be a valid seccomp profile");
}

static bool has_container(const struct kl_value *spec, struct kl_str name)
{
    static const kl_sym lists[] = {KL_F_initContainers, KL_F_containers, KL_F_ephemeralContainers};
    for (size_t l = 0; l < KL_COUNT(lists); l++)
        for (KL_EACH(x, kl_get(spec, lists[l])))
            if (kl_str_eq(kl_text(kl_get(x, KL_F_name)), name))
                return true;
    return false;
}

static void check_apparmor(struct kl_v *c, const struct kl_value *map, const struct kl_value *spec,
                           const struct kl_vpath *p)
{
    for (KL_MAP_EACH_KEY(kv, map)) {
        struct kl_str key = kl_text(kv), s = kl_text(kv + 1);
        if (!kl_str_starts(key, KL_STR(APPARMOR_CONTAINER)))
            continue;
        struct kl_str name = kl_str_from(key, sizeof APPARMOR_CONTAINER - 1);
        if (!has_container(spec, name))
            kl_v_invalid_str(c, K(p, key), name, "container not found");
        if (s.n && !kl_str_eqz(s, "runtime/default") && !kl_str_eqz(s, "unconfined") &&
            !kl_str_starts(s, KL_STR("localhost/")))
            kl_v_invalid_str(c, K(p, key), s,
                             kl_v_text(c, "invalid AppArmor profile name: \"%.*s\"", KL_PRI(s)));
    }
}

void kl_v_pod_annotations(struct kl_v *c, const struct kl_value *map, const struct kl_value *spec,
                          const struct kl_vpath *p)
{
    static const char mirror[] = "kubernetes.io/config.mirror";
    if (!kl_len(map))
        return;
    if (kl_map_value(map, kl_str(mirror)) && !kl_text(kl_get(spec, KL_F_nodeName)).n)
        kl_v_invalid_str(c, K(p, kl_str(mirror)), annotation(map, mirror),
                         "must set spec.nodeName if mirror pod annotation is set");
    check_deletion_cost(c, map, p);
    if (kl_map_value(map, KL_STR(SECCOMP_POD)))
        check_seccomp_value(c, annotation(map, SECCOMP_POD), N(p, SECCOMP_POD));
    for (KL_MAP_EACH_KEY(kv, map))
        if (kl_str_starts(kl_text(kv), KL_STR(SECCOMP_CONTAINER)))
            check_seccomp_value(c, kl_text(kv + 1),
                                N(p, kl_v_text(c, "%.*s", KL_PRI(kl_text(kv)))));
    check_apparmor(c, map, spec, p);
}

// ---- where annotation and field stand together they must agree

static void match_profile(struct kl_v *c, const struct kl_value *profile, struct kl_str s,
                          const char *what, const struct kl_vpath *p)
{
    struct kl_str type = kl_text(kl_get(profile, KL_F_type));
    const struct kl_value *local = kl_get(profile, KL_F_localhostProfile);
    bool is_local = kl_str_eqz(type, "Localhost");
    bool same =
        kl_str_eqz(type, "Unconfined") ? kl_str_eqz(s, "unconfined")
        : kl_str_eqz(type, "RuntimeDefault")
            ? kl_str_eqz(s, "runtime/default") || (*what == 's' && kl_str_eqz(s, "docker/default"))
        : is_local ? kl_str_starts(s, KL_STR("localhost/"))
                   : true;
    if (!same)
        kl_v_forbidden(c, F(p, type),
                       kl_v_text(c, "%s type in annotation and field must match", what));
    else if (is_local && (!local || !kl_str_eq(kl_text(local), kl_str_from(s, 10))))
        kl_v_forbidden(c, F(p, localhostProfile),
                       kl_v_text(c, "%s profile in annotation and field must match", what));
}

static const struct kl_value *container_annotation(struct kl_v *c, const struct kl_value *map,
                                                   const char *prefix, const struct kl_value *ctr)
{
    return kl_map_value(
        map, kl_str(kl_v_text(c, "%s%.*s", prefix, KL_PRI(kl_text(kl_get(ctr, KL_F_name))))));
}

static void match_seccomp(struct kl_v *c, const struct kl_value *ctr, const struct kl_vpath *p,
                          void *arg)
{
    const struct kl_value *profile = kl_path(ctr, KL_F_securityContext, KL_F_seccompProfile);
    const struct kl_value *s =
        profile ? container_annotation(c, arg, SECCOMP_CONTAINER, ctr) : NULL;
    if (s)
        match_profile(c, profile, kl_text(s), "seccomp", F(F(p, securityContext), seccompProfile));
}

struct apparmor {
    const struct kl_value *annotations, *pod;
};

static void match_apparmor(struct kl_v *c, const struct kl_value *ctr, const struct kl_vpath *p,
                           void *arg)
{
    const struct apparmor *x = arg;
    const struct kl_value *own = kl_path(ctr, KL_F_securityContext, KL_F_appArmorProfile);
    const struct kl_value *profile = own ? own : x->pod;
    const struct kl_value *s =
        profile ? container_annotation(c, x->annotations, APPARMOR_CONTAINER, ctr) : NULL;
    if (s)
        match_profile(c, profile, kl_text(s), "apparmor",
                      F(F(p, securityContext), appArmorProfile));
}

void kl_v_profile_annotations(struct kl_v *c, const struct kl_value *map,
                              const struct kl_value *spec, const struct kl_vpath *p)
{
    const struct kl_value *sc = kl_get(spec, KL_F_securityContext);
    const struct kl_value *pod = kl_map_value(map, KL_STR(SECCOMP_POD));
    struct apparmor x = {map, kl_get(sc, KL_F_appArmorProfile)};
    if (!kl_len(map))
        return;
    if (pod && kl_get(sc, KL_F_seccompProfile))
        match_profile(c, kl_get(sc, KL_F_seccompProfile), kl_text(pod), "seccomp",
                      F(F(p, securityContext), seccompProfile));
    kl_v_visit_containers(c, spec, p, match_seccomp, (void *)map);
    if (!kl_str_eqz(kl_text_at(spec, KL_F_os, KL_F_name), "windows"))
        kl_v_visit_containers(c, spec, p, match_apparmor, &x);
}

// ---- parts of the spec

static void check_claims(struct kl_v *c, const struct kl_pod_ctx *x, const struct kl_vpath *p)
{
    const struct kl_value *list = kl_get(x->spec, KL_F_resourceClaims);
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *v = kl_at(list, i);
        const struct kl_value *name = kl_get(v, KL_F_resourceClaimName);
        const struct kl_value *template = kl_get(v, KL_F_resourceClaimTemplateName);
        struct kl_str own = kl_text(kl_get(v, KL_F_name));
        const struct kl_vpath *at = I(p, i);
        bool twice = false;
        if (kl_map_value(kl_get(x->meta, KL_F_annotations),
                         KL_STR("kubernetes.io/config.mirror"))) {
            kl_v_forbidden(c, N(NULL, "[]"), "static pods do not support resource claims");
            continue;
        }
        for (size_t k = 0; k < i; k++)
            twice |= kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_name)), own);
        if (!own.n)
            kl_v_required(c, F(at, name), "");
        else if (twice)
            kl_v_duplicate(c, F(at, name), own);
        else
            kl_v_format(c, F(at, name), own, KL_V_LABEL);
        if (!name == !template)
            kl_v_invalid_json(
                c, at, kl_type(KL_TYPE_core_v1_PodResourceClaim), v, true,
                name ? "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be "
                       "specified"
                     : "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`");
        if (name)
            kl_v_format(c, F(at, resourceClaimName), kl_text(name), KL_V_SUBDOMAIN);
        if (template)
            kl_v_format(c, F(at, resourceClaimTemplateName), kl_text(template), KL_V_SUBDOMAIN);
    }
}

static void check_host_network(struct kl_v *c, const struct kl_pod_ctx *x, const struct kl_vpath *p)
{
    size_t i = 0;
    if (!kl_is_true(kl_get(x->spec, KL_F_hostNetwork)))
        return;
    for (KL_EACH(ctr, kl_get(x->spec, KL_F_containers))) {
        size_t k = 0;
        for (KL_EACH(port, kl_get(ctr, KL_F_ports))) {
            int64_t host = kl_int_at(port, 0, KL_F_hostPort);
            if ((x->is_pod || host) && host != kl_int_at(port, 0, KL_F_containerPort))
                kl_v_invalid_int(c, F(I(F(I(F(p, containers), i), ports), k), hostPort), host,
                                 "must match `containerPort` when `hostNetwork` is true");
            k++;
        }
        i++;
    }
}

static void check_dns(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p)
{
    const struct kl_value *d = kl_get(spec, KL_F_dnsConfig);
    const struct kl_value *servers = kl_get(d, KL_F_nameservers),
                          *searches = kl_get(d, KL_F_searches);
    size_t i = 0, total = 0;
    if (kl_v_is(spec, KL_F_dnsPolicy, "None")) {
        if (!d)
            kl_v_required(c, p, "must provide `dnsConfig` when `dnsPolicy` is None");
        else if (!kl_len(servers))
            kl_v_required(c, F(p, nameservers),
                          "must provide at least one DNS nameserver when `dnsPolicy` is None");
        if (!kl_len(servers))
            return;
    }
    if (kl_len(servers) > 3)
        kl_v_invalid(c, F(p, nameservers), servers, "must not have more than 3 nameservers");
    for (KL_EACH(s, servers))
        kl_v_ip(c, I(F(p, nameservers), i++), kl_text(s), false);
    if (kl_len(searches) > 32)
        kl_v_invalid(c, F(p, searches), searches, "must not have more than 32 search paths");
    for (KL_EACH(s, searches))
        total += kl_text(s).n + 1;
    if (total > 2049)
        kl_v_invalid(
            c, F(p, searches), searches,
            "must not have more than 2048 characters (including spaces) in the search list");
    i = 0;
    for (KL_EACH(s, searches)) {
        struct kl_str text = kl_text(s);
        const struct kl_vpath *at = I(F(p, searches), i++);
        if (kl_str_eqz(text, "."))
            continue;
        if (text.n && text.p[text.n - 1] == '.')
            text.n--;
        kl_v_format(c, at, text, KL_V_SUBDOMAIN_UNDERSCORE);
    }
    i = 0;
    for (KL_EACH(o, kl_get(d, KL_F_options))) {
        if (!kl_text(kl_get(o, KL_F_name)).n)
            kl_v_required(c, I(F(p, options), i), "must not be empty");
        i++;
    }
}

static void check_gates(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p)
{
    const struct kl_value *gates = kl_get(spec, KL_F_schedulingGates);
    size_t i = 0;
    for (KL_EACH(g, kl_get(spec, KL_F_readinessGates)))
        kl_v_format(c, F(I(F(p, readinessGates), i++), conditionType),
                    kl_text(kl_get(g, KL_F_conditionType)), KL_V_QUALIFIED);
    for (i = 0; i < kl_len(gates); i++) {
        struct kl_str name = kl_text(kl_get(kl_at(gates, i), KL_F_name));
        const struct kl_vpath *at = I(F(p, schedulingGates), i);
        kl_v_format(c, at, name, KL_V_QUALIFIED);
        for (size_t k = 0; k < i; k++)
            if (kl_str_eq(kl_text(kl_get(kl_at(gates, k), KL_F_name)), name)) {
                kl_v_duplicate(c, at, name);
                break;
            }
    }
}

static void refuse_devices(struct kl_v *c, const struct kl_value *ctr, const struct kl_vpath *p,
                           void *arg)
{
    (void)arg;
    if (kl_len(kl_get(ctr, KL_F_volumeDevices)))
        kl_v_forbidden(c, F(p, volumeDevices), "when `hostUsers` is false");
}

static void check_host_users(struct kl_v *c, const struct kl_pod_ctx *x, const struct kl_vpath *p)
{
    if (x->host_users)
        return;
    if (kl_is_true(kl_get(x->spec, KL_F_hostNetwork)))
        kl_v_forbidden(c, F(p, hostNetwork), "when `hostUsers` is false");
    if (kl_is_true(kl_get(x->spec, KL_F_hostPID)))
        kl_v_forbidden(c, N(p, "HostPID"), "when `hostUsers` is false");
    if (kl_is_true(kl_get(x->spec, KL_F_hostIPC)))
        kl_v_forbidden(c, N(p, "HostIPC"), "when `hostUsers` is false");
    kl_v_visit_containers(c, x->spec, p, refuse_devices, NULL);
}

static void check_hostname(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p)
{
    const struct kl_value *name = kl_get(spec, KL_F_hostnameOverride);
    const struct kl_vpath *at = F(p, hostnameOverride);
    if (!name)
        return;
    if (kl_is_true(kl_get(spec, KL_F_setHostnameAsFQDN)))
        kl_v_forbidden(c, at, "may not be specified when setHostnameAsFQDN is true");
    if (kl_is_true(kl_get(spec, KL_F_hostNetwork)))
        kl_v_forbidden(c, at, "may not be specified when hostNetwork is true");
    if (kl_text(name).n > 64)
        kl_v_too_long(c, at, 64);
    kl_v_format(c, at, kl_text(name), KL_V_SUBDOMAIN);
}

static void check_host_alias(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    size_t i = 0;
    kl_v_ip(c, F(p, ip), kl_text(kl_get(v, KL_F_ip)), false);
    for (KL_EACH(h, kl_get(v, KL_F_hostnames)))
        kl_v_format(c, I(F(p, hostnames), i++), kl_text(h), KL_V_SUBDOMAIN);
}

static void check_runtime_class(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    kl_v_format(c, p, kl_text(v), KL_V_SUBDOMAIN);
}

void kl_v_preemption(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const char *const policies[] = {"PreemptLowerPriority", "Never", NULL};
    if (!kl_text(v).n)
        kl_v_required(c, p, "");
    else if (!kl_v_in(kl_text(v), policies))
        kl_v_unsupported(c, p, kl_text(v), policies);
}

void kl_v_overhead(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_value both[1] = {*v};
    struct kl_value r = {.kind = KL_STRUCT, .n = 1, .items = both};
    both[0].sym = KL_F_limits;
    kl_v_requirements(c, &r, NULL, false, p);
}

// ---- by operating system

static void refuse_windows_options(struct kl_v *c, const struct kl_value *ctr,
                                   const struct kl_vpath *p, void *arg)
{
    (void)arg;
    if (kl_path(ctr, KL_F_securityContext, KL_F_windowsOptions))
        kl_v_forbidden(c, F(F(p, securityContext), windowsOptions),
                       "windows options cannot be set for a linux pod");
}

static void refuse_linux(struct kl_v *c, const struct kl_value *v, const kl_sym *fields, size_t n,
                         const struct kl_vpath *p)
{
    for (size_t i = 0; i < n; i++)
        if (kl_get(v, fields[i]))
            kl_v_forbidden(c, FS(p, fields[i]), "cannot be set for a windows pod");
}

static void refuse_linux_container(struct kl_v *c, const struct kl_value *ctr,
                                   const struct kl_vpath *p, void *arg)
{
    static const kl_sym fields[] = {KL_F_appArmorProfile,
                                    KL_F_seLinuxOptions,
                                    KL_F_seccompProfile,
                                    KL_F_capabilities,
                                    KL_F_readOnlyRootFilesystem,
                                    KL_F_privileged,
                                    KL_F_allowPrivilegeEscalation,
                                    KL_F_procMount,
                                    KL_F_runAsUser,
                                    KL_F_runAsGroup};
    (void)arg;
    refuse_linux(c, kl_get(ctr, KL_F_securityContext), fields, KL_COUNT(fields),
                 F(p, securityContext));
}

static void check_windows_pod(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p)
{
    static const struct {
        kl_sym field;
        bool outside; // of the security context
    } order[] = {{KL_F_appArmorProfile, false},
                 {KL_F_seLinuxOptions, false},
                 {KL_F_hostUsers, true},
                 {KL_F_hostPID, true},
                 {KL_F_hostIPC, true},
                 {KL_F_seccompProfile, false},
                 {KL_F_fsGroup, false},
                 {KL_F_fsGroupChangePolicy, false},
                 {KL_F_sysctls, false},
                 {KL_F_shareProcessNamespace, true},
                 {KL_F_runAsUser, false},
                 {KL_F_runAsGroup, false},
                 {KL_F_supplementalGroups, false},
                 {KL_F_supplementalGroupsPolicy, false},
                 {KL_F_seLinuxChangePolicy, false}};
    const struct kl_value *sc = kl_get(spec, KL_F_securityContext);
    for (size_t i = 0; i < KL_COUNT(order); i++) {
        kl_sym f = order[i].field;
        const struct kl_value *v = kl_get(order[i].outside ? spec : sc, f);
        if (!v || ((f == KL_F_hostPID || f == KL_F_hostIPC) && !kl_is_true(v)) ||
            (f == KL_F_sysctls && !kl_len(v)))
            continue;
        kl_v_forbidden(c, FS(order[i].outside ? p : F(p, securityContext), f),
                       "cannot be set for a windows pod");
    }
    kl_v_visit_containers(c, spec, p, refuse_linux_container, NULL);
}

static void check_os(struct kl_v *c, const struct kl_pod_ctx *x, const struct kl_vpath *p)
{
    static const char *const known[] = {"linux", "windows", NULL};
    if (!x->has_os)
        return;
    if (!x->os.n) {
        kl_v_required(c, F(F(p, os), name), "");
    } else if (!kl_v_in(x->os, known)) {
        kl_v_unsupported(c, F(p, os), x->os, known);
    } else if (kl_str_eqz(x->os, "windows")) {
        check_windows_pod(c, x->spec, p);
    } else {
        if (kl_path(x->spec, KL_F_securityContext, KL_F_windowsOptions))
            kl_v_forbidden(c, F(F(p, securityContext), windowsOptions),
                           "windows options cannot be set for a linux pod");
        kl_v_visit_containers(c, x->spec, p, refuse_windows_options, NULL);
    }
}

static void check_file_refs(struct kl_v *c, const struct kl_value *ctr, const struct kl_vpath *p,
                            void *arg)
{
    const struct kl_value *volumes = arg;
    size_t i = 0;
    for (KL_EACH(env, kl_get(ctr, KL_F_env))) {
        const struct kl_value *ref = kl_path(env, KL_F_valueFrom, KL_F_fileKeyRef);
        const struct kl_vpath *at = F(F(F(I(F(p, env), i++), valueFrom), fileKeyRef), volumeName);
        const struct kl_value *found = NULL;
        struct kl_str name = kl_text(kl_get(ref, KL_F_volumeName));
        if (!ref)
            continue;
        for (KL_EACH(v, volumes))
            if (kl_str_eq(kl_text(kl_get(v, KL_F_name)), name))
                found = v;
        if (!found)
            kl_v_not_found(c, at, name);
        else if (!kl_get(found, KL_F_emptyDir))
            kl_v_invalid_str(c, at, name, "referenced volume must be of type emptyDir");
    }
}

static void check_deadline(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    kl_v_range(c, p, kl_int_or(v, 0), 1, INT32_MAX);
}

static void check_group(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *name = kl_get(v, KL_F_podGroupName);
    if (!name)
        kl_v_invalid(c, F(p, podGroupName), NULL, "must specify one of: `podGroupName`");
    else
        kl_v_format(c, F(p, podGroupName), kl_text(name), KL_V_SUBDOMAIN);
}

void kl_v_pod_spec(struct kl_v *c, struct kl_pod_ctx *x, const struct kl_vpath *p)
{
    static const char *const restarts[] = {"Always", "OnFailure", "Never", NULL};
    static const char *const dns[] = {"ClusterFirstWithHostNet", "ClusterFirst", "Default", "None",
                                      NULL};
    static const struct kl_rule policies[] = {R_NEED_ENUM(restartPolicy, restarts),
                                              R_NEED_ENUM(dnsPolicy, dns), R_LABELS(nodeSelector),
                                              R_END};
    static const struct kl_rule rest[] = {R_FORMAT(serviceAccountName, KL_V_SUBDOMAIN),
                                          R_FORMAT(nodeName, KL_V_SUBDOMAIN),
                                          R_ON(activeDeadlineSeconds, check_deadline),
                                          R_FORMAT(hostname, KL_V_LABEL),
                                          R_FORMAT(subdomain, KL_V_LABEL),
                                          R_ON(tolerations, kl_v_tolerations),
                                          R_EACH_ON(hostAliases, check_host_alias),
                                          R_FORMAT(priorityClassName, KL_V_SUBDOMAIN),
                                          R_ON(runtimeClassName, check_runtime_class),
                                          R_ON(preemptionPolicy, kl_v_preemption),
                                          R_ON(overhead, kl_v_overhead),
                                          R_END};
    const struct kl_value *s = x->spec, *users = kl_get(s, KL_F_hostUsers);
    const struct kl_pod_ctx *outer = c->pod;
    static const struct kl_value one = {.kind = KL_INT, .i = 1};
    x->grace = kl_get(s, KL_F_terminationGracePeriodSeconds);
    if (x->grace && kl_int_or(x->grace, 0) < 0) // "as short as possible" is written as what it does
        x->grace = &one;
    x->restart = kl_text(kl_get(s, KL_F_restartPolicy));
    x->has_os = kl_get(s, KL_F_os) != NULL;
    x->os = kl_text_at(s, KL_F_os, KL_F_name);
    x->host_users = !users || kl_is_true(users);
    c->pod = x;
    if (!x->grace)
        kl_v_required(c, F(p, terminationGracePeriodSeconds), "");
    kl_v_volumes(c, x, F(p, volumes));
    check_claims(c, x, F(p, resourceClaims));
    kl_v_containers(c, F(p, containers));
    kl_v_init_containers(c, F(p, initContainers));
    kl_v_ephemeral_containers(c, F(p, ephemeralContainers));
    kl_v_pod_resources(c, s, p);
    check_host_network(c, x, p);
    kl_v_walk(c, policies, s, p);
    kl_v_pod_security(c, kl_get(s, KL_F_securityContext), s, F(p, securityContext));
    kl_v_affinity(c, kl_get(s, KL_F_affinity), F(p, affinity));
    check_dns(c, s, F(p, dnsConfig));
    check_gates(c, s, p);
    kl_v_spread(c, kl_get(s, KL_F_topologySpreadConstraints), F(p, topologySpreadConstraints));
    kl_v_windows(c, s, p);
    check_host_users(c, x, p);
    check_hostname(c, s, p);
    kl_v_walk(c, rest, s, p);
    check_os(c, x, p);
    if (kl_get(s, KL_F_schedulingGroup))
        check_group(c, kl_get(s, KL_F_schedulingGroup), F(p, schedulingGroup));
    kl_v_visit_containers(c, s, p, check_file_refs, (void *)kl_get(s, KL_F_volumes));
    c->pod = outer;
}

void kl_v_pod_template(struct kl_v *c, const struct kl_value *t, const struct kl_vpath *p)
{
    const struct kl_value *meta = kl_get(t, KL_F_metadata), *spec = kl_get(t, KL_F_spec);
    const struct kl_value *annotations = kl_get(meta, KL_F_annotations);
    struct kl_pod_ctx x = {.spec = spec};
    kl_v_labels(c, F(p, labels), kl_get(meta, KL_F_labels));
    kl_v_annotations(c, F(p, annotations), annotations);
    kl_v_pod_annotations(c, annotations, spec, F(p, annotations));
    kl_v_pod_spec(c, &x, F(p, spec));
    kl_v_profile_annotations(c, annotations, spec, F(p, spec));
    if (kl_len(kl_get(spec, KL_F_ephemeralContainers)))
        kl_v_forbidden(c, F(F(p, spec), ephemeralContainers),
                       "ephemeral containers not allowed in pod template");
}
