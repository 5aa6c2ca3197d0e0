// SPDX-License-Identifier: Apache-2.0
// Trees without a CEL schema, seen as the JSON that upstream's converter would make of them. What
// is read is converted; nothing else is touched.
#include "object/cel/value_int.h"
#include "base/buf.h"
#include "object/json.h"
#include "object/schema.h"
#include "object/timestamp.h"

static struct kl_cel_val kept_text(struct kl_arena *a, const char *text, size_t n)
{
    struct kl_str s = kl_arena_dup(a, (struct kl_str){text, n});
    return s.p ? cel_str(s) : CEL_NO_MEMORY;
}

// Bytes and raw JSON through the encoder's text.
static struct kl_cel_val through_text(struct kl_arena *a, const struct kl_value *v,
                                      const struct kl_type *t)
{
    struct kl_buf text;
    struct kl_value *parsed = KL_ARENA_NEW(a, struct kl_value);
    kl_buf_init(&text, 64 << 20);
    if (t)
        kl_json_encode(&text, t, v, KL_STR(""));
    else
        kl_json_write(&text, v);
    struct kl_str kept = text.err ? (struct kl_str){NULL, 0} : kl_arena_dup(a, kl_buf_str(&text));
    kl_buf_fini(&text);
    if (!parsed || !kept.p || kl_json_parse(a, kept, NULL, parsed, NULL))
        return CEL_NO_MEMORY;
    return cel_wrap_node(a, parsed, NULL);
}

struct kl_cel_val cel_wrap_node(struct kl_arena *a, const struct kl_value *v,
                                const struct kl_type *t)
{
    char text[KL_TIME_TEXT];
    if (!v)
        return kl_cel_null();
    if (t && t->kind >= KL_T_SCHEMA_OR_ARRAY && v->kind == KL_STRUCT)
        t = t->elem;
    switch (v->kind) {
    case KL_BOOL:
        return kl_cel_bool(v->b);
    case KL_INT:
        if (t && t->kind == KL_T_DURATION)
            return kept_text(a, text, kl_duration_text(v->i, text));
        return cel_i(v->i);
    case KL_FLOAT:
        return kl_cel_double(v->d);
    case KL_TIME:
        if (v->i == KL_TIME_ZERO_US)
            return kl_cel_null();
        return kept_text(a, text,
                         t && t->kind == KL_T_MICROTIME ? kl_microtime_text(v->i, text)
                                                        : kl_time_text(v->i, text));
    case KL_STRING:
        return cel_str(kl_text(v));
    case KL_BYTES:
    case KL_RAW:
        return through_text(a, v, t);
    case KL_ARRAY:
    case KL_STRUCT:
    case KL_MAP:
        return (struct kl_cel_val){.kind = v->kind == KL_ARRAY ? KL_CEL_LIST : KL_CEL_MAP,
                                   .form = F_NODE,
                                   .p = v,
                                   .aux = t};
    default:
        return kl_cel_null();
    }
}

struct kl_cel_val kl_cel_node(struct kl_arena *a, const struct kl_value *v,
                              const struct kl_type *type)
{
    return cel_wrap_node(a, v, type);
}

static bool is_struct(struct kl_cel_val map)
{
    const struct kl_type *t = map.aux;
    return map.form == F_NODE && t && t->kind == KL_T_STRUCT &&
           ((const struct kl_value *)map.p)->kind == KL_STRUCT;
}

// A field that the tree does not have but Go writes.
static bool absent_field(const struct kl_field *f, struct kl_cel_val *ret)
{
    static const struct kl_value empty = {.kind = KL_STRUCT};
    if (!(f->flags & KL_FIELD_EMIT_ALWAYS))
        return false;
    *ret = kl_cel_null();
    if (f->flags & KL_FIELD_PTR)
        return true;
    switch (f->type->kind) {
    case KL_T_STRING:
        *ret = cel_str(KL_STR(""));
        break;
    case KL_T_QUANTITY:
        *ret = cel_str(KL_STR("0"));
        break;
    case KL_T_DURATION:
        *ret = cel_str(KL_STR("0s"));
        break;
    case KL_T_INTEGER:
    case KL_T_INT_OR_STRING:
        *ret = cel_i(0);
        break;
    case KL_T_NUMBER:
        *ret = kl_cel_double(0);
        break;
    case KL_T_BOOLEAN:
        *ret = kl_cel_bool(false);
        break;
    case KL_T_STRUCT:
        *ret = (struct kl_cel_val){.kind = KL_CEL_MAP, .form = F_NODE, .p = &empty, .aux = f->type};
        break;
    default:
        break;
    }
    return true;
}

static bool field_value(struct kl_arena *a, struct kl_cel_val map, const struct kl_field *f,
                        struct kl_cel_val *ret)
{
    const struct kl_value *m = kl_get(map.p, f->sym);
    if (!m)
        return absent_field(f, ret);
    *ret = cel_wrap_node(a, m, f->type);
    return true;
}

bool cel_node_find(struct kl_arena *a, struct kl_cel_val map, struct kl_str key,
                   struct kl_cel_val *ret)
{
    const struct kl_value *v = map.p, *m;
    const struct kl_type *t = map.aux;
    if (is_struct(map)) {
        const struct kl_field *f = kl_type_field_named(t, key);
        return f && field_value(a, map, f, ret);
    }
    m = v->kind == KL_STRUCT ? kl_get(v, kl_sym_find(key)) : kl_map_value(v, key);
    if (!m)
        return false;
    *ret = cel_wrap_node(a, m, t && v->kind == KL_MAP ? t->elem : NULL);
    return true;
}

size_t cel_node_count(struct kl_cel_val map)
{
    const struct kl_type *t = map.aux;
    struct kl_cel_val ignored;
    size_t n = 0;
    if (!is_struct(map))
        return ((const struct kl_value *)map.p)->n;
    for (uint16_t i = 0; i < t->nfields; i++)
        n += kl_get(map.p, t->fields[i].sym) || absent_field(&t->fields[i], &ignored);
    return n;
}

void cel_node_entry(struct kl_arena *a, struct kl_cel_val map, size_t i, struct kl_cel_val *ret_key,
                    struct kl_cel_val *ret_value)
{
    const struct kl_value *v = map.p;
    const struct kl_type *t = map.aux;
    *ret_key = *ret_value = kl_cel_null();
    if (map.form == F_TYPED) {
        struct kl_str key = kl_text(&v->items[2 * i]), name = key;
        const struct kl_cel_decl *d = map.aux;
        if (d->shape == D_OBJECT && kl_cel_escape(a, key, &name))
            name = key;
        *ret_key = cel_str(name);
        if (!cel_typed_find(a, map, name, ret_value))
            *ret_value = kl_cel_null();
    } else if (is_struct(map)) {
        for (const struct kl_field *f = t->fields, *end = f + t->nfields; f < end; f++)
            if (field_value(a, map, f, ret_value) && i-- == 0) {
                *ret_key = cel_str(kl_sym_name(f->sym));
                return;
            }
    } else if (v->kind == KL_STRUCT) {
        *ret_key = cel_str(kl_sym_name(v->items[i].sym));
        *ret_value = cel_wrap_node(a, &v->items[i], NULL);
    } else {
        *ret_key = cel_str(kl_text(&v->items[2 * i]));
        *ret_value = cel_wrap_node(a, &v->items[2 * i + 1], t ? t->elem : NULL);
    }
}
