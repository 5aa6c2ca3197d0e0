// SPDX-License-Identifier: Apache-2.0
// The database behind the index: sqlite://'s file and code with two tables more. It is written
// after the fact, without a sync: the log is the durability, and what a power cut takes from the
// end of the database is applied again.
#include "store/raft/raft_int.h"
#include "store/raft/sum.h"
#include "base/fault.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>

enum { RETRY_MS = 500 };

// applied: the newest entry in the database, with its term; chain and state as entry.h says, after
// it; conf: the configuration that held then.
static const char schema_sql[] =
    "CREATE TABLE IF NOT EXISTS kv_raft(k INTEGER PRIMARY KEY CHECK(k = 1), applied_index INTEGER "
    "NOT NULL, applied_term INTEGER NOT NULL, chain INTEGER NOT NULL, state INTEGER NOT NULL,"
    " conf_index INTEGER NOT NULL, conf BLOB);"
    "INSERT OR IGNORE INTO kv_raft VALUES(1,0,0,0,0,0,NULL);"
    "CREATE TABLE IF NOT EXISTS kv_peer(id INTEGER PRIMARY KEY, address TEXT NOT NULL);";

void kl_raft_saved_fini(struct kl_raft_saved *s)
{
    free(s->conf.base);
    memset(s, 0, sizeof(*s));
}

int kl_raft_saved_read(sqlite3 *db, struct kl_raft_saved *ret, struct kl_error *err)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db,
                                "SELECT applied_index, applied_term, chain, state, conf_index,"
                                " conf, rev, cluster_id FROM kv_raft, kv_meta",
                                -1, &st, NULL);
    if (!rc)
        rc = sqlite3_step(st);
    struct kl_raft_saved s = {0};
    if (rc == SQLITE_ROW) {
        s.index = (uint64_t)sqlite3_column_int64(st, 0);
        s.term = (uint64_t)sqlite3_column_int64(st, 1);
        s.chain = (uint64_t)sqlite3_column_int64(st, 2);
        s.state = (uint64_t)sqlite3_column_int64(st, 3);
        s.conf_index = (uint64_t)sqlite3_column_int64(st, 4);
        s.conf.len = (size_t)sqlite3_column_bytes(st, 5);
        const void *p = sqlite3_column_blob(st, 5);
        s.conf.base = malloc(s.conf.len + 1);
        if (s.conf.base && s.conf.len)
            memcpy(s.conf.base, p, s.conf.len);
        s.rev = sqlite3_column_int64(st, 6);
        s.cluster_id = (uint64_t)sqlite3_column_int64(st, 7);
        rc = s.conf.base ? 0 : SQLITE_NOMEM;
    } else if (rc == SQLITE_DONE) {
        rc = SQLITE_CORRUPT;
    }
    int r = rc ? kl_error_set(err, rc == SQLITE_NOMEM ? KL_ENOMEM : KL_ECORRUPT, "kv_raft: %s",
                              sqlite3_errmsg(db))
               : 0;
    sqlite3_finalize(st);
    if (!r)
        *ret = s;
    return r;
}

static int load_addresses(struct kl_raft *r, struct kl_error *err)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(r->sq.db, "SELECT id, address FROM kv_peer", -1, &st, NULL);
    while (!rc && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct kl_str a = {(const char *)sqlite3_column_text(st, 1),
                           (size_t)sqlite3_column_bytes(st, 1)};
        kl_raft_set_address(r, (uint64_t)sqlite3_column_int64(st, 0), a);
        rc = 0;
    }
    int e = rc && rc != SQLITE_DONE ? kl_sq_error(&r->sq, rc, err, "kv_peer") : 0;
    sqlite3_finalize(st);
    return e;
}

