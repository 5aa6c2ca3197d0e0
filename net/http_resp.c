// SPDX-License-Identifier: Apache-2.0
// The answer on its way out: a queue of slices that the protocol empties, refilled by pulling.
#include "net/http_int.h"
#include <stdlib.h>

static int check_headers(const struct kl_http_header *h, size_t nh)
{
    for (size_t i = 0; i < nh; i++)
        if (!kl_http_header_ok(&h[i]))
            return KL_EINVALID;
    return 0;
}

static bool never_has_body(const struct kl_http_req *r, int status)
{
    return kl_str_eqz(r->method, "HEAD") || status == 204 || status == 304 || status / 100 == 1;
}

static int can_answer(const struct kl_http_req *r, const struct kl_http_header *h, size_t nh)
{
    if (r->closed)
        return KL_ECANCELED;
    if (r->responded)
        return KL_EEXISTS;
    return check_headers(h, nh);
}

static void push_chunk(struct kl_http_req *r, struct kl_http_chunk c)
{
    r->q[r->q_head + r->q_count++] = c;
    r->q_bytes += c.n;
}

// The head goes out; what nobody reads of the request's body is not wanted any more.
static int start(struct kl_http_req *r, int status, const struct kl_http_header *h, size_t nh,
                 int64_t length)
{
    r->no_body = never_has_body(r, status);
    r->out_length = length;
    r->responded = true;
    int rc = r->ops->head(r, status, h, nh, length, r->no_body);
    if (rc) {
        // Nothing useful can be said on this stream any more; the source stays its caller's.
        r->src_closed = true;
        r->ops->abort(r);
        return rc;
    }
    if (r->body_mode == KL_BODY_UNCLAIMED) {
        size_t kept = r->body_unconsumed;
        r->body_mode = KL_BODY_DISCARD;
        kl_buf_fini(&r->body);
        kl_buf_init(&r->body, SIZE_MAX / 2);
        r->body_unconsumed = 0;
        if (kept)
            r->ops->body_consumed(r, kept);
    }
    return 0;
}

static int respond_owned(struct kl_http_req *r, int status, const struct kl_http_header *h,
                         size_t nh, struct kl_bytes *body)
{
    size_t n = body ? body->n : 0;
    bool none = never_has_body(r, status);
    r->src_end = true;
    r->q = r->few;
    if (n && !none) {
        push_chunk(r, (struct kl_http_chunk){body, 0, (uint32_t)n});
        body = NULL;
    }
    int64_t length = (int64_t)n;
    if (none && n == 0)
        length = -1; // the caller's content-length, if any, stands (HEAD)
    int rc = start(r, status, h, nh, length);
    kl_bytes_unref(body);
    return rc;
}

int kl_http_respond_bytes(struct kl_http_req *r, int status, const struct kl_http_header *h,
                          size_t nh, struct kl_bytes *body)
{
    int rc = can_answer(r, h, nh);
    return rc ? rc : respond_owned(r, status, h, nh, kl_bytes_ref(body));
}

int kl_http_respond(struct kl_http_req *r, int status, const struct kl_http_header *h, size_t nh,
                    struct kl_str body)
{
    int rc = can_answer(r, h, nh);
    if (rc)
        return rc;
    struct kl_bytes *b = body.n ? kl_bytes_new(body) : NULL;
    if (body.n && !b)
        return KL_ENOMEM;
    return respond_owned(r, status, h, nh, b);
}

int kl_http_respond_stream(struct kl_http_req *r, int status, const struct kl_http_header *h,
                           size_t nh, const struct kl_http_source *src, void *arg)
{
    int64_t length = -1;
    int rc = can_answer(r, h, nh);
    if (rc)
        return rc;
    for (size_t i = 0; i < nh; i++)
        if (kl_str_eqz(h[i].name, "content-length") &&
            (!kl_str_to_i64(h[i].value, &length) || length < 0))
            return KL_EINVALID;
    r->q = r->few;
    r->src = src;
    r->src_arg = arg;
    if (never_has_body(r, status))
        r->src_end = true;
    return start(r, status, h, nh, length);
}

int kl_http_respond_interim(struct kl_http_req *r, int status, const struct kl_http_header *h,
                            size_t nh)
{
    int rc = can_answer(r, h, nh);
    if (rc)
        return rc;
    if (status < 100 || status > 199 || status == 101)
        return KL_EINVALID;
    return r->version == 10 ? 0 : r->ops->interim(r, status, h, nh);
}

