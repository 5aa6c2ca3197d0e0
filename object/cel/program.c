// SPDX-License-Identifier: Apache-2.0
// Compiling: parse, check, validate, estimate, plan. And the frame of an evaluation.
#include "object/cel/plan_int.h"
#include "object/cel/re2_int.h"
#include <stdlib.h>

enum { COMPILE_BYTES = 256 << 20, LAST_BYTES = 4 << 20, PROGRAM_BYTES = 64 << 20 };

static const struct cel_type *keep_type(struct kl_arena *a, const struct cel_type *t)
{
    struct cel_type *kept = KL_ARENA_NEW(a, struct cel_type);
    struct kl_str name = kl_arena_dup(a, t->name);
    if (!kept || !name.p)
        return NULL;
    *kept = *t;
    kept->name = name;
    for (int i = 0; i < t->n; i++)
        if (!(kept->p[i] = keep_type(a, t->p[i])))
            return NULL;
    return kept;
}

static int compile(struct kl_cel_program *p, struct kl_str text, struct kl_arena *work,
                   struct kl_str *ret_issues)
{
    struct cel_source src;
    struct cel_issues issues = {.arena = work, .src = &src};
    struct kl_str failure = {NULL, 0};
    if (cel_source_init(&src, work, text))
        return KL_ENOMEM;
    struct cel_expr *e = cel_parse(work, &src, p->env->flags, &issues);
    const struct cel_type *type = e ? cel_check(p->env, work, e, &issues) : NULL;
    if (type)
        cel_validate(work, e, &issues);
    // What is found with the memory at its end may be its fault alone.
    if (issues.out_of_memory || work->used_bytes > COMPILE_BYTES - LAST_BYTES)
        return KL_ENOMEM;
    if (issues.total) {
        *ret_issues = cel_issues_text(&issues);
        return ret_issues->p ? KL_EINVALID : KL_ENOMEM;
    }
    if (!type)
        return KL_ENOMEM;
    p->type = keep_type(&p->arena, type);
    p->type_name = cel_type_text(&p->arena, type, true);
    p->plan = cel_plan(p, e, &failure);
    if (!p->plan || !p->type) {
        *ret_issues = failure;
        return failure.p ? KL_EINVALID : KL_ENOMEM;
    }
    p->cost = cel_estimate(p->env, work, e);
    return 0;
}

int kl_cel_compile(struct kl_cel_env *e, struct kl_str expression, struct kl_arena *a,
                   struct kl_cel_program **ret, struct kl_str *ret_issues, struct kl_error *err)
{
    struct kl_cel_program *p = calloc(1, sizeof *p);
    struct kl_arena work;
    struct kl_str issues = {NULL, 0};
    *ret_issues = KL_STR("");
    if (!p)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    atomic_init(&p->refs, 1);
    p->env = kl_cel_env_ref(e);
    kl_arena_init(&p->arena, PROGRAM_BYTES);
    kl_arena_init(&work, COMPILE_BYTES);
    int r = compile(p, expression, &work, &issues);
    if (r == KL_EINVALID) {
        *ret_issues = kl_arena_dup(a, issues);
        if (!ret_issues->p)
            r = KL_ENOMEM;
    }
    kl_arena_fini(&work);
    if (!r) {
        *ret = p;
        return 0;
    }
    kl_cel_program_unref(p);
    return r == KL_EINVALID ? kl_error_set(err, r, "%.*s", KL_PRI(*ret_issues))
                            : kl_error_set(err, r, "out of memory");
}

struct kl_cel_program *kl_cel_program_ref(struct kl_cel_program *p)
{
    if (p)
        atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void kl_cel_program_unref(struct kl_cel_program *p)
{
    if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < p->nregexes; i++)
        cel_regex_free(p->regexes[i]);
    kl_arena_fini(&p->arena);
    kl_cel_env_unref(p->env);
    free(p);
}

struct kl_str kl_cel_program_type(const struct kl_cel_program *p)
{
    return p->type_name;
}

bool kl_cel_program_is(const struct kl_cel_program *p, enum kl_cel_simple t)
{
    static const uint8_t kinds[] = {T_DYN,    T_BOOL,  T_INT,       T_UINT,     T_DOUBLE,
                                    T_STRING, T_BYTES, T_TIMESTAMP, T_DURATION, T_NULL};
    return t < KL_COUNT(kinds) && p->type->kind == kinds[t];
}

bool kl_cel_program_uses(const struct kl_cel_program *p, struct kl_str variable)
{
    for (uint32_t i = 0; i < p->env->nvars; i++)
        if (kl_str_eq(p->env->vars[i].name, variable))
            return p->uses[i / 64] >> (i % 64) & 1;
    return false;
}

struct kl_cel_cost kl_cel_program_cost(const struct kl_cel_program *p)
{
    return p->cost;
}

struct kl_cel_val cel_eval_constant(struct kl_arena *a, const struct cel_plan *plan)
{
    static const struct kl_cel_eval nothing = {0};
    struct cel_run r = {.arena = a, .with = &nothing};
    return cel_run_plan(&r, plan);
}

int kl_cel_eval(const struct kl_cel_program *p, const struct kl_cel_eval *with, struct kl_arena *a,
                struct kl_cel_val *ret, uint64_t *ret_cost, struct kl_error *err)
{
    struct cel_run r = {.arena = a, .program = p, .with = with, .limit = with->cost_limit};
    if (ret_cost)
        *ret_cost = 0;
    if (p->nslots && !(r.slots = kl_arena_zalloc(a, p->nslots * sizeof *r.slots)))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    struct kl_cel_val v = cel_run_plan(&r, p->plan);
    if (ret_cost)
        *ret_cost = r.cost;
    switch (r.stop) {
    case 0:
        break;
    case KL_ELIMIT:
        return kl_error_set(err, KL_ELIMIT, "operation cancelled: actual cost limit exceeded");
    case KL_ECANCELED:
        return kl_error_set(err, KL_ECANCELED, "operation interrupted");
    default:
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    if (cel_is_error(v))
        return kl_error_set(err, KL_EINVALID, "%.*s", KL_PRI(cel_text(v)));
    *ret = v;
    return 0;
}
