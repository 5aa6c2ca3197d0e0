// SPDX-License-Identifier: Apache-2.0
// A transaction: compares, what to do when they hold, what to do when they do not. etcd's Txn.
#pragma once
#include "store/kv.h"
#include "base/loop.h"

struct kl_store;

enum kl_compare_target {
    KL_COMPARE_VERSION, // a missing key has version, create_rev, mod_rev and lease 0
    KL_COMPARE_CREATE,
    KL_COMPARE_MOD,
    KL_COMPARE_VALUE, // a missing key fails every value compare
    KL_COMPARE_LEASE,
};

enum kl_compare_result { KL_COMPARE_EQ, KL_COMPARE_GT, KL_COMPARE_LT, KL_COMPARE_NE };

struct kl_compare {
    struct kl_str key, end; // a range: must hold for each key; one without keys is a missing key
    enum kl_compare_target target;
    enum kl_compare_result result;
    int64_t num;         // what the key's number must be = > < != to
    struct kl_str value; // for KL_COMPARE_VALUE
};

enum kl_op_kind { KL_OP_GET, KL_OP_PUT, KL_OP_DELETE, KL_OP_TXN };

struct kl_txn_body;

// One operation and its result. What the caller sets is borrowed until the callback.
struct kl_op {
    enum kl_op_kind kind;
    struct kl_str key, end;  // end: GET and DELETE of a range
    struct kl_bytes *value;  // PUT; the store takes its own reference
    int64_t lease;           // PUT; 0: none
    bool ignore_value;       // PUT: keep the value there is (etcd); KL_EBADREQUEST without a key
    bool ignore_lease;       // PUT: keep the lease there is
    bool count_only;         // DELETE of a range: how many there were, and not which
    int64_t limit;           // GET of a range; 0: none
    kl_rev at_rev;           // GET: this is to be read afterwards (kl_store_range_at); 0: nothing.
                             // KL_ECOMPACTED, KL_EFUTUREREV before anything is written
    struct kl_txn_body *txn; // TXN: a nested one
    // PUT: hung onto the new version once it is durable, so that nothing is decoded again. A slot
    // that was taken is NULL afterwards; what is not NULL in the callback is still the caller's.
    void *attach[KL_KV_ATTACH];

    // Results: references that kl_txn_fini drops. Set a field to NULL to keep its reference.
    struct kl_kv *kv;   // PUT: the new version. GET of one key: what is there, or NULL
    struct kl_kv *prev; // PUT, DELETE of one key: what was there, or NULL
    struct kl_kv **kvs; // GET of a range: what is there. DELETE of a range: what was there
    size_t nkvs;
    int64_t count; // GET: keys in the range without limit. DELETE: keys deleted
    uint8_t done;  // the store's: how far it is evaluated
};

struct kl_txn_body {
    const struct kl_compare *compares;
    size_t ncompares;
    struct kl_op *then;
    size_t nthen;
    struct kl_op *els;
    size_t nels;
    bool succeeded; // result: which side ran
    // The store's: how far the compares are evaluated, and the keys of a range of the next one.
    uint32_t compared;
    int64_t compared_keys;
    bool chosen; // which side runs
};

// Embedded by the caller, zeroed, filled, submitted once.
struct kl_txn {
    struct kl_txn_body body;
    // Exactly once, later, on the loop that submitted. txn->code says whether the rest is valid.
    void (*cb)(struct kl_txn *txn);
    struct kl_loop *loop; // NULL: the submitting thread's loop

    // Results. KL_EBADREQUEST duplicate key and the like; KL_ENOTFOUND unknown lease; KL_ETOOLARGE;
    // KL_ENOSPC disk full; KL_ETOOMANY queue full; KL_EIO; KL_EMAYBE; KL_ECANCELED store stopped;
    // KL_EUNAVAILABLE no server to evaluate it.
    // A failed compare is no error: code 0, succeeded false.
    int code;
    kl_rev rev; // of the write; the store's revision when nothing was written
    struct kl_error err;

    // The store's.
    struct kl_task task;
    struct kl_txn *next, **pprev;
    uint32_t row_at, row_n;
    struct kl_store *store;
    int32_t internal;
    bool confirmed;
    uint32_t bytes; // of the queue's
    // Of transactions between servers (store/forward.c).
    bool again;           // may have been evaluated elsewhere before: look in the log first
    bool matched;         // found in the log, with its results
    bool replayed;        // its results are of an outside batch that is not published yet
    bool read_here;       // the leader says that it writes nothing: evaluate it here
    bool jumped;          // it may be in the log where nobody here saw it
    uint8_t where;        // enum kl_forward_where
    uint32_t attempt;     // of sending it
    uint64_t server, seq; // who sends it; 0 nobody
    int64_t deadline_ms, sent_ms;
    kl_rev await_rev;
};

// Any loop. Submit fails: the callback never runs. KL_EUNAVAILABLE when the store is stopping.
int kl_store_submit(struct kl_store *s, struct kl_txn *txn, struct kl_error *err);
void kl_txn_fini(
    struct kl_txn *txn); // drops the results' references; the caller's parts are its own

#define KL_TXN_MAX_BYTES (8u << 20) // keys and values of one transaction
#define KL_TXN_MAX_DEPTH 8          // of nesting
#define KL_TXN_MAX_OPS 1024         // in one list
#define KL_TXN_MAX_OPS_ALL 4096     // in all lists of one transaction
