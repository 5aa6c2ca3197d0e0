// SPDX-License-Identifier: Apache-2.0
// HorizontalPodAutoscaler: autoscaling/v1 knows one CPU figure; its other metrics, its behaviour
// and its conditions are JSON in annotations, written as upstream's Go types marshal (its types of
// v1 are in no served schema, so their shape is a table here).
#include "object/convert_int.h"
#include "object/json.h"

#define PREFIX "autoscaling.alpha.kubernetes.io/"
static const struct kl_str metrics_note = KL_STR_INIT(PREFIX "metrics");
static const struct kl_str behavior_note = KL_STR_INIT(PREFIX "behavior");
static const struct kl_str statuses_note = KL_STR_INIT(PREFIX "current-metrics");
static const struct kl_str conditions_note = KL_STR_INIT(PREFIX "conditions");
static const struct kl_str *const notes[] = {
    &metrics_note,
    &behavior_note,
    &statuses_note,
    &conditions_note,
    &(const struct kl_str)KL_STR_INIT(PREFIX "scale-down-tolerance"),
    &(const struct kl_str)KL_STR_INIT(PREFIX "scale-up-tolerance"),
};

#define DEFAULT_CPU_UTILIZATION 80
#define ANNOTATION_MAX (1 << 20) // bytes of one annotation's JSON

// How a field of v1's flat metric types is written.
enum part_kind {
    TEXT, // always
    REFERENCE,
    QUANTITY, // always: "0" when v2 has none
    QUANTITY_OR_NONE,
    INTEGER_OR_NONE,
    SELECTOR_OR_NONE,
};

// A field of v1 and where v2 has it.
struct part {
    struct kl_str name;
    enum part_kind kind;
    uint32_t outer, inner; // v2's outer.inner; inner 0: v2's outer itself
};

#define PARTS_MAX 5
struct shape {
    uint32_t field; // of a MetricSpec or MetricStatus
    struct part parts[PARTS_MAX];
};

static const struct shape source_shapes[] = {
    {KL_F_object,
     {{KL_STR_INIT("target"), REFERENCE, KL_F_describedObject, 0},
      {KL_STR_INIT("metricName"), TEXT, KL_F_metric, KL_F_name},
      {KL_STR_INIT("targetValue"), QUANTITY, KL_F_target, KL_F_value},
      {KL_STR_INIT("selector"), SELECTOR_OR_NONE, KL_F_metric, KL_F_selector},
      {KL_STR_INIT("averageValue"), QUANTITY_OR_NONE, KL_F_target, KL_F_averageValue}}},
    {KL_F_pods,
     {{KL_STR_INIT("metricName"), TEXT, KL_F_metric, KL_F_name},
      {KL_STR_INIT("targetAverageValue"), QUANTITY, KL_F_target, KL_F_averageValue},
      {KL_STR_INIT("selector"), SELECTOR_OR_NONE, KL_F_metric, KL_F_selector}}},
    {KL_F_resource,
     {{KL_STR_INIT("name"), TEXT, KL_F_name, 0},
      {KL_STR_INIT("targetAverageUtilization"), INTEGER_OR_NONE, KL_F_target,
       KL_F_averageUtilization},
      {KL_STR_INIT("targetAverageValue"), QUANTITY_OR_NONE, KL_F_target, KL_F_averageValue}}},
    {KL_F_containerResource,
     {{KL_STR_INIT("name"), TEXT, KL_F_name, 0},
      {KL_STR_INIT("targetAverageUtilization"), INTEGER_OR_NONE, KL_F_target,
       KL_F_averageUtilization},
      {KL_STR_INIT("targetAverageValue"), QUANTITY_OR_NONE, KL_F_target, KL_F_averageValue},
      {KL_STR_INIT("container"), TEXT, KL_F_container, 0}}},
    {KL_F_external,
     {{KL_STR_INIT("metricName"), TEXT, KL_F_metric, KL_F_name},
      {KL_STR_INIT("metricSelector"), SELECTOR_OR_NONE, KL_F_metric, KL_F_selector},
      {KL_STR_INIT("targetValue"), QUANTITY_OR_NONE, KL_F_target, KL_F_value},
      {KL_STR_INIT("targetAverageValue"), QUANTITY_OR_NONE, KL_F_target, KL_F_averageValue}}},
};

