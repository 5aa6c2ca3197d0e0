// SPDX-License-Identifier: Apache-2.0
#include "store/index_int.h"
#include "base/err.h"
#include "store/view.h"
#include "store/store_int.h"
#include <stdlib.h>

enum { MERGE_BELOW = KL_NODE_MAX / 4, MERGE_MAX = KL_NODE_MAX * 3 / 4 };

struct kl_node *kl_node_ref(struct kl_node *n)
{
    if (n)
        atomic_fetch_add_explicit(&n->refs, 1, memory_order_relaxed);
    return n;
}

void kl_node_unref(struct kl_node *n)
{
    if (!n || atomic_fetch_sub_explicit(&n->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (int i = 0; i < n->n; i++) {
        if (n->leaf)
            kl_kv_unref(n->at[i]);
        else
            kl_node_unref(n->at[i]);
    }
    kl_bytes_unref(n->low);
    free(n);
}

size_t kl_node_undo(struct kl_node *path[], int *depth, size_t budget)
{
    size_t done = 0;
    while (*depth && done < budget) {
        struct kl_node *n = path[*depth - 1];
        bool ours = atomic_load_explicit(&n->refs, memory_order_acquire) == 1;
        done++;
        if (ours && !n->leaf && n->n) { // with the reference that n had
            path[(*depth)++] = n->at[--n->n];
            continue;
        }
        if (ours && n->leaf)
            done += n->n;
        kl_node_unref(n);
        --*depth;
    }
    return done;
}

static struct kl_str leaf_key(const struct kl_node *n, int i)
{
    return kl_kv_key(n->at[i]);
}

// The first place in a leaf whose key is not below `key`.
static int leaf_pos(const struct kl_node *n, struct kl_str key, bool *ret_equal)
{
    int lo = 0, hi = n->n;
    while (lo < hi) {
        int mid = (lo + hi) / 2, c = kl_str_cmp(leaf_key(n, mid), key);
        if (c == 0) {
            *ret_equal = true;
            return mid;
        }
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *ret_equal = false;
    return lo;
}

// The last child whose lower bound is not above `key`; the first one has none.
static int child_pos(const struct kl_node *n, struct kl_str key)
{
    int lo = 0, hi = n->n - 1;
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        const struct kl_node *c = n->at[mid];
        if (kl_str_cmp(kl_bytes_str(c->low), key) <= 0)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

struct kl_kv *kl_node_get(const struct kl_node *n, struct kl_str key)
{
    if (!n)
        return NULL;
    while (!n->leaf)
        n = n->at[child_pos(n, key)];
    bool equal;
    int i = leaf_pos(n, key, &equal);
    return equal ? n->at[i] : NULL;
}

int64_t kl_node_rank(const struct kl_node *n, struct kl_str key)
{
    int64_t rank = 0;
    if (!n)
        return 0;
    while (!n->leaf) {
        int at = child_pos(n, key);
        for (int i = 0; i < at; i++)
            rank += ((const struct kl_node *)n->at[i])->count;
        n = n->at[at];
    }
    bool equal;
    return rank + leaf_pos(n, key, &equal);
}

void kl_node_range(const struct kl_node *root, struct kl_str key, struct kl_str end,
                   int64_t *ret_first, int64_t *ret_count)
{
    int64_t first = kl_node_rank(root, key), last;
    if (!end.n)
        last = first + (kl_node_get(root, key) != NULL);
    else if (end.n == 1 && end.p[0] == 0)
        last = root ? root->count : 0;
    else
        last = kl_node_rank(root, end);
    *ret_first = first;
    *ret_count = last > first ? last - first : 0;
}

// ---- writing ----

static struct kl_node *new_node(uint64_t gen, bool leaf, struct kl_bytes *low)
{
    struct kl_node *n = malloc(sizeof(*n));
    if (!n)
        return NULL;
    atomic_init(&n->refs, 1);
    n->n = 0;
    n->leaf = leaf;
    n->gen = gen;
    n->count = 0;
    n->low = kl_bytes_ref(low);
    return n;
}

// Makes *slot a node of this session.
static struct kl_node *own_node(struct kl_node **slot, uint64_t gen)
{
    struct kl_node *old = *slot;
    if (old->gen == gen)
        return old;
    struct kl_node *n = new_node(gen, old->leaf, old->low);
    if (!n)
        return NULL;
    n->n = old->n;
    n->count = old->count;
    for (int i = 0; i < old->n; i++) {
        n->at[i] = old->at[i];
        if (n->leaf)
            kl_kv_ref(n->at[i]);
        else
            kl_node_ref(n->at[i]);
    }
    kl_node_unref(old);
    *slot = n;
    return n;
}

static void insert_at(struct kl_node *n, int i, void *p)
{
    memmove(&n->at[i + 1], &n->at[i], (size_t)(n->n - i) * sizeof(n->at[0]));
    n->at[i] = p;
    n->n++;
}

static void remove_at(struct kl_node *n, int i)
{
    n->n--;
    memmove(&n->at[i], &n->at[i + 1], (size_t)(n->n - i) * sizeof(n->at[0]));
}

static void recount(struct kl_node *n)
{
    n->count = n->leaf ? n->n : 0;
    for (int i = 0; !n->leaf && i < n->n; i++)
        n->count += ((struct kl_node *)n->at[i])->count;
}

// Splits a full node of this session so that position `pos` has room. Keys that come in order
// leave full nodes behind.
static int split_node(struct kl_node *n, int pos, struct kl_node **ret_right)
{
    int keep = pos == n->n ? n->n - !n->leaf : n->n / 2;
    struct kl_node *right = new_node(n->gen, n->leaf, NULL);
    if (!right)
        return KL_ENOMEM;
    right->n = (uint16_t)(n->n - keep);
    memcpy(right->at, &n->at[keep], right->n * sizeof(n->at[0]));
    n->n = (uint16_t)keep;
    recount(n);
    recount(right);
    *ret_right = right;
    return 0;
}

static int put_leaf(struct kl_node *n, struct kl_kv *kv, bool *ret_new, struct kl_node **ret_right)
{
    bool equal;
    int i = leaf_pos(n, kl_kv_key(kv), &equal);
    *ret_new = !equal;
    if (equal) {
        struct kl_kv *old = n->at[i];
        n->at[i] = kl_kv_ref(kv);
        kl_kv_unref(old);
        return 0;
    }
    if (n->n == KL_NODE_MAX) {
        struct kl_node *right;
        bool last = i == n->n;
        struct kl_bytes *low = kl_bytes_new(last ? kl_kv_key(kv) : leaf_key(n, n->n / 2));
        if (!low || split_node(n, i, &right)) {
            kl_bytes_unref(low);
            return KL_ENOMEM;
        }
        right->low = low;
        *ret_right = right;
        if (last || i > n->n) {
            i -= n->n;
            n = right;
        }
    }
    insert_at(n, i, kl_kv_ref(kv));
    n->count++;
    return 0;
}

static int put_node(struct kl_node **slot, struct kl_kv *kv, uint64_t gen, bool *ret_new,
                    struct kl_node **ret_right)
{
    struct kl_node *n = own_node(slot, gen);
    if (!n)
        return KL_ENOMEM;
    if (n->leaf)
        return put_leaf(n, kv, ret_new, ret_right);
    struct kl_node *right = NULL;
    int i = child_pos(n, kl_kv_key(kv));
    int r = put_node((struct kl_node **)&n->at[i], kv, gen, ret_new, &right);
    if (r)
        return r;
    if (!right) {
        n->count += *ret_new;
        return 0;
    }
    i++;
    if (n->n == KL_NODE_MAX) {
        struct kl_node *half;
        if (split_node(n, i, &half)) {
            kl_node_unref(right); // the session is lost anyhow
            recount(n);
            return KL_ENOMEM;
        }
        half->low = kl_bytes_ref(((struct kl_node *)half->at[0])->low);
        *ret_right = half;
        if (i > n->n) {
            i -= n->n;
            insert_at(half, i, right);
            recount(half);
            recount(n);
            return 0;
        }
    }
    insert_at(n, i, right);
    recount(n);
    return 0;
}

int kl_index_put(struct kl_index *x, struct kl_kv *kv)
{
    if (!x->root && !(x->root = new_node(x->gen, true, NULL)))
        return KL_ENOMEM;
    struct kl_node *right = NULL;
    bool new;
    int r = put_node(&x->root, kv, x->gen, &new, &right);
    if (r || !right)
        return r;
    struct kl_node *top = new_node(x->gen, false, NULL);
    if (!top) {
        kl_node_unref(right);
        return KL_ENOMEM;
    }
    top->at[0] = x->root;
    top->at[1] = right;
    top->n = 2;
    recount(top);
    x->root = top;
    return 0;
}

// Joins a leaf that became small with its right neighbour. Not doing it is harmless.
static void merge_leaf(struct kl_node *parent, int i, uint64_t gen)
{
    if (i + 1 >= parent->n)
        i--;
    if (i < 0)
        return;
    struct kl_node *l = parent->at[i], *r = parent->at[i + 1];
    if (!l->leaf || !r->leaf || l->n + r->n > MERGE_MAX ||
        !(l = own_node((struct kl_node **)&parent->at[i], gen)))
        return;
    for (int k = 0; k < r->n; k++)
        l->at[l->n++] = kl_kv_ref(r->at[k]);
    l->count = l->n;
    kl_node_unref(r);
    remove_at(parent, i + 1);
}

static int del_node(struct kl_node **slot, struct kl_str key, uint64_t gen)
{
    struct kl_node *n = own_node(slot, gen);
    if (!n)
        return KL_ENOMEM;
    bool equal;
    if (n->leaf) {
        int i = leaf_pos(n, key, &equal);
        kl_kv_unref(n->at[i]);
        remove_at(n, i);
        n->count--;
        return 0;
    }
    int i = child_pos(n, key);
    int r = del_node((struct kl_node **)&n->at[i], key, gen);
    if (r)
        return r;
    n->count--;
    struct kl_node *c = n->at[i];
    if (c->n == 0) {
        kl_node_unref(c);
        remove_at(n, i);
    } else if (c->leaf && c->n < MERGE_BELOW) {
        merge_leaf(n, i, gen);
    }
    return 0;
}

int kl_index_del(struct kl_index *x, struct kl_str key, bool *ret_found)
{
    // Looked up first, as a miss must copy nothing.
    *ret_found = kl_node_get(x->root, key) != NULL;
    if (!*ret_found)
        return 0;
    int r = del_node(&x->root, key, x->gen);
    if (r)
        return r;
    while (x->root && !x->root->leaf && x->root->n == 1) {
        struct kl_node *only = kl_node_ref(x->root->at[0]);
        kl_node_unref(x->root);
        x->root = only;
    }
    if (x->root && x->root->n == 0) {
        kl_node_unref(x->root);
        x->root = NULL;
    }
    return 0;
}

// ---- walking ----

void kl_iter_init_node(struct kl_iter *it, const struct kl_node *root, struct kl_str key,
                       struct kl_str end)
{
    int64_t first;
    kl_node_range(root, key, end, &first, &it->left);
    it->depth = 0;
    const struct kl_node *n = root;
    if (!it->left)
        return;
    for (;; it->depth++) {
        bool equal;
        it->node[it->depth] = n;
        it->at[it->depth] = (uint16_t)(n->leaf ? leaf_pos(n, key, &equal) : child_pos(n, key));
        if (n->leaf)
            return;
        n = n->at[it->at[it->depth]];
    }
}

void kl_iter_init_rank(struct kl_iter *it, const struct kl_node *root, int64_t first, int64_t left)
{
    it->left = left;
    it->depth = 0;
    if (!left)
        return;
    for (const struct kl_node *n = root;; it->depth++) {
        uint16_t at = 0;
        if (n->leaf)
            at = (uint16_t)first;
        for (; !n->leaf && first >= ((const struct kl_node *)n->at[at])->count; at++)
            first -= ((const struct kl_node *)n->at[at])->count;
        it->node[it->depth] = n;
        it->at[it->depth] = at;
        if (n->leaf)
            return;
        n = n->at[at];
    }
}

struct kl_kv *kl_iter_next(struct kl_iter *it)
{
    if (it->left <= 0)
        return NULL;
    it->left--;
    int d = it->depth;
    if (it->at[d] >= it->node[d]->n) { // up to where there is a next child, and down its left edge
        do
            d--;
        while (it->at[d] + 1 >= it->node[d]->n);
        it->at[d]++;
        for (; d < it->depth; d++) {
            it->node[d + 1] = it->node[d]->at[it->at[d]];
            it->at[d + 1] = 0;
        }
    }
    return it->node[d]->at[it->at[d]++];
}
