// SPDX-License-Identifier: Apache-2.0
// Physical compaction, a chunk of revisions at a time: first it is read what each of them replaced,
// then that is deleted in the order in which it lies, so that a page is written once or goes as a
// whole. Entries of names stay (sweep.c). A step is bounded by time. Deletions go along with the
// batches that are being written, so that writers wait for no sync but their own; when nothing is
// written, a step is a transaction itself.
#include "store/sqlite/sqlite_int.h"
#include "base/clock.h"
#include "base/fault.h"
#include <stdlib.h>

enum {
    CHUNK = 65536,        // revisions; twice as many ids at most are remembered
    READ = 256,           // revisions that are read, and
    DELETE = 64,          // rows that are deleted between two looks at the clock
    READ_NS = 400 * 1000, // of one step
    ALONE_NS = 2500 * 1000,
    PER_MS = 128,     // rows that go along with batches: no more than that,
    ALONG_LEAST = 64, // but with each so many
    ALONG_MOST = 256, // at most: a commit of more pages takes longer
};

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

static int add_id(struct kl_sq_chunk *c, kl_rev id)
{
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 256;
        kl_rev *p = realloc(c->ids, cap * sizeof(*p));
        if (!p)
            return SQLITE_NOMEM;
        c->ids = p;
        c->cap = cap;
    }
    c->ids[c->n++] = id;
    return SQLITE_OK;
}

// What goes: the predecessor of each row, and deletions that are older than `until` (one at
// exactly `until` stays for those who watch from there; the next compaction, which begins at that
// transaction, takes it).
static int read_rows(struct kl_backend *b, kl_rev until, kl_rev to, struct kl_error *err)
{
    struct kl_sq_chunk *c = &b->chunk;
    sqlite3_stmt *st = kl_sq_get(b, KL_SQ_STEP_ROWS, err);
    if (!st)
        return err->code;
    int rc = SQLITE_OK;
    sqlite3_bind_int64(st, 1, c->read);
    sqlite3_bind_int64(st, 2, to);
    while (!rc && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        kl_rev mod = sqlite3_column_int64(st, 3), prev = sqlite3_column_int64(st, 1);
        if (mod > until) // as is all that follows
            break;
        rc = prev > 0 ? add_id(c, prev) : SQLITE_OK;
        if (!rc && sqlite3_column_int(st, 2) && mod < until)
            rc = add_id(c, sqlite3_column_int64(st, 0));
    }
    sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return kl_sq_error(b, rc, err, "compact");
    c->read = to;
    return 0;
}

// Ascending. By digits of 16 bits, as comparing takes longer than a step may.
static int sort_ids(struct kl_sq_chunk *c, struct kl_error *err)
{
    kl_rev low = INT64_MAX, high = 0, *to = malloc((c->n + 1) * sizeof(*to));
    uint32_t *at = to ? malloc(65537 * sizeof(*at)) : NULL;
    if (!at) {
        free(to);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < c->n; i++) {
        low = c->ids[i] < low ? c->ids[i] : low;
        high = c->ids[i] > high ? c->ids[i] : high;
    }
    for (int shift = 0; c->n && shift < 64 && (uint64_t)(high - low) >> shift; shift += 16) {
        memset(at, 0, 65537 * sizeof(*at));
        for (size_t i = 0; i < c->n; i++)
            at[((uint64_t)(c->ids[i] - low) >> shift & 65535) + 1]++;
        for (int i = 0; i < 65535; i++)
            at[i + 1] += at[i];
        for (size_t i = 0; i < c->n; i++)
            to[at[(uint64_t)(c->ids[i] - low) >> shift & 65535]++] = c->ids[i];
        kl_rev *from = c->ids;
        c->ids = to;
        to = from;
    }
    c->cap = c->n + 1;
    free(to);
    free(at);
    return 0;
}

static void drop_chunk(struct kl_backend *b)
{
    free(b->chunk.ids);
    b->chunk = (struct kl_sq_chunk){.through = 0};
}

// Reads for a while. With *ret_ready all of the chunk is known.
static int read_chunk(struct kl_backend *b, const struct kl_step_req *q, bool *ret_ready,
                      struct kl_error *err)
{
    struct kl_sq_chunk *c = &b->chunk;
    int64_t until_ns = kl_mono_ns() + READ_NS;
    int r = 0;
    *ret_ready = false;
    if (c->after != q->after || !c->through || c->through > q->until) {
        drop_chunk(b);
        r = step_from(b, q->after, &c->read, err);
        if (r)
            return r;
        c->after = q->after;
        c->until = q->until;
        c->through = q->until - q->after < CHUNK ? q->until : q->after + CHUNK;
    }
    // An entry in memory may be of a deletion, and comes back from its row after a crash.
    if (b->indexed < c->through)
        return kl_sq_names_step(b, until_ns, err);
    while (!r && c->read < c->through && kl_mono_ns() < until_ns)
        r = read_rows(b, c->until, c->read + READ < c->through ? c->read + READ : c->through, err);
    if (r || c->read < c->through)
        return r;
    if (!c->sorted)
        r = sort_ids(c, err);
    c->sorted = *ret_ready = !r;
    return r;
}

