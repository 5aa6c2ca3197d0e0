// SPDX-License-Identifier: Apache-2.0
// A batch as one statement: the rows travel as one array for each column.
#include "store/sql/pg_int.h"
#include <endian.h>
#include <stdlib.h>

// ---- arrays in the binary format (src/backend/utils/adt/arrayfuncs.c, array_recv) ----

struct array {
    size_t at; // in the buffer
    size_t n;  // bytes
};

static void put4(struct kl_buf *b, uint32_t v)
{
    v = htobe32(v);
    kl_buf_append(b, &v, 4);
}

static void put8(struct kl_buf *b, int64_t v)
{
    uint64_t be = htobe64((uint64_t)v);
    put4(b, 8);
    kl_buf_append(b, &be, 8);
}

static void put_null(struct kl_buf *b)
{
    put4(b, UINT32_MAX);
}

static void put_bytes(struct kl_buf *b, struct kl_str s)
{
    put4(b, (uint32_t)s.n);
    kl_buf_puts(b, s);
}

static size_t begin_array(struct kl_buf *b, Oid type, size_t n)
{
    size_t at = b->n;
    put4(b, n ? 1 : 0); // dimensions
    put4(b, 1);         // there may be NULLs
    put4(b, type);
    if (n) {
        put4(b, (uint32_t)n);
        put4(b, 1); // lower bound
    }
    return at;
}

#define ARRAY(ret, buf, type, count, put)                                                          \
    do {                                                                                           \
        (ret)->at = begin_array(buf, type, count);                                                 \
        for (size_t i = 0; i < (count); i++) {                                                     \
            put;                                                                                   \
        }                                                                                          \
        (ret)->n = (buf)->n - (ret)->at;                                                           \
    } while (0)

static void put8_or_null(struct kl_buf *b, int64_t v)
{
    if (v)
        put8(b, v);
    else
        put_null(b);
}

enum { ROW_ARRAYS = 7, LEASE_ARRAYS = 4 };

static void put_rows(struct kl_pg *c, const struct kl_row *rows, size_t n, struct array *ret)
{
    struct kl_buf *b = &c->buf;
    ARRAY(ret, b, c->name_text ? KL_PG_TEXT : KL_PG_BYTEA, n, put_bytes(b, kl_kv_key(rows[i].kv)));
    ARRAY(ret + 1, b, KL_PG_INT8, n, put8(b, kl_sql_row_create_revision(&rows[i])));
    ARRAY(ret + 2, b, KL_PG_INT8, n, put8_or_null(b, kl_sql_row_prev_revision(&rows[i])));
    ARRAY(ret + 3, b, KL_PG_BYTEA, n, {
        if (rows[i].kv->deleted)
            put_null(b);
        else
            put_bytes(b, kl_kv_value(rows[i].kv));
    });
    ARRAY(ret + 4, b, KL_PG_INT8, n, put8(b, rows[i].kv->deleted ? 0 : rows[i].kv->version));
    ARRAY(ret + 5, b, KL_PG_INT8, n, put8_or_null(b, rows[i].kv->lease));
    ARRAY(ret + 6, b, KL_PG_INT8, n, put8_or_null(b, kl_sql_row_txn_rev(&rows[i])));
}

static bool is_newest(const struct kl_lease_op *ops, size_t n, size_t i)
{
    for (size_t k = i + 1; k < n; k++) {
        if (ops[k].id == ops[i].id)
            return false;
    }
    return true;
}

// A statement may touch a row once: of several operations on a lease the last one counts.
static int pick_leases(const struct kl_lease_op *ops, size_t n, struct kl_lease_op **ret_ops,
                       size_t *ret_puts, size_t *ret_n)
{
    struct kl_lease_op *p = malloc((n + 1) * sizeof(*p));
    if (!p)
        return KL_ENOMEM;
    *ret_n = 0;
    for (int puts = 1; puts >= 0; puts--) {
        for (size_t i = 0; i < n; i++) {
            if ((ops[i].ttl_ms != 0) == puts && is_newest(ops, n, i))
                p[(*ret_n)++] = ops[i];
        }
        if (puts)
            *ret_puts = *ret_n;
    }
    *ret_ops = p;
    return 0;
}

// Ids, times and deadlines of what is put; ids of what is deleted.
static int put_leases(struct kl_pg *c, const struct kl_lease_op *ops, size_t n, struct array *ret)
{
    struct kl_buf *b = &c->buf;
    struct kl_lease_op *p;
    size_t puts = 0, all = 0;
    if (pick_leases(ops, n, &p, &puts, &all))
        return KL_ENOMEM;
    ARRAY(ret, b, KL_PG_INT8, puts, put8(b, p[i].id));
    ARRAY(ret + 1, b, KL_PG_INT8, puts, put8(b, p[i].ttl_ms));
    ARRAY(ret + 2, b, KL_PG_INT8, puts, put8(b, p[i].deadline_wall_ms));
    ARRAY(ret + 3, b, KL_PG_INT8, all - puts, put8(b, p[puts + i].id));
    free(p);
    return 0;
}

