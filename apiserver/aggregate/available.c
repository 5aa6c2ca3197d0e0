// SPDX-License-Identifier: Apache-2.0
// Which aggregated API servers answer (kube-aggregator's RemoteAvailability controller), and what
// they serve. One tick a second on loops[0]: objects are looked at when the store has changed,
// servers are asked in their time. Discovery on other loops reads what was found under a lock.
#include "apiserver/aggregate/aggregate_int.h"
#include "apiserver/openapi/openapi.h"
#include "apiserver/served.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>

enum { ATTEMPTS = 3, ARENA_BYTES = 32 << 20 };

static struct kl_api_loop *home(struct kl_aggregate *g)
{
    return &g->srv->loops[0];
}

static void tick(uv_timer_t *t);

static void item_free(struct kl_aggregate_item *x)
{
    kl_bytes_unref(x->resources);
    kl_bytes_unref(x->openapi);
    kl_remote_doc_unref(x->document);
    kl_upgraded_unref(x->upgraded);
    free(x);
}

static struct kl_aggregate_item *find(struct kl_aggregate *g, struct kl_str name)
{
    for (size_t i = 0; i < g->nitems; i++)
        if (kl_str_eqz(name, g->items[i]->name))
            return g->items[i];
    return NULL;
}

static struct kl_object *object_of(struct kl_aggregate *g, const char *name)
{
    const struct kl_resource *res = kl_res(KL_RES_apiregistration_v1_apiservices);
    char key[400];
    struct kl_error err;
    int n = snprintf(key, sizeof key, "%s/%s", res->etcd_prefix, name);
    struct kl_kv *kv =
        kl_view_get(kl_reader_view(home(g)->reader), (struct kl_str){key, (size_t)n});
    return kv ? kl_cache_object(kv, res, &err) : NULL;
}

// ---- status

struct status_write {
    struct kl_call call;
    struct kl_aggregate *g;
    struct kl_object *body;
    char name[256];
};

static void on_status(struct kl_call *call)
{
    struct status_write *w = KL_CONTAINER_OF(call, struct status_write, call);
    struct kl_aggregate *g = w->g;
    struct kl_aggregate_item *x = find(g, kl_str(w->name));
    if (call->err.code && call->err.code != KL_ECONFLICT && call->err.code != KL_ENOTFOUND)
        kl_log(KL_LOG_WARN, "aggregate", "apiservice=%s status: %s", w->name, call->err.msg);
    if (x)
        x->writing = false;
    g->last_rev = 0; // whatever came of it is looked at again
    kl_object_unref(w->body);
    kl_call_fini(call);
    free(w);
    g->flying--;
}

static const struct kl_value *condition_of(const struct kl_value *o)
{
    for (KL_EACH(c, kl_path(o, KL_F_status, KL_F_conditions)))
        if (kl_str_eqz(kl_text(kl_get(c, KL_F_type)), "Available"))
            return c;
    return NULL;
}

static int put_condition(struct kl_arena *a, struct kl_value *draft, bool ok, const char *reason,
                         struct kl_str message)
{
    const struct kl_value *was = condition_of(draft);
    struct kl_value c = kl_new_struct(), list = kl_new_array();
    const char *status = ok ? "True" : "False";
    bool same = was && kl_str_eqz(kl_text(kl_get(was, KL_F_status)), status);
    const struct kl_value *since = same ? kl_get(was, KL_F_lastTransitionTime) : NULL;
    kl_set(a, &c, KL_F_type, kl_stringz("Available"));
    kl_set(a, &c, KL_F_status, kl_stringz(status));
    kl_set(a, &c, KL_F_lastTransitionTime, since ? *since : kl_time(kl_wall_ms() / 1000 * 1000000));
    kl_set(a, &c, KL_F_reason, kl_stringz(reason));
    kl_set(a, &c, KL_F_message, kl_string(message));
    for (KL_EACH(x, kl_path(draft, KL_F_status, KL_F_conditions)))
        if (x != was)
            kl_append(a, &list, *x);
    kl_append(a, &list, c);
    struct kl_value *st = kl_edit(a, draft, KL_F_status, KL_STRUCT);
    return st ? kl_set(a, st, KL_F_conditions, list) : KL_ENOMEM;
}

