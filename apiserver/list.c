// SPDX-License-Identifier: Apache-2.0
// LIST over HTTP: gathers, then streams the answer by pull. Where the cached encodings serve, an
// item costs one slice of shared bytes.
#include "apiserver/audit/audit.h"
#include "apiserver/gather.h"
#include "apiserver/gzip.h"
#include "apiserver/metrics.h"
#include "apiserver/trace/trace.h"
#include "object/custom.h"
#include "base/clock.h"
#include "object/protobuf.h"
#include "object/table.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    PIECE_BYTES = 48 * 1024,
    PB_HEAD = 6,    // at most, of a message in a list: its tag and length
    AHEAD = 8,      // items
    LINE = 64,      // of the processor's cache
    TEXT_LINES = 4, // of an item's text
};

struct list {
    struct kl_api_call *call;
    struct kl_gather *g;
    struct kl_gather own; // of a LIST; a collection that was deleted brings its own
    struct kl_span *span; // of what is read, then of what is written
    size_t at;
    bool head_sent, tail_sent, cached;
    struct kl_bytes *head, *tail;
};

// ---- options

int kl_req_rv(struct kl_req *r, struct kl_str text, kl_rev *ret_rev)
{
    *ret_rev = 0;
    if (!text.n || kl_str_eqz(text, "0"))
        return 0;
    uint64_t u;
    if (kl_str_to_u64(text, &u)) {
        *ret_rev = u < INT64_MAX ? (kl_rev)u : INT64_MAX - 1; // of which there is a next one
        return 0;
    }
    // A watch and a get hand the bare error on, which is then an unknown one.
    bool bare = r->info.op == KL_VERB_WATCH || r->info.op == KL_VERB_GET;
    kl_fail_set(
        r, bare ? 500 : 400, bare ? "" : "BadRequest",
        "%sresourceVersion: Invalid value: \"%.*s\": strconv.ParseUint: parsing \"%.*s\": %s",
        bare ? "" : "invalid resource version: ", KL_PRI(text), KL_PRI(text),
        kl_number_complaint(text));
    return KL_EINVALID;
}

