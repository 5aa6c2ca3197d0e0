// SPDX-License-Identifier: Apache-2.0
// Leases of the store that many Events share, as upstream's lease manager does: one for each minute
// or so, so that an hour of Events is a handful of leases.
#pragma once
#include "base/err.h"
#include <stdint.h>

struct kl_api_loop;

enum { KL_EVENT_TTL_S = 3600, KL_EVENT_LEASE_REUSE_S = 60, KL_EVENT_LEASE_KEYS = 1000 };

// Calls cb with a lease that lives at least KL_EVENT_TTL_S, maybe at once; err is NULL on success.
void kl_event_lease(struct kl_api_loop *al,
                    void (*cb)(void *arg, int64_t lease, const struct kl_error *err), void *arg);
