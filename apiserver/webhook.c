// SPDX-License-Identifier: Apache-2.0
#include "apiserver/webhook.h"
#include "apiserver/auth/ask.h"
#include "apiserver/auth/exec.h"
#include "apiserver/deadline.h"
#include "apiserver/service.h"
#include "apiserver/trace/trace.h"
#include <stdio.h>
#include <stdlib.h>

enum { MAX_URL = 2048, DEFAULT_PORT = 443, AFTER_DEADLINE_MS = 1000 };

struct kl_webhook_loop {
    struct kl_http_client *http;
    struct kl_webhook_call *fetching; // with credentials of programs
    int flying;
};

struct kl_webhook {
    struct kl_api_loop *al;
    struct kl_tls_ctx *tls;
    struct kl_exec *exec; // NULL: none; else its credentials, and TLS with them
    struct kl_exec_tls *exec_tls;
    bool service;
    struct kl_arena arena;
    struct kl_str shown; // scheme, host and port as messages show them
    struct kl_str path, query;
    struct kl_str authorization;  // header; empty: none
    struct kl_str host, ns, name; // of a url; of a service
    int port;
};

struct kl_webhook_call {
    struct kl_webhook_loop *wl;
    struct kl_http_call *call;
    struct kl_exec_fetch *fetch;           // instead of call
    struct kl_webhook_call *next, **pprev; // of those
    struct kl_span *span;                  // the request's, which is there as long as there is a cb
    kl_webhook_cb cb;                      // NULL: canceled
    void *arg;
    char url[MAX_URL];
};

// ---- where

static int parse_url(struct kl_webhook *w, struct kl_str url, struct kl_error *err)
{
    const struct kl_str https = KL_STR("https://");
    if (!kl_str_starts(url, https))
        return kl_error_set(err, KL_EINVALID, "webhook url must begin with https://");
    struct kl_str rest = {url.p + https.n, url.n - https.n};
    size_t n = strcspn(rest.p, "/?#"), end = strcspn(rest.p, "#");
    struct kl_str host = {rest.p, n}, tail = {rest.p + n, end - n};
    w->shown = kl_arena_printf(&w->arena, "https://%.*s", KL_PRI(host));
    int64_t number = DEFAULT_PORT;
    const char *colon = memchr(host.p, ':', host.n), *end_of_host = host.p + host.n;
    struct kl_str bare = {host.p, colon ? (size_t)(colon - host.p) : host.n};
    if (host.n && *host.p == '[') { // an IPv6 address
        const char *close = memchr(host.p, ']', host.n);
        if (!close)
            return kl_error_set(err, KL_EINVALID, "missing ']' in host");
        bare = (struct kl_str){host.p + 1, (size_t)(close - host.p - 1)};
        colon = close + 1 < end_of_host && close[1] == ':' ? close + 1 : NULL;
    }
    if (!bare.n ||
        (colon &&
         !kl_str_to_i64((struct kl_str){colon + 1, (size_t)(end_of_host - colon - 1)}, &number)) ||
        number <= 0 || number > 65535)
        return kl_error_set(err, KL_EINVALID, "no host or no good port in url");
    w->port = (int)number;
    const char *q = memchr(tail.p, '?', tail.n);
    w->host = kl_arena_dup(&w->arena, bare);
    w->path = (struct kl_str){tail.p, q ? (size_t)(q - tail.p) : tail.n};
    w->query = q ? (struct kl_str){q + 1, (size_t)(tail.p + tail.n - q - 1)} : KL_STR("");
    return w->host.p && w->shown.p ? 0 : kl_error_set(err, KL_ENOMEM, "out of memory");
}

