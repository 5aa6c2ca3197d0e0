// SPDX-License-Identifier: Apache-2.0
// One run of a program that makes credentials, and what its output says.
#include "apiserver/auth/exec_int.h"
#include "base/arena_wipe.h"
#include "base/clock.h"
#include "object/json.h"
#include "object/timestamp.h"
#include "object/yaml.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    RUN_MS = 60 * 1000, // upstream waits for ever
    OUTPUT_MAX_BYTES = 1 << 20,
    HINTS = 10, // an hour
    HINT_MS = 3600 * 1000,
};

extern char **environ;

// ---- the environment: ours, what is configured, and the question; the last of a name counts

static size_t name_len(const char *entry)
{
    const char *eq = strchr(entry, '=');
    return eq ? (size_t)(eq - entry) : strlen(entry);
}

static bool is_set_again(const struct kl_exec *x, const char *entry, char *const *later)
{
    size_t n = name_len(entry);
    for (; *later; later++)
        if (name_len(*later) == n && !memcmp(*later, entry, n))
            return true;
    return name_len(x->info[0]) == n && !memcmp(x->info[0], entry, n);
}

static char **make_environment(const struct kl_exec *x, bool interactive)
{
    size_t n = 2, at = 0;
    for (char **e = environ; *e; e++)
        n++;
    for (char **e = x->env; *e; e++)
        n++;
    char **all = calloc(n, sizeof *all);
    if (!all)
        return NULL;
    for (char **e = environ; *e; e++)
        if (!is_set_again(x, *e, x->env))
            all[at++] = *e;
    for (char **e = x->env; *e; e++)
        if (!is_set_again(x, *e, e + 1))
            all[at++] = *e;
    all[at] = x->info[interactive];
    return all;
}

// ---- the process

struct child {
    pid_t pid;
    int out, pidfd;
    bool group; // it leads one of its own
};

static int not_found(struct kl_exec *x, struct kl_error *err)
{
    int64_t now = kl_mono_ms();
    if (!x->hints || now - x->hints_since_ms >= HINT_MS) {
        x->hints_since_ms = now;
        x->hints = 0;
    }
    if (x->hints++ >= HINTS)
        return kl_error_set(err, KL_EUNAVAILABLE, "exec: executable %s not found", x->command);
    return kl_error_set(err, KL_EUNAVAILABLE,
                        "exec: executable %s not found\n\nIt looks like you are trying to use a "
                        "client-go credential plugin that is not installed.\n\nTo learn more about "
                        "this feature, consult the documentation available at:\n      "
                        "https://kubernetes.io/docs/reference/access-authn-authz/authentication/"
                        "#client-go-credential-plugins%s%s",
                        x->command, *x->hint ? "\n\n" : "", x->hint);
}

static int start(struct kl_exec *x, bool interactive, struct child *c, struct kl_error *err)
{
    int pipe[2];
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, usual;
    char **env = make_environment(x, interactive);
    if (!env)
        return kl_error_set(err, KL_ENOMEM, "exec: out of memory");
    if (pipe2(pipe, O_CLOEXEC)) {
        int rc = kl_error_errno(err, errno, "exec: pipe");
        free(env);
        return rc;
    }
    sigemptyset(&none);
    sigfillset(&usual);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &usual);
    posix_spawnattr_setflags(&attributes, (short)(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                  (interactive ? 0 : POSIX_SPAWN_SETPGROUP)));
    int e = interactive
                ? 0
                : posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!e)
        e = posix_spawn_file_actions_adddup2(&files, pipe[1], STDOUT_FILENO);
    c->group = !interactive; // one in the background cannot read of the terminal
    if (!e)
        e = posix_spawnp(&c->pid, x->command, &files, &attributes, x->argv, env);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    close(pipe[1]);
    free(env);
    c->out = pipe[0];
    if (!e)
        return 0;
    close(pipe[0]);
    if (!strchr(x->command, '/') && (e == ENOENT || e == EACCES || e == ENOTDIR))
        return not_found(x, err);
    const char *why = strerror(e);
    return kl_error_set(err, KL_EUNAVAILABLE, "exec: fork/exec %s: %c%s", x->command,
                        tolower((unsigned char)*why), why + 1);
}

