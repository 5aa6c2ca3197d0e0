// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "object/names.h"

static const struct {
    enum kl_name_format format;
    struct kl_str name;
    const char *errors; // joined by "|"
} cases[] = {
#include "name_cases.inc"
};

static void upstream_messages(void **state)
{
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_name_errors errs;
        char got[2048] = "";
        size_t n = 0;
        bool valid = kl_name_check(cases[i].format, cases[i].name, &errs);
        for (size_t j = 0; j < errs.n; j++)
            n += (size_t)snprintf(got + n, sizeof(got) - n, "%s%s", j ? "|" : "", errs.msg[j]);
        if (strcmp(got, cases[i].errors) == 0 && valid == (n == 0))
            continue;
        print_error("format %d \"%.*s\": got \"%s\", upstream \"%s\"\n", cases[i].format,
                    KL_PRI(cases[i].name), got, cases[i].errors);
        bad++;
    }
    assert_int_equal(bad, 0);
}

static void joined_messages(void **state)
{
    (void)state;
    struct kl_arena a;
    kl_arena_init(&a, 0);
    assert_null(kl_name_qualified(&a, KL_STR("example.com/a")));
    const char *both = kl_name_qualified(&a, KL_STR("/"));
    assert_non_null(both);
    assert_non_null(strstr(both, "prefix part must be non-empty; name part must be non-empty; "));
    assert_string_equal(kl_name_qualified(NULL, KL_STR("/")), "prefix part must be non-empty");
    assert_null(kl_name_dns1123_label(KL_STR("a")));
    assert_string_equal(kl_name_dns1123_label(KL_STR("a.b")), "must not contain dots");
    assert_null(kl_name_label_value(KL_STR("")));
    assert_string_equal(kl_name_path_segment(KL_STR("..")), "may not be '..'");
    kl_arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(upstream_messages),
        cmocka_unit_test(joined_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
