// SPDX-License-Identifier: Apache-2.0
// The server's side of the admin socket. A request becomes a job with a thread of its own; the
// answer goes out on the loop.
#include "cli/admin.h"
#include "cli/revoke.h"
#include "apiserver/encryption/encryption.h"
#include "cli/status.h"
#include "store/transfer/fence.h"
#include "store/transfer/snapshot.h"
#include "base/log.h"
#include "net/http.h"
#include "object/json.h"
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    JOBS_MAX = 8,
    CHUNK_BYTES = 64 << 10,
    CHUNKS_MAX = 16, // waiting for a slow reader
    ANSWER_MAX = 1 << 20,
    STOP_MS = 2000,
};

enum job_kind {
    JOB_STATUS,
    JOB_DIGEST,
    JOB_ROWS,
    JOB_FENCE,
    JOB_KEEP_FENCE,
    JOB_LIFT_FENCE,
    JOB_SNAPSHOT,
    JOB_ENCRYPTION,
    JOB_REVOKED
};

struct job {
    struct kl_admin *admin;
    struct kl_http_req *req; // a reference
    enum job_kind kind;
    struct job *prev, *next;
    pthread_t thread;
    bool running;
    struct kl_task task; // on the loop, when the thread is done
    int code;
    struct kl_error err;
    struct kl_buf body;
    // parameters
    struct kl_source_from from;
    int64_t ms;
    kl_rev rev;
    char dir[4096], name[128], why[400];
    // A stream of rows.
    struct kl_source *source;
    pthread_mutex_t mu;
    pthread_cond_t room;
    struct kl_bytes *chunk[CHUNKS_MAX];
    int nchunks;
    bool ended, canceled, wake_queued, closed, thread_done;
    struct kl_task wake;
};

struct kl_admin {
    struct kl_admin_options o;
    struct kl_loop *loop;
    struct kl_http_server *http;
    pthread_mutex_t mu; // jobs
    struct job *jobs;
    int njobs;
    struct kl_task stop;
    bool http_gone, stopping;
};

static void maybe_gone(struct kl_admin *a)
{
    if (a->stopping && a->http_gone && !a->njobs)
        kl_loop_stop(a->loop);
}

// ---- jobs ----

static void free_job(struct job *j)
{
    struct kl_admin *a = j->admin;
    if (j->running)
        pthread_join(j->thread, NULL);
    pthread_mutex_lock(&a->mu);
    *(j->prev ? &j->prev->next : &a->jobs) = j->next;
    if (j->next)
        j->next->prev = j->prev;
    a->njobs--;
    pthread_mutex_unlock(&a->mu);
    for (int i = 0; i < j->nchunks; i++)
        kl_bytes_unref(j->chunk[i]);
    if (j->source)
        j->source->close(j->source);
    kl_http_req_unref(j->req);
    kl_buf_fini(&j->body);
    pthread_mutex_destroy(&j->mu);
    pthread_cond_destroy(&j->room);
    free(j);
    maybe_gone(a);
}

static void respond(struct kl_http_req *req, int code, const struct kl_error *err,
                    struct kl_str body)
{
    static const struct kl_http_header json[] = {
        KL_HTTP_HEADER("content-type", "application/json")};
    struct kl_buf b;
    kl_buf_init(&b, 16 << 10);
    if (code) {
        kl_buf_printf(&b, "{\"code\":%d,\"message\":", code);
        kl_json_write_string(&b, kl_str(err->msg[0] ? err->msg : kl_err_text(code)));
        kl_buf_puts(&b, KL_STR("}\n"));
        body = kl_buf_str(&b);
    }
    kl_http_respond(req, code ? kl_err_http(code) : 200, json, 1, body);
    kl_buf_fini(&b);
}

static void hex(char *ret, const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        snprintf(ret + 2 * i, 3, "%02x", p[i]);
}

static int do_digest(struct job *j)
{
    unsigned char digest[KL_DIGEST_BYTES];
    char text[2 * KL_DIGEST_BYTES + 1];
    kl_rev rev;
    int r = kl_store_digest(j->admin->o.store, NULL, NULL, digest, &rev, &j->err);
    if (r)
        return r;
    hex(text, digest, sizeof(digest));
    return kl_buf_printf(&j->body, "{\"rev\":%lld,\"digest\":\"%s\"}\n", (long long)rev, text);
}

