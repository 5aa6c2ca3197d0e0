// SPDX-License-Identifier: Apache-2.0
// Opening the file: what is refused, the pragmas, the tables, the statements.
#include "store/sqlite/sqlite_int.h"
#include "store/store.h"
#include "store/transfer/kine.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/rand.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { LOCK_TRIES = 100 }; // a second

// kine's columns with their meaning, and three of ours that may be NULL. prev_revision is the id
// of the row that this one replaces, so that prev_kv is one look-up; old_value stays NULL.
static const char schema_sql[] =
    "CREATE TABLE kine(id INTEGER PRIMARY KEY, name TEXT, created INTEGER, deleted INTEGER,"
    " create_revision INTEGER, prev_revision INTEGER, lease INTEGER, value BLOB, old_value BLOB,"
    " version INTEGER, lease_id INTEGER, txn_rev INTEGER);";
// No index of kine: an entry is written later than its row, and goes later (names.c, sweep.c).
const char kl_sq_name_sql[] =
    "CREATE TABLE kv_name(name TEXT NOT NULL, id INTEGER NOT NULL, deleted INTEGER,"
    " create_revision INTEGER, version INTEGER, lease_id INTEGER, txn_rev INTEGER,"
    " PRIMARY KEY(name, id DESC)) WITHOUT ROWID;"
    "INSERT INTO kv_name SELECT name, id, deleted, create_revision, version, lease_id, txn_rev"
    " FROM kine WHERE name IS NOT NULL ORDER BY name, id DESC;";
// Format 1 had an index of kine in its place.
static const char format2_sql[] = "DROP INDEX IF EXISTS kl_cover;"
                                  "ALTER TABLE kv_meta ADD COLUMN indexed_rev INTEGER NOT NULL"
                                  " DEFAULT 0;"
                                  "UPDATE kv_meta SET format = 2, format_min = 2,"
                                  " indexed_rev = rev WHERE k = 1;";
const char kl_sq_meta_sql[] =
    "CREATE TABLE kv_meta(k INTEGER PRIMARY KEY CHECK(k = 1), format INTEGER NOT NULL,"
    " format_min INTEGER NOT NULL, rev INTEGER NOT NULL, compact_rev INTEGER NOT NULL,"
    " physical_rev INTEGER NOT NULL, epoch INTEGER NOT NULL, batch_seq INTEGER NOT NULL,"
    " cluster_id INTEGER NOT NULL, member_id INTEGER NOT NULL, history_id INTEGER NOT NULL,"
    " indexed_rev INTEGER NOT NULL);"
    "CREATE TABLE kv_lease(id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL,"
    " deadline_ms INTEGER NOT NULL);";

#define ROW_COLUMNS(t)                                                                             \
#t ".id," #t ".name," #t ".deleted," #t ".create_revision," #t ".version," #t ".lease_id," #t  \
       ".txn_rev," #t ".value"
#define ROWS_SELECT                                                                                \
    "SELECT " ROW_COLUMNS(k) "," ROW_COLUMNS(                                                      \
        p) " FROM kine k LEFT JOIN kine p"                                                         \
           " ON p.id = k.prev_revision AND k.prev_revision > 0"
// ?1..?2 the range, ?3 whether it is bounded, ?4 the revision. The newest row of each name.
#define RANGE_FROM                                                                                 \
    " FROM kv_name WHERE name >= ?1 AND (?3 OR name < ?2) AND id <= ?4"                            \
    " AND COALESCE(txn_rev, id) <= ?4 GROUP BY name HAVING deleted = 0"

