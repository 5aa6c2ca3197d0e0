// SPDX-License-Identifier: Apache-2.0
// metadata.managedFields in the write path: every create, update and patch says there who wrote
// what (upstream's handlers with their FieldManager).
#pragma once
#include "apiserver/request.h"
#include "object/apply/managed.h"

// What the request says about the write. `sub`: the subresource entries are marked with.
struct kl_managed_env kl_track_env(struct kl_req *r);
// On a draft as the client sent it, defaulted, in the version of the request, before anything is
// added to it. Negative: r->fail is set.
int kl_track_create(struct kl_req *r, struct kl_value *draft);
// The same for what is answered and not stored (reviews, TokenRequests), which gets its namespace
// here too, or is refused for another one, and loses what nobody may set.
int kl_track_question(struct kl_req *r, struct kl_value *draft);
// The same for an update or patch of `live`, which is in the version of the request too.
int kl_track_update(struct kl_req *r, const struct kl_object *live, struct kl_value *draft);
// A draft that differs from what is stored only in the times of its entries gets those that are
// stored, so that nothing is written: 1 when it did. `now` is the draft, canonical.
int kl_track_settle(struct kl_req *r, const struct kl_value *old, const struct kl_value *now,
                    struct kl_value *draft);
int kl_track_put(struct kl_req *r, struct kl_value *draft, const struct kl_value *entries);

// Whether the status of a kind's objects is written without anything of their metadata.
bool kl_status_leaves_meta(const struct kl_resource *storage);

// ---- scale: spec.replicas written through autoscaling/v1 Scale. `old` is the object as stored,
// `was` and `is` its Scale before and after. The draft (storage version) gets its entries.
struct kl_managed_env kl_track_scale_env(struct kl_req *r);
// `was` with the entries that a Scale has. NULL: r->fail is set.
struct kl_object *kl_track_scale_shown(struct kl_req *r, const struct kl_value *old,
                                       const struct kl_value *was);
int kl_track_scale(struct kl_req *r, const struct kl_value *old, const struct kl_value *was,
                   const struct kl_value *is, struct kl_value *draft);

// fieldManager and force of a PATCH by its type. Negative: r->fail is set.
int kl_patch_check_options(struct kl_req *r);
// The body of an apply; keys that it has twice are told in *ret_repeated. Negative: r->fail is set.
int kl_apply_parse(struct kl_req *r, struct kl_value *ret, struct kl_str *ret_repeated);
int kl_apply_scale(struct kl_req *r, const struct kl_value *config, const struct kl_value *old,
                   const struct kl_value *was, struct kl_value *draft, int64_t *ret_replicas);
// PATCH with application/apply-patch+yaml.
void kl_registry_apply(struct kl_req *r);
