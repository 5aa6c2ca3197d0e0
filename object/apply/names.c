// SPDX-License-Identifier: Apache-2.0
// Sets seen through the schema.
#include "object/apply/shape.h"
#include <stdlib.h>

// The shape of what an element of a set leads to. A place the schema does not know has none.
static bool below(struct kl_shape s, const struct kl_elem *e, struct kl_shape *ret, bool *declared)
{
    unsigned atoms = kl_shape_atoms(s);
    *declared = false;
    if (e->kind == KL_ELEM_FIELD && atoms & KL_ATOM_MAP)
        *ret = kl_shape_member(s, e->name, declared);
    else if (e->kind == KL_ELEM_KEY && atoms & KL_ATOM_LIST)
        *ret = kl_shape_elem(s);
    else
        *ret = (struct kl_shape){.type = NULL};
    return *declared || !kl_shape_closed(s);
}

static const struct kl_fieldset *name_members(struct kl_arena *a, struct kl_shape s,
                                              const struct kl_fieldset *set)
{
    struct kl_fieldset_builder b = {0};
    if (!set || set == &kl_fieldset_oom)
        return set;
    for (uint32_t i = 0; i < set->n; i++) {
        const struct kl_fieldset_node *n = &set->nodes[i];
        struct kl_shape child;
        bool declared;
        below(s, &n->elem, &child, &declared);
        kl_fieldset_add(a, &b, &n->elem, n->member || (n->children && declared),
                        name_members(a, child, n->children));
    }
    return kl_fieldset_build(a, &b);
}

const struct kl_fieldset *kl_typed_name_members(struct kl_arena *a, const struct kl_type *type,
                                                const struct kl_fieldset *s)
{
    return name_members(a, kl_shape_of(type), s);
}

static bool is_atomic(struct kl_shape s)
{
    unsigned atoms = kl_shape_atoms(s);
    if (atoms & KL_ATOM_MAP)
        return kl_shape_atomic_map(s);
    return atoms == KL_ATOM_LIST && kl_shape_atomic_list(s);
}

static bool is_stale(struct kl_shape s, const struct kl_fieldset *set)
{
    for (uint32_t i = 0; set && i < set->n; i++) {
        struct kl_shape child;
        bool declared;
        if (set->nodes[i].children && below(s, &set->nodes[i].elem, &child, &declared) &&
            (is_atomic(child) || is_stale(child, set->nodes[i].children)))
            return true;
    }
    return false;
}

static const struct kl_fieldset *reconcile(struct kl_arena *a, struct kl_shape s,
                                           const struct kl_fieldset *set)
{
    struct kl_fieldset_builder b = {0};
    if (!is_stale(s, set))
        return set;
    for (uint32_t i = 0; i < set->n; i++) {
        const struct kl_fieldset_node *n = &set->nodes[i];
        struct kl_shape child;
        bool declared, known = below(s, &n->elem, &child, &declared);
        if (n->children && known && is_atomic(child))
            kl_fieldset_add(a, &b, &n->elem, true, NULL);
        else
            kl_fieldset_add(a, &b, &n->elem, n->member,
                            known ? reconcile(a, child, n->children) : n->children);
    }
    return kl_fieldset_build(a, &b);
}

const struct kl_fieldset *kl_typed_reconcile(struct kl_arena *a, const struct kl_type *type,
                                             const struct kl_fieldset *s)
{
    return s == &kl_fieldset_oom ? s : reconcile(a, kl_shape_of(type), s);
}

// ---- sorting of untyped trees

static int cmp_pairs(const void *a, const void *b)
{
    return kl_str_cmp(kl_text(a), kl_text(b));
}

int kl_typed_sort(struct kl_arena *a, struct kl_value *v)
{
    if (v->kind < KL_ARRAY || !v->n)
        return 0;
    bool map = v->kind == KL_MAP;
    size_t n = (map ? 2 : 1) * (size_t)v->n;
    struct kl_value *items = kl_arena_alloc(a, n * sizeof *items);
    if (!items)
        return KL_ENOMEM;
    memcpy(items, v->items, n * sizeof *items);
    bool sorted = true;
    for (size_t i = 2; map && i < n; i += 2)
        sorted &= cmp_pairs(&items[i - 2], &items[i]) < 0;
    if (!sorted)
        qsort(items, v->n, 2 * sizeof *items, cmp_pairs);
    for (size_t i = map ? 1 : 0; i < n; i += map ? 2 : 1) {
        items[i].owned = 0;
        int rc = kl_typed_sort(a, &items[i]);
        if (rc)
            return rc;
    }
    v->items = items;
    v->owned = 0;
    return 0;
}
