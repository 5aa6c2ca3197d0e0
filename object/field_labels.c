// SPDX-License-Identifier: Apache-2.0
// The fields that field selectors may name, per resource, and where their values are. From the
// kinds' AddFieldLabelConversionFunc and ToSelectableFields upstream; all others take metadata.name
// and metadata.namespace.
#include "object/selector.h"
#include "object/custom.h"
#include <inttypes.h>
#include <stdio.h>

enum how {
    TEXT,     // a string, "" when absent
    NUMBER,   // an integer, "0" when absent
    BOOLEAN,  // "true" or "false"
    NOTHING,  // accepted, always ""
    FIRST_IP, // ip of a list's first element
    SOURCE,   // an event's source
};

enum { MAX_PATH = 3 };

struct label {
    struct kl_str name;
    enum how how;
    kl_sym path[MAX_PATH];  // 0-ended when shorter
    kl_sym other[MAX_PATH]; // where the same is in the other served version, when that is elsewhere
};

#define L(text, how_, ...)                                                                         \
    {                                                                                              \
        .name = KL_STR_INIT(text), .how = how_, .path = { __VA_ARGS__ }                            \
    }
#define NAME L("metadata.name", TEXT, KL_F_metadata, KL_F_name)
#define NAMESPACE L("metadata.namespace", TEXT, KL_F_metadata, KL_F_namespace)

static const struct label plain[] = {NAME, NAMESPACE};
static const struct label pods[] = {
    NAME,
    NAMESPACE,
    L("spec.nodeName", TEXT, KL_F_spec, KL_F_nodeName),
    L("spec.restartPolicy", TEXT, KL_F_spec, KL_F_restartPolicy),
    L("spec.schedulerName", TEXT, KL_F_spec, KL_F_schedulerName),
    L("spec.serviceAccountName", TEXT, KL_F_spec, KL_F_serviceAccountName),
    L("spec.hostNetwork", BOOLEAN, KL_F_spec, KL_F_hostNetwork),
    L("status.phase", TEXT, KL_F_status, KL_F_phase),
    L("status.podIP", FIRST_IP, KL_F_status, KL_F_podIPs),
    L("status.podIPs", NOTHING, KL_F_status),
    L("status.nominatedNodeName", TEXT, KL_F_status, KL_F_nominatedNodeName),
    L("spec.host", TEXT, KL_F_spec, KL_F_nodeName),
};
static const struct label nodes[] = {
    NAME,
    L("spec.unschedulable", BOOLEAN, KL_F_spec, KL_F_unschedulable),
};
static const struct label controllers[] = {
    NAME,
    NAMESPACE,
    L("status.replicas", NUMBER, KL_F_status, KL_F_replicas),
};
static const struct label namespaces[] = {
    NAME,
    L("status.phase", TEXT, KL_F_status, KL_F_phase),
};
static const struct label secrets[] = {NAME, NAMESPACE, L("type", TEXT, KL_F_type)};
static const struct label services[] = {
    NAME,
    NAMESPACE,
    L("spec.clusterIP", TEXT, KL_F_spec, KL_F_clusterIP),
    L("spec.type", TEXT, KL_F_spec, KL_F_type),
};
static const struct label jobs[] = {
    NAME,
    NAMESPACE,
    L("status.successful", NUMBER, KL_F_status, KL_F_succeeded),
};
static const struct label signer[] = {
    NAME,
    L("spec.signerName", TEXT, KL_F_spec, KL_F_signerName),
};
static const struct label pod_certificates[] = {
    NAME,
    L("spec.signerName", TEXT, KL_F_spec, KL_F_signerName),
    L("spec.podName", TEXT, KL_F_spec, KL_F_podName),
    L("spec.nodeName", TEXT, KL_F_spec, KL_F_nodeName),
};
static const struct label slices[] = {
    NAME,
    L("spec.nodeName", TEXT, KL_F_spec, KL_F_nodeName),
    L("spec.driver", TEXT, KL_F_spec, KL_F_driver),
};

