// SPDX-License-Identifier: Apache-2.0
// HorizontalPodAutoscalers from autoscaling/v2 to v1.
#include "object/convert_hpa_int.h"

#define ANNOTATION_MAX (1 << 20) // bytes of one annotation's JSON

static void put_name(struct kl_buf *out, char open, struct kl_str name)
{
    kl_buf_putc(out, open);
    kl_json_write_string(out, name);
    kl_buf_putc(out, ':');
}

static void put_reference(struct kl_buf *out, const struct kl_value *v)
{
    put_name(out, '{', KL_STR("kind"));
    kl_json_write_string(out, kl_text_at(v, KL_F_kind));
    put_name(out, ',', KL_STR("name"));
    kl_json_write_string(out, kl_text_at(v, KL_F_name));
    if (kl_text_at(v, KL_F_apiVersion).n) {
        put_name(out, ',', KL_STR("apiVersion"));
        kl_json_write_string(out, kl_text_at(v, KL_F_apiVersion));
    }
    kl_buf_putc(out, '}');
}

static const struct kl_value *part_value(const struct kl_hpa_part *p, const struct kl_value *metric)
{
    const struct kl_value *v = kl_get(metric, p->outer);
    return p->inner ? kl_get(v, p->inner) : v;
}

static void put_part(struct kl_buf *out, const struct kl_hpa_part *p, char open,
                     const struct kl_value *v)
{
    put_name(out, open, p->name);
    switch (p->kind) {
    case KL_HPA_TEXT:
    case KL_HPA_QUANTITY_OR_NONE:
        kl_json_write_string(out, kl_text(v));
        break;
    case KL_HPA_QUANTITY:
        kl_json_write_string(out, v ? kl_text(v) : KL_STR("0"));
        break;
    case KL_HPA_REFERENCE:
        put_reference(out, v);
        break;
    case KL_HPA_INTEGER_OR_NONE:
        kl_buf_printf(out, "%lld", (long long)kl_int_or(v, 0));
        break;
    case KL_HPA_SELECTOR_OR_NONE:
        kl_json_encode(out, kl_type(KL_TYPE_meta_v1_LabelSelector), v, KL_STR(""));
        break;
    }
}

static void put_metric(struct kl_buf *out, const struct kl_hpa_shape *shapes,
                       const struct kl_value *metric)
{
    put_name(out, '{', KL_STR("type"));
    kl_json_write_string(out, kl_text_at(metric, KL_F_type));
    for (const struct kl_hpa_shape *s = shapes; s < shapes + KL_HPA_SHAPES; s++) {
        const struct kl_value *source = kl_get(metric, s->field);
        if (!source)
            continue;
        put_name(out, ',', kl_sym_name(s->field));
        char open = '{';
        for (const struct kl_hpa_part *p = s->parts; p < s->parts + KL_HPA_PARTS && p->name.n;
             p++) {
            const struct kl_value *v = part_value(p, source);
            if (!v && p->kind >= KL_HPA_QUANTITY_OR_NONE)
                continue;
            put_part(out, p, open, v);
            open = ',';
        }
        kl_buf_putc(out, '}');
    }
    kl_buf_putc(out, '}');
}

static bool is_cpu(const struct kl_value *metric)
{
    return kl_str_eqz(kl_text_at(metric, KL_F_type), "Resource") &&
           kl_str_eqz(kl_text_at(metric, KL_F_resource, KL_F_name), "cpu");
}

static const struct kl_value *cpu_target(const struct kl_value *metric)
{
    return is_cpu(metric) ? kl_path(metric, KL_F_resource, KL_F_target, KL_F_averageUtilization)
                          : NULL;
}

static void put_integer_or_null(struct kl_buf *out, const struct kl_value *v)
{
    if (v)
        kl_buf_printf(out, "%lld", (long long)kl_int_or(v, 0));
    else
        kl_buf_puts(out, KL_STR("null"));
}

static void put_text_or_null(struct kl_buf *out, const struct kl_value *v)
{
    if (v)
        kl_json_write_string(out, kl_text(v));
    else
        kl_buf_puts(out, KL_STR("null"));
}

// Upstream marshals its internal type here, which has no JSON names: Go's own show.
static void put_rules(struct kl_buf *out, const struct kl_value *rules)
{
    if (!rules) {
        kl_buf_puts(out, KL_STR("null"));
        return;
    }
    kl_buf_puts(out, KL_STR("{\"StabilizationWindowSeconds\":"));
    put_integer_or_null(out, kl_get(rules, KL_F_stabilizationWindowSeconds));
    kl_buf_puts(out, KL_STR(",\"SelectPolicy\":"));
    put_text_or_null(out, kl_get(rules, KL_F_selectPolicy));
    kl_buf_puts(out, KL_STR(",\"Policies\":"));
    const struct kl_value *policies = kl_get(rules, KL_F_policies);
    if (kl_len(policies) == 0)
        kl_buf_puts(out, KL_STR("null"));
    for (KL_EACH(policy, policies)) {
        kl_buf_puts(out, policy == policies->items ? KL_STR("[{\"Type\":") : KL_STR(",{\"Type\":"));
        kl_json_write_string(out, kl_text_at(policy, KL_F_type));
        kl_buf_printf(out, ",\"Value\":%lld,\"PeriodSeconds\":%lld}",
                      (long long)kl_int_at(policy, 0, KL_F_value),
                      (long long)kl_int_at(policy, 0, KL_F_periodSeconds));
    }
    if (kl_len(policies))
        kl_buf_putc(out, ']');
    kl_buf_puts(out, KL_STR(",\"Tolerance\":"));
    put_text_or_null(out, kl_get(rules, KL_F_tolerance));
    kl_buf_putc(out, '}');
}

