// SPDX-License-Identifier: Apache-2.0
// Copies between stores: whole, cut and resumed, refused, followed while writes go on, renumbered.
#include "store/transfer/copy.h"
#include "store/transfer/fence.h"
#include "store/transfer/target.h"
#include "store/transfer/access.h"
#include "support.h"
#include "base/clock.h"
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char dir[64], from_url[128], to_url[128];

static int setup(void **state)
{
    ts_dir_make(dir);
    snprintf(from_url, sizeof(from_url), "sqlite://%s/from.db", dir);
    snprintf(to_url, sizeof(to_url), "sqlite://%s/to.db", dir);
    return 0;
}

static int teardown(void **state)
{
    ts_dir_remove(dir);
    return 0;
}

static struct kl_store_copy_origin origin(struct kl_store *s)
{
    struct kl_store_copy_origin o = kl_store_copy_from_store;
    o.arg = s;
    return o;
}

static const struct kl_store_options reading = {.read_only = true};

static struct kl_store *copy_to(struct kl_store *from, const char *to,
                                struct kl_store_copy_result *ret)
{
    struct kl_store_copy_origin o = origin(from);
    struct kl_store_copy_options c = {.to = to, .store = &reading};
    struct kl_store *s = NULL;
    struct kl_error err = {0};
    if (kl_store_copy(&o, &c, ret, &s, NULL, &err))
        fail_msg("%s", err.msg);
    return s;
}

static void same_digest(struct kl_store *a, struct kl_store *b)
{
    unsigned char x[KL_DIGEST_BYTES], y[KL_DIGEST_BYTES];
    kl_rev rev;
    assert_int_equal(kl_store_digest(a, NULL, NULL, x, &rev, NULL), 0);
    assert_int_equal(kl_store_digest(b, NULL, NULL, y, &rev, NULL), 0);
    assert_memory_equal(x, y, sizeof(x));
}

static void whole_to(const char *to)
{
    static const char *const keys[] = {"/t/a", "/t/b", "/t/c"};
    struct kl_store_copy_result r;
    struct kl_store *from = ts_open(from_url, NULL);
    ts_fill(from, 500, 3);
    ts_lease(from, 77, 100);
    ts_put(from, "/leased", "x", 77);
    ts_lease(from, -9, KL_LEASE_MAX_TTL + KL_ALARM_CORRUPT); // an alarm
    ts_put_many(from, keys, 3, "together");
    ts_put_many(from, keys, 2, "again");
    ts_put(from, "/empty", "", 0);
    struct kl_store *s = copy_to(from, to, &r);
    ts_same(from, s);
    same_digest(from, s);
    assert_int_equal(ts_rev(s), ts_rev(from));
    assert_int_equal(r.rev, ts_rev(from));
    assert_int_equal(r.shared, 0);
    assert_false(r.resumed);
    int64_t left = ts_lease_left(s, 77);
    assert_true(left > 90000 && left <= 100000);
    assert_int_equal(kl_store_alarms(s), 1u << KL_ALARM_CORRUPT);
    kl_store_stop(s);
    kl_store_stop(from);
}

static void whole(void **state)
{
    whole_to(to_url);
    // It opens as what it is, and goes on.
    struct kl_store *s = ts_open(to_url, NULL), *from = ts_open(from_url, NULL);
    ts_same(from, s);
    kl_rev rev = ts_rev(s);
    assert_int_equal(ts_put(s, "/k/000001", "new", 0), rev + 1);
    ts_compact(s, rev + 1);
    assert_int_equal(ts_put(s, "/leased", NULL, 0), rev + 2);
    kl_store_stop(s);
    kl_store_stop(from);
}

// Into raft's log and database; it opens again with what its log says.
static void whole_raft(void **state)
{
    char url[128];
    snprintf(url, sizeof(url), "raft://%s/raft", dir);
    whole_to(url);
    struct kl_store *s = ts_open(url, NULL), *from = ts_open(from_url, NULL);
    ts_same(from, s);
    kl_rev rev = ts_rev(s);
    assert_int_equal(ts_put(s, "/k/000001", "new", 0), rev + 1);
    kl_store_stop(s);
    s = ts_open(url, NULL);
    assert_int_equal(ts_rev(s), rev + 1);
    kl_store_stop(s);
    kl_store_stop(from);
}

