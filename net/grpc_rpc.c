// SPDX-License-Identifier: Apache-2.0
// A call's deadline, and what can be asked of a call.
#include "net/grpc_int.h"
#include <stdlib.h>

// ---- The deadline

static void free_deadline(uv_handle_t *h)
{
    free(KL_CONTAINER_OF(h, struct kl_grpc_deadline, timer));
}

void kl_grpc_end_deadline(struct kl_grpc_rpc *c)
{
    if (c->deadline)
        uv_close((uv_handle_t *)&c->deadline->timer, free_deadline);
    c->deadline = NULL;
}

static void run_deadline(uv_timer_t *t)
{
    struct kl_grpc_rpc *c = KL_CONTAINER_OF(t, struct kl_grpc_deadline, timer)->rpc;
    kl_grpc_rpc_finish(c, KL_GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
}

// grpc-timeout: at most 8 digits and a unit. -1: not one.
static int64_t parse_timeout_ms(struct kl_str s)
{
    static const struct {
        char unit;
        int64_t ns;
    } units[] = {{'H', 3600000000000}, {'M', 60000000000}, {'S', 1000000000},
                 {'m', 1000000},       {'u', 1000},        {'n', 1}};
    int64_t v;
    if (s.n < 2 || s.n > 9 || s.p[0] == '-' || !kl_str_to_i64((struct kl_str){s.p, s.n - 1}, &v))
        return -1;
    for (size_t i = 0; i < KL_COUNT(units); i++) {
        if (units[i].unit == s.p[s.n - 1])
            return units[i].ns >= 1000000 ? v * (units[i].ns / 1000000) : v * units[i].ns / 1000000;
    }
    return -1;
}

bool kl_grpc_start_deadline(struct kl_grpc_rpc *c)
{
    struct kl_str s = kl_http_header(c->r, KL_STR("grpc-timeout"));
    if (!s.p)
        return true;
    int64_t ms = parse_timeout_ms(s);
    struct kl_grpc_deadline *d = ms < 0 ? NULL : calloc(1, sizeof(*d));
    if (!d) {
        kl_grpc_rpc_finish(c, KL_GRPC_INTERNAL, "malformed grpc-timeout");
        return false;
    }
    d->rpc = c;
    c->deadline = d;
    uv_timer_init(kl_loop_uv(kl_http_loop(c->r)), &d->timer);
    uv_timer_start(&d->timer, run_deadline, (uint64_t)ms + 1, 0);
    return true;
}

// ---- What it is

void *kl_grpc_rpc_arg(const struct kl_grpc_rpc *c)
{
    return c->s->arg;
}

const struct kl_grpc_method *kl_grpc_rpc_method(const struct kl_grpc_rpc *c)
{
    return c->m;
}

struct kl_http_req *kl_grpc_rpc_http(struct kl_grpc_rpc *c)
{
    return c->r;
}

struct kl_loop *kl_grpc_rpc_loop(const struct kl_grpc_rpc *c)
{
    return kl_http_loop(c->r);
}

struct kl_arena *kl_grpc_rpc_arena(struct kl_grpc_rpc *c)
{
    return kl_http_req_arena(c->r);
}

void kl_grpc_rpc_set_data(struct kl_grpc_rpc *c, void *data)
{
    c->data = data;
}

void *kl_grpc_rpc_data(const struct kl_grpc_rpc *c)
{
    return c->data;
}

struct kl_grpc_rpc *kl_grpc_rpc_ref(struct kl_grpc_rpc *c)
{
    kl_http_req_ref(c->r);
    return c;
}

void kl_grpc_rpc_unref(struct kl_grpc_rpc *c)
{
    if (c)
        kl_http_req_unref(c->r);
}

bool kl_grpc_rpc_closed(const struct kl_grpc_rpc *c)
{
    return c->closed;
}
