// SPDX-License-Identifier: Apache-2.0
// Where a copy comes from: records one after the other, pulled by a thread that may block (never a
// loop's). Sources are an open store (here), the admin socket of a running server (cli/admin.h) and
// a snapshot file (store/transfer/snapshot.h).
#pragma once
#include "store/store.h"
#include "store/transfer/record.h"

struct kl_source {
    // The next record; what it points to lives until the next call. KL_EEOF after END.
    int (*next)(struct kl_source *s, struct kl_record *ret, struct kl_error *err);
    void (*close)(struct kl_source *s); // frees it; accepts no NULL
};

// How a cut copy goes on: rows up to `through` are there, and it was begun when the source was at
// `base_rev`. What changed since comes from the log, deletions too. Zeroed: from the beginning.
struct kl_source_from {
    kl_rev base_rev, through;
    // After the rows come those that are written meanwhile, with marks between them, until
    // kl_store_source_finish.
    bool follow;
};

// The store must stay open until close. Takes what is newest now; it sorts all keys by revision, so
// it may take some 100 ms for a million. KL_ECOMPACTED: the log does not reach back to base_rev.
int kl_store_source_new(struct kl_store *store, const struct kl_source_from *from,
                        struct kl_source **ret_s, struct kl_error *err);
// Any thread: ends a following source after everything up to rev, which the store must reach.
void kl_store_source_finish(struct kl_source *s, kl_rev rev);
// Any thread: the next call of next fails with KL_ECANCELED.
void kl_store_source_cancel(struct kl_source *s);

#define KL_DIGEST_BYTES 32
// SHA-256 over all current keys in order with values, versions, revisions and leases; blocks, not
// on a loop. `renumber` (may be NULL) says which revision stands for which.
int kl_store_digest(struct kl_store *store, int64_t (*renumber)(void *arg, kl_rev rev), void *arg,
                    unsigned char ret[KL_DIGEST_BYTES], kl_rev *ret_rev, struct kl_error *err);
