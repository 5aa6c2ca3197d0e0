// SPDX-License-Identifier: Apache-2.0
// API Priority and Fairness (KEP-1040): which request may run now, which waits, which is told to
// come again. By FlowSchema and PriorityLevelConfiguration objects, as upstream.
//
// Between loops. A request that runs to its end without waiting is never concurrent with another of
// its loop; seats are held while one waits for the store, a webhook or its reader's socket. A
// level's seats and queues are one structure behind one mutex, shared by all loops: a request locks
// it twice, for much less than what splitting seats between loops and moving them about would cost,
// and upstream's decisions are kept exactly. What a request is classified as is
// cached by each loop for user, verb and resource until a FlowSchema or level changes. Waiting
// holds no thread: a parked request keeps its head, its body is not read before it runs, and its
// loop is told by mailbox when its turn comes.
//
// Who calls from within the process (controllers, scheduler, kubelet) is not asked here.
#pragma once
#include "apiserver/server_int.h"

struct kl_fair;

struct kl_fair_options {
    int max_inflight, max_mutating_inflight; // their sum is shared by the levels
    bool off; // --enable-priority-and-fairness=false: only these two limits, 0: none
};

// NULL when out of memory.
struct kl_fair *kl_fair_new(struct kl_apiserver *s, const struct kl_fair_options *o);
// On loops[0], once the readers are there: follows the objects from then on. Written by bootstrap
// or not: the mandatory ones are imagined until they are there.
void kl_fair_start(struct kl_fair *f);
void kl_fair_stop(struct kl_fair *f);           // on loops[0]
void kl_fair_loop_fini(struct kl_api_loop *al); // on the loop: no request is left
void kl_fair_free(struct kl_fair *f);           // loops stopped; accepts NULL

// A request with its user and options is here. True: it may go on now. False: `go_on` comes on this
// loop when it may, or the request was answered (429), or its client went away while it waited.
bool kl_fair_enter(struct kl_api_call *c, void (*go_on)(struct kl_api_call *c));
// It is over, or a watch has sent what was there when it began. Any number of times.
void kl_fair_leave(struct kl_req *r);
// X-Kubernetes-Pf-Flowschema-Uid and -Prioritylevel-Uid, "" when not classified.
void kl_fair_uids(const struct kl_req *r, struct kl_str *ret_schema, struct kl_str *ret_level);
// An open watch counts for what a write costs: +1 when it begins, -1 when it ends.
void kl_fair_count_watch(struct kl_req *r, int delta);

// apiserver_flowcontrol_* in Prometheus' text format. Any thread.
void kl_fair_metrics(struct kl_fair *f, struct kl_buf *b);
// /debug/api_priority_and_fairness/dump_*: false when the path is none of them.
bool kl_fair_dump(struct kl_api_call *c);
