// SPDX-License-Identifier: Apache-2.0
// One database under one or two stores of this process: what opening refuses, answers that are
// lost, a database that is set back, plans.
//   store-sql-faults postgres|mysql
#include "harness.h"
#include "free_port.h"
#include "servers.h"
#include "base/clock.h"
#include "base/fault.h"
#include "store/sql/pg_int.h"
#include "store/transfer/target.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static enum ts_kind kind;
static const char *backend;

static struct ts_server *server(void)
{
    return ts_shared(kind);
}

// ---- opening ----

static void expect_refusal(const char *url, const struct kl_store_options *o, int code,
                           const char *part)
{
    struct kl_store *s = NULL;
    struct kl_error err = {0};
    int r = kl_store_open(url, o, &s, &err);
    if (!r)
        kl_store_stop(s);
    if (r != code || !strstr(err.msg, part) || strstr(err.msg, "s3cr3t") || strchr(err.msg, '\n'))
        fail_msg("%s: %d \"%s\", not %d \"...%s...\"", url, r, err.msg, code, part);
}

static void open_must_work(const char *url)
{
    struct kl_store *s;
    struct kl_error err = {0};
    if (kl_store_open(url, NULL, &s, &err))
        fail_msg("%s: %s", url, err.msg);
    kl_store_stop(s);
}

static void replace(char *url, size_t cap, const char *from, const char *to)
{
    char copy[192], *at = strstr(url, from);
    assert_non_null(at);
    snprintf(copy, sizeof(copy), "%.*s%s%s", (int)(at - url), url, to, at + strlen(from));
    snprintf(url, cap, "%s", copy);
}

static void refusals(void **state)
{
    char url[192], db[32], port[16], sql[512];
    ts_fresh(server(), db);
    // Nobody there.
    ts_url(server(), db, NULL, url, sizeof(url));
    snprintf(port, sizeof(port), ":%d", ts_port(server()));
    replace(url, sizeof(url), port, ":1");
    expect_refusal(url, NULL, KL_EUNAVAILABLE,
                   kind == TS_POSTGRES ? "cannot be reached: Connection refused" : "connect");
    // Password and user.
    ts_url(server(), db, NULL, url, sizeof(url));
    replace(url, sizeof(url), "kine", "nobody");
    expect_refusal(url, NULL, KL_EUNAUTHORIZED, "nobody");
    // A database that may not be made.
    if (kind == TS_POSTGRES) {
        ts_sql(server(), NULL, "CREATE ROLE modest LOGIN PASSWORD 'x'", NULL, 0);
        snprintf(url, sizeof(url), "postgres://modest:x@127.0.0.1:%d/%s", ts_port(server()), db);
        expect_refusal(url, NULL, KL_EFORBIDDEN, "may not create one");
        ts_sql(server(), NULL, "DROP ROLE modest", NULL, 0);
    }
    // Read only there is nothing to make.
    ts_url(server(), db, NULL, url, sizeof(url));
    expect_refusal(url, &(struct kl_store_options){.read_only = true}, KL_ENOTFOUND, db);
    // Ours, then a newer format.
    open_must_work(url);
    open_must_work(url);
    ts_sql(server(), db, "UPDATE kv_meta SET format_min = 99", NULL, 0);
    expect_refusal(url, NULL, KL_EUNSUPPORTED, "format 99");
    // kine's and a stranger's.
    ts_sql(server(), db, "DROP TABLE kv_meta", NULL, 0);
    expect_refusal(url, NULL, KL_EUNSUPPORTED, "--take-over");
    ts_sql(server(), db, "ALTER TABLE kine DROP COLUMN old_value", NULL, 0);
    expect_refusal(url, NULL, KL_EUNSUPPORTED, "something else");
    snprintf(sql, sizeof(sql), "DROP DATABASE %s", db);
    ts_sql(server(), NULL, sql, NULL, 0);
}

