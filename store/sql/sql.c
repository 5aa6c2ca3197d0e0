// SPDX-License-Identifier: Apache-2.0
// The ops of the SQL back ends: requests go to one of three threads and come back to the core's.
#include "store/sql/sql_int.h"
#include "store/peer/peers.h"
#include "base/clock.h"
#include "base/rand.h"
#include <stdlib.h>

// ---- requests: the same three functions for each kind ----

#define REQUEST(name, type, loop_of, work)                                                         \
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
    static void name(struct kl_backend *b, struct type *q)                                         \
    {                                                                                              \
        q->backend = b;                                                                            \
        q->task.run = run_##name;                                                                  \
        kl_loop_post(b->loop_of, &q->task);                                                        \
    }

REQUEST(read_rows, kl_rows_req, reader_loop, kl_sql_read_rows)
REQUEST(read_range, kl_range_req, reader_loop, kl_sql_read_range)
REQUEST(compact_step, kl_step_req, writer_loop, kl_sql_compact_step)
REQUEST(tidy, kl_tidy_req, writer_loop, kl_sql_tidy)

// ---- life ----

static void start(struct kl_backend *b)
{
    b->started = true;
    kl_sql_feed_start(b);
    kl_sql_beat_start(b);
}

static void end_loop(struct kl_loop *l)
{
    if (!l)
        return;
    kl_loop_stop(l);
    kl_loop_join(l);
    kl_loop_unref(l);
}

// The last task of the core's loop that knows this back end.
static void run_free(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, free_task);
    kl_sql_feed_free(b);
    kl_sql_free_pending(b);
    kl_buf_fini(&b->write.extra);
    pthread_cond_destroy(&b->wake);
    pthread_mutex_destroy(&b->mu);
    kl_endpoint_fini(&b->ep);
    free(b);
}

static void say_goodbye(struct kl_backend *b)
{
    struct kl_error err;
    struct kl_sql_conn *c = b->writer.conn ? b->writer.conn : b->reader.conn;
    if (c && b->answers && !b->read_only)
        kl_sql_exec(c, KL_SQL_PEER_DEL, KL_SQL_PARAMS(KL_SQL_INT(b->id)), NULL, &err);
}

static void close_sql(struct kl_backend *b)
{
    if (!b)
        return;
    kl_sql_beat_stop(b);
    pthread_mutex_lock(&b->mu);
    b->closing = true;
    pthread_cond_broadcast(&b->wake);
    pthread_mutex_unlock(&b->mu);
    kl_sql_session_interrupt(&b->feed);
    pthread_mutex_lock(&b->writer.mu);
    bool writes = b->writer.conn; // and says good-bye; otherwise the reader does
    pthread_mutex_unlock(&b->writer.mu);
    if (writes)
        kl_sql_session_interrupt(&b->reader);
    if (b->feed_loop)
        kl_sql_feed_stop(b);
    end_loop(b->feed_loop);
    end_loop(b->writer_loop);
    end_loop(b->reader_loop);
    say_goodbye(b);
    kl_sql_session_fini(&b->writer);
    kl_sql_session_fini(&b->feed);
    kl_sql_session_fini(&b->reader);
    b->closed = true;
    b->free_task.run = run_free;
    kl_loop_post(kl_core_loop(b->core), &b->free_task);
}

static int start_loop(const char *name, struct kl_loop **ret_l, struct kl_error *err)
{
    int r = kl_loop_new(name, ret_l, err);
    return r ? r : kl_loop_start(*ret_l, err);
}

static int open_sql(const struct kl_sql_driver *d, struct kl_store *core, struct kl_str rest,
                    struct kl_backend **ret_b, struct kl_error *err)
{
    const struct kl_store_options *o = kl_core_options(core);
    struct kl_backend *b = calloc(1, sizeof(*b));
    if (!b)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    pthread_condattr_t attr;
    b->core = core;
    b->d = d;
    b->read_only = o->read_only;
    b->id = (int64_t)(o->peers ? kl_peers_id(o->peers) : kl_rand_u64() >> 1 | 1);
    b->started_ms = kl_wall_ms();
    b->pending_end = &b->pending;
    b->pass.end = &b->pass.entries;
    pthread_mutex_init(&b->mu, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&b->wake, &attr);
    pthread_condattr_destroy(&attr);
    kl_buf_init(&b->write.extra, 64 << 20);
    kl_sql_session_init(&b->writer, b, "writer", KL_SQL_CALL_MS);
    kl_sql_session_init(&b->feed, b, "feed", KL_SQL_READ_CALL_MS);
    kl_sql_session_init(&b->reader, b, "reader", KL_SQL_READ_CALL_MS);
    int r = kl_endpoint_parse(d->kind, rest, o, &b->ep, err);
    if (!r) {
        kl_endpoint_name(&b->ep, b->name, sizeof(b->name));
        r = kl_sql_open_tables(b, err);
    }
    if (!r)
        r = start_loop("kl-sql-write", &b->writer_loop, err);
    if (!r)
        r = start_loop("kl-sql-feed", &b->feed_loop, err);
    if (!r)
        r = start_loop("kl-sql-read", &b->reader_loop, err);
    if (r) {
        close_sql(b);
        return r;
    }
    *ret_b = b;
    return 0;
}

static void key_rule(struct kl_backend *b, struct kl_key_rule *ret)
{
    *ret = b->keys;
}

static void get_sizes(struct kl_backend *b, struct kl_backend_sizes *ret)
{
    ret->db_bytes = atomic_load_explicit(&b->db_bytes, memory_order_relaxed);
    ret->db_used_bytes = atomic_load_explicit(&b->used_bytes, memory_order_relaxed);
    ret->wal_bytes = 0;
}

static int open_postgres(struct kl_store *core, struct kl_str rest, struct kl_backend **ret_b,
                         struct kl_error *err)
{
    return open_sql(&kl_sql_postgres, core, rest, ret_b, err);
}

static int open_mysql(struct kl_store *core, struct kl_str rest, struct kl_backend **ret_b,
                      struct kl_error *err)
{
    return open_sql(&kl_sql_mysql, core, rest, ret_b, err);
}

#define SQL_OPS(name, open_fn)                                                                     \
    {                                                                                              \
        .scheme = name, .key_rule = key_rule, .open = open_fn, .load = kl_sql_load,                \
        .import_begin = kl_sql_import_begin, .import_rows = kl_sql_import_rows,                    \
        .import_end = kl_sql_import_end, .start = start, .propose = kl_sql_propose,                \
        .confirm_head = kl_sql_confirm_head, .leader = kl_sql_leader, .keeper = kl_sql_keeper,     \
        .read_rows = read_rows, .read_range = read_range, .compact_step = compact_step,            \
        .tidy = tidy, .sizes = get_sizes, .close = close_sql,                                      \
    }

extern const struct kl_backend_ops kl_backend_postgres, kl_backend_postgresql, kl_backend_mysql,
    kl_backend_mariadb;
const struct kl_backend_ops kl_backend_postgres = SQL_OPS("postgres", open_postgres);
const struct kl_backend_ops kl_backend_postgresql = SQL_OPS("postgresql", open_postgres);
const struct kl_backend_ops kl_backend_mysql = SQL_OPS("mysql", open_mysql);
const struct kl_backend_ops kl_backend_mariadb = SQL_OPS("mariadb", open_mysql);
