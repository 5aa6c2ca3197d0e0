// SPDX-License-Identifier: Apache-2.0
// Operations on field sets: merges of sorted levels.
#include "object/apply/fieldset.h"
#include <stdlib.h>

const struct kl_fieldset kl_fieldset_oom;
#define OOM (&kl_fieldset_oom)

static int cmp_nodes(const void *a, const void *b)
{
    const struct kl_fieldset_node *x = a, *y = b;
    return kl_elem_cmp(&x->elem, &y->elem);
}

// ---- making

void kl_fieldset_add(struct kl_arena *a, struct kl_fieldset_builder *b, const struct kl_elem *e,
                     bool member, const struct kl_fieldset *children)
{
    if (!member && !children)
        return;
    if (children == OOM)
        b->failed = true;
    if (b->failed)
        return;
    if (b->n == b->cap) {
        uint32_t cap = b->cap ? b->cap * 2 : 8;
        struct kl_fieldset_node *nodes = kl_arena_alloc(a, cap * sizeof *nodes);
        if (!nodes) {
            b->failed = true;
            return;
        }
        if (b->n)
            memcpy(nodes, b->nodes, b->n * sizeof *nodes);
        b->nodes = nodes;
        b->cap = cap;
    }
    if (b->n && !b->unsorted)
        b->unsorted = kl_elem_cmp(&b->nodes[b->n - 1].elem, e) >= 0;
    b->nodes[b->n++] =
        (struct kl_fieldset_node){.elem = *e, .children = children, .member = member};
}

static struct kl_fieldset *new_level(struct kl_arena *a, size_t n)
{
    return kl_arena_alloc(a, sizeof(struct kl_fieldset) + n * sizeof(struct kl_fieldset_node));
}

const struct kl_fieldset *kl_fieldset_build(struct kl_arena *a, struct kl_fieldset_builder *b)
{
    if (b->failed)
        return OOM;
    if (!b->n)
        return NULL;
    if (b->unsorted)
        qsort(b->nodes, b->n, sizeof b->nodes[0], cmp_nodes);
    struct kl_fieldset *s = new_level(a, b->n);
    if (!s)
        return OOM;
    s->n = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        struct kl_fieldset_node *last = s->n ? &s->nodes[s->n - 1] : NULL;
        if (!last || kl_elem_cmp(&last->elem, &b->nodes[i].elem) != 0) {
            s->nodes[s->n++] = b->nodes[i];
            continue;
        }
        last->member |= b->nodes[i].member;
        last->children = kl_fieldset_union(a, last->children, b->nodes[i].children);
        if (last->children == OOM)
            return OOM;
    }
    return s;
}

const struct kl_fieldset *kl_fieldset_of(struct kl_arena *a, const char *dotted)
{
    const char *dot = strchr(dotted, '.');
    struct kl_elem e = {.kind = KL_ELEM_FIELD,
                        .name = {dotted, dot ? (size_t)(dot - dotted) : strlen(dotted)}};
    struct kl_fieldset_builder b = {0};
    kl_fieldset_add(a, &b, &e, !dot, dot ? kl_fieldset_of(a, dot + 1) : NULL);
    return kl_fieldset_build(a, &b);
}

// ---- operations

// A level while it is filled: at most as many nodes as were asked for.
struct level {
    struct kl_fieldset *s;
    bool failed;
};

static void put(struct level *l, const struct kl_fieldset_node *n, bool member,
                const struct kl_fieldset *children)
{
    l->failed |= children == OOM;
    if (member || children)
        l->s->nodes[l->s->n++] =
            (struct kl_fieldset_node){.elem = n->elem, .children = children, .member = member};
}

static struct level begin(struct kl_arena *a, size_t n)
{
    struct level l = {new_level(a, n), false};
    if (l.s)
        l.s->n = 0;
    return l;
}

static const struct kl_fieldset *end(const struct level *l)
{
    return l->failed ? OOM : l->s->n ? l->s : NULL;
}

// Walks two levels side by side. For each element calls `take` with the node of either or both.
typedef void (*take_fn)(struct kl_arena *a, struct level *out, const struct kl_fieldset_node *s,
                        const struct kl_fieldset_node *t);

static const struct kl_fieldset *zip(struct kl_arena *a, const struct kl_fieldset *s,
                                     const struct kl_fieldset *t, size_t room, take_fn take)
{
    if (s == OOM || t == OOM)
        return OOM;
    struct level l = begin(a, room);
    if (!l.s)
        return OOM;
    uint32_t i = 0, j = 0, sn = s ? s->n : 0, tn = t ? t->n : 0;
    while (i < sn && j < tn) {
        int c = kl_elem_cmp(&s->nodes[i].elem, &t->nodes[j].elem);
        take(a, &l, c <= 0 ? &s->nodes[i] : NULL, c >= 0 ? &t->nodes[j] : NULL);
        i += c <= 0;
        j += c >= 0;
    }
    for (; i < sn; i++)
        take(a, &l, &s->nodes[i], NULL);
    for (; j < tn; j++)
        take(a, &l, NULL, &t->nodes[j]);
    return end(&l);
}

static void take_union(struct kl_arena *a, struct level *out, const struct kl_fieldset_node *s,
                       const struct kl_fieldset_node *t)
{
    if (s && t)
        put(out, s, s->member || t->member, kl_fieldset_union(a, s->children, t->children));
    else
        put(out, s ? s : t, (s ? s : t)->member, (s ? s : t)->children);
}

