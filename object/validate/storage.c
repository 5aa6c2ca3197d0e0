// SPDX-License-Identifier: Apache-2.0
// storage.k8s.io.
#include "object/validate/pod_int.h"

enum {
    PARAMETERS_MAX = 512,
    PARAMETERS_BYTES_MAX = 256 * 1024,
    ERROR_MAX = 1024,
    NODE_ID_MAX = 256,
};

static const char immutable[] = "field is immutable";

static size_t map_bytes(const struct kl_value *map)
{
    size_t size = 0;
    for (KL_MAP_EACH_KEY(kv, map))
        size += kl_text(kv).n + kl_text(kv + 1).n;
    return size;
}

static size_t map_entries(const struct kl_value *map)
{
    size_t n = 0;
    for (KL_MAP_EACH_KEY(kv, map))
        n++;
    return n;
}

static void check_provisioner(struct kl_v *c, struct kl_str s, const struct kl_vpath *p)
{
    if (!s.n) {
        kl_v_required(c, p, "");
        return;
    }
    char *low = kl_arena_alloc(c->f->arena, s.n);
    for (size_t i = 0; low && i < s.n; i++)
        low[i] = (char)(s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] + 32 : s.p[i]);
    if (low)
        kl_v_format(c, p, (struct kl_str){low, s.n}, KL_V_QUALIFIED);
}

static void check_provider_parameters(struct kl_v *c, bool may_be_empty)
{
    const struct kl_value *map = kl_get(c->now, KL_F_parameters);
    const struct kl_vpath *p = F(NULL, parameters);
    size_t n = map_entries(map);
    if (n > PARAMETERS_MAX) {
        kl_v_too_long(c, p, PARAMETERS_MAX);
        return;
    }
    for (KL_MAP_EACH_KEY(kv, map))
        if (!kl_text(kv).n)
            kl_v_invalid_str(c, p, KL_STR(""), "field can not be empty.");
    if (map_bytes(map) > PARAMETERS_BYTES_MAX)
        kl_v_too_long(c, p, PARAMETERS_BYTES_MAX);
    if (!n && !may_be_empty)
        kl_v_required(c, p, "must contain at least one key/value pair");
}

// ---- StorageClasses

static void check_topology_rule(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *values = kl_get(v, KL_F_values);
    if (!kl_len(values))
        kl_v_required(c, F(p, values), "");
    for (size_t i = 1; i < kl_len(values); i++)
        for (size_t k = 0; k < i; k++)
            if (kl_value_equal(kl_at(values, i), kl_at(values, k))) {
                kl_v_duplicate(c, I(F(p, values), i), kl_text(kl_at(values, i)));
                break;
            }
    kl_v_format(c, F(p, key), kl_text(kl_get(v, KL_F_key)), KL_V_QUALIFIED);
}

static void check_topologies(struct kl_v *c)
{
    const struct kl_value *terms = kl_get(c->now, KL_F_allowedTopologies);
    for (size_t i = 0; i < kl_len(terms); i++) {
        const struct kl_value *list = kl_get(kl_at(terms, i), KL_F_matchLabelExpressions);
        const struct kl_vpath *p = F(I(F(NULL, allowedTopologies), i), matchLabelExpressions);
        for (size_t k = 0; k < kl_len(list); k++) {
            struct kl_str key = kl_text(kl_get(kl_at(list, k), KL_F_key));
            check_topology_rule(c, kl_at(list, k), I(p, k));
            for (size_t j = 0; j < k; j++)
                if (kl_str_eq(kl_text(kl_get(kl_at(list, j), KL_F_key)), key)) {
                    kl_v_duplicate(c, F(I(p, k), key), key);
                    break;
                }
        }
        // Upstream compares with as many empty terms as there are terms.
        for (size_t k = 0; !kl_len(list) && k < kl_len(terms); k++)
            kl_v_duplicate(c, p, KL_STR(""));
        for (size_t k = 0; k < i; k++)
            if (kl_value_equal(list, kl_get(kl_at(terms, k), KL_F_matchLabelExpressions)))
                kl_v_duplicate(c, p, KL_STR(""));
    }
}

