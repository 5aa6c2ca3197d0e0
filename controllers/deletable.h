// SPDX-License-Identifier: Apache-2.0
// Which built-in resources the API server serves, --runtime-config taken into account: for
// controllers that look after every kind. Custom kinds come by kinds.h.
#pragma once
#include "controllers/controllers_int.h"

bool kl_is_served_kind(const struct kl_controller_env *env, const struct kl_resource *res);
// The next resource after *it (start with 0) that has all these verbs (bits), each stored kind
// once, in the version that its group prefers; NULL at the end.
const struct kl_resource *kl_deletable_next(const struct kl_controller_env *env, uint16_t *it,
                                            uint32_t verbs);
// The row of a kind in a version that is not served by default but is here; NULL: none.
const struct kl_resource *kl_optional_kind(const struct kl_controller_env *env, struct kl_str group,
                                           struct kl_str version, struct kl_str kind);
