// SPDX-License-Identifier: Apache-2.0
// The ops of sqlite://: requests go to the writer's loop, do their bounded blocking work there and
// come back to the core's.
#include "store/sqlite/sqlite_int.h"
#include "base/log.h"
#include <stdlib.h>

enum { RESERVE_AFTER_MS = 1000 };

// ---- a batch ----

static void run_written(struct kl_task *t)
{
    struct kl_batch *batch = KL_CONTAINER_OF(t, struct kl_batch, task);
    struct kl_backend *b = batch->backend;
    if (batch->code)
        kl_core_failed(b->core, batch, batch->code);
    else
        kl_core_applied(b->core, batch);
}

static void run_propose(struct kl_task *t)
{
    struct kl_batch *batch = KL_CONTAINER_OF(t, struct kl_batch, task);
    struct kl_backend *b = batch->backend;
    kl_sq_write(b, batch);
    batch->task.run = run_written;
    kl_loop_post(kl_core_loop(b->core), &batch->task); // answered before any checkpoint
    kl_sq_after_commit(b);
}

static void propose(struct kl_backend *b, struct kl_batch *batch)
{
    batch->backend = b;
    batch->task.run = run_propose;
    kl_loop_post(b->loop, &batch->task);
}

// ---- requests: the same three functions for each kind ----

#define REQUEST(name, type, work)                                                                  \
    static void run_##name##_done(struct kl_task *t)                                               \
    {                                                                                              \
        struct type *q = KL_CONTAINER_OF(t, struct type, task);                                    \
        q->done(q);                                                                                \
    }                                                                                              \
    static void run_##name(struct kl_task *t)                                                      \
    {                                                                                              \
        struct type *q = KL_CONTAINER_OF(t, struct type, task);                                    \
        work(q->backend, q);                                                                       \
        q->task.run = run_##name##_done;                                                           \
        kl_loop_post(kl_core_loop(q->backend->core), &q->task);                                    \
    }                                                                                              \
    void kl_sq_post_##name(struct kl_backend *b, struct type *q)                                   \
    {                                                                                              \
        q->backend = b;                                                                            \
        q->task.run = run_##name;                                                                  \
        kl_loop_post(b->loop, &q->task);                                                           \
    }

REQUEST(read_rows, kl_rows_req, kl_sq_read_rows)
REQUEST(read_range, kl_range_req, kl_sq_read_range)
REQUEST(read_value, kl_value_req, kl_sq_read_value)
REQUEST(compact_step, kl_step_req, kl_sq_compact_step)
REQUEST(tidy, kl_tidy_req, kl_sq_tidy)

// ---- life ----

static void run_make_reserve(uv_timer_t *t)
{
    kl_sq_reserve_make(t->data);
}

void kl_sq_start(struct kl_backend *b)
{
    uv_timer_init(kl_loop_uv(b->loop), &b->idle);
    uv_timer_init(kl_loop_uv(b->loop), &b->reserve_timer);
    b->idle.data = b->reserve_timer.data = b;
    // Not on the way to readiness.
    uv_timer_start(&b->reserve_timer, run_make_reserve, RESERVE_AFTER_MS, 0);
}

static void run_start(struct kl_task *t)
{
    kl_sq_start(KL_CONTAINER_OF(t, struct kl_backend, start_task));
}

static void start(struct kl_backend *b)
{
    b->start_task.run = run_start;
    kl_loop_post(b->loop, &b->start_task);
}

void kl_sq_finalize(struct kl_backend *b)
{
    for (int i = 0; i < KL_SQ_STMTS; i++) {
        sqlite3_finalize(b->stmt[i]);
        b->stmt[i] = NULL;
    }
}

static void close_sqlite(struct kl_backend *b)
{
    if (!b)
        return;
    if (b->loop) {
        kl_loop_stop(b->loop);
        kl_loop_join(b->loop);
        kl_loop_unref(b->loop);
    }
    kl_sq_finalize(b);
    if (b->db && sqlite3_close(b->db) != SQLITE_OK) // checkpoints and removes the WAL
        kl_log(KL_LOG_ERROR, "store", "close path=%s: %s", b->path, sqlite3_errmsg(b->db));
    if (b->loop) // otherwise the file may be another process's, and so is its reserve
        kl_sq_reserve_release(b);
    free(b->path);
    free(b);
}

static int open_sqlite(struct kl_store *core, struct kl_str rest, struct kl_backend **ret_b,
                       struct kl_error *err)
{
    // K3s' and kine's spellings bring a query of driver options, which are ours to choose.
    ptrdiff_t query = kl_str_chr(rest, '?');
    if (query >= 0)
        rest.n = (size_t)query;
    if (!rest.n || rest.n > 3000)
        return kl_error_set(err, KL_EINVALID, "datastore sqlite://%.*s: a path is needed",
                            KL_PRI(rest));
    struct kl_backend *b = calloc(1, sizeof(*b));
    if (!b)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    b->core = core;
    b->reserve_fd = -1;
    b->path = strndup(rest.p, rest.n);
    int r = b->path ? kl_sq_open(b, err) : kl_error_set(err, KL_ENOMEM, "out of memory");
    if (!r)
        r = kl_loop_new("kl-sqlite", &b->loop, err);
    if (!r)
        r = kl_loop_start(b->loop, err);
    if (r) {
        close_sqlite(b);
        return r;
    }
    *ret_b = b;
    return 0;
}

void kl_sq_get_sizes(struct kl_backend *b, struct kl_backend_sizes *ret)
{
    ret->db_bytes = atomic_load_explicit(&b->db_bytes, memory_order_relaxed);
    ret->db_used_bytes = atomic_load_explicit(&b->used_bytes, memory_order_relaxed);
    ret->wal_bytes = atomic_load_explicit(&b->wal_bytes, memory_order_relaxed);
}

extern const struct kl_backend_ops kl_backend_sqlite;
const struct kl_backend_ops kl_backend_sqlite = {
    .scheme = "sqlite",
    .open = open_sqlite,
    .load = kl_sq_load,
    .import_begin = kl_sq_import_begin,
    .import_rows = kl_sq_import_rows,
    .import_end = kl_sq_import_end,
    .start = start,
    .propose = propose,
    .read_rows = kl_sq_post_read_rows,
    .read_range = kl_sq_post_read_range,
    .read_value = kl_sq_post_read_value,
    .compact_step = kl_sq_post_compact_step,
    .tidy = kl_sq_post_tidy,
    .sizes = kl_sq_get_sizes,
    .close = close_sqlite,
};
