// SPDX-License-Identifier: Apache-2.0
// HTTP/1.x on a server connection: what goes out.
#include "net/http_h1.h"
#include "net/conn_duplex.h"
#include "net/conn_io.h"
#include <stdio.h>

// What is left of an unread body that may still be thrown away to keep the connection.
static bool body_too_much(const struct kl_h1 *h)
{
    if (h->msg_complete)
        return false;
    if (h->req->expects_continue && !h->continue_sent)
        return true; // the client may or may not send it now: nobody can tell
    return h->req->content_length > 256 * 1024;
}

static void put_status(struct kl_outq *q, const struct kl_http_req *r, int status)
{
    char line[64];
    int n = snprintf(line, sizeof(line), "HTTP/1.%d %03d ", r->version == 10 ? 0 : 1, status);
    kl_outq_append(q, line, (size_t)n);
    kl_outq_puts(q, kl_str(kl_http_status_text(status)));
    kl_outq_puts(q, KL_STR("\r\n"));
}

static int head(struct kl_http_req *r, int status, const struct kl_http_header *hd, size_t nh,
                int64_t length, bool no_body)
{
    struct kl_h1 *h = r->conn->h1;
    struct kl_outq *q = kl_conn_out(r->conn->c);
    bool has_date = false, has_length = false;
    h->close_after |=
        !h->keep_alive || r->close_after || r->conn->worker->stopping || body_too_much(h);
    h->chunked = !no_body && length < 0 && r->version == 11;
    if (!no_body && length < 0 && r->version == 10)
        h->close_after = true; // the end of the connection is the end of the body
    put_status(q, r, status);
    for (size_t i = 0; i < nh; i++) {
        if (kl_http_hop_header(hd[i].name))
            continue;
        if (kl_str_eqz(hd[i].name, "content-length")) {
            if (length >= 0 || !no_body || has_length)
                continue;
            has_length = true;
        }
        has_date |= kl_str_eqz(hd[i].name, "date");
        kl_h1_put_header(q, hd[i].name, hd[i].value);
    }
    if (!has_date)
        kl_h1_put_header(q, KL_STR("date"), kl_http_worker_date(r->conn->worker));
    char line[64];
    if (length >= 0 && status != 204 && status != 304) {
        int n = snprintf(line, sizeof(line), "Content-Length: %lld\r\n", (long long)length);
        kl_outq_append(q, line, (size_t)n);
    }
    if (h->chunked)
        kl_outq_puts(q, KL_STR("Transfer-Encoding: chunked\r\n"));
    if (h->close_after)
        kl_outq_puts(q, KL_STR("Connection: close\r\n"));
    else if (r->version == 10)
        kl_outq_puts(q, KL_STR("Connection: keep-alive\r\n"));
    kl_outq_puts(q, KL_STR("\r\n"));
    kl_conn_flush_soon(r->conn->c);
    return q->failed ? KL_ENOMEM : 0;
}

static int interim(struct kl_http_req *r, int status, const struct kl_http_header *hd, size_t nh)
{
    struct kl_outq *q = kl_conn_out(r->conn->c);
    put_status(q, r, status);
    for (size_t i = 0; i < nh; i++)
        kl_h1_put_header(q, hd[i].name, hd[i].value);
    kl_outq_puts(q, KL_STR("\r\n"));
    kl_conn_flush_soon(r->conn->c);
    return q->failed ? KL_ENOMEM : 0;
}

static void resume(struct kl_http_req *r)
{
    kl_conn_flush_soon(r->conn->c);
}

static void body_claimed(struct kl_http_req *r)
{
    struct kl_h1 *h = r->conn->h1;
    if (r->expects_continue && !h->continue_sent && !h->msg_complete && !r->body_unconsumed) {
        h->continue_sent = true;
        interim(r, 100, NULL, 0);
    }
    r->body_at_ms = kl_conn_now(r->conn->c);
    kl_h1_update_reading(h);
}

static void body_consumed(struct kl_http_req *r, size_t n)
{
    kl_h1_update_reading(r->conn->h1);
}

static void abort_req(struct kl_http_req *r)
{
    kl_http_conn_close_soon(r->conn, KL_ECANCELED);
}

const struct kl_http_proto_ops kl_h1_proto_ops = {
    .head = head,
    .interim = interim,
    .resume = resume,
    .body_claimed = body_claimed,
    .body_consumed = body_consumed,
    .abort = abort_req,
};

