// SPDX-License-Identifier: Apache-2.0
// A loop: one thread, one uv_loop_t, and a mailbox that other threads post to.
#pragma once
#include "base/err.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct kl_loop;

// A task is embedded in what it works on; it belongs to the mailbox from post until run is called.
struct kl_task {
    struct kl_task *next;
    void (*run)(struct kl_task *);
};

// Makes a loop; `name` (≤ 15 bytes) names its thread. kl_loop_start runs it in a thread of its own;
// kl_loop_run runs it in the caller's until kl_loop_stop.
int kl_loop_new(const char *name, struct kl_loop **ret_loop, struct kl_error *err);
int kl_loop_start(struct kl_loop *l, struct kl_error *err);
void kl_loop_run(struct kl_loop *l);
void kl_loop_stop(struct kl_loop *l);  // any thread: ends the loop after the tasks posted before
void kl_loop_join(struct kl_loop *l);  // waits for the thread of kl_loop_start
void kl_loop_unref(struct kl_loop *l); // after it ended: closes what is left and frees it

uv_loop_t *kl_loop_uv(struct kl_loop *l); // on the loop's own thread only
const char *kl_loop_name(const struct kl_loop *l);
bool kl_loop_is_current(const struct kl_loop *l);
struct kl_loop *kl_loop_current(void); // the loop whose thread this is, or NULL

// Any thread: runs t->run(t) on the loop, in the order of posting by one thread. Never fails,
// never blocks; wakes the loop once for many posts.
void kl_loop_post(struct kl_loop *l, struct kl_task *t);
// This loop only: this iteration has taken 3 ms so far. Work that comes in slices posts the next
// one, or its first, and leaves the rest of the iteration to others.
bool kl_loop_is_late(const struct kl_loop *l);
// This loop only: runs t in this iteration, after the callbacks now running.
void kl_loop_defer(struct kl_loop *l, struct kl_task *t);

// The longest and the number of iterations that kept the loop over 5 ms since start, how many there
// were, and the CPU time of its thread; any thread.
struct kl_loop_stalls {
    int64_t over_5ms, over_25ms, over_100ms, max_us;
    int64_t turns, cpu_us;
};
void kl_loop_get_stalls(const struct kl_loop *l, struct kl_loop_stalls *ret);
