// SPDX-License-Identifier: Apache-2.0
#include "cli/etcd_flags.h"
#include "base/log.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

enum kind { STRING, BOOL, NUMBER, SIGNED, DURATION, IGNORED, IGNORED_BOOL };

struct flag {
    const char *name;
    enum kind kind;
    size_t offset;
    const char *help;
};

#define AT(field) offsetof(struct kl_etcd_flags, field)

// Every flag of etcd 3.6, and ours for datastores.
static const struct flag flags[] = {
    {"listen-client-urls", STRING, AT(listen_client),
     "URLs to listen on: http, https, unix, unixs (http://localhost:2379)"},
    {"datastore-endpoint", STRING, AT(datastore),
     "URL of the datastore (sqlite in the data directory)"},
    {"datastore-cafile", STRING, AT(datastore_ca), "CA of the datastore's server"},
    {"datastore-certfile", STRING, AT(datastore_cert), "Client certificate for the datastore"},
    {"datastore-keyfile", STRING, AT(datastore_key), "Its key"},
    {"take-over", BOOL, AT(take_over), "Change a kine datastore in place"},
    {"memory-budget", STRING, AT(memory_budget),
     "Memory for values, the rest is in a file (a quarter of the machine's, at most 2Gi)"},
    {"watch-progress-notify-interval", DURATION, AT(progress_ms),
     "Time between progress notifications of a silent watch (10m)"},
    {"data-dir", STRING, AT(data_dir), "Where the default datastore is (NAME.etcd)"},
    {"name", STRING, AT(name), "Name of this member (default)"},
    {"advertise-client-urls", STRING, AT(advertise_client),
     "URLs that the member list tells (those listened on)"},
    {"initial-advertise-peer-urls", STRING, AT(advertise_peer),
     "Peer URLs that the member list tells"},
    {"listen-client-http-urls", STRING, AT(listen_client_http),
     "URLs that serve only /health, /version and /metrics"},
    {"listen-metrics-urls", STRING, AT(listen_metrics), "The same"},
    {"cert-file", STRING, AT(cert_file), "Serving certificate"},
    {"key-file", STRING, AT(key_file), "Its key"},
    {"trusted-ca-file", STRING, AT(trusted_ca_file), "CA of clients' certificates"},
    {"client-cert-auth", BOOL, AT(client_cert_auth), "Require a client certificate"},
    {"auto-compaction-mode", STRING, AT(compaction_mode), "periodic or revision (periodic)"},
    {"auto-compaction-retention", STRING, AT(compaction_retention),
     "What compaction keeps: a time, or a number of revisions; 0: no compaction (0)"},
    {"max-request-bytes", NUMBER, AT(max_request_bytes), "Largest request (1572864)"},
    {"max-txn-ops", NUMBER, AT(max_txn_ops), "Most operations in a transaction (128)"},
    {"max-concurrent-streams", NUMBER, AT(max_streams), "Streams of a connection (4294967295)"},
    {"unsafe-no-fsync", BOOL, AT(unsafe_no_fsync), "Do not wait for the disk: tests only"},
    {"log-level", STRING, AT(log_level), "debug, info, warn, error (info)"},
    {"log-format", STRING, AT(log_format), "json or console"},
    {"config-file", STRING, AT(config_file), NULL},
    {"auto-tls", BOOL, AT(auto_tls), NULL},
    {"help", BOOL, AT(help), "This text"},
    {"h", BOOL, AT(help), NULL},
    {"version", BOOL, AT(version), "The version"},

    {"auth-token", IGNORED, 0, NULL},
    {"auth-token-ttl", IGNORED, 0, NULL},
    {"backend-batch-interval", IGNORED, 0, NULL},
    {"backend-batch-limit", IGNORED, 0, NULL},
    {"backend-bbolt-freelist-type", IGNORED, 0, NULL},
    {"bcrypt-cost", IGNORED, 0, NULL},
    {"bootstrap-defrag-threshold-megabytes", IGNORED, 0, NULL},
    {"cipher-suites", IGNORED, 0, NULL},
    {"client-cert-allowed-hostname", IGNORED, 0, NULL},
    {"client-cert-file", IGNORED, 0, NULL},
    {"client-crl-file", IGNORED, 0, NULL},
    {"client-key-file", IGNORED, 0, NULL},
    {"compact-hash-check-enabled", IGNORED_BOOL, 0, NULL},
    {"compact-hash-check-time", IGNORED, 0, NULL},
    {"compaction-batch-limit", IGNORED, 0, NULL},
    {"compaction-sleep-interval", IGNORED, 0, NULL},
    {"cors", IGNORED, 0, NULL},
    {"corrupt-check-time", IGNORED, 0, NULL},
    {"debug", IGNORED_BOOL, 0, NULL},
    {"discovery", IGNORED, 0, NULL},
    {"discovery-cacert", IGNORED, 0, NULL},
    {"discovery-cert", IGNORED, 0, NULL},
    {"discovery-dial-timeout", IGNORED, 0, NULL},
    {"discovery-endpoints", IGNORED, 0, NULL},
    {"discovery-fallback", IGNORED, 0, NULL},
    {"discovery-insecure-skip-tls-verify", IGNORED_BOOL, 0, NULL},
    {"discovery-insecure-transport", IGNORED_BOOL, 0, NULL},
    {"discovery-keepalive-time", IGNORED, 0, NULL},
    {"discovery-keepalive-timeout", IGNORED, 0, NULL},
    {"discovery-key", IGNORED, 0, NULL},
    {"discovery-password", IGNORED, 0, NULL},
    {"discovery-proxy", IGNORED, 0, NULL},
    {"discovery-request-timeout", IGNORED, 0, NULL},
    {"discovery-srv", IGNORED, 0, NULL},
    {"discovery-srv-name", IGNORED, 0, NULL},
    {"discovery-token", IGNORED, 0, NULL},
    {"discovery-user", IGNORED, 0, NULL},
    {"distributed-tracing-address", IGNORED, 0, NULL},
    {"distributed-tracing-instance-id", IGNORED, 0, NULL},
    {"distributed-tracing-sampling-rate", IGNORED, 0, NULL},
    {"distributed-tracing-service-name", IGNORED, 0, NULL},
    {"downgrade-check-time", IGNORED, 0, NULL},
    {"election-timeout", IGNORED, 0, NULL},
    {"enable-distributed-tracing", IGNORED_BOOL, 0, NULL},
    {"enable-grpc-gateway", BOOL, AT(gateway), "JSON under /v3/ (true)"},
    {"enable-lease-checkpoint", IGNORED_BOOL, 0, NULL},
    {"enable-lease-checkpoint-persist", IGNORED_BOOL, 0, NULL},
    {"enable-log-rotation", IGNORED_BOOL, 0, NULL},
    {"enable-pprof", IGNORED_BOOL, 0, NULL},
    {"enable-v2", IGNORED_BOOL, 0, NULL},
    {"feature-gates", IGNORED, 0, NULL},
    {"force-new-cluster", IGNORED_BOOL, 0, NULL},
    {"grpc-keepalive-interval", IGNORED, 0, NULL},
    {"grpc-keepalive-min-time", IGNORED, 0, NULL},
    {"grpc-keepalive-timeout", IGNORED, 0, NULL},
    {"heartbeat-interval", IGNORED, 0, NULL},
    {"host-whitelist", IGNORED, 0, NULL},
    {"initial-cluster", STRING, AT(initial_cluster),
     "NAME=PEER-URL,...: more than one make a raft cluster in the data directory"},
    {"initial-cluster-state", STRING, AT(initial_state), "new or existing (new)"},
    {"initial-cluster-token", STRING, AT(initial_token), "Of this cluster (etcd-cluster)"},
    {"initial-corrupt-check", IGNORED_BOOL, 0, NULL},
    {"initial-election-tick-advance", IGNORED_BOOL, 0, NULL},
    {"listen-peer-urls", STRING, AT(listen_peer),
     "URL for the other members (http://localhost:2380); without TLS only on this machine"},
    {"log-outputs", IGNORED, 0, NULL},
    {"log-rotation-config-json", IGNORED, 0, NULL},
    {"logger", IGNORED, 0, NULL},
    {"max-learners", IGNORED, 0, NULL},
    {"max-snapshots", IGNORED, 0, NULL},
    {"max-wals", IGNORED, 0, NULL},
    {"memory-mlock", IGNORED_BOOL, 0, NULL},
    {"metrics", IGNORED, 0, NULL},
    {"peer-auto-tls", IGNORED_BOOL, 0, NULL},
    {"peer-cert-allowed-cn", IGNORED, 0, NULL},
    {"peer-cert-allowed-hostname", IGNORED, 0, NULL},
    {"peer-cert-file", STRING, AT(peer_cert_file), "Certificate for the other members"},
    {"peer-client-cert-auth", IGNORED_BOOL, 0, NULL},
    {"peer-client-cert-file", IGNORED, 0, NULL},
    {"peer-client-key-file", IGNORED, 0, NULL},
    {"peer-crl-file", IGNORED, 0, NULL},
    {"peer-key-file", STRING, AT(peer_key_file), "Its key"},
    {"peer-skip-client-san-verification", IGNORED_BOOL, 0, NULL},
    {"peer-trusted-ca-file", STRING, AT(peer_ca_file), "CA of the members' certificates"},
    {"pre-vote", IGNORED_BOOL, 0, NULL},
    {"quota-backend-bytes", SIGNED, AT(quota_bytes),
     "Size of the datastore beyond which puts are refused with the alarm NOSPACE (none)"},
    {"raft-read-timeout", IGNORED, 0, NULL},
    {"raft-write-timeout", IGNORED, 0, NULL},
    {"self-signed-cert-validity", IGNORED, 0, NULL},
    {"snapshot-catchup-entries", IGNORED, 0, NULL},
    {"snapshot-count", IGNORED, 0, NULL},
    {"socket-reuse-address", IGNORED_BOOL, 0, NULL},
    {"socket-reuse-port", IGNORED_BOOL, 0, NULL},
    {"stop-grpc-service-on-defrag", IGNORED_BOOL, 0, NULL},
    {"strict-reconfig-check", IGNORED_BOOL, 0, NULL},
    {"tls-max-version", IGNORED, 0, NULL},
    {"tls-min-version", IGNORED, 0, NULL},
    {"txn-mode-write-with-shared-buffer", IGNORED_BOOL, 0, NULL},
    {"v2-deprecation", IGNORED, 0, NULL},
    {"wal-dir", IGNORED, 0, NULL},
    {"warning-apply-duration", IGNORED, 0, NULL},
    {"warning-unary-request-duration", IGNORED, 0, NULL},
};

