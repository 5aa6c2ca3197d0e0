// SPDX-License-Identifier: Apache-2.0
// Keys and values that a collation, a padding rule, a text protocol or an index could get wrong:
// every back end gives etcd's answers, which go by bytes. Arguments: the back end.
#include "harness.h"
#include "store/backend.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BIG = 1572864, SQL_KEY_BYTES = 2048 };

static const char *backend;

// In byte order: the order of every list.
static const struct kl_str keys[] = {
    KL_STR_INIT("\0"),
    KL_STR_INIT("\0\0"),
    KL_STR_INIT("\0a"),
    KL_STR_INIT("\x01"),
    KL_STR_INIT("\n"),
    KL_STR_INIT("\x1a"),
    KL_STR_INIT(" "),
    KL_STR_INIT(" a"),
    KL_STR_INIT("$1"),
    KL_STR_INIT("%_"),
    KL_STR_INIT("'; DROP TABLE kine; --"),
    KL_STR_INIT("/registry/A"),
    KL_STR_INIT("/registry/a"),
    KL_STR_INIT("/registry/a\0"),
    KL_STR_INIT("/registry/a\0b"),
    KL_STR_INIT("/registry/a\t"),
    KL_STR_INIT("/registry/a "),
    KL_STR_INIT("/registry/a  "),
    KL_STR_INIT("/registry/a/"),
    KL_STR_INIT("/registry/b"),
    KL_STR_INIT("/registry/\xc3\x84"), // U+00C4
    KL_STR_INIT("/registry/\xc3\xa4"), // its small letter
    KL_STR_INIT("0"),
    KL_STR_INIT("00"),
    KL_STR_INIT("01"),
    KL_STR_INIT("1"),
    KL_STR_INIT("1.0"),
    KL_STR_INIT("1e0"),
    KL_STR_INIT("A\xcc\x88"), // the same as U+00C4 to whom normalizes
    KL_STR_INIT("NULL"),
    KL_STR_INIT("SS"),
    KL_STR_INIT("\\"),
    KL_STR_INIT("\\'"),
    KL_STR_INIT("\\0"),
    KL_STR_INIT("\\\\"),
    KL_STR_INIT("compact_rev_key"), // kine and the API server have uses for it
    KL_STR_INIT("gap-17"),
    KL_STR_INIT("ss"),
    KL_STR_INIT("\x7f"),
    KL_STR_INIT("\x80"),
    KL_STR_INIT("\xc3"),         // cut
    KL_STR_INIT("\xc3\x9f"),     // U+00DF, ss to some
    KL_STR_INIT("\xed\xa0\x80"), // a surrogate
    KL_STR_INIT("\xf0\x9f\x98\x80"),
    KL_STR_INIT("\xff"),
    KL_STR_INIT("\xff\xff"),
};

struct fix {
    struct hs_store hs;
    struct hs_client c;
};

static int setup(void **state)
{
    struct fix *f = calloc(1, sizeof(*f));
    hs_open(&f->hs, backend, NULL);
    hs_client_open(&f->c, &f->hs);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fix *f = *state;
    hs_client_close(&f->c);
    hs_close(&f->hs);
    free(f);
    return 0;
}

static void reopen(struct fix *f)
{
    if (strcmp(backend, "memory") == 0 || strcmp(backend, "shared") == 0)
        return;
    hs_client_close(&f->c);
    hs_reopen(&f->hs);
    hs_client_open(&f->c, &f->hs);
}

struct look {
    struct kl_str key, end;
    struct kl_kv *kvs[KL_COUNT(keys) + 8];
    size_t n;
};

static void do_list(struct hs_client *c, void *arg)
{
    struct look *l = arg;
    struct kl_iter it;
    kl_iter_init(&it, kl_reader_view(c->reader), l->key, l->end);
    for (struct kl_kv *kv; l->n < KL_COUNT(l->kvs) && (kv = kl_iter_next(&it));)
        l->kvs[l->n++] = kl_kv_ref(kv);
}

