// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/remote_int.h"
#include "object/yaml.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_BYTES ((size_t)4 << 20)

struct parts {
    struct kl_str host, target;
    int port;
    bool plain;
};

static int bad_url(struct kl_str url, const char *why, struct kl_error *err)
{
    return kl_error_set(err, KL_EINVALID, "URL %.*s: %s", KL_PRI(url), why);
}

static int split_url(struct kl_str url, struct parts *p, struct kl_error *err)
{
    struct kl_str rest;
    *p = (struct parts){.port = 443};
    if (kl_str_starts(url, KL_STR("https://"))) {
        rest = kl_str_from(url, 8);
    } else if (kl_str_starts(url, KL_STR("http://"))) {
        rest = kl_str_from(url, 7);
        p->plain = true;
        p->port = 80;
    } else {
        return bad_url(url, "scheme must be https", err);
    }
    for (size_t i = 0; i < rest.n; i++)
        if ((unsigned char)rest.p[i] <= ' ' || rest.p[i] == 0x7f)
            return bad_url(url, "invalid character", err);
    size_t n = 0;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?' && rest.p[n] != '#')
        n++;
    struct kl_str authority = {rest.p, n};
    p->target = kl_str_from(rest, n);
    ptrdiff_t hash = kl_str_chr(p->target, '#');
    if (hash >= 0)
        p->target.n = (size_t)hash;
    if (kl_str_chr(authority, '@') >= 0)
        return bad_url(url, "must not contain a username or password", err);
    p->host = authority;
    struct kl_str port = KL_STR("");
    if (authority.n && authority.p[0] == '[') {
        ptrdiff_t end = kl_str_chr(authority, ']');
        if (end < 0)
            return bad_url(url, "missing ']' in host", err);
        p->host = (struct kl_str){authority.p + 1, (size_t)end - 1};
        port = kl_str_from(authority, (size_t)end + 1);
    } else if (kl_str_chr(authority, ':') >= 0) {
        size_t at = (size_t)kl_str_chr(authority, ':');
        p->host.n = at;
        port = kl_str_from(authority, at);
    }
    int64_t number;
    if (port.n > 1) {
        if (port.p[0] != ':' || !kl_str_to_i64(kl_str_from(port, 1), &number) || number < 1 ||
            number > 65535)
            return bad_url(url, "invalid port", err);
        p->port = (int)number;
    }
    return p->host.n ? 0 : bad_url(url, "no host", err);
}

static int fill_place(struct kl_remote *r, struct kl_str url, const struct parts *p,
                      struct kl_error *err)
{
    bool rooted = p->target.n && p->target.p[0] == '/';
    r->url = kl_str_to_c(url);
    r->host = kl_str_to_c(p->host);
    r->port = p->port;
    r->plain = p->plain;
    if (asprintf(&r->target, "%s%.*s", rooted ? "" : "/", KL_PRI(p->target)) < 0)
        r->target = NULL;
    return r->url && r->host && r->target
               ? 0
               : kl_error_set(err, KL_ENOMEM, "URL %.*s: out of memory", KL_PRI(url));
}

int kl_remote_new(const struct kl_remote_opts *o, struct kl_remote **ret, struct kl_error *err)
{
    struct parts p;
    int rc = split_url(o->url, &p, err);
    if (rc)
        return rc;
    if (p.plain && !o->plain)
        return bad_url(o->url, "scheme must be https", err);
    struct kl_remote *r = calloc(1, sizeof *r);
    if (!r)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    atomic_init(&r->refs, 1);
    rc = fill_place(r, o->url, &p, err);
    if (!rc && o->authorization.n && !(r->authorization = kl_str_to_c(o->authorization)))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    struct kl_tls_client_opts t = {.ca.pem = o->ca,
                                   .cert.pem = o->cert,
                                   .key.pem = o->key,
                                   .server_name = o->server_name,
                                   .insecure_skip_verify = o->insecure_skip_verify};
    if (o->exec)
        r->exec = kl_exec_ref(o->exec);
    if (!rc && !p.plain)
        rc = o->exec ? kl_exec_tls_new(&t, &r->exec_tls, err) : kl_tls_client_new(&t, &r->tls, err);
    if (rc) {
        kl_remote_unref(r);
        return rc;
    }
    *ret = r;
    return 0;
}

int kl_remote_beside(struct kl_remote *from, struct kl_str url, struct kl_str authorization,
                     struct kl_remote **ret, struct kl_error *err)
{
    struct parts p;
    int rc = split_url(url, &p, err);
    if (rc)
        return rc;
    if (p.plain != from->plain)
        return bad_url(url, from->plain ? "scheme must be http" : "scheme must be https", err);
    struct kl_remote *r = calloc(1, sizeof *r);
    if (!r)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    atomic_init(&r->refs, 1);
    r->tls = from->tls ? kl_tls_ctx_ref(from->tls) : NULL;
    rc = fill_place(r, url, &p, err);
    if (!rc && authorization.n && !(r->authorization = kl_str_to_c(authorization)))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    if (rc) {
        kl_remote_unref(r);
        return rc;
    }
    *ret = r;
    return 0;
}