static const struct shape status_shapes[] = {
    {KL_F_object,
     {{KL_STR_INIT("target"), REFERENCE, KL_F_describedObject, 0},
      {KL_STR_INIT("metricName"), TEXT, KL_F_metric, KL_F_name},
      {KL_STR_INIT("currentValue"), QUANTITY, KL_F_current, KL_F_value},
      {KL_STR_INIT("selector"), SELECTOR_OR_NONE, KL_F_metric, KL_F_selector},
      {KL_STR_INIT("averageValue"), QUANTITY_OR_NONE, KL_F_current, KL_F_averageValue}}},
    {KL_F_pods,
     {{KL_STR_INIT("metricName"), TEXT, KL_F_metric, KL_F_name},
      {KL_STR_INIT("currentAverageValue"), QUANTITY, KL_F_current, KL_F_averageValue},
      {KL_STR_INIT("selector"), SELECTOR_OR_NONE, KL_F_metric, KL_F_selector}}},
    {KL_F_resource,
     {{KL_STR_INIT("name"), TEXT, KL_F_name, 0},
      {KL_STR_INIT("currentAverageUtilization"), INTEGER_OR_NONE, KL_F_current,
       KL_F_averageUtilization},
      {KL_STR_INIT("currentAverageValue"), QUANTITY, KL_F_current, KL_F_averageValue}}},
    {KL_F_containerResource,
     {{KL_STR_INIT("name"), TEXT, KL_F_name, 0},
      {KL_STR_INIT("currentAverageUtilization"), INTEGER_OR_NONE, KL_F_current,
       KL_F_averageUtilization},
      {KL_STR_INIT("currentAverageValue"), QUANTITY, KL_F_current, KL_F_averageValue},
      {KL_STR_INIT("container"), TEXT, KL_F_container, 0}}},
    {KL_F_external,
     {{KL_STR_INIT("metricName"), TEXT, KL_F_metric, KL_F_name},
      {KL_STR_INIT("metricSelector"), SELECTOR_OR_NONE, KL_F_metric, KL_F_selector},
      {KL_STR_INIT("currentValue"), QUANTITY, KL_F_current, KL_F_value},
      {KL_STR_INIT("currentAverageValue"), QUANTITY_OR_NONE, KL_F_current, KL_F_averageValue}}},
};

#define N_SHAPES KL_COUNT(source_shapes)

static const struct kl_type *field_type(enum kl_type_index of, uint32_t field)
{
    const struct kl_field *f = kl_type_field(kl_type(of), field);
    return f ? f->type : NULL;
}

// ---- v2 to v1: writing

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

static const struct kl_value *part_value(const struct part *p, const struct kl_value *metric)
{
    const struct kl_value *v = kl_get(metric, p->outer);
    return p->inner ? kl_get(v, p->inner) : v;
}

static void put_part(struct kl_buf *out, const struct part *p, char open, const struct kl_value *v)
{
    put_name(out, open, p->name);
    switch (p->kind) {
    case TEXT:
    case QUANTITY_OR_NONE:
        kl_json_write_string(out, kl_text(v));
        break;
    case QUANTITY:
        kl_json_write_string(out, v ? kl_text(v) : KL_STR("0"));
        break;
    case REFERENCE:
        put_reference(out, v);
        break;
    case INTEGER_OR_NONE:
        kl_buf_printf(out, "%lld", (long long)kl_int_or(v, 0));
        break;
    case SELECTOR_OR_NONE:
        kl_json_encode(out, kl_type(KL_TYPE_meta_v1_LabelSelector), v, KL_STR(""));
        break;
    }
}

