// SPDX-License-Identifier: Apache-2.0
// PostgreSQL's tables and statements.
#include "store/sql/pg_int.h"
#include "base/fault.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

// Kept short by deletion, updated in place: vacuum comes early, a row's update stays on its page.
// lz4 where the server has it: pglz costs more than all else of an insert of a few KiB.
static const char tables_sql[] =
    "SELECT pg_advisory_xact_lock(7308609413);"
    "CREATE TABLE IF NOT EXISTS kine(id bigint PRIMARY KEY, name bytea NOT NULL, created integer,"
    " deleted integer, create_revision bigint, prev_revision bigint, lease integer, value bytea,"
    " old_value bytea, version bigint, lease_id bigint, txn_rev bigint) WITH"
    " (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000,"
    " autovacuum_vacuum_insert_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.01);"
    "CREATE INDEX IF NOT EXISTS kl_cover ON kine(name, id DESC) INCLUDE (deleted, create_revision,"
    " version, lease_id, txn_rev);"
    "CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON"
    " kine(name, prev_revision);"
    "CREATE TABLE IF NOT EXISTS kv_meta(k smallint PRIMARY KEY CHECK(k = 1), format integer NOT"
    " NULL, format_min integer NOT NULL, rev bigint NOT NULL, compact_rev bigint NOT NULL,"
    " physical_rev bigint NOT NULL, epoch bigint NOT NULL, batch_seq bigint NOT NULL, chain bigint"
    " NOT NULL, cluster_id bigint NOT NULL, history_id bigint NOT NULL, writer bigint NOT NULL,"
    " import_source bigint, import_base bigint) WITH (fillfactor = 50);"
    "CREATE TABLE IF NOT EXISTS kv_batch(batch_seq bigint PRIMARY KEY, epoch bigint NOT NULL,"
    " writer_id bigint NOT NULL, nonce bigint NOT NULL, base_rev bigint NOT NULL, n bigint NOT"
    " NULL, compact_rev bigint NOT NULL, chain bigint NOT NULL, at_ms bigint NOT NULL, extra bytea)"
    " WITH (autovacuum_vacuum_scale_factor = 0.05);"
    "CREATE TABLE IF NOT EXISTS kv_lease(id bigint PRIMARY KEY, ttl_ms bigint NOT NULL, deadline_ms"
    " bigint NOT NULL) WITH (fillfactor = 80);"
    "CREATE TABLE IF NOT EXISTS kv_peer(id bigint PRIMARY KEY, address text NOT NULL, version text"
    " NOT NULL, heartbeat_ms bigint NOT NULL, started_ms bigint NOT NULL) WITH (fillfactor = 50);"
    "INSERT INTO kv_meta VALUES(1,%d,%d,1,0,0,1,0,0,%" PRId64 ",%" PRId64 ",0,NULL,NULL)"
    " ON CONFLICT DO NOTHING;"
    "DO $$ BEGIN ALTER TABLE kine ALTER COLUMN value SET COMPRESSION lz4;"
    " EXCEPTION WHEN OTHERS THEN NULL; END $$";

#define KV(t)                                                                                      \
#t ".id," #t ".name," #t ".deleted," #t ".create_revision," #t ".version," #t ".lease_id," #t  \
       ".txn_rev"
#define HEAD                                                                                       \
    "SELECT history_id, epoch, batch_seq, rev, compact_rev, physical_rev, chain, writer,"          \
    " format_min, cluster_id, import_source, import_base,"                                         \
    " (extract(epoch FROM clock_timestamp()) * 1000)::int8 FROM kv_meta WHERE k = 1"
// The newest row of each name: one walk over the covering index in its order, no sort.
#define NEWEST(where)                                                                              \
    "(SELECT DISTINCT ON (name) id, name, deleted, create_revision, version, lease_id, txn_rev"    \
    " FROM kine WHERE " where " ORDER BY name, id DESC) u"
#define NEWEST_ROWS(where, limit)                                                                  \
    "SELECT " KV(u) ", v.value FROM " NEWEST(                                                      \
        where) " JOIN kine v ON v.id = u.id"                                                       \
               " WHERE u.deleted = 0 ORDER BY u.name LIMIT " limit
#define NEWEST_COUNT(where) "SELECT COUNT(*) FROM " NEWEST(where) " WHERE u.deleted = 0"
#define AT(rev) " AND id <= " rev " AND COALESCE(txn_rev, id) <= " rev

