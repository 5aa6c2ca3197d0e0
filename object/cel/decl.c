// SPDX-License-Identifier: Apache-2.0
// Declared types: simple ones, lists, maps, objects, those of admission, and a schema's.
#include "object/cel/env_int.h"
#include "object/cel/escape_int.h"
#include "object/schema.h"
#include <stdlib.h>

enum { MAX_BYTES = KL_CEL_MAX_REQUEST_BYTES, MAX_SCHEMA_DEPTH = 200 };

static struct kl_cel_decl *make(struct kl_cel_env *e, enum decl_shape shape,
                                const struct cel_type *t, int64_t max, int64_t min)
{
    struct kl_cel_decl *d = t ? KL_ARENA_NEW(&e->arena, struct kl_cel_decl) : NULL;
    if (!d)
        return NULL;
    d->shape = (uint8_t)shape;
    d->type = t;
    d->max_elements = max;
    d->min_size = min;
    return d;
}

const struct kl_cel_decl *kl_cel_decl_simple(struct kl_cel_env *e, enum kl_cel_simple t)
{
    static const struct {
        uint8_t kind, min;
        const char *name;
    } simple[] = {
        [KL_CEL_T_DYN] = {T_DYN, 1, NULL},
        [KL_CEL_T_BOOL] = {T_BOOL, 4, NULL},
        [KL_CEL_T_INT] = {T_INT, 1, NULL},
        [KL_CEL_T_UINT] = {T_UINT, 1, NULL},
        [KL_CEL_T_DOUBLE] = {T_DOUBLE, 1, NULL},
        [KL_CEL_T_STRING] = {T_STRING, 2, NULL},
        [KL_CEL_T_BYTES] = {T_BYTES, 2, NULL},
        [KL_CEL_T_TIMESTAMP] = {T_TIMESTAMP, 12, NULL},
        [KL_CEL_T_DURATION] = {T_DURATION, 3, NULL},
        [KL_CEL_T_NULL] = {T_NULL, 4, NULL},
        [KL_CEL_T_QUANTITY] = {T_STRUCT, 8, "kubernetes.Quantity"},
        [KL_CEL_T_AUTHORIZER] = {T_STRUCT, 0, "kubernetes.authorization.Authorizer"},
        [KL_CEL_T_RESOURCE_CHECK] = {T_STRUCT, 0, "kubernetes.authorization.ResourceCheck"},
        [KL_CEL_T_ANY] = {T_ANY, 1, NULL},
    };
    const struct cel_type *type = simple[t].name
                                      ? cel_type_named(&e->arena, T_STRUCT, kl_str(simple[t].name))
                                      : CEL_TYPE(simple[t].kind);
    return make(e, D_SCALAR, type, 0, simple[t].min);
}

const struct kl_cel_decl *kl_cel_decl_list(struct kl_cel_env *e, const struct kl_cel_decl *elem,
                                           int64_t max_items)
{
    struct kl_cel_decl *d =
        elem ? make(e, D_LIST, cel_type_list(&e->arena, elem->type), max_items, 2) : NULL;
    if (d)
        d->elem = elem;
    return d;
}

const struct kl_cel_decl *kl_cel_decl_map_of(struct kl_cel_env *e, const struct kl_cel_decl *key,
                                             const struct kl_cel_decl *elem, int64_t max_properties)
{
    struct kl_cel_decl *d =
        key && elem
            ? make(e, D_MAP, cel_type_map(&e->arena, key->type, elem->type), max_properties, 2)
            : NULL;
    if (!d)
        return NULL;
    d->elem = elem;
    d->key = key;
    return d;
}

const struct kl_cel_decl *kl_cel_decl_map(struct kl_cel_env *e, const struct kl_cel_decl *elem,
                                          int64_t max_properties)
{
    return kl_cel_decl_map_of(e, kl_cel_decl_simple(e, KL_CEL_T_STRING), elem, max_properties);
}

