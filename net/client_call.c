// SPDX-License-Identifier: Apache-2.0
// A call's life, and what its user sees of it.
#include "net/client_int.h"
#include <stdlib.h>

enum { MAX_TARGETS = 64 };

static void maybe_free(struct kl_http_call *call)
{
    if (call->state != KL_HC_ENDED || call->timer_open || call->task_queued || call->in_cb)
        return;
    struct kl_http_client *c = call->client;
    kl_arena_fini(&call->arena);
    kl_arena_fini(&call->resp_arena);
    kl_buf_fini(&call->backlog);
    kl_bytes_unref(call->body);
    while (call->pieces) {
        struct kl_hc_piece *p = call->pieces;
        call->pieces = p->next;
        kl_bytes_unref(p->bytes);
        free(p);
    }
    free(call);
    kl_hc_client_unref(c);
}

// ---- Queues

static void enqueue(struct kl_http_call *call, bool first)
{
    struct kl_hc_target *t = call->target;
    struct kl_http_call **at = first ? &t->waiting : t->waiting_end;
    call->state = KL_HC_WAITING;
    call->next = *at;
    *at = call;
    if (!call->next)
        t->waiting_end = &call->next;
    t->nwaiting++;
}

static void dequeue(struct kl_http_call *call)
{
    struct kl_hc_target *t = call->target;
    struct kl_http_call **at = &t->waiting;
    while (*at != call)
        at = &(*at)->next;
    *at = call->next;
    if (!*at)
        t->waiting_end = at;
    call->next = NULL;
    t->nwaiting--;
}

void kl_hc_call_attach(struct kl_http_call *call, struct kl_hc_conn *hc)
{
    dequeue(call);
    call->state = KL_HC_ACTIVE;
    call->conn = hc;
    call->prev = NULL;
    call->next = hc->calls;
    if (hc->calls)
        hc->calls->prev = call;
    hc->calls = call;
    hc->ncalls++;
}

void kl_hc_call_detach(struct kl_http_call *call)
{
    struct kl_hc_conn *hc = call->conn;
    if (call->prev)
        call->prev->next = call->next;
    else
        hc->calls = call->next;
    if (call->next)
        call->next->prev = call->prev;
    call->prev = call->next = NULL;
    call->conn = NULL;
    hc->ncalls--;
}

void kl_hc_call_requeue(struct kl_http_call *call)
{
    call->retried = true;
    call->body_sent = 0;
    call->stream_id = 0;
    kl_hc_call_reset(call);
    enqueue(call, true);
}

// ---- The end

static void on_timer_closed(uv_handle_t *h)
{
    struct kl_http_call *call = h->data;
    call->timer_open = false;
    maybe_free(call);
}

void kl_hc_call_end(struct kl_http_call *call, int status, const struct kl_error *err)
{
    if (call->state == KL_HC_ENDED)
        return;
    struct kl_http_client *c = call->client;
    if (call->state == KL_HC_WAITING)
        dequeue(call);
    else if (call->conn)
        kl_hc_call_detach(call);
    call->state = KL_HC_ENDED;
    if (call->all_prev)
        call->all_prev->all_next = call->all_next;
    else
        c->calls = call->all_next;
    if (call->all_next)
        call->all_next->all_prev = call->all_prev;
    if (call->timer_open)
        uv_close((uv_handle_t *)&call->timer, on_timer_closed);
    bool nested = call->in_cb;
    call->in_cb = true;
    call->cbs->on_end(call->arg, call, status, status ? err : NULL);
    call->in_cb = nested;
    maybe_free(call);
}

// Takes the call off its connection for good; the connection learns that nobody listens.
static void abandon(struct kl_http_call *call, int status, const char *why)
{
    struct kl_hc_conn *hc = call->state == KL_HC_ACTIVE ? call->conn : NULL;
    struct kl_http_client *c = call->client;
    // A call that only waits for its reader has outlived its connection, maybe its target too.
    struct kl_hc_target *t = hc || call->state == KL_HC_WAITING ? call->target : NULL;
    struct kl_error err;
    kl_error_set(&err, status, "%s", why);
    c->refs++;
    if (t)
        t->busy++;
    if (hc && hc->h2) {
        kl_hc_h2_cancel(hc, call);
        kl_hc_call_end(call, status, &err);
    } else if (hc) {
        // Nothing else can be sent on it before the answer has come.
        kl_hc_call_end(call, status, &err);
        kl_hc_conn_close(hc);
        if (!c->closed)
            kl_hc_dispatch(t);
    } else {
        kl_hc_call_end(call, status, &err);
    }
    if (t)
        t->busy--;
    kl_hc_client_unref(c);
}

