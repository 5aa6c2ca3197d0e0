// SPDX-License-Identifier: Apache-2.0
// T25 on servers: kine's table in PostgreSQL or MariaDB is taken over in place, and given back. The
// table is made as kine 0.17 makes it, by the user that kine has, with rows as a K3s server leaves
// them. Arguments: postgres or mysql.
#include "harness.h"
#include "kine_rows.h"
#include "servers.h"
#include "store/sql/driver.h"
#include "store/transfer/kine.h"
#include "store/transfer/snapshot.h"
#include "base/buf.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { KEYS = 120, WAIT_MS = 300 };

static bool is_pg;
static struct ts_server *server;
static const struct kl_sql_driver *driver;
static char db[32], url[256], dir[64];
static struct kl_sql_conn *conn; // as user kine

static const char *const pg_schema[] = {
    "CREATE TABLE IF NOT EXISTS kine (id BIGSERIAL PRIMARY KEY, name text COLLATE \"C\", created "
    "INTEGER, deleted INTEGER, create_revision BIGINT, prev_revision BIGINT, lease INTEGER, value "
    "bytea, old_value bytea)",
    "CREATE INDEX IF NOT EXISTS kine_name_index ON kine (name)",
    "CREATE INDEX IF NOT EXISTS kine_name_id_index ON kine (name,id)",
    "CREATE INDEX IF NOT EXISTS kine_id_deleted_index ON kine (id,deleted)",
    "CREATE INDEX IF NOT EXISTS kine_prev_revision_index ON kine (prev_revision)",
    "CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON kine (name, "
    "prev_revision)",
    "CREATE INDEX IF NOT EXISTS kine_list_query_index on kine(name, id DESC, deleted)",
    NULL};
static const char *const my_schema[] = {
    "CREATE TABLE IF NOT EXISTS kine (id BIGINT UNSIGNED AUTO_INCREMENT, name VARCHAR(630) "
    "CHARACTER SET ascii, created INTEGER, deleted INTEGER, create_revision BIGINT UNSIGNED, "
    "prev_revision BIGINT UNSIGNED, lease INTEGER, value MEDIUMBLOB, old_value MEDIUMBLOB, PRIMARY "
    "KEY (id))",
    "CREATE INDEX kine_name_index ON kine (name)",
    "CREATE INDEX kine_name_id_index ON kine (name,id)",
    "CREATE INDEX kine_id_deleted_index ON kine (id,deleted)",
    "CREATE INDEX kine_prev_revision_index ON kine (prev_revision)",
    "CREATE UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision)",
    NULL};

// ---- SQL as user kine ----

static void sql(const char *text)
{
    struct kl_error err = {0};
    if (driver->run(conn, kl_str(text), NULL, &err))
        fail_msg("%s: %s", text, err.msg);
}

static int64_t number(const char *text)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    struct kl_error err = {0};
    int64_t n = 0;
    if (driver->look(conn, kl_str(text), &err))
        fail_msg("%s: %s", text, err.msg);
    int r = driver->fetch(conn, v, &err);
    if (r < 0)
        fail_msg("%s: %s", text, err.msg);
    if (r == 1 && v[0].type == KL_SQL_INT)
        n = v[0].i;
    else if (r == 1 && v[0].type == KL_SQL_BYTES)
        kl_str_to_i64(v[0].s, &n);
    driver->finish(conn);
    return n;
}

// As PostgreSQL is set up mostly; with the tests' locale it would be SQL_ASCII.
static void make_database(void)
{
    char q[160];
    snprintf(q, sizeof(q), "CREATE DATABASE %s OWNER kine ENCODING 'UTF8' TEMPLATE template0", db);
    if (is_pg)
        ts_sql(server, "postgres", q, NULL, 0);
}

static void connect_kine(void)
{
    struct kl_store_options none = {0};
    struct kl_endpoint ep;
    struct kl_error err = {0};
    char rest[256];
    snprintf(rest, sizeof(rest), "%s", strstr(url, "://") + 3);
    assert_int_equal(kl_endpoint_parse(driver->kind, kl_str(rest), &none, &ep, &err), 0);
    int r = driver->connect(&ep, 60000, &conn, &err);
    if (r == KL_ENOTFOUND) {
        r = driver->create_database(&ep, &err);
        r = r ? r : driver->connect(&ep, 60000, &conn, &err);
    }
    if (r)
        fail_msg("%s", err.msg);
    kl_endpoint_fini(&ep);
}

