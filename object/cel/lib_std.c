// SPDX-License-Identifier: Apache-2.0
// The standard operators and conversions, optionals, and what comprehensions over two variables
// need.
#include "object/cel/lib_int.h"
#include <math.h>

#define MIN_SECONDS INT64_C(-62135596800)
#define MAX_SECONDS INT64_C(253402300799)
#define NS INT64_C(1000000000)
#define INT_OVERFLOW CEL_ERR("integer overflow")
#define UINT_OVERFLOW CEL_ERR("unsigned integer overflow")

// The left operand's type does not have the operation at all.
static struct kl_cel_val no_operation(struct cel_run *r, struct kl_cel_val v, const char *op)
{
    if (v.kind == KL_CEL_STRING || v.kind == KL_CEL_TIMESTAMP || v.kind == KL_CEL_DURATION)
        return CEL_NO_OVERLOAD;
    return cel_errf(cel_arena(r), "no such overload: %s", op);
}

static struct kl_cel_val duration(int64_t ns)
{
    return (struct kl_cel_val){.kind = KL_CEL_DURATION, .i = ns};
}

static struct kl_cel_val time_plus(struct kl_cel_val t, int64_t ns)
{
    int64_t seconds = t.i + ns / NS, nanos = (int64_t)t.n + ns % NS;
    if (nanos < 0) {
        nanos += NS;
        seconds--;
    } else if (nanos >= NS) {
        nanos -= NS;
        seconds++;
    }
    if (seconds < MIN_SECONDS || seconds > MAX_SECONDS)
        return CEL_ERR("timestamp overflow");
    t.i = seconds;
    t.n = (uint32_t)nanos;
    return t;
}

static struct kl_cel_val join_text(struct cel_run *r, struct kl_cel_val x, struct kl_cel_val y)
{
    char *p = kl_arena_alloc(cel_arena(r), (size_t)x.n + y.n + 1);
    if (!p || (uint64_t)x.n + y.n > UINT32_MAX)
        return CEL_NO_MEMORY;
    if (x.n)
        memcpy(p, x.s, x.n);
    if (y.n)
        memcpy(p + x.n, y.s, y.n);
    x.s = p;
    x.n += y.n;
    return x;
}

CEL_FN(cel_fn_add)
{
    struct kl_cel_val x = args[0], y = args[1];
    int64_t i;
    uint64_t u;
    if (x.kind == KL_CEL_DURATION && y.kind == KL_CEL_TIMESTAMP)
        return time_plus(y, x.i);
    if (x.kind == KL_CEL_TIMESTAMP && y.kind == KL_CEL_DURATION)
        return time_plus(x, y.i);
    switch (x.kind) {
    case KL_CEL_INT:
    case KL_CEL_UINT:
    case KL_CEL_DOUBLE:
    case KL_CEL_STRING:
    case KL_CEL_BYTES:
    case KL_CEL_DURATION:
    case KL_CEL_TIMESTAMP:
    case KL_CEL_LIST:
        break;
    default:
        return no_operation(r, x, "_+_");
    }
    if (x.kind != y.kind || x.kind == KL_CEL_TIMESTAMP)
        return CEL_NO_OVERLOAD;
    switch (x.kind) {
    case KL_CEL_INT:
        return __builtin_add_overflow(x.i, y.i, &i) ? INT_OVERFLOW : cel_i(i);
    case KL_CEL_UINT:
        return __builtin_add_overflow(x.u, y.u, &u) ? UINT_OVERFLOW : kl_cel_uint(u);
    case KL_CEL_DOUBLE:
        return kl_cel_double(x.d + y.d);
    case KL_CEL_DURATION:
        return __builtin_add_overflow(x.i, y.i, &i) ? INT_OVERFLOW : duration(i);
    case KL_CEL_LIST:
        return cel_list_add(cel_arena(r), x, y);
    default:
        return join_text(r, x, y);
    }
}

static struct kl_cel_val time_difference(struct kl_cel_val x, struct kl_cel_val y)
{
    int64_t seconds, ns;
    if (__builtin_sub_overflow(x.i, y.i, &seconds) || __builtin_mul_overflow(seconds, NS, &ns) ||
        __builtin_add_overflow(ns, (int64_t)x.n - (int64_t)y.n, &ns))
        return INT_OVERFLOW;
    return duration(ns);
}