static void set_status(struct kl_aggregate *g, struct kl_aggregate_item *x, bool ok,
                       const char *reason, struct kl_str message)
{
    struct kl_object *o = object_of(g, x->name);
    const struct kl_value *was = o ? condition_of(&o->root) : NULL;
    uv_mutex_lock(&g->lock);
    x->current = ok;
    uv_mutex_unlock(&g->lock);
    if (!o || x->writing || g->stopping ||
        (was && kl_str_eqz(kl_text(kl_get(was, KL_F_status)), ok ? "True" : "False") &&
         kl_str_eqz(kl_text(kl_get(was, KL_F_reason)), reason) &&
         kl_str_eq(kl_text(kl_get(was, KL_F_message)), message)))
        return;
    struct kl_arena a;
    struct status_write *w = calloc(1, sizeof *w);
    struct kl_value draft = kl_object_draft(o);
    kl_arena_init(&a, ARENA_BYTES);
    if (w && !put_condition(&a, &draft, ok, reason, message) &&
        (w->body = kl_object_freeze(o->type, &draft))) {
        w->g = g;
        snprintf(w->name, sizeof w->name, "%s", x->name);
        w->call = (struct kl_call){.verb = KL_VERB_UPDATE,
                                   .res = kl_res(KL_RES_apiregistration_v1_apiservices),
                                   .sub = "status",
                                   .name = kl_str(w->name),
                                   .body = w->body,
                                   .done_cb = on_status};
        x->writing = true;
        g->flying++;
        kl_log(KL_LOG_INFO, "aggregate", "apiservice=%s available=%s reason=%s message=\"%.*s\"",
               x->name, ok ? "True" : "False", reason, KL_PRI(message));
        kl_client_start(g->client, &w->call);
    } else {
        free(w);
    }
    kl_arena_fini(&a);
}

// ---- what a server says of itself

// One after the other.
enum about { ABOUT_RESOURCES, ABOUT_OPENAPI_V3, ABOUT_OPENAPI_V2 };

struct question {
    struct kl_aggregate *g;
    char name[256];
    char url[640];
    int attempts;
    enum about about;
    bool legacy; // it has no version 3, which is made of version 2
    struct kl_arena arena;
    struct reading {
        uv_work_t work;
        struct kl_bytes *body;
        char group[256], version[64];
        uint64_t known, stamp;   // of the version 2 document that is there; of this one
        uint64_t known_upgraded; // of the one that version 3 was made of
        bool upgrades;
        struct kl_bytes *text; // what is kept of it
        struct kl_remote_doc *document;
        struct kl_upgraded *upgraded;
        struct kl_error err, upgrade_err;
    } reading;
};

static void question_free(struct question *q)
{
    kl_arena_fini(&q->arena);
    free(q);
}

static bool ask(struct question *q, struct kl_error *err);

static void finish(struct question *q, struct kl_aggregate_item *x, bool ok)
{
    x->checking = false;
    x->due_ms = kl_mono_ms() + (ok ? KL_AGGREGATE_RESYNC_MS : KL_AGGREGATE_RETRY_MS);
    question_free(q);
}

static void failed(struct question *q, struct kl_aggregate_item *x, struct kl_str why)
{
    struct kl_error err = {0};
    if (++q->attempts < ATTEMPTS && !q->g->stopping && ask(q, &err))
        return;
    set_status(q->g, x, false, "FailedDiscoveryCheck", why);
    finish(q, x, false);
}

static void take(struct kl_aggregate *g, struct kl_bytes **place, struct kl_bytes *fresh)
{
    uv_mutex_lock(&g->lock);
    struct kl_bytes *old = *place;
    *place = fresh;
    uv_mutex_unlock(&g->lock);
    kl_bytes_unref(old);
}

// What documents take, but for one.
static size_t document_bytes(const struct kl_aggregate *g, const void *but)
{
    size_t bytes = 0;
    for (size_t i = 0; i < g->nitems; i++) {
        const struct kl_aggregate_item *x = g->items[i];
        bytes += x->document && x->document != but ? x->document->bytes : 0;
        bytes += x->upgraded && x->upgraded != but ? x->upgraded->bytes : 0;
    }
    return bytes;
}

