// SPDX-License-Identifier: Apache-2.0
// HorizontalPodAutoscaler: autoscaling/v1 knows one CPU figure; its other metrics, its behaviour
// and its conditions are JSON in annotations, written as upstream's Go types marshal (its types of
// v1 are in no served schema, so their shape is a table here).
#include "object/convert_hpa_int.h"

#define PREFIX "autoscaling.alpha.kubernetes.io/"
const struct kl_str kl_hpa_metrics_note = KL_STR_INIT(PREFIX "metrics");
const struct kl_str kl_hpa_behavior_note = KL_STR_INIT(PREFIX "behavior");
const struct kl_str kl_hpa_statuses_note = KL_STR_INIT(PREFIX "current-metrics");
const struct kl_str kl_hpa_conditions_note = KL_STR_INIT(PREFIX "conditions");
static const struct kl_str *const notes[] = {
    &kl_hpa_metrics_note,
    &kl_hpa_behavior_note,
    &kl_hpa_statuses_note,
    &kl_hpa_conditions_note,
    &(const struct kl_str)KL_STR_INIT(PREFIX "scale-down-tolerance"),
    &(const struct kl_str)KL_STR_INIT(PREFIX "scale-up-tolerance"),
};

const struct kl_hpa_shape kl_hpa_sources[KL_HPA_SHAPES] = {
    {KL_F_object,
     {{KL_STR_INIT("target"), KL_HPA_REFERENCE, KL_F_describedObject, 0},
      {KL_STR_INIT("metricName"), KL_HPA_TEXT, KL_F_metric, KL_F_name},
      {KL_STR_INIT("targetValue"), KL_HPA_QUANTITY, KL_F_target, KL_F_value},
      {KL_STR_INIT("selector"), KL_HPA_SELECTOR_OR_NONE, KL_F_metric, KL_F_selector},
      {KL_STR_INIT("averageValue"), KL_HPA_QUANTITY_OR_NONE, KL_F_target, KL_F_averageValue}}},
    {KL_F_pods,
     {{KL_STR_INIT("metricName"), KL_HPA_TEXT, KL_F_metric, KL_F_name},
      {KL_STR_INIT("targetAverageValue"), KL_HPA_QUANTITY, KL_F_target, KL_F_averageValue},
      {KL_STR_INIT("selector"), KL_HPA_SELECTOR_OR_NONE, KL_F_metric, KL_F_selector}}},
    {KL_F_resource,
     {{KL_STR_INIT("name"), KL_HPA_TEXT, KL_F_name, 0},
      {KL_STR_INIT("targetAverageUtilization"), KL_HPA_INTEGER_OR_NONE, KL_F_target,
       KL_F_averageUtilization},
      {KL_STR_INIT("targetAverageValue"), KL_HPA_QUANTITY_OR_NONE, KL_F_target,
       KL_F_averageValue}}},
    {KL_F_containerResource,
     {{KL_STR_INIT("name"), KL_HPA_TEXT, KL_F_name, 0},
      {KL_STR_INIT("targetAverageUtilization"), KL_HPA_INTEGER_OR_NONE, KL_F_target,
       KL_F_averageUtilization},
      {KL_STR_INIT("targetAverageValue"), KL_HPA_QUANTITY_OR_NONE, KL_F_target, KL_F_averageValue},
      {KL_STR_INIT("container"), KL_HPA_TEXT, KL_F_container, 0}}},
    {KL_F_external,
     {{KL_STR_INIT("metricName"), KL_HPA_TEXT, KL_F_metric, KL_F_name},
      {KL_STR_INIT("metricSelector"), KL_HPA_SELECTOR_OR_NONE, KL_F_metric, KL_F_selector},
      {KL_STR_INIT("targetValue"), KL_HPA_QUANTITY_OR_NONE, KL_F_target, KL_F_value},
      {KL_STR_INIT("targetAverageValue"), KL_HPA_QUANTITY_OR_NONE, KL_F_target,
       KL_F_averageValue}}},
};

