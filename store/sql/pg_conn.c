// SPDX-License-Identifier: Apache-2.0
// Sessions with PostgreSQL: the library, connecting, waiting with a deadline, errors.
#include "store/sql/pg_int.h"
#include "base/clock.h"
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

// ---- the library ----

static struct kl_pq lib;
static const struct kl_sql_symbol symbols[] = {
#define SYMBOL(f) {#f, (void **)&lib.f},
    KL_PQ_FUNCTIONS(SYMBOL)
#undef SYMBOL
};
static struct kl_sql_lib library = {.soname = "libpq.so.5",
                                    .package = "libpq5",
                                    .symbols = symbols,
                                    .nsymbols = KL_COUNT(symbols),
                                    .mu = PTHREAD_MUTEX_INITIALIZER};

// ---- errors ----

static const struct {
    const char *state; // SQLSTATE, or its first two
    int code;
} states[] = {
    {"08", KL_EUNAVAILABLE},    {"57P01", KL_EUNAVAILABLE}, {"57P02", KL_EUNAVAILABLE},
    {"57P03", KL_EUNAVAILABLE}, {"57P05", KL_EUNAVAILABLE}, {"53300", KL_EUNAVAILABLE},
    {"25006", KL_EUNAVAILABLE}, {"25P03", KL_EUNAVAILABLE}, {"40001", KL_EAGAIN},
    {"40P01", KL_EAGAIN},       {"55P03", KL_EAGAIN},       {"57014", KL_EAGAIN},
    {"28", KL_EUNAUTHORIZED},   {"3D000", KL_ENOTFOUND},    {"42P01", KL_ENOTFOUND},
    {"42501", KL_EFORBIDDEN},   {"53100", KL_ENOSPC},       {"53200", KL_ENOMEM},
    {"23505", KL_EEXISTS},      {"42P04", KL_EEXISTS},      {"54", KL_ETOOLARGE},
    {"58030", KL_EIO},          {"XX001", KL_ECORRUPT},     {"XX002", KL_ECORRUPT},
};

static int state_code(const char *state)
{
    for (size_t i = 0; state && i < KL_COUNT(states); i++) {
        if (strncmp(state, states[i].state, strlen(states[i].state)) == 0)
            return states[i].code;
    }
    return KL_EINTERNAL;
}

static struct kl_str first_line(const char *text)
{
    struct kl_str s = kl_str_trim(kl_str(text)), line = s;
    if (kl_str_split(&s, '\n', &line))
        line = kl_str_trim(line);
    return line;
}

int kl_pg_error(struct kl_pg *c, const PGresult *r, struct kl_error *err)
{
    const char *state = r ? c->pq->PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
    if (state) {
        struct kl_str text = first_line(c->pq->PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY));
        return kl_error_set(err, state_code(state), "datastore %s: %.*s (SQLSTATE %.5s)",
                            c->conn.name, KL_PRI(text), state);
    }
    // Without a state it is the connection that failed.
    struct kl_str text = atomic_load(&c->conn.interrupted)
                             ? kl_str("closing")
                             : first_line(c->pq->PQerrorMessage(c->pg));
    return kl_error_set(err, KL_EUNAVAILABLE, "datastore %s: %.*s", c->conn.name,
                        KL_PRI(text.n ? text : kl_str("the connection was closed")));
}

// While connecting there is no result with a state; but with PQERRORS_VERBOSE it stands in the
// text, behind the severity, whose name is the server's language's: "FATAL:  28P01: password ...".
static struct kl_str find_state(struct kl_str text, struct kl_str *ret_rest)
{
    for (size_t i = 0; i + 10 <= text.n; i++) {
        const char *p = text.p + i;
        bool state = p[0] == ':' && p[1] == ' ' && p[2] == ' ' && p[8] == ':' && p[9] == ' ';
        for (int k = 3; state && k < 8; k++)
            state = isdigit((unsigned char)p[k]) || isupper((unsigned char)p[k]);
        if (state) {
            *ret_rest = kl_str_trim(kl_str_from(text, i + 10));
            return (struct kl_str){p + 3, 5};
        }
    }
    return (struct kl_str){0};
}

