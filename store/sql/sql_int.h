// SPDX-License-Identifier: Apache-2.0
// The engine of the SQL back ends: what several servers need to share a database, over any driver.
//
// Every batch has a number, kv_meta.batch_seq, that goes up by one under the lock of kv_meta's row:
// that is the order of everything, also of batches that change leases only or compact. A batch is
// committed only by who has all before it (compare of number, chain and history id; otherwise
// KL_ECONFLICT). Threads, each a loop with a connection of its own:
//
//   writer   commits batches and finds out what became of one whose answer was lost; compaction
//   feed     reads what other servers committed, told by NOTIFY, by peers, or by polling; confirms
//            the head; notices that the database was set back
//   reader   history, values; heartbeats and house-keeping
//
// The core's loop alone decides the order in which batches go up: `at` is what the core has, the
// next one is at.seq + 1, whether it comes from the writer or from the feed.
#pragma once
#include "store/sql/driver.h"
#include "store/sql/members.h"
#include "store/store.h"
#include "base/buf.h"
#include <pthread.h>
#include <stdatomic.h>

enum {
    KL_SQL_FORMAT = 1,
    KL_SQL_WRITE_MS = 10000, // how long a batch waits for the database
    KL_SQL_DOUBT_MS = 10000, // and how much longer to learn what became of it
    KL_SQL_READ_MS = 10000,  // how long a read waits for the database
    KL_SQL_CALL_MS = 10000,  // of one call
    KL_SQL_READ_CALL_MS = 60000,
    KL_SQL_BACKOFF_MIN_MS = 50,
    KL_SQL_BACKOFF_MAX_MS = 2000,
    KL_SQL_POLL_MS = 1000,  // with notifications: for one that was lost
    KL_SQL_POLL_MIN_MS = 5, // without them: while others write
    KL_SQL_POLL_MAX_MS = 250,
    KL_SQL_PASS_BATCHES = 32, // of one pass of the feed
    KL_SQL_PASS_BYTES = 8 << 20,
    KL_SQL_GROUP_BATCHES = 8, // of one query
    KL_SQL_GROUP_ROWS = 2048,
    KL_SQL_PENDING_MAX = 256, // batches behind one of our own that is not settled yet
    KL_SQL_HEARTBEAT_MS = 5000,
    KL_SQL_LEADER_BEAT_MS = 2000, // of every server that the others can reach
    KL_SQL_LEADER_FRESH_MS = 6000,
    KL_SQL_PEER_FRESH_MS = 20000,
    KL_SQL_PEER_OLD_MS = 3600000,
    KL_SQL_BATCH_KEEP_MS = 300000, // kv_batch is for servers that are behind by less
    KL_SQL_TRIM_ROWS = 5000,
    KL_SQL_LOAD_ROWS = 10000,
    KL_SQL_JUMP = 1000000, // of the revision after the database was set back
};

// A place in the log.
struct kl_sql_pos {
    int64_t history_id, seq, chain;
    kl_rev rev;
};

struct kl_sql_head {
    int64_t history_id, epoch, seq, chain, writer, format_min, cluster_id, now_ms;
    int64_t import_source, import_base;
    int64_t asked_ms; // of kl_mono_ms: now_ms was true between then and now
    bool importing;
    kl_rev rev, compact_rev, physical_rev;
};

// One connection, used by one thread, interrupted by any.
struct kl_sql_session {
    struct kl_backend *backend;
    const char *what;
    struct kl_sql_conn *conn;
    pthread_mutex_t mu; // of conn, for others than its thread
    int timeout_ms;
    int64_t backoff_ms, next_try_ms;
    struct kl_error err; // of the last attempt
};

// What comes from the feed, waiting for its turn.
struct kl_sql_entry {
    struct kl_sql_pos after;
    struct kl_batch *batch;
    struct kl_sql_entry *next;
};

// The state as it is in the database now, read whole on the feed's thread.
struct kl_sql_state {
    struct kl_sql_pos pos;
    kl_rev compact_rev, physical_rev;
    bool continues;
    struct kl_kv **kvs;
    size_t nkvs, cap_kvs, given;
    struct kl_lease_op *leases;
    size_t nleases, cap_leases;
    struct kl_backend *backend;
};

struct kl_sql_write {
    struct kl_batch *batch;
    struct kl_sql_pos base, after;
    int64_t nonce;
    int64_t target_seq; // of a conflict: what the database was at; INT64_MAX: another history
    int64_t give_up_ms; // of a conflict whose news do not come
    struct kl_buf extra;
};

