// SPDX-License-Identifier: Apache-2.0
// kinglet test-server: an API server for the life of a test. In memory, on a port of the kernel's
// choice; one line of JSON on standard output says that it is ready and where its kubeconfig is.
#include "apiserver/pki.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/alone.h"
#include "cli/api_flags.h"
#include "cli/commands.h"
#include "cli/machine.h"
#include "cli/manifests.h"
#include "cli/trim.h"
#include "controllers/controllers.h"
#include "object/json.h"
#include "watchcache/cache.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { RING_BYTES = 2 << 20 };

struct options {
    const char *bind_address, *kubeconfig, *controllers, *datastore, *service_cidr;
    const char *const *crds, *const *manifests;
    int port, loops, v;
    bool scheduler, detached, help;
};

#define AT(field) offsetof(struct options, field)

static const struct kl_flag flags[] = {
    {"bind-address", 0, NULL, KL_FLAG_STRING, AT(bind_address), "ADDR", "127.0.0.1", "listener",
     "Address to listen on"},
    {"port", 'p', NULL, KL_FLAG_INT, AT(port), "PORT", "0", "listener",
     "HTTPS port; 0: any that is free"},
    {"api-loops", 0, NULL, KL_FLAG_INT, AT(loops), "N", "1", "listener",
     "Loops that serve requests"},
    {"kubeconfig", 'o', NULL, KL_FLAG_STRING, AT(kubeconfig), "FILE", NULL, "client",
     "Where the kubeconfig goes (a temporary file, removed at the end)"},
    {"controllers", 0, NULL, KL_FLAG_STRING, AT(controllers), "NAMES", NULL, "components",
     "Controllers to run: * are all, -NAME leaves one out (none)"},
    {"scheduler", 0, NULL, KL_FLAG_BOOL, AT(scheduler), NULL, "false", "components",
     "Run the scheduler"},
    {"crds", 0, NULL, KL_FLAG_ARRAY, AT(crds), "PATH", NULL, "objects",
     "File or directory of CustomResourceDefinitions, applied before it is ready"},
    {"manifests", 0, NULL, KL_FLAG_ARRAY, AT(manifests), "PATH", NULL, "objects",
     "File or directory of any objects, applied before it is ready"},
    {"datastore-endpoint", 0, NULL, KL_FLAG_STRING, AT(datastore), "URL", "memory://", "db",
     "Where the objects are"},
    {"service-cidr", 0, NULL, KL_FLAG_STRING, AT(service_cidr), "CIDR", "10.0.0.0/24", "networking",
     "Addresses of Services"},
    {"detached", 0, NULL, KL_FLAG_BOOL, AT(detached), NULL, "false", "components",
     "Outlive the process that started this one"},
    {"v", 'v', NULL, KL_FLAG_INT, AT(v), "N", "0", "logging",
     "Level of detail: 1 what happens, 4 everything"},
    {"help", 'h', NULL, KL_FLAG_BOOL, AT(help), NULL, "false", "help", "This text"},
};

struct server {
    struct options o;
    struct kl_api_settings settings;
    struct kl_arena arena;
    int64_t began_ms;
    struct kl_pki *pki;
    struct kl_alone *alone;
    struct kl_manifests *manifests;
    struct kl_client *client;
    pid_t parent;
    uv_poll_t parent_gone, input_gone;
    const char *kubeconfig, *remove;
};

// ---- ends with who started it

static void parent_ended(uv_poll_t *h, int status, int events)
{
    struct server *s = h->data;
    uv_poll_stop(h);
    kl_alone_stop(s->alone, 0);
}

static void input_ended(uv_poll_t *h, int status, int events)
{
    struct server *s = h->data;
    char text[512];
    ssize_t n = read(STDIN_FILENO, text, sizeof text);
    if (n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN)))
        return;
    uv_poll_stop(h);
    kl_alone_stop(s->alone, 0);
}

static void watch_fd(struct server *s, uv_poll_t *h, int fd, uv_poll_cb cb)
{
    if (uv_poll_init(kl_loop_uv(kl_alone_loop(s->alone)), h, fd))
        return;
    h->data = s;
    uv_poll_start(h, UV_READABLE, cb);
}

// A pipe on standard input tells by its end; a process by its descriptor. PR_SET_PDEATHSIG would
// tell of the thread that started us, which in Go and Java may end long before its process.
static void follow_parent(struct server *s)
{
    struct stat st;
    if (s->o.detached)
        return;
    if (!fstat(STDIN_FILENO, &st) && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
        watch_fd(s, &s->input_gone, STDIN_FILENO, input_ended);
    if (s->parent <= 1)
        return;
    int fd = (int)syscall(SYS_pidfd_open, s->parent, 0);
    if (fd >= 0)
        watch_fd(s, &s->parent_gone, fd, parent_ended);
    else if (errno == ENOSYS || errno == EPERM)
        prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != s->parent) // it went meanwhile
        kl_alone_stop(s->alone, 0);
}

// ---- ready

static void tell_ready(struct server *s)
{
    struct kl_buf b;
    const char *host = s->o.bind_address;
    bool v6 = strchr(host, ':') != NULL;
    kl_buf_init(&b, 64 * 1024);
    kl_buf_puts(&b, KL_STR("{\"kubeconfig\":"));
    kl_json_write_string(&b, kl_str(s->kubeconfig));
    kl_buf_printf(&b, ",\"server\":\"https://%s%s%s:%d\",\"pid\":%d,\"readyMs\":%lld}\n",
                  v6 ? "[" : "", host, v6 ? "]" : "", kl_apiserver_port(kl_alone_api(s->alone)),
                  (int)getpid(), (long long)(kl_mono_ms() - s->began_ms));
    fwrite(b.p, 1, b.n, stdout);
    fflush(stdout);
    kl_buf_fini(&b);
}

