// SPDX-License-Identifier: Apache-2.0
// CustomResourceDefinitions as objects of their own: validation
// (apiextensions-apiserver pkg/apis/apiextensions/validation). Their defaults are
// kl_default_object's.
#pragma once
#include "object/validate/validate.h"

// Everything wrong with a definition, metadata included, in upstream's order (of Go maps: by name).
// `old` NULL: a create. CEL rules are compiled and their costs estimated: O(rules x schema below).
// Roots are typed, defaulted, canonical or drafts. KL_ENOMEM; KL_ELIMIT for schemas nested too deep
// or too large (crd.h).
int kl_crd_definition_validate(struct kl_findings *f, const struct kl_value *now,
                               const struct kl_value *old);
// Through the subresource status: metadata and status.
int kl_crd_definition_validate_status(struct kl_findings *f, const struct kl_value *now,
                                      const struct kl_value *old);
// What upstream warns of: formats that nothing checks, those of `old` (NULL: a create) apart. *ret
// is in the arena, one text for each place. O(schemas). KL_ENOMEM.
int kl_crd_definition_warnings(struct kl_arena *a, const struct kl_value *now,
                               const struct kl_value *old, struct kl_str **ret, size_t *ret_n);
