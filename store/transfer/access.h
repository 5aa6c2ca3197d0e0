// SPDX-License-Identifier: Apache-2.0
// An open store from a thread that may block: a loop and a reader of its own, and calls that wait.
// One thread at a time.
#pragma once
#include "store/store.h"
#include <semaphore.h>

struct kl_access {
    struct kl_store *store;
    struct kl_loop *loop;
    struct kl_reader *reader;
    sem_t done;
    struct kl_task task;
    void (*fn)(struct kl_access *a);
    int code;
    struct kl_error err;
    struct kl_view *view;
};

int kl_access_open(struct kl_access *a, struct kl_store *store, struct kl_error *err);
void kl_access_close(struct kl_access *a);
// Runs fn on the loop; returns once somebody calls kl_access_done there, with the code it gave.
int kl_access_call(struct kl_access *a, void (*fn)(struct kl_access *a), struct kl_error *err);
void kl_access_done(struct kl_access *a, int code);

// The newest view: a reference.
int kl_access_view(struct kl_access *a, struct kl_view **ret_v, struct kl_error *err);
struct kl_access_lease {
    int64_t id, ttl_ms, remaining_ms;
};
// All leases there are, alarms too (store/lease.h), by id; the caller frees.
int kl_access_leases(struct kl_access *a, struct kl_access_lease **ret, size_t *ret_n,
                     struct kl_error *err);
// The newest revision that anybody had written when this was called: an empty transaction.
int kl_access_head(struct kl_access *a, kl_rev *ret_rev, struct kl_error *err);
