// SPDX-License-Identifier: Apache-2.0
// Environments: the variables that expressions may name, and the names of types.
#include "object/cel/env_int.h"
#include <stdlib.h>

enum { ENV_BYTES = 64 << 20 };

struct kl_cel_env *kl_cel_env_new(unsigned flags)
{
    struct kl_cel_env *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    atomic_init(&e->refs, 1);
    e->flags = flags;
    kl_arena_init(&e->arena, ENV_BYTES);
    return e;
}

struct kl_cel_env *kl_cel_env_ref(struct kl_cel_env *e)
{
    if (e)
        atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
    return e;
}

void kl_cel_env_unref(struct kl_cel_env *e)
{
    if (!e || atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) != 1)
        return;
    kl_arena_fini(&e->arena);
    free(e);
}

int kl_cel_env_var(struct kl_cel_env *e, struct kl_str name, const struct kl_cel_decl *d)
{
    for (uint32_t i = 0; i < e->nvars; i++)
        if (kl_str_eq(e->vars[i].name, name))
            return KL_EEXISTS;
    if (e->nvars == e->cap) {
        uint32_t cap = e->cap ? 2 * e->cap : 8;
        struct cel_env_var *vars = kl_arena_alloc(&e->arena, cap * sizeof *vars);
        if (!vars)
            return KL_ENOMEM;
        if (e->nvars)
            memcpy(vars, e->vars, e->nvars * sizeof *vars);
        e->vars = vars;
        e->cap = cap;
    }
    struct kl_str kept = kl_arena_dup(&e->arena, name);
    if (!kept.p || !d)
        return KL_ENOMEM;
    e->vars[e->nvars] = (struct cel_env_var){kept, d};
    return (int)e->nvars++;
}

// Object and JSONPatch of mutating policies: fields are not known or few.
static const struct cel_type *patch_type(struct kl_arena *a, struct kl_str name)
{
    static const struct kl_cel_decl text = {.type = &cel_types[T_STRING]};
    static const struct kl_cel_decl any = {.type = &cel_types[T_DYN]};
    struct cel_type *t = KL_ARENA_NEW(a, struct cel_type);
    struct kl_cel_decl *d = KL_ARENA_NEW(a, struct kl_cel_decl);
    struct decl_field *fields = kl_arena_alloc(a, 4 * sizeof *fields);
    struct kl_str kept = kl_arena_dup(a, name);
    if (!t || !d || !fields || !kept.p)
        return NULL;
    *t = (struct cel_type){.kind = T_STRUCT, .name = kept, .decl = d};
    d->type = t;
    d->shape = D_OBJECT;
    d->flags = DF_ANY_FIELD;
    if (kl_str_eqz(name, "JSONPatch")) {
        static const char *const names[] = {"from", "op", "path", "value"};
        for (int i = 0; i < 4; i++)
            fields[i] =
                (struct decl_field){kl_str(names[i]), kl_str(names[i]), i == 3 ? &any : &text};
        d->fields = fields;
        d->nfields = 4;
    }
    return t;
}

const struct cel_type *cel_type_ident(struct kl_arena *a, unsigned env_flags, struct kl_str name)
{
    static const uint8_t simple[] = {T_BOOL, T_BYTES,  T_DOUBLE,    T_DURATION, T_INT,
                                     T_NULL, T_STRING, T_TIMESTAMP, T_TYPE,     T_UINT};
    static const struct cel_type param[2] = {{.kind = T_PARAM, .name = KL_STR_INIT("A")},
                                             {.kind = T_PARAM, .name = KL_STR_INIT("B")}};
    for (size_t i = 0; i < KL_COUNT(simple); i++)
        if (kl_str_eq(name, cel_types[simple[i]].name))
            return CEL_TYPE(simple[i]);
    if (kl_str_eqz(name, "list"))
        return cel_type_list(a, &param[0]);
    if (kl_str_eqz(name, "map"))
        return cel_type_map(a, &param[0], &param[1]);
    if (kl_str_eqz(name, "net.IP") || kl_str_eqz(name, "net.CIDR") ||
        kl_str_eqz(name, "optional_type"))
        return cel_type_named(a, T_OPAQUE, kl_arena_dup(a, name));
    if ((env_flags & KL_CEL_PATCH_TYPES) &&
        (kl_str_eqz(name, "JSONPatch") || kl_str_eqz(name, "Object") ||
         kl_str_starts(name, KL_STR("Object."))))
        return patch_type(a, name);
    return NULL;
}
