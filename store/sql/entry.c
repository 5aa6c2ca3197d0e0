// SPDX-License-Identifier: Apache-2.0
// A batch as it lies in kv_batch beside its rows: the chain over everything, leases and forwarded
// transactions; and rows of kine as versions.
#include "store/sql/sql_int.h"
#include "base/clock.h"
#include <endian.h>

// ---- the chain: a running hash of all batches, so that two servers that do not have the same log
// notice. Not against an adversary: who can write the tables can write anything. ----

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static uint64_t mix_bytes(uint64_t h, struct kl_str s)
{
    h = mix(h, s.n);
    size_t i = 0;
    for (uint64_t v; i + 8 <= s.n; i += 8) {
        memcpy(&v, s.p + i, 8);
        h = mix(h, le64toh(v));
    }
    uint64_t tail = 0;
    for (size_t k = i; k < s.n; k++)
        tail = tail << 8 | (unsigned char)s.p[k];
    return i < s.n ? mix(h, tail) : h;
}

int64_t kl_sql_chain(int64_t prev, const struct kl_batch *b)
{
    uint64_t h = mix((uint64_t)prev, (uint64_t)b->base_rev);
    h = mix(h, (uint64_t)b->compact_rev);
    for (size_t i = 0; i < b->nrows; i++) {
        const struct kl_kv *kv = b->rows[i].kv;
        h = mix(h, (uint64_t)kv->mod_rev);
        h = mix_bytes(h, kl_kv_key(kv));
        if (kv->deleted)
            continue;
        h = mix(mix(h, (uint64_t)kv->create_rev), (uint64_t)kv->version);
        h = mix_bytes(mix(h, (uint64_t)kv->lease), kl_kv_value(kv));
    }
    return (int64_t)h;
}

// ---- time: deadlines are stored in the database's ----

int64_t kl_sql_now_ms(struct kl_backend *b)
{
    if (kl_core_options(b->core)->clock) // a test's is everybody's
        return kl_core_wall_ms(b->core);
    return kl_mono_ms() + atomic_load_explicit(&b->db_minus_mono_ms, memory_order_relaxed);
}

// The answer was late by an unknown part of the time that it took: never less than was promised.
void kl_sql_set_clock(struct kl_backend *b, const struct kl_sql_head *h)
{
    int64_t now = kl_mono_ms();
    atomic_store(&b->db_minus_mono_ms, h->now_ms - now);
    atomic_store(&b->db_clock_slack_ms, now - h->asked_ms + 2); // and what truncation took
}

int64_t kl_sql_deadline_to_db(struct kl_backend *b, const struct kl_lease_op *op)
{
    if (kl_core_options(b->core)->clock || !op->deadline_mono_ms)
        return op->deadline_wall_ms;
    return kl_sql_now_ms(b) + atomic_load_explicit(&b->db_clock_slack_ms, memory_order_relaxed) +
           op->deadline_mono_ms - kl_mono_ms();
}

int64_t kl_sql_deadline_from_db(struct kl_backend *b, int64_t ms)
{
    return ms - kl_sql_now_ms(b) + kl_core_wall_ms(b->core);
}

// ---- kv_batch.extra: little-endian; 1, leases, forwarded transactions ----

enum { EXTRA_VERSION = 1, LEASE_BYTES = 24, FORWARDED_BYTES = 25 };

static void put(struct kl_buf *b, uint64_t v, size_t n)
{
    v = htole64(v);
    kl_buf_append(b, &v, n);
}

