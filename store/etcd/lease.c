// SPDX-License-Identifier: Apache-2.0
// The Lease service (server/etcdserver/api/v3rpc/lease.go).
#include "store/etcd/kv_int.h"
#include <stdlib.h>

enum {
    MIN_TTL_S = 2, // etcd's: one and a half elections
    // Of one stream: renewals that have no answer yet, and bytes of answers that the client has not
    // taken. Beyond either the client waits.
    MAX_RENEWALS = 1024,
    MAX_QUEUED = 64 * 1024,
};

struct lease_call {
    struct kl_grpc_rpc *rpc; // a reference
    struct kl_etcd_loop *l;
    kl_rev rev; // a stream's: before the renewal
    int64_t id;
    struct kl_lease_req req;
    struct kl_etcd_waiting waiting;
    struct lease_call *next; // a stream's
    bool done;
};

static struct kl_etcd_response_header header_now(struct kl_etcd_loop *l)
{
    return kl_etcd_header(l->etcd, kl_etcd_rev(l));
}

static void end_call(struct lease_call *call)
{
    kl_etcd_waiting_end(&call->waiting);
    kl_lease_req_fini(&call->req);
    kl_grpc_rpc_unref(call->rpc);
}

// The call's own failures, and those of a client that has gone.
static bool failed(struct lease_call *call)
{
    int code = call->req.code;
    if (!code && !kl_grpc_rpc_closed(call->rpc))
        return false;
    kl_etcd_fail(call->rpc, code, &call->req.err);
    end_call(call);
    return true;
}

static void granted(struct kl_lease_req *req)
{
    struct lease_call *call = KL_CONTAINER_OF(req, struct lease_call, req);
    if (failed(call))
        return;
    struct kl_etcd_response_header h = header_now(call->l);
    kl_etcd_reply(
        call->rpc, &kl_etcd_lease_grant_response_desc,
        &(struct kl_etcd_lease_grant_response){.header = &h, .id = req->id, .ttl = req->ttl_s});
    end_call(call);
}

static void revoked(struct kl_lease_req *req)
{
    struct lease_call *call = KL_CONTAINER_OF(req, struct lease_call, req);
    if (failed(call))
        return;
    struct kl_etcd_response_header h = header_now(call->l);
    kl_etcd_reply(call->rpc, &kl_etcd_lease_revoke_response_desc,
                  &(struct kl_etcd_lease_revoke_response){.header = &h});
    end_call(call);
}

static int compare_keys(const void *a, const void *b)
{
    return kl_str_cmp(*(const struct kl_str *)a, *(const struct kl_str *)b);
}

static void told_ttl(struct kl_lease_req *req)
{
    struct lease_call *call = KL_CONTAINER_OF(req, struct lease_call, req);
    struct kl_etcd_response_header h = header_now(call->l);
    struct kl_etcd_lease_time_to_live_response r = {.header = &h, .id = call->id, .ttl = -1};
    bool found = req->code != KL_ENOTFOUND;
    if (!found)
        req->code = 0;
    if (failed(call))
        return;
    if (found) {
        r.ttl = req->remaining_ms / 1000;
        r.granted_ttl = req->ttl_s;
        r.n_keys = req->n;
        r.keys = req->n ? calloc(req->n, sizeof(*r.keys)) : NULL;
        if (req->n && !r.keys) {
            kl_etcd_fail(call->rpc, KL_ENOMEM, NULL);
            end_call(call);
            return;
        }
        for (size_t i = 0; i < req->n; i++)
            r.keys[i] = kl_kv_key(req->kvs[i]);
        if (r.n_keys)
            qsort(r.keys, r.n_keys, sizeof(*r.keys), compare_keys);
    }
    kl_etcd_reply(call->rpc, &kl_etcd_lease_time_to_live_response_desc, &r);
    free(r.keys);
    end_call(call);
}

