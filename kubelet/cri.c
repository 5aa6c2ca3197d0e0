// SPDX-License-Identifier: Apache-2.0
#include "kubelet/cri.h"
#include <stdlib.h>

enum { MAX_REQUEST_BYTES = 4 * 1024 * 1024, MAX_REPLY_MEMORY = 64 * 1024 * 1024 };

struct kl_cri {
    struct kl_grpc *grpc;
    struct kl_loop *loop;
    struct kl_cri_events events;
    struct kl_grpc_call *event_call;
};

struct kl_cri_call {
    struct kl_cri *cri;
    struct kl_grpc_call *rpc; // NULL: it failed before it was sent
    const struct kl_proto_method *method;
    kl_cri_cb cb;
    void *arg;
    struct kl_task failed;
    struct kl_error err;
};

int kl_cri_new(struct kl_loop *loop, const char *endpoint, struct kl_cri **ret,
               struct kl_error *err)
{
    struct kl_cri *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    struct kl_grpc_opts o = {.loop = loop, .target = endpoint};
    int r = kl_grpc_new(&o, &c->grpc, err);
    if (r) {
        free(c);
        return r;
    }
    c->loop = loop;
    *ret = c;
    return 0;
}

void kl_cri_close(struct kl_cri *c)
{
    struct kl_grpc *g = c->grpc;
    c->events.on_end = NULL;
    c->grpc = NULL; // calls from the callbacks of those that are cancelled fail
    if (g)
        kl_grpc_close(g);
}

void kl_cri_free(struct kl_cri *c)
{
    if (c)
        kl_cri_close(c);
    free(c);
}

void kl_cri_reconnect(struct kl_cri *c)
{
    if (c->grpc)
        kl_grpc_reset_backoff(c->grpc);
}

static void end_call(void *arg, enum kl_grpc_code code, struct kl_str reply,
                     const struct kl_error *err)
{
    struct kl_cri_call *call = arg;
    struct kl_error bad;
    void *msg = NULL;
    struct kl_arena a;
    kl_arena_init(&a, MAX_REPLY_MEMORY);
    if (code == KL_GRPC_OK && kl_proto_decode(&a, call->method->out, reply, &msg, &bad)) {
        code = KL_GRPC_INTERNAL;
        err = &bad;
    }
    call->cb(call->arg, code, msg, err);
    kl_arena_fini(&a);
    free(call);
}

static void fail_call(struct kl_task *t)
{
    struct kl_cri_call *call = KL_CONTAINER_OF(t, struct kl_cri_call, failed);
    call->cb(call->arg, KL_GRPC_UNAVAILABLE, NULL, &call->err);
    free(call);
}

void kl_cri_start(struct kl_cri *c, enum kl_cri_method method, const void *request,
                  uint32_t timeout_ms, kl_cri_cb cb, void *arg, struct kl_cri_call **ret_call)
{
    struct kl_cri_call *call = calloc(1, sizeof(*call));
    if (!call)
        abort(); // a callback is owed, and there is nothing to make it from
    *call = (struct kl_cri_call){.cri = c, .method = &kl_cri_methods[method], .cb = cb, .arg = arg};
    struct kl_buf b;
    kl_buf_init(&b, MAX_REQUEST_BYTES);
    kl_proto_encode(&b, call->method->in, request);
    struct kl_bytes *bytes = kl_bytes_from_buf(&b);
    int r = b.err      ? kl_error_set(&call->err, b.err, "CRI request is too large")
            : !c->grpc ? kl_error_set(&call->err, KL_ECANCELED, "the kubelet is stopping")
            : !bytes   ? kl_error_set(&call->err, KL_ENOMEM, "out of memory")
                     : kl_grpc_unary(c->grpc, call->method->path, bytes, timeout_ms, end_call, call,
                                     &call->rpc, &call->err);
    kl_bytes_unref(bytes);
    kl_buf_fini(&b);
    if (r) {
        call->rpc = NULL;
        call->failed.run = fail_call;
        kl_loop_defer(c->loop, &call->failed);
    }
    if (ret_call)
        *ret_call = call;
}

void kl_cri_cancel(struct kl_cri_call *call)
{
    if (call->rpc)
        kl_grpc_cancel(call->rpc);
}

static void on_event_message(void *arg, struct kl_grpc_call *call, struct kl_str message)
{
    struct kl_cri *c = arg;
    struct kl_arena a;
    kl_arena_init(&a, 1024 * 1024);
    void *msg;
    const struct kl_cri_events_envelope *env = NULL;
    if (!kl_proto_decode(&a, &kl_cri_events_envelope_desc, message, &msg, NULL))
        env = msg;
    if (env && env->event && kl_str_eqz(env->namespace, "k8s.io")) {
        if (kl_str_eqz(env->topic, "/tasks/exit") &&
            !kl_proto_decode(&a, &kl_cri_events_task_exit_desc, env->event->value, &msg, NULL)) {
            const struct kl_cri_events_task_exit *e = msg;
            if (kl_str_eq(e->id, e->container_id)) // else an exec's end
                c->events.on_event(c->events.arg, KL_TASK_EXIT, e->container_id);
        } else if (kl_str_eqz(env->topic, "/tasks/oom") &&
                   !kl_proto_decode(&a, &kl_cri_events_task_oom_desc, env->event->value, &msg,
                                    NULL)) {
            const struct kl_cri_events_task_oom *e = msg;
            c->events.on_event(c->events.arg, KL_TASK_OOM, e->container_id);
        }
    }
    kl_arena_fini(&a);
}

static void on_event_end(void *arg, enum kl_grpc_code code, struct kl_str reply,
                         const struct kl_error *err)
{
    struct kl_cri *c = arg;
    c->event_call = NULL;
    if (c->events.on_end)
        c->events.on_end(c->events.arg, err);
}

int kl_cri_watch_events(struct kl_cri *c, const struct kl_cri_events *e, struct kl_error *err)
{
    c->events = *e;
    if (c->event_call || !c->grpc)
        return 0;
    struct kl_str filters[] = {KL_STR("topic==\"/tasks/exit\""), KL_STR("topic==\"/tasks/oom\"")};
    struct kl_cri_events_subscribe_request req = {.filters = filters,
                                                  .n_filters = KL_COUNT(filters)};
    struct kl_buf b;
    kl_buf_init(&b, 4096);
    kl_proto_encode(&b, &kl_cri_events_subscribe_request_desc, &req);
    struct kl_bytes *bytes = kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    if (!bytes)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    int r = kl_grpc_stream(c->grpc, "/containerd.services.events.v1.Events/Subscribe", bytes, 0,
                           on_event_message, on_event_end, c, &c->event_call, err);
    kl_bytes_unref(bytes);
    if (r)
        c->event_call = NULL;
    return r;
}