// Version 3 of a version 2 document, or NULL where the server has its own.
static void put_upgraded(struct kl_aggregate *g, struct kl_aggregate_item *x,
                         struct kl_upgraded *fresh)
{
    struct kl_upgraded *old = x->upgraded;
    uv_mutex_lock(&g->lock);
    x->upgraded = kl_upgraded_ref(fresh);
    uv_mutex_unlock(&g->lock);
    kl_upgraded_unref(old);
}

static void take_upgraded(struct kl_aggregate *g, struct kl_aggregate_item *x, struct reading *d)
{
    struct kl_upgraded *fresh = d->upgraded;
    x->upgraded_stamp = d->stamp;
    if (fresh && document_bytes(g, x->upgraded) + fresh->bytes > KL_AGGREGATE_MAX_DOCUMENTS) {
        fresh = NULL;
        kl_error_set(&d->upgrade_err, KL_ETOOLARGE,
                     "documents of all servers together are too large");
    }
    if (!fresh) {
        kl_log(KL_LOG_WARN, "aggregate", "apiservice=%s OpenAPI version 3 is not made: %s", x->name,
               d->upgrade_err.msg);
        return;
    }
    put_upgraded(g, x, fresh);
    take(g, &x->openapi, kl_bytes_ref(fresh->hash));
}

// The version 2 document. What cannot be had or kept leaves what was there, as upstream does.
static void take_document(struct kl_aggregate *g, struct kl_aggregate_item *x, struct reading *d)
{
    struct kl_remote_doc *fresh = d->document, *old = x->document;
    if (d->stamp == x->document_stamp)
        return;
    x->document_stamp = d->stamp;
    if (fresh && document_bytes(g, old) + fresh->bytes > KL_AGGREGATE_MAX_DOCUMENTS) {
        fresh = NULL;
        kl_error_set(&d->err, KL_ETOOLARGE, "documents of all servers together are too large");
    }
    if (!fresh) {
        kl_log(KL_LOG_WARN, "aggregate", "apiservice=%s OpenAPI is not merged: %s", x->name,
               d->err.msg);
        return;
    }
    uv_mutex_lock(&g->lock);
    x->document = kl_remote_doc_ref(fresh);
    uv_mutex_unlock(&g->lock);
    kl_remote_doc_unref(old);
}

static void ask_on(struct question *q, struct kl_aggregate_item *x)
{
    struct kl_error err = {0};
    q->about++;
    if (!ask(q, &err))
        finish(q, x, true);
}

// ---- an answer is read in a thread: it may be some MiB, which the loop would stand still for

static void read_body(uv_work_t *work)
{
    struct question *q = KL_CONTAINER_OF(work, struct question, reading.work);
    struct reading *d = &q->reading;
    struct kl_str body = kl_bytes_str(d->body);
    switch (q->about) {
    case ABOUT_RESOURCES:
        d->text = kl_aggregate_resources(&q->arena, body, kl_str(d->group), kl_str(d->version));
        break;
    case ABOUT_OPENAPI_V3:
        d->text = kl_aggregate_openapi_hash(&q->arena, body, d->group, d->version);
        break;
    case ABOUT_OPENAPI_V2:
        d->stamp = kl_remote_stamp(body);
        if (d->stamp != d->known)
            kl_remote_doc_new(body, d->group, d->version, &d->document, &d->err);
        d->upgrades = q->legacy && d->stamp != d->known_upgraded;
        if (d->upgrades)
            kl_upgraded_new(body, &d->upgraded, &d->upgrade_err);
        break;
    }
}

static void take_reading(struct question *q, struct kl_aggregate_item *x)
{
    struct kl_aggregate *g = q->g;
    struct reading *d = &q->reading;
    if (q->about == ABOUT_OPENAPI_V2) {
        if (d->upgrades)
            take_upgraded(g, x, d);
        take_document(g, x, d);
    } else if (q->about == ABOUT_OPENAPI_V3) {
        put_upgraded(g, x, NULL);
        x->upgraded_stamp = 0;
        take(g, &x->openapi, kl_bytes_ref(d->text));
    } else {
        if (d->text)
            take(g, &x->resources, kl_bytes_ref(d->text));
        set_status(g, x, true, "Passed", KL_STR("all checks passed"));
    }
}

