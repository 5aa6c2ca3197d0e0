// SPDX-License-Identifier: Apache-2.0
// A batch as one packet of statements, from BEGIN to COMMIT: one round trip. The server stops at
// the first that fails, so the check of kv_meta's row comes first and is a failure when it does not
// hold; whoever waits for the row's lock compares when it has it. In a Galera cluster each
// statement is a packet (my_int.h).
#include "store/sql/my_int.h"
#include "base/fault.h"

static int send_packet(struct kl_my *c, struct kl_error *err)
{
    struct kl_buf *b = &c->buf;
    if (b->err)
        return kl_error_set(err, b->err, "datastore %s: %s", c->conn.name, kl_err_text(b->err));
    if (b->n > c->packet_bytes)
        return kl_error_set(err, KL_ETOOLARGE,
                            "datastore %s: a write of %zu bytes; the server's max_allowed_packet "
                            "allows about %zu: raise it",
                            c->conn.name, b->n, c->packet_bytes);
    if (b->n && b->p[b->n - 1] == ';')
        b->n--;
    int r = kl_my_run(c, kl_buf_str(b), NULL, err);
    if (b->cap > 4u << 20)
        kl_buf_fini(b); // larger than usual
    kl_buf_clear(b);
    return r;
}

static int end_statement(struct kl_my *c, struct kl_error *err)
{
    kl_buf_putc(&c->buf, ';');
    return c->galera ? send_packet(c, err) : 0;
}

// k is not nullable and the mode is strict, on every version, with or without CHECK constraints.
static void put_meta(struct kl_my *c, const struct kl_sql_commit *m)
{
    struct kl_buf *b = &c->buf;
    const struct kl_batch *batch = m->batch;
    kl_my_put_str(b, c->mariadb ? "BEGIN;" : KL_MY_IMPATIENT "BEGIN;");
    kl_my_put_str(b, "UPDATE kv_meta SET k=IF(batch_seq=");
    kl_my_put_int(b, m->seq - 1);
    kl_my_put_str(b, " AND epoch=");
    kl_my_put_int(b, m->epoch);
    kl_my_put_str(b, " AND history_id=");
    kl_my_put_int(b, m->history_id);
    kl_my_put_str(b, " AND chain=");
    kl_my_put_int(b, m->prev_chain);
    kl_my_put_str(b, " AND import_source IS NULL,1,NULL),rev=");
    kl_my_put_int(b, batch->last_rev);
    kl_my_put_str(b, ",batch_seq=");
    kl_my_put_int(b, m->seq);
    kl_my_put_str(b, ",chain=");
    kl_my_put_int(b, m->chain);
    if (batch->compact_rev) {
        kl_my_put_str(b, ",compact_rev=GREATEST(compact_rev,");
        kl_my_put_int(b, batch->compact_rev);
        kl_buf_putc(b, ')');
    }
    kl_my_put_str(b, " WHERE k=1");
}

static void put_record(struct kl_buf *b, const struct kl_sql_commit *m)
{
    const int64_t v[] = {m->seq,
                         m->epoch,
                         m->writer_id,
                         m->nonce,
                         m->batch->base_rev,
                         (int64_t)m->batch->nrows,
                         m->batch->compact_rev,
                         m->chain,
                         m->now_ms};
    kl_my_put_str(b, "INSERT INTO kv_batch(batch_seq,epoch,writer_id,nonce,base_rev,n,compact_rev,"
                     "chain,at_ms,extra) VALUES(");
    for (size_t i = 0; i < KL_COUNT(v); i++) {
        kl_my_put_int(b, v[i]);
        kl_buf_putc(b, ',');
    }
    if (m->extra.n)
        kl_my_put_bytes(b, m->extra);
    else
        kl_my_put_str(b, "NULL");
    kl_buf_putc(b, ')');
}

static void put_int_or_null(struct kl_buf *b, int64_t v)
{
    kl_buf_putc(b, ',');
    if (v)
        kl_my_put_int(b, v);
    else
        kl_my_put_str(b, "NULL");
}

static void put_row(struct kl_buf *b, const struct kl_my *c, const struct kl_row *row)
{
    const struct kl_kv *kv = row->kv;
    kl_buf_putc(b, '(');
    kl_my_put_int(b, kv->id);
    kl_buf_putc(b, ',');
    kl_my_put_name(b, c, kl_kv_key(kv));
    kl_my_put_str(b, kl_sql_row_created(row) ? ",1" : ",0");
    kl_my_put_str(b, kv->deleted ? ",1," : ",0,");
    kl_my_put_int(b, kl_sql_row_create_revision(row));
    put_int_or_null(b, kl_sql_row_prev_revision(row));
    kl_my_put_str(b, ",0,");
    if (kv->deleted)
        kl_my_put_str(b, "NULL");
    else
        kl_my_put_bytes(b, kl_kv_value(kv));
    kl_buf_putc(b, ',');
    kl_my_put_int(b, kv->deleted ? 0 : kv->version);
    put_int_or_null(b, kv->lease);
    put_int_or_null(b, kl_sql_row_txn_rev(row));
    kl_buf_putc(b, ')');
}

// ---- packets ----

// At least one row goes into a packet; if that is too much, it is the row that is.
static bool fits(const struct kl_my *c, size_t more)
{
    size_t max = c->packet_bytes < KL_MY_PACKET_MAX ? c->packet_bytes : KL_MY_PACKET_MAX;
    return c->buf.n + more <= max;
}

static size_t count_escapes(struct kl_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += s.p[i] == '\'' || s.p[i] == '\\';
    return n;
}

