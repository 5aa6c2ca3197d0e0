// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 on a client connection: one call at a time.
#include "net/client_int.h"
#include "net/conn_duplex.h"
#include <inttypes.h>
#include <stdio.h>

enum { TEXT_MAX = 4 * 1024 * 1024 }; // of a header

static struct kl_http_call *call_of(const struct kl_hc_conn *hc)
{
    return hc->gone ? NULL : hc->calls;
}

// ---- The request

static bool wants_length(const struct kl_http_call *call)
{
    if (call->stream_body)
        return call->body_length > 0;
    return call->body || kl_str_eqz(call->method, "POST") || kl_str_eqz(call->method, "PUT") ||
           kl_str_eqz(call->method, "PATCH");
}

void kl_hc_h1_send(struct kl_hc_conn *hc, struct kl_http_call *call)
{
    struct kl_outq *q = kl_conn_out(hc->c);
    call->version = 11;
    hc->complete = hc->upgraded = hc->got_bytes = false;
    kl_conn_set_deadline(hc->c, 0);
    kl_outq_puts(q, call->method);
    kl_outq_puts(q, KL_STR(" "));
    kl_outq_puts(q, call->path);
    kl_outq_puts(q, KL_STR(" HTTP/1.1\r\n"));
    kl_h1_put_header(q, KL_STR("host"), call->host_header);
    for (size_t i = 0; i < call->nheaders; i++)
        if (call->upgrade || !kl_http_hop_header(call->headers[i].name))
            kl_h1_put_header(q, call->headers[i].name, call->headers[i].value);
    if (wants_length(call)) {
        char line[48];
        uint64_t length = call->body ? call->body->n : call->body_length;
        int n = snprintf(line, sizeof(line), "Content-Length: %" PRIu64 "\r\n", length);
        kl_outq_append(q, line, (size_t)n);
    } else if (call->stream_body) {
        kl_outq_puts(q, KL_STR("Transfer-Encoding: chunked\r\n"));
    }
    kl_outq_puts(q, KL_STR("\r\n"));
    if (call->body)
        kl_outq_take(q, kl_bytes_ref(call->body), 0, call->body->n);
    http_parser_init(&hc->parser, HTTP_RESPONSE);
    hc->parser.data = hc;
    kl_conn_pause(hc->c, call->paused);
    kl_conn_flush_soon(hc->c);
}

// What there is of a streamed body.
static void on_fill(void *arg)
{
    struct kl_hc_conn *hc = arg;
    struct kl_http_call *call = call_of(hc);
    struct kl_outq *q = kl_conn_out(hc->c);
    char line[24];
    if (!call || !call->stream_body || call->body_done)
        return;
    bool chunked = !call->body_length;
    while (q->bytes < KL_CONN_OUT_HIGH && kl_hc_call_next_piece(call)) {
        if (!call->body->n)
            continue;
        if (chunked)
            kl_outq_append(q, line, (size_t)snprintf(line, sizeof(line), "%x\r\n", call->body->n));
        kl_outq_take(q, kl_bytes_ref(call->body), 0, call->body->n);
        if (chunked)
            kl_outq_puts(q, KL_STR("\r\n"));
    }
    if (call->pieces || !call->body_ended)
        return;
    if (chunked)
        kl_outq_puts(q, KL_STR("0\r\n\r\n"));
    call->body_done = true;
}

// ---- The answer

static int add_text(struct kl_hc_conn *hc, struct kl_h1_text *t, const char *p, size_t n)
{
    struct kl_http_call *call = call_of(hc);
    if (!call)
        return -1;
    return kl_h1_text_add(t, &call->resp_arena, TEXT_MAX, (struct kl_str){p, n}) ? -1 : 0;
}

static int commit_header(struct kl_hc_conn *hc)
{
    struct kl_http_call *call = call_of(hc);
    struct kl_http_header got;
    if (!hc->in_value)
        return 0;
    hc->in_value = false;
    if (!kl_h1_take_header(&hc->field, &hc->value, &got) || !call ||
        kl_hc_call_add_header(call, got.name, got.value))
        return -1;
    if (call->got_headers)
        call->ntrailers++;
    return 0;
}

static int on_begin(http_parser *p)
{
    struct kl_hc_conn *hc = p->data;
    hc->field = hc->value = (struct kl_h1_text){0};
    hc->in_value = false;
    return call_of(hc) ? 0 : -1;
}

static int on_field(http_parser *p, const char *at, size_t n)
{
    struct kl_hc_conn *hc = p->data;
    return commit_header(hc) ? -1 : add_text(hc, &hc->field, at, n);
}

static int on_value(http_parser *p, const char *at, size_t n)
{
    struct kl_hc_conn *hc = p->data;
    hc->in_value = true;
    return add_text(hc, &hc->value, at, n);
}

// Whatever lengths the headers name (RFC 9112 section 6.3): the bytes behind them are of the next
// answer.
static bool is_bodiless(const struct kl_http_call *call, int status)
{
    return status < 200 || status == 204 || status == 304 || kl_str_eqz(call->method, "HEAD");
}

static int on_headers_complete(http_parser *p)
{
    enum { BODY, NO_BODY }; // what the parser expects behind the headers
    struct kl_hc_conn *hc = p->data;
    struct kl_http_call *call = call_of(hc);
    int status = (int)p->status_code;
    if (!call || commit_header(hc) || status < 100) // three digits, as Go wants them
        return -1;
    if (status == 101) {
        if (!call->upgrade || !p->upgrade)
            return -1;
        hc->upgraded = true;
    } else if (status < 200) {
        kl_hc_call_reset(call);
        return NO_BODY;
    }
    hc->keep_alive = http_should_keep_alive(p);
    if (!kl_hc_call_headers(call, status))
        return -1;
    return is_bodiless(call, status) ? NO_BODY : BODY;
}

