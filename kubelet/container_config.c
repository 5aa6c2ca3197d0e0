// SPDX-License-Identifier: Apache-2.0
#include "kubelet/cgroup.h"
#include "kubelet/env.h"
#include "kubelet/pod_config.h"
#include "kubelet/volumes.h"
#include "object/json.h"
#include <stdio.h>

// The nearer of a container's and its pod's security context.
static const struct kl_value *context(const struct kl_value *pod, const struct kl_value *c,
                                      kl_sym field)
{
    const struct kl_value *v = kl_path(c, KL_F_securityContext, field);
    return v ? v : kl_path(pod, KL_F_spec, KL_F_securityContext, field);
}

static void put_strings(struct kl_arena *a, const struct kl_value *list, struct kl_str **ret,
                        size_t *ret_n)
{
    *ret = kl_arena_zalloc(a, (kl_len(list) + 1) * sizeof(struct kl_str));
    *ret_n = 0;
    for (KL_EACH(v, list))
        if (*ret)
            (*ret)[(*ret_n)++] = kl_text(v);
}

static void expand_all(struct kl_arena *a, const struct kl_value *list,
                       const struct kl_cri_key_value *env, size_t n, struct kl_str **ret,
                       size_t *ret_n)
{
    put_strings(a, list, ret, ret_n);
    for (size_t i = 0; i < *ret_n; i++)
        (*ret)[i] = kl_env_expand(a, (*ret)[i], env, n);
}

// ---- environment

static const struct kl_value *find_object(void *arg, bool secret, struct kl_str name)
{
    struct kl_pod *p = arg;
    struct kl_object *o = p->volumes ? kl_volumes_object(p->volumes, secret, name) : NULL;
    return o ? &o->root : NULL;
}

static void service_env(struct kl_arena *a, struct kl_pod *p, struct kl_cri_key_value **list,
                        size_t *n)
{
    const struct kl_value *links = kl_path(kl_pod_root(p), KL_F_spec, KL_F_enableServiceLinks);
    bool all = !links || kl_is_true(links);
    size_t cap = 0, it = 0;
    // The master's Service is told to every pod, the namespace's others by enableServiceLinks.
    for (struct kl_entry *e; (e = kl_informer_next(p->k->service_informer, &it));) {
        struct kl_str ns = kl_meta_namespace(&e->object->root);
        bool master =
            kl_str_eqz(ns, "default") && kl_str_eqz(kl_meta_name(&e->object->root), "kubernetes");
        if (master || (all && kl_str_eqz(ns, p->ns)))
            kl_env_of_service(a, &e->object->root, list, n, &cap);
    }
}

static int put_env(struct kl_arena *a, struct kl_pod *p, const struct kl_container_inputs *in,
                   struct kl_cri_container_config *c, struct kl_error *err)
{
    const struct kl_value *pod = kl_pod_root(p);
    bool host = kl_true_at(pod, KL_F_spec, KL_F_hostNetwork);
    struct kl_cri_key_value *services = NULL;
    size_t nservices = 0;
    service_env(a, p, &services, &nservices);
    const char *ip = host ? p->k->conf.node_ip : p->rt.sandboxes ? p->rt.sandboxes->ips[0] : "";
    struct kl_env_source src = {.pod = pod,
                                .container = in->container,
                                .pod_ip = kl_str(ip),
                                .host_ip = kl_str(p->k->conf.node_ip),
                                .node_name = kl_str(p->k->conf.node_name),
                                .object = find_object,
                                .arg = p,
                                .services = services,
                                .nservices = nservices};
    kl_node_allocatable(p->k, &src.allocatable_milli_cpu, &src.allocatable_bytes,
                        &src.allocatable_ephemeral_bytes);
    return kl_env_build(a, &src, &c->envs, &c->n_envs, err);
}

// ---- mounts

static void put_mount(struct kl_cri_container_config *c, struct kl_str to, struct kl_str from,
                      bool read_only, struct kl_str propagation)
{
    struct kl_cri_mount *m = &c->mounts[c->n_mounts++];
    m->container_path = to;
    m->host_path = from;
    m->readonly = read_only;
    m->propagation = kl_str_eqz(propagation, "Bidirectional")
                         ? KL_CRI_MOUNT_PROPAGATION_PROPAGATION_BIDIRECTIONAL
                     : kl_str_eqz(propagation, "HostToContainer")
                         ? KL_CRI_MOUNT_PROPAGATION_PROPAGATION_HOST_TO_CONTAINER
                         : KL_CRI_MOUNT_PROPAGATION_PROPAGATION_PRIVATE;
}