// As kine's Insert: the predecessor is the key's newest row, its value goes to old_value.
static int64_t write_key(const char *name, const char *value, int lease)
{
    char q[1024];
    snprintf(q, sizeof(q), "SELECT COALESCE(MAX(id),0) FROM kine WHERE name='%s'", name);
    long long prev = (long long)number(q), create = 0;
    bool deleted = true;
    if (prev) {
        snprintf(q, sizeof(q), "SELECT deleted FROM kine WHERE id=%lld", prev);
        deleted = number(q) != 0;
        snprintf(q, sizeof(q),
                 "SELECT CASE WHEN created<>0 THEN id ELSE create_revision END FROM kine WHERE "
                 "id=%lld",
                 prev);
        create = (long long)number(q);
    }
    char literal[256];
    snprintf(literal, sizeof(literal), value ? "'%s'" : "NULL", value);
    snprintf(q, sizeof(q),
             "INSERT INTO kine(name,created,deleted,create_revision,prev_revision,lease,value,"
             "old_value) SELECT '%s',%d,%d,%lld,%lld,%d,%s,(SELECT value FROM kine WHERE id=%lld)",
             name, deleted && value, !value, deleted ? 0 : create, prev, lease, literal, prev);
    sql(q);
    return number("SELECT MAX(id) FROM kine");
}

static void write_row(void *arg, const char *name, const char *value, int lease)
{
    write_key(name, value, lease);
}

static void write_gap(void *arg)
{
    char q[256];
    snprintf(q, sizeof(q),
             "INSERT INTO kine(name,created,deleted,create_revision,prev_revision,lease,value)"
             " VALUES('gap-%lld',0,1,0,0,0,NULL)",
             (long long)number("SELECT MAX(id) FROM kine") + 1);
    sql(q);
}

static void make_kine(void)
{
    for (const char *const *p = is_pg ? pg_schema : my_schema; *p; p++)
        sql(*p);
    sql("BEGIN");
    sql("INSERT INTO kine(name,created,deleted,create_revision,prev_revision,lease,value)"
        " VALUES('compact_rev_key',1,0,0,0,0,'')");
    kine_fill(&(struct kine_table){write_row, write_gap, NULL}, KEYS);
    // A compaction to 150, as kine does it.
    sql(is_pg ? "DELETE FROM kine AS kv USING (SELECT kp.prev_revision AS id FROM kine AS kp WHERE"
                " kp.name != 'compact_rev_key' AND kp.prev_revision != 0 AND kp.id <= 150 UNION ALL"
                " SELECT kd.id AS id FROM kine AS kd WHERE kd.deleted != 0 AND kd.id <= 150) AS ks"
                " WHERE kv.id = ks.id"
              : "DELETE kv FROM kine AS kv INNER JOIN (SELECT kp.prev_revision AS id FROM kine AS"
                " kp WHERE kp.name != 'compact_rev_key' AND kp.prev_revision != 0 AND kp.id <= 150"
                " UNION ALL SELECT kd.id AS id FROM kine AS kd WHERE kd.deleted != 0 AND kd.id <="
                " 150) AS ks ON kv.id = ks.id");
    sql("UPDATE kine SET prev_revision = 150 WHERE name = 'compact_rev_key'");
    sql("COMMIT");
}

static struct kine_row want[KEYS + 32], have[KEYS + 32];

// What kine's own query lists: the newest row of each name that is not deleted.
static size_t list_kine(struct kine_row *ret)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    struct kl_error err = {0};
    size_t n = 0;
    int r = driver->look(
        conn,
        KL_STR("SELECT name, value, id, CASE WHEN created <> 0 THEN id ELSE create_revision END,"
               " lease FROM kine WHERE id IN (SELECT MAX(id) FROM kine GROUP BY name) AND deleted ="
               " 0 AND name <> 'compact_rev_key' ORDER BY name"),
        &err);
    while (!r && (r = driver->fetch(conn, v, &err)) == 1) {
        assert_true(n < KL_COUNT(want));
        struct kine_row *w = &ret[n++];
        struct kl_str value = v[1].type == KL_SQL_BYTES ? v[1].s : KL_STR("");
        snprintf(w->name, sizeof(w->name), "%.*s", KL_PRI(v[0].s));
        snprintf(w->value, sizeof(w->value), "%.*s", KL_PRI(value));
        w->id = v[2].i;
        w->create = v[3].i;
        w->lease = v[4].i;
        r = 0;
    }
    driver->finish(conn);
    if (r)
        fail_msg("%s", err.msg);
    return n;
}

