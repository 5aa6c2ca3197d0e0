// SPDX-License-Identifier: Apache-2.0
// PersistentVolumes and PersistentVolumeClaims.
#include "object/validate/pod_int.h"

static const char *const modes[] = {"Block", "Filesystem", NULL};

static void need_names(struct kl_v *c, const struct kl_value *ref, const struct kl_vpath *p)
{
    if (!kl_text(kl_get(ref, KL_F_name)).n)
        kl_v_required(c, F(p, name), "");
    if (!kl_text(kl_get(ref, KL_F_namespace)).n)
        kl_v_required(c, F(p, namespace), "");
}

static void check_iscsi(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    kl_v_iscsi(c, v, p, true);
}

static void check_endpoints_ns(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    if (!kl_text(v).n)
        kl_v_invalid_str(c, p, KL_STR(""),
                         "if the endpointnamespace is set, it must be a valid namespace name");
    else
        kl_v_format(c, p, kl_text(v), KL_V_LABEL);
}

static void need_text(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    if (!kl_text(v).n)
        kl_v_required(c, p, "");
}

static void check_local(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str path = kl_text(kl_get(v, KL_F_path));
    if (!path.n)
        kl_v_required(c, F(p, path), "");
    else
        kl_v_no_backsteps(c, F(p, path), path);
}

static const struct kl_rule secret_rules[] = {R_NAME(name, KL_V_SUBDOMAIN),
                                              R_NAME(namespace, KL_V_LABEL), R_END};

static void check_csi(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    static const struct kl_rule rules[] = {R_REQUIRED(volumeHandle, ""),
                                           R_SUB(controllerPublishSecretRef, secret_rules),
                                           R_SUB(controllerExpandSecretRef, secret_rules),
                                           R_SUB(nodePublishSecretRef, secret_rules),
                                           R_SUB(nodeExpandSecretRef, secret_rules),
                                           R_END};
    kl_v_driver_name(c, kl_get(v, KL_F_driver), F(p, driver));
    kl_v_walk(c, rules, v, p);
}

static const struct kl_rule glusterfs[] = {R_REQUIRED(endpoints, ""), R_REQUIRED(path, ""),
                                           R_ON(endpointsNamespace, check_endpoints_ns), R_END};
static const struct kl_rule iscsi[] = {R_CALL(check_iscsi), R_END};
static const struct kl_rule cinder[] = {R_REQUIRED(volumeID, ""), R_ON(secretRef, need_names),
                                        R_END};
static const struct kl_rule azure_file[] = {R_REQUIRED(secretName, ""), R_REQUIRED(shareName, ""),
                                            R_ON(secretNamespace, need_text), R_END};
static const struct kl_rule local[] = {R_CALL(check_local), R_END};
static const struct kl_rule storage_os[] = {R_NAME(volumeName, KL_V_LABEL),
                                            R_FORMAT(volumeNamespace, KL_V_LABEL),
                                            R_ON(secretRef, need_names), R_END};
static const struct kl_rule csi[] = {R_CALL(check_csi), R_END};

static const struct source {
    kl_sym sym;
    const struct kl_rule *rules; // NULL: a pod's
    const char *path, *refused;
} sources[] = {
    {KL_F_hostPath, NULL, NULL, NULL},
    {KL_F_gcePersistentDisk, NULL, "persistentDisk", NULL},
    {KL_F_awsElasticBlockStore, NULL, NULL, NULL},
    {KL_F_glusterfs, glusterfs, NULL, NULL},
    {KL_F_flocker, NULL, NULL, NULL},
    {KL_F_nfs, NULL, NULL, NULL},
    {KL_F_rbd, NULL, NULL, NULL},
    {KL_F_quobyte, NULL, NULL, NULL},
    {KL_F_cephfs, NULL, NULL, "cephFS"},
    {KL_F_iscsi, iscsi, NULL, NULL},
    {KL_F_cinder, cinder, NULL, NULL},
    {KL_F_fc, NULL, NULL, NULL},
    {KL_F_flexVolume, NULL, NULL, NULL},
    {KL_F_azureFile, azure_file, NULL, NULL},
    {KL_F_vsphereVolume, NULL, NULL, NULL},
    {KL_F_photonPersistentDisk, NULL, NULL, NULL},
    {KL_F_portworxVolume, NULL, NULL, NULL},
    {KL_F_azureDisk, NULL, NULL, NULL},
    {KL_F_scaleIO, NULL, NULL, NULL},
    {KL_F_local, local, NULL, NULL},
    {KL_F_storageos, storage_os, NULL, NULL},
    {KL_F_csi, csi, NULL, NULL},
};

