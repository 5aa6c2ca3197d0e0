// SPDX-License-Identifier: Apache-2.0
// Making nodes of the syntax tree.
#include "object/cel/ast_int.h"

struct cel_expr *cel_new(struct cel_builder *b, enum expr_kind kind, int32_t offset)
{
    struct cel_expr *e = KL_ARENA_NEW(b->arena, struct cel_expr);
    if (!e) {
        b->issues->out_of_memory = true;
        return NULL;
    }
    e->kind = (uint8_t)kind;
    e->offset = offset;
    e->var = -1;
    return e;
}

struct cel_expr *cel_ident(struct cel_builder *b, struct kl_str name)
{
    struct cel_expr *e = cel_new(b, E_IDENT, b->offset);
    if (e)
        e->name = name;
    return e;
}

struct cel_expr *cel_literal(struct cel_builder *b, struct kl_cel_val v)
{
    struct cel_expr *e = cel_new(b, E_LIT, b->offset);
    if (e)
        e->lit = v;
    return e;
}

static struct cel_expr **keep(struct cel_builder *b, size_t n, struct cel_expr *const *items)
{
    struct cel_expr **kept = kl_arena_alloc(b->arena, (n + 1) * sizeof *kept);
    if (!kept)
        b->issues->out_of_memory = true;
    else if (n)
        memcpy(kept, items, n * sizeof *kept);
    return kept;
}

struct cel_expr *cel_call(struct cel_builder *b, const char *function, struct cel_expr *target,
                          size_t n, struct cel_expr *const *args)
{
    struct cel_expr *e = cel_new(b, E_CALL, b->offset);
    if (!e)
        return NULL;
    e->name = kl_str(function);
    e->target = target;
    e->n = (uint32_t)n;
    e->args = keep(b, n, args);
    return e->args ? e : NULL;
}

struct cel_expr *cel_list(struct cel_builder *b, size_t n, struct cel_expr *const *items)
{
    struct cel_expr *e = cel_new(b, E_LIST, b->offset);
    if (!e)
        return NULL;
    e->n = (uint32_t)n;
    e->args = keep(b, n, items);
    return e->args ? e : NULL;
}

static struct cel_expr **copy_all(struct cel_builder *b, struct cel_expr *const *items, size_t n)
{
    struct cel_expr **copies = kl_arena_alloc(b->arena, (n + 1) * sizeof *copies);
    for (size_t i = 0; copies && i < n; i++)
        if (!(copies[i] = cel_copy(b, items[i])))
            return NULL;
    return copies;
}

static struct cel_entry *copy_entries(struct cel_builder *b, const struct cel_expr *e)
{
    struct cel_entry *entries = kl_arena_alloc(b->arena, (e->n + 1) * sizeof *entries);
    for (uint32_t i = 0; entries && i < e->n; i++) {
        entries[i] = e->entries[i];
        entries[i].key = cel_copy(b, e->entries[i].key);
        entries[i].value = cel_copy(b, e->entries[i].value);
    }
    return entries;
}

struct cel_expr *cel_copy(struct cel_builder *b, const struct cel_expr *e)
{
    struct cel_expr *c = e ? cel_new(b, (enum expr_kind)e->kind, e->offset) : NULL;
    if (!c)
        return NULL;
    *c = *e;
    switch (e->kind) {
    case E_SELECT:
        c->target = cel_copy(b, e->target);
        break;
    case E_CALL:
    case E_LIST:
        c->target = cel_copy(b, e->target);
        c->args = copy_all(b, e->args, e->n);
        return c->args ? c : NULL;
    case E_MAP:
    case E_STRUCT:
        c->entries = copy_entries(b, e);
        return c->entries ? c : NULL;
    case E_FOLD:
        c->range = cel_copy(b, e->range);
        c->accu = cel_copy(b, e->accu);
        c->cond = cel_copy(b, e->cond);
        c->step = cel_copy(b, e->step);
        c->result = cel_copy(b, e->result);
        break;
    default:
        break;
    }
    return c;
}