struct kl_sql_pass {
    struct kl_task task; // to the core and back
    struct kl_sql_entry *entries, **end;
    struct kl_sql_pos head; // of the database
    struct kl_head_req *q;  // confirmed by this pass
    struct kl_sql_state *state;
    struct kl_sql_pos before; // fed, when the core cannot take the state
    int code;
    struct kl_error err;
    size_t outside; // batches of others
    bool more;
};

struct kl_backend {
    struct kl_store *core;
    const struct kl_sql_driver *d;
    struct kl_endpoint ep;
    char name[256];
    struct kl_key_rule keys; // as the first connection found them
    int64_t id;              // of this server
    int64_t started_ms;
    bool read_only, started, closed;
    struct kl_loop *writer_loop, *feed_loop, *reader_loop;
    struct kl_sql_session writer, feed, reader;
    pthread_mutex_t mu; // the rest of this block
    pthread_cond_t wake;
    bool closing;
    int64_t import_epoch; // of the import that this one is: another one's is higher
    kl_rev import_through;
    struct kl_sql_pos shared_at;           // a copy of `at`
    int64_t own_seq, own_nonce, own_chain; // newest of ours that is known to be committed
    kl_rev seen_rev;                       // the greatest ever
    uint64_t peers[KL_SQL_PEERS_MAX];      // other servers that were there a moment ago
    char peer_address[KL_SQL_PEERS_MAX][KL_SQL_ADDRESS_MAX + 1];
    size_t npeers;
    atomic_llong inflight_nonce; // what the writer has not settled
    atomic_llong epoch, db_minus_mono_ms, db_clock_slack_ms;
    atomic_llong db_bytes, used_bytes;
    atomic_llong foreign_ms; // when another server's batch came up
    bool had_turn;           // the writer's: its last batch was stored
    // The core's loop.
    struct kl_sql_pos at;
    struct kl_sql_entry *pending, **pending_end;
    size_t npending;
    struct kl_sql_write write;
    bool conflicted;
    struct kl_head_req *head; // confirmed, but what it includes did not all come up
    struct kl_sql_pos head_pos;
    struct kl_task drain_task, free_task;
    bool drain_posted;
    // The feed's loop.
    struct kl_sql_pos fed;
    struct kl_sql_pass pass;
    bool passing, pass_again, suspect;
    struct kl_head_req *want_head;
    int64_t want_head_ms;
    int poll_ms;
    uv_timer_t poll_timer;
    uv_poll_t *notify_poll; // closed with its connection
    struct kl_task feed_task, kick_task, stop_task;
    atomic_bool kicked, refeed, doubted;
    bool quiet; // the last pass found nothing new
    bool complained;
    // The reader's loop.
    uv_timer_t beat_timer;
    struct kl_task beat_task;
    int64_t next_sizes_ms;
    atomic_llong leader; // kv_meta.writer
    atomic_int keeper;   // enum kl_keeper
    atomic_bool leader_posted;
    struct kl_task leader_task;
    bool answers;     // the database, at the last heartbeat
    size_t row_bytes; // mean of what history brought
};

// session.c
void kl_sql_session_init(struct kl_sql_session *s, struct kl_backend *b, const char *what,
                         int timeout_ms);
void kl_sql_session_fini(struct kl_sql_session *s);
// Connects when needed, again and again until the deadline (of kl_mono_ms).
int kl_sql_session_get(struct kl_sql_session *s, int64_t deadline_ms, struct kl_sql_conn **ret_c,
                       struct kl_error *err);
void kl_sql_session_drop(struct kl_sql_session *s);
void kl_sql_session_interrupt(struct kl_sql_session *s);
bool kl_sql_closing(struct kl_backend *b);
// A pause that close ends. Returns false when it did.
bool kl_sql_pause(struct kl_backend *b, int64_t until_ms);
// With b->mu: until somebody wakes, or the time comes (false).
bool kl_sql_wait(struct kl_backend *b, int64_t until_ms);
int kl_sql_read_head(struct kl_sql_conn *c, bool lock, struct kl_sql_head *ret_h,
                     struct kl_error *err);
int kl_sql_query(struct kl_sql_conn *c, enum kl_sql_stmt which, const struct kl_sql_value *params,
                 size_t n, struct kl_error *err);
// A query of at most one row with one number. *ret_found may be NULL.
int kl_sql_query_int(struct kl_sql_conn *c, enum kl_sql_stmt which,
                     const struct kl_sql_value *params, size_t n, int64_t *ret, bool *ret_found,
                     struct kl_error *err);
