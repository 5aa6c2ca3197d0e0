// SPDX-License-Identifier: Apache-2.0
// What the engine of the SQL back ends (store/sql/engine_int.h) asks of a database: connections,
// the statements below, and the commit of a batch, each as fast as that database can do it. A
// driver knows SQL and its client library; it knows nothing of threads, retries and the core.
//
// Every function blocks, on the thread that uses the connection (one at a time), but not longer
// than the connection's timeout. Isolation is READ COMMITTED. The library is loaded with dlopen
// when the first connection is made; a missing one is KL_EUNSUPPORTED, one sentence with the name
// of the package.
//
// Errors are translated here, once:
//   KL_EAGAIN        nothing happened and the same may succeed now: deadlock, serialization
//                    failure, lock timeout (MariaDB 1020, 1205, 1213; PostgreSQL 40001, 40P01,
//                    55P03)
//   KL_EUNAVAILABLE  the connection is gone or its timeout passed, the server starts, shuts down,
//                    has no room for another connection or has become read-only: close it, connect
//                    again. What was being committed is in doubt.
//   KL_ENOTFOUND     connect: no such database. Statements: no such table.
//   KL_EUNAUTHORIZED connect: wrong user or password
//   KL_EFORBIDDEN    no permission
//   KL_EUNSUPPORTED  no library, too old a server
//   KL_ENOSPC        the database's disk is full
//   KL_EEXISTS       a unique index refused a row
//   KL_ETOOLARGE     a value or statement larger than the server's settings allow
//   KL_EINVALID      a certificate or a URL's parameter that cannot be used
//   KL_ENOMEM        here; others: KL_EINTERNAL
// The message is whole ("datastore host:5432/db: ..."), and holds no password.
#pragma once
#include "store/backend.h"
#include "store/sql/endpoint.h"
#include "base/buf.h"
#include <pthread.h>
#include <stdatomic.h>

// ---- values ----

enum kl_sql_type { KL_SQL_NULL, KL_SQL_INT, KL_SQL_BYTES, KL_SQL_NAME };

// A parameter, borrowed; or a column, valid until the next call on its connection. NAME is the type
// of kine.name, which is text in a table that kine made and bytes in ours: a parameter must be
// bound as that column's type for the index to serve. Columns are never NAME but BYTES.
struct kl_sql_value {
    enum kl_sql_type type;
    int64_t i;
    struct kl_str s;
};

#define KL_SQL_INT(v) ((struct kl_sql_value){.type = KL_SQL_INT, .i = (v)})
#define KL_SQL_BYTES(v) ((struct kl_sql_value){.type = KL_SQL_BYTES, .s = (v)})
#define KL_SQL_NAME(v) ((struct kl_sql_value){.type = KL_SQL_NAME, .s = (v)})

// ---- statements: prepared on first use on each connection ----

// Rows of kine, the columns of KL_SQL_KV: id, name, deleted, create_revision, version, lease_id,
// txn_rev (NULL: id), value (NULL: a deletion).
enum { KL_SQL_KV_COLUMNS = 8, KL_SQL_MAX_COLUMNS = 2 * KL_SQL_KV_COLUMNS, KL_SQL_MAX_PARAMS = 8 };

