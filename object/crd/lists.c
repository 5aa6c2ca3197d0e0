// SPDX-License-Identifier: Apache-2.0
// Lists that are sets or maps hold nothing twice (apiserver/schema/listtype).
#include "object/crd/crd_int.h"

// Equal values get equal hashes.
static uint64_t hash_value(const struct kl_value *v)
{
    uint64_t h = v->kind * 0x9e3779b97f4a7c15u;
    switch (v->kind) {
    case KL_BOOL:
        return h ^ v->b;
    case KL_INT:
        return h ^ kl_str_hash((struct kl_str){(const char *)&v->i, sizeof v->i});
    case KL_FLOAT:
        return v->d == 0 ? h : h ^ kl_str_hash((struct kl_str){(const char *)&v->d, sizeof v->d});
    case KL_STRING:
        return h ^ kl_str_hash(kl_text(v));
    case KL_ARRAY:
        for (KL_EACH(x, v))
            h = (h ^ hash_value(x)) * 1099511628211u;
        return h;
    case KL_MAP: // in any order
        for (KL_MAP_EACH_KEY(k, v))
            h += (kl_str_hash(kl_text(k)) ^ hash_value(k + 1)) * 1099511628211u;
        return h;
    default:
        return h;
    }
}

// Tells of the second of each that is there more than once. O(n).
static int find_doubles(struct kl_findings *f, const struct crd_path *path,
                        const struct kl_value *items, uint32_t n)
{
    uint32_t cap = 8;
    if (n < 2)
        return 0;
    while (cap < 2 * n)
        cap *= 2;
    uint32_t *slots = kl_arena_zalloc(f->arena, cap * sizeof *slots);
    bool *told = kl_arena_zalloc(f->arena, n * sizeof *told);
    if (!slots || !told)
        return KL_ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t h = (uint32_t)(hash_value(&items[i]) * 0x9e3779b97f4a7c15u >> 32) & (cap - 1);
        while (slots[h] && !kl_value_equal(&items[slots[h] - 1], &items[i]))
            h = (h + 1) & (cap - 1);
        if (!slots[h]) {
            slots[h] = i + 1;
        } else if (!told[slots[h] - 1]) {
            struct crd_path at = {.up = path, .index = i};
            told[slots[h] - 1] = true;
            if (!crd_find_at(f, "FieldValueDuplicate", &at, crd_show(f->arena, &items[i]), "%s",
                             ""))
                return KL_ENOMEM;
        }
    }
    return 0;
}

static int check_map(struct kl_findings *f, const struct crd_words *s, crd_ref node,
                     const struct crd_path *path, const struct kl_value *v)
{
    const uint32_t *names;
    uint32_t n = crd_list(s, node, CRD_KEYS, &names);
    for (uint32_t i = 0; i < v->n; i++) {
        const struct kl_value *x = &v->items[i];
        struct crd_path at = {.up = path, .index = i};
        if (x->kind != KL_MAP && x->kind != KL_NULL)
            return crd_find_at(f, "FieldValueInvalid", &at, crd_show(f->arena, x),
                               "must be an object for an array of list-type map")
                       ? 0
                       : KL_ENOMEM;
    }
    if (v->n < 2)
        return 0;
    // The keys of each as a map.
    struct kl_value *keys = kl_arena_alloc(f->arena, v->n * sizeof *keys);
    if (!keys)
        return KL_ENOMEM;
    for (uint32_t i = 0; i < v->n; i++) {
        keys[i] = kl_new_map();
        for (uint32_t k = 0; k < n; k++) {
            struct kl_str name = crd_text(s, names[k]);
            const struct kl_value *m = kl_map_value(&v->items[i], name);
            if (m && kl_map_set_value(f->arena, &keys[i], name, *m))
                return KL_ENOMEM;
        }
        // Shown as JSON: by name.
        for (uint32_t x = 1; x < keys[i].n; x++)
            for (uint32_t y = x; y && kl_str_cmp(kl_text(&keys[i].items[2 * y - 2]),
                                                 kl_text(&keys[i].items[2 * y])) > 0;
                 y--) {
                struct kl_value pair[2];
                memcpy(pair, &keys[i].items[2 * y - 2], sizeof pair);
                memcpy(&keys[i].items[2 * y - 2], &keys[i].items[2 * y], sizeof pair);
                memcpy(&keys[i].items[2 * y], pair, sizeof pair);
            }
    }
    return find_doubles(f, path, keys, v->n);
}

int crd_validate_lists(struct kl_findings *f, const struct crd_words *s, crd_ref node,
                       const struct crd_path *path, const struct kl_value *v)
{
    int r = 0;
    if (!node || !(crd_flags(s, node) & CRD_HAS_LISTS))
        return 0;
    if (v->kind == KL_MAP) {
        crd_ref extra = crd_attr(s, node, CRD_EXTRA);
        for (KL_MAP_EACH_KEY(k, v)) {
            crd_ref prop = crd_prop(s, node, kl_text(k));
            struct crd_path at = {.up = path, .name = kl_text(k), .key = !prop};
            r = r ? r : crd_validate_lists(f, s, prop ? prop : extra, &at, k + 1);
        }
        return r;
    }
    if (v->kind != KL_ARRAY)
        return 0;
    crd_ref items = crd_attr(s, node, CRD_ITEMS);
    if (crd_flags(s, node) & CRD_LIST_SET)
        r = find_doubles(f, path, v->items, v->n);
    else if (crd_flags(s, node) & CRD_LIST_MAP)
        r = check_map(f, s, node, path, v);
    for (uint32_t i = 0; !r && i < v->n; i++) {
        struct crd_path at = {.up = path, .index = i};
        r = crd_validate_lists(f, s, items, &at, &v->items[i]);
    }
    return r;
}
