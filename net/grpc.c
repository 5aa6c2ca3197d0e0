// SPDX-License-Identifier: Apache-2.0
// gRPC over HTTP/2 (grpc/doc/PROTOCOL-HTTP2.md): length-prefixed messages, status in trailers.
#include "net/grpc.h"
#include "base/rand.h"
#include "net/http_client.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    PREFIX = 5,
    DEFAULT_MAX = 16 * 1024 * 1024,
    BACKOFF_FIRST_MS = 1000,
    BACKOFF_MAX_MS = 3000, // the kubelet's maxBackoffDelay
};

struct kl_grpc {
    struct kl_loop *loop;
    struct kl_http_client *http;
    char *unix_path, *host;
    int port;
    struct kl_tls_ctx *tls;
    size_t max_message;
    struct kl_grpc_call *calls;
    int refs;
    bool closed;
    uint32_t backoff_ms;    // 0: the last attempt succeeded
    uint64_t backoff_until; // loop time
    struct kl_error backoff_error;
};

struct kl_grpc_call {
    struct kl_grpc *g;
    struct kl_grpc_call *prev, *next;
    struct kl_http_call *http; // NULL before the task has run and after the end
    kl_grpc_message_cb on_message;
    kl_grpc_done_cb done;
    void *arg;
    struct kl_buf in; // bytes of messages not yet complete; unary: the reply
    bool ended, paused, in_cb, task_queued, http_ended, have_reply, bidi, not_sent;
    size_t in_off;
    int http_status;
    int code; // -1: not known
    char message[900];
    struct kl_task task;
};

static const char *const code_names[] = {
    "OK",       "Canceled",        "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",   "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",      "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated",
};

const char *kl_grpc_code_name(int code)
{
    return code >= 0 && code < (int)KL_COUNT(code_names) ? code_names[code] : "Unknown";
}

int kl_grpc_to_err(int code)
{
    static const int map[] = {
        [KL_GRPC_OK] = 0,
        [KL_GRPC_CANCELED] = KL_ECANCELED,
        [KL_GRPC_UNKNOWN] = KL_EINTERNAL,
        [KL_GRPC_INVALID_ARGUMENT] = KL_EINVALID,
        [KL_GRPC_DEADLINE_EXCEEDED] = KL_ETIMEOUT,
        [KL_GRPC_NOT_FOUND] = KL_ENOTFOUND,
        [KL_GRPC_ALREADY_EXISTS] = KL_EEXISTS,
        [KL_GRPC_PERMISSION_DENIED] = KL_EFORBIDDEN,
        [KL_GRPC_RESOURCE_EXHAUSTED] = KL_ELIMIT,
        [KL_GRPC_FAILED_PRECONDITION] = KL_ECONFLICT,
        [KL_GRPC_ABORTED] = KL_ECONFLICT,
        [KL_GRPC_OUT_OF_RANGE] = KL_EINVALID,
        [KL_GRPC_UNIMPLEMENTED] = KL_EUNSUPPORTED,
        [KL_GRPC_INTERNAL] = KL_EINTERNAL,
        [KL_GRPC_UNAVAILABLE] = KL_EUNAVAILABLE,
        [KL_GRPC_DATA_LOSS] = KL_ECORRUPT,
        [KL_GRPC_UNAUTHENTICATED] = KL_EUNAUTHORIZED,
    };
    return code >= 0 && code < (int)KL_COUNT(map) ? map[code] : KL_EINTERNAL;
}

static void unref_channel(struct kl_grpc *g)
{
    if (--g->refs)
        return;
    kl_tls_ctx_unref(g->tls);
    free(g->unix_path);
    free(g->host);
    free(g);
}

static void maybe_free(struct kl_grpc_call *call)
{
    if (!call->ended || call->in_cb || call->task_queued || call->http)
        return;
    struct kl_grpc *g = call->g;
    kl_buf_fini(&call->in);
    free(call);
    unref_channel(g);
}

static void set_result(struct kl_grpc_call *call, int code, const char *msg)
{
    if (call->code >= 0)
        return;
    call->code = code;
    snprintf(call->message, sizeof(call->message), "%s", msg);
}

