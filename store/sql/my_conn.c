// SPDX-License-Identifier: Apache-2.0
// Sessions with MariaDB and MySQL: the library, connecting, statements in the text protocol,
// errors.
#include "store/sql/my_int.h"
#include "base/fault.h"
#include "base/log.h"
#include <errmsg.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUF_MAX = 512 << 20 };

// ---- the library ----

static struct kl_my_lib lib;

static bool start_lib(void)
{
    return !lib.mysql_server_init(0, NULL, NULL);
}

static const struct kl_sql_symbol symbols[] = {
#define SYMBOL(f) {#f, (void **)&lib.f},
    KL_MY_FUNCTIONS(SYMBOL)
#undef SYMBOL
};
static struct kl_sql_lib library = {.soname = "libmariadb.so.3",
                                    .package = "libmariadb3",
                                    .symbols = symbols,
                                    .nsymbols = KL_COUNT(symbols),
                                    .start = start_lib,
                                    .mu = PTHREAD_MUTEX_INITIALIZER};

// ---- errors ----

static const struct {
    unsigned number;
    int code;
} numbers[] = {
    // The session is lost, or the server cannot serve now.
    {CR_CONNECTION_ERROR, KL_EUNAVAILABLE},
    {CR_CONN_HOST_ERROR, KL_EUNAVAILABLE},
    {CR_UNKNOWN_HOST, KL_EUNAVAILABLE},
    {CR_SERVER_GONE_ERROR, KL_EUNAVAILABLE},
    {CR_SERVER_HANDSHAKE_ERR, KL_EUNAVAILABLE},
    {CR_SERVER_LOST, KL_EUNAVAILABLE},
    {CR_SERVER_LOST_EXTENDED, KL_EUNAVAILABLE},
    {CR_MALFORMED_PACKET, KL_EUNAVAILABLE},
    {CR_COMMANDS_OUT_OF_SYNC, KL_EUNAVAILABLE},
    {ER_CON_COUNT_ERROR, KL_EUNAVAILABLE},
    {ER_UNKNOWN_COM_ERROR, KL_EUNAVAILABLE}, // Galera: not ready for application use
    {ER_SERVER_SHUTDOWN, KL_EUNAVAILABLE},
    {ER_NORMAL_SHUTDOWN, KL_EUNAVAILABLE},
    {ER_SHUTDOWN_COMPLETE, KL_EUNAVAILABLE},
    {ER_ABORTING_CONNECTION, KL_EUNAVAILABLE},
    {ER_NEW_ABORTING_CONNECTION, KL_EUNAVAILABLE},
    {ER_NET_READ_ERROR, KL_EUNAVAILABLE},
    {ER_NET_READ_INTERRUPTED, KL_EUNAVAILABLE},
    {ER_TOO_MANY_USER_CONNECTIONS, KL_EUNAVAILABLE},
    {ER_USER_LIMIT_REACHED, KL_EUNAVAILABLE},
    {ER_QUERY_INTERRUPTED, KL_EUNAVAILABLE},
    {ER_OPTION_PREVENTS_STATEMENT, KL_EUNAVAILABLE}, // read_only
    {ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, KL_EUNAVAILABLE},
    {1836, KL_EUNAVAILABLE}, // ER_READ_ONLY_MODE
    {1927, KL_EUNAVAILABLE}, // MariaDB: ER_CONNECTION_KILLED
    {3032, KL_EUNAVAILABLE}, // MySQL: ER_SERVER_OFFLINE_MODE
    {3100, KL_EUNAVAILABLE}, // MySQL: ER_RUN_HOOK_ERROR, a group that is cut off
    {3169, KL_EUNAVAILABLE}, // MySQL: ER_SESSION_WAS_KILLED
    {4031, KL_EUNAVAILABLE}, // MySQL: ER_CLIENT_INTERACTION_TIMEOUT, KL_MY_IMPATIENT's
    {1180, KL_EUNAVAILABLE}, // ER_ERROR_DURING_COMMIT: Galera's node was cut off, the binary log
    // Nothing happened, and the same may succeed now.
    {ER_CHECKREAD, KL_EAGAIN}, // 1020: innodb_snapshot_isolation
    {ER_LOCK_WAIT_TIMEOUT, KL_EAGAIN},
    {ER_LOCK_DEADLOCK, KL_EAGAIN},
    {ER_TOO_MANY_CONCURRENT_TRXS, KL_EAGAIN},
    {1969, KL_EAGAIN}, // MariaDB: ER_STATEMENT_TIMEOUT
    {3024, KL_EAGAIN}, // MySQL: ER_QUERY_TIMEOUT
    {3101, KL_EAGAIN}, // MySQL: ER_TRANSACTION_ROLLBACK_DURING_COMMIT, a group's certification
    // Who asks.
    {ER_ACCESS_DENIED_ERROR, KL_EUNAUTHORIZED},
    {1698, KL_EUNAUTHORIZED}, // ER_ACCESS_DENIED_NO_PASSWORD_ERROR
    {ER_MUST_CHANGE_PASSWORD_LOGIN, KL_EUNAUTHORIZED},
    {ER_HOST_NOT_PRIVILEGED, KL_EFORBIDDEN},
    {ER_HOST_IS_BLOCKED, KL_EFORBIDDEN},
    {ER_DBACCESS_DENIED_ERROR, KL_EFORBIDDEN},
    {ER_TABLEACCESS_DENIED_ERROR, KL_EFORBIDDEN},
    {ER_COLUMNACCESS_DENIED_ERROR, KL_EFORBIDDEN},
    {ER_SPECIFIC_ACCESS_DENIED_ERROR, KL_EFORBIDDEN},
    {ER_BAD_DB_ERROR, KL_ENOTFOUND},
    {ER_NO_SUCH_TABLE, KL_ENOTFOUND},
    // What is asked.
    {ER_DUP_ENTRY, KL_EEXISTS},
    {ER_DUP_ENTRY_WITH_KEY_NAME, KL_EEXISTS},
    {ER_NET_PACKET_TOO_LARGE, KL_ETOOLARGE},
    {CR_NET_PACKET_TOO_LARGE, KL_ETOOLARGE},
    {ER_DATA_TOO_LONG, KL_ETOOLARGE},
    {ER_TOO_BIG_ROWSIZE, KL_ETOOLARGE},
    {1301, KL_ETOOLARGE}, // ER_WARN_ALLOWED_PACKET_OVERFLOWED
    {ER_INVALID_CHARACTER_STRING, KL_EINVALID},
    {ER_TRUNCATED_WRONG_VALUE_FOR_FIELD, KL_EINVALID},
    {ER_UNKNOWN_SYSTEM_VARIABLE, KL_EINVALID},
    {ER_WRONG_VALUE_FOR_VAR, KL_EINVALID},
    {ER_WRONG_TYPE_FOR_VAR, KL_EINVALID},
    {CR_SSL_CONNECTION_ERROR, KL_EINVALID},
    {CR_AUTH_PLUGIN_CANNOT_LOAD, KL_EUNSUPPORTED},
    {ER_NOT_SUPPORTED_YET, KL_EUNSUPPORTED},
    // The server's machine.
    {ER_DISK_FULL, KL_ENOSPC},
    {ER_RECORD_FILE_FULL, KL_ENOSPC},
    {ER_OUTOFMEMORY, KL_ENOMEM},
    {ER_OUT_OF_RESOURCES, KL_ENOMEM},
    {CR_OUT_OF_MEMORY, KL_ENOMEM},
    {ER_ERROR_ON_READ, KL_EIO},
    {ER_ERROR_ON_WRITE, KL_EIO},
    {ER_NOT_KEYFILE, KL_ECORRUPT},
    {ER_CRASHED_ON_USAGE, KL_ECORRUPT},
};

