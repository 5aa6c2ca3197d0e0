// SPDX-License-Identifier: Apache-2.0
// etcd://: the log is a remote etcd's, which gives the revisions. One watch of all keys is the only
// order there is: what this server wrote is answered when the watch brings its revision.
//
//   core's loop                         the network's loop ("kl-etcd")
//   propose ── guards, Txn ───────────► write.c: sent; stored at R, a guard was lost at H, or
//   unknown read_rows, read_range, lease ─────► read.c, lease.c confirm_head ─────────────────────►
//   feed.c: a linearizable read, then the watch up to there kl_core_applied, _stored, _failed ◄
//   feed.c: the watch's revisions, in order kl_core_reset ◄──────────────────── load.c: everything
//   anew, when the watch cannot go on
//
// One transaction is in flight at a time, and while its outcome is open what the watch brings
// waits.
#pragma once
#include "store/backend.h"
#include "store/etcd/etcd_gen.h"
#include "store/lease.h"
#include "net/grpc.h"
#include "net/proto.h"

enum {
    KL_REMOTE_TARGETS = 16,
    KL_REMOTE_CALL_MS = 5000,   // one try
    KL_REMOTE_WAIT_MS = 10000,  // until what can be tried again is given up
    KL_REMOTE_WRITE_MS = 20000, // a transaction, with finding out what became of it
    KL_REMOTE_TICK_MS = 50,
    KL_REMOTE_BACKOFF_MAX_MS = 1000,
    KL_REMOTE_GUARDS = 64,           // keys of one range that are guarded one by one
    KL_REMOTE_HELD_BYTES = 64 << 20, // then the watch is not read
    KL_REMOTE_FENCE_TTL_S = 600,
};

#define KL_REMOTE_REV_MAX (INT64_MAX / 2) // what is said to be more is not believed

// ---- calls: on the network's loop ----

// One unary call. Embedded or allocated; done exactly once, later; then kl_remote_call_fini.
struct kl_remote_call {
    struct kl_backend *b;
    const struct kl_proto_method *method;
    struct kl_bytes *request; // owned
    void (*done)(struct kl_remote_call *c);
    bool retry;          // harmless to ask twice: until deadline_ms
    int64_t deadline_ms; // 0: KL_REMOTE_WAIT_MS from now
    // Results.
    int code;    // of gRPC
    bool sent;   // it may have been seen
    void *reply; // in the arena
    struct kl_arena arena;
    struct kl_error err;
    kl_rev seen; // when it was asked
    // call.c's.
    struct kl_grpc_call *grpc;
    struct kl_remote_call *next;
    int64_t next_ms;
    uint32_t backoff_ms;
    bool active;
};

struct kl_bytes *kl_remote_encode(const struct kl_proto_desc *d,
                                  const void *msg); // NULL: no memory
// Takes c->request, which may be NULL for lack of memory. method: enum of etcd_gen.h.
void kl_remote_call(struct kl_backend *b, struct kl_remote_call *c, int method);
void kl_remote_call_fini(struct kl_remote_call *c);
// The kl_err and the text of an answer: the remote's own words.
int kl_remote_error(const struct kl_remote_call *c, struct kl_error *err);
void kl_remote_calls_tick(struct kl_backend *b, int64_t now_ms);
void kl_remote_calls_cancel(struct kl_backend *b);
int kl_remote_channel_open(struct kl_backend *b, struct kl_error *err);
void kl_remote_channel_lost(struct kl_backend *b); // the next server, the next time
void kl_remote_wake(struct kl_backend *b);         // the timer runs

// ---- what goes up: run on the core's loop, in order ----

struct kl_remote_up {
    struct kl_task task;
    struct kl_backend *b;
    int (*apply)(struct kl_remote_up *u); // KL_ENOMEM: again; anything else: it is done with
};
void kl_remote_post(struct kl_backend *b, struct kl_remote_up *u); // network's loop

// A revision of the watch.
struct kl_remote_rev {
    struct kl_remote_up up;
    struct kl_remote_rev *next;
    struct kl_batch *batch;
    struct kl_batch *own; // NULL: somebody else's
    bool fenced;          // a new fence from here on
};

// Everything, as it was at one revision.
struct kl_remote_state {
    struct kl_remote_up up;
    kl_rev rev, compact_rev;
    uint64_t cluster_id, member_id;
    struct kl_kv **kvs;
    size_t n, cap;
};

// target.c: what follows "://".
int kl_remote_parse(struct kl_backend *b, struct kl_str rest, bool is_unix, struct kl_error *err);
// One sentence about why it cannot be opened.
int kl_remote_explain(const struct kl_remote_call *c, struct kl_error *err);

// load.c: the network's loop. done gets the state, or an error; one at a time.
typedef void (*kl_remote_loaded_cb)(struct kl_backend *b, struct kl_remote_state *st, int code,
                                    const struct kl_error *err);
void kl_remote_load(struct kl_backend *b, kl_remote_loaded_cb done);
void kl_remote_state_free(struct kl_remote_state *st);
int kl_remote_state_give(void *arg, struct kl_loaded *l);
// KL_EPROTO: no etcd says that. KL_ENOMEM.
int kl_remote_kv(const struct kl_etcd_key_value *m, bool deleted, struct kl_kv **ret);

// ---- the proposed batch ----