int kl_list_options_check(struct kl_req *r, bool watch)
{
    const struct kl_req_opts *o = &r->opts;
    struct kl_field_errors e = {.arena = r->arena};
    struct kl_str match = KL_STR("resourceVersionMatch"), initial = KL_STR("sendInitialEvents");
    bool has_match = o->rv_match != KL_RV_MATCH_UNSET;
    if (watch) {
        if (o->send_initial_events_set && o->rv_match != KL_RV_MATCH_NOT_OLDER)
            kl_field_forbidden(&e, match,
                               "sendInitialEvents requires setting resourceVersionMatch to "
                               "NotOlderThan");
        if (!o->send_initial_events_set && has_match)
            kl_field_forbidden(&e, match,
                               "resourceVersionMatch is forbidden for watch unless "
                               "sendInitialEvents is provided");
        if (o->rv_match == KL_RV_MATCH_EXACT) {
            static const char *const supported[] = {"NotOlderThan", NULL};
            kl_field_unsupported(&e, match, KL_STR("Exact"), supported);
        }
        // SetListOptionsDefaults: a watch from now begins with what is there.
        bool begins = !o->resource_version.n || kl_str_eqz(o->resource_version, "0");
        if (o->cont.n && (has_match || (begins && !o->send_initial_events_set)))
            kl_field_forbidden(&e, match,
                               "resourceVersionMatch is forbidden when continue is provided");
    } else {
        if (has_match && !o->resource_version.n)
            kl_field_forbidden(
                &e, match, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        if (has_match && o->cont.n)
            kl_field_forbidden(&e, match,
                               "resourceVersionMatch is forbidden when continue is provided");
        if (o->rv_match == KL_RV_MATCH_EXACT && kl_str_eqz(o->resource_version, "0"))
            kl_field_forbidden(
                &e, match, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        if (o->send_initial_events_set)
            kl_field_forbidden(&e, initial, "sendInitialEvents is forbidden for list");
        if (!e.n && o->cont.n && o->resource_version.n && !kl_str_eqz(o->resource_version, "0")) {
            kl_fail_bad(r, "specifying resource version is not allowed when using continue");
            return KL_EBADREQUEST;
        }
    }
    if (!e.n)
        return 0;
    kl_fail_invalid(r, KL_STR("ListOptions"), KL_STR("meta.k8s.io"), KL_STR(""), &e);
    return KL_EINVALID;
}

// ---- head and tail

static void put_list_meta(struct kl_buf *b, const struct kl_gather *g)
{
    kl_buf_printf(b, "\"metadata\":{\"resourceVersion\":\"%lld\"", (long long)g->rev);
    if (g->next.n) {
        kl_buf_puts(b, KL_STR(",\"continue\":"));
        kl_json_write_string(b, g->next);
    }
    if (g->next.n && g->remaining >= 0)
        kl_buf_printf(b, ",\"remainingItemCount\":%lld", (long long)g->remaining);
    kl_buf_putc(b, '}');
}

static void put_json_head(struct kl_buf *b, struct list *l)
{
    const struct kl_resource *res = l->call->req.info.res;
    const struct kl_spec *s = &l->call->spec;
    if (s->form == KL_FORM_TABLE) {
        kl_buf_printf(b, "{\"kind\":\"Table\",\"apiVersion\":\"%.*s\",",
                      KL_PRI(kl_spec_meta_version(s)));
        put_list_meta(b, l->g);
        kl_buf_puts(b, KL_STR(",\"columnDefinitions\":"));
        kl_buf_puts(b, kl_table_columns_json(res));
        kl_buf_puts(b, KL_STR(",\"rows\":["));
        return;
    }
    if (s->form == KL_FORM_OBJECT && res->custom)
        kl_buf_printf(b, "{\"apiVersion\":\"%s\",\"kind\":\"%s\",", res->api_version,
                      res->custom->list_kind);
    else if (s->form == KL_FORM_OBJECT)
        kl_buf_printf(b, "{\"kind\":\"%sList\",\"apiVersion\":\"%s\",", res->kind,
                      res->api_version);
    else
        kl_buf_printf(b, "{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"%.*s\",",
                      KL_PRI(kl_spec_meta_version(s)));
    put_list_meta(b, l->g);
    kl_buf_puts(b, KL_STR(",\"items\":["));
}

static size_t varint_size(uint64_t v)
{
    size_t n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

static void put_pb_list_meta(struct kl_buf *b, const struct kl_gather *g)
{
    struct kl_arena *a = g->r->arena;
    struct kl_value m = kl_new_struct();
    kl_set(a, &m, KL_F_resourceVersion, kl_string(kl_arena_printf(a, "%lld", (long long)g->rev)));
    if (g->next.n)
        kl_set(a, &m, KL_F_continue, kl_string(g->next));
    if (g->next.n && g->remaining >= 0)
        kl_set(a, &m, KL_F_remainingItemCount, kl_int(g->remaining));
    const struct kl_type *t =
        kl_type_by_name(KL_STR("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"));
    kl_buf_putc(b, 0x0a);
    kl_pb_put_varint(b, kl_pb_size(t, &m));
    kl_pb_encode(b, t, &m);
}

// The message of an item in a form made for this answer. Appends it.
static int put_pb_item(struct kl_buf *out, const struct list *l, struct kl_kv *kv)
{
    struct kl_req *r = &l->call->req;
    struct kl_error err = {0};
    struct kl_object *o = kl_cache_object(kv, r->info.res, &err);
    return o && !kl_encode_item(out, r, &l->call->spec, o, &err) ? 0 : KL_EINTERNAL;
}

// How long an item is: a partial one is measured, others are made to know.
static size_t pb_item_size(const struct list *l, struct kl_kv *kv, struct kl_buf *scratch)
{
    const struct kl_resource *res = l->call->req.info.res;
    struct kl_error err;
    struct kl_bytes *shared = l->cached ? kl_kv_attached(kv, KL_CACHE_PROTOBUF) : NULL;
    if (shared)
        return shared->n;
    if (l->call->spec.form == KL_FORM_PARTIAL_LIST && kl_resource_storage(res) == res) {
        struct kl_object *o = kl_cache_object(kv, res, &err);
        return o ? kl_encode_partial_size(o) : 0;
    }
    kl_buf_clear(scratch);
    put_pb_item(scratch, l, kv);
    return scratch->n;
}

static void put_pb_head(struct kl_buf *head, struct kl_buf *tail, struct list *l)
{
    const struct kl_resource *res = l->call->req.info.res;
    bool partial = l->call->spec.form != KL_FORM_OBJECT;
    struct kl_buf meta, scratch;
    kl_buf_init(&meta, 64 * 1024);
    put_pb_list_meta(&meta, l->g);
    size_t raw = meta.n;
    kl_buf_init(&scratch, KL_MAX_ARENA_BYTES);
    for (size_t i = 0; i < l->g->n; i++) {
        size_t n = pb_item_size(l, l->g->kvs[i], &scratch);
        raw += 1 + varint_size(n) + n;
    }
    kl_buf_fini(&scratch);
    struct kl_str kind = partial ? KL_STR("PartialObjectMetadataList")
                                 : kl_arena_printf(l->g->r->arena, "%sList", res->kind);
    struct kl_str version =
        partial ? kl_spec_meta_version(&l->call->spec) : kl_str(res->api_version);
    kl_pb_begin_envelope(head, version, kind, raw);
    kl_buf_puts(head, kl_buf_str(&meta));
    kl_pb_end_envelope(tail);
    kl_buf_fini(&meta);
}

// ---- YAML and pretty text: the list without its items is rewritten as a whole and cut where they
// go

static bool is_rewritten(const struct list *l)
{
    return l->call->spec.media == KL_MEDIA_YAML || l->call->spec.pretty;
}

static void put_rewritten_item(struct kl_buf *out, const struct list *l, struct kl_str json)
{
    const struct kl_spec *s = &l->call->spec;
    struct kl_buf text;
    struct kl_str rest, line;
    kl_buf_init(&text, KL_MAX_ARENA_BYTES);
    if (s->media == KL_MEDIA_YAML) { // a list of one is indented as one of many
        struct kl_buf one;
        kl_buf_init(&one, KL_MAX_ARENA_BYTES);
        kl_buf_putc(&one, '[');
        kl_buf_puts(&one, json);
        kl_buf_putc(&one, ']');
        kl_encode_text(out, s, kl_buf_str(&one));
        out->err = out->err ? out->err : one.err;
        kl_buf_fini(&one);
        return;
    }
    kl_encode_text(&text, s, json);
    rest = kl_str_trim(kl_buf_str(&text));
    while (kl_str_split(&rest, '\n', &line)) {
        kl_buf_puts(out, KL_STR("\n    "));
        kl_buf_puts(out, line);
    }
    out->err = out->err ? out->err : text.err;
    kl_buf_fini(&text);
}

// Rewrites the list without items that stands in `head` and cuts it: the rest goes to `tail`.
static void rewrite_head(struct list *l, struct kl_buf *head, struct kl_buf *tail)
{
    const struct kl_spec *s = &l->call->spec;
    bool yaml = s->media == KL_MEDIA_YAML;
    const char *items = s->form == KL_FORM_TABLE ? "rows" : "items";
    struct kl_str empty =
        kl_arena_printf(l->call->req.arena, yaml ? "\n%s: []\n" : "\n  \"%s\": []", items);
    struct kl_buf text;
    kl_buf_init(&text, 4 << 20);
    kl_buf_puts(head, KL_STR("]}"));
    kl_encode_text(&text, s, kl_buf_str(head));
    head->n = 0;
    head->err = head->err ? head->err : text.err;
    const char *at = empty.p && text.n ? memmem(text.p, text.n, empty.p, empty.n) : NULL;
    if (!at || !l->g->n) {
        kl_buf_puts(head, kl_buf_str(&text));
    } else {
        size_t cut = (size_t)(at - text.p) + empty.n - (yaml ? strlen(" []\n") : strlen("]"));
        kl_buf_append(head, text.p, cut);
        kl_buf_puts(yaml ? head : tail, yaml ? KL_STR("\n") : KL_STR("\n  ]"));
        kl_buf_puts(tail, kl_str_from(kl_buf_str(&text), (size_t)(at - text.p) + empty.n));
    }
    kl_buf_fini(&text);
}

// ---- the stream

static struct kl_bytes *take(struct kl_buf *b)
{
    struct kl_bytes *out = kl_bytes_from_buf(b);
    kl_buf_fini(b);
    return out;
}

static void put_chunk(struct kl_http_chunk *c, struct kl_bytes *b, uint32_t off)
{
    c->bytes = b;
    c->off = off;
    c->n = b->n - off;
}

// Tag and length of a message, behind those of this pull's other messages.
static void put_pb_item_head(struct kl_http_chunk *c, struct kl_bytes *heads, uint32_t *at,
                             size_t message)
{
    struct kl_buf h = {.p = heads->p + *at, .cap = PB_HEAD, .max = PB_HEAD};
    kl_buf_putc(&h, 0x12);
    kl_pb_put_varint(&h, message);
    *c = (struct kl_http_chunk){.bytes = kl_bytes_ref(heads), .off = *at, .n = (uint32_t)h.n};
    *at += (uint32_t)h.n;
}

// Soon to be looked at: the version first, then what hangs on it, then the text itself.
static void prefetch(const struct list *l, int slot)
{
    const struct kl_gather *g = l->g;
    const char *text = NULL;
    if (l->at + 2 * AHEAD < g->n)
        __builtin_prefetch(g->kvs[l->at + 2 * AHEAD]->attach);
    if (l->at + AHEAD < g->n)
        text = atomic_load_explicit(&g->kvs[l->at + AHEAD]->attach[slot], memory_order_acquire);
    for (int line = 0; text && line < TEXT_LINES; line++) // the processor sees what comes next
        __builtin_prefetch(text + line * LINE);
}

// Items whose encodings are shared.
static int pull_cached(struct list *l, struct kl_http_chunk *chunks, int max)
{
    bool pb = l->call->spec.media == KL_MEDIA_PROTOBUF;
    struct kl_req *r = &l->call->req;
    const struct kl_resource *res = r->info.res;
    struct kl_bytes *heads = pb ? kl_bytes_alloc((size_t)(max / 2) * PB_HEAD) : NULL;
    struct kl_error err; // a KiB: not to be cleared each time
    err.code = 0, err.msg[0] = 0;
    uint32_t at = 0;
    int n = 0, rc = pb && !heads ? KL_ENOMEM : 0;
    int64_t until = r->audit ? kl_mono_ns() + KL_GATHER_SLICE_US * 1000 : 0;
    while (!rc && l->at < l->g->n && n + 2 <= max &&
           !(until && l->at % AHEAD == 0 && n && kl_mono_ns() >= until)) {
        struct kl_kv *kv = l->g->kvs[l->at];
        prefetch(l, pb ? KL_CACHE_PROTOBUF : KL_CACHE_JSON);
        struct kl_bytes *b = pb ? kl_kv_attached(kv, KL_CACHE_PROTOBUF)
                                : kl_cache_json(kv, res, &err); // there, but for odd custom ones
        if (!b) {
            rc = KL_ENOMEM;
            break;
        }
        if (pb)
            put_pb_item_head(&chunks[n++], heads, &at, b->n);
        put_chunk(&chunks[n++], kl_bytes_ref(b), !pb && !l->at ? 1 : 0);
        if (r->audit)
            kl_audit_list_item(r, kv, pb ? KL_STR("") : kl_str_from(kl_bytes_str(b), 1));
        l->at++;
    }
    kl_bytes_unref(heads);
    return rc ? kl_chunks_drop(chunks, n, rc) : n;
}

// Messages that are made for this answer, as the head said how long they are.
static int pull_made_pb(struct list *l, struct kl_http_chunk *chunks)
{
    struct kl_buf b, item;
    int rc = 0;
    int64_t until = kl_mono_ns() + KL_GATHER_SLICE_US * 1000;
    kl_buf_init(&b, KL_MAX_ARENA_BYTES);
    kl_buf_init(&item, KL_MAX_ARENA_BYTES);
    while (!rc && l->at < l->g->n && b.n < PIECE_BYTES && kl_mono_ns() < until) {
        kl_buf_clear(&item);
        struct kl_kv *kv = l->g->kvs[l->at++];
        rc = put_pb_item(&item, l, kv);
        kl_buf_putc(&b, 0x12);
        kl_pb_put_varint(&b, item.n);
        kl_buf_puts(&b, kl_buf_str(&item));
        if (!rc && l->call->req.audit)
            kl_audit_list_item(&l->call->req, kv, KL_STR(""));
    }
    kl_buf_fini(&item);
    struct kl_bytes *made = rc ? NULL : kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    if (!made)
        return rc ? rc : KL_ENOMEM;
    put_chunk(&chunks[0], made, 0);
    return 1;
}

// Items that are made for this answer: some tens of KiB of them in one piece.
static int pull_made(struct list *l, struct kl_http_chunk *chunks)
{
    struct kl_req *r = &l->call->req;
    struct kl_spec json = l->call->spec;
    struct kl_error err = {0};
    struct kl_buf b, item;
    bool rewritten = is_rewritten(l);
    int rc = 0;
    int64_t until = kl_mono_ns() + KL_GATHER_SLICE_US * 1000;
    kl_buf_init(&b, KL_MAX_ARENA_BYTES);
    kl_buf_init(&item, KL_MAX_ARENA_BYTES);
    if (rewritten)
        json.media = KL_MEDIA_JSON;
    while (l->at < l->g->n && b.n < PIECE_BYTES && kl_mono_ns() < until) {
        struct kl_kv *kv = l->g->kvs[l->at];
        struct kl_object *o = kl_cache_object(kv, r->info.res, &err);
        if (l->at++ && l->call->spec.media != KL_MEDIA_YAML)
            kl_buf_putc(&b, ',');
        kl_buf_clear(&item);
        if (!o || kl_encode_item(rewritten ? &item : &b, r, &json, o, &err)) {
            rc = KL_EINTERNAL;
            break;
        }
        if (rewritten)
            put_rewritten_item(&b, l, kl_buf_str(&item));
        if (r->audit)
            kl_audit_list_item(r, kv, KL_STR(""));
    }
    kl_buf_fini(&item);
    if (rc) {
        kl_buf_fini(&b);
        return rc;
    }
    struct kl_bytes *made = take(&b);
    if (!made)
        return KL_ENOMEM;
    put_chunk(&chunks[0], made, 0);
    return 1;
}

static int pull_list(void *arg, struct kl_http_chunk *chunks, int max, bool *ret_end)
{
    struct list *l = arg;
    if (!l->head_sent) {
        l->head_sent = true;
        put_chunk(&chunks[0], kl_bytes_ref(l->head), 0);
        return 1;
    }
    if (l->at < l->g->n)
        return l->cached                                  ? pull_cached(l, chunks, max)
               : l->call->spec.media == KL_MEDIA_PROTOBUF ? pull_made_pb(l, chunks)
                                                          : pull_made(l, chunks);
    *ret_end = true;
    if (!l->tail->n) // an empty list in one piece
        return 0;
    put_chunk(&chunks[0], kl_bytes_ref(l->tail), 0);
    return 1;
}

static void close_list(void *arg)
{
    struct list *l = arg;
    if (l->call->req.audit)
        kl_audit_list_end(&l->call->req, l->g);
    kl_gather_fini(l->g);
    kl_bytes_unref(l->head);
    kl_bytes_unref(l->tail);
    kl_api_call_release(l->call); // frees l
}

static const struct kl_http_source list_source = {.pull = pull_list, .close = close_list};

static void answer(struct list *l)
{
    struct kl_gather *g = l->g;
    struct kl_req *r = &l->call->req;
    const struct kl_spec *s = &l->call->spec;
    struct kl_buf head, tail;
    if (r->overdue) {
        kl_gather_fini(g);
        kl_api_call_release(l->call);
        return;
    }
    if (s->form == KL_FORM_PARTIAL) { // said only now, as upstream does: it transforms what it has
        kl_gather_fini(g);
        kl_fail_form(r, true);
        kl_req_fail(r);
        return;
    }
    l->span = kl_span_begin(r, "SerializeObject");
    if (l->span)
        kl_span_text(l->span, "mediaType", kl_str(kl_spec_content_type(s, false)));
    kl_buf_init(&head, 1 << 20);
    kl_buf_init(&tail, 4096);
    if (s->media == KL_MEDIA_PROTOBUF) {
        put_pb_head(&head, &tail, l);
    } else {
        put_json_head(&head, l);
        if (is_rewritten(l))
            rewrite_head(l, &head, &tail);
        else
            kl_buf_puts(&tail, KL_STR("]}\n"));
    }
    size_t total = head.n + tail.n + g->encoded_bytes - (g->n && s->media == KL_MEDIA_JSON);
    l->head = take(&head);
    l->tail = take(&tail);
    if (!l->head || !l->tail) {
        kl_bytes_unref(l->head);
        kl_bytes_unref(l->tail);
        kl_gather_fini(g);
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    char length[24];
    struct kl_http_header h[3 + KL_COMMON_HEADERS] = {
        KL_HTTP_HEADER("cache-control", "no-cache, private"),
        {KL_STR("content-type"), kl_str(kl_spec_content_type(s, false))}};
    size_t nh = 2 + kl_http_common_headers(r, h + 2);
    if (l->cached && s->media == KL_MEDIA_JSON)
        h[nh++] = (struct kl_http_header){
            KL_STR("content-length"),
            {length, (size_t)snprintf(length, sizeof length, "%zu", total)}};
    if (r->audit)
        kl_audit_list_begin(r, g);
    kl_api_metrics_answer(r, 200, (int64_t)total);
    if (kl_gzip_respond(l->call, 200, h, nh, &list_source, l))
        close_list(l);
}

static void on_gathered(struct kl_gather *g, int code)
{
    struct list *l = KL_CONTAINER_OF(g, struct list, own);
    kl_span_end(l->span);
    if (code) {
        kl_gather_fini(g);
        kl_req_fail(&l->call->req);
    } else {
        answer(l);
    }
}

static struct list *new_list(struct kl_api_call *c, struct kl_gather *g)
{
    struct list *l = KL_ARENA_NEW(c->req.arena, struct list);
    if (!l)
        return NULL;
    l->call = c;
    l->g = g ? g : &l->own;
    l->cached = kl_spec_is_cached(&c->req, &c->spec) && !c->spec.pretty;
    return l;
}

void kl_list_run(struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    struct list *l = new_list(c, NULL);
    if (!l || kl_list_options_check(r, false)) {
        if (!l)
            kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    l->own = (struct kl_gather){.r = r,
                                .done = on_gathered,
                                .want_json = l->cached && c->spec.media == KL_MEDIA_JSON,
                                .want_protobuf = l->cached && c->spec.media == KL_MEDIA_PROTOBUF};
    l->span = kl_span_begin(r, "cacher.GetList");
    if (l->span)
        kl_span_text(l->span, "audit-id", kl_audit_id(r));
    kl_gather_start(&l->own);
}

void kl_list_answer(struct kl_api_call *c, struct kl_gather *g)
{
    struct list *l = new_list(c, g);
    if (!l) {
        kl_gather_fini(g);
        kl_fail_oom(&c->req);
        kl_req_fail(&c->req);
        return;
    }
    l->cached = false; // what was gathered for another end has no encodings ready
    answer(l);
}
