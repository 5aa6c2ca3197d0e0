// SPDX-License-Identifier: Apache-2.0
#include "apiserver/deadline.h"
#include "apiserver/audit/audit.h"
#include "apiserver/metrics.h"
#include "object/timestamp.h"
#include <stdlib.h>

enum {
    NS_PER_MS = 1000000,
    COMPLAINT_MAX = 64 << 10,
    STALL_MS = 1000, // a timer that comes as late: the machine stood still, or the loop was held
    GRACE_MS = 5000, // what is left to all then: their answers may be in what waits to be read
};

struct kl_deadlines {
    uv_timer_t timer;
    uint64_t armed_ms; // what it was set for
    // Those that have the server's limit, in the order they came: the first is due first.
    struct kl_api_call *usual, **usual_end;
    struct kl_api_call **own; // those with less: a binary heap from 1 on
    uint32_t nown, cap;
};

static struct kl_deadlines *deadlines_of(struct kl_api_loop *al)
{
    if (al->deadlines)
        return al->deadlines;
    struct kl_deadlines *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    uv_timer_init(kl_loop_uv(al->loop), &d->timer);
    uv_unref((uv_handle_t *)&d->timer);
    d->timer.data = d;
    d->usual_end = &d->usual;
    return al->deadlines = d;
}

static void free_deadlines(uv_handle_t *h)
{
    struct kl_deadlines *d = h->data;
    free(d->own);
    free(d);
}

void kl_deadline_loop_fini(struct kl_api_loop *al)
{
    if (al->deadlines)
        uv_close((uv_handle_t *)&al->deadlines->timer, free_deadlines);
    al->deadlines = NULL;
}

// ---- those with the server's limit

static void push(struct kl_deadlines *d, struct kl_api_call *c)
{
    c->due_next = NULL;
    c->due_pprev = d->usual_end;
    *d->usual_end = c;
    d->usual_end = &c->due_next;
}

static void unlink_call(struct kl_deadlines *d, struct kl_api_call *c)
{
    *c->due_pprev = c->due_next;
    if (c->due_next)
        c->due_next->due_pprev = c->due_pprev;
    else
        d->usual_end = c->due_pprev;
    c->due_pprev = NULL;
}

// ---- those with less

static void put_at(struct kl_deadlines *d, uint32_t i, struct kl_api_call *c)
{
    d->own[i] = c;
    c->due_at = i;
}

static void rise(struct kl_deadlines *d, uint32_t i, struct kl_api_call *c)
{
    for (; i > 1 && c->due_ms < d->own[i / 2]->due_ms; i /= 2)
        put_at(d, i, d->own[i / 2]);
    put_at(d, i, c);
}

static void sink(struct kl_deadlines *d, uint32_t i, struct kl_api_call *c)
{
    for (uint32_t k; (k = 2 * i) <= d->nown; i = k) {
        if (k < d->nown && d->own[k + 1]->due_ms < d->own[k]->due_ms)
            k++;
        if (c->due_ms <= d->own[k]->due_ms)
            break;
        put_at(d, i, d->own[k]);
    }
    put_at(d, i, c);
}

static int heap_push(struct kl_deadlines *d, struct kl_api_call *c)
{
    if (d->nown + 1 >= d->cap) {
        uint32_t cap = d->cap ? d->cap * 2 : 64;
        struct kl_api_call **more = realloc(d->own, cap * sizeof(struct kl_api_call *));
        if (!more)
            return KL_ENOMEM;
        d->own = more;
        d->cap = cap;
    }
    rise(d, ++d->nown, c);
    return 0;
}

static void heap_take(struct kl_deadlines *d, struct kl_api_call *c)
{
    uint32_t i = c->due_at;
    struct kl_api_call *last = d->own[d->nown--];
    c->due_at = 0;
    if (last == c)
        return;
    if (i > 1 && last->due_ms < d->own[i / 2]->due_ms)
        rise(d, i, last);
    else
        sink(d, i, last);
}

static void leave(struct kl_deadlines *d, struct kl_api_call *c)
{
    if (c->due_at)
        heap_take(d, c);
    else
        unlink_call(d, c);
}

static bool is_counted(const struct kl_api_call *c)
{
    return c->due_pprev || c->due_at;
}

void kl_deadline_leave(struct kl_api_call *c)
{
    if (is_counted(c))
        leave(c->req.al->deadlines, c);
}

int64_t kl_deadline_left_ms(const struct kl_req *r)
{
    if (r->overdue)
        return 0;
    // Stages put their own `done` before that of the call.
    if ((r->dispatched ? r->asked_done : r->done) != kl_http_answer)
        return INT64_MAX;
    const struct kl_api_call *c = kl_api_call_of((struct kl_req *)r);
    uint64_t now = uv_now(kl_loop_uv(r->al->loop));
    return !is_counted(c) ? INT64_MAX : c->due_ms > now ? (int64_t)(c->due_ms - now) : 0;
}

