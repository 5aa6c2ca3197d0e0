// SPDX-License-Identifier: Apache-2.0
#include "client/plan.h"

#define ARENA_MAX ((size_t)64 << 20)

struct kl_plan_held {
    struct kl_plan_held *next;
    struct kl_object *object;
};

void kl_plan_init(struct kl_plan *p, struct kl_str key, void *arg)
{
    memset(p, 0, sizeof(*p));
    kl_arena_init(&p->arena, ARENA_MAX);
    p->key = key;
    p->arg = arg;
    p->actions_end = &p->actions;
    p->events_end = &p->events;
    p->requeue_ms = -1;
}

void kl_plan_fini(struct kl_plan *p)
{
    for (struct kl_action *a = p->actions; a; a = a->next) {
        kl_object_unref(a->call.body);
        kl_call_fini(&a->call);
    }
    for (struct kl_plan_held *h = p->held; h; h = h->next)
        kl_object_unref(h->object);
    kl_arena_fini(&p->arena);
}

static void no_memory(struct kl_plan *p)
{
    if (!p->err.code)
        kl_error_set(&p->err, KL_ENOMEM, "plan: out of memory");
}

struct kl_action *kl_plan_call(struct kl_plan *p, enum kl_verb verb, const struct kl_resource *res,
                               const char *sub, struct kl_str ns, struct kl_str name)
{
    struct kl_action *a = KL_ARENA_NEW(&p->arena, struct kl_action);
    if (!a) {
        no_memory(p);
        return NULL;
    }
    a->plan = p;
    a->group = p->group;
    a->call.verb = verb;
    a->call.res = res;
    a->call.sub = sub;
    a->call.ns = ns;
    a->call.name = name;
    a->call.grace_seconds = -1;
    *p->actions_end = a;
    p->actions_end = &a->next;
    return a;
}

struct kl_action *kl_plan_write(struct kl_plan *p, enum kl_verb verb, const struct kl_resource *res,
                                const char *sub, const struct kl_value *draft)
{
    const struct kl_type *type = res->type;
    if (sub) {
        const struct kl_subresource *s = kl_resource_sub(res, kl_str(sub));
        if (s && s->type)
            type = s->type;
    }
    struct kl_object *body = kl_object_freeze(type, draft);
    if (!body) {
        no_memory(p);
        return NULL;
    }
    struct kl_action *a =
        kl_plan_call(p, verb, res, sub, kl_meta_namespace(&body->root), kl_meta_name(&body->root));
    if (!a) {
        kl_object_unref(body);
        return NULL;
    }
    a->call.body = body;
    return a;
}

void kl_plan_event(struct kl_plan *p, const struct kl_resource *res, const struct kl_value *about,
                   const char *type, const char *reason, const char *fmt, ...)
{
    struct kl_plan_event *e = KL_ARENA_NEW(&p->arena, struct kl_plan_event);
    if (!e)
        return;
    va_list ap;
    va_start(ap, fmt);
    e->message = kl_arena_vprintf(&p->arena, fmt, ap);
    va_end(ap);
    e->about = kl_ref_of(res, about);
    e->type = type;
    e->reason = reason;
    *p->events_end = e;
    p->events_end = &e->next;
}

struct kl_object *kl_plan_hold(struct kl_plan *p, struct kl_object *o)
{
    struct kl_plan_held *h = o ? KL_ARENA_NEW(&p->arena, struct kl_plan_held) : NULL;
    if (!h) {
        if (o)
            no_memory(p);
        return NULL;
    }
    h->object = kl_object_ref(o);
    h->next = p->held;
    p->held = h;
    return o;
}

void kl_plan_requeue(struct kl_plan *p, int64_t after_ms)
{
    if (after_ms < 0)
        after_ms = 0;
    if (p->requeue_ms < 0 || after_ms < p->requeue_ms)
        p->requeue_ms = after_ms;
}

// ---- the executor

static void tell_events(struct kl_plan *p)
{
    for (struct kl_plan_event *e = p->events; e; e = e->next) {
        if (p->recorder)
            kl_recorder_event(p->recorder, &e->about, e->type, e->reason, e->message);
    }
    p->events = NULL;
    p->events_end = &p->events;
}

static void step(struct kl_plan *p);

static void end_action(struct kl_action *a)
{
    a->ended = true;
    // Whoever cancelled the plan may be gone, and the recorder with it.
    if (a->done_cb && !a->plan->freed)
        a->done_cb(a);
}

static void on_call_done(struct kl_call *call)
{
    struct kl_action *a = KL_CONTAINER_OF(call, struct kl_action, call);
    struct kl_plan *p = a->plan;
    int code = call->err.code;
    p->in_flight--;
    if (code && !(code > -32 && (a->ok_errors & KL_OK_ERROR(code)))) {
        p->failed = true;
        if (!p->err.code)
            p->err = call->err;
    }
    end_action(a);
    tell_events(p);
    if (p->in_flight == 0 && !p->in_step)
        step(p);
}

// Starts the next group; false when there is none.
static bool start_group(struct kl_plan *p)
{
    struct kl_action *a = p->running;
    if (!a)
        return false;
    uint16_t group = a->group;
    p->in_step = true;
    for (; a && a->group == group; a = a->next) {
        a->started = true;
        a->call.done_cb = on_call_done;
        p->in_flight++;
    }
    struct kl_action *first = p->running;
    p->running = a;
    for (struct kl_action *s = first; s != a; s = s->next)
        kl_client_start(p->client, &s->call);
    p->in_step = false;
    return true;
}

static void skip_rest(struct kl_plan *p)
{
    for (struct kl_action *a = p->running; a; a = a->next) {
        a->skipped = true;
        end_action(a);
    }
    p->running = NULL;
}

static void step(struct kl_plan *p)
{
    for (;;) {
        if (p->failed)
            skip_rest(p);
        if (start_group(p))
            return;
        tell_events(p);
        if (!p->then || p->freed)
            break;
        void (*then)(struct kl_plan *) = p->then;
        struct kl_action **end = p->actions_end;
        bool had_error = p->err.code != 0;
        p->then = NULL;
        p->group++;
        then(p);
        p->failed = !had_error && p->err.code;
        p->running = *end;
    }
    p->end_cb(p);
}

void kl_plan_run(struct kl_plan *p, struct kl_client *client, struct kl_recorder *recorder,
                 void (*end_cb)(struct kl_plan *p), void *end_arg)
{
    p->client = client;
    p->recorder = recorder;
    p->end_cb = end_cb;
    p->end_arg = end_arg;
    p->running = p->actions;
    p->failed = p->err.code != 0;
    step(p);
}

void kl_plan_cancel(struct kl_plan *p)
{
    p->freed = p->failed = true;
    kl_error_set(&p->err, KL_ECANCELED, "canceled");
    for (struct kl_action *a = p->actions; a; a = a->next) {
        if (a->started && !a->ended)
            kl_client_cancel(p->client, &a->call);
    }
}
