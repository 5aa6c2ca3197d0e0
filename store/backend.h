// SPDX-License-Identifier: Apache-2.0
// The seam between the store's core and a back end: batches go down by propose and come back up by
// kl_core_applied, in order, whoever wrote them; nothing else changes the index, the ring or an
// answer. The core calls every function on its own loop (but open, load and close) and never blocks
// in one; a back end calls kl_core_* on the core's loop only.
#pragma once
#include "store/key_rule.h"
#include "store/kv.h"
#include "base/loop.h"

struct kl_store;
struct kl_view;
struct kl_lease_req;
struct kl_backend; // what the core sees of a back end; each defines its own

// One write. The core fills kv and prev for its own batches; an outside batch brings kv alone and
// the core finds prev.
struct kl_row {
    struct kl_kv *kv;
    struct kl_kv *prev;
    struct kl_op *op; // the core's: whose attachments go to kv
};

struct kl_lease_op {
    int64_t id;
    int64_t ttl_ms;           // 0: the lease goes
    int64_t deadline_wall_ms; // since 1970
    int64_t deadline_mono_ms; // the core's for its own: what the wall clock does does not matter
};

// A transaction of this batch that another server forwarded (store/forward.h): stored with the
// batch, and handed up with it on every server, in order of row_at: its sender takes the results
// from the rows.
struct kl_forwarded {
    uint64_t server, seq; // who sent it, and that one's own count
    uint32_t row_at, row_n;
    bool succeeded;
};

// Everything that is made durable together. Owned by whoever holds it: propose lends it to the back
// end until kl_core_applied or kl_core_failed; kl_core_applied takes an outside one.
struct kl_batch {
    uint64_t origin; // who evaluated it: kl_core_origin, or another server's
    uint64_t seq;    // that one's own count
    kl_rev base_rev; // the revision it was evaluated on
    kl_rev last_rev; // the revision after it: base_rev + nrows in our own back ends
    struct kl_row *rows;
    size_t nrows, cap_rows;
    struct kl_lease_op *leases;
    size_t nleases, cap_leases;
    struct kl_forwarded *forwarded;
    size_t nforwarded, cap_forwarded;
    kl_rev compact_rev; // 0: this batch does not compact
    bool full;          // evaluated by the rules of a full disk: only deletions and small updates
    bool at_once;       // an outside one: taken in one turn, however many rows it has
    size_t bytes;
    struct kl_task task; // the back end's while it holds the batch
    struct kl_backend *backend;
    int code;
    struct kl_error err;
    // The core's.
    struct kl_node *root;
    struct kl_txn *own; // of kl_core_stored: whose rows these are
    struct kl_txn *txns, **txns_tail;
    size_t ntxns;
    struct kl_view *view;
    int64_t proposed_ns;
    size_t nleased;     // rows with a lease
    int64_t put_bytes;  // of keys and values
    size_t ndeletes;    // rows
    struct kl_big *big; // of many rows (store/big.h)
    struct kl_batch *next;
};

struct kl_batch *kl_batch_new(void);
void kl_batch_free(struct kl_batch *b);
// For outside batches and loading. Takes the reference to kv.
int kl_batch_add_row(struct kl_batch *b, struct kl_kv *kv);
int kl_batch_add_lease(struct kl_batch *b, struct kl_lease_op op);
int kl_batch_add_forwarded(struct kl_batch *b, struct kl_forwarded f);
// A version with one reference. `value` gets its own reference.
struct kl_kv *kl_kv_new(struct kl_str key, struct kl_bytes *value);

// ---- requests: the core embeds or allocates them; done runs on the core's loop, exactly once ----

// History in order: rows with id > after_id, or when min_rev is not 0, all rows whose transaction's
// revision is min_rev or more. A page of at most max_rows and about max_bytes.
struct kl_rows_req {
    void (*done)(struct kl_rows_req *q);
    kl_rev after_id, min_rev;
    size_t max_rows, max_bytes;
    int code;
    struct kl_error err;
    struct kl_event *rows; // references to kv and prev
    size_t nrows;
    kl_rev through;      // every row up to here with id > after_id is in rows
    struct kl_task task; // the back end's
    struct kl_backend *backend;
};

struct kl_range_req {
    void (*done)(struct kl_range_req *q);
    struct kl_str key, end;
    kl_rev rev;
    size_t limit, max_bytes; // `more` also when the values are about as big as that
    bool want_count;
    int code;
    struct kl_error err;
    struct kl_kv **kvs;
    size_t nkvs;
    bool more;
    int64_t count;
    struct kl_task task; // the back end's
    struct kl_backend *backend;
};