// ---- too late

static void fail_late(struct kl_req *r)
{
    kl_fail_set(r, 504, "Timeout", "Timeout: request did not complete within the allotted timeout")
        ->bare_details = true;
}

bool kl_deadline_passed(struct kl_req *r)
{
    if (r->overdue)
        fail_late(r);
    return r->overdue;
}

static void answer_late(struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    const struct kl_fail fail = r->fail; // the request goes on: nothing of it is changed
    const enum kl_result_kind result = r->result;
    const int http = r->http;
    struct kl_http_header h[2 + KL_COMMON_HEADERS] = {
        KL_HTTP_HEADER("cache-control", "no-cache, private"),
        {KL_STR("content-type"), kl_str(kl_spec_content_type(&c->spec, false))}};
    fail_late(r);
    r->result = KL_RESULT_FAIL;
    r->http = 504;
    if (r->audit)
        kl_audit_result(r);
    struct kl_bytes *body = kl_encode_result(r, &c->spec);
    kl_api_metrics_answer(r, 504, body ? (int64_t)body->n : 0);
    r->fail = fail;
    r->result = result;
    r->http = http;
    r->overdue = true;
    if (body)
        kl_http_respond_bytes(c->hr, 504, h, 2 + kl_http_common_headers(r, h + 2), body);
    else
        kl_http_abort(c->hr);
    kl_bytes_unref(body);
}

static void expire(struct kl_deadlines *d, struct kl_api_call *c)
{
    struct kl_http_req *hr = kl_http_req_ref(c->hr);
    leave(d, c);
    if (!kl_http_is_answered(hr))
        answer_late(c);
    kl_http_req_unref(hr);
}

// The first that is due by now. What one answer sets free may take others off the lists.
static struct kl_api_call *next_due(const struct kl_deadlines *d, uint64_t now, uint64_t *ret_then)
{
    *ret_then = UINT64_MAX;
    if (d->usual && d->usual->due_ms <= now)
        return d->usual;
    if (d->usual)
        *ret_then = d->usual->due_ms;
    if (d->nown && d->own[1]->due_ms <= now)
        return d->own[1];
    if (d->nown && d->own[1]->due_ms < *ret_then)
        *ret_then = d->own[1]->due_ms;
    return NULL;
}

static void on_timer(uv_timer_t *t);

static void arm(struct kl_deadlines *d, uint64_t in_ms)
{
    d->armed_ms = uv_now(d->timer.loop) + in_ms;
    uv_timer_start(&d->timer, on_timer, in_ms, 0);
}

static void on_timer(uv_timer_t *t)
{
    struct kl_deadlines *d = t->data;
    uint64_t now = uv_now(t->loop), then;
    if (now > d->armed_ms + STALL_MS) {
        arm(d, GRACE_MS);
        return;
    }
    for (struct kl_api_call *c; (c = next_due(d, now, &then));)
        expire(d, c);
    if (then != UINT64_MAX)
        arm(d, then - now);
}

// ---- in

// Negative: r->fail is set. *ret_ms stays as it is where nothing is asked for.
static int read_timeout(struct kl_api_call *c, int64_t *ret_ms)
{
    struct kl_str query = kl_http_query(c->hr), v;
    int64_t ns;
    if (!query.n || !(v = kl_query_get(c->req.arena, query, KL_STR("timeout"))).n)
        return 0;
    if (kl_duration_parse(v, &ns)) {
        struct kl_buf why;
        kl_buf_init(&why, COMPLAINT_MAX);
        kl_duration_complaint(&why, v);
        kl_fail_bad(&c->req, "invalid timeout specified in the request URL - %.*s",
                    KL_PRI(kl_buf_str(&why)));
        kl_buf_fini(&why);
        return KL_EBADREQUEST;
    }
    int64_t ms = ns > 0 && ns < NS_PER_MS ? 1 : ns / NS_PER_MS;
    if (ms > 0 && (*ret_ms <= 0 || ms < *ret_ms))
        *ret_ms = ms;
    return 0;
}

int kl_deadline_enter(struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    int64_t most = r->srv->o.settings->request_timeout_ms, ms = most;
    if (kl_is_long_running(&r->info))
        return 0;
    int rc = read_timeout(c, &ms);
    if (rc || ms <= 0) // --request-timeout=0
        return rc;
    struct kl_deadlines *d = deadlines_of(r->al);
    if (!d) // without memory there is none: what asks for more fails by itself
        return 0;
    c->limit_ms = ms;
    c->due_ms = uv_now(d->timer.loop) + (uint64_t)ms;
    if (ms == most)
        push(d, c);
    else if (heap_push(d, c))
        return 0;
    if (!uv_is_active((uv_handle_t *)&d->timer) ||
        (ms != most && uv_timer_get_due_in(&d->timer) > (uint64_t)ms))
        arm(d, (uint64_t)ms);
    return 0;
}
