// SPDX-License-Identifier: Apache-2.0
// What store/sql/driver.h promises, asked of each driver and a real server: one argument, postgres
// or mysql.
#include "harness.h"
#include "servers.h"
#include "store/sql/my_int.h"
#include "base/clock.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TIMEOUT_MS = 60000, BIG = 1572864 };

static const struct kl_sql_driver *driver;
static enum ts_kind kind;
static struct kl_error err; // of the newest call

struct session {
    struct kl_endpoint e;
    struct kl_sql_conn *c;
    char db[32];
};

static void parse(const char *url, const struct kl_store_options *o, struct kl_endpoint *e)
{
    if (kl_endpoint_parse(driver->kind, kl_str(strstr(url, "://") + 3), o, e, &err))
        fail_msg("%s: %s", url, err.msg);
}

static struct kl_sql_conn *dial(const struct kl_endpoint *e)
{
    struct kl_sql_conn *c = NULL;
    if (driver->connect(e, TIMEOUT_MS, &c, &err))
        fail_msg("connect: %s", err.msg);
    return c;
}

#define OK(call)                                                                                   \
    do {                                                                                           \
        err = (struct kl_error){0};                                                                \
        int code_ = (call);                                                                        \
        if (code_)                                                                                 \
            fail_msg("%s: %d %s", #call, code_, err.msg);                                          \
    } while (0)

// A fresh database with our tables.
static void open_session(struct session *s)
{
    char url[192];
    struct ts_server *server = ts_shared(kind);
    parse(ts_url(server, ts_fresh(server, s->db), NULL, url, sizeof(url)), NULL, &s->e);
    OK(driver->create_database(&s->e, &err));
    s->c = dial(&s->e);
    struct kl_sql_new n = {.format = 1, .cluster_id = 77, .history_id = -5};
    OK(driver->create_tables(s->c, &n, &err));
    OK(driver->prepare(s->c, &err));
}

static void close_session(struct session *s)
{
    char sql[96];
    driver->close(s->c);
    kl_endpoint_fini(&s->e);
    snprintf(sql, sizeof(sql), "DROP DATABASE %s%s", s->db,
             kind == TS_POSTGRES ? " WITH (FORCE)" : "");
    ts_sql(ts_shared(kind), NULL, sql, NULL, 0);
}

// ---- rows ----

static struct kl_row make_row(kl_rev id, struct kl_str key, struct kl_str value, struct kl_kv *prev)
{
    struct kl_bytes *b = value.p ? kl_bytes_new(value) : NULL;
    struct kl_kv *kv = kl_kv_new(key, b);
    kl_bytes_unref(b);
    kv->id = kv->mod_rev = id;
    kv->deleted = !value.p;
    kv->create_rev = prev ? prev->create_rev : id;
    kv->version = kv->deleted ? 0 : prev ? prev->version + 1 : 1;
    return (struct kl_row){.kv = kv, .prev = prev};
}

struct log {
    struct kl_batch batch;
    struct kl_row rows[64];
    struct kl_sql_commit m;
};

static void begin_log(struct log *l)
{
    memset(l, 0, sizeof(*l));
    l->batch.rows = l->rows;
    l->batch.base_rev = 1;
    l->m = (struct kl_sql_commit){.batch = &l->batch,
                                  .seq = 1,
                                  .epoch = 1,
                                  .history_id = -5,
                                  .writer_id = 9,
                                  .nonce = 1001,
                                  .chain = -42,
                                  .now_ms = 1700000000000};
}

static struct kl_kv *add(struct log *l, const char *key, const char *value, struct kl_kv *prev)
{
    size_t at = l->batch.nrows++;
    l->rows[at] = make_row(l->batch.base_rev + (kl_rev)at + 1, kl_str(key),
                           value ? kl_str(value) : (struct kl_str){NULL, 0}, prev);
    l->batch.last_rev = l->batch.base_rev + (kl_rev)l->batch.nrows;
    return l->rows[at].kv;
}

// What comes after a batch that was stored. Rows are kept for the test to free.
static void advance(struct log *l)
{
    l->batch.base_rev = l->batch.last_rev;
    l->batch.nrows = 0;
    l->m.seq++;
    l->m.nonce++;
    l->m.prev_chain = l->m.chain;
    l->m.chain = l->m.chain * 31 + 7;
}

struct cells {
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
};

static int count_rows(struct kl_sql_conn *c, enum kl_sql_stmt which, const struct kl_sql_value *p,
                      size_t np)
{
    struct cells x;
    int n = 0, r;
    OK(driver->query(c, which, p, np, &err));
    while ((r = driver->fetch(c, x.v, &err)) == 1)
        n++;
    driver->finish(c);
    if (r)
        fail_msg("fetch: %s", err.msg);
    return n;
}

static int64_t head(struct kl_sql_conn *c, int column)
{
    struct cells x;
    OK(driver->query(c, KL_SQL_HEAD, NULL, 0, &err));
    int r = driver->fetch(c, x.v, &err);
    if (r != 1)
        fail_msg("head: %d %s", r, err.msg);
    int64_t v = x.v[column].type == KL_SQL_INT ? x.v[column].i : -1;
    driver->finish(c);
    return v;
}

// ---- tests ----

static void tables(void **state)
{
    struct session s;
    char url[192];
    enum kl_sql_tables t;
    struct ts_server *server = ts_shared(kind);
    parse(ts_url(server, ts_fresh(server, s.db), NULL, url, sizeof(url)), NULL, &s.e);
    assert_int_equal(driver->connect(&s.e, TIMEOUT_MS, &s.c, &err), KL_ENOTFOUND);
    OK(driver->create_database(&s.e, &err));
    OK(driver->create_database(&s.e, &err));
    s.c = dial(&s.e);
    OK(driver->inspect(s.c, &t, &err));
    assert_int_equal(t, KL_SQL_TABLES_NONE);
    struct kl_sql_new n = {.format = 1, .cluster_id = INT64_MIN, .history_id = INT64_MAX};
    OK(driver->create_tables(s.c, &n, &err));
    n.cluster_id = 5; // what is there stays
    OK(driver->create_tables(s.c, &n, &err));
    OK(driver->inspect(s.c, &t, &err));
    assert_int_equal(t, KL_SQL_TABLES_OURS);
    OK(driver->prepare(s.c, &err));
    assert_int_equal(head(s.c, 0), INT64_MAX);
    assert_int_equal(head(s.c, 1), 1); // epoch
    assert_int_equal(head(s.c, 3), 1); // rev
    assert_int_equal(head(s.c, 9), INT64_MIN);
    assert_int_equal(head(s.c, 10), -1); // no import
    int64_t off = head(s.c, 12) - kl_wall_ms();
    if (off < -600000 || off > 600000) // another unit, or a zone's hours
        fail_msg("the database's clock is off by %lld ms", (long long)off);
    close_session(&s);
}

static void kine_tables(void **state)
{
    struct session s;
    char url[192], sql[512];
    enum kl_sql_tables t;
    struct ts_server *server = ts_shared(kind);
    parse(ts_url(server, ts_fresh(server, s.db), NULL, url, sizeof(url)), NULL, &s.e);
    OK(driver->create_database(&s.e, &err));
    snprintf(sql, sizeof(sql),
             "CREATE TABLE kine(id %s, name %s, created INTEGER, deleted INTEGER, create_revision"
             " BIGINT, prev_revision BIGINT, lease INTEGER, value %s, old_value %s)",
             kind == TS_POSTGRES ? "BIGSERIAL PRIMARY KEY"
                                 : "BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY",
             kind == TS_POSTGRES ? "text COLLATE \"C\"" : "VARCHAR(630) CHARACTER SET ascii",
             kind == TS_POSTGRES ? "bytea" : "MEDIUMBLOB",
             kind == TS_POSTGRES ? "bytea" : "MEDIUMBLOB");
    ts_sql(server, s.db, sql, NULL, 0);
    if (kind == TS_POSTGRES)
        ts_sql(server, s.db, "ALTER TABLE kine OWNER TO kine", NULL, 0);
    s.c = dial(&s.e);
    OK(driver->inspect(s.c, &t, &err));
    assert_int_equal(t, KL_SQL_TABLES_KINE);
    ts_sql(server, s.db, "ALTER TABLE kine DROP COLUMN lease", NULL, 0);
    OK(driver->inspect(s.c, &t, &err));
    assert_int_equal(t, KL_SQL_TABLES_OTHER);
    close_session(&s);
}

static void expect_kv(const struct kl_sql_value *v, const struct kl_kv *kv)
{
    if (v[0].type != KL_SQL_INT || v[0].i != kv->id || v[1].type != KL_SQL_BYTES ||
        !kl_str_eq(v[1].s, kl_kv_key(kv)) || v[2].i != kv->deleted)
        fail_msg("row %lld %.*s, expected %lld %.*s", (long long)v[0].i, KL_PRI(v[1].s),
                 (long long)kv->id, KL_PRI(kl_kv_key(kv)));
    assert_int_equal(v[3].i, kv->create_rev);
    assert_int_equal(v[4].i, kv->version);
    assert_int_equal(v[5].type, kv->lease ? KL_SQL_INT : KL_SQL_NULL);
    assert_true(!kv->lease || v[5].i == kv->lease);
    assert_int_equal(v[6].type, kv->mod_rev != kv->id ? KL_SQL_INT : KL_SQL_NULL);
    assert_true(kv->mod_rev == kv->id || v[6].i == kv->mod_rev);
    assert_int_equal(v[7].type, kv->deleted ? KL_SQL_NULL : KL_SQL_BYTES);
    if (!kv->deleted && !kl_str_eq(v[7].s, kl_kv_value(kv)))
        fail_msg("value of %.*s: %zu bytes, expected %zu", KL_PRI(v[1].s), v[7].s.n,
                 kl_kv_value(kv).n);
}

static void free_rows(struct kl_kv **kvs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        kl_kv_unref(kvs[i]);
}

// galera: a packet for each statement, as on a node of such a cluster.
static void check_batches(bool galera)
{
    struct session s;
    struct log l;
    struct kl_kv *kv[8];
    open_session(&s);
    if (galera)
        ((struct kl_my *)s.c)->galera = true;
    begin_log(&l);
    kv[0] = add(&l, "/a", "one", NULL);
    kv[1] = add(&l, "/b", "", NULL); // empty is not deleted
    kv[2] = add(&l, "/a", "two", kv[0]);
    kv[1]->lease = INT64_MIN;
    kv[1]->mod_rev = 4; // of a transaction of several keys
    struct kl_lease_op leases[] = {
        {.id = 7, .ttl_ms = 1000, .deadline_wall_ms = 5},
        {.id = INT64_MIN, .ttl_ms = 2000, .deadline_wall_ms = 6},
        {.id = 7},
        {.id = 8, .ttl_ms = 3000, .deadline_wall_ms = 7},
        {.id = 8, .ttl_ms = 4000, .deadline_wall_ms = 8},
    };
    l.batch.leases = leases;
    l.batch.nleases = KL_COUNT(leases);
    l.m.extra = KL_STR("ex'tra\\\0\xff");
    OK(driver->commit(s.c, &l.m, &err));
    assert_int_equal(head(s.c, 3), 4);
    assert_int_equal(head(s.c, 2), 1);
    assert_int_equal(head(s.c, 6), -42);
    assert_int_equal(count_rows(s.c, KL_SQL_LEASES, NULL, 0), 2);

    // What does not follow changes nothing.
    struct kl_sql_commit wrong[5];
    for (int i = 0; i < 5; i++)
        wrong[i] = l.m;
    advance(&l);
    l.batch.nleases = 0;
    kv[3] = add(&l, "/b", NULL, kv[1]);
    wrong[0].seq = 1; // the same again
    for (int i = 1; i < 5; i++)
        wrong[i] = l.m;
    wrong[1].seq++;
    wrong[2].epoch++;
    wrong[3].history_id++;
    wrong[4].prev_chain++;
    for (int i = 0; i < 5; i++) {
        int r = driver->commit(s.c, &wrong[i], &err);
        if (r != KL_ECONFLICT)
            fail_msg("wrong %d: %d %s", i, r, err.msg);
    }
    assert_int_equal(head(s.c, 3), 4);
    assert_int_equal(
        count_rows(s.c, KL_SQL_FEED, (struct kl_sql_value[]){KL_SQL_INT(0), KL_SQL_INT(100)}, 2),
        3);
    l.batch.compact_rev = 3;
    OK(driver->commit(s.c, &l.m, &err));
    assert_int_equal(head(s.c, 4), 3);
    advance(&l);
    l.batch.compact_rev = 2; // never lower
    kv[4] = add(&l, "/c", "x", NULL);
    OK(driver->commit(s.c, &l.m, &err));
    assert_int_equal(head(s.c, 4), 3);

    struct cells x;
    OK(driver->query(s.c, KL_SQL_ROWS, (struct kl_sql_value[]){KL_SQL_INT(1), KL_SQL_INT(100)}, 2,
                     &err));
    struct kl_kv *want[] = {kv[0], kv[1], kv[2], kv[3], kv[4]};
    kv[3]->create_rev = kv[1]->create_rev;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
        expect_kv(x.v, want[i]);
        if (i == 2)
            expect_kv(x.v + 8, kv[0]);
        else if (i == 3)
            expect_kv(x.v + 8, kv[1]);
        else
            assert_int_equal(x.v[8].type, KL_SQL_NULL);
    }
    assert_int_equal(driver->fetch(s.c, x.v, &err), 0);
    driver->finish(s.c);

    OK(driver->query(s.c, KL_SQL_BATCHES, (struct kl_sql_value[]){KL_SQL_INT(0), KL_SQL_INT(9)}, 2,
                     &err));
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
        assert_int_equal(x.v[0].i, -5);
        assert_int_equal(x.v[1].i, 3);
        assert_int_equal(x.v[4].i, i);
        assert_int_equal(x.v[6].i, 1000 + i);
        if (i == 1)
            assert_true(kl_str_eq(x.v[10].s, KL_STR("ex'tra\\\0\xff")));
    }
    assert_int_equal(driver->fetch(s.c, x.v, &err), 0);
    driver->finish(s.c);
    OK(driver->query(s.c, KL_SQL_BATCHES, (struct kl_sql_value[]){KL_SQL_INT(3), KL_SQL_INT(9)}, 2,
                     &err));
    assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
    assert_int_equal(x.v[1].i, 3);
    assert_int_equal(x.v[4].type, KL_SQL_NULL);
    driver->finish(s.c); // not fetched to its end

    OK(driver->query(s.c, KL_SQL_LOAD,
                     (struct kl_sql_value[]){KL_SQL_NAME(KL_STR("")), KL_SQL_INT(10)}, 2, &err));
    assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
    assert_int_equal(x.v[0].i, kv[2]->id);
    assert_true(kl_str_eqz(x.v[1].s, "/a"));
    assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
    assert_int_equal(x.v[0].i, kv[4]->id);
    assert_int_equal(driver->fetch(s.c, x.v, &err), 0);
    driver->finish(s.c);

    // At 3 /a is still one; /b's transaction ends at 4.
    struct kl_sql_value at[] = {KL_SQL_NAME(KL_STR("/")), KL_SQL_NAME(KL_STR("0")), KL_SQL_INT(3),
                                KL_SQL_INT(10)};
    OK(driver->query(s.c, KL_SQL_RANGE, at, 4, &err));
    assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
    expect_kv(x.v, kv[0]);
    assert_int_equal(driver->fetch(s.c, x.v, &err), 0);
    driver->finish(s.c);
    at[2] = KL_SQL_INT(4);
    OK(driver->query(s.c, KL_SQL_RANGE_COUNT, at, 3, &err));
    assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
    assert_int_equal(x.v[0].i, 2);
    driver->finish(s.c);
    struct kl_sql_value last[] = {KL_SQL_NAME(KL_STR("/b")), KL_SQL_INT(4), KL_SQL_INT(10)};
    assert_int_equal(count_rows(s.c, KL_SQL_RANGE_TO_LAST, last, 3), 1);
    last[1] = KL_SQL_INT(5); // it was deleted
    assert_int_equal(count_rows(s.c, KL_SQL_RANGE_TO_LAST, last, 3), 0);

    kl_rev ids[] = {2, 3, 999};
    int64_t gone = 0;
    OK(driver->delete_rows(s.c, ids, 3, &gone, &err));
    assert_int_equal(gone, 2);
    free_rows(kv, 5);
    close_session(&s);
}

