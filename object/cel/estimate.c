// SPDX-License-Identifier: Apache-2.0
// The static estimate: cel-go's checker/cost.go with sizes from declared types.
#include "object/cel/estimate_int.h"
#include <math.h>

struct local {
    struct kl_str name;
    struct cel_estimate known;
};
struct coster {
    struct kl_cel_env *env;
    const struct kl_cel_decl *root; // of the schema; NULL: sizes are not known
    struct kl_arena *arena;
    struct local *locals;
    size_t n, cap;
    bool out_of_memory;
    struct cel_estimate spare; // when memory ran out
};

uint64_t cel_scale(uint64_t x, double factor)
{
    double v = (double)x;
    if (v > 0 && factor > 0 && v > 0x1p64 / factor)
        return UINT64_MAX;
    v = ceil(v * factor);
    return v >= 0x1p64 ? UINT64_MAX : (uint64_t)v;
}

static struct range cost(struct coster *c, struct cel_expr *e);

// A path that leads nowhere.
static const struct kl_cel_decl nowhere;

// One step on. Upstream's estimator leaves out the first step, the variable's name, whatever it is:
// so the first step behind what has no path leads to the root.
static const struct kl_cel_decl *step(const struct coster *c, const struct kl_cel_decl *path,
                                      const struct kl_cel_decl *next)
{
    if (!path)
        return c->root;
    return path == &nowhere || !next ? &nowhere : next;
}

static struct cel_estimate *known(struct coster *c, struct cel_expr *e)
{
    if (!e->estimate)
        e->estimate = KL_ARENA_NEW(c->arena, struct cel_estimate);
    if (!e->estimate)
        c->out_of_memory = true;
    return e->estimate ? e->estimate : &c->spare;
}

static const struct local *find_local(const struct coster *c, struct kl_str name)
{
    for (size_t i = c->n; i--;)
        if (kl_str_eq(c->locals[i].name, name))
            return &c->locals[i];
    return NULL;
}

static void push(struct coster *c, struct kl_str name, struct cel_estimate k)
{
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 16;
        struct local *more = kl_arena_alloc(c->arena, cap * sizeof *more);
        if (!more) {
            c->out_of_memory = true;
            return;
        }
        if (c->n)
            memcpy(more, c->locals, c->n * sizeof *more);
        c->locals = more;
        c->cap = cap;
    }
    c->locals[c->n++] = (struct local){name, k};
}

static const struct kl_cel_decl *path_of(struct coster *c, struct cel_expr *e)
{
    const struct local *l = e->kind == E_IDENT ? find_local(c, e->name) : NULL;
    return l ? l->known.path : known(c, e)->path;
}

static bool is_scalar(const struct cel_type *t)
{
    switch (t->kind) {
    case T_BOOL:
    case T_DOUBLE:
    case T_DURATION:
    case T_INT:
    case T_TIMESTAMP:
    case T_UINT:
        return true;
    default:
        return cel_type_is_optional(t) && is_scalar(t->p[0]);
    }
}

static bool literal_size(const struct cel_expr *e, struct range *ret)
{
    switch (e->kind) {
    case E_LIT:
        *ret = exactly(e->lit.kind == KL_CEL_STRING || e->lit.kind == KL_CEL_BYTES
                           ? cel_size(e->lit, false)
                           : 1);
        return true;
    case E_LIST:
    case E_MAP:
        *ret = exactly(e->n);
        return true;
    default:
        return false;
    }
}

static bool size_of(struct coster *c, struct cel_expr *e, struct range *ret)
{
    struct cel_estimate *k = known(c, e);
    const struct kl_cel_decl *path;
    if (k->has_size) {
        *ret = k->size;
        return true;
    }
    if (literal_size(e, ret))
        return true;
    if ((path = path_of(c, e)) && path != &nowhere) {
        k->size = (struct range){0, (uint64_t)path->max_elements};
        k->has_size = true;
        *ret = k->size;
        return true;
    }
    if (is_scalar(e->type)) {
        *ret = exactly(1);
        return true;
    }
    const struct local *l = e->kind == E_IDENT ? find_local(c, e->name) : NULL;
    if (l && l->known.has_size)
        *ret = l->known.size;
    return l && l->known.has_size;
}

static struct range size_or_unknown(struct coster *c, struct cel_expr *e)
{
    struct range size;
    return size_of(c, e, &size) ? size : UNKNOWN;
}