int kl_sql_exec(struct kl_sql_conn *c, enum kl_sql_stmt which, const struct kl_sql_value *params,
                size_t n, int64_t *ret_rows, struct kl_error *err);
#define KL_SQL_PARAMS(...)                                                                         \
    (const struct kl_sql_value[]){__VA_ARGS__},                                                    \
        sizeof((const struct kl_sql_value[]){__VA_ARGS__}) / sizeof(struct kl_sql_value)

// entry.c
int64_t kl_sql_chain(int64_t prev, const struct kl_batch *b);
int kl_sql_extra_encode(struct kl_backend *b, const struct kl_batch *batch, struct kl_buf *buf);
int kl_sql_extra_decode(struct kl_backend *b, struct kl_str extra, struct kl_batch *batch,
                        struct kl_error *err);
// The columns of KL_SQL_KV from cells on; with the value. NULL: out of memory.
struct kl_kv *kl_sql_kv(struct kl_backend *b, const struct kl_sql_value *cells);
int64_t kl_sql_now_ms(struct kl_backend *b); // the database's wall time, or a little before
void kl_sql_set_clock(struct kl_backend *b, const struct kl_sql_head *h);
int64_t kl_sql_deadline_to_db(struct kl_backend *b, const struct kl_lease_op *op);
int64_t kl_sql_deadline_from_db(struct kl_backend *b, int64_t ms);

// load.c: on the opener's thread, and the feed's
int kl_sql_open_tables(struct kl_backend *b, struct kl_error *err);
int kl_sql_load(struct kl_backend *b, struct kl_loaded *l, struct kl_error *err);
int kl_sql_read_state(struct kl_backend *b, struct kl_sql_conn *c, struct kl_sql_state **ret_st,
                      struct kl_error *err);
void kl_sql_state_free(struct kl_sql_state *st);
// live.c: within a snapshot
int kl_sql_load_live(struct kl_backend *b, struct kl_sql_conn *c, struct kl_loaded *l,
                     struct kl_error *err);
int kl_sql_give_state(void *arg, struct kl_loaded *l); // for kl_core_reset
// After the database was set back, or another server noticed that: one history for all again.
// `force`: also when the database's word for it is that nothing happened.
int kl_sql_settle_history(struct kl_backend *b, struct kl_sql_conn *c, bool force,
                          struct kl_error *err);
int kl_sql_same_log(struct kl_backend *b, struct kl_sql_conn *c, const struct kl_sql_head *head,
                    bool *ret_same, struct kl_error *err);

// write.c
void kl_sql_propose(struct kl_backend *b, struct kl_batch *batch);
void kl_sql_compact_step(struct kl_backend *b, struct kl_step_req *q);
void kl_sql_tidy(struct kl_backend *b, struct kl_tidy_req *q);

// deliver.c: the core's loop
void kl_sql_deliver(struct kl_backend *b, struct kl_sql_pass *p);
void kl_sql_written(struct kl_backend *b); // the writer is done with b->write
void kl_sql_free_pending(struct kl_backend *b);

// feed.c
void kl_sql_feed_start(struct kl_backend *b);
void kl_sql_feed_stop(struct kl_backend *b); // before its loop
void kl_sql_feed_free(struct kl_backend *b);
void kl_sql_kick(struct kl_backend *b); // any thread: look for news
void kl_sql_confirm_head(struct kl_backend *b, struct kl_head_req *q);

// read.c
void kl_sql_read_rows(struct kl_backend *b, struct kl_rows_req *q);
void kl_sql_read_range(struct kl_backend *b, struct kl_range_req *q);

// beat.c: the reader's loop
void kl_sql_beat_start(struct kl_backend *b);
void kl_sql_beat_stop(struct kl_backend *b);  // the closer's thread, after the loops
uint64_t kl_sql_leader(struct kl_backend *b); // the core's loop: ops->leader
int kl_sql_look_first(struct kl_backend *b, struct kl_sql_conn *c, struct kl_error *err);
void kl_sql_note_epoch(struct kl_backend *b, int64_t epoch); // read with the log; any thread
enum kl_keeper kl_sql_keeper(struct kl_backend *b);          // and ops->keeper
void kl_sql_tell_peers(struct kl_backend *b);                // the core's loop: the log has grown

// import.c
int kl_sql_import_begin(struct kl_backend *b, struct kl_import *im, struct kl_error *err);
int kl_sql_import_rows(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err);
int kl_sql_import_end(struct kl_backend *b, const struct kl_import *im, struct kl_error *err);
