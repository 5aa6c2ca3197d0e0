// SPDX-License-Identifier: Apache-2.0
#include "client/workqueue.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

static struct kl_timers *ts;
static struct kl_workqueue *q;
static int ready;

static void on_ready(void *arg)
{
    ready++;
}

static int set_up(void **state)
{
    ready = 0;
    ts = kl_timers_new_virtual(0);
    q = kl_workqueue_new(ts, on_ready, NULL);
    return 0;
}

static int tear_down(void **state)
{
    kl_workqueue_free(q);
    kl_timers_free(ts);
    return 0;
}

static void expect(const char *key)
{
    struct kl_str got;
    assert_true(kl_workqueue_get(q, &got));
    assert_int_equal(got.n, strlen(key));
    assert_memory_equal(got.p, key, got.n);
}

static void expect_none(void)
{
    struct kl_str got;
    assert_false(kl_workqueue_get(q, &got));
}

static void a_key_waits_once(void **state)
{
    kl_workqueue_add(q, KL_STR("a"));
    kl_workqueue_add(q, KL_STR("b"));
    kl_workqueue_add(q, KL_STR("a"));
    assert_int_equal(kl_workqueue_len(q), 2);
    assert_int_equal(ready, 2);
    expect("a");
    expect("b");
    expect_none();
}

static void a_key_added_in_work_comes_again_when_done(void **state)
{
    kl_workqueue_add(q, KL_STR("a"));
    expect("a");
    kl_workqueue_add(q, KL_STR("a"));
    kl_workqueue_add(q, KL_STR("a"));
    expect_none();
    kl_workqueue_done(q, KL_STR("a"));
    expect("a");
    kl_workqueue_done(q, KL_STR("a"));
    expect_none();
}

static void the_earliest_delay_counts(void **state)
{
    kl_workqueue_add_after(q, KL_STR("a"), 1000);
    kl_workqueue_add_after(q, KL_STR("a"), 200);
    kl_workqueue_add_after(q, KL_STR("a"), 5000);
    kl_timers_advance(ts, 199);
    expect_none();
    kl_timers_advance(ts, 1);
    expect("a");
    kl_workqueue_done(q, KL_STR("a"));
    kl_timers_advance(ts, 10000);
    expect_none();
}

static void failures_back_off_and_are_forgotten(void **state)
{
    int64_t wait = 5;
    for (int i = 0; i < 25; i++) {
        kl_workqueue_add_rate_limited(q, KL_STR("a"));
        int64_t expected = wait < 1000000 ? wait : 1000000;
        kl_timers_advance(ts, expected - 1);
        expect_none();
        kl_timers_advance(ts, 1);
        expect("a");
        kl_workqueue_done(q, KL_STR("a"));
        assert_int_equal(kl_workqueue_failures(q, KL_STR("a")), i + 1);
        wait *= 2;
    }
    kl_workqueue_forget(q, KL_STR("a"));
    assert_int_equal(kl_workqueue_failures(q, KL_STR("a")), 0);
    kl_workqueue_add_rate_limited(q, KL_STR("a"));
    kl_timers_advance(ts, 5);
    expect("a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_key_waits_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_key_added_in_work_comes_again_when_done, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_earliest_delay_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failures_back_off_and_are_forgotten, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