// One statement is one transaction and one round trip. Its order comes from what it reads: the
// update of kv_meta waits for the row's lock and looks again then; everything else joins with the
// row that it returned, so that nothing happens before, and nothing when there is none.
#define COMMIT_BEGIN                                                                               \
    "WITH m AS (UPDATE kv_meta SET rev = $4, batch_seq = $1, chain = $6,"                          \
    " compact_rev = GREATEST(compact_rev, $7::int8) WHERE k = 1 AND batch_seq = $1 - 1 AND"        \
    " epoch = $2 AND history_id = $3 AND chain = $5 AND import_source IS NULL RETURNING k),"       \
    " b AS (INSERT INTO kv_batch(batch_seq, epoch, writer_id, nonce, base_rev, n, compact_rev,"    \
    " chain, at_ms, extra) SELECT $1, $2, $8, $9, $10, $11, $7, $6, $12, $13::bytea FROM m)"
#define ROWS_FROM_ARRAYS(m, base, a, b, c, d, e, f, g)                                             \
    "INSERT INTO kine(id, name, created, deleted, create_revision, prev_revision, lease, value,"   \
    " version, lease_id, txn_rev) SELECT " base ", u.name, (u.version = 1)::int4,"                 \
    " (u.version = 0)::int4, u.create_revision, u.prev_revision, 0, u.value, u.version,"           \
    " u.lease_id, u.txn_rev FROM " m "unnest($" #a "::@[], $" #b "::int8[], $" #c "::int8[], $" #d \
    "::bytea[], $" #e "::int8[], $" #f "::int8[], $" #g "::int8[]"
#define COMMIT_ROWS                                                                                \
    ", r AS (" ROWS_FROM_ARRAYS("m, ", "$10 + u.nr", 15, 16, 17, 18, 19, 20,                       \
                                21) ") WITH ORDINALITY AS u(name, create_revision, prev_revision," \
                                    " value, version, lease_id, txn_rev, nr))"
#define LEASE_ROWS(m, a, b, c)                                                                     \
    "INSERT INTO kv_lease(id, ttl_ms, deadline_ms) SELECT u.* FROM " m "unnest($" #a               \
    "::int8[], $" #b "::int8[], $" #c "::int8[]) AS u(id, ttl_ms, deadline_ms)"                    \
    " ON CONFLICT (id) DO UPDATE SET ttl_ms = excluded.ttl_ms, deadline_ms = excluded.deadline_ms"
#define COMMIT_END " SELECT CASE WHEN $14 = 1 THEN pg_notify('kinglet', $1::text) END FROM m"

