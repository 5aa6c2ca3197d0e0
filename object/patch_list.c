// SPDX-License-Identifier: Apache-2.0
// Strategic merge of lists: by merge key, as sets of scalars, and the order that comes out.
#include "object/patch_smp_int.h"
#include "object/gotext_int.h"

// ---- finding elements by the value of their merge key

struct index_slot {
    const struct kl_value *key;
    uint32_t at;
};

struct index {
    struct index_slot *slots;
    size_t mask;
};

static uint64_t hash_value(const struct kl_value *v)
{
    switch (v->kind) {
    case KL_STRING:
        return kl_str_hash(kl_text(v));
    case KL_INT:
    case KL_FLOAT:
    case KL_BOOL: {
        uint64_t bits = v->kind == KL_BOOL ? v->b : (uint64_t)v->i;
        bits = (bits ^ v->kind) * 0x9E3779B97F4A7C15u;
        return bits ^ (bits >> 32);
    }
    default:
        return v->kind;
    }
}

static int index_open(struct kl_smp *s, struct index *ix, size_t max)
{
    size_t room = 4;
    while (room < 2 * max)
        room *= 2;
    ix->slots = kl_arena_zalloc(s->arena, room * sizeof(*ix->slots));
    ix->mask = room - 1;
    return ix->slots ? 0 : kl_patch_no_memory(s->err);
}

static struct index_slot *index_slot(const struct index *ix, const struct kl_value *key)
{
    size_t i = hash_value(key) & ix->mask;
    while (ix->slots[i].key && !kl_value_equal(ix->slots[i].key, key))
        i = (i + 1) & ix->mask;
    return &ix->slots[i];
}

// Keeps the first of equal keys.
static void index_add(struct index *ix, const struct kl_value *key, size_t at)
{
    struct index_slot *slot = index_slot(ix, key);
    if (!slot->key)
        *slot = (struct index_slot){key, (uint32_t)at};
}

static int64_t index_find(const struct index *ix, const struct kl_value *key)
{
    const struct index_slot *slot = index_slot(ix, key);
    return slot->key ? (int64_t)slot->at : -1;
}

// What an element is known by: itself, or the value of its merge key (NULL when it has none).
static const struct kl_value *key_of(const struct kl_value *item, struct kl_str merge_key,
                                     bool of_maps)
{
    return of_maps ? kl_map_value(item, merge_key) : item;
}

static int index_list(struct kl_smp *s, struct index *ix, const struct kl_value *list,
                      struct kl_str merge_key, bool of_maps)
{
    size_t at = 0;
    if (index_open(s, ix, kl_len(list)))
        return KL_ENOMEM;
    for (KL_EACH(item, list)) {
        const struct kl_value *key = key_of(item, merge_key, of_maps);
        if (key)
            index_add(ix, key, at);
        at++;
    }
    return 0;
}

// ---- errors

int kl_smp_no_merge_key(struct kl_smp *s, const struct kl_value *map, struct kl_str key)
{
    struct kl_buf text;
    kl_buf_init(&text, 2 * KL_GO_TEXT_MAX_BYTES);
    kl_go_print(&text, map);
    kl_error_set(s->err, KL_EINTERNAL, "map: %.*s does not contain declared merge key: %.*s",
                 KL_PRI(kl_buf_str(&text)), KL_PRI(key));
    kl_buf_fini(&text);
    return KL_EINTERNAL;
}

int kl_smp_not_a_map(struct kl_smp *s, const struct kl_value *v)
{
    return kl_error_set(s->err, KL_EINTERNAL,
                        "expected a map[string]interface {}, but received a %s",
                        kl_go_value_type(v));
}

int kl_smp_not_a_list(struct kl_smp *s, const struct kl_value *v)
{
    return kl_error_set(s->err, KL_EINTERNAL, "expected a []interface {}, but received a %s",
                        kl_go_value_type(v));
}

int kl_smp_bad_directive(struct kl_smp *s, const struct kl_value *directive,
                         const struct kl_value *map)
{
    struct kl_buf text;
    kl_buf_init(&text, 2 * KL_GO_TEXT_MAX_BYTES);
    kl_buf_puts(&text, KL_STR("unknown patch type: "));
    kl_go_print_s(&text, directive);
    kl_buf_puts(&text, KL_STR(" in map: "));
    kl_go_print(&text, map);
    kl_error_set(s->err, KL_EINTERNAL, "%.*s", KL_PRI(kl_buf_str(&text)));
    kl_buf_fini(&text);
    return KL_EINTERNAL;
}

