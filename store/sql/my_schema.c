// SPDX-License-Identifier: Apache-2.0
// MariaDB's and MySQL's tables and statements.
#include "store/sql/my_int.h"
#include "base/fault.h"
#include <inttypes.h>
#include <stdio.h>

// kine comes last: with it there the tables are whole, and a kine without kv_meta is never ours. A
// statement of definition is a transaction of its own here; the named lock keeps others out.
#define SIDE_TABLES                                                                                \
    "CREATE TABLE IF NOT EXISTS kv_batch(batch_seq BIGINT NOT NULL PRIMARY KEY, epoch BIGINT NOT"  \
    " NULL, writer_id BIGINT NOT NULL, nonce BIGINT NOT NULL, base_rev BIGINT NOT NULL, n BIGINT"  \
    " NOT NULL, compact_rev BIGINT NOT NULL, chain BIGINT NOT NULL, at_ms BIGINT NOT NULL, extra"  \
    " LONGBLOB)" KL_MY_TABLE ";"                                                                   \
    "CREATE TABLE IF NOT EXISTS kv_lease(id BIGINT NOT NULL PRIMARY KEY, ttl_ms BIGINT NOT NULL,"  \
    " deadline_ms BIGINT NOT NULL)" KL_MY_TABLE ";"                                                \
    "CREATE TABLE IF NOT EXISTS kv_peer(id BIGINT NOT NULL PRIMARY KEY, address VARBINARY(1024)"   \
    " NOT NULL, version VARBINARY(255) NOT NULL, heartbeat_ms BIGINT NOT NULL, started_ms BIGINT"  \
    " NOT NULL)" KL_MY_TABLE

const char kl_my_side_tables_sql[] = SIDE_TABLES;

static const char tables_sql[] =
    "CREATE TABLE IF NOT EXISTS kv_meta" KL_MY_META_COLUMNS ";"
    "INSERT IGNORE INTO kv_meta VALUES(1,%d,%d,1,0,0,1,0,0,%" PRId64 ",%" PRId64 ",0,NULL,NULL)"
    ";" SIDE_TABLES ";"
    "CREATE TABLE IF NOT EXISTS kine(id BIGINT NOT NULL PRIMARY KEY, name VARBINARY(%d) NOT NULL,"
    " created INT, deleted INT, create_revision BIGINT, prev_revision BIGINT, lease INT, value"
    " LONGBLOB, old_value LONGBLOB, version BIGINT, lease_id BIGINT, txn_rev BIGINT, KEY"
    " kl_cover(name, id DESC, deleted, create_revision, version, lease_id, txn_rev), UNIQUE KEY"
    " kine_name_prev_revision_uindex(name, prev_revision))" KL_MY_TABLE;

#define KV(t)                                                                                      \
#t ".id," #t ".name," #t ".deleted," #t ".create_revision," #t ".version," #t ".lease_id," #t  \
       ".txn_rev," #t ".value"
#define HEAD                                                                                       \
    "SELECT history_id,epoch,batch_seq,rev,compact_rev,physical_rev,chain,writer,format_min,"      \
    "cluster_id,import_source,import_base,CAST(UNIX_TIMESTAMP(NOW(3))*1000 AS SIGNED)"             \
    " FROM kv_meta WHERE k=1"
// The newest row of each name, if it is no deletion, by one walk over the covering index in its
// order: grouped without a sort. Its lowest bit says whether it is one.
#define NEWEST(where)                                                                              \
    "SELECT MAX(id*2+(deleted=0)) AS m FROM kine FORCE INDEX(kl_cover) WHERE " where               \
    " GROUP BY name HAVING m%2=1"
// The join is in the order of the walk.
#define NEWEST_ROWS(where, limit)                                                                  \
    "SELECT " KV(v) " FROM (" NEWEST(where) " ORDER BY name LIMIT " limit                          \
                                            ") u STRAIGHT_JOIN kine v ON v.id=u.m DIV 2"
#define NEWEST_COUNT(where) "SELECT COUNT(*) FROM (" NEWEST(where) ") u"
#define AT(rev) " AND id<=" rev " AND COALESCE(txn_rev,id)<=" rev

