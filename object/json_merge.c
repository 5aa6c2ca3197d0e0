// SPDX-License-Identifier: Apache-2.0
// Members that a text names twice.
#include "object/json_int.h"
#include <stdlib.h>

// Repeated members cost what the square of their sizes is; no honest document comes near.
enum { MERGE_WORK_MAX = 1 << 24 };

static int merge(struct kl_arena *a, const struct kl_type *t, const struct kl_value *old,
                 struct kl_value *v, size_t *work);

// The later length; elements that are structs gather what the earlier ones had.
static int merge_arrays(struct kl_arena *a, const struct kl_type *t, const struct kl_value *old,
                        struct kl_value *v, size_t *work)
{
    if (v->n == 0 || !t->elem || t->elem->kind != KL_T_STRUCT)
        return 0;
    struct kl_value *items = kl_arena_alloc(a, v->n * sizeof(*v));
    if (!items)
        return KL_ENOMEM;
    memcpy(items, v->items, v->n * sizeof(*v));
    v->items = items;
    int r = 0;
    for (size_t i = 0; !r && i < v->n && i < old->n; i++)
        r = merge(a, t->elem, &old->items[i], &items[i], work);
    return r;
}

static int merge_members(struct kl_arena *a, const struct kl_type *t, struct kl_value *both,
                         const struct kl_value *later, size_t *work)
{
    int r = 0;
    for (size_t i = 0; !r && i < later->n; i++) {
        if (later->kind == KL_MAP) {
            r = kl_map_set_value(a, both, kl_text(&later->items[2 * i]), later->items[2 * i + 1]);
            continue;
        }
        struct kl_value item = later->items[i];
        const struct kl_field *f = kl_type_field(t, item.sym);
        const struct kl_value *was = kl_get(both, item.sym);
        if (f && was)
            r = merge(a, f->type, was, &item, work);
        r = r ? r : kl_set(a, both, item.sym, item);
    }
    return r;
}

// A member that comes twice is decoded twice into one Go value: structs and maps gather members.
static int merge(struct kl_arena *a, const struct kl_type *t, const struct kl_value *old,
                 struct kl_value *v, size_t *work)
{
    if (v->kind != old->kind || v->kind < KL_ARRAY)
        return 0;
    *work += ((size_t)v->n + 1) * ((size_t)old->n + 1);
    if (*work > MERGE_WORK_MAX)
        return KL_ELIMIT;
    if (v->kind == KL_ARRAY)
        return merge_arrays(a, t, old, v, work);
    struct kl_value both = *old;
    int r = merge_members(a, t, &both, v, work);
    both.sym = v->sym;
    *v = both;
    return r;
}

int kl_struct_merge(struct kl_arena *a, const struct kl_type *t, struct kl_value *items, size_t *n,
                    size_t *work)
{
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++) {
        size_t j = 0;
        while (j < kept && items[j].sym != items[i].sym)
            j++;
        struct kl_value v = items[i];
        if (j < kept) {
            const struct kl_field *f = kl_type_field(t, v.sym);
            int r = f ? merge(a, f->type, &items[j], &v, work) : 0;
            if (r)
                return r;
        } else {
            kept++;
        }
        items[j] = v;
    }
    *n = kept;
    return 0;
}

struct entry {
    const struct kl_value *key;
    size_t index;
};

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int c = kl_str_cmp(kl_text(x->key), kl_text(y->key));
    return c ? c : (x->index > y->index) - (x->index < y->index);
}

static bool keys_are_unique(const struct kl_value *items, size_t n)
{
    bool rising = true;
    for (size_t i = 1; i < n && rising; i++)
        rising = kl_str_cmp(kl_text(&items[2 * i - 2]), kl_text(&items[2 * i])) < 0;
    if (rising || n > 8)
        return rising;
    for (size_t i = 1; i < n; i++)
        for (size_t j = 0; j < i; j++)
            if (kl_str_eq(kl_text(&items[2 * i]), kl_text(&items[2 * j])))
                return false;
    return true;
}

int kl_map_make_unique(struct kl_value *items, size_t *n,
                       void (*again_cb)(void *arg, const struct kl_value *key), void *arg)
{
    if (keys_are_unique(items, *n))
        return 0;
    struct entry *order = malloc(*n * sizeof(*order));
    uint8_t *again = calloc(*n, 1);
    if (!order || !again) {
        free(order);
        free(again);
        return KL_ENOMEM;
    }
    for (size_t i = 0; i < *n; i++)
        order[i] = (struct entry){&items[2 * i], i};
    qsort(order, *n, sizeof(*order), compare_entries);
    for (size_t i = 1, first = 0; i < *n; i++) {
        if (!kl_str_eq(kl_text(order[i].key), kl_text(order[first].key))) {
            first = i;
            continue;
        }
        again[order[i].index] = 1;
        items[2 * order[first].index + 1] = items[2 * order[i].index + 1];
    }
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++) {
        if (again[i]) {
            again_cb(arg, &items[2 * i]);
            continue;
        }
        items[2 * kept] = items[2 * i];
        items[2 * kept + 1] = items[2 * i + 1];
        kept++;
    }
    *n = kept;
    free(order);
    free(again);
    return 0;
}