static void tls(void **state)
{
    char url[192], db[32], ca[192];
    struct ts_server *s = ts_start(kind, &(struct ts_options){.tls = TS_TLS_OFFERED});
    ts_fresh(s, db);
    snprintf(ca, sizeof(ca), "%s/ca.crt", ts_dir(s));
    const char *verify = kind == TS_POSTGRES ? "sslmode=verify-full" : "tls=true";
    ts_url(s, db, verify, url, sizeof(url));
    struct kl_store *st;
    struct kl_error err = {0};
    if (kl_store_open(url, &(struct kl_store_options){.cafile = ca}, &st, &err))
        fail_msg("%s", err.msg);
    kl_store_stop(st);
    expect_refusal(url, &(struct kl_store_options){.cafile = "/nonexistent/ca.crt"}, KL_EINVALID,
                   kind == TS_POSTGRES ? "/nonexistent/ca.crt" : "TLS");
    char wrong[192];
    snprintf(wrong, sizeof(wrong), "%s/client.crt", ts_dir(s)); // nobody's CA
    expect_refusal(url, &(struct kl_store_options){.cafile = wrong}, KL_EINVALID, "TLS");
    ts_stop(s);
    // And one that does not offer it.
    const char *require = kind == TS_POSTGRES ? "sslmode=require" : "tls=skip-verify";
    ts_url(server(), db, require, url, sizeof(url));
    expect_refusal(url, NULL, KL_EINVALID, "TLS");
}

// ---- a pooler between us and the database ----

static pid_t start_pgbouncer(const char *mode, int port)
{
    char ini[64] = "/tmp/kl-pooler-XXXXXX";
    int fd = mkstemp(ini);
    assert_true(fd >= 0);
    dprintf(fd,
            "[databases]\n* = host=127.0.0.1 port=%d user=kine password=" TS_PASSWORD "\n"
            "[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port=%d\nauth_type=any\n"
            "pool_mode=%s\nunix_socket_dir=\nignore_startup_parameters=extra_float_digits\n",
            ts_port(server()), port, mode);
    assert_int_equal(fchmod(fd, 0644), 0);
    close(fd);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (geteuid() == 0 && (setgid(65534) || setuid(65534))) // it does not run as root
            _exit(126);
        execlp("pgbouncer", "pgbouncer", "-q", ini, NULL);
        _exit(127);
    }
    for (int64_t until = kl_mono_ms() + 120000;;) {
        struct sockaddr_in a = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int r = connect(fd, (struct sockaddr *)&a, sizeof(a));
        close(fd);
        if (r == 0)
            break;
        if (kl_mono_ms() > until || waitpid(pid, NULL, WNOHANG) == pid)
            fail_msg("pgbouncer does not start (deploy/packages-test.txt)");
        poll(NULL, 0, 10);
    }
    unlink(ini);
    return pid;
}

// One that gives a session to somebody else after each transaction is refused; one that does not
// serves.
static void poolers(void **state)
{
    char url[192], db[32], sql[96];
    int status;
    ts_fresh(server(), db);
    snprintf(sql, sizeof(sql), "CREATE DATABASE %s OWNER kine", db);
    ts_sql(server(), NULL, sql, NULL, 0);
    for (int shared = 0; shared < 2; shared++) {
        int port = ts_free_port();
        pid_t pid = start_pgbouncer(shared ? "transaction" : "session", port);
        snprintf(url, sizeof(url), "postgres://kine:x@127.0.0.1:%d/%s?sslmode=disable", port, db);
        if (shared)
            expect_refusal(url, NULL, KL_EUNSUPPORTED, "session pooling");
        else
            open_must_work(url);
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
    }
    snprintf(sql, sizeof(sql), "DROP DATABASE %s WITH (FORCE)", db);
    ts_sql(server(), NULL, sql, NULL, 0);
}

// ---- answers that are lost ----

