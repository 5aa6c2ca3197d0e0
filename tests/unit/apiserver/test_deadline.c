// SPDX-License-Identifier: Apache-2.0
// The heap of calls with deadlines of their own: whoever leaves, the first is due first. It is of
// that file only, so the file is part of this test.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "apiserver/deadline.c"

enum { CALLS = 300, ROUNDS = 20000 };

static struct kl_api_call *calls;
static struct kl_deadlines d;

static void check(void)
{
    uint32_t inside = 0;
    for (size_t i = 0; i < CALLS; i++)
        inside += is_counted(&calls[i]);
    assert_int_equal(inside, d.nown);
    for (uint32_t i = 1; i <= d.nown; i++) {
        assert_int_equal(d.own[i]->due_at, i);
        if (i > 1)
            assert_true(d.own[i / 2]->due_ms <= d.own[i]->due_ms);
    }
}

static void heap(void **state)
{
    uint64_t seed = 1, then, last = 0;
    for (int round = 0; round < ROUNDS; round++) {
        seed = seed * 6364136223846793005 + 1442695040888963407;
        struct kl_api_call *c = &calls[(seed >> 33) % CALLS];
        if (is_counted(c)) {
            leave(&d, c);
            assert_false(is_counted(c));
        } else {
            c->due_ms = 1000 + (seed >> 48) % 50; // many are due together
            assert_int_equal(heap_push(&d, c), 0);
        }
        if (round % 50 == 0)
            check();
    }
    check();
    assert_true(d.nown > 0);
    assert_null(next_due(&d, 999, &then));
    assert_int_equal(then, d.own[1]->due_ms);
    for (struct kl_api_call *c; (c = next_due(&d, UINT64_MAX, &then)); last = c->due_ms) {
        assert_true(c->due_ms >= last);
        leave(&d, c);
        check();
    }
    assert_int_equal(d.nown, 0);
    assert_int_equal(then, UINT64_MAX);
    free(d.own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(heap)};
    if (!(calls = calloc(CALLS, sizeof *calls)))
        return 1;
    int failed = cmocka_run_group_tests_name("apiserver/deadline", tests, NULL, NULL);
    free(calls);
    return failed;
}