// Bytes that a dialect could take for something else, and keys that a collation could.
static void odd_bytes(void **state)
{
    static const struct kl_str keys[] = {
        KL_STR_INIT("a"),        KL_STR_INIT("A"),         KL_STR_INIT("a "),
        KL_STR_INIT("a  "),      KL_STR_INIT("a\0"),       KL_STR_INIT("a\0\0"),
        KL_STR_INIT("a'b"),      KL_STR_INIT("a\\"),       KL_STR_INIT("a\\'"),
        KL_STR_INIT("a\"b"),     KL_STR_INIT("a%_?$1"),    KL_STR_INIT("a\n\r\t\x1a"),
        KL_STR_INIT("\xc3\xa9"), KL_STR_INIT("e\xcc\x81"), KL_STR_INIT("\xff\xfe\x80"),
        KL_STR_INIT("\0"),       KL_STR_INIT("a;--/*"),    KL_STR_INIT("_binary'"),
    };
    struct session s;
    struct log l;
    struct kl_kv *kv[KL_COUNT(keys)];
    char value[256];
    open_session(&s);
    begin_log(&l);
    for (int i = 0; i < 256; i++)
        value[i] = (char)i;
    for (size_t i = 0; i < KL_COUNT(keys); i++) {
        l.rows[i] = make_row(2 + (kl_rev)i, keys[i], (struct kl_str){value, 256 - i}, NULL);
        kv[i] = l.rows[i].kv;
    }
    l.batch.nrows = KL_COUNT(keys);
    l.batch.last_rev = 1 + (kl_rev)KL_COUNT(keys);
    OK(driver->commit(s.c, &l.m, &err));
    struct cells x;
    struct kl_str before = {"", 0};
    char copy[64];
    size_t n = 0;
    OK(driver->query(s.c, KL_SQL_LOAD,
                     (struct kl_sql_value[]){KL_SQL_NAME(KL_STR("")), KL_SQL_INT(1000)}, 2, &err));
    while (driver->fetch(s.c, x.v, &err) == 1) {
        assert_true(kl_str_eq(x.v[1].s, kl_kv_key(kv[x.v[0].i - 2])));
        assert_true(kl_str_cmp(x.v[1].s, before) > 0);
        memcpy(copy, x.v[1].s.p, x.v[1].s.n);
        before = (struct kl_str){copy, x.v[1].s.n};
        n++;
    }
    driver->finish(s.c);
    assert_int_equal(n, KL_COUNT(keys));
    for (size_t i = 0; i < KL_COUNT(keys); i++) { // each is found alone
        char end[64];
        memcpy(end, keys[i].p, keys[i].n);
        end[keys[i].n] = 0;
        struct kl_sql_value at[] = {KL_SQL_NAME(keys[i]),
                                    KL_SQL_NAME(((struct kl_str){end, keys[i].n + 1})),
                                    KL_SQL_INT(1000), KL_SQL_INT(10)};
        assert_int_equal(count_rows(s.c, KL_SQL_RANGE, at, 4), 1);
    }
    free_rows(kv, KL_COUNT(keys));
    close_session(&s);
}