static void lost_answers(void **state)
{
    static const char *const sites[] = {"sql.commit.before", "sql.commit.after"};
    struct hs_store hs;
    struct hs_client c;
    struct hs_watch w = {0};
    if (!kl_fault_built())
        fail_msg("built without KL_FAULTS");
    hs_open(&hs, backend, NULL);
    hs_client_open(&c, &hs);
    kl_rev first = hs_rev(&c);
    assert_int_equal(hs_watch_start(&w, &c, "/", "0", first + 1), 0);
    int n = 0;
    for (int i = 0; i < hs_scale(20); i++) {
        char key[32];
        snprintf(key, sizeof(key), "/lost/%d", i);
        kl_fault_set(sites[i % 2], 1 + i % 3, 1);
        for (int k = 0; k < 4; k++) {
            kl_rev r = hs_put(&c, key, "v", k ? first + n : 0);
            n++;
            assert_int_equal(r, first + n);
        }
        assert_int_equal(kl_fault_hits(sites[i % 2]), 1);
        struct kl_kv *kv = hs_get(&c, key);
        assert_int_equal(kv->version, 4);
        kl_kv_unref(kv);
    }
    kl_fault_clear();
    hs_watch_wait(&w, (size_t)n);
    for (int i = 0; i < n; i++)
        assert_int_equal(w.ev[i].rev, first + 1 + i);
    hs_watch_fini(&w);
    hs_client_close(&c);
    hs_close(&hs);
}

// "Try again" was wrong, as a cluster's may be, and there is no time to try: what was stored is
// found, and told as such.
static void wrong_again(void **state)
{
    struct hs_store hs;
    struct hs_client c;
    hs_open(&hs, backend, NULL);
    hs_client_open(&c, &hs);
    kl_rev first = hs_rev(&c);
    for (int late = 0; late < 2; late++) {
        kl_fault_set("sql.commit.again", 1, 1);
        kl_fault_set("sql.commit.late", 1, late);
        assert_int_equal(hs_put(&c, "/again", "v", late ? first + 1 : 0), first + 1 + late);
        assert_int_equal(kl_fault_hits("sql.commit.again"), 1);
        assert_int_equal(kl_fault_hits("sql.commit.late"), late);
        kl_fault_clear();
    }
    struct kl_kv *kv = hs_get(&c, "/again");
    assert_int_equal(kv->version, 2);
    kl_kv_unref(kv);
    hs_client_close(&c);
    hs_close(&hs);
}

// An answer is lost, and what would tell is gone too: this server may have slept for longer than
// kv_batch is kept. To run it again could be to run it twice.
static void nobody_knows_after(const char *site, long late)
{
    struct hs_store hs;
    struct hs_client c;
    if (strcmp(backend, "postgres") != 0)
        return; // what loses the row is written for PostgreSQL
    hs_open(&hs, backend, NULL);
    hs_client_open(&c, &hs);
    assert_true(hs_put(&c, "/known", "1", 0) > 0);
    ts_sql(hs.server, hs.db,
           "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
           "CREATE TRIGGER lose BEFORE INSERT ON kv_batch FOR EACH ROW EXECUTE FUNCTION lose()",
           NULL, 0);
    kl_fault_set(site, 1, 1);
    kl_fault_set("sql.commit.late", 1, late);
    assert_int_equal(hs_put(&c, "/maybe", "1", -1), KL_EMAYBE);
    assert_int_equal(kl_fault_hits(site), 1);
    kl_fault_clear();
    ts_sql(hs.server, hs.db, "DROP TRIGGER lose ON kv_batch", NULL, 0);
    struct kl_kv *kv = NULL;
    for (int64_t until = kl_mono_ms() + 120000; !kv && kl_mono_ms() < until; poll(NULL, 0, 5))
        kv = hs_get(&c, "/maybe");
    assert_non_null(kv);
    assert_int_equal(kv->version, 1);
    kl_kv_unref(kv);
    assert_true(hs_put(&c, "/known", "2", -1) > 0);
    hs_client_close(&c);
    hs_close(&hs);
}

static void nobody_knows(void **state)
{
    nobody_knows_after("sql.commit.after", 0);
    nobody_knows_after("sql.commit.again", 1);
    nobody_knows_after("sql.commit.again", 0);
}

// ---- T22 ----

struct backup {
    long long rev, seq, chain;
};

static struct backup backup(struct hs_store *hs)
{
    struct backup b;
    char out[256];
    ts_sql(hs->server, hs->db, "SELECT rev, batch_seq, chain FROM kv_meta", out, sizeof(out));
    assert_int_equal(sscanf(out, "%lld %lld %lld", &b.rev, &b.seq, &b.chain), 3);
    return b;
}

