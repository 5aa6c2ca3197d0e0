// SPDX-License-Identifier: Apache-2.0
#include "object/apply/custom_int.h"
#include "object/json.h"

unsigned kl_shape_atoms(struct kl_shape s)
{
    if (s.words)
        return kl_custom_atoms(s);
    if (!s.type)
        return KL_ATOM_SCALAR | KL_ATOM_LIST | KL_ATOM_MAP;
    switch (s.type->kind) {
    case KL_T_STRUCT:
    case KL_T_MAP:
        return KL_ATOM_MAP;
    case KL_T_ARRAY:
        return KL_ATOM_LIST;
    case KL_T_ANY:
    case KL_T_JSON:
    case KL_T_FIELDS_V1:
    case KL_T_RAW_EXTENSION:
    case KL_T_UNKNOWN:
    case KL_T_SCHEMA_OR_ARRAY:
    case KL_T_SCHEMA_OR_BOOL:
    case KL_T_SCHEMA_OR_STRINGS:
        return KL_ATOM_SCALAR | KL_ATOM_LIST | KL_ATOM_MAP;
    default:
        return KL_ATOM_SCALAR;
    }
}

unsigned kl_shape_deduce(unsigned atoms, const struct kl_value *v)
{
    unsigned is = !v || v->kind == KL_NULL ? 0
                  : v->kind == KL_ARRAY    ? KL_ATOM_LIST
                  : kl_is_map(v)           ? KL_ATOM_MAP
                                           : KL_ATOM_SCALAR;
    return atoms & is ? is : atoms;
}

static bool is_opaque(struct kl_shape s)
{
    return s.type && (s.type->kind == KL_T_RAW_EXTENSION || s.type->kind == KL_T_UNKNOWN);
}

bool kl_shape_closed(struct kl_shape s)
{
    return s.words ? kl_custom_closed(s) : s.type && s.type->kind == KL_T_STRUCT;
}

bool kl_shape_atomic_list(struct kl_shape s)
{
    if (s.words)
        return kl_custom_list_type(s) == KL_LIST_ATOMIC;
    const struct kl_field *f = s.field;
    if (!s.type || s.type->kind != KL_T_ARRAY || !f)
        return true;
    if (f->list_type != KL_LIST_NONE)
        return f->list_type == KL_LIST_ATOMIC;
    return !(f->flags & KL_FIELD_PATCH_MERGE);
}

bool kl_shape_atomic_map(struct kl_shape s)
{
    if (s.words)
        return kl_custom_atomic_map(s);
    bool granular = s.field && (s.field->flags & KL_FIELD_GRANULAR);
    return is_opaque(s) || (s.type && s.type->map_atomic && !granular);
}

bool kl_shape_has_keys(struct kl_shape s)
{
    if (s.words)
        return kl_custom_list_type(s) == KL_LIST_MAP;
    return s.field && (s.field->list_type == KL_LIST_NONE ? s.field->merge_key != 0
                                                          : s.field->list_type == KL_LIST_MAP);
}

struct kl_shape kl_shape_elem(struct kl_shape s)
{
    if (s.words)
        return kl_custom_elem(s);
    bool typed = s.type && (s.type->kind == KL_T_ARRAY || s.type->kind == KL_T_MAP);
    return (struct kl_shape){.type = typed ? s.type->elem : is_opaque(s) ? s.type : NULL};
}

struct kl_shape kl_shape_member(struct kl_shape s, struct kl_str name, bool *ret_declared)
{
    const struct kl_field *f = NULL;
    if (s.words)
        return kl_custom_member(s, name, ret_declared);
    if (s.type && s.type->kind == KL_T_STRUCT)
        f = kl_type_field_named(s.type, name);
    *ret_declared = f != NULL;
    return f ? (struct kl_shape){.type = f->type, .field = f} : kl_shape_elem(s);
}

