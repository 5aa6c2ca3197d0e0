// SPDX-License-Identifier: Apache-2.0
// Between grpc_server.c, grpc_front.c, grpc_rpc.c, grpc_out.c and grpc_metrics.c.
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

// A deadline: allocated when a call has one, as libuv's handles close later.
struct kl_grpc_deadline {
    uv_timer_t timer;
    struct kl_grpc_rpc *rpc;
};

// Lives in its request's arena.
struct kl_grpc_rpc {
    struct kl_grpc_server *s;
    struct kl_http_req *r;
    const struct kl_grpc_method *m;
    struct kl_grpc_slot *slot; // NULL: no such method
    void *data;
    struct kl_grpc_deadline *deadline;

    struct kl_buf in; // bytes of a message that is not complete, or that is held
    size_t unreturned;
    bool held, delivering, got_message, in_eof, told_eof;

    bool closed, responded, finished, want;
    struct kl_http_chunk *q, few[6];
    uint32_t q_at, q_n, q_cap;
    size_t queued;
    int (*pull)(void *arg, struct kl_http_chunk *chunks, int max);
    void (*pull_done)(void *arg);
    void *pull_arg;
    size_t pull_left;

    const struct kl_grpc_front *front; // NULL: gRPC itself
    void *front_arg;
    enum kl_grpc_code code;
    struct kl_str code_message;
};

struct kl_grpc_slot *kl_grpc_find(struct kl_grpc_server *s, struct kl_str path);
// A call in the request's arena, which ends with it. NULL: out of memory.
struct kl_grpc_rpc *kl_grpc_new_rpc(struct kl_grpc_server *s, struct kl_http_req *r,
                                    struct kl_grpc_slot *slot);
int kl_grpc_pull(void *arg, struct kl_http_chunk *chunks, int max, bool *ret_end);
void kl_grpc_deliver(struct kl_grpc_rpc *c); // what is whole in c->in
void kl_grpc_tell_eof(struct kl_grpc_rpc *c);

bool kl_grpc_start_deadline(struct kl_grpc_rpc *c); // false: the call was failed
void kl_grpc_end_deadline(struct kl_grpc_rpc *c);

static inline void kl_grpc_count(atomic_llong *n, long long d)
{
    atomic_fetch_add_explicit(n, d, memory_order_relaxed);
}

// The message's slices, prefix included. NULL when it failed.
struct kl_http_chunk *kl_grpc_out_end(struct kl_grpc_out *o, uint32_t *ret_n);
