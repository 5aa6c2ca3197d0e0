// SPDX-License-Identifier: Apache-2.0
// kv_name, the table of names: which versions each key has, without values, so that opening reads
// no history and an old revision is read by key. A row's entry goes there some thousand rows later,
// in the order of names: so a page of it is written once for many rows instead of once for each.
// What is not there yet is in memory, and after kv_meta.indexed_rev in the file.
#include "store/sqlite/sqlite_int.h"
#include "base/clock.h"
#include "base/fault.h"
#include <stdlib.h>

enum {
    COLLECT = 4096, // entries in memory before they are stored, while as many more may come
    STORE_MIN = 32, // with a batch: this many and twice as many as it has rows
};

// ---- in memory ----

static int push(struct kl_sq_names *l, struct kl_sq_name *e)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        struct kl_sq_name **p = realloc(l->e, cap * sizeof(struct kl_sq_name *));
        if (!p)
            return KL_ENOMEM;
        l->e = p;
        l->cap = cap;
    }
    l->e[l->n++] = e;
    return 0;
}

static struct kl_sq_name *new_name(const void *key, size_t n)
{
    struct kl_sq_name *e = malloc(sizeof(*e) + n);
    if (!e)
        return NULL;
    *e = (struct kl_sq_name){.key_len = (uint32_t)n};
    if (n)
        memcpy(e->key, key, n);
    return e;
}

static void cut(struct kl_sq_names *l, size_t n)
{
    while (l->n > n)
        free(l->e[--l->n]);
}

static void fini(struct kl_sq_names *l)
{
    cut(l, 0);
    free(l->e);
    *l = (struct kl_sq_names){0};
}

static int cmp_name(const void *a, const void *b)
{
    const struct kl_sq_name *x = *(struct kl_sq_name *const *)a,
                            *y = *(struct kl_sq_name *const *)b;
    int r = kl_str_cmp((struct kl_str){x->key, x->key_len}, (struct kl_str){y->key, y->key_len});
    return r ? r : (x->id < y->id) - (x->id > y->id);
}

static void fill_name(struct kl_sq_name *e, const struct kl_row *row)
{
    const struct kl_kv *kv = row->kv, *prev = row->prev;
    e->id = kv->id;
    e->deleted = kv->deleted;
    e->create_rev = kv->deleted && prev ? prev->create_rev : kv->create_rev;
    e->version = kv->version;
    e->lease = kv->lease;
    e->txn_rev = kv->mod_rev == kv->id ? 0 : kv->mod_rev;
}

int kl_sq_names_add(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err)
{
    for (size_t i = 0; i < batch->nrows; i++) {
        const struct kl_kv *kv = batch->rows[i].kv;
        struct kl_sq_name *e = new_name(kv->key, kv->key_len);
        if (!e || push(&b->fresh, e)) {
            free(e);
            return kl_error_set(err, KL_ENOMEM, "out of memory");
        }
        fill_name(e, &batch->rows[i]);
    }
    return 0;
}

void kl_sq_names_undo(struct kl_backend *b, size_t n)
{
    cut(&b->fresh, n);
    b->storing = 0;
}

// What was written after the last entries were stored.
int kl_sq_names_open(struct kl_backend *b, struct kl_error *err)
{
    sqlite3_stmt *st = NULL;
    int r = kl_sq_query_int(b, "SELECT indexed_rev FROM kv_meta WHERE k = 1", &b->indexed, err);
    if (r)
        return r;
    int rc = sqlite3_prepare_v2(b->db,
                                "SELECT name, id, deleted, create_revision, version, lease_id,"
                                " txn_rev FROM kine WHERE id > ? AND name IS NOT NULL ORDER BY id",
                                -1, &st, NULL);
    if (!rc)
        sqlite3_bind_int64(st, 1, b->indexed);
    while (!rc && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const void *key = sqlite3_column_blob(st, 0);
        struct kl_sq_name *e = new_name(key, (size_t)sqlite3_column_bytes(st, 0));
        rc = e && !push(&b->fresh, e) ? SQLITE_OK : SQLITE_NOMEM;
        if (rc) {
            free(e);
            break;
        }
        e->id = sqlite3_column_int64(st, 1);
        e->deleted = sqlite3_column_int(st, 2) != 0;
        e->create_rev = sqlite3_column_int64(st, 3);
        e->version = sqlite3_column_int64(st, 4);
        e->lease = sqlite3_column_int64(st, 5);
        e->txn_rev = sqlite3_column_int64(st, 6);
    }
    r = rc == SQLITE_DONE ? 0 : kl_sq_error(b, rc, err, "load");
    sqlite3_finalize(st);
    return r;
}

void kl_sq_names_fini(struct kl_backend *b)
{
    fini(&b->fresh);
    fini(&b->sorted);
    free(b->sweep.name);
    b->sweep = (struct kl_sq_sweep){0};
    b->storing = b->stored = 0;
    b->indexed = b->entries = b->stale = 0;
}

int kl_sq_names_newest(struct kl_backend *b, struct kl_sq_names *ret, struct kl_error *err)
{
    struct kl_sq_names l = {0};
    for (size_t i = 0; i < b->sorted.n + b->fresh.n; i++) {
        if (push(&l, i < b->sorted.n ? b->sorted.e[i] : b->fresh.e[i - b->sorted.n])) {
            free(l.e);
            return kl_error_set(err, KL_ENOMEM, "out of memory");
        }
    }
    if (l.n)
        qsort(l.e, l.n, sizeof(struct kl_sq_name *), cmp_name);
    size_t n = 0;
    for (size_t i = 0; i < l.n; i++) {
        const struct kl_sq_name *last = n ? l.e[n - 1] : NULL;
        if (!last || last->key_len != l.e[i]->key_len ||
            memcmp(last->key, l.e[i]->key, last->key_len) != 0)
            l.e[n++] = l.e[i];
    }
    l.n = n;
    *ret = l;
    return 0;
}

