// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/sm.h"
#include "base/str.h"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NEW, OPEN, CLOSED };
static const struct kl_sm_state states[] = {
    [NEW] = {"new", KL_SM_TO(OPEN) | KL_SM_TO(CLOSED)},
    [OPEN] = {"open", KL_SM_TO(OPEN) | KL_SM_TO(CLOSED)},
    [CLOSED] = {"closed", 0},
};

static void test_moves(void **state)
{
    struct kl_sm sm;
    kl_sm_init(&sm, "door", states, KL_COUNT(states), NEW);
    assert_string_equal(kl_sm_state_name(&sm), "new");
    assert_false(kl_sm_may(&sm, NEW));
    assert_true(kl_sm_may(&sm, CLOSED));
    assert_false(kl_sm_may(&sm, -1));
    assert_false(kl_sm_may(&sm, 3));
    kl_sm_move(&sm, OPEN);
    kl_sm_move(&sm, OPEN);
    kl_sm_move(&sm, CLOSED);
    assert_int_equal(kl_sm_state(&sm), CLOSED);
    assert_false(kl_sm_may(&sm, OPEN));
}

static void test_forbidden_move_aborts(void **state)
{
    pid_t pid = fork();
    if (pid == 0) {
        close(STDERR_FILENO);
        struct kl_sm sm;
        kl_sm_init(&sm, "door", states, KL_COUNT(states), CLOSED);
        kl_sm_move(&sm, OPEN);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_forbidden_move_aborts),
    };
    return cmocka_run_group_tests_name("base sm", tests, NULL, NULL);
}
