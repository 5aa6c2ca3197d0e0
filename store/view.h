// SPDX-License-Identifier: Apache-2.0
// The state at one revision, immutable, and the per-loop reader that always has the newest one.
// Nothing here takes a lock, runs SQL or fails.
#pragma once
#include "store/kv.h"
#include "base/loop.h"

struct kl_store;
struct kl_view;
struct kl_reader;
struct kl_node;

// One per loop and store, made and closed on that loop. A write acknowledged to a client of any
// loop is in every view that a reader returns afterwards.
int kl_reader_new(struct kl_store *s, struct kl_reader **ret_r, struct kl_error *err);
void kl_reader_close(struct kl_reader *r); // all its watches were stopped before
// The newest view, borrowed until control returns to the loop; kl_view_ref keeps it longer (which
// keeps every version that is in it: let go in time).
struct kl_view *kl_reader_view(struct kl_reader *r);
struct kl_store *kl_reader_store(struct kl_reader *r);

// Calls cb on the reader's loop as soon as its view has reached rev (at once inside this call when
// it has). Embedded; cancel is allowed at any time before cb.
struct kl_reader_wait {
    void (*cb)(struct kl_reader_wait *w);
    kl_rev rev;
    struct kl_reader_wait *next, **pprev; // the reader's
    atomic_int *interested;
};
void kl_reader_wait_rev(struct kl_reader *r, struct kl_reader_wait *w);
void kl_reader_wait_cancel(struct kl_reader_wait *w);

struct kl_view *kl_view_ref(struct kl_view *v); // any thread
void kl_view_unref(struct kl_view *v);
kl_rev kl_view_rev(const struct kl_view *v);
kl_rev kl_view_compact_rev(const struct kl_view *v);

// Borrowed from the view.
struct kl_kv *kl_view_get(const struct kl_view *v, struct kl_str key);
// O(log n).
int64_t kl_view_count(const struct kl_view *v, struct kl_str key, struct kl_str end);

// A walk in key order. On the stack; nothing to free; the view must outlive it. To go on after
// key K, begin at K and a NUL byte.
#define KL_ITER_DEPTH 12
struct kl_iter {
    const struct kl_node *node[KL_ITER_DEPTH];
    uint16_t at[KL_ITER_DEPTH];
    int depth;    // of the leaf
    int64_t left; // keys still to come: known from the start
};
void kl_iter_init(struct kl_iter *it, const struct kl_view *v, struct kl_str key,
                  struct kl_str end);
struct kl_kv *kl_iter_next(struct kl_iter *it); // borrowed from the view; NULL at the end
