// SPDX-License-Identifier: Apache-2.0
// The cluster's identity in the datastore: made once, adopted by the others, refused to the rest.
#include "apiserver/identity.h"
#include "apiserver/seal.h"
#include "store/store.h"
#include "store/wait.h"
#include <ftw.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
    char base[64];
    struct kl_store *store;
};

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct kl_error err;
    snprintf(f->base, sizeof f->base, "/tmp/kl-identity-XXXXXX");
    assert_non_null(mkdtemp(f->base));
    assert_int_equal(kl_store_open("memory://", NULL, &f->store, &err), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    kl_store_stop(f->store);
    nftw(f->base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static int open_as(struct fixture *f, const char *name, const char *token, struct kl_pki **ret,
                   struct kl_error *err)
{
    char dir[96];
    snprintf(dir, sizeof dir, "%s/%s", f->base, name);
    struct kl_pki_options o = {.data_dir = dir,
                               .node_name = name,
                               .service_ip = "10.43.0.1",
                               .token = token,
                               .server_id = 0x1122334455667788};
    *err = (struct kl_error){0};
    return kl_identity_open(&o, f->store, ret, err);
}

static struct kl_pki *must(struct fixture *f, const char *name, const char *token)
{
    struct kl_pki *p = NULL;
    struct kl_error err;
    if (open_as(f, name, token, &p, &err))
        fail_msg("%s: %s", name, err.msg);
    return p;
}

static void refused(struct fixture *f, const char *name, const char *token, int code,
                    const char *say)
{
    struct kl_pki *p = NULL;
    struct kl_error err;
    assert_int_equal(open_as(f, name, token, &p, &err), code);
    if (!strstr(err.msg, say))
        fail_msg("'%s' does not say '%s'", err.msg, say);
}

static void same(const struct kl_pki *a, const struct kl_pki *b)
{
    assert_true(kl_str_eq(a->server_ca, b->server_ca));
    assert_true(kl_str_eq(a->server_ca_key, b->server_ca_key));
    assert_true(kl_str_eq(a->client_ca, b->client_ca));
    assert_true(kl_str_eq(a->peer_ca, b->peer_ca));
    assert_true(kl_str_eq(a->peer_ca_key, b->peer_ca_key));
    assert_true(kl_str_eq(a->service_key, b->service_key));
    assert_true(kl_str_eq(a->token, b->token));
    assert_true(a->cluster_id && a->cluster_id == b->cluster_id);
}

static void test_adopt(void **state)
{
    struct fixture *f = *state;
    struct kl_pki *a = must(f, "a", NULL);
    assert_true(a->made);
    struct kl_str secret = kl_token_secret(a->token, NULL);
    char bare[64], whole[160], other[160];
    snprintf(bare, sizeof bare, "%.*s", KL_PRI(secret));
    snprintf(whole, sizeof whole, "%.*s", KL_PRI(a->token));
    struct kl_pki *b = must(f, "b", bare), *c = must(f, "c", whole);
    same(a, b);
    same(a, c);
    assert_false(b->made);
    // Its own serving certificates, the cluster's CAs.
    assert_false(kl_str_eq(a->serving_cert, b->serving_cert));
    assert_false(kl_str_eq(a->peer_cert, b->peer_cert));
    char path[128];
    struct stat st;
    snprintf(path, sizeof path, "%s/b/server/tls/server-ca.key", f->base);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    // Again, with what the data directory knows.
    struct kl_pki *again = must(f, "b", NULL);
    same(a, again);
    assert_true(kl_str_eq(b->serving_cert, again->serving_cert));
    assert_true(kl_str_eq(b->peer_cert, again->peer_cert));

    refused(f, "d", NULL, KL_EUNAUTHORIZED, "its token is needed (--token)");
    refused(f, "d", "wrong", KL_EUNAUTHORIZED, "the token is not that of the cluster");
    refused(f, "b", "wrong", KL_EUNAUTHORIZED, "the token is not that of the cluster");
    snprintf(other, sizeof other, "K10%064d::server:%s", 7, bare);
    refused(f, "d", other, KL_EUNAUTHORIZED, "the token is of another cluster");
    struct kl_pki *all[] = {a, b, c, again};
    for (size_t i = 0; i < KL_COUNT(all); i++)
        kl_pki_free(all[i]);
}

// ---- K3s

static void put_base64(struct kl_buf *b, const void *p, size_t n)
{
    char *text = malloc(n / 3 * 4 + 8);
    int k = EVP_EncodeBlock((unsigned char *)text, p, (int)n);
    kl_buf_puts(b, (struct kl_str){text, (size_t)k});
    free(text);
}

static void put_file(struct kl_buf *b, const char *name, struct kl_str text, bool old)
{
    kl_buf_printf(b, "%s\"%s\":%s", b->n > 1 ? "," : "", name,
                  old ? "\"" : "{\"Timestamp\":\"2026-01-02T03:04:05.678Z\",\"Content\":\"");
    put_base64(b, text.p, text.n);
    kl_buf_printf(b, old ? "\"" : "\"}");
}

// As K3s' pkg/cluster/encrypt.go seals and names it.
static void put_record(struct fixture *f, const char *secret, struct kl_str plain)
{
    static const char salt[] = "0123456789abcdef";
    unsigned char key[32], md[32], *box = malloc(12 + plain.n + 16);
    int n, last;
    char name[64] = "/bootstrap/";
    memcpy(box, "twelve bytes", 12);
    assert_int_equal(PKCS5_PBKDF2_HMAC_SHA1(secret, (int)strlen(secret),
                                            (const unsigned char *)salt, 16, 4096, 32, key),
                     1);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    assert_int_equal(EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, box), 1);
    EVP_EncryptUpdate(c, box + 12, &n, (const unsigned char *)plain.p, (int)plain.n);
    EVP_EncryptFinal_ex(c, box + 12 + n, &last);
    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, 16, box + 12 + plain.n);
    EVP_CIPHER_CTX_free(c);
    struct kl_buf value;
    kl_buf_init(&value, 1 << 20);
    kl_buf_printf(&value, "%s:", salt);
    put_base64(&value, box, 12 + plain.n + 16);
    free(box);
    SHA256((const unsigned char *)secret, strlen(secret), md);
    for (int i = 0; i < 6; i++)
        snprintf(name + 11 + 2 * i, 3, "%02x", md[i]);
    struct kl_op put = {
        .kind = KL_OP_PUT, .key = kl_str(name), .value = kl_bytes_new(kl_buf_str(&value))};
    struct kl_txn txn = {.body = {.then = &put, .nthen = 1}};
    struct kl_error err;
    assert_int_equal(kl_store_run_txn(f->store, &txn, 1000, &err), 0);
    kl_txn_fini(&txn);
    kl_bytes_unref(put.value);
    kl_buf_fini(&value);
}

