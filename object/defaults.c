// SPDX-License-Identifier: Apache-2.0
// The walk: from the root down to every place that has something to default, along the tables.
#include "object/crd/crd.h"
#include "object/defaults_int.h"
#include "object/json.h"
#include "object/quantity.h"

// ---- places

struct kl_value *kl_default_own(struct kl_default_node *n)
{
    struct kl_value *up, *v = NULL;
    if (n->ctx->err)
        return NULL;
    if (!n->up)
        return n->root;
    up = kl_default_own(n->up);
    if (up && n->up->kind == KL_STRUCT)
        v = kl_edit(n->ctx->arena, up, n->sym, (enum kl_value_kind)n->kind);
    else if (up && n->up->kind == KL_ARRAY)
        v = kl_edit_at(n->ctx->arena, up, n->index);
    else if (up)
        v = kl_edit_map(n->ctx->arena, up, n->key, (enum kl_value_kind)n->kind);
    if (!v)
        n->ctx->err = KL_ENOMEM;
    n->v = v ? v : n->v;
    return v;
}

void kl_default_set(struct kl_default_node *n, kl_sym sym, struct kl_value v)
{
    struct kl_value *own = kl_default_own(n);
    if (own && kl_set(n->ctx->arena, own, sym, v))
        n->ctx->err = KL_ENOMEM;
}

void kl_default_unset(struct kl_default_node *n, kl_sym sym)
{
    struct kl_value *own = kl_default_has(n, sym) ? kl_default_own(n) : NULL;
    if (own && kl_unset(n->ctx->arena, own, sym))
        n->ctx->err = KL_ENOMEM;
}

void kl_default_map_set(struct kl_default_node *map, struct kl_str key, struct kl_value v)
{
    struct kl_value *own = kl_default_own(map);
    if (own && kl_map_set_value(map->ctx->arena, own, key, v))
        map->ctx->err = KL_ENOMEM;
}

void kl_default_fill(struct kl_default_node *n, kl_sym sym, const struct kl_value *from)
{
    struct kl_default_node map = kl_default_in(n, sym, KL_MAP);
    for (KL_MAP_EACH_KEY(key, from))
        if (!kl_map_value(map.v, kl_text(key)))
            kl_default_map_set(&map, kl_text(key), key[1]);
}

// ---- quantities of a ResourceList: at most three decimals

// Whether the text may have more than three decimals. Nearly all have digits and a suffix above m.
static bool may_need_rounding(struct kl_str s)
{
    if (s.n == 0)
        return false;
    char last = s.p[s.n - 1];
    ptrdiff_t dot = kl_str_chr(s, '.');
    if (dot < 0)
        return last == 'n' || last == 'u' || kl_str_chr(s, '-') > 0;
    return last < '0' || last > '9' || s.n - 1 - (size_t)dot > 3 || kl_str_chr(s, 'e') >= 0 ||
           kl_str_chr(s, 'E') >= 0;
}

static void round_resources(struct kl_default_node *map)
{
    enum { MILLI = 1000000 };
    for (size_t i = 0; i < kl_len(map->v); i++) {
        const struct kl_value *key = &map->v->items[2 * i];
        struct kl_quantity q;
        char text[KL_QUANTITY_TEXT];
        if (!may_need_rounding(kl_text(key + 1)) || kl_quantity_parse(kl_text(key + 1), &q, NULL) ||
            q.nano % MILLI == 0)
            continue;
        __int128 milli = q.nano / MILLI + (q.nano > 0 ? 1 : -1);
        q.nano = milli * MILLI;
        struct kl_str s =
            kl_arena_dup(map->ctx->arena, (struct kl_str){text, kl_quantity_text(&q, text)});
        if (!s.p) {
            map->ctx->err = KL_ENOMEM;
            return;
        }
        kl_default_map_set(map, kl_text(key), kl_string(s));
    }
}

// ---- the walk over built-in types

static void visit(struct kl_default_node *n, const struct kl_default_row *row);

static void take_literals(struct kl_default_node *n, const struct kl_default_row *row)
{
    for (uint8_t i = 0; i < row->nliterals; i++) {
        const struct kl_default_literal *lit = &row->literals[i];
        const struct kl_value *have = kl_get(n->v, lit->value.sym);
        bool unset = !have || (!lit->ptr && have->kind == KL_STRING && have->n == 0);
        if (unset)
            kl_default_set(n, lit->value.sym, lit->value);
    }
}

