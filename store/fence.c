// SPDX-License-Identifier: Apache-2.0
// A fence holds every write off while the store is copied for the last time. What was accepted
// before it is durable when the fence answers; what comes later is refused at evaluation, leases
// and their expiry included, so that the revision stands still.
#include "store/store_int.h"
#include "store/view_int.h"

static void run_cb(struct kl_task *t)
{
    struct kl_fence_req *f = KL_CONTAINER_OF(t, struct kl_fence_req, task);
    f->cb(f);
}

static void answer(struct kl_store *s, struct kl_fence_req *f, int code)
{
    f->rev = s->view->rev;
    f->code = code ? kl_error_set(&f->err, code, "the store is stopping") : 0;
    f->task.run = run_cb;
    kl_loop_post(f->loop, &f->task);
}

bool kl_store_fenced(const struct kl_store *s)
{
    return s->o.read_only || s->fence_until_ms > kl_store_mono_ms(s);
}

int64_t kl_fence_next_ms(const struct kl_store *s)
{
    return s->o.read_only ? INT64_MAX : s->fence_until_ms;
}

void kl_fence_check(struct kl_store *s)
{
    if (!s->fences || (!s->stopping && (s->inflight || (s->fill && s->fill->nrows))))
        return;
    struct kl_fence_req *f = s->fences;
    s->fences = NULL;
    for (struct kl_fence_req *next; f; f = next) {
        next = f->next;
        answer(s, f, s->stopping ? KL_ECANCELED : 0);
    }
}

bool kl_fence_refuses(struct kl_store *s, struct kl_txn *txn)
{
    if (!kl_store_fenced(s) || (txn->internal == KL_WORK_TXN && !kl_txn_writes(&txn->body)))
        return false;
    txn->code = kl_error_set(&txn->err, KL_EUNAVAILABLE,
                             s->o.read_only ? "the datastore is open for reading only"
                                            : "the datastore is being moved to another one: no "
                                              "writes until that has ended");
    return true;
}

static void run_fence(struct kl_task *t)
{
    struct kl_fence_req *f = KL_CONTAINER_OF(t, struct kl_fence_req, task);
    struct kl_store *s = f->store;
    s->fence_until_ms = f->ms ? kl_store_mono_ms(s) + f->ms : 0;
    f->next = s->fences;
    s->fences = f;
    kl_fence_check(s);
    kl_store_arm_timer(s);
    kl_commit_pump(s);
}

int kl_store_fence(struct kl_store *s, struct kl_fence_req *f, struct kl_error *err)
{
    if (atomic_load_explicit(&s->refuse, memory_order_acquire))
        return kl_error_set(err, KL_EUNAVAILABLE, "the store is stopping");
    if (!f->loop)
        f->loop = kl_loop_current();
    f->store = s;
    f->task.run = run_fence;
    kl_loop_post(s->loop, &f->task);
    return 0;
}
