// SPDX-License-Identifier: Apache-2.0
// One batch is one transaction with one fsync.
#include "store/sqlite/sqlite_int.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

enum { WORK_LEAST_NS = 200 * 1000, WORK_MOST_NS = 2000 * 1000 };

static void bind_kv(sqlite3_stmt *st, const struct kl_row *row)
{
    const struct kl_kv *kv = row->kv, *prev = row->prev;
    sqlite3_bind_int64(st, 1, kv->id);
    sqlite3_bind_text(st, 2, kv->key, (int)kv->key_len, SQLITE_STATIC);
    sqlite3_bind_int(st, 3, !kv->deleted && kv->version == 1);
    sqlite3_bind_int(st, 4, kv->deleted);
    sqlite3_bind_int64(st, 5, kv->deleted && prev ? prev->create_rev : kv->create_rev);
    sqlite3_bind_int64(st, 6, prev ? prev->id : 0);
    struct kl_str v = kl_kv_value(kv);
    if (kv->deleted)
        sqlite3_bind_null(st, 7);
    else if (v.n)
        sqlite3_bind_blob(st, 7, v.p, (int)v.n, SQLITE_STATIC);
    else
        sqlite3_bind_zeroblob(st, 7, 0);
    sqlite3_bind_int64(st, 8, kv->version);
    if (kv->lease)
        sqlite3_bind_int64(st, 9, kv->lease);
    else
        sqlite3_bind_null(st, 9);
    if (kv->mod_rev != kv->id)
        sqlite3_bind_int64(st, 10, kv->mod_rev);
    else
        sqlite3_bind_null(st, 10);
}

int kl_sq_insert_rows(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err)
{
    sqlite3_stmt *st = kl_sq_get(b, KL_SQ_INSERT, err);
    if (!st)
        return err->code;
    for (size_t i = 0; i < batch->nrows; i++) {
        bind_kv(st, &batch->rows[i]);
        kl_fault_crash("sqlite.row");
        int rc = kl_fault_point("sqlite.insert") ? SQLITE_IOERR : sqlite3_step(st);
        int r = rc == SQLITE_DONE ? 0 : kl_sq_error(b, rc, err, "insert");
        sqlite3_reset(st);
        if (r)
            return r;
    }
    return 0;
}

int kl_sq_write_leases(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err)
{
    for (size_t i = 0; i < batch->nleases; i++) {
        const struct kl_lease_op *op = &batch->leases[i];
        enum kl_sq_stmt which = op->ttl_ms ? KL_SQ_LEASE_PUT : KL_SQ_LEASE_DEL;
        sqlite3_stmt *st = kl_sq_get(b, which, err);
        if (!st)
            return err->code;
        sqlite3_bind_int64(st, 1, op->id);
        if (op->ttl_ms) {
            sqlite3_bind_int64(st, 2, op->ttl_ms);
            sqlite3_bind_int64(st, 3, op->deadline_wall_ms);
        }
        int r = kl_sq_run(b, which, err);
        kl_fault_crash("sqlite.lease");
        if (r)
            return r;
    }
    return 0;
}

static int write_meta(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err)
{
    sqlite3_stmt *st = kl_sq_get(b, KL_SQ_META, err);
    if (!st)
        return err->code;
    sqlite3_bind_int64(st, 1, batch->last_rev);
    sqlite3_bind_int64(st, 2, batch->base_rev);
    kl_fault_crash("sqlite.meta");
    int r = kl_sq_run(b, KL_SQ_META, err);
    if (!r && sqlite3_changes(b->db) != 1)
        r = kl_error_set(err, KL_ECORRUPT, "datastore %s: its revision is not %lld", b->path,
                         (long long)batch->base_rev);
    if (r || !batch->compact_rev)
        return r;
    st = kl_sq_get(b, KL_SQ_COMPACT_REV, err);
    if (!st)
        return err->code;
    sqlite3_bind_int64(st, 1, batch->compact_rev);
    kl_fault_crash("sqlite.compact_rev");
    return kl_sq_run(b, KL_SQ_COMPACT_REV, err);
}

