// SPDX-License-Identifier: Apache-2.0
// What a kubelet (system:node:NAME in system:nodes) may do: upstream's Node authoriser, and of the
// NodeRestriction admission plug-in what needs no look at the object that is sent. Upstream keeps a
// graph of all pods' references. Here the reference is looked for when it is asked for: the pod
// that gave access last time first, then the pods of the object's namespace, of which the stored
// bytes must contain the node's name before one is decoded.
#include "apiserver/auth/authz_int.h"
#include <stdlib.h>

enum ref_kind { REF_SECRET, REF_CONFIG_MAP, REF_CLAIM, REF_ACCOUNT, REF_RESOURCE_CLAIM };

struct look {
    struct kl_api_loop *al;
    struct kl_arena *a;
    struct kl_str node;
    enum ref_kind kind;
    struct kl_str ns, name;
};

struct kl_str kl_node_of_user(const struct kl_user *u)
{
    const struct kl_str prefix = KL_STR("system:node:");
    if (!kl_str_starts(u->name, prefix) || !kl_user_in_group(u, KL_STR("system:nodes")))
        return (struct kl_str){NULL, 0};
    return kl_str_from(u->name, prefix.n);
}

// ---- what a pod refers to

static bool names(const struct kl_value *ref, kl_sym field, struct kl_str name)
{
    return kl_str_eq(kl_text(kl_get(ref, field)), name);
}

static bool env_refers(const struct kl_value *containers, kl_sym key_ref, kl_sym from_ref,
                       struct kl_str name)
{
    for (KL_EACH(c, containers)) {
        for (KL_EACH(e, kl_get(c, KL_F_env)))
            if (names(kl_path(e, KL_F_valueFrom, key_ref), KL_F_name, name))
                return true;
        for (KL_EACH(e, kl_get(c, KL_F_envFrom)))
            if (names(kl_get(e, from_ref), KL_F_name, name))
                return true;
    }
    return false;
}

static bool any_env_refers(const struct kl_value *spec, kl_sym key_ref, kl_sym from_ref,
                           struct kl_str name)
{
    return env_refers(kl_get(spec, KL_F_containers), key_ref, from_ref, name) ||
           env_refers(kl_get(spec, KL_F_initContainers), key_ref, from_ref, name) ||
           env_refers(kl_get(spec, KL_F_ephemeralContainers), key_ref, from_ref, name);
}

// VisitPodSecretNames
static bool refers_to_secret(const struct kl_value *spec, struct kl_str name)
{
    static const kl_sym with_secret_ref[] = {KL_F_cephfs, KL_F_cinder,  KL_F_flexVolume, KL_F_iscsi,
                                             KL_F_rbd,    KL_F_scaleIO, KL_F_storageos};
    for (KL_EACH(s, kl_get(spec, KL_F_imagePullSecrets)))
        if (names(s, KL_F_name, name))
            return true;
    if (any_env_refers(spec, KL_F_secretKeyRef, KL_F_secretRef, name))
        return true;
    for (KL_EACH(v, kl_get(spec, KL_F_volumes))) {
        if (names(kl_get(v, KL_F_secret), KL_F_secretName, name) ||
            names(kl_get(v, KL_F_azureFile), KL_F_secretName, name) ||
            names(kl_path(v, KL_F_csi, KL_F_nodePublishSecretRef), KL_F_name, name))
            return true;
        for (size_t i = 0; i < KL_COUNT(with_secret_ref); i++)
            if (names(kl_path(v, with_secret_ref[i], KL_F_secretRef), KL_F_name, name))
                return true;
        for (KL_EACH(s, kl_path(v, KL_F_projected, KL_F_sources)))
            if (names(kl_get(s, KL_F_secret), KL_F_name, name))
                return true;
    }
    return false;
}

static bool refers_to_config_map(const struct kl_value *spec, struct kl_str name)
{
    if (any_env_refers(spec, KL_F_configMapKeyRef, KL_F_configMapRef, name))
        return true;
    for (KL_EACH(v, kl_get(spec, KL_F_volumes))) {
        if (names(kl_get(v, KL_F_configMap), KL_F_name, name))
            return true;
        for (KL_EACH(s, kl_path(v, KL_F_projected, KL_F_sources)))
            if (names(kl_get(s, KL_F_configMap), KL_F_name, name))
                return true;
    }
    return false;
}

