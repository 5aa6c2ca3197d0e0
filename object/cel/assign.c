// SPDX-License-Identifier: Apache-2.0
// Whether one type can stand for another, with type variables bound on the way.
#include "object/cel/type_int.h"

static const struct cel_type *bound(const struct cel_mapping *m, const struct cel_type *t)
{
    return t->kind == T_PARAM && t->var && t->var <= m->nvars ? m->to[t->var - 1] : NULL;
}

const struct cel_type *cel_new_var(struct cel_mapping *m)
{
    if (m->nvars == m->cap) {
        uint32_t cap = m->cap ? 2 * m->cap : 32;
        const struct cel_type **to = kl_arena_alloc(m->arena, cap * sizeof *to);
        if (!to) {
            m->out_of_memory = true;
            return CEL_TYPE(T_DYN);
        }
        if (m->nvars)
            memcpy(to, m->to, m->nvars * sizeof *to);
        m->to = to;
        m->cap = cap;
    }
    struct kl_str name = kl_arena_printf(m->arena, "_var%u", m->nvars);
    struct cel_type *t = KL_ARENA_NEW(m->arena, struct cel_type);
    if (!t || !name.p) {
        m->out_of_memory = true;
        return CEL_TYPE(T_DYN);
    }
    m->to[m->nvars++] = NULL;
    *t = (struct cel_type){.kind = T_PARAM, .var = m->nvars, .name = name};
    return t;
}

static void bind(struct cel_mapping *m, const struct cel_type *var, const struct cel_type *to)
{
    if (m->nlog == m->log_cap) {
        uint32_t cap = m->log_cap ? 2 * m->log_cap : 32;
        struct cel_undo *log = kl_arena_alloc(m->arena, cap * sizeof *log);
        if (!log) {
            m->out_of_memory = true;
            return;
        }
        if (m->nlog)
            memcpy(log, m->log, m->nlog * sizeof *log);
        m->log = log;
        m->log_cap = cap;
    }
    m->log[m->nlog++] = (struct cel_undo){var->var - 1, m->to[var->var - 1]};
    m->to[var->var - 1] = to;
}

static void undo(struct cel_mapping *m, uint32_t to)
{
    while (m->nlog > to) {
        m->nlog--;
        m->to[m->log[m->nlog].var] = m->log[m->nlog].before;
    }
}

static bool is_less_specific(const struct cel_type *a, const struct cel_type *b)
{
    if (cel_is_dyn(a) || a->kind == T_PARAM)
        return true;
    if (cel_is_dyn(b) || b->kind == T_PARAM || a->kind != b->kind)
        return false;
    if (a->kind == T_TYPE)
        return true;
    if (a->kind != T_OPAQUE && a->kind != T_LIST && a->kind != T_MAP)
        return cel_type_same(a, b, true);
    if (!kl_str_eq(a->name, b->name) || a->n != b->n)
        return false;
    for (int i = 0; i < a->n; i++)
        if (!is_less_specific(a->p[i], b->p[i]))
            return false;
    return true;
}

const struct cel_type *cel_most_general(const struct cel_type *a, const struct cel_type *b)
{
    return is_less_specific(a, b) ? a : b;
}

// A variable must not come to stand for a type that has it inside.
static bool is_not_in(const struct cel_mapping *m, const struct cel_type *var,
                      const struct cel_type *t)
{
    if (cel_type_same(var, t, true))
        return false;
    if (t->kind == T_PARAM) {
        const struct cel_type *to = bound(m, t);
        return !to || is_not_in(m, var, to);
    }
    for (int i = 0; i < t->n; i++)
        if (!is_not_in(m, var, t->p[i]))
            return false;
    return true;
}

static bool assign(struct cel_mapping *m, const struct cel_type *t1, const struct cel_type *t2);

static bool substitutes(struct cel_mapping *m, const struct cel_type *t, const struct cel_type *var,
                        bool *ret_bound)
{
    *ret_bound = true;
    if (t->kind == var->kind && cel_type_same(t, var, true))
        return true;
    const struct cel_type *to = bound(m, var);
    if (to) {
        if (t->kind == to->kind && cel_type_same(t, to, true))
            return true;
        if (!assign(m, t, to))
            return false;
        const struct cel_type *general = cel_most_general(t, to);
        if (var->var && is_not_in(m, var, general))
            bind(m, var, general);
        return true;
    }
    *ret_bound = false;
    if (!var->var || !is_not_in(m, var, t))
        return false;
    bind(m, var, t);
    return true;
}

static bool is_nullable(const struct cel_type *t)
{
    return t->kind == T_OPAQUE || t->kind == T_STRUCT || t->kind == T_ANY ||
           t->kind == T_DURATION || t->kind == T_TIMESTAMP || t->kind == T_NULL;
}

static bool assign(struct cel_mapping *m, const struct cel_type *t1, const struct cel_type *t2)
{
    bool had = false;
    if (t2->kind == T_PARAM) {
        if (substitutes(m, t1, t2, &had))
            return true;
        if (had)
            return false;
    }
    if (t1->kind == T_PARAM)
        return substitutes(m, t2, t1, &had);
    if (cel_is_dyn(t1) || cel_is_dyn(t2) || t1->kind == T_ERROR || t2->kind == T_ERROR)
        return true;
    if (t1->kind == T_NULL)
        return is_nullable(t2);
    if (t2->kind == T_NULL)
        return is_nullable(t1);
    if (t1->kind != t2->kind)
        return false;
    if (t1->kind == T_TYPE)
        return true;
    if (!kl_str_eq(t1->name, t2->name) || t1->n != t2->n)
        return false;
    for (int i = 0; i < t1->n; i++)
        if (!assign(m, t1->p[i], t2->p[i]))
            return false;
    return true;
}

bool cel_assignable(struct cel_mapping *m, const struct cel_type *t1, const struct cel_type *t2)
{
    return cel_assignable_list(m, 1, &t1, &t2);
}

bool cel_assignable_list(struct cel_mapping *m, size_t n, const struct cel_type *const *t1,
                         const struct cel_type *const *t2)
{
    uint32_t before = m->nlog;
    for (size_t i = 0; i < n; i++)
        if (!assign(m, t1[i], t2[i])) {
            undo(m, before);
            return false;
        }
    return true;
}

const struct cel_type *cel_substitute(struct cel_mapping *m, const struct cel_type *t,
                                      bool vars_to_dyn)
{
    const struct cel_type *to = bound(m, t), *p[2];
    if (to)
        return cel_substitute(m, to, vars_to_dyn);
    if (t->kind == T_PARAM)
        return vars_to_dyn ? CEL_TYPE(T_DYN) : t;
    if (!t->n)
        return t;
    bool same = true;
    for (int i = 0; i < t->n; i++) {
        p[i] = cel_substitute(m, t->p[i], vars_to_dyn);
        same &= p[i] == t->p[i];
    }
    if (same)
        return t;
    struct cel_type *made = KL_ARENA_NEW(m->arena, struct cel_type);
    if (!made) {
        m->out_of_memory = true;
        return t;
    }
    *made = *t;
    for (int i = 0; i < t->n; i++)
        made->p[i] = p[i];
    return made;
}
