// SPDX-License-Identifier: Apache-2.0
// HTTP/2 on a client connection.
#include "net/client_int.h"
#include "net/http_h2_util.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { CONN_WINDOW = 16 * 1024 * 1024 };

static struct kl_http_call *call_of(const struct kl_hc_conn *hc, int32_t id)
{
    return hc->gone ? NULL : nghttp2_session_get_stream_user_data(hc->session, id);
}

static int go_on(const struct kl_hc_conn *hc)
{
    return hc->gone ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

// ---- Answers

static int on_header(nghttp2_session *s, const nghttp2_frame *f, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *arg)
{
    struct kl_hc_conn *hc = arg;
    struct kl_http_call *call = call_of(hc, f->hd.stream_id);
    if (!call)
        return go_on(hc);
    struct kl_str n = kl_h2_str(name), v = kl_h2_str(value);
    int64_t status;
    if (kl_str_eqz(n, ":status") && kl_str_to_i64(v, &status)) {
        call->status = (int)status;
        return 0;
    }
    n = kl_arena_dup(&call->resp_arena, n);
    v = kl_arena_dup(&call->resp_arena, v);
    if (!n.p || !v.p || kl_hc_call_add_header(call, n, v))
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (call->got_headers)
        call->ntrailers++;
    return 0;
}

static int on_frame_recv(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
    struct kl_hc_conn *hc = arg;
    struct kl_http_call *call;
    switch (f->hd.type) {
    case NGHTTP2_HEADERS:
        call = call_of(hc, f->hd.stream_id);
        if (!call || call->got_headers)
            break;
        if (call->status < 200)
            kl_hc_call_reset(call);
        else
            kl_hc_call_headers(call, call->status);
        break;
    case NGHTTP2_SETTINGS:
        if (hc->settled || f->hd.flags & NGHTTP2_FLAG_ACK)
            break;
        hc->settled = true;
        kl_hc_dispatch(hc->target);
        break;
    case NGHTTP2_PING:
        if (f->hd.flags & NGHTTP2_FLAG_ACK)
            hc->ping_sent = false;
        break;
    case NGHTTP2_GOAWAY:
        hc->goaway = true;
        break;
    default:
        break;
    }
    return go_on(hc);
}

static int on_data_chunk(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                         void *arg)
{
    struct kl_hc_conn *hc = arg;
    struct kl_http_call *call = call_of(hc, id);
    if (hc->gone)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    nghttp2_session_consume_connection(s, n);
    if (!call) {
        nghttp2_session_consume_stream(s, id, n);
        return 0;
    }
    kl_hc_call_data(call, (struct kl_str){(const char *)p, n});
    return go_on(hc);
}

static void end_stream(struct kl_hc_conn *hc, struct kl_http_call *call, uint32_t code)
{
    struct kl_error err;
    bool untouched = code == NGHTTP2_REFUSED_STREAM;
    if (code == NGHTTP2_NO_ERROR && call->got_headers) {
        // Off the connection; what a paused reader has not seen is kept with the call.
        kl_hc_call_detach(call);
        kl_hc_call_complete(call);
    } else if (untouched && !call->retried && !call->got_headers && !call->client->closed) {
        // RFC 9113 8.7: the server has not looked at it.
        kl_hc_call_detach(call);
        kl_hc_call_requeue(call);
        kl_hc_dispatch(call->target);
    } else {
        kl_error_set(&err, KL_EIO, "stream error: stream ID %d; %s", call->stream_id,
                     nghttp2_http2_strerror(code));
        kl_hc_call_end(call, KL_EIO, &err);
    }
}

static int on_stream_close(nghttp2_session *s, int32_t id, uint32_t code, void *arg)
{
    struct kl_hc_conn *hc = arg;
    struct kl_http_call *call = call_of(hc, id);
    struct kl_http_client *c = hc->client;
    if (!call)
        return go_on(hc);
    nghttp2_session_set_stream_user_data(s, id, NULL);
    c->refs++;
    hc->target->busy++;
    end_stream(hc, call, code);
    hc->target->busy--;
    if (!hc->gone) {
        kl_hc_conn_idle(hc);
        if (!c->closed)
            kl_hc_dispatch(hc->target); // one stream has become free
    }
    kl_hc_client_unref(c);
    return go_on(hc);
}

// ---- Requests

static ssize_t send_cb(nghttp2_session *s, const uint8_t *p, size_t n, int flags, void *arg)
{
    struct kl_hc_conn *hc = arg;
    return hc->gone ? NGHTTP2_ERR_CALLBACK_FAILURE : kl_h2_send(hc->c, p, n);
}

static ssize_t read_cb(nghttp2_session *s, int32_t id, uint8_t *buf, size_t length, uint32_t *flags,
                       nghttp2_data_source *src, void *arg)
{
    struct kl_http_call *call = call_of(arg, id);
    if (!call)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    while (call->stream_body && (!call->body || call->body_sent == call->body->n)) {
        if (kl_hc_call_next_piece(call))
            continue;
        if (!call->body_ended)
            return NGHTTP2_ERR_DEFERRED;
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        return 0;
    }
    size_t left = call->body->n - call->body_sent;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (left <= length && !call->stream_body)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)(left < length ? left : length);
}

