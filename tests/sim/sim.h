// SPDX-License-Identifier: Apache-2.0
// A cluster of raft:// servers in one thread and in virtual time: the product's node, log, state
// machine, proposals and reads (store/raft) over a disk, a network, a clock and a core that are the
// simulator's. One seed is one run; the same seed is the same run.
//
// What stands in for the product (the linker wraps the calls): the core (kl_core_*), the loops, the
// peers, SQLite (struct sim_db) and the streams of states between servers.
#pragma once
#include "store/raft/node_int.h"
#include "store/raft/raft_int.h"
#include "store/raft/wire.h"
#include "store/view_int.h"
#include "raft_fs.h"

enum {
    SIM_SERVERS = 7, // places for them; one that was removed leaves its place to a new one
    SIM_DB_VERSIONS = 32,
    SIM_INDEXES = 1 << 16,
    SIM_TERMS = 1 << 14,
    SIM_TRACE = 64,
    SIM_OPS = 1 << 16,
};

// What a run goes without, to see that the simulator finds out.
enum sim_without {
    SIM_NOTHING,
    SIM_GATE,    // messages reach libraft while something is written
    SIM_BARRIER, // a new leader evaluates at once
    SIM_SYNC,    // fdatasync does nothing
    SIM_ROUND,   // a leader answers readers without asking the others
};

enum sim_kind {
    SIM_TICK,
    SIM_MESSAGE,
    SIM_WORK,
    SIM_DONE,
    SIM_BOOT,
    SIM_SOON,
    SIM_FETCHED,
    SIM_CLIENT,
    SIM_READER,
    SIM_FAULT,
    SIM_HEAL,
    SIM_CHANGE,
    SIM_POLL
};

struct sim_event {
    int64_t at; // microseconds
    uint64_t order;
    enum sim_kind kind;
    int server, queue;
    uint64_t from; // id
    unsigned run;  // of the server that it is for; another one is not told
    enum kl_peer_channel channel;
    struct kl_bytes *msg;
};

// What SQLite holds.
struct sim_db {
    uint64_t index, term, chain, state, conf_index;
    kl_rev rev;
    size_t nconf;
    uint8_t conf[320];
};

struct sim_item { // of a queue: one of the two
    struct sim_item *next;
    struct kl_raft_job *job;
    struct kl_raft_write *write;
};

struct sim_queue {
    struct sim_item *first, **end;
    bool worked; // its first job is, and waits for its end to be told
    bool due;
};

struct sim_op {   // a batch
    kl_rev floor; // what was acknowledged or read before it was asked
    bool done, failed, applied;
};

struct sim;
struct sim_seen;
struct sim_read;

struct sim_server {
    struct kl_raft r;     // first
    struct kl_store core; // as far as the state machine looks into it
    struct sim *sim;
    int place;
    uint64_t id;
    unsigned run;
    bool used;    // there is a server in this place
    bool up;      // it runs
    bool dying;   // it ends with this event
    bool retired; // it was removed from the cluster
    bool joins;   // it has no state yet
    bool power;   // that it ended by
    int64_t paused;
    struct kl_task *deferred, **deferred_end;
    struct sim_queue queue[2];
    struct sim_db db, durable, version[SIM_DB_VERSIONS], ready;
    size_t nversions;
    bool has_ready, installed;
    uint64_t fetching;
    struct rfs disk;
    struct kl_batch *batch; // in flight
    uint64_t op;
    bool full; // the core knows that there is no room
    struct sim_read *reads_open;
    struct kl_raft_node_change *change;
    // What was seen of it before.
    uint64_t term, vote;
    int role;
    uint64_t first, *log; // terms, from first
    size_t nlog, cap_log;
};

struct sim_options {
    uint64_t seed;
    enum sim_without without;
    bool verbose;
    int seconds;
};

// Where the schedule of eight.c is: servers by place.
struct sim_eight {
    bool on;
    int step, a, b, c, d, e, w, o;
    uint64_t term, index, x;
    int64_t until;
};

struct sim_line {
    int64_t at;
    const char *what;
    int server;
    uint64_t a, b, c;
};