static void whole_memory(void **state)
{
    whole_to("memory://");
}

static void empty(void **state)
{
    struct kl_store_copy_result r;
    struct kl_store *from = ts_open(from_url, NULL), *s = copy_to(from, to_url, &r);
    assert_int_equal(ts_rev(s), 1);
    assert_int_equal(r.rows, 0);
    kl_store_stop(s);
    kl_store_stop(from);
}

static void refused(void **state)
{
    struct kl_store_copy_result r;
    struct kl_error err = {0};
    struct kl_store *from = ts_open(from_url, NULL), *s = ts_open(to_url, NULL);
    ts_fill(from, 10, 1);
    ts_put(s, "/precious", "1", 0);
    kl_store_stop(s);
    struct kl_store_copy_origin o = origin(from);
    struct kl_store_copy_options c = {.to = to_url, .store = &reading};
    assert_int_equal(kl_store_copy(&o, &c, &r, NULL, NULL, &err), KL_EEXISTS);
    assert_non_null(strstr(err.msg, "--force"));
    s = ts_open(to_url, NULL); // as it was
    assert_int_equal(ts_rev(s), 2);
    kl_store_stop(s);
    c.force = true;
    assert_int_equal(kl_store_copy(&o, &c, &r, &s, NULL, &err), 0);
    ts_same(from, s);
    kl_store_stop(s);
    kl_store_stop(from);
}

// ---- a source that breaks after some records

struct cut {
    struct kl_store_copy_origin real;
    struct kl_source source, *inner;
    int left;
};

static int cut_next(struct kl_source *s, struct kl_record *ret, struct kl_error *err)
{
    struct cut *c = KL_CONTAINER_OF(s, struct cut, source);
    if (c->left-- <= 0)
        return kl_error_set(err, KL_EIO, "cut");
    return c->inner->next(c->inner, ret, err);
}

static void cut_close(struct kl_source *s)
{
    struct cut *c = KL_CONTAINER_OF(s, struct cut, source);
    c->inner->close(c->inner);
}

static int cut_identify(void *arg, uint64_t *id, kl_rev *rev, struct kl_error *err)
{
    struct cut *c = arg;
    return c->real.identify(c->real.arg, id, rev, err);
}

static int cut_open(void *arg, const struct kl_source_from *from, struct kl_source **ret,
                    struct kl_error *err)
{
    struct cut *c = arg;
    int r = c->real.open(c->real.arg, from, &c->inner, err);
    c->source = (struct kl_source){cut_next, cut_close};
    *ret = &c->source;
    return r;
}

static void cut_after(struct kl_store *from, int records, const char *to)
{
    struct cut cut = {.real = origin(from), .left = records};
    struct kl_store_copy_origin o = {&cut, cut_identify, cut_open, NULL};
    struct kl_store_copy_options c = {.to = to, .store = &reading};
    struct kl_store_copy_result r;
    struct kl_error err = {0};
    assert_int_equal(kl_store_copy(&o, &c, &r, NULL, NULL, &err), KL_EIO);
}

static void resumed(void **state)
{
    struct kl_store_copy_result r;
    struct kl_error err = {0};
    struct kl_store *s, *from = ts_open(from_url, NULL);
    ts_fill(from, 5000, 2);
    cut_after(from, 3500, to_url);
    assert_int_equal(kl_store_open(to_url, NULL, &s, &err), KL_EUNAVAILABLE);
    assert_non_null(strstr(err.msg, "unfinished"));
    s = copy_to(from, to_url, &r);
    assert_true(r.resumed);
    assert_true(r.rows < 5000 && r.rows > 1000);
    ts_same(from, s);
    kl_store_stop(s);
    kl_store_stop(from);
}