void kl_http_call_cancel(struct kl_http_call *call)
{
    if (call->state != KL_HC_ENDED)
        abandon(call, KL_ECANCELED, "context canceled");
}

static void arm_timer(struct kl_http_call *call);

static void on_timer(uv_timer_t *t)
{
    struct kl_http_call *call = t->data;
    uint64_t now = uv_now(t->loop);
    if (call->deadline && call->deadline <= now)
        abandon(call, KL_ETIMEOUT, "context deadline exceeded");
    else if (call->header_deadline && call->header_deadline <= now && !call->got_headers)
        abandon(call, KL_ETIMEOUT, "timeout awaiting response headers");
    else
        arm_timer(call);
}

static void arm_timer(struct kl_http_call *call)
{
    uint64_t now = uv_now(kl_loop_uv(call->client->loop)), due = call->deadline;
    if (!call->got_headers && call->header_deadline && (!due || call->header_deadline < due))
        due = call->header_deadline;
    if (due)
        uv_timer_start(&call->timer, on_timer, due > now ? due - now : 0, 0);
}

// ---- What arrives

int kl_hc_call_add_header(struct kl_http_call *call, struct kl_str name, struct kl_str value)
{
    call->resp_bytes += name.n + value.n + 32;
    if (call->resp_bytes > 1024 * 1024 || call->nresp >= 1000)
        return KL_ELIMIT;
    if (call->nresp == call->cap_resp) {
        size_t cap = call->cap_resp ? call->cap_resp * 2 : 16;
        struct kl_http_header *h = kl_arena_alloc(&call->resp_arena, cap * sizeof(*h));
        if (!h)
            return KL_ENOMEM;
        if (call->nresp)
            memcpy(h, call->resp, call->nresp * sizeof(*h));
        call->resp = h;
        call->cap_resp = cap;
    }
    call->resp[call->nresp++] = (struct kl_http_header){name, value};
    return 0;
}

void kl_hc_call_reset(struct kl_http_call *call)
{
    call->resp = NULL;
    call->nresp = call->cap_resp = 0;
    call->resp_bytes = 0;
    kl_arena_reset(&call->resp_arena);
}

// Runs a callback with the call's memory held.
#define WITH_CALL(call, what)                                                                      \
    do {                                                                                           \
        bool nested_ = (call)->in_cb;                                                              \
        (call)->in_cb = true;                                                                      \
        what;                                                                                      \
        (call)->in_cb = nested_;                                                                   \
    } while (0)

static bool alive(struct kl_http_call *call)
{
    bool ended = call->state == KL_HC_ENDED;
    if (ended)
        maybe_free(call);
    return !ended;
}

bool kl_hc_call_headers(struct kl_http_call *call, int status)
{
    call->status = status;
    call->got_headers = true;
    WITH_CALL(call, call->cbs->on_headers(call->arg, call, status, call->resp, call->nresp));
    return alive(call);
}

bool kl_hc_call_data(struct kl_http_call *call, struct kl_str data)
{
    if (call->paused || call->backlog.n) {
        if (kl_buf_append(&call->backlog, data.p, data.n)) {
            abandon(call, KL_ENOMEM, "out of memory");
            return false;
        }
        return true;
    }
    struct kl_hc_conn *hc = call->conn;
    WITH_CALL(call, call->cbs->on_data(call->arg, call, data));
    if (call->state == KL_HC_ACTIVE && hc && hc == call->conn && hc->h2)
        kl_hc_h2_consumed(hc, call, data.n - call->backlog.n); // but what was put back
    return alive(call);
}

void kl_hc_call_complete(struct kl_http_call *call)
{
    if (call->paused || call->backlog.n)
        call->end_pending = true;
    else
        kl_hc_call_end(call, 0, NULL);
}

