// SPDX-License-Identifier: Apache-2.0
// PostgreSQL through libpq, which is opened when its URL is used.
#pragma once
#include "store/sql/driver.h"
#include "base/buf.h"
#include <libpq-fe.h>
#include <stdatomic.h>

enum {
    KL_PG_MIN_VERSION = 120000,
    KL_PG_MAX_PARAMS = 26,
    KL_PG_BUF_MAX = 256 << 20, // of one batch's parameters
    // Beyond enum kl_sql_stmt.
    KL_PG_COMMIT = KL_SQL_STMTS,
    KL_PG_COMMIT_LEASES,
    KL_PG_INSERT,
    KL_PG_INSERT_LEASES,
    KL_PG_DELETE_ROWS,
    KL_PG_TRY_LOCK,
    KL_PG_STMTS
};

// pg_type.dat
enum { KL_PG_BYTEA = 17, KL_PG_INT8 = 20, KL_PG_INT4 = 23, KL_PG_TEXT = 25, KL_PG_BOOL = 16 };

#define KL_PQ_FUNCTIONS(X)                                                                         \
    X(PQconnectStartParams)                                                                        \
    X(PQconnectPoll)                                                                               \
    X(PQstatus)                                                                                    \
    X(PQfinish)                                                                                    \
    X(PQsocket)                                                                                    \
    X(PQerrorMessage)                                                                              \
    X(PQserverVersion)                                                                             \
    X(PQbackendPID)                                                                                \
    X(PQsetnonblocking)                                                                            \
    X(PQsetErrorVerbosity)                                                                         \
    X(PQsetNoticeReceiver)                                                                         \
    X(PQsendQuery)                                                                                 \
    X(PQsendQueryParams)                                                                           \
    X(PQsendPrepare)                                                                               \
    X(PQsendQueryPrepared)                                                                         \
    X(PQsetSingleRowMode)                                                                          \
    X(PQflush)                                                                                     \
    X(PQconsumeInput)                                                                              \
    X(PQisBusy)                                                                                    \
    X(PQgetResult)                                                                                 \
    X(PQnotifies)                                                                                  \
    X(PQfreemem)                                                                                   \
    X(PQclear)                                                                                     \
    X(PQresultStatus)                                                                              \
    X(PQresultErrorField)                                                                          \
    X(PQresultErrorMessage)                                                                        \
    X(PQntuples)                                                                                   \
    X(PQnfields)                                                                                   \
    X(PQftype)                                                                                     \
    X(PQgetisnull)                                                                                 \
    X(PQgetvalue)                                                                                  \
    X(PQgetlength)                                                                                 \
    X(PQcmdTuples)

struct kl_pq {
#define KL_PQ_MEMBER(f) __typeof__(&f) f;
    KL_PQ_FUNCTIONS(KL_PQ_MEMBER)
#undef KL_PQ_MEMBER
};

struct kl_pg {
    struct kl_sql_conn conn; // first
    const struct kl_pq *pq;
    PGconn *pg;
    int timeout_ms;
    int64_t deadline_ms; // of the call under way
    bool name_text;      // kine.name is text
    PGresult *row;       // what fetch gave out
    bool more;           // results are to come
    bool batch_mode;     // the result holds all rows
    int at, n;           // in it
    int64_t backend_pid;
    struct kl_buf buf; // parameters of a batch
    uint32_t prepared[(KL_PG_STMTS + 31) / 32];
};

// pg_conn.c
extern const char kl_pg_session_sql[];
int kl_pg_connect(const struct kl_endpoint *e, int timeout_ms, struct kl_sql_conn **ret_c,
                  struct kl_error *err);
int kl_pg_create_database(const struct kl_endpoint *e, struct kl_error *err);
void kl_pg_close(struct kl_sql_conn *c);
void kl_pg_begin_call(struct kl_pg *c);
// Sends what is queued and waits for the next result. NULL without error: no more of this command.
int kl_pg_result(struct kl_pg *c, PGresult **ret_r, struct kl_error *err);
int kl_pg_drain(struct kl_pg *c, struct kl_error *err); // until the connection is idle
int kl_pg_error(struct kl_pg *c, const PGresult *r, struct kl_error *err);
// Statements without parameters and results, in the text protocol; several in one are one
// transaction. *ret_rows (may be NULL): what the last one changed.
int kl_pg_run(struct kl_pg *c, const char *sql, int64_t *ret_rows, struct kl_error *err);
// Waits until the socket is readable or writable, as asked; KL_EUNAVAILABLE after the deadline.
int kl_pg_wait(struct kl_pg *c, int64_t deadline_ms, bool writing, struct kl_error *err);

// pg_batch.c
int kl_pg_commit(struct kl_sql_conn *c, const struct kl_sql_commit *m, struct kl_error *err);
int kl_pg_insert(struct kl_sql_conn *c, const struct kl_row *rows, size_t n, struct kl_error *err);
int kl_pg_insert_leases(struct kl_sql_conn *c, const struct kl_lease_op *ops, size_t n,
                        struct kl_error *err);
int kl_pg_delete_rows(struct kl_sql_conn *c, const kl_rev *ids, size_t n, int64_t *ret_rows,
                      struct kl_error *err);

// pg.c
// Parameters in binary. *ret_rows: rows that were changed, or came back.
struct kl_pg_params {
    const char *value[KL_PG_MAX_PARAMS];
    int length[KL_PG_MAX_PARAMS], format[KL_PG_MAX_PARAMS];
    int n;
    char num[KL_PG_MAX_PARAMS][8];
};
void kl_pg_param_int(struct kl_pg_params *p, int64_t v);
void kl_pg_param_bytes(struct kl_pg_params *p, struct kl_str s);
void kl_pg_param_null(struct kl_pg_params *p);
int kl_pg_exec(struct kl_pg *c, int which, const struct kl_pg_params *p, int64_t *ret_rows,
               struct kl_error *err);

// pg_schema.c
extern const char *const kl_pg_sql[KL_PG_STMTS];
// One row of n numbers in the text protocol.
int kl_pg_query_ints(struct kl_pg *c, const char *sql, int64_t *ret, int n, struct kl_error *err);
int kl_pg_inspect(struct kl_sql_conn *c, enum kl_sql_tables *ret_t, struct kl_error *err);
int kl_pg_create_tables(struct kl_sql_conn *c, const struct kl_sql_new *n, struct kl_error *err);
int kl_pg_prepare(struct kl_sql_conn *c, struct kl_error *err);
int kl_pg_clear(struct kl_sql_conn *c, struct kl_error *err);
