// SPDX-License-Identifier: Apache-2.0
// HTTP/2 on a server connection, over nghttp2. Everything that goes out is produced in `fill`, once
// per loop iteration, so that frames of many streams leave in one write.
#include "net/http_int.h"
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CONN_WINDOW = 1024 * 1024,
    // Resets by the client: a bucket of so many, refilled by so many per second (as nghttp2 and Go
    // do it against CVE-2023-44487).
    RESET_BURST = 1000,
    RESET_PER_S = 33,
    FRAME_MAX = 64 * 1024, // of DATA, when the peer allows more than 16 KiB
};

struct kl_h2 {
    nghttp2_session *session;
    struct kl_http_conn *conn;
    int64_t reset_tokens;
    uint64_t reset_at_ms;
    bool goaway;
};

static void arm(struct kl_h2 *h, uint64_t at_ms)
{
    struct kl_conn *c = h->conn->c;
    if (c && (!c->deadline || at_ms < c->deadline))
        kl_conn_set_deadline(c, at_ms);
}

static uint64_t now_of(const struct kl_h2 *h)
{
    return kl_conn_now(h->conn->c);
}

static uint64_t progress_ms(const struct kl_h2 *h)
{
    return kl_http_conn_limits(h->conn)->progress_timeout_ms;
}

// The open request of a stream. After the connection was closed by a callback the pointers that
// nghttp2 keeps are stale: nothing is looked up any more.
static struct kl_http_req *req_of(const struct kl_h2 *h, int32_t id)
{
    return h->conn->c ? nghttp2_session_get_stream_user_data(h->session, id) : NULL;
}

// ---- Requests coming in

static int on_begin_headers(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
    struct kl_h2 *h = arg;
    if (f->hd.type != NGHTTP2_HEADERS || f->headers.cat != NGHTTP2_HCAT_REQUEST || !h->conn->c)
        return 0;
    struct kl_http_req *r = kl_http_req_new(h->conn, &kl_h2_proto_ops, 20);
    if (!r)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    r->stream_id = f->hd.stream_id;
    nghttp2_session_set_stream_user_data(s, r->stream_id, r);
    return 0;
}

static struct kl_str dup_rcbuf(struct kl_http_req *r, nghttp2_rcbuf *b)
{
    nghttp2_vec v = nghttp2_rcbuf_get_buf(b);
    return kl_arena_dup(&r->arena, (struct kl_str){(char *)v.base, v.len});
}

static int set_pseudo(struct kl_http_req *r, struct kl_str name, struct kl_str value)
{
    if (kl_str_eqz(name, ":method"))
        r->method = value;
    else if (kl_str_eqz(name, ":path"))
        kl_http_req_set_target(r, value);
    else if (kl_str_eqz(name, ":authority"))
        r->authority = value;
    return 0;
}

static int on_header(nghttp2_session *s, const nghttp2_frame *f, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *arg)
{
    struct kl_h2 *h = arg;
    struct kl_http_req *r = req_of(h, f->hd.stream_id);
    if (!h->conn->c)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (!r || f->headers.cat != NGHTTP2_HCAT_REQUEST || r->headers_too_big)
        return 0;
    nghttp2_vec nv = nghttp2_rcbuf_get_buf(name), vv = nghttp2_rcbuf_get_buf(value);
    if (r->header_bytes + nv.len + vv.len + 32 > kl_http_conn_limits(r->conn)->max_header_bytes) {
        r->headers_too_big = true;
        return 0;
    }
    struct kl_str n = dup_rcbuf(r, name), v = dup_rcbuf(r, value);
    if (!n.p || !v.p)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (n.n && n.p[0] == ':') {
        r->header_bytes += n.n + v.n + 32;
        return set_pseudo(r, n, v);
    }
    return kl_http_req_add_header(r, n, v) ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : 0;
}

