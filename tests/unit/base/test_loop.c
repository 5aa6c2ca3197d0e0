// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/str.h"
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

struct note {
    struct kl_task task;
    struct recorder *to;
    int from, i;
};

// Lives on one loop; only that loop's thread touches it until the loop has been joined.
struct recorder {
    struct kl_loop *loop;
    int last[8], count;
    bool ok;
};

static void record(struct kl_task *t)
{
    struct note *n = KL_CONTAINER_OF(t, struct note, task);
    struct recorder *r = n->to;
    r->ok = r->ok && kl_loop_is_current(r->loop) && kl_loop_current() == r->loop;
    r->ok = r->ok && n->i == r->last[n->from] + 1; // order within one posting thread
    r->last[n->from] = n->i;
    r->count++;
    free(n);
}

struct poster {
    struct recorder *to;
    int from, count;
};

static void *post_many(void *arg)
{
    struct poster *p = arg;
    for (int i = 1; i <= p->count; i++) {
        struct note *n = malloc(sizeof(*n));
        *n = (struct note){{NULL, record}, p->to, p->from, i};
        kl_loop_post(p->to->loop, &n->task);
        if (i % 1000 == 0)
            sched_yield(); // lets the loop go to sleep now and then
    }
    return NULL;
}

static struct kl_loop *new_loop(const char *name)
{
    struct kl_loop *l = NULL;
    struct kl_error err = {0};
    if (kl_loop_new(name, &l, &err))
        fail_msg("%s", err.msg);
    return l;
}

