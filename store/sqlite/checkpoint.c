// SPDX-License-Identifier: Apache-2.0
// The write-ahead log: what is in it goes to the file, mostly on a thread and a connection of its
// own while batches are written on. SQLite begins the log anew only when all of it is in the file,
// so the writer does the last little by itself: whenever more was written meanwhile than is
// little, the other thread goes on with that first.
#include "store/sqlite/sqlite_int.h"
#include "base/fault.h"
#include "base/log.h"
#include <pthread.h>
#include <stdlib.h>

enum {
    LITTLE_BYTES = 512 << 10, // the writer's share
    EXTEND_FROM = 256 << 10,  // the log grows ahead of what is written, from this size on,
    EXTEND_MOST = 1 << 20,    // by as much as it has, at most this
    ZEROS = 64 << 10,         // in pieces of this
};

struct kl_sq_beside {
    sqlite3 *db;
    struct kl_loop *loop;
    struct kl_task task;
    pthread_mutex_t mu;
    pthread_cond_t idle;
    bool busy; // by mu, as rc
    int rc;
};

static int64_t wal_bytes(const struct kl_backend *b)
{
    return (int64_t)b->wal_pages * (b->page_bytes + 24);
}

static int64_t little(void)
{
    return kl_fault_point("sqlite.soon") ? 16 << 10 : LITTLE_BYTES;
}

// ---- beside the writer ----

static void run_beside(struct kl_task *t)
{
    struct kl_sq_beside *c = KL_CONTAINER_OF(t, struct kl_sq_beside, task);
    kl_fault_crash("sqlite.beside");
    int rc = sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    kl_fault_crash("sqlite.beside.done");
    pthread_mutex_lock(&c->mu);
    c->rc = rc;
    c->busy = false;
    pthread_cond_signal(&c->idle);
    pthread_mutex_unlock(&c->mu);
}

static bool is_busy(struct kl_sq_beside *c, int *ret_rc)
{
    pthread_mutex_lock(&c->mu);
    bool busy = c->busy;
    *ret_rc = c->rc;
    pthread_mutex_unlock(&c->mu);
    return busy;
}

static void wait_beside(struct kl_sq_beside *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->mu);
    while (c->busy)
        pthread_cond_wait(&c->idle, &c->mu);
    pthread_mutex_unlock(&c->mu);
}

static void free_beside(struct kl_sq_beside *c)
{
    if (!c)
        return;
    wait_beside(c);
    if (c->loop) {
        kl_loop_stop(c->loop);
        kl_loop_join(c->loop);
        kl_loop_unref(c->loop);
    }
    sqlite3_close(c->db);
    pthread_cond_destroy(&c->idle);
    pthread_mutex_destroy(&c->mu);
    free(c);
}

static struct kl_sq_beside *new_beside(struct kl_backend *b)
{
    struct kl_sq_beside *c = calloc(1, sizeof(*c));
    struct kl_error err;
    if (!c)
        return NULL;
    pthread_mutex_init(&c->mu, NULL);
    pthread_cond_init(&c->idle, NULL);
    c->task.run = run_beside;
    int rc = sqlite3_open_v2(b->path, &c->db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
                             b->vfs);
    // The reading opens the log, of which a checkpoint alone would know nothing.
    if (!rc)
        rc = sqlite3_exec(c->db,
                          "PRAGMA cache_size=-64; PRAGMA mmap_size=0; PRAGMA synchronous=FULL;"
                          "PRAGMA wal_autocheckpoint=0; PRAGMA schema_version",
                          NULL, NULL, NULL);
    if (!rc && !kl_loop_new("kl-checkpoint", &c->loop, &err)) {
        if (!kl_loop_start(c->loop, &err))
            return c;
        kl_loop_unref(c->loop);
        c->loop = NULL;
    }
    free_beside(c);
    return NULL;
}

void kl_sq_beside_close(struct kl_backend *b)
{
    free_beside(b->beside);
    b->beside = NULL;
    b->beside_bytes = 0;
    b->wal_file = -1;
}

// Hands over what is in the log by now. False: not possible, or it failed before.
static bool begin_beside(struct kl_backend *b)
{
    if (!b->shared || b->beside_failed)
        return false;
    if (!b->beside && !(b->beside = new_beside(b))) {
        b->beside_failed = true;
        return false;
    }
    b->beside_bytes = wal_bytes(b);
    b->beside->busy = true; // nobody else looks: it is idle
    kl_loop_post(b->beside->loop, &b->beside->task);
    return true;
}

