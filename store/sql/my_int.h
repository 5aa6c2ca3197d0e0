// SPDX-License-Identifier: Apache-2.0
// MariaDB and MySQL through libmariadb, which is opened when a URL of theirs is used. Everything
// goes in the text protocol: a whole batch is then one packet and one round trip, no server-side
// limit on prepared statements is touched, and proxies understand it.
#pragma once
#include "store/sql/driver.h"
#include "base/buf.h"
#include <mysql.h>
#include <mysqld_error.h>
#include <stdatomic.h>

enum {
    KL_MY_MIN_MYSQL = 50700,
    KL_MY_MIN_MARIADB = 100300,
    KL_MY_NAME_BYTES = 2048,    // of kine.name with pages of 16 KiB; my_schema.c
    KL_MY_PACKET_SLACK = 4096,  // of max_allowed_packet stays free
    KL_MY_PACKET_MAX = 8 << 20, // of ours: memory on both sides, however much the server allows
};

#define KL_MY_FUNCTIONS(X)                                                                         \
    X(mysql_server_init)                                                                           \
    X(mysql_init)                                                                                  \
    X(mysql_options)                                                                               \
    X(mysql_real_connect)                                                                          \
    X(mysql_close)                                                                                 \
    X(mysql_get_ssl_cipher)                                                                        \
    X(mysql_get_socket)                                                                            \
    X(mysql_errno)                                                                                 \
    X(mysql_error)                                                                                 \
    X(mysql_real_query)                                                                            \
    X(mysql_field_count)                                                                           \
    X(mysql_affected_rows)                                                                         \
    X(mysql_more_results)                                                                          \
    X(mysql_next_result)                                                                           \
    X(mysql_use_result)                                                                            \
    X(mysql_free_result)                                                                           \
    X(mysql_num_fields)                                                                            \
    X(mysql_fetch_fields)                                                                          \
    X(mysql_fetch_row)                                                                             \
    X(mysql_fetch_lengths)

struct kl_my_lib {
#define KL_MY_MEMBER(f) __typeof__(&f) f;
    KL_MY_FUNCTIONS(KL_MY_MEMBER)
#undef KL_MY_MEMBER
};

struct kl_my {
    struct kl_sql_conn conn; // first
    const struct kl_my_lib *lib;
    MYSQL *my;
    int timeout_ms;
    size_t packet_bytes; // at most, of one statement or several
    int64_t page_bytes;  // of InnoDB
    bool mariadb, read_only;
    // A node of a Galera cluster. A write of another node that comes first may roll our transaction
    // back between two statements of one packet; the server then goes on with the next as if none
    // had been open. So statements of a transaction go one by one there. What was committed by
    // another node may not be here yet: reads wait for it (wsrep_sync_wait). Named locks are the
    // node's own, so that nothing may rest on them.
    bool galera;
    bool name_text;  // kine.name is text
    bool locked;     // kl_my_try_lock's, until end
    MYSQL_RES *rows; // that are being fetched
    unsigned ncolumns;
    bool is_int[KL_SQL_MAX_COLUMNS];
    struct kl_buf buf; // the statement
};

// my_conn.c
int kl_my_connect(const struct kl_endpoint *e, int timeout_ms, struct kl_sql_conn **ret_c,
                  struct kl_error *err);
int kl_my_create_database(const struct kl_endpoint *e, struct kl_error *err);
void kl_my_close(struct kl_sql_conn *c);
int kl_my_error(struct kl_my *c, struct kl_error *err); // of the library's newest error
// Statements without results, separated by semicolons, in one round trip; the first that fails ends
// them. *ret_rows (may be NULL): what the last one that was sent changed, found though unchanged
// included.
int kl_my_run(struct kl_my *c, struct kl_str sql, int64_t *ret_rows, struct kl_error *err);
// One statement with a result, as the driver's query.
int kl_my_query(struct kl_my *c, struct kl_str sql, struct kl_error *err);
int kl_my_fetch(struct kl_sql_conn *c, struct kl_sql_value *cells, struct kl_error *err);
void kl_my_finish(struct kl_sql_conn *c);
// The one row of numbers that a query gives; KL_ENOTFOUND without one. NULL is 0.
int kl_my_query_ints(struct kl_my *c, const char *sql, int64_t *ret, int n, struct kl_error *err);

// Around a transaction: a server of ours that stands still in it does not hold kv_meta's row for
// ever. MariaDB has idle_transaction_timeout; on MySQL a session that is silent is ended.
#define KL_MY_IMPATIENT "SET SESSION wait_timeout = 3;"
#define KL_MY_PATIENT ";SET SESSION wait_timeout = 2147483"

// my_text.c: literals. A failed append is remembered by the buffer.
void kl_my_put_str(struct kl_buf *b, const char *s);
void kl_my_put_int(struct kl_buf *b, int64_t v);
void kl_my_put_bytes(struct kl_buf *b, struct kl_str s);
void kl_my_put_name(struct kl_buf *b, const struct kl_my *c, struct kl_str s);
// The statement with $1 to $9 replaced.
void kl_my_put_sql(struct kl_buf *b, const struct kl_my *c, const char *sql,
                   const struct kl_sql_value *params, size_t nparams);

// my_batch.c
int kl_my_commit(struct kl_sql_conn *c, const struct kl_sql_commit *m, struct kl_error *err);
int kl_my_insert(struct kl_sql_conn *c, const struct kl_row *rows, size_t n, struct kl_error *err);
int kl_my_insert_leases(struct kl_sql_conn *c, const struct kl_lease_op *ops, size_t n,
                        struct kl_error *err);
int kl_my_delete_rows(struct kl_sql_conn *c, const kl_rev *ids, size_t n, int64_t *ret_rows,
                      struct kl_error *err);

// my_schema.c: parts of it for the take-over of kine's tables (store/transfer/kine_my.c) too
// Who changes tables has it. A name is at most 64 bytes; MySQL 9 has no MD5() any more.
#define KL_MY_LOCK_NAME "CONCAT('kinglet.',LEFT(SHA2(DATABASE(),256),40))"
#define KL_MY_TABLE                                                                                \
    " ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
#define KL_MY_META_COLUMNS                                                                         \
    "(k TINYINT NOT NULL PRIMARY KEY CHECK (k = 1), format INT NOT NULL, format_min INT NOT NULL," \
    " rev BIGINT NOT NULL, compact_rev BIGINT NOT NULL, physical_rev BIGINT NOT NULL, epoch"       \
    " BIGINT NOT NULL, batch_seq BIGINT NOT NULL, chain BIGINT NOT NULL, cluster_id BIGINT NOT"    \
    " NULL, history_id BIGINT NOT NULL, writer BIGINT NOT NULL, import_source BIGINT, import_base" \
    " BIGINT)" KL_MY_TABLE
extern const char kl_my_side_tables_sql[]; // all but kv_meta and kine
extern const char *const kl_my_sql[KL_SQL_STMTS];
int kl_my_inspect(struct kl_sql_conn *c, enum kl_sql_tables *ret_t, struct kl_error *err);
int kl_my_create_tables(struct kl_sql_conn *c, const struct kl_sql_new *n, struct kl_error *err);
int kl_my_prepare(struct kl_sql_conn *c, struct kl_error *err);
int kl_my_clear(struct kl_sql_conn *c, struct kl_error *err);
