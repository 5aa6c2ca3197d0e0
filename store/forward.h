// SPDX-License-Identifier: Apache-2.0
// Transactions that another server evaluates. What is submitted here while ops->leader() names
// another server is sent there over KL_PEER_FORWARD, joins that server's group commit, and comes
// back in the log: the batch that carries (our id, our count) in `forwarded` brings the results,
// which are rebuilt from its rows when it is applied. So the answer on the wire is a few bytes, a
// client reads what it wrote, and a lost answer loses nothing. What wrote nothing over there is
// evaluated here, on a view that has reached the revision it had there.
//
//   WAITING ─ sent ─► SENT ─ in the log ───────────────────────────────────────────► answered
//     ▲  ▲             │ └─ refused, or wrote nothing ─► READY ─ view is there ─────────┘
//     │  └── not the leader ┤
//     │                     └ leader or connection lost, 2 s of silence ─► LOST
//     └── not in the log ── CONFIRMING ◄─ a head is asked for ──────────────┘
//
// A server that takes a snapshot of the state instead of the log may have one of its own in what it
// did not see. Those end with KL_EMAYBE, unless they turn up later in the log; only one that the
// leader had not taken goes out once more.
//
// Nothing runs twice: who evaluates one that was sent before looks for it in what it has applied
// and in its queue; all that was applied before the head that the sender confirmed, the sender has
// seen itself; and a batch that does not stand on everything before it is not accepted by the log.
#pragma once
#include "store/backend.h"
#include "store/txn.h"

struct kl_forward;

enum kl_forward_where {
    KL_FORWARD_NONE, // in the core's queues or in a batch
    KL_FORWARD_WAITING,
    KL_FORWARD_SENT,
    KL_FORWARD_LOST,
    KL_FORWARD_CONFIRMING,
    KL_FORWARD_READY,
    KL_FORWARD_LISTS
};

// All on the core's loop but open, detach and free.
int kl_forward_open(struct kl_store *s, struct kl_error *err);
void kl_forward_start(struct kl_store *s);
void kl_forward_detach(struct kl_store *s); // no message comes any more; not on the core's loop
void kl_forward_free(struct kl_store *s);

bool kl_store_leads(const struct kl_store *s); // this server evaluates
// What a submitted transaction begins with.
void kl_forward_clear(struct kl_txn *txn);
// Instead of evaluating txn here: it was taken, or it was answered.
bool kl_forward_takes(struct kl_store *s, struct kl_txn *txn);
void kl_forward_elsewhere(struct kl_store *s, struct kl_txn *txn);   // it would write after all
void kl_forward_unconfirmed(struct kl_store *s, struct kl_txn *txn); // there was no head
void kl_forward_run(struct kl_store *s);                             // sends what waits
void kl_forward_forget(struct kl_store *s, struct kl_txn *txn);      // it is being answered
// Ours that this entry of an outside batch is, or NULL.
struct kl_txn *kl_forward_find(struct kl_store *s, const struct kl_forwarded *f);
void kl_forward_applied(struct kl_store *s, const struct kl_batch *b, bool own);
// Another state took the place of this one: what was in the log between them is not known here.
void kl_forward_jumped(struct kl_store *s);
int64_t kl_forward_next_ms(const struct kl_store *s);
void kl_forward_tick(struct kl_store *s);
void kl_forward_cancel(struct kl_store *s);
