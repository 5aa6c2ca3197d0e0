// SPDX-License-Identifier: Apache-2.0
// A patch of some members: only these go from typed to untyped and back.
//
// What a merge patch names, or a strategic one without directives at the level of structs, are the
// members that it may change, and what becomes of one depends on nothing else in the object. So a
// part is cut out of the object along the patch, patched as a whole object would be, and put back.
#include "object/patch.h"

static bool is_struct(const struct kl_field *f, const struct kl_value *have,
                      const struct kl_value *patch)
{
    return f->type->kind == KL_T_STRUCT && !(f->flags & KL_FIELD_PATCH_REPLACE) &&
           kl_is(have, KL_STRUCT) && kl_is(patch, KL_MAP);
}

// The members that the patch names, those of structs in both down to where one is none. False where
// a name is no field's, or there is no memory.
static bool cut(struct kl_arena *a, const struct kl_type *t, const struct kl_value *v,
                const struct kl_value *patch, struct kl_value *ret)
{
    *ret = kl_new_struct();
    for (KL_MAP_EACH_KEY(kv, patch)) {
        const struct kl_field *f = kl_type_field_named(t, kl_text(kv));
        const struct kl_value *have = f ? kl_get(v, f->sym) : NULL;
        struct kl_value part;
        if (!f)
            return false;
        if (!have)
            continue;
        if (!is_struct(f, have, kv + 1))
            part = *have;
        else if (!cut(a, f->type, have, kv + 1, &part))
            return false;
        part.owned = 0;
        if (kl_set(a, ret, f->sym, part))
            return false;
    }
    return true;
}

static int put_back(struct kl_arena *a, const struct kl_type *t, const struct kl_value *part,
                    const struct kl_value *patch, struct kl_value *draft)
{
    int rc = 0;
    for (KL_MAP_EACH_KEY(kv, patch)) {
        const struct kl_field *f = kl_type_field_named(t, kl_text(kv));
        const struct kl_value *is = kl_get(part, f->sym);
        if (is && is_struct(f, kl_get(draft, f->sym), kv + 1)) {
            struct kl_value *below = kl_edit(a, draft, f->sym, KL_STRUCT);
            rc = below ? put_back(a, f->type, is, kv + 1, below) : KL_ENOMEM;
        } else {
            rc = is ? kl_set(a, draft, f->sym, *is) : kl_unset(a, draft, f->sym);
        }
        if (rc)
            return rc;
    }
    return 0;
}

bool kl_patch_in_part(struct kl_arena *a, const struct kl_type *type, bool strategic,
                      const struct kl_value *typed, const struct kl_value *patch,
                      struct kl_value *ret)
{
    struct kl_error err;
    struct kl_strict strict;
    struct kl_value part, was, now;
    strict.n = 0;
    if (type->custom || !kl_is(patch, KL_MAP) || kl_map_value(patch, KL_STR("apiVersion")) ||
        kl_map_value(patch, KL_STR("kind")) || !cut(a, type, typed, patch, &part) ||
        kl_untyped_from_typed(a, type, &part, &was))
        return false;
    int rc = strategic ? kl_patch_strategic(a, type, &was, patch, &now, &err)
                       : kl_patch_merge(a, &was, patch, &now, &err);
    if (rc || kl_typed_from_untyped(a, type, &now, &strict, &part, &err) || strict.n)
        return false;
    struct kl_value draft = *typed;
    draft.owned = 0;
    if (put_back(a, type, &part, patch, &draft))
        return false;
    *ret = draft;
    return true;
}