static void set_size(struct coster *c, struct cel_expr *e, struct range size)
{
    known(c, e)->size = size;
    known(c, e)->has_size = true;
}

// What is known of the entries of e.
static bool entry_of(struct coster *c, struct cel_expr *e, struct cel_estimate *ret)
{
    const struct local *l;
    *ret = *known(c, e);
    if (ret->has_entry)
        return true;
    l = e->kind == E_IDENT ? find_local(c, e->name) : NULL;
    if (l && l->known.has_entry)
        *ret = l->known;
    return l && l->known.has_entry;
}

static void set_entry(struct coster *c, struct cel_expr *e, enum type_kind container,
                      struct range key, struct range value)
{
    struct cel_estimate *k = known(c, e);
    k->has_entry = true;
    k->container = (uint8_t)container;
    k->key = key;
    k->value = value;
}

static bool join_entries(struct coster *c, struct cel_expr *x, struct cel_expr *y,
                         struct cel_estimate *ret)
{
    struct cel_estimate other;
    if (!entry_of(c, x, ret) || !entry_of(c, y, &other))
        return false;
    ret->key = either(ret->key, other.key);
    ret->value = either(ret->value, other.value);
    return true;
}

static struct range cost_select(struct coster *c, struct cel_expr *e)
{
    if (e->resolved) {
        known(c, e)->path = c->root;
        return exactly(1);
    }
    struct range sum = cost(c, e->target);
    if (e->test)
        return sum; // has() is free
    if (e->target->type->kind == T_MAP || e->target->type->kind == T_STRUCT)
        sum = plus(sum, exactly(1));
    const struct kl_cel_decl *d = path_of(c, e->target);
    const struct decl_field *f = d && d->shape == D_OBJECT ? cel_decl_field(d, e->name) : NULL;
    // Attributes of a device: all have one size, whatever their names.
    bool attributes = d && d->shape == D_MAP && d->elem->type->kind == T_ANY;
    known(c, e)->path = step(c, d, f ? f->decl : attributes ? d->elem : NULL);
    return sum;
}

static struct range cost_ident(struct coster *c, struct cel_expr *e)
{
    const struct local *l = find_local(c, e->name);
    known(c, e)->path = l ? l->known.path : c->root;
    return exactly(1);
}

static struct argument argument(struct coster *c, struct cel_expr *e)
{
    struct argument a = {.e = e, .type = e->type, .path = path_of(c, e)};
    a.has_size = size_of(c, e, &a.size);
    if (a.path == &nowhere)
        a.path = NULL;
    return a;
}

static struct range sum_of(const struct range *costs, size_t n)
{
    struct range sum = {0, 0};
    for (size_t i = 0; i < n; i++)
        sum = plus(sum, costs[i]);
    return sum;
}

static struct range known_size(const struct argument *a)
{
    return a->has_size ? a->size : UNKNOWN;
}

static bool is(const struct overload *o, const char *id)
{
    return !strcmp(o->id, id);
}

