// SPDX-License-Identifier: Apache-2.0
// Containers of all three kinds: ports, environment, mounts, probes, lifecycle.
#include "object/validate/pod_int.h"

static const char *const protocols[] = {"SCTP", "TCP", "UDP", NULL};
static const char *const pulls[] = {"Always", "IfNotPresent", "Never", NULL};
static const char *const messages[] = {"File", "FallbackToLogsOnError", NULL};

void kl_v_pull_policy(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str s = kl_text(v);
    if (!s.n)
        kl_v_required(c, p, "");
    else if (!kl_v_in(s, pulls))
        kl_v_unsupported(c, p, s, pulls);
}

bool kl_v_claim_name(const struct kl_value *spec, struct kl_str name)
{
    for (KL_EACH(x, kl_get(spec, KL_F_resourceClaims)))
        if (name.n && kl_str_eq(kl_text(kl_get(x, KL_F_name)), name))
            return true;
    return false;
}

// ---- ports

static bool named_before(const struct kl_value *list, size_t i, kl_sym f, struct kl_str s)
{
    for (size_t k = 0; k < i; k++)
        if (kl_str_eq(kl_text(kl_get(kl_at(list, k), f)), s))
            return true;
    return false;
}

static void check_ports(struct kl_v *c, const struct kl_value *ports, const struct kl_vpath *p)
{
    for (size_t i = 0; i < kl_len(ports); i++) {
        const struct kl_value *v = kl_at(ports, i);
        const struct kl_vpath *at = I(p, i);
        struct kl_str name = kl_text(kl_get(v, KL_F_name));
        struct kl_str protocol = kl_text(kl_get(v, KL_F_protocol));
        if (name.n && kl_v_format(c, F(at, name), name, KL_V_PORT_NAME) &&
            named_before(ports, i, KL_F_name, name))
            kl_v_duplicate(c, F(at, name), name);
        if (!kl_int_at(v, 0, KL_F_containerPort))
            kl_v_required(c, F(at, containerPort), "");
        else
            kl_v_port(c, F(at, containerPort), kl_int_at(v, 0, KL_F_containerPort));
        if (kl_int_at(v, 0, KL_F_hostPort))
            kl_v_port(c, F(at, hostPort), kl_int_at(v, 0, KL_F_hostPort));
        if (!protocol.n)
            kl_v_required(c, F(at, protocol), "");
        else if (!kl_v_in(protocol, protocols))
            kl_v_unsupported(c, F(at, protocol), protocol, protocols);
    }
}

static bool same_host_port(const struct kl_value *a, const struct kl_value *b)
{
    return kl_int_at(a, 0, KL_F_hostPort) == kl_int_at(b, 0, KL_F_hostPort) &&
           kl_str_eq(kl_text(kl_get(a, KL_F_protocol)), kl_text(kl_get(b, KL_F_protocol))) &&
           kl_str_eq(kl_text(kl_get(a, KL_F_hostIP)), kl_text(kl_get(b, KL_F_hostIP)));
}

static bool port_taken(const struct kl_value *list, size_t first, size_t ci, size_t pi,
                       const struct kl_value *port)
{
    for (size_t i = first; i <= ci; i++) {
        const struct kl_value *ports = kl_get(kl_at(list, i), KL_F_ports);
        for (size_t k = 0; k < (i == ci ? pi : kl_len(ports)); k++)
            if (same_host_port(kl_at(ports, k), port))
                return true;
    }
    return false;
}

// AccumulateUniqueHostPorts of the containers from `first` to `last`; shown_at is where the first
// one's path starts.
static void check_host_ports(struct kl_v *c, const struct kl_value *list, size_t first, size_t last,
                             const struct kl_vpath *p)
{
    for (size_t i = first; i < last; i++) {
        const struct kl_value *ports = kl_get(kl_at(list, i), KL_F_ports);
        for (size_t k = 0; k < kl_len(ports); k++) {
            const struct kl_value *port = kl_at(ports, k);
            if (!kl_int_at(port, 0, KL_F_hostPort) || !port_taken(list, first, i, k, port))
                continue;
            kl_v_duplicate(
                c, F(I(F(I(p, i - first), ports), k), hostPort),
                kl_str(kl_v_text(c, "%.*s/%.*s/%lld", KL_PRI(kl_text(kl_get(port, KL_F_protocol))),
                                 KL_PRI(kl_text(kl_get(port, KL_F_hostIP))),
                                 (long long)kl_int_at(port, 0, KL_F_hostPort))));
        }
    }
}

