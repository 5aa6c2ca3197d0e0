// SPDX-License-Identifier: Apache-2.0
// The messages between the server that was asked and the one that evaluates (store/forward.h).
// A message is a version, what it holds, and items to its end; an item is its length and so many
// bytes. Integers are little-endian; strings have a 32-bit length before them.
//
//   ask:    seq 8, attempt 4, kind 1, flags 1, then by kind: a body; or id 8, num 8
//   answer: seq 8, attempt 4, outcome 1, rev 8, then by outcome: ttl 8, left 8; or code 4, text
//   body:   compares 2, then 2, else 2 (numbers), then all of them in order
//
// Decoders fail closed; everything is bounded by the limits of store/txn.h.
#pragma once
#include "store/txn.h"
#include "base/buf.h"

enum { KL_WIRE_VERSION = 1, KL_WIRE_HEAD = 2 };
enum kl_wire_what { KL_WIRE_ASK = 1, KL_WIRE_ANSWER };

enum kl_wire_kind {
    KL_WIRE_TXN = 1,
    KL_WIRE_GRANT, // id, ttl in seconds
    KL_WIRE_KEEPALIVE,
    KL_WIRE_REVOKE,
    KL_WIRE_LEASE_TTL,
    KL_WIRE_COMPACT, // id is the revision
    KL_WIRE_KINDS
};

enum kl_wire_outcome {
    KL_WIRE_IN_LOG = 1, // its batch brings the results
    KL_WIRE_READS,      // it wrote nothing at rev
    KL_WIRE_LEASE,      // ttl, left
    KL_WIRE_ERROR,      // code, text
    KL_WIRE_RETRY,      // not evaluated: this is not the leader, or it stops
    KL_WIRE_OUTCOMES
};

struct kl_wire_ask {
    uint64_t seq;
    uint32_t attempt;
    enum kl_wire_kind kind;
    bool again; // was sent before: the log is looked through first
    int64_t id, num;
    struct kl_txn_body body; // TXN
};

struct kl_wire_answer {
    uint64_t seq;
    uint32_t attempt;
    enum kl_wire_outcome outcome;
    kl_rev rev;
    int64_t ttl_ms, left_ms;
    int code;
    struct kl_str text; // borrowed
};

// Writes to p what kl_wire_ask_size says; the body's parts are copied here, once.
size_t kl_wire_ask_size(const struct kl_wire_ask *a);
void kl_wire_put_head(char *p, enum kl_wire_what what);
char *kl_wire_put_ask(char *p, const struct kl_wire_ask *a);
int kl_wire_put_answer(struct kl_buf *b, const struct kl_wire_answer *a); // with the head if empty

// What a message holds; *ret_rest are its items. KL_EPROTO: another version, or nothing known.
int kl_wire_open(struct kl_str msg, enum kl_wire_what *ret_what, struct kl_str *ret_rest);
// Takes the next item off *rest. 1: there was one; 0: the end; KL_EPROTO. The item is borrowed.
int kl_wire_next(struct kl_str *rest, struct kl_str *ret_item);
int kl_wire_get_answer(struct kl_str item, struct kl_wire_answer *ret_a);
// The body gets one allocation (*ret_mem, the caller frees it after kl_wire_drop_body) that holds
// its lists and keys, and references to values of its own. KL_EPROTO, KL_ENOMEM.
int kl_wire_get_ask(struct kl_str item, struct kl_wire_ask *ret_a, void **ret_mem);
void kl_wire_drop_body(struct kl_txn_body *body); // lets go of the values
