// SPDX-License-Identifier: Apache-2.0
// Freezing: a draft becomes one block of memory in canonical form. One pass counts, one copies;
// both ask keeps() which members canonical form has. kl_draft_canonical makes the same tree without
// a block.
#include "object/freeze.h"
#include "object/schema.h"
#include <stdlib.h>

// 0001-01-01T00:00:00Z, Go's zero time, which metav1.Time writes as null.
#define GO_ZERO_TIME_US (-62135596800000000)

static const struct kl_field *field_after(const struct kl_type *t, const struct kl_field *from,
                                          uint32_t sym)
{
    for (const struct kl_field *f = from, *end = t->fields + t->nfields; f < end; f++)
        if (f->sym == sym)
            return f;
    return kl_type_field(t, sym);
}

static bool is_typed(const struct kl_type *t, const struct kl_value *v)
{
    return v->kind == KL_STRUCT && t && t->kind == KL_T_STRUCT;
}

// The type of an array's or map's elements; schema-or-array and its like hold their elem itself.
static const struct kl_type *elem_type(const struct kl_type *t, const struct kl_value *v)
{
    if (!t)
        return NULL;
    if (t->kind == KL_T_SCHEMA_OR_STRINGS && v->kind == KL_ARRAY)
        return NULL;
    return t->elem;
}

static const struct kl_type *struct_type(const struct kl_type *t, const struct kl_value *v)
{
    return t && t->kind >= KL_T_SCHEMA_OR_ARRAY && v->kind == KL_STRUCT ? t->elem : t;
}

static bool keeps_odd(const struct kl_field *f, const struct kl_value *v);

// Whether canonical form has this member.
static inline bool keeps(const struct kl_field *f, const struct kl_value *v)
{
    bool sized = v->kind >= KL_STRING && v->kind != KL_STRUCT;
    return (sized && v->n > 1) || keeps_odd(f, v);
}

static bool is_empty_struct(const struct kl_type *t, const struct kl_value *v)
{
    const struct kl_field *f = t->fields;
    for (size_t i = 0; i < v->n; i++) {
        f = field_after(t, f ? f : t->fields, v->items[i].sym);
        if (f && keeps(f, &v->items[i]))
            return false;
    }
    return true;
}

static bool keeps_odd(const struct kl_field *f, const struct kl_value *v)
{
    if (v->kind == KL_NULL)
        return f->flags & KL_FIELD_KEEP_NULL;
    if (v->kind == KL_TIME && v->i == GO_ZERO_TIME_US)
        return false;
    if ((f->flags & KL_FIELD_PTR) || f->type->kind == KL_T_ANY)
        return true;
    switch (v->kind) {
    case KL_BOOL:
        return v->b;
    case KL_INT:
        return v->i != 0;
    case KL_FLOAT:
        return v->d != 0;
    case KL_STRING:
        if (f->type->kind == KL_T_QUANTITY && v->n == 1 && v->s[0] == '0')
            return false;
        // An empty string is a value of its own where an integer could stand.
        return v->n != 0 || f->type->kind == KL_T_INT_OR_STRING;
    case KL_BYTES: // JSON tells "" from null where the field always shows
        return v->n != 0 || (f->flags & KL_FIELD_EMIT_ALWAYS);
    case KL_RAW:
    case KL_ARRAY:
    case KL_MAP:
        return v->n != 0;
    case KL_STRUCT:
        return !is_typed(f->type, v) || !is_empty_struct(f->type, v);
    default:
        return true;
    }
}

struct size {
    size_t values, bytes;
    bool canonical; // nothing to drop or to sort: a copy need not look at the schema
};

static int compare_keys(const void *a, const void *b)
{
    return kl_str_cmp(kl_text(a), kl_text(b));
}

static bool keys_are_sorted(const struct kl_value *items, size_t n)
{
    for (size_t i = 2; i < n; i += 2)
        if (compare_keys(&items[i - 2], &items[i]) >= 0)
            return false;
    return true;
}