// path.Join("/", path), as upstream's client makes it: one slash between parts, no . and no ..
static struct kl_str clean_path(struct kl_arena *a, struct kl_str path)
{
    char *out = kl_arena_alloc(a, path.n + 2);
    size_t n = 0;
    struct kl_str part;
    if (!out)
        return (struct kl_str){NULL, 0};
    while (kl_str_split(&path, '/', &part)) {
        if (kl_str_eqz(part, "..")) {
            while (n && out[--n] != '/')
                continue;
        } else if (part.n && !kl_str_eqz(part, ".")) {
            out[n++] = '/';
            memcpy(out + n, part.p, part.n);
            n += part.n;
        }
    }
    if (!n)
        out[n++] = '/';
    out[n] = 0;
    return (struct kl_str){out, n};
}

// A user by the name, or by a name with a star for its beginning.
static bool find_user(const struct kl_kubeconfig *users, struct kl_arena *a, struct kl_str name,
                      struct kl_str *ret)
{
    *ret = name;
    if (kl_kubeconfig_has(users, name))
        return true;
    for (ptrdiff_t dot = kl_str_chr(name, '.'); dot >= 0; dot = kl_str_chr(name, '.')) {
        name = kl_str_from(name, (size_t)dot + 1);
        *ret = kl_arena_printf(a, "*.%.*s", KL_PRI(name));
        if (ret->p && kl_kubeconfig_has(users, *ret))
            return true;
    }
    return false;
}

// defaultAuthenticationInfoResolver.clientConfig
static int take_user(struct kl_webhook *w, const struct kl_kubeconfig *users,
                     struct kl_remote_opts *as, struct kl_error *err)
{
    struct kl_arena *a = &w->arena;
    bool v6 = kl_str_chr(w->host, ':') >= 0;
    struct kl_str name, full = kl_arena_printf(a, "%s%.*s%s:%d", v6 ? "[" : "", KL_PRI(w->host),
                                               v6 ? "]" : "", w->port);
    if (!full.p)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    bool found = find_user(users, a, full, &name) ||
                 (w->port == DEFAULT_PORT && find_user(users, a, w->host, &name));
    if (!found) {
        name = KL_STR("*");
        found = kl_kubeconfig_has(users, name);
    }
    if (!found) {
        name = kl_kubeconfig_current(users);
        found = name.n && kl_kubeconfig_has(users, name);
    }
    return found ? kl_kubeconfig_user(users, a, name, as, err) : 0;
}

