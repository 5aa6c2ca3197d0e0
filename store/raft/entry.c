// SPDX-License-Identifier: Apache-2.0
#include "store/raft/entry.h"
#include "store/raft/coding.h"
#include "store/raft/sum.h"
#include "store/lease.h"
#include <raft.h>
#include <stdlib.h>

enum {
    MAGIC = 0x45524c4b, // KLRE
    BODY_HEAD = 64,
    ROW_MAX = 1 + 7 * 10, // without key and value
    LEASE_MAX = 3 * 10,
    FORWARDED_MAX = 8 + 8 + 10 + 10 + 1,
};

enum { ROW_DELETED = 1, ROW_LEASE = 2, ROW_TXN = 4 };

// ---- there ----

static size_t body_bound(const struct kl_batch *b)
{
    size_t n = BODY_HEAD + b->nleases * LEASE_MAX + b->nforwarded * FORWARDED_MAX;
    for (size_t i = 0; i < b->nrows; i++)
        n += ROW_MAX + b->rows[i].kv->key_len + kl_kv_value(b->rows[i].kv).n;
    return n;
}

static uint8_t *put_row(uint8_t *p, const struct kl_row *row)
{
    const struct kl_kv *kv = row->kv;
    *p++ = (uint8_t)((kv->deleted ? ROW_DELETED : 0) | (kv->lease ? ROW_LEASE : 0) |
                     (kv->mod_rev != kv->id ? ROW_TXN : 0));
    p = kl_put_var(p, kv->key_len);
    memcpy(p, kv->key, kv->key_len);
    p = kl_put_var(p + kv->key_len, row->prev ? (uint64_t)row->prev->id : 0);
    if (kv->mod_rev != kv->id)
        p = kl_put_var(p, (uint64_t)(kv->mod_rev - kv->id));
    if (kv->deleted)
        return p;
    p = kl_put_var(p, (uint64_t)kv->create_rev);
    p = kl_put_var(p, (uint64_t)kv->version);
    if (kv->lease)
        p = kl_put_var(p, (uint64_t)kv->lease);
    struct kl_str v = kl_kv_value(kv);
    p = kl_put_var(p, v.n);
    if (v.n)
        memcpy(p, v.p, v.n);
    return p + v.n;
}

static size_t put_body(uint8_t *body, const struct kl_batch *b, const struct kl_raft_batch_head *h)
{
    uint8_t *p = body + BODY_HEAD;
    kl_put_u64(body, h->cluster_id);
    kl_put_u64(body + 8, h->prev_chain);
    kl_put_u64(body + 16, h->prev_state);
    kl_put_u64(body + 24, (uint64_t)b->base_rev);
    kl_put_u64(body + 32, (uint64_t)b->last_rev);
    kl_put_u64(body + 40, (uint64_t)b->compact_rev);
    kl_put_u32(body + 48, (uint32_t)b->nrows);
    kl_put_u32(body + 52, (uint32_t)b->nleases);
    kl_put_u32(body + 56, (uint32_t)b->nforwarded);
    kl_put_u32(body + 60, b->full);
    for (size_t i = 0; i < b->nrows; i++)
        p = put_row(p, &b->rows[i]);
    for (size_t i = 0; i < b->nleases; i++) {
        p = kl_put_var(p, (uint64_t)b->leases[i].id);
        p = kl_put_var(p, (uint64_t)b->leases[i].ttl_ms);
        p = kl_put_var(p, (uint64_t)b->leases[i].deadline_wall_ms);
    }
    for (size_t i = 0; i < b->nforwarded; i++) {
        const struct kl_forwarded *f = &b->forwarded[i];
        kl_put_u64(p, f->server);
        kl_put_u64(p + 8, f->seq);
        p = kl_put_var(p + 16, f->row_at);
        p = kl_put_var(p, f->row_n);
        *p++ = f->succeeded;
    }
    return (size_t)(p - body);
}

