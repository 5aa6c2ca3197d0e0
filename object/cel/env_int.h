// SPDX-License-Identifier: Apache-2.0
// Environments and programs inside.
#pragma once
#include "object/cel/ast_int.h"
#include "object/cel/lib_int.h"
#include <stdatomic.h>

struct cel_env_var {
    struct kl_str name;
    const struct kl_cel_decl *decl;
};
struct kl_cel_env {
    atomic_uint refs;
    unsigned flags;
    struct kl_arena arena;
    struct cel_env_var *vars;
    uint32_t nvars, cap;
};

struct cel_plan;
struct kl_cel_program {
    atomic_uint refs;
    uint32_t nslots; // local variables alive at once
    struct kl_arena arena;
    struct kl_cel_env *env;
    const struct cel_plan *plan;
    const struct cel_type *type;
    struct kl_str type_name;
    struct kl_cel_cost cost;
    uint32_t nregexes;
    void **regexes;
    uint64_t *uses; // bits by variable
};

// Types every node; issues say what is wrong. NULL type: failed.
const struct cel_type *cel_check(struct kl_cel_env *env, struct kl_arena *a, struct cel_expr *e,
                                 struct cel_issues *issues);
void cel_validate(struct kl_arena *a, struct cel_expr *e, struct cel_issues *issues);
struct kl_cel_cost cel_estimate(struct kl_cel_env *env, struct kl_arena *a, struct cel_expr *e);
// *ret_error: what evaluating a constant said ("program instantiation failed").
const struct cel_plan *cel_plan(struct kl_cel_program *p, struct cel_expr *e,
                                struct kl_str *ret_error);
// Evaluates a plan without variables: constants.
struct kl_cel_val cel_eval_constant(struct kl_arena *a, const struct cel_plan *plan);

// The constant type an identifier names; NULL when it names none.
const struct cel_type *cel_type_ident(struct kl_arena *a, unsigned env_flags, struct kl_str name);
struct kl_str cel_strip_dot(struct kl_str name);
// The text that messages give for a list of argument types: "int.(string)" or "(int, string)".
struct kl_str cel_show_args(struct kl_arena *a, size_t n, const struct cel_type *const *types,
                            bool member);
// string.format's checks of literals.
void cel_validate_format(struct kl_arena *a, struct cel_expr *call, struct cel_issues *issues);