static void create_class(struct kl_v *c)
{
    static const char *const policies[] = {"Delete", "Retain", NULL};
    static const char *const modes[] = {"Immediate", "WaitForFirstConsumer", NULL};
    static const struct kl_rule rules[] = {R_PRESENT(volumeBindingMode, ""),
                                           R_ENUM(volumeBindingMode, modes), R_END};
    struct kl_str policy = kl_text(kl_get(c->now, KL_F_reclaimPolicy));
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_provisioner(c, kl_text(kl_get(c->now, KL_F_provisioner)), F(NULL, provisioner));
    check_provider_parameters(c, true);
    if (policy.n && !kl_v_in(policy, policies))
        kl_v_unsupported(c, F(NULL, reclaimPolicy), policy, policies);
    kl_v_walk(c, rules, c->now, NULL);
    check_topologies(c);
}

static void update_class(struct kl_v *c)
{
    static const kl_sym fixed[] = {KL_F_parameters, KL_F_provisioner, KL_F_reclaimPolicy,
                                   KL_F_volumeBindingMode};
    create_class(c);
    kl_v_meta_update(c);
    for (size_t i = 0; i < KL_COUNT(fixed); i++) {
        const struct kl_value *now = kl_get(c->now, fixed[i]);
        if (kl_value_equal(now, kl_get(c->old, fixed[i])))
            continue;
        if (fixed[i] == KL_F_provisioner)
            kl_v_invalid_str(c, FS(NULL, fixed[i]), kl_text(now), immutable);
        else
            kl_v_immutable(
                c, FS(NULL, fixed[i]),
                fixed[i] == KL_F_parameters
                    ? kl_type_field(kl_type(KL_TYPE_storage_v1_StorageClass), fixed[i])->type
                    : NULL,
                now, kl_get(c->old, fixed[i]), false);
    }
}

// ---- VolumeAttributesClasses

static void create_attributes(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_provisioner(c, kl_text(kl_get(c->now, KL_F_driverName)), F(NULL, driverName));
    check_provider_parameters(c, false);
}

static void update_attributes(struct kl_v *c)
{
    kl_v_meta_update(c);
    if (!kl_value_equal(kl_get(c->now, KL_F_driverName), kl_get(c->old, KL_F_driverName)))
        kl_v_forbidden(c, F(NULL, driverName), "updates to driverName are forbidden.");
    if (!kl_value_equal(kl_get(c->now, KL_F_parameters), kl_get(c->old, KL_F_parameters)))
        kl_v_forbidden(c, F(NULL, parameters), "updates to parameters are forbidden.");
    create_attributes(c);
}

// ---- CSIDrivers

static void check_token_requests(struct kl_v *c, const struct kl_value *list,
                                 const struct kl_vpath *p)
{
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *v = kl_at(list, i), *seconds = kl_get(v, KL_F_expirationSeconds);
        struct kl_str audience = kl_text(kl_get(v, KL_F_audience));
        bool seen = false;
        for (size_t k = 0; k < i; k++)
            seen |= kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_audience)), audience);
        if (seen)
            kl_v_duplicate(c, F(I(p, i), audience), audience);
        else if (seconds && kl_int_or(seconds, 0) < 600)
            kl_v_invalid(c, F(I(p, i), expirationSeconds), seconds,
                         "may not specify a duration less than 10 minutes");
        else if (seconds && kl_int_or(seconds, 0) > INT64_C(1) << 32)
            kl_v_invalid(c, F(I(p, i), expirationSeconds), seconds,
                         "may not specify a duration larger than 2^32 seconds");
    }
}

static void check_driver(struct kl_v *c)
{
    static const char *const groups[] = {"File", "None", "ReadWriteOnceWithFSType", NULL};
    static const char *const modes[] = {"Persistent", "Ephemeral", NULL};
    static const struct kl_rule rules[] = {R_PRESENT(podInfoOnMount, ""),
                                           R_PRESENT(storageCapacity, ""),
                                           R_ENUM(fsGroupPolicy, groups), R_END};
    static const struct kl_rule mount[] = {R_PRESENT(seLinuxMount, ""), R_END};
    const struct kl_value *spec = kl_v_spec(c), *tokens = kl_get(spec, KL_F_tokenRequests);
    const struct kl_value *period = kl_get(spec, KL_F_nodeAllocatableUpdatePeriodSeconds);
    const struct kl_value *in_secrets = kl_get(spec, KL_F_serviceAccountTokenInSecrets);
    const struct kl_vpath *p = &c->spec;
    if (!kl_get(spec, KL_F_attachRequired))
        kl_v_required(c, N(p, "attachedRequired"), "");
    kl_v_walk(c, rules, spec, p);
    check_token_requests(c, tokens, F(p, tokenRequests));
    for (KL_EACH(mode, kl_get(spec, KL_F_volumeLifecycleModes)))
        if (!kl_v_in(kl_text(mode), modes))
            kl_v_unsupported(c, F(p, volumeLifecycleModes), kl_text(mode), modes);
    kl_v_walk(c, mount, spec, p);
    if (period && kl_int_or(period, 0) < 10)
        kl_v_invalid(c, F(p, nodeAllocatableUpdatePeriodSeconds), period,
                     "must be greater than or equal to 10 seconds");
    if (in_secrets && !kl_len(tokens))
        kl_v_invalid(c, F(p, serviceAccountTokenInSecrets), in_secrets,
                     "serviceAccountTokenInSecrets is set but no tokenRequests are specified");
}

