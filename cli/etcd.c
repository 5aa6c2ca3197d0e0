// SPDX-License-Identifier: Apache-2.0
// kinglet etcd: the etcd v3 API alone, over any datastore; and `etcd` itself when called so.
#include "cli/commands.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/etcd_cluster.h"
#include "cli/etcd_flags.h"
#include "cli/machine.h"
#include "cli/trim.h"
#include "store/etcd/etcd.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { LOOPS_MAX = 8, URLS_MAX = 16, OPEN_FILES = 65536, STOP_MS = 3000 };

struct server {
    int64_t memory_budget;
    struct kl_etcd_flags f;
    struct kl_arena arena;
    int64_t began_ms;
    bool as_etcd;
    struct kl_etcd_url urls[URLS_MAX], metrics_urls[URLS_MAX];
    int nurls, nmetrics;
    struct kl_tls_ctx *tls;
    struct kl_etcd_cluster cluster;
    struct kl_store *store;
    struct kl_etcd *etcd;
    struct kl_loop *loops[LOOPS_MAX];
    int nloops;
    uv_signal_t signals[2];
    bool stopping;
};

// ---- what the flags mean

// etcd's --auto-compaction-*: periodic keeps a time, revision a number of revisions.
static int compaction(const struct kl_etcd_flags *f, struct kl_store_options *o,
                      struct kl_error *err)
{
    const char *mode = f->compaction_mode ? f->compaction_mode : "periodic";
    const char *keep = f->compaction_retention ? f->compaction_retention : "0";
    char *end;
    long long n = strtoll(keep, &end, 10);
    bool number = end != keep && !*end;
    if (!strcmp(mode, "revision")) {
        if (!number || n < 0)
            return kl_error_set(err, KL_EINVALID, "--auto-compaction-retention %s is no number",
                                keep);
        o->auto_compact = n > 0;
        o->compact_keep_revs = n;
        o->compact_age_ms = 1;
        o->compact_every_ms = 5 * 60 * 1000;
        return 0;
    }
    if (strcmp(mode, "periodic"))
        return kl_error_set(err, KL_EINVALID, "unknown auto-compaction-mode \"%s\"", mode);
    int64_t ms = n * 3600 * 1000; // a bare number is hours
    int rc = number && n >= 0 && n < 1000000 ? 0 : kl_go_duration(keep, &ms, err);
    if (rc)
        return rc;
    o->auto_compact = ms > 0;
    o->compact_keep_revs = 1;
    o->compact_age_ms = ms;
    o->compact_every_ms = ms / 10 < 1000 ? 1000 : ms / 10 > 360000 ? 360000 : ms / 10;
    return 0;
}

static int find_datastore(struct server *s, struct kl_error *err)
{
    struct kl_etcd_flags *f = &s->f;
    if (!f->name)
        f->name = "default";
    int rc = kl_etcd_cluster_read(&s->cluster, f, &s->arena, err);
    if (rc || f->datastore)
        return rc;
    const char *dir = f->data_dir ? f->data_dir : kl_arena_printf(&s->arena, "%s.etcd", f->name).p;
    if (dir && dir[0] != '/') {
        char cwd[4096];
        dir = getcwd(cwd, sizeof cwd) ? kl_arena_printf(&s->arena, "%s/%s", cwd, dir).p : NULL;
    }
    const char *theirs = dir ? kl_arena_printf(&s->arena, "%s/member/snap/db", dir).p : NULL;
    f->datastore = !dir           ? NULL
                   : s->cluster.n ? kl_arena_printf(&s->arena, "raft://%s/raft", dir).p
                                  : kl_arena_printf(&s->arena, "sqlite://%s/state.db", dir).p;
    if (!theirs || !f->datastore)
        return kl_error_set(err, KL_ENOMEM, "--data-dir: out of memory, or no current directory");
    if (!access(theirs, F_OK))
        return kl_error_set(err, KL_EEXISTS,
                            "%s holds the data of an etcd: run that etcd and copy it with "
                            "`kinglet migrate --from etcd://... --to sqlite://...`",
                            dir);
    return kl_make_dirs(&s->arena, dir, "", err);
}