static int64_t count_rows(void)
{
    sqlite3 *db;
    sqlite3_stmt *st;
    assert_int_equal(sqlite3_open(to_url + strlen("sqlite://"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT COUNT(*) FROM kine", -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

// The source has changed since: keys that were copied are deleted, updated, new ones are there.
static void resumed_later(void **state)
{
    struct kl_store_copy_result r;
    struct kl_store *s, *from = ts_open(from_url, NULL);
    ts_fill(from, 4000, 1);
    cut_after(from, 2500, to_url);
    ts_put(from, "/k/000001", NULL, 0);
    ts_put(from, "/k/000002", "updated", 0);
    ts_put(from, "/k/003999", "updated", 0);
    ts_put(from, "/k/003998", NULL, 0);
    ts_put(from, "/k/003998", "back", 0);
    ts_put(from, "/new", "new", 0);
    cut_after(from, 500, to_url);
    ts_put(from, "/k/000003", NULL, 0);
    s = copy_to(from, to_url, &r);
    assert_true(r.resumed);
    ts_same(from, s);
    kl_store_stop(s);
    s = ts_open(to_url, NULL);
    ts_same(from, s);
    ts_compact(s, ts_put(s, "/last", "1", 0));
    struct kl_store_status st;
    kl_store_status(s, &st);
    int64_t keys = st.keys;
    kl_store_stop(s);
    assert_int_equal(count_rows(), keys); // what the cut copies left behind is gone as well
    kl_store_stop(from);
}

static void restarted(void **state)
{
    struct kl_store_copy_result r;
    struct kl_store *s, *from = ts_open(from_url, NULL);
    ts_fill(from, 3000, 1);
    cut_after(from, 2500, to_url);
    ts_put(from, "/k/000001", NULL, 0);
    ts_put(from, "/k/000002", "updated", 0);
    ts_compact(from, ts_rev(from)); // the log no longer says what was deleted
    s = copy_to(from, to_url, &r);
    assert_true(r.restarted);
    assert_false(r.resumed);
    ts_same(from, s);
    kl_store_stop(s);
    kl_store_stop(from);
}

static void another_source(void **state)
{
    struct kl_store_copy_result r;
    struct kl_error err = {0};
    char url[128];
    snprintf(url, sizeof(url), "sqlite://%s/other.db", dir);
    struct kl_store *from = ts_open(from_url, NULL), *other = ts_open(url, NULL);
    ts_fill(from, 3000, 1);
    ts_fill(other, 5, 1);
    cut_after(from, 2500, to_url);
    struct kl_store_copy_origin o = origin(other);
    struct kl_store_copy_options c = {.to = to_url, .store = &reading};
    assert_int_equal(kl_store_copy(&o, &c, &r, NULL, NULL, &err), KL_EEXISTS);
    kl_store_stop(from);
    kl_store_stop(other);
}

// ---- online

struct writer {
    struct kl_store *s;
    atomic_bool stop;
    int written, refused;
};

static void *run_writer(void *arg)
{
    struct writer *w = arg;
    char key[32], value[32];
    for (int i = 0; !atomic_load(&w->stop); i++) {
        snprintf(key, sizeof(key), "/w/%d", i % 50);
        snprintf(value, sizeof(value), "%d", i);
        kl_rev rev = ts_put(w->s, key, i % 11 == 10 ? NULL : value, 0);
        if (rev > 0)
            w->written++;
        else if (rev == KL_EUNAVAILABLE)
            w->refused++;
        else
            fail_msg("write: %lld", (long long)rev);
    }
    return NULL;
}

struct online {
    struct kl_store *from;
    struct kl_source *source;
    int marks;
    kl_rev fenced;
};

static int online_open(void *arg, const struct kl_source_from *from, struct kl_source **ret,
                       struct kl_error *err)
{
    struct online *o = arg;
    int r = kl_store_source_new(o->from, from, &o->source, err);
    *ret = o->source;
    return r;
}

static int online_identify(void *arg, uint64_t *id, kl_rev *rev, struct kl_error *err)
{
    return kl_store_copy_from_store.identify(((struct online *)arg)->from, id, rev, err);
}

static int online_fence(void *arg, kl_rev *ret_rev, struct kl_error *err)
{
    struct online *o = arg;
    int r = kl_fence_take(o->from, 60000, "being copied", ret_rev, err);
    o->fenced = *ret_rev;
    kl_store_source_finish(o->source, *ret_rev);
    return r;
}

static void keep_and_lift(struct kl_store *s, kl_rev rev)
{
    struct kl_access a;
    struct kl_error err = {0};
    char why[64];
    assert_int_equal(kl_access_open(&a, s, &err), 0);
    assert_int_equal(kl_fence_take(s, 1000, "again", &(kl_rev){0}, &err), KL_EUNAVAILABLE);
    assert_string_equal(err.msg, "the datastore takes no writes: being copied");
    assert_int_equal(kl_fence_renew(s, rev, &err), 0);
    assert_int_equal(kl_fence_renew(s, rev - 1, &err), KL_ECONFLICT);
    assert_int_equal(kl_fence_keep(s, rev - 1, "moved", &err), KL_ECONFLICT);
    assert_int_equal(kl_fence_keep(s, rev, "moved", &err), 0);
    assert_int_equal(kl_fence_keep(s, rev, "moved", &err), 0); // the answer was lost
    assert_int_equal(kl_fence_keep(s, rev, "elsewhere", &err), KL_ECONFLICT);
    assert_int_equal(ts_rev(s), rev + 1);
    assert_int_equal(kl_fence_reason(&a, why, sizeof(why), &err), 0);
    assert_string_equal(why, "moved");
    assert_int_equal(ts_put(s, "/fenced", "x", 0), KL_EUNAVAILABLE);
    assert_int_equal(kl_fence_lift(s, rev, &err), KL_ENOTFOUND);
    assert_int_equal(ts_put(s, "/fenced", "x", 0), KL_EUNAVAILABLE);
    assert_int_equal(kl_fence_lift(s, 0, &err), 0);
    assert_int_equal(ts_put(s, "/fenced", "x", 0), rev + 3);
    assert_int_equal(ts_put(s, "/fenced", NULL, 0), rev + 4);
    kl_access_close(&a);
}

static void followed(void **state)
{
    struct kl_store *s = NULL, *from = ts_open(from_url, NULL);
    ts_fill(from, 2000, 2);
    ts_lease(from, 5, 50);
    ts_put(from, "/leased", "x", 5);
    struct writer w = {.s = from};
    pthread_t thread;
    pthread_create(&thread, NULL, run_writer, &w);
    struct online on = {.from = from};
    struct kl_store_copy_origin o = {&on, online_identify, online_open, online_fence};
    struct kl_store_copy_options c = {.to = to_url, .store = &reading, .follow = true};
    struct kl_store_copy_result r;
    struct kl_error err = {0};
    if (kl_store_copy(&o, &c, &r, &s, NULL, &err))
        fail_msg("%s", err.msg);
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    assert_true(w.written > 0);
    assert_int_equal(ts_rev(from), on.fenced); // nothing came behind the fence
    assert_int_equal(r.rev, on.fenced + 1);
    keep_and_lift(from, on.fenced);
    ts_same(from, s);
    assert_true(ts_lease_left(s, 5) > 0);
    kl_store_stop(s);
    s = ts_open(to_url, NULL);
    ts_compact(s, ts_rev(s));
    ts_same(from, s);
    kl_store_stop(s);
    kl_store_stop(from);
}

// ---- rows that share a revision

struct list {
    struct kl_source source;
    int at;
};

static const struct {
    const char *key;
    kl_rev rev, create;
} shared_rows[] = {{"/a", 3, 2},  {"/b", 5, 5},   {"/c", 5, 3},   {"/d", 5, 5},  {"/e", 6, 5},
                   {"/f", 10, 6}, {"/g", 11, 11}, {"/h", 11, 10}, {"/i", 20, 12}};

static int list_next(struct kl_source *s, struct kl_record *r, struct kl_error *err)
{
    struct list *l = KL_CONTAINER_OF(s, struct list, source);
    int n = KL_COUNT(shared_rows), i = l->at++ - 1;
    if (i < 0)
        *r = (struct kl_record){.kind = KL_RECORD_HEADER,
                                .header = {.version = 1, .rev = 25, .keys = n}};
    else if (i < n)
        *r = (struct kl_record){.kind = KL_RECORD_ROW,
                                .row = {.id = shared_rows[i].rev,
                                        .mod_rev = shared_rows[i].rev,
                                        .create_rev = shared_rows[i].create,
                                        .version = 2,
                                        .key = kl_str(shared_rows[i].key),
                                        .value = kl_str("v")}};
    else
        *r = (struct kl_record){.kind = KL_RECORD_END, .end = {25, n}};
    return 0;
}

static void list_close(struct kl_source *s)
{
}

static int list_identify(void *arg, uint64_t *id, kl_rev *rev, struct kl_error *err)
{
    *id = 9;
    *rev = 25;
    return 0;
}

static int list_open(void *arg, const struct kl_source_from *from, struct kl_source **ret,
                     struct kl_error *err)
{
    struct list *l = arg;
    l->source = (struct kl_source){list_next, list_close};
    *ret = &l->source;
    return 0;
}

static void renumbered(void **state)
{
    static const struct {
        const char *key;
        kl_rev id, mod, create;
    } want[] = {{"/a", 3, 3, 2},    {"/b", 5, 7, 7},    {"/c", 6, 7, 3},
                {"/d", 7, 7, 7},    {"/e", 8, 8, 7},    {"/f", 12, 12, 8},
                {"/g", 13, 14, 14}, {"/h", 14, 14, 12}, {"/i", 23, 23, 15}};
    struct list l = {0};
    struct kl_store_copy_origin o = {&l, list_identify, list_open, NULL};
    struct kl_store_copy_options c = {.to = to_url, .store = &reading};
    struct kl_store_copy_result r;
    struct kl_store *s = NULL;
    struct kl_error err = {0};
    if (kl_store_copy(&o, &c, &r, &s, NULL, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(r.shared, 5);
    assert_int_equal(r.from_rev, 25);
    assert_int_equal(r.rev, 28);
    assert_int_equal(ts_rev(s), 28);
    struct kl_access a;
    struct kl_view *v;
    assert_int_equal(kl_access_open(&a, s, NULL), 0);
    assert_int_equal(kl_access_view(&a, &v, NULL), 0);
    for (size_t i = 0; i < KL_COUNT(want); i++) {
        struct kl_kv *kv = kl_view_get(v, kl_str(want[i].key));
        assert_non_null(kv);
        if (kv->id != want[i].id || kv->mod_rev != want[i].mod || kv->create_rev != want[i].create)
            fail_msg("%s: %lld %lld %lld", want[i].key, (long long)kv->id, (long long)kv->mod_rev,
                     (long long)kv->create_rev);
    }
    kl_view_unref(v);
    kl_access_close(&a);
    kl_store_stop(s);
}

struct still {
    int64_t mono_ms, wall_ms;
};

static int64_t still_mono(void *arg)
{
    return ((struct still *)arg)->mono_ms;
}

static int64_t still_wall(void *arg)
{
    return ((struct still *)arg)->wall_ms;
}

// Nothing changes in a store that is open for reading only: leases that ran out keep their keys.
static void read_only(void **state)
{
    // Its clock stands still: the lease ends for those that come later.
    struct still still = {kl_mono_ms(), kl_wall_ms()};
    struct kl_store_clock clock = {still_mono, still_wall, &still};
    struct kl_store *s = ts_open(from_url, &(struct kl_store_options){.clock = &clock});
    ts_lease(s, 9, 1);
    ts_put(s, "/short", "x", 9);
    kl_rev rev = ts_rev(s);
    kl_store_stop(s);
    s = ts_open(from_url, &reading);
    assert_int_equal(ts_put(s, "/a", "b", 0), KL_EUNAVAILABLE);
    struct timespec t = {1, 500000000};
    nanosleep(&t, NULL); // what must not happen has no event to wait for
    assert_int_equal(ts_rev(s), rev);
    kl_store_stop(s);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(whole),          TEST(whole_memory), TEST(whole_raft),    TEST(empty),
        TEST(refused),        TEST(resumed),      TEST(resumed_later), TEST(restarted),
        TEST(another_source), TEST(followed),     TEST(renumbered),    TEST(read_only)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
