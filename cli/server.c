// SPDX-License-Identifier: Apache-2.0
// kinglet server: composes the store, the API server, the controllers, the scheduler and the
// kubelet in one process.
#include "apiserver/apiserver.h"
#include "apiserver/encryption/encryption.h"
#include "apiserver/pki.h"
#include "base/clock.h"
#include "base/log.h"
#include "client/https.h"
#include "cli/admin.h"
#include "cli/api_flags.h"
#include "cli/backup.h"
#include "cli/cluster.h"
#include "cli/commands.h"
#include "cli/control.h"
#include "cli/flags.h"
#include "cli/machine.h"
#include "cli/renew.h"
#include "cli/store_cmd.h"
#include "cli/trim.h"
#include "cli/version.h"
#include "kubelet/kubelet.h"
#include "store/peer/peers.h"
#include "watchcache/cache.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

// An event in the ring keeps its decoded and encoded forms alive: several times its stored bytes.
enum { API_LOOPS_MAX = 8, OPEN_FILES = 65536, RING_BYTES = 2 << 20 };

struct options {
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
};

#define AT(field) offsetof(struct options, field)

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

struct server {
    int64_t memory_budget;
    struct options o;
    struct kl_api_settings settings;
    struct kl_arena arena;
    int64_t began_ms;
    char node_name[64];
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
    struct kl_loop *loops[API_LOOPS_MAX], *controllers_loop, *kubelet_loop;
    int nloops;
    struct kl_control *control;
    struct kl_client *kubelet_client;
    struct kl_kubelet *kubelet;
    struct kl_task start_controllers, start_kubelet, stop_controllers, stop_kubelet;
    struct kl_task step; // the next step of stopping, on loops[0]
    int steps;
    uv_signal_t signals[2];
    bool stopping;
    const char *kubeconfig;
};

// ---- the parts on other loops

static const char *local_host(const struct server *s)
{
    const char *h = s->o.bind_address;
    return !h || !*h || !strcmp(h, "0.0.0.0") || !strcmp(h, "::") ? "127.0.0.1" : h;
}

// The same user over either transport: by name within the process, by certificate over HTTPS.
static struct kl_client *make_client(struct server *s, struct kl_loop *loop, const char *user,
                                     const char *const *groups, const char *agent)
{
    if (strcmp(s->o.transport, "https"))
        return kl_apiserver_client(s->api, loop, user, groups, agent);
    struct kl_error err = {0};
    struct kl_arena a;
    struct kl_client *c = NULL;
    kl_arena_init(&a, 1 << 20);
    struct kl_https_options o = {.loop = loop, .ca = s->pki->server_ca, .user_agent = agent};
    o.server = kl_arena_printf(&a, "https://%s:%d", local_host(s), kl_apiserver_port(s->api));
    if (kl_pki_client_cert(s->pki, &a, user, groups, &o.cert, &o.key, &err) ||
        kl_https_client_new(&o, &c, &err))
        kl_log(KL_LOG_ERROR, "server", "client user=%s: %s", user, err.msg);
    kl_arena_fini(&a);
    return c;
}

static struct kl_client *client_for(void *arg, const char *user, const char *agent)
{
    struct server *s = arg;
    static const char *const account_groups[] = {"system:serviceaccounts",
                                                 "system:serviceaccounts:kube-system", NULL};
    bool account = kl_str_starts(kl_str(user), KL_STR("system:serviceaccount:"));
    return make_client(s, s->controllers_loop, user, account ? account_groups : NULL, agent);
}

static void run_controllers(struct kl_task *t)
{
    struct server *s = KL_CONTAINER_OF(t, struct server, start_controllers);
    struct kl_control_options o = {.loop = s->controllers_loop,
                                   .controllers = !s->o.disable_controllers,
                                   .scheduler = !s->o.disable_scheduler,
                                   .elect = kl_store_is_shared(s->store),
                                   .identity = s->node_name,
                                   .client_for = client_for,
                                   .arg = s,
                                   .root_ca_pem = s->pki->server_ca,
                                   .signing = {.client_ca = s->pki->client_ca,
                                               .client_ca_key = s->pki->client_ca_key,
                                               .server_ca = s->pki->server_ca,
                                               .server_ca_key = s->pki->server_ca_key},
                                   .disable = s->o.disable,
                                   .feature_gates = s->settings.feature_gates};
    s->control = kl_control_start(&o);
}