static int number_code(unsigned number, const char *text)
{
    if (number == ER_GET_ERRNO || number == ER_ERROR_ON_WRITE) { // the system's errno in the text
        if (strstr(text, "No space left") || strstr(text, "error 28") || strstr(text, "rrcode: 28"))
            return KL_ENOSPC;
        return KL_EIO;
    }
    for (size_t i = 0; i < KL_COUNT(numbers); i++) {
        if (numbers[i].number == number)
            return numbers[i].code;
    }
    return KL_EINTERNAL;
}

int kl_my_error(struct kl_my *c, struct kl_error *err)
{
    unsigned number = c->lib->mysql_errno(c->my);
    const char *text = c->lib->mysql_error(c->my);
    int code = number_code(number, text);
    if (atomic_load(&c->conn.interrupted))
        return kl_error_set(err, KL_EUNAVAILABLE, "datastore %s: closing", c->conn.name);
    // These texts quote the statement, and with it what is stored.
    if (number == ER_PARSE_ERROR || number == ER_TRUNCATED_WRONG_VALUE_FOR_FIELD ||
        number == ER_INVALID_CHARACTER_STRING || number == ER_DUP_ENTRY)
        text = number == ER_PARSE_ERROR ? "the server does not understand a statement"
               : number == ER_DUP_ENTRY ? "a row of the same key is there already"
                                        : "a key or value that the table's column cannot hold";
    if (code == KL_ETOOLARGE && number != ER_DATA_TOO_LONG)
        return kl_error_set(err, code,
                            "datastore %s: %s; the server's max_allowed_packet is %zu "
                            "bytes (%u)",
                            c->conn.name, text, c->packet_bytes, number);
    return kl_error_set(err, code, "datastore %s: %s (%u)", c->conn.name,
                        *text ? text : "the connection was closed", number);
}

