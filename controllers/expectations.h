// SPDX-License-Identifier: Apache-2.0
// What a controller has asked for and not yet seen in its informers (client-go's
// UIDTrackingControllerExpectations): until then its picture is stale and it must not act on it.
// Expectations not met within five minutes are given up. Pure.
#pragma once
#include "base/map.h"

struct kl_expectations {
    struct kl_map map; // owner key → struct expected
};
#define KL_EXPECTATIONS_MS (5 * 60 * 1000)

void kl_expectations_init(struct kl_expectations *e);
void kl_expectations_fini(struct kl_expectations *e);
void kl_expect_creations(struct kl_expectations *e, struct kl_str owner, int n, int64_t now_ms);
// Call before the delete of each; `fresh` with the first of a round forgets what was before.
void kl_expect_deletion(struct kl_expectations *e, struct kl_str owner, struct kl_str uid,
                        bool fresh, int64_t now_ms);
void kl_expectations_created(struct kl_expectations *e, struct kl_str owner);
void kl_expectations_deleted(struct kl_expectations *e, struct kl_str owner, struct kl_str uid);
void kl_expectations_drop(struct kl_expectations *e, struct kl_str owner);
bool kl_expectations_met(const struct kl_expectations *e, struct kl_str owner, int64_t now_ms);
