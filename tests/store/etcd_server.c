// SPDX-License-Identifier: Apache-2.0
#include "etcd_server.h"
#include "free_port.h"
#include "base/clock.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *find(bool kinglet, char *buf, size_t n)
{
    const char *e = getenv(kinglet ? "KINGLET" : "ETCD_REFERENCE");
    char self[PATH_MAX];
    if (e)
        return e;
    if (!kinglet)
        return access(".cache/etcd/etcd-v3.7.3", X_OK) ? NULL : ".cache/etcd/etcd-v3.7.3";
    ssize_t k = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[k < 0 ? 0 : k] = 0;
    char *tests = strstr(self, "/tests/store/");
    if (!tests)
        return NULL;
    *tests = 0;
    snprintf(buf, n, "%.4000s/kinglet", self);
    return access(buf, X_OK) ? NULL : buf;
}

static int connect_port(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int r = connect(fd, (struct sockaddr *)&a, sizeof(a));
    close(fd);
    return r;
}

static void run_program(const struct es_server *s, const char *program)
{
    char url[64], data[160];
    snprintf(url, sizeof(url), "http://127.0.0.1:%d", s->port);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char log[160];
    snprintf(log, sizeof(log), "%s/server.log", s->dir);
    int fd = open(log, O_CREAT | O_APPEND | O_WRONLY, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    if (s->kinglet) {
        snprintf(data, sizeof(data), "sqlite://%s/remote.db", s->dir);
        execl(program, program, "etcd", "--listen-client-urls", url, "--datastore-endpoint", data,
              NULL);
    } else {
        snprintf(data, sizeof(data), "%s/remote", s->dir);
        execl(program, program, "--data-dir", data, "--listen-client-urls", url,
              "--advertise-client-urls", url, "--listen-peer-urls", "http://127.0.0.1:0",
              "--unsafe-no-fsync", "--log-level", "error", NULL);
    }
    _exit(127);
}

void es_again(struct es_server *s)
{
    char buf[PATH_MAX];
    const char *program = find(s->kinglet, buf, sizeof(buf));
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (!s->pid)
        run_program(s, program);
    int64_t end = kl_mono_ms() + 120000;
    while (connect_port(s->port)) {
        if (kl_mono_ms() > end || waitpid(s->pid, NULL, WNOHANG) == s->pid)
            fail_msg("%s does not start: %s/server.log", program, s->dir);
        poll(NULL, 0, 5);
    }
}

bool es_is_there(bool kinglet)
{
    char buf[PATH_MAX];
    return find(kinglet, buf, sizeof(buf));
}

bool es_start(struct es_server *s, bool kinglet, const char *dir)
{
    char buf[PATH_MAX];
    *s = (struct es_server){.kinglet = kinglet};
    if (!find(kinglet, buf, sizeof(buf)))
        return false;
    snprintf(s->dir, sizeof(s->dir), "%.90s", dir);
    s->port = ts_free_port();
    es_again(s);
    return true;
}

static void end(struct es_server *s, int sig)
{
    if (s->pid <= 0)
        return;
    kill(s->pid, sig);
    waitpid(s->pid, NULL, 0);
    s->pid = 0;
}

void es_kill(struct es_server *s)
{
    end(s, SIGKILL);
}

void es_stop(struct es_server *s)
{
    end(s, SIGKILL); // nothing of it is kept
}
