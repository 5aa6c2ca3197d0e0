// SPDX-License-Identifier: Apache-2.0
// A request's body on its way in. Until somebody claims it a little is kept and the client is held
// back by flow control; then it is gathered, or handed on piece by piece against credit.
#include "net/http_int.h"
#include <assert.h>

static void consumed(struct kl_http_req *r, size_t n)
{
    if (n && !r->closed)
        r->ops->body_consumed(r, n);
}

static void tell_whole(struct kl_http_req *r, int status)
{
    if (r->body_told)
        return;
    r->body_told = true;
    r->whole_cb(r->body_arg, r, status, status ? KL_STR("") : kl_buf_str(&r->body));
}

static void tell_piece(struct kl_http_req *r, int status, struct kl_str data, bool end)
{
    if (r->body_told)
        return;
    r->body_told = end || status;
    r->data_cb(r->body_arg, r, status, data, end);
}

static void fail_whole(struct kl_http_req *r, int status)
{
    size_t kept = r->body_unconsumed;
    r->body_mode = KL_BODY_DISCARD;
    kl_buf_fini(&r->body);
    kl_buf_init(&r->body, SIZE_MAX / 2);
    r->body_unconsumed = 0;
    consumed(r, kept);
    tell_whole(r, status);
}

// Delivers what came before the claim.
static void run_notify(struct kl_task *t)
{
    struct kl_http_req *r = KL_CONTAINER_OF(t, struct kl_http_req, notify_task);
    r->body_notify_queued = false;
    if (r->body_told) {
        kl_http_req_unref(r);
        return;
    }
    if (r->closed || r->body_mode == KL_BODY_DISCARD) {
        // Claimed after the answer or the end of the request.
        if (r->whole_cb)
            tell_whole(r, KL_ECANCELED);
        else
            tell_piece(r, KL_ECANCELED, KL_STR(""), false);
    } else if (r->body_mode == KL_BODY_WHOLE) {
        if (r->content_length > 0 && (uint64_t)r->content_length > r->body_max)
            fail_whole(r, KL_ETOOLARGE);
        else if (r->body.n > r->body_max)
            fail_whole(r, KL_ETOOLARGE);
        else {
            consumed(r, r->body_unconsumed);
            r->body_unconsumed = 0;
            if (r->body_eof)
                tell_whole(r, 0);
        }
    } else {
        struct kl_buf early = r->body;
        kl_buf_init(&r->body, SIZE_MAX / 2);
        if (early.n || r->body_eof)
            tell_piece(r, 0, kl_buf_str(&early), r->body_eof);
        kl_buf_fini(&early);
    }
    kl_http_req_unref(r);
}

static void notify_soon(struct kl_http_req *r)
{
    if (r->body_notify_queued)
        return;
    r->body_notify_queued = true;
    r->notify_task.run = run_notify;
    kl_http_req_ref(r);
    kl_loop_defer(r->conn->worker->loop, &r->notify_task);
}

void kl_http_read_body(struct kl_http_req *r, size_t max_bytes, kl_http_body_cb cb, void *arg)
{
    assert(!r->whole_cb && !r->data_cb);
    r->body_max = max_bytes;
    r->whole_cb = cb;
    r->body_arg = arg;
    if (r->closed || r->body_mode != KL_BODY_UNCLAIMED) {
        notify_soon(r);
        return;
    }
    r->body_mode = KL_BODY_WHOLE;
    bool too_large = r->content_length > 0 && (uint64_t)r->content_length > max_bytes;
    if (!too_large && r->content_length > 0 && !r->body_eof)
        kl_buf_reserve(&r->body, (size_t)r->content_length - r->body.n); // append tells on failure
    if (!too_large)
        r->ops->body_claimed(r);
    if (too_large || r->body_eof || r->body.n)
        notify_soon(r);
}

void kl_http_read_stream(struct kl_http_req *r, kl_http_data_cb cb, void *arg)
{
    assert(!r->whole_cb && !r->data_cb);
    r->data_cb = cb;
    r->body_arg = arg;
    if (r->closed || r->body_mode != KL_BODY_UNCLAIMED) {
        notify_soon(r);
        return;
    }
    r->body_mode = KL_BODY_STREAM;
    r->ops->body_claimed(r);
    if (r->body_eof || r->body.n)
        notify_soon(r);
}

void kl_http_body_consumed(struct kl_http_req *r, size_t n)
{
    if (r->body_mode != KL_BODY_STREAM)
        return;
    n = n < r->body_unconsumed ? n : r->body_unconsumed;
    r->body_unconsumed -= n;
    consumed(r, n);
}

void kl_http_body_patient(struct kl_http_req *r)
{
    r->body_patient = true;
}

size_t kl_http_body_backlog(const struct kl_http_req *r)
{
    return r->body_unconsumed;
}

void kl_http_body_data(struct kl_http_req *r, struct kl_str data)
{
    if (r->closed || !data.n)
        return;
    switch (r->body_mode) {
    case KL_BODY_DISCARD:
        consumed(r, data.n);
        return;
    case KL_BODY_UNCLAIMED:
        r->body_unconsumed += data.n;
        if (kl_buf_append(&r->body, data.p, data.n))
            r->ops->abort(r);
        return;
    case KL_BODY_WHOLE:
        if (r->body.n + data.n > r->body_max) {
            consumed(r, data.n);
            fail_whole(r, KL_ETOOLARGE);
        } else if (kl_buf_append(&r->body, data.p, data.n)) {
            consumed(r, data.n);
            fail_whole(r, KL_ENOMEM);
        } else if (r->body_notify_queued) {
            r->body_unconsumed += data.n;
        } else {
            consumed(r, data.n);
        }
        return;
    case KL_BODY_STREAM:
        r->body_unconsumed += data.n;
        if (!r->body_notify_queued)
            tell_piece(r, 0, data, false);
        else if (kl_buf_append(&r->body, data.p, data.n))
            r->ops->abort(r);
        return;
    }
}

void kl_http_body_end(struct kl_http_req *r)
{
    if (r->closed || r->body_eof)
        return;
    r->body_eof = true;
    if (r->body_notify_queued)
        return;
    if (r->body_mode == KL_BODY_WHOLE)
        tell_whole(r, 0);
    else if (r->body_mode == KL_BODY_STREAM)
        tell_piece(r, 0, KL_STR(""), true);
}

void kl_http_body_fail(struct kl_http_req *r, int status)
{
    if (r->body_mode == KL_BODY_WHOLE)
        tell_whole(r, status);
    else if (r->body_mode == KL_BODY_STREAM)
        tell_piece(r, status, KL_STR(""), false);
    r->body_mode = KL_BODY_DISCARD;
}

void kl_http_body_fini(struct kl_http_req *r)
{
    kl_buf_fini(&r->body);
}
