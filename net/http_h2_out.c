// SPDX-License-Identifier: Apache-2.0
// HTTP/2 on a server connection: answers.
#include "net/http_h2.h"
#include <stdio.h>

enum { FRAME_MAX = 64 * 1024 }; // of DATA, when the peer allows more than 16 KiB

static void arm(struct kl_h2 *h, uint64_t at_ms)
{
    struct kl_conn *c = h->conn->c;
    if (c && (!c->deadline || at_ms < c->deadline))
        kl_conn_set_deadline(c, at_ms);
}

static ssize_t send_cb(nghttp2_session *s, const uint8_t *p, size_t n, int flags, void *arg)
{
    struct kl_h2 *h = arg;
    return h->conn->c ? kl_h2_send(h->conn->c, p, n) : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static ssize_t frame_length(nghttp2_session *s, uint8_t frame_type, int32_t id, int32_t conn_window,
                            int32_t stream_window, uint32_t max_frame, void *arg)
{
    int64_t n = conn_window < stream_window ? conn_window : stream_window;
    n = n < (int64_t)max_frame ? n : (int64_t)max_frame;
    return (ssize_t)(n < FRAME_MAX ? n : FRAME_MAX);
}

static int submit_trailers(nghttp2_session *s, struct kl_http_req *r)
{
    nghttp2_nv *nv = kl_arena_alloc(&r->arena, r->ntrailers * sizeof(*nv));
    if (!nv)
        return NGHTTP2_ERR_NOMEM;
    for (size_t i = 0; i < r->ntrailers; i++)
        nv[i] = kl_h2_nv(r->trailers[i].name, r->trailers[i].value);
    return nghttp2_submit_trailer(s, r->stream_id, nv, r->ntrailers);
}

static ssize_t read_cb(nghttp2_session *s, int32_t id, uint8_t *buf, size_t length, uint32_t *flags,
                       nghttp2_data_source *src, void *arg)
{
    struct kl_http_req *r = kl_h2_req(arg, id);
    if (!r)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    kl_http_req_ref(r);
    int rc = kl_http_resp_pull(r, length);
    bool gone = r->closed;
    size_t n = r->q_bytes < length ? r->q_bytes : length;
    bool last = r->src_end && n == r->q_bytes;
    bool bad_length = r->out_length >= 0 && (r->out_sent + (int64_t)n > r->out_length ||
                                             (last && r->out_sent + (int64_t)n < r->out_length));
    kl_http_req_unref(r);
    if (rc || gone || bad_length)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; // nghttp2 resets the stream
    if (n == 0 && !last)
        return NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (last) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (r->ntrailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (submit_trailers(s, r))
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    }
    return (ssize_t)n;
}

static int send_data_cb(nghttp2_session *s, nghttp2_frame *f, const uint8_t *framehd, size_t length,
                        nghttp2_data_source *src, void *arg)
{
    struct kl_h2 *h = arg;
    struct kl_http_req *r = kl_h2_req(h, f->hd.stream_id);
    if (!r)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    struct kl_outq *q = kl_conn_out(h->conn->c);
    if (q->bytes >= KL_CONN_OUT_HIGH)
        return NGHTTP2_ERR_WOULDBLOCK;
    if (kl_outq_append(q, framehd, 9) || kl_http_resp_move(r, q, length))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    r->out_at_ms = kl_h2_now(h);
    return 0;
}

static int on_frame_send(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
    struct kl_h2 *h = arg;
    if (f->hd.type == NGHTTP2_RST_STREAM) {
        struct kl_http_req *r = kl_h2_req(h, f->hd.stream_id);
        if (r)
            r->reset_sent = true;
        return 0;
    }
    if ((f->hd.type != NGHTTP2_DATA && f->hd.type != NGHTTP2_HEADERS) ||
        !(f->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    struct kl_http_req *r = kl_h2_req(h, f->hd.stream_id);
    if (!r)
        return 0;
    r->out_done = true;
    r->out_at_ms = kl_h2_now(h);
    if (r->body_eof)
        return 0;
    // RFC 9113 8.1: an answer that is complete before the request; the rest is not wanted. What has
    // an end may still come for a while: curl takes a reset before it has sent all for a failure
    // and shows no answer.
    if (r->content_length >= 0)
        arm(h, r->out_at_ms + KL_H2_LINGER_MS);
    else
        nghttp2_submit_rst_stream(s, 0, r->stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

static int head(struct kl_http_req *r, int status, const struct kl_http_header *hd, size_t nh,
                int64_t length, bool no_body)
{
    struct kl_h2 *h = r->conn->h2;
    char status_text[16], length_text[24];
    bool has_date = false;
    nghttp2_nv stack[32], *nv = stack;
    size_t n = 0;
    if (nh + 3 > KL_COUNT(stack) && !(nv = kl_arena_alloc(&r->arena, (nh + 3) * sizeof(*nv))))
        return KL_ENOMEM;
    snprintf(status_text, sizeof(status_text), "%03d", status);
    nv[n++] = kl_h2_nv(KL_STR(":status"), kl_str(status_text));
    for (size_t i = 0; i < nh; i++) {
        if (kl_http_hop_header(hd[i].name))
            continue;
        if (kl_str_eqz(hd[i].name, "content-length") && (length >= 0 || !no_body))
            continue;
        has_date |= kl_str_eqz(hd[i].name, "date");
        nv[n++] = kl_h2_nv(hd[i].name, hd[i].value);
    }
    if (!has_date)
        nv[n++] = kl_h2_nv(KL_STR("date"), kl_http_worker_date(r->conn->worker));
    if (length >= 0 && status != 204 && status != 304) {
        snprintf(length_text, sizeof(length_text), "%lld", (long long)length);
        nv[n++] = kl_h2_nv(KL_STR("content-length"), kl_str(length_text));
    }
    nghttp2_data_provider body = {.read_callback = read_cb};
    bool ends = no_body || (r->src_end && r->q_bytes == 0 && !r->ntrailers);
    int rc = nghttp2_submit_response(h->session, r->stream_id, nv, n, ends ? NULL : &body);
    if (rc)
        return KL_EINTERNAL;
    r->out_at_ms = kl_h2_now(h);
    if (r->close_after && !h->goaway) {
        h->goaway = true;
        nghttp2_submit_goaway(h->session, 0, nghttp2_session_get_last_proc_stream_id(h->session),
                              NGHTTP2_NO_ERROR, NULL, 0);
    }
    arm(h, kl_h2_now(h) + kl_h2_progress_ms(h));
    kl_conn_flush_soon(r->conn->c);
    return 0;
}

static int interim(struct kl_http_req *r, int status, const struct kl_http_header *hd, size_t nh)
{
    char text[16];
    snprintf(text, sizeof(text), "%03d", status);
    nghttp2_nv *nv = kl_arena_alloc(&r->arena, (nh + 1) * sizeof(*nv));
    if (!nv)
        return KL_ENOMEM;
    nv[0] = kl_h2_nv(KL_STR(":status"), (struct kl_str){text, 3});
    for (size_t i = 0; i < nh; i++)
        nv[i + 1] = kl_h2_nv(hd[i].name, hd[i].value);
    int rc = nghttp2_submit_headers(r->conn->h2->session, 0, r->stream_id, NULL, nv, nh + 1, NULL);
    kl_conn_flush_soon(r->conn->c);
    return rc < 0 ? KL_EINTERNAL : 0;
}

static void resume(struct kl_http_req *r)
{
    struct kl_h2 *h = r->conn->h2;
    // Fails when the stream is not deferred, which is fine: then it will be asked anyway.
    nghttp2_session_resume_data(h->session, r->stream_id);
    r->out_at_ms = kl_h2_now(h);
    arm(h, r->out_at_ms + kl_h2_progress_ms(h));
    kl_conn_flush_soon(r->conn->c);
}

static void body_claimed(struct kl_http_req *r)
{
    struct kl_h2 *h = r->conn->h2;
    if (r->body_eof)
        return;
    if (r->expects_continue && !r->body_unconsumed)
        interim(r, 100, NULL, 0);
    if (r->body_present)
        nghttp2_session_set_local_window_size(h->session, 0, r->stream_id, KL_HTTP_BODY_WINDOW);
    r->body_at_ms = kl_h2_now(h);
    arm(h, kl_h2_now(h) + kl_h2_progress_ms(h));
    kl_conn_flush_soon(r->conn->c);
}

static void body_consumed(struct kl_http_req *r, size_t n)
{
    struct kl_h2 *h = r->conn->h2;
    nghttp2_session_consume_stream(h->session, r->stream_id, n);
    r->body_at_ms = kl_h2_now(h);
    kl_conn_flush_soon(r->conn->c);
}

static void abort_req(struct kl_http_req *r)
{
    r->reset_sent = true;
    nghttp2_submit_rst_stream(r->conn->h2->session, 0, r->stream_id, NGHTTP2_INTERNAL_ERROR);
    kl_conn_flush_soon(r->conn->c);
}

const struct kl_http_proto_ops kl_h2_proto_ops = {
    .head = head,
    .interim = interim,
    .resume = resume,
    .body_claimed = body_claimed,
    .body_consumed = body_consumed,
    .abort = abort_req,
};

void kl_h2_set_out_callbacks(nghttp2_session_callbacks *cbs)
{
    nghttp2_session_callbacks_set_send_callback(cbs, send_cb);
    nghttp2_session_callbacks_set_send_data_callback(cbs, send_data_cb);
    nghttp2_session_callbacks_set_on_frame_send_callback(cbs, on_frame_send);
    nghttp2_session_callbacks_set_data_source_read_length_callback(cbs, frame_length);
}
