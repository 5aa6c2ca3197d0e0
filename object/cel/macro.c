// SPDX-License-Identifier: Apache-2.0
// Macros: has, the comprehensions over one and two variables, optMap, optFlatMap, sortBy, cel.bind.
// Each is rewritten to a fold while the parser goes; nodes made here stand where the call stands.
#include "object/cel/ast_int.h"

typedef struct cel_expr *macro_fn(struct cel_builder *b, struct kl_str function,
                                  struct cel_expr *target, size_t n, struct cel_expr **args);

static struct cel_expr *wrong(struct cel_builder *b, const struct cel_expr *at, const char *what)
{
    cel_issue_at(b->issues, at->offset, "%s", what);
    return NULL;
}

static struct cel_expr *accu(struct cel_builder *b)
{
    return cel_ident(b, CEL_ACCU);
}

static struct cel_expr *call2(struct cel_builder *b, const char *f, struct cel_expr *x,
                              struct cel_expr *y)
{
    struct cel_expr *args[2] = {x, y};
    return x && y ? cel_call(b, f, NULL, 2, args) : NULL;
}

static struct cel_expr *call3(struct cel_builder *b, const char *f, struct cel_expr *x,
                              struct cel_expr *y, struct cel_expr *z)
{
    struct cel_expr *args[3] = {x, y, z};
    return x && y && z ? cel_call(b, f, NULL, 3, args) : NULL;
}

static struct cel_expr *fold(struct cel_builder *b, struct cel_expr *range, struct kl_str iter,
                             struct kl_str iter2, struct kl_str accu_var, struct cel_expr *init,
                             struct cel_expr *cond, struct cel_expr *step, struct cel_expr *result)
{
    struct cel_expr *e = cel_new(b, E_FOLD, b->offset);
    if (!e || !range || !init || !cond || !step || !result)
        return NULL;
    e->range = range;
    e->iter = iter;
    e->iter2 = iter2;
    e->accu_var = accu_var;
    e->accu = init;
    e->cond = cond;
    e->step = step;
    e->result = result;
    return e;
}

static bool is_accu(struct kl_str name)
{
    return kl_str_eqz(name, "@result") || kl_str_eqz(name, "__result__");
}

// The one or two iteration variables in front of the `rest` last arguments.
static bool iteration_vars(struct cel_builder *b, size_t nvars, struct cel_expr **args,
                           const char *not_name, struct kl_str vars[2])
{
    static const char overwrites[] = "iteration variable overwrites accumulator variable";
    for (size_t i = 0; i < nvars; i++) {
        if (args[i]->kind != E_IDENT)
            return wrong(b, args[i], not_name) != NULL;
        vars[i] = args[i]->name;
    }
    if (nvars == 2 && kl_str_eq(vars[0], vars[1])) {
        cel_issue_at(b->issues, args[1]->offset, "duplicate variable name: %.*s", KL_PRI(vars[0]));
        return false;
    }
    for (size_t i = 0; i < nvars; i++)
        if (is_accu(vars[i]))
            return wrong(b, args[i], overwrites) != NULL;
    return true;
}

static struct cel_expr *make_has(struct cel_builder *b, struct kl_str function,
                                 struct cel_expr *target, size_t n, struct cel_expr **args)
{
    if (args[0]->kind != E_SELECT || args[0]->test)
        return wrong(b, args[0], "invalid argument to has() macro");
    struct cel_expr *e = cel_new(b, E_SELECT, b->offset);
    if (!e)
        return NULL;
    e->target = args[0]->target;
    e->name = args[0]->name;
    e->test = 1;
    return e;
}

