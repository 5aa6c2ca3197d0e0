// SPDX-License-Identifier: Apache-2.0
// Defaulting: what the schema carries and what upstream's code applies (defaults.md).
#pragma once
#include "object/resource.h"
#include "object/value.h"

// Applies every default of the type's version to a draft, on create, update, patch results and
// objects read from storage alike. Idempotent. KL_ENOMEM.
int kl_default_object(struct kl_arena *a, const struct kl_type *type, struct kl_value *draft);
// Drops fields whose feature gate is off unless `old` (may be NULL) has them. gates: of this
// server; NULL: as they are by default.
struct kl_gate_set;
void kl_drop_gated(struct kl_arena *a, const struct kl_type *type, struct kl_value *draft,
                   const struct kl_value *old, const struct kl_gate_set *gates);
