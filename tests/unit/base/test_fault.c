// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/fault.h"
#include <stdio.h>

static const char *run(int n)
{
    static char hits[64];
    int i = 0;
    for (; i < n; i++)
        hits[i] = kl_fault_point("test.site") ? 'X' : '.';
    hits[i] = 0;
    return hits;
}

static void test_countdown(void **state)
{
    assert_true(kl_fault_built());
    assert_string_equal(run(3), "...");
    assert_int_equal(kl_fault_calls("test.site"), 0);
    kl_fault_set("test.site", 3, 1);
    assert_string_equal(run(6), "..X...");
    kl_fault_set("test.site", 1, 2);
    assert_string_equal(run(4), "XX..");
    assert_int_equal(kl_fault_calls("test.site"), 4);
    assert_int_equal(kl_fault_hits("test.site"), 2);
    kl_fault_set("test.site", 2, -1);
    assert_string_equal(run(5), ".XXXX");
    kl_fault_set("test.site", 0, 0);
    assert_string_equal(run(3), "...");
    assert_int_equal(kl_fault_calls("test.site"), 3);
    assert_false(kl_fault_point("test.other"));
    kl_fault_set("test.site", 1, -1);
    kl_fault_clear();
    assert_string_equal(run(3), "...");
}

static void test_sites_are_apart(void **state)
{
    kl_fault_set("a", 1, 1);
    kl_fault_set("b", 2, 1);
    assert_false(kl_fault_point("b"));
    assert_true(kl_fault_point("a"));
    assert_true(kl_fault_point("b"));
    assert_int_equal(kl_fault_hits("a"), 1);
    kl_fault_clear();
    // All 32 can be used again and again.
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 32; i++) {
            char name[32];
            snprintf(name, sizeof(name), "site-%d", i);
            kl_fault_set(name, 1, 1);
            assert_true(kl_fault_point(name));
        }
        kl_fault_clear();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_countdown),
        cmocka_unit_test(test_sites_are_apart),
    };
    return cmocka_run_group_tests_name("base fault", tests, NULL, NULL);
}