const struct kl_value *kl_shape_zero(const struct kl_field *f)
{
    static const struct kl_value null = {.kind = KL_NULL}, none = {.kind = KL_STRUCT},
                                 empty = {.kind = KL_STRING, .s = ""}, zero = {.kind = KL_INT},
                                 no = {.kind = KL_BOOL},
                                 quantity = {.kind = KL_STRING, .n = 1, .s = "0"};
    if (!(f->flags & KL_FIELD_EMIT_ALWAYS))
        return NULL;
    if (f->flags & KL_FIELD_PTR)
        return &null;
    switch (f->type->kind) {
    case KL_T_STRUCT:
        return &none;
    case KL_T_STRING:
        return &empty;
    case KL_T_QUANTITY:
        return &quantity;
    case KL_T_INTEGER:
    case KL_T_NUMBER:
    case KL_T_INT_OR_STRING:
    case KL_T_DURATION:
        return &zero;
    case KL_T_BOOLEAN:
        return &no;
    default:
        return &null;
    }
}

// ---- members

struct kl_pairs kl_pairs_of(struct kl_shape s, const struct kl_value *l, const struct kl_value *r)
{
    return (struct kl_pairs){
        .shape = s, .l = kl_is_map(l) ? l : NULL, .r = kl_is_map(r) ? r : NULL};
}

static const struct kl_value *take_field(const struct kl_value *v, uint32_t *at,
                                         const struct kl_field *f)
{
    if (!v)
        return NULL;
    if (*at < v->n && v->items[*at].sym == f->sym)
        return &v->items[(*at)++];
    return kl_shape_zero(f);
}

// Canonical structs: both in the order of the schema.
static bool next_field(struct kl_pairs *p, struct kl_pair *ret)
{
    const struct kl_type *t = p->shape.type;
    while (p->f < t->nfields) {
        const struct kl_field *f = &t->fields[p->f++];
        ret->l = take_field(p->l, &p->i, f);
        ret->r = take_field(p->r, &p->j, f);
        if (!ret->l && !ret->r)
            continue;
        ret->name = kl_sym_name(f->sym);
        ret->field = f;
        ret->shape = (struct kl_shape){.type = f->type, .field = f};
        return true;
    }
    return false;
}

bool kl_pairs_next(struct kl_pairs *p, struct kl_pair *ret)
{
    const struct kl_value *any = p->l ? p->l : p->r;
    if (any && any->kind == KL_STRUCT && p->shape.type && p->shape.type->kind == KL_T_STRUCT)
        return next_field(p, ret);
    bool has_l = p->i < kl_len(p->l), has_r = p->j < kl_len(p->r), declared;
    if (!any || any->kind != KL_MAP || (!has_l && !has_r))
        return false;
    const struct kl_value *l = has_l ? &p->l->items[2 * p->i] : NULL;
    const struct kl_value *r = has_r ? &p->r->items[2 * p->j] : NULL;
    int c = !l ? 1 : !r ? -1 : kl_str_cmp(kl_text(l), kl_text(r));
    ret->name = kl_text(c <= 0 ? l : r);
    ret->l = c <= 0 ? l + 1 : NULL;
    ret->r = c >= 0 ? r + 1 : NULL;
    p->i += c <= 0;
    p->j += c >= 0;
    ret->shape = kl_shape_member(p->shape, ret->name, &declared);
    // A custom resource's members have no fields: one stands for all that are declared.
    static const struct kl_field custom = {.sym = KL_SYM_NONE};
    ret->field = !declared ? NULL : ret->shape.field ? ret->shape.field : &custom;
    return true;
}

bool kl_shape_empty_map(struct kl_shape s, const struct kl_value *v)
{
    struct kl_pairs p = kl_pairs_of(s, v, NULL);
    struct kl_pair ignored;
    return kl_len(p.l) == 0 && !kl_pairs_next(&p, &ignored);
}

// ---- items

struct kl_elem kl_elem_name(struct kl_str name)
{
    return (struct kl_elem){.kind = KL_ELEM_FIELD, .name = name};
}

static int set_item(const struct kl_value *item, struct kl_elem *ret, struct kl_error *err)
{
    if (kl_is_map(item))
        return kl_error_set(err, KL_EINVALID,
                            "associative list without keys has an element that's a map type");
    if (item->kind == KL_ARRAY)
        return kl_error_set(err, KL_EINVALID,
                            "not supported: associative list with lists as elements");
    if (item->kind == KL_NULL)
        return kl_error_set(err, KL_EINVALID,
                            "associative list without keys has an element that's an explicit null");
    *ret = (struct kl_elem){.kind = KL_ELEM_VALUE, .value = *item};
    return 0;
}

