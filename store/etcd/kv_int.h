// SPDX-License-Identifier: Apache-2.0
// Between the files of the KV service: range.c, txn.c (requests), txn_answer.c, txn_check.c.
#pragma once
#include "store/etcd/etcd_int.h"

void kl_etcd_range(struct kl_grpc_rpc *c, struct kl_str msg);

// One operation of a transaction: what was asked, what came.
struct kl_etcd_op {
    const struct kl_etcd_request_op *rq;
    struct kl_etcd_txn_body *txn; // a nested one
    struct kl_etcd_read *read;    // a range at an old revision
    bool more;                    // of a range
    size_t size;                  // of the encoded response, without tag and length
};
struct kl_etcd_txn_body {
    struct kl_txn_body *body; // then[i] belongs to .then[i], els[i] to .els[i]
    struct kl_etcd_op *then, *els;
    size_t size;
};

// What etcd says against a request, or NULL.
const char *kl_etcd_check_range(const struct kl_etcd_range_request *rq);
const char *kl_etcd_check_put(const struct kl_etcd_put_request *rq);
const char *kl_etcd_check_delete(const struct kl_etcd_delete_range_request *rq);
const char *kl_etcd_check_txn(const struct kl_etcd_txn_request *rq, uint32_t max_ops);

// The datastore has no room for `cost` bytes more within the quota: raises NOSPACE, finishes the
// call and returns true. The cost of nothing but reads and deletions is 0.
bool kl_etcd_is_over_quota(struct kl_grpc_rpc *c, size_t cost);
enum { KL_ETCD_KV_COST = 256, KL_ETCD_LEASE_COST = 64 }; // beside key and value
// An alarm stands: finishes the call and returns true.
bool kl_etcd_is_corrupt(struct kl_grpc_rpc *c);
bool kl_etcd_is_capped(struct kl_grpc_rpc *c);

// TxnResponse and the responses of the two operations that are transactions of one operation.
void kl_etcd_answer_txn(struct kl_grpc_rpc *c, struct kl_etcd_txn_body *b,
                        const struct kl_txn *txn);
void kl_etcd_answer_put(struct kl_grpc_rpc *c, const struct kl_op *op, bool prev_kv, kl_rev rev);
void kl_etcd_answer_delete(struct kl_grpc_rpc *c, const struct kl_op *op, bool prev_kv, kl_rev rev);