static int make_tls(struct server *s, struct kl_error *err)
{
    const struct kl_etcd_flags *f = &s->f;
    const struct kl_etcd_url *first = NULL;
    for (int i = 0; i < s->nurls && !first; i++)
        first = s->urls[i].tls ? &s->urls[i] : NULL;
    for (int i = 0; i < s->nmetrics && !first; i++)
        first = s->metrics_urls[i].tls ? &s->metrics_urls[i] : NULL;
    if (!first)
        return 0;
    if (!f->cert_file || !f->key_file)
        return kl_error_set(err, KL_EINVALID,
                            "TLS key/cert (--cert-file, --key-file) must be provided for client "
                            "url %s with HTTPS scheme",
                            first->text);
    if (f->client_cert_auth && !f->trusted_ca_file)
        return kl_error_set(err, KL_EINVALID, "--client-cert-auth needs --trusted-ca-file");
    struct kl_tls_server_opts o = {.cert.file = f->cert_file,
                                   .key.file = f->key_file,
                                   .client_ca.file = f->trusted_ca_file,
                                   // A CA alone makes etcd ask for certificates too.
                                   .require_client = f->trusted_ca_file != NULL};
    return kl_tls_server_new(&o, &s->tls, err);
}

static int check_flags(struct server *s, struct kl_error *err)
{
    struct kl_etcd_flags *f = &s->f;
    struct kl_error why = {0};
    const char *list = f->listen_client ? f->listen_client : "http://localhost:2379";
    if (f->config_file)
        return kl_error_set(err, KL_EUNSUPPORTED,
                            "--config-file is not supported: give flags or ETCD_* variables");
    if (f->auto_tls)
        return kl_error_set(err, KL_EUNSUPPORTED,
                            "--auto-tls is not supported: give --cert-file and --key-file");
    int rc = kl_etcd_urls(&s->arena, list, s->urls, URLS_MAX, &s->nurls, &why);
    if (rc || !s->nurls)
        return kl_error_set(err, KL_EINVALID, "--listen-client-urls: %s",
                            rc ? why.msg : "no URL is given");
    const char *more[] = {f->listen_metrics, f->listen_client_http};
    for (int i = 0; i < 2 && !rc; i++) {
        int n = 0;
        if (more[i])
            rc = kl_etcd_urls(&s->arena, more[i], s->metrics_urls + s->nmetrics,
                              URLS_MAX - s->nmetrics, &n, err);
        s->nmetrics += n;
    }
    if (!rc)
        rc = make_tls(s, err);
    return rc ? rc : find_datastore(s, err);
}

// ---- starting

static int make_loops(struct server *s, struct kl_error *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    s->nloops = cores < 1 ? 1 : cores > LOOPS_MAX ? LOOPS_MAX : (int)cores;
    int rc = 0;
    for (int i = 0; i < s->nloops && !rc; i++) {
        char name[16];
        snprintf(name, sizeof name, "etcd%d", i);
        rc = kl_loop_new(name, &s->loops[i], err);
    }
    return rc;
}

static const char **split(struct kl_arena *a, const char *list)
{
    const char **v = kl_arena_zalloc(a, (URLS_MAX + 1) * sizeof *v);
    for (int n = 0; v && list && *list && n < URLS_MAX; n++) {
        size_t len = strcspn(list, ",");
        v[n] = kl_arena_dup(a, (struct kl_str){list, len}).p;
        list += len + (list[len] == ',');
    }
    return v;
}