static int setup(void **state)
{
    strcpy(dir, "/tmp/kl-kine-XXXXXX");
    assert_non_null(mkdtemp(dir));
    ts_url(server, ts_fresh(server, db), is_pg ? "sslmode=disable" : NULL, url, sizeof(url));
    make_database();
    connect_kine();
    make_kine();
    return 0;
}

static int teardown(void **state)
{
    driver->close(conn);
    hs_remove(dir);
    return 0;
}

static int open_store(struct kl_store **ret, struct kl_error *err, int64_t wait_ms)
{
    struct kl_store_options o = {
        .take_over = true, .take_over_dir = dir, .take_over_wait_ms = wait_ms};
    return kl_store_open(url, &o, ret, err);
}

static struct kl_store *take_over(void)
{
    struct kl_store *s = NULL;
    struct kl_error err = {0};
    if (open_store(&s, &err, WAIT_MS))
        fail_msg("%s", err.msg);
    return s;
}

#define COLUMNS                                                                                    \
    "SELECT COUNT(*) FROM information_schema.columns WHERE table_name = 'kine' AND table_schema ="
#define TABLES                                                                                     \
    "SELECT COUNT(*) FROM information_schema.tables WHERE table_name LIKE 'kv%%' AND "             \
    "table_schema ="

static int64_t count_schema(const char *text)
{
    char q[512];
    snprintf(q, sizeof(q), "%s %s", text, is_pg ? "current_schema()" : "DATABASE()");
    return number(q);
}

// Names and columns, in an order of their own; the table's DDL must be kine's.
static void index_list(char *ret, size_t cap)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    struct kl_error err = {0};
    struct kl_buf b;
    kl_buf_init(&b, 8192);
    assert_int_equal(
        driver->look(conn,
                     kl_str(is_pg ? "SELECT indexdef FROM pg_indexes WHERE tablename = 'kine' ORDER"
                                    " BY indexname"
                                  : "SELECT CONCAT(index_name, ' ', seq_in_index, ' ', column_name,"
                                    " ' ', non_unique) FROM information_schema.STATISTICS WHERE"
                                    " table_schema = DATABASE() AND table_name = 'kine'"
                                    " ORDER BY index_name, seq_in_index"),
                     &err),
        0);
    while (driver->fetch(conn, v, &err) == 1) {
        kl_buf_puts(&b, v[0].s);
        kl_buf_putc(&b, '\n');
    }
    driver->finish(conn);
    assert_true(b.n > 100 && b.n < cap);
    snprintf(ret, cap, "%.*s", (int)b.n, b.p);
    kl_buf_fini(&b);
}

// ---- tests ----

static void refused_without_the_flag(void **state)
{
    struct kl_store *s = NULL;
    struct kl_error err = {0};
    int64_t rows = number("SELECT COUNT(*) FROM kine");
    assert_int_equal(kl_store_open(url, NULL, &s, &err), KL_EUNSUPPORTED);
    assert_non_null(strstr(err.msg, "--take-over"));
    assert_non_null(strstr(err.msg, "/bootstrap/2e4b1d"));
    assert_non_null(strstr(err.msg, "3 keys with a lease"));
    assert_int_equal(strstr(err.msg, "locked meanwhile") != NULL, !is_pg);
    assert_int_equal(number("SELECT COUNT(*) FROM kine"), rows);
    assert_int_equal(count_schema(COLUMNS), 9);
    assert_int_equal(count_schema(TABLES), 0);
}

static void checks_all_records(void **state)
{
    kine_old_tokens(&(struct kine_table){write_row, write_gap, NULL});
    kine_check_sees_all(url);
    assert_int_equal(count_schema(TABLES), 0);
}

// As one who renews, until it is told to stop.
static void *write_on(void *arg)
{
    const struct timespec t = {0, 400000000};
    const atomic_bool *stop = arg;
    do {
        nanosleep(&t, NULL);
        write_key("/registry/leases/kube-system/k3s", "renewed", 0);
    } while (!atomic_load(stop));
    return NULL;
}

