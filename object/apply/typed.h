// SPDX-License-Identifier: Apache-2.0
// What server-side apply does with values of a schema (structured-merge-diff's typed.TypedValue):
// compare, extract the set of fields, merge, remove, each by the schema's maps, lists and sets.
//
// Trees are either typed and canonical (a kl_object's) or untyped (KL_MAP all through) with the
// keys of each map sorted: kl_typed_sort. Both sides of one call are of the same form. A typed
// struct counts as having what Go always writes, absent or not; so does an untyped one that
// kl_untyped_from_typed made.
//
// The schema is read as upstream reads its OpenAPI: a list is atomic unless its list type or patch
// strategy says otherwise; what has no schema is taken by what it is: maps key by key, lists whole.
// All answer 0, KL_ENOMEM or, with upstream's message, KL_EINVALID.
#pragma once
#include "object/apply/fieldset.h"
#include "object/schema.h"

struct kl_comparison {
    const struct kl_fieldset *removed, *modified, *added;
};
int kl_typed_compare(struct kl_arena *a, const struct kl_type *type, const struct kl_value *old,
                     const struct kl_value *now, struct kl_comparison *ret, struct kl_error *err);

// Every leaf, and every item of a list or map.
int kl_typed_fieldset(struct kl_arena *a, const struct kl_type *type, const struct kl_value *v,
                      const struct kl_fieldset **ret_set);

// Whether an untyped tree fits the schema: ".spec.foo: field not declared in schema". Several
// findings are given as a list, as upstream does. Duplicates in lists that have keys are found
// unless they are allowed.
int kl_typed_validate(struct kl_arena *a, const struct kl_type *type, const struct kl_value *v,
                      bool allow_duplicates, struct kl_error *err);

// The two together, both untyped: where both have a leaf, that of `over`. Lists with keys come in
// the order of `over` where it says one.
int kl_typed_merge(struct kl_arena *a, const struct kl_type *type, const struct kl_value *under,
                   const struct kl_value *over, struct kl_value *ret, struct kl_error *err);

// An untyped tree without the fields and items of the set.
int kl_typed_remove(struct kl_arena *a, const struct kl_type *type, const struct kl_value *v,
                    const struct kl_fieldset *items, struct kl_value *ret);

// Makes *v a copy of itself in which the keys of every map are sorted.
int kl_typed_sort(struct kl_arena *a, struct kl_value *v);

// The set with each declared field that leads to a member as a member too
// (EnsureNamedFieldsAreMembers).
const struct kl_fieldset *kl_typed_name_members(struct kl_arena *a, const struct kl_type *type,
                                                const struct kl_fieldset *s);
// The set as it would be had it been written with today's schema: what has become atomic is owned
// as a whole (ReconcileFieldSetWithSchema).
const struct kl_fieldset *kl_typed_reconcile(struct kl_arena *a, const struct kl_type *type,
                                             const struct kl_fieldset *s);