static void run_kubelet(struct kl_task *t)
{
    struct server *s = KL_CONTAINER_OF(t, struct server, start_kubelet);
    static const char *const groups[] = {"system:nodes", NULL};
    struct kl_error err = {0};
    struct kl_arena *a = &s->arena;
    s->kubelet_client = kl_apiserver_client(s->api, s->kubelet_loop,
                                            kl_arena_printf(a, "system:node:%s", s->node_name).p,
                                            groups, "kubelet");
    struct kl_kubelet_options o = {.client = s->kubelet_client,
                                   .node_name = s->node_name,
                                   .data_dir = s->o.data_dir,
                                   .node_ip = s->o.node_ip,
                                   .pod_cidr = kl_first_node_cidr(a, s->o.cluster_cidr),
                                   .cluster_cidr = s->o.cluster_cidr,
                                   .cluster_dns = s->o.cluster_dns,
                                   .cluster_domain = s->o.cluster_domain,
                                   .runtime_endpoint = s->o.runtime_endpoint,
                                   .bridge_name = s->o.bridge_name,
                                   .cgroup_root = s->o.cgroup_root,
                                   .port = s->o.kubelet_port,
                                   .max_pods = s->o.max_pods,
                                   .tls = s->kubelet_tls,
                                   .allowed_user = "system:apiserver",
                                   .allowed_group = "system:masters",
                                   .node_labels = s->o.node_label.n ? s->o.node_label.v : NULL,
                                   .node_taints = s->o.node_taint.n ? s->o.node_taint.v : NULL};
    if (!s->kubelet_client || kl_kubelet_start(&o, &s->kubelet, &err))
        kl_log(KL_LOG_ERROR, "server", "kubelet: %s", err.msg);
}

// ---- certificates; they are renewed in a thread of cli/renew.h

static struct kl_tls_server_opts kubelet_serving(const struct kl_pki *p)
{
    return (struct kl_tls_server_opts){.cert.pem = p->kubelet_serving_cert,
                                       .key.pem = p->kubelet_serving_key,
                                       .client_ca.pem = p->client_ca};
}

static int write_kubeconfig(struct server *s, const struct kl_pki *p, struct kl_error *err)
{
    mode_t mode = (mode_t)strtol(s->o.kubeconfig_mode, NULL, 8);
    int rc =
        kl_pki_write_kubeconfig(p, s->kubeconfig, local_host(s), kl_apiserver_port(s->api), err);
    if (!rc && mode != 0600 && chmod(s->kubeconfig, mode))
        rc = kl_error_errno(err, errno, "%s", s->kubeconfig);
    return rc;
}

static int apply_renewed(void *arg, const struct kl_pki *fresh, struct kl_error *err)
{
    struct server *s = arg;
    struct kl_tls_server_opts kubelet = kubelet_serving(fresh);
    struct kl_tls_pem ca = {.pem = fresh->peer_ca}, cert = {.pem = fresh->peer_cert},
                      key = {.pem = fresh->peer_key};
    int rc = kl_apiserver_renew(s->api, fresh, err);
    if (!rc)
        rc = kl_tls_ctx_reload_server(s->kubelet_tls, &kubelet, err);
    if (!rc && s->cluster.peers)
        rc = kl_peers_renew(s->cluster.peers, ca, cert, key, err);
    return rc ? rc : write_kubeconfig(s, fresh, err);
}

