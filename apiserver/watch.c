// SPDX-License-Identifier: Apache-2.0
// WATCH over HTTP: a watcher (watchcache/) pulled by the socket. Frames are slices of the shared
// encodings; bookmarks and time-outs come from one timer for all streams of a loop.
#include "apiserver/auth/revoke.h"
#include "apiserver/fairness/fairness.h"
#include "apiserver/crd/convert.h"
#include "apiserver/crd/crd.h"
#include "apiserver/metrics.h"
#include "apiserver/series.h"
#include "apiserver/server_int.h"
#include "base/clock.h"
#include "base/rand.h"
#include "object/protobuf.h"
#include "object/table.h"
#include "watchcache/watcher.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    BOOKMARK_MS = 60 * 1000,       // upstream: about once a minute
    BOOKMARK_BEFORE_END_MS = 2000, // and shortly before the end
    MIN_TIMEOUT_S = 1800,          // --min-request-timeout; the end is between it and its double
    TICK_MS = 1000,
    PB_HEAD = 640, // at most, of an event's
    HEADS_BYTES = 4096,
};

struct kl_watch_stream {
    struct kl_api_call *call;
    struct kl_watcher *watcher;
    struct kl_bytes *head[4]; // JSON text before an object, by event type
    struct kl_bytes *tail;
    int64_t end_ms, bookmark_ms;
    kl_rev bookmarked;
    bool bookmark_due, ended, table_head_sent, cached;
    struct kl_error *refused; // why there is no watcher: told as the only event
    struct kl_crd_user user;  // of a custom resource
    struct kl_conversion conversion;
    bool unconverted; // it failed
    struct kl_watch_stream *next, **pprev;
    struct kl_revocable revocable;
};

