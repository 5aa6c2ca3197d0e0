// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "object/crd/crd_int.h"

// An untyped metadata as a typed ObjectMeta. Unknown fields are noted as "<prefix>.name".
int crd_object_meta(struct kl_arena *a, const struct kl_value *meta, bool drop_malformed,
                    const char *prefix, struct kl_strict *strict, struct kl_value *ret,
                    struct kl_error *err);
// kl_crd_untyped; without `head` apiVersion and kind are there only if the root has them.
int crd_untyped(struct kl_arena *a, const struct kl_crd_schema *s, const struct kl_value *root,
                bool head, struct kl_value *ret);
