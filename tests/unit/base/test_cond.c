// SPDX-License-Identifier: Apache-2.0
#include "base/cond.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static int64_t ns(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// A deadline is on the condition's clock and carries into the seconds.
static void test_until(void **state)
{
    (void)state;
    static const int64_t spans[] = {-5, 0, 1, 999, 1000, 61999};
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        struct timespec before, after, t;
        int64_t span = (spans[i] < 0 ? 0 : spans[i]) * 1000000;
        clock_gettime(CLOCK_MONOTONIC, &before);
        t = kl_cond_until(spans[i]);
        clock_gettime(CLOCK_MONOTONIC, &after);
        assert_in_range(t.tv_nsec, 0, 999999999);
        assert_true(ns(t) >= ns(before) + span && ns(t) <= ns(after) + span);
    }
}

// A wait that counted by another clock would end at once (or never).
static void test_wait(void **state)
{
    (void)state;
    pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t c;
    struct timespec until = kl_cond_until(30), now;
    kl_cond_init(&c);
    pthread_mutex_lock(&mu);
    int rc;
    while (!(rc = pthread_cond_timedwait(&c, &mu, &until)))
        ;
    pthread_mutex_unlock(&mu);
    clock_gettime(CLOCK_MONOTONIC, &now);
    assert_int_equal(rc, ETIMEDOUT);
    assert_true(ns(now) >= ns(until));
    pthread_cond_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_until), cmocka_unit_test(test_wait)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
