// SPDX-License-Identifier: Apache-2.0
// A file that is filled from another store. What is being copied stands in kv_import until the end,
// so that a cut import goes on, and nobody takes half a store for a whole one.
#include "store/sqlite/sqlite_int.h"
#include "base/fault.h"
#include "base/rand.h"
#include <stdio.h>

enum { IMPORT_WAL_BYTES = 16 << 20 };

static int has_import(struct kl_backend *b, bool *ret_has, struct kl_error *err)
{
    int64_t n = 0;
    int r =
        kl_sq_query_int(b, "SELECT COUNT(*) FROM sqlite_master WHERE name = 'kv_import'", &n, err);
    *ret_has = n > 0;
    return r;
}

int kl_sq_import_refuse(struct kl_backend *b, struct kl_error *err)
{
    bool has;
    int r = has_import(b, &has, err);
    if (!r && has && !b->import_ends)
        r = kl_error_set(err, KL_EUNAVAILABLE,
                         "datastore %s holds an unfinished copy of another datastore: run the same "
                         "migrate or restore again to finish it",
                         b->path);
    return r;
}

// All of it or nothing: a crash in between leaves what was there.
static int begin_new(struct kl_backend *b, const struct kl_import *im, struct kl_error *err)
{
    char sql[512];
    snprintf(sql, sizeof(sql),
             "BEGIN IMMEDIATE;"
             "CREATE TABLE IF NOT EXISTS kv_import(k INTEGER PRIMARY KEY CHECK(k = 1),"
             " source INTEGER NOT NULL, base_rev INTEGER NOT NULL);"
             "INSERT OR REPLACE INTO kv_import VALUES(1,%lld,%lld);"
             "DELETE FROM kine; DELETE FROM kv_name; DELETE FROM kv_lease;"
             "UPDATE kv_meta SET indexed_rev = 0 WHERE k = 1;"
             "COMMIT;",
             (long long)im->source, (long long)im->base_rev);
    kl_fault_crash("sqlite.import.begin");
    int r = kl_sq_exec(b, sql, err);
    kl_fault_crash("sqlite.import.begun");
    if (!r)
        kl_sq_names_fini(b);
    if (r && !sqlite3_get_autocommit(b->db)) {
        struct kl_error ignored;
        kl_sq_run(b, KL_SQ_ROLLBACK, &ignored);
    }
    return r;
}

int kl_sq_import_begin(struct kl_backend *b, struct kl_import *im, struct kl_error *err)
{
    int64_t rows = 0, rev = 0, source = 0, base_rev = 0, through = 0;
    bool has;
    int r = has_import(b, &has, err);
    if (!r)
        r = kl_sq_query_int(
            b, "SELECT EXISTS(SELECT 1 FROM kine) OR EXISTS(SELECT 1 FROM kv_lease)", &rows, err);
    if (!r)
        r = kl_sq_query_int(b, "SELECT rev FROM kv_meta WHERE k = 1", &rev, err);
    if (!r && has)
        r = kl_sq_query_int(b, "SELECT source FROM kv_import", &source, err);
    if (!r && has)
        r = kl_sq_query_int(b, "SELECT base_rev FROM kv_import", &base_rev, err);
    if (!r)
        r = kl_sq_query_int(b, "SELECT COALESCE(MAX(id), 0) FROM kine", &through, err);
    if (r)
        return r;
    bool same = has && (uint64_t)source == im->source;
    if (has && !same && !im->force)
        return kl_error_set(err, KL_EEXISTS,
                            "datastore %s holds an unfinished copy of another datastore; --force "
                            "begins anew",
                            b->path);
    if (!has && (rows || rev > 1) && !im->force)
        return kl_error_set(err, KL_EEXISTS, "datastore %s holds data; --force replaces it",
                            b->path);
    if (same && !im->restart) {
        im->base_rev = base_rev;
        im->through = through;
        return 0;
    }
    im->through = 0;
    return begin_new(b, im, err);
}

int kl_sq_import_rows(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err)
{
    int r = kl_sq_run(b, KL_SQ_BEGIN, err);
    if (!r)
        r = kl_sq_insert_rows(b, batch, err);
    if (!r)
        r = kl_sq_names_put(b, batch, err);
    if (!r)
        r = kl_sq_write_leases(b, batch, err);
    kl_fault_crash("sqlite.import.rows");
    if (!r)
        r = kl_sq_run(b, KL_SQ_COMMIT, err);
    if (r) {
        struct kl_error ignored;
        if (!sqlite3_get_autocommit(b->db))
            kl_sq_run(b, KL_SQ_ROLLBACK, &ignored);
        return r;
    }
    kl_fault_crash("sqlite.import.stored");
    if ((int64_t)b->wal_pages * b->page_bytes >= IMPORT_WAL_BYTES) {
        int rc = kl_sq_checkpoint(b, false);
        if (rc)
            return kl_sq_error(b, rc, err, "checkpoint");
    }
    return 0;
}

// Without `ended` the mark stays: what else belongs to the end is still to come.
static int write_end(struct kl_backend *b, const struct kl_import *im, bool ended,
                     struct kl_error *err)
{
    char sql[512];
    snprintf(sql, sizeof(sql),
             "BEGIN IMMEDIATE;"
             "UPDATE kv_meta SET rev = %lld, compact_rev = %lld, physical_rev = %lld,"
             " indexed_rev = (SELECT COALESCE(MAX(id), 0) FROM kine),"
             " epoch = epoch + 1, history_id = %lld WHERE k = 1;"
             "%sCOMMIT;",
             (long long)im->rev, (long long)im->compact_rev,
             (long long)(im->base_rev < im->compact_rev ? im->base_rev : im->compact_rev),
             (long long)(kl_rand_u64() >> 1 | 1), ended ? "DROP TABLE kv_import;" : "");
    kl_fault_crash("sqlite.import.end");
    int r = kl_sq_exec(b, sql, err);
    kl_fault_crash("sqlite.import.ended");
    struct kl_error ignored;
    if (r && !sqlite3_get_autocommit(b->db))
        kl_sq_run(b, KL_SQ_ROLLBACK, &ignored);
    return r;
}

int kl_sq_import_end(struct kl_backend *b, const struct kl_import *im, struct kl_error *err)
{
    return write_end(b, im, true, err);
}

int kl_sq_import_revs(struct kl_backend *b, const struct kl_import *im, struct kl_error *err)
{
    b->import_ends = true;
    return write_end(b, im, false, err);
}

int kl_sq_import_done(struct kl_backend *b, struct kl_error *err)
{
    b->import_ends = false;
    return kl_sq_exec(b, "DROP TABLE kv_import", err);
}
