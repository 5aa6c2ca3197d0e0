// SPDX-License-Identifier: Apache-2.0
#include "client/timers.h"
#include "base/clock.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

struct ticker {
    struct kl_timer timer;
    struct kl_timers *ts;
    int64_t at[32];
    int n, again;
};

static void on_tick(struct kl_timer *t)
{
    struct ticker *k = KL_CONTAINER_OF(t, struct ticker, timer);
    k->at[k->n++] = kl_timers_now_ms(k->ts);
    if (k->again-- > 0)
        kl_timer_after(k->ts, t, 100);
}

static void runs_in_order_at_their_instants(void **state)
{
    struct kl_timers *ts = kl_timers_new_virtual(5000000);
    int64_t t0 = kl_timers_now_ms(ts);
    struct ticker a = {.timer.cb = on_tick, .ts = ts, .again = 2},
                  b = {.timer.cb = on_tick, .ts = ts};
    kl_timer_after(ts, &b.timer, 150);
    kl_timer_after(ts, &a.timer, 100);
    assert_int_equal(kl_timers_next_ms(ts), 100);
    kl_timers_advance(ts, 99);
    assert_int_equal(a.n, 0);
    kl_timers_advance(ts, 1000);
    assert_int_equal(a.n, 3);
    assert_int_equal(a.at[0] - t0, 100);
    assert_int_equal(a.at[2] - t0, 300);
    assert_int_equal(b.at[0] - t0, 150);
    assert_int_equal(kl_timers_wall_us(ts), 5000000 + 1099 * 1000);
    assert_int_equal(kl_timers_next_ms(ts), -1);
    kl_timers_free(ts);
}

static void moved_and_cancelled_timers_do_not_run(void **state)
{
    struct kl_timers *ts = kl_timers_new_virtual(0);
    struct ticker list[50] = {0};
    for (int i = 0; i < 50; i++) {
        list[i].timer.cb = on_tick;
        list[i].ts = ts;
        kl_timer_after(ts, &list[i].timer, (i * 37) % 50 + 1);
    }
    for (int i = 0; i < 50; i += 3)
        kl_timer_cancel(ts, &list[i].timer);
    for (int i = 1; i < 50; i += 3)
        kl_timer_after(ts, &list[i].timer, 500);
    kl_timers_advance(ts, 100);
    for (int i = 0; i < 50; i++)
        assert_int_equal(list[i].n, i % 3 == 2);
    kl_timers_advance(ts, 500);
    for (int i = 0; i < 50; i++)
        assert_int_equal(list[i].n, i % 3 != 0);
    kl_timers_free(ts);
}

struct real {
    struct kl_timer timer;
    struct kl_loop *loop;
    struct kl_timers *ts;
    int n;
};

static void on_real(struct kl_timer *t)
{
    struct real *r = KL_CONTAINER_OF(t, struct real, timer);
    if (++r->n < 3) {
        kl_timer_after(r->ts, t, 5);
        return;
    }
    kl_timers_free(r->ts);
    kl_loop_stop(r->loop);
}

static void runs_on_a_loop(void **state)
{
    struct real r = {.timer.cb = on_real};
    assert_int_equal(kl_loop_new("test", &r.loop, NULL), 0);
    assert_int_equal(kl_timers_new(r.loop, &r.ts, NULL), 0);
    int64_t began = kl_mono_ms();
    kl_timer_after(r.ts, &r.timer, 5);
    kl_loop_run(r.loop);
    assert_int_equal(r.n, 3);
    assert_true(kl_mono_ms() - began >= 15);
    kl_loop_unref(r.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_in_order_at_their_instants),
        cmocka_unit_test(moved_and_cancelled_timers_do_not_run),
        cmocka_unit_test(runs_on_a_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
