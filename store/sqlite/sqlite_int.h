// SPDX-License-Identifier: Apache-2.0
// sqlite://PATH: one file, one connection, one thread that owns it (a loop of its own).
#pragma once
#include "store/backend.h"
#include <sqlite3.h>

enum {
    KL_SQ_FORMAT = 2, // what this code writes; kv_meta.format_min says what a reader must know
    KL_SQ_PAGE_BYTES = 8192,
    KL_SQ_CACHE_KIB = 2048,
    KL_SQ_CHECKPOINT_BYTES = 4 << 20, // when idle; between batches at half the reserve
    KL_SQ_CHECKPOINT_IDLE_MS = 100,
    KL_SQ_WAL_MAX_BYTES = 64 << 20, // no more batches while it cannot be checkpointed
    KL_SQ_RESERVE_MAX = 16 << 20,
    KL_SQ_RESERVE_MIN = 4 << 20, // twice the WAL's limit; a batch of 1 MiB may be above that
    KL_SQ_VACUUM_PAGES = 64,     // of one step
};

enum kl_sq_stmt {
    KL_SQ_BEGIN,
    KL_SQ_COMMIT,
    KL_SQ_ROLLBACK,
    KL_SQ_INSERT,
    KL_SQ_META,
    KL_SQ_COMPACT_REV,
    KL_SQ_LEASE_PUT,
    KL_SQ_LEASE_DEL,
    KL_SQ_SCRUB,
    KL_SQ_ROWS,
    KL_SQ_ROWS_FROM,
    KL_SQ_RANGE,
    KL_SQ_RANGE_COUNT,
    KL_SQ_VALUE,
    KL_SQ_STEP_FROM,
    KL_SQ_STEP_ROWS,
    KL_SQ_STEP_DEL,
    KL_SQ_STEP_DONE,
    KL_SQ_NAME_PUT,
    KL_SQ_NAME_DEL,
    KL_SQ_INDEXED,
    KL_SQ_SWEEP_FIRST,
    KL_SQ_SWEEP_NAME,
    KL_SQ_SWEEP_NEXT,
    KL_SQ_FREELIST,
    KL_SQ_PAGES,
    KL_SQ_VACUUM,
    KL_SQ_STMTS
};

// An entry of kv_name that is not there yet.
struct kl_sq_name {
    kl_rev id, create_rev, txn_rev; // txn_rev: 0: id
    int64_t version, lease;
    uint32_t key_len;
    bool deleted;
    char key[];
};

struct kl_sq_names {
    struct kl_sq_name **e;
    size_t n, cap;
};

// A pass over kv_name (sweep.c).
struct kl_sq_sweep {
    bool on, name_done;
    kl_rev until;
    char *name; // where it came to
    int len;
    kl_rev id;
    kl_rev newest; // of that name, at most until; 0: not met yet
    bool lone;     // a deletion, and nothing older so far
    bool ends;     // of the step: the pass is over
    int64_t swept, stale;
};

// What a compaction works on (compact.c).
struct kl_sq_chunk {
    kl_rev after, through, until; // through: 0: none
    kl_rev read;                  // how far it is known
    bool sorted;
    kl_rev *ids; // that go
    size_t n, cap, at;
    size_t next; // of the step: at, once it is committed
    int64_t rows;
    bool ends;        // of the step: nothing is left
    int64_t along_ns; // when rows last went along with a batch
};

