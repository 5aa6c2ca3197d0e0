// SPDX-License-Identifier: Apache-2.0
// Heads of embedded objects: kind and apiVersion are strings, metadata is an ObjectMeta
// (apiserver/schema/objectmeta/algorithm.go and coerce.go).
#include "object/crd/draft_int.h"

struct coercer {
    struct kl_arena *a;
    const struct crd_words *s;
    bool drop_malformed;
    struct kl_strict *strict;
    struct kl_error *err;
    struct kl_findings *found; // instead of err
    int rc;
};

static bool walk(struct coercer *c, crd_ref node, bool embedded, const struct crd_path *path,
                 const struct kl_value *v, struct kl_value *out);

// The members of metadata that can be read by themselves.
static int without_malformed(struct kl_arena *a, const struct kl_value *meta, struct kl_value *ret)
{
    *ret = kl_new_map();
    for (KL_MAP_EACH_KEY(k, meta)) {
        struct kl_value one = kl_new_map(), ignored;
        struct kl_error why;
        int r = kl_map_set_value(a, &one, kl_text(k), k[1]);
        if (!r && !kl_typed_from_untyped(a, kl_type(KL_TYPE_meta_v1_ObjectMeta), &one, NULL,
                                         &ignored, &why))
            r = kl_map_set_value(a, ret, kl_text(k), k[1]);
        if (r)
            return r;
    }
    return 0;
}

int crd_object_meta(struct kl_arena *a, const struct kl_value *meta, bool drop_malformed,
                    const char *prefix, struct kl_strict *strict, struct kl_value *ret,
                    struct kl_error *err)
{
    static const struct kl_value none = {.kind = KL_MAP};
    struct kl_strict own = {.n = 0};
    const struct kl_type *type = kl_type(KL_TYPE_meta_v1_ObjectMeta);
    struct kl_value rest;
    if (meta->kind == KL_NULL)
        meta = &none;
    int r = kl_typed_from_untyped(a, type, meta, strict ? &own : NULL, ret, err);
    if (r == KL_EBADREQUEST && drop_malformed && meta->kind == KL_MAP) {
        r = without_malformed(a, meta, &rest);
        own.n = 0;
        r = r ? r : kl_typed_from_untyped(a, type, &rest, strict ? &own : NULL, ret, err);
    }
    static const size_t before = sizeof "unknown field \"" - 1;
    for (size_t i = 0; !r && i < own.n && strict->n < KL_STRICT_MAX; i++) {
        struct kl_str m = own.messages[i];
        if (m.n <= before)
            continue;
        strict->messages[strict->n] =
            kl_arena_printf(a, "unknown field \"%s.%.*s", prefix, KL_PRI(kl_str_from(m, before)));
        r = strict->messages[strict->n++].p ? 0 : KL_ENOMEM;
    }
    return r;
}

static int refuse(struct coercer *c, const struct crd_path *up, struct kl_str name,
                  const struct kl_value *v, struct kl_str why)
{
    struct crd_path path = {.up = up, .name = name};
    c->rc =
        kl_error_set(c->err, KL_EBADREQUEST, "%.*s: Invalid value: %.*s: %.*s",
                     KL_PRI(crd_path_text(c->a, &path)), KL_PRI(crd_show(c->a, v)), KL_PRI(why));
    return c->rc;
}

// Metadata as it is once it has been an ObjectMeta.
static void coerce_meta(struct coercer *c, const struct crd_path *path, struct kl_value *v)
{
    struct crd_path here = {.up = path, .name = KL_STR("metadata")};
    const struct kl_type *type = kl_type(KL_TYPE_meta_v1_ObjectMeta);
    struct kl_value typed, untyped, kept;
    struct kl_error why = {0};
    int r = crd_object_meta(c->a, v, c->drop_malformed, crd_path_text(c->a, &here).p, c->strict,
                            &typed, &why);
    if (r == KL_EBADREQUEST) {
        if (!c->drop_malformed)
            refuse(c, path, KL_STR("metadata"), v, kl_str(why.msg));
        return;
    }
    struct kl_object *o = r ? NULL : kl_object_freeze(type, &typed); // drops what is empty
    if (!o || kl_untyped_from_typed(c->a, type, &o->root, &untyped) ||
        kl_copy(c->a, &untyped, &kept))
        c->rc = KL_ENOMEM;
    else
        *v = kept;
    kl_object_unref(o);
}

