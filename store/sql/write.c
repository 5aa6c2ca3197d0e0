// SPDX-License-Identifier: Apache-2.0
// The writer: commits batches, settles those whose answer was lost, and compacts between them.
#include "store/sql/sql_int.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/rand.h"
#include <stdlib.h>

enum {
    AGAIN_PAUSE_MS = 5,
    LOCK_TRIES = 5,
    LOCK_PAUSE_MS = 5,
    GIVE_WAY_MS = 3,
    OTHERS_WRITE_MS = 50
};

// ---- the commit ----

static int commit(struct kl_backend *b, struct kl_sql_conn *c, const struct kl_sql_commit *m,
                  struct kl_error *err)
{
    if (kl_fault_point("sql.commit.before"))
        return kl_error_set(err, KL_EUNAVAILABLE, "injected: the connection broke before a commit");
    kl_fault_crash("sql.commit");
    int r = b->d->commit(c, m, err);
    kl_fault_crash("sql.committed");
    if (!r && kl_fault_point("sql.commit.again"))
        return kl_error_set(err, KL_EAGAIN, "injected: a commit is said to have failed");
    if (!r && kl_fault_point("sql.commit.after"))
        return kl_error_set(err, KL_EUNAVAILABLE, "injected: the answer to a commit was lost");
    return r;
}

// Whose row of kv_batch has the batch's number: ours, another batch's, or nobody's.
static int read_nonce(struct kl_backend *b, struct kl_sql_conn *c, bool *ret_ours, bool *ret_other,
                      struct kl_error *err)
{
    const struct kl_sql_write *w = &b->write;
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int r = kl_sql_query(c, KL_SQL_BATCH, KL_SQL_PARAMS(KL_SQL_INT(w->after.seq)), err);
    if (r)
        return r;
    r = b->d->fetch(c, v, err);
    *ret_ours = r == 1 && v[0].i == w->nonce && v[1].i == b->id;
    *ret_other = r == 1 && !*ret_ours;
    b->d->finish(c);
    return r < 0 ? r : 0;
}

// What kv_batch says of the batch in doubt. A row that is gone again (this server stood still for
// longer than they are kept), or one of another history, leaves nothing to say.
static int judge_nonce(struct kl_backend *b, struct kl_sql_conn *c, const struct kl_sql_head *head,
                       bool *ret_stored, struct kl_error *err)
{
    const struct kl_sql_write *w = &b->write;
    bool ours = false, other = false;
    int r = read_nonce(b, c, &ours, &other, err);
    if (r)
        return r;
    *ret_stored = ours;
    bool known =
        head->history_id == w->base.history_id ? ours || other || head->seq < w->after.seq : other;
    return known ? 0
                 : kl_error_set(err, KL_EMAYBE,
                                "datastore %s: nobody knows any more whether a batch was stored",
                                b->name);
}

// Whether the batch with our nonce is stored. If not, it will not be later either: what is still
// on its way to the server belongs to the epoch before.
static int look_for_nonce(struct kl_backend *b, struct kl_sql_conn *c, bool *ret_stored,
                          struct kl_error *err)
{
    struct kl_sql_head head;
    int r = b->d->begin(c, false, err);
    if (r)
        return r;
    kl_fault_crash("sql.doubt");
    // With the row's lock the session in doubt has ended, or has not begun.
    r = kl_sql_read_head(c, true, &head, err);
    if (!r)
        r = judge_nonce(b, c, &head, ret_stored, err);
    if (!r && !*ret_stored) {
        int64_t rows = 0;
        r = kl_sql_exec(c, KL_SQL_LEAD,
                        KL_SQL_PARAMS(KL_SQL_INT(head.writer), KL_SQL_INT(head.epoch)), &rows, err);
        if (!r)
            atomic_store(&b->epoch, head.epoch + 1);
    }
    kl_fault_crash("sql.doubt.settled");
    int ended = b->d->end(c, !r, r ? NULL : err);
    return r ? r : ended;
}

