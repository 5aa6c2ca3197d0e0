// SPDX-License-Identifier: Apache-2.0
// K3s' layout below the data directory:
//   server/tls/{server-ca,client-ca,serving-kube-apiserver,client-admin,
//               client-kube-apiserver}.{crt,key}
//   server/tls/request-header-ca.{crt,key}   server/tls/client-auth-proxy.{crt,key}
//   server/tls/peer-ca.{crt,key}   server/tls/peer.{crt,key}   server/tls/cluster-id
//   server/tls/service.key   server/token   server/node-token -> token
//   server/agent-token -> token, or a file of its own
//   agent/serving-kubelet.{crt,key}
#include "apiserver/pki_int.h"
#include "base/clock.h"
#include "base/rand.h"
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_SANS = 256, SECRET_BYTES = 16, MAX_ARENA = 16 << 20 };

struct opening {
    const struct kl_pki_options *o;
    struct kl_pki *p;
    struct kl_file_batch batch;
    struct kl_pki_pair server_ca, client_ca, peer_ca, front_proxy_ca;
    struct kl_error *err;
};

static const char *path_of(struct opening *g, const char *rest)
{
    return kl_arena_printf(&g->p->arena, "%s/%s", g->o->data_dir, rest).p;
}

static int oom(struct opening *g)
{
    return kl_error_set(g->err, KL_ENOMEM, "certificates: out of memory");
}

static int read_pair(struct opening *g, const char *base, const char **ret_crt,
                     const char **ret_key, struct kl_str *cert, struct kl_str *key)
{
    struct kl_arena *a = &g->p->arena;
    const char *b = path_of(g, base);
    if (!b || !(*ret_crt = kl_arena_printf(a, "%s.crt", b).p) ||
        !(*ret_key = kl_arena_printf(a, "%s.key", b).p))
        return oom(g);
    int rc = kl_file_read(a, *ret_crt, cert, g->err);
    return rc ? rc : kl_file_read(a, *ret_key, key, g->err);
}

static int open_ca(struct opening *g, const char *base, const char *cn, struct kl_str *cert,
                   struct kl_str *key, struct kl_pki_pair *ret)
{
    struct kl_arena *a = &g->p->arena;
    const char *crt_path = NULL, *key_path = NULL;
    int rc = read_pair(g, base, &crt_path, &key_path, cert, key);
    if (rc)
        return rc;
    if (cert->p && !key->p)
        return kl_error_set(g->err, KL_ENOTFOUND, "%s is missing, but %s is there", key_path,
                            crt_path);
    if (cert->p)
        return kl_pki_load(*cert, *key, crt_path, ret, g->err);
    // A key without its certificate: placed by the user, or a crash between the two.
    EVP_PKEY *reuse = NULL;
    if (key->p && !(reuse = kl_pki_load_key(*key, key_path, g->err)))
        return KL_EINVALID;
    struct kl_str name = kl_arena_printf(a, "%s@%lld", cn, (long long)(kl_wall_ms() / 1000));
    rc = name.p ? kl_pki_make_ca(a, name.p, reuse, cert, key, g->err) : oom(g);
    g->p->made = g->p->made || cert == &g->p->server_ca;
    if (!rc && !reuse)
        rc = kl_file_batch_add(&g->batch, key_path, *key, g->err);
    EVP_PKEY_free(reuse);
    if (!rc)
        rc = kl_file_batch_add(&g->batch, crt_path, *cert, g->err);
    return rc ? rc : kl_pki_load(*cert, *key, crt_path, ret, g->err);
}

static void note_due(struct opening *g, const struct kl_pki_pair *leaf)
{
    int64_t due = kl_pki_leaf_due_s(leaf);
    if (!g->p->renew_s || due < g->p->renew_s)
        g->p->renew_s = due;
}

