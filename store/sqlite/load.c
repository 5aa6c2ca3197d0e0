// SPDX-License-Identifier: Apache-2.0
// What the core is told when it opens: revisions, leases, the newest version of each key.
#include "store/sqlite/sqlite_int.h"
#include "store/lease.h"
#include <stdlib.h>

enum { WALK_OVER = 64 }; // rows, when values are loaded in their order

struct kl_kv *kl_sq_column_kv(struct kl_backend *b, sqlite3_stmt *st, int col)
{
    // etcd's keys are bytes: their lengths count, not where a NUL stands.
    struct kl_str key = {(const char *)sqlite3_column_blob(st, col + 1),
                         (size_t)sqlite3_column_bytes(st, col + 1)};
    struct kl_kv *kv = kl_kv_new(key, NULL);
    if (!kv)
        return NULL;
    kv->hooks = kl_core_hooks(b->core);
    kv->id = sqlite3_column_int64(st, col);
    kv->deleted = sqlite3_column_int(st, col + 2) != 0;
    kv->mod_rev = sqlite3_column_type(st, col + 6) == SQLITE_NULL
                      ? kv->id
                      : sqlite3_column_int64(st, col + 6);
    if (kv->deleted)
        return kv;
    kv->create_rev = sqlite3_column_int64(st, col + 3);
    kv->version = sqlite3_column_int64(st, col + 4);
    kv->lease = sqlite3_column_int64(st, col + 5);
    return kv;
}

struct loading {
    struct kl_kv **kvs; // by name
    size_t n, cap;
};

static int add_loading(struct loading *ld, struct kl_kv *kv)
{
    if (ld->n == ld->cap) {
        size_t cap = ld->cap ? ld->cap * 2 : 1024;
        struct kl_kv **p = realloc(ld->kvs, cap * sizeof(struct kl_kv *));
        if (!p)
            return KL_ENOMEM;
        ld->kvs = p;
        ld->cap = cap;
    }
    ld->kvs[ld->n++] = kv;
    return 0;
}

static int cmp_id(const void *a, const void *b)
{
    const struct kl_kv *x = *(struct kl_kv *const *)a, *y = *(struct kl_kv *const *)b;
    return (x->id > y->id) - (x->id < y->id);
}

// The values in the order in which they lie in the file: a look-up for each in the order of names
// takes three times as long. Where much lies between two of them, it is not walked over.
static int load_values(struct kl_backend *b, struct kl_kv **kvs, size_t n, struct kl_error *err)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(b->db, "SELECT id, value FROM kine WHERE id >= ? ORDER BY id", -1,
                                &st, NULL);
    int r = rc ? kl_sq_error(b, rc, err, "load") : 0;
    kl_rev at = 0; // the row that the statement stands on; 0: none
    for (size_t i = 0; !r && i < n; i++) {
        if (!at || kvs[i]->id > at + WALK_OVER) {
            sqlite3_reset(st);
            sqlite3_bind_int64(st, 1, kvs[i]->id);
            at = 0;
        }
        while (at < kvs[i]->id && (rc = sqlite3_step(st)) == SQLITE_ROW)
            at = sqlite3_column_int64(st, 0);
        if (rc != SQLITE_ROW || at != kvs[i]->id) {
            r = kl_sq_error(b, rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_CORRUPT : rc, err,
                            "load");
            break;
        }
        kvs[i]->value = kl_bytes_new((struct kl_str){(const char *)sqlite3_column_blob(st, 1),
                                                     (size_t)sqlite3_column_bytes(st, 1)});
        if (!kvs[i]->value)
            r = kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    sqlite3_finalize(st);
    return r;
}

// What is not in the table yet is in memory; deletions are left out.
static int add_fresh(struct kl_backend *b, struct loading *ld, const struct kl_sq_name *e)
{
    if (e->deleted)
        return 0;
    struct kl_kv *kv = kl_kv_new((struct kl_str){e->key, e->key_len}, NULL);
    if (!kv || add_loading(ld, kv)) {
        kl_kv_unref(kv);
        return KL_ENOMEM;
    }
    kv->hooks = kl_core_hooks(b->core);
    kv->id = e->id;
    kv->mod_rev = e->txn_rev ? e->txn_rev : e->id;
    kv->create_rev = e->create_rev;
    kv->version = e->version;
    kv->lease = e->lease;
    return 0;
}

// One key of the table, and what of `fresh`, which is in the order of names too, comes before it or
// takes its place.
static int add_indexed(struct kl_backend *b, struct loading *ld, sqlite3_stmt *st,
                       const struct kl_sq_names *fresh, size_t *at)
{
    struct kl_kv *kv = kl_sq_column_kv(b, st, 0);
    int order = 1, r = kv ? 0 : KL_ENOMEM;
    for (; !r && *at < fresh->n && order > 0; *at += order >= 0) {
        const struct kl_sq_name *e = fresh->e[*at];
        order =
            kl_str_cmp((struct kl_str){kv->key, kv->key_len}, (struct kl_str){e->key, e->key_len});
        if (order >= 0)
            r = add_fresh(b, ld, e);
    }
    if (r || order == 0 || kv->deleted || add_loading(ld, kv)) {
        r = r || order == 0 || kv->deleted ? r : KL_ENOMEM;
        kl_kv_unref(kv);
    }
    return r;
}