enum kl_sql_stmt {
    // () -> history_id, epoch, batch_seq, rev, compact_rev, physical_rev, chain, writer,
    // format_min,
    // cluster_id, import_source (NULL: none), import_base (NULL), and the database's wall time in
    // ms
    // since 1970. One row.
    KL_SQL_HEAD,
    // As KL_SQL_HEAD, and locks the row until the transaction ends: with it taken, no commit is
    // under way, in whatever session.
    KL_SQL_LOCK,
    // (after_seq, through_seq) -> history_id, batch_seq, rev, epoch of kv_meta, and for each row of
    // kv_batch with after_seq < batch_seq <= through_seq, in order: batch_seq, writer_id, nonce,
    // base_rev, n, compact_rev, extra (NULL: empty), chain. Without such a row one row with NULLs.
    // All of one snapshot.
    KL_SQL_BATCHES,
    // () -> the first four of KL_SQL_BATCHES, at half its cost. One row.
    KL_SQL_TIP,
    // (seq) -> nonce, writer_id, chain of that row of kv_batch, or no row
    KL_SQL_BATCH,
    // (after_id, through_id) -> KL_SQL_KV of kine, in order of id, without joins
    KL_SQL_FEED,
    // (after_name, limit) -> id, name of the newest row of each name > after_name that is not a
    // deletion, in order of name, at most limit. A scan of the covering index alone, without a
    // sort.
    KL_SQL_LOAD,
    // () -> id, ttl_ms, deadline_ms
    KL_SQL_LEASES,
    // (after_id, limit) -> KL_SQL_KV, and KL_SQL_KV of the row that it replaced (NULLs when that is
    // gone, is none, or is a deletion), in order of id
    KL_SQL_ROWS,
    // (rev) -> the greatest id < rev whose txn_rev, or id, is < rev; or no row
    KL_SQL_ROWS_FROM,
    // (name, end, rev, limit) -> KL_SQL_KV of the newest row of each name in [name, end) with id
    // and
    // txn_rev <= rev, that is not a deletion, in order of name
    KL_SQL_RANGE,
    KL_SQL_RANGE_TO_LAST,       // (name, rev, limit): the same without an end
    KL_SQL_RANGE_COUNT,         // (name, end, rev) -> count
    KL_SQL_RANGE_TO_LAST_COUNT, // (name, rev) -> count
    // (rev) -> the greatest id <= rev whose txn_rev, or id, is < rev; or no row
    KL_SQL_STEP_FROM,
    // (from, through) -> id, prev_revision, deleted, txn_rev (or id) of from < id <= through, in
    // order of id
    KL_SQL_STEP_ROWS,
    // (through): raises kv_meta.physical_rev; 0 rows when it is there already
    KL_SQL_STEP_DONE,
    // (ms, limit): deletes those of the `limit` oldest rows of kv_batch whose at_ms is < ms
    KL_SQL_TRIM_BATCHES,
    // (id, address, version, heartbeat_ms, started_ms): inserts or updates a row of kv_peer
    KL_SQL_PEER_PUT,
    KL_SQL_PEER_DEL, // (id)
    KL_SQL_PEERS,    // () -> id, address, version, heartbeat_ms, started_ms
    // (writer, epoch_from): sets kv_meta.writer and epoch = epoch_from + 1 where epoch = epoch_from
    KL_SQL_LEAD,
    // (history_id, rev, chain): sets kv_meta's history_id, rev, compact_rev = rev,
    // batch_seq = batch_seq + 1,000,000, epoch = epoch + 1, chain: after a rollback
    KL_SQL_NEW_HISTORY,
    // (source, base_rev): sets kv_meta.import_source and import_base
    KL_SQL_IMPORT_BEGIN,
    KL_SQL_IMPORT_NEWEST, // () -> MAX(id) of kine (NULL: none)
    // (rev, compact_rev, history_id, chain): sets them, physical_rev = compact_rev, batch_seq =
    // batch_seq + 1,000,000, epoch = epoch + 1, import_source and import_base NULL
    KL_SQL_IMPORT_END,
    // () -> bytes of the tables with their indexes, bytes of these that are in use (NULL: unknown)
    KL_SQL_SIZES,
    KL_SQL_STMTS
};

// ---- a batch ----

// What is committed together with a batch of the core's.
struct kl_sql_commit {
    const struct kl_batch *batch; // rows (kl_sql_row_* below), leases, compact_rev
    int64_t seq;                  // the batch's; kv_meta.batch_seq must be seq - 1
    int64_t epoch;                // kv_meta.epoch must be this
    int64_t history_id;           // kv_meta.history_id must be this
    int64_t prev_chain;           // kv_meta.chain must be this
    int64_t writer_id, nonce;
    int64_t chain;       // afterwards
    int64_t now_ms;      // kv_batch.at_ms: this server's idea of the database's wall time
    struct kl_str extra; // kv_batch.extra, maybe empty
    bool notify;         // send a notification with `seq` to those who listen
};

