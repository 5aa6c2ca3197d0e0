// SPDX-License-Identifier: Apache-2.0
// kine's table in MariaDB and MySQL (kine 0.17, pkg/drivers/mysql). A definition is a transaction
// of its own there, so either way is steps that may be run again, and one that decides: kv_meta
// gets its name when all else is done, and loses it before anything is undone.
#include "store/transfer/kine_int.h"
#include "store/sql/my_int.h"
#include "base/rand.h"
#include <stdio.h>

enum { FORMAT = 1 };

#define OWN "(name='compact_rev_key' OR (name LIKE 'gap-%' AND deleted<>0 AND value IS NULL))"
#define CREATE_REV                                                                                 \
    "CASE WHEN k.created<>0 OR COALESCE(k.create_revision,0)=0 THEN k.id ELSE k.create_revision"   \
    " END"
// kine's column does not tell letters from capitals; kine does not either, but etcd does.
#define NAME "CAST(name AS BINARY)"

// As in kine_pg.c.
#define VERSIONS                                                                                   \
    "(SELECT id,newest,CASE WHEN deleted<>0 THEN 0 ELSE ROW_NUMBER() OVER(PARTITION BY bname,life" \
    " ORDER BY id)+(FIRST_VALUE(created) OVER(PARTITION BY bname,life ORDER BY id)=0) END AS"      \
    " version FROM (SELECT id," NAME " AS bname,created,deleted,id=MAX(id) OVER(PARTITION BY"      \
    " " NAME ") AS newest,SUM(created<>0 OR deleted<>0) OVER(PARTITION BY " NAME " ORDER BY id)"   \
    " AS life FROM kine WHERE NOT " OWN ") r) n"
#define CURRENT " FROM " VERSIONS " JOIN kine k ON k.id=n.id WHERE n.newest AND k.deleted=0"

static int64_t random_id(void)
{
    return (int64_t)(kl_rand_u64() >> 1 | 1);
}

// ---- what is there ----

// `where`: a table of information_schema and the condition before the name.
static int has(struct kl_sql_conn *c, const char *where, const char *name, bool *ret,
               struct kl_error *err)
{
    char sql[200];
    int64_t n = 0;
    snprintf(sql, sizeof(sql),
             "SELECT COUNT(*) FROM information_schema.%s='%s' AND"
             " table_schema=DATABASE()",
             where, name);
    int r = kl_kine_int(c, sql, &n, err);
    *ret = n > 0;
    return r;
}

static int has_table(struct kl_sql_conn *c, const char *name, bool *ret, struct kl_error *err)
{
    return has(c, "TABLES WHERE table_name", name, ret, err);
}

static int has_column(struct kl_sql_conn *c, const char *name, bool *ret, struct kl_error *err)
{
    return has(c, "COLUMNS WHERE table_name='kine' AND column_name", name, ret, err);
}

static int has_index(struct kl_sql_conn *c, const char *name, bool *ret, struct kl_error *err)
{
    return has(c, "STATISTICS WHERE table_name='kine' AND index_name", name, ret, err);
}

static const char *const kine_indexes[][2] = {
    {"kine_name_index", "(name)"},
    {"kine_name_id_index", "(name,id)"},
    {"kine_id_deleted_index", "(id,deleted)"},
    {"kine_prev_revision_index", "(prev_revision)"},
};
static const char *const our_columns[] = {"version", "lease_id", "txn_rev"};

static int run_buf(struct kl_sql_conn *c, struct kl_buf *b, struct kl_error *err)
{
    int r = b->err ? kl_error_set(err, b->err, "out of memory")
                   : c->driver->run(c, kl_buf_str(b), NULL, err);
    kl_buf_fini(b);
    return r;
}

// ---- taking over ----

#define FENCE                                                                                      \
    " ON kine FOR EACH ROW IF COALESCE(@kinglet_writer,0)<>1 THEN SIGNAL SQLSTATE '45000' SET"     \
    " MESSAGE_TEXT='this datastore is kinglet''s'; END IF;"
static const char drop_fence_sql[] =
    "DROP TRIGGER IF EXISTS kl_fence;DROP TRIGGER IF EXISTS kl_fence_delete";
