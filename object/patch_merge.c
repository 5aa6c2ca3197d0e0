// SPDX-License-Identifier: Apache-2.0
// JSON merge patch (RFC 7386), with evanphx/json-patch's treatment of nulls in what is added.
#include "object/patch_int.h"
#include "object/json_kind.h"

struct merge {
    struct kl_arena *arena;
    int err; // KL_ENOMEM once it happened
};

static bool holds_null(const struct kl_value *v)
{
    if (v->kind == KL_ARRAY) {
        for (uint32_t i = 0; i < v->n; i++)
            if (holds_null(&v->items[i]))
                return true;
    } else if (v->kind == KL_MAP) {
        for (KL_MAP_EACH_KEY(key, v))
            if (key[1].kind == KL_NULL || holds_null(key + 1))
                return true;
    }
    return false;
}

static struct kl_value copy_without_nulls(struct merge *m, const struct kl_value *v)
{
    size_t per = v->kind == KL_MAP ? 2 : 1;
    struct kl_value out = {.kind = v->kind};
    out.items = kl_arena_alloc(m->arena, per * v->n * sizeof(*out.items));
    if (!out.items) {
        m->err = KL_ENOMEM;
        return kl_null();
    }
    for (size_t i = 0; i < v->n; i++) {
        const struct kl_value *from = &v->items[per * i + per - 1];
        struct kl_value *to = &out.items[per * out.n];
        if (per == 2 && from->kind == KL_NULL)
            continue; // nulls of lists stay
        if (per == 2)
            *to++ = from[-1];
        *to = *from;
        to->owned = 0;
        if (from->kind == KL_MAP || from->kind == KL_ARRAY)
            *to = copy_without_nulls(m, from);
        out.n++;
    }
    return out;
}

// What stands for a value that is new in the document: no object in it has null members.
static struct kl_value without_nulls(struct merge *m, const struct kl_value *v)
{
    struct kl_value same = *v;
    same.owned = 0;
    if (v->kind != KL_MAP && v->kind != KL_ARRAY)
        return same;
    return holds_null(v) ? copy_without_nulls(m, v) : same;
}

static struct kl_value merge_value(struct merge *m, const struct kl_value *doc,
                                   const struct kl_value *patch)
{
    if (doc->kind != KL_MAP)
        return without_nulls(m, patch);
    if (patch->kind != KL_MAP) {
        struct kl_value same = *patch;
        same.owned = 0;
        return same;
    }
    struct kl_patch_map out;
    if (kl_patch_map_open(m->arena, doc, patch->n, &out)) {
        m->err = KL_ENOMEM;
        return kl_null();
    }
    for (KL_MAP_EACH_KEY(key, patch)) {
        struct kl_value *have = kl_patch_map_find(&out, kl_text(key), false);
        if (key[1].kind == KL_NULL) {
            if (have)
                kl_patch_map_drop(have);
        } else if (!have) {
            kl_patch_map_put(&out, key, without_nulls(m, key + 1));
        } else if (have->kind == KL_NULL) {
            *have = without_nulls(m, key + 1);
        } else {
            *have = merge_value(m, have, key + 1);
        }
        if (m->err)
            return kl_null();
    }
    return kl_patch_map_close(&out);
}

int kl_patch_merge(struct kl_arena *a, const struct kl_value *untyped, const struct kl_value *patch,
                   struct kl_value *ret, struct kl_error *err)
{
    struct merge m = {.arena = a};
    if (!patch || patch->kind == KL_NULL)
        return kl_error_set(err, KL_EBADREQUEST, "Invalid JSON Patch");
    if (patch->kind != KL_MAP)
        return kl_error_set(err, KL_EBADREQUEST,
                            "error decoding patch: json: cannot unmarshal %s into Go value of type "
                            "map[string]interface {}",
                            kl_json_kind(patch));
    if (!kl_is(untyped, KL_MAP))
        return kl_error_set(err, KL_EINTERNAL, "Invalid JSON Document");
    struct kl_value out = merge_value(&m, untyped, patch);
    if (m.err)
        return kl_patch_no_memory(err);
    *ret = out;
    return 0;
}
