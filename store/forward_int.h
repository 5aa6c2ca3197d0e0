// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "store/forward.h"
#include "store/store_int.h"
#include "store/txn_codec.h"

enum {
    KL_FORWARD_WINDOW = 4096, // sent and not answered
    KL_FORWARD_SEEN = 2 * KL_FORWARD_WINDOW,
    KL_FORWARD_SERVERS = 32,
};

struct kl_forward_list {
    struct kl_txn *first, **end;
};

// Another server, as the one that evaluates sees it.
struct kl_forward_peer {
    uint64_t id;
    uint64_t used;     // when, in messages and batches
    uint64_t *seen;    // its counts in the log, each at its own modulo KL_FORWARD_SEEN
    struct kl_buf out; // answers of this iteration
};

struct kl_forward {
    struct kl_store *store;
    struct kl_peers *peers; // NULL: there is nobody to send to
    uint64_t id, seq;

    // What is asked for here.
    uint64_t target; // who evaluates: ops->leader()
    uint64_t losses; // how often what was sent was lost
    struct kl_forward_list lists[KL_FORWARD_LISTS];
    struct kl_txn **mine; // by seq, as it is spread by cap_mine
    size_t cap_mine, nmine, nsent;
    struct kl_txn confirm;
    bool confirming;
    uint64_t confirm_losses;
    int64_t confirm_after_ms, tick_ms;

    // What is evaluated here.
    struct kl_forward_peer peer[KL_FORWARD_SERVERS];
    uint64_t clock;
    bool blind; // there was no memory to remember what was seen
    struct kl_forward_work *works;
    struct kl_task flush;
    bool flushing;
};

// forward_list.c
void kl_forward_leave(struct kl_forward *f, struct kl_txn *t);
void kl_forward_enter(struct kl_forward *f, struct kl_txn *t, enum kl_forward_where where);
void kl_forward_move_all(struct kl_forward *f, enum kl_forward_where from,
                         enum kl_forward_where to);
// A count of its own for t, unless it has one. KL_ENOMEM, KL_ETOOMANY.
int kl_forward_number(struct kl_forward *f, struct kl_txn *t);
struct kl_txn *kl_forward_mine(const struct kl_forward *f, uint64_t seq); // NULL: none of ours

// forward_serve.c
void kl_forward_asked(struct kl_forward *f, uint64_t from, struct kl_str items);
void kl_forward_note(struct kl_forward *f, const struct kl_forwarded *e); // it is in the log
// 1 seen, 0 not, KL_EMAYBE when nobody can tell.
int kl_forward_seen(const struct kl_forward *f, uint64_t server, uint64_t seq);
void kl_forward_serve_fini(struct kl_forward *f);
