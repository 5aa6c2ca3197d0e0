// SPDX-License-Identifier: Apache-2.0
// One request passed on (apimachinery proxy.UpgradeAwareHandler over net/http/httputil's
// ReverseProxy): headers both ways but those of the hop, bodies as streams, links and Location
// headers of answers changed so that they lead here again.
#include "apiserver/proxy/proxy_int.h"
#include "apiserver/metrics.h"
#include "apiserver/proxy/rewrite.h"
#include "apiserver/relay.h"

enum { MAX_FORWARDED = 256, HEADERS_OF_OURS = 8 };

struct proxy {
    struct kl_relay relay;
    struct kl_proxy_target to;
    struct kl_link_rule rule;
    bool upgrade, gone;
    int status;               // of the answer
    const char *why;          // the answer cannot be given: what is said instead, as a 500
    bool internal;            // in the words of an InternalError
    struct kl_rewrite *pages; // in the arena; NULL: the body goes on as it is
    struct kl_http_header up_headers[MAX_FORWARDED];
    size_t nup;
};

static void fini_proxy(struct kl_relay *x)
{
    struct proxy *p = KL_CONTAINER_OF(x, struct proxy, relay);
    p->gone = true;
    if (p->pages)
        kl_rewrite_fini(p->pages);
    p->pages = NULL;
}

bool kl_is_proxy(const struct kl_req_info *i)
{
    return i->subres && kl_str_eqz(i->sub, "proxy");
}

struct kl_str kl_proxy_path(struct kl_req *r)
{
    struct kl_str rest = r->info.rest;
    while (kl_str_ends(rest, KL_STR("/")))
        rest.n--;
    return kl_arena_printf(r->arena, "%s%.*s%s",
                           rest.n && !kl_str_starts(rest, KL_STR("/")) ? "/" : "", KL_PRI(rest),
                           kl_str_ends(r->info.path, KL_STR("/")) ? "/" : "");
}

// ---- failing

static void refuse(struct proxy *p, int status, const struct kl_error *err)
{
    struct kl_req *r = &p->relay.call->req;
    struct kl_str text = kl_relay_error(r->arena, status, err);
    if (p->why && p->internal)
        kl_fail_internal(r, "%s", p->why);
    else if (p->why)
        kl_fail_set(r, 500, "", "%s", p->why);
    else if (p->upgrade)
        kl_relay_fail_upgrade(r, status, err);
    else
        kl_fail_set(r, 503, "ServiceUnavailable", "error trying to reach service: %.*s",
                    KL_PRI(text));
    kl_relay_drop(&p->relay);
    kl_req_fail(r);
}

static void fail_memory(struct kl_req *r)
{
    kl_fail_oom(r);
    kl_req_fail(r);
}

// ---- headers

// Of one hop, or named by its Connection header.
static bool is_of_hop(const struct kl_http_header *h, size_t nh, struct kl_str name)
{
    static const char *const names[] = {"connection",
                                        "keep-alive",
                                        "proxy-authenticate",
                                        "proxy-authorization",
                                        "proxy-connection",
                                        "te",
                                        "trailer",
                                        "transfer-encoding",
                                        "upgrade"};
    for (size_t i = 0; i < KL_COUNT(names); i++)
        if (kl_str_eqz(name, names[i]))
            return true;
    for (size_t i = 0; i < nh; i++) {
        struct kl_str list = h[i].value, one;
        if (!kl_str_eqz(h[i].name, "connection"))
            continue;
        while (kl_str_split(&list, ',', &one))
            if (kl_str_ieq(kl_str_trim(one), name))
                return true;
    }
    return false;
}

// What the client said to this server alone, and what is said anew.
static bool is_ours(struct kl_str name)
{
    static const char *const names[] = {"authorization",     "host",   "content-length",
                                        "transfer-encoding", "expect", "trailer",
                                        "x-forwarded-for"};
    for (size_t i = 0; i < KL_COUNT(names); i++)
        if (kl_str_eqz(name, names[i]))
            return true;
    return kl_str_starts(name, KL_STR(":")) || kl_str_starts(name, KL_STR("impersonate-")) ||
           kl_str_starts(name, KL_STR("x-remote-"));
}

