// SPDX-License-Identifier: Apache-2.0
// What a Job says about failures and successes, and how long it waits between failures (upstream:
// pkg/controller/job, pod_failure_policy.go, success_policy.go, backoff_utils.go).
#include "controllers/job.h"

enum { BACKOFF_MS = 10 * 1000, BACKOFF_MAX_MS = 10 * 60 * 1000 };

static bool has_code(const struct kl_value *values, int64_t code)
{
    for (KL_EACH(x, values))
        if (kl_int_or(x, 0) == code)
            return true;
    return false;
}

static const struct kl_value *container_with_code(const struct kl_value *statuses,
                                                  const struct kl_value *rule)
{
    struct kl_str name = kl_text(kl_get(rule, KL_F_containerName));
    struct kl_str op = kl_text(kl_get(rule, KL_F_operator));
    for (KL_EACH(c, statuses)) {
        const struct kl_value *ended = kl_path(c, KL_F_state, KL_F_terminated);
        int64_t code = kl_int_or(kl_get(ended, KL_F_exitCode), 0);
        if (!ended || !code || (name.n && !kl_str_eq(name, kl_text(kl_get(c, KL_F_name)))))
            continue;
        bool has = has_code(kl_get(rule, KL_F_values), code);
        if ((kl_str_eqz(op, "In") && has) || (kl_str_eqz(op, "NotIn") && !has))
            return c;
    }
    return NULL;
}

static const struct kl_value *matching_condition(const struct kl_value *pod,
                                                 const struct kl_value *patterns)
{
    for (KL_EACH(c, kl_path(pod, KL_F_status, KL_F_conditions)))
        for (KL_EACH(x, patterns))
            if (kl_str_eq(kl_text(kl_get(c, KL_F_type)), kl_text(kl_get(x, KL_F_type))) &&
                kl_str_eq(kl_text(kl_get(c, KL_F_status)), kl_text(kl_get(x, KL_F_status))))
                return c;
    return NULL;
}

static enum kl_job_action action_named(struct kl_str name)
{
    static const struct {
        const char *name;
        enum kl_job_action action;
    } all[] = {
        {"Ignore", KL_JOB_IGNORE},
        {"Count", KL_JOB_COUNT},
        {"FailIndex", KL_JOB_FAIL_INDEX},
        {"FailJob", KL_JOB_FAIL},
    };
    for (size_t i = 0; i < KL_COUNT(all); i++)
        if (kl_str_eqz(name, all[i].name))
            return all[i].action;
    return KL_JOB_NO_RULE;
}

enum kl_job_action kl_job_failure_rule(struct kl_arena *a, const struct kl_value *job,
                                       const struct kl_value *pod, struct kl_str *ret_message)
{
    struct kl_str ns = kl_meta_namespace(pod), name = kl_meta_name(pod);
    int at = -1;
    for (KL_EACH(rule, kl_path(job, KL_F_spec, KL_F_podFailurePolicy, KL_F_rules))) {
        const struct kl_value *codes = kl_get(rule, KL_F_onExitCodes), *c = NULL, *condition = NULL;
        struct kl_str word = kl_text(kl_get(rule, KL_F_action));
        enum kl_job_action action = action_named(word);
        at++;
        if (codes) {
            c = container_with_code(kl_path(pod, KL_F_status, KL_F_containerStatuses), codes);
            if (!c)
                c = container_with_code(kl_path(pod, KL_F_status, KL_F_initContainerStatuses),
                                        codes);
        } else {
            condition = matching_condition(pod, kl_get(rule, KL_F_onPodConditions));
        }
        if (action == KL_JOB_NO_RULE || (!c && !condition))
            continue;
        if (action != KL_JOB_FAIL || !ret_message)
            return action;
        if (c)
            *ret_message = kl_arena_printf(
                a,
                "Container %.*s for pod %.*s/%.*s failed with exit code %lld matching %.*s rule at "
                "index %d",
                KL_PRI(kl_text(kl_get(c, KL_F_name))), KL_PRI(ns), KL_PRI(name),
                (long long)kl_int_at(c, 0, KL_F_state, KL_F_terminated, KL_F_exitCode),
                KL_PRI(word), at);
        else
            *ret_message = kl_arena_printf(
                a, "Pod %.*s/%.*s has condition %.*s matching %.*s rule at index %d", KL_PRI(ns),
                KL_PRI(name), KL_PRI(kl_text(kl_get(condition, KL_F_type))), KL_PRI(word), at);
        return action;
    }
    return KL_JOB_NO_RULE;
}

