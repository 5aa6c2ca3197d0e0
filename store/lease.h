// SPDX-License-Identifier: Apache-2.0
// Leases: keys that are deleted together when a deadline passes. etcd's Lease service. Deadlines
// are absolute and stored, so that a restart neither forgets nor extends them.
#pragma once
#include "store/txn.h"

enum kl_lease_kind {
    KL_LEASE_GRANT,     // id 0: the store chooses one
    KL_LEASE_REVOKE,    // deletes the keys too; answers when they are gone
    KL_LEASE_KEEPALIVE, // deadline = now + granted ttl
    KL_LEASE_TTL,       // remaining and, with want_keys, the keys
    KL_LEASE_LIST,      // ids and their times
};

#define KL_LEASE_MAX_TTL 9000000000 // seconds, etcd's limit

// etcd's alarms: in the log and durable, and no revision is theirs. That is what leases are, so
// they are kept as such, with a TTL that no client may ask for: KL_LEASE_MAX_TTL and the alarm's
// number.
enum { KL_ALARM_NOSPACE = 1, KL_ALARM_CORRUPT, KL_ALARMS };
#define KL_LEASE_MAX_STORED_MS ((KL_LEASE_MAX_TTL + KL_ALARMS - 1) * 1000)

// Embedded, zeroed, submitted once; kl_lease_req_fini frees the results.
struct kl_lease_req {
    enum kl_lease_kind kind;
    int64_t id;
    int64_t ttl_s; // GRANT: asked for; result: granted
    bool want_keys;
    bool alarm; // GRANT, REVOKE, LIST: of an alarm. Who does not say so finds none
    void (*cb)(struct kl_lease_req *req); // exactly once, later, on the submitting loop
    struct kl_loop *loop;                 // NULL: the submitting thread's

    int code; // KL_ENOTFOUND, KL_EEXISTS, KL_EINVALID (ttl), or the store's
    struct kl_error err;
    int64_t remaining_ms;        // TTL, KEEPALIVE, GRANT
    int64_t *ids;                // LIST
    int64_t *ttls_ms, *lefts_ms; // LIST: granted and remaining of each (they live with ids)
    struct kl_kv **kvs;          // TTL with want_keys: the versions attached
    size_t n;                    // of ids or kvs
    kl_rev rev;

    struct kl_task task; // the store's
    struct kl_store *store;
    uint64_t server, seq;
    bool again;
};

bool kl_store_keeps_alarms(const struct kl_store *s); // false: the back end keeps the leases itself
unsigned kl_store_alarms(struct kl_store *s); // that stand: bits 1 << KL_ALARM_X; any thread
int kl_store_lease(struct kl_store *s, struct kl_lease_req *req, struct kl_error *err);
void kl_lease_req_fini(struct kl_lease_req *req);
