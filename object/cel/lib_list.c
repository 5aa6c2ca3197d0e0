// SPDX-License-Identifier: Apache-2.0
// Functions on lists: Kubernetes' own, cel-go's extension, sets.
#include "object/cel/lib_int.h"
#include <stdlib.h>

CEL_FN(cel_fn_is_sorted)
{
    size_t count = cel_count(args[0]);
    for (size_t i = 1; i < count; i++) {
        struct kl_cel_val c = cel_compare(cel_arena(r), cel_get(cel_arena(r), args[0], i - 1),
                                          cel_get(cel_arena(r), args[0], i));
        if (c.kind == KL_CEL_INT && c.i > 0)
            return cel_ok(false);
    }
    return cel_ok(true);
}

static struct kl_cel_val sum(struct cel_run *r, struct kl_cel_val list, struct kl_cel_val start)
{
    size_t count = cel_count(list);
    for (size_t i = 0; i < count; i++) {
        struct kl_cel_val pair[2] = {start, cel_get(cel_arena(r), list, i)};
        start = cel_fn_add(r, pair, 2);
        if (cel_is_error(start))
            return start;
    }
    return start;
}

CEL_FN(cel_fn_sum_int)
{
    return sum(r, args[0], cel_i(0));
}

CEL_FN(cel_fn_sum_uint)
{
    return sum(r, args[0], kl_cel_uint(0));
}

CEL_FN(cel_fn_sum_double)
{
    return sum(r, args[0], kl_cel_double(0));
}

CEL_FN(cel_fn_sum_duration)
{
    return sum(r, args[0], (struct kl_cel_val){.kind = KL_CEL_DURATION});
}

static struct kl_cel_val extreme(struct cel_run *r, struct kl_cel_val list, int64_t replace)
{
    size_t count = cel_count(list);
    if (!count)
        return replace > 0 ? CEL_ERR("min called on empty list")
                           : CEL_ERR("max called on empty list");
    struct kl_cel_val best = cel_get(cel_arena(r), list, 0);
    if (!cel_comparable(best))
        return CEL_NO_OVERLOAD;
    for (size_t i = 1; i < count; i++) {
        struct kl_cel_val next = cel_get(cel_arena(r), list, i);
        if (!cel_comparable(next))
            return CEL_NO_OVERLOAD;
        struct kl_cel_val c = cel_compare(cel_arena(r), best, next);
        if (c.kind == KL_CEL_INT && c.i == replace)
            best = next;
    }
    return best;
}

CEL_FN(cel_fn_min)
{
    return extreme(r, args[0], 1);
}

CEL_FN(cel_fn_max)
{
    return extreme(r, args[0], -1);
}

CEL_FN(cel_fn_list_index_of)
{
    size_t count = cel_count(args[0]);
    for (size_t i = 0; i < count; i++)
        if (cel_is_equal(cel_arena(r), cel_get(cel_arena(r), args[0], i), args[1]))
            return cel_i((int64_t)i);
    return cel_i(-1);
}

CEL_FN(cel_fn_list_last_index_of)
{
    for (size_t i = cel_count(args[0]); i--;)
        if (cel_is_equal(cel_arena(r), cel_get(cel_arena(r), args[0], i), args[1]))
            return cel_i((int64_t)i);
    return cel_i(-1);
}

static struct kl_cel_val *room(struct cel_run *r, size_t n)
{
    return kl_arena_alloc(cel_arena(r), (n + 1) * sizeof(struct kl_cel_val));
}

CEL_FN(cel_fn_slice)
{
    int64_t start = args[1].i, end = args[2].i, count = (int64_t)cel_count(args[0]);
    if (start < 0 || end < 0)
        return cel_errf(cel_arena(r), "cannot slice(%lld, %lld), negative indexes not supported",
                        (long long)start, (long long)end);
    if (start > end)
        return cel_errf(
            cel_arena(r),
            "cannot slice(%lld, %lld), start index must be less than or equal to end index",
            (long long)start, (long long)end);
    if (count < end)
        return cel_errf(cel_arena(r), "cannot slice(%lld, %lld), list is length %lld",
                        (long long)start, (long long)end, (long long)count);
    struct kl_cel_val *items = room(r, (size_t)(end - start));
    if (!items)
        return CEL_NO_MEMORY;
    for (int64_t i = start; i < end; i++)
        items[i - start] = cel_get(cel_arena(r), args[0], (size_t)i);
    return cel_list_of(items, (size_t)(end - start));
}

static bool flatten(struct cel_run *r, struct kl_cel_val list, int64_t depth, int nesting,
                    struct cel_growing *out)
{
    size_t count = cel_count(list);
    for (size_t i = 0; i < count; i++) {
        struct kl_cel_val v = cel_get(cel_arena(r), list, i);
        bool deeper = v.kind == KL_CEL_LIST && depth > 0 && nesting < 1000;
        if (deeper ? !flatten(r, v, depth - 1, nesting + 1, out) : !cel_push(cel_arena(r), out, v))
            return false;
    }
    return true;
}