static bool is_cors(struct kl_str name)
{
    static const char *const names[] = {
        "access-control-allow-credentials", "access-control-allow-headers",
        "access-control-allow-methods", "access-control-allow-origin"};
    for (size_t i = 0; i < KL_COUNT(names); i++)
        if (kl_str_eqz(name, names[i]))
            return true;
    return false;
}

// All headers of the name in one, and `more` behind them. p is NULL: there is none.
static struct kl_str joined(struct kl_arena *a, const struct kl_http_header *h, size_t nh,
                            const char *name, const char *by, struct kl_str more)
{
    struct kl_str all = {0};
    for (size_t i = 0; i <= nh; i++) {
        struct kl_str v = i < nh ? h[i].value : more;
        if (i < nh ? !kl_str_eqz(h[i].name, name) : !more.n)
            continue;
        all = all.p ? kl_arena_printf(a, "%.*s%s%.*s", KL_PRI(all), by, KL_PRI(v)) : v;
        if (!all.p)
            return all;
    }
    return all;
}

// X-Forwarded-Uri is where the client would find what it asked for.
static struct kl_str forwarded_uri(struct kl_arena *a, struct kl_str prepend, struct kl_str path)
{
    struct kl_str escaped = path.n ? kl_path_escape(a, path) : KL_STR("/");
    struct kl_str s = escaped.p ? kl_path_join(a, prepend, escaped) : escaped;
    return s.p && kl_str_ends(escaped, KL_STR("/")) ? kl_arena_printf(a, "%.*s/", KL_PRI(s)) : s;
}

static void add(struct kl_http_header *h, size_t *n, const char *name, struct kl_str value)
{
    if (value.p && *n < MAX_FORWARDED)
        h[(*n)++] = (struct kl_http_header){kl_str(name), value};
}

static size_t make_headers(struct proxy *p, struct kl_str path, struct kl_http_header *h)
{
    struct kl_api_call *c = p->relay.call;
    struct kl_arena *a = c->req.arena;
    size_t n = 0, nh;
    const struct kl_http_header *in = kl_http_headers(c->hr, &nh);
    bool one_cookie = kl_http_version(c->hr) == 20; // where it comes crumbled
    for (size_t i = 0; i < nh && n < MAX_FORWARDED - HEADERS_OF_OURS; i++) {
        bool anew = is_ours(in[i].name) || (one_cookie && kl_str_eqz(in[i].name, "cookie")) ||
                    (!p->upgrade &&
                     (is_of_hop(in, nh, in[i].name) || kl_str_eqz(in[i].name, "x-forwarded-uri")));
        if (!anew)
            n += kl_relay_header(a, &in[i], &h[n]);
    }
    add(h, &n, "host", p->rule.asked);
    if (one_cookie)
        add(h, &n, "cookie", joined(a, in, nh, "cookie", "; ", KL_STR("")));
    if (!p->upgrade && kl_http_header_has_token(c->hr, KL_STR("te"), KL_STR("trailers")))
        add(h, &n, "te", KL_STR("trailers"));
    add(h, &n, "x-forwarded-for",
        joined(a, in, nh, "x-forwarded-for", ", ", kl_http_peer_ip(c->hr)));
    if (!p->upgrade)
        add(h, &n, "x-forwarded-uri", forwarded_uri(a, p->rule.prepend, path));
    return n;
}

// ---- the answer

static struct kl_str up_header(const struct kl_http_header *h, size_t nh, const char *name)
{
    for (size_t i = 0; i < nh; i++)
        if (kl_str_eqz(h[i].name, name))
            return h[i].value;
    return KL_STR("");
}

static bool is_page(struct kl_str content_type)
{
    ptrdiff_t semi = kl_str_chr(content_type, ';');
    if (semi >= 0)
        content_type.n = (size_t)semi;
    return kl_str_eqz(kl_str_trim(content_type), "text/html");
}

