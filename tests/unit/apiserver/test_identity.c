// SPDX-License-Identifier: Apache-2.0
// The cluster's identity in the datastore: made once, adopted by the others, refused to the rest.
#include "apiserver/identity.h"
#include "apiserver/seal.h"
#include "store/store.h"
#include <ftw.h>
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
        cmocka_unit_test_setup_teardown(test_old_directory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_race, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
