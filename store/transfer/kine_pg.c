// SPDX-License-Identifier: Apache-2.0
// kine's table in PostgreSQL (kine 0.17, pkg/drivers/pgsql): definitions are part of transactions
// there, so either way is one.
#include "store/transfer/kine_int.h"
#include "base/rand.h"
#include <stdio.h>

enum { FORMAT = 1 };

#define OWN "(name = 'compact_rev_key' OR (name LIKE 'gap-%' AND deleted <> 0 AND value IS NULL))"
#define CREATE_REV                                                                                 \
    "CASE WHEN k.created <> 0 OR COALESCE(k.create_revision, 0) = 0 THEN k.id"                     \
    " ELSE k.create_revision END"

// version counts the writes since the key was created. What was compacted away is not known: a row
// that is no creation has had at least one before it.
#define VERSIONS                                                                                   \
    "(SELECT id, newest, CASE WHEN deleted <> 0 THEN 0 ELSE row_number() OVER w"                   \
    " + (first_value(created) OVER w = 0)::int END AS version FROM (SELECT id, name, created,"     \
    " deleted, id = max(id) OVER (PARTITION BY name) AS newest,"                                   \
    " sum((created <> 0 OR deleted <> 0)::int) OVER (PARTITION BY name ORDER BY id) AS life"       \
    " FROM kine WHERE NOT " OWN ") r WINDOW w AS (PARTITION BY name, life ORDER BY id)) n"
#define CURRENT " FROM " VERSIONS " JOIN kine k ON k.id = n.id WHERE n.newest AND k.deleted = 0"

static const char begin_sql[] =
    "BEGIN;"
    // As servers do that make the tables.
    "SELECT pg_advisory_xact_lock(7308609413);"
    "SET LOCAL enable_seqscan = on; SET LOCAL enable_sort = on; SET LOCAL enable_hashjoin = on;"
    "SET LOCAL enable_mergejoin = on; SET LOCAL enable_hashagg = on;"
    "LOCK TABLE kine IN ACCESS EXCLUSIVE MODE";

static const char drop_indexes_sql[] =
    "DROP INDEX IF EXISTS kine_name_index, kine_name_id_index, kine_id_deleted_index,"
    " kine_prev_revision_index, kine_list_query_index";

static const char change_sql[] =
    "ALTER TABLE kine ADD COLUMN IF NOT EXISTS version bigint,"
    " ADD COLUMN IF NOT EXISTS lease_id bigint, ADD COLUMN IF NOT EXISTS txn_rev bigint,"
    " ALTER COLUMN id TYPE bigint, ALTER COLUMN create_revision TYPE bigint,"
    " ALTER COLUMN prev_revision TYPE bigint,"
    " ALTER COLUMN name TYPE text COLLATE \"C\","
    " SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000,"
    " autovacuum_vacuum_insert_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.01)";

static const char rows_sql[] =
    "UPDATE kine k SET version = n.version,"
    " lease_id = CASE WHEN k.deleted = 0 AND k.lease > 0 THEN k.lease END,"
    " create_revision = " CREATE_REV ","
    " prev_revision = CASE WHEN k.created <> 0 THEN NULL ELSE NULLIF(k.prev_revision, 0) END,"
    " old_value = NULL FROM " VERSIONS " WHERE n.id = k.id";

static const char lease_sql[] =
    "INSERT INTO kv_lease(id, ttl_ms, deadline_ms) SELECT id, id * 1000,"
    " (extract(epoch FROM clock_timestamp()) * 1000)::int8 + id * 1000 FROM"
    " (SELECT DISTINCT lease_id AS id FROM kine WHERE lease_id IS NOT NULL) l";

// kine's inserts, and its compaction. Of a statement each, not of a row.
static const char fence_sql[] =
    "CREATE OR REPLACE FUNCTION kl_fence() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF current_setting('kinglet.writer', true) IS DISTINCT FROM '1' THEN"
    " RAISE EXCEPTION 'this datastore is kinglet''s'; END IF; RETURN NULL; END $$;"
    "CREATE TRIGGER kl_fence BEFORE INSERT OR UPDATE OR DELETE ON kine FOR EACH STATEMENT"
    " EXECUTE FUNCTION kl_fence()";

static int64_t random_id(void)
{
    return (int64_t)(kl_rand_u64() >> 1 | 1);
}