static bool has_word(struct kl_str text, const char *word)
{
    return text.p && text.n && memmem(text.p, text.n, word, strlen(word)) != NULL;
}

// libpq's own words: one paragraph for each address, "connection to server at ... failed: why",
// some with advice in a second line. The last address's why.
static struct kl_str own_line(struct kl_str text)
{
    struct kl_str line, best = {0};
    while (kl_str_split(&text, '\n', &line)) {
        const char *p = memmem(line.p, line.n, " failed: ", 9);
        if (p || !best.n)
            best = kl_str_trim(p ? kl_str_from(line, (size_t)(p - line.p) + 9) : line);
    }
    return best;
}

static int connect_error(struct kl_pg *c, const struct kl_endpoint *e, struct kl_error *err)
{
    const char *name = c->conn.name;
    struct kl_str text = kl_str_trim(kl_str(c->pq->PQerrorMessage(c->pg))), rest = {0};
    struct kl_str state = find_state(text, &rest), line = {0};
    if (!state.n) {
        line = own_line(text);
        if (has_word(line, "certificate") || has_word(line, "SSL"))
            return kl_error_set(err, KL_EINVALID, "datastore %s: no TLS connection: %.*s", name,
                                KL_PRI(line));
        if (has_word(line, "password") || has_word(line, "authentication method"))
            return kl_error_set(err, KL_EUNAUTHORIZED, "datastore %s: %.*s", name, KL_PRI(line));
        return kl_error_set(err, KL_EUNAVAILABLE, "datastore %s cannot be reached: %.*s", name,
                            KL_PRI(line));
    }
    kl_str_split(&rest, '\n', &line);
    char code5[6] = {0};
    memcpy(code5, state.p, 5);
    int code = state_code(code5);
    const char *user = e->user ? e->user : "";
    if (code == KL_EUNAUTHORIZED && strcmp(code5, "28P01") == 0)
        return kl_error_set(err, code, "datastore %s: wrong password for user %s", name, user);
    if (code == KL_EUNAUTHORIZED && has_word(line, "pg_hba.conf") &&
        (has_word(line, "no encryption") || has_word(line, "SSL off")))
        return kl_error_set(err, KL_EINVALID,
                            "datastore %s: the server accepts user %s only with TLS: use "
                            "sslmode=require or verify-full (%.*s)",
                            name, user, KL_PRI(line));
    if (strcmp(code5, "42704") == 0 || strcmp(code5, "22023") == 0) // a setting in the URL
        code = KL_EINVALID;
    if (code == KL_EUNAUTHORIZED)
        return kl_error_set(err, code, "datastore %s: user %s is not let in: %.*s", name, user,
                            KL_PRI(line));
    return kl_error_set(err, code, "datastore %s: %.*s", name, KL_PRI(line));
}

// ---- waiting ----

void kl_pg_begin_call(struct kl_pg *c)
{
    c->deadline_ms = c->timeout_ms ? kl_mono_ms() + c->timeout_ms : INT64_MAX;
}

int kl_pg_wait(struct kl_pg *c, int64_t deadline_ms, bool writing, struct kl_error *err)
{
    struct pollfd p = {.fd = c->pq->PQsocket(c->pg), .events = writing ? POLLIN | POLLOUT : POLLIN};
    for (;;) {
        int64_t left = deadline_ms == INT64_MAX ? -1 : deadline_ms - kl_mono_ms();
        if (p.fd < 0 || atomic_load(&c->conn.interrupted))
            return kl_error_set(err, KL_EUNAVAILABLE, "datastore %s: closing", c->conn.name);
        if (left < 0 && deadline_ms != INT64_MAX)
            return kl_error_set(err, KL_EUNAVAILABLE, "datastore %s does not answer", c->conn.name);
        int n = poll(&p, 1, left > 60000 ? 60000 : (int)left);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return kl_error_errno(err, errno, "datastore %s", c->conn.name);
    }
}

