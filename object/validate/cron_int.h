// SPDX-License-Identifier: Apache-2.0
// Schedules of CronJobs: NULL when good, else what is wrong (in the arena or constant).
#pragma once
#include "object/validate/validate_int.h"

const char *kl_cron_error(struct kl_v *c, struct kl_str schedule);
// Looks into /usr/share/zoneinfo when there is one.
const char *kl_zone_error(struct kl_v *c, struct kl_str zone);
