// SPDX-License-Identifier: Apache-2.0
#include "controllers/cronjob.h"

enum { DELAY_MS = 100 }; // after the minute has begun: clocks differ

bool kl_cronjob_has_zone(struct kl_str schedule)
{
    return memmem(schedule.p, schedule.n, "TZ", 2) != NULL;
}

int kl_cronjob_recent(const struct kl_value *root, int64_t last_schedule,
                      const struct kl_cron *cron, int64_t now, bool with_deadline,
                      int64_t *ret_recent, int64_t *ret_missed, int64_t *ret_earliest,
                      struct kl_error *err)
{
    const struct kl_value *deadline = kl_path(root, KL_F_spec, KL_F_startingDeadlineSeconds);
    int64_t created = kl_int_at(root, 0, KL_F_metadata, KL_F_creationTimestamp) / 1000000;
    int64_t earliest = last_schedule != KL_CRONJOB_NONE ? last_schedule : created;
    if (with_deadline && deadline && now - kl_int_or(deadline, 0) > earliest)
        earliest = now - kl_int_or(deadline, 0);
    *ret_recent = KL_CRONJOB_NONE;
    *ret_missed = 0;
    *ret_earliest = earliest;
    int64_t first = kl_cron_next(cron, earliest), second;
    if (first >= 0 && now < first)
        return 0;
    second = first >= 0 ? kl_cron_next(cron, first) : -1;
    if (second >= 0 && now < second) {
        *ret_recent = first;
        return 0;
    }
    if (second - first < 1) // the 31st of February, too
        return kl_error_set(err, KL_EINVALID,
                            "time difference between two schedules is less than 1 second");
    *ret_missed = (now - first) / (second - first) + 1;
    // From near the last one on: to walk through all of a year's minutes would take long.
    int64_t t = first + (*ret_missed - 2) * (second - first);
    while ((t = kl_cron_next(cron, t)) >= 0 && t <= now)
        *ret_recent = t;
    return 0;
}

int64_t kl_cronjob_next_ms(const struct kl_value *root, int64_t last_schedule,
                           const struct kl_cron *cron, int64_t now_ms)
{
    int64_t recent, missed, earliest, now = now_ms / 1000;
    if (kl_cronjob_recent(root, last_schedule, cron, now, false, &recent, &missed, &earliest, NULL))
        recent = now;
    else if (recent == KL_CRONJOB_NONE)
        recent = missed ? now : earliest;
    int64_t next = kl_cron_next(cron, recent);
    return next < 0 ? -1 : next * 1000 + DELAY_MS - now_ms;
}

int kl_cronjob_schedule(struct kl_arena *a, const struct kl_value *root, struct kl_cron *ret,
                        struct kl_error *err)
{
    struct kl_str text = kl_text_at(root, KL_F_spec, KL_F_schedule);
    struct kl_str zone = kl_text_at(root, KL_F_spec, KL_F_timeZone);
    if (zone.n && !kl_cronjob_has_zone(text))
        text = kl_arena_printf(a, "TZ=%.*s %.*s", KL_PRI(zone), KL_PRI(text));
    return kl_cron_parse(text, ret, err);
}
