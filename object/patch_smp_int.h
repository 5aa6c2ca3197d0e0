// SPDX-License-Identifier: Apache-2.0
// Strategic merge: what its parts for maps and for lists share.
#pragma once
#include "object/patch_int.h"

struct kl_smp {
    struct kl_arena *arena;
    struct kl_error *err;
};

// What the schema says about patching one field.
struct kl_smp_field {
    const struct kl_type *type; // of the field; of its elements after a look-up for a list
    struct kl_str merge_key;    // "" for none
    bool merge, replace;        // patchStrategy
};

// original may be NULL. The result shares nodes with both.
int kl_smp_merge_map(struct kl_smp *s, const struct kl_value *original,
                     const struct kl_value *patch, const struct kl_type *type,
                     struct kl_value *ret);
// *ret_order: the elements whose order counts for $setElementOrder.
int kl_smp_merge_list(struct kl_smp *s, const struct kl_value *original,
                      const struct kl_value *patch, const struct kl_smp_field *field,
                      bool delete_list, struct kl_value *ret, struct kl_value *ret_order);
// Puts a merged list in order: what `wanted` names as it stands there, the rest as in `order`.
int kl_smp_order_list(struct kl_smp *s, const struct kl_value *merged,
                      const struct kl_value *wanted, const struct kl_value *order,
                      struct kl_str merge_key, bool of_maps, struct kl_value *ret);
// Whether the elements of both lists (NULL: none) are of one type, which must not be lists; says
// whether they are maps.
int kl_smp_element_kind(struct kl_smp *s, const struct kl_value *a, const struct kl_value *b,
                        bool *ret_maps);

// Go's reflect.Kind of the values of a type.
const char *kl_smp_go_kind(const struct kl_type *t);
int kl_smp_no_merge_key(struct kl_smp *s, const struct kl_value *map, struct kl_str key);
int kl_smp_not_a_map(struct kl_smp *s, const struct kl_value *v);
int kl_smp_not_a_list(struct kl_smp *s, const struct kl_value *v);
int kl_smp_bad_directive(struct kl_smp *s, const struct kl_value *directive,
                         const struct kl_value *map);

// The value of "$patch", or NULL.
const struct kl_value *kl_smp_directive(const struct kl_value *map);
bool kl_smp_is_text(const struct kl_value *v, const char *text);