// ---- environment

static const char *const env_fields[] = {"metadata.name",
                                         "metadata.namespace",
                                         "metadata.uid",
                                         "spec.nodeName",
                                         "spec.serviceAccountName",
                                         "status.hostIP",
                                         "status.hostIPs",
                                         "status.podIP",
                                         "status.podIPs",
                                         NULL};
static const char *const resource_fields[] = {"limits.cpu",
                                              "limits.ephemeral-storage",
                                              "limits.memory",
                                              "requests.cpu",
                                              "requests.ephemeral-storage",
                                              "requests.memory",
                                              NULL};

void kl_v_field_ref(struct kl_v *c, const struct kl_value *v, const char *const *allowed,
                    const struct kl_vpath *p)
{
    static const char *const known[] = {
        "metadata.annotations", "metadata.labels", "metadata.name",      "metadata.namespace",
        "metadata.uid",         "spec.nodeName",   "spec.restartPolicy", "spec.serviceAccountName",
        "spec.schedulerName",   "status.phase",    "status.hostIP",      "status.hostIPs",
        "status.podIP",         "status.podIPs",   "spec.host",          NULL};
    struct kl_str version = kl_text(kl_get(v, KL_F_apiVersion));
    struct kl_str path = kl_text(kl_get(v, KL_F_fieldPath));
    if (!version.n) {
        kl_v_required(c, F(p, apiVersion), "");
        return;
    }
    if (!path.n) {
        kl_v_required(c, F(p, fieldPath), "");
        return;
    }
    // fieldpath.SplitMaybeSubscriptedPath: x['y']
    ptrdiff_t open = kl_str_chr(path, '[');
    bool subscript = open > 0 && kl_str_ends(path, KL_STR("']")) &&
                     kl_str_starts(kl_str_from(path, (size_t)open), KL_STR("['"));
    struct kl_str base = subscript ? (struct kl_str){path.p, (size_t)open} : path;
    const char *why = NULL;
    if (!kl_str_eqz(version, "v1"))
        why = kl_v_text(c, "unsupported pod version: %.*s", KL_PRI(version));
    else if (subscript && !kl_str_eqz(base, "metadata.annotations") &&
             !kl_str_eqz(base, "metadata.labels"))
        why = kl_v_text(c, "field label does not support subscript: %.*s", KL_PRI(path));
    else if (!subscript && !kl_v_in(path, known))
        why = kl_v_text(c, "field label not supported: %.*s", KL_PRI(path));
    if (why) {
        kl_v_invalid_str(c, F(p, fieldPath), path,
                         kl_v_text(c, "error converting fieldPath: %s", why));
        return;
    }
    if (subscript) {
        struct kl_str key = {path.p + open + 2, path.n - (size_t)open - 4};
        if (kl_str_eqz(base, "metadata.annotations")) {
            char *low = kl_arena_alloc(c->f->arena, key.n + 1);
            for (size_t i = 0; low && i < key.n; i++)
                low[i] = key.p[i] >= 'A' && key.p[i] <= 'Z' ? (char)(key.p[i] + 32) : key.p[i];
            if (low)
                key.p = low;
        }
        kl_v_format(c, p, key, KL_V_QUALIFIED);
        return;
    }
    if (kl_str_eqz(path, "spec.host"))
        path = KL_STR("spec.nodeName");
    if (!kl_v_in(path, allowed))
        kl_v_unsupported(c, F(p, fieldPath), path, allowed);
}

static void check_divisor(struct kl_v *c, struct kl_str name, const struct kl_value *divisor,
                          const struct kl_vpath *p)
{
    static const char *const cpu[] = {"1m", "1", NULL};
    static const char *const bytes[] = {"1",   "1k",  "1M",  "1G",  "1T",  "1P",  "1E",
                                        "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei", NULL};
#define BYTES_ONLY                                                                                 \
    "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported " \
    "with the "
    struct kl_str text = kl_text(divisor);
    const char *why = NULL;
    if (!divisor || !kl_v_compare(divisor, NULL))
        return;
    bool is_bytes = kl_v_in(text, bytes);
    if (kl_str_ends(name, KL_STR(".cpu")))
        why = kl_v_in(text, cpu) ? NULL
                                 : "only divisor's values 1m and 1 are supported with the cpu "
                                   "resource";
    else if (kl_str_ends(name, KL_STR("s.memory")))
        why = is_bytes ? NULL : BYTES_ONLY "memory resource";
    else if (kl_str_ends(name, KL_STR("s.ephemeral-storage")))
        why = is_bytes ? NULL : BYTES_ONLY "local ephemeral storage resource";
    else if (kl_str_starts(name, KL_STR("requests.hugepages-")) ||
             kl_str_starts(name, KL_STR("limits.hugepages-")))
        why = is_bytes ? NULL : BYTES_ONLY "hugepages resource";
    if (why)
        kl_v_invalid_str(c, F(p, divisor), name, why);
}

