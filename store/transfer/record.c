// SPDX-License-Identifier: Apache-2.0
#include "store/transfer/record.h"
#include <stdio.h>

enum { NUMBER_MAX = 10, FIELDS_MAX = 9 * NUMBER_MAX };

static size_t put_number(unsigned char *p, uint64_t v)
{
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        p[n++] = (unsigned char)(v | 0x80);
    p[n++] = (unsigned char)v;
    return n;
}

static uint64_t zigzag(int64_t v)
{
    return (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
}

static int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static int put_all(struct kl_buf *b, enum kl_record_kind kind, const unsigned char *fields,
                   size_t n, struct kl_str s1, struct kl_str s2)
{
    unsigned char head[1 + NUMBER_MAX] = {(unsigned char)kind};
    size_t h = 1 + put_number(head + 1, n + s1.n + s2.n);
    if (kl_buf_reserve(b, h + n + s1.n + s2.n))
        return b->err;
    kl_buf_append(b, head, h);
    kl_buf_append(b, fields, n);
    kl_buf_puts(b, s1);
    kl_buf_puts(b, s2);
    return b->err;
}

int kl_record_encode(struct kl_buf *b, const struct kl_record *r)
{
    unsigned char f[FIELDS_MAX + 1];
    size_t n = 0;
    struct kl_str s1 = {"", 0}, s2 = s1;
    switch (r->kind) {
    case KL_RECORD_HEADER:
        n += put_number(f + n, (uint64_t)r->header.version);
        n += put_number(f + n, r->header.cluster_id);
        n += put_number(f + n, (uint64_t)r->header.rev);
        n += put_number(f + n, (uint64_t)r->header.compact_rev);
        n += put_number(f + n, (uint64_t)r->header.wall_ms);
        n += put_number(f + n, (uint64_t)r->header.keys);
        s1 = (struct kl_str){r->header.backend, strnlen(r->header.backend, 15)};
        break;
    case KL_RECORD_ROW:
        f[n++] = r->row.deleted;
        n += put_number(f + n, (uint64_t)r->row.id);
        n += put_number(f + n, (uint64_t)r->row.mod_rev);
        n += put_number(f + n, (uint64_t)r->row.create_rev);
        n += put_number(f + n, (uint64_t)r->row.version);
        n += put_number(f + n, zigzag(r->row.lease));
        n += put_number(f + n, (uint64_t)r->row.prev_id);
        n += put_number(f + n, (uint64_t)r->row.prev_create);
        n += put_number(f + n, r->row.key.n);
        s1 = r->row.key;
        s2 = r->row.value;
        break;
    case KL_RECORD_LEASE:
        n += put_number(f + n, zigzag(r->lease.id));
        n += put_number(f + n, (uint64_t)r->lease.ttl_ms);
        n += put_number(f + n, (uint64_t)r->lease.remaining_ms);
        break;
    case KL_RECORD_MARK:
        n += put_number(f + n, (uint64_t)r->mark.rev);
        n += put_number(f + n, (uint64_t)r->mark.head);
        break;
    case KL_RECORD_END:
        n += put_number(f + n, (uint64_t)r->end.rev);
        n += put_number(f + n, (uint64_t)r->end.rows);
        break;
    case KL_RECORD_FAIL:
        n += put_number(f + n, zigzag(r->fail.code));
        s1 = r->fail.text;
        break;
    }
    return put_all(b, r->kind, f, n, s1, s2);
}

// ---- decoding: a cursor that fails once and for all ----

struct cursor {
    const unsigned char *p, *end;
    bool bad;
};

static uint64_t get_number(struct cursor *c)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64 && c->p < c->end; shift += 7) {
        unsigned char byte = *c->p++;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            if (shift == 63 && byte > 1)
                break;
            return v;
        }
    }
    c->bad = true;
    return 0;
}

// A number that is never negative and leaves room for sums.
static int64_t get_count(struct cursor *c)
{
    uint64_t v = get_number(c);
    if (v > INT64_MAX / 2)
        c->bad = true;
    return c->bad ? 0 : (int64_t)v;
}

static struct kl_str get_str(struct cursor *c, uint64_t n)
{
    if (c->bad || n > (uint64_t)(c->end - c->p)) {
        c->bad = true;
        return (struct kl_str){"", 0};
    }
    struct kl_str s = {(const char *)c->p, (size_t)n};
    c->p += n;
    return s;
}

static struct kl_str get_rest(struct cursor *c)
{
    return get_str(c, (uint64_t)(c->end - c->p));
}

