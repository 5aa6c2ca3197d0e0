// SPDX-License-Identifier: Apache-2.0
// What the scheduler knows of one pod, computed once.
#pragma once
#include "client/helpers.h"

// An amount of a resource other than cpu, memory and ephemeral-storage; kept sorted by name.
struct kl_scalar {
    struct kl_str name; // in the object that asked for it, or in the node's
    int64_t n;
};

struct kl_amounts {
    int64_t cpu_milli, memory, ephemeral;
    struct kl_scalar *scalars; // owned
    uint32_t nscalars;
};

void kl_node_amounts_fini(struct kl_amounts *a);
int kl_node_amounts_set(struct kl_amounts *a, struct kl_str name, int64_t n); // KL_ENOMEM
int64_t kl_node_amounts_get(const struct kl_amounts *a, struct kl_str name);  // of a scalar
// From a ResourceList (status.allocatable, requests).
int kl_node_amounts_read(struct kl_amounts *a, const struct kl_value *list);

// A port of the host that a pod wants.
struct kl_host_port {
    struct kl_str ip, protocol; // ip "" or "0.0.0.0": every address
    int64_t port;
};

struct kl_pod_info {
    struct kl_object *object;    // one reference
    struct kl_str uid, ns, name; // in the object
    int64_t priority;
    struct kl_amounts requests;
    int64_t nonzero_cpu_milli, nonzero_memory; // with a default for containers that ask for nothing
    struct kl_host_port *ports;                // owned
    uint32_t nports;
    // the cache's
    struct kl_node_info *node;
    size_t node_pos;
    bool assumed;
};

// NULL when memory ran out.
struct kl_pod_info *kl_pod_info_new(struct kl_object *pod);
void kl_pod_info_free(struct kl_pod_info *p); // accepts NULL