// Calls done once, with the result that was set. Does not free; the caller does.
static void finish(struct kl_grpc_call *call)
{
    struct kl_error err;
    if (call->ended)
        return;
    call->ended = true;
    if (call->prev)
        call->prev->next = call->next;
    else
        call->g->calls = call->next;
    if (call->next)
        call->next->prev = call->prev;
    bool ok = call->code == KL_GRPC_OK;
    struct kl_str reply = KL_STR("");
    if (ok && !call->on_message)
        reply = kl_str_from(kl_buf_str(&call->in), PREFIX);
    if (!ok)
        kl_error_set(&err, kl_grpc_to_err(call->code), "rpc error: code = %s desc = %s",
                     kl_grpc_code_name(call->code), call->message);
    bool nested = call->in_cb;
    call->in_cb = true;
    call->done(call->arg, (enum kl_grpc_code)call->code, reply, ok ? NULL : &err);
    call->in_cb = nested;
}

static void fail(struct kl_grpc_call *call, int code, const char *msg)
{
    set_result(call, code, msg);
    if (call->http) // on_end finishes
        kl_http_call_cancel(call->http);
    else
        finish(call);
}

// ---- Messages

// The length of the message at the buffer's front; SIZE_MAX when its prefix is not there yet.
static size_t front_length(const struct kl_grpc_call *call)
{
    const unsigned char *p = (const unsigned char *)call->in.p + call->in_off;
    if (call->in.n - call->in_off < PREFIX)
        return SIZE_MAX;
    return (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
}

static bool check_front(struct kl_grpc_call *call, size_t n)
{
    char msg[128];
    if (call->in.p[call->in_off]) {
        fail(call, KL_GRPC_INTERNAL, "grpc: compressed flag set with identity or empty encoding");
        return false;
    }
    if (n > call->g->max_message) {
        snprintf(msg, sizeof(msg), "grpc: received message larger than max (%zu vs. %zu)", n,
                 call->g->max_message);
        fail(call, KL_GRPC_RESOURCE_EXHAUSTED, msg);
        return false;
    }
    return true;
}

static void deliver(struct kl_grpc_call *call)
{
    size_t n;
    while (!call->ended && !call->paused && call->code < 0 &&
           (n = front_length(call)) != SIZE_MAX) {
        if (!check_front(call, n))
            return;
        if (call->in.n - call->in_off < PREFIX + n)
            break;
        if (!call->on_message) { // unary: stays where it is until the end
            if (call->in.n > PREFIX + n)
                fail(call, KL_GRPC_INTERNAL,
                     "cardinality violation: expected <EOF> for non server-streaming RPCs, but "
                     "received another message");
            call->have_reply = true;
            return;
        }
        struct kl_str msg = {call->in.p + call->in_off + PREFIX, n};
        call->in_off += PREFIX + n;
        call->on_message(call->arg, call, msg);
    }
    if (call->on_message && call->in_off) {
        kl_buf_consume(&call->in, call->in_off);
        call->in_off = 0;
    }
}

static void on_headers(void *arg, struct kl_http_call *http, int status,
                       const struct kl_http_header *h, size_t nh)
{
    struct kl_grpc_call *call = arg;
    call->http_status = status;
    call->g->backoff_ms = 0;
}

static void on_data(void *arg, struct kl_http_call *http, struct kl_str data)
{
    struct kl_grpc_call *call = arg;
    if (call->http_status != 200 || call->code >= 0)
        return;
    if (kl_buf_append(&call->in, data.p, data.n)) {
        fail(call, KL_GRPC_RESOURCE_EXHAUSTED, "grpc: received message larger than max");
        return;
    }
    call->in_cb = true;
    deliver(call);
    call->in_cb = false;
    maybe_free(call);
}

// ---- The end

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

// grpc-message is percent-encoded UTF-8.
static void decode_message(struct kl_str s, char *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n && n + 1 < cap; i++) {
        char ch = s.p[i];
        if (ch == '%' && i + 2 < s.n && hex(s.p[i + 1]) >= 0 && hex(s.p[i + 2]) >= 0) {
            ch = (char)(hex(s.p[i + 1]) * 16 + hex(s.p[i + 2]));
            i += 2;
        }
        out[n++] = ch ? ch : ' ';
    }
    out[n] = 0;
}

static int code_of_http(int status)
{
    switch (status) {
    case 400:
        return KL_GRPC_INTERNAL;
    case 401:
        return KL_GRPC_UNAUTHENTICATED;
    case 403:
        return KL_GRPC_PERMISSION_DENIED;
    case 404:
        return KL_GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return KL_GRPC_UNAVAILABLE;
    default:
        return KL_GRPC_UNKNOWN;
    }
}