struct kl_backend {
    struct kl_store *core;
    struct kl_loop *loop; // the writer's
    char *path;
    sqlite3 *db;
    sqlite3_stmt *stmt[KL_SQ_STMTS];
    int page_bytes;
    int wal_pages; // as the WAL hook says
    const char *vfs;
    bool shared; // between connections of this process: checkpoints have a thread of their own
    bool locked; // by lock_fd
    int lock_fd;
    struct kl_sq_beside *beside; // it, once it was needed
    int64_t beside_bytes;        // of the log were handed to it since the log began; 0: none
    bool beside_failed;
    int64_t wal_file; // the log's size; < 0: not known
    bool unclean;
    bool closing, import_ends;
    uv_timer_t idle, reserve_timer, alone;
    int reserve_fd;
    int64_t reserve_bytes;
    unsigned batches;
    struct kl_task start_task;
    kl_rev rev;      // of the file
    kl_rev physical; // as kv_meta's
    // kv_name (names.c): what is not there yet, in order of revision; what is on its way there, of
    // which `stored` are and `storing` will be with the transaction that is open.
    struct kl_sq_names fresh, sorted;
    size_t stored, storing;
    kl_rev indexed, sorted_through; // every row up to here is in the table; will be with `sorted`
    bool sort_next;
    int64_t entries, stale; // of kv_name; of which about so many are dead
    struct kl_sq_sweep sweep;
    struct kl_sq_chunk chunk;
    // Work that goes along with the next batch, or alone when there is none.
    struct kl_step_req *step;
    struct kl_tidy_req *tidy;
    bool step_over, tidy_over; // done with
    bool sweeping;             // what tidy does; otherwise free pages go
    int64_t free_pages;        // before
    int64_t wrote_ns;          // when a batch last was
    int64_t commit_ns;         // that a commit takes, smoothed
    // store/raft: what else belongs to a batch's transaction. NULL: nothing.
    int (*also)(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err);
    atomic_llong db_bytes, used_bytes, wal_bytes;
};

// schema.c, load.c: on the opener's thread.
int kl_sq_open(struct kl_backend *b, struct kl_error *err);
int kl_sq_load(struct kl_backend *b, struct kl_loaded *l, struct kl_error *err);
void kl_sq_start(struct kl_backend *b); // its timers; on the writer's loop
// The statements and what hangs on the connection; then the connection and the file.
void kl_sq_finalize(struct kl_backend *b);
void kl_sq_close(struct kl_backend *b);
int kl_sq_error(struct kl_backend *b, int rc, struct kl_error *err, const char *what);
int kl_sq_code(struct kl_backend *b, int rc); // kl_err
// A prepared statement, reset and ready to bind. NULL: *err says why.
sqlite3_stmt *kl_sq_get(struct kl_backend *b, enum kl_sq_stmt which, struct kl_error *err);
int kl_sq_run(struct kl_backend *b, enum kl_sq_stmt which,
              struct kl_error *err); // no rows expected

// write.c, read.c, compact.c, space.c: on the writer's loop.
void kl_sq_write(struct kl_backend *b, struct kl_batch *batch); // sets batch->code, err
int kl_sq_insert_rows(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err);
int kl_sq_write_leases(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err);
void kl_sq_read_rows(struct kl_backend *b, struct kl_rows_req *q);
void kl_sq_read_range(struct kl_backend *b, struct kl_range_req *q);
// compact.c. Reads on; true: what to delete is known. Deletes, until then, in an open transaction
// that is committed or not afterwards, or in one of its own (sets code).
bool kl_sq_step_read(struct kl_backend *b, struct kl_step_req *q);
int kl_sq_step_along(struct kl_backend *b, struct kl_step_req *q, int64_t until_ns,
                     struct kl_error *err);
void kl_sq_step_stored(struct kl_backend *b, struct kl_step_req *q);
void kl_sq_step_alone(struct kl_backend *b, struct kl_step_req *q);
void kl_sq_step_forget(struct kl_backend *b);
// space.c: the same. True: there is something to do.
bool kl_sq_tidy_due(struct kl_backend *b, struct kl_tidy_req *q);
int kl_sq_tidy_along(struct kl_backend *b, struct kl_tidy_req *q, int64_t until_ns,
                     struct kl_error *err);
