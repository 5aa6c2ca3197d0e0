// SPDX-License-Identifier: Apache-2.0
// kinglet kube-apiserver, and `kube-apiserver` itself when called so: the API server alone over an
// etcd (or any datastore), with upstream's command line, as envtest, kwok and kubeadm-like tools
// start it.
#include "apiserver/allocate/allocate.h"
#include "apiserver/encryption/encryption.h"
#include "apiserver/discovery.h"
#include "apiserver/pki.h"
#include "base/log.h"
#include "cli/alone.h"
#include "cli/api_flags.h"
#include "cli/commands.h"
#include "cli/kube_apiserver_flags.h"
#include "cli/machine.h"
#include "cli/trim.h"
#include "object/gates.h"
#include "watchcache/cache.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { PROBLEMS_MAX = 16, RING_BYTES = 4 << 20 };

struct server {
    struct kl_kube_apiserver_flags f;
    struct kl_api_settings s;
    struct kl_arena arena;
    const char *problems[PROBLEMS_MAX]; // all are told at once
    int nproblems;
};

static void problem(struct server *x, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void problem(struct server *x, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str t = kl_arena_vprintf(&x->arena, fmt, ap);
    va_end(ap);
    if (x->nproblems < PROBLEMS_MAX)
        x->problems[x->nproblems++] = t.p;
}

// ---- what the flags mean

static bool has_entry(const char *const *list, const char *text)
{
    for (; list && *list; list++)
        if (!strcmp(*list, text))
            return true;
    return false;
}

static void check_tokens(struct server *x)
{
    const struct kl_api_settings *s = &x->s;
    if (!s->service_account_issuer)
        problem(x, "service-account-issuer is a required flag");
    if (!s->service_account_key_file)
        problem(x, "either `--service-account-key-file` or `--service-account-signing-endpoint` "
                   "must be set");
}

static void check_signing(struct server *x)
{
    const struct kl_api_settings *s = &x->s;
    if (!s->service_account_signing_key_file && !s->service_account_issuer && !s->api_audiences)
        problem(x, "--service-account-signing-key-file and --service-account-issuer are required "
                   "flags");
    else if (!s->service_account_signing_key_file || !s->service_account_issuer)
        problem(x, "--service-account-signing-key-file, --service-account-issuer, and "
                   "--api-audiences should be specified together");
}

static void check_authorization(struct server *x)
{
    static const char *const modes[] = {"AlwaysAllow", "AlwaysDeny", "ABAC", "Webhook",
                                        "RBAC",        "Node",       NULL};
    for (const char *const *m = x->s.authorization_mode; m && *m; m++)
        if (!has_entry(modes, *m))
            problem(x, "authorization-mode \"%s\" is not a valid mode", *m);
    bool abac = has_entry(x->s.authorization_mode, "ABAC");
    if (abac && !x->s.authorization_policy_file)
        problem(x, "authorization-mode ABAC's authorization policy file not passed");
    if (x->s.authorization_policy_file && !abac && !x->s.authorization_config)
        problem(x, "cannot specify --authorization-policy-file without mode ABAC");
    if (has_entry(x->s.authorization_mode, "Webhook") && !x->s.authorization_webhook_config_file)
        problem(x, "authorization-mode Webhook's authorization config file not passed");
}

// In upstream's order (GenericServerRunOptions, Etcd, SecureServing, Authentication, ...).
static void check_flags(struct server *x)
{
    const struct kl_kube_apiserver_flags *f = &x->f;
    static const char *const media[] = {"application/json", "application/vnd.kubernetes.protobuf",
                                        "application/yaml", NULL};
    if (x->s.goaway_chance < 0 || x->s.goaway_chance > 0.02)
        problem(x, "--goaway-chance can not be less than 0 or greater than 0.02");
    if (!f->etcd_servers)
        problem(x, "--etcd-servers must be specified");
    if (strcmp(f->etcd_prefix, "/registry") && strcmp(f->etcd_prefix, "registry") &&
        strcmp(f->etcd_prefix, "/registry/"))
        problem(x, "--etcd-prefix %s is not supported: keys begin with /registry", f->etcd_prefix);
    if (f->storage_backend && *f->storage_backend && strcmp(f->storage_backend, "etcd3"))
        problem(x, "--storage-backend invalid, allowed values: etcd3. If not specified, it will "
                   "default to 'etcd3'");
    if (x->s.encryption_provider_config_automatic_reload && !x->s.encryption_provider_config)
        problem(x, "--encryption-provider-config-automatic-reload must be set with "
                   "--encryption-provider-config");
    if (f->storage_media_type && !has_entry(media, f->storage_media_type))
        problem(x,
                "--storage-media-type \"%s\" invalid, allowed values: application/json, "
                "application/vnd.kubernetes.protobuf, application/yaml",
                f->storage_media_type);
    if (f->secure_port < 1 || f->secure_port > 65535)
        problem(x,
                "--secure-port %d must be between 1 and 65535, inclusive. It cannot be turned off "
                "with 0",
                f->secure_port);
    check_tokens(x);
    check_authorization(x);
    check_signing(x);
    if (x->s.kubernetes_service_node_port < 0 || x->s.kubernetes_service_node_port > 65535)
        problem(x,
                "--kubernetes-service-node-port %d must be between 0 and 65535, inclusive. If 0, "
                "the Kubernetes master service will be of type ClusterIP",
                x->s.kubernetes_service_node_port);
    struct kl_port_range r;
    struct kl_error ignored;
    if (x->s.kubernetes_service_node_port > 0 &&
        !kl_port_range_parse(x->s.service_node_port_range, &r, &ignored) &&
        !kl_port_range_has(&r, x->s.kubernetes_service_node_port)) {
        char text[KL_PORT_RANGE_TEXT];
        kl_port_range_text(&r, text);
        problem(x, "kubernetes service node port range %s doesn't contain %d", text,
                x->s.kubernetes_service_node_port);
    }
}

// http(s)://HOST:PORT,... are etcd's; anything else is a datastore's own URL.
static int datastore_url(struct server *x, struct kl_store_options *so, const char **ret,
                         struct kl_error *err)
{
    struct kl_buf b;
    bool tls = false;
    kl_buf_init(&b, 64 * 1024);
    for (const char *const *u = x->f.etcd_servers; *u; u++) {
        struct kl_str s = kl_str(*u);
        bool https = kl_str_starts(s, KL_STR("https://"));
        if (!https && !kl_str_starts(s, KL_STR("http://"))) {
            if (u == x->f.etcd_servers && strstr(*u, "://")) {
                kl_buf_puts(&b, s);
                break;
            }
            kl_buf_fini(&b);
            return kl_error_set(err, KL_EINVALID, "--etcd-servers: %s is no http or https URL", *u);
        }
        tls = tls || https;
        s = kl_str_from(s, https ? 8 : 7);
        while (s.n && s.p[s.n - 1] == '/')
            s.n--;
        kl_buf_printf(&b, "%s%.*s", b.n ? "," : "etcd://", KL_PRI(s));
    }
    *ret = kl_arena_dup(&x->arena, kl_buf_str(&b)).p;
    kl_buf_fini(&b);
    so->cafile = x->f.etcd_cafile;
    so->certfile = x->f.etcd_certfile;
    so->keyfile = x->f.etcd_keyfile;
    if (tls && !so->cafile) // the system's, as Go's
        so->cafile = "/etc/ssl/certs/ca-certificates.crt";
    return *ret ? 0 : kl_error_set(err, KL_ENOMEM, "out of memory");
}

// ---- telling what is wrong as upstream does

static void put_quoted(const char *s)
{
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            putchar('\\');
        putchar(*s);
    }
    putchar('"');
}