// kine's columns of a row, the same in every dialect. created, deleted: 0 or 1; lease: 0;
// old_value: NULL.
static inline int64_t kl_sql_row_created(const struct kl_row *r)
{
    return !r->kv->deleted && r->kv->version == 1;
}
static inline int64_t kl_sql_row_create_revision(const struct kl_row *r)
{
    return r->kv->deleted && r->prev ? r->prev->create_rev : r->kv->create_rev;
}
// 0: NULL. A creation replaces nothing, also when its key was there once: UNIQUE(name,
// prev_revision) lets NULLs be.
static inline int64_t kl_sql_row_prev_revision(const struct kl_row *r)
{
    return r->prev ? r->prev->id : 0;
}
static inline int64_t kl_sql_row_txn_rev(const struct kl_row *r) // 0: NULL
{
    return r->kv->mod_rev != r->kv->id ? r->kv->mod_rev : 0;
}
// version: kv->version; lease_id: kv->lease, 0: NULL; value: NULL when deleted, maybe empty

// ---- tables ----

enum kl_sql_tables {
    KL_SQL_TABLES_NONE,  // the database (or our schema in it) is empty of tables of these names
    KL_SQL_TABLES_OURS,  // kine and kv_meta
    KL_SQL_TABLES_KINE,  // kine's own without kv_meta
    KL_SQL_TABLES_OTHER, // of these names, but with other columns, or not all of them
};

// First row of kv_meta: format, format_min, rev 1, compact_rev, physical_rev, batch_seq 0, epoch 1,
// chain 0.
struct kl_sql_new {
    int format;
    int64_t cluster_id, history_id;
};

//   kine(id PK, name, created, deleted, create_revision, prev_revision, lease, value, old_value,
//        version, lease_id, txn_rev), explicit ids; a covering index kl_cover on (name, id DESC)
//        with deleted, create_revision, version, lease_id, txn_rev; unique (name,
//        prev_revision) kine_name_prev_revision_uindex
//   kv_meta(k PK CHECK (k = 1), format, format_min, rev, compact_rev, physical_rev, epoch,
//   batch_seq,
//        chain, cluster_id, history_id, writer (id of the batch leader, 0: nobody), import_source
//        NULL, import_base NULL)
//   kv_batch(batch_seq PK, epoch, writer_id, nonce, base_rev, n, compact_rev, chain, at_ms, extra
//        NULL) and no other index: it is short
//   kv_lease(id PK, ttl_ms, deadline_ms)
//   kv_peer(id PK, address, version, heartbeat_ms, started_ms)
// Sessions carry the mark by which a trigger on tables that were kine's knows us: the setting
// kinglet.writer = '1' (PostgreSQL), the variable @kinglet_writer = 1 (MariaDB, MySQL).
// Numbers are signed 64 bits but created, deleted, lease, which are kine's.

// ---- the driver ----

struct kl_sql_driver;

// Drivers embed it as their first member.
struct kl_sql_conn {
    const struct kl_sql_driver *driver;
    char name[256];          // of the endpoint, for messages
    struct kl_key_rule keys; // that kine.name holds; set by prepare
    atomic_int fd;           // of the socket, for kl_sql_interrupt; -1: none
    atomic_bool interrupted;
};

struct kl_sql_driver {
    const char *scheme; // of the URL: "postgres", "mysql"
    const char *title;  // "PostgreSQL"
    enum kl_endpoint_kind kind;
    size_t max_key_bytes;   // of kine.name in tables that we make
    size_t max_insert_rows; // of one call of insert; 0: no limit

    // A session that is ready to use. timeout_ms bounds every later call; 0: none.
    int (*connect)(const struct kl_endpoint *e, int timeout_ms, struct kl_sql_conn **ret_c,
                   struct kl_error *err);
    void (*close)(struct kl_sql_conn *c); // accepts NULL
    // Any thread, while close is not called: ends what runs on the connection, soon, with
    // KL_EUNAVAILABLE, and everything after it.
    void (*interrupt)(struct kl_sql_conn *c);
    // On a connection of its own; 0 when it is there by now.
    int (*create_database)(const struct kl_endpoint *e, struct kl_error *err);

    int (*inspect)(struct kl_sql_conn *c, enum kl_sql_tables *ret_t, struct kl_error *err);
    // Whole or not at all as far as the database can, and safe against another server that does it
    // now: what is there already stays as it is.
    int (*create_tables)(struct kl_sql_conn *c, const struct kl_sql_new *n, struct kl_error *err);
    // The type of kine.name (text or bytes; which keys it holds) and other things that depend on
    // the tables: called once after they are there, before any statement.
    int (*prepare)(struct kl_sql_conn *c, struct kl_error *err);

