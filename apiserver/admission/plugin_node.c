// SPDX-License-Identifier: Apache-2.0
// NodeRestriction: what a node may write is about itself, its pods and what these need.
#include "apiserver/admission/plugins_int.h"
#include "apiserver/auth/authz_int.h"
#include "apiserver/auth/auth.h"
#include "net/csr.h"

enum { LABELS_SHOWN_MAX = 64 };

struct node {
    struct kl_admit *ad;
    struct kl_str name;
};

// attributes.GetName(): of a create the object's.
static struct kl_str asked_name(const struct kl_admit *ad)
{
    return ad->name.n ? ad->name : kl_meta_name(ad->object);
}

static const char *op_name(const struct kl_admit *ad)
{
    return ad->op == KL_ADMIT_CREATE   ? "CREATE"
           : ad->op == KL_ADMIT_UPDATE ? "UPDATE"
           : ad->op == KL_ADMIT_DELETE ? "DELETE"
                                       : "CONNECT";
}

static int not_found(struct kl_admit *ad, const char *plural, struct kl_str name)
{
    kl_fail_not_found_of(ad->r, KL_STR(""), kl_str(plural), name);
    return KL_ENOTFOUND;
}

static struct kl_object *find_pod(struct kl_admit *ad, struct kl_str name)
{
    return kl_admit_find(ad->r, KL_RES_core_v1_pods, ad->ns, name);
}

static bool runs_on(const struct kl_value *pod, struct kl_str node)
{
    return kl_str_eq(kl_text_at(pod, KL_F_spec, KL_F_nodeName), node);
}

// ---- pods

static bool any_ref(const struct kl_value *containers, kl_sym key_ref, kl_sym from_ref)
{
    for (KL_EACH(c, containers)) {
        for (KL_EACH(e, kl_get(c, KL_F_env)))
            if (kl_text_at(e, KL_F_valueFrom, key_ref, KL_F_name).n)
                return true;
        for (KL_EACH(e, kl_get(c, KL_F_envFrom)))
            if (kl_text_at(e, from_ref, KL_F_name).n)
                return true;
    }
    return false;
}

static bool containers_refer(const struct kl_value *spec, kl_sym key_ref, kl_sym from_ref)
{
    return any_ref(kl_get(spec, KL_F_initContainers), key_ref, from_ref) ||
           any_ref(kl_get(spec, KL_F_containers), key_ref, from_ref) ||
           any_ref(kl_get(spec, KL_F_ephemeralContainers), key_ref, from_ref);
}

// VisitPodSecretNames finds one.
bool kl_pod_refers_secret(const struct kl_value *spec)
{
    static const kl_sym with_ref[] = {KL_F_cephfs,  KL_F_cinder, KL_F_flexVolume, KL_F_rbd,
                                      KL_F_scaleIO, KL_F_iscsi,  KL_F_storageos};
    for (KL_EACH(s, kl_get(spec, KL_F_imagePullSecrets)))
        if (kl_text(kl_get(s, KL_F_name)).n)
            return true;
    if (containers_refer(spec, KL_F_secretKeyRef, KL_F_secretRef))
        return true;
    for (KL_EACH(v, kl_get(spec, KL_F_volumes))) {
        if (kl_text_at(v, KL_F_azureFile, KL_F_secretName).n ||
            kl_text_at(v, KL_F_secret, KL_F_secretName).n ||
            kl_text_at(v, KL_F_csi, KL_F_nodePublishSecretRef, KL_F_name).n)
            return true;
        for (size_t i = 0; i < KL_COUNT(with_ref); i++)
            if (kl_text_at(v, with_ref[i], KL_F_secretRef, KL_F_name).n)
                return true;
        for (KL_EACH(s, kl_path(v, KL_F_projected, KL_F_sources)))
            if (kl_text_at(s, KL_F_secret, KL_F_name).n)
                return true;
    }
    return false;
}

