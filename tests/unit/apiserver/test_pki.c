// SPDX-License-Identifier: Apache-2.0
// The cluster's certificates: chains that OpenSSL verifies, K3s' layout, what is kept and renewed.
#include "apiserver/pki.h"
#include "base/clock.h"
#include <ftw.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
    char dir[64];
    struct kl_pki_options o;
};

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static int set_up(void **state)
{
    static const char *const sans[] = {"api.example.org", "10.1.2.3", "fd00::1", NULL};
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/kl-pki-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->o = (struct kl_pki_options){.data_dir = f->dir,
                                   .node_name = "node-1",
                                   .sans = sans,
                                   .service_ip = "10.43.0.1",
                                   .cluster_domain = "cluster.local"};
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static struct kl_pki *open_pki(struct fixture *f)
{
    struct kl_pki *p = NULL;
    struct kl_error err = {0};
    if (kl_pki_open(&f->o, &p, &err))
        fail_msg("kl_pki_open: %s", err.msg);
    return p;
}

static X509 *cert_of(struct kl_str pem)
{
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
    BIO_free(b);
    assert_non_null(x);
    return x;
}

static int verify(struct kl_str ca, struct kl_str leaf, int purpose, const char *host,
                  const char *ip)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509 *root = cert_of(ca), *x = cert_of(leaf);
    X509_STORE_add_cert(store, root);
    X509_STORE_CTX_init(ctx, store, x, NULL);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_purpose(param, purpose);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT);
    if (host)
        X509_VERIFY_PARAM_set1_host(param, host, 0);
    if (ip)
        X509_VERIFY_PARAM_set1_ip_asc(param, ip);
    X509_verify_cert(ctx);
    int e = X509_STORE_CTX_get_error(ctx);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    X509_free(root);
    X509_free(x);
    return e;
}

static void assert_subject(struct kl_str pem, const char *want)
{
    X509 *x = cert_of(pem);
    char got[256];
    X509_NAME_oneline(X509_get_subject_name(x), got, sizeof got);
    assert_string_equal(got, want);
    X509_free(x);
}

static void test_chains(void **state)
{
    struct kl_pki *p = open_pki(*state);
    static const char *const names[] = {"kubernetes",      "kubernetes.default",
                                        "localhost",       "kubernetes.default.svc",
                                        "api.example.org", "kubernetes.default.svc.cluster.local",
                                        "node-1",          NULL};
    for (int i = 0; names[i]; i++)
        assert_int_equal(
            verify(p->server_ca, p->serving_cert, X509_PURPOSE_SSL_SERVER, names[i], NULL), 0);
    static const char *const ips[] = {"127.0.0.1", "::1", "10.43.0.1", "10.1.2.3", "fd00::1", NULL};
    for (int i = 0; ips[i]; i++)
        assert_int_equal(
            verify(p->server_ca, p->serving_cert, X509_PURPOSE_SSL_SERVER, NULL, ips[i]), 0);
    assert_int_equal(verify(p->server_ca, p->serving_cert, X509_PURPOSE_SSL_SERVER, "other", NULL),
                     X509_V_ERR_HOSTNAME_MISMATCH);
    assert_int_equal(verify(p->server_ca, p->kubelet_serving_cert, X509_PURPOSE_SSL_SERVER,
                            "node-1", "10.1.2.3"),
                     0);
    assert_int_equal(verify(p->client_ca, p->admin_cert, X509_PURPOSE_SSL_CLIENT, NULL, NULL), 0);
    assert_int_equal(
        verify(p->client_ca, p->apiserver_client_cert, X509_PURPOSE_SSL_CLIENT, NULL, NULL), 0);
    // Neither CA vouches for the other's certificates, nor a certificate for the other use.
    assert_int_not_equal(verify(p->server_ca, p->admin_cert, X509_PURPOSE_SSL_CLIENT, NULL, NULL),
                         0);
    assert_int_equal(verify(p->client_ca, p->admin_cert, X509_PURPOSE_SSL_SERVER, NULL, NULL),
                     X509_V_ERR_INVALID_PURPOSE);
    assert_subject(p->admin_cert, "/O=system:masters/CN=system:admin");
    assert_subject(p->apiserver_client_cert, "/O=system:masters/CN=system:apiserver");
    // Users may be longer than X.520's 64 bytes.
    static const char user[] = "system:serviceaccount:kube-system:a-controller-with-quite-a-long-"
                               "name-of-its-own-controller";
    struct kl_arena a;
    struct kl_str cert, key;
    struct kl_error err = {0};
    kl_arena_init(&a, 1 << 20);
    assert_int_equal(kl_pki_client_cert(p, &a, user, NULL, &cert, &key, &err), 0);
    assert_int_equal(verify(p->client_ca, cert, X509_PURPOSE_SSL_CLIENT, NULL, NULL), 0);
    char subject[200];
    snprintf(subject, sizeof subject, "/CN=%s", user);
    assert_subject(cert, subject);
    kl_arena_fini(&a);
    kl_pki_free(p);
}