static const char *const stmt_sql[KL_SQ_STMTS] = {
    [KL_SQ_BEGIN] = "BEGIN IMMEDIATE",
    [KL_SQ_COMMIT] = "COMMIT",
    [KL_SQ_ROLLBACK] = "ROLLBACK",
    [KL_SQ_INSERT] = "INSERT INTO kine(id,name,created,deleted,create_revision,prev_revision,lease,"
                     "value,version,lease_id,txn_rev) VALUES(?1,?2,?3,?4,?5,?6,0,?7,?8,?9,?10)",
    [KL_SQ_META] =
        "UPDATE kv_meta SET rev = ?1, batch_seq = batch_seq + 1 WHERE k = 1 AND rev = ?2",
    [KL_SQ_COMPACT_REV] = "UPDATE kv_meta SET compact_rev = max(compact_rev, ?1) WHERE k = 1",
    [KL_SQ_LEASE_PUT] = "INSERT INTO kv_lease(id,ttl_ms,deadline_ms) VALUES(?1,?2,?3)"
                        " ON CONFLICT(id) DO UPDATE SET ttl_ms = ?2, deadline_ms = ?3",
    [KL_SQ_LEASE_DEL] = "DELETE FROM kv_lease WHERE id = ?1",
    [KL_SQ_SCRUB] = "UPDATE kv_meta SET batch_seq = batch_seq + 1 WHERE k = 1",
    [KL_SQ_ROWS] = ROWS_SELECT " WHERE k.id > ?1 ORDER BY k.id LIMIT ?2",
    // The last id before the transaction that has or follows revision ?1.
    [KL_SQ_ROWS_FROM] = "SELECT id FROM kine WHERE id < ?1 AND COALESCE(txn_rev, id) < ?1"
                        " ORDER BY id DESC LIMIT 1",
    [KL_SQ_RANGE] = "SELECT MAX(id), name, deleted, create_revision, version, lease_id,"
                    " txn_rev" RANGE_FROM " ORDER BY name LIMIT ?5",
    [KL_SQ_RANGE_COUNT] = "SELECT COUNT(*) FROM (SELECT MAX(id), deleted" RANGE_FROM ")",
    [KL_SQ_VALUE] = "SELECT value FROM kine WHERE id = ?1",
    [KL_SQ_STEP_FROM] = "SELECT id FROM kine WHERE id <= ?1 AND COALESCE(txn_rev, id) < ?1"
                        " ORDER BY id DESC LIMIT 1",
    [KL_SQ_STEP_ROWS] = "SELECT id, prev_revision, deleted, COALESCE(txn_rev, id) FROM kine"
                        " WHERE id > ?1 AND id <= ?2 ORDER BY id",
    [KL_SQ_STEP_DEL] = "DELETE FROM kine WHERE id >= ?1 AND id <= ?2",
    [KL_SQ_STEP_DONE] = "UPDATE kv_meta SET physical_rev = ?1 WHERE k = 1",
    // It may be there: what is on its way when the process ends is stored again.
    [KL_SQ_NAME_PUT] = "INSERT OR IGNORE INTO kv_name(name,id,deleted,create_revision,version,"
                       "lease_id,txn_rev) VALUES(?1,?2,?3,?4,?5,?6,?7)",
    [KL_SQ_NAME_DEL] = "DELETE FROM kv_name WHERE name = ?1 AND id >= ?2 AND id <= ?3",
    [KL_SQ_INDEXED] = "UPDATE kv_meta SET indexed_rev = ?1 WHERE k = 1",
    [KL_SQ_SWEEP_FIRST] = "SELECT name, id, deleted FROM kv_name ORDER BY name, id DESC",
    [KL_SQ_SWEEP_NAME] = "SELECT name, id, deleted FROM kv_name WHERE name = ?1 AND id < ?2"
                         " ORDER BY id DESC",
    [KL_SQ_SWEEP_NEXT] = "SELECT name, id, deleted FROM kv_name WHERE name > ?1"
                         " ORDER BY name, id DESC",
    [KL_SQ_FREELIST] = "PRAGMA freelist_count",
    [KL_SQ_PAGES] = "PRAGMA page_count",
    [KL_SQ_VACUUM] = "PRAGMA incremental_vacuum(64)",
};

int kl_sq_code(struct kl_backend *b, int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_DONE:
    case SQLITE_ROW:
        return 0;
    case SQLITE_FULL:
        return KL_ENOSPC;
    case SQLITE_NOMEM:
        return KL_ENOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return KL_ECORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return KL_EUNAVAILABLE;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_AUTH:
        return KL_EFORBIDDEN;
    case SQLITE_IOERR: {
        int e = b->db ? sqlite3_system_errno(b->db) : 0;
        return e == ENOSPC || e == EDQUOT ? KL_ENOSPC : KL_EIO;
    }
    default:
        return KL_EINTERNAL;
    }
}

int kl_sq_error(struct kl_backend *b, int rc, struct kl_error *err, const char *what)
{
    int code = kl_sq_code(b, rc);
    if (code == KL_EUNAVAILABLE)
        return kl_error_set(err, code, "datastore %s is in use by another process", b->path);
    if (code == KL_ENOSPC)
        return kl_error_set(err, code, "datastore %s: no space left on device", b->path);
    return kl_error_set(err, code, "datastore %s: %s: %s", b->path, what,
                        b->db ? sqlite3_errmsg(b->db) : sqlite3_errstr(rc));
}