static void put_metric(struct kl_buf *out, const struct shape *shapes,
                       const struct kl_value *metric)
{
    put_name(out, '{', KL_STR("type"));
    kl_json_write_string(out, kl_text_at(metric, KL_F_type));
    for (const struct shape *s = shapes; s < shapes + N_SHAPES; s++) {
        const struct kl_value *source = kl_get(metric, s->field);
        if (!source)
            continue;
        put_name(out, ',', kl_sym_name(s->field));
        char open = '{';
        for (const struct part *p = s->parts; p < s->parts + PARTS_MAX && p->name.n; p++) {
            const struct kl_value *v = part_value(p, source);
            if (!v && p->kind >= QUANTITY_OR_NONE)
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

static int drop_notes(struct kl_arena *a, struct kl_value *root)
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
        kl_map_unset(a, map, *notes[i]);
    return map->n ? 0 : kl_set(a, meta, KL_F_annotations, kl_null());
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
        put_metric(text, source_shapes, metric);
        open = ',';
    }
    if (open == '[')
        return 0;
    kl_buf_putc(text, ']');
    return annotate(a, root, metrics_note, text);
}

static int annotate_status(struct kl_arena *a, struct kl_value *root, struct kl_buf *text,
                           const struct kl_value *status)
{
    const struct kl_value *metrics = kl_get(status, KL_F_currentMetrics);
    const struct kl_value *conditions = kl_get(status, KL_F_conditions);
    int rc = 0;
    for (KL_EACH(metric, metrics)) {
        kl_buf_putc(text, metric == metrics->items ? '[' : ',');
        put_metric(text, status_shapes, metric);
    }
    if (kl_len(metrics)) {
        kl_buf_putc(text, ']');
        rc = annotate(a, root, statuses_note, text);
    }
    if (rc == 0 && kl_len(conditions)) {
        kl_json_encode(
            text, field_type(KL_TYPE_autoscaling_v2_HorizontalPodAutoscalerStatus, KL_F_conditions),
            conditions, KL_STR(""));
        rc = annotate(a, root, conditions_note, text);
    }
    return rc;
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

// metadata, and the parts of spec and status that both versions have.
static int copy_common(struct kl_arena *a, const struct kl_value *in, struct kl_value *root,
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

static int join(struct kl_arena *a, struct kl_value *root, struct kl_value spec,
                struct kl_value status)
{
    int rc = kl_set(a, root, KL_F_spec, spec);
    return rc < 0 ? rc : kl_set(a, root, KL_F_status, status);
}

int kl_convert_hpa_to_v1(struct kl_arena *a, const struct kl_value *in, struct kl_value *ret,
                         struct kl_error *err)
{
    struct kl_value root, spec, status;
    struct kl_buf text;
    const struct kl_value *metrics = kl_path(in, KL_F_spec, KL_F_metrics);
    const struct kl_value *behavior = kl_path(in, KL_F_spec, KL_F_behavior);
    kl_buf_init(&text, ANNOTATION_MAX);
    int rc = copy_common(a, in, &root, &spec, &status);
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
        rc = join(a, &root, spec, status);
    if (rc == 0)
        rc = drop_notes(a, &root);
    if (rc == 0)
        rc = annotate_metrics(a, &root, &text, metrics);
    if (rc == 0)
        rc = annotate_status(a, &root, &text, kl_get(in, KL_F_status));
    if (rc == 0 && behavior) {
        put_behavior(&text, behavior);
        rc = annotate(a, &root, behavior_note, &text);
    }
    kl_buf_fini(&text);
    if (rc == 0)
        *ret = root;
    return rc;
}

// ---- v1 to v2: reading. What does not parse is left aside, as upstream does.

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

// What v1 leaves unsaid: which of the target's figures counts.
static int set_target_type(struct kl_arena *a, uint32_t shape, struct kl_value *out)
{
    struct kl_value *target = kl_edit_map(a, out, kl_sym_name(KL_F_target), KL_MAP);
    if (!target)
        return KL_ENOMEM;
    const struct kl_value *value = find(target, KL_STR("value"));
    const char *type = "AverageValue";
    if (shape == KL_F_object && !find(target, KL_STR("averageValue")))
        type = "Value";
    else if (shape == KL_F_object && kl_str_eqz(kl_text(value), "0"))
        kl_map_unset(a, target, KL_STR("value")); // v1 cannot leave it out, v2 must
    else if (shape == KL_F_external && value)
        type = "Value";
    else if ((shape == KL_F_resource || shape == KL_F_containerResource) &&
             find(target, KL_STR("averageUtilization")))
        type = "Utilization";
    return kl_map_set_value(a, target, KL_STR("type"), kl_stringz(type));
}

static int lift_shape(struct kl_arena *a, const struct shape *s, bool source,
                      const struct kl_value *in, struct kl_value *out)
{
    *out = kl_new_map();
    for (const struct part *p = s->parts; p < s->parts + PARTS_MAX && p->name.n; p++) {
        const struct kl_value *found = find(in, p->name);
        if (!found && p->kind != QUANTITY)
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
static int lift_metric(struct kl_arena *a, const struct shape *shapes, const struct kl_value *in,
                       struct kl_value *out)
{
    *out = kl_new_map();
    const struct kl_value *type = find(in, KL_STR("type"));
    if (type && kl_map_set_value(a, out, KL_STR("type"), *type) < 0)
        return KL_ENOMEM;
    for (const struct shape *s = shapes; s < shapes + N_SHAPES; s++) {
        const struct kl_value *v = find(in, kl_sym_name(s->field));
        struct kl_value lifted;
        if (!v)
            continue;
        int rc =
            kl_is(v, KL_MAP) ? lift_shape(a, s, shapes == source_shapes, v, &lifted) : KL_EINVALID;
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
                         const struct shape *shapes, const struct kl_type *type,
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
    if (!read_metrics(a, kl_map_value(annotations, metrics_note), source_shapes,
                      field_type(KL_TYPE_autoscaling_v2_HorizontalPodAutoscalerSpec, KL_F_metrics),
                      &metrics))
        metrics = kl_new_array();
    if (cpu)
        rc = append_cpu(a, &metrics, KL_F_target, *cpu);
    else if (kl_len(&metrics) == 0)
        rc = append_cpu(a, &metrics, KL_F_target, kl_int(DEFAULT_CPU_UTILIZATION));
    if (rc == 0)
        rc = kl_set(a, spec, KL_F_metrics, metrics);
    if (rc == 0 && read_behavior(a, kl_map_value(annotations, behavior_note), &behavior))
        rc = kl_set(a, spec, KL_F_behavior, behavior);
    return rc;
}

static int lift_status(struct kl_arena *a, const struct kl_value *in, struct kl_value *status)
{
    const struct kl_value *annotations = kl_meta_annotations(in);
    const struct kl_value *cpu = kl_path(in, KL_F_status, KL_F_currentCPUUtilizationPercentage);
    const struct kl_value *text = kl_map_value(annotations, conditions_note);
    const enum kl_type_index type = KL_TYPE_autoscaling_v2_HorizontalPodAutoscalerStatus;
    struct kl_value metrics, conditions;
    int rc = 0;
    if (!read_metrics(a, kl_map_value(annotations, statuses_note), status_shapes,
                      field_type(type, KL_F_currentMetrics), &metrics)) {
        metrics = kl_new_array();
        if (cpu)
            rc = append_cpu(a, &metrics, KL_F_current, *cpu);
    }
    if (rc == 0 && kl_len(&metrics))
        rc = kl_set(a, status, KL_F_currentMetrics, metrics);
    if (rc == 0 && read_note(a, text, field_type(type, KL_F_conditions), &conditions))
        rc = kl_set(a, status, KL_F_conditions, conditions);
    return rc;
}

int kl_convert_hpa_to_v2(struct kl_arena *a, const struct kl_value *in, struct kl_value *ret,
                         struct kl_error *err)
{
    struct kl_value root, spec, status;
    int rc = copy_common(a, in, &root, &spec, &status);
    if (rc == 0)
        rc = lift_spec(a, in, &spec);
    if (rc == 0)
        rc = lift_status(a, in, &status);
    if (rc == 0)
        rc = join(a, &root, spec, status);
    if (rc == 0)
        rc = drop_notes(a, &root);
    if (rc == 0)
        *ret = root;
    return rc;
}