static int mixed_elements(struct kl_smp *s, const struct kl_value *a, const struct kl_value *b)
{
    struct kl_buf text;
    kl_buf_init(&text, 4 * KL_GO_TEXT_MAX_BYTES);
    kl_buf_putc(&text, '[');
    kl_go_print(&text, a);
    kl_buf_putc(&text, ' ');
    kl_go_print(&text, b);
    kl_buf_putc(&text, ']');
    kl_error_set(s->err, KL_EINTERNAL, "list element types are not identical: %.*s",
                 KL_PRI(kl_buf_str(&text)));
    kl_buf_fini(&text);
    return KL_EINTERNAL;
}

static const struct kl_value no_items = {.kind = KL_ARRAY};

int kl_smp_element_kind(struct kl_smp *s, const struct kl_value *a, const struct kl_value *b,
                        bool *ret_maps)
{
    const struct kl_value *lists[] = {a ? a : &no_items, b ? b : &no_items}, *first = NULL;
    for (size_t i = 0; i < KL_COUNT(lists); i++) {
        for (KL_EACH(item, lists[i])) {
            if (!first && item->kind == KL_ARRAY)
                return kl_error_set(s->err, KL_EINVALID, "lists of lists are not supported");
            if (item->kind == KL_NULL || (first && item->kind != first->kind))
                return mixed_elements(s, lists[0], lists[1]);
            first = first ? first : item;
        }
    }
    if (!first)
        return kl_error_set(s->err, KL_EINTERNAL, "no elements in any of the given slices");
    *ret_maps = first->kind == KL_MAP;
    return 0;
}

// ---- order

struct ranked {
    struct kl_value v;
    int64_t rank; // place in the list that gives the order, -1 when it is not there
};

// Upstream's comparison: what is not in the order counts as less than anything.
static bool ranked_less(const struct ranked *a, const struct ranked *b)
{
    return a->rank < 0 || b->rank < 0 || a->rank < b->rank;
}

static void insertion_sort(struct ranked *r, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        for (size_t j = i; j > 0 && ranked_less(&r[j], &r[j - 1]); j--) {
            struct ranked t = r[j];
            r[j] = r[j - 1];
            r[j - 1] = t;
        }
    }
}

// Stable. Blocks of 20 are sorted by insertion, as Go's SliceStable does, because with elements
// that have no rank the outcome depends on it.
static void sort_ranked(struct ranked *r, struct ranked *tmp, size_t n)
{
    if (n <= 20) {
        insertion_sort(r, n);
        return;
    }
    size_t half = n / 2, i = 0, j = half, k = 0;
    sort_ranked(r, tmp, half);
    sort_ranked(r + half, tmp, n - half);
    while (i < half && j < n)
        tmp[k++] = ranked_less(&r[j], &r[i]) ? r[j++] : r[i++];
    while (i < half)
        tmp[k++] = r[i++];
    while (j < n)
        tmp[k++] = r[j++];
    memcpy(r, tmp, n * sizeof(*r));
}

static int check_merge_keys(struct kl_smp *s, const struct kl_value *list, struct kl_str merge_key)
{
    for (KL_EACH(item, list)) {
        if (item->kind != KL_MAP)
            return kl_smp_not_a_map(s, item);
        if (!kl_map_value(item, merge_key))
            return kl_smp_no_merge_key(s, item, merge_key);
    }
    return 0;
}

// Sorts by rank; elements that are deletions go last.
static int normalize(struct kl_smp *s, struct ranked *items, size_t n, const struct kl_value *order,
                     struct kl_str merge_key, bool of_maps)
{
    size_t kept = 0, deleted = 0;
    struct ranked *tmp = n ? kl_arena_alloc(s->arena, n * sizeof(*tmp)) : NULL;
    if (n && !tmp)
        return kl_patch_no_memory(s->err);
    if (of_maps) {
        for (size_t i = 0; i < n; i++)
            if (!kl_map_value(&items[i].v, merge_key))
                return items[i].v.kind == KL_MAP ? kl_smp_no_merge_key(s, &items[i].v, merge_key)
                                                 : kl_smp_not_a_map(s, &items[i].v);
        int r = check_merge_keys(s, order, merge_key);
        if (r)
            return r;
        for (size_t i = 0; i < n; i++) {
            if (kl_smp_is_text(kl_smp_directive(&items[i].v), "delete"))
                tmp[deleted++] = items[i];
            else
                items[kept++] = items[i];
        }
        if (deleted)
            memcpy(&items[kept], tmp, deleted * sizeof(*tmp));
        n = kept;
    }
    sort_ranked(items, tmp, n);
    return 0;
}