static int on_body(http_parser *p, const char *at, size_t n)
{
    struct kl_hc_conn *hc = p->data;
    struct kl_http_call *call = call_of(hc);
    return call && kl_hc_call_data(call, (struct kl_str){at, n}) ? 0 : -1;
}

static int on_complete(http_parser *p)
{
    struct kl_hc_conn *hc = p->data;
    if (!call_of(hc) || commit_header(hc)) // the last trailer
        return -1;
    if (p->status_code < 200 && p->status_code != 101)
        return 0; // the final answer follows
    hc->complete = true;
    http_parser_pause(p, 1);
    return 0;
}

static const http_parser_settings settings = {
    .on_message_begin = on_begin,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

static int count_idle(const struct kl_hc_target *t)
{
    int n = 0;
    for (const struct kl_hc_conn *hc = t->conns; hc; hc = hc->next)
        n += hc->open && hc->ncalls == 0;
    return n;
}

static void hand_over(struct kl_hc_conn *hc, struct kl_http_call *call, struct kl_str early)
{
    struct kl_duplex *d;
    struct kl_conn *c = hc->c;
    if (kl_conn_duplex_new(c, early, NULL, NULL, &d)) {
        kl_hc_conn_fail(hc, KL_ENOMEM, NULL);
        return;
    }
    hc->c = NULL; // from here on the duplex owns the socket
    call->in_cb = true;
    if (call->cbs->on_upgrade)
        call->cbs->on_upgrade(call->arg, call, d);
    else
        kl_duplex_close(d);
    call->in_cb = false;
    kl_hc_call_end(call, 0, NULL);
    kl_hc_conn_close(hc);
}

static void finish(struct kl_hc_conn *hc, struct kl_str rest)
{
    struct kl_http_call *call = hc->calls;
    struct kl_hc_target *t = hc->target;
    struct kl_http_client *c = t->client;
    if (hc->upgraded) {
        hand_over(hc, call, rest);
        return;
    }
    // Bytes behind an answer that nobody asked for: the connection cannot be trusted.
    bool said_all = !call->stream_body || call->body_done;
    bool keep = said_all && hc->keep_alive && !rest.n && !hc->draining && !hc->c->eof &&
                kl_conn_out(hc->c)->bytes == 0;
    c->refs++;
    t->busy++;
    kl_hc_call_detach(call);
    if (!keep || count_idle(t) > (int)c->max_idle) {
        kl_hc_conn_close(hc);
    } else {
        hc->reused = true;
        kl_conn_pause(hc->c, false);
        kl_hc_conn_idle(hc);
    }
    kl_hc_call_complete(call);
    if (!c->closed)
        kl_hc_dispatch(t);
    t->busy--;
    kl_hc_client_unref(c);
}

static void on_read(void *arg, struct kl_str data)
{
    struct kl_hc_conn *hc = arg;
    if (!hc->calls) {
        kl_hc_conn_fail(hc, KL_EPROTO, NULL); // unasked
        return;
    }
    hc->got_bytes = true;
    size_t n = http_parser_execute(&hc->parser, &settings, data.p, data.n);
    if (hc->gone)
        return;
    if (hc->complete) {
        finish(hc, kl_str_from(data, n));
        return;
    }
    enum http_errno e = HTTP_PARSER_ERRNO(&hc->parser);
    if (e != HPE_OK) {
        struct kl_error err;
        kl_error_set(&err, KL_EPROTO, "malformed HTTP response: %s", http_errno_description(e));
        kl_hc_conn_fail(hc, KL_EPROTO, &err);
    }
}

static void on_eof(void *arg)
{
    struct kl_hc_conn *hc = arg;
    struct kl_error err;
    bool held = hc->calls && (hc->calls->paused || hc->calls->backlog.n);
    if (held && !hc->complete && hc->c->hup && !hc->c->eof)
        return; // bytes still wait to be read
    if (hc->calls && hc->got_bytes) {
        http_parser_execute(&hc->parser, &settings, NULL, 0); // a body that ends here
        if (hc->gone)
            return;
        if (hc->complete) {
            hc->keep_alive = false;
            finish(hc, KL_STR(""));
            return;
        }
    }
    kl_error_set(&err, KL_EIO, hc->got_bytes ? "unexpected EOF" : "EOF");
    kl_hc_conn_fail(hc, KL_EIO, &err);
}

static void on_deadline(void *arg)
{
    struct kl_hc_conn *hc = arg;
    if (hc->ncalls == 0)
        kl_hc_conn_close(hc);
}

static void on_broken(void *arg, int status, const struct kl_error *err)
{
    kl_hc_conn_fail(arg, status, err);
}

const struct kl_conn_ops kl_hc_h1_ops = {
    .on_read = on_read,
    .on_eof = on_eof,
    .on_fill = on_fill,
    .on_deadline = on_deadline,
    .on_broken = on_broken,
    .on_free = kl_hc_conn_freed,
};

int kl_hc_h1_start(struct kl_hc_conn *hc)
{
    kl_conn_set_ops(hc->c, &kl_hc_h1_ops, hc);
    return 0;
}
