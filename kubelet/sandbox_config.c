// SPDX-License-Identifier: Apache-2.0
#include "kubelet/cgroup.h"
#include "kubelet/pod_config.h"

// What is ours is not the user's to say: a Pod's own label of the name is left out, as a runtime
// takes the last one, and its sandbox would be found as another pod's.
static int put_kv(struct kl_arena *a, struct kl_proto_kv **list, size_t *n,
                  const struct kl_value *map, const struct kl_proto_kv *more, size_t nmore)
{
    struct kl_proto_kv *kv = kl_arena_zalloc(a, (kl_len(map) + nmore + 1) * sizeof(*kv));
    if (!kv)
        return KL_ENOMEM;
    *n = 0;
    for (size_t i = 0; i < nmore; i++)
        kv[(*n)++] = more[i];
    for (KL_MAP_EACH_KEY(key, map)) {
        bool ours = false;
        for (size_t i = 0; i < nmore; i++)
            ours = ours || kl_str_eq(more[i].key, kl_text(key));
        if (!ours)
            kv[(*n)++] = (struct kl_proto_kv){kl_text(key), kl_text(key + 1)};
    }
    *list = kv;
    return 0;
}

static int64_t id_of(const struct kl_value *sc, kl_sym field)
{
    return kl_int_at(sc, -1, field);
}

struct kl_cri_int64_value *kl_cri_id(struct kl_arena *a, int64_t v)
{
    struct kl_cri_int64_value *b = v >= 0 ? kl_arena_zalloc(a, sizeof(*b)) : NULL;
    if (b)
        b->value = v;
    return b;
}

struct kl_cri_namespace_option *kl_pod_namespaces(struct kl_arena *a, const struct kl_value *spec)
{
    struct kl_cri_namespace_option *ns = KL_ARENA_NEW(a, struct kl_cri_namespace_option);
    if (!ns)
        return NULL;
    ns->network =
        kl_true_at(spec, KL_F_hostNetwork) ? KL_CRI_NAMESPACE_MODE_NODE : KL_CRI_NAMESPACE_MODE_POD;
    ns->ipc =
        kl_true_at(spec, KL_F_hostIPC) ? KL_CRI_NAMESPACE_MODE_NODE : KL_CRI_NAMESPACE_MODE_POD;
    ns->pid = kl_true_at(spec, KL_F_hostPID)                 ? KL_CRI_NAMESPACE_MODE_NODE
              : kl_true_at(spec, KL_F_shareProcessNamespace) ? KL_CRI_NAMESPACE_MODE_POD
                                                             : KL_CRI_NAMESPACE_MODE_CONTAINER;
    return ns;
}

static void put_ports(struct kl_arena *a, const struct kl_value *pod,
                      struct kl_cri_pod_sandbox_config *c)
{
    size_t n = 0;
    bool host_net = kl_true_at(pod, KL_F_spec, KL_F_hostNetwork);
    for (int kind = KL_CTR_INIT; kind <= KL_CTR_MAIN; kind++)
        for (KL_EACH(ctr, kl_pod_containers(pod, kind)))
            n += kl_len(kl_get(ctr, KL_F_ports));
    c->port_mappings = n && !host_net ? kl_arena_zalloc(a, n * sizeof(*c->port_mappings)) : NULL;
    for (int kind = KL_CTR_INIT; c->port_mappings && kind <= KL_CTR_MAIN; kind++)
        for (KL_EACH(ctr, kl_pod_containers(pod, kind)))
            for (KL_EACH(p, kl_get(ctr, KL_F_ports))) {
                struct kl_str proto = kl_text_at(p, KL_F_protocol);
                struct kl_cri_port_mapping *m = &c->port_mappings[c->n_port_mappings];
                if (!kl_int_at(p, 0, KL_F_hostPort))
                    continue;
                m->protocol = kl_str_eqz(proto, "UDP")    ? KL_CRI_PROTOCOL_UDP
                              : kl_str_eqz(proto, "SCTP") ? KL_CRI_PROTOCOL_SCTP
                                                          : KL_CRI_PROTOCOL_TCP;
                m->container_port = (int32_t)kl_int_at(p, 0, KL_F_containerPort);
                m->host_port = (int32_t)kl_int_at(p, 0, KL_F_hostPort);
                m->host_ip = kl_text_at(p, KL_F_hostIP);
                c->n_port_mappings++;
            }
}

static bool any_privileged(const struct kl_value *pod)
{
    for (int kind = KL_CTR_INIT; kind <= KL_CTR_MAIN; kind++)
        for (KL_EACH(c, kl_pod_containers(pod, kind)))
            if (kl_true_at(c, KL_F_securityContext, KL_F_privileged))
                return true;
    return false;
}