// HasAPIObjectReference: what a pod of a node's own must not need; NULL: nothing.
static const char *referenced(const struct kl_value *spec)
{
    static const struct {
        kl_sym field;
        const char *what;
    } volumes[] = {{KL_F_configMap, "configmaps (via configmap volumes)"},
                   {KL_F_secret, "secrets (via secret volumes)"},
                   {KL_F_csi, "csidrivers (via CSI volumes)"},
                   {KL_F_glusterfs, "endpoints (via glusterFS volumes)"},
                   {KL_F_persistentVolumeClaim, "persistentvolumeclaims"},
                   {KL_F_ephemeral, "persistentvolumeclaims (via ephemeral volumes)"},
                   {KL_F_azureFile, "secrets (via azureFile volumes)"}},
      sources[] = {{KL_F_configMap, "configmaps (via projected volumes)"},
                   {KL_F_secret, "secrets (via projected volumes)"},
                   {KL_F_serviceAccountToken, "serviceaccounts (via projected volumes)"},
                   {KL_F_clusterTrustBundle, "clustertrustbundles"},
                   {KL_F_podCertificate, "podcertificates"}};
    if (kl_text(kl_get(spec, KL_F_serviceAccountName)).n)
        return "serviceaccounts";
    if (kl_pod_refers_secret(spec))
        return "secrets";
    if (containers_refer(spec, KL_F_configMapKeyRef, KL_F_configMapRef))
        return "configmaps";
    if (kl_len(kl_get(spec, KL_F_resourceClaims)))
        return "resourceclaims";
    for (KL_EACH(v, kl_get(spec, KL_F_volumes))) {
        for (size_t i = 0; i < KL_COUNT(volumes); i++)
            if (kl_get(v, volumes[i].field))
                return volumes[i].what;
        for (KL_EACH(s, kl_path(v, KL_F_projected, KL_F_sources)))
            for (size_t i = 0; i < KL_COUNT(sources); i++)
                if (kl_get(s, sources[i].field))
                    return sources[i].what;
    }
    return NULL;
}

static int check_owner(const struct node *n)
{
    struct kl_admit *ad = n->ad;
    const struct kl_value *owners = kl_path(ad->object, KL_F_metadata, KL_F_ownerReferences);
    const struct kl_value *o = kl_at(owners, 0);
    if (kl_len(owners) > 1)
        return kl_admit_forbid(ad,
                               "node \"%.*s\" can only create pods with a single owner reference "
                               "set to itself",
                               KL_PRI(n->name));
    if (!o || !kl_str_eqz(kl_text(kl_get(o, KL_F_apiVersion)), "v1") ||
        !kl_str_eqz(kl_text(kl_get(o, KL_F_kind)), "Node") ||
        !kl_str_eq(kl_text(kl_get(o, KL_F_name)), n->name))
        return kl_admit_forbid(
            ad, "node \"%.*s\" can only create pods with an owner reference set to itself",
            KL_PRI(n->name));
    if (!kl_is_true(kl_get(o, KL_F_controller)))
        return kl_admit_forbid(ad,
                               "node \"%.*s\" can only create pods with a controller owner "
                               "reference set to itself",
                               KL_PRI(n->name));
    if (kl_is_true(kl_get(o, KL_F_blockOwnerDeletion)))
        return kl_admit_forbid(
            ad, "node \"%.*s\" must not set blockOwnerDeletion on an owner reference",
            KL_PRI(n->name));
    struct kl_object *node = kl_admit_find(ad->r, KL_RES_core_v1_nodes, KL_STR(""), n->name);
    if (!node)
        return not_found(ad, "nodes", n->name);
    struct kl_str uid = kl_text(kl_get(o, KL_F_uid)), is = kl_meta_uid(&node->root);
    if (!kl_str_eq(uid, is))
        return kl_admit_forbid(ad, "node %.*s UID mismatch: expected %.*s got %.*s",
                               KL_PRI(n->name), KL_PRI(uid), KL_PRI(is));
    return 0;
}

