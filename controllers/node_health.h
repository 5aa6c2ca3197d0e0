// SPDX-License-Identifier: Apache-2.0
// What the node life cycle controller knows of nodes and zones, and what it concludes. Pure.
#pragma once
#include "base/map.h"
#include "client/plan.h"

enum {
    KL_NODE_GRACE_MS = 50 * 1000,         // --node-monitor-grace-period
    KL_NODE_STARTUP_GRACE_MS = 60 * 1000, // --node-startup-grace-period
    KL_NODE_MONITOR_MS = 5 * 1000,        // --node-monitor-period
    KL_LARGE_ZONE = 50,                   // --large-cluster-size-threshold
    KL_UNHEALTHY_PERCENT = 55,            // --unhealthy-zone-threshold
    KL_EVICTION_MS = 10 * 1000,           // --node-eviction-rate 0.1/s
    KL_EVICTION_SLOW_MS = 100 * 1000,     // --secondary-node-eviction-rate 0.01/s
};

enum kl_zone_state { KL_ZONE_NORMAL, KL_ZONE_PARTIAL, KL_ZONE_FULL };

// Nodes of one region and zone share a rate at which they may be given up.
struct kl_zone {
    int64_t ready, not_ready; // nodes
    int64_t next_taint_ms;    // not before
};

struct kl_node_health {
    struct kl_zone *zone;
    struct kl_str uid;    // in its own memory, behind the struct
    int64_t probe_ms;     // last sign of life
    int64_t heartbeat_us; // of the Ready condition when last seen
    int64_t renew_us;     // of the lease when last seen
    int64_t not_ready_ms; // since when it is counted as not ready; 0: it is ready
    bool has_ready_condition, ready, counted;
    bool registered; // its Event has been told
};

enum kl_zone_state kl_zone_judge(const struct kl_zone *z);
// When the next node of the zone may be tainted NoExecute; INT64_MAX: evictions are stopped.
// all_down: every zone is without a ready node, which says more of us than of the nodes.
int64_t kl_zone_taint_at(const struct kl_zone *z, bool all_down);
// Counts the token just used.
void kl_zone_tainted(struct kl_zone *z, int64_t now_ms);
// Counts the node as ready or not; NULL zone: not yet counted anywhere.
void kl_health_count(struct kl_node_health *h, struct kl_zone *zone, bool ready, int64_t now_ms);
// When the node may be tainted NoExecute: its zone's time, but not before the others have had the
// time to be found silent as well; INT64_MAX: not now.
int64_t kl_health_taint_at(const struct kl_node_health *h, bool all_down);

// Takes note of heartbeats (node status and lease; lease may be NULL).
void kl_health_observe(struct kl_node_health *h, const struct kl_value *node,
                       const struct kl_value *lease, int64_t now_ms, int64_t now_us);
// Milliseconds until the node must be called lost; 0 or less: now.
int64_t kl_health_left_ms(const struct kl_node_health *h, int64_t now_ms);
// The node with its conditions Unknown, as a draft; false when they are already.
bool kl_health_mark_lost(struct kl_arena *a, const struct kl_value *node, int64_t now_us,
                         struct kl_value *ret_draft);
// "True", "False", "Unknown" of the Ready condition; "" when there is none.
struct kl_str kl_node_ready_status(const struct kl_value *node);

struct kl_taint_change {
    struct kl_value taints; // the whole list as it should be
    bool changed;
    bool wants_no_execute; // and does not have it: needs a token; ask again with may_evict
};
// The taints that the node's conditions call for. may_evict: NoExecute may be added now.
// all_down: those of ours that are there are taken away.
void kl_node_taints(struct kl_arena *a, const struct kl_value *node, bool may_evict, bool all_down,
                    int64_t now_us, struct kl_taint_change *ret);
