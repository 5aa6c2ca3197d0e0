// SPDX-License-Identifier: Apache-2.0
// The feed: what other servers committed, in order, read as soon as it is announced; the head,
// confirmed; and the guard against a database that was set back.
//
// One pass at a time: the feed's thread reads, the core's loop takes, and the pass comes back. The
// first pass of a new connection makes sure that the log is still the one that was seen.
#include "store/sql/sql_int.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdlib.h>

// ---- reading ----

struct meta {
    int64_t seq, writer_id, nonce, chain;
    kl_rev base, compact_rev;
    int64_t n;
    struct kl_bytes *extra;
};

// The outcome of reading that is not an error.
enum { FEED_OK, FEED_BEHIND = 1, FEED_SET_BACK = 2, FEED_DIFFERS = 3 };

static bool is_done(struct kl_backend *b, int64_t own_seq, const struct meta *m)
{
    return m->seq <= own_seq ||
           (m->writer_id == b->id && m->nonce == atomic_load(&b->inflight_nonce));
}

// Reads that ask for the head while nobody writes are told by one row. *ret_quiet: that nobody did.
static int read_tip(struct kl_backend *b, struct kl_sql_conn *c, struct kl_sql_pos *ret_head,
                    bool *ret_quiet, struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int r = kl_sql_query(c, KL_SQL_TIP, NULL, 0, err);
    if (r)
        return r;
    r = b->d->fetch(c, v, err);
    if (r == 1) {
        *ret_head = (struct kl_sql_pos){.history_id = v[0].i, .seq = v[1].i, .rev = v[2].i};
        kl_sql_note_epoch(b, v[3].i);
    }
    *ret_quiet = r == 1 && ret_head->history_id == b->fed.history_id && ret_head->seq == b->fed.seq;
    b->d->finish(c);
    return r < 0 ? r : 0;
}

static int read_metas(struct kl_backend *b, struct kl_sql_conn *c, struct meta *metas,
                      size_t *ret_n, struct kl_sql_pos *ret_head, struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    *ret_n = 0;
    int r = kl_sql_query(
        c, KL_SQL_BATCHES,
        KL_SQL_PARAMS(KL_SQL_INT(b->fed.seq), KL_SQL_INT(b->fed.seq + KL_SQL_PASS_BATCHES)), err);
    if (r)
        return r;
    while ((r = b->d->fetch(c, v, err)) == 1) {
        *ret_head = (struct kl_sql_pos){.history_id = v[0].i, .seq = v[1].i, .rev = v[2].i};
        kl_sql_note_epoch(b, v[3].i);
        if (v[4].type == KL_SQL_NULL || *ret_n == KL_SQL_PASS_BATCHES)
            continue;
        struct meta *m = &metas[(*ret_n)++];
        *m = (struct meta){.seq = v[4].i,
                           .writer_id = v[5].i,
                           .nonce = v[6].i,
                           .base = v[7].i,
                           .n = v[8].i,
                           .compact_rev = v[9].i,
                           .chain = v[11].i};
        if (v[10].type == KL_SQL_BYTES && !(m->extra = kl_bytes_new(v[10].s))) {
            r = kl_error_set(err, KL_ENOMEM, "out of memory");
            break;
        }
    }
    b->d->finish(c);
    return r < 0 ? r : 0;
}