static void check_sources(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p,
                          bool inline_volume)
{
    size_t n = 0;
    for (size_t i = 0; i < KL_COUNT(sources); i++) {
        const struct source *s = &sources[i];
        const struct kl_value *m = kl_get(spec, s->sym);
        if (!m)
            continue;
        if (n && s->sym != KL_F_flexVolume) {
            kl_v_forbidden(c, s->refused ? N(p, s->refused) : FS(p, s->sym),
                           "may not specify more than 1 volume type");
            continue;
        }
        n++;
        kl_v_walk(c, s->rules ? s->rules : kl_v_volume_rules(s->sym), m,
                  s->path ? N(p, s->path) : FS(p, s->sym));
        if (s->sym == KL_F_local && (inline_volume || !kl_get(spec, KL_F_nodeAffinity)))
            kl_v_required(c, F(p, nodeAffinity), "Local volume requires node affinity");
    }
    if (!n)
        kl_v_required(c, p, "must specify a volume type");
}

static void check_capacity(struct kl_v *c, const struct kl_value *capacity,
                           const struct kl_vpath *p)
{
    static const char *const storage[] = {"storage", NULL};
    if (!kl_len(capacity))
        kl_v_required(c, p, "");
    if (!kl_map_value(capacity, KL_STR("storage")) || kl_len(capacity) > 1)
        kl_v_unsupported_text(c, p, kl_v_json(c, NULL, capacity, false), storage);
    for (KL_MAP_EACH_KEY(kv, capacity)) {
        struct kl_quantity q = {0};
        (void)kl_quantity_parse(kl_text(kv + 1), &q, NULL);
        if (kl_quantity_value(&q) < 0)
            kl_v_invalid_int(c, K(p, kl_text(kv)), kl_quantity_value(&q),
                             "must be a valid resource quantity");
        kl_v_positive_quantity(c, kv + 1, K(p, kl_text(kv)));
    }
}

static bool is_root(struct kl_str path)
{
    for (size_t i = 0; i < path.n; i++)
        if (path.p[i] != '/' && path.p[i] != '.')
            return false;
    return path.n && path.p[0] == '/';
}

// ValidatePersistentVolumeSpec; inline in a VolumeAttachment it may say less.
void kl_v_volume_spec(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p,
                      bool in_line)
{
    static const char *const policies[] = {"Delete", "Recycle", "Retain", NULL};
    static const char where[] = "may not be specified in the context of inline volumes";
    struct kl_str policy = kl_text(kl_get(spec, KL_F_persistentVolumeReclaimPolicy));
    struct kl_str class = kl_text(kl_get(spec, KL_F_storageClassName));
    const struct kl_value *affinity = kl_get(spec, KL_F_nodeAffinity);
    const struct kl_value *mode = kl_get(spec, KL_F_volumeMode);
    const struct kl_value *attrs = kl_get(spec, KL_F_volumeAttributesClassName);
    if (in_line) {
        if (kl_get(spec, KL_F_claimRef))
            kl_v_forbidden(c, F(p, claimRef), where);
        if (kl_len(kl_get(spec, KL_F_capacity)))
            kl_v_forbidden(c, F(p, capacity), where);
        if (!kl_get(spec, KL_F_csi))
            kl_v_required(c, F(p, csi), "has to be specified in the context of inline volumes");
    }
    if (!kl_len(kl_get(spec, KL_F_accessModes)))
        kl_v_required(c, F(p, accessModes), "");
    kl_v_access_modes(c, kl_get(spec, KL_F_accessModes), F(p, accessModes));
    if (!in_line)
        check_capacity(c, kl_get(spec, KL_F_capacity), F(p, capacity));
    if (policy.n && in_line && !kl_str_eqz(policy, "Retain"))
        kl_v_forbidden(c, F(p, persistentVolumeReclaimPolicy),
                       "may only be Retain in the context of inline volumes");
    else if (policy.n && !in_line && !kl_v_in(policy, policies))
        kl_v_unsupported(c, F(p, persistentVolumeReclaimPolicy), policy, policies);
    if (affinity && in_line)
        kl_v_forbidden(c, F(p, nodeAffinity), where);
    else if (affinity && kl_get(affinity, KL_F_required))
        kl_v_node_selector(c, kl_get(affinity, KL_F_required), F(F(p, nodeAffinity), required));
    else if (affinity)
        kl_v_required(c, F(F(p, nodeAffinity), required), "must specify required node constraints");
    check_sources(c, spec, p, in_line);
    if (is_root(kl_text_at(spec, KL_F_hostPath, KL_F_path)) && kl_str_eqz(policy, "Recycle"))
        kl_v_forbidden(c, F(p, persistentVolumeReclaimPolicy),
                       "may not be 'recycle' for a hostPath mount of '/'");
    if (class.n && in_line)
        kl_v_forbidden(c, F(p, storageClassName), where);
    else if (class.n)
        kl_v_format(c, F(p, storageClassName), class, KL_V_SUBDOMAIN);
    if (mode && in_line && !kl_str_eqz(kl_text(mode), "Filesystem"))
        kl_v_forbidden(c, F(p, volumeMode),
                       "may not specify volumeMode other than Filesystem in the context of inline "
                       "volumes");
    else if (mode && !in_line && !kl_v_in(kl_text(mode), modes))
        kl_v_unsupported(c, F(p, volumeMode), kl_text(mode), modes);
    if (!attrs)
        return;
    if (!kl_text(attrs).n)
        kl_v_required(c, F(p, volumeAttributesClassName), "an empty string is disallowed");
    else
        kl_v_format(c, F(p, volumeAttributesClassName), kl_text(attrs), KL_V_SUBDOMAIN);
    if (!kl_get(spec, KL_F_csi))
        kl_v_required(c, F(p, csi), "has to be specified when using volumeAttributesClassName");
}