static void drop_reading(struct reading *d)
{
    kl_bytes_unref(d->body);
    kl_bytes_unref(d->text);
    kl_remote_doc_unref(d->document);
    kl_upgraded_unref(d->upgraded);
    *d = (struct reading){0};
}

static void on_read(uv_work_t *work, int status)
{
    struct question *q = KL_CONTAINER_OF(work, struct question, reading.work);
    struct kl_aggregate *g = q->g;
    struct kl_api_loop *al = home(g);
    struct kl_aggregate_item *x = find(g, kl_str(q->name));
    (void)status; // nobody cancels it
    g->flying--;
    if (x && !g->stopping)
        take_reading(q, x);
    drop_reading(&q->reading);
    if (!x || g->stopping)
        question_free(q);
    else if (q->about == ABOUT_OPENAPI_V2)
        finish(q, x, true);
    else
        ask_on(q, x);
    kl_api_loop_leave(al);
}

static void begin_reading(struct question *q, struct kl_aggregate_item *x, struct kl_str body)
{
    struct kl_aggregate *g = q->g;
    struct reading *d = &q->reading;
    *d = (struct reading){.body = kl_bytes_new(body), .known = x->document_stamp};
    d->known_upgraded = x->upgraded_stamp;
    memcpy(d->group, x->group, sizeof d->group);
    memcpy(d->version, x->version, sizeof d->version);
    g->flying++;
    kl_api_loop_enter(home(g)); // whose end waits for it
    if (d->body && !uv_queue_work(kl_loop_uv(home(g)->loop), &d->work, read_body, on_read))
        return;
    g->flying--;
    drop_reading(d);
    kl_api_loop_leave(home(g));
    finish(q, x, false); // without memory: again, soon
}

static void on_answer(void *arg, int status, struct kl_str body, const struct kl_error *err)
{
    struct question *q = arg;
    struct kl_aggregate *g = q->g;
    struct kl_aggregate_item *x = find(g, kl_str(q->name));
    g->flying--;
    if (!x || g->stopping) {
        question_free(q);
    } else if (q->about == ABOUT_OPENAPI_V2 && status != 200) {
        finish(q, x, true);
    } else if (q->about == ABOUT_OPENAPI_V3 && status != 200) {
        // Only who knows no such path has none; of others what was there stays.
        q->legacy = status == 404;
        ask_on(q, x);
    } else if (status < 0) {
        failed(q, x,
               kl_arena_printf(&q->arena, "failing or missing response from %s: Get \"%s\": %.*s",
                               q->url, q->url, KL_PRI(kl_extension_error(&q->arena, status, err))));
    } else if (status < 200 || status >= 300) {
        failed(q, x,
               kl_arena_printf(&q->arena,
                               "failing or missing response from %s: bad status from %s: %d",
                               q->url, q->url, status));
    } else {
        begin_reading(q, x, body);
    }
}

// False: it could not even be asked.
static bool ask(struct question *q, struct kl_error *err)
{
    struct kl_aggregate *g = q->g;
    struct kl_aggregate_item *x = find(g, kl_str(q->name));
    struct kl_object *o = x ? object_of(g, x->name) : NULL;
    struct kl_http_client *http;
    struct kl_extension to;
    // Who reads OpenAPI is nobody's master (kube-aggregator's Downloader).
    bool openapi = q->about != ABOUT_RESOURCES;
    const struct kl_http_header h[] = {
        {KL_STR("accept"), KL_STR("application/json")},
        {KL_STR("user-agent"), KL_STR("Go-http-client/2.0")},
        {KL_STR("x-remote-user"),
         openapi ? KL_STR("system:aggregator") : KL_STR("system:kube-aggregator")},
        {KL_STR("x-remote-group"), KL_STR("system:masters")},
    };
    if (!o || kl_extension_find(home(g), &q->arena, o, &to, err) ||
        kl_extension_client(home(g), &http, err))
        return false;
    struct kl_str target = q->about == ABOUT_OPENAPI_V3 ? KL_STR("/openapi/v3")
                           : q->about == ABOUT_OPENAPI_V2
                               ? KL_STR("/openapi/v2")
                               : kl_arena_printf(&q->arena, "/%s%s/%s", *x->group ? "apis/" : "api",
                                                 x->group, x->version);
    snprintf(q->url, sizeof q->url, "%.*s%.*s", KL_PRI(to.shown), KL_PRI(target));
    struct kl_http_call_spec spec = {.host = to.host.p,
                                     .port = to.port,
                                     .tls = to.tls,
                                     .target = target,
                                     .headers = h,
                                     .nheaders = KL_COUNT(h) - openapi,
                                     .timeout_ms = KL_AGGREGATE_TIMEOUT_MS};
    if (kl_http_fetch(http, &spec, KL_AGGREGATE_MAX_ANSWER, on_answer, q, NULL, err))
        return false;
    g->flying++;
    return true;
}

