// SPDX-License-Identifier: Apache-2.0
// From a checked tree to a plan: names become places, constants are folded, patterns compiled.
#include "object/cel/plan_int.h"
#include "object/cel/re2_int.h"

struct local {
    struct kl_str name;
    uint32_t slot;
};
struct planner {
    struct kl_cel_program *p;
    struct kl_arena *arena;
    struct kl_str error;
    struct local *locals;
    size_t nlocals, cap;
    bool out_of_memory;
};

static struct cel_plan *plan(struct planner *pl, struct cel_expr *e);

static void *get_memory(struct planner *pl, size_t n)
{
    void *p = kl_arena_zalloc(pl->arena, n ? n : 1);
    if (!p)
        pl->out_of_memory = true;
    return p;
}

static struct cel_plan *new_plan(struct planner *pl, enum plan_kind kind)
{
    struct cel_plan *p = get_memory(pl, sizeof *p);
    if (p)
        p->kind = (uint8_t)kind;
    return p;
}

static bool push_local(struct planner *pl, struct kl_str name, uint32_t slot)
{
    if (pl->nlocals == pl->cap) {
        size_t cap = pl->cap ? 2 * pl->cap : 16;
        struct local *more = get_memory(pl, cap * sizeof *more);
        if (!more)
            return false;
        if (pl->nlocals)
            memcpy(more, pl->locals, pl->nlocals * sizeof *more);
        pl->locals = more;
        pl->cap = cap;
    }
    pl->locals[pl->nlocals++] = (struct local){name, slot};
    return true;
}

static struct kl_str keep(struct planner *pl, struct kl_str s)
{
    struct kl_str kept = kl_arena_dup(pl->arena, s);
    if (!kept.p)
        pl->out_of_memory = true;
    return kept.p ? kept : KL_STR("");
}

static struct cel_plan *constant(struct planner *pl, struct kl_cel_val v)
{
    struct cel_plan *p = new_plan(pl, P_CONST);
    if (p && (v.kind == KL_CEL_STRING || v.kind == KL_CEL_BYTES || v.kind == KL_CEL_TYPE)) {
        struct kl_str s = keep(pl, cel_text(v));
        v.s = s.p;
    }
    if (p)
        p->value = v;
    return p;
}

static struct cel_plan *attribute(struct planner *pl, enum attr_kind kind, uint32_t index,
                                  const struct cel_plan *operand)
{
    struct cel_plan *p = new_plan(pl, P_ATTR);
    struct cel_attr *a = get_memory(pl, sizeof *a);
    if (!p || !a)
        return NULL;
    a->kind = (uint8_t)kind;
    a->index = index;
    a->operand = operand;
    p->attr = a;
    return p;
}

static struct cel_plan *plan_name(struct planner *pl, struct cel_expr *e)
{
    if (e->is_type)
        return constant(pl, (struct kl_cel_val){.kind = KL_CEL_TYPE,
                                                .n = (uint32_t)e->type->p[0]->name.n,
                                                .s = e->type->p[0]->name.p});
    if (e->var >= 0) {
        pl->p->uses[e->var / 64] |= UINT64_C(1) << (e->var % 64);
        return attribute(pl, A_VAR, (uint32_t)e->var, NULL);
    }
    for (size_t i = pl->nlocals; i--;)
        if (kl_str_eq(pl->locals[i].name, e->name))
            return attribute(pl, A_LOCAL, pl->locals[i].slot, NULL);
    return attribute(pl, A_LOCAL, 0, NULL); // the checker lets none through
}

static struct cel_plan *as_attribute(struct planner *pl, struct cel_plan *p)
{
    return !p || p->kind == P_ATTR ? p : attribute(pl, A_REL, 0, p);
}

static void add_qualifier(struct planner *pl, struct cel_attr *a, const struct cel_qual *q)
{
    if (a->kind == A_COND) {
        add_qualifier(pl, a->yes, q);
        add_qualifier(pl, a->no, q);
        return;
    }
    if (a->nquals == a->cap) {
        uint32_t cap = a->cap ? 2 * a->cap : 4;
        struct cel_qual *more = get_memory(pl, cap * sizeof *more);
        if (!more)
            return;
        if (a->nquals)
            memcpy(more, a->quals, a->nquals * sizeof *more);
        a->quals = more;
        a->cap = cap;
    }
    a->quals[a->nquals++] = *q;
}

