// SPDX-License-Identifier: Apache-2.0
// Version 3 documents made of version 2 as openapiconv makes them: upgrade_vectors.txt has what it
// makes of its test data and of odd documents (upgrade_vectors/).
#include "apiserver/openapi/openapi_int.h"
#include "object/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *vectors;

static struct kl_str text_of(struct kl_buf *b, const struct kl_value *v)
{
    kl_buf_init(b, 16 << 20);
    kl_json_write(b, v);
    return kl_buf_str(b);
}

static void write_out(struct kl_upgraded *u, bool protobuf, struct kl_buf *out)
{
    struct kl_oa_upgraded *x = kl_oa_upgraded_new(kl_upgraded_ref(u), protobuf);
    int rc = 1;
    assert_non_null(x);
    kl_buf_init(out, 64 << 20);
    while (rc > 0) {
        struct kl_buf piece;
        kl_buf_init(&piece, 64 << 20);
        rc = kl_oa_upgraded_next(x, &piece);
        kl_buf_puts(out, kl_buf_str(&piece));
        kl_buf_fini(&piece);
    }
    assert_int_equal(rc, 0);
    kl_oa_upgraded_free(x);
}

static void check(struct kl_str name, struct kl_upgraded *u, const struct kl_value *want)
{
    struct kl_strict strict = {0};
    struct kl_error err = {0};
    struct kl_value got;
    struct kl_buf b, proto, w;
    struct kl_arena a;
    unsigned char sums[2][KL_REMOTE_SUM];
    kl_arena_init(&a, 64 << 20);
    write_out(u, false, &b);
    if (kl_json_parse(&a, kl_buf_str(&b), &strict, &got, &err))
        fail_msg("%.*s: %s in %.*s", KL_PRI(name), err.msg, (int)b.n, b.p);
    assert_true(kl_remote_sum(&got, sums[0]));
    assert_true(kl_remote_sum(want, sums[1]));
    if (memcmp(sums[0], sums[1], KL_REMOTE_SUM)) {
        struct kl_str text = text_of(&w, want);
        fail_msg("%.*s:\n got %.*s\nwant %.*s", KL_PRI(name), (int)b.n, b.p, KL_PRI(text));
    }
    write_out(u, true, &proto); // each member is a message of its own
    assert_true(proto.n > 0);
    kl_buf_fini(&proto);
    kl_buf_fini(&b);
    kl_arena_fini(&a);
}

static void test_vectors(void **state)
{
    char *line = NULL;
    size_t cap = 0, cases = 0, refused = 0;
    FILE *f = fopen(vectors, "r");
    (void)state;
    assert_non_null(f);
    for (ssize_t n; (n = getline(&line, &cap, f)) > 0; cases++) {
        struct kl_arena a;
        struct kl_value v;
        struct kl_error err = {0};
        struct kl_buf text;
        struct kl_upgraded *u = NULL;
        kl_arena_init(&a, 64 << 20);
        assert_int_equal(kl_json_parse(&a, (struct kl_str){line, (size_t)n}, NULL, &v, &err), 0);
        struct kl_str name = kl_text(kl_map_value(&v, KL_STR("name")));
        const struct kl_value *want = kl_map_value(&v, KL_STR("v3"));
        int rc = kl_upgraded_new(text_of(&text, kl_map_value(&v, KL_STR("v2"))), &u, &err);
        if (rc != (want ? 0 : KL_EINVALID))
            fail_msg("%.*s: %d %s of %.*s", KL_PRI(name), rc, err.msg, (int)text.n, text.p);
        if (want)
            check(name, u, want);
        refused += !want;
        kl_upgraded_unref(u);
        kl_buf_fini(&text);
        kl_arena_fini(&a);
    }
    assert_int_equal(cases, 77);
    assert_int_equal(refused, 12);
    free(line);
    fclose(f);
}

static void test_hash(void **state)
{
    static const char *const texts[] = {"{\"swagger\":\"2.0\",\"definitions\":{\"A\":{}}}",
                                        "{\"definitions\":{\"A\":{}}}",
                                        "{\"swagger\":\"2.0\",\"definitions\":{\"B\":{}}}"};
    struct kl_upgraded *u[KL_COUNT(texts)];
    struct kl_error err = {0};
    (void)state;
    for (size_t i = 0; i < KL_COUNT(texts); i++)
        assert_int_equal(kl_upgraded_new(kl_str(texts[i]), &u[i], &err), 0);
    assert_int_equal(u[0]->hash->n, 128);
    assert_memory_equal(u[0]->hash->p, u[1]->hash->p, 128); // the same document
    assert_true(memcmp(u[0]->hash->p, u[2]->hash->p, 128) != 0);
    for (size_t i = 0; i < KL_COUNT(texts); i++)
        kl_upgraded_unref(u[i]);
}

static void test_refused(void **state)
{
    static const char *const texts[] = {"", "[]", "{\"swagger\":\"2.0\""};
    struct kl_upgraded *u;
    struct kl_error err;
    struct kl_buf deep;
    (void)state;
    for (size_t i = 0; i < KL_COUNT(texts); i++)
        assert_true(kl_upgraded_new(kl_str(texts[i]), &u, &err) < 0);
    kl_buf_init(&deep, 1 << 20);
    for (int i = 0; i < KL_REMOTE_MAX_DEPTH + 1; i++)
        kl_buf_puts(&deep, KL_STR("{\"definitions\":"));
    kl_buf_puts(&deep, KL_STR("1"));
    for (int i = 0; i < KL_REMOTE_MAX_DEPTH + 1; i++)
        kl_buf_putc(&deep, '}');
    assert_int_equal(kl_upgraded_new(kl_buf_str(&deep), &u, &err), KL_EINVALID);
    kl_buf_fini(&deep);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_refused),
    };
    if (argc != 2)
        return 2;
    vectors = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
