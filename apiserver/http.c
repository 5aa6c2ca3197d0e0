// SPDX-License-Identifier: Apache-2.0
// HTTP in front of the pipeline: parse, authenticate, authorise, read the body, run, answer.
#include "apiserver/aggregate/aggregate.h"
#include "apiserver/audit/audit.h"
#include "apiserver/admission/admission.h"
#include "apiserver/auth/auth.h"
#include "apiserver/connect.h"
#include "apiserver/crd/crd.h"
#include "apiserver/deadline.h"
#include "apiserver/deprecated.h"
#include "apiserver/fairness/fairness.h"
#include "apiserver/gzip.h"
#include "apiserver/joining.h"
#include "apiserver/metrics.h"
#include "apiserver/served.h"
#include "apiserver/server_int.h"
#include "apiserver/trace/trace.h"
#include "base/log.h"
#include <stdio.h>

enum { MAX_HEADERS = KL_COMMON_HEADERS + 16 };

static void put_header(struct kl_http_header *h, size_t *n, const char *name, struct kl_str value)
{
    if (*n < MAX_HEADERS)
        h[(*n)++] = (struct kl_http_header){kl_str(name), value};
}

// The text of a Warning header (RFC 7234, 299) with quotes escaped.
static struct kl_str warning_text(struct kl_arena *a, struct kl_str w)
{
    char *p = kl_arena_alloc(a, 2 * w.n + 16);
    size_t n = 0;
    if (!p)
        return KL_STR("");
    memcpy(p, "299 - \"", 7);
    n = 7;
    for (size_t i = 0; i < w.n; i++) {
        if (w.p[i] == '"' || w.p[i] == '\\')
            p[n++] = '\\';
        p[n++] = (unsigned char)w.p[i] < 0x20 ? ' ' : w.p[i];
    }
    p[n++] = '"';
    return (struct kl_str){p, n};
}

static size_t count_runes(struct kl_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

static struct kl_str cut(struct kl_str s, size_t runes)
{
    size_t i = 0;
    for (; i < s.n; i++)
        if (((unsigned char)s.p[i] & 0xc0) != 0x80 && runes-- == 0)
            break;
    return (struct kl_str){s.p, i};
}

static bool has_control(struct kl_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c == 0x7f || (c == 0xc2 && i + 1 < s.n && (unsigned char)s.p[i + 1] < 0xa0))
            return true;
    }
    return false;
}

// As upstream's recorder: when all are too long, each is cut, and what then is too much is left
// out, and so is what has control characters.
static void put_warnings(const struct kl_req *r, struct kl_http_header *h, size_t *n)
{
    enum { ALL_RUNES = 4096, ITEM_RUNES = 256 };
    size_t shown = r->nwarnings < KL_WARNINGS_SHOWN ? r->nwarnings : KL_WARNINGS_SHOWN, fit = 0;
    for (size_t runes = 0; fit < shown; fit++)
        if ((runes += count_runes(r->warnings[fit])) > ALL_RUNES)
            break;
    for (size_t i = 0, written = 0; i < shown && (i <= fit || written < ALL_RUNES); i++) {
        struct kl_str w = fit < shown ? cut(r->warnings[i], ITEM_RUNES) : r->warnings[i];
        written += count_runes(w);
        if (has_control(w))
            continue;
        put_header(h, n, "warning", warning_text(r->arena, w));
    }
}

static size_t common_headers(struct kl_req *r, struct kl_http_header *h, const char *content_type)
{
    size_t n = 0;
    put_header(h, &n, "cache-control", KL_STR("no-cache, private"));
    put_header(h, &n, "content-type", kl_str(content_type));
    return n + kl_http_common_headers(r, h + n);
}

size_t kl_http_common_headers(const struct kl_req *r, struct kl_http_header *h)
{
    size_t n = 0;
    struct kl_str schema, level, id = kl_audit_id((struct kl_req *)r);
    if (id.n)
        put_header(h, &n, "audit-id", id);
    if (r->nwarnings)
        put_warnings(r, h, &n);
    if (!r->ticket)
        return n;
    kl_fair_uids(r, &schema, &level);
    if (level.n)
        put_header(h, &n, "x-kubernetes-pf-prioritylevel-uid", level);
    if (schema.n)
        put_header(h, &n, "x-kubernetes-pf-flowschema-uid", schema);
    return n;
}

