// SPDX-License-Identifier: Apache-2.0
// HTTP/2 on a server connection, over nghttp2: requests coming in, and the connection. Everything
// that goes out is produced in `fill`, once per loop iteration, so that frames of many streams
// leave in one write.
#include "net/http_h2.h"
#include <stdlib.h>

enum {
    CONN_WINDOW = 1024 * 1024,
    RESET_BURST_S = 30,
};

// Resets by the client: a bucket that is refilled every second, as nghttp2 has one too.
static int64_t reset_burst(const struct kl_http_conn *c)
{
    return (int64_t)kl_http_conn_limits(c)->max_resets_per_s * RESET_BURST_S;
}

// ---- Requests coming in

static int on_begin_headers(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
    struct kl_h2 *h = arg;
    if (f->hd.type != NGHTTP2_HEADERS || f->headers.cat != NGHTTP2_HCAT_REQUEST || !h->conn->c)
        return 0;
    h->saw_other = true;
    struct kl_http_req *r = kl_http_req_new(h->conn, &kl_h2_proto_ops, 20);
    if (!r)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    r->stream_id = f->hd.stream_id;
    nghttp2_session_set_stream_user_data(s, r->stream_id, r);
    return 0;
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
    struct kl_http_req *r = kl_h2_req(h, f->hd.stream_id);
    if (!h->conn->c)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (!r || f->headers.cat != NGHTTP2_HCAT_REQUEST || r->headers_too_big)
        return 0;
    struct kl_str n = kl_h2_str(name), v = kl_h2_str(value);
    if (r->header_bytes + n.n + v.n + 32 > kl_http_conn_limits(r->conn)->max_header_bytes) {
        r->headers_too_big = true;
        return 0;
    }
    n = kl_arena_dup(&r->arena, n);
    v = kl_arena_dup(&r->arena, v);
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
    r->body_at_ms = kl_h2_now(h);
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
    if (f->hd.type == NGHTTP2_WINDOW_UPDATE)
        h->saw_window = true;
    else
        h->saw_other = true;
    switch (f->hd.type) {
    case NGHTTP2_HEADERS:
        r = kl_h2_req(h, f->hd.stream_id);
        if (r && f->headers.cat == NGHTTP2_HCAT_REQUEST)
            request_complete(h, r, end);
        else if (r && end)
            kl_http_body_end(r); // trailers
        break;
    case NGHTTP2_DATA:
        r = kl_h2_req(h, f->hd.stream_id);
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
    struct kl_http_req *r = kl_h2_req(h, id);
    if (!h->conn->c)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    h->saw_other = true;
    // The connection's window opens at once: what one stream may hold back is bounded by its own.
    nghttp2_session_consume_connection(s, n);
    if (!r) {
        nghttp2_session_consume_stream(s, id, n);
        return 0;
    }
    r->body_at_ms = kl_h2_now(h);
    kl_http_body_data(r, (struct kl_str){(const char *)p, n});
    return h->conn->c ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static bool spend_reset(struct kl_h2 *h)
{
    uint64_t now = kl_h2_now(h), passed_s = (now - h->reset_at_ms) / 1000;
    if (passed_s) {
        int64_t burst = reset_burst(h->conn);
        if (passed_s < RESET_BURST_S)
            h->reset_tokens += (int64_t)passed_s * kl_http_conn_limits(h->conn)->max_resets_per_s;
        if (passed_s >= RESET_BURST_S || h->reset_tokens > burst)
            h->reset_tokens = burst;
        h->reset_at_ms += passed_s * 1000;
    }
    return --h->reset_tokens >= 0;
}

static int on_stream_close(nghttp2_session *s, int32_t id, uint32_t code, void *arg)
{
    struct kl_h2 *h = arg;
    struct kl_http_req *r = kl_h2_req(h, id);
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
        kl_conn_set_deadline(c->c, kl_h2_now(h) + kl_http_conn_limits(c)->idle_timeout_ms);
    return 0;
}

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

// A client that is sent many events (50 watches on one connection, say) answers each few KiB with
// WINDOW_UPDATEs in packets of their own. While nothing waits for them there is no hurry: reading
// them one by one would cost more than sending the events. The second in a row starts it, so that
// a client that just said something is read at once.
static void rest_after_windows(struct kl_h2 *h)
{
    uint64_t now = kl_h2_now(h);
    bool again = h->window_at_ms + 2 * KL_CONN_REST_MS >= now;
    if (!h->saw_window || h->saw_other)
        return;
    h->window_at_ms = now;
    if (again)
        kl_conn_rest(h->conn->c);
}

static void on_read(void *arg, struct kl_str data)
{
    struct kl_http_conn *c = arg;
    struct kl_h2 *h = c->h2;
    h->saw_window = h->saw_other = false;
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
    else
        rest_after_windows(h);
}

static void on_eof(void *arg)
{
    kl_http_conn_close(arg, KL_ECANCELED);
}

static void on_broken(void *arg, int status, const struct kl_error *err)
{
    kl_http_conn_close(arg, status == KL_ETIMEOUT ? KL_ETIMEOUT : KL_ECANCELED);
}

// A stream waits for the peer: it takes nothing of the answer, or sends nothing of a body. Of one
// that is answered only the rest of its body is still on its way.
static uint64_t stream_due(const struct kl_h2 *h, const struct kl_http_req *r)
{
    uint64_t due = 0;
    if (r->out_done)
        return r->out_at_ms + KL_H2_LINGER_MS;
    if (r->responded && !r->src_waiting)
        due = r->out_at_ms + kl_h2_progress_ms(h);
    bool reading = !r->body_eof && !r->body_told && !r->body_patient &&
                   (r->body_mode == KL_BODY_WHOLE || r->body_mode == KL_BODY_STREAM) &&
                   r->body_unconsumed < KL_HTTP_BODY_WINDOW / 2;
    if (reading && (!due || r->body_at_ms + kl_h2_progress_ms(h) < due))
        due = r->body_at_ms + kl_h2_progress_ms(h);
    return due;
}

static void on_deadline(void *arg)
{
    struct kl_http_conn *c = arg;
    struct kl_h2 *h = c->h2;
    uint64_t now = kl_h2_now(h), next = 0;
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
            nghttp2_submit_rst_stream(h->session, 0, id,
                                      r->out_done ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL);
            kl_http_req_ref(r);
            kl_http_req_close(r, r->out_done ? 0 : KL_ETIMEOUT);
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

const struct kl_conn_ops kl_h2_conn_ops = {
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
        kl_h2_set_out_callbacks(cbs);
        nghttp2_session_callbacks_set_on_begin_headers_callback(cbs, on_begin_headers);
        nghttp2_session_callbacks_set_on_header_callback2(cbs, on_header);
        nghttp2_session_callbacks_set_on_frame_recv_callback(cbs, on_frame_recv);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cbs, on_data_chunk);
        nghttp2_session_callbacks_set_on_stream_close_callback(cbs, on_stream_close);
        nghttp2_option_set_no_auto_window_update(opt, 1);
        nghttp2_option_set_no_closed_streams(opt, 1);
        nghttp2_option_set_max_settings(opt, 32);
        nghttp2_option_set_stream_reset_rate_limit(opt, (uint64_t)reset_burst(h->conn),
                                                   kl_http_conn_limits(h->conn)->max_resets_per_s);
        nghttp2_option_set_no_http_messaging(opt, kl_http_conn_limits(h->conn)->lenient_http2);
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
    h->reset_tokens = reset_burst(c);
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