#define NFLAGS (sizeof flags / sizeof *flags)

static const struct flag *find_flag(const char *name, size_t n)
{
    static const char experimental[] = "experimental-"; // what became stable keeps its old name
    for (;;) {
        for (size_t i = 0; i < NFLAGS; i++)
            if (strlen(flags[i].name) == n && !memcmp(flags[i].name, name, n))
                return &flags[i];
        if (n < sizeof experimental || memcmp(name, experimental, sizeof experimental - 1))
            return NULL;
        name += sizeof experimental - 1;
        n -= sizeof experimental - 1;
    }
}

int kl_go_duration(const char *text, int64_t *ret_ms, struct kl_error *err)
{
    static const struct {
        const char *name;
        double ms;
    } units[] = {{"ns", 1e-6}, {"us", 1e-3}, {"\xc2\xb5s", 1e-3}, {"\xce\xbcs", 1e-3},
                 {"ms", 1},    {"s", 1e3},   {"m", 6e4},          {"h", 3.6e6}};
    const char *p = text;
    double ms = 0;
    if (!strcmp(text, "0")) {
        *ret_ms = 0;
        return 0;
    }
    do {
        char *end;
        size_t best = 0;
        double v = isdigit((unsigned char)*p) || *p == '.' ? strtod(p, &end) : -1, unit = 0;
        if (v < 0)
            return kl_error_set(err, KL_EINVALID, "time: invalid duration \"%s\"", text);
        p = end;
        for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
            size_t n = strlen(units[i].name);
            if (n > best && !strncmp(p, units[i].name, n)) {
                best = n;
                unit = units[i].ms;
            }
        }
        if (!best)
            return kl_error_set(err, KL_EINVALID, "time: %s unit in duration \"%s\"",
                                *p ? "unknown" : "missing", text);
        p += best;
        ms += v * unit;
    } while (*p);
    if (ms > 9e12)
        return kl_error_set(err, KL_EINVALID, "time: invalid duration \"%s\"", text);
    *ret_ms = (int64_t)(ms + 0.5);
    return 0;
}

