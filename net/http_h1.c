// SPDX-License-Identifier: Apache-2.0
// HTTP/1.x on a server connection: what comes in. One request at a time; bytes of pipelined ones
// wait in a bounded stash until the answer before them is out.
#include "net/http_h1.h"
#include "net/conn_duplex.h"
#include "net/conn_io.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    STASH_PAUSE = 64 * 1024,
    DISCARD_MAX = 256 * 1024, // of an unwanted body, as Go's maxPostHandlerReadBytes
};

// http-parser's own limit (80 KiB) is a variable of that library; ours is per server.
__attribute__((constructor)) static void lift_parser_limit(void)
{
    http_parser_set_max_header_size(64u * 1024 * 1024);
}

static int add_text(struct kl_h1 *h, struct kl_h1_text *t, const char *p, size_t n)
{
    if (n == 0)
        return 0;
    h->head_bytes += n;
    if (h->head_bytes > kl_http_conn_limits(h->conn)->max_header_bytes) {
        h->error_status = 431;
        return -1;
    }
    if (kl_h1_text_add(t, &h->req->arena, SIZE_MAX, (struct kl_str){p, n})) {
        h->error_status = 503;
        return -1;
    }
    return 0;
}

static int commit_header(struct kl_h1 *h)
{
    struct kl_http_header got;
    if (!h->in_value)
        return 0;
    h->in_value = false;
    // The library as distributed takes blanks in names.
    if (!kl_h1_take_header(&h->field, &h->value, &got)) {
        h->error_status = 400;
        return -1;
    }
    if (kl_http_req_add_header(h->req, got.name, got.value)) {
        h->error_status = 503;
        return -1;
    }
    if (h->req->headers_too_big) {
        h->error_status = 431;
        return -1;
    }
    return 0;
}

static int on_begin(http_parser *p)
{
    struct kl_h1 *h = p->data;
    h->req = kl_http_req_new(h->conn, &kl_h1_proto_ops, 11);
    if (!h->req) {
        h->error_status = 503;
        return -1;
    }
    h->state = KL_H1_HEADERS;
    h->url = h->field = h->value = (struct kl_h1_text){0};
    h->head_bytes = 0;
    h->in_value = h->msg_complete = h->continue_sent = h->chunked = false;
    kl_conn_set_deadline(h->conn->c,
                         kl_conn_now(h->conn->c) + kl_http_conn_limits(h->conn)->header_timeout_ms);
    return 0;
}

static int on_url(http_parser *p, const char *at, size_t n)
{
    struct kl_h1 *h = p->data;
    return add_text(h, &h->url, at, n);
}

static int on_field(http_parser *p, const char *at, size_t n)
{
    struct kl_h1 *h = p->data;
    if (h->state != KL_H1_HEADERS)
        return 0; // trailers
    if (commit_header(h))
        return -1;
    return add_text(h, &h->field, at, n);
}

static int on_value(http_parser *p, const char *at, size_t n)
{
    struct kl_h1 *h = p->data;
    if (h->state != KL_H1_HEADERS)
        return 0;
    h->in_value = true;
    return add_text(h, &h->value, at, n);
}

static int refuse(struct kl_h1 *h, int status, const char *text)
{
    h->error_status = status;
    h->error_text = text;
    return -1;
}

// Go's server checks the same, with the same words.
static int check_host(struct kl_h1 *h)
{
    struct kl_http_req *r = h->req;
    size_t hosts = 0;
    for (size_t i = 0; i < r->nheaders; i++) {
        if (!kl_str_eqz(r->headers[i].name, "host"))
            continue;
        hosts++;
        if (!r->authority.n)
            r->authority = r->headers[i].value;
    }
    if (hosts > 1)
        return refuse(h, 400, "too many Host headers");
    if (hosts == 0 && r->version == 11 && !kl_str_eqz(r->method, "CONNECT"))
        return refuse(h, 400, "missing required Host header");
    return 0;
}

