// SPDX-License-Identifier: Apache-2.0
// The store: one ordered log of revisions over a back end that is chosen by URL. Writes are
// transactions (store/txn.h) that are acknowledged only when durable; reads are views
// (store/view.h); watches are cursors (store/watch.h); leases in store/lease.h. A new back end is
// one row in store/backends.c (store/backend.h).
#pragma once
#include "store/kv.h"
#include "store/lease.h"
#include "store/txn.h"
#include "store/view.h"
#include "store/watch.h"

struct kl_store;
struct kl_backend_ops;
struct kl_peers;

// Time as the store sees it; tests bring their own. Any thread.
struct kl_store_clock {
    int64_t (*mono_ms)(void *arg);
    int64_t (*wall_ms)(void *arg);
    void *arg;
};

// What a kine datastore has under /bootstrap/. Borrowed.
struct kl_kine_record {
    struct kl_str key, value;
};

// Zeroed means the defaults in brackets.
struct kl_store_options {
    const struct kl_kv_hooks *hooks; // [nothing is attached]
    size_t ring_bytes;               // event ring [16 MiB]
    bool auto_compact;               // every minute, what is both older and further back than:
    int64_t compact_age_ms;          // [5 min]
    int64_t compact_keep_revs;       // [1000]
    int64_t compact_every_ms;        // [1 min]
    int64_t memory_budget; // of values and what hangs on them, beyond which they go to a file [all
                           // stay in memory], which is made in
    const char *spill_dir; // [as if there were no budget]
    size_t max_queue;      // transactions waiting, beyond which KL_ETOOMANY [65536]
    const struct kl_store_clock *clock;      // [base/clock.h]
    const char *cafile, *certfile, *keyfile; // TLS to a database or a remote etcd [none]
    bool take_over;                          // change a kine datastore in place [refuse, say what]
    const char *take_over_dir; // for the snapshot of a database as it was before that [.]
    int64_t take_over_wait_ms; // without a new row in it before that [15 s]
    // Before anything of it is changed, on the opening thread: an error ends that with the
    // datastore as it was [none].
    int (*take_over_check)(void *arg, const struct kl_kine_record *v, size_t n,
                           struct kl_error *err);
    void *take_over_arg;
    bool no_fsync;          // etcd's --unsafe-no-fsync
    bool read_only;         // nothing changes: no write is taken, nothing expires or is compacted
    bool create;            // what is missing is made though read_only: a copy's target
    struct kl_peers *peers; // the other servers (store/peer/peers.h) [none]
    // raft://: an empty directory becomes a server of the cluster that raft_from is of, once its
    // leader adds it (store/raft/members.h), and not a cluster of its own. The state is fetched
    // from there before the store opens.
    bool raft_join;
    uint64_t raft_from;         // a server's id; its address was given to kl_peers_set
    int raft_election_ms;       // [1000]; a tenth is the heartbeat
    size_t raft_snapshot_bytes; // of log between two snapshots [16 MiB]
    int raft_scrub_ms;          // from one reading of all that is on the disk to the next [30000];
                                // < 0: never
    const struct kl_backend_ops *const *extra; // more back ends, NULL-terminated [none]
};

// sqlite://PATH, memory://. Blocks until the index is loaded; starts the store's own threads. The
// error is one sentence that names the cause: wrong URL, path, permission, held by another process,
// newer format, damaged, network file system.
int kl_store_open(const char *url, const struct kl_store_options *o, struct kl_store **ret_s,
                  struct kl_error *err);
// Blocks until what is in flight is durable, answers the rest KL_ECANCELED, closes the back end
// and joins the threads; not on the store's own. Readers are closed before. Frees s.
void kl_store_stop(struct kl_store *s);

// Compaction: answers when `rev` is compacted logically and durably; the rows go afterwards in
// small steps. KL_ECOMPACTED when it was already, KL_EFUTUREREV above the newest revision.
struct kl_compact_wait {
    kl_rev rev;
    bool physical;                         // answer only after the rows are gone
    void (*cb)(struct kl_compact_wait *c); // exactly once, later, on the submitting loop
    struct kl_loop *loop;                  // NULL: the submitting thread's
    int code;
    struct kl_error err;
    struct kl_task task; // the store's
    struct kl_compact_wait *next;
    struct kl_store *store;
    uint64_t server, seq;
    bool again;
};
int kl_store_compact(struct kl_store *s, struct kl_compact_wait *c, struct kl_error *err);

// While there is this key every other write is refused (KL_EUNAVAILABLE, with its value as the
// reason), on all servers of the datastore; leases and what would expire too. Only its own lease
// may end, and take it along.
#define KL_FENCE_KEY "kinglet/fence"

// Old revisions. Keeps v for KL_HOLD_MS (bounded also by number and by what it keeps alive), so
// that the next page of a list at this revision comes from memory on whatever loop. Any thread.
#define KL_HOLD_MS (5 * 60 * 1000)
#define KL_HOLD_MAX 32
#define KL_HOLD_BYTES (8u << 20) // as stored; decoded and encoded it is up to eight times that
void kl_store_hold_view(struct kl_store *s, struct kl_view *v);
// A reference to a view at exactly rev: the reader's own or a held one. KL_EAGAIN: not in memory,
// use kl_store_range_at; KL_ECOMPACTED; KL_EFUTUREREV.
int kl_store_view_at(struct kl_reader *r, kl_rev rev, struct kl_view **ret_v, struct kl_error *err);

// The keys of a range as they were at rev, from the back end's history. Embedded, zeroed.
struct kl_range_at {
    struct kl_str key, end; // borrowed until cb
    kl_rev rev;
    // 0 and anything above 10,000 means 10,000. There may be fewer, as values are bounded to about
    // 4 MiB: when `more` is set, continue after the last key.
    int64_t limit;
    bool want_count;                   // of the whole range
    void (*cb)(struct kl_range_at *q); // exactly once, later, on the submitting loop
    struct kl_loop *loop;
    int code; // KL_ECOMPACTED, KL_EFUTUREREV, KL_EIO
    struct kl_error err;
    struct kl_kv **kvs; // references; kl_range_at_fini drops them
    size_t nkvs;
    bool more;
    int64_t count;
    struct kl_task task; // the store's
    struct kl_store *store;
};
int kl_store_range_at(struct kl_store *s, struct kl_range_at *q, struct kl_error *err);
void kl_range_at_fini(struct kl_range_at *q);

struct kl_store_status {
    const char *backend; // "sqlite", "memory"
    uint64_t cluster_id, member_id;
    kl_rev rev, compact_rev, physical_rev;
    int64_t keys, leases, watchers, readers;
    int64_t db_bytes, db_used_bytes, wal_bytes;
    int64_t ring_bytes, held_views, queued;
    int64_t value_bytes, attached_bytes;  // what the memory budget is for
    int64_t file_value_bytes, file_bytes; // values that are in the value file; its size
    int64_t txns, batches, rows;          // since start
    int64_t longest_turn; // the most rows that a loop handled without looking at others
    bool disk_full;       // only writes that do not grow are accepted
    int last_error;       // of the newest batch, 0 when it was stored
    char last_error_text[256];
};
// Other servers write too: the newest state is what an empty transaction has waited for.
bool kl_store_is_shared(const struct kl_store *s);
void kl_store_status(struct kl_store *s, struct kl_store_status *ret); // any thread; no I/O
// What its versions hold, counted as it goes: a reference, which may outlive the store. Any thread.
struct kl_home *kl_store_home(struct kl_store *s);
