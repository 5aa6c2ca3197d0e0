// SPDX-License-Identifier: Apache-2.0
// The three client-side patch types over values. Each gives a new draft; inputs stay as they are.
#pragma once
#include "object/json.h"

// RFC 6902 on an untyped tree; bounded at 10,000 operations. Test failures and missing paths:
// KL_EINVALID with evanphx/json-patch's wording as kube-apiserver passes it on.
int kl_patch_json(struct kl_arena *a, const struct kl_value *untyped, const struct kl_value *patch,
                  struct kl_value *ret, struct kl_error *err);
// RFC 7386 on an untyped tree.
int kl_patch_merge(struct kl_arena *a, const struct kl_value *untyped,
                   const struct kl_value *patch, struct kl_value *ret, struct kl_error *err);
// strategicpatch.StrategicMergeMapPatch with all directives ($patch: replace|delete|merge,
// $retainKeys, $setElementOrder/, $deleteFromPrimitiveList/) guided by the type's schema.
int kl_patch_strategic(struct kl_arena *a, const struct kl_type *type,
                       const struct kl_value *untyped, const struct kl_value *patch,
                       struct kl_value *ret, struct kl_error *err);