static int set_flag(const struct flag *fl, struct kl_etcd_flags *f, const char *value,
                    struct kl_error *err)
{
    void *at = (char *)f + fl->offset;
    char *end;
    struct kl_error why = {0};
    switch (fl->kind) {
    case STRING:
        *(const char **)at = value;
        return 0;
    case BOOL:
        if (!strcmp(value, "true") || !strcmp(value, "1") || !strcmp(value, "t"))
            *(bool *)at = true;
        else if (!strcmp(value, "false") || !strcmp(value, "0") || !strcmp(value, "f"))
            *(bool *)at = false;
        else
            return kl_error_set(err, KL_EINVALID, "invalid boolean value \"%s\" for --%s", value,
                                fl->name);
        return 0;
    case NUMBER:
    case SIGNED:
        errno = 0;
        *(int64_t *)at = strtoll(value, &end, 0);
        if (!*value || *end || errno ||
            (fl->kind == NUMBER && (*(int64_t *)at < 0 || *(int64_t *)at > UINT32_MAX)))
            return kl_error_set(err, KL_EINVALID, "invalid value \"%s\" for flag --%s: parse error",
                                value, fl->name);
        return 0;
    case DURATION:
        if (kl_go_duration(value, at, &why))
            return kl_error_set(err, KL_EINVALID, "invalid value \"%s\" for flag --%s: %s", value,
                                fl->name, why.msg);
        return 0;
    default:
        return 0;
    }
}