static void run_task(struct kl_task *t)
{
    struct kl_http_call *call = KL_CONTAINER_OF(t, struct kl_http_call, task);
    call->task_queued = false;
    if (call->state == KL_HC_ENDED) {
        maybe_free(call);
        return;
    }
    if (call->state == KL_HC_WAITING) {
        kl_hc_dispatch(call->target);
        return;
    }
    if (call->sent) {
        size_t n = call->sent;
        call->sent = 0;
        WITH_CALL(call, call->cbs->on_sent(call->arg, call, n));
        if (!alive(call))
            return;
    }
    if (call->paused)
        return;
    struct kl_buf late = call->backlog;
    kl_buf_init(&call->backlog, late.max);
    bool go_on = !late.n || kl_hc_call_data(call, kl_buf_str(&late));
    kl_buf_fini(&late);
    if (!go_on)
        return;
    if (call->paused || call->backlog.n)
        return;
    if (call->end_pending)
        kl_hc_call_end(call, 0, NULL);
    else if (call->conn && !call->conn->h2)
        kl_conn_pause(call->conn->c, false);
}

static void task_soon(struct kl_http_call *call)
{
    if (call->task_queued)
        return;
    call->task_queued = true;
    call->task.run = run_task;
    kl_loop_defer(call->client->loop, &call->task);
}

static void stop_reading(struct kl_http_call *call)
{
    if (call->state == KL_HC_ACTIVE && call->conn && !call->conn->h2)
        kl_conn_pause(call->conn->c, true);
}

void kl_http_call_pause(struct kl_http_call *call)
{
    call->paused = true;
    stop_reading(call);
}

int kl_http_call_put_back(struct kl_http_call *call, struct kl_str data)
{
    if (call->state == KL_HC_ENDED || !data.n)
        return 0;
    if (kl_buf_append(&call->backlog, data.p, data.n))
        return KL_ENOMEM;
    stop_reading(call);
    if (!call->task_queued) {
        call->task_queued = true;
        call->task.run = run_task;
        kl_loop_post(call->client->loop, &call->task); // I/O of others comes first
    }
    return 0;
}

void kl_http_call_resume(struct kl_http_call *call)
{
    if (!call->paused)
        return;
    call->paused = false;
    if (call->state == KL_HC_ACTIVE)
        task_soon(call);
}

static struct kl_str find(const struct kl_http_header *h, size_t n, struct kl_str name)
{
    for (size_t i = 0; i < n; i++)
        if (kl_str_eq(h[i].name, name))
            return h[i].value;
    return (struct kl_str){NULL, 0};
}

struct kl_str kl_http_call_header(const struct kl_http_call *call, struct kl_str name)
{
    return find(call->resp, call->nresp - call->ntrailers, name);
}

struct kl_str kl_http_call_trailer(const struct kl_http_call *call, struct kl_str name)
{
    size_t first = call->nresp - call->ntrailers;
    return find(call->resp + first, call->ntrailers, name);
}

const struct kl_http_header *kl_http_call_trailers(const struct kl_http_call *call, size_t *ret_n)
{
    *ret_n = call->ntrailers;
    return call->resp + (call->nresp - call->ntrailers);
}

int kl_http_call_version(const struct kl_http_call *call)
{
    return call->version;
}

int kl_http_call_status(const struct kl_http_call *call)
{
    return call->status;
}

// ---- A body that goes on

bool kl_hc_call_next_piece(struct kl_http_call *call)
{
    struct kl_hc_piece *p = call->pieces;
    if (!p)
        return false;
    call->pieces = p->next;
    if (!call->pieces)
        call->pieces_end = &call->pieces;
    call->pieces_bytes -= p->bytes->n;
    if (call->cbs->on_sent && p->bytes->n) {
        call->sent += p->bytes->n;
        task_soon(call); // not from within the session or the queue that asks
    }
    kl_bytes_unref(call->body);
    call->body = p->bytes;
    call->body_sent = 0;
    free(p);
    return true;
}