struct kl_remote *kl_remote_ref(struct kl_remote *r)
{
    atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}

void kl_remote_unref(struct kl_remote *r)
{
    if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
        return;
    kl_tls_ctx_unref(r->tls);
    kl_exec_tls_unref(r->exec_tls);
    kl_exec_unref(r->exec);
    if (r->authorization)
        OPENSSL_cleanse(r->authorization, strlen(r->authorization));
    free(r->authorization);
    free(r->url);
    free(r->host);
    free(r->target);
    free(r);
}

struct kl_str kl_remote_url(const struct kl_remote *r)
{
    return kl_str(r->url);
}

// ---- a kubeconfig

struct kubeconfig {
    struct kl_arena arena;
    const char *path;
    struct kl_value root;
};

static int read_whole(struct kl_arena *a, const char *path, struct kl_str *ret,
                      struct kl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) {
        int rc = kl_error_errno(err, errno, "open %s", path);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    size_t room = st.st_size > 0 && (size_t)st.st_size < FILE_MAX_BYTES ? (size_t)st.st_size + 1
                                                                        : FILE_MAX_BYTES,
           n = 0;
    char *p = kl_arena_alloc(a, room);
    ssize_t got = 0;
    while (p && n < room && (got = read(fd, p + n, room - n)) > 0)
        n += (size_t)got;
    int saved = errno;
    close(fd);
    if (!p)
        return kl_error_set(err, KL_ENOMEM, "%s: out of memory", path);
    if (got < 0)
        return kl_error_errno(err, saved, "read %s", path);
    if (n == room)
        return kl_error_set(err, KL_ETOOLARGE, "%s: too large", path);
    *ret = (struct kl_str){p, n};
    return 0;
}

static struct kl_str member(const struct kl_value *v, const char *name)
{
    return kl_text(kl_map_value(v, kl_str(name)));
}

static const struct kl_value *entry(const struct kubeconfig *k, const char *list, const char *what,
                                    struct kl_str name)
{
    for (KL_EACH(e, kl_map_value(&k->root, kl_str(list))))
        if (kl_str_eq(member(e, "name"), name))
            return kl_map_value(e, kl_str(what));
    return NULL;
}

static int decode_data(struct kl_arena *a, struct kl_str text, struct kl_str *ret)
{
    char *in = kl_arena_alloc(a, text.n + 1), *out = kl_arena_alloc(a, text.n + 4);
    size_t n = 0;
    if (!in || !out)
        return KL_ENOMEM;
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] > ' ')
            in[n++] = text.p[i];
    int len = EVP_DecodeBlock((unsigned char *)out, (const unsigned char *)in, (int)n);
    if (len < 0)
        return KL_EINVALID;
    while (n && in[n - 1] == '=' && len)
        n--, len--;
    *ret = (struct kl_str){out, (size_t)len};
    return 0;
}

// NAME-data inline, else the file that NAME says, relative to the kubeconfig.
static int read_pem(struct kubeconfig *k, const struct kl_value *from, const char *name,
                    struct kl_str *ret, struct kl_error *err)
{
    struct kl_arena *a = &k->arena;
    struct kl_str data = member(from, kl_arena_printf(a, "%s-data", name).p),
                  file = member(from, name);
    if (data.n) {
        if (decode_data(a, data, ret))
            return kl_error_set(err, KL_EINVALID, "%s: %s-data is not base64", k->path, name);
        return 0;
    }
    if (!file.n)
        return 0;
    const char *slash = strrchr(k->path, '/');
    int dir = slash && file.p[0] != '/' ? (int)(slash + 1 - k->path) : 0;
    struct kl_str path = kl_arena_printf(a, "%.*s%.*s", dir, k->path, KL_PRI(file));
    return path.p ? read_whole(a, path.p, ret, err) : kl_error_set(err, KL_ENOMEM, "out of memory");
}

