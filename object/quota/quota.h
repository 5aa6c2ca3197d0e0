// SPDX-License-Identifier: Apache-2.0
// ResourceQuotas: what an object uses of them, which ones it falls under, and whether there is room
// (kubernetes pkg/quota/v1/evaluator, apiserver pkg/admission/plugin/resourcequota). The API server
// charges with it, the controller counts with it. Pure: any loop. Roots may be drafts.
#pragma once
#include "object/quota/amounts.h"

enum kl_quota_kind {
    KL_QUOTA_COUNT, // nothing but how many there are
    KL_QUOTA_PODS,
    KL_QUOTA_SERVICES,
    KL_QUOTA_CLAIMS,        // PersistentVolumeClaims
    KL_QUOTA_DEVICE_CLAIMS, // ResourceClaims
};

// How a resource is measured.
struct kl_quota_meter {
    enum kl_quota_kind kind;
    struct kl_str count_name; // "count/deployments.apps", in the arena
    const char *alias;        // "configmaps", or NULL
};

// False when quotas do not count this resource (events, reviews). KL_ENOMEM shows as count_name.p
// NULL.
bool kl_quota_meter_of(struct kl_arena *a, struct kl_str group, struct kl_str plural,
                       struct kl_quota_meter *ret);
// Whether a name of a quota's `hard` is measured by this meter (MatchingResources).
bool kl_quota_measures(const struct kl_quota_meter *m, struct kl_str name);
// What the object uses; now_us is for pods whose end is overdue.
void kl_quota_usage(struct kl_amounts *l, struct kl_arena *a, const struct kl_quota_meter *m,
                    const struct kl_value *object, int64_t now_us);
// Whether the object is within all scopes of the quota (its spec).
bool kl_quota_in_scope(const struct kl_quota_meter *m, const struct kl_value *quota_spec,
                       const struct kl_value *object);
// Whether a pod counts as terminating (spec.activeDeadlineSeconds).
bool kl_quota_pod_terminating(const struct kl_value *pod);

// ---- a write that must fit
enum kl_quota_verdict {
    KL_QUOTA_FITS,     // `used` of the quotas with `charged` is what they have after the write
    KL_QUOTA_EXCEEDS,  // `why` says what: the text behind `is forbidden: `
    KL_QUOTA_UNCOVERED // likewise: a scope is limited, and no quota has it
};
// What may only be used where a quota covers it (LimitedResource of the configuration).
struct kl_quota_limited {
    struct kl_str group, plural;
    const struct kl_str *contains; // parts of names of what is used
    size_t ncontains;
    const struct kl_value *scopes; // list of ScopedResourceSelectorRequirement, or NULL
};
struct kl_quota_charge {
    const struct kl_value *quota; // a ResourceQuota's root
    bool charged;
    struct kl_amounts used;
    // while reckoning
    bool interesting;
    struct kl_amounts delta;
};
struct kl_quota_write {
    struct kl_quota_meter meter;
    struct kl_str group, plural;         // for `limited`
    const struct kl_value *object, *old; // old NULL on create
    bool status;                         // a write of status is charged but never refused
    int64_t now_us;
    struct kl_quota_charge *quotas; // all of the namespace
    size_t nquotas;
    const struct kl_quota_limited *limited;
    size_t nlimited;
    struct kl_str why;
};
// CheckRequest. KL_ENOMEM, else a verdict.
int kl_quota_check(struct kl_arena *a, struct kl_quota_write *w);
