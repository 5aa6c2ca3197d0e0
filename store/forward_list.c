// SPDX-License-Identifier: Apache-2.0
// Which list each transaction stands in, and which are ours by their count (store/forward.h).
#include "store/forward_int.h"
#include <assert.h>
#include <stdlib.h>

enum { MINE_MIN = 256, MINE_MAX = 4 * KL_FORWARD_WINDOW };

void kl_forward_leave(struct kl_forward *f, struct kl_txn *t)
{
    if (t->where == KL_FORWARD_NONE)
        return;
    struct kl_forward_list *l = &f->lists[t->where];
    *t->pprev = t->next;
    if (t->next)
        t->next->pprev = t->pprev;
    else
        l->end = t->pprev;
    f->nsent -= t->where == KL_FORWARD_SENT;
    t->where = KL_FORWARD_NONE;
    t->next = NULL;
}

void kl_forward_enter(struct kl_forward *f, struct kl_txn *t, enum kl_forward_where where)
{
    kl_forward_leave(f, t);
    struct kl_forward_list *l = &f->lists[where];
    t->where = (uint8_t)where;
    t->next = NULL;
    t->pprev = l->end;
    *l->end = t;
    l->end = &t->next;
    f->nsent += where == KL_FORWARD_SENT;
}

void kl_forward_move_all(struct kl_forward *f, enum kl_forward_where from, enum kl_forward_where to)
{
    while (f->lists[from].first)
        kl_forward_enter(f, f->lists[from].first, to);
}

// ---- ours by seq ----

static struct kl_txn **mine_slot(const struct kl_forward *f, uint64_t seq)
{
    return &f->mine[seq & (f->cap_mine - 1)];
}

static int grow_mine(struct kl_forward *f)
{
    size_t cap = f->cap_mine ? f->cap_mine * 2 : MINE_MIN;
    struct kl_txn **mine = calloc(cap, sizeof(struct kl_txn *)), **old = f->mine;
    if (!mine)
        return KL_ENOMEM;
    size_t n = f->cap_mine;
    f->mine = mine;
    f->cap_mine = cap;
    for (size_t i = 0; i < n; i++) {
        if (old[i])
            *mine_slot(f, old[i]->seq) = old[i];
    }
    free(old);
    return 0;
}

// A count of its own for t; the few that stay long are gone around.
int kl_forward_number(struct kl_forward *f, struct kl_txn *t)
{
    if (t->seq)
        return 0;
    if ((f->nmine + 1) * 2 > f->cap_mine && f->cap_mine < MINE_MAX && grow_mine(f))
        return KL_ENOMEM;
    for (size_t i = 0; i < f->cap_mine; i++) {
        uint64_t seq = ++f->seq;
        if (*mine_slot(f, seq))
            continue;
        *mine_slot(f, seq) = t;
        f->nmine++;
        t->seq = seq;
        t->server = f->id;
        return 0;
    }
    return KL_ETOOMANY;
}

void kl_forward_forget(struct kl_store *s, struct kl_txn *t)
{
    struct kl_forward *f = s->forward;
    if (t->replayed)
        s->replay_again = true;
    t->replayed = false;
    if (!f || t->server != f->id || !t->seq)
        return;
    assert(*mine_slot(f, t->seq) == t);
    *mine_slot(f, t->seq) = NULL;
    f->nmine--;
    t->server = t->seq = 0;
}

struct kl_txn *kl_forward_mine(const struct kl_forward *f, uint64_t seq)
{
    struct kl_txn *t = f->cap_mine ? *mine_slot(f, seq) : NULL;
    return t && t->seq == seq ? t : NULL;
}

struct kl_txn *kl_forward_find(struct kl_store *s, const struct kl_forwarded *e)
{
    struct kl_forward *f = s->forward;
    struct kl_txn *t = f && e->server == f->id ? kl_forward_mine(f, e->seq) : NULL;
    return t && !t->matched ? t : NULL;
}
