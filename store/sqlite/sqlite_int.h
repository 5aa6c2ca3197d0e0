// SPDX-License-Identifier: Apache-2.0
// sqlite://PATH: one file, one connection, one thread that owns it (a loop of its own).
#pragma once
#include "store/backend.h"
#include <sqlite3.h>

enum {
    KL_SQ_FORMAT = 1, // what this code writes; kv_meta.format_min says what a reader must know
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
    KL_SQ_FREELIST,
    KL_SQ_PAGES,
    KL_SQ_VACUUM,
    KL_SQ_STMTS
};

struct kl_backend {
    struct kl_store *core;
    struct kl_loop *loop; // the writer's
    char *path;
    sqlite3 *db;
    sqlite3_stmt *stmt[KL_SQ_STMTS];
    int page_bytes;
    int wal_pages; // as the WAL hook says
    bool unclean;
    bool closing, import_ends;
    uv_timer_t idle, reserve_timer;
    int reserve_fd;
    int64_t reserve_bytes;
    unsigned batches;
    struct kl_task start_task;
    kl_rev rev; // of the file
    // store/raft: what else belongs to a batch's transaction. NULL: nothing.
    int (*also)(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err);
    atomic_llong db_bytes, used_bytes, wal_bytes;
};

// schema.c: on the opener's thread.
int kl_sq_open(struct kl_backend *b, struct kl_error *err);
int kl_sq_load(struct kl_backend *b, struct kl_loaded *l, struct kl_error *err);
void kl_sq_start(struct kl_backend *b);    // its timers; on the writer's loop
void kl_sq_finalize(struct kl_backend *b); // the statements
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
void kl_sq_read_value(struct kl_backend *b, struct kl_value_req *q);
void kl_sq_compact_step(struct kl_backend *b, struct kl_step_req *q);
void kl_sq_tidy(struct kl_backend *b, struct kl_tidy_req *q);
int kl_sq_checkpoint(struct kl_backend *b, bool truncate);
int kl_sq_wal_room(struct kl_backend *b, struct kl_error *err); // for one more batch
void kl_sq_after_commit(struct kl_backend *b);
void kl_sq_update_sizes(struct kl_backend *b);
// sqlite.c: the same as requests from the core's loop.
void kl_sq_post_read_rows(struct kl_backend *b, struct kl_rows_req *q);
void kl_sq_post_read_range(struct kl_backend *b, struct kl_range_req *q);
void kl_sq_post_read_value(struct kl_backend *b, struct kl_value_req *q);
void kl_sq_post_compact_step(struct kl_backend *b, struct kl_step_req *q);
void kl_sq_post_tidy(struct kl_backend *b, struct kl_tidy_req *q);
void kl_sq_get_sizes(struct kl_backend *b, struct kl_backend_sizes *ret); // any thread
// The reserve: a file whose blocks are given back when the disk is full, so that deletions work.
void kl_sq_reserve_make(struct kl_backend *b);
void kl_sq_reserve_release(struct kl_backend *b);
// Decodes columns col.. (id, name, deleted, create_revision, version, lease_id, txn_rev, value).
struct kl_kv *kl_sq_column_kv(struct kl_backend *b, sqlite3_stmt *st, int col);

// schema.c: the tables beside kine's; one statement without rows; the first column of the first row
// as a number.
extern const char kl_sq_meta_sql[];
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
