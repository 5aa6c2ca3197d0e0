// SPDX-License-Identifier: Apache-2.0
// Listening, choosing a loop for each connection, and stopping.
#include "net/http_server.h"
#include "net/listen.h"
#include "base/log.h"
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    BACKLOG = 1024,
    ACCEPTS_PER_TURN = 64,
    RETRY_MS = 100,
};

struct adoption {
    struct kl_task task;
    struct kl_http_worker *worker;
    int fd;
    struct sockaddr_storage peer;
};

// ---- Opening the socket

// A socket file that nobody listens on is left over from a crash and is replaced.
static int open_unix(const char *path, int *ret_fd, struct kl_error *err)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(un.sun_path))
        return kl_error_set(err, KL_EINVALID, "listen unix %s: path too long", path);
    memcpy(un.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return kl_error_errno(err, errno, "listen unix %s: socket", path);
    if (connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0) {
        close(fd);
        return kl_error_set(err, KL_EEXISTS, "listen unix %s: address already in use", path);
    }
    if (errno == ECONNREFUSED)
        unlink(path);
    close(fd);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return kl_error_errno(err, errno, "listen unix %s: socket", path);
    // Nobody can connect before listen, and listen comes after chmod.
    if (bind(fd, (struct sockaddr *)&un, sizeof(un)) || chmod(path, 0600) || listen(fd, BACKLOG)) {
        kl_error_errno(err, errno, "listen unix %s", path);
        close(fd);
        return err ? err->code : KL_EIO;
    }
    *ret_fd = fd;
    return 0;
}

// ---- Accepting, on loops[0]

static void on_listener(uv_poll_t *p, int status, int events);

static void update_listener(struct kl_http_server *s)
{
    bool want = s->listening && !s->paused && !atomic_load_explicit(&s->full, memory_order_acquire);
    if (!s->listening)
        return;
    if (want)
        uv_poll_start(&s->listener, UV_READABLE, on_listener);
    else
        uv_poll_stop(&s->listener);
}

static void on_retry(uv_timer_t *t)
{
    struct kl_http_server *s = t->data;
    s->paused = false;
    update_listener(s);
}

static int count_conns(const struct kl_http_server *s)
{
    int n = 0;
    for (int i = 0; i < s->nworkers; i++)
        n += atomic_load_explicit(&s->workers[i].nconns, memory_order_relaxed);
    return n;
}

static void run_resume(struct kl_task *t)
{
    struct kl_http_server *s = KL_CONTAINER_OF(t, struct kl_http_server, resume_task);
    atomic_store_explicit(&s->resume_queued, false, memory_order_release);
    if (count_conns(s) < (int)s->limits.max_connections)
        atomic_store_explicit(&s->full, false, memory_order_release);
    update_listener(s);
}

void kl_http_worker_conn_left(struct kl_http_worker *w)
{
    struct kl_http_server *s = w->server;
    atomic_fetch_sub_explicit(&w->nconns, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&s->full, memory_order_seq_cst) && !w->stopping &&
        !atomic_exchange_explicit(&s->resume_queued, true, memory_order_acq_rel))
        kl_loop_post(s->workers[0].loop, &s->resume_task);
}

static struct kl_http_worker *least_busy(struct kl_http_server *s)
{
    struct kl_http_worker *best = s->workers;
    int best_streams = INT_MAX, best_conns = INT_MAX;
    for (int i = 0; i < s->nworkers; i++) {
        struct kl_http_worker *w = &s->workers[i];
        int streams = atomic_load_explicit(&w->nstreams, memory_order_relaxed);
        int conns = atomic_load_explicit(&w->nconns, memory_order_relaxed);
        if (streams < best_streams || (streams == best_streams && conns < best_conns)) {
            best = w;
            best_streams = streams;
            best_conns = conns;
        }
    }
    return best;
}

static void run_adopt(struct kl_task *t)
{
    struct adoption *a = KL_CONTAINER_OF(t, struct adoption, task);
    kl_http_adopt(a->worker, a->fd, &a->peer);
    free(a);
}

static void hand_over(struct kl_http_server *s, int fd, const struct sockaddr_storage *peer)
{
    struct kl_http_worker *w = least_busy(s);
    atomic_fetch_add_explicit(&s->accepted, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->nconns, 1, memory_order_relaxed);
    if (kl_loop_is_current(w->loop)) {
        kl_http_adopt(w, fd, peer);
        return;
    }
    struct adoption *a = malloc(sizeof(*a));
    if (!a) {
        close(fd);
        kl_http_worker_conn_left(w);
        return;
    }
    *a = (struct adoption){.task.run = run_adopt, .worker = w, .fd = fd, .peer = *peer};
    kl_loop_post(w->loop, &a->task);
}

