// SPDX-License-Identifier: Apache-2.0
// What etcd refuses before it asks the store (server/etcdserver/api/v3rpc/key.go).
#include "store/etcd/kv_int.h"

const char *kl_etcd_check_put(const struct kl_etcd_put_request *rq)
{
    if (!rq->key.n)
        return "etcdserver: key is not provided";
    if (rq->ignore_value && rq->value.n)
        return "etcdserver: value is provided";
    if (rq->ignore_lease && rq->lease)
        return "etcdserver: lease is provided";
    return NULL;
}

const char *kl_etcd_check_delete(const struct kl_etcd_delete_range_request *rq)
{
    return rq->key.n ? NULL : "etcdserver: key is not provided";
}

static const char *check_op(const struct kl_etcd_request_op *op, uint32_t max_ops)
{
    if (op->request_range)
        return kl_etcd_check_range(op->request_range);
    if (op->request_put)
        return kl_etcd_check_put(op->request_put);
    if (op->request_delete_range)
        return kl_etcd_check_delete(op->request_delete_range);
    if (op->request_txn)
        return kl_etcd_check_txn(op->request_txn, max_ops);
    return "etcdserver: key not found";
}

const char *kl_etcd_check_txn(const struct kl_etcd_txn_request *rq, uint32_t max_ops)
{
    size_t n = rq->n_compare;
    n = n < rq->n_success ? rq->n_success : n;
    n = n < rq->n_failure ? rq->n_failure : n;
    if (n > max_ops)
        return "etcdserver: too many operations in txn request";
    const char *wrong = NULL;
    for (size_t i = 0; i < rq->n_compare; i++)
        if (!rq->compare[i].key.n)
            return "etcdserver: key is not provided";
    for (size_t i = 0; i < rq->n_success && !wrong; i++)
        wrong = check_op(&rq->success[i], max_ops - (uint32_t)n);
    for (size_t i = 0; i < rq->n_failure && !wrong; i++)
        wrong = check_op(&rq->failure[i], max_ops - (uint32_t)n);
    return wrong;
}