static int create_pod(const struct node *n)
{
    struct kl_admit *ad = n->ad;
    if (!kl_admit_mirror(ad->object))
        return kl_admit_forbid(ad,
                               "pod does not have \"kubernetes.io/config.mirror\" annotation, node "
                               "\"%.*s\" can only create mirror pods",
                               KL_PRI(n->name));
    if (!runs_on(ad->object, n->name))
        return kl_admit_forbid(
            ad, "node \"%.*s\" can only create pods with spec.nodeName set to itself",
            KL_PRI(n->name));
    int rc = check_owner(n);
    if (rc)
        return rc;
    const char *what = referenced(kl_get(ad->object, KL_F_spec));
    if (what)
        return kl_admit_forbid(ad, "node \"%.*s\" can not create pods that reference %s",
                               KL_PRI(n->name), what);
    return 0;
}

static int update_pod_status(const struct node *n)
{
    struct kl_admit *ad = n->ad;
    if (ad->op != KL_ADMIT_UPDATE)
        return kl_admit_forbid(ad, "unexpected operation \"%s\"", op_name(ad));
    if (!runs_on(ad->old, n->name))
        return kl_admit_forbid(ad,
                               "node \"%.*s\" can only update pod status for pods with "
                               "spec.nodeName set to itself",
                               KL_PRI(n->name));
    if (!kl_value_equal(kl_meta_labels(ad->object), kl_meta_labels(ad->old)))
        return kl_admit_forbid(ad, "node \"%.*s\" cannot update labels through pod status",
                               KL_PRI(n->name));
    if (!kl_value_equal(kl_path(ad->object, KL_F_status, KL_F_resourceClaimStatuses),
                        kl_path(ad->old, KL_F_status, KL_F_resourceClaimStatuses)))
        return kl_admit_forbid(ad, "node \"%.*s\" cannot update resource claim statues",
                               KL_PRI(n->name));
    if (!kl_value_equal(kl_path(ad->object, KL_F_status, KL_F_extendedResourceClaimStatus),
                        kl_path(ad->old, KL_F_status, KL_F_extendedResourceClaimStatus)))
        return kl_admit_forbid(ad, "node \"%.*s\" cannot update extended resource claim status",
                               KL_PRI(n->name));
    return 0;
}

static int evict_pod(const struct node *n)
{
    struct kl_admit *ad = n->ad;
    if (ad->op != KL_ADMIT_CREATE)
        return kl_admit_forbid(ad, "unexpected operation %s", op_name(ad));
    struct kl_str name = asked_name(ad);
    if (!name.n)
        return kl_admit_forbid(ad, "could not determine pod from request data");
    struct kl_object *pod = find_pod(ad, name);
    if (!pod)
        return not_found(ad, "pods", name);
    if (!runs_on(&pod->root, n->name))
        return kl_admit_forbid(ad, "node %.*s can only evict pods with spec.nodeName set to itself",
                               KL_PRI(n->name));
    return 0;
}

static int check_pod(const struct node *n)
{
    struct kl_admit *ad = n->ad;
    if (kl_admit_sub(ad, "status"))
        return update_pod_status(n);
    if (kl_admit_sub(ad, "eviction"))
        return evict_pod(n);
    if (ad->sub.n)
        return kl_admit_forbid(
            ad, "unexpected pod subresource \"%.*s\", only 'status' and 'eviction' are allowed",
            KL_PRI(ad->sub));
    if (ad->op == KL_ADMIT_CREATE)
        return create_pod(n);
    if (ad->op != KL_ADMIT_DELETE)
        return kl_admit_forbid(
            ad, "unexpected operation \"%s\", node \"%.*s\" can only create and delete mirror pods",
            op_name(ad), KL_PRI(n->name));
    struct kl_object *pod = ad->old ? NULL : find_pod(ad, ad->name);
    if (!ad->old && !pod)
        return not_found(ad, "pods", ad->name);
    if (!runs_on(pod ? &pod->root : ad->old, n->name))
        return kl_admit_forbid(
            ad, "node \"%.*s\" can only delete pods with spec.nodeName set to itself",
            KL_PRI(n->name));
    return 0;
}

// ---- nodes