static void create_volume(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    kl_v_volume_spec(c, kl_v_spec(c), &c->spec, false);
}

// A secret to expand with may come later.
static bool same_csi(const struct kl_value *now, const struct kl_value *old)
{
    bool late = now && old && !kl_get(old, KL_F_controllerExpandSecretRef);
    if (!now || !old)
        return kl_value_equal(now, old);
    for (KL_EACH(x, now))
        if (!(late && x->sym == KL_F_controllerExpandSecretRef) &&
            !kl_value_equal(x, kl_get(old, x->sym)))
            return false;
    for (KL_EACH(y, old))
        if (!kl_get(now, y->sym))
            return false;
    return true;
}

// The one change of a requirement that is none: from a label of old to its successor. A key of
// old that is no such label may become empty, as there.
static bool same_requirement(const struct kl_value *now, const struct kl_value *old)
{
    static const struct {
        const char *old, *now;
    } labels[] = {
        {"failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"},
        {"failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"},
        {"beta.kubernetes.io/os", "kubernetes.io/os"},
        {"beta.kubernetes.io/arch", "kubernetes.io/arch"},
        {"beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"},
    };
    struct kl_str key = kl_text(kl_get(now, KL_F_key)), was = kl_text(kl_get(old, KL_F_key));
    const char *successor = "";
    for (size_t i = 0; i < KL_COUNT(labels); i++)
        if (kl_str_eqz(was, labels[i].old))
            successor = labels[i].now;
    return (kl_str_eq(key, was) || kl_str_eqz(key, successor)) &&
           kl_value_equal(kl_get(now, KL_F_operator), kl_get(old, KL_F_operator)) &&
           kl_value_equal(kl_get(now, KL_F_values), kl_get(old, KL_F_values));
}

static bool same_affinity(const struct kl_value *now, const struct kl_value *old)
{
    static const kl_sym lists[] = {KL_F_matchExpressions, KL_F_matchFields};
    const struct kl_value *a = kl_path(now, KL_F_required, KL_F_nodeSelectorTerms);
    const struct kl_value *b = kl_path(old, KL_F_required, KL_F_nodeSelectorTerms);
    if (!now || !kl_get(now, KL_F_required) != !kl_get(old, KL_F_required) ||
        kl_len(a) != kl_len(b))
        return false;
    for (size_t i = 0; i < kl_len(a); i++)
        for (size_t l = 0; l < KL_COUNT(lists); l++) {
            const struct kl_value *x = kl_get(kl_at(a, i), lists[l]);
            const struct kl_value *y = kl_get(kl_at(b, i), lists[l]);
            if (kl_len(x) != kl_len(y))
                return false;
            for (size_t k = 0; k < kl_len(x); k++)
                if (!same_requirement(kl_at(x, k), kl_at(y, k)))
                    return false;
        }
    return true;
}