// False: nothing can be answered but p->why.
static bool look_at_answer(struct proxy *p, const struct kl_http_header *h, size_t nh,
                           struct kl_str *location)
{
    struct kl_arena *a = p->relay.call->req.arena;
    struct kl_link u;
    enum kl_coding coding;
    struct kl_str at = up_header(h, nh, "location");
    *location = KL_STR("");
    if (at.n) {
        const char *why = kl_link_parse(a, at, &u);
        if (!why) {
            *location = kl_link_rewrite(a, &p->rule, &u);
            return location->p || (p->why = "out of memory", false);
        }
        p->why = kl_arena_printf(a, "error trying to parse Location header: parse \"%.*s\": %s",
                                 KL_PRI(at), why)
                     .p;
        p->internal = true;
        return false;
    }
    if (!is_page(up_header(h, nh, "content-type")) ||
        !kl_rewrite_coding(up_header(h, nh, "content-encoding"), &coding))
        return true;
    struct kl_rewrite *pages = KL_ARENA_NEW(a, struct kl_rewrite);
    if (!pages || kl_rewrite_init(pages, coding, &p->rule)) {
        p->why = "out of memory";
        return false;
    }
    p->pages = pages;
    return true;
}

static void take_header(struct proxy *p, const char *name, struct kl_str value)
{
    if (p->nup < MAX_FORWARDED)
        p->up_headers[p->nup++] = (struct kl_http_header){kl_str(name), value};
}

// An upgrade's answer goes on as it is but for what the two connections say of themselves.
static void take_headers(struct proxy *p, const struct kl_http_header *h, size_t nh,
                         struct kl_str location)
{
    struct kl_arena *a = p->relay.call->req.arena;
    struct kl_str trailers =
        p->upgrade ? (struct kl_str){0} : joined(a, h, nh, "trailer", ", ", KL_STR(""));
    for (size_t i = 0; i < nh && p->nup < MAX_FORWARDED; i++) {
        struct kl_str name = h[i].name, value = h[i].value;
        if (is_of_hop(h, nh, name) || kl_str_eqz(name, "date") ||
            (p->pages && kl_str_eqz(name, "content-length")) || (!p->upgrade && is_cors(name)))
            continue;
        if (location.n && kl_str_eqz(name, "location"))
            value = location;
        p->up_headers[p->nup++] =
            (struct kl_http_header){kl_arena_dup(a, name), kl_arena_dup(a, value)};
    }
    if (trailers.p)
        take_header(p, "trailer", kl_arena_dup(a, trailers));
}

static void answer(struct proxy *p)
{
    kl_api_metrics_request(&p->relay.call->req, p->status);
    if (p->upgrade)
        kl_http_close_after(p->relay.call->hr);
    kl_relay_answer(&p->relay, p->status, p->up_headers, p->nup);
}

static void on_headers(void *arg, struct kl_http_call *up, int status,
                       const struct kl_http_header *h, size_t nh)
{
    struct proxy *p = arg;
    struct kl_req *r = &p->relay.call->req;
    struct kl_str location = KL_STR("");
    if (p->upgrade && status < 400 && status != 101)
        p->why = kl_arena_printf(r->arena, "invalid upgrade response: status code %d", status).p;
    if (!p->why && !p->upgrade)
        look_at_answer(p, h, nh, &location);
    if (p->why) {
        kl_http_call_cancel(up); // on_end runs inside, and refuses
        return;
    }
    if (!p->upgrade) {
        struct kl_http_header ours[KL_COMMON_HEADERS];
        size_t n = kl_http_common_headers(r, ours);
        take_header(p, "cache-control", KL_STR("no-cache, private"));
        for (size_t i = 0; i < n && p->nup < MAX_FORWARDED; i++)
            p->up_headers[p->nup++] = ours[i];
    }
    take_headers(p, h, nh, location);
    p->status = status;
    if (status != 101 && !p->pages) // else the tunnel is opened in on_upgrade
        answer(p);
}