static void put_head(uint8_t *p, size_t n, uint8_t kind, uint16_t part, uint16_t parts,
                     uint64_t origin, uint64_t seq)
{
    kl_put_u32(p, MAGIC);
    p[4] = KL_RAFT_ENTRY_VERSION;
    p[5] = kind;
    kl_put_u16(p + 6, 0);
    kl_put_u16(p + 12, part);
    kl_put_u16(p + 14, parts);
    kl_put_u64(p + 16, origin);
    kl_put_u64(p + 24, seq);
    kl_put_u32(p + 8, kl_crc32c(kl_crc32c(0, p, 8), p + 12, KL_RAFT_PART_HEAD - 12 + n));
}

static int split_body(const uint8_t *body, size_t n, uint64_t origin, uint64_t seq,
                      struct raft_buffer **ret_parts, size_t *ret_n)
{
    size_t parts = (n + KL_RAFT_PART_BYTES - 1) / KL_RAFT_PART_BYTES;
    struct raft_buffer *v = calloc(parts, sizeof(*v));
    int r = v ? 0 : KL_ENOMEM;
    for (size_t i = 0; !r && i < parts; i++) {
        size_t at = i * KL_RAFT_PART_BYTES,
               k = n - at < KL_RAFT_PART_BYTES ? n - at : KL_RAFT_PART_BYTES;
        v[i].len = KL_RAFT_PART_HEAD + k;
        v[i].base = raft_malloc(v[i].len);
        if (!v[i].base) {
            r = KL_ENOMEM;
            break;
        }
        memcpy((uint8_t *)v[i].base + KL_RAFT_PART_HEAD, body + at, k);
        put_head(v[i].base, k, KL_RAFT_BATCH, (uint16_t)i, (uint16_t)parts, origin, seq);
    }
    if (r) {
        for (size_t i = 0; v && i < parts; i++)
            raft_free(v[i].base);
        free(v);
        return r;
    }
    *ret_parts = v;
    *ret_n = parts;
    return 0;
}

int kl_raft_entry_encode(const struct kl_batch *b, const struct kl_raft_batch_head *h,
                         uint64_t origin, uint64_t seq, struct raft_buffer **ret_parts,
                         size_t *ret_n)
{
    size_t bound = body_bound(b);
    if (bound > KL_RAFT_BODY_MAX)
        return KL_ETOOLARGE;
    uint8_t *p = raft_malloc(KL_RAFT_PART_HEAD + bound);
    if (!p)
        return KL_ENOMEM;
    size_t n = put_body(p + KL_RAFT_PART_HEAD, b, h);
    if (n > KL_RAFT_PART_BYTES) {
        int r = split_body(p + KL_RAFT_PART_HEAD, n, origin, seq, ret_parts, ret_n);
        raft_free(p);
        return r;
    }
    struct raft_buffer *v = malloc(sizeof(*v));
    if (!v) {
        raft_free(p);
        return KL_ENOMEM;
    }
    put_head(p, n, KL_RAFT_BATCH, 0, 1, origin, seq);
    *v = (struct raft_buffer){p, KL_RAFT_PART_HEAD + n};
    *ret_parts = v;
    *ret_n = 1;
    return 0;
}

int kl_raft_peer_encode(const struct kl_raft_peer_entry *e, uint64_t origin, uint64_t seq,
                        struct raft_buffer *ret)
{
    size_t n = 16 + e->address.n;
    uint8_t *p = raft_malloc(KL_RAFT_PART_HEAD + n);
    if (!p)
        return KL_ENOMEM;
    kl_put_u64(p + KL_RAFT_PART_HEAD, e->cluster_id);
    kl_put_u64(p + KL_RAFT_PART_HEAD + 8, e->id);
    memcpy(p + KL_RAFT_PART_HEAD + 16, e->address.p, e->address.n);
    put_head(p, n, KL_RAFT_PEER, 0, 1, origin, seq);
    *ret = (struct raft_buffer){p, KL_RAFT_PART_HEAD + n};
    return 0;
}

// ---- back ----