// Streams that follow end where the log now stands still.
static void finish_streams(struct kl_admin *a, kl_rev rev)
{
    pthread_mutex_lock(&a->mu);
    for (struct job *j = a->jobs; j; j = j->next) {
        if (j->kind == JOB_ROWS && j->from.follow && j->source)
            kl_store_source_finish(j->source, rev);
    }
    pthread_mutex_unlock(&a->mu);
}

static int do_fence(struct job *j)
{
    struct kl_store *s = j->admin->o.store;
    int r;
    if (j->kind == JOB_FENCE)
        r = kl_fence_take(s, j->ms, j->why, &j->rev, &j->err);
    else if (j->kind == JOB_LIFT_FENCE)
        r = kl_fence_lift(s, j->rev, &j->err);
    else if (j->why[0])
        r = kl_fence_keep(s, j->rev, j->why, &j->err);
    else
        r = kl_fence_renew(s, j->rev, &j->err);
    if (r)
        return r;
    if (j->kind == JOB_FENCE)
        finish_streams(j->admin, j->rev);
    if (j->kind != JOB_KEEP_FENCE || j->why[0])
        kl_log(KL_LOG_WARN, "admin", "fence rev=%lld: %s%s", (long long)j->rev,
               j->why[0] ? "no writes are taken: " : "writes are taken again", j->why);
    return kl_buf_printf(&j->body, "{\"rev\":%lld}\n", (long long)j->rev);
}

static int do_snapshot(struct job *j)
{
    struct kl_snapshot_info info;
    const struct kl_admin_options *o = &j->admin->o;
    const char *dir = j->dir[0] ? j->dir : o->snapshot_dir;
    int r = kl_snapshot_save(o->store, dir, j->name, o->node, &info, &j->err);
    if (r)
        return r;
    kl_log(KL_LOG_INFO, "admin", "snapshot name=%s rev=%lld bytes=%lld", info.name,
           (long long)info.rev, (long long)info.bytes);
    kl_buf_puts(&j->body, KL_STR("{\"name\":"));
    kl_json_write_string(&j->body, kl_str(info.name));
    kl_buf_puts(&j->body, KL_STR(",\"dir\":"));
    kl_json_write_string(&j->body, kl_str(dir));
    return kl_buf_printf(&j->body, ",\"rev\":%lld,\"keys\":%lld,\"bytes\":%lld}\n",
                         (long long)info.rev, (long long)info.keys, (long long)info.bytes);
}

static int do_encryption(struct job *j)
{
    static const struct {
        const char *name;
        enum kl_encryption_command command;
    } commands[] = {{"status", KL_ENCRYPTION_STATUS},
                    {"enable", KL_ENCRYPTION_ENABLE},
                    {"disable", KL_ENCRYPTION_DISABLE},
                    {"rotate-keys", KL_ENCRYPTION_ROTATE}};
    const char *name = kl_str_eqz(kl_http_method(j->req), "GET") ? "status" : j->name;
    for (size_t i = 0; j->admin->o.encryption && i < KL_COUNT(commands); i++) {
        if (strcmp(commands[i].name, name))
            continue;
        int r =
            kl_encryption_command(j->admin->o.encryption, commands[i].command, &j->body, &j->err);
        if (!r && commands[i].command != KL_ENCRYPTION_STATUS)
            kl_log(KL_LOG_INFO, "admin", "secrets-encrypt %s", name);
        return r;
    }
    return kl_error_set(&j->err, KL_ENOTFOUND, "no such command: %s", name);
}

// ---- the stream of rows: the thread fills chunks, the loop hands them out ----

static void run_wake(struct kl_task *t)
{
    struct job *j = KL_CONTAINER_OF(t, struct job, wake);
    pthread_mutex_lock(&j->mu);
    j->wake_queued = false;
    bool gone = j->closed && j->thread_done;
    pthread_mutex_unlock(&j->mu);
    if (gone)
        free_job(j);
    else if (!j->closed)
        kl_http_resume(j->req);
}

