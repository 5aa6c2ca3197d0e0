// SPDX-License-Identifier: Apache-2.0
// What a call costs at run time: cel-go's cost tracker, the trackers of its extensions, and
// Kubernetes' estimator of actual costs, in the order in which upstream asks them.
#include "object/cel/plan_int.h"
#include <math.h>

static uint64_t tenth(uint64_t size)
{
    return (uint64_t)ceil((double)size * 0.1);
}

static uint64_t traversal(struct kl_arena *a, struct kl_cel_val v)
{
    uint64_t cost = 0;
    size_t n;
    switch (v.kind) {
    case KL_CEL_STRING:
    case KL_CEL_BYTES:
        return (uint64_t)((double)v.n * 0.1);
    case KL_CEL_LIST:
        n = cel_count(v);
        for (size_t i = 0; i < n; i++)
            cost += traversal(a, cel_get(a, v, i));
        return cost;
    case KL_CEL_MAP:
        n = kl_cel_len(v);
        for (size_t i = 0; i < n; i++) {
            struct kl_cel_val key, value;
            kl_cel_entry(a, v, i, &key, &value);
            cost += traversal(a, key) + traversal(a, value);
        }
        return cost;
    default:
        return 1;
    }
}

enum rule {
    RULE_CHECK,
    RULE_ONE,
    RULE_SELECTOR,
    RULE_TRAVERSE,
    RULE_TENTH,
    RULE_FIFTH,
    RULE_JOIN,
    RULE_FIND,
    RULE_IP,
    RULE_HAS_IP,
    RULE_HAS_CIDR,
    RULE_VALIDATE,
};

static int find_rule(struct kl_str function)
{
    static const struct {
        const char *name;
        uint8_t rule;
    } rules[] = {
        {"check", RULE_CHECK},
        {"serviceAccount", RULE_ONE},
        {"path", RULE_ONE},
        {"group", RULE_ONE},
        {"resource", RULE_ONE},
        {"subresource", RULE_ONE},
        {"namespace", RULE_ONE},
        {"name", RULE_ONE},
        {"allowed", RULE_ONE},
        {"reason", RULE_ONE},
        {"error", RULE_ONE},
        {"errored", RULE_ONE},
        {"fieldSelector", RULE_SELECTOR},
        {"labelSelector", RULE_SELECTOR},
        {"isSorted", RULE_TRAVERSE},
        {"sum", RULE_TRAVERSE},
        {"max", RULE_TRAVERSE},
        {"min", RULE_TRAVERSE},
        {"indexOf", RULE_TRAVERSE},
        {"lastIndexOf", RULE_TRAVERSE},
        {"url", RULE_TENTH},
        {"lowerAscii", RULE_TENTH},
        {"upperAscii", RULE_TENTH},
        {"substring", RULE_TENTH},
        {"trim", RULE_TENTH},
        {"jsonpatch.escapeKey", RULE_TENTH},
        {"replace", RULE_FIFTH},
        {"split", RULE_FIFTH},
        {"join", RULE_JOIN},
        {"find", RULE_FIND},
        {"findAll", RULE_FIND},
        {"cidr", RULE_TENTH},
        {"isIP", RULE_TENTH},
        {"isCIDR", RULE_TENTH},
        {"ip", RULE_IP},
        {"ip.isCanonical", RULE_FIFTH},
        {"masked", RULE_ONE},
        {"prefixLength", RULE_ONE},
        {"family", RULE_ONE},
        {"isUnspecified", RULE_ONE},
        {"isLoopback", RULE_ONE},
        {"isLinkLocalMulticast", RULE_ONE},
        {"isLinkLocalUnicast", RULE_ONE},
        {"isGlobalUnicast", RULE_ONE},
        {"containsIP", RULE_HAS_IP},
        {"containsCIDR", RULE_HAS_CIDR},
        {"quantity", RULE_TENTH},
        {"isQuantity", RULE_TENTH},
        {"semver", RULE_TENTH},
        {"isSemver", RULE_TENTH},
        {"validate", RULE_VALIDATE},
        {"format.named", RULE_ONE},
        {"sign", RULE_ONE},
        {"asInteger", RULE_ONE},
        {"isInteger", RULE_ONE},
        {"asApproximateFloat", RULE_ONE},
        {"isGreaterThan", RULE_ONE},
        {"isLessThan", RULE_ONE},
        {"compareTo", RULE_ONE},
        {"add", RULE_ONE},
        {"sub", RULE_ONE},
        {"major", RULE_ONE},
        {"minor", RULE_ONE},
        {"patch", RULE_ONE},
        {"getScheme", RULE_ONE},
        {"getHostname", RULE_ONE},
        {"getHost", RULE_ONE},
        {"getPort", RULE_ONE},
        {"getEscapedPath", RULE_ONE},
        {"getQuery", RULE_ONE},
    };
    for (size_t i = 0; i < KL_COUNT(rules); i++)
        if (kl_str_eqz(function, rules[i].name))
            return rules[i].rule;
    return -1;
}

static uint64_t pattern_cost(uint64_t text, uint64_t pattern)
{
    return (uint64_t)ceil((1.0 + (double)text) * 0.1) * (uint64_t)ceil((double)pattern * 0.25);
}