static int days_until(const ASN1_TIME *t)
{
    int days = 0, s = 0;
    assert_int_equal(ASN1_TIME_diff(&days, &s, NULL, t), 1);
    return days;
}

static void test_life_times(void **state)
{
    struct kl_pki *p = open_pki(*state);
    X509 *ca = cert_of(p->server_ca), *leaf = cert_of(p->serving_cert);
    int days = 0, s = 0;
    assert_in_range(days_until(X509_get0_notAfter(ca)), 3648, 3650);
    assert_in_range(days_until(X509_get0_notAfter(leaf)), 363, 365);
    assert_int_equal(ASN1_TIME_diff(&days, &s, X509_get0_notBefore(leaf), NULL), 1);
    assert_int_equal(days, 0);
    assert_in_range(s, 3600, 2 * 3600);
    X509_free(ca);
    X509_free(leaf);
    kl_pki_free(p);
}

static void assert_mode(struct fixture *f, const char *name, unsigned mode)
{
    char path[512];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    if (stat(path, &st))
        fail_msg("%s is not there", path);
    assert_int_equal(st.st_mode & 07777, mode);
}

static void test_layout(void **state)
{
    struct fixture *f = *state;
    struct kl_pki *p = open_pki(f);
    static const char *const files[] = {"server/tls/server-ca.crt",
                                        "server/tls/server-ca.key",
                                        "server/tls/client-ca.crt",
                                        "server/tls/client-ca.key",
                                        "server/tls/serving-kube-apiserver.crt",
                                        "server/tls/serving-kube-apiserver.key",
                                        "server/tls/client-admin.crt",
                                        "server/tls/client-admin.key",
                                        "server/tls/client-kube-apiserver.crt",
                                        "server/tls/client-kube-apiserver.key",
                                        "server/tls/service.key",
                                        "server/token",
                                        "agent/serving-kubelet.crt",
                                        "agent/serving-kubelet.key",
                                        NULL};
    for (int i = 0; files[i]; i++)
        assert_mode(f, files[i], 0600);
    assert_mode(f, "server/tls", 0700);
    char path[512], to[64] = "";
    snprintf(path, sizeof path, "%s/server/node-token", f->dir);
    assert_int_equal(readlink(path, to, sizeof to - 1), 5);
    assert_string_equal(to, "token");

    unsigned char md[SHA256_DIGEST_LENGTH];
    char hash[65];
    SHA256((const unsigned char *)p->server_ca.p, p->server_ca.n, md);
    for (int i = 0; i < 32; i++)
        snprintf(hash + 2 * i, 3, "%02x", md[i]);
    assert_int_equal(p->token.n, 3 + 64 + 2 + 7 + 32);
    assert_memory_equal(p->token.p, "K10", 3);
    assert_memory_equal(p->token.p + 3, hash, 64);
    assert_memory_equal(p->token.p + 67, "::server:", 9);
    kl_pki_free(p);
}