static struct cel_expr *make_quantifier(struct cel_builder *b, struct kl_str function,
                                        struct cel_expr *target, size_t n, struct cel_expr **args)
{
    struct kl_str vars[2] = {KL_STR(""), KL_STR("")};
    struct cel_expr *test = args[n - 1], *init, *cond, *step, *result;
    if (!iteration_vars(b, n - 1, args, "argument must be a simple name", vars))
        return NULL;
    if (kl_str_eqz(function, "all")) {
        struct cel_expr *a = accu(b);
        init = cel_literal(b, kl_cel_bool(true));
        cond = a ? cel_call(b, "@not_strictly_false", NULL, 1, &a) : NULL;
        step = call2(b, "_&&_", accu(b), test);
        result = accu(b);
    } else if (kl_str_eqz(function, "exists")) {
        struct cel_expr *a = accu(b), *not ;
        init = cel_literal(b, kl_cel_bool(false));
        not = a ? cel_call(b, "!_", NULL, 1, &a) : NULL;
        cond = not ? cel_call(b, "@not_strictly_false", NULL, 1, &not ) : NULL;
        step = call2(b, "_||_", accu(b), test);
        result = accu(b);
    } else {
        init = cel_literal(b, kl_cel_int(0));
        cond = cel_literal(b, kl_cel_bool(true));
        step = call3(b, "_?_:_", test, call2(b, "_+_", accu(b), cel_literal(b, kl_cel_int(1))),
                     accu(b));
        result = call2(b, "_==_", accu(b), cel_literal(b, kl_cel_int(1)));
    }
    return fold(b, target, vars[0], vars[1], CEL_ACCU, init, cond, step, result);
}

// A fold that adds what `step` makes, where `filter` (may be NULL) holds.
static struct cel_expr *collect(struct cel_builder *b, struct cel_expr *target,
                                const struct kl_str vars[2], struct cel_expr *init,
                                struct cel_expr *step, struct cel_expr *filter)
{
    if (filter)
        step = call3(b, "_?_:_", filter, step, accu(b));
    return fold(b, target, vars[0], vars[1], CEL_ACCU, init, cel_literal(b, kl_cel_bool(true)),
                step, accu(b));
}

static struct cel_expr *make_map(struct cel_builder *b, struct kl_str function,
                                 struct cel_expr *target, size_t n, struct cel_expr **args)
{
    struct kl_str vars[2] = {KL_STR(""), KL_STR("")};
    bool filters = kl_str_eqz(function, "filter");
    if (!iteration_vars(b, 1, args, "argument is not an identifier", vars))
        return NULL;
    struct cel_expr *init = cel_list(b, 0, NULL);
    struct cel_expr *item = filters ? args[0] : args[n - 1];
    struct cel_expr *filter = filters ? args[1] : n == 3 ? args[1] : NULL;
    struct cel_expr *step = call2(b, "_+_", accu(b), cel_list(b, 1, &item));
    return collect(b, target, vars, init, step, filter);
}

static struct cel_expr *make_transform(struct cel_builder *b, struct kl_str function,
                                       struct cel_expr *target, size_t n, struct cel_expr **args)
{
    struct kl_str vars[2];
    struct cel_expr *filter = n == 4 ? args[2] : NULL, *made = args[n - 1], *step;
    if (!iteration_vars(b, 2, args, "argument must be a simple name", vars))
        return NULL;
    if (kl_str_eqz(function, "transformList")) {
        step = call2(b, "_+_", accu(b), cel_list(b, 1, &made));
        return collect(b, target, vars, cel_list(b, 0, NULL), step, filter);
    }
    if (kl_str_eqz(function, "transformMap"))
        step = call3(b, "cel.@mapInsert", accu(b), cel_ident(b, vars[0]), made);
    else
        step = call2(b, "cel.@mapInsert", accu(b), made);
    return collect(b, target, vars, cel_new(b, E_MAP, b->offset), step, filter);
}

// A fold over nothing whose accumulator is a variable: let name = value in result.
static struct cel_expr *bind(struct cel_builder *b, struct kl_str name, struct cel_expr *value,
                             struct cel_expr *result)
{
    return fold(b, cel_list(b, 0, NULL), KL_STR("#unused"), KL_STR(""), name, value,
                cel_literal(b, kl_cel_bool(false)), cel_ident(b, name), result);
}

