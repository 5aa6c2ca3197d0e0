// SPDX-License-Identifier: Apache-2.0
// Opening the database, loading what it holds, and one history for all again after it was set
// back.
#include "store/sql/sql_int.h"
#include "store/lease.h"
#include "store/transfer/kine.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/rand.h"
#include <stdlib.h>

static int64_t random_id(void)
{
    return (int64_t)(kl_rand_u64() >> 1 | 1);
}

// ---- opening ----

enum { CREATE_TRIES = 20, CREATE_PAUSE_MS = 100 };

static bool may_create(const struct kl_backend *b)
{
    return !b->read_only || kl_core_options(b->core)->create;
}

static int connect_first(struct kl_backend *b, struct kl_sql_conn **ret_c, struct kl_error *err)
{
    int r = b->d->connect(&b->ep, KL_SQL_READ_CALL_MS, ret_c, err);
    for (int i = 0; r == KL_ENOTFOUND && may_create(b) && i < CREATE_TRIES; i++) {
        r = b->d->create_database(&b->ep, err);
        if (r == KL_EAGAIN) { // another server creates one at this moment
            kl_sql_pause(b, kl_mono_ms() + CREATE_PAUSE_MS);
            r = KL_ENOTFOUND;
            continue;
        }
        if (!r) {
            kl_log(KL_LOG_INFO, "store", "datastore %s: created", b->name);
            r = b->d->connect(&b->ep, KL_SQL_READ_CALL_MS, ret_c, err);
        }
    }
    return r;
}

static int check_tables(struct kl_backend *b, struct kl_sql_conn *c, struct kl_error *err)
{
    enum kl_sql_tables t;
    int r = b->d->inspect(c, &t, err);
    if (r)
        return r;
    switch (t) {
    case KL_SQL_TABLES_OURS:
        return 0;
    case KL_SQL_TABLES_KINE:
        return kl_kine_take_over_sql(b->d, &b->ep, kl_core_options(b->core), err);
    case KL_SQL_TABLES_OTHER:
        return kl_error_set(err, KL_EUNSUPPORTED,
                            "datastore %s has tables kine or kv_meta of something else", b->name);
    case KL_SQL_TABLES_NONE:
        break;
    }
    if (!may_create(b))
        return kl_error_set(err, KL_ENOTFOUND, "datastore %s is empty", b->name);
    struct kl_sql_new n = {KL_SQL_FORMAT, random_id(), random_id()};
    r = b->d->create_tables(c, &n, err);
    if (r == KL_EFORBIDDEN)
        kl_error_wrap(err, "the tables cannot be created");
    return r;
}

static int check_format(struct kl_backend *b, struct kl_sql_conn *c, struct kl_error *err)
{
    struct kl_sql_head head;
    int r = kl_sql_read_head(c, false, &head, err);
    if (!r && head.format_min > KL_SQL_FORMAT)
        r = kl_error_set(err, KL_EUNSUPPORTED,
                         "datastore %s has format %lld; this version of kinglet reads up to %d",
                         b->name, (long long)head.format_min, KL_SQL_FORMAT);
    return r;
}

int kl_sql_open_tables(struct kl_backend *b, struct kl_error *err)
{
    struct kl_sql_conn *c;
    int r = connect_first(b, &c, err);
    if (r)
        return r;
    r = check_tables(b, c, err);
    if (!r)
        r = b->d->prepare(c, err);
    if (!r)
        r = check_format(b, c, err);
    if (r) {
        b->d->close(c);
        return r;
    }
    b->feed.conn = c;
    b->keys = c->keys;
    return 0;
}

// ---- everything, from one snapshot ----

static int nomem(struct kl_error *err)
{
    return kl_error_set(err, KL_ENOMEM, "out of memory");
}

