// SPDX-License-Identifier: Apache-2.0
// kinglet server: composes the store, the API server, the controllers, the scheduler and the
// kubelet in one process.
#include "apiserver/pki.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/machine.h"
#include "cli/server_int.h"
#include "cli/store_cmd.h"
#include "cli/trim.h"
#include "cli/version.h"
#include "store/peer/peers.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

// An event in the ring keeps its decoded and encoded forms alive: several times its stored bytes.
enum { OPEN_FILES = 65536, RING_BYTES = 2 << 20 };

// ---- certificates; they are renewed in a thread of cli/renew.h

static struct kl_tls_server_opts kubelet_serving(const struct kl_pki *p)
{
    return (struct kl_tls_server_opts){.cert.pem = p->kubelet_serving_cert,
                                       .key.pem = p->kubelet_serving_key,
                                       .client_ca.pem = p->client_ca};
}

static int write_kubeconfig(struct kl_server *s, const struct kl_pki *p, struct kl_error *err)
{
    mode_t mode = (mode_t)strtol(s->o.kubeconfig_mode, NULL, 8);
    int rc = kl_pki_write_kubeconfig(p, s->o.kubeconfig, kl_server_local_host(s),
                                     kl_apiserver_port(s->api), err);
    if (!rc && mode != 0600 && chmod(s->o.kubeconfig, mode))
        rc = kl_error_errno(err, errno, "%s", s->o.kubeconfig);
    return rc;
}

static int apply_renewed(void *arg, const struct kl_pki *fresh, struct kl_error *err)
{
    struct kl_server *s = arg;
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
    struct kl_server *s = arg;
    struct kl_error err = {0};
    if (s->stopping) // nothing is started that is not stopped any more
        return;
    struct kl_renew_options ro = {
        .pki = s->pki_options, .pki_now = s->pki, .apply = apply_renewed, .arg = s};
    if (write_kubeconfig(s, s->pki, &err))
        kl_log(KL_LOG_ERROR, "server", "kubeconfig: %s", err.msg);
    if (kl_renew_start(&ro, &s->renew, &err))
        kl_log(KL_LOG_ERROR, "server", "certificates will not be renewed: %s", err.msg);
    kl_server_parts_start(s);
    printf("kinglet is ready after %lld ms: export KUBECONFIG=%s\n",
           (long long)(kl_mono_ms() - s->began_ms), s->o.kubeconfig);
    fflush(stdout);
    kl_notify_systemd("READY=1");
}

// ---- the end: the parts, then the API server

static void api_gone(void *arg)
{
    struct kl_server *s = arg;
    kl_loop_stop(s->loops[0]);
}

static void stop_api(struct kl_server *s)
{
    kl_apiserver_stop(s->api, api_gone, s);
}

static void on_signal(uv_signal_t *h, int signum)
{
    struct kl_server *s = h->data;
    if (s->stopping) {
        kl_log(KL_LOG_WARN, "server", "stopping at once: signal=%d came again", signum);
        _exit(1);
    }
    s->stopping = true;
    kl_log(KL_LOG_INFO, "server", "stopping signal=%d", signum);
    kl_notify_systemd("STOPPING=1");
    kl_server_parts_stop(s, stop_api);
}

// ---- the beginning

static int make_loops(struct kl_server *s, struct kl_error *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int n = s->o.api_loops > 0 ? s->o.api_loops : cores < 1 ? 1 : (int)cores;
    int rc = 0;
    s->nloops = n > KL_SERVER_API_LOOPS_MAX ? KL_SERVER_API_LOOPS_MAX : n;
    for (int i = 0; i < s->nloops && !rc; i++) {
        char name[16];
        snprintf(name, sizeof name, "api%d", i);
        rc = kl_loop_new(name, &s->loops[i], err);
    }
    return rc ? rc : kl_server_parts_new(s, err);
}

static int start_loops(struct kl_server *s, struct kl_error *err)
{
    int rc = 0;
    for (int i = 1; i < s->nloops && !rc; i++) // loops[0] is the main thread's
        rc = kl_loop_start(s->loops[i], err);
    return rc ? rc : kl_server_parts_run_loops(s, err);
}

