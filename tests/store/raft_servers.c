// SPDX-License-Identifier: Apache-2.0
// raft:// servers as processes of their own: no stale read (T17), rot on one disk is found and
// healed (T19), a follower far behind (T20), leaders that are killed (T21).
#include "raft_process.h"
#include "harness.h"
#include "base/clock.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- T17 ----

// A leader that is stopped, deposed and goes on is asked what the others have changed meanwhile.
static void no_stale_read(void **state)
{
    struct rp_cluster c;
    char want[64], answer[128];
    rp_begin(&c, (struct rp_options){.election_ms = 150, .scrub_ms = -1});
    int leader = rp_settle(&c), asked = 0;
    for (int round = 0; round < hs_scale(50); round++) {
        int other = (leader + 1 + round % 2) % RP_SERVERS;
        if (atoll(rp_ask(&c.s[leader], "once /r old%d", round)) <= 0) { // it leads no more
            leader = rp_settle(&c);
            continue;
        }
        kill(c.s[leader].pid, SIGSTOP);
        if (atoll(rp_ask(&c.s[other], "put /r new%d", round)) <= 0)
            fail_msg("round %d: not written", round);
        rp_say(&c.s[leader], "get /r"); // it still believes to lead when it reads this
        kill(c.s[leader].pid, SIGCONT);
        assert_true(rp_hear(&c.s[leader], answer, sizeof(answer)));
        snprintf(want, sizeof(want), "0 new%d", round);
        if (answer[0] == '0' && strcmp(answer, want) != 0)
            fail_msg("round %d: the old leader answered '%s'", round, answer);
        asked += answer[0] == '0';
        leader = rp_settle(&c);
    }
    print_message("%d answers\n", asked);
    assert_true(asked > 0);
    rp_end(&c);
}

// ---- T19 ----

// Turns one bit wherever `what` stands in the file.
static int flip(const char *dir, const char *name, const char *what)
{
    char path[256];
    int hits = 0;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    off_t n = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    char *p = malloc((size_t)n + 1);
    assert_int_equal(pread(fd < 0 ? 0 : fd, p, fd < 0 ? 0 : (size_t)n, 0), n);
    size_t k = strlen(what);
    for (off_t at = 0; at + (off_t)k <= n; at++) {
        if (memcmp(p + at, what, k) != 0)
            continue;
        char byte = (char)(p[at] ^ 4);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        hits++;
    }
    free(p);
    if (fd >= 0)
        close(fd);
    return hits;
}

static void damage(struct rp_server *s, bool log, const char *what)
{
    for (int64_t until = kl_mono_ms() + RP_WAIT_MS; kl_mono_ms() < until; poll(NULL, 0, 5)) {
        if (log ? flip(s->dir, "log-00000000000000000001", what)
                : flip(s->dir, "state.db", what) + flip(s->dir, "state.db-wal", what))
            return; // it is there, so the scrub will pass it
    }
    fail_msg("%s is not on the disk", what);
}

static void rots(bool log)
{
    struct rp_cluster c;
    rp_begin(&c, (struct rp_options){.election_ms = 300, .scrub_ms = 100});
    for (int round = 0; round < hs_scale(1); round++) {
        int bad = (rp_settle(&c) + 1) % RP_SERVERS, other = (bad + 1) % RP_SERVERS;
        struct rp_server *s = &c.s[bad];
        char value[32];
        snprintf(value, sizeof(value), "rotting-value-%d", round);
        assert_true(atoll(rp_ask(s, "put /rot%d %s", round, value)) > 0);
        rp_settle(&c);
        damage(s, log, value);
        int64_t start = kl_mono_ms();
        int status = 0;
        while (!waitpid(s->pid, &status, WNOHANG)) {
            if (kl_mono_ms() > start + RP_WAIT_MS)
                fail_msg("it was not found");
            poll(NULL, 0, 5);
        }
        print_message("found after %lld ms\n", (long long)(kl_mono_ms() - start));
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
        assert_true(atoll(rp_ask(&c.s[other], "put /while v")) > 0);
        fclose(s->in);
        fclose(s->out);
        assert_true(rp_launch(&c, bad, false)); // as whoever supervises it
        assert_true(atoll(rp_ask(&c.s[other], "put /after v")) > 0);
        rp_settle(&c);
        snprintf(value, sizeof(value), "0 rotting-value-%d", round);
        assert_string_equal(rp_ask(s, "get /rot%d", round), value);
    }
    rp_end(&c);
}