sqlite3_stmt *kl_sq_get(struct kl_backend *b, enum kl_sq_stmt which, struct kl_error *err)
{
    if (!b->stmt[which]) {
        int rc = sqlite3_prepare_v3(b->db, stmt_sql[which], -1, SQLITE_PREPARE_PERSISTENT,
                                    &b->stmt[which], NULL);
        if (rc) {
            kl_sq_error(b, rc, err, "prepare");
            return NULL;
        }
    }
    return b->stmt[which];
}

int kl_sq_run(struct kl_backend *b, enum kl_sq_stmt which, struct kl_error *err)
{
    sqlite3_stmt *st = kl_sq_get(b, which, err);
    if (!st)
        return err ? err->code : KL_EINTERNAL;
    int rc = sqlite3_step(st);
    int code = rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : kl_sq_error(b, rc, err, stmt_sql[which]);
    sqlite3_reset(st);
    return code;
}

// ---- refusals before anything is touched ----

// A new directory's name must be on the disk before anything in it is acknowledged.
static int sync_dir(const char *path)
{
    int fd = open(path[0] ? path : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 || fsync(fd) ? errno : 0;
    if (fd >= 0)
        close(fd);
    return r == EINVAL || r == EACCES ? 0 : r; // a file system or parent that has no say in it
}

static int make_parents(struct kl_backend *b, struct kl_error *err)
{
    char *parent = b->path[0] == '/' ? b->path : NULL; // the slash before the directory's name
    for (char *p = strchr(b->path + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = 0;
        int e = mkdir(b->path, 0700) ? errno : 0;
        if (!e) {
            if (parent)
                *parent = 0;
            e = sync_dir(parent ? b->path : ".");
            if (parent)
                *parent = '/';
        }
        *p = '/';
        if (e && e != EEXIST)
            return kl_error_errno(err, e, "datastore directory %.*s", (int)(p - b->path), b->path);
        parent = p;
    }
    return 0;
}

static int refuse_network(struct kl_backend *b, int fd, struct kl_error *err)
{
    static const struct {
        unsigned type;
        const char *name;
    } bad[] = {{0x6969, "NFS"},    {0xff534d42, "CIFS"}, {0xfe534d42, "SMB"}, {0x517b, "SMB"},
               {0x01021997, "9p"}, {0x564c, "NCP"},      {0x5346414f, "AFS"}, {0x73757245, "Coda"}};
    struct statfs fs;
    if (fstatfs(fd, &fs))
        return kl_error_errno(err, errno, "datastore %s", b->path);
    for (size_t i = 0; i < KL_COUNT(bad); i++) {
        if ((unsigned)fs.f_type == bad[i].type)
            return kl_error_set(err, KL_EUNSUPPORTED,
                                "datastore %s lies on a network file system (%s), whose locks "
                                "and syncs cannot be relied on; use a local disk",
                                b->path, bad[i].name);
    }
    return 0;
}

// SQLite's own locks keep other processes out, this one another store of the same process. The
// descriptor stays: when one is closed, the process loses all of SQLite's locks of that file.
static int lock_file(struct kl_backend *b, int fd, struct kl_error *err)
{
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB); i++) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return 0; // a file system without such locks
        if (i == LOCK_TRIES)
            return kl_error_set(err, KL_EUNAVAILABLE, "datastore %s is in use by another process",
                                b->path);
        poll(NULL, 0, 10); // a predecessor may be on its way out
    }
    return 0;
}

static int check_path(struct kl_backend *b, struct kl_error *err)
{
    int r = make_parents(b, err);
    if (r)
        return r;
    // 0600 from the start; the WAL takes the file's mode.
    int fd = open(b->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EISDIR)
        return kl_error_set(err, KL_EINVALID, "datastore %s is a directory", b->path);
    if (fd < 0)
        return kl_error_errno(err, errno, "datastore %s", b->path);
    struct stat st;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        r = kl_error_set(err, KL_EINVALID, "datastore %s is not a regular file", b->path);
    else
        r = refuse_network(b, fd, err);
    if (!r)
        r = lock_file(b, fd, err);
    if (r) {
        close(fd);
        return r;
    }
    b->lock_fd = fd;
    b->locked = true;
    char wal[4096];
    snprintf(wal, sizeof(wal), "%s-wal", b->path);
    b->unclean = stat(wal, &st) == 0 && st.st_size > 0;
    return r;
}

// ---- the connection ----

int kl_sq_exec(struct kl_backend *b, const char *sql, struct kl_error *err)
{
    int rc = sqlite3_exec(b->db, sql, NULL, NULL, NULL);
    return rc ? kl_sq_error(b, rc, err, sql) : 0;
}