static void listed(struct kl_lease_req *req)
{
    struct lease_call *call = KL_CONTAINER_OF(req, struct lease_call, req);
    if (failed(call))
        return;
    struct kl_etcd_response_header h = header_now(call->l);
    struct kl_etcd_lease_leases_response r = {.header = &h, .n_leases = req->n};
    r.leases = calloc(req->n + 1, sizeof(*r.leases));
    for (size_t i = 0; r.leases && i < req->n; i++)
        r.leases[i].id = req->ids[i];
    if (r.leases)
        kl_etcd_reply(call->rpc, &kl_etcd_lease_leases_response_desc, &r);
    else
        kl_etcd_fail(call->rpc, KL_ENOMEM, NULL);
    free(r.leases);
    end_call(call);
}

static struct lease_call *new_call(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                                   struct kl_lease_req req)
{
    struct lease_call *call = KL_ARENA_NEW(kl_grpc_rpc_arena(c), struct lease_call);
    if (!call) {
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return NULL;
    }
    call->rpc = kl_grpc_rpc_ref(c);
    call->l = l;
    call->id = req.id;
    call->req.kind = req.kind;
    call->req.id = req.id;
    call->req.ttl_s = req.ttl_s;
    call->req.want_keys = req.want_keys;
    call->req.cb = req.cb;
    return call;
}

static void submit(struct kl_grpc_rpc *c, struct kl_etcd_loop *l, struct kl_lease_req req)
{
    struct kl_error err = {0};
    struct lease_call *call = new_call(c, l, req);
    if (!call)
        return;
    int rc = kl_store_lease(l->etcd->store, &call->req, &err);
    if (!rc) {
        kl_etcd_waiting_begin(l, &call->waiting, c);
        return;
    }
    kl_etcd_fail(c, rc, &err);
    end_call(call);
}

static void grant(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_lease_grant_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_lease_grant_request_desc, msg) : NULL;
    if (rq && !kl_etcd_is_over_quota(c, KL_ETCD_LEASE_COST) && !kl_etcd_is_corrupt(c) &&
        !kl_etcd_is_capped(c))
        submit(c, l,
               (struct kl_lease_req){.kind = KL_LEASE_GRANT,
                                     .id = rq->id,
                                     .ttl_s = rq->ttl < MIN_TTL_S ? MIN_TTL_S : rq->ttl,
                                     .cb = granted});
}

static void revoke_lease(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_lease_revoke_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_lease_revoke_request_desc, msg) : NULL;
    if (rq && !kl_etcd_is_corrupt(c))
        submit(c, l, (struct kl_lease_req){.kind = KL_LEASE_REVOKE, .id = rq->id, .cb = revoked});
}

static void time_to_live(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_lease_time_to_live_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_lease_time_to_live_request_desc, msg) : NULL;
    if (rq)
        submit(c, l,
               (struct kl_lease_req){
                   .kind = KL_LEASE_TTL, .id = rq->id, .want_keys = rq->keys, .cb = told_ttl});
}

static void leases(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    if (l)
        submit(c, l, (struct kl_lease_req){.kind = KL_LEASE_LIST, .cb = listed});
}

// ---- the stream of renewals: answered in the order of the questions, which the store need not
// keep

struct stream {
    struct kl_etcd_loop *l;
    struct lease_call *first, **end;
    int pending;
    bool said_all, held;
};

// Holds the client back, or lets it go on, by what it has not been told yet.
static void look_at_hold(struct kl_grpc_rpc *c, struct stream *st)
{
    bool full = kl_grpc_rpc_queued(c) > MAX_QUEUED;
    bool hold = full || st->pending >= (st->held ? MAX_RENEWALS / 2 : MAX_RENEWALS);
    if (full)
        kl_grpc_rpc_want_send(c);
    if (hold == st->held)
        return;
    st->held = hold;
    kl_grpc_rpc_hold(c, hold);
}

static void send_renewed(struct kl_grpc_rpc *c, struct lease_call *call)
{
    struct kl_lease_req *req = &call->req;
    if (req->code && req->code != KL_ENOTFOUND) {
        kl_etcd_fail(c, req->code, &req->err);
        return;
    }
    struct kl_etcd_response_header h = kl_etcd_header(call->l->etcd, call->rev);
    kl_etcd_send(c, &kl_etcd_lease_keep_alive_response_desc,
                 &(struct kl_etcd_lease_keep_alive_response){
                     .header = &h, .id = call->id, .ttl = req->code ? 0 : req->ttl_s});
}