// klog's line: E1122 14:49:21.084059   14814 run.go:72] "command failed" err="..."
static int fail(const char *why)
{
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    fflush(stdout);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    printf("E%02d%02d %02d:%02d:%02d.%06ld %7d kube_apiserver.c:1] \"command failed\" err=",
           tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, now.tv_nsec / 1000,
           (int)getpid());
    put_quoted(why);
    putchar('\n');
    fflush(stdout);
    return 1;
}

static int fail_all(struct server *x)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    for (int i = 0; i < x->nproblems; i++)
        kl_buf_printf(&b, "%s%s", i ? ", " : x->nproblems > 1 ? "[" : "", x->problems[i]);
    if (x->nproblems > 1)
        kl_buf_putc(&b, ']');
    kl_buf_putc(&b, 0);
    int rc = fail(b.err ? "out of memory" : b.p);
    kl_buf_fini(&b);
    return rc;
}

static void put_help(const struct kl_flag *flags, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct kl_flag *f = &flags[i];
        bool flag = f->kind == KL_FLAG_BOOL || f->kind == KL_FLAG_IGNORED_BOOL;
        const char *value = flag ? "" : f->value ? f->value : "VALUE", *help = f->help;
        if (f->kind == KL_FLAG_IGNORED || f->kind == KL_FLAG_IGNORED_BOOL)
            help = "Taken and without effect";
        else if (f->kind == KL_FLAG_REFUSED)
            help = "Not supported";
        char left[80];
        snprintf(left, sizeof left, "--%s %s", f->name, value);
        if (f->letter)
            printf("  -%c, %-48s %s\n", f->letter, left, help ? help : "");
        else
            printf("      %-48s %s\n", left, help ? help : "");
    }
}

static void help(void)
{
    printf("The API server of Kubernetes %s over an etcd or any of kinglet's datastores.\n\n"
           "Usage:\n  kube-apiserver [flags]\n\nFlags:\n\n",
           KL_K8S_VERSION);
    put_help(kl_kube_apiserver_flags, kl_nkube_apiserver_flags);
    put_help(kl_api_flags, kl_napi_flags);
}

// ---- running