static bool in_domain(struct kl_str ns, const char *domain)
{
    struct kl_str d = kl_str(domain);
    return kl_str_eq(ns, d) || (ns.n > d.n && kl_str_ends(ns, d) && ns.p[ns.n - d.n - 1] == '.');
}

static bool forbidden_label(struct kl_str key)
{
    static const char *const kubelet[] = {"kubernetes.io/hostname",
                                          "topology.kubernetes.io/zone",
                                          "topology.kubernetes.io/region",
                                          "failure-domain.beta.kubernetes.io/zone",
                                          "failure-domain.beta.kubernetes.io/region",
                                          "beta.kubernetes.io/instance-type",
                                          "node.kubernetes.io/instance-type",
                                          "kubernetes.io/os",
                                          "kubernetes.io/arch",
                                          "beta.kubernetes.io/os",
                                          "beta.kubernetes.io/arch"};
    ptrdiff_t slash = kl_str_chr(key, '/');
    struct kl_str ns = {key.p, slash < 0 ? 0 : (size_t)slash};
    if (in_domain(ns, "node-restriction.kubernetes.io"))
        return true;
    if (!in_domain(ns, "kubernetes.io") && !in_domain(ns, "k8s.io"))
        return false;
    for (size_t i = 0; i < KL_COUNT(kubelet); i++)
        if (kl_str_eqz(key, kubelet[i]))
            return false;
    return !in_domain(ns, "kubelet.kubernetes.io") && !in_domain(ns, "node.kubernetes.io");
}

static void add_changed(struct kl_str *list, size_t *n, const struct kl_value *a,
                        const struct kl_value *b)
{
    for (KL_MAP_EACH_KEY(kv, a)) {
        struct kl_str key = kl_text(kv);
        const struct kl_value *other = kl_map_value(b, key);
        size_t at = 0;
        if ((other && kl_str_eq(kl_text(other), kl_text(kv + 1))) || !forbidden_label(key))
            continue;
        while (at < *n && kl_str_cmp(list[at], key) < 0)
            at++;
        if ((at < *n && kl_str_eq(list[at], key)) || *n == LABELS_SHOWN_MAX)
            continue;
        memmove(list + at + 1, list + at, (*n - at) * sizeof *list);
        list[at] = key;
        ++*n;
    }
}

// The labels that differ and are not a node's to set: "a, b".
static struct kl_str forbidden_labels(struct kl_admit *ad)
{
    struct kl_str list[LABELS_SHOWN_MAX], out = KL_STR("");
    size_t n = 0;
    const struct kl_value *now = kl_meta_labels(ad->object), *old = kl_meta_labels(ad->old);
    add_changed(list, &n, now, old);
    add_changed(list, &n, old, now);
    for (size_t i = 0; i < n; i++)
        out = kl_arena_printf(ad->r->arena, "%.*s%s%.*s", KL_PRI(out), i ? ", " : "",
                              KL_PRI(list[i]));
    return out;
}

static int check_node(const struct node *n)
{
    struct kl_admit *ad = n->ad;
    struct kl_str name = asked_name(ad);
    if (!kl_str_eq(name, n->name))
        return kl_admit_forbid(ad, "node \"%.*s\" is not allowed to modify node \"%.*s\"",
                               KL_PRI(n->name), KL_PRI(name));
    const struct kl_value *config = kl_path(ad->object, KL_F_spec, KL_F_configSource);
    struct kl_str labels;
    if (ad->op == KL_ADMIT_CREATE) {
        if (config)
            return kl_admit_forbid(
                ad, "node \"%.*s\" is not allowed to create pods with a non-nil configSource",
                KL_PRI(n->name));
        if ((labels = forbidden_labels(ad)).n)
            return kl_admit_forbid(ad,
                                   "node \"%.*s\" is not allowed to set the following labels: %.*s",
                                   KL_PRI(n->name), KL_PRI(labels));
    }
    if (ad->op != KL_ADMIT_UPDATE)
        return 0;
    if (config && !kl_value_equal(config, kl_path(ad->old, KL_F_spec, KL_F_configSource)))
        return kl_admit_forbid(
            ad, "node \"%.*s\" is not allowed to update configSource to a new non-nil configSource",
            KL_PRI(n->name));
    if (!kl_value_equal(kl_path(ad->object, KL_F_spec, KL_F_taints),
                        kl_path(ad->old, KL_F_spec, KL_F_taints)))
        return kl_admit_forbid(ad, "node \"%.*s\" is not allowed to modify taints",
                               KL_PRI(n->name));
    if (!kl_value_equal(kl_path(ad->object, KL_F_metadata, KL_F_ownerReferences),
                        kl_path(ad->old, KL_F_metadata, KL_F_ownerReferences)))
        return kl_admit_forbid(ad, "node \"%.*s\" is not allowed to modify ownerReferences",
                               KL_PRI(n->name));
    if ((labels = forbidden_labels(ad)).n)
        return kl_admit_forbid(ad, "is not allowed to modify labels: %.*s", KL_PRI(labels));
    return 0;
}

