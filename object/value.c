// SPDX-License-Identifier: Apache-2.0
// Reading, comparing and changing values. Objects are frozen in freeze.c.
#include "object/value.h"
#include "object/schema.h"

static const struct kl_value *find_member(const struct kl_value *v, kl_sym field)
{
    if (!v || v->kind != KL_STRUCT)
        return NULL;
    for (const struct kl_value *m = v->items, *end = m + v->n; m < end; m++)
        if (m->sym == field)
            return m;
    return NULL;
}

const struct kl_value *kl_get(const struct kl_value *v, kl_sym field)
{
    const struct kl_value *m = find_member(v, field);
    return m && m->kind != KL_NULL ? m : NULL;
}

static const struct kl_value *find_entry(const struct kl_value *v, struct kl_str key)
{
    if (!v || v->kind != KL_MAP)
        return NULL;
    for (const struct kl_value *e = v->items, *end = e + 2 * (size_t)v->n; e < end; e += 2)
        if (e->n == key.n && (key.n == 0 || memcmp(e->s, key.p, key.n) == 0))
            return e;
    return NULL;
}

const struct kl_value *kl_map_value(const struct kl_value *v, struct kl_str key)
{
    const struct kl_value *e = find_entry(v, key);
    return e ? e + 1 : NULL;
}

const struct kl_value *kl_at(const struct kl_value *v, size_t index)
{
    return v && v->kind == KL_ARRAY && index < v->n ? &v->items[index] : NULL;
}

bool kl_has_text(const struct kl_value *list, struct kl_str text)
{
    for (KL_EACH(x, list))
        if (kl_str_eq(kl_text(x), text))
            return true;
    return false;
}

const struct kl_value *kl_path_list(const struct kl_value *v, const kl_sym *fields, size_t n)
{
    for (size_t i = 0; v && i < n; i++)
        v = kl_get(v, fields[i]);
    return v;
}

static bool members_equal(const struct kl_value *a, const struct kl_value *b)
{
    size_t na = 0, nb = 0;
    for (size_t i = 0; i < a->n; i++) {
        const struct kl_value *m = &a->items[i];
        if (m->kind == KL_NULL)
            continue;
        na++;
        const struct kl_value *o =
            i < b->n && b->items[i].sym == m->sym ? &b->items[i] : find_member(b, m->sym);
        if (!o || !kl_value_equal(m, o))
            return false;
    }
    for (size_t i = 0; i < b->n; i++)
        nb += b->items[i].kind != KL_NULL;
    return na == nb;
}

static bool entries_equal(const struct kl_value *a, const struct kl_value *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        const struct kl_value *key = &a->items[2 * i], *o = &b->items[2 * i];
        if (o->n != key->n || (key->n && memcmp(o->s, key->s, key->n) != 0))
            o = find_entry(b, kl_text(key));
        if (!o || !kl_value_equal(key + 1, o + 1))
            return false;
    }
    return true;
}

bool kl_value_equal(const struct kl_value *a, const struct kl_value *b)
{
    static const struct kl_value null = {.kind = KL_NULL};
    a = a ? a : &null;
    b = b ? b : &null;
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case KL_NULL:
        return true;
    case KL_BOOL:
        return a->b == b->b;
    case KL_INT:
    case KL_TIME:
        return a->i == b->i;
    case KL_FLOAT:
        return a->d == b->d;
    case KL_STRING:
    case KL_BYTES:
    case KL_RAW:
        return a->n == b->n && (a->n == 0 || a->s == b->s || memcmp(a->s, b->s, a->n) == 0);
    default:
        break;
    }
    if (a->n == b->n && a->items == b->items)
        return true;
    if (a->kind == KL_STRUCT)
        return members_equal(a, b);
    if (a->kind == KL_MAP)
        return entries_equal(a, b);
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!kl_value_equal(&a->items[i], &b->items[i]))
            return false;
    return true;
}

// ---- changing

