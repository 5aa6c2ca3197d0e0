// SPDX-License-Identifier: Apache-2.0
// Subresources that are streams: log, exec, attach and portforward go to the kubelet of the pod's
// node. Upgrades (WebSocket and SPDY alike) are passed through byte by byte.
#include "apiserver/connect.h"
#include "apiserver/auth/auth.h"
#include "apiserver/metrics.h"
#include "apiserver/proxy/proxy.h"
#include "apiserver/relay.h"
#include "apiserver/webhook.h"

enum { ERROR_BODY_MAX = 64 * 1024, MAX_FORWARDED = 48 };

struct stream {
    struct kl_relay relay;
    bool is_log;
    struct kl_str url; // of a log
    int status;        // of the kubelet's answer
    struct kl_buf error_body;
    struct kl_http_header up_headers[MAX_FORWARDED];
    size_t nup;
};

static void fini_stream(struct kl_relay *x)
{
    kl_buf_fini(&KL_CONTAINER_OF(x, struct stream, relay)->error_body);
}

static void fail_stream(struct stream *s)
{
    kl_relay_drop(&s->relay);
    kl_req_fail(&s->relay.call->req);
}

// What a kubelet says to an upgrade that it refuses goes on as it is.
static void pass_refusal(struct stream *s)
{
    static const char *const of_hop[] = {"connection",        "keep-alive", "trailer",
                                         "transfer-encoding", "upgrade",    "date"};
    struct kl_http_header out[MAX_FORWARDED];
    size_t n = 0;
    for (size_t i = 0; i < s->nup; i++) {
        bool skip = false;
        for (size_t k = 0; k < KL_COUNT(of_hop); k++)
            skip |= kl_str_eqz(s->up_headers[i].name, of_hop[k]);
        if (!skip)
            out[n++] = s->up_headers[i];
    }
    kl_api_metrics_request(&s->relay.call->req, s->status);
    kl_http_close_after(s->relay.call->hr);
    kl_relay_answer(&s->relay, s->status, out, n);
}

static void on_headers(void *arg, struct kl_http_call *up, int status,
                       const struct kl_http_header *h, size_t nh)
{
    struct stream *s = arg;
    struct kl_arena *a = s->relay.call->req.arena;
    s->status = status;
    for (size_t i = 0; i < nh && s->nup < MAX_FORWARDED; i++)
        s->up_headers[s->nup++] =
            (struct kl_http_header){kl_arena_dup(a, h[i].name), kl_arena_dup(a, h[i].value)};
    struct kl_http_header out[] = {KL_HTTP_HEADER("content-type", "text/plain"),
                                   KL_HTTP_HEADER("cache-control", "no-cache, private")};
    if (s->is_log && status >= 200 && status <= 206) {
        kl_api_metrics_request(&s->relay.call->req, 200);
        kl_relay_answer(&s->relay, 200, out, KL_COUNT(out));
    } else if (!s->is_log && status >= 400) {
        pass_refusal(s);
    } else if (!s->is_log && status != 101) {
        kl_http_call_cancel(up); // on_end runs inside, and refuses
    }
}

static void on_data(void *arg, struct kl_http_call *up, struct kl_str data)
{
    struct stream *s = arg;
    (void)up;
    if (s->relay.answered)
        kl_relay_data(&s->relay, data);
    else
        kl_buf_puts(&s->error_body, data);
}

static bool is_handshake_header(struct kl_str n)
{
    return kl_str_starts(n, KL_STR("sec-websocket-")) || kl_str_eqz(n, "x-stream-protocol-version");
}

static void on_upgrade(void *arg, struct kl_http_call *up, struct kl_duplex *d)
{
    struct stream *s = arg;
    struct kl_http_header out[8];
    size_t n = 0;
    (void)up;
    for (size_t i = 0; i < s->nup && n < KL_COUNT(out); i++)
        if (is_handshake_header(s->up_headers[i].name))
            out[n++] = s->up_headers[i];
    kl_api_metrics_request(&s->relay.call->req, 101);
    kl_relay_upgrade(&s->relay, kl_http_header(s->relay.call->hr, KL_STR("upgrade")), out, n, d);
}

// What the kubelet said instead of a log, as a Status (rest.GenericHttpResponseChecker).
static void fail_log(struct stream *s)
{
    static const struct {
        int status;
        const char *reason;
    } known[] = {{401, "Unauthorized"},         {403, "Forbidden"},     {404, "NotFound"},
                 {405, "MethodNotAllowed"},     {406, "NotAcceptable"}, {409, "Conflict"},
                 {415, "UnsupportedMediaType"}, {422, "Invalid"},       {429, "TooManyRequests"},
                 {503, "ServiceUnavailable"},   {504, "Timeout"}};
    struct kl_req *r = &s->relay.call->req;
    struct kl_str text = kl_str_trim(kl_buf_str(&s->error_body));
    const char *reason = s->status < 500 ? "" : "InternalError";
    if (s->status == 500) {
        kl_fail_internal(r, "%.*s", KL_PRI(text));
        return;
    }
    if (s->status == 400) {
        kl_fail_bad(r, "%.*s", KL_PRI(text));
        return;
    }
    for (size_t i = 0; i < KL_COUNT(known); i++)
        reason = known[i].status == s->status ? known[i].reason : reason;
    struct kl_str said = kl_webhook_status_text(r->arena, s->status, text);
    struct kl_fail *f = kl_fail_set(r, s->status, reason, "%.*s ( pods/log %.*s)", KL_PRI(said),
                                    KL_PRI(r->info.name));
    f->kind = KL_STR("pods/log");
    f->name = r->info.name;
}