void kl_http_resume(struct kl_http_req *r)
{
    if (r->closed || !r->src_waiting)
        return;
    r->src_waiting = false;
    r->ops->resume(r);
}

int kl_http_set_trailers(struct kl_http_req *r, const struct kl_http_header *h, size_t nh)
{
    if (r->closed)
        return KL_ECANCELED;
    int rc = check_headers(h, nh);
    if (rc)
        return rc;
    struct kl_http_header *copy = kl_arena_alloc(&r->arena, nh * sizeof(*copy));
    if (!copy)
        return KL_ENOMEM;
    for (size_t i = 0; i < nh; i++) {
        copy[i].name = kl_arena_dup(&r->arena, h[i].name);
        copy[i].value = kl_arena_dup(&r->arena, h[i].value);
        if (!copy[i].name.p || !copy[i].value.p)
            return KL_ENOMEM;
    }
    r->trailers = copy;
    r->ntrailers = nh;
    return 0;
}

bool kl_http_is_answered(const struct kl_http_req *r)
{
    return r->closed || r->responded;
}

void kl_http_abort(struct kl_http_req *r)
{
    if (!r->closed)
        r->ops->abort(r);
}

void kl_http_close_after(struct kl_http_req *r)
{
    r->close_after = true;
}

void kl_http_resp_end_source(struct kl_http_req *r)
{
    if (r->src && !r->src_closed) {
        r->src_closed = true;
        if (r->src->close)
            r->src->close(r->src_arg);
    }
}

// Room for n more, at most one pull's: an array of its own is there only while much is queued.
static int make_room(struct kl_http_req *r, uint32_t n)
{
    struct kl_http_chunk *q = r->q;
    if (q == r->few && r->q_count + n > KL_HTTP_FEW_CHUNKS &&
        !(q = malloc(2 * KL_HTTP_PULL_CHUNKS * sizeof(*q))))
        return KL_ENOMEM;
    memmove(q, r->q + r->q_head, r->q_count * sizeof(*q));
    r->q = q;
    r->q_head = 0;
    return 0;
}

static int keep(struct kl_http_req *r, const struct kl_http_chunk *chunks, int n)
{
    int rc = make_room(r, (uint32_t)n);
    for (int i = 0; i < n; i++)
        if (rc || !chunks[i].n)
            kl_bytes_unref(chunks[i].bytes);
        else
            push_chunk(r, chunks[i]);
    return rc;
}

int kl_http_resp_pull(struct kl_http_req *r, size_t want)
{
    while (r->q_bytes < want && !r->src_end && !r->src_waiting) {
        if (r->q_count > KL_HTTP_PULL_CHUNKS)
            return 0; // many small slices: first send these
        struct kl_http_chunk chunks[KL_HTTP_PULL_CHUNKS];
        bool end = false;
        // Set before the pull: a source may call kl_http_resume from within.
        r->src_waiting = true;
        int n = r->src->pull(r->src_arg, chunks, KL_HTTP_PULL_CHUNKS, &end);
        if (n < 0) {
            r->src_failed = true;
            return n;
        }
        if (n > 0 && keep(r, chunks, n)) {
            r->src_failed = true;
            return KL_ENOMEM;
        }
        if (n > 0 || end)
            r->src_waiting = false;
        if (end) {
            r->src_end = true;
            kl_http_resp_end_source(r);
        }
    }
    return 0;
}

int kl_http_resp_move(struct kl_http_req *r, struct kl_outq *out, size_t n)
{
    int rc = 0;
    r->q_bytes -= n;
    r->out_sent += (int64_t)n;
    while (n > 0) {
        struct kl_http_chunk *c = &r->q[r->q_head];
        if (n < c->n) {
            rc = kl_outq_take(out, kl_bytes_ref(c->bytes), c->off, (uint32_t)n);
            c->off += (uint32_t)n;
            c->n -= (uint32_t)n;
            return rc;
        }
        n -= c->n;
        rc = kl_outq_take(out, c->bytes, c->off, c->n);
        r->q_head++;
        r->q_count--;
    }
    if (r->q_count == 0) {
        if (r->q != r->few)
            free(r->q);
        r->q = r->few;
        r->q_head = 0;
    }
    return rc;
}

void kl_http_resp_fini(struct kl_http_req *r)
{
    for (uint32_t i = 0; i < r->q_count; i++)
        kl_bytes_unref(r->q[r->q_head + i].bytes);
    if (r->q && r->q != r->few)
        free(r->q);
    r->q = NULL;
    r->q_count = 0;
    r->q_bytes = 0;
}