const struct kl_cel_decl *kl_cel_decl_sized(struct kl_cel_env *e, const struct kl_cel_decl *d,
                                            int64_t max_elements)
{
    struct kl_cel_decl *made = d ? KL_ARENA_NEW(&e->arena, struct kl_cel_decl) : NULL;
    if (!made)
        return NULL;
    *made = *d;
    made->max_elements = max_elements;
    return made;
}

const struct kl_cel_decl *kl_cel_decl_optional(struct kl_cel_env *e, const struct kl_cel_decl *d)
{
    return d ? make(e, D_SCALAR, cel_type_optional(&e->arena, d->type), 0, 1) : NULL;
}

static int by_key(const void *x, const void *y)
{
    return kl_str_cmp(((const struct decl_field *)x)->key, ((const struct decl_field *)y)->key);
}

const struct decl_field *cel_decl_property(const struct kl_cel_decl *d, struct kl_str key)
{
    struct decl_field wanted = {.key = key};
    return d->nfields ? bsearch(&wanted, d->fields, d->nfields, sizeof wanted, by_key) : NULL;
}

const struct decl_field *cel_decl_field(const struct kl_cel_decl *d, struct kl_str name)
{
    const struct decl_field *f = cel_decl_property(d, name);
    if (f && kl_str_eq(f->name, name))
        return f;
    if (f && cel_is_reserved(name)) // a reserved word is found by its escaped name, too
        return f;
    for (uint32_t i = 0; i < d->nfields; i++)
        if (d->fields[i].name.n && kl_str_eq(d->fields[i].name, name))
            return &d->fields[i];
    return NULL;
}

static struct kl_cel_decl *object(struct kl_cel_env *e, struct kl_str name, size_t nfields)
{
    struct cel_type *t = KL_ARENA_NEW(&e->arena, struct cel_type);
    struct kl_str kept = kl_arena_dup(&e->arena, name);
    if (!t || !kept.p)
        return NULL;
    *t = (struct cel_type){.kind = T_STRUCT, .name = kept};
    struct kl_cel_decl *d = make(e, D_OBJECT, t, 0, 2);
    if (!d)
        return NULL;
    t->decl = d;
    d->fields = kl_arena_zalloc(&e->arena, (nfields + 1) * sizeof *d->fields);
    return d->fields ? d : NULL;
}

const struct kl_cel_decl *kl_cel_decl_object(struct kl_cel_env *e, struct kl_str name,
                                             const struct kl_cel_field *fields, size_t n)
{
    struct kl_cel_decl *d = object(e, name, n);
    for (size_t i = 0; d && i < n; i++) {
        struct kl_str kept = kl_arena_dup(&e->arena, fields[i].name);
        if (!kept.p || !fields[i].decl)
            return NULL;
        d->fields[d->nfields++] = (struct decl_field){kept, kept, fields[i].decl};
    }
    if (d)
        qsort(d->fields, d->nfields, sizeof *d->fields, by_key);
    return d;
}

int kl_cel_decl_add_field(struct kl_cel_env *e, const struct kl_cel_decl *obj, struct kl_str name,
                          const struct kl_cel_decl *d)
{
    struct kl_cel_decl *o = (struct kl_cel_decl *)obj;
    struct decl_field *fields = kl_arena_alloc(&e->arena, (o->nfields + 1) * sizeof *fields);
    struct kl_str kept = kl_arena_dup(&e->arena, name);
    if (!fields || !kept.p || !d)
        return KL_ENOMEM;
    if (cel_decl_property(o, name))
        return KL_EEXISTS;
    memcpy(fields, o->fields, o->nfields * sizeof *fields);
    fields[o->nfields] = (struct decl_field){kept, kept, d};
    o->fields = fields;
    qsort(o->fields, ++o->nfields, sizeof *o->fields, by_key);
    return 0;
}

