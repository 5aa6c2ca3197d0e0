// SPDX-License-Identifier: Apache-2.0
// Which resources a controller that deletes must look at: each stored kind once, in the version
// that its group prefers.
#pragma once
#include "object/resource.h"

// The next resource after *it (start with 0) that has all these verbs (bits); NULL at the end.
const struct kl_resource *kl_deletable_next(uint16_t *it, uint32_t verbs);
// Likewise of the kinds that are served only where --runtime-config says so, in the version that
// they are stored in. A server that does not serve one answers KL_ENOTFOUND.
const struct kl_resource *kl_deletable_optional(uint16_t *it, uint32_t verbs);
