// SPDX-License-Identifier: Apache-2.0
// History on the reader's thread: pages of rows, ranges at an old revision, values. A connection
// that breaks is replaced, and the read begins again.
#include "store/sql/sql_int.h"
#include "base/clock.h"
#include <stdlib.h>

enum { ROW_BYTES_FIRST = 1024, ROW_BYTES_SLACK = 16 };

// A query asks for about as much as will be taken: what comes beyond it is thrown away.
static size_t row_limit(const struct kl_backend *b, size_t max_rows, size_t max_bytes)
{
    size_t mean = b->row_bytes ? b->row_bytes : ROW_BYTES_FIRST;
    size_t n = max_bytes / mean + ROW_BYTES_SLACK;
    return n < max_rows ? n : max_rows;
}

static void learn_row_bytes(struct kl_backend *b, size_t bytes, size_t n)
{
    if (n)
        b->row_bytes = (3 * (b->row_bytes ? b->row_bytes : ROW_BYTES_FIRST) + bytes / n) / 4 + 1;
}

// ---- history ----

static void drop_rows(struct kl_rows_req *q)
{
    for (size_t i = 0; i < q->nrows; i++) {
        kl_kv_unref(q->rows[i].kv);
        kl_kv_unref(q->rows[i].prev);
    }
    free(q->rows);
    q->rows = NULL;
    q->nrows = 0;
}

static int take_row(struct kl_backend *b, struct kl_rows_req *q, const struct kl_sql_value *v,
                    size_t *bytes)
{
    struct kl_event e = {.kv = kl_sql_kv(b, v)};
    const struct kl_sql_value *p = v + KL_SQL_KV_COLUMNS;
    if (e.kv && p[0].type != KL_SQL_NULL && !(e.prev = kl_sql_kv(b, p))) {
        kl_kv_unref(e.kv);
        return KL_ENOMEM;
    }
    if (!e.kv)
        return KL_ENOMEM;
    q->rows[q->nrows++] = e;
    *bytes += kl_kv_value(e.kv).n + (e.prev ? kl_kv_value(e.prev).n : 0) + 512;
    return 0;
}

static int read_rows(struct kl_backend *b, struct kl_sql_conn *c, struct kl_rows_req *q)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    kl_rev after = q->after_id;
    pthread_mutex_lock(&b->mu);
    kl_rev rev = b->shared_at.rev; // beyond it the core knows nothing yet
    pthread_mutex_unlock(&b->mu);
    int r = q->min_rev
                ? kl_sql_query_int(c, KL_SQL_ROWS_FROM, KL_SQL_PARAMS(KL_SQL_INT(q->min_rev)),
                                   &after, NULL, &q->err)
                : 0;
    size_t limit = row_limit(b, q->max_rows, q->max_bytes), bytes = 0;
    if (r)
        return r;
    q->rows = malloc(q->max_rows * sizeof(*q->rows));
    if (!q->rows)
        return KL_ENOMEM;
    r = kl_sql_query(c, KL_SQL_ROWS, KL_SQL_PARAMS(KL_SQL_INT(after), KL_SQL_INT((int64_t)limit)),
                     &q->err);
    if (r)
        return r;
    q->through = rev > after ? rev : after;
    while ((r = b->d->fetch(c, v, &q->err)) == 1 && v[0].i <= rev) {
        r = take_row(b, q, v, &bytes);
        if (r)
            break;
        if (bytes >= q->max_bytes || q->nrows == limit) {
            q->through = q->rows[q->nrows - 1].kv->id;
            break;
        }
    }
    b->d->finish(c);
    learn_row_bytes(b, bytes, q->nrows);
    return r < 0 ? r : 0;
}

// ---- ranges ----

static void drop_kvs(struct kl_range_req *q)
{
    for (size_t i = 0; i < q->nkvs; i++)
        kl_kv_unref(q->kvs[i]);
    free(q->kvs);
    q->kvs = NULL;
    q->nkvs = 0;
    q->more = false;
}

static int query_range(struct kl_sql_conn *c, const struct kl_range_req *q, struct kl_str end,
                       bool count, size_t limit, struct kl_error *err)
{
    bool last = end.n == 1 && end.p[0] == 0;
    struct kl_sql_value p[4];
    size_t n = 0;
    p[n++] = KL_SQL_NAME(q->key);
    if (!last)
        p[n++] = KL_SQL_NAME(end);
    p[n++] = KL_SQL_INT(q->rev);
    if (!count)
        p[n++] = KL_SQL_INT((int64_t)limit);
    enum kl_sql_stmt which = last    ? count ? KL_SQL_RANGE_TO_LAST_COUNT : KL_SQL_RANGE_TO_LAST
                             : count ? KL_SQL_RANGE_COUNT
                                     : KL_SQL_RANGE;
    return kl_sql_query(c, which, p, n, err);
}

