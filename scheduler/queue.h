// SPDX-License-Identifier: Apache-2.0
// Pods that wait for a node. Each is in exactly one of: active (to be tried, by priority, then by
// age), back-off (tried lately in vain: 1 s, doubling to 10 s), unschedulable (nothing has happened
// that could help; tried again after five minutes at the latest), gated (has scheduling gates), or
// taken (being tried or bound). Pure but for its timer.
#pragma once
#include "client/timers.h"
#include "scheduler/podinfo.h"

enum kl_queued_state {
    KL_QUEUED_ACTIVE,
    KL_QUEUED_BACKOFF,
    KL_QUEUED_UNSCHEDULABLE,
    KL_QUEUED_GATED,
    KL_QUEUED_TAKEN,
};

struct kl_queued {
    struct kl_pod_info *info; // owned
    enum kl_queued_state state;
    int attempts;
    uint32_t rejected_by; // plugins that turned it away, bits
    int64_t since_ms;     // in its state
    int64_t added_ms;     // its age among equals
    uint64_t seq;
    struct kl_timer timer; // back-off's end, or the flush
    struct kl_queue *queue;
    size_t slot; // in the heap of the active
    bool gone;   // deleted while it was taken
    bool moved;  // something that might help happened while it was taken
};

struct kl_queue;

// ready_cb: there is something to take; called from within the functions that make it so.
struct kl_queue *kl_queue_new(struct kl_timers *ts, void (*ready_cb)(void *arg), void *arg);
void kl_queue_free(struct kl_queue *q); // accepts NULL

// A pod without a node, new or changed. `gated` pods wait until an update takes the gates away.
// KL_ENOMEM.
int kl_queue_set(struct kl_queue *q, struct kl_object *pod, bool gated);
void kl_queue_remove(struct kl_queue *q, struct kl_str uid);

// The next to try; it is the caller's until kl_queue_fail or kl_queue_bound.
struct kl_queued *kl_queue_take(struct kl_queue *q);
// No node, because of these plugins; 0: an error, which only time can heal.
void kl_queue_fail(struct kl_queue *q, struct kl_queued *p, uint32_t rejected_by);
void kl_queue_bound(struct kl_queue *q, struct kl_queued *p); // frees it
// Something happened that may help pods turned away by any of these plugins.
void kl_queue_move(struct kl_queue *q, uint32_t plugins);

struct kl_queue_counts {
    size_t active, backoff, unschedulable, gated, taken;
};
struct kl_queue_counts kl_queue_count(const struct kl_queue *q);
const struct kl_queued *kl_queue_find(const struct kl_queue *q, struct kl_str uid);