// What K3s has in its datastore: certificates of the same kind as ours, an RSA key for tokens.
static struct kl_pki *make_k3s(struct fixture *f, const char *dir, const char *secret,
                               const char *sealed_with, bool old, char service_key[4096])
{
    struct kl_store *mine = f->store;
    f->store = NULL;
    struct kl_pki *k3s = must(f, dir, secret);
    f->store = mine;
    EVP_PKEY *rsa = EVP_RSA_gen(2048);
    BIO *b = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PrivateKey_traditional(b, rsa, NULL, NULL, 0, NULL, NULL), 1);
    int n = BIO_read(b, service_key, 4095);
    service_key[n] = 0;
    BIO_free(b);
    EVP_PKEY_free(rsa);
    struct kl_buf json;
    kl_buf_init(&json, 1 << 20);
    kl_buf_putc(&json, '{');
    put_file(&json, "ServerCA", k3s->server_ca, old);
    put_file(&json, "ServerCAKey", k3s->server_ca_key, old);
    put_file(&json, "ClientCA", k3s->client_ca, old);
    put_file(&json, "ClientCAKey", k3s->client_ca_key, old);
    put_file(&json, "ServiceKey", kl_str(service_key), old);
    put_file(&json, "PasswdFile", kl_str("x,node,node,k3s:agent\n"), old);
    put_file(&json, "IPSECKey", KL_STR(""), old);
    kl_buf_puts(&json, KL_STR("}\n"));
    put_record(f, sealed_with, kl_buf_str(&json));
    kl_buf_fini(&json);
    return k3s;
}