static void put_behavior(struct kl_buf *out, const struct kl_value *behavior)
{
    kl_buf_puts(out, KL_STR("{\"ScaleUp\":"));
    put_rules(out, kl_get(behavior, KL_F_scaleUp));
    kl_buf_puts(out, KL_STR(",\"ScaleDown\":"));
    put_rules(out, kl_get(behavior, KL_F_scaleDown));
    kl_buf_putc(out, '}');
}

// Moves the buffer's text into an annotation of the object.
static int annotate(struct kl_arena *a, struct kl_value *root, struct kl_str key,
                    struct kl_buf *text)
{
    struct kl_str copy = kl_arena_dup(a, kl_buf_str(text));
    struct kl_value *meta = kl_edit(a, root, KL_F_metadata, KL_STRUCT);
    struct kl_value *map = kl_edit(a, meta, KL_F_annotations, KL_MAP);
    int rc = text->err ? text->err
             : copy.p  ? kl_map_set_value(a, map, key, kl_string(copy))
                       : KL_ENOMEM;
    kl_buf_clear(text);
    return rc;
}

// The metrics v1's one CPU figure does not say.
static int annotate_metrics(struct kl_arena *a, struct kl_value *root, struct kl_buf *text,
                            const struct kl_value *metrics)
{
    char open = '[';
    for (KL_EACH(metric, metrics)) {
        if (cpu_target(metric))
            continue;
        kl_buf_putc(text, open);
        put_metric(text, kl_hpa_sources, metric);
        open = ',';
    }
    if (open == '[')
        return 0;
    kl_buf_putc(text, ']');
    return annotate(a, root, kl_hpa_metrics_note, text);
}

static int annotate_status(struct kl_arena *a, struct kl_value *root, struct kl_buf *text,
                           const struct kl_value *status)
{
    const struct kl_value *metrics = kl_get(status, KL_F_currentMetrics);
    const struct kl_value *conditions = kl_get(status, KL_F_conditions);
    int rc = 0;
    for (KL_EACH(metric, metrics)) {
        kl_buf_putc(text, metric == metrics->items ? '[' : ',');
        put_metric(text, kl_hpa_statuses, metric);
    }
    if (kl_len(metrics)) {
        kl_buf_putc(text, ']');
        rc = annotate(a, root, kl_hpa_statuses_note, text);
    }
    if (rc == 0 && kl_len(conditions)) {
        kl_json_encode(text,
                       kl_hpa_field_type(KL_TYPE_autoscaling_v2_HorizontalPodAutoscalerStatus,
                                         KL_F_conditions),
                       conditions, KL_STR(""));
        rc = annotate(a, root, kl_hpa_conditions_note, text);
    }
    return rc;
}

int kl_convert_hpa_to_v1(struct kl_arena *a, const struct kl_value *in, struct kl_value *ret,
                         struct kl_error *err)
{
    struct kl_value root, spec, status;
    struct kl_buf text;
    const struct kl_value *metrics = kl_path(in, KL_F_spec, KL_F_metrics);
    const struct kl_value *behavior = kl_path(in, KL_F_spec, KL_F_behavior);
    kl_buf_init(&text, ANNOTATION_MAX);
    int rc = kl_hpa_copy_common(a, in, &root, &spec, &status);
    for (KL_EACH(metric, metrics)) {
        const struct kl_value *cpu = cpu_target(metric);
        if (rc == 0 && cpu) {
            rc = kl_set(a, &spec, KL_F_targetCPUUtilizationPercentage, *cpu);
            break;
        }
    }
    for (KL_EACH(metric, kl_path(in, KL_F_status, KL_F_currentMetrics))) {
        const struct kl_value *cpu =
            kl_path(metric, KL_F_resource, KL_F_current, KL_F_averageUtilization);
        if (rc == 0 && cpu && is_cpu(metric))
            rc = kl_set(a, &status, KL_F_currentCPUUtilizationPercentage, *cpu);
    }
    if (rc == 0)
        rc = kl_hpa_join(a, &root, spec, status);
    if (rc == 0)
        rc = kl_hpa_drop_notes(a, &root);
    if (rc == 0)
        rc = annotate_metrics(a, &root, &text, metrics);
    if (rc == 0)
        rc = annotate_status(a, &root, &text, kl_get(in, KL_F_status));
    if (rc == 0 && behavior) {
        put_behavior(&text, behavior);
        rc = annotate(a, &root, kl_hpa_behavior_note, &text);
    }
    kl_buf_fini(&text);
    if (rc == 0)
        *ret = root;
    return rc;
}