// Commands on the datastore while it is served, and its snapshots.
static int begin_admin(struct kl_server *s, struct kl_error *err)
{
    char endpoint[512];
    const struct kl_server_flags *o = &s->o;
    kl_endpoint_redact(o->datastore, endpoint, sizeof endpoint);
    struct kl_admin_options ao = {.store = s->store,
                                  .encryption = s->encryption,
                                  .data_dir = o->data_dir,
                                  .node = s->o.node_name,
                                  .endpoint = kl_arena_printf(&s->arena, "%s", endpoint).p,
                                  .snapshot_dir =
                                      kl_snapshot_dir(&s->arena, o->snapshot_dir, o->data_dir)};
    struct kl_backup_options bo = {.store = s->store,
                                   .cron = o->snapshot_cron,
                                   .dir = ao.snapshot_dir,
                                   .name = o->snapshot_name,
                                   .node = s->o.node_name,
                                   .retention = o->snapshot_retention};
    int rc = kl_admin_start(&ao, &s->admin, err);
    if (!rc && o->snapshot_cron)
        rc = kl_backup_start(&bo, &s->backup, err);
    return rc;
}

static int begin(struct kl_server *s, struct kl_error *err)
{
    struct kl_server_flags *o = &s->o;
    int n = 0, rc;
    for (int i = 0; i < o->tls_san.n; i++)
        s->sans[n++] = o->tls_san.v[i];
    s->sans[n++] = o->node_ip;
    s->sans[n++] = o->advertise_address;
    struct kl_pki_options p = {.data_dir = o->data_dir,
                               .node_name = s->o.node_name,
                               .sans = s->sans,
                               .service_ip = kl_nth_address(&s->arena, o->service_cidr, 1),
                               .cluster_domain = o->cluster_domain,
                               .token = o->token,
                               .agent_token = o->agent_token};
    struct kl_encryption_options eo = {
        .file = s->o.settings.encryption_provider_config,
        .reload = s->o.settings.encryption_provider_config_automatic_reload};
    if ((rc = kl_encryption_new(&eo, &s->encryption, err)))
        return rc;
    struct kl_store_options so = {.hooks = kl_encryption_hooks(s->encryption),
                                  .ring_bytes = RING_BYTES,
                                  .auto_compact = true,
                                  .take_over = o->take_over,
                                  .take_over_dir =
                                      kl_snapshot_dir(&s->arena, o->snapshot_dir, o->data_dir)};
    so.take_over_check = kl_identity_check_kine;
    so.take_over_arg = &p;
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
                                      .anonymous = s->o.settings.anonymous_auth,
                                      .settings = &s->o.settings};
    if ((rc = kl_apiserver_start(&ao, &s->api, err)) || (rc = begin_admin(s, err)))
        return rc;
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
static void end(struct kl_server *s)
{
    kl_renew_stop(s->renew);
    kl_backup_stop(s->backup);
    kl_admin_stop(s->admin);
    kl_cluster_close(&s->cluster);
    for (int i = 1; i < s->nloops; i++)
        kl_loop_stop(s->loops[i]);
    kl_server_parts_stop_loops(s);
    for (int i = 1; i < s->nloops; i++)
        kl_loop_unref(s->loops[i]);
    kl_server_parts_free(s);
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
    static struct kl_server s; // one server in a process; its address is in callbacks to the end
    struct kl_error err = {0};
    s.began_ms = kl_mono_ms();
    kl_arena_init(&s.arena, 16 << 20);
    signal(SIGPIPE, SIG_IGN);
    kl_trim_init();
    raise_file_limit();
    if (kl_server_flags_parse(&s.o, &s.arena, argc, argv, &err) ||
        kl_memory_budget(s.o.memory_budget, &s.memory_budget, &err)) {
        fprintf(stderr, "kinglet: %s\n", err.msg);
        return 2;
    }
    if (s.o.help) {
        printf("USAGE:\n   kinglet server [flags]\n\nFLAGS:\n");
        kl_server_flags_help();
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
