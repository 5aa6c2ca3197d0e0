// SPDX-License-Identifier: Apache-2.0
// How the walks of this folder see the schema and the two forms of trees.
#pragma once
#include "object/apply/typed.h"

// A type where it stands: a list's kind is said by the field that holds it. Of a custom resource,
// a place in its schema.
struct crd_words;
struct kl_shape {
    const struct kl_type *type;    // NULL: nothing is known, taken by the value
    const struct kl_field *field;  // NULL for elements and the root
    const struct crd_words *words; // not NULL: a custom resource's schema at `node` (0: has none)
    uint32_t node;
    bool head;  // has apiVersion, kind and metadata
    bool keeps; // unknown fields are preserved here and below
};
struct kl_shape kl_shape_of(const struct kl_type *root);

// What a place may hold; several when the schema leaves it open.
enum { KL_ATOM_SCALAR = 1, KL_ATOM_LIST = 2, KL_ATOM_MAP = 4 };
unsigned kl_shape_atoms(struct kl_shape s);
// The one that the value is, or all that are allowed when it is none of them or NULL or null.
unsigned kl_shape_deduce(unsigned atoms, const struct kl_value *v);
bool kl_shape_closed(struct kl_shape s); // has no members but those it declares
bool kl_shape_atomic_list(struct kl_shape s);
bool kl_shape_atomic_map(struct kl_shape s);
bool kl_shape_has_keys(struct kl_shape list);     // items are told apart by fields, not by value
struct kl_shape kl_shape_elem(struct kl_shape s); // of a list's items or of undeclared members
struct kl_shape kl_shape_member(struct kl_shape s, struct kl_str name, bool *ret_declared);

// What Go writes for a field that is not set and always written; NULL: nothing.
const struct kl_value *kl_shape_zero(const struct kl_field *f);

// Members of one or two maps or structs side by side; both of one form, either may be NULL.
struct kl_pair {
    struct kl_str name;
    const struct kl_field *field; // NULL: a map's key, or not declared
    struct kl_shape shape;
    const struct kl_value *l, *r; // one may be NULL
};
struct kl_pairs {
    struct kl_shape shape;
    const struct kl_value *l, *r;
    uint32_t i, j; // next member of each
    uint16_t f;    // next field
};
struct kl_pairs kl_pairs_of(struct kl_shape s, const struct kl_value *l, const struct kl_value *r);
bool kl_pairs_next(struct kl_pairs *p, struct kl_pair *ret);

static inline bool kl_is_map(const struct kl_value *v)
{
    return v && (v->kind == KL_MAP || v->kind == KL_STRUCT);
}
bool kl_shape_empty_map(struct kl_shape s, const struct kl_value *v); // also when it is no map

// The element by which a list that is not atomic knows this item. KL_EINVALID: it has none.
int kl_shape_item(struct kl_arena *a, struct kl_shape list, const struct kl_value *item,
                  struct kl_elem *ret, struct kl_error *err);
struct kl_elem kl_elem_name(struct kl_str name);
