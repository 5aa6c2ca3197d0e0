// SPDX-License-Identifier: Apache-2.0
// For targets that need a loop and a socket: each input runs on a loop of its own thread's, with
// one end of a socket pair written to and closed a few turns later.
#pragma once
#include "base/loop.h"
#include "base/str.h"
#include "fuzz.h"
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct fuzz_net {
    struct kl_loop *loop;
    struct kl_task task;
    uv_idle_t idle;
    const uint8_t *data;
    size_t size;
    int fd, turns, max_turns;
    int patience;                              // turns before the connection is closed [16]
    void (*begin)(struct fuzz_net *n, int fd); // takes the fd
    bool (*over)(struct fuzz_net *n);          // everything of this input is gone
    // What came back; true: the answer is whole, no more patience is needed. May be NULL.
    bool (*came)(struct fuzz_net *n, const uint8_t *p, size_t len);
    bool whole; // it said so
    void *arg;
};

static void fuzz_net_drain(struct fuzz_net *n)
{
    uint8_t sink[16384];
    for (ssize_t got; (got = recv(n->fd, sink, sizeof(sink), MSG_DONTWAIT)) > 0;)
        n->whole |= n->came && n->came(n, sink, (size_t)got);
}

static void fuzz_net_turn(uv_idle_t *h)
{
    struct fuzz_net *n = h->data;
    int last = n->patience ? n->patience : 16;
    n->turns++;
    if (n->fd >= 0)
        fuzz_net_drain(n);
    if (n->whole && n->turns > 4 && n->turns < last - 6)
        n->turns = last - 6;
    if (n->turns == 4 && n->size)
        FUZZ_CHECK(send(n->fd, n->data, n->size, MSG_NOSIGNAL | MSG_DONTWAIT) > -2, "send");
    if (n->turns == last - 6)
        shutdown(n->fd, SHUT_WR);
    if (n->turns == last) {
        close(n->fd);
        n->fd = -1;
    }
    if (n->turns > last && n->over(n))
        uv_stop(h->loop);
    FUZZ_CHECK(n->turns < n->max_turns, "the connection does not end");
}

static void fuzz_net_begin(struct kl_task *t)
{
    struct fuzz_net *n = KL_CONTAINER_OF(t, struct fuzz_net, task);
    int fds[2], big = 4 << 20;
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0, "socketpair");
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
    // The first half at once, the rest some turns later: pieces end anywhere.
    size_t half = n->size / 2;
    if (half)
        FUZZ_CHECK(send(fds[0], n->data, half, MSG_NOSIGNAL | MSG_DONTWAIT) > -2, "send");
    n->data += half;
    n->size -= half;
    n->fd = fds[0];
    n->turns = 0;
    n->whole = false;
    n->begin(n, fds[1]);
}

static void fuzz_net_run(struct fuzz_net *n, const uint8_t *data, size_t size)
{
    n->data = data;
    n->size = size;
    n->task.run = fuzz_net_begin;
    n->max_turns = 5000000;
    if (!n->idle.data)
        uv_idle_init(kl_loop_uv(n->loop), &n->idle);
    n->idle.data = n;
    uv_idle_start(&n->idle, fuzz_net_turn);
    kl_loop_post(n->loop, &n->task);
    n->turns = -1000000; // until begin has run
    n->fd = -1;
    kl_loop_run(n->loop);
    uv_idle_stop(&n->idle);
}