static int listen_all(struct server *s, struct kl_error *err)
{
    for (int i = 0; i < s->nurls; i++) {
        const struct kl_etcd_url *u = &s->urls[i];
        bool local = u->port < 0;
        int rc = kl_etcd_listen(s->etcd, local ? NULL : u->host, local ? 0 : u->port,
                                local ? u->host : NULL, u->tls ? s->tls : NULL, err);
        if (rc)
            return rc;
    }
    for (int i = 0; i < s->nmetrics; i++) {
        const struct kl_etcd_url *u = &s->metrics_urls[i];
        int rc =
            u->port < 0
                ? kl_error_set(err, KL_EUNSUPPORTED, "metrics on a Unix socket: %s", u->text)
                : kl_etcd_listen_metrics(s->etcd, u->host, u->port, u->tls ? s->tls : NULL, err);
        if (rc)
            return rc;
    }
    return 0;
}

static void etcd_gone(void *arg)
{
    struct server *s = arg;
    kl_loop_stop(s->loops[0]);
}

static void on_signal(uv_signal_t *h, int signum)
{
    struct server *s = h->data;
    if (s->stopping) {
        kl_log(KL_LOG_WARN, "etcd", "stopping at once: signal=%d came again", signum);
        _exit(1);
    }
    s->stopping = true;
    kl_log(KL_LOG_INFO, "etcd", "received signal; shutting down signal=%d", signum);
    kl_notify_systemd("STOPPING=1");
    kl_etcd_stop(s->etcd, STOP_MS, etcd_gone, s);
    s->etcd = NULL;
}

static int begin(struct server *s, struct kl_error *err)
{
    const struct kl_etcd_flags *f = &s->f;
    struct kl_store_options so = {.cafile = f->datastore_ca,
                                  .certfile = f->datastore_cert,
                                  .keyfile = f->datastore_key,
                                  .take_over = f->take_over,
                                  .no_fsync = f->unsafe_no_fsync,
                                  .memory_budget = s->memory_budget};
    so.spill_dir = "/var/tmp"; // a database's server has no place of its own
    int rc = compaction(f, &so, err);
    if (rc || (rc = kl_etcd_cluster_open(&s->cluster, f, &so, err)) ||
        (rc = kl_store_open(f->datastore, &so, &s->store, err)) || (rc = make_loops(s, err)))
        return rc;
    struct kl_etcd_options eo = {
        .store = s->store,
        .loops = s->loops,
        .nloops = s->nloops,
        .name = f->name,
        .client_urls =
            split(&s->arena, f->advertise_client ? f->advertise_client : s->urls[0].text),
        .peer_urls = split(&s->arena, f->advertise_peer),
        .quota_bytes = f->quota_bytes > 0 ? f->quota_bytes : 0,
        .max_request_bytes = (size_t)f->max_request_bytes,
        .max_txn_ops = (uint32_t)f->max_txn_ops,
        .max_streams = (uint32_t)f->max_streams,
        .member_id = s->cluster.n ? kl_etcd_cluster_member_id : NULL,
        .member_name = s->cluster.n ? kl_etcd_cluster_member_name : NULL,
        .member_arg = &s->cluster,
        .peers = s->cluster.peers,
        .plain_peers = s->cluster.plain,
        .no_gateway = !f->gateway,
        .watch_progress_ms = f->progress_ms && f->progress_ms < 100 ? 100 : f->progress_ms};
    if ((rc = kl_etcd_new(&eo, &s->etcd, err)) || (rc = listen_all(s, err)))
        return rc;
    kl_etcd_cluster_form(&s->cluster, s->store, s->loops[0]);
    static const int caught[] = {SIGTERM, SIGINT};
    for (int i = 0; i < 2; i++) {
        uv_signal_init(kl_loop_uv(s->loops[0]), &s->signals[i]);
        s->signals[i].data = s;
        uv_signal_start(&s->signals[i], on_signal, caught[i]);
    }
    for (int i = 1; i < s->nloops && !rc; i++) // loops[0] is the main thread's
        rc = kl_loop_start(s->loops[i], err);
    return rc;
}

