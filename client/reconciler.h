// SPDX-License-Identifier: Apache-2.0
// The shell of every controller: a work queue whose keys are turned into plans by the controller's
// decision function; a number of plans run at the same time, one per key. A plan that failed comes
// again with the queue's back-off. One loop.
#pragma once
#include "client/informer.h"
#include "client/plan.h"
#include "client/workqueue.h"

struct kl_reconciler;

struct kl_reconciler_opts {
    const char *name; // in log lines
    struct kl_client *client;
    struct kl_timers *timers;
    struct kl_recorder *recorder; // may be NULL
    int workers;                  // [5] plans at the same time
    int max_retries;              // [0: for ever] then the key is dropped until it is added anew
    // Decides: reads p->key and p->arg, fills the plan.
    void (*decide)(struct kl_plan *p);
    // After the plan has ended (it still holds its results); may be NULL.
    void (*ended)(struct kl_plan *p);
    void *arg; // becomes p->arg
};

struct kl_reconciler *kl_reconciler_new(const struct kl_reconciler_opts *o); // NULL: no memory
void kl_reconciler_free(struct kl_reconciler *r);                            // accepts NULL
// Work begins only when this informer has its first whole list. Before kl_reconciler_start.
int kl_reconciler_needs(struct kl_reconciler *r, struct kl_informer *inf);
void kl_reconciler_start(struct kl_reconciler *r);

void kl_reconciler_add(struct kl_reconciler *r, struct kl_str key);
void kl_reconciler_add_after(struct kl_reconciler *r, struct kl_str key, int64_t delay_ms);
void kl_reconciler_add_object(struct kl_reconciler *r, const struct kl_value *root); // its ns/name
bool kl_reconciler_idle(const struct kl_reconciler *r); // nothing waits, nothing runs
struct kl_workqueue *kl_reconciler_queue(struct kl_reconciler *r);