static struct cel_plan *plan_select(struct planner *pl, struct cel_expr *e)
{
    if (e->resolved)
        return plan_name(pl, e);
    struct cel_plan *p = as_attribute(pl, plan(pl, e->target));
    if (!p)
        return NULL;
    struct cel_qual q = {.key = cel_str(keep(pl, e->name)), .test = e->test};
    add_qualifier(pl, p->attr, &q);
    if (!e->test)
        return p;
    struct cel_plan *test = new_plan(pl, P_TEST);
    if (test)
        test->attr = p->attr;
    return test;
}

static struct cel_plan *plan_index(struct planner *pl, struct cel_plan **args, bool optional)
{
    struct cel_plan *p = as_attribute(pl, args[0]);
    struct cel_qual q = {.optional = optional};
    if (!p)
        return NULL;
    if (args[1]->kind == P_CONST) {
        q.key = args[1]->value;
        if (q.key.kind < KL_CEL_BOOL || q.key.kind > KL_CEL_STRING) {
            pl->error =
                kl_arena_printf(pl->arena, "invalid qualifier type: %s", cel_go_type(q.key));
            return NULL;
        }
    } else {
        struct cel_plan *index = as_attribute(pl, args[1]);
        if (!index)
            return NULL;
        q.attr = index->attr;
    }
    add_qualifier(pl, p->attr, &q);
    return p;
}

static struct cel_plan *plan_conditional(struct planner *pl, struct cel_plan **args)
{
    struct cel_plan *yes = as_attribute(pl, args[1]), *no = as_attribute(pl, args[2]);
    struct cel_plan *p = attribute(pl, A_COND, 0, args[0]);
    if (!yes || !no || !p)
        return NULL;
    p->attr->yes = yes->attr;
    p->attr->no = no->attr;
    return p;
}

static bool is_conversion(struct kl_str f)
{
    static const char *const names[] = {"bool", "bytes",  "double",    "duration", "dyn",
                                        "int",  "string", "timestamp", "type",     "uint"};
    for (size_t i = 0; i < KL_COUNT(names); i++)
        if (kl_str_eqz(f, names[i]))
            return true;
    return false;
}

static struct cel_plan *fold_constant(struct planner *pl, struct cel_plan *p)
{
    struct kl_cel_val v = cel_eval_constant(pl->arena, p);
    if (cel_is_error(v)) {
        pl->error = keep(pl, cel_text(v));
        return NULL;
    }
    p->kind = P_CONST;
    p->value = v;
    return p;
}

// x in [constants] is a look-up that costs nothing.
static struct cel_plan *plan_in(struct planner *pl, struct cel_plan *p)
{
    if (!p->overload || strcmp(p->overload->id, "in_list") || p->args[1]->kind != P_CONST ||
        p->args[1]->value.kind != KL_CEL_LIST)
        return p;
    struct kl_cel_val list = p->args[1]->value;
    size_t n = cel_count(list);
    if (!n)
        return constant(pl, kl_cel_bool(false));
    struct cel_growing *set = get_memory(pl, sizeof *set);
    for (size_t i = 0; set && i < n; i++) {
        struct kl_cel_val v = cel_get(pl->arena, list, i);
        if (v.kind < KL_CEL_BOOL || v.kind > KL_CEL_STRING)
            return p;
        if (!cel_put(pl->arena, set, v, kl_cel_bool(true)))
            pl->out_of_memory = true;
    }
    p->kind = P_IN_SET;
    p->set = set;
    return p;
}

