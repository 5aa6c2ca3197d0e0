// SPDX-License-Identifier: Apache-2.0
// Rules of x-kubernetes-validations, compiled (apiserver/schema/cel/compilation.go).
#pragma once
#include "object/crd/crd_int.h"

struct crd_rule {
    struct kl_cel_program *program; // NULL: `error`, or an empty rule when that is empty, too
    struct kl_str error;            // "compilation failed: ..."
    bool internal;                  // of `error`
    bool uses_old;
    struct kl_cel_program *message;
    struct kl_str message_error;
    struct kl_str path; // normalized fieldPath, or empty
    uint64_t cost, message_cost, cardinality;
};

// The rules of one node as they are for values of a node of the spine: the same, or that whose
// allOf the node is in.
struct crd_rules {
    crd_ref from, spine;
    bool root;
    struct kl_arena arena; // texts
    struct kl_cel_env *env, *optional_env;
    const struct kl_cel_decl *decl, *optional_decl;
    const char *failed;           // no rule could be compiled
    struct kl_metric *evaluation; // how long they take; NULL: no memory
    uint32_t n;
    struct crd_rule *rules;
};

// Compiles; `s` outlives it. NULL: out of memory.
struct crd_rules *crd_rules_new(const struct crd_words *s, crd_ref from, crd_ref spine, bool root);
void crd_rules_free(struct crd_rules *r);
// The compiled rules of a schema's nodes, made when first asked for. NULL: out of memory.
const struct crd_rules *crd_rules_get(struct kl_crd_schema *schema, crd_ref from, crd_ref spine,
                                      bool root);
// Whether CEL has a type for values of this node.
bool crd_has_decl(const struct crd_words *s, crd_ref node);
// The node as an untyped JSONSchemaProps, as far as CEL looks at it.
int crd_expand(struct kl_arena *a, const struct crd_words *s, crd_ref node, struct kl_value *ret);

// A JSONPath of property and map accessors (ValidFieldPath): ".spec.a['b']". *ret_path as
// field.Path prints it. 0, or KL_EINVALID with upstream's message; KL_ENOMEM.
int crd_field_path(struct kl_arena *a, const struct crd_words *s, crd_ref node, struct kl_str text,
                   bool brackets, struct kl_str *ret_path, crd_ref *ret_node, struct kl_error *err);
struct kl_str crd_rule_text(const struct crd_words *s, crd_ref node, uint32_t i,
                            enum crd_rule_word word);