static int write_raft(struct kl_raft *r, const struct kl_raft_write *w, struct kl_error *err)
{
    sqlite3_stmt *st = r->st_saved;
    int rc = st ? 0
                : sqlite3_prepare_v3(r->sq.db,
                                     "UPDATE kv_raft SET applied_index = ?1, applied_term = ?2,"
                                     " chain = ?3, state = ?4,"
                                     " conf_index = ifnull(?5, conf_index),"
                                     " conf = ifnull(?6, conf) WHERE k = 1",
                                     -1, SQLITE_PREPARE_PERSISTENT, &st, NULL);
    r->st_saved = st;
    if (!rc) {
        sqlite3_clear_bindings(st);
        sqlite3_bind_int64(st, 1, (int64_t)w->index);
        sqlite3_bind_int64(st, 2, (int64_t)w->term);
        sqlite3_bind_int64(st, 3, (int64_t)w->chain);
        sqlite3_bind_int64(st, 4, (int64_t)w->state);
        if (w->conf.base) {
            sqlite3_bind_int64(st, 5, (int64_t)w->conf_index);
            sqlite3_bind_blob(st, 6, w->conf.base, (int)w->conf.len, SQLITE_STATIC);
        }
        kl_fault_crash("raft.state");
        rc = sqlite3_step(st);
    }
    int e = rc != SQLITE_DONE ? kl_sq_error(&r->sq, rc, err, "kv_raft") : 0;
    sqlite3_reset(st);
    st = NULL;
    if (e || !w->peer)
        return e;
    rc = sqlite3_prepare_v2(r->sq.db,
                            w->address[0] ? "INSERT OR REPLACE INTO kv_peer VALUES(?1,?2)"
                                          : "DELETE FROM kv_peer WHERE id = ?1 OR ?2 IS NULL",
                            -1, &st, NULL);
    if (!rc) {
        sqlite3_bind_int64(st, 1, (int64_t)w->peer);
        sqlite3_bind_text(st, 2, w->address, -1, SQLITE_STATIC);
        rc = sqlite3_step(st);
    }
    e = rc != SQLITE_DONE ? kl_sq_error(&r->sq, rc, err, "kv_peer") : 0;
    sqlite3_finalize(st);
    return e;
}

static int also(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err)
{
    struct kl_raft *r = kl_raft_of(b);
    return write_raft(r, r->writing, err);
}

void kl_raft_state_finalize(struct kl_raft *r)
{
    sqlite3_finalize(r->st_saved);
    r->st_saved = NULL;
    kl_raft_scrub_reset(r);
    kl_sq_finalize(&r->sq);
}

int kl_raft_state_open(struct kl_raft *r, struct kl_error *err)
{
    int e = kl_sq_open(&r->sq, err);
    if (!e)
        e = kl_sq_exec(&r->sq, "PRAGMA synchronous=NORMAL", err);
    if (!e)
        e = kl_sq_exec(&r->sq, schema_sql, err);
    kl_fault_crash("raft.schema");
    if (!e)
        e = kl_raft_saved_read(r->sq.db, &r->opened, err);
    if (!e)
        e = load_addresses(r, err);
    if (e)
        return e;
    r->sq.also = also;
    r->applied = r->written = r->opened.index;
    r->applied_term = r->opened.term;
    r->chain = r->opened.chain;
    r->state = r->written_state = r->opened.state;
    r->rev = r->sq.rev = r->opened.rev;
    r->conf_index = r->opened.conf_index;
    r->cluster_id = r->opened.cluster_id;
    return 0;
}

// ---- loading ----

struct summing {
    struct kl_loaded *l;
    uint64_t state;
};

static int sum_kv(void *arg, struct kl_kv *kv)
{
    struct summing *s = arg;
    s->state += kl_raft_kv_hash(kv);
    if (s->l)
        return s->l->kv(s->l->arg, kv);
    kl_kv_unref(kv);
    return 0;
}

static int sum_lease(void *arg, struct kl_lease_op op)
{
    struct summing *s = arg;
    return s->l ? s->l->lease(s->l->arg, op) : 0;
}

static int load_summing(struct kl_backend *b, struct kl_loaded *l, uint64_t *ret_state,
                        struct kl_error *err)
{
    struct summing s = {l, 0};
    struct kl_loaded mine = l ? *l : (struct kl_loaded){0};
    mine.arg = &s;
    mine.kv = sum_kv;
    mine.lease = sum_lease;
    int e = kl_sq_load(b, &mine, err);
    *ret_state = s.state;
    if (l) {
        mine.arg = l->arg;
        mine.kv = l->kv;
        mine.lease = l->lease;
        *l = mine;
    }
    return e;
}

int kl_raft_state_hash(struct kl_backend *b, uint64_t *ret, struct kl_error *err)
{
    return load_summing(b, NULL, ret, err);
}

int kl_raft_state_load(struct kl_raft *r, struct kl_loaded *l, struct kl_error *err)
{
    uint64_t state = 0;
    int e = load_summing(&r->sq, l, &state, err);
    if (e)
        return e;
    l->cluster_id = r->cluster_id;
    l->member_id = r->id;
    if (state == r->state)
        return 0;
    return kl_error_set(err, KL_ECORRUPT,
                        "datastore %s is damaged: its keys and values are not what the log wrote "
                        "(state %016llx, not %016llx)",
                        r->sq.path, (unsigned long long)state, (unsigned long long)r->state);
}