static void applied(void *arg, int code, const struct kl_error *err)
{
    struct server *s = arg;
    if (code) {
        fprintf(stderr, "kinglet test-server: %s\n", err->msg);
        kl_alone_stop(s->alone, 1);
    } else {
        tell_ready(s);
    }
    kl_manifests_free(s->manifests);
    s->manifests = NULL;
}

static int on_ready(void *arg, struct kl_alone *x, struct kl_error *err)
{
    struct server *s = arg;
    static const char *const groups[] = {"system:masters", NULL};
    s->alone = x;
    follow_parent(s);
    int rc = kl_pki_write_kubeconfig(s->pki, s->kubeconfig, s->o.bind_address,
                                     kl_apiserver_port(kl_alone_api(x)), err);
    if (rc)
        return rc;
    if (!s->manifests) {
        tell_ready(s);
        return 0;
    }
    s->client = kl_apiserver_client(kl_alone_api(x), kl_alone_loop(x), "system:admin", groups,
                                    "kinglet-test-server");
    if (!s->client)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_manifests_apply(s->manifests, s->client, applied, s);
    return 0;
}

// ---- the beginning

static int read_manifests(struct server *s, struct kl_error *err)
{
    return s->o.crds || s->o.manifests
               ? kl_manifests_read(s->o.crds, s->o.manifests, &s->manifests, err)
               : 0;
}

static int choose_kubeconfig(struct server *s, struct kl_error *err)
{
    const char *dir = getenv("TMPDIR");
    s->kubeconfig = s->o.kubeconfig;
    if (s->kubeconfig)
        return 0;
    struct kl_str t =
        kl_arena_printf(&s->arena, "%s/kinglet-test-XXXXXX.kubeconfig", dir && *dir ? dir : "/tmp");
    int fd = t.p ? mkostemps((char *)t.p, 11, O_CLOEXEC) : -1;
    if (fd < 0)
        return kl_error_errno(err, errno, "temporary file %s", t.p ? t.p : "");
    close(fd);
    s->kubeconfig = s->remove = t.p;
    return 0;
}

static int parse(struct server *s, int argc, char **argv, struct kl_error *err)
{
    const struct kl_flag_table tables[] = {{flags, KL_COUNT(flags), &s->o},
                                           {kl_api_flags, kl_napi_flags, &s->settings}};
    const struct kl_flag_parse how = {
        .tables = tables, .ntables = KL_COUNT(tables), .arena = &s->arena};
    s->settings = kl_api_settings_default;
    static const char *const no_accounts[] = {"ServiceAccount", NULL};
    int rc = kl_flags_parse_tables(&how, argc, argv, err);
    // Without their controller there are no accounts, and no pod could be made, as in envtest.
    if (!s->settings.disable_admission_plugins && !s->settings.enable_admission_plugins &&
        !(s->o.controllers && kl_controllers_runs(s->o.controllers, "serviceaccount")))
        s->settings.disable_admission_plugins = no_accounts;
    return rc ? rc : kl_controllers_check(s->o.controllers, err);
}

static int run(struct server *s, struct kl_error *err)
{
    const char *names[] = {s->o.bind_address, NULL};
    struct kl_store_options so = {.hooks = &kl_cache_hooks, .ring_bytes = RING_BYTES};
    struct kl_alone_options o = {.name = "kinglet test-server",
                                 .settings = &s->settings,
                                 .bind_address = s->o.bind_address,
                                 .advertise_address = s->o.bind_address,
                                 .service_cidr = s->o.service_cidr,
                                 .port = s->o.port,
                                 .loops = s->o.loops,
                                 .controllers = s->o.controllers,
                                 .scheduler = s->o.scheduler,
                                 .abrupt = !strcmp(s->o.datastore, "memory://"),
                                 .ready = on_ready,
                                 .arg = s};
    int rc = kl_service_ranges_check(s->o.service_cidr, "service-cidr", NULL, err);
    if (rc || (rc = read_manifests(s, err)) || (rc = kl_pki_make_memory(names, &s->pki, err)) ||
        (rc = kl_store_open(s->o.datastore, &so, &o.store, err)))
        return rc;
    if ((rc = choose_kubeconfig(s, err))) {
        kl_store_stop(o.store);
        return rc;
    }
    o.pki = s->pki;
    int status = kl_alone_run(&o, err);
    if (s->remove)
        unlink(s->remove);
    return status;
}

int kl_cmd_test_server(int argc, char **argv)
{
    static struct server s; // one in a process; its address is in callbacks to the end
    struct kl_error err = {0};
    s.began_ms = kl_mono_ms();
    s.parent = getppid();
    kl_arena_init(&s.arena, 16 << 20);
    kl_trim_init();
    if (parse(&s, argc, argv, &err)) {
        fprintf(stderr, "kinglet test-server: %s\n", err.msg);
        return 2;
    }
    if (s.o.help) {
        printf("USAGE:\n   kinglet test-server [flags]\n\nFLAGS:\n");
        kl_flags_help(flags, KL_COUNT(flags));
        kl_flags_help(kl_api_flags, kl_napi_flags);
        return 0;
    }
    kl_log_setup(s.o.v >= 4 ? KL_LOG_DEBUG : s.o.v ? KL_LOG_INFO : KL_LOG_WARN, false);
    int rc = run(&s, &err);
    if (rc < 0)
        fprintf(stderr, "kinglet test-server: %s\n", err.msg);
    return rc < 0 ? 1 : rc;
}
