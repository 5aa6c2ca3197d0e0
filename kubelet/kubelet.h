// SPDX-License-Identifier: Apache-2.0
// The node agent: keeps the pods that are bound to one node running through CRI, and reports them.
//
// Everything runs on the loop of the client it is given (a loop of its own, made by the caller);
// blocking work goes to a bounded pool of its own. It knows the API server only through the client.
#pragma once
#include "base/err.h"
#include "base/str.h"
#include "client/client.h"
#include "net/tls.h"
#include <stdbool.h>

struct kl_kubelet;

// All strings are copied by kl_kubelet_start. NULL or 0 means the value in brackets.
struct kl_kubelet_options {
    struct kl_client *client; // acts as system:node:NAME; stays the caller's, outlives the kubelet
    const char *node_name;    // required, lower case
    const char *data_dir;     // required, absolute; everything lives in DATA/agent
    const char *node_ip;      // [address of the default route's interface]
    const char *pod_cidr;     // [10.42.0.0/24] pod network of this node
    const char *cluster_cidr; // [pod_cidr] not masqueraded between its members
    const char *cluster_dns;  // [none] address for dnsPolicy ClusterFirst
    const char *cluster_domain;   // [cluster.local]
    const char *runtime_endpoint; // [an own containerd under DATA/agent/containerd]
    const char *containerd_bin;   // [containerd] found in PATH
    const char *cni_bin_dir;      // [/usr/lib/cni]
    const char *bridge_name;      // [kinglet0] at most 15 bytes
    const char *cgroup_root;      // [""] "/node2": pods live in /node2/kubepods
    const char *server_address;   // [every address]
    int port;                     // [10250] -1: no server
    int max_pods;                 // [110]
    struct kl_tls_ctx *tls;       // of the HTTPS server, which asks for client
                                  // certificates; NULL: no server
    // Who may use the server: the certificate's CN is this, or one of its O is that. Both NULL:
    // nobody but GET /healthz.
    const char *allowed_user, *allowed_group;
    const char *provider_id;        // [none] spec.providerID
    const char *const *node_labels; // "k=v", NULL-ended or NULL
    const char *const *node_taints; // "k=v:Effect", NULL-ended or NULL
    bool register_node_unschedulable;
    const char *version;         // [v1.36.3] nodeInfo.kubeletVersion
    uint32_t status_interval_ms; // [10000] node status is computed this often
    uint32_t lease_seconds;      // [40] renewed each quarter
    // Called once on the loop when the runtime answers and the Node is registered. May be NULL.
    void (*on_ready)(void *arg);
    void *arg;
};

// Any thread; the loop may be started before or after. Fails on bad options only: what goes wrong
// later (containerd missing, no API server) is logged, shown in the Node's conditions and retried.
int kl_kubelet_start(const struct kl_kubelet_options *o, struct kl_kubelet **ret,
                     struct kl_error *err);
// Any thread, once. Ends watches, calls and the server; containers and our containerd go on
// running, to be adopted by the next start. `done` comes on the loop; the kubelet is freed after.
void kl_kubelet_stop(struct kl_kubelet *k, void (*done)(void *arg), void *arg);

// Removes what kubelets with this data directory left on the machine: pods, our containerd, mounts,
// interfaces, nftables and iptables rules, cgroups, DATA/agent. Blocks; no kubelet may be running.
// Says what could not be removed, and goes on. Options: data_dir, bridge_name, cgroup_root.
int kl_kubelet_purge(const struct kl_kubelet_options *o, struct kl_error *err);