void kl_v_resource_ref(struct kl_v *c, const struct kl_value *v, bool volume,
                       const struct kl_vpath *p)
{
    struct kl_str name = kl_text(kl_get(v, KL_F_resource));
    if (volume && !kl_text(kl_get(v, KL_F_containerName)).n)
        kl_v_required(c, F(p, containerName), "");
    else if (!name.n)
        kl_v_required(c, F(p, resource), "");
    else if (!kl_v_in(name, resource_fields) &&
             !kl_str_starts(name, KL_STR("requests.hugepages-")) &&
             !kl_str_starts(name, KL_STR("limits.hugepages-")))
        kl_v_unsupported(c, F(p, resource), name, resource_fields);
    check_divisor(c, name, kl_get(v, KL_F_divisor), p);
}

static void check_key_ref(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str key = kl_text(kl_get(v, KL_F_key));
    kl_v_format(c, F(p, name), kl_text(kl_get(v, KL_F_name)), KL_V_SUBDOMAIN);
    if (!key.n)
        kl_v_required(c, F(p, key), "");
    else
        kl_v_format(c, F(p, key), key, KL_V_CONFIG_KEY);
}

static void check_file_path(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str path = kl_text(kl_get(v, KL_F_path));
    if (!path.n)
        kl_v_required(c, F(p, path), "");
    else
        kl_v_no_backsteps(c, F(p, path), path);
}

static const struct kl_rule file_key_ref[] = {
    R_NAME(key, KL_V_ENV_NAME), R_NAME(volumeName, KL_V_LABEL), R_CALL(check_file_path), R_END};

static void check_value_from(struct kl_v *c, const struct kl_value *env, const struct kl_vpath *p)
{
    const struct kl_value *from = kl_get(env, KL_F_valueFrom), *v;
    size_t n = 0;
    if (!from)
        return;
    if ((v = kl_get(from, KL_F_fieldRef)))
        n++, kl_v_field_ref(c, v, env_fields, F(p, fieldRef));
    if ((v = kl_get(from, KL_F_resourceFieldRef)))
        n++, kl_v_resource_ref(c, v, false, F(p, resourceFieldRef));
    if ((v = kl_get(from, KL_F_configMapKeyRef)))
        n++, check_key_ref(c, v, F(p, configMapKeyRef));
    if ((v = kl_get(from, KL_F_secretKeyRef)))
        n++, check_key_ref(c, v, F(p, secretKeyRef));
    if ((v = kl_get(from, KL_F_fileKeyRef)))
        n++, kl_v_walk(c, file_key_ref, v, F(p, fileKeyRef));
    if (!n)
        kl_v_invalid_str(c, p, KL_STR(""),
                         "must specify one of: `fieldRef`, `resourceFieldRef`, "
                         "`configMapKeyRef`, `secretKeyRef` or `fileKeyRef`");
    else if (kl_text(kl_get(env, KL_F_value)).n)
        kl_v_invalid_str(c, p, KL_STR(""), "may not be specified when `value` is not empty");
    else if (n > 1)
        kl_v_invalid_str(c, p, KL_STR(""), "may not have more than one field specified at a time");
}

static void check_env(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    size_t i = 0;
    for (KL_EACH(v, list)) {
        const struct kl_vpath *at = I(p, i++);
        struct kl_str name = kl_text(kl_get(v, KL_F_name));
        if (!name.n)
            kl_v_required(c, F(at, name), "");
        else
            kl_v_format(c, F(at, name), name, KL_V_ENV_NAME);
        check_value_from(c, v, F(at, valueFrom));
    }
}

