// SPDX-License-Identifier: Apache-2.0
// Equality. What cannot be compared is unequal for CEL's own types and an error for Kubernetes'.
#include "object/cel/value_int.h"

enum { MAX_DEPTH = 1000 }; // of lists and maps in each other; trees may be deeper

static struct kl_cel_val equal_at(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y,
                                  int depth);

static bool is_true(struct kl_cel_val v)
{
    return v.kind == KL_CEL_BOOL && v.b;
}

static bool is_false(struct kl_cel_val v)
{
    return v.kind == KL_CEL_BOOL && !v.b;
}

static struct kl_cel_val lists_equal(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y,
                                     int depth)
{
    struct kl_cel_val error = cel_ok(true);
    size_t n = cel_count(x);
    if (n != cel_count(y))
        return cel_ok(false);
    for (size_t i = 0; i < n; i++) {
        struct kl_cel_val same = equal_at(a, cel_get(a, x, i), cel_get(a, y, i), depth);
        if (is_false(same))
            return same;
        if (x.form == F_CONCAT && cel_is_error(same) && !cel_is_error(error))
            error = same;
    }
    return error;
}

static struct kl_cel_val maps_equal(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y,
                                    int depth)
{
    size_t n = cel_count(x);
    if (n != cel_count(y))
        return cel_ok(false);
    for (size_t i = 0; i < n; i++) {
        struct kl_cel_val k, v, other;
        kl_cel_entry(a, x, i, &k, &v);
        if (!cel_find(a, y, k, &other) || is_false(equal_at(a, v, other, depth)))
            return cel_ok(false);
    }
    return cel_ok(true);
}

static struct kl_cel_val optionals_equal(struct kl_arena *a, struct kl_cel_val x,
                                         struct kl_cel_val y)
{
    if (y.kind != KL_CEL_OPTIONAL || !x.p || !y.p)
        return cel_ok(y.kind == KL_CEL_OPTIONAL && !x.p && !y.p);
    return cel_equal_bare(a, *(const struct kl_cel_val *)x.p, *(const struct kl_cel_val *)y.p);
}

static bool semver_equal(const struct cel_semver *x, const struct cel_semver *y)
{
    return cel_semver_cmp(x, y) == 0;
}

static struct kl_cel_val patches_equal(struct kl_arena *a, const struct cel_patch *x,
                                       const struct cel_patch *y)
{
    if (!kl_str_eq(x->v.op, y->v.op) || !kl_str_eq(x->v.path, y->v.path) ||
        !kl_str_eq(x->v.from, y->v.from) || x->v.has_value != y->v.has_value)
        return cel_ok(false);
    return x->v.has_value ? cel_equal_bare(a, x->v.value, y->v.value) : cel_ok(true);
}

static struct kl_cel_val special_equal(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y)
{
    switch (x.kind) {
    case KL_CEL_IP:
    case KL_CEL_CIDR: {
        const struct cel_ip *i = x.p, *j = y.p;
        return cel_ok(i->len == j->len && !memcmp(i->bytes, j->bytes, i->len) &&
                      (x.kind == KL_CEL_IP || i->bits == j->bits));
    }
    case KL_CEL_URL:
        return cel_ok(
            kl_str_eq(((const struct cel_url *)x.p)->whole, ((const struct cel_url *)y.p)->whole));
    case KL_CEL_QUANTITY:
        if (y.form) // what add() and sub() give is another Go type
            return CEL_NO_OVERLOAD;
        return cel_ok(kl_quantity_cmp(&((const struct cel_quantity *)x.p)->q,
                                      &((const struct cel_quantity *)y.p)->q) == 0);
    case KL_CEL_SEMVER:
        return cel_ok(semver_equal(x.p, y.p));
    case KL_CEL_FORMAT:
        return cel_ok(x.p == y.p);
    default:
        return CEL_NO_OVERLOAD;
    }
}

static struct kl_cel_val bare_at(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y,
                                 int depth)
{
    if (cel_is_error(x))
        return x;
    switch (x.kind) {
    case KL_CEL_NULL:
        return cel_ok(y.kind == KL_CEL_NULL);
    case KL_CEL_BOOL:
        return cel_ok(y.kind == KL_CEL_BOOL && x.b == y.b);
    case KL_CEL_INT:
    case KL_CEL_UINT:
    case KL_CEL_DOUBLE:
        return cel_ok(cel_numbers_equal(x, y));
    case KL_CEL_STRING:
    case KL_CEL_BYTES:
    case KL_CEL_TYPE:
        return cel_ok(y.kind == x.kind && kl_str_eq(cel_text(x), cel_text(y)));
    case KL_CEL_TIMESTAMP:
        return cel_ok(y.kind == x.kind && x.i == y.i && x.n == y.n);
    case KL_CEL_DURATION:
        return cel_ok(y.kind == x.kind && x.i == y.i);
    case KL_CEL_LIST:
    case KL_CEL_MAP:
        if (x.form == F_TYPED)
            return y.kind == x.kind ? cel_typed_equal(a, x, y) : CEL_NO_OVERLOAD;
        if (y.kind != x.kind)
            return cel_ok(false);
        if (depth > MAX_DEPTH) // trees are left to the walk that all else uses, too
            return cel_ok(x.form == F_NODE && y.form == F_NODE && kl_value_equal(x.p, y.p));
        return x.kind == KL_CEL_LIST ? lists_equal(a, x, y, depth + 1)
                                     : maps_equal(a, x, y, depth + 1);
    case KL_CEL_OPTIONAL:
        return optionals_equal(a, x, y);
    case KL_CEL_OPAQUE:
        return cel_typed_equal(a, x, y);
    case KL_CEL_JSON_PATCH:
        return y.kind == x.kind ? patches_equal(a, x.p, y.p) : cel_ok(false);
    case KL_CEL_OBJECT: {
        if (y.kind != x.kind || !kl_str_eq(cel_kind_name(x), cel_kind_name(y)))
            return cel_ok(false);
        struct kl_cel_val i = {.kind = KL_CEL_MAP, .form = F_GROWS}, j = i;
        i.p = &((const struct cel_object *)x.p)->fields;
        j.p = &((const struct cel_object *)y.p)->fields;
        return maps_equal(a, i, j, depth + 1);
    }
    default:
        return y.kind == x.kind ? special_equal(a, x, y) : CEL_NO_OVERLOAD;
    }
}

static struct kl_cel_val equal_at(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y,
                                  int depth)
{
    if (x.kind == KL_CEL_NULL || y.kind == KL_CEL_NULL)
        return cel_ok(x.kind == y.kind);
    return bare_at(a, x, y, depth);
}

struct kl_cel_val cel_equal_bare(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y)
{
    return bare_at(a, x, y, 0);
}

struct kl_cel_val cel_equal(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y)
{
    return equal_at(a, x, y, 0);
}

bool cel_is_equal(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y)
{
    return is_true(cel_equal_bare(a, x, y));
}
