// SPDX-License-Identifier: Apache-2.0
// The commands' side of the admin socket: a loop of its own, calls that wait.
#include "cli/admin.h"
#include "net/http_client.h"
#include "object/json.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { QUEUE_MAX = 1 << 20, ANSWER_MAX = 1 << 20 };

static void socket_path(char *ret, size_t n, const char *data_dir)
{
    snprintf(ret, n, "%s/server/admin.sock", data_dir);
}

bool kl_admin_is_served(const char *data_dir)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    char path[4096];
    socket_path(path, sizeof(path), data_dir);
    if (strlen(path) >= sizeof(un.sun_path))
        return false;
    memcpy(un.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool yes = fd >= 0 && !connect(fd, (struct sockaddr *)&un, sizeof(un));
    if (fd >= 0)
        close(fd);
    return yes;
}

// ---- one call; the answer is kept, or read while it comes ----

struct call {
    struct kl_source source;
    struct kl_loop *loop;
    struct kl_http_client *client;
    struct kl_http_call *call;
    char path[4096], target[4600], method[8];
    struct kl_task task, resume;
    pthread_mutex_t mu;
    pthread_cond_t change;
    int status; // HTTP's; 0: no headers yet
    struct kl_buf in;
    bool paused, ended, done;
    int code;
    struct kl_error err;
    struct kl_buf rows; // taken from `in`, not decoded
    size_t used;
};

static void on_headers(void *arg, struct kl_http_call *call, int status,
                       const struct kl_http_header *h, size_t nh)
{
    struct call *c = arg;
    pthread_mutex_lock(&c->mu);
    c->status = status;
    pthread_cond_signal(&c->change);
    pthread_mutex_unlock(&c->mu);
}

static void on_data(void *arg, struct kl_http_call *call, struct kl_str data)
{
    struct call *c = arg;
    pthread_mutex_lock(&c->mu);
    kl_buf_puts(&c->in, data);
    if (c->in.n >= QUEUE_MAX && !c->paused) {
        c->paused = true;
        kl_http_call_pause(call);
    }
    pthread_cond_signal(&c->change);
    pthread_mutex_unlock(&c->mu);
}

static void on_end(void *arg, struct kl_http_call *call, int status, const struct kl_error *err)
{
    struct call *c = arg;
    pthread_mutex_lock(&c->mu);
    c->call = NULL;
    c->ended = true;
    c->code = status;
    if (status && err)
        c->err = *err;
    pthread_cond_signal(&c->change);
    pthread_mutex_unlock(&c->mu);
}

static void run_start(struct kl_task *t)
{
    static const struct kl_http_call_cbs cbs = {
        .on_headers = on_headers, .on_data = on_data, .on_end = on_end};
    struct call *c = KL_CONTAINER_OF(t, struct call, task);
    struct kl_http_call_spec spec = {.host = "kinglet",
                                     .unix_path = c->path,
                                     .proto = KL_HTTP_1,
                                     .method = kl_str(c->method),
                                     .target = kl_str(c->target)};
    struct kl_http_client_opts o = {.loop = c->loop};
    struct kl_error err = {0};
    int r = kl_http_client_new(&o, &c->client, &err);
    if (!r)
        r = kl_http_call_start(c->client, &spec, &cbs, c, &c->call, &err);
    if (r)
        on_end(c, NULL, r, &err);
}

static void run_resume(struct kl_task *t)
{
    struct call *c = KL_CONTAINER_OF(t, struct call, resume);
    if (c->call)
        kl_http_call_resume(c->call);
}

static void run_close(struct kl_task *t)
{
    struct call *c = KL_CONTAINER_OF(t, struct call, task);
    if (c->client)
        kl_http_client_close(c->client);
    kl_loop_stop(c->loop);
}

static void post(struct call *c, void (*run)(struct kl_task *))
{
    c->task.run = run;
    kl_loop_post(c->loop, &c->task);
}

static void close_call(struct kl_source *source)
{
    struct call *c = KL_CONTAINER_OF(source, struct call, source);
    if (c->loop) {
        post(c, run_close);
        kl_loop_join(c->loop);
        kl_loop_unref(c->loop);
    }
    kl_buf_fini(&c->in);
    kl_buf_fini(&c->rows);
    pthread_mutex_destroy(&c->mu);
    pthread_cond_destroy(&c->change);
    free(c);
}

static int open_call(const char *data_dir, const char *method, const char *target,
                     struct call **ret, struct kl_error *err)
{
    struct call *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    socket_path(c->path, sizeof(c->path), data_dir);
    snprintf(c->target, sizeof(c->target), "%s", target);
    snprintf(c->method, sizeof(c->method), "%s", method);
    pthread_mutex_init(&c->mu, NULL);
    pthread_cond_init(&c->change, NULL);
    kl_buf_init(&c->in, KL_RECORD_MAX + 2 * QUEUE_MAX);
    kl_buf_init(&c->rows, 2 * KL_RECORD_MAX);
    int r = kl_loop_new("admin", &c->loop, err);
    if (!r)
        r = kl_loop_start(c->loop, err);
    if (r) {
        kl_loop_unref(c->loop);
        c->loop = NULL;
        close_call(&c->source);
        return r;
    }
    post(c, run_start);
    *ret = c;
    return 0;
}