CEL_FN(cel_fn_sub)
{
    struct kl_cel_val x = args[0], y = args[1];
    int64_t i;
    uint64_t u;
    switch (x.kind) {
    case KL_CEL_INT:
        if (y.kind == x.kind)
            return __builtin_sub_overflow(x.i, y.i, &i) ? INT_OVERFLOW : cel_i(i);
        break;
    case KL_CEL_UINT:
        if (y.kind == x.kind)
            return __builtin_sub_overflow(x.u, y.u, &u) ? UINT_OVERFLOW : kl_cel_uint(u);
        break;
    case KL_CEL_DOUBLE:
        if (y.kind == x.kind)
            return kl_cel_double(x.d - y.d);
        break;
    case KL_CEL_DURATION:
        if (y.kind == x.kind)
            return __builtin_sub_overflow(x.i, y.i, &i) ? INT_OVERFLOW : duration(i);
        break;
    case KL_CEL_TIMESTAMP:
        if (y.kind == KL_CEL_DURATION)
            return y.i == INT64_MIN ? INT_OVERFLOW : time_plus(x, -y.i);
        if (y.kind == KL_CEL_TIMESTAMP)
            return time_difference(x, y);
        break;
    default:
        return no_operation(r, x, "_-_");
    }
    return CEL_NO_OVERLOAD;
}

static bool is_number(struct kl_cel_val v)
{
    return v.kind == KL_CEL_INT || v.kind == KL_CEL_UINT || v.kind == KL_CEL_DOUBLE;
}

CEL_FN(cel_fn_mul)
{
    struct kl_cel_val x = args[0], y = args[1];
    int64_t i;
    uint64_t u;
    if (!is_number(x))
        return no_operation(r, x, "_*_");
    if (x.kind != y.kind)
        return CEL_NO_OVERLOAD;
    if (x.kind == KL_CEL_INT)
        return __builtin_mul_overflow(x.i, y.i, &i) ? INT_OVERFLOW : cel_i(i);
    if (x.kind == KL_CEL_UINT)
        return __builtin_mul_overflow(x.u, y.u, &u) ? UINT_OVERFLOW : kl_cel_uint(u);
    return kl_cel_double(x.d * y.d);
}

CEL_FN(cel_fn_div)
{
    struct kl_cel_val x = args[0], y = args[1];
    if (!is_number(x))
        return no_operation(r, x, "_/_");
    if (x.kind != y.kind)
        return CEL_NO_OVERLOAD;
    if (x.kind == KL_CEL_DOUBLE)
        return kl_cel_double(x.d / y.d);
    if (!y.i)
        return CEL_ERR("division by zero");
    if (x.kind == KL_CEL_UINT)
        return kl_cel_uint(x.u / y.u);
    return x.i == INT64_MIN && y.i == -1 ? INT_OVERFLOW : cel_i(x.i / y.i);
}

CEL_FN(cel_fn_mod)
{
    struct kl_cel_val x = args[0], y = args[1];
    if (x.kind != KL_CEL_INT && x.kind != KL_CEL_UINT)
        return no_operation(r, x, "_%_");
    if (x.kind != y.kind)
        return CEL_NO_OVERLOAD;
    if (!y.i)
        return CEL_ERR("modulus by zero");
    if (x.kind == KL_CEL_UINT)
        return kl_cel_uint(x.u % y.u);
    return x.i == INT64_MIN && y.i == -1 ? INT_OVERFLOW : cel_i(x.i % y.i);
}

CEL_FN(cel_fn_neg)
{
    struct kl_cel_val x = args[0];
    if (x.kind == KL_CEL_BOOL)
        return CEL_NO_OVERLOAD;
    if (x.kind == KL_CEL_DOUBLE)
        return kl_cel_double(-x.d);
    if (x.kind != KL_CEL_INT && x.kind != KL_CEL_DURATION)
        return no_operation(r, x, "-_");
    if (x.i == INT64_MIN)
        return INT_OVERFLOW;
    x.i = -x.i;
    return x;
}

CEL_FN(cel_fn_not)
{
    return args[0].kind == KL_CEL_BOOL ? cel_ok(!args[0].b) : CEL_NO_OVERLOAD;
}

static struct kl_cel_val ordered(struct cel_run *r, const struct kl_cel_val *args, const char *op,
                                 bool less, bool same, bool greater)
{
    if (!cel_comparable(args[0]))
        return no_operation(r, args[0], op);
    struct kl_cel_val c = cel_compare(cel_arena(r), args[0], args[1]);
    if (cel_is_error(c))
        return c;
    return cel_ok(c.i < 0 ? less : c.i > 0 ? greater : same);
}

CEL_FN(cel_fn_lt)
{
    return ordered(r, args, "_<_", true, false, false);
}

CEL_FN(cel_fn_le)
{
    return ordered(r, args, "_<=_", true, true, false);
}

CEL_FN(cel_fn_gt)
{
    return ordered(r, args, "_>_", false, false, true);
}

