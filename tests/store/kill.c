// SPDX-License-Identifier: Apache-2.0
// kill -9 at any moment: a writer process is killed again and again in the middle of its work, and
// each time every write that it had acknowledged must be there, no revision used twice and none
// missing.
#include "victim.h"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static const char *backend = "sqlite";

static void killed(void **state)
{
    uint64_t seed = hs_seed();
    struct vi_judge *j = vi_judge_new();
    struct hs_store hs;
    int rounds = hs_scale(hs_is_sql(backend) ? 15 : 50);
    hs_open(&hs, backend, NULL);
    for (int i = 0; i < rounds || (vi_acks(j) <= rounds && i < 40 * rounds); i++) {
        char what[32];
        snprintf(what, sizeof(what), "round %d", i);
        hs_stop(&hs);
        struct vi_plan p = {
            .url = hs.url, .o = &hs.o, .seed = hs_rand(&seed), .seq = vi_seq(j) + 1000};
        int fd;
        pid_t pid = vi_start(&p, &fd);
        vi_take(j, fd, 5 + (int)(hs_rand(&seed) % 120));
        kill(pid, SIGKILL);
        int code = vi_wait(pid);
        if (code)
            fail_msg("%s: the writer exited with %d", what, code);
        vi_take(j, fd, 1000); // what was in the pipe
        close(fd);
        struct kl_error err;
        if (kl_store_open(hs.url, &hs.o, &hs.s, &err))
            fail_msg("%s: %s", what, err.msg);
        vi_check(j, &hs, what);
    }
    print_message("%d kills, %ld acknowledged writes, none lost\n", rounds, vi_acks(j));
    assert_true(vi_acks(j) > rounds);
    hs_close(&hs);
    vi_judge_free(j);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        backend = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(killed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
