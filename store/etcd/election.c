// SPDX-License-Identifier: Apache-2.0
// v3electionpb.Election (server/etcdserver/api/v3election): who stands, and what the leader does.
// Who looks on is in leader.c.
#include "store/etcd/line.h"

#define NO_FIELD "\"leader\" field must be provided"
#define NO_KEY "etcdserver: key is not provided"
#define NOT_LEADER "election: not leader"

static void elected(struct kl_etcd_line *line)
{
    struct kl_etcd_response_header h = kl_etcd_header(line->l->etcd, line->told_rev);
    struct kl_etcd_leader_key leader = {.name = {line->key.p, line->name.n},
                                        .key = line->key,
                                        .rev = line->rev,
                                        .lease = line->lease};
    kl_etcd_reply(line->rpc, &kl_etcd_campaign_response_desc,
                  &(struct kl_etcd_campaign_response){.header = &h, .leader = &leader});
}

static void campaign(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_campaign_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_campaign_request_desc, msg) : NULL;
    if (!rq || kl_etcd_line_refuses(c, msg.n))
        return;
    struct kl_etcd_line *line = KL_ARENA_NEW(kl_grpc_rpc_arena(c), struct kl_etcd_line);
    struct kl_str value = kl_arena_dup(kl_grpc_rpc_arena(c), rq->value);
    if (!line || !value.p) {
        kl_etcd_line_fail(c, KL_ENOMEM, NULL);
        return;
    }
    line->name = rq->name;
    line->value = value;
    line->lease = rq->lease;
    line->turn = elected;
    kl_etcd_line_start(line, c, l);
}

// ---- Proclaim, Resign: the leader is whoever has the key that was created at that revision

struct leader_call {
    struct kl_grpc_rpc *rpc; // a reference
    struct kl_etcd_loop *l;
    bool resigns;
    struct kl_lease_req grant;
    struct kl_txn txn;
    struct kl_compare compare;
    struct kl_op op;
    struct kl_etcd_waiting waiting;
};

static void end_call(struct leader_call *call, int code, const struct kl_error *err)
{
    if (code)
        kl_etcd_line_fail(call->rpc, code, err);
    kl_bytes_unref(call->op.value);
    kl_grpc_rpc_unref(call->rpc);
}

static void txn_done(struct kl_txn *txn)
{
    struct leader_call *call = KL_CONTAINER_OF(txn, struct leader_call, txn);
    struct kl_etcd_response_header h = kl_etcd_header(call->l->etcd, txn->rev);
    bool held = txn->body.succeeded;
    int code = txn->code;
    kl_etcd_waiting_end(&call->waiting);
    kl_txn_fini(txn);
    if (!code && call->resigns)
        kl_etcd_reply(call->rpc, &kl_etcd_resign_response_desc,
                      &(struct kl_etcd_resign_response){.header = &h});
    else if (!code && held)
        kl_etcd_reply(call->rpc, &kl_etcd_proclaim_response_desc,
                      &(struct kl_etcd_proclaim_response){.header = &h});
    else if (!code)
        kl_etcd_fail_grpc(call->rpc, KL_GRPC_UNKNOWN, NOT_LEADER);
    end_call(call, code, &txn->err);
}

static void submit(struct leader_call *call)
{
    struct kl_error err = {0};
    int rc = kl_store_submit(call->l->etcd->store, &call->txn, &err);
    if (rc)
        end_call(call, rc, &err);
    else
        kl_etcd_waiting_begin(call->l, &call->waiting, call->rpc);
}

static void granted(struct kl_lease_req *req)
{
    struct leader_call *call = KL_CONTAINER_OF(req, struct leader_call, grant);
    int code = req->code;
    kl_etcd_waiting_end(&call->waiting);
    kl_lease_req_fini(req);
    call->op.lease = req->id;
    if (code || kl_grpc_rpc_closed(call->rpc))
        end_call(call, code ? code : KL_ECANCELED, &req->err);
    else
        submit(call);
}

static void start(struct kl_grpc_rpc *c, struct kl_etcd_loop *l,
                  const struct kl_etcd_leader_key *leader, bool resigns, struct kl_str value)
{
    struct kl_error err = {0};
    if (!leader || !leader->key.n) {
        kl_etcd_fail_grpc(c, KL_GRPC_UNKNOWN, leader ? NO_KEY : NO_FIELD);
        return;
    }
    struct leader_call *call = KL_ARENA_NEW(kl_grpc_rpc_arena(c), struct leader_call);
    struct kl_str key = kl_arena_dup(kl_grpc_rpc_arena(c), leader->key);
    if (!call || !key.p) {
        kl_etcd_line_fail(c, KL_ENOMEM, NULL);
        return;
    }
    call->rpc = kl_grpc_rpc_ref(c);
    call->l = l;
    call->resigns = resigns;
    call->compare =
        (struct kl_compare){.key = key, .target = KL_COMPARE_CREATE, .num = leader->rev};
    call->op = (struct kl_op){.kind = resigns ? KL_OP_DELETE : KL_OP_PUT,
                              .key = key,
                              .value = resigns ? NULL : kl_bytes_new(value),
                              .lease = resigns ? 0 : leader->lease};
    call->txn = (struct kl_txn){
        .body = {.compares = &call->compare, .ncompares = 1, .then = &call->op, .nthen = 1},
        .cb = txn_done};
    if (!resigns && !call->op.value) {
        end_call(call, KL_ENOMEM, NULL);
        return;
    }
    if (resigns || leader->lease) {
        submit(call);
        return;
    }
    call->grant = (struct kl_lease_req){
        .kind = KL_LEASE_GRANT, .ttl_s = KL_ETCD_SESSION_TTL_S, .cb = granted};
    int rc = kl_store_lease(l->etcd->store, &call->grant, &err);
    if (rc)
        end_call(call, rc, &err);
    else
        kl_etcd_waiting_begin(l, &call->waiting, c);
}

static void proclaim(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_proclaim_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_proclaim_request_desc, msg) : NULL;
    if (rq && !kl_etcd_line_refuses(c, msg.n))
        start(c, l, rq->leader, false, rq->value);
}

static void resign(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_resign_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_resign_request_desc, msg) : NULL;
    if (rq)
        start(c, l, rq->leader, true, KL_STR(""));
}

const struct kl_grpc_method kl_etcd_election_methods[] = {
    {.path = "/v3electionpb.Election/Campaign", .message = campaign, .close = kl_etcd_line_closed},
    {.path = "/v3electionpb.Election/Proclaim", .message = proclaim},
    {.path = "/v3electionpb.Election/Resign", .message = resign},
    {.path = "/v3electionpb.Election/Leader", .message = kl_etcd_leader},
    {.path = "/v3electionpb.Election/Observe",
     .message = kl_etcd_observe,
     .ready = kl_etcd_observe_ready,
     .close = kl_etcd_observe_close},
    {.path = NULL},
};
