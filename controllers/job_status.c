// SPDX-License-Identifier: Apache-2.0
// The second half of a Job's sync: what its status says, whose finalizers go, and how it ends
// (upstream: trackJobStatusAndRemoveFinalizers).
#include "controllers/job_int.h"
#include "controllers/pods.h"
#include <string.h>

enum { UNCOUNTED_MAX = 500 };

static const struct kl_resource *jobs_res(void)
{
    return kl_res(KL_RES_batch_v1_jobs);
}

static void no_memory(struct kl_plan *p)
{
    kl_error_set(&p->err, KL_ENOMEM, "out of memory");
}

// ---- conditions

static struct kl_value condition_of(struct kl_job_sync *s, const char *type, const char *status,
                                    struct kl_str reason, struct kl_str message)
{
    struct kl_value c = kl_new_struct(), now = kl_time(s->v->now_us / 1000000 * 1000000);
    kl_set_z(s->a, &c, KL_F_type, type);
    kl_set_z(s->a, &c, KL_F_status, status);
    kl_set(s->a, &c, KL_F_lastProbeTime, now);
    kl_set(s->a, &c, KL_F_lastTransitionTime, now);
    kl_set_str(s->a, &c, KL_F_reason, reason);
    kl_set_str(s->a, &c, KL_F_message, message);
    return c;
}

// Whether it changed anything. What is False and was never said is not said.
static bool ensure_condition(struct kl_job_sync *s, const char *type, const char *status,
                             struct kl_str reason, struct kl_str message)
{
    const struct kl_value *was = kl_condition_find(&s->conditions, type);
    if (!was && strcmp(status, "False") == 0)
        return false;
    if (was && kl_str_eqz(kl_text(kl_get(was, KL_F_status)), status) &&
        kl_str_eq(kl_text(kl_get(was, KL_F_reason)), reason) &&
        kl_str_eq(kl_text(kl_get(was, KL_F_message)), message))
        return false;
    kl_condition_put(s->a, &s->conditions, condition_of(s, type, status, reason, message));
    return true;
}

static bool is_success(const struct kl_job_sync *s)
{
    return s->ending.type && strcmp(s->ending.type, "SuccessCriteriaMet") == 0;
}

// ---- the status

static bool has_pod(const struct kl_job_sync *s, struct kl_str uid)
{
    for (size_t i = 0; i < s->npods; i++)
        if (s->pods[i].tracked && kl_str_eq(kl_meta_uid(s->pods[i].pod), uid))
            return true;
    return false;
}

// Uids whose pods have no finalizer any more become numbers.
static bool settle_list(struct kl_job_sync *s, struct kl_value *uids, int64_t *count)
{
    struct kl_value left = kl_new_array();
    int rc = 0;
    for (KL_EACH(x, uids))
        if (has_pod(s, kl_text(x)))
            rc |= kl_append(s->a, &left, *x);
    if (rc < 0)
        no_memory(s->p);
    if (rc < 0 || left.n == uids->n)
        return false;
    *count += (int64_t)(uids->n - left.n);
    *uids = left;
    return true;
}

static bool settle_all(struct kl_job_sync *s)
{
    bool changed = settle_list(s, &s->uncounted_succeeded, &s->status_succeeded);
    return settle_list(s, &s->uncounted_failed, &s->status_failed) || changed;
}

static void on_status_written(struct kl_action *a)
{
    struct kl_job_sync *s = a->plan->state;
    if (!a->skipped && a->call.err.code == 0 && a->call.object)
        s->base = a->call.object;
    else
        s->lost = true;
}

static void write_status(struct kl_job_sync *s)
{
    struct kl_value draft = kl_object_draft(s->base), uncounted = kl_new_struct();
    struct kl_value *st = kl_edit(s->a, &draft, KL_F_status, KL_STRUCT);
    int rc = st ? 0 : KL_ENOMEM;
    kl_set_int(s->a, st, KL_F_active, s->active);
    kl_set_int(s->a, st, KL_F_ready, s->ready);
    kl_set_int(s->a, st, KL_F_terminating, s->terminating);
    kl_set_int(s->a, st, KL_F_succeeded, s->status_succeeded);
    kl_set_int(s->a, st, KL_F_failed, s->status_failed);
    rc |= kl_set(s->a, &uncounted, KL_F_succeeded, s->uncounted_succeeded);
    rc |= kl_set(s->a, &uncounted, KL_F_failed, s->uncounted_failed);
    rc |= kl_set(s->a, st, KL_F_uncountedTerminatedPods, uncounted);
    rc |= kl_set(s->a, st, KL_F_conditions, s->conditions);
    if (s->indexed)
        kl_set_str(s->a, st, KL_F_completedIndexes, kl_indexes_text(s->a, &s->succeeded_indexes));
    if (s->per_index)
        kl_set_str(s->a, st, KL_F_failedIndexes, kl_indexes_text(s->a, &s->failed_indexes));
    rc |= s->start_us ? kl_set(s->a, st, KL_F_startTime, kl_time(s->start_us))
                      : kl_unset(s->a, st, KL_F_startTime);
    if (s->end_us)
        rc |= kl_set(s->a, st, KL_F_completionTime, kl_time(s->end_us));
    if (rc < 0) {
        no_memory(s->p);
        s->lost = true;
        return;
    }
    s->write = kl_plan_write(s->p, KL_VERB_UPDATE, jobs_res(), "status", &draft);
    if (s->write)
        s->write->done_cb = on_status_written;
    else
        s->lost = true;
}

