// SPDX-License-Identifier: Apache-2.0
// Between untyped roots and roots of a custom type.
#include "object/crd/draft_int.h"
#include <stdlib.h>

// Prunes and coerces *v; its metadata is given apart, typed.
static int read_root(struct kl_arena *a, const struct kl_crd_schema *s, struct kl_value *v,
                     bool drop_malformed, struct kl_strict *strict, struct kl_value *ret_meta,
                     bool *ret_has_meta, struct kl_error *err)
{
    static const char *const names[] = {"apiVersion", "kind"};
    const struct kl_value *meta = kl_map_value(v, KL_STR("metadata"));
    int r = 0;
    if (v->kind != KL_MAP)
        return kl_error_set(err, KL_EBADREQUEST,
                            "json: cannot unmarshal %s into Go value of type "
                            "map[string]interface {}",
                            v->kind == KL_ARRAY    ? "array"
                            : v->kind == KL_STRING ? "string"
                            : v->kind == KL_BOOL   ? "bool"
                            : v->kind == KL_NULL   ? "null"
                                                   : "number");
    for (size_t i = 0; i < KL_COUNT(names); i++) {
        const struct kl_value *m = kl_map_value(v, kl_str(names[i]));
        if (m && m->kind != KL_STRING && m->kind != KL_NULL)
            return kl_error_set(err, KL_EBADREQUEST,
                                "json: cannot unmarshal %s into Go struct field .%s of type string",
                                m->kind == KL_ARRAY  ? "array"
                                : m->kind == KL_MAP  ? "object"
                                : m->kind == KL_BOOL ? "bool"
                                                     : "number",
                                names[i]);
    }
    *ret_has_meta = meta != NULL;
    if (meta)
        r = crd_object_meta(a, meta, drop_malformed, "metadata", strict, ret_meta, err);
    if (r)
        return r;
    if (!s->preserve) {
        struct kl_value out;
        r = crd_prune(a, &s->words, s->root, true, false, v, strict, &out);
        if (r)
            return kl_error_set(err, r == KL_ELIMIT ? KL_EBADREQUEST : r, "%s",
                                r == KL_ELIMIT ? "the object is nested too deeply"
                                               : "out of memory");
        *v = out;
    }
    struct kl_strict more = {.n = 0};
    struct kl_value out;
    r = crd_coerce(a, &s->words, s->root, drop_malformed, v, strict ? &more : NULL, &out, err);
    for (size_t i = 0; !r && i < more.n && strict->n < KL_STRICT_MAX; i++)
        strict->messages[strict->n++] = more.messages[i];
    if (!r)
        *v = out;
    return r;
}

static int type_root(struct kl_arena *a, const struct kl_crd_schema *s, const struct kl_value *v,
                     const struct kl_value *meta, struct kl_value *ret)
{
    struct kl_value *items = kl_arena_alloc(a, ((size_t)v->n + 1) * sizeof *items);
    struct kl_value rest = kl_new_map();
    uint32_t n = 0;
    if (!items)
        return KL_ENOMEM;
    for (KL_MAP_EACH_KEY(k, v)) {
        struct kl_str name = kl_text(k);
        const struct kl_field *f = kl_type_field_named(&s->type, name);
        struct kl_value value = k[1];
        if (f && f->sym == KL_F_metadata) {
            if (!meta)
                continue;
            value = *meta;
        } else if (f && crd_is_meta(name) && value.kind == KL_NULL) {
            continue;
        }
        value.owned = 0;
        if (f && !(f->flags & KL_FIELD_REST)) {
            items[n] = value;
            items[n++].sym = f->sym & 0xffffff;
        } else if (s->has_rest) {
            if (!rest.items && !(rest.items = kl_arena_alloc(a, 2 * (size_t)v->n * sizeof value)))
                return KL_ENOMEM;
            rest.items[2 * rest.n] = *k;
            rest.items[2 * rest.n++ + 1] = value;
        }
    }
    if (rest.n) {
        items[n] = rest;
        items[n++].sym = kl_crd_rest_sym() & 0xffffff;
    }
    *ret = kl_new_struct();
    ret->items = items;
    ret->n = n;
    return 0;
}