// The name may have something appended: a dash at its end is as good as a letter.
static void check_source_name(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str name = kl_text(kl_get(v, KL_F_name));
    const char *msg[KL_V_MESSAGES];
    if (!name.n) {
        kl_v_required(c, F(p, name), "");
        return;
    }
    size_t n = kl_v_messages(KL_V_SUBDOMAIN, name, msg);
    if (n && name.n > 1 && name.p[name.n - 1] == '-')
        n = kl_v_messages(KL_V_SUBDOMAIN, kl_str(kl_v_text(c, "%.*sa", (int)(name.n - 2), name.p)),
                          msg);
    for (size_t i = 0; i < n; i++)
        kl_v_invalid_str(c, F(p, name), name, msg[i]);
}

static void check_env_from(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    size_t i = 0;
    for (KL_EACH(v, list)) {
        const struct kl_vpath *at = I(p, i++);
        struct kl_str prefix = kl_text(kl_get(v, KL_F_prefix));
        const struct kl_value *m = kl_get(v, KL_F_configMapRef), *s = kl_get(v, KL_F_secretRef);
        if (prefix.n)
            kl_v_format(c, F(at, prefix), prefix, KL_V_ENV_NAME);
        if (m)
            check_source_name(c, m, F(at, configMapRef));
        if (s)
            check_source_name(c, s, F(at, secretRef));
        if (!m && !s)
            kl_v_invalid_str(c, p, KL_STR(""),
                             "must specify one of: `configMapRef` or `secretRef`");
        else if (m && s)
            kl_v_invalid_str(c, p, KL_STR(""),
                             "may not have more than one field specified at a time");
    }
}

// ---- mounts and devices

static bool in_list(const struct kl_value *list, kl_sym f, struct kl_str s)
{
    return named_before(list, kl_len(list), f, s);
}

static void check_propagation(struct kl_v *c, const struct kl_value *mount, bool privileged,
                              const struct kl_vpath *p)
{
    static const char *const modes[] = {"Bidirectional", "HostToContainer", "None", NULL};
    static const char *const recursive[] = {"Disabled", "Enabled", "IfPossible", NULL};
    const struct kl_value *mode = kl_get(mount, KL_F_mountPropagation);
    const struct kl_value *rro = kl_get(mount, KL_F_recursiveReadOnly);
    const struct kl_vpath *at = F(p, mountPropagation);
    if (mode) {
        if (!kl_v_in(kl_text(mode), modes))
            kl_v_unsupported(c, at, kl_text(mode), modes);
        if (kl_str_eqz(kl_text(mode), "Bidirectional") && !privileged)
            kl_v_forbidden(
                c, at,
                "Bidirectional mount propagation is available only to privileged containers");
    }
    if (!rro || kl_str_eqz(kl_text(rro), "Disabled"))
        return;
    at = F(p, recursiveReadOnly);
    if (!kl_v_in(kl_text(rro), recursive)) {
        kl_v_unsupported(c, at, kl_text(rro), recursive);
        return;
    }
    if (!kl_is_true(kl_get(mount, KL_F_readOnly)))
        kl_v_forbidden(c, at, "may only be specified when readOnly is true");
    if (mode && !kl_str_eqz(kl_text(mode), "None"))
        kl_v_forbidden(c, at,
                       "may only be specified when mountPropagation is None or not specified");
}

static void check_mounts(struct kl_v *c, const struct kl_value *ctr, const struct kl_vpath *p)
{
    const struct kl_value *mounts = kl_get(ctr, KL_F_volumeMounts);
    const struct kl_value *devices = kl_get(ctr, KL_F_volumeDevices);
    bool privileged = kl_true_at(ctr, KL_F_securityContext, KL_F_privileged);
    for (size_t i = 0; i < kl_len(mounts); i++) {
        const struct kl_value *m = kl_at(mounts, i);
        const struct kl_vpath *at = I(p, i);
        struct kl_str name = kl_text(kl_get(m, KL_F_name));
        struct kl_str path = kl_text(kl_get(m, KL_F_mountPath));
        struct kl_str sub = kl_text(kl_get(m, KL_F_subPath));
        struct kl_str expr = kl_text(kl_get(m, KL_F_subPathExpr));
        if (!name.n)
            kl_v_required(c, F(at, name), "");
        if (!kl_v_volume(c->pod, name))
            kl_v_not_found(c, F(at, name), name);
        if (!path.n)
            kl_v_required(c, F(at, mountPath), "");
        if (named_before(mounts, i, KL_F_mountPath, path))
            kl_v_invalid_str(c, F(at, mountPath), path, "must be unique");
        if (in_list(devices, KL_F_name, name))
            kl_v_invalid_str(c, F(at, name), name, "must not already exist in volumeDevices");
        if (in_list(devices, KL_F_devicePath, path))
            kl_v_invalid_str(c, F(at, mountPath), path,
                             "must not already exist as a path in volumeDevices");
        if (sub.n)
            kl_v_relative_path(c, F(p, subPath), sub);
        if (expr.n && sub.n)
            kl_v_invalid_str(c, F(at, subPathExpr), expr,
                             "subPathExpr and subPath are mutually exclusive");
        if (expr.n)
            kl_v_relative_path(c, F(p, subPathExpr), expr);
        check_propagation(c, m, privileged, p);
    }
}

