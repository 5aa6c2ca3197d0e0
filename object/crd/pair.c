// SPDX-License-Identifier: Apache-2.0
// Old values beside new ones, as far as a schema says which belong together
// (apiserver pkg/cel/common: CorrelatedObject, MapList).
#include "object/apply/typed.h"
#include "object/crd/crd_int.h"

enum { FEW = 16 };

const struct kl_value *crd_old_value(const struct kl_value *map, struct kl_str key)
{
    uint32_t low = 0, high;
    if (!kl_is(map, KL_MAP) || map->n <= FEW)
        return kl_map_value(map, key);
    high = map->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct kl_value *at = &map->items[2 * (size_t)mid];
        int c = kl_str_cmp(key, kl_text(at));
        if (c == 0)
            return at + 1;
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

static bool is_sorted(const struct kl_value *v)
{
    for (uint32_t i = 0; v->kind == KL_ARRAY && i < v->n; i++)
        if (v->items[i].kind >= KL_ARRAY && !is_sorted(&v->items[i]))
            return false;
    for (uint32_t i = 0; v->kind == KL_MAP && i < v->n; i++) {
        const struct kl_value *at = &v->items[2 * (size_t)i];
        if (i && v->n > FEW && kl_str_cmp(kl_text(at - 2), kl_text(at)) >= 0)
            return false;
        if (at[1].kind >= KL_ARRAY && !is_sorted(at + 1))
            return false;
    }
    return true;
}

int crd_sort_old(struct kl_arena *a, struct kl_value *v)
{
    return is_sorted(v) ? 0 : kl_typed_sort(a, v);
}

static bool is_scalar(const struct kl_value *v)
{
    return v && v->kind >= KL_BOOL && v->kind <= KL_STRING && v->kind != KL_TIME;
}

// Hashes an item by the keys of the list. False: it has not all of them.
static bool hash_keys(const struct crd_words *s, crd_ref list, const struct kl_value *item,
                      uint32_t *ret)
{
    const uint32_t *keys;
    uint32_t n = crd_list(s, list, CRD_KEYS, &keys);
    uint64_t h = 1469598103934665603u;
    if (!item || item->kind != KL_MAP)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        const struct kl_value *v = kl_map_value(item, crd_text(s, keys[i]));
        if (!is_scalar(v))
            return false;
        uint64_t part = v->kind == KL_STRING ? kl_str_hash(kl_text(v))
                        : v->kind == KL_BOOL ? v->b
                                             : kl_str_hash((struct kl_str){(const char *)&v->i, 8});
        h = (h ^ part ^ v->kind) * 1099511628211u;
    }
    *ret = (uint32_t)(h >> 32);
    return n > 0;
}

static bool same_keys(const struct crd_words *s, crd_ref list, const struct kl_value *x,
                      const struct kl_value *y)
{
    const uint32_t *keys;
    uint32_t n = crd_list(s, list, CRD_KEYS, &keys);
    for (uint32_t i = 0; i < n; i++) {
        struct kl_str key = crd_text(s, keys[i]);
        if (!kl_value_equal(kl_map_value(x, key), kl_map_value(y, key)))
            return false;
    }
    return true;
}

static bool is_map_list(const struct crd_pair *p)
{
    return (crd_flags(p->s, p->node) & (CRD_LIST_MAP | CRD_ARRAY)) == (CRD_LIST_MAP | CRD_ARRAY) &&
           crd_attr(p->s, p->node, CRD_KEYS);
}

static bool make_index(struct kl_arena *a, struct crd_pair *p)
{
    uint32_t cap = 8, h;
    while (cap < 2 * p->old->n)
        cap *= 2;
    uint32_t *index = kl_arena_zalloc(a, cap * sizeof *index);
    if (!index)
        return false;
    for (uint32_t i = 0; i < p->old->n; i++) {
        const struct kl_value *item = &p->old->items[i];
        if (!hash_keys(p->s, p->node, item, &h))
            continue;
        for (h &= cap - 1; index[h]; h = (h + 1) & (cap - 1))
            if (same_keys(p->s, p->node, &p->old->items[index[h] - 1], item))
                break;
        if (!index[h])
            index[h] = i + 1;
    }
    p->index = index;
    p->mask = cap - 1;
    return true;
}

const struct kl_value *crd_pair_old_item(struct kl_arena *a, struct crd_pair *p,
                                         const struct kl_value *item)
{
    uint32_t h;
    if (!kl_is(p->old, KL_ARRAY) || !is_map_list(p) || !hash_keys(p->s, p->node, item, &h) ||
        (!p->index && !make_index(a, p)))
        return NULL;
    for (h &= p->mask; p->index[h]; h = (h + 1) & p->mask) {
        const struct kl_value *old = &p->old->items[p->index[h] - 1];
        if (same_keys(p->s, p->node, old, item))
            return old;
    }
    return NULL;
}

bool crd_pair_key(const struct crd_pair *p, struct kl_str name, const struct kl_value *now,
                  struct crd_pair *ret)
{
    const struct kl_value *old = p && p->node ? crd_old_value(p->old, name) : NULL;
    crd_ref node = old && kl_is(p->now, KL_MAP) ? crd_member(p->s, p->node, name) : 0;
    if (!node)
        return false;
    *ret = (struct crd_pair){.s = p->s, .node = node, .now = now, .old = old};
    return true;
}

bool crd_pair_item(struct kl_arena *a, struct crd_pair *p, const struct kl_value *now,
                   struct crd_pair *ret)
{
    crd_ref items = p && p->node ? crd_attr(p->s, p->node, CRD_ITEMS) : 0;
    const struct kl_value *old = items ? crd_pair_old_item(a, p, now) : NULL;
    if (!old)
        return false;
    *ret = (struct crd_pair){.s = p->s, .node = items, .now = now, .old = old};
    return true;
}

static bool arrays_equal(struct kl_arena *a, struct crd_pair *p)
{
    if (p->now->n != p->old->n)
        return false;
    if (!(crd_flags(p->s, p->node) & CRD_LIST_MAP))
        return kl_value_equal(p->now, p->old);
    for (uint32_t i = 0; i < p->now->n; i++) {
        struct crd_pair item;
        if (!crd_pair_item(a, p, &p->now->items[i], &item) || !crd_pair_equal(a, &item))
            return false;
    }
    return true;
}

static bool maps_equal(struct kl_arena *a, struct crd_pair *p)
{
    if (p->now->n != p->old->n)
        return false;
    for (KL_MAP_EACH_KEY(k, p->now)) {
        struct crd_pair member;
        if (!crd_pair_key(p, kl_text(k), k + 1, &member) || !crd_pair_equal(a, &member))
            return false;
    }
    return true;
}

bool crd_pair_equal(struct kl_arena *a, struct crd_pair *p)
{
    if (!p)
        return false;
    bool no = !p->now || p->now->kind == KL_NULL, not_old = !p->old || p->old->kind == KL_NULL;
    if (no || not_old)
        return no && not_old;
    if (p->now->kind != p->old->kind)
        return false;
    if (p->now->kind == KL_ARRAY)
        return arrays_equal(a, p);
    if (p->now->kind == KL_MAP)
        return maps_equal(a, p);
    return kl_value_equal(p->now, p->old);
}