// ETCD_LISTEN_CLIENT_URLS and so on.
static int parse_env(struct kl_etcd_flags *f, struct kl_arena *a, struct kl_error *err)
{
    for (char **e = environ; *e; e++) {
        const char *eq = strchr(*e, '=');
        size_t skip = !strncmp(*e, "ETCD_", 5) ? 5 : !strncmp(*e, "KINGLET_DATASTORE_", 18) ? 8 : 0;
        if (!skip || !eq)
            continue;
        size_t n = (size_t)(eq - *e) - skip;
        struct kl_str name = kl_arena_dup(a, (struct kl_str){*e + skip, n});
        if (!name.p)
            return kl_error_set(err, KL_ENOMEM, "environment: out of memory");
        char *p = (char *)name.p;
        for (size_t i = 0; i < n; i++)
            p[i] = p[i] == '_' ? '-' : (char)tolower((unsigned char)p[i]);
        const struct flag *fl = find_flag(name.p, n);
        int rc = fl ? set_flag(fl, f, eq + 1, err) : 0;
        if (rc)
            return rc;
        if (!fl)
            kl_log(KL_LOG_WARN, "etcd", "unrecognized environment variable: %.*s", (int)(eq - *e),
                   *e);
    }
    return 0;
}

int kl_etcd_flags_parse(struct kl_etcd_flags *f, struct kl_arena *a, int argc, char **argv,
                        bool lenient, struct kl_error *err)
{
    f->gateway = true;
    int rc = parse_env(f, a, err);
    for (int i = 1; i < argc && !rc; i++) {
        const char *arg = argv[i], *name = arg + (arg[0] == '-') + (arg[0] == '-' && arg[1] == '-');
        if (arg[0] != '-' || !*name)
            return kl_error_set(err, KL_EINVALID, "'%s' is not a valid flag", arg);
        const char *eq = strchr(name, '='), *value = eq ? eq + 1 : NULL;
        size_t n = eq ? (size_t)(eq - name) : strlen(name);
        const struct flag *fl = find_flag(name, n);
        if (!fl && !lenient)
            return kl_error_set(err, KL_EINVALID, "flag provided but not defined: -%.*s", (int)n,
                                name);
        bool is_bool = fl && (fl->kind == BOOL || fl->kind == IGNORED_BOOL);
        if (!value && is_bool)
            value = "true";
        else if (!value && i + 1 < argc && (fl || argv[i + 1][0] != '-'))
            value = argv[++i];
        if (!fl)
            kl_log(KL_LOG_WARN, "etcd", "ignored an unknown flag: --%.*s", (int)n, name);
        else if (!value)
            return kl_error_set(err, KL_EINVALID, "flag needs an argument: -%.*s", (int)n, name);
        else
            rc = set_flag(fl, f, value, err);
    }
    return rc;
}