// A commit that failed in its fsync has whole frames in the WAL: a crash now could bring it back.
// A small transaction written over them settles that it will not.
static int settle_commit(struct kl_backend *b)
{
    struct kl_error err;
    int r = kl_sq_run(b, KL_SQ_BEGIN, &err);
    if (!r)
        r = kl_sq_run(b, KL_SQ_SCRUB, &err);
    if (!r)
        r = kl_sq_run(b, KL_SQ_COMMIT, &err);
    if (r && !sqlite3_get_autocommit(b->db))
        kl_sq_run(b, KL_SQ_ROLLBACK, &err);
    return r;
}

static int commit(struct kl_backend *b, bool *ret_doubtful, struct kl_error *err)
{
    sqlite3_stmt *st = kl_sq_get(b, KL_SQ_COMMIT, err);
    if (!st)
        return err->code;
    kl_fault_crash("sqlite.commit");
    int64_t start = kl_mono_ns();
    int rc = sqlite3_step(st);
    kl_fault_crash("sqlite.committed");
    b->wrote_ns = kl_mono_ns();
    b->commit_ns += (b->wrote_ns - start - b->commit_ns) / 8;
    sqlite3_reset(st);
    if (rc == SQLITE_DONE)
        return 0;
    int r = kl_sq_error(b, rc, err, "commit");
    // A write that failed left no whole commit frame; anything else might have.
    *ret_doubtful = (rc & 0xff) != SQLITE_FULL && rc != SQLITE_IOERR_WRITE;
    return r;
}

// What waits for a transaction: for half of the time that the commit will take. What fails without
// ending the transaction is told to who asked for it and is no matter of the batch.
static int work_along(struct kl_backend *b, struct kl_error *err)
{
    int64_t ns = b->commit_ns / 2;
    ns = ns < WORK_LEAST_NS ? WORK_LEAST_NS : ns > WORK_MOST_NS ? WORK_MOST_NS : ns;
    int64_t until_ns = kl_mono_ns() + ns;
    int r = 0;
    if (b->step) {
        b->step->code = r = kl_sq_step_along(b, b->step, until_ns, err);
        b->step_over = true;
    } else {
        r = kl_sq_tidy_along(b, b->tidy, until_ns, err);
        b->tidy_over = true;
    }
    return r && sqlite3_get_autocommit(b->db) ? r : 0;
}

static void work_ended(struct kl_backend *b, bool committed)
{
    if (b->tidy_over)
        kl_sq_tidy_stored(b, b->tidy, committed);
    if (b->step_over && !b->step->code && committed)
        kl_sq_step_stored(b, b->step);
    if (!committed) { // they are tried again, but for a step that failed itself
        b->tidy_over = false;
        b->step_over = b->step_over && b->step->code;
    }
}

void kl_sq_write(struct kl_backend *b, struct kl_batch *batch)
{
    struct kl_error *err = &batch->err;
    bool doubtful = false;
    size_t names = b->fresh.n;
    // The reserve was given up for a checkpoint, so the rules of a full disk begin here.
    bool full = kl_sq_is_full(b) && !batch->full;
    int r = full ? kl_error_set(err, KL_ENOSPC, "datastore %s: no space left on device", b->path)
                 : kl_sq_wal_room(b, err);
    if (!r)
        r = kl_sq_run(b, KL_SQ_BEGIN, err);
    kl_fault_crash("sqlite.begun");
    if (!r)
        r = kl_sq_insert_rows(b, batch, err);
    if (!r)
        r = kl_sq_write_leases(b, batch, err);
    if (!r)
        r = write_meta(b, batch, err);
    if (!r)
        r = kl_sq_names_add(b, batch, err);
    if (!r)
        r = kl_sq_names_store(b, batch, err);
    if (!r && b->also)
        r = b->also(b, batch, err);
    bool works = !r && !b->step_over && !b->tidy_over && (b->step || b->tidy) && !kl_sq_is_full(b);
    if (works)
        r = work_along(b, err);
    if (!r)
        r = commit(b, &doubtful, err);
    batch->code = r;
    if (works)
        work_ended(b, !r);
    if (!r) {
        b->rev = batch->last_rev;
        kl_sq_names_committed(b);
        return;
    }
    kl_sq_names_undo(b, names);
    struct kl_error ignored;
    if (!sqlite3_get_autocommit(b->db))
        kl_sq_run(b, KL_SQ_ROLLBACK, &ignored);
    if (doubtful && settle_commit(b))
        batch->code = KL_EMAYBE;
    if (r == KL_ENOSPC) {
        kl_sq_reserve_release(b);
        kl_sq_checkpoint(b, true); // what the WAL takes becomes room for deletions
    }
}