static void restore(struct hs_store *hs, const struct backup *b)
{
    char sql[512];
    snprintf(sql, sizeof(sql),
             "BEGIN; SELECT rev FROM kv_meta FOR UPDATE; DELETE FROM kine WHERE id > %lld; DELETE "
             "FROM kv_batch WHERE batch_seq > %lld; UPDATE kv_meta SET rev = %lld, batch_seq = "
             "%lld, chain = %lld; COMMIT",
             b->rev, b->seq, b->rev, b->seq, b->chain);
    ts_sql(hs->server, hs->db, sql, NULL, 0);
}

static kl_rev wait_rev(struct hs_client *c, kl_rev above)
{
    int64_t until = kl_mono_ms() + 120000;
    kl_rev rev;
    while ((rev = hs_rev(c)) <= above && kl_mono_ms() < until)
        poll(NULL, 0, 5);
    return rev;
}

static int watch_code(struct hs_watch *w)
{
    pthread_mutex_lock(&w->mu);
    int code = w->code;
    pthread_mutex_unlock(&w->mu);
    return code;
}

static void set_back(void **state)
{
    struct hs_store hs;
    struct hs_client c;
    struct hs_watch w = {0};
    char two[16];
    snprintf(two, sizeof(two), "%s2", backend);
    hs_open(&hs, two, NULL);
    hs_client_open(&c, &hs);
    for (int round = 0; round < hs_scale(3); round++) {
        assert_true(hs_put(&c, "/kept", "1", -1) > 0);
        struct backup b = backup(&hs);
        for (int i = 0; i < 10; i++)
            assert_true(hs_put(&c, "/lost", "2", -1) > 0);
        kl_rev seen = hs_rev(&c);
        assert_int_equal(hs_watch_start(&w, &c, "/", "0", seen + 1), 0);
        restore(&hs, &b);
        if (round % 2) { // found by a write, or by looking
            kl_rev r = hs_put(&c, "/new", "3", -1);
            assert_true(r > seen + 999000); // the jump is from what its finder had seen
        }
        kl_rev rev = wait_rev(&c, seen);
        assert_true(rev > seen + 999000);
        struct kl_kv *lost = hs_get(&c, "/lost"), *kept = hs_get(&c, "/kept");
        assert_true(!lost || lost->mod_rev <= b.rev);
        assert_non_null(kept);
        kl_kv_unref(lost);
        kl_kv_unref(kept);
        // Who watched is told to read anew.
        int64_t until = kl_mono_ms() + 120000;
        while (!watch_code(&w) && kl_mono_ms() < until)
            poll(NULL, 0, 5);
        assert_int_equal(watch_code(&w), KL_ECOMPACTED);
        hs_watch_fini(&w);
        w = (struct hs_watch){0};
        for (int i = 0; i < 4; i++) // both stores agree again
            assert_true(hs_put(&c, "/after", "4", -1) > rev);
    }
    hs_client_detach(&c);
    hs_reopen(&hs);
    hs_client_close(&c);
    hs_close(&hs);
}

// The log of the database is not the one that was seen, although it is as long.
static void diverged(void **state)
{
    struct hs_store hs;
    struct hs_client c;
    hs_open(&hs, backend, NULL);
    hs_client_open(&c, &hs);
    assert_true(hs_put(&c, "/a", "1", -1) > 0);
    kl_rev seen = hs_rev(&c);
    ts_sql(hs.server, hs.db, "UPDATE kv_meta SET chain = chain + 1", NULL, 0);
    assert_true(hs_put(&c, "/a", "2", -1) >= seen + 1000000);
    struct kl_kv *kv = hs_get(&c, "/a");
    assert_int_equal(kv->version, 2);
    kl_kv_unref(kv);
    hs_client_close(&c);
    hs_close(&hs);
}

// ---- plans ----