static void adopted(const struct kl_pki *p, const struct kl_pki *k3s, const char *service_key)
{
    assert_true(kl_str_eq(p->server_ca, k3s->server_ca));
    assert_true(kl_str_eq(p->server_ca_key, k3s->server_ca_key));
    assert_true(kl_str_eq(p->client_ca, k3s->client_ca));
    assert_true(kl_str_eq(p->client_ca_key, k3s->client_ca_key));
    assert_true(kl_str_eqz(p->service_key, service_key));
    assert_true(kl_str_eq(p->token, k3s->token)); // nodes join as before
    assert_false(p->made);
}

static void test_k3s(void **state)
{
    struct fixture *f = *state;
    char service_key[4096], whole[160];
    struct kl_pki *k3s = make_k3s(f, "k3s", "sesame", "sesame", false, service_key);
    snprintf(whole, sizeof whole, "%.*s", KL_PRI(k3s->token));
    refused(f, "a", "wrong", KL_EUNAUTHORIZED, "the token is not that of the K3s cluster");
    struct kl_pki *a = must(f, "a", whole);
    adopted(a, k3s, service_key);
    // From now on it is stored in our way too: the others need no K3s.
    struct kl_pki *b = must(f, "b", "sesame");
    same(a, b);
    adopted(b, k3s, service_key);
    kl_pki_free(k3s);
    kl_pki_free(a);
    kl_pki_free(b);
}

static void test_k3s_without_token(void **state)
{
    struct fixture *f = *state;
    char service_key[4096];
    struct kl_pki *k3s = make_k3s(f, "k3s", "sesame", "sesame", false, service_key);
    struct kl_pki *a = must(f, "a", NULL);
    assert_true(a->made);
    assert_false(kl_str_eq(a->server_ca, k3s->server_ca));
    kl_pki_free(k3s);
    kl_pki_free(a);
}

// Older versions sealed it with the whole token or with nothing, and had no times in it.
static void test_old_k3s(void **state)
{
    struct fixture *f = *state;
    char service_key[4096];
    struct kl_pki *k3s = make_k3s(f, "k3s", "sesame", "", true, service_key);
    struct kl_pki *a = must(f, "a", "sesame");
    adopted(a, k3s, service_key);
    kl_pki_free(k3s);
    kl_pki_free(a);
}

static void test_damaged_k3s(void **state)
{
    struct fixture *f = *state;
    put_record(f, "one", KL_STR("{\"ServerCA\":{\"Content\":\"QUJD\"}}"));
    refused(f, "a", "one", KL_ECORRUPT, "there is no ServerCAKey");
    put_record(f, "two", KL_STR("{\"ServerCA\":{\"Content\":\"?\"}}"));
    refused(f, "a", "two", KL_ECORRUPT, "are damaged");
    put_record(f, "three", KL_STR("not json"));
    refused(f, "a", "three", KL_ECORRUPT, "are damaged");
}

// A data directory from before identities were stored, and one of another cluster.
static void test_old_directory(void **state)
{
    struct fixture *f = *state;
    struct kl_store *mine = f->store;
    f->store = NULL;
    struct kl_pki *old = must(f, "old", "secret"), *alien = must(f, "alien", "secret");
    f->store = mine;
    struct kl_pki *a = must(f, "old", NULL), *b = must(f, "new", "secret");
    same(old, a);
    same(a, b);
    refused(f, "alien", "secret", KL_ECONFLICT, "use another --data-dir");
    // It is as it was.
    f->store = NULL;
    struct kl_pki *still = must(f, "alien", NULL);
    f->store = mine;
    same(alien, still);
    struct kl_pki *all[] = {old, alien, a, b, still};
    for (size_t i = 0; i < KL_COUNT(all); i++)
        kl_pki_free(all[i]);
}

struct racer {
    struct fixture *f;
    char name[16];
    struct kl_pki *p;
    pthread_t thread;
};

static void *race(void *arg)
{
    struct racer *r = arg;
    struct kl_error err;
    if (open_as(r->f, r->name, "one secret", &r->p, &err))
        fprintf(stderr, "%s: %s\n", r->name, err.msg);
    return NULL;
}