// cel-go's own rules.
static struct call_estimate standard(struct coster *c, struct cel_expr *e, const struct overload *o,
                                     const struct argument *target, const struct argument *args,
                                     size_t n, const struct range *costs)
{
    struct call_estimate est = {.cost = plus(exactly(1), sum_of(costs, n))};
    struct range all = sum_of(costs, n), x = n ? known_size(&args[0]) : UNKNOWN;
    struct range y = n > 1 ? known_size(&args[1]) : UNKNOWN;
    struct cel_estimate entry;
    if (is(o, "string_format") && target) {
        est.cost = plus(scaled(known_size(target), 0.1), all);
    } else if (n == 1 &&
               (is(o, "string_to_bytes") || is(o, "bytes_to_string") || is(o, "strings_quote"))) {
        est.cost = plus(scaled(x, 0.1), all);
        est.has_result = true;
        est.result = is(o, "string_to_bytes")   ? (struct range){x.min, x.max * 4}
                     : is(o, "bytes_to_string") ? (struct range){x.min / 4, x.max}
                                                : (struct range){x.min + 2, x.max * 2 + 2};
    } else if (n == 1 && (is(o, "starts_with_string") || is(o, "ends_with_string"))) {
        est.cost = plus(scaled(x, 0.1), all);
    } else if (is(o, "in_list")) {
        est.cost = plus(scaled(y, 1), all);
    } else if (is(o, "matches_string") && target && n == 1) {
        est.cost =
            plus(times(scaled(plus(known_size(target), exactly(1)), 0.1), scaled(x, 0.25)), all);
    } else if (is(o, "contains_string") && target && n == 1) {
        est.cost = plus(times(scaled(known_size(target), 0.1), scaled(x, 0.1)), all);
    } else if (is(o, "logical_or") || is(o, "logical_and")) {
        est.cost = (struct range){costs[0].min, sat_add(costs[0].max, costs[1].max)};
    } else if (is(o, "conditional")) {
        est.result = either(y, known_size(&args[2]));
        est.has_result = true;
        if (join_entries(c, e->args[1], e->args[2], &entry))
            set_entry(c, e, entry.container, entry.key, entry.value);
        est.cost = plus(costs[0], either(costs[1], costs[2]));
    } else if (is(o, "add_string") || is(o, "add_bytes") || is(o, "add_list")) {
        est.result = plus(x, y);
        est.has_result = true;
        if (join_entries(c, e->args[0], e->args[1], &entry))
            set_entry(c, e, entry.container, entry.key, entry.value);
        if (!is(o, "add_list"))
            est.cost = plus(scaled(est.result, 0.1), all);
    } else {
        static const char *const compared[] = {
            "less_string", "greater_string", "less_equals_string", "greater_equals_string",
            "less_bytes",  "greater_bytes",  "less_equals_bytes",  "greater_equals_bytes",
            "equals",      "not_equals"};
        for (size_t i = 0; i < KL_COUNT(compared); i++)
            if (is(o, compared[i])) {
                uint64_t most = x.max < y.max ? x.max : y.max;
                est.cost = plus(scaled((struct range){most > 0, most}, 0.1), all);
            }
    }
    return est;
}

static struct range cost_call(struct coster *c, struct cel_expr *e)
{
    struct argument args[CEL_MAX_ARGS], target;
    struct range costs[CEL_MAX_ARGS], sum = {0, 0}, fn = {UINT64_MAX, 0}, result;
    bool has_result = false;
    if (kl_str_eqz(e->name, "dyn")) {
        sum = cost(c, e->args[0]);
        if (size_of(c, e->args[0], &result))
            set_size(c, e, result);
        struct cel_estimate entry;
        if (entry_of(c, e->args[0], &entry))
            set_entry(c, e, entry.container, entry.key, entry.value);
        return plus(exactly(1), sum);
    }
    for (uint32_t i = 0; i < e->n; i++) {
        costs[i] = cost(c, e->args[i]);
        args[i] = argument(c, e->args[i]);
    }
    if (e->target) {
        sum = cost(c, e->target);
        target = argument(c, e->target);
    }
    for (uint16_t i = 0; i < e->noverloads; i++) {
        const struct overload *o = e->overloads[i];
        struct call_estimate est = {0};
        if (cel_estimate_library(e->name, o, e->target ? &target : NULL, args, e->n, &est))
            est.cost = plus(est.cost, sum_of(costs, e->n));
        else
            est = standard(c, e, o, e->target ? &target : NULL, args, e->n, costs);
        fn = either(fn, est.cost);
        if (est.has_result) {
            result = has_result ? either(result, est.result) : est.result;
            has_result = true;
        }
        if (is(o, "index_list") || is(o, "index_map")) {
            struct cel_estimate entry;
            const struct kl_cel_decl *d = path_of(c, e->args[0]);
            has_result = entry_of(c, e->args[0], &entry);
            result = entry.value;
            known(c, e)->path = step(c, d, d ? d->elem : NULL);
        }
        if (!has_result)
            has_result = size_of(c, e, &result);
    }
    if (has_result)
        set_size(c, e, result);
    return e->noverloads ? plus(sum, fn) : (struct range){0, 0};
}

static struct range cost_list(struct coster *c, struct cel_expr *e)
{
    struct range sum = exactly(10), item = {e->n ? UINT64_MAX : 0, 0};
    for (uint32_t i = 0; i < e->n; i++) {
        sum = plus(sum, cost(c, e->args[i]));
        item = either(item, size_or_unknown(c, e->args[i]));
    }
    set_entry(c, e, T_LIST, exactly(1), item);
    return sum;
}