enum kl_remote_outcome {
    KL_REMOTE_OPEN,    // sent, or to be found out
    KL_REMOTE_STORED,  // at rev
    KL_REMOTE_LOST,    // a guard did not hold at rev
    KL_REMOTE_REFUSED, // batch->code says why
};

struct kl_remote_write {
    struct kl_batch *batch;
    struct kl_backend *b;
    struct kl_task task;    // to the network's loop
    struct kl_remote_up up; // and back
    struct kl_remote_call call;
    struct kl_bytes *request;
    bool loose;    // has a deletion of a range whose keys are not guarded
    bool called;   // a call is under way
    bool detached; // given up meanwhile: it ends when that is back
    bool sent;     // may have been stored
    bool fenced;   // at `rev`: it will not be from then on
    enum kl_remote_outcome outcome;
    kl_rev rev;
    int code; // REFUSED
    struct kl_error err;
    int64_t give_up_ms;
    int64_t fence_lease;
};

// ---- the back end ----

enum kl_remote_feed {
    KL_REMOTE_IDLE,    // not started, or between two tries
    KL_REMOTE_OPENING, // asked for, not yet created
    KL_REMOTE_WATCHING,
    KL_REMOTE_RELOADING,
};

struct kl_backend {
    struct kl_store *core;
    char name[256]; // for messages
    char *targets[KL_REMOTE_TARGETS];
    int ntargets;
    struct kl_tls_ctx *tls;
    struct kl_loop *loop; // the network's
    pthread_mutex_t mu;   // of ask
    pthread_cond_t answered;

    // The network's loop.
    struct kl_grpc *grpc;
    int target;
    bool closing, timer_open;
    uv_timer_t timer;
    struct kl_task rotate_task;
    bool rotating;
    struct kl_remote_call *waiting; // for their next try
    int ncalls;
    uint64_t cluster_id, member_id;
    bool started;
    enum kl_remote_feed feed;
    struct kl_grpc_call *watch;
    struct kl_arena arena; // of the message that is being looked at
    int64_t feed_next_ms, feed_ms, asked_ms;
    uint32_t feed_backoff_ms;
    bool asked_progress, set_back, must_reload, paused;
    kl_rev seen;                // in `held`, or up
    kl_rev posted;              // up
    struct kl_remote_rev *part; // whose rows are not all there
    struct kl_remote_rev *held, **held_end;
    size_t held_bytes;
    struct kl_head_req *head;
    kl_rev head_rev; // 0: not known yet
    int64_t head_until_ms;
    struct kl_remote_call head_call, check_call;
    struct kl_remote_up head_up;
    struct kl_remote_write *write; // the proposed batch, when it has come here
    struct kl_remote_load *load;
    struct ask *asking; // for the state, by a thread that waits
    struct kl_remote_rows *rows;
    struct kl_remote_lease *lease_waits; // for their revision

    // The core's loop.
    char fence[48]; // a key that must be absent, so that what was given up cannot be stored later
    struct kl_task *stuck, **stuck_end; // ups, when there was no memory
    struct kl_task stuck_task;
    bool closed;
    struct kl_task free_task, head_task, start_task;
    atomic_llong bytes;
};

// feed.c
void kl_remote_feed_start(struct kl_backend *b, kl_rev seen);
void kl_remote_feed_stop(struct kl_backend *b);
bool kl_remote_needs_time(const struct kl_backend *b);
void kl_remote_feed_tick(struct kl_backend *b, int64_t now_ms);
void kl_remote_feed_run(struct kl_backend *b); // hands up what may go
// An empty revision, or the place of a compaction. KL_ENOMEM.
struct kl_remote_rev *kl_remote_rev_new(struct kl_backend *b, kl_rev base_rev, kl_rev last_rev);
void kl_remote_rev_post(struct kl_backend *b, struct kl_remote_rev *r);
void kl_remote_head(struct kl_backend *b, struct kl_head_req *q); // the core's loop
// False: it was another cluster's answer, or one from before a restore.
bool kl_remote_check_header(struct kl_remote_call *c, const struct kl_etcd_response_header *h);

// write.c
void kl_remote_propose(struct kl_backend *b, struct kl_batch *batch); // the core's loop
void kl_remote_write_tick(struct kl_backend *b, int64_t now_ms);
// Ends it in kl_core_failed. KL_EMAYBE becomes KL_EUNAVAILABLE when it was never sent.
void kl_remote_write_fail(struct kl_backend *b, int code, const struct kl_error *err);
// It is fenced and everything up to there is in `held`: decides.
void kl_remote_write_judge(struct kl_backend *b);
void kl_remote_new_fence(struct kl_backend *b);

// read.c, lease.c: the core's loop
void kl_remote_read_range(struct kl_backend *b, struct kl_range_req *q);
void kl_remote_read_rows(struct kl_backend *b, struct kl_rows_req *q);
void kl_remote_rows_tick(struct kl_backend *b, int64_t now_ms);
void kl_remote_rows_stop(struct kl_backend *b);
void kl_remote_lease(struct kl_backend *b, struct kl_lease_req *q);
// The network's loop: answers whose revision is up; the lowest that is not; all of them.
void kl_remote_lease_run(struct kl_backend *b);
kl_rev kl_remote_lease_rev(const struct kl_backend *b);
void kl_remote_lease_stop(struct kl_backend *b);
