// SPDX-License-Identifier: Apache-2.0
// The etcd v3 API over a store: KV, Watch, Lease, Cluster, Maintenance and Auth by gRPC and, under
// /v3/, as JSON; /health, /version and /metrics by HTTP. Oracle: etcd 3.6's
// server/etcdserver/api/v3rpc and apply.
#pragma once
#include "store/store.h"
#include "net/tls.h"

struct kl_peers;

#define KL_ETCD_VERSION "3.6.8" // what Status and /version say
#define KL_ETCD_CLUSTER_VERSION "3.6.0"
#define KL_ETCD_CLUSTER_MINOR "3.6"
#define KL_ETCD_MINOR 6

struct kl_etcd;

// 0 means the default in brackets.
struct kl_etcd_options {
    struct kl_store *store; // outlives the server
    struct kl_loop **loops; // requests run here, spread by connection
    int nloops;
    const char *name;               // of the member ["default"]
    const char *const *client_urls; // advertised, NULL-terminated [none]
    const char *const *peer_urls;   // advertised, NULL-terminated [none]
    // Members that join by the address they were announced with (MemberAdd); any thread.
    uint64_t (*member_id)(void *arg, const char *address); // of one that is to join [not so]
    const char *(*member_name)(void *arg, uint64_t id);    // "" when it is not known [none]
    void *member_arg;
    struct kl_peers *peers; // the members', by which they tell each other their client URLs [none]
    bool plain_peers;       // their URLs are http [https]
    int64_t quota_bytes;    // of the datastore, beyond which NOSPACE is raised [none]
    size_t max_request_bytes;        // [1.5 MiB] --max-request-bytes
    uint32_t max_txn_ops;            // [128] --max-txn-ops
    uint32_t max_streams;            // [unlimited] --max-concurrent-streams
    bool no_gateway;                 // no JSON: --enable-grpc-gateway=false
    int64_t watch_progress_ms;       // [10 min] --watch-progress-notify-interval
    size_t max_snapshot_chunk_bytes; // [32 KiB]
};

// Any thread; the loops may start later.
int kl_etcd_new(const struct kl_etcd_options *o, struct kl_etcd **ret, struct kl_error *err);
// Listens, any number of times; literal address or a Unix socket's path; tls NULL: plain.
int kl_etcd_listen(struct kl_etcd *e, const char *address, int port, const char *unix_path,
                   struct kl_tls_ctx *tls, struct kl_error *err);
int kl_etcd_port(const struct kl_etcd *e, int i); // of the i-th kl_etcd_listen
// As kl_etcd_listen, but gRPC is refused and only /health, /version, /metrics are served
// (--listen-metrics-urls).
int kl_etcd_listen_metrics(struct kl_etcd *e, const char *address, int port, struct kl_tls_ctx *tls,
                           struct kl_error *err);
// Any thread, once: stops listening, lets calls end for up to deadline_ms, ends streams, closes the
// readers, frees e. `done` runs on loops[0]; the loops must run until then.
void kl_etcd_stop(struct kl_etcd *e, uint32_t deadline_ms, void (*done)(void *arg), void *arg);