// Until the program has ended and closed its output.
static int follow(struct kl_exec *x, struct child *c, struct kl_buf *out, struct kl_error *err)
{
    int64_t until = kl_mono_ms() + RUN_MS;
    struct pollfd p[3] = {{.fd = c->out, .events = POLLIN},
                          {.fd = c->pidfd, .events = POLLIN},
                          {.fd = x->wake, .events = POLLIN}};
    char piece[4096];
    int rc = 0;
    while (!rc && (p[0].fd >= 0 || p[1].fd >= 0)) {
        int64_t left = until - kl_mono_ms();
        int n = left > 0 ? poll(p, 3, (int)left) : 0;
        if (n < 0 && errno != EINTR)
            return kl_error_errno(err, errno, "exec: poll");
        if (!n)
            return kl_error_set(err, KL_EUNAVAILABLE,
                                "exec: executable %s did not end within %d seconds", x->command,
                                RUN_MS / 1000);
        if (n > 0 && p[2].revents)
            return kl_error_set(err, KL_ECANCELED, "exec: the server stops");
        if (n > 0 && p[0].revents) {
            ssize_t got = read(c->out, piece, sizeof piece);
            if (got > 0 && kl_buf_append(out, piece, (size_t)got))
                rc = kl_error_set(err, KL_EUNAVAILABLE,
                                  "exec: executable %s wrote more than %d bytes", x->command,
                                  OUTPUT_MAX_BYTES);
            else if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
                p[0].fd = -1;
        }
        if (n > 0 && p[1].revents)
            p[1].fd = -1;
    }
    OPENSSL_cleanse(piece, sizeof piece);
    return rc;
}