static void wake_loop(struct job *j) // with mu held
{
    if (j->wake_queued)
        return;
    j->wake_queued = true;
    j->wake.run = run_wake;
    kl_loop_post(j->admin->loop, &j->wake);
}

static int push_chunk(struct job *j, struct kl_buf *b)
{
    struct kl_bytes *bytes = b->n ? kl_bytes_from_buf(b) : NULL;
    if (!bytes)
        return b->n ? KL_ENOMEM : 0;
    kl_buf_clear(b);
    pthread_mutex_lock(&j->mu);
    while (j->nchunks == CHUNKS_MAX && !j->canceled)
        pthread_cond_wait(&j->room, &j->mu);
    bool canceled = j->canceled;
    if (!canceled) {
        j->chunk[j->nchunks++] = bytes;
        wake_loop(j);
    }
    pthread_mutex_unlock(&j->mu);
    if (canceled)
        kl_bytes_unref(bytes);
    return canceled ? KL_ECANCELED : 0;
}

static void stream_rows(struct job *j)
{
    struct kl_buf b;
    struct kl_record rec = {0};
    kl_buf_init(&b, KL_RECORD_MAX + CHUNK_BYTES);
    int r;
    do {
        r = j->source->next(j->source, &rec, &j->err);
        if (r && r != KL_ECANCELED) {
            rec = (struct kl_record){.kind = KL_RECORD_FAIL, .fail = {r, kl_str(j->err.msg)}};
            r = 0;
        }
        if (!r)
            r = kl_record_encode(&b, &rec);
        if (!r && (b.n >= CHUNK_BYTES || rec.kind != KL_RECORD_ROW))
            r = push_chunk(j, &b);
    } while (!r && rec.kind != KL_RECORD_END && rec.kind != KL_RECORD_FAIL);
    kl_buf_fini(&b);
    pthread_mutex_lock(&j->mu);
    j->ended = j->thread_done = true;
    wake_loop(j);
    pthread_mutex_unlock(&j->mu);
}

static int pull_rows(void *arg, struct kl_http_chunk *chunks, int max, bool *ret_end)
{
    struct job *j = arg;
    int n = 0;
    pthread_mutex_lock(&j->mu);
    for (; n < max && n < 1 && n < j->nchunks; n++)
        chunks[n] = (struct kl_http_chunk){j->chunk[n], 0, j->chunk[n]->n};
    memmove(j->chunk, j->chunk + n, (size_t)(j->nchunks - n) * sizeof(j->chunk[0]));
    j->nchunks -= n;
    *ret_end = j->ended && !j->nchunks;
    pthread_cond_signal(&j->room);
    pthread_mutex_unlock(&j->mu);
    return n;
}

static void close_rows(void *arg)
{
    struct job *j = arg;
    pthread_mutex_lock(&j->mu);
    j->canceled = j->closed = true;
    kl_store_source_cancel(j->source);
    pthread_cond_signal(&j->room);
    if (j->thread_done)
        wake_loop(j);
    pthread_mutex_unlock(&j->mu);
}

static void run_stream(struct kl_task *t)
{
    static const struct kl_http_header type[] = {
        KL_HTTP_HEADER("content-type", "application/octet-stream")};
    static const struct kl_http_source src = {pull_rows, close_rows};
    struct job *j = KL_CONTAINER_OF(t, struct job, task);
    if (kl_http_respond_stream(j->req, 200, type, 1, &src, j))
        close_rows(j);
}

// ---- the thread ----

static void run_done(struct kl_task *t)
{
    struct job *j = KL_CONTAINER_OF(t, struct job, task);
    respond(j->req, j->code, &j->err, kl_buf_str(&j->body));
    free_job(j);
}

static int open_rows(struct job *j)
{
    struct kl_source *s;
    int r = kl_store_source_new(j->admin->o.store, &j->from, &s, &j->err);
    if (r)
        return r;
    pthread_mutex_lock(&j->admin->mu);
    j->source = s;
    pthread_mutex_unlock(&j->admin->mu);
    return 0;
}