// Calls are allocated apart: a stream may live for months.
static void renewed(struct kl_lease_req *req)
{
    struct lease_call *call = KL_CONTAINER_OF(req, struct lease_call, req);
    struct kl_grpc_rpc *c = call->rpc; // the stream's: it stays for the others, and for this
    struct stream *st = kl_grpc_rpc_data(c);
    call->done = true;
    kl_grpc_rpc_ref(c);
    while ((call = st->first) && call->done) {
        st->first = call->next;
        if (!st->first)
            st->end = &st->first;
        st->pending--;
        if (!kl_grpc_rpc_closed(c))
            send_renewed(c, call);
        end_call(call);
        free(call);
    }
    look_at_hold(c, st);
    if (!st->pending && st->said_all)
        kl_grpc_rpc_finish(c, KL_GRPC_OK, NULL);
    kl_grpc_rpc_unref(c);
}

static void open_stream(struct kl_grpc_rpc *c)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    struct stream *st = l ? KL_ARENA_NEW(kl_grpc_rpc_arena(c), struct stream) : NULL;
    if (!st) {
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return;
    }
    st->l = l;
    st->end = &st->first;
    kl_grpc_rpc_set_data(c, st);
}

static void renew(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct stream *st = kl_grpc_rpc_data(c);
    struct kl_etcd_lease_keep_alive_request *rq;
    struct kl_error err = {0};
    struct kl_arena a; // not the call's, which lives as long as the stream
    kl_arena_init(&a, 0);
    if (kl_proto_decode(&a, &kl_etcd_lease_keep_alive_request_desc, msg, (void **)&rq, &err)) {
        kl_arena_fini(&a);
        kl_etcd_fail_grpc(c, KL_GRPC_INTERNAL, "grpc: error unmarshalling request");
        return;
    }
    struct lease_call *call = calloc(1, sizeof(*call));
    if (call) {
        call->rpc = kl_grpc_rpc_ref(c);
        call->l = st->l;
        call->id = call->req.id = rq->id;
        call->rev = kl_etcd_rev(st->l);
        call->req.kind = KL_LEASE_KEEPALIVE;
        call->req.cb = renewed;
    }
    kl_arena_fini(&a);
    int rc = call ? kl_store_lease(st->l->etcd->store, &call->req, &err) : KL_ENOMEM;
    if (rc) {
        kl_etcd_fail(c, rc, &err);
        if (call)
            kl_grpc_rpc_unref(c);
        free(call);
        return;
    }
    kl_etcd_waiting_begin(st->l, &call->waiting, c);
    *st->end = call;
    st->end = &call->next;
    st->pending++;
    look_at_hold(c, st);
}

// The client has taken all answers.
static void taken(struct kl_grpc_rpc *c)
{
    struct stream *st = kl_grpc_rpc_data(c);
    if (st)
        look_at_hold(c, st);
}

static void said_all(struct kl_grpc_rpc *c)
{
    struct stream *st = kl_grpc_rpc_data(c);
    st->said_all = true;
    if (!st->pending)
        kl_grpc_rpc_finish(c, KL_GRPC_OK, NULL);
}

const struct kl_grpc_method kl_etcd_lease_methods[] = {
    {.path = "/etcdserverpb.Lease/LeaseGrant", .message = grant},
    {.path = "/etcdserverpb.Lease/LeaseRevoke", .message = revoke_lease},
    {.path = "/etcdserverpb.Lease/LeaseKeepAlive",
     .client_stream = true,
     .open = open_stream,
     .message = renew,
     .ready = taken,
     .half_close = said_all},
    {.path = "/etcdserverpb.Lease/LeaseTimeToLive", .message = time_to_live},
    {.path = "/etcdserverpb.Lease/LeaseLeases", .message = leases},
    {.path = NULL},
};
