// SPDX-License-Identifier: Apache-2.0
// Turns of the core's loop: how much of what many rows take is done in one, and the batch of many
// rows that is made ready in several.
#include "store/big.h"
#include "store/store_int.h"
#include "store/view_int.h"
#include <stdlib.h>

// ---- turns ----

static void end_turn(uv_prepare_t *p)
{
    struct kl_store *s = p->data;
    if (s->turn_rows)
        kl_store_note_turn(s, s->turn_rows);
    s->turn_rows = 0;
}

void kl_turn_start(struct kl_store *s)
{
    uv_prepare_init(kl_loop_uv(s->loop), &s->turn);
    s->turn.data = s;
    uv_prepare_start(&s->turn, end_turn);
}

void kl_store_note_turn(struct kl_store *s, size_t n)
{
    long long most = atomic_load_explicit(&s->stat.longest_turn, memory_order_relaxed);
    while ((long long)n > most &&
           !atomic_compare_exchange_weak_explicit(&s->stat.longest_turn, &most, (long long)n,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

size_t kl_turn_left(const struct kl_store *s)
{
    return s->turn_rows < KL_TURN_ROWS ? KL_TURN_ROWS - s->turn_rows : 0;
}

void kl_turn_take(struct kl_store *s, size_t rows)
{
    s->turn_rows += rows;
}

static void run_slice(struct kl_task *t)
{
    struct kl_store *s = KL_CONTAINER_OF(t, struct kl_store, slice.task);
    s->slice.posted = false;
    kl_commit_pump(s);
}

void kl_slice_post(struct kl_store *s)
{
    if (s->slice.posted)
        return;
    s->slice.posted = true;
    s->slice.task.run = run_slice;
    kl_loop_post(s->loop, &s->slice.task);
}

// ---- a batch of many rows ----

bool kl_batch_is_big(const struct kl_batch *b)
{
    return b->nrows > KL_BIG_ROWS;
}

void kl_big_free(struct kl_batch *b)
{
    struct kl_big *g = b->big;
    if (!g)
        return;
    kl_ring_built_fini(&g->built);
    kl_view_unref(g->view);
    kl_node_unref(g->replay.x.root);
    free(g->marked);
    free(g);
    b->big = NULL;
}

static int mark_row(struct kl_big *g, size_t i)
{
    if (g->nmarked == g->cap_marked) {
        size_t cap = g->cap_marked ? g->cap_marked * 2 : 64;
        uint32_t *p = realloc(g->marked, cap * sizeof(*p));
        if (!p)
            return KL_ENOMEM;
        g->marked = p;
        g->cap_marked = cap;
    }
    g->marked[g->nmarked++] = (uint32_t)i;
    return 0;
}

static bool is_marked(const struct kl_row *row)
{
    if (row->kv->lease || (row->prev && row->prev->lease) || kl_fence_is(row->kv))
        return true;
    for (int k = 0; row->op && k < KL_KV_ATTACH; k++) {
        if (row->op->attach[k])
            return true;
    }
    return false;
}

static int prepare_row(struct kl_big *g, const struct kl_batch *b, size_t i, size_t skip)
{
    const struct kl_row *row = &b->rows[i];
    struct kl_event ev = {row->kv, row->prev};
    g->held += (int64_t)kl_event_held(&ev);
    if (i + 1 == skip)
        g->built.skipped = row->kv;
    if (i >= skip && kl_ring_build(&g->built, &ev))
        return KL_ENOMEM;
    if (row->kv->deleted)
        g->settle |= row->prev && row->prev->lease;
    else if (is_marked(row))
        return mark_row(g, i);
    return 0;
}

int kl_big_prepare(struct kl_store *s, struct kl_batch *b)
{
    if (!b->big && !(b->big = calloc(1, sizeof(*b->big))))
        return KL_ENOMEM;
    struct kl_big *g = b->big;
    size_t room = kl_ring_capacity(&s->room), skip = b->nrows > room ? b->nrows - room : 0;
    size_t n = b->nrows - g->at, left = b->at_once ? n : kl_turn_left(s);
    n = n < left ? n : left;
    kl_turn_take(s, n);
    for (size_t end = g->at + n; g->at < end; g->at++) {
        if (prepare_row(g, b, g->at, skip))
            return KL_ENOMEM;
    }
    if (g->at < b->nrows)
        return KL_EAGAIN;
    g->at = 0;
    return 0;
}
