// SPDX-License-Identifier: Apache-2.0
// One sync of a Job, as its two halves share it: job_plan.c decides how it ends and which pods come
// and go, job_status.c counts what ended and writes it.
#pragma once
#include "controllers/job.h"
#include "controllers/job_pods.h"

enum { KL_INDEX_UNKNOWN = -1, KL_JOB_CALLS_AT_ONCE = 500 };

// A condition that is to be, or none (type NULL).
struct kl_job_ending {
    const char *type; // FailureTarget, Failed, SuccessCriteriaMet, Complete
    struct kl_str reason, message;
};

struct kl_job_sync {
    struct kl_plan *p;
    struct kl_job_view *v;
    struct kl_arena *a;
    const struct kl_value *job, *spec;
    struct kl_job_pod *pods; // of Indexed Jobs in the order of their indexes
    size_t npods;
    bool indexed, per_index, only_failed;
    int64_t completions; // -1: not said
    struct kl_indexes before, succeeded_indexes, failed_indexes;
    struct kl_job_ending ending;
    int64_t active, ready, terminating, succeeded, failed;
    struct kl_job_backoff backoff;
    size_t deletions, deleted; // of active pods, because the Job ends
    bool may_manage;
    // the status as it is to be
    struct kl_object *base; // what it is written over: the Job, then what the first write answered
    int64_t status_succeeded, status_failed;
    struct kl_value uncounted_succeeded, uncounted_failed, conditions;
    int64_t start_us, end_us;
    bool flush, full, lost;
    struct kl_action *write;
};

// Before the i-th call of a row: so many at most are under way, however many pods there are.
static inline void kl_job_pace(struct kl_plan *p, size_t i)
{
    if (i && i % KL_JOB_CALLS_AT_ONCE == 0)
        kl_plan_next_group(p);
}

bool kl_job_suspended(const struct kl_job_sync *s);
// Whether the Job's policy says that this failure does not count.
bool kl_job_ignores(struct kl_job_sync *s, const struct kl_job_pod *x);
// The first reason counts.
void kl_job_end_with(struct kl_job_sync *s, const char *type, const char *reason,
                     struct kl_str message);
void kl_job_track(struct kl_plan *p); // the second half; p->state is the sync