static struct cel_expr *make_bind(struct cel_builder *b, struct kl_str function,
                                  struct cel_expr *target, size_t n, struct cel_expr **args)
{
    (void)function;
    (void)target;
    (void)n;
    if (args[0]->kind != E_IDENT)
        return wrong(b, args[0], "cel.bind() variable names must be simple identifiers");
    return bind(b, args[0]->name, args[1], args[2]);
}

static struct cel_expr *make_opt_map(struct cel_builder *b, struct kl_str function,
                                     struct cel_expr *target, size_t n, struct cel_expr **args)
{
    bool flat = kl_str_eqz(function, "optFlatMap");
    if (args[0]->kind != E_IDENT)
        return wrong(b, args[0],
                     flat ? "optFlatMap() variable name must be a simple identifier"
                          : "optMap() variable name must be a simple identifier");
    struct cel_expr *copy = cel_copy(b, target);
    struct cel_expr *value = copy ? cel_call(b, "value", copy, 0, NULL) : NULL;
    struct cel_expr *mapped = bind(b, args[0]->name, value, args[1]);
    if (!flat && mapped)
        mapped = cel_call(b, "optional.of", NULL, 1, &mapped);
    return call3(b, "_?_:_", cel_call(b, "hasValue", target, 0, NULL), mapped,
                 cel_call(b, "optional.none", NULL, 0, NULL));
}

static struct cel_expr *make_sort_by(struct cel_builder *b, struct kl_str function,
                                     struct cel_expr *target, size_t n, struct cel_expr **args)
{
    static const struct kl_str input = KL_STR_INIT("@__sortBy_input__");
    if (target->kind != E_LIST && target->kind != E_SELECT && target->kind != E_IDENT &&
        target->kind != E_FOLD && target->kind != E_CALL)
        return wrong(b, target,
                     "sortBy can only be applied to a list, identifier, comprehension, call or "
                     "select expression");
    struct cel_expr *keys = make_map(b, KL_STR("map"), cel_ident(b, input), n, args);
    if (!keys)
        return NULL;
    return bind(b, input, target,
                cel_call(b, "@sortByAssociatedKeys", cel_ident(b, input), 1, &keys));
}

bool cel_expand(struct cel_builder *b, int32_t offset, struct kl_str function,
                struct cel_expr *target, size_t n, struct cel_expr **args, struct cel_expr **ret)
{
    bool of_cel = target && target->kind == E_IDENT && kl_str_eqz(target->name, "cel");
    static const struct {
        const char *name;
        uint8_t nargs;
        bool member;
        macro_fn *expand;
    } macros[] = {
        {"has", 1, false, make_has},
        {"all", 2, true, make_quantifier},
        {"all", 3, true, make_quantifier},
        {"exists", 2, true, make_quantifier},
        {"exists", 3, true, make_quantifier},
        {"exists_one", 2, true, make_quantifier},
        {"exists_one", 3, true, make_quantifier},
        {"existsOne", 2, true, make_quantifier},
        {"existsOne", 3, true, make_quantifier},
        {"map", 2, true, make_map},
        {"map", 3, true, make_map},
        {"filter", 2, true, make_map},
        {"transformList", 3, true, make_transform},
        {"transformList", 4, true, make_transform},
        {"transformMap", 3, true, make_transform},
        {"transformMap", 4, true, make_transform},
        {"transformMapEntry", 3, true, make_transform},
        {"transformMapEntry", 4, true, make_transform},
        {"optMap", 2, true, make_opt_map},
        {"optFlatMap", 2, true, make_opt_map},
        {"sortBy", 2, true, make_sort_by},
        {"bind", 3, true, make_bind},
    };
    for (size_t i = 0; i < KL_COUNT(macros); i++)
        if (macros[i].nargs == n && macros[i].member == (target != NULL) &&
            kl_str_eqz(function, macros[i].name) &&
            (macros[i].expand != make_bind || (of_cel && (b->flags & KL_CEL_BINDINGS)))) {
            b->offset = offset;
            uint32_t before = b->issues->total;
            *ret = macros[i].expand(b, function, target, n, args);
            if (!*ret && b->issues->total == before) // nothing wrong but the memory
                b->issues->out_of_memory = true;
            return true;
        }
    return false;
}
