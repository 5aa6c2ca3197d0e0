// SPDX-License-Identifier: Apache-2.0
// The status of a Job: what is in it, and which changes of it may be.
#include "object/validate/jobs_int.h"

bool kl_v_job_condition(const struct kl_value *root, const char *type, const char *status)
{
    for (KL_EACH(x, kl_path(root, KL_F_status, KL_F_conditions)))
        if (kl_v_is(x, KL_F_type, type) && kl_v_is(x, KL_F_status, status))
            return true;
    return false;
}

static void bad_conditions(struct kl_v *c, const char *why)
{
    kl_v_invalid_text(c, F(&c->status, conditions), KL_STR("{}"), why);
}

static bool differs(const struct kl_v *c, kl_sym f)
{
    return !kl_value_equal(kl_path(c->now, KL_F_status, f), kl_path(c->old, KL_F_status, f));
}

static bool turned(const struct kl_v *c, const char *type)
{
    return kl_v_job_condition(c->now, type, "True") != kl_v_job_condition(c->old, type, "True");
}

static bool finished(const struct kl_value *root)
{
    return kl_v_job_condition(root, "Complete", "True") ||
           kl_v_job_condition(root, "Failed", "True");
}

static void check_uncounted(struct kl_v *c, const struct kl_value *u, const struct kl_vpath *p)
{
    static const kl_sym lists[] = {KL_F_succeeded, KL_F_failed};
    for (size_t l = 0; l < KL_COUNT(lists); l++) {
        const struct kl_value *list = kl_get(u, lists[l]);
        for (size_t i = 0; i < kl_len(list); i++) {
            struct kl_str uid = kl_text(kl_at(list, i));
            const struct kl_vpath *at = I(FS(p, lists[l]), i);
            bool seen = false;
            for (size_t m = 0; m <= l; m++)
                for (size_t k = 0; k < (m == l ? i : kl_len(kl_get(u, lists[m]))); k++)
                    seen |= kl_str_eq(kl_text(kl_at(kl_get(u, lists[m]), k)), uid);
            if (!uid.n)
                kl_v_invalid_str(c, at, uid, "must not be empty");
            else if (seen)
                kl_v_duplicate(c, at, uid);
        }
    }
}

static struct kl_str shown_time(struct kl_v *c, kl_sym f, const struct kl_value *v)
{
    return kl_v_json(c, kl_type_field(kl_type(KL_TYPE_batch_v1_JobStatus), f)->type, v, false);
}

static void check_completion_time(struct kl_v *c, const struct kl_value *st)
{
    const struct kl_value *start = kl_get(st, KL_F_startTime),
                          *end = kl_get(st, KL_F_completionTime);
    const struct kl_vpath *p = F(&c->status, completionTime);
    bool complete = kl_v_job_condition(c->now, "Complete", "True");
    bool moved = turned(c, "Complete") || differs(c, KL_F_completionTime);
    if (moved && end && !complete)
        kl_v_invalid_text(c, p, shown_time(c, KL_F_completionTime, end),
                          "cannot set completionTime when there is no Complete=True condition");
    if (moved && !end && complete)
        kl_v_required(c, p, "completionTime is required for Complete jobs");
    if ((differs(c, KL_F_startTime) || differs(c, KL_F_completionTime)) && start && end &&
        kl_int_or(end, 0) < kl_int_or(start, 0))
        kl_v_invalid_text(c, p, shown_time(c, KL_F_completionTime, end),
                          "must be equal to or after `startTime`");
}

static void check_finished(struct kl_v *c, const struct kl_value *st)
{
    bool done = finished(c->now), moved = done != finished(c->old);
    const struct kl_value *s = kl_v_spec(c), *u = kl_get(st, KL_F_uncountedTerminatedPods);
    bool idle = kl_is_true(kl_get(s, KL_F_suspend)) && kl_get(s, KL_F_completions) &&
                !kl_int_at(s, 0, KL_F_completions);
    int64_t active = kl_int_at(st, 0, KL_F_active);
    if (!done)
        return;
    if ((moved || differs(c, KL_F_active)) && active > 0)
        kl_v_invalid_int(c, F(&c->status, active), active, "active>0 is invalid for finished job");
    if ((moved || differs(c, KL_F_startTime)) && !idle && !kl_get(st, KL_F_startTime))
        kl_v_required(c, F(&c->status, startTime), "startTime is required for finished job");
    if ((moved || differs(c, KL_F_uncountedTerminatedPods)) &&
        kl_len(kl_get(u, KL_F_failed)) + kl_len(kl_get(u, KL_F_succeeded)))
        kl_v_invalid_json(c, F(&c->status, uncountedTerminatedPods),
                          kl_type(KL_TYPE_batch_v1_UncountedTerminatedPods), u, true,
                          "must be empty for finished job");
}

