// SPDX-License-Identifier: Apache-2.0
// The type checker: cel-go's checker.go, with its order of checks, since messages name variables
// by number.
#include "object/cel/env_int.h"
#include "base/buf.h"

struct scope {
    struct kl_str name;
    const struct cel_type *type;
};
struct checker {
    struct kl_cel_env *env;
    struct kl_arena *arena;
    struct cel_issues *issues;
    struct cel_mapping map;
    struct scope *locals; // innermost last
    size_t nlocals, cap;
};

#define SHOW(c, t) KL_PRI(cel_type_text((c)->arena, (t), false))

static void check(struct checker *c, struct cel_expr *e);

struct kl_str cel_strip_dot(struct kl_str name)
{
    return name.n && name.p[0] == '.' ? kl_str_from(name, 1) : name;
}

static void mismatch(struct checker *c, const struct cel_expr *at, const struct cel_type *expected,
                     const struct cel_type *actual)
{
    cel_issue_at(c->issues, at->offset, "expected type '%.*s' but found '%.*s'", SHOW(c, expected),
                 SHOW(c, actual));
}

static void undeclared(struct checker *c, struct cel_expr *e, struct kl_str name)
{
    cel_issue_at(c->issues, e->offset, "undeclared reference to '%.*s' (in container '')",
                 KL_PRI(name));
    e->type = CEL_TYPE(T_ERROR);
}

static const struct cel_type *substituted(struct checker *c, const struct cel_type *t)
{
    return cel_substitute(&c->map, t, false);
}

static bool push_local(struct checker *c, struct kl_str name, const struct cel_type *type)
{
    if (c->nlocals == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 16;
        struct scope *more = kl_arena_alloc(c->arena, cap * sizeof *more);
        if (!more) {
            c->issues->out_of_memory = true;
            return false;
        }
        if (c->nlocals)
            memcpy(more, c->locals, c->nlocals * sizeof *more);
        c->locals = more;
        c->cap = cap;
    }
    c->locals[c->nlocals++] = (struct scope){name, type};
    return true;
}

// Finds a name: a local, a variable, the name of a type.
static bool lookup(struct checker *c, struct cel_expr *e, struct kl_str name)
{
    name = cel_strip_dot(name);
    for (size_t i = c->nlocals; i--;)
        if (kl_str_eq(c->locals[i].name, name)) {
            e->type = c->locals[i].type;
            e->name = name;
            return true;
        }
    for (uint32_t i = 0; i < c->env->nvars; i++)
        if (kl_str_eq(c->env->vars[i].name, name)) {
            e->type = c->env->vars[i].decl->type;
            e->var = (int32_t)i;
            e->name = name;
            return true;
        }
    const struct cel_type *t = cel_type_ident(c->arena, c->env->flags, name);
    if (!t)
        return false;
    e->type = cel_type_of_type(c->arena, t);
    e->is_type = true;
    e->name = name;
    return true;
}

static bool qualified(struct kl_buf *out, const struct cel_expr *e)
{
    if (e->kind == E_IDENT) {
        kl_buf_puts(out, e->name);
        return true;
    }
    if (e->kind != E_SELECT || e->test || e->resolved || !qualified(out, e->target))
        return false;
    kl_buf_putc(out, '.');
    kl_buf_puts(out, e->name);
    return true;
}

// "a.b.c" of nested selections, or p NULL.
static struct kl_str qualified_name(struct checker *c, const struct cel_expr *e)
{
    struct kl_buf out;
    struct kl_str name = {NULL, 0};
    kl_buf_init(&out, 1 << 20);
    if (qualified(&out, e) && !out.err)
        name = kl_arena_dup(c->arena, kl_buf_str(&out));
    kl_buf_fini(&out);
    return name;
}

static const struct cel_type *unwrap_optional(const struct cel_type *t, bool *ret_is)
{
    *ret_is = cel_type_is_optional(t);
    return *ret_is ? t->p[0] : t;
}

static const struct cel_type *select_field(struct checker *c, const struct cel_expr *e,
                                           struct cel_expr *operand, struct kl_str field,
                                           bool optional)
{
    bool is_opt;
    check(c, operand);
    const struct cel_type *t = unwrap_optional(substituted(c, operand->type), &is_opt);
    const struct cel_type *result = CEL_TYPE(T_ERROR);
    const struct decl_field *f;
    switch (t->kind) {
    case T_MAP:
        result = t->p[1];
        break;
    case T_STRUCT:
        f = t->decl ? cel_decl_field(t->decl, field) : NULL;
        if (f)
            result = f->decl->type;
        else if (t->decl && (t->decl->flags & DF_ANY_FIELD))
            result = CEL_TYPE(T_DYN);
        else if (!t->decl)
            cel_issue_at(c->issues, e->offset, "unexpected failed resolution of '%.*s'",
                         KL_PRI(t->name));
        else
            cel_issue_at(c->issues, e->offset, "undefined field '%.*s'", KL_PRI(field));
        break;
    case T_PARAM:
        cel_assignable(&c->map, CEL_TYPE(T_DYN), t);
        result = CEL_TYPE(T_DYN);
        break;
    default:
        if (!cel_is_dyn(t) && t->kind != T_ERROR)
            cel_issue_at(c->issues, e->offset, "type '%.*s' does not support field selection",
                         SHOW(c, t));
        result = CEL_TYPE(T_DYN);
        break;
    }
    if (!is_opt && !optional)
        return result;
    result = cel_type_optional(c->arena, result);
    return result ? result : CEL_TYPE(T_ERROR);
}

