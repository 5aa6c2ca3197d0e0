// SPDX-License-Identifier: Apache-2.0
// One request passed on: headers both ways but those of the hop, the answer as the client takes it,
// upgrades (WebSocket, SPDY) byte by byte. Errors of our own are text, as kube-aggregator's are.
#include "apiserver/aggregate/aggregate_int.h"
#include "apiserver/fairness/fairness.h"
#include "apiserver/metrics.h"
#include "apiserver/relay.h"
#include "apiserver/trace/trace.h"

enum { MAX_FORWARDED = 192, HEADER_TIMEOUT_MS = 60000 };

struct proxy {
    struct kl_relay relay;
    struct kl_object *service; // referenced
    struct kl_span *span;
    struct kl_http_header up_headers[MAX_FORWARDED];
    size_t nup;
};

static void fini_proxy(struct kl_relay *x)
{
    struct proxy *p = KL_CONTAINER_OF(x, struct proxy, relay);
    kl_object_unref(p->service);
    p->service = NULL;
}

// http.Error
static void refuse(struct proxy *p, int status, const char *text)
{
    struct kl_api_call *c = p->relay.call;
    struct kl_str line = kl_arena_printf(c->req.arena, "%s\n", text);
    kl_relay_drop(&p->relay);
    kl_http_answer_text(&c->req, status, "text/plain; charset=utf-8",
                        line.p ? line : KL_STR("service unavailable\n"));
}

// ---- the answer

static bool is_of_hop(struct kl_str name)
{
    static const char *const names[] = {"connection",         "keep-alive", "proxy-authenticate",
                                        "proxy-connection",   "te",         "trailer",
                                        "transfer-encoding",  "upgrade",    "date",
                                        "proxy-authorization"};
    for (size_t i = 0; i < KL_COUNT(names); i++)
        if (kl_str_eqz(name, names[i]))
            return true;
    return false;
}

static void on_headers(void *arg, struct kl_http_call *up, int status,
                       const struct kl_http_header *h, size_t nh)
{
    struct proxy *p = arg;
    struct kl_req *r = &p->relay.call->req;
    (void)up;
    kl_span_number(p->span, "http.response.status_code", status);
    for (size_t i = 0; i < nh && p->nup < MAX_FORWARDED; i++)
        if (!is_of_hop(h[i].name) || status == 101)
            p->up_headers[p->nup++] = (struct kl_http_header){kl_arena_dup(r->arena, h[i].name),
                                                              kl_arena_dup(r->arena, h[i].value)};
    if (status == 101) // the tunnel is opened in on_upgrade
        return;
    kl_api_metrics_request(r, status);
    kl_relay_answer(&p->relay, status, p->up_headers, p->nup);
}

static void on_data(void *arg, struct kl_http_call *up, struct kl_str data)
{
    (void)up;
    kl_relay_data(&((struct proxy *)arg)->relay, data);
}

static void on_upgrade(void *arg, struct kl_http_call *up, struct kl_duplex *d)
{
    struct proxy *p = arg;
    struct kl_http_header out[MAX_FORWARDED];
    size_t n = 0;
    for (size_t i = 0; i < p->nup; i++)
        if (!is_of_hop(p->up_headers[i].name) &&
            !kl_str_eqz(p->up_headers[i].name, "content-length"))
            out[n++] = p->up_headers[i];
    kl_api_metrics_request(&p->relay.call->req, 101);
    kl_relay_upgrade(&p->relay, kl_http_call_header(up, KL_STR("upgrade")), out, n, d);
}

static void on_end(void *arg, struct kl_http_call *up, int status, const struct kl_error *err)
{
    struct proxy *p = arg;
    (void)up;
    if (status)
        kl_span_fail(p->span, kl_str(err ? err->msg : kl_err_text(status)));
    kl_span_end(p->span);
    p->span = NULL;
    if (kl_relay_end(&p->relay, status))
        refuse(p, 503, kl_extension_error(p->relay.call->req.arena, status, err).p);
}

static const struct kl_http_call_cbs cbs = {
    .on_headers = on_headers, .on_data = on_data, .on_upgrade = on_upgrade, .on_end = on_end};

// ---- the request

// The headers of a trace are ours to say while there is one.
static bool is_of_trace(struct kl_str name)
{
    return kl_str_eqz(name, "traceparent") || kl_str_eqz(name, "tracestate") ||
           kl_str_eqz(name, "baggage");
}