static void on_listener(uv_poll_t *p, int status, int events)
{
    struct kl_http_server *s = p->data;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t n = sizeof(peer);
        if (count_conns(s) >= (int)s->limits.max_connections) {
            atomic_store_explicit(&s->full, true, memory_order_seq_cst);
            // One may have left just before: then nobody else would tell.
            if (count_conns(s) < (int)s->limits.max_connections)
                atomic_store_explicit(&s->full, false, memory_order_release);
            update_listener(s);
            return;
        }
        int fd = accept4(s->fd, (struct sockaddr *)&peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            hand_over(s, fd, &peer);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            kl_log(KL_LOG_WARN, "http", "accept failed port=%d error=%s", s->port,
                   strerrordesc_np(errno));
            s->paused = true;
            uv_timer_start(&s->retry, on_retry, RETRY_MS, 0);
            update_listener(s);
        }
        if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

static void run_start(struct kl_task *t)
{
    struct kl_http_server *s = KL_CONTAINER_OF(t, struct kl_http_server, start_task);
    uv_loop_t *uv = kl_loop_uv(s->workers[0].loop);
    uv_timer_init(uv, &s->retry);
    s->retry.data = s;
    s->open_handles = 1;
    if (uv_poll_init(uv, &s->listener, s->fd) == 0) {
        s->open_handles++;
        s->listener.data = s;
        s->listening = true;
        update_listener(s);
    } else {
        kl_log(KL_LOG_ERROR, "http", "cannot poll the listening socket port=%d", s->port);
    }
}

// ---- Starting

static uint32_t or_default(uint32_t v, uint32_t d)
{
    return v ? v : d;
}

static void free_server(struct kl_http_server *s)
{
    for (int i = 0; i < s->nworkers; i++) {
        for (struct kl_http_req *r = s->workers[i].free_reqs, *next; r; r = next) {
            next = r->next;
            kl_arena_fini(&r->arena);
            free(r);
        }
    }
    kl_tls_ctx_unref(s->tls);
    free(s->workers);
    free(s->unix_path);
    free(s);
}

static void set_limits(struct kl_http_limits *l, const struct kl_http_server_opts *o)
{
    l->max_header_bytes = or_default(o->max_header_bytes, 1024 * 1024);
    l->max_header_count = or_default(o->max_header_count, 1000);
    l->max_streams = or_default(o->max_streams, 250);
    l->max_connections = or_default(o->max_connections, 16384);
    l->header_timeout_ms = or_default(o->header_timeout_ms, 32000);
    l->idle_timeout_ms = or_default(o->idle_timeout_ms, 180000);
    l->progress_timeout_ms = or_default(o->progress_timeout_ms, 30000);
    l->max_resets_per_s = or_default(o->max_resets_per_s, 33);
    l->no_http2 = o->no_http2;
    l->lenient_http2 = o->lenient_http2;
}

static void run_stop(struct kl_task *t);

int kl_http_server_start(const struct kl_http_server_opts *o, struct kl_http_server **ret,
                         struct kl_error *err)
{
    int fd = -1, rc = o->unix_path ? open_unix(o->unix_path, &fd, err)
                                   : kl_listen_tcp(o->address, o->port, &fd, err);
    if (rc)
        return rc;
    struct kl_http_server *s = calloc(1, sizeof(*s));
    if (s)
        s->workers = calloc((size_t)o->nloops, sizeof(*s->workers));
    if (s && o->unix_path)
        s->unix_path = strdup(o->unix_path);
    if (!s || !s->workers || (o->unix_path && !s->unix_path)) {
        close(fd);
        if (s)
            free_server(s);
        return kl_error_set(err, KL_ENOMEM, "HTTP server: out of memory");
    }
    set_limits(&s->limits, o);
    s->tls = kl_tls_ctx_ref(o->tls);
    s->handler = o->handler;
    s->arg = o->arg;
    s->nworkers = s->workers_left = o->nloops;
    s->fd = fd;
    s->port = kl_listen_port(fd);
    atomic_init(&s->next_conn_id, 1);
    for (int i = 0; i < o->nloops; i++) {
        s->workers[i].server = s;
        s->workers[i].loop = o->loops[i];
        s->workers[i].stop_task.run = run_stop;
    }
    s->start_task.run = run_start;
    s->resume_task.run = run_resume;
    *ret = s;
    kl_loop_post(o->loops[0], &s->start_task);
    return 0;
}

int kl_http_server_port(const struct kl_http_server *s)
{
    return s->port;
}

void kl_http_server_get_stats(const struct kl_http_server *s, struct kl_http_server_stats *ret)
{
    *ret = (struct kl_http_server_stats){0};
    for (int i = 0; i < s->nworkers; i++) {
        const struct kl_http_worker *w = &s->workers[i];
        ret->connections += atomic_load_explicit(&w->nconns, memory_order_relaxed);
        ret->requests_in_flight += atomic_load_explicit(&w->nstreams, memory_order_relaxed);
        ret->requests += atomic_load_explicit(&w->requests, memory_order_relaxed);
    }
    ret->accepted = atomic_load_explicit(&s->accepted, memory_order_relaxed);
}

// ---- Stopping: first the listener on loops[0], which then tells the other loops, so that no
// connection can be on its way to a loop that has already reported to be empty.

static void finish_if_done(struct kl_http_server *s)
{
    if (s->workers_left || s->open_handles)
        return;
    void (*done)(void *) = s->done;
    void *arg = s->done_arg;
    if (done)
        done(arg);
    free_server(s);
}

static void on_handle_closed(uv_handle_t *h)
{
    struct kl_http_server *s = h->data;
    s->open_handles--;
    finish_if_done(s);
}

static void run_gone(struct kl_task *t)
{
    struct kl_http_server *s = KL_CONTAINER_OF(t, struct kl_http_worker, gone_task)->server;
    s->workers_left--;
    finish_if_done(s);
}

static void on_timer_closed(uv_handle_t *h)
{
    struct kl_http_worker *w = h->data;
    w->timer_open = false;
    kl_http_worker_check_gone(w);
}

void kl_http_worker_check_gone(struct kl_http_worker *w)
{
    if (!w->stopping || w->gone || w->nlive)
        return;
    if (w->timer_open) {
        if (!uv_is_closing((uv_handle_t *)&w->deadline))
            uv_close((uv_handle_t *)&w->deadline, on_timer_closed);
        return;
    }
    w->gone = true;
    w->gone_task.run = run_gone;
    kl_loop_post(w->server->workers[0].loop, &w->gone_task);
}

static void on_stop_deadline(uv_timer_t *t)
{
    struct kl_http_worker *w = t->data;
    // Closing unlinks later, so the list is stable; callbacks cannot add to a stopping worker.
    for (struct kl_http_conn *c = w->conns; c; c = c->next) {
        if (c->c && c->c->state >= KL_CONN_DRAINING && !c->tunnel)
            kl_conn_close(c->c);
        else
            kl_http_conn_close(c, KL_EUNAVAILABLE);
    }
}

static void stop_conn(struct kl_http_conn *c)
{
    if (!c->c || c->tunnel)
        return;
    if (c->h1)
        kl_h1_stop(c);
    else if (c->h2)
        kl_h2_stop(c);
    else
        kl_http_conn_close(c, KL_EUNAVAILABLE);
}

static void run_stop(struct kl_task *t)
{
    struct kl_http_worker *w = KL_CONTAINER_OF(t, struct kl_http_worker, stop_task);
    struct kl_http_server *s = w->server;
    if (w == s->workers) {
        if (s->listening) {
            uv_close((uv_handle_t *)&s->listener, on_handle_closed);
            s->listening = false;
        }
        uv_close((uv_handle_t *)&s->retry, on_handle_closed);
        close(s->fd);
        if (s->unix_path)
            unlink(s->unix_path);
        for (int i = 1; i < s->nworkers; i++)
            kl_loop_post(s->workers[i].loop, &s->workers[i].stop_task);
    }
    w->stopping = true;
    for (struct kl_http_conn *c = w->conns; c; c = c->next)
        stop_conn(c);
    uv_timer_init(kl_loop_uv(w->loop), &w->deadline);
    w->deadline.data = w;
    w->timer_open = true;
    uv_timer_start(&w->deadline, on_stop_deadline, s->stop_deadline_ms, 0);
    kl_http_worker_check_gone(w);
}

void kl_http_server_stop(struct kl_http_server *s, uint32_t deadline_ms, void (*done)(void *arg),
                         void *arg)
{
    s->stop_deadline_ms = deadline_ms;
    s->done = done;
    s->done_arg = arg;
    kl_loop_post(s->workers[0].loop, &s->workers[0].stop_task);
}