static int take_credentials(struct kubeconfig *k, const struct kl_value *user,
                            struct kl_remote_opts *o, struct kl_error *err)
{
    struct kl_arena *a = &k->arena;
    struct kl_str token = member(user, "token"), file = member(user, "tokenFile"),
                  name = member(user, "username"), password = member(user, "password");
    int rc = read_pem(k, user, "client-certificate", &o->cert, err);
    if (!rc)
        rc = read_pem(k, user, "client-key", &o->key, err);
    if (!rc && !token.n && file.n) {
        struct kl_str path = kl_arena_dup(a, file);
        rc = read_whole(a, path.p ? path.p : "", &token, err);
        token = kl_str_trim(token);
    }
    if (rc)
        return rc;
    if (token.n) {
        o->authorization = kl_arena_printf(a, "Bearer %.*s", KL_PRI(token));
    } else if (name.n || password.n) {
        struct kl_str plain = kl_arena_printf(a, "%.*s:%.*s", KL_PRI(name), KL_PRI(password));
        char *b64 = plain.p ? kl_arena_alloc(a, plain.n * 2 + 8) : NULL;
        if (!b64)
            return kl_error_set(err, KL_ENOMEM, "%s: out of memory", k->path);
        EVP_EncodeBlock((unsigned char *)b64, (const unsigned char *)plain.p, (int)plain.n);
        o->authorization = kl_arena_printf(a, "Basic %s", b64);
    }
    return 0;
}

// What else says who calls keeps the program from being run.
static bool needs_exec(const struct kl_value *user, const struct kl_remote_opts *o)
{
    return kl_map_value(user, KL_STR("exec")) && !o->authorization.n && !o->cert.n;
}

static const struct kl_value *exec_extension(const struct kl_value *cluster)
{
    for (KL_EACH(e, kl_map_value(cluster, KL_STR("extensions"))))
        if (kl_str_eqz(member(e, "name"), "client.authentication.k8s.io/exec"))
            return kl_map_value(e, KL_STR("extension"));
    return NULL;
}

static int from_kubeconfig(struct kubeconfig *k, struct kl_remote **ret, struct kl_error *err)
{
    struct kl_arena *a = &k->arena;
    struct kl_str text;
    int rc = read_whole(a, k->path, &text, err);
    if (rc)
        return rc;
    if (kl_yaml_parse(a, text, NULL, &k->root, err) || k->root.kind != KL_MAP)
        return kl_error_set(err, KL_EINVALID, "%s: not a kubeconfig", k->path);
    struct kl_str current = member(&k->root, "current-context");
    const struct kl_value *context = entry(k, "contexts", "context", current);
    if (!context)
        return kl_error_set(err, KL_EINVALID, "%s: context \"%.*s\" does not exist", k->path,
                            KL_PRI(current));
    struct kl_str cname = member(context, "cluster"), uname = member(context, "user");
    const struct kl_value *cluster = entry(k, "clusters", "cluster", cname),
                          *user = entry(k, "users", "user", uname);
    if (!cluster)
        return kl_error_set(err, KL_EINVALID, "%s: cluster \"%.*s\" does not exist", k->path,
                            KL_PRI(cname));
    const struct kl_value *exec = kl_map_value(user, KL_STR("exec"));
    if (kl_map_value(user, KL_STR("auth-provider")))
        return exec ? kl_error_set(err, KL_EINVALID,
                                   "%s: invalid configuration: authProvider cannot be provided in "
                                   "combination with an exec plugin for %.*s",
                                   k->path, KL_PRI(uname))
                    : kl_error_set(err, KL_EUNSUPPORTED, "%s: auth-provider is not supported",
                                   k->path);
    struct kl_str name = member(cluster, "tls-server-name");
    struct kl_remote_opts o = {.url = member(cluster, "server"),
                               .plain = true,
                               .insecure_skip_verify = kl_is_true(
                                   kl_map_value(cluster, KL_STR("insecure-skip-tls-verify"))),
                               .server_name = name.n ? kl_arena_dup(a, name).p : NULL};
    if (!(rc = read_pem(k, cluster, "certificate-authority", &o.ca, err)))
        rc = take_credentials(k, user, &o, err);
    const struct kl_exec_opts x = {
        .user = uname,
        .conf = exec,
        .kubeconfig = k->path,
        .server = o.url,
        .tls_server_name = name,
        .ca = o.ca,
        .proxy_url = member(cluster, "proxy-url"),
        .insecure_skip_verify = o.insecure_skip_verify,
        .disable_compression = kl_is_true(kl_map_value(cluster, KL_STR("disable-compression"))),
        .cluster_config = exec_extension(cluster)};
    if (!rc && exec)
        rc = kl_exec_new(&x, &o.exec, err); // what is wrong is said, needed or not
    if (!rc && o.exec && !needs_exec(user, &o)) {
        kl_exec_unref(o.exec);
        o.exec = NULL;
    }
    if (!rc)
        rc = kl_remote_new(&o, ret, err);
    kl_exec_unref(o.exec);
    if (rc)
        kl_error_wrap(err, "%s", k->path);
    return rc;
}

int kl_remote_from_kubeconfig(const char *path, struct kl_remote **ret, struct kl_error *err)
{
    struct kubeconfig k = {.path = path};
    kl_arena_init(&k.arena, 4 * FILE_MAX_BYTES);
    int rc = from_kubeconfig(&k, ret, err);
    kl_arena_fini(&k.arena);
    return rc;
}

