// SPDX-License-Identifier: Apache-2.0
// The store's core. Everything here belongs to the core's loop but what says otherwise.
#pragma once
#include "store/backend.h"
#include "store/evict.h"
#include "store/index_int.h"
#include "store/ring_int.h"
#include "store/store.h"
#include "store/view.h"
#include "base/map.h"
#include <pthread.h>

enum {
    KL_BATCH_MAX_TXNS = 512,
    KL_BATCH_MAX_BYTES = 1 << 20, // soft: one bigger transaction travels alone
    KL_LEASE_BATCH_KEYS = 500,
    KL_FULL_GROWTH_BYTES = 512,     // what an update may add to a key while the disk is full
    KL_FULL_UPDATE_BYTES = 2 << 20, // of updates while the disk is full; the rest is for deletions
    KL_FULL_CHECK_MS = 1000,
    KL_COMPACT_SAMPLES = 8,
    KL_QUEUE_MAX_BYTES = 64 << 20, // keys and values of the transactions waiting
    KL_TURN_ROWS = 1024,           // of big batches, in one iteration of a loop
    KL_BIG_ROWS = 2048,            // more make a batch big
};

// What waits in the queue beside clients' transactions: kl_txn.internal.
enum kl_work { KL_WORK_TXN, KL_WORK_LEASE, KL_WORK_REVOKE, KL_WORK_COMPACT, KL_WORK_HEAD };

// A read of the back end: one at a time, so that a batch never waits behind more than one.
struct kl_read {
    struct kl_task task;
    struct kl_read *next;
    struct kl_store *store;
    void (*start)(struct kl_read *rd, struct kl_store *s);
};

struct kl_forward;

struct kl_queue {
    struct kl_txn *first, **end;
    size_t n;
};

// What many rows take is done in slices, one an iteration of the loop.
struct kl_slice {
    struct kl_txn *txn; // being evaluated; nothing else is meanwhile
    bool depends;       // it does, on what is not durable
    bool choosing;      // its compares are not all evaluated yet
    size_t at;          // rows numbered
    bool preparing;     // what fills is whole and made ready to be proposed
    bool posted;
    struct kl_task task;
};

// What is to be freed when there is time (grave.c).
struct kl_grave {
    struct kl_batch *first, **end;
    struct kl_batch *held; // whose view somebody still has
    struct kl_node *path[KL_ITER_DEPTH];
    int depth;
    struct kl_task task;
    bool posted, started;
    uv_timer_t timer;
};

struct kl_lease {
    int64_t id, ttl_ms;
    int64_t deadline_mono_ms;               // when it ends, if nobody renews it
    int64_t stored_mono_ms;                 // the deadline that is durable, later than that
    int64_t storing_mono_ms;                // in a batch that is not durable yet
    struct kl_lease *due_next, **due_pprev; // of those that the next batch stores
    bool pending;                           // granted in a batch that is not durable yet
    bool revoking;                          // no new keys
    struct kl_kv *keys;
    int64_t nkeys;
    size_t heap_at; // SIZE_MAX: not in the heap
};

struct kl_leases {
    struct kl_map by_id; // the id's 8 bytes
    struct kl_lease **heap;
    size_t n, cap;
    int64_t unapplied_puts; // rows with a lease in batches that are not applied
    int64_t unsettled;      // big batches that are, whose deleted keys still stand in lists
    int64_t expiring_keys;  // about what the expiries under way have in the queue
    struct kl_lease *due;
    bool leading, keeping; // keeping: KL_KEEPER_SELF
};

struct kl_held {
    struct kl_view *view;
    int64_t until_ms;
};

struct kl_compaction {
    kl_rev physical, window;
    bool stepping, tidying, want_tidy;
    struct kl_step_req step;
    struct kl_tidy_req tidy;
    struct kl_compact_wait *waits; // for the rows to go
    struct {
        int64_t ms;
        kl_rev rev;
    } sample[KL_COMPACT_SAMPLES];
    int nsamples;
    int64_t next_auto_ms;
    bool auto_queued;
    bool outdated; // the step under way is of a log that was set back
    int64_t retry_ms;
};

struct kl_store {
    struct kl_store_options o;
    const struct kl_backend_ops *ops;
    struct kl_backend *backend;
    struct kl_key_rule keys; // that may be put
    struct kl_loop *loop;
    uint64_t origin, cluster_id, seq;

