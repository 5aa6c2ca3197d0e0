// SPDX-License-Identifier: Apache-2.0
#include "client/recorder.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/rand.h"
#include "object/json.h"
#include "object/timestamp.h"
#include <stdlib.h>

enum {
    QUEUE_MAX = 1000,
    TRIES = 12, // client-go's maxTriesPerEvent
    RETRY_MS = 10000,
};

// One event on its way; all its strings are in its arena.
struct told {
    struct told *next;
    struct kl_arena arena;
    struct kl_object_ref about;
    const char *type, *reason;
    struct kl_str key, message, name;
    int64_t count, first_us, now_us;
    int tries;
    bool patching;
};

struct kl_recorder {
    uint64_t last_stamp; // in the name of the newest Event
    struct kl_client *client;
    struct kl_timers *timers;
    struct kl_correlator *correlator;
    struct kl_arena arena;
    struct kl_str component, host;
    struct told *head, **tail;
    size_t n;
    int64_t dropped;
    struct kl_call call;
    struct kl_object *body;
    bool busy, freed;
    struct kl_timer timer;
};

static void send_next(struct kl_recorder *r);

static void on_timer(struct kl_timer *t)
{
    send_next(KL_CONTAINER_OF(t, struct kl_recorder, timer));
}

struct kl_recorder *kl_recorder_new(struct kl_client *client, struct kl_timers *timers,
                                    struct kl_str component, struct kl_str host)
{
    struct kl_recorder *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->client = client;
    r->timers = timers;
    r->correlator = kl_correlator_new();
    kl_arena_init(&r->arena, 4096);
    r->component = kl_arena_dup(&r->arena, component);
    r->host = kl_arena_dup(&r->arena, host);
    r->tail = &r->head;
    r->timer.cb = on_timer;
    if (!r->correlator || !r->component.p || !r->host.p) {
        kl_correlator_free(r->correlator);
        kl_arena_fini(&r->arena);
        free(r);
        return NULL;
    }
    return r;
}

static void free_told(struct told *e)
{
    kl_arena_fini(&e->arena);
    free(e);
}

static void pop(struct kl_recorder *r)
{
    struct told *e = r->head;
    r->head = e->next;
    if (!r->head)
        r->tail = &r->head;
    r->n--;
    free_told(e);
}

static void destroy(struct kl_recorder *r)
{
    while (r->head)
        pop(r);
    kl_correlator_free(r->correlator);
    kl_arena_fini(&r->arena);
    free(r);
}

void kl_recorder_free(struct kl_recorder *r)
{
    if (!r)
        return;
    kl_timer_cancel(r->timers, &r->timer);
    if (r->busy) {
        r->freed = true;
        kl_client_cancel(r->client, &r->call);
        return;
    }
    destroy(r);
}

// ---- writing

static struct kl_value involved_object(struct kl_arena *a, const struct kl_object_ref *about)
{
    struct kl_value o = kl_new_struct();
    kl_set_str(a, &o, KL_F_kind, about->kind);
    kl_set_str(a, &o, KL_F_namespace, about->ns);
    kl_set_str(a, &o, KL_F_name, about->name);
    kl_set_str(a, &o, KL_F_uid, about->uid);
    kl_set_str(a, &o, KL_F_apiVersion, about->api_version);
    kl_set_str(a, &o, KL_F_resourceVersion, about->rv);
    kl_set_str(a, &o, KL_F_fieldPath, about->field_path);
    return o;
}

static struct kl_object *make_event(struct kl_recorder *r, struct told *e)
{
    struct kl_arena *a = &e->arena;
    // Objects without a namespace have their events in "default", as client-go.
    struct kl_str ns = e->about.ns.n ? e->about.ns : KL_STR("default");
    // Nanoseconds as client-go has them, and never the same twice: a name that is taken loses its
    // Event.
    uint64_t stamp = (uint64_t)e->now_us * 1000 + kl_rand_u64() % 1000;
    r->last_stamp = stamp > r->last_stamp ? stamp : r->last_stamp + 1;
    e->name =
        kl_arena_printf(a, "%.*s.%llx", KL_PRI(e->about.name), (unsigned long long)r->last_stamp);
    if (!e->name.p)
        return NULL;
    struct kl_value root = kl_new_struct();
    struct kl_value *meta = kl_edit(a, &root, KL_F_metadata, KL_STRUCT);
    if (!meta)
        return NULL;
    kl_set_str(a, meta, KL_F_name, e->name);
    kl_set_str(a, meta, KL_F_namespace, ns);
    kl_set(a, &root, KL_F_involvedObject, involved_object(a, &e->about));
    kl_set_z(a, &root, KL_F_reason, e->reason);
    kl_set_str(a, &root, KL_F_message, e->message);
    struct kl_value source = kl_new_struct();
    kl_set_str(a, &source, KL_F_component, r->component);
    kl_set_str(a, &source, KL_F_host, r->host);
    kl_set(a, &root, KL_F_source, source);
    // A time of Kubernetes has whole seconds.
    kl_set(a, &root, KL_F_firstTimestamp, kl_time(e->first_us / 1000000 * 1000000));
    kl_set(a, &root, KL_F_lastTimestamp, kl_time(e->now_us / 1000000 * 1000000));
    kl_set_int(a, &root, KL_F_count, e->count);
    kl_set_z(a, &root, KL_F_type, e->type);
    kl_set_str(a, &root, KL_F_reportingComponent, r->component);
    kl_set_str(a, &root, KL_F_reportingInstance, r->host);
    return kl_object_freeze(kl_res(KL_RES_core_v1_events)->type, &root);
}