static void do_get(struct hs_client *c, void *arg)
{
    struct look *l = arg;
    l->kvs[0] = kl_kv_ref(kl_view_get(kl_reader_view(c->reader), l->key));
}

static struct kl_kv *get(struct hs_client *c, struct kl_str key)
{
    struct look l = {.key = key};
    hs_run(c, do_get, &l);
    return l.kvs[0];
}

static kl_rev del(struct hs_client *c, struct kl_str key)
{
    struct kl_op op = {.kind = KL_OP_DELETE, .key = key};
    struct kl_txn txn = {.body = {.then = &op, .nthen = 1}};
    kl_rev r = hs_txn(c, &txn) ? txn.code : op.count == 1 ? txn.rev : KL_ENOTFOUND;
    kl_txn_fini(&txn);
    return r;
}

static void expect_list(struct kl_kv **kvs, size_t n, kl_rev first, const char *when)
{
    if (n != KL_COUNT(keys))
        fail_msg("%s: %zu keys, expected %zu", when, n, KL_COUNT(keys));
    for (size_t i = 0; i < n; i++) {
        if (!kl_str_eq(kl_kv_key(kvs[i]), keys[i]) || !kl_str_eq(kl_kv_value(kvs[i]), keys[i]))
            fail_msg("%s: key %zu is \"%.*s\"", when, i, KL_PRI(kl_kv_key(kvs[i])));
        // They were written from the last to the first.
        assert_int_equal(kvs[i]->mod_rev, first + (kl_rev)(n - 1 - i));
        assert_int_equal(kvs[i]->version, 1);
    }
}

static void check_all(struct fix *f, kl_rev first, const char *when)
{
    struct look l = {.key = KL_STR("\0"), .end = KL_RANGE_TO_LAST};
    hs_run(&f->c, do_list, &l);
    expect_list(l.kvs, l.n, first, when);
    for (size_t i = 0; i < l.n; i++)
        kl_kv_unref(l.kvs[i]);
}

static void same_bytes(void **state)
{
    struct fix *f = *state;
    kl_rev first = 0;
    for (size_t i = KL_COUNT(keys); i-- > 0;) {
        kl_rev r = hs_put_bytes(&f->c, keys[i], keys[i], 0);
        if (r <= 0)
            fail_msg("key %zu: %lld", i, (long long)r);
        first = first ? first : r;
    }
    check_all(f, first, "written");
    reopen(f);
    check_all(f, first, "opened again");
    for (size_t i = 0; i < KL_COUNT(keys); i++)
        assert_int_equal(hs_put_bytes(&f->c, keys[i], KL_STR("x"), 0), KL_ECONFLICT);
    // One goes: only that one is gone, in the present and at its revision.
    for (size_t i = 0; i < KL_COUNT(keys); i++) {
        kl_rev gone = del(&f->c, keys[i]);
        assert_true(gone > 0);
        for (size_t k = 0; k < KL_COUNT(keys); k++) {
            struct kl_kv *kv = get(&f->c, keys[k]);
            if (!kv != (k <= i))
                fail_msg("key %zu went, key %zu is %s", i, k, kv ? "there" : "gone");
            kl_kv_unref(kv);
        }
        assert_int_equal(del(&f->c, keys[i]), KL_ENOTFOUND);
    }
    // As it was before the first went, from history: whole, in pages, and each alone.
    kl_rev whole = first + (kl_rev)KL_COUNT(keys) - 1;
    struct kl_range_at q = {
        .key = KL_STR("\0"), .end = KL_RANGE_TO_LAST, .rev = whole, .want_count = true};
    assert_int_equal(hs_range_at(&f->c, &q), 0);
    expect_list(q.kvs, q.nkvs, first, "history");
    assert_int_equal(q.count, KL_COUNT(keys));
    kl_range_at_fini(&q);
    char next[64] = {0};
    size_t n = 1, seen = 0;
    for (bool more = true; more; seen += 7) {
        q = (struct kl_range_at){
            .key = {next, n}, .end = KL_RANGE_TO_LAST, .rev = whole, .limit = 7};
        assert_int_equal(hs_range_at(&f->c, &q), 0);
        for (size_t i = 0; i < q.nkvs; i++)
            assert_true(kl_str_eq(kl_kv_key(q.kvs[i]), keys[seen + i]));
        struct kl_str last = kl_kv_key(q.kvs[q.nkvs - 1]);
        memcpy(next, last.p, last.n);
        next[last.n] = 0;
        n = last.n + 1;
        more = q.more;
        assert_true(more || seen + q.nkvs == KL_COUNT(keys));
        kl_range_at_fini(&q);
    }
    for (size_t i = 0; i < KL_COUNT(keys); i++) {
        q = (struct kl_range_at){.key = keys[i], .rev = whole};
        assert_int_equal(hs_range_at(&f->c, &q), 0);
        assert_int_equal(q.nkvs, 1);
        assert_true(kl_str_eq(kl_kv_key(q.kvs[0]), keys[i]));
        kl_range_at_fini(&q);
    }
    // And the log from its beginning, with what was there before.
    struct hs_watch w = {0};
    assert_int_equal(hs_watch_start(&w, &f->c, "/registry/a", NULL, first), 0);
    hs_watch_wait_rev(&w, hs_rev(&f->c));
    assert_int_equal(w.n, 2);
    assert_string_equal(w.ev[0].value, "/registry/a");
    assert_null(w.ev[1].value);
    assert_string_equal(w.ev[1].prev, "/registry/a");
    hs_watch_fini(&w);
}

