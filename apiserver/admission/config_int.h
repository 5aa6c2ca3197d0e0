// SPDX-License-Identifier: Apache-2.0
// Reading sections of the admission configuration.
#pragma once
#include "apiserver/admission/config.h"

// ---- config_shape.c: what Go's decoder would make of a document
// Fields of a struct; the last has no name.
struct kl_config_field {
    const char *name;
    char kind;      // s string, b bool, i int32, d duration (int64), S list of strings, M map of
                    // strings, O struct, L list of structs, * anything
    const char *go; // Go's name of the struct, of O and L; of s: of its type, NULL: string
    const struct kl_config_field *fields;
};
// Whether the tree has that form, apiVersion and kind apart. `strict`: unknown fields are refused.
// KL_EINVALID: err has Go's words.
int kl_config_shape(const struct kl_value *v, const char *package, const char *go,
                    const struct kl_config_field *fields, bool strict, struct kl_error *err);

// A versioned document: `versions` (NULL-ended) are those that have the kind.
struct kl_config_kind {
    const char *const *versions;
    const char *kind;
    const struct kl_config_field *fields;
    bool strict;
    const char *go; // the struct's name; NULL: the kind's
};
int kl_config_decode(struct kl_arena *a, struct kl_str text, const struct kl_config_kind *k,
                     struct kl_value *ret, struct kl_error *err);
// No version, no kind, or none that is known (runtime.IsNotRegisteredError and its like).
bool kl_config_is_foreign(const struct kl_value *v, const struct kl_config_kind *k,
                          struct kl_error *err);

// ---- config_plugins.c: one for each plug-in that has a configuration; `text` p NULL: none given
typedef int kl_config_reader(struct kl_admit_config *c, struct kl_str text, struct kl_error *err);
kl_config_reader kl_config_pod_security, kl_config_quota, kl_config_tolerations,
    kl_config_node_selectors, kl_config_events, kl_config_images, kl_config_mutating_webhooks,
    kl_config_validating_webhooks;