// The compare failed: what is the database at? 0: at the same place, so that it can be tried
// again at once; KL_ECONFLICT: write.target_seq says which batches are missing.
static int find_conflict(struct kl_backend *b, struct kl_sql_conn *c, struct kl_error *err)
{
    struct kl_sql_write *w = &b->write;
    struct kl_sql_head head;
    int r = kl_sql_read_head(c, false, &head, err);
    if (r)
        return r;
    if (head.importing)
        return kl_error_set(err, KL_EIO, "datastore %s: a copy into it is under way", b->name);
    atomic_store(&b->epoch, head.epoch);
    bool same = head.history_id == w->base.history_id;
    if (same && head.seq == w->base.seq && head.chain == w->base.chain)
        return 0;
    w->target_seq = same && head.seq > w->base.seq ? head.seq : INT64_MAX;
    return kl_error_set(err, KL_ECONFLICT, "datastore %s: the log has moved on", b->name);
}

struct attempt {
    int64_t deadline_ms;
    bool doubt;
    bool again; // the database said that nothing was stored, and to try again; not yet looked at
};

// The compare failed. A cluster of databases may have said that a batch was not stored which it
// had passed on already: then it is our own that we find.
static int settle_conflict(struct kl_backend *b, struct kl_sql_conn *c, struct attempt *a,
                           bool *ret_stored, struct kl_error *err)
{
    bool other = true;
    int r = a->again ? read_nonce(b, c, ret_stored, &other, err) : 0;
    a->doubt = r;
    if (r || *ret_stored)
        return r;
    r = find_conflict(b, c, err) ? err->code : KL_EAGAIN;
    if (r == KL_ECONFLICT && !other) { // nobody's row is left where it would be
        a->doubt = true;
        return KL_EAGAIN;
    }
    if (r == KL_ECONFLICT)
        a->again = false; // another batch has its place
    return r;
}

// One round. KL_EAGAIN: another one is worth it.
static int try_write(struct kl_backend *b, struct attempt *a, struct kl_sql_commit *m,
                     struct kl_error *err)
{
    struct kl_sql_conn *c;
    bool stored = false;
    int r = kl_sql_session_get(&b->writer, a->deadline_ms, &c, err);
    if (r)
        return r;
    if (a->doubt) {
        r = look_for_nonce(b, c, &stored, err);
        if (!r && stored)
            return 0;
        if (!r)
            a->doubt = a->again = false; // and never will be
    }
    if (!r) {
        m->epoch = atomic_load(&b->epoch);
        m->now_ms = kl_sql_now_ms(b);
        r = commit(b, c, m, err);
        a->doubt = r == KL_EUNAVAILABLE;
        a->again |= r == KL_EAGAIN;
        if (r == KL_ECONFLICT)
            r = settle_conflict(b, c, a, &stored, err);
        else if (r == KL_EEXISTS || r == KL_ENOTFOUND || r == KL_EFORBIDDEN)
            r = err->code = KL_EIO; // the database's, not the client's
    }
    if (r == KL_EUNAVAILABLE) {
        kl_log(KL_LOG_WARN, "store", "%s connection=writer", err->msg);
        kl_sql_session_drop(&b->writer);
        return KL_EAGAIN;
    }
    return r;
}

static int write_until(struct kl_backend *b, struct kl_sql_commit *m, struct kl_error *err)
{
    struct attempt a = {.deadline_ms = kl_mono_ms() + KL_SQL_WRITE_MS};
    bool extended = false;
    for (;;) {
        int r = try_write(b, &a, m, err);
        bool late = kl_mono_ms() >= a.deadline_ms || kl_fault_point("sql.commit.late");
        if (late || r != KL_EAGAIN)
            a.doubt |= a.again; // it may have been wrong
        if (r == 0 || r == KL_EMAYBE || (r != KL_EAGAIN && !a.doubt))
            return r;
        if (r == KL_ECANCELED)
            return KL_EMAYBE;
        if (late) {
            if (!a.doubt)
                return KL_EUNAVAILABLE;
            if (extended)
                return KL_EMAYBE;
            extended = true;
            a.deadline_ms = kl_mono_ms() + KL_SQL_DOUBT_MS;
        }
        kl_sql_pause(b, kl_mono_ms() + 1 + (int64_t)(kl_rand_u64() % AGAIN_PAUSE_MS));
    }
}