static bool compile_pattern(struct planner *pl, struct cel_plan *p)
{
    struct kl_str error;
    if (p->n < 2 || p->args[1]->kind != P_CONST || p->args[1]->value.kind != KL_CEL_STRING)
        return true;
    void *regex = cel_regex_new(cel_text(p->args[1]->value), pl->arena, &error);
    if (!regex) {
        pl->error = error;
        return false;
    }
    void **all = get_memory(pl, (pl->p->nregexes + 1) * sizeof *all);
    if (!all) {
        cel_regex_free(regex);
        return false;
    }
    if (pl->p->nregexes)
        memcpy(all, pl->p->regexes, pl->p->nregexes * sizeof *all);
    all[pl->p->nregexes++] = regex;
    pl->p->regexes = all;
    p->regex = regex;
    p->flags |= CALL_EARLY;
    return true;
}

static struct cel_plan *plan_special(struct planner *pl, struct cel_expr *e, struct cel_plan **args,
                                     struct cel_plan *p)
{
    static const struct {
        const char *function;
        enum plan_kind kind;
    } kinds[] = {{"_||_", P_OR},
                 {"_&&_", P_AND},
                 {"_==_", P_EQ},
                 {"_!=_", P_NE},
                 {"@not_strictly_false", P_NOT_FALSE}};
    if (kl_str_eqz(e->name, "_?_:_"))
        return plan_conditional(pl, args);
    if (kl_str_eqz(e->name, "_[_]"))
        return plan_index(pl, args, false);
    if (kl_str_eqz(e->name, "_[?_]") || kl_str_eqz(e->name, "_?._"))
        return plan_index(pl, args, true);
    for (size_t i = 0; i < KL_COUNT(kinds); i++)
        if (kl_str_eqz(e->name, kinds[i].function)) {
            p->kind = (uint8_t)kinds[i].kind;
            return p;
        }
    if (p->n == 2 && e->target && kl_str_eqz(e->name, "or"))
        p->kind = P_OPT_OR;
    else if (p->n == 2 && e->target && kl_str_eqz(e->name, "orValue"))
        p->kind = P_OPT_OR_VALUE;
    return p->kind == P_CALL ? NULL : p;
}

static struct cel_plan *plan_call(struct planner *pl, struct cel_expr *e)
{
    bool member = e->target != NULL;
    struct cel_plan *p = new_plan(pl, P_CALL);
    struct cel_plan **args = get_memory(pl, (e->n + member) * sizeof *args);
    if (!p || !args)
        return NULL;
    p->n = e->n + member;
    p->args = (const struct cel_plan **)args;
    for (uint32_t i = 0; i < p->n; i++) {
        args[i] = plan(pl, member && !i ? e->target : e->args[i - member]);
        if (!args[i])
            return NULL;
    }
    p->function = keep(pl, e->name.n && e->name.p[0] == '.' ? kl_str_from(e->name, 1) : e->name);
    struct cel_plan *special = plan_special(pl, e, args, p);
    if (special || pl->out_of_memory || pl->error.p)
        return special;
    size_t nrows = 0;
    p->rows = cel_function(p->function, pl->p->env->flags, &nrows);
    p->nrows = (uint16_t)nrows;
    p->overload = e->noverloads == 1 ? e->overloads[0] : NULL;
    const struct overload *first = p->overload ? p->overload : p->rows;
    if (first->flags & (OV_SINGLETON | OV_UNGUARDED))
        p->flags |= CALL_BARE;
    else if (!p->overload)
        p->flags |= CALL_ANY;
    if (p->n > 2 || (p->flags & CALL_ANY))
        p->flags |= CALL_EARLY;
    if (kl_str_eqz(p->function, "@in"))
        return plan_in(pl, p);
    if (is_conversion(p->function) && p->n == 1 && args[0]->kind == P_CONST)
        return fold_constant(pl, p);
    if (kl_str_eqz(p->function, "matches") || kl_str_eqz(p->function, "find") ||
        kl_str_eqz(p->function, "findAll"))
        return compile_pattern(pl, p) ? p : NULL;
    return p;
}