struct sim {
    struct sim_options o;
    char dir[2];
    uint64_t rng;
    int64_t now;
    uint64_t order, steps;
    struct sim_event *heap;
    size_t nheap, cap_heap;
    struct sim_server server[SIM_SERVERS];
    int voters;
    uint64_t next_id;
    bool calm; // no faults any more
    kl_rev calm_floor;

    // This run's weather.
    int64_t net_us, net_jitter_us, disk_us, disk_jitter_us, db_us, fault_us, client_us;
    int drop, late, twice, reorder; // of 1000 messages
    int p_fail;                     // of 1000 calls of the file system, roughly
    bool cut[SIM_SERVERS][SIM_SERVERS];
    int64_t arrives[SIM_SERVERS][SIM_SERVERS];
    bool members, snapshots;
    struct sim_eight eight;

    // What must hold.
    const char *broken;
    char detail[512];
    struct sim_seen *seen; // every entry that ever was, by index and term
    size_t nseen, cap_seen;
    uint64_t leader[SIM_TERMS]; // id
    struct {
        uint64_t term, by_term, chain;
        kl_rev rev;
        bool applied;
    } at[SIM_INDEXES];
    uint64_t committed; // the newest index
    struct sim_op op[SIM_OPS];
    uint64_t nops;
    uint64_t op_of_rev[SIM_OPS];
    kl_rev floor; // the newest that was acknowledged or read
    uint64_t acked, reads, elections, crashes, installs, changes, skipped, snapshots_taken, boots;

    struct sim_line trace[SIM_TRACE];
    uint64_t ntrace;
};

// sim.c
uint64_t sim_random(struct sim *s, uint64_t n); // below n
bool sim_chance(struct sim *s, int of_1000);
void sim_post(struct sim *s, int64_t after_us, struct sim_event e);
void sim_trace(struct sim *s, int server, const char *what, uint64_t a, uint64_t b, uint64_t c);
void sim_break(struct sim *s, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int sim_send(struct sim *s, struct sim_server *from, uint64_t to, enum kl_peer_channel c,
             struct kl_bytes *msg);
struct sim *sim_run(const struct sim_options *o); // sim_free it
void sim_free(struct sim *s);
void sim_print(const struct sim *s);

// eight.c
void sim_eight(struct sim *s);

// server.c
void sim_server_prepare(struct sim *s, int place, bool joins); // an empty disk, a new id
int sim_server_bootstrap(struct sim *s, int n);                // the first n as voters
void sim_server_boot(struct sim_server *v);
void sim_server_crash(struct sim_server *v, bool power);
void sim_server_event(struct sim_server *v, const struct sim_event *e);
void sim_server_free(struct sim_server *v);
struct sim_server *sim_server_by_id(struct sim *s, uint64_t id);
struct sim_server *sim_server_leader(struct sim *s);
// What the product's code asks of a server (wrap.c).
extern struct sim *sim_running;
void sim_server_fatal(void *raft, const struct kl_error *err);        // it ends with this event
void sim_server_write(struct sim_server *v, struct kl_raft_write *w); // in SQLite's queue
void sim_server_write_now(struct sim_server *v, const struct kl_raft_write *w);

// work.c: what clients and operators do
void sim_client(struct sim_server *v);
void sim_reader(struct sim_server *v);
void sim_change(struct sim_server *v);
void sim_drop_reads(struct sim_server *v); // their server is gone
void sim_acked(struct sim_server *v, const struct kl_batch *b);
void sim_failed(struct sim_server *v, struct kl_batch *b, int code);

// check.c
void sim_check(struct sim_server *v); // after each event of it
void sim_check_boot(struct sim_server *v);
void sim_check_sent(struct sim_server *v, uint64_t to, struct kl_str msg);
void sim_check_entry(struct sim_server *v, uint64_t index, uint64_t term, const void *p, size_t n);
void sim_check_applied(struct sim_server *v, uint64_t index, uint64_t term);
void sim_check_batch(struct sim_server *v, const struct kl_batch *b);