static int read_config(struct kl_webhook *w, const struct kl_value *config,
                       const struct kl_kubeconfig *users, struct kl_error *err)
{
    const struct kl_value *svc = kl_get(config, KL_F_service);
    struct kl_str ca = kl_text(kl_get(config, KL_F_caBundle));
    struct kl_tls_client_opts t = {.ca.pem = ca};
    int rc = 0;
    if (svc) {
        w->service = true;
        w->ns = kl_arena_dup(&w->arena, kl_text(kl_get(svc, KL_F_namespace)));
        w->name = kl_arena_dup(&w->arena, kl_text(kl_get(svc, KL_F_name)));
        w->path = kl_arena_dup(&w->arena, kl_text(kl_get(svc, KL_F_path)));
        w->port = (int)kl_int_or(kl_get(svc, KL_F_port), DEFAULT_PORT);
        w->host = kl_arena_printf(&w->arena, "%.*s.%.*s.svc", KL_PRI(w->name), KL_PRI(w->ns));
        w->shown = kl_arena_printf(&w->arena, "https://%.*s:%d", KL_PRI(w->host), w->port);
        t.server_name = w->host.p;
        if (!w->ns.p || !w->name.p || !w->path.p || !w->shown.p || !w->host.p)
            rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    } else {
        struct kl_str url = kl_arena_dup(&w->arena, kl_text(kl_get(config, KL_F_url)));
        rc = url.p ? parse_url(w, url, err) : kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    if (!rc && !(w->path = clean_path(&w->arena, w->path)).p)
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    struct kl_remote_opts as = {.url = w->shown, .ca = ca, .server_name = t.server_name};
    if (!rc && users && !(rc = take_user(w, users, &as, err))) {
        t.cert.pem = as.cert;
        t.key.pem = as.key;
        w->authorization = as.authorization;
    }
    w->exec = as.exec;
    if (!rc &&
        (w->exec ? kl_exec_tls_new(&t, &w->exec_tls, err) : kl_tls_client_new(&t, &w->tls, err)))
        rc = kl_error_wrap(err, "unable to load root certificates");
    return rc;
}

int kl_webhook_new(struct kl_api_loop *al, const struct kl_value *client_config,
                   struct kl_webhook **ret, struct kl_error *err)
{
    return kl_webhook_new_as(al, client_config, NULL, ret, err);
}

int kl_webhook_new_as(struct kl_api_loop *al, const struct kl_value *client_config,
                      const struct kl_kubeconfig *users, struct kl_webhook **ret,
                      struct kl_error *err)
{
    struct kl_webhook *w = calloc(1, sizeof *w);
    if (!w)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    w->al = al;
    kl_arena_init(&w->arena, 256 * 1024);
    int rc = read_config(w, client_config, users, err);
    if (rc)
        kl_webhook_free(w);
    else
        *ret = w;
    return rc;
}

void kl_webhook_free(struct kl_webhook *w)
{
    if (!w)
        return;
    kl_tls_ctx_unref(w->tls);
    kl_exec_tls_unref(w->exec_tls);
    kl_exec_unref(w->exec);
    kl_arena_fini(&w->arena);
    free(w);
}

// ---- calls

static int loop_of(struct kl_api_loop *al, struct kl_webhook_loop **ret, struct kl_error *err)
{
    struct kl_http_client_opts o = {.loop = al->loop};
    if (al->webhooks) {
        *ret = al->webhooks;
        return (*ret)->http ? 0 : kl_error_set(err, KL_ECANCELED, "the server stops");
    }
    struct kl_webhook_loop *wl = calloc(1, sizeof *wl);
    if (!wl)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    int rc = kl_http_client_new(&o, &wl->http, err);
    if (rc)
        free(wl);
    else
        *ret = al->webhooks = wl;
    return rc;
}

void kl_webhook_loop_stop(struct kl_api_loop *al)
{
    struct kl_webhook_loop *wl = al->webhooks;
    if (!wl)
        return;
    struct kl_http_client *http = wl->http;
    wl->http = NULL;
    while (wl->fetching)
        kl_exec_fetch_cancel(wl->fetching->fetch); // on_answer comes inside
    if (http)
        kl_http_client_close(http); // its calls end here
    if (!al->calls) {
        free(wl);
        al->webhooks = NULL;
    }
}

// What Go says of the same.
static void put_reason(char *out, size_t room, int status, const struct kl_error *err)
{
    const char *msg = err ? err->msg : kl_err_text(status), *tls;
    if (status == KL_ETIMEOUT)
        msg = "context deadline exceeded";
    else if (status == KL_ECANCELED)
        msg = "context canceled";
    else if (status == KL_EUNAUTHORIZED && (tls = strstr(msg, "tls: ")))
        msg = tls;
    const char *refused = strcasestr(msg, "connection refused");
    if (refused)
        snprintf(out, room, "%.*sconnection refused", (int)(refused - msg), msg);
    else
        snprintf(out, room, "%s", msg);
}

static void on_answer(void *arg, int status, struct kl_str body, const struct kl_error *err)
{
    struct kl_webhook_call *c = arg;
    struct kl_error out;
    c->wl->flying--;
    if (c->pprev && (*c->pprev = c->next))
        c->next->pprev = c->pprev;
    if (c->cb && c->span) {
        if (status < 0)
            kl_span_fail(c->span, kl_str(err ? err->msg : kl_err_text(status)));
        else
            kl_span_number(c->span, "http.response.status_code", status);
        kl_span_end(c->span);
    }
    if (c->cb && status < 0) {
        char why[sizeof out.msg];
        put_reason(why, sizeof why, status, err);
        kl_error_set(&out, status, "Post \"%s\": %s", c->url, why);
        c->cb(c->arg, status, KL_STR(""), &out);
    } else if (c->cb) {
        c->cb(c->arg, status, body, NULL);
    }
    free(c);
}

static int start(struct kl_webhook *w, struct kl_webhook_call *c, struct kl_req *r,
                 struct kl_str host, int port, struct kl_bytes *body, uint32_t timeout_ms,
                 struct kl_error *err)
{
    struct kl_http_header h[4 + KL_TRACE_HEADERS] = {
        {KL_STR("content-type"), KL_STR("application/json")},
        {KL_STR("accept"), KL_STR("application/json, */*")},
        {KL_STR("user-agent"), KL_STR("kube-apiserver-admission")},
    };
    size_t n = 3;
    if (w->authorization.n)
        h[n++] = (struct kl_http_header){KL_STR("authorization"), w->authorization};
    if (r && r->trace)
        n += kl_trace_headers(r, c->span, h + n);
    const char *target = strchr(c->url + strlen("https://"), '/');
    struct kl_http_call_spec spec = {.host = host.p,
                                     .port = port,
                                     .tls = w->tls,
                                     .method = KL_STR("POST"),
                                     .target = kl_str(target ? target : "/"),
                                     .headers = h,
                                     .nheaders = n,
                                     .body = body,
                                     .timeout_ms = timeout_ms};
    struct kl_http_client *http = c->wl->http;
    if (!w->exec)
        return kl_http_fetch(http, &spec, KL_WEBHOOK_MAX_ANSWER, on_answer, c, &c->call, err);
    int rc = kl_exec_fetch(w->exec, w->exec_tls, http, &spec, KL_WEBHOOK_MAX_ANSWER, on_answer, c,
                           &c->fetch, err);
    if (rc)
        return rc;
    if ((c->next = c->wl->fetching))
        c->next->pprev = &c->next;
    c->pprev = &c->wl->fetching;
    c->wl->fetching = c;
    return 0;
}

int kl_webhook_post(struct kl_webhook *w, struct kl_bytes *body, uint32_t timeout_ms,
                    bool timeout_query, kl_webhook_cb cb, void *arg,
                    struct kl_webhook_call **ret_or_null, struct kl_error *err)
{
    return kl_webhook_post_for(NULL, NULL, w, body, timeout_ms, timeout_query, cb, arg, ret_or_null,
                               err);
}

// The request's 504 comes first.
static uint32_t within_deadline(const struct kl_req *r, uint32_t timeout_ms)
{
    int64_t left = kl_deadline_left_ms(r);
    return left < INT64_MAX - AFTER_DEADLINE_MS && left + AFTER_DEADLINE_MS < timeout_ms
               ? (uint32_t)(left + AFTER_DEADLINE_MS)
               : timeout_ms;
}

int kl_webhook_post_for(struct kl_req *r, struct kl_span *parent, struct kl_webhook *w,
                        struct kl_bytes *body, uint32_t timeout_ms, bool timeout_query,
                        kl_webhook_cb cb, void *arg, struct kl_webhook_call **ret_or_null,
                        struct kl_error *err)
{
    struct kl_webhook_loop *wl = NULL;
    struct kl_arena a;
    char timeout[32] = "";
    int rc = loop_of(w->al, &wl, err);
    if (rc)
        return rc;
    struct kl_webhook_call *c = calloc(1, sizeof *c);
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    *c = (struct kl_webhook_call){.wl = wl, .cb = cb, .arg = arg};
    if (timeout_query)
        snprintf(timeout, sizeof timeout, "%stimeout=%us", w->query.n ? "&" : "",
                 (timeout_ms + 999) / 1000);
    int n = snprintf(c->url, sizeof c->url, "%.*s%s%.*s%s%.*s%s", KL_PRI(w->shown),
                     w->path.n && *w->path.p == '/' ? "" : "/", KL_PRI(w->path),
                     w->query.n || timeout_query ? "?" : "", KL_PRI(w->query), timeout);
    kl_arena_init(&a, 1 << 20);
    struct kl_service_end to = {.host = w->host, .port = w->port};
    if (n < 0 || (size_t)n >= sizeof c->url)
        rc = kl_error_set(err, KL_ETOOLARGE, "url is too long");
    else if (wl->flying >= KL_WEBHOOK_MAX_FLYING)
        rc = kl_error_set(err, KL_ETOOMANY, "Post \"%s\": too many calls of webhooks", c->url);
    else if (w->service && (rc = kl_service_find(w->al, &a, w->ns, w->name, w->port, &to, err)))
        kl_error_wrap(err, "Post \"%s\"", c->url);
    if (!rc && r && r->trace)
        c->span = kl_span_client(r, parent, KL_STR("POST"), kl_str(c->url));
    // A conversion may be for others too; a review is for this request alone.
    if (r && timeout_query)
        timeout_ms = within_deadline(r, timeout_ms);
    if (!rc && !(rc = start(w, c, r, to.host, to.port, body, timeout_ms, err)))
        wl->flying++;
    kl_arena_fini(&a);
    if (rc)
        kl_span_end(c->span);
    if (rc)
        free(c);
    else if (ret_or_null)
        *ret_or_null = c;
    return rc;
}

void kl_webhook_cancel(struct kl_webhook_call *c)
{
    c->cb = NULL;
    if (c->fetch)
        kl_exec_fetch_cancel(c->fetch);
    else
        kl_http_call_cancel(c->call);
}

// NewGenericServerResponse for a POST of no resource.
// The message of a Status that says it failed.
static struct kl_str failure_in(struct kl_arena *a, struct kl_str body)
{
    struct kl_str text = body.n && body.p[0] == '{' ? kl_arena_dup(a, body) : KL_STR("");
    struct kl_error err = {0};
    struct kl_value v;
    if (!text.n || kl_json_parse(a, text, NULL, &v, &err) || v.kind != KL_MAP ||
        !kl_str_eqz(kl_text(kl_map_value(&v, KL_STR("kind"))), "Status") ||
        !kl_str_eqz(kl_text(kl_map_value(&v, KL_STR("apiVersion"))), "v1") ||
        !kl_str_eqz(kl_text(kl_map_value(&v, KL_STR("status"))), "Failure"))
        return KL_STR("");
    return kl_text(kl_map_value(&v, KL_STR("message")));
}

struct kl_str kl_webhook_status_text(struct kl_arena *a, int status, struct kl_str body)
{
    static const struct {
        int status;
        const char *text;
    } known[] = {
        {400, "the server rejected our request for an unknown reason"},
        {401, "the server has asked for the client to provide credentials"},
        {404, "the server could not find the requested resource"},
        {405, "the server does not allow this method on the requested resource"},
        {409, "the server reported a conflict"},
        {422, "the server rejected our request due to an error in our request"},
        {429, "the server has received too many requests and has asked us to try again later"},
        {503, "the server is currently unable to handle the request"},
        {504, "the server was unable to return a response in the time allotted, but may still be "
              "processing the request"},
    };
    if (status >= 200 && status <= 206)
        return (struct kl_str){NULL, 0};
    struct kl_str failure = failure_in(a, body);
    if (failure.n)
        return failure;
    for (size_t i = 0; i < KL_COUNT(known); i++)
        if (known[i].status == status)
            return kl_str(known[i].text);
    while (body.n && (body.p[body.n - 1] == '\n' || body.p[body.n - 1] == ' '))
        body.n--;
    if (body.n > 2048)
        body.n = 2048;
    struct kl_str said = body.n ? body : KL_STR("unknown");
    if (status == 403 || status == 406 || status == 415)
        return kl_arena_dup(a, said);
    if (status < 500)
        return kl_arena_printf(
            a, "the server responded with the status code %d but did not return more information",
            status);
    struct kl_buf b;
    kl_buf_init(&b, 16 * 1024);
    kl_json_write_string(&b, said);
    struct kl_str text = kl_arena_printf(
        a, "an error on the server (%.*s) has prevented the request from succeeding",
        KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
    return text;
}
