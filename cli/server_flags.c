// SPDX-License-Identifier: Apache-2.0
#include "cli/server_flags.h"
#include "cli/api_flags.h"
#include "cli/commands.h"
#include "cli/machine.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define AT(field) offsetof(struct kl_server_flags, field)

static const struct kl_flag flags[] = {
    {"config", 'c', "KINGLET_CONFIG_FILE", KL_FLAG_STRING, AT(config), "FILE", NULL, "config",
     "Load flags from a YAML file"},
    {"debug", 0, "KINGLET_DEBUG", KL_FLAG_BOOL, AT(debug), NULL, "false", "logging",
     "Say everything"},
    {"v", 'v', NULL, KL_FLAG_INT, AT(v), "N", "0", "logging", "Level of detail; 4 and more: debug"},
    {"log-format", 0, "KINGLET_LOG_FORMAT", KL_FLAG_STRING, AT(log_format), "FORMAT", "text",
     "logging", "text or json"},
    {"bind-address", 0, NULL, KL_FLAG_STRING, AT(bind_address), "ADDR", NULL, "listener",
     "Address to listen on (all when not given)"},
    {"https-listen-port", 0, NULL, KL_FLAG_INT, AT(port), "PORT", "6443", "listener",
     "HTTPS port of the API"},
    {"advertise-address", 0, NULL, KL_FLAG_STRING, AT(advertise_address), "ADDR", NULL, "listener",
     "Address that the API server tells the members of the cluster (node address)"},
    {"tls-san", 0, "KINGLET_TLS_SAN", KL_FLAG_LIST, AT(tls_san), "NAME", NULL, "listener",
     "Further names or addresses in the serving certificate"},
    {"api-loops", 0, NULL, KL_FLAG_INT, AT(api_loops), "N", "0", "listener",
     "Loops that serve requests (one for each core)"},
    {"data-dir", 'd', "KINGLET_DATA_DIR", KL_FLAG_STRING, AT(data_dir), "DIR", NULL, "data",
     "Where everything is kept (/var/lib/kinglet, or ~/.kinglet when not root)"},
    {"datastore-endpoint", 0, "KINGLET_DATASTORE_ENDPOINT", KL_FLAG_STRING, AT(datastore), "URL",
     NULL, "db",
     "sqlite://PATH, postgres://..., mysql://..., raft://DIR, etcd://HOST:PORT or memory:// "
     "(sqlite in the data directory)"},
    {"datastore-cafile", 0, "KINGLET_DATASTORE_CAFILE", KL_FLAG_STRING, AT(cafile), "FILE", NULL,
     "db", "CA that a database's certificate is checked against"},
    {"datastore-certfile", 0, "KINGLET_DATASTORE_CERTFILE", KL_FLAG_STRING, AT(certfile), "FILE",
     NULL, "db", "Certificate to show to a database"},
    {"datastore-keyfile", 0, "KINGLET_DATASTORE_KEYFILE", KL_FLAG_STRING, AT(keyfile), "FILE", NULL,
     "db", "Its key"},
    {"memory-budget", 0, "KINGLET_MEMORY_BUDGET", KL_FLAG_STRING, AT(memory_budget), "SIZE", NULL,
     "db",
     "Memory for values and decoded objects, the rest is in a file (a quarter of the machine's, at "
     "most 2Gi; 0: all in memory)"},
    {"take-over", 0, "KINGLET_TAKE_OVER", KL_FLAG_BOOL, AT(take_over), NULL, "false", "db",
     "Change a datastore of kine or K3s in place (without it: say what would change)"},
    {"snapshot-schedule-cron", 0, "KINGLET_SNAPSHOT_SCHEDULE_CRON", KL_FLAG_STRING,
     AT(snapshot_cron), "CRON", NULL, "db", "When to take snapshots (never): five fields"},
    {"snapshot-retention", 0, "KINGLET_SNAPSHOT_RETENTION", KL_FLAG_INT, AT(snapshot_retention),
     "N", "5", "db", "How many of the scheduled snapshots stay"},
    {"snapshot-dir", 0, "KINGLET_SNAPSHOT_DIR", KL_FLAG_STRING, AT(snapshot_dir), "DIR", NULL, "db",
     "Where snapshots go (server/db/snapshots in the data directory)"},
    {"snapshot-name", 0, "KINGLET_SNAPSHOT_NAME", KL_FLAG_STRING, AT(snapshot_name), "NAME",
     "scheduled", "db", "Beginning of their names"},
    {"cluster-cidr", 0, "KINGLET_CLUSTER_CIDR", KL_FLAG_STRING, AT(cluster_cidr), "CIDR",
     "10.42.0.0/16", "networking", "Addresses of pods"},
    {"service-cidr", 0, "KINGLET_SERVICE_CIDR", KL_FLAG_STRING, AT(service_cidr), "CIDR",
     "10.43.0.0/16", "networking", "Addresses of Services"},
    {"cluster-dns", 0, "KINGLET_CLUSTER_DNS", KL_FLAG_STRING, AT(cluster_dns), "ADDR", NULL,
     "networking", "Address of the cluster's DNS (tenth of the service range)"},
    {"cluster-domain", 0, "KINGLET_CLUSTER_DOMAIN", KL_FLAG_STRING, AT(cluster_domain), "DOMAIN",
     "cluster.local", "networking", "Domain of the cluster"},
    {"write-kubeconfig", 'o', "KINGLET_KUBECONFIG_OUTPUT", KL_FLAG_STRING, AT(kubeconfig), "FILE",
     NULL, "client", "Where the admin kubeconfig goes"},
    {"write-kubeconfig-mode", 0, "KINGLET_KUBECONFIG_MODE", KL_FLAG_STRING, AT(kubeconfig_mode),
     "MODE", "600", "client", "Its file mode"},
    {"token", 't', "KINGLET_TOKEN", KL_FLAG_STRING, AT(token), "TOKEN", NULL, "cluster",
     "Shared secret of the cluster"},
    {"token-file", 0, "KINGLET_TOKEN_FILE", KL_FLAG_STRING, AT(token_file), "FILE", NULL, "cluster",
     "File that holds it"},
    {"agent-token", 0, "KINGLET_AGENT_TOKEN", KL_FLAG_STRING, AT(agent_token), "TOKEN", NULL,
     "cluster", "Secret that joins agents only (the token joins both)"},
    {"server", 's', "KINGLET_URL", KL_FLAG_STRING, AT(server_url), "URL", NULL, "cluster",
     "Server to join: https://HOST:6443"},
    {"cluster-init", 0, "KINGLET_CLUSTER_INIT", KL_FLAG_BOOL, AT(cluster_init), NULL, "false",
     "cluster", "Begin a cluster of servers that others join (raft:// in the data directory)"},
    {"cluster-reset", 0, "KINGLET_CLUSTER_RESET", KL_FLAG_BOOL, AT(cluster_reset), NULL, "false",
     "cluster", "Forget all other servers of a raft:// datastore, as kinglet recover, and exit"},
    {"peer-port", 0, "KINGLET_PEER_PORT", KL_FLAG_INT, AT(peer_port), "PORT", "2380", "listener",
     "Port for the other servers of the datastore"},
    {"disable", 0, NULL, KL_FLAG_STRING, AT(disable), "NAMES", NULL, "components",
     "Controllers to leave out"},
    {"disable-agent", 0, NULL, KL_FLAG_BOOL, AT(disable_agent), NULL, "false", "components",
     "No kubelet: needs neither root nor containerd"},
    {"disable-controller-manager", 0, NULL, KL_FLAG_BOOL, AT(disable_controllers), NULL, "false",
     "components", "No controllers"},
    {"disable-scheduler", 0, NULL, KL_FLAG_BOOL, AT(disable_scheduler), NULL, "false", "components",
     "No scheduler"},
    {"client-transport", 0, "KINGLET_CLIENT_TRANSPORT", KL_FLAG_STRING, AT(transport), "NAME",
     "in-process", "components",
     "How controllers, scheduler and kubelet reach the API: in-process, or https like a remote "
     "node"},
    {"node-name", 0, "KINGLET_NODE_NAME", KL_FLAG_STRING, AT(node_name), "NAME", NULL, "agent/node",
     "Name of the node (host name)"},
    {"node-ip", 'i', "KINGLET_NODE_IP", KL_FLAG_STRING, AT(node_ip), "ADDR", NULL,
     "agent/networking", "Address of the node"},
    {"node-label", 0, NULL, KL_FLAG_LIST, AT(node_label), "K=V", NULL, "agent/node",
     "Labels the node registers with"},
    {"node-taint", 0, NULL, KL_FLAG_LIST, AT(node_taint), "K=V:EFFECT", NULL, "agent/node",
     "Taints the node registers with"},
    {"container-runtime-endpoint", 0, NULL, KL_FLAG_STRING, AT(runtime_endpoint), "SOCKET", NULL,
     "agent/runtime", "CRI socket to use (an own containerd)"},
    {"kubelet-port", 0, NULL, KL_FLAG_INT, AT(kubelet_port), "PORT", "10250", "agent/node",
     "HTTPS port of the kubelet"},
    {"max-pods", 0, NULL, KL_FLAG_INT, AT(max_pods), "N", "110", "agent/node",
     "Pods that fit on the node"},
    {"bridge-name", 0, NULL, KL_FLAG_STRING, AT(bridge_name), "NAME", NULL, "agent/networking",
     "Interface that pods hang on (kinglet0)"},
    {"cgroup-root", 0, NULL, KL_FLAG_STRING, AT(cgroup_root), "PATH", NULL, "agent/node",
     "Parent of the pods' cgroups"},
    {"kube-apiserver-arg", 0, NULL, KL_FLAG_ARRAY, AT(api_args), "FLAG=VALUE", NULL, "flags",
     "Flags of the API server in K3s' way: those below without the dashes"},
    {"help", 'h', NULL, KL_FLAG_BOOL, AT(help), NULL, "false", "help", "This text"},
};

