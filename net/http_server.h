// SPDX-License-Identifier: Apache-2.0
// Between http_server.c (connections) and http_listen.c (listening, choosing a loop, stopping).
#pragma once
#include "base/clock.h"
#include "net/http_int.h"

struct kl_http_server {
    struct kl_http_limits limits;
    struct kl_tls_ctx *tls;
    kl_http_handler handler;
    void *arg;
    struct kl_http_worker *workers;
    int nworkers, port, fd;
    char *unix_path;
    atomic_llong next_conn_id, accepted;

    // On loops[0] only.
    uv_poll_t listener;
    uv_timer_t retry; // after accept ran out of descriptors
    bool listening, paused;
    int open_handles, workers_left;
    struct kl_task start_task;

    atomic_bool full, resume_queued; // at max_connections: a loop that loses one says so
    struct kl_task resume_task;
    uint32_t stop_deadline_ms;
    void (*done)(void *arg);
    void *done_arg;
};

void kl_http_adopt(struct kl_http_worker *w, int fd, const struct sockaddr_storage *peer);
void kl_http_worker_conn_left(struct kl_http_worker *w); // a socket of it was closed
void kl_http_worker_check_gone(struct kl_http_worker *w);