// A head that was true at some time after the call.
struct kl_head_req {
    void (*done)(struct kl_head_req *q);
    kl_rev rev;
    int code;
    struct kl_task task; // the back end's
    struct kl_backend *backend;
};

// One bounded step of physical compaction: what was superseded at after < id <= until goes, and
// deletions below until. `window` is advice in revisions.
struct kl_step_req {
    void (*done)(struct kl_step_req *q);
    kl_rev after, until;
    kl_rev window;
    int code;
    kl_rev through;      // how far it came
    int64_t rows;        // that went
    int64_t took_us;     // of the writer's time
    struct kl_task task; // the back end's
    struct kl_backend *backend;
};

// One bounded step of house-keeping; `more` says whether another is worth it now.
struct kl_tidy_req {
    void (*done)(struct kl_tidy_req *q);
    bool full;           // the core is in its disk-full mode
    bool more;           // result
    bool relaxed;        // result: there is room again, with the reserve restored
    struct kl_task task; // the back end's
    struct kl_backend *backend;
};

struct kl_backend_sizes {
    int64_t db_bytes, db_used_bytes, wal_bytes;
};

// What load tells the core, before anything else runs.
struct kl_loaded {
    kl_rev rev, compact_rev, physical_rev;
    uint64_t cluster_id, member_id;
    bool continues; // kl_core_reset only: it is the log that was followed so far, just further on
    void *arg;
    int (*kv)(void *arg, struct kl_kv *kv); // takes the reference; in key order
    int (*lease)(void *arg, struct kl_lease_op op);
};

#define KL_LEADER_NONE UINT64_MAX

// A store that is filled from another one (store/transfer/), between open and load.
struct kl_import {
    bool force;         // what is there goes; otherwise KL_EEXISTS when there is anything
    bool restart;       // a cut import of the same source begins anew as well
    bool apart;         // the source is open: KL_ECONFLICT when this is the same store
    uint64_t source;    // identity of what is copied: a cut import of the same goes on
    kl_rev base_rev;    // the source's revision now; result: when what goes on was begun
    kl_rev through;     // result: rows with id up to here are there already
    kl_rev rev;         // for import_end: the store's revision afterwards
    kl_rev compact_rev; // for import_end: compacted to here; the rows to base_rev at most
};

enum kl_keeper {
    KL_KEEPER_NOBODY, // others may renew a lease too, or it is not known: all is told by the log
    KL_KEEPER_SELF,   // others tell what they renew, if they can at all
    KL_KEEPER_OTHER,  // as NOBODY
};

struct kl_backend_ops {
    const char *scheme; // of the URL, without "://"
    // Which keys may be put; asked once, after open. NULL: any.
    void (*key_rule)(struct kl_backend *b, struct kl_key_rule *ret);
    // The log belongs to another store, which gives the revisions: a batch is one transaction, or
    // one compaction, and ends in kl_core_stored or kl_core_failed.
    bool one_txn;
    // `rest` is what follows "://". Blocking, before the core runs.
    int (*open)(struct kl_store *core, struct kl_str rest, struct kl_backend **ret_b,
                struct kl_error *err);
    int (*load)(struct kl_backend *b, struct kl_loaded *l, struct kl_error *err);
    // Blocking, before load. begin: remembers source and base_rev durably, or finds them; without
    // force anything else that is there (keys, a revision above 1, a cut import of another source)
    // is KL_EEXISTS. rows: in ascending order of id, with value, and with prev where the row that
    // it replaces was copied as well (only its id and create_rev count); leases with any batch;
    // durable when it returns. end: the revisions, a new history id; load may follow. A store with
    // a cut import does not load (KL_EUNAVAILABLE, one sentence). Who begins later is the only one:
    // KL_ECONFLICT for another that goes on. NULL: cannot be filled.
    int (*import_begin)(struct kl_backend *b, struct kl_import *im, struct kl_error *err);
    int (*import_rows)(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err);
    int (*import_end)(struct kl_backend *b, const struct kl_import *im, struct kl_error *err);
    // From now on outside batches may come.
    void (*start)(struct kl_backend *b); // may be NULL
    // One at a time. Ends in kl_core_applied(b) or kl_core_failed(b, code): KL_ECONFLICT when the
    // log had moved on, be it by leases only (outside batches come or came): evaluate again;
    // KL_ENOSPC; KL_EIO; KL_EMAYBE only when it cannot be resolved.
    void (*propose)(struct kl_backend *b, struct kl_batch *batch);
    void (*confirm_head)(struct kl_backend *b, struct kl_head_req *q); // NULL: RAM is the authority
    // Who evaluates: 0 this server; KL_LEADER_NONE nobody known: transactions wait; else the id of
    // the server they are forwarded to. NULL: always this one. Core's loop; a change is told by
    // kl_core_leader_changed.
    uint64_t (*leader)(struct kl_backend *b);
    // Who may end a lease by what it alone knows of renewals. NULL: whoever evaluates. Core's loop,
    // and told as the leader's change is.
    enum kl_keeper (*keeper)(struct kl_backend *b);
    // Leases are that other store's: every request goes there, kl_core_lease_done ends it. The core
    // keeps none, and what a lease ends comes as outside batches. NULL: the core's.
    void (*lease)(struct kl_backend *b, struct kl_lease_req *q);
    void (*read_rows)(struct kl_backend *b, struct kl_rows_req *q);
    void (*read_range)(struct kl_backend *b, struct kl_range_req *q);
    void (*compact_step)(struct kl_backend *b, struct kl_step_req *q);
    void (*tidy)(struct kl_backend *b, struct kl_tidy_req *q);         // may be NULL
    void (*sizes)(struct kl_backend *b, struct kl_backend_sizes *ret); // any thread
    // Blocking, after the last request is done; frees b. Clean: the next open need not check.
    void (*close)(struct kl_backend *b);
};

