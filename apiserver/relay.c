// SPDX-License-Identifier: Apache-2.0
// The queue between the two servers, and the tunnel of an upgraded connection.
#include "apiserver/relay.h"
#include "apiserver/auth/auth.h"
#include <stdlib.h>

enum { QUEUE_HIGH = 256 * 1024 };

void kl_relay_drop(struct kl_relay *x)
{
    kl_revocable_remove(&x->revocable);
    for (size_t i = 0; i < x->nqueue; i++)
        kl_bytes_unref(x->queue[i]);
    free(x->queue);
    x->queue = NULL;
    x->nqueue = 0;
    if (x->fini)
        x->fini(x);
    kl_http_req_on_close(x->call->hr, NULL, NULL);
}

static void free_relay(struct kl_relay *x)
{
    kl_relay_drop(x);
    kl_api_call_release(x->call); // frees x: the request's arena
}

static void on_client_close(void *arg, struct kl_http_req *hr, int status)
{
    struct kl_relay *x = arg;
    (void)hr, (void)status;
    x->closed = true;
    if (x->up)
        kl_http_call_cancel(x->up); // on_end runs inside and frees
}

void kl_relay_begin(struct kl_relay *x)
{
    kl_http_req_on_close(x->call->hr, on_client_close, x);
}

// ---- an answer

static int pull(void *arg, struct kl_http_chunk *chunks, int max, bool *ret_end)
{
    struct kl_relay *x = arg;
    int n = 0;
    if (x->failed)
        return KL_EIO; // cut off: half an answer must not look whole
    while (n < max && (size_t)n < x->nqueue) {
        chunks[n] = (struct kl_http_chunk){.bytes = x->queue[n], .n = x->queue[n]->n};
        x->queued_bytes -= x->queue[n]->n;
        n++;
    }
    memmove(x->queue, x->queue + n, (x->nqueue - (size_t)n) * sizeof *x->queue);
    x->nqueue -= (size_t)n;
    if (x->paused && x->queued_bytes < QUEUE_HIGH / 2 && x->up) {
        x->paused = false;
        kl_http_call_resume(x->up);
    }
    if (x->ended && !x->nqueue)
        *ret_end = true;
    return n;
}

static void on_source_close(void *arg)
{
    struct kl_relay *x = arg;
    x->closed = true;
    if (x->up)
        kl_http_call_cancel(x->up); // on_end runs inside and frees
    else
        free_relay(x);
}

static const struct kl_http_source source = {.pull = pull, .close = on_source_close};

static void cut_off(struct kl_relay *x)
{
    x->failed = true;
    kl_http_resume(x->call->hr);
}

static void end_revoked(struct kl_revocable *r)
{
    cut_off(KL_CONTAINER_OF(r, struct kl_relay, revocable));
}

void kl_relay_answer(struct kl_relay *x, int status, const struct kl_http_header *h, size_t nh)
{
    x->answered = true;
    kl_revocable_add(x->call->req.al, &x->revocable, x->call->req.user, end_revoked);
    kl_http_req_on_close(x->call->hr, NULL, NULL); // the source's close comes from now on
    if (kl_http_respond_stream(x->call->hr, status, h, nh, &source, x)) {
        x->closed = true;
        kl_http_call_cancel(x->up);
    }
}

static bool push(struct kl_relay *x, struct kl_bytes *b)
{
    if (x->nqueue == x->cap) {
        size_t cap = x->cap ? 2 * x->cap : 16;
        struct kl_bytes **q = realloc(x->queue, cap * sizeof *q);
        if (!q)
            return false;
        x->queue = q;
        x->cap = cap;
    }
    x->queue[x->nqueue++] = b;
    x->queued_bytes += b->n;
    return true;
}

void kl_relay_data(struct kl_relay *x, struct kl_str data)
{
    struct kl_bytes *b = x->failed ? NULL : kl_bytes_new(data);
    if (!b || !push(x, b)) {
        kl_bytes_unref(b);
        cut_off(x);
        return;
    }
    if (x->queued_bytes > QUEUE_HIGH && !x->paused) {
        x->paused = true;
        kl_http_call_pause(x->up);
    }
    kl_http_resume(x->call->hr);
}

// ---- an upgrade

// Outlives the request, but not its user's revocation.
struct tunnel {
    struct kl_revocable revocable;
    struct kl_splice *splice;
};

static void tunnel_done(void *arg, int status, uint64_t up, uint64_t down)
{
    struct tunnel *t = arg;
    (void)status, (void)up, (void)down;
    kl_revocable_remove(&t->revocable);
    free(t);
}

static void end_tunnel(struct kl_revocable *r)
{
    kl_splice_cancel(KL_CONTAINER_OF(r, struct tunnel, revocable)->splice);
}

static void join_ends(struct kl_req *r, struct kl_duplex *client, struct kl_duplex *far)
{
    struct tunnel *t = calloc(1, sizeof *t);
    if (!t) {
        kl_duplex_close(client);
        kl_duplex_close(far);
        return;
    }
    t->splice = kl_splice_start(client, far, tunnel_done, t);
    if (t->splice)
        kl_revocable_add(r->al, &t->revocable, r->user, end_tunnel);
    else
        free(t);
}

void kl_relay_upgrade(struct kl_relay *x, struct kl_str protocol, const struct kl_http_header *h,
                      size_t nh, struct kl_duplex *far)
{
    struct kl_duplex *client;
    struct kl_error err = {0};
    x->answered = x->upgraded = true;
    kl_http_req_on_close(x->call->hr, NULL, NULL); // the tunnel sees to itself
    if (kl_http_upgrade(x->call->hr, protocol, h, nh, &client, &err)) {
        kl_duplex_close(far);
        kl_http_abort(x->call->hr);
        return;
    }
    join_ends(&x->call->req, client, far);
}

bool kl_relay_end(struct kl_relay *x, int status)
{
    x->up = NULL;
    x->ended = true;
    x->failed |= x->answered && status < 0;
    if (x->closed || x->upgraded) {
        free_relay(x);
        return false;
    }
    if (!x->answered)
        return true;
    kl_http_resume(x->call->hr);
    return false;
}

// ---- why not

struct kl_str kl_relay_error(struct kl_arena *a, int status, const struct kl_error *err)
{
    struct kl_str s = kl_arena_dup(a, kl_str(err && *err->msg ? err->msg : kl_err_text(status)));
    char *at = s.p ? strstr((char *)s.p, "connect: ") : NULL;
    if (at && at[9] >= 'A' && at[9] <= 'Z') // "Connection refused"
        at[9] = (char)(at[9] + 32);
    return s;
}

void kl_relay_fail_upgrade(struct kl_req *r, int status, const struct kl_error *err)
{
    bool dialing = status == KL_EUNAVAILABLE || status == KL_EUNAUTHORIZED;
    struct kl_str text = kl_relay_error(r->arena, status, err);
    kl_fail_set(r, 500, "", "%s%.*s", dialing ? "error dialing backend: " : "", KL_PRI(text));
}

// ---- what goes on

bool kl_relay_header(struct kl_arena *a, const struct kl_http_header *in,
                     struct kl_http_header *ret)
{
    *ret = *in;
    if (!kl_str_eqz(in->name, "sec-websocket-protocol"))
        return true;
    ret->value = kl_authn_strip_protocols(a, in->value);
    return ret->value.n > 0;
}