static void long_keys(void **state)
{
    static const size_t sizes[] = {253, 630, 631, 700, 701, 767, 768, 1024, 2047, SQL_KEY_BYTES};
    struct fix *f = *state;
    size_t most = 300000, n = 0;
    char *a = malloc(most + 1);
    memset(a, 'k', most);
    // Each begins as the others do.
    for (size_t i = 0; i < KL_COUNT(sizes); i++, n++)
        assert_true(hs_put_bytes(&f->c, (struct kl_str){a, sizes[i]}, KL_STR("v"), 0) > 0);
    kl_rev r = hs_put_bytes(&f->c, (struct kl_str){a, SQL_KEY_BYTES + 1}, KL_STR("v"), 0);
    kl_rev huge = hs_put_bytes(&f->c, (struct kl_str){a, most}, KL_STR("v"), 0);
    if (hs_is_sql(backend)) {
        assert_int_equal(r, KL_ETOOLARGE);
        assert_int_equal(huge, KL_ETOOLARGE);
    } else {
        assert_true(r > 0 && huge > 0);
        n += 2;
    }
    reopen(f);
    for (size_t i = 0; i < KL_COUNT(sizes); i++) {
        struct kl_kv *kv = get(&f->c, (struct kl_str){a, sizes[i]});
        assert_non_null(kv);
        assert_int_equal(kl_kv_key(kv).n, sizes[i]);
        kl_kv_unref(kv);
    }
    assert_int_equal(hs_count(&f->c, "k", "l"), n);
    struct kl_range_at q = {.key = KL_STR("k"), .end = KL_STR("l"), .rev = hs_rev(&f->c)};
    assert_int_equal(hs_range_at(&f->c, &q), 0);
    assert_int_equal(q.nkvs, n);
    kl_range_at_fini(&q);
    free(a);
}

// What the values are made of: nothing, the worst for a text protocol, noise.
static void fill(char *p, size_t n, int kind)
{
    uint64_t seed = 88172645463325252ull + (uint64_t)kind;
    for (size_t i = 0; i < n; i++)
        p[i] = kind == 0 ? 0 : kind == 1 ? '\'' : kind == 2 ? '\\' : (char)hs_rand(&seed);
}

