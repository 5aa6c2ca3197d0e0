// SPDX-License-Identifier: Apache-2.0
// HorizontalPodAutoscalers from autoscaling/v1 to v2. Annotations that do not parse are left aside,
// as upstream does.
#include "object/convert_hpa_int.h"
#include "object/quantity.h"

#define DEFAULT_CPU_UTILIZATION 80

// encoding/json matches names without regard to case, an exact match first.
static const struct kl_value *find(const struct kl_value *map, struct kl_str name)
{
    const struct kl_value *v = kl_map_value(map, name);
    for (KL_MAP_EACH_KEY(key, map))
        if (!v && kl_str_ieq(kl_text(key), name))
            v = key + 1;
    return v && v->kind != KL_NULL ? v : NULL;
}

static int set_member(struct kl_arena *a, struct kl_value *map, uint32_t field, struct kl_value v)
{
    return kl_map_set_value(a, map, kl_sym_name(field), v);
}

static bool is_zero(const struct kl_value *v)
{
    struct kl_quantity q;
    return kl_quantity_parse(kl_text(v), &q, NULL) == 0 && q.nano == 0;
}

// What v1 leaves unsaid: which of the target's figures counts.
static int set_target_type(struct kl_arena *a, uint32_t shape, struct kl_value *out)
{
    struct kl_value *target = kl_edit_map(a, out, kl_sym_name(KL_F_target), KL_MAP);
    if (!target)
        return KL_ENOMEM;
    const struct kl_value *value = find(target, KL_STR("value"));
    const char *type = "AverageValue";
    int rc = 0;
    if (shape == KL_F_object && !find(target, KL_STR("averageValue")))
        type = "Value";
    else if (shape == KL_F_object && is_zero(value))
        rc = kl_map_unset(a, target, KL_STR("value")); // v1 cannot leave it out, v2 must
    else if (shape == KL_F_external && value)
        type = "Value";
    else if ((shape == KL_F_resource || shape == KL_F_containerResource) &&
             find(target, KL_STR("averageUtilization")))
        type = "Utilization";
    return rc < 0 ? rc : kl_map_set_value(a, target, KL_STR("type"), kl_stringz(type));
}

static int lift_shape(struct kl_arena *a, const struct kl_hpa_shape *s, bool source,
                      const struct kl_value *in, struct kl_value *out)
{
    *out = kl_new_map();
    for (const struct kl_hpa_part *p = s->parts; p < s->parts + KL_HPA_PARTS && p->name.n; p++) {
        const struct kl_value *found = find(in, p->name);
        if (!found && p->kind != KL_HPA_QUANTITY)
            continue;
        struct kl_value v = found ? *found : kl_string(KL_STR("0"));
        struct kl_value *at = out;
        v.owned = 0;
        if (p->inner)
            at = kl_edit_map(a, out, kl_sym_name(p->outer), KL_MAP);
        if (set_member(a, at, p->inner ? p->inner : p->outer, v) < 0)
            return KL_ENOMEM;
    }
    return source ? set_target_type(a, s->field, out) : 0;
}