// Whether `wanted` names this element; elements of a list by merge key must be maps that have it.
static int is_wanted(struct kl_smp *s, const struct index *wanted, const struct kl_value *list,
                     const struct kl_value *item, struct kl_str merge_key, int64_t *ret_at)
{
    const struct kl_value *key = item;
    if (merge_key.n) {
        if (item->kind != KL_MAP)
            return kl_smp_not_a_map(s, item);
        key = kl_map_value(item, merge_key);
        if (!key)
            return kl_smp_no_merge_key(s, item, merge_key);
        size_t at = 0;
        for (KL_EACH(w, list)) {
            if (w->kind != KL_MAP)
                return kl_error_set(s->err, KL_EINTERNAL, "value for key %zu is not a map", at);
            at++;
        }
    }
    *ret_at = index_find(wanted, key);
    return 0;
}

int kl_smp_order_list(struct kl_smp *s, const struct kl_value *merged,
                      const struct kl_value *wanted, const struct kl_value *order,
                      struct kl_str merge_key, bool of_maps, struct kl_value *ret)
{
    struct index by_wanted, by_order;
    size_t n = merged->n, nleft = 0, nright = 0;
    struct ranked *left = kl_arena_alloc(s->arena, (n + 1) * sizeof(*left)); // server only
    struct ranked *right = kl_arena_alloc(s->arena, (n + 1) * sizeof(*right));
    struct kl_value *out = kl_arena_alloc(s->arena, (n + 1) * sizeof(*out));
    if (!left || !right || !out)
        return kl_patch_no_memory(s->err);
    if (index_list(s, &by_wanted, wanted, merge_key, merge_key.n > 0) ||
        index_list(s, &by_order, order, merge_key, of_maps))
        return KL_ENOMEM;
    // one check of the whole list is enough
    const struct kl_value *unchecked = wanted;
    for (KL_EACH(item, merged)) {
        int64_t at = -1;
        int r = is_wanted(s, &by_wanted, unchecked, item, merge_key, &at);
        if (r)
            return r;
        unchecked = NULL;
        const struct kl_value *key = key_of(item, merge_key, of_maps);
        if (at >= 0)
            right[nright++] = (struct ranked){*item, at};
        else
            left[nleft++] = (struct ranked){*item, key ? index_find(&by_order, key) : -1};
    }
    int r = normalize(s, right, nright, wanted, merge_key, of_maps);
    if (!r)
        r = normalize(s, left, nleft, order, merge_key, of_maps);
    if (r)
        return r;
    for (size_t i = 0; i < nright; i++) {
        const struct kl_value *key = key_of(&right[i].v, merge_key, of_maps);
        right[i].rank = key ? index_find(&by_order, key) : -1;
    }
    for (size_t i = 0, j = 0, k = 0; k < n; k++) {
        bool take_left = j >= nright || (i < nleft && left[i].rank >= 0 && right[j].rank >= 0 &&
                                         left[i].rank < right[j].rank);
        out[k] = take_left ? left[i++].v : right[j++].v;
        out[k].owned = 0;
    }
    *ret = (struct kl_value){.kind = KL_ARRAY, .n = (uint32_t)n, .items = out};
    return 0;
}

// ---- merging

static int copy_items(struct kl_smp *s, const struct kl_value *list, size_t extra,
                      struct kl_value *ret)
{
    size_t n = kl_len(list);
    *ret = (struct kl_value){.kind = KL_ARRAY, .n = (uint32_t)n};
    if (n + extra == 0)
        return 0;
    ret->items = kl_arena_alloc(s->arena, (n + extra) * sizeof(*ret->items));
    if (!ret->items)
        return kl_patch_no_memory(s->err);
    for (size_t i = 0; i < n; i++) {
        ret->items[i] = list->items[i];
        ret->items[i].owned = 0;
    }
    return 0;
}

// Keeps in `list` what `drop` does not have (by_key: by the value of that member).
static void drop_items(struct kl_value *list, const struct index *drop, struct kl_str merge_key,
                       bool of_maps)
{
    uint32_t out = 0;
    for (uint32_t i = 0; i < list->n; i++) {
        const struct kl_value *key = key_of(&list->items[i], merge_key, of_maps);
        if (!key || index_find(drop, key) < 0)
            list->items[out++] = list->items[i];
    }
    list->n = out;
}

static int merge_scalars(struct kl_smp *s, struct kl_value *original, const struct kl_value *patch,
                         bool delete_list, struct kl_value *ret)
{
    struct index seen;
    if (delete_list) {
        if (index_list(s, &seen, patch, KL_STR(""), false))
            return KL_ENOMEM;
        drop_items(original, &seen, KL_STR(""), false);
        *ret = *original;
        return 0;
    }
    struct kl_value all;
    if (index_open(s, &seen, kl_len(original) + kl_len(patch)) ||
        copy_items(s, original, kl_len(patch), &all))
        return KL_ENOMEM;
    for (KL_EACH(item, patch)) {
        all.items[all.n] = *item;
        all.items[all.n++].owned = 0;
    }
    uint32_t out = 0;
    for (uint32_t i = 0; i < all.n; i++) {
        if (index_find(&seen, &all.items[i]) >= 0)
            continue;
        all.items[out] = all.items[i];
        index_add(&seen, &all.items[out], out);
        out++;
    }
    all.n = out;
    *ret = all;
    return 0;
}

