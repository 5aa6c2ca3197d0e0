// SPDX-License-Identifier: Apache-2.0
// Warnings of nodes, secrets, accounts, storage, devices and admission, and what several kinds are
// warned of alike. Most say the same on create and on update.
#include "object/validate/warn_int.h"

// ---- labels of nodes

static const struct {
    const char *key, *text;
} old_labels[] = {
    {"beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"},
    {"beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"},
    {"failure-domain.beta.kubernetes.io/region",
     "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"},
    {"failure-domain.beta.kubernetes.io/zone",
     "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"},
    {"beta.kubernetes.io/instance-type",
     "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"},
    {"app.kubernetes.io/created-by", "deprecated since v1.9"},
    {"scheduler.alpha.kubernetes.io/preferAvoidPods",
     "deprecated since v1.22; use Taints and Tolerations instead"},
    {"node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"},
};

const char *kl_warn_node_label(struct kl_str key)
{
    for (size_t i = 0; i < KL_COUNT(old_labels); i++)
        if (kl_str_eqz(key, old_labels[i].key))
            return old_labels[i].text;
    return NULL;
}

static void warn_values(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    const char *why[KL_V_MESSAGES];
    size_t i = 0;
    for (KL_EACH(x, list)) {
        size_t n = kl_v_messages(KL_V_LABEL_VALUE, kl_text(x), why);
        for (size_t k = 0; k < n; k++)
            kl_warn(c, I(p, i), "%.*s is invalid, %s", KL_PRI(kl_text(x)), why[k]);
        i++;
    }
}

void kl_warn_node_term(struct kl_v *c, const struct kl_value *term, bool check_values,
                       const struct kl_vpath *p)
{
    size_t i = 0;
    for (KL_EACH(x, kl_get(term, KL_F_matchExpressions))) {
        const struct kl_vpath *at = I(F(p, matchExpressions), i++);
        struct kl_str key = kl_text(kl_get(x, KL_F_key));
        const char *text = kl_warn_node_label(key);
        if (text)
            kl_warn(c, F(at, key), "%.*s is %s", KL_PRI(key), text);
        if (check_values)
            warn_values(c, kl_get(x, KL_F_values), F(at, values));
    }
}

// ---- bytes

void kl_warn_fraction(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_str s = kl_text(v);
    // A fraction is written with one of these, in canonical form as well.
    bool may = false;
    for (size_t i = 0; i < s.n && !may; i++)
        may = s.p[i] == '.' || s.p[i] == 'm' || s.p[i] == 'u' || s.p[i] == 'n' || s.p[i] == '-';
    if (may && kl_quantity_milli_of(s) % 1000)
        kl_warn(c, p, "fractional byte value %.*s is invalid, must be an integer",
                KL_PRI(kl_v_quoted(c, s)));
}

void kl_warn_claim_spec(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p)
{
    static const kl_sym lists[] = {KL_F_requests, KL_F_limits};
    for (size_t l = 0; l < KL_COUNT(lists); l++)
        kl_warn_fraction(c,
                         kl_map_value(kl_path(spec, KL_F_resources, lists[l]), KL_STR("storage")),
                         K(FS(F(p, resources), lists[l]), KL_STR("storage")));
}

// ---- nodes

static void warn_node(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c);
    size_t i = 0;
    if (kl_get(spec, KL_F_configSource))
        kl_warn(c, F(&c->spec, configSource), "the feature is removed");
    if (kl_text(kl_get(spec, KL_F_externalID)).n)
        kl_warn(c, F(&c->spec, externalID),
                "this field is deprecated, and is unused by Kubernetes");
    for (KL_EACH(x, kl_get(spec, KL_F_podCIDRs)))
        kl_warn_cidr(c, I(F(&c->spec, podCIDRs), i++), kl_text(x));
}

const struct kl_warn_kind kl_warn_nodes = {.both = warn_node};

// ---- secrets: a certificate and a key that do not belong together

