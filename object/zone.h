// SPDX-License-Identifier: Apache-2.0
// Time zones of the IANA database, read from the machine's zoneinfo (RFC 9636), and the civil time
// in them, as Go's time package reckons. libc knows one zone for each process only.
#pragma once
#include "base/err.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

struct kl_zone; // immutable; any thread

// "" and "UTC" need no file; "Local" is what TZ or /etc/localtime says, else UTC. KL_EINVALID
// "unknown time zone NAME" or "time: invalid location name", KL_ENOMEM.
int kl_zone_load(struct kl_str name, struct kl_zone **ret, struct kl_error *err);
// A zone from the text of such a file.
int kl_zone_read(struct kl_str tzif, struct kl_zone **ret, struct kl_error *err);
void kl_zone_free(struct kl_zone *z); // accepts NULL

// Seconds east of UTC at t (seconds since 1970).
int32_t kl_zone_offset(const struct kl_zone *z, int64_t t);

struct kl_civil {
    int64_t year;
    int month, day, hour, minute, second; // 1.., 1.., 0..; out of range is carried over
    int weekday;                          // 0: Sunday; written only
};
struct kl_civil kl_zone_civil(const struct kl_zone *z, int64_t t);
// A time that the clock does not show is moved by the hour it skips; of two, the first one is taken
// or the second, as Go does.
int64_t kl_zone_time(const struct kl_zone *z, struct kl_civil c);