static int put_mounts(struct kl_arena *a, struct kl_pod *p, const struct kl_container_inputs *in,
                      struct kl_cri_container_config *c, struct kl_error *err)
{
    const struct kl_value *mounts = kl_get(in->container, KL_F_volumeMounts);
    c->mounts = kl_arena_zalloc(a, (kl_len(mounts) + 3) * sizeof(*c->mounts));
    if (!c->mounts)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    bool own_hosts = false;
    for (KL_EACH(m, mounts)) {
        struct kl_str name = kl_text_at(m, KL_F_name), to = kl_text_at(m, KL_F_mountPath);
        struct kl_path path;
        size_t i = (size_t)(m - mounts->items);
        if (in->subpaths && in->subpaths[i].s[0])
            path = in->subpaths[i];
        else if (!p->volumes || !kl_volumes_path(p->volumes, name, &path))
            return kl_error_set(err, KL_EINVALID,
                                "cannot find volume \"%.*s\" to mount into "
                                "container \"%.*s\"",
                                KL_PRI(name), KL_PRI(kl_text_at(in->container, KL_F_name)));
        if (!kl_str_starts(to, KL_STR("/")))
            to = kl_arena_printf(a, "/%.*s", KL_PRI(to));
        own_hosts = own_hosts || kl_str_eqz(to, "/etc/hosts");
        put_mount(c, to, kl_arena_dup(a, kl_str(path.s)),
                  kl_true_at(m, KL_F_readOnly) || kl_volume_is_read_only(kl_pod_root(p), name),
                  kl_text_at(m, KL_F_mountPropagation));
    }
    if (in->hosts_file.n && !own_hosts)
        put_mount(c, KL_STR("/etc/hosts"), in->hosts_file, false, KL_STR(""));
    struct kl_str message = kl_text_at(in->container, KL_F_terminationMessagePath);
    if (in->termination_log.n)
        put_mount(c, message.n ? message : KL_STR("/dev/termination-log"), in->termination_log,
                  false, KL_STR(""));
    return 0;
}

// ---- security

static void put_profile(struct kl_arena *a, const struct kl_value *profile, bool fallback_default,
                        struct kl_cri_security_profile **ret)
{
    struct kl_cri_security_profile *s = KL_ARENA_NEW(a, struct kl_cri_security_profile);
    struct kl_str type = kl_text_at(profile, KL_F_type);
    if (!s)
        return;
    s->profile_type = kl_str_eqz(type, "RuntimeDefault") || (!type.n && fallback_default)
                          ? KL_CRI_SECURITY_PROFILE_PROFILE_TYPE_RUNTIMEDEFAULT
                      : kl_str_eqz(type, "Localhost")
                          ? KL_CRI_SECURITY_PROFILE_PROFILE_TYPE_LOCALHOST
                          : KL_CRI_SECURITY_PROFILE_PROFILE_TYPE_UNCONFINED;
    s->localhost_ref = kl_text_at(profile, KL_F_localhostProfile);
    *ret = s;
}

static int check_non_root(const struct kl_value *pod, const struct kl_container_inputs *in,
                          int64_t uid, struct kl_error *err)
{
    if (!kl_is_true(context(pod, in->container, KL_F_runAsNonRoot)))
        return 0;
    struct kl_str name = kl_text_at(in->container, KL_F_name);
    const char *what = NULL;
    if (uid == 0)
        what = "container's runAsUser breaks non-root policy";
    else if (uid < 0 && in->image_user.n)
        return kl_error_set(err, KL_EINVALID,
                            "container has runAsNonRoot and image has non-numeric user (%.*s), "
                            "cannot verify user is non-root (pod: \"%.*s_%.*s(%.*s)\", container: "
                            "%.*s)",
                            KL_PRI(in->image_user), KL_PRI(kl_meta_name(pod)),
                            KL_PRI(kl_meta_namespace(pod)), KL_PRI(kl_meta_uid(pod)), KL_PRI(name));
    else if (uid < 0 && in->image_uid <= 0)
        what = "container has runAsNonRoot and image will run as root";
    return what ? kl_error_set(err, KL_EINVALID, "%s (pod: \"%.*s_%.*s(%.*s)\", container: %.*s)",
                               what, KL_PRI(kl_meta_name(pod)), KL_PRI(kl_meta_namespace(pod)),
                               KL_PRI(kl_meta_uid(pod)), KL_PRI(name))
                : 0;
}