static void big_values(void **state)
{
    struct session s;
    struct log l;
    struct kl_kv *kv[12];
    char *big = malloc(BIG), key[2100];
    uint64_t seed = 88172645463325252ull;
    open_session(&s);
    begin_log(&l);
    // 12 x 1.5 MiB is more than one packet may hold; the first is of the worst bytes.
    for (int i = 0; i < 12; i++) {
        for (int k = 0; k < BIG; k++)
            big[k] = i ? (char)hs_rand(&seed) : '\'';
        memset(key, 'k', sizeof(key));
        struct kl_str name = {key, i == 11 ? driver->max_key_bytes : 100 + (size_t)i};
        l.rows[i] = make_row(2 + i, name, (struct kl_str){big, BIG}, NULL);
        kv[i] = l.rows[i].kv;
    }
    l.batch.nrows = 12;
    l.batch.last_rev = 13;
    OK(driver->commit(s.c, &l.m, &err));
    struct cells x;
    for (int i = 0; i < 12; i++) {
        OK(driver->query(s.c, KL_SQL_ROWS,
                         (struct kl_sql_value[]){KL_SQL_INT(1 + i), KL_SQL_INT(1)}, 2, &err));
        assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
        assert_true(kl_str_eq(x.v[7].s, kl_kv_value(kv[i])));
        driver->finish(s.c);
    }
    // A key that is too long says so, and the session goes on.
    l.m.seq = 2;
    l.m.prev_chain = l.m.chain;
    l.batch.base_rev = 13;
    l.batch.last_rev = 14;
    l.batch.nrows = 1;
    if (kind == TS_MARIADB) {
        l.rows[0] = make_row(14, (struct kl_str){key, 2100}, KL_STR("x"), NULL);
        assert_int_equal(driver->commit(s.c, &l.m, &err), KL_ETOOLARGE);
        kl_kv_unref(l.rows[0].kv);
    }
    assert_int_equal(head(s.c, 3), 13);
    free_rows(kv, 12);
    free(big);
    close_session(&s);
}

