// SPDX-License-Identifier: Apache-2.0
// The expressions of admission: what a policy's or a webhook's expressions may name, compiled
// (upstream's admission/plugin/cel). Evaluated by the API server; compiled by validation too.
#pragma once
#include "object/cel/cel.h"

// Places of the variables in the values of an evaluation. What an environment must not see keeps
// its place under a name that cannot be written.
enum kl_expr_place {
    KL_EXPR_OBJECT,
    KL_EXPR_OLD_OBJECT,
    KL_EXPR_NAMESPACE,
    KL_EXPR_REQUEST,
    KL_EXPR_PARAMS,
    KL_EXPR_VARIABLES,
    KL_EXPR_AUTHORIZER,
    KL_EXPR_RESOURCE_CHECK,
    KL_EXPR_PLACES
};

enum kl_expr_env {
    KL_ENV_FULL,
    KL_ENV_NO_AUTHORIZER, // messageExpression
    KL_ENV_PATCH,         // mutations: JSONPatch{}, Object{}
    KL_ENVS
};

struct kl_expr {
    struct kl_str name, text; // of a condition, variable, annotation; may be empty
    struct kl_cel_program *program;
    struct kl_str error; // "compilation failed: ..."; program NULL
};

// What the expressions of one object share. Memory is the arena's but for what fini lets go.
struct kl_exprs {
    struct kl_arena *arena;
    bool has_params, has_variables;
    struct kl_cel_env *env[KL_ENVS];
    const struct kl_cel_decl *variables_type[KL_ENVS];
    struct kl_expr *variables;
    size_t nvariables;
};

// `variables` (a list of {name, expression}) may be NULL; with_variables: the object has such a
// thing at all. KL_ENOMEM.
int kl_exprs_init(struct kl_exprs *x, struct kl_arena *a, bool has_params, bool with_variables,
                  const struct kl_value *variables);
void kl_exprs_fini(struct kl_exprs *x);
// `types`: what it may evaluate to, by cel-go's names, NULL-ended; NULL: anything. What is wrong
// with the expression is in ret->error; fails with KL_ENOMEM only.
int kl_expr_compile(struct kl_exprs *x, enum kl_expr_env env, struct kl_str name,
                    struct kl_str text, const char *const *types, struct kl_expr *ret);
void kl_expr_fini(struct kl_expr *e);
