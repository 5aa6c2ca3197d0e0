// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.h"
#include "apiserver/discovery.h"
#include "cli/version.h"
#include <stdio.h>
#include <string.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
};

static const struct command commands[] = {
    {"server", kl_cmd_server, "Run the control plane and, unless --disable-agent, the node"},
    {"etcd", kl_cmd_etcd, "Run the etcd v3 API alone, over any datastore"},
    {"kube-apiserver", kl_cmd_kube_apiserver, "Run the API server alone, with upstream's flags"},
    {"test-server", kl_cmd_test_server, "Run an API server in memory for a test"},
    {"kubectl", kl_cmd_kubectl, "Run kubectl with this cluster's kubeconfig"},
    {"check-config", kl_cmd_check_config, "Tell what this machine lacks: pass, warn, fail"},
    {"purge", kl_cmd_purge, "Remove what the node left on this machine (no server may run)"},
    {"status", kl_cmd_status, "Tell what the datastore holds and how it is"},
    {"secrets-encrypt", kl_cmd_secrets_encrypt, "Encrypt Secrets at rest, rotate their keys"},
    {"snapshot", kl_cmd_snapshot, "Save, list, restore and prune snapshots of the datastore"},
    {"migrate", kl_cmd_migrate, "Copy one datastore into another, offline or online"},
    {"member", kl_cmd_member, "List, remove and promote the servers of a raft:// datastore"},
    {"certificate", kl_cmd_certificate, "Revoke client certificates and users, at once"},
    {"recover", kl_cmd_recover, "Go on with one server of a raft:// datastore (offline)"},
    {"version", kl_cmd_version, "Print the version"},
};

static void print_help(void)
{
    printf("NAME:\n   kinglet - Kubernetes, small\n\nUSAGE:\n   kinglet COMMAND [flags]\n\n"
           "VERSION:\n   %s (Kubernetes %s)\n\nCOMMANDS:\n",
           KINGLET_VERSION, KL_K8S_VERSION);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        printf("   %-14s %s\n", commands[i].name, commands[i].help);
    printf("\n   kinglet COMMAND --help tells a command's flags.\n");
}

int kl_cmd_version(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("kinglet version %s (Kubernetes %s)\n", KINGLET_VERSION, KL_K8S_VERSION);
    return 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int main(int argc, char **argv)
{
    if (argc > 0 && !strcmp(base_name(argv[0]), "etcd")) // what envtest, kwok and kind start
        return kl_main_etcd(argc, argv);
    if (argc > 0 && !strcmp(base_name(argv[0]), "kube-apiserver"))
        return kl_cmd_kube_apiserver(argc, argv);
    const char *name = argc > 1 ? argv[1] : "--help";
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
        print_help();
        return 0;
    }
    if (!strcmp(name, "--version") || !strcmp(name, "-v"))
        return kl_cmd_version(argc, argv);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(name, commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "kinglet: no such command: %s (kinglet --help lists them)\n", name);
    return 2;
}