static void *run_job(void *arg)
{
    struct job *j = arg;
    const struct kl_admin_options *o = &j->admin->o;
    switch (j->kind) {
    case JOB_STATUS:
        j->code = kl_status_write(&j->body, o->store,
                                  &(struct kl_status_about){.endpoint = o->endpoint,
                                                            .snapshot_dir = o->snapshot_dir,
                                                            .node = o->node,
                                                            .served = true},
                                  &j->err);
        break;
    case JOB_DIGEST:
        j->code = do_digest(j);
        break;
    case JOB_FENCE:
    case JOB_KEEP_FENCE:
    case JOB_LIFT_FENCE:
        j->code = do_fence(j);
        break;
    case JOB_SNAPSHOT:
        j->code = do_snapshot(j);
        break;
    case JOB_ENCRYPTION:
        j->code = do_encryption(j);
        break;
    case JOB_REVOKED:
        j->code = kl_revoke_command(o->store, kl_http_method(j->req), j->why, &j->body, &j->err);
        break;
    case JOB_ROWS:
        j->code = open_rows(j);
        break;
    }
    bool stream = j->kind == JOB_ROWS && !j->code;
    j->task.run = stream ? run_stream : run_done;
    kl_loop_post(j->admin->loop, &j->task);
    if (stream)
        stream_rows(j);
    return NULL;
}

// ---- requests ----

static bool unescape(struct kl_str in, char *ret, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < in.n; i++) {
        unsigned v = (unsigned char)in.p[i];
        if (v == '%') {
            if (i + 2 >= in.n)
                return false;
            char two[3] = {in.p[i + 1], in.p[i + 2], 0}, *end;
            v = (unsigned)strtoul(two, &end, 16);
            if (*end || !v)
                return false;
            i += 2;
        }
        if (at + 1 >= n)
            return false;
        ret[at++] = (char)v;
    }
    ret[at] = 0;
    return true;
}

static int get_params(struct job *j, struct kl_error *err)
{
    struct kl_str rest = kl_http_query(j->req), part;
    while (rest.n && kl_str_split(&rest, '&', &part)) {
        ptrdiff_t eq = kl_str_chr(part, '=');
        struct kl_str name = {part.p, eq < 0 ? part.n : (size_t)eq};
        struct kl_str value = eq < 0 ? KL_STR("") : kl_str_from(part, (size_t)eq + 1);
        bool ok = true;
        if (kl_str_eqz(name, "base"))
            ok = kl_str_to_i64(value, &j->from.base_rev) && j->from.base_rev >= 0;
        else if (kl_str_eqz(name, "through"))
            ok = kl_str_to_i64(value, &j->from.through) && j->from.through >= 0;
        else if (kl_str_eqz(name, "follow"))
            j->from.follow = kl_str_eqz(value, "true");
        else if (kl_str_eqz(name, "ms"))
            ok = kl_str_to_i64(value, &j->ms) && j->ms >= 0 && j->ms < INT64_MAX / 4;
        else if (kl_str_eqz(name, "rev"))
            ok = kl_str_to_i64(value, &j->rev) && j->rev >= 0;
        else if (kl_str_eqz(name, "why"))
            ok = unescape(value, j->why, sizeof(j->why));
        else if (kl_str_eqz(name, "dir"))
            ok = unescape(value, j->dir, sizeof(j->dir));
        else if (kl_str_eqz(name, "name"))
            ok = unescape(value, j->name, sizeof(j->name));
        if (!ok)
            return kl_error_set(err, KL_EBADREQUEST, "%.*s: not understood", KL_PRI(part));
    }
    return 0;
}

static int start_job(struct kl_admin *a, struct kl_http_req *req, enum job_kind kind,
                     struct kl_error *err)
{
    struct job *j = a->njobs < JOBS_MAX && !a->stopping ? calloc(1, sizeof(*j)) : NULL;
    if (!j)
        return kl_error_set(err, KL_ETOOMANY, "too many commands at once");
    j->admin = a;
    j->req = req;
    j->kind = kind;
    snprintf(j->name, sizeof(j->name), "on-demand");
    int r = get_params(j, err);
    if (r) {
        free(j);
        return r;
    }
    kl_http_req_ref(req);
    kl_buf_init(&j->body, ANSWER_MAX);
    pthread_mutex_init(&j->mu, NULL);
    pthread_cond_init(&j->room, NULL);
    pthread_mutex_lock(&a->mu);
    j->next = a->jobs;
    if (a->jobs)
        a->jobs->prev = j;
    a->jobs = j;
    a->njobs++;
    pthread_mutex_unlock(&a->mu);
    j->running = !pthread_create(&j->thread, NULL, run_job, j);
    if (!j->running) {
        free_job(j);
        return kl_error_set(err, KL_ETOOMANY, "no thread for it");
    }
    return 0;
}