// What the client said of itself stays here: who it is was found out, and is said by us.
static bool is_ours_to_say(struct kl_str name)
{
    return kl_str_eqz(name, "authorization") || kl_str_eqz(name, "host") ||
           kl_str_eqz(name, "content-length") || kl_str_eqz(name, "expect") ||
           kl_str_starts(name, KL_STR("impersonate-")) ||
           kl_str_starts(name, KL_STR("x-remote-")) || kl_str_eqz(name, "x-forwarded-for");
}

static void start(struct proxy *p, struct kl_str body)
{
    struct kl_api_call *c = p->relay.call;
    struct kl_req *r = &c->req;
    struct kl_http_header h[MAX_FORWARDED];
    struct kl_http_client *http;
    struct kl_extension to;
    struct kl_error err = {0};
    size_t n = 0, nh;
    const struct kl_http_header *in = kl_http_headers(c->hr, &nh);
    bool upgrade = kl_http_is_upgrade(c->hr);
    if (kl_extension_find(r->al, r->arena, p->service, &to, &err)) {
        refuse(p, 503, "service unavailable");
        return;
    }
    for (size_t i = 0; i < nh && n < MAX_FORWARDED / 2; i++) {
        bool hop = is_of_hop(in[i].name);
        bool shakes =
            upgrade && (kl_str_eqz(in[i].name, "upgrade") || kl_str_eqz(in[i].name, "connection"));
        if (in[i].name.n && in[i].name.p[0] != ':' && (!hop || shakes) &&
            !is_ours_to_say(in[i].name) && !(r->trace && is_of_trace(in[i].name)))
            n += kl_relay_header(r->arena, &in[i], &h[n]);
    }
    h[n++] = (struct kl_http_header){KL_STR("x-forwarded-for"), kl_http_peer_ip(c->hr)};
    if (!kl_extension_user_headers(r->arena, r->user, h, &n, MAX_FORWARDED - KL_TRACE_HEADERS)) {
        refuse(p, 500, "more groups of the user than can be passed on");
        return;
    }
    if (r->trace) {
        struct kl_str url =
            kl_arena_printf(r->arena, "%.*s%.*s", KL_PRI(to.shown), KL_PRI(kl_http_target(c->hr)));
        p->span = kl_span_client(r, NULL, kl_http_method(c->hr), url);
        kl_span_text(p->span, "server.address", to.host);
        kl_span_number(p->span, "server.port", to.port);
        n += kl_trace_headers(r, p->span, h + n);
    }
    struct kl_http_call_spec spec = {.host = to.host.p,
                                     .port = to.port,
                                     .tls = to.tls,
                                     .proto = upgrade ? KL_HTTP_1 : KL_HTTP_AUTO,
                                     .method = kl_http_method(c->hr),
                                     .target = kl_http_target(c->hr),
                                     .headers = h,
                                     .nheaders = n,
                                     .body_str = body,
                                     .header_timeout_ms = HEADER_TIMEOUT_MS,
                                     .upgrade = upgrade};
    if (kl_extension_client(r->al, &http, &err) ||
        kl_http_call_start(http, &spec, &cbs, p, &p->relay.up, &err)) {
        refuse(p, 503, err.msg);
        return;
    }
    kl_relay_begin(&p->relay);
    if (r->info.op == KL_VERB_WATCH)
        kl_fair_leave(r); // when it has sent what was there is known to the other server only
}

static void on_body(void *arg, struct kl_http_req *hr, int status, struct kl_str body)
{
    struct proxy *p = arg;
    (void)hr;
    if (status == KL_ETOOLARGE)
        refuse(p, 413, "Request entity too large");
    else if (status)
        refuse(p, 400, "unexpected EOF");
    else
        start(p, body);
}

void kl_aggregate_proxy(struct kl_api_call *c, struct kl_object *service)
{
    struct proxy *p = KL_ARENA_NEW(c->req.arena, struct proxy);
    if (!p) {
        kl_fail_oom(&c->req);
        kl_req_fail(&c->req);
        return;
    }
    p->relay.call = c;
    p->relay.fini = fini_proxy;
    p->service = kl_object_ref(service);
    if (!kl_apiservice_is_available(&service->root))
        refuse(p, 503, "service unavailable");
    else if (kl_http_has_body(c->hr) && !kl_http_is_upgrade(c->hr))
        kl_http_read_body(c->hr, KL_HTTP_MAX_BODY, on_body, p);
    else
        start(p, KL_STR(""));
}