static void test_kept(void **state)
{
    struct fixture *f = *state;
    struct kl_pki *a = open_pki(f), *b = open_pki(f);
#define SAME(field) assert_true(kl_str_eq(a->field, b->field))
    SAME(server_ca);
    SAME(server_ca_key);
    SAME(client_ca);
    SAME(serving_cert);
    SAME(serving_key);
    SAME(admin_cert);
    SAME(kubelet_serving_cert);
    SAME(service_key);
    SAME(token);
    kl_pki_free(b);

    // A new name makes a new serving certificate and nothing else.
    static const char *const more[] = {"api.example.org", "10.9.9.9", NULL};
    f->o.sans = more;
    b = open_pki(f);
    SAME(server_ca);
    SAME(admin_cert);
    assert_false(kl_str_eq(a->serving_cert, b->serving_cert));
    assert_int_equal(
        verify(b->server_ca, b->serving_cert, X509_PURPOSE_SSL_SERVER, NULL, "10.9.9.9"), 0);
    kl_pki_free(b);
    kl_pki_free(a);
}

static void put_file(struct fixture *f, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    FILE *o = fopen(path, "w");
    assert_non_null(o);
    fputs(text, o);
    fclose(o);
}

static void test_torn_and_foreign(void **state)
{
    struct fixture *f = *state;
    struct kl_pki *a = open_pki(f), *b;
    // A leaf that is not readable, and a CA certificate lost beside its key.
    put_file(f, "server/tls/client-admin.crt", "rubbish");
    put_file(f, "server/tls/server-ca.crt", "");
    b = open_pki(f);
    SAME(server_ca_key);
    SAME(client_ca);
    assert_false(kl_str_eq(a->server_ca, b->server_ca));
    assert_int_equal(verify(b->client_ca, b->admin_cert, X509_PURPOSE_SSL_CLIENT, NULL, NULL), 0);
    assert_int_equal(verify(b->server_ca, b->serving_cert, X509_PURPOSE_SSL_SERVER, "node-1", NULL),
                     0);
    // The secret part of the token stays, the hash follows the CA.
    assert_false(kl_str_eq(a->token, b->token));
    assert_true(kl_str_eq(kl_str_from(a->token, 67), kl_str_from(b->token, 67)));
    kl_pki_free(b);

    // A CA key that is not the certificate's is an error that names the file.
    put_file(f, "server/tls/client-ca.key", a->server_ca_key.p);
    struct kl_error err = {0};
    assert_int_equal(kl_pki_open(&f->o, &b, &err), KL_EINVALID);
    assert_non_null(strstr(err.msg, "client-ca.crt"));
    char path[512];
    snprintf(path, sizeof path, "%s/server/tls/client-ca.key", f->dir);
    unlink(path);
    assert_int_equal(kl_pki_open(&f->o, &b, &err), KL_ENOTFOUND);
    assert_non_null(strstr(err.msg, "client-ca.key is missing"));
    kl_pki_free(a);
}

static void test_token_given(void **state)
{
    struct fixture *f = *state;
    f->o.token = "my-secret";
    struct kl_pki *p = open_pki(f);
    assert_true(kl_str_ends(p->token, KL_STR("::server:my-secret")));
    kl_pki_free(p);
    f->o.token = NULL;
    p = open_pki(f);
    assert_true(kl_str_ends(p->token, KL_STR("::server:my-secret")));
    kl_pki_free(p);
    // With a CA's hash in it, it must be this one's.
    char whole[160];
    p = open_pki(f);
    snprintf(whole, sizeof whole, "%.*s::server:other", 3 + 64, p->token.p);
    kl_pki_free(p);
    f->o.token = whole;
    p = open_pki(f);
    assert_true(kl_str_eqz(p->token, whole));
    kl_pki_free(p);
    struct kl_error err = {0};
    f->o.token = "K10aaaa::server:other";
    assert_int_equal(kl_pki_open(&f->o, &p, &err), KL_EUNAUTHORIZED);
    assert_non_null(strstr(err.msg, "the token is of another cluster"));
    f->o.token = NULL;
    p = open_pki(f);
    assert_true(kl_str_eqz(p->token, whole));
    kl_pki_free(p);
}

