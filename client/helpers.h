// SPDX-License-Identifier: Apache-2.0
// Small things every controller needs: references to objects, owner references, conditions, hashes.
#pragma once
#include "client/client.h"

// Says which object an Event is about. All borrowed.
struct kl_object_ref {
    struct kl_str api_version, kind, ns, name, uid, rv, field_path;
};
struct kl_object_ref kl_ref_of(const struct kl_resource *res, const struct kl_value *root);

// ---- owner references

// An entry for metadata.ownerReferences; strings are borrowed from root.
struct kl_value kl_owner_ref(struct kl_arena *a, const struct kl_resource *res,
                             const struct kl_value *root, bool controller, bool block);
// Whether the object is controlled by the owner with this uid.
bool kl_controlled_by(const struct kl_value *root, struct kl_str uid);

// ---- conditions (status.conditions and the like: structs with `type`)

const struct kl_value *kl_condition_find(const struct kl_value *conditions, const char *type);
bool kl_condition_is(const struct kl_value *conditions, const char *type, const char *status);
// Puts a condition into a draft list: replaces the one of its type or appends it.
void kl_condition_put(struct kl_arena *a, struct kl_value *conditions, struct kl_value condition);
void kl_condition_drop(struct kl_arena *a, struct kl_value *conditions, const char *type);

// ---- drafts

void kl_set_str(struct kl_arena *a, struct kl_value *parent, kl_sym field, struct kl_str s);
void kl_set_z(struct kl_arena *a, struct kl_value *parent, kl_sym field, const char *z);
void kl_set_int(struct kl_arena *a, struct kl_value *parent, kl_sym field, int64_t i);
// An entry of metadata.annotations or metadata.labels of a draft object.
void kl_set_annotation(struct kl_arena *a, struct kl_value *root, const char *key,
                       struct kl_str value);
void kl_set_label(struct kl_arena *a, struct kl_value *root, const char *key, struct kl_str value);
struct kl_str kl_annotation(const struct kl_value *root, const char *key); // "" when absent

// ---- hashes

// FNV-1a over a tree; equal trees (maps in any order, absent and empty alike) hash equally, in
// every process and version.
uint32_t kl_value_hash(const struct kl_value *v);
// The label pod-template-hash: the template's hash with the collision count (-1: none), in
// Kubernetes' safe alphabet (rand.SafeEncodeString of the decimal).
struct kl_str kl_pod_template_hash(struct kl_arena *a, const struct kl_value *pod_template,
                                   int64_t collision_count);

// ---- int-or-string: 3 or "25%" of total, rounded up or down; -1 when it is neither.
int64_t kl_int_or_percent(const struct kl_value *v, int64_t total, bool round_up);