// What PostgreSQL makes of our statements as they are sent, on a table it knows nothing of yet.
static void plans(void **state)
{
    static const struct {
        enum kl_sql_stmt which;
        const char *types, *args, *wanted;
    } want[] = {
        {KL_SQL_LOAD, "bytea,int8", "'\\x00',100", "Index Only Scan using kl_cover"},
        {KL_SQL_ROWS, "int8,int8", "5,100", "Index Scan using kine_pkey"},
        {KL_SQL_ROWS_FROM, "int8", "5", "kine_pkey"},
        {KL_SQL_FEED, "int8,int8", "5,100", "Index Scan using kine_pkey"},
        {KL_SQL_RANGE, "bytea,bytea,int8,int8", "'\\x00','\\xff',100,10",
         "Index Only Scan using kl_cover"},
        {KL_SQL_RANGE_TO_LAST, "bytea,int8,int8", "'\\x00',100,10",
         "Index Only Scan using kl_cover"},
        {KL_SQL_RANGE_COUNT, "bytea,bytea,int8", "'\\x00','\\xff',100",
         "Index Only Scan using kl_cover"},
        {KL_SQL_STEP_FROM, "int8", "5", "kine_pkey"},
        {KL_SQL_STEP_ROWS, "int8,int8", "5,100", "Index Scan using kine_pkey"},
        {KL_SQL_BATCHES, "int8,int8", "5,100", "kv_batch_pkey"},
    };
    struct hs_store hs;
    struct hs_client c;
    char *sql = malloc(16384), *out = malloc(16384);
    hs_open(&hs, backend, NULL);
    hs_client_open(&c, &hs);
    for (int i = 0; i < 300; i++) {
        char key[32];
        snprintf(key, sizeof(key), "/plan/%d", i % 100);
        assert_true(hs_put(&c, key, "v", -1) > 0);
    }
    for (size_t i = 0; i < KL_COUNT(want); i++) {
        snprintf(sql, 16384, "%s; PREPARE p(%s) AS %s; EXPLAIN (COSTS OFF) EXECUTE p(%s)",
                 kl_pg_session_sql, want[i].types, kl_pg_sql[want[i].which], want[i].args);
        ts_sql(hs.server, hs.db, sql, out, 16384);
        bool sorts = strstr(out, "Sort") && want[i].which != KL_SQL_BATCHES; // of a handful
        if (!strstr(out, want[i].wanted) || strstr(out, "Seq Scan on kine") || sorts ||
            strstr(out, "Seq Scan on kv_batch"))
            fail_msg("%s:\n%s", kl_pg_sql[want[i].which], out);
    }
    free(sql);
    free(out);
    hs_client_close(&c);
    hs_close(&hs);
}

// ---- a database that is filled ----

static struct kl_target *open_target(const char *url)
{
    struct kl_target *t = NULL;
    struct kl_error err = {0};
    if (kl_target_open(url, NULL, &t, &err))
        fail_msg("%s", err.msg);
    return t;
}

static int begin_target(struct kl_target *t, struct kl_import im, struct kl_error *err)
{
    return kl_target_begin(t, &im, err);
}

static int add_rows(struct kl_target *t, int from, int until)
{
    char key[32];
    struct kl_error err = {0};
    int r = 0;
    for (int i = from; !r && i < until; i++) {
        snprintf(key, sizeof(key), "/k/%04d", i);
        struct kl_record rec = {.kind = KL_RECORD_ROW,
                                .row = {.id = i + 2,
                                        .mod_rev = i + 2,
                                        .create_rev = i + 2,
                                        .version = 1,
                                        .key = kl_str(key),
                                        .value = KL_STR("v")}};
        r = kl_target_add(t, &rec, &err);
    }
    return r ? r : kl_target_flush(t, &err);
}

