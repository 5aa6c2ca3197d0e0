// SPDX-License-Identifier: Apache-2.0
// The decision of the ReplicaSet and ReplicationController controllers, for its shell and its
// tests.
#pragma once
#include "client/plan.h"
#include "controllers/expectations.h"

// What one sync sees. The arrays are the plan's arena's; the values are of held objects.
struct kl_replicaset_view {
    const struct kl_resource *res; // of rs, which may be a ReplicationController
    const struct kl_value *rs;
    int64_t replicas;               // wanted
    const struct kl_value **active; // owned, matching, neither terminal nor being deleted
    size_t nactive, active_cap;
    int *rank;                      // of active: related pods on the same node
    const struct kl_value **strays; // owned, but no longer matching: to be released
    size_t nstrays;
    const struct kl_value **orphans; // matching, owned by nobody: to be adopted
    size_t norphans;
    size_t nterminating;
    struct kl_expectations *expectations;
    int64_t now_us, now_ms;
    struct kl_action *recheck; // the decision's own
};

void kl_replicaset_decide(struct kl_plan *p, struct kl_replicaset_view *v);
void kl_replicaset_manage(struct kl_plan *p); // its part after the claims; p->state is the view
