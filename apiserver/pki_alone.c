// SPDX-License-Identifier: Apache-2.0
// Certificates of a server that keeps no data directory: made in memory, or taken from the files
// that upstream's flags name.
#include "apiserver/pki_int.h"
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_ARENA = 16 << 20, MAX_NAMES = 64 };

static struct kl_pki *new_pki(struct kl_error *err)
{
    struct kl_pki *p = calloc(1, sizeof *p);
    if (!p) {
        kl_error_set(err, KL_ENOMEM, "certificates: out of memory");
        return NULL;
    }
    kl_arena_init(&p->arena, MAX_ARENA);
    p->cluster_id = 1; // nobody else is there
    return p;
}

static int finish(struct kl_pki *p, int rc, struct kl_pki **ret)
{
    ERR_clear_error();
    if (rc)
        kl_pki_free(p);
    else
        *ret = p;
    return rc;
}

// The names that a serving certificate has beside the given ones.
static const char *const *all_names(struct kl_pki *p, const char *const *more)
{
    static const char *const fixed[] = {"kubernetes", "kubernetes.default",
                                        "kubernetes.default.svc", "localhost", "127.0.0.1"};
    const char **v = kl_arena_zalloc(&p->arena, (MAX_NAMES + KL_COUNT(fixed) + 1) * sizeof *v);
    size_t n = 0;
    for (; v && n < KL_COUNT(fixed); n++)
        v[n] = fixed[n];
    for (size_t i = 0; v && more && more[i] && i < MAX_NAMES; i++)
        v[n++] = more[i];
    return v;
}

int kl_pki_make_memory(const char *const *names, struct kl_pki **ret, struct kl_error *err)
{
    struct kl_pki *p = new_pki(err);
    if (!p)
        return KL_ENOMEM;
    struct kl_arena *a = &p->arena;
    static const char *const masters[] = {"system:masters", NULL};
    const struct kl_pki_leaf serving = {
        .cn = "kube-apiserver", .sans = all_names(p, names), .server = true};
    const struct kl_pki_leaf admin = {.cn = "system:admin", .orgs = masters};
    const struct kl_pki_leaf proxy = {.cn = "system:auth-proxy"};
    struct kl_pki_pair ca = {0}, proxy_ca = {0};
    int rc = !serving.sans ? kl_error_set(err, KL_ENOMEM, "certificates: out of memory") : 0;
    // One CA does both; the admin's certificate is good for kubelets too.
    if (!rc &&
        !(rc = kl_pki_make_ca(a, "kinglet-ca", NULL, &p->server_ca, &p->server_ca_key, err)) &&
        !(rc = kl_pki_load(p->server_ca, p->server_ca_key, "CA", &ca, err)) &&
        !(rc = kl_pki_make_leaf(a, &serving, &ca, &p->serving_cert, &p->serving_key, err)) &&
        !(rc = kl_pki_make_leaf(a, &admin, &ca, &p->admin_cert, &p->admin_key, err)) &&
        !(rc = kl_pki_make_ca(a, "kinglet-request-header-ca", NULL, &p->front_proxy_ca,
                              &p->front_proxy_ca_key, err)) &&
        !(rc = kl_pki_load(p->front_proxy_ca, p->front_proxy_ca_key, "CA", &proxy_ca, err)) &&
        !(rc = kl_pki_make_leaf(a, &proxy, &proxy_ca, &p->front_proxy_cert, &p->front_proxy_key,
                                err)))
        rc = kl_pki_make_key(a, &p->service_key, err);
    p->client_ca = p->server_ca;
    p->client_ca_key = p->server_ca_key;
    p->apiserver_client_cert = p->admin_cert;
    p->apiserver_client_key = p->admin_key;
    p->made = true;
    kl_pki_pair_fini(&ca);
    kl_pki_pair_fini(&proxy_ca);
    return finish(p, rc, ret);
}

// ---- from files

static int must_read(struct kl_arena *a, const char *path, struct kl_str *ret, struct kl_error *err)
{
    int rc = kl_file_read(a, path, ret, err);
    if (!rc && !ret->p)
        rc = kl_error_set(err, KL_ENOTFOUND, "open %s: no such file or directory", path);
    return rc;
}

