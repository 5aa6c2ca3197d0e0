// SPDX-License-Identifier: Apache-2.0
// Transactions that another server evaluates: what is submitted here while ops->leader() names
// another server goes to it over KL_PEER_FORWARD, and its outcome comes back in the log.
#pragma once
#include "store/txn.h"

// What a submitted transaction begins with.
static inline void kl_forward_clear(struct kl_txn *txn)
{
    txn->confirmed = txn->again = txn->matched = txn->read_here = false;
    txn->where = 0;
    txn->attempt = 0;
    txn->server = txn->seq = 0;
    txn->deadline_ms = txn->sent_ms = 0;
    txn->await_rev = 0;
}
