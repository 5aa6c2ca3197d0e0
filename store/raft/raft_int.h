// SPDX-License-Identifier: Apache-2.0
// raft://DIR: a raft node (store/raft/node.h) whose state machine is the core's index and, behind
// it, an SQLite file. Threads: the core's loop has the node and decides; kl-raft-log writes the log
// and ticks; kl-sqlite writes what was applied, in order, one transaction a batch.
#pragma once
#include "store/peer/peers.h"
#include "store/raft/entry.h"
#include "store/raft/members.h"
#include "store/raft/node.h"
#include "store/sqlite/sqlite_int.h"
#include <pthread.h>

enum {
    KL_RAFT_LAG_HIGH = 32 << 20, // applied and not in SQLite: nothing more is taken
    KL_RAFT_LAG_LOW = 24 << 20,
    KL_RAFT_MAYBE_MS = 10000, // a proposal whose end nobody knows
    KL_RAFT_HEAD_MS = 7000,   // a head that nobody confirms: etcd's 5 s and an election
    KL_RAFT_ASK_MS = 500,
    KL_RAFT_AGAIN_MS = 50,
    KL_RAFT_CHANGE_MS = 15000,
    KL_RAFT_HEARTBEATS = 10, // in an election timeout
    KL_RAFT_RULE_MS = 500,
    KL_RAFT_CATCH_UP = 256, // entries that a learner may lack to be promoted
    KL_RAFT_VOTERS_MAX = 5,
    KL_RAFT_BACKUP_PAGES = 256,
};

struct kl_raft;

// From the workers to the core's loop; outlives the store when its loop ends first.
struct kl_raft_wake {
    struct kl_task task;
    pthread_mutex_t mu;
    bool posted, tick, drained;
    struct kl_raft_job *done, **done_end;
    struct kl_raft *r; // NULL: closed
    struct kl_loop *loop;
};

// What was applied, on its way to SQLite.
struct kl_raft_write {
    struct kl_task task;
    struct kl_raft *r;
    struct kl_raft_write *next;
    struct kl_batch *batch; // NULL: only what follows
    uint64_t index, term, chain, state;
    struct raft_buffer conf; // base NULL: as before
    uint64_t conf_index;
    uint64_t peer; // not 0: its address
    char address[KL_RAFT_ADDRESS_MAX + 1];
    int64_t bytes;
};

struct kl_raft_address {
    uint64_t id;
    char address[KL_RAFT_ADDRESS_MAX + 1];
};

// What kv_raft says: the state up to an index.
struct kl_raft_saved {
    uint64_t index, term, chain, state, conf_index;
    struct raft_buffer conf; // malloc'ed
    kl_rev rev;
    uint64_t cluster_id;
};

struct kl_raft_asked { // one round of "which term are you in?"
    uint64_t seq, term, index;
    int64_t until_ms, sent_ms;
    kl_rev rev;
    uint64_t yes[KL_RAFT_MEMBERS_MAX];
    size_t nyes;
    bool active;
};

// One pass over the database (scrub.c).
struct kl_raft_scrub {
    uv_timer_t timer;
    struct kl_task start;
    int64_t next_ms;
    int pass_ms;
    kl_rev at, until;
    uint64_t expect, sum;
    sqlite3_stmt *rows;
    bool running, told;
    struct kl_error err;
    struct kl_raft_job job;
};

struct kl_raft {
    struct kl_backend sq; // the core's handle; first
    struct kl_store *core;
    char *dir;
    int lock_fd;
    struct kl_peers *peers;
    uint64_t id, cluster_id;
    uint64_t nonce; // origin of this run's entries
    struct kl_raft_node *node;
    struct kl_loop *log_loop;
    struct kl_raft_wake *wake;
    uv_timer_t tick; // the log's loop
    struct kl_task tick_start;
    struct kl_raft_log_check log_check;
    int64_t log_check_ms;
    bool log_told;
    unsigned heartbeat_ms;
    struct kl_raft_saved opened;
    bool started, closing;

    // The state machine: the core's loop.
    uint64_t applied, applied_term;
    uint64_t chain, state;
    kl_rev rev;
    uint64_t conf_index; // that SQLite was given
    struct kl_buf parts;
    uint64_t parts_origin, parts_seq;
    uint16_t parts_next;
    struct kl_batch *untaken; // written, not taken by the core yet (take.c)
    uint64_t untaken_index, untaken_term;
    struct kl_raft_later *later, **later_end; // entries behind it, which libraft takes for applied
    uint64_t later_index;                     // of the last
    size_t later_bytes;
    struct kl_task taking;
    bool taking_posted;