// ---- success

// How many indexes are in both.
static int64_t common(const struct kl_indexes *x, const struct kl_indexes *y)
{
    int64_t n = 0;
    for (size_t i = 0, k = 0; i < x->n && k < y->n;) {
        int64_t first = x->v[i].first > y->v[k].first ? x->v[i].first : y->v[k].first;
        int64_t last = x->v[i].last < y->v[k].last ? x->v[i].last : y->v[k].last;
        n += last >= first ? last - first + 1 : 0;
        if (x->v[i].last < y->v[k].last)
            i++;
        else
            k++;
    }
    return n;
}

int kl_job_success_rule(struct kl_arena *a, const struct kl_value *job,
                        const struct kl_indexes *succeeded)
{
    int64_t completions = kl_int_at(job, 0, KL_F_spec, KL_F_completions);
    int at = -1;
    for (KL_EACH(rule, kl_path(job, KL_F_spec, KL_F_successPolicy, KL_F_rules))) {
        const struct kl_value *indexes = kl_get(rule, KL_F_succeededIndexes);
        int64_t count = kl_int_or(kl_get(rule, KL_F_succeededCount), INT64_MAX);
        struct kl_indexes wanted;
        at++;
        if (!succeeded->n)
            break;
        if (!indexes) {
            if (kl_indexes_total(succeeded) >= count)
                return at;
            continue;
        }
        if (kl_indexes_parse(a, kl_text(indexes), completions, &wanted) < 0 || !wanted.n)
            continue;
        int64_t have = common(succeeded, &wanted);
        if (have == kl_indexes_total(&wanted) || have >= count)
            return at;
    }
    return -1;
}

// ---- time

static bool is_sidecar(const struct kl_value *pod, struct kl_str name)
{
    for (KL_EACH(c, kl_path(pod, KL_F_spec, KL_F_initContainers)))
        if (kl_str_eq(kl_text(kl_get(c, KL_F_name)), name))
            return kl_str_eqz(kl_text(kl_get(c, KL_F_restartPolicy)), "Always");
    return false;
}

// The latest end; 0 when one has not ended, or there is none.
static int64_t latest_end(const struct kl_value *pod, const struct kl_value *statuses,
                          bool sidecars, int64_t latest)
{
    for (KL_EACH(c, statuses)) {
        if (sidecars && !is_sidecar(pod, kl_text(kl_get(c, KL_F_name))))
            continue;
        int64_t end = kl_int_at(c, 0, KL_F_state, KL_F_terminated, KL_F_finishedAt);
        if (!end)
            return 0;
        latest = end > latest ? end : latest;
    }
    return latest;
}

int64_t kl_pod_finished_us(const struct kl_value *pod)
{
    const struct kl_value *status = kl_get(pod, KL_F_status);
    int64_t end = latest_end(pod, kl_get(status, KL_F_containerStatuses), false, 0);
    end = latest_end(pod, kl_get(status, KL_F_initContainerStatuses), true, end);
    if (end)
        return end;
    const struct kl_value *ready = kl_condition_find(kl_get(status, KL_F_conditions), "Ready");
    end = kl_int_or(kl_get(ready, KL_F_lastTransitionTime), 0);
    if (end && kl_str_eqz(kl_text(kl_get(ready, KL_F_status)), "False"))
        return end;
    const struct kl_value *meta = kl_get(pod, KL_F_metadata);
    end = kl_int_or(kl_get(meta, KL_F_deletionTimestamp), 0);
    int64_t grace = kl_int_or(kl_get(meta, KL_F_deletionGracePeriodSeconds), 0);
    if (end && grace >= 0 && grace <= end / 1000000) // else the grace is no time that there is
        return end - grace * 1000000;
    return kl_int_or(kl_get(meta, KL_F_creationTimestamp), 0);
}

int64_t kl_job_backoff_ms(const struct kl_job_backoff *b, int64_t now_us)
{
    int64_t wait = BACKOFF_MS;
    if (!b->failures)
        return 0;
    for (int64_t i = 1; i < b->failures && wait < BACKOFF_MAX_MS; i++)
        wait *= 2;
    wait = wait > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : wait;
    int64_t left_us = wait * 1000 - (now_us - b->last_us);
    return left_us > 0 ? (left_us + 999) / 1000 : 0;
}
