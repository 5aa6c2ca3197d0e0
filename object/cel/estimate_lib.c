// SPDX-License-Identifier: Apache-2.0
// Estimates of library calls: Kubernetes' library/cost.go, cel-go's ext/lists.go and ext/sets.go.
#include "object/cel/estimate_int.h"
#include <math.h>

static struct range size_of(const struct argument *a)
{
    if (a->has_size)
        return a->size;
    return a->path ? (struct range){0, (uint64_t)a->path->max_elements} : UNKNOWN;
}

static bool answer(struct call_estimate *ret, struct range cost)
{
    ret->cost = cost;
    return true;
}

static bool answer_sized(struct call_estimate *ret, struct range cost, struct range result)
{
    ret->cost = cost;
    ret->result = result;
    ret->has_result = true;
    return true;
}

// ---- cel-go's extensions
static uint64_t literal_or(const struct argument *a, uint64_t otherwise)
{
    if (a->e->kind != E_LIT || a->e->lit.kind != KL_CEL_INT)
        return otherwise;
    return a->e->lit.i < 0 ? 0 : (uint64_t)a->e->lit.i;
}

static bool list_call(struct call_estimate *ret, double factor, struct range size)
{
    return answer_sized(ret, plus(scaled(size, factor), exactly(11)), size);
}

static bool extension(const struct overload *o, const struct argument *target,
                      const struct argument *args, size_t n, struct call_estimate *ret)
{
    struct range size = target ? size_of(target) : UNKNOWN;
    double factor = 2;
    switch (o->cost) {
    case OC_SETS:
    case OC_SETS2:
        if (n != 2)
            return false;
        return answer(ret, plus(scaled(times(size_of(&args[0]), size_of(&args[1])),
                                       o->cost == OC_SETS ? 1 : 2),
                                exactly(1)));
    case OC_FLATTEN:
        return target && list_call(ret, n ? (double)literal_or(&args[0], UINT64_MAX) : 1, size);
    case OC_OUTPUT:
        if (!strcmp(o->id, "lists_range"))
            return list_call(ret, 1, exactly(literal_or(&args[0], UINT64_MAX)));
        if (!target)
            return false;
        if (!strcmp(o->id, "list_slice"))
            return list_call(ret, 1,
                             exactly(literal_or(&args[1], size.max) - literal_or(&args[0], 0)));
        return list_call(ret, 1, size);
    case OC_SELF:
    case OC_KEYS:
        if (!target)
            return false;
        if (o->cost == OC_KEYS)
            size = size_of(&args[0]);
        if (strstr(o->id, "_string_") || strstr(o->id, "_bytes_"))
            factor += 0.1;
        return list_call(ret, factor, times(size, size));
    default:
        return false;
    }
}

// ---- Kubernetes
static bool any_of(struct kl_str function, const char *const *names)
{
    for (; *names; names++)
        if (kl_str_eqz(function, *names))
            return true;
    return false;
}

static bool traversal(const struct argument *target, struct call_estimate *ret)
{
    struct range item = exactly(1);
    if (!target)
        return false;
    if (!target->type->n)
        return answer(ret, scaled(size_of(target), 0.1));
    const struct cel_type *elem = target->type->p[0];
    if (elem->kind == T_STRING || elem->kind == T_BYTES) {
        const struct kl_cel_decl *d =
            target->path && target->path->shape != D_SCALAR ? target->path->elem : NULL;
        item = plus(item, scaled(d ? (struct range){0, (uint64_t)d->max_elements} : UNKNOWN, 0.1));
    }
    return answer(ret, times(size_of(target), item));
}

static uint64_t quotient(uint64_t x, uint64_t y)
{
    double v = ceil((double)x / (double)y);
    return v >= 0x1p64 ? UINT64_MAX : (uint64_t)v;
}

static bool replacing(const struct argument *target, const struct argument *args, size_t n,
                      struct call_estimate *ret)
{
    struct range count = {0, 0}, kept = {0, 0};
    if (!target || n < 2)
        return false;
    struct range size = size_of(target), old = size_of(&args[0]), with = size_of(&args[1]);
    if (old.min == 0) {
        count.max = sat_add(size.max, 1);
        kept.max = size.max;
    } else if (with.max <= old.min) {
        kept.max = size.max;
    } else {
        count.max = quotient(size.max, old.min);
    }
    if (old.max == 0) {
        count.min = sat_add(size.min, 1);
        kept.min = size.min;
    } else if (old.max <= with.min) {
        kept.min = size.min;
    } else {
        count.min = quotient(size.min, old.max);
    }
    return answer_sized(ret, scaled(size, 2 * 0.1), plus(times(count, with), kept));
}

static bool splitting(const struct argument *target, const struct argument *args, size_t n,
                      struct call_estimate *ret)
{
    if (!target)
        return false;
    struct range size = size_of(target);
    uint64_t max = size.max;
    if (n > 1 && args[1].e->kind == E_LIT && args[1].e->lit.kind == KL_CEL_INT)
        max = (uint64_t)args[1].e->lit.i;
    return answer_sized(ret, scaled(size, 2 * 0.1), (struct range){0, max});
}

static bool joining(const struct argument *target, const struct argument *args, size_t n,
                    struct call_estimate *ret)
{
    if (!target)
        return false;
    struct range list = size_of(target), size = {0, 0};
    if (target->type->n) {
        const struct kl_cel_decl *d =
            target->path && target->path->shape != D_SCALAR ? target->path->elem : NULL;
        size = times(list, d ? (struct range){0, (uint64_t)d->max_elements} : UNKNOWN);
    }
    if (n) {
        struct range separators = {list.min ? list.min - 1 : 0, list.max ? list.max - 1 : 0};
        size = plus(size, times(size_of(&args[0]), separators));
    }
    return answer_sized(ret, scaled(size, 0.1), size);
}

