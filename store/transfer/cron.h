// SPDX-License-Identifier: Apache-2.0
// Schedules as cron has them: minute, hour, day of the month, month, day of the week; each *, a
// number, a range, a list, with /STEP; names of months and days; @hourly, @daily, @midnight,
// @weekly, @monthly, @yearly, @annually; when both days are given either may match.
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct kl_cron {
    uint64_t minutes;
    uint32_t hours, days, months, weekdays; // bit n: n may match
    bool any_day, any_weekday;
};

// KL_EINVALID names the field that cannot be read.
int kl_cron_parse(const char *text, struct kl_cron *ret, struct kl_error *err);
// The first matching minute after t, in local time; -1 when there is none within five years.
time_t kl_cron_next(const struct kl_cron *c, time_t t);
