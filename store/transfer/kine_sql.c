// SPDX-License-Identifier: Apache-2.0
// The take-over of kine's tables in a database that several servers may use: nothing tells who is
// connected for what, so first nothing must have been written for a while (every K3s server renews
// leases every 10 s), then a snapshot is saved, then the tables change under their lock, if they
// are still as they were.
#include "store/transfer/kine_int.h"
#include "store/store.h"
#include "store/transfer/kine.h"
#include "store/transfer/snapshot.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include <poll.h>
#include <stdio.h>

enum { WAIT_MS = 15000, LOOK_MS = 250 };

static const struct kl_kine_sql *dialect(const struct kl_sql_driver *d)
{
    return d->kind == KL_ENDPOINT_POSTGRES ? &kl_kine_pg : &kl_kine_my;
}

// ---- small queries ----

int kl_kine_run(struct kl_sql_conn *c, const char *sql, struct kl_error *err)
{
    return c->driver->run(c, kl_str(sql), NULL, err);
}

int64_t kl_kine_cell(const struct kl_sql_value *v)
{
    int64_t n = 0;
    if (v->type == KL_SQL_INT)
        return v->i;
    return v->type == KL_SQL_BYTES && kl_str_to_i64(v->s, &n) ? n : 0; // a decimal
}

int kl_kine_int(struct kl_sql_conn *c, const char *sql, int64_t *ret, struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int r = c->driver->look(c, kl_str(sql), err);
    if (r)
        return r;
    r = c->driver->fetch(c, v, err);
    *ret = r == 1 ? kl_kine_cell(&v[0]) : 0;
    c->driver->finish(c);
    return r < 0 ? r : 0;
}

static int look(struct kl_sql_conn *c, struct kl_kine_found *ret, struct kl_error *err)
{
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int r = c->driver->look(c, kl_str(dialect(c->driver)->look), err);
    if (r)
        return r;
    r = c->driver->fetch(c, v, err);
    if (r == 1) {
        *ret = (struct kl_kine_found){.keys = kl_kine_cell(&v[0]),
                                      .leases = kl_kine_cell(&v[1]),
                                      .newest = kl_kine_cell(&v[2]),
                                      .compact_rev = kl_kine_cell(&v[3])};
        ret->rev = ret->newest > ret->compact_rev ? ret->newest : ret->compact_rev;
        ret->rev = ret->rev < 1 ? 1 : ret->rev;
        if (v[4].type == KL_SQL_BYTES)
            snprintf(ret->bootstrap, sizeof(ret->bootstrap), "%.*s", KL_PRI(v[4].s));
    }
    c->driver->finish(c);
    return r < 0 ? r : 0;
}

// Before anything else, and before the wait.
static int check(struct kl_sql_conn *c, const struct kl_store_options *o, struct kl_error *err)
{
    static const struct kl_str sql = KL_STR_INIT(
        "SELECT k.name, k.value FROM kine k WHERE k.id IN (SELECT max(id) FROM kine WHERE name LIKE"
        " '/bootstrap/%' GROUP BY name) AND k.deleted = 0");
    struct kl_sql_value cells[KL_SQL_MAX_COLUMNS];
    struct kl_kine_records all; // a row is gone with the next
    if (!o->take_over_check)
        return 0;
    int r = c->driver->look(c, sql, err);
    if (r)
        return r;
    kl_kine_records_init(&all);
    while ((r = c->driver->fetch(c, cells, err)) == 1) {
        struct kl_str value = cells[1].type == KL_SQL_BYTES ? cells[1].s : KL_STR("");
        if (kl_kine_records_add(&all, cells[0].s, value)) {
            r = kl_error_set(err, KL_ENOMEM, "datastore %s: K3s' records: out of memory", c->name);
            break;
        }
    }
    c->driver->finish(c);
    r = r < 0 ? r : o->take_over_check(o->take_over_arg, all.v, all.n, err);
    kl_kine_records_fini(&all);
    return r;
}

// ---- a snapshot of what is there ----

struct kine_source {
    struct kl_source source;
    struct kl_sql_conn *c;
    const struct kl_kine_found *found;
    int phase;
    int64_t sent;
};