static int send_data_cb(nghttp2_session *s, nghttp2_frame *f, const uint8_t *framehd, size_t length,
                        nghttp2_data_source *src, void *arg)
{
    struct kl_hc_conn *hc = arg;
    struct kl_http_call *call = call_of(hc, f->hd.stream_id);
    if (!call)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    struct kl_outq *q = kl_conn_out(hc->c);
    if (q->bytes >= KL_CONN_OUT_HIGH)
        return NGHTTP2_ERR_WOULDBLOCK;
    if (kl_outq_append(q, framehd, 9) ||
        kl_outq_take(q, kl_bytes_ref(call->body), call->body_sent, (uint32_t)length))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    call->body_sent += (uint32_t)length;
    return 0;
}

bool kl_hc_h2_has_room(const struct kl_hc_conn *hc)
{
    uint32_t max =
        nghttp2_session_get_remote_settings(hc->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    return (uint32_t)hc->ncalls < (max < 1000 ? max : 1000) &&
           nghttp2_session_check_request_allowed(hc->session);
}

static nghttp2_nv make_nv(struct kl_str name, struct kl_str value)
{
    // Credentials stay out of the compression tables (RFC 7541 7.1.3).
    nghttp2_nv nv = kl_h2_nv(name, value);
    if (kl_str_eqz(name, "authorization"))
        nv.flags = NGHTTP2_NV_FLAG_NO_INDEX;
    return nv;
}

int kl_hc_h2_send(struct kl_hc_conn *hc, struct kl_http_call *call)
{
    nghttp2_nv *nv = kl_arena_alloc(&call->arena, (call->nheaders + 5) * sizeof(*nv));
    char length[24];
    size_t n = 0;
    if (!nv)
        return KL_ENOMEM;
    nv[n++] = make_nv(KL_STR(":method"), call->method);
    nv[n++] = make_nv(KL_STR(":scheme"), hc->target->tls ? KL_STR("https") : KL_STR("http"));
    nv[n++] = make_nv(KL_STR(":authority"), call->host_header);
    nv[n++] = make_nv(KL_STR(":path"), call->path);
    for (size_t i = 0; i < call->nheaders; i++)
        if (!kl_http_hop_header(call->headers[i].name))
            nv[n++] = make_nv(call->headers[i].name, call->headers[i].value);
    bool grpc = false;
    for (size_t i = 0; i < call->nheaders; i++)
        grpc |= kl_str_eqz(call->headers[i].name, "te"); // gRPC sends no content-length
    uint64_t bytes = call->stream_body ? call->body_length : call->body ? call->body->n : 0;
    if (bytes && !grpc) {
        snprintf(length, sizeof(length), "%" PRIu64, bytes);
        nv[n++] = make_nv(KL_STR("content-length"), kl_str(length));
    }
    nghttp2_data_provider body = {.read_callback = read_cb};
    call->version = 20;
    int32_t id = nghttp2_submit_request(hc->session, NULL, nv, n,
                                        call->body || call->stream_body ? &body : NULL, call);
    if (id < 0)
        return KL_EIO;
    call->stream_id = id;
    if (hc->ncalls == 1) {
        hc->last_read_ms = kl_conn_now(hc->c);
        kl_conn_set_deadline(hc->c, hc->last_read_ms + hc->target->client->ping_ms);
    }
    kl_conn_flush_soon(hc->c);
    return 0;
}

void kl_hc_h2_more(struct kl_hc_conn *hc, struct kl_http_call *call)
{
    nghttp2_session_resume_data(hc->session, call->stream_id); // fails when it was not waiting
    kl_conn_flush_soon(hc->c);
}

void kl_hc_h2_cancel(struct kl_hc_conn *hc, struct kl_http_call *call)
{
    nghttp2_session_set_stream_user_data(hc->session, call->stream_id, NULL);
    nghttp2_submit_rst_stream(hc->session, 0, call->stream_id, NGHTTP2_CANCEL);
    kl_conn_flush_soon(hc->c);
}

void kl_hc_h2_consumed(struct kl_hc_conn *hc, struct kl_http_call *call, size_t n)
{
    nghttp2_session_consume_stream(hc->session, call->stream_id, n);
    kl_conn_flush_soon(hc->c);
}

// ---- The connection

static void close_if_over(struct kl_hc_conn *hc)
{
    if (!nghttp2_session_want_read(hc->session) && !nghttp2_session_want_write(hc->session)) {
        struct kl_error err;
        kl_error_set(&err, KL_EIO, "http2: server sent GOAWAY and closed the connection");
        kl_hc_conn_fail(hc, KL_EIO, &err);
    }
}

static void on_fill(void *arg)
{
    struct kl_hc_conn *hc = arg;
    int rc = nghttp2_session_send(hc->session);
    if (hc->gone)
        return;
    if (rc)
        kl_hc_conn_fail(hc, KL_EIO, NULL);
    else
        close_if_over(hc);
}

static void on_read(void *arg, struct kl_str data)
{
    struct kl_hc_conn *hc = arg;
    hc->last_read_ms = kl_conn_now(hc->c);
    ssize_t n = nghttp2_session_mem_recv(hc->session, (const uint8_t *)data.p, data.n);
    if (hc->gone)
        return;
    if (n < 0) {
        struct kl_error err;
        kl_error_set(&err, KL_EPROTO, "http2: %s", nghttp2_strerror((int)n));
        kl_hc_conn_fail(hc, KL_EPROTO, &err);
        return;
    }
    kl_conn_flush_soon(hc->c);
}

static void on_eof(void *arg)
{
    struct kl_hc_conn *hc = arg;
    struct kl_error err;
    kl_error_set(&err, KL_EIO, "http2: client connection lost");
    kl_hc_conn_fail(hc, KL_EIO, &err);
}

static void on_broken(void *arg, int status, const struct kl_error *err)
{
    kl_hc_conn_fail(arg, status, err);
}

// Idle for too long; or in use but silent: a PING, and its answer in time.
static void on_deadline(void *arg)
{
    struct kl_hc_conn *hc = arg;
    uint64_t now = kl_conn_now(hc->c), ping_at;
    if (hc->ncalls == 0) {
        kl_hc_conn_close(hc);
        return;
    }
    ping_at = hc->last_read_ms + hc->target->client->ping_ms;
    if (now < ping_at) {
        hc->ping_sent = false;
        kl_conn_set_deadline(hc->c, ping_at);
    } else if (!hc->ping_sent) {
        hc->ping_sent = true;
        nghttp2_submit_ping(hc->session, 0, NULL);
        kl_conn_set_deadline(hc->c, now + KL_HC_PING_MS);
        kl_conn_flush_soon(hc->c);
    } else {
        struct kl_error err;
        kl_error_set(&err, KL_EIO, "http2: client connection lost");
        kl_hc_conn_fail(hc, KL_EIO, &err);
    }
}

const struct kl_conn_ops kl_hc_h2_ops = {
    .on_read = on_read,
    .on_eof = on_eof,
    .on_fill = on_fill,
    .on_deadline = on_deadline,
    .on_broken = on_broken,
    .on_free = kl_hc_conn_freed,
};

static int new_session(struct kl_hc_conn *hc)
{
    nghttp2_session_callbacks *cbs = NULL;
    nghttp2_option *opt = NULL;
    int rc = nghttp2_session_callbacks_new(&cbs);
    if (!rc)
        rc = nghttp2_option_new(&opt);
    if (!rc) {
        nghttp2_session_callbacks_set_send_callback(cbs, send_cb);
        nghttp2_session_callbacks_set_send_data_callback(cbs, send_data_cb);
        nghttp2_session_callbacks_set_on_header_callback2(cbs, on_header);
        nghttp2_session_callbacks_set_on_frame_recv_callback(cbs, on_frame_recv);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cbs, on_data_chunk);
        nghttp2_session_callbacks_set_on_stream_close_callback(cbs, on_stream_close);
        nghttp2_option_set_no_auto_window_update(opt, 1);
        nghttp2_option_set_no_closed_streams(opt, 1);
        rc = nghttp2_session_client_new2(&hc->session, cbs, hc, opt);
    }
    nghttp2_session_callbacks_del(cbs);
    nghttp2_option_del(opt);
    return rc;
}

int kl_hc_h2_start(struct kl_hc_conn *hc)
{
    nghttp2_settings_entry iv[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, KL_HC_STREAM_WINDOW},
    };
    int rc = new_session(hc);
    if (!rc)
        rc = nghttp2_submit_settings(hc->session, 0, iv, KL_COUNT(iv));
    if (!rc)
        rc = nghttp2_session_set_local_window_size(hc->session, 0, 0, CONN_WINDOW);
    if (rc)
        return KL_ENOMEM;
    kl_conn_set_ops(hc->c, &kl_hc_h2_ops, hc);
    kl_conn_flush_soon(hc->c);
    return 0;
}
