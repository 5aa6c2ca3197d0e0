// SPDX-License-Identifier: Apache-2.0
// Where a copy goes: a store that is filled row by row before anybody serves it. Rows travel to the
// back end in batches that are durable one by one, so that a copy that was cut goes on.
//
// Rows that share a revision (a transaction of several keys in a remote etcd, whose rows have no
// ids of their own) take consecutive ones, and every revision after them moves up by as many: the
// order stays, and so does everything else.
#pragma once
#include "store/backend.h"
#include "store/store.h"
#include "store/transfer/record.h"

struct kl_target;

// Opens the back end (creates it when it is missing). Blocks, as everything here.
int kl_target_open(const char *url, const struct kl_store_options *o, struct kl_target **ret_t,
                   struct kl_error *err);
void kl_target_close(struct kl_target *t); // accepts NULL; what was not ended can go on later
// See struct kl_import; its results are in *im afterwards.
int kl_target_begin(struct kl_target *t, struct kl_import *im, struct kl_error *err);
// A ROW or a LEASE. Kept until the batch is full.
int kl_target_add(struct kl_target *t, const struct kl_record *r, struct kl_error *err);
int kl_target_flush(struct kl_target *t, struct kl_error *err);
// Writes what is kept and ends the import: t is at `rev` and compacted to `compact_rev` (both in
// the source's numbers); with `bump` at rev + bump, compacted there. When ret_store is not NULL the
// store is opened and served from now on, and kl_target_close leaves it alone.
int kl_target_end(struct kl_target *t, kl_rev rev, kl_rev compact_rev, int64_t bump,
                  struct kl_store **ret_store, struct kl_error *err);
int64_t kl_target_rows(const struct kl_target *t);   // added so far
int64_t kl_target_bytes(const struct kl_target *t);  // of them
int64_t kl_target_shared(const struct kl_target *t); // rows that shared a revision
// What a revision of the source is called here: for kl_store_digest.
kl_rev kl_target_renumber(void *t, kl_rev rev);