static int on_headers_complete(http_parser *p)
{
    struct kl_h1 *h = p->data;
    struct kl_http_req *r = h->req;
    if (commit_header(h))
        return -1;
    if (p->http_major != 1 || p->http_minor > 1)
        return refuse(h, 505, "unsupported protocol version");
    r->version = p->http_minor == 0 ? 10 : 11;
    r->method = kl_str(http_method_str(p->method));
    kl_http_req_set_target(r, (struct kl_str){h->url.p ? h->url.p : "", h->url.n});
    if (check_host(h))
        return -1;
    if (kl_http_req_headers_done(r))
        return refuse(h, 400, "bad Content-Length");
    h->keep_alive = http_should_keep_alive(p);
    h->close_after = false;
    r->upgrade = p->upgrade && p->method != HTTP_CONNECT;
    // Whether to upgrade is the handler's decision, later; until then it is an ordinary request.
    p->upgrade = 0;
    r->body_present =
        (p->flags & F_CHUNKED) || (p->content_length > 0 && p->content_length != UINT64_MAX);
    h->state = KL_H1_ACTIVE;
    kl_conn_set_deadline(h->conn->c, 0);
    r->body_at_ms = kl_conn_now(h->conn->c);
    kl_http_dispatch(r);
    return h->conn->c ? 0 : -1;
}

static int on_body(http_parser *p, const char *at, size_t n)
{
    struct kl_h1 *h = p->data;
    if (h->req) {
        h->req->body_at_ms = kl_conn_now(h->conn->c);
        kl_http_body_data(h->req, (struct kl_str){at, n});
    } else {
        h->discarded += n;
        if (h->discarded > DISCARD_MAX)
            kl_conn_drain(h->conn->c);
    }
    return h->conn->c ? 0 : -1;
}

static int on_complete(http_parser *p)
{
    struct kl_h1 *h = p->data;
    h->msg_complete = true;
    http_parser_pause(p, 1);
    if (h->req)
        kl_http_body_end(h->req);
    return 0;
}

