// SPDX-License-Identifier: Apache-2.0
// One raft server: libraft with our raft_io. Everything happens on one thread, the owner's, in
// events: a tick, a message, a call, the end of something that a disk did. Between events the gate
// decides: while anything is being written to the log nothing but that end is let in, so that
// libraft never acts in a state that is not durable (store.md 4.8: most of the faults of 0.15 need
// that). On top of it the node repairs what libraft does not:
//
//   - a barrier is proposed the moment it leads, so that entries of older terms commit by it only;
//   - it is `ready` when that barrier is applied, and evaluates nothing before;
//   - what a follower acknowledges is what it compared with the leader's log, not what lies behind;
//   - a vote is never given twice in a term, to a transferee neither;
//   - a lone voter takes a new term at each start: its unsynced entries may be elsewhere;
//   - a configuration that is overwritten in the log is forgotten by starting libraft anew;
//   - a server that lost its state votes for nobody until it has caught up.
//
// Time, disks, the network and chance are behind struct kl_raft_env: the store gives it loops and
// peers (store/raft/raft.c), a simulator its own.
#pragma once
#include "store/raft/log.h"
#include "base/bytes.h"
#include "base/loop.h"
#include <raft.h>

struct kl_raft_node;

// Work off the thread. Jobs of one queue run in order, and their ends come in that order.
struct kl_raft_job {
    void (*work)(struct kl_raft_job *j); // where blocking is allowed
    void (*done)(struct kl_raft_job *j); // the owner's thread, later
    struct kl_task task;                 // the environment's
    struct kl_raft_job *next;
    void *env;
};

enum kl_raft_queue { KL_RAFT_DISK, KL_RAFT_STATE };

struct kl_raft_env {
    void *arg;
    void (*run)(void *arg, enum kl_raft_queue q, struct kl_raft_job *j);
    int64_t (*now_ms)(void *arg); // never goes back
    uint64_t (*random)(void *arg);
    int (*send)(void *arg, uint64_t to, struct kl_bytes *msg); // 0, or it is lost
    void (*soon)(void *arg); // kl_raft_node_soon after what is ready to run now
    // The server cannot go on: what its disk holds is not known, or its state is not the others'.
    // Does not return in the product.
    void (*fatal)(void *arg, const struct kl_error *err);
};

// The state machine.
struct kl_raft_machine {
    void *arg;
    // In order. Every server gets the same. KL_ENOMEM: again later.
    int (*apply)(void *arg, uint64_t index, uint64_t term, const void *p, size_t n);
    // Whether a snapshot can be taken at `index`, the newest entry that was applied: only where the
    // state says of itself that it is at that index, or a copy of it would seem too old.
    bool (*may_snapshot)(void *arg, uint64_t index);
    // On the STATE queue: everything up to `index` becomes durable. 0 or negative.
    int (*save)(void *arg, uint64_t index);
    // The state is at `index` or behind it when raft starts, or after install.
    int (*restored)(void *arg, uint64_t index);
    // The leader has no log for this server any more: fetch its state from `from`, durable beside
    // the present one, and call kl_raft_node_fetched.
    void (*fetch)(void *arg, uint64_t from);
    // On the STATE queue, when raft has made the log follow on it: it replaces the present one.
    int (*install)(void *arg);
    void (*changed)(void *arg); // role, leader, term, or what is applied
    void (*message)(void *arg, uint64_t from, struct kl_str msg); // one of KL_RAFT_WIRE_OWN
};

struct kl_raft_node_options {
    uint64_t id;
    unsigned election_ms, heartbeat_ms;
    size_t snapshot_bytes;   // of log between two snapshots
    size_t snapshot_entries; // at most that many stay behind a snapshot
};

// Opens DIR's log. found is only looked at before start.
int kl_raft_node_new(const char *dir, const struct kl_raft_fs *fs, const struct kl_raft_env *env,
                     const struct kl_raft_machine *m, const struct kl_raft_node_options *o,
                     struct kl_raft_node **ret_n, struct kl_error *err);
const struct kl_raft_found *kl_raft_node_found(const struct kl_raft_node *n);
struct kl_raft_log *kl_raft_node_log(struct kl_raft_node *n);
// Before start, blocking: a cluster of this server alone; or a server whose state came from
// another one (the manifest takes its place in the log).
int kl_raft_node_bootstrap(struct kl_raft_node *n, struct kl_error *err);
int kl_raft_node_seed(struct kl_raft_node *n, const struct kl_raft_manifest *m, bool muted,
                      struct kl_error *err);