int kl_crd_from_untyped(struct kl_arena *a, const struct kl_crd_schema *s,
                        const struct kl_value *untyped, bool drop_malformed,
                        struct kl_strict *strict, struct kl_value *ret, struct kl_error *err)
{
    struct kl_value v = *untyped, meta;
    bool has_meta;
    v.owned = 0;
    int r = read_root(a, s, &v, drop_malformed, strict, &meta, &has_meta, err);
    if (!r && (r = type_root(a, s, &v, has_meta ? &meta : NULL, ret)))
        kl_error_set(err, r, "out of memory");
    return r;
}

int kl_crd_decode(struct kl_arena *a, const struct kl_crd_schema *s, struct kl_str text,
                  bool drop_malformed, struct kl_strict *strict, struct kl_value *ret,
                  struct kl_error *err)
{
    struct kl_value v;
    struct kl_error why = {0};
    int r = kl_json_parse(a, text, strict, &v, &why);
    if (r)
        return kl_error_set(
            err, r, "%s%s",
            r == KL_EBADREQUEST ? "couldn't get version/kind; json parse error: " : "", why.msg);
    return kl_crd_from_untyped(a, s, &v, drop_malformed, strict, ret, err);
}

int kl_crd_prune(struct kl_arena *a, const struct kl_crd_schema *s, struct kl_value *untyped,
                 struct kl_strict *strict, struct kl_error *err)
{
    struct kl_value v = *untyped, meta, plain;
    bool has_meta;
    v.owned = 0;
    int r = read_root(a, s, &v, false, strict, &meta, &has_meta, err);
    if (!r && has_meta) {
        struct kl_object *o = kl_object_freeze(kl_type(KL_TYPE_meta_v1_ObjectMeta), &meta);
        struct kl_value shared;
        r = o ? kl_untyped_from_typed(a, o->type, &o->root, &shared) : KL_ENOMEM;
        r = r ? r : kl_copy(a, &shared, &plain);
        kl_object_unref(o);
        r = r ? r : kl_map_set_value(a, &v, KL_STR("metadata"), plain);
        if (r)
            kl_error_set(err, r, "out of memory");
    }
    if (!r)
        *untyped = v;
    return r;
}

int kl_crd_typed(struct kl_arena *a, const struct kl_crd_schema *s, const struct kl_value *untyped,
                 struct kl_value *ret, struct kl_error *err)
{
    const struct kl_value *m = kl_map_value(untyped, KL_STR("metadata"));
    struct kl_value meta;
    int r = m ? crd_object_meta(a, m, false, "metadata", NULL, &meta, err) : 0;
    if (!r && (r = type_root(a, s, untyped, m ? &meta : NULL, ret)))
        kl_error_set(err, r, "out of memory");
    return r;
}

int kl_crd_default(struct kl_arena *a, const struct kl_crd_schema *s, struct kl_value *untyped)
{
    struct kl_value out;
    bool changed;
    int r = crd_default(a, &s->words, s->root, untyped, &out, &changed);
    if (!r && changed)
        *untyped = out;
    return r;
}

// A default that is an embedded object, or part of one, is read as one: its metadata is an
// ObjectMeta's, without what that does not know (PruneDefaults). What is around it is so already.
static int tidy_default(struct kl_arena *a, const struct kl_crd_schema *s, crd_ref node,
                        struct kl_value *v)
{
    struct kl_value out;
    struct kl_error ignored;
    if (!(crd_flags(&s->words, node) & CRD_HAS_EMBEDDED))
        return 0;
    if (crd_coerce(a, &s->words, node, true, v, NULL, &out, &ignored) ||
        (!s->preserve && crd_prune(a, &s->words, node, false, true, &out, NULL, &out)))
        return KL_ENOMEM;
    *v = out;
    return 0;
}