static void database_rots(void **state)
{
    rots(false);
}

static void log_rots(void **state)
{
    rots(true);
}

// Nothing is found where nothing is wrong, also while rows come and go.
static void nothing_rots(void **state)
{
    struct rp_cluster c;
    rp_begin(&c,
             (struct rp_options){.election_ms = 300, .scrub_ms = 20, .snapshot_bytes = 1 << 20});
    int leader = rp_settle(&c);
    for (int i = 0; i < hs_scale(8); i++)
        assert_string_equal(rp_ask(&c.s[leader], "fill /churn 300 2000"), "0");
    rp_settle(&c); // all are there
    rp_end(&c);
}

// ---- T20 ----

static long memory_kib(pid_t pid, const char *what)
{
    char path[64], line[256];
    long v = -1;
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f)) {
        if (strncmp(line, what, strlen(what)) == 0)
            v = atol(line + strlen(what));
    }
    fclose(f);
    return v;
}

static void begin_peak(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/clear_refs", pid);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs("5", f);
    fclose(f);
}

// Writes on while `late`, which was asked for something before, catches up; asks it for its events
// all the time.
static int write_until_there(struct rp_server *leader, struct rp_server *late, int n,
                             long long *ret_first, int64_t *ret_slowest)
{
    char answer[64];
    int writes = 0, events = -1;
    int64_t heard = kl_mono_ms();
    for (; events < n; writes++) {
        int64_t at = kl_mono_ms();
        assert_true(atoll(rp_ask(leader, "put /small/%d v", writes)) > 0);
        *ret_slowest = kl_mono_ms() - at > *ret_slowest ? kl_mono_ms() - at : *ret_slowest;
        struct pollfd p = {fileno(late->out), POLLIN, 0};
        if (poll(&p, 1, 0) > 0) {
            assert_true(rp_hear(late, answer, sizeof(answer)));
            if (atoi(answer) != events)
                heard = kl_mono_ms();
            if (events < 0)
                *ret_first = atoll(answer);
            events = events < 0 ? 0 : atoi(answer);
            assert_true(events >= 0);
            rp_say(late, "events");
        }
        if (kl_mono_ms() > heard + RP_WAIT_MS)
            fail_msg("%d of %d events", events, n);
    }
    assert_true(rp_hear(late, answer, sizeof(answer)));
    return writes;
}

static void far_behind(void **state)
{
    struct rp_cluster c;
    rp_begin(&c,
             (struct rp_options){
                 .election_ms = 1000, .scrub_ms = -1, .snapshot_bytes = 1 << 20, .on_disk = true});
    int leader = rp_settle(&c), behind = (leader + 1) % RP_SERVERS;
    struct rp_server *late = &c.s[behind];
    int n = hs_scale(3200); // 200 MB: much more than the 64 MiB that may wait for a peer
    assert_string_equal(rp_ask(late, "watch /big/ /big0"), "0");
    // What it asks for now is stored in what it does not see, or never.
    rp_say(late, "once /mine v");
    kill(late->pid, SIGSTOP);
    assert_string_equal(rp_ask(&c.s[leader], "fill /big/ %d 65536", n), "0");
    begin_peak(c.s[leader].pid);
    long before = memory_kib(c.s[leader].pid, "VmRSS:");
    kill(late->pid, SIGCONT);
    int64_t start = kl_mono_ms(), slowest = 0;
    long long mine = 0;
    int writes = write_until_there(&c.s[leader], late, n, &mine, &slowest);
    long grown = memory_kib(c.s[leader].pid, "VmHWM:") - before;
    print_message(
        "%d MB in %lld ms: %d writes, the slowest %lld ms; leader +%ld KiB; own write %lld\n",
        n / 16, (long long)(kl_mono_ms() - start), writes, (long long)slowest, grown, mine);
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) // which use memory of their own
    assert_true(grown <= 32 << 10);
