// SPDX-License-Identifier: Apache-2.0
// GET /containerLogs: the log file of one instance of a container, read piece by piece on a worker
// as the client takes it, and followed with inotify until the container has ended.
#include "kubelet/log_reader.h"
#include "kubelet/server_int.h"
#include "object/timestamp.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_BYTES = 64 * 1024, MAX_LINE_BYTES = 1024 * 1024, IDLE_CHECK_MS = 1000 };

struct log_stream {
    struct kl_kubelet *k;
    struct kl_http_req *req; // NULL once it has closed
    char *path, *pod_uid, *ctr_id;
    bool rewatch; // another file has the name now
    bool follow, finished, failed, reading, changed, started_answer;
    struct kl_log_filter filter;
    int64_t tail; // -1: all
    // the worker's, while reading
    struct kl_job job;
    int fd;
    ino_t inode;
    int64_t offset;
    struct kl_buf raw, out;
    bool eof, limit, opened, left; // left: the file was rotated away, its end is being read
    struct kl_error err;
    // what was read and not yet taken
    struct kl_bytes *ready;
    uv_fs_event_t *watch;
    struct kl_timer idle;
};

static void free_handle(uv_handle_t *h)
{
    free(h);
}

static void free_stream(struct log_stream *s)
{
    struct kl_kubelet *k = s->k;
    kl_timer_cancel(k->timers, &s->idle);
    if (s->watch) {
        uv_fs_event_stop(s->watch);
        uv_close((uv_handle_t *)s->watch, free_handle);
    }
    if (s->fd >= 0)
        close(s->fd);
    kl_bytes_unref(s->ready);
    kl_buf_fini(&s->raw);
    kl_buf_fini(&s->out);
    free(s->path);
    free(s->pod_uid);
    free(s->ctr_id);
    free(s);
    kl_kubelet_release(k);
}

static bool ctr_running(const struct log_stream *s)
{
    struct kl_pod *p = kl_map_get(&s->k->pods->by_uid, kl_str(s->pod_uid));
    const struct kl_ctr *c = p ? kl_rt_find_id(&p->rt, kl_str(s->ctr_id)) : NULL;
    return c && (c->state == KL_CTR_RUNNING || c->state == KL_CTR_CREATED);
}

// ---- on the worker

static int open_log(struct log_stream *s)
{
    struct stat st;
    s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &st))
        return kl_error_errno(&s->err, errno, "failed to try resolving symlinks in path \"%s\"",
                              s->path);
    s->inode = st.st_ino;
    s->offset = 0;
    if (!s->opened && s->tail >= 0)
        kl_log_tail_offset(s->fd, s->tail, &s->offset, &s->err);
    s->opened = true;
    return 0;
}

// The file was rotated away: the new one begins where the old ended.
static bool rotated(const struct log_stream *s)
{
    struct stat st;
    return stat(s->path, &st) == 0 && st.st_ino != s->inode;
}

static void read_some(struct kl_job *job)
{
    struct log_stream *s = KL_CONTAINER_OF(job, struct log_stream, job);
    s->eof = false;
    if (s->fd < 0 && open_log(s))
        return;
    while (!s->out.n && !s->eof && !s->limit) {
        if (kl_buf_reserve(&s->raw, READ_BYTES)) {
            kl_buf_clear(&s->raw); // a line longer than any the runtime writes
            continue;
        }
        ssize_t n = pread(s->fd, s->raw.p + s->raw.n, READ_BYTES, s->offset);
        if (n < 0) {
            kl_error_errno(&s->err, errno, "read %s", s->path);
            return;
        }
        if (n == 0 && !s->left && rotated(s)) {
            s->left = true; // something may have come before the runtime let go of it
            continue;
        }
        if (n == 0 && s->left) {
            s->left = false;
            s->rewatch = true;
            close(s->fd);
            s->fd = -1;
            kl_buf_clear(&s->raw);
            if (open_log(s))
                return;
            continue;
        }
        s->eof = n == 0;
        s->offset += n;
        s->raw.n += (size_t)n;
        size_t used;
        s->limit = !kl_log_format(&s->filter, kl_buf_str(&s->raw), &s->out, &used);
        kl_buf_consume(&s->raw, used);
    }
}