// ---- the end

static void tell_end(struct kl_job_sync *s)
{
    bool complete = strcmp(s->ending.type, "Complete") == 0;
    if (complete && s->completions >= 0 && s->status_succeeded > s->completions)
        kl_plan_event(s->p, jobs_res(), s->job, "Warning", "TooManySucceededPods",
                      "Too many succeeded pods running after completion count reached");
    if (complete) {
        kl_plan_event(s->p, jobs_res(), s->job, "Normal", "Completed", "Job completed");
        return;
    }
    static const char *const reasons[] = {"PodFailurePolicy", "BackoffLimitExceeded",
                                          "DeadlineExceeded", "MaxFailedIndexesExceeded",
                                          "FailedIndexes"};
    for (size_t i = 0; i < KL_COUNT(reasons); i++)
        if (kl_str_eqz(s->ending.reason, reasons[i]))
            kl_plan_event(s->p, jobs_res(), s->job, "Warning", reasons[i], "%.*s",
                          KL_PRI(s->ending.message));
}

static void after_end(struct kl_plan *p)
{
    struct kl_job_sync *s = p->state;
    if (s->lost)
        return;
    tell_end(s);
    s->v->finished(p, s->v);
}

static void settle(struct kl_plan *p)
{
    struct kl_job_sync *s = p->state;
    bool changed = settle_all(s), ends;
    ends = s->ending.type && !p->err.code && !s->full && !s->uncounted_succeeded.n &&
           !s->uncounted_failed.n && s->terminating <= 0;
    if (ends) {
        ensure_condition(s, s->ending.type, "True", s->ending.reason, s->ending.message);
        if (strcmp(s->ending.type, "Complete") == 0)
            s->end_us = s->v->now_us / 1000000 * 1000000;
    }
    if (changed || ends)
        write_status(s);
    if (ends)
        p->then = after_end;
}

static void on_released(struct kl_action *a)
{
    struct kl_job_sync *s = a->plan->state;
    struct kl_job_pod *x = a->arg;
    if (!a->skipped && (!a->call.err.code || a->call.err.code == KL_ENOTFOUND))
        x->tracked = false;
    if (a->skipped || a->call.err.code)
        s->v->releasing(a->plan, kl_meta_uid(x->pod), false);
}

static void release(struct kl_plan *p)
{
    struct kl_job_sync *s = p->state;
    if (s->lost)
        return;
    if (s->write)
        s->v->counted(p, s->v);
    p->then = settle;
    size_t n = 0;
    for (size_t i = 0; i < s->npods; i++) {
        struct kl_job_pod *x = &s->pods[i];
        if (x->release)
            kl_job_pace(p, n++);
        struct kl_action *a = x->release ? kl_job_release(p, x->pod) : NULL;
        if (!a)
            continue;
        s->v->releasing(p, kl_meta_uid(x->pod), true);
        a->done_cb = on_released;
        a->arg = x;
    }
}

static bool may_release(const struct kl_job_sync *s, const struct kl_job_pod *x)
{
    return kl_meta_deleting(s->job) || s->ending.type || x->succeeded || (x->failed && !x->kept);
}

