// SPDX-License-Identifier: Apache-2.0
// Where a Service is reached: webhooks and aggregated API servers are named by Services, and this
// process need not be where cluster addresses lead anywhere. So it is always a ready endpoint, as
// with --enable-aggregator-routing (apiserver/pkg/util/proxy, ResolveEndpoint).
#pragma once
#include "apiserver/server_int.h"

enum kl_service_state {
    KL_SERVICE_READY,      // an endpoint
    KL_SERVICE_EXTERNAL,   // ExternalName: that name, at the port that was asked for
    KL_SERVICE_ABSENT,     // no such Service
    KL_SERVICE_NO_PORT,    // it has no such port
    KL_SERVICE_NO_SLICES,  // no EndpointSlice is its own
    KL_SERVICE_NO_ADDRESS, // no ready address at that port in any
};

struct kl_service_end {
    enum kl_service_state state;
    struct kl_object *service; // borrowed from the view; NULL: absent
    struct kl_str port_name;   // of the Service's port, borrowed from it
    struct kl_str host;        // in the arena, with a NUL behind it; when there is one
    int port;
};

// The loop's view is asked, now. Among ready addresses each has the same chance, those of the
// Service's first family come before others. 0 for the first two states; for others
// KL_EUNAVAILABLE with upstream's words; KL_ENOMEM. *ret says as much as is known in any case.
int kl_service_find(struct kl_api_loop *al, struct kl_arena *a, struct kl_str ns,
                    struct kl_str name, int port, struct kl_service_end *ret, struct kl_error *err);
// The same for a port by its name or number ("": the one without a name), at an address of a pod
// that is there and has it (registry/core/service ResourceLocation). A Service is looked for only
// where its port is a number.
int kl_service_find_pod(struct kl_api_loop *al, struct kl_arena *a, struct kl_str ns,
                        struct kl_str name, struct kl_str port, struct kl_service_end *ret,
                        struct kl_error *err);
