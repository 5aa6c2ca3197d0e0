// SPDX-License-Identifier: Apache-2.0
// Jobs and CronJobs: what is made and changed.
#include "object/validate/cron_int.h"
#include "object/validate/jobs_int.h"
#include "object/validate/pod_int.h"

// ---- Jobs

static void need_label(struct kl_v *c, const struct kl_value *labels, const char *key,
                       struct kl_str value)
{
    const struct kl_value *v = kl_map_value(labels, kl_str(key));
    const struct kl_vpath *p = K(F(F(F(&c->spec, template), metadata), labels), kl_str(key));
    const char *why =
        v && kl_str_eq(kl_text(v), value) ? NULL : kl_v_text(c, "must be '%.*s'", KL_PRI(value));
    if (why && !v)
        kl_v_required(c, p, why);
    else if (why)
        kl_v_invalid_text(c, p, kl_v_json(c, NULL, labels, false), why);
}

static bool requires_prefixed(const struct kl_v *c)
{
    const struct kl_value *l = kl_path(kl_v_old_spec(c), KL_F_template, KL_F_metadata, KL_F_labels);
    return !c->old || (kl_map_value(l, KL_STR("batch.kubernetes.io/job-name")) &&
                       kl_map_value(l, KL_STR("batch.kubernetes.io/controller-uid")));
}

// The labels that a generated selector counts on.
static void check_generated(struct kl_v *c)
{
    static const char *const keys[] = {"controller-uid", "job-name",
                                       "batch.kubernetes.io/controller-uid",
                                       "batch.kubernetes.io/job-name"};
    const struct kl_value *s = kl_v_spec(c), *selector = kl_get(s, KL_F_selector);
    const struct kl_value *labels = kl_path(s, KL_F_template, KL_F_metadata, KL_F_labels);
    struct kl_str values[2] = {kl_meta_uid(c->now), kl_meta_name(c->now)};
    size_t n = requires_prefixed(c) ? 4 : 2;
    bool bad, match = true;
    if (kl_is_true(kl_get(s, KL_F_manualSelector)) || !selector)
        return;
    if (!values[0].n)
        kl_v_required(c, F(&c->meta, uid), "");
    for (size_t i = 0; i < n; i++)
        need_label(c, labels, keys[i], values[i % 2]);
    struct kl_value expected[8], map = {.kind = KL_MAP, .n = (uint32_t)n, .items = expected};
    // In bytewise order, as map look-ups expect.
    static const uint8_t order[] = {2, 3, 0, 1};
    for (size_t i = 0, k = 0; i < 4; i++) {
        if (order[i] >= n)
            continue;
        expected[k++] = kl_stringz(keys[order[i]]);
        expected[k++] = kl_string(values[order[i] % 2]);
    }
    match = kl_v_selects(selector, &map, &bad);
    if (!bad && !match)
        kl_v_invalid_json(c, F(&c->spec, selector), kl_type(KL_TYPE_meta_v1_LabelSelector),
                          selector, false, "`selector` not auto-generated");
}

static void check_whole_spec(struct kl_v *c)
{
    const struct kl_value *s = kl_v_spec(c), *selector = kl_get(s, KL_F_selector);
    const struct kl_value *labels = kl_path(s, KL_F_template, KL_F_metadata, KL_F_labels);
    bool bad, match = kl_v_selects(selector, labels, &bad);
    kl_v_job_spec(c, s, &c->spec);
    if (!selector)
        kl_v_required(c, F(&c->spec, selector), "");
    else
        kl_v_selector(c, F(&c->spec, selector), selector);
    if (!bad && !match)
        kl_v_no_match(c, labels, F(&c->spec, template));
}

static void create_job(struct kl_v *c)
{
    const struct kl_value *s = kl_v_spec(c);
    int64_t n = kl_int_at(s, 0, KL_F_completions);
    struct kl_str name = kl_meta_name(c->now);
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_generated(c);
    check_whole_spec(c);
    if (!kl_v_job_is_indexed(s) || n <= 0)
        return;
    // The host names of its pods: name and index.
    size_t digits = 1;
    const char *msg[KL_V_MESSAGES];
    for (int64_t i = n - 1; i >= 10; i /= 10)
        digits++;
    struct kl_str head = name;
    bool good = name.n && name.n + 1 + digits <= 63;
    if (good && name.p[name.n - 1] == '-') // a dash within is well
        while (head.n && head.p[head.n - 1] == '-')
            head.n--;
    good = good && !kl_v_messages(KL_V_LABEL, head, msg);
    if (!good)
        kl_v_invalid_str(c, F(&c->meta, name), name,
                         kl_v_text(c,
                                   "will not able to create pod with invalid DNS label: "
                                   "%.*s-%lld",
                                   KL_PRI(name), (long long)(n - 1)));
}

