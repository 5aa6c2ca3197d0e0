// SPDX-License-Identifier: Apache-2.0
// One level of a tree that is copied because something in it changes.
#include "object/crd/crd_int.h"

struct kl_value *crd_own_items(struct kl_arena *a, const struct kl_value *v, uint32_t n)
{
    size_t width = v->kind == KL_MAP ? 2 : 1;
    struct kl_value *items = kl_arena_alloc(a, width * v->n * sizeof *items);
    for (size_t i = 0; items && i < width * n; i++) {
        items[i] = v->items[i];
        items[i].owned = 0;
    }
    return items;
}
