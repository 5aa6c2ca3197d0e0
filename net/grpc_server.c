// SPDX-License-Identifier: Apache-2.0
// gRPC calls on HTTP/2 requests (grpc/doc/PROTOCOL-HTTP2.md).
#include "net/grpc_int.h"
#include <stdio.h>
#include <stdlib.h>

enum { PREFIX = 5, DEFAULT_MAX = 4 * 1024 * 1024, MAX_STATUS_MESSAGE = 8000 };

// ---- The server

static int add_table(struct kl_grpc_server *s, const struct kl_grpc_method *t, struct kl_error *err)
{
    for (; t->path; t++) {
        if (s->nslots == KL_GRPC_MAX_METHODS)
            return kl_error_set(err, KL_ELIMIT, "more than %d gRPC methods", KL_GRPC_MAX_METHODS);
        s->slots[s->nslots].path = kl_str(t->path);
        s->slots[s->nslots++].m = t;
    }
    return 0;
}

int kl_grpc_server_new(const struct kl_grpc_server_opts *o, struct kl_grpc_server **ret,
                       struct kl_error *err)
{
    struct kl_grpc_server *s = calloc(1, sizeof(*s));
    int rc = s ? 0 : kl_error_set(err, KL_ENOMEM, "gRPC server: out of memory");
    for (const struct kl_grpc_method *const *t = o->methods; !rc && *t; t++)
        rc = add_table(s, *t, err);
    if (rc) {
        free(s);
        return rc;
    }
    s->arg = o->arg;
    s->max_message = o->max_message_bytes ? o->max_message_bytes : DEFAULT_MAX;
    *ret = s;
    return 0;
}

void kl_grpc_server_free(struct kl_grpc_server *s)
{
    free(s);
}

bool kl_grpc_is(const struct kl_http_req *r)
{
    return kl_http_version(r) == 20 &&
           kl_str_starts(kl_http_header(r, KL_STR("content-type")), KL_STR("application/grpc"));
}

struct kl_grpc_slot *kl_grpc_find(struct kl_grpc_server *s, struct kl_str path)
{
    for (size_t i = 0; i < s->nslots; i++)
        if (kl_str_eq(s->slots[i].path, path))
            return &s->slots[i];
    return NULL;
}

// ---- The status

// grpc-message: UTF-8 with what is not printable ASCII percent-encoded.
static struct kl_str encode_message(struct kl_arena *a, struct kl_str s)
{
    static const char hex[] = "0123456789ABCDEF";
    s.n = s.n < MAX_STATUS_MESSAGE ? s.n : MAX_STATUS_MESSAGE;
    char *to = kl_arena_alloc(a, s.n * 3 + 1), *p = to;
    if (!to)
        return KL_STR("");
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= ' ' && c <= '~' && c != '%') {
            *p++ = (char)c;
        } else {
            *p++ = '%';
            *p++ = hex[c >> 4];
            *p++ = hex[c & 15];
        }
    }
    return (struct kl_str){to, (size_t)(p - to)};
}

static size_t put_status(struct kl_grpc_rpc *c, struct kl_http_header *h, enum kl_grpc_code code,
                         const char *message, char text[16])
{
    if (code == KL_GRPC_OK) {
        h[0] = (struct kl_http_header)KL_HTTP_HEADER("grpc-status", "0");
        return 1;
    }
    snprintf(text, 16, "%d", (int)code);
    h[0] = (struct kl_http_header){KL_STR("grpc-status"), kl_str(text)};
    h[1] = (struct kl_http_header){KL_STR("grpc-message"),
                                   encode_message(kl_http_req_arena(c->r), kl_str(message))};
    return 2;
}

// ---- The answer

static void end_pull(struct kl_grpc_rpc *c)
{
    void (*done)(void *) = c->pull_done;
    c->pull = NULL;
    c->pull_done = NULL;
    if (done)
        done(c->pull_arg);
}

static int take_queued(struct kl_grpc_rpc *c, struct kl_http_chunk *chunks, int max)
{
    int n = 0;
    while (n < max && c->q_at < c->q_n) {
        chunks[n] = c->q[c->q_at++];
        c->queued -= chunks[n++].n;
    }
    if (c->q_at == c->q_n)
        c->q_at = c->q_n = 0;
    return n;
}