// ---- statements ----

// Reads what is left of the answers to a statement that was given up.
static void drain(struct kl_my *c)
{
    do {
        MYSQL_RES *res = c->lib->mysql_field_count(c->my) ? c->lib->mysql_use_result(c->my) : NULL;
        if (res)
            c->lib->mysql_free_result(res);
    } while (c->lib->mysql_more_results(c->my) && c->lib->mysql_next_result(c->my) == 0);
}

int kl_my_run(struct kl_my *c, struct kl_str sql, int64_t *ret_rows, struct kl_error *err)
{
    if (atomic_load(&c->conn.interrupted))
        return kl_error_set(err, KL_EUNAVAILABLE, "datastore %s: closing", c->conn.name);
    if (c->lib->mysql_real_query(c->my, sql.p, sql.n))
        return kl_my_error(c, err);
    int r = 0;
    while (!r && c->lib->mysql_more_results(c->my)) {
        kl_fault_crash("my.answer");
        MYSQL_RES *res = c->lib->mysql_field_count(c->my) ? c->lib->mysql_use_result(c->my) : NULL;
        if (res)
            c->lib->mysql_free_result(res);
        r = c->lib->mysql_next_result(c->my);
    }
    if (r > 0)
        return kl_my_error(c, err);
    if (ret_rows)
        *ret_rows = (int64_t)c->lib->mysql_affected_rows(c->my);
    MYSQL_RES *res = c->lib->mysql_field_count(c->my) ? c->lib->mysql_use_result(c->my) : NULL;
    if (res)
        c->lib->mysql_free_result(res);
    return 0;
}

static bool is_int(enum enum_field_types t)
{
    return t == MYSQL_TYPE_TINY || t == MYSQL_TYPE_SHORT || t == MYSQL_TYPE_LONG ||
           t == MYSQL_TYPE_INT24 || t == MYSQL_TYPE_LONGLONG;
}

int kl_my_query(struct kl_my *c, struct kl_str sql, struct kl_error *err)
{
    if (atomic_load(&c->conn.interrupted))
        return kl_error_set(err, KL_EUNAVAILABLE, "datastore %s: closing", c->conn.name);
    if (c->lib->mysql_real_query(c->my, sql.p, sql.n))
        return kl_my_error(c, err);
    c->rows = c->lib->mysql_use_result(c->my);
    if (!c->rows)
        return c->lib->mysql_errno(c->my)
                   ? kl_my_error(c, err)
                   : kl_error_set(err, KL_EINTERNAL, "datastore %s: a statement without a result",
                                  c->conn.name);
    c->ncolumns = c->lib->mysql_num_fields(c->rows);
    if (c->ncolumns > KL_SQL_MAX_COLUMNS) {
        kl_my_finish(&c->conn);
        return kl_error_set(err, KL_EINTERNAL, "datastore %s: %u columns", c->conn.name,
                            c->ncolumns);
    }
    const MYSQL_FIELD *f = c->lib->mysql_fetch_fields(c->rows);
    for (unsigned i = 0; i < c->ncolumns; i++)
        c->is_int[i] = is_int(f[i].type);
    return 0;
}

