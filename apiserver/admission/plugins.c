// SPDX-License-Identifier: Apache-2.0
// Upstream's admission plug-ins that a cluster cannot do without, and the table of all, in
// upstream's order.
#include "apiserver/admission/chain_int.h"
#include "base/rand.h"
#include "watchcache/filter.h"

static bool is_pod(const struct kl_admit *ad)
{
    return kl_admit_is(ad, KL_RES_core_v1_pods);
}

// ---- NamespaceLifecycle

static int live_namespace(struct kl_admit *ad)
{
    struct kl_req *r = ad->r;
    // Access reviews about a namespace may be asked of any.
    if (!r->info.res->namespaced || kl_str_eqz(r->info.group, "authorization.k8s.io"))
        return 0;
    struct kl_str ns = r->info.ns;
    struct kl_object *o = kl_admit_find(r, KL_RES_core_v1_namespaces, KL_STR(""), ns);
    if (!o) {
        kl_fail_not_found_of(r, KL_STR(""), KL_STR("namespaces"), ns);
        return KL_ENOTFOUND;
    }
    if (!kl_str_eqz(kl_text_at(&o->root, KL_F_status, KL_F_phase), "Terminating"))
        return 0;
    struct kl_str name = kl_admit_name(ad);
    kl_fail_set(r, 403, "Forbidden",
                "%s%s%s \"%.*s\" is forbidden: unable to create new content in namespace %.*s "
                "because it is being terminated",
                r->info.res->plural, *r->info.res->group ? "." : "", r->info.res->group,
                KL_PRI(name), KL_PRI(ns));
    r->fail.name = name;
    r->fail.kind = kl_str(r->info.res->plural);
    r->fail.group = kl_str(r->info.res->group);
    if ((r->fail.causes = KL_ARENA_NEW(r->arena, struct kl_cause))) {
        r->fail.ncauses = 1;
        r->fail.causes[0] = (struct kl_cause){
            KL_STR("NamespaceTerminating"),
            kl_arena_printf(r->arena, "namespace %.*s is being terminated", KL_PRI(ns)),
            KL_STR("metadata.namespace")};
    }
    return KL_EFORBIDDEN;
}

static int immortal_namespace(struct kl_admit *ad)
{
    struct kl_req *r = ad->r;
    const struct kl_value *old = ad->old;
    static const char *const immortal[] = {"default", "kube-system", "kube-public"};
    if (!kl_admit_is(ad, KL_RES_core_v1_namespaces))
        return 0;
    for (size_t i = 0; i < KL_COUNT(immortal); i++)
        if (kl_str_eqz(kl_meta_name(old), immortal[i])) {
            kl_fail_set(r, 403, "Forbidden",
                        "namespaces \"%s\" is forbidden: this namespace may not be deleted",
                        immortal[i]);
            r->fail.name = kl_str(immortal[i]);
            r->fail.kind = KL_STR("namespaces");
            return KL_EFORBIDDEN;
        }
    return 0;
}

// ---- ServiceAccount

#define TOKEN_PATH KL_STR("/var/run/secrets/kubernetes.io/serviceaccount")

static struct kl_value item(struct kl_arena *a, const char *key, const char *path)
{
    struct kl_value v = kl_new_struct();
    kl_set(a, &v, KL_F_key, kl_stringz(key));
    kl_set(a, &v, KL_F_path, kl_stringz(path));
    return v;
}

static struct kl_value one_of(struct kl_arena *a, kl_sym field, struct kl_value v)
{
    struct kl_value s = kl_new_struct();
    kl_set(a, &s, field, v);
    return s;
}

