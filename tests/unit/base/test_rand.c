// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rand.h"
#include <string.h>

static void test_uuid(void **state)
{
    char a[37], b[37];
    kl_uuid(a);
    kl_uuid(b);
    assert_int_equal(strlen(a), 36);
    assert_string_not_equal(a, b);
    for (int i = 0; i < 36; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23)
            assert_int_equal(a[i], '-');
        else
            assert_non_null(strchr("0123456789abcdef", a[i]));
    }
    assert_int_equal(a[14], '4');
    assert_non_null(strchr("89ab", a[19]));
}

static void test_name(void **state)
{
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    int seen[256] = {0};
    char s[1001];
    for (int round = 0; round < 27; round++) {
        kl_rand_name(s, 1000);
        assert_int_equal(strlen(s), 1000);
        for (int i = 0; i < 1000; i++)
            seen[(unsigned char)s[i]]++;
    }
    int total = 0;
    for (const char *c = alphabet; *c; c++) {
        // 1,000 expected; 8 standard deviations are 250.
        assert_in_range(seen[(unsigned char)*c], 750, 1250);
        total += seen[(unsigned char)*c];
    }
    assert_int_equal(total, 27000);
    s[0] = 'x';
    kl_rand_name(s, 0);
    assert_int_equal(s[0], 0);
}

static void test_bytes(void **state)
{
    // Every byte of an odd-sized area is written: in 64 rounds each is seen with both values.
    unsigned char p[37], any[37] = {0}, all[37];
    memset(all, 0xff, sizeof(all));
    for (int round = 0; round < 64; round++) {
        kl_rand_bytes(p, sizeof(p));
        for (size_t i = 0; i < sizeof(p); i++) {
            any[i] |= p[i];
            all[i] &= p[i];
        }
    }
    for (size_t i = 0; i < sizeof(p); i++) {
        assert_int_equal(any[i], 0xff);
        assert_int_equal(all[i], 0);
    }
    assert_true(kl_rand_u64() != kl_rand_u64());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uuid),
        cmocka_unit_test(test_name),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests_name("base rand", tests, NULL, NULL);
}