static void check_select(struct checker *c, struct cel_expr *e)
{
    struct kl_str name = e->test ? (struct kl_str){NULL, 0} : qualified_name(c, e);
    if (name.p && lookup(c, e, name)) {
        e->resolved = true;
        return;
    }
    const struct cel_type *t = select_field(c, e, e->target, e->name, false);
    e->type = substituted(c, e->test ? CEL_TYPE(T_BOOL) : t);
}

struct kl_str cel_show_args(struct kl_arena *a, size_t n, const struct cel_type *const *types,
                            bool member)
{
    struct kl_buf out;
    kl_buf_init(&out, 1 << 20);
    if (member)
        kl_buf_puts(&out, cel_type_text(a, types[0], false));
    kl_buf_puts(&out, member ? KL_STR(".(") : KL_STR("("));
    for (size_t i = member; i < n; i++) {
        kl_buf_puts(&out, i > member ? KL_STR(", ") : KL_STR(""));
        kl_buf_puts(&out, cel_type_text(a, types[i], false));
    }
    kl_buf_putc(&out, ')');
    struct kl_str text = kl_arena_dup(a, kl_buf_str(&out));
    kl_buf_fini(&out);
    return text.p ? text : KL_STR("");
}

static void check_logic(struct checker *c, struct cel_expr *e)
{
    e->type = CEL_TYPE(T_BOOL);
    for (uint32_t i = 0; i < e->n; i++)
        if (!cel_assignable(&c->map, e->args[i]->type, CEL_TYPE(T_BOOL))) {
            mismatch(c, e->args[i], CEL_TYPE(T_BOOL), e->args[i]->type);
            e->type = CEL_TYPE(T_ERROR);
        }
}

static void resolve(struct checker *c, struct cel_expr *e, const struct overload *rows,
                    size_t nrows)
{
    bool member = e->target != NULL;
    size_t n = e->n + member, nfound = 0;
    const struct cel_type **types = kl_arena_alloc(c->arena, (n + 1) * sizeof *types);
    const struct overload **found = kl_arena_alloc(c->arena, (nrows + 1) * sizeof *found);
    const struct cel_type *result = NULL;
    if (!types || !found) {
        c->issues->out_of_memory = true;
        return;
    }
    for (size_t i = 0; i < n; i++)
        types[i] = member && !i ? e->target->type : e->args[i - member]->type;
    for (size_t k = 0; k < nrows; k++) {
        struct signature sig;
        if (((rows[k].flags & OV_MEMBER) != 0) != member)
            continue;
        if (!strcmp(rows[k].function, "_&&_") || !strcmp(rows[k].function, "_||_")) {
            check_logic(c, e);
            found[nfound++] = &rows[k];
            break;
        }
        if (!cel_signature(c->arena, &rows[k], &c->map, &sig)) {
            c->issues->out_of_memory = true;
            return;
        }
        if (sig.n != n || !cel_assignable_list(&c->map, n, types, sig.args))
            continue;
        found[nfound++] = &rows[k];
        const struct cel_type *t = substituted(c, sig.result);
        if (!result)
            result = t;
        else if (!cel_is_dyn(result) && !cel_type_same(t, result, true))
            result = CEL_TYPE(T_DYN);
    }
    e->overloads = found;
    e->noverloads = (uint16_t)nfound;
    if (e->type) // && and ||
        return;
    e->type = result ? result : CEL_TYPE(T_ERROR);
    if (result)
        return;
    for (size_t i = 0; i < n; i++)
        types[i] = cel_substitute(&c->map, types[i], true);
    cel_issue_at(c->issues, e->offset, "found no matching overload for '%s' applied to '%.*s'",
                 rows->function, KL_PRI(cel_show_args(c->arena, n, types, member)));
}

