// SPDX-License-Identifier: Apache-2.0
// exec, attach and portForward. The runtime's streaming server speaks SPDY/3.1 with the protocol
// v4.channel.k8s.io. A SPDY client is joined to it byte by byte. A WebSocket client (what kubectl
// opens first) speaks v5.channel.k8s.io or v4: its channels are joined to SPDY streams one by one.
//
//   channel 0 stdin, 1 stdout, 2 stderr, 3 error (a Status at the end), 4 resize; v5: 255 N closes
//   N
#include "kubelet/server_int.h"
#include "net/http_client.h"
#include "net/spdy.h"
#include "net/ws.h"
#include <stdlib.h>

enum channel { STDIN, STDOUT, STDERR, ERROR, RESIZE, CHANNELS, CLOSE_CHANNEL = 255 };
enum { MAX_COMMAND = 4096, DIAL_TIMEOUT_MS = 30000, MAX_MESSAGE_BYTES = 1024 * 1024 };

static const char *const stream_types[] = {"stdin", "stdout", "stderr", "error", "resize"};

struct session;
struct pipe {
    struct session *s;
    enum channel channel;
    struct kl_duplex *d;
    bool ended;
};

struct session {
    struct kl_kubelet *k;
    struct kl_http_req *req; // until it is answered; NULL when it went away
    bool wanted[CHANNELS], v5, portforward;
    char *host, *target;
    int port;
    struct kl_ws *ws;
    struct kl_spdy *spdy;
    struct kl_duplex *transport; // the session's own, until it closes: only paused and resumed
    struct pipe pipes[CHANNELS];
    int open_pipes;
    bool ws_closed, ending, got_upgrade;
    struct kl_task finish;
    bool finishing;
    struct kl_str protocol;
};

static const struct kl_str ws_protocols[] = {KL_STR_INIT("v5.channel.k8s.io"),
                                             KL_STR_INIT("v4.channel.k8s.io")};

static void free_session(struct session *s)
{
    struct kl_kubelet *k = s->k;
    if (s->req) {
        kl_http_req_on_close(s->req, NULL, NULL);
        kl_http_req_unref(s->req);
    }
    free(s->host);
    free(s->target);
    free(s);
    kl_kubelet_release(k);
}

static void do_finish(struct kl_task *t)
{
    struct session *s = KL_CONTAINER_OF(t, struct session, finish);
    for (int i = 0; i < CHANNELS; i++)
        if (s->pipes[i].d)
            kl_duplex_close(s->pipes[i].d);
    if (s->spdy)
        kl_spdy_free(s->spdy);
    if (s->ws)
        kl_ws_free(s->ws);
    free_session(s);
}

// Later, because a callback of one of its parts is running.
static void finish(struct session *s)
{
    if (s->finishing)
        return;
    s->finishing = true;
    s->finish.run = do_finish;
    kl_loop_defer(s->k->loop, &s->finish);
}

// ---- the runtime's side of a WebSocket session

static void all_ended(struct session *s)
{
    if (s->ending || s->finishing)
        return;
    s->ending = true;
    if (s->ws && !s->ws_closed)
        kl_ws_close(s->ws, 1000, KL_STR("")); // on_close finishes
    else
        finish(s);
}

// When what the container writes has ended; its input may still be open.
static void pipe_ended(struct pipe *p)
{
    struct session *s = p->s;
    if (p->ended)
        return;
    p->ended = true;
    for (int i = STDOUT; i <= ERROR; i++)
        if (s->wanted[i] && !s->pipes[i].ended)
            return;
    all_ended(s);
}

static void on_pipe_data(void *arg, struct kl_str data)
{
    struct pipe *p = arg;
    char head = (char)p->channel;
    if (p->s->finishing || !p->s->ws)
        return;
    // A message over the WebSocket's bound cannot come: the transport was paused long before.
    kl_ws_send(p->s->ws, KL_WS_BINARY, (struct kl_str){&head, 1}, data);
    // The runtime's side (moby/spdystream) knows no flow control: only a transport that is not
    // read from slows it down, and what was read must not wait in a stream when it closes.
    if (kl_ws_full(p->s->ws) && p->s->transport)
        kl_duplex_pause(p->s->transport);
}

static void on_pipe_eof(void *arg)
{
    pipe_ended(arg); // v5 closes channels in the client's direction only
}

static void on_pipe_drain(void *arg)
{
    struct pipe *p = arg;
    if (p->s->ws && !p->s->finishing)
        kl_ws_resume(p->s->ws);
}

static void on_pipe_close(void *arg, int status)
{
    pipe_ended(arg);
}

static const struct kl_duplex_cbs pipe_cbs = {on_pipe_data, on_pipe_eof, on_pipe_drain,
                                              on_pipe_close};