static void put_linux(struct kl_arena *a, struct kl_pod *p, struct kl_cri_pod_sandbox_config *c)
{
    const struct kl_value *pod = kl_pod_root(p), *spec = kl_get(pod, KL_F_spec);
    const struct kl_value *sc = kl_get(spec, KL_F_securityContext);
    struct kl_cri_linux_pod_sandbox_config *l =
        KL_ARENA_NEW(a, struct kl_cri_linux_pod_sandbox_config);
    struct kl_cri_linux_sandbox_security_context *s =
        KL_ARENA_NEW(a, struct kl_cri_linux_sandbox_security_context);
    struct kl_cri_namespace_option *ns = kl_pod_namespaces(a, spec);
    struct kl_cri_security_profile *seccomp = KL_ARENA_NEW(a, struct kl_cri_security_profile);
    char *path = kl_arena_zalloc(a, 512);
    if (!l || !s || !ns || !path || !seccomp)
        return;
    kl_cgroup_pod_path(path, 512, p->k->conf.cgroup_root, kl_pod_qos(pod), kl_str(p->uid));
    l->cgroup_parent = kl_str(path);
    s->namespace_options = ns;
    s->run_as_user = kl_cri_id(a, id_of(sc, KL_F_runAsUser));
    if (s->run_as_user)
        s->run_as_group = kl_cri_id(a, id_of(sc, KL_F_runAsGroup));
    s->privileged = any_privileged(pod);
    seccomp->profile_type = KL_CRI_SECURITY_PROFILE_PROFILE_TYPE_RUNTIMEDEFAULT;
    s->seccomp = seccomp;
    l->security_context = s;
    const struct kl_value *sysctls = kl_get(sc, KL_F_sysctls);
    l->sysctls = kl_arena_zalloc(a, (kl_len(sysctls) + 1) * sizeof(*l->sysctls));
    for (KL_EACH(v, sysctls))
        if (l->sysctls)
            l->sysctls[l->n_sysctls++] =
                (struct kl_proto_kv){kl_text_at(v, KL_F_name), kl_text_at(v, KL_F_value)};
    c->linux_ = l;
}

static struct kl_str read_file(struct kl_arena *a, const char *path)
{
    struct kl_buf b;
    kl_buf_init(&b, 1024 * 1024);
    kl_fs_read(path, &b, NULL); // absent is empty
    struct kl_str s = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

int kl_sandbox_config(struct kl_arena *a, struct kl_pod *p, uint32_t attempt,
                      struct kl_cri_pod_sandbox_config **ret, bool *ret_missing_dns,
                      struct kl_error *err)
{
    const struct kl_value *pod = kl_pod_root(p);
    struct kl_cri_pod_sandbox_config *c = KL_ARENA_NEW(a, struct kl_cri_pod_sandbox_config);
    struct kl_cri_pod_sandbox_metadata *m = KL_ARENA_NEW(a, struct kl_cri_pod_sandbox_metadata);
    struct kl_cri_dns_config *dns = KL_ARENA_NEW(a, struct kl_cri_dns_config);
    if (!c || !m || !dns)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    m->name = kl_str(p->name);
    m->uid = kl_str(p->uid);
    m->namespace = kl_str(p->ns);
    m->attempt = attempt;
    c->metadata = m;
    if (!kl_true_at(pod, KL_F_spec, KL_F_hostNetwork))
        c->hostname = kl_pod_hostname(pod);
    struct kl_path logs;
    kl_pod_log_dir(p, &logs);
    c->log_directory = kl_arena_dup(a, kl_str(logs.s));
    kl_dns_for_pod(a, pod, kl_str(p->k->conf.cluster_dns), kl_str(p->k->conf.cluster_domain),
                   read_file(a, "/etc/resolv.conf"), dns, ret_missing_dns);
    c->dns_config = dns;
    put_ports(a, pod, c);
    const struct kl_proto_kv labels[] = {
        {KL_STR("io.kubernetes.pod.name"), kl_str(p->name)},
        {KL_STR("io.kubernetes.pod.namespace"), kl_str(p->ns)},
        {KL_STR("io.kubernetes.pod.uid"), kl_str(p->uid)},
    };
    const struct kl_proto_kv annotations[] = {
        {KL_STR("kubernetes.io/config.source"), KL_STR("api")}};
    if (put_kv(a, &c->labels, &c->n_labels, kl_meta_labels(pod), labels, KL_COUNT(labels)) ||
        put_kv(a, &c->annotations, &c->n_annotations, kl_meta_annotations(pod), annotations,
               KL_COUNT(annotations)))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    put_linux(a, p, c);
    *ret = c;
    return 0;
}
