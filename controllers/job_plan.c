// SPDX-License-Identifier: Apache-2.0
// One sync of a Job (upstream: pkg/controller/job, syncJob). Pods carry a finalizer until they are
// counted, so that none is counted twice or never: first their uids are written into the status,
// then the finalizers go, then the uids become numbers.
//
//   decide ─▶ pods made or deleted ─▶ track ─▶ status ─▶ release: finalizers ─▶ settle ─▶ status
#include "controllers/claim.h"
#include "controllers/job_int.h"
#include "controllers/pods.h"
#include <stdlib.h>

enum { BURST = KL_JOB_CALLS_AT_ONCE, RESYNC_MS = 1000 };

static const struct kl_resource *pods_res(void)
{
    return kl_res(KL_RES_core_v1_pods);
}

static const struct kl_resource *jobs_res(void)
{
    return kl_res(KL_RES_batch_v1_jobs);
}

static void no_memory(struct kl_plan *p)
{
    kl_error_set(&p->err, KL_ENOMEM, "out of memory");
}

bool kl_job_suspended(const struct kl_job_sync *s)
{
    return kl_is_true(kl_get(s->spec, KL_F_suspend));
}

bool kl_job_finished(const struct kl_value *job)
{
    const struct kl_value *conditions = kl_path(job, KL_F_status, KL_F_conditions);
    return kl_condition_is(conditions, "Complete", "True") ||
           kl_condition_is(conditions, "Failed", "True");
}

void kl_job_end_with(struct kl_job_sync *s, const char *type, const char *reason,
                     struct kl_str message)
{
    if (!s->ending.type)
        s->ending = (struct kl_job_ending){type, kl_str(reason), message};
}

static void end_as(struct kl_job_sync *s, const char *type, const struct kl_value *condition)
{
    s->ending = (struct kl_job_ending){type, kl_text(kl_get(condition, KL_F_reason)),
                                       kl_text(kl_get(condition, KL_F_message))};
}

// ---- counting

static bool is_counted(const struct kl_job_sync *s, const struct kl_job_pod *x)
{
    return x->tracked && (!s->indexed || x->index != KL_INDEX_UNKNOWN);
}

bool kl_job_ignores(struct kl_job_sync *s, const struct kl_job_pod *x)
{
    return kl_job_failure_rule(s->a, s->job, x->pod, NULL) == KL_JOB_IGNORE;
}

static void count(struct kl_job_sync *s)
{
    int64_t last_success = 0, last_failure = 0, later = 0, successes = 0, failures = 0;
    s->succeeded = s->status_succeeded + (int64_t)s->uncounted_succeeded.n;
    s->failed = s->status_failed + (int64_t)s->uncounted_failed.n;
    for (size_t i = 0; i < s->npods; i++) {
        struct kl_job_pod *x = &s->pods[i];
        s->active += x->active;
        s->ready += x->active && x->ready;
        s->terminating += kl_pod_terminating(x->pod);
        if (is_counted(s, x) && x->succeeded && !x->in_succeeded) {
            int64_t at = kl_pod_finished_us(x->pod);
            last_success = at > last_success ? at : last_success;
            successes++;
            s->succeeded++;
        }
    }
    for (size_t i = 0; i < s->npods; i++) {
        struct kl_job_pod *x = &s->pods[i];
        if (!is_counted(s, x) || !x->failed || x->in_failed)
            continue;
        int64_t at = kl_pod_finished_us(x->pod);
        last_failure = at > last_failure ? at : last_failure;
        later += !successes || at > last_success;
        failures++;
        s->failed += !kl_job_ignores(s, x);
    }
    s->backoff = s->v->backoff;
    if (successes)
        s->backoff = (struct kl_job_backoff){0};
    if (failures && later) {
        s->backoff.failures += later;
        s->backoff.last_us = last_failure;
    }
}

