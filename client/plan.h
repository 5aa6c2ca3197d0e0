// SPDX-License-Identifier: Apache-2.0
// A plan is what a pure decision function answers: the calls to make, the events to tell, when to
// look again. A decision reads state and the time and fills the plan; it calls nobody, so a test
// reads the plan. The executor (kl_plan_run, mostly through client/reconciler.h) does the rest.
//
// Actions run in the order they were added. Neighbours of one group run at the same time, the next
// group when all have ended. When one fails, the groups after it are skipped. When the actions have
// run out, `then` (if set) is asked once; it may read plan->err and the results, add actions and
// set `then` again. What `then` adds runs even after a failure.
#pragma once
#include "client/client.h"
#include "client/helpers.h"
#include "client/recorder.h"

struct kl_plan;

struct kl_action {
    struct kl_call call; // the decision fills the request; results are in it when done_cb comes
    struct kl_action *next;
    struct kl_plan *plan;
    uint16_t group;
    uint32_t ok_errors; // KL_OK_ERROR(KL_ENOTFOUND) | ...: not a failure of the plan
    bool started, ended;
    bool skipped; // never called, because one before it failed
    // Before the plan goes on; also when skipped. May add events, not actions. May be NULL.
    void (*done_cb)(struct kl_action *a);
    void *arg;
};
#define KL_OK_ERROR(code) (1u << (unsigned)(-(code)))

struct kl_plan_event {
    struct kl_plan_event *next;
    struct kl_object_ref about;
    const char *type, *reason; // constants
    struct kl_str message;
};

struct kl_plan_held;
struct kl_plan {
    struct kl_arena arena; // all that the decision makes
    struct kl_str key;     // what the plan is about
    void *arg;             // the controller
    void *state;           // the decision's own, for `then`
    struct kl_action *actions, **actions_end;
    struct kl_plan_event *events, **events_end;
    void (*then)(struct kl_plan *p);
    int64_t requeue_ms;  // look again after; -1: not
    struct kl_error err; // the first failure; a decision that cannot decide sets it
    uint16_t group;      // of the actions added now
    struct kl_plan_held *held;
    // the executor's
    struct kl_client *client;
    struct kl_recorder *recorder;
    void (*end_cb)(struct kl_plan *p);
    void *end_arg;
    struct kl_action *running;
    unsigned in_flight;
    uint16_t running_group;
    bool in_step, freed;
    bool failed; // since `then` was last asked: what follows is skipped
};

void kl_plan_init(struct kl_plan *p, struct kl_str key, void *arg);
void kl_plan_fini(struct kl_plan *p); // not while running

// A zeroed action at the end of the plan, in the group of p->group; NULL and p->err when memory ran
// out. ns and name are borrowed: of the plan's arena or of a held object.
struct kl_action *kl_plan_call(struct kl_plan *p, enum kl_verb verb, const struct kl_resource *res,
                               const char *sub, struct kl_str ns, struct kl_str name);
// The same with a body made from a draft.
struct kl_action *kl_plan_write(struct kl_plan *p, enum kl_verb verb, const struct kl_resource *res,
                                const char *sub, const struct kl_value *draft);
// What is added next waits for what was added so far.
static inline void kl_plan_next_group(struct kl_plan *p)
{
    p->group++;
}
void kl_plan_event(struct kl_plan *p, const struct kl_resource *res, const struct kl_value *about,
                   const char *type, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
// Keeps an informer's object until the plan is gone; returns it.
struct kl_object *kl_plan_hold(struct kl_plan *p, struct kl_object *o);
void kl_plan_requeue(struct kl_plan *p, int64_t after_ms); // the earliest asked for counts

// Runs the plan; end_cb comes later or, when there is nothing to call, before it returns. It may
// fini and free the plan.
void kl_plan_run(struct kl_plan *p, struct kl_client *client, struct kl_recorder *recorder,
                 void (*end_cb)(struct kl_plan *p), void *end_arg);
// Cancels a running plan's calls; no done_cb and no `then` comes any more, end_cb when all have
// ended.
void kl_plan_cancel(struct kl_plan *p);
