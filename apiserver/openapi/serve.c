// SPDX-License-Identifier: Apache-2.0
// /openapi/v2, /openapi/v3 and below over HTTP, as kube-openapi's handlers answer: what the client
// takes, the hash of the document as ETag, redirects from an old hash to the new.
#include "apiserver/aggregate/aggregate.h"
#include "apiserver/discovery.h"
#include "apiserver/gzip.h"
#include "apiserver/metrics.h"
#include "apiserver/openapi/openapi_int.h"
#include "apiserver/served.h"
#include <openssl/sha.h>
#include <stdio.h>
#include <time.h>

#define HASH_CHARS (2 * SHA512_DIGEST_LENGTH)
#define INDEX_MAX (4 << 20)

void kl_openapi_set_source(struct kl_apiserver *s, const struct kl_openapi_source *src)
{
    s->openapi = src;
}

// A document is a function of the tables, of this code, of what is served, of what the source says
// and of what is merged into it: so is its hash.
static void make_hash(struct kl_req *r, enum kl_oa_what what, struct kl_str group,
                      struct kl_str version, uint64_t merged, char ret[HASH_CHARS + 1])
{
    unsigned char sum[SHA512_DIGEST_LENGTH];
    const struct kl_openapi_source *src = r->srv->openapi;
    struct kl_str none = {NULL, 0};
    uint64_t stamp = 0;
    if (src && (what == KL_OA_V2 || what == KL_OA_V3))
        stamp = what == KL_OA_V2 ? src->stamp(src->arg, r->al, none, none)
                                 : src->stamp(src->arg, r->al, group, version);
    struct kl_buf b;
    kl_buf_init(&b, 4096);
    kl_buf_printf(&b, "%s %s %d %.*s %.*s %llu %llu %llu", KL_K8S_VERSION,
                  r->srv->o.version ? r->srv->o.version : "", (int)what, KL_PRI(group),
                  KL_PRI(version), (unsigned long long)stamp, (unsigned long long)merged,
                  (unsigned long long)kl_served_stamp(r->srv));
    SHA512((const unsigned char *)b.p, b.n, sum);
    kl_buf_fini(&b);
    for (size_t i = 0; i < sizeof sum; i++)
        snprintf(ret + 2 * i, 3, "%02X", sum[i]);
}

// ---- the index

struct index {
    struct kl_req *r;
    struct kl_buf b;
    struct kl_str group, version; // last custom one
};

static void put_entry(struct index *x, const struct kl_oa_ask *ask, struct kl_str path)
{
    char hash[HASH_CHARS + 1];
    make_hash(x->r, ask->what, ask->group, ask->version, 0, hash);
    kl_buf_printf(&x->b, "%s\"%.*s\":{\"serverRelativeURL\":\"/openapi/v3/%.*s?hash=%s\"}",
                  x->b.n > 10 ? "," : "", KL_PRI(path), KL_PRI(path), hash);
}

static void put_version_entry(struct index *x, struct kl_str group, struct kl_str version)
{
    if (kl_aggregate_takes(x->r->srv) && kl_aggregate_find(x->r->al, group, version))
        return; // put_remote's
    struct kl_oa_ask ask = {.what = KL_OA_V3, .group = group, .version = version};
    put_entry(x, &ask,
              kl_arena_printf(x->r->arena, "%s%.*s/%.*s", group.n ? "apis/" : "api", KL_PRI(group),
                              KL_PRI(version)));
}

// Rows come grouped: one entry for each run of the same group and version.
static void take_row(void *arg, const struct kl_openapi_custom *c)
{
    struct index *x = arg;
    struct kl_str group = kl_str(c->res->group), version = kl_str(c->res->version);
    if (kl_serves_version(x->r->srv, group, version) ||
        (x->group.p && kl_str_eq(group, x->group) && kl_str_eq(version, x->version)))
        return;
    x->group = kl_arena_dup(x->r->arena, group);
    x->version = kl_arena_dup(x->r->arena, version);
    put_version_entry(x, group, version);
}

static struct kl_str other_name(size_t i)
{
    struct kl_oa_path p;
    if (!kl_oa_other_path(i, &p))
        return (struct kl_str){NULL, 0};
    return (struct kl_str){p.path.p + 1, p.path.n - 2}; // without the slashes around it
}

