// SPDX-License-Identifier: Apache-2.0
// One decision: the node for a pod, or why there is none. Pure: reads the cache, changes nothing.
#pragma once
#include "scheduler/cache.h"

// Plugins, as bits: which of them turned the pod away says which events may help.
enum kl_plugin {
    KL_PLUGIN_NODE_UNSCHEDULABLE,
    KL_PLUGIN_NODE_NAME,
    KL_PLUGIN_TAINTS,
    KL_PLUGIN_NODE_AFFINITY,
    KL_PLUGIN_NODE_PORTS,
    KL_PLUGIN_RESOURCES,
    KL_PLUGIN_GATES,
    KL_PLUGIN_COUNT,
};

struct kl_schedule_opts {
    int percentage_of_nodes; // 0: adaptive
    size_t *next_start;      // where the last search ended; nodes take turns
    uint64_t *random;        // state of the choice among equals
};

struct kl_schedule_result {
    struct kl_node_info *node; // NULL: none fits
    size_t evaluated, feasible;
    uint32_t rejected_by;  // bits of enum kl_plugin
    struct kl_str message; // why none: upstream's FitError, in the arena
};

// KL_ENOMEM only; that no node fits is a result.
int kl_schedule(struct kl_arena *a, const struct kl_cache *c, const struct kl_pod_info *pod,
                const struct kl_schedule_opts *o, struct kl_schedule_result *ret);

// "waiting for scheduling gates: [a b]" when the pod has gates, else "".
struct kl_str kl_schedule_gates(struct kl_arena *a, const struct kl_pod_info *pod);

// ---- plugins.c

// Reasons of one node, at most what one pass can give.
#define KL_REASONS_MAX 8
struct kl_reasons {
    struct kl_str text[KL_REASONS_MAX];
    size_t n;
    bool unresolvable; // removing pods from the node would not help
};

struct kl_filter {
    enum kl_plugin plugin;
    bool (*fits)(struct kl_arena *a, const struct kl_pod_info *pod, const struct kl_node_info *n,
                 struct kl_reasons *reasons);
};
extern const struct kl_filter kl_filters[];
extern const size_t kl_nfilters;

struct kl_scorer {
    int weight;
    int64_t (*score)(const struct kl_pod_info *pod, const struct kl_node_info *n);
    bool normalize;                              // scaled so that the largest becomes 100
    bool reverse;                                // and turned around
    bool (*skip)(const struct kl_pod_info *pod); // NULL: never
};
extern const struct kl_scorer kl_scorers[];
extern const size_t kl_nscorers;

bool kl_tolerates(const struct kl_value *tolerations, const struct kl_value *taint);
bool kl_node_selector_matches(const struct kl_value *term_list, const struct kl_node_info *n);