static void question(struct kl_aggregate *g, struct kl_aggregate_item *x)
{
    struct question *q = calloc(1, sizeof *q);
    struct kl_error err = {0};
    if (!q)
        return;
    q->g = g;
    snprintf(q->name, sizeof q->name, "%s", x->name);
    kl_arena_init(&q->arena, ARENA_BYTES);
    x->checking = true;
    if (!ask(q, &err)) {
        set_status(g, x, false, "FailedDiscoveryCheck", kl_str(err.msg));
        finish(q, x, false);
    }
}

// ---- the objects

static int64_t number(const struct kl_value *spec, kl_sym field)
{
    return kl_int_or(kl_get(spec, field), 0);
}

static void see(struct kl_aggregate *g, struct kl_kv *kv, const struct kl_value *o)
{
    const struct kl_value *spec = kl_get(o, KL_F_spec);
    struct kl_str name = kl_meta_name(o), group = kl_text(kl_get(spec, KL_F_group)),
                  version = kl_text(kl_get(spec, KL_F_version));
    struct kl_aggregate_item *x = find(g, name);
    if (name.n >= sizeof x->name || group.n >= sizeof x->group || version.n >= sizeof x->version)
        return;
    if (!x) {
        if (g->nitems == KL_AGGREGATE_MAX || !(x = calloc(1, sizeof *x)))
            return;
        memcpy(x->name, name.p, name.n);
        uv_mutex_lock(&g->lock);
        g->items[g->nitems++] = x;
        uv_mutex_unlock(&g->lock);
    }
    x->here = true;
    if (x->seen_rev == kv->mod_rev)
        return;
    uv_mutex_lock(&g->lock);
    snprintf(x->group, sizeof x->group, "%.*s", KL_PRI(group));
    snprintf(x->version, sizeof x->version, "%.*s", KL_PRI(version));
    x->group_priority = number(spec, KL_F_groupPriorityMinimum);
    x->version_priority = number(spec, KL_F_versionPriority);
    x->current = kl_apiservice_is_available(o);
    uv_mutex_unlock(&g->lock);
    x->seen_rev = kv->mod_rev;
}

static void drop_gone(struct kl_aggregate *g)
{
    for (size_t i = 0; i < g->nitems;) {
        struct kl_aggregate_item *x = g->items[i];
        if (x->here || x->checking || x->writing) {
            i++;
            continue;
        }
        uv_mutex_lock(&g->lock);
        g->items[i] = g->items[--g->nitems];
        uv_mutex_unlock(&g->lock);
        item_free(x);
    }
}

static void see_custom(void *arg, const struct kl_openapi_custom *c)
{
    (void)c;
    *(bool *)arg = true;
}

// Whether this server has the version itself.
static bool is_here(struct kl_aggregate *g, const struct kl_aggregate_item *x)
{
    const struct kl_openapi_source *src = g->srv->openapi;
    bool found = false;
    for (uint16_t i = 0; i < kl_nresources && !found; i++)
        found = !strcmp(kl_resources[i].group, x->group) &&
                !strcmp(kl_resources[i].version, x->version) &&
                kl_is_served(g->srv, &kl_resources[i]);
    if (!found && src)
        src->each(src->arg, home(g), kl_str(x->group), kl_str(x->version), see_custom, &found);
    return found;
}