static void transactions(void **state)
{
    struct session s;
    struct log l;
    struct kl_kv *kv[2];
    open_session(&s);
    struct kl_sql_conn *other = dial(&s.e);
    OK(driver->prepare(other, &err));
    begin_log(&l);
    kv[0] = add(&l, "/a", "one", NULL);
    OK(driver->begin(other, true, &err));
    assert_int_equal(head(other, 3), 1);
    OK(driver->commit(s.c, &l.m, &err));
    assert_int_equal(head(other, 3), 1); // one state
    assert_int_equal(
        count_rows(other, KL_SQL_FEED, (struct kl_sql_value[]){KL_SQL_INT(0), KL_SQL_INT(9)}, 2),
        0);
    OK(driver->end(other, true, &err));
    assert_int_equal(head(other, 3), 2);

    int64_t n = -1;
    OK(driver->exec(s.c, KL_SQL_LEAD, (struct kl_sql_value[]){KL_SQL_INT(9), KL_SQL_INT(1)}, 2, &n,
                    &err));
    assert_int_equal(n, 1);
    OK(driver->exec(s.c, KL_SQL_LEAD, (struct kl_sql_value[]){KL_SQL_INT(8), KL_SQL_INT(1)}, 2, &n,
                    &err));
    assert_int_equal(n, 0);
    assert_int_equal(head(s.c, 7), 9);

    bool got = false, got_other = true;
    OK(driver->begin(s.c, false, &err));
    OK(driver->try_lock(s.c, &got, &err));
    OK(driver->begin(other, false, &err));
    OK(driver->try_lock(other, &got_other, &err));
    assert_true(got && !got_other);
    OK(driver->end(s.c, true, &err));
    OK(driver->try_lock(other, &got_other, &err));
    assert_true(got_other);
    OK(driver->end(other, false, &err));

    // A rollback takes back what an import wrote.
    OK(driver->begin(s.c, false, &err));
    struct kl_row row = make_row(50, KL_STR("/x"), KL_STR("y"), NULL);
    kv[1] = row.kv;
    OK(driver->insert(s.c, &row, 1, &err));
    OK(driver->end(s.c, false, &err));
    assert_int_equal(
        count_rows(s.c, KL_SQL_FEED, (struct kl_sql_value[]){KL_SQL_INT(49), KL_SQL_INT(50)}, 2),
        0);
    struct kl_lease_op lease = {.id = 3, .ttl_ms = 5, .deadline_wall_ms = 6};
    OK(driver->begin(s.c, false, &err));
    OK(driver->insert(s.c, &row, 1, &err));
    OK(driver->insert_leases(s.c, &lease, 1, &err));
    OK(driver->end(s.c, true, &err));
    assert_int_equal(count_rows(s.c, KL_SQL_LEASES, NULL, 0), 1);
    assert_int_equal(driver->insert(s.c, &row, 1, &err), KL_EEXISTS);
    assert_null(strstr(err.msg, "/x"));
    OK(driver->clear(s.c, &err));
    assert_int_equal(count_rows(s.c, KL_SQL_LEASES, NULL, 0), 0);
    assert_int_equal(head(s.c, 3), 2);
    driver->close(other);
    free_rows(kv, 2);
    close_session(&s);
}

// Each statement that others do not use runs, and does what it says.
static void statements(void **state)
{
    struct session s;
    struct log l;
    struct kl_kv *kv[3];
    struct cells x;
    int64_t n = 0;
    open_session(&s);
    begin_log(&l);
    kv[0] = add(&l, "/a", "one", NULL);
    kv[1] = add(&l, "/b", "two", NULL);
    kv[2] = add(&l, "/c", "three", NULL);
    kv[1]->mod_rev = kv[0]->mod_rev = 3;
    OK(driver->commit(s.c, &l.m, &err));
    OK(driver->query(s.c, KL_SQL_BATCH, (struct kl_sql_value[]){KL_SQL_INT(1)}, 1, &err));
    assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
    assert_int_equal(x.v[0].i, 1001);
    assert_int_equal(x.v[1].i, 9);
    assert_int_equal(x.v[2].i, -42);
    driver->finish(s.c);
    // (rev) -> the greatest id below whose transaction ends below.
    assert_int_equal(count_rows(s.c, KL_SQL_ROWS_FROM, (struct kl_sql_value[]){KL_SQL_INT(3)}, 1),
                     0);
    OK(driver->query(s.c, KL_SQL_ROWS_FROM, (struct kl_sql_value[]){KL_SQL_INT(4)}, 1, &err));
    assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
    assert_int_equal(x.v[0].i, 3);
    driver->finish(s.c);
    OK(driver->query(s.c, KL_SQL_STEP_FROM, (struct kl_sql_value[]){KL_SQL_INT(9)}, 1, &err));
    assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
    assert_int_equal(x.v[0].i, 4);
    driver->finish(s.c);
    OK(driver->query(s.c, KL_SQL_STEP_ROWS, (struct kl_sql_value[]){KL_SQL_INT(1), KL_SQL_INT(2)},
                     2, &err));
    assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
    assert_int_equal(x.v[0].i, 2);
    assert_int_equal(x.v[3].i, 3);
    driver->finish(s.c);
    OK(driver->exec(s.c, KL_SQL_STEP_DONE, (struct kl_sql_value[]){KL_SQL_INT(2)}, 1, &n, &err));
    assert_int_equal(n, 1);
    OK(driver->exec(s.c, KL_SQL_STEP_DONE, (struct kl_sql_value[]){KL_SQL_INT(2)}, 1, &n, &err));
    assert_int_equal(n, 0);
    for (int i = 0; i < 2; i++)
        OK(driver->exec(s.c, KL_SQL_PEER_PUT,
                        (struct kl_sql_value[]){KL_SQL_INT(-3), KL_SQL_BYTES(KL_STR("h:1")),
                                                KL_SQL_BYTES(KL_STR("v'1")), KL_SQL_INT(5),
                                                KL_SQL_INT(6)},
                        5, &n, &err));
    OK(driver->query(s.c, KL_SQL_PEERS, NULL, 0, &err));
    assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
    assert_int_equal(x.v[0].i, -3);
    assert_true(kl_str_eqz(x.v[2].s, "v'1"));
    assert_int_equal(driver->fetch(s.c, x.v, &err), 0);
    driver->finish(s.c);
    OK(driver->exec(s.c, KL_SQL_PEER_DEL, (struct kl_sql_value[]){KL_SQL_INT(-3)}, 1, &n, &err));
    assert_int_equal(n, 1);
    OK(driver->exec(s.c, KL_SQL_TRIM_BATCHES,
                    (struct kl_sql_value[]){KL_SQL_INT(1), KL_SQL_INT(10)}, 2, &n, &err));
    assert_int_equal(n, 0);
    OK(driver->exec(s.c, KL_SQL_TRIM_BATCHES,
                    (struct kl_sql_value[]){KL_SQL_INT(INT64_MAX), KL_SQL_INT(10)}, 2, &n, &err));
    assert_int_equal(n, 1);
    OK(driver->exec(s.c, KL_SQL_NEW_HISTORY,
                    (struct kl_sql_value[]){KL_SQL_INT(11), KL_SQL_INT(1000004), KL_SQL_INT(3)}, 3,
                    &n, &err));
    assert_int_equal(head(s.c, 0), 11);
    assert_int_equal(head(s.c, 4), 1000004);
    OK(driver->exec(s.c, KL_SQL_IMPORT_BEGIN,
                    (struct kl_sql_value[]){KL_SQL_INT(-8), KL_SQL_INT(4)}, 2, &n, &err));
    assert_int_equal(head(s.c, 10), -8);
    l.m.seq = head(s.c, 2) + 1; // an import keeps writers out
    l.m.epoch = head(s.c, 1);
    l.m.history_id = 11;
    l.m.prev_chain = 3;
    assert_int_equal(driver->commit(s.c, &l.m, &err), KL_ECONFLICT);
    assert_int_equal(count_rows(s.c, KL_SQL_IMPORT_NEWEST, NULL, 0), 1);
    OK(driver->exec(s.c, KL_SQL_IMPORT_END,
                    (struct kl_sql_value[]){KL_SQL_INT(2000000), KL_SQL_INT(1999999),
                                            KL_SQL_INT(12), KL_SQL_INT(4)},
                    4, &n, &err));
    assert_int_equal(head(s.c, 3), 2000000);
    assert_int_equal(head(s.c, 5), 1999999);
    assert_int_equal(head(s.c, 10), -1);
    OK(driver->query(s.c, KL_SQL_SIZES, NULL, 0, &err));
    assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
    assert_true(x.v[0].type == KL_SQL_INT && x.v[0].i > 0);
    driver->finish(s.c);
    free_rows(kv, 3);
    close_session(&s);
}