// The value of a key field: the item's, else the schema's default, else none.
static bool key_value(struct kl_arena *a, const struct kl_type *t, const struct kl_value *item,
                      uint32_t sym, struct kl_value *ret)
{
    const struct kl_value *v =
        item->kind == KL_STRUCT ? kl_get(item, sym) : kl_map_value(item, kl_sym_name(sym));
    const struct kl_field *f = t && t->kind == KL_T_STRUCT ? kl_type_field(t, sym) : NULL;
    struct kl_error ignored;
    if (v) {
        *ret = *v;
        return true;
    }
    if (f && f->default_json)
        return kl_json_parse(a, kl_str(f->default_json), NULL, ret, &ignored) == 0;
    v = f ? kl_shape_zero(f) : NULL;
    if (!v || v->kind == KL_NULL)
        return false;
    *ret = *v;
    return true;
}

static size_t sorted_keys(const struct kl_field *f, uint32_t *ret)
{
    size_t n = 0;
    if (f->list_type == KL_LIST_NONE)
        ret[n++] = f->merge_key;
    for (const uint32_t *k = f->list_map_keys; k && *k && f->list_type == KL_LIST_MAP; k++)
        if (n < KL_LIST_KEYS_MAX)
            ret[n++] = *k;
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j && kl_str_cmp(kl_sym_name(ret[j - 1]), kl_sym_name(ret[j])) > 0; j--) {
            uint32_t t = ret[j];
            ret[j] = ret[j - 1];
            ret[j - 1] = t;
        }
    return n;
}

int kl_shape_no_keys(const struct kl_str *keys, size_t n, struct kl_error *err)
{
    struct kl_buf b;
    kl_buf_init(&b, sizeof err->msg);
    for (size_t i = 0; i < n; i++)
        kl_buf_printf(&b, "%s\"%.*s\"", i ? " " : "", KL_PRI(keys[i]));
    kl_error_set(err, KL_EINVALID,
                 "associative list with keys has an element that omits all key fields [%.*s] (and "
                 "doesn't have default values for any key fields)",
                 KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
    return KL_EINVALID;
}

// As the schema has them, not sorted.
static int no_keys(const struct kl_field *f, struct kl_error *err)
{
    const uint32_t one[] = {f->merge_key, 0};
    struct kl_str names[KL_LIST_KEYS_MAX];
    size_t n = 0;
    for (const uint32_t *k = f->list_type == KL_LIST_NONE ? one : f->list_map_keys;
         *k && n < KL_LIST_KEYS_MAX; k++)
        names[n++] = kl_sym_name(*k);
    return kl_shape_no_keys(names, n, err);
}

int kl_shape_item(struct kl_arena *a, struct kl_shape list, const struct kl_value *item,
                  struct kl_elem *ret, struct kl_error *err)
{
    uint32_t syms[KL_LIST_KEYS_MAX];
    if (!kl_shape_has_keys(list))
        return set_item(item, ret, err);
    if (item->kind == KL_NULL)
        return kl_error_set(err, KL_EINVALID,
                            "associative list with keys may not have a null element");
    if (!kl_is_map(item))
        return kl_error_set(err, KL_EINVALID,
                            "associative list with keys may not have non-map elements");
    if (list.words)
        return kl_custom_item(a, list, item, ret, err);
    size_t n = sorted_keys(list.field, syms);
    struct kl_elem_key *keys = kl_arena_alloc(a, (n + 1) * sizeof *keys);
    if (!keys)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    *ret = (struct kl_elem){.kind = KL_ELEM_KEY, .keys = keys};
    for (size_t i = 0; i < n; i++)
        if (key_value(a, list.type->elem, item, syms[i], &keys[ret->n].value))
            keys[ret->n++].name = kl_sym_name(syms[i]);
    return ret->n ? 0 : no_keys(list.field, err);
}