static void on_spdy_close(void *arg, int status)
{
    ((struct session *)arg)->transport = NULL;
    all_ended(arg);
}

static const struct kl_spdy_cbs spdy_cbs = {NULL, on_spdy_close};

// ---- the client's side

static void on_message(void *arg, enum kl_ws_op op, struct kl_str data)
{
    struct session *s = arg;
    if (!data.n || s->finishing)
        return;
    unsigned channel = (unsigned char)data.p[0];
    data = kl_str_from(data, 1);
    if (channel == CLOSE_CHANNEL && s->v5 && data.n) {
        channel = (unsigned char)data.p[0];
        if (channel == STDIN && s->pipes[STDIN].d)
            kl_duplex_shutdown(s->pipes[STDIN].d);
        return;
    }
    if ((channel != STDIN && channel != RESIZE) || !s->pipes[channel].d || !data.n)
        return;
    kl_duplex_write(s->pipes[channel].d, data);
    if (channel == STDIN && kl_duplex_full(s->pipes[STDIN].d))
        kl_ws_pause(s->ws);
}

static void on_ws_drain(void *arg)
{
    struct session *s = arg;
    if (s->transport && !s->finishing)
        kl_duplex_resume(s->transport);
}

static void on_ws_close(void *arg, int code, struct kl_str reason)
{
    struct session *s = arg;
    s->ws_closed = true;
    finish(s);
}

static const struct kl_ws_cbs ws_cbs = {on_message, on_ws_drain, on_ws_close};

// ---- joining

static int open_pipes(struct session *s, struct kl_error *err)
{
    // The order in which client-go opens them; the server waits for all of them.
    static const enum channel order[] = {ERROR, STDIN, STDOUT, STDERR, RESIZE};
    for (size_t i = 0; i < KL_COUNT(order); i++) {
        enum channel c = order[i];
        struct pipe *p = &s->pipes[c];
        if (!s->wanted[c])
            continue;
        struct kl_http_header h[] = {{KL_STR("streamtype"), kl_str(stream_types[c])}};
        int r = kl_spdy_open(s->spdy, h, 1, NULL, NULL, &p->d, err);
        if (r)
            return r;
        p->s = s;
        p->channel = c;
        kl_duplex_start(p->d, &pipe_cbs, p);
    }
    return 0;
}

static void join_websocket(struct session *s, struct kl_duplex *d)
{
    struct kl_error err;
    struct kl_ws_opts wo = {.max_message_bytes = MAX_MESSAGE_BYTES};
    // No window updates: the runtime ignores them, and one that reaches it after it has closed is
    // answered with a reset, which throws away what we have not read yet.
    struct kl_spdy_opts so = {.initial_window = 1u << 30};
    struct kl_http_req *r = s->req;
    if (kl_spdy_new(d, true, &so, &spdy_cbs, s, &s->spdy, &err) || open_pipes(s, &err)) {
        kl_answer_text(r, 500, "%s", err.msg);
        finish(s);
        return;
    }
    s->transport = d;
    kl_http_req_on_close(r, NULL, NULL);
    if (kl_ws_accept(r, s->protocol, NULL, 0, &wo, &s->ws, &err)) {
        kl_answer_text(r, 400, "%s", err.msg);
        finish(s);
    } else {
        kl_ws_start(s->ws, &ws_cbs, s);
    }
    kl_http_req_unref(r);
    s->req = NULL;
}

static void on_spliced(void *arg, int status, uint64_t there, uint64_t back)
{
    free_session(arg);
}

static void join_bytes(struct session *s, struct kl_duplex *d)
{
    struct kl_http_req *r = s->req;
    struct kl_duplex *client;
    struct kl_error err;
    struct kl_http_header h[] = {{KL_STR("x-stream-protocol-version"), s->protocol}};
    kl_http_req_on_close(r, NULL, NULL);
    if (kl_http_upgrade(r, KL_STR("SPDY/3.1"), h, s->protocol.n ? 1 : 0, &client, &err)) {
        kl_answer_text(r, 400, "%s", err.msg);
        kl_duplex_close(d);
        finish(s);
    } else if (!kl_splice_start(client, d, on_spliced, s)) {
        finish(s);
    }
    kl_http_req_unref(r);
    s->req = NULL;
}

static void on_headers(void *arg, struct kl_http_call *call, int status,
                       const struct kl_http_header *h, size_t nh)
{
    struct session *s = arg;
    if (status != 101 && s->req) {
        kl_answer_text(s->req, status >= 400 ? status : 502,
                       "the container runtime's streaming server answered %d", status);
        kl_http_req_on_close(s->req, NULL, NULL);
        kl_http_req_unref(s->req);
        s->req = NULL;
        return;
    }
    for (size_t i = 0; i < nh && s->req; i++)
        if (kl_str_eqz(h[i].name, "x-stream-protocol-version") && !s->v5 && !s->protocol.n)
            s->protocol = kl_arena_dup(kl_http_req_arena(s->req), h[i].value);
}