static struct cel_plan *plan_list(struct planner *pl, struct cel_expr *e)
{
    struct cel_plan *p = new_plan(pl, P_LIST);
    struct cel_plan **args = get_memory(pl, e->n * sizeof *args);
    bool constant_all = true;
    if (!p || !args)
        return NULL;
    p->n = e->n;
    p->args = (const struct cel_plan **)args;
    for (uint32_t i = 0; i < e->n; i++) {
        if (!(args[i] = plan(pl, e->args[i])))
            return NULL;
        constant_all &= args[i]->kind == P_CONST;
    }
    if (e->optional) {
        bool *optional = get_memory(pl, e->n);
        if (!optional)
            return NULL;
        memcpy(optional, e->optional, e->n);
        p->optional = optional;
    }
    return constant_all ? fold_constant(pl, p) : p;
}

static struct cel_plan *plan_entries(struct planner *pl, struct cel_expr *e)
{
    bool is_map = e->kind == E_MAP, constant_all = is_map;
    struct cel_plan *p = new_plan(pl, is_map ? P_MAP : P_STRUCT);
    struct cel_plan **args = get_memory(pl, 2 * (size_t)e->n * sizeof *args);
    bool *optional = get_memory(pl, e->n);
    if (!p || !args || !optional)
        return NULL;
    p->n = e->n;
    p->args = (const struct cel_plan **)args;
    p->optional = optional;
    p->function = is_map ? KL_STR("") : keep(pl, e->name);
    if (!is_map && !(p->fields = get_memory(pl, e->n * sizeof *p->fields)))
        return NULL;
    for (uint32_t i = 0; i < e->n; i++) {
        optional[i] = e->entries[i].optional;
        if (is_map)
            args[2 * i] = plan(pl, e->entries[i].key);
        else
            p->fields[i] = keep(pl, e->entries[i].field);
        args[2 * i + 1] = plan(pl, e->entries[i].value);
        if ((is_map && !args[2 * i]) || !args[2 * i + 1])
            return NULL;
        constant_all =
            constant_all && args[2 * i]->kind == P_CONST && args[2 * i + 1]->kind == P_CONST;
    }
    return constant_all ? fold_constant(pl, p) : p;
}

static struct cel_plan *plan_fold(struct planner *pl, struct cel_expr *e)
{
    struct cel_plan *p = new_plan(pl, P_FOLD);
    if (!p)
        return NULL;
    size_t outer = pl->nlocals;
    p->accu = plan(pl, e->accu);
    p->range = p->accu ? plan(pl, e->range) : NULL;
    p->slot = pl->p->nslots; // no two folds share one: an accumulator may be computed late
    p->two = e->iter2.n > 0;
    pl->p->nslots += 3;
    if (!p->range || !push_local(pl, e->accu_var, p->slot) ||
        !push_local(pl, e->iter, p->slot + 1) || (p->two && !push_local(pl, e->iter2, p->slot + 2)))
        return NULL;
    p->cond = plan(pl, e->cond);
    p->step = p->cond ? plan(pl, e->step) : NULL;
    pl->nlocals = outer + 1;
    p->result = p->step ? plan(pl, e->result) : NULL;
    pl->nlocals = outer;
    return p->result ? p : NULL;
}

static struct cel_plan *plan(struct planner *pl, struct cel_expr *e)
{
    switch (e->kind) {
    case E_LIT:
        return constant(pl, e->lit);
    case E_IDENT:
        return plan_name(pl, e);
    case E_SELECT:
        return plan_select(pl, e);
    case E_CALL:
        return plan_call(pl, e);
    case E_LIST:
        return plan_list(pl, e);
    case E_MAP:
    case E_STRUCT:
        return plan_entries(pl, e);
    case E_FOLD:
        return plan_fold(pl, e);
    default:
        return NULL;
    }
}

const struct cel_plan *cel_plan(struct kl_cel_program *p, struct cel_expr *e,
                                struct kl_str *ret_error)
{
    struct planner pl = {.p = p, .arena = &p->arena};
    p->uses = get_memory(&pl, (p->env->nvars / 64 + 1) * sizeof *p->uses);
    struct cel_plan *made = p->uses ? plan(&pl, e) : NULL;
    *ret_error = pl.error;
    return pl.out_of_memory ? NULL : made;
}