static int new_entry(struct kl_backend *b, const struct meta *m, struct kl_sql_entry **ret_e,
                     struct kl_error *err)
{
    struct kl_sql_entry *e = calloc(1, sizeof(*e));
    if (!e || !(e->batch = kl_batch_new())) {
        free(e);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    e->batch->origin = (uint64_t)m->writer_id;
    e->batch->seq = (uint64_t)m->nonce;
    e->batch->base_rev = m->base;
    e->batch->last_rev = m->base + m->n;
    e->batch->compact_rev = m->compact_rev;
    e->after = (struct kl_sql_pos){b->fed.history_id, m->seq, m->chain, m->base + m->n};
    int r = kl_sql_extra_decode(b, kl_bytes_str(m->extra), e->batch, err);
    if (r) {
        kl_batch_free(e->batch);
        free(e);
        return r;
    }
    *ret_e = e;
    return 0;
}

static void free_entries(struct kl_sql_entry *e)
{
    for (struct kl_sql_entry *next; e; e = next) {
        next = e->next;
        kl_batch_free(e->batch);
        free(e);
    }
}

// Rows of a run of batches, in one query. FEED_BEHIND: some are compacted away already.
static int read_group(struct kl_backend *b, struct kl_sql_conn *c, struct kl_sql_entry *first,
                      size_t *ret_bytes, struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    struct kl_sql_entry *e = first, *last = first;
    while (last->next)
        last = last->next;
    kl_rev from = first->batch->base_rev, next = from, through = last->after.rev;
    if (from == through)
        return 0;
    int r = kl_sql_query(c, KL_SQL_FEED, KL_SQL_PARAMS(KL_SQL_INT(from), KL_SQL_INT(through)), err);
    if (r)
        return r;
    while ((r = b->d->fetch(c, v, err)) == 1) {
        if (v[0].i != ++next) {
            r = FEED_BEHIND;
            break;
        }
        while (next > e->after.rev)
            e = e->next;
        struct kl_kv *kv = kl_sql_kv(b, v);
        if (kl_batch_add_row(e->batch, kv)) {
            r = kl_error_set(err, KL_ENOMEM, "out of memory");
            break;
        }
        *ret_bytes += kv->key_len + kl_kv_value(kv).n;
    }
    b->d->finish(c);
    return r ? r : next == through ? 0 : FEED_BEHIND;
}

static int check_chains(struct kl_backend *b, const struct kl_sql_entry *e, int64_t chain)
{
    for (; e; e = e->next) {
        if (kl_sql_chain(chain, e->batch) != e->after.chain) {
            kl_log(KL_LOG_ERROR, "store",
                   "datastore %s: batch %lld is not what its writer stored there", b->name,
                   (long long)e->after.seq);
            return FEED_DIFFERS;
        }
        chain = e->after.chain;
    }
    return 0;
}

// One group of others' batches from metas[0] on; *ret_used of them.
static int read_others(struct kl_backend *b, struct kl_sql_conn *c, int64_t own_seq,
                       const struct meta *metas, size_t n, struct kl_sql_pass *p, size_t *ret_used,
                       size_t *ret_bytes, struct kl_error *err)
{
    struct kl_sql_entry *first = NULL, **end = &first;
    int64_t rows = 0;
    size_t used = 0;
    int r = 0;
    for (; !r && used < n && used < KL_SQL_GROUP_BATCHES && !is_done(b, own_seq, &metas[used]) &&
           (!used || rows + metas[used].n <= KL_SQL_GROUP_ROWS);
         used++) {
        rows += metas[used].n;
        r = new_entry(b, &metas[used], end, err);
        if (!r)
            end = &(*end)->next;
    }
    if (!r)
        r = read_group(b, c, first, ret_bytes, err);
    if (!r)
        r = check_chains(b, first, b->fed.chain);
    if (r) {
        free_entries(first);
        return r;
    }
    for (struct kl_sql_entry *e = first; e; e = e->next)
        b->fed = e->after;
    *p->end = first;
    p->end = end;
    p->outside += used;
    *ret_used = used;
    return 0;
}

static int read_entries(struct kl_backend *b, struct kl_sql_conn *c, int64_t own_seq,
                        int64_t own_nonce, const struct meta *metas, size_t n,
                        struct kl_sql_pass *p, struct kl_error *err)
{
    size_t bytes = 0;
    for (size_t i = 0, used; i < n && bytes < KL_SQL_PASS_BYTES; i += used) {
        const struct meta *m = &metas[i];
        used = 1;
        if (m->seq != b->fed.seq + 1)
            return FEED_BEHIND;
        if (m->base != b->fed.rev || m->n < 0 || (m->seq == own_seq && m->nonce != own_nonce))
            return FEED_DIFFERS;
        if (is_done(b, own_seq, m)) {
            b->fed.seq = m->seq;
            b->fed.rev = m->base + m->n;
            b->fed.chain = m->chain;
            continue;
        }
        int r = read_others(b, c, own_seq, m, n - i, p, &used, &bytes, err);
        if (r)
            return r;
    }
    return 0;
}

static int read_log(struct kl_backend *b, struct kl_sql_conn *c, struct kl_sql_pass *p,
                    struct kl_error *err)
{
    struct meta metas[KL_SQL_PASS_BATCHES];
    size_t n;
    pthread_mutex_lock(&b->mu);
    // Before the query: what is known by now must be there.
    int64_t own_seq = b->own_seq, own_nonce = b->own_nonce;
    pthread_mutex_unlock(&b->mu);
    int64_t known = own_seq > b->fed.seq ? own_seq : b->fed.seq;
    bool same = false;
    int r = b->quiet ? read_tip(b, c, &p->head, &same, err) : 0;
    n = 0;
    if (!r && !same)
        r = read_metas(b, c, metas, &n, &p->head, err);
    b->quiet = !r && !n;
    if (!r && (p->head.history_id != b->fed.history_id || p->head.seq < known))
        r = FEED_SET_BACK;
    else if (!r && !n && p->head.seq > b->fed.seq)
        r = FEED_BEHIND; // for so long that kv_batch does not reach back
    else if (!r)
        r = read_entries(b, c, own_seq, own_nonce, metas, n, p, err);
    p->more = b->fed.seq < p->head.seq;
    for (size_t i = 0; i < n; i++)
        kl_bytes_unref(metas[i].extra);
    return r;
}

// What cannot be followed batch by batch is read whole.
static int read_anew(struct kl_backend *b, struct kl_sql_conn *c, struct kl_sql_pass *p, int why,
                     struct kl_error *err)
{
    int r = why == FEED_BEHIND ? 0 : kl_sql_settle_history(b, c, why == FEED_DIFFERS, err);
    if (!r)
        r = kl_sql_read_state(b, c, &p->state, err);
    if (r)
        return r;
    free_entries(p->entries);
    p->entries = NULL;
    p->end = &p->entries;
    bool same = p->state->pos.history_id == b->fed.history_id;
    // In another history everything up to its beginning is compacted, and stored as such; others
    // may have gone on from there already.
    p->state->continues = same || p->state->compact_rev < p->state->pos.rev;
    kl_log(KL_LOG_WARN, "store", "datastore %s: %s, read anew rev=%lld", b->name,
           same ? "this server was behind for too long" : "another history",
           (long long)p->state->pos.rev);
    b->fed = p->head = p->state->pos;
    p->more = false;
    return 0;
}

// ---- the connection ----

static void run_notified(uv_poll_t *h, int status, int events);

static void free_handle(uv_handle_t *h)
{
    free(h);
}

static void drop_connection(struct kl_backend *b)
{
    if (b->notify_poll) {
        uv_poll_stop(b->notify_poll);
        uv_close((uv_handle_t *)b->notify_poll, free_handle);
        b->notify_poll = NULL;
    }
    kl_sql_session_drop(&b->feed);
}

static int start_listening(struct kl_backend *b, struct kl_sql_conn *c, struct kl_error *err)
{
    int r = b->d->listen(c, err);
    if (r)
        return r;
    uv_poll_t *h = calloc(1, sizeof(*h));
    if (!h || uv_poll_init(kl_loop_uv(b->feed_loop), h, b->d->fd(c))) {
        free(h);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    h->data = b;
    uv_poll_start(h, UV_READABLE, run_notified);
    b->notify_poll = h;
    return 0;
}

static int connect_feed(struct kl_backend *b, struct kl_sql_conn **ret_c, struct kl_error *err)
{
    bool fresh = !b->feed.conn;
    int r = kl_sql_session_get(&b->feed, kl_mono_ms(), ret_c, err);
    if (!r && fresh)
        b->suspect = true;
    if (!r && b->d->listen && !b->notify_poll)
        r = start_listening(b, *ret_c, err);
    return r;
}

// ---- a pass ----

static void sync_fed(struct kl_backend *b)
{
    bool refeed = atomic_exchange(&b->refeed, false);
    pthread_mutex_lock(&b->mu);
    if (refeed || (b->shared_at.history_id == b->fed.history_id && b->shared_at.seq > b->fed.seq))
        b->fed = b->shared_at;
    pthread_mutex_unlock(&b->mu);
}

static int check_log(struct kl_backend *b, struct kl_sql_conn *c, bool *ret_same,
                     struct kl_error *err)
{
    struct kl_sql_head head;
    int r = kl_sql_read_head(c, false, &head, err);
    if (r)
        return r;
    kl_sql_set_clock(b, &head);
    atomic_store(&b->epoch, head.epoch);
    return kl_sql_same_log(b, c, &head, ret_same, err);
}

static int do_pass(struct kl_backend *b, struct kl_sql_pass *p, struct kl_error *err)
{
    struct kl_sql_conn *c;
    bool same = true;
    int r = connect_feed(b, &c, err);
    if (!r && b->suspect)
        r = check_log(b, c, &same, err);
    if (!r) {
        b->suspect = false;
        r = same ? read_log(b, c, p, err) : FEED_SET_BACK;
    }
    if (r > 0)
        r = read_anew(b, c, p, r, err);
    return r;
}

static void arm_poll(struct kl_backend *b);
static void start_pass(struct kl_backend *b);

// The newest number that another session has announced, 0: none. A broken connection is dropped.
static int64_t take_notified(struct kl_backend *b)
{
    struct kl_error err;
    int64_t seq = 0;
    // The writer's connection is compared with only: it must not go away meanwhile.
    pthread_mutex_lock(&b->writer.mu);
    int r = b->d->notified(b->feed.conn, b->writer.conn, &seq, &err);
    pthread_mutex_unlock(&b->writer.mu);
    if (!r)
        return seq;
    if (!kl_sql_closing(b))
        kl_log(KL_LOG_WARN, "store", "%s connection=feed", err.msg);
    drop_connection(b);
    return 0;
}

static void end_pass(struct kl_backend *b)
{
    struct kl_sql_pass *p = &b->pass;
    b->passing = false;
    bool again = b->pass_again || p->more || atomic_load(&b->refeed);
    // What is announced while a query runs comes in with its answer, and the socket is silent then.
    if (b->notify_poll && take_notified(b) > b->fed.seq)
        again = true;
    b->pass_again = false;
    if (p->outside)
        b->poll_ms = KL_SQL_POLL_MIN_MS;
    else if (b->poll_ms < KL_SQL_POLL_MAX_MS)
        b->poll_ms = b->poll_ms * 2 < KL_SQL_POLL_MAX_MS ? b->poll_ms * 2 : KL_SQL_POLL_MAX_MS;
    if (again && b->feed.conn && !kl_sql_closing(b))
        start_pass(b);
    else
        arm_poll(b);
}

static void run_back(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, pass.task);
    if (b->pass.code) // the core had no memory for the state
        b->fed = b->pass.before;
    end_pass(b);
}

static void run_deliver(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, pass.task);
    if (b->closed)
        return;
    kl_sql_deliver(b, &b->pass);
    t->run = run_back;
    kl_loop_post(b->feed_loop, t);
}