// ---- on the loop

static void read_more(struct log_stream *s);

static void on_changed(uv_fs_event_t *h, const char *name, int events, int status)
{
    struct log_stream *s = h->data;
    s->changed = true;
    if (!s->reading && !s->ready)
        read_more(s);
}

// Also sees that the container has ended, which changes no file.
static void on_idle(struct kl_timer *t)
{
    struct log_stream *s = KL_CONTAINER_OF(t, struct log_stream, idle);
    if (!s->reading && !s->ready && s->req)
        read_more(s);
}

static void wait_for_change(struct log_stream *s)
{
    if (s->watch && s->rewatch) {
        uv_fs_event_stop(s->watch);
        uv_fs_event_start(s->watch, on_changed, s->path, 0);
    }
    s->rewatch = false;
    if (!s->watch && (s->watch = calloc(1, sizeof(*s->watch)))) {
        uv_fs_event_init(kl_loop_uv(s->k->loop), s->watch);
        s->watch->data = s;
        uv_fs_event_start(s->watch, on_changed, s->path, 0);
    }
    kl_timer_after(s->k->timers, &s->idle, IDLE_CHECK_MS);
}

static int pull(void *arg, struct kl_http_chunk *chunks, int max, bool *ret_end)
{
    struct log_stream *s = arg;
    int n = 0;
    if (s->ready) {
        chunks[n++] = (struct kl_http_chunk){s->ready, 0, s->ready->n};
        s->ready = NULL;
    }
    *ret_end = s->finished;
    if (!s->finished && !s->reading && n)
        read_more(s);
    return n;
}

static const struct kl_http_source source = {pull, NULL};

static void on_close(void *arg, struct kl_http_req *r, int status)
{
    struct log_stream *s = arg;
    s->req = NULL;
    if (!s->reading)
        free_stream(s);
}

static void answer(struct log_stream *s)
{
    static const struct kl_http_header h[] = {KL_HTTP_HEADER("content-type", "text/plain")};
    if (s->started_answer)
        return;
    s->started_answer = true;
    kl_http_respond_stream(s->req, 200, h, KL_COUNT(h), &source, s);
}

static void have_read(struct kl_job *job)
{
    struct log_stream *s = KL_CONTAINER_OF(job, struct log_stream, job);
    s->reading = false;
    if (!s->req) {
        free_stream(s);
        return;
    }
    if (s->err.code && !s->started_answer) {
        s->started_answer = true;
        kl_answer_text(s->req, 500, "%s", s->err.msg);
        return;
    }
    if (s->out.n) {
        s->ready = kl_bytes_from_buf(&s->out);
        kl_buf_clear(&s->out);
    }
    // Read before asked whether it runs, so that nothing of its last words is lost.
    bool running = s->follow && s->changed;
    if (s->err.code || s->limit || (s->eof && !s->ready && !running))
        s->finished = true;
    answer(s);
    kl_http_resume(s->req);
    if (s->eof && !s->finished && !s->ready)
        wait_for_change(s);
}

static void read_more(struct log_stream *s)
{
    s->reading = true;
    s->changed = s->follow && !s->k->stopping && ctr_running(s);
    s->job.work = read_some;
    s->job.done = have_read;
    kl_pool_submit(s->k->pool, &s->job);
}

// ---- the request

static const struct kl_ctr *find_instance(struct kl_pod *p, struct kl_str name, bool previous)
{
    const struct kl_ctr *c = kl_rt_find(&p->rt, name);
    if (!previous || !c)
        return c;
    // The last one that has ended, when the newest runs; else the one before the newest.
    for (const struct kl_ctr *o = c->next; o; o = o->next)
        if (kl_str_eqz(name, o->name))
            return o;
    return NULL;
}