static bool has_backsteps(struct kl_str path)
{
    struct kl_str part;
    while (kl_str_split(&path, '/', &part))
        if (kl_str_eqz(part, ".."))
            return true;
    return false;
}

static void check_devices(struct kl_v *c, const struct kl_value *ctr, const struct kl_vpath *p)
{
    const struct kl_value *mounts = kl_get(ctr, KL_F_volumeMounts);
    const struct kl_value *devices = kl_get(ctr, KL_F_volumeDevices);
    for (size_t i = 0; i < kl_len(devices); i++) {
        const struct kl_value *d = kl_at(devices, i);
        const struct kl_vpath *at = I(p, i);
        struct kl_str name = kl_text(kl_get(d, KL_F_name));
        struct kl_str path = kl_text(kl_get(d, KL_F_devicePath));
        const struct kl_value *v = kl_v_volume(c->pod, name);
        if (!name.n)
            kl_v_required(c, F(at, name), "");
        else if (named_before(devices, i, KL_F_name, name))
            kl_v_invalid_str(c, F(at, name), name, "must be unique");
        if (v && !kl_get(v, KL_F_persistentVolumeClaim) && !kl_get(v, KL_F_ephemeral))
            kl_v_invalid_str(c, F(at, name), name,
                             "can only use volume source type of PersistentVolumeClaim or "
                             "Ephemeral for block mode");
        if (!v)
            kl_v_not_found(c, F(at, name), name);
        if (!path.n)
            kl_v_required(c, F(at, devicePath), "");
        if (named_before(devices, i, KL_F_devicePath, path) && !has_backsteps(path))
            kl_v_invalid_str(c, F(at, devicePath), path, "must be unique");
        if (has_backsteps(path))
            kl_v_invalid_str(c, F(at, devicePath), path, "can not contain backsteps ('..')");
        if (in_list(mounts, KL_F_name, name))
            kl_v_invalid_str(c, F(at, name), name, "must not already exist in volumeMounts");
        if (in_list(mounts, KL_F_mountPath, path))
            kl_v_invalid_str(c, F(at, devicePath), path,
                             "must not already exist as a path in volumeMounts");
    }
}