// A page is answered when it is one; later it is cut off.
static void on_data(void *arg, struct kl_http_call *up, struct kl_str data)
{
    struct proxy *p = arg;
    struct kl_buf out;
    if (!p->pages) {
        kl_relay_data(&p->relay, data);
        return;
    }
    struct kl_http_req *hr = kl_http_req_ref(p->relay.call->hr); // an answer may be the end of p
    kl_buf_init(&out, 256 << 20);
    int rc = kl_rewrite_feed(p->pages, &data, &out);
    if (!rc)
        rc = kl_http_call_put_back(up, data);
    if (rc && !p->relay.answered)
        p->why = "the page is not packed as it says";
    else if (!rc && !p->relay.answered)
        answer(p);
    if (!rc && out.n && !p->gone)
        kl_relay_data(&p->relay, kl_buf_str(&out));
    kl_buf_fini(&out);
    if (rc)
        kl_http_call_cancel(up);
    kl_http_req_unref(hr);
}

static void on_upgrade(void *arg, struct kl_http_call *up, struct kl_duplex *d)
{
    struct proxy *p = arg;
    kl_api_metrics_request(&p->relay.call->req, 101);
    kl_relay_upgrade(&p->relay, kl_http_call_header(up, KL_STR("upgrade")), p->up_headers, p->nup,
                     d);
}

// The end of a page, and trailers. 0 or why the answer is not whole.
static int end_body(struct proxy *p, const struct kl_http_call *up)
{
    struct kl_http_req *hr = p->relay.call->hr;
    struct kl_buf out;
    size_t n;
    int rc = 0;
    if (p->pages) {
        kl_buf_init(&out, 256 << 20);
        rc = kl_rewrite_end(p->pages, &out);
        if (rc && !p->relay.answered)
            p->why = "unexpected EOF";
        else if (!p->relay.answered)
            answer(p);
        if (!rc && out.n)
            kl_relay_data(&p->relay, kl_buf_str(&out));
        kl_buf_fini(&out);
    }
    const struct kl_http_header *t = kl_http_call_trailers(up, &n);
    if (!rc && n)
        rc = kl_http_set_trailers(hr, t, n);
    return rc;
}

static void on_end(void *arg, struct kl_http_call *up, int status, const struct kl_error *err)
{
    struct proxy *p = arg;
    if (!status && !p->relay.upgraded && !p->relay.closed)
        status = end_body(p, up);
    if (kl_relay_end(&p->relay, status))
        refuse(p, status, err);
}

// ---- the request's body

// Credit goes back to the client as the other side takes it.
static void on_sent(void *arg, struct kl_http_call *up, size_t n)
{
    (void)up;
    kl_http_body_consumed(((struct proxy *)arg)->relay.call->hr, n);
}

static const struct kl_http_call_cbs cbs = {.on_headers = on_headers,
                                            .on_data = on_data,
                                            .on_upgrade = on_upgrade,
                                            .on_end = on_end,
                                            .on_sent = on_sent};

static void on_piece(void *arg, struct kl_http_req *hr, int status, struct kl_str data, bool end)
{
    struct proxy *p = arg;
    if (p->gone || !p->relay.up) { // answered before all was said
        kl_http_body_consumed(hr, data.n);
        return;
    }
    struct kl_bytes *b = !status && data.n ? kl_bytes_new(data) : NULL;
    if (status || (data.n && !b) || kl_http_call_send(p->relay.up, b, end))
        kl_http_call_cancel(p->relay.up);
}

// ---- the request

// A page's relative links need the slash: https://issue.k8s.io/4958.
static void redirect(struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    struct kl_http_header h[KL_COMMON_HEADERS + 2];
    struct kl_str query = kl_http_query(c->hr);
    struct kl_str to = kl_arena_printf(r->arena, "%.*s/%s%.*s", KL_PRI(r->info.path),
                                       query.n ? "?" : "", KL_PRI(query));
    size_t n = kl_http_common_headers(r, h);
    if (!to.p) {
        fail_memory(r);
        return;
    }
    h[n++] = (struct kl_http_header)KL_HTTP_HEADER("cache-control", "no-cache, private");
    h[n++] = (struct kl_http_header){KL_STR("location"), to};
    kl_api_metrics_answer(r, 301, 0);
    kl_http_respond(c->hr, 301, h, n, KL_STR(""));
    kl_api_call_release(c);
}