static void put_end(struct kl_http_req *r, struct kl_outq *q)
{
    kl_outq_puts(q, KL_STR("0\r\n"));
    for (size_t i = 0; i < r->ntrailers; i++)
        kl_h1_put_header(q, r->trailers[i].name, r->trailers[i].value);
    kl_outq_puts(q, KL_STR("\r\n"));
}

// Moves what the source has into the connection's queue. 0, or negative when the answer is cut off.
static int send_body(struct kl_h1 *h, struct kl_http_req *r, struct kl_outq *q)
{
    int rc = kl_http_resp_pull(r, KL_CONN_OUT_HIGH - q->bytes);
    if (rc)
        return rc;
    size_t n = r->q_bytes;
    if (r->out_length >= 0 && r->out_sent + (int64_t)n > r->out_length)
        return KL_EINTERNAL; // more than was announced
    if (n) {
        char line[24];
        if (h->chunked)
            kl_outq_append(q, line, (size_t)snprintf(line, sizeof(line), "%zx\r\n", n));
        kl_http_resp_move(r, q, n);
        if (h->chunked)
            kl_outq_puts(q, KL_STR("\r\n"));
    }
    if (!r->src_end)
        return 0;
    if (h->chunked)
        put_end(r, q);
    else if (!r->no_body && r->out_length >= 0 && r->out_sent != r->out_length)
        return KL_EINTERNAL; // less than was announced
    r->out_done = true;
    return 0;
}

void kl_h1_fill(void *arg)
{
    struct kl_http_conn *c = arg;
    struct kl_h1 *h = c->h1;
    // The next one may have become a tunnel while it was looked at.
    while (c->c && c->c->state == KL_CONN_OPEN && h->req && h->req->responded && !h->tunnel) {
        struct kl_outq *q = kl_conn_out(c->c);
        struct kl_http_req *r = kl_http_req_ref(h->req);
        if (q->bytes >= KL_CONN_OUT_HIGH) {
            kl_http_req_unref(r);
            return;
        }
        int rc = send_body(h, r, q);
        if (rc < 0 && c->c && !r->closed) {
            kl_http_conn_close(c, KL_ECANCELED);
        } else if (c->c && r->out_done) {
            h->req = NULL;
            kl_http_req_close(r, 0);
            if (c->c)
                kl_h1_next(h);
        } else if (r->src_waiting || r->closed) {
            kl_http_req_unref(r);
            return;
        }
        kl_http_req_unref(r);
    }
}

static void tunnel_gone(void *arg)
{
    struct kl_http_conn *c = arg;
    struct kl_http_req *r = c->h1->req;
    c->h1->req = NULL;
    if (r)
        kl_http_req_close(r, 0);
    kl_http_conn_gone(c);
}

int kl_http_upgrade(struct kl_http_req *r, struct kl_str protocol, const struct kl_http_header *hd,
                    size_t nh, struct kl_duplex **ret, struct kl_error *err)
{
    struct kl_http_conn *c = r->conn;
    struct kl_h1 *h = c->h1;
    if (r->closed)
        return kl_error_set(err, KL_ECANCELED, "upgrade: the request is closed");
    if (r->responded)
        return kl_error_set(err, KL_EEXISTS, "upgrade: the request is answered");
    if (r->version != 11 || !h)
        return kl_error_set(err, KL_EUNSUPPORTED, "upgrade: not possible with this HTTP version");
    if (!h->msg_complete && r->body_present)
        return kl_error_set(err, KL_EBADREQUEST, "upgrade: the request has a body");
    for (size_t i = 0; i < nh; i++)
        if (!kl_http_header_ok(&hd[i]))
            return kl_error_set(err, KL_EINVALID, "upgrade: bad header");
    struct kl_outq *q = kl_conn_out(c->c);
    // Within the parser (the message is not complete yet) its caller hands on what is left.
    struct kl_str early = KL_STR("");
    if (h->msg_complete)
        early = kl_str_from(kl_buf_str(&h->stash), h->stash_off);
    if (kl_conn_duplex_new(c->c, early, tunnel_gone, c, ret))
        return kl_error_set(err, KL_ENOMEM, "upgrade: out of memory");
    c->tunnel = true;
    h->tunnel = *ret;
    r->responded = true;
    put_status(q, r, 101);
    kl_h1_put_header(q, KL_STR("upgrade"), protocol);
    kl_h1_put_header(q, KL_STR("connection"), KL_STR("Upgrade"));
    for (size_t i = 0; i < nh; i++)
        if (!kl_http_hop_header(hd[i].name))
            kl_h1_put_header(q, hd[i].name, hd[i].value);
    kl_outq_puts(q, KL_STR("\r\n"));
    kl_conn_flush_soon(c->c);
    return 0;
}