// kine's inserts, and its compaction.
static const char fence_sql[] =
    "DROP TRIGGER IF EXISTS kl_fence;DROP TRIGGER IF EXISTS kl_fence_delete;"
    "CREATE TRIGGER kl_fence BEFORE INSERT" FENCE
    "CREATE TRIGGER kl_fence_delete BEFORE DELETE" FENCE;

static int fence(struct kl_sql_conn *c, struct kl_error *err)
{
    int r = kl_kine_run(c, fence_sql, err);
    if (r)
        kl_error_wrap(err, "the trigger that keeps kine from writing cannot be made");
    return r;
}

// One statement, for the table is copied whatever it says: letters of its keys did not count.
static int alter(struct kl_sql_conn *c, struct kl_error *err)
{
    struct kl_buf b;
    bool there;
    int r = 0;
    kl_buf_init(&b, 8192);
    kl_buf_printf(&b,
                  "ALTER TABLE kine MODIFY id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,"
                  "MODIFY create_revision BIGINT UNSIGNED,MODIFY prev_revision BIGINT UNSIGNED,");
    // MySQL has no such collation that does not pad with spaces.
    kl_buf_puts(&b, ((struct kl_my *)c)->mariadb
                        ? KL_STR("MODIFY name VARCHAR(630) CHARACTER SET ascii COLLATE"
                                 " ascii_nopad_bin")
                        : KL_STR("MODIFY name VARBINARY(630)"));
    for (size_t i = 0; !r && i < KL_COUNT(our_columns); i++) {
        r = has_column(c, our_columns[i], &there, err);
        if (!there)
            kl_buf_printf(&b, ",ADD COLUMN %s BIGINT", our_columns[i]);
    }
    for (size_t i = 0; !r && i < KL_COUNT(kine_indexes); i++) {
        r = has_index(c, kine_indexes[i][0], &there, err);
        if (there)
            kl_buf_printf(&b, ",DROP INDEX %s", kine_indexes[i][0]);
    }
    if (!r)
        r = has_index(c, "kl_cover", &there, err);
    if (!there)
        kl_buf_puts(&b, KL_STR(",ADD INDEX kl_cover(name,id DESC,deleted,create_revision,version,"
                               "lease_id,txn_rev)"));
    if (r) {
        kl_buf_fini(&b);
        return r;
    }
    return run_buf(c, &b, err);
}

static const char rows_sql[] =
    "BEGIN;"
    "UPDATE kine k JOIN " VERSIONS " ON n.id=k.id SET k.version=n.version,"
    "k.lease_id=IF(k.deleted=0 AND k.lease>0,k.lease,NULL),k.create_revision=" CREATE_REV ","
    "k.prev_revision=IF(k.created<>0,NULL,NULLIF(k.prev_revision,0)),k.old_value=NULL;"
    "DELETE FROM kine WHERE " OWN ";"
    "REPLACE INTO kv_lease(id,ttl_ms,deadline_ms) SELECT DISTINCT lease_id,lease_id*1000,"
    "CAST(UNIX_TIMESTAMP(NOW(3))*1000 AS SIGNED)+lease_id*1000 FROM kine WHERE lease_id IS NOT"
    " NULL;";

static int change(struct kl_sql_conn *c, const struct kl_kine_found *f, struct kl_error *err)
{
    struct kl_buf b;
    int r = alter(c, err);
    if (!r)
        r = kl_kine_run(c, kl_my_side_tables_sql, err);
    if (!r)
        r = kl_kine_run(c, "CREATE TABLE IF NOT EXISTS kv_meta_new" KL_MY_META_COLUMNS, err);
    if (r)
        return r;
    kl_buf_init(&b, 8192);
    kl_buf_puts(&b, kl_str(rows_sql));
    // Nothing is known to be gone: compaction passes over all of it once.
    kl_buf_printf(&b,
                  "INSERT INTO kv_meta_new VALUES(1,%d,%d,%lld,%lld,0,1,0,0,%lld,%lld,0,NULL,NULL);"
                  "COMMIT",
                  FORMAT, FORMAT, (long long)f->rev, (long long)f->compact_rev,
                  (long long)random_id(), (long long)random_id());
    r = run_buf(c, &b, err);
    if (r)
        kl_kine_run(c, "ROLLBACK", NULL);
    return r;
}

