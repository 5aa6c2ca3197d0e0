// SPDX-License-Identifier: Apache-2.0
// Condition variables whose waits end after a span of time, whatever happens to the wall clock.
#pragma once
#include <pthread.h>
#include <stdint.h>
#include <time.h>

// pthread_cond_init on the clock that kl_cond_until counts by.
void kl_cond_init(pthread_cond_t *c);
// The deadline for pthread_cond_timedwait `ms` from now; below 0 it is now.
struct timespec kl_cond_until(int64_t ms);