static bool refers_to_claim(const struct kl_value *pod, struct kl_str name)
{
    struct kl_str own = kl_meta_name(pod);
    for (KL_EACH(v, kl_path(pod, KL_F_spec, KL_F_volumes))) {
        if (names(kl_get(v, KL_F_persistentVolumeClaim), KL_F_claimName, name))
            return true;
        // The claim of an ephemeral volume is POD-VOLUME.
        struct kl_str vol = kl_text(kl_get(v, KL_F_name));
        if (kl_get(v, KL_F_ephemeral) && name.n == own.n + 1 + vol.n && kl_str_starts(name, own) &&
            name.p[own.n] == '-' && kl_str_ends(name, vol))
            return true;
    }
    return false;
}

static bool refers_to_resource_claim(const struct kl_value *pod, struct kl_str name)
{
    for (KL_EACH(c, kl_path(pod, KL_F_spec, KL_F_resourceClaims)))
        if (names(c, KL_F_resourceClaimName, name))
            return true;
    for (KL_EACH(c, kl_path(pod, KL_F_status, KL_F_resourceClaimStatuses)))
        if (names(c, KL_F_resourceClaimName, name))
            return true;
    return false;
}

static bool pod_is_on(const struct kl_value *pod, struct kl_str node)
{
    return kl_str_eq(kl_text_at(pod, KL_F_spec, KL_F_nodeName), node);
}

static bool pod_refers(const struct look *l, const struct kl_value *pod)
{
    // A mirror pod is the node's own making: its references open nothing.
    if (!pod_is_on(pod, l->node) ||
        kl_map_value(kl_meta_annotations(pod), KL_STR("kubernetes.io/config.mirror")))
        return false;
    const struct kl_value *spec = kl_get(pod, KL_F_spec);
    switch (l->kind) {
    case REF_SECRET:
        return refers_to_secret(spec, l->name);
    case REF_CONFIG_MAP:
        return refers_to_config_map(spec, l->name);
    case REF_CLAIM:
        return refers_to_claim(pod, l->name);
    case REF_ACCOUNT:
        return names(spec, KL_F_serviceAccountName, l->name);
    case REF_RESOURCE_CLAIM:
        return refers_to_resource_claim(pod, l->name);
    }
    return false;
}

// ---- the search

static const struct kl_value *object_at(struct kl_api_loop *al, const struct kl_resource *res,
                                        struct kl_str key)
{
    struct kl_error err;
    struct kl_kv *kv = key.p ? kl_view_get(kl_reader_view(al->reader), key) : NULL;
    struct kl_object *o = kv ? kl_cache_object(kv, res, &err) : NULL;
    return o ? &o->root : NULL;
}

static const struct kl_value *object_named(struct kl_api_loop *al, struct kl_arena *a, uint16_t res,
                                           struct kl_str ns, struct kl_str name)
{
    struct kl_object *o = kl_api_object(al, a, res, ns, name);
    return o ? &o->root : NULL;
}

static struct kl_node_hint *hint_of(const struct look *l)
{
    struct kl_authz_cache *c = kl_authz_cache_of(l->al);
    uint64_t h = kl_str_hash(l->node) * 3 + kl_str_hash(l->ns) * 5 + kl_str_hash(l->name) * 7 +
                 (uint64_t)l->kind;
    if (!c)
        return NULL;
    struct kl_node_hint *n = &c->hints[h & (KL_NODE_HINTS - 1)];
    if (n->hash != h) {
        free(n->pod_key);
        *n = (struct kl_node_hint){.hash = h};
    }
    return n;
}

void kl_node_hints_free(struct kl_authz_cache *c)
{
    for (size_t i = 0; i < KL_NODE_HINTS; i++)
        free(c->hints[i].pod_key);
}

static bool bytes_have(struct kl_str all, struct kl_str part)
{
    return memmem(all.p, all.n, part.p, part.n) != NULL;
}

