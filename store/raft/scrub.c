// SPDX-License-Identifier: Apache-2.0
// What lies on the disk is read again in small steps while the server runs: the sum over the rows
// of the live keys must be the state that the log wrote, and each record of the log must check out.
// A pass begins every scrub_ms and takes at most 0.25 % of a core.
#include "store/raft/log_int.h"
#include "store/raft/raft_int.h"
#include "base/log.h"
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>

enum { STEPS = 30, ROWS = 32, BUDGET = 400, SEGMENT_MAX = 16 << 20, DEFAULT_MS = 30000 };

static int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

// ---- the core's loop ----

static void damaged(struct kl_raft *r, const struct kl_error *err)
{
    if (r->closing)
        return;
    // The only copy goes on: what is in memory is right, and it will not start again.
    if (kl_raft_mark_reseed(r)) {
        kl_log(KL_LOG_ERROR, "raft",
               "%s; there is no other server to fetch it from: take a snapshot and restore it",
               err->msg);
        return;
    }
    kl_raft_fatal(r, err);
}

static void state_damaged(struct kl_raft_job *j)
{
    struct kl_raft *r = KL_CONTAINER_OF(j, struct kl_raft, scrub.job);
    damaged(r, &r->scrub.err);
}

static void report(struct kl_raft *r)
{
    if (r->scrub.told) // once: the only copy would repeat it for ever
        return;
    r->scrub.told = true;
    r->scrub.job.done = state_damaged;
    kl_raft_post_done(r, &r->scrub.job);
}

// ---- SQLite's thread ----

static const char rows_sql[] =
    "SELECT k.id, k.name, k.deleted, k.create_revision, k.version, k.lease_id, k.txn_rev, k.value,"
    " EXISTS(SELECT 1 FROM kv_name n WHERE n.name = k.name AND n.id > k.id)"
    " FROM (SELECT * FROM kine WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3) k";

// Returns the number of rows, or a negative kl_err.
static int read_rows(struct kl_raft *r, struct kl_error *err)
{
    struct kl_raft_scrub *s = &r->scrub;
    int missing = kl_sq_names_all(&r->sq, err);
    if (missing)
        return missing;
    int rc = s->rows ? 0 : sqlite3_prepare_v2(r->sq.db, rows_sql, -1, &s->rows, NULL), n = 0;
    kl_rev at = s->at;
    if (!rc) {
        sqlite3_bind_int64(s->rows, 1, s->at);
        sqlite3_bind_int64(s->rows, 2, s->until);
        sqlite3_bind_int(s->rows, 3, ROWS);
    }
    while (!rc && (rc = sqlite3_step(s->rows)) == SQLITE_ROW) {
        struct kl_kv *kv = kl_sq_column_kv(&r->sq, s->rows, 0);
        if (kv && !kv->deleted)
            kv->value = kl_bytes_new((struct kl_str){(const char *)sqlite3_column_blob(s->rows, 7),
                                                     (size_t)sqlite3_column_bytes(s->rows, 7)});
        rc = kv && (kv->deleted || kv->value) ? 0 : SQLITE_NOMEM;
        if (kv && !sqlite3_column_int(s->rows, 8))
            s->sum += kl_raft_kv_hash(kv);
        at = sqlite3_column_int64(s->rows, 0);
        kl_kv_unref(kv);
        n++;
    }
    int e = rc == SQLITE_DONE ? 0 : kl_sq_error(&r->sq, rc, err, "scrub");
    sqlite3_reset(s->rows);
    s->at = at;
    return e ? e : n;
}

static void end_pass(struct kl_raft *r)
{
    struct kl_raft_scrub *s = &r->scrub;
    s->running = false;
    if (s->sum == s->expect || s->told)
        return;
    kl_error_set(&s->err, KL_ECORRUPT,
                 "datastore %s is damaged: its keys and values are not what the log wrote (state "
                 "%016llx, not %016llx)",
                 r->sq.path, (unsigned long long)s->sum, (unsigned long long)s->expect);
    report(r);
}

