// SPDX-License-Identifier: Apache-2.0
// Calls that another protocol asks for.
#include "net/grpc_int.h"

struct kl_grpc_rpc *kl_grpc_front_open(struct kl_grpc_server *s, struct kl_http_req *r,
                                       struct kl_str path, const struct kl_grpc_front *front,
                                       void *arg)
{
    struct kl_grpc_slot *slot = kl_grpc_find(s, path);
    struct kl_grpc_rpc *c = slot ? kl_grpc_new_rpc(s, r, slot) : NULL;
    if (!c)
        return NULL;
    c->m = slot->m;
    c->front = front;
    c->front_arg = arg;
    if (kl_grpc_start_deadline(c) && c->m->open)
        c->m->open(c);
    return c;
}

bool kl_grpc_front_takes(const struct kl_grpc_rpc *c)
{
    return !c->closed && !c->finished && !c->held && !c->in.n;
}

void kl_grpc_front_message(struct kl_grpc_rpc *c, struct kl_str msg)
{
    char prefix[5] = {0, (char)(msg.n >> 24), (char)(msg.n >> 16), (char)(msg.n >> 8), (char)msg.n};
    if (c->closed || c->finished)
        return;
    kl_grpc_count(&c->slot->received_bytes, (long long)(msg.n + sizeof(prefix)));
    kl_buf_append(&c->in, prefix, sizeof(prefix));
    if (kl_buf_puts(&c->in, msg))
        kl_grpc_rpc_finish(c, KL_GRPC_RESOURCE_EXHAUSTED, "grpc: received too much at once");
    else
        kl_grpc_deliver(c);
}

void kl_grpc_front_half_close(struct kl_grpc_rpc *c)
{
    c->in_eof = true;
    kl_grpc_tell_eof(c);
}

int kl_grpc_front_pull(struct kl_grpc_rpc *c, struct kl_http_chunk *chunks, int max, bool *ret_end)
{
    *ret_end = false;
    return kl_grpc_pull(c, chunks, max, ret_end);
}

enum kl_grpc_code kl_grpc_front_status(const struct kl_grpc_rpc *c, struct kl_str *ret_message)
{
    *ret_message = c->code_message;
    return c->code;
}
