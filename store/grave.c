// SPDX-License-Identifier: Apache-2.0
// Freeing in slices: the rows of a big batch, the chunks that fell out of the ring, and what of the
// state before the batch nobody else has. That state's view is kept until every reader has let go
// of it, so that none of their loops frees it.
#include "store/big.h"
#include "store/store_int.h"
#include "store/view_int.h"
#include <stdlib.h>

enum { RETRY_MS = 50 };

static void post(struct kl_store *s)
{
    struct kl_grave *g = &s->grave;
    if (g->posted || !g->started)
        return;
    g->posted = true;
    kl_loop_post(s->loop, &g->task);
}

// The keys of deletions leave the lists of their leases.
static size_t free_rows(struct kl_store *s, struct kl_batch *b, size_t most)
{
    struct kl_big *big = b->big;
    size_t n = b->nrows - big->at;
    n = n < most ? n : most;
    for (size_t end = big->at + n; big->at < end; big->at++) {
        struct kl_row *row = &b->rows[big->at];
        if (big->settle && row->kv->deleted)
            kl_lease_row_applied(s, row);
        kl_kv_unref(row->kv);
        kl_kv_unref(row->prev);
        row->kv = row->prev = NULL;
    }
    if (big->at == b->nrows && big->settle) {
        big->settle = false;
        s->leases.unsettled--;
        kl_commit_pump(s);
    }
    return n;
}

static bool is_held(const struct kl_view *v)
{
    return v && atomic_load_explicit(&v->refs, memory_order_acquire) > 1;
}

// The front one's view, whose only reference is ours. How much was done; 0: nothing is left.
static size_t free_view(struct kl_grave *g, struct kl_big *big, size_t most)
{
    struct kl_view *v = big->view;
    if (!v)
        return 0;
    size_t n = 0;
    while (v->ring && n < most) {
        bool ours = atomic_load_explicit(&v->ring->refs, memory_order_acquire) == 1;
        size_t k = ours ? kl_ring_drop_last(v->ring) : 0;
        n += k + 1;
        if (!k) {
            kl_ring_unref(v->ring);
            v->ring = NULL;
        }
    }
    if (!v->ring && v->root) {
        g->path[0] = v->root;
        g->depth = 1;
        v->root = NULL;
    }
    if (n < most && g->depth)
        n += kl_node_undo(g->path, &g->depth, most - n);
    if (!v->ring && !g->depth) {
        kl_view_unref(v);
        big->view = NULL;
    }
    return n ? n : 1;
}

static void pop_first(struct kl_grave *g)
{
    struct kl_batch *b = g->first;
    g->first = b->next;
    if (!g->first)
        g->end = &g->first;
}

static size_t free_some(struct kl_store *s, size_t most)
{
    struct kl_grave *g = &s->grave;
    struct kl_batch *b = g->first;
    size_t n = kl_ring_bury_one(&s->room);
    if (n || !b)
        return n;
    if (b->big->at < b->nrows)
        return free_rows(s, b, most);
    if (!g->depth && is_held(b->big->view)) {
        pop_first(g);
        b->next = g->held;
        g->held = b;
        return 1;
    }
    n = free_view(g, b->big, most);
    if (!n) {
        pop_first(g);
        b->nrows = 0;
        kl_batch_free(b);
    }
    return n ? n : 1;
}

static void retry_held(uv_timer_t *t)
{
    struct kl_store *s = t->data;
    struct kl_grave *g = &s->grave;
    while (g->held) {
        struct kl_batch *b = g->held;
        g->held = b->next;
        b->next = NULL;
        *g->end = b;
        g->end = &b->next;
    }
    post(s);
}

static void run_grave(struct kl_task *t)
{
    struct kl_store *s = KL_CONTAINER_OF(t, struct kl_store, grave.task);
    struct kl_grave *g = &s->grave;
    g->posted = false;
    if (!g->started)
        return;
    size_t left, n = 1;
    while (n && (left = kl_turn_left(s))) {
        n = free_some(s, left);
        kl_turn_take(s, n);
    }
    if (g->first || s->room.dead)
        post(s);
    else if (g->held)
        uv_timer_start(&g->timer, retry_held, RETRY_MS, 0);
}

void kl_grave_start(struct kl_store *s)
{
    struct kl_grave *g = &s->grave;
    g->end = &g->first;
    g->task.run = run_grave;
    g->started = true;
    uv_timer_init(kl_loop_uv(s->loop), &g->timer);
    g->timer.data = s;
}

// There are no turns any more: kl_grave_fini frees what is left.
void kl_grave_stop(struct kl_store *s)
{
    s->grave.started = false;
    uv_timer_stop(&s->grave.timer);
}

void kl_grave_run(struct kl_store *s)
{
    if (s->room.dead)
        post(s);
}

void kl_grave_batch(struct kl_store *s, struct kl_batch *b)
{
    if (!b || (!b->big && (!kl_batch_is_big(b) || !(b->big = calloc(1, sizeof(*b->big)))))) {
        kl_batch_free(b);
        return;
    }
    b->big->settle &= b->big->published;
    // What else hangs on it is little.
    kl_ring_built_fini(&b->big->built);
    kl_node_unref(b->root);
    b->root = NULL;
    b->big->at = 0;
    b->next = NULL;
    *s->grave.end = b;
    s->grave.end = &b->next;
    post(s);
}

// What was loaded again has lists of its own.
void kl_grave_unsettle(struct kl_store *s)
{
    struct kl_batch *lists[] = {s->grave.first, s->grave.held};
    for (size_t i = 0; i < KL_COUNT(lists); i++) {
        for (struct kl_batch *b = lists[i]; b; b = b->next)
            b->big->settle = false;
    }
    s->leases.unsettled = 0;
}

void kl_grave_fini(struct kl_store *s)
{
    struct kl_grave *g = &s->grave;
    while (g->depth)
        kl_node_undo(g->path, &g->depth, SIZE_MAX);
    struct kl_batch *lists[] = {g->first, g->held};
    for (size_t i = 0; i < KL_COUNT(lists); i++) {
        for (struct kl_batch *b = lists[i], *next; b; b = next) {
            next = b->next;
            kl_batch_free(b);
        }
    }
    g->first = g->held = NULL;
}