static void refused_while_it_is_written(void **state)
{
    struct kl_store *s = NULL;
    struct kl_error err = {0};
    atomic_bool stop = false;
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, write_on, &stop), 0);
    int r = open_store(&s, &err, 240000);
    atomic_store(&stop, true);
    pthread_join(t, NULL);
    assert_int_equal(r, KL_ECONFLICT);
    assert_non_null(strstr(err.msg, "is still written by kine or K3s"));
    assert_int_equal(count_schema(COLUMNS), 9);
    assert_int_equal(count_schema(TABLES), 0);
}

static void check_snapshot(size_t n, kl_rev rev)
{
    struct kl_snapshot_info *all;
    struct kl_source *src;
    struct kl_record rec;
    struct kl_error err = {0};
    size_t files = 0, rows = 0, leases = 0;
    char path[512];
    assert_int_equal(kl_snapshot_list(dir, &all, &files, &err), 0);
    assert_int_equal(files, 1);
    assert_int_equal(all[0].rev, rev);
    assert_int_equal(all[0].keys, n);
    snprintf(path, sizeof(path), "%s/%s", dir, all[0].name);
    free(all);
    assert_int_equal(kl_snapshot_read(path, &src, &err), 0);
    while (!src->next(src, &rec, &err)) {
        leases += rec.kind == KL_RECORD_LEASE;
        if (rec.kind != KL_RECORD_ROW)
            continue;
        size_t i = 0;
        while (i < n && !kl_str_eqz(rec.row.key, want[i].name))
            i++;
        assert_true(i < n);
        assert_int_equal(rec.row.id, want[i].id);
        assert_int_equal(rec.row.create_rev, want[i].create);
        assert_int_equal(rec.row.lease, want[i].lease);
        assert_true(kl_str_eqz(rec.row.value, want[i].value));
        assert_true((rec.row.version == 1) == (want[i].create == want[i].id));
        rows++;
    }
    assert_int_equal(rec.kind, KL_RECORD_END);
    src->close(src);
    assert_int_equal(rows, n);
    assert_int_equal(leases, 2);
}

static void taken_over(void **state)
{
    size_t n = list_kine(want);
    int64_t rev = number("SELECT MAX(id) FROM kine");
    struct kl_store *s = take_over();
    struct kl_store_status st;
    kl_store_status(s, &st);
    assert_int_equal(st.rev, rev);
    assert_int_equal(st.compact_rev, 150);
    assert_int_equal(st.leases, 2); // one for each time to live
    kine_same_keys(s, want, n);
    kl_store_stop(s);
    check_snapshot(n, rev);
    s = take_over(); // it is ours now
    kine_same_keys(s, want, n);
    kl_store_stop(s);
    assert_int_equal(number("SELECT COUNT(*) FROM kine WHERE old_value IS NOT NULL"), 0);
    assert_int_equal(number("SELECT COUNT(*) FROM kine WHERE name LIKE 'gap-%'"), 0);
}

// A K3s that is started by mistake cannot write, nor compact.
static void stray_kine(void **state)
{
    static const char *const writes[] = {
        "INSERT INTO kine(name,created,deleted,create_revision,prev_revision,lease,value)"
        " VALUES('/a',1,0,0,0,0,'x')",
        "DELETE FROM kine WHERE id > 0"};
    struct kl_error err = {0};
    kl_store_stop(take_over());
    sql(is_pg ? "RESET kinglet.writer" : "SET @kinglet_writer = NULL");
    for (size_t i = 0; i < KL_COUNT(writes); i++) {
        assert_int_not_equal(driver->run(conn, kl_str(writes[i]), NULL, &err), 0);
        assert_non_null(strstr(err.msg, "this datastore is kinglet's"));
    }
}

static struct hs_store hs;
static struct hs_client client;

static void work_on(struct kl_store *s)
{
    memset(&hs, 0, sizeof(hs));
    hs.backend = is_pg ? "postgres" : "mysql";
    hs.s = s;
    hs_client_open(&client, &hs);
}

static kl_rev put(struct kl_str key)
{
    return hs_put_bytes(&client, key, KL_STR("odd"), -1);
}

static int64_t count_at(kl_rev rev, struct kl_str key, struct kl_str end)
{
    struct kl_range_at q = {.key = key, .end = end, .rev = rev, .want_count = true};
    assert_int_equal(hs_range_at(&client, &q), 0);
    int64_t n = (int64_t)q.nkvs;
    assert_int_equal(n, q.count);
    kl_range_at_fini(&q);
    return n;
}

