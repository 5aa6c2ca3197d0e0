// SPDX-License-Identifier: Apache-2.0
// Between grpc_server.c, grpc_out.c and grpc_metrics.c.
#pragma once
#include "net/grpc_server.h"
#include <stdatomic.h>

enum { KL_GRPC_MAX_METHODS = 256, KL_GRPC_CODES = KL_GRPC_UNAUTHENTICATED + 1 };

// What a call counts lies together: loops pass it to each other with every call.
struct kl_grpc_slot {
    struct kl_str path;
    const struct kl_grpc_method *m;
    atomic_llong started, received, sent;    // calls, messages
    atomic_llong received_bytes, sent_bytes; // of messages
    atomic_llong handled[KL_GRPC_CODES];
};

struct kl_grpc_server {
    void *arg;
    size_t max_message;
    size_t nslots;
    struct kl_grpc_slot slots[KL_GRPC_MAX_METHODS];
};

static inline void kl_grpc_count(atomic_llong *n, long long d)
{
    atomic_fetch_add_explicit(n, d, memory_order_relaxed);
}

// The message's slices, prefix included. NULL when it failed.
struct kl_http_chunk *kl_grpc_out_end(struct kl_grpc_out *o, uint32_t *ret_n);
