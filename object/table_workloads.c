// SPDX-License-Identifier: Apache-2.0
// Workload controllers.
#include "object/table_int.h"
#include "object/convert.h"
#include "object/selector.h"
#include "object/timestamp.h"

static const struct kl_value *spec_of(const struct kl_row *r, kl_sym field)
{
    return kl_path(r->root, KL_F_spec, field);
}

static int64_t status_int(const struct kl_row *r, kl_sym field)
{
    return kl_int_at(r->root, 0, KL_F_status, field);
}

static const struct kl_value *template_containers(const struct kl_row *r)
{
    return kl_path(r->root, KL_F_spec, KL_F_template, KL_F_spec, KL_F_containers);
}

static void ratio(struct kl_row *r, int64_t a, int64_t b)
{
    kl_cell_begin(r);
    kl_cell_put_int(r, a);
    kl_cell_puts(r, "/");
    kl_cell_put_int(r, b);
    kl_cell_end(r);
}

static void desired_current_ready(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell_int(r, kl_int_or(spec_of(r, KL_F_replicas), 0));
    kl_cell_int(r, status_int(r, KL_F_replicas));
    kl_cell_int(r, status_int(r, KL_F_readyReplicas));
    kl_cell_age(r);
    kl_cell_containers(r, template_containers(r));
}

void kl_print_replication_controller(struct kl_row *r)
{
    desired_current_ready(r);
    kl_cell_map(r, spec_of(r, KL_F_selector));
}

void kl_print_replica_set(struct kl_row *r)
{
    desired_current_ready(r);
    kl_cell_selector(r, spec_of(r, KL_F_selector));
}

void kl_print_daemon_set(struct kl_row *r)
{
    static const kl_sym counts[] = {KL_F_desiredNumberScheduled, KL_F_currentNumberScheduled,
                                    KL_F_numberReady, KL_F_updatedNumberScheduled,
                                    KL_F_numberAvailable};
    kl_cell_name(r);
    for (size_t i = 0; i < KL_COUNT(counts); i++)
        kl_cell_int(r, status_int(r, counts[i]));
    kl_cell_map(r, kl_path(r->root, KL_F_spec, KL_F_template, KL_F_spec, KL_F_nodeSelector));
    kl_cell_age(r);
    kl_cell_containers(r, template_containers(r));
    kl_cell_selector(r, spec_of(r, KL_F_selector));
}

// As kl_cell_selector, but an empty selector is an empty cell here.
static void plain_selector(struct kl_row *r, const struct kl_value *selector)
{
    struct kl_arena a;
    struct kl_selector s;
    kl_arena_init(&a, 0);
    kl_cell(r, kl_label_selector_from(&a, selector, &s, NULL) ? KL_STR("<invalid>")
                                                              : kl_selector_text(&a, &s));
    kl_arena_fini(&a);
}

void kl_print_deployment(struct kl_row *r)
{
    kl_cell_name(r);
    ratio(r, status_int(r, KL_F_readyReplicas), kl_int_or(spec_of(r, KL_F_replicas), 0));
    kl_cell_int(r, status_int(r, KL_F_updatedReplicas));
    kl_cell_int(r, status_int(r, KL_F_availableReplicas));
    kl_cell_age(r);
    kl_cell_containers(r, template_containers(r));
    plain_selector(r, spec_of(r, KL_F_selector));
}

void kl_print_stateful_set(struct kl_row *r)
{
    kl_cell_name(r);
    ratio(r, status_int(r, KL_F_readyReplicas), kl_int_or(spec_of(r, KL_F_replicas), 0));
    kl_cell_age(r);
    kl_cell_containers(r, template_containers(r));
}

// ---- jobs

static void job_status(struct kl_row *r)
{
    static const struct {
        const char *type, *shown;
    } done[] = {{"Complete", "Complete"}, {"Failed", "Failed"}},
      going[] = {{"Suspended", "Suspended"},
                 {"FailureTarget", "FailureTarget"},
                 {"SuccessCriteriaMet", "SuccessCriteriaMet"}};
    const struct kl_value *conditions = kl_path(r->root, KL_F_status, KL_F_conditions);
    const char *shown = NULL;
    for (size_t i = 0; i < KL_COUNT(done) && !shown; i++)
        if (kl_condition_is_true(kl_condition(conditions, done[i].type)))
            shown = done[i].shown;
    if (!shown && kl_meta_deleting(r->root))
        shown = "Terminating";
    for (size_t i = 0; i < KL_COUNT(going) && !shown; i++)
        if (kl_condition_is_true(kl_condition(conditions, going[i].type)))
            shown = going[i].shown;
    kl_cell(r, kl_str(shown ? shown : "Running"));
}

