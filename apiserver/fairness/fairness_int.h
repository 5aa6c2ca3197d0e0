// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "apiserver/fairness/alloc.h"
#include "apiserver/fairness/fairness.h"
#include <pthread.h>

enum {
    KL_FAIR_NAME = 256,
    KL_FAIR_UID = 40,
    KL_FAIR_CACHE = 1024, // classifications that a loop keeps
    KL_FAIR_WATCHES = 4096,
    KL_FAIR_MAX_FLOWS = 4096, // pairs of schema and level that are counted apart
    KL_FAIR_BUCKETS = 14,
};

enum kl_fair_reason {
    KL_FAIR_QUEUE_FULL,
    KL_FAIR_CONCURRENCY_LIMIT,
    KL_FAIR_TIME_OUT,
    KL_FAIR_REASONS
};

// Of one schema in one level; under the level's mutex. Lives as long as the server.
struct kl_fair_stats {
    char schema[KL_FAIR_NAME], level[KL_FAIR_NAME];
    struct kl_fair_stats *next;
    int64_t dispatched, rejected[KL_FAIR_REASONS];
    int64_t waiting, waiting_seats, executing, seats;
    struct kl_fair_histogram {
        int64_t n[KL_FAIR_BUCKETS + 1];
        double sum;
    } waited[2], executed[2], estimated; // [1]: of requests that ran; [read, write]
};

struct kl_fair_level {
    char name[KL_FAIR_NAME], uid[KL_FAIR_UID]; // uid: under kl_fair.mu
    struct kl_fair_level *next;
    int configs; // that refer to it; under kl_fair.mu
    bool desired;
    atomic_int max_seats; // that one request may take; 0: no limit of its own
    pthread_mutex_t mu;   // all below
    struct kl_fqs q;
    struct kl_level_share share;
    struct kl_drops drops;
    struct kl_fair_ticket *tickets; // waiting and running, for the dumps
};

enum kl_flow_by { KL_FLOW_BY_NOTHING, KL_FLOW_BY_USER, KL_FLOW_BY_NAMESPACE };

// A compiled FlowSchema: names refer to the configuration's objects.
struct kl_fair_flow {
    struct kl_str name, uid;
    char level_uid[KL_FAIR_UID];
    int64_t precedence;
    enum kl_flow_by by;
    const struct kl_value *rules;
    struct kl_fair_level *level;
    struct kl_fair_stats *stats;
};

struct kl_fair_config {
    atomic_int refs;
    uint64_t generation;
    struct kl_object **objects; // what the flows refer to
    size_t nobjects;
    struct kl_fair_level **levels;
    size_t nlevels;
    size_t nflows;
    struct kl_fair_flow *flows; // in order of matching
};

enum kl_ticket_state { KL_TICKET_WAITS, KL_TICKET_RUNS, KL_TICKET_REFUSED, KL_TICKET_LEFT };

struct kl_fair_ticket {
    struct kl_fq_item item;
    struct kl_api_call *call;
    struct kl_req_info asked; // as it came: the request's own changes while it runs
    const struct kl_user *user;
    struct kl_fair_config *config; // referenced
    const struct kl_fair_flow *flow;
    void (*go_on)(struct kl_api_call *c);
    enum kl_ticket_state state;
    bool dispatched; // its turn came; under the level's mutex
    bool mutating;
    struct kl_task task;
    int64_t until_ms;                     // it waits
    struct kl_fair_ticket *next, *prev;   // of the loop's that wait
    struct kl_fair_ticket *lnext, *lprev; // of the level's
};

struct kl_fair_lingering {
    struct kl_fq_linger linger;
    struct kl_fair_level *level;
    struct kl_fair_config *config;
    struct kl_fair_stats *stats;
    int64_t until_ns;
    struct kl_fair_lingering *next;
};

struct kl_fair_entry {
    uint64_t key;
    struct kl_user *user; // referenced
    const struct kl_fair_flow *flow;
    uint64_t hash;
};

// What each loop has for itself.
struct kl_fair_loop {
    struct kl_fair *fair;
    struct kl_fair_config *config; // referenced
    struct kl_fair_entry *cache;
    struct kl_fair_ticket *parked;
    struct kl_fair_lingering *lingering;
    uv_timer_t timer;
    bool timer_ready;
};

struct kl_fair_follow; // config.c

struct kl_fair {
    struct kl_apiserver *s;
    struct kl_fair_options o;
    int limit; // of the server
    struct kl_fair_loop loops[KL_MAX_API_LOOPS];
    atomic_ullong generation;
    pthread_mutex_t mu; // all below; before a level's
    struct kl_fair_config *config;
    struct kl_fair_level *levels;
    struct kl_fair_stats *stats;
    int nstats, nominal_sum;
    double fair_fraction;
    struct kl_fair_follow *follow;
    atomic_int inflight[2];              // --enable-priority-and-fairness=false
    atomic_int executing[2], waiting[2]; // [1]: mutating
    atomic_int watches[KL_FAIR_WATCHES];
};

struct kl_fair_config *kl_fair_config_ref(struct kl_fair_config *c);
void kl_fair_config_unref(struct kl_fair *f, struct kl_fair_config *c);
// The newest, referenced.
struct kl_fair_config *kl_fair_config_now(struct kl_fair *f);
// Builds the configuration out of these objects (storage form; the arrays' references are taken
// over). Any thread.
int kl_fair_configure(struct kl_fair *f, struct kl_object **levels, size_t nlevels,
                      struct kl_object **schemas, size_t nschemas);
// A period of the borrowing is over.
void kl_fair_adjust(struct kl_fair *f);
// Whether a level of that name can be there for a schema (its Dangling condition).
bool kl_fair_level_known(struct kl_fair *f, struct kl_str name);
// Tells the tickets whose turn has come. The level's mutex is held.
void kl_fair_wake_locked(struct kl_fair_level *l);

// ---- rules.c, pure
struct kl_flow_digest {
    const struct kl_user *user;
    bool is_resource;
    struct kl_str verb, group, plural, sub, ns, path;
};
// Whether one of the schema's rules (spec.rules) is for it.
bool kl_flow_matches(const struct kl_value *rules, const struct kl_flow_digest *d);

// ---- estimate.c
void kl_fair_estimate(struct kl_fair *f, struct kl_req *r, int max_seats, struct kl_fq_item *it);