void kl_sq_tidy_stored(struct kl_backend *b, struct kl_tidy_req *q, bool committed);
void kl_sq_tidy_alone(struct kl_backend *b, struct kl_tidy_req *q);
void kl_sq_tidy_full(struct kl_backend *b, struct kl_tidy_req *q);
// sqlite.c: answers what is done with.
void kl_sq_work_over(struct kl_backend *b);
// names.c. add, undo (to n entries), store (what is due) and committed belong to a batch's
// transaction, turn follows it; step is a transaction itself, all as many as are needed; mark says
// that every row up to there has its entry.
int kl_sq_names_open(struct kl_backend *b, struct kl_error *err);
void kl_sq_names_fini(struct kl_backend *b);
int kl_sq_names_add(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err);
void kl_sq_names_undo(struct kl_backend *b, size_t n);
int kl_sq_names_store(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err);
void kl_sq_names_committed(struct kl_backend *b);
void kl_sq_names_turn(struct kl_backend *b);
int kl_sq_names_step(struct kl_backend *b, int64_t until_ns, struct kl_error *err);
int kl_sq_names_all(struct kl_backend *b, struct kl_error *err);
int kl_sq_names_mark(struct kl_backend *b, kl_rev rev, struct kl_error *err);
int kl_sq_names_put(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err);
void kl_sq_names_died(struct kl_backend *b, int64_t n);
// The newest entry in memory of each name, in order of names; ret->e is the caller's.
int kl_sq_names_newest(struct kl_backend *b, struct kl_sq_names *ret, struct kl_error *err);
// sweep.c: a step of a pass, in an open transaction; how that ended.
bool kl_sq_sweep_due(const struct kl_backend *b);
int kl_sq_sweep(struct kl_backend *b, int64_t until_ns, struct kl_error *err);
void kl_sq_sweep_ended(struct kl_backend *b, bool committed);
// checkpoint.c. kl_sq_checkpoint waits, also for the other thread; after_commit follows every
// transaction once its answers are on their way.
int kl_sq_checkpoint(struct kl_backend *b, bool truncate);
int kl_sq_wal_room(struct kl_backend *b, struct kl_error *err); // for one more batch
void kl_sq_after_commit(struct kl_backend *b);
void kl_sq_beside_close(struct kl_backend *b);
int64_t kl_sq_wal_limit(const struct kl_backend *b);
void kl_sq_update_sizes(struct kl_backend *b);
// sqlite.c: the same as requests from the core's loop.
void kl_sq_post_read_rows(struct kl_backend *b, struct kl_rows_req *q);
void kl_sq_post_read_range(struct kl_backend *b, struct kl_range_req *q);
void kl_sq_post_compact_step(struct kl_backend *b, struct kl_step_req *q);
void kl_sq_post_tidy(struct kl_backend *b, struct kl_tidy_req *q);
void kl_sq_get_sizes(struct kl_backend *b, struct kl_backend_sizes *ret); // any thread
// The reserve: a file whose blocks are given back when the disk is full, so that deletions work.
void kl_sq_reserve_make(struct kl_backend *b);
void kl_sq_reserve_release(struct kl_backend *b);
bool kl_sq_is_full(const struct kl_backend *b); // it was given up
// Decodes columns col.. (id, name, deleted, create_revision, version, lease_id, txn_rev, value).
struct kl_kv *kl_sq_column_kv(struct kl_backend *b, sqlite3_stmt *st, int col);

// schema.c: the tables beside kine's; one statement without rows; the first column of the first row
// as a number.
extern const char kl_sq_meta_sql[];
extern const char kl_sq_name_sql[]; // kv_name, filled from what is in kine
int kl_sq_exec(struct kl_backend *b, const char *sql, struct kl_error *err);
int kl_sq_query_int(struct kl_backend *b, const char *sql, int64_t *ret, struct kl_error *err);

// import.c: on the opener's thread, before load.
int kl_sq_import_begin(struct kl_backend *b, struct kl_import *im, struct kl_error *err);
int kl_sq_import_rows(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err);
int kl_sq_import_end(struct kl_backend *b, const struct kl_import *im, struct kl_error *err);
// The same in two steps, with a load that is not refused in between.
int kl_sq_import_revs(struct kl_backend *b, const struct kl_import *im, struct kl_error *err);
int kl_sq_import_done(struct kl_backend *b, struct kl_error *err);
int kl_sq_import_refuse(struct kl_backend *b, struct kl_error *err); // a cut one is not loaded
