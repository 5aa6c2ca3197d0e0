// SPDX-License-Identifier: Apache-2.0
//
//            ┌──────────── back-off, or at once after a watch's normal end ───────────┐
//            ▼                                                                        │
//   PAUSED ──┬─ no version known ─▶ STREAMING (watch, initial events) ── bookmark ─▶ WATCHING
//            │                          │ refused as invalid
//            │                          ▼
//            ├─ (streams refused) ─▶ LISTING ── last page ─▶ PAUSED ─▶ WATCHING
//            └─ version known ────▶ WATCHING
#include "client/reflector.h"
#include "base/log.h"
#include "base/rand.h"
#include <stdlib.h>

enum {
    BACKOFF_MIN_MS = 800, // client-go's reflector
    BACKOFF_MAX_MS = 30000,
    BACKOFF_RESET_MS = 120000,
    PAGE = 500,
    RV_BYTES = 48,
};

enum state { PAUSED, STREAMING, LISTING, WATCHING };

struct kl_reflector {
    struct kl_client *client;
    struct kl_timers *timers;
    const struct kl_resource *res;
    struct kl_str ns, label_selector, field_selector;
    struct kl_reflector_sink sink;
    enum state state;
    struct kl_timer timer;
    struct kl_watch_call watch;
    struct kl_call list;
    struct kl_arena memory; // selectors; the continue token of a paged list
    struct kl_arena page;
    int64_t backoff_ms, failed_at_ms, watch_began_ms;
    int64_t events; // of this watch
    char rv[RV_BYTES];
    bool synced, no_stream, freed;
};

static void go(struct kl_reflector *r);

static void pause_for(struct kl_reflector *r, int64_t ms)
{
    r->state = PAUSED;
    kl_timer_after(r->timers, &r->timer, ms);
}

static void back_off(struct kl_reflector *r, const struct kl_error *why)
{
    int64_t now = kl_timers_now_ms(r->timers);
    if (now - r->failed_at_ms > BACKOFF_RESET_MS || !r->backoff_ms)
        r->backoff_ms = BACKOFF_MIN_MS;
    r->failed_at_ms = now;
    int64_t ms = r->backoff_ms + (int64_t)(kl_rand_u64() % (uint64_t)r->backoff_ms);
    if (why && why->code)
        kl_log(KL_LOG_WARN, "client", "watch failed resource=%s retry_ms=%lld error=\"%s\"",
               r->res->plural, (long long)ms, why->msg);
    r->backoff_ms = r->backoff_ms * 2 < BACKOFF_MAX_MS ? r->backoff_ms * 2 : BACKOFF_MAX_MS;
    pause_for(r, ms);
}

static void keep_version(struct kl_reflector *r, struct kl_str rv)
{
    if (rv.n == 0 || rv.n >= RV_BYTES)
        return;
    memcpy(r->rv, rv.p, rv.n);
    r->rv[rv.n] = 0;
}

static void list_ended(struct kl_reflector *r)
{
    r->synced = true;
    r->sink.end(r->sink.arg);
}

// ---- watching

static void on_event(struct kl_watch_call *w, enum kl_event_type type, struct kl_object *object)
{
    struct kl_reflector *r = w->arg;
    const struct kl_value *root = &object->root;
    r->events++;
    keep_version(r, kl_meta_rv(root));
    if (type == KL_EVENT_DELETED) {
        r->sink.remove(r->sink.arg, object);
    } else if (type != KL_EVENT_BOOKMARK) {
        r->sink.upsert(r->sink.arg, object);
    } else if (r->state == STREAMING) {
        struct kl_str mark =
            kl_text(kl_map_value(kl_meta_annotations(root), KL_STR("k8s.io/initial-events-end")));
        if (kl_str_eq(mark, KL_STR("true"))) {
            r->state = WATCHING;
            list_ended(r);
        }
    }
}

static void on_watch_end(struct kl_watch_call *w)
{
    struct kl_reflector *r = w->arg;
    const bool streaming = r->state == STREAMING;
    int64_t lasted_ms = kl_timers_now_ms(r->timers) - r->watch_began_ms;
    if (streaming)
        r->rv[0] = 0;
    switch (w->err.code) {
    case 0:
        // A watch that ends at once without an event is a sick server, not a time-out.
        if (streaming || (lasted_ms < 1000 && r->events == 0))
            back_off(r, NULL);
        else
            pause_for(r, 0);
        break;
    case KL_EEXPIRED:
    case KL_ECOMPACTED:
    case KL_EGONE:
    case KL_EFUTUREREV: // a restored server: its history is another one
        r->rv[0] = 0;
        if (streaming)
            back_off(r, &w->err);
        else
            pause_for(r, 0);
        break;
    case KL_EINVALID:
    case KL_EBADREQUEST:
        if (streaming && !r->no_stream) {
            r->no_stream = true;
            pause_for(r, 0);
            break;
        }
        back_off(r, &w->err);
        break;
    default:
        back_off(r, &w->err);
    }
}

