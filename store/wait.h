// SPDX-License-Identifier: Apache-2.0
// The store for a thread that may block and is no loop: start-up, commands.
#pragma once
#include "store/store.h"

// Runs the transaction (body and nothing else is set) and waits for its end; kl_txn_fini is the
// caller's. While there is nobody to evaluate it, it is tried again for patience_ms; an outcome
// that is not known (KL_EMAYBE) is the caller's.
int kl_store_run_txn(struct kl_store *s, struct kl_txn *txn, int64_t patience_ms,
                     struct kl_error *err);
int kl_store_run_lease(struct kl_store *s, struct kl_lease_req *q, struct kl_error *err);
// The newest value of a key appended to `out`, *ret_mod its revision, 0 when there is none.
int kl_store_run_get(struct kl_store *s, struct kl_str key, int64_t patience_ms, struct kl_buf *out,
                     kl_rev *ret_mod, struct kl_error *err);