int kl_crd_default_draft(struct kl_arena *a, const struct kl_crd_schema *s, struct kl_value *draft)
{
    if (!s->root || !(crd_flags(&s->words, s->root) & CRD_HAS_DEFAULTS))
        return 0;
    for (uint32_t i = 0; i < crd_nprops(&s->words, s->root); i++) {
        struct kl_str name = crd_prop_name(&s->words, s->root, i);
        crd_ref node = crd_prop_node(&s->words, s->root, i);
        struct kl_str preset = crd_attr_text(&s->words, node, CRD_DEFAULT);
        const struct kl_value *is = NULL;
        struct kl_value v = kl_null(), filled;
        struct kl_error ignored;
        bool changed = false, deeper;
        if (crd_is_meta(name) || (!preset.n && !(crd_flags(&s->words, node) & CRD_HAS_DEFAULTS)))
            continue;
        kl_sym sym = kl_sym_find(name);
        for (uint32_t k = 0; k < draft->n && !is; k++)
            if (draft->items[k].sym == sym)
                is = &draft->items[k];
        if (is)
            v = *is;
        if (preset.n &&
            (!is || (is->kind == KL_NULL && !(crd_flags(&s->words, node) & CRD_NULLABLE)))) {
            if (kl_json_parse(a, preset, NULL, &v, &ignored))
                return KL_ENOMEM;
            changed = true;
        } else if (!is) {
            continue;
        }
        if (crd_default(a, &s->words, node, &v, &filled, &deeper) ||
            ((changed || deeper) && tidy_default(a, s, node, &filled)))
            return KL_ENOMEM;
        filled.owned = 0;
        if ((changed || deeper) && kl_set(a, draft, sym, filled))
            return KL_ENOMEM;
    }
    return 0;
}

static int by_key(const void *x, const void *y)
{
    return kl_str_cmp(kl_text(x), kl_text(y));
}

int crd_untyped(struct kl_arena *a, const struct kl_crd_schema *s, const struct kl_value *root,
                bool head, struct kl_value *ret)
{
    kl_sym rest = kl_crd_rest_sym();
    const struct kl_value *more = kl_get(root, rest);
    size_t max = (size_t)kl_len(root) + kl_len(more) + 2;
    struct kl_value *items = kl_arena_alloc(a, 2 * max * sizeof *items), *at = items;
    bool has_version = false, has_kind = false;
    if (!items)
        return KL_ENOMEM;
    for (KL_EACH(m, root)) {
        if (m->sym == rest)
            continue;
        at[0] = kl_string(kl_sym_name(m->sym));
        at[1] = *m;
        if (m->sym == KL_F_metadata &&
            kl_untyped_from_typed(a, kl_type(KL_TYPE_meta_v1_ObjectMeta), m, &at[1]))
            return KL_ENOMEM;
        at[1].sym = 0;
        at[1].owned = 0;
        has_version |= m->sym == KL_F_apiVersion;
        has_kind |= m->sym == KL_F_kind;
        at += 2;
    }
    for (KL_MAP_EACH_KEY(k, more)) {
        at[0] = k[0];
        at[1] = k[1];
        at[1].owned = 0;
        at += 2;
    }
    if (head && !has_version) {
        *at++ = kl_stringz("apiVersion");
        *at++ = kl_string(s->api_version);
    }
    if (head && !has_kind) {
        *at++ = kl_stringz("kind");
        *at++ = kl_string(s->kind);
    }
    *ret = kl_new_map();
    ret->items = items;
    ret->n = (uint32_t)((at - items) / 2);
    qsort(items, ret->n, 2 * sizeof *items, by_key);
    return 0;
}

int kl_crd_untyped(struct kl_arena *a, const struct kl_crd_schema *s, const struct kl_value *root,
                   struct kl_value *ret)
{
    return crd_untyped(a, s, root, true, ret);
}