// No statement sorts, makes a table on the way or reads a table whole, however large it is.
static void mysql_plans(void **state)
{
    const struct kl_sql_value name = KL_SQL_NAME(KL_STR("/k")), end = KL_SQL_NAME(KL_STR("/l"));
    const struct {
        enum kl_sql_stmt which;
        size_t n;
        struct kl_sql_value p[5];
    } rows[] = {
        {KL_SQL_HEAD},
        {KL_SQL_TIP},
        {KL_SQL_BATCHES, 2, {KL_SQL_INT(5), KL_SQL_INT(9)}},
        {KL_SQL_BATCH, 1, {KL_SQL_INT(5)}},
        {KL_SQL_FEED, 2, {KL_SQL_INT(5), KL_SQL_INT(9)}},
        {KL_SQL_LOAD, 2, {name, KL_SQL_INT(100)}},
        {KL_SQL_ROWS, 2, {KL_SQL_INT(5), KL_SQL_INT(100)}},
        {KL_SQL_ROWS_FROM, 1, {KL_SQL_INT(500)}},
        {KL_SQL_RANGE, 4, {name, end, KL_SQL_INT(500), KL_SQL_INT(10)}},
        {KL_SQL_RANGE_TO_LAST, 3, {name, KL_SQL_INT(500), KL_SQL_INT(10)}},
        {KL_SQL_RANGE_COUNT, 3, {name, end, KL_SQL_INT(500)}},
        {KL_SQL_STEP_FROM, 1, {KL_SQL_INT(500)}},
        {KL_SQL_STEP_ROWS, 2, {KL_SQL_INT(5), KL_SQL_INT(100)}},
        {KL_SQL_TRIM_BATCHES, 2, {KL_SQL_INT(5), KL_SQL_INT(100)}},
    };
    struct session s;
    struct cells x;
    open_session(&s);
#define COUNT_TO_3025                                                                              \
    " WITH RECURSIVE d(n) AS (SELECT 0 UNION ALL SELECT n+1 FROM d WHERE n<54), t(seq) AS (SELECT" \
    " a.n*55+b.n+1 FROM d a JOIN d b) "
    ts_sql(ts_shared(kind), s.db,
           "INSERT INTO kine(id,name,deleted,value)" COUNT_TO_3025
           "SELECT 1+seq,CONCAT('/k',seq),0,'x' FROM t;"
           "INSERT INTO kv_batch" COUNT_TO_3025 "SELECT seq,1,1,seq,1,1,0,0,seq,NULL FROM t;"
           "ANALYZE TABLE kine; ANALYZE TABLE kv_batch",
           NULL, 0);
    struct kl_my *c = (struct kl_my *)s.c;
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        kl_buf_clear(&c->buf);
        kl_my_put_str(&c->buf, "EXPLAIN ");
        kl_my_put_sql(&c->buf, c, kl_my_sql[rows[i].which], rows[i].p, rows[i].n);
        OK(kl_my_query(c, kl_buf_str(&c->buf), &err));
        // id, select_type, table, [MySQL: partitions,] type, possible_keys, key, key_len, ref,
        // rows, [filtered,] Extra
        while (driver->fetch(s.c, x.v, &err) == 1) {
            struct kl_str table = x.v[2].s, type = x.v[c->mariadb ? 3 : 4].s;
            struct kl_str extra = x.v[c->ncolumns - 1].s;
            char text[256];
            snprintf(text, sizeof(text), "%.*s", KL_PRI(extra));
            bool whole = kl_str_eqz(type, "ALL") && !kl_str_starts(table, KL_STR("<derived"));
            if (whole || strstr(text, "temporary") || strstr(text, "filesort"))
                fail_msg("%s: table %.*s by %.*s: %s", kl_my_sql[rows[i].which], KL_PRI(table),
                         KL_PRI(type), text);
        }
        driver->finish(s.c);
        assert_int_equal(err.code, 0);
    }
    close_session(&s);
}