static void on_ready(void *arg)
{
    struct server *s = arg;
    struct kl_error err = {0};
    if (s->stopping) // nothing is started that is not stopped any more
        return;
    struct kl_renew_options ro = {
        .pki = s->pki_options, .pki_now = s->pki, .apply = apply_renewed, .arg = s};
    if (write_kubeconfig(s, s->pki, &err))
        kl_log(KL_LOG_ERROR, "server", "kubeconfig: %s", err.msg);
    if (kl_renew_start(&ro, &s->renew, &err))
        kl_log(KL_LOG_ERROR, "server", "certificates will not be renewed: %s", err.msg);
    if (s->controllers_loop)
        kl_loop_post(s->controllers_loop, &s->start_controllers);
    if (s->kubelet_loop)
        kl_loop_post(s->kubelet_loop, &s->start_kubelet);
    printf("kinglet is ready after %lld ms: export KUBECONFIG=%s\n",
           (long long)(kl_mono_ms() - s->began_ms), s->kubeconfig);
    fflush(stdout);
    kl_notify_systemd("READY=1");
}

// ---- the end: kubelet, then controllers and scheduler, then the API server

static void kubelet_gone(void *arg)
{
    struct server *s = arg;
    kl_client_free(s->kubelet_client);
    s->kubelet_client = NULL;
    kl_loop_post(s->loops[0], &s->step);
}

static void end_kubelet(struct kl_task *t)
{
    struct server *s = KL_CONTAINER_OF(t, struct server, stop_kubelet);
    if (s->kubelet)
        kl_kubelet_stop(s->kubelet, kubelet_gone, s);
    else
        kubelet_gone(s);
}

static void controllers_gone(void *arg)
{
    struct server *s = arg;
    kl_loop_post(s->loops[0], &s->step);
}

static void end_controllers(struct kl_task *t)
{
    struct server *s = KL_CONTAINER_OF(t, struct server, stop_controllers);
    kl_control_stop(s->control, controllers_gone, s);
}

static void api_gone(void *arg)
{
    struct server *s = arg;
    kl_loop_stop(s->loops[0]);
}

static void stop_step(struct kl_task *t)
{
    struct server *s = KL_CONTAINER_OF(t, struct server, step);
    switch (s->steps++) {
    case 0:
        if (s->kubelet_loop) {
            kl_loop_post(s->kubelet_loop, &s->stop_kubelet);
            return;
        }
        s->steps++; // fall through
    case 1:
        if (s->controllers_loop) {
            kl_loop_post(s->controllers_loop, &s->stop_controllers);
            return;
        }
        s->steps++; // fall through
    default:
        kl_apiserver_stop(s->api, api_gone, s);
    }
}

static void on_signal(uv_signal_t *h, int signum)
{
    struct server *s = h->data;
    if (s->stopping) {
        kl_log(KL_LOG_WARN, "server", "stopping at once: signal=%d came again", signum);
        _exit(1);
    }
    s->stopping = true;
    kl_log(KL_LOG_INFO, "server", "stopping signal=%d", signum);
    kl_notify_systemd("STOPPING=1");
    stop_step(&s->step);
}

// ---- the beginning