static int change(struct kl_sql_conn *c, const struct kl_kine_found *f, struct kl_error *err)
{
    const struct kl_sql_new n = {FORMAT, random_id(), random_id()};
    char seed[160];
    // Nothing is known to be gone: compaction passes over all of it once.
    snprintf(seed, sizeof(seed), "UPDATE kv_meta SET rev = %lld, compact_rev = %lld WHERE k = 1",
             (long long)f->rev, (long long)f->compact_rev);
    int r = kl_kine_run(c, drop_indexes_sql, err);
    if (!r)
        r = kl_kine_run(c, change_sql, err);
    if (!r)
        r = kl_kine_run(c, "DELETE FROM kine WHERE " OWN, err);
    if (!r)
        r = kl_kine_run(c, rows_sql, err);
    if (!r)
        r = c->driver->create_tables(c, &n, err); // what is missing of them
    if (!r)
        r = kl_kine_run(c, seed, err);
    if (!r)
        r = kl_kine_run(c, lease_sql, err);
    return r ? r : kl_kine_run(c, fence_sql, err);
}

static int take_over(struct kl_sql_conn *c, const struct kl_kine_found *found, struct kl_error *err)
{
    enum kl_sql_tables t = KL_SQL_TABLES_OTHER;
    int64_t newest = 0;
    int r = kl_kine_run(c, begin_sql, err);
    if (!r)
        r = c->driver->inspect(c, &t, err);
    if (!r && t == KL_SQL_TABLES_KINE)
        r = kl_kine_int(c, kl_kine_pg.newest, &newest, err);
    if (!r && t == KL_SQL_TABLES_KINE && newest != found->newest)
        r = kl_kine_still_written(c, err);
    if (!r && t == KL_SQL_TABLES_KINE) // otherwise another server has done it by now
        r = change(c, found, err);
    if (r)
        kl_kine_run(c, "ROLLBACK", NULL);
    return r ? r : kl_kine_run(c, "COMMIT", err);
}

// ---- the way back ----

// A row's predecessor is the newest one before it under its name, a deletion too.
static const char back_rows_sql[] =
    "UPDATE kine k SET prev_revision = COALESCE(n.prev, 0), old_value = p.value,"
    " create_revision = CASE WHEN k.created <> 0 THEN 0 ELSE k.create_revision END,"
    " lease = COALESCE((SELECT (ttl_ms + 999) / 1000 FROM kv_lease l WHERE l.id = k.lease_id), 0)"
    " FROM (SELECT id, lag(id) OVER (PARTITION BY name ORDER BY id) AS prev FROM kine) n"
    " LEFT JOIN kine p ON p.id = n.prev WHERE n.id = k.id";

// Where compaction stands: under the newest number when no row has it, so that kine does not look
// for rows that never were, else under the lowest that is free.
static const char back_compact_sql[] =
    "INSERT INTO kine(id, name, created, deleted, create_revision, prev_revision, lease, value)"
    " SELECT CASE WHEN rev > COALESCE((SELECT max(id) FROM kine), 0) THEN rev"
    " WHEN NOT EXISTS(SELECT 1 FROM kine WHERE id = 1) THEN 1 ELSE (SELECT min(id) + 1 FROM kine k"
    " WHERE NOT EXISTS(SELECT 1 FROM kine n WHERE n.id = k.id + 1)) END,"
    " 'compact_rev_key', 1, 0, 0, compact_rev, 0, ''::bytea FROM kv_meta";

static const char back_table_sql[] =
    "DROP TRIGGER IF EXISTS kl_fence ON kine;"
    "DROP FUNCTION IF EXISTS kl_fence();"
    "DROP INDEX IF EXISTS kl_cover, kine_name_prev_revision_uindex;"
    "ALTER TABLE kine DROP COLUMN version, DROP COLUMN lease_id, DROP COLUMN txn_rev,"
    " ALTER COLUMN name DROP NOT NULL,"
    " RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,"
    " autovacuum_vacuum_insert_scale_factor, toast.autovacuum_vacuum_scale_factor);"
    "CREATE SEQUENCE IF NOT EXISTS kine_id_seq;"
    "ALTER SEQUENCE kine_id_seq AS bigint OWNED BY kine.id;"
    "ALTER TABLE kine ALTER COLUMN id SET DEFAULT nextval('kine_id_seq'::regclass);"
    "SELECT setval('kine_id_seq', (SELECT max(id) FROM kine));"
    "CREATE INDEX kine_name_index ON kine (name);"
    "CREATE INDEX kine_name_id_index ON kine (name,id);"
    "CREATE INDEX kine_id_deleted_index ON kine (id,deleted);"
    "CREATE INDEX kine_prev_revision_index ON kine (prev_revision);"
    "CREATE UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision);"
    "CREATE INDEX kine_list_query_index ON kine (name, id DESC, deleted);"
    "DROP TABLE kv_meta, kv_batch, kv_lease, kv_peer";