static void update_volume(struct kl_v *c)
{
    const struct kl_value *now = kl_v_spec(c), *old = kl_v_old_spec(c);
    const struct kl_value *affinity = kl_get(old, KL_F_nodeAffinity);
    const struct kl_value *attrs = kl_get(now, KL_F_volumeAttributesClassName);
    create_volume(c);
    create_volume(c);
    bool same = true;
    for (size_t i = 0; i < KL_COUNT(sources); i++) {
        const struct kl_value *a = kl_get(now, sources[i].sym), *b = kl_get(old, sources[i].sym);
        same &= sources[i].sym == KL_F_csi ? same_csi(a, b) : kl_value_equal(a, b);
    }
    if (!same)
        kl_v_forbidden(c, N(&c->spec, "persistentvolumesource"),
                       "spec.persistentvolumesource is immutable after creation\n");
    kl_v_immutable(c, F(NULL, volumeMode), NULL, kl_get(now, KL_F_volumeMode),
                   kl_get(old, KL_F_volumeMode), false);
    if (affinity && !same_affinity(kl_get(now, KL_F_nodeAffinity), affinity))
        kl_v_invalid_json(c, F(NULL, nodeAffinity), kl_type(KL_TYPE_core_v1_VolumeNodeAffinity),
                          kl_get(now, KL_F_nodeAffinity), true,
                          "field is immutable, except for updating from beta label to GA");
    if (!attrs && kl_get(old, KL_F_volumeAttributesClassName))
        kl_v_forbidden(c, F(&c->spec, volumeAttributesClassName),
                       "update from non-nil value to nil is forbidden");
}

static void status_volume(struct kl_v *c)
{
    kl_v_meta_update(c);
    if (!kl_meta_rv(c->now).n)
        kl_v_required(c, F(NULL, resourceVersion), "");
}

// ---- claims

static bool allows_bad_group(const struct kl_value *spec)
{
    return kl_path(spec, KL_F_dataSource, KL_F_apiGroup) ||
           kl_path(spec, KL_F_dataSourceRef, KL_F_apiGroup);
}

static void create_claim(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    kl_v_claim_spec(c, kl_v_spec(c), &c->spec, c->old && allows_bad_group(kl_v_old_spec(c)));
}

static const struct kl_value *asked_storage(const struct kl_value *spec)
{
    return kl_map_value(kl_path(spec, KL_F_resources, KL_F_requests), KL_STR("storage"));
}

// Of a bound claim the size and the class of attributes may change; its volume's name is set once.
static bool same_claim(const struct kl_v *c, const struct kl_value *now, const struct kl_value *old,
                       bool bound)
{
    static const char beta[] = "volume.beta.kubernetes.io/storage-class";
    const struct kl_value *was = kl_map_value(kl_meta_annotations(c->old), kl_str(beta));
    const struct kl_value *class = kl_get(now, KL_F_storageClassName);
    const struct kl_type *t = kl_type(KL_TYPE_core_v1_PersistentVolumeClaimSpec);
    for (uint16_t i = 0; i < t->nfields; i++) {
        kl_sym f = t->fields[i].sym;
        const struct kl_value *a = kl_get(now, f), *b = kl_get(old, f);
        if (kl_value_equal(a, b) || (f == KL_F_volumeAttributesClassName && bound) ||
            (f == KL_F_volumeName && !kl_text(b).n) ||
            (f == KL_F_storageClassName && class && !b &&
             (!was || kl_str_eq(kl_text(was), kl_text(class)))))
            continue;
        if (f != KL_F_resources || !bound)
            return false;
        const struct kl_value *x = kl_get(a, KL_F_requests), *y = kl_get(b, KL_F_requests);
        if (!x || kl_len(x) != kl_len(y) ||
            !kl_value_equal(kl_get(a, KL_F_limits), kl_get(b, KL_F_limits)))
            return false;
        for (KL_MAP_EACH_KEY(kv, x))
            if (!kl_str_eqz(kl_text(kv), "storage") &&
                !kl_value_equal(kv + 1, kl_map_value(y, kl_text(kv))))
                return false;
    }
    return true;
}

