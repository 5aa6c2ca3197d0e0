// SPDX-License-Identifier: Apache-2.0
#include "client/https.h"
#include "base/rand.h"
#include "client/https_int.h"
#include "net/http_client.h"
#include <stdlib.h>

enum {
    TIMEOUT_MS = 30000,
    WATCH_MIN_S = 300, // client-go: a random time between five and ten minutes
    HEADERS_MAX = 5,
};
#define ANSWER_MAX ((size_t)1 << 30)
#define REQUEST_MAX ((size_t)16 << 20)
#define PROTOBUF "application/vnd.kubernetes.protobuf"

struct https {
    struct kl_client base;
    struct kl_http_client *http;
    struct kl_tls_ctx *tls;
    struct kl_arena arena;
    struct kl_url url;
    struct kl_str authorization, agent, ca, server_name;
    bool json_only, insecure;
};

// One call under way; call->transport points to it.
struct request {
    struct kl_call *call;
    struct https *c;
    struct kl_http_call *http;
    struct kl_buf answer;
    struct kl_error err; // of a request that could not even be started
    struct kl_task task;
    int status;
    bool canceled; // its task is posted
    bool cancel_ran;
};

struct stream {
    struct kl_watch_call *watch; // NULL: stopped
    struct https *c;
    struct kl_http_call *http;
    struct kl_buf buffer;
    struct kl_error err;
    struct kl_task task;
    int status;
    bool protobuf, in_event;
};

static int add_headers(struct https *c, struct kl_http_header *h, struct kl_str accept,
                       const char *content_type)
{
    int n = 0;
    h[n++] = (struct kl_http_header){KL_STR("accept"), accept};
    h[n++] = (struct kl_http_header){KL_STR("user-agent"), c->agent};
    if (content_type)
        h[n++] = (struct kl_http_header){KL_STR("content-type"), kl_str(content_type)};
    if (c->authorization.n)
        h[n++] = (struct kl_http_header){KL_STR("authorization"), c->authorization};
    return n;
}

static struct kl_http_call_spec spec_of(struct https *c, struct kl_str target)
{
    return (struct kl_http_call_spec){
        .host = c->url.host,
        .port = c->url.port,
        .tls = c->tls,
        .proto = KL_HTTP_AUTO,
        .target = target,
    };
}

// ---- calls

static void finish(struct request *r)
{
    struct kl_call *call = r->call;
    call->transport = NULL;
    if (r->err.code) {
        call->err = r->err;
    } else if (r->answer.err) {
        kl_error_set(&call->err, KL_ETOOLARGE, "answer too large");
    } else {
        // The decoded object may refer to the text until it is frozen, a list's tokens longer.
        struct kl_str text = kl_arena_dup(call->memory, kl_buf_str(&r->answer));
        if (text.p)
            kl_https_answer(call, r->status, KL_STR(""), text);
        else
            kl_error_set(&call->err, KL_ENOMEM, "out of memory");
    }
    kl_buf_fini(&r->answer);
    r->call = NULL;
    if (!r->canceled || r->cancel_ran)
        free(r); // else its task frees it
    call->done_cb(call);
}

static void on_call_headers(void *arg, struct kl_http_call *http, int status,
                            const struct kl_http_header *h, size_t nh)
{
    struct request *r = arg;
    int64_t wait_s;
    r->status = status;
    if (kl_str_to_i64(kl_http_call_header(http, KL_STR("retry-after")), &wait_s) && wait_s > 0 &&
        wait_s < 3600)
        r->call->retry_after_s = (int)wait_s;
}

static void on_call_data(void *arg, struct kl_http_call *http, struct kl_str data)
{
    struct request *r = arg;
    kl_buf_puts(&r->answer, data);
}

static void on_call_end(void *arg, struct kl_http_call *http, int status,
                        const struct kl_error *err)
{
    struct request *r = arg;
    r->http = NULL;
    if (status < 0) {
        if (err)
            r->err = *err;
        r->err.code = status;
    }
    finish(r);
}

static const struct kl_http_call_cbs call_cbs = {
    .on_headers = on_call_headers,
    .on_data = on_call_data,
    .on_end = on_call_end,
};

static void on_failed_start(struct kl_task *t)
{
    finish(KL_CONTAINER_OF(t, struct request, task));
}

static int send_request(struct request *r)
{
    struct https *c = r->c;
    struct kl_call *call = r->call;
    struct kl_http_header headers[HEADERS_MAX];
    struct kl_buf target, body;
    const char *type = NULL;
    kl_buf_init(&target, 64 << 10);
    kl_buf_init(&body, REQUEST_MAX);
    kl_https_target(&target, c->url.path, call);
    int rc = kl_https_body(&body, call, c->json_only, &type, &r->err);
    if (rc == 0 && target.err)
        rc = target.err;
    if (rc == 0) {
        bool protobuf = !c->json_only && kl_https_has_protobuf(call->res);
        struct kl_http_call_spec spec = spec_of(c, kl_buf_str(&target));
        spec.method = kl_str(kl_https_method(call));
        spec.headers = headers;
        spec.nheaders = (size_t)add_headers(
            c, headers,
            protobuf ? KL_STR(PROTOBUF ",application/json") : KL_STR("application/json"), type);
        if (type)
            spec.body_str = kl_buf_str(&body);
        spec.timeout_ms = (uint32_t)(call->timeout_ms ? call->timeout_ms : TIMEOUT_MS);
        rc = kl_http_call_start(c->http, &spec, &call_cbs, r, &r->http, &r->err);
    }
    kl_buf_fini(&target);
    kl_buf_fini(&body);
    if (rc < 0 && !r->err.code)
        kl_error_set(&r->err, rc, "%s", kl_err_text(rc));
    return rc;
}