int kl_pg_result(struct kl_pg *c, PGresult **ret_r, struct kl_error *err)
{
    int flushed;
    while ((flushed = c->pq->PQflush(c->pg)) == 1) {
        int r = kl_pg_wait(c, c->deadline_ms, true, err);
        if (r)
            return r;
        // What comes while we send must be taken, or both sides wait.
        if (!c->pq->PQconsumeInput(c->pg))
            return kl_pg_error(c, NULL, err);
    }
    if (flushed < 0)
        return kl_pg_error(c, NULL, err);
    while (c->pq->PQisBusy(c->pg)) {
        int r = kl_pg_wait(c, c->deadline_ms, false, err);
        if (r)
            return r;
        if (!c->pq->PQconsumeInput(c->pg))
            return kl_pg_error(c, NULL, err);
    }
    *ret_r = c->pq->PQgetResult(c->pg);
    return 0;
}

int kl_pg_drain(struct kl_pg *c, struct kl_error *err)
{
    PGresult *r;
    do {
        int code = kl_pg_result(c, &r, err);
        if (code)
            return code;
        c->pq->PQclear(r);
    } while (r);
    return 0;
}

int kl_pg_run(struct kl_pg *c, const char *sql, int64_t *ret_rows, struct kl_error *err)
{
    kl_pg_begin_call(c);
    if (!c->pq->PQsendQuery(c->pg, sql))
        return kl_pg_error(c, NULL, err);
    PGresult *r;
    int code = 0;
    for (;;) {
        int k = kl_pg_result(c, &r, err);
        if (k)
            return k;
        if (!r)
            return code;
        ExecStatusType s = c->pq->PQresultStatus(r);
        if (!code && s != PGRES_COMMAND_OK && s != PGRES_TUPLES_OK && s != PGRES_EMPTY_QUERY)
            code = kl_pg_error(c, r, err);
        if (ret_rows)
            *ret_rows = strtoll(c->pq->PQcmdTuples(r), NULL, 10);
        c->pq->PQclear(r);
        if (code == KL_EUNAVAILABLE && c->pq->PQstatus(c->pg) == CONNECTION_BAD)
            return code;
    }
}

// ---- life ----

void kl_pg_close(struct kl_sql_conn *conn)
{
    struct kl_pg *c = (struct kl_pg *)conn;
    if (!c)
        return;
    atomic_store(&c->conn.fd, -1);
    c->pq->PQclear(c->row);
    c->pq->PQfinish(c->pg);
    kl_buf_fini(&c->buf);
    free(c);
}

static void ignore_notice(void *arg, const PGresult *r)
{
}

static bool has_param(const struct kl_endpoint *e, const char *name)
{
    for (size_t i = 0; i < e->nparams; i++) {
        if (strcmp(e->params[i].name, name) == 0)
            return true;
    }
    return false;
}

enum { MAX_KEYWORDS = 64 };

static int add_keyword(const char **keys, const char **values, int n, const char *k, const char *v)
{
    if (!v || n == MAX_KEYWORDS - 1)
        return n;
    keys[n] = k;
    values[n] = v;
    return n + 1;
}