static bool past_restarts(const struct kl_job_sync *s)
{
    static const kl_sym statuses[] = {KL_F_initContainerStatuses, KL_F_containerStatuses};
    int64_t limit = kl_int_or(kl_get(s->spec, KL_F_backoffLimit), 6), n = 0;
    if (!kl_str_eqz(kl_text_at(s->spec, KL_F_template, KL_F_spec, KL_F_restartPolicy), "OnFailure"))
        return false;
    for (size_t i = 0; i < s->npods; i++) {
        struct kl_str phase = kl_text_at(s->pods[i].pod, KL_F_status, KL_F_phase);
        if (!kl_str_eqz(phase, "Running") && !kl_str_eqz(phase, "Pending"))
            continue;
        for (size_t k = 0; k < KL_COUNT(statuses); k++)
            for (KL_EACH(c, kl_path(s->pods[i].pod, KL_F_status, statuses[k])))
                n += kl_int_or(kl_get(c, KL_F_restartCount), 0);
    }
    return limit ? n >= limit : n > 0;
}

static void find_failing_rule(struct kl_job_sync *s)
{
    struct kl_str message = {NULL, 0};
    if (!kl_get(s->spec, KL_F_podFailurePolicy))
        return;
    for (size_t i = 0; i < s->npods; i++)
        if (s->pods[i].failed &&
            kl_job_failure_rule(s->a, s->job, s->pods[i].pod, &message) == KL_JOB_FAIL) {
            kl_job_end_with(s, "FailureTarget", "PodFailurePolicy", message);
            return;
        }
}

static void find_limits(struct kl_job_sync *s)
{
    const struct kl_value *deadline = kl_get(s->spec, KL_F_activeDeadlineSeconds);
    if (s->failed > kl_int_or(kl_get(s->spec, KL_F_backoffLimit), 6) || past_restarts(s)) {
        kl_job_end_with(s, "FailureTarget", "BackoffLimitExceeded",
                        KL_STR("Job has reached the specified backoff limit"));
    } else if (deadline && s->start_us && !kl_job_suspended(s)) {
        int64_t end_us; // any number of seconds is valid
        if (__builtin_mul_overflow(kl_int_or(deadline, 0), 1000000, &end_us) ||
            __builtin_add_overflow(end_us, s->start_us, &end_us))
            end_us = INT64_MAX;
        int64_t left_us = end_us - s->v->now_us;
        if (left_us <= 0)
            kl_job_end_with(s, "FailureTarget", "DeadlineExceeded",
                            KL_STR("Job was active longer than specified deadline"));
        else
            kl_plan_requeue(s->p, (left_us + 999) / 1000);
    }
}

// ---- indexes

static int add_indexes(struct kl_job_sync *s, struct kl_indexes *set,
                       bool (*belongs)(struct kl_job_sync *, const struct kl_job_pod *))
{
    int64_t *list = kl_arena_alloc(s->a, (s->npods + 1) * sizeof *list);
    size_t n = 0;
    if (!list)
        return KL_ENOMEM;
    for (size_t i = 0; i < s->npods; i++) {
        const struct kl_job_pod *x = &s->pods[i];
        if (x->index != KL_INDEX_UNKNOWN && belongs(s, x) && (!n || list[n - 1] != x->index))
            list[n++] = x->index;
    }
    return kl_indexes_add(s->a, set, list, n);
}

static bool has_succeeded(struct kl_job_sync *s, const struct kl_job_pod *x)
{
    return x->succeeded && kl_job_tracks(x->pod);
}

static bool fails_its_index(struct kl_job_sync *s, const struct kl_job_pod *x)
{
    if (!x->failed || !kl_job_tracks(x->pod))
        return false;
    enum kl_job_action rule = kl_job_failure_rule(s->a, s->job, x->pod, NULL);
    return rule == KL_JOB_FAIL_INDEX ||
           (rule != KL_JOB_IGNORE && kl_pod_index_failures(x->pod) >=
                                         kl_int_or(kl_get(s->spec, KL_F_backoffLimitPerIndex), 0));
}

static bool is_active(struct kl_job_sync *s, const struct kl_job_pod *x)
{
    return x->active;
}

static bool is_terminating(struct kl_job_sync *s, const struct kl_job_pod *x)
{
    return kl_pod_terminating(x->pod);
}