static int run(struct kl_exec *x, bool interactive, struct kl_buf *out, struct kl_error *err)
{
    struct child c = {0};
    int status = 0, rc = start(x, interactive, &c, err);
    if (rc)
        return rc;
    c.pidfd = (int)syscall(SYS_pidfd_open, c.pid, 0);
    rc = c.pidfd < 0 ? kl_error_errno(err, errno, "exec: pidfd_open") : follow(x, &c, out, err);
    if (rc)
        kill(c.group ? -c.pid : c.pid, SIGKILL);
    while (waitpid(c.pid, &status, 0) < 0 && errno == EINTR)
        continue;
    close(c.out);
    if (c.pidfd >= 0)
        close(c.pidfd);
    if (rc || (WIFEXITED(status) && !WEXITSTATUS(status)))
        return rc;
    return kl_error_set(err, KL_EUNAVAILABLE, "exec: executable %s failed with exit code %d",
                        x->command, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

// ---- what it says; no message shows any of it but versions

static struct kl_str member(const struct kl_value *v, const char *name)
{
    return kl_text(kl_map_value(v, kl_str(name)));
}

static char *copy(const char *prefix, struct kl_str s)
{
    char *p = NULL;
    return asprintf(&p, "%s%.*s", prefix, KL_PRI(s)) < 0 ? NULL : p;
}

static int check_pair(struct kl_str cert, struct kl_str key, struct kl_error *err)
{
    struct kl_tls_client_opts o = {.cert.pem = cert, .key.pem = key, .insecure_skip_verify = true};
    struct kl_tls_ctx *tls = NULL;
    if (kl_tls_client_new(&o, &tls, err))
        return kl_error_wrap(err, "failed parsing client key/certificate");
    kl_tls_ctx_unref(tls);
    return 0;
}

static int bad(struct kl_error *err, const char *what)
{
    return kl_error_set(err, KL_EUNAVAILABLE, "%s", what);
}

static int read_status(const struct kl_value *status, struct kl_exec_cred *c, struct kl_error *err)
{
    struct kl_str token = member(status, "token"), cert = member(status, "clientCertificateData"),
                  key = member(status, "clientKeyData"),
                  until = member(status, "expirationTimestamp");
    int64_t us = 0;
    struct kl_error why = {0};
    if (until.n && kl_time_parse(until, &us, &why))
        return kl_error_set(err, KL_EUNAVAILABLE, "decoding stdout: %s", why.msg);
    if (!status || status->kind != KL_MAP)
        return bad(err, "exec plugin didn't return a status field");
    if (!token.n && !cert.n && !key.n)
        return bad(err, "exec plugin didn't return a token or cert/key pair");
    if (!cert.n != !key.n)
        return bad(err, "exec plugin returned only certificate or key, not both");
    for (size_t i = 0; i < token.n; i++)
        if ((unsigned char)token.p[i] < ' ' || token.p[i] == 0x7f) // Go's net/http says the same
            return bad(err, "net/http: invalid header field value for \"Authorization\"");
    if (cert.n && check_pair(cert, key, err))
        return KL_EUNAVAILABLE;
    c->expires_ms = until.n ? us / 1000 : 0;
    if ((token.n && !(c->authorization = copy("Bearer ", token))) ||
        (cert.n && (!(c->cert = copy("", cert)) || !(c->key = copy("", key)))))
        return kl_error_set(err, KL_ENOMEM, "exec: out of memory");
    return 0;
}

int kl_exec_read_output(struct kl_arena *a, struct kl_str text, const char *api_version,
                        struct kl_exec_cred *c, struct kl_error *err)
{
    struct kl_value v = {0};
    struct kl_error hidden = {0}; // it may quote what it does not understand
    // JSON is not given to the library for YAML, whose buffers are its own.
    if ((kl_json_parse(a, text, NULL, &v, &hidden) && kl_yaml_parse(a, text, NULL, &v, &hidden)) ||
        v.kind != KL_MAP)
        return bad(err, "decoding stdout: it is neither JSON nor YAML of an object");
    struct kl_str kind = member(&v, "kind"), version = member(&v, "apiVersion");
    if (!kind.n || !version.n)
        return kl_error_set(err, KL_EUNAVAILABLE, "decoding stdout: Object '%s' is missing",
                            kind.n ? "apiVersion" : "Kind");
    bool known = kl_str_eqz(version, "client.authentication.k8s.io/v1") ||
                 kl_str_eqz(version, "client.authentication.k8s.io/v1beta1");
    if (!known || !kl_str_eqz(kind, "ExecCredential"))
        return kl_error_set(err, KL_EUNAVAILABLE,
                            "decoding stdout: no kind \"%.*s\" is registered for version \"%.*s\"",
                            kind.n > 64 ? 64 : (int)kind.n, kind.p,
                            version.n > 64 ? 64 : (int)version.n, version.p);
    if (!kl_str_eqz(version, api_version))
        return kl_error_set(err, KL_EUNAVAILABLE,
                            "exec plugin is configured to use API version %s, plugin returned "
                            "version %.*s",
                            api_version, KL_PRI(version));
    return read_status(kl_map_value(&v, KL_STR("status")), c, err);
}

int kl_exec_run(struct kl_exec *x, struct kl_exec_cred **ret, struct kl_error *err)
{
    bool terminal = x->mode != KL_EXEC_NEVER && isatty(STDIN_FILENO);
    struct kl_buf out;
    struct kl_arena a;
    if (x->mode == KL_EXEC_ALWAYS && !terminal)
        return bad(err, "exec plugin cannot support interactive mode: standard input is not a "
                        "terminal");
    struct kl_exec_cred *c = calloc(1, sizeof *c);
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "exec: out of memory");
    atomic_init(&c->refs, 1);
    kl_buf_init(&out, OUTPUT_MAX_BYTES);
    kl_arena_init(&a, 16 * (size_t)OUTPUT_MAX_BYTES);
    int rc = run(x, terminal, &out, err);
    if (!rc)
        rc = kl_exec_read_output(&a, kl_buf_str(&out), x->api_version, c, err);
    if (out.n)
        OPENSSL_cleanse(out.p, out.n);
    kl_buf_fini(&out);
    kl_arena_wipe(&a);
    kl_arena_fini(&a);
    if (rc)
        kl_exec_cred_unref(c);
    else
        *ret = c;
    return rc;
}
