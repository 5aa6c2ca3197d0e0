// SPDX-License-Identifier: Apache-2.0
// v3lockpb.Lock (server/etcdserver/api/v3lock): the oldest key under NAME/ holds the lock.
#include "store/etcd/line.h"

static void locked(struct kl_etcd_line *line)
{
    struct kl_etcd_response_header h = kl_etcd_header(line->l->etcd, line->told_rev);
    kl_etcd_reply(line->rpc, &kl_etcd_lock_response_desc,
                  &(struct kl_etcd_lock_response){.header = &h, .key = line->key});
}

static void lock(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_lock_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_lock_request_desc, msg) : NULL;
    if (!rq || kl_etcd_line_refuses(c, msg.n))
        return;
    struct kl_etcd_line *line = KL_ARENA_NEW(kl_grpc_rpc_arena(c), struct kl_etcd_line);
    if (!line) {
        kl_etcd_line_fail(c, KL_ENOMEM, NULL);
        return;
    }
    line->is_lock = true;
    line->name = rq->name; // copied before this returns
    line->lease = rq->lease;
    line->turn = locked;
    kl_etcd_line_start(line, c, l);
}

struct unlock_call {
    struct kl_grpc_rpc *rpc; // a reference
    struct kl_etcd_loop *l;
    struct kl_txn txn;
    struct kl_op op;
    struct kl_etcd_waiting waiting;
};

static void unlocked(struct kl_txn *txn)
{
    struct unlock_call *call = KL_CONTAINER_OF(txn, struct unlock_call, txn);
    kl_etcd_waiting_end(&call->waiting);
    if (txn->code) {
        kl_etcd_line_fail(call->rpc, txn->code, &txn->err);
    } else {
        struct kl_etcd_response_header h = kl_etcd_header(call->l->etcd, txn->rev);
        kl_etcd_reply(call->rpc, &kl_etcd_unlock_response_desc,
                      &(struct kl_etcd_unlock_response){.header = &h});
    }
    kl_txn_fini(txn);
    kl_grpc_rpc_unref(call->rpc);
}

// Whatever key it is: etcd looks no closer.
static void unlock(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_error err = {0};
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    const struct kl_etcd_unlock_request *rq =
        l ? kl_etcd_decode(c, &kl_etcd_unlock_request_desc, msg) : NULL;
    if (!rq)
        return;
    if (!rq->key.n) {
        kl_etcd_fail_grpc(c, KL_GRPC_UNKNOWN, "etcdserver: key is not provided");
        return;
    }
    struct unlock_call *call = KL_ARENA_NEW(kl_grpc_rpc_arena(c), struct unlock_call);
    int rc = KL_ENOMEM;
    if (call) {
        call->rpc = kl_grpc_rpc_ref(c);
        call->l = l;
        call->op.kind = KL_OP_DELETE;
        call->op.key = kl_arena_dup(kl_grpc_rpc_arena(c), rq->key);
        call->txn = (struct kl_txn){.body = {.then = &call->op, .nthen = 1}, .cb = unlocked};
        if (call->op.key.p && !(rc = kl_store_submit(l->etcd->store, &call->txn, &err))) {
            kl_etcd_waiting_begin(l, &call->waiting, c);
            return;
        }
        kl_grpc_rpc_unref(c);
    }
    kl_etcd_line_fail(c, rc, &err);
}

const struct kl_grpc_method kl_etcd_lock_methods[] = {
    {.path = "/v3lockpb.Lock/Lock", .message = lock, .close = kl_etcd_line_closed},
    {.path = "/v3lockpb.Lock/Unlock", .message = unlock},
    {.path = NULL},
};