static void update_claim(struct kl_v *c)
{
    static const char beta[] = "volume.beta.kubernetes.io/storage-class";
    const struct kl_value *now = kl_v_spec(c), *old = kl_v_old_spec(c);
    const struct kl_value *a = kl_map_value(kl_meta_annotations(c->now), kl_str(beta));
    const struct kl_value *b = kl_map_value(kl_meta_annotations(c->old), kl_str(beta));
    const struct kl_value *status =
        kl_map_value(kl_path(c->old, KL_F_status, KL_F_capacity), KL_STR("storage"));
    const struct kl_value *attrs = kl_get(now, KL_F_volumeAttributesClassName);
    const struct kl_vpath *ap = F(&c->spec, volumeAttributesClassName);
    bool bound = kl_str_eqz(kl_text_at(c->now, KL_F_status, KL_F_phase), "Bound");
    kl_v_meta_update(c);
    create_claim(c);
    if (!kl_str_eq(kl_text(a), kl_text(b)))
        kl_v_invalid_str(c, N(F(&c->meta, annotations), beta), kl_text(a), "field is immutable");
    if (!same_claim(c, now, old, bound))
        kl_v_forbidden(c, &c->spec,
                       "spec is immutable after creation except resources.requests and "
                       "volumeAttributesClassName for bound claims\n");
    if (kl_v_compare(asked_storage(now), asked_storage(old)) < 0 &&
        kl_v_compare(asked_storage(now), status) <= 0)
        kl_v_forbidden(c, N(F(F(&c->spec, resources), requests), "storage"),
                       "field can not be less than status.capacity");
    kl_v_immutable(c, F(NULL, volumeMode), NULL, kl_get(now, KL_F_volumeMode),
                   kl_get(old, KL_F_volumeMode), false);
    if (!kl_path(c->old, KL_F_status, KL_F_currentVolumeAttributesClassName) ||
        kl_value_equal(attrs, kl_get(old, KL_F_volumeAttributesClassName)))
        return;
    if (!attrs)
        kl_v_forbidden(c, ap,
                       "update to nil is forbidden when status.currentVolumeAttributesClassName "
                       "is not nil");
    else if (!kl_text(attrs).n)
        kl_v_forbidden(c, ap,
                       "update to empty string is forbidden when "
                       "status.currentVolumeAttributesClassName is not nil");
}

static bool claim_key(struct kl_v *c, struct kl_str key, const struct kl_vpath *p)
{
    static const char *const storage[] = {"storage", NULL};
    if (!kl_v_format(c, p, key, KL_V_QUALIFIED))
        return false;
    if (!kl_v_is_native(key) || kl_str_eqz(key, "storage"))
        return true;
    kl_v_unsupported(c, p, key, storage);
    return false;
}

static bool basic(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_quantity q = {0};
    (void)kl_quantity_parse(kl_text(v), &q, NULL);
    if (kl_quantity_value(&q) >= 0)
        return true;
    kl_v_invalid_int(c, p, kl_quantity_value(&q), "must be a valid resource quantity");
    return false;
}

static void status_claim(struct kl_v *c)
{
    static const char *const states[] = {"ControllerResizeInProgress", "ControllerResizeInfeasible",
                                         "NodeResizeInProgress",       "NodeResizeInfeasible",
                                         "NodeResizePending",          NULL};
    const struct kl_value *status = kl_get(c->now, KL_F_status);
    const struct kl_vpath *p = &c->status;
    kl_v_meta_update(c);
    if (!kl_meta_rv(c->now).n)
        kl_v_required(c, F(NULL, resourceVersion), "");
    if (!kl_len(kl_get(kl_v_spec(c), KL_F_accessModes)))
        kl_v_required(c, F(N(NULL, "Spec"), accessModes), "");
    for (KL_MAP_EACH_KEY(kv, kl_get(status, KL_F_capacity)))
        basic(c, kv + 1, K(F(p, capacity), kl_text(kv)));
    for (KL_MAP_EACH_KEY(kv, kl_get(status, KL_F_allocatedResourceStatuses))) {
        claim_key(c, kl_text(kv), F(p, allocatedResourceStatuses));
        if (!kl_v_in(kl_text(kv + 1), states))
            kl_v_unsupported(c, F(p, allocatedResourceStatuses), kl_text(kv), states);
    }
    for (KL_MAP_EACH_KEY(kv, kl_get(status, KL_F_allocatedResources)))
        if (claim_key(c, kl_text(kv), F(p, allocatedResources)))
            basic(c, kv + 1, K(F(p, allocatedResources), kl_text(kv)));
}

const struct kl_v_kind kl_v_volume_kinds[] = {
    {KL_RES_core_v1_persistentvolumes, create_volume, update_volume, status_volume, NULL, NULL},
    {KL_RES_core_v1_persistentvolumeclaims, create_claim, update_claim, status_claim, NULL, NULL},
    {0},
};