static int put_security(struct kl_arena *a, const struct kl_value *pod,
                        const struct kl_container_inputs *in,
                        struct kl_cri_linux_container_config *l, struct kl_error *err)
{
    static struct kl_str masked[] = {
        KL_STR_INIT("/proc/asound"),      KL_STR_INIT("/proc/acpi"),
        KL_STR_INIT("/proc/interrupts"),  KL_STR_INIT("/proc/kcore"),
        KL_STR_INIT("/proc/keys"),        KL_STR_INIT("/proc/latency_stats"),
        KL_STR_INIT("/proc/timer_list"),  KL_STR_INIT("/proc/timer_stats"),
        KL_STR_INIT("/proc/sched_debug"), KL_STR_INIT("/proc/scsi"),
        KL_STR_INIT("/sys/firmware"),     KL_STR_INIT("/sys/devices/virtual/powercap")};
    static struct kl_str readonly[] = {KL_STR_INIT("/proc/bus"), KL_STR_INIT("/proc/fs"),
                                       KL_STR_INIT("/proc/irq"), KL_STR_INIT("/proc/sys"),
                                       KL_STR_INIT("/proc/sysrq-trigger")};
    const struct kl_value *c = in->container, *spec = kl_get(pod, KL_F_spec);
    struct kl_cri_linux_container_security_context *s =
        KL_ARENA_NEW(a, struct kl_cri_linux_container_security_context);
    struct kl_cri_namespace_option *ns = kl_pod_namespaces(a, spec);
    if (!s || !ns)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    int64_t uid = kl_int_or(context(pod, c, KL_F_runAsUser), -1);
    int r = check_non_root(pod, in, uid, err);
    if (r)
        return r;
    s->run_as_user = kl_cri_id(a, uid);
    if (uid < 0 && in->image_uid >= 0)
        s->run_as_user = kl_cri_id(a, in->image_uid);
    else if (uid < 0)
        s->run_as_username = in->image_user;
    int64_t gid = kl_int_or(context(pod, c, KL_F_runAsGroup), -1);
    if (gid >= 0 && (s->run_as_user || s->run_as_username.n))
        s->run_as_group = kl_cri_id(a, gid);
    s->namespace_options = ns;
    s->privileged = kl_true_at(c, KL_F_securityContext, KL_F_privileged);
    s->readonly_rootfs = kl_true_at(c, KL_F_securityContext, KL_F_readOnlyRootFilesystem);
    const struct kl_value *escalate =
        kl_path(c, KL_F_securityContext, KL_F_allowPrivilegeEscalation);
    s->no_new_privs = escalate && !kl_is_true(escalate);
    const struct kl_value *caps = kl_path(c, KL_F_securityContext, KL_F_capabilities);
    if (caps) {
        s->capabilities = KL_ARENA_NEW(a, struct kl_cri_capability);
        put_strings(a, kl_get(caps, KL_F_add), &s->capabilities->add_capabilities,
                    &s->capabilities->n_add_capabilities);
        put_strings(a, kl_get(caps, KL_F_drop), &s->capabilities->drop_capabilities,
                    &s->capabilities->n_drop_capabilities);
    }
    const struct kl_value *psc = kl_get(spec, KL_F_securityContext);
    const struct kl_value *groups = kl_get(psc, KL_F_supplementalGroups);
    s->supplemental_groups = kl_arena_zalloc(a, (kl_len(groups) + 1) * sizeof(int64_t));
    for (KL_EACH(g, groups))
        s->supplemental_groups[s->n_supplemental_groups++] = kl_int_or(g, 0);
    if (kl_get(psc, KL_F_fsGroup))
        s->supplemental_groups[s->n_supplemental_groups++] = kl_int_at(psc, 0, KL_F_fsGroup);
    put_profile(a, context(pod, c, KL_F_seccompProfile), false, &s->seccomp);
    if (context(pod, c, KL_F_appArmorProfile))
        put_profile(a, context(pod, c, KL_F_appArmorProfile), true, &s->apparmor);
    bool unmasked = kl_str_eqz(kl_text_at(c, KL_F_securityContext, KL_F_procMount), "Unmasked");
    if (!unmasked) {
        s->masked_paths = masked;
        s->n_masked_paths = KL_COUNT(masked);
        s->readonly_paths = readonly;
        s->n_readonly_paths = KL_COUNT(readonly);
    }
    l->security_context = s;
    return 0;
}

