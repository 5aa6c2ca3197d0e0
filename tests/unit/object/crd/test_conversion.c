// SPDX-License-Identifier: Apache-2.0
// object/crd/conversion.h against what apiextensions-apiserver made of the same answers
// (gen/conversion records it).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "object/crd/conversion.h"

static const char *vectors;

static const struct kl_value *at(const struct kl_value *v, const char *name)
{
    return kl_map_value(v, kl_str(name));
}

static struct kl_value parse(struct kl_arena *a, struct kl_str text)
{
    struct kl_value v;
    struct kl_error err = {0};
    if (kl_json_parse(a, text, NULL, &v, &err))
        fail_msg("%s: %.*s", err.msg, KL_PRI(text));
    return v;
}

static struct kl_str json(struct kl_arena *a, const struct kl_value *v)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_json_write(&b, v);
    struct kl_str s = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

// What upstream's Convert does with an answer: all objects, or the first error.
static int convert(struct kl_arena *a, const struct kl_value *line, struct kl_value *ret,
                   struct kl_error *err)
{
    bool list = kl_is_true(at(line, "list"));
    const struct kl_value *sent = at(line, "objects"), *objects;
    struct kl_conversion_ask ask = {
        .review = kl_str_eqz(kl_text(at(line, "review")), "v1") ? KL_REVIEW_V1 : KL_REVIEW_V1BETA1,
        .uid = KL_STR("{uid}"),
        .desired = KL_STR("g.example.com/v2"),
        .of = list ? KL_STR("g.example.com/v2, Kind=ThingList")
                   : KL_STR("g.example.com/v1, Kind=Thing"),
        .n = kl_len(sent),
        .list = list};
    enum kl_conversion_failure failure;
    int rc = kl_conversion_read(a, &ask, kl_text(at(line, "answer")), &objects, &failure, err);
    *ret = kl_new_array();
    assert_int_equal(rc != 0, failure != KL_CONVERSION_OK);
    for (size_t i = 0; !rc && i < kl_len(sent); i++) {
        struct kl_value now = *kl_at(objects, i);
        now.owned = 0;
        rc = kl_conversion_take(a, &ask, i, kl_at(sent, i), &now, err);
        if (!rc)
            assert_int_equal(kl_append(a, ret, now), 0);
    }
    return rc;
}

static void test_answers(void **state)
{
    FILE *f = fopen(vectors, "r");
    char *text = NULL;
    size_t cap = 0;
    int lines = 0, bad = 0;
    ssize_t n;
    (void)state;
    assert_non_null(f);
    while ((n = getline(&text, &cap, f)) > 0) {
        struct kl_arena a;
        struct kl_value got;
        struct kl_error err = {0};
        kl_arena_init(&a, 4 << 20);
        struct kl_value line = parse(&a, (struct kl_str){text, (size_t)n});
        int rc = convert(&a, &line, &got, &err);
        struct kl_str want = kl_text(at(&line, "error")), ours = rc ? kl_str(err.msg) : KL_STR("");
        lines++;
        if (!kl_str_eq(want, ours)) {
            bad++;
            print_error("line %d: %.*s\n  theirs: %.*s\n  ours:   %.*s\n", lines,
                        KL_PRI(kl_text(at(&line, "answer"))), KL_PRI(want), KL_PRI(ours));
        } else if (!rc && !kl_value_equal(at(&line, "result"), &got)) {
            bad++;
            print_error("line %d:\n  theirs: %.*s\n  ours:   %.*s\n", lines,
                        KL_PRI(json(&a, at(&line, "result"))), KL_PRI(json(&a, &got)));
        }
        kl_arena_fini(&a);
    }
    free(text);
    fclose(f);
    assert_int_equal(bad, 0);
    assert_true(lines >= 300);
}

static void test_question(void **state)
{
    struct kl_buf b;
    (void)state;
    kl_buf_init(&b, 4096);
    kl_conversion_begin(&b, KL_REVIEW_V1BETA1, KL_STR("u-1"), KL_STR("g/v2"));
    kl_buf_puts(&b, KL_STR("{}"));
    kl_conversion_end(&b);
    kl_buf_putc(&b, 0);
    assert_string_equal(b.p,
                        "{\"kind\":\"ConversionReview\",\"apiVersion\":\"apiextensions.k8s.io/"
                        "v1beta1\",\"request\":{\"uid\":\"u-1\",\"desiredAPIVersion\":\"g/v2\","
                        "\"objects\":[{}]},\"response\":{\"uid\":\"\",\"convertedObjects\":null,"
                        "\"result\":{\"metadata\":{}}}}\n");
    kl_buf_fini(&b);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_answers),
                                       cmocka_unit_test(test_question)};
    if (argc < 2)
        return 2;
    vectors = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