// ---- claims: a node grows file systems, and says how large they became

static struct kl_object *without_growth(struct kl_arena *a, const struct kl_type *type,
                                        const struct kl_value *claim)
{
    static const kl_sym meta_fields[] = {KL_F_resourceVersion, KL_F_managedFields};
    static const kl_sym fields[] = {KL_F_capacity, KL_F_conditions, KL_F_allocatedResourceStatuses,
                                    KL_F_allocatedResources};
    struct kl_value v = *claim, empty = kl_new_struct();
    v.owned = 0;
    struct kl_value *m = kl_edit(a, &v, KL_F_metadata, KL_STRUCT);
    for (size_t i = 0; m && i < KL_COUNT(meta_fields); i++)
        kl_unset(a, m, meta_fields[i]);
    if (!kl_get(&v, KL_F_status))
        kl_set(a, &v, KL_F_status, empty);
    struct kl_value *st = kl_edit(a, &v, KL_F_status, KL_STRUCT);
    for (size_t i = 0; st && i < KL_COUNT(fields); i++)
        kl_unset(a, st, fields[i]);
    return m && st ? kl_object_freeze(type, &v) : NULL;
}

static int check_claim(const struct node *n)
{
    struct kl_admit *ad = n->ad;
    if (!kl_admit_sub(ad, "status"))
        return kl_admit_forbid(ad, "may only update PVC status");
    if (ad->op != KL_ADMIT_UPDATE)
        return kl_admit_forbid(ad, "unexpected operation \"%s\"", op_name(ad));
    struct kl_object *now = without_growth(ad->r->arena, ad->type, ad->object);
    struct kl_object *old = without_growth(ad->r->arena, ad->type, ad->old);
    int rc = now && old ? 0 : kl_admit_oom(ad);
    if (!rc && !kl_value_equal(&now->root, &old->root))
        rc = kl_admit_forbid(ad,
                             "node \"%.*s\" is not allowed to update fields other than "
                             "status.quantity and status.conditions",
                             KL_PRI(n->name));
    kl_object_unref(now);
    kl_object_unref(old);
    return rc;
}

// ---- tokens: for a pod of the node, and an audience that the pod has in its volumes

static bool driver_has(struct kl_admit *ad, struct kl_str driver, struct kl_str audience)
{
    struct kl_object *o =
        driver.n ? kl_admit_find(ad->r, KL_RES_storage_v1_csidrivers, KL_STR(""), driver) : NULL;
    for (KL_EACH(t, o ? kl_path(&o->root, KL_F_spec, KL_F_tokenRequests) : NULL))
        if (kl_str_eq(kl_text(kl_get(t, KL_F_audience)), audience))
            return true;
    return false;
}

