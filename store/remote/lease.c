// SPDX-License-Identifier: Apache-2.0
// Leases are the remote's. An answer waits until the revision that it speaks of is up: what a
// revocation deletes is gone then.
#include "store/remote/remote_int.h"
#include "store/view.h"
#include "base/clock.h"
#include "base/rand.h"
#include <stdlib.h>

struct kl_remote_lease {
    struct kl_backend *b;
    struct kl_task task;
    struct kl_remote_up up;
    struct kl_remote_call call;
    struct kl_remote_lease *next;
    struct kl_lease_req *q;
    struct kl_grpc_call *stream; // of a renewal
    kl_rev rev;
    int64_t until_ms;
    struct kl_str *keys; // of a lease, in `arena`
    size_t nkeys;
    struct kl_arena arena;
    int64_t *ids; // of a list: those to be asked about
    size_t nids, at;
};

// ---- answered ----

static int apply_lease(struct kl_remote_up *u)
{
    struct kl_remote_lease *w = KL_CONTAINER_OF(u, struct kl_remote_lease, up);
    struct kl_lease_req *q = w->q;
    if (!q->code && w->nkeys) {
        q->kvs = malloc(w->nkeys * sizeof(struct kl_kv *));
        if (!q->kvs)
            q->code = kl_error_set(&q->err, KL_ENOMEM, "out of memory");
    }
    for (size_t i = 0; !q->code && i < w->nkeys; i++) {
        struct kl_kv *kv = kl_view_get(kl_core_view(u->b->core), w->keys[i]);
        if (kv && kv->lease == q->id)
            q->kvs[q->n++] = kl_kv_ref(kv);
    }
    kl_core_lease_done(u->b->core, q);
    kl_arena_fini(&w->arena);
    free(w->ids);
    free(w);
    return 0;
}

static void end_lease(struct kl_remote_lease *w)
{
    w->up.apply = apply_lease;
    kl_remote_post(w->b, &w->up);
}

// Once it is posted w belongs to the core's loop: the call is done with before.
static void end_at(struct kl_remote_lease *w, kl_rev rev)
{
    struct kl_backend *b = w->b;
    w->rev = rev;
    w->until_ms = kl_mono_ms() + KL_REMOTE_WAIT_MS;
    w->next = b->lease_waits;
    b->lease_waits = w;
    kl_remote_wake(b);
    kl_remote_lease_run(b);
}

void kl_remote_lease_run(struct kl_backend *b)
{
    struct kl_remote_lease **at = &b->lease_waits;
    int64_t now = b->lease_waits ? kl_mono_ms() : 0;
    while (*at) {
        struct kl_remote_lease *w = *at;
        bool up = b->posted >= w->rev;
        if (!up && now < w->until_ms && !b->closing) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        if (!up)
            w->q->code = kl_error_set(&w->q->err, KL_EUNAVAILABLE,
                                      "datastore %s: its watch does not go on", b->name);
        end_lease(w);
    }
}

kl_rev kl_remote_lease_rev(const struct kl_backend *b)
{
    kl_rev rev = 0;
    for (const struct kl_remote_lease *w = b->lease_waits; w; w = w->next)
        rev = !rev || w->rev < rev ? w->rev : rev;
    return rev;
}

void kl_remote_lease_stop(struct kl_backend *b)
{
    kl_remote_lease_run(b);
}

static int not_found(struct kl_lease_req *q)
{
    return kl_error_set(&q->err, KL_ENOTFOUND, "etcdserver: requested lease not found");
}

// What no etcd grants is not believed.
static int64_t to_ms(int64_t s)
{
    return (s < 0 ? 0 : s < KL_LEASE_MAX_TTL ? s : KL_LEASE_MAX_TTL) * 1000;
}

// ---- the kinds ----

static void on_grant(struct kl_remote_call *c)
{
    struct kl_remote_lease *w = KL_CONTAINER_OF(c, struct kl_remote_lease, call);
    struct kl_lease_req *q = w->q;
    const struct kl_etcd_lease_grant_response *r = c->reply;
    if (c->code) {
        q->code = kl_remote_error(c, &q->err);
    } else {
        q->id = r->id;
        q->ttl_s = r->ttl;
        q->remaining_ms = to_ms(r->ttl);
    }
    kl_remote_call_fini(c);
    end_lease(w);
}

