// SPDX-License-Identifier: Apache-2.0
// Subresources that are streams: log, exec, attach and portforward go to the kubelet of the pod's
// node. Upgrades (WebSocket and SPDY alike) are passed through byte by byte.
#include "apiserver/auth/auth.h"
#include "apiserver/auth/revoke.h"
#include "apiserver/server_int.h"
#include "watchcache/filter.h"
#include <stdio.h>
#include <stdlib.h>

enum { ERROR_BODY_MAX = 64 * 1024, QUEUE_HIGH = 256 * 1024, MAX_FORWARDED = 48 };

struct stream {
    struct kl_api_call *call;
    struct kl_http_call *up; // to the kubelet; NULL once it ended
    bool is_log, answered, upstream_ended, closed, failed;
    int status; // of the kubelet's answer
    struct kl_buf error_body;
    // log: what the kubelet sent and the client has not taken
    struct kl_bytes **queue;
    size_t nqueue, cap, queued_bytes;
    bool paused;
    struct kl_http_header up_headers[MAX_FORWARDED];
    size_t nup;
    struct kl_revocable revocable;
};

static void end_log(struct kl_revocable *r)
{
    struct stream *s = KL_CONTAINER_OF(r, struct stream, revocable);
    s->failed = true;
    kl_http_resume(s->call->hr);
}

static void drop_queue(struct stream *s)
{
    kl_revocable_remove(&s->revocable);
    for (size_t i = 0; i < s->nqueue; i++)
        kl_bytes_unref(s->queue[i]);
    free(s->queue);
    kl_buf_fini(&s->error_body);
    kl_http_req_on_close(s->call->hr, NULL, NULL);
}

static void free_stream(struct stream *s)
{
    drop_queue(s);
    kl_api_call_release(s->call); // frees s: the request's arena
}

static void fail_stream(struct stream *s)
{
    drop_queue(s);
    kl_req_fail(&s->call->req);
}

// The client went away: the kubelet need not go on.
static void on_client_close(void *arg, struct kl_http_req *hr, int status)
{
    struct stream *s = arg;
    (void)hr, (void)status;
    s->closed = true;
    if (s->up)
        kl_http_call_cancel(s->up); // on_end runs inside and frees
}

// ---- log: pull from the queue

static int pull_log(void *arg, struct kl_http_chunk *chunks, int max, bool *ret_end)
{
    struct stream *s = arg;
    int n = 0;
    if (s->failed)
        return KL_ENOMEM; // cut off: a log with a hole in it must not look whole
    while (n < max && (size_t)n < s->nqueue) {
        chunks[n] = (struct kl_http_chunk){.bytes = s->queue[n], .n = s->queue[n]->n};
        s->queued_bytes -= s->queue[n]->n;
        n++;
    }
    memmove(s->queue, s->queue + n, (s->nqueue - (size_t)n) * sizeof *s->queue);
    s->nqueue -= (size_t)n;
    if (s->paused && s->queued_bytes < QUEUE_HIGH / 2 && s->up) {
        s->paused = false;
        kl_http_call_resume(s->up);
    }
    if (s->upstream_ended && !s->nqueue)
        *ret_end = true;
    return n;
}

static void close_log(void *arg)
{
    struct stream *s = arg;
    s->closed = true;
    if (s->up)
        kl_http_call_cancel(s->up); // on_end runs inside and frees
    else
        free_stream(s);
}

static const struct kl_http_source log_source = {.pull = pull_log, .close = close_log};

static void on_headers(void *arg, struct kl_http_call *up, int status,
                       const struct kl_http_header *h, size_t nh)
{
    struct stream *s = arg;
    struct kl_arena *a = s->call->req.arena;
    s->status = status;
    for (size_t i = 0; i < nh && s->nup < MAX_FORWARDED; i++)
        s->up_headers[s->nup++] =
            (struct kl_http_header){kl_arena_dup(a, h[i].name), kl_arena_dup(a, h[i].value)};
    if (!s->is_log || status != 200)
        return;
    struct kl_http_header out[] = {KL_HTTP_HEADER("content-type", "text/plain"),
                                   KL_HTTP_HEADER("cache-control", "no-cache, private")};
    s->answered = true;
    kl_revocable_add(s->call->req.al, &s->revocable, s->call->req.user, end_log);
    kl_http_req_on_close(s->call->hr, NULL, NULL); // the source's close comes from now on
    if (kl_http_respond_stream(s->call->hr, 200, out, KL_COUNT(out), &log_source, s)) {
        s->closed = true;
        kl_http_call_cancel(up);
    }
}