// A pod that failed is counted only when its index has another: that one is told how often the
// index has failed.
static void keep_last_failed(struct kl_job_sync *s)
{
    for (size_t i = 0, end; i < s->npods; i = end) {
        int64_t index = s->pods[i].index;
        struct kl_job_pod *last = NULL;
        bool busy = false;
        for (end = i; end < s->npods && s->pods[end].index == index; end++) {
            struct kl_job_pod *x = &s->pods[end];
            busy |= x->active;
            if (!x->tracked || !x->failed)
                continue;
            int64_t n = kl_pod_index_failures(x->pod) + kl_pod_index_ignored(x->pod);
            if (!last || (kl_pod_index_failures(last->pod) + kl_pod_index_ignored(last->pod) <= n &&
                          kl_pod_finished_us(x->pod) >= kl_pod_finished_us(last->pod)))
                last = x;
        }
        if (last && !busy && index != KL_INDEX_UNKNOWN &&
            !kl_indexes_has(&s->succeeded_indexes, index) &&
            !kl_indexes_has(&s->failed_indexes, index))
            last->kept = true;
    }
}

static const struct kl_job_pod *kept_of(const struct kl_job_sync *s, int64_t index)
{
    size_t lo = 0, hi = s->npods;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->pods[mid].index >= index)
            hi = mid;
        else
            lo = mid + 1;
    }
    for (; lo < s->npods && s->pods[lo].index == index; lo++)
        if (s->pods[lo].kept)
            return &s->pods[lo];
    return NULL;
}

static void look_at_indexes(struct kl_job_sync *s)
{
    const struct kl_value *status = kl_get(s->job, KL_F_status);
    int rc = kl_indexes_parse(s->a, kl_text(kl_get(status, KL_F_completedIndexes)), s->completions,
                              &s->before);
    s->succeeded_indexes = s->before;
    rc |= add_indexes(s, &s->succeeded_indexes, has_succeeded);
    s->succeeded = kl_indexes_total(&s->succeeded_indexes);
    if (s->per_index) {
        rc |= kl_indexes_parse(s->a, kl_text(kl_get(status, KL_F_failedIndexes)), s->completions,
                               &s->failed_indexes);
        rc |= add_indexes(s, &s->failed_indexes, fails_its_index);
        int64_t n = kl_indexes_total(&s->failed_indexes);
        if (n > kl_int_or(kl_get(s->spec, KL_F_maxFailedIndexes), INT64_MAX))
            kl_job_end_with(
                s, "FailureTarget", "MaxFailedIndexesExceeded",
                KL_STR("Job has exceeded the specified maximal number of failed indexes"));
        else if (n && n + s->succeeded >= s->completions)
            kl_job_end_with(s, "FailureTarget", "FailedIndexes", KL_STR("Job has failed indexes"));
        keep_last_failed(s);
    }
    int rule = s->ending.type ? -1 : kl_job_success_rule(s->a, s->job, &s->succeeded_indexes);
    if (rule >= 0)
        kl_job_end_with(s, "SuccessCriteriaMet", "SuccessPolicy",
                        kl_arena_printf(s->a, "Matched rules at index %d", rule));
    if (rc < 0)
        no_memory(s->p);
}

// ---- pods that go

static void tell_deletion(struct kl_job_sync *s, struct kl_action *a)
{
    const struct kl_job_pod *x = a->arg;
    if (a->skipped || a->call.err.code == KL_ENOTFOUND)
        return;
    if (a->call.err.code)
        kl_plan_event(s->p, jobs_res(), s->job, "Warning", "FailedDelete", "Error deleting: %s",
                      a->call.err.msg);
    else
        kl_plan_event(s->p, jobs_res(), s->job, "Normal", "SuccessfulDelete", "Deleted pod: %.*s",
                      KL_PRI(kl_meta_name(x->pod)));
}

static void on_deleted(struct kl_action *a)
{
    struct kl_job_sync *s = a->plan->state;
    bool gone = !a->skipped && (!a->call.err.code || a->call.err.code == KL_ENOTFOUND);
    const struct kl_job_pod *x = a->arg;
    tell_deletion(s, a);
    if (x->expected && (!gone || a->call.err.code))
        kl_expectations_deleted(s->v->expectations, s->p->key, kl_meta_uid(x->pod));
    if (!gone)
        return;
    s->deleted++;
    s->active--;
    s->terminating++;
    s->ready -= x->ready;
}

