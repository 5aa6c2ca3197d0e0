// SPDX-License-Identifier: Apache-2.0
// The running `kinglet server`: what it is composed of (server.c), and its parts that are clients
// of the API (server_parts.c).
#pragma once
#include "apiserver/apiserver.h"
#include "apiserver/encryption/encryption.h"
#include "cli/admin.h"
#include "cli/backup.h"
#include "cli/cluster.h"
#include "cli/control.h"
#include "cli/renew.h"
#include "cli/server_flags.h"
#include "kubelet/kubelet.h"

enum { KL_SERVER_API_LOOPS_MAX = 8 };

struct kl_server {
    int64_t memory_budget;
    struct kl_server_flags o;
    struct kl_arena arena;
    int64_t began_ms;
    struct kl_cluster cluster;
    struct kl_pki *pki;     // of the cluster
    struct kl_store *store; // of the cluster
    struct kl_encryption *encryption;
    struct kl_apiserver *api;
    struct kl_admin *admin;
    struct kl_backup *backup;
    struct kl_renew *renew;
    struct kl_tls_ctx *kubelet_tls;
    struct kl_pki_options pki_options;
    const char *sans[KL_FLAG_LIST_MAX + 4];
    struct kl_loop *loops[KL_SERVER_API_LOOPS_MAX], *controllers_loop, *kubelet_loop;
    int nloops;
    struct kl_control *control;
    struct kl_client *kubelet_client;
    struct kl_kubelet *kubelet;
    struct kl_task start_controllers, start_kubelet, stop_controllers, stop_kubelet;
    void (*parts_gone)(struct kl_server *s);
    struct kl_task step; // the next step of stopping, on loops[0]
    int steps;
    uv_signal_t signals[2];
    bool stopping;
};

// Where the API server is reached from this machine.
const char *kl_server_local_host(const struct kl_server *s);

// server_parts.c: controllers with the scheduler, and the kubelet, each on a loop of its own, if
// wanted at all.
int kl_server_parts_new(struct kl_server *s, struct kl_error *err); // the loops, not yet running
int kl_server_parts_run_loops(struct kl_server *s, struct kl_error *err);
void kl_server_parts_start(struct kl_server *s); // the API server is ready
// The kubelet, then controllers and scheduler; `gone` comes on the main loop, perhaps at once.
void kl_server_parts_stop(struct kl_server *s, void (*gone)(struct kl_server *s));
void kl_server_parts_stop_loops(struct kl_server *s); // once nothing runs on them any more
void kl_server_parts_free(struct kl_server *s);