static void add_arrays(struct kl_pg *c, struct kl_pg_params *p, const struct array *a, int n)
{
    for (int i = 0; i < n; i++)
        kl_pg_param_bytes(p, (struct kl_str){c->buf.p + a[i].at, a[i].n});
}

static int check_buf(struct kl_pg *c, struct kl_error *err)
{
    return c->buf.err ? kl_error_set(err, c->buf.err, "datastore %s: %s", c->conn.name,
                                     kl_err_text(c->buf.err))
                      : 0;
}

// After a batch that was larger than usual its memory goes.
static void release_buf(struct kl_pg *c)
{
    if (c->buf.cap > 4u << 20)
        kl_buf_fini(&c->buf);
}

int kl_pg_commit(struct kl_sql_conn *conn, const struct kl_sql_commit *m, struct kl_error *err)
{
    struct kl_pg *c = (struct kl_pg *)conn;
    const struct kl_batch *batch = m->batch;
    struct kl_pg_params p = {0};
    struct array rows[ROW_ARRAYS], leases[LEASE_ARRAYS];
    kl_buf_clear(&c->buf);
    put_rows(c, batch->rows, batch->nrows, rows);
    int r = batch->nleases ? put_leases(c, batch->leases, batch->nleases, leases) : 0;
    if (r)
        return kl_error_set(err, r, "out of memory");
    if ((r = check_buf(c, err)))
        return r;
    kl_pg_param_int(&p, m->seq);
    kl_pg_param_int(&p, m->epoch);
    kl_pg_param_int(&p, m->history_id);
    kl_pg_param_int(&p, batch->last_rev);
    kl_pg_param_int(&p, m->prev_chain);
    kl_pg_param_int(&p, m->chain);
    kl_pg_param_int(&p, batch->compact_rev);
    kl_pg_param_int(&p, m->writer_id);
    kl_pg_param_int(&p, m->nonce);
    kl_pg_param_int(&p, batch->base_rev);
    kl_pg_param_int(&p, (int64_t)batch->nrows);
    kl_pg_param_int(&p, m->now_ms);
    if (m->extra.n)
        kl_pg_param_bytes(&p, m->extra);
    else
        kl_pg_param_null(&p);
    kl_pg_param_int(&p, m->notify);
    add_arrays(c, &p, rows, ROW_ARRAYS);
    if (batch->nleases)
        add_arrays(c, &p, leases, LEASE_ARRAYS);
    int64_t done = 0;
    r = kl_pg_exec(c, batch->nleases ? KL_PG_COMMIT_LEASES : KL_PG_COMMIT, &p, &done, err);
    release_buf(c);
    if (r)
        return r;
    return done == 1
               ? 0
               : kl_error_set(err, KL_ECONFLICT, "datastore %s: the log has moved on", conn->name);
}

int kl_pg_insert(struct kl_sql_conn *conn, const struct kl_row *rows, size_t n,
                 struct kl_error *err)
{
    struct kl_pg *c = (struct kl_pg *)conn;
    struct kl_pg_params p = {0};
    struct array a[ROW_ARRAYS + 1];
    kl_buf_clear(&c->buf);
    put_rows(c, rows, n, a);
    ARRAY(a + ROW_ARRAYS, &c->buf, KL_PG_INT8, n, put8(&c->buf, rows[i].kv->id));
    int r = check_buf(c, err);
    if (r)
        return r;
    add_arrays(c, &p, a, ROW_ARRAYS + 1);
    r = kl_pg_exec(c, KL_PG_INSERT, &p, NULL, err);
    release_buf(c);
    return r;
}

int kl_pg_insert_leases(struct kl_sql_conn *conn, const struct kl_lease_op *ops, size_t n,
                        struct kl_error *err)
{
    struct kl_pg *c = (struct kl_pg *)conn;
    struct kl_pg_params p = {0};
    struct array a[LEASE_ARRAYS];
    kl_buf_clear(&c->buf);
    if (put_leases(c, ops, n, a))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    int r = check_buf(c, err);
    if (r)
        return r;
    add_arrays(c, &p, a, 3);
    return kl_pg_exec(c, KL_PG_INSERT_LEASES, &p, NULL, err);
}

int kl_pg_delete_rows(struct kl_sql_conn *conn, const kl_rev *ids, size_t n, int64_t *ret_rows,
                      struct kl_error *err)
{
    struct kl_pg *c = (struct kl_pg *)conn;
    struct kl_pg_params p = {0};
    struct array a;
    kl_buf_clear(&c->buf);
    ARRAY(&a, &c->buf, KL_PG_INT8, n, put8(&c->buf, ids[i]));
    int r = check_buf(c, err);
    if (r)
        return r;
    add_arrays(c, &p, &a, 1);
    return kl_pg_exec(c, KL_PG_DELETE_ROWS, &p, ret_rows, err);
}