void kl_etcd_flags_help(void)
{
    for (size_t i = 0; i < NFLAGS; i++)
        if (flags[i].help)
            printf("   --%-34s %s\n", flags[i].name, flags[i].help);
    printf("\n   etcd's other flags are taken and ignored. Each flag is also read from the\n"
           "   environment: --data-dir is ETCD_DATA_DIR.\n");
}

static int parse_url(struct kl_arena *a, struct kl_str text, struct kl_etcd_url *u,
                     struct kl_error *err)
{
    const char *t = u->text = kl_arena_dup(a, text).p;
    if (!t)
        return kl_error_set(err, KL_ENOMEM, "URL: out of memory");
    const char *rest = strstr(t, "://");
    size_t n = rest ? (size_t)(rest - t) : 0;
    bool unix_scheme = rest && (!strncmp(t, "unix", n) || !strncmp(t, "unixs", n)) && n >= 4;
    if (!unix_scheme && !(n == 4 && !strncmp(t, "http", n)) && !(n == 5 && !strncmp(t, "https", n)))
        return kl_error_set(err, KL_EINVALID, "URL scheme must be http, https, unix, or unixs: %s",
                            t);
    u->tls = t[n - 1] == 's';
    rest += 3;
    if (unix_scheme) {
        u->host = rest;
        u->port = -1;
        return *rest ? 0 : kl_error_set(err, KL_EINVALID, "unix URL without a path: %s", t);
    }
    const char *colon = strrchr(rest, ':'), *slash = strchr(rest, '/');
    char *end = NULL;
    long port = colon ? strtol(colon + 1, &end, 10) : -1;
    if (slash && slash[1])
        return kl_error_set(err, KL_EINVALID, "URL must not contain a path: %s", t);
    if (!colon || end == colon + 1 || (*end && *end != '/') || port < 0 || port > 65535)
        return kl_error_set(err, KL_EINVALID,
                            "URL address does not have the form \"host:port\": %s", t);
    size_t host_n = (size_t)(colon - rest);
    bool brackets = host_n >= 2 && rest[0] == '[' && rest[host_n - 1] == ']';
    struct kl_str host = {rest + brackets, host_n - 2 * (size_t)brackets};
    if (kl_str_eqz(host, "localhost"))
        host = KL_STR("127.0.0.1");
    u->host = kl_arena_dup(a, host).p;
    u->port = (int)port;
    unsigned char ip[16];
    if (!u->host)
        return kl_error_set(err, KL_ENOMEM, "URL: out of memory");
    if (*u->host && inet_pton(AF_INET, u->host, ip) != 1 && inet_pton(AF_INET6, u->host, ip) != 1)
        return kl_error_set(err, KL_EINVALID, "expected IP in URL for binding (%s)", t);
    return 0;
}

int kl_etcd_urls(struct kl_arena *a, const char *list, struct kl_etcd_url *ret, int max, int *ret_n,
                 struct kl_error *err)
{
    int n = 0;
    for (const char *p = list; *p;) {
        size_t len = strcspn(p, ",");
        struct kl_str one = {p, len};
        while (one.n && one.p[0] == ' ')
            one.p++, one.n--;
        if (n == max)
            return kl_error_set(err, KL_ELIMIT, "more than %d URLs: %s", max, list);
        int rc = parse_url(a, one, &ret[n], err);
        if (rc)
            return rc;
        n++;
        p += len + (p[len] == ',');
    }
    *ret_n = n;
    return 0;
}