static void check_indexes(struct kl_v *c, const struct kl_value *st)
{
    const struct kl_value *s = kl_v_spec(c), *n = kl_get(s, KL_F_completions);
    const struct kl_value *failed = kl_get(st, KL_F_failedIndexes);
    struct kl_str completed = kl_text(kl_get(st, KL_F_completedIndexes));
    const struct kl_vpath *cp = F(&c->status, completedIndexes), *fp = F(&c->status, failedIndexes);
    bool moved = differs(c, KL_F_completedIndexes), failed_moved = differs(c, KL_F_failedIndexes);
    const char *why;
    int64_t total;
    if (moved && n && (why = kl_v_job_indexes(c, completed, kl_int_or(n, 0), &total)))
        kl_v_invalid_str(c, cp, completed, kl_v_text(c, "error parsing completedIndexes: %s", why));
    if (failed_moved && n && kl_get(s, KL_F_backoffLimitPerIndex) && failed &&
        (why = kl_v_job_indexes(c, kl_text(failed), kl_int_or(n, 0), &total)))
        kl_v_invalid(c, fp, failed, kl_v_text(c, "error parsing failedIndexes: %s", why));
    if (moved && completed.n && !kl_v_job_is_indexed(s))
        kl_v_invalid_str(c, cp, completed,
                         "cannot set non-empty completedIndexes when non-indexed completion mode");
    if (failed_moved && !kl_get(s, KL_F_backoffLimitPerIndex) && failed)
        kl_v_invalid(c, fp, failed,
                     "cannot set non-null failedIndexes when backoffLimitPerIndex is null");
    if (!(moved || failed_moved) || !n || !failed)
        return;
    // The first index that is in both lists.
    struct kl_str a = completed, part;
    while (completed.n && kl_str_split(&a, ',', &part)) {
        int64_t x, y, fx, fy;
        struct kl_str b = kl_text(failed), fpart;
        if (kl_v_job_interval(c, part, kl_int_or(n, 0), &x, &y))
            continue;
        while (b.n && kl_str_split(&b, ',', &fpart)) {
            if (kl_v_job_interval(c, fpart, kl_int_or(n, 0), &fx, &fy) || x > fy || fx > y)
                continue;
            kl_v_invalid(c, fp, failed,
                         kl_v_text(c, "failedIndexes and completedIndexes overlap at index: %lld",
                                   (long long)(x > fx ? x : fx)));
            return;
        }
    }
}

static void check_conditions(struct kl_v *c)
{
    bool complete = kl_v_job_condition(c->now, "Complete", "True"),
         failed = kl_v_job_condition(c->now, "Failed", "True");
    bool target = kl_v_job_condition(c->now, "FailureTarget", "True");
    if ((turned(c, "Complete") || turned(c, "Failed")) && complete && failed)
        bad_conditions(c, "cannot set Complete=True and Failed=true conditions");
    if ((turned(c, "Complete") || turned(c, "FailureTarget")) && complete && target)
        bad_conditions(c, "cannot set Complete=True and FailureTarget=true conditions");
}

