// SPDX-License-Identifier: Apache-2.0
// The servers of a raft:// store: who they are, adding, removing and promoting them, handing
// leadership over, and what is done while no server runs. A cluster has one, three or five voters:
// a server that joins is a learner (STANDBY) until two learners have caught up, which become voters
// together; removing a voter makes the number odd again in the same way.
#pragma once
#include "store/store.h"

enum kl_raft_role { KL_RAFT_STANDBY, KL_RAFT_VOTER, KL_RAFT_SPARE }; // libraft's numbers

#define KL_RAFT_MEMBERS_MAX 32
#define KL_RAFT_ADDRESS_MAX 255

struct kl_raft_member {
    uint64_t id;
    char address[KL_RAFT_ADDRESS_MAX + 1]; // "host:port" that the others dial, "" when not known
    enum kl_raft_role role;
    bool leader, self;
    bool connected; // as seen from here
    uint64_t match; // the newest log index that it is known to have; the leader knows, others 0
};

struct kl_raft_status {
    uint64_t id, leader; // leader: 0 while there is none
    uint64_t term, last_index, applied_index, first_index;
    int64_t log_bytes; // in memory
    int64_t lag_bytes; // applied and not in SQLite yet
    uint64_t chain, state_hash;
    size_t nmembers;
    struct kl_raft_member members[KL_RAFT_MEMBERS_MAX];
};
// Any thread. KL_EUNSUPPORTED: the store is not a raft:// one.
int kl_raft_status(struct kl_store *s, struct kl_raft_status *ret, struct kl_error *err);

enum kl_raft_change_op {
    KL_RAFT_ADD,      // id, address: a learner that becomes a voter by the rule above; there: ok
    KL_RAFT_REMOVE,   // id: its process ends, and refuses to begin again with what it has
    KL_RAFT_PROMOTE,  // id: a voter now, whatever the number; the rule may undo an even one
    KL_RAFT_DEMOTE,   // id: a learner
    KL_RAFT_TRANSFER, // id, 0: the one that is furthest: becomes the leader
    KL_RAFT_ADDRESS,  // id, address: what the others dial from now on
};

// Embedded, zeroed. Any server takes it and passes it on to the leader.
struct kl_raft_change {
    enum kl_raft_change_op op;
    uint64_t id;
    char address[KL_RAFT_ADDRESS_MAX + 1];
    void (*cb)(struct kl_raft_change *c); // exactly once, later, on the submitting loop
    struct kl_loop *loop;                 // NULL: the submitting thread's
    int code; // KL_EUNAVAILABLE: no leader, or it changed on the way; KL_ENOTFOUND; KL_ECONFLICT:
              // another change is under way; KL_ETIMEOUT
    struct kl_error err;
    // The store's.
    struct kl_task task;
    struct kl_store *store;
    struct kl_raft_change *next;
    int64_t until_ms;
};
int kl_raft_change(struct kl_store *s, struct kl_raft_change *c, struct kl_error *err);

// ---- while no server has the directory open ----

// This server's id as DIR keeps it; made when there is none. For kl_peers_open before the store.
int kl_raft_server_id(const char *dir, uint64_t *ret_id, struct kl_error *err);
// The same where the id is given by others. KL_ECONFLICT: it has another one.
int kl_raft_give_server_id(const char *dir, uint64_t id, struct kl_error *err);

// `kinglet recover`: this server alone becomes the cluster's only voter, with all that its log
// holds. What other servers acknowledged and this one does not have is lost; they must join anew
// with empty directories. Clients may have seen what is lost: the revision goes up by 1,000,000,
// compacted there, so that they list anew. When it is cut no server starts until it is run again.
// Blocking.
int kl_raft_recover(const char *dir, struct kl_error *err);