// ---- writing ----

void kl_raft_write_free(struct kl_raft_write *w)
{
    if (!w)
        return;
    kl_batch_free(w->batch);
    free(w->conf.base);
    free(w);
}

// References to the versions: the batch itself is the core's.
static struct kl_batch *copy_batch(const struct kl_batch *b)
{
    struct kl_batch *c = kl_batch_new();
    if (!c)
        return NULL;
    c->rows = calloc(b->nrows + 1, sizeof(*c->rows));
    c->leases = calloc(b->nleases + 1, sizeof(*c->leases));
    if (!c->rows || !c->leases) {
        kl_batch_free(c);
        return NULL;
    }
    for (size_t i = 0; i < b->nrows; i++) {
        c->rows[i].kv = kl_kv_ref(b->rows[i].kv);
        c->rows[i].prev = kl_kv_ref(b->rows[i].prev);
    }
    if (b->nleases)
        memcpy(c->leases, b->leases, b->nleases * sizeof(*c->leases));
    c->nrows = c->cap_rows = b->nrows;
    c->nleases = c->cap_leases = b->nleases;
    c->base_rev = b->base_rev;
    c->last_rev = b->last_rev;
    c->compact_rev = b->compact_rev;
    c->full = true; // it is applied: no rule of a full disk holds it back
    return c;
}

struct kl_raft_write *kl_raft_write_new(struct kl_raft *r, const struct kl_batch *b, uint64_t index,
                                        uint64_t term)
{
    struct kl_raft_write *w = calloc(1, sizeof(*w));
    uint64_t conf_index = 0;
    if (!w)
        return NULL;
    w->r = r;
    w->index = index;
    w->term = term;
    w->bytes = 256;
    if (b) {
        w->batch = copy_batch(b);
        if (!w->batch) {
            free(w);
            return NULL;
        }
        w->bytes += (int64_t)(b->bytes + b->nleases * 64 + b->nrows * 128);
    }
    const struct raft_buffer *conf = kl_raft_node_conf(r->node, index, &conf_index);
    if (conf && conf_index != r->conf_index) {
        w->conf.base = malloc(conf->len);
        if (!w->conf.base) {
            kl_raft_write_free(w);
            return NULL;
        }
        memcpy(w->conf.base, conf->base, conf->len);
        w->conf.len = conf->len;
        w->conf_index = conf_index;
    }
    return w;
}

int kl_raft_write_now(struct kl_raft *r, struct kl_raft_write *w, struct kl_error *err)
{
    int e = 0;
    r->writing = w;
    if (w->batch) {
        w->batch->err.msg[0] = 0;
        kl_sq_write(&r->sq, w->batch);
        e = w->batch->code;
        if (e)
            *err = w->batch->err;
    } else {
        e = kl_sq_run(&r->sq, KL_SQ_BEGIN, err);
        if (!e)
            e = write_raft(r, w, err);
        if (!e)
            e = kl_sq_run(&r->sq, KL_SQ_COMMIT, err);
        struct kl_error ignored;
        if (e && !sqlite3_get_autocommit(r->sq.db))
            kl_sq_run(&r->sq, KL_SQ_ROLLBACK, &ignored);
    }
    r->writing = NULL;
    if (!e) {
        r->written = w->index;
        r->written_state = w->state;
        if (w->batch)
            kl_raft_scrub_written(r, w->batch);
    }
    kl_fault_crash("raft.state.written");
    return e;
}

static void run_writes(struct kl_raft *r);

static void run_retry(uv_timer_t *t)
{
    run_writes(t->data);
}

static void wait_for_room(struct kl_raft *r)
{
    if (!r->retry_ready) {
        uv_timer_init(kl_loop_uv(r->sq.loop), &r->retry);
        r->retry.data = r;
        r->retry_ready = true;
    }
    atomic_store_explicit(&r->sq_low, true, memory_order_relaxed);
    uv_timer_start(&r->retry, run_retry, RETRY_MS, 0);
}