static void read_status(struct kl_grpc_call *call, const struct kl_http_call *http)
{
    char text[sizeof(call->message)];
    int64_t code;
    struct kl_str status = kl_http_call_trailer(http, KL_STR("grpc-status"));
    struct kl_str message = kl_http_call_trailer(http, KL_STR("grpc-message"));
    if (!status.p) { // trailers only
        status = kl_http_call_header(http, KL_STR("grpc-status"));
        message = kl_http_call_header(http, KL_STR("grpc-message"));
    }
    if (status.p && kl_str_to_i64(status, &code) && code >= 0 && code < 1000) {
        decode_message(message.p ? message : KL_STR(""), text, sizeof(text));
        if (code == KL_GRPC_OK && !call->on_message && !call->have_reply)
            set_result(call, KL_GRPC_INTERNAL,
                       "cardinality violation: received no response message from "
                       "non-server-streaming RPC");
        else
            set_result(call, (int)code, text);
    } else if (call->http_status != 200) {
        snprintf(text, sizeof(text), "unexpected HTTP status code received from server: %d (%s)",
                 call->http_status, kl_http_status_text(call->http_status));
        set_result(call, code_of_http(call->http_status), text);
    } else {
        set_result(call, KL_GRPC_INTERNAL, "server closed the stream without sending trailers");
    }
}

static void connection_failed(struct kl_grpc *g, const struct kl_error *err)
{
    double jitter = 0.8 + 0.4 * (double)(kl_rand_u64() >> 11) / (double)(1ull << 53);
    uint32_t next = g->backoff_ms ? (uint32_t)(g->backoff_ms * 1.6) : BACKOFF_FIRST_MS;
    uint64_t now = uv_now(kl_loop_uv(g->loop));
    if (now < g->backoff_until)
        return; // calls that failed together count once
    g->backoff_ms = next < BACKOFF_MAX_MS ? next : BACKOFF_MAX_MS;
    g->backoff_until = now + (uint64_t)(g->backoff_ms * jitter);
    g->backoff_error = *err;
}

static void on_end(void *arg, struct kl_http_call *http, int status, const struct kl_error *err)
{
    struct kl_grpc_call *call = arg;
    char text[sizeof(call->message)];
    call->http = NULL;
    call->http_ended = true;
    if (status == 0) {
        read_status(call, http);
    } else if (status == KL_ETIMEOUT) {
        set_result(call, KL_GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
    } else if (status == KL_ECANCELED) {
        set_result(call, KL_GRPC_CANCELED, "context canceled");
    } else if (status == KL_EUNAVAILABLE) {
        call->not_sent = !call->http_status;
        if (!call->http_status)
            connection_failed(call->g, err);
        snprintf(text, sizeof(text), "connection error: desc = \"transport: %.800s\"", err->msg);
        set_result(call, KL_GRPC_UNAVAILABLE, text);
    } else {
        snprintf(text, sizeof(text), "error reading from server: %.800s", err->msg);
        set_result(call, status == KL_EPROTO ? KL_GRPC_INTERNAL : KL_GRPC_UNAVAILABLE, text);
    }
    finish(call);
    maybe_free(call);
}

static const struct kl_http_call_cbs http_cbs = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_end = on_end,
};

// ---- Starting

static void run_task(struct kl_task *t)
{
    struct kl_grpc_call *call = KL_CONTAINER_OF(t, struct kl_grpc_call, task);
    call->task_queued = false;
    if (!call->ended && call->code >= 0) {
        finish(call); // it failed before it was sent
    } else if (!call->ended && !call->paused) {
        call->in_cb = true;
        deliver(call);
        call->in_cb = false;
        if (call->http && !call->paused)
            kl_http_call_resume(call->http);
    }
    maybe_free(call);
}

static void task_soon(struct kl_grpc_call *call)
{
    if (call->task_queued)
        return;
    call->task_queued = true;
    call->task.run = run_task;
    kl_loop_defer(call->g->loop, &call->task);
}