// v1's metric in v2's shape, untyped still.
static int lift_metric(struct kl_arena *a, const struct kl_hpa_shape *shapes,
                       const struct kl_value *in, struct kl_value *out)
{
    *out = kl_new_map();
    const struct kl_value *type = find(in, KL_STR("type"));
    if (type && kl_map_set_value(a, out, KL_STR("type"), *type) < 0)
        return KL_ENOMEM;
    for (const struct kl_hpa_shape *s = shapes; s < shapes + KL_HPA_SHAPES; s++) {
        const struct kl_value *v = find(in, kl_sym_name(s->field));
        struct kl_value lifted;
        if (!v)
            continue;
        int rc =
            kl_is(v, KL_MAP) ? lift_shape(a, s, shapes == kl_hpa_sources, v, &lifted) : KL_EINVALID;
        if (rc == 0)
            rc = set_member(a, out, s->field, lifted);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static const struct kl_field *field_like(const struct kl_type *t, struct kl_str name)
{
    const struct kl_field *f = kl_type_field_named(t, name);
    for (size_t i = 0; !f && i < t->nfields; i++)
        if (kl_str_ieq(kl_sym_name(t->fields[i].sym), name))
            f = &t->fields[i];
    return f;
}

// An untyped tree with its names in the type's spelling, on every level ("ScaleUp" to "scaleUp").
static int match_names(struct kl_arena *a, const struct kl_type *t, const struct kl_value *in,
                       struct kl_value *out)
{
    *out = *in;
    out->owned = 0;
    if (in->kind == KL_ARRAY && t->kind == KL_T_ARRAY) {
        *out = kl_new_array();
        for (KL_EACH(item, in)) {
            struct kl_value v;
            if (match_names(a, t->elem, item, &v) < 0 || kl_append(a, out, v) < 0)
                return KL_ENOMEM;
        }
    } else if (in->kind == KL_MAP && t->kind == KL_T_STRUCT) {
        *out = kl_new_map();
        for (KL_MAP_EACH_KEY(key, in)) {
            const struct kl_field *f = field_like(t, kl_text(key));
            struct kl_value v;
            if (f && (match_names(a, f->type, key + 1, &v) < 0 ||
                      kl_map_set_value(a, out, kl_sym_name(f->sym), v) < 0))
                return KL_ENOMEM;
        }
    }
    return 0;
}

// The JSON text of an annotation, or of a tree made from it, as a draft of the type.
static bool read_typed(struct kl_arena *a, const struct kl_type *t, const struct kl_value *untyped,
                       struct kl_value *ret)
{
    struct kl_value named;
    return match_names(a, t, untyped, &named) == 0 &&
           kl_typed_from_untyped(a, t, &named, NULL, ret, NULL) == 0;
}

static bool read_note(struct kl_arena *a, const struct kl_value *note, const struct kl_type *t,
                      struct kl_value *ret)
{
    struct kl_value parsed;
    return note && kl_json_parse(a, kl_text(note), NULL, &parsed, NULL) == 0 &&
           read_typed(a, t, &parsed, ret);
}

// An annotation's list of metrics. False: there is none or it does not parse.
static bool read_metrics(struct kl_arena *a, const struct kl_value *annotation,
                         const struct kl_hpa_shape *shapes, const struct kl_type *type,
                         struct kl_value *ret)
{
    struct kl_value parsed, lifted = kl_new_array();
    if (!annotation || kl_json_parse(a, kl_text(annotation), NULL, &parsed, NULL) < 0 ||
        (parsed.kind != KL_ARRAY && parsed.kind != KL_NULL))
        return false;
    for (KL_EACH(metric, &parsed)) {
        struct kl_value v = kl_new_map();
        if (metric->kind != KL_MAP && metric->kind != KL_NULL)
            return false;
        if (metric->kind == KL_MAP && lift_metric(a, shapes, metric, &v) < 0)
            return false;
        if (kl_append(a, &lifted, v) < 0)
            return false;
    }
    return read_typed(a, type, &lifted, ret);
}

static bool read_behavior(struct kl_arena *a, const struct kl_value *note, struct kl_value *ret)
{
    return read_note(a, note, kl_type(KL_TYPE_autoscaling_v2_HorizontalPodAutoscalerBehavior),
                     ret) &&
           (kl_get(ret, KL_F_scaleUp) || kl_get(ret, KL_F_scaleDown));
}

// A Resource metric of the cpu with this utilization, as spec (target) or status (current) has it.
static int append_cpu(struct kl_arena *a, struct kl_value *list, uint32_t where,
                      struct kl_value utilization)
{
    struct kl_value figures = kl_new_struct(), resource = kl_new_struct(), metric = kl_new_struct();
    int rc = 0;
    if (where == KL_F_target)
        rc = kl_set(a, &figures, KL_F_type, kl_string(KL_STR("Utilization")));
    if (rc == 0)
        rc = kl_set(a, &figures, KL_F_averageUtilization, utilization);
    if (rc == 0)
        rc = kl_set(a, &resource, KL_F_name, kl_string(KL_STR("cpu")));
    if (rc == 0)
        rc = kl_set(a, &resource, where, figures);
    if (rc == 0)
        rc = kl_set(a, &metric, KL_F_type, kl_string(KL_STR("Resource")));
    if (rc == 0)
        rc = kl_set(a, &metric, KL_F_resource, resource);
    return rc < 0 ? rc : kl_append(a, list, metric);
}

static int lift_spec(struct kl_arena *a, const struct kl_value *in, struct kl_value *spec)
{
    const struct kl_value *annotations = kl_meta_annotations(in);
    const struct kl_value *cpu = kl_path(in, KL_F_spec, KL_F_targetCPUUtilizationPercentage);
    struct kl_value metrics, behavior;
    int rc = 0;
    if (!read_metrics(
            a, kl_map_value(annotations, kl_hpa_metrics_note), kl_hpa_sources,
            kl_hpa_field_type(KL_TYPE_autoscaling_v2_HorizontalPodAutoscalerSpec, KL_F_metrics),
            &metrics))
        metrics = kl_new_array();
    if (cpu)
        rc = append_cpu(a, &metrics, KL_F_target, *cpu);
    else if (kl_len(&metrics) == 0)
        rc = append_cpu(a, &metrics, KL_F_target, kl_int(DEFAULT_CPU_UTILIZATION));
    if (rc == 0)
        rc = kl_set(a, spec, KL_F_metrics, metrics);
    if (rc == 0 && read_behavior(a, kl_map_value(annotations, kl_hpa_behavior_note), &behavior))
        rc = kl_set(a, spec, KL_F_behavior, behavior);
    return rc;
}

static int lift_status(struct kl_arena *a, const struct kl_value *in, struct kl_value *status)
{
    const struct kl_value *annotations = kl_meta_annotations(in);
    const struct kl_value *cpu = kl_path(in, KL_F_status, KL_F_currentCPUUtilizationPercentage);
    const struct kl_value *text = kl_map_value(annotations, kl_hpa_conditions_note);
    const enum kl_type_index type = KL_TYPE_autoscaling_v2_HorizontalPodAutoscalerStatus;
    struct kl_value metrics, conditions;
    int rc = 0;
    if (!read_metrics(a, kl_map_value(annotations, kl_hpa_statuses_note), kl_hpa_statuses,
                      kl_hpa_field_type(type, KL_F_currentMetrics), &metrics)) {
        metrics = kl_new_array();
        if (cpu)
            rc = append_cpu(a, &metrics, KL_F_current, *cpu);
    }
    if (rc == 0 && kl_len(&metrics))
        rc = kl_set(a, status, KL_F_currentMetrics, metrics);
    if (rc == 0 && read_note(a, text, kl_hpa_field_type(type, KL_F_conditions), &conditions))
        rc = kl_set(a, status, KL_F_conditions, conditions);
    return rc;
}

int kl_convert_hpa_to_v2(struct kl_arena *a, const struct kl_value *in, struct kl_value *ret,
                         struct kl_error *err)
{
    struct kl_value root, spec, status;
    int rc = kl_hpa_copy_common(a, in, &root, &spec, &status);
    if (rc == 0)
        rc = lift_spec(a, in, &spec);
    if (rc == 0)
        rc = lift_status(a, in, &status);
    if (rc == 0)
        rc = kl_hpa_join(a, &root, spec, status);
    if (rc == 0)
        rc = kl_hpa_drop_notes(a, &root);
    if (rc == 0)
        *ret = root;
    return rc;
}