// Whoever begins later, or goes on later, is the only one: what another does meanwhile is refused,
// and the target has no mixture.
static void two_imports(void **state)
{
    char url[256], name[32];
    struct kl_error err = {0};
    struct kl_import mine = {.source = 7, .base_rev = 50}, other = {.source = 8, .base_rev = 50};
    struct kl_store *s = NULL;
    ts_url(server(), ts_fresh(server(), name), NULL, url, sizeof(url));
    struct kl_target *a = open_target(url), *b = open_target(url);
    assert_int_equal(begin_target(a, mine, &err), 0);
    assert_int_equal(add_rows(a, 0, 10), 0);
    // The same copy, started twice.
    struct kl_import again = mine;
    assert_int_equal(kl_target_begin(b, &again, &err), 0);
    assert_int_equal(again.through, 11);
    assert_int_equal(add_rows(a, 10, 20), KL_ECONFLICT);
    assert_int_equal(add_rows(b, 10, 20), 0);
    assert_int_equal(kl_target_end(a, 50, 1, 0, NULL, &err), KL_ECONFLICT);
    kl_target_close(a);
    // Another copy takes its place by force.
    a = open_target(url);
    assert_int_equal(begin_target(a, other, &err), KL_EEXISTS);
    other.force = true;
    assert_int_equal(begin_target(a, other, &err), 0);
    assert_int_equal(add_rows(b, 20, 30), KL_ECONFLICT);
    assert_int_equal(kl_target_end(b, 50, 1, 0, NULL, &err), KL_ECONFLICT);
    assert_int_equal(add_rows(a, 0, 5), 0);
    if (kl_target_end(a, 50, 1, 0, &s, &err))
        fail_msg("%s", err.msg);
    struct kl_store_status st;
    kl_store_status(s, &st);
    assert_int_equal(st.keys, 5);
    assert_int_equal(st.rev, 50);
    kl_store_stop(s);
    kl_target_close(a);
    kl_target_close(b);
}

// What is served, or is what is copied, is not filled, whatever the force.
static void not_to_be_filled(void **state)
{
    char url[256], name[32];
    struct kl_error err = {0};
    struct kl_store_status st;
    struct kl_store *s = NULL;
    ts_url(server(), ts_fresh(server(), name), NULL, url, sizeof(url));
    if (kl_store_open(url, NULL, &s, &err))
        fail_msg("%s", err.msg);
    kl_store_status(s, &st);
    struct kl_target *t = open_target(url);
    int64_t until = kl_mono_ms() + 120000;
    int r;
    do { // from its first heartbeat on
        r = begin_target(
            t, (struct kl_import){.force = true, .source = st.cluster_id, .apart = true}, &err);
        assert_int_equal(r, KL_ECONFLICT);
        assert_non_null(strstr(err.msg, "is the source itself"));
        ts_sql(server(), name, "SELECT COUNT(*) FROM kv_peer", url, sizeof(url));
        poll(NULL, 0, 20);
    } while (atoi(url) == 0 && kl_mono_ms() < until);
    r = begin_target(t, (struct kl_import){.force = true, .source = 9}, &err);
    assert_int_equal(r, KL_EUNAVAILABLE);
    assert_non_null(strstr(err.msg, "is in use by 1 server"));
    kl_store_stop(s); // it says good-bye
    assert_int_equal(begin_target(t, (struct kl_import){.force = true, .source = 9}, &err), 0);
    kl_target_close(t);
}

int main(int argc, char **argv)
{
    static char name[32];
    snprintf(name, sizeof(name), "%s", argc > 1 ? argv[1] : "postgres");
    backend = name;
    kind = backend[0] == 'p' ? TS_POSTGRES : TS_MARIADB;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusals),
        cmocka_unit_test(tls),
        cmocka_unit_test(lost_answers),
        cmocka_unit_test(set_back),
        cmocka_unit_test(diverged),
        cmocka_unit_test(two_imports),
        cmocka_unit_test(not_to_be_filled),
        // The last: what needs PostgreSQL. MariaDB's plans are the driver's tests' (sql_driver.c).
        cmocka_unit_test(nobody_knows),
        cmocka_unit_test(wrong_again),
        cmocka_unit_test(poolers),
        cmocka_unit_test(plans),
    };
    cmocka_set_message_output(CM_OUTPUT_STDOUT);
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return _cmocka_run_group_tests(backend, tests, KL_COUNT(tests) - (kind != TS_POSTGRES ? 2 : 0),
                                   NULL, NULL);
}