static int query_text(struct kl_backend *b, const char *sql, char *ret, size_t n,
                      struct kl_error *err)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(b->db, sql, -1, &st, NULL);
    if (!rc) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            snprintf(ret, n, "%s", (const char *)sqlite3_column_text(st, 0));
            rc = 0;
        }
    }
    if (rc)
        kl_sq_error(b, rc, err, sql);
    sqlite3_finalize(st);
    return rc ? (err ? err->code : KL_EIO) : 0;
}

int kl_sq_query_int(struct kl_backend *b, const char *sql, int64_t *ret, struct kl_error *err)
{
    char text[32];
    int r = query_text(b, sql, text, sizeof(text), err);
    if (!r && !kl_str_to_i64(kl_str(text), ret))
        r = kl_error_set(err, KL_ECORRUPT, "datastore %s: %s: %s", b->path, sql, text);
    return r;
}

static int wal_hook(void *arg, sqlite3 *db, const char *name, int pages)
{
    ((struct kl_backend *)arg)->wal_pages = pages;
    return SQLITE_OK;
}

static int set_pragmas(struct kl_backend *b, struct kl_error *err)
{
    // Before the WAL is opened: no shared-memory file, and nobody else gets in. A VFS that is
    // shared sees to both by itself.
    static const char alone[] = "PRAGMA locking_mode=EXCLUSIVE";
    // EXTRA: a new file has a rollback journal until it has a WAL. If a power cut brought that
    // back, it would undo what the WAL stands on.
    static const char before[] = "PRAGMA synchronous=EXTRA; PRAGMA page_size=8192;"
                                 "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA mmap_size=0;"
                                 "PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY;"
                                 "PRAGMA cache_size=-2048;";
    static const char after[] = "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;"
                                "PRAGMA journal_size_limit=67108864;"
                                "BEGIN IMMEDIATE; COMMIT;"; // takes the lock now
    char mode[32];
    sqlite3_busy_timeout(b->db, 1000); // a predecessor may be on its way out
    int r = b->shared ? 0 : kl_sq_exec(b, alone, err);
    if (!r)
        r = kl_sq_exec(b, before, err);
    if (!r)
        r = query_text(b, "PRAGMA journal_mode=WAL", mode, sizeof(mode), err);
    if (!r && strcmp(mode, "wal") != 0)
        r = kl_error_set(err, KL_EUNSUPPORTED, "datastore %s: write-ahead log refused (%s)",
                         b->path, mode);
    if (!r)
        r = kl_sq_exec(b, after, err);
    sqlite3_wal_hook(b->db, wal_hook, b); // after wal_autocheckpoint, which has one of its own
    return r;
}

static int create_schema(struct kl_backend *b, struct kl_error *err)
{
    char sql[512];
    snprintf(sql, sizeof(sql), "INSERT INTO kv_meta VALUES(1,%d,%d,1,0,0,1,0,%lld,%lld,%lld,1)",
             KL_SQ_FORMAT, KL_SQ_FORMAT, (long long)(kl_rand_u64() >> 1 | 1),
             (long long)(kl_rand_u64() >> 1 | 1), (long long)(kl_rand_u64() >> 1 | 1));
    int r = kl_sq_exec(b, "BEGIN IMMEDIATE", err);
    if (!r)
        r = kl_sq_exec(b, schema_sql, err);
    kl_fault_crash("sqlite.schema.kine");
    if (!r)
        r = kl_sq_exec(b, kl_sq_meta_sql, err);
    if (!r)
        r = kl_sq_exec(b, kl_sq_name_sql, err);
    kl_fault_crash("sqlite.schema.meta");
    if (!r)
        r = kl_sq_exec(b, sql, err);
    kl_fault_crash("sqlite.schema.commit");
    if (!r)
        r = kl_sq_exec(b, "COMMIT", err);
    kl_fault_crash("sqlite.schema.committed");
    return r;
}

// What kine's trigger asks for (store/transfer/kine_sqlite.c): no other program knows it.
static void is_writer(sqlite3_context *c, int argc, sqlite3_value **argv)
{
    sqlite3_result_int(c, 1);
}

// All of it or nothing. Takes as long as sorting the names of all rows.
static int raise_format(struct kl_backend *b, struct kl_error *err)
{
    kl_log(KL_LOG_INFO, "store", "path=%s has format 1: it becomes format 2", b->path);
    int r = kl_sq_exec(b, "BEGIN IMMEDIATE", err);
    if (!r)
        r = kl_sq_exec(b, kl_sq_name_sql, err);
    if (!r)
        r = kl_sq_exec(b, format2_sql, err);
    if (!r)
        r = kl_sq_exec(b, "COMMIT", err);
    struct kl_error ignored;
    if (r && !sqlite3_get_autocommit(b->db))
        kl_sq_run(b, KL_SQ_ROLLBACK, &ignored);
    return r;
}

