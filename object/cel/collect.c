// SPDX-License-Identifier: Apache-2.0
// Lists and maps: items in memory, lists that grow, lists joined without copying, maps with an
// index, maps computed when read.
#include "object/cel/value_int.h"
#include "object/schema.h"
#include <math.h>

enum { INDEX_FROM = 8 }; // entries; below that a map is searched

size_t cel_count(struct kl_cel_val v)
{
    switch (v.form) {
    case F_GROWS:
        return ((const struct cel_growing *)v.p)->n;
    case F_NODE:
        return v.kind == KL_CEL_MAP ? cel_node_count(v) : ((const struct kl_value *)v.p)->n;
    case F_TYPED:
        return ((const struct kl_value *)v.p)->n;
    case F_LAZY:
        return ((const struct cel_lazy *)v.p)->known.n;
    default:
        return v.n;
    }
}

size_t kl_cel_len(struct kl_cel_val v)
{
    return v.kind == KL_CEL_LIST || v.kind == KL_CEL_MAP ? cel_count(v) : 0;
}

struct kl_cel_val cel_list_of(const struct kl_cel_val *items, size_t n)
{
    return (struct kl_cel_val){.kind = KL_CEL_LIST, .form = F_ITEMS, .n = (uint32_t)n, .p = items};
}

struct kl_cel_val cel_get(struct kl_arena *a, struct kl_cel_val list, size_t i)
{
    for (;;) {
        switch (list.form) {
        case F_ITEMS:
            return ((const struct kl_cel_val *)list.p)[i];
        case F_GROWS:
            return ((const struct cel_growing *)list.p)->items[i];
        case F_NODE: {
            const struct kl_value *v = list.p;
            const struct kl_type *t = list.aux;
            return cel_wrap_node(a, &v->items[i], t ? t->elem : NULL);
        }
        case F_TYPED: {
            const struct kl_cel_decl *d = list.aux;
            return cel_wrap_typed(a, &((const struct kl_value *)list.p)->items[i], d->elem);
        }
        default: {
            const struct cel_concat *c = list.p;
            size_t left = cel_count(c->left);
            if (i < left) {
                list = c->left;
            } else {
                list = c->right;
                i -= left;
            }
        }
        }
    }
}

struct kl_cel_val kl_cel_at(struct kl_arena *a, struct kl_cel_val list, size_t i)
{
    return list.kind == KL_CEL_LIST && i < cel_count(list) ? cel_get(a, list, i)
                                                           : CEL_ERR("index out of bounds");
}

struct kl_cel_val cel_new_growing(struct kl_arena *a, enum kl_cel_kind kind)
{
    return (struct kl_cel_val){
        .kind = (uint8_t)kind, .form = F_GROWS, .p = KL_ARENA_NEW(a, struct cel_growing)};
}

static bool make_room(struct kl_arena *a, struct cel_growing *g, size_t width)
{
    if (g->n < g->cap)
        return true;
    uint32_t cap = g->cap ? 2 * g->cap : 4;
    struct kl_cel_val *items = kl_arena_alloc(a, cap * width * sizeof *items);
    if (!items)
        return false;
    if (g->n)
        memcpy(items, g->items, g->n * width * sizeof *items);
    g->items = items;
    g->cap = cap;
    return true;
}

bool cel_push(struct kl_arena *a, struct cel_growing *g, struct kl_cel_val v)
{
    if (!make_room(a, g, 1))
        return false;
    g->items[g->n++] = v;
    return true;
}

struct kl_cel_val cel_settled(struct kl_cel_val v)
{
    if ((v.kind != KL_CEL_LIST && v.kind != KL_CEL_MAP) || v.form != F_GROWS)
        return v;
    const struct cel_growing *g = v.p;
    if (v.kind == KL_CEL_MAP) { // keeps its index; nobody adds to it any more
        v.n = g->n;
        return v;
    }
    return cel_list_of(g->items, g->n);
}

struct kl_cel_val cel_list_concat(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y)
{
    size_t n = cel_count(x) + cel_count(y);
    struct cel_concat *c = KL_ARENA_NEW(a, struct cel_concat);
    if (!c || n > UINT32_MAX)
        return CEL_NO_MEMORY;
    c->left = x;
    c->right = y;
    return (struct kl_cel_val){.kind = KL_CEL_LIST, .form = F_CONCAT, .n = (uint32_t)n, .p = c};
}

struct kl_cel_val cel_list_add(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y)
{
    size_t nx = cel_count(x), ny = cel_count(y);
    if (x.form == F_GROWS) {
        struct cel_growing *g = (struct cel_growing *)x.p;
        for (size_t i = 0; i < ny; i++)
            if (!cel_push(a, g, cel_get(a, y, i)))
                return CEL_NO_MEMORY;
        return x;
    }
    if (x.form == F_TYPED)
        return cel_typed_list_add(a, x, y);
    return nx && ny ? cel_list_concat(a, x, y) : nx ? x : y;
}

