// SPDX-License-Identifier: Apache-2.0
// One step of compaction: a window of the primary key, so that a step costs what its window holds,
// however much history there is.
#include "store/sqlite/sqlite_int.h"
#include "base/clock.h"
#include "base/fault.h"
#include <stdlib.h>

static int step_from(struct kl_backend *b, kl_rev after, kl_rev *ret_from, struct kl_error *err)
{
    sqlite3_stmt *st = kl_sq_get(b, KL_SQ_STEP_FROM, err);
    if (!st)
        return err->code;
    sqlite3_bind_int64(st, 1, after);
    int rc = sqlite3_step(st);
    *ret_from = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    int r = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : kl_sq_error(b, rc, err, "compact");
    sqlite3_reset(st);
    return r;
}

// Collects what goes: the predecessor of each row of the window, and deletions that are older than
// `until` (one at exactly `until` stays for those who watch from there; the next compaction, which
// begins at that transaction, takes it).
static int collect(struct kl_backend *b, struct kl_step_req *q, kl_rev from, kl_rev to,
                   kl_rev **ret_ids, size_t *ret_n, struct kl_error *err)
{
    sqlite3_stmt *st = kl_sq_get(b, KL_SQ_STEP_ROWS, err);
    if (!st)
        return err->code;
    size_t n = 0, cap = 0;
    kl_rev *ids = NULL;
    int rc;
    sqlite3_bind_int64(st, 1, from);
    sqlite3_bind_int64(st, 2, to);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        kl_rev mod = sqlite3_column_int64(st, 3), prev = sqlite3_column_int64(st, 1);
        if (mod > q->until)
            break;
        if (n + 2 > cap) {
            cap = cap ? cap * 2 : 256;
            kl_rev *p = realloc(ids, cap * sizeof(*p));
            if (!p) {
                rc = SQLITE_NOMEM;
                break;
            }
            ids = p;
        }
        if (prev > 0)
            ids[n++] = prev;
        if (sqlite3_column_int(st, 2) && mod < q->until)
            ids[n++] = sqlite3_column_int64(st, 0);
    }
    int r = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : kl_sq_error(b, rc, err, "compact");
    sqlite3_reset(st);
    *ret_ids = ids;
    *ret_n = n;
    return r;
}

// Synced like every other commit, although a lost step would only be done again: when an fsync
// fails, the kernel forgets what it had not written yet. Frames that an earlier commit left to the
// next one's fsync would then stay off the disk, and with them all that is acknowledged behind.
static int delete_rows(struct kl_backend *b, struct kl_step_req *q, const kl_rev *ids, size_t n,
                       kl_rev through, int64_t *ret_worked_ns, struct kl_error *err)
{
    int r = kl_sq_wal_room(b, err);
    if (!r)
        r = kl_sq_run(b, KL_SQ_BEGIN, err);
    kl_fault_crash("sqlite.step.begun");
    sqlite3_stmt *st = r ? NULL : kl_sq_get(b, KL_SQ_STEP_DEL, err);
    for (size_t i = 0; !r && st && i < n; i++) {
        sqlite3_bind_int64(st, 1, ids[i]);
        kl_fault_crash("sqlite.step.row");
        int rc = kl_fault_point("sqlite.compact") ? SQLITE_IOERR : sqlite3_step(st);
        r = rc == SQLITE_DONE ? 0 : kl_sq_error(b, rc, err, "compact");
        sqlite3_reset(st);
        q->rows += sqlite3_changes(b->db);
    }
    st = r ? NULL : kl_sq_get(b, KL_SQ_STEP_DONE, err);
    if (st) {
        sqlite3_bind_int64(st, 1, through);
        r = kl_sq_run(b, KL_SQ_STEP_DONE, err);
    }
    *ret_worked_ns = kl_mono_ns();
    kl_fault_crash("sqlite.step.commit");
    if (!r)
        r = kl_sq_run(b, KL_SQ_COMMIT, err);
    kl_fault_crash("sqlite.step.committed");
    struct kl_error ignored;
    if (r && !sqlite3_get_autocommit(b->db))
        kl_sq_run(b, KL_SQ_ROLLBACK, &ignored);
    return r;
}

void kl_sq_compact_step(struct kl_backend *b, struct kl_step_req *q)
{
    struct kl_error err = {0};
    int64_t start = kl_mono_ns();
    kl_rev through = q->after + q->window < q->until ? q->after + q->window : q->until, from;
    kl_rev *ids = NULL;
    size_t n = 0;
    q->code = step_from(b, q->after, &from, &err);
    if (!q->code)
        q->code = collect(b, q, from, through, &ids, &n, &err);
    int64_t worked = kl_mono_ns();
    if (!q->code)
        q->code = delete_rows(b, q, ids, n, through, &worked, &err);
    free(ids);
    if (q->code == KL_ENOSPC) {
        kl_sq_reserve_release(b);
        kl_sq_checkpoint(b, true);
    } else if (!q->code) {
        kl_sq_after_commit(b);
    }
    q->through = through;
    q->took_us = (worked - start) / 1000; // the window is for this; a sync costs what it costs
}
