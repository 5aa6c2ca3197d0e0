// SPDX-License-Identifier: Apache-2.0
#include "scheduler/queue.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

static struct kl_timers *ts;
static struct kl_queue *q;
static int ready;

static void on_ready(void *arg)
{
    ready++;
}

static int set_up(void **state)
{
    ready = 0;
    ts = kl_timers_new_virtual(0);
    q = kl_queue_new(ts, on_ready, NULL);
    return 0;
}

static int tear_down(void **state)
{
    kl_queue_free(q);
    kl_timers_free(ts);
    return 0;
}

static void add_labelled(const char *uid, int64_t priority, bool gated, const char *label)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    struct kl_value pod = kl_new_struct(), meta = kl_new_struct(), spec = kl_new_struct();
    kl_set_z(&a, &meta, KL_F_uid, uid);
    kl_set_z(&a, &meta, KL_F_name, uid);
    kl_set(&a, &pod, KL_F_metadata, meta);
    kl_set_label(&a, &pod, "l", kl_str(label));
    kl_set_int(&a, &spec, KL_F_priority, priority);
    kl_set(&a, &pod, KL_F_spec, spec);
    struct kl_object *o = kl_object_freeze(kl_res(KL_RES_core_v1_pods)->type, &pod);
    assert_int_equal(kl_queue_set(q, o, gated), 0);
    kl_object_unref(o);
    kl_arena_fini(&a);
}

static void add(const char *uid, int64_t priority)
{
    add_labelled(uid, priority, false, "x");
}

static struct kl_queued *take(const char *uid)
{
    struct kl_queued *p = kl_queue_take(q);
    assert_non_null(p);
    assert_true(kl_str_eqz(p->info->uid, uid));
    return p;
}

static void by_priority_then_age(void **state)
{
    add("a", 0);
    kl_timers_advance(ts, 10);
    add("b", 0);
    add("c", 100);
    add("d", -5);
    assert_int_equal(ready, 4);
    take("c");
    take("a");
    take("b");
    take("d");
    assert_null(kl_queue_take(q));
}

static void what_failed_waits_for_an_event_that_helps(void **state)
{
    add("a", 0);
    kl_queue_fail(q, take("a"), 1u << 3);
    kl_timers_advance(ts, 60000);
    kl_queue_move(q, 1u << 2); // not the one
    assert_null(kl_queue_take(q));
    kl_queue_move(q, 1u << 3);
    take("a"); // its back-off has long passed
}

static void back_off_doubles_to_ten_seconds(void **state)
{
    static const int64_t expected[] = {1000, 2000, 4000, 8000, 10000, 10000};
    add("a", 0);
    for (size_t i = 0; i < KL_COUNT(expected); i++) {
        kl_queue_fail(q, take("a"), 1);
        kl_queue_move(q, 1);
        kl_timers_advance(ts, expected[i] - 1);
        assert_null(kl_queue_take(q));
        kl_timers_advance(ts, 1);
    }
    take("a");
}

static void after_five_minutes_at_the_latest(void **state)
{
    add("a", 0);
    kl_queue_fail(q, take("a"), 1);
    kl_timers_advance(ts, 5 * 60 * 1000 - 1);
    assert_null(kl_queue_take(q));
    kl_timers_advance(ts, 1);
    take("a");
}

static void an_event_during_the_attempt_is_not_lost(void **state)
{
    add("a", 0);
    struct kl_queued *p = take("a");
    kl_queue_move(q, 1);
    kl_queue_fail(q, p, 1);
    assert_int_equal(kl_queue_count(q).backoff, 1);
    kl_timers_advance(ts, 1000);
    take("a");
}

static void a_change_of_its_own_helps(void **state)
{
    add("a", 0);
    kl_queue_fail(q, take("a"), 1);
    kl_timers_advance(ts, 2000);
    add("a", 0); // nothing of weight
    assert_int_equal(kl_queue_count(q).unschedulable, 1);
    add_labelled("a", 0, false, "y");
    take("a");
}

static void gates_hold_until_they_are_gone(void **state)
{
    add_labelled("a", 0, true, "x");
    kl_queue_move(q, ~0u);
    kl_timers_advance(ts, 600000);
    assert_null(kl_queue_take(q));
    assert_int_equal(kl_queue_count(q).gated, 1);
    add_labelled("a", 0, false, "x");
    take("a");
}

static void removed_pods_go_even_when_taken(void **state)
{
    add("a", 0);
    add("b", 0);
    struct kl_queued *p = take("a");
    kl_queue_remove(q, KL_STR("a"));
    kl_queue_remove(q, KL_STR("b"));
    kl_queue_fail(q, p, 1);
    kl_timers_advance(ts, 600000);
    assert_null(kl_queue_take(q));
    assert_int_equal(kl_queue_count(q).unschedulable + kl_queue_count(q).taken, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(by_priority_then_age),
        T(what_failed_waits_for_an_event_that_helps),
        T(back_off_doubles_to_ten_seconds),
        T(after_five_minutes_at_the_latest),
        T(an_event_during_the_attempt_is_not_lost),
        T(a_change_of_its_own_helps),
        T(gates_hold_until_they_are_gone),
        T(removed_pods_go_even_when_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