    // The one proposal.
    struct kl_batch *inflight;
    uint64_t inflight_seq;
    struct kl_raft_proposal prop;
    size_t prop_n;
    bool proposed, lost;
    bool refused; // it stands in the log and counts for nobody
    bool unsure;  // a state was installed that may have it
    int64_t lost_ms;
    struct kl_task fail;
    int fail_code;
    bool failing;
    uint64_t seq;

    // Leadership as the core was told.
    uint64_t told_leader;
    struct kl_task told;
    bool telling;
    bool soon_posted;
    struct kl_task soon;

    // Reads (read.c).
    struct kl_head_req *heads, **heads_end;   // wait for the round that is under way
    struct kl_head_req *next, **next_end;     // for the one after it
    struct kl_head_req *behind, **behind_end; // confirmed, not applied here yet
    uint64_t behind_index;
    struct kl_raft_asked ask;
    uint64_t ask_seq;
    struct { // other servers' questions, answered with the same round
        uint64_t from, seq;
    } asker[KL_RAFT_MEMBERS_MAX], asker_next[KL_RAFT_MEMBERS_MAX];
    size_t naskers, naskers_next;

    // Members (members.c).
    pthread_mutex_t status_mu;
    struct kl_raft_status status;
    struct kl_raft_address address[KL_RAFT_MEMBERS_MAX];
    size_t naddresses;
    struct kl_raft_change *changes, **changes_end; // this server's, in order
    bool changing;                                 // the first of them was asked for:
    uint64_t change_to, change_seq;                // of whom, under which number
    uint64_t asked_changes;
    struct kl_raft_node_change node_change;
    struct kl_raft_running *running;
    int64_t rule_ms, address_ms;
    uint64_t promoted_first; // of a pair
    int64_t promoted_ms;
    bool led;
    int64_t gone_ms; // this server was removed: when it ends

    // SQLite's thread.
    struct kl_raft_write *writes, **writes_end;
    const struct kl_raft_write *writing;
    uv_timer_t retry;
    bool retry_ready;
    uint64_t written, written_state; // index, and the state there
    struct kl_raft_scrub scrub;
    sqlite3_stmt *st_saved;
    atomic_llong lag;
    atomic_bool sq_low;

    // Streams (seed.c).
    pthread_t fetcher;
    bool fetcher_runs;
    atomic_bool cancel;
    uint64_t fetch_from;
    struct kl_raft_job fetched;
    int fetch_code;
    struct kl_raft_manifest fetch_manifest;
    struct kl_raft_saved installed;
    bool has_installed;
    atomic_int serving;
};

static inline struct kl_raft *kl_raft_of(struct kl_backend *b)
{
    return KL_CONTAINER_OF(b, struct kl_raft, sq);
}

extern const struct kl_backend_ops kl_backend_raft;

// raft.c
int64_t kl_raft_now(void);
void kl_raft_fatal(struct kl_raft *r, const struct kl_error *err);
void kl_raft_post_done(struct kl_raft *r, struct kl_raft_job *j); // any thread
int kl_raft_dir_lock(const char *dir, int *ret_fd, struct kl_error *err);

// fsm.c: the state machine
int kl_raft_fsm_apply(void *arg, uint64_t index, uint64_t term, const void *p, size_t n);
bool kl_raft_fsm_may_snapshot(void *arg, uint64_t index);
int kl_raft_fsm_save(void *arg, uint64_t index);
int kl_raft_fsm_restored(void *arg, uint64_t index);
// Before start: entries up to `last`, which are committed.
int kl_raft_fsm_replay(struct kl_raft *r, uint64_t last, struct kl_error *err);
void kl_raft_fsm_diverged(struct kl_raft *r, const char *how, uint64_t index);
int kl_raft_set_address(struct kl_raft *r, uint64_t id, struct kl_str address);

int kl_raft_fsm_one(struct kl_raft *r, uint64_t index, uint64_t term, const void *p, size_t n);

