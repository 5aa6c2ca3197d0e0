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
    strcpy(dir, "/tmp/kl-open-XXXXXX");
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
    refused("postgres://x", KL_EUNSUPPORTED, "no such kind of datastore");
    refused("nonsense", KL_EUNSUPPORTED, "nonsense");
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
        "SELECT MAX(id), name, deleted, create_revision, version, lease_id, txn_rev FROM kine"
        " GROUP BY name HAVING deleted = 0 ORDER BY name",
        "SELECT MAX(id), name, deleted, create_revision, version, lease_id, txn_rev FROM kine"
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
            bool covered = strstr(line, "COVERING INDEX") || !strstr(line, "SCAN");
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
        "UPDATE kv_meta SET rev = 501");
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

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {CASE(wrong_urls),      CASE(made_private),
                                       CASE(held_by_another), CASE(other_contents),
                                       CASE(query_plans),     CASE(damaged_file)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