static void on_revoke(struct kl_remote_call *c)
{
    struct kl_remote_lease *w = KL_CONTAINER_OF(c, struct kl_remote_lease, call);
    const struct kl_etcd_lease_revoke_response *r = c->reply;
    kl_rev rev = !c->code && r->header ? r->header->revision : 0;
    w->q->code = c->code ? kl_remote_error(c, &w->q->err) : 0;
    kl_remote_call_fini(c);
    end_at(w, rev);
}

static int take_ttl(struct kl_remote_lease *w, const struct kl_etcd_lease_time_to_live_response *r)
{
    struct kl_lease_req *q = w->q;
    if (r->ttl < 0)
        return not_found(q);
    q->ttl_s = r->granted_ttl;
    q->remaining_ms = to_ms(r->ttl);
    w->keys = kl_arena_alloc(&w->arena, (r->n_keys + 1) * sizeof(*w->keys));
    for (size_t i = 0; w->keys && i < r->n_keys; i++) {
        w->keys[i] = kl_arena_dup(&w->arena, r->keys[i]);
        if (!w->keys[i].p)
            w->keys = NULL;
        else
            w->nkeys++;
    }
    return w->keys ? 0 : kl_error_set(&q->err, KL_ENOMEM, "out of memory");
}

static void on_ttl(struct kl_remote_call *c)
{
    struct kl_remote_lease *w = KL_CONTAINER_OF(c, struct kl_remote_lease, call);
    const struct kl_etcd_lease_time_to_live_response *r = c->reply;
    w->q->code = c->code ? kl_remote_error(c, &w->q->err) : take_ttl(w, r);
    if (w->q->code)
        w->nkeys = 0;
    kl_rev rev = !w->q->code && r->header ? r->header->revision : 0;
    kl_remote_call_fini(c);
    end_at(w, rev);
}

// ---- all of them, one after the other ----

static void next_of_list(struct kl_remote_lease *w);

static void on_one(struct kl_remote_call *c)
{
    struct kl_remote_lease *w = KL_CONTAINER_OF(c, struct kl_remote_lease, call);
    struct kl_lease_req *q = w->q;
    const struct kl_etcd_lease_time_to_live_response *r = c->reply;
    bool gone = c->code == KL_GRPC_NOT_FOUND || (!c->code && r->ttl < 0);
    if (c->code && !gone) {
        q->code = kl_remote_error(c, &q->err);
    } else if (!gone) {
        q->ids[q->n] = w->ids[w->at];
        q->ttls_ms[q->n] = to_ms(r->granted_ttl);
        q->lefts_ms[q->n++] = to_ms(r->ttl);
    }
    kl_remote_call_fini(c);
    w->at++;
    if (q->code)
        end_lease(w);
    else
        next_of_list(w);
}

static void next_of_list(struct kl_remote_lease *w)
{
    if (w->at == w->nids) {
        end_lease(w);
        return;
    }
    struct kl_etcd_lease_time_to_live_request rq = {.id = w->ids[w->at]};
    w->call = (struct kl_remote_call){
        .done = on_one,
        .retry = true,
        .request = kl_remote_encode(&kl_etcd_lease_time_to_live_request_desc, &rq)};
    kl_remote_call(w->b, &w->call, KL_ETCD_LEASE_TIME_TO_LIVE);
}

static void on_list(struct kl_remote_call *c)
{
    struct kl_remote_lease *w = KL_CONTAINER_OF(c, struct kl_remote_lease, call);
    struct kl_lease_req *q = w->q;
    const struct kl_etcd_lease_leases_response *r = c->reply;
    if (c->code) {
        q->code = kl_remote_error(c, &q->err);
    } else {
        size_t cap = r->n_leases + 1;
        q->ids = malloc(3 * cap * sizeof(*q->ids));
        w->ids = malloc(cap * sizeof(*w->ids));
        if (!q->ids || !w->ids) {
            q->code = kl_error_set(&q->err, KL_ENOMEM, "out of memory");
        } else {
            q->ttls_ms = q->ids + cap;
            q->lefts_ms = q->ttls_ms + cap;
            for (size_t i = 0; i < r->n_leases; i++)
                w->ids[w->nids++] = r->leases[i].id;
        }
    }
    kl_remote_call_fini(c);
    if (q->code)
        end_lease(w);
    else
        next_of_list(w);
}

// ---- renewals: a stream for each, which is closed with its answer ----

