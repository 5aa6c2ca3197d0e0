// SPDX-License-Identifier: Apache-2.0
// An outside batch of many rows, or whose transactions read many keys: its index, results and
// events are made in turns, while its back end offers it again and again; then it is published at
// once. Nothing is evaluated meanwhile, for it would stand on a state that is gone.
#include "store/big.h"
#include "store/view_int.h"
#include <stdlib.h>

// What hangs on the state that it was begun on, or on transactions that may be gone.
void kl_outside_undone(struct kl_batch *b)
{
    kl_big_free(b);
    for (size_t i = 0; i < b->nrows; i++) {
        b->rows[i].op = NULL;
        kl_kv_unref(b->rows[i].prev);
        b->rows[i].prev = NULL;
    }
}

static int begin(struct kl_store *s, struct kl_batch *b)
{
    struct kl_big *g = b->big = calloc(1, sizeof(*g));
    if (!g)
        return KL_ENOMEM;
    g->view = kl_view_ref(s->view);
    s->replay_again = false;
    return 0;
}

int kl_outside_prepare(struct kl_store *s, struct kl_batch *b)
{
    if (!s->taking) {
        s->taking = true;
        kl_commit_moved(s); // soon
    }
    if (b->big && (b->big->view != s->view || s->replay_again))
        kl_outside_undone(b);
    int r = b->big ? 0 : begin(s, b);
    if (!r) {
        b->big->replay.sliced = !b->at_once;
        b->big->replay.at_once = b->at_once;
        r = kl_replay_batch(s, b, &b->big->replay);
    }
    if (!r)
        r = kl_big_prepare(s, b);
    if (r == KL_ENOMEM)
        kl_outside_undone(b);
    return r;
}