static int load_leases(struct kl_backend *b, struct kl_sql_conn *c, struct kl_loaded *l,
                       struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int r = kl_sql_query(c, KL_SQL_LEASES, NULL, 0, err);
    if (r)
        return r;
    while ((r = b->d->fetch(c, v, err)) == 1) {
        struct kl_lease_op op = {.id = v[0].i, .ttl_ms = v[1].i};
        op.deadline_wall_ms = kl_sql_deadline_from_db(b, v[2].i);
        if (op.ttl_ms <= 0 || op.ttl_ms > KL_LEASE_MAX_STORED_MS)
            r = kl_error_set(err, KL_ECORRUPT, "datastore %s is damaged: lease %llx lasts %lld ms",
                             b->name, (unsigned long long)op.id, (long long)op.ttl_ms);
        else if (l->lease(l->arg, op))
            r = nomem(err);
        if (r < 0)
            break;
    }
    b->d->finish(c);
    return r;
}

// The leases first, for the keys that hang on them.
static int load_all(struct kl_backend *b, struct kl_sql_conn *c, struct kl_sql_head *head,
                    struct kl_loaded *l, struct kl_error *err)
{
    int r = b->d->begin(c, true, err);
    if (r)
        return r;
    r = kl_sql_read_head(c, false, head, err);
    if (!r && head->importing)
        r = kl_error_set(err, KL_EUNAVAILABLE,
                         "datastore %s: a copy into it was cut and must be finished first",
                         b->name);
    if (!r) {
        kl_sql_set_clock(b, head);
        atomic_store(&b->epoch, head->epoch);
        r = kl_sql_look_first(b, c, err);
    }
    if (!r)
        r = load_leases(b, c, l, err);
    if (!r)
        r = kl_sql_load_live(b, c, l, err);
    int ended = b->d->end(c, !r, r ? NULL : err);
    return r ? r : ended;
}

static struct kl_sql_pos head_pos(const struct kl_sql_head *h)
{
    return (struct kl_sql_pos){h->history_id, h->seq, h->chain, h->rev};
}

static void set_pos(struct kl_backend *b, struct kl_sql_pos pos)
{
    b->at = b->fed = pos;
    pthread_mutex_lock(&b->mu);
    b->shared_at = pos;
    if (b->seen_rev < pos.rev)
        b->seen_rev = pos.rev;
    pthread_mutex_unlock(&b->mu);
}

int kl_sql_load(struct kl_backend *b, struct kl_loaded *l, struct kl_error *err)
{
    struct kl_sql_head head;
    struct kl_sql_conn *c;
    int r = kl_sql_session_get(&b->feed, kl_mono_ms(), &c, err);
    if (!r)
        r = load_all(b, c, &head, l, err);
    if (r)
        return r;
    l->rev = head.rev;
    l->compact_rev = head.compact_rev;
    l->physical_rev = head.physical_rev;
    l->cluster_id = (uint64_t)head.cluster_id;
    l->member_id = (uint64_t)b->id;
    set_pos(b, head_pos(&head));
    return 0;
}

// ---- the same into memory, for the core to take on its own loop ----

static int state_kv(void *arg, struct kl_kv *kv)
{
    struct kl_sql_state *st = arg;
    if (st->nkvs == st->cap_kvs) {
        size_t cap = st->cap_kvs ? st->cap_kvs * 2 : 1024;
        struct kl_kv **p = realloc(st->kvs, cap * sizeof(struct kl_kv *));
        if (!p) {
            kl_kv_unref(kv);
            return KL_ENOMEM;
        }
        st->kvs = p;
        st->cap_kvs = cap;
    }
    st->kvs[st->nkvs++] = kv;
    return 0;
}

static int state_lease(void *arg, struct kl_lease_op op)
{
    struct kl_sql_state *st = arg;
    if (st->nleases == st->cap_leases) {
        size_t cap = st->cap_leases ? st->cap_leases * 2 : 64;
        struct kl_lease_op *p = realloc(st->leases, cap * sizeof(*p));
        if (!p)
            return KL_ENOMEM;
        st->leases = p;
        st->cap_leases = cap;
    }
    st->leases[st->nleases++] = op;
    return 0;
}

void kl_sql_state_free(struct kl_sql_state *st)
{
    if (!st)
        return;
    for (size_t i = st->given; i < st->nkvs; i++)
        kl_kv_unref(st->kvs[i]);
    free(st->kvs);
    free(st->leases);
    free(st);
}