int kl_http_call_send(struct kl_http_call *call, struct kl_bytes *data, bool end)
{
    int rc = 0;
    struct kl_hc_piece *p = NULL;
    if (!call->stream_body || call->body_ended || call->state == KL_HC_ENDED)
        rc = KL_EINVALID;
    else if (data && call->pieces_bytes + data->n > KL_HTTP_STREAM_MAX)
        rc = KL_ETOOMANY;
    else if (data && !(p = malloc(sizeof(*p))))
        rc = KL_ENOMEM;
    if (rc) {
        kl_bytes_unref(data);
        return rc;
    }
    if (p) {
        *p = (struct kl_hc_piece){.bytes = data};
        call->pieces_bytes += data->n;
        *call->pieces_end = p;
        call->pieces_end = &p->next;
    }
    call->body_ended = end;
    if (call->state == KL_HC_ACTIVE && call->conn && call->conn->h2)
        kl_hc_h2_more(call->conn, call);
    else if (call->state == KL_HC_ACTIVE && call->conn)
        kl_conn_flush_soon(call->conn->c);
    return 0;
}

// ---- Starting

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

// Targets that nobody uses go when there are many (webhooks come and go).
static void prune_targets(struct kl_http_client *c)
{
    size_t n = 0;
    for (struct kl_hc_target *t = c->targets; t; t = t->next)
        n++;
    for (struct kl_hc_target **at = &c->targets; n >= MAX_TARGETS && *at;) {
        struct kl_hc_target *t = *at;
        if (t->conns || t->waiting || t->busy) {
            at = &t->next;
            continue;
        }
        *at = t->next;
        kl_hc_target_free(t);
        n--;
    }
}

static struct kl_hc_target *get_target(struct kl_http_client *c,
                                       const struct kl_http_call_spec *spec)
{
    const char *host = spec->host ? spec->host : "localhost";
    enum kl_http_proto proto = spec->upgrade ? KL_HTTP_1 : spec->proto;
    if (proto == KL_HTTP_AUTO && !spec->tls)
        proto = KL_HTTP_1;
    for (struct kl_hc_target *t = c->targets; t; t = t->next)
        if (t->port == spec->port && t->tls == spec->tls && t->proto == proto &&
            same(t->unix_path, spec->unix_path) && same(t->host, host))
            return t;
    prune_targets(c);
    struct kl_hc_target *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->host = strdup(host);
    t->unix_path = spec->unix_path ? strdup(spec->unix_path) : NULL;
    if (!t->host || (spec->unix_path && !t->unix_path)) {
        free(t->host);
        free(t->unix_path);
        free(t);
        return NULL;
    }
    t->client = c;
    t->port = spec->port;
    t->tls = kl_tls_ctx_ref(spec->tls);
    t->proto = proto;
    t->waiting_end = &t->waiting;
    t->next = c->targets;
    c->targets = t;
    return t;
}

static int copy_request(struct kl_http_call *call, const struct kl_http_call_spec *spec)
{
    struct kl_arena *a = &call->arena;
    const char *host = call->target->host;
    bool v6 = strchr(host, ':') != NULL;
    int usual = spec->tls ? 443 : 80;
    call->method = kl_arena_dup(a, spec->method.n ? spec->method : KL_STR("GET"));
    call->path = kl_arena_dup(a, spec->target.n ? spec->target : KL_STR("/"));
    if (spec->unix_path || spec->port == usual)
        call->host_header = kl_arena_printf(a, v6 ? "[%s]" : "%s", host);
    else
        call->host_header = kl_arena_printf(a, v6 ? "[%s]:%d" : "%s:%d", host, spec->port);
    call->headers = kl_arena_alloc(a, (spec->nheaders + 1) * sizeof(*call->headers));
    if (!call->method.p || !call->path.p || !call->host_header.p || !call->headers)
        return KL_ENOMEM;
    for (size_t i = 0; i < spec->nheaders; i++) {
        if (!kl_http_header_ok(&spec->headers[i]))
            return KL_EINVALID;
        struct kl_http_header h = {kl_arena_dup(a, spec->headers[i].name),
                                   kl_arena_dup(a, spec->headers[i].value)};
        if (!h.name.p || !h.value.p)
            return KL_ENOMEM;
        if (kl_str_eqz(h.name, "host"))
            call->host_header = h.value;
        else if (!kl_str_eqz(h.name, "content-length"))
            call->headers[call->nheaders++] = h;
    }
    for (size_t i = 0; i < call->path.n; i++)
        if ((unsigned char)call->path.p[i] <= ' ')
            return KL_EINVALID;
    if (spec->body)
        call->body = kl_bytes_ref(spec->body);
    else if (spec->body_str.n && !(call->body = kl_bytes_new(spec->body_str)))
        return KL_ENOMEM;
    return 0;
}

