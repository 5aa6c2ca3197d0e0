// SPDX-License-Identifier: Apache-2.0
// The driver for PostgreSQL: prepared statements with binary parameters and results.
#include "store/sql/pg_int.h"
#include "base/fault.h"
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>

// ---- parameters ----

void kl_pg_param_null(struct kl_pg_params *p)
{
    p->value[p->n] = NULL;
    p->length[p->n] = 0;
    p->format[p->n++] = 1;
}

void kl_pg_param_bytes(struct kl_pg_params *p, struct kl_str s)
{
    p->value[p->n] = s.p ? s.p : "";
    p->length[p->n] = (int)s.n;
    p->format[p->n++] = 1;
}

void kl_pg_param_int(struct kl_pg_params *p, int64_t v)
{
    uint64_t be = htobe64((uint64_t)v);
    memcpy(p->num[p->n], &be, 8);
    kl_pg_param_bytes(p, (struct kl_str){p->num[p->n], 8});
}

static void add_value(struct kl_pg_params *p, const struct kl_sql_value *v)
{
    if (v->type == KL_SQL_INT)
        kl_pg_param_int(p, v->i);
    else if (v->type == KL_SQL_NULL)
        kl_pg_param_null(p);
    else
        kl_pg_param_bytes(p, v->s);
}

// ---- prepared statements ----

static const Oid int8s[KL_PG_MAX_PARAMS] = {
    KL_PG_INT8, KL_PG_INT8, KL_PG_INT8, KL_PG_INT8, KL_PG_INT8, KL_PG_INT8, KL_PG_INT8,
    KL_PG_INT8, KL_PG_INT8, KL_PG_INT8, KL_PG_INT8, KL_PG_INT8, 0,          KL_PG_INT8};

// Types of the parameters: numbers are 64 bits, so that the statement need not say so; 0 lets the
// server find the column's.
static int param_types(int which, Oid *ret)
{
    memset(ret, 0, KL_PG_MAX_PARAMS * sizeof(*ret));
    switch (which) {
    case KL_PG_COMMIT:
    case KL_PG_COMMIT_LEASES:
        memcpy(ret, int8s, 14 * sizeof(*ret));
        return which == KL_PG_COMMIT ? 21 : 25;
    case KL_PG_INSERT:
    case KL_PG_INSERT_LEASES:
    case KL_PG_DELETE_ROWS:
        return 0; // cast in the text
    case KL_SQL_RANGE:
    case KL_SQL_RANGE_COUNT:
        ret[2] = ret[3] = KL_PG_INT8;
        return 4;
    case KL_SQL_RANGE_TO_LAST:
    case KL_SQL_RANGE_TO_LAST_COUNT:
    case KL_SQL_LOAD:
        ret[1] = ret[2] = KL_PG_INT8;
        return 3;
    case KL_SQL_PEER_PUT:
        ret[0] = ret[3] = ret[4] = KL_PG_INT8;
        return 5;
    default:
        memcpy(ret, int8s, 12 * sizeof(*ret));
        return 12;
    }
}

static int prepare(struct kl_pg *c, int which, int nparams, struct kl_error *err)
{
    if (c->prepared[which / 32] >> which % 32 & 1)
        return 0;
    char name[16], sql[4096];
    Oid types[KL_PG_MAX_PARAMS];
    size_t n = 0;
    snprintf(name, sizeof(name), "s%d", which);
    for (const char *p = kl_pg_sql[which]; *p && n + 8 < sizeof(sql); p++) {
        if (*p == '@')
            n += (size_t)snprintf(sql + n, sizeof(sql) - n, "%s", c->name_text ? "text" : "bytea");
        else
            sql[n++] = *p;
    }
    sql[n] = 0;
    int ntypes = param_types(which, types);
    if (!c->pq->PQsendPrepare(c->pg, name, sql, ntypes < nparams ? ntypes : nparams, types))
        return kl_pg_error(c, NULL, err);
    PGresult *r = NULL;
    int code = kl_pg_result(c, &r, err);
    if (code)
        return code;
    if (c->pq->PQresultStatus(r) != PGRES_COMMAND_OK)
        code = kl_pg_error(c, r, err);
    c->pq->PQclear(r);
    int drained = kl_pg_drain(c, code ? NULL : err);
    if (!code && !drained)
        c->prepared[which / 32] |= 1u << which % 32;
    return code ? code : drained;
}

