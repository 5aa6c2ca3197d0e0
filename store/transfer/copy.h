// SPDX-License-Identifier: Apache-2.0
// One store copied into another: what `kinglet migrate` and `kinglet snapshot restore` do. Blocks.
#pragma once
#include "store/transfer/source.h"

struct kl_store_copy_progress {
    int64_t rows, total, bytes; // total: 0 not known yet; grows while following
    kl_rev rev, head;           // following: copied up to, and where the source is
    bool following;
};

// What is copied: asked for a source that begins where the target says.
struct kl_store_copy_origin {
    void *arg;
    // Identity and newest revision, before anything is read.
    int (*identify)(void *arg, uint64_t *ret_id, kl_rev *ret_rev, struct kl_error *err);
    int (*open)(void *arg, const struct kl_source_from *from, struct kl_source **ret_s,
                struct kl_error *err);
    // Following: no writes from now on; *ret_rev is the fence's (store/transfer/fence.h), that of
    // its keeping the next, at which the target begins. May be NULL.
    int (*fence)(void *arg, kl_rev *ret_rev, struct kl_error *err);
};

struct kl_store_copy_options {
    const char *to; // URL
    const struct kl_store_options *store;
    bool force;
    bool follow;       // goes on until the source is fenced
    int64_t bump;      // added to the last revision, everything before is compacted: a restore
    int64_t near_revs; // fences when it is as near as that [200]
    void (*progress)(void *arg, const struct kl_store_copy_progress *p); // may be NULL
    void *arg;
};

struct kl_store_copy_result {
    int64_t rows, bytes, shared;
    kl_rev from_rev, rev; // of the source at its end; of the target
    bool resumed, restarted;
    int64_t pause_ms; // from the fence until the target was whole
};

// ret_store (may be NULL): the target, opened for reading only unless o->store says otherwise.
// ret_renumber (may be NULL): the target's numbering, to be closed by kl_target_close.
struct kl_target;
int kl_store_copy(const struct kl_store_copy_origin *from, const struct kl_store_copy_options *o,
                  struct kl_store_copy_result *ret, struct kl_store **ret_store,
                  struct kl_target **ret_numbers, struct kl_error *err);

// An open store as the origin; arg is the struct kl_store.
extern const struct kl_store_copy_origin kl_store_copy_from_store;
