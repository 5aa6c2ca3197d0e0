// SPDX-License-Identifier: Apache-2.0
// The ops of sqlite://: requests go to the writer's loop, do their bounded blocking work there and
// come back to the core's.
#include "store/sqlite/sqlite_int.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdlib.h>

enum {
    RESERVE_AFTER_MS = 1000,
    ALONE_AFTER_MS = 2, // what waits for a batch while there are any
    BUSY_NS = 10 * 1000 * 1000,
};

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
    static void answer_##name(struct type *q)                                                      \
    {                                                                                              \
        q->task.run = run_##name##_done;                                                           \
        kl_loop_post(kl_core_loop(q->backend->core), &q->task);                                    \
    }                                                                                              \
    static void run_##name(struct kl_task *t)                                                      \
    {                                                                                              \
        struct type *q = KL_CONTAINER_OF(t, struct type, task);                                    \
        if (work(q->backend, q))                                                                   \
            answer_##name(q);                                                                      \
    }                                                                                              \
    void kl_sq_post_##name(struct kl_backend *b, struct type *q)                                   \
    {                                                                                              \
        q->backend = b;                                                                            \
        q->task.run = run_##name;                                                                  \
        kl_loop_post(b->loop, &q->task);                                                           \
    }

static bool is_busy(const struct kl_backend *b)
{
    return kl_mono_ns() - b->wrote_ns < BUSY_NS && !kl_sq_is_full(b);
}

static void run_alone(uv_timer_t *t)
{
    struct kl_backend *b = t->data;
    if (b->step && !b->step_over) {
        kl_sq_step_alone(b, b->step);
        b->step_over = true;
    }
    if (b->tidy && !b->tidy_over) {
        kl_sq_tidy_alone(b, b->tidy);
        b->tidy_over = true;
    }
    kl_sq_work_over(b);
}

// True: done with; otherwise it goes along with the next batch, or when there is none soon.
static bool do_step(struct kl_backend *b, struct kl_step_req *q)
{
    if (!kl_sq_step_read(b, q))
        return true;
    if (!is_busy(b)) {
        kl_sq_step_alone(b, q);
        return true;
    }
    b->step = q;
    uv_timer_start(&b->alone, run_alone, ALONE_AFTER_MS, 0);
    return false;
}

static bool do_tidy(struct kl_backend *b, struct kl_tidy_req *q)
{
    if (q->full) {
        kl_sq_tidy_full(b, q);
        return true;
    }
    if (!kl_sq_tidy_due(b, q))
        return true;
    if (!is_busy(b)) {
        kl_sq_tidy_alone(b, q);
        return true;
    }
    b->tidy = q;
    uv_timer_start(&b->alone, run_alone, ALONE_AFTER_MS, 0);
    return false;
}

#define READ(work, type)                                                                           \
    static bool do_##work(struct kl_backend *b, struct type *q)                                    \
    {                                                                                              \
        kl_sq_##work(b, q);                                                                        \
        return true;                                                                               \
    }

READ(read_rows, kl_rows_req)
READ(read_range, kl_range_req)
REQUEST(read_rows, kl_rows_req, do_read_rows)
REQUEST(read_range, kl_range_req, do_read_range)
REQUEST(compact_step, kl_step_req, do_step)
REQUEST(tidy, kl_tidy_req, do_tidy)

void kl_sq_work_over(struct kl_backend *b)
{
    struct kl_step_req *step = b->step_over ? b->step : NULL;
    struct kl_tidy_req *tidy = b->tidy_over ? b->tidy : NULL;
    if (step) {
        b->step = NULL;
        b->step_over = false;
        answer_compact_step(step);
    }
    if (tidy) {
        b->tidy = NULL;
        b->tidy_over = false;
        answer_tidy(tidy);
    }
    if (!b->step && !b->tidy && (step || tidy))
        uv_timer_stop(&b->alone);
}

// ---- life ----

static void run_make_reserve(uv_timer_t *t)
{
    kl_sq_reserve_make(t->data);
}

void kl_sq_start(struct kl_backend *b)
{
    uv_timer_init(kl_loop_uv(b->loop), &b->idle);
    uv_timer_init(kl_loop_uv(b->loop), &b->reserve_timer);
    uv_timer_init(kl_loop_uv(b->loop), &b->alone);
    b->idle.data = b->reserve_timer.data = b->alone.data = b;
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
    kl_sq_names_fini(b);
    kl_sq_step_forget(b);
    kl_sq_beside_close(b);
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
    kl_sq_close(b); // checkpoints and removes the WAL
    if (b->loop)    // otherwise the file may be another process's, and so is its reserve
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
    .compact_step = kl_sq_post_compact_step,
    .tidy = kl_sq_post_tidy,
    .sizes = kl_sq_get_sizes,
    .close = close_sqlite,
};