static bool some_pod_refers(const struct look *l)
{
    const struct kl_resource *res = kl_res(KL_RES_core_v1_pods);
    struct kl_node_hint *hint = hint_of(l);
    if (hint && hint->pod_key) {
        const struct kl_value *pod = object_at(l->al, res, kl_str(hint->pod_key));
        if (pod && pod_refers(l, pod))
            return true;
    }
    struct kl_str prefix = kl_arena_printf(l->a, "%s/%.*s/", res->etcd_prefix, KL_PRI(l->ns));
    char *end = prefix.p ? kl_arena_alloc(l->a, prefix.n + 1) : NULL;
    struct kl_iter it;
    if (!end)
        return false;
    kl_iter_init(&it, kl_reader_view(l->al->reader), prefix, kl_prefix_end(prefix, end));
    for (struct kl_kv *kv; (kv = kl_iter_next(&it));) {
        struct kl_str raw = kl_kv_value(kv);
        struct kl_error err;
        struct kl_object *o;
        // Claims of ephemeral volumes are not spelt out in the pod.
        if (!bytes_have(raw, l->node) || (l->kind != REF_CLAIM && !bytes_have(raw, l->name)) ||
            !(o = kl_cache_object(kv, res, &err)) || !pod_refers(l, &o->root))
            continue;
        if (hint) {
            free(hint->pod_key);
            hint->pod_key = strndup(kv->key, kv->key_len);
        }
        return true;
    }
    return false;
}

// ---- decisions

struct ask {
    struct kl_api_loop *al;
    struct kl_arena *a;
    struct kl_str node;
    const struct kl_attrs *t;
    struct kl_str *reason;
};

static bool no(struct ask *q, const char *reason)
{
    *q->reason = kl_str(reason);
    return false;
}

static bool verb_is(const struct ask *q, const char *words)
{
    struct kl_str rest = kl_str(words), w;
    while (kl_str_split(&rest, ' ', &w))
        if (kl_str_eq(w, q->t->verb))
            return true;
    return false;
}

static bool unrelated(struct ask *q)
{
    *q->reason = kl_arena_printf(q->a, "no relationship found between node '%.*s' and this object",
                                 KL_PRI(q->node));
    return false;
}

static bool related(struct ask *q, enum ref_kind kind)
{
    if (!q->t->name.n)
        return no(q, "No Object name found");
    struct look l = {q->al, q->a, q->node, kind, q->t->ns, q->t->name};
    return some_pod_refers(&l) || unrelated(q);
}

static bool may_read(struct ask *q, enum ref_kind kind)
{
    if (!verb_is(q, "get list watch"))
        return no(q, "can only read resources of this type");
    if (q->t->sub.n)
        return no(q, "cannot read subresource");
    if (!q->t->ns.n)
        return no(q, "can only read namespaced object of this type");
    return related(q, kind);
}

static bool is_plain_get(struct ask *q)
{
    if (!verb_is(q, "get"))
        return no(q, "can only get individual resources of this type");
    if (q->t->sub.n)
        return no(q, "cannot get subresource");
    return q->t->name.n || no(q, "No Object name found");
}

static bool may_use_claim(struct ask *q)
{
    if (kl_str_eqz(q->t->sub, "status"))
        return verb_is(q, "update patch") ? related(q, REF_CLAIM)
                                          : no(q, "can only get/update/patch this type");
    return is_plain_get(q) && related(q, REF_CLAIM);
}

// Node ← pod ← claim ← volume
static bool may_get_volume(struct ask *q)
{
    if (!is_plain_get(q))
        return false;
    const struct kl_value *pv =
        object_named(q->al, q->a, KL_RES_core_v1_persistentvolumes, KL_STR(""), q->t->name);
    struct kl_str claim = kl_text_at(pv, KL_F_spec, KL_F_claimRef, KL_F_name);
    struct look l = {
        q->al, q->a, q->node, REF_CLAIM, kl_text_at(pv, KL_F_spec, KL_F_claimRef, KL_F_namespace),
        claim};
    return (claim.n && some_pod_refers(&l)) || unrelated(q);
}

static bool may_get_attachment(struct ask *q)
{
    if (!is_plain_get(q))
        return false;
    const struct kl_value *va =
        object_named(q->al, q->a, KL_RES_storage_v1_volumeattachments, KL_STR(""), q->t->name);
    return pod_is_on(va, q->node) || unrelated(q); // spec.nodeName as well
}