// '@' stands for the type of kine.name.
const char *const kl_pg_sql[KL_PG_STMTS] = {
    [KL_SQL_HEAD] = HEAD,
    [KL_SQL_LOCK] = HEAD " FOR UPDATE",
    [KL_SQL_BATCHES] =
        "SELECT m.history_id, m.batch_seq, m.rev, m.epoch, b.batch_seq, b.writer_id, b.nonce,"
        " b.base_rev, b.n, b.compact_rev, b.extra, b.chain FROM kv_meta m LEFT JOIN kv_batch b"
        " ON b.batch_seq > $1 AND b.batch_seq <= $2 WHERE m.k = 1 ORDER BY b.batch_seq",
    [KL_SQL_TIP] = "SELECT history_id, batch_seq, rev, epoch FROM kv_meta WHERE k = 1",
    [KL_SQL_BATCH] = "SELECT nonce, writer_id, chain FROM kv_batch WHERE batch_seq = $1",
    [KL_SQL_FEED] =
        "SELECT " KV(k) ", k.value FROM kine k WHERE k.id > $1 AND k.id <= $2 ORDER BY k.id",
    [KL_SQL_LOAD] =
        "SELECT id, name FROM " NEWEST("name > $1") " WHERE u.deleted = 0 ORDER BY name LIMIT $2",
    [KL_SQL_LEASES] = "SELECT id, ttl_ms, deadline_ms FROM kv_lease",
    [KL_SQL_ROWS] = "SELECT " KV(k) ", k.value," KV(
        p) ", p.value FROM kine k LEFT JOIN kine p ON p.id = k.prev_revision AND p.deleted = 0"
           " WHERE k.id > $1 ORDER BY k.id LIMIT $2",
    [KL_SQL_ROWS_FROM] = "SELECT id FROM kine WHERE id < $1 AND COALESCE(txn_rev, id) < $1"
                         " ORDER BY id DESC LIMIT 1",
    [KL_SQL_RANGE] = NEWEST_ROWS("name >= $1 AND name < $2" AT("$3"), "$4"),
    [KL_SQL_RANGE_TO_LAST] = NEWEST_ROWS("name >= $1" AT("$2"), "$3"),
    [KL_SQL_RANGE_COUNT] = NEWEST_COUNT("name >= $1 AND name < $2" AT("$3")),
    [KL_SQL_RANGE_TO_LAST_COUNT] = NEWEST_COUNT("name >= $1" AT("$2")),
    [KL_SQL_STEP_FROM] = "SELECT id FROM kine WHERE id <= $1 AND COALESCE(txn_rev, id) < $1"
                         " ORDER BY id DESC LIMIT 1",
    [KL_SQL_STEP_ROWS] = "SELECT id, prev_revision, deleted, COALESCE(txn_rev, id) FROM kine"
                         " WHERE id > $1 AND id <= $2 ORDER BY id",
    [KL_SQL_STEP_DONE] = "UPDATE kv_meta SET physical_rev = $1 WHERE k = 1 AND physical_rev < $1",
    [KL_SQL_TRIM_BATCHES] =
        "DELETE FROM kv_batch WHERE at_ms < $1 AND batch_seq <= (SELECT max(batch_seq) FROM"
        " (SELECT batch_seq FROM kv_batch ORDER BY batch_seq LIMIT $2) t)",
    [KL_SQL_PEER_PUT] =
        "INSERT INTO kv_peer(id, address, version, heartbeat_ms, started_ms) VALUES($1,$2,$3,$4,$5)"
        " ON CONFLICT (id) DO UPDATE SET address = $2, version = $3, heartbeat_ms = $4,"
        " started_ms = $5",
    [KL_SQL_PEER_DEL] = "DELETE FROM kv_peer WHERE id = $1",
    [KL_SQL_PEERS] = "SELECT id, address, version, heartbeat_ms, started_ms FROM kv_peer",
    [KL_SQL_LEAD] = "UPDATE kv_meta SET writer = $1, epoch = epoch + 1 WHERE k = 1 AND epoch = $2",
    [KL_SQL_NEW_HISTORY] =
        "UPDATE kv_meta SET history_id = $1, rev = $2, compact_rev = $2, batch_seq = batch_seq +"
        " 1000000, epoch = epoch + 1, chain = $3 WHERE k = 1",
    [KL_SQL_IMPORT_BEGIN] = "UPDATE kv_meta SET import_source = $1, import_base = $2 WHERE k = 1",
    [KL_SQL_IMPORT_NEWEST] = "SELECT MAX(id) FROM kine",
    [KL_SQL_IMPORT_END] =
        "UPDATE kv_meta SET rev = $1, compact_rev = $2, physical_rev = $2, history_id = $3,"
        " chain = $4, batch_seq = batch_seq + 1000000, epoch = epoch + 1, import_source = NULL,"
        " import_base = NULL WHERE k = 1",
    [KL_SQL_SIZES] =
        "SELECT sum(pg_total_relation_size(c))::int8, (SELECT (pg_total_relation_size(relid) *"
        " (n_live_tup + 1.0) / (n_live_tup + n_dead_tup + 1))::int8 FROM pg_stat_user_tables WHERE"
        " relid = 'kine'::regclass) FROM unnest(ARRAY['kine', 'kv_meta', 'kv_batch', 'kv_lease',"
        " 'kv_peer']::regclass[]) c",
    [KL_PG_COMMIT] = COMMIT_BEGIN COMMIT_ROWS COMMIT_END,
    [KL_PG_COMMIT_LEASES] = COMMIT_BEGIN COMMIT_ROWS ", lp AS (" LEASE_ROWS(
        "m, ", 22, 23,
        24) ")"
            ", ld AS (DELETE FROM kv_lease l USING m WHERE l.id = ANY($25::int8[]))" COMMIT_END,
    [KL_PG_INSERT] = ROWS_FROM_ARRAYS(
        "", "u.id", 1, 2, 3, 4, 5, 6,
        7) ", $8::int8[]) AS u(name, create_revision, prev_revision, value, version, lease_id,"
           " txn_rev, id)",
    [KL_PG_INSERT_LEASES] = LEASE_ROWS("", 1, 2, 3),
    [KL_PG_DELETE_ROWS] = "DELETE FROM kine WHERE id = ANY($1::int8[])",
    [KL_PG_TRY_LOCK] = "SELECT pg_try_advisory_xact_lock(7308609414)",
};