static void start_watch(struct kl_reflector *r)
{
    r->state = r->rv[0] ? WATCHING : STREAMING;
    r->events = 0;
    r->watch_began_ms = kl_timers_now_ms(r->timers);
    r->watch = (struct kl_watch_call){
        .res = r->res,
        .ns = r->ns,
        .label_selector = r->label_selector,
        .field_selector = r->field_selector,
        .resource_version = kl_str(r->rv),
        .send_initial_events = r->state == STREAMING,
        .event_cb = on_event,
        .end_cb = on_watch_end,
        .arg = r,
    };
    if (r->state == STREAMING)
        r->sink.begin(r->sink.arg);
    kl_client_watch(r->client, &r->watch);
}

// ---- listing page by page

static void destroy(struct kl_reflector *r)
{
    kl_arena_fini(&r->memory);
    kl_arena_fini(&r->page);
    free(r);
}

static void list_page(struct kl_reflector *r, struct kl_str cont);

static void on_list_done(struct kl_call *call)
{
    struct kl_reflector *r = call->arg;
    if (r->freed) {
        kl_call_fini(call);
        destroy(r);
        return;
    }
    if (call->err.code) {
        struct kl_error err = call->err;
        kl_call_fini(call);
        back_off(r, &err);
        return;
    }
    for (size_t i = 0; i < call->n_items; i++)
        r->sink.upsert(r->sink.arg, call->items[i]);
    if (call->list_continue.n) {
        kl_arena_reset(&r->page);
        struct kl_str cont = kl_arena_dup(&r->page, call->list_continue);
        kl_call_fini(call);
        if (!cont.p)
            back_off(r, NULL);
        else
            list_page(r, cont);
        return;
    }
    keep_version(r, call->list_rv);
    kl_call_fini(call);
    list_ended(r);
    pause_for(r, 0);
}

static void list_page(struct kl_reflector *r, struct kl_str cont)
{
    r->state = LISTING;
    r->list = (struct kl_call){
        .verb = KL_VERB_LIST,
        .res = r->res,
        .ns = r->ns,
        .label_selector = r->label_selector,
        .field_selector = r->field_selector,
        .limit = PAGE,
        .cont = cont,
        .done_cb = on_list_done,
        .arg = r,
    };
    kl_client_start(r->client, &r->list);
}

// ---- both

static void go(struct kl_reflector *r)
{
    if (r->no_stream && !r->rv[0]) {
        r->sink.begin(r->sink.arg);
        list_page(r, (struct kl_str){0});
    } else {
        start_watch(r);
    }
}

static void on_timer(struct kl_timer *t)
{
    go(KL_CONTAINER_OF(t, struct kl_reflector, timer));
}

struct kl_reflector *kl_reflector_new(const struct kl_reflector_opts *o)
{
    struct kl_reflector *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    kl_arena_init(&r->memory, 64 << 10);
    kl_arena_init(&r->page, 64 << 10);
    r->client = o->client;
    r->timers = o->timers;
    r->res = o->res;
    r->sink = o->sink;
    r->ns = kl_arena_dup(&r->memory, o->ns);
    r->label_selector = kl_arena_dup(&r->memory, o->label_selector);
    r->field_selector = kl_arena_dup(&r->memory, o->field_selector);
    r->timer.cb = on_timer;
    r->failed_at_ms = INT64_MIN / 2;
    if (!r->ns.p || !r->label_selector.p || !r->field_selector.p) {
        destroy(r);
        return NULL;
    }
    pause_for(r, 0);
    return r;
}

void kl_reflector_free(struct kl_reflector *r)
{
    if (!r)
        return;
    kl_timer_cancel(r->timers, &r->timer);
    if (r->state == STREAMING || r->state == WATCHING)
        kl_client_watch_stop(r->client, &r->watch);
    if (r->state == LISTING) {
        r->freed = true;
        kl_client_cancel(r->client, &r->list);
        return;
    }
    destroy(r);
}

bool kl_reflector_synced(const struct kl_reflector *r)
{
    return r->synced;
}
