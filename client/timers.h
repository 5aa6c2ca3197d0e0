// SPDX-License-Identifier: Apache-2.0
// Time as controllers see it: two clocks and any number of timers, on a loop or in virtual time.
// Everything with logic in time takes a kl_timers, so that a test turns the clock by hand.
//
// All of it belongs to one loop. A timer's callback comes from the loop (or kl_timers_advance),
// never from within kl_timer_set.
#pragma once
#include "base/err.h"
#include "base/loop.h"
#include "base/str.h" // KL_CONTAINER_OF, for owners of timers

struct kl_timers;

// Embedded in its owner, zeroed, cb filled in.
struct kl_timer {
    void (*cb)(struct kl_timer *t);
    int64_t at_ms;
    uint64_t seq;  // first set, first run, among equals
    uint32_t slot; // position in the heap + 1; 0: not set
};

// On a loop: real time. KL_ENOMEM.
int kl_timers_new(struct kl_loop *loop, struct kl_timers **ret, struct kl_error *err);
// Virtual time, standing still until kl_timers_advance. NULL when memory ran out.
struct kl_timers *kl_timers_new_virtual(int64_t wall_us);
void kl_timers_free(struct kl_timers *ts); // timers still set never run; accepts NULL

int64_t kl_timers_now_ms(const struct kl_timers *ts);  // monotonic
int64_t kl_timers_wall_us(const struct kl_timers *ts); // since 1970

// Sets or moves a timer. A time not later than now means: soon.
void kl_timer_set(struct kl_timers *ts, struct kl_timer *t, int64_t at_ms);
void kl_timer_after(struct kl_timers *ts, struct kl_timer *t, int64_t delay_ms);
void kl_timer_cancel(struct kl_timers *ts, struct kl_timer *t);
static inline bool kl_timer_is_set(const struct kl_timer *t)
{
    return t->slot != 0;
}

// Virtual time only: lets `ms` pass, running what falls due in order, each at its own instant.
void kl_timers_advance(struct kl_timers *ts, int64_t ms);
// Milliseconds until the earliest timer; -1 when none is set.
int64_t kl_timers_next_ms(const struct kl_timers *ts);