struct kl_cri_linux_container_resources *
kl_container_resources(struct kl_arena *a, struct kl_pod *p, const struct kl_value *container)
{
    struct kl_cri_linux_container_resources *r =
        KL_ARENA_NEW(a, struct kl_cri_linux_container_resources);
    struct kl_cgroup_values v;
    int64_t milli, bytes, ephemeral;
    if (!r)
        return NULL;
    container = kl_pod_granted(p, container);
    kl_node_allocatable(p->k, &milli, &bytes, &ephemeral);
    kl_cgroup_of_container(container, &v);
    r->cpu_shares = v.cpu_shares;
    r->cpu_period = v.cpu_quota_us > 0 ? v.cpu_period_us : 0;
    r->cpu_quota = v.cpu_quota_us > 0 ? v.cpu_quota_us : 0;
    r->memory_limit_in_bytes = v.memory_limit_bytes > 0 ? v.memory_limit_bytes : 0;
    r->oom_score_adj = kl_oom_score_adj(kl_pod_root(p), container, bytes);
    return r;
}

// ---- names

static void put_labels(struct kl_arena *a, struct kl_pod *p, const struct kl_container_inputs *in,
                       struct kl_cri_container_config *c)
{
    const struct kl_value *ctr = in->container;
    const struct kl_proto_kv labels[] = {
        {KL_STR("io.kubernetes.container.name"), kl_text_at(ctr, KL_F_name)},
        {KL_STR("io.kubernetes.pod.name"), kl_str(p->name)},
        {KL_STR("io.kubernetes.pod.namespace"), kl_str(p->ns)},
        {KL_STR("io.kubernetes.pod.uid"), kl_str(p->uid)},
    };
    struct kl_str path = kl_text_at(ctr, KL_F_terminationMessagePath);
    struct kl_str policy = kl_text_at(ctr, KL_F_terminationMessagePolicy);
    const struct kl_proto_kv annotations[] = {
        {KL_STR("io.kubernetes.container.hash"), kl_arena_printf(a, "%x", kl_ctr_hash(ctr))},
        {KL_STR("io.kubernetes.container.restartCount"), kl_arena_printf(a, "%u", in->attempt)},
        {KL_STR("io.kubernetes.container.terminationMessagePath"),
         path.n ? path : KL_STR("/dev/termination-log")},
        {KL_STR("io.kubernetes.container.terminationMessagePolicy"),
         policy.n ? policy : KL_STR("File")},
        {KL_STR("io.kubernetes.pod.terminationGracePeriod"),
         kl_arena_printf(a, "%lld",
                         (long long)kl_int_at(kl_pod_root(p), 30, KL_F_spec,
                                              KL_F_terminationGracePeriodSeconds))},
    };
    c->labels = kl_arena_alloc(a, sizeof(labels));
    c->annotations = kl_arena_alloc(a, sizeof(annotations));
    if (!c->labels || !c->annotations)
        return;
    memcpy(c->labels, labels, sizeof(labels));
    memcpy(c->annotations, annotations, sizeof(annotations));
    c->n_labels = KL_COUNT(labels);
    c->n_annotations = KL_COUNT(annotations);
}

int kl_container_config(struct kl_arena *a, struct kl_pod *p, const struct kl_container_inputs *in,
                        struct kl_cri_container_config **ret, struct kl_error *err)
{
    const struct kl_value *ctr = in->container;
    struct kl_cri_container_config *c = KL_ARENA_NEW(a, struct kl_cri_container_config);
    struct kl_cri_container_metadata *m = KL_ARENA_NEW(a, struct kl_cri_container_metadata);
    struct kl_cri_image_spec *image = KL_ARENA_NEW(a, struct kl_cri_image_spec);
    struct kl_cri_linux_container_config *l = KL_ARENA_NEW(a, struct kl_cri_linux_container_config);
    if (!c || !m || !image || !l)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    m->name = kl_text_at(ctr, KL_F_name);
    m->attempt = in->attempt;
    image->image = in->image_ref;
    image->user_specified_image = kl_text_at(ctr, KL_F_image);
    c->metadata = m;
    c->image = image;
    c->linux_ = l;
    int r = put_env(a, p, in, c, err);
    if (r || (r = put_mounts(a, p, in, c, err)) ||
        (r = put_security(a, kl_pod_root(p), in, l, err)))
        return r;
    expand_all(a, kl_get(ctr, KL_F_command), c->envs, c->n_envs, &c->command, &c->n_command);
    expand_all(a, kl_get(ctr, KL_F_args), c->envs, c->n_envs, &c->args, &c->n_args);
    c->working_dir = kl_text_at(ctr, KL_F_workingDir);
    c->log_path = kl_arena_printf(a, "%.*s/%u.log", KL_PRI(m->name), in->attempt);
    c->stdin = kl_true_at(ctr, KL_F_stdin);
    c->stdin_once = kl_true_at(ctr, KL_F_stdinOnce);
    c->tty = kl_true_at(ctr, KL_F_tty);
    l->resources = kl_container_resources(a, p, ctr);
    put_labels(a, p, in, c);
    *ret = c;
    return 0;
}
