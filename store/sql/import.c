// SPDX-License-Identifier: Apache-2.0
// Filling an empty database from another store: before load, on the caller's thread, with the
// feed's connection.
#include "store/sql/sql_int.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/rand.h"

static int get(struct kl_backend *b, struct kl_sql_conn **ret_c, struct kl_error *err)
{
    return kl_sql_session_get(&b->feed, kl_mono_ms() + KL_SQL_WRITE_MS, ret_c, err);
}

static int newest(struct kl_backend *b, struct kl_sql_conn *c, kl_rev *ret_id, struct kl_error *err)
{
    return kl_sql_query_int(c, KL_SQL_IMPORT_NEWEST, NULL, 0, ret_id, NULL, err);
}

// Nobody serves it: its servers would go on from what they have in memory.
static int check_unserved(struct kl_backend *b, struct kl_sql_conn *c, int64_t now_ms,
                          struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int n = 0;
    int r = kl_sql_query(c, KL_SQL_PEERS, NULL, 0, err);
    if (r)
        return r;
    while ((r = b->d->fetch(c, v, err)) == 1)
        n += now_ms - v[3].i < KL_SQL_PEER_FRESH_MS;
    b->d->finish(c);
    return r || !n ? r
                   : kl_error_set(err, KL_EUNAVAILABLE,
                                  "datastore %s is in use by %d server%s (one that was killed "
                                  "counts for 20 s)",
                                  b->name, n, n == 1 ? "" : "s");
}

// From now on whoever began before cannot go on.
static int take_over(struct kl_backend *b, struct kl_sql_conn *c, const struct kl_sql_head *head,
                     struct kl_error *err)
{
    int64_t rows = 0;
    int r =
        kl_sql_exec(c, KL_SQL_LEAD,
                    KL_SQL_PARAMS(KL_SQL_INT(head->writer), KL_SQL_INT(head->epoch)), &rows, err);
    b->import_epoch = head->epoch + 1;
    return r || rows == 1
               ? r
               : kl_error_set(err, KL_ECONFLICT,
                              "datastore %s: another copy into it has just begun", b->name);
}

// Within a transaction: the row's lock keeps others from beginning, and what is there is ours.
static int check_ours(struct kl_backend *b, struct kl_sql_conn *c, struct kl_sql_head *ret_head,
                      struct kl_error *err)
{
    kl_rev id = 0;
    int r = kl_sql_read_head(c, true, ret_head, err);
    if (!r)
        r = newest(b, c, &id, err);
    if (!r &&
        (!ret_head->importing || ret_head->epoch != b->import_epoch || id != b->import_through))
        r = kl_error_set(err, KL_ECONFLICT,
                         "datastore %s: another copy into it was begun meanwhile", b->name);
    return r;
}

int kl_sql_import_begin(struct kl_backend *b, struct kl_import *im, struct kl_error *err)
{
    struct kl_sql_conn *c;
    struct kl_sql_head head;
    kl_rev id = 0;
    int r = get(b, &c, err);
    if (!r)
        r = kl_sql_read_head(c, false, &head, err);
    if (!r)
        r = newest(b, c, &id, err);
    if (r)
        return r;
    if (im->apart && head.cluster_id == (int64_t)im->source)
        return kl_error_set(err, KL_ECONFLICT,
                            "datastore %s is the source itself, or was copied as a database",
                            b->name);
    bool same = head.importing && head.import_source == (int64_t)im->source;
    if (same && !im->restart) {
        im->base_rev = head.import_base;
        im->through = b->import_through = id;
        return take_over(b, c, &head, err);
    }
    if (head.importing && !same && !im->force)
        return kl_error_set(err, KL_EEXISTS,
                            "datastore %s holds a part of a copy of another source", b->name);
    if (!head.importing && !im->force && (id || head.rev > 1))
        return kl_error_set(err, KL_EEXISTS, "datastore %s holds data", b->name);
    r = check_unserved(b, c, head.now_ms, err);
    if (!r)
        r = take_over(b, c, &head, err);
    if (r)
        return r;
    kl_fault_crash("sql.import.begin");
    // First the mark: whatever happens now, the store does not open half filled.
    r = kl_sql_exec(c, KL_SQL_IMPORT_BEGIN,
                    KL_SQL_PARAMS(KL_SQL_INT((int64_t)im->source), KL_SQL_INT(im->base_rev)), NULL,
                    err);
    kl_fault_crash("sql.import.marked");
    if (!r)
        r = b->d->clear(c, err);
    kl_fault_crash("sql.import.begun");
    im->through = b->import_through = 0;
    return r;
}

static int insert_all(struct kl_backend *b, struct kl_sql_conn *c, const struct kl_batch *batch,
                      struct kl_error *err)
{
    size_t max = b->d->max_insert_rows ? b->d->max_insert_rows : batch->nrows;
    int r = 0;
    for (size_t i = 0, n; !r && i < batch->nrows; i += n) {
        n = batch->nrows - i < max ? batch->nrows - i : max;
        r = b->d->insert(c, batch->rows + i, n, err);
    }
    if (!r && batch->nleases)
        r = b->d->insert_leases(c, batch->leases, batch->nleases, err);
    return r;
}

int kl_sql_import_rows(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err)
{
    struct kl_sql_conn *c;
    int r = 0;
    for (size_t i = 0; !r && i < batch->nrows; i++)
        r = kl_key_rule_check(&b->keys, kl_kv_key(batch->rows[i].kv), err);
    if (!r)
        r = get(b, &c, err);
    if (r)
        return r;
    // Deadlines come in this machine's time; load_all learns the database's only later.
    struct kl_sql_head head;
    r = b->d->begin(c, false, err);
    if (r)
        return r;
    r = check_ours(b, c, &head, err);
    if (r) {
        b->d->end(c, false, NULL);
        return r;
    }
    int64_t ahead = kl_core_options(b->core)->clock ? 0 : head.now_ms - kl_core_wall_ms(b->core);
    for (size_t i = 0; i < batch->nleases; i++)
        batch->leases[i].deadline_wall_ms += ahead;
    r = insert_all(b, c, batch, err);
    kl_fault_crash("sql.import.rows");
    int ended = b->d->end(c, !r, r ? NULL : err);
    kl_fault_crash("sql.import.stored");
    r = r ? r : ended;
    if (!r && batch->nrows)
        b->import_through = batch->rows[batch->nrows - 1].kv->id;
    for (size_t i = 0; i < batch->nleases; i++)
        batch->leases[i].deadline_wall_ms -= ahead;
    return r;
}

int kl_sql_import_end(struct kl_backend *b, const struct kl_import *im, struct kl_error *err)
{
    struct kl_sql_conn *c;
    struct kl_sql_head head;
    int r = get(b, &c, err);
    if (!r)
        r = b->d->begin(c, false, err);
    if (r)
        return r;
    int64_t history = (int64_t)(kl_rand_u64() >> 1 | 1), chain = (int64_t)(kl_rand_u64() >> 1);
    kl_fault_crash("sql.import.end");
    r = check_ours(b, c, &head, err);
    if (!r)
        r = kl_sql_exec(c, KL_SQL_IMPORT_END,
                        KL_SQL_PARAMS(KL_SQL_INT(im->rev), KL_SQL_INT(im->compact_rev),
                                      KL_SQL_INT(history), KL_SQL_INT(chain)),
                        NULL, err);
    int ended = b->d->end(c, !r, r ? NULL : err);
    kl_fault_crash("sql.import.ended");
    return r ? r : ended;
}
