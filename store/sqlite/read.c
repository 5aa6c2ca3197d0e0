// SPDX-License-Identifier: Apache-2.0
// History: pages of rows, ranges at an old revision, values. Bounded, on the writer's thread
// between batches, so that no reader ever holds the WAL back.
#include "store/sqlite/sqlite_int.h"
#include <stdlib.h>

enum { PREV = 8 }; // column where the previous version begins

static struct kl_kv *row_kv(struct kl_backend *b, sqlite3_stmt *st, int col)
{
    struct kl_kv *kv = kl_sq_column_kv(b, st, col);
    if (!kv || kv->deleted)
        return kv;
    kv->value = kl_bytes_new((struct kl_str){(const char *)sqlite3_column_blob(st, col + 7),
                                             (size_t)sqlite3_column_bytes(st, col + 7)});
    if (kv->value)
        return kv;
    kl_kv_unref(kv);
    return NULL;
}

// The last id that a page from revision min_rev on leaves out.
static int find_after(struct kl_backend *b, kl_rev min_rev, kl_rev *ret_after, struct kl_error *err)
{
    sqlite3_stmt *st = kl_sq_get(b, KL_SQ_ROWS_FROM, err);
    if (!st)
        return err->code;
    sqlite3_bind_int64(st, 1, min_rev);
    int rc = sqlite3_step(st);
    *ret_after = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    int r = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : kl_sq_error(b, rc, err, "history");
    sqlite3_reset(st);
    return r;
}

void kl_sq_read_rows(struct kl_backend *b, struct kl_rows_req *q)
{
    kl_rev after = q->after_id;
    q->code = q->min_rev ? find_after(b, q->min_rev, &after, &q->err) : 0;
    sqlite3_stmt *st = q->code ? NULL : kl_sq_get(b, KL_SQ_ROWS, &q->err);
    q->rows = malloc(q->max_rows * sizeof(*q->rows));
    if (!st || !q->rows) {
        q->code = q->code ? q->code : !st ? q->err.code : KL_ENOMEM;
        return;
    }
    sqlite3_bind_int64(st, 1, after);
    sqlite3_bind_int64(st, 2, (int64_t)q->max_rows);
    size_t bytes = 0;
    int rc;
    q->through = b->rev;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct kl_event e = {.kv = row_kv(b, st, 0)};
        if (e.kv && sqlite3_column_type(st, PREV) != SQLITE_NULL) {
            e.prev = row_kv(b, st, PREV);
            if (!e.prev) {
                kl_kv_unref(e.kv);
                e.kv = NULL;
            }
        }
        if (!e.kv) {
            q->code = KL_ENOMEM;
            break;
        }
        q->rows[q->nrows++] = e;
        bytes += kl_kv_value(e.kv).n + (e.prev ? kl_kv_value(e.prev).n : 0) + 512;
        if (bytes >= q->max_bytes || q->nrows == q->max_rows) {
            q->through = e.kv->id;
            break;
        }
    }
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        q->code = kl_sq_error(b, rc, &q->err, "history");
    sqlite3_reset(st);
}

static void bind_range(sqlite3_stmt *st, struct kl_str key, struct kl_str end, kl_rev rev)
{
    // A single key is the range up to itself and a NUL byte.
    bool last = end.n == 1 && end.p[0] == 0;
    sqlite3_bind_text(st, 1, key.p, (int)key.n, SQLITE_STATIC);
    sqlite3_bind_text(st, 2, end.n && !last ? end.p : "", end.n && !last ? (int)end.n : 0,
                      SQLITE_STATIC);
    sqlite3_bind_int(st, 3, last);
    sqlite3_bind_int64(st, 4, rev);
}

static int read_value(struct kl_backend *b, struct kl_kv *kv, struct kl_error *err)
{
    sqlite3_stmt *st = kl_sq_get(b, KL_SQ_VALUE, err);
    if (!st)
        return err->code;
    sqlite3_bind_int64(st, 1, kv->id);
    int rc = sqlite3_step(st), r = 0;
    if (rc == SQLITE_ROW)
        kv->value = kl_bytes_new((struct kl_str){(const char *)sqlite3_column_blob(st, 0),
                                                 (size_t)sqlite3_column_bytes(st, 0)});
    if (rc != SQLITE_ROW)
        r = rc == SQLITE_DONE ? KL_ECOMPACTED : kl_sq_error(b, rc, err, "value");
    else if (!kv->value)
        r = KL_ENOMEM;
    sqlite3_reset(st);
    return r;
}

static int add_range_kv(struct kl_backend *b, struct kl_range_req *q, sqlite3_stmt *st)
{
    struct kl_kv *kv = kl_sq_column_kv(b, st, 0);
    if (!kv)
        return KL_ENOMEM;
    int r = read_value(b, kv, &q->err);
    if (r) {
        kl_kv_unref(kv);
        return r;
    }
    q->kvs[q->nkvs++] = kv;
    return 0;
}

static void read_range(struct kl_backend *b, struct kl_range_req *q, struct kl_str end)
{
    q->code = kl_sq_names_all(b, &q->err);
    if (q->code)
        return;
    sqlite3_stmt *st = kl_sq_get(b, KL_SQ_RANGE, &q->err);
    q->kvs = calloc(q->limit + 1, sizeof(struct kl_kv *));
    if (!st || !q->kvs) {
        q->code = st ? KL_ENOMEM : q->err.code;
        return;
    }
    bind_range(st, q->key, end, q->rev);
    sqlite3_bind_int64(st, 5, (int64_t)q->limit + 1);
    int rc = SQLITE_DONE;
    size_t bytes = 0;
    while (!q->code && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (q->nkvs == q->limit || bytes >= q->max_bytes) {
            q->more = true;
            break;
        }
        q->code = add_range_kv(b, q, st);
        if (!q->code)
            bytes += kl_kv_value(q->kvs[q->nkvs - 1]).n;
    }
    if (!q->code && rc != SQLITE_ROW && rc != SQLITE_DONE)
        q->code = kl_sq_error(b, rc, &q->err, "range");
    sqlite3_reset(st);
    q->count = (int64_t)q->nkvs;
    if (q->code || !q->more || !q->want_count)
        return;
    st = kl_sq_get(b, KL_SQ_RANGE_COUNT, &q->err);
    if (!st) {
        q->code = q->err.code;
        return;
    }
    bind_range(st, q->key, end, q->rev);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        q->count = sqlite3_column_int64(st, 0);
    else
        q->code = kl_sq_error(b, rc, &q->err, "range");
    sqlite3_reset(st);
}

void kl_sq_read_range(struct kl_backend *b, struct kl_range_req *q)
{
    if (q->end.n) {
        read_range(b, q, q->end);
        return;
    }
    char *end = malloc(q->key.n + 1);
    if (!end) {
        q->code = KL_ENOMEM;
        return;
    }
    memcpy(end, q->key.p, q->key.n);
    end[q->key.n] = 0;
    read_range(b, q, (struct kl_str){end, q->key.n + 1});
    free(end);
}