int kl_http_call_start(struct kl_http_client *c, const struct kl_http_call_spec *spec,
                       const struct kl_http_call_cbs *cbs, void *arg, struct kl_http_call **ret,
                       struct kl_error *err)
{
    if (c->closed)
        return kl_error_set(err, KL_ECANCELED, "HTTP client is closed");
    if (spec->unix_path && strlen(spec->unix_path) >= 108)
        return kl_error_set(err, KL_EINVALID, "dial unix %s: path too long", spec->unix_path);
    struct kl_http_call *call = calloc(1, sizeof(*call));
    if (!call)
        return kl_error_set(err, KL_ENOMEM, "HTTP call: out of memory");
    call->client = c;
    call->target = get_target(c, spec);
    kl_arena_init(&call->arena, KL_HTTP_ARENA_BYTES);
    kl_arena_init(&call->resp_arena, KL_HTTP_ARENA_BYTES);
    kl_buf_init(&call->backlog, 16 * 1024 * 1024);
    int rc = call->target ? copy_request(call, spec) : KL_ENOMEM;
    if (rc) {
        kl_arena_fini(&call->arena);
        kl_bytes_unref(call->body);
        free(call);
        return kl_error_set(err, rc, "HTTP call: %s",
                            rc == KL_EINVALID ? "bad header or target" : "out of memory");
    }
    call->cbs = cbs;
    call->arg = arg;
    call->upgrade = spec->upgrade;
    // What was sent is not kept, so it cannot be sent again.
    call->stream_body = call->retried = spec->stream_body;
    call->body_length = spec->body_length;
    call->pieces_end = &call->pieces;
    c->refs++;
    call->all_next = c->calls;
    if (c->calls)
        c->calls->all_prev = call;
    c->calls = call;
    uint64_t now = uv_now(kl_loop_uv(c->loop));
    if (spec->timeout_ms || spec->header_timeout_ms) {
        call->deadline = spec->timeout_ms ? now + spec->timeout_ms : 0;
        call->header_deadline = spec->header_timeout_ms ? now + spec->header_timeout_ms : 0;
        uv_timer_init(kl_loop_uv(c->loop), &call->timer);
        call->timer.data = call;
        call->timer_open = true;
        arm_timer(call);
    }
    enqueue(call, false);
    task_soon(call);
    *ret = call;
    return 0;
}

// ---- The client

int kl_http_client_new(const struct kl_http_client_opts *o, struct kl_http_client **ret,
                       struct kl_error *err)
{
    struct kl_http_client *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "HTTP client: out of memory");
    c->loop = o->loop;
    c->refs = 1;
    c->max_conns = o->max_conns_per_target;
    c->max_idle = o->max_idle_per_target ? o->max_idle_per_target : 25;
    c->idle_ms = o->idle_timeout_ms ? o->idle_timeout_ms : 90000;
    c->connect_ms = o->connect_timeout_ms ? o->connect_timeout_ms : 30000;
    c->ping_ms = o->ping_after_ms ? o->ping_after_ms : 30000;
    *ret = c;
    return 0;
}

void kl_http_client_close(struct kl_http_client *c)
{
    if (!c || c->closed)
        return;
    c->closed = true;
    while (c->calls)
        abandon(c->calls, KL_ECANCELED, "context canceled");
    for (struct kl_hc_target *t = c->targets; t; t = t->next)
        while (t->conns)
            kl_hc_conn_close(t->conns);
    kl_hc_client_unref(c);
}

static void drop_of(struct kl_hc_target *t)
{
    for (struct kl_hc_conn *hc = t->conns, *next; hc; hc = next) {
        next = hc->next;
        hc->draining = hc->open;
        if (hc->open && hc->ncalls == 0)
            kl_hc_conn_close(hc);
    }
}

void kl_http_client_drop_idle(struct kl_http_client *c)
{
    for (struct kl_hc_target *t = c->targets; t; t = t->next)
        drop_of(t);
}

void kl_http_client_drop_tls(struct kl_http_client *c, const struct kl_tls_ctx *tls)
{
    for (struct kl_hc_target *t = c->targets; t; t = t->next)
        if (t->tls == tls)
            drop_of(t);
}
