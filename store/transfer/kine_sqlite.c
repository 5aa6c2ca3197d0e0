// SPDX-License-Identifier: Apache-2.0
// kine's SQLite file becomes ours in one transaction, and ours kine's again in another. Nobody else
// can have the file meanwhile: the lock is exclusive, and K3s holds its own while it runs.
#include "store/transfer/kine.h"
#include "store/sqlite/sqlite_int.h"
#include "store/store.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// Rows of kine's own: where compaction stands, and revisions that it filled.
#define OWN_ROWS "(name = 'compact_rev_key' OR (name GLOB 'gap-[0-9]*' AND value IS NULL))"

struct found {
    int64_t rows, keys, leases, rev, compact_rev;
    char bootstrap[256];
};

static int fail(sqlite3 *db, const char *path, struct kl_error *err, const char *what)
{
    return kl_error_set(err, sqlite3_errcode(db) == SQLITE_FULL ? KL_ENOSPC : KL_EIO,
                        "datastore %s: %s: %s", path, what, sqlite3_errmsg(db));
}

static int run(sqlite3 *db, const char *path, const char *sql, struct kl_error *err)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) ? fail(db, path, err, sql) : 0;
}

// The last number that was given. A table that was made without AUTOINCREMENT (restored, or ours
// without kv_meta) has none, and then SQLite has no such table.
static int64_t sequence(sqlite3 *db)
{
    sqlite3_stmt *st = NULL;
    int64_t seq = 0;
    if (!sqlite3_prepare_v2(db, "SELECT seq FROM sqlite_sequence WHERE name = 'kine'", -1, &st,
                            NULL) &&
        sqlite3_step(st) == SQLITE_ROW)
        seq = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return seq;
}

static int look(sqlite3 *db, const char *path, struct found *ret, struct kl_error *err)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(
        db,
        "SELECT COUNT(*), COALESCE(MAX(id), 0),"
        " COALESCE((SELECT MAX(prev_revision) FROM kine WHERE name = 'compact_rev_key'), 0),"
        " (SELECT COUNT(*) FROM (SELECT MAX(id), deleted, lease FROM kine WHERE NOT " OWN_ROWS
        " GROUP BY name HAVING deleted = 0)),"
        " (SELECT COUNT(*) FROM (SELECT MAX(id), deleted, lease FROM kine GROUP BY name"
        " HAVING deleted = 0 AND lease > 0)),"
        " (SELECT name FROM kine WHERE name GLOB '/bootstrap/*' AND name <> '/bootstrap/kinglet' "
        "ORDER BY id DESC LIMIT 1)"
        " FROM kine",
        -1, &st, NULL);
    if (rc || sqlite3_step(st) != SQLITE_ROW) {
        rc = fail(db, path, err, "kine's table");
        sqlite3_finalize(st);
        return rc;
    }
    *ret = (struct found){.rows = sqlite3_column_int64(st, 0),
                          .rev = sqlite3_column_int64(st, 1),
                          .compact_rev = sqlite3_column_int64(st, 2),
                          .keys = sqlite3_column_int64(st, 3),
                          .leases = sqlite3_column_int64(st, 4)};
    const char *name = (const char *)sqlite3_column_text(st, 5);
    snprintf(ret->bootstrap, sizeof(ret->bootstrap), "%.255s", name ? name : "");
    // Numbers that were given to rows which are gone are not given again.
    int64_t seq = sequence(db);
    ret->rev = seq > ret->rev ? seq : ret->rev;
    ret->rev = ret->compact_rev > ret->rev ? ret->compact_rev : ret->rev < 1 ? 1 : ret->rev;
    sqlite3_finalize(st);
    return 0;
}

static int refuse(const char *path, const struct found *f, struct kl_error *err)
{
    return kl_error_set(
        err, KL_EUNSUPPORTED,
        "datastore %s was written by kine or K3s (%lld keys at revision %lld): --take-over copies "
        "it to a file beside it, adds three columns and the tables kv_meta and kv_lease, puts one "
        "index in place of kine's, lets %lld keys with a lease end after their full time and keeps "
        "kine from writing; kinglet migrate --to-kine leads back%s%s",
        path, (long long)f->keys, (long long)f->rev, (long long)f->leases,
        f->bootstrap[0] ? KL_KINE_BOOTSTRAP : "", f->bootstrap);
}