// The text protocol's numbers; one above INT64_MAX (kine's columns are unsigned) stays that.
static int64_t parse_int(const char *p, size_t n)
{
    bool minus = n && *p == '-';
    uint64_t u = 0;
    for (size_t i = minus; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            break;
        if (u > (UINT64_MAX - 9) / 10)
            return INT64_MAX;
        u = u * 10 + (uint64_t)(p[i] - '0');
    }
    if (minus)
        return (int64_t)(0 - u);
    return u > INT64_MAX ? INT64_MAX : (int64_t)u;
}

int kl_my_fetch(struct kl_sql_conn *conn, struct kl_sql_value *cells, struct kl_error *err)
{
    struct kl_my *c = (struct kl_my *)conn;
    MYSQL_ROW row = c->lib->mysql_fetch_row(c->rows);
    if (!row)
        return c->lib->mysql_errno(c->my) ? kl_my_error(c, err) : 0;
    const unsigned long *n = c->lib->mysql_fetch_lengths(c->rows);
    for (unsigned i = 0; i < c->ncolumns; i++) {
        if (!row[i])
            cells[i] = (struct kl_sql_value){.type = KL_SQL_NULL};
        else if (c->is_int[i])
            cells[i] = KL_SQL_INT(parse_int(row[i], n[i]));
        else
            cells[i] = KL_SQL_BYTES(((struct kl_str){row[i], n[i]}));
    }
    return 1;
}

void kl_my_finish(struct kl_sql_conn *conn)
{
    struct kl_my *c = (struct kl_my *)conn;
    if (!c->rows)
        return;
    c->lib->mysql_free_result(c->rows); // reads what was not fetched
    c->rows = NULL;
    if (c->lib->mysql_more_results(c->my) && c->lib->mysql_next_result(c->my) == 0)
        drain(c);
}

int kl_my_query_ints(struct kl_my *c, const char *sql, int64_t *ret, int n, struct kl_error *err)
{
    struct kl_sql_value cells[KL_SQL_MAX_COLUMNS];
    int r = kl_my_query(c, kl_str(sql), err);
    if (r)
        return r;
    r = kl_my_fetch(&c->conn, cells, err);
    if (r == 1) {
        for (int i = 0; i < n && i < (int)c->ncolumns; i++)
            ret[i] = cells[i].type == KL_SQL_INT     ? cells[i].i
                     : cells[i].type == KL_SQL_BYTES ? parse_int(cells[i].s.p, cells[i].s.n)
                                                     : 0;
    }
    kl_my_finish(&c->conn);
    if (r == 0)
        return kl_error_set(err, KL_ENOTFOUND, "datastore %s: no row", c->conn.name);
    return r < 0 ? r : 0;
}

// ---- connecting ----

static void set_tls(struct kl_my *c, const struct kl_endpoint *e, enum kl_endpoint_tls tls)
{
    char on = tls != KL_ENDPOINT_TLS_OFF, verify = tls == KL_ENDPOINT_TLS_VERIFY;
    c->lib->mysql_options(c->my, MYSQL_OPT_SSL_ENFORCE, &on);
    c->lib->mysql_options(c->my, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify);
    if (!on)
        return;
    if (e->cafile && verify)
        c->lib->mysql_options(c->my, MYSQL_OPT_SSL_CA, e->cafile);
    if (e->certfile) {
        c->lib->mysql_options(c->my, MYSQL_OPT_SSL_CERT, e->certfile);
        c->lib->mysql_options(c->my, MYSQL_OPT_SSL_KEY, e->keyfile);
    }
}

