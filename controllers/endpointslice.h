// SPDX-License-Identifier: Apache-2.0
// The decision of the EndpointSlice controller, for its shell and its tests.
#pragma once
#include "client/plan.h"

enum { KL_SLICE_ENDPOINTS_MAX = 100 };
#define KL_SLICE_SERVICE_LABEL "kubernetes.io/service-name"
#define KL_SLICE_MANAGER_LABEL "endpointslice.kubernetes.io/managed-by"
#define KL_SLICE_MANAGER "endpointslice-controller.k8s.io"

// A pod that the Service selects, with what its node says.
struct kl_slice_pod {
    const struct kl_value *pod;
    struct kl_str zone;
    bool no_node; // the node it names is not there (yet)
};

// What one sync sees. The arrays are the plan's arena's; the values are of held objects.
struct kl_slices_view {
    const struct kl_value *service;
    const struct kl_slice_pod *pods;
    size_t npods;
    const struct kl_value **slices; // this controller's of the Service, none being deleted
    size_t nslices;
    void (*written_cb)(struct kl_action *a); // of each call; a->arg is the slice's value or NULL
    // answered: what is to be said of a pod that was left out, or empty
    struct kl_str lost;
};

void kl_endpointslice_decide(struct kl_plan *p, struct kl_slices_view *v);
