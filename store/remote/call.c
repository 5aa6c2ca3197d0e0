// SPDX-License-Identifier: Apache-2.0
// Unary calls, tried again where that is harmless, over one connection to one of the servers.
#include "store/remote/remote_int.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdlib.h>

enum { MESSAGE_MAX = 1 << 30, REQUEST_MAX = 64 << 20, PING_MS = 5000 };

struct kl_bytes *kl_remote_encode(const struct kl_proto_desc *d, const void *msg)
{
    struct kl_buf buf;
    kl_buf_init(&buf, REQUEST_MAX);
    kl_proto_encode(&buf, d, msg);
    struct kl_bytes *b = kl_bytes_from_buf(&buf);
    kl_buf_fini(&buf);
    return b;
}

int kl_remote_channel_open(struct kl_backend *b, struct kl_error *err)
{
    struct kl_grpc_opts o = {.loop = b->loop,
                             .target = b->targets[b->target],
                             .max_message_bytes = MESSAGE_MAX,
                             .ping_after_ms = PING_MS,
                             .tls = b->tls};
    return b->grpc ? 0 : kl_grpc_new(&o, &b->grpc, err);
}

// ---- the next server ----

static void run_rotate(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, rotate_task);
    b->rotating = false;
    if (b->closing)
        return;
    struct kl_grpc *old = b->grpc;
    b->grpc = NULL;
    b->target = (b->target + 1) % b->ntargets;
    kl_grpc_close(old); // what is open there ends, and is tried here
}

void kl_remote_channel_lost(struct kl_backend *b)
{
    if (b->grpc)
        kl_grpc_reset_backoff(b->grpc); // ours is shorter
    if (b->ntargets == 1 || b->rotating || b->closing)
        return;
    b->rotating = true;
    b->rotate_task.run = run_rotate;
    kl_loop_post(b->loop, &b->rotate_task);
}

// ---- one call ----

static void end_call(struct kl_remote_call *c)
{
    struct kl_backend *b = c->b;
    c->active = false;
    b->ncalls--;
    c->done(c);
}

static void try_later(struct kl_remote_call *c, int64_t now)
{
    struct kl_backend *b = c->b;
    c->backoff_ms = c->backoff_ms ? c->backoff_ms * 2 : KL_REMOTE_TICK_MS;
    if (c->backoff_ms > KL_REMOTE_BACKOFF_MAX_MS)
        c->backoff_ms = KL_REMOTE_BACKOFF_MAX_MS;
    c->next_ms = now + c->backoff_ms;
    c->next = b->waiting;
    b->waiting = c;
    kl_remote_wake(b);
}

static void take_reply(struct kl_remote_call *c, struct kl_str reply)
{
    struct kl_str copy = kl_arena_dup(&c->arena, reply);
    int r = copy.p ? kl_proto_decode(&c->arena, c->method->out, copy, &c->reply, &c->err)
                   : kl_error_set(&c->err, KL_ENOMEM, "out of memory");
    if (r)
        c->code = KL_GRPC_INTERNAL;
}

static void on_done(void *arg, enum kl_grpc_code code, struct kl_str reply,
                    const struct kl_error *err)
{
    struct kl_remote_call *c = arg;
    struct kl_backend *b = c->b;
    int64_t now = kl_mono_ms();
    bool sent = kl_grpc_was_sent(c->grpc);
    c->sent |= sent;
    c->grpc = NULL;
    c->code = code;
    if (err)
        c->err = *err;
    if (!code)
        take_reply(c, reply);
    bool lost = code == KL_GRPC_UNAVAILABLE || code == KL_GRPC_DEADLINE_EXCEEDED ||
                code == KL_GRPC_CANCELED;
    if (lost)
        kl_remote_channel_lost(b);
    if (lost && (c->retry || !c->sent) && !b->closing && now < c->deadline_ms)
        try_later(c, now);
    else
        end_call(c);
}

static void send_call(struct kl_remote_call *c)
{
    struct kl_backend *b = c->b;
    int64_t now = kl_mono_ms();
    c->seen = b->seen;
    int r = b->closing ? kl_error_set(&c->err, KL_ECANCELED, "the store is stopping")
                       : kl_remote_channel_open(b, &c->err);
    if (!r)
        r = kl_grpc_unary(b->grpc, c->method->path, c->request, KL_REMOTE_CALL_MS, on_done, c,
                          &c->grpc, &c->err);
    if (!r)
        return;
    c->code = r == KL_ECANCELED ? KL_GRPC_CANCELED : KL_GRPC_UNAVAILABLE;
    if (now < c->deadline_ms && !b->closing)
        try_later(c, now);
    else
        end_call(c);
}