static int check_schema(struct kl_backend *b, struct kl_error *err)
{
    char have[32];
    int r = query_text(b,
                       "SELECT CASE WHEN (SELECT COUNT(*) FROM sqlite_master) = 0 THEN 'empty'"
                       " WHEN (SELECT COUNT(*) FROM sqlite_master WHERE name IN ('kine','kv_meta'"
                       ")) = 2 THEN 'ours' WHEN (SELECT COUNT(*) FROM sqlite_master"
                       " WHERE name = 'kine') THEN 'kine' ELSE 'other' END",
                       have, sizeof(have), err);
    if (r)
        return r;
    if (strcmp(have, "empty") == 0)
        return create_schema(b, err);
    if (strcmp(have, "kine") == 0)
        return kl_kine_take_over_sqlite(b->db, b->path, kl_core_options(b->core), err);
    if (strcmp(have, "other") == 0)
        return kl_error_set(err, KL_EUNSUPPORTED,
                            "datastore %s is an SQLite database of something else", b->path);
    int64_t format = 0;
    r = kl_sq_query_int(b, "SELECT format_min FROM kv_meta WHERE k = 1", &format, err);
    if (!r && format > KL_SQ_FORMAT)
        r = kl_error_set(err, KL_EUNSUPPORTED,
                         "datastore %s has format %lld; this version of kinglet reads up to %d",
                         b->path, (long long)format, KL_SQ_FORMAT);
    int64_t names = 1;
    if (!r)
        r = kl_sq_query_int(b, "SELECT COUNT(*) FROM sqlite_master WHERE name = 'kv_name'", &names,
                            err);
    return r || names ? r : raise_format(b, err);
}

static int check_pages(struct kl_backend *b, struct kl_error *err)
{
    char text[256];
    kl_log(KL_LOG_INFO, "store", "path=%s was not closed cleanly: checking", b->path);
    int r = query_text(b, "PRAGMA quick_check(1)", text, sizeof(text), err);
    if (!r && strcmp(text, "ok") != 0)
        r = kl_error_set(err, KL_ECORRUPT, "datastore %s is damaged: %s; restore a snapshot of it",
                         b->path, text);
    return r;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void configure(void)
{
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); // its counters are one global lock
}

// SQLite's unix-excl lets several connections of one process have the file and locks others out;
// so do other VFSs whose names end like that.
static void choose_vfs(struct kl_backend *b)
{
    const sqlite3_vfs *v = sqlite3_vfs_find(NULL);
    if (v && strcmp(v->zName, "unix") == 0 && sqlite3_vfs_find("unix-excl"))
        v = sqlite3_vfs_find("unix-excl");
    b->vfs = v ? v->zName : NULL;
    b->shared = v && kl_str_ends(kl_str(v->zName), KL_STR("-excl"));
}

void kl_sq_close(struct kl_backend *b)
{
    if (b->db && sqlite3_close(b->db) != SQLITE_OK)
        kl_log(KL_LOG_ERROR, "store", "close path=%s: %s", b->path, sqlite3_errmsg(b->db));
    b->db = NULL;
    if (b->locked)
        close(b->lock_fd);
    b->locked = false;
}

int kl_sq_open(struct kl_backend *b, struct kl_error *err)
{
    pthread_once(&once, configure);
    choose_vfs(b);
    b->wal_file = -1;
    int r = check_path(b, err);
    if (r)
        return r;
    kl_fault_crash("sqlite.create");
    int rc = sqlite3_open_v2(b->path, &b->db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                                 SQLITE_OPEN_PRIVATECACHE,
                             b->vfs);
    if (rc)
        return kl_sq_error(b, rc, err, "open");
    sqlite3_extended_result_codes(b->db, 1);
    rc = sqlite3_create_function(b->db, "kl_writer", 0,
                                 SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, NULL,
                                 is_writer, NULL, NULL);
    if (rc)
        return kl_sq_error(b, rc, err, "open");
    int64_t page_bytes = 0;
    r = set_pragmas(b, err);
    if (!r && b->unclean)
        r = check_pages(b, err);
    if (!r)
        r = check_schema(b, err);
    if (!r)
        r = kl_sq_query_int(b, "PRAGMA page_size", &page_bytes, err);
    b->page_bytes = (int)page_bytes;
    return r ? r : kl_sq_names_open(b, err);
}
