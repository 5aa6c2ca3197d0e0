// SPDX-License-Identifier: Apache-2.0
// When a CronJob is due (upstream: pkg/controller/cronjob/utils.go). Times are seconds since 1970.
#pragma once
#include "client/helpers.h"
#include "object/cron.h"

#define KL_CRONJOB_NONE INT64_MIN // no such time

bool kl_cronjob_has_zone(struct kl_str schedule); // "TZ=..." in it: of old, not supported
// Its schedule in its time zone; on success to be finished.
int kl_cronjob_schedule(struct kl_arena *a, const struct kl_value *root, struct kl_cron *ret,
                        struct kl_error *err);
// The last time up to now at which it was due, KL_CRONJOB_NONE: none; *ret_missed: how many there
// were before that one; *ret_earliest: since when they count. with_deadline: not what is past its
// startingDeadlineSeconds. KL_EINVALID: a schedule that has no times.
int kl_cronjob_recent(const struct kl_value *root, int64_t last_schedule,
                      const struct kl_cron *cron, int64_t now, bool with_deadline,
                      int64_t *ret_recent, int64_t *ret_missed, int64_t *ret_earliest,
                      struct kl_error *err);
// How long until it is to be looked at again; -1: no time comes.
int64_t kl_cronjob_next_ms(const struct kl_value *root, int64_t last_schedule,
                           const struct kl_cron *cron, int64_t now_ms);