int kl_sql_read_state(struct kl_backend *b, struct kl_sql_conn *c, struct kl_sql_state **ret_st,
                      struct kl_error *err)
{
    struct kl_sql_state *st = calloc(1, sizeof(*st));
    if (!st)
        return nomem(err);
    struct kl_loaded l = {.arg = st, .kv = state_kv, .lease = state_lease};
    struct kl_sql_head head;
    st->backend = b;
    int r = load_all(b, c, &head, &l, err);
    if (r) {
        kl_sql_state_free(st);
        return r;
    }
    st->pos = head_pos(&head);
    st->compact_rev = head.compact_rev;
    st->physical_rev = head.physical_rev;
    *ret_st = st;
    return 0;
}

int kl_sql_give_state(void *arg, struct kl_loaded *l)
{
    struct kl_sql_state *st = arg;
    l->rev = st->pos.rev;
    l->compact_rev = st->compact_rev;
    l->physical_rev = st->physical_rev;
    l->continues = st->continues;
    for (size_t i = 0; i < st->nleases; i++) {
        if (l->lease(l->arg, st->leases[i]))
            return KL_ENOMEM;
    }
    while (st->given < st->nkvs) {
        if (l->kv(l->arg, st->kvs[st->given++]))
            return KL_ENOMEM;
    }
    return 0;
}

// ---- the guard against a log that goes on from an older place ----

static int new_history(struct kl_backend *b, struct kl_sql_conn *c, kl_rev seen,
                       const struct kl_sql_head *head, struct kl_error *err)
{
    kl_rev rev = (head->rev > seen ? head->rev : seen) + KL_SQL_JUMP;
    kl_log(KL_LOG_ERROR, "store",
           "datastore %s was set back: its revision is %lld, %lld was seen; goes on at %lld",
           b->name, (long long)head->rev, (long long)seen, (long long)rev);
    return kl_sql_exec(
        c, KL_SQL_NEW_HISTORY,
        KL_SQL_PARAMS(KL_SQL_INT(random_id()), KL_SQL_INT(rev), KL_SQL_INT(random_id())), NULL,
        err);
}

// Whether the log of head is the one of which this server has seen `fed`.
int kl_sql_same_log(struct kl_backend *b, struct kl_sql_conn *c, const struct kl_sql_head *head,
                    bool *ret_same, struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    pthread_mutex_lock(&b->mu);
    struct kl_sql_pos p = b->fed;
    if (b->shared_at.seq > p.seq && b->shared_at.history_id == p.history_id)
        p = b->shared_at;
    if (b->own_seq > p.seq) {
        p.seq = b->own_seq;
        p.chain = b->own_chain;
    }
    pthread_mutex_unlock(&b->mu);
    *ret_same = false;
    if (head->history_id != p.history_id || head->seq < p.seq)
        return 0;
    if (head->seq == p.seq) {
        *ret_same = head->chain == p.chain;
        return 0;
    }
    int r = kl_sql_query(c, KL_SQL_BATCH, KL_SQL_PARAMS(KL_SQL_INT(p.seq)), err);
    if (r)
        return r;
    r = b->d->fetch(c, v, err);
    // One that is gone already is no proof of another log; batch 0 never was.
    *ret_same = r == 0 || (r == 1 && v[2].i == p.chain);
    b->d->finish(c);
    return r < 0 ? r : 0;
}

int kl_sql_settle_history(struct kl_backend *b, struct kl_sql_conn *c, bool force,
                          struct kl_error *err)
{
    struct kl_sql_head head = {0};
    bool same = false;
    pthread_mutex_lock(&b->mu);
    kl_rev seen = b->seen_rev;
    pthread_mutex_unlock(&b->mu);
    int r = b->d->begin(c, false, err);
    if (r)
        return r;
    r = kl_sql_read_head(c, true, &head, err);
    if (!r)
        r = kl_sql_same_log(b, c, &head, &same, err);
    // Another server may have settled it; but it may not have seen as much.
    bool settled = head.history_id != b->fed.history_id && head.rev > seen;
    if (!r && (force || !same) && !settled)
        r = new_history(b, c, seen, &head, err);
    kl_fault_crash("sql.history");
    int ended = b->d->end(c, !r, r ? NULL : err);
    kl_fault_crash("sql.history.switched");
    return r ? r : ended;
}