// Documents of aggregated servers, under their own hashes.
static void put_remote(struct index *x)
{
    struct kl_aggregate_group *list;
    size_t n = kl_aggregate_groups(x->r, &list);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < list[i].nversions; k++) {
            const struct kl_aggregate_version *v = &list[i].versions[k];
            struct kl_str path = kl_arena_printf(
                x->r->arena, "%s%s/%s", *list[i].name ? "apis/" : "api", list[i].name, v->version);
            if (v->openapi)
                kl_buf_printf(
                    &x->b, ",\"%.*s\":{\"serverRelativeURL\":\"/openapi/v3/%.*s?hash=%.*s\"}",
                    KL_PRI(path), KL_PRI(path), (int)v->openapi->n, (const char *)v->openapi->p);
        }
    kl_aggregate_groups_done(list, n);
}

static void put_index(struct index *x)
{
    struct kl_oa_ask ask = {.what = KL_OA_ROOT, .group = KL_STR("")};
    kl_buf_puts(&x->b, KL_STR("{\"paths\":{"));
    put_entry(x, &ask, KL_STR("api"));
    ask.group = (struct kl_str){NULL, 0};
    put_entry(x, &ask, KL_STR("apis"));
    for (size_t i = 0; other_name(i).p; i++) {
        ask = (struct kl_oa_ask){.what = KL_OA_OTHERS, .group = other_name(i), .other = i};
        put_entry(x, &ask, ask.group);
    }
    for (uint16_t i = 0; i < kl_ngroups; i++) {
        const struct kl_group *g = &kl_groups[i];
        const char *v = kl_oa_version(x->r->srv, g, 0);
        if (!v)
            continue;
        ask = (struct kl_oa_ask){.what = KL_OA_GROUP, .group = kl_str(g->name)};
        if (*g->name)
            put_entry(x, &ask, kl_arena_printf(x->r->arena, "apis/%s", g->name));
        for (size_t k = 0; v; v = kl_oa_version(x->r->srv, g, ++k))
            put_version_entry(x, kl_str(g->name), kl_str(v));
    }
    const struct kl_openapi_source *src = x->r->srv->openapi;
    struct kl_str none = {NULL, 0};
    if (src)
        src->each(src->arg, x->r->al, none, none, take_row, x);
    put_remote(x);
    kl_buf_puts(&x->b, KL_STR("}}"));
}

static struct kl_str quoted(struct kl_arena *a, const char *hash)
{
    return kl_arena_printf(a, "\"%s\"", hash);
}

// Whether If-None-Match names the tag (or any).
static bool is_known(struct kl_api_call *c, struct kl_str tag)
{
    struct kl_str list = kl_http_header(c->hr, KL_STR("if-none-match")), part;
    while (list.p && kl_str_split(&list, ',', &part)) {
        part = kl_str_trim(part);
        if (kl_str_starts(part, KL_STR("W/")))
            part = kl_str_from(part, 2);
        if (kl_str_eq(part, tag) || kl_str_eqz(part, "*"))
            return true;
    }
    return false;
}

static void answer_index(struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    struct index x = {.r = r};
    unsigned char sum[SHA512_DIGEST_LENGTH];
    char hash[HASH_CHARS + 1];
    kl_buf_init(&x.b, INDEX_MAX);
    put_index(&x);
    SHA512((const unsigned char *)x.b.p, x.b.n, sum);
    for (size_t i = 0; i < sizeof sum; i++)
        snprintf(hash + 2 * i, 3, "%02X", sum[i]);
    struct kl_http_header h[] = {KL_HTTP_HEADER("content-type", "application/json"),
                                 {KL_STR("etag"), quoted(r->arena, hash)}};
    bool known = is_known(c, h[1].value);
    kl_api_metrics_request(r, known ? 304 : 200);
    kl_http_respond(c->hr, known ? 304 : 200, h, KL_COUNT(h),
                    known ? KL_STR("") : kl_buf_str(&x.b));
    kl_buf_fini(&x.b);
    kl_api_call_release(c);
}

// ---- a document

struct stream {
    struct kl_api_call *call;
    struct kl_oa_doc *doc; // one of the two
    struct kl_oa_upgraded *upgraded;
    struct kl_task again; // goes on in the next iteration
    bool yields, closed;  // the task is posted; nobody takes more, the task is the last of it
    bool yielded;         // and the next piece is written, whatever else there is to do
};

static void stream_fini(struct stream *s)
{
    kl_oa_doc_free(s->doc);
    kl_oa_upgraded_free(s->upgraded);
}

static void go_on(struct kl_task *t)
{
    struct stream *s = KL_CONTAINER_OF(t, struct stream, again);
    s->yields = false;
    if (s->closed)
        kl_api_call_release(s->call); // frees s
    else
        kl_http_resume(s->call->hr);
}