// Takes the elements with a $patch directive out of the patch and applies them to the original.
static int apply_directives(struct kl_smp *s, struct kl_value *original, struct kl_value *patch,
                            struct kl_str merge_key, bool *ret_replaced)
{
    struct index deleted;
    uint32_t out = 0;
    bool replace = false, any_deleted = false;
    if (index_open(s, &deleted, patch->n))
        return KL_ENOMEM;
    for (uint32_t i = 0; i < patch->n; i++) {
        const struct kl_value *item = &patch->items[i], *key;
        const struct kl_value *directive = kl_smp_directive(item);
        if (!directive) {
            patch->items[out++] = *item;
        } else if (kl_smp_is_text(directive, "delete")) {
            key = kl_map_value(item, merge_key);
            if (!key)
                return kl_smp_no_merge_key(s, item, merge_key);
            index_add(&deleted, key, i);
            any_deleted = true;
        } else if (kl_smp_is_text(directive, "replace")) {
            replace = true;
        } else if (kl_smp_is_text(directive, "merge")) {
            return kl_error_set(s->err, KL_EINTERNAL,
                                "merging lists cannot yet be specified in the patch");
        } else {
            return kl_smp_bad_directive(s, directive, item);
        }
    }
    patch->n = out;
    *ret_replaced = replace;
    if (replace) {
        *original = *patch;
        *patch = no_items;
    } else if (any_deleted) {
        drop_items(original, &deleted, merge_key, true);
    }
    return 0;
}

static int merge_maps(struct kl_smp *s, const struct kl_value *original,
                      const struct kl_value *patch, const struct kl_smp_field *field,
                      struct kl_value *ret)
{
    struct index by_key;
    struct kl_value all;
    if (index_open(s, &by_key, kl_len(original) + kl_len(patch)) ||
        copy_items(s, original, kl_len(patch), &all))
        return KL_ENOMEM;
    for (uint32_t i = 0; i < all.n; i++) {
        // the key's node is the original's: merging replaces all.items[i], not what it pointed to
        const struct kl_value *key = kl_map_value(&original->items[i], field->merge_key);
        if (key)
            index_add(&by_key, key, i);
    }
    for (KL_EACH(item, patch)) {
        const struct kl_value *key = kl_map_value(item, field->merge_key);
        if (!key)
            return kl_smp_no_merge_key(s, item, field->merge_key);
        int64_t at = index_find(&by_key, key);
        if (at < 0) {
            index_add(&by_key, key, all.n);
            all.items[all.n] = *item;
            all.items[all.n++].owned = 0;
            continue;
        }
        struct kl_value merged;
        int r = kl_smp_merge_map(s, &all.items[at], item, field->type, &merged);
        if (r)
            return r;
        all.items[at] = merged;
    }
    *ret = all;
    return 0;
}

int kl_smp_merge_list(struct kl_smp *s, const struct kl_value *original,
                      const struct kl_value *patch, const struct kl_smp_field *field,
                      bool delete_list, struct kl_value *ret, struct kl_value *ret_order)
{
    struct kl_value have, wanted, merged;
    bool of_maps, replaced = false;
    if (copy_items(s, original, 0, &have) || copy_items(s, patch, 0, &wanted))
        return KL_ENOMEM;
    *ret_order = have;
    if (!field->merge && !delete_list) {
        *ret = wanted;
        return 0;
    }
    if (have.n == 0 && wanted.n == 0) {
        *ret = have;
        return 0;
    }
    int r = kl_smp_element_kind(s, &have, &wanted, &of_maps);
    if (r)
        return r;
    if (!of_maps) {
        r = merge_scalars(s, &have, &wanted, delete_list, &merged);
        if (r || delete_list) {
            *ret = merged;
            return r;
        }
    } else {
        if (!field->merge_key.n)
            return kl_error_set(s->err, KL_EINTERNAL, "cannot merge lists without merge key for %s",
                                kl_smp_go_kind(field->type));
        r = apply_directives(s, &have, &wanted, field->merge_key, &replaced);
        if (!r)
            r = merge_maps(s, &have, &wanted, field, &merged);
        if (r)
            return r;
        // Upstream's list is changed in place: as far as it had room, what was added took the
        // places of what was deleted and has a place in the order, too.
        if (!replaced) {
            *ret_order = merged;
            ret_order->n = original->n < merged.n ? original->n : merged.n;
        }
    }
    return kl_smp_order_list(s, &merged, &wanted, &have, field->merge_key, of_maps, ret);
}
