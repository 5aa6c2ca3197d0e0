// SPDX-License-Identifier: Apache-2.0
// What is configured, and who waits for whom (client-go's Authenticator).
#include "apiserver/auth/exec_int.h"
#include "base/clock.h"
#include "base/log.h"
#include "object/json.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { CONFIG_MAX_BYTES = 8 << 20 };

// ---- credentials

struct kl_exec_cred *kl_exec_cred_ref(struct kl_exec_cred *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

static void wipe(char *secret)
{
    if (secret)
        OPENSSL_cleanse(secret, strlen(secret));
    free(secret);
}

void kl_exec_cred_unref(struct kl_exec_cred *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    wipe(c->authorization);
    wipe(c->key);
    free(c->cert);
    free(c);
}

// ---- the configuration

static struct kl_str member(const struct kl_value *v, const char *name)
{
    return kl_text(kl_map_value(v, kl_str(name)));
}

bool kl_exec_wants_cluster(const struct kl_value *conf)
{
    return kl_is_true(kl_map_value(conf, KL_STR("provideClusterInfo")));
}

struct complaints {
    struct kl_buf text;
    int n;
};

static void complain(struct complaints *c, const char *what, struct kl_str user)
{
    kl_buf_printf(&c->text, "%s%s must be specified for %.*s to use exec authentication plugin",
                  c->n++ ? ", " : "", what, KL_PRI(user));
}

// clientcmd's validateAuthInfo
static int check(const struct kl_exec_opts *o, struct kl_error *err)
{
    struct kl_str mode = member(o->conf, "interactiveMode"),
                  version = member(o->conf, "apiVersion");
    struct complaints c = {.n = 0};
    kl_buf_init(&c.text, 4096);
    if (!member(o->conf, "command").n)
        complain(&c, "command", o->user);
    if (!version.n)
        complain(&c, "apiVersion", o->user);
    for (KL_EACH(e, kl_map_value(o->conf, KL_STR("env"))))
        if (!member(e, "name").n)
            complain(&c, "env variable name", o->user);
    if (!mode.n && !kl_str_eqz(version, "client.authentication.k8s.io/v1beta1"))
        complain(&c, "interactiveMode", o->user);
    else if (mode.n && !kl_str_eqz(mode, "Never") && !kl_str_eqz(mode, "IfAvailable") &&
             !kl_str_eqz(mode, "Always"))
        kl_buf_printf(&c.text, "%sinvalid interactiveMode for %.*s: \"%.*s\"", c.n++ ? ", " : "",
                      KL_PRI(o->user), KL_PRI(mode));
    int rc = 0;
    struct kl_str text = kl_buf_str(&c.text);
    if (c.n)
        rc = kl_error_set(err, KL_EINVALID, "invalid configuration: %s%.*s%s", c.n > 1 ? "[" : "",
                          KL_PRI(text), c.n > 1 ? "]" : "");
    else if (!kl_str_eqz(version, "client.authentication.k8s.io/v1") &&
             !kl_str_eqz(version, "client.authentication.k8s.io/v1beta1"))
        rc = kl_error_set(err, KL_EINVALID, "exec plugin: invalid apiVersion \"%.*s\"",
                          KL_PRI(version));
    kl_buf_fini(&c.text);
    return rc;
}

static void put_text(struct kl_buf *b, const char *name, struct kl_str text)
{
    if (!text.n)
        return;
    kl_buf_printf(b, ",\"%s\":", name);
    kl_json_write_string(b, text);
}

// Cluster of client.authentication.k8s.io, as Go encodes it.
static void put_cluster(struct kl_buf *b, const struct kl_exec_opts *o)
{
    kl_buf_puts(b, KL_STR("\"cluster\":{\"server\":"));
    kl_json_write_string(b, o->server);
    put_text(b, "tls-server-name", o->tls_server_name);
    if (o->insecure_skip_verify)
        kl_buf_puts(b, KL_STR(",\"insecure-skip-tls-verify\":true"));
    if (o->ca.n) {
        char *text = malloc(o->ca.n / 3 * 4 + 8);
        if (text) {
            int n = EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)o->ca.p,
                                    (int)o->ca.n);
            put_text(b, "certificate-authority-data", (struct kl_str){text, (size_t)n});
        } else {
            b->err = KL_ENOMEM;
        }
        free(text);
    }
    put_text(b, "proxy-url", o->proxy_url);
    if (o->disable_compression)
        kl_buf_puts(b, KL_STR(",\"disable-compression\":true"));
    kl_buf_puts(b, KL_STR(",\"config\":"));
    if (o->cluster_config)
        kl_json_write(b, o->cluster_config);
    else
        kl_buf_puts(b, KL_STR("null"));
    kl_buf_puts(b, KL_STR("},"));
}

