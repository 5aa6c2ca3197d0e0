// SPDX-License-Identifier: Apache-2.0
// Validation of CustomResourceDefinitions. Schemas are walked as typed trees.
#pragma once
#include "object/crd/cel_int.h"
#include "object/crd/definition.h"
#include "object/validate/validate_int.h"

enum {
    CRD_COST_SHARE = KL_CEL_ESTIMATE_TOTAL / 100, // a rule that costs less is not told of
    CRD_EXPENSIVE_MAX = 4,
    CRD_SELECTABLE_MAX = 8,
};

struct crd_expensive {
    struct kl_str path;
    uint64_t cost;
};

// What upstream's validationOptions say: older definitions may keep what is refused today.
struct crd_options {
    bool need_review_version, fixed_names, need_schema, need_valid_types, need_structural;
    bool need_pruned_defaults, need_atomic_sets, need_map_keys, any_bundle;
};

struct crd_definition {
    struct kl_findings *f;
    const struct kl_value *spec, *old_spec;
    struct crd_options opt;
    // What all versions have alike counts as the definition's own: so upstream's internal form.
    bool one_schema, one_subresources, one_columns, one_selectable;
    int err;
};

#define CP(u, text) (&(struct crd_path){.up = (u), .name = KL_STR(text)})
#define CK(u, k) (&(struct crd_path){.up = (u), .name = (k), .key = true})
#define CI(u, i) (&(struct crd_path){.up = (u), .index = (uint32_t)(i)})

void crd_required(struct kl_findings *f, const struct crd_path *p, const char *detail);
void crd_forbidden(struct kl_findings *f, const struct crd_path *p, const char *detail);
void crd_invalid(struct kl_findings *f, const struct crd_path *p, struct kl_str value,
                 const char *fmt, ...) __attribute__((format(printf, 4, 5))); // value is quoted
void crd_unsupported(struct kl_findings *f, const struct crd_path *p, struct kl_str value,
                     const char *const *supported);

// A member that is not zero.
const struct kl_value *crd_member_set(const struct kl_value *s, kl_sym field);
static inline const struct kl_value *crd_schema_part(const struct kl_value *s, kl_sym field)
{
    const struct kl_value *v = kl_get(s, field);
    return kl_is(v, KL_STRUCT) ? v : NULL; // of items, additionalProperties
}
// Calls fn for the schema and all below it until it answers true.
bool crd_schema_has(const struct kl_value *s, bool (*fn)(const struct kl_value *s, void *ctx),
                    void *ctx);

// ValidateStructural; findings in the order of their texts.
int crd_check_structural(struct kl_findings *f, const struct kl_value *schema,
                         const struct crd_path *path);
// ValidateDefaults.
int crd_check_defaults(struct kl_findings *f, struct kl_crd_schema *s, const struct crd_path *path,
                       bool need_pruned);
bool crd_unpruned_defaults(struct kl_arena *a, const struct kl_value *schema);
// validateCustomResourceDefinitionValidation of one schema.
void crd_check_schema(struct crd_definition *d, const struct kl_value *schema,
                      const struct crd_path *path, bool status, bool any_cost);
void crd_check_map_keys(struct kl_findings *f, const struct kl_value *s,
                        const struct crd_path *path);

// ---- parts
const struct kl_value *crd_version_schema(const struct kl_value *version); // openAPIV3Schema
// The messages of a name, joined; empty: it is well formed.
struct kl_str crd_joined(struct kl_arena *a, enum kl_v_format format, struct kl_str s);
struct kl_str crd_lower(struct kl_arena *a, struct kl_str s); // ASCII
void crd_check_subresources(struct crd_definition *d, const struct kl_value *subs,
                            const struct crd_path *p);
void crd_check_columns(struct crd_definition *d, const struct kl_value *list,
                       const struct crd_path *p);
void crd_check_selectable(struct crd_definition *d, const struct kl_value *version,
                          const struct kl_value *old, const struct crd_path *p);
void crd_check_deprecation(struct crd_definition *d, const struct kl_value *v,
                           const struct crd_path *up);
void crd_check_conversion(struct crd_definition *d, const struct crd_path *p);
bool crd_is_bundle(struct kl_str s); // a certificate in PEM, as far as its armour says
bool crd_knows_review(struct kl_str version);
