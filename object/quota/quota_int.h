// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "object/quota/quota.h"

// podComputeUsageHelper: requests and limits under the names that quotas have for them.
void kl_quota_pod_names(struct kl_amounts *l, const struct kl_amounts *requests,
                        const struct kl_amounts *limits);