static void refuse(struct stream *s, int status, const struct kl_error *err)
{
    struct kl_req *r = &s->relay.call->req;
    struct kl_str text = kl_relay_error(r->arena, status, err);
    if (s->is_log && status < 0 && s->status) // broken off
        kl_fail_internal(r, "%.*s", KL_PRI(text));
    else if (s->is_log && status < 0)
        kl_fail_set(r, 500, "", "Get \"%.*s\": %.*s", KL_PRI(s->url), KL_PRI(text));
    else if (s->is_log)
        fail_log(s);
    else if (s->status && s->status != 101)
        kl_fail_set(r, 500, "", "invalid upgrade response: status code %d", s->status);
    else
        kl_relay_fail_upgrade(r, status, err);
    fail_stream(s);
}

static void on_end(void *arg, struct kl_http_call *up, int status, const struct kl_error *err)
{
    struct stream *s = arg;
    (void)up;
    if (kl_relay_end(&s->relay, status))
        refuse(s, status, err);
}

static const struct kl_http_call_cbs up_cbs = {
    .on_headers = on_headers, .on_data = on_data, .on_upgrade = on_upgrade, .on_end = on_end};

// ---- where to

static const kl_sym lists[] = {KL_F_initContainers, KL_F_containers, KL_F_ephemeralContainers};

static bool names_container(const struct kl_value *pod, struct kl_str name)
{
    for (size_t l = 0; l < KL_COUNT(lists); l++)
        for (KL_EACH(c, kl_path(pod, KL_F_spec, lists[l])))
            if (kl_str_eq(kl_text(kl_get(c, KL_F_name)), name))
                return true;
    return false;
}

