// SPDX-License-Identifier: Apache-2.0
// Checks of a typed tree that Kubernetes adds: literals of durations, timestamps and patterns,
// literals of one type only, formats and their arguments.
#include "object/cel/env_int.h"
#include "object/cel/re2_int.h"

struct walk {
    struct kl_arena *arena;
    struct cel_issues *issues;
    int in_format; // arguments of format() may be mixed
};

static void check_literal(struct walk *w, const struct cel_expr *call)
{
    bool is_duration = kl_str_eqz(call->name, "duration");
    bool is_timestamp = kl_str_eqz(call->name, "timestamp");
    const struct cel_expr *arg = call->n ? call->args[0] : NULL;
    if (!arg || arg->kind != E_LIT)
        return;
    if (is_duration || is_timestamp) {
        struct kl_cel_val v =
            cel_convert(w->arena, arg->lit, is_duration ? T_DURATION : T_TIMESTAMP);
        if (cel_is_error(v))
            cel_issue_at(w->issues, arg->offset, "invalid %.*s argument", KL_PRI(call->name));
    } else if (kl_str_eqz(call->name, "matches") && arg->lit.kind == KL_CEL_STRING) {
        struct kl_str error;
        void *regex = cel_regex_new(cel_text(arg->lit), w->arena, &error);
        if (!regex)
            cel_issue_at(w->issues, arg->offset, "invalid matches argument");
        cel_regex_free(regex);
    }
}

static bool mismatch(struct walk *w, const struct cel_expr *at, const struct cel_type *first,
                     const struct cel_type *t)
{
    if (cel_type_same(first, t, false))
        return false;
    cel_issue_at(w->issues, at->offset, "expected type '%.*s' but found '%.*s'",
                 KL_PRI(cel_type_text(w->arena, first, false)),
                 KL_PRI(cel_type_text(w->arena, t, false)));
    return true;
}

static const struct cel_type *inside(const struct cel_type *t, bool optional)
{
    return optional && t->n ? t->p[0] : t;
}

static void check_same(struct walk *w, const struct cel_expr *e)
{
    const struct cel_type *first = NULL, *key = NULL;
    if (w->in_format)
        return;
    for (uint32_t i = 0; i < e->n; i++) {
        if (e->kind == E_LIST) {
            const struct cel_type *t = inside(e->args[i]->type, e->optional && e->optional[i]);
            first = first ? first : t;
            if (mismatch(w, e->args[i], first, t))
                return;
            continue;
        }
        const struct cel_entry *entry = &e->entries[i];
        const struct cel_type *t = inside(entry->value->type, entry->optional);
        first = first ? first : t;
        key = key ? key : entry->key->type;
        mismatch(w, entry->key, key, entry->key->type);
        mismatch(w, entry->value, first, t);
    }
}

static void visit(struct walk *w, struct cel_expr *e)
{
    if (!e)
        return;
    bool formats = e->kind == E_CALL && kl_str_eqz(e->name, "format");
    w->in_format += formats;
    switch (e->kind) {
    case E_SELECT:
        if (!e->resolved)
            visit(w, e->target);
        break;
    case E_CALL:
        visit(w, e->target);
        for (uint32_t i = 0; i < e->n; i++)
            visit(w, e->args[i]);
        break;
    case E_LIST:
        for (uint32_t i = 0; i < e->n; i++)
            visit(w, e->args[i]);
        check_same(w, e);
        break;
    case E_MAP:
    case E_STRUCT:
        for (uint32_t i = 0; i < e->n; i++) {
            visit(w, e->entries[i].key);
            visit(w, e->entries[i].value);
        }
        if (e->kind == E_MAP)
            check_same(w, e);
        break;
    case E_FOLD:
        visit(w, e->range);
        visit(w, e->accu);
        visit(w, e->cond);
        visit(w, e->step);
        visit(w, e->result);
        break;
    default:
        break;
    }
    w->in_format -= formats;
    if (e->kind == E_CALL)
        check_literal(w, e);
    if (formats && e->target && e->target->kind == E_LIT && e->target->lit.kind == KL_CEL_STRING &&
        e->n == 1 && e->args[0]->kind == E_LIST)
        cel_validate_format(w->arena, e, w->issues);
}

void cel_validate(struct kl_arena *a, struct cel_expr *e, struct cel_issues *issues)
{
    struct walk w = {.arena = a, .issues = issues};
    visit(&w, e);
}
