// SPDX-License-Identifier: Apache-2.0
// Opening what cannot be opened: one sentence that names the cause. And the plans of the queries.
#include "store/store.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64], path[96], url[128];

static int setup(void **state)
{
    strcpy(dir, access("/dev/shm", W_OK) ? "/tmp/kl-open-XXXXXX" : "/dev/shm/kl-open-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/sub/state.db", dir);
    snprintf(url, sizeof(url), "sqlite://%s", path);
    return 0;
}

static int teardown(void **state)
{
    char p[160];
    static const char *const ends[] = {"", "-wal", "-journal", "-reserve"};
    for (size_t i = 0; i < KL_COUNT(ends); i++) {
        snprintf(p, sizeof(p), "%s%s", path, ends[i]);
        unlink(p);
    }
    snprintf(p, sizeof(p), "%s/sub", dir);
    rmdir(p);
    return rmdir(dir);
}

static void refused(const char *u, int code, const char *say)
{
    struct kl_store *s = NULL;
    struct kl_error err = {0};
    assert_int_equal(kl_store_open(u, NULL, &s, &err), code);
    if (!strstr(err.msg, say))
        fail_msg("'%s' does not say '%s'", err.msg, say);
}

static void make(void)
{
    struct kl_store *s;
    struct kl_error err;
    if (kl_store_open(url, NULL, &s, &err))
        fail_msg("%s", err.msg);
    kl_store_stop(s);
}

static void sql(const char *text)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void wrong_urls(void **state)
{
    refused("bogus://u:secret@x", KL_EUNSUPPORTED,
            "datastore bogus://: no such kind of datastore; "
            "there are sqlite://, ");
    refused("nonsense", KL_EUNSUPPORTED, "does not begin with the kind of datastore; there are");
    refused("sqlite://", KL_EINVALID, "a path is needed");
    refused("sqlite:///proc/kl/state.db", KL_ENOTFOUND, "/proc/kl");
    refused("sqlite:///tmp", KL_EINVALID, "/tmp");
}

static void made_private(void **state)
{
    struct stat st;
    make();
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    char wal[128];
    snprintf(wal, sizeof(wal), "%s-wal", path);
    assert_int_equal(access(wal, F_OK), -1);          // closed cleanly
    snprintf(url + strlen(url), 16, "?_journal=WAL"); // K3s' spelling
    make();
}

static void held_by_another(void **state)
{
    int fd[2], status;
    char c;
    assert_int_equal(pipe(fd), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct kl_store *s;
        if (kl_store_open(url, NULL, &s, NULL) || write(fd[1], "x", 1) != 1)
            _exit(1);
        pause();
    }
    assert_int_equal(read(fd[0], &c, 1), 1);
    refused(url, KL_EUNAVAILABLE, "is in use by another process");
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    close(fd[0]);
    close(fd[1]);
    make();
}

static void other_contents(void **state)
{
    make();
    sql("UPDATE kv_meta SET format_min = 99");
    refused(url, KL_EUNSUPPORTED, "has format 99");
    sql("DROP TABLE kv_meta");
    refused(url, KL_EUNSUPPORTED, "written by kine or K3s");
    sql("DROP TABLE kine");
    refused(url, KL_EUNSUPPORTED, "of something else");
    int fd = open(path, O_WRONLY | O_TRUNC);
    char junk[4096];
    memset(junk, 'j', sizeof(junk));
    assert_int_equal(write(fd, junk, sizeof(junk)), sizeof(junk));
    close(fd);
    refused(url, KL_ECORRUPT, "not a database");
}

