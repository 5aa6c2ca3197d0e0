// SPDX-License-Identifier: Apache-2.0
// Which pairs of versions differ, and Events. Every other served kind has one shape in all its
// versions (MutatingAdmissionPolicy v1 and v1beta1, say).
#include "object/convert.h"
#include "object/convert_int.h"
#include "object/custom.h"

struct renamed {
    uint32_t core, events;
};

static const struct renamed event_fields[] = {
    {KL_F_metadata, KL_F_metadata},
    {KL_F_involvedObject, KL_F_regarding},
    {KL_F_reason, KL_F_reason},
    {KL_F_message, KL_F_note},
    {KL_F_source, KL_F_deprecatedSource},
    {KL_F_firstTimestamp, KL_F_deprecatedFirstTimestamp},
    {KL_F_lastTimestamp, KL_F_deprecatedLastTimestamp},
    {KL_F_count, KL_F_deprecatedCount},
    {KL_F_type, KL_F_type},
    {KL_F_eventTime, KL_F_eventTime},
    {KL_F_series, KL_F_series},
    {KL_F_action, KL_F_action},
    {KL_F_related, KL_F_related},
    {KL_F_reportingComponent, KL_F_reportingController},
    {KL_F_reportingInstance, KL_F_reportingInstance},
};

static int convert_event(struct kl_arena *a, bool to_events, const struct kl_value *in,
                         struct kl_value *ret)
{
    struct kl_value out = kl_new_struct();
    for (size_t i = 0; i < KL_COUNT(event_fields); i++) {
        const struct renamed *f = &event_fields[i];
        const struct kl_value *v = kl_get(in, to_events ? f->core : f->events);
        if (v && kl_set(a, &out, to_events ? f->events : f->core, *v) < 0)
            return KL_ENOMEM;
    }
    *ret = out;
    return 0;
}

static bool is_hpa(const struct kl_resource *r)
{
    return strcmp(r->group, "autoscaling") == 0 && strcmp(r->kind, "HorizontalPodAutoscaler") == 0;
}

static bool is_event(const struct kl_resource *r)
{
    return strcmp(r->kind, "Event") == 0 &&
           (r->group[0] == 0 || strcmp(r->group, "events.k8s.io") == 0);
}

// Kinds that v1beta1 nests in another way.
static bool has_devices(const struct kl_resource *r)
{
    return strcmp(r->group, "resource.k8s.io") == 0 &&
           (strcmp(r->kind, "ResourceClaim") == 0 ||
            strcmp(r->kind, "ResourceClaimTemplate") == 0 || strcmp(r->kind, "ResourceSlice") == 0);
}

bool kl_convert_needed(const struct kl_resource *from, const struct kl_resource *to)
{
    if (from->custom)
        return from != to;
    if (is_hpa(from))
        return is_hpa(to) && strcmp(from->version, to->version) != 0;
    if (is_event(from))
        return is_event(to) && strcmp(from->group, to->group) != 0;
    return has_devices(from) && has_devices(to) &&
           !strcmp(from->version, "v1beta1") != !strcmp(to->version, "v1beta1");
}

// apiVersion and kind are dropped where a draft still has them: the type of the result says them.
static int drop_type_meta(struct kl_arena *a, struct kl_value *v)
{
    uint32_t heads[] = {KL_F_apiVersion, KL_F_kind};
    for (size_t i = 0; i < KL_COUNT(heads); i++)
        if (kl_get(v, heads[i]) && kl_set(a, v, heads[i], kl_null()) < 0)
            return KL_ENOMEM;
    return 0;
}

int kl_convert(struct kl_arena *a, const struct kl_resource *from, const struct kl_resource *to,
               const struct kl_value *in, struct kl_value *ret, struct kl_error *err)
{
    struct kl_value out = *in;
    out.owned = 0;
    int rc = 0;
    if (from->custom)
        return kl_custom_convert(a, from, to, in, ret, err);
    if (kl_convert_needed(from, to)) {
        if (is_event(from))
            rc = convert_event(a, to->group[0] != 0, in, &out);
        else if (has_devices(from))
            rc = kl_convert_devices(a, from->kind, strcmp(to->version, "v1beta1") == 0, in, &out);
        else if (strcmp(to->version, "v1") == 0)
            rc = kl_convert_hpa_to_v1(a, in, &out, err);
        else
            rc = kl_convert_hpa_to_v2(a, in, &out, err);
    }
    if (rc == 0)
        rc = drop_type_meta(a, &out);
    if (rc < 0)
        return kl_error_set(err, rc, "converting %s from %s to %s: %s", from->kind,
                            from->api_version, to->api_version, kl_err_text(rc));
    *ret = out;
    return 0;
}
