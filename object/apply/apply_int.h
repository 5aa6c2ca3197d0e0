// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "object/apply/managed_int.h"
#include "object/gotext_int.h"

// One apply on its way.
struct kl_apply {
    const struct kl_managed_env *env;
    struct kl_error *err;
    struct kl_managed *managed; // all sets read
    struct kl_manager who;
    struct kl_tree live; // untyped
    struct kl_value config;
    bool force;
    // what came of it
    bool changed;
    struct kl_value result;
    struct kl_managed conflicts;
};
// 0, KL_ECONFLICT with `conflicts`, or a failure. On a conflict the managers are not to be used.
int kl_apply_step(struct kl_apply *p);
// Fills the message and the list; KL_ECONFLICT.
int kl_apply_list(struct kl_apply *p, struct kl_apply_result *ret);