int kl_pg_query_ints(struct kl_pg *c, const char *sql, int64_t *ret, int n, struct kl_error *err)
{
    kl_pg_begin_call(c);
    if (!c->pq->PQsendQuery(c->pg, sql))
        return kl_pg_error(c, NULL, err);
    PGresult *r = NULL;
    int code = kl_pg_result(c, &r, err);
    if (code)
        return code;
    if (c->pq->PQresultStatus(r) != PGRES_TUPLES_OK)
        code = kl_pg_error(c, r, err);
    else if (c->pq->PQntuples(r) != 1 || c->pq->PQnfields(r) != n)
        code = kl_error_set(err, KL_EINTERNAL, "datastore %s: an answer of another shape",
                            c->conn.name);
    for (int i = 0; !code && i < n; i++)
        ret[i] = strtoll(c->pq->PQgetvalue(r, 0, i), NULL, 10);
    c->pq->PQclear(r);
    int drained = kl_pg_drain(c, code ? NULL : err);
    return code ? code : drained;
}

int kl_pg_inspect(struct kl_sql_conn *conn, enum kl_sql_tables *ret_t, struct kl_error *err)
{
#define COLUMNS(table, list)                                                                       \
    "(SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('" table "') AND NOT "        \
    "attisdropped AND attname IN (" list "))"
    int64_t n[5];
    int r = kl_pg_query_ints(
        (struct kl_pg *)conn,
        "SELECT (to_regclass('kine') IS NOT NULL)::int4,"
        " (to_regclass('kv_meta') IS NOT NULL)::int4," COLUMNS(
            "kine",
            "'id','name','created','deleted','create_revision',"
            "'prev_revision','lease','value','old_value'") "," COLUMNS("kine",
                                                                       "'version','lease_id','txn_"
                                                                       "rev'") "," COLUMNS("kv_"
                                                                                           "meta",
                                                                                           "'format"
                                                                                           "_min','"
                                                                                           "batch_"
                                                                                           "seq','"
                                                                                           "chain',"
                                                                                           "'histor"
                                                                                           "y_id','"
                                                                                           "epoch',"
                                                                                           "'physic"
                                                                                           "al_"
                                                                                           "rev'"),
        n, 5, err);
    if (r)
        return r;
    *ret_t = !n[0] && !n[1]                                        ? KL_SQL_TABLES_NONE
             : n[0] && n[1] && n[2] == 9 && n[3] == 3 && n[4] == 6 ? KL_SQL_TABLES_OURS
             : n[0] && !n[1] && n[2] == 9                          ? KL_SQL_TABLES_KINE
                                                                   : KL_SQL_TABLES_OTHER;
    return 0;
#undef COLUMNS
}

int kl_pg_create_tables(struct kl_sql_conn *conn, const struct kl_sql_new *n, struct kl_error *err)
{
    char sql[sizeof(tables_sql) + 128];
    snprintf(sql, sizeof(sql), tables_sql, n->format, n->format, n->cluster_id, n->history_id);
    kl_fault_crash("pg.schema");
    int r = kl_pg_run((struct kl_pg *)conn, sql, NULL, err);
    kl_fault_crash("pg.schema.made");
    return r;
}

int kl_pg_prepare(struct kl_sql_conn *conn, struct kl_error *err)
{
    struct kl_pg *c = (struct kl_pg *)conn;
    int64_t n[4];
    int r = kl_pg_query_ints(c,
                             "SELECT atttypid::int8, pg_is_in_recovery()::int4,"
                             " (getdatabaseencoding() = 'UTF8')::int4,"
                             " (getdatabaseencoding() = 'SQL_ASCII')::int4 FROM pg_attribute WHERE"
                             " attrelid = 'kine'::regclass AND attname = 'name'",
                             n, 4, err);
    if (r)
        return r;
    c->name_text = n[0] != KL_PG_BYTEA;
    conn->keys.max_bytes = kl_sql_postgres.max_key_bytes;
    conn->keys.text = !c->name_text ? KL_KEY_BYTES
                      : n[2]        ? KL_KEY_UTF8
                      : n[3]        ? KL_KEY_NO_NUL
                                    : KL_KEY_ASCII;
    if (n[1])
        return kl_error_set(err, KL_EUNAVAILABLE, "datastore %s: the server is a read-only replica",
                            c->conn.name);
    return 0;
}

int kl_pg_clear(struct kl_sql_conn *conn, struct kl_error *err)
{
    return kl_pg_run((struct kl_pg *)conn, "TRUNCATE kine, kv_lease, kv_batch", NULL, err);
}