int kl_raft_part_decode(const void *bytes, size_t n, struct kl_raft_part *ret)
{
    const uint8_t *p = bytes;
    if (n < KL_RAFT_PART_HEAD || kl_get_u32(p) != MAGIC)
        return KL_ECORRUPT;
    if (p[4] > KL_RAFT_ENTRY_VERSION)
        return KL_EUNSUPPORTED;
    if (kl_get_u32(p + 8) != kl_crc32c(kl_crc32c(0, p, 8), p + 12, n - 12))
        return KL_ECORRUPT;
    *ret = (struct kl_raft_part){
        .kind = p[5],
        .part = kl_get_u16(p + 12),
        .parts = kl_get_u16(p + 14),
        .origin = kl_get_u64(p + 16),
        .seq = kl_get_u64(p + 24),
        .body = {(const char *)p + KL_RAFT_PART_HEAD, n - KL_RAFT_PART_HEAD},
    };
    if (ret->kind != KL_RAFT_BATCH && ret->kind != KL_RAFT_PEER)
        return KL_EUNSUPPORTED;
    return ret->parts && ret->part < ret->parts ? 0 : KL_ECORRUPT;
}

int kl_raft_head_decode(struct kl_str body, struct kl_raft_batch_head *ret)
{
    if (body.n < BODY_HEAD)
        return KL_ECORRUPT;
    const char *p = body.p;
    *ret = (struct kl_raft_batch_head){
        .cluster_id = kl_get_u64(p),
        .prev_chain = kl_get_u64(p + 8),
        .prev_state = kl_get_u64(p + 16),
        .base_rev = (kl_rev)kl_get_u64(p + 24),
        .last_rev = (kl_rev)kl_get_u64(p + 32),
    };
    uint64_t nrows = kl_get_u32(p + 48);
    if (ret->base_rev < 1 || ret->base_rev > INT64_MAX / 2 ||
        ret->last_rev != ret->base_rev + (kl_rev)nrows)
        return KL_ECORRUPT;
    return 0;
}

static int take_row(struct kl_cursor *c, const struct kl_raft_batch_head *h, size_t i,
                    struct kl_batch *b, kl_rev *ret_prev)
{
    uint8_t flags = kl_take_u8(c);
    struct kl_str key = kl_take_str(c, kl_take_var(c));
    uint64_t prev = kl_take_var(c);
    kl_rev id = h->base_rev + (kl_rev)i + 1;
    uint64_t ahead = flags & ROW_TXN ? kl_take_var(c) : 0, create = 0, version = 0, lease = 0;
    struct kl_str value = {"", 0};
    if (!(flags & ROW_DELETED)) {
        create = kl_take_var(c);
        version = kl_take_var(c);
        lease = flags & ROW_LEASE ? kl_take_var(c) : 0;
        value = kl_take_str(c, kl_take_var(c));
    }
    if (c->bad || !key.n || prev >= (uint64_t)id || ahead > (uint64_t)(h->last_rev - id) ||
        (!(flags & ROW_DELETED) &&
         (!create || create > (uint64_t)h->last_rev || !version || version > INT64_MAX)) ||
        flags & ~(ROW_DELETED | ROW_LEASE | ROW_TXN))
        return KL_ECORRUPT;
    struct kl_bytes *v = flags & ROW_DELETED ? NULL : kl_bytes_new(value);
    struct kl_kv *kv = v || flags & ROW_DELETED ? kl_kv_new(key, v) : NULL;
    kl_bytes_unref(v);
    if (!kv)
        return KL_ENOMEM;
    kv->id = id;
    kv->mod_rev = id + (kl_rev)ahead;
    kv->deleted = flags & ROW_DELETED;
    kv->create_rev = (kl_rev)create;
    kv->version = (int64_t)version;
    kv->lease = (int64_t)lease;
    *ret_prev = (kl_rev)prev;
    return kl_batch_add_row(b, kv);
}