static void run_rows(uv_timer_t *t)
{
    struct kl_raft *r = t->data;
    struct kl_raft_scrub *s = &r->scrub;
    struct kl_error err;
    int64_t now = kl_raft_now(), begin = cpu_ns();
    if (!s->running && now < s->next_ms)
        return;
    if (!s->running) {
        sqlite3_db_release_memory(r->sq.db); // from the disk, not from the cache
        s->running = true;
        s->next_ms = now + s->pass_ms;
        s->at = 0;
        s->until = r->sq.rev;
        s->expect = r->written_state;
        s->sum = 0;
    }
    int64_t budget = (int64_t)s->pass_ms * 1000000 / STEPS / BUDGET;
    for (;;) {
        int n = read_rows(r, &err);
        if (n == KL_ECORRUPT) {
            s->running = false;
            if (!s->told)
                s->err = err;
            report(r);
        } else if (n < 0) {
            s->running = false; // a shortage: the next pass tells
        } else if (n < ROWS) {
            end_pass(r);
        } else if (cpu_ns() - begin < budget) {
            continue;
        }
        return;
    }
}

void kl_raft_scrub_written(struct kl_raft *r, const struct kl_batch *b)
{
    struct kl_raft_scrub *s = &r->scrub;
    for (size_t i = 0; s->running && i < b->nrows; i++) {
        const struct kl_kv *prev = b->rows[i].prev;
        if (prev && prev->id > s->at && prev->id <= s->until) // the pass would not see it live
            s->expect -= kl_raft_kv_hash(prev);
    }
}

void kl_raft_scrub_reset(struct kl_raft *r)
{
    sqlite3_finalize(r->scrub.rows);
    r->scrub.rows = NULL;
    r->scrub.running = false;
}

// ---- the log ----

static int no_entry(void *arg, const struct kl_raft_entry *e)
{
    return 0;
}

static int check_segment(struct kl_raft_log *l, const struct kl_raft_segment *seg,
                         struct kl_error *err)
{
    char path[4096];
    struct kl_raft_segment found = {0};
    kl_raft_log_path(l, path, sizeof(path), "log-%020llu", (unsigned long long)seg->seq);
    uint8_t *p = malloc((size_t)seg->end);
    int fd = p ? l->fs->open(l->fs->arg, path, O_RDONLY) : -1;
    ssize_t n = fd < 0 ? -1 : l->fs->pread(l->fs->arg, fd, p, (size_t)seg->end, 0);
    int e = 0;
    if (n >= 0) { // another failure is a shortage: the next pass tells
        struct kl_error why;
        int r = kl_raft_segment_parse(p, (size_t)n, seg->seq, &found, no_entry, NULL, &why);
        if (r || found.last != seg->last || found.end != seg->end)
            e = kl_error_set(err, KL_ECORRUPT, "raft log %s is damaged: %s", path,
                             r ? why.msg : "not all of its entries can be read");
    }
    if (fd >= 0)
        l->fs->close(l->fs->arg, fd);
    free(p);
    return e;
}

int kl_raft_log_check(struct kl_raft_log *l, uint64_t *seq, struct kl_error *err)
{
    const struct kl_raft_segment *seg = NULL;
    for (size_t i = 0; i < l->nseg && !seg; i++)
        seg = l->seg[i].seq > *seq ? &l->seg[i] : NULL;
    *seq = seg ? seg->seq : 0;
    return seg && seg->end <= SEGMENT_MAX ? check_segment(l, seg, err) : 0;
}

static void checked(struct kl_raft_log_check *c)
{
    struct kl_raft *r = KL_CONTAINER_OF(c, struct kl_raft, log_check);
    int pass_ms = r->scrub.pass_ms;
    r->log_check_ms = kl_raft_now() + (c->seq ? pass_ms / STEPS : pass_ms / 2);
    if (!c->code || r->log_told)
        return;
    r->log_told = true;
    damaged(r, &c->err);
}

void kl_raft_scrub_poll(struct kl_raft *r)
{
    if (!r->started || r->scrub.pass_ms < 0 || r->log_check.busy || kl_raft_now() < r->log_check_ms)
        return;
    r->log_check.cb = checked;
    kl_raft_node_check_log(r->node, &r->log_check);
}

// ---- start ----

static void run_start(struct kl_task *t)
{
    struct kl_raft *r = KL_CONTAINER_OF(t, struct kl_raft, scrub.start);
    struct kl_raft_scrub *s = &r->scrub;
    uint64_t step = (uint64_t)s->pass_ms / STEPS + 1;
    uv_timer_init(kl_loop_uv(r->sq.loop), &s->timer);
    s->timer.data = r;
    uv_timer_start(&s->timer, run_rows, step, step);
}

void kl_raft_scrub_start(struct kl_raft *r)
{
    int ms = kl_core_options(r->core)->raft_scrub_ms;
    r->scrub.pass_ms = ms ? ms : DEFAULT_MS;
    if (ms < 0)
        return;
    r->scrub.start.run = run_start;
    kl_loop_post(r->sq.loop, &r->scrub.start);
}