// No query of the steady state, of loading or of compaction sorts or scans the table.
static void query_plans(void **state)
{
    static const char *const queries[] = {
        "SELECT MAX(id), name, deleted, create_revision, version, lease_id, txn_rev, COUNT(*)"
        " FROM kv_name GROUP BY name ORDER BY name",
        "SELECT name, id, deleted FROM kv_name WHERE name = ?1 AND id < ?2 ORDER BY id DESC",
        "SELECT name, id, deleted FROM kv_name WHERE name > ?1 ORDER BY name, id DESC",
        "SELECT name, id, deleted FROM kv_name ORDER BY name, id DESC",
        "DELETE FROM kv_name WHERE name = ?1 AND id >= ?2 AND id <= ?3",
        "DELETE FROM kine WHERE id >= ?1 AND id <= ?2",
        "SELECT MAX(id), name, deleted, create_revision, version, lease_id, txn_rev FROM kv_name"
        " WHERE name >= ?1 AND (?3 OR name < ?2) AND id <= ?4 AND COALESCE(txn_rev, id) <= ?4"
        " GROUP BY name HAVING deleted = 0 ORDER BY name LIMIT ?5",
        "SELECT k.id, p.value FROM kine k LEFT JOIN kine p ON p.id = k.prev_revision"
        " AND k.prev_revision > 0 WHERE k.id > ?1 ORDER BY k.id LIMIT ?2",
        "SELECT id, prev_revision, deleted FROM kine WHERE id > ?1 AND id <= ?2 ORDER BY id",
    };
    make();
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    for (size_t i = 0; i < KL_COUNT(queries); i++) {
        char explain[600];
        sqlite3_stmt *st;
        snprintf(explain, sizeof(explain), "EXPLAIN QUERY PLAN %s", queries[i]);
        assert_int_equal(sqlite3_prepare_v2(db, explain, -1, &st, NULL), SQLITE_OK);
        while (sqlite3_step(st) == SQLITE_ROW) {
            const char *line = (const char *)sqlite3_column_text(st, 3);
            // A table without row numbers is its index; what is asked of it all is in its order.
            bool covered = strstr(line, "kv_name") || !strstr(line, "SCAN");
            if (strstr(line, "TEMP B-TREE") || !covered)
                fail_msg("%s: %s", queries[i], line);
        }
        sqlite3_finalize(st);
    }
    sqlite3_close(db);
}

// Bytes turned anywhere in the file: it opens, or says what is wrong; it never crashes.
static void damaged_file(void **state)
{
    struct kl_store *s;
    struct kl_error err;
    uint64_t r = 88172645463325252ull;
    make();
    sql("WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 120)"
        " INSERT INTO kine(id, name, created, deleted, create_revision, prev_revision, lease, "
        "value,"
        " version) SELECT i, '/d/' || i, 1, 0, i, 0, 0, zeroblob(300), 1 FROM n;"
        "INSERT INTO kine(id, name, deleted, value) VALUES(500, NULL, 0, NULL);" // odd rows, too
        "INSERT INTO kine(id, name, deleted, value) VALUES(501, 17, 'x', 3.5);"
        "UPDATE kv_meta SET rev = 501;"
        "INSERT INTO kv_name SELECT name, id, deleted, create_revision, version, lease_id, txn_rev"
        " FROM kine WHERE id < 60; UPDATE kv_meta SET indexed_rev = 59"); // the rest is read
    int fd = open(path, O_RDWR), opened = 0;
    off_t size = lseek(fd, 0, SEEK_END);
    for (int i = 0; i < 200; i++) {
        unsigned char was[4], junk[4];
        r ^= r << 13, r ^= r >> 7, r ^= r << 17;
        off_t at = (off_t)(r % (uint64_t)(size - 4));
        memcpy(junk, &r, 4);
        assert_int_equal(pread(fd, was, 4, at), 4);
        assert_int_equal(pwrite(fd, junk, 4, at), 4);
        int code = kl_store_open(url, NULL, &s, &err);
        if (!code) {
            kl_store_stop(s);
            opened++;
        } else {
            assert_true(strlen(err.msg) > 10);
        }
        // The WAL that a refused opening may leave belongs to the damaged file.
        char wal[128];
        snprintf(wal, sizeof(wal), "%s-wal", path);
        unlink(wal);
        assert_int_equal(pwrite(fd, was, 4, at), 4);
    }
    close(fd);
    assert_true(opened > 0 && opened < 200);
}

