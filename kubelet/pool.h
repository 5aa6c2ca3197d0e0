// SPDX-License-Identifier: Apache-2.0
// Threads for what blocks: mounts, file trees, image archives. A job's done comes on the loop.
#pragma once
#include "base/loop.h"
#include "base/str.h"

struct kl_pool;

// Embedded in what it works for. work runs on a thread and touches only what the job owns.
struct kl_job {
    void (*work)(struct kl_job *job);
    void (*done)(struct kl_job *job);
    struct kl_job *next;
    struct kl_pool *pool;
    struct kl_task task;
};

int kl_pool_new(struct kl_loop *loop, int nthreads, struct kl_pool **ret, struct kl_error *err);
void kl_pool_submit(struct kl_pool *p, struct kl_job *job); // loop only; never fails
// Jobs submitted whose done has not returned.
int kl_pool_pending(const struct kl_pool *p);
// When nothing is pending: ends the threads. Accepts NULL.
void kl_pool_free(struct kl_pool *p);