static void check_resize_policy(struct kl_v *c, const struct kl_value *list,
                                const struct kl_vpath *p)
{
    static const char *const names[] = {"cpu", "memory", NULL};
    static const char *const policies[] = {"NotRequired", "RestartContainer", NULL};
    for (size_t i = 0; i < kl_len(list); i++) {
        struct kl_str name = kl_text(kl_get(kl_at(list, i), KL_F_resourceName));
        struct kl_str policy = kl_text(kl_get(kl_at(list, i), KL_F_restartPolicy));
        if (named_before(list, i, KL_F_resourceName, name))
            kl_v_duplicate(c, I(p, i), name);
        if (!name.n)
            kl_v_required(c, p, "");
        else if (!kl_v_in(name, names))
            kl_v_unsupported(c, p, name, names);
        if (!policy.n)
            kl_v_required(c, p, "");
        else if (!kl_v_in(policy, policies))
            kl_v_unsupported(c, p, policy, policies);
        if (kl_str_eqz(c->pod->restart, "Never") && !kl_str_eqz(policy, "NotRequired"))
            kl_v_invalid_str(c, p, policy,
                             "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
    }
}

// validateContainerCommon
static void check_common(struct kl_v *c, const struct kl_value *ctr, const struct kl_vpath *p)
{
    static const struct kl_rule head[] = {R_NAME(name, KL_V_LABEL), R_REQUIRED(image, ""),
                                          R_NEED_ENUM(terminationMessagePolicy, messages), R_END};
    kl_v_walk(c, head, ctr, p);
    check_ports(c, kl_get(ctr, KL_F_ports), F(p, ports));
    check_env(c, kl_get(ctr, KL_F_env), F(p, env));
    check_env_from(c, kl_get(ctr, KL_F_envFrom), F(p, envFrom));
    check_mounts(c, ctr, F(p, volumeMounts));
    check_devices(c, ctr, F(p, volumeDevices));
    kl_v_pull_policy(c, kl_get(ctr, KL_F_imagePullPolicy), F(p, imagePullPolicy));
    kl_v_requirements(c, kl_get(ctr, KL_F_resources), c->pod->spec, false, F(p, resources));
    check_resize_policy(c, kl_get(ctr, KL_F_resizePolicy), F(p, resizePolicy));
    kl_v_security_context(c, kl_get(ctr, KL_F_securityContext), F(p, securityContext));
}

void kl_v_container_image(struct kl_v *c, const struct kl_value *ctr, const struct kl_vpath *p)
{
    struct kl_str image = kl_text(kl_get(ctr, KL_F_image));
    if (kl_str_trim(image).n != image.n)
        kl_v_invalid_str(c, F(p, image), image, "must not have leading or trailing whitespace");
}

// validateContainerRestartPolicy
static void check_restart(struct kl_v *c, const struct kl_value *ctr, const struct kl_vpath *p)
{
    static const char *const policies[] = {"Always", "Never", "OnFailure", NULL};
    static const char *const actions[] = {"Restart", "RestartAllContainers", NULL};
    static const char *const operators[] = {"In", "NotIn", NULL};
    const struct kl_value *policy = kl_get(ctr, KL_F_restartPolicy);
    const struct kl_value *rules = kl_get(ctr, KL_F_restartPolicyRules);
    if (!policy && !kl_len(rules))
        return;
    if (!policy)
        kl_v_required(c, F(p, restartPolicy),
                      "must specify restartPolicy when restart rules are used");
    else if (!kl_v_in(kl_text(policy), policies))
        kl_v_unsupported(c, F(p, restartPolicy), kl_text(policy), policies);
    if (kl_len(rules) > 20)
        kl_v_too_many(c, F(p, restartPolicyRules), kl_len(rules), 20);
    for (size_t i = 0; i < kl_len(rules); i++) {
        const struct kl_value *r = kl_at(rules, i), *codes = kl_get(r, KL_F_exitCodes);
        const struct kl_vpath *at = I(F(p, restartPolicyRules), i), *cp = F(at, exitCodes);
        struct kl_str action = kl_text(kl_get(r, KL_F_action));
        struct kl_str op = kl_text(kl_get(codes, KL_F_operator));
        if (!kl_v_in(action, actions))
            kl_v_unsupported(c, F(at, action), action, actions);
        if (!codes) {
            kl_v_required(c, cp, "must be specified");
            continue;
        }
        if (!kl_v_in(op, operators))
            kl_v_unsupported(c, F(cp, operator), op, operators);
        if (kl_len(kl_get(codes, KL_F_values)) > 255)
            kl_v_too_many(c, F(cp, values), kl_len(kl_get(codes, KL_F_values)), 255);
    }
}

void kl_v_containers(struct kl_v *c, const struct kl_vpath *p)
{
    const struct kl_value *list = kl_get(c->pod->spec, KL_F_containers);
    if (!kl_len(list)) {
        kl_v_required(c, p, "");
        return;
    }
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *ctr = kl_at(list, i);
        const struct kl_vpath *at = I(p, i);
        struct kl_str name = kl_text(kl_get(ctr, KL_F_name));
        check_common(c, ctr, at);
        if (named_before(list, i, KL_F_name, name))
            kl_v_duplicate(c, F(at, name), name);
        kl_v_lifecycle(c, ctr, at);
        check_restart(c, ctr, at);
    }
    check_host_ports(c, list, 0, kl_len(list), p);
}

static void refuse_probes(struct kl_v *c, const struct kl_value *ctr, const struct kl_vpath *p)
{
    static const kl_sym fields[] = {KL_F_lifecycle, KL_F_livenessProbe, KL_F_readinessProbe,
                                    KL_F_startupProbe};
    for (size_t i = 0; i < KL_COUNT(fields); i++)
        if (kl_get(ctr, fields[i]))
            kl_v_forbidden(c, FS(p, fields[i]),
                           "may not be set for init containers without restartPolicy=Always");
}