// An event may be looked at in either of its versions, whichever the request named.
#define OBJECT(text, field)                                                                        \
    {                                                                                              \
        .name = KL_STR_INIT(text), .how = TEXT, .path = {KL_F_involvedObject, field}, .other = {   \
            KL_F_regarding,                                                                        \
            field                                                                                  \
        }                                                                                          \
    }
#define REPORTER(text)                                                                             \
    {                                                                                              \
        .name = KL_STR_INIT(text), .how = TEXT, .path = {KL_F_reportingComponent}, .other = {      \
            KL_F_reportingController                                                               \
        }                                                                                          \
    }
static const struct label events[] = {
    OBJECT("involvedObject.kind", KL_F_kind),
    OBJECT("involvedObject.namespace", KL_F_namespace),
    OBJECT("involvedObject.name", KL_F_name),
    OBJECT("involvedObject.uid", KL_F_uid),
    OBJECT("involvedObject.apiVersion", KL_F_apiVersion),
    OBJECT("involvedObject.resourceVersion", KL_F_resourceVersion),
    OBJECT("involvedObject.fieldPath", KL_F_fieldPath),
    L("reason", TEXT, KL_F_reason),
    REPORTER("reportingComponent"),
    L("source", SOURCE, KL_F_source),
    L("type", TEXT, KL_F_type),
    NAMESPACE,
    NAME,
};
static const struct label regarding_events[] = {
    OBJECT("regarding.kind", KL_F_kind),
    OBJECT("regarding.namespace", KL_F_namespace),
    OBJECT("regarding.name", KL_F_name),
    OBJECT("regarding.uid", KL_F_uid),
    OBJECT("regarding.apiVersion", KL_F_apiVersion),
    OBJECT("regarding.resourceVersion", KL_F_resourceVersion),
    OBJECT("regarding.fieldPath", KL_F_fieldPath),
    L("reason", TEXT, KL_F_reason),
    REPORTER("reportingController"),
    L("type", TEXT, KL_F_type),
    NAMESPACE,
    NAME,
};

struct label_set {
    const struct label *labels;
    size_t n;
    const char *refusal; // printf format with the label, or NULL for the default
};

#define SET(array)                                                                                 \
    {                                                                                              \
        array, KL_COUNT(array), "field label not supported: %.*s"                                  \
    }
#define SLICES(version)                                                                            \
    {                                                                                              \
        slices, KL_COUNT(slices),                                                                  \
            "field label not supported for resource.k8s.io/" version ", Kind=ResourceSlice: %.*s"  \
    }