static struct kl_str driver_of_claim(struct kl_admit *ad, struct kl_str name)
{
    struct kl_object *c = kl_admit_find(ad->r, KL_RES_core_v1_persistentvolumeclaims, ad->ns, name);
    struct kl_str volume = c ? kl_text_at(&c->root, KL_F_spec, KL_F_volumeName) : KL_STR("");
    struct kl_object *v =
        volume.n ? kl_admit_find(ad->r, KL_RES_core_v1_persistentvolumes, KL_STR(""), volume)
                 : NULL;
    return v ? kl_text_at(&v->root, KL_F_spec, KL_F_csi, KL_F_driver) : KL_STR("");
}

static bool pod_has_audience(struct kl_admit *ad, const struct kl_value *pod,
                             struct kl_str audience)
{
    for (KL_EACH(v, kl_path(pod, KL_F_spec, KL_F_volumes))) {
        struct kl_str driver = KL_STR("");
        for (KL_EACH(s, kl_path(v, KL_F_projected, KL_F_sources))) {
            const struct kl_value *t = kl_get(s, KL_F_serviceAccountToken);
            if (t && kl_str_eq(kl_text(kl_get(t, KL_F_audience)), audience))
                return true;
        }
        if (kl_path(v, KL_F_ephemeral, KL_F_volumeClaimTemplate)) {
            struct kl_str p = kl_meta_name(pod), name = kl_text(kl_get(v, KL_F_name));
            driver = driver_of_claim(
                ad, kl_arena_printf(ad->r->arena, "%.*s-%.*s", KL_PRI(p), KL_PRI(name)));
        } else if (kl_get(v, KL_F_persistentVolumeClaim)) {
            driver = driver_of_claim(ad, kl_text_at(v, KL_F_persistentVolumeClaim, KL_F_claimName));
        } else {
            driver = kl_text_at(v, KL_F_csi, KL_F_driver);
        }
        if (driver_has(ad, driver, audience))
            return true;
    }
    return false;
}

static int check_audience(const struct node *n, const struct kl_value *pod)
{
    struct kl_admit *ad = n->ad;
    struct kl_req *r = ad->r;
    const struct kl_value *list = kl_path(ad->object, KL_F_spec, KL_F_audiences);
    struct kl_str audience = kl_text(kl_at(list, 0)), why;
    if (kl_len(list) > 1)
        return kl_admit_forbid(ad, "node may only request 0 or 1 audiences");
    if (pod_has_audience(ad, pod, audience))
        return 0;
    struct kl_attrs t = {.user = r->user,
                         .ask = &r->ask,
                         .verb = KL_STR("request-serviceaccounts-token-audience"),
                         .version = KL_STR("v1"),
                         .plural = audience,
                         .ns = ad->ns,
                         .name = ad->name,
                         .is_resource = true};
    if (kl_authorize(r->al, r->arena, &t, &why))
        return 0;
    return kl_admit_forbid(ad,
                           "audience \"%.*s\" not found in pod spec volume, %.*s is not authorized "
                           "to request tokens for this audience",
                           KL_PRI(audience), KL_PRI(r->user->name));
}

static int check_token(const struct node *n)
{
    struct kl_admit *ad = n->ad;
    if (ad->op != KL_ADMIT_CREATE || !kl_admit_sub(ad, "token"))
        return 0;
    const struct kl_value *ref = kl_path(ad->object, KL_F_spec, KL_F_boundObjectRef);
    struct kl_str name = kl_text(kl_get(ref, KL_F_name)), uid = kl_text(kl_get(ref, KL_F_uid));
    if (!kl_str_eqz(kl_text(kl_get(ref, KL_F_apiVersion)), "v1") ||
        !kl_str_eqz(kl_text(kl_get(ref, KL_F_kind)), "Pod") || !name.n)
        return kl_admit_forbid(ad, "node requested token not bound to a pod");
    if (!uid.n)
        return kl_admit_forbid(ad, "node requested token with a pod binding without a uid");
    struct kl_object *pod = find_pod(ad, name);
    if (!pod)
        return not_found(ad, "pods", name);
    struct kl_str is = kl_meta_uid(&pod->root);
    if (!kl_str_eq(uid, is))
        return kl_admit_forbid(ad,
                               "the UID in the bound object reference (%.*s) does not match the "
                               "UID in record. The object might have been deleted and then "
                               "recreated",
                               KL_PRI(uid));
    if (!runs_on(&pod->root, n->name))
        return kl_admit_forbid(ad,
                               "node requested token bound to a pod scheduled on a different node");
    return check_audience(n, &pod->root);
}

