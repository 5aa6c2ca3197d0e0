// SPDX-License-Identifier: Apache-2.0
// What the files of selectors share.
#pragma once
#include "object/selector.h"

// labels.NewRequirement: checks key, operator and values; `values` become the requirement's.
int kl_requirement_new(struct kl_arena *a, struct kl_str key, enum kl_selector_op op,
                       struct kl_str *values, size_t nvalues, struct kl_requirement *ret,
                       struct kl_error *err);
// `<nil>: Invalid value: "key": ...` when the key is not a label's.
int kl_requirement_check_key(struct kl_arena *a, struct kl_str key, struct kl_error *err);
void kl_sort_strs(struct kl_str *s, size_t n);
size_t kl_sort_unique_strs(struct kl_str *s, size_t n);
// By key, keeping the order of equal ones.
int kl_sort_requirements(struct kl_arena *a, struct kl_requirement *reqs, size_t n);