    // Rows: query, then fetch until it is not 1 (1: a row; 0: the end; negative: an error), then
    // finish, always, which gives up what was not fetched. `cells` holds KL_SQL_MAX_COLUMNS.
    int (*query)(struct kl_sql_conn *c, enum kl_sql_stmt which, const struct kl_sql_value *params,
                 size_t nparams, struct kl_error *err);
    int (*fetch)(struct kl_sql_conn *c, struct kl_sql_value *cells, struct kl_error *err);
    void (*finish)(struct kl_sql_conn *c);
    // Without rows. *ret_rows: how many were changed; may be NULL.
    int (*exec)(struct kl_sql_conn *c, enum kl_sql_stmt which, const struct kl_sql_value *params,
                size_t nparams, int64_t *ret_rows, struct kl_error *err);
    // Outside of begin and end every statement is a transaction. Snapshot: read only, and all
    // statements see one state (REPEATABLE READ).
    int (*begin)(struct kl_sql_conn *c, bool snapshot, struct kl_error *err);
    int (*end)(struct kl_sql_conn *c, bool commit, struct kl_error *err);

    // One whole transaction in as few round trips as possible: locks kv_meta's row and checks it
    // against seq, epoch, history_id and prev_chain (otherwise KL_ECONFLICT and nothing changed),
    // raises rev to batch->last_rev, batch_seq, chain and compact_rev (never lowers that), inserts
    // the rows, stores and deletes the leases, inserts the row of kv_batch, notifies, commits
    // durably.
    int (*commit)(struct kl_sql_conn *c, const struct kl_sql_commit *m, struct kl_error *err);
    // Rows alone, and leases, of an import; inside begin and end.
    int (*insert)(struct kl_sql_conn *c, const struct kl_row *rows, size_t n, struct kl_error *err);
    int (*insert_leases)(struct kl_sql_conn *c, const struct kl_lease_op *ops, size_t n,
                         struct kl_error *err);
    // Empties kine, kv_lease and kv_batch; outside of begin and end.
    int (*clear)(struct kl_sql_conn *c, struct kl_error *err);
    // Deletes rows of kine by their ids (ascending), as one statement or few.
    int (*delete_rows)(struct kl_sql_conn *c, const kl_rev *ids, size_t n, int64_t *ret_rows,
                       struct kl_error *err);
    // Only one session has it at a time: true in *ret_got until end of the transaction that began.
    int (*try_lock)(struct kl_sql_conn *c, bool *ret_got, struct kl_error *err);

    // For the take-over of kine's tables (store/transfer/kine.h): statements as they stand, several
    // with semicolons; and one whose rows fetch brings, in columns of the types above.
    int (*run)(struct kl_sql_conn *c, struct kl_str sql, int64_t *ret_rows, struct kl_error *err);
    int (*look)(struct kl_sql_conn *c, struct kl_str sql, struct kl_error *err);

    // Notifications; all NULL: none, the engine polls.
    int (*listen)(struct kl_sql_conn *c, struct kl_error *err);
    int (*fd)(struct kl_sql_conn *c); // to poll for reading between calls
    // What came, without waiting: *ret_seq is the newest number announced by another session than
    // `self` (0: none).
    int (*notified)(struct kl_sql_conn *c, const struct kl_sql_conn *self, int64_t *ret_seq,
                    struct kl_error *err);
};

extern const struct kl_sql_driver kl_sql_postgres, kl_sql_mysql;

// ---- libraries (dl.c) ----

// A client's library, opened when it is first used and never closed: such libraries do not like
// it. Static; mu is PTHREAD_MUTEX_INITIALIZER.
struct kl_sql_symbol {
    const char *name;
    void **fn;
};
struct kl_sql_lib {
    const char *soname, *package;
    const struct kl_sql_symbol *symbols; // to fill
    size_t nsymbols;
    bool (*start)(void); // once, afterwards; may be NULL
    pthread_mutex_t mu;
    bool tried;
    int code;
    struct kl_error err;
};
// KL_EUNSUPPORTED: one sentence that names the package.
int kl_sql_lib_open(struct kl_sql_lib *l, struct kl_error *err);
// ops->interrupt of both.
void kl_sql_interrupt(struct kl_sql_conn *c);
// A name between quotes, those in it doubled.
void kl_sql_put_name(struct kl_buf *b, const char *name, char quote);
