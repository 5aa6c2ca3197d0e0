// SPDX-License-Identifier: Apache-2.0
// Assigns pods to nodes, as kube-scheduler's default profile: filter, score, bind. The choice is
// pure (schedule.h); this is the shell with informers, queue and calls. One loop.
#pragma once
#include "client/client.h"
#include "client/timers.h"

struct kl_scheduler;

struct kl_scheduler_options {
    struct kl_timers *timers;   // NULL: real time on the loop. Borrowed otherwise (tests)
    const char *scheduler_name; // [default-scheduler] pods of other schedulers are left alone
    int percentage_of_nodes;    // [0: adaptive, as upstream] how many nodes to score
    uint64_t seed;              // of the choice among equals; 0: random
};

// The client acts as system:kube-scheduler and is borrowed: it must outlive the scheduler.
// KL_ENOMEM.
int kl_scheduler_start(struct kl_loop *loop, struct kl_client *client,
                       const struct kl_scheduler_options *o, struct kl_scheduler **ret,
                       struct kl_error *err);
void kl_scheduler_stop(struct kl_scheduler *s); // accepts NULL

struct kl_scheduler_stats {
    size_t nodes, active, backoff, unschedulable, binding;
    int64_t scheduled, attempts;
};
void kl_scheduler_get_stats(const struct kl_scheduler *s, struct kl_scheduler_stats *ret);
bool kl_scheduler_idle(const struct kl_scheduler *s); // nothing to try and nothing being bound
