// SPDX-License-Identifier: Apache-2.0
// How the priority levels share the server's seats (apiserver/pkg/util/flowcontrol): pure
// functions.
#pragma once
#include "apiserver/fairness/queueset.h"

struct kl_share {
    double target, lower, upper; // lower <= target, lower <= upper
};
// Seats for each so that they add up to `sum`, in proportion to the targets within the bounds.
// False: there is no such. *ret_fair: the proportion.
bool kl_shares_allocate(int sum, const struct kl_share *in, size_t n, double *ret,
                        double *ret_fair);

// One level; nominal, min and max are by its specification.
struct kl_level_share {
    bool exempt;
    int nominal, min, max, current;
    // of the demand in the last period
    int high_watermark;
    double average, deviation, smoothed, target;
};
// Takes the demand of the period that ended into account.
void kl_level_share_demand(struct kl_level_share *l, const struct kl_fq_demand *d);
// Sets `current` of each. `nominal_sum` is that of all levels. `work` has room for n shares and
// doubles. *ret_fair: 0 when no allocation was made.
void kl_level_shares_adjust(struct kl_level_share **l, size_t n, int nominal_sum,
                            struct kl_share *work, double *work2, double *ret_fair);

// Retry-After by what was refused lately (dropped_requests_tracker.go).
#define KL_DROPS_HISTORY 64
struct kl_drops {
    struct {
        int64_t second, n;
    } history[KL_DROPS_HISTORY];
    int nhistory;
    int64_t second, count, retry_after, updated;
};
void kl_drops_init(struct kl_drops *d);
void kl_drops_note(struct kl_drops *d, int64_t unix_s);