// A server that takes little at once: what is more goes in parts, of one transaction; a row that is
// more is refused with the reason, and what follows it is not.
static void mysql_small_packets(void **state)
{
    static const char *const args[] = {"--max-allowed-packet=1M", NULL};
    struct ts_server *server = ts_start(kind, &(struct ts_options){.args = args});
    struct session s;
    struct log l;
    struct kl_kv *kv[64];
    char url[192], key[32], *big = malloc(BIG);
    parse(ts_url(server, "small", NULL, url, sizeof(url)), NULL, &s.e);
    OK(driver->create_database(&s.e, &err));
    s.c = dial(&s.e);
    struct kl_sql_new n = {.format = 1, .cluster_id = 77, .history_id = -5};
    OK(driver->create_tables(s.c, &n, &err));
    OK(driver->prepare(s.c, &err));
    begin_log(&l);
    memset(big, '\'', BIG); // each takes two bytes
    for (int i = 0; i < 64; i++) {
        snprintf(key, sizeof(key), "/%d", i);
        l.rows[i] =
            make_row(2 + i, kl_str(key), (struct kl_str){big, i == 20 ? 500000 : 100000}, NULL);
        kv[i] = l.rows[i].kv;
    }
    l.batch.nrows = 64;
    l.batch.last_rev = 65;
    OK(driver->commit(s.c, &l.m, &err));
    assert_int_equal(head(s.c, 3), 65);
    assert_int_equal(
        count_rows(s.c, KL_SQL_FEED, (struct kl_sql_value[]){KL_SQL_INT(0), KL_SQL_INT(100)}, 2),
        64);
    advance(&l);
    memset(big, 'v', BIG);
    for (int i = 0; i < 3; i++) { // the second is too much
        snprintf(key, sizeof(key), "/big/%d", i);
        l.rows[i] = make_row(66 + i, kl_str(key), (struct kl_str){big, i == 1 ? BIG : 9}, NULL);
    }
    l.batch.nrows = 3;
    l.batch.last_rev = 68;
    assert_int_equal(driver->commit(s.c, &l.m, &err), KL_ETOOLARGE);
    assert_non_null(strstr(err.msg, "max_allowed_packet"));
    assert_int_equal(head(s.c, 3), 65);
    kl_kv_unref(l.rows[1].kv);
    kl_kv_unref(l.rows[2].kv);
    l.batch.nrows = 1;
    l.batch.last_rev = 66;
    OK(driver->commit(s.c, &l.m, &err));
    assert_int_equal(head(s.c, 3), 66);
    kl_kv_unref(l.rows[0].kv);
    free_rows(kv, 64);
    free(big);
    driver->close(s.c);
    kl_endpoint_fini(&s.e);
    ts_stop(server);
}

// Two sessions take turns; only the order of the log decides.
static void racing(void **state)
{
    struct session s;
    struct log l[2];
    open_session(&s);
    struct kl_sql_conn *c[2] = {s.c, dial(&s.e)};
    OK(driver->prepare(c[1], &err));
    for (int i = 0; i < 2; i++)
        begin_log(&l[i]);
    int64_t stored = 0, lost = 0;
    for (int i = 0; i < 50; i++) {
        for (int k = 0; k < 2; k++) { // both on what they believe is the head
            struct kl_kv *kv = add(&l[k], k ? "/one" : "/two", "x", NULL);
            l[k].m.writer_id = k + 1;
            l[k].m.chain = i * 2 + k + 1000;
            l[k].m.nonce = i * 2 + k;
            int r = driver->commit(c[k], &l[k].m, &err);
            stored += r == 0;
            lost += r == KL_ECONFLICT;
            if (r && r != KL_ECONFLICT)
                fail_msg("%d: %d %s", i, r, err.msg);
            if (!r) {
                int64_t chain = l[k].m.chain;
                advance(&l[k]);
                l[k].m.prev_chain = chain;
                l[!k].m.seq = l[k].m.seq;
                l[!k].m.prev_chain = chain;
                l[!k].batch.base_rev = l[k].batch.base_rev;
                if (i % 3 == 0) { // one that did not hear
                    l[!k].m.seq--;
                    l[!k].m.prev_chain = 1;
                }
            } else {
                l[k].m.seq = l[!k].m.seq;
                l[k].m.prev_chain = l[!k].m.prev_chain;
                l[k].batch.base_rev = l[!k].batch.base_rev;
                l[k].batch.nrows = 0;
            }
            kl_kv_unref(kv);
        }
    }
    assert_int_equal(head(s.c, 3), 1 + stored);
    assert_int_equal(head(s.c, 2), stored);
    assert_true(stored > 50 && lost > 5);
    driver->close(c[1]);
    close_session(&s);
}

struct rival {
    struct kl_sql_conn *c;
    struct log l;
    struct kl_lease_op leases[2];
    int code;
};

static void *run_rival(void *arg)
{
    struct rival *r = arg;
    struct kl_error e = {0};
    r->code = driver->commit(r->c, &r->l.m, &e);
    return NULL;
}

static void await_waiters(int n)
{
    char out[64] = "";
    for (int64_t until = kl_mono_ms() + 120000; strtol(out, NULL, 10) != n;) {
        assert_true(kl_mono_ms() < until);
        poll(NULL, 0, 20);
        ts_sql(ts_shared(kind), NULL,
               kind == TS_POSTGRES
                   ? "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                   : "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK "
                     "WAIT'",
               out, sizeof(out));
    }
}

static void propose(struct rival *r, int round, int who, const struct log *at, int64_t epoch,
                    int64_t lease)
{
    r->l.batch.base_rev = at->batch.base_rev;
    r->l.batch.nrows = 0;
    r->l.m.seq = at->m.seq;
    r->l.m.prev_chain = at->m.prev_chain;
    r->l.m.epoch = epoch;
    r->l.m.writer_id = who;
    r->l.m.nonce = round * 2 + who;
    r->l.m.chain = 5000 + round * 2 + who;
    add(&r->l, "/both", "x", NULL);
    add(&r->l, who ? "/one" : "/two", "x", NULL);
    r->leases[0] = (struct kl_lease_op){.id = lease, .ttl_ms = 10 + who};
    r->leases[1] = (struct kl_lease_op){.id = lease - 1};
    r->l.batch.leases = r->leases;
    r->l.batch.nleases = 2;
}

// Two commits wait for kv_meta's row, with snapshots from before: what they compare is the row as
// it is when they have it, and of the one that loses nothing stays, in no table.
static void waiting(void **state)
{
    struct session s;
    struct rival r[2];
    struct log at;
    int64_t epoch = 1, stored = 0;
    open_session(&s);
    begin_log(&at);
    for (int k = 0; k < 2; k++) {
        begin_log(&r[k].l);
        r[k].c = dial(&s.e);
        OK(driver->prepare(r[k].c, &err));
    }
    for (int i = 0; i < 12; i++) {
        pthread_t t[2];
        struct cells x;
        struct kl_sql_value one[2] = {KL_SQL_INT(i + 1)};
        OK(driver->begin(s.c, false, &err));
        OK(driver->query(s.c, KL_SQL_LOCK, NULL, 0, &err));
        driver->finish(s.c);
        for (int k = 0; k < 2; k++) {
            propose(&r[k], i, k, &at, epoch, 100 + stored);
            assert_int_equal(pthread_create(&t[k], NULL, run_rival, &r[k]), 0);
        }
        await_waiters(2);
        if (i % 3 == 1) { // the row changes, but nothing that counts
            OK(driver->exec(s.c, KL_SQL_STEP_DONE, one, 1, NULL, &err));
        } else if (i % 3 == 2) { // neither may be stored any more
            one[1] = KL_SQL_INT(epoch++);
            OK(driver->exec(s.c, KL_SQL_LEAD, one, 2, NULL, &err));
        }
        OK(driver->end(s.c, true, &err));
        for (int k = 0; k < 2; k++)
            pthread_join(t[k], NULL);
        int won = r[0].code == 0 ? 0 : 1;
        if (i % 3 == 2) {
            assert_int_equal(r[0].code, KL_ECONFLICT);
            assert_int_equal(r[1].code, KL_ECONFLICT);
        } else {
            assert_int_equal(r[won].code, 0);
            assert_int_equal(r[!won].code, KL_ECONFLICT);
            stored++;
            OK(driver->query(s.c, KL_SQL_BATCH, (struct kl_sql_value[]){KL_SQL_INT(at.m.seq)}, 1,
                             &err));
            assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
            assert_int_equal(x.v[0].i, r[won].l.m.nonce);
            driver->finish(s.c);
            OK(driver->query(s.c, KL_SQL_LEASES, NULL, 0, &err));
            assert_int_equal(driver->fetch(s.c, x.v, &err), 1);
            assert_int_equal(x.v[0].i, 99 + stored);
            assert_int_equal(x.v[1].i, 10 + won);
            assert_int_equal(driver->fetch(s.c, x.v, &err), 0);
            driver->finish(s.c);
            at.batch.base_rev += 2;
            at.m.seq++;
            at.m.prev_chain = r[won].l.m.chain;
        }
        for (int k = 0; k < 2; k++) {
            kl_kv_unref(r[k].l.rows[0].kv);
            kl_kv_unref(r[k].l.rows[1].kv);
        }
    }
    assert_int_equal(head(s.c, 3), 1 + 2 * stored);
    assert_int_equal(head(s.c, 2), stored);
    assert_int_equal(
        count_rows(s.c, KL_SQL_FEED, (struct kl_sql_value[]){KL_SQL_INT(0), KL_SQL_INT(1000)}, 2),
        2 * stored);
    assert_int_equal(stored, 8);
    driver->close(r[0].c);
    driver->close(r[1].c);
    close_session(&s);
}