int kl_grpc_pull(void *arg, struct kl_http_chunk *chunks, int max, bool *ret_end)
{
    struct kl_grpc_rpc *c = arg;
    if (c->q_at == c->q_n && c->want && !c->finished) {
        c->want = false;
        c->m->ready(c);
        if (c->closed)
            return KL_ECANCELED;
    }
    int n = take_queued(c, chunks, max);
    if (n || !c->pull) {
        *ret_end = c->finished && !c->pull && c->q_at == c->q_n;
        return n;
    }
    n = c->pull(c->pull_arg, chunks, max);
    if (n <= 0)
        return n;
    for (int i = 0; i < n; i++) {
        if (chunks[i].n > c->pull_left) {
            c->pull_left = SIZE_MAX;
            break;
        }
        c->pull_left -= chunks[i].n;
    }
    if (c->pull_left == SIZE_MAX) {
        for (int i = 0; i < n; i++)
            kl_bytes_unref(chunks[i].bytes);
        return KL_EINTERNAL;
    }
    if (c->pull_left == 0) {
        end_pull(c);
        *ret_end = c->finished;
    }
    return n;
}

static const struct kl_http_source source = {.pull = kl_grpc_pull};

static void resume(struct kl_grpc_rpc *c)
{
    if (c->front)
        c->front->more(c->front_arg);
    else
        kl_http_resume(c->r);
}

static void start_answer(struct kl_grpc_rpc *c)
{
    static const struct kl_http_header h[] = {KL_HTTP_HEADER("content-type", "application/grpc")};
    if (c->responded || c->closed)
        return;
    c->responded = true;
    if (c->front) {
        c->front->more(c->front_arg);
        return;
    }
    if (kl_http_respond_stream(c->r, 200, h, KL_COUNT(h), &source, c))
        kl_http_abort(c->r);
}

void kl_grpc_rpc_finish(struct kl_grpc_rpc *c, enum kl_grpc_code code, const char *message)
{
    struct kl_http_header h[3] = {KL_HTTP_HEADER("content-type", "application/grpc")};
    char text[16];
    if (c->closed || c->finished)
        return;
    c->finished = true;
    if (c->slot)
        kl_grpc_count(&c->slot->handled[code], 1);
    if (c->front) {
        c->code = code;
        c->code_message = kl_arena_dup(kl_http_req_arena(c->r), kl_str(message));
        c->front->more(c->front_arg);
        return;
    }
    if (!c->responded && c->q_at == c->q_n && !c->pull) {
        c->responded = true;
        size_t n = 1 + put_status(c, h + 1, code, message, text);
        if (kl_http_respond(c->r, 200, h, n, KL_STR("")))
            kl_http_abort(c->r);
        return;
    }
    size_t n = put_status(c, h, code, message, text);
    if (kl_http_set_trailers(c->r, h, n)) {
        kl_http_abort(c->r);
        return;
    }
    if (c->responded)
        kl_http_resume(c->r);
    else
        start_answer(c);
}

static bool queue_room(struct kl_grpc_rpc *c, uint32_t n)
{
    if (c->q_cap - c->q_n >= n)
        return true;
    uint32_t have = c->q_n - c->q_at, cap = c->q_cap;
    while (cap < have + n)
        cap *= 2;
    struct kl_http_chunk *q = c->q;
    if (cap > c->q_cap && !(q = malloc(cap * sizeof(*q))))
        return false;
    memmove(q, c->q + c->q_at, have * sizeof(*q));
    if (q != c->q && c->q != c->few)
        free(c->q);
    c->q = q;
    c->q_cap = cap;
    c->q_at = 0;
    c->q_n = have;
    return true;
}

