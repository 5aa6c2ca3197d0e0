// SPDX-License-Identifier: Apache-2.0
// Rows of object/resource.h made at run time from a CustomResourceDefinition: one for each of its
// versions, together a family. A family is immutable and counted; whoever uses one of its rows
// beyond a call holds a reference (any thread).
//
// A plain family has names only: enough for discovery. A compiled one has the schemas, and its rows
// serve like built-in ones. Objects of custom kinds are looked at in the version of the request;
// the storage version matters only where they are written to the store and read from it.
#pragma once
#include "base/buf.h"
#include "object/crd/conversion.h"
#include "object/crd/crd.h"
#include "object/crd/jsonpath.h"
#include "object/resource.h"

#define KL_RES_CUSTOM UINT16_MAX // index of a row that is no built-in's

struct kl_custom_family;

struct kl_custom_path { // a simple JSONPath: .spec.replicas
    struct kl_str text; // without the leading dot; empty: there is none
    struct kl_str *elem;
    size_t n;
};

// What the row of a version has beyond a built-in's.
struct kl_custom {
    struct kl_custom_family *family;
    struct kl_crd_schema *schema; // NULL where the family is not compiled
    const char *list_kind;
    const char *warning; // of a deprecated version, else NULL
    bool served, status, scale;
    struct kl_custom_path spec_replicas, status_replicas, label_selector;
    const struct kl_custom_path *fields; // selectable
    const struct kl_custom_column *columns;
    uint16_t nfields, ncolumns;
    const char *columns_json; // columnDefinitions of a Table; NULL where not compiled
    const char *fields_json;  // selectableFields of the definition, "": none
};

struct kl_custom_family {
    atomic_uint refs;
    struct kl_arena arena;
    const char *name; // "widgets.example.com"
    const char *uid;
    int64_t generation;
    struct kl_resource *rows; // in the order of spec.versions, those that are not served too
    uint16_t nrows;
    const struct kl_resource *storage;
    bool webhook; // spec.conversion.strategy is Webhook, not None
    // Then, in a compiled family: how to call it, and with what.
    struct kl_value client_config;    // typed WebhookClientConfig
    enum kl_conversion_review review; // NONE: it understands none that is known
};

// From a typed CustomResourceDefinition root whose names were accepted. One reference. KL_EINVALID
// when a schema cannot be compiled, KL_ENOMEM.
int kl_custom_family_new(const struct kl_value *crd, bool compile, struct kl_custom_family **ret,
                         struct kl_error *err);
struct kl_custom_family *kl_custom_family_ref(struct kl_custom_family *f); // NULL in, NULL out
void kl_custom_family_unref(struct kl_custom_family *f);                   // accepts NULL
// The row of a version, served or not; NULL: there is no such.
const struct kl_resource *kl_custom_row(const struct kl_custom_family *f, struct kl_str version);

static inline bool kl_is_custom(const struct kl_resource *r)
{
    return r->custom != NULL;
}

// ---- what the rows' users ask; `res` is custom and compiled
void kl_custom_cells(struct kl_buf *out, const struct kl_resource *res, const struct kl_value *root,
                     int64_t now_us);
// The value of a selectable field (its path without the leading dot) as text; false: no such field.
bool kl_custom_field(struct kl_arena *a, const struct kl_resource *res, struct kl_str name,
                     const struct kl_value *root, struct kl_str *ret);
bool kl_custom_has_field(const struct kl_resource *res, struct kl_str name);
// Sets what .spec.subresources.scale.specReplicasPath leads to in a draft. KL_ENOMEM.
int kl_custom_set_replicas(struct kl_arena *a, const struct kl_resource *res,
                           struct kl_value *draft, int64_t replicas);
// Conversion None, between two rows of a family: apiVersion changes, and what the other version's
// schema does not have goes. The result may refer to `in`.
int kl_custom_convert(struct kl_arena *a, const struct kl_resource *from,
                      const struct kl_resource *to, const struct kl_value *in, struct kl_value *ret,
                      struct kl_error *err);

// version.CompareKubeAwareVersionStrings: v2 > v1 > v1beta2 > v1beta1 > v1alpha1 > others.
int kl_version_compare(const char *a, const char *b);