static struct kl_bytes *frame(const struct kl_bytes *message)
{
    uint32_t n = message ? message->n : 0;
    struct kl_bytes *framed = kl_bytes_alloc((size_t)n + PREFIX);
    if (!framed)
        return NULL;
    unsigned char *p = (unsigned char *)framed->p;
    p[0] = 0;
    p[1] = (unsigned char)(n >> 24);
    p[2] = (unsigned char)(n >> 16);
    p[3] = (unsigned char)(n >> 8);
    p[4] = (unsigned char)n;
    if (n)
        memcpy(p + PREFIX, message->p, n);
    return framed;
}

static int send_call(struct kl_grpc_call *call, const char *method, struct kl_bytes *request,
                     uint32_t timeout_ms, struct kl_error *err)
{
    struct kl_grpc *g = call->g;
    char timeout[24];
    struct kl_bytes *framed = call->bidi ? NULL : frame(request);
    if (!call->bidi && !framed)
        return kl_error_set(err, KL_ENOMEM, "%s: out of memory", method);
    struct kl_http_header h[4] = {
        KL_HTTP_HEADER("content-type", "application/grpc"),
        KL_HTTP_HEADER("user-agent", "grpc-c-kinglet/1"),
        KL_HTTP_HEADER("te", "trailers"),
    };
    size_t nh = 3;
    if (timeout_ms) { // at most 8 digits
        bool ms = timeout_ms < 100000000;
        snprintf(timeout, sizeof(timeout), "%u%c", ms ? timeout_ms : timeout_ms / 1000,
                 ms ? 'm' : 'S');
        h[nh++] = (struct kl_http_header){KL_STR("grpc-timeout"), kl_str(timeout)};
    }
    struct kl_http_call_spec spec = {
        .host = g->host,
        .port = g->port,
        .unix_path = g->unix_path,
        .proto = KL_HTTP_2,
        .tls = g->tls,
        .method = KL_STR("POST"),
        .target = kl_str(method),
        .headers = h,
        .nheaders = nh,
        .body = framed,
        .stream_body = call->bidi,
        .timeout_ms = timeout_ms,
    };
    int rc = kl_http_call_start(g->http, &spec, &http_cbs, call, &call->http, err);
    kl_bytes_unref(framed);
    return rc;
}

static int start(struct kl_grpc *g, const char *method, struct kl_bytes *request, bool bidi,
                 uint32_t timeout_ms, kl_grpc_message_cb on_message, kl_grpc_done_cb done,
                 void *arg, struct kl_grpc_call **ret, struct kl_error *err)
{
    if (g->closed || !method || method[0] != '/')
        return kl_error_set(err, KL_EINVALID, "gRPC: channel closed or bad method");
    struct kl_grpc_call *call = calloc(1, sizeof(*call));
    if (!call)
        return kl_error_set(err, KL_ENOMEM, "%s: out of memory", method);
    call->g = g;
    call->on_message = on_message;
    call->done = done;
    call->arg = arg;
    call->bidi = bidi;
    call->code = -1;
    kl_buf_init(&call->in, g->max_message + PREFIX + 1024 * 1024);
    uint64_t now = uv_now(kl_loop_uv(g->loop));
    if (g->backoff_ms && now < g->backoff_until) {
        char text[sizeof(call->message)];
        snprintf(text, sizeof(text), "connection error: desc = \"transport: %.800s\"",
                 g->backoff_error.msg);
        call->not_sent = true;
        set_result(call, KL_GRPC_UNAVAILABLE, text);
        task_soon(call);
    } else {
        int rc = send_call(call, method, request, timeout_ms, err);
        if (rc) {
            free(call);
            return rc;
        }
    }
    g->refs++;
    call->next = g->calls;
    if (g->calls)
        g->calls->prev = call;
    g->calls = call;
    *ret = call;
    return 0;
}

int kl_grpc_unary(struct kl_grpc *g, const char *method, struct kl_bytes *request,
                  uint32_t timeout_ms, kl_grpc_done_cb done, void *arg, struct kl_grpc_call **ret,
                  struct kl_error *err)
{
    return start(g, method, request, false, timeout_ms, NULL, done, arg, ret, err);
}

int kl_grpc_stream(struct kl_grpc *g, const char *method, struct kl_bytes *request,
                   uint32_t timeout_ms, kl_grpc_message_cb on_message, kl_grpc_done_cb done,
                   void *arg, struct kl_grpc_call **ret, struct kl_error *err)
{
    return start(g, method, request, false, timeout_ms, on_message, done, arg, ret, err);
}

