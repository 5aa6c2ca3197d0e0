// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/map.h"
#include <stdio.h>
#include <stdlib.h>

static struct kl_str number(char *buf, size_t size, unsigned i)
{
    return (struct kl_str){buf, (size_t)snprintf(buf, size, "key-%u", i)};
}

static void test_basic(void **state)
{
    struct kl_map m;
    kl_map_init(&m);
    int a, b;
    void *old = &b;
    assert_null(kl_map_get(&m, KL_STR("x")));
    assert_null(kl_map_del(&m, KL_STR("x")));
    assert_int_equal(kl_map_set(&m, KL_STR("x"), &a, &old), 0);
    assert_null(old);
    assert_int_equal(kl_map_set(&m, KL_STR("x"), &b, &old), 0);
    assert_ptr_equal(old, &a);
    assert_ptr_equal(kl_map_get(&m, KL_STR("x")), &b);
    assert_int_equal(m.n, 1);
    assert_int_equal(kl_map_set(&m, KL_STR(""), &a, NULL), 0);
    assert_int_equal(kl_map_set(&m, KL_STR("x\0y"), &a, NULL), 0);
    assert_int_equal(m.n, 3);
    assert_ptr_equal(kl_map_del(&m, KL_STR("x")), &b);
    assert_null(kl_map_get(&m, KL_STR("x")));
    assert_ptr_equal(kl_map_get(&m, KL_STR("")), &a);
    assert_ptr_equal(kl_map_get(&m, KL_STR("x\0y")), &a);
    kl_map_fini(&m);
    kl_map_fini(&m); // and again does nothing
}

// Against an array as the model: 200,000 random steps over 2,000 keys.
static void test_model(void **state)
{
    enum { KEYS = 2000 };
    static void *model[KEYS];
    struct kl_map m;
    kl_map_init(&m);
    uint64_t x = 88172645463325252u; // xorshift, the same sequence each time
    size_t live = 0;
    for (int step = 0; step < 200000; step++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        unsigned k = (unsigned)(x >> 8) % KEYS;
        // Grows in one half of the run and shrinks in the other.
        unsigned del_of_8 = step / 50000 % 2 ? 6 : 2;
        char buf[32];
        struct kl_str key = number(buf, sizeof(buf), k);
        assert_ptr_equal(kl_map_get(&m, key), model[k]);
        if (x % 8 < del_of_8) {
            assert_ptr_equal(kl_map_del(&m, key), model[k]);
            live -= model[k] != NULL;
            model[k] = NULL;
        } else {
            void *old = &m, *value = (void *)(uintptr_t)(step + 1);
            assert_int_equal(kl_map_set(&m, key, value, &old), 0);
            assert_ptr_equal(old, model[k]);
            live += model[k] == NULL;
            model[k] = value;
        }
        assert_int_equal(m.n, live);
        assert_true(m.used >= m.n && m.used <= m.cap / 4 * 3);
    }
    size_t seen = 0;
    KL_MAP_EACH (&m, e) {
        int64_t k = atoll(e->key.p + 4);
        assert_ptr_equal(e->value, model[k]);
        seen++;
    }
    assert_int_equal(seen, live);
    kl_map_fini(&m);
}

static void test_walk_and_delete(void **state)
{
    struct kl_map m;
    kl_map_init(&m);
    char buf[32];
    static char seen[1000];
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(kl_map_set(&m, number(buf, sizeof(buf), i), &m, NULL), 0);
    KL_MAP_EACH (&m, e) {
        int64_t i = atoll(e->key.p + 4);
        seen[i]++;
        if (i % 3)
            assert_ptr_equal(kl_map_del(&m, e->key), &m);
    }
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(seen[i], 1);
        assert_int_equal(kl_map_get(&m, number(buf, sizeof(buf), i)) != NULL, i % 3 == 0);
    }
    assert_int_equal(m.n, 334);
    KL_MAP_EACH (&m, e)
        kl_map_del(&m, e->key);
    assert_int_equal(m.n, 0);
    // break leaves the whole walk
    int turns = 0;
    for (unsigned i = 0; i < 10; i++)
        kl_map_set(&m, number(buf, sizeof(buf), i), &m, NULL);
    KL_MAP_EACH (&m, e) {
        turns++;
        break;
    }
    assert_int_equal(turns, 1);
    kl_map_fini(&m);
}

// A queue of keys, each added once and deleted once, must not grow the table.
static void test_churn(void **state)
{
    struct kl_map m;
    kl_map_init(&m);
    char buf[32];
    for (unsigned i = 0; i < 100000; i++) {
        kl_map_set(&m, number(buf, sizeof(buf), i), &m, NULL);
        if (i >= 100)
            assert_ptr_equal(kl_map_del(&m, number(buf, sizeof(buf), i - 100)), &m);
    }
    assert_int_equal(m.n, 100);
    assert_true(m.cap <= 512);
    kl_map_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basic),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_walk_and_delete),
        cmocka_unit_test(test_churn),
    };
    return cmocka_run_group_tests_name("base map", tests, NULL, NULL);
}