// An owned level always has room for this many elements; its capacity is not stored.
static size_t room_for(size_t n)
{
    return n <= 4 ? 4 : (size_t)1 << (64 - __builtin_clzll(n - 1));
}

// Makes v's level its own with room for `more` further elements. Growing an owned level moves it:
// what its children own stays theirs. A level copied from elsewhere leaves its children shared.
static int own_level(struct kl_arena *a, struct kl_value *v, size_t more)
{
    size_t width = v->kind == KL_MAP ? 2 : 1, want = (size_t)v->n + more;
    if (v->owned && want <= room_for(v->n))
        return 0;
    if (want > UINT32_MAX / 2)
        return KL_ENOMEM;
    struct kl_value *items = kl_arena_alloc(a, room_for(want) * width * sizeof(*items));
    if (!items)
        return KL_ENOMEM;
    if (v->n)
        memcpy(items, v->items, v->n * width * sizeof(*items));
    if (!v->owned)
        for (size_t i = 0; i < v->n * width; i++)
            items[i].owned = 0;
    v->items = items;
    v->owned = 1;
    return 0;
}

// A container of the kind, empty unless it is one already.
static int be_container(struct kl_value *v, enum kl_value_kind kind)
{
    if (!v)
        return KL_ENOMEM; // an edit before failed
    if (v->kind != (uint32_t)kind) {
        uint32_t sym = v->sym;
        *v = (struct kl_value){.kind = (uint32_t)kind, .sym = sym};
    }
    return 0;
}

// The slot of the member for writing, appended when absent (as KL_NULL).
static struct kl_value *member_slot(struct kl_arena *a, struct kl_value *parent, kl_sym field)
{
    if (be_container(parent, KL_STRUCT))
        return NULL;
    const struct kl_value *m = find_member(parent, field);
    size_t i = m ? (size_t)(m - parent->items) : parent->n;
    if (own_level(a, parent, !m))
        return NULL;
    if (!m)
        parent->items[parent->n++] = (struct kl_value){.kind = KL_NULL, .sym = field & 0xffffff};
    return &parent->items[i];
}

static struct kl_value *entry_slot(struct kl_arena *a, struct kl_value *map, struct kl_str key)
{
    if (be_container(map, KL_MAP))
        return NULL;
    const struct kl_value *e = find_entry(map, key);
    size_t i = e ? (size_t)(e - map->items) : 2 * (size_t)map->n;
    if (own_level(a, map, !e))
        return NULL;
    if (!e) {
        map->items[i] = kl_string(key);
        map->items[i + 1] = kl_null();
        map->n++;
    }
    return &map->items[i + 1];
}

static void put(struct kl_value *slot, struct kl_value v)
{
    uint32_t sym = slot->sym;
    *slot = v;
    slot->sym = sym;
    slot->owned = 0; // the caller may still hold v
}

int kl_set(struct kl_arena *a, struct kl_value *parent, kl_sym field, struct kl_value v)
{
    struct kl_value *slot = member_slot(a, parent, field);
    if (!slot)
        return KL_ENOMEM;
    put(slot, v);
    return 0;
}

int kl_set_default(struct kl_arena *a, struct kl_value *parent, kl_sym field, struct kl_value v)
{
    return kl_get(parent, field) ? 0 : kl_set(a, parent, field, v);
}

int kl_map_set_value(struct kl_arena *a, struct kl_value *map, struct kl_str key, struct kl_value v)
{
    struct kl_value *slot = entry_slot(a, map, key);
    if (!slot)
        return KL_ENOMEM;
    put(slot, v);
    return 0;
}

int kl_append(struct kl_arena *a, struct kl_value *array, struct kl_value v)
{
    if (be_container(array, KL_ARRAY) || own_level(a, array, 1))
        return KL_ENOMEM;
    v.owned = 0;
    v.sym = 0;
    array->items[array->n++] = v;
    return 0;
}