static void on_upgrade(void *arg, struct kl_http_call *call, struct kl_duplex *d)
{
    struct session *s = arg;
    if (!s->req || s->k->stopping) {
        kl_duplex_close(d);
        return;
    }
    s->got_upgrade = true;
    if (kl_ws_is_upgrade(s->req))
        join_websocket(s, d);
    else
        join_bytes(s, d);
}

static void on_end(void *arg, struct kl_http_call *call, int status, const struct kl_error *err)
{
    struct session *s = arg;
    if (s->got_upgrade)
        return;
    if (s->req)
        kl_answer_text(s->req, 502, "the container runtime's streaming server: %s",
                       status ? err->msg : "no upgrade");
    finish(s);
}

static void dial_runtime(struct session *s)
{
    static const struct kl_http_call_cbs cbs = {on_headers, NULL, on_upgrade, on_end};
    struct kl_http_header h[MAX_COMMAND / 256] = {{KL_STR("upgrade"), KL_STR("SPDY/3.1")},
                                                  {KL_STR("connection"), KL_STR("Upgrade")}};
    size_t nh = 2, n;
    bool ws = kl_ws_is_upgrade(s->req);
    if (ws)
        h[nh++] = (struct kl_http_header){KL_STR("x-stream-protocol-version"),
                                          KL_STR("v4.channel.k8s.io")};
    // A SPDY client's own offers.
    const struct kl_http_header *in = kl_http_headers(s->req, &n);
    for (size_t i = 0; !ws && i < n && nh < KL_COUNT(h); i++)
        if (kl_str_eqz(in[i].name, "x-stream-protocol-version"))
            h[nh++] = in[i];
    struct kl_http_call_spec spec = {.host = s->host,
                                     .port = s->port,
                                     .proto = KL_HTTP_1,
                                     .method = KL_STR("POST"),
                                     .target = kl_str(s->target),
                                     .headers = h,
                                     .nheaders = nh,
                                     .header_timeout_ms = DIAL_TIMEOUT_MS,
                                     .upgrade = true};
    struct kl_error err;
    struct kl_http_call *call;
    if (kl_http_call_start(s->k->http, &spec, &cbs, s, &call, &err)) {
        kl_answer_text(s->req, 502, "the container runtime's streaming server: %s", err.msg);
        finish(s);
    }
}

// "http://127.0.0.1:41234/exec/TOKEN"
static bool take_url(struct session *s, struct kl_str url)
{
    struct kl_str rest = url;
    int64_t port = 80;
    if (!kl_str_starts(rest, KL_STR("http://")))
        return false;
    rest = kl_str_from(rest, 7);
    ptrdiff_t slash = kl_str_chr(rest, '/');
    if (slash < 0)
        return false;
    struct kl_str authority = {rest.p, (size_t)slash};
    ptrdiff_t colon = kl_str_chr(authority, ':');
    if (colon >= 0 && !kl_str_to_i64(kl_str_from(authority, (size_t)colon + 1), &port))
        return false;
    if (colon >= 0)
        authority.n = (size_t)colon;
    s->host = kl_strdup(authority);
    s->target = kl_strdup(kl_str_from(rest, (size_t)slash));
    s->port = (int)port;
    return true;
}

static void have_url(struct session *s, enum kl_grpc_code code, struct kl_str url,
                     const struct kl_error *err)
{
    if (s->req && code)
        kl_answer_text(s->req, 500, "%s", err->msg);
    else if (s->req && !take_url(s, url))
        kl_answer_text(s->req, 502, "the container runtime gave no URL to connect to");
    else if (s->req && !s->k->stopping) {
        dial_runtime(s);
        return;
    }
    finish(s);
}

// The three answers are alike: one URL.
static void on_url(void *arg, enum kl_grpc_code code, const void *reply, const struct kl_error *err)
{
    const struct kl_cri_exec_response *r = reply;
    _Static_assert(offsetof(struct kl_cri_exec_response, url) ==
                           offsetof(struct kl_cri_attach_response, url) &&
                       offsetof(struct kl_cri_exec_response, url) ==
                           offsetof(struct kl_cri_port_forward_response, url),
                   "read through one of them");
    have_url(arg, code, r ? r->url : KL_STR(""), err);
}

static void on_req_close(void *arg, struct kl_http_req *r, int status)
{
    struct session *s = arg;
    kl_http_req_unref(s->req);
    s->req = NULL; // the call under way ends the session
}