    pthread_mutex_t readers_mu; // view (for new readers), readers
    struct kl_view *view;       // applied; written by the core's loop
    struct kl_reader *readers;
    int64_t nreaders;

    pthread_mutex_t held_mu; // held views; never on the path of a current read
    struct kl_held held[KL_HOLD_MAX];

    struct kl_index spec; // applied + in flight + filling
    uint64_t gen;
    struct kl_batch *inflight, *fill;
    bool stale;        // the log moved under what is in flight
    bool taking;       // an outside batch of many rows is under way: nothing is evaluated
    bool replay_again; // a transaction whose results were made meanwhile is no longer what it was
    struct kl_queue queue;
    struct kl_task pump;
    bool pumping;
    struct kl_ring_room room;
    struct kl_slice slice;
    struct kl_grave grave;
    struct kl_evict evict;
    uv_prepare_t turn;
    size_t turn_rows; // of this iteration

    struct kl_head_req head; // at most one at a time
    bool asking_head;
    struct kl_queue head_waiting, head_next; // waiting for this one; for the one after it

    struct kl_read *reads, **reads_end;
    bool reading, starting_reads;

    struct kl_leases leases;
    struct kl_compaction compaction;
    uv_timer_t timer;
    bool full, checking_space;
    int64_t full_budget, full_check_ms;

    bool may_be_fenced;

    struct kl_forward *forward; // NULL: everything is evaluated here

    bool stopping;
    struct kl_task stop_task;

    // Any thread.
    atomic_bool refuse;
    atomic_llong queued, queued_bytes, nwatches;
    struct {
        atomic_llong keys, leases, ring_bytes, rev, compact_rev, physical_rev;
        atomic_llong txns, batches, rows, last_error, longest_turn;
        atomic_bool full;
        atomic_uint alarms;
    } stat;
    pthread_mutex_t text_mu;
    char last_error_text[256];
};

// core.c: the steps of kl_store_open. make: the back end is open, nothing is loaded. begin: loads
// and starts, or frees s. unmake: instead of begin.
int kl_store_make(const char *url, const struct kl_store_options *o, struct kl_store **ret_s,
                  struct kl_error *err);
int kl_store_begin(struct kl_store *s, struct kl_error *err);
void kl_store_unmake(struct kl_store *s);
// The row of the table for a URL, and what its open gets.
int kl_store_find_backend(const struct kl_store_options *o, const char *url,
                          const struct kl_backend_ops **ret_ops, struct kl_str *ret_rest,
                          struct kl_error *err);
int64_t kl_store_mono_ms(const struct kl_store *s);
int64_t kl_store_wall_ms(const struct kl_store *s);
void kl_store_arm_timer(struct kl_store *s);
void kl_store_set_error(struct kl_store *s, int code, const char *text);
void kl_store_read(struct kl_store *s, struct kl_read *rd); // any thread
void kl_store_read_done(struct kl_store *s);
void kl_store_count_watch(struct kl_store *s, int d); // any thread
void kl_store_maybe_stop(struct kl_store *s);

// load.c
int kl_store_load(struct kl_store *s, struct kl_error *err);

// view.c
void kl_store_publish(struct kl_store *s, struct kl_view *v);
void kl_store_add_reader(struct kl_store *s, struct kl_reader *r);
void kl_store_remove_reader(struct kl_store *s, struct kl_reader *r);

// eval.c
enum kl_eval {
    KL_EVAL_ANSWER,    // txn->code and results are final
    KL_EVAL_BATCH,     // part of s->fill
    KL_EVAL_WAIT,      // read something that is not durable: answer with that batch
    KL_EVAL_HEAD,      // read only: the head must be confirmed first
    KL_EVAL_LATER,     // needs what is in flight to be applied
    KL_EVAL_MORE,      // the next slice: kl_eval_go_on
    KL_EVAL_NOMEM,     // s->spec is unusable
    KL_EVAL_ELSEWHERE, // it would write, and this server may not
};
enum kl_eval kl_eval_txn(struct kl_store *s, struct kl_txn *txn);
enum kl_eval kl_eval_go_on(struct kl_store *s, struct kl_txn *txn);
// Of another state: which sides run, a read. Sliced, they may be KL_EAGAIN: the rest in the next
// turn.
void kl_eval_begin(struct kl_txn_body *body);
int kl_eval_sides(struct kl_store *s, const struct kl_index *x, bool sliced,
                  struct kl_txn_body *body);
