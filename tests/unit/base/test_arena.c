// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/arena_wipe.h"
#include <stdlib.h>

static void test_alloc(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    assert_null(a.chunk); // nothing before the first use
    unsigned char *all[3000];
    size_t sizes[3000];
    for (size_t i = 0; i < KL_COUNT(all); i++) {
        sizes[i] = i % 7 == 0 ? 0 : i % 501 == 0 ? 100000 + i : (i * 37) % 900;
        all[i] = kl_arena_alloc(&a, sizes[i]);
        assert_non_null(all[i]);
        assert_int_equal((uintptr_t)all[i] % 16, 0);
        memset(all[i], (int)(i & 0xff), sizes[i]);
    }
    for (size_t i = 0; i < KL_COUNT(all); i++) { // no two overlap
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(all[i][k], i & 0xff);
    }
    kl_arena_fini(&a);
    assert_null(a.chunk);
}

static void test_zalloc_and_reset(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    char *first = kl_arena_alloc(&a, 100);
    memset(first, 0xff, 100);
    for (int i = 0; i < 100; i++)
        assert_non_null(kl_arena_alloc(&a, 20000));
    kl_arena_reset(&a);
    assert_int_equal(a.used_bytes, 0);
    char *again = kl_arena_zalloc(&a, 100);
    assert_ptr_equal(again, first); // the first chunk stays
    for (int i = 0; i < 100; i++)
        assert_int_equal(again[i], 0);
    kl_arena_fini(&a);

    // A first chunk that is a big allocation's own is not kept.
    kl_arena_init(&a, 0);
    assert_non_null(kl_arena_alloc(&a, 1 << 20));
    kl_arena_reset(&a);
    assert_null(a.chunk);
    assert_non_null(kl_arena_alloc(&a, 8));
    kl_arena_fini(&a);
}

static void test_wipe(void **state)
{
    struct kl_arena a;
    char *p[8];
    kl_arena_init(&a, 0);
    for (size_t i = 0; i < KL_COUNT(p); i++) // chunks of all sizes, and big ones of their own
        memset(p[i] = kl_arena_alloc(&a, 100 << (2 * i)), 's', 100 << (2 * i));
    kl_arena_wipe(&a);
    for (size_t i = 0; i < KL_COUNT(p); i++)
        for (size_t k = 0; k < (size_t)100 << (2 * i); k++)
            assert_int_equal(p[i][k], 0);
    kl_arena_fini(&a);
    kl_arena_wipe(&a); // has nothing
}

static void test_bound(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 1000);
    assert_non_null(kl_arena_alloc(&a, 600));
    assert_null(kl_arena_alloc(&a, 401));
    assert_non_null(kl_arena_alloc(&a, 400));
    assert_null(kl_arena_alloc(&a, 1));
    assert_null(kl_arena_alloc(&a, SIZE_MAX));
    assert_null(kl_arena_dup(&a, KL_STR("x")).p);
    assert_null(kl_arena_printf(&a, "%d", 1).p);
    kl_arena_reset(&a);
    assert_non_null(kl_arena_alloc(&a, 1000));
    kl_arena_fini(&a);
}

static void test_strings(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    struct kl_str s = kl_arena_dup(&a, (struct kl_str){"abcdef", 3});
    assert_int_equal(s.n, 3);
    assert_string_equal(s.p, "abc");
    s = kl_arena_dup(&a, (struct kl_str){NULL, 0});
    assert_string_equal(s.p, "");
    s = kl_arena_printf(&a, "%s-%05d", "pod", 42);
    assert_string_equal(s.p, "pod-00042");
    assert_int_equal(s.n, 9);
    for (int n = 250; n < 260; n++) { // around the size of the stack buffer
        s = kl_arena_printf(&a, "%*d", n, 7);
        assert_int_equal(s.n, n);
        assert_int_equal(strlen(s.p), n);
        assert_int_equal(s.p[n - 1], '7');
    }
    kl_arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc),   cmocka_unit_test(test_zalloc_and_reset),
        cmocka_unit_test(test_wipe),    cmocka_unit_test(test_bound),
        cmocka_unit_test(test_strings),
    };
    return cmocka_run_group_tests_name("base arena", tests, NULL, NULL);
}