const struct kl_hpa_shape kl_hpa_statuses[KL_HPA_SHAPES] = {
    {KL_F_object,
     {{KL_STR_INIT("target"), KL_HPA_REFERENCE, KL_F_describedObject, 0},
      {KL_STR_INIT("metricName"), KL_HPA_TEXT, KL_F_metric, KL_F_name},
      {KL_STR_INIT("currentValue"), KL_HPA_QUANTITY, KL_F_current, KL_F_value},
      {KL_STR_INIT("selector"), KL_HPA_SELECTOR_OR_NONE, KL_F_metric, KL_F_selector},
      {KL_STR_INIT("averageValue"), KL_HPA_QUANTITY_OR_NONE, KL_F_current, KL_F_averageValue}}},
    {KL_F_pods,
     {{KL_STR_INIT("metricName"), KL_HPA_TEXT, KL_F_metric, KL_F_name},
      {KL_STR_INIT("currentAverageValue"), KL_HPA_QUANTITY, KL_F_current, KL_F_averageValue},
      {KL_STR_INIT("selector"), KL_HPA_SELECTOR_OR_NONE, KL_F_metric, KL_F_selector}}},
    {KL_F_resource,
     {{KL_STR_INIT("name"), KL_HPA_TEXT, KL_F_name, 0},
      {KL_STR_INIT("currentAverageUtilization"), KL_HPA_INTEGER_OR_NONE, KL_F_current,
       KL_F_averageUtilization},
      {KL_STR_INIT("currentAverageValue"), KL_HPA_QUANTITY, KL_F_current, KL_F_averageValue}}},
    {KL_F_containerResource,
     {{KL_STR_INIT("name"), KL_HPA_TEXT, KL_F_name, 0},
      {KL_STR_INIT("currentAverageUtilization"), KL_HPA_INTEGER_OR_NONE, KL_F_current,
       KL_F_averageUtilization},
      {KL_STR_INIT("currentAverageValue"), KL_HPA_QUANTITY, KL_F_current, KL_F_averageValue},
      {KL_STR_INIT("container"), KL_HPA_TEXT, KL_F_container, 0}}},
    {KL_F_external,
     {{KL_STR_INIT("metricName"), KL_HPA_TEXT, KL_F_metric, KL_F_name},
      {KL_STR_INIT("metricSelector"), KL_HPA_SELECTOR_OR_NONE, KL_F_metric, KL_F_selector},
      {KL_STR_INIT("currentValue"), KL_HPA_QUANTITY, KL_F_current, KL_F_value},
      {KL_STR_INIT("currentAverageValue"), KL_HPA_QUANTITY_OR_NONE, KL_F_current,
       KL_F_averageValue}}},
};

const struct kl_type *kl_hpa_field_type(enum kl_type_index of, uint32_t field)
{
    const struct kl_field *f = kl_type_field(kl_type(of), field);
    return f ? f->type : NULL;
}

int kl_hpa_drop_notes(struct kl_arena *a, struct kl_value *root)
{
    const struct kl_value *old = kl_meta_annotations(root);
    bool any = false;
    for (size_t i = 0; i < KL_COUNT(notes); i++)
        any = any || kl_map_value(old, *notes[i]);
    if (!any)
        return 0;
    struct kl_value *meta = kl_edit(a, root, KL_F_metadata, KL_STRUCT);
    struct kl_value *map = kl_edit(a, meta, KL_F_annotations, KL_MAP);
    if (!map)
        return KL_ENOMEM;
    for (size_t i = 0; i < KL_COUNT(notes); i++)
        if (kl_map_unset(a, map, *notes[i]) < 0)
            return KL_ENOMEM;
    return map->n ? 0 : kl_set(a, meta, KL_F_annotations, kl_null());
}

static int copy_fields(struct kl_arena *a, struct kl_value *out, const struct kl_value *in,
                       const uint32_t *fields, size_t n)
{
    *out = kl_new_struct();
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *v = kl_get(in, fields[i]);
        if (v && kl_set(a, out, fields[i], *v) < 0)
            return KL_ENOMEM;
    }
    return 0;
}

static const uint32_t spec_fields[] = {KL_F_scaleTargetRef, KL_F_minReplicas, KL_F_maxReplicas};
static const uint32_t status_fields[] = {KL_F_observedGeneration, KL_F_lastScaleTime,
                                         KL_F_currentReplicas, KL_F_desiredReplicas};

int kl_hpa_copy_common(struct kl_arena *a, const struct kl_value *in, struct kl_value *root,
                       struct kl_value *spec, struct kl_value *status)
{
    static const uint32_t top[] = {KL_F_metadata};
    int rc = copy_fields(a, root, in, top, 1);
    if (rc == 0)
        rc = copy_fields(a, spec, kl_get(in, KL_F_spec), spec_fields, KL_COUNT(spec_fields));
    if (rc == 0)
        rc =
            copy_fields(a, status, kl_get(in, KL_F_status), status_fields, KL_COUNT(status_fields));
    return rc;
}

int kl_hpa_join(struct kl_arena *a, struct kl_value *root, struct kl_value spec,
                struct kl_value status)
{
    int rc = kl_set(a, root, KL_F_spec, spec);
    return rc < 0 ? rc : kl_set(a, root, KL_F_status, status);
}