// The container asked for, or the only one (registry/core/pod LogLocation, streamLocation).
static int choose_container(struct kl_req *r, const struct kl_value *pod, struct kl_str *name)
{
    const struct kl_value *all = kl_path(pod, KL_F_spec, KL_F_containers);
    if (name->n) {
        if (names_container(pod, *name))
            return 0;
        kl_fail_bad(r, "container %.*s is not valid for pod %.*s", KL_PRI(*name),
                    KL_PRI(r->info.name));
        return KL_EBADREQUEST;
    }
    if (kl_len(all) == 1) {
        *name = kl_text(kl_get(kl_at(all, 0), KL_F_name));
        return 0;
    }
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    for (size_t l = 0; l < KL_COUNT(lists); l++)
        for (KL_EACH(x, kl_path(pod, KL_F_spec, lists[l])))
            kl_buf_printf(&b, "%s%.*s", b.n ? " " : "", KL_PRI(kl_text(kl_get(x, KL_F_name))));
    kl_fail_bad(r, "a container name must be specified for pod %.*s, choose one of: [%.*s]",
                KL_PRI(r->info.name), KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
    return KL_EBADREQUEST;
}

static const char *kubelet_path(struct kl_str sub)
{
    return kl_str_eqz(sub, "log")      ? "containerLogs"
           : kl_str_eqz(sub, "exec")   ? "exec"
           : kl_str_eqz(sub, "attach") ? "attach"
                                       : "portForward";
}

static void start(struct kl_api_call *c, struct kl_str address, int port, struct kl_tls_ctx *tls,
                  struct kl_str target)
{
    struct kl_req *r = &c->req;
    struct kl_api_loop *al = r->al;
    struct kl_error err = {0};
    struct stream *s = KL_ARENA_NEW(r->arena, struct stream);
    struct kl_http_header h[MAX_FORWARDED];
    size_t n = 0, nh;
    const struct kl_http_header *in = kl_http_headers(c->hr, &nh);
    bool log = kl_str_eqz(r->info.sub, "log");
    if (!al->http) {
        struct kl_http_client_opts o = {.loop = al->loop};
        if (kl_http_client_new(&o, &al->http, &err)) {
            kl_fail_err(r, &err);
            kl_req_fail(r);
            return;
        }
    }
    if (!log && !kl_http_is_upgrade(c->hr)) {
        kl_fail_bad(r, "Upgrade request required");
        kl_req_fail(r);
        return;
    }
    struct kl_str host = kl_arena_dup(r->arena, address);
    if (!s || !host.p) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    s->relay.call = c;
    s->relay.fini = fini_stream;
    s->is_log = log;
    kl_buf_init(&s->error_body, ERROR_BODY_MAX);
    for (size_t i = 0; !log && i < nh && n < MAX_FORWARDED; i++)
        if (is_handshake_header(in[i].name) || kl_str_eqz(in[i].name, "upgrade") ||
            kl_str_eqz(in[i].name, "connection"))
            n += kl_relay_header(r->arena, &in[i], &h[n]);
    const char *around =
        kl_str_chr(address, ':') < 0 ? "https://%.*s:%d%.*s" : "https://[%.*s]:%d%.*s";
    s->url = kl_arena_printf(r->arena, around, KL_PRI(address), port, KL_PRI(target));
    struct kl_http_call_spec spec = {.host = host.p,
                                     .port = port,
                                     .tls = tls,
                                     .proto = KL_HTTP_1,
                                     .method = kl_http_method(c->hr),
                                     .target = target,
                                     .headers = h,
                                     .nheaders = n,
                                     .upgrade = !log};
    if (kl_http_call_start(al->http, &spec, &up_cbs, s, &s->relay.up, &err)) {
        kl_fail_err(r, &err);
        fail_stream(s);
        return;
    }
    kl_relay_begin(&s->relay);
}

bool kl_is_connect(const struct kl_req_info *i)
{
    static const char *const names[] = {"log", "exec", "attach", "portforward", "proxy"};
    for (size_t k = 0; i->subres && k < KL_COUNT(names); k++)
        if (kl_str_eqz(i->sub, names[k]))
            return true;
    return false;
}

bool kl_connect_may(struct kl_req *r)
{
    static const char *const names[] = {"exec", "attach", "portforward"};
    struct kl_attrs t;
    struct kl_str why;
    bool asked = !kl_str_eqz(r->info.verb, "create");
    for (size_t k = 0; asked && k < KL_COUNT(names); k++) {
        if (!kl_str_eqz(r->info.sub, names[k]))
            continue;
        kl_attrs_of_req(r, &t);
        t.verb = KL_STR("create");
        if (kl_authorize(r->al, r->arena, &t, &why))
            return true;
        kl_fail_forbidden(r, t.group, t.plural, t.name, why);
        return false;
    }
    return true;
}

void kl_connect_run(struct kl_api_call *c, const struct kl_value *options)
{
    struct kl_req *r = &c->req;
    struct kl_value own;
    if (kl_is_proxy(&r->info)) {
        kl_proxy_run(c, options);
        return;
    }
    struct kl_object *pod =
        kl_api_object(r->al, r->arena, KL_RES_core_v1_pods, r->info.ns, r->info.name);
    bool forward = kl_str_eqz(r->info.sub, "portforward");
    if (!options) {
        const struct kl_type *type = kl_type(KL_TYPE_core_v1_PodLogOptions);
        if (kl_connect_options(r, kl_http_query(c->hr), type, &own)) {
            kl_req_fail(r);
            return;
        }
        options = &own;
        if (kl_connect_check_log(r, options)) {
            kl_req_fail(r);
            return;
        }
    }
    struct kl_str container = kl_text(kl_get(options, KL_F_container));
    if (!pod) {
        kl_fail_not_found(r);
        kl_req_fail(r);
        return;
    }
    if (!forward && choose_container(r, &pod->root, &container)) {
        kl_req_fail(r);
        return;
    }
    struct kl_str on = kl_text_at(&pod->root, KL_F_spec, KL_F_nodeName);
    if (!on.n) {
        if (kl_str_eqz(r->info.sub, "log")) {
            kl_http_answer_text(r, 204, "text/plain", KL_STR(""));
            return;
        }
        kl_fail_bad(r, "pod %.*s does not have a host assigned", KL_PRI(r->info.name));
        kl_req_fail(r);
        return;
    }
    struct kl_object *node = kl_api_object(r->al, r->arena, KL_RES_core_v1_nodes, KL_STR(""), on);
    struct kl_str address;
    int port;
    if (!node)
        kl_fail_not_found_of(r, KL_STR(""), KL_STR("nodes"), on);
    if (!node || kl_node_kubelet(r, &node->root, &address, &port)) {
        kl_req_fail(r);
        return;
    }
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_buf_printf(&b, "/%s/%.*s/%.*s", kubelet_path(r->info.sub), KL_PRI(r->info.ns),
                  KL_PRI(r->info.name));
    if (!forward)
        kl_buf_printf(&b, "/%.*s", KL_PRI(container));
    kl_connect_query(&b, options);
    struct kl_str target = b.err ? (struct kl_str){0} : kl_arena_dup(r->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    if (!target.p) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    bool unverified = kl_is_true(kl_get(options, KL_F_insecureSkipTLSVerifyBackend));
    start(c, address, port, unverified ? r->srv->kubelet_tls_unverified : r->srv->kubelet_tls,
          target);
}