static void on_data(void *arg, struct kl_http_call *up, struct kl_str data)
{
    struct stream *s = arg;
    if (!s->answered) {
        kl_buf_puts(&s->error_body, data);
        return;
    }
    struct kl_bytes *b = s->failed ? NULL : kl_bytes_new(data);
    if (b && s->nqueue == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 16;
        struct kl_bytes **q = realloc(s->queue, cap * sizeof *q);
        if (q) {
            s->queue = q;
            s->cap = cap;
        } else {
            kl_bytes_unref(b);
            b = NULL;
        }
    }
    if (!b) {
        s->failed = true;
        kl_http_resume(s->call->hr);
        return;
    }
    s->queue[s->nqueue++] = b;
    s->queued_bytes += b->n;
    if (s->queued_bytes > QUEUE_HIGH && !s->paused) {
        s->paused = true;
        kl_http_call_pause(up);
    }
    kl_http_resume(s->call->hr);
}

// ---- exec and its kin: the raw connection

static bool is_handshake_header(struct kl_str n)
{
    return kl_str_starts(n, KL_STR("sec-websocket-")) || kl_str_eqz(n, "x-stream-protocol-version");
}

// Outlives the request, but not its user's revocation.
struct tunnel {
    struct kl_revocable revocable;
    struct kl_splice *splice;
};

static void tunnel_done(void *arg, int status, uint64_t up, uint64_t down)
{
    struct tunnel *t = arg;
    (void)status, (void)up, (void)down;
    kl_revocable_remove(&t->revocable);
    free(t);
}

static void end_tunnel(struct kl_revocable *r)
{
    kl_splice_cancel(KL_CONTAINER_OF(r, struct tunnel, revocable)->splice);
}

static void join_ends(struct stream *s, struct kl_duplex *client, struct kl_duplex *node)
{
    struct kl_req *r = &s->call->req;
    struct tunnel *t = calloc(1, sizeof *t);
    if (!t) {
        kl_duplex_close(client);
        kl_duplex_close(node);
        return;
    }
    t->splice = kl_splice_start(client, node, tunnel_done, t);
    if (t->splice)
        kl_revocable_add(r->al, &t->revocable, r->user, end_tunnel);
    else
        free(t);
}

static void on_upgrade(void *arg, struct kl_http_call *up, struct kl_duplex *d)
{
    struct stream *s = arg;
    struct kl_http_header out[8];
    struct kl_str protocol = kl_http_header(s->call->hr, KL_STR("upgrade"));
    struct kl_duplex *client;
    struct kl_error err = {0};
    size_t n = 0;
    (void)up;
    for (size_t i = 0; i < s->nup && n < KL_COUNT(out); i++)
        if (is_handshake_header(s->up_headers[i].name))
            out[n++] = s->up_headers[i];
    s->answered = true;
    kl_http_req_on_close(s->call->hr, NULL, NULL); // the tunnel sees to itself
    if (kl_http_upgrade(s->call->hr, protocol, out, n, &client, &err)) {
        kl_duplex_close(d);
        kl_http_abort(s->call->hr);
        return;
    }
    join_ends(s, client, d);
}

// What the kubelet said instead, as a Status (rest.GenericHttpResponseChecker).
static void refuse(struct stream *s, int status, const struct kl_error *err)
{
    struct kl_req *r = &s->call->req;
    struct kl_str text = kl_str_trim(kl_buf_str(&s->error_body));
    if (status < 0) {
        kl_fail_set(r, 500, "InternalError", "Internal error occurred: error dialing backend: %s",
                    err->msg);
    } else if (s->status == 404) {
        kl_fail_set(r, 404, "NotFound", "%.*s", KL_PRI(text));
    } else if (s->status >= 400 && s->status < 500) {
        kl_fail_set(r, s->status, s->status == 403 ? "Forbidden" : "BadRequest", "%.*s",
                    KL_PRI(text));
    } else {
        kl_fail_internal(r, "%.*s",
                         KL_PRI(text.n ? text : KL_STR("unexpected answer of the node")));
    }
    fail_stream(s);
}