CEL_FN(cel_fn_ge)
{
    return ordered(r, args, "_>=_", false, true, true);
}

CEL_FN(cel_fn_in)
{
    struct kl_cel_val found;
    if (args[1].kind == KL_CEL_LIST)
        return cel_contains(cel_arena(r), args[1], args[0]);
    if (args[1].kind != KL_CEL_MAP)
        return CEL_NO_OVERLOAD;
    bool there = cel_find(cel_arena(r), args[1], args[0], &found);
    if (there && cel_is_error(found) && args[1].form == F_TYPED)
        return found;
    return cel_ok(there);
}

CEL_FN(cel_fn_size)
{
    switch (args[0].kind) {
    case KL_CEL_STRING:
    case KL_CEL_BYTES:
    case KL_CEL_LIST:
    case KL_CEL_MAP:
        return cel_i((int64_t)cel_size(args[0], false));
    default:
        return no_operation(r, args[0], "size");
    }
}

CEL_FN(cel_fn_type)
{
    struct kl_str name = cel_kind_name(args[0]);
    if (args[0].kind == KL_CEL_OPAQUE)
        return CEL_ERR("type conversion to 'type' not supported for values preserved by "
                       "x-kubernetes-preserve-unknown-fields");
    return (struct kl_cel_val){.kind = KL_CEL_TYPE, .n = (uint32_t)name.n, .s = name.p};
}

CEL_FN(cel_fn_same)
{
    return args[0];
}

#define CONVERSION(name, kind)                                                                     \
    CEL_FN(name)                                                                                   \
    {                                                                                              \
        return cel_convert(cel_arena(r), args[0], kind);                                           \
    }
CONVERSION(cel_fn_bool, T_BOOL)
CONVERSION(cel_fn_bytes, T_BYTES)
CONVERSION(cel_fn_double, T_DOUBLE)
CONVERSION(cel_fn_duration, T_DURATION)
CONVERSION(cel_fn_int, T_INT)
CONVERSION(cel_fn_string, T_STRING)
CONVERSION(cel_fn_timestamp, T_TIMESTAMP)
CONVERSION(cel_fn_uint, T_UINT)

// ---- optionals
CEL_FN(cel_fn_opt_of)
{
    return kl_cel_optional(cel_arena(r), args[0]);
}

CEL_FN(cel_fn_opt_nonzero)
{
    bool zero;
    return cel_is_zero(args[0], &zero) && zero ? kl_cel_none()
                                               : kl_cel_optional(cel_arena(r), args[0]);
}

CEL_FN(cel_fn_opt_none)
{
    return kl_cel_none();
}

CEL_FN(cel_fn_opt_value)
{
    return args[0].p ? *(const struct kl_cel_val *)args[0].p
                     : CEL_ERR("optional.none() dereference");
}

CEL_FN(cel_fn_opt_has)
{
    return cel_ok(args[0].p != NULL);
}

CEL_FN(cel_fn_first)
{
    return cel_count(args[0]) ? kl_cel_optional(cel_arena(r), cel_get(cel_arena(r), args[0], 0))
                              : kl_cel_none();
}

CEL_FN(cel_fn_last)
{
    size_t count = cel_count(args[0]);
    return count ? kl_cel_optional(cel_arena(r), cel_get(cel_arena(r), args[0], count - 1))
                 : kl_cel_none();
}

CEL_FN(cel_fn_unwrap)
{
    struct kl_cel_val list = cel_new_growing(cel_arena(r), KL_CEL_LIST);
    size_t count = cel_count(args[0]);
    if (!list.p)
        return CEL_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        struct kl_cel_val v = cel_get(cel_arena(r), args[0], i);
        if (v.kind != KL_CEL_OPTIONAL)
            return cel_errf(cel_arena(r), "value %.*s is not optional",
                            KL_PRI(cel_show(cel_arena(r), v)));
        if (v.p &&
            !cel_push(cel_arena(r), (struct cel_growing *)list.p, *(const struct kl_cel_val *)v.p))
            return CEL_NO_MEMORY;
    }
    return cel_settled(list);
}

// ---- maps that comprehensions fill
CEL_FN(cel_fn_map_insert)
{
    return cel_insert(cel_arena(r), args[0], args[1], args[2]);
}

CEL_FN(cel_fn_map_insert_all)
{
    struct kl_cel_val map = args[0];
    size_t count = cel_count(args[1]);
    for (size_t i = 0; i < count; i++) {
        struct kl_cel_val key, value;
        kl_cel_entry(cel_arena(r), args[1], i, &key, &value);
        map = cel_insert(cel_arena(r), map, key, value);
        if (cel_is_error(map))
            return map;
    }
    return map;
}