int kl_sql_extra_encode(struct kl_backend *b, const struct kl_batch *batch, struct kl_buf *buf)
{
    kl_buf_clear(buf);
    if (!batch->nleases && !batch->nforwarded)
        return 0;
    put(buf, EXTRA_VERSION, 1);
    put(buf, batch->nleases, 4);
    for (size_t i = 0; i < batch->nleases; i++) {
        const struct kl_lease_op *op = &batch->leases[i];
        put(buf, (uint64_t)op->id, 8);
        put(buf, (uint64_t)op->ttl_ms, 8);
        put(buf, (uint64_t)(op->ttl_ms ? kl_sql_deadline_to_db(b, op) : 0), 8);
    }
    put(buf, batch->nforwarded, 4);
    for (size_t i = 0; i < batch->nforwarded; i++) {
        const struct kl_forwarded *f = &batch->forwarded[i];
        put(buf, f->server, 8);
        put(buf, f->seq, 8);
        put(buf, f->row_at, 4);
        put(buf, f->row_n, 4);
        put(buf, f->succeeded, 1);
    }
    return buf->err;
}

static bool get(struct kl_str *s, size_t n, uint64_t *ret)
{
    uint64_t v = 0;
    if (s->n < n)
        return false;
    memcpy(&v, s->p, n);
    *ret = le64toh(v);
    *s = kl_str_from(*s, n);
    return true;
}

static int decode(struct kl_backend *b, struct kl_str s, struct kl_batch *batch)
{
    uint64_t version, n, v[5] = {0};
    if (!get(&s, 1, &version) || version != EXTRA_VERSION || !get(&s, 4, &n) ||
        n > s.n / LEASE_BYTES)
        return KL_ECORRUPT;
    for (uint64_t i = 0; i < n; i++) {
        for (int k = 0; k < 3; k++)
            get(&s, 8, &v[k]);
        struct kl_lease_op op = {.id = (int64_t)v[0], .ttl_ms = (int64_t)v[1]};
        if (op.ttl_ms)
            op.deadline_wall_ms = kl_sql_deadline_from_db(b, (int64_t)v[2]);
        if (kl_batch_add_lease(batch, op))
            return KL_ENOMEM;
    }
    if (!get(&s, 4, &n) || n != s.n / FORWARDED_BYTES || s.n % FORWARDED_BYTES)
        return KL_ECORRUPT;
    for (uint64_t i = 0; i < n; i++) {
        static const size_t width[5] = {8, 8, 4, 4, 1};
        for (int k = 0; k < 5; k++)
            get(&s, width[k], &v[k]);
        struct kl_forwarded f = {.server = v[0],
                                 .seq = v[1],
                                 .row_at = (uint32_t)v[2],
                                 .row_n = (uint32_t)v[3],
                                 .succeeded = v[4] != 0};
        if (kl_batch_add_forwarded(batch, f))
            return KL_ENOMEM;
    }
    return 0;
}

int kl_sql_extra_decode(struct kl_backend *b, struct kl_str extra, struct kl_batch *batch,
                        struct kl_error *err)
{
    int r = extra.n ? decode(b, extra, batch) : 0;
    if (r == KL_ECORRUPT)
        return kl_error_set(err, r, "datastore %s is damaged: a batch's leases cannot be read",
                            b->name);
    return r ? kl_error_set(err, r, "out of memory") : 0;
}

// ---- rows ----

struct kl_kv *kl_sql_kv(struct kl_backend *b, const struct kl_sql_value *v)
{
    struct kl_bytes *value = NULL;
    bool deleted = v[2].i != 0;
    if (!deleted && !(value = kl_bytes_new(v[7].type == KL_SQL_BYTES ? v[7].s : kl_str(""))))
        return NULL;
    struct kl_kv *kv = kl_kv_new(v[1].s, value);
    kl_bytes_unref(value);
    if (!kv)
        return NULL;
    kv->hooks = kl_core_hooks(b->core);
    kv->id = v[0].i;
    kv->deleted = deleted;
    kv->mod_rev = v[6].type == KL_SQL_INT ? v[6].i : kv->id;
    if (deleted)
        return kv;
    // kine's own rows have create_revision 0 when they create, and no version.
    kv->create_rev = v[3].type == KL_SQL_INT && v[3].i ? v[3].i : kv->mod_rev;
    kv->version = v[4].type == KL_SQL_INT && v[4].i > 0 ? v[4].i : 1;
    kv->lease = v[5].type == KL_SQL_INT ? v[5].i : 0;
    return kv;
}
