// SPDX-License-Identifier: Apache-2.0
// One untyped tree laid over another, and items taken out of one.
#include "object/apply/shape.h"
#include <stdlib.h>

struct walk {
    struct kl_arena *a;
    struct kl_error *err;
    int rc;
    size_t depth;
};

// A place of the result; set false: nothing stands there.
struct out {
    struct kl_value v;
    bool set;
};

static void merge(struct walk *w, struct kl_shape s, const struct kl_value *l,
                  const struct kl_value *r, struct out *out);

static void keep_right(const struct kl_value *l, const struct kl_value *r, struct out *out)
{
    out->v = r ? *r : *l;
    out->v.owned = 0;
    out->set = true;
}

static void no_memory(struct walk *w)
{
    w->rc = kl_error_set(w->err, KL_ENOMEM, "out of memory");
}

// An array or map of n elements from a vector of its own.
static void finish(struct out *out, uint32_t kind, struct kl_value *items, size_t n)
{
    if (!n)
        return;
    out->v = (struct kl_value){.kind = kind, .n = (uint32_t)n, .items = items};
    out->set = true;
}

// ---- lists

struct item {
    struct kl_elem elem;
    const struct kl_value *v;
    uint32_t other; // index of the same element's first item on the other side, or NONE
    uint32_t first; // of the same element on this side
    bool repeated;  // on this side
    bool merged;    // of the right: its place in the result is taken
};
enum { NONE = UINT32_MAX };

struct side {
    struct item *items;
    uint32_t *sorted; // by element, then by position
    size_t n;
};

static int cmp_at(const struct item *items, uint32_t x, uint32_t y)
{
    int c = kl_elem_cmp(&items[x].elem, &items[y].elem);
    return c ? c : (x > y) - (x < y);
}

// Indexes sorted by what they stand for: merge sort, since qsort has no argument.
static void sort_side(uint32_t *x, uint32_t *tmp, size_t n, const struct item *items)
{
    if (n < 2)
        return;
    size_t half = n / 2, i = 0, j = half, k = 0;
    sort_side(x, tmp, half, items);
    sort_side(x + half, tmp, n - half, items);
    while (i < half && j < n)
        tmp[k++] = cmp_at(items, x[i], x[j]) <= 0 ? x[i++] : x[j++];
    while (i < half)
        tmp[k++] = x[i++];
    while (j < n)
        tmp[k++] = x[j++];
    memcpy(x, tmp, n * sizeof *x);
}

static bool index_side(struct walk *w, struct kl_shape s, const struct kl_value *list,
                       bool duplicates, struct side *ret)
{
    size_t n = kl_len(list);
    ret->n = n;
    ret->items = kl_arena_alloc(w->a, (n + 1) * sizeof *ret->items);
    ret->sorted = kl_arena_alloc(w->a, (2 * n + 1) * sizeof *ret->sorted);
    if (!ret->items || !ret->sorted)
        return no_memory(w), false;
    for (uint32_t i = 0; i < n; i++) {
        struct kl_error why;
        ret->items[i] = (struct item){.v = &list->items[i], .other = NONE, .first = i};
        int rc = kl_shape_item(w->a, s, &list->items[i], &ret->items[i].elem, &why);
        if (rc) {
            w->rc = kl_error_set(w->err, rc, "element %u: %s", i, why.msg);
            return false;
        }
        ret->sorted[i] = i;
    }
    sort_side(ret->sorted, ret->sorted + n, n, ret->items);
    for (size_t i = 1; i < n; i++) {
        struct item *a = &ret->items[ret->sorted[i - 1]], *b = &ret->items[ret->sorted[i]];
        if (kl_elem_cmp(&a->elem, &b->elem) != 0)
            continue;
        if (!duplicates) {
            struct kl_buf text;
            kl_buf_init(&text, sizeof w->err->msg / 2);
            kl_elem_show(&text, &b->elem);
            w->rc = kl_error_set(w->err, KL_EINVALID, "duplicate entries for key %.*s",
                                 KL_PRI(kl_buf_str(&text)));
            kl_buf_fini(&text);
            return false;
        }
        b->first = a->first;
        b->repeated = ret->items[a->first].repeated = true;
    }
    return true;
}

static void join_sides(struct side *l, struct side *r)
{
    for (size_t i = 0, j = 0; i < l->n && j < r->n;) {
        struct item *a = &l->items[l->sorted[i]], *b = &r->items[r->sorted[j]];
        int c = kl_elem_cmp(&a->elem, &b->elem);
        if (c == 0) {
            a->other = b->first;
            b->other = a->first;
        }
        i += c <= 0;
        j += c > 0;
    }
}

