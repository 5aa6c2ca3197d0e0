// SPDX-License-Identifier: Apache-2.0
// CustomResourceDefinitions as objects of their own: defaults and validation
// (apiextensions-apiserver pkg/apis/apiextensions/v1/defaults.go and /validation).
#pragma once
#include "object/validate/validate.h"

// Defaults of apiextensions/v1 on a typed draft of a CustomResourceDefinition: singular, listKind,
// conversion strategy, webhook service port, scope. Idempotent. KL_ENOMEM.
// kl_default_object does this for the built-in type.
int kl_crd_definition_default(struct kl_arena *a, struct kl_value *crd);

// Everything wrong with a definition, metadata included, in upstream's order (of Go maps: by name).
// `old` NULL: a create. CEL rules are compiled and their costs estimated: O(rules x schema below).
// Roots are typed, canonical or drafts. KL_ENOMEM.
int kl_crd_definition_validate(struct kl_findings *f, const struct kl_value *now,
                               const struct kl_value *old);
// Through the subresource status: metadata and status.
int kl_crd_definition_validate_status(struct kl_findings *f, const struct kl_value *now,
                                      const struct kl_value *old);