static void expect_bytes(struct kl_kv *kv, const char *big, size_t n)
{
    assert_non_null(kv);
    struct kl_str v = kl_kv_value(kv);
    if (v.n != n || memcmp(v.p, big, n) != 0)
        fail_msg("%s: %zu bytes, expected %zu, or others", kl_kv_key(kv).p, v.n, n);
}

static void big_values(void **state)
{
    static const size_t sizes[] = {0, 1, 255, 256, 65535, 65536, 1048576, BIG};
    struct fix *f = *state;
    char key[32], *big = malloc(BIG);
    kl_rev last = 0;
    for (int kind = 0; kind < 4; kind++) {
        for (size_t i = 0; i < KL_COUNT(sizes); i++) {
            fill(big, sizes[i], kind);
            snprintf(key, sizeof(key), "v/%d/%zu", kind, sizes[i]);
            last = hs_put_bytes(&f->c, kl_str(key), (struct kl_str){big, sizes[i]}, 0);
            assert_true(last > 0);
        }
    }
    for (int round = 0; round < 2; round++) {
        for (int kind = 0; kind < 4; kind++) {
            for (size_t i = 0; i < KL_COUNT(sizes); i++) {
                fill(big, sizes[i], kind);
                snprintf(key, sizeof(key), "v/%d/%zu", kind, sizes[i]);
                struct kl_kv *kv = hs_get(&f->c, key);
                expect_bytes(kv, big, sizes[i]);
                kl_kv_unref(kv);
                struct kl_range_at q = {.key = kl_str(key), .rev = last};
                assert_int_equal(hs_range_at(&f->c, &q), 0);
                assert_int_equal(q.nkvs, 1);
                expect_bytes(q.kvs[0], big, sizes[i]);
                kl_range_at_fini(&q);
            }
        }
        reopen(f);
    }
    free(big);
}

// 7.5 MiB in one transaction: one revision for all, one event after the other, whole.
static void big_transaction(void **state)
{
    struct fix *f = *state;
    struct kl_op ops[5];
    struct kl_bytes *b[5];
    char key[5][16];
    for (int i = 0; i < 5; i++) {
        b[i] = kl_bytes_alloc(BIG);
        fill(b[i]->p, BIG, i);
        snprintf(key[i], sizeof(key[i]), "t/%d", i);
        ops[i] = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(key[i]), .value = b[i]};
    }
    for (int round = 0; round < 2; round++) {
        struct kl_txn txn = {.body = {.then = ops, .nthen = 5}};
        assert_int_equal(hs_txn(&f->c, &txn), 0);
        for (int i = 0; i < 5; i++)
            assert_int_equal(ops[i].kv->mod_rev, txn.rev);
        kl_txn_fini(&txn);
        for (int i = 0; i < 5; i++)
            ops[i] = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(key[i]), .value = b[i]};
    }
    reopen(f);
    for (int i = 0; i < 5; i++) {
        struct kl_kv *kv = hs_get(&f->c, key[i]);
        expect_bytes(kv, b[i]->p, BIG);
        assert_int_equal(kv->version, 2);
        kl_kv_unref(kv);
    }
    struct hs_watch w = {0};
    assert_int_equal(hs_watch_start(&w, &f->c, "t/", "t0", 2), 0);
    hs_watch_wait_rev(&w, hs_rev(&f->c));
    assert_int_equal(w.n, 10);
    for (size_t i = 1; i < 10; i++)
        assert_int_equal(w.ev[i].rev == w.ev[i - 1].rev, i != 5);
    hs_watch_fini(&w);
    for (int i = 0; i < 5; i++)
        kl_bytes_unref(b[i]);
}

int main(int argc, char **argv)
{
    backend = argc > 1 ? argv[1] : "memory";
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(same_bytes),
        CASE(long_keys),
        CASE(big_values),
        CASE(big_transaction),
    };
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return cmocka_run_group_tests_name(backend, tests, NULL, NULL);
}