// take.c: an outside batch of many rows, which the core takes in turns, and what comes meanwhile.
int kl_raft_take(struct kl_raft *r, struct kl_batch *b, uint64_t index, uint64_t term);
bool kl_raft_take_busy(const struct kl_raft *r);
// An entry while it is busy: later, or the same that it lacked memory for.
int kl_raft_take_later(struct kl_raft *r, uint64_t index, uint64_t term, const void *p, size_t n);
uint64_t
kl_raft_take_last(const struct kl_raft *r); // the last entry that is applied here, or will be
void kl_raft_take_jumped(struct kl_raft *r, uint64_t index); // a state has all up to there
void kl_raft_take_free(struct kl_raft *r);                   // at the end: frees r, maybe later

// state.c: SQLite
int kl_raft_state_open(struct kl_raft *r, struct kl_error *err);
void kl_raft_state_finalize(struct kl_raft *r); // the statements
int kl_raft_import_begin(struct kl_backend *b, struct kl_import *im, struct kl_error *err);
int kl_raft_import_end(struct kl_backend *b, const struct kl_import *im, struct kl_error *err);
int kl_raft_state_snapshot(struct kl_backend *b, kl_rev rev, struct kl_error *err);
int kl_raft_state_load(struct kl_raft *r, struct kl_loaded *l, struct kl_error *err);
int kl_raft_saved_read(sqlite3 *db, struct kl_raft_saved *ret, struct kl_error *err);
void kl_raft_saved_fini(struct kl_raft_saved *s);
int kl_raft_state_hash(struct kl_backend *b, uint64_t *ret, struct kl_error *err); // a whole scan
void kl_raft_write_post(struct kl_raft *r, struct kl_raft_write *w);
int kl_raft_write_now(struct kl_raft *r, struct kl_raft_write *w, struct kl_error *err);
void kl_raft_write_free(struct kl_raft_write *w);
struct kl_raft_write *kl_raft_write_new(struct kl_raft *r, const struct kl_batch *b, uint64_t index,
                                        uint64_t term);

// scrub.c
void kl_raft_scrub_start(struct kl_raft *r);
void kl_raft_scrub_poll(struct kl_raft *r); // the log's part
// On SQLite's thread:
void kl_raft_scrub_written(struct kl_raft *r, const struct kl_batch *b); // it is in the database
void kl_raft_scrub_reset(struct kl_raft *r); // another database takes the place

// propose.c
void kl_raft_propose(struct kl_backend *b, struct kl_batch *batch);
void kl_raft_propose_poll(struct kl_raft *r);
void kl_raft_propose_applied(struct kl_raft *r); // what was in flight is
// The state jumped to that of entry `index`, which has revision `rev`.
void kl_raft_propose_jumped(struct kl_raft *r, uint64_t index, kl_rev rev);

// read.c
void kl_raft_confirm_head(struct kl_backend *b, struct kl_head_req *q);
void kl_raft_read_message(void *arg, uint64_t from, struct kl_str msg);
void kl_raft_read_poll(struct kl_raft *r);

// members.c
void kl_raft_member_message(void *arg, uint64_t from, struct kl_str msg);
void kl_raft_members_poll(struct kl_raft *r);
void kl_raft_members_close(struct kl_raft *r);

// seed.c
void kl_raft_fetch(void *arg, uint64_t from);
int kl_raft_install(void *arg);
int kl_raft_serve(void *arg, uint64_t from, struct kl_str name, struct kl_peer_out *out,
                  struct kl_error *err);
// Blocking, before there is a state: fetches one and its place in the log.
int kl_raft_seed(struct kl_raft *r, uint64_t from, bool muted, struct kl_error *err);
int kl_raft_finish_install(struct kl_raft *r, struct kl_error *err); // one that was cut
// The next start fetches the state. KL_EUNAVAILABLE: no other server can be relied on to have it.
// On the core's loop, or before start.
int kl_raft_mark_reseed(struct kl_raft *r);
void kl_raft_save_peers(struct kl_raft *r); // their addresses, beside the database
void kl_raft_mark_removed(const char *dir); // recover.c
// KL_EFORBIDDEN: it was; or it is being recovered, and that was cut.
int kl_raft_check_removed(const char *dir, struct kl_error *err);
bool kl_raft_take_reseed(struct kl_raft *r); // addresses of the others go to the peers
int kl_raft_wipe_state(struct kl_raft *r, struct kl_error *err);