// ---- storing ----

static int store_one(struct kl_backend *b, const struct kl_sq_name *e, struct kl_error *err)
{
    sqlite3_stmt *st = kl_sq_get(b, KL_SQ_NAME_PUT, err);
    if (!st)
        return err->code;
    sqlite3_bind_text(st, 1, e->key, (int)e->key_len, SQLITE_STATIC);
    sqlite3_bind_int64(st, 2, e->id);
    sqlite3_bind_int(st, 3, e->deleted);
    sqlite3_bind_int64(st, 4, e->create_rev);
    sqlite3_bind_int64(st, 5, e->version);
    if (e->lease)
        sqlite3_bind_int64(st, 6, e->lease);
    else
        sqlite3_bind_null(st, 6);
    if (e->txn_rev)
        sqlite3_bind_int64(st, 7, e->txn_rev);
    else
        sqlite3_bind_null(st, 7);
    kl_fault_crash("sqlite.name");
    return kl_sq_run(b, KL_SQ_NAME_PUT, err);
}

static void begin_storing(struct kl_backend *b)
{
    struct kl_sq_names empty = b->sorted;
    b->sorted = b->fresh;
    b->fresh = empty;
    b->stored = 0;
    b->sorted_through = b->rev; // every row up to here is in it
    qsort(b->sorted.e, b->sorted.n, sizeof(struct kl_sq_name *), cmp_name);
}

// In a transaction.
static int store_some(struct kl_backend *b, size_t most, struct kl_error *err)
{
    size_t left = b->sorted.n - b->stored, n = most < left ? most : left;
    for (size_t i = 0; i < n; i++) {
        int r = store_one(b, b->sorted.e[b->stored + i], err);
        if (r)
            return r;
    }
    b->storing = n;
    if (!n || n < left)
        return 0;
    return kl_sq_names_mark(b, b->sorted_through, err);
}

int kl_sq_names_mark(struct kl_backend *b, kl_rev rev, struct kl_error *err)
{
    sqlite3_stmt *st = kl_sq_get(b, KL_SQ_INDEXED, err);
    if (!st)
        return err->code;
    sqlite3_bind_int64(st, 1, rev);
    return kl_sq_run(b, KL_SQ_INDEXED, err);
}

void kl_sq_names_committed(struct kl_backend *b)
{
    b->stored += b->storing;
    b->entries += (int64_t)b->storing;
    b->storing = 0;
    if (!b->sorted.n || b->stored < b->sorted.n)
        return;
    cut(&b->sorted, 0);
    b->stored = 0;
    b->indexed = b->sorted_through;
}

int kl_sq_names_store(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err)
{
    // This batch's own entries are not durable: they are no part of what is sorted now.
    size_t before = b->fresh.n - batch->nrows;
    bool full = kl_sq_is_full(b); // nothing grows that need not
    if (b->sorted.n)
        return store_some(b, STORE_MIN + 2 * batch->nrows, err);
    b->sort_next = before >= COLLECT && (!full || before >= 8 * (size_t)COLLECT);
    return 0;
}

// After a batch, or when nothing is under way.
void kl_sq_names_turn(struct kl_backend *b)
{
    if (b->sort_next && !b->sorted.n)
        begin_storing(b);
    b->sort_next = false;
}

int kl_sq_names_step(struct kl_backend *b, int64_t until_ns, struct kl_error *err)
{
    if (!b->sorted.n && b->fresh.n)
        begin_storing(b);
    int r = kl_sq_wal_room(b, err);
    if (!r)
        r = kl_sq_run(b, KL_SQ_BEGIN, err);
    size_t storing = 0;
    while (!r && b->stored + storing < b->sorted.n) {
        b->stored += storing; // as if, until it is committed
        r = store_some(b, STORE_MIN, err);
        b->stored -= storing;
        storing += b->storing;
        if (kl_mono_ns() >= until_ns)
            break;
    }
    if (!r && !b->sorted.n && b->indexed < b->rev) // revisions without rows
        r = kl_sq_names_mark(b, b->rev, err);
    kl_fault_crash("sqlite.names");
    if (!r)
        r = kl_sq_run(b, KL_SQ_COMMIT, err);
    if (r) {
        struct kl_error ignored;
        b->storing = 0;
        if (!sqlite3_get_autocommit(b->db))
            kl_sq_run(b, KL_SQ_ROLLBACK, &ignored);
        return r;
    }
    if (!b->sorted.n)
        b->indexed = b->rev;
    b->storing = storing;
    kl_sq_names_committed(b);
    kl_sq_after_commit(b);
    return 0;
}

int kl_sq_names_all(struct kl_backend *b, struct kl_error *err)
{
    int r = 0;
    while (!r && (b->sorted.n || b->fresh.n))
        r = kl_sq_names_step(b, INT64_MAX, err);
    return r;
}

// Rows that are stored in an order of their own: each at once, with its entry.
int kl_sq_names_put(struct kl_backend *b, const struct kl_batch *batch, struct kl_error *err)
{
    int r = kl_sq_names_add(b, batch, err);
    for (size_t i = 0; !r && i < b->fresh.n; i++)
        r = store_one(b, b->fresh.e[i], err);
    if (!r && batch->nrows)
        r = kl_sq_names_mark(b, batch->rows[batch->nrows - 1].kv->id, err);
    kl_sq_names_undo(b, 0);
    return r;
}

// Rows went whose entries stay for now: they are never what is asked for.
void kl_sq_names_died(struct kl_backend *b, int64_t n)
{
    b->stale += n;
}