struct kl_cel_val cel_contains(struct kl_arena *a, struct kl_cel_val list, struct kl_cel_val v)
{
    size_t n = cel_count(list);
    struct kl_cel_val error = cel_ok(false);
    for (size_t i = 0; i < n; i++) {
        struct kl_cel_val item = cel_get(a, list, i);
        struct kl_cel_val same =
            list.form == F_TYPED ? cel_equal_bare(a, item, v) : cel_equal_bare(a, v, item);
        if (same.kind == KL_CEL_BOOL && same.b)
            return same;
        if (list.form == F_TYPED && same.kind != KL_CEL_BOOL && !cel_is_error(error))
            error = same;
    }
    return error;
}

int64_t cel_index(struct kl_arena *a, struct kl_cel_val v, struct kl_cel_val *ret_err)
{
    *ret_err = kl_cel_null();
    if (v.kind == KL_CEL_INT)
        return v.i;
    if (v.kind == KL_CEL_UINT && v.u <= INT64_MAX)
        return (int64_t)v.u;
    if (v.kind == KL_CEL_DOUBLE && v.d > -0x1p63 && v.d < 0x1p63 && v.d == floor(v.d))
        return (int64_t)v.d;
    if (v.kind == KL_CEL_UINT || v.kind == KL_CEL_DOUBLE)
        *ret_err = cel_errf(a, "unsupported index value %.*s in list", KL_PRI(cel_show(a, v)));
    else
        *ret_err = cel_errf(a, "unsupported index type '%.*s' in list", KL_PRI(cel_kind_name(v)));
    return -1;
}

// ---- maps
static bool same_key(struct kl_cel_val x, struct kl_cel_val y)
{
    switch (x.kind) {
    case KL_CEL_INT:
    case KL_CEL_UINT:
    case KL_CEL_DOUBLE:
        return cel_numbers_equal(x, y);
    case KL_CEL_STRING:
        return y.kind == KL_CEL_STRING && kl_str_eq(cel_text(x), cel_text(y));
    case KL_CEL_BOOL:
        return y.kind == KL_CEL_BOOL && x.b == y.b;
    case KL_CEL_NULL:
        return y.kind == KL_CEL_NULL;
    case KL_CEL_TIMESTAMP:
        return y.kind == x.kind && x.i == y.i && x.n == y.n && x.offset == y.offset;
    case KL_CEL_DURATION:
        return y.kind == x.kind && x.i == y.i;
    case KL_CEL_TYPE:
        return y.kind == x.kind && kl_str_eq(cel_text(x), cel_text(y));
    default:
        return false;
    }
}

// Equal numbers of any type hash alike.
static uint64_t hash_key(struct kl_cel_val k)
{
    double d;
    switch (k.kind) {
    case KL_CEL_STRING:
    case KL_CEL_TYPE:
        return kl_str_hash(cel_text(k));
    case KL_CEL_INT:
        d = (double)k.i;
        break;
    case KL_CEL_UINT:
        d = (double)k.u;
        break;
    case KL_CEL_DOUBLE:
        d = k.d;
        break;
    default:
        return (uint64_t)k.kind * 0x9e3779b97f4a7c15u + (uint64_t)k.i;
    }
    if (d == 0)
        d = 0;
    return kl_str_hash((struct kl_str){(const char *)&d, sizeof d});
}

static void index_entry(struct cel_growing *g, uint32_t entry)
{
    uint32_t mask = g->index_cap - 1, i = (uint32_t)hash_key(g->items[2 * (size_t)entry]) & mask;
    while (g->index[i])
        i = (i + 1) & mask;
    g->index[i] = entry + 1;
}

static bool grow_index(struct kl_arena *a, struct cel_growing *g)
{
    uint32_t cap = g->index_cap ? 2 * g->index_cap : 4 * INDEX_FROM;
    uint32_t *index = kl_arena_zalloc(a, cap * sizeof *index);
    if (!index)
        return false;
    g->index = index;
    g->index_cap = cap;
    for (uint32_t i = 0; i < g->n; i++)
        index_entry(g, i);
    return true;
}

static ptrdiff_t find_entry(const struct cel_growing *g, struct kl_cel_val key)
{
    if (!g->index) {
        for (uint32_t i = 0; i < g->n; i++)
            if (same_key(g->items[2 * (size_t)i], key))
                return i;
        return -1;
    }
    uint32_t mask = g->index_cap - 1, i = (uint32_t)hash_key(key) & mask;
    for (; g->index[i]; i = (i + 1) & mask)
        if (same_key(g->items[2 * (size_t)(g->index[i] - 1)], key))
            return (ptrdiff_t)g->index[i] - 1;
    return -1;
}

