// SPDX-License-Identifier: Apache-2.0
// The nodes and the pods on them, with sums kept as they change. A pod just given to a node is
// assumed there until the server shows it, so that the next choice counts it. Pure.
#pragma once
#include "base/map.h"
#include "scheduler/podinfo.h"

struct kl_node_info {
    struct kl_object *node; // one reference; NULL: pods name it, the server has not shown it
    struct kl_str name;
    struct kl_amounts allocatable, requested;
    int64_t max_pods, nonzero_cpu_milli, nonzero_memory;
    struct kl_pod_info **pods;
    size_t npods, cap;
    uint32_t nports;             // host ports in use; which, is looked up in the pods
    bool unschedulable, tainted; // tainted: NoSchedule or NoExecute or PreferNoSchedule
    size_t index;                // in the cache's list
};

struct kl_cache {
    struct kl_map nodes;        // name → kl_node_info
    struct kl_map pods;         // uid → kl_pod_info
    struct kl_node_info **list; // those with a node
    size_t n, cap;
};

void kl_cache_init(struct kl_cache *c);
void kl_cache_fini(struct kl_cache *c);
int kl_cache_set_node(struct kl_cache *c, struct kl_object *node); // KL_ENOMEM
void kl_cache_remove_node(struct kl_cache *c, struct kl_str name);
// A pod that the server shows on its spec.nodeName: added, changed or confirmed. KL_ENOMEM.
int kl_cache_set_pod(struct kl_cache *c, struct kl_object *pod);
bool kl_cache_remove_pod(struct kl_cache *c, struct kl_str uid); // whether it was there
// Takes the pod for running on the node until set_pod or forget. Takes info over.
int kl_cache_assume(struct kl_cache *c, struct kl_pod_info *info, struct kl_node_info *node);
void kl_cache_forget(struct kl_cache *c, struct kl_str uid); // when it was only assumed
bool kl_cache_has_pod(const struct kl_cache *c, struct kl_str uid);
struct kl_node_info *kl_cache_node(const struct kl_cache *c, struct kl_str name);