static int queue_message(struct kl_grpc_rpc *c, struct kl_grpc_out *o)
{
    uint32_t n;
    if (o->bytes > INT32_MAX) // what etcd's servers send and its clients take
        return KL_ETOOLARGE;
    struct kl_http_chunk *chunks = kl_grpc_out_end(o, &n);
    if (!chunks || !queue_room(c, n))
        return KL_ENOMEM;
    memcpy(c->q + c->q_n, chunks, n * sizeof(*chunks));
    c->q_n += n;
    c->queued += o->bytes + PREFIX;
    kl_grpc_count(&c->slot->sent, 1);
    kl_grpc_count(&c->slot->sent_bytes, (long long)o->bytes + PREFIX);
    o->n = 0; // the references are the queue's
    return 0;
}

static void fail_queue(struct kl_grpc_rpc *c, int rc, size_t n)
{
    char text[96] = "out of memory";
    if (rc == KL_ETOOLARGE)
        snprintf(text, sizeof(text), "grpc: trying to send message larger than max (%zu vs. %d)", n,
                 INT32_MAX);
    if (rc == KL_ENOMEM || rc == KL_ETOOLARGE)
        kl_grpc_rpc_finish(c, KL_GRPC_RESOURCE_EXHAUSTED, text);
}

bool kl_grpc_rpc_fits(struct kl_grpc_rpc *c, size_t n)
{
    if (n > INT32_MAX)
        fail_queue(c, KL_ETOOLARGE, n);
    return n <= INT32_MAX;
}

// Empties o.
static int send_message(struct kl_grpc_rpc *c, struct kl_grpc_out *o)
{
    size_t n = o->bytes;
    int rc = c->closed || c->finished ? KL_ECANCELED : queue_message(c, o);
    kl_grpc_out_fini(o);
    fail_queue(c, rc, n);
    return rc;
}

int kl_grpc_rpc_send(struct kl_grpc_rpc *c, struct kl_grpc_out *o)
{
    int rc = send_message(c, o);
    if (rc)
        return rc;
    if (c->responded)
        resume(c);
    else if (c->m->client_stream || c->m->ready)
        start_answer(c);
    return 0;
}

int kl_grpc_rpc_send_str(struct kl_grpc_rpc *c, struct kl_str message)
{
    struct kl_grpc_out o;
    kl_grpc_out_init(&o, message.n);
    kl_grpc_out_put(&o, message.p, message.n);
    return kl_grpc_rpc_send(c, &o);
}

void kl_grpc_rpc_reply(struct kl_grpc_rpc *c, struct kl_grpc_out *o)
{
    if (!send_message(c, o))
        kl_grpc_rpc_finish(c, KL_GRPC_OK, NULL);
}

int kl_grpc_rpc_reply_pull(struct kl_grpc_rpc *c, size_t n,
                           int (*pull)(void *arg, struct kl_http_chunk *chunks, int max),
                           void (*done)(void *arg), void *arg)
{
    struct kl_grpc_out o;
    int rc = c->closed || c->finished ? KL_ECANCELED : 0;
    if (!rc) {
        kl_grpc_out_init(&o, 0);
        o.bytes = n; // for the prefix
        rc = queue_message(c, &o);
        c->queued -= rc ? 0 : n;
        kl_grpc_out_fini(&o);
    }
    if (rc) {
        done(arg);
        fail_queue(c, rc, n);
        return rc;
    }
    c->pull = pull;
    c->pull_done = done;
    c->pull_arg = arg;
    c->pull_left = n;
    if (!n)
        end_pull(c);
    kl_grpc_rpc_finish(c, KL_GRPC_OK, NULL);
    return 0;
}

void kl_grpc_rpc_pull_on(struct kl_grpc_rpc *c)
{
    if (!c->closed)
        resume(c);
}

size_t kl_grpc_rpc_queued(const struct kl_grpc_rpc *c)
{
    return c->queued;
}

void kl_grpc_rpc_want_send(struct kl_grpc_rpc *c)
{
    if (c->closed || c->finished || c->want)
        return;
    c->want = true;
    if (c->responded)
        resume(c);
    else
        start_answer(c);
}

// ---- The question

static void fail_length(struct kl_grpc_rpc *c, size_t n)
{
    char text[128];
    snprintf(text, sizeof(text), "grpc: received message larger than max (%zu vs. %zu)", n,
             c->s->max_message);
    kl_grpc_rpc_finish(c, KL_GRPC_RESOURCE_EXHAUSTED, text);
}

