// SPDX-License-Identifier: Apache-2.0
// Expressions that select devices (upstream's dynamic-resource-allocation/cel): one variable,
// `device`, with `driver`, `attributes`, `capacity` and `allowMultipleAllocations`.
#pragma once
#include "object/cel/cel.h"

enum {
    KL_DEVICE_EXPRESSION_MAX = 10 * 1024, // bytes of an expression
    KL_DEVICE_COST_MAX = 1000000,         // of its estimate
};

// The environment; NULL when memory ran out. Shared as any environment.
struct kl_cel_env *kl_cel_device_env(void);
// Compiles a selector. KL_EINVALID: *ret_why (in the arena, or constant) has what upstream says of
// it ("compilation failed: ..."); KL_ELIMIT: it could cost too much; KL_ENOMEM.
int kl_cel_device_compile(struct kl_cel_env *e, struct kl_str expression, struct kl_arena *a,
                          struct kl_cel_program **ret, struct kl_str *ret_why);
