// SPDX-License-Identifier: Apache-2.0
// What one tree has more, less or other than another.
#include "object/apply/shape.h"
#include <stdlib.h>

enum { REMOVED, MODIFIED, ADDED, SETS };

struct walk {
    struct kl_arena *a;
    struct kl_error *err;
    int rc;
    size_t depth;
};

// What was found at one place: below it, and about itself.
struct found {
    struct kl_fieldset_builder below[SETS];
    unsigned self; // 1 << REMOVED ...
};

static void compare(struct walk *w, struct kl_shape s, const struct kl_value *l,
                    const struct kl_value *r, struct found *f);

static void add(struct walk *w, struct found *to, const struct kl_elem *e, struct found *child)
{
    for (int k = 0; k < SETS; k++)
        if ((child->self & 1u << k) || child->below[k].n || child->below[k].failed)
            kl_fieldset_add(w->a, &to->below[k], e, (child->self & 1u << k) != 0,
                            kl_fieldset_build(w->a, &child->below[k]));
}

// Numbers are equal by value; trees of one form otherwise by kl_value_equal.
static bool is_equal(const struct kl_value *l, const struct kl_value *r)
{
    if ((l->kind == KL_FLOAT) != (r->kind == KL_FLOAT) && l->kind <= KL_FLOAT &&
        r->kind <= KL_FLOAT)
        return kl_elem_value_cmp(l, r) == 0;
    return kl_value_equal(l, r);
}

static void leaf(struct found *f, const struct kl_value *l, const struct kl_value *r)
{
    if (!l)
        f->self |= 1u << ADDED;
    else if (!r)
        f->self |= 1u << REMOVED;
    else if (l != r && !is_equal(l, r))
        f->self |= 1u << MODIFIED;
}

// ---- lists

struct item {
    struct kl_elem elem;
    const struct kl_value *v;
    uint32_t at;
    bool right;
};

static int cmp_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int c = kl_elem_cmp(&x->elem, &y->elem);
    return c ? c : x->right != y->right ? x->right - y->right : (int)x->at - (int)y->at;
}

static size_t gather(struct walk *w, struct kl_shape s, const struct kl_value *list, bool right,
                     struct item *to)
{
    size_t n = 0;
    for (uint32_t i = 0; i < kl_len(list) && !w->rc; i++) {
        struct kl_error why;
        int rc = kl_shape_item(w->a, s, &list->items[i], &to[n].elem, &why);
        if (rc)
            w->rc = kl_error_set(w->err, rc, "element %u: %s", i, why.msg);
        to[n].v = &list->items[i];
        to[n].right = right;
        to[n++].at = i;
    }
    return n;
}

static void item_pair(struct walk *w, struct kl_shape elem, const struct item *i,
                      const struct kl_value *l, const struct kl_value *r, struct found *f)
{
    struct found child = {0};
    compare(w, elem, l, r, &child);
    add(w, f, &i->elem, &child);
}

// The items of both sides that one element names; more than one on a side are duplicates, which
// are taken as one atomic thing.
static void compare_items(struct walk *w, struct kl_shape elem, const struct item *i, size_t nl,
                          size_t nr, struct found *f)
{
    struct found mark = {0};
    const struct item *right = i + nl;
    if (nl <= 1 && nr <= 1) {
        item_pair(w, elem, i, nl ? i->v : NULL, nr ? right->v : NULL, f);
        return;
    }
    if (nl >= 2 && nr >= 2) {
        bool same = nl == nr;
        for (size_t k = 0; same && k < nl; k++)
            same = is_equal(i[k].v, right[k].v);
        mark.self = same ? 0 : 1u << MODIFIED;
    } else if (nl >= 2) {
        if (nr)
            item_pair(w, elem, i, NULL, right->v, f);
        mark.self = 1u << REMOVED;
    } else {
        if (nl)
            item_pair(w, elem, i, i->v, NULL, f);
        mark.self = 1u << ADDED;
    }
    add(w, f, &i->elem, &mark);
}