CEL_FN(cel_fn_flatten)
{
    struct kl_cel_val out = cel_new_growing(cel_arena(r), KL_CEL_LIST);
    int64_t depth = n == 2 ? args[1].i : 1;
    if (args[0].kind != KL_CEL_LIST || (n == 2 && args[1].kind != KL_CEL_INT)) {
        struct kl_str t = cel_kind_name(args[0]);
        return n == 2 ? cel_errf(cel_arena(r), "no such overload: %.*s.flatten(%.*s)", KL_PRI(t),
                                 KL_PRI(cel_kind_name(args[1])))
                      : cel_errf(cel_arena(r), "no such overload: %.*s.flatten()", KL_PRI(t));
    }
    if (depth < 0)
        return CEL_ERR("level must be non-negative");
    if (!out.p || !flatten(r, args[0], depth, 0, (struct cel_growing *)out.p))
        return CEL_NO_MEMORY;
    return cel_settled(out);
}

struct keyed {
    struct kl_cel_val key;
    size_t place;
};

static int by_key(const void *x, const void *y, void *arena)
{
    const struct keyed *a = x, *b = y;
    struct kl_cel_val c = cel_compare(arena, a->key, b->key);
    if (c.kind == KL_CEL_INT && c.i)
        return (int)c.i;
    return a->place < b->place ? -1 : a->place > b->place;
}

static struct kl_cel_val sorted(struct cel_run *r, struct kl_cel_val list, struct kl_cel_val keys)
{
    size_t count = cel_count(list), nkeys = cel_count(keys);
    if (count != nkeys)
        return cel_errf(cel_arena(r),
                        "@sortByAssociatedKeys() expected a list of the same size as the "
                        "associated keys list, but got %zu and %zu elements respectively",
                        count, nkeys);
    if (!count)
        return list;
    struct keyed *order = kl_arena_alloc(cel_arena(r), count * sizeof *order);
    struct kl_cel_val *items = room(r, count);
    if (!order || !items)
        return CEL_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        order[i] = (struct keyed){cel_get(cel_arena(r), keys, i), i};
        if (!cel_comparable(order[0].key))
            return CEL_ERR("list elements must be comparable");
        if (order[i].key.kind != order[0].key.kind)
            return CEL_ERR("list elements must have the same type");
    }
    qsort_r(order, count, sizeof *order, by_key, cel_arena(r));
    for (size_t i = 0; i < count; i++)
        items[i] = cel_get(cel_arena(r), list, order[i].place);
    return cel_list_of(items, count);
}

static struct kl_cel_val not_a_list(struct cel_run *r, struct kl_cel_val v, const char *function)
{
    if (v.kind == KL_CEL_STRING || v.kind == KL_CEL_TIMESTAMP || v.kind == KL_CEL_DURATION)
        return CEL_NO_OVERLOAD;
    return cel_errf(cel_arena(r), "no such overload: %s", function);
}

CEL_FN(cel_fn_sort)
{
    return args[0].kind == KL_CEL_LIST ? sorted(r, args[0], args[0])
                                       : not_a_list(r, args[0], "sort");
}

CEL_FN(cel_fn_sort_keys)
{
    return args[0].kind == KL_CEL_LIST && args[1].kind == KL_CEL_LIST
               ? sorted(r, args[0], args[1])
               : not_a_list(r, args[0], "@sortByAssociatedKeys");
}

CEL_FN(cel_fn_range)
{
    int64_t count = args[0].i < 0 ? 0 : args[0].i;
    struct kl_cel_val *items = count <= INT32_MAX ? room(r, (size_t)count) : NULL;
    if (!items)
        return CEL_NO_MEMORY;
    for (int64_t i = 0; i < count; i++)
        items[i] = cel_i(i);
    return cel_list_of(items, (size_t)count);
}

CEL_FN(cel_fn_reverse)
{
    size_t count = cel_count(args[0]);
    struct kl_cel_val *items = room(r, count);
    if (!items)
        return CEL_NO_MEMORY;
    for (size_t i = 0; i < count; i++)
        items[i] = cel_get(cel_arena(r), args[0], count - 1 - i);
    return cel_list_of(items, count);
}

CEL_FN(cel_fn_distinct)
{
    size_t count = cel_count(args[0]), kept = 0;
    struct kl_cel_val *items = room(r, count);
    if (!items)
        return CEL_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        struct kl_cel_val v = cel_get(cel_arena(r), args[0], i);
        size_t k = 0;
        while (k < kept && (k == i || !cel_is_equal(cel_arena(r), v, items[k])))
            k++;
        if (k == kept)
            items[kept++] = v;
    }
    return cel_list_of(items, kept);
}

// ---- sets
static struct kl_cel_val has_all(struct cel_run *r, struct kl_cel_val list, struct kl_cel_val sub)
{
    size_t count = cel_count(sub);
    for (size_t i = 0; i < count; i++) {
        struct kl_cel_val there = cel_contains(cel_arena(r), list, cel_get(cel_arena(r), sub, i));
        if (there.kind != KL_CEL_BOOL || !there.b)
            return there;
    }
    return cel_ok(true);
}

CEL_FN(cel_fn_sets_contains)
{
    return has_all(r, args[0], args[1]);
}

CEL_FN(cel_fn_sets_equivalent)
{
    struct kl_cel_val there = has_all(r, args[0], args[1]);
    return there.kind == KL_CEL_BOOL && there.b ? has_all(r, args[1], args[0]) : there;
}

CEL_FN(cel_fn_sets_intersects)
{
    size_t count = cel_count(args[0]);
    for (size_t i = 0; i < count; i++) {
        struct kl_cel_val there =
            cel_contains(cel_arena(r), args[1], cel_get(cel_arena(r), args[0], i));
        if (there.kind == KL_CEL_BOOL && there.b)
            return there;
    }
    return cel_ok(false);
}