// kube-api-access-xxxxx: token, CA and namespace.
static struct kl_value token_volume(struct kl_arena *a, struct kl_str name)
{
    struct kl_value token = kl_new_struct(), cm = kl_new_struct(), items = kl_new_array();
    struct kl_value down = kl_new_struct(), file = kl_new_struct(), ref = kl_new_struct();
    struct kl_value sources = kl_new_array(), proj = kl_new_struct(), v = kl_new_struct();
    kl_set(a, &token, KL_F_expirationSeconds, kl_int(3607));
    kl_set(a, &token, KL_F_path, kl_stringz("token"));
    kl_append(a, &sources, one_of(a, KL_F_serviceAccountToken, token));
    kl_append(a, &items, item(a, "ca.crt", "ca.crt"));
    kl_set(a, &cm, KL_F_name, kl_stringz("kube-root-ca.crt"));
    kl_set(a, &cm, KL_F_items, items);
    kl_append(a, &sources, one_of(a, KL_F_configMap, cm));
    kl_set(a, &ref, KL_F_apiVersion, kl_stringz("v1"));
    kl_set(a, &ref, KL_F_fieldPath, kl_stringz("metadata.namespace"));
    kl_set(a, &file, KL_F_path, kl_stringz("namespace"));
    kl_set(a, &file, KL_F_fieldRef, ref);
    items = kl_new_array();
    kl_append(a, &items, file);
    kl_set(a, &down, KL_F_items, items);
    kl_append(a, &sources, one_of(a, KL_F_downwardAPI, down));
    kl_set(a, &proj, KL_F_sources, sources);
    kl_set(a, &proj, KL_F_defaultMode, kl_int(0644));
    kl_set(a, &v, KL_F_name, kl_string(name));
    kl_set(a, &v, KL_F_projected, proj);
    return v;
}

// The volume that is mounted where the token goes, by the user or by an earlier admission.
static bool mounts_token(const struct kl_value *c)
{
    for (KL_EACH(m, kl_get(c, KL_F_volumeMounts)))
        if (kl_str_eq(kl_text(kl_get(m, KL_F_mountPath)), TOKEN_PATH))
            return true;
    return false;
}

static int mount_token(struct kl_req *r, struct kl_value *spec)
{
    static const kl_sym lists[] = {KL_F_initContainers, KL_F_containers};
    struct kl_arena *a = r->arena;
    struct kl_str volume = {NULL, 0};
    for (KL_EACH(v, kl_get(spec, KL_F_volumes)))
        if (kl_str_starts(kl_text(kl_get(v, KL_F_name)), KL_STR("kube-api-access-")))
            volume = kl_text(kl_get(v, KL_F_name));
    bool added = false;
    for (size_t l = 0; l < KL_COUNT(lists); l++) {
        size_t n = kl_len(kl_get(spec, lists[l]));
        for (size_t i = 0; i < n; i++) {
            if (mounts_token(kl_at(kl_get(spec, lists[l]), i)))
                continue;
            if (!volume.p) {
                char suffix[6];
                kl_rand_name(suffix, 5);
                volume = kl_arena_printf(a, "kube-api-access-%s", suffix);
                added = true;
            }
            struct kl_value m = kl_new_struct();
            kl_set(a, &m, KL_F_name, kl_string(volume));
            kl_set(a, &m, KL_F_readOnly, kl_bool(true));
            kl_set(a, &m, KL_F_mountPath, kl_string(TOKEN_PATH));
            struct kl_value *c = kl_edit_at(a, kl_edit(a, spec, lists[l], KL_ARRAY), i);
            struct kl_value *ms = c ? kl_edit(a, c, KL_F_volumeMounts, KL_ARRAY) : NULL;
            if (!ms || kl_append(a, ms, m))
                return kl_fail_oom(r), KL_ENOMEM;
        }
    }
    if (!added)
        return 0;
    struct kl_value *vs = kl_edit(a, spec, KL_F_volumes, KL_ARRAY);
    return vs ? kl_append(a, vs, token_volume(a, volume)) : KL_ENOMEM;
}

static int service_account(struct kl_admit *ad)
{
    struct kl_req *r = ad->r;
    struct kl_value *draft = ad->draft;
    struct kl_arena *a = r->arena;
    if (!is_pod(ad) ||
        kl_map_value(kl_meta_annotations(draft), KL_STR("kubernetes.io/config.mirror")))
        return 0;
    struct kl_value *spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT);
    if (!spec)
        return kl_fail_oom(r), KL_ENOMEM;
    struct kl_str name = kl_text(kl_get(spec, KL_F_serviceAccountName));
    if (!name.n) {
        name = KL_STR("default");
        kl_set(a, spec, KL_F_serviceAccountName, kl_string(name));
    }
    kl_set(a, spec, KL_F_serviceAccount, kl_string(name));
    struct kl_object *sa = kl_admit_find(r, KL_RES_core_v1_serviceaccounts, r->info.ns, name);
    if (!sa) {
        struct kl_str pod = kl_admit_name(ad);
        kl_fail_set(r, 403, "Forbidden",
                    "pods \"%.*s\" is forbidden: error looking up service account %.*s/%.*s: "
                    "serviceaccount \"%.*s\" not found",
                    KL_PRI(pod), KL_PRI(r->info.ns), KL_PRI(name), KL_PRI(name));
        r->fail.name = pod;
        r->fail.kind = KL_STR("pods");
        return KL_EFORBIDDEN;
    }
    const struct kl_value *secrets = kl_get(&sa->root, KL_F_imagePullSecrets);
    if (!kl_len(kl_get(spec, KL_F_imagePullSecrets)) && secrets) {
        struct kl_value copy;
        if (kl_copy(a, secrets, &copy))
            return kl_fail_oom(r), KL_ENOMEM;
        kl_set(a, spec, KL_F_imagePullSecrets, copy);
    }
    const struct kl_value *mount = kl_get(spec, KL_F_automountServiceAccountToken);
    if (!mount)
        mount = kl_get(&sa->root, KL_F_automountServiceAccountToken);
    if (mount && !kl_is_true(mount))
        return 0;
    return mount_token(r, spec);
}