void kl_v_job_status(struct kl_v *c)
{
    static const struct kl_rule counts[] = {R_NONNEG(active),      R_NONNEG(succeeded),
                                            R_NONNEG(failed),      R_NONNEG(ready),
                                            R_NONNEG(terminating), R_END};
    static const char *const terminal[] = {"Failed", "Complete", "FailureTarget"};
    const struct kl_value *st = kl_get(c->now, KL_F_status), *old = kl_get(c->old, KL_F_status);
    const struct kl_value *s = kl_v_spec(c), *ready = kl_get(st, KL_F_ready);
    bool complete = kl_v_job_condition(c->now, "Complete", "True"),
         failed = kl_v_job_condition(c->now, "Failed", "True");
    bool target = kl_v_job_condition(c->now, "FailureTarget", "True");
    bool met = kl_v_job_condition(c->now, "SuccessCriteriaMet", "True");
    bool was_met = kl_v_job_condition(c->old, "SuccessCriteriaMet", "True");
    kl_v_meta_update(c);
    kl_v_walk(c, counts, st, &c->status);
    check_uncounted(c, kl_get(st, KL_F_uncountedTerminatedPods),
                    F(&c->status, uncountedTerminatedPods));
    check_conditions(c);
    check_completion_time(c, st);
    if ((turned(c, "Failed") || differs(c, KL_F_failedIndexes)) && failed && !target)
        bad_conditions(c,
                       "cannot set Failed=True condition without the FailureTarget=true condition");
    if ((turned(c, "Complete") || turned(c, "SuccessCriteriaMet")) && complete && !met)
        bad_conditions(
            c, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
    check_finished(c, st);
    check_indexes(c, st);
    bool done_moved = finished(c->now) != finished(c->old);
    if ((done_moved || differs(c, KL_F_terminating)) && finished(c->now) &&
        kl_int_at(st, 0, KL_F_terminating) > 0)
        kl_v_invalid_int(c, F(&c->status, terminating), kl_int_at(st, 0, KL_F_terminating),
                         "terminating>0 is invalid for finished job");
    if ((differs(c, KL_F_ready) || differs(c, KL_F_active)) && ready &&
        kl_int_or(ready, 0) > kl_int_at(st, 0, KL_F_active))
        kl_v_invalid_int(c, F(&c->status, ready), kl_int_or(ready, 0),
                         "cannot set more ready pods than active");
    if (met && failed)
        bad_conditions(c, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    if (met && target)
        bad_conditions(c, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    if (kl_get(s, KL_F_successPolicy) && !met && complete)
        bad_conditions(c, "cannot set Complete=True for Job with SuccessPolicy unless "
                          "SuccessCriteriaMet=True");
    for (size_t i = 0; i < KL_COUNT(terminal); i++)
        if (kl_v_job_condition(c->old, terminal[i], "True") &&
            !kl_v_job_condition(c->now, terminal[i], "True"))
            bad_conditions(
                c, kl_v_text(c, "cannot disable the terminal %s=True condition", terminal[i]));
    if (kl_int_at(st, 0, KL_F_failed) < kl_int_at(old, 0, KL_F_failed))
        kl_v_invalid_int(c, F(&c->status, failed), kl_int_at(st, 0, KL_F_failed),
                         "cannot decrease the failed counter");
    bool scaled = kl_v_job_is_indexed(s) &&
                  kl_value_equal(kl_get(s, KL_F_completions), kl_get(s, KL_F_parallelism));
    if (!scaled && kl_int_at(st, 0, KL_F_succeeded) < kl_int_at(old, 0, KL_F_succeeded))
        kl_v_invalid_int(c, F(&c->status, succeeded), kl_int_at(st, 0, KL_F_succeeded),
                         "cannot decrease the succeeded counter");
    if (kl_get(st, KL_F_completionTime) && kl_get(old, KL_F_completionTime) &&
        differs(c, KL_F_completionTime))
        kl_v_invalid_text(c, F(&c->status, completionTime),
                          shown_time(c, KL_F_completionTime, kl_get(st, KL_F_completionTime)),
                          "field is immutable");
    bool resuming = kl_v_job_condition(c->old, "Suspended", "True") &&
                    kl_v_job_condition(c->now, "Suspended", "False");
    if (kl_get(old, KL_F_startTime) && differs(c, KL_F_startTime) && !resuming &&
        !kl_is_true(kl_get(s, KL_F_suspend)))
        kl_v_invalid_text(c, F(&c->status, startTime),
                          shown_time(c, KL_F_startTime, kl_get(st, KL_F_startTime)),
                          "field is immutable for unsuspended job once set");
    if (was_met && !met)
        bad_conditions(c, "cannot disable the SuccessCriteriaMet=True condition");
    if (kl_v_job_condition(c->old, "Complete", "True") && !was_met && met)
        bad_conditions(c, "cannot set SuccessCriteriaMet=True for Job already has Complete=true "
                          "conditions");
}