static void start_call(struct kl_client *client, struct kl_call *call)
{
    struct https *c = (struct https *)client;
    struct request *r = calloc(1, sizeof(*r));
    call->memory = calloc(1, sizeof(*call->memory));
    if (!r || !call->memory)
        abort(); // there is no way to answer without the memory of an answer
    kl_arena_init(call->memory, ANSWER_MAX);
    kl_buf_init(&r->answer, ANSWER_MAX);
    r->call = call;
    r->c = c;
    call->transport = r;
    if (send_request(r) < 0) {
        r->task.run = on_failed_start; // the answer must not come from within this call
        kl_loop_post(c->base.loop, &r->task);
    }
}

static void on_cancel(struct kl_task *t)
{
    struct request *r = KL_CONTAINER_OF(t, struct request, task);
    r->cancel_ran = true;
    if (!r->call)
        free(r); // it had ended by itself
    else if (r->http)
        kl_http_call_cancel(r->http); // ends in finish
}

static void cancel_call(struct kl_client *client, struct kl_call *call)
{
    struct https *c = (struct https *)client;
    struct request *r = call->transport;
    if (!r || r->canceled || !r->http)
        return;
    r->canceled = true; // done_cb must not come from within this call
    r->task.run = on_cancel;
    kl_loop_defer(c->base.loop, &r->task);
}

// ---- watches

static void free_stream(struct stream *s)
{
    kl_buf_fini(&s->buffer);
    free(s);
}

static void end_watch(struct stream *s)
{
    struct kl_watch_call *w = s->watch;
    if (w) {
        w->err = s->err;
        w->transport = NULL;
    }
    free_stream(s);
    if (w)
        w->end_cb(w);
}

static void on_watch_headers(void *arg, struct kl_http_call *http, int status,
                             const struct kl_http_header *h, size_t nh)
{
    struct stream *s = arg;
    s->status = status;
    s->protobuf =
        kl_str_starts(kl_http_call_header(http, KL_STR("content-type")), KL_STR(PROTOBUF));
}

static void deliver(struct stream *s, struct kl_arena *a, const struct kl_frame *f)
{
    struct kl_object *o = NULL;
    if (f->is_error) {
        int rc = kl_https_status(a, f->object, 500, &s->err);
        s->err.code = rc ? rc : KL_EINTERNAL;
        return;
    }
    if (kl_https_object(a, s->watch->res->type, f->object, &o, &s->err) < 0)
        return;
    s->watch->event_cb(s->watch, f->type, o);
    kl_object_unref(o);
}

static void on_watch_data(void *arg, struct kl_http_call *http, struct kl_str data)
{
    struct stream *s = arg;
    struct kl_arena a;
    struct kl_frame f;
    size_t at = 0;
    kl_buf_puts(&s->buffer, data);
    if (s->status != 200)
        return; // a Status, read at the end
    kl_arena_init(&a, 4 * KL_FRAME_MAX);
    s->in_event = true;
    while (s->watch && !s->err.code) {
        kl_arena_reset(&a);
        int rc =
            kl_https_frame(&a, s->protobuf, kl_str_from(kl_buf_str(&s->buffer), at), &f, &s->err);
        if (rc <= 0)
            break;
        at += f.bytes;
        deliver(s, &a, &f);
    }
    s->in_event = false;
    kl_arena_fini(&a);
    kl_buf_consume(&s->buffer, at);
    if (s->buffer.err && !s->err.code)
        kl_error_set(&s->err, KL_EPROTO, "watch frame too long");
    if (s->err.code || !s->watch)
        kl_http_call_cancel(http); // ends in on_watch_end
}

static void on_watch_end(void *arg, struct kl_http_call *http, int status,
                         const struct kl_error *err)
{
    struct stream *s = arg;
    s->http = NULL;
    if (!s->err.code && status < 0) {
        if (err)
            s->err = *err;
        s->err.code = status;
    } else if (!s->err.code && s->status != 200) {
        struct kl_arena a;
        kl_arena_init(&a, KL_FRAME_MAX);
        int rc = kl_https_status(&a, kl_buf_str(&s->buffer), s->status, &s->err);
        s->err.code = rc ? rc : KL_EINTERNAL;
        kl_arena_fini(&a);
    }
    end_watch(s);
}