static void delete_pod(struct kl_job_sync *s, struct kl_job_pod *x)
{
    struct kl_action *a = kl_plan_call(s->p, KL_VERB_DELETE, pods_res(), NULL,
                                       kl_meta_namespace(x->pod), kl_meta_name(x->pod));
    if (!a)
        return;
    a->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    a->done_cb = on_deleted;
    a->arg = x;
}

static void delete_active(struct kl_job_sync *s)
{
    for (size_t i = 0; i < s->npods; i++)
        if (s->pods[i].active) {
            kl_job_pace(s->p, s->deletions++);
            delete_pod(s, &s->pods[i]);
        }
}

// Those that are too many are no failures and are not counted.
static void remove_pods(struct kl_job_sync *s, struct kl_job_pod **list, size_t n)
{
    kl_expect_creations(s->v->expectations, s->p->key, 0, s->v->now_ms);
    for (size_t i = 0; i < n; i++) {
        kl_job_pace(s->p, i);
        list[i]->expected = true;
        kl_expect_deletion(s->v->expectations, s->p->key, kl_meta_uid(list[i]->pod), false,
                           s->v->now_ms);
        if (kl_job_tracks(list[i]->pod))
            kl_job_release(s->p, list[i]->pod);
    }
    kl_plan_next_group(s->p);
    for (size_t i = 0; i < n; i++) {
        kl_job_pace(s->p, i);
        delete_pod(s, list[i]);
    }
}

// ---- pods that come

static void on_created(struct kl_action *a)
{
    struct kl_plan *p = a->plan;
    struct kl_job_sync *s = p->state;
    if (!a->skipped && a->call.err.code == 0) {
        struct kl_str name = a->call.object ? kl_meta_name(&a->call.object->root) : KL_STR("");
        kl_plan_event(p, jobs_res(), s->job, "Normal", "SuccessfulCreate", "Created pod: %.*s",
                      KL_PRI(name));
        return;
    }
    kl_expectations_created(s->v->expectations, p->key);
    s->active--;
    if (a->skipped)
        return;
    if (!kl_is_namespace_terminating(&a->call.err))
        kl_plan_event(p, jobs_res(), s->job, "Warning", "FailedCreate", "Error creating: %s",
                      a->call.err.msg);
    else if (strcmp(p->err.msg, a->call.err.msg) == 0)
        p->err.code = 0;
}

static struct kl_object *body_for(struct kl_job_sync *s, int64_t index)
{
    struct kl_value pod = kl_job_pod_draft(s->a, s->job, index);
    if (s->per_index) {
        const struct kl_job_pod *was = kept_of(s, index);
        int64_t failures = was ? kl_pod_index_failures(was->pod) : 0;
        int64_t ignored = was ? kl_pod_index_ignored(was->pod) : 0;
        if (was && kl_job_ignores(s, was))
            ignored++;
        else if (was)
            failures++;
        kl_set_annotation(s->a, &pod, "batch.kubernetes.io/job-index-failure-count",
                          kl_arena_printf(s->a, "%lld", (long long)failures));
        if (ignored)
            kl_set_annotation(s->a, &pod, "batch.kubernetes.io/job-index-ignored-failure-count",
                              kl_arena_printf(s->a, "%lld", (long long)ignored));
    }
    return kl_object_freeze(pods_res()->type, &pod);
}

// Slow start: 1, 2, 4 ... at a time, so that a quota is not asked 500 times in vain.
static void create_pods(struct kl_job_sync *s, const int64_t *indexes, int64_t n)
{
    struct kl_object *shared = indexes ? NULL : body_for(s, KL_INDEX_UNKNOWN);
    kl_expect_creations(s->v->expectations, s->p->key, (int)n, s->v->now_ms);
    s->active += n;
    int64_t done = 0;
    for (int64_t batch = 1; done < n && !s->p->err.code; batch *= 2) {
        kl_plan_next_group(s->p);
        for (int64_t i = 0; i < batch && done < n; i++, done++) {
            struct kl_object *body = indexes ? body_for(s, indexes[done]) : kl_object_ref(shared);
            struct kl_action *a = body ? kl_plan_call(s->p, KL_VERB_CREATE, pods_res(), NULL,
                                                      kl_meta_namespace(s->job), KL_STR(""))
                                       : NULL;
            if (!a) {
                kl_object_unref(body);
                no_memory(s->p);
                break;
            }
            a->call.body = body;
            a->done_cb = on_created;
        }
    }
    kl_object_unref(shared);
}

