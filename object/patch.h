// SPDX-License-Identifier: Apache-2.0
// The three client-side patch types over values. Each gives a new draft that shares nodes with both
// inputs, which stay as they are and must live as long as the draft.
#pragma once
#include "object/json.h"

// RFC 6902 on an untyped tree; bounded at 10,000 operations (KL_ETOOLARGE) and 3 MiB of copies.
// KL_EBADREQUEST for what is no patch. Test failures and missing paths: KL_EINVALID with
// evanphx/json-patch's wording (of which kube-apiserver shows clients only "the server rejected our
// request due to an error in our request").
int kl_patch_json(struct kl_arena *a, const struct kl_value *untyped, const struct kl_value *patch,
                  struct kl_value *ret, struct kl_error *err);
// RFC 7386 on an untyped tree. KL_EBADREQUEST when the patch is no object.
int kl_patch_merge(struct kl_arena *a, const struct kl_value *untyped, const struct kl_value *patch,
                   struct kl_value *ret, struct kl_error *err);
// strategicpatch.StrategicMergeMapPatch with all directives ($patch: replace|delete|merge,
// $retainKeys, $setElementOrder/, $deleteFromPrimitiveList/) guided by the type's schema. Errors as
// upstream's: KL_EBADREQUEST for a bad format of directives, KL_EINVALID for lists of lists,
// KL_EINTERNAL (500 there too, with the plain message) for all others.
int kl_patch_strategic(struct kl_arena *a, const struct kl_type *type,
                       const struct kl_value *untyped, const struct kl_value *patch,
                       struct kl_value *ret, struct kl_error *err);
// The same in a typed object, when that is certain to give what the whole would: only the members
// that the patch names are taken to an untyped tree and back, the others are the object's. For
// merge patches, and strategic ones without directives for structs. False when it is not, as for
// whatever is wrong with the patch or its result, for unknown fields, and for custom kinds: then
// patch all.
bool kl_patch_in_part(struct kl_arena *a, const struct kl_type *type, bool strategic,
                      const struct kl_value *typed, const struct kl_value *patch,
                      struct kl_value *ret);
// What Go's converter says of a strategically patched object that kl_typed_from_untyped refuses; p
// is NULL where it has no words of its own.
#define KL_PATCH_WORDS_DEPTH 64
struct kl_str kl_patch_complaint(struct kl_arena *a, const struct kl_type *type,
                                 const struct kl_value *untyped);