static int read_token(struct server *s, struct kl_error *err)
{
    struct options *o = &s->o;
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
        o->token = kl_arena_dup(&s->arena, line).p;
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
static int parse_api_args(struct server *s, const char *const *args, struct kl_error *err)
{
    const struct kl_flag_table table = {kl_api_flags, kl_napi_flags, &s->settings};
    const struct kl_flag_parse o = {
        .tables = &table, .ntables = 1, .arena = &s->arena, .pflag = "kube-apiserver"};
    int n = 1;
    while (args[n - 1])
        n++;
    char **argv = kl_arena_zalloc(&s->arena, (size_t)n * sizeof *argv);
    if (!argv)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    argv[0] = (char *)"kube-apiserver";
    for (int i = 1; i < n; i++)
        argv[i] = (char *)kl_arena_printf(&s->arena, "--%s", args[i - 1]).p;
    int rc = kl_flags_parse_tables(&o, n, argv, err);
    return rc ? kl_error_wrap(err, "--kube-apiserver-arg") : 0;
}

static int parse(struct server *s, int argc, char **argv, struct kl_error *err)
{
    struct options *o = &s->o;
    const struct kl_flag_table tables[] = {{flags, KL_COUNT(flags), o},
                                           {kl_api_flags, kl_napi_flags, &s->settings}};
    const struct kl_flag_parse how = {.tables = tables,
                                      .ntables = KL_COUNT(tables),
                                      .arena = &s->arena,
                                      .config_file = "/etc/kinglet/config.yaml"};
    s->settings = kl_api_settings_default;
    int rc = kl_flags_parse_tables(&how, argc, argv, err);
    if (!rc && o->api_args)
        rc = parse_api_args(s, o->api_args, err);
    if (rc || o->help)
        return rc;
    if (!o->data_dir)
        o->data_dir = kl_default_data_dir(&s->arena);
    if (o->data_dir[0] != '/') {
        char cwd[4096];
        if (!getcwd(cwd, sizeof cwd))
            return kl_error_errno(err, errno, "current directory");
        o->data_dir = kl_arena_printf(&s->arena, "%s/%s", cwd, o->data_dir).p;
    }
    if (strcmp(o->transport, "in-process") && strcmp(o->transport, "https"))
        return kl_error_set(err, KL_EINVALID, "--client-transport is in-process or https, not %s",
                            o->transport);
    s->kubeconfig = kl_kubeconfig_path(&s->arena, o->kubeconfig, o->data_dir);
    if (!o->node_ip)
        o->node_ip = kl_machine_address(&s->arena);
    if (!o->advertise_address)
        o->advertise_address = o->node_ip;
    if ((rc = kl_service_ranges_check(o->service_cidr, "service-cidr", o->advertise_address, err)))
        return rc;
    if (!o->cluster_dns)
        o->cluster_dns = kl_nth_address(&s->arena, o->service_cidr, 10);
    if (!kl_first_node_cidr(&s->arena, o->cluster_cidr))
        return kl_error_set(err, KL_EINVALID, "--cluster-cidr %s is no IPv4 range of /24 or more",
                            o->cluster_cidr);
    if ((rc = read_token(s, err)))
        return rc;
    if (!o->datastore && (o->cluster_init || o->server_url || has_raft(o->data_dir)))
        o->datastore = kl_arena_printf(&s->arena, "raft://%s/server/db/raft", o->data_dir).p;
    if ((o->cluster_init || o->server_url || o->cluster_reset) &&
        (!o->datastore || !strstr(o->datastore, "raft://")))
        return kl_error_set(err, KL_EINVALID,
                            "--%s is for raft:// datastores; servers of one database need only its "
                            "--datastore-endpoint and the --token",
                            o->cluster_init ? "cluster-init"
                            : o->server_url ? "server"
                                            : "cluster-reset");
    if (!o->datastore)
        o->datastore = kl_arena_printf(&s->arena, "sqlite://%s/server/db/state.db", o->data_dir).p;
    return kl_machine_node_name(o->node_name, s->node_name, sizeof s->node_name, err);
}

static int make_loops(struct server *s, struct kl_error *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int n = s->o.api_loops > 0 ? s->o.api_loops : cores < 1 ? 1 : (int)cores;
    int rc = 0;
    s->nloops = n > API_LOOPS_MAX ? API_LOOPS_MAX : n;
    for (int i = 0; i < s->nloops && !rc; i++) {
        char name[16];
        snprintf(name, sizeof name, "api%d", i);
        rc = kl_loop_new(name, &s->loops[i], err);
    }
    if (!rc && !(s->o.disable_controllers && s->o.disable_scheduler))
        rc = kl_loop_new("controllers", &s->controllers_loop, err);
    if (!rc && !s->o.disable_agent)
        rc = kl_loop_new("kubelet", &s->kubelet_loop, err);
    return rc;
}

static int start_loops(struct server *s, struct kl_error *err)
{
    int rc = 0;
    for (int i = 1; i < s->nloops && !rc; i++) // loops[0] is the main thread's
        rc = kl_loop_start(s->loops[i], err);
    if (!rc && s->controllers_loop)
        rc = kl_loop_start(s->controllers_loop, err);
    if (!rc && s->kubelet_loop)
        rc = kl_loop_start(s->kubelet_loop, err);
    return rc;
}

// Commands on the datastore while it is served, and its snapshots.
static int begin_admin(struct server *s, struct kl_error *err)
{
    char endpoint[512];
    const struct options *o = &s->o;
    kl_endpoint_redact(o->datastore, endpoint, sizeof endpoint);
    struct kl_admin_options ao = {.store = s->store,
                                  .encryption = s->encryption,
                                  .data_dir = o->data_dir,
                                  .node = s->node_name,
                                  .endpoint = kl_arena_printf(&s->arena, "%s", endpoint).p,
                                  .snapshot_dir =
                                      kl_snapshot_dir(&s->arena, o->snapshot_dir, o->data_dir)};
    struct kl_backup_options bo = {.store = s->store,
                                   .cron = o->snapshot_cron,
                                   .dir = ao.snapshot_dir,
                                   .name = o->snapshot_name,
                                   .node = s->node_name,
                                   .retention = o->snapshot_retention};
    int rc = kl_admin_start(&ao, &s->admin, err);
    if (!rc && o->snapshot_cron)
        rc = kl_backup_start(&bo, &s->backup, err);
    return rc;
}

static int begin(struct server *s, struct kl_error *err)
{
    struct options *o = &s->o;
    int n = 0, rc;
    for (int i = 0; i < o->tls_san.n; i++)
        s->sans[n++] = o->tls_san.v[i];
    s->sans[n++] = o->node_ip;
    s->sans[n++] = o->advertise_address;
    struct kl_pki_options p = {.data_dir = o->data_dir,
                               .node_name = s->node_name,
                               .sans = s->sans,
                               .service_ip = kl_nth_address(&s->arena, o->service_cidr, 1),
                               .cluster_domain = o->cluster_domain,
                               .token = o->token,
                               .agent_token = o->agent_token};
    struct kl_encryption_options eo = {.file = s->settings.encryption_provider_config,
                                       .reload =
                                           s->settings.encryption_provider_config_automatic_reload};
    if ((rc = kl_encryption_new(&eo, &s->encryption, err)))
        return rc;
    struct kl_store_options so = {.hooks = kl_encryption_hooks(s->encryption),
                                  .ring_bytes = RING_BYTES,
                                  .auto_compact = true,
                                  .take_over = o->take_over,
                                  .take_over_dir =
                                      kl_snapshot_dir(&s->arena, o->snapshot_dir, o->data_dir)};
    so.cafile = o->cafile;
    so.certfile = o->certfile;
    so.keyfile = o->keyfile;
    so.spill_dir = kl_arena_printf(&s->arena, "%s/server/db", o->data_dir).p;
    so.memory_budget = s->memory_budget;
    struct kl_cluster_options co = {.pki = p,
                                    .store = so,
                                    .datastore = o->datastore,
                                    .server = o->server_url,
                                    .peer_address = o->bind_address,
                                    .peer_advertise = o->advertise_address,
                                    .peer_port = o->peer_port};
    if ((rc = kl_make_dirs(&s->arena, o->data_dir, "server/db", err)) ||
        (rc = kl_cluster_open(&co, &s->cluster, err)))
        return rc;
    s->pki = s->cluster.pki;
    s->store = s->cluster.store;
    if ((rc = kl_encryption_open(s->encryption, s->store, kl_token_secret(s->pki->token, NULL),
                                 err)))
        return rc;
    s->pki_options = p;
    s->pki_options.server_id = s->cluster.id;
    struct kl_tls_server_opts kubelet = kubelet_serving(s->pki);
    if ((rc = make_loops(s, err)) || (rc = kl_tls_server_new(&kubelet, &s->kubelet_tls, err)))
        return rc;
    struct kl_loop *others[2];
    int nothers = 0;
    if (s->controllers_loop)
        others[nothers++] = s->controllers_loop;
    if (s->kubelet_loop)
        others[nothers++] = s->kubelet_loop;
    struct kl_apiserver_options ao = {.store = s->store,
                                      .loops = s->loops,
                                      .nloops = s->nloops,
                                      .client_loops = others,
                                      .nclient_loops = nothers,
                                      .bind_address = o->bind_address,
                                      .port = o->port,
                                      .advertise_address = o->advertise_address,
                                      .service_cidr = o->service_cidr,
                                      .cluster_domain = o->cluster_domain,
                                      .version = KINGLET_VERSION,
                                      .pki = s->pki,
                                      .encryption = s->encryption,
                                      .roster = s->cluster.roster,
                                      .anonymous = s->settings.anonymous_auth,
                                      .settings = &s->settings};
    if ((rc = kl_apiserver_start(&ao, &s->api, err)) || (rc = begin_admin(s, err)))
        return rc;
    s->start_controllers.run = run_controllers;
    s->start_kubelet.run = run_kubelet;
    s->stop_controllers.run = end_controllers;
    s->stop_kubelet.run = end_kubelet;
    s->step.run = stop_step;
    kl_apiserver_on_ready(s->api, on_ready, s);
    static const int caught[] = {SIGTERM, SIGINT};
    for (int i = 0; i < 2; i++) {
        uv_signal_init(kl_loop_uv(s->loops[0]), &s->signals[i]);
        s->signals[i].data = s;
        uv_signal_start(&s->signals[i], on_signal, caught[i]);
    }
    return start_loops(s, err);
}

// The store first: it answers to loops, which must still be there.
static void end(struct server *s)
{
    kl_renew_stop(s->renew);
    kl_backup_stop(s->backup);
    kl_admin_stop(s->admin);
    kl_cluster_close(&s->cluster);
    for (int i = 1; i < s->nloops; i++)
        kl_loop_stop(s->loops[i]);
    if (s->controllers_loop)
        kl_loop_stop(s->controllers_loop);
    if (s->kubelet_loop)
        kl_loop_stop(s->kubelet_loop);
    for (int i = 1; i < s->nloops; i++)
        kl_loop_unref(s->loops[i]);
    kl_loop_unref(s->controllers_loop);
    kl_loop_unref(s->kubelet_loop);
    kl_loop_unref(s->loops[0]);
    kl_apiserver_free(s->api);
    kl_tls_ctx_unref(s->kubelet_tls);
    kl_cluster_free(&s->cluster);
    kl_encryption_free(s->encryption);
}

static void raise_file_limit(void)
{
    struct rlimit l;
    if (!getrlimit(RLIMIT_NOFILE, &l) && l.rlim_cur < OPEN_FILES) {
        l.rlim_cur = l.rlim_max < OPEN_FILES ? l.rlim_max : OPEN_FILES;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

int kl_cmd_server(int argc, char **argv)
{
    static struct server s; // one server in a process; its address is in callbacks to the end
    struct kl_error err = {0};
    s.began_ms = kl_mono_ms();
    kl_arena_init(&s.arena, 16 << 20);
    signal(SIGPIPE, SIG_IGN);
    kl_trim_init();
    raise_file_limit();
    if (parse(&s, argc, argv, &err) ||
        kl_memory_budget(s.o.memory_budget, &s.memory_budget, &err)) {
        fprintf(stderr, "kinglet: %s\n", err.msg);
        return 2;
    }
    if (s.o.help) {
        printf("USAGE:\n   kinglet server [flags]\n\nFLAGS:\n");
        kl_flags_help(flags, KL_COUNT(flags));
        kl_flags_help(kl_api_flags, kl_napi_flags);
        return 0;
    }
    kl_log_setup(s.o.debug || s.o.v >= 4 ? KL_LOG_DEBUG : KL_LOG_INFO,
                 !strcmp(s.o.log_format, "json"));
    if (s.o.cluster_reset)
        return kl_recover_raft(s.o.datastore);
    if (!s.o.disable_agent && geteuid()) {
        fprintf(stderr,
                "kinglet: a node needs root; --disable-agent runs the control plane alone\n");
        return 1;
    }
    if (begin(&s, &err)) {
        fprintf(stderr, "kinglet: %s\n", err.msg);
        return 1;
    }
    kl_trim_start(s.loops[0], s.store);
    kl_loop_run(s.loops[0]);
    end(&s);
    kl_log(KL_LOG_INFO, "server", "stopped");
    return 0;
}
