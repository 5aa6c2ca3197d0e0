// SPDX-License-Identifier: Apache-2.0
// I/O errors and a full disk under the whole raft back end: the nth write, sync, allocation,
// truncation or rename of a small scenario fails, in the log or in the database, once or for good.
// The server answers rightly or ends; what it acknowledged is there when it starts again.
#include "harness.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STEPS = 30, NKEYS = 6 };

static atomic_int calls, nth, hits, code;
static bool forever;

static bool fails(void)
{
    int n = atomic_load(&nth), k = atomic_fetch_add(&calls, 1) + 1;
    if (!n || k < n || (k > n && !forever))
        return false;
    atomic_fetch_add(&hits, 1);
    errno = atomic_load(&code);
    return true;
}

// The names that large files have.
#define WRAP(ret, name, failed, params, args)                                                      \
    ret __real_##name params;                                                                      \
    ret __wrap_##name params;                                                                      \
    ret __wrap_##name params                                                                       \
    {                                                                                              \
        return fails() ? (failed) : __real_##name args;                                            \
    }
WRAP(ssize_t, pwrite64, -1, (int fd, const void *p, size_t n, int64_t at), (fd, p, n, at))
WRAP(int, fdatasync, -1, (int fd), (fd))
WRAP(int, fsync, -1, (int fd), (fd))
// A file system in memory would clear all of it, hundreds of times.
WRAP(int, posix_fallocate64, errno, (int fd, int64_t at, int64_t n),
     (fd, at, n > 1 << 20 ? n >> 6 : n))
WRAP(int, ftruncate64, -1, (int fd, int64_t n), (fd, n))
WRAP(int, rename, -1, (const char *a, const char *b), (a, b))

static void wrap_sqlite(void)
{
    sqlite3_initialize();
    sqlite3_vfs *v = sqlite3_vfs_find(NULL);
    v->xSetSystemCall(v, "pwrite", (sqlite3_syscall_ptr)__wrap_pwrite64);
    v->xSetSystemCall(v, "pwrite64", (sqlite3_syscall_ptr)__wrap_pwrite64);
    v->xSetSystemCall(v, "fdatasync", (sqlite3_syscall_ptr)__wrap_fdatasync);
    v->xSetSystemCall(v, "fsync", (sqlite3_syscall_ptr)__wrap_fsync);
    v->xSetSystemCall(v, "ftruncate", (sqlite3_syscall_ptr)__wrap_ftruncate64);
}

// ---- the server ----

struct said { // what it tells before and after each step
    int step, value;
    int64_t result;
};

static void tell(int fd, int step, int value, int64_t result)
{
    struct said s = {step, value, result};
    if (write(fd, &s, sizeof(s)) != sizeof(s))
        _exit(3);
}

static int read_key(struct hs_client *c, int k)
{
    char key[32];
    snprintf(key, sizeof(key), "/f/%d", k);
    struct kl_kv *kv = hs_get(c, key);
    int have = kv ? atoi(kl_kv_value(kv).p) : -1;
    kl_kv_unref(kv);
    return have;
}

static void run(const char *dir, int n, int error, bool all, int fd)
{
    struct hs_store hs = {.backend = "raft"};
    struct hs_client c;
    struct kl_error err;
    snprintf(hs.url, sizeof(hs.url), "raft://%.100s", dir);
    hs.o.raft_election_ms = 100;
    hs.o.raft_scrub_ms = -1;
    hs.o.raft_snapshot_bytes = 32 << 10;
    if (kl_store_open(hs.url, &hs.o, &hs.s, &err))
        _exit(2);
    hs_client_open(&c, &hs);
    forever = all;
    atomic_store(&code, error);
    atomic_store(&calls, 0);
    atomic_store(&nth, n);
    for (int i = 0; i < STEPS; i++) {
        int k = i * 7 % NKEYS, want = i % 5 == 4 ? -1 : i;
        char key[32], value[9000];
        snprintf(key, sizeof(key), "/f/%d", k);
        memset(value, '.', sizeof(value) - 1);
        value[sizeof(value) - 1] = 0;
        value[snprintf(value, 16, "%d", i)] = ' ';
        tell(fd, i, want, 0); // from here on it may be there
        int64_t r = want < 0 ? hs_del(&c, key, -1) : hs_put(&c, key, value, -1);
        tell(fd, i, want, r);
        if (r > 0 && read_key(&c, k) != want)
            _exit(4);
    }
    poll(NULL, 0, 20); // the database, too
    tell(fd, STEPS, 0, atomic_load(&hits));
    _exit(0);
}