static void pass_failed(struct kl_backend *b, struct kl_sql_pass *p)
{
    free_entries(p->entries);
    p->entries = NULL;
    p->end = &p->entries;
    p->more = false;
    b->fed = p->before;
    if (p->code == KL_EUNAVAILABLE)
        drop_connection(b);
    if (!b->complained && p->code != KL_EUNAVAILABLE)
        kl_log(KL_LOG_ERROR, "store", "%s connection=feed", p->err.msg);
    b->complained = true;
    // A read of the head may wait for the database to come back.
    if (p->q && kl_mono_ms() < b->want_head_ms) {
        b->want_head = p->q;
        p->q = NULL;
    }
}

static void start_pass(struct kl_backend *b)
{
    struct kl_sql_pass *p = &b->pass;
    if (b->passing || kl_sql_closing(b)) {
        b->pass_again = true;
        return;
    }
    b->passing = true;
    sync_fed(b);
    *p = (struct kl_sql_pass){.q = b->want_head, .before = b->fed};
    p->end = &p->entries;
    b->want_head = NULL;
    p->code = do_pass(b, p, &p->err);
    if (p->code)
        pass_failed(b, p);
    else
        b->complained = false;
    if (p->code || p->q || p->entries || p->state) {
        p->task.run = run_deliver;
        kl_loop_post(kl_core_loop(b->core), &p->task);
    } else {
        end_pass(b);
    }
}

