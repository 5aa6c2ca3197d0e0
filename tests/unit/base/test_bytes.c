// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/err.h"
#include <pthread.h>

static void test_make(void **state)
{
    struct kl_bytes *b = kl_bytes_new(KL_STR("hello"));
    assert_true(kl_str_eqz(kl_bytes_str(b), "hello"));
    assert_ptr_equal(kl_bytes_ref(b), b);
    assert_int_equal(atomic_load(&b->refs), 2);
    kl_bytes_unref(b);
    kl_bytes_unref(b);
    assert_null(kl_bytes_ref(NULL));
    kl_bytes_unref(NULL);
    assert_true(kl_str_eqz(kl_bytes_str(NULL), ""));
    assert_null(kl_bytes_alloc((size_t)UINT32_MAX + 1));

    struct kl_buf buf;
    kl_buf_init(&buf, 3);
    kl_buf_puts(&buf, KL_STR("abc"));
    b = kl_bytes_from_buf(&buf);
    assert_true(kl_str_eqz(kl_bytes_str(b), "abc"));
    kl_bytes_unref(b);
    assert_int_equal(kl_buf_putc(&buf, 'd'), KL_ELIMIT);
    assert_null(kl_bytes_from_buf(&buf));
    kl_buf_fini(&buf);
}

static void *reader(void *arg)
{
    struct kl_bytes *b = arg;
    uintptr_t bad = 0;
    for (int i = 0; i < 10000; i++) {
        struct kl_bytes *mine = kl_bytes_ref(b);
        bad += !kl_str_eqz(kl_bytes_str(mine), "shared");
        kl_bytes_unref(mine);
    }
    kl_bytes_unref(b); // the reference it was given; the last of these frees
    return (void *)bad;
}

static void test_threads(void **state)
{
    enum { THREADS = 4 };
    pthread_t t[THREADS];
    struct kl_bytes *b = kl_bytes_new(KL_STR("shared"));
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, reader, kl_bytes_ref(b)), 0);
    kl_bytes_unref(b);
    for (int i = 0; i < THREADS; i++) {
        void *bad;
        pthread_join(t[i], &bad);
        assert_null(bad);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_make),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("base bytes", tests, NULL, NULL);
}
