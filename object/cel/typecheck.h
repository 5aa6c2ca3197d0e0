// SPDX-License-Identifier: Apache-2.0
// What is wrong with a ValidatingAdmissionPolicy's expressions for the kinds that it matches
// (apiserver policy/validating/typechecking.go): warnings for its status, which change nothing of
// what it does. Pure: any loop.
#pragma once
#include "object/cel/cel.h"

// `policy` is a ValidatingAdmissionPolicy (typed). *ret_warnings: a list of ExpressionWarning
// drafts in the arena, empty when all is well. At most ten kinds a rule are looked at; built-in
// ones only, the fields of others are as good as any. `stamp` goes into the names of types, which
// messages show. KL_ENOMEM.
int kl_policy_typecheck(struct kl_arena *a, const struct kl_value *policy, uint32_t stamp,
                        struct kl_value *ret_warnings);