// ---- Priority

static struct kl_object *global_default_class(struct kl_req *r)
{
    struct kl_iter it;
    struct kl_kv *kv;
    struct kl_error err;
    struct kl_object *best = NULL;
    const struct kl_resource *res = kl_res(KL_RES_scheduling_v1_priorityclasses);
    char end[64];
    struct kl_str prefix = KL_STR("/registry/priorityclasses/");
    kl_iter_init(&it, kl_req_view(r), prefix, kl_prefix_end(prefix, end));
    while ((kv = kl_iter_next(&it))) {
        struct kl_object *o = kl_cache_object(kv, res, &err);
        if (o && kl_is_true(kl_get(&o->root, KL_F_globalDefault)) &&
            (!best || kl_int_at(&o->root, 0, KL_F_value) < kl_int_at(&best->root, 0, KL_F_value)))
            best = o;
    }
    return best;
}

static int priority(struct kl_admit *ad)
{
    struct kl_req *r = ad->r;
    struct kl_value *draft = ad->draft;
    struct kl_arena *a = r->arena;
    if (!is_pod(ad))
        return 0;
    struct kl_value *spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT);
    struct kl_str name = kl_text(kl_get(spec, KL_F_priorityClassName));
    struct kl_object *pc =
        name.n ? kl_admit_find(r, KL_RES_scheduling_v1_priorityclasses, KL_STR(""), name)
               : global_default_class(r);
    struct kl_str pod = kl_admit_name(ad);
    if (name.n && !pc) {
        kl_fail_set(r, 403, "Forbidden",
                    "pods \"%.*s\" is forbidden: no PriorityClass with name %.*s was found",
                    KL_PRI(pod), KL_PRI(name));
        r->fail.name = pod;
        r->fail.kind = KL_STR("pods");
        return KL_EFORBIDDEN;
    }
    int64_t value = pc ? kl_int_at(&pc->root, 0, KL_F_value) : 0;
    const struct kl_value *given = kl_get(spec, KL_F_priority);
    if (given && kl_int_or(given, 0) != value) {
        kl_fail_set(r, 403, "Forbidden",
                    "pods \"%.*s\" is forbidden: the integer value of priority (%lld) must not be "
                    "provided in pod spec; priority admission controller computed %lld from the "
                    "given PriorityClass name",
                    KL_PRI(pod), (long long)kl_int_or(given, 0), (long long)value);
        r->fail.name = pod;
        r->fail.kind = KL_STR("pods");
        return KL_EFORBIDDEN;
    }
    kl_set(a, spec, KL_F_priority, kl_int(value));
    if (pc && !name.n)
        kl_set(a, spec, KL_F_priorityClassName,
               kl_string(kl_arena_dup(a, kl_meta_name(&pc->root))));
    struct kl_str policy = pc ? kl_text(kl_get(&pc->root, KL_F_preemptionPolicy)) : KL_STR("");
    return kl_set_default(
        a, spec, KL_F_preemptionPolicy,
        kl_string(policy.n ? kl_arena_dup(a, policy) : KL_STR("PreemptLowerPriority")));
}

// ---- DefaultTolerationSeconds

static bool tolerates(const struct kl_value *spec, const char *key)
{
    for (KL_EACH(t, kl_get(spec, KL_F_tolerations))) {
        struct kl_str k = kl_text(kl_get(t, KL_F_key)), eff = kl_text(kl_get(t, KL_F_effect));
        if ((!k.n || kl_str_eqz(k, key)) && (!eff.n || kl_str_eqz(eff, "NoExecute")))
            return true;
    }
    return false;
}

