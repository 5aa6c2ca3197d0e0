// SPDX-License-Identifier: Apache-2.0
// Between typed and untyped trees.
#include "object/crd/draft_int.h"
#include "object/json_int.h"
#include "object/timestamp.h"

struct kl_value kl_json_zero(const struct kl_type *t)
{
    switch (t->kind) {
    case KL_T_STRING:
        return kl_string(KL_STR(""));
    case KL_T_QUANTITY:
        return kl_string(KL_STR("0"));
    case KL_T_DURATION:
    case KL_T_INTEGER:
    case KL_T_INT_OR_STRING:
        return kl_int(0);
    case KL_T_NUMBER:
        return kl_float(0);
    case KL_T_BOOLEAN:
        return kl_bool(false);
    case KL_T_STRUCT:
        return kl_new_struct();
    default:
        return kl_null();
    }
}

// Through text: what a typed value may hold is decided in one place, the decoder.
int kl_typed_from_untyped(struct kl_arena *a, const struct kl_type *type,
                          const struct kl_value *untyped, struct kl_strict *strict,
                          struct kl_value *ret, struct kl_error *err)
{
    struct kl_buf text;
    if (type->custom)
        return kl_crd_from_untyped(a, kl_crd_of_type(type), untyped, false, strict, ret, err);
    kl_buf_init(&text, UINT32_MAX);
    kl_json_write(&text, untyped);
    struct kl_str kept = {NULL, 0};
    if (!text.err)
        kept = kl_arena_dup(a, kl_buf_str(&text));
    kl_buf_fini(&text);
    if (!kept.p)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    return kl_json_decode(a, type, kept, strict, ret, err);
}

static int copy_string(struct kl_arena *a, const char *text, size_t n, struct kl_value *ret)
{
    struct kl_str s = kl_arena_dup(a, (struct kl_str){text, n});
    if (!s.p)
        return KL_ENOMEM;
    *ret = kl_string(s);
    return 0;
}

// Text that the encoder gives for a scalar that JSON shows as a string, or for raw JSON.
static int from_text(struct kl_arena *a, const struct kl_type *t, const struct kl_value *v,
                     struct kl_value *ret)
{
    struct kl_buf text;
    kl_buf_init(&text, UINT32_MAX);
    kl_json_encode(&text, t, v, KL_STR(""));
    struct kl_str kept = {NULL, 0};
    if (!text.err)
        kept = kl_arena_dup(a, kl_buf_str(&text));
    kl_buf_fini(&text);
    return kept.p ? kl_json_parse(a, kept, NULL, ret, NULL) : KL_ENOMEM;
}

static int untype(struct kl_arena *a, const struct kl_type *t, const struct kl_value *v,
                  struct kl_value *ret);

// As the encoder: what Go always writes is there even when it is not set.
static int untype_struct(struct kl_arena *a, const struct kl_type *t, const struct kl_value *v,
                         struct kl_value *ret)
{
    static const struct kl_value empty = {.kind = KL_STRUCT};
    if (t->custom)
        return crd_untyped(a, kl_crd_of_type(t), v, false, ret);
    *ret = kl_new_map();
    for (const struct kl_field *f = t->fields, *end = f + t->nfields; f < end; f++) {
        const struct kl_value *m = kl_get(v, f->sym);
        struct kl_value child = kl_null();
        int r = 0;
        if (m)
            r = untype(a, f->type, m, &child);
        else if (!(f->flags & KL_FIELD_EMIT_ALWAYS))
            continue;
        else if (!(f->flags & KL_FIELD_PTR) && f->type->kind == KL_T_STRUCT)
            r = untype(a, f->type, &empty, &child);
        else if (!(f->flags & KL_FIELD_PTR))
            child = f->type->kind == KL_T_DURATION ? kl_stringz("0s") : kl_json_zero(f->type);
        if (!r)
            r = kl_map_set_value(a, ret, kl_sym_name(f->sym), child);
        if (r)
            return r;
    }
    return 0;
}

static int untype(struct kl_arena *a, const struct kl_type *t, const struct kl_value *v,
                  struct kl_value *ret)
{
    char text[KL_TIME_TEXT];
    int r = 0;
    if (t && t->kind >= KL_T_SCHEMA_OR_ARRAY && v->kind == KL_STRUCT)
        t = t->elem;
    const struct kl_type *elem = t && t->kind != KL_T_SCHEMA_OR_STRINGS ? t->elem : NULL;
    switch (v->kind) {
    case KL_STRUCT:
        if (t && t->kind == KL_T_STRUCT)
            return untype_struct(a, t, v, ret);
        *ret = kl_null();
        return 0;
    case KL_ARRAY:
        *ret = kl_new_array();
        for (size_t i = 0; !r && i < v->n; i++) {
            struct kl_value item;
            r = untype(a, elem, &v->items[i], &item);
            r = r ? r : kl_append(a, ret, item);
        }
        return r;
    case KL_MAP: {
        // Keys are unique already: no look-up for each.
        struct kl_value map = *v;
        map.owned = 0;
        map.items = v->n ? kl_arena_alloc(a, 2 * (size_t)v->n * sizeof(map)) : NULL;
        if (v->n && !map.items)
            return KL_ENOMEM;
        for (size_t i = 0; !r && i < v->n; i++) {
            map.items[2 * i] = v->items[2 * i];
            r = untype(a, elem, &v->items[2 * i + 1], &map.items[2 * i + 1]);
        }
        map.sym = 0;
        *ret = map;
        return r;
    }
    case KL_TIME:
        if (v->i == KL_TIME_ZERO_US) {
            *ret = kl_null();
            return 0;
        }
        return copy_string(a, text,
                           t && t->kind == KL_T_MICROTIME ? kl_microtime_text(v->i, text)
                                                          : kl_time_text(v->i, text),
                           ret);
    case KL_INT:
        if (t && t->kind == KL_T_DURATION)
            return copy_string(a, text, kl_duration_text(v->i, text), ret);
        break;
    case KL_BYTES:
    case KL_RAW:
        return from_text(a, t, v, ret);
    default:
        break;
    }
    *ret = *v;
    ret->owned = 0;
    ret->sym = 0;
    return 0;
}

int kl_untyped_from_typed(struct kl_arena *a, const struct kl_type *type,
                          const struct kl_value *typed, struct kl_value *ret)
{
    return untype(a, type, typed, ret);
}
