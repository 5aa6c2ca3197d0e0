// SPDX-License-Identifier: Apache-2.0
// The table of leases, as what is asked for (lease_work.c) uses it.
#pragma once
#include "store/store_int.h"

enum {
    MIN_TTL_S = 1,
    RETRY_MS = 1000,
    // A renewal is stored as a deadline that is so much later than what it promises, so that the
    // next ones need not be stored: after a restart a lease may live so much longer, but never for
    // more than its TTL.
    AHEAD_MS = 60000,
    DUE_MS = AHEAD_MS / 2, // stored again with the next batch from then on
    DUE_MAX = 500,         // in one batch
};

static inline bool kl_lease_is_alarm(const struct kl_lease *l)
{
    return l->ttl_ms > KL_LEASE_MAX_TTL * 1000;
}
struct kl_lease *kl_lease_find(struct kl_store *s, int64_t id);
struct kl_lease *kl_lease_add(struct kl_store *s, int64_t id); // pending; NULL: no memory
void kl_lease_drop(struct kl_store *s, struct kl_lease *l);
// Who keeps them (store/backend.h); with KL_KEEPER_SELF a lease ends by what is in memory.
enum kl_keeper kl_lease_keeper(const struct kl_store *s);
void kl_lease_place(struct kl_store *s, struct kl_lease *l, int64_t deadline_mono_ms);
int64_t kl_lease_left_ms(struct kl_store *s, const struct kl_lease *l);
void kl_lease_heap_add(struct kl_leases *h, struct kl_lease *l);
void kl_lease_heap_fix(struct kl_leases *h, size_t i);
void kl_lease_heap_remove(struct kl_leases *h, struct kl_lease *l);
void kl_lease_enter_due(struct kl_store *s, struct kl_lease *l);
void kl_lease_leave_due(struct kl_lease *l);