static bool containing(struct kl_str function, const struct overload *o,
                       const struct argument *args, size_t n, struct call_estimate *ret)
{
    struct range address = {4, 16}, cost = scaled(plus(address, address), 0.1);
    if (!n)
        return false;
    if (kl_str_eqz(function, "containsCIDR"))
        cost = plus(plus(cost, scaled(address, 0.1)), exactly(1));
    if (!strcmp(o->id, "cidr_contains_ip_string") || !strcmp(o->id, "cidr_contains_cidr_string"))
        cost = plus(cost, scaled(size_of(&args[0]), 0.1));
    return answer(ret, cost);
}

static bool equality(const struct argument *args, struct call_estimate *ret)
{
    static const char *const units[] = {"net.IP",
                                        "net.CIDR",
                                        "kubernetes.Quantity",
                                        "kubernetes.authorization.Authorizer",
                                        "kubernetes.authorization.PathCheck",
                                        "kubernetes.authorization.GroupCheck",
                                        "kubernetes.authorization.ResourceCheck",
                                        "kubernetes.authorization.Decision",
                                        "kubernetes.Semver",
                                        NULL};
    const struct cel_type *t = args[0].type;
    if (!kl_str_eq(t->name, args[1].type->name))
        return false;
    // Object types are compared by identity of the type value, which only these have.
    if (any_of(t->name, units))
        return answer(ret, exactly(1));
    if (kl_str_eqz(t->name, "kubernetes.NamedFormat"))
        return answer(ret, scaled((struct range){1, 64}, 0.1));
    if (kl_str_eqz(t->name, "kubernetes.URL")) {
        uint64_t max = args[1].has_size ? args[1].size.max : 1;
        return answer(ret, scaled((struct range){1, max}, 0.1));
    }
    return false;
}

bool cel_estimate_library(struct kl_str f, const struct overload *o, const struct argument *target,
                          const struct argument *args, size_t n, struct call_estimate *ret)
{
    static const char *const units[] = {"serviceAccount",
                                        "path",
                                        "group",
                                        "resource",
                                        "subresource",
                                        "namespace",
                                        "name",
                                        "allowed",
                                        "reason",
                                        "error",
                                        "errored",
                                        "masked",
                                        "prefixLength",
                                        "family",
                                        "isUnspecified",
                                        "isLoopback",
                                        "isLinkLocalMulticast",
                                        "isLinkLocalUnicast",
                                        "isGlobalUnicast",
                                        "format.named",
                                        "sign",
                                        "asInteger",
                                        "isInteger",
                                        "asApproximateFloat",
                                        "isGreaterThan",
                                        "isLessThan",
                                        "compareTo",
                                        "add",
                                        "sub",
                                        "major",
                                        "minor",
                                        "patch",
                                        "getScheme",
                                        "getHostname",
                                        "getHost",
                                        "getPort",
                                        "getEscapedPath",
                                        "getQuery",
                                        NULL};
    static const char *const walks[] = {"isSorted", "sum",         "max", "min",
                                        "indexOf",  "lastIndexOf", NULL};
    static const char *const same[] = {"lowerAscii", "upperAscii", "substring", "trim", NULL};
    static const char *const reads[] = {"cidr",       "isIP",   "isCIDR",   "ip", "quantity",
                                        "isQuantity", "semver", "isSemver", NULL};
    if (o->cost && extension(o, target, args, n, ret))
        return true;
    if (kl_str_eqz(f, "check"))
        return answer(ret, exactly(350000));
    if (any_of(f, units))
        return answer(ret, exactly(1));
    if (n == 1 && (kl_str_eqz(f, "fieldSelector") || kl_str_eqz(f, "labelSelector"))) {
        struct range s = size_of(&args[0]);
        return answer(ret, plus(exactly(10), plus(scaled(s, 0.1), scaled(scaled(s, 0.5), 50))));
    }
    if (any_of(f, walks))
        return traversal(target, ret);
    if (n == 1 && (kl_str_eqz(f, "url") || kl_str_eqz(f, "jsonpatch.escapeKey")))
        return answer_sized(ret, scaled(size_of(&args[0]), 0.1), size_of(&args[0]));
    if (any_of(f, same))
        return target && answer_sized(ret, scaled(size_of(target), 0.1), size_of(target));
    if (kl_str_eqz(f, "replace"))
        return replacing(target, args, n, ret);
    if (kl_str_eqz(f, "split"))
        return splitting(target, args, n, ret);
    if (kl_str_eqz(f, "join"))
        return joining(target, args, n, ret);
    if (target && n && (kl_str_eqz(f, "find") || kl_str_eqz(f, "findAll")))
        return answer_sized(
            ret,
            times(scaled(plus(size_of(target), exactly(1)), 0.1), scaled(size_of(&args[0]), 0.25)),
            (struct range){0, size_of(target).max});
    if (!strcmp(o->id, "cidr_ip"))
        return answer(ret, exactly(1));
    if (n && any_of(f, reads))
        return answer(ret, scaled(size_of(&args[0]), 0.1));
    if (n && kl_str_eqz(f, "ip.isCanonical"))
        return answer(ret, scaled(size_of(&args[0]), 2 * 0.1));
    if (kl_str_eqz(f, "containsIP") || kl_str_eqz(f, "containsCIDR"))
        return containing(f, o, args, n, ret);
    if (n && kl_str_eqz(f, "validate"))
        return answer(ret, scaled(scaled(size_of(&args[0]), 0.1), 128 * 0.25));
    if (n == 2 && kl_str_eqz(f, "_==_"))
        return equality(args, ret);
    return false;
}
