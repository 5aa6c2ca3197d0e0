// SPDX-License-Identifier: Apache-2.0
// The index of current keys: a copy-on-write B+tree of counted nodes. A root is a state for ever;
// a writer owns the nodes that it made since it last sealed and changes those in place.
#pragma once
#include "store/kv.h"

enum { KL_NODE_MAX = 32 };

struct kl_node {
    atomic_uint refs;
    uint16_t n;
    bool leaf;
    uint64_t gen;          // the writer's session that may change it in place
    int64_t count;         // keys below
    struct kl_bytes *low;  // no key below is smaller; not looked at in a first child
    void *at[KL_NODE_MAX]; // leaf: struct kl_kv *; inner: struct kl_node *
};

struct kl_index {
    struct kl_node *root; // NULL: empty
    uint64_t gen;
};

struct kl_node *kl_node_ref(struct kl_node *n); // NULL in, NULL out
void kl_node_unref(struct kl_node *n);

struct kl_kv *kl_node_get(const struct kl_node *root, struct kl_str key);
int64_t kl_node_rank(const struct kl_node *root, struct kl_str key); // keys before `key`
void kl_node_range(const struct kl_node *root, struct kl_str key, struct kl_str end,
                   int64_t *ret_first, int64_t *ret_count);

struct kl_iter;
void kl_iter_init_node(struct kl_iter *it, const struct kl_node *root, struct kl_str key,
                       struct kl_str end);

// The same from the `first` key of all on, `left` of them.
void kl_iter_init_rank(struct kl_iter *it, const struct kl_node *root, int64_t first, int64_t left);
// Takes a tree apart in steps: path begins with its root (a reference) and depth 1, and it is gone
// with depth 0. What others have stays whole. About `budget` versions and nodes a call; how many.
size_t kl_node_undo(struct kl_node *path[], int *depth, size_t budget);

// Inserts or replaces; takes its own reference. KL_ENOMEM leaves a valid tree, with or without kv's
// place split; throw the session away.
int kl_index_put(struct kl_index *x, struct kl_kv *kv);
int kl_index_del(struct kl_index *x, struct kl_str key, bool *ret_found);