// Of a job that is suspended and does not run the directives of scheduling and the resources may
// change (shouldAllowMutablePodTemplate).
static bool may_change_template(const struct kl_v *c)
{
    return kl_is_true(kl_get(kl_v_old_spec(c), KL_F_suspend)) &&
           (!kl_path(c->old, KL_F_status, KL_F_startTime) ||
            kl_v_job_condition(c->old, "Suspended", "True")) &&
           !kl_int_at(c->old, 0, KL_F_status, KL_F_active);
}

static bool same_members(const struct kl_value *a, const struct kl_value *b, const kl_sym *but,
                         size_t n)
{
    for (int pass = 0; pass < 2; pass++) {
        for (KL_EACH(x, a)) {
            bool skip = false;
            for (size_t i = 0; i < n; i++)
                skip |= but[i] == x->sym;
            if (!skip && !kl_value_equal(x, kl_get(b, x->sym)))
                return false;
        }
        const struct kl_value *swap = a;
        a = b;
        b = swap;
    }
    return true;
}

static bool same_containers(const struct kl_value *a, const struct kl_value *b)
{
    static const kl_sym open[] = {KL_F_resources};
    if (kl_len(a) != kl_len(b))
        return false;
    for (size_t i = 0; i < kl_len(a); i++)
        if (!same_members(kl_at(a, i), kl_at(b, i), open, 1))
            return false;
    return true;
}

static void check_template_change(struct kl_v *c)
{
    static const kl_sym open[] = {KL_F_nodeSelector, KL_F_tolerations, KL_F_schedulingGates,
                                  KL_F_affinity,     KL_F_containers,  KL_F_initContainers};
    static const kl_sym node[] = {KL_F_nodeAffinity};
    const struct kl_value *now = kl_get(kl_v_spec(c), KL_F_template);
    const struct kl_value *old = kl_get(kl_v_old_spec(c), KL_F_template);
    const struct kl_value *a = kl_get(now, KL_F_spec), *b = kl_get(old, KL_F_spec);
    if (kl_value_equal(now, old))
        return;
    if (!may_change_template(c)) {
        kl_v_invalid_json(c, F(&c->spec, template), kl_type(KL_TYPE_core_v1_PodTemplateSpec), now,
                          true, "field is immutable");
        return;
    }
    if (!same_members(a, b, open, KL_COUNT(open)) ||
        !same_members(kl_get(a, KL_F_affinity), kl_get(b, KL_F_affinity), node, 1) ||
        !same_containers(kl_get(a, KL_F_containers), kl_get(b, KL_F_containers)) ||
        !same_containers(kl_get(a, KL_F_initContainers), kl_get(b, KL_F_initContainers)))
        kl_v_invalid_json(c, N(&c->spec, "template.spec"), kl_type(KL_TYPE_core_v1_PodSpec), a,
                          true, "field is immutable");
}

static void same_field(struct kl_v *c, kl_sym f, const struct kl_type *type, bool internal)
{
    kl_v_immutable(c, FS(&c->spec, f), type, kl_get(kl_v_spec(c), f), kl_get(kl_v_old_spec(c), f),
                   internal);
}

static void update_job(struct kl_v *c)
{
    const struct kl_value *s = kl_v_spec(c), *old = kl_v_old_spec(c);
    const struct kl_value *n = kl_get(s, KL_F_completions);
    create_job(c);
    kl_v_meta_update(c);
    check_whole_spec(c);
    if (!kl_v_job_is_indexed(s))
        same_field(c, KL_F_completions, NULL, false);
    else if (n && !kl_value_equal(n, kl_get(old, KL_F_completions)) &&
             kl_int_or(n, 0) != kl_int_at(s, 0, KL_F_parallelism))
        kl_v_invalid_int(c, F(&c->spec, completions), kl_int_or(n, 0),
                         "can only be modified in tandem with spec.parallelism");
    same_field(c, KL_F_selector, kl_type(KL_TYPE_meta_v1_LabelSelector), false);
    check_template_change(c);
    same_field(c, KL_F_completionMode, NULL, false);
    same_field(c, KL_F_podFailurePolicy, kl_type(KL_TYPE_batch_v1_PodFailurePolicy), true);
    same_field(c, KL_F_backoffLimitPerIndex, NULL, false);
    same_field(c, KL_F_managedBy, NULL, false);
    same_field(c, KL_F_successPolicy, kl_type(KL_TYPE_batch_v1_SuccessPolicy), true);
}