// A step towards an empty log. True: the other thread is at it.
static bool advance(struct kl_backend *b)
{
    int rc = SQLITE_OK;
    if (b->beside && is_busy(b->beside, &rc))
        return true;
    if (b->beside_bytes && rc) {
        kl_log(KL_LOG_WARN, "store", "checkpoint path=%s: %s", b->path, sqlite3_errstr(rc));
        b->beside_failed = true; // until the writer has managed to
    }
    if (wal_bytes(b) < b->beside_bytes && !b->beside_failed) {
        b->beside_bytes = 0; // all of it was in the file: the log has begun anew
        return false;
    }
    if (wal_bytes(b) - b->beside_bytes >= little() && begin_beside(b))
        return true;
    if (b->beside_bytes && !b->beside_failed)
        kl_sq_checkpoint(b, false);
    return false;
}

// ---- the writer's ----

int kl_sq_checkpoint(struct kl_backend *b, bool truncate)
{
    wait_beside(b->beside);
    kl_fault_crash("sqlite.checkpoint");
    int rc = sqlite3_wal_checkpoint_v2(
        b->db, NULL, truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    kl_fault_crash("sqlite.checkpointed");
    b->beside_bytes = 0;
    if (truncate)
        b->wal_file = -1;
    if (rc == SQLITE_OK) {
        b->wal_pages = 0; // all of it is in the file: the next writer begins anew
        b->beside_failed = false;
        atomic_store_explicit(&b->wal_bytes, 0, memory_order_relaxed);
    } else {
        kl_log(KL_LOG_WARN, "store", "checkpoint path=%s: %s", b->path, sqlite3_errmsg(b->db));
    }
    kl_sq_update_sizes(b);
    return rc;
}

int kl_sq_wal_room(struct kl_backend *b, struct kl_error *err)
{
    if (wal_bytes(b) < KL_SQ_WAL_MAX_BYTES)
        return 0;
    int rc = kl_sq_checkpoint(b, false);
    return rc ? kl_error_set(err, kl_sq_code(b, rc),
                             "datastore %s: its write-ahead log is full and cannot be written "
                             "back: %s",
                             b->path, sqlite3_errstr(rc))
              : 0;
}

static void run_idle(uv_timer_t *t)
{
    struct kl_backend *b = t->data;
    if (b->beside_bytes || wal_bytes(b) >= KL_SQ_CHECKPOINT_BYTES) {
        if (advance(b))
            uv_timer_start(&b->idle, run_idle, KL_SQ_CHECKPOINT_IDLE_MS, 0);
        else if (wal_bytes(b) >= KL_SQ_CHECKPOINT_BYTES)
            kl_sq_checkpoint(b, false);
    }
}

// A sync that also has to write down the file's new size takes several times as long, so the log
// grows in larger pieces. SQLite takes zeros for the end of what is valid.
static void extend_wal(struct kl_backend *b, int64_t n, int64_t limit)
{
    sqlite3_file *f = NULL;
    sqlite3_int64 size = 0;
    if (n < EXTEND_FROM || b->wal_file - n > EXTEND_FROM || b->wal_file >= limit ||
        kl_sq_is_full(b) || sqlite3_file_control(b->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &f) ||
        !f || !f->pMethods || f->pMethods->xFileSize(f, &size))
        return;
    // Behind all that is there, never into it.
    void *zeros = calloc(1, ZEROS);
    int64_t to = size < n + EXTEND_FROM ? n + (n < EXTEND_MOST ? n : EXTEND_MOST) : size;
    for (int rc = SQLITE_OK; zeros && !rc && size < to;) {
        rc = f->pMethods->xWrite(f, zeros, ZEROS, size);
        size += rc ? 0 : ZEROS;
    }
    free(zeros);
    b->wal_file = size;
}

void kl_sq_after_commit(struct kl_backend *b)
{
    int64_t n = wal_bytes(b), limit = kl_sq_wal_limit(b);
    int64_t soon = kl_fault_point("sqlite.soon") ? 64 << 10 : limit / 2;
    kl_sq_work_over(b);
    kl_sq_names_turn(b);
    atomic_store_explicit(&b->wal_bytes, n, memory_order_relaxed);
    if (n >= limit)
        kl_sq_checkpoint(b, false);
    else if (b->beside_bytes || (n >= soon && b->shared && !b->beside_failed))
        advance(b);
    else
        extend_wal(b, n, limit);
    if (wal_bytes(b) >= KL_SQ_CHECKPOINT_BYTES || b->beside_bytes)
        uv_timer_start(&b->idle, run_idle, KL_SQ_CHECKPOINT_IDLE_MS, 0);
    if (++b->batches % 64 == 0)
        kl_sq_update_sizes(b);
}