// Whether all was done but the name.
static int is_changed(struct kl_sql_conn *c, bool *ret, struct kl_error *err)
{
    int64_t rows = 0;
    int r = has_table(c, "kv_meta_new", ret, err);
    if (!r && *ret)
        r = kl_kine_int(c, "SELECT COUNT(*) FROM kv_meta_new", &rows, err);
    *ret = rows > 0;
    return r;
}

static int take_over_locked(struct kl_sql_conn *c, const struct kl_kine_found *found,
                            struct kl_error *err)
{
    enum kl_sql_tables t = KL_SQL_TABLES_OTHER;
    int64_t newest = 0;
    bool changed = false, back = false;
    int r = c->driver->inspect(c, &t, err);
    if (r || t != KL_SQL_TABLES_KINE)
        return r; // another server has done it by now
    r = has_table(c, "kv_meta_kine", &back, err);
    if (!r && back)
        return kl_error_set(err, KL_EUNAVAILABLE,
                            "datastore %s: migrate --to-kine was cut and must be finished first",
                            c->name);
    if (!r)
        r = is_changed(c, &changed, err);
    if (!r && !changed)
        r = fence(c, err);
    if (!r && !changed)
        r = kl_kine_int(c, kl_kine_my.newest, &newest, err);
    if (!r && !changed && newest != found->newest) {
        kl_kine_run(c, drop_fence_sql, NULL);
        return kl_kine_still_written(c, err);
    }
    if (!r && !changed)
        r = change(c, found, err);
    return r ? r : kl_kine_run(c, "RENAME TABLE kv_meta_new TO kv_meta", err);
}

static int lock(struct kl_sql_conn *c, struct kl_error *err)
{
    int64_t got = 0;
    int r = kl_kine_int(c, "SELECT GET_LOCK(" KL_MY_LOCK_NAME ",60)", &got, err);
    if (!r && got != 1)
        r = kl_error_set(err, KL_EAGAIN, "datastore %s: another server changes its tables",
                         c->name);
    return r;
}

// The lock ends with the connection, which is ours alone.
static int take_over(struct kl_sql_conn *c, const struct kl_kine_found *found, struct kl_error *err)
{
    int r = lock(c, err);
    return r ? r : take_over_locked(c, found, err);
}

// ---- the way back ----

static const char back_rows_sql[] =
    "BEGIN;"
    "UPDATE kine k JOIN (SELECT id,LAG(id) OVER(PARTITION BY " NAME " ORDER BY id) AS prev FROM"
    " kine WHERE name<>'compact_rev_key') n ON n.id=k.id LEFT JOIN kine p ON p.id=n.prev"
    " LEFT JOIN kv_lease l ON l.id=k.lease_id SET k.prev_revision=COALESCE(n.prev,0),"
    "k.old_value=p.value,k.create_revision=IF(k.created<>0,0,k.create_revision),"
    "k.lease=COALESCE((l.ttl_ms+999) DIV 1000,0);"
    // As in kine_pg.c.
    "INSERT INTO kine(id,name,created,deleted,create_revision,prev_revision,lease,value)"
    " SELECT CASE WHEN m.rev>COALESCE((SELECT MAX(id) FROM kine),0) THEN m.rev WHEN NOT"
    " EXISTS(SELECT 1 FROM kine WHERE id=1) THEN 1 ELSE (SELECT MIN(k.id)+1 FROM kine k LEFT JOIN"
    " kine n ON n.id=k.id+1 WHERE n.id IS NULL) END,'compact_rev_key',1,0,0,m.compact_rev,0,''"
    " FROM kv_meta_kine m WHERE NOT EXISTS(SELECT 1 FROM kine WHERE name='compact_rev_key');"
    "COMMIT";

// Keys stay different when only their letters' case differs: kine's own column would refuse them.
static const char back_table_sql[] =
    "ALTER TABLE kine DROP INDEX kl_cover,DROP COLUMN version,DROP COLUMN lease_id,"
    "DROP COLUMN txn_rev,MODIFY id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,"
    "MODIFY name VARCHAR(630) CHARACTER SET ascii COLLATE ascii_bin,"
    "MODIFY create_revision BIGINT UNSIGNED,MODIFY prev_revision BIGINT UNSIGNED,"
    "MODIFY value MEDIUMBLOB,MODIFY old_value MEDIUMBLOB";