// ---- CronJobs

static bool contains_tz(struct kl_str s)
{
    for (size_t i = 0; i + 1 < s.n; i++)
        if (s.p[i] == 'T' && s.p[i + 1] == 'Z')
            return true;
    return false;
}

static void check_schedule(struct kl_v *c, const struct kl_value *s)
{
    struct kl_str schedule = kl_text(kl_get(s, KL_F_schedule));
    bool lax = contains_tz(kl_text(kl_get(kl_v_old_spec(c), KL_F_schedule)));
    const struct kl_vpath *p = F(&c->spec, schedule);
    if (!schedule.n) {
        kl_v_required(c, p, "");
        return;
    }
    const char *why = kl_cron_error(c, schedule);
    if (why)
        kl_v_invalid_str(c, p, schedule, why);
    if (lax && contains_tz(schedule) && kl_get(s, KL_F_timeZone))
        kl_v_invalid_str(c, p, schedule,
                         "cannot use both timeZone field and TZ or CRON_TZ in schedule");
    else if (!lax && contains_tz(schedule))
        kl_v_invalid_str(c, p, schedule,
                         "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
}

static void check_cron_job(struct kl_v *c)
{
    static const char *const policies[] = {"Allow", "Forbid", "Replace", NULL};
    static const char *const no_selector[] = {"nil", "false", NULL};
    static const struct kl_rule limits[] = {R_NONNEG(successfulJobsHistoryLimit),
                                            R_NONNEG(failedJobsHistoryLimit), R_END};
    static const struct kl_rule concurrency[] = {R_NEED_ENUM(concurrencyPolicy, policies), R_END};
    const struct kl_value *s = kl_v_spec(c), *zone = kl_get(s, KL_F_timeZone);
    const struct kl_value *job = kl_path(s, KL_F_jobTemplate, KL_F_spec);
    const struct kl_vpath *p = F(F(&c->spec, jobTemplate), spec);
    check_schedule(c, s);
    kl_v_nonnegative(c, F(&c->spec, startingDeadlineSeconds),
                     kl_int_at(s, 0, KL_F_startingDeadlineSeconds));
    if (zone && (!c->old || !kl_value_equal(zone, kl_get(kl_v_old_spec(c), KL_F_timeZone)))) {
        const char *why = kl_zone_error(c, kl_text(zone));
        if (why)
            kl_v_invalid(c, F(&c->spec, timeZone), zone, why);
    }
    kl_v_walk(c, concurrency, s, &c->spec);
    kl_v_job_spec(c, job, p);
    if (kl_get(job, KL_F_selector))
        kl_v_invalid_json(c, F(p, selector), kl_type(KL_TYPE_meta_v1_LabelSelector),
                          kl_get(job, KL_F_selector), false, "`selector` will be auto-generated");
    if (kl_is_true(kl_get(job, KL_F_manualSelector)))
        kl_v_unsupported_text(c, F(p, manualSelector), KL_STR("true"), no_selector);
    kl_v_walk(c, limits, s, &c->spec);
}

static void create_cron_job(struct kl_v *c)
{
    struct kl_str name = kl_meta_name(c->now);
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_cron_job(c);
    if (name.n > 52)
        kl_v_invalid_str(c, F(&c->meta, name), name, "must be no more than 52 characters");
}

static void update_cron_job(struct kl_v *c)
{
    kl_v_meta_update(c);
    check_cron_job(c);
}

const struct kl_v_kind kl_v_jobs[] = {
    {KL_RES_batch_v1_jobs, create_job, update_job, kl_v_job_status, NULL, NULL},
    {KL_RES_batch_v1_cronjobs, create_cron_job, update_cron_job, NULL, NULL, NULL},
    {0},
};