static void start(struct proxy *p, struct kl_str path)
{
    struct kl_api_call *c = p->relay.call;
    struct kl_req *r = &c->req;
    struct kl_error err = {0};
    struct kl_http_header h[MAX_FORWARDED];
    struct kl_http_client_opts o = {.loop = r->al->loop};
    bool body = !p->upgrade && kl_http_has_body(c->hr);
    // An upgrade's query stays here, as upstream's does.
    struct kl_str query = p->upgrade ? KL_STR("") : kl_http_query(c->hr);
    struct kl_str escaped = kl_path_escape(r->arena, path);
    struct kl_str target =
        kl_arena_printf(r->arena, "%.*s%s%.*s", KL_PRI(path.n ? escaped : KL_STR("/")),
                        query.n ? "?" : "", KL_PRI(query));
    if (!escaped.p || !target.p) {
        kl_relay_drop(&p->relay);
        fail_memory(r);
        return;
    }
    int64_t length = kl_http_content_length(c->hr);
    struct kl_http_call_spec spec = {.host = p->to.host.p,
                                     .port = p->to.port,
                                     .tls = p->to.tls,
                                     .method = kl_http_method(c->hr),
                                     .target = target,
                                     .headers = h,
                                     .nheaders = make_headers(p, path, h),
                                     .upgrade = p->upgrade,
                                     .stream_body = body,
                                     .body_length = body && length > 0 ? (uint64_t)length : 0};
    int rc = r->al->http ? 0 : kl_http_client_new(&o, &r->al->http, &err);
    if (!rc)
        rc = kl_http_call_start(r->al->http, &spec, &cbs, p, &p->relay.up, &err);
    if (rc) {
        refuse(p, rc, &err);
        return;
    }
    kl_relay_begin(&p->relay);
    if (body) {
        kl_http_body_patient(c->hr);
        kl_http_read_stream(c->hr, on_piece, p);
    }
}

// What stands before the path in the client's eyes.
static struct kl_str prepend_of(struct kl_str whole, struct kl_str path)
{
    bool slash = kl_str_ends(whole, KL_STR("/")) && !kl_str_ends(path, KL_STR("/"));
    struct kl_str before = whole;
    before.n -= slash;
    if (kl_str_ends(before, path))
        before.n -= path.n;
    else
        before = whole;
    return before;
}

void kl_proxy_run(struct kl_api_call *c, const struct kl_value *options)
{
    struct kl_req *r = &c->req;
    struct kl_str method = kl_http_method(c->hr);
    struct proxy *p = KL_ARENA_NEW(r->arena, struct proxy);
    struct kl_str asked = kl_text(kl_get(options, KL_F_path));
    struct kl_str path = kl_path_join(r->arena, asked, KL_STR(""));
    if (path.p && kl_str_ends(asked, KL_STR("/")) && !kl_str_ends(path, KL_STR("/")))
        path = kl_arena_printf(r->arena, "%.*s/", KL_PRI(path));
    if (!p || !path.p) {
        fail_memory(r);
        return;
    }
    if (kl_proxy_locate(r, &p->to)) {
        kl_req_fail(r);
        return;
    }
    p->relay.call = c;
    p->relay.fini = fini_proxy;
    p->upgrade = kl_http_is_upgrade(c->hr);
    p->rule = (struct kl_link_rule){.prepend = prepend_of(r->info.path, path),
                                    .source = p->to.authority,
                                    .asked = kl_http_authority(c->hr)};
    if (!p->upgrade && !path.n && (kl_str_eqz(method, "GET") || kl_str_eqz(method, "HEAD")))
        redirect(c);
    else
        start(p, path);
}