int kl_eval_get(struct kl_store *s, const struct kl_index *x, bool sliced, struct kl_op *op);
void kl_txn_reset(struct kl_txn *txn); // drops results before another evaluation
int kl_batch_row(struct kl_batch *b, struct kl_row **ret_row);

// txn_check.c
int kl_txn_check(const struct kl_txn *txn, const struct kl_key_rule *keys, size_t *ret_bytes,
                 struct kl_error *err);
bool kl_txn_writes(const struct kl_txn_body *body); // what some side of it might

// kl_op.done
enum { KL_OP_DONE = 1, KL_OP_BEGUN };

// replay.c: the index after an outside batch, and the results of what was forwarded from here.
struct kl_replay {
    struct kl_index x;
    size_t at, end;   // rows; of the transaction
    size_t forwarded; // entries that are gone through
    bool sliced;      // as much as the turn has left: KL_EAGAIN, and it goes on from there
    bool at_once;     // else KL_EAGAIN also when transactions read more than that
    bool in_txn, own_done, differs;
};
// KL_ENOMEM, after which r->x is of no use.
int kl_replay_batch(struct kl_store *s, struct kl_batch *b, struct kl_replay *r);

// outside.c: all that publishing an outside batch of many rows needs. KL_EAGAIN: more of it in the
// next turn, when it is offered again; KL_ENOMEM: it begins anew then.
int kl_outside_prepare(struct kl_store *s, struct kl_batch *b);
void kl_outside_undone(struct kl_batch *b); // as if it had never been offered

// The revision of a transaction of this batch that saw, or wrote up to, its first n rows.
static inline kl_rev kl_batch_rev_at(const struct kl_batch *b, uint32_t n)
{
    return n ? b->rows[n - 1].kv->mod_rev : b->base_rev;
}

// submit.c
void kl_queue_init(struct kl_queue *q);
void kl_queue_push(struct kl_queue *q, struct kl_txn *t);
void kl_queue_push_front(struct kl_queue *q, struct kl_txn *t);
struct kl_txn *kl_queue_pop(struct kl_queue *q);
// Puts all of `list`, as if it had never been evaluated, before what is in q.
void kl_queue_prepend(struct kl_queue *q, struct kl_txn *list);
int kl_commit_admit(struct kl_store *s, struct kl_txn *txn, size_t bytes, struct kl_error *err);
void kl_commit_enqueue(struct kl_store *s, struct kl_txn *txn);
void kl_commit_answer(struct kl_store *s, struct kl_txn *txn);
void kl_commit_refuse(struct kl_store *s, struct kl_txn *txn, int code, const char *text);

// commit.c
void kl_commit_pump(struct kl_store *s); // soon, once for many calls
void kl_commit_fini(struct kl_store *s);
void kl_commit_cancel(struct kl_store *s); // answers what is only queued
void kl_commit_set_full(struct kl_store *s, bool full);
bool kl_commit_has_writes(const struct kl_batch *b);
int kl_commit_need_fill(struct kl_store *s);                    // KL_ENOMEM
void kl_commit_confirm(struct kl_store *s, struct kl_txn *txn); // back to the queue, confirmed
void kl_commit_drop_fill(struct kl_store *s); // its transactions are at the head of the queue again
void kl_commit_reset(struct kl_store *s, struct kl_node *root); // what is evaluated on
void kl_commit_moved(struct kl_store *s); // a newer state was published: evaluate on that

// slice.c
void kl_turn_start(struct kl_store *s);
size_t kl_turn_left(const struct kl_store *s);         // rows
void kl_turn_take(struct kl_store *s, size_t rows);    // handled now
void kl_store_note_turn(struct kl_store *s, size_t n); // any thread
void kl_slice_post(struct kl_store *s);                // the pump, in the next iteration

// A batch of many rows (big.h), made ready before it is proposed, so that publishing it is short.
bool kl_batch_is_big(const struct kl_batch *b);
// A slice of it. KL_EAGAIN: more; KL_ENOMEM.
int kl_big_prepare(struct kl_store *s, struct kl_batch *b);
void kl_big_free(struct kl_batch *b);