// The whole file as it was, for whoever wants to go back further than --to-kine does. It has its
// name when it is whole; half of one, which a start that was cut has left, goes.
static int keep_copy(sqlite3 *db, const char *path, char *ret, size_t n, struct kl_error *err)
{
    char tmp[4096];
    snprintf(ret, n, "%s.before-take-over-%lld", path, (long long)kl_wall_ms() / 1000);
    snprintf(tmp, sizeof(tmp), "%s.before-take-over.tmp", path);
    unlink(tmp);
    char *sql = sqlite3_mprintf("VACUUM INTO %Q", tmp);
    if (!sql)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    int r = run(db, path, sql, err);
    sqlite3_free(sql);
    int fd = r ? -1 : open(tmp, O_RDWR | O_CLOEXEC);
    if (!r && (fd < 0 || fchmod(fd, 0600) || fsync(fd) || rename(tmp, ret)))
        r = kl_error_errno(err, errno, "copy %s", tmp);
    if (fd >= 0)
        close(fd);
    if (r)
        unlink(tmp);
    return r;
}

static struct kl_str cell(sqlite3_stmt *st, int i)
{
    const void *p = sqlite3_column_blob(st, i);
    return (struct kl_str){p ? p : "", (size_t)sqlite3_column_bytes(st, i)};
}

static int check(sqlite3 *db, const char *path, const struct kl_store_options *o,
                 struct kl_error *err)
{
    struct kl_kine_records all; // a row is gone with the next
    sqlite3_stmt *st = NULL;
    int r, rc = 0;
    if (!o->take_over_check)
        return 0;
    kl_kine_records_init(&all);
    r = sqlite3_prepare_v2(db,
                           "SELECT name, value FROM kine WHERE id IN (SELECT MAX(id) FROM kine"
                           " WHERE name GLOB '/bootstrap/*' GROUP BY name) AND deleted = 0",
                           -1, &st, NULL);
    while (!r && !rc && (r = sqlite3_step(st)) == SQLITE_ROW) {
        r = 0;
        if (kl_kine_records_add(&all, cell(st, 0), cell(st, 1)))
            rc = kl_error_set(err, KL_ENOMEM, "datastore %s: K3s' records: out of memory", path);
    }
    if (r && r != SQLITE_DONE)
        rc = fail(db, path, err, "kine's table");
    sqlite3_finalize(st);
    rc = rc ? rc : o->take_over_check(o->take_over_arg, all.v, all.n, err);
    kl_kine_records_fini(&all);
    return rc;
}

// version counts the writes since the key was created. What was compacted away is not known: a row
// that is no creation has had at least one before it.
static const char change_sql[] =
    "DROP INDEX IF EXISTS kine_name_index;"
    "DROP INDEX IF EXISTS kine_name_id_index;"
    "DROP INDEX IF EXISTS kine_id_deleted_index;"
    "DROP INDEX IF EXISTS kine_prev_revision_index;"
    "DROP INDEX IF EXISTS kine_name_prev_revision_uindex;"
    "DROP INDEX IF EXISTS kine_list_query_index;"
    "DROP INDEX IF EXISTS kine_id_compact_rev_key_with_prev_revision_index;"
    "DELETE FROM kine WHERE " OWN_ROWS ";"
    "UPDATE kine SET version = n.version,"
    " lease_id = CASE WHEN kine.deleted = 0 AND kine.lease > 0 THEN kine.lease END,"
    " create_revision = CASE WHEN kine.created <> 0 OR COALESCE(kine.create_revision, 0) = 0"
    "   THEN kine.id ELSE kine.create_revision END,"
    " prev_revision = CASE WHEN kine.created <> 0 THEN 0"
    "   ELSE COALESCE(kine.prev_revision, 0) END,"
    " old_value = NULL"
    " FROM (SELECT id, CASE WHEN deleted <> 0 THEN 0 ELSE"
    "   ROW_NUMBER() OVER (PARTITION BY name, life ORDER BY id)"
    "   + (FIRST_VALUE(created) OVER (PARTITION BY name, life ORDER BY id) = 0) END AS version"
    "   FROM (SELECT id, name, created, deleted,"
    "     SUM(created <> 0 OR deleted <> 0) OVER (PARTITION BY name ORDER BY id) AS life"
    "     FROM kine)) AS n"
    " WHERE n.id = kine.id;"
    "CREATE TRIGGER kl_fence BEFORE INSERT ON kine WHEN kl_writer() <> 1"
    " BEGIN SELECT RAISE(FAIL, 'this datastore is kinglet''s'); END;";