static void tell_ready(struct server *s)
{
    for (int i = 0; i < s->nurls; i++) {
        const struct kl_etcd_url *u = &s->urls[i];
        const char *url = u->text;
        if (u->port >= 0)
            url = kl_arena_printf(&s->arena, strchr(u->host, ':') ? "%s://[%s]:%d" : "%s://%s:%d",
                                  u->tls ? "https" : "http", *u->host ? u->host : "127.0.0.1",
                                  kl_etcd_port(s->etcd, i))
                      .p;
        kl_log(KL_LOG_INFO, "etcd", "ready to serve client requests address=%s", url);
        if (!s->as_etcd)
            printf("kinglet etcd is ready after %lld ms: %s\n",
                   (long long)(kl_mono_ms() - s->began_ms), url);
    }
    fflush(stdout);
    kl_notify_systemd("READY=1");
}

// The store first: it answers to loops, which must still be there.
static void end(struct server *s)
{
    kl_store_stop(s->store);
    kl_etcd_cluster_close(&s->cluster);
    for (int i = 1; i < s->nloops; i++) {
        kl_loop_stop(s->loops[i]);
        kl_loop_unref(s->loops[i]);
    }
    kl_loop_unref(s->loops[0]);
    kl_tls_ctx_unref(s->tls);
}

static void raise_file_limit(void)
{
    struct rlimit l;
    if (!getrlimit(RLIMIT_NOFILE, &l) && l.rlim_cur < OPEN_FILES) {
        l.rlim_cur = l.rlim_max < OPEN_FILES ? l.rlim_max : OPEN_FILES;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

static enum kl_log_level log_level(const char *name)
{
    if (!name || !strcmp(name, "info"))
        return KL_LOG_INFO;
    return !strcmp(name, "debug")  ? KL_LOG_DEBUG
           : !strcmp(name, "warn") ? KL_LOG_WARN
                                   : KL_LOG_ERROR;
}

static int run(int argc, char **argv, bool as_etcd)
{
    static struct server s; // one server in a process; its address is in callbacks to the end
    struct kl_error err = {0};
    const char *me = as_etcd ? "etcd" : "kinglet etcd";
    s.began_ms = kl_mono_ms();
    s.as_etcd = as_etcd;
    kl_arena_init(&s.arena, 16 << 20);
    signal(SIGPIPE, SIG_IGN);
    kl_trim_init();
    raise_file_limit();
    kl_log_setup(KL_LOG_INFO, as_etcd);
    if (kl_etcd_flags_parse(&s.f, &s.arena, argc, argv, as_etcd, &err) ||
        kl_memory_budget(s.f.memory_budget, &s.memory_budget, &err)) {
        fprintf(stderr, "%s: %s\n", me, err.msg);
        return 2;
    }
    if (s.f.version) {
        printf("etcd Version: %s\nGit SHA: kinglet\nGo Version: none\nGo OS/Arch: linux/%s\n",
               KL_ETCD_VERSION,
#ifdef __aarch64__
               "arm64"
#else
               "amd64"
#endif
        );
        return 0;
    }
    if (s.f.help) {
        printf("USAGE:\n   %s [flags]\n\nFLAGS:\n", me);
        kl_etcd_flags_help();
        return 0;
    }
    kl_log_setup(log_level(s.f.log_level),
                 s.f.log_format ? !strcmp(s.f.log_format, "json") : as_etcd);
    if (check_flags(&s, &err) || begin(&s, &err)) {
        fprintf(stderr, "%s: %s\n", me, err.msg);
        return 1;
    }
    tell_ready(&s);
    kl_trim_start(s.loops[0], s.store);
    kl_loop_run(s.loops[0]);
    end(&s);
    kl_log(KL_LOG_INFO, "etcd", "stopped");
    return 0;
}

int kl_cmd_etcd(int argc, char **argv)
{
    return run(argc, argv, false);
}

int kl_main_etcd(int argc, char **argv)
{
    return run(argc, argv, true);
}