static void on_renewed(void *arg, struct kl_grpc_call *call, struct kl_str message)
{
    struct kl_remote_lease *w = arg;
    struct kl_lease_req *q = w->q;
    void *msg;
    if (!w->stream)
        return;
    int rc =
        kl_proto_decode(&w->arena, &kl_etcd_lease_keep_alive_response_desc, message, &msg, &q->err);
    const struct kl_etcd_lease_keep_alive_response *r = rc ? NULL : msg;
    q->code = rc;
    if (r && r->ttl <= 0) {
        q->code = not_found(q);
    } else if (r) {
        q->ttl_s = r->ttl;
        q->remaining_ms = to_ms(r->ttl);
    }
    w->stream = NULL;
    kl_grpc_cancel(call); // on_ended ends it
}

static void on_ended(void *arg, enum kl_grpc_code code, struct kl_str reply,
                     const struct kl_error *err)
{
    struct kl_remote_lease *w = arg;
    if (w->stream) {
        w->call.b = w->b;
        w->call.code = code ? code : KL_GRPC_UNAVAILABLE;
        if (err)
            w->call.err = *err;
        w->q->code = kl_remote_error(&w->call, &w->q->err);
        if (code == KL_GRPC_UNAVAILABLE)
            kl_remote_channel_lost(w->b);
    }
    w->stream = NULL;
    end_lease(w);
}

static void renew(struct kl_remote_lease *w)
{
    struct kl_backend *b = w->b;
    struct kl_lease_req *q = w->q;
    struct kl_etcd_lease_keep_alive_request rq = {.id = q->id};
    struct kl_bytes *bytes = kl_remote_encode(&kl_etcd_lease_keep_alive_request_desc, &rq);
    int rc = bytes ? kl_remote_channel_open(b, &q->err)
                   : kl_error_set(&q->err, KL_ENOMEM, "out of memory");
    if (!rc)
        rc = kl_grpc_bidi(b->grpc, kl_etcd_methods[KL_ETCD_LEASE_KEEP_ALIVE].path, on_renewed,
                          on_ended, w, &w->stream, &q->err);
    if (rc) {
        q->code = rc;
        end_lease(w);
    } else if (kl_grpc_send(w->stream, bytes)) {
        // The channel waits before it connects again: on_ended comes.
    }
    kl_bytes_unref(bytes);
}

// ---- from the core ----

static void call(struct kl_remote_lease *w, int method, bool retry,
                 void (*done)(struct kl_remote_call *c), const void *request)
{
    w->call =
        (struct kl_remote_call){.done = done,
                                .retry = retry,
                                .request = kl_remote_encode(kl_etcd_methods[method].in, request)};
    kl_remote_call(w->b, &w->call, method);
}

static void run_lease(struct kl_task *t)
{
    struct kl_remote_lease *w = KL_CONTAINER_OF(t, struct kl_remote_lease, task);
    struct kl_lease_req *q = w->q;
    switch (q->kind) {
    case KL_LEASE_GRANT:
        call(w, KL_ETCD_LEASE_GRANT, false, on_grant,
             &(struct kl_etcd_lease_grant_request){.id = q->id, .ttl = q->ttl_s});
        break;
    case KL_LEASE_REVOKE:
        call(w, KL_ETCD_LEASE_REVOKE, false, on_revoke,
             &(struct kl_etcd_lease_revoke_request){.id = q->id});
        break;
    case KL_LEASE_TTL:
        call(w, KL_ETCD_LEASE_TIME_TO_LIVE, true, on_ttl,
             &(struct kl_etcd_lease_time_to_live_request){.id = q->id, .keys = q->want_keys});
        break;
    case KL_LEASE_LIST:
        call(w, KL_ETCD_LEASE_LEASES, true, on_list, &(struct kl_etcd_lease_leases_request){0});
        break;
    case KL_LEASE_KEEPALIVE:
        renew(w);
        break;
    }
}

void kl_remote_lease(struct kl_backend *b, struct kl_lease_req *q)
{
    struct kl_remote_lease *w = calloc(1, sizeof(*w));
    if (!w) {
        q->code = kl_error_set(&q->err, KL_ENOMEM, "out of memory");
        kl_core_lease_done(b->core, q);
        return;
    }
    *w = (struct kl_remote_lease){.b = b, .q = q, .task.run = run_lease};
    kl_arena_init(&w->arena, 0);
    kl_loop_post(b->loop, &w->task);
}
