// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "object/quota/quota.h"

// ---- names.c: lists of names, sorted, each once
struct kl_quota_names {
    struct kl_str *v;
    size_t n, cap;
};
int kl_quota_names_add(struct kl_arena *a, struct kl_quota_names *l, struct kl_str s); // KL_ENOMEM
struct kl_str kl_quota_names_joined(struct kl_arena *a, const struct kl_quota_names *l); // "a,b"

// scope.c: whether a scope of a quota holds for the object. selector NULL: it is only named.
bool kl_quota_scope_holds(const struct kl_quota_meter *m, struct kl_str scope,
                          const struct kl_value *selector, const struct kl_value *object);

// ---- limited.c
// `used` is of the object. 0, KL_QUOTA_EXCEEDS, KL_QUOTA_UNCOVERED with w->why, or KL_ENOMEM.
int kl_quota_check_limited(struct kl_arena *a, struct kl_quota_write *w,
                           const struct kl_amounts *used);

// podComputeUsageHelper: requests and limits under the names that quotas have for them.
void kl_quota_pod_names(struct kl_amounts *l, const struct kl_amounts *requests,
                        const struct kl_amounts *limits);