// Many who ask at once share the iterations with the others, a piece each at least.
static bool yields(struct stream *s)
{
    struct kl_loop *l = s->call->req.al->loop;
    // Before the answer begins it is being found out whether it is long enough to be compressed.
    s->yielded = !s->yielded && kl_http_is_answered(s->call->hr) && kl_loop_is_late(l);
    if (!s->yielded)
        return false;
    s->yields = true;
    s->again.run = go_on;
    kl_loop_post(l, &s->again);
    return true;
}

static int pull_doc(void *arg, struct kl_http_chunk *chunks, int max, bool *ret_end)
{
    struct stream *s = arg;
    struct kl_buf b;
    (void)max;
    if (s->yields || yields(s))
        return 0;
    kl_buf_init(&b, KL_MAX_ARENA_BYTES);
    int rc = s->doc ? kl_oa_doc_next(s->doc, &b) : kl_oa_upgraded_next(s->upgraded, &b);
    struct kl_bytes *out = rc < 0 ? NULL : kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    if (!out)
        return rc < 0 ? rc : KL_ENOMEM;
    *ret_end = rc == 0;
    chunks[0] = (struct kl_http_chunk){.bytes = out, .n = (uint32_t)out->n};
    return 1;
}

static void close_doc(void *arg)
{
    struct stream *s = arg;
    stream_fini(s);
    s->closed = true;
    if (!s->yields)
        kl_api_call_release(s->call); // frees s
}

static const struct kl_http_source doc_source = {.pull = pull_doc, .close = close_doc};

// The first of the media types that can be given; false: none of them.
static bool take_media(struct kl_api_call *c, bool v2, bool *ret_protobuf)
{
    struct kl_str accept = kl_http_header(c->hr, KL_STR("accept")), part, type;
    *ret_protobuf = false;
    if (!accept.n)
        return true;
    while (kl_str_split(&accept, ',', &part)) {
        kl_str_split(&part, ';', &type);
        type = kl_str_trim(type);
        if (kl_str_eqz(type, "*/*") || kl_str_eqz(type, "application/*") ||
            kl_str_eqz(type, "application/json"))
            return true;
        *ret_protobuf =
            kl_str_eqz(type, v2 ? "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
                                : "application/com.github.proto-openapi.spec.v3@v1.0+protobuf") ||
            kl_str_eqz(type, v2 ? "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
                                : "application/com.github.proto-openapi.spec.v3.v1.0+protobuf");
        if (*ret_protobuf)
            return true;
    }
    return false;
}

static struct kl_str a_year_from_now(struct kl_arena *a)
{
    char text[64];
    time_t t = time(NULL) + 366 * 24 * 3600;
    struct tm tm;
    gmtime_r(&t, &tm);
    size_t n = strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    return kl_arena_dup(a, (struct kl_str){text, n});
}

static void answer_empty(struct kl_api_call *c, int status, const struct kl_http_header *h,
                         size_t n)
{
    kl_api_metrics_request(&c->req, status);
    kl_http_respond(c->hr, status, h, n, KL_STR(""));
    kl_api_call_release(c);
}

static void no_such(struct kl_api_call *c)
{
    answer_empty(c, 404, NULL, 0);
}

