// SPDX-License-Identifier: Apache-2.0
// Defaults of a schema (apiserver/schema/defaulting/algorithm.go). A level that gets something is
// copied; what has no defaults below it is not looked at.
#include "object/crd/crd_int.h"

// A null that its default takes the place of.
static bool is_refused_null(const struct crd_words *s, crd_ref node, const struct kl_value *v)
{
    return v->kind == KL_NULL && node && !(crd_flags(s, node) & CRD_NULLABLE) &&
           crd_attr(s, node, CRD_DEFAULT);
}

// The default of a node; null where it has none.
static int default_of(struct kl_arena *a, const struct crd_words *s, crd_ref node,
                      struct kl_value *ret)
{
    struct kl_str text = crd_attr_text(s, node, CRD_DEFAULT);
    struct kl_error ignored;
    *ret = kl_null();
    return text.n ? kl_json_parse(a, text, NULL, ret, &ignored) : 0;
}

// A node's own default or one below it may apply.
static bool matters(const struct crd_words *s, crd_ref node)
{
    return node && ((crd_flags(s, node) & CRD_HAS_DEFAULTS) || crd_attr(s, node, CRD_DEFAULT) != 0);
}

static int default_items(struct kl_arena *a, const struct crd_words *s, crd_ref node,
                         const struct kl_value *v, struct kl_value *ret, bool *ret_changed)
{
    crd_ref below = crd_attr(s, node, CRD_ITEMS);
    struct kl_value *items = NULL;
    if (!below)
        return 0;
    for (uint32_t i = 0; i < v->n; i++) {
        struct kl_value value = v->items[i];
        bool changed = is_refused_null(s, below, &value), deeper = false;
        int r = changed ? default_of(a, s, below, &value) : 0;
        struct kl_value filled = value;
        r = r ? r : crd_default(a, s, below, &value, &filled, &deeper);
        if (r)
            return r;
        if (!changed && !deeper)
            continue;
        if (!items) {
            items = crd_own_items(a, v, v->n);
            if (!items)
                return KL_ENOMEM;
        }
        items[i] = filled;
        items[i].owned = 0;
    }
    if (items) {
        *ret = kl_new_array();
        ret->items = items;
        ret->n = v->n;
        *ret_changed = true;
    }
    return 0;
}

// Members that are not there and have a default; those that are there and are refused nulls.
static int add_members(struct kl_arena *a, const struct crd_words *s, crd_ref node,
                       struct kl_value *map, bool *ret_changed)
{
    for (uint32_t i = 0; i < crd_nprops(s, node); i++) {
        crd_ref prop = crd_prop_node(s, node, i);
        struct kl_str name = crd_prop_name(s, node, i);
        struct kl_value preset;
        if (!crd_attr(s, prop, CRD_DEFAULT))
            continue;
        const struct kl_value *is = kl_map_value(map, name);
        if (is && !is_refused_null(s, prop, is))
            continue;
        if (default_of(a, s, prop, &preset) || kl_map_set_value(a, map, name, preset))
            return KL_ENOMEM;
        *ret_changed = true;
    }
    return 0;
}

static int default_members(struct kl_arena *a, const struct crd_words *s, crd_ref node,
                           const struct kl_value *v, struct kl_value *ret, bool *ret_changed)
{
    struct kl_value map = *v;
    bool changed = false;
    map.owned = 0;
    int r = add_members(a, s, node, &map, &changed);
    for (uint32_t i = 0; !r && i < map.n; i++) {
        struct kl_str name = kl_text(&map.items[2 * (size_t)i]);
        struct kl_value value = map.items[2 * (size_t)i + 1], filled;
        crd_ref prop = crd_prop(s, node, name);
        crd_ref below = prop ? prop : crd_attr(s, node, CRD_EXTRA);
        bool refused = !prop && is_refused_null(s, below, &value), deeper = false;
        if (!matters(s, below) && !refused)
            continue;
        r = refused ? default_of(a, s, below, &value) : 0;
        filled = value;
        r = r ? r : crd_default(a, s, below, &value, &filled, &deeper);
        if (r || (!deeper && !refused))
            continue;
        if (!changed) {
            map.items = crd_own_items(a, &map, map.n);
            if (!map.items)
                return KL_ENOMEM;
            changed = true;
        }
        filled.owned = 0;
        map.items[2 * (size_t)i + 1] = filled;
    }
    if (!r && changed) {
        *ret = map;
        *ret_changed = true;
    }
    return r;
}

int crd_default(struct kl_arena *a, const struct crd_words *s, crd_ref node,
                const struct kl_value *v, struct kl_value *ret, bool *ret_changed)
{
    *ret_changed = false;
    *ret = *v;
    if (!node || !(crd_flags(s, node) & CRD_HAS_DEFAULTS))
        return 0;
    if (v->kind == KL_MAP)
        return default_members(a, s, node, v, ret, ret_changed);
    if (v->kind == KL_ARRAY)
        return default_items(a, s, node, v, ret, ret_changed);
    return 0;
}