// A CA that `by` signed, as PEM.
static void make_intermediate(struct kl_pki *by, char *ret, size_t n)
{
    BIO *b = BIO_new_mem_buf(by->server_ca_key.p, (int)by->server_ca_key.n);
    EVP_PKEY *root_key = PEM_read_bio_PrivateKey(b, NULL, NULL, NULL);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *root = cert_of(by->server_ca), *x = X509_new();
    X509V3_CTX ctx;
    BIO_free(b);
    X509_set_version(x, X509_VERSION_3);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)"between", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(root));
    X509V3_set_ctx(&ctx, root, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, NID_basic_constraints, "critical,CA:TRUE");
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    assert_true(X509_sign(x, root_key, EVP_sha256()) > 0);
    BIO *out = BIO_new(BIO_s_mem());
    char *p;
    PEM_write_bio_X509(out, x);
    long len = BIO_get_mem_data(out, &p);
    assert_in_range(len, 1, n - 1);
    memcpy(ret, p, (size_t)len);
    ret[len] = 0;
    BIO_free(out);
    X509_free(root);
    X509_free(x);
    EVP_PKEY_free(key);
    EVP_PKEY_free(root_key);
}

// The token's hash is of the last certificate of what /cacerts answers, all of which is trusted: a
// stranger must not put his own CA before the one that the token names.
static void test_hash_of_a_bundle(void **state)
{
    struct fixture *f = *state, *g;
    struct kl_pki *mine = open_pki(f), *strange;
    char alone[65], whole[65], between[4096], bundle[16384];
    struct kl_error err = {0};
    assert_int_equal(set_up((void **)&g), 0);
    strange = open_pki(g);
    assert_int_equal(kl_ca_hash(mine->server_ca, alone, &err), 0);
    make_intermediate(mine, between, sizeof between);
    snprintf(bundle, sizeof bundle, "%s%s", between, mine->server_ca.p);
    assert_int_equal(kl_ca_hash(kl_str(bundle), whole, &err), 0);
    assert_string_equal(whole, alone);
    const char *bad[] = {strange->server_ca.p, mine->serving_cert.p, mine->client_ca.p};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(bundle, sizeof bundle, "%s%s", bad[i], mine->server_ca.p);
        assert_int_equal(kl_ca_hash(kl_str(bundle), whole, &err), KL_EINVALID);
        snprintf(bundle, sizeof bundle, "%s%s%s", bad[i], between, mine->server_ca.p);
        assert_int_equal(kl_ca_hash(kl_str(bundle), whole, &err), KL_EINVALID);
    }
    kl_pki_free(strange);
    kl_pki_free(mine);
    tear_down((void **)&g);
}

// Agents may have a token of their own; otherwise it is the servers'.
static void test_agent_token(void **state)
{
    struct fixture *f = *state;
    char path[128], line[256] = "";
    f->o.token = "my-secret";
    snprintf(path, sizeof path, "%s/server/agent-token", f->dir);
    kl_pki_free(open_pki(f));
    assert_true(readlink(path, line, sizeof line) == 5 && !memcmp(line, "token", 5));
    f->o.agent_token = "for-agents";
    kl_pki_free(open_pki(f));
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    assert_non_null(fgets(line, sizeof line, in));
    fclose(in);
    assert_non_null(strstr(line, "::node:for-agents\n"));
    f->o.agent_token = NULL;
}

static void test_kubeconfig(void **state)
{
    struct fixture *f = *state;
    struct kl_pki *p = open_pki(f);
    struct kl_error err = {0};
    char path[512], text[16384] = "";
    snprintf(path, sizeof path, "%s/etc/kinglet.yaml", f->dir);
    assert_int_equal(kl_pki_write_kubeconfig(p, path, "::1", 6443, &err), 0);
    assert_mode(f, "etc/kinglet.yaml", 0600);
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    size_t n = fread(text, 1, sizeof text - 1, in);
    fclose(in);
    assert_true(n > 1000);
    assert_non_null(strstr(text, "\n    server: https://[::1]:6443\n"));
    assert_non_null(strstr(text, "current-context: default\n"));
    char *at = strstr(text, "client-key-data: ") + strlen("client-key-data: ");
    unsigned char key[4096];
    int len = EVP_DecodeBlock(key, (unsigned char *)at, (int)strcspn(at, "\n"));
    assert_true(len >= (int)p->admin_key.n);
    assert_memory_equal(key, p->admin_key.p, p->admin_key.n);
    kl_pki_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(test_chains),      T(test_life_times),       T(test_layout),
        T(test_kept),        T(test_torn_and_foreign), T(test_token_given),
        T(test_agent_token), T(test_hash_of_a_bundle), T(test_kubeconfig),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
