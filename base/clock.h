// SPDX-License-Identifier: Apache-2.0
// The two clocks: one for durations, one for what is shown and stored.
#pragma once
#include <stdint.h>

int64_t kl_mono_ms(void); // CLOCK_BOOTTIME; timers and deadlines within the process
int64_t kl_mono_ns(void);
int64_t kl_wall_ms(void); // CLOCK_REALTIME since 1970
int64_t kl_wall_ns(void);
