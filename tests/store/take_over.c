// SPDX-License-Identifier: Apache-2.0
// T25: a SQLite datastore of kine or K3s is taken over in place, and given back. The tables are
// made here as kine 0.17 makes them, with rows as a K3s server leaves them: creations, updates,
// deletions, keys that come back, filled gaps, leases, a compaction, K3s' bootstrap key.
#include "harness.h"
#include "kine_rows.h"
#include "store/transfer/kine.h"
#include <glob.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char kine_schema[] =
    "CREATE TABLE IF NOT EXISTS kine\n (\n id INTEGER PRIMARY KEY AUTOINCREMENT,\n name TEXT,\n"
    " created INTEGER,\n deleted INTEGER,\n create_revision INTEGER,\n prev_revision INTEGER,\n"
    " lease INTEGER,\n value BLOB,\n old_value BLOB\n );"
    "CREATE INDEX IF NOT EXISTS kine_name_index ON kine (name);"
    "CREATE INDEX IF NOT EXISTS kine_name_id_index ON kine (name,id);"
    "CREATE INDEX IF NOT EXISTS kine_id_deleted_index ON kine (id,deleted);"
    "CREATE INDEX IF NOT EXISTS kine_prev_revision_index ON kine (prev_revision);"
    "CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON kine (name, "
    "prev_revision);"
    "CREATE INDEX IF NOT EXISTS kine_id_compact_rev_key_with_prev_revision_index ON kine(id, name,"
    " prev_revision) WHERE name != 'compact_rev_key' AND prev_revision != 0;";

static char dir[64], path[96], url[128];

static void sql(sqlite3 *db, const char *text)
{
    char *why = NULL;
    if (sqlite3_exec(db, text, NULL, NULL, &why))
        fail_msg("%s: %s", text, why);
}

static sqlite3 *open_db(void)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    return db;
}

static int64_t number(sqlite3 *db, const char *text)
{
    sqlite3_stmt *st;
    if (sqlite3_prepare_v2(db, text, -1, &st, NULL))
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return n;
}

// As kine's Insert: the predecessor is the key's newest row, its value goes to old_value.
static int64_t write_key(sqlite3 *db, const char *name, const char *value, int lease)
{
    sqlite3_stmt *st;
    int64_t prev = 0, create = 0;
    bool deleted = true;
    assert_int_equal(sqlite3_prepare_v2(db,
                                        "SELECT id, deleted, CASE WHEN created THEN id ELSE "
                                        "create_revision END FROM kine WHERE name = ?1"
                                        " ORDER BY id DESC LIMIT 1",
                                        -1, &st, NULL),
                     SQLITE_OK);
    sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
    if (sqlite3_step(st) == SQLITE_ROW) {
        prev = sqlite3_column_int64(st, 0);
        deleted = sqlite3_column_int(st, 1) != 0;
        create = sqlite3_column_int64(st, 2);
    }
    sqlite3_finalize(st);
    assert_int_equal(sqlite3_prepare_v2(
                         db,
                         "INSERT INTO kine(name, created, deleted, create_revision, prev_revision,"
                         " lease, value, old_value) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7,"
                         " (SELECT value FROM kine WHERE id = ?5)",
                         -1, &st, NULL),
                     SQLITE_OK);
    sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int(st, 2, deleted && value);
    sqlite3_bind_int(st, 3, !value);
    sqlite3_bind_int64(st, 4, deleted ? 0 : create);
    sqlite3_bind_int64(st, 5, prev);
    sqlite3_bind_int(st, 6, lease);
    if (value)
        sqlite3_bind_blob(st, 7, value, (int)strlen(value), SQLITE_STATIC);
    assert_int_equal(sqlite3_step(st), SQLITE_DONE);
    sqlite3_finalize(st);
    return sqlite3_last_insert_rowid(db);
}

enum { KEYS = 300 };

static void write_row(void *db, const char *name, const char *value, int lease)
{
    write_key(db, name, value, lease);
}

static void write_gap(void *db)
{
    sql(db, "INSERT INTO kine(name, created, deleted, create_revision, prev_revision, lease, value)"
            " SELECT 'gap-' || (MAX(id) + 1), 0, 1, 0, 0, 0, NULL FROM kine");
}