static bool read_options(struct log_stream *s, struct kl_http_req *r, struct kl_str q)
{
    struct kl_arena *a = kl_http_req_arena(r);
    int64_t n;
    struct kl_str v;
    s->follow = kl_query_true(a, q, "follow");
    s->filter.timestamps = kl_query_true(a, q, "timestamps");
    s->filter.limit_bytes = s->tail = -1;
    if ((v = kl_query_value(a, q, "tailLines", 0)).n && !kl_str_eqz(v, "all")) {
        if (!kl_str_to_i64(v, &s->tail) || s->tail < 0)
            return false;
    }
    if ((v = kl_query_value(a, q, "limitBytes", 0)).n &&
        (!kl_str_to_i64(v, &s->filter.limit_bytes) || s->filter.limit_bytes < 1))
        return false;
    if ((v = kl_query_value(a, q, "sinceSeconds", 0)).n) {
        if (!kl_str_to_i64(v, &n) || n < 1)
            return false;
        s->filter.since_us = kl_timers_wall_us(s->k->timers) - n * 1000000;
    }
    if ((v = kl_query_value(a, q, "sinceTime", 0)).n && kl_time_parse(v, &s->filter.since_us, NULL))
        return false;
    return true;
}

void kl_serve_logs(struct kl_kubelet *k, struct kl_http_req *r, const struct kl_route *route)
{
    struct kl_pod *p = kl_pods_by_name(k->pods, route->ns, route->pod);
    if (!p || p->gone) {
        kl_answer_text(r, 404, "pod \"%.*s/%.*s\" not found\n", KL_PRI(route->ns),
                       KL_PRI(route->pod));
        return;
    }
    if (!kl_pod_container(kl_pod_root(p), route->container, NULL)) {
        kl_answer_text(r, 404, "container \"%.*s\" not found in pod \"%s\"\n",
                       KL_PRI(route->container), p->name);
        return;
    }
    bool previous = kl_query_true(kl_http_req_arena(r), route->query, "previous");
    const struct kl_ctr *c = find_instance(p, route->container, previous);
    if (!c && previous) {
        kl_answer_text(r, 400, "previous terminated container \"%.*s\" in pod \"%s\" not found",
                       KL_PRI(route->container), p->name);
        return;
    }
    if (!c) {
        const struct kl_ctr_mem *m = kl_pod_mem(p, route->container);
        bool init = kl_len(kl_pod_containers(kl_pod_root(p), KL_CTR_INIT)) > 0;
        kl_answer_text(r, 400, "container \"%.*s\" in pod \"%s\" is waiting to start: %s",
                       KL_PRI(route->container), p->name,
                       m->message && *m->message ? m->message
                       : m->reason               ? m->reason
                       : init                    ? "PodInitializing"
                                                 : "ContainerCreating");
        return;
    }
    struct log_stream *s = calloc(1, sizeof(*s));
    if (!s) {
        kl_answer_text(r, 500, "out of memory");
        return;
    }
    s->k = k;
    s->fd = -1;
    s->idle.cb = on_idle;
    kl_buf_init(&s->raw, MAX_LINE_BYTES);
    kl_buf_init(&s->out, 4 * MAX_LINE_BYTES);
    kl_kubelet_hold(k);
    if (!read_options(s, r, route->query)) {
        free_stream(s);
        kl_answer_text(r, 400, "{\"message\": \"Invalid request.\"}");
        return;
    }
    struct kl_path dir;
    kl_pod_log_dir(p, &dir);
    s->path = c->log_path ? kl_strdup(kl_str(c->log_path))
                          : kl_asprintf("%s/%s/%u.log", dir.s, c->name, c->attempt);
    s->pod_uid = kl_strdup(kl_str(p->uid));
    s->ctr_id = kl_strdup(kl_str(c->id));
    s->req = r;
    kl_http_req_on_close(r, on_close, s);
    read_more(s);
}
