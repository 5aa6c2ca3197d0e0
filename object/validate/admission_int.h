// SPDX-License-Identifier: Apache-2.0
// What the files about admissionregistration.k8s.io share.
#pragma once
#include "object/cel/admission.h"
#include "object/validate/validate_int.h"

extern const char *const kl_va_failure_policies[], *const kl_va_reinvocation_policies[];

// Without white space around it.
struct kl_str kl_va_trimmed(struct kl_str s);
void kl_va_invalid_list(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *list,
                        const char *detail);
// Whether one of the items before index i is the same.
bool kl_va_seen_before(const struct kl_value *list, size_t i, struct kl_str s);
// A rule of operations and resources; matchResources; and that these may be mutated.
void kl_va_rule(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *rule);
void kl_va_match_resources(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *m);
void kl_va_mutating_operations(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *m);
void kl_va_enum(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *v, bool required,
                const char *const *set);
// Compiles. `shown` is the text in the error, `text` what is compiled.
void kl_va_expression(struct kl_v *c, struct kl_exprs *x, enum kl_expr_env env,
                      const struct kl_vpath *p, struct kl_str text, struct kl_str shown,
                      const char *const *types);
// matchConditions see no variables here, whatever the policy has.
void kl_va_conditions(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *list,
                      bool has_params);