static const char *const type_names[] = {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"};

// What follows a shared encoding.
static struct kl_bytes *new_tail(enum kl_media media)
{
    char mem[16];
    struct kl_buf b = {.p = mem, .cap = sizeof mem, .max = sizeof mem};
    if (media == KL_MEDIA_PROTOBUF)
        kl_pb_end_envelope(&b);
    else
        kl_buf_puts(&b, KL_STR("}\n"));
    return kl_bytes_new(kl_buf_str(&b));
}

// {"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1",
static struct kl_bytes *json_head(struct kl_watch_stream *w, enum kl_event_type t)
{
    const struct kl_resource *res = w->call->req.info.res;
    if (!w->head[t]) {
        struct kl_str s = res->custom // says them itself
                              ? kl_arena_printf(w->call->req.arena, "{\"type\":\"%s\",\"object\":{",
                                                type_names[t])
                              : kl_arena_printf(w->call->req.arena,
                                                "{\"type\":\"%s\",\"object\":{\"kind\":\"%s\","
                                                "\"apiVersion\":\"%s\",",
                                                type_names[t], res->kind, res->api_version);
        w->head[t] = s.p ? kl_bytes_new(s) : NULL;
    }
    return kl_bytes_ref(w->head[t]);
}

static void put_chunk(struct kl_http_chunk *c, struct kl_bytes *b, uint32_t off)
{
    *c = (struct kl_http_chunk){.bytes = b, .off = off, .n = b ? b->n - off : 0};
}

// A frame that nobody shares: `object` is complete JSON, or a protobuf envelope.
static struct kl_bytes *own_frame(struct kl_watch_stream *w, const char *type, struct kl_str object)
{
    struct kl_buf b;
    kl_buf_init(&b, KL_MAX_ARENA_BYTES);
    if (w->call->spec.media == KL_MEDIA_PROTOBUF) {
        struct kl_buf e;
        kl_buf_init(&e, KL_MAX_ARENA_BYTES);
        struct kl_buf raw;
        kl_buf_init(&raw, KL_MAX_ARENA_BYTES);
        kl_buf_putc(&raw, 0x0a);
        kl_pb_put_varint(&raw, object.n);
        kl_buf_puts(&raw, object);
        kl_buf_putc(&e, 0x0a);
        kl_pb_put_varint(&e, strlen(type));
        kl_buf_puts(&e, kl_str(type));
        kl_buf_putc(&e, 0x12);
        kl_pb_put_varint(&e, raw.n);
        kl_buf_puts(&e, kl_buf_str(&raw));
        uint8_t len[4] = {(uint8_t)(e.n >> 24), (uint8_t)(e.n >> 16), (uint8_t)(e.n >> 8),
                          (uint8_t)e.n};
        kl_buf_append(&b, len, 4);
        kl_buf_puts(&b, kl_buf_str(&e));
        if (e.err || raw.err)
            b.err = KL_ENOMEM;
        kl_buf_fini(&raw);
        kl_buf_fini(&e);
    } else {
        kl_buf_printf(&b, "{\"type\":\"%s\",\"object\":", type);
        kl_buf_puts(&b, object);
        kl_buf_puts(&b, KL_STR("}\n"));
    }
    struct kl_bytes *out = kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    return out;
}

static void trim_newline(struct kl_buf *b)
{
    while (b->n && b->p[b->n - 1] == '\n')
        b->n--;
}

// The frame of an object in a form made for this stream. `initial_end`: the bookmark that says so,
// whose annotation a Table must show whatever it is to show of objects.
static struct kl_bytes *made_frame(struct kl_watch_stream *w, enum kl_event_type t,
                                   struct kl_object *o, bool initial_end)
{
    struct kl_req *r = &w->call->req;
    struct kl_spec spec = w->call->spec;
    const struct kl_spec *s = &spec;
    if (initial_end && spec.include == KL_INCLUDE_NONE)
        spec.include = KL_INCLUDE_METADATA;
    struct kl_error err = {0};
    struct kl_object *v = kl_object_in_version(r->info.res, o, &err);
    struct kl_buf b;
    if (!v)
        return NULL;
    kl_buf_init(&b, KL_MAX_ARENA_BYTES);
    if (s->form == KL_FORM_TABLE) {
        struct kl_str rv = kl_meta_rv(&v->root);
        kl_buf_printf(&b,
                      "{\"kind\":\"Table\",\"apiVersion\":\"%.*s\",\"metadata\":{"
                      "\"resourceVersion\":\"%.*s\"},\"columnDefinitions\":",
                      KL_PRI(kl_spec_meta_version(s)), KL_PRI(rv));
        if (w->table_head_sent)
            kl_buf_puts(&b, KL_STR("null"));
        else
            kl_buf_puts(&b, kl_table_columns_json(r->info.res));
        w->table_head_sent = true;
        kl_buf_puts(&b, KL_STR(",\"rows\":["));
        kl_encode_row(&b, r, s, v, kl_wall_ms() * 1000);
        kl_buf_puts(&b, KL_STR("]}"));
    } else if (s->form != KL_FORM_OBJECT) {
        kl_encode_partial(&b, s, v, true);
    } else {
        kl_encode_value(&b, s, v->type, kl_str(r->info.res->api_version), kl_str(r->info.res->kind),
                        &v->root);
    }
    if (s->media != KL_MEDIA_PROTOBUF)
        trim_newline(&b);
    struct kl_bytes *out = b.err ? NULL : own_frame(w, type_names[t], kl_buf_str(&b));
    kl_buf_fini(&b);
    kl_object_unref(v);
    return out;
}

// Room for one more head in the loop's block. What was handed out of it keeps it.
static char *head_room(struct kl_api_loop *al)
{
    if (!al->heads || al->heads->n - al->heads_used < PB_HEAD) {
        kl_bytes_unref(al->heads);
        al->heads = kl_bytes_alloc(HEADS_BYTES);
        al->heads_used = 0;
    }
    return al->heads ? al->heads->p + al->heads_used : NULL;
}

// Length, WatchEvent and envelope in front of a shared protobuf message. 0 or KL_ENOMEM.
static int put_pb_head(struct kl_watch_stream *w, enum kl_event_type t, size_t message,
                       struct kl_http_chunk *c)
{
    const struct kl_resource *res = w->call->req.info.res;
    struct kl_api_loop *al = w->call->req.al;
    struct kl_str name = kl_str(type_names[t]);
    char env_mem[PB_HEAD / 2], ev_mem[PB_HEAD / 4], raw_mem[16], *room = head_room(al);
    struct kl_buf env = {.p = env_mem, .cap = sizeof env_mem, .max = sizeof env_mem};
    struct kl_buf ev = {.p = ev_mem, .cap = sizeof ev_mem, .max = sizeof ev_mem};
    struct kl_buf raw = {.p = raw_mem, .cap = sizeof raw_mem, .max = sizeof raw_mem};
    struct kl_buf out = {.p = room, .cap = PB_HEAD, .max = PB_HEAD};
    if (!room)
        return KL_ENOMEM;
    kl_pb_begin_envelope(&env, kl_str(res->api_version), kl_str(res->kind), message);
    size_t object = env.n + message + w->tail->n;
    kl_buf_putc(&raw, 0x0a);
    kl_pb_put_varint(&raw, object);
    kl_buf_putc(&ev, 0x0a);
    kl_pb_put_varint(&ev, name.n);
    kl_buf_puts(&ev, name);
    kl_buf_putc(&ev, 0x12);
    kl_pb_put_varint(&ev, raw.n + object);
    kl_buf_puts(&ev, kl_buf_str(&raw));
    size_t frame = ev.n + object;
    uint8_t len[4] = {(uint8_t)(frame >> 24), (uint8_t)(frame >> 16), (uint8_t)(frame >> 8),
                      (uint8_t)frame};
    kl_buf_append(&out, len, 4);
    kl_buf_puts(&out, kl_buf_str(&ev));
    kl_buf_puts(&out, kl_buf_str(&env));
    if (env.err || ev.err || out.err)
        return KL_ENOMEM;
    *c = (struct kl_http_chunk){
        .bytes = kl_bytes_ref(al->heads), .off = al->heads_used, .n = (uint32_t)out.n};
    al->heads_used += (uint32_t)out.n;
    return 0;
}

static int put_event(struct kl_watch_stream *w, const struct kl_watcher_event *e,
                     struct kl_http_chunk *c)
{
    kl_series_event(&w->call->req);
    struct kl_req *r = &w->call->req;
    struct kl_error err; // a KiB: not to be cleared each time
    err.code = 0, err.msg[0] = 0;
    if (!w->cached || !e->kv) {
        put_chunk(&c[0], made_frame(w, e->type, e->object, false), 0);
        return c[0].bytes ? 1 : KL_ENOMEM;
    }
    if (w->call->spec.media == KL_MEDIA_PROTOBUF) {
        struct kl_bytes *m = kl_cache_protobuf(e->kv, r->info.res, &err);
        if (!m || put_pb_head(w, e->type, m->n, &c[0]))
            return KL_ENOMEM;
        put_chunk(&c[1], kl_bytes_ref(m), 0);
        put_chunk(&c[2], kl_bytes_ref(w->tail), 0);
        return 3;
    }
    struct kl_bytes *m = kl_cache_json(e->kv, r->info.res, &err);
    struct kl_bytes *head = m ? json_head(w, e->type) : NULL;
    if (!head)
        return KL_ENOMEM;
    put_chunk(&c[0], head, 0);
    put_chunk(&c[1], kl_bytes_ref(m), 2);
    put_chunk(&c[2], kl_bytes_ref(w->tail), 0);
    return 3;
}

static int put_bookmark(struct kl_watch_stream *w, kl_rev rev, bool initial_end,
                        struct kl_http_chunk *c)
{
    struct kl_req *r = &w->call->req;
    struct kl_arena a;
    struct kl_value root = kl_new_struct(), meta = kl_new_struct(), ann = kl_new_map();
    kl_arena_init(&a, 64 * 1024);
    kl_set(&a, &meta, KL_F_resourceVersion, kl_string(kl_arena_printf(&a, "%lld", (long long)rev)));
    if (initial_end) {
        kl_map_set_value(&a, &ann, KL_STR("k8s.io/initial-events-end"), kl_stringz("true"));
        kl_set(&a, &meta, KL_F_annotations, ann);
    }
    kl_set(&a, &root, KL_F_metadata, meta);
    struct kl_object *o = kl_object_freeze(r->info.res->type, &root);
    kl_arena_fini(&a);
    struct kl_bytes *frame = NULL;
    if (o && w->call->spec.form != KL_FORM_OBJECT) {
        frame = made_frame(w, KL_EVENT_BOOKMARK, o, initial_end);
    } else if (o) {
        struct kl_buf b;
        kl_buf_init(&b, 64 * 1024);
        kl_encode_value(&b, &w->call->spec, r->info.res->type, kl_str(r->info.res->api_version),
                        kl_str(r->info.res->kind), &o->root);
        if (w->call->spec.media != KL_MEDIA_PROTOBUF)
            trim_newline(&b);
        frame = b.err ? NULL : own_frame(w, "BOOKMARK", kl_buf_str(&b));
        kl_buf_fini(&b);
    }
    kl_object_unref(o);
    put_chunk(&c[0], frame, 0);
    w->bookmarked = rev;
    w->bookmark_due = false;
    w->bookmark_ms = kl_mono_ms() + BOOKMARK_MS;
    if (frame && initial_end)
        kl_series_watch_list(r);
    return frame ? 1 : KL_ENOMEM;
}

static int put_error(struct kl_watch_stream *w, const struct kl_error *err, struct kl_http_chunk *c)
{
    struct kl_req *r = &w->call->req;
    struct kl_spec plain = w->call->spec;
    if (err->code == KL_ECOMPACTED)
        kl_fail_set(r, 410, "Expired", "too old resource version: %.*s (%lld)",
                    KL_PRI(r->opts.resource_version),
                    (long long)kl_view_compact_rev(kl_req_view(r)));
    else if (w->unconverted) // as upstream's watch tells what it cannot decode
        kl_fail_set(r, 500, "InternalError", "%s", err->msg);
    else
        kl_fail_err(r, err);
    plain.form = KL_FORM_OBJECT;
    plain.pretty = false;
    struct kl_bytes *status = kl_encode_result(r, &plain), *frame = NULL;
    if (status) {
        struct kl_str s = kl_bytes_str(status);
        frame = own_frame(w, "ERROR", plain.media == KL_MEDIA_PROTOBUF ? s : kl_str_trim(s));
    }
    kl_bytes_unref(status);
    w->ended = true;
    put_chunk(&c[0], frame, 0);
    return frame ? 1 : KL_ENOMEM;
}

// Cut off in the middle: what this pull has made already is nobody's.
static int pull_watch(void *arg, struct kl_http_chunk *chunks, int max, bool *ret_end)
{
    struct kl_watch_stream *w = arg;
    struct kl_watcher_event e;
    struct kl_error err; // a KiB: not to be cleared each time
    err.code = 0, err.msg[0] = 0;
    size_t bytes = 0;
    int n = 0;
    while (!w->ended && n + 3 <= max && bytes < 64 * 1024) {
        int rc = w->refused ? w->refused->code : kl_watcher_next(w->watcher, &e, &err);
        if (rc == 0) {
            kl_fair_leave(&w->call->req); // all that was there when it began was sent
            break;
        }
        if (rc > 0 && e.type == KL_EVENT_BOOKMARK)
            rc = put_bookmark(w, e.rev, e.initial_end, chunks + n);
        else if (rc > 0)
            rc = put_event(w, &e, chunks + n);
        else
            rc = put_error(w, w->refused ? w->refused : &err, chunks + n);
        if (rc < 0)
            return kl_chunks_drop(chunks, n, rc);
        for (int i = 0; i < rc; i++)
            bytes += chunks[n + i].n;
        n += rc;
    }
    kl_rev rev;
    if (!w->ended && w->bookmark_due && n + 1 <= max && kl_watcher_progress(w->watcher, &rev)) {
        if (rev == w->bookmarked) {
            w->bookmark_due = false;
        } else {
            int rc = put_bookmark(w, rev, false, chunks + n);
            if (rc < 0)
                return kl_chunks_drop(chunks, n, rc);
            n += rc;
        }
    }
    if (w->ended)
        *ret_end = true;
    return n;
}

static void close_stream(void *arg)
{
    struct kl_watch_stream *w = arg;
    kl_revocable_remove(&w->revocable);
    if (w->pprev) {
        *w->pprev = w->next;
        if (w->next)
            w->next->pprev = w->pprev;
    }
    kl_fair_count_watch(&w->call->req, -1);
    kl_series_long_running(&w->call->req, -1);
    kl_crd_leave(&w->user);
    kl_conversion_cancel(&w->conversion);
    kl_watcher_stop(w->watcher);
    for (int i = 0; i < 4; i++)
        kl_bytes_unref(w->head[i]);
    kl_bytes_unref(w->tail);
    kl_api_call_release(w->call); // frees w
}

static const struct kl_http_source watch_source = {.pull = pull_watch, .close = close_stream};

static void wake_stream(struct kl_watcher *x, void *arg)
{
    struct kl_watch_stream *w = arg;
    (void)x;
    kl_http_resume(w->call->hr);
}

static void on_converted(struct kl_conversion *c, int code, const struct kl_error *err)
{
    struct kl_watch_stream *w = KL_CONTAINER_OF(c, struct kl_watch_stream, conversion);
    w->unconverted = code != 0;
    kl_watcher_converted(w->watcher, code, err);
    kl_http_resume(w->call->hr);
}

static int convert(void *arg, struct kl_kv **kvs, size_t n, struct kl_error *err)
{
    struct kl_watch_stream *w = arg;
    struct kl_req *r = &w->call->req;
    w->conversion = (struct kl_conversion){.done = on_converted};
    int rc = kl_convert_versions(r->al, r->info.res, kvs, n, &w->conversion, err);
    w->unconverted = rc < 0;
    return rc;
}

// The definition of what is watched changed or went: the client begins anew, as with upstream.
static void on_definition(struct kl_crd_user *u)
{
    struct kl_watch_stream *w = KL_CONTAINER_OF(u, struct kl_watch_stream, user);
    w->ended = true;
    kl_http_resume(w->call->hr);
}

// ---- the loop's timer

static void tick(uv_timer_t *t)
{
    struct kl_api_loop *al = t->data;
    int64_t now = kl_mono_ms();
    for (struct kl_watch_stream *w = al->streams, *next; w; w = next) {
        next = w->next;
        if (now >= w->end_ms)
            w->ended = true;
        else if (w->call->req.opts.bookmarks && now >= w->bookmark_ms)
            w->bookmark_due = true;
        else
            continue;
        if (!w->ended)
            w->bookmark_ms = w->end_ms - now < BOOKMARK_MS ? w->end_ms : now + BOOKMARK_MS;
        kl_http_resume(w->call->hr);
    }
    if (!al->streams)
        uv_timer_stop(t);
}

static void end_revoked(struct kl_revocable *r)
{
    struct kl_watch_stream *w = KL_CONTAINER_OF(r, struct kl_watch_stream, revocable);
    w->ended = true;
    kl_http_resume(w->call->hr);
}

static void enlist(struct kl_api_loop *al, struct kl_watch_stream *w)
{
    kl_revocable_add(al, &w->revocable, w->call->req.user, end_revoked);
    if (!al->timer_ready) {
        uv_timer_init(kl_loop_uv(al->loop), &al->stream_timer);
        uv_unref((uv_handle_t *)&al->stream_timer);
        al->stream_timer.data = al;
        al->timer_ready = true;
    }
    if (!uv_is_active((uv_handle_t *)&al->stream_timer))
        uv_timer_start(&al->stream_timer, tick, TICK_MS, TICK_MS);
    w->next = al->streams;
    w->pprev = &al->streams;
    if (w->next)
        w->next->pprev = &w->next;
    al->streams = w;
}

void kl_watch_close_all(struct kl_api_loop *al)
{
    for (struct kl_watch_stream *w = al->streams; w; w = w->next) {
        w->ended = true;
        kl_http_resume(w->call->hr);
    }
}

// ---- start

// Where a watch begins (apiserver storage docs): no resourceVersion or "0" means the state first.
static void choose_start(struct kl_req *r, kl_rev rv, struct kl_watcher_options *o)
{
    const struct kl_req_opts *q = &r->opts;
    o->since = rv;
    if (q->send_initial_events_set) {
        o->initial = q->send_initial_events;
        o->initial_end = q->send_initial_events && q->bookmarks;
        if (!q->send_initial_events && !rv)
            o->since = 0;
        return;
    }
    // SetListOptionsDefaults: it asks for the state's end too.
    o->initial = !rv;
    o->initial_end = !rv && q->bookmarks;
}

static void go_on(void *arg, int code)
{
    struct kl_api_call *c = arg;
    if (!code && !(code = kl_crd_again(&c->req)) && !c->req.info.res)
        kl_fail_set(&c->req, code = 404, "NotFound",
                    "the server could not find the requested resource");
    if (code)
        kl_req_fail(&c->req);
    else
        kl_watch_run(c);
}

void kl_watch_run(struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    struct kl_error err = {0};
    struct kl_watcher_options o = {0};
    kl_rev rv;
    if (kl_list_options_check(r, true) || kl_req_rv(r, r->opts.resource_version, &rv)) {
        kl_req_fail(r);
        return;
    }
    if (c->spec.media == KL_MEDIA_YAML) {
        kl_fail_set(r, 406, "NotAcceptable",
                    "only the following media types are accepted: application/json;stream=watch, "
                    "application/vnd.kubernetes.protobuf;stream=watch");
        kl_req_fail(r);
        return;
    }
    choose_start(r, rv, &o);
    if (o.initial && (!r->opts.resource_version.n || rv > kl_view_rev(kl_req_view(r))) &&
        kl_req_confirm(r, go_on, c))
        return;
    struct kl_watch_stream *w = KL_ARENA_NEW(r->arena, struct kl_watch_stream);
    if (!w || !(w->tail = new_tail(c->spec.media))) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    if (c->spec.form == KL_FORM_PARTIAL_LIST)
        c->spec.form = KL_FORM_PARTIAL;
    c->spec.pretty = false;
    w->call = c;
    w->cached = kl_spec_is_cached(r, &c->spec);
    struct kl_str name = r->info.name.n ? r->info.name : r->opts.name_from_fields;
    o.filter = (struct kl_filter){.res = r->info.res,
                                  .ns = r->info.ns,
                                  .name = name,
                                  .labels = &r->opts.labels,
                                  .fields = &r->opts.fields};
    o.wake = wake_stream;
    o.convert = convert;
    o.arg = w;
    if (o.initial && rv > kl_view_rev(kl_req_view(r))) {
        // Nobody was ever told of a revision that this loop's view has not reached.
        kl_fail_too_large(r, rv);
        kl_bytes_unref(w->tail);
        kl_req_fail(r);
        return;
    }
    // Past the parsing of its options a watch fails with an event, not with the answer.
    if (kl_watcher_start(r->al->reader, &o, &w->watcher, &err)) {
        if (!(w->refused = kl_arena_alloc(r->arena, sizeof err))) {
            kl_bytes_unref(w->tail);
            kl_fail_oom(r);
            kl_req_fail(r);
            return;
        }
        *w->refused = err;
    }
    int64_t timeout_s = r->opts.timeout_s > 0
                            ? r->opts.timeout_s
                            : MIN_TIMEOUT_S + (int64_t)(kl_rand_u64() % MIN_TIMEOUT_S);
    int64_t now = kl_mono_ms();
    w->end_ms = now + timeout_s * 1000;
    int64_t last_ms = timeout_s * 1000 - BOOKMARK_BEFORE_END_MS;
    w->bookmark_ms = now + (last_ms <= 0            ? timeout_s * 1000
                            : last_ms < BOOKMARK_MS ? last_ms
                                                    : BOOKMARK_MS);
    enlist(r->al, w);
    if (r->family) {
        w->user = (struct kl_crd_user){.family = r->family, .changed = on_definition};
        kl_crd_use(r->al, &w->user);
    }
    kl_api_metrics_request(r, 200);
    struct kl_http_header h[2 + KL_COMMON_HEADERS] = {
        KL_HTTP_HEADER("cache-control", "no-cache, private"),
        {KL_STR("content-type"), kl_str(kl_spec_content_type(&c->spec, true))}};
    size_t nh = 2 + kl_http_common_headers(r, h + 2);
    kl_fair_count_watch(r, 1);
    kl_series_long_running(r, 1);
    if (!o.initial)
        kl_fair_leave(r);
    if (kl_http_respond_stream(c->hr, 200, h, nh, &watch_source, w))
        close_stream(w);
}
