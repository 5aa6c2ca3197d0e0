// SPDX-License-Identifier: Apache-2.0
// How many pods of a PodDisruptionBudget there should be: the sum of what their controllers want.
#pragma once
#include "client/reconciler.h"
#include "controllers/controllers_int.h"
#include "controllers/kinds.h"

enum { KL_SCALES_MAX = 64 }; // controllers of custom kinds that one budget's pods may have

// Whose spec.replicas is looked at here; of other kinds the scale subresource is asked for.
enum kl_scale_owner {
    KL_OWNER_RC,
    KL_OWNER_RS,
    KL_OWNER_DEPLOYMENT,
    KL_OWNER_STATEFULSET,
    KL_OWNERS
};

struct kl_disruption {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler, *stale;
    struct kl_informer *budgets, *pods, *owners[KL_OWNERS];
    int pods_by_ns, budgets_by_ns;
    struct kl_handler budget_handler, pod_handler;
    struct kl_kinds *kinds; // made when a pod's controller is of no built-in kind
};

// One sync of a budget.
struct kl_pod_count {
    struct kl_object *budget;
    const struct kl_value **pods; // selected; held
    size_t n;
    struct kl_str *uids; // of controllers whose pods are counted
    size_t nuids, nunmanaged;
    struct kl_action *scales[KL_SCALES_MAX];
    struct kl_str scale_uids[KL_SCALES_MAX];
    size_t nscales;
    int64_t expected;
};

const struct kl_resource *kl_scale_owner_res(enum kl_scale_owner o);
// Adds to n->expected and counts n->nunmanaged; plans a look at the scale of each controller of
// another kind. An error is p->err too.
int kl_disruption_sum(struct kl_disruption *c, struct kl_plan *p, struct kl_pod_count *n);
// When those looks have come back: adds what they found.
int kl_disruption_add(struct kl_plan *p, struct kl_pod_count *n);