static int next_cell_row(struct kine_source *s, const char *sql, struct kl_sql_value *v,
                         bool *begun, struct kl_error *err)
{
    int r = *begun ? 0 : s->c->driver->look(s->c, kl_str(sql), err);
    if (r)
        return r;
    *begun = true;
    r = s->c->driver->fetch(s->c, v, err);
    if (r != 1) {
        s->c->driver->finish(s->c);
        *begun = false;
    }
    return r;
}

static void give_row(struct kine_source *s, const struct kl_sql_value *v, struct kl_record *ret)
{
    kl_rev id = kl_kine_cell(&v[0]);
    int64_t lease = kl_kine_cell(&v[4]);
    *ret = (struct kl_record){.kind = KL_RECORD_ROW,
                              .row = {.id = id,
                                      .mod_rev = id,
                                      .create_rev = kl_kine_cell(&v[2]),
                                      .version = kl_kine_cell(&v[3]),
                                      .lease = lease > 0 ? lease : 0,
                                      .key = v[1].s,
                                      .value = v[5].type == KL_SQL_BYTES ? v[5].s : KL_STR("")}};
    s->sent++;
}

enum { AT_HEADER, AT_ROWS, IN_ROWS, AT_LEASES, IN_LEASES, AT_END, AFTER_END };

static int next_record(struct kl_source *source, struct kl_record *ret, struct kl_error *err)
{
    struct kine_source *s = KL_CONTAINER_OF(source, struct kine_source, source);
    const struct kl_kine_sql *sql = dialect(s->c->driver);
    struct kl_sql_value v[KL_SQL_MAX_COLUMNS];
    int r;
    if (s->phase == AT_HEADER) {
        *ret = (struct kl_record){.kind = KL_RECORD_HEADER,
                                  .header = {.version = KL_RECORD_VERSION,
                                             .backend = "kine",
                                             .cluster_id = kl_rand_u64() >> 1 | 1,
                                             .rev = s->found->rev,
                                             .compact_rev = s->found->compact_rev,
                                             .wall_ms = kl_wall_ms(),
                                             .keys = s->found->keys}};
        s->phase = AT_ROWS;
        return 0;
    }
    while (s->phase < AT_END) {
        bool rows = s->phase < AT_LEASES, begun = s->phase == IN_ROWS || s->phase == IN_LEASES;
        r = next_cell_row(s, rows ? sql->rows : sql->leases, v, &begun, err);
        if (r < 0)
            return r;
        s->phase = r ? rows ? IN_ROWS : IN_LEASES : rows ? AT_LEASES : AT_END;
        if (!r)
            continue;
        if (rows) {
            give_row(s, v, ret);
        } else {
            int64_t seconds = kl_kine_cell(&v[0]);
            *ret = (struct kl_record){.kind = KL_RECORD_LEASE,
                                      .lease = {seconds, seconds * 1000, seconds * 1000}};
        }
        return 0;
    }
    if (s->phase == AFTER_END)
        return KL_EEOF;
    s->phase = AFTER_END;
    *ret = (struct kl_record){.kind = KL_RECORD_END, .end = {s->found->rev, s->sent}};
    return 0;
}

static int save_snapshot(struct kl_sql_conn *c, const struct kl_kine_found *f, const char *dir,
                         struct kl_error *err)
{
    struct kine_source s = {.source = {next_record, NULL}, .c = c, .found = f};
    struct kl_snapshot_info info;
    char node[32]; // several servers may do this at once, in one directory
    snprintf(node, sizeof(node), "%s-%08x", c->driver->scheme, (unsigned)kl_rand_u64());
    int r = kl_snapshot_save_from(&s.source, dir, "before-take-over", node, &info, err);
    if (s.phase == IN_ROWS || s.phase == IN_LEASES)
        c->driver->finish(c);
    if (!r)
        kl_log(KL_LOG_WARN, "store", "datastore %s: as it is now it was saved to %s/%s", c->name,
               dir, info.name);
    return r;
}

// ---- nobody writes ----

int kl_kine_still_written(struct kl_sql_conn *c, struct kl_error *err)
{
    return kl_error_set(err, KL_ECONFLICT,
                        "datastore %s is still written by kine or K3s: stop all its servers first; "
                        "nothing was changed",
                        c->name);
}