// ---- up ----

struct kl_loop *kl_core_loop(struct kl_store *c);
uint64_t kl_core_origin(const struct kl_store *c);
const struct kl_kv_hooks *kl_core_hooks(const struct kl_store *c);
int64_t kl_core_wall_ms(const struct kl_store *c);
const struct kl_store_options *kl_core_options(const struct kl_store *c);

// In order of revision. The batch that was proposed: durable now, or part of a state that
// kl_core_reset has taken since it was proposed (l->continues); never fails. (A log that gives
// the revisions itself may have raised those of its rows, and last_rev.) An outside batch:
// takes it; KL_ENOMEM means not taken, offer it again; KL_EAGAIN that it has many rows and is not
// whole yet: offer it again in the next turn of the loop, before anything else. Whoever offers it
// may drop it instead, when kl_core_reset has taken a state. An outside batch may have leases, a
// compaction or forwarded transactions only (last_rev is base_rev then), and revisions that nobody
// has may lie before it (base_rev above the last one's last_rev).
int kl_core_applied(struct kl_store *c, struct kl_batch *b);
// one_txn: `own`, which is proposed, is stored, as `as` has it: an outside batch that holds its
// rows (or its compaction) and nothing else, at the revision that they have there. What it was
// evaluated on may lie below others' batches. Takes `as` and ends own; KL_ENOMEM, KL_EAGAIN:
// neither, offer it again.
int kl_core_stored(struct kl_store *c, struct kl_batch *own, struct kl_batch *as);
// The newest state; that of a batch while it is being proposed is what it was evaluated on (one_txn
// only). Borrowed until control returns to the loop.
const struct kl_view *kl_core_view(const struct kl_store *c);
void kl_core_lease_done(struct kl_store *c, struct kl_lease_req *q);
// The log was set back (a restored backup, a lagging replica promoted) and goes on at a higher
// revision: `l` as load would give it, versions that nobody else has. Replaces index and leases;
// everything below l->rev counts as compacted (the back end has stored that before), so that every
// watcher relists. With l->continues (a snapshot of the same log was installed) l->compact_rev
// counts instead and watchers go on from read_rows. A proposed batch still ends in kl_core_failed,
// or in kl_core_applied when that state holds it.
// KL_ENOMEM: offer again. KL_EINVALID: l->rev is below what was applied; nothing is changed. What
// load fails with is passed on.
int kl_core_reset(struct kl_store *c, int (*load)(void *arg, struct kl_loaded *l), void *arg);
// ops->leader says something else now. What was not proposed goes where it says; what is proposed
// still ends in kl_core_applied or kl_core_failed.
void kl_core_leader_changed(struct kl_store *c);
// The proposed batch is not stored and never will be (or KL_EMAYBE). b->err says why.
void kl_core_failed(struct kl_store *c, struct kl_batch *b, int code);

// The table of all back ends, NULL-terminated (store/backends.c).
extern const struct kl_backend_ops *const kl_backends[];