// ---- its users

// A user's program, made when it is first asked for.
struct user_exec {
    struct user_exec *next;
    struct kl_exec *exec;
    const struct kl_value *conf; // of the file's tree
};

struct shared {
    pthread_mutex_t mu;
    struct user_exec *execs;
};

struct kl_kubeconfig {
    struct kubeconfig k;
    struct kl_str current;
    struct shared *shared;
};

int kl_kubeconfig_new(const char *path, struct kl_kubeconfig **ret, struct kl_error *err)
{
    struct kl_kubeconfig *c = calloc(1, sizeof *c);
    struct kl_str text;
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_arena_init(&c->k.arena, 4 * FILE_MAX_BYTES);
    c->k.path = path;
    int rc = read_whole(&c->k.arena, path, &text, err);
    if (!rc && kl_yaml_parse(&c->k.arena, text, NULL, &c->k.root, err))
        rc = kl_error_set(err, KL_EINVALID, "%s: not a kubeconfig", path);
    if (!rc && (!(c->k.path = kl_arena_dup(&c->k.arena, kl_str(path)).p) ||
                !(c->shared = calloc(1, sizeof *c->shared))))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    if (rc) {
        kl_kubeconfig_free(c);
        return rc;
    }
    pthread_mutex_init(&c->shared->mu, NULL);
    c->current =
        member(entry(&c->k, "contexts", "context", member(&c->k.root, "current-context")), "user");
    *ret = c;
    return 0;
}

void kl_kubeconfig_free(struct kl_kubeconfig *c)
{
    if (!c)
        return;
    for (struct user_exec *u = c->shared ? c->shared->execs : NULL, *next; u; u = next) {
        next = u->next;
        kl_exec_unref(u->exec);
        free(u);
    }
    if (c->shared)
        pthread_mutex_destroy(&c->shared->mu);
    free(c->shared);
    kl_arena_fini(&c->k.arena);
    free(c);
}

bool kl_kubeconfig_has(const struct kl_kubeconfig *c, struct kl_str user)
{
    return entry(&c->k, "users", "user", user) != NULL;
}

struct kl_str kl_kubeconfig_current(const struct kl_kubeconfig *c)
{
    return c->current;
}

static int share_exec(struct shared *s, const struct kl_exec_opts *o, struct kl_exec **ret,
                      struct kl_error *err)
{
    struct user_exec *u;
    int rc = 0;
    pthread_mutex_lock(&s->mu);
    for (u = s->execs; u && u->conf != o->conf; u = u->next)
        continue;
    if (!u && !(u = calloc(1, sizeof *u))) {
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    } else if (!u->exec && (rc = kl_exec_new(o, &u->exec, err))) {
        free(u);
    } else if (!u->conf) {
        u->conf = o->conf;
        u->next = s->execs;
        s->execs = u;
    }
    if (!rc)
        *ret = kl_exec_ref(u->exec);
    pthread_mutex_unlock(&s->mu);
    return rc;
}

int kl_kubeconfig_user(const struct kl_kubeconfig *c, struct kl_arena *a, struct kl_str user,
                       struct kl_remote_opts *ret, struct kl_error *err)
{
    static const char *const unknown[] = {"auth-provider", "as"};
    const struct kl_value *v = entry(&c->k, "users", "user", user);
    struct kubeconfig k = {.path = c->k.path, .root = c->k.root}; // memory of this call alone
    struct kl_remote_opts o = {.url = KL_STR("")};
    for (size_t i = 0; i < KL_COUNT(unknown); i++)
        if (kl_map_value(v, kl_str(unknown[i])))
            return kl_error_set(err, KL_EUNSUPPORTED, "%s: %s is not supported", k.path,
                                unknown[i]);
    kl_arena_init(&k.arena, 4 * FILE_MAX_BYTES);
    int rc = take_credentials(&k, v, &o, err);
    if (!rc && needs_exec(v, &o)) {
        struct kl_exec_opts x = {.user = user,
                                 .conf = kl_map_value(v, KL_STR("exec")),
                                 .kubeconfig = k.path,
                                 .server = ret->url,
                                 .ca = ret->ca,
                                 .tls_server_name =
                                     kl_str(ret->server_name ? ret->server_name : "")};
        rc = kl_exec_wants_cluster(x.conf) ? kl_exec_new(&x, &ret->exec, err)
                                           : share_exec(c->shared, &x, &ret->exec, err);
    }
    if (!rc) {
        ret->cert = kl_arena_dup(a, o.cert);
        ret->key = kl_arena_dup(a, o.key);
        ret->authorization = kl_arena_dup(a, o.authorization);
        if (!ret->cert.p || !ret->key.p || !ret->authorization.p)
            rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    kl_arena_fini(&k.arena);
    return rc;
}
