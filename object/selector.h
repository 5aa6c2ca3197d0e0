// SPDX-License-Identifier: Apache-2.0
// Label and field selectors: parse, match, print (apimachinery labels.Parse, fields.ParseSelector,
// metav1.LabelSelectorAsSelector).
#pragma once
#include "object/value.h"

enum kl_selector_op {
    KL_OP_IN,
    KL_OP_NOT_IN,
    KL_OP_EXISTS,
    KL_OP_NOT_EXISTS,
    KL_OP_EQ,
    KL_OP_NOT_EQ,
    KL_OP_GT,
    KL_OP_LT
};

struct kl_requirement {
    struct kl_str key;
    enum kl_selector_op op;
    const struct kl_str *values; // sorted
    size_t nvalues;
};

struct kl_selector {
    const struct kl_requirement *reqs;
    size_t n;
    bool nothing; // matches no object (a null LabelSelector)
};

// All memory is the arena's. KL_EBADREQUEST with upstream's wording.
int kl_label_selector_parse(struct kl_arena *a, struct kl_str text, struct kl_selector *ret,
                            struct kl_error *err);
// From a metav1.LabelSelector value: NULL selects nothing, {} selects all.
int kl_label_selector_from(struct kl_arena *a, const struct kl_value *label_selector,
                           struct kl_selector *ret, struct kl_error *err);
// From a plain map (Service.spec.selector, nodeSelector): all must be equal.
int kl_label_selector_from_map(struct kl_arena *a, const struct kl_value *map,
                               struct kl_selector *ret);
bool kl_selector_matches(const struct kl_selector *s, const struct kl_value *labels_map);
// Whether the selector asks for exactly one value of this key (RequiresExactMatch).
bool kl_selector_exact(const struct kl_selector *s, struct kl_str key, struct kl_str *ret_value);
struct kl_str kl_selector_text(struct kl_arena *a, const struct kl_selector *s);

// Field selectors: only =, == and != terms joined by commas.
int kl_field_selector_parse(struct kl_arena *a, struct kl_str text, struct kl_selector *ret,
                            struct kl_error *err);
struct kl_resource;
// Checks that each key is one that the resource supports (metadata.name, metadata.namespace, and
// the table in field_labels.c: pods' spec.nodeName, status.phase, ..., events' involvedObject.*,
// ...). KL_EBADREQUEST: `field label not supported: spec.foo`. A row outside kl_resources is a
// custom resource's.
int kl_field_selector_check(const struct kl_resource *r, const struct kl_selector *s,
                            struct kl_error *err);
bool kl_field_selector_matches(const struct kl_resource *r, const struct kl_selector *s,
                               const struct kl_value *root);