static int open_leaf(struct opening *g, const char *base, const struct kl_pki_leaf *leaf,
                     const struct kl_pki_pair *ca, struct kl_str *cert, struct kl_str *key)
{
    struct kl_arena *a = &g->p->arena;
    const char *crt_path = NULL, *key_path = NULL;
    int rc = read_pair(g, base, &crt_path, &key_path, cert, key);
    if (rc)
        return rc;
    if (cert->p && key->p) {
        struct kl_pki_pair have;
        struct kl_error ignored;
        // One that cannot be read is made anew: a leaf is never the only one of its kind.
        bool good = !kl_pki_load(*cert, *key, base, &have, &ignored);
        if (good) {
            good = kl_pki_leaf_good(&have, leaf, ca);
            if (good)
                note_due(g, &have);
            kl_pki_pair_fini(&have);
        }
        if (good)
            return 0;
        OPENSSL_cleanse((char *)key->p, key->n);
    }
    struct kl_pki_pair made;
    if ((rc = kl_pki_make_leaf(a, leaf, ca, cert, key, g->err)) ||
        (rc = kl_pki_load(*cert, *key, base, &made, g->err)))
        return rc;
    note_due(g, &made);
    kl_pki_pair_fini(&made);
    rc = kl_file_batch_add(&g->batch, key_path, *key, g->err);
    return rc ? rc : kl_file_batch_add(&g->batch, crt_path, *cert, g->err);
}

static int open_service_key(struct opening *g)
{
    const char *path = path_of(g, "server/tls/service.key");
    int rc = path ? kl_file_read(&g->p->arena, path, &g->p->service_key, g->err) : oom(g);
    if (rc || g->p->service_key.p)
        return rc;
    rc = kl_pki_make_key(&g->p->arena, &g->p->service_key, g->err);
    return rc ? rc : kl_file_batch_add(&g->batch, path, g->p->service_key, g->err);
}

// Certificates of the server itself and of its first clients.
static int open_leaves(struct opening *g)
{
    const struct kl_pki_options *o = g->o;
    struct kl_pki *p = g->p;
    const char *node = o->node_name && *o->node_name ? o->node_name : "localhost";
    const char *domain =
        o->cluster_domain && *o->cluster_domain ? o->cluster_domain : "cluster.local";
    struct kl_str full = kl_arena_printf(&p->arena, "kubernetes.default.svc.%s", domain);
    const char **sans = kl_arena_zalloc(&p->arena, (MAX_SANS + 16) * sizeof *sans);
    const char **node_sans = kl_arena_zalloc(&p->arena, (MAX_SANS + 16) * sizeof *sans);
    p->cluster_domain = kl_arena_dup(&p->arena, kl_str(domain));
    if (!full.p || !p->cluster_domain.p || !sans || !node_sans)
        return oom(g);
    const char *fixed[] = {"kubernetes",
                           "kubernetes.default",
                           "kubernetes.default.svc",
                           full.p,
                           "localhost",
                           node,
                           "127.0.0.1",
                           "::1"};
    size_t n = 0, m = 0;
    for (size_t i = 0; i < KL_COUNT(fixed); i++)
        sans[n++] = fixed[i];
    for (size_t i = 4; i < KL_COUNT(fixed); i++)
        node_sans[m++] = fixed[i];
    if (o->service_ip)
        sans[n++] = o->service_ip;
    for (size_t i = 0; o->sans && o->sans[i]; i++) {
        if (i == MAX_SANS)
            return kl_error_set(g->err, KL_ELIMIT, "more than %d names for the certificate",
                                MAX_SANS);
        sans[n++] = o->sans[i];
        node_sans[m++] = o->sans[i];
    }
    const char *const masters[] = {"system:masters", NULL};
    const struct kl_pki_leaf serving = {.cn = "kube-apiserver", .sans = sans, .server = true},
                             admin = {.cn = "system:admin", .orgs = masters},
                             to_kubelet = {.cn = "system:apiserver", .orgs = masters},
                             kubelet = {.cn = node, .sans = node_sans, .server = true},
                             proxy = {.cn = "system:auth-proxy"};
    int rc;
    if ((rc = open_leaf(g, "server/tls/serving-kube-apiserver", &serving, &g->server_ca,
                        &p->serving_cert, &p->serving_key)) ||
        (rc = open_leaf(g, "server/tls/client-admin", &admin, &g->client_ca, &p->admin_cert,
                        &p->admin_key)) ||
        (rc = open_leaf(g, "server/tls/client-kube-apiserver", &to_kubelet, &g->client_ca,
                        &p->apiserver_client_cert, &p->apiserver_client_key)) ||
        (rc = open_leaf(g, "server/tls/client-auth-proxy", &proxy, &g->front_proxy_ca,
                        &p->front_proxy_cert, &p->front_proxy_key)))
        return rc;
    return open_leaf(g, "agent/serving-kubelet", &kubelet, &g->server_ca, &p->kubelet_serving_cert,
                     &p->kubelet_serving_key);
}