// Of the indexes that want a pod, those that have waited long enough since their last failure.
static size_t ready_indexes(struct kl_job_sync *s, int64_t *list, size_t n)
{
    size_t now = 0;
    int64_t least = INT64_MAX;
    for (size_t i = 0; i < n; i++) {
        const struct kl_job_pod *was = kept_of(s, list[i]);
        struct kl_job_backoff b = {0};
        if (was)
            b = (struct kl_job_backoff){kl_pod_index_failures(was->pod) +
                                            kl_pod_index_ignored(was->pod) + 1,
                                        kl_pod_finished_us(was->pod)};
        int64_t wait = kl_job_backoff_ms(&b, s->v->now_us);
        if (!wait)
            list[now++] = list[i];
        else
            least = wait < least ? wait : least;
    }
    if (!now && least != INT64_MAX)
        kl_plan_requeue(s->p, least < 1000 ? 1000 : least);
    return now;
}

static int64_t *wanted_indexes(struct kl_job_sync *s, int64_t *n)
{
    int64_t *list = kl_arena_alloc(s->a, ((size_t)*n + 1) * sizeof *list);
    struct kl_indexes taken = s->succeeded_indexes, all;
    int rc = add_indexes(s, &taken, is_active);
    if (s->only_failed)
        rc |= add_indexes(s, &taken, is_terminating);
    rc |= kl_indexes_merge(s->a, &taken, &s->failed_indexes, &all);
    if (!list || rc < 0) {
        no_memory(s->p);
        return NULL;
    }
    size_t have = kl_indexes_missing(&all, s->completions, list, (size_t)*n);
    *n = (int64_t)(s->per_index ? ready_indexes(s, list, have) : have);
    return list;
}

static void add_pods(struct kl_job_sync *s, int64_t n)
{
    int64_t wait = s->per_index ? 0 : kl_job_backoff_ms(&s->backoff, s->v->now_us);
    if (wait) {
        kl_plan_requeue(s->p, wait < 1000 ? 1000 : wait);
        return;
    }
    n = n > BURST ? BURST : n;
    int64_t *indexes = s->indexed ? wanted_indexes(s, &n) : NULL;
    if (n > 0 && !s->p->err.code)
        create_pods(s, indexes, n);
}

static void manage(struct kl_job_sync *s)
{
    int64_t parallelism = kl_int_or(kl_get(s->spec, KL_F_parallelism), 1), want;
    if (kl_job_suspended(s))
        want = 0;
    else if (s->completions < 0)
        want = s->succeeded > 0 ? s->active : parallelism;
    else
        want = s->completions - s->succeeded;
    want = want > parallelism && s->completions >= 0 ? parallelism : want;
    want = want < 0 ? 0 : want;
    size_t surplus = s->active > want ? (size_t)(s->active - want) : 0, n;
    struct kl_job_pod **list =
        kl_job_pods_to_remove(s->a, s->pods, s->npods, s->indexed, surplus, s->v->now_us, &n);
    if (!list)
        no_memory(s->p);
    else if (n)
        remove_pods(s, list, n > BURST && !kl_job_suspended(s) ? BURST : n);
    else if (!kl_job_suspended(s) && want - s->active - (s->only_failed ? s->terminating : 0) > 0)
        add_pods(s, want - s->active - (s->only_failed ? s->terminating : 0));
}

// ---- the sync