// ---- what starts one ----

static void run_notified(uv_poll_t *h, int status, int events)
{
    struct kl_backend *b = h->data;
    int64_t seq = take_notified(b);
    if (!b->feed.conn || seq > b->fed.seq)
        start_pass(b); // connects again, when it must
}

static void run_poll(uv_timer_t *t)
{
    start_pass(t->data);
}

static void arm_poll(struct kl_backend *b)
{
    int64_t ms = b->d->listen ? KL_SQL_POLL_MS : b->poll_ms;
    if (!b->feed.conn) {
        ms = b->feed.next_try_ms - kl_mono_ms();
        ms = ms < 1 ? 1 : ms;
    } else if (b->pass.code) {
        ms = KL_SQL_POLL_MAX_MS;
    }
    if (!kl_sql_closing(b))
        uv_timer_start(&b->poll_timer, run_poll, (uint64_t)ms, 0);
}

static void run_kick(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, kick_task);
    atomic_store(&b->kicked, false);
    b->suspect |= atomic_exchange(&b->doubted, false);
    start_pass(b);
}

void kl_sql_kick(struct kl_backend *b)
{
    if (!atomic_exchange(&b->kicked, true)) {
        b->kick_task.run = run_kick;
        kl_loop_post(b->feed_loop, &b->kick_task);
    }
}