const char *const kl_my_sql[KL_SQL_STMTS] = {
    [KL_SQL_HEAD] = HEAD,
    [KL_SQL_LOCK] = HEAD " FOR UPDATE",
    [KL_SQL_BATCHES] = // in the order of the index: with ORDER BY it would be sorted on a disk
    "SELECT m.history_id,m.batch_seq,m.rev,m.epoch,b.batch_seq,b.writer_id,b.nonce,b.base_rev,"
    "b.n,b.compact_rev,b.extra,b.chain FROM kv_meta m LEFT JOIN kv_batch b FORCE INDEX(PRIMARY)"
    " ON b.batch_seq>$1 AND b.batch_seq<=$2 WHERE m.k=1",
    [KL_SQL_TIP] = "SELECT history_id,batch_seq,rev,epoch FROM kv_meta WHERE k=1",
    [KL_SQL_BATCH] = "SELECT nonce,writer_id,chain FROM kv_batch WHERE batch_seq=$1",
    [KL_SQL_FEED] = "SELECT " KV(k) " FROM kine k WHERE k.id>$1 AND k.id<=$2 ORDER BY k.id",
    [KL_SQL_LOAD] = "SELECT MAX(id*2+(deleted=0)) DIV 2,name FROM kine FORCE INDEX(kl_cover) WHERE"
                    " name>$1 GROUP BY name HAVING MAX(id*2+(deleted=0))%2=1 ORDER BY name LIMIT"
                    " $2",
    [KL_SQL_LEASES] = "SELECT id,ttl_ms,deadline_ms FROM kv_lease",
    [KL_SQL_ROWS] = "SELECT " KV(k) "," KV(
        p) " FROM kine k LEFT JOIN kine p ON p.id=k.prev_revision AND p.deleted=0"
           " WHERE k.id>$1 ORDER BY k.id LIMIT $2",
    [KL_SQL_ROWS_FROM] = "SELECT id FROM kine WHERE id<$1 AND COALESCE(txn_rev,id)<$1"
                         " ORDER BY id DESC LIMIT 1",
    [KL_SQL_RANGE] = NEWEST_ROWS("name>=$1 AND name<$2" AT("$3"), "$4"),
    [KL_SQL_RANGE_TO_LAST] = NEWEST_ROWS("name>=$1" AT("$2"), "$3"),
    [KL_SQL_RANGE_COUNT] = NEWEST_COUNT("name>=$1 AND name<$2" AT("$3")),
    [KL_SQL_RANGE_TO_LAST_COUNT] = NEWEST_COUNT("name>=$1" AT("$2")),
    [KL_SQL_STEP_FROM] = "SELECT id FROM kine WHERE id<=$1 AND COALESCE(txn_rev,id)<$1"
                         " ORDER BY id DESC LIMIT 1",
    [KL_SQL_STEP_ROWS] = "SELECT id,prev_revision,deleted,COALESCE(txn_rev,id) FROM kine"
                         " WHERE id>$1 AND id<=$2 ORDER BY id",
    [KL_SQL_STEP_DONE] = "UPDATE kv_meta SET physical_rev=$1 WHERE k=1 AND physical_rev<$1",
    [KL_SQL_TRIM_BATCHES] =
        "DELETE b FROM (SELECT batch_seq FROM kv_batch ORDER BY batch_seq LIMIT $2) t STRAIGHT_JOIN"
        " kv_batch b ON b.batch_seq=t.batch_seq AND b.at_ms<$1",
    [KL_SQL_PEER_PUT] =
        "REPLACE INTO kv_peer(id,address,version,heartbeat_ms,started_ms) VALUES($1,$2,$3,$4,$5)",
    [KL_SQL_PEER_DEL] = "DELETE FROM kv_peer WHERE id=$1",
    [KL_SQL_PEERS] = "SELECT id,address,version,heartbeat_ms,started_ms FROM kv_peer",
    [KL_SQL_LEAD] = "UPDATE kv_meta SET writer=$1,epoch=epoch+1 WHERE k=1 AND epoch=$2",
    [KL_SQL_NEW_HISTORY] =
        "UPDATE kv_meta SET history_id=$1,rev=$2,compact_rev=$2,batch_seq=batch_seq+1000000,"
        "epoch=epoch+1,chain=$3 WHERE k=1",
    [KL_SQL_IMPORT_BEGIN] = "UPDATE kv_meta SET import_source=$1,import_base=$2 WHERE k=1",
    [KL_SQL_IMPORT_NEWEST] = "SELECT MAX(id) FROM kine",
    [KL_SQL_IMPORT_END] =
        "UPDATE kv_meta SET rev=$1,compact_rev=$2,physical_rev=$2,history_id=$3,chain=$4,"
        "batch_seq=batch_seq+1000000,epoch=epoch+1,import_source=NULL,import_base=NULL WHERE k=1",
    // What was deleted is free in the table's file, which keeps its size.
    [KL_SQL_SIZES] =
        "SELECT CAST(SUM(data_length+index_length+data_free) AS SIGNED),"
        "CAST(SUM(data_length+index_length) AS SIGNED) FROM information_schema.TABLES WHERE"
        " table_schema=DATABASE() AND table_name IN('kine','kv_meta','kv_batch','kv_lease',"
        "'kv_peer')",
};

