// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"

static void test_append(void **state)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    assert_true(kl_str_eqz(kl_buf_str(&b), ""));
    for (int i = 0; i < 10000; i++) {
        assert_int_equal(kl_buf_putc(&b, (char)('a' + i % 26)), 0);
        assert_int_equal(kl_buf_puts(&b, KL_STR("xyz")), 0);
    }
    assert_int_equal(b.n, 40000);
    for (int i = 0; i < 10000; i++) {
        assert_int_equal(b.p[i * 4], 'a' + i % 26);
        assert_memory_equal(b.p + i * 4 + 1, "xyz", 3);
    }
    kl_buf_consume(&b, 4);
    assert_int_equal(b.n, 39996);
    assert_memory_equal(b.p, "bxyzcxyz", 8);
    kl_buf_consume(&b, SIZE_MAX);
    assert_int_equal(b.n, 0);
    kl_buf_fini(&b);
    assert_null(b.p);
}

static void test_limit(void **state)
{
    struct kl_buf b;
    kl_buf_init(&b, 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(kl_buf_putc(&b, 'x'), 0);
    assert_int_equal(b.cap, 100);
    assert_int_equal(kl_buf_putc(&b, 'x'), KL_ELIMIT);
    assert_int_equal(b.n, 100);
    // The failure sticks, although there is room again.
    kl_buf_consume(&b, 50);
    assert_int_equal(kl_buf_append(&b, "y", 1), KL_ELIMIT);
    assert_int_equal(kl_buf_putc(&b, 'y'), KL_ELIMIT);
    assert_int_equal(kl_buf_printf(&b, "y"), KL_ELIMIT);
    assert_int_equal(b.n, 50);
    kl_buf_clear(&b);
    assert_int_equal(b.err, 0);
    assert_int_equal(kl_buf_append(&b, "y", 1), 0);
    assert_int_equal(kl_buf_reserve(&b, SIZE_MAX), KL_ELIMIT);
    kl_buf_fini(&b);
}

static void test_printf(void **state)
{
    struct kl_buf b;
    // Every length around the stack buffer, with room to spare and with none.
    for (int n = 250; n < 262; n++) {
        for (int spare = -1; spare < 2; spare++) {
            kl_buf_init(&b, (size_t)(n + spare));
            int r = kl_buf_printf(&b, "%*d", n, 5);
            assert_int_equal(r, spare < 0 ? KL_ELIMIT : 0);
            assert_int_equal(b.n, spare < 0 ? 0 : n);
            if (spare >= 0)
                assert_int_equal(b.p[n - 1], '5');
            kl_buf_fini(&b);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_printf),
    };
    return cmocka_run_group_tests_name("base buf", tests, NULL, NULL);
}