static void count(const struct kl_type *t, const struct kl_value *v, uint32_t skip1, uint32_t skip2,
                  struct size *size)
{
    if (v->kind < KL_STRING)
        return;
    if (v->kind < KL_ARRAY) {
        size->bytes += v->n;
        return;
    }
    t = struct_type(t, v);
    if (is_typed(t, v)) {
        const struct kl_field *f = t->fields;
        for (const struct kl_value *m = v->items, *end = m + v->n; m < end; m++) {
            const struct kl_field *at = field_after(t, f, m->sym);
            if (m->sym == skip1 || m->sym == skip2)
                continue;
            if (!at || !keeps(at, m)) {
                size->canonical = false;
                continue;
            }
            size->canonical &= at >= f;
            f = at;
            size->values++;
            if (m->kind >= KL_STRING)
                count(f->type, m, 0, 0, size);
        }
        return;
    }
    size_t n = v->kind == KL_MAP ? 2 * (size_t)v->n : v->n;
    size->values += n;
    if (v->kind == KL_MAP)
        size->canonical = size->canonical && keys_are_sorted(v->items, n);
    t = elem_type(t, v);
    for (size_t i = 0; i < n; i++)
        count(t, &v->items[i], 0, 0, size);
}

struct cursor {
    struct kl_value *value;
    char *byte;
};

static void copy(const struct kl_type *t, struct kl_value *v, uint32_t skip1, uint32_t skip2,
                 struct cursor *at);

static void copy_text(struct kl_value *v, struct cursor *at)
{
    if (v->n)
        memcpy(at->byte, v->s, v->n);
    v->s = v->n ? at->byte : "";
    at->byte += v->n;
}

// By the position of their fields in the schema; nearly sorted, so insertion it is.
static void sort_members(const struct kl_type *t, struct kl_value *items, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct kl_value m = items[i];
        const struct kl_field *f = kl_type_field(t, m.sym);
        size_t j = i;
        while (j > 0 && kl_type_field(t, items[j - 1].sym) > f) {
            items[j] = items[j - 1];
            j--;
        }
        items[j] = m;
    }
}

static void copy_struct(const struct kl_type *t, struct kl_value *v, uint32_t skip1, uint32_t skip2,
                        struct cursor *at)
{
    struct kl_value *items = at->value;
    const struct kl_field *f = t->fields;
    size_t n = 0;
    bool sorted = true;
    for (const struct kl_value *m = v->items, *end = m + v->n; m < end; m++) {
        const struct kl_field *here = field_after(t, f, m->sym);
        if (!here || m->sym == skip1 || m->sym == skip2 || !keeps(here, m))
            continue;
        sorted &= here >= f;
        f = here;
        items[n++] = *m;
    }
    if (!sorted)
        sort_members(t, items, n);
    at->value += n;
    v->items = items;
    v->n = (uint32_t)n;
    f = t->fields;
    for (size_t i = 0; i < n; i++) {
        if (items[i].kind >= KL_ARRAY)
            f = field_after(t, f, items[i].sym);
        copy(f->type, &items[i], 0, 0, at);
    }
}

static void copy_elements(const struct kl_type *t, struct kl_value *v, struct cursor *at)
{
    size_t n = v->kind == KL_MAP ? 2 * (size_t)v->n : v->n;
    struct kl_value *items = at->value;
    if (n)
        memcpy(items, v->items, n * sizeof(*items));
    at->value += n;
    v->items = items;
    if (v->kind == KL_MAP && !keys_are_sorted(items, n))
        qsort(items, v->n, 2 * sizeof(*items), compare_keys);
    t = elem_type(t, v);
    for (size_t i = 0; i < n; i++) {
        items[i].sym = 0;
        copy(t, &items[i], 0, 0, at);
    }
}

