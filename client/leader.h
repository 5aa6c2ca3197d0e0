// SPDX-License-Identifier: Apache-2.0
// Leader election through a Lease, as client-go's leaderelection: of several servers one runs the
// controllers. The decision is pure and tested in virtual time. One loop.
#pragma once
#include "client/client.h"
#include "client/timers.h"

struct kl_leader;

struct kl_leader_opts {
    struct kl_client *client; // borrowed
    struct kl_timers *timers;
    struct kl_str ns, name; // of the Lease: "kube-system", "kube-controller-manager"; copied
    struct kl_str identity; // of this candidate; copied
    int64_t lease_ms, renew_ms, retry_ms; // [15000, 10000, 2000]
    void (*started_cb)(void *arg);        // this one leads now
    void (*stopped_cb)(void *arg);        // it does no more; it goes on being a candidate
    void (*freed_cb)(void *arg);          // may be NULL: client and timers are no longer used
    void *arg;
};

struct kl_leader *kl_leader_new(const struct kl_leader_opts *o); // NULL: no memory
// Gives the Lease up, if held, so that another need not wait; then frees. No callback comes but
// freed_cb, when the calls under way have ended. Accepts NULL.
void kl_leader_free(struct kl_leader *l);
bool kl_leader_leads(const struct kl_leader *l);

// ---- the decision, for tests

enum kl_leader_move {
    KL_LEADER_WAIT,   // another leads
    KL_LEADER_CREATE, // there is no Lease
    KL_LEADER_TAKE,   // it has run out
    KL_LEADER_RENEW,  // it is ours
};
struct kl_leader_view {
    const struct kl_value *lease; // NULL: none
    struct kl_str identity;
    int64_t observed_ms; // when the record was last seen to change, by our own clock
    int64_t now_ms;
};
enum kl_leader_move kl_leader_decide(const struct kl_leader_view *v);