static void check_optional_select(struct checker *c, struct cel_expr *e)
{
    const struct cel_type *t = select_field(
        c, e, e->args[0], e->args[1]->lit.s ? cel_text(e->args[1]->lit) : KL_STR(""), true);
    static const struct overload row = {"_?._", "select_optional_field", "", NULL, 0, 0};
    static const struct overload *const rows[] = {&row};
    e->args[1]->type = CEL_TYPE(T_STRING);
    e->type = substituted(c, t);
    e->overloads = rows;
    e->noverloads = 1;
}

static void check_call(struct checker *c, struct cel_expr *e)
{
    const struct overload *rows = NULL;
    size_t n = 0;
    if (kl_str_eqz(e->name, "_?._")) {
        check_optional_select(c, e);
        return;
    }
    for (uint32_t i = 0; i < e->n; i++)
        check(c, e->args[i]);
    if (!e->target) {
        rows = cel_function(cel_strip_dot(e->name), c->env->flags, &n);
        if (rows)
            resolve(c, e, rows, n);
        else
            undeclared(c, e, e->name);
        return;
    }
    struct kl_str name = qualified_name(c, e->target);
    if (name.p) {
        name = kl_arena_printf(c->arena, "%.*s.%.*s", KL_PRI(cel_strip_dot(name)), KL_PRI(e->name));
        rows = name.p ? cel_function(name, c->env->flags, &n) : NULL;
    }
    if (rows) {
        e->target = NULL;
        e->name = name;
        resolve(c, e, rows, n);
        return;
    }
    check(c, e->target);
    rows = cel_function(e->name, c->env->flags, &n);
    if (rows)
        resolve(c, e, rows, n);
    else
        undeclared(c, e, e->name);
}

static const struct cel_type *join(struct checker *c, const struct cel_type *before,
                                   const struct cel_type *t)
{
    if (!before)
        return t;
    return cel_assignable(&c->map, before, t) ? cel_most_general(before, t) : CEL_TYPE(T_DYN);
}

static const struct cel_type *optional_value(struct checker *c, const struct cel_expr *e,
                                             const struct cel_type *t)
{
    bool is_opt;
    t = unwrap_optional(t, &is_opt);
    if (!is_opt && !cel_is_dyn(t)) {
        const struct cel_type *wanted = cel_type_optional(c->arena, t);
        if (wanted)
            mismatch(c, e, wanted, t);
    }
    return t;
}

static void check_list(struct checker *c, struct cel_expr *e)
{
    const struct cel_type *elems = NULL;
    for (uint32_t i = 0; i < e->n; i++) {
        check(c, e->args[i]);
        const struct cel_type *t = e->args[i]->type;
        if (e->optional && e->optional[i])
            t = optional_value(c, e->args[i], t);
        elems = join(c, elems, t);
    }
    e->type = cel_type_list(c->arena, elems ? elems : cel_new_var(&c->map));
}

static void check_map(struct checker *c, struct cel_expr *e)
{
    const struct cel_type *keys = NULL, *values = NULL;
    for (uint32_t i = 0; i < e->n; i++) {
        struct cel_entry *entry = &e->entries[i];
        check(c, entry->key);
        keys = join(c, keys, entry->key->type);
        check(c, entry->value);
        const struct cel_type *t = entry->value->type;
        if (entry->optional)
            t = optional_value(c, entry->value, t);
        values = join(c, values, t);
    }
    if (!keys) {
        keys = cel_new_var(&c->map);
        values = cel_new_var(&c->map);
    }
    e->type = cel_type_map(c->arena, keys, values);
}

static void check_struct(struct checker *c, struct cel_expr *e)
{
    struct kl_str written = e->name;
    const struct cel_type *t = CEL_TYPE(T_ERROR);
    if (!lookup(c, e, written)) {
        undeclared(c, e, written);
        return;
    }
    if (e->type->kind != T_ERROR && e->type->kind != T_TYPE)
        cel_issue_at(c->issues, e->offset, "'%.*s' is not a type", KL_PRI(e->type->name));
    else if (e->type->kind == T_TYPE && e->type->p[0]->kind != T_STRUCT)
        cel_issue_at(c->issues, e->offset, "'%.*s' is not a message type",
                     KL_PRI(e->type->p[0]->name));
    else if (e->type->kind == T_TYPE)
        t = e->type->p[0];
    e->type = t;
    for (uint32_t i = 0; i < e->n; i++) {
        struct cel_entry *f = &e->entries[i];
        check(c, f->value);
        const struct cel_type *value = f->value->type, *field = CEL_TYPE(T_ERROR);
        if (t->kind != T_STRUCT)
            cel_issue_at(c->issues, f->offset, "unexpected failed resolution of '%.*s'",
                         KL_PRI(e->name));
        if (t->kind == T_STRUCT && t->decl) {
            const struct decl_field *known = cel_decl_field(t->decl, f->field);
            field = known ? known->decl->type : CEL_TYPE(T_DYN);
        }
        if (f->optional)
            value = optional_value(c, f->value, value);
        if (!cel_assignable(&c->map, field, value))
            cel_issue_at(c->issues, f->offset,
                         "expected type of field '%.*s' is '%.*s' but provided type is '%.*s'",
                         KL_PRI(f->field), SHOW(c, field), SHOW(c, value));
    }
}