static int wait_until_quiet(struct kl_sql_conn *c, int64_t wait_ms, struct kl_error *err)
{
    const char *sql = dialect(c->driver)->newest;
    int64_t first = 0, now = 0, end = kl_mono_ms() + wait_ms;
    int r = kl_kine_int(c, sql, &first, err);
    if (!r)
        kl_log(KL_LOG_WARN, "store",
               "datastore %s: is taken over when nothing was written to it for %lld s", c->name,
               (long long)(wait_ms + 999) / 1000);
    while (!r && kl_mono_ms() < end) {
        poll(NULL, 0, LOOK_MS);
        r = kl_kine_int(c, sql, &now, err);
        if (!r && now != first)
            r = kl_kine_still_written(c, err);
    }
    return r;
}

// ---- taking over ----

static int refuse(struct kl_sql_conn *c, const struct kl_kine_found *f, struct kl_error *err)
{
    return kl_error_set(
        err, KL_EUNSUPPORTED,
        "datastore %s was written by kine or K3s (%lld keys at revision %lld): --take-over waits "
        "until nothing was written for 15 s, saves a snapshot of it, adds three columns and the "
        "tables kv_meta, kv_batch, kv_lease and kv_peer, puts one index in place of kine's%s, lets "
        "%lld keys with a lease end after their full time and keeps kine from writing; kinglet "
        "migrate --to-kine leads back%s%s",
        c->name, (long long)f->keys, (long long)f->rev, dialect(c->driver)->extra,
        (long long)f->leases, f->bootstrap[0] ? KL_KINE_BOOTSTRAP : "", f->bootstrap);
}

static int take_over(struct kl_sql_conn *c, const struct kl_store_options *o, struct kl_error *err)
{
    struct kl_kine_found f = {0};
    int r = look(c, &f, err);
    if (!r && !o->take_over)
        r = refuse(c, &f, err);
    if (!r)
        r = check(c, o, err);
    if (!r)
        r = wait_until_quiet(c, o->take_over_wait_ms ? o->take_over_wait_ms : WAIT_MS, err);
    if (!r)
        r = look(c, &f, err);
    if (!r)
        r = save_snapshot(c, &f, o->take_over_dir ? o->take_over_dir : ".", err);
    if (!r)
        r = dialect(c->driver)->take_over(c, &f, err);
    if (r)
        return r;
    kl_log(KL_LOG_WARN, "store", "took over datastore %s from kine: keys=%lld rev=%lld", c->name,
           (long long)f.keys, (long long)f.rev);
    return 0;
}

int kl_kine_take_over_sql(const struct kl_sql_driver *d, const struct kl_endpoint *ep,
                          const struct kl_store_options *o, struct kl_error *err)
{
    struct kl_sql_conn *c;
    int r = d->connect(ep, 0, &c, err);
    if (r)
        return r;
    r = take_over(c, o, err);
    d->close(c);
    return r;
}

// ---- giving back ----

int kl_kine_check_at_rest(struct kl_sql_conn *c, const char *peers_sql, struct kl_error *err)
{
    int64_t n = 0, importing = 0;
    int r = kl_kine_int(c, peers_sql, &n, err);
    if (!r && n)
        r = kl_error_set(err, KL_EUNAVAILABLE,
                         "datastore %s is in use by %lld server%s (one that was killed counts for "
                         "20 s)",
                         c->name, (long long)n, n == 1 ? "" : "s");
    if (!r)
        r = kl_kine_int(c, "SELECT COUNT(*) FROM kv_meta WHERE import_source IS NOT NULL",
                        &importing, err);
    if (!r && importing)
        r = kl_error_set(err, KL_EINVALID,
                         "datastore %s: a copy into it was cut and must be finished first",
                         c->name);
    return r;
}

int kl_kine_give_back_sql(const struct kl_sql_driver *d, const struct kl_endpoint *ep,
                          struct kl_error *err)
{
    struct kl_sql_conn *c;
    int r = d->connect(ep, 0, &c, err);
    if (r)
        return r;
    r = dialect(d)->give_back(c, err);
    d->close(c);
    return r;
}