static void request_complete(struct kl_h2 *h, struct kl_http_req *r, bool end)
{
    if (!r->authority.n) {
        struct kl_str host = kl_http_header(r, KL_STR("host"));
        r->authority = host.p ? host : KL_STR("");
    }
    if (!r->path.p)
        kl_http_req_set_target(r, KL_STR("")); // CONNECT
    r->body_present = !end;
    r->body_at_ms = now_of(h);
    if (kl_http_req_headers_done(r)) {
        nghttp2_submit_rst_stream(h->session, 0, r->stream_id, NGHTTP2_PROTOCOL_ERROR);
        return;
    }
    kl_http_req_ref(r);
    kl_http_dispatch(r);
    if (end)
        kl_http_body_end(r);
    kl_http_req_unref(r);
}

static int on_frame_recv(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
    struct kl_h2 *h = arg;
    bool end = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
    struct kl_http_req *r;
    switch (f->hd.type) {
    case NGHTTP2_HEADERS:
        r = req_of(h, f->hd.stream_id);
        if (r && f->headers.cat == NGHTTP2_HCAT_REQUEST)
            request_complete(h, r, end);
        else if (r && end)
            kl_http_body_end(r); // trailers
        break;
    case NGHTTP2_DATA:
        r = req_of(h, f->hd.stream_id);
        if (r && end)
            kl_http_body_end(r);
        break;
    default:
        break;
    }
    return h->conn->c ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_data_chunk(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                         void *arg)
{
    struct kl_h2 *h = arg;
    struct kl_http_req *r = req_of(h, id);
    if (!h->conn->c)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    // The connection's window opens at once: what one stream may hold back is bounded by its own.
    nghttp2_session_consume_connection(s, n);
    if (!r) {
        nghttp2_session_consume_stream(s, id, n);
        return 0;
    }
    r->body_at_ms = now_of(h);
    kl_http_body_data(r, (struct kl_str){(const char *)p, n});
    return h->conn->c ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static bool spend_reset(struct kl_h2 *h)
{
    uint64_t now = now_of(h), passed_s = (now - h->reset_at_ms) / 1000;
    if (passed_s) {
        h->reset_tokens += (int64_t)(passed_s * RESET_PER_S);
        if (h->reset_tokens > RESET_BURST)
            h->reset_tokens = RESET_BURST;
        h->reset_at_ms += passed_s * 1000;
    }
    return --h->reset_tokens >= 0;
}

static int on_stream_close(nghttp2_session *s, int32_t id, uint32_t code, void *arg)
{
    struct kl_h2 *h = arg;
    struct kl_http_req *r = req_of(h, id);
    if (!r)
        return h->conn->c ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
    nghttp2_session_set_stream_user_data(s, id, NULL);
    bool done = r->out_done;
    bool by_client = !done && !r->reset_sent;
    kl_http_req_close(r, done ? 0 : code == NGHTTP2_PROTOCOL_ERROR ? KL_EPROTO : KL_ECANCELED);
    struct kl_http_conn *c = h->conn;
    if (!c->c)
        return 0;
    if (by_client && !spend_reset(h))
        nghttp2_session_terminate_session(s, NGHTTP2_ENHANCE_YOUR_CALM);
    if (c->nreqs == 0)
        kl_conn_set_deadline(c->c, now_of(h) + kl_http_conn_limits(c)->idle_timeout_ms);
    return 0;
}

// ---- Answers going out

static ssize_t send_cb(nghttp2_session *s, const uint8_t *p, size_t n, int flags, void *arg)
{
    struct kl_h2 *h = arg;
    if (!h->conn->c)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    struct kl_outq *q = kl_conn_out(h->conn->c);
    if (q->bytes >= KL_CONN_OUT_HIGH)
        return NGHTTP2_ERR_WOULDBLOCK;
    return kl_outq_append(q, p, n) ? NGHTTP2_ERR_CALLBACK_FAILURE : (ssize_t)n;
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
        nv[i] = (nghttp2_nv){(uint8_t *)r->trailers[i].name.p, (uint8_t *)r->trailers[i].value.p,
                             r->trailers[i].name.n, r->trailers[i].value.n, 0};
    return nghttp2_submit_trailer(s, r->stream_id, nv, r->ntrailers);
}

static ssize_t read_cb(nghttp2_session *s, int32_t id, uint8_t *buf, size_t length, uint32_t *flags,
                       nghttp2_data_source *src, void *arg)
{
    struct kl_http_req *r = req_of(arg, id);
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
    struct kl_http_req *r = req_of(h, f->hd.stream_id);
    if (!r)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    struct kl_outq *q = kl_conn_out(h->conn->c);
    if (q->bytes >= KL_CONN_OUT_HIGH)
        return NGHTTP2_ERR_WOULDBLOCK;
    if (kl_outq_append(q, framehd, 9) || kl_http_resp_move(r, q, length))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    r->out_at_ms = now_of(h);
    return 0;
}

static int on_frame_send(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
    struct kl_h2 *h = arg;
    if (f->hd.type == NGHTTP2_RST_STREAM) {
        struct kl_http_req *r = req_of(h, f->hd.stream_id);
        if (r)
            r->reset_sent = true;
        return 0;
    }
    if ((f->hd.type != NGHTTP2_DATA && f->hd.type != NGHTTP2_HEADERS) ||
        !(f->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    struct kl_http_req *r = req_of(h, f->hd.stream_id);
    if (!r)
        return 0;
    r->out_done = true;
    // RFC 9113 8.1: an answer that is complete before the request; the rest is not wanted.
    if (!r->body_eof)
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
#define PUT(name_, value_)                                                                         \
    nv[n++] = (nghttp2_nv){(uint8_t *)(name_).p, (uint8_t *)(value_).p, (name_).n, (value_).n, 0}
    snprintf(status_text, sizeof(status_text), "%03d", status);
    PUT(KL_STR(":status"), kl_str(status_text));
    for (size_t i = 0; i < nh; i++) {
        if (kl_http_hop_header(hd[i].name))
            continue;
        if (kl_str_eqz(hd[i].name, "content-length") && (length >= 0 || !no_body))
            continue;
        has_date |= kl_str_eqz(hd[i].name, "date");
        PUT(hd[i].name, hd[i].value);
    }
    if (!has_date)
        PUT(KL_STR("date"), kl_http_worker_date(r->conn->worker));
    if (length >= 0 && status != 204 && status != 304) {
        snprintf(length_text, sizeof(length_text), "%lld", (long long)length);
        PUT(KL_STR("content-length"), kl_str(length_text));
    }
#undef PUT
    nghttp2_data_provider body = {.read_callback = read_cb};
    bool ends = no_body || (r->src_end && r->q_bytes == 0 && !r->ntrailers);
    int rc = nghttp2_submit_response(h->session, r->stream_id, nv, n, ends ? NULL : &body);
    if (rc)
        return KL_EINTERNAL;
    r->out_at_ms = now_of(h);
    if (r->close_after && !h->goaway) {
        h->goaway = true;
        nghttp2_submit_goaway(h->session, 0, nghttp2_session_get_last_proc_stream_id(h->session),
                              NGHTTP2_NO_ERROR, NULL, 0);
    }
    arm(h, now_of(h) + progress_ms(h));
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
    nv[0] = (nghttp2_nv){(uint8_t *)":status", (uint8_t *)text, 7, 3, 0};
    for (size_t i = 0; i < nh; i++)
        nv[i + 1] = (nghttp2_nv){(uint8_t *)hd[i].name.p, (uint8_t *)hd[i].value.p, hd[i].name.n,
                                 hd[i].value.n, 0};
    int rc = nghttp2_submit_headers(r->conn->h2->session, 0, r->stream_id, NULL, nv, nh + 1, NULL);
    kl_conn_flush_soon(r->conn->c);
    return rc < 0 ? KL_EINTERNAL : 0;
}

static void resume(struct kl_http_req *r)
{
    struct kl_h2 *h = r->conn->h2;
    // Fails when the stream is not deferred, which is fine: then it will be asked anyway.
    nghttp2_session_resume_data(h->session, r->stream_id);
    r->out_at_ms = now_of(h);
    arm(h, r->out_at_ms + progress_ms(h));
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
    r->body_at_ms = now_of(h);
    arm(h, now_of(h) + progress_ms(h));
    kl_conn_flush_soon(r->conn->c);
}

static void body_consumed(struct kl_http_req *r, size_t n)
{
    struct kl_h2 *h = r->conn->h2;
    nghttp2_session_consume_stream(h->session, r->stream_id, n);
    r->body_at_ms = now_of(h);
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

// ---- The connection

static void fill(void *arg)
{
    struct kl_http_conn *c = arg;
    struct kl_h2 *h = c->h2;
    int rc = nghttp2_session_send(h->session);
    if (!c->c)
        return;
    if (rc) {
        kl_http_conn_close(c, rc == NGHTTP2_ERR_NOMEM ? KL_ENOMEM : KL_EINTERNAL);
        return;
    }
    if (!nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session))
        kl_http_conn_drain(c);
}

static void on_read(void *arg, struct kl_str data)
{
    struct kl_http_conn *c = arg;
    struct kl_h2 *h = c->h2;
    ssize_t n = nghttp2_session_mem_recv(h->session, (const uint8_t *)data.p, data.n);
    if (!c->c)
        return;
    if (n < 0) {
        if (n == NGHTTP2_ERR_NOMEM ||
            nghttp2_session_terminate_session(h->session, n == NGHTTP2_ERR_FLOODED
                                                              ? NGHTTP2_ENHANCE_YOUR_CALM
                                                              : NGHTTP2_PROTOCOL_ERROR)) {
            kl_http_conn_close(c, KL_EPROTO);
            return;
        }
        kl_conn_pause(c->c, true); // it cannot read on; GOAWAY goes out, then the end
    }
    if (nghttp2_session_want_write(h->session) || !nghttp2_session_want_read(h->session))
        kl_conn_flush_soon(c->c);
}

static void on_eof(void *arg)
{
    kl_http_conn_close(arg, KL_ECANCELED);
}

static void on_broken(void *arg, int status, const struct kl_error *err)
{
    kl_http_conn_close(arg, status == KL_ETIMEOUT ? KL_ETIMEOUT : KL_ECANCELED);
}

// A stream waits for the peer: it takes nothing of the answer, or sends nothing of a body.
static uint64_t stream_due(const struct kl_h2 *h, const struct kl_http_req *r)
{
    uint64_t due = 0;
    if (r->responded && !r->out_done && !r->src_waiting)
        due = r->out_at_ms + progress_ms(h);
    bool reading = !r->body_eof && !r->body_told &&
                   (r->body_mode == KL_BODY_WHOLE || r->body_mode == KL_BODY_STREAM) &&
                   r->body_unconsumed < KL_HTTP_BODY_WINDOW / 2;
    if (reading && (!due || r->body_at_ms + progress_ms(h) < due))
        due = r->body_at_ms + progress_ms(h);
    return due;
}

static void on_deadline(void *arg)
{
    struct kl_http_conn *c = arg;
    struct kl_h2 *h = c->h2;
    uint64_t now = now_of(h), next = 0;
    if (c->nreqs == 0) {
        // Idle for too long: GOAWAY, which ends a session without streams.
        if (nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR))
            kl_http_conn_close(c, KL_ENOMEM);
        else
            kl_conn_flush_soon(c->c);
        return;
    }
    for (struct kl_http_req *r = c->reqs, *after; r; r = after) {
        after = r->next;
        uint64_t due = stream_due(h, r);
        if (due && due <= now) {
            int32_t id = r->stream_id;
            r->reset_sent = true;
            nghttp2_session_set_stream_user_data(h->session, id, NULL);
            nghttp2_submit_rst_stream(h->session, 0, id, NGHTTP2_CANCEL);
            kl_http_req_ref(r);
            kl_http_req_close(r, KL_ETIMEOUT);
            kl_http_req_unref(r);
            if (!c->c)
                return;
            // A close callback may have changed the list: start over.
            after = c->reqs;
            next = 0;
        } else if (due && (!next || due < next)) {
            next = due;
        }
    }
    if (c->nreqs == 0)
        next = now + kl_http_conn_limits(c)->idle_timeout_ms;
    kl_conn_set_deadline(c->c, next);
    kl_conn_flush_soon(c->c);
}

static void on_free(void *arg)
{
    kl_http_conn_gone(arg);
}

static void on_open(void *arg)
{
}

const struct kl_conn_ops kl_h2_conn_ops = {
    .on_open = on_open,
    .on_read = on_read,
    .on_eof = on_eof,
    .on_fill = fill,
    .on_deadline = on_deadline,
    .on_broken = on_broken,
    .on_free = on_free,
};

static int new_session(struct kl_h2 *h)
{
    nghttp2_session_callbacks *cbs = NULL;
    nghttp2_option *opt = NULL;
    int rc = nghttp2_session_callbacks_new(&cbs);
    if (!rc)
        rc = nghttp2_option_new(&opt);
    if (!rc) {
        nghttp2_session_callbacks_set_send_callback(cbs, send_cb);
        nghttp2_session_callbacks_set_send_data_callback(cbs, send_data_cb);
        nghttp2_session_callbacks_set_on_begin_headers_callback(cbs, on_begin_headers);
        nghttp2_session_callbacks_set_on_header_callback2(cbs, on_header);
        nghttp2_session_callbacks_set_on_frame_recv_callback(cbs, on_frame_recv);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cbs, on_data_chunk);
        nghttp2_session_callbacks_set_on_stream_close_callback(cbs, on_stream_close);
        nghttp2_session_callbacks_set_on_frame_send_callback(cbs, on_frame_send);
        nghttp2_session_callbacks_set_data_source_read_length_callback(cbs, frame_length);
        nghttp2_option_set_no_auto_window_update(opt, 1);
        nghttp2_option_set_no_closed_streams(opt, 1);
        nghttp2_option_set_max_settings(opt, 32);
        rc = nghttp2_session_server_new2(&h->session, cbs, h, opt);
    }
    nghttp2_session_callbacks_del(cbs);
    nghttp2_option_del(opt);
    return rc;
}

int kl_h2_new(struct kl_http_conn *c)
{
    const struct kl_http_limits *lim = kl_http_conn_limits(c);
    struct kl_h2 *h = calloc(1, sizeof(*h));
    if (!h)
        return KL_ENOMEM;
    h->conn = c;
    h->reset_tokens = RESET_BURST;
    h->reset_at_ms = kl_conn_now(c->c);
    nghttp2_settings_entry iv[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, lim->max_streams},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, lim->max_header_bytes},
    };
    int rc = new_session(h);
    if (!rc)
        rc = nghttp2_submit_settings(h->session, 0, iv, KL_COUNT(iv));
    if (!rc)
        rc = nghttp2_session_set_local_window_size(h->session, 0, 0, CONN_WINDOW);
    if (rc) {
        nghttp2_session_del(h->session);
        free(h);
        return KL_ENOMEM;
    }
    c->h2 = h;
    kl_conn_set_ops(c->c, &kl_h2_conn_ops, c);
    kl_conn_set_deadline(c->c, kl_conn_now(c->c) + lim->header_timeout_ms);
    kl_conn_flush_soon(c->c);
    return 0;
}

void kl_h2_free(struct kl_http_conn *c)
{
    if (!c->h2)
        return;
    nghttp2_session_del(c->h2->session);
    free(c->h2);
    c->h2 = NULL;
}

// RFC 9113 6.8. Streams that the client opened before it saw the GOAWAY are refused, and clients
// send them again elsewhere.
void kl_h2_stop(struct kl_http_conn *c)
{
    struct kl_h2 *h = c->h2;
    if (h->goaway || !c->c)
        return;
    h->goaway = true;
    if (c->nreqs == 0)
        nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
    else
        nghttp2_submit_goaway(h->session, 0, nghttp2_session_get_last_proc_stream_id(h->session),
                              NGHTTP2_NO_ERROR, NULL, 0);
    kl_conn_flush_soon(c->c);
}