static struct range cost_entries(struct coster *c, struct cel_expr *e)
{
    bool is_map = e->kind == E_MAP;
    struct range sum = exactly(is_map ? 30 : 40), key = {e->n ? UINT64_MAX : 0, 0}, value = key;
    for (uint32_t i = 0; i < e->n; i++) {
        if (is_map) {
            sum = plus(sum, cost(c, e->entries[i].key));
            key = either(key, size_or_unknown(c, e->entries[i].key));
        }
        sum = plus(sum, cost(c, e->entries[i].value));
        value = either(value, size_or_unknown(c, e->entries[i].value));
    }
    if (is_map)
        set_entry(c, e, T_MAP, key, value);
    return sum;
}

// A variable that goes over the range: its keys, its values, or what one variable gets.
static void push_iter(struct coster *c, struct kl_str name, struct cel_expr *range, bool keys,
                      bool single)
{
    struct cel_estimate entry, k = {0};
    bool has = entry_of(c, range, &entry);
    const struct kl_cel_decl *d = path_of(c, range);
    enum type_kind container = has ? entry.container : range->type->kind;
    if (single)
        keys = container != T_LIST;
    k.has_size = has;
    k.size = keys ? entry.key : entry.value;
    k.path = step(c, d, !d ? NULL : keys ? d->key : d->elem);
    push(c, name, k);
}

static bool is_bind(const struct cel_expr *e)
{
    return e->range->kind == E_LIST && !e->range->n && e->cond->kind == E_LIT &&
           e->cond->lit.kind == KL_CEL_BOOL && !e->cond->lit.b &&
           !kl_str_eqz(e->accu_var, "__result__");
}

static void push_accu(struct coster *c, struct cel_expr *e)
{
    struct cel_estimate k = {0}, entry;
    k.path = path_of(c, e->accu);
    if (entry_of(c, e->accu, &entry)) {
        k.has_entry = true;
        k.container = entry.container;
        k.key = entry.key;
        k.value = entry.value;
    }
    k.has_size = size_of(c, e->accu, &k.size);
    push(c, e->accu_var, k);
}

static struct range cost_fold(struct coster *c, struct cel_expr *e)
{
    struct range sum = plus(cost(c, e->range), cost(c, e->accu)), size, loop;
    struct cel_estimate entry;
    size_t outer = c->n;
    push_accu(c, e);
    if (is_bind(e)) {
        sum = plus(sum, cost(c, e->result));
        c->n = outer < c->n ? outer : c->n;
        if (size_of(c, e->result, &size))
            set_size(c, e, size);
        if (entry_of(c, e->result, &entry))
            set_entry(c, e, entry.container, entry.key, entry.value);
        return sum;
    }
    push_iter(c, e->iter, e->range, true, !e->iter2.n);
    if (e->iter2.n)
        push_iter(c, e->iter2, e->range, false, false);
    loop = cost(c, e->cond);
    loop = plus(cost(c, e->step), loop);
    c->n = outer + 1 < c->n ? outer + 1 : c->n;
    sum = plus(sum, cost(c, e->result));
    c->n = outer < c->n ? outer : c->n;
    struct range count = size_or_unknown(c, e->range);
    sum = plus(sum, times(count, loop));
    if (e->accu->kind == E_LIT) {
        if (size_of(c, e->accu, &size))
            set_size(c, e, size);
    } else if (e->accu->kind == E_LIST || e->accu->kind == E_MAP) {
        set_size(c, e, count);
        if (entry_of(c, e->step, &entry))
            set_entry(c, e, entry.container, entry.key, entry.value);
    }
    return sum;
}

static struct range cost(struct coster *c, struct cel_expr *e)
{
    switch (e->kind) {
    case E_IDENT:
        return cost_ident(c, e);
    case E_SELECT:
        return cost_select(c, e);
    case E_CALL:
        return cost_call(c, e);
    case E_LIST:
        return cost_list(c, e);
    case E_MAP:
    case E_STRUCT:
        return cost_entries(c, e);
    case E_FOLD:
        return cost_fold(c, e);
    default:
        return (struct range){0, 0};
    }
}

struct kl_cel_cost cel_estimate(struct kl_cel_env *env, struct kl_arena *a, struct cel_expr *e)
{
    struct coster c = {.env = env, .arena = a};
    for (uint32_t i = 0; !c.root && i < env->nvars; i++)
        if (env->vars[i].decl->flags & (DF_SCHEMA | DF_ROOT))
            c.root = env->vars[i].decl;
    struct range r = cost(&c, e);
    if (c.out_of_memory)
        r = UNKNOWN;
    return (struct kl_cel_cost){r.min, r.max};
}