// Numbers that this code never wrote, in a file that is sound as SQLite sees it.
static void odd_numbers(void **state)
{
    static const char *const columns[] = {"rev",       "compact_rev", "physical_rev", "format_min",
                                          "member_id", "batch_seq",   "indexed_rev"};
    static const char *const row_columns[] = {
        "id",      "deleted",         "version",       "txn_rev",
        "created", "create_revision", "prev_revision", "lease_id"};
    uint64_t r = 88172645463325252ull;
    int opened = 0, refusals = 0;
    make();
    for (int i = 0; i < 300; i++) {
        char text[800];
        r ^= r << 13, r ^= r >> 7, r ^= r << 17;
        int64_t odd = (r >> 8) % 4 == 0   ? (int64_t)(r >> 32) % 60 - 20
                      : (r >> 8) % 4 == 1 ? INT64_MIN + (int64_t)(r % 3)
                      : (r >> 8) % 4 == 2 ? INT64_MAX - (int64_t)(r % 3)
                                          : (int64_t)r;
        sql("DELETE FROM kine; DELETE FROM kv_name; DELETE FROM kv_lease;"
            "UPDATE kv_meta SET rev = 20, compact_rev = 4,"
            " physical_rev = 3, format_min = 2, member_id = 7, batch_seq = 1, indexed_rev = 4;"
            "WITH RECURSIVE n(i) AS (SELECT 5 UNION ALL SELECT i + 1 FROM n WHERE i < 20) INSERT "
            "INTO kine(id, name, created, deleted, create_revision, prev_revision, lease, value,"
            " version) SELECT i, '/d/' || (i % 6), 1, 0, i, max(i - 6, 0), 0, zeroblob(30), 1"
            " FROM n; INSERT INTO kv_lease VALUES(9, 1000000, 1700000000000)");
        if (r % 3 == 0)
            snprintf(text, sizeof(text), "UPDATE kv_meta SET %s = %lld",
                     columns[(r >> 20) % KL_COUNT(columns)], (long long)odd);
        else if (r % 3 == 1)
            snprintf(text, sizeof(text), "UPDATE kv_lease SET %s = %lld",
                     (r >> 20) % 2 ? "ttl_ms" : "deadline_ms", (long long)odd);
        else
            snprintf(text, sizeof(text), "UPDATE OR REPLACE kine SET %s = %lld WHERE id = %d",
                     row_columns[(r >> 20) % KL_COUNT(row_columns)], (long long)odd,
                     5 + (int)((r >> 30) % 16));
        sql(text);
        struct kl_store *s;
        struct kl_error err = {0};
        if (kl_store_open(url, NULL, &s, &err)) {
            if (!strstr(err.msg, "damaged") && !strstr(err.msg, "format"))
                fail_msg("%s: %s", text, err.msg);
            refusals++;
            continue;
        }
        struct kl_store_status st;
        kl_store_status(s, &st);
        if (st.rev < 20 || st.compact_rev > st.rev || st.physical_rev > st.compact_rev)
            fail_msg("%s: opened at %lld, %lld, %lld", text, (long long)st.rev,
                     (long long)st.compact_rev, (long long)st.physical_rev);
        kl_store_stop(s);
        opened++;
    }
    assert_true(opened > 30 && refusals > 30);
}

// Who cannot have the file leaves alone what its owner keeps beside it.
static void reserve_of_another(void **state)
{
    make();
    char p[160];
    snprintf(p, sizeof(p), "%s-reserve", path);
    int fd = open(p, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    sql("UPDATE kv_meta SET format_min = 99");
    refused(url, KL_EUNSUPPORTED, "format 99");
    assert_int_equal(access(p, F_OK), 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(wrong_urls),  CASE(made_private), CASE(held_by_another), CASE(other_contents),
        CASE(query_plans), CASE(damaged_file), CASE(odd_numbers),     CASE(reserve_of_another)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
