// SPDX-License-Identifier: Apache-2.0
// Who is there, what is asked: everything but /healthz needs the client certificate that the
// options name.
#include "kubelet/server_int.h"
#include "object/json.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { STOP_DEADLINE_MS = 500 };

struct kl_kubelet_server {
    struct kl_kubelet *k;
    struct kl_http_server *http;
    struct kl_loop *loops[1];
    bool stopping, stopped;
};

struct kl_str kl_query_value(struct kl_arena *a, struct kl_str query, const char *name, int nth)
{
    struct kl_str part;
    while (kl_str_split(&query, '&', &part)) {
        ptrdiff_t eq = kl_str_chr(part, '=');
        struct kl_str key = eq < 0 ? part : (struct kl_str){part.p, (size_t)eq};
        struct kl_str v = eq < 0 ? KL_STR("") : kl_str_from(part, (size_t)eq + 1);
        if (!kl_str_eqz(key, name) || nth-- > 0)
            continue;
        char *out = kl_arena_alloc(a, v.n + 1);
        size_t n = 0;
        for (size_t i = 0; out && i < v.n; i++) {
            unsigned byte;
            char hex[3] = "";
            if (v.p[i] == '%' && i + 2 < v.n && (hex[0] = v.p[i + 1], hex[1] = v.p[i + 2], 1) &&
                sscanf(hex, "%2x", &byte) == 1) {
                out[n++] = (char)byte;
                i += 2;
            } else {
                out[n++] = v.p[i] == '+' ? ' ' : v.p[i];
            }
        }
        if (out)
            out[n] = 0;
        return (struct kl_str){out, n};
    }
    return (struct kl_str){NULL, 0};
}

bool kl_query_true(struct kl_arena *a, struct kl_str query, const char *name)
{
    struct kl_str v = kl_query_value(a, query, name, 0);
    return kl_str_eqz(v, "true") || kl_str_eqz(v, "1") || kl_str_eqz(v, "t") ||
           kl_str_eqz(v, "True") || kl_str_eqz(v, "TRUE");
}

void kl_answer_text(struct kl_http_req *r, int status, const char *fmt, ...)
{
    static const struct kl_http_header h[] = {
        KL_HTTP_HEADER("content-type", "text/plain; charset=utf-8"),
        KL_HTTP_HEADER("x-content-type-options", "nosniff")};
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    kl_http_respond(r, status, h, KL_COUNT(h), kl_str(text));
}

static bool allowed(struct kl_kubelet *k, struct kl_http_req *r)
{
    bool verified = false;
    X509 *cert = kl_http_peer_cert(r, &verified, NULL);
    struct kl_str cn, *orgs;
    size_t norgs;
    if (!cert || !verified || kl_tls_cert_user(cert, kl_http_req_arena(r), &cn, &orgs, &norgs))
        return false;
    if (k->conf.allowed_user[0] && kl_str_eqz(cn, k->conf.allowed_user))
        return true;
    for (size_t i = 0; i < norgs; i++)
        if (k->conf.allowed_group[0] && kl_str_eqz(orgs[i], k->conf.allowed_group))
            return true;
    return false;
}

static void serve_pods(struct kl_kubelet *k, struct kl_http_req *r)
{
    static const struct kl_http_header h[] = {KL_HTTP_HEADER("content-type", "application/json")};
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024 * 1024);
    kl_buf_puts(&b,
                KL_STR("{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{},\"items\":["));
    bool first = true;
    size_t it = 0;
    for (struct kl_entry *e; (e = kl_informer_next(k->pod_informer, &it)); first = false) {
        kl_buf_puts(&b, first ? KL_STR("") : KL_STR(","));
        kl_json_encode(&b, e->object->type, &e->object->root, KL_STR(""));
    }
    kl_buf_puts(&b, KL_STR("]}\n"));
    if (b.err)
        kl_answer_text(r, 500, "%s", kl_err_text(b.err));
    else
        kl_http_respond(r, 200, h, KL_COUNT(h), kl_buf_str(&b));
    kl_buf_fini(&b);
}

static void handle(void *arg, struct kl_http_req *r)
{
    struct kl_kubelet *k = arg;
    struct kl_str path = kl_http_path(r), rest = kl_str_from(path, 1);
    struct kl_route route = {.query = kl_http_query(r)};
    if (kl_str_eqz(path, "/healthz")) {
        kl_answer_text(r, 200, "ok");
        return;
    }
    if (!allowed(k, r)) {
        kl_answer_text(r, 401, "Unauthorized");
        return;
    }
    if (k->stopping) {
        kl_answer_text(r, 503, "the kubelet is stopping");
        return;
    }
    kl_str_split(&rest, '/', &route.verb);
    kl_str_split(&rest, '/', &route.ns);
    kl_str_split(&rest, '/', &route.pod);
    kl_str_split(&rest, '/', &route.container);
    if (kl_str_eqz(path, "/pods"))
        serve_pods(k, r);
    else if (kl_str_eqz(route.verb, "containerLogs") && route.container.n)
        kl_serve_logs(k, r, &route);
    else if (((kl_str_eqz(route.verb, "exec") || kl_str_eqz(route.verb, "attach")) &&
              route.container.n) ||
             (kl_str_eqz(route.verb, "portForward") && route.pod.n))
        kl_serve_stream(k, r, &route);
    else
        kl_answer_text(r, 404, "404 page not found\n");
}

int kl_kubelet_server_new(struct kl_kubelet *k, struct kl_kubelet_server **ret,
                          struct kl_error *err)
{
    *ret = NULL;
    if (!k->tls)
        return 0;
    struct kl_kubelet_server *s = calloc(1, sizeof(*s));
    if (!s)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    s->k = k;
    s->loops[0] = k->loop;
    struct kl_http_server_opts o = {.loops = s->loops,
                                    .nloops = 1,
                                    .address = k->conf.server_address,
                                    .port = k->conf.port,
                                    .tls = k->tls,
                                    .handler = handle,
                                    .arg = k};
    int r = kl_http_server_start(&o, &s->http, err);
    if (r) {
        free(s);
        return kl_error_wrap(err, "kubelet server on port %d", k->conf.port);
    }
    *ret = s;
    return 0;
}

static void on_stopped(void *arg)
{
    ((struct kl_kubelet_server *)arg)->stopped = true;
}

void kl_kubelet_server_stop(struct kl_kubelet_server *s)
{
    if (s->stopping)
        return;
    s->stopping = true;
    kl_http_server_stop(s->http, STOP_DEADLINE_MS, on_stopped, s);
}

bool kl_kubelet_server_stopped(const struct kl_kubelet_server *s)
{
    return !s || s->stopped;
}

void kl_kubelet_server_free(struct kl_kubelet_server *s)
{
    free(s);
}

int kl_kubelet_server_port(const struct kl_kubelet_server *s)
{
    return s && !s->stopping ? kl_http_server_port(s->http) : 0;
}