static int start(struct kl_pg *c, const struct kl_endpoint *e, const char *db, struct kl_error *err)
{
    const char *keys[MAX_KEYWORDS] = {0}, *values[MAX_KEYWORDS] = {0};
    char timeout[16];
    int n = 0;
    snprintf(timeout, sizeof(timeout), "%d", e->connect_timeout_s);
    n = add_keyword(keys, values, n, "host", e->host);
    n = add_keyword(keys, values, n, "port", e->port);
    n = add_keyword(keys, values, n, "user", e->user);
    n = add_keyword(keys, values, n, "password", e->password);
    n = add_keyword(keys, values, n, "dbname", db);
    n = add_keyword(keys, values, n, "sslrootcert", e->cafile);
    n = add_keyword(keys, values, n, "sslcert", e->certfile);
    n = add_keyword(keys, values, n, "sslkey", e->keyfile);
    for (size_t i = 0; i < e->nparams; i++)
        n = add_keyword(keys, values, n, e->params[i].name, e->params[i].value);
    n = add_keyword(keys, values, n, "connect_timeout", timeout);
    if (!has_param(e, "application_name"))
        n = add_keyword(keys, values, n, "application_name", "kinglet");
    if (!has_param(e, "target_session_attrs") && e->host && strchr(e->host, ','))
        n = add_keyword(keys, values, n, "target_session_attrs", "read-write");
    if (!has_param(e, "gssencmode"))
        add_keyword(keys, values, n, "gssencmode", "disable"); // Kerberos' look-ups take their time
    c->pg = c->pq->PQconnectStartParams(keys, values, 0);
    if (!c->pg)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    c->pq->PQsetErrorVerbosity(c->pg, PQERRORS_VERBOSE);
    c->pq->PQsetNoticeReceiver(c->pg, ignore_notice, NULL);
    return 0;
}

static int connect_to(const struct kl_endpoint *e, const char *db, int timeout_ms,
                      struct kl_pg **ret_c, struct kl_error *err)
{
    int r = kl_sql_lib_open(&library, err);
    if (r)
        return r;
    struct kl_pg *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    c->conn.driver = &kl_sql_postgres;
    c->pq = &lib;
    c->timeout_ms = timeout_ms;
    atomic_init(&c->conn.fd, -1);
    kl_buf_init(&c->buf, KL_PG_BUF_MAX);
    kl_endpoint_name(e, c->conn.name, sizeof(c->conn.name));
    r = start(c, e, db, err);
    int64_t deadline = kl_mono_ms() + (int64_t)e->connect_timeout_s * 1000;
    PostgresPollingStatusType s = PGRES_POLLING_WRITING;
    while (!r && c->pq->PQstatus(c->pg) != CONNECTION_BAD) {
        r = kl_pg_wait(c, deadline, s == PGRES_POLLING_WRITING, err);
        if (r) {
            r = kl_error_set(err, KL_EUNAVAILABLE,
                             "datastore %s cannot be reached: no answer within %d s", c->conn.name,
                             e->connect_timeout_s);
            break;
        }
        s = c->pq->PQconnectPoll(c->pg);
        if (s == PGRES_POLLING_OK || s == PGRES_POLLING_FAILED)
            break;
    }
    if (!r && s != PGRES_POLLING_OK)
        r = connect_error(c, e, err);
    if (r) {
        kl_pg_close(&c->conn);
        return r;
    }
    *ret_c = c;
    return 0;
}

