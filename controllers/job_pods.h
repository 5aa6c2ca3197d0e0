// SPDX-License-Identifier: Apache-2.0
// A Job's pods as one sync sees them, and what makes a pod a Job's.
#pragma once
#include "controllers/job.h"

struct kl_job_pod {
    const struct kl_value *pod;
    int64_t index; // -1: none, or one that the Job does not have
    bool active, ready, succeeded, failed;
    bool in_succeeded, in_failed; // its uid is in the status, to be counted
    bool tracked;                 // it has the finalizer and we did not ask to remove it
    bool kept;                    // it waits for the pod that takes its place
    bool release, expected;       // its finalizer goes; its deletion is waited for
};

// completions >= 0: of an Indexed Job, and in the order of the indexes. NULL: no memory.
struct kl_job_pod *kl_job_pods_look(struct kl_arena *a, const struct kl_value *job,
                                    const struct kl_value *const *pods, size_t n,
                                    int64_t completions, bool only_failed);
// At least `surplus` active ones: those of no index or of one that another has too, then by rank.
struct kl_job_pod **kl_job_pods_to_remove(struct kl_arena *a, struct kl_job_pod *pods, size_t n,
                                          bool indexed, size_t surplus, int64_t now_us,
                                          size_t *ret_n);
struct kl_value kl_job_pod_draft(struct kl_arena *a, const struct kl_value *job, int64_t index);