static struct kl_str make_patch(struct told *e)
{
    char time[KL_TIME_TEXT];
    kl_time_text(e->now_us, time);
    struct kl_buf b;
    kl_buf_init(&b, 64 << 10);
    kl_buf_printf(&b, "{\"count\":%lld,\"lastTimestamp\":\"%s\",\"message\":", (long long)e->count,
                  time);
    kl_json_write_string(&b, e->message);
    kl_buf_putc(&b, '}');
    struct kl_str patch = {0};
    if (!b.err)
        patch = kl_arena_dup(&e->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    return patch;
}

// Whether trying again can help: the server was not there or was busy.
static bool is_transient(const struct kl_call *call)
{
    int code = call->err.code;
    return code == KL_EUNAVAILABLE || code == KL_EIO || code == KL_ETIMEOUT || code == KL_EAGAIN ||
           code == KL_ETOOMANY;
}

static void on_written(struct kl_call *call)
{
    struct kl_recorder *r = call->arg;
    struct told *e = r->head;
    r->busy = false;
    kl_object_unref(r->body);
    r->body = NULL;
    if (r->freed) {
        kl_call_fini(call);
        destroy(r);
        return;
    }
    int64_t wait_ms = 0;
    if (call->err.code == 0) {
        kl_correlator_written(r->correlator, e->key, e->name);
        pop(r);
    } else if (e->patching && call->err.code == KL_ENOTFOUND) {
        e->count = 1; // it has expired: begin a new one
        e->first_us = e->now_us;
    } else if (is_transient(call) && ++e->tries < TRIES) {
        wait_ms = RETRY_MS;
    } else {
        // An Event of a namespace that is going away, or one refused: nothing to be done.
        kl_log(KL_LOG_DEBUG, "client", "event not written object=%.*s/%.*s reason=%s error=\"%s\"",
               KL_PRI(e->about.ns), KL_PRI(e->about.name), e->reason, call->err.msg);
        pop(r);
    }
    kl_call_fini(call);
    if (r->head)
        kl_timer_after(r->timers, &r->timer, wait_ms);
}

static void send_next(struct kl_recorder *r)
{
    while (r->head && !r->busy) {
        struct told *e = r->head;
        r->call = (struct kl_call){
            .verb = KL_VERB_CREATE,
            .res = kl_res(KL_RES_core_v1_events),
            .ns = e->about.ns.n ? e->about.ns : KL_STR("default"),
            .done_cb = on_written,
            .arg = r,
        };
        // Looked up now: the first of two equal events may have been written meanwhile.
        e->name = e->count > 1 ? kl_arena_dup(&e->arena, kl_correlator_name(r->correlator, e->key))
                               : (struct kl_str){0};
        e->patching = e->name.n != 0;
        if (e->patching) {
            r->call.verb = KL_VERB_PATCH;
            r->call.name = e->name;
            r->call.patch = make_patch(e);
            r->call.patch_type = KL_PATCH_STRATEGIC;
        } else {
            r->body = r->call.body = make_event(r, e);
            r->call.name = e->name;
        }
        if (!r->call.body && !r->call.patch.n) {
            r->dropped++;
            pop(r);
            continue;
        }
        r->busy = true;
        kl_client_start(r->client, &r->call);
    }
}

void kl_recorder_event(struct kl_recorder *r, const struct kl_object_ref *about, const char *type,
                       const char *reason, struct kl_str message)
{
    struct told *e = r->n < QUEUE_MAX ? calloc(1, sizeof(*e)) : NULL;
    if (!e) {
        r->dropped++;
        return;
    }
    struct kl_arena *a = &e->arena;
    kl_arena_init(a, 256 << 10);
    if (message.n > KL_EVENTS_MESSAGE)
        message.n = KL_EVENTS_MESSAGE;
    int64_t now_us = kl_timers_wall_us(r->timers);
    struct kl_correlated c;
    kl_correlator_see(r->correlator, a, r->component, r->host, about, type, reason, message,
                      kl_timers_now_ms(r->timers), now_us, &c, &e->key);
    if (c.drop) {
        r->dropped++;
        free_told(e);
        return;
    }
    e->about = (struct kl_object_ref){
        .api_version = kl_arena_dup(a, about->api_version),
        .kind = kl_arena_dup(a, about->kind),
        .ns = kl_arena_dup(a, about->ns),
        .name = kl_arena_dup(a, about->name),
        .uid = kl_arena_dup(a, about->uid),
        .rv = kl_arena_dup(a, about->rv),
        .field_path = kl_arena_dup(a, about->field_path),
    };
    e->type = kl_arena_dup(a, kl_str(type)).p;
    e->reason = kl_arena_dup(a, kl_str(reason)).p;
    e->message = kl_arena_dup(a, c.message);
    e->count = c.count;
    e->first_us = c.first_us;
    e->now_us = now_us;
    if (!e->type || !e->reason || !e->message.p) {
        r->dropped++;
        free_told(e);
        return;
    }
    *r->tail = e;
    r->tail = &e->next;
    r->n++;
    if (!r->busy && !kl_timer_is_set(&r->timer))
        kl_timer_after(r->timers, &r->timer, 0);
}

void kl_recorder_eventf(struct kl_recorder *r, const struct kl_object_ref *about, const char *type,
                        const char *reason, const char *fmt, ...)
{
    struct kl_arena a;
    kl_arena_init(&a, 64 << 10);
    va_list ap;
    va_start(ap, fmt);
    struct kl_str message = kl_arena_vprintf(&a, fmt, ap);
    va_end(ap);
    if (message.p)
        kl_recorder_event(r, about, type, reason, message);
    kl_arena_fini(&a);
}

size_t kl_recorder_queued(const struct kl_recorder *r)
{
    return r->n;
}

int64_t kl_recorder_dropped(const struct kl_recorder *r)
{
    return r->dropped;
}