static bool add_entry(struct kl_arena *a, struct cel_growing *g, struct kl_cel_val key,
                      struct kl_cel_val value)
{
    if (!make_room(a, g, 2))
        return false;
    g->items[2 * (size_t)g->n] = key;
    g->items[2 * (size_t)g->n + 1] = value;
    g->n++;
    if (g->n <= INDEX_FROM)
        return true;
    if (2 * g->n > g->index_cap)
        return grow_index(a, g);
    index_entry(g, g->n - 1);
    return true;
}

bool cel_put(struct kl_arena *a, struct cel_growing *g, struct kl_cel_val key,
             struct kl_cel_val value)
{
    ptrdiff_t at = find_entry(g, key);
    // 1 and 1u are two keys of a literal, though either is found by the other.
    if (at >= 0 && g->items[2 * at].kind == key.kind) {
        g->items[2 * at + 1] = value;
        return true;
    }
    return add_entry(a, g, key, value);
}

static bool lazy_find(struct kl_arena *a, struct cel_lazy *l, struct kl_cel_val key,
                      struct kl_cel_val *ret)
{
    if (key.kind != KL_CEL_STRING) {
        *ret = CEL_NO_OVERLOAD;
        return true;
    }
    ptrdiff_t at = find_entry(&l->known, key);
    if (at < 0) {
        // The name is the program's; what is known may outlive it.
        struct kl_str name = kl_arena_dup(a, cel_text(key));
        if (!name.p) {
            *ret = CEL_NO_MEMORY;
            return true;
        }
        key = cel_str(name);
        *ret = l->get(l->ctx, a, name);
        if (!add_entry(a, &l->known, key, *ret))
            *ret = CEL_NO_MEMORY;
        return true;
    }
    *ret = l->known.items[2 * at + 1];
    return true;
}

bool cel_find(struct kl_arena *a, struct kl_cel_val map, struct kl_cel_val key,
              struct kl_cel_val *ret)
{
    if (map.form == F_LAZY)
        return lazy_find(a, (struct cel_lazy *)map.p, key, ret);
    if (map.form == F_NODE)
        return key.kind == KL_CEL_STRING && cel_node_find(a, map, cel_text(key), ret);
    if (map.form == F_TYPED) {
        if (key.kind == KL_CEL_STRING)
            return cel_typed_find(a, map, cel_text(key), ret);
        *ret = CEL_NO_OVERLOAD;
        return true;
    }
    const struct cel_growing *g = map.p;
    ptrdiff_t at = find_entry(g, key);
    if (at < 0)
        return false;
    // The key of the same type goes before an equal number of another.
    for (uint32_t i = (uint32_t)at; i < g->n && g->items[2 * at].kind != key.kind; i++)
        if (g->items[2 * (size_t)i].kind == key.kind && same_key(g->items[2 * (size_t)i], key))
            at = (ptrdiff_t)i;
    *ret = g->items[2 * at + 1];
    return true;
}

void kl_cel_entry(struct kl_arena *a, struct kl_cel_val map, size_t i, struct kl_cel_val *ret_key,
                  struct kl_cel_val *ret_value)
{
    const struct cel_growing *g =
        map.form == F_LAZY ? &((const struct cel_lazy *)map.p)->known : map.p;
    if (map.form == F_NODE || map.form == F_TYPED) {
        cel_node_entry(a, map, i, ret_key, ret_value);
        return;
    }
    *ret_key = g->items[2 * i];
    *ret_value = g->items[2 * i + 1];
}

struct kl_cel_val cel_insert(struct kl_arena *a, struct kl_cel_val map, struct kl_cel_val key,
                             struct kl_cel_val value)
{
    struct kl_cel_val found;
    if (cel_find(a, map, key, &found))
        return cel_errf(a, "insert failed: key %.*s already exists", KL_PRI(cel_show(a, key)));
    // Only a fold's own accumulator is not yet counted in the value.
    if (map.form == F_GROWS && !map.n)
        return add_entry(a, (struct cel_growing *)map.p, key, value) ? map : CEL_NO_MEMORY;
    struct kl_cel_val copy = cel_new_growing(a, KL_CEL_MAP);
    struct cel_growing *g = (struct cel_growing *)copy.p;
    if (!g)
        return CEL_NO_MEMORY;
    size_t n = cel_count(map);
    for (size_t i = 0; i < n; i++) {
        struct kl_cel_val k, v;
        kl_cel_entry(a, map, i, &k, &v);
        if (!add_entry(a, g, k, v))
            return CEL_NO_MEMORY;
    }
    if (!add_entry(a, g, key, value))
        return CEL_NO_MEMORY;
    return cel_settled(copy);
}

struct kl_cel_val
kl_cel_lazy(struct kl_arena *a,
            struct kl_cel_val (*get)(void *ctx, struct kl_arena *a, struct kl_str name), void *ctx)
{
    struct cel_lazy *l = KL_ARENA_NEW(a, struct cel_lazy);
    if (!l)
        return CEL_NO_MEMORY;
    l->get = get;
    l->ctx = ctx;
    return (struct kl_cel_val){.kind = KL_CEL_MAP, .form = F_LAZY, .p = l};
}
