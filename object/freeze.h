// SPDX-License-Identifier: Apache-2.0
// Cheaper than freezing anew (kl_object_freeze), where much of what goes into it is canonical.
#pragma once
#include "object/value.h"

// A copy of the object with this metadata.resourceVersion (empty: without one), one reference. The
// block is copied as it is and its pointers moved, which costs a tenth of freezing it anew. NULL
// when memory ran out, and for an object whose metadata is not there or would not be.
struct kl_object *kl_object_restamp(const struct kl_object *o, struct kl_str rv);

// The tree that kl_object_freeze would make of a draft, in the arena. Strings are shared with the
// draft, and whole nodes that the draft has of `base`, an object of the same type, are taken as
// they are: both must live as long as the tree. KL_ENOMEM.
int kl_draft_canonical(struct kl_arena *a, const struct kl_type *type, const struct kl_object *base,
                       const struct kl_value *draft, struct kl_value *ret);

// The same but for lists and maps that Go always writes: those that are empty stay. That somebody
// sent one makes a field its own (metadata.managedFields), though what is stored has none.
// KL_ENOMEM.
int kl_draft_as_sent(struct kl_arena *a, const struct kl_type *type, const struct kl_object *base,
                     const struct kl_value *draft, struct kl_value *ret);