static bool may_use_account(struct ask *q)
{
    if (verb_is(q, "get") && !q->t->sub.n)
        return may_read(q, REF_ACCOUNT);
    if (!verb_is(q, "create") || !q->t->name.n)
        return no(q, "can only create tokens for individual service accounts");
    if (!kl_str_eqz(q->t->sub, "token"))
        return no(q, "can only create token subresource of serviceaccount");
    return related(q, REF_ACCOUNT);
}

static bool may_use_lease(struct ask *q)
{
    if (!verb_is(q, "get create update patch delete"))
        return no(q, "can only get, create, update, patch, or delete a node lease");
    if (!kl_str_eqz(q->t->ns, "kube-node-lease"))
        return no(q, "can only access leases in the \"kube-node-lease\" system namespace");
    return verb_is(q, "create") || kl_str_eq(q->t->name, q->node) ||
           no(q, "can only access node lease with the same name as the requesting node");
}

static bool may_use_csi_node(struct ask *q)
{
    if (!verb_is(q, "get create update patch delete"))
        return no(q, "can only get, create, update, patch, or delete a CSINode");
    if (q->t->sub.n)
        return no(q, "cannot authorize CSINode subresources");
    return verb_is(q, "create") || kl_str_eq(q->t->name, q->node) ||
           no(q, "can only access CSINode with the same name as the requesting node");
}

static bool lists_own(const struct ask *q, const char *field)
{
    struct kl_str v;
    return q->t->fields && kl_selector_exact(q->t->fields, kl_str(field), &v) &&
           kl_str_eq(v, q->node);
}

static bool may_use_slice(struct ask *q)
{
    if (q->t->sub.n)
        return no(q, "cannot authorize ResourceSlice subresources");
    if (verb_is(q, "create"))
        return true;
    if (verb_is(q, "watch list deletecollection"))
        return lists_own(q, "spec.nodeName") ||
               no(q, "can only list/watch/deletecollection resourceslices with nodeName field "
                     "selector");
    if (!verb_is(q, "get update patch delete"))
        return no(q, "only the following verbs are allowed for a ResourceSlice: get, watch, list, "
                     "create, update, patch, delete, deletecollection");
    const struct kl_value *s =
        object_named(q->al, q->a, KL_RES_resource_v1_resourceslices, KL_STR(""), q->t->name);
    return pod_is_on(s, q->node) || unrelated(q);
}

static bool may_use_node(struct ask *q)
{
    bool own = kl_str_eq(q->t->name, q->node);
    if (!q->t->sub.n && verb_is(q, "create"))
        return true; // the name is in the body
    if ((!q->t->sub.n || kl_str_eqz(q->t->sub, "status")) && verb_is(q, "update patch")) {
        if (!own)
            *q->reason =
                kl_arena_printf(q->a, "node \"%.*s\" is not allowed to modify node \"%.*s\"",
                                KL_PRI(q->node), KL_PRI(q->t->name));
        return own;
    }
    if (q->t->sub.n || !verb_is(q, "get list watch"))
        return no(q, "");
    if (!own && !q->t->name.n)
        *q->reason = kl_arena_printf(
            q->a, "node '%.*s' cannot read all nodes, only its own Node object", KL_PRI(q->node));
    else if (!own)
        *q->reason =
            kl_arena_printf(q->a, "node '%.*s' cannot read '%.*s', only its own Node object",
                            KL_PRI(q->node), KL_PRI(q->t->name));
    return own;
}

// Of a pod that is there and bound elsewhere (one that is gone is the registry's to report).
static bool is_foreign_pod(struct ask *q)
{
    const struct kl_value *pod =
        object_named(q->al, q->a, KL_RES_core_v1_pods, q->t->ns, q->t->name);
    return pod && !pod_is_on(pod, q->node);
}

static bool own_pod_only(struct ask *q, const char *what)
{
    if (!is_foreign_pod(q))
        return true;
    *q->reason =
        kl_arena_printf(q->a, "node \"%.*s\" can only %s pods with spec.nodeName set to itself",
                        KL_PRI(q->node), what);
    return false;
}

