// SPDX-License-Identifier: Apache-2.0
// The decision of the Job controller and its parts, for its shell and its tests. Pure.
#pragma once
#include "client/plan.h"
#include "controllers/expectations.h"

#define KL_JOB_FINALIZER "batch.kubernetes.io/job-tracking"

// ---- job_index.c: sets of completion indexes, "1,3-5,7" in a Job's status

struct kl_index_range {
    int64_t first, last;
};

struct kl_indexes {
    struct kl_index_range *v; // ascending, with gaps between them; the arena's
    size_t n;
};

// What does not parse is left out, and so is what is not below `completions`. KL_ENOMEM.
int kl_indexes_parse(struct kl_arena *a, struct kl_str text, int64_t completions,
                     struct kl_indexes *ret);
int kl_indexes_add(struct kl_arena *a, struct kl_indexes *set, const int64_t *ascending, size_t n);
int kl_indexes_merge(struct kl_arena *a, const struct kl_indexes *x, const struct kl_indexes *y,
                     struct kl_indexes *ret);
int64_t kl_indexes_total(const struct kl_indexes *set);
bool kl_indexes_has(const struct kl_indexes *set, int64_t index);
struct kl_str kl_indexes_text(struct kl_arena *a, const struct kl_indexes *set);
// The lowest `max` ones below `completions` that are not in the set; how many.
size_t kl_indexes_missing(const struct kl_indexes *set, int64_t completions, int64_t *ret,
                          size_t max);

int64_t kl_pod_completion_index(const struct kl_value *pod); // -1: none
// How often this pod's index has failed before it: those that count and those that did not.
int64_t kl_pod_index_failures(const struct kl_value *pod);
int64_t kl_pod_index_ignored(const struct kl_value *pod);

// ---- job_policy.c: what a Job says about failures and successes

enum kl_job_action { KL_JOB_NO_RULE, KL_JOB_IGNORE, KL_JOB_COUNT, KL_JOB_FAIL_INDEX, KL_JOB_FAIL };
// The first rule of spec.podFailurePolicy that a failed pod meets. ret_message (may be NULL) gets
// what is said of a Job that fails by it.
enum kl_job_action kl_job_failure_rule(struct kl_arena *a, const struct kl_value *job,
                                       const struct kl_value *pod, struct kl_str *ret_message);
// Which rule of spec.successPolicy is met; -1: none.
int kl_job_success_rule(struct kl_arena *a, const struct kl_value *job,
                        const struct kl_indexes *succeeded);
int64_t kl_pod_finished_us(const struct kl_value *pod);

struct kl_job_backoff {
    int64_t failures; // after the last success
    int64_t last_us;  // of the last of them
};
// How long to wait after that many failures: 10 s, twice as long with each, 10 min at most.
int64_t kl_job_backoff_ms(const struct kl_job_backoff *b, int64_t now_us);

// ---- job_plan.c

// What one sync sees. The values are of objects that the plan holds.
struct kl_job_view {
    const struct kl_value *job;
    const struct kl_value **pods; // the Job's, matching its selector
    size_t npods;
    const struct kl_value **strays, **orphans; // to be released, to be adopted
    size_t nstrays, norphans;
    bool expectations_met;
    // Whether our removal of this pod's finalizer was asked for and is not seen yet.
    bool (*is_released)(const struct kl_plan *p, struct kl_str uid);
    struct kl_job_backoff backoff; // becomes the new one
    struct kl_expectations *expectations;
    int64_t now_us, now_ms;
    // told to the shell
    void (*releasing)(struct kl_plan *p, struct kl_str uid, bool begun); // false: it failed
    // the status with the new failures was written; the Job's end was
    void (*counted)(struct kl_plan *p, const struct kl_job_view *v);
    void (*finished)(struct kl_plan *p, const struct kl_job_view *v);
};

bool kl_job_finished(const struct kl_value *job);
bool kl_job_tracks(const struct kl_value *pod); // it has the finalizer
struct kl_action *kl_job_release(struct kl_plan *p, const struct kl_value *pod); // takes it away
void kl_job_decide(struct kl_plan *p, struct kl_job_view *v);