static void create_driver(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_driver(c);
}

static void update_driver(struct kl_v *c)
{
    const struct kl_value *now = kl_v_spec(c), *old = kl_v_old_spec(c);
    kl_v_meta_update(c);
    check_driver(c);
    kl_v_immutable(c, N(&c->spec, "attachedRequired"), NULL, kl_get(now, KL_F_attachRequired),
                   kl_get(old, KL_F_attachRequired), false);
    kl_v_immutable(c, F(&c->spec, volumeLifecycleModes), NULL,
                   kl_get(now, KL_F_volumeLifecycleModes), kl_get(old, KL_F_volumeLifecycleModes),
                   false);
}

// ---- CSIStorageCapacities

static void create_capacity(struct kl_v *c)
{
    static const struct kl_rule rules[] = {R_SELECTOR(nodeTopology), R_END};
    const struct kl_value *q = kl_get(c->now, KL_F_capacity);
    kl_v_meta(c, KL_V_SUBDOMAIN);
    kl_v_walk(c, rules, c->now, NULL);
    kl_v_format(c, F(NULL, storageClassName), kl_text(kl_get(c->now, KL_F_storageClassName)),
                KL_V_SUBDOMAIN);
    if (q && kl_v_compare(q, NULL) < 0)
        kl_v_invalid_str(c, F(NULL, capacity), kl_text(q), "must be greater than or equal to 0");
}

static void update_capacity(struct kl_v *c)
{
    struct kl_str class = kl_text(kl_get(c->now, KL_F_storageClassName));
    create_capacity(c);
    kl_v_meta_update(c);
    kl_v_immutable(c, F(NULL, nodeTopology), kl_type(KL_TYPE_meta_v1_LabelSelector),
                   kl_get(c->now, KL_F_nodeTopology), kl_get(c->old, KL_F_nodeTopology), false);
    if (!kl_str_eq(class, kl_text(kl_get(c->old, KL_F_storageClassName))))
        kl_v_invalid_str(c, F(NULL, storageClassName), class, immutable);
}

// ---- VolumeAttachments

static void check_volume_error(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *code = kl_get(v, KL_F_errorCode);
    if (kl_text(kl_get(v, KL_F_message)).n > ERROR_MAX)
        kl_v_too_long(c, F(p, message), PARAMETERS_BYTES_MAX); // sic
    if (code && kl_int_or(code, 0) < 0)
        kl_v_invalid(c, F(p, errorCode), code, "must be between 0 and 2147483647, inclusive");
}

static void create_attachment(struct kl_v *c)
{
    static const struct kl_rule errors[] = {R_ON(attachError, check_volume_error),
                                            R_ON(detachError, check_volume_error), R_END};
    static const char one[] =
        "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    const struct kl_value *spec = kl_v_spec(c), *source = kl_get(spec, KL_F_source);
    const struct kl_value *status = kl_get(c->now, KL_F_status);
    const struct kl_value *in_line = kl_get(source, KL_F_inlineVolumeSpec);
    const struct kl_value *name = kl_get(source, KL_F_persistentVolumeName);
    const struct kl_vpath *p = F(&c->spec, source);
    kl_v_meta(c, KL_V_SUBDOMAIN);
    kl_v_driver_name(c, kl_get(spec, KL_F_attacher), F(&c->spec, attacher));
    if (!in_line && !name)
        kl_v_required(c, p, one);
    else if (in_line && name)
        kl_v_forbidden(c, p, one);
    else if (in_line)
        kl_v_volume_spec(c, in_line, F(p, inlineVolumeSpec), true);
    else if (!kl_text(name).n)
        kl_v_required(c, F(p, persistentVolumeName), "must specify non empty persistentVolumeName");
    kl_v_format(c, F(&c->spec, nodeName), kl_text(kl_get(spec, KL_F_nodeName)), KL_V_SUBDOMAIN);
    if (map_bytes(kl_get(status, KL_F_attachmentMetadata)) > PARAMETERS_BYTES_MAX)
        kl_v_too_long(c, F(&c->status, attachmentMetadata), PARAMETERS_BYTES_MAX);
    kl_v_walk(c, errors, status, &c->status);
    if (name)
        kl_v_format(c, F(p, persistentVolumeName), kl_text(name), KL_V_SUBDOMAIN);
}