static const struct kl_http_call_cbs watch_cbs = {
    .on_headers = on_watch_headers,
    .on_data = on_watch_data,
    .on_end = on_watch_end,
};

static void on_failed_watch(struct kl_task *t)
{
    end_watch(KL_CONTAINER_OF(t, struct stream, task));
}

static void start_watch(struct kl_client *client, struct kl_watch_call *w)
{
    struct https *c = (struct https *)client;
    struct stream *s = calloc(1, sizeof(*s));
    struct kl_http_header headers[HEADERS_MAX];
    struct kl_buf target;
    if (!s)
        abort();
    kl_buf_init(&s->buffer, KL_FRAME_MAX + (1 << 20));
    kl_buf_init(&target, 64 << 10);
    s->watch = w;
    s->c = c;
    w->transport = s;
    kl_https_watch_target(&target, c->url.path, w,
                          WATCH_MIN_S + (int)(kl_rand_u64() % WATCH_MIN_S));
    bool protobuf = !c->json_only && kl_https_has_protobuf(w->res);
    struct kl_http_call_spec spec = spec_of(c, kl_buf_str(&target));
    spec.method = KL_STR("GET");
    spec.headers = headers;
    spec.nheaders = (size_t)add_headers(c, headers,
                                        protobuf ? KL_STR(PROTOBUF ";stream=watch,application/json")
                                                 : KL_STR("application/json"),
                                        NULL);
    spec.header_timeout_ms = TIMEOUT_MS;
    int rc = target.err ? target.err
                        : kl_http_call_start(c->http, &spec, &watch_cbs, s, &s->http, &s->err);
    if (rc < 0) {
        if (!s->err.code)
            kl_error_set(&s->err, rc, "%s", kl_err_text(rc));
        s->task.run = on_failed_watch;
        kl_loop_post(c->base.loop, &s->task);
    }
    kl_buf_fini(&target);
}

static void stop_watch(struct kl_client *client, struct kl_watch_call *w)
{
    struct stream *s = w->transport;
    if (!s)
        return;
    w->transport = NULL;
    s->watch = NULL;
    // From within an event the stream is ended when that event is done; without a call a task is
    // on its way that frees it.
    if (s->http && !s->in_event)
        kl_http_call_cancel(s->http);
}

// ---- the client

static void free_client(struct kl_client *client)
{
    struct https *c = (struct https *)client;
    if (c->http)
        kl_http_client_close(c->http);
    kl_tls_ctx_unref(c->tls);
    kl_arena_fini(&c->arena);
    free(c);
}

static const struct kl_client_ops ops = {
    .start = start_call,
    .cancel = cancel_call,
    .watch = start_watch,
    .watch_stop = stop_watch,
    .free = free_client,
};

static struct kl_tls_client_opts tls_options(struct https *c, struct kl_str cert, struct kl_str key)
{
    return (struct kl_tls_client_opts){
        .ca.pem = c->ca,
        .cert.pem = cert,
        .key.pem = key,
        .server_name = c->server_name.n ? c->server_name.p : NULL,
        .insecure_skip_verify = c->insecure,
    };
}

int kl_https_client_new(const struct kl_https_options *o, struct kl_client **ret,
                        struct kl_error *err)
{
    struct https *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "client: out of memory");
    kl_arena_init(&c->arena, 4 << 20);
    c->base.ops = &ops;
    c->base.loop = o->loop;
    c->json_only = o->json_only;
    c->insecure = o->insecure_skip_verify;
    c->agent = kl_arena_dup(&c->arena, kl_str(o->user_agent ? o->user_agent : "kinglet"));
    c->base.user_agent = c->agent.p;
    c->ca = kl_arena_dup(&c->arena, o->ca);
    c->server_name = kl_arena_dup(&c->arena, kl_str(o->server_name));
    if (o->bearer_token.n)
        c->authorization = kl_arena_printf(&c->arena, "Bearer %.*s", KL_PRI(o->bearer_token));
    struct kl_str server = kl_arena_dup(&c->arena, o->server);
    int rc = server.p ? kl_url_parse(server, &c->url, err) : KL_ENOMEM;
    if (rc == 0 && c->url.tls) {
        struct kl_tls_client_opts t = tls_options(c, o->cert, o->key);
        rc = kl_tls_client_new(&t, &c->tls, err);
    }
    if (rc == 0)
        rc = kl_http_client_new(&(struct kl_http_client_opts){.loop = o->loop}, &c->http, err);
    if (rc < 0) {
        free_client(&c->base);
        return rc;
    }
    *ret = &c->base;
    return 0;
}

int kl_https_client_set_cert(struct kl_client *client, struct kl_str cert, struct kl_str key,
                             struct kl_error *err)
{
    struct https *c = (struct https *)client;
    if (client->ops != &ops || !c->tls)
        return kl_error_set(err, KL_EUNSUPPORTED, "not an HTTPS client");
    struct kl_tls_client_opts t = tls_options(c, cert, key);
    int rc = kl_tls_ctx_reload_client(c->tls, &t, err);
    if (rc == 0)
        kl_http_client_drop_idle(c->http);
    return rc;
}
