// SPDX-License-Identifier: Apache-2.0
// Types: making them, comparing them, their names.
#include "object/cel/type_int.h"
#include "base/buf.h"

#define SIMPLE(kind_, name_) [kind_] = {.kind = kind_, .name = KL_STR_INIT(name_)}
const struct cel_type cel_types[] = {
    SIMPLE(T_DYN, "dyn"),
    SIMPLE(T_ANY, "google.protobuf.Any"),
    SIMPLE(T_BOOL, "bool"),
    SIMPLE(T_BYTES, "bytes"),
    SIMPLE(T_DOUBLE, "double"),
    SIMPLE(T_DURATION, "google.protobuf.Duration"),
    SIMPLE(T_ERROR, "error"),
    SIMPLE(T_INT, "int"),
    [T_LIST] = {.kind = T_LIST, .n = 1, .name = KL_STR_INIT("list"), .p = {&cel_types[T_DYN]}},
    [T_MAP] = {.kind = T_MAP,
               .n = 2,
               .name = KL_STR_INIT("map"),
               .p = {&cel_types[T_DYN], &cel_types[T_DYN]}},
    SIMPLE(T_NULL, "null_type"),
    SIMPLE(T_OPAQUE, "optional_type"),
    SIMPLE(T_STRING, "string"),
    SIMPLE(T_STRUCT, ""),
    SIMPLE(T_TIMESTAMP, "google.protobuf.Timestamp"),
    SIMPLE(T_TYPE, "type"),
    SIMPLE(T_PARAM, ""),
    SIMPLE(T_UINT, "uint"),
};

static const struct cel_type *make(struct kl_arena *a, enum type_kind kind, struct kl_str name,
                                   const struct cel_type *p0, const struct cel_type *p1)
{
    struct cel_type *t = KL_ARENA_NEW(a, struct cel_type);
    if (!t)
        return NULL;
    t->kind = (uint8_t)kind;
    t->name = name;
    t->p[0] = p0;
    t->p[1] = p1;
    t->n = (uint8_t)((p0 != NULL) + (p1 != NULL));
    return t;
}

const struct cel_type *cel_type_list(struct kl_arena *a, const struct cel_type *elem)
{
    return elem ? make(a, T_LIST, KL_STR("list"), elem, NULL) : NULL;
}

const struct cel_type *cel_type_map(struct kl_arena *a, const struct cel_type *key,
                                    const struct cel_type *value)
{
    return key && value ? make(a, T_MAP, KL_STR("map"), key, value) : NULL;
}

const struct cel_type *cel_type_optional(struct kl_arena *a, const struct cel_type *t)
{
    return t ? make(a, T_OPAQUE, KL_STR("optional_type"), t, NULL) : NULL;
}

const struct cel_type *cel_type_of_type(struct kl_arena *a, const struct cel_type *t)
{
    return t ? make(a, T_TYPE, KL_STR("type"), t, NULL) : NULL;
}

const struct cel_type *cel_type_named(struct kl_arena *a, enum type_kind kind, struct kl_str name)
{
    return make(a, kind, name, NULL, NULL);
}

bool cel_type_is_optional(const struct cel_type *t)
{
    return t->kind == T_OPAQUE && t->n == 1 && kl_str_eqz(t->name, "optional_type");
}

bool cel_type_same(const struct cel_type *a, const struct cel_type *b, bool param_names)
{
    if (a == b)
        return true;
    if (a->kind != b->kind || a->n != b->n)
        return false;
    if ((param_names || a->kind != T_PARAM) && !kl_str_eq(a->name, b->name))
        return false;
    for (int i = 0; i < a->n; i++)
        if (!cel_type_same(a->p[i], b->p[i], param_names))
            return false;
    return true;
}

static void put_type(struct kl_buf *out, const struct cel_type *t, bool as_string)
{
    if (!as_string) {
        const char *shown = t->kind == T_ANY         ? "any"
                            : t->kind == T_DURATION  ? "duration"
                            : t->kind == T_ERROR     ? "!error!"
                            : t->kind == T_NULL      ? "null"
                            : t->kind == T_TIMESTAMP ? "timestamp"
                                                     : NULL;
        if (shown) {
            kl_buf_puts(out, kl_str(shown));
            return;
        }
    } else if (t->kind == T_PARAM) {
        kl_buf_printf(out, "<%.*s>", KL_PRI(t->name));
        return;
    }
    kl_buf_puts(out, t->name);
    for (int i = 0; i < t->n; i++) {
        kl_buf_puts(out, i ? KL_STR(", ") : KL_STR("("));
        put_type(out, t->p[i], as_string);
    }
    if (t->n)
        kl_buf_putc(out, ')');
}

struct kl_str cel_type_text(struct kl_arena *a, const struct cel_type *t, bool as_string)
{
    struct kl_buf out;
    kl_buf_init(&out, 1 << 20);
    put_type(&out, t, as_string);
    struct kl_str text = kl_arena_dup(a, kl_buf_str(&out));
    kl_buf_fini(&out);
    return text.p ? text : KL_STR("");
}