void kl_api_call_release(struct kl_api_call *c)
{
    struct kl_http_req *hr = c->hr;
    struct kl_api_loop *al = c->req.al;
    if (c->req.audit)
        kl_audit_end(&c->req);
    if (c->req.trace)
        kl_trace_end(&c->req);
    kl_api_metrics_leave(&c->req);
    kl_deadline_leave(c);
    if (c->req.ticket || c->req.inflight)
        kl_fair_leave(&c->req);
    kl_req_fini(&c->req);
    kl_http_req_unref(hr); // frees c
    if (al)
        kl_api_loop_leave(al);
}

void kl_http_answer_text(struct kl_req *r, int status, const char *content_type, struct kl_str text)
{
    struct kl_api_call *c = kl_api_call_of(r);
    struct kl_http_header h[MAX_HEADERS];
    size_t n = status == 204 ? 0 : common_headers(r, h, content_type);
    if (status != 204 && kl_str_eqz(kl_str(content_type), "text/plain; charset=utf-8"))
        put_header(h, &n, "x-content-type-options", KL_STR("nosniff"));
    char retry[16];
    if (status == 429 && r->fail.retry_after_s) {
        int k = snprintf(retry, sizeof retry, "%d", r->fail.retry_after_s);
        put_header(h, &n, "retry-after", (struct kl_str){retry, (size_t)k});
    }
    kl_api_metrics_answer(r, status, (int64_t)text.n);
    kl_http_respond(c->hr, status, h, n, text);
    kl_api_call_release(c);
}

// What is stored cannot be read: the answer is why. NULL: that cannot be said either.
static struct kl_bytes *unreadable(struct kl_req *r, const struct kl_spec *s)
{
    struct kl_error err = {0};
    if (r->result != KL_RESULT_KV || kl_cache_object(r->kv, r->info.res, &err) || !err.code)
        return NULL;
    kl_fail_set(r, 500, "", "%s", err.msg);
    r->result = KL_RESULT_FAIL;
    r->http = 500;
    return kl_encode_result(r, s);
}

void kl_http_answer(struct kl_req *r)
{
    struct kl_api_call *c = kl_api_call_of(r);
    struct kl_http_header h[MAX_HEADERS];
    char retry[16];
    if (r->result == KL_RESULT_LIST) {
        r->result = KL_RESULT_NONE;
        kl_list_answer(c, r->list);
        return;
    }
    if (r->overdue) {
        kl_api_call_release(c);
        return;
    }
    if (r->audit)
        kl_audit_result(r);
    struct kl_span *span = kl_span_begin(r, "SerializeObject");
    struct kl_bytes *body = kl_encode_result(r, &c->spec);
    kl_span_end(span);
    if (!body && !(body = unreadable(r, &c->spec))) {
        kl_http_abort(c->hr);
        kl_api_call_release(c);
        return;
    }
    size_t n = common_headers(r, h, kl_spec_content_type(&c->spec, false));
    if (r->result == KL_RESULT_FAIL && r->fail.retry_after_s) {
        int k = snprintf(retry, sizeof retry, "%d", r->fail.retry_after_s);
        put_header(h, &n, "retry-after", (struct kl_str){retry, (size_t)k});
    }
    if (r->result == KL_RESULT_FAIL && r->http == 403 && !r->dispatched) // authorisation's
        put_header(h, &n, "x-content-type-options", KL_STR("nosniff"));
    kl_api_metrics_answer(r, r->http, (int64_t)body->n);
    struct kl_bytes *sent = kl_gzip_body(c->hr, body, h, &n, KL_COUNT(h));
    kl_http_respond_bytes(c->hr, r->http, h, n, sent);
    kl_bytes_unref(sent);
    kl_bytes_unref(body);
    kl_api_call_release(c);
}

static enum kl_patch_type patch_type_of(struct kl_str t)
{
    ptrdiff_t semi = kl_str_chr(t, ';');
    if (semi >= 0)
        t.n = (size_t)semi;
    t = kl_str_trim(t);
    if (kl_str_eqz(t, "application/json-patch+json"))
        return KL_PATCH_JSON;
    if (kl_str_eqz(t, "application/merge-patch+json"))
        return KL_PATCH_MERGE;
    if (kl_str_eqz(t, "application/strategic-merge-patch+json"))
        return KL_PATCH_STRATEGIC;
    if (kl_str_eqz(t, "application/apply-patch+yaml"))
        return KL_PATCH_APPLY;
    return KL_PATCH_NONE;
}