static void get_header(struct cursor *c, struct kl_record_header *h)
{
    h->version = get_count(c);
    if (c->bad || h->version != KL_RECORD_VERSION)
        return; // whatever follows is another version's
    h->cluster_id = get_number(c);
    h->rev = get_count(c);
    h->compact_rev = get_count(c);
    h->wall_ms = get_count(c);
    h->keys = get_count(c);
    struct kl_str s = get_rest(c);
    if (s.n >= sizeof(h->backend) || memchr(s.p, 0, s.n))
        c->bad = true;
    else
        snprintf(h->backend, sizeof(h->backend), "%.*s", KL_PRI(s));
}

static void get_row(struct cursor *c, struct kl_record_row *r)
{
    uint64_t deleted = get_number(c);
    r->deleted = deleted == 1;
    r->id = get_count(c);
    r->mod_rev = get_count(c);
    r->create_rev = get_count(c);
    r->version = get_count(c);
    r->lease = unzigzag(get_number(c));
    r->prev_id = get_count(c);
    r->prev_create = get_count(c);
    r->key = get_str(c, get_number(c));
    r->value = get_rest(c);
    if (deleted > 1 || r->id < 1 || r->mod_rev < r->id || r->prev_id >= r->id || !r->key.n ||
        (r->deleted && (r->value.n || r->create_rev || r->version || r->lease)) ||
        (!r->deleted && (r->create_rev < 1 || r->create_rev > r->mod_rev || r->version < 1)))
        c->bad = true;
}

static bool get_payload(struct cursor *c, int kind, struct kl_record *r)
{
    *r = (struct kl_record){.kind = (enum kl_record_kind)kind};
    switch (kind) {
    case KL_RECORD_HEADER:
        get_header(c, &r->header);
        return true;
    case KL_RECORD_ROW:
        get_row(c, &r->row);
        return true;
    case KL_RECORD_LEASE:
        r->lease.id = unzigzag(get_number(c));
        r->lease.ttl_ms = get_count(c);
        r->lease.remaining_ms = get_count(c);
        c->bad |= r->lease.ttl_ms < 1 || r->lease.remaining_ms > r->lease.ttl_ms;
        return true;
    case KL_RECORD_MARK:
        r->mark.rev = get_count(c);
        r->mark.head = get_count(c);
        return true;
    case KL_RECORD_END:
        r->end.rev = get_count(c);
        r->end.rows = get_count(c);
        return true;
    case KL_RECORD_FAIL:
        r->fail.code = unzigzag(get_number(c));
        r->fail.text = get_rest(c);
        return true;
    default:
        return false;
    }
}

int kl_record_decode(struct kl_str *in, struct kl_record *ret, struct kl_error *err)
{
    const unsigned char *p = (const unsigned char *)in->p;
    if (!in->n)
        return KL_EAGAIN;
    struct cursor c = {p + 1, p + in->n, false};
    uint64_t n = get_number(&c);
    if (c.bad)
        return in->n > NUMBER_MAX ? kl_error_set(err, KL_ECORRUPT, "a record has no length")
                                  : KL_EAGAIN;
    if (n > KL_RECORD_MAX)
        return kl_error_set(err, KL_ECORRUPT, "a record of %llu bytes", (unsigned long long)n);
    if (n > (uint64_t)(c.end - c.p))
        return KL_EAGAIN;
    c.end = c.p + n;
    struct cursor payload = c;
    if (!get_payload(&payload, p[0], ret))
        return kl_error_set(err, KL_ECORRUPT, "a record of unknown kind %u", p[0]);
    if (p[0] == KL_RECORD_HEADER && !payload.bad && ret->header.version != KL_RECORD_VERSION)
        return kl_error_set(err, KL_EUNSUPPORTED, "format %lld; this version of kinglet reads %d",
                            (long long)ret->header.version, KL_RECORD_VERSION);
    if (payload.bad || payload.p != payload.end)
        return kl_error_set(err, KL_ECORRUPT, "a damaged record of kind %c", p[0]);
    size_t used = (size_t)(c.end - p);
    *in = (struct kl_str){in->p + used, in->n - used};
    return 0;
}

int kl_record_error(const struct kl_record *r, struct kl_error *err)
{
    int code = r->fail.code < 0 && r->fail.code >= KL_EGONE ? (int)r->fail.code : KL_EINTERNAL;
    return kl_error_set(err, code, "%.*s", KL_PRI(r->fail.text));
}