// The column stays text: what it cannot hold is refused before it is in a batch, and a range may
// still begin or end anywhere.
static void odd_keys(void **state)
{
    char key[2049];
    size_t max = is_pg ? 2048 : 630;
    bool bytes = ts_is_mysql(server); // its column becomes one of bytes, which holds any
    struct kl_store *s = take_over();
    work_on(s);
    memset(key, 'k', sizeof(key));
    kl_rev before = hs_rev(&client);
    assert_int_equal(put((struct kl_str){key, max + 1}), KL_ETOOLARGE);
    assert_true(bytes || put(KL_STR("/odd/\xff")) == KL_EBADREQUEST);
    assert_true(bytes || put(KL_STR("/odd/\xc3")) == KL_EBADREQUEST);
    assert_int_equal(hs_rev(&client), before);
    assert_true(put((struct kl_str){key, max}) > 0);
    if (is_pg) {
        assert_int_equal(put(KL_STR("/odd/\0nul")), KL_EBADREQUEST);
        assert_true(put(KL_STR("/odd/\xc3\xa4")) > 0);
    } else {
        assert_true(put(KL_STR("/odd/\0nul")) > 0);
        assert_true(bytes || put(KL_STR("/odd/\xc3\xa4")) == KL_EBADREQUEST);
    }
    // Letters and spaces at the end count.
    assert_true(hs_put(&client, "/odd/Foo", "1", 0) > 0);
    assert_true(hs_put(&client, "/odd/foo", "2", 0) > 0);
    assert_true(hs_put(&client, "/odd/foo ", "3", 0) > 0);
    kl_rev rev = hs_put(&client, "/odd/'\\", "4", 0);
    assert_true(hs_del(&client, "/odd/foo", -1) > 0);
    for (int round = 0; round < 2; round++) { // by history, then by what is stored
        assert_int_equal(count_at(rev, KL_STR("/odd/"), KL_STR("/odd0")), 5);
        assert_int_equal(count_at(rev, KL_STR("/odd/"), KL_STR("/odd\xff")), 5);
        int64_t kine = count_at(rev, KL_STR("/registry/"), KL_STR("/registry0"));
        assert_true(kine > 100);
        assert_int_equal(count_at(rev, KL_STR("/odd/"), KL_STR("\xff\xff")), kine + 6);
        assert_int_equal(count_at(rev, KL_STR("/odd/foo\0"), KL_STR("/odd/foo\0")), 0);
        assert_int_equal(count_at(rev, KL_STR("/odd/foo\0"), KL_STR("/odd/g")), 1);
        assert_int_equal(count_at(rev, KL_STR("/odd/foo\xc3"), KL_STR("/odd/g\x80")), 0);
        assert_int_equal(count_at(rev, KL_STR("\xff"), KL_STR("\0")), 0);
        assert_int_equal(count_at(rev, KL_STR("/odd/\xff"), KL_STR("")), 0);
        assert_int_equal(count_at(rev, KL_STR("/odd/foo"), KL_STR("")), 1);
        hs_client_close(&client);
        kl_store_stop(s);
        s = take_over();
        work_on(s);
    }
    assert_int_equal(hs_count(&client, "/odd/", "/odd0"), 4);
    hs_client_close(&client);
    kl_store_stop(s);
}

// The history after the compaction is there; then ours compacts over all of it.
static void history(void **state)
{
    int64_t events =
        number("SELECT COUNT(*) FROM kine WHERE id >= 150 AND name LIKE '/registry/%'");
    struct kl_store *s = take_over();
    struct hs_watch w = {0};
    work_on(s);
    assert_int_equal(hs_watch_start(&w, &client, "/registry/", "/registry0", 150), 0);
    kl_rev rev = hs_put(&client, "/registry/configmaps/default/cm-001", "after", -1);
    hs_watch_wait_rev(&w, rev);
    assert_int_equal(w.n - 1, events);
    for (size_t i = 0; i + 1 < w.n; i++) {
        char q[256];
        snprintf(q, sizeof(q),
                 "SELECT COUNT(*) FROM kine WHERE id = %lld AND name = '%s' AND deleted = %d",
                 (long long)w.ev[i].rev, w.ev[i].key, !w.ev[i].value);
        if (number(q) != 1)
            fail_msg("%s", q);
    }
    hs_watch_stop(&w);
    hs_watch_fini(&w);
    assert_true(hs_put(&client, "/registry/configmaps/default/cm-015", "again", 0) > 0);
    assert_true(hs_del(&client, "/registry/configmaps/default/cm-003", -1) > 0);
    assert_int_equal(hs_compact(&client, hs_rev(&client)), 0);
    int64_t keys = hs_count(&client, "\x01", "\xff");
    hs_client_close(&client);
    kl_store_stop(s);
    assert_int_equal(number("SELECT COUNT(*) FROM kine WHERE deleted = 0"), keys);
}