static int dial_code(const char *url, const struct kl_store_options *o)
{
    struct kl_endpoint e;
    struct kl_sql_conn *c = NULL;
    parse(url, o, &e);
    int r = driver->connect(&e, TIMEOUT_MS, &c, &err);
    if (!r)
        driver->close(c);
    kl_endpoint_fini(&e);
    if (r && strstr(err.msg, "s3cr3t"))
        fail_msg("%s", err.msg);
    return r;
}

static void refusals(void **state)
{
    struct ts_server *server = ts_shared(kind);
    char url[256];
    snprintf(url, sizeof(url),
             kind == TS_POSTGRES ? "postgres://kine:s3cr3t@127.0.0.1:%d/postgres?sslmode=disable"
                                 : "mysql://kine:s3cr3t@tcp(127.0.0.1:%d)/mysql",
             ts_port(server));
    assert_int_equal(dial_code(url, NULL), KL_EUNAUTHORIZED);
    snprintf(url, sizeof(url),
             kind == TS_POSTGRES ? "postgres://nobody:s3cr3t@127.0.0.1:%d/postgres"
                                 : "mysql://nobody:s3cr3t@tcp(127.0.0.1:%d)/mysql",
             ts_port(server));
    assert_int_equal(dial_code(url, NULL), KL_EUNAUTHORIZED);
    snprintf(url, sizeof(url),
             kind == TS_POSTGRES ? "postgres://kine:s3cr3t@127.0.0.1:1/x"
                                 : "mysql://kine:s3cr3t@tcp(127.0.0.1:1)/x");
    assert_int_equal(dial_code(url, NULL), KL_EUNAVAILABLE);
    assert_non_null(strstr(err.msg, "127.0.0.1:1"));
    snprintf(url, sizeof(url),
             kind == TS_POSTGRES ? "postgres://kine:s3cr3t@no.such.invalid/x"
                                 : "mysql://kine:s3cr3t@tcp(no.such.invalid)/x");
    assert_int_equal(dial_code(url, NULL), KL_EUNAVAILABLE);
    // Over its socket, as the administrator.
    assert_int_equal(dial_code(ts_url_socket(server, kind == TS_POSTGRES ? "postgres" : "mysql",
                                             url, sizeof(url)),
                               NULL),
                     0);
}

static void forbidden(void **state)
{
    struct ts_server *server = ts_shared(kind);
    struct kl_endpoint e;
    char url[256];
    ts_sql(server, NULL,
           kind == TS_POSTGRES ? "CREATE ROLE weak LOGIN PASSWORD 's3cr3t'"
                               : "CREATE USER weak@'%' IDENTIFIED BY 's3cr3t'",
           NULL, 0);
    snprintf(url, sizeof(url),
             kind == TS_POSTGRES ? "postgres://weak:s3cr3t@127.0.0.1:%d/nowhere"
                                 : "mysql://weak:s3cr3t@tcp(127.0.0.1:%d)/nowhere",
             ts_port(server));
    parse(url, NULL, &e);
    assert_int_equal(driver->create_database(&e, &err), KL_EFORBIDDEN);
    assert_non_null(strstr(err.msg, "nowhere"));
    kl_endpoint_fini(&e);
}

// A call that another thread interrupts ends soon.
static void *interrupt_soon(void *arg)
{
    usleep(100000);
    driver->interrupt(arg);
    return NULL;
}

// What a batch relies on is the session's, whatever the URL says.
static void settings(void **state)
{
    char db[32], url[256];
    struct kl_endpoint e;
    struct kl_sql_conn *c;
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    struct ts_server *server = ts_shared(kind);
    bool pg = kind == TS_POSTGRES;
    ts_fresh(server, db);
    parse(ts_url(server, db,
                 pg ? "sslmode=disable&default_transaction_isolation=serializable"
                      "&idle_session_timeout=5000"
                    : "SQL_MODE=''&AUTOCOMMIT=0",
                 url, sizeof(url)),
          NULL, &e);
    OK(driver->create_database(&e, &err));
    c = dial(&e);
    OK(driver->look(c,
                    pg ? KL_STR("SELECT current_setting('transaction_isolation')::bytea,"
                                " current_setting('kinglet.writer')::bytea,"
                                " current_setting('idle_session_timeout', true)::bytea")
                       : KL_STR("SELECT @@sql_mode, CONCAT(@@autocommit + 0)"),
                    &err));
    assert_int_equal(driver->fetch(c, v, &err), 1);
    assert_true(
        kl_str_eqz(v[0].s, pg ? "read committed" : "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"));
    if (!kl_str_eqz(v[1].s, "1"))
        fail_msg("type %d %lld '%.*s'", v[1].type, (long long)v[1].i, KL_PRI(v[1].s));
    assert_true(!pg || kl_str_eqz(v[2].s, "0"));
    driver->finish(c);
    driver->close(c);
    kl_endpoint_fini(&e);
    // And what the server does not know is the URL's fault.
    parse(ts_url(server, db, pg ? "sslmode=disable&nosuch=1" : "nosuch=1", url, sizeof(url)), NULL,
          &e);
    assert_int_equal(driver->connect(&e, TIMEOUT_MS, &c, &err), KL_EINVALID);
    assert_non_null(strstr(err.msg, "nosuch"));
    kl_endpoint_fini(&e);
}

static void interrupted(void **state)
{
    struct session s;
    pthread_t t;
    open_session(&s);
    struct kl_sql_conn *other = dial(&s.e);
    OK(driver->prepare(other, &err));
    OK(driver->begin(s.c, false, &err));
    assert_int_equal(count_rows(s.c, KL_SQL_LOCK, NULL, 0), 1);
    int64_t since = kl_mono_ms();
    pthread_create(&t, NULL, interrupt_soon, other);
    OK(driver->begin(other, false, &err));
    int r = driver->query(other, KL_SQL_LOCK, NULL, 0, &err); // waits for the row
    struct cells x;
    if (!r) {
        r = driver->fetch(other, x.v, &err);
        driver->finish(other);
    }
    assert_int_equal(r, KL_EUNAVAILABLE);
    assert_true(kl_mono_ms() - since < TIMEOUT_MS - 5000);
    pthread_join(t, NULL);
    driver->close(other);
    OK(driver->end(s.c, true, &err));
    close_session(&s);
}