static int check_keys(struct kl_sql_conn *c, struct kl_error *err)
{
    int64_t n = 0;
    int r = kl_kine_int(c,
                        "SELECT COUNT(*) FROM kine WHERE LENGTH(name)>630 OR HEX(name) REGEXP"
                        " '^(..)*[89A-F].' OR name='compact_rev_key'",
                        &n, err);
    if (!r && n)
        r = kl_error_set(err, KL_EINVALID,
                         "datastore %s: %lld rows have keys that kine's table cannot hold: longer "
                         "than 630 bytes, not ASCII, or compact_rev_key",
                         c->name, (long long)n);
    return r;
}

static int alter_back(struct kl_sql_conn *c, struct kl_error *err)
{
    struct kl_buf b;
    bool there = false;
    int r = has_column(c, "lease_id", &there, err);
    if (r || !there)
        return r; // a way back that was cut: this was done
    r = kl_kine_run(c, back_rows_sql, err);
    if (r) {
        kl_kine_run(c, "ROLLBACK", NULL);
        return r;
    }
    kl_buf_init(&b, 8192);
    kl_buf_puts(&b, kl_str(back_table_sql));
    for (size_t i = 0; !r && i < KL_COUNT(kine_indexes); i++) {
        r = has_index(c, kine_indexes[i][0], &there, err);
        if (!there)
            kl_buf_printf(&b, ",ADD INDEX %s%s", kine_indexes[i][0], kine_indexes[i][1]);
    }
    if (!r)
        return run_buf(c, &b, err);
    kl_buf_fini(&b);
    return r;
}

static int begin_back(struct kl_sql_conn *c, struct kl_error *err)
{
    enum kl_sql_tables t = KL_SQL_TABLES_OTHER;
    int r = c->driver->inspect(c, &t, err);
    if (!r && t != KL_SQL_TABLES_OURS)
        return kl_error_set(err, KL_EINVALID, "datastore %s is not a whole datastore of kinglet",
                            c->name);
    if (!r)
        r = kl_kine_check_at_rest(c,
                                  "SELECT COUNT(*) FROM kv_peer WHERE heartbeat_ms>"
                                  "CAST(UNIX_TIMESTAMP(NOW(3))*1000 AS SIGNED)-20000",
                                  err);
    if (!r)
        r = check_keys(c, err);
    return r ? r : kl_kine_run(c, "RENAME TABLE kv_meta TO kv_meta_kine", err);
}

static int give_back(struct kl_sql_conn *c, struct kl_error *err)
{
    bool begun = false;
    int r = lock(c, err);
    if (!r)
        r = has_table(c, "kv_meta_kine", &begun, err);
    if (!r && !begun)
        r = begin_back(c, err);
    if (!r)
        r = alter_back(c, err);
    if (!r)
        r = kl_kine_run(c, drop_fence_sql, err);
    return r ? r
             : kl_kine_run(c,
                           "DROP TABLE IF EXISTS kv_batch,kv_lease,kv_peer;DROP TABLE"
                           " kv_meta_kine",
                           err);
}

const struct kl_kine_sql kl_kine_my = {
    .look = "SELECT COUNT(*),COALESCE(SUM(k.lease>0),0),(SELECT COALESCE(MAX(id),0) FROM kine),"
            "(SELECT COALESCE(MAX(prev_revision),0) FROM kine WHERE name='compact_rev_key'),"
            "(SELECT name FROM kine WHERE name LIKE '/bootstrap/%' AND name<>'/bootstrap/kinglet'"
            " ORDER BY id DESC LIMIT 1)" CURRENT,
    .newest = "SELECT COALESCE(MAX(id),0) FROM kine",
    .rows = "SELECT k.id,k.name," CREATE_REV ",n.version,k.lease,k.value" CURRENT " ORDER BY k.id",
    .leases = "SELECT DISTINCT k.lease" CURRENT " AND k.lease>0 ORDER BY k.lease",
    .extra = ", changes the collation of its keys, so that letters' case counts (its table is "
             "copied for that and locked meanwhile)",
    .take_over = take_over,
    .give_back = give_back,
};