static int take_media(struct kl_req *r, struct kl_str content_type)
{
    if (r->info.op == KL_VERB_PATCH) {
        r->opts.patch_type = patch_type_of(content_type);
        r->body_media = KL_MEDIA_JSON;
        if (r->family &&
            (r->opts.patch_type == KL_PATCH_NONE || r->opts.patch_type == KL_PATCH_STRATEGIC)) {
            kl_fail_set(r, 415, "UnsupportedMediaType",
                        "the body of the request was in an unknown format - accepted media types "
                        "include: application/json-patch+json, application/merge-patch+json, "
                        "application/apply-patch+yaml");
            return KL_EMEDIATYPE;
        }
        if (r->opts.patch_type == KL_PATCH_NONE) {
            kl_fail_set(r, 415, "UnsupportedMediaType", "415: Unsupported Media Type")
                ->bare_details = true;
            return KL_EMEDIATYPE;
        }
        return 0;
    }
    r->body_media = kl_media_of_content_type(content_type);
    if (r->body_media == KL_MEDIA_NONE) {
        kl_fail_set(r, 415, "UnsupportedMediaType",
                    "the body of the request was in an unknown format - accepted media types "
                    "include: application/json, application/yaml, "
                    "application/vnd.kubernetes.protobuf");
        return KL_EMEDIATYPE;
    }
    return 0;
}

static void on_body(void *arg, struct kl_http_req *hr, int status, struct kl_str body)
{
    struct kl_api_call *c = arg;
    struct kl_req *r = &c->req;
    (void)hr;
    if (status == KL_ETOOLARGE) {
        kl_fail_set(r, 413, "RequestEntityTooLarge", "Request entity too large: limit is %zu",
                    KL_HTTP_MAX_BODY);
        kl_req_fail(r);
        return;
    }
    if (status) {
        kl_fail_bad(r, "unexpected EOF");
        kl_req_fail(r);
        return;
    }
    r->body = body;
    if (r->trace)
        kl_span_event_number(kl_span_current(r), "limitedReadBody succeeded", "len",
                             (int64_t)body.n);
    bool deletes = r->info.op == KL_VERB_DELETE || r->info.op == KL_VERB_DELETECOLLECTION;
    if ((body.n || !deletes) && take_media(r, kl_http_header(c->hr, KL_STR("content-type")))) {
        kl_req_fail(r);
        return;
    }
    kl_pipeline_dispatch(r);
}

// A path of a group that nobody serves falls through to Go's mux upstream, which answers text.
static bool is_known_group(struct kl_str group)
{
    for (uint16_t i = 0; i < kl_ngroups; i++)
        if (kl_str_eqz(group, kl_groups[i].name))
            return true;
    return false;
}

