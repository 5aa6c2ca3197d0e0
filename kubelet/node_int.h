// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kubelet/kubelet_int.h"
#include "kubelet/node_info.h"

enum kl_node_condition {
    KL_NODE_MEMORY,
    KL_NODE_DISK,
    KL_NODE_PID,
    KL_NODE_READY,
    KL_NODE_CONDITIONS
};
extern const char *const kl_node_condition_names[];

struct kl_node_cond {
    bool status;
    char reason[40], message[1100];
    int64_t since_s;
    int told; // 0 never, 1 as false, 2 as true
};

struct kl_node {
    struct kl_kubelet *k;
    struct kl_handler handler;
    struct kl_node_info info;
    struct kl_node_cond conditions[KL_NODE_CONDITIONS];
    bool registered, writing, changed;
    bool was_ready, seen_ready; // by the stored Node; in this process
    int64_t begun_ms;
    int64_t written_ms, burstable_milli;
    uint64_t written_rv; // what our last write of the status made
    uint64_t images_hash;
    struct kl_timer timer;
    // node_lease.c
    struct kl_timer lease_timer;
    struct kl_object *lease;
    bool lease_writing;
};

// node_json.c: JSON text of the object and its parts
void kl_node_json(const struct kl_node *n, struct kl_buf *out);
void kl_node_labels_json(const struct kl_node *n, struct kl_buf *out);
void kl_node_status_json(const struct kl_node *n, struct kl_buf *out);

// node_lease.c
void kl_lease_init(struct kl_node *n);
void kl_lease_fini(struct kl_node *n);
void kl_lease_node_seen(struct kl_node *n);
struct kl_str kl_node_uid(const struct kl_node *n);
