// SPDX-License-Identifier: Apache-2.0
// Fields behind a feature gate that is off: dropped on write unless the stored object has them.
#include "object/defaults_int.h"
#include "object/gates.h"

// Whether any value of the type in or below v has the field: an object that uses a field once keeps
// it everywhere, as upstream's "in use" checks do.
static bool uses(const struct kl_gated_row *rows, const struct kl_value *v, uint16_t row,
                 uint16_t wanted, uint32_t sym)
{
    const struct kl_gated_row *r = &rows[row];
    if (!v || v->kind != KL_STRUCT)
        return false;
    if (row == wanted && kl_get(v, sym))
        return true;
    for (uint8_t i = 0; i < r->nsteps; i++) {
        const struct kl_value *child = kl_get(v, r->steps[i].sym);
        size_t width = r->steps[i].shape == KL_WALK_MAP ? 2 : 1;
        if (!child || r->steps[i].shape == KL_WALK_GATED)
            continue;
        if (r->steps[i].shape == KL_WALK_STRUCT) {
            if (uses(rows, child, r->steps[i].row, wanted, sym))
                return true;
            continue;
        }
        for (size_t j = 0; j < kl_len(child); j++)
            if (uses(rows, &child->items[width * j + width - 1], r->steps[i].row, wanted, sym))
                return true;
    }
    return false;
}

struct gate_walk {
    const struct kl_gated_row *rows;
    const struct kl_gate_set *gates; // NULL: all in rows are off
    const struct kl_value *old;
    uint16_t root;
};

static bool is_off(const struct gate_walk *w, uint16_t type, uint32_t sym)
{
    const struct kl_field *f = w->gates ? kl_type_field(&kl_type_table[type], sym) : NULL;
    return !f || (f->gate && !kl_gate_on(w->gates, (uint16_t)(f->gate - 1)));
}

static void drop(struct gate_walk *w, struct kl_default_node *n, uint16_t row)
{
    const struct kl_gated_row *r = &w->rows[row];
    if (!n->v || n->v->kind != KL_STRUCT)
        return;
    for (uint8_t i = 0; i < r->nsteps; i++) {
        const struct kl_walk_step *step = &r->steps[i];
        const struct kl_value *v = kl_get(n->v, step->sym);
        if (!v)
            continue;
        if (step->shape == KL_WALK_GATED) {
            if (is_off(w, r->type, step->sym) && !uses(w->rows, w->old, w->root, row, step->sym))
                kl_default_unset(n, step->sym);
        } else if (step->shape == KL_WALK_STRUCT) {
            struct kl_default_node child = kl_default_in(n, step->sym, KL_STRUCT);
            drop(w, &child, step->row);
        } else if (step->shape == KL_WALK_ARRAY) {
            struct kl_default_node list = kl_default_in(n, step->sym, KL_ARRAY);
            for (size_t j = 0; j < kl_len(list.v); j++) {
                struct kl_default_node item = kl_default_at(&list, j);
                drop(w, &item, step->row);
            }
        } else {
            struct kl_default_node map = kl_default_in(n, step->sym, KL_MAP);
            for (size_t j = 0; j < kl_len(map.v); j++) {
                const struct kl_value *key = &map.v->items[2 * j];
                struct kl_default_node value = {.ctx = n->ctx,
                                                .up = &map,
                                                .v = key + 1,
                                                .key = kl_text(key),
                                                .kind = KL_STRUCT};
                drop(w, &value, step->row);
            }
        }
    }
}

void kl_drop_gated(struct kl_arena *a, const struct kl_type *type, struct kl_value *draft,
                   const struct kl_value *old, const struct kl_gate_set *gates)
{
    size_t index = (size_t)(type - kl_type_table);
    bool changed = gates && gates->changed;
    const uint16_t *row_of = changed ? kl_switched_row_of : kl_gated_row_of;
    if (!kl_type_is_builtin(type) || index >= KL_TYPE_NAMED_END || !row_of[index])
        return;
    struct kl_default_ctx ctx = {.arena = a};
    struct kl_default_node root = {.ctx = &ctx, .v = draft, .root = draft, .kind = KL_STRUCT};
    struct gate_walk w = {.rows = changed ? kl_switched_rows : kl_gated_rows,
                          .gates = changed ? gates : NULL,
                          .old = old,
                          .root = row_of[index]};
    drop(&w, &root, w.root);
}