static void job_completions(struct kl_row *r)
{
    const struct kl_value *completions = spec_of(r, KL_F_completions);
    int64_t parallelism = kl_int_or(spec_of(r, KL_F_parallelism), 0);
    kl_cell_begin(r);
    kl_cell_put_int(r, status_int(r, KL_F_succeeded));
    kl_cell_puts(r, "/");
    kl_cell_put_int(r, kl_int_or(completions, 1));
    if (!completions && parallelism > 1) {
        kl_cell_puts(r, " of ");
        kl_cell_put_int(r, parallelism);
    }
    kl_cell_end(r);
}

static void job_duration(struct kl_row *r)
{
    const struct kl_value *start = kl_path(r->root, KL_F_status, KL_F_startTime);
    const struct kl_value *end = kl_path(r->root, KL_F_status, KL_F_completionTime);
    char text[KL_TIME_TEXT];
    int64_t us = kl_int_or(end, r->now_us) - kl_int_or(start, 0);
    kl_cell(r, start ? (struct kl_str){text, kl_human_duration(us / 1000000, text)} : KL_STR(""));
}

void kl_print_job(struct kl_row *r)
{
    kl_cell_name(r);
    job_status(r);
    job_completions(r);
    job_duration(r);
    kl_cell_age(r);
    kl_cell_containers(r, template_containers(r));
    kl_cell_selector(r, spec_of(r, KL_F_selector));
}

void kl_print_cron_job(struct kl_row *r)
{
    const struct kl_value *suspend = spec_of(r, KL_F_suspend);
    const struct kl_value *last = kl_path(r->root, KL_F_status, KL_F_lastScheduleTime);
    const struct kl_value *job = kl_path(r->root, KL_F_spec, KL_F_jobTemplate, KL_F_spec);
    kl_cell_name(r);
    kl_cell(r, kl_text(spec_of(r, KL_F_schedule)));
    kl_cell_or(r, spec_of(r, KL_F_timeZone), "<none>");
    kl_cell(r, !suspend              ? KL_STR("<unset>")
               : kl_is_true(suspend) ? KL_STR("True")
                                     : KL_STR("False"));
    kl_cell_int(r, (int64_t)kl_len(kl_path(r->root, KL_F_status, KL_F_active)));
    if (last)
        kl_cell_since(r, last);
    else
        kl_cell(r, KL_STR("<none>"));
    kl_cell_age(r);
    kl_cell_containers(r, kl_path(job, KL_F_template, KL_F_spec, KL_F_containers));
    kl_cell_selector(r, kl_get(job, KL_F_selector));
}

void kl_print_controller_revision(struct kl_row *r)
{
    const struct kl_value *owner = kl_meta_controller(r->root);
    struct kl_str kind = kl_text(kl_get(owner, KL_F_kind));
    struct kl_str group = kl_text(kl_get(owner, KL_F_apiVersion));
    ptrdiff_t slash = kl_str_chr(group, '/');
    group.n = slash < 0 ? 0 : (size_t)slash;
    kl_cell_name(r);
    kl_cell_begin(r);
    if (!owner)
        kl_cell_puts(r, "<none>");
    if (kind.n || group.n) {
        kl_cell_put_lower(r, kind);
        if (group.n) {
            kl_cell_puts(r, ".");
            kl_cell_put_lower(r, group);
        }
        kl_cell_puts(r, "/");
    }
    kl_cell_put(r, kl_text(kl_get(owner, KL_F_name)));
    kl_cell_end(r);
    kl_cell_int(r, kl_int_or(kl_get(r->root, KL_F_revision), 0));
    kl_cell_age(r);
}

void kl_print_scale(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell_int(r, kl_int_or(spec_of(r, KL_F_replicas), 0));
    kl_cell_int(r, status_int(r, KL_F_replicas));
    kl_cell_age(r);
}

// ---- horizontal pod autoscalers (autoscaling/v2; v1 is converted first)

static void put_or(struct kl_row *r, const struct kl_value *v, const char *otherwise)
{
    kl_cell_put(r, v ? kl_text(v) : kl_str(otherwise));
}

// "10/20" of External, Pods and Object metrics; averages end in " (avg)".
static void value_metric(struct kl_row *r, const struct kl_value *spec,
                         const struct kl_value *status, bool pods)
{
    const struct kl_value *average = kl_path(spec, KL_F_target, KL_F_averageValue);
    const struct kl_value *current = kl_get(status, KL_F_current);
    if (pods || average) {
        const struct kl_value *now = kl_get(current, KL_F_averageValue);
        put_or(r, now, pods && status ? "<nil>" : "<unknown>");
        kl_cell_puts(r, "/");
        put_or(r, average, "<nil>");
        if (!pods)
            kl_cell_puts(r, " (avg)");
        return;
    }
    put_or(r, kl_get(current, KL_F_value), status ? "<nil>" : "<unknown>");
    kl_cell_puts(r, "/");
    put_or(r, kl_path(spec, KL_F_target, KL_F_value), "<nil>");
}