static void on_end(void *arg, struct kl_http_call *up, int status, const struct kl_error *err)
{
    struct stream *s = arg;
    (void)up;
    s->up = NULL;
    s->upstream_ended = true;
    s->failed |= s->answered && status < 0;
    if (s->closed || (s->answered && !s->is_log)) {
        free_stream(s);
        return;
    }
    if (!s->answered) {
        refuse(s, status, err);
        return;
    }
    kl_http_resume(s->call->hr);
}

static const struct kl_http_call_cbs up_cbs = {
    .on_headers = on_headers, .on_data = on_data, .on_upgrade = on_upgrade, .on_end = on_end};

// ---- where to

static struct kl_object *get_object(struct kl_req *r, uint16_t res, struct kl_str ns,
                                    struct kl_str name)
{
    struct kl_error err;
    struct kl_str key = kl_object_key(r->arena, kl_res(res), ns, name);
    struct kl_kv *kv = key.p ? kl_view_get(kl_req_view(r), key) : NULL;
    return kv ? kl_cache_object(kv, kl_res(res), &err) : NULL;
}

static bool names_container(const struct kl_value *pod, struct kl_str name)
{
    static const kl_sym lists[] = {KL_F_containers, KL_F_initContainers, KL_F_ephemeralContainers};
    for (size_t l = 0; l < KL_COUNT(lists); l++)
        for (KL_EACH(c, kl_path(pod, KL_F_spec, lists[l])))
            if (kl_str_eq(kl_text(kl_get(c, KL_F_name)), name))
                return true;
    return false;
}

static void list_names(struct kl_buf *b, const struct kl_value *list)
{
    bool first = true;
    for (KL_EACH(c, list)) {
        kl_buf_printf(b, "%s%.*s", first ? "" : " ", KL_PRI(kl_text(kl_get(c, KL_F_name))));
        first = false;
    }
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
    struct kl_str by_note = kl_text(
        kl_map_value(kl_meta_annotations(pod), KL_STR("kubectl.kubernetes.io/default-container")));
    if (by_note.n && names_container(pod, by_note)) {
        *name = by_note;
        return 0;
    }
    if (kl_len(all) == 1) {
        *name = kl_text(kl_get(kl_at(all, 0), KL_F_name));
        return 0;
    }
    struct kl_buf b;
    const struct kl_value *init = kl_path(pod, KL_F_spec, KL_F_initContainers);
    kl_buf_init(&b, 64 * 1024);
    kl_buf_printf(&b, "a container name must be specified for pod %.*s, choose one of: [",
                  KL_PRI(r->info.name));
    list_names(&b, all);
    kl_buf_putc(&b, ']');
    if (kl_len(init)) {
        kl_buf_puts(&b, KL_STR(" or one of the init containers: ["));
        list_names(&b, init);
        kl_buf_putc(&b, ']');
    }
    kl_fail_bad(r, "%.*s", KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
    return KL_EBADREQUEST;
}

static struct kl_str node_address(const struct kl_value *node)
{
    for (KL_EACH(x, kl_path(node, KL_F_status, KL_F_addresses)))
        if (kl_str_eqz(kl_text(kl_get(x, KL_F_type)), "InternalIP"))
            return kl_text(kl_get(x, KL_F_address));
    return KL_STR("");
}

static void put_escaped(struct kl_buf *b, struct kl_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            strchr("-_.~", c))
            kl_buf_putc(b, (char)c);
        else
            kl_buf_printf(b, "%%%02X", c);
    }
}

static const char *kubelet_path(struct kl_str sub)
{
    return kl_str_eqz(sub, "log")      ? "containerLogs"
           : kl_str_eqz(sub, "exec")   ? "exec"
           : kl_str_eqz(sub, "attach") ? "attach"
                                       : "portForward";
}

// The kubelet's names of exec's options differ from the API's.
static struct kl_str kubelet_option(struct kl_str name)
{
    static const struct {
        const char *api, *kubelet;
    } names[] = {{"stdin", "input"}, {"stdout", "output"}, {"stderr", "error"}};
    for (size_t i = 0; i < KL_COUNT(names); i++)
        if (kl_str_eqz(name, names[i].api))
            return kl_str(names[i].kubelet);
    return name;
}