static void warn_secret(struct kl_v *c)
{
    const struct kl_value *data = kl_get(c->now, KL_F_data);
    if (!kl_v_is(c->now, KL_F_type, "kubernetes.io/tls") || !c->warnings->bad_pair)
        return;
    const char *why =
        c->warnings->bad_pair(c->warnings->arena, kl_text(kl_map_value(data, KL_STR("tls.crt"))),
                              kl_text(kl_map_value(data, KL_STR("tls.key"))));
    if (why)
        kl_warn(c, NULL, "%s", why);
}

const struct kl_warn_kind kl_warn_secrets = {.both = warn_secret};

// ---- accounts: an annotation that is new

static void warn_account(struct kl_v *c)
{
    struct kl_str key = KL_STR("kubernetes.io/enforce-mountable-secrets");
    if (!kl_map_value(kl_meta_annotations(c->old), key) &&
        kl_map_value(kl_meta_annotations(c->now), key))
        kl_warn(c, K(F(&c->meta, annotations), key),
                "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted "
                "secrets");
}

const struct kl_warn_kind kl_warn_accounts = {.both = warn_account};

// ---- volumes and claims

static void warn_annotation(struct kl_v *c, struct kl_str key, const char *text)
{
    if (kl_map_value(kl_meta_annotations(c->now), key))
        kl_warn(c, K(F(&c->meta, annotations), key), "%s", text);
}

#define CLASS_ANNOTATION KL_STR("volume.beta.kubernetes.io/storage-class")
#define CLASS_TEXT "deprecated since v1.8; use \"storageClassName\" attribute instead"