const struct kl_fieldset *kl_fieldset_union(struct kl_arena *a, const struct kl_fieldset *s,
                                            const struct kl_fieldset *t)
{
    if (!s || !t || s == t)
        return s ? s : t;
    return zip(a, s, t, (size_t)s->n + t->n, take_union);
}

static void take_both(struct kl_arena *a, struct level *out, const struct kl_fieldset_node *s,
                      const struct kl_fieldset_node *t)
{
    if (s && t)
        put(out, s, s->member && t->member, kl_fieldset_intersection(a, s->children, t->children));
}

const struct kl_fieldset *kl_fieldset_intersection(struct kl_arena *a, const struct kl_fieldset *s,
                                                   const struct kl_fieldset *t)
{
    if (!s || !t)
        return s == OOM || t == OOM ? OOM : NULL;
    return s == t ? s : zip(a, s, t, s->n < t->n ? s->n : t->n, take_both);
}

static void take_difference(struct kl_arena *a, struct level *out, const struct kl_fieldset_node *s,
                            const struct kl_fieldset_node *t)
{
    if (s && t)
        put(out, s, s->member && !t->member, kl_fieldset_difference(a, s->children, t->children));
    else if (s)
        put(out, s, s->member, s->children);
}

const struct kl_fieldset *kl_fieldset_difference(struct kl_arena *a, const struct kl_fieldset *s,
                                                 const struct kl_fieldset *t)
{
    if (t == OOM)
        return OOM;
    return s && t ? zip(a, s, t, s->n, take_difference) : s;
}

static void take_recursive(struct kl_arena *a, struct level *out, const struct kl_fieldset_node *s,
                           const struct kl_fieldset_node *t)
{
    if (s && t && t->member)
        return;
    if (s && t)
        put(out, s, s->member, kl_fieldset_recursive_difference(a, s->children, t->children));
    else if (s)
        put(out, s, s->member, s->children);
}

const struct kl_fieldset *kl_fieldset_recursive_difference(struct kl_arena *a,
                                                           const struct kl_fieldset *s,
                                                           const struct kl_fieldset *t)
{
    if (t == OOM)
        return OOM;
    return s && t ? zip(a, s, t, s->n, take_recursive) : s;
}

const struct kl_fieldset *kl_fieldset_leaves(struct kl_arena *a, const struct kl_fieldset *s)
{
    if (!s || s == OOM)
        return s;
    struct level l = begin(a, s->n);
    if (!l.s)
        return OOM;
    for (uint32_t i = 0; i < s->n; i++)
        put(&l, &s->nodes[i], s->nodes[i].member && !s->nodes[i].children,
            kl_fieldset_leaves(a, s->nodes[i].children));
    return end(&l);
}

bool kl_fieldset_equal(const struct kl_fieldset *s, const struct kl_fieldset *t)
{
    if (s == t)
        return true;
    if (!s || !t || s->n != t->n)
        return false;
    for (uint32_t i = 0; i < s->n; i++)
        if (s->nodes[i].member != t->nodes[i].member ||
            kl_elem_cmp(&s->nodes[i].elem, &t->nodes[i].elem) != 0 ||
            !kl_fieldset_equal(s->nodes[i].children, t->nodes[i].children))
            return false;
    return true;
}

const struct kl_fieldset_node *kl_fieldset_find(const struct kl_fieldset *s,
                                                const struct kl_elem *e)
{
    size_t low = 0, high = s ? s->n : 0;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = kl_elem_cmp(&s->nodes[mid].elem, e);
        if (c == 0)
            return &s->nodes[mid];
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

bool kl_fieldset_covers(const struct kl_fieldset *s, const struct kl_fieldset *t)
{
    for (uint32_t i = 0; t && i < t->n; i++) {
        const struct kl_fieldset_node *n = kl_fieldset_find(s, &t->nodes[i].elem);
        if (!n || (t->nodes[i].member && !n->member) ||
            !kl_fieldset_covers(n->children, t->nodes[i].children))
            return false;
    }
    return true;
}

bool kl_fieldset_meets(const struct kl_fieldset *s, const struct kl_fieldset *t)
{
    for (uint32_t i = 0; s && t && i < t->n; i++) {
        const struct kl_fieldset_node *n = kl_fieldset_find(s, &t->nodes[i].elem);
        if (n && ((t->nodes[i].member && n->member) ||
                  kl_fieldset_meets(n->children, t->nodes[i].children)))
            return true;
    }
    return false;
}

size_t kl_fieldset_size(const struct kl_fieldset *s)
{
    size_t n = 0;
    for (uint32_t i = 0; s && i < s->n; i++)
        n += s->nodes[i].member + kl_fieldset_size(s->nodes[i].children);
    return n;
}

// ---- listing

struct walk {
    void (*cb)(void *arg, const struct kl_elem *const *path, size_t n);
    void *arg;
    const struct kl_elem *path[KL_FIELDSET_DEPTH + 1];
};

static void each(struct walk *w, const struct kl_fieldset *s, size_t depth)
{
    for (uint32_t i = 0; s && i < s->n; i++) {
        w->path[depth] = &s->nodes[i].elem;
        if (s->nodes[i].member)
            w->cb(w->arg, w->path, depth + 1);
    }
    for (uint32_t i = 0; s && depth < KL_FIELDSET_DEPTH && i < s->n; i++) {
        w->path[depth] = &s->nodes[i].elem;
        each(w, s->nodes[i].children, depth + 1);
    }
}

void kl_fieldset_each(const struct kl_fieldset *s,
                      void (*cb)(void *arg, const struct kl_elem *const *path, size_t n), void *arg)
{
    struct walk w = {.cb = cb, .arg = arg};
    each(&w, s, 0);
}