static void run_writes(struct kl_raft *r)
{
    for (struct kl_raft_write *w; (w = r->writes);) {
        struct kl_error err;
        int e = kl_raft_write_now(r, w, &err);
        if (e == KL_ENOSPC || e == KL_ENOMEM) {
            if (!atomic_load_explicit(&r->sq_low, memory_order_relaxed))
                kl_log(KL_LOG_ERROR, "raft", "behind the log: %s", err.msg);
            wait_for_room(r);
            return;
        }
        if (e) {
            kl_raft_fatal(r, &err);
            return;
        }
        r->writes = w->next;
        if (!r->writes)
            r->writes_end = &r->writes;
        if (atomic_load_explicit(&r->sq_low, memory_order_relaxed) &&
            (r->sq.reserve_fd >= 0 || !r->sq.reserve_bytes))
            atomic_store_explicit(&r->sq_low, false, memory_order_relaxed);
        int64_t was = atomic_fetch_sub_explicit(&r->lag, w->bytes, memory_order_relaxed);
        if (was >= KL_RAFT_LAG_LOW && was - w->bytes < KL_RAFT_LAG_LOW)
            kl_raft_post_done(r, NULL);
        kl_raft_write_free(w);
        kl_sq_after_commit(&r->sq);
    }
}

static void run_write(struct kl_task *t)
{
    struct kl_raft_write *w = KL_CONTAINER_OF(t, struct kl_raft_write, task);
    struct kl_raft *r = w->r;
    bool waits = r->writes != NULL;
    w->next = NULL;
    *r->writes_end = w;
    r->writes_end = &w->next;
    if (!waits)
        run_writes(r);
}

void kl_raft_write_post(struct kl_raft *r, struct kl_raft_write *w)
{
    atomic_fetch_add_explicit(&r->lag, w->bytes, memory_order_relaxed);
    w->task.run = run_write;
    kl_loop_post(r->sq.loop, &w->task);
}

// ---- filled from another store, before load ----

int kl_raft_import_begin(struct kl_backend *b, struct kl_import *im, struct kl_error *err)
{
    struct kl_raft *r = kl_raft_of(b);
    size_t n;
    kl_raft_node_members(r->node, &n);
    if (n > 1)
        return kl_error_set(err, KL_EUNSUPPORTED,
                            "datastore %s has %zu servers: a copy goes into a new directory, which "
                            "the others join afterwards",
                            r->dir, n);
    return kl_sq_import_begin(b, im, err);
}

// What is in the file is a snapshot that the log follows on: servers that join fetch it.
int kl_raft_state_snapshot(struct kl_backend *b, kl_rev rev, struct kl_error *err)
{
    struct kl_raft *r = kl_raft_of(b);
    struct kl_raft_node_state st;
    struct kl_raft_write w = {.r = r};
    uint64_t conf_index = 0;
    int e = kl_raft_state_hash(b, &w.state, err);
    kl_fault_crash("raft.import.hashed");
    kl_raft_node_state(r->node, &st);
    const struct raft_buffer *conf = kl_raft_node_conf(r->node, st.last_index, &conf_index);
    if (!e && !conf)
        e = kl_error_set(err, KL_ECORRUPT, "raft log %s has no configuration", r->dir);
    if (e)
        return e;
    w.index = st.last_index;
    w.term = st.term;
    w.chain = kl_sum64(w.state, &rev, sizeof(rev));
    w.conf = *conf;
    w.conf_index = conf_index;
    struct kl_raft_manifest m = {.index = w.index,
                                 .term = w.term,
                                 .conf_index = conf_index,
                                 .conf = malloc(conf->len),
                                 .nconf = conf->len,
                                 .data = &w.index,
                                 .ndata = sizeof(w.index)};
    if (!m.conf)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    memcpy(m.conf, conf->base, conf->len); // the node forgets its own when it begins anew
    e = kl_raft_write_now(r, &w, err);
    kl_fault_crash("raft.import.state");
    if (!e && kl_sq_checkpoint(b, false)) // the log is cut: it must be on the disk
        e = kl_error_set(err, KL_EIO, "datastore %s: checkpoint failed", b->path);
    if (!e)
        e = kl_raft_node_seed(r->node, &m, false, err);
    kl_fault_crash("raft.import.seeded");
    free(m.conf);
    if (e)
        return e;
    r->applied = w.index;
    r->applied_term = w.term;
    r->chain = w.chain;
    r->state = w.state;
    r->rev = b->rev = rev;
    r->conf_index = conf_index;
    return 0;
}

// The mark of a cut copy goes last: until then all of this is done again.
int kl_raft_import_end(struct kl_backend *b, const struct kl_import *im, struct kl_error *err)
{
    int e = kl_sq_import_revs(b, im, err);
    if (!e)
        e = kl_raft_state_snapshot(b, im->rev, err);
    if (!e)
        e = kl_sq_import_done(b, err);
    if (!e && kl_sq_checkpoint(b, false)) // a power cut must not bring the mark back
        e = kl_error_set(err, KL_EIO, "datastore %s: checkpoint failed", b->path);
    kl_fault_crash("raft.import.done");
    return e;
}
