// SPDX-License-Identifier: Apache-2.0
#include "object/patch_int.h"
#include <stdlib.h>

// Up to this many members a search from the start is as fast as any.
enum { SMALL = 16 };

int kl_patch_no_memory(struct kl_error *err)
{
    return kl_error_set(err, KL_ENOMEM, "out of memory");
}

static int compare_keys(const void *a, const void *b)
{
    return kl_str_cmp(kl_text(a), kl_text(b));
}

int kl_patch_map_open(struct kl_arena *a, const struct kl_value *src, size_t extra,
                      struct kl_patch_map *ret)
{
    size_t n = kl_is(src, KL_MAP) ? src->n : 0;
    *ret = (struct kl_patch_map){.nhead = (uint32_t)n, .n = (uint32_t)n};
    if (n + extra == 0)
        return 0;
    if (n + extra > UINT32_MAX / 2)
        return KL_ENOMEM;
    ret->items = kl_arena_alloc(a, (n + extra) * 2 * sizeof(*ret->items));
    if (!ret->items)
        return KL_ENOMEM;
    ret->cap = (uint32_t)(n + extra);
    bool sorted = true;
    for (size_t i = 0; i < 2 * n; i++) {
        ret->items[i] = src->items[i];
        ret->items[i].owned = 0;
        ret->items[i].spare = 0;
        if (i >= 2 && i % 2 == 0)
            sorted = sorted && compare_keys(&src->items[i - 2], &src->items[i]) < 0;
    }
    if (n > SMALL && !sorted)
        qsort(ret->items, n, 2 * sizeof(*ret->items), compare_keys);
    return 0;
}

static struct kl_value *find_between(struct kl_patch_map *m, size_t from, size_t to,
                                     struct kl_str key)
{
    for (size_t i = from; i < to; i++) {
        struct kl_value *pair = &m->items[2 * i];
        if (!pair->spare && kl_str_eq(kl_text(pair), key))
            return pair + 1;
    }
    return NULL;
}

struct kl_value *kl_patch_map_find(struct kl_patch_map *m, struct kl_str key, bool also_new)
{
    struct kl_value *found = NULL;
    if (m->nhead <= SMALL) {
        found = find_between(m, 0, m->nhead, key);
    } else {
        size_t low = 0, high = m->nhead;
        while (low < high) {
            size_t mid = low + (high - low) / 2;
            int c = kl_str_cmp(kl_text(&m->items[2 * mid]), key);
            if (c == 0) {
                found = m->items[2 * mid].spare ? NULL : &m->items[2 * mid + 1];
                break;
            }
            if (c < 0)
                low = mid + 1;
            else
                high = mid;
        }
    }
    return found || !also_new ? found : find_between(m, m->nhead, m->n, key);
}

void kl_patch_map_put(struct kl_patch_map *m, const struct kl_value *key, struct kl_value value)
{
    struct kl_value *pair = &m->items[2 * (size_t)m->n++];
    pair[0] = *key;
    pair[0].owned = 0;
    pair[0].spare = 0;
    pair[1] = value;
    pair[1].owned = 0;
}

void kl_patch_map_drop(struct kl_value *found)
{
    found[-1].spare = 1;
}

bool kl_patch_map_dropped(const struct kl_value *key)
{
    return key->spare;
}

struct kl_value kl_patch_map_close(struct kl_patch_map *m)
{
    uint32_t out = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        if (m->items[2 * (size_t)i].spare)
            continue;
        if (out != i)
            memcpy(&m->items[2 * (size_t)out], &m->items[2 * (size_t)i], 2 * sizeof(*m->items));
        out++;
    }
    return (struct kl_value){.kind = KL_MAP, .n = out, .items = m->items};
}