static void fail_compressed(struct kl_grpc_rpc *c)
{
    kl_grpc_rpc_finish(c, KL_GRPC_INTERNAL,
                       "grpc: compressed flag set with identity or empty encoding");
}

// Hands on the whole messages at the front; returns how much of `data` they took.
static size_t deliver(struct kl_grpc_rpc *c, struct kl_str data)
{
    size_t at = 0;
    while (!c->closed && !c->finished && !c->held && data.n - at >= PREFIX) {
        const unsigned char *p = (const unsigned char *)data.p + at;
        size_t n = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
        if (p[0])
            fail_compressed(c);
        else if (n > c->s->max_message)
            fail_length(c, n);
        else if (c->got_message && !c->m->client_stream)
            kl_grpc_rpc_finish(c, KL_GRPC_INTERNAL,
                               "cardinality violation: received multiple request messages for "
                               "non-client-streaming RPC");
        else if (data.n - at - PREFIX < n)
            break;
        else {
            c->got_message = true;
            kl_grpc_count(&c->slot->received, 1);
            at += PREFIX + n;
            c->m->message(c, (struct kl_str){data.p + at - n, n});
        }
    }
    return at;
}

void kl_grpc_tell_eof(struct kl_grpc_rpc *c)
{
    if (!c->in_eof || c->told_eof || c->held || c->closed || c->finished)
        return;
    c->told_eof = true;
    if (c->in.n || (!c->m->client_stream && !c->got_message))
        kl_grpc_rpc_finish(c, KL_GRPC_INTERNAL, "unexpected EOF");
    else if (c->m->half_close)
        c->m->half_close(c);
}

// What is in the buffer; new bytes were appended before.
void kl_grpc_deliver(struct kl_grpc_rpc *c)
{
    size_t taken;
    if (c->delivering)
        return;
    c->delivering = true;
    do { // a callback may let go of the hold
        taken = deliver(c, kl_buf_str(&c->in));
        if (taken && !c->closed)
            kl_buf_consume(&c->in, taken);
    } while (taken && !c->closed && !c->held && c->in.n);
    c->delivering = false;
}

static void on_data(void *arg, struct kl_http_req *r, int status, struct kl_str data, bool end)
{
    struct kl_grpc_rpc *c = arg;
    if (status || c->closed)
        return; // on_close says the rest
    c->in_eof |= end;
    if (c->finished) {
        kl_http_body_consumed(r, data.n);
        return;
    }
    size_t n = data.n;
    kl_grpc_count(&c->slot->received_bytes, (long long)n);
    kl_http_req_ref(r);
    if (!c->in.n && !c->held) {
        c->delivering = true;
        data = kl_str_from(data, deliver(c, data));
        c->delivering = false;
    }
    if (!c->closed && !c->finished && data.n) {
        if (kl_buf_append(&c->in, data.p, data.n))
            kl_grpc_rpc_finish(c, KL_GRPC_RESOURCE_EXHAUSTED, "grpc: received too much at once");
        else
            kl_grpc_deliver(c);
    }
    if (!c->closed) {
        if (c->held)
            c->unreturned += n;
        else if (c->m->client_stream || !c->got_message)
            kl_http_body_consumed(r, n);
        kl_grpc_tell_eof(c);
    }
    kl_http_req_unref(r);
}

void kl_grpc_rpc_hold(struct kl_grpc_rpc *c, bool hold)
{
    c->held = hold;
    if (hold || c->closed || c->delivering)
        return;
    if (c->front)
        c->front->more(c->front_arg);
    kl_http_req_ref(c->r);
    kl_grpc_deliver(c);
    if (!c->held && !c->closed) {
        kl_http_body_consumed(c->r, c->unreturned);
        c->unreturned = 0;
        kl_grpc_tell_eof(c);
    }
    kl_http_req_unref(c->r);
}

// ---- Begin and end