static const struct label_set sets[KL_RES_BUILTIN_COUNT] = {
    [KL_RES_core_v1_pods] = SET(pods),
    [KL_RES_core_v1_nodes] = SET(nodes),
    [KL_RES_core_v1_replicationcontrollers] = SET(controllers),
    [KL_RES_core_v1_events] = SET(events),
    [KL_RES_core_v1_namespaces] = SET(namespaces),
    [KL_RES_core_v1_secrets] = SET(secrets),
    [KL_RES_core_v1_services] = SET(services),
    [KL_RES_events_v1_events] = SET(regarding_events),
    [KL_RES_batch_v1_jobs] = {jobs, KL_COUNT(jobs), "field label \"%.*s\" not supported for Job"},
    [KL_RES_certificates_v1_certificatesigningrequests] = SET(signer),
    [KL_RES_certificates_v1alpha1_clustertrustbundles] = SET(signer),
    [KL_RES_certificates_v1beta1_clustertrustbundles] = SET(signer),
    [KL_RES_certificates_v1beta1_podcertificaterequests] = SET(pod_certificates),
    [KL_RES_resource_v1_resourceslices] = SLICES("v1"),
    [KL_RES_resource_v1beta1_resourceslices] = SLICES("v1beta1"),
    [KL_RES_resource_v1beta2_resourceslices] = SLICES("v1beta2"),
};
static const struct label_set plain_set = {
    plain, KL_COUNT(plain),
    "\"%.*s\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""};
static const struct label_set custom_set = SET(plain);
static const struct label_set custom_cluster_set = {plain, 1, "field label not supported: %.*s"};

static const struct label_set *set_of(const struct kl_resource *r)
{
    if (r->custom || r < kl_resources || r >= kl_resources + kl_nresources)
        return r->namespaced ? &custom_set : &custom_cluster_set;
    return r->index < KL_COUNT(sets) && sets[r->index].n ? &sets[r->index] : &plain_set;
}

static const struct label *find_label(const struct label_set *set, struct kl_str key)
{
    for (size_t i = 0; i < set->n; i++)
        if (kl_str_eq(set->labels[i].name, key))
            return &set->labels[i];
    return NULL;
}

int kl_field_selector_check(const struct kl_resource *r, const struct kl_selector *s,
                            struct kl_error *err)
{
    const struct label_set *set = set_of(r);
    for (size_t i = 0; i < s->n; i++) {
        if (find_label(set, s->reqs[i].key) ||
            (r->custom && kl_custom_has_field(r, s->reqs[i].key)))
            continue;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        return kl_error_set(err, KL_EBADREQUEST, set->refusal, KL_PRI(s->reqs[i].key));
#pragma GCC diagnostic pop
    }
    return 0;
}

static const struct kl_value *walk(const struct kl_value *v, const kl_sym path[MAX_PATH])
{
    if (!path[0])
        return NULL;
    for (size_t i = 0; i < MAX_PATH && path[i] && v; i++)
        v = kl_get(v, path[i]);
    return v;
}

static const struct kl_value *event_source(const struct kl_value *root)
{
    const kl_sym old[] = {KL_F_deprecatedSource, KL_F_component};
    const struct kl_value *v = kl_path(root, KL_F_source, KL_F_component);
    if (!v)
        v = kl_path_list(root, old, KL_COUNT(old));
    if (kl_text(v).n == 0)
        v = kl_get(root, KL_F_reportingComponent);
    return v ? v : kl_get(root, KL_F_reportingController);
}

// The value as text; numbers are printed into `room`.
static struct kl_str label_text(const struct label *l, const struct kl_value *root, char room[24])
{
    const struct kl_value *v = walk(root, l->path);
    if (!v)
        v = walk(root, l->other);
    switch (l->how) {
    case TEXT:
        return kl_text(v);
    case NUMBER:
        return (struct kl_str){room, (size_t)snprintf(room, 24, "%" PRId64, kl_int_or(v, 0))};
    case BOOLEAN:
        return kl_is_true(v) ? KL_STR("true") : KL_STR("false");
    case FIRST_IP:
        return kl_text(kl_get(kl_at(v, 0), KL_F_ip));
    case SOURCE:
        return kl_text(event_source(root));
    case NOTHING:
        break;
    }
    return KL_STR("");
}

enum { FIELD_BYTES_MAX = 4 << 20 };

// A term about one of the fields that a custom resource's definition makes selectable.
static bool custom_matches(const struct kl_resource *r, const struct kl_requirement *req,
                           const struct kl_value *root)
{
    struct kl_arena a;
    struct kl_str have;
    kl_arena_init(&a, FIELD_BYTES_MAX);
    bool known = kl_custom_field(&a, r, req->key, root, &have);
    bool equal = known && kl_str_eq(have, req->values[0]);
    kl_arena_fini(&a);
    return known && equal == (req->op == KL_OP_EQ);
}

bool kl_field_selector_matches(const struct kl_resource *r, const struct kl_selector *s,
                               const struct kl_value *root)
{
    const struct label_set *set = set_of(r);
    if (s->nothing)
        return false;
    for (size_t i = 0; i < s->n; i++) {
        const struct kl_requirement *req = &s->reqs[i];
        const struct label *l = find_label(set, req->key);
        char room[24];
        if (!l && r->custom) {
            if (!custom_matches(r, req, root))
                return false;
            continue;
        }
        struct kl_str have = l ? label_text(l, root, room) : KL_STR("");
        if (kl_str_eq(have, req->values[0]) != (req->op == KL_OP_EQ))
            return false;
    }
    return true;
}