static struct kl_job_sync *new_sync(struct kl_plan *p, struct kl_job_view *v)
{
    struct kl_job_sync *s = KL_ARENA_NEW(&p->arena, struct kl_job_sync);
    const struct kl_value *status = kl_get(v->job, KL_F_status);
    const struct kl_value *uncounted = kl_get(status, KL_F_uncountedTerminatedPods);
    if (!s)
        return NULL;
    s->p = p;
    s->v = v;
    s->a = &p->arena;
    s->job = v->job;
    s->base = KL_CONTAINER_OF(v->job, struct kl_object, root);
    s->spec = kl_get(v->job, KL_F_spec);
    s->indexed = kl_str_eqz(kl_text(kl_get(s->spec, KL_F_completionMode)), "Indexed");
    s->per_index = s->indexed && kl_get(s->spec, KL_F_backoffLimitPerIndex);
    s->completions = kl_int_or(kl_get(s->spec, KL_F_completions), -1);
    s->only_failed = kl_get(s->spec, KL_F_podFailurePolicy) ||
                     kl_str_eqz(kl_text(kl_get(s->spec, KL_F_podReplacementPolicy)), "Failed");
    s->status_succeeded = kl_int_or(kl_get(status, KL_F_succeeded), 0);
    s->status_failed = kl_int_or(kl_get(status, KL_F_failed), 0);
    s->start_us = kl_int_or(kl_get(status, KL_F_startTime), 0);
    if (!s->start_us && !kl_job_suspended(s))
        s->start_us = v->now_us / 1000000 * 1000000;
    struct {
        const struct kl_value *from;
        struct kl_value *to;
    } lists[] = {{kl_get(uncounted, KL_F_succeeded), &s->uncounted_succeeded},
                 {kl_get(uncounted, KL_F_failed), &s->uncounted_failed},
                 {kl_get(status, KL_F_conditions), &s->conditions}};
    for (size_t i = 0; i < KL_COUNT(lists); i++) {
        *lists[i].to = kl_new_array();
        for (KL_EACH(x, lists[i].from))
            if (kl_append(s->a, lists[i].to, *x) < 0)
                return NULL;
    }
    s->pods = kl_job_pods_look(s->a, v->job, v->pods, v->npods, s->indexed ? s->completions : -1,
                               s->only_failed);
    s->npods = v->npods;
    for (size_t i = 0; s->pods && i < s->npods; i++)
        s->pods[i].tracked =
            kl_job_tracks(s->pods[i].pod) && !v->is_released(p, kl_meta_uid(s->pods[i].pod));
    return s->pods ? s : NULL;
}

static void sync_job(struct kl_plan *p, struct kl_job_view *v)
{
    struct kl_job_sync *s = new_sync(p, v);
    if (!s) {
        no_memory(p);
        return;
    }
    p->state = s;
    count(s);
    v->backoff = s->backoff;
    const struct kl_value *conditions = &s->conditions;
    if (kl_condition_is(conditions, "SuccessCriteriaMet", "True"))
        end_as(s, "SuccessCriteriaMet", kl_condition_find(conditions, "SuccessCriteriaMet"));
    else if (kl_condition_is(conditions, "FailureTarget", "True"))
        end_as(s, "Failed", kl_condition_find(conditions, "FailureTarget"));
    else
        find_failing_rule(s);
    if (!s->ending.type)
        find_limits(s);
    if (s->indexed)
        look_at_indexes(s);
    if (p->err.code)
        return;
    if (s->ending.type) {
        delete_active(s);
    } else if (v->expectations_met && !kl_meta_deleting(v->job)) {
        s->may_manage = true;
        manage(s);
    }
    if (p->err.code)
        return;
    if (p->actions)
        p->then = kl_job_track;
    else
        kl_job_track(p);
}

static struct kl_claim claim_of(const struct kl_job_view *v)
{
    return (struct kl_claim){
        .owner_res = jobs_res(), .owner = v->job, .res = pods_res(), .finalizer = KL_JOB_FINALIZER};
}

static void adopt(struct kl_plan *p)
{
    struct kl_job_view *v = p->state;
    struct kl_claim c = claim_of(v);
    if (!kl_claim_may_adopt(p, &c, p->actions))
        return;
    for (size_t i = 0; i < v->norphans; i++)
        kl_claim_adopt(p, &c, v->orphans[i]);
}

// Events of what is claimed or let go bring the Job again; of a pod without an owner that goes
// meanwhile there is none for the Job.
void kl_job_decide(struct kl_plan *p, struct kl_job_view *v)
{
    struct kl_claim c = claim_of(v);
    if (v->norphans) {
        p->state = v;
        if (kl_claim_recheck(p, &c))
            p->then = adopt;
    }
    for (size_t i = 0; i < v->nstrays; i++)
        kl_claim_release(p, &c, v->strays[i]);
    if (!v->norphans && !v->nstrays)
        sync_job(p, v);
    else
        kl_plan_requeue(p, RESYNC_MS);
}