static void put_percent(struct kl_row *r, const struct kl_value *v, const char *otherwise)
{
    if (!v) {
        kl_cell_put(r, kl_str(otherwise));
        return;
    }
    kl_cell_put_int(r, kl_int_or(v, 0));
    kl_cell_puts(r, "%");
}

// "cpu: 10%/80%" of Resource and ContainerResource metrics.
static void resource_metric(struct kl_row *r, const struct kl_value *spec,
                            const struct kl_value *status)
{
    const struct kl_value *average = kl_path(spec, KL_F_target, KL_F_averageValue);
    const struct kl_value *current = kl_get(status, KL_F_current);
    kl_cell_put(r, kl_text(kl_get(spec, KL_F_name)));
    kl_cell_puts(r, ": ");
    if (average) {
        put_or(r, kl_get(current, KL_F_averageValue), status ? "<nil>" : "<unknown>");
        kl_cell_puts(r, "/");
        kl_cell_put(r, kl_text(average));
        return;
    }
    put_percent(r, kl_get(current, KL_F_averageUtilization), "<unknown>");
    kl_cell_puts(r, "/");
    put_percent(r, kl_path(spec, KL_F_target, KL_F_averageUtilization), "<auto>");
}

static void one_metric(struct kl_row *r, const struct kl_value *spec, const struct kl_value *status)
{
    static const struct {
        const char *type;
        kl_sym field;
        bool resource, pods;
    } kinds[] = {{"External", KL_F_external, false, false},
                 {"Pods", KL_F_pods, false, true},
                 {"Object", KL_F_object, false, false},
                 {"Resource", KL_F_resource, true, false},
                 {"ContainerResource", KL_F_containerResource, true, false}};
    for (size_t i = 0; i < KL_COUNT(kinds); i++) {
        if (!kl_text_is(kl_get(spec, KL_F_type), kinds[i].type))
            continue;
        const struct kl_value *s = kl_get(spec, kinds[i].field);
        const struct kl_value *now = kl_get(status, kinds[i].field);
        if (kinds[i].resource)
            resource_metric(r, s, now);
        else
            value_metric(r, s, now, kinds[i].pods);
        return;
    }
    kl_cell_puts(r, "<unknown type>");
}

static void metrics(struct kl_row *r, const struct kl_value *specs, const struct kl_value *statuses)
{
    enum { SHOWN = 2 };
    kl_cell_begin(r);
    if (kl_len(specs) == 0)
        kl_cell_puts(r, "<none>");
    for (size_t i = 0; i < kl_len(specs) && i < SHOWN; i++) {
        if (i)
            kl_cell_puts(r, ", ");
        one_metric(r, &specs->items[i], kl_at(statuses, i));
    }
    if (kl_len(specs) > SHOWN) {
        kl_cell_puts(r, " + ");
        kl_cell_put_int(r, (int64_t)kl_len(specs) - SHOWN);
        kl_cell_puts(r, " more...");
    }
    kl_cell_end(r);
}

static void print_autoscaler(struct kl_row *r)
{
    const struct kl_value *target = spec_of(r, KL_F_scaleTargetRef);
    const struct kl_value *min = spec_of(r, KL_F_minReplicas);
    kl_cell_name(r);
    kl_cell_begin(r);
    kl_cell_put(r, kl_text(kl_get(target, KL_F_kind)));
    kl_cell_puts(r, "/");
    kl_cell_put(r, kl_text(kl_get(target, KL_F_name)));
    kl_cell_end(r);
    metrics(r, spec_of(r, KL_F_metrics), kl_path(r->root, KL_F_status, KL_F_currentMetrics));
    kl_cell_begin(r);
    if (min)
        kl_cell_put_int(r, kl_int_or(min, 0));
    else
        kl_cell_puts(r, "<unset>");
    kl_cell_end(r);
    kl_cell_int(r, kl_int_or(spec_of(r, KL_F_maxReplicas), 0));
    kl_cell_int(r, status_int(r, KL_F_currentReplicas));
    kl_cell_age(r);
}

void kl_print_autoscaler(struct kl_row *r)
{
    print_autoscaler(r);
}

void kl_print_autoscaler_v1(struct kl_row *r)
{
    struct kl_arena a;
    struct kl_value converted;
    const struct kl_value *root = r->root;
    kl_arena_init(&a, 0);
    if (!kl_convert(&a, kl_res(KL_RES_autoscaling_v1_horizontalpodautoscalers),
                    kl_res(KL_RES_autoscaling_v2_horizontalpodautoscalers), root, &converted, NULL))
        r->root = &converted;
    print_autoscaler(r);
    r->root = root;
    kl_arena_fini(&a);
}
