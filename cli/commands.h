// SPDX-License-Identifier: Apache-2.0
// The subcommands; argv[0] is the subcommand's name. Each returns the exit status: 0 done, 1
// failed, 2 wrong usage.
#pragma once
#include "base/arena.h"

int kl_cmd_server(int argc, char **argv);
int kl_cmd_etcd(int argc, char **argv);
int kl_main_etcd(int argc, char **argv);          // called as `etcd`: argv[0] is the program's name
int kl_cmd_kube_apiserver(int argc, char **argv); // also when called as `kube-apiserver`
int kl_cmd_test_server(int argc, char **argv);
int kl_cmd_kubectl(int argc, char **argv);
int kl_cmd_check_config(int argc, char **argv);
int kl_cmd_purge(int argc, char **argv);
int kl_cmd_migrate(int argc, char **argv);
int kl_cmd_snapshot(int argc, char **argv);
int kl_cmd_secrets_encrypt(int argc, char **argv);
int kl_cmd_status(int argc, char **argv);
int kl_cmd_member(int argc, char **argv);
int kl_cmd_certificate(int argc, char **argv);
int kl_cmd_recover(int argc, char **argv);
int kl_recover_raft(const char *url); // the exit status
int kl_cmd_version(int argc, char **argv);

// ---- paths that several commands agree on
// --data-dir's default: /var/lib/kinglet, or ~/.kinglet for others than root.
const char *kl_default_data_dir(struct kl_arena *a);
// Where the admin kubeconfig is: the given one, or /etc/kinglet/kinglet.yaml (root), or in the data
// directory.
const char *kl_kubeconfig_path(struct kl_arena *a, const char *given, const char *data_dir);
