// SPDX-License-Identifier: Apache-2.0
// Cron schedules as Kubernetes reads them (github.com/robfig/cron/v3, ParseStandard): minute, hour,
// day of the month, month, day of the week; each * or ?, a number, a range, a list, with /STEP;
// names of months and days; @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually,
// @every DURATION; in front TZ=ZONE or CRON_TZ=ZONE. When both days are given either may match.
#pragma once
#include "object/zone.h"

struct kl_cron {
    uint64_t minutes, hours, days, months, weekdays; // bit n: n matches
    bool any_day, any_weekday;
    int64_t every_s; // of @every; else 0
    struct kl_zone *zone;
};

// KL_EINVALID in that library's words. On success it must be finished.
int kl_cron_parse(struct kl_str text, struct kl_cron *ret, struct kl_error *err);
void kl_cron_fini(struct kl_cron *c);
// The first time after t (seconds since 1970); -1 when there is none within five years.
int64_t kl_cron_next(const struct kl_cron *c, int64_t t);