int kl_grpc_bidi(struct kl_grpc *g, const char *method, kl_grpc_message_cb on_message,
                 kl_grpc_done_cb done, void *arg, struct kl_grpc_call **ret, struct kl_error *err)
{
    return start(g, method, NULL, true, 0, on_message, done, arg, ret, err);
}

int kl_grpc_send(struct kl_grpc_call *call, struct kl_bytes *message)
{
    if (!call->bidi || call->ended || !call->http)
        return KL_EINVALID;
    struct kl_bytes *framed = frame(message);
    return framed ? kl_http_call_send(call->http, framed, false) : KL_ENOMEM;
}

int kl_grpc_close_send(struct kl_grpc_call *call)
{
    if (!call->bidi || call->ended || !call->http)
        return KL_EINVALID;
    return kl_http_call_send(call->http, NULL, true);
}

bool kl_grpc_was_sent(const struct kl_grpc_call *call)
{
    return !call->not_sent;
}

void kl_grpc_cancel(struct kl_grpc_call *call)
{
    if (call->ended)
        return;
    bool nested = call->in_cb;
    call->in_cb = true;
    fail(call, KL_GRPC_CANCELED, "context canceled");
    call->in_cb = nested;
    maybe_free(call);
}

void kl_grpc_pause(struct kl_grpc_call *call)
{
    call->paused = true;
    if (call->http)
        kl_http_call_pause(call->http);
}

void kl_grpc_resume(struct kl_grpc_call *call)
{
    if (!call->paused || call->ended)
        return;
    call->paused = false;
    task_soon(call);
}

// ---- The channel

static int parse_target(struct kl_grpc *g, const char *target, struct kl_error *err)
{
    struct kl_str s = kl_str(target);
    if (kl_str_starts(s, KL_STR("unix://")))
        s = kl_str_from(s, 7);
    else if (kl_str_starts(s, KL_STR("unix:")))
        s = kl_str_from(s, 5);
    if (s.n && s.p[0] == '/') {
        g->unix_path = strndup(s.p, s.n);
        g->host = strdup("localhost");
        return g->unix_path && g->host ? 0 : kl_error_set(err, KL_ENOMEM, "gRPC: out of memory");
    }
    const char *colon = strrchr(target, ':');
    uint64_t port;
    if (!colon || colon == target || !kl_str_to_u64(kl_str(colon + 1), &port) || !port ||
        port > 65535)
        return kl_error_set(err, KL_EINVALID, "gRPC target %s: want unix:///path or host:port",
                            target);
    bool brackets = target[0] == '[' && colon[-1] == ']' && colon > target + 1;
    g->host = brackets ? strndup(target + 1, (size_t)(colon - target) - 2)
                       : strndup(target, (size_t)(colon - target));
    g->port = (int)port;
    return g->host ? 0 : kl_error_set(err, KL_ENOMEM, "gRPC: out of memory");
}

int kl_grpc_new(const struct kl_grpc_opts *o, struct kl_grpc **ret, struct kl_error *err)
{
    struct kl_grpc *g = calloc(1, sizeof(*g));
    if (!g)
        return kl_error_set(err, KL_ENOMEM, "gRPC: out of memory");
    g->loop = o->loop;
    g->refs = 1;
    g->tls = kl_tls_ctx_ref(o->tls);
    g->max_message = o->max_message_bytes ? o->max_message_bytes : DEFAULT_MAX;
    struct kl_http_client_opts ho = {
        .loop = o->loop,
        .connect_timeout_ms = o->connect_timeout_ms ? o->connect_timeout_ms : 3000,
        // An idle channel stays connected; nothing is behind a local socket that would forget it.
        .idle_timeout_ms = 30 * 60 * 1000,
        .ping_after_ms = o->ping_after_ms ? o->ping_after_ms : UINT32_MAX / 2,
    };
    int rc = parse_target(g, o->target, err);
    if (!rc)
        rc = kl_http_client_new(&ho, &g->http, err);
    if (rc) {
        unref_channel(g);
        return rc;
    }
    *ret = g;
    return 0;
}

void kl_grpc_close(struct kl_grpc *g)
{
    if (!g || g->closed)
        return;
    g->closed = true;
    while (g->calls)
        kl_grpc_cancel(g->calls);
    kl_http_client_close(g->http);
    unref_channel(g);
}

void kl_grpc_reset_backoff(struct kl_grpc *g)
{
    g->backoff_ms = 0;
    g->backoff_until = 0;
}