static int load_index(struct kl_backend *b, struct loading *ld, struct kl_error *err)
{
    sqlite3_stmt *st = NULL;
    struct kl_sq_names fresh = {0};
    size_t at = 0;
    int r = kl_sq_names_newest(b, &fresh, err);
    if (r)
        return r;
    // One scan in order: no row of the log is touched.
    int rc = sqlite3_prepare_v2(b->db,
                                "SELECT MAX(id), name, deleted, create_revision, version, lease_id,"
                                " txn_rev, COUNT(*) FROM kv_name GROUP BY name ORDER BY name",
                                -1, &st, NULL);
    r = rc ? kl_sq_error(b, rc, err, "load") : 0;
    b->entries = b->stale = 0;
    while (!r && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        b->entries += sqlite3_column_int64(st, 7);
        b->stale += sqlite3_column_int64(st, 7) - 1;
        if (add_indexed(b, ld, st, &fresh, &at))
            r = kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    if (!r && rc != SQLITE_DONE)
        r = kl_sq_error(b, rc, err, "load");
    for (; !r && at < fresh.n; at++) {
        if (add_fresh(b, ld, fresh.e[at]))
            r = kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    // What is not compacted yet is not dead.
    int64_t history = b->rev - b->physical;
    b->stale = b->stale > history ? b->stale - history : 0;
    sqlite3_finalize(st);
    free(fresh.e);
    return r;
}

static int load_keys(struct kl_backend *b, struct kl_loaded *l, struct kl_error *err)
{
    struct loading ld = {0};
    int r = load_index(b, &ld, err);
    struct kl_kv **by_id = r || !ld.n ? NULL : malloc(ld.n * sizeof(struct kl_kv *));
    if (by_id) {
        memcpy(by_id, ld.kvs, ld.n * sizeof(struct kl_kv *));
        qsort(by_id, ld.n, sizeof(struct kl_kv *), cmp_id);
        r = load_values(b, by_id, ld.n, err);
    } else if (!r && ld.n) {
        r = kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    free(by_id);
    for (size_t i = 0; i < ld.n; i++) {
        if (r)
            kl_kv_unref(ld.kvs[i]);
        else if (l->kv(l->arg, ld.kvs[i]))
            r = kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    free(ld.kvs);
    return r;
}

static int load_leases(struct kl_backend *b, struct kl_loaded *l, struct kl_error *err)
{
    sqlite3_stmt *st = NULL;
    int rc =
        sqlite3_prepare_v2(b->db, "SELECT id, ttl_ms, deadline_ms FROM kv_lease", -1, &st, NULL);
    int r = rc ? kl_sq_error(b, rc, err, "load leases") : 0;
    while (!r && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct kl_lease_op op = {sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1),
                                 sqlite3_column_int64(st, 2)};
        if (op.ttl_ms <= 0 || op.ttl_ms > KL_LEASE_MAX_STORED_MS)
            r = kl_error_set(err, KL_ECORRUPT, "datastore %s is damaged: lease %llx lasts %lld ms",
                             b->path, (unsigned long long)op.id, (long long)op.ttl_ms);
        else if (l->lease(l->arg, op))
            r = kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    if (!r && rc != SQLITE_DONE)
        r = kl_sq_error(b, rc, err, "load leases");
    sqlite3_finalize(st);
    return r;
}

int kl_sq_load(struct kl_backend *b, struct kl_loaded *l, struct kl_error *err)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(b->db,
                                "SELECT rev, compact_rev, physical_rev, cluster_id, member_id,"
                                " (SELECT MAX(id) FROM kine) FROM kv_meta WHERE k = 1",
                                -1, &st, NULL);
    kl_rev newest = 0;
    if (!rc && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        b->rev = l->rev = sqlite3_column_int64(st, 0);
        l->compact_rev = sqlite3_column_int64(st, 1);
        b->physical = l->physical_rev = sqlite3_column_int64(st, 2);
        l->cluster_id = (uint64_t)sqlite3_column_int64(st, 3);
        l->member_id = (uint64_t)sqlite3_column_int64(st, 4);
        newest = sqlite3_column_int64(st, 5);
        rc = 0;
    } else if (rc == SQLITE_DONE) {
        rc = SQLITE_CORRUPT;
    }
    int r = rc ? kl_sq_error(b, rc, err, "kv_meta") : kl_sq_import_refuse(b, err);
    sqlite3_finalize(st);
    if (!r && (l->rev < 1 || l->rev > INT64_MAX / 2 || newest > l->rev || l->compact_rev < 0 ||
               l->compact_rev > l->rev || l->physical_rev < 0 || l->physical_rev > l->compact_rev ||
               b->indexed < 0 || b->indexed > l->rev))
        r = kl_error_set(err, KL_ECORRUPT,
                         "datastore %s is damaged: revision %lld, newest row %lld, compacted to "
                         "%lld and %lld",
                         b->path, (long long)l->rev, (long long)newest, (long long)l->compact_rev,
                         (long long)l->physical_rev);
    if (!r)
        r = load_leases(b, l, err); // before the keys that hang on them
    if (!r)
        r = load_keys(b, l, err);
    kl_sq_update_sizes(b);
    return r;
}