static void ask_exec(struct session *s, const struct kl_ctr *c, const struct kl_route *route)
{
    struct kl_arena *a = kl_http_req_arena(s->req);
    struct kl_str *cmd = kl_arena_alloc(a, MAX_COMMAND * sizeof(*cmd));
    struct kl_cri_exec_request req = {.container_id = kl_str(c->id),
                                      .cmd = cmd,
                                      .tty = s->wanted[RESIZE],
                                      .stdin = s->wanted[STDIN],
                                      .stdout = s->wanted[STDOUT],
                                      .stderr = s->wanted[STDERR]};
    struct kl_str v;
    while (cmd && req.n_cmd < MAX_COMMAND &&
           (v = kl_query_value(a, route->query, "command", (int)req.n_cmd)).p)
        cmd[req.n_cmd++] = v;
    kl_cri_start(s->k->cri, KL_CRI_EXEC, &req, DIAL_TIMEOUT_MS, on_url, s, NULL);
}

static void ask(struct session *s, struct kl_pod *p, const struct kl_ctr *c,
                const struct kl_route *route)
{
    struct kl_arena *a = kl_http_req_arena(s->req);
    if (s->portforward) {
        struct kl_cri_port_forward_request req = {.pod_sandbox_id = kl_str(p->rt.sandboxes->id)};
        int32_t ports[64];
        struct kl_str v, one;
        int64_t n;
        req.port = ports;
        for (int i = 0; i < KL_COUNT(ports); i++) // several in one value or in several
            for (v = kl_query_value(a, route->query, "port", i); kl_str_split(&v, ',', &one);)
                if (req.n_port < KL_COUNT(ports) && kl_str_to_i64(one, &n))
                    ports[req.n_port++] = (int32_t)n;
        kl_cri_start(s->k->cri, KL_CRI_PORT_FORWARD, &req, DIAL_TIMEOUT_MS, on_url, s, NULL);
        return;
    }
    bool tty = kl_query_true(a, route->query, "tty");
    s->wanted[ERROR] = true;
    s->wanted[STDIN] =
        kl_query_true(a, route->query, "input") || kl_query_true(a, route->query, "stdin");
    s->wanted[STDOUT] =
        kl_query_true(a, route->query, "output") || kl_query_true(a, route->query, "stdout");
    s->wanted[STDERR] = !tty && (kl_query_true(a, route->query, "error") ||
                                 kl_query_true(a, route->query, "stderr"));
    s->wanted[RESIZE] = tty;
    if (kl_str_eqz(route->verb, "exec")) {
        ask_exec(s, c, route);
        return;
    }
    struct kl_cri_attach_request req = {.container_id = kl_str(c->id),
                                        .stdin = s->wanted[STDIN],
                                        .tty = tty,
                                        .stdout = s->wanted[STDOUT],
                                        .stderr = s->wanted[STDERR]};
    kl_cri_start(s->k->cri, KL_CRI_ATTACH, &req, DIAL_TIMEOUT_MS, on_url, s, NULL);
}

void kl_serve_stream(struct kl_kubelet *k, struct kl_http_req *r, const struct kl_route *route)
{
    struct kl_pod *p = kl_pods_by_name(k->pods, route->ns, route->pod);
    bool forward = kl_str_eqz(route->verb, "portForward");
    const struct kl_ctr *c = p ? kl_rt_find(&p->rt, route->container) : NULL;
    if (!p || (!forward && !c) || (forward && !p->rt.sandboxes)) {
        kl_answer_text(r, 404,
                       p && !forward ? "container not found (\"%.*s\")" : "pod does not exist%.*s",
                       KL_PRI(p && !forward ? route->container : KL_STR("")));
        return;
    }
    bool ws = kl_ws_is_upgrade(r);
    int protocol =
        ws && !forward ? kl_ws_choose_protocol(r, ws_protocols, KL_COUNT(ws_protocols)) : -1;
    if (!kl_http_is_upgrade(r) || (ws && protocol < 0)) {
        kl_answer_text(r, 400,
                       ws ? "no WebSocket protocol of those offered is known"
                          : "Upgrade request required");
        return;
    }
    struct session *s = calloc(1, sizeof(*s));
    if (!s) {
        kl_answer_text(r, 500, "out of memory");
        return;
    }
    s->k = k;
    s->req = kl_http_req_ref(r);
    s->portforward = forward;
    if (ws) {
        s->v5 = protocol == 0;
        s->protocol = ws_protocols[protocol];
    }
    kl_kubelet_hold(k);
    kl_http_req_on_close(r, on_req_close, s);
    ask(s, p, c, route);
}