static int open_peer_leaf(struct opening *g)
{
    struct kl_pki *p = g->p;
    if (!g->o->server_id)
        return 0;
    struct kl_str uri =
        kl_arena_printf(&p->arena, "kinglet://peer/%016llx", (unsigned long long)g->o->server_id);
    const struct kl_pki_leaf leaf = {.cn = "kinglet-peer", .uri = uri.p, .both = true};
    if (!uri.p)
        return oom(g);
    return open_leaf(g, "server/tls/peer", &leaf, &g->peer_ca, &p->peer_cert, &p->peer_key);
}

static int open_cluster_id(struct opening *g)
{
    struct kl_arena *a = &g->p->arena;
    const char *path = path_of(g, "server/tls/cluster-id");
    struct kl_str text;
    int rc = path ? kl_file_read(a, path, &text, g->err) : oom(g);
    if (rc)
        return rc;
    if (text.p) {
        char *end;
        g->p->cluster_id = strtoull(text.p, &end, 16);
        return g->p->cluster_id && end - text.p == 16
                   ? 0
                   : kl_error_set(g->err, KL_EINVALID, "%s: 16 hexadecimal digits are expected",
                                  path);
    }
    while (!g->p->cluster_id)
        g->p->cluster_id = kl_rand_u64();
    text = kl_arena_printf(a, "%016llx\n", (unsigned long long)g->p->cluster_id);
    return text.p ? kl_file_batch_add(&g->batch, path, text, g->err) : oom(g);
}

struct kl_str kl_token_secret(struct kl_str t, struct kl_str *ret_hash)
{
    t = kl_str_trim(t);
    if (ret_hash)
        *ret_hash = KL_STR("");
    if (!kl_str_starts(t, KL_STR("K10")))
        return t;
    for (size_t i = 3; i + 1 < t.n; i++) {
        if (t.p[i] != ':' || t.p[i + 1] != ':')
            continue;
        struct kl_str rest = kl_str_from(t, i + 2);
        ptrdiff_t colon = kl_str_chr(rest, ':');
        if (ret_hash)
            *ret_hash = (struct kl_str){t.p + 3, i - 3};
        return colon < 0 ? rest : kl_str_from(rest, (size_t)colon + 1);
    }
    return t;
}

// A link to the token, or a file of its own that only joins agents.
static int open_agent_token(struct opening *g, const char *hash)
{
    struct kl_arena *a = &g->p->arena;
    const char *path = path_of(g, "server/agent-token");
    struct kl_str have = {0}, line;
    if (!path)
        return oom(g);
    if (!g->o->agent_token)
        return symlink("token", path) && errno != EEXIST
                   ? kl_error_errno(g->err, errno, "symlink %s", path)
                   : 0;
    line = kl_arena_printf(a, "K10%s::node:%.*s\n", hash,
                           KL_PRI(kl_token_secret(kl_str(g->o->agent_token), NULL)));
    if (!line.p)
        return oom(g);
    char was[16];
    if (readlink(path, was, sizeof was) >= 0)
        unlink(path);
    int rc = kl_file_read(a, path, &have, g->err);
    return rc || kl_str_eq(line, have) ? rc : kl_file_batch_add(&g->batch, path, line, g->err);
}

static int open_token(struct opening *g)
{
    struct kl_pki *p = g->p;
    const char *path = path_of(g, "server/token"), *link = path_of(g, "server/node-token");
    char hash[65], made[2 * SECRET_BYTES + 1];
    struct kl_str stored, secret, pinned;
    int rc = path && link ? kl_file_read(&p->arena, path, &stored, g->err) : oom(g);
    if (rc || (rc = kl_ca_hash(p->server_ca, hash, g->err)))
        return rc;
    secret = kl_token_secret(g->o->token ? kl_str(g->o->token) : stored, &pinned);
    if (g->o->token && pinned.n && !kl_str_eqz(pinned, hash))
        return kl_error_set(g->err, KL_EUNAUTHORIZED,
                            "the token is of another cluster: its CA is not %s/server/tls/"
                            "server-ca.crt",
                            g->o->data_dir);
    if (!secret.n) {
        unsigned char raw[SECRET_BYTES];
        kl_rand_bytes(raw, sizeof raw);
        for (size_t i = 0; i < sizeof raw; i++) {
            made[2 * i] = "0123456789abcdef"[raw[i] >> 4];
            made[2 * i + 1] = "0123456789abcdef"[raw[i] & 15];
        }
        secret = (struct kl_str){made, sizeof made - 1};
        OPENSSL_cleanse(raw, sizeof raw);
    }
    struct kl_str line = kl_arena_printf(&p->arena, "K10%s::server:%.*s\n", hash, KL_PRI(secret));
    OPENSSL_cleanse(made, sizeof made);
    if (!line.p)
        return oom(g);
    p->token = (struct kl_str){line.p, line.n - 1};
    if (!kl_str_eq(line, stored) && (rc = kl_file_batch_add(&g->batch, path, line, g->err)))
        return rc;
    if (symlink("token", link) && errno != EEXIST)
        return kl_error_errno(g->err, errno, "symlink %s", link);
    return open_agent_token(g, hash);
}