static int add_columns(sqlite3 *db, const char *path, struct kl_error *err)
{
    static const char *const names[] = {"version", "lease_id", "txn_rev"};
    for (size_t i = 0; i < KL_COUNT(names); i++) {
        char sql[96];
        // They are there when kine had the file in between.
        if (sqlite3_table_column_metadata(db, NULL, "kine", names[i], NULL, NULL, NULL, NULL,
                                          NULL) == SQLITE_OK)
            continue;
        snprintf(sql, sizeof(sql), "ALTER TABLE kine ADD COLUMN %s INTEGER", names[i]);
        int r = run(db, path, sql, err);
        if (r)
            return r;
    }
    return 0;
}

static int seed(sqlite3 *db, const char *path, const struct found *f, struct kl_error *err)
{
    char sql[1024];
    int r = run(db, path, kl_sq_meta_sql, err);
    // Nothing is known to be gone: compaction passes over all of it once.
    snprintf(sql, sizeof(sql),
             "INSERT INTO kv_meta(k,format,format_min,rev,compact_rev,physical_rev,epoch,batch_seq,"
             "cluster_id,member_id,history_id,indexed_rev)"
             " VALUES(1,%d,%d,%lld,%lld,0,1,0,%lld,%lld,%lld,%lld);"
             "INSERT INTO kv_lease SELECT DISTINCT lease_id, lease_id * 1000, %lld + lease_id * "
             "1000 FROM kine WHERE lease_id IS NOT NULL;",
             KL_SQ_FORMAT, KL_SQ_FORMAT, (long long)f->rev, (long long)f->compact_rev,
             (long long)(kl_rand_u64() >> 1 | 1), (long long)(kl_rand_u64() >> 1 | 1),
             (long long)(kl_rand_u64() >> 1 | 1), (long long)f->rev, (long long)kl_wall_ms());
    if (!r)
        r = run(db, path, kl_sq_name_sql, err);
    return r ? r : run(db, path, sql, err);
}

int kl_kine_take_over_sqlite(sqlite3 *db, const char *path, const struct kl_store_options *o,
                             struct kl_error *err)
{
    struct found f;
    char copy[4096];
    int r = look(db, path, &f, err);
    if (r || !o->take_over)
        return r ? r : refuse(path, &f, err);
    r = check(db, path, o, err);
    if (!r)
        r = keep_copy(db, path, copy, sizeof(copy), err);
    if (!r)
        r = run(db, path, "BEGIN IMMEDIATE", err);
    if (!r)
        r = add_columns(db, path, err);
    if (!r)
        r = run(db, path, change_sql, err);
    if (!r)
        r = seed(db, path, &f, err);
    if (!r)
        r = run(db, path, "COMMIT", err);
    if (r) {
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
        return r;
    }
    kl_log(KL_LOG_WARN, "store", "took over path=%s from kine: keys=%lld rev=%lld; as it was: %s",
           path, (long long)f.keys, (long long)f.rev, copy);
    // Free pages can be given back step by step from now on. Not needed for anything else.
    if (sqlite3_exec(db, "PRAGMA auto_vacuum=INCREMENTAL; VACUUM;", NULL, NULL, NULL))
        kl_log(KL_LOG_WARN, "store", "path=%s: not vacuumed: %s", path, sqlite3_errmsg(db));
    return 0;
}

// ---- the way back ----