static void test_many_posters(void **state)
{
    enum { THREADS = 4, EACH = 20000 };
    struct recorder r = {.loop = new_loop("mailbox"), .ok = true};
    assert_int_equal(kl_loop_start(r.loop, NULL), 0);
    assert_string_equal(kl_loop_name(r.loop), "mailbox");
    assert_false(kl_loop_is_current(r.loop));
    assert_null(kl_loop_current());
    pthread_t t[THREADS];
    struct poster p[THREADS];
    for (int i = 0; i < THREADS; i++) {
        p[i] = (struct poster){&r, i, EACH};
        assert_int_equal(pthread_create(&t[i], NULL, post_many, &p[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    kl_loop_stop(r.loop);
    kl_loop_stop(r.loop); // twice is once
    kl_loop_join(r.loop);
    // Everything posted before the stop has run by now.
    assert_true(r.ok);
    assert_int_equal(r.count, THREADS * EACH);
    kl_loop_unref(r.loop);
}

// Two loops throw a ball; whoever catches it last stops both while the other may still be inside
// kl_loop_post.
struct ball {
    struct kl_task task;
    struct kl_loop *at[2];
    int turns;
};

static void throw_ball(struct kl_task *t)
{
    struct ball *b = KL_CONTAINER_OF(t, struct ball, task);
    if (--b->turns == 0) {
        kl_loop_stop(b->at[0]);
        kl_loop_stop(b->at[1]);
        return;
    }
    kl_loop_post(b->at[b->turns % 2], t);
}

static void test_ping_pong(void **state)
{
    for (int round = 0; round < 20; round++) {
        struct ball b = {{NULL, throw_ball}, {new_loop("ping"), new_loop("pong")}, 200 + round};
        kl_loop_post(b.at[0], &b.task); // before the start is fine
        assert_int_equal(kl_loop_start(b.at[0], NULL), 0);
        assert_int_equal(kl_loop_start(b.at[1], NULL), 0);
        kl_loop_join(b.at[0]);
        kl_loop_join(b.at[1]);
        kl_loop_unref(b.at[0]);
        kl_loop_unref(b.at[1]);
        assert_int_equal(b.turns, 0);
    }
}

static void test_late_posts_run_in_unref(void **state)
{
    struct recorder r = {.loop = new_loop("late"), .ok = true};
    kl_loop_stop(r.loop);
    kl_loop_run(r.loop);
    struct poster p = {&r, 0, 2000};
    post_many(&p);
    assert_int_equal(r.count, 0);
    kl_loop_unref(r.loop);
    assert_int_equal(r.count, 2000);
    assert_true(r.ok);
    kl_loop_unref(NULL);
}

struct trace {
    struct kl_loop *loop;
    char text[64];
    struct step {
        struct kl_task task;
        struct trace *t;
        char mark;
    } steps[3];
    uv_timer_t timer, watchdog;
    uv_async_t async;
    long chain;
};

static void put_mark(struct trace *t, char c)
{
    size_t n = strlen(t->text);
    assert_true(n + 1 < sizeof(t->text));
    t->text[n] = c;
}

static void run_step(struct kl_task *task)
{
    struct step *s = KL_CONTAINER_OF(task, struct step, task);
    put_mark(s->t, s->mark);
    if (s->mark == 'a') { // deferred by a deferred task
        s->t->steps[2] = (struct step){{NULL, run_step}, s->t, 'c'};
        kl_loop_defer(s->t->loop, &s->t->steps[2].task);
    }
    if (s->mark == 'c')
        kl_loop_stop(s->t->loop);
}

static void defer_two(struct trace *t)
{
    put_mark(t, '(');
    for (int i = 0; i < 2; i++) {
        t->steps[i] = (struct step){{NULL, run_step}, t, (char)('a' + i)};
        kl_loop_defer(t->loop, &t->steps[i].task);
    }
    put_mark(t, ')');
}

static void on_timer(uv_timer_t *timer)
{
    defer_two(timer->data);
}

static void on_async(uv_async_t *async)
{
    defer_two(async->data);
}

static void on_closed(uv_handle_t *h)
{
    defer_two(h->data);
}

static void on_watchdog(uv_timer_t *timer)
{
    struct trace *t = timer->data;
    put_mark(t, '!'); // the loop slept with a deferred task in hand
    uv_stop(kl_loop_uv(t->loop));
}

static void run_traced(struct trace *t)
{
    uv_timer_init(kl_loop_uv(t->loop), &t->watchdog);
    t->watchdog.data = t;
    uv_timer_start(&t->watchdog, on_watchdog, 5000, 0);
    kl_loop_run(t->loop);
    kl_loop_unref(t->loop);
}

static void test_defer_from_each_phase(void **state)
{
    for (int phase = 0; phase < 3; phase++) {
        struct trace t = {.loop = new_loop("defer")};
        uv_loop_t *uv = kl_loop_uv(t.loop);
        t.timer.data = t.async.data = &t;
        if (phase == 0) { // timers
            uv_timer_init(uv, &t.timer);
            uv_timer_start(&t.timer, on_timer, 1, 0);
        } else if (phase == 1) { // poll
            uv_async_init(uv, &t.async, on_async);
            uv_async_send(&t.async);
        } else { // closing callbacks
            uv_timer_init(uv, &t.timer);
            uv_close((uv_handle_t *)&t.timer, on_closed);
        }
        run_traced(&t);
        assert_string_equal(t.text, "()abc");
    }
}

// A task that defers itself for ever must not keep timers and I/O from running.
static void run_chain(struct kl_task *task)
{
    struct step *s = KL_CONTAINER_OF(task, struct step, task);
    s->t->chain++;
    if (s->mark)
        kl_loop_defer(s->t->loop, task);
}

static void on_enough(uv_timer_t *timer)
{
    struct trace *t = timer->data;
    if (t->chain <= 10000) { // the thread has had too little of the processor
        uv_timer_start(timer, on_enough, 20, 0);
        return;
    }
    t->steps[0].mark = 0;
    put_mark(t, 'T');
    kl_loop_stop(t->loop);
}

static void start_chain(uv_async_t *async)
{
    struct trace *t = async->data;
    t->steps[0] = (struct step){{NULL, run_chain}, t, 1};
    kl_loop_defer(t->loop, &t->steps[0].task);
}

static void test_endless_deferral(void **state)
{
    struct trace t = {.loop = new_loop("chain")};
    t.timer.data = t.async.data = &t;
    uv_async_init(kl_loop_uv(t.loop), &t.async, start_chain);
    uv_async_send(&t.async);
    uv_timer_init(kl_loop_uv(t.loop), &t.timer);
    uv_timer_start(&t.timer, on_enough, 20, 0);
    run_traced(&t);
    assert_string_equal(t.text, "T");
    assert_true(t.chain > 10000);
}

static void busy_for(int64_t ms)
{
    int64_t end = kl_mono_ns() + ms * 1000000;
    while (kl_mono_ns() < end)
        ;
}

static void on_slow(uv_timer_t *timer)
{
    struct trace *t = timer->data;
    busy_for(30);
    kl_loop_stop(t->loop);
}

static void on_slow_io(uv_async_t *async)
{
    busy_for(8);
}

static struct kl_loop_stalls stall(void)
{
    struct kl_loop_stalls s;
    struct trace t = {.loop = new_loop("stalls")};
    t.timer.data = t.async.data = &t;
    kl_loop_get_stalls(t.loop, &s);
    assert_int_equal(s.over_5ms + s.over_25ms + s.over_100ms + s.max_us, 0);
    uv_async_init(kl_loop_uv(t.loop), &t.async, on_slow_io);
    uv_async_send(&t.async);
    uv_timer_init(kl_loop_uv(t.loop), &t.timer);
    uv_timer_start(&t.timer, on_slow, 600, 0); // sleeping until then is no stall
    kl_loop_run(t.loop);
    kl_loop_get_stalls(t.loop, &s);
    kl_loop_unref(t.loop);
    return s;
}

static void test_stalls(void **state)
{
    bool exact = false;
    for (int i = 0; i < 50 && !exact; i++) {
        struct kl_loop_stalls s = stall();
        // Machines with little CPU may stall us more, never less, and not every time.
        assert_true(s.over_5ms >= 2);
        assert_true(s.over_25ms >= 1);
        assert_true(s.max_us >= 30000);
        exact = s.over_25ms < s.over_5ms && s.max_us < 500000;
    }
    assert_true(exact);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_posters),
        cmocka_unit_test(test_ping_pong),
        cmocka_unit_test(test_late_posts_run_in_unref),
        cmocka_unit_test(test_defer_from_each_phase),
        cmocka_unit_test(test_endless_deferral),
        cmocka_unit_test(test_stalls),
    };
    return cmocka_run_group_tests_name("base loop", tests, NULL, NULL);
}