const struct kl_cel_decl *kl_cel_decl_result(struct kl_cel_env *e, const struct kl_cel_program *p)
{
    const struct cel_type *t = p->type;
    struct kl_cel_decl *d;
    if (t->kind == T_STRUCT && t->decl)
        return t->decl;
    if (t->kind == T_LIST || t->kind == T_MAP) {
        struct kl_cel_program part = {.type = t->p[t->kind == T_MAP]};
        d = make(e, t->kind == T_LIST ? D_LIST : D_MAP, t, INT64_MAX, 2);
        if (d && !(d->elem = kl_cel_decl_result(e, &part)))
            return NULL;
        return d;
    }
    return make(e, D_SCALAR, t, 0, 1);
}

int64_t kl_cel_decl_max_elements(const struct kl_cel_decl *d)
{
    return d->max_elements;
}

uint64_t kl_cel_decl_max_cardinality(const struct kl_cel_decl *d)
{
    return (uint64_t)(MAX_BYTES / (d->min_size + 1));
}

const struct kl_cel_decl *kl_cel_decl_child(const struct kl_cel_decl *d, struct kl_str name)
{
    if (d->shape == D_LIST || d->shape == D_MAP)
        return kl_str_eqz(name, "*") ? d->elem : NULL;
    const struct decl_field *f = cel_decl_property(d, name);
    return f ? f->decl : NULL;
}

// ---- schemas
static const struct kl_value *member(const struct kl_value *v, const char *name)
{
    const struct kl_value *m = NULL;
    if (kl_is(v, KL_STRUCT))
        m = kl_get(v, kl_sym_find(kl_str(name)));
    else if (kl_is(v, KL_MAP))
        m = kl_map_value(v, kl_str(name));
    return kl_is(m, KL_NULL) ? NULL : m;
}

static bool is_set(const struct kl_value *v, const char *name)
{
    return kl_is_true(member(v, name));
}

static int64_t bound(const struct kl_value *s, const char *name, int64_t otherwise)
{
    const struct kl_value *v = member(s, name);
    int64_t n = v && v->kind == KL_FLOAT ? (int64_t)v->d : kl_int_or(v, -1);
    return v ? (n < 0 ? 0 : n) : otherwise;
}

struct schema_walk {
    struct kl_cel_env *e;
    int depth;
};

static const struct kl_cel_decl *of_schema(struct schema_walk *w, struct kl_str name,
                                           const struct kl_value *s, bool resource);

static struct kl_cel_decl *flagged(struct kl_cel_decl *d, const struct kl_value *s)
{
    struct kl_str list_type = kl_text(member(s, "x-kubernetes-list-type"));
    if (!d)
        return NULL;
    d->flags |= DF_SCHEMA;
    if (is_set(s, "nullable"))
        d->flags |= DF_NULLABLE;
    d->list_type = kl_str_eqz(list_type, "map")   ? KL_LIST_MAP
                   : kl_str_eqz(list_type, "set") ? KL_LIST_SET
                                                  : KL_LIST_ATOMIC;
    return d;
}

static int64_t enum_length(const struct kl_value *values)
{
    int64_t longest = 0;
    for (KL_EACH(v, values)) {
        int64_t n = v->kind == KL_STRING            ? v->n
                    : v->kind == KL_RAW && v->n > 2 ? (int64_t)v->n - 2
                                                    : 0;
        longest = n > longest ? n : longest;
    }
    return longest;
}

static struct kl_cel_decl *of_string(struct schema_walk *w, const struct kl_value *s)
{
    struct kl_str format = kl_text(member(s, "format"));
    int64_t max = bound(s, "maxLength", -1);
    const struct kl_value *values = member(s, "enum");
    if (kl_str_eqz(format, "byte"))
        return make(w->e, D_SCALAR, CEL_TYPE(T_BYTES), max < 0 ? MAX_BYTES - 2 : max, 2);
    if (kl_str_eqz(format, "duration"))
        return make(w->e, D_SCALAR, CEL_TYPE(T_DURATION), 32, 3);
    if (kl_str_eqz(format, "date") || kl_str_eqz(format, "date-time")) {
        bool date = format.n == 4;
        struct kl_cel_decl *d =
            make(w->e, D_SCALAR, CEL_TYPE(T_TIMESTAMP), date ? 12 : 32, date ? 12 : 21);
        if (d && date)
            d->flags |= DF_DATE;
        return d;
    }
    max = max >= 0 ? 4 * max : kl_len(values) > 0 ? enum_length(values) : MAX_BYTES - 2;
    return make(w->e, D_SCALAR, CEL_TYPE(T_STRING), max, 2);
}