static void on_request(void *arg, struct kl_http_req *req)
{
    static const struct {
        const char *method, *path;
        enum job_kind kind;
    } routes[] = {{"GET", "/v1/status", JOB_STATUS},
                  {"GET", "/v1/digest", JOB_DIGEST},
                  {"GET", "/v1/rows", JOB_ROWS},
                  {"POST", "/v1/fence", JOB_FENCE},
                  {"PUT", "/v1/fence", JOB_KEEP_FENCE},
                  {"DELETE", "/v1/fence", JOB_LIFT_FENCE},
                  {"POST", "/v1/snapshot", JOB_SNAPSHOT},
                  {"GET", "/v1/secrets-encrypt", JOB_ENCRYPTION},
                  {"POST", "/v1/secrets-encrypt", JOB_ENCRYPTION},
                  {"GET", "/v1/revoked", JOB_REVOKED},
                  {"POST", "/v1/revoked", JOB_REVOKED},
                  {"DELETE", "/v1/revoked", JOB_REVOKED}};
    struct kl_admin *a = arg;
    struct kl_error err = {0};
    int64_t uid = kl_http_peer_uid(req);
    int code = KL_ENOTFOUND;
    if (uid != 0 && uid != (int64_t)geteuid()) {
        code = kl_error_set(&err, KL_EFORBIDDEN, "user %lld may not do this", (long long)uid);
    } else {
        for (size_t i = 0; code == KL_ENOTFOUND && i < KL_COUNT(routes); i++) {
            if (kl_str_eqz(kl_http_path(req), routes[i].path) &&
                kl_str_eqz(kl_http_method(req), routes[i].method))
                code = start_job(a, req, routes[i].kind, &err);
        }
    }
    if (code)
        respond(req, code, &err, KL_STR(""));
}

// ---- life ----

static void http_gone(void *arg)
{
    struct kl_admin *a = arg;
    a->http_gone = true;
    maybe_gone(a);
}

static void run_stop(struct kl_task *t)
{
    struct kl_admin *a = KL_CONTAINER_OF(t, struct kl_admin, stop);
    a->stopping = true;
    kl_http_server_stop(a->http, STOP_MS, http_gone, a);
}

int kl_admin_start(const struct kl_admin_options *o, struct kl_admin **ret_a, struct kl_error *err)
{
    char path[4096];
    struct kl_admin *a = calloc(1, sizeof(*a));
    if (!a)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    a->o = *o;
    pthread_mutex_init(&a->mu, NULL);
    snprintf(path, sizeof(path), "%s/server/admin.sock", o->data_dir);
    int r = kl_loop_new("admin", &a->loop, err);
    struct kl_http_server_opts h = {.loops = &a->loop,
                                    .nloops = 1,
                                    .unix_path = path,
                                    .handler = on_request,
                                    .arg = a,
                                    .max_connections = 2 * JOBS_MAX,
                                    .no_http2 = true};
    if (!r)
        r = kl_http_server_start(&h, &a->http, err);
    if (!r)
        r = kl_loop_start(a->loop, err);
    if (r) {
        kl_loop_unref(a->loop);
        pthread_mutex_destroy(&a->mu);
        free(a);
        return r;
    }
    a->stop.run = run_stop;
    *ret_a = a;
    return 0;
}

void kl_admin_stop(struct kl_admin *a)
{
    if (!a)
        return;
    kl_loop_post(a->loop, &a->stop);
    kl_loop_join(a->loop);
    kl_loop_unref(a->loop);
    pthread_mutex_destroy(&a->mu);
    free(a);
}