// grave.c
void kl_grave_start(struct kl_store *s);
void kl_grave_batch(struct kl_store *s, struct kl_batch *b); // instead of kl_batch_free
void kl_grave_run(struct kl_store *s);                       // there are dead chunks
void kl_grave_stop(struct kl_store *s);                      // with the loop
void kl_grave_unsettle(struct kl_store *s);                  // the leases are others now
void kl_grave_fini(struct kl_store *s);

// lease.c
int kl_leases_load(struct kl_store *s, struct kl_lease_op op);
void kl_leases_fini(struct kl_leases *ls);
enum kl_eval kl_lease_eval(struct kl_store *s, struct kl_txn *txn); // WORK_LEASE, WORK_REVOKE
void kl_lease_row_applied(struct kl_store *s, const struct kl_row *row);
void kl_lease_op_applied(struct kl_store *s, const struct kl_lease_op *op);
int kl_lease_reserve(struct kl_store *s, const struct kl_lease_op *op); // for an outside batch
void kl_lease_batch_undone(struct kl_store *s, struct kl_batch *b);
bool kl_lease_usable(struct kl_store *s, int64_t id);
void kl_lease_count_alarms(struct kl_store *s); // for any thread
void kl_lease_start(struct kl_store *s, struct kl_lease_req *q);
void kl_lease_leader_changed(struct kl_store *s);
void kl_lease_add_due(struct kl_store *s, struct kl_batch *b);
bool kl_lease_logged(const struct kl_txn *txn); // its batch ends it: not one of several
// Of KL_WORK_LEASE and KL_WORK_REVOKE: it changes nothing, or that lease only.
bool kl_lease_passes_fence(const struct kl_txn *txn, int64_t fence_lease);
bool kl_txn_is_asked(const struct kl_txn *txn); // by a client: not the store's own work
struct kl_wire_ask;
void kl_lease_fill_ask(const struct kl_txn *txn, struct kl_wire_ask *a);
void kl_lease_take_answer(struct kl_txn *txn, int64_t ttl_ms, int64_t left_ms);
int64_t kl_lease_next_ms(struct kl_store *s); // mono time of the first deadline, INT64_MAX: none
void kl_lease_expire(struct kl_store *s);

// fence.c
bool kl_store_fenced(struct kl_store *s);   // or open for reading only
int64_t kl_fence_lease(struct kl_store *s); // 0: none, or there is no fence
bool kl_fence_is(const struct kl_kv *kv);
void kl_fence_note(struct kl_store *s, const struct kl_kv *kv); // that there may be one now
void kl_fence_start(struct kl_store *s);
bool kl_fence_refuses(struct kl_store *s, struct kl_txn *txn); // sets txn->code
int kl_fence_error(struct kl_store *s, struct kl_error *err);

// compact.c
enum kl_eval kl_compact_eval(struct kl_store *s, struct kl_txn *txn);
void kl_compact_start(struct kl_store *s, struct kl_compact_wait *c);
kl_rev kl_compact_asked(const struct kl_txn *txn);
bool kl_compact_is_asked(const struct kl_txn *txn);
void kl_compact_run(struct kl_store *s); // next step when there is one
int64_t kl_compact_next_ms(struct kl_store *s);
void kl_compact_tick(struct kl_store *s);
void kl_compact_cancel(struct kl_store *s);

// reads.c
void kl_store_trim_held(struct kl_store *s);

// metrics.c
void kl_store_metrics_init(void);
void kl_store_metrics_applied(const struct kl_store *s, const struct kl_batch *b, int64_t took_ns);
void kl_store_metrics_leader(struct kl_store *s, bool changed); // etcd_server_{has,is}_leader
enum kl_store_metric {
    KL_SM_WATCHERS,
    KL_SM_LEASE_GRANTED,
    KL_SM_LEASE_REVOKED,
    KL_SM_LEASE_RENEWED,
    KL_SM_FAILED,
    KL_SM_TXN,
    KL_SM_RANGE_HISTORY,
    KL_SM_COMPACTED_KEYS,
    KL_SM_COMPACTIONS,
    KL_SM_DISK_FULL,
    KL_SM_COUNT,
};
void kl_store_metric(enum kl_store_metric m, int64_t d);
void kl_store_metric_step(int64_t took_us);
void kl_store_metric_fsync(int64_t took_ns); // any thread
