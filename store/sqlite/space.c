// SPDX-License-Identifier: Apache-2.0
// Room on the disk: giving free pages back, and the reserve that keeps deletions
// possible when the disk is full.
#include "store/sqlite/sqlite_int.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
    KEEP_FREE_PAGES = 128, // 1 MiB stays for what is written next
    TIDY_ALONE_NS = 2500 * 1000,
};

static int64_t pragma_int(struct kl_backend *b, enum kl_sq_stmt which)
{
    struct kl_error err;
    sqlite3_stmt *st = kl_sq_get(b, which, &err);
    int64_t v = st && sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    return v;
}

void kl_sq_update_sizes(struct kl_backend *b)
{
    int64_t pages = pragma_int(b, KL_SQ_PAGES), unused = pragma_int(b, KL_SQ_FREELIST);
    atomic_store_explicit(&b->db_bytes, pages * b->page_bytes, memory_order_relaxed);
    atomic_store_explicit(&b->used_bytes, (pages - unused) * b->page_bytes, memory_order_relaxed);
}

static int64_t reserve_want(const char *path)
{
    struct statfs fs;
    if (statfs(path, &fs))
        return KL_SQ_RESERVE_MAX;
    int64_t want = (int64_t)fs.f_blocks * fs.f_bsize / 16;
    want = want > KL_SQ_RESERVE_MAX ? KL_SQ_RESERVE_MAX : want;
    return want < KL_SQ_RESERVE_MIN ? KL_SQ_RESERVE_MIN : want;
}

// The file may have to grow by all that is in the WAL, so on a full disk a checkpoint succeeds only
// if the reserve is bigger than the WAL ever gets; and less is left for it once that was given up.
int64_t kl_sq_wal_limit(const struct kl_backend *b)
{
    // Before there is one, by what it will be: the disk may be full a moment after it was made.
    int64_t reserve = b->reserve_bytes ? b->reserve_bytes : reserve_want(b->path);
    return b->reserve_fd >= 0 || !b->reserve_bytes ? reserve / 2 : reserve / 4;
}

// ---- the reserve ----

static void reserve_path(const struct kl_backend *b, char *ret, size_t n)
{
    snprintf(ret, n, "%s-reserve", b->path);
}

void kl_sq_reserve_make(struct kl_backend *b)
{
    char path[4096];
    if (b->reserve_fd >= 0)
        return;
    reserve_path(b, path, sizeof(path));
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    int64_t want = reserve_want(b->path);
    kl_fault_crash("sqlite.reserve");
    if (fallocate(fd, 0, 0, want)) { // ENOSPC, or a file system that cannot promise blocks
        close(fd);
        unlink(path);
        return;
    }
    kl_fault_crash("sqlite.reserved");
    b->reserve_fd = fd;
    b->reserve_bytes = want;
}

void kl_sq_reserve_release(struct kl_backend *b)
{
    char path[4096];
    reserve_path(b, path, sizeof(path));
    unlink(path);
    if (b->reserve_fd >= 0)
        close(b->reserve_fd);
    b->reserve_fd = -1;
}

bool kl_sq_is_full(const struct kl_backend *b)
{
    return b->reserve_bytes && b->reserve_fd < 0;
}

// Room enough that writes can go on: the reserve is back and as much again is free.
static bool is_relaxed(struct kl_backend *b)
{
    char dir[4096];
    struct statfs fs;
    snprintf(dir, sizeof(dir), "%s", b->path);
    if (statfs(dir, &fs))
        return false;
    int64_t room = (int64_t)fs.f_bavail * fs.f_bsize;
    if (b->reserve_fd >= 0)
        return room >= b->reserve_bytes;
    if (room < 2 * b->reserve_bytes || room < 2 * KL_SQ_RESERVE_MIN)
        return false;
    kl_sq_reserve_make(b);
    return b->reserve_fd >= 0 || !b->reserve_bytes; // none where blocks cannot be promised
}

// ---- house-keeping ----

static int64_t free_pages(struct kl_backend *b, bool full, int64_t *ret_keep)
{
    int64_t pages = pragma_int(b, KL_SQ_PAGES), unused = pragma_int(b, KL_SQ_FREELIST);
    *ret_keep = full ? 0 : pages / 20 > KEEP_FREE_PAGES ? pages / 20 : KEEP_FREE_PAGES;
    return unused;
}

bool kl_sq_tidy_due(struct kl_backend *b, struct kl_tidy_req *q)
{
    int64_t keep;
    b->free_pages = free_pages(b, q->full, &keep);
    b->sweeping = !q->full && kl_sq_sweep_due(b);
    if (b->sweeping || b->free_pages > keep)
        return true;
    kl_sq_update_sizes(b);
    return false;
}

int kl_sq_tidy_along(struct kl_backend *b, struct kl_tidy_req *q, int64_t until_ns,
                     struct kl_error *err)
{
    if (b->sweeping) {
        int r = kl_sq_sweep(b, until_ns, err);
        if (r) {
            kl_sq_sweep_ended(b, false);
            b->sweeping = false;
            b->free_pages = 0;
        }
        return r;
    }
    sqlite3_stmt *st = kl_sq_get(b, KL_SQ_VACUUM, err);
    if (!st)
        return err->code;
    int rc;
    // Its progress is made by stepping: one row a page.
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && kl_mono_ns() < until_ns)
        kl_fault_crash("sqlite.vacuum");
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : kl_sq_error(b, rc, err, "vacuum");
}

void kl_sq_tidy_stored(struct kl_backend *b, struct kl_tidy_req *q, bool committed)
{
    int64_t keep;
    if (b->sweeping) {
        kl_fault_crash("sqlite.swept");
        kl_sq_sweep_ended(b, committed);
        q->more = committed;
        return;
    }
    kl_fault_crash("sqlite.vacuumed");
    int64_t now = free_pages(b, q->full, &keep);
    q->more = committed && now < b->free_pages;
}

void kl_sq_tidy_alone(struct kl_backend *b, struct kl_tidy_req *q)
{
    struct kl_error err;
    int r = kl_sq_wal_room(b, &err);
    if (!r)
        r = kl_sq_run(b, KL_SQ_BEGIN, &err);
    if (!r)
        r = kl_sq_tidy_along(b, q, kl_mono_ns() + TIDY_ALONE_NS, &err);
    if (!r)
        r = kl_sq_run(b, KL_SQ_COMMIT, &err);
    if (r && !sqlite3_get_autocommit(b->db)) {
        struct kl_error ignored;
        kl_sq_run(b, KL_SQ_ROLLBACK, &ignored);
    }
    kl_sq_tidy_stored(b, q, !r);
    if (!r)
        kl_sq_after_commit(b);
}

void kl_sq_tidy_full(struct kl_backend *b, struct kl_tidy_req *q)
{
    if (kl_sq_tidy_due(b, q))
        kl_sq_tidy_alone(b, q);
    if (!q->more) {
        kl_sq_checkpoint(b, true);
        q->relaxed = is_relaxed(b);
    }
}