static void take_step(struct kl_default_node *n, const struct kl_walk_step *step)
{
    const struct kl_default_row *row = &kl_default_rows[step->row];
    const struct kl_value *v = kl_get(n->v, step->sym);
    if (!v && !step->absent)
        return;
    if (step->shape == KL_WALK_STRUCT) {
        struct kl_default_node child = kl_default_in(n, step->sym, KL_STRUCT);
        visit(&child, row);
    } else if (step->shape == KL_WALK_ARRAY) {
        struct kl_default_node list = kl_default_in(n, step->sym, KL_ARRAY);
        for (size_t i = 0; i < kl_len(list.v); i++) {
            struct kl_default_node item = kl_default_at(&list, i);
            visit(&item, row);
        }
    } else {
        struct kl_default_node map = kl_default_in(n, step->sym, KL_MAP);
        if (step->shape == KL_WALK_RESOURCES) {
            round_resources(&map);
            return;
        }
        for (size_t i = 0; i < kl_len(map.v); i++) {
            const struct kl_value *key = &map.v->items[2 * i];
            struct kl_default_node value = {
                .ctx = n->ctx, .up = &map, .v = key + 1, .key = kl_text(key), .kind = KL_STRUCT};
            visit(&value, row);
        }
    }
}

static void visit(struct kl_default_node *n, const struct kl_default_row *row)
{
    if (n->v && n->v->kind != KL_STRUCT)
        return; // a null item of a list or map
    if (row->apply)
        row->apply(n);
    take_literals(n, row);
    for (uint8_t i = 0; i < row->nsteps && !n->ctx->err; i++)
        take_step(n, &row->steps[i]);
}

// ---- types made at run time: defaults stand in the schema only

static int default_value(struct kl_arena *a, const struct kl_type *type, struct kl_value *v);

static int default_struct(struct kl_arena *a, const struct kl_type *type, struct kl_value *v)
{
    for (uint16_t i = 0; i < type->nfields; i++) {
        const struct kl_field *f = &type->fields[i];
        if (f->default_json && !kl_get(v, f->sym)) {
            struct kl_value untyped, typed;
            struct kl_error err;
            // a default was checked when its schema was compiled: what does not fit is left out
            if (kl_json_parse(a, kl_str(f->default_json), NULL, &untyped, &err) ||
                kl_typed_from_untyped(a, f->type, &untyped, NULL, &typed, &err))
                continue;
            if (kl_set(a, v, f->sym, typed))
                return KL_ENOMEM;
        }
        const struct kl_value *have = kl_get(v, f->sym);
        if (!have || have->kind < KL_ARRAY)
            continue;
        struct kl_value *child = kl_edit(a, v, f->sym, (enum kl_value_kind)have->kind);
        if (!child || default_value(a, f->type, child))
            return KL_ENOMEM;
    }
    return 0;
}

static int default_value(struct kl_arena *a, const struct kl_type *type, struct kl_value *v)
{
    if (kl_type_is_builtin(type))
        return type->kind == KL_T_STRUCT ? kl_default_object(a, type, v) : 0;
    if (v->kind == KL_STRUCT && type->kind == KL_T_STRUCT)
        return default_struct(a, type, v);
    for (size_t i = 0; type->elem && v->kind == KL_ARRAY && i < v->n; i++) {
        struct kl_value *item = kl_edit_at(a, v, i);
        if (!item || default_value(a, type->elem, item))
            return KL_ENOMEM;
    }
    for (size_t i = 0; type->elem && v->kind == KL_MAP && i < v->n; i++) {
        struct kl_value *value = kl_edit_map(a, v, kl_text(&v->items[2 * i]),
                                             (enum kl_value_kind)v->items[2 * i + 1].kind);
        if (!value || default_value(a, type->elem, value))
            return KL_ENOMEM;
    }
    return 0;
}

int kl_default_object(struct kl_arena *a, const struct kl_type *type, struct kl_value *draft)
{
    if (type->custom)
        return kl_crd_default_draft(a, kl_crd_of_type(type), draft);
    if (!kl_type_is_builtin(type))
        return default_value(a, type, draft);
    size_t index = (size_t)(type - kl_type_table);
    if (index >= KL_TYPE_NAMED_END || !kl_default_row_of[index])
        return 0;
    struct kl_default_ctx ctx = {.arena = a};
    struct kl_default_node root = {.ctx = &ctx, .v = draft, .root = draft, .kind = KL_STRUCT};
    visit(&root, &kl_default_rows[kl_default_row_of[index]]);
    return ctx.err;
}