static void check(const char *dir, const int *value, const int *maybe)
{
    struct hs_store hs = {.backend = "raft"};
    struct hs_client c;
    struct kl_error err;
    snprintf(hs.url, sizeof(hs.url), "raft://%.100s", dir);
    hs.o.raft_election_ms = 100;
    if (kl_store_open(hs.url, &hs.o, &hs.s, &err)) {
        fprintf(stderr, "it does not start again: %s\n", err.msg);
        _exit(5);
    }
    hs_client_open(&c, &hs);
    for (int k = 0; k < NKEYS; k++) {
        int have = read_key(&c, k);
        if (have != value[k] && (maybe[k] == -2 || have != maybe[k])) {
            fprintf(stderr, "/f/%d is %d, acknowledged %d\n", k, have, value[k]);
            _exit(6);
        }
    }
    _exit(hs_put(&c, "/f/after", "v", 0) > 0 ? 0 : 7);
}

// ---- the sweep ----

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static int wait_for(pid_t pid)
{
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int sweep(int error, bool all)
{
    int ended = 0;
    for (int n = 1;; n++) {
        char dir[64];
        int fd[2], value[NKEYS], maybe[NKEYS];
        int64_t hit = 1;
        struct said s;
        snprintf(dir, sizeof(dir), "%.32s/kl-fault-XXXXXX",
                 getenv("STORE_DIR") ? getenv("STORE_DIR") : "/tmp");
        assert_non_null(mkdtemp(dir));
        assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
        fflush(NULL);
        pid_t pid = fork();
        if (!pid)
            run(dir, n, error, all, fd[1]);
        close(fd[1]);
        for (int k = 0; k < NKEYS; k++) {
            value[k] = -1;
            maybe[k] = -2;
        }
        while (read(fd[0], &s, sizeof(s)) == sizeof(s)) {
            int k = s.step * 7 % NKEYS;
            if (s.step == STEPS) {
                hit = s.result;
            } else if (s.result > 0) {
                value[k] = s.value;
                maybe[k] = -2;
            } else if (s.result == 0 || s.result == KL_EMAYBE) {
                maybe[k] = s.value;
            } else if (s.result == KL_ENOSPC || s.result == KL_EIO) {
                maybe[k] = -2; // refused: not there
            } else {
                fail_msg("call %d: step %d: unexpected code %lld", n, s.step, (long long)s.result);
            }
        }
        close(fd[0]);
        int e = wait_for(pid);
        if (e > 1)
            fail_msg("call %d fails (%s): the server ended with %d", n, strerror(error), e);
        ended += e == 1;
        pid = fork();
        if (!pid)
            check(dir, value, maybe);
        e = wait_for(pid);
        if (e)
            fail_msg("call %d fails (%s): afterwards %d", n, strerror(error), e);
        nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        if (!hit) {
            print_message("%d calls failed in turn (%s%s), %d ended the server\n", n - 1,
                          strerror(error), all ? " for good" : "", ended);
            return n - 1;
        }
    }
}

static void errors(void **state)
{
    assert_true(sweep(EIO, false) > 40);
}

static void full_once(void **state)
{
    assert_true(sweep(ENOSPC, false) > 40);
}

static void errors_for_good(void **state)
{
    assert_true(sweep(EIO, true) > 40);
}

int main(int argc, char **argv)
{
    kl_log_setup(getenv("STORE_LOG") ? KL_LOG_WARN : KL_LOG_NONE, false);
    if (access("/dev/shm", W_OK) == 0)
        setenv("STORE_DIR", "/dev/shm", 0);
    wrap_sqlite();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors),
        cmocka_unit_test(full_once),
        cmocka_unit_test(errors_for_good),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