static void compare_lists(struct walk *w, struct kl_shape s, const struct kl_value *l,
                          const struct kl_value *r, struct found *f)
{
    if (l && r && kl_value_equal(l, r))
        return;
    size_t n = kl_len(l) + kl_len(r);
    struct item *items = kl_arena_alloc(w->a, n * sizeof *items);
    if (!items) {
        w->rc = KL_ENOMEM;
        return;
    }
    n = gather(w, s, l, false, items);
    n += gather(w, s, r, true, items + n);
    if (w->rc)
        return;
    qsort(items, n, sizeof *items, cmp_items);
    for (size_t i = 0; i < n;) {
        size_t nl = 0, nr = 0, k = i;
        for (; k < n && kl_elem_cmp(&items[i].elem, &items[k].elem) == 0; k++)
            items[k].right ? nr++ : nl++;
        compare_items(w, kl_shape_elem(s), &items[i], nl, nr, f);
        i = k;
    }
}

// ---- both

// False: it was a leaf.
static bool compare_as(struct walk *w, unsigned atoms, struct kl_shape s, const struct kl_value *l,
                       const struct kl_value *r, struct found *f)
{
    if (w->depth >= KL_FIELDSET_DEPTH)
        return leaf(f, l, r), false;
    if (atoms & KL_ATOM_MAP) {
        if (kl_shape_atomic_map(s) || (kl_shape_empty_map(s, l) && kl_shape_empty_map(s, r)))
            return leaf(f, l, r), false;
        if (l && r && l->kind == r->kind && l->items == r->items && l->n == r->n)
            return true; // one node of a shared tree
        struct kl_pairs pairs = kl_pairs_of(s, l, r);
        struct kl_pair p;
        while (!w->rc && kl_pairs_next(&pairs, &p)) {
            struct found child = {0};
            compare(w, p.shape, p.l, p.r, &child);
            struct kl_elem e = kl_elem_name(p.name);
            add(w, f, &e, &child);
        }
        return true;
    }
    if (atoms & KL_ATOM_SCALAR)
        return leaf(f, l, r), false;
    const struct kl_value *ll = kl_is(l, KL_ARRAY) ? l : NULL, *rl = kl_is(r, KL_ARRAY) ? r : NULL;
    if (kl_shape_atomic_list(s) || (!kl_len(ll) && !kl_len(rl)))
        return leaf(f, l, r), false;
    compare_lists(w, s, ll, rl, f);
    return true;
}

// One of l and r may be NULL.
static void compare(struct walk *w, struct kl_shape s, const struct kl_value *l,
                    const struct kl_value *r, struct found *f)
{
    unsigned atoms = kl_shape_atoms(s), al = kl_shape_deduce(atoms, l),
             ar = kl_shape_deduce(atoms, r);
    bool inner;
    if (w->rc)
        return;
    w->depth++;
    if (!r) {
        inner = compare_as(w, al, s, l, r, f);
    } else {
        if (l && al != ar) // one thing became another: gone with all that was in it, and come
            compare_as(w, al, s, l, r, f);
        inner = compare_as(w, ar, s, l, r, f);
    }
    w->depth--;
    if (inner && !l)
        f->self |= 1u << ADDED;
    else if (inner && !r)
        f->self |= 1u << REMOVED;
}

int kl_typed_compare(struct kl_arena *a, const struct kl_type *type, const struct kl_value *old,
                     const struct kl_value *now, struct kl_comparison *ret, struct kl_error *err)
{
    struct walk w = {.a = a, .err = err};
    struct found f = {0};
    compare(&w, kl_shape_of(type), old, now, &f);
    if (w.rc)
        return w.rc == KL_ENOMEM ? kl_error_set(err, w.rc, "out of memory") : w.rc;
    *ret = (struct kl_comparison){kl_fieldset_build(a, &f.below[REMOVED]),
                                  kl_fieldset_build(a, &f.below[MODIFIED]),
                                  kl_fieldset_build(a, &f.below[ADDED])};
    if (ret->removed == &kl_fieldset_oom || ret->modified == &kl_fieldset_oom ||
        ret->added == &kl_fieldset_oom)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    return 0;
}