static void run_resource(void *arg)
{
    struct kl_api_call *c = arg;
    struct kl_req *r = &c->req;
    if (kl_crd_again(r)) {
        kl_req_fail(r);
        return;
    }
    if (r->trace)
        kl_trace_filter(r, "authorization");
    if (kl_pipeline_check(r)) {
        if (kl_ask_wait(&r->ask, run_resource, c))
            return;
        bool no_sub = r->info.res && r->info.sub.n && !r->info.subres && kl_req_in_scope(&r->info);
        struct kl_object *remote = r->fail.http == 404 && !r->info.res
                                       ? kl_aggregate_find(r->al, r->info.group, r->info.version)
                                       : NULL;
        if (remote)
            kl_aggregate_proxy(c, remote);
        else if (r->fail.http == 404 && !no_sub && !is_known_group(r->info.group))
            kl_http_answer_text(r, 404, "text/plain; charset=utf-8",
                                KL_STR("404 page not found\n"));
        else
            kl_req_fail(r);
        return;
    }
    struct kl_object *taker = kl_aggregate_takes(r->srv)
                                  ? kl_aggregate_find(r->al, r->info.group, r->info.version)
                                  : NULL;
    if (taker) {
        kl_aggregate_proxy(c, taker);
        return;
    }
    // Built-in kinds have no such route; what is passed on and custom kinds take it for a GET.
    struct kl_str method = kl_http_method(c->hr);
    bool no_route = kl_str_eqz(method, "HEAD") ||
                    (r->info.op == KL_VERB_WATCH && !kl_str_eqz(method, "GET")); // .../watch/...
    if (!r->family && !kl_is_connect(&r->info) && no_route) {
        kl_fail_method(r);
        kl_req_fail(r);
        return;
    }
    // A stream has options of its own, and a proxied request's query is not for this server.
    if (c->bad_opts && (!kl_is_connect(&r->info) || kl_str_eqz(r->info.sub, "log"))) {
        r->fail = c->opts_fail;
        kl_req_fail(r);
        return;
    }
    if (r->opts.pretty)
        c->spec.pretty = true;
    c->spec.include = r->opts.include;
    if (r->trace)
        kl_trace_handler(r);
    kl_deprecated_note(r);
    if (kl_is_connect(&r->info)) {
        if (kl_connect_may(r))
            kl_admit_connect(c);
        else if (!kl_ask_wait(&r->ask, run_resource, c))
            kl_req_fail(r);
        return;
    }
    switch (r->info.op) {
    case KL_VERB_LIST:
        if (r->info.res->etcd_prefix)
            kl_list_run(c);
        else
            kl_pipeline_dispatch(r);
        return;
    case KL_VERB_WATCH:
        kl_watch_run(c);
        return;
    case KL_VERB_GET:
        kl_pipeline_dispatch(r);
        return;
    default:
        kl_http_read_body(c->hr, KL_HTTP_MAX_BODY, on_body, c);
        return;
    }
}

static void begin_resource(struct kl_api_call *c)
{
    run_resource(c);
}

static int negotiate(struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    enum kl_spec_of of =
        !r->info.is_resource ? KL_SPEC_OF_TEXT
        : r->family && !(r->info.subres && r->info.subres->type != r->info.res->type)
            ? KL_SPEC_OF_CUSTOM
            : KL_SPEC_OF_OBJECTS;
    int rc = kl_spec_parse(kl_http_header(c->hr, KL_STR("accept")), of, &c->spec);
    if (!rc)
        return 0;
    // Text and streams answer whatever is asked for, and so may who it is passed on to.
    if (!r->info.is_resource || !r->info.res || kl_is_connect(&r->info))
        return 0;
    if (rc == KL_EUNSUPPORTED || r->family) {
        kl_fail_set(r, 406, "NotAcceptable",
                    "only the following media types are accepted: application/json, "
                    "application/yaml, application/vnd.kubernetes.protobuf");
        return rc;
    }
    bool streams = r->info.op == KL_VERB_LIST || r->info.op == KL_VERB_WATCH;
    kl_fail_set(r, 406, "NotAcceptable",
                "406: Not Acceptable\n\nAvailable representations: application/json, "
                "application/yaml, application/vnd.kubernetes.protobuf%s",
                streams ? ", application/json;stream=watch, "
                          "application/vnd.kubernetes.protobuf;stream=watch"
                        : "")
        ->bare_details = true;
    return KL_ENOTACCEPTABLE;
}

// upstream pretty-prints for people who come with curl or a browser.
static bool wants_pretty(struct kl_str agent)
{
    return kl_str_starts(agent, KL_STR("curl")) || kl_str_starts(agent, KL_STR("Wget")) ||
           kl_str_starts(agent, KL_STR("Mozilla/5.0"));
}

static void authorize_path(void *arg)
{
    struct kl_api_call *c = arg;
    if (c->req.trace)
        kl_trace_filter(&c->req, "authorization");
    if (kl_authorize_req(&c->req))
        kl_nonresource_run(c);
    else if (!kl_ask_wait(&c->req.ask, authorize_path, c))
        kl_req_fail(&c->req);
}

static void begin_path(struct kl_api_call *c)
{
    authorize_path(c);
}

// Its turn among others first, by what it is and for whom.
static void enter(struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    if (r->trace)
        kl_trace_filter(r, "priorityandfairness");
    if (r->info.is_resource) {
        // The selectors are among what authorisation looks at; still who may not, is told that
        // first.
        c->bad_opts = kl_req_opts_parse(r, kl_http_query(c->hr));
        c->opts_fail = r->fail;
        if (kl_fair_enter(c, begin_resource))
            run_resource(c);
    } else if (kl_fair_enter(c, begin_path)) {
        authorize_path(c);
    }
}