static struct kl_cel_decl *of_array(struct schema_walk *w, struct kl_str name,
                                    const struct kl_value *s)
{
    const struct kl_value *items = member(s, "items");
    struct kl_str elem_name = kl_arena_printf(&w->e->arena, "%.*s.@idx", KL_PRI(name));
    if (!items || !elem_name.p || kl_is(items, KL_ARRAY))
        return NULL;
    const struct kl_cel_decl *elem =
        of_schema(w, elem_name, items, is_set(items, "x-kubernetes-embedded-resource"));
    if (!elem || !elem->type)
        return NULL;
    int64_t max = bound(s, "maxItems", (MAX_BYTES - 2) / (elem->min_size + 1));
    struct kl_cel_decl *d = (struct kl_cel_decl *)kl_cel_decl_list(w->e, elem, max);
    const struct kl_value *keys = member(s, "x-kubernetes-list-map-keys");
    if (!d || !kl_len(keys))
        return d;
    d->map_keys = kl_arena_alloc(&w->e->arena, keys->n * sizeof *d->map_keys);
    for (KL_EACH(k, keys))
        if (d->map_keys)
            d->map_keys[d->nmap_keys++] = kl_text(k);
    return d;
}

static bool is_required(const struct kl_value *s, struct kl_str name)
{
    for (KL_EACH(r, member(s, "required")))
        if (kl_str_eq(kl_text(r), name))
            return true;
    return false;
}

static void add_field(struct schema_walk *w, struct kl_cel_decl *d, struct kl_str object_name,
                      struct kl_str key, const struct kl_value *s, const struct kl_value *prop)
{
    struct kl_str path =
        kl_arena_printf(&w->e->arena, "%.*s.%.*s", KL_PRI(object_name), KL_PRI(key));
    const struct kl_cel_decl *field =
        path.p ? of_schema(w, path, prop, is_set(prop, "x-kubernetes-embedded-resource")) : NULL;
    struct kl_str name = KL_STR("");
    if (!field)
        return;
    if (field->type && kl_cel_escape(&w->e->arena, key, &name))
        name = KL_STR("");
    if (field->type && is_required(s, key) && !member(prop, "default"))
        d->min_size += (int64_t)key.n + field->min_size + 4;
    d->fields[d->nfields++] = (struct decl_field){name, key, field};
}

// apiVersion, kind and metadata of what is a resource.
static void add_type_meta(struct schema_walk *w, struct kl_cel_decl *d, struct kl_str name)
{
    static const char *const strings[] = {"apiVersion", "kind"};
    static const char *const meta[] = {"generateName", "name"};
    struct kl_str path = kl_arena_printf(&w->e->arena, "%.*s.metadata", KL_PRI(name));
    struct kl_cel_decl *m = path.p ? object(w->e, path, 2) : NULL;
    struct kl_cel_decl *text = make(w->e, D_SCALAR, CEL_TYPE(T_STRING), MAX_BYTES - 2, 2);
    uint32_t own = d->nfields;
    if (!m || !text)
        return;
    text->flags |= DF_SCHEMA;
    m->flags |= DF_SCHEMA;
    for (int i = 0; i < 2; i++) {
        m->fields[m->nfields++] = (struct decl_field){kl_str(meta[i]), kl_str(meta[i]), text};
        for (uint32_t k = 0; k <= own; k++)
            if (k == own)
                d->fields[d->nfields++] =
                    (struct decl_field){kl_str(strings[i]), kl_str(strings[i]), text};
            else if (kl_str_eqz(d->fields[k].key, strings[i])) {
                d->fields[k].decl = text;
                break;
            }
    }
    for (uint32_t k = 0; k <= own; k++)
        if (k == own)
            d->fields[d->nfields++] =
                (struct decl_field){KL_STR("metadata"), KL_STR("metadata"), m};
        else if (kl_str_eqz(d->fields[k].key, "metadata")) {
            d->fields[k].decl = m;
            break;
        }
}

