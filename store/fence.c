// SPDX-License-Identifier: Apache-2.0
// A fence holds every write off: while the store is copied for the last time, and after it was
// moved. It is the key KL_FENCE_KEY, which every evaluator looks for: whoever evaluates on a state
// with it refuses, and what was evaluated on a state without it cannot be stored behind it, on
// whatever server, as each batch is stored only on the state that it was evaluated on. With a lease
// it ends by itself. Leases stand still with it, but its own.
#include "store/store_int.h"
#include "store/view_int.h"
#include "base/log.h"

enum { REASON_MAX = 400 };

// For "%.*s".
#define REASON(kv)                                                                                 \
    (int)(kl_kv_value(kv).n < REASON_MAX ? kl_kv_value(kv).n : REASON_MAX), kl_kv_value(kv).p

static struct kl_str fence_key(void)
{
    return (struct kl_str){KL_FENCE_KEY, sizeof(KL_FENCE_KEY) - 1};
}

// Looked for only when somebody may have put it.
static struct kl_kv *find_fence(struct kl_store *s)
{
    if (!s->may_be_fenced)
        return NULL;
    struct kl_kv *kv = kl_node_get(s->spec.root, fence_key());
    if (!kv && !kl_node_get(s->view->root, fence_key()))
        s->may_be_fenced = false;
    return kv;
}

bool kl_fence_is(const struct kl_kv *kv)
{
    return kl_str_eq(kl_kv_key(kv), fence_key());
}

void kl_fence_note(struct kl_store *s, const struct kl_kv *kv)
{
    if (kl_fence_is(kv))
        s->may_be_fenced = true;
}

bool kl_store_fenced(struct kl_store *s)
{
    return s->o.read_only || find_fence(s);
}

int64_t kl_fence_lease(struct kl_store *s)
{
    const struct kl_kv *kv = s->o.read_only ? NULL : find_fence(s);
    return kv ? kv->lease : 0;
}

// ---- why ----

void kl_fence_start(struct kl_store *s)
{
    const struct kl_kv *kv = s->o.read_only ? NULL : find_fence(s);
    if (kv)
        kl_log(KL_LOG_WARN, "store", "the datastore takes no writes: %.*s", REASON(kv));
}

int kl_fence_error(struct kl_store *s, struct kl_error *err)
{
    const struct kl_kv *kv = s->o.read_only ? NULL : find_fence(s);
    if (!kv)
        return kl_error_set(err, KL_EUNAVAILABLE, "the datastore is open for reading only");
    return kl_error_set(err, KL_EUNAVAILABLE, "the datastore takes no writes: %.*s", REASON(kv));
}

// ---- who may pass ----

// Whether some side of it might write anything but the fence.
static bool writes_others(const struct kl_txn_body *body)
{
    for (size_t i = 0; i < body->nthen + body->nels; i++) {
        const struct kl_op *op = i < body->nthen ? &body->then[i] : &body->els[i - body->nthen];
        if (op->kind == KL_OP_GET)
            continue;
        if (op->kind == KL_OP_TXN ? writes_others(op->txn)
                                  : op->end.n || !kl_str_eq(op->key, fence_key()))
            return true;
    }
    return false;
}

bool kl_fence_refuses(struct kl_store *s, struct kl_txn *txn)
{
    if (!kl_store_fenced(s))
        return false;
    if (txn->internal == KL_WORK_TXN) {
        if (s->o.read_only ? !kl_txn_writes(&txn->body) : !writes_others(&txn->body))
            return false;
    } else if (!s->o.read_only && kl_lease_passes_fence(txn, kl_fence_lease(s))) {
        return false;
    }
    txn->code = kl_fence_error(s, &txn->err);
    return true;
}