// The same batch with the deadlines of its leases in the database's time.
static int shadow_leases(struct kl_backend *b, const struct kl_batch *batch,
                         struct kl_batch *ret_shadow)
{
    *ret_shadow = *batch;
    if (!batch->nleases)
        return 0;
    ret_shadow->leases = malloc(batch->nleases * sizeof(*batch->leases));
    if (!ret_shadow->leases)
        return KL_ENOMEM;
    for (size_t i = 0; i < batch->nleases; i++) {
        ret_shadow->leases[i] = batch->leases[i];
        ret_shadow->leases[i].deadline_wall_ms = kl_sql_deadline_to_db(b, &batch->leases[i]);
    }
    return 0;
}

static int write_batch(struct kl_backend *b, struct kl_error *err)
{
    struct kl_sql_write *w = &b->write;
    struct kl_batch shadow;
    int r = kl_sql_extra_encode(b, w->batch, &w->extra);
    if (!r)
        r = shadow_leases(b, w->batch, &shadow);
    if (r)
        return kl_error_set(err, r, "out of memory");
    w->after.chain = kl_sql_chain(w->base.chain, w->batch);
    struct kl_sql_commit m = {.batch = &shadow,
                              .seq = w->after.seq,
                              .history_id = w->base.history_id,
                              .prev_chain = w->base.chain,
                              .writer_id = b->id,
                              .nonce = w->nonce,
                              .chain = w->after.chain,
                              .extra = kl_buf_str(&w->extra),
                              .notify = b->d->listen != NULL};
    r = write_until(b, &m, err);
    if (shadow.leases != w->batch->leases)
        free(shadow.leases);
    return r;
}

// Who has committed is the first to be ready again, and could go on for ever while the others, who
// have to read that first, always come too late. So while others write too, every second batch
// waits a moment for one of theirs; it is then evaluated on that, and goes ahead.
static bool give_way(struct kl_backend *b)
{
    const struct kl_sql_write *w = &b->write;
    int64_t now = kl_mono_ms(), until = now + GIVE_WAY_MS;
    if (!b->had_turn || now - atomic_load(&b->foreign_ms) > OTHERS_WRITE_MS)
        return false;
    b->had_turn = false;
    pthread_mutex_lock(&b->mu);
    while (!b->closing && b->shared_at.seq == w->base.seq &&
           b->shared_at.history_id == w->base.history_id && kl_sql_wait(b, until))
        ;
    b->write.target_seq = b->shared_at.seq;
    bool given = b->shared_at.seq != w->base.seq || b->shared_at.history_id != w->base.history_id;
    pthread_mutex_unlock(&b->mu);
    return given;
}

static void run_written(struct kl_task *t)
{
    struct kl_batch *batch = KL_CONTAINER_OF(t, struct kl_batch, task);
    kl_sql_written(batch->backend);
}

static void run_propose(struct kl_task *t)
{
    struct kl_batch *batch = KL_CONTAINER_OF(t, struct kl_batch, task);
    struct kl_backend *b = batch->backend;
    struct kl_sql_write *w = &b->write;
    w->target_seq = 0;
    batch->code = give_way(b) ? KL_ECONFLICT : write_batch(b, &batch->err);
    b->had_turn |= !batch->code;
    if (!batch->code) {
        pthread_mutex_lock(&b->mu);
        b->own_seq = w->after.seq;
        b->own_nonce = w->nonce;
        b->own_chain = w->after.chain;
        if (b->seen_rev < w->after.rev)
            b->seen_rev = w->after.rev;
        pthread_mutex_unlock(&b->mu);
    }
    batch->task.run = run_written;
    kl_loop_post(kl_core_loop(b->core), &batch->task);
}

// The core's loop.
void kl_sql_propose(struct kl_backend *b, struct kl_batch *batch)
{
    struct kl_sql_write *w = &b->write;
    w->batch = batch;
    w->base = w->after = b->at;
    w->after.seq++;
    w->after.rev = batch->last_rev;
    w->nonce = (int64_t)(kl_rand_u64() >> 1 | 1);
    atomic_store(&b->inflight_nonce, w->nonce);
    batch->backend = b;
    batch->task.run = run_propose;
    kl_loop_post(b->writer_loop, &batch->task);
}

// ---- compaction ----

struct step {
    kl_rev from, through;
    kl_rev *ids;
    size_t n, cap;
};

static int add_id(struct step *s, kl_rev id)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 256;
        kl_rev *p = realloc(s->ids, cap * sizeof(*p));
        if (!p)
            return KL_ENOMEM;
        s->ids = p;
        s->cap = cap;
    }
    s->ids[s->n++] = id;
    return 0;
}