// kine 0.17's table (pkg/drivers/sqlite), filled in one pass: a row's predecessor is the newest one
// before it under its name, a deletion too.
static const char back_sql[] =
    "DROP TRIGGER IF EXISTS kl_fence;"
    "CREATE INDEX IF NOT EXISTS kl_back_name ON kine(name, id);"
    "CREATE TABLE kl_back(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, created INTEGER,"
    " deleted INTEGER, create_revision INTEGER, prev_revision INTEGER, lease INTEGER, value BLOB,"
    " old_value BLOB);"
    "INSERT INTO kl_back SELECT k.id, k.name, k.created, k.deleted,"
    " CASE WHEN k.created <> 0 THEN 0 ELSE k.create_revision END, COALESCE(p.id, 0),"
    " COALESCE((SELECT (ttl_ms + 999) / 1000 FROM kv_lease l WHERE l.id = k.lease_id), 0),"
    " k.value, p.value FROM kine k LEFT JOIN kine p ON p.id ="
    " (SELECT q.id FROM kine q WHERE q.name = k.name AND q.id < k.id ORDER BY q.id DESC LIMIT 1)"
    " ORDER BY k.id;"
    "DROP TABLE kine;"
    "ALTER TABLE kl_back RENAME TO kine;"
    "CREATE INDEX kine_name_index ON kine (name);"
    "CREATE INDEX kine_name_id_index ON kine (name,id);"
    "CREATE INDEX kine_id_deleted_index ON kine (id,deleted);"
    "CREATE INDEX kine_prev_revision_index ON kine (prev_revision);"
    "CREATE UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision);"
    "CREATE INDEX kine_id_compact_rev_key_with_prev_revision_index ON kine(id, name,"
    " prev_revision) WHERE name != 'compact_rev_key' AND prev_revision != 0;"
    // The newest number when no row has it, so that kine does not look for rows that never were;
    // else the lowest that is free.
    "INSERT INTO kine(id, name, created, deleted, create_revision, prev_revision, lease, value)"
    " VALUES((SELECT CASE WHEN (SELECT rev FROM kv_meta) > COALESCE((SELECT MAX(id) FROM kine), 0)"
    " THEN (SELECT rev FROM kv_meta) WHEN NOT EXISTS(SELECT 1 FROM kine WHERE id = 1) THEN 1 ELSE"
    " (SELECT MIN(id) + 1 FROM kine k WHERE NOT EXISTS(SELECT 1 FROM kine WHERE id = k.id + 1))"
    " END), 'compact_rev_key', 1, 0, 0, (SELECT compact_rev FROM kv_meta), 0, x'');"
    "UPDATE sqlite_sequence SET seq = MAX(seq, (SELECT rev FROM kv_meta)) WHERE name = 'kine';"
    "DROP TABLE kv_meta;"
    "DROP TABLE IF EXISTS kv_name;"
    "DROP INDEX IF EXISTS kl_cover;"
    "DROP TABLE kv_lease;";

static int give_back(sqlite3 *db, const char *path, struct kl_error *err)
{
    sqlite3_stmt *st = NULL;
    int64_t n = 0;
    sqlite3_busy_timeout(db, 1000);
    int r = run(db, path, "PRAGMA locking_mode=EXCLUSIVE", err);
    if (!r && sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL))
        return kl_error_set(err, KL_EUNAVAILABLE, "datastore %s is in use by another process",
                            path);
    if (!r &&
        sqlite3_prepare_v2(db,
                           "SELECT COUNT(*) FILTER (WHERE name IN ('kine', 'kv_meta'))"
                           " + 10 * COUNT(*) FILTER (WHERE name = 'kv_import')"
                           " FROM sqlite_master WHERE type = 'table'",
                           -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW)
        n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    if (!r && n != 2)
        r = kl_error_set(err, KL_EINVALID, "datastore %s is not a whole datastore of kinglet",
                         path);
    if (!r)
        r = run(db, path, back_sql, err);
    if (!r)
        r = run(db, path, "COMMIT", err);
    if (r)
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return r;
}

int kl_kine_give_back_sqlite(const char *path, struct kl_error *err)
{
    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
    int r = rc ? kl_error_set(err, KL_ENOTFOUND, "datastore %s: %s", path, sqlite3_errstr(rc))
               : give_back(db, path, err);
    sqlite3_close(db);
    return r;
}