static int connect_once(struct kl_my *c, const struct kl_endpoint *e, enum kl_endpoint_tls tls,
                        bool with_db, struct kl_error *err)
{
    unsigned connect_s = (unsigned)e->connect_timeout_s, no = 0;
    unsigned each_s = c->timeout_ms ? (unsigned)(c->timeout_ms + 999) / 1000 : 0;
    unsigned protocol = e->socket ? MYSQL_PROTOCOL_SOCKET : MYSQL_PROTOCOL_TCP;
    unsigned long largest = 1ul << 30;
    c->my = c->lib->mysql_init(NULL);
    if (!c->my)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    c->lib->mysql_options(c->my, MYSQL_OPT_CONNECT_TIMEOUT, &connect_s);
    c->lib->mysql_options(c->my, MYSQL_OPT_READ_TIMEOUT, &each_s);
    c->lib->mysql_options(c->my, MYSQL_OPT_WRITE_TIMEOUT, &each_s);
    c->lib->mysql_options(c->my, MYSQL_OPT_PROTOCOL, &protocol);
    c->lib->mysql_options(c->my, MYSQL_OPT_LOCAL_INFILE, &no);
    c->lib->mysql_options(c->my, MYSQL_OPT_MAX_ALLOWED_PACKET, &largest);
    c->lib->mysql_options(c->my, MYSQL_SET_CHARSET_NAME, "binary");
    set_tls(c, e, tls);
    unsigned port = e->port ? (unsigned)strtoul(e->port, NULL, 10) : 0;
    // Not NULL: the library would look for them in the environment.
    if (c->lib->mysql_real_connect(c->my, e->host, e->user ? e->user : "",
                                   e->password ? e->password : "", with_db ? e->db : NULL, port,
                                   e->socket, CLIENT_MULTI_STATEMENTS | CLIENT_FOUND_ROWS)) {
        atomic_store(&c->conn.fd, (int)c->lib->mysql_get_socket(c->my));
        return 0;
    }
    unsigned number = c->lib->mysql_errno(c->my);
    int r = kl_my_error(c, err);
    if (number == CR_CONNECTION_ERROR || number == CR_CONN_HOST_ERROR)
        kl_error_set(err, r, "datastore %s: cannot connect: %s (%u)", c->conn.name,
                     c->lib->mysql_error(c->my), number);
    c->lib->mysql_close(c->my);
    c->my = NULL;
    return r;
}

// The library goes on in the clear with a server that says that it has no TLS: right for
// "preferred" alone.
static int connect_tls(struct kl_my *c, const struct kl_endpoint *e, bool with_db,
                       struct kl_error *err)
{
    enum kl_endpoint_tls tls =
        e->tls == KL_ENDPOINT_TLS_PREFER && e->socket ? KL_ENDPOINT_TLS_OFF : e->tls;
    int r = connect_once(c, e, tls, with_db, err);
    if (!r && tls > KL_ENDPOINT_TLS_PREFER && !c->lib->mysql_get_ssl_cipher(c->my))
        return kl_error_set(err, KL_EINVALID, "datastore %s: the server offers no TLS",
                            c->conn.name);
    return r;
}

static int set_session(struct kl_my *c, const struct kl_endpoint *e, struct kl_error *err)
{
    struct kl_buf *b = &c->buf;
    int lock_s = c->timeout_ms ? (c->timeout_ms + 1999) / 2000 : 50; // before we give up ourselves
    kl_buf_clear(b);
    // The URL's first: what a batch relies on is ours whatever it says.
    for (size_t i = 0; i < e->nparams; i++)
        kl_buf_printf(b, "SET SESSION %s = %s;", e->params[i].name, e->params[i].value);
    // Strict, so that what does not fit is refused; a time zone without folds, for now(). A server
    // that stands still in the middle of a batch does not hold kv_meta's row for ever (MySQL has no
    // such setting: KL_MY_IMPATIENT).
    kl_buf_printf(b,
                  "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit ="
                  " 1, time_zone = '+00:00', innodb_lock_wait_timeout = %d, wait_timeout = 2147483,"
                  " foreign_key_checks = 0 /*M!100300 , idle_transaction_timeout = 3 */;"
                  "SET @kinglet_writer = 1;"
                  "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
                  lock_s);
    return b->err ? kl_error_set(err, b->err, "out of memory")
                  : kl_my_run(c, kl_buf_str(b), NULL, err);
}

static int read_server(struct kl_my *c, struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int r = kl_my_query(c,
                        KL_STR("SELECT VERSION(), @@max_allowed_packet, @@innodb_page_size,"
                               " @@global.read_only"),
                        err);
    if (r)
        return r;
    r = kl_my_fetch(&c->conn, v, err);
    int major = 0, minor = 0, patch = 0;
    if (r == 1) {
        char text[64];
        snprintf(text, sizeof(text), "%.*s", KL_PRI(v[0].s));
        c->mariadb = strstr(text, "MariaDB");
        // Some proxies put a version before MariaDB's own.
        const char *own = strstr(text, "5.5.5-") == text ? text + 6 : text;
        if (sscanf(own, "%d.%d.%d", &major, &minor, &patch) < 2)
            major = 99;
        size_t packet = v[1].i > 4 * KL_MY_PACKET_SLACK ? (size_t)v[1].i - KL_MY_PACKET_SLACK
                                                        : KL_MY_PACKET_SLACK;
        c->packet_bytes = packet;
        c->page_bytes = v[2].i;
        c->read_only = v[3].type == KL_SQL_INT && v[3].i;
        int version = major * 10000 + minor * 100 + patch;
        if (version < (c->mariadb ? KL_MY_MIN_MARIADB : KL_MY_MIN_MYSQL))
            r = kl_error_set(err, KL_EUNSUPPORTED,
                             "datastore %s: the server is %s; MariaDB 10.3 or MySQL 5.7 is needed",
                             c->conn.name, text);
    }
    kl_my_finish(&c->conn);
    // MySQL 8 tells yesterday's sizes otherwise.
    if (r == 1 && !c->mariadb && major >= 8)
        r = kl_my_run(c, KL_STR("SET SESSION information_schema_stats_expiry = 0"), NULL, err);
    return r < 0 ? r : 0;
}

