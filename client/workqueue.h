// SPDX-License-Identifier: Apache-2.0
// A queue of keys to work on, as client-go's workqueue: a key waits at most once, is never worked
// on twice at the same time (one added meanwhile waits until it is done), can be added after a
// delay, and after failures with an exponential back-off of its own. One loop.
#pragma once
#include "base/str.h"
#include "client/timers.h"

struct kl_workqueue;

// ready_cb is called when the queue has something to get, at least once for each time that happens;
// it must not call back into the queue but to get and done.
struct kl_workqueue *kl_workqueue_new(struct kl_timers *ts, void (*ready_cb)(void *arg), void *arg);
// Counts as upstream's workqueue_* under this name, which is copied.
void kl_workqueue_count(struct kl_workqueue *q, const char *name);
void kl_workqueue_free(struct kl_workqueue *q); // accepts NULL

// Back-off of kl_workqueue_add_rate_limited: base * 2^failures, at most max. [5 ms, 1000 s]
void kl_workqueue_set_backoff(struct kl_workqueue *q, int64_t base_ms, int64_t max_ms);

void kl_workqueue_add(struct kl_workqueue *q, struct kl_str key);
// Several delays of one key: the earliest counts. 0 or less: at once.
void kl_workqueue_add_after(struct kl_workqueue *q, struct kl_str key, int64_t delay_ms);
void kl_workqueue_add_rate_limited(struct kl_workqueue *q, struct kl_str key);
void kl_workqueue_forget(struct kl_workqueue *q, struct kl_str key); // its failures
int kl_workqueue_failures(const struct kl_workqueue *q, struct kl_str key);

// Takes the next key; it stays "in work" until kl_workqueue_done. The key lives until then.
bool kl_workqueue_get(struct kl_workqueue *q, struct kl_str *ret_key);
void kl_workqueue_done(struct kl_workqueue *q, struct kl_str key);
size_t kl_workqueue_len(const struct kl_workqueue *q); // waiting, not counting delayed ones