static void warn_volume(struct kl_v *c)
{
    static const struct {
        kl_sym field;
        const char *name, *text;
    } gone[] = {
        {KL_F_cephfs, NULL, "deprecated in v1.28, non-functional in v1.31+"},
        {KL_F_photonPersistentDisk, NULL, "deprecated in v1.11, non-functional in v1.16+"},
        {KL_F_scaleIO, NULL, "deprecated in v1.16, non-functional in v1.22+"},
        {KL_F_storageos, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
        {KL_F_glusterfs, NULL, "deprecated in v1.25, non-functional in v1.26+"},
        {KL_F_rbd, NULL, "deprecated in v1.28, non-functional in v1.31+"},
    };
    const struct kl_value *spec = kl_v_spec(c);
    const struct kl_vpath *terms = F(F(F(&c->spec, nodeAffinity), required), nodeSelectorTerms);
    size_t i = 0;
    warn_annotation(c, CLASS_ANNOTATION, CLASS_TEXT);
    warn_annotation(c, KL_STR("volume.beta.kubernetes.io/mount-options"),
                    "deprecated since v1.31; use \"mountOptions\" attribute instead");
    if (kl_v_is(spec, KL_F_persistentVolumeReclaimPolicy, "Recycle"))
        kl_warn(c, F(&c->spec, persistentVolumeReclaimPolicy),
                "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to "
                "use dynamic provisioning.");
    for (KL_EACH(t, kl_path(spec, KL_F_nodeAffinity, KL_F_required, KL_F_nodeSelectorTerms)))
        kl_warn_node_term(c, t, false, I(terms, i++));
    for (size_t k = 0; k < KL_COUNT(gone); k++)
        if (kl_get(spec, gone[k].field))
            kl_warn(c, gone[k].name ? N(&c->spec, gone[k].name) : FS(&c->spec, gone[k].field), "%s",
                    gone[k].text);
}

const struct kl_warn_kind kl_warn_volume = {.both = warn_volume};

static void warn_claim(struct kl_v *c)
{
    warn_annotation(c, CLASS_ANNOTATION, CLASS_TEXT);
    kl_warn_claim_spec(c, kl_v_spec(c), &c->spec);
}

const struct kl_warn_kind kl_warn_claims = {.both = warn_claim};

// ---- classes, capacities, drivers

static void warn_class(struct kl_v *c)
{
    const struct kl_vpath *p = F(NULL, allowedTopologies);
    size_t i = 0;
    for (KL_EACH(t, kl_get(c->now, KL_F_allowedTopologies))) {
        size_t k = 0;
        for (KL_EACH(x, kl_get(t, KL_F_matchLabelExpressions))) {
            const char *text = kl_warn_node_label(kl_text(kl_get(x, KL_F_key)));
            if (text)
                kl_warn(c, F(I(F(I(p, i), matchLabelExpressions), k), key), "%s", text);
            k++;
        }
        i++;
    }
}

const struct kl_warn_kind kl_warn_storage_classes = {.both = warn_class};

static void warn_capacity(struct kl_v *c)
{
    const struct kl_value *topology = kl_get(c->now, KL_F_nodeTopology);
    const struct kl_vpath *p = F(NULL, nodeTopology);
    kl_warn_node_term(c, topology, false, p);
    for (KL_MAP_EACH_KEY(kv, kl_get(topology, KL_F_matchLabels))) {
        const char *text = kl_warn_node_label(kl_text(kv));
        if (text)
            kl_warn(c, N(F(p, matchLabels), kl_v_text(c, "%.*s", KL_PRI(kl_text(kv)))), "%s", text);
    }
}

const struct kl_warn_kind kl_warn_capacities = {.both = warn_capacity};

static void warn_driver(struct kl_v *c)
{
    const struct kl_value *requests = kl_get(kl_v_spec(c), KL_F_tokenRequests);
    if (kl_len(requests) && !kl_get(kl_v_spec(c), KL_F_serviceAccountTokenInSecrets) &&
        !(c->old && kl_value_equal(requests, kl_get(kl_v_old_spec(c), KL_F_tokenRequests))))
        kl_warn(c, NULL,
                "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set "
                "to true to prevent possible logging of tokens in volume attributes");
}

const struct kl_warn_kind kl_warn_csi_drivers = {.both = warn_driver};

// ---- runtime classes

static void warn_runtime(struct kl_v *c)
{
    for (KL_MAP_EACH_KEY(kv, kl_path(c->now, KL_F_scheduling, KL_F_nodeSelector))) {
        const char *text = kl_warn_node_label(kl_text(kv));
        if (text)
            kl_warn(c, F(F(NULL, scheduling), nodeSelector), "%s", text);
    }
}

const struct kl_warn_kind kl_warn_runtime_classes = {.both = warn_runtime};

// ---- admission: names of what is read from files

static void warn_static(struct kl_v *c)
{
    struct kl_str name = kl_meta_name(c->now), suffix = KL_STR(".static.k8s.io");
    if (name.n >= suffix.n && kl_str_eq(kl_str_from(name, name.n - suffix.n), suffix))
        kl_warn(c, F(&c->meta, name),
                "names ending with \".static.k8s.io\" are reserved for static manifest-based "
                "configurations and cannot be managed via the API");
}

// With the gate on the name is refused.
static void warn_new_static(struct kl_v *c)
{
    if (c->f->gates && !kl_gate_named_on(c->f->gates, "ManifestBasedAdmissionControlConfig"))
        warn_static(c);
}

const struct kl_warn_kind kl_warn_static_names = {.create = warn_new_static, .both = warn_static};

// ---- devices

static void warn_device_slice(struct kl_v *c)
{
    struct kl_str driver = kl_text(kl_get(kl_v_spec(c), KL_F_driver));
    for (size_t i = 0; i < driver.n; i++)
        if (driver.p[i] >= 'A' && driver.p[i] <= 'Z') {
            kl_warn(c, F(&c->spec, driver),
                    "driver names should be lowercase; %.*s contains uppercase characters",
                    KL_PRI(kl_v_quoted(c, driver)));
            return;
        }
}

const struct kl_warn_kind kl_warn_device_slices = {.both = warn_device_slice};