static void put_query(struct kl_buf *b, struct kl_req *r, struct kl_str query)
{
    struct kl_str n, v;
    bool first = true, log = kl_str_eqz(r->info.sub, "log");
    while (kl_query_next(r->arena, &query, &n, &v)) {
        if (kl_str_eqz(n, "container"))
            continue;
        struct kl_str name = log ? n : kubelet_option(n);
        bool flag = name.p != n.p || kl_str_eqz(n, "tty");
        if (flag && !kl_str_eqz(v, "true") && !kl_str_eqz(v, "1"))
            continue;
        kl_buf_putc(b, first ? '?' : '&');
        kl_buf_puts(b, name);
        kl_buf_putc(b, '=');
        put_escaped(b, flag && !log ? KL_STR("1") : v);
        first = false;
    }
}

// The tokens that may be among the protocols are for this server.
static struct kl_http_header forwarded(struct kl_arena *a, const struct kl_http_header *h)
{
    if (!kl_str_eqz(h->name, "sec-websocket-protocol"))
        return *h;
    return (struct kl_http_header){h->name, kl_authn_strip_protocols(a, h->value)};
}

static void start(struct kl_api_call *c, const struct kl_value *node, struct kl_str target)
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
    if (!s) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    s->call = c;
    s->is_log = log;
    kl_buf_init(&s->error_body, ERROR_BODY_MAX);
    for (size_t i = 0; !log && i < nh && n < MAX_FORWARDED; i++)
        if (is_handshake_header(in[i].name) || kl_str_eqz(in[i].name, "upgrade") ||
            kl_str_eqz(in[i].name, "connection"))
            h[n++] = forwarded(r->arena, &in[i]);
    int64_t port =
        kl_int_at(node, 10250, KL_F_status, KL_F_daemonEndpoints, KL_F_kubeletEndpoint, KL_F_Port);
    struct kl_http_call_spec spec = {.host = kl_arena_dup(r->arena, node_address(node)).p,
                                     .port = (int)port,
                                     .tls = r->srv->kubelet_tls,
                                     .proto = KL_HTTP_1,
                                     .method = kl_http_method(c->hr),
                                     .target = target,
                                     .headers = h,
                                     .nheaders = n,
                                     .header_timeout_ms = 30000,
                                     .upgrade = !log};
    if (kl_http_call_start(al->http, &spec, &up_cbs, s, &s->up, &err)) {
        kl_fail_err(r, &err);
        fail_stream(s);
        return;
    }
    kl_http_req_on_close(c->hr, on_client_close, s);
}

bool kl_is_connect(const struct kl_req_info *i)
{
    static const char *const names[] = {"log", "exec", "attach", "portforward", "proxy"};
    for (size_t k = 0; i->subres && k < KL_COUNT(names); k++)
        if (kl_str_eqz(i->sub, names[k]))
            return true;
    return false;
}

void kl_connect_run(struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    if (r->info.res->index != KL_RES_core_v1_pods || kl_str_eqz(r->info.sub, "proxy")) {
        kl_fail_set(r, 503, "ServiceUnavailable", "no endpoints available for service \"%.*s\"",
                    KL_PRI(r->info.name));
        kl_req_fail(r);
        return;
    }
    struct kl_object *pod = get_object(r, KL_RES_core_v1_pods, r->info.ns, r->info.name);
    struct kl_str container = kl_query_get(r->arena, kl_http_query(c->hr), KL_STR("container"));
    bool forward = kl_str_eqz(r->info.sub, "portforward");
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
    struct kl_object *node = get_object(r, KL_RES_core_v1_nodes, KL_STR(""), on);
    if (!node || !node_address(&node->root).n) {
        kl_fail_not_found_of(r, KL_STR(""), KL_STR("nodes"), on);
        kl_req_fail(r);
        return;
    }
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_buf_printf(&b, "/%s/%.*s/%.*s", kubelet_path(r->info.sub), KL_PRI(r->info.ns),
                  KL_PRI(r->info.name));
    if (!forward)
        kl_buf_printf(&b, "/%.*s", KL_PRI(container));
    put_query(&b, r, kl_http_query(c->hr));
    struct kl_str target = b.err ? (struct kl_str){0} : kl_arena_dup(r->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    if (!target.p) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    start(c, &node->root, target);
}