static char *make_info(struct kl_exec *x, const struct kl_exec_opts *o, bool interactive)
{
    struct kl_buf b;
    kl_buf_init(&b, CONFIG_MAX_BYTES / 2);
    kl_buf_printf(&b,
                  "KUBERNETES_EXEC_INFO={\"kind\":\"ExecCredential\",\"apiVersion\":\"%s\","
                  "\"spec\":{",
                  x->api_version);
    if (kl_exec_wants_cluster(o->conf))
        put_cluster(&b, o);
    kl_buf_printf(&b, "\"interactive\":%s}}\n", interactive ? "true" : "false");
    struct kl_str text = b.err ? (struct kl_str){NULL, 0} : kl_arena_dup(&x->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    return (char *)text.p;
}

// A command without a slash is looked for in PATH; one with, beside the kubeconfig.
static const char *resolve(struct kl_arena *a, const struct kl_exec_opts *o)
{
    struct kl_str command = member(o->conf, "command");
    const char *slash = strrchr(o->kubeconfig, '/');
    if (kl_str_chr(command, '/') <= 0)
        return kl_arena_dup(a, command).p;
    while (kl_str_starts(command, KL_STR("./")))
        command = kl_str_from(command, 2);
    return kl_arena_printf(a, "%.*s/%.*s", slash ? (int)(slash - o->kubeconfig) : 1,
                           slash ? o->kubeconfig : ".", KL_PRI(command))
        .p;
}

static int fill(struct kl_exec *x, const struct kl_exec_opts *o, struct kl_error *err)
{
    const struct kl_value *args = kl_map_value(o->conf, KL_STR("args"));
    const struct kl_value *env = kl_map_value(o->conf, KL_STR("env"));
    struct kl_arena *a = &x->arena;
    struct kl_str mode = member(o->conf, "interactiveMode");
    size_t n = 0;
    x->api_version = kl_arena_dup(a, member(o->conf, "apiVersion")).p;
    x->hint = kl_arena_dup(a, member(o->conf, "installHint")).p;
    x->command = resolve(a, o);
    x->mode = kl_str_eqz(mode, "Never")    ? KL_EXEC_NEVER
              : kl_str_eqz(mode, "Always") ? KL_EXEC_ALWAYS
                                           : KL_EXEC_IF_AVAILABLE;
    x->argv = kl_arena_zalloc(a, (kl_len(args) + 2) * sizeof *x->argv);
    x->env = kl_arena_zalloc(a, (kl_len(env) + 1) * sizeof *x->env);
    if (!x->api_version || !x->hint || !x->command || !x->argv || !x->env)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    x->argv[n++] = (char *)x->command;
    for (KL_EACH(arg, args))
        if (!(x->argv[n++] = (char *)kl_arena_dup(a, kl_text(arg)).p))
            return kl_error_set(err, KL_ENOMEM, "out of memory");
    n = 0;
    for (KL_EACH(e, env)) {
        struct kl_str name = member(e, "name"), value = member(e, "value");
        if (!(x->env[n++] = (char *)kl_arena_printf(a, "%.*s=%.*s", KL_PRI(name), KL_PRI(value)).p))
            return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    for (int i = 0; i < 2; i++)
        if (!(x->info[i] = make_info(x, o, i)))
            return kl_error_set(err, KL_ENOMEM, "out of memory");
    return 0;
}

int kl_exec_new(const struct kl_exec_opts *o, struct kl_exec **ret, struct kl_error *err)
{
    int rc = check(o, err);
    if (rc)
        return rc;
    struct kl_exec *x = calloc(1, sizeof *x);
    if (!x)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    atomic_init(&x->refs, 1);
    kl_arena_init(&x->arena, CONFIG_MAX_BYTES);
    pthread_mutex_init(&x->mu, NULL);
    x->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = x->wake < 0 ? kl_error_errno(err, errno, "eventfd") : fill(x, o, err);
    if (rc)
        kl_exec_unref(x);
    else
        *ret = x;
    return rc;
}

struct kl_exec *kl_exec_ref(struct kl_exec *x)
{
    atomic_fetch_add_explicit(&x->refs, 1, memory_order_relaxed);
    return x;
}

void kl_exec_unref(struct kl_exec *x)
{
    if (!x || atomic_fetch_sub_explicit(&x->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (x->joinable) {
        eventfd_write(x->wake, 1);
        pthread_join(x->thread, NULL);
    }
    if (x->wake >= 0)
        close(x->wake);
    kl_exec_cred_unref(x->cred);
    pthread_mutex_destroy(&x->mu);
    kl_arena_fini(&x->arena);
    free(x);
}

// ---- who waits

static bool is_good(const struct kl_exec_cred *c)
{
    return c && (!c->expires_ms || kl_wall_ms() <= c->expires_ms);
}

static void told(struct kl_task *t)
{
    struct kl_exec_wait *w = KL_CONTAINER_OF(t, struct kl_exec_wait, task);
    if (w->cb)
        w->cb(w->arg, w->cred, w->cred ? NULL : &w->err);
    kl_exec_cred_unref(w->cred);
    free(w);
}

static void unlink_wait(struct kl_exec_wait *w)
{
    if ((*w->pprev = w->next))
        w->next->pprev = w->pprev;
    w->pprev = NULL;
}

static void *work(void *arg)
{
    struct kl_exec *x = arg;
    struct kl_exec_cred *cred = NULL;
    struct kl_error err = {0};
    int rc = kl_exec_run(x, &cred, &err);
    pthread_mutex_lock(&x->mu);
    struct kl_exec_cred *old = rc ? NULL : x->cred;
    if (!rc)
        x->cred = kl_exec_cred_ref(cred);
    else if (is_good(x->cred)) // what a server refused is better than nothing
        cred = kl_exec_cred_ref(x->cred);
    if (rc && rc != KL_ECANCELED && !x->waits)
        kl_log(KL_LOG_ERROR, "auth", "refreshing credentials: %s", err.msg);
    while (x->waits) {
        struct kl_exec_wait *w = x->waits;
        unlink_wait(w);
        w->cred = cred ? kl_exec_cred_ref(cred) : NULL;
        w->err = err;
        kl_loop_post(w->loop, &w->task);
    }
    x->running = false;
    pthread_mutex_unlock(&x->mu);
    kl_exec_cred_unref(old);
    kl_exec_cred_unref(cred);
    return NULL;
}

// Under the lock.
static int begin(struct kl_exec *x, struct kl_error *err)
{
    if (x->running)
        return 0;
    if (x->joinable)
        pthread_join(x->thread, NULL); // it has nothing left to do
    x->joinable = false;
    int e = pthread_create(&x->thread, NULL, work, x);
    if (e)
        return kl_error_errno(err, e, "exec: a thread");
    x->running = x->joinable = true;
    return 0;
}

int kl_exec_get(struct kl_exec *x, struct kl_loop *loop,
                void (*cb)(void *arg, struct kl_exec_cred *cred, const struct kl_error *err),
                void *arg, struct kl_exec_wait **ret_wait, struct kl_exec_cred **ret_cred,
                struct kl_error *err)
{
    int rc = 0;
    *ret_wait = NULL;
    *ret_cred = NULL;
    pthread_mutex_lock(&x->mu);
    if (!x->running && is_good(x->cred)) {
        *ret_cred = kl_exec_cred_ref(x->cred);
    } else if (!(rc = begin(x, err))) {
        struct kl_exec_wait *w = calloc(1, sizeof *w);
        if (w) {
            *w = (struct kl_exec_wait){
                .loop = loop, .task.run = told, .cb = cb, .arg = arg, .pprev = &x->waits};
            if ((w->next = x->waits))
                w->next->pprev = &w->next;
            x->waits = *ret_wait = w;
        } else {
            rc = kl_error_set(err, KL_ENOMEM, "out of memory");
        }
    }
    pthread_mutex_unlock(&x->mu);
    return rc;
}

void kl_exec_give_up(struct kl_exec *x, struct kl_exec_wait *w)
{
    pthread_mutex_lock(&x->mu);
    bool listed = w->pprev;
    if (listed)
        unlink_wait(w);
    w->cb = NULL; // when it is on its way: its loop is ours
    pthread_mutex_unlock(&x->mu);
    if (listed)
        free(w);
}

void kl_exec_refresh(struct kl_exec *x, const struct kl_exec_cred *refused)
{
    struct kl_error err = {0};
    pthread_mutex_lock(&x->mu);
    if (x->cred == refused && begin(x, &err))
        kl_log(KL_LOG_ERROR, "auth", "refreshing credentials: %s", err.msg);
    pthread_mutex_unlock(&x->mu);
}
