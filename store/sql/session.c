// SPDX-License-Identifier: Apache-2.0
// Connections that come back: with a back-off, until a deadline, or until the store closes.
#include "store/sql/sql_int.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include <time.h>

void kl_sql_session_init(struct kl_sql_session *s, struct kl_backend *b, const char *what,
                         int timeout_ms)
{
    *s = (struct kl_sql_session){.backend = b, .what = what, .timeout_ms = timeout_ms};
    pthread_mutex_init(&s->mu, NULL);
}

void kl_sql_session_fini(struct kl_sql_session *s)
{
    if (!s->backend)
        return;
    kl_sql_session_drop(s);
    pthread_mutex_destroy(&s->mu);
}

void kl_sql_session_drop(struct kl_sql_session *s)
{
    pthread_mutex_lock(&s->mu);
    struct kl_sql_conn *c = s->conn;
    s->conn = NULL;
    pthread_mutex_unlock(&s->mu);
    s->backend->d->close(c);
}

void kl_sql_session_interrupt(struct kl_sql_session *s)
{
    pthread_mutex_lock(&s->mu);
    if (s->conn)
        s->backend->d->interrupt(s->conn);
    pthread_mutex_unlock(&s->mu);
}

bool kl_sql_closing(struct kl_backend *b)
{
    pthread_mutex_lock(&b->mu);
    bool closing = b->closing;
    pthread_mutex_unlock(&b->mu);
    return closing;
}

bool kl_sql_wait(struct kl_backend *b, int64_t until_ms)
{
    int64_t left = until_ms - kl_mono_ms();
    if (left <= 0)
        return false;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_sec += left / 1000;
    ts.tv_nsec += left % 1000 * 1000000;
    ts.tv_sec += ts.tv_nsec / 1000000000;
    ts.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&b->wake, &b->mu, &ts);
    return true;
}

bool kl_sql_pause(struct kl_backend *b, int64_t until_ms)
{
    pthread_mutex_lock(&b->mu);
    while (!b->closing && kl_sql_wait(b, until_ms))
        ;
    bool go_on = !b->closing;
    pthread_mutex_unlock(&b->mu);
    return go_on;
}

static int try_connect(struct kl_sql_session *s, struct kl_error *err)
{
    struct kl_backend *b = s->backend;
    struct kl_sql_conn *c;
    int r = b->d->connect(&b->ep, s->timeout_ms, &c, err);
    if (r)
        return r;
    r = b->d->prepare(c, err);
    if (r) {
        b->d->close(c);
        return r;
    }
    pthread_mutex_lock(&s->mu);
    s->conn = c;
    pthread_mutex_unlock(&s->mu);
    return 0;
}

int kl_sql_session_get(struct kl_sql_session *s, int64_t deadline_ms, struct kl_sql_conn **ret_c,
                       struct kl_error *err)
{
    struct kl_backend *b = s->backend;
    bool tried = false;
    while (!s->conn) {
        int64_t now = kl_mono_ms();
        if ((tried || now < s->next_try_ms) && now >= deadline_ms)
            return kl_error_set(err, KL_EUNAVAILABLE, "%s",
                                s->err.msg[0] ? s->err.msg : "the datastore cannot be reached");
        int64_t until = s->next_try_ms < deadline_ms ? s->next_try_ms : deadline_ms;
        if (until > now && !kl_sql_pause(b, until))
            return kl_error_set(err, KL_ECANCELED, "datastore %s: closing", b->name);
        if (kl_mono_ms() < s->next_try_ms)
            continue;
        tried = true;
        int r = try_connect(s, &s->err);
        if (!r) {
            if (s->backoff_ms)
                kl_log(KL_LOG_INFO, "store", "datastore %s: connected again connection=%s", b->name,
                       s->what);
            s->backoff_ms = s->next_try_ms = 0;
            break;
        }
        if (!s->backoff_ms)
            kl_log(KL_LOG_WARN, "store", "%s connection=%s", s->err.msg, s->what);
        s->backoff_ms = s->backoff_ms ? s->backoff_ms * 2 : KL_SQL_BACKOFF_MIN_MS;
        if (s->backoff_ms > KL_SQL_BACKOFF_MAX_MS)
            s->backoff_ms = KL_SQL_BACKOFF_MAX_MS;
        // Not all servers at the same moment.
        s->next_try_ms =
            kl_mono_ms() + s->backoff_ms / 2 + (int64_t)(kl_rand_u64() % (uint64_t)s->backoff_ms);
    }
    *ret_c = s->conn;
    return 0;
}

// ---- small queries ----

int kl_sql_query(struct kl_sql_conn *c, enum kl_sql_stmt which, const struct kl_sql_value *params,
                 size_t n, struct kl_error *err)
{
    return c->driver->query(c, which, params, n, err);
}

int kl_sql_exec(struct kl_sql_conn *c, enum kl_sql_stmt which, const struct kl_sql_value *params,
                size_t n, int64_t *ret_rows, struct kl_error *err)
{
    return c->driver->exec(c, which, params, n, ret_rows, err);
}

int kl_sql_query_int(struct kl_sql_conn *c, enum kl_sql_stmt which,
                     const struct kl_sql_value *params, size_t n, int64_t *ret, bool *ret_found,
                     struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int r = kl_sql_query(c, which, params, n, err);
    if (!r) {
        r = c->driver->fetch(c, v, err);
        *ret = r == 1 && v[0].type == KL_SQL_INT ? v[0].i : 0;
        if (ret_found)
            *ret_found = r == 1 && v[0].type != KL_SQL_NULL;
        c->driver->finish(c);
    }
    return r < 0 ? r : 0;
}

int kl_sql_read_head(struct kl_sql_conn *c, bool lock, struct kl_sql_head *ret_h,
                     struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int64_t asked_ms = kl_mono_ms();
    int r = kl_sql_query(c, lock ? KL_SQL_LOCK : KL_SQL_HEAD, NULL, 0, err);
    if (r)
        return r;
    r = c->driver->fetch(c, v, err);
    if (r == 1) {
        *ret_h = (struct kl_sql_head){.history_id = v[0].i,
                                      .epoch = v[1].i,
                                      .seq = v[2].i,
                                      .rev = v[3].i,
                                      .compact_rev = v[4].i,
                                      .physical_rev = v[5].i,
                                      .chain = v[6].i,
                                      .writer = v[7].i,
                                      .format_min = v[8].i,
                                      .cluster_id = v[9].i,
                                      .importing = v[10].type != KL_SQL_NULL,
                                      .import_source = v[10].type == KL_SQL_INT ? v[10].i : 0,
                                      .import_base = v[11].type == KL_SQL_INT ? v[11].i : 0,
                                      .now_ms = v[12].i,
                                      .asked_ms = asked_ms};
        if (ret_h->rev < 1 || ret_h->rev > INT64_MAX / 2 || ret_h->compact_rev < 0 ||
            ret_h->compact_rev > ret_h->rev || ret_h->physical_rev < 0 ||
            ret_h->physical_rev > ret_h->compact_rev || ret_h->seq < 0)
            r = kl_error_set(err, KL_ECORRUPT,
                             "datastore %s is damaged: revision %lld, compacted to %lld and %lld",
                             c->name, (long long)ret_h->rev, (long long)ret_h->compact_rev,
                             (long long)ret_h->physical_rev);
    } else if (r == 0) {
        r = kl_error_set(err, KL_ECORRUPT, "datastore %s is damaged: kv_meta has no row", c->name);
    }
    c->driver->finish(c);
    return r < 0 ? r : 0;
}