int kl_my_inspect(struct kl_sql_conn *conn, enum kl_sql_tables *ret_t, struct kl_error *err)
{
    int64_t n[5];
    int r = kl_my_query_ints(
        (struct kl_my *)conn,
        "SELECT COALESCE(SUM(table_name='kine'),0),COALESCE(SUM(table_name='kv_meta'),0),"
        "COALESCE(SUM(table_name='kine' AND column_name IN('id','name','created','deleted',"
        "'create_revision','prev_revision','lease','value','old_value')),0),"
        "COALESCE(SUM(table_name='kine' AND column_name IN('version','lease_id','txn_rev')),0),"
        "COALESCE(SUM(table_name='kv_meta' AND column_name IN('format_min','batch_seq','chain',"
        "'history_id','epoch','physical_rev')),0) FROM information_schema.COLUMNS WHERE"
        " table_schema=DATABASE() AND table_name IN('kine','kv_meta')",
        n, 5, err);
    if (r)
        return r;
    bool kine = n[0] && n[2] == 9, meta = n[1] && n[4] == 6;
    if (!n[0] && (!n[1] || meta))
        *ret_t = KL_SQL_TABLES_NONE; // kv_meta alone: a creation that was cut, and goes on
    else if (kine && n[3] == 3 && meta)
        *ret_t = KL_SQL_TABLES_OURS;
    else
        *ret_t = kine && !n[1] ? KL_SQL_TABLES_KINE : KL_SQL_TABLES_OTHER;
    return 0;
}

// A key of an index is at most 3072 bytes with pages of 16 KiB, and less with smaller ones.
static int name_bytes(const struct kl_my *c)
{
    return c->page_bytes >= 16384 ? KL_MY_NAME_BYTES : c->page_bytes >= 8192 ? 1024 : 640;
}

enum { CREATE_TRIES = 10 };

int kl_my_create_tables(struct kl_sql_conn *conn, const struct kl_sql_new *n, struct kl_error *err)
{
    struct kl_my *c = (struct kl_my *)conn;
    char sql[sizeof(tables_sql) + 128];
    int64_t got = c->galera; // definitions are in one order there, and what is there stays
    int r = 0;
    if (!c->galera)
        r = kl_my_query_ints(c, "SELECT GET_LOCK(" KL_MY_LOCK_NAME ",60)", &got, 1, err);
    if (r)
        return r;
    if (got != 1)
        return kl_error_set(err, KL_EAGAIN, "datastore %s: another server makes the tables",
                            conn->name);
    snprintf(sql, sizeof(sql), tables_sql, n->format, n->format, n->cluster_id, n->history_id,
             name_bytes(c));
    kl_fault_crash("my.schema");
    r = kl_my_run(c, kl_str(sql), NULL, err);
    for (int i = 0; r == KL_EAGAIN && i < CREATE_TRIES; i++)
        r = kl_my_run(c, kl_str(sql), NULL, err);
    kl_fault_crash("my.schema.made");
    if (c->galera)
        return r;
    int released =
        kl_my_run(c, KL_STR("DO RELEASE_LOCK(" KL_MY_LOCK_NAME ")"), NULL, r ? NULL : err);
    return r ? r : released;
}

int kl_my_prepare(struct kl_sql_conn *conn, struct kl_error *err)
{
    struct kl_my *c = (struct kl_my *)conn;
    int64_t n[3];
    int r = kl_my_query_ints(
        c,
        "SELECT c.data_type NOT IN('varbinary','binary','blob'),t.engine='InnoDB',"
        "COALESCE(c.character_octet_length,0) FROM"
        " information_schema.COLUMNS c JOIN information_schema.TABLES t USING(table_schema,"
        "table_name) WHERE c.table_schema=DATABASE() AND c.table_name='kine' AND"
        " c.column_name='name'",
        n, 3, err);
    if (r)
        return r;
    c->name_text = n[0];
    conn->keys.max_bytes = (size_t)n[2];
    conn->keys.text = c->name_text ? KL_KEY_ASCII : KL_KEY_BYTES;
    if (!n[1])
        return kl_error_set(err, KL_EUNSUPPORTED,
                            "datastore %s: the table kine is not InnoDB's, and has no transactions",
                            conn->name);
    if (c->read_only)
        return kl_error_set(err, KL_EUNAVAILABLE, "datastore %s: the server is read-only",
                            conn->name);
    return 0;
}

int kl_my_clear(struct kl_sql_conn *conn, struct kl_error *err)
{
    return kl_my_run((struct kl_my *)conn,
                     KL_STR("TRUNCATE kine;TRUNCATE kv_lease;TRUNCATE kv_batch"), NULL, err);
}