static struct kl_cel_decl *of_object(struct schema_walk *w, struct kl_str name,
                                     const struct kl_value *s, bool resource)
{
    const struct kl_value *extra = member(s, "additionalProperties");
    const struct kl_value *props = member(s, "properties");
    if (extra && extra->kind != KL_BOOL) {
        struct kl_str elem_name = kl_arena_printf(&w->e->arena, "%.*s.@elem", KL_PRI(name));
        const struct kl_cel_decl *elem =
            elem_name.p
                ? of_schema(w, elem_name, extra, is_set(extra, "x-kubernetes-embedded-resource"))
                : NULL;
        if (!elem || !elem->type)
            return NULL;
        return (struct kl_cel_decl *)kl_cel_decl_map(
            w->e, elem, bound(s, "maxProperties", (MAX_BYTES - 2) / (elem->min_size + 6)));
    }
    struct kl_cel_decl *d = object(w->e, name, kl_len(props) + 3);
    if (!d)
        return NULL;
    for (KL_MAP_EACH_KEY(key, props))
        add_field(w, d, name, kl_text(key), s, key + 1);
    if (resource)
        add_type_meta(w, d, name);
    if (!d->nfields)
        d->flags |= DF_UNKEYED;
    qsort(d->fields, d->nfields, sizeof *d->fields, by_key);
    return d;
}

// A declaration without a type is data that CEL cannot see but equality can. NULL: no such schema.
static const struct kl_cel_decl *of_schema(struct schema_walk *w, struct kl_str name,
                                           const struct kl_value *s, bool resource)
{
    struct kl_str type = kl_text(member(s, "type"));
    struct kl_cel_decl *d = NULL;
    if (++w->depth > MAX_SCHEMA_DEPTH) {
        w->depth--;
        return NULL;
    }
    if (is_set(s, "x-kubernetes-int-or-string")) {
        d = make(w->e, D_SCALAR, CEL_TYPE(T_DYN), 4 * bound(s, "maxLength", -1), 1);
        if (d && d->max_elements < 0)
            d->max_elements = MAX_BYTES - 2;
        if (d)
            d->flags |= DF_INT_OR_STRING;
    } else if (kl_str_eqz(type, "array")) {
        d = of_array(w, name, s);
    } else if (kl_str_eqz(type, "object")) {
        d = of_object(w, name, s, resource);
    } else if (kl_str_eqz(type, "string")) {
        d = of_string(w, s);
    } else if (kl_str_eqz(type, "boolean")) {
        d = make(w->e, D_SCALAR, CEL_TYPE(T_BOOL), 0, 4);
    } else if (kl_str_eqz(type, "number")) {
        d = make(w->e, D_SCALAR, CEL_TYPE(T_DOUBLE), 0, 1);
    } else if (kl_str_eqz(type, "integer")) {
        d = make(w->e, D_SCALAR, CEL_TYPE(T_INT), 0, 1);
    } else if (is_set(s, "x-kubernetes-preserve-unknown-fields")) {
        d = KL_ARENA_NEW(&w->e->arena, struct kl_cel_decl);
        if (d)
            d->flags |= DF_PRESERVE;
    }
    w->depth--;
    return flagged(d, s);
}

int kl_cel_decl_schema(struct kl_cel_env *e, struct kl_str name, const struct kl_value *schema,
                       bool root, const struct kl_cel_decl **ret, struct kl_error *err)
{
    struct schema_walk w = {.e = e};
    const struct kl_cel_decl *d = of_schema(&w, name, schema, root);
    if (e->arena.used_bytes >= e->arena.max_bytes)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    *ret = d && d->type ? d : NULL;
    return 0;
}