#endif
    rp_settle(&c);
    const char *have = rp_ask(late, "get /mine");
    assert_true(mine > 0 || mine == KL_EMAYBE || mine == KL_EUNAVAILABLE);
    assert_string_equal(have, mine > 0 ? "0 v" : mine == KL_EUNAVAILABLE ? "0 -" : have);
    rp_end(&c);
}

// ---- T21 ----

enum { ACKED_MAX = 1 << 14 };

// What is acknowledged, from `s` until it says no more; kills it after the first few.
static int kill_while_it_writes(struct rp_server *s, bool acked[ACKED_MAX])
{
    char line[64];
    int n = 0;
    memset(acked, 0, ACKED_MAX * sizeof(acked[0]));
    while (fgets(line, sizeof(line), s->out) && strchr(line, '\n')) { // the last one may be cut
        int k = atoi(line);
        if (k < ACKED_MAX)
            acked[k] = true;
        if (++n == 50)
            kill(s->pid, SIGKILL);
    }
    rp_reap(s);
    return n;
}

static void check_list(const char *list, const bool acked[ACKED_MAX], int round)
{
    static bool there[ACKED_MAX];
    char *end;
    memset(there, 0, sizeof(there));
    assert_int_equal(strtol(list, &end, 10), 0);
    for (const char *p = end; *p; p = end) {
        long k = strtol(p, &end, 10);
        if (end == p)
            break;
        assert_true(k >= 0);
        if (k < ACKED_MAX)
            there[k] = true;
    }
    for (int k = 0; k < ACKED_MAX; k++) {
        if (acked[k] && !there[k])
            fail_msg("round %d: %d was acknowledged and is not there", round, k);
    }
}

static void fails_over(void **state)
{
    struct rp_cluster c;
    static bool acked[ACKED_MAX];
    char line[64];
    int64_t longest = 0;
    int writes = 0;
    rp_begin(&c,
             (struct rp_options){.election_ms = 200, .scrub_ms = -1, .snapshot_bytes = 1 << 20});
    for (int round = 0; round < hs_scale(20); round++) {
        int leader = rp_settle(&c), other = (leader + 1 + round % 2) % RP_SERVERS;
        snprintf(line, sizeof(line), "stream /r%d/", round);
        rp_say(&c.s[leader], line);
        writes += kill_while_it_writes(&c.s[leader], acked);
        int64_t start = kl_mono_ms();
        assert_true(atoll(rp_ask(&c.s[other], "put /after %d", round)) > 0);
        longest = kl_mono_ms() - start > longest ? kl_mono_ms() - start : longest;
        check_list(rp_ask(&c.s[other], "list /r%d/", round), acked, round);
        assert_true(rp_launch(&c, leader, false));
    }
    rp_settle(&c);
    print_message("%d writes acknowledged; the longest until others were: %lld ms\n", writes,
                  (long long)longest);
    rp_end(&c);
}

int main(int argc, char **argv)
{
    if (argc > 7 && strcmp(argv[1], "serve") == 0)
        return rp_serve(argv + 2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_stale_read), cmocka_unit_test(database_rots),
        cmocka_unit_test(log_rots),      cmocka_unit_test(nothing_rots),
        cmocka_unit_test(far_behind),    cmocka_unit_test(fails_over),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
