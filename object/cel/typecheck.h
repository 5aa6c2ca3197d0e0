// SPDX-License-Identifier: Apache-2.0
// What is wrong with a ValidatingAdmissionPolicy's expressions for the kinds that it matches
// (apiserver policy/validating/typechecking.go): warnings for its status, which change nothing of
// what it does. Pure: any loop.
#pragma once
#include "object/cel/cel.h"

// `policy` is a ValidatingAdmissionPolicy (typed). *ret_warnings: a list of ExpressionWarning
// drafts in the arena, empty when all is well. At most ten kinds a rule are looked at: built-in
// ones, and those of `definitions`, CustomResourceDefinitions (typed, NULL: that one is not known)
// as the server publishes them; of parameters whose kind is not known any field will do.
// `stamp` goes into the names of types, which messages show. KL_ENOMEM.
int kl_policy_typecheck(struct kl_arena *a, const struct kl_value *policy,
                        const struct kl_value *const *definitions, size_t ndefinitions,
                        uint32_t stamp, struct kl_value *ret_warnings);
// The names of the definitions that it may want: of what its rules say and is not built in. In the
// arena; at most KL_POLICY_CUSTOM_MAX. KL_ENOMEM.
enum { KL_POLICY_CUSTOM_MAX = 64 };
int kl_policy_customs(struct kl_arena *a, const struct kl_value *policy, struct kl_str **ret,
                      size_t *ret_n);
// Whether its parameters are of a kind that is not built in; which definition has that kind is to
// be found among all of them.
bool kl_policy_param(const struct kl_value *policy, struct kl_str *ret_group,
                     struct kl_str *ret_kind);
bool kl_policy_is_param(const struct kl_value *definition, struct kl_str group, struct kl_str kind);
