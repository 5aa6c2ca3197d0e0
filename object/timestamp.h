// SPDX-License-Identifier: Apache-2.0
// RFC 3339 as metav1.Time and MicroTime write it; Go durations; kubectl's human durations.
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

// Go's zero time, 0001-01-01T00:00:00Z: what a metav1.Time that is not set holds. JSON shows it as
// null; a draft leaves it out unless the field is a pointer.
#define KL_TIME_ZERO_US INT64_C(-62135596800000000)

// As time.Parse with RFC3339: any offset, fraction dropped past µs. KL_EBADREQUEST, Go's wording.
int kl_time_parse(struct kl_str s, int64_t *ret_us, struct kl_error *err);
// As time.Parse with metav1.RFC3339Micro: a fraction of at least six digits must be there.
int kl_microtime_parse(struct kl_str s, int64_t *ret_us, struct kl_error *err);
#define KL_TIME_TEXT 40
size_t kl_time_text(int64_t us, char ret[KL_TIME_TEXT]);      // 2006-01-02T15:04:05Z
size_t kl_microtime_text(int64_t us, char ret[KL_TIME_TEXT]); // 2006-01-02T15:04:05.000000Z
int kl_duration_parse(struct kl_str s, int64_t *ret_ns); // Go's time.ParseDuration; KL_EINVALID
// What time.ParseDuration says of a text that it refuses.
void kl_duration_complaint(struct kl_buf *out, struct kl_str text);
size_t kl_duration_text(int64_t ns, char ret[KL_TIME_TEXT]);       // Go's Duration.String
size_t kl_human_duration(int64_t seconds, char ret[KL_TIME_TEXT]); // duration.HumanDuration: 5d3h
