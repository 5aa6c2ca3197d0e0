// SPDX-License-Identifier: Apache-2.0
// The newest row of every key, for load. In the order of their names the rows lie anywhere in the
// table, and a database whose cache is smaller than the table would read a page for each of them.
// So first their ids, by a walk over the covering index; then their rows in the order of the table.
#include "store/sql/sql_int.h"
#include <stdlib.h>

// Of one query: rows stream, so that both sides work at the same time, and each query is a round
// trip more. What is superseded comes along, at most this much of it.
enum { WINDOW_IDS = 8000, WINDOW_PER_ROW = 4 };

struct place {
    kl_rev id;
    size_t at; // in the order of names
};

struct live {
    struct place *places;
    struct kl_kv **kvs;
    size_t n, cap;
};

static int nomem(struct kl_error *err)
{
    return kl_error_set(err, KL_ENOMEM, "out of memory");
}

static int add_id(struct live *v, kl_rev id)
{
    if (v->n == v->cap) {
        size_t cap = v->cap ? v->cap * 2 : 4096;
        struct place *p = realloc(v->places, cap * sizeof(*p));
        if (!p)
            return KL_ENOMEM;
        v->places = p;
        v->cap = cap;
    }
    v->places[v->n] = (struct place){id, v->n};
    v->n++;
    return 0;
}

// One page; *last is the name that it ended with.
static int read_ids(struct kl_backend *b, struct kl_sql_conn *c, struct live *v,
                    struct kl_buf *last, size_t *ret_n, struct kl_error *err)
{
    struct kl_sql_value cell[KL_SQL_MAX_COLUMNS];
    int r = kl_sql_query(c, KL_SQL_LOAD,
                         KL_SQL_PARAMS(KL_SQL_NAME(kl_buf_str(last)), KL_SQL_INT(KL_SQL_LOAD_ROWS)),
                         err);
    if (r)
        return r;
    for (*ret_n = 0; (r = b->d->fetch(c, cell, err)) == 1; ++*ret_n) {
        kl_buf_clear(last);
        if (kl_buf_puts(last, cell[1].s) || add_id(v, cell[0].i)) {
            r = nomem(err);
            break;
        }
    }
    b->d->finish(c);
    return r;
}

static int by_id(const void *a, const void *b)
{
    kl_rev x = ((const struct place *)a)->id, y = ((const struct place *)b)->id;
    return (x > y) - (x < y);
}

// places[from] and those near it; *ret_to is behind the last one.
static int read_window(struct kl_backend *b, struct kl_sql_conn *c, struct live *v, size_t from,
                       size_t *ret_to, struct kl_error *err)
{
    struct kl_sql_value cell[KL_SQL_MAX_COLUMNS];
    const struct place *p = v->places;
    size_t to = from + 1, at = from;
    while (to < v->n && p[to].id - p[from].id < WINDOW_IDS + WINDOW_PER_ROW * (kl_rev)(to - from))
        to++;
    int r = kl_sql_query(c, KL_SQL_FEED,
                         KL_SQL_PARAMS(KL_SQL_INT(p[from].id - 1), KL_SQL_INT(p[to - 1].id)), err);
    if (r)
        return r;
    while ((r = b->d->fetch(c, cell, err)) == 1) {
        if (at == to || cell[0].i != p[at].id)
            continue; // superseded
        struct kl_kv *kv = kl_sql_kv(b, cell);
        if (!kv) {
            r = nomem(err);
            break;
        }
        v->kvs[p[at++].at] = kv;
    }
    b->d->finish(c);
    if (!r && at != to)
        r = kl_error_set(err, KL_ECORRUPT, "datastore %s is damaged: row %lld is in an index only",
                         b->name, (long long)p[at].id);
    *ret_to = to;
    return r;
}

static int read_rows(struct kl_backend *b, struct kl_sql_conn *c, struct live *v,
                     struct kl_error *err)
{
    v->kvs = calloc(v->n + 1, sizeof(struct kl_kv *));
    if (!v->kvs)
        return nomem(err);
    if (v->n)
        qsort(v->places, v->n, sizeof(*v->places), by_id);
    int r = 0;
    for (size_t at = 0; !r && at < v->n;)
        r = read_window(b, c, v, at, &at, err);
    return r;
}

int kl_sql_load_live(struct kl_backend *b, struct kl_sql_conn *c, struct kl_loaded *l,
                     struct kl_error *err)
{
    struct live v = {0};
    struct kl_buf last;
    size_t n = KL_SQL_LOAD_ROWS, given = 0;
    int r = 0;
    kl_buf_init(&last, 1 << 20);
    while (!r && n == KL_SQL_LOAD_ROWS)
        r = read_ids(b, c, &v, &last, &n, err);
    kl_buf_fini(&last);
    if (!r)
        r = read_rows(b, c, &v, err);
    while (!r && given < v.n) {
        if (l->kv(l->arg, v.kvs[given++])) // takes it in any case
            r = nomem(err);
    }
    for (; v.kvs && given < v.n; given++)
        kl_kv_unref(v.kvs[given]);
    free(v.places);
    free(v.kvs);
    return r;
}