// Kubernetes' own rules; false when it has none.
static bool kubernetes_cost(struct cel_run *r, struct kl_str function, const struct overload *o,
                            const struct kl_cel_val *args, size_t n, struct kl_cel_val result,
                            uint64_t *ret)
{
    int rule = find_rule(function);
    uint64_t size = n ? cel_size(args[0], false) : 0, other = n > 1 ? cel_size(args[1], false) : 0;
    const char *id = o ? o->id : "";
    switch (rule) {
    case RULE_CHECK:
        *ret = 350000;
        break;
    case RULE_ONE:
        *ret = 1;
        break;
    case RULE_SELECTOR:
        *ret = 10 + tenth(other) + (uint64_t)ceil(ceil((double)other * 0.5) * 50);
        break;
    case RULE_TRAVERSE:
        *ret = n ? traversal(r->arena, args[0]) : 0;
        break;
    case RULE_TENTH:
        *ret = tenth(size);
        break;
    case RULE_FIFTH:
        *ret = (uint64_t)ceil((double)size * 2 * 0.1);
        break;
    case RULE_JOIN:
        *ret = (uint64_t)ceil((double)cel_size(result, false) * 2 * 0.1);
        break;
    case RULE_FIND:
        *ret = pattern_cost(size, other);
        break;
    case RULE_IP:
        *ret = strcmp(id, "cidr_ip") ? tenth(size) : 1;
        break;
    case RULE_HAS_IP:
        *ret = tenth(2 * size) + (strcmp(id, "cidr_contains_ip_string") ? 0 : tenth(other));
        break;
    case RULE_HAS_CIDR:
        *ret = tenth(2 * size) + tenth(size) + 1 +
               (strcmp(id, "cidr_contains_cidr_string") ? 0 : tenth(other));
        break;
    case RULE_VALIDATE:
        if (args[0].kind != KL_CEL_FORMAT)
            return false;
        *ret = pattern_cost(other, ((const struct cel_format *)args[0].p)->max_regex);
        break;
    default:
        return false;
    }
    return true;
}

static uint64_t list_cost(double factor, uint64_t size)
{
    return (uint64_t)((double)size * factor) + 11;
}

static uint64_t self_compare(struct kl_arena *a, struct kl_cel_val list)
{
    double factor = 2.0;
    uint64_t n = list.kind == KL_CEL_LIST ? cel_count(list) : 0;
    if (n) {
        struct kl_cel_val first = cel_get(a, list, 0);
        if (first.kind == KL_CEL_STRING || first.kind == KL_CEL_BYTES)
            factor += 0.1;
    }
    return list_cost(factor, n * n);
}

static uint64_t overload_cost(struct cel_run *r, const struct overload *o,
                              const struct kl_cel_val *args, size_t n, struct kl_cel_val result)
{
    uint64_t sizes = n == 2 ? cel_size(args[0], false) * cel_size(args[1], false) : 0;
    switch (o->cost) {
    case OC_SETS:
        return 1 + sizes;
    case OC_SETS2:
        return 1 + 2 * sizes;
    case OC_OUTPUT:
        return list_cost(1, cel_size(result, false));
    case OC_FLATTEN:
        return list_cost(n == 2 && args[1].kind == KL_CEL_INT ? (double)args[1].i : 1,
                         cel_size(args[0], false));
    case OC_SELF:
        return self_compare(r->arena, args[0]);
    default:
        return self_compare(r->arena, args[1]);
    }
}

static bool is_one_of(const char *id, const char *const *ids)
{
    for (; *ids; ids++)
        if (!strcmp(id, *ids))
            return true;
    return false;
}

static bool is_kubernetes(struct kl_cel_val v)
{
    return v.kind >= KL_CEL_IP && v.kind <= KL_CEL_DECISION;
}

uint64_t cel_call_cost(struct cel_run *r, struct kl_str function, const struct overload *o,
                       const struct kl_cel_val *args, size_t n, struct kl_cel_val result)
{
    static const char *const whole[] = {"starts_with_string",
                                        "ends_with_string",
                                        "string_to_bytes",
                                        "bytes_to_string",
                                        "strings_quote",
                                        "string_format",
                                        NULL};
    static const char *const compared[] = {"less_string",
                                           "greater_string",
                                           "less_equals_string",
                                           "greater_equals_string",
                                           "less_bytes",
                                           "greater_bytes",
                                           "less_equals_bytes",
                                           "greater_equals_bytes",
                                           "equals",
                                           "not_equals",
                                           NULL};
    uint64_t cost = 1, x, y;
    if (o && o->cost)
        return overload_cost(r, o, args, n, result);
    if (kubernetes_cost(r, function, o, args, n, result, &cost) || !o)
        return cost;
    if (!strcmp(o->id, "equals") && is_kubernetes(args[0]))
        return 1;
    if (is_one_of(o->id, whole))
        return tenth(cel_size(args[0], true));
    if (!strcmp(o->id, "in_list"))
        return cel_size(args[1], true);
    if (is_one_of(o->id, compared)) {
        x = cel_size(args[0], true);
        y = cel_size(args[1], true);
        return tenth(x < y ? x : y);
    }
    if (!strcmp(o->id, "add_string") || !strcmp(o->id, "add_bytes"))
        return tenth(cel_size(args[0], true) + cel_size(args[1], true));
    if (!strcmp(o->id, "matches_string"))
        return pattern_cost(cel_size(args[0], true), cel_size(args[1], true));
    if (!strcmp(o->id, "contains_string"))
        return tenth(cel_size(args[0], true)) * tenth(cel_size(args[1], true));
    return 1;
}