static void given_back(void **state)
{
    char was[4096], is[4096];
    struct kl_error err = {0};
    index_list(was, sizeof(was));
    struct kl_store *s = take_over();
    work_on(s);
    assert_true(hs_put(&client, "/registry/configmaps/default/cm-001", "ours", -1) > 0);
    assert_true(hs_put(&client, "/registry/new", "1", 0) > 0);
    assert_true(hs_del(&client, "/registry/new", -1) > 0);
    assert_true(hs_put(&client, "/registry/new", "2", 0) > 0);
    struct kl_lease_req q = {.kind = KL_LEASE_GRANT, .id = 77, .ttl_s = 600};
    assert_int_equal(hs_lease(&client, &q), 0);
    assert_true(hs_put_lease(&client, "/registry/leased", "x", 77) > 0);
    kl_rev rev = hs_rev(&client);
    // A server has its row in kv_peer from its first heartbeat on.
    while (!number("SELECT COUNT(*) FROM kv_peer"))
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    assert_int_equal(kl_kine_give_back(url, NULL, &err), KL_EUNAVAILABLE);
    hs_client_close(&client);
    kl_store_stop(s);
    size_t n = list_kine(want);
    if (kl_kine_give_back(url, NULL, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(list_kine(have), n);
    kine_same_rows(have, want, n);
    index_list(is, sizeof(is));
    assert_string_equal(is, was);
    assert_int_equal(count_schema(COLUMNS), 9);
    assert_int_equal(count_schema(TABLES), 0);
    assert_int_equal(number("SELECT prev_revision FROM kine WHERE name = 'compact_rev_key'"), 150);
    assert_int_equal(number("SELECT lease FROM kine WHERE name = '/registry/leased'"), 600);
    assert_int_equal(number("SELECT lease FROM kine WHERE name = '/registry/events/default/e1'"),
                     3600);
    // Every row's predecessor is the one before it, and its value is kept with it.
    assert_int_equal(number("SELECT COUNT(*) FROM kine k WHERE name <> 'compact_rev_key' AND"
                            " prev_revision <> COALESCE((SELECT MAX(id) FROM kine p WHERE"
                            " p.name = k.name AND p.id < k.id), 0)"),
                     0);
    assert_int_equal(number("SELECT COUNT(*) FROM kine k JOIN kine p ON p.id = k.prev_revision"
                            " WHERE k.name <> 'compact_rev_key' AND p.value IS NOT NULL AND"
                            " (k.old_value IS NULL OR k.old_value <> p.value)"),
                     0);
    // A stray kine may write again, and the next insert takes the next number.
    sql(is_pg ? "RESET kinglet.writer" : "SET @kinglet_writer = NULL");
    assert_int_equal(write_key("/registry/kine", "x", 0), rev + 1);
    s = take_over(); // and over again
    struct kl_store_status st;
    kl_store_status(s, &st);
    assert_int_equal(st.rev, rev + 1);
    kl_store_stop(s);
}

// A database that was ours from the beginning becomes kine's as well, unless a key is in the way.
static void ours_to_kine(void **state)
{
    struct kl_error err = {0};
    driver->close(conn);
    ts_url(server, ts_fresh(server, db), is_pg ? "sslmode=disable" : NULL, url, sizeof(url));
    make_database();
    struct kl_store *s = NULL;
    assert_int_equal(kl_store_open(url, NULL, &s, &err), 0);
    work_on(s);
    for (int i = 0; i < 3; i++) {
        assert_true(hs_put(&client, "/a", "1", -1) > 0);
        assert_true(hs_put(&client, "/b", "2", -1) > 0);
        assert_true(hs_del(&client, "/a", -1) > 0);
    }
    assert_true(put(KL_STR("/c\xff")) > 0);
    hs_client_close(&client);
    kl_store_stop(s);
    connect_kine();
    assert_int_equal(kl_kine_give_back(url, NULL, &err), KL_EINVALID);
    assert_int_equal(count_schema(COLUMNS), 12);
    s = NULL;
    assert_int_equal(kl_store_open(url, NULL, &s, &err), 0); // as if nothing had been
    work_on(s);
    struct kl_op op = {.kind = KL_OP_DELETE, .key = KL_STR("/c\xff")};
    struct kl_txn txn = {.body = {.then = &op, .nthen = 1}};
    assert_int_equal(hs_txn(&client, &txn), 0);
    kl_txn_fini(&txn);
    kl_rev rev = hs_rev(&client);
    assert_int_equal(hs_compact(&client, rev), 0);
    assert_true(hs_put(&client, "/d", "4", -1) > 0);
    assert_int_equal(hs_compact(&client, rev + 1), 0);
    hs_client_close(&client);
    kl_store_stop(s);
    if (kl_kine_give_back(url, NULL, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(list_kine(have), 2);
    assert_string_equal(have[0].name, "/b");
    assert_int_equal(have[0].create, 3);
    assert_int_equal(have[1].id, rev + 1);
    assert_int_equal(write_key("/e", "5", 0), rev + 2);
}

// Two servers start at once; and on MariaDB, where a definition is a transaction of its own, a
// take-over and a way back that were cut go on.
static void *open_other(void *arg)
{
    struct kl_error err = {0};
    struct kl_store *s = NULL;
    if (open_store(&s, &err, WAIT_MS))
        fail_msg("%s", err.msg);
    return s;
}

static void two_at_once(void **state)
{
    size_t n = list_kine(want);
    pthread_t t;
    void *other;
    assert_int_equal(pthread_create(&t, NULL, open_other, NULL), 0);
    struct kl_store *s = take_over();
    pthread_join(t, &other);
    struct kl_store_status a, b;
    kl_store_status(s, &a);
    kl_store_status(other, &b);
    assert_int_equal(a.cluster_id, b.cluster_id);
    kine_same_keys(s, want, n);
    kine_same_keys(other, want, n);
    kl_store_stop(s);
    kl_store_stop(other);
}

static void cut(void **state)
{
    struct kl_error err = {0};
    struct kl_store *s = NULL;
    if (is_pg)
        return;
    size_t n = list_kine(want);
    // After its first steps.
    sql("CREATE TRIGGER kl_fence BEFORE INSERT ON kine FOR EACH ROW SET @kl_seen = 1");
    sql("ALTER TABLE kine ADD COLUMN version BIGINT, DROP INDEX kine_name_id_index");
    sql("CREATE TABLE kv_lease(id BIGINT NOT NULL PRIMARY KEY, ttl_ms BIGINT NOT NULL, deadline_ms "
        "BIGINT NOT NULL)");
    s = take_over();
    kine_same_keys(s, want, n);
    kl_store_stop(s);
    // Before its last one.
    sql("RENAME TABLE kv_meta TO kv_meta_new");
    s = take_over();
    kine_same_keys(s, want, n);
    kl_store_stop(s);
    // The way back, after its first step.
    sql("RENAME TABLE kv_meta TO kv_meta_kine");
    assert_int_equal(open_store(&s, &err, WAIT_MS), KL_EUNAVAILABLE);
    assert_non_null(strstr(err.msg, "--to-kine"));
    if (kl_kine_give_back(url, NULL, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(list_kine(have), n);
    assert_int_equal(count_schema(COLUMNS), 9);
    assert_int_equal(count_schema(TABLES), 0);
    assert_int_equal(number("SELECT prev_revision FROM kine WHERE name = 'compact_rev_key'"), 150);
}

int main(int argc, char **argv)
{
    is_pg = argc < 2 || !strcmp(argv[1], "postgres");
    driver = is_pg ? &kl_sql_postgres : &kl_sql_mysql;
    server = ts_shared(is_pg ? TS_POSTGRES : TS_MARIADB);
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(refused_without_the_flag),
                                       TEST(checks_all_records),
                                       TEST(refused_while_it_is_written),
                                       TEST(taken_over),
                                       TEST(stray_kine),
                                       TEST(odd_keys),
                                       TEST(history),
                                       TEST(given_back),
                                       TEST(ours_to_kine),
                                       TEST(two_at_once),
                                       TEST(cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