// With mu held: the error of a call that did not go well.
static int call_error(struct call *c, struct kl_error *err)
{
    int64_t code = 0;
    char text[900] = "";
    if (c->code)
        return kl_error_set(err, c->code, "server at %s: %s", c->path,
                            c->err.msg[0] ? c->err.msg : kl_err_text(c->code));
    kl_admin_number(&c->in, "code", &code);
    kl_admin_text(&c->in, "message", text, sizeof(text));
    return kl_error_set(err, code < 0 && code >= KL_EGONE ? (int)code : KL_EINTERNAL, "%s",
                        text[0] ? text : "the server's answer is not understood");
}

int kl_admin_call(const char *data_dir, const char *method, const char *target, struct kl_buf *ret,
                  struct kl_error *err)
{
    struct call *c;
    int r = open_call(data_dir, method, target, &c, err);
    if (r)
        return r;
    pthread_mutex_lock(&c->mu);
    while (!c->ended && c->in.n < ANSWER_MAX)
        pthread_cond_wait(&c->change, &c->mu);
    if (c->code || c->status != 200)
        r = call_error(c, err);
    else
        r = kl_buf_puts(ret, kl_buf_str(&c->in));
    pthread_mutex_unlock(&c->mu);
    close_call(&c->source);
    return r;
}

// ---- rows ----

// Takes over what has come, waits for it when there is nothing.
static int take_data(struct call *c, struct kl_error *err)
{
    int r = 0;
    pthread_mutex_lock(&c->mu);
    while (!c->ended && !c->in.n)
        pthread_cond_wait(&c->change, &c->mu);
    if (c->status && c->status != 200) {
        while (!c->ended)
            pthread_cond_wait(&c->change, &c->mu);
        r = call_error(c, err);
    } else if (c->in.n) {
        r = kl_buf_puts(&c->rows, kl_buf_str(&c->in));
        kl_buf_clear(&c->in);
    } else {
        r = c->code ? call_error(c, err)
                    : kl_error_set(err, KL_EIO, "the server's answer ended early");
    }
    bool resume = c->paused && !c->ended;
    c->paused = false;
    pthread_mutex_unlock(&c->mu);
    if (resume) {
        c->resume.run = run_resume;
        kl_loop_post(c->loop, &c->resume);
    }
    return r;
}

static int next_record(struct kl_source *source, struct kl_record *ret, struct kl_error *err)
{
    struct call *c = KL_CONTAINER_OF(source, struct call, source);
    if (c->done)
        return KL_EEOF;
    for (;;) {
        struct kl_str in = {c->rows.p + c->used, c->rows.n - c->used};
        int r = in.n ? kl_record_decode(&in, ret, err) : KL_EAGAIN;
        if (r == KL_EAGAIN) {
            kl_buf_consume(&c->rows, c->used);
            c->used = 0;
            if ((r = take_data(c, err)))
                return r;
            continue;
        }
        if (r)
            return r;
        c->used = c->rows.n - in.n;
        c->done = ret->kind == KL_RECORD_END;
        return ret->kind == KL_RECORD_FAIL ? kl_record_error(ret, err) : 0;
    }
}

void kl_admin_escape(struct kl_buf *b, const char *text)
{
    for (const char *p = text; *p; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     (*p >= '0' && *p <= '9') || strchr("/-._~", *p);
        kl_buf_printf(b, plain ? "%c" : "%%%02X", (unsigned char)*p);
    }
}

int kl_admin_source(const char *data_dir, const struct kl_source_from *from,
                    struct kl_source **ret_s, struct kl_error *err)
{
    char target[128];
    struct call *c;
    snprintf(target, sizeof(target), "/v1/rows?base=%lld&through=%lld&follow=%s",
             (long long)from->base_rev, (long long)from->through, from->follow ? "true" : "false");
    int r = open_call(data_dir, "GET", target, &c, err);
    if (r)
        return r;
    c->source = (struct kl_source){next_record, close_call};
    // An error at the beginning is told now: the copy may have to begin differently.
    pthread_mutex_lock(&c->mu);
    while (!c->ended && !c->status)
        pthread_cond_wait(&c->change, &c->mu);
    bool good = c->status == 200;
    pthread_mutex_unlock(&c->mu);
    r = good ? 0 : take_data(c, err);
    if (r) {
        close_call(&c->source);
        return r;
    }
    *ret_s = &c->source;
    return 0;
}

// ---- answers ----

static bool find_value(const struct kl_buf *answer, const char *name, struct kl_arena *a,
                       const struct kl_value **ret)
{
    struct kl_value *v = kl_arena_alloc(a, sizeof(*v));
    if (!v || kl_json_parse(a, kl_buf_str(answer), NULL, v, NULL))
        return false;
    *ret = kl_map_value(v, kl_str(name));
    return *ret != NULL;
}

bool kl_admin_number(const struct kl_buf *answer, const char *name, int64_t *ret)
{
    struct kl_arena a;
    const struct kl_value *v;
    kl_arena_init(&a, 4 << 20);
    bool ok = find_value(answer, name, &a, &v) && v->kind == KL_INT;
    if (ok)
        *ret = v->i;
    kl_arena_fini(&a);
    return ok;
}

bool kl_admin_text(const struct kl_buf *answer, const char *name, char *ret, size_t n)
{
    struct kl_arena a;
    const struct kl_value *v;
    kl_arena_init(&a, 4 << 20);
    bool ok = find_value(answer, name, &a, &v) && v->kind == KL_STRING;
    if (ok)
        snprintf(ret, n, "%.*s", (int)v->n, v->s);
    kl_arena_fini(&a);
    return ok;
}