void kl_remote_call(struct kl_backend *b, struct kl_remote_call *c, int method)
{
    int64_t now = kl_mono_ms();
    c->b = b;
    c->method = &kl_etcd_methods[method];
    c->active = true;
    c->next = NULL;
    c->backoff_ms = 0;
    c->sent = false;
    c->reply = NULL;
    c->err.msg[0] = 0;
    if (!c->deadline_ms)
        c->deadline_ms = now + KL_REMOTE_WAIT_MS;
    kl_arena_init(&c->arena, 0);
    b->ncalls++;
    // Never from within: the caller is not done yet.
    c->next_ms = now;
    if (b->closing || !c->request) {
        kl_error_set(&c->err, b->closing ? KL_ECANCELED : KL_ENOMEM,
                     b->closing ? "the store is stopping" : "out of memory");
        c->code = b->closing ? KL_GRPC_CANCELED : KL_GRPC_RESOURCE_EXHAUSTED;
        c->deadline_ms = 0;
        c->next = b->waiting;
        b->waiting = c;
        kl_remote_wake(b);
    } else {
        send_call(c);
    }
}

void kl_remote_call_fini(struct kl_remote_call *c)
{
    kl_bytes_unref(c->request);
    kl_arena_fini(&c->arena);
    *c = (struct kl_remote_call){0};
}

// The remote's own text, without Go's frame around it.
int kl_remote_error(const struct kl_remote_call *c, struct kl_error *err)
{
    const char *text = strstr(c->err.msg, " desc = ");
    int code = c->code == KL_GRPC_INVALID_ARGUMENT ? KL_EBADREQUEST : kl_grpc_to_err(c->code);
    if ((c->code == KL_GRPC_INVALID_ARGUMENT && strstr(c->err.msg, "request is too large")) ||
        (c->code == KL_GRPC_RESOURCE_EXHAUSTED && strstr(c->err.msg, "larger than max")))
        code = KL_ETOOLARGE;
    else if (c->code == KL_GRPC_OUT_OF_RANGE && strstr(c->err.msg, "compacted"))
        code = KL_ECOMPACTED;
    else if (c->code == KL_GRPC_OUT_OF_RANGE && strstr(c->err.msg, "future"))
        code = KL_EFUTUREREV;
    else if (c->code == KL_GRPC_FAILED_PRECONDITION && strstr(c->err.msg, "already exists"))
        code = KL_EEXISTS;
    else if (c->code == KL_GRPC_RESOURCE_EXHAUSTED && strstr(c->err.msg, "too many"))
        code = KL_ETOOMANY;
    else if (c->code == KL_GRPC_RESOURCE_EXHAUSTED || c->code == KL_GRPC_DEADLINE_EXCEEDED ||
             code == KL_ECONFLICT)
        code = KL_EUNAVAILABLE;
    if (c->code == KL_GRPC_UNAVAILABLE || c->code == KL_GRPC_DEADLINE_EXCEEDED)
        return kl_error_set(err, code, "datastore %s: %s", c->b->name,
                            text ? text + 8 : c->err.msg);
    return kl_error_set(err, code, "%s", text ? text + 8 : c->err.msg);
}

void kl_remote_calls_tick(struct kl_backend *b, int64_t now)
{
    struct kl_remote_call *due = NULL, **at = &b->waiting;
    while (*at) {
        struct kl_remote_call *c = *at;
        if (c->next_ms > now && !b->closing) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        c->next = due;
        due = c;
    }
    while (due) {
        struct kl_remote_call *c = due;
        due = c->next;
        c->next = NULL;
        if (c->request && c->deadline_ms)
            send_call(c);
        else
            end_call(c);
    }
}

void kl_remote_calls_cancel(struct kl_backend *b)
{
    while (b->waiting) {
        struct kl_remote_call *c = b->waiting;
        b->waiting = c->next;
        c->code = KL_GRPC_CANCELED;
        kl_error_set(&c->err, KL_ECANCELED, "the store is stopping");
        end_call(c);
    }
}
