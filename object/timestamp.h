// SPDX-License-Identifier: Apache-2.0
// RFC 3339 as metav1.Time and MicroTime write it; Go durations; kubectl's human durations.
#pragma once
#include "base/arena.h"
#include "base/err.h"

int kl_time_parse(struct kl_str s, int64_t *ret_us, struct kl_error *err); // any offset, fraction dropped past µs
#define KL_TIME_TEXT 40
size_t kl_time_text(int64_t us, char ret[KL_TIME_TEXT]);       // 2006-01-02T15:04:05Z
size_t kl_microtime_text(int64_t us, char ret[KL_TIME_TEXT]);  // 2006-01-02T15:04:05.000000Z
int kl_duration_parse(struct kl_str s, int64_t *ret_ns);       // Go's time.ParseDuration; KL_EINVALID
size_t kl_duration_text(int64_t ns, char ret[KL_TIME_TEXT]);   // Go's Duration.String
size_t kl_human_duration(int64_t seconds, char ret[KL_TIME_TEXT]); // duration.HumanDuration: 5d3h