static void run_want_head(struct kl_task *t)
{
    struct kl_head_req *q = KL_CONTAINER_OF(t, struct kl_head_req, task);
    struct kl_backend *b = q->backend;
    b->want_head = q;
    b->want_head_ms = kl_mono_ms() + KL_SQL_READ_MS;
    start_pass(b);
}

void kl_sql_confirm_head(struct kl_backend *b, struct kl_head_req *q)
{
    q->backend = b;
    q->task.run = run_want_head;
    kl_loop_post(b->feed_loop, &q->task);
}

static void run_start(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, feed_task);
    uv_timer_init(kl_loop_uv(b->feed_loop), &b->poll_timer);
    b->poll_timer.data = b;
    b->poll_ms = KL_SQL_POLL_MIN_MS;
    start_pass(b); // between load and LISTEN there may have been batches
}

void kl_sql_feed_start(struct kl_backend *b)
{
    b->feed_task.run = run_start;
    kl_loop_post(b->feed_loop, &b->feed_task);
}

static void run_stop(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, stop_task);
    if (b->started)
        uv_timer_stop(&b->poll_timer);
    drop_connection(b);
}

void kl_sql_feed_stop(struct kl_backend *b)
{
    b->stop_task.run = run_stop;
    kl_loop_post(b->feed_loop, &b->stop_task);
}

void kl_sql_feed_free(struct kl_backend *b)
{
    free_entries(b->pass.entries);
    kl_sql_state_free(b->pass.state);
}