// In a transaction: deletes runs of rows, at most so many, and until then.
static int delete_some(struct kl_backend *b, size_t most, int64_t until_ns, struct kl_error *err)
{
    struct kl_sq_chunk *c = &b->chunk;
    sqlite3_stmt *st = kl_sq_get(b, KL_SQ_STEP_DEL, err);
    if (!st)
        return err->code;
    c->next = c->at;
    c->rows = 0;
    c->ends = false;
    size_t end = c->n - c->at < most ? c->n : c->at + most;
    while (c->next < end && (c->next == c->at || kl_mono_ns() < until_ns)) {
        size_t i = c->next, n = 1;
        while (i + n < end && n < DELETE && c->ids[i + n] <= c->ids[i] + (kl_rev)n)
            n++;
        sqlite3_bind_int64(st, 1, c->ids[i]);
        sqlite3_bind_int64(st, 2, c->ids[i + n - 1]);
        kl_fault_crash("sqlite.step.row");
        int rc = kl_fault_point("sqlite.compact") ? SQLITE_IOERR : sqlite3_step(st);
        int r = rc == SQLITE_DONE ? 0 : kl_sq_error(b, rc, err, "compact");
        sqlite3_reset(st);
        if (r)
            return r;
        c->rows += sqlite3_changes(b->db);
        c->next = i + n;
    }
    if (c->next < c->n)
        return 0;
    st = kl_sq_get(b, KL_SQ_STEP_DONE, err);
    if (!st)
        return err->code;
    sqlite3_bind_int64(st, 1, c->through);
    c->ends = true;
    return kl_sq_run(b, KL_SQ_STEP_DONE, err);
}

static void deleted(struct kl_backend *b, struct kl_step_req *q)
{
    struct kl_sq_chunk *c = &b->chunk;
    c->at = c->next;
    q->rows += c->rows;
    kl_sq_names_died(b, c->rows);
    if (!c->ends)
        return;
    q->through = b->physical = c->through;
    drop_chunk(b);
}

static int step(struct kl_backend *b, struct kl_step_req *q, size_t most, int64_t until_ns,
                struct kl_error *err)
{
    int64_t start = kl_mono_ns();
    kl_fault_crash("sqlite.step.begun");
    if (!b->chunk.through) { // another database took the place meanwhile
        b->chunk.rows = 0;
        return 0;
    }
    int r = delete_some(b, most, until_ns, err);
    q->took_us = (kl_mono_ns() - start) / 1000; // a sync costs what it costs
    kl_fault_crash("sqlite.step.commit");
    return r;
}

int kl_sq_step_along(struct kl_backend *b, struct kl_step_req *q, int64_t until_ns,
                     struct kl_error *err)
{
    struct kl_sq_chunk *c = &b->chunk;
    int64_t now = kl_mono_ns(), most = (now - c->along_ns) / 1000 * PER_MS / 1000;
    c->along_ns = now;
    most = most < ALONG_LEAST ? ALONG_LEAST : most > ALONG_MOST ? ALONG_MOST : most;
    return step(b, q, (size_t)most, until_ns, err);
}

void kl_sq_step_stored(struct kl_backend *b, struct kl_step_req *q)
{
    kl_fault_crash("sqlite.step.committed");
    deleted(b, q);
}

// Synced like every other commit, although a lost step would only be done again: when an fsync
// fails, the kernel forgets what it had not written yet. Frames that an earlier commit left to the
// next one's fsync would then stay off the disk, and with them all that is acknowledged behind.
void kl_sq_step_alone(struct kl_backend *b, struct kl_step_req *q)
{
    struct kl_error err = {0};
    int r = kl_sq_wal_room(b, &err);
    if (!r)
        r = kl_sq_run(b, KL_SQ_BEGIN, &err);
    if (!r)
        r = step(b, q, SIZE_MAX, kl_mono_ns() + ALONE_NS, &err);
    if (!r)
        r = kl_sq_run(b, KL_SQ_COMMIT, &err);
    q->code = r;
    if (!r) {
        kl_sq_step_stored(b, q);
        kl_sq_after_commit(b);
        return;
    }
    struct kl_error ignored;
    if (!sqlite3_get_autocommit(b->db))
        kl_sq_run(b, KL_SQ_ROLLBACK, &ignored);
    if (r == KL_ENOSPC) {
        kl_sq_reserve_release(b);
        kl_sq_checkpoint(b, true);
    }
}

bool kl_sq_step_read(struct kl_backend *b, struct kl_step_req *q)
{
    struct kl_error err = {0};
    int64_t start = kl_mono_ns();
    bool ready;
    q->through = q->after;
    q->code = read_chunk(b, q, &ready, &err);
    q->took_us = (kl_mono_ns() - start) / 1000;
    if (q->code)
        drop_chunk(b);
    return !q->code && ready;
}

void kl_sq_step_forget(struct kl_backend *b)
{
    drop_chunk(b);
}