int kl_pki_open(const struct kl_pki_options *o, struct kl_pki **ret, struct kl_error *err)
{
    struct kl_pki *p = calloc(1, sizeof *p);
    if (!p)
        return kl_error_set(err, KL_ENOMEM, "certificates: out of memory");
    kl_arena_init(&p->arena, MAX_ARENA);
    struct opening g = {.o = o, .p = p, .err = err};
    kl_file_batch_init(&g.batch, &p->arena);
    const char *tls = path_of(&g, "server/tls"), *agent = path_of(&g, "agent");
    int rc;
    if (!tls || !agent)
        rc = oom(&g);
    else if (!(rc = kl_file_make_dirs(o->data_dir, 0755, err)) &&
             !(rc = kl_file_make_dirs(tls, 0700, err)) &&
             !(rc = kl_file_make_dirs(agent, 0755, err)) &&
             !(rc = open_ca(&g, "server/tls/server-ca", "kinglet-server-ca", &p->server_ca,
                            &p->server_ca_key, &g.server_ca)) &&
             !(rc = open_ca(&g, "server/tls/client-ca", "kinglet-client-ca", &p->client_ca,
                            &p->client_ca_key, &g.client_ca)) &&
             !(rc = open_ca(&g, "server/tls/peer-ca", "kinglet-peer-ca", &p->peer_ca,
                            &p->peer_ca_key, &g.peer_ca)) &&
             !(rc = open_ca(&g, "server/tls/request-header-ca", "kinglet-request-header-ca",
                            &p->front_proxy_ca, &p->front_proxy_ca_key, &g.front_proxy_ca)) &&
             !(rc = open_service_key(&g)) && !(rc = open_cluster_id(&g)) &&
             !(rc = open_leaves(&g)) && !(rc = open_peer_leaf(&g)) && !(rc = open_token(&g)))
        rc = kl_file_batch_commit(&g.batch, err);
    kl_file_batch_drop(&g.batch);
    kl_pki_pair_fini(&g.server_ca);
    kl_pki_pair_fini(&g.client_ca);
    kl_pki_pair_fini(&g.peer_ca);
    kl_pki_pair_fini(&g.front_proxy_ca);
    ERR_clear_error();
    if (rc) {
        kl_pki_free(p);
        return rc;
    }
    *ret = p;
    return 0;
}

static void wipe(struct kl_str s)
{
    if (s.n)
        OPENSSL_cleanse((char *)s.p, s.n);
}

void kl_pki_free(struct kl_pki *p)
{
    if (!p)
        return;
    wipe(p->server_ca_key);
    wipe(p->client_ca_key);
    wipe(p->peer_ca_key);
    wipe(p->front_proxy_ca_key);
    wipe(p->front_proxy_key);
    wipe(p->peer_key);
    wipe(p->serving_key);
    wipe(p->admin_key);
    wipe(p->apiserver_client_key);
    wipe(p->kubelet_serving_key);
    wipe(p->service_key);
    wipe(p->token);
    kl_arena_fini(&p->arena);
    free(p);
}

int kl_pki_client_cert(const struct kl_pki *p, struct kl_arena *a, const char *user,
                       const char *const *groups, struct kl_str *ret_cert, struct kl_str *ret_key,
                       struct kl_error *err)
{
    struct kl_pki_pair ca;
    struct kl_pki_leaf leaf = {.cn = user, .orgs = groups};
    int rc = kl_pki_load(p->client_ca, p->client_ca_key, "client-ca", &ca, err);
    if (rc)
        return rc;
    rc = kl_pki_make_leaf(a, &leaf, &ca, ret_cert, ret_key, err);
    kl_pki_pair_fini(&ca);
    return rc;
}