static const http_parser_settings settings = {
    .on_message_begin = on_begin,
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

// Input that cannot be understood: an answer in net/http's words when none has begun, then the end.
static void fail_input(struct kl_h1 *h)
{
    struct kl_http_conn *c = h->conn;
    int status = h->error_status ? h->error_status : 400;
    if (h->req && h->req->responded) {
        kl_http_conn_close(c, KL_EPROTO);
        return;
    }
    if (h->state == KL_H1_DISCARD) { // its answer was sent
        kl_conn_drain(c->c);
        return;
    }
    char buf[256];
    const char *text = kl_http_status_text(status);
    int n = snprintf(buf, sizeof(buf),
                     "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                     "Connection: close\r\n\r\n%d %s%s%s",
                     status, text, status, text, h->error_text ? ": " : "",
                     h->error_text ? h->error_text : "");
    struct kl_http_req *r = h->req;
    h->req = NULL;
    if (r)
        kl_http_req_close(r, KL_EPROTO);
    if (!c->c)
        return;
    kl_outq_append(kl_conn_out(c->c), buf, (size_t)n);
    kl_conn_drain(c->c);
}

static bool is_open(const struct kl_h1 *h)
{
    return h->conn->c && h->conn->c->state == KL_CONN_OPEN && !h->tunnel;
}

// Returns the number of bytes used: all, or up to the end of a request still being answered.
static size_t parse(struct kl_h1 *h, struct kl_str in)
{
    size_t used = 0;
    while (used < in.n && is_open(h)) {
        size_t n = http_parser_execute(&h->parser, &settings, in.p + used, in.n - used);
        used += n;
        if (!is_open(h))
            break;
        enum http_errno e = HTTP_PARSER_ERRNO(&h->parser);
        if (e == HPE_PAUSED) {
            http_parser_pause(&h->parser, 0);
            if (h->state == KL_H1_ACTIVE)
                break;
            kl_h1_next(h); // the end of a discarded body
        } else if (e != HPE_OK) {
            fail_input(h);
            return in.n;
        }
    }
    return used;
}

void kl_h1_update_reading(struct kl_h1 *h)
{
    struct kl_http_conn *c = h->conn;
    struct kl_http_req *r = h->req;
    if (!is_open(h))
        return;
    bool pause = h->stash.n - h->stash_off >= STASH_PAUSE;
    if (r && h->state == KL_H1_ACTIVE) {
        size_t limit = r->body_mode == KL_BODY_UNCLAIMED ? KL_HTTP_UNCLAIMED : KL_HTTP_BODY_WINDOW;
        bool full = kl_http_body_backlog(r) >= limit;
        pause |= full;
        bool waiting = !h->msg_complete && !full && !r->body_patient &&
                       (r->body_mode == KL_BODY_WHOLE || r->body_mode == KL_BODY_STREAM);
        kl_conn_set_deadline(
            c->c, waiting ? r->body_at_ms + kl_http_conn_limits(c)->progress_timeout_ms : 0);
    }
    kl_conn_pause(c->c, pause);
}

static void on_read(void *arg, struct kl_str data)
{
    struct kl_http_conn *c = arg;
    struct kl_h1 *h = c->h1;
    size_t used = 0;
    if (!(h->state == KL_H1_ACTIVE && h->msg_complete))
        used = parse(h, data);
    struct kl_str rest = kl_str_from(data, used);
    int rc = 0;
    if (h->tunnel) // a handler took the connection over during parse
        rc = rest.n ? kl_conn_duplex_add_early(h->tunnel, rest) : 0;
    else if (is_open(h) && rest.n)
        rc = kl_buf_append(&h->stash, rest.p, rest.n);
    if (rc)
        kl_http_conn_close(c, KL_ENOMEM);
    else
        kl_h1_update_reading(h);
}

static void parse_stash(struct kl_h1 *h)
{
    struct kl_str rest = kl_str_from(kl_buf_str(&h->stash), h->stash_off);
    size_t used = parse(h, rest);
    h->stash_off += used;
    if (h->tunnel && used < rest.n && kl_conn_duplex_add_early(h->tunnel, kl_str_from(rest, used)))
        kl_http_conn_close(h->conn, KL_ENOMEM);
    if (h->tunnel || h->stash_off == h->stash.n) {
        kl_buf_fini(&h->stash);
        kl_buf_init(&h->stash, STASH_PAUSE + KL_CONN_READ_BYTES);
        h->stash_off = 0;
    } else if (h->stash_off > STASH_PAUSE / 2) {
        kl_buf_consume(&h->stash, h->stash_off);
        h->stash_off = 0;
    }
}

void kl_h1_next(struct kl_h1 *h)
{
    struct kl_http_conn *c = h->conn;
    const struct kl_http_limits *lim = kl_http_conn_limits(c);
    if (h->close_after || c->worker->stopping) {
        kl_conn_drain(c->c);
        return;
    }
    if (!h->msg_complete) {
        h->state = KL_H1_DISCARD;
        h->discarded = 0;
        kl_conn_set_deadline(c->c, kl_conn_now(c->c) + lim->progress_timeout_ms);
        kl_conn_pause(c->c, false);
        return;
    }
    bool was_discarding = h->state == KL_H1_DISCARD;
    h->state = KL_H1_IDLE;
    h->msg_complete = false;
    kl_conn_set_deadline(c->c, kl_conn_now(c->c) + lim->idle_timeout_ms);
    if (!was_discarding && h->stash.n > h->stash_off)
        parse_stash(h);
    kl_h1_update_reading(h);
}

static void on_eof(void *arg)
{
    struct kl_http_conn *c = arg;
    struct kl_h1 *h = c->h1;
    // An answer that is complete still goes to a client that only closed its half.
    if (h->req && kl_http_resp_complete(h->req) && h->msg_complete && !h->conn->c->hup)
        h->close_after = true;
    else
        kl_http_conn_close(c, KL_ECANCELED);
}

static void on_deadline(void *arg)
{
    kl_http_conn_close(arg, KL_ETIMEOUT);
}

static void on_broken(void *arg, int status, const struct kl_error *err)
{
    kl_http_conn_close(arg, status == KL_ETIMEOUT ? KL_ETIMEOUT : KL_ECANCELED);
}

static void on_free(void *arg)
{
    kl_http_conn_gone(arg);
}

const struct kl_conn_ops kl_h1_conn_ops = {
    .on_read = on_read,
    .on_eof = on_eof,
    .on_fill = kl_h1_fill,
    .on_deadline = on_deadline,
    .on_broken = on_broken,
    .on_free = on_free,
};

int kl_h1_new(struct kl_http_conn *c)
{
    struct kl_h1 *h = calloc(1, sizeof(*h));
    if (!h)
        return KL_ENOMEM;
    http_parser_init(&h->parser, HTTP_REQUEST);
    h->parser.data = h;
    h->conn = c;
    h->keep_alive = true;
    kl_buf_init(&h->stash, STASH_PAUSE + KL_CONN_READ_BYTES);
    c->h1 = h;
    kl_conn_set_ops(c->c, &kl_h1_conn_ops, c);
    return 0;
}

void kl_h1_free(struct kl_http_conn *c)
{
    if (!c->h1)
        return;
    kl_buf_fini(&c->h1->stash);
    free(c->h1);
    c->h1 = NULL;
}

void kl_h1_forget(struct kl_http_conn *c)
{
    if (c->h1)
        c->h1->req = NULL;
}

void kl_h1_stop(struct kl_http_conn *c)
{
    struct kl_h1 *h = c->h1;
    if (h->state == KL_H1_IDLE && c->c)
        kl_conn_drain(c->c);
}