static int send_statement(struct kl_pg *c, int which, const struct kl_pg_params *p,
                          struct kl_error *err)
{
    char name[16];
    kl_pg_begin_call(c);
    int r = prepare(c, which, p->n, err);
    if (r)
        return r;
    snprintf(name, sizeof(name), "s%d", which);
    if (!c->pq->PQsendQueryPrepared(c->pg, name, p->n, p->value, p->length, p->format, 1))
        return kl_pg_error(c, NULL, err);
    return 0;
}

int kl_pg_exec(struct kl_pg *c, int which, const struct kl_pg_params *p, int64_t *ret_rows,
               struct kl_error *err)
{
    int code = send_statement(c, which, p, err);
    if (code)
        return code;
    if (which == KL_PG_COMMIT || which == KL_PG_COMMIT_LEASES)
        kl_fault_crash("pg.sent");
    PGresult *r = NULL;
    code = kl_pg_result(c, &r, err);
    if (code)
        return code;
    ExecStatusType s = c->pq->PQresultStatus(r);
    if (s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK) {
        if (ret_rows)
            *ret_rows = strtoll(c->pq->PQcmdTuples(r), NULL, 10);
    } else {
        code = kl_pg_error(c, r, err);
    }
    c->pq->PQclear(r);
    int drained = kl_pg_drain(c, code ? NULL : err);
    return code ? code : drained;
}

static int exec(struct kl_sql_conn *conn, enum kl_sql_stmt which, const struct kl_sql_value *params,
                size_t nparams, int64_t *ret_rows, struct kl_error *err)
{
    struct kl_pg_params p = {0};
    for (size_t i = 0; i < nparams; i++)
        add_value(&p, &params[i]);
    return kl_pg_exec((struct kl_pg *)conn, which, &p, ret_rows, err);
}

// ---- rows ----

// Whether a statement may bring so much that its rows are better taken one by one.
static bool is_long(enum kl_sql_stmt which)
{
    switch (which) {
    case KL_SQL_FEED:
    case KL_SQL_LOAD:
    case KL_SQL_ROWS:
    case KL_SQL_RANGE:
    case KL_SQL_RANGE_TO_LAST:
        return true;
    default:
        return false;
    }
}

static int query(struct kl_sql_conn *conn, enum kl_sql_stmt which,
                 const struct kl_sql_value *params, size_t nparams, struct kl_error *err)
{
    struct kl_pg *c = (struct kl_pg *)conn;
    struct kl_pg_params p = {0};
    for (size_t i = 0; i < nparams; i++)
        add_value(&p, &params[i]);
    int r = send_statement(c, which, &p, err);
    if (r)
        return r;
    if (is_long(which))
        c->pq->PQsetSingleRowMode(c->pg);
    c->more = true;
    c->at = c->n = 0;
    return 0;
}

static void get_cell(struct kl_pg *c, int row, int col, struct kl_sql_value *ret)
{
    if (c->pq->PQgetisnull(c->row, row, col)) {
        *ret = (struct kl_sql_value){.type = KL_SQL_NULL};
        return;
    }
    const char *p = c->pq->PQgetvalue(c->row, row, col);
    size_t n = (size_t)c->pq->PQgetlength(c->row, row, col);
    uint64_t v8;
    uint32_t v4;
    switch (c->pq->PQftype(c->row, col)) {
    case KL_PG_INT8:
        memcpy(&v8, p, 8);
        *ret = KL_SQL_INT((int64_t)be64toh(v8));
        break;
    case KL_PG_INT4:
        memcpy(&v4, p, 4);
        *ret = KL_SQL_INT((int32_t)be32toh(v4));
        break;
    case KL_PG_BOOL:
        *ret = KL_SQL_INT(*p);
        break;
    default:
        *ret = KL_SQL_BYTES(((struct kl_str){p, n}));
    }
}

static int fetch(struct kl_sql_conn *conn, struct kl_sql_value *cells, struct kl_error *err)
{
    struct kl_pg *c = (struct kl_pg *)conn;
    while (c->at == c->n) {
        c->pq->PQclear(c->row);
        c->row = NULL;
        c->at = c->n = 0;
        if (!c->more)
            return 0;
        kl_pg_begin_call(c);
        int r = kl_pg_result(c, &c->row, err);
        if (r)
            return r;
        if (!c->row) {
            c->more = false;
            return 0;
        }
        ExecStatusType s = c->pq->PQresultStatus(c->row);
        if (s != PGRES_TUPLES_OK && s != PGRES_SINGLE_TUPLE)
            return kl_pg_error(c, c->row, err);
        c->n = c->pq->PQntuples(c->row);
    }
    int cols = c->pq->PQnfields(c->row);
    for (int i = 0; i < cols && i < KL_SQL_MAX_COLUMNS; i++)
        get_cell(c, c->at, i, &cells[i]);
    c->at++;
    return 1;
}