struct lists {
    struct side l, r;
    struct kl_shape elem;
    struct kl_value *out;
    size_t n;
    size_t shared; // position on the right of the next item that both sides have; r.n: none
};

static void emit(struct walk *w, struct lists *x, const struct kl_value *l,
                 const struct kl_value *r)
{
    struct out one = {0};
    merge(w, x->elem, l, r, &one);
    if (one.set)
        x->out[x->n++] = one.v;
}

static void next_shared(struct lists *x, size_t from)
{
    x->shared = from;
    while (x->shared < x->r.n && x->r.items[x->shared].other == NONE)
        x->shared++;
}

// An item of the right in its turn, together with the left one it names. Of repeated ones on the
// left none is merged: the right's stands for them.
static void take_right(struct walk *w, struct lists *x, size_t j)
{
    static const struct kl_value null = {.kind = KL_NULL};
    struct item *r = &x->r.items[j];
    const struct item *l = r->other == NONE ? NULL : &x->l.items[r->other];
    r->merged = true;
    emit(w, x, !l ? NULL : l->repeated ? &null : l->v, r->v);
}

// The order of the right wherever it says one; what only the left has stays before what followed.
static void interleave(struct walk *w, struct lists *x)
{
    size_t i = 0, j = 0;
    next_shared(x, 0);
    while (!w->rc && (i < x->l.n || j < x->r.n)) {
        const struct item *l = i < x->l.n ? &x->l.items[i] : NULL;
        if (l && j < x->r.n) {
            if (l->other == j) {
                take_right(w, x, j++);
                i++;
                next_shared(x, x->shared < x->r.n ? x->shared + 1 : x->r.n);
                continue;
            }
            if (l->other != NONE && x->shared < x->r.n && l->other != x->shared) {
                i++; // a shared one, but not the one whose turn it is
                continue;
            }
        }
        if (l) {
            if (l->other == NONE) {
                emit(w, x, l->v, NULL);
                i++;
                continue;
            }
            if (x->r.items[l->other].merged)
                i++;
        }
        if (j < x->r.n) {
            bool was_shared = x->shared == j;
            take_right(w, x, j++);
            if (was_shared)
                next_shared(x, j);
        }
    }
}

static void merge_lists(struct walk *w, struct kl_shape s, const struct kl_value *l,
                        const struct kl_value *r, struct out *out)
{
    struct lists x = {.elem = kl_shape_elem(s)};
    if (!index_side(w, s, r, false, &x.r) || !index_side(w, s, l, true, &x.l))
        return;
    join_sides(&x.l, &x.r);
    x.out = kl_arena_alloc(w->a, (x.l.n + x.r.n + 1) * sizeof *x.out);
    if (!x.out) {
        no_memory(w);
        return;
    }
    interleave(w, &x);
    finish(out, KL_ARRAY, x.out, x.n);
}

// ---- maps

static void merge_maps(struct walk *w, struct kl_shape s, const struct kl_value *l,
                       const struct kl_value *r, struct out *out)
{
    struct kl_pairs pairs = kl_pairs_of(s, l, r);
    struct kl_pair p;
    struct kl_value *items =
        kl_arena_alloc(w->a, 2 * (kl_len(pairs.l) + kl_len(pairs.r) + 1) * sizeof *items);
    size_t n = 0;
    if (!items) {
        no_memory(w);
        return;
    }
    while (!w->rc && kl_pairs_next(&pairs, &p)) {
        struct out one = {0};
        merge(w, p.shape, p.l, p.r, &one);
        if (!one.set)
            continue;
        items[2 * n] = kl_string(p.name);
        items[2 * n + 1] = one.v;
        items[2 * n++ + 1].sym = 0;
    }
    finish(out, KL_MAP, items, n);
}