static void impersonate(void *arg)
{
    struct kl_api_call *c = arg;
    struct kl_req *r = &c->req;
    if (r->trace)
        kl_trace_filter(r, "constrainedimpersonation");
    if (kl_impersonate(r, c->hr)) {
        if (!kl_ask_wait(&r->ask, impersonate, c))
            kl_req_fail(r);
        return;
    }
    if (r->audit)
        kl_audit_impersonated(r);
    if (wants_pretty(r->user_agent) && !kl_query_has(kl_http_query(c->hr), KL_STR("pretty")))
        c->spec.pretty = true;
    enter(c);
}

// Of somebody who is nobody now, perhaps for one space too many.
static void warn_of_header(struct kl_api_call *c)
{
    if (kl_bearer_is_spaced(c->hr))
        kl_req_warn(&c->req, KL_STR("the provided Authorization header contains extra space before "
                                    "the bearer token, and is ignored"));
}

static void authenticate(void *arg)
{
    struct kl_api_call *c = arg;
    struct kl_req *r = &c->req;
    if (kl_authenticate(r->al, c->hr, &r->ask, &r->user)) {
        if (kl_ask_wait(&r->ask, authenticate, c))
            return;
        warn_of_header(c);
        if (r->srv->audit)
            kl_audit_begin(r, c->hr);
        kl_fail_set(r, 401, "Unauthorized", "Unauthorized");
        if (kl_http_version(c->hr) == 20) // as upstream: strangers keep no HTTP/2 connection
            kl_http_close_after(c->hr);
        kl_req_fail(r);
        return;
    }
    if (r->user->anonymous) {
        if (kl_http_version(c->hr) == 20)
            kl_http_close_after(c->hr);
        warn_of_header(c);
    }
    if (r->srv->tracer)
        kl_trace_begin(r, c->hr);
    if (r->trace)
        kl_trace_filter(r, "audit");
    if (r->srv->audit && !kl_audit_begin(r, c->hr)) {
        kl_fail_internal(r, "failed to store audit event");
        kl_req_fail(r);
        return;
    }
    if ((r->info.is_resource && !r->info.res && kl_crd_resolve(r)) || negotiate(c))
        kl_req_fail(r);
    else
        impersonate(c);
}

void kl_http_handle(void *arg, struct kl_http_req *hr)
{
    struct kl_apiserver *s = arg;
    struct kl_arena *a = kl_http_req_arena(hr);
    struct kl_api_call *c = KL_ARENA_NEW(a, struct kl_api_call);
    if (!c) {
        kl_http_abort(hr);
        return;
    }
    struct kl_req *r = &c->req;
    c->hr = kl_http_req_ref(hr);
    r->srv = s;
    r->al = kl_api_loop_of(s, kl_http_loop(hr));
    r->arena = a;
    r->done = kl_http_answer;
    r->user_agent = kl_http_header(hr, KL_STR("user-agent"));
    r->user_audit_id = kl_http_header(hr, KL_STR("audit-id"));
    r->opts.field_validation = KL_VALIDATE_WARN;
    c->spec.media = KL_MEDIA_JSON;
    if (r->al)
        kl_api_loop_enter(r->al);
    if (!r->al || !r->al->reader) { // the loop has just begun, or ends
        kl_fail_set(r, 503, "ServiceUnavailable", "the server is starting or stopping");
        r->fail.retry_after_s = 1;
        kl_req_fail(r);
        return;
    }
    if (kl_is_joining(kl_http_path(hr))) { // servers have no user: the token is looked at there
        kl_joining_run(c);
        return;
    }
    if (!kl_percent_ok(kl_http_path(hr))) { // Go's HTTP server hands on no such thing
        kl_http_close_after(hr);
        kl_http_answer_text(r, 400, "text/plain; charset=utf-8", KL_STR("400 Bad Request"));
        return;
    }
    kl_req_info_parse(a, kl_http_method(hr), kl_http_path(hr), kl_http_query(hr), &r->info);
    if (s->served)
        kl_served_fix(r);
    kl_api_metrics_enter(r);
    if (kl_deadline_enter(c)) {
        if (s->audit)
            kl_audit_begin(r, hr);
        kl_req_fail(r);
    } else {
        authenticate(c);
    }
}
