// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/str_int.h"

static void test_trim_and_compare(void **state)
{
    assert_true(kl_str_eqz(kl_str_trim(KL_STR(" \t\r\n a b \n")), "a b"));
    assert_int_equal(kl_str_trim(KL_STR(" \n\t ")).n, 0);
    assert_true(kl_str_ieq(KL_STR("Content-TYPE"), KL_STR("content-type")));
    assert_false(kl_str_ieq(KL_STR("a["), KL_STR("a{"))); // differ in bit 5 only
    assert_false(kl_str_ieq(KL_STR("a"), KL_STR("ab")));
    assert_true(kl_str_cmp(KL_STR("a"), KL_STR("ab")) < 0);
    assert_true(kl_str_cmp(KL_STR("a\x80"), KL_STR("a\x7f")) > 0);
    assert_int_equal(kl_str_cmp(KL_STR(""), (struct kl_str){NULL, 0}), 0);
}

static void check_split(const char *in, char sep, const char *const *want)
{
    struct kl_str rest = kl_str(in), part;
    for (; *want; want++) {
        assert_true(kl_str_split(&rest, sep, &part));
        if (!kl_str_eqz(part, *want))
            fail_msg("split %s: got %.*s, want %s", in, KL_PRI(part), *want);
    }
    assert_false(kl_str_split(&rest, sep, &part));
    assert_null(rest.p);
}

static void test_split(void **state)
{
    check_split("a,b,c", ',', (const char *const[]){"a", "b", "c", NULL});
    check_split("", ',', (const char *const[]){"", NULL});
    check_split(",", ',', (const char *const[]){"", "", NULL});
    check_split("a,,b,", ',', (const char *const[]){"a", "", "b", "", NULL});
}

static void test_numbers(void **state)
{
    int64_t i = 7;
    uint64_t u = 7;
    assert_true(kl_str_to_i64(KL_STR("-9223372036854775808"), &i) && i == INT64_MIN);
    assert_true(kl_str_to_i64(KL_STR("9223372036854775807"), &i) && i == INT64_MAX);
    assert_true(kl_str_to_u64(KL_STR("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_true(kl_str_to_i64(KL_STR("-0"), &i) && i == 0);
    assert_true(kl_str_to_i64(KL_STR("007"), &i) && i == 7);
    static const char *const bad[] = {"",
                                      "-",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1x",
                                      "--1",
                                      "0x1",
                                      "9223372036854775808",
                                      "-9223372036854775809",
                                      "99999999999999999999999"};
    for (size_t k = 0; k < KL_COUNT(bad); k++) {
        i = 42;
        if (kl_str_to_i64(kl_str(bad[k]), &i) || i != 42)
            fail_msg("'%s' was taken as %lld", bad[k], (long long)i);
    }
    assert_false(kl_str_to_u64(KL_STR("18446744073709551616"), &u));
    assert_false(kl_str_to_u64(KL_STR("-1"), &u));
}

static void test_utf8(void **state)
{
    static const char *const good[] = {
        "",
        "plain ascii, longer than eight bytes",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "12345678\xe2\x82\xac",
    };
    static const char *const bad[] = {
        "\x80",
        "\xc0\x80",
        "\xc1\xbf",
        "\xe0\x9f\xbf",
        "\xed\xa0\x80",
        "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xff",
        "\xe2\x82",
        "\xe2\x28\xa1",
        "\xf0\x9f\x98",
        "12345678\xe2\x82",
        "1234567\xff",
        "\xc3",
    };
    for (size_t i = 0; i < KL_COUNT(good); i++) {
        if (!kl_utf8_valid(kl_str(good[i])))
            fail_msg("good[%zu] was refused", i);
    }
    for (size_t i = 0; i < KL_COUNT(bad); i++) {
        if (kl_utf8_valid(kl_str(bad[i])))
            fail_msg("bad[%zu] was taken", i);
    }
    assert_true(kl_utf8_valid(KL_STR("a\0b")));
}

// SipHash-1-3 of 00, 00 01, 00 01 02 ... under the key 0, as CPython 3.11 computes
// hash(bytes(range(n))) with PYTHONHASHSEED=0.
static void test_siphash(void **state)
{
    static const uint64_t want[] = {
        0x68a914128e01e473, 0x010bac45c41e3669, 0x4d4c9a4a8ef6e0ad, 0x7cc43f98813e4dbd,
        0x5abe2169dff36275, 0xe3c25f87624f1cdb, 0x2f098ab0c751325a, 0xead411e67ebe2eea,
        0x75927f9d95124362, 0xaf9f77a65ab51a1d, 0xfe64ce8b6617fcff, 0xa6baf4fb0f9fe1c2,
        0xa0cf3211850f8e0d, 0x7f86049379fbfe67, 0xf30eb725bb91c9ea, 0x8972188433a5c5b7,
        0x4883c49a2c009c1d, 0xadc2c0b63044067d, 0x091f4a3329f87d19, 0x639e355ae68c0100,
    };
    static const uint64_t key[2] = {0, 0};
    char in[64];
    for (size_t i = 0; i < KL_COUNT(want); i++) {
        in[i] = (char)i;
        uint64_t got = kl_siphash13(key, (struct kl_str){in, i + 1});
        if (got != want[i])
            fail_msg("%zu bytes: got %016llx, want %016llx", i + 1, (unsigned long long)got,
                     (unsigned long long)want[i]);
    }
}

static void test_hash(void **state)
{
    assert_true(kl_str_hash(KL_STR("abc")) == kl_str_hash((struct kl_str){"abcd", 3}));
    assert_true(kl_str_hash(KL_STR("abc")) != kl_str_hash(KL_STR("abd")));
    assert_true(kl_str_hash(KL_STR("")) == kl_str_hash((struct kl_str){NULL, 0}));
    assert_true(kl_str_hash(KL_STR("")) != kl_siphash13((uint64_t[2]){0, 0}, KL_STR("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trim_and_compare), cmocka_unit_test(test_split),
        cmocka_unit_test(test_numbers),          cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_siphash),          cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests_name("base str", tests, NULL, NULL);
}
