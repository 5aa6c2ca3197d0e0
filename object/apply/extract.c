// SPDX-License-Identifier: Apache-2.0
// The set of fields that a tree has.
#include "object/apply/shape.h"
#include <stdlib.h>

struct walk {
    struct kl_arena *a;
    bool failed;
    size_t depth;
};

static const struct kl_fieldset *extract(struct walk *w, struct kl_shape s,
                                         const struct kl_value *v, bool *ret_self);

static void extract_list(struct walk *w, struct kl_shape s, const struct kl_value *v,
                         struct kl_fieldset_builder *b)
{
    struct kl_elem *elems = kl_arena_alloc(w->a, (kl_len(v) + 1) * sizeof *elems);
    struct kl_fieldset_builder seen = {0};
    struct kl_error ignored;
    if (!elems) {
        w->failed = true;
        return;
    }
    for (uint32_t i = 0; i < v->n; i++) {
        if (kl_shape_item(w->a, s, &v->items[i], &elems[i], &ignored))
            elems[i].kind = KL_ELEM_INDEX, elems[i].index = i; // not reached once it was validated
        kl_fieldset_add(w->a, &seen, &elems[i], true, NULL);
    }
    // An item that is there twice is owned as a whole.
    const struct kl_fieldset *once = kl_fieldset_build(w->a, &seen);
    bool twice = once && once != &kl_fieldset_oom && once->n < v->n;
    uint32_t *count = twice ? kl_arena_zalloc(w->a, once->n * sizeof *count) : NULL;
    if (once == &kl_fieldset_oom || (twice && !count)) {
        w->failed = true;
        return;
    }
    for (uint32_t i = 0; twice && i < v->n; i++)
        count[kl_fieldset_find(once, &elems[i]) - once->nodes]++;
    for (uint32_t i = 0; i < v->n && !w->failed; i++) {
        const struct kl_fieldset *below = NULL;
        bool ignored_self;
        if (!twice || count[kl_fieldset_find(once, &elems[i]) - once->nodes] == 1)
            below = extract(w, kl_shape_elem(s), &v->items[i], &ignored_self);
        kl_fieldset_add(w->a, b, &elems[i], true, below);
    }
}

static void extract_map(struct walk *w, struct kl_shape s, const struct kl_value *v,
                        struct kl_fieldset_builder *b)
{
    struct kl_pairs pairs = kl_pairs_of(s, v, NULL);
    struct kl_pair p;
    while (!w->failed && kl_pairs_next(&pairs, &p)) {
        bool self;
        const struct kl_fieldset *below = extract(w, p.shape, p.l, &self);
        struct kl_elem e = kl_elem_name(p.name);
        self |= !p.field || p.l->kind == KL_NULL ||
                (kl_is_map(p.l) && kl_shape_empty_map(p.shape, p.l));
        kl_fieldset_add(w->a, b, &e, self, below);
    }
}

static const struct kl_fieldset *extract(struct walk *w, struct kl_shape s,
                                         const struct kl_value *v, bool *ret_self)
{
    unsigned atoms = kl_shape_deduce(kl_shape_atoms(s), v);
    struct kl_fieldset_builder b = {0};
    bool map = atoms & KL_ATOM_MAP, list = atoms == KL_ATOM_LIST;
    *ret_self = true;
    if (w->depth >= KL_FIELDSET_DEPTH || (!map && !list) || (map && kl_shape_atomic_map(s)) ||
        (list && kl_shape_atomic_list(s)))
        return NULL;
    *ret_self = false;
    w->depth++;
    if (map)
        extract_map(w, s, v, &b);
    else if (v->kind == KL_ARRAY)
        extract_list(w, s, v, &b);
    w->depth--;
    return kl_fieldset_build(w->a, &b);
}

int kl_typed_fieldset(struct kl_arena *a, const struct kl_type *type, const struct kl_value *v,
                      const struct kl_fieldset **ret_set)
{
    struct walk w = {.a = a};
    bool self;
    *ret_set = extract(&w, kl_shape_of(type), v, &self);
    return w.failed || *ret_set == &kl_fieldset_oom ? KL_ENOMEM : 0;
}