static void make_kine(void)
{
    sqlite3 *db = open_db();
    sql(db, "PRAGMA journal_mode=WAL");
    sql(db, kine_schema);
    sql(db, "BEGIN");
    sql(db, "INSERT INTO kine(name, created, deleted, create_revision, prev_revision, lease, value)"
            " VALUES('compact_rev_key', 1, 0, 0, 0, 0, '')");
    kine_fill(&(struct kine_table){write_row, write_gap, db}, KEYS);
    // A compaction to 400, as kine does it.
    sql(db, "DELETE FROM kine WHERE id IN (SELECT prev_revision FROM kine WHERE name !="
            " 'compact_rev_key' AND prev_revision != 0 AND id <= 400 UNION ALL SELECT id FROM kine"
            " WHERE deleted != 0 AND id <= 400)");
    sql(db, "UPDATE kine SET prev_revision = 400 WHERE name = 'compact_rev_key'");
    sql(db, "COMMIT");
    sqlite3_close(db);
}

// What kine's own query lists: the newest row of each name that is not deleted.
static size_t list_kine(struct kine_row *ret, size_t cap)
{
    sqlite3 *db = open_db();
    sqlite3_stmt *st;
    size_t n = 0;
    assert_int_equal(sqlite3_prepare_v2(
                         db,
                         "SELECT name, value, id, CASE WHEN created THEN id ELSE create_revision "
                         "END, lease FROM kine WHERE id IN (SELECT MAX(id) FROM kine GROUP BY name)"
                         " AND deleted = 0 AND name <> 'compact_rev_key' ORDER BY name",
                         -1, &st, NULL),
                     SQLITE_OK);
    while (sqlite3_step(st) == SQLITE_ROW) {
        assert_true(n < cap);
        struct kine_row *w = &ret[n++];
        snprintf(w->name, sizeof(w->name), "%s", (const char *)sqlite3_column_text(st, 0));
        snprintf(w->value, sizeof(w->value), "%.*s", sqlite3_column_bytes(st, 1),
                 sqlite3_column_blob(st, 1) ? (const char *)sqlite3_column_blob(st, 1) : "");
        w->id = sqlite3_column_int64(st, 2);
        w->create = sqlite3_column_int64(st, 3);
        w->lease = sqlite3_column_int64(st, 4);
    }
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

static int setup(void **state)
{
    strcpy(dir, "/tmp/kl-kine-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/state.db", dir);
    snprintf(url, sizeof(url), "sqlite://%s", path);
    make_kine();
    return 0;
}

static int teardown(void **state)
{
    glob_t g;
    char pattern[80];
    snprintf(pattern, sizeof(pattern), "%s/*", dir);
    if (!glob(pattern, 0, NULL, &g)) {
        for (size_t i = 0; i < g.gl_pathc; i++)
            unlink(g.gl_pathv[i]);
        globfree(&g);
    }
    return rmdir(dir);
}

static struct kl_store *take_over(void)
{
    struct kl_store_options o = {.take_over = true};
    struct kl_store *s = NULL;
    struct kl_error err = {0};
    if (kl_store_open(url, &o, &s, &err))
        fail_msg("%s", err.msg);
    return s;
}

static void refused_without_the_flag(void **state)
{
    struct kl_store *s = NULL;
    struct kl_error err = {0};
    sqlite3 *db = open_db();
    int64_t rows = number(db, "SELECT COUNT(*) FROM kine");
    sqlite3_close(db);
    assert_int_equal(kl_store_open(url, NULL, &s, &err), KL_EUNSUPPORTED);
    assert_non_null(strstr(err.msg, "--take-over"));
    assert_non_null(strstr(err.msg, "/bootstrap/2e4b1d"));
    db = open_db();
    assert_int_equal(number(db, "SELECT COUNT(*) FROM kine"), rows);
    assert_int_equal(number(db, "SELECT COUNT(*) FROM sqlite_master WHERE name GLOB 'k[lv]_*'"), 0);
    sqlite3_close(db);
}

static void checks_all_records(void **state)
{
    sqlite3 *db = open_db();
    kine_old_tokens(&(struct kine_table){write_row, write_gap, db});
    sqlite3_close(db);
    kine_check_sees_all(url);
    db = open_db();
    assert_int_equal(number(db, "SELECT COUNT(*) FROM sqlite_master WHERE name GLOB 'k[lv]_*'"), 0);
    sqlite3_close(db);
}

static void taken_over(void **state)
{
    // A start that was killed while it made the copy.
    char half[128];
    snprintf(half, sizeof(half), "%s.before-take-over.tmp", path);
    FILE *f = fopen(half, "w");
    assert_true(f && fputs("half of a file", f) >= 0 && !fclose(f));
    static struct kine_row want[KEYS + 32];
    size_t n = list_kine(want, KL_COUNT(want));
    sqlite3 *db = open_db();
    int64_t rev = number(db, "SELECT MAX(id) FROM kine");
    sqlite3_close(db);
    struct kl_store *s = take_over();
    struct kl_store_status st;
    kl_store_status(s, &st);
    assert_int_equal(st.rev, rev);
    assert_int_equal(st.compact_rev, 400);
    assert_int_equal(st.leases, 2); // one for each time to live
    kine_same_keys(s, want, n);
    kl_store_stop(s);
    s = take_over(); // it is ours now
    kine_same_keys(s, want, n);
    kl_store_stop(s);
    // The file as it was lies beside it.
    glob_t g;
    char pattern[128];
    snprintf(pattern, sizeof(pattern), "%s.before-take-over-*", path);
    assert_int_equal(access(half, F_OK), -1);
    assert_int_equal(glob(pattern, 0, NULL, &g), 0);
    assert_int_equal(g.gl_pathc, 1);
    assert_int_equal(sqlite3_open(g.gl_pathv[0], &db), SQLITE_OK);
    assert_int_equal(number(db, "SELECT MAX(id) FROM kine"), rev);
    assert_int_equal(number(db, "SELECT COUNT(*) FROM sqlite_master WHERE name GLOB 'kine_*'"), 6);
    sqlite3_close(db);
    globfree(&g);
}

// A K3s that is started by mistake cannot write.
static void stray_kine(void **state)
{
    kl_store_stop(take_over());
    sqlite3 *db = open_db();
    assert_int_not_equal(sqlite3_exec(db,
                                      "INSERT INTO kine(name, created, deleted, create_revision,"
                                      " prev_revision, lease, value) VALUES('/a',1,0,0,0,0,'x')",
                                      NULL, NULL, NULL),
                         SQLITE_OK);
    sqlite3_close(db);
}

static struct hs_store hs;
static struct hs_client client;

static void work_on(struct kl_store *s)
{
    memset(&hs, 0, sizeof(hs));
    hs.backend = "sqlite";
    hs.s = s;
    hs_client_open(&client, &hs);
}

// The history after the compaction is there, each event with what was before it.
static void history(void **state)
{
    struct kl_store *s = take_over();
    struct hs_watch w = {0};
    work_on(s);
    assert_int_equal(hs_watch_start(&w, &client, "/registry/", "/registry0", 400), 0);
    kl_rev rev = hs_put(&client, "/registry/configmaps/default/cm-001", "after", -1);
    hs_watch_wait_rev(&w, rev);
    sqlite3 *db;
    glob_t g;
    char pattern[128];
    snprintf(pattern, sizeof(pattern), "%s.before-take-over-*", path);
    assert_int_equal(glob(pattern, 0, NULL, &g), 0);
    assert_int_equal(sqlite3_open(g.gl_pathv[0], &db), SQLITE_OK);
    globfree(&g);
    assert_int_equal(w.n - 1, number(db, "SELECT COUNT(*) FROM kine WHERE id >= 400 AND name GLOB"
                                         " '/registry/*'"));
    for (size_t i = 0; i + 1 < w.n; i++) {
        char q[256];
        snprintf(q, sizeof(q),
                 "SELECT COUNT(*) FROM kine WHERE id = %lld AND name = '%s' AND"
                 " deleted = %d",
                 (long long)w.ev[i].rev, w.ev[i].key, !w.ev[i].value);
        if (number(db, q) != 1)
            fail_msg("%s", q);
    }
    sqlite3_close(db);
    hs_watch_stop(&w);
    hs_watch_fini(&w);
    // A key that was deleted and comes back, one that goes, and compaction over all of it.
    assert_true(hs_put(&client, "/registry/configmaps/default/cm-015", "again", 0) > 0);
    assert_true(hs_del(&client, "/registry/configmaps/default/cm-003", -1) > 0);
    assert_int_equal(hs_compact(&client, hs_rev(&client)), 0);
    int64_t keys = hs_count(&client, "\x01", "\xff");
    hs_client_close(&client);
    kl_store_stop(s);
    db = open_db();
    // What the newest revision deleted is kept for its watchers.
    assert_int_equal(number(db, "SELECT COUNT(*) FROM kine WHERE deleted = 0"), keys);
    sqlite3_close(db);
}

static void given_back(void **state)
{
    static struct kine_row want[KEYS + 32], have[KEYS + 32];
    struct kl_error err = {0};
    struct kl_store *s = take_over();
    work_on(s);
    assert_true(hs_put(&client, "/registry/configmaps/default/cm-001", "ours", -1) > 0);
    assert_true(hs_put(&client, "/registry/new", "1", 0) > 0);
    assert_true(hs_del(&client, "/registry/new", -1) > 0);
    assert_true(hs_put(&client, "/registry/new", "2", 0) > 0);
    kl_rev rev = hs_rev(&client);
    struct kl_lease_req q = {.kind = KL_LEASE_GRANT, .id = 77, .ttl_s = 600};
    assert_int_equal(hs_lease(&client, &q), 0);
    assert_true(hs_put_lease(&client, "/registry/leased", "x", 77) > 0);
    rev = hs_rev(&client);
    hs_client_close(&client);
    assert_int_equal(kl_kine_give_back(url, NULL, &err), KL_EUNAVAILABLE); // it is held
    kl_store_stop(s);
    size_t n = list_kine(want, KL_COUNT(want));
    if (kl_kine_give_back(url, NULL, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(list_kine(have, KL_COUNT(have)), n);
    kine_same_rows(have, want, n);
    sqlite3 *db = open_db();
    assert_int_equal(number(db, "SELECT COUNT(*) FROM sqlite_master WHERE name GLOB 'kine_*'"), 6);
    assert_int_equal(number(db, "SELECT COUNT(*) FROM sqlite_master WHERE name GLOB 'k[lv]_*'"), 0);
    assert_int_equal(number(db, "SELECT COUNT(*) FROM pragma_table_info('kine')"), 9);
    assert_int_equal(number(db, "SELECT prev_revision FROM kine WHERE name = 'compact_rev_key'"),
                     400);
    assert_int_equal(number(db, "SELECT lease FROM kine WHERE name = '/registry/leased'"), 600);
    assert_int_equal(
        number(db, "SELECT lease FROM kine WHERE name = '/registry/events/default/e1'"), 3600);
    // Every row's predecessor is the one before it, and its value is kept with it.
    assert_int_equal(number(db, "SELECT COUNT(*) FROM kine k WHERE name <> 'compact_rev_key' AND"
                                " prev_revision <> COALESCE((SELECT MAX(id) FROM kine p WHERE"
                                " p.name = k.name AND p.id < k.id), 0)"),
                     0);
    assert_int_equal(number(db,
                            "SELECT COUNT(*) FROM kine k JOIN kine p ON p.id = k.prev_revision"
                            " WHERE k.old_value IS NOT p.value AND k.name <> 'compact_rev_key'"),
                     0);
    // The next insert takes the next number.
    assert_int_equal(write_key(db, "/registry/kine", "x", 0), rev + 1);
    sqlite3_close(db);
    // And over again.
    s = take_over();
    struct kl_store_status st;
    kl_store_status(s, &st);
    assert_int_equal(st.rev, rev + 1);
    kl_store_stop(s);
}

// A store that was ours from the beginning becomes kine's as well.
static void ours_to_kine(void **state)
{
    struct kl_error err = {0};
    static struct kine_row have[64];
    teardown(NULL);
    strcpy(dir, "/tmp/kl-kine-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/state.db", dir);
    snprintf(url, sizeof(url), "sqlite://%s", path);
    struct kl_store *s = NULL;
    assert_int_equal(kl_store_open(url, NULL, &s, &err), 0);
    work_on(s);
    for (int i = 0; i < 3; i++) {
        assert_true(hs_put(&client, "/a", "1", -1) > 0);
        assert_true(hs_put(&client, "/b", "2", -1) > 0);
        assert_true(hs_del(&client, "/a", -1) > 0);
    }
    hs_client_close(&client);
    kl_store_stop(s);
    if (kl_kine_give_back(url, NULL, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(list_kine(have, KL_COUNT(have)), 1);
    assert_int_equal(have[0].id, 9);
    assert_int_equal(have[0].create, 3);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(refused_without_the_flag),
                                       TEST(checks_all_records),
                                       TEST(taken_over),
                                       TEST(stray_kine),
                                       TEST(history),
                                       TEST(given_back),
                                       TEST(ours_to_kine)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