static int default_tolerations(struct kl_admit *ad)
{
    struct kl_req *r = ad->r;
    struct kl_value *draft = ad->draft;
    static const char *const keys[] = {"node.kubernetes.io/not-ready",
                                       "node.kubernetes.io/unreachable"};
    struct kl_arena *a = r->arena;
    if (!is_pod(ad))
        return 0;
    struct kl_value *spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT);
    bool has[2] = {tolerates(spec, keys[0]), tolerates(spec, keys[1])};
    for (size_t i = 0; i < KL_COUNT(keys); i++) {
        if (has[i])
            continue;
        struct kl_value t = kl_new_struct();
        kl_set(a, &t, KL_F_key, kl_stringz(keys[i]));
        kl_set(a, &t, KL_F_operator, kl_stringz("Exists"));
        kl_set(a, &t, KL_F_effect, kl_stringz("NoExecute"));
        kl_set(a, &t, KL_F_tolerationSeconds, kl_int(300));
        struct kl_value *list = kl_edit(a, spec, KL_F_tolerations, KL_ARRAY);
        if (!list || kl_append(a, list, t))
            return kl_fail_oom(r), KL_ENOMEM;
    }
    return 0;
}

// ---- TaintNodesByCondition

static int taint_new_node(struct kl_admit *ad)
{
    struct kl_req *r = ad->r;
    struct kl_value *draft = ad->draft;
    struct kl_arena *a = r->arena;
    if (!kl_admit_is(ad, KL_RES_core_v1_nodes))
        return 0;
    struct kl_value *spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT), t = kl_new_struct();
    for (KL_EACH(x, kl_get(spec, KL_F_taints)))
        if (kl_str_eqz(kl_text(kl_get(x, KL_F_key)), "node.kubernetes.io/not-ready") &&
            kl_str_eqz(kl_text(kl_get(x, KL_F_effect)), "NoSchedule"))
            return 0;
    kl_set(a, &t, KL_F_key, kl_stringz("node.kubernetes.io/not-ready"));
    kl_set(a, &t, KL_F_effect, kl_stringz("NoSchedule"));
    struct kl_value *list = kl_edit(a, spec, KL_F_taints, KL_ARRAY);
    return list ? kl_append(a, list, t) : KL_ENOMEM;
}

// ---- StorageObjectInUseProtection, DefaultStorageClass are with the volumes' own issue but for
// the finalizers, without which an object made now would lack them for ever.

static int protect_volumes(struct kl_admit *ad)
{
    struct kl_req *r = ad->r;
    struct kl_value *draft = ad->draft;
    const char *f =
        kl_admit_is(ad, KL_RES_core_v1_persistentvolumeclaims) ? "kubernetes.io/pvc-protection"
        : kl_admit_is(ad, KL_RES_core_v1_persistentvolumes)    ? "kubernetes.io/pv-protection"
                                                               : NULL;
    if (!f)
        return 0;
    struct kl_value *m = kl_edit(r->arena, draft, KL_F_metadata, KL_STRUCT);
    for (KL_EACH(x, kl_get(m, KL_F_finalizers)))
        if (kl_str_eqz(kl_text(x), f))
            return 0;
    struct kl_value *list = kl_edit(r->arena, m, KL_F_finalizers, KL_ARRAY);
    return list ? kl_append(r->arena, list, kl_stringz(f)) : KL_ENOMEM;
}

static int namespace_lifecycle(struct kl_admit *ad)
{
    return ad->op == KL_ADMIT_DELETE ? immortal_namespace(ad) : live_namespace(ad);
}

const struct kl_plugin kl_plugins[] = {
    {"NamespaceLifecycle", .mutate = namespace_lifecycle,
     .operations = KL_ADMIT_CREATE | KL_ADMIT_DELETE, .default_on = true},
    {"ServiceAccount", .mutate = service_account, .operations = KL_ADMIT_CREATE,
     .default_on = true},
    {"TaintNodesByCondition", .mutate = taint_new_node, .operations = KL_ADMIT_CREATE,
     .default_on = true},
    {"Priority", .mutate = priority, .operations = KL_ADMIT_CREATE, .default_on = true},
    {"DefaultTolerationSeconds", .mutate = default_tolerations, .operations = KL_ADMIT_CREATE,
     .default_on = true},
    {"StorageObjectInUseProtection", .mutate = protect_volumes, .operations = KL_ADMIT_CREATE,
     .default_on = true},
};
const size_t kl_nplugins = KL_COUNT(kl_plugins);
_Static_assert(KL_COUNT(kl_plugins) <= 64, "a set is one word");