// An opened document under its hash.
static void answer_stream(struct kl_api_call *c, struct stream *s, const struct kl_oa_ask *ask,
                          struct kl_str path, const char *hash)
{
    struct kl_req *r = &c->req;
    bool v2 = ask->what == KL_OA_V2;
    struct kl_http_header h[6] = {KL_HTTP_HEADER("vary", "Accept")};
    size_t n = 1;
    h[n++] = (struct kl_http_header){
        KL_STR("content-type"),
        !ask->protobuf ? KL_STR("application/json")
        : v2           ? KL_STR("application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
                       : KL_STR("application/com.github.proto-openapi.spec.v3.v1.0+protobuf")};
    h[n++] = (struct kl_http_header){KL_STR("etag"), quoted(r->arena, hash)};
    struct kl_str asked = kl_query_get(r->arena, kl_http_query(c->hr), KL_STR("hash"));
    if (!v2 && asked.n && !kl_str_eqz(asked, hash)) {
        stream_fini(s);
        h[n++] = (struct kl_http_header){
            KL_STR("location"),
            kl_arena_printf(r->arena, "/openapi/v3/%.*s?hash=%s", KL_PRI(path), hash)};
        answer_empty(c, 301, h, n);
        return;
    }
    if (!v2 && asked.n) {
        h[n++] = (struct kl_http_header)KL_HTTP_HEADER("cache-control", "public, immutable");
        h[n++] = (struct kl_http_header){KL_STR("expires"), a_year_from_now(r->arena)};
    }
    if (is_known(c, quoted(r->arena, hash))) {
        stream_fini(s);
        answer_empty(c, 304, h, n);
        return;
    }
    kl_api_metrics_request(r, 200);
    if (kl_gzip_respond(c, 200, h, n, &doc_source, s))
        close_doc(s);
}

static bool cannot_give(struct kl_api_call *c, struct kl_oa_ask *ask)
{
    const struct kl_http_header h = KL_HTTP_HEADER("vary", "Accept");
    if (take_media(c, ask->what == KL_OA_V2, &ask->protobuf))
        return false;
    answer_empty(c, 406, &h, 1);
    return true;
}

static void answer_oom(struct kl_api_call *c)
{
    kl_fail_oom(&c->req);
    kl_req_fail(&c->req);
}

static void answer_doc(struct kl_api_call *c, struct kl_oa_ask *ask, struct kl_str path)
{
    struct kl_req *r = &c->req;
    char hash[HASH_CHARS + 1];
    if (cannot_give(c, ask))
        return;
    struct stream *s = KL_ARENA_NEW(r->arena, struct stream);
    struct kl_oa_doc *doc = kl_oa_doc_new(c, ask);
    if (!doc || !s || kl_oa_doc_is_empty(doc)) {
        bool oom = !doc || !s;
        kl_oa_doc_free(doc);
        if (oom)
            answer_oom(c);
        else
            no_such(c);
        return;
    }
    make_hash(r, ask->what, ask->group, ask->version, kl_oa_doc_stamp(doc), hash);
    *s = (struct stream){.call = c, .doc = doc};
    answer_stream(c, s, ask, path, hash);
}

// Takes the reference.
static void answer_upgraded(struct kl_api_call *c, struct kl_oa_ask *ask, struct kl_str path,
                            struct kl_upgraded *u)
{
    char hash[HASH_CHARS + 1];
    if (cannot_give(c, ask)) {
        kl_upgraded_unref(u);
        return;
    }
    snprintf(hash, sizeof hash, "%.*s", (int)u->hash->n, (const char *)u->hash->p);
    struct stream *s = KL_ARENA_NEW(c->req.arena, struct stream);
    struct kl_oa_upgraded *upgraded = kl_oa_upgraded_new(u, ask->protobuf);
    if (!s || !upgraded) {
        kl_oa_upgraded_free(upgraded);
        answer_oom(c);
        return;
    }
    *s = (struct stream){.call = c, .upgraded = upgraded};
    answer_stream(c, s, ask, path, hash);
}

// What a path below /openapi/v3/ names; false: nothing.
static bool parse_path(struct kl_str path, struct kl_oa_ask *ask)
{
    struct kl_str rest = path, root, group, version;
    for (size_t i = 0; other_name(i).p; i++)
        if (kl_str_eq(path, other_name(i))) {
            *ask = (struct kl_oa_ask){.what = KL_OA_OTHERS, .group = other_name(i), .other = i};
            return true;
        }
    if (!kl_str_split(&rest, '/', &root))
        return false;
    bool core = kl_str_eqz(root, "api");
    if (!core && !kl_str_eqz(root, "apis"))
        return false;
    *ask = (struct kl_oa_ask){.what = KL_OA_ROOT, .group = core ? KL_STR("") : (struct kl_str){0}};
    if (!rest.n)
        return true;
    if (!core) {
        kl_str_split(&rest, '/', &group);
        *ask = (struct kl_oa_ask){.what = KL_OA_GROUP, .group = group};
        if (!rest.n)
            return group.n > 0;
    }
    if (!kl_str_split(&rest, '/', &version) || rest.n || !version.n)
        return false;
    ask->what = KL_OA_V3;
    ask->version = version;
    return true;
}

void kl_openapi_run(struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    struct kl_str path = r->info.path;
    struct kl_oa_ask ask = {.what = KL_OA_V2, .group = KL_STR("")};
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    if (kl_str_eqz(path, "/openapi/v3")) {
        answer_index(c);
    } else if (kl_str_eqz(path, "/openapi/v2")) {
        answer_doc(c, &ask, KL_STR(""));
    } else if (kl_str_starts(path, KL_STR("/openapi/v3/")) &&
               parse_path(kl_str_from(path, strlen("/openapi/v3/")), &ask)) {
        struct kl_object *remote =
            ask.what == KL_OA_V3 ? kl_aggregate_find(r->al, ask.group, ask.version) : NULL;
        struct kl_upgraded *upgraded =
            remote ? kl_aggregate_upgraded(r->srv, ask.group, ask.version) : NULL;
        path = kl_str_from(path, strlen("/openapi/v3/"));
        if (upgraded)
            answer_upgraded(c, &ask, path, upgraded);
        else if (remote)
            kl_aggregate_proxy(c, remote);
        else
            answer_doc(c, &ask, path);
    } else {
        no_such(c);
    }
}