// What a pod that ended adds to the status.
static void note_ended(struct kl_job_sync *s, struct kl_job_pod *x, int64_t *fresh, size_t *nfresh)
{
    struct kl_value uid = kl_string(kl_meta_uid(x->pod));
    int rc = 0;
    if (x->succeeded && !x->in_failed) {
        if (s->indexed && x->index != KL_INDEX_UNKNOWN && !kl_indexes_has(&s->before, x->index)) {
            fresh[(*nfresh)++] = x->index;
            s->flush = true;
        } else if (!s->indexed && !x->in_succeeded) {
            rc = kl_append(s->a, &s->uncounted_succeeded, uid);
            s->flush = true;
        }
    } else if (x->failed || (s->ending.type && !is_success(s))) {
        if (!x->in_failed && (!s->indexed || x->index != KL_INDEX_UNKNOWN) &&
            !kl_job_ignores(s, x)) {
            rc = kl_append(s->a, &s->uncounted_failed, uid);
            s->flush = true;
        }
    }
    if (rc < 0)
        no_memory(s->p);
}

static void track_indexes(struct kl_job_sync *s, const int64_t *fresh, size_t nfresh)
{
    const struct kl_value *status = kl_get(s->job, KL_F_status);
    const struct kl_value *failed = kl_get(status, KL_F_failedIndexes);
    if (kl_indexes_add(s->a, &s->succeeded_indexes, fresh, nfresh) < 0)
        no_memory(s->p);
    s->status_succeeded = kl_indexes_total(&s->succeeded_indexes);
    s->flush |= !kl_str_eq(kl_text(kl_get(status, KL_F_completedIndexes)),
                           kl_indexes_text(s->a, &s->succeeded_indexes));
    if (s->per_index)
        s->flush |=
            !failed || !kl_str_eq(kl_text(failed), kl_indexes_text(s->a, &s->failed_indexes));
}

static void track_ending(struct kl_job_sync *s)
{
    if (s->ending.type && strcmp(s->ending.type, "FailureTarget") == 0) {
        ensure_condition(s, "FailureTarget", "True", s->ending.reason, s->ending.message);
        s->flush = true;
        s->ending.type = "Failed";
    } else if (is_success(s)) {
        if (!kl_condition_is(&s->conditions, "SuccessCriteriaMet", "True")) {
            ensure_condition(s, s->ending.type, "True", s->ending.reason, s->ending.message);
            s->flush = true;
        }
        s->ending.type = "Complete";
    }
}

static void track_pods(struct kl_job_sync *s)
{
    int64_t *fresh = kl_arena_alloc(s->a, (s->npods + 1) * sizeof *fresh);
    size_t nfresh = 0;
    if (!fresh) {
        no_memory(s->p);
        return;
    }
    for (size_t i = 0; i < s->npods && !s->full; i++) {
        struct kl_job_pod *x = &s->pods[i];
        if (!x->tracked || !may_release(s, x))
            continue;
        x->release = true;
        note_ended(s, x, fresh, &nfresh);
        s->full = nfresh + s->uncounted_succeeded.n + s->uncounted_failed.n >= UNCOUNTED_MAX;
    }
    if (s->indexed)
        track_indexes(s, fresh, nfresh);
}

static void tell_suspension(struct kl_job_sync *s)
{
    bool on = kl_job_suspended(s);
    if (!ensure_condition(s, "Suspended", on ? "True" : "False",
                          on ? KL_STR("JobSuspended") : KL_STR("JobResumed"),
                          on ? KL_STR("Job suspended") : KL_STR("Job resumed")))
        return;
    kl_plan_event(s->p, jobs_res(), s->job, "Normal", on ? "Suspended" : "Resumed",
                  on ? "Job suspended" : "Job resumed");
    s->start_us = on ? 0 : s->v->now_us / 1000000 * 1000000;
    s->flush = true;
}

void kl_job_track(struct kl_plan *p)
{
    struct kl_job_sync *s = p->state;
    const struct kl_value *status = kl_get(s->job, KL_F_status);
    if (s->ending.type) {
        // What is still there, or is still to be seen, may yet change how it ends.
        if (s->deleted != s->deletions || !s->v->expectations_met)
            s->ending.type = NULL;
    } else {
        bool complete = s->completions < 0 ? s->succeeded > 0 && s->active == 0
                                           : s->succeeded >= s->completions && s->active == 0;
        if (complete)
            kl_job_end_with(s, "SuccessCriteriaMet", "CompletionsReached",
                            KL_STR("Reached expected number of succeeded pods"));
        else if (s->may_manage)
            tell_suspension(s);
    }
    s->flush |= kl_int_or(kl_get(status, KL_F_active), 0) != s->active ||
                kl_int_or(kl_get(status, KL_F_ready), -1) != s->ready ||
                kl_int_or(kl_get(status, KL_F_terminating), -1) != s->terminating;
    s->flush |= settle_all(s);
    track_pods(s);
    track_ending(s);
    if (p->err.code == KL_ENOMEM)
        return;
    p->then = release;
    if (s->flush)
        write_status(s);
}