// The same for a tree in canonical form.
static void copy_canonical(struct kl_value *v, struct cursor *at)
{
    v->owned = 0;
    if (v->kind < KL_STRING)
        return;
    if (v->kind < KL_ARRAY) {
        copy_text(v, at);
        return;
    }
    size_t n = v->kind == KL_MAP ? 2 * (size_t)v->n : v->n;
    struct kl_value *items = at->value;
    if (n)
        memcpy(items, v->items, n * sizeof(*items));
    v->items = items;
    at->value += n;
    for (size_t i = 0; i < n; i++)
        copy_canonical(&items[i], at);
}

// The root of one, without the two members that its type says.
static void copy_canonical_root(struct kl_value *v, uint32_t skip1, uint32_t skip2,
                                struct cursor *at)
{
    if (v->kind != KL_STRUCT || !skip1) {
        copy_canonical(v, at);
        return;
    }
    struct kl_value *items = at->value;
    uint32_t n = 0;
    for (const struct kl_value *m = v->items, *end = m + v->n; m < end; m++)
        if (m->sym != skip1 && m->sym != skip2)
            items[n++] = *m;
    v->owned = 0;
    v->items = items;
    v->n = n;
    at->value += n;
    for (uint32_t i = 0; i < n; i++)
        copy_canonical(&items[i], at);
}

// Moves what *v refers to into the block.
static void copy(const struct kl_type *t, struct kl_value *v, uint32_t skip1, uint32_t skip2,
                 struct cursor *at)
{
    v->owned = 0;
    if (v->kind < KL_STRING)
        return;
    if (v->kind < KL_ARRAY) {
        copy_text(v, at);
        return;
    }
    t = struct_type(t, v);
    if (is_typed(t, v))
        copy_struct(t, v, skip1, skip2, at);
    else
        copy_elements(t, v, at);
}

// The type of a root says its apiVersion and kind.
static bool says_head(const struct kl_type *type)
{
    return type && type->has_type_meta && (type->custom || kl_type_is_builtin(type));
}

struct kl_object *kl_object_freeze(const struct kl_type *type, const struct kl_value *draft)
{
    bool head = says_head(type);
    uint32_t skip1 = head ? KL_F_apiVersion : 0, skip2 = head ? KL_F_kind : 0;
    struct size size = {.canonical = true};
    count(type, draft, skip1, skip2, &size);
    size_t total = sizeof(struct kl_object) + size.values * sizeof(struct kl_value) + size.bytes;
    struct kl_object *o = total <= UINT32_MAX ? malloc(total) : NULL;
    if (!o)
        return NULL;
    atomic_init(&o->refs, 1);
    o->size_bytes = (uint32_t)total;
    o->type = type;
    o->root = *draft;
    o->root.sym = 0;
    struct kl_value *values = (struct kl_value *)(o + 1);
    struct cursor at = {values, (char *)(values + size.values)};
    if (size.canonical)
        copy_canonical_root(&o->root, skip1, skip2, &at);
    else
        copy(type, &o->root, skip1, skip2, &at);
    if (type && type->custom)
        kl_custom_type_ref(type);
    return o;
}

// ---- the same without a block

struct share {
    struct kl_arena *arena;
    uintptr_t from, size; // the block of the object that is shared
    bool empties;
};

// Lists and maps without anything in them that Go writes as they came, and what holds such.
static bool has_empties(const struct kl_type *t, const struct kl_value *v)
{
    const struct kl_field *f;
    for (const struct kl_value *m = v->items, *end = m + v->n; m < end; m++)
        if ((m->kind == KL_ARRAY || m->kind == KL_MAP || m->kind == KL_STRUCT) &&
            (f = kl_type_field(t, m->sym)) && (f->flags & KL_FIELD_EMIT_ALWAYS) &&
            (m->kind != KL_STRUCT ? m->n == 0 : is_typed(f->type, m) && has_empties(f->type, m)))
            return true;
    return false;
}