// Plans are made once and must not depend on statistics, which a young table has none of: indexes
// in their order, always. A server that stops in the middle of a transaction must not keep the
// others out for ever.
const char kl_pg_session_sql[] =
    "SET plan_cache_mode = force_generic_plan; SET jit = off; SET enable_seqscan = off;"
    "SET enable_bitmapscan = off; SET enable_sort = off; SET enable_hashjoin = off;"
    "SET enable_mergejoin = off; SET enable_hashagg = off; SET max_parallel_workers_per_gather = 0;"
    "SET default_transaction_isolation = 'read committed'; SET statement_timeout = 0;"
    "SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '5s';"
    "SET kinglet.writer = '1'; SET client_min_messages = error; SET bytea_output = hex;"
    // Keys of text are bytes to us: nothing is converted on the way.
    "SELECT set_config('client_encoding', current_setting('server_encoding'), false)"
    " WHERE current_setting('client_encoding') <> current_setting('server_encoding');"
    // These came with PostgreSQL 14 and 17. Our sessions are meant to be idle.
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('idle_session_timeout',"
    " 'transaction_timeout');"
    // An acknowledged write is on the disk, whatever the server's default is.
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') = 'off'";

// Prepared statements, settings and LISTEN are the session's. A pooler that gives the session to
// somebody else after every transaction (PgBouncer's transaction mode) would mix them up: then
// another client of it finds our mark in what should be a new session.
static int check_pooler(struct kl_pg *c, const struct kl_endpoint *e, struct kl_error *err)
{
    int64_t v = 0;
    int r = kl_pg_query_ints(c, "SELECT pg_backend_pid()", &v, 1, err);
    if (r || v == c->backend_pid)
        return r;
    c->backend_pid = v; // the one that notifications name
    struct kl_pg *other;
    r = connect_to(e, e->db, c->timeout_ms, &other, err);
    if (r)
        return r;
    other->pq->PQsetnonblocking(other->pg, 1);
    r = kl_pg_query_ints(
        other, "SELECT COALESCE(current_setting('kinglet.writer', true) = '1', false)::int4", &v, 1,
        err);
    kl_pg_close(&other->conn);
    if (!r && v)
        r = kl_error_set(err, KL_EUNSUPPORTED,
                         "datastore %s: a connection pooler shares sessions between clients: it "
                         "needs session pooling, or use the database's own address",
                         c->conn.name);
    return r;
}

int kl_pg_connect(const struct kl_endpoint *e, int timeout_ms, struct kl_sql_conn **ret_c,
                  struct kl_error *err)
{
    struct kl_pg *c;
    int r = connect_to(e, e->db, timeout_ms, &c, err);
    if (r)
        return r;
    int version = c->pq->PQserverVersion(c->pg);
    if (version < KL_PG_MIN_VERSION)
        r = kl_error_set(err, KL_EUNSUPPORTED,
                         "datastore %s: the server is PostgreSQL %d, kinglet needs %d or newer",
                         c->conn.name, version / 10000, KL_PG_MIN_VERSION / 10000);
    if (!r && c->pq->PQsetnonblocking(c->pg, 1))
        r = kl_pg_error(c, NULL, err);
    if (!r) {
        atomic_store(&c->conn.fd, c->pq->PQsocket(c->pg));
        c->backend_pid = c->pq->PQbackendPID(c->pg);
        c->pq->PQsetErrorVerbosity(c->pg, PQERRORS_DEFAULT);
        r = kl_pg_run(c, kl_pg_session_sql, NULL, err);
    }
    if (!r)
        r = check_pooler(c, e, err);
    if (r) {
        kl_pg_close(&c->conn);
        return r;
    }
    *ret_c = &c->conn;
    return 0;
}

int kl_pg_create_database(const struct kl_endpoint *e, struct kl_error *err)
{
    struct kl_pg *c;
    int r = connect_to(e, "postgres", 0, &c, err);
    if (r == KL_ENOTFOUND)
        r = connect_to(e, "template1", 0, &c, err);
    if (r)
        return r;
    struct kl_buf sql;
    kl_buf_init(&sql, 1024);
    kl_buf_puts(&sql, KL_STR("CREATE DATABASE "));
    kl_sql_put_name(&sql, e->db, '"');
    kl_buf_append(&sql, "", 1);
    c->pq->PQsetnonblocking(c->pg, 1);
    c->timeout_ms = e->connect_timeout_s * 1000;
    r = sql.err ? kl_error_set(err, KL_EINVALID,
                               "datastore %s: the name of the database is too "
                               "long",
                               c->conn.name)
                : kl_pg_run(c, sql.p, NULL, err);
    kl_buf_fini(&sql);
    if (r == KL_EEXISTS) // also when another server was faster
        r = 0;
    if (r == KL_EFORBIDDEN)
        kl_error_set(err, r,
                     "datastore %s: there is no such database, and user %s may not create one",
                     c->conn.name, e->user ? e->user : "");
    kl_pg_close(&c->conn);
    return r;
}