static int read_token(struct kl_server_flags *o, struct kl_arena *a, struct kl_error *err)
{
    char text[1024];
    if (o->token || !o->token_file)
        return 0;
    int fd = open(o->token_file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    int rc = n < 0 ? kl_error_errno(err, errno, "--token-file %s", o->token_file) : 0;
    struct kl_str line = rc ? KL_STR("") : kl_str_trim((struct kl_str){text, (size_t)n});
    if (!rc && (!line.n || n == sizeof text || kl_str_chr(line, '\n') >= 0))
        rc = kl_error_set(err, KL_EINVALID, "--token-file %s: one line is expected", o->token_file);
    if (!rc)
        o->token = kl_arena_dup(a, line).p;
    explicit_bzero(text, sizeof text);
    if (fd >= 0)
        close(fd);
    return rc;
}

// A server that began or joined a cluster of servers goes on with it without a flag, as in K3s.
static bool has_raft(const char *data_dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/server/db/raft/state.db", data_dir);
    return !access(path, F_OK);
}

// --kube-apiserver-arg: each value is a flag of its own.
static int parse_api_args(struct kl_server_flags *o, struct kl_arena *a, struct kl_error *err)
{
    const struct kl_flag_table table = {kl_api_flags, kl_napi_flags, &o->settings};
    const struct kl_flag_parse how = {
        .tables = &table, .ntables = 1, .arena = a, .pflag = "kube-apiserver"};
    const char *const *args = o->api_args;
    int n = 1;
    while (args[n - 1])
        n++;
    char **argv = kl_arena_zalloc(a, (size_t)n * sizeof *argv);
    if (!argv)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    argv[0] = (char *)"kube-apiserver";
    for (int i = 1; i < n; i++)
        argv[i] = (char *)kl_arena_printf(a, "--%s", args[i - 1]).p;
    int rc = kl_flags_parse_tables(&how, n, argv, err);
    return rc ? kl_error_wrap(err, "--kube-apiserver-arg") : 0;
}

int kl_server_flags_parse(struct kl_server_flags *o, struct kl_arena *a, int argc, char **argv,
                          struct kl_error *err)
{
    const struct kl_flag_table tables[] = {{flags, KL_COUNT(flags), o},
                                           {kl_api_flags, kl_napi_flags, &o->settings}};
    const struct kl_flag_parse how = {.tables = tables,
                                      .ntables = KL_COUNT(tables),
                                      .arena = a,
                                      .config_file = "/etc/kinglet/config.yaml"};
    char name[64];
    o->settings = kl_api_settings_default;
    int rc = kl_flags_parse_tables(&how, argc, argv, err);
    if (!rc && o->api_args)
        rc = parse_api_args(o, a, err);
    if (rc || o->help)
        return rc;
    if (!o->data_dir)
        o->data_dir = kl_default_data_dir(a);
    if (o->data_dir[0] != '/') {
        char cwd[4096];
        if (!getcwd(cwd, sizeof cwd))
            return kl_error_errno(err, errno, "current directory");
        o->data_dir = kl_arena_printf(a, "%s/%s", cwd, o->data_dir).p;
    }
    if (strcmp(o->transport, "in-process") && strcmp(o->transport, "https"))
        return kl_error_set(err, KL_EINVALID, "--client-transport is in-process or https, not %s",
                            o->transport);
    o->kubeconfig = kl_kubeconfig_path(a, o->kubeconfig, o->data_dir);
    if (!o->node_ip)
        o->node_ip = kl_machine_address(a);
    if (!o->advertise_address)
        o->advertise_address = o->node_ip;
    if ((rc = kl_service_ranges_check(o->service_cidr, "service-cidr", o->advertise_address, err)))
        return rc;
    if (!o->cluster_dns)
        o->cluster_dns = kl_nth_address(a, o->service_cidr, 10);
    if (!kl_first_node_cidr(a, o->cluster_cidr))
        return kl_error_set(err, KL_EINVALID, "--cluster-cidr %s is no IPv4 range of /24 or more",
                            o->cluster_cidr);
    if ((rc = read_token(o, a, err)))
        return rc;
    if (!o->datastore && (o->cluster_init || o->server_url || has_raft(o->data_dir)))
        o->datastore = kl_arena_printf(a, "raft://%s/server/db/raft", o->data_dir).p;
    if ((o->cluster_init || o->server_url || o->cluster_reset) &&
        (!o->datastore || !strstr(o->datastore, "raft://")))
        return kl_error_set(err, KL_EINVALID,
                            "--%s is for raft:// datastores; servers of one database need only its "
                            "--datastore-endpoint and the --token",
                            o->cluster_init ? "cluster-init"
                            : o->server_url ? "server"
                                            : "cluster-reset");
    if (!o->datastore)
        o->datastore = kl_arena_printf(a, "sqlite://%s/server/db/state.db", o->data_dir).p;
    if ((rc = kl_machine_node_name(o->node_name, name, sizeof name, err)))
        return rc;
    o->node_name = kl_arena_dup(a, kl_str(name)).p;
    return o->node_name ? 0 : kl_error_set(err, KL_ENOMEM, "out of memory");
}

void kl_server_flags_help(void)
{
    kl_flags_help(flags, KL_COUNT(flags));
    kl_flags_help(kl_api_flags, kl_napi_flags);
}