// A server that does not answer is given up after the timeout; one that is gone at once.
static void lost_server(void **state)
{
    struct ts_server *server = ts_start(kind, NULL);
    struct kl_endpoint e;
    struct kl_sql_conn *c = NULL;
    char url[192];
    parse(ts_url_socket(server, kind == TS_POSTGRES ? "postgres" : "mysql", url, sizeof(url)), NULL,
          &e);
    e.connect_timeout_s = TIMEOUT_MS / 1000;
    OK(driver->connect(&e, 2000, &c, &err));
    ts_pause(server);
    int64_t since = kl_mono_ms();
    enum kl_sql_tables t;
    assert_int_equal(driver->inspect(c, &t, &err), KL_EUNAVAILABLE);
    int64_t took = kl_mono_ms() - since;
    if (took < 1000)
        fail_msg("given up after %lld ms", (long long)took);
    driver->close(c);
    e.connect_timeout_s = 2;
    assert_int_equal(driver->connect(&e, 2000, &c, &err), KL_EUNAVAILABLE);
    ts_resume(server);
    e.connect_timeout_s = TIMEOUT_MS / 1000;
    OK(driver->connect(&e, TIMEOUT_MS, &c, &err));
    ts_kill(server);
    assert_int_equal(driver->inspect(c, &t, &err), KL_EUNAVAILABLE);
    driver->close(c);
    ts_up(server);
    OK(driver->connect(&e, TIMEOUT_MS, &c, &err));
    ts_down(server);
    assert_int_equal(driver->inspect(c, &t, &err), KL_EUNAVAILABLE);
    driver->close(c);
    kl_endpoint_fini(&e);
    ts_stop(server);
}

static void tls(void **state)
{
    struct ts_options to = {.tls = TS_TLS_CLIENT_CERT};
    struct ts_server *server = ts_start(kind, &to);
    struct ts_server *other = ts_start(kind, &(struct ts_options){.tls = TS_TLS_OFFERED});
    char url[256], ca[128], cert[128], key[128], other_ca[128];
    snprintf(ca, sizeof(ca), "%s/ca.crt", ts_dir(server));
    snprintf(cert, sizeof(cert), "%s/client.crt", ts_dir(server));
    snprintf(key, sizeof(key), "%s/client.key", ts_dir(server));
    snprintf(other_ca, sizeof(other_ca), "%s/ca.crt", ts_dir(other));
    const char *db = kind == TS_POSTGRES ? "postgres" : "mysql";
    const char *none = kind == TS_POSTGRES ? "sslmode=require" : "tls=skip-verify";
    const char *off = kind == TS_POSTGRES ? "sslmode=disable" : "tls=false";
    struct kl_store_options all = {.cafile = ca, .certfile = cert, .keyfile = key};
    struct kl_store_options wrong = {.cafile = other_ca, .certfile = cert, .keyfile = key};
    struct kl_store_options only_ca = {.cafile = other_ca};
    struct kl_store_options missing = {.cafile = "/nonexistent/ca.crt"};
    const char *q = kind == TS_POSTGRES ? "application_name=t" : "parseTime=true";
    ts_url(server, db, q, url, sizeof(url));
    OK(dial_code(url, &all));
    assert_int_not_equal(dial_code(url, &wrong), 0);
    assert_int_not_equal(dial_code(url, NULL), 0); // no client certificate
    ts_url(server, db, off, url, sizeof(url));
    assert_int_not_equal(dial_code(url, NULL), 0);
    ts_url(other, db, q, url, sizeof(url));
    OK(dial_code(url, &only_ca));
    assert_int_equal(dial_code(url, &missing), KL_EINVALID);
    ts_url(other, db, none, url, sizeof(url));
    OK(dial_code(url, NULL));
    // The system's authorities did not sign it.
    ts_url(other, db, kind == TS_POSTGRES ? "sslmode=verify-full" : "tls=true", url, sizeof(url));
    assert_int_not_equal(dial_code(url, NULL), 0);
    // Preferred: with and without.
    const char *prefer = kind == TS_POSTGRES ? "sslmode=prefer" : "tls=preferred";
    ts_url(other, db, prefer, url, sizeof(url));
    OK(dial_code(url, NULL));
    ts_url(ts_shared(kind), db, prefer, url, sizeof(url));
    OK(dial_code(url, NULL));
    ts_url(ts_shared(kind), db, none, url, sizeof(url)); // a server without TLS
    assert_int_not_equal(dial_code(url, NULL), 0);
    ts_url(ts_shared(kind), db, q, url, sizeof(url));
    assert_int_not_equal(dial_code(url, &only_ca), 0);
    // The name must be the certificate's, which has localhost and 127.0.0.1.
    for (int verify = 0; verify < 2; verify++) {
        snprintf(url, sizeof(url),
                 kind == TS_POSTGRES ? "postgres://kine:s3cr3t%%2Fw%%40rd@other:%d/"
                                       "postgres?hostaddr=127.0.0.1&sslmode=%s"
                                     : "mysql://kine:" TS_PASSWORD "@tcp(127.1:%d)/mysql?tls=%s",
                 ts_port(other),
                 kind == TS_POSTGRES ? (verify ? "verify-full" : "require")
                                     : (verify ? "true" : "skip-verify"));
        assert_int_equal(dial_code(url, verify ? &only_ca : NULL) != 0, verify);
    }
    ts_stop(other);
    ts_stop(server);
}

static void batches(void **state)
{
    check_batches(false);
}

static void mysql_batches_one_by_one(void **state)
{
    check_batches(true);
}

int main(int argc, char **argv)
{
    kind = argc > 1 && strcmp(argv[1], "postgres") == 0 ? TS_POSTGRES : TS_MARIADB;
    driver = kind == TS_POSTGRES ? &kl_sql_postgres : &kl_sql_mysql;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables),     cmocka_unit_test(kine_tables), cmocka_unit_test(batches),
        cmocka_unit_test(odd_bytes),  cmocka_unit_test(big_values),  cmocka_unit_test(transactions),
        cmocka_unit_test(statements), cmocka_unit_test(racing),      cmocka_unit_test(refusals),
        cmocka_unit_test(forbidden),  cmocka_unit_test(interrupted), cmocka_unit_test(lost_server),
        cmocka_unit_test(tls),        cmocka_unit_test(settings),    cmocka_unit_test(waiting),
    };
    const struct CMUnitTest mysql_tests[] = {cmocka_unit_test(mysql_plans),
                                             cmocka_unit_test(mysql_batches_one_by_one),
                                             cmocka_unit_test(mysql_small_packets)};
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    int failed = cmocka_run_group_tests_name(driver->title, tests, NULL, NULL);
    if (kind == TS_MARIADB)
        failed += cmocka_run_group_tests_name("plans", mysql_tests, NULL, NULL);
    return failed;
}