static bool keeps_empty(const struct kl_field *f, const struct kl_value *v)
{
    if (!(f->flags & KL_FIELD_EMIT_ALWAYS))
        return false;
    return v->kind == KL_ARRAY || v->kind == KL_MAP ||
           (is_typed(f->type, v) && has_empties(f->type, v));
}

static int canonical(const struct share *s, const struct kl_type *t, struct kl_value *v);

static int canonical_struct(const struct share *s, const struct kl_type *t, struct kl_value *v,
                            bool head)
{
    struct kl_value *items = kl_arena_alloc(s->arena, v->n * sizeof *items);
    const struct kl_field *f = t->fields;
    bool sorted = true;
    uint32_t n = 0;
    int rc = items ? 0 : KL_ENOMEM;
    for (uint32_t i = 0; i < v->n && !rc; i++) {
        const struct kl_value *m = &v->items[i];
        const struct kl_field *here = field_after(t, f, m->sym);
        if (!here || (!keeps(here, m) && !(s->empties && keeps_empty(here, m))) ||
            (head && (m->sym == KL_F_apiVersion || m->sym == KL_F_kind)))
            continue;
        sorted &= here >= f;
        f = here;
        items[n] = *m;
        rc = canonical(s, f->type, &items[n++]);
    }
    if (!rc && !sorted)
        sort_members(t, items, n);
    v->items = items;
    v->n = n;
    return rc;
}

static int canonical(const struct share *s, const struct kl_type *t, struct kl_value *v)
{
    v->owned = 0;
    if (v->kind < KL_ARRAY || v->n == 0 || (uintptr_t)v->items - s->from < s->size)
        return 0;
    t = struct_type(t, v);
    if (is_typed(t, v))
        return canonical_struct(s, t, v, false);
    size_t n = v->kind == KL_MAP ? 2 * (size_t)v->n : v->n;
    struct kl_value *items = kl_arena_alloc(s->arena, n * sizeof *items);
    int rc = items ? 0 : KL_ENOMEM;
    if (rc)
        return rc;
    memcpy(items, v->items, n * sizeof *items);
    v->items = items;
    if (v->kind == KL_MAP && !keys_are_sorted(items, n))
        qsort(items, v->n, 2 * sizeof *items, compare_keys);
    t = elem_type(t, v);
    for (size_t i = 0; i < n && !rc; i++) {
        items[i].sym = 0;
        rc = canonical(s, t, &items[i]);
    }
    return rc;
}

static int canonical_root(struct kl_arena *a, const struct kl_type *type,
                          const struct kl_object *base, bool empties, const struct kl_value *draft,
                          struct kl_value *ret)
{
    struct share s = {.arena = a,
                      .from = (uintptr_t)base,
                      .size = base ? base->size_bytes : 0,
                      .empties = empties};
    struct kl_value v = *draft;
    v.sym = 0;
    int rc = is_typed(type, &v) && v.n ? canonical_struct(&s, type, &v, says_head(type))
                                       : canonical(&s, type, &v);
    if (!rc)
        *ret = v;
    return rc;
}

int kl_draft_canonical(struct kl_arena *a, const struct kl_type *type, const struct kl_object *base,
                       const struct kl_value *draft, struct kl_value *ret)
{
    return canonical_root(a, type, base, false, draft, ret);
}

int kl_draft_as_sent(struct kl_arena *a, const struct kl_type *type, const struct kl_object *base,
                     const struct kl_value *draft, struct kl_value *ret)
{
    return canonical_root(a, type, base, true, draft, ret);
}

struct kl_object *kl_object_ref(struct kl_object *o)
{
    if (o)
        atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
    return o;
}

void kl_object_unref(struct kl_object *o)
{
    if (!o || atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (o->type && o->type->custom)
        kl_custom_type_unref(o->type);
    free(o);
}
