// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "store/raft/node.h"

enum {
    KL_RAFT_INBOX_BYTES = 64 << 20, // messages behind the gate; more are dropped, as by a network
    KL_RAFT_INBOX_MAX = 4096,
    KL_RAFT_RESEND_MS = 1000, // the same entries are not sent again to a silent peer before
    KL_RAFT_SNAPSHOT_NEVER = 1 << 30,
    KL_RAFT_TRAILING_MIN = 16,
};

struct kl_raft_slot { // of the table of entries in memory
    uint64_t term;
    uint32_t bytes;
};

struct kl_raft_conf {
    uint64_t index;
    struct raft_buffer buf; // raft_malloc'ed
};

struct kl_raft_peer {
    uint64_t id;
    uint64_t match;               // what it acknowledged in this term
    uint64_t told;                // the commit index that it was told
    uint64_t sent_prev, sent_end; // of the newest big AppendEntries
    int64_t sent_ms;
};

struct kl_raft_inmsg {
    struct kl_raft_inmsg *next;
    uint64_t from;
    size_t n;
    char p[];
};

struct kl_raft_sent { // a send whose callback is due
    struct kl_raft_sent *next;
    struct raft_io_send *req;
    raft_io_send_cb cb;
    int status;
    struct raft_io_snapshot_get *get;
    raft_io_snapshot_get_cb get_cb;
};

struct kl_raft_node {
    struct kl_raft_env env;
    struct kl_raft_machine m;
    struct kl_raft_node_options o;
    const struct kl_raft_fs *fs;
    char *dir;
    char address[24];
    struct kl_raft_log *log;
    struct kl_raft_found found;
    struct kl_raft_meta meta; // durable
    struct raft raft;
    struct raft_io io;
    struct raft_fsm fsm;
    raft_io_tick_cb tick_cb;
    raft_io_recv_cb recv_cb;
    raft_io_close_cb close_cb;
    bool started, running, stopping, failed;

    // The gate.
    int writing; // appends, truncations, snapshots under way
    int working; // jobs of any kind
    bool busy;   // in an event
    bool held, tick_due;
    struct kl_raft_inmsg *in, **in_end;
    size_t in_bytes, in_n;
    struct kl_raft_proposal *proposals, **proposals_end;
    struct kl_raft_sent *sent, **sent_end;
    bool soon;
    bool unapplied; // out of memory: libraft tries again with the next commit, if there is one

    // The log as libraft has it in memory.
    struct kl_raft_slot *slot;
    size_t nslots, cap_slots; // slot[i] is of entry first + i
    uint64_t first;
    int64_t log_bytes, since_snapshot;
    struct kl_raft_manifest manifest; // of the newest snapshot; index 0: none
    struct kl_raft_conf *conf;        // in order; the last one holds
    size_t nconf, cap_conf;
    struct kl_raft_node_member *member;
    size_t nmembers;
    uint64_t durable; // entries up to here are on the disk

    // Following.
    uint64_t verified; // entries up to here were compared with this term's leader's log
    uint64_t incoming; // what the message being handled would verify
    const struct raft_request_vote *asked; // the message being handled
    int64_t heard_ms;                      // from a leader
    bool fetching;
    uint64_t fetching_from;
    struct raft_message install; // waits for its data
    bool has_install;

    // Leading.
    int role;
    uint64_t leader, term;
    bool ready;
    struct raft_barrier *barrier;
    struct kl_raft_peer *peer;
    size_t npeers;
    struct kl_raft_node_change *change;
    bool restarting;
    uint64_t restart_from; // entries from here on go first
    void (*stopped)(void *arg);
    void *stopped_arg;
};

// node.c: events
void kl_raft_node_fail(struct kl_raft_node *n, const struct kl_error *err);
void kl_raft_node_event(struct kl_raft_node *n); // after one: what is due, then the next
void kl_raft_node_restart(struct kl_raft_node *n, uint64_t from); // soon, without entries >= from

// node_open.c: opening, starting
void kl_raft_node_start_anew(struct kl_raft_node *n);
void kl_raft_node_close_raft(struct kl_raft_node *n); // whoever waits in libraft is told

// node_fsm.c
void kl_raft_node_fsm_init(struct kl_raft_node *n);

// node_ask.c: proposals, changes
bool kl_raft_node_start_proposal(struct kl_raft_node *n); // false: none waits
void kl_raft_node_fail_proposals(struct kl_raft_node *n);

// table.c: the table of entries and configurations
int kl_raft_table_push(struct kl_raft_node *n, uint64_t index, uint64_t term, unsigned short type,
                       const void *p, size_t len);
void kl_raft_table_cut(struct kl_raft_node *n, uint64_t from);
void kl_raft_table_drop(struct kl_raft_node *n, uint64_t before); // entries before it
void kl_raft_table_clear(struct kl_raft_node *n, uint64_t first);
uint64_t kl_raft_table_last(const struct kl_raft_node *n);
uint64_t kl_raft_table_term(const struct kl_raft_node *n, uint64_t index); // 0: not known
int kl_raft_table_conf(struct kl_raft_node *n, uint64_t index, const void *p, size_t len);
struct kl_raft_peer *kl_raft_node_peer(struct kl_raft_node *n, uint64_t id);

// disk.c, net.c: the raft_io's functions
void kl_raft_disk_init(struct kl_raft_node *n);
int kl_raft_net_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *m,
                     raft_io_send_cb cb);
void kl_raft_net_deliver(struct kl_raft_node *n, uint64_t from, struct kl_str msg);
void kl_raft_net_notice(struct kl_raft_node *n); // followers learn what is committed
void kl_raft_net_flush(struct kl_raft_node *n);  // callbacks of sends
int kl_raft_net_later(struct kl_raft_node *n, struct kl_raft_sent s);
