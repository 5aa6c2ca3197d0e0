// SPDX-License-Identifier: Apache-2.0
// Between watch.c (streams, requests, progress) and watch_events.c (events as they are sent).
#pragma once
#include "store/etcd/etcd_int.h"
#include "base/map.h"

enum {
    KL_ETCD_EVENT_SLOTS = 512,           // encoded events that a loop remembers
    KL_ETCD_EVENT_SLOT_BYTES = 2 << 20,  // and their sum
    KL_ETCD_WATCHES_MAX = 1 << 17,       // of one stream
    KL_ETCD_WATCH_TAKE = 32,             // events asked of the store at once
    KL_ETCD_WATCH_QUANTUM = 64 << 10,    // bytes of a response, and of a stream's turn
    KL_ETCD_WATCH_QUEUE_MAX = 256 << 10, // beyond it a stream's requests wait
    KL_ETCD_LEADER_LOOK_MS = 1000,       // etcd's election timeout
    KL_ETCD_LEADER_LOOKS = 3,            // without a leader, after which streams that need one end
    KL_ETCD_WATCH_REQUEST_BYTES = 4 << 20, // a decoded request
};

// Encoded events: the field `events` of a WatchResponse, each with tag and length.
struct kl_etcd_events {
    struct kl_bytes **v; // references
    uint32_t n, cap;
    size_t bytes;
    kl_rev rev; // mod_revision of the newest
    bool whole; // nothing more of it is to come
};

// An event is encoded once for the watches of a loop; ids are never used again, so they name it.
struct kl_etcd_event_slot {
    kl_rev id;
    uint32_t sub;
    bool prev_kv;
    struct kl_bytes *bytes;
};

struct kl_etcd_stream;

// One per loop.
struct kl_etcd_watch_loop {
    struct kl_etcd_loop *l;
    struct kl_etcd_stream *streams;
    struct kl_arena arena; // of the request that is being looked at
    struct kl_etcd_events scratch;
    struct kl_etcd_event_slot slots[KL_ETCD_EVENT_SLOTS];
    size_t slot_bytes;
    uv_timer_t timer; // progress notifications
    bool timer_on;
    uv_timer_t leader_timer; // looks whether there is a leader
    int leaderless;          // looks that found none
    int open_timers;
    struct kl_task retry; // of progress requests that are ahead of what watches were shown
    bool retrying;
};

struct kl_etcd_watch {
    struct kl_watch w;
    struct kl_etcd_stream *stream;
    struct kl_etcd_watch *next, **pprev; // in the stream's ready list; pprev NULL: not there
    int64_t id;
    kl_rev start_rev;            // as asked for
    struct kl_etcd_events *part; // of a transaction whose rest is still being read
    uint32_t take;               // events to ask for next, by the size of the last ones
    bool progress_notify, prev_kv, fragment, no_put, no_delete;
    bool quiet;     // nothing was sent since the last tick
    bool compacted; // cancelled by the server; etcd keeps its id until the client cancels too
};

struct kl_etcd_stream {
    struct kl_grpc_rpc *rpc;
    struct kl_etcd_watch_loop *wl;
    struct kl_etcd_stream *next, **pprev; // in the loop's list
    struct kl_map watches;                // id -> struct kl_etcd_watch *
    int64_t next_id;
    struct kl_etcd_watch *ready, **ready_tail; // have something to read
    int64_t tick_at_ms;                        // next progress notifications
    bool notifies;                             // some watch wants them
    bool held;
    bool needs_leader; // clientv3.WithRequireLeader
    // A progress request for all waits for the watches to be drained and for the newest revision of
    // when it came.
    bool progress_wanted;
    kl_rev progress_rev;
};

// Takes what w has to say and sends one response. False: nothing more now. On failure the watch is
// told off (compacted) or the stream ends.
bool kl_etcd_watch_serve(struct kl_etcd_watch *w);
void kl_etcd_events_clear(struct kl_etcd_events *ev); // drops references, keeps the array
void kl_etcd_events_fini(struct kl_etcd_events *ev);
void kl_etcd_event_slots_clear(struct kl_etcd_watch_loop *wl);

// watch.c: a response without events. reason may be NULL.
enum { KL_ETCD_WATCH_CREATED = 1, KL_ETCD_WATCH_CANCELED = 2 };
void kl_etcd_watch_tell(struct kl_etcd_stream *st, int64_t id, kl_rev rev, int what,
                        kl_rev compact_rev, const char *reason);