// False when the member goes.
static bool coerce_head(struct coercer *c, const struct crd_path *path, const struct kl_value *key,
                        struct kl_value *v)
{
    struct kl_str name = kl_text(key);
    if (kl_str_eqz(name, "metadata")) {
        coerce_meta(c, path, v);
        return true;
    }
    if (!crd_is_meta(name) || v->kind == KL_STRING)
        return true;
    if (!c->drop_malformed)
        refuse(c, path, name, v, KL_STR("must be a string"));
    return false;
}

static bool walk_map(struct coercer *c, crd_ref node, bool embedded, const struct crd_path *path,
                     const struct kl_value *v, struct kl_value *out)
{
    struct kl_value *items = NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n && !c->rc; i++) {
        const struct kl_value *key = &v->items[2 * (size_t)i];
        struct kl_value value = key[1], deeper;
        crd_ref prop = crd_prop(c->s, node, kl_text(key));
        crd_ref below = prop ? prop : crd_attr(c->s, node, CRD_EXTRA);
        struct crd_path here = {.up = path, .name = kl_text(key), .key = !prop};
        bool head = embedded && crd_is_meta(kl_text(key));
        bool stays = !head || coerce_head(c, path, key, &value);
        bool changed = head && kl_str_eqz(kl_text(key), "metadata");
        deeper = value;
        if (!c->rc && stays && below && (crd_flags(c->s, below) & CRD_HAS_EMBEDDED) &&
            walk(c, below, crd_flags(c->s, below) & CRD_EMBEDDED, &here, &value, &deeper))
            changed = true;
        if ((!stays || changed) && !items) {
            items = crd_own_items(c->a, v, n);
            if (!items) {
                c->rc = KL_ENOMEM;
                return false;
            }
        }
        if (stays && items) {
            items[2 * n] = *key;
            items[2 * n + 1] = deeper;
            items[2 * n + 1].owned = 0;
        }
        n += stays;
    }
    if (items) {
        *out = kl_new_map();
        out->items = items;
        out->n = n;
    }
    return items != NULL;
}

static bool walk_array(struct coercer *c, crd_ref node, const struct crd_path *path,
                       const struct kl_value *v, struct kl_value *out)
{
    crd_ref below = crd_attr(c->s, node, CRD_ITEMS);
    struct kl_value *items = NULL;
    if (!below || !(crd_flags(c->s, below) & CRD_HAS_EMBEDDED))
        return false;
    for (uint32_t i = 0; i < v->n && !c->rc; i++) {
        struct crd_path here = {.up = path, .index = i};
        struct kl_value value = v->items[i];
        if (!walk(c, below, crd_flags(c->s, below) & CRD_EMBEDDED, &here, &v->items[i], &value))
            continue;
        if (!items) {
            items = crd_own_items(c->a, v, v->n);
            if (!items) {
                c->rc = KL_ENOMEM;
                return false;
            }
        }
        items[i] = value;
    }
    if (items) {
        *out = kl_new_array();
        out->items = items;
        out->n = v->n;
    }
    return items != NULL;
}

static bool walk(struct coercer *c, crd_ref node, bool embedded, const struct crd_path *path,
                 const struct kl_value *v, struct kl_value *out)
{
    if (c->rc)
        return false;
    if (v->kind == KL_MAP)
        return walk_map(c, node, embedded, path, v, out);
    return v->kind == KL_ARRAY && walk_array(c, node, path, v, out);
}

int crd_coerce(struct kl_arena *a, const struct crd_words *s, crd_ref node, bool drop_malformed,
               const struct kl_value *v, struct kl_strict *strict, struct kl_value *ret,
               struct kl_error *err)
{
    struct coercer c = {
        .a = a, .s = s, .drop_malformed = drop_malformed, .strict = strict, .err = err};
    *ret = *v;
    ret->owned = 0;
    if (node && (crd_flags(s, node) & CRD_HAS_EMBEDDED))
        walk(&c, node, crd_flags(s, node) & CRD_EMBEDDED, NULL, v, ret);
    return c.rc;
}

int crd_check_heads(struct kl_findings *f, const struct crd_words *s, crd_ref node,
                    const struct crd_path *path, const struct kl_value *v)
{
    struct coercer c = {.a = f->arena, .s = s, .found = f};
    struct kl_value ignored = *v;
    if (node && (crd_flags(s, node) & CRD_HAS_EMBEDDED))
        walk(&c, node, crd_flags(s, node) & CRD_EMBEDDED, path, v, &ignored);
    return c.rc == KL_EBADREQUEST ? 0 : c.rc;
}