bool kl_raft_node_is_alone(const struct kl_raft_node *n);     // the only voter
uint64_t kl_raft_node_snapshot(const struct kl_raft_node *n); // the newest one's index, or 0
int kl_raft_node_start(struct kl_raft_node *n, struct kl_error *err);
// After it nothing is called back but `stopped`, once what is under way has ended.
void kl_raft_node_stop(struct kl_raft_node *n, void (*stopped)(void *arg), void *arg);
void kl_raft_node_free(struct kl_raft_node *n);

// ---- events ----

void kl_raft_node_tick(struct kl_raft_node *n); // every heartbeat_ms
void kl_raft_node_message(struct kl_raft_node *n, uint64_t from, struct kl_str msg);
void kl_raft_node_soon(struct kl_raft_node *n);
void kl_raft_node_fetched(struct kl_raft_node *n, int code, const struct kl_raft_manifest *m);
// No message is let in while it is set: the state machine cannot take more.
void kl_raft_node_hold(struct kl_raft_node *n, bool hold);

// A proposal of entries that follow one another. cb: 0 after they were applied; otherwise they are
// not known to be: `index` says where the first of them would stand. Embedded.
struct kl_raft_proposal {
    void (*cb)(struct kl_raft_proposal *p, int code);
    uint64_t index; // 0: never in the log
    uint64_t term;
    // The node's.
    struct raft_apply req;
    struct kl_raft_proposal *next;
    struct kl_raft_node *node;
    struct raft_buffer *bufs;
    size_t nbufs;
};
// Takes the buffers (raft_malloc'ed) and the array (malloc'ed).
void kl_raft_node_propose(struct kl_raft_node *n, struct kl_raft_proposal *p,
                          struct raft_buffer *bufs, size_t nbufs);

// One change of the configuration, or a transfer of leadership, at a time.
enum kl_raft_node_op {
    KL_RAFT_NODE_ADD,
    KL_RAFT_NODE_ROLE,
    KL_RAFT_NODE_REMOVE,
    KL_RAFT_NODE_TRANSFER
};
struct kl_raft_node_change {
    enum kl_raft_node_op op;
    uint64_t id;
    int role; // libraft's
    void (*cb)(struct kl_raft_node_change *c,
               int code); // KL_EUNAVAILABLE: not the leader (any more)
    struct raft_change req;
    struct raft_transfer transfer;
    struct kl_raft_node *node;
};
// KL_ECONFLICT: another one is under way; KL_EUNAVAILABLE: not the leader, not ready.
int kl_raft_node_change(struct kl_raft_node *n, struct kl_raft_node_change *c);

// Reads the log's next segment again, off the thread. Zeroed, with cb; outlives the node's jobs.
struct kl_raft_log_check {
    void (*cb)(struct kl_raft_log_check *c);
    uint64_t seq; // of the segment that was read; 0: all were
    int code;     // KL_ECORRUPT
    struct kl_error err;
    bool busy;
};
void kl_raft_node_check_log(struct kl_raft_node *n, struct kl_raft_log_check *c);

// ---- what it is ----

struct kl_raft_node_member {
    uint64_t id;
    int role; // libraft's
    uint64_t match;
};

struct kl_raft_node_state {
    int role;        // libraft's RAFT_FOLLOWER...
    bool ready;      // leads, and its barrier is applied
    uint64_t leader; // 0: none known; it itself only when ready
    uint64_t term, last_index, first_index, applied;
    int64_t log_bytes;
    bool muted;
};
void kl_raft_node_state(const struct kl_raft_node *n, struct kl_raft_node_state *ret);
// Of the newest configuration in the log, *ret_n of them; valid until the next event.
const struct kl_raft_node_member *kl_raft_node_members(const struct kl_raft_node *n, size_t *ret_n);
// The configuration that holds at `index`, encoded; NULL when it is not in the log any more.
const struct raft_buffer *kl_raft_node_conf(const struct kl_raft_node *n, uint64_t index,
                                            uint64_t *ret_conf_index);
int kl_raft_code(int rv); // libraft's error to ours