static int count_range(struct kl_sql_conn *c, struct kl_range_req *q, struct kl_str end)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int r = query_range(c, q, end, true, 0, &q->err);
    if (r)
        return r;
    r = c->driver->fetch(c, v, &q->err);
    if (r == 1)
        q->count = v[0].i;
    c->driver->finish(c);
    return r < 0 ? r : 0;
}

static int read_range(struct kl_backend *b, struct kl_sql_conn *c, struct kl_range_req *q,
                      struct kl_str end)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    size_t limit = row_limit(b, q->limit + 1, q->max_bytes), bytes = 0;
    q->kvs = calloc(q->limit + 1, sizeof(struct kl_kv *));
    if (!q->kvs)
        return KL_ENOMEM;
    int r = query_range(c, q, end, false, limit, &q->err);
    if (r)
        return r;
    while ((r = b->d->fetch(c, v, &q->err)) == 1) {
        if (q->nkvs == q->limit || bytes >= q->max_bytes) {
            q->more = true;
            break;
        }
        struct kl_kv *kv = kl_sql_kv(b, v);
        if (!kv) {
            r = KL_ENOMEM;
            break;
        }
        q->kvs[q->nkvs++] = kv;
        bytes += kl_kv_value(kv).n;
    }
    b->d->finish(c);
    learn_row_bytes(b, bytes, q->nkvs);
    if (r < 0)
        return r;
    q->more |= q->nkvs == limit; // the query's limit, and not the caller's
    q->count = (int64_t)q->nkvs;
    return q->more && q->want_count ? count_range(c, q, end) : 0;
}

// ---- with a connection ----

static void failed(struct kl_backend *b, int r, int *code, struct kl_error *err)
{
    *code = r;
    if (r && !err->msg[0])
        kl_error_set(err, r, "%s", kl_err_text(r));
}

// Runs `work` until it ends otherwise than by a broken connection; `undo` drops half a result.
#define UNTIL_DEADLINE(b, q, work, undo)                                                           \
    do {                                                                                           \
        int64_t deadline_ms = kl_mono_ms() + KL_SQL_READ_MS;                                       \
        struct kl_sql_conn *c;                                                                     \
        int r;                                                                                     \
        for (;;) {                                                                                 \
            r = kl_sql_session_get(&(b)->reader, deadline_ms, &c, &(q)->err);                      \
            if (!r)                                                                                \
                r = work;                                                                          \
            if (!r)                                                                                \
                break;                                                                             \
            undo;                                                                                  \
            if (r == KL_EUNAVAILABLE)                                                              \
                kl_sql_session_drop(&(b)->reader);                                                 \
            if ((r != KL_EUNAVAILABLE && r != KL_EAGAIN) || kl_mono_ms() >= deadline_ms ||         \
                kl_sql_closing(b))                                                                 \
                break;                                                                             \
        }                                                                                          \
        failed(b, r, &(q)->code, &(q)->err);                                                       \
    } while (0)

void kl_sql_read_rows(struct kl_backend *b, struct kl_rows_req *q)
{
    UNTIL_DEADLINE(b, q, read_rows(b, c, q), drop_rows(q));
}

// What no key of these tables can be stands for the next one that can.
static void bound_range(struct kl_backend *b, struct kl_range_req *q, char *at, bool *ret_none)
{
    struct kl_str bounds[2] = {q->key, q->end};
    bool last = q->end.n == 1 && q->end.p[0] == 0;
    for (int i = 0; i < 2; i++) {
        if (i && last)
            break;
        ptrdiff_t n = kl_key_rule_bound(&b->keys, bounds[i], at);
        if (n < 0 && !i) {
            *ret_none = true;
            return;
        }
        bounds[i] = n < 0 ? KL_STR("\0") : (struct kl_str){at, (size_t)n};
        at += n < 0 ? 0 : n;
    }
    q->key = bounds[0];
    q->end = bounds[1];
}

void kl_sql_read_range(struct kl_backend *b, struct kl_range_req *q)
{
    struct kl_str key = q->key, end = q->end;
    char *room = malloc(3 * key.n + end.n + 16), *bounds = room + key.n + 1;
    bool none = false;
    if (!room) {
        failed(b, KL_ENOMEM, &q->code, &q->err);
        return;
    }
    if (!end.n) { // a single key is the range up to itself and a NUL byte
        memcpy(room, key.p, key.n);
        room[key.n] = 0;
        q->end = (struct kl_str){room, key.n + 1};
    }
    bound_range(b, q, bounds, &none);
    if (!none)
        UNTIL_DEADLINE(b, q, read_range(b, c, q, q->end), drop_kvs(q));
    q->key = key;
    q->end = end;
    free(room);
}