// What goes: the predecessor of each row of the window, and deletions that are older than `until`
// (one at exactly `until` stays for those who watch from there; the next compaction, which begins
// at that transaction, takes it).
static int collect(struct kl_sql_conn *c, const struct kl_step_req *q, struct step *s,
                   struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int r = kl_sql_query_int(c, KL_SQL_STEP_FROM, KL_SQL_PARAMS(KL_SQL_INT(q->after)), &s->from,
                             NULL, err);
    if (!r)
        r = kl_sql_query(c, KL_SQL_STEP_ROWS,
                         KL_SQL_PARAMS(KL_SQL_INT(s->from), KL_SQL_INT(s->through)), err);
    if (r)
        return r;
    while ((r = c->driver->fetch(c, v, err)) == 1 && v[3].i <= q->until) {
        int k = v[1].i > 0 ? add_id(s, v[1].i) : 0;
        if (!k && v[2].i && v[3].i < q->until)
            k = add_id(s, v[0].i);
        if (k) {
            r = kl_error_set(err, k, "out of memory");
            break;
        }
    }
    c->driver->finish(c);
    return r < 0 ? r : 0;
}

static int compare_ids(const void *a, const void *b)
{
    kl_rev x = *(const kl_rev *)a, y = *(const kl_rev *)b;
    return (x > y) - (x < y);
}

static int delete_step(struct kl_backend *b, struct kl_sql_conn *c, struct kl_step_req *q,
                       struct step *s, struct kl_error *err)
{
    bool got = false;
    int r = b->d->begin(c, false, err);
    kl_fault_crash("sql.step.begun");
    if (r)
        return r;
    // One server at a time; the same order for all.
    if (s->n)
        qsort(s->ids, s->n, sizeof(*s->ids), compare_ids);
    r = b->d->try_lock(c, &got, err);
    if (!r && !got)
        r = kl_error_set(err, KL_EAGAIN, "another server compacts");
    if (!r && s->n)
        r = b->d->delete_rows(c, s->ids, s->n, &q->rows, err);
    kl_fault_crash("sql.step.deleted");
    // Last, as it takes the lock that batches need.
    if (!r)
        r = kl_sql_exec(c, KL_SQL_STEP_DONE, KL_SQL_PARAMS(KL_SQL_INT(s->through)), NULL, err);
    kl_fault_crash("sql.step.commit");
    int ended = b->d->end(c, !r, r ? NULL : err);
    kl_fault_crash("sql.step.committed");
    return r ? r : ended;
}

void kl_sql_compact_step(struct kl_backend *b, struct kl_step_req *q)
{
    struct kl_error err = {0};
    struct kl_sql_conn *c;
    struct kl_sql_head head;
    struct step s = {.through = q->after + q->window < q->until ? q->after + q->window : q->until};
    int r = kl_sql_session_get(&b->writer, kl_mono_ms(), &c, &err);
    int64_t start = kl_mono_ns();
    for (int i = 0; !r && i < LOCK_TRIES; i++) {
        r = kl_sql_read_head(c, false, &head, &err);
        if (!r && head.physical_rev >= s.through) {
            // Another server did it.
            s.through = head.physical_rev < q->until ? head.physical_rev : q->until;
            break;
        }
        if (!r && head.compact_rev < s.through) // not this log's any more
            r = kl_error_set(&err, KL_EAGAIN, "not compacted that far");
        s.n = 0;
        if (!r)
            r = collect(c, q, &s, &err);
        if (!r)
            r = delete_step(b, c, q, &s, &err);
        if (r != KL_EAGAIN || i + 1 == LOCK_TRIES || !kl_sql_pause(b, kl_mono_ms() + LOCK_PAUSE_MS))
            break;
        r = 0;
    }
    if (r == KL_EUNAVAILABLE)
        kl_sql_session_drop(&b->writer);
    free(s.ids);
    q->code = r;
    q->through = s.through;
    q->took_us = (kl_mono_ns() - start) / 1000;
}

// The database looks after its own space; what the core asks is whether writes may go on.
void kl_sql_tidy(struct kl_backend *b, struct kl_tidy_req *q)
{
    q->more = false;
    q->relaxed = q->full; // the next write says it, if not
}
