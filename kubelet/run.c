// SPDX-License-Identifier: Apache-2.0
// kl_run: one child process, its input and output through pipes, bounded in time.
#include "base/clock.h"
#include "kubelet/fsutil.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int spawn_child(const char *const *argv, int in, int out, pid_t *ret_pid)
{
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t at;
    sigset_t none, dfl;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, in, 0);
    posix_spawn_file_actions_adddup2(&fa, out, 1);
    posix_spawn_file_actions_adddup2(&fa, out, 2);
    posix_spawnattr_init(&at);
    sigemptyset(&none);
    sigemptyset(&dfl);
    sigaddset(&dfl, SIGPIPE);
    posix_spawnattr_setsigmask(&at, &none);
    posix_spawnattr_setsigdefault(&at, &dfl);
    posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    int e = posix_spawnp(ret_pid, argv[0], &fa, &at, (char *const *)(uintptr_t)argv, environ);
    posix_spawnattr_destroy(&at);
    posix_spawn_file_actions_destroy(&fa);
    return e;
}

// Feeds and drains until the child closed its output, or time is up.
static bool pump(int *in, int out, struct kl_str input, struct kl_buf *output, int64_t deadline)
{
    char chunk[4096];
    for (;;) {
        struct pollfd p[2] = {{out, POLLIN, 0}, {*in, POLLOUT, 0}};
        int64_t left = deadline - kl_mono_ms();
        if (left <= 0)
            return false;
        if (poll(p, *in >= 0 ? 2 : 1, (int)left) < 0 && errno != EINTR)
            return false;
        if (*in >= 0 && p[1].revents) {
            ssize_t n = input.n ? write(*in, input.p, input.n) : 0;
            if (n > 0)
                input = kl_str_from(input, (size_t)n);
            if (!input.n || (n < 0 && errno != EAGAIN)) {
                close(*in);
                *in = -1;
            }
        }
        if (p[0].revents) {
            ssize_t n = read(out, chunk, sizeof(chunk));
            if (n <= 0)
                return true;
            if (output)
                kl_buf_append(output, chunk, (size_t)n);
        }
    }
}

int kl_run(const char *const *argv, struct kl_str input, struct kl_buf *output, int timeout_ms,
           struct kl_error *err)
{
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC))
        return kl_error_errno(err, errno, "pipe");
    if (pipe2(out, O_CLOEXEC)) {
        int e = errno;
        close(in[0]);
        close(in[1]);
        return kl_error_errno(err, e, "pipe");
    }
    fcntl(in[1], F_SETFL, O_NONBLOCK);
    pid_t pid = -1;
    int e = spawn_child(argv, in[0], out[1], &pid);
    close(in[0]);
    close(out[1]);
    if (e) {
        close(in[1]);
        close(out[0]);
        return kl_error_errno(err, e, "running %s", argv[0]);
    }
    struct kl_buf own;
    kl_buf_init(&own, 4096);
    struct kl_buf *to = output ? output : &own;
    size_t before = to->n;
    int64_t deadline = kl_mono_ms() + timeout_ms;
    bool ended = pump(&in[1], out[0], input, to, deadline);
    if (in[1] >= 0)
        close(in[1]);
    close(out[0]);
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p = {fd, POLLIN, 0};
    int64_t left = deadline - kl_mono_ms();
    if (!ended || (fd >= 0 && poll(&p, 1, left > 0 ? (int)left : 0) <= 0)) {
        kill(pid, SIGKILL);
        ended = false;
    }
    if (fd >= 0)
        close(fd);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    struct kl_str said = kl_str_trim(kl_str_from(kl_buf_str(to), before)), line;
    line = said;
    kl_str_split(&said, '\n', &line);
    int r = 0;
    if (!ended)
        r = kl_error_set(err, KL_ETIMEOUT, "%s: timed out after %d ms", argv[0], timeout_ms);
    else if (!WIFEXITED(status) || WEXITSTATUS(status))
        r = kl_error_set(err, KL_EINTERNAL, "%s: %s %d: %.*s", argv[0],
                         WIFEXITED(status) ? "exit status" : "signal",
                         WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), KL_PRI(line));
    kl_buf_fini(&own);
    return r;
}
