// SPDX-License-Identifier: Apache-2.0
// JSONPath as k8s.io/client-go/util/jsonpath has it, for printer columns: fields, indexes, slices,
// wildcards, unions, recursive descent, filters, quoted text. And simple paths (.spec.a['b']) as
// scale and selectableFields have them.
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "object/value.h"

struct kl_jsonpath;

enum {
    KL_JSONPATH_DEPTH_MAX = 64,        // nested filters
    KL_JSONPATH_RESULTS_MAX = 1 << 16, // of one node; more is KL_ELIMIT
};

// Parses a template, e.g. "{.spec.replicas}", into the arena (the text is copied). O(length).
// KL_EINVALID with upstream's message; KL_ENOMEM.
int kl_jsonpath_parse(struct kl_arena *a, struct kl_str text, struct kl_jsonpath **ret,
                      struct kl_error *err);
// What the first expression of the template finds in an untyped tree (kl_crd_untyped), missing
// keys allowed: *ret_n pointers into the tree. KL_EINVALID, KL_ELIMIT, KL_ENOMEM.
int kl_jsonpath_find(const struct kl_jsonpath *p, struct kl_arena *a, const struct kl_value *root,
                     const struct kl_value *const **ret, size_t *ret_n, struct kl_error *err);
// A value as PrintResults shows it: strings as they are, lists and maps as JSON.
int kl_jsonpath_text(struct kl_arena *a, const struct kl_value *v, struct kl_str *ret);

// One cell of a table: `type` is the column's (integer, number, boolean, string, date), `path` the
// template made of "{" jsonPath "}". Null where upstream gives null. A date gives the time since:
// now_us is in microseconds since 1970. KL_ENOMEM only.
int kl_jsonpath_cell(const struct kl_jsonpath *path, struct kl_str type, struct kl_arena *a,
                     const struct kl_value *root, int64_t now_us, struct kl_value *ret);

// A simple path: .name or ['name'] elements. Splits into *ret (in the arena; its texts are of
// `text`). O(length).
// KL_EINVALID: not one.
int kl_simple_path(struct kl_arena *a, struct kl_str text, struct kl_str **ret, size_t *ret_n,
                   struct kl_error *err);
// The value there in an untyped tree, or NULL.
const struct kl_value *kl_simple_path_get(const struct kl_value *root, const struct kl_str *path,
                                          size_t n);