static int take_tail(struct kl_cursor *c, struct kl_batch *b, uint32_t nleases, uint32_t nforwarded)
{
    int r = 0;
    for (uint32_t i = 0; !r && i < nleases; i++) {
        struct kl_lease_op op = {.id = (int64_t)kl_take_var(c)};
        op.ttl_ms = (int64_t)kl_take_var(c);
        op.deadline_wall_ms = (int64_t)kl_take_var(c);
        if (c->bad || op.ttl_ms < 0 || op.ttl_ms > KL_LEASE_MAX_STORED_MS ||
            op.deadline_wall_ms < 0)
            return KL_ECORRUPT;
        r = kl_batch_add_lease(b, op);
    }
    for (uint32_t i = 0; !r && i < nforwarded; i++) {
        struct kl_forwarded f = {.server = kl_take_u64(c)};
        f.seq = kl_take_u64(c);
        uint64_t at = kl_take_var(c);
        uint64_t n = kl_take_var(c);
        f.succeeded = kl_take_u8(c) != 0;
        if (c->bad || at > b->nrows || n > b->nrows - at)
            return KL_ECORRUPT;
        f.row_at = (uint32_t)at;
        f.row_n = (uint32_t)n;
        r = kl_batch_add_forwarded(b, f);
    }
    return r ? r : c->bad || c->p != c->end ? KL_ECORRUPT : 0;
}

int kl_raft_batch_decode(struct kl_str body, struct kl_batch **ret_b, kl_rev **ret_prev_ids)
{
    struct kl_raft_batch_head h;
    int r = kl_raft_head_decode(body, &h);
    if (r)
        return r;
    struct kl_cursor c = {(const uint8_t *)body.p + 40, (const uint8_t *)body.p + body.n, false};
    uint64_t compact = kl_take_u64(&c);
    uint32_t nrows = kl_take_u32(&c), nleases = kl_take_u32(&c), nforwarded = kl_take_u32(&c);
    uint32_t full = kl_take_u32(&c);
    if (c.bad || compact > (uint64_t)h.last_rev || nrows > body.n || nleases > body.n ||
        nforwarded > body.n)
        return KL_ECORRUPT;
    struct kl_batch *b = kl_batch_new();
    kl_rev *prev = calloc(nrows + 1, sizeof(*prev));
    if (!b || !prev) {
        kl_batch_free(b);
        free(prev);
        return KL_ENOMEM;
    }
    b->base_rev = h.base_rev;
    b->last_rev = h.last_rev;
    b->compact_rev = (kl_rev)compact;
    b->full = full != 0;
    for (size_t i = 0; !r && i < nrows; i++)
        r = take_row(&c, &h, i, b, &prev[i]);
    if (!r)
        r = take_tail(&c, b, nleases, nforwarded);
    if (r) {
        kl_batch_free(b);
        free(prev);
        return r;
    }
    *ret_b = b;
    *ret_prev_ids = prev;
    return 0;
}

int kl_raft_peer_decode(struct kl_str body, struct kl_raft_peer_entry *ret)
{
    if (body.n < 16 || body.n > 16 + 255 || memchr(body.p + 16, 0, body.n - 16))
        return KL_ECORRUPT;
    *ret = (struct kl_raft_peer_entry){
        kl_get_u64(body.p), kl_get_u64(body.p + 8), {body.p + 16, body.n - 16}};
    return ret->id ? 0 : KL_ECORRUPT;
}

uint64_t kl_raft_chain(uint64_t prev, struct kl_str body)
{
    return kl_sum64(prev, body.p, body.n);
}

uint64_t kl_raft_kv_hash(const struct kl_kv *kv)
{
    if (!kv || kv->deleted)
        return 0;
    uint8_t n[40];
    kl_put_u64(n, (uint64_t)kv->id);
    kl_put_u64(n + 8, (uint64_t)kv->mod_rev);
    kl_put_u64(n + 16, (uint64_t)kv->create_rev);
    kl_put_u64(n + 24, (uint64_t)kv->version);
    kl_put_u64(n + 32, (uint64_t)kv->lease);
    struct kl_str v = kl_kv_value(kv);
    return kl_sum64(kl_sum64(kl_sum64(1, n, sizeof(n)), kv->key, kv->key_len), v.p, v.n);
}