// Takes `width` elements at i out of v's level.
static int remove_slots(struct kl_arena *a, struct kl_value *v, size_t i, size_t width)
{
    if (own_level(a, v, 0))
        return KL_ENOMEM;
    size_t total = v->n * width;
    memmove(&v->items[i], &v->items[i + width], (total - i - width) * sizeof(*v->items));
    v->n--;
    return 0;
}

int kl_unset(struct kl_arena *a, struct kl_value *parent, kl_sym field)
{
    const struct kl_value *m = find_member(parent, field);
    return m ? remove_slots(a, parent, (size_t)(m - parent->items), 1) : 0;
}

int kl_map_unset(struct kl_arena *a, struct kl_value *map, struct kl_str key)
{
    const struct kl_value *e = find_entry(map, key);
    return e ? remove_slots(a, map, (size_t)(e - map->items), 2) : 0;
}

int kl_remove_at(struct kl_arena *a, struct kl_value *array, size_t index)
{
    return kl_at(array, index) ? remove_slots(a, array, index, 1) : 0;
}

struct kl_value *kl_edit(struct kl_arena *a, struct kl_value *parent, kl_sym field,
                         enum kl_value_kind kind)
{
    struct kl_value *slot = member_slot(a, parent, field);
    return be_container(slot, kind) ? NULL : slot;
}

struct kl_value *kl_edit_map(struct kl_arena *a, struct kl_value *map, struct kl_str key,
                             enum kl_value_kind kind)
{
    struct kl_value *slot = entry_slot(a, map, key);
    return be_container(slot, kind) ? NULL : slot;
}

struct kl_value *kl_edit_at(struct kl_arena *a, struct kl_value *array, size_t index)
{
    if (!kl_at(array, index) || own_level(a, array, 0))
        return NULL;
    return &array->items[index];
}

int kl_copy(struct kl_arena *a, const struct kl_value *v, struct kl_value *ret_copy)
{
    struct kl_value copy = *v;
    copy.owned = 0;
    if (v->kind >= KL_ARRAY) {
        size_t n = v->kind == KL_MAP ? 2 * (size_t)v->n : v->n;
        copy.items = NULL;
        if (n) {
            copy.items = kl_arena_alloc(a, room_for(v->n) * (n / v->n) * sizeof(copy));
            if (!copy.items)
                return KL_ENOMEM;
            copy.owned = 1;
        }
        for (size_t i = 0; i < n; i++)
            if (kl_copy(a, &v->items[i], &copy.items[i]))
                return KL_ENOMEM;
    } else if (v->kind >= KL_STRING) {
        struct kl_str s = kl_arena_dup(a, kl_text(v));
        if (!s.p)
            return KL_ENOMEM;
        copy.s = s.p;
    }
    *ret_copy = copy;
    return 0;
}

// ---- metadata in short

struct kl_str kl_meta_name(const struct kl_value *root)
{
    return kl_text_at(root, KL_F_metadata, KL_F_name);
}

struct kl_str kl_meta_namespace(const struct kl_value *root)
{
    return kl_text_at(root, KL_F_metadata, KL_F_namespace);
}

struct kl_str kl_meta_uid(const struct kl_value *root)
{
    return kl_text_at(root, KL_F_metadata, KL_F_uid);
}

struct kl_str kl_meta_rv(const struct kl_value *root)
{
    return kl_text_at(root, KL_F_metadata, KL_F_resourceVersion);
}

const struct kl_value *kl_meta_labels(const struct kl_value *root)
{
    return kl_path(root, KL_F_metadata, KL_F_labels);
}

const struct kl_value *kl_meta_annotations(const struct kl_value *root)
{
    return kl_path(root, KL_F_metadata, KL_F_annotations);
}

const struct kl_value *kl_meta_controller(const struct kl_value *root)
{
    for (KL_EACH(ref, kl_path(root, KL_F_metadata, KL_F_ownerReferences)))
        if (kl_true_at(ref, KL_F_controller))
            return ref;
    return NULL;
}
