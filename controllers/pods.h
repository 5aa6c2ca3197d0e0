// SPDX-License-Identifier: Apache-2.0
// What controllers read from a pod, and in which order they give pods up. Pure.
#pragma once
#include "client/helpers.h"

bool kl_pod_terminal(const struct kl_value *pod);    // phase Succeeded or Failed
bool kl_pod_active(const struct kl_value *pod);      // not terminal, not being deleted
bool kl_pod_terminating(const struct kl_value *pod); // being deleted, not terminal
bool kl_pod_ready(const struct kl_value *pod);
int64_t kl_pod_ready_since_us(const struct kl_value *pod); // 0: not ready, or no time
// Ready for at least min_ready_s.
bool kl_pod_available(const struct kl_value *pod, int64_t min_ready_s, int64_t now_us);

// Sorts so that those to be deleted first come first (upstream's ActivePodsWithRanks). rank[i] is
// the number of related active pods on the node of pods[i]. KL_ENOMEM.
int kl_pods_sort_for_deletion(const struct kl_value **pods, const int *rank, size_t n,
                              int64_t now_us);
// A pod (draft) made from a template: labels, annotations, finalizers, generateName "owner-".
struct kl_value kl_pod_from_template(struct kl_arena *a, const struct kl_value *pod_template,
                                     const struct kl_resource *owner_res,
                                     const struct kl_value *owner);

// An index of pods without a controller, by namespace.
struct kl_str kl_index_orphans(const struct kl_value *root);

// Nothing can be made where its namespace is going away: no failure of who wanted to.
bool kl_is_namespace_terminating(const struct kl_error *err);