static int read_pair(struct kl_arena *a, const char *cert_path, const char *key_path,
                     struct kl_str *cert, struct kl_str *key, struct kl_error *err)
{
    struct kl_pki_pair pair;
    int rc;
    if (!cert_path || !key_path)
        return 0;
    if ((rc = must_read(a, cert_path, cert, err)) || (rc = must_read(a, key_path, key, err)))
        return rc;
    if (!(rc = kl_pki_load(*cert, *key, cert_path, &pair, err)))
        kl_pki_pair_fini(&pair);
    return rc;
}

// DIR/apiserver.crt and .key; a CA and a certificate of it are made and put there when both are
// missing, as upstream's MaybeDefaultWithSelfSignedCerts.
static int serving_of_dir(struct kl_pki *p, const struct kl_pki_files *f, struct kl_error *err)
{
    struct kl_arena *a = &p->arena;
    struct kl_str cert = kl_arena_printf(a, "%s/apiserver.crt", f->cert_dir);
    struct kl_str key = kl_arena_printf(a, "%s/apiserver.key", f->cert_dir);
    if (!cert.p || !key.p)
        return kl_error_set(err, KL_ENOMEM, "certificates: out of memory");
    if (!access(cert.p, R_OK) && !access(key.p, R_OK))
        return read_pair(a, cert.p, key.p, &p->serving_cert, &p->serving_key, err);
    const struct kl_pki_leaf leaf = {
        .cn = "kube-apiserver", .sans = all_names(p, f->names), .server = true};
    struct kl_str ca_cert = {0}, ca_key = {0}, chain = {0};
    struct kl_file_batch batch;
    struct kl_pki_pair ca = {0};
    kl_file_batch_init(&batch, a);
    int rc = leaf.sans ? kl_file_make_dirs(f->cert_dir, 0755, err)
                       : kl_error_set(err, KL_ENOMEM, "certificates: out of memory");
    if (!rc && !(rc = kl_pki_make_ca(a, "kube-apiserver-ca", NULL, &ca_cert, &ca_key, err)) &&
        !(rc = kl_pki_load(ca_cert, ca_key, "CA", &ca, err)) &&
        !(rc = kl_pki_make_leaf(a, &leaf, &ca, &p->serving_cert, &p->serving_key, err))) {
        chain = kl_arena_printf(a, "%.*s%.*s", KL_PRI(p->serving_cert), KL_PRI(ca_cert));
        rc = chain.p ? kl_file_batch_add(&batch, cert.p, chain, err)
                     : kl_error_set(err, KL_ENOMEM, "certificates: out of memory");
    }
    if (!rc && !(rc = kl_file_batch_add(&batch, key.p, p->serving_key, err)))
        rc = kl_file_batch_commit(&batch, err);
    kl_file_batch_drop(&batch);
    kl_pki_pair_fini(&ca);
    return rc;
}

int kl_pki_from_files(const struct kl_pki_files *f, struct kl_pki **ret, struct kl_error *err)
{
    struct kl_pki *p = new_pki(err);
    if (!p)
        return KL_ENOMEM;
    struct kl_arena *a = &p->arena;
    EVP_PKEY *key = NULL;
    int rc = f->cert && f->key
                 ? read_pair(a, f->cert, f->key, &p->serving_cert, &p->serving_key, err)
                 : serving_of_dir(p, f, err);
    if (!rc && f->client_ca)
        rc = must_read(a, f->client_ca, &p->client_ca, err);
    if (!rc && f->kubelet_ca)
        rc = must_read(a, f->kubelet_ca, &p->server_ca, err);
    if (!rc)
        rc = read_pair(a, f->kubelet_cert, f->kubelet_key, &p->apiserver_client_cert,
                       &p->apiserver_client_key, err);
    if (!rc && !(rc = must_read(a, f->service_key, &p->service_key, err)) &&
        !(key = kl_pki_load_key(p->service_key, f->service_key, err)))
        rc = KL_EINVALID;
    if (rc && f->service_key && strstr(err->msg, f->service_key))
        kl_error_wrap(err, "failed to parse service-account-issuer-key-file");
    EVP_PKEY_free(key);
    return finish(p, rc, ret);
}
