// SPDX-License-Identifier: Apache-2.0
// The flags of `kinglet server`: their table, and what they mean together.
#pragma once
#include "apiserver/settings.h"
#include "cli/flags.h"

struct kl_server_flags {
    const char *config, *bind_address, *advertise_address, *data_dir, *datastore, *token;
    const char *token_file, *agent_token, *server_url, *cafile, *certfile, *keyfile;
    const char *kubeconfig, *kubeconfig_mode, *cluster_cidr, *service_cidr, *cluster_dns;
    const char *cluster_domain, *node_name, *node_ip, *runtime_endpoint, *disable, *bridge_name;
    const char *cgroup_root, *log_format, *transport;
    const char *snapshot_dir, *snapshot_name, *snapshot_cron, *memory_budget;
    struct kl_flag_list tls_san, node_label, node_taint;
    int snapshot_retention;
    const char *const *api_args;
    int port, kubelet_port, peer_port, v, max_pods, api_loops;
    bool cluster_init, cluster_reset;
    bool take_over;
    bool disable_agent, disable_controllers, disable_scheduler, debug, help;
    struct kl_api_settings settings; // of its API server: the table of cli/api_flags.h
};

// Config file, environment and command line into *ret, which is zero before; then defaults that
// depend on the machine and on each other are filled in, unless `help` was asked for. Texts live in
// the arena or in argv. KL_EINVALID, KL_EUNSUPPORTED: what does not go together; a file that cannot
// be read.
int kl_server_flags_parse(struct kl_server_flags *ret, struct kl_arena *a, int argc, char **argv,
                          struct kl_error *err);
void kl_server_flags_help(void);
