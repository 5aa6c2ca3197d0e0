// SPDX-License-Identifier: Apache-2.0
#include "kubelet/handler.h"
#include <ctype.h>
#include <stdlib.h>

enum { MAX_HEADERS = 64, MAX_PROBE_BODY = 10 * 1024 };

void kl_handler_command(struct kl_arena *a, const struct kl_value *exec, struct kl_str **ret_cmd,
                        size_t *ret_n)
{
    const struct kl_value *list = kl_get(exec, KL_F_command);
    struct kl_str *cmd = kl_arena_zalloc(a, (kl_len(list) + 1) * sizeof(*cmd));
    size_t n = 0;
    for (KL_EACH(v, list))
        if (cmd)
            cmd[n++] = kl_text(v);
    *ret_cmd = cmd;
    *ret_n = n;
}

int kl_handler_port(const struct kl_value *port, const struct kl_value *container,
                    struct kl_error *err)
{
    int64_t n = kl_int_or(port, 0);
    struct kl_str name = kl_text(port);
    if (name.n && !kl_str_to_i64(name, &n))
        for (KL_EACH(p, kl_get(container, KL_F_ports)))
            if (kl_str_eq(kl_text_at(p, KL_F_name), name))
                n = kl_int_at(p, 0, KL_F_containerPort);
    if (n > 0 && n < 65536)
        return (int)n;
    return kl_error_set(err, KL_EINVALID, "invalid port number: %lld", (long long)n);
}

struct kl_str kl_handler_host(struct kl_pod *p)
{
    if (kl_true_at(kl_pod_root(p), KL_F_spec, KL_F_hostNetwork))
        return kl_str(p->k->conf.node_ip);
    return kl_str(p->rt.sandboxes ? p->rt.sandboxes->ips[0] : "");
}

// Only the status is wanted. The body is read for a while, as a peer may mind when it is not.
struct visit {
    kl_http_fetch_cb cb;
    void *arg;
    int status;
    size_t bytes;
    bool enough;
};

static void on_headers(void *arg, struct kl_http_call *call, int status,
                       const struct kl_http_header *h, size_t nh)
{
    ((struct visit *)arg)->status = status;
}

static void on_data(void *arg, struct kl_http_call *call, struct kl_str data)
{
    struct visit *v = arg;
    v->bytes += data.n;
    if (v->bytes > MAX_PROBE_BODY && !v->enough) {
        v->enough = true;
        kl_http_call_cancel(call);
    }
}

static void on_end(void *arg, struct kl_http_call *call, int status, const struct kl_error *err)
{
    struct visit *v = arg;
    v->cb(v->arg, status && !v->enough ? status : v->status, KL_STR(""), err);
    free(v);
}

static int visit(struct kl_http_client *c, const struct kl_http_call_spec *spec,
                 kl_http_fetch_cb cb, void *arg, struct kl_http_call **ret_or_null,
                 struct kl_error *err)
{
    static const struct kl_http_call_cbs cbs = {
        .on_headers = on_headers, .on_data = on_data, .on_end = on_end};
    struct kl_http_call *call;
    struct visit *v = calloc(1, sizeof(*v));
    if (!v)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    *v = (struct visit){.cb = cb, .arg = arg};
    int r = kl_http_call_start(c, spec, &cbs, v, &call, err);
    if (r)
        free(v);
    else if (ret_or_null)
        *ret_or_null = call;
    return r;
}

int kl_handler_http(struct kl_pod *p, const struct kl_value *http, struct kl_str container,
                    uint32_t timeout_ms, kl_http_fetch_cb cb, void *arg,
                    struct kl_http_call **ret_or_null, struct kl_error *err)
{
    const struct kl_value *spec = kl_pod_container(kl_pod_root(p), container, NULL);
    int port = kl_handler_port(kl_get(http, KL_F_port), spec, err);
    if (port < 0)
        return port;
    struct kl_arena a;
    kl_arena_init(&a, 1024 * 1024);
    struct kl_http_header h[MAX_HEADERS];
    size_t nh = 0;
    bool agent = false, accept = false;
    for (KL_EACH(v, kl_get(http, KL_F_httpHeaders))) {
        struct kl_str name = kl_arena_dup(&a, kl_text_at(v, KL_F_name));
        if (nh + 2 >= MAX_HEADERS || !name.p)
            break;
        for (size_t i = 0; i < name.n; i++)
            ((char *)(uintptr_t)name.p)[i] = (char)tolower((unsigned char)name.p[i]);
        agent = agent || kl_str_eqz(name, "user-agent");
        accept = accept || kl_str_eqz(name, "accept");
        h[nh++] = (struct kl_http_header){name, kl_text_at(v, KL_F_value)};
    }
    if (!agent)
        h[nh++] = (struct kl_http_header){KL_STR("user-agent"), KL_STR("kube-probe/1.36")};
    if (!accept)
        h[nh++] = (struct kl_http_header){KL_STR("accept"), KL_STR("*/*")};
    struct kl_str host = kl_text_at(http, KL_F_host), path = kl_text_at(http, KL_F_path);
    host = kl_arena_dup(&a, host.n ? host : kl_handler_host(p));
    bool slash = kl_str_starts(path, KL_STR("/"));
    path = kl_arena_printf(&a, "%s%.*s", slash ? "" : "/", KL_PRI(path));
    struct kl_tls_ctx *tls = NULL;
    int r = 0;
    if (kl_str_eqz(kl_text_at(http, KL_F_scheme), "HTTPS")) {
        struct kl_tls_client_opts o = {.insecure_skip_verify = true};
        r = kl_tls_client_new(&o, &tls, err);
    }
    struct kl_http_call_spec cs = {.host = host.p,
                                   .port = port,
                                   .tls = tls,
                                   .target = path,
                                   .headers = h,
                                   .nheaders = nh,
                                   .timeout_ms = timeout_ms};
    if (!r)
        r = visit(p->k->http, &cs, cb, arg, ret_or_null, err);
    kl_tls_ctx_unref(tls);
    kl_arena_fini(&a);
    return r;
}