// Several servers that take writes: Galera's cluster is served, MySQL's group is not, for it lets
// one of its members write unless it is told otherwise.
static int read_cluster(struct kl_my *c, struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int r = kl_my_query(c,
                        KL_STR("SHOW VARIABLES WHERE (Variable_name='wsrep_on' AND Value='ON') OR"
                               " (Variable_name='group_replication_single_primary_mode' AND"
                               " Value='OFF')"),
                        err);
    if (r)
        return r;
    r = kl_my_fetch(&c->conn, v, err);
    c->galera = r == 1 && kl_str_eqz(v[0].s, "wsrep_on");
    kl_my_finish(&c->conn);
    if (r == 1 && !c->galera)
        return kl_error_set(err, KL_EUNSUPPORTED,
                            "datastore %s: group_replication_single_primary_mode is OFF; kinglet "
                            "needs a group with one primary",
                            c->conn.name);
    if (r == 1)
        r = kl_my_run(c, KL_STR("SET SESSION wsrep_sync_wait = 1"), NULL, err);
    return r;
}

static int connect_endpoint(const struct kl_endpoint *e, int timeout_ms, bool with_db,
                            struct kl_my **ret_c, struct kl_error *err)
{
    int r = kl_sql_lib_open(&library, err);
    if (r)
        return r;
    struct kl_my *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    c->conn.driver = &kl_sql_mysql;
    c->lib = &lib;
    c->timeout_ms = timeout_ms;
    atomic_init(&c->conn.fd, -1);
    kl_endpoint_name(e, c->conn.name, sizeof(c->conn.name));
    kl_buf_init(&c->buf, BUF_MAX);
    r = connect_tls(c, e, with_db, err);
    if (!r)
        r = set_session(c, e, err);
    if (!r)
        r = read_server(c, err);
    if (!r)
        r = read_cluster(c, err);
    if (r) {
        kl_my_close(&c->conn);
        return r;
    }
    *ret_c = c;
    return 0;
}

int kl_my_connect(const struct kl_endpoint *e, int timeout_ms, struct kl_sql_conn **ret_c,
                  struct kl_error *err)
{
    struct kl_my *c;
    int r = connect_endpoint(e, timeout_ms, true, &c, err);
    if (!r)
        *ret_c = &c->conn;
    return r;
}

int kl_my_create_database(const struct kl_endpoint *e, struct kl_error *err)
{
    struct kl_my *c;
    int r = connect_endpoint(e, e->connect_timeout_s * 1000, false, &c, err);
    if (r)
        return r;
    kl_buf_clear(&c->buf);
    kl_my_put_str(&c->buf, "CREATE DATABASE IF NOT EXISTS ");
    kl_sql_put_name(&c->buf, e->db, '`');
    kl_my_put_str(&c->buf, " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
    r = c->buf.err ? kl_error_set(err, c->buf.err, "out of memory")
                   : kl_my_run(c, kl_buf_str(&c->buf), NULL, err);
    kl_my_close(&c->conn);
    return r;
}

void kl_my_close(struct kl_sql_conn *conn)
{
    struct kl_my *c = (struct kl_my *)conn;
    if (!c)
        return;
    if (c->rows && !atomic_load(&c->conn.interrupted))
        kl_my_finish(conn);
    atomic_store(&c->conn.fd, -1);
    if (c->my)
        c->lib->mysql_close(c->my);
    kl_buf_fini(&c->buf);
    free(c);
}