static bool fits_row(const struct kl_my *c, const struct kl_kv *kv)
{
    struct kl_str key = kl_kv_key(kv), value = kl_kv_value(kv);
    size_t n = key.n + value.n;
    return fits(c, 2 * n + 512) || fits(c, n + count_escapes(key) + count_escapes(value) + 512);
}

static int put_rows(struct kl_my *c, const struct kl_row *rows, size_t n, struct kl_error *err)
{
    struct kl_buf *b = &c->buf;
    bool open = false;
    int r = 0;
    for (size_t i = 0; !r && i < n; i++) {
        if (b->n && !fits_row(c, rows[i].kv)) {
            r = send_packet(c, err);
            kl_fault_crash("my.packet");
            open = false;
            if (r)
                return r;
        }
        kl_my_put_str(b, open ? ","
                              : "INSERT INTO kine(id,name,created,deleted,create_revision,"
                                "prev_revision,lease,value,version,lease_id,txn_rev) VALUES");
        open = true;
        put_row(b, c, &rows[i]);
    }
    return open ? end_statement(c, err) : r;
}

// In their order: of several operations on a lease the last one counts.
static int put_leases(struct kl_my *c, const struct kl_lease_op *ops, size_t n,
                      struct kl_error *err)
{
    struct kl_buf *b = &c->buf;
    int r = 0;
    for (size_t i = 0; !r && i < n;) {
        bool put = ops[i].ttl_ms;
        kl_my_put_str(b, put ? "REPLACE INTO kv_lease(id,ttl_ms,deadline_ms) VALUES"
                             : "DELETE FROM kv_lease WHERE id IN(");
        for (bool first = true; i < n && !!ops[i].ttl_ms == put && (first || fits(c, 256));
             first = false, i++) {
            kl_my_put_str(b, first ? put ? "(" : "" : put ? ",(" : ",");
            kl_my_put_int(b, ops[i].id);
            if (put) {
                kl_buf_putc(b, ',');
                kl_my_put_int(b, ops[i].ttl_ms);
                kl_buf_putc(b, ',');
                kl_my_put_int(b, ops[i].deadline_wall_ms);
                kl_buf_putc(b, ')');
            }
        }
        if (!put)
            kl_buf_putc(b, ')');
        r = end_statement(c, err);
        if (!r && !fits(c, 1024))
            r = send_packet(c, err);
    }
    return r;
}

// ---- the driver's ----

static void roll_back(struct kl_my *c, int why)
{
    if (why != KL_EUNAVAILABLE)
        kl_my_run(c, c->mariadb ? KL_STR("ROLLBACK") : KL_STR("ROLLBACK" KL_MY_PATIENT), NULL,
                  NULL);
}

int kl_my_commit(struct kl_sql_conn *conn, const struct kl_sql_commit *m, struct kl_error *err)
{
    struct kl_my *c = (struct kl_my *)conn;
    const struct kl_batch *batch = m->batch;
    kl_buf_clear(&c->buf);
    put_meta(c, m);
    int r = end_statement(c, err);
    if (!r)
        r = put_rows(c, batch->rows, batch->nrows, err);
    if (!r)
        r = put_leases(c, batch->leases, batch->nleases, err);
    if (!r && c->buf.n && !fits(c, m->extra.n + m->extra.n / 8 + 512))
        r = send_packet(c, err);
    if (!r) {
        put_record(&c->buf, m);
        r = end_statement(c, err);
    }
    if (!r) {
        kl_my_put_str(&c->buf, c->mariadb ? "COMMIT" : "COMMIT" KL_MY_PATIENT);
        kl_fault_crash("my.commit");
        r = send_packet(c, err);
    }
    if (!r)
        return 0;
    bool check = r == KL_EINTERNAL && c->lib->mysql_errno(c->my) == ER_BAD_NULL_ERROR;
    roll_back(c, r);
    if (check)
        return kl_error_set(err, KL_ECONFLICT, "datastore %s: the log has moved on", conn->name);
    return r;
}

int kl_my_insert(struct kl_sql_conn *conn, const struct kl_row *rows, size_t n,
                 struct kl_error *err)
{
    struct kl_my *c = (struct kl_my *)conn;
    kl_buf_clear(&c->buf);
    int r = put_rows(c, rows, n, err);
    return r || !c->buf.n ? r : send_packet(c, err);
}

int kl_my_insert_leases(struct kl_sql_conn *conn, const struct kl_lease_op *ops, size_t n,
                        struct kl_error *err)
{
    struct kl_my *c = (struct kl_my *)conn;
    kl_buf_clear(&c->buf);
    int r = put_leases(c, ops, n, err);
    return r || !c->buf.n ? r : send_packet(c, err);
}

int kl_my_delete_rows(struct kl_sql_conn *conn, const kl_rev *ids, size_t n, int64_t *ret_rows,
                      struct kl_error *err)
{
    struct kl_my *c = (struct kl_my *)conn;
    struct kl_buf *b = &c->buf;
    int64_t gone = 0, rows;
    for (size_t i = 0; i < n;) {
        kl_buf_clear(b);
        kl_my_put_str(b, "DELETE FROM kine WHERE id IN(");
        for (bool first = true; i < n && fits(c, 64); first = false, i++) {
            if (!first)
                kl_buf_putc(b, ',');
            kl_my_put_int(b, ids[i]);
        }
        kl_buf_putc(b, ')');
        if (b->err)
            return kl_error_set(err, b->err, "datastore %s: %s", conn->name, kl_err_text(b->err));
        int r = kl_my_run(c, kl_buf_str(b), &rows, err);
        if (r)
            return r;
        gone += rows;
    }
    if (ret_rows)
        *ret_rows = gone;
    return 0;
}
