// SPDX-License-Identifier: Apache-2.0
// One version of a CustomResourceDefinition: its schema compiled, and what it says about objects:
// pruning, coercion, defaults, validation (apiextensions-apiserver pkg/apiserver/schema,
// /validation and pkg/registry/customresource).
//
// Custom objects. A root is a KL_STRUCT of the schema's type: metadata is a typed ObjectMeta, every
// other top-level name of the schema is a member (an interned symbol) with an untyped value (maps
// are KL_MAP). Top-level names that the schema does not have, where it preserves unknown fields,
// are entries of one untyped map, the member kl_crd_rest_sym(); encoders write its entries beside
// the members. apiVersion and kind are not in a frozen object: its type says them, as with built-in
// kinds.
//
// A type belongs to its schema. An object of a custom type holds a reference to the schema as long
// as it lives; a draft borrows it. Schemas are immutable and may be used by many threads; what is
// compiled on first use (CEL, patterns) is kept behind a lock of the schema's own.
#pragma once
#include "object/json.h"
#include "object/schema.h"
#include "object/validate/validate.h"
#include "object/value.h"

struct kl_crd_schema;

enum {
    KL_CRD_DEPTH_MAX = 200,         // nesting of a schema; of defaults and of enum values
    KL_CRD_BYTES_MAX = 1 << 26,     // of one version compiled, equal parts counted once
    KL_CRD_OBJECT_DEPTH_MAX = 1000, // nesting of an object where a schema's walk follows it
};

// What a version's schema is made of; borrowed for the call.
struct kl_crd_version {
    struct kl_str group, version, kind; // kind: "Widget"
    struct kl_str list_kind;            // "WidgetList"
    const struct kl_value *schema;      // typed JSONSchemaProps; NULL: objects of any form
    bool preserve_unknown_fields;       // spec.preserveUnknownFields of old
};

// Compiles. O(size of the schema); equal parts are kept once. KL_EINVALID with a message when the
// schema is not structural (what kl_crd_check would have refused), KL_ELIMIT, KL_ENOMEM.
int kl_crd_schema_new(const struct kl_crd_version *from, struct kl_crd_schema **ret,
                      struct kl_error *err);
// The same for one version of a typed CustomResourceDefinition root. KL_ENOTFOUND: it has no such.
int kl_crd_schema_of(const struct kl_value *crd, struct kl_str version, struct kl_crd_schema **ret,
                     struct kl_error *err);
struct kl_crd_schema *kl_crd_schema_ref(struct kl_crd_schema *s); // NULL in, NULL out
void kl_crd_schema_unref(struct kl_crd_schema *s);                // accepts NULL; any thread
// Nobody will look at objects of its type any more: what keeps such only for them may let go.
void kl_crd_schema_retire(struct kl_crd_schema *s); // accepts NULL
bool kl_crd_type_is_retired(const struct kl_type *t);
// The types of the kind and of its list {metadata: ListMeta, items}. They live as long as s.
const struct kl_type *kl_crd_schema_type(const struct kl_crd_schema *s);
const struct kl_type *kl_crd_schema_list_type(const struct kl_crd_schema *s);
// The schema behind a type; NULL for types that are no custom kind's. O(1).
const struct kl_crd_schema *kl_crd_of_type(const struct kl_type *t);
// Memory of the schema and its types, without the rules and patterns compiled so far.
size_t kl_crd_schema_bytes(const struct kl_crd_schema *s);
kl_sym kl_crd_rest_sym(void);

// ---- reading objects
// kl_json_decode and kl_typed_from_untyped with a custom type do what upstream's decoder does: they
// prune (strict: `unknown field "spec.x"`, after duplicates, metadata's first, else sorted), drop
// nulls that are not nullable and have no default, and coerce metadata, embedded objects' too
// (KL_EBADREQUEST with upstream's message; KL_ELIMIT beyond KL_CRD_OBJECT_DEPTH_MAX).
// kl_default_object fills in defaults. kl_untyped_from_typed gives the untyped form. All are
// O(size of the object) but for sorting what was dropped.
//
// The decoder by itself. `drop_malformed`: for stored objects, whose metadata may be older than
// the schema: fields of metadata and of embedded objects' heads that cannot be read are dropped
// instead. `strict` may be NULL.
int kl_crd_decode(struct kl_arena *a, const struct kl_crd_schema *s, struct kl_str text,
                  bool drop_malformed, struct kl_strict *strict, struct kl_value *ret,
                  struct kl_error *err);
int kl_crd_from_untyped(struct kl_arena *a, const struct kl_crd_schema *s,
                        const struct kl_value *untyped, bool drop_malformed,
                        struct kl_strict *strict, struct kl_value *ret, struct kl_error *err);
// Steps of it on an untyped root {apiVersion, kind, metadata, ...}; all share what they do not
// change. Pruning as above; defaults; and an untyped, pruned root to a draft of the type.
int kl_crd_prune(struct kl_arena *a, const struct kl_crd_schema *s, struct kl_value *untyped,
                 struct kl_strict *strict, struct kl_error *err);
int kl_crd_default(struct kl_arena *a, const struct kl_crd_schema *s, struct kl_value *untyped);
int kl_crd_typed(struct kl_arena *a, const struct kl_crd_schema *s, const struct kl_value *untyped,
                 struct kl_value *ret, struct kl_error *err);
// Defaults of a typed root: kl_default_object.
int kl_crd_default_draft(struct kl_arena *a, const struct kl_crd_schema *s, struct kl_value *draft);
// The untyped view of a root: a map of all top-level members with apiVersion and kind, sorted. What
// is below them is shared, but for metadata, which is converted. O(members + metadata). KL_ENOMEM.
int kl_crd_untyped(struct kl_arena *a, const struct kl_crd_schema *s, const struct kl_value *root,
                   struct kl_value *ret);

// ---- validation
struct kl_crd_check {
    const struct kl_value *now, *old; // roots of the schema's type, defaulted; old NULL: a create
    bool namespaced;
    bool status;                       // through the subresource status
    struct kl_str scale_spec_replicas; // .spec.subresources.scale of the version; empty: none
    struct kl_str scale_status_replicas;
    struct kl_str scale_label_selector;
    // NULL, or where to put what ratcheting lets pass: upstream sends "<field>: <message>" of each
    // as a warning.
    struct kl_findings *warnings;
};
// What is wrong with an object: metadata, schema, embedded metadata, lists, then, when nothing
// keeps them from running, x-kubernetes-validations with upstream's budget; on update with
// ratcheting. Findings live in f->arena, in upstream's order; errors that upstream gives out of a
// Go map's order come in the order of the names. O(object x schema branches), CEL by its budget.
// KL_ENOMEM.
int kl_crd_validate(struct kl_findings *f, const struct kl_crd_schema *s,
                    const struct kl_crd_check *c);