static int open_pki(struct server *x, const char *host, const char *service_cidr,
                    struct kl_pki **ret, struct kl_error *err)
{
    const char *names[] = {host, kl_nth_address(&x->arena, service_cidr, 1), NULL};
    struct kl_pki_files f = {.cert = x->f.cert_file,
                             .key = x->f.key_file,
                             .cert_dir = x->f.cert_dir,
                             .names = names,
                             .client_ca = x->s.client_ca_file,
                             .service_key = x->s.service_account_signing_key_file,
                             .kubelet_ca = x->s.kubelet_certificate_authority,
                             .kubelet_cert = x->s.kubelet_client_certificate,
                             .kubelet_key = x->s.kubelet_client_key};
    return kl_pki_from_files(&f, ret, err);
}

static int run(struct server *x)
{
    static const char *const allow[] = {"AlwaysAllow", NULL};
    struct kl_error err = {0};
    struct kl_store_options so = {
        .hooks = &kl_cache_hooks, .ring_bytes = RING_BYTES, .auto_compact = true};
    const char *url = NULL, *bind = x->f.bind_address;
    if (bind && (!*bind || !strcmp(bind, "0.0.0.0") || !strcmp(bind, "::")))
        bind = NULL;
    const char *host = x->f.advertise_address             ? x->f.advertise_address
                       : bind && strncmp(bind, "127.", 4) ? bind
                                                          : kl_machine_address(&x->arena);
    if (!x->s.authorization_mode && !x->s.authorization_config) {
        x->s.authorization_mode = allow; // upstream's default, with its consequence
        x->s.anonymous_auth = false;
    }
    struct kl_alone_options o = {.name = "kube-apiserver",
                                 .settings = &x->s,
                                 .bind_address = bind,
                                 .advertise_address = host,
                                 .port = x->f.secure_port,
                                 .loops = x->f.loops};
    struct kl_gate_set gates; // upstream looks at these two before anything else
    kl_gate_set_default(&gates);
    o.service_cidr = x->f.service_cidr ? x->f.service_cidr : "10.0.0.0/24";
    bool publishes = strcmp(x->s.endpoint_reconciler_type, "none") != 0;
    int rc = kl_gate_set_parse(&gates, x->s.feature_gates, &err);
    if (!rc)
        rc = kl_service_ranges_check(o.service_cidr, "service-cluster-ip-range",
                                     publishes ? host : NULL, &err);
    if (rc && rc != KL_EUNSUPPORTED)
        return fail(err.msg);
    check_flags(x);
    if (rc)
        problem(x, "%s", err.msg);
    if (x->nproblems)
        return fail_all(x);
    struct kl_encryption_options eo = {.file = x->s.encryption_provider_config,
                                       .reload = x->s.encryption_provider_config_automatic_reload};
    if (eo.file && kl_encryption_new(&eo, &o.encryption, &err))
        return fail(err.msg);
    if (o.encryption)
        so.hooks = kl_encryption_hooks(o.encryption);
    if (open_pki(x, host, o.service_cidr, &o.pki, &err) || datastore_url(x, &so, &url, &err) ||
        kl_store_open(url, &so, &o.store, &err) ||
        (o.encryption && kl_encryption_open(o.encryption, o.store, KL_STR(""), &err))) {
        kl_pki_free(o.pki);
        return fail(err.msg);
    }
    int status = kl_alone_run(&o, &err);
    return status < 0 ? fail(err.msg) : status;
}

int kl_cmd_kube_apiserver(int argc, char **argv)
{
    static struct server x;
    struct kl_error err = {0};
    kl_arena_init(&x.arena, 16 << 20);
    kl_trim_init();
    x.s = kl_api_settings_default;
    x.s.allow_privileged = false;
    const struct kl_flag_table tables[] = {
        {kl_kube_apiserver_flags, kl_nkube_apiserver_flags, &x.f},
        {kl_api_flags, kl_napi_flags, &x.s}};
    const struct kl_flag_parse how = {.tables = tables,
                                      .ntables = KL_COUNT(tables),
                                      .arena = &x.arena,
                                      .pflag = "kube-apiserver"};
    if (kl_flags_parse_tables(&how, argc, argv, &err)) {
        fprintf(stderr, "Error: %s\n", err.msg);
        return 1;
    }
    struct kl_port_range ports;
    if (kl_port_range_parse(x.s.service_node_port_range, &ports, &err)) {
        fprintf(stderr,
                "Error: invalid argument \"%s\" for \"--service-node-port-range\" flag: %s\n",
                x.s.service_node_port_range, err.msg);
        return 1;
    }
    if (x.f.help) {
        help();
        return 0;
    }
    if (x.f.version) {
        printf("Kubernetes %s\n", KL_K8S_VERSION);
        return 0;
    }
    kl_log_setup(x.f.v >= 4 ? KL_LOG_DEBUG : KL_LOG_INFO, !strcmp(x.f.logging_format, "json"));
    return run(&x);
}
