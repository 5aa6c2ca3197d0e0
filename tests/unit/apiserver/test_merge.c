// SPDX-License-Identifier: Apache-2.0
// Documents of aggregated servers as kube-openapi's aggregator merges them: merge_vectors.txt has
// what it makes of random ones (merge_vectors/).
#include "apiserver/openapi/openapi_int.h"
#include "object/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *vectors;

static const struct kl_value *member(const struct kl_value *v, const char *name)
{
    return kl_map_value(v, kl_str(name));
}

static struct kl_oa_merge *read_docs(const struct kl_value *list)
{
    struct kl_remote_doc *docs[8];
    size_t n = 0;
    for (KL_EACH(x, list)) {
        struct kl_error err = {0};
        struct kl_buf text;
        char group[64];
        kl_buf_init(&text, 1 << 20);
        kl_json_write(&text, member(x, "text"));
        snprintf(group, sizeof group, "%.*s", KL_PRI(kl_text(member(x, "group"))));
        assert_true(n < KL_COUNT(docs));
        assert_int_equal(kl_remote_doc_new(kl_buf_str(&text), group, "v1", &docs[n], &err), 0);
        assert_string_equal(docs[n]->group, group);
        n++;
        kl_buf_fini(&text);
    }
    return kl_oa_merge_of(docs, n);
}

// One part of what comes out; members by name must be there once.
static void put_part(struct kl_buf *out, struct kl_oa_merge *m, enum kl_remote_part part)
{
    struct kl_arena a;
    struct kl_buf text;
    struct kl_str name;
    int rc;
    kl_arena_init(&a, 1 << 24);
    kl_buf_init(&text, 1 << 20);
    kl_buf_putc(out, '{');
    for (bool first = true; (rc = kl_oa_merge_next(m, part, &a, &text, &name)) > 0; first = false) {
        if (part == KL_REMOTE_DEFINITIONS)
            assert_int_equal(kl_oa_merge_kinds(m, &a, name, &text), 0);
        kl_buf_puts(out, first ? KL_STR("") : KL_STR(","));
        kl_buf_puts(out, kl_buf_str(&text));
        kl_buf_clear(&text);
        kl_arena_reset(&a);
    }
    assert_int_equal(rc, 0);
    kl_buf_putc(out, '}');
    kl_buf_fini(&text);
    kl_arena_fini(&a);
}

static void check_part(struct kl_oa_merge *m, enum kl_remote_part part, const struct kl_value *want)
{
    static const struct kl_value none = {.kind = KL_MAP};
    struct kl_strict strict = {0};
    struct kl_error err = {0};
    struct kl_value got;
    struct kl_arena a;
    struct kl_buf b;
    kl_arena_init(&a, 1 << 24);
    kl_buf_init(&b, 1 << 20);
    put_part(&b, m, part);
    assert_int_equal(kl_json_parse(&a, kl_buf_str(&b), &strict, &got, &err), 0);
    unsigned char sums[2][KL_REMOTE_SUM];
    assert_true(kl_remote_sum(&got, sums[0]));
    assert_true(kl_remote_sum(kl_is(want, KL_MAP) ? want : &none, sums[1]));
    if (memcmp(sums[0], sums[1], KL_REMOTE_SUM)) {
        struct kl_buf w;
        kl_buf_init(&w, 1 << 20);
        kl_json_write(&w, want);
        print_error("part %d\n got %.*s\nwant %.*s\n", part, (int)b.n, b.p, (int)w.n, w.p);
        fail();
    }
    kl_buf_fini(&b);
    kl_arena_fini(&a);
}

static void test_vectors(void **state)
{
    struct kl_oa_own own = {0};
    char *line = NULL;
    size_t cap = 0, cases = 0;
    FILE *f = fopen(vectors, "r");
    (void)state;
    assert_non_null(f);
    for (ssize_t n; (n = getline(&line, &cap, f)) > 0; cases++) {
        struct kl_arena a;
        struct kl_value v;
        struct kl_error err = {0};
        kl_arena_init(&a, 1 << 24);
        assert_int_equal(kl_json_parse(&a, (struct kl_str){line, (size_t)n}, NULL, &v, &err), 0);
        struct kl_oa_merge *m = read_docs(member(&v, "docs"));
        const struct kl_value *want = member(&v, "merged");
        assert_int_equal(kl_oa_merge_plan(m, &own), 0);
        check_part(m, KL_REMOTE_PATHS, member(want, "paths"));
        check_part(m, KL_REMOTE_DEFINITIONS, member(want, "definitions"));
        check_part(m, KL_REMOTE_PARAMETERS, member(want, "parameters"));
        kl_oa_merge_free(m);
        kl_arena_fini(&a);
    }
    assert_int_equal(cases, 90);
    free(line);
    fclose(f);
}

static void test_refused(void **state)
{
    static const char *const texts[] = {"", "[]", "{\"swagger\":\"3.0\"}", "{\"swagger\":\"2.0\""};
    struct kl_remote_doc *d;
    struct kl_error err;
    struct kl_buf deep;
    (void)state;
    for (size_t i = 0; i < KL_COUNT(texts); i++)
        assert_true(kl_remote_doc_new(kl_str(texts[i]), "g", "v1", &d, &err) < 0);
    kl_buf_init(&deep, 1 << 20);
    kl_buf_puts(&deep, KL_STR("{\"swagger\":\"2.0\",\"definitions\":"));
    for (int i = 0; i < KL_REMOTE_MAX_DEPTH; i++)
        kl_buf_puts(&deep, KL_STR("{\"a\":"));
    kl_buf_puts(&deep, KL_STR("1"));
    for (int i = 0; i < KL_REMOTE_MAX_DEPTH; i++)
        kl_buf_putc(&deep, '}');
    kl_buf_putc(&deep, '}');
    assert_int_equal(kl_remote_doc_new(kl_buf_str(&deep), "g", "v1", &d, &err), KL_EINVALID);
    kl_buf_fini(&deep);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_refused),
    };
    if (argc != 2)
        return 2;
    vectors = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