static void update_attachment(struct kl_v *c)
{
    create_attachment(c);
    kl_v_immutable(c, &c->spec, kl_type(KL_TYPE_storage_v1_VolumeAttachmentSpec),
                   kl_v_or_empty(kl_v_spec(c)), kl_v_old_spec(c), true);
}

// ---- CSINodes

static void check_node_driver(struct kl_v *c, const struct kl_value *list, size_t i,
                              const struct kl_vpath *p)
{
    static const struct kl_rule count[] = {R_NONNEG(count), R_END};
    static const struct kl_rule rules[] = {R_SUB(allocatable, count), R_END};
    const struct kl_value *v = kl_at(list, i), *keys = kl_get(v, KL_F_topologyKeys);
    struct kl_str id = kl_text(kl_get(v, KL_F_nodeID)), name = kl_text(kl_get(v, KL_F_name));
    kl_v_driver_name(c, kl_get(v, KL_F_name), F(p, name));
    if (!id.n)
        kl_v_required(c, F(p, nodeID), "");
    if (id.n > NODE_ID_MAX)
        kl_v_invalid_str(c, F(p, nodeID), id, "must be 256 characters or less");
    kl_v_walk(c, rules, v, p);
    for (size_t k = 0; k < i; k++)
        if (kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_name)), name)) {
            kl_v_duplicate(c, F(p, name), name);
            break;
        }
    for (size_t k = 0; k < kl_len(keys); k++) {
        struct kl_str key = kl_text(kl_at(keys, k));
        bool seen = false;
        if (!key.n)
            kl_v_required(c, p, "");
        for (size_t j = 0; j < k; j++)
            seen |= kl_value_equal(kl_at(keys, j), kl_at(keys, k));
        if (seen)
            kl_v_duplicate(c, p, key);
        kl_v_format(c, p, key, KL_V_QUALIFIED);
    }
}

static void create_csi_node(struct kl_v *c)
{
    const struct kl_value *list = kl_get(kl_v_spec(c), KL_F_drivers);
    kl_v_meta(c, KL_V_SUBDOMAIN);
    for (size_t i = 0; i < kl_len(list); i++)
        check_node_driver(c, list, i, I(F(&c->spec, drivers), i));
}

static bool same_driver(const struct kl_value *a, const struct kl_value *b)
{
    static const kl_sym fixed[] = {KL_F_nodeID, KL_F_topologyKeys};
    for (size_t i = 0; i < KL_COUNT(fixed); i++)
        if (!kl_value_equal(kl_get(a, fixed[i]), kl_get(b, fixed[i])))
            return false;
    return true;
}

// Of a driver that stays only what is allocatable may change.
static void update_csi_node(struct kl_v *c)
{
    create_csi_node(c);
    for (KL_EACH(old, kl_get(kl_v_old_spec(c), KL_F_drivers)))
        for (KL_EACH(now, kl_get(kl_v_spec(c), KL_F_drivers))) {
            struct kl_value shown = *now;
            if (!kl_str_eq(kl_text(kl_get(old, KL_F_name)), kl_text(kl_get(now, KL_F_name))) ||
                same_driver(now, old))
                continue;
            shown.owned = 0;
            kl_unset(c->f->arena, &shown, KL_F_allocatable);
            kl_v_invalid_json(c, F(&c->spec, drivers), kl_type(KL_TYPE_storage_v1_CSINodeDriver),
                              &shown, true, immutable);
        }
}

const struct kl_v_kind kl_v_storage[] = {
    {KL_RES_storage_v1_csinodes, create_csi_node, update_csi_node, NULL, NULL, NULL},
    {KL_RES_storage_v1_storageclasses, create_class, update_class, NULL, NULL, NULL},
    {KL_RES_storage_v1_volumeattributesclasses, create_attributes, update_attributes, NULL, NULL,
     NULL},
    {KL_RES_storage_v1_csidrivers, create_driver, update_driver, NULL, NULL, NULL},
    {KL_RES_storage_v1_csistoragecapacities, create_capacity, update_capacity, NULL, NULL, NULL},
    {KL_RES_storage_v1_volumeattachments, create_attachment, update_attachment, kl_v_meta_update,
     NULL, NULL},
    {0},
};
