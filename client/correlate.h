// SPDX-License-Identifier: Apache-2.0
// Keeps Events from flooding, as client-go's EventCorrelator: a token bucket for each source and
// object drops spam, similar events are combined into one, equal ones become a count. Pure: event
// and time in, what to write out.
#pragma once
#include "client/helpers.h"

enum {
    KL_EVENTS_BURST = 25,              // tokens of a (source, object)
    KL_EVENTS_REFILL_MS = 300 * 1000,  // for one token
    KL_EVENTS_SIMILAR = 10,            // different messages before they are combined
    KL_EVENTS_SIMILAR_MS = 600 * 1000, // seen no further apart
    KL_EVENTS_KEPT = 4096,             // entries of each table
    KL_EVENTS_MESSAGE = 1024,          // bytes of a message
};

struct kl_correlator;

struct kl_correlated {
    bool drop;
    int64_t count; // 1: a new Event, else the one of kl_correlator_name is patched
    int64_t first_us;
    struct kl_str message; // perhaps with "(combined from similar events): "
};

struct kl_correlator *kl_correlator_new(void);
void kl_correlator_free(struct kl_correlator *c);
// A string that stands for the answer (to give kl_correlator_written) goes to *ret_key, of arena a.
void kl_correlator_see(struct kl_correlator *c, struct kl_arena *a, struct kl_str component,
                       struct kl_str host, const struct kl_object_ref *about, const char *type,
                       const char *reason, struct kl_str message, int64_t now_ms, int64_t now_us,
                       struct kl_correlated *ret, struct kl_str *ret_key);
// The Event was written under this name: the next equal one patches it.
void kl_correlator_written(struct kl_correlator *c, struct kl_str key, struct kl_str event_name);
// The name it was written under; "" when it has not been. Until the next call.
struct kl_str kl_correlator_name(const struct kl_correlator *c, struct kl_str key);