// ---- the rest

static int check_lease(const struct node *n)
{
    struct kl_admit *ad = n->ad;
    if (!kl_str_eqz(ad->ns, "kube-node-lease"))
        return kl_admit_forbid(
            ad, "can only access leases in the \"kube-node-lease\" system namespace");
    struct kl_str name = ad->op == KL_ADMIT_CREATE ? kl_meta_name(ad->object) : ad->name;
    if (!kl_str_eq(name, n->name))
        return kl_admit_forbid(
            ad, "can only access node lease with the same name as the requesting node");
    return 0;
}

static int check_csi_node(const struct node *n)
{
    struct kl_admit *ad = n->ad;
    struct kl_str name = ad->op == KL_ADMIT_CREATE ? kl_meta_name(ad->object) : ad->name;
    if (!kl_str_eq(name, n->name))
        return kl_admit_forbid(ad,
                               "can only access CSINode with the same name as the requesting node");
    return 0;
}

static int check_slice(const struct node *n)
{
    struct kl_admit *ad = n->ad;
    bool create = ad->op == KL_ADMIT_CREATE;
    if (!create && ad->op != KL_ADMIT_DELETE)
        return 0;
    if (kl_str_eq(kl_text_at(create ? ad->object : ad->old, KL_F_spec, KL_F_nodeName), n->name))
        return 0;
    return kl_admit_forbid(
        ad, "can only %s ResourceSlice with the same NodeName as the requesting node",
        create ? "create" : "delete");
}

static int check_signing_request(const struct node *n)
{
    struct kl_admit *ad = n->ad;
    struct kl_str signer = kl_text_at(ad->object, KL_F_spec, KL_F_signerName);
    struct kl_error err = {0};
    struct kl_csr csr;
    if (ad->op != KL_ADMIT_CREATE ||
        (!kl_str_eqz(signer, "kubernetes.io/kubelet-serving") &&
         !kl_str_eqz(signer, "kubernetes.io/kube-apiserver-client-kubelet")))
        return 0;
    if (kl_csr_parse(kl_text_at(ad->object, KL_F_spec, KL_F_request), &csr, &err))
        return kl_admit_forbid(ad, "unable to parse csr: %s", err.msg);
    bool own = kl_str_starts(csr.cn, KL_STR("system:node:")) &&
               kl_str_eq(kl_str_from(csr.cn, 12), n->name);
    kl_csr_fini(&csr);
    if (!own)
        return kl_admit_forbid(ad, "can only create a node CSR with CN=system:node:%.*s",
                               KL_PRI(n->name));
    return 0;
}

int kl_node_restriction_mutate(struct kl_admit *ad)
{
    static const struct {
        uint16_t res;
        int (*check)(const struct node *n);
    } rows[] = {{KL_RES_core_v1_pods, check_pod},
                {KL_RES_core_v1_nodes, check_node},
                {KL_RES_core_v1_persistentvolumeclaims, check_claim},
                {KL_RES_core_v1_serviceaccounts, check_token},
                {KL_RES_coordination_v1_leases, check_lease},
                {KL_RES_storage_v1_csinodes, check_csi_node},
                {KL_RES_resource_v1_resourceslices, check_slice},
                {KL_RES_certificates_v1_certificatesigningrequests, check_signing_request}};
    struct node n = {ad, kl_node_of_user(ad->r->user)};
    if (!n.name.p)
        return 0;
    if (!n.name.n)
        return kl_admit_forbid(ad, "could not determine node from user \"%.*s\"",
                               KL_PRI(ad->r->user->name));
    for (size_t i = 0; i < KL_COUNT(rows); i++)
        if (kl_admit_of(ad, rows[i].res))
            return rows[i].check(&n);
    return 0;
}