static void merge_as(struct walk *w, unsigned atoms, struct kl_shape s, const struct kl_value *l,
                     const struct kl_value *r, struct out *out)
{
    if (w->depth >= KL_FIELDSET_DEPTH) {
        keep_right(l, r, out);
    } else if (atoms & KL_ATOM_MAP) {
        if (kl_shape_atomic_map(s) || (kl_shape_empty_map(s, l) && kl_shape_empty_map(s, r)))
            keep_right(l, r, out);
        else
            merge_maps(w, s, l, r, out);
    } else if (atoms & KL_ATOM_SCALAR) {
        keep_right(l, r, out);
    } else {
        const struct kl_value *ll = kl_is(l, KL_ARRAY) ? l : NULL;
        const struct kl_value *rl = kl_is(r, KL_ARRAY) ? r : NULL;
        if (kl_shape_atomic_list(s) || (!kl_len(ll) && !kl_len(rl)))
            keep_right(l, r, out);
        else
            merge_lists(w, s, ll, rl, out);
    }
}

// One of l and r may be NULL.
static void merge(struct walk *w, struct kl_shape s, const struct kl_value *l,
                  const struct kl_value *r, struct out *out)
{
    unsigned atoms = kl_shape_atoms(s);
    if (w->rc)
        return;
    w->depth++;
    merge_as(w, kl_shape_deduce(atoms, r ? r : l), s, l, r, out);
    w->depth--;
}

int kl_typed_merge(struct kl_arena *a, const struct kl_type *type, const struct kl_value *under,
                   const struct kl_value *over, struct kl_value *ret, struct kl_error *err)
{
    struct walk w = {.a = a, .err = err};
    struct out out = {0};
    merge(&w, kl_shape_of(type), under, over, &out);
    if (w.rc)
        return w.rc;
    *ret = out.set ? out.v : kl_null();
    return 0;
}

// ---- removal

static struct out take_out(struct walk *w, struct kl_shape s, const struct kl_value *v,
                           const struct kl_fieldset *items);

// What is left of one child; set false: nothing.
static struct out child_without(struct walk *w, struct kl_shape s, const struct kl_value *v,
                                const struct kl_elem *e, const struct kl_fieldset *items)
{
    const struct kl_fieldset_node *n = kl_fieldset_find(items, e);
    struct out one = {.v = *v, .set = !n || !n->member};
    if (!n || n->member || !n->children)
        return one;
    one = take_out(w, s, v, n->children);
    if (!one.set) // upstream leaves a null where all was taken out
        one = (struct out){.v = kl_null(), .set = true};
    return one;
}

static struct out take_out(struct walk *w, struct kl_shape s, const struct kl_value *v,
                           const struct kl_fieldset *items)
{
    unsigned atoms = kl_shape_deduce(kl_shape_atoms(s), v);
    bool map = atoms & KL_ATOM_MAP, list = atoms == KL_ATOM_LIST;
    struct out out = {0};
    size_t n = 0, width = map ? 2 : 1;
    if (!map && !list)
        return (struct out){.v = *v, .set = true};
    if ((map ? !kl_is_map(v) : v->kind != KL_ARRAY) || !v->n ||
        (map ? kl_shape_atomic_map(s) : kl_shape_atomic_list(s)) || w->depth >= KL_FIELDSET_DEPTH)
        return out;
    struct kl_value *left = kl_arena_alloc(w->a, width * v->n * sizeof *left);
    if (!left) {
        w->rc = KL_ENOMEM;
        return out;
    }
    w->depth++;
    for (uint32_t i = 0; i < v->n && !w->rc; i++) {
        const struct kl_value *key = &v->items[width * i], *child = key + (map ? 1 : 0);
        struct kl_elem e = kl_elem_name(kl_text(key));
        struct kl_shape below = kl_shape_elem(s);
        struct kl_error ignored;
        bool declared;
        if (map)
            below = kl_shape_member(s, e.name, &declared);
        else if (kl_shape_item(w->a, s, child, &e, &ignored))
            e = (struct kl_elem){.kind = KL_ELEM_INDEX, .index = -1}; // in no set
        struct out one = child_without(w, below, child, &e, items);
        if (!one.set)
            continue;
        if (map)
            left[2 * n] = *key;
        left[width * n + width - 1] = one.v;
        left[width * n++ + width - 1].owned = 0;
    }
    w->depth--;
    finish(&out, map ? KL_MAP : KL_ARRAY, left, n);
    return out;
}

int kl_typed_remove(struct kl_arena *a, const struct kl_type *type, const struct kl_value *v,
                    const struct kl_fieldset *items, struct kl_value *ret)
{
    struct walk w = {.a = a};
    struct out out = take_out(&w, kl_shape_of(type), v, items);
    if (w.rc || items == &kl_fieldset_oom)
        return KL_ENOMEM;
    *ret = out.set ? out.v : kl_null();
    return 0;
}