static void expect(struct checker *c, const struct cel_expr *e, const struct cel_type *t)
{
    if (!cel_assignable(&c->map, t, e->type))
        mismatch(c, e, t, e->type);
}

static void check_fold(struct checker *c, struct cel_expr *e)
{
    const struct cel_type *var = CEL_TYPE(T_ERROR), *var2 = CEL_TYPE(T_ERROR);
    check(c, e->range);
    check(c, e->accu);
    const struct cel_type *range = substituted(c, e->range->type), *accu = e->accu->type;
    size_t outer = c->nlocals;
    switch (range->kind) {
    case T_LIST:
        var = e->iter2.n ? CEL_TYPE(T_INT) : range->p[0];
        var2 = range->p[0];
        break;
    case T_MAP:
        var = range->p[0];
        var2 = range->p[1];
        break;
    case T_DYN:
    case T_ERROR:
    case T_PARAM:
        cel_assignable(&c->map, CEL_TYPE(T_DYN), range);
        var = var2 = CEL_TYPE(T_DYN);
        break;
    default:
        cel_issue_at(c->issues, e->range->offset,
                     "expression of type '%.*s' cannot be range of a comprehension (must be list, "
                     "map, or dynamic)",
                     SHOW(c, range));
        break;
    }
    if (!push_local(c, e->accu_var, accu) || !push_local(c, e->iter, var) ||
        (e->iter2.n && !push_local(c, e->iter2, var2)))
        return;
    check(c, e->cond);
    expect(c, e->cond, CEL_TYPE(T_BOOL));
    check(c, e->step);
    expect(c, e->step, accu);
    c->nlocals = outer + 1;
    check(c, e->result);
    c->nlocals = outer;
    e->type = substituted(c, e->result->type);
}

static const struct cel_type *literal_type(struct kl_cel_val v)
{
    static const uint8_t kinds[] = {
        [KL_CEL_NULL] = T_NULL,   [KL_CEL_BOOL] = T_BOOL,     [KL_CEL_INT] = T_INT,
        [KL_CEL_UINT] = T_UINT,   [KL_CEL_DOUBLE] = T_DOUBLE, [KL_CEL_STRING] = T_STRING,
        [KL_CEL_BYTES] = T_BYTES,
    };
    return CEL_TYPE(kinds[v.kind]);
}

static void check(struct checker *c, struct cel_expr *e)
{
    switch (e->kind) {
    case E_LIT:
        e->type = literal_type(e->lit);
        break;
    case E_IDENT:
        if (!lookup(c, e, e->name))
            undeclared(c, e, e->name);
        break;
    case E_SELECT:
        check_select(c, e);
        break;
    case E_CALL:
        check_call(c, e);
        break;
    case E_LIST:
        check_list(c, e);
        break;
    case E_MAP:
        check_map(c, e);
        break;
    case E_STRUCT:
        check_struct(c, e);
        break;
    case E_FOLD:
        check_fold(c, e);
        break;
    default:
        break;
    }
    if (!e->type) {
        c->issues->out_of_memory |= e->kind != E_CALL || c->map.out_of_memory;
        e->type = CEL_TYPE(T_ERROR);
    }
}

// Variables that are left become dyn.
static void settle(struct checker *c, struct cel_expr *e)
{
    if (!e || !e->type)
        return;
    e->type = cel_substitute(&c->map, e->type, true);
    switch (e->kind) {
    case E_SELECT:
        if (!e->resolved)
            settle(c, e->target);
        break;
    case E_CALL:
        settle(c, e->target);
        // fall through
    case E_LIST:
        for (uint32_t i = 0; i < e->n; i++)
            settle(c, e->args[i]);
        break;
    case E_MAP:
    case E_STRUCT:
        for (uint32_t i = 0; i < e->n; i++) {
            settle(c, e->entries[i].key);
            settle(c, e->entries[i].value);
        }
        break;
    case E_FOLD:
        settle(c, e->range);
        settle(c, e->accu);
        settle(c, e->cond);
        settle(c, e->step);
        settle(c, e->result);
        break;
    default:
        break;
    }
}

const struct cel_type *cel_check(struct kl_cel_env *env, struct kl_arena *a, struct cel_expr *e,
                                 struct cel_issues *issues)
{
    struct checker c = {.env = env, .arena = a, .issues = issues, .map = {.arena = a}};
    check(&c, e);
    settle(&c, e);
    issues->out_of_memory |= c.map.out_of_memory;
    return issues->total || issues->out_of_memory ? NULL : e->type;
}