static const char name_is_bytes_sql[] =
    "SELECT (atttypid = 'bytea'::regtype)::int4 FROM pg_attribute WHERE attrelid ="
    " 'kine'::regclass AND attname = 'name'";
static const char name_to_text_sql[] = "ALTER TABLE kine ALTER COLUMN name TYPE text COLLATE \"C\""
                                       " USING convert_from(name, getdatabaseencoding())";

static int change_back(struct kl_sql_conn *c, struct kl_error *err)
{
    int64_t bytes = 0, own = 0;
    int r = kl_kine_check_at_rest(c,
                                  "SELECT count(*) FROM kv_peer WHERE heartbeat_ms >"
                                  " (extract(epoch FROM clock_timestamp()) * 1000)::int8 - 20000",
                                  err);
    if (!r)
        r = kl_kine_int(c, "SELECT count(*) FROM kine WHERE name = 'compact_rev_key'", &own, err);
    if (!r && own)
        r = kl_error_set(err, KL_EINVALID,
                         "datastore %s: there is a key compact_rev_key, which kine keeps for "
                         "itself",
                         c->name);
    if (!r)
        r = kl_kine_int(c, name_is_bytes_sql, &bytes, err);
    if (!r)
        r = kl_kine_run(c, "DROP INDEX IF EXISTS kl_cover, kine_name_prev_revision_uindex", err);
    if (!r && bytes && (r = kl_kine_run(c, name_to_text_sql, err)) == KL_EINTERNAL)
        r = kl_error_set(err, KL_EINVALID,
                         "datastore %s: a key is no text in the database's encoding, and kine's "
                         "table cannot hold it",
                         c->name);
    if (!r)
        r = kl_kine_run(c, back_rows_sql, err);
    if (!r)
        r = kl_kine_run(c, back_compact_sql, err);
    return r ? r : kl_kine_run(c, back_table_sql, err);
}

static int give_back(struct kl_sql_conn *c, struct kl_error *err)
{
    enum kl_sql_tables t = KL_SQL_TABLES_OTHER;
    int r = c->driver->inspect(c, &t, err);
    if (!r && t != KL_SQL_TABLES_OURS)
        return kl_error_set(err, KL_EINVALID, "datastore %s is not a whole datastore of kinglet",
                            c->name);
    if (!r)
        r = kl_kine_run(c, begin_sql, err);
    if (!r)
        r = kl_kine_run(c, "LOCK TABLE kv_meta IN ACCESS EXCLUSIVE MODE", err);
    if (!r)
        r = change_back(c, err);
    if (r)
        kl_kine_run(c, "ROLLBACK", NULL);
    return r ? r : kl_kine_run(c, "COMMIT", err);
}

const struct kl_kine_sql kl_kine_pg = {
    .look = "SELECT count(*), count(*) FILTER (WHERE lease > 0), COALESCE((SELECT max(id)::int8"
            " FROM kine), 0), COALESCE((SELECT max(prev_revision)::int8 FROM kine WHERE name ="
            " 'compact_rev_key'), 0), (SELECT name FROM kine WHERE name LIKE '/bootstrap/%' AND"
            " name <> '/bootstrap/kinglet' ORDER BY id DESC LIMIT 1) FROM (SELECT DISTINCT ON"
            " (name) deleted, lease FROM kine WHERE NOT " OWN " ORDER BY name, id DESC) k"
            " WHERE deleted = 0",
    .newest = "SELECT COALESCE(max(id)::int8, 0) FROM kine",
    .rows = "SELECT k.id, k.name, " CREATE_REV ", n.version::int8, k.lease, k.value" CURRENT
            " ORDER BY k.id",
    .leases = "SELECT DISTINCT k.lease::int8" CURRENT " AND k.lease > 0 ORDER BY 1",
    .extra = "",
    .take_over = take_over,
    .give_back = give_back,
};
