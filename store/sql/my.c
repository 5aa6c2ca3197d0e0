// SPDX-License-Identifier: Apache-2.0
// The driver for MariaDB and MySQL.
#include "store/sql/my_int.h"

static int put_statement(struct kl_my *c, enum kl_sql_stmt which, const struct kl_sql_value *params,
                         size_t nparams, struct kl_error *err)
{
    kl_buf_clear(&c->buf);
    kl_my_put_sql(&c->buf, c, kl_my_sql[which], params, nparams);
    return c->buf.err ? kl_error_set(err, c->buf.err, "datastore %s: %s", c->conn.name,
                                     kl_err_text(c->buf.err))
                      : 0;
}

static int query(struct kl_sql_conn *conn, enum kl_sql_stmt which,
                 const struct kl_sql_value *params, size_t nparams, struct kl_error *err)
{
    struct kl_my *c = (struct kl_my *)conn;
    int r = put_statement(c, which, params, nparams, err);
    return r ? r : kl_my_query(c, kl_buf_str(&c->buf), err);
}

static int exec(struct kl_sql_conn *conn, enum kl_sql_stmt which, const struct kl_sql_value *params,
                size_t nparams, int64_t *ret_rows, struct kl_error *err)
{
    struct kl_my *c = (struct kl_my *)conn;
    int r = put_statement(c, which, params, nparams, err);
    return r ? r : kl_my_run(c, kl_buf_str(&c->buf), ret_rows, err);
}

static int begin(struct kl_sql_conn *conn, bool snapshot, struct kl_error *err)
{
    struct kl_my *c = (struct kl_my *)conn;
    if (!snapshot && !c->mariadb)
        return kl_my_run(c, KL_STR(KL_MY_IMPATIENT "BEGIN"), NULL, err);
    return kl_my_run(c,
                     snapshot ? KL_STR("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;"
                                       "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
                              : KL_STR("BEGIN"),
                     NULL, err);
}

#define LOCK_NAME "CONCAT('kinglet.try.',LEFT(SHA2(DATABASE(),256),40))"

static int end(struct kl_sql_conn *conn, bool commit, struct kl_error *err)
{
    struct kl_my *c = (struct kl_my *)conn;
    int r = kl_my_run(c,
                      c->mariadb ? commit ? KL_STR("COMMIT") : KL_STR("ROLLBACK")
                      : commit ? KL_STR("COMMIT" KL_MY_PATIENT)
                                 : KL_STR("ROLLBACK" KL_MY_PATIENT),
                      NULL, err);
    if (!c->locked)
        return r;
    c->locked = false;
    int released = kl_my_run(c, KL_STR("DO RELEASE_LOCK(" LOCK_NAME ")"), NULL, NULL);
    return r || !released ? r
                          : kl_error_set(err, KL_EUNAVAILABLE,
                                         "datastore %s: a lock was not released", conn->name);
}

// The session's, not the transaction's: end gives it back. In a cluster it would keep nobody out:
// who deletes the same rows is refused when it commits.
static int try_lock(struct kl_sql_conn *conn, bool *ret_got, struct kl_error *err)
{
    struct kl_my *c = (struct kl_my *)conn;
    int64_t got = 0;
    if (c->galera) {
        *ret_got = true;
        return 0;
    }
    int r = kl_my_query_ints(c, "SELECT GET_LOCK(" LOCK_NAME ",0)", &got, 1, err);
    if (!r)
        *ret_got = c->locked = got == 1;
    return r;
}

static int run(struct kl_sql_conn *conn, struct kl_str sql, int64_t *ret_rows, struct kl_error *err)
{
    return kl_my_run((struct kl_my *)conn, sql, ret_rows, err);
}

static int look(struct kl_sql_conn *conn, struct kl_str sql, struct kl_error *err)
{
    return kl_my_query((struct kl_my *)conn, sql, err);
}

const struct kl_sql_driver kl_sql_mysql = {
    .scheme = "mysql",
    .title = "MySQL",
    .kind = KL_ENDPOINT_MYSQL,
    .max_key_bytes = KL_MY_NAME_BYTES,
    .connect = kl_my_connect,
    .close = kl_my_close,
    .interrupt = kl_sql_interrupt,
    .create_database = kl_my_create_database,
    .inspect = kl_my_inspect,
    .create_tables = kl_my_create_tables,
    .prepare = kl_my_prepare,
    .query = query,
    .fetch = kl_my_fetch,
    .finish = kl_my_finish,
    .exec = exec,
    .begin = begin,
    .end = end,
    .commit = kl_my_commit,
    .insert = kl_my_insert,
    .insert_leases = kl_my_insert_leases,
    .clear = kl_my_clear,
    .delete_rows = kl_my_delete_rows,
    .try_lock = try_lock,
    .run = run,
    .look = look,
};