// Whether an APIService has changed.
static bool look(struct kl_aggregate *g)
{
    const struct kl_resource *res = kl_res(KL_RES_apiregistration_v1_apiservices);
    char prefix[128], end[128];
    int n = snprintf(prefix, sizeof prefix, "%s/", res->etcd_prefix);
    struct kl_str from = {prefix, (size_t)n};
    struct kl_iter it;
    struct kl_error err;
    kl_rev newest = 0;
    size_t nobjects = 0;
    for (size_t i = 0; i < g->nitems; i++)
        g->items[i]->here = false;
    kl_iter_init(&it, kl_reader_view(home(g)->reader), from, kl_prefix_end(from, end));
    for (struct kl_kv *kv; (kv = kl_iter_next(&it));) {
        struct kl_object *o = kl_cache_object(kv, res, &err);
        newest = kv->mod_rev > newest ? kv->mod_rev : newest;
        nobjects++;
        if (o && kl_path(&o->root, KL_F_spec, KL_F_service))
            see(g, kv, &o->root);
    }
    drop_gone(g);
    bool taken = false;
    for (size_t i = 0; i < g->nitems && !taken; i++)
        taken = g->items[i]->here && is_here(g, g->items[i]);
    atomic_store_explicit(&g->srv->taken_over, taken, memory_order_relaxed);
    bool changed = newest != g->newest || nobjects != g->nobjects;
    g->newest = newest;
    g->nobjects = nobjects;
    return changed;
}

static void check(struct kl_aggregate *g, struct kl_aggregate_item *x, bool changed)
{
    struct kl_object *o = object_of(g, x->name);
    const char *reason = NULL;
    struct kl_str message = KL_STR("");
    struct kl_arena a;
    if (!o || x->checking || x->writing)
        return;
    kl_arena_init(&a, ARENA_BYTES);
    if (changed) {
        kl_extension_check(home(g), &a, &o->root, &reason, &message);
        if (reason) {
            set_status(g, x, false, reason, message);
            x->due_ms = INT64_MAX; // until an object changes
        } else if (x->due_ms == INT64_MAX) {
            x->due_ms = 0;
        }
    }
    kl_arena_fini(&a);
    if (!reason && kl_mono_ms() >= x->due_ms)
        question(g, x);
}

static void tick(uv_timer_t *t)
{
    struct kl_aggregate *g = t->data;
    if (!home(g)->reader || g->stopping)
        return;
    kl_rev rev = kl_view_rev(kl_reader_view(home(g)->reader));
    bool changed = rev != g->last_rev, objects = false;
    g->last_rev = rev;
    if (changed)
        objects = look(g);
    for (size_t i = 0; i < g->nitems; i++)
        if (g->items[i]->here)
            check(g, g->items[i], changed);
    if (g->local)
        kl_local_tick(g->local, objects);
}

// ---- life

int kl_aggregate_new(struct kl_apiserver *s, struct kl_aggregate **ret, struct kl_error *err)
{
    struct kl_aggregate *g = calloc(1, sizeof *g);
    if (!g || uv_mutex_init(&g->lock)) {
        free(g);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    g->srv = s;
    *ret = g;
    return 0;
}

void kl_aggregate_start(struct kl_aggregate *g)
{
    static const char *const groups[] = {"system:masters", NULL};
    struct kl_loop *loop = home(g)->loop;
    g->client =
        kl_apiserver_client(g->srv, loop, "system:apiserver", groups, "kube-apiserver/aggregator");
    if (!g->client || kl_local_new(g, &g->local) || uv_timer_init(kl_loop_uv(loop), &g->timer)) {
        kl_log(KL_LOG_ERROR, "aggregate", "out of memory");
        return;
    }
    g->timer.data = g;
    g->running = true;
    uv_unref((uv_handle_t *)&g->timer);
    uv_timer_start(&g->timer, tick, 0, KL_AGGREGATE_TICK_MS);
}

void kl_aggregate_stop(struct kl_aggregate *g)
{
    if (!g || g->stopping)
        return;
    g->stopping = true;
    if (g->running)
        uv_close((uv_handle_t *)&g->timer, NULL);
    g->running = false;
}

void kl_aggregate_free(struct kl_aggregate *g)
{
    if (!g)
        return;
    kl_client_free(g->client);
    kl_local_free(g->local);
    for (size_t i = 0; i < g->nitems; i++)
        item_free(g->items[i]);
    uv_mutex_destroy(&g->lock);
    free(g);
}
