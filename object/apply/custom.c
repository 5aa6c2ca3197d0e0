// SPDX-License-Identifier: Apache-2.0
#include "object/apply/custom_int.h"
#include "object/crd/crd_int.h"
#include "object/json.h"

static uint32_t flags_of(struct kl_shape s)
{
    return s.node ? crd_flags(s.words, s.node) : CRD_OBJECT | CRD_PRESERVE;
}

// int-or-string is not told apart from what has no type.
static bool is_untyped(uint32_t flags)
{
    return (flags & CRD_INT_OR_STRING) || !(flags & CRD_TYPES);
}

static struct kl_shape shape_at(const struct crd_words *w, crd_ref node, bool keeps)
{
    static const struct kl_type text = {.kind = KL_T_STRING}, integer = {.kind = KL_T_INTEGER},
                                number = {.kind = KL_T_NUMBER}, truth = {.kind = KL_T_BOOLEAN};
    uint32_t flags = crd_flags(w, node);
    if (!is_untyped(flags) && !(flags & (CRD_OBJECT | CRD_ARRAY)))
        return (struct kl_shape){.type = flags & CRD_STRING    ? &text
                                         : flags & CRD_INTEGER ? &integer
                                         : flags & CRD_NUMBER  ? &number
                                                               : &truth};
    return (struct kl_shape){.words = w,
                             .node = node,
                             .head = flags & CRD_EMBEDDED,
                             .keeps = keeps || (flags & CRD_PRESERVE)};
}

struct kl_shape kl_shape_of(const struct kl_type *root)
{
    const struct kl_crd_schema *s = kl_crd_of_type(root);
    if (!s)
        return (struct kl_shape){.type = root};
    struct kl_shape at = {.words = &s->words, .keeps = true};
    if (s->root && !s->preserve)
        at = shape_at(&s->words, s->root, false);
    at.words = &s->words;
    at.head = true;
    return at;
}

unsigned kl_custom_atoms(struct kl_shape s)
{
    uint32_t flags = flags_of(s);
    if (is_untyped(flags))
        return KL_ATOM_SCALAR | KL_ATOM_LIST | KL_ATOM_MAP;
    return flags & CRD_ARRAY ? KL_ATOM_LIST : KL_ATOM_MAP;
}

bool kl_custom_closed(struct kl_shape s)
{
    uint32_t flags = flags_of(s);
    if (!s.node || (flags & CRD_EXTRA_TRUE) || crd_attr(s.words, s.node, CRD_EXTRA))
        return false;
    return (flags & CRD_EXTRA_FALSE) || (!s.keeps && (s.head || crd_nprops(s.words, s.node)));
}

bool kl_custom_atomic_map(struct kl_shape s)
{
    return flags_of(s) & CRD_MAP_ATOMIC;
}

enum kl_list_type kl_custom_list_type(struct kl_shape s)
{
    uint32_t flags = flags_of(s);
    return flags & CRD_LIST_MAP ? KL_LIST_MAP : flags & CRD_LIST_SET ? KL_LIST_SET : KL_LIST_ATOMIC;
}

struct kl_shape kl_custom_elem(struct kl_shape s)
{
    uint32_t flags = flags_of(s);
    crd_ref items = s.node ? crd_attr(s.words, s.node, CRD_ITEMS) : 0;
    crd_ref extra = s.node ? crd_attr(s.words, s.node, CRD_EXTRA) : 0;
    crd_ref node = (flags & CRD_ARRAY) || (is_untyped(flags) && items) ? items : extra;
    return node ? shape_at(s.words, node, s.keeps) : (struct kl_shape){.type = NULL};
}

struct kl_shape kl_custom_member(struct kl_shape s, struct kl_str name, bool *ret_declared)
{
    static const struct kl_type text = {.kind = KL_T_STRING};
    crd_ref extra = s.node ? crd_attr(s.words, s.node, CRD_EXTRA) : 0;
    crd_ref prop = s.node ? crd_prop(s.words, s.node, name) : 0;
    *ret_declared = true;
    if (s.head && kl_str_eqz(name, "metadata"))
        return (struct kl_shape){.type = kl_type(KL_TYPE_meta_v1_ObjectMeta)};
    if (s.head && crd_is_meta(name))
        return (struct kl_shape){.type = &text};
    if (prop)
        return shape_at(s.words, prop, s.keeps);
    *ret_declared = false;
    return extra ? shape_at(s.words, extra, s.keeps) : (struct kl_shape){.type = NULL};
}

// The key's value, or the default of its property.
static bool key_value(struct kl_arena *a, struct kl_shape list, const struct kl_value *item,
                      struct kl_str key, struct kl_value *ret)
{
    crd_ref items = crd_attr(list.words, list.node, CRD_ITEMS);
    crd_ref prop = items ? crd_prop(list.words, items, key) : 0;
    struct kl_str preset = prop ? crd_attr_text(list.words, prop, CRD_DEFAULT) : KL_STR("");
    const struct kl_value *v = kl_map_value(item, key);
    struct kl_error ignored;
    if (v) {
        *ret = *v;
        return true;
    }
    return preset.n && kl_json_parse(a, preset, NULL, ret, &ignored) == 0;
}

int kl_custom_item(struct kl_arena *a, struct kl_shape list, const struct kl_value *item,
                   struct kl_elem *ret, struct kl_error *err)
{
    const uint32_t *texts;
    struct kl_str names[KL_LIST_KEYS_MAX], sorted[KL_LIST_KEYS_MAX];
    uint32_t n = crd_list(list.words, list.node, CRD_KEYS, &texts);
    n = n > KL_LIST_KEYS_MAX ? KL_LIST_KEYS_MAX : n;
    struct kl_elem_key *keys = kl_arena_alloc(a, (n + 1) * sizeof *keys);
    if (!keys)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i;
        names[i] = crd_text(list.words, texts[i]);
        for (; at && kl_str_cmp(sorted[at - 1], names[i]) > 0; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = names[i];
    }
    *ret = (struct kl_elem){.kind = KL_ELEM_KEY, .keys = keys};
    for (uint32_t i = 0; i < n; i++)
        if (key_value(a, list, item, sorted[i], &keys[ret->n].value))
            keys[ret->n++].name = sorted[i];
    return ret->n ? 0 : kl_shape_no_keys(names, n, err);
}
