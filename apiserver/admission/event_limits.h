// SPDX-License-Identifier: Apache-2.0
// EventRateLimit's buckets (golang.org/x/time/rate): one for the server, or one for each namespace,
// user, or source and object, of which the least recently used goes when there are too many. Shared
// by all loops under a lock; the clock is the caller's.
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include <stdbool.h>

enum kl_event_limit_type {
    KL_EVENT_LIMIT_SERVER,
    KL_EVENT_LIMIT_NAMESPACE,
    KL_EVENT_LIMIT_USER,
    KL_EVENT_LIMIT_SOURCE, // and object
    KL_EVENT_LIMIT_TYPES
};
extern const char *const kl_event_limit_names[KL_EVENT_LIMIT_TYPES]; // "Server", ...

struct kl_event_limit {
    enum kl_event_limit_type type;
    int32_t qps, burst;
    int32_t cache_size; // buckets; 0: 4096
};

struct kl_event_limits;
// NULL: no memory.
struct kl_event_limits *kl_event_limits_new(const struct kl_event_limit *limits, size_t n);
void kl_event_limits_free(struct kl_event_limits *l); // accepts NULL

// One event: every limit takes from its bucket, whatever the others say. `keys` are by type. True:
// it may pass. False: *ret_why (in the arena; p NULL: no memory) says which limits are reached, as
// upstream does. Any loop.
bool kl_event_limits_take(struct kl_event_limits *l, const struct kl_str keys[KL_EVENT_LIMIT_TYPES],
                          int64_t now_ns, struct kl_arena *a, struct kl_str *ret_why);