static bool may_use_pod(struct ask *q)
{
    const struct kl_attrs *t = q->t;
    if (kl_str_eqz(t->sub, "status") && verb_is(q, "update patch"))
        return own_pod_only(q, "update pod status for");
    if (kl_str_eqz(t->sub, "eviction") && verb_is(q, "create"))
        return own_pod_only(q, "evict");
    if (t->sub.n)
        return no(q, verb_is(q, "get") ? "cannot get subresource" : "");
    if (verb_is(q, "list watch") && lists_own(q, "spec.nodeName"))
        return true;
    if (verb_is(q, "get list watch")) {
        if (!t->name.n)
            return no(q, verb_is(q, "get") ? "No Object name found"
                                           : "can only list/watch pods with spec.nodeName field "
                                             "selector");
        const struct kl_value *pod = object_named(q->al, q->a, KL_RES_core_v1_pods, t->ns, t->name);
        return (pod && pod_is_on(pod, q->node)) || unrelated(q);
    }
    if (verb_is(q, "delete"))
        return own_pod_only(q, "delete");
    if (verb_is(q, "create"))
        return true; // that it is a mirror pod of its own is NodeRestriction's to see
    return no(q, "");
}

// ---- NodeRules: what every node may do alike

struct node_rule {
    const char *verbs, *group, *resource; // resource with "/sub"
};
static const struct node_rule node_rules[] = {
    {"create", "authentication.k8s.io", "tokenreviews"},
    {"create", "authorization.k8s.io", "subjectaccessreviews"},
    {"create", "authorization.k8s.io", "localsubjectaccessreviews"},
    {"get list watch", "", "services"},
    {"create update patch", "", "events"},
    {"create update patch", "events.k8s.io", "events"},
    {"get", "", "endpoints"},
    {"create get list watch", "certificates.k8s.io", "certificatesigningrequests"},
    {"get list watch", "storage.k8s.io", "csidrivers"},
    {"get list watch", "node.k8s.io", "runtimeclasses"},
};

static bool by_static_rules(struct ask *q)
{
    const struct kl_attrs *t = q->t;
    for (size_t i = 0; t->is_resource && i < KL_COUNT(node_rules); i++)
        if (!t->sub.n && kl_str_eqz(t->plural, node_rules[i].resource) &&
            kl_str_eqz(t->group, node_rules[i].group) && verb_is(q, node_rules[i].verbs))
            return true;
    return no(q, "");
}

static bool may_read_secret(struct ask *q)
{
    return may_read(q, REF_SECRET);
}

static bool may_read_config_map(struct ask *q)
{
    return may_read(q, REF_CONFIG_MAP);
}

static bool may_get_resource_claim(struct ask *q)
{
    return is_plain_get(q) && related(q, REF_RESOURCE_CLAIM);
}

static const struct {
    const char *group, *plural;
    bool (*decide)(struct ask *q);
} by_resource[] = {
    {"", "secrets", may_read_secret},
    {"", "configmaps", may_read_config_map},
    {"", "pods", may_use_pod},
    {"", "nodes", may_use_node},
    {"", "serviceaccounts", may_use_account},
    {"", "persistentvolumeclaims", may_use_claim},
    {"", "persistentvolumes", may_get_volume},
    {"coordination.k8s.io", "leases", may_use_lease},
    {"storage.k8s.io", "csinodes", may_use_csi_node},
    {"storage.k8s.io", "volumeattachments", may_get_attachment},
    {"resource.k8s.io", "resourceclaims", may_get_resource_claim},
    {"resource.k8s.io", "resourceslices", may_use_slice},
};

bool kl_node_authorize(struct kl_api_loop *al, struct kl_arena *a, struct kl_str node,
                       const struct kl_attrs *t, struct kl_str *ret_reason)
{
    struct ask q = {al, a, node, t, ret_reason};
    *ret_reason = KL_STR("");
    if (!node.n) {
        *ret_reason = kl_arena_printf(a, "unknown node for user \"%.*s\"", KL_PRI(t->user->name));
        return false;
    }
    for (size_t i = 0; t->is_resource && i < KL_COUNT(by_resource); i++)
        if (kl_str_eqz(t->plural, by_resource[i].plural) &&
            kl_str_eqz(t->group, by_resource[i].group))
            return by_resource[i].decide(&q);
    return by_static_rules(&q);
}