// Servers that start at once on an empty datastore: one makes the identity, all have it.
static void test_race(void **state)
{
    struct racer r[6];
    for (size_t i = 0; i < KL_COUNT(r); i++) {
        r[i] = (struct racer){.f = *state};
        snprintf(r[i].name, sizeof r[i].name, "racer-%zu", i);
        assert_int_equal(pthread_create(&r[i].thread, NULL, race, &r[i]), 0);
    }
    for (size_t i = 0; i < KL_COUNT(r); i++)
        pthread_join(r[i].thread, NULL);
    for (size_t i = 0; i < KL_COUNT(r); i++) {
        assert_non_null(r[i].p);
        same(r[0].p, r[i].p);
    }
    for (size_t i = 0; i < KL_COUNT(r); i++)
        kl_pki_free(r[i].p);
}

static void test_seal(void **state)
{
    struct kl_buf sealed, plain;
    struct kl_error err;
    struct kl_str text = KL_STR("what nobody may read");
    kl_buf_init(&sealed, 4096);
    kl_buf_init(&plain, 4096);
    assert_int_equal(kl_seal(KL_STR("token"), text, &sealed, &err), 0);
    assert_null(memmem(sealed.p, sealed.n, "nobody", 6));
    assert_int_equal(kl_unseal(KL_STR("token"), kl_buf_str(&sealed), &plain, &err), 0);
    assert_true(kl_str_eq(kl_buf_str(&plain), text));
    kl_buf_clear(&plain);
    assert_int_equal(kl_unseal(KL_STR("taken"), kl_buf_str(&sealed), &plain, &err),
                     KL_EUNAUTHORIZED);
    assert_int_equal(plain.n, 0);
    // Every byte counts; the parameters, which would make it slow, are bounded.
    for (size_t i = 0; i < sealed.n; i += i < 10 ? 1 : 7) {
        if (i == 7 || i == 8 || i == 9)
            continue;
        sealed.p[i] ^= 1;
        assert_int_not_equal(kl_unseal(KL_STR("token"), kl_buf_str(&sealed), &plain, &err), 0);
        sealed.p[i] ^= 1;
    }
    sealed.p[7] = 63;
    assert_int_equal(kl_unseal(KL_STR("token"), kl_buf_str(&sealed), &plain, &err), KL_ECORRUPT);
    sealed.p[7] = 14;
    sealed.p[6] = 9;
    assert_int_equal(kl_unseal(KL_STR("token"), kl_buf_str(&sealed), &plain, &err),
                     KL_EUNSUPPORTED);
    for (size_t n = 0; n < 54; n++)
        assert_int_equal(kl_unseal(KL_STR("token"), (struct kl_str){sealed.p, n}, &plain, &err),
                         KL_ECORRUPT);
    assert_int_equal(plain.n, 0);
    // Twice the same is never the same.
    struct kl_buf second;
    kl_buf_init(&second, 4096);
    assert_int_equal(kl_seal(KL_STR("token"), text, &second, &err), 0);
    assert_int_equal(second.n, sealed.n);
    assert_memory_not_equal(second.p + 10, sealed.p + 10, 44);
    kl_buf_fini(&second);
    kl_buf_fini(&sealed);
    kl_buf_fini(&plain);
}

static void test_damaged(void **state)
{
    struct fixture *f = *state;
    struct kl_error err;
    static const char *const bad[] = {"", "x", "server/tls/service.key 5\nabc",
                                      "server/tls/service.key\nabc",
                                      "server/tls/service.key -1\nabc"};
    char dir[96];
    snprintf(dir, sizeof dir, "%s/damaged", f->base);
    for (size_t i = 0; i < KL_COUNT(bad); i++)
        assert_int_equal(kl_identity_place(dir, kl_str(bad[i]), true, &err), KL_ECORRUPT);
    // Names that are not ours are not written, wherever they point to.
    assert_int_equal(kl_identity_place(dir, KL_STR("../evil 1\nx"), true, &err), 0);
    char path[128];
    snprintf(path, sizeof path, "%s/evil", f->base);
    assert_int_not_equal(access(path, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seal),
        cmocka_unit_test_setup_teardown(test_adopt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_k3s, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_k3s_without_token, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_old_k3s, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_k3s, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_old_directory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_race, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
