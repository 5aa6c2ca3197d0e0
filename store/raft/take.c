// SPDX-License-Identifier: Apache-2.0
// An entry of very many rows is taken by the core in turns of its loop (store/outside.c). libraft
// hands up what is committed and cannot wait: the entries behind it are kept here until it is
// whole, and what is asked about the log counts them as not applied.
#include "store/raft/raft_int.h"
#include <stdlib.h>

enum { LATER_BYTES = 8 << 20 }; // more of them: the rest is taken in one turn

struct kl_raft_later {
    struct kl_raft_later *next;
    uint64_t index, term;
    size_t n;
    char entry[];
};

bool kl_raft_take_busy(const struct kl_raft *r)
{
    return r->untaken || r->later;
}

uint64_t kl_raft_take_last(const struct kl_raft *r)
{
    return r->later ? r->later_index : r->untaken ? r->untaken_index : r->applied;
}

static void pop_later(struct kl_raft *r)
{
    struct kl_raft_later *l = r->later;
    r->later = l->next;
    r->later_bytes -= l->n;
    free(l);
}

static int offer(struct kl_raft *r)
{
    struct kl_batch *b = r->untaken;
    kl_rev rev = b->last_rev;
    b->at_once = r->later_bytes > LATER_BYTES;
    int e = kl_core_applied(r->core, b);
    if (e)
        return e;
    r->untaken = NULL;
    r->rev = rev;
    r->applied = r->untaken_index;
    r->applied_term = r->untaken_term;
    return 0;
}

static void post(struct kl_raft *r);

static void go_on(struct kl_raft *r)
{
    int e = 0;
    while (!e && kl_raft_take_busy(r)) {
        struct kl_raft_later *l = r->later;
        if (r->untaken) {
            e = offer(r);
            continue;
        }
        e = kl_raft_fsm_one(r, l->index, l->term, l->entry, l->n);
        if (e != KL_ENOMEM)
            pop_later(r);
    }
    if (e && e != KL_ENOMEM && e != KL_EAGAIN) { // what is wrong was said: the server ends
        while (r->later)
            pop_later(r);
    }
    if (kl_raft_take_busy(r))
        post(r);
}

static void run_taking(struct kl_task *t)
{
    struct kl_raft *r = KL_CONTAINER_OF(t, struct kl_raft, taking);
    r->taking_posted = false;
    if (r->closing) {
        kl_raft_take_free(r);
        return;
    }
    go_on(r);
    kl_raft_propose_poll(r);
    kl_raft_read_poll(r);
}

static void post(struct kl_raft *r)
{
    if (r->taking_posted)
        return;
    r->taking_posted = true;
    r->taking.run = run_taking;
    kl_loop_post(kl_core_loop(r->core), &r->taking);
}

int kl_raft_take(struct kl_raft *r, struct kl_batch *b, uint64_t index, uint64_t term)
{
    r->untaken = b;
    r->untaken_index = index;
    r->untaken_term = term;
    int e = offer(r);
    if (e != KL_EAGAIN)
        return e;
    post(r);
    return 0;
}

int kl_raft_take_later(struct kl_raft *r, uint64_t index, uint64_t term, const void *p, size_t n)
{
    if (r->untaken && r->untaken_index == index && !r->later)
        return kl_raft_take(r, r->untaken, index, term);
    if (index <= kl_raft_take_last(r))
        return 0; // libraft was started anew
    struct kl_raft_later *l = malloc(sizeof(*l) + n);
    if (!l)
        return KL_ENOMEM;
    *l = (struct kl_raft_later){.index = index, .term = term, .n = n};
    memcpy(l->entry, p, n);
    if (!r->later)
        r->later_end = &r->later;
    *r->later_end = l;
    r->later_end = &l->next;
    r->later_index = index;
    r->later_bytes += n;
    if (r->later_bytes > LATER_BYTES)
        go_on(r);
    else
        post(r);
    return 0;
}

void kl_raft_take_jumped(struct kl_raft *r, uint64_t index)
{
    if (r->untaken && r->untaken_index <= index) {
        kl_batch_free(r->untaken);
        r->untaken = NULL;
    }
    while (r->later && r->later->index <= index)
        pop_later(r);
}

void kl_raft_take_free(struct kl_raft *r)
{
    if (r->taking_posted) // it comes here again
        return;
    kl_raft_take_jumped(r, UINT64_MAX);
    free(r);
}