static void finish(struct kl_sql_conn *conn)
{
    struct kl_pg *c = (struct kl_pg *)conn;
    c->pq->PQclear(c->row);
    c->row = NULL;
    c->at = c->n = 0;
    if (c->more) {
        kl_pg_begin_call(c);
        kl_pg_drain(c, NULL); // a connection that fails here fails the next call too
    }
    c->more = false;
}

static int look(struct kl_sql_conn *conn, struct kl_str sql, struct kl_error *err)
{
    struct kl_pg *c = (struct kl_pg *)conn;
    char *text = strndup(sql.p, sql.n);
    if (!text)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_pg_begin_call(c);
    int sent = c->pq->PQsendQueryParams(c->pg, text, 0, NULL, NULL, NULL, NULL, 1);
    free(text);
    if (!sent)
        return kl_pg_error(c, NULL, err);
    c->pq->PQsetSingleRowMode(c->pg);
    c->more = true;
    c->at = c->n = 0;
    return 0;
}

static int run(struct kl_sql_conn *conn, struct kl_str sql, int64_t *ret_rows, struct kl_error *err)
{
    char *text = strndup(sql.p, sql.n);
    if (!text)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    int r = kl_pg_run((struct kl_pg *)conn, text, ret_rows, err);
    free(text);
    return r;
}

static int begin(struct kl_sql_conn *conn, bool snapshot, struct kl_error *err)
{
    return kl_pg_run((struct kl_pg *)conn,
                     snapshot ? "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" : "BEGIN", NULL,
                     err);
}

static int end(struct kl_sql_conn *conn, bool commit, struct kl_error *err)
{
    return kl_pg_run((struct kl_pg *)conn, commit ? "COMMIT" : "ROLLBACK", NULL, err);
}

static int try_lock(struct kl_sql_conn *conn, bool *ret_got, struct kl_error *err)
{
    struct kl_pg *c = (struct kl_pg *)conn;
    struct kl_pg_params p = {0};
    struct kl_sql_value cells[KL_SQL_MAX_COLUMNS];
    int r = send_statement(c, KL_PG_TRY_LOCK, &p, err);
    if (r)
        return r;
    c->more = true;
    c->at = c->n = 0;
    r = fetch(conn, cells, err);
    if (r == 1)
        *ret_got = cells[0].i != 0;
    finish(conn);
    return r < 0 ? r : 0;
}

// ---- notifications ----

static int listen_pg(struct kl_sql_conn *conn, struct kl_error *err)
{
    return kl_pg_run((struct kl_pg *)conn, "LISTEN kinglet", NULL, err);
}

static int fd_pg(struct kl_sql_conn *conn)
{
    struct kl_pg *c = (struct kl_pg *)conn;
    return c->pq->PQsocket(c->pg);
}

static int notified(struct kl_sql_conn *conn, const struct kl_sql_conn *self, int64_t *ret_seq,
                    struct kl_error *err)
{
    struct kl_pg *c = (struct kl_pg *)conn;
    const struct kl_pg *own = (const struct kl_pg *)self;
    *ret_seq = 0;
    if (!c->pq->PQconsumeInput(c->pg))
        return kl_pg_error(c, NULL, err);
    for (PGnotify *n; (n = c->pq->PQnotifies(c->pg)); c->pq->PQfreemem(n)) {
        int64_t seq = strtoll(n->extra, NULL, 10);
        if ((!own || n->be_pid != own->backend_pid) && seq > *ret_seq)
            *ret_seq = seq;
    }
    return 0;
}

const struct kl_sql_driver kl_sql_postgres = {
    .scheme = "postgres",
    .title = "PostgreSQL",
    .kind = KL_ENDPOINT_POSTGRES,
    .max_key_bytes = 2048, // an entry of an index is at most a third of a page
    .connect = kl_pg_connect,
    .close = kl_pg_close,
    .interrupt = kl_sql_interrupt,
    .create_database = kl_pg_create_database,
    .inspect = kl_pg_inspect,
    .create_tables = kl_pg_create_tables,
    .prepare = kl_pg_prepare,
    .query = query,
    .fetch = fetch,
    .finish = finish,
    .exec = exec,
    .begin = begin,
    .end = end,
    .commit = kl_pg_commit,
    .insert = kl_pg_insert,
    .insert_leases = kl_pg_insert_leases,
    .clear = kl_pg_clear,
    .delete_rows = kl_pg_delete_rows,
    .try_lock = try_lock,
    .run = run,
    .look = look,
    .listen = listen_pg,
    .fd = fd_pg,
    .notified = notified,
};
