// SPDX-License-Identifier: Apache-2.0
// Results of kube-openapi's validator: errors that differ in their text, and how much matched,
// which decides what a failed anyOf or oneOf shows.
#pragma once
#include "object/crd/crd_int.h"

enum { CRD_ERRORS_MAX = 512 }; // of one result; further ones are dropped: it has failed anyway

enum crd_error_kind {
    CRD_E_OTHER, // no place of its own
    CRD_E_INVALID,
    CRD_E_TYPE,
    CRD_E_REQUIRED,
    CRD_E_ENUM,
    CRD_E_TOO_LONG,
    CRD_E_TOO_MANY,
};

struct crd_tree_error {
    enum crd_error_kind kind;
    struct kl_str path, text;
    struct kl_value value; // shown; null: ""
    int64_t is, max;
    uint32_t list; // of enum values
};

struct crd_result {
    struct crd_tree_error *list;
    uint32_t n, cap;
    uint64_t matches;
};

struct crd_tree {
    struct kl_arena *a;
    struct kl_crd_schema *cache;
    const struct crd_words *s;
    int depth, err;
};

// Where a value is: "spec.list[0]", "" for the root. An additional property always has its dot.
struct crd_body {
    const struct crd_body *up; // NULL: the root itself
    struct kl_str name;
    uint32_t index;
    bool extra;
};
struct kl_str crd_body_text(struct crd_tree *t, const struct crd_body *p);

// Adds an error whose text is new. `text` is made of the place and what follows.
void crd_add(struct crd_tree *t, struct crd_result *r, struct crd_tree_error e);
void crd_merge(struct crd_tree *t, struct crd_result *r, const struct crd_result *other);
struct kl_str crd_format(struct crd_tree *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
struct kl_str crd_number(struct crd_tree *t, const struct kl_value *v); // "%v"

// The validators of scalars.
void crd_check_number(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                      const struct kl_value *v, struct crd_result *r);
void crd_check_string(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                      const struct kl_value *v, struct crd_result *r);
void crd_check_format(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                      const struct kl_value *v, struct crd_result *r);
void crd_check_enum(struct crd_tree *t, crd_ref node, const struct crd_body *p,
                    const struct kl_value *v, struct crd_result *r);
bool crd_is_json_integer(double d); // swag.IsFloat64AJSONInteger