static void on_close(void *arg, struct kl_http_req *r, int status)
{
    struct kl_grpc_rpc *c = arg;
    c->closed = true;
    if (c->slot && !c->finished)
        kl_grpc_count(&c->slot->handled[KL_GRPC_CANCELED], 1);
    kl_grpc_end_deadline(c);
    end_pull(c);
    if (c->m && c->m->close)
        c->m->close(c);
    while (c->q_at < c->q_n)
        kl_bytes_unref(c->q[c->q_at++].bytes);
    if (c->q != c->few)
        free(c->q);
    c->q = c->few;
    c->q_at = c->q_n = 0;
    kl_buf_fini(&c->in);
    if (c->front)
        c->front->close(c->front_arg);
}

struct kl_grpc_rpc *kl_grpc_new_rpc(struct kl_grpc_server *s, struct kl_http_req *r,
                                    struct kl_grpc_slot *slot)
{
    struct kl_grpc_rpc *c = KL_ARENA_NEW(kl_http_req_arena(r), struct kl_grpc_rpc);
    if (!c)
        return NULL;
    c->s = s;
    c->r = r;
    c->slot = slot;
    c->q = c->few;
    c->q_cap = KL_COUNT(c->few);
    kl_buf_init(&c->in, s->max_message + PREFIX + 1024 * 1024);
    kl_http_req_on_close(r, on_close, c);
    if (slot)
        kl_grpc_count(&slot->started, 1);
    return c;
}

static void fail_unknown(struct kl_grpc_rpc *c, struct kl_str path)
{
    struct kl_arena *a = kl_http_req_arena(c->r);
    struct kl_str service = kl_str_from(path, 1), method = {"", 0}, text;
    bool known = false;
    ptrdiff_t slash = -1;
    for (size_t i = 0; i < service.n; i++)
        slash = service.p[i] == '/' ? (ptrdiff_t)i : slash;
    if (slash < 0) {
        text = kl_arena_printf(a, "malformed method name: \"%.*s\"", KL_PRI(path));
    } else {
        method = kl_str_from(service, (size_t)slash + 1);
        service.n = (size_t)slash;
        for (size_t i = 0; i < c->s->nslots && !known; i++) {
            struct kl_str p = c->s->slots[i].path;
            known = p.n > service.n + 1 && p.p[service.n + 1] == '/' &&
                    memcmp(p.p + 1, service.p, service.n) == 0;
        }
        text = known ? kl_arena_printf(a, "unknown method %.*s for service %.*s", KL_PRI(method),
                                       KL_PRI(service))
                     : kl_arena_printf(a, "unknown service %.*s", KL_PRI(service));
    }
    kl_grpc_rpc_finish(c, KL_GRPC_UNIMPLEMENTED, text.p ? text.p : "");
}

static bool check_encoding(struct kl_grpc_rpc *c)
{
    struct kl_str enc = kl_http_header(c->r, KL_STR("grpc-encoding"));
    if (!enc.p || !enc.n || kl_str_eqz(enc, "identity"))
        return true;
    struct kl_str text = kl_arena_printf(
        kl_http_req_arena(c->r), "grpc: Decompressor is not installed for grpc-encoding \"%.*s\"",
        KL_PRI(enc));
    kl_grpc_rpc_finish(c, KL_GRPC_UNIMPLEMENTED, text.p ? text.p : "");
    return false;
}

void kl_grpc_serve(struct kl_grpc_server *s, struct kl_http_req *r)
{
    if (!kl_str_eqz(kl_http_method(r), "POST")) {
        kl_http_respond(r, 405, NULL, 0, KL_STR(""));
        return;
    }
    struct kl_str path = kl_http_path(r);
    struct kl_grpc_slot *slot = kl_grpc_find(s, path);
    const struct kl_grpc_method *m = slot ? slot->m : NULL;
    struct kl_grpc_rpc *c = kl_grpc_new_rpc(s, r, slot);
    if (!c) {
        kl_http_abort(r);
        return;
    }
    kl_http_req_set_data(r, c);
    if (!slot)
        fail_unknown(c, path);
    if (!m || !check_encoding(c) || !kl_grpc_start_deadline(c))
        return;
    c->m = m;
    if (m->client_stream)
        kl_http_body_patient(r);
    kl_http_req_ref(r);
    if (m->open)
        m->open(c);
    if (!c->closed)
        kl_http_read_stream(r, on_data, c);
    kl_http_req_unref(r);
}