void kl_v_init_containers(struct kl_v *c, const struct kl_vpath *p)
{
    const struct kl_value *list = kl_get(c->pod->spec, KL_F_initContainers);
    const struct kl_value *regular = kl_get(c->pod->spec, KL_F_containers);
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *ctr = kl_at(list, i);
        const struct kl_vpath *at = I(p, i);
        struct kl_str name = kl_text(kl_get(ctr, KL_F_name));
        bool always = kl_v_is(ctr, KL_F_restartPolicy, "Always");
        check_common(c, ctr, at);
        check_restart(c, ctr, at);
        if (in_list(regular, KL_F_name, name) || (name.n && named_before(list, i, KL_F_name, name)))
            kl_v_duplicate(c, F(at, name), name);
        check_host_ports(c, list, i, i + 1, p);
        if (always)
            kl_v_lifecycle(c, ctr, at);
        else
            refuse_probes(c, ctr, at);
        size_t k = 0;
        for (KL_EACH(policy, always ? NULL : kl_get(ctr, KL_F_resizePolicy))) {
            if (kl_v_is(policy, KL_F_restartPolicy, "RestartContainer"))
                kl_v_invalid_str(c, F(I(F(at, resizePolicy), k), restartPolicy),
                                 KL_STR("RestartContainer"),
                                 "must not be set to 'RestartContainer' for non-sidecar "
                                 "initContainers");
            k++;
        }
    }
}

void kl_v_ephemeral_containers(struct kl_v *c, const struct kl_vpath *p)
{
    static const kl_sym refused[] = {
        KL_F_ports,          KL_F_resources,          KL_F_resizePolicy,
        KL_F_restartPolicy,  KL_F_restartPolicyRules, KL_F_livenessProbe,
        KL_F_readinessProbe, KL_F_startupProbe,       KL_F_lifecycle};
    const struct kl_value *spec = c->pod->spec, *list = kl_get(spec, KL_F_ephemeralContainers);
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *ctr = kl_at(list, i);
        const struct kl_vpath *at = I(p, i);
        struct kl_str name = kl_text(kl_get(ctr, KL_F_name));
        struct kl_str target = kl_text(kl_get(ctr, KL_F_targetContainerName));
        check_common(c, ctr, at);
        kl_v_container_image(c, ctr, at);
        if (in_list(kl_get(spec, KL_F_containers), KL_F_name, name) ||
            in_list(kl_get(spec, KL_F_initContainers), KL_F_name, name) ||
            named_before(list, i, KL_F_name, name))
            kl_v_duplicate(c, F(at, name), name);
        if (target.n && !in_list(kl_get(spec, KL_F_containers), KL_F_name, target) &&
            !in_list(kl_get(spec, KL_F_initContainers), KL_F_name, target))
            kl_v_not_found(c, F(at, targetContainerName), target);
        for (size_t k = 0; k < KL_COUNT(refused); k++) {
            const struct kl_value *v = kl_get(ctr, refused[k]);
            if (v && (v->kind < KL_ARRAY || v->n))
                kl_v_forbidden(c, FS(at, refused[k]), "cannot be set for an Ephemeral Container");
        }
        size_t k = 0;
        for (KL_EACH(m, kl_get(ctr, KL_F_volumeMounts))) {
            if (kl_text(kl_get(m, KL_F_subPath)).n)
                kl_v_forbidden(c, F(I(F(at, volumeMounts), k), subPath),
                               "cannot be set for an Ephemeral Container");
            if (kl_text(kl_get(m, KL_F_subPathExpr)).n)
                kl_v_forbidden(c, F(I(F(at, volumeMounts), k), subPathExpr),
                               "cannot be set for an Ephemeral Container");
            k++;
        }
    }
}

void kl_v_visit_containers(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p,
                           kl_container_fn *fn, void *arg)
{
    static const kl_sym lists[] = {KL_F_initContainers, KL_F_containers, KL_F_ephemeralContainers};
    for (size_t l = 0; l < KL_COUNT(lists); l++) {
        size_t i = 0;
        for (KL_EACH(x, kl_get(spec, lists[l])))
            fn(c, x, I(FS(p, lists[l]), i++), arg);
    }
}
