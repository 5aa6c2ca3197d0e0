// SPDX-License-Identifier: Apache-2.0
// Transactions come in, wait and are answered.
#include "store/forward.h"
#include "store/store_int.h"
#include <assert.h>

// ---- queues of transactions ----

void kl_queue_init(struct kl_queue *q)
{
    q->first = NULL;
    q->end = &q->first;
    q->n = 0;
}

void kl_queue_push(struct kl_queue *q, struct kl_txn *t)
{
    t->next = NULL;
    *q->end = t;
    q->end = &t->next;
    q->n++;
}

void kl_queue_push_front(struct kl_queue *q, struct kl_txn *t)
{
    t->next = q->first;
    if (!q->first)
        q->end = &t->next;
    q->first = t;
    q->n++;
}

struct kl_txn *kl_queue_pop(struct kl_queue *q)
{
    struct kl_txn *t = q->first;
    if (!t)
        return NULL;
    q->first = t->next;
    if (!q->first)
        q->end = &q->first;
    q->n--;
    return t;
}

void kl_queue_prepend(struct kl_queue *q, struct kl_txn *list)
{
    struct kl_queue front;
    kl_queue_init(&front);
    while (list) {
        struct kl_txn *next = list->next;
        if (!list->matched)
            kl_txn_reset(list);
        kl_queue_push(&front, list);
        list = next;
    }
    for (struct kl_txn *t; (t = kl_queue_pop(q));)
        kl_queue_push(&front, t);
    kl_queue_init(q);
    if (front.first) {
        *q = front;
        if (front.end == &front.first)
            q->end = &q->first;
    }
}

// ---- submitting and answering ----

static void run_cb(struct kl_task *t)
{
    struct kl_txn *txn = KL_CONTAINER_OF(t, struct kl_txn, task);
    txn->cb(txn);
}

void kl_commit_answer(struct kl_store *s, struct kl_txn *txn)
{
    struct kl_loop *loop = txn->loop;
    kl_forward_forget(s, txn);
    atomic_fetch_sub_explicit(&s->queued, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&s->queued_bytes, txn->bytes, memory_order_relaxed);
    txn->task.run = run_cb;
    kl_loop_post(loop, &txn->task);
}

void kl_commit_refuse(struct kl_store *s, struct kl_txn *txn, int code, const char *text)
{
    if (!txn->matched) {
        kl_txn_reset(txn);
        txn->code = kl_error_set(&txn->err, code, "%s", text);
    }
    kl_commit_answer(s, txn);
}

static void run_arrived(struct kl_task *t)
{
    struct kl_txn *txn = KL_CONTAINER_OF(t, struct kl_txn, task);
    kl_commit_enqueue(txn->store, txn);
}

void kl_commit_enqueue(struct kl_store *s, struct kl_txn *txn)
{
    if (s->stopping) {
        kl_commit_refuse(s, txn, KL_ECANCELED, "the store is stopping");
        return;
    }
    kl_queue_push(&s->queue, txn);
    kl_commit_pump(s);
}

// Any thread. Room in the queue, given back by kl_commit_answer.
int kl_commit_admit(struct kl_store *s, struct kl_txn *txn, size_t bytes, struct kl_error *err)
{
    long long n = atomic_fetch_add_explicit(&s->queued, 1, memory_order_relaxed);
    long long sum =
        atomic_fetch_add_explicit(&s->queued_bytes, (long long)bytes, memory_order_relaxed);
    if (n < (long long)s->o.max_queue && sum <= KL_QUEUE_MAX_BYTES) {
        txn->bytes = (uint32_t)bytes;
        return 0;
    }
    atomic_fetch_sub_explicit(&s->queued, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&s->queued_bytes, (long long)bytes, memory_order_relaxed);
    return kl_error_set(err, KL_ETOOMANY, "etcdserver: too many requests");
}

int kl_store_submit(struct kl_store *s, struct kl_txn *txn, struct kl_error *err)
{
    size_t bytes;
    int r = kl_txn_check(txn, &s->keys, &bytes, err);
    if (r)
        return r;
    if (atomic_load_explicit(&s->refuse, memory_order_acquire))
        return kl_error_set(err, KL_EUNAVAILABLE, "the store is stopping");
    r = kl_commit_admit(s, txn, bytes, err);
    if (r)
        return r;
    if (!txn->loop)
        txn->loop = kl_loop_current();
    assert(txn->loop);
    txn->store = s;
    txn->internal = KL_WORK_TXN;
    kl_forward_clear(txn);
    txn->task.run = run_arrived;
    kl_loop_post(s->loop, &txn->task);
    return 0;
}
