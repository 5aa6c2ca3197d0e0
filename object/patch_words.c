// SPDX-License-Identifier: Apache-2.0
// What runtime.DefaultUnstructuredConverter says of a patched object that does not fit Go's structs
// (apimachinery pkg/runtime/converter.go): it knows kinds of Go's values, no paths.
#include "object/json_decode_int.h"
#include "object/patch.h"

struct walk {
    struct kl_arena *arena;
    const struct kl_type *owner; // the struct whose field is looked at, and the field
    const struct kl_field *field;
    int depth;
};

static const char *go_kind(const struct kl_value *v)
{
    switch (v->kind) {
    case KL_BOOL:
        return "bool";
    case KL_INT:
        return "int64";
    case KL_FLOAT:
        return "float64";
    case KL_STRING:
        return "string";
    case KL_ARRAY:
        return "slice";
    default:
        return "map";
    }
}

static const char *plain_kind(const struct kl_type *t)
{
    return t->kind == KL_T_BOOLEAN     ? "bool"
           : t->kind == KL_T_STRING    ? "string"
           : t->kind == KL_T_NUMBER    ? "float64"
           : t->format == KL_FMT_INT32 ? "int32"
                                       : "int64";
}

// The type's own name: a named string's is known for fields only.
static struct kl_str type_name(const struct walk *w, const struct kl_type *t)
{
    struct kl_buf b;
    kl_buf_init(&b, 4096);
    if (w->field && w->field->type == t)
        kl_go_field_type_name(&b, w->owner, w->field);
    else
        kl_go_type_name(&b, t);
    struct kl_str name = kl_arena_dup(w->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    return name.n && name.p[0] == '*' ? kl_str_from(name, 1) : name;
}

static struct kl_str plain_complaint(const struct walk *w, const struct kl_type *t,
                                     const struct kl_value *v)
{
    bool number = v->kind == KL_INT || v->kind == KL_FLOAT;
    bool to_number = t->kind == KL_T_INTEGER || t->kind == KL_T_NUMBER;
    if ((v->kind == KL_STRING && t->kind == KL_T_STRING) ||
        (v->kind == KL_BOOL && t->kind == KL_T_BOOLEAN) || (v->kind == KL_INT && to_number) ||
        (v->kind == KL_FLOAT && t->kind == KL_T_NUMBER))
        return (struct kl_str){0};
    // Of what Go could convert the converter refuses some; the rest it knows no type for.
    if ((number && to_number) || (v->kind == KL_INT && t->kind == KL_T_STRING))
        return kl_arena_printf(w->arena, "cannot convert %s to %.*s", go_kind(v),
                               KL_PRI(type_name(w, t)));
    return kl_arena_printf(w->arena, "unrecognized type: %s", plain_kind(t));
}

static struct kl_str complaint(struct walk *w, const struct kl_type *t, const struct kl_value *v);

static struct kl_str members_complaint(struct walk *w, const struct kl_type *t,
                                       const struct kl_value *v)
{
    const struct walk outer = *w;
    struct kl_str said = {0};
    w->owner = t;
    for (uint16_t i = 0; i < t->nfields && !said.p; i++) {
        const struct kl_value *m = kl_map_value(v, kl_sym_name(t->fields[i].sym));
        w->field = &t->fields[i];
        if (m)
            said = complaint(w, t->fields[i].type, m);
    }
    *w = outer;
    return said;
}

static struct kl_str items_complaint(struct walk *w, const struct kl_type *t,
                                     const struct kl_value *v)
{
    struct kl_str said = {0};
    if (v->kind == KL_ARRAY) {
        for (KL_EACH(x, v))
            if ((said = complaint(w, t->elem, x)).p)
                break;
    } else {
        for (KL_MAP_EACH_KEY(kv, v))
            if ((said = complaint(w, t->elem, kv + 1)).p)
                break;
    }
    return said;
}

static struct kl_str complaint(struct walk *w, const struct kl_type *t, const struct kl_value *v)
{
    struct kl_str said = {0};
    if (v->kind == KL_NULL || w->depth == KL_PATCH_WORDS_DEPTH)
        return said;
    w->depth++;
    switch (t->kind) {
    case KL_T_STRING:
    case KL_T_INTEGER:
    case KL_T_NUMBER:
    case KL_T_BOOLEAN:
        said = plain_complaint(w, t, v);
        break;
    case KL_T_BYTES:
        if (v->kind != KL_STRING && v->kind != KL_ARRAY)
            said = kl_arena_printf(w->arena, "cannot restore slice from %s", go_kind(v));
        break;
    case KL_T_STRUCT:
        said = v->kind == KL_MAP
                   ? members_complaint(w, t, v)
                   : kl_arena_printf(w->arena, "cannot restore struct from: %s", go_kind(v));
        break;
    case KL_T_ARRAY:
    case KL_T_MAP:
        if (v->kind == (t->kind == KL_T_ARRAY ? KL_ARRAY : KL_MAP))
            said = items_complaint(w, t, v);
        else
            said = kl_arena_printf(w->arena, "cannot restore %s from %s",
                                   t->kind == KL_T_ARRAY ? "slice" : "map", go_kind(v));
        break;
    default: // types with a decoder of their own: its words are those of JSON's
        break;
    }
    w->depth--;
    return said;
}

struct kl_str kl_patch_complaint(struct kl_arena *a, const struct kl_type *type,
                                 const struct kl_value *untyped)
{
    struct walk w = {.arena = a};
    return complaint(&w, type, untyped);
}
