// SPDX-License-Identifier: Apache-2.0
// Shapes of custom resources: what structured-merge-diff is told of a CRD's schema (kube-openapi
// pkg/schemaconv/openapi.go). What has no schema is deduced from the value, as elsewhere.
#pragma once
#include "object/apply/shape.h"

enum { KL_LIST_KEYS_MAX = 16 };

// For shapes with `words`.
unsigned kl_custom_atoms(struct kl_shape s);
bool kl_custom_closed(struct kl_shape s);
bool kl_custom_atomic_map(struct kl_shape s);
enum kl_list_type kl_custom_list_type(struct kl_shape s); // never KL_LIST_NONE
struct kl_shape kl_custom_elem(struct kl_shape s);
struct kl_shape kl_custom_member(struct kl_shape s, struct kl_str name, bool *ret_declared);
int kl_custom_item(struct kl_arena *a, struct kl_shape list, const struct kl_value *item,
                   struct kl_elem *ret, struct kl_error *err); // item is a map

// shape.c: what is said of an element without any of its list's keys; KL_EINVALID.
int kl_shape_no_keys(const struct kl_str *keys, size_t n, struct kl_error *err);
