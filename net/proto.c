// SPDX-License-Identifier: Apache-2.0
#include "net/proto.h"

enum { MAX_DEPTH = 64, MAX_ELEMENTS = 1 << 20, MAX_FIELDS = 64 };

static void put_varint(struct kl_buf *b, uint64_t v)
{
    if (kl_buf_reserve(b, 10))
        return;
    b->n = (size_t)(kl_proto_put_varint(b->p + b->n, v) - b->p);
}

static void put_bytes(struct kl_buf *b, uint32_t n, struct kl_str s)
{
    put_varint(b, (uint64_t)n << 3 | 2);
    put_varint(b, s.n);
    kl_buf_puts(b, s);
}

static uint64_t scalar_of(const struct kl_proto_field *f, const char *p)
{
    switch (f->kind) {
    case KL_PROTO_BOOL:
        return *(const bool *)p;
    case KL_PROTO_INT32:
        return (uint64_t)(int64_t) * (const int32_t *)p;
    case KL_PROTO_UINT32:
        return *(const uint32_t *)p;
    default:
        return (uint64_t) * (const int64_t *)p;
    }
}

// The length of a nested message is not known before it is written: it is written behind a gap of
// one byte, which is widened when it was too small.
static size_t open_nested(struct kl_buf *out, uint32_t n)
{
    put_varint(out, (uint64_t)n << 3 | 2);
    kl_buf_putc(out, 0);
    return out->n;
}

static void close_nested(struct kl_buf *out, size_t start)
{
    if (out->err)
        return;
    size_t len = out->n - start, more = kl_proto_varint_size(len) - 1;
    if (more) {
        if (kl_buf_reserve(out, more))
            return;
        memmove(out->p + start + more, out->p + start, len);
        out->n += more;
    }
    kl_proto_put_varint(out->p + start - 1, len);
}

static void encode_one(struct kl_buf *out, const struct kl_proto_field *f, const char *p)
{
    size_t start;
    switch (f->kind) {
    case KL_PROTO_STRING:
        put_bytes(out, f->n, *(const struct kl_str *)p);
        return;
    case KL_PROTO_MESSAGE:
        start = open_nested(out, f->n);
        kl_proto_encode(out, f->sub, p);
        close_nested(out, start);
        return;
    case KL_PROTO_MAP:
        start = open_nested(out, f->n);
        put_bytes(out, 1, ((const struct kl_proto_kv *)p)->key);
        put_bytes(out, 2, ((const struct kl_proto_kv *)p)->value);
        close_nested(out, start);
        return;
    default:
        put_varint(out, (uint64_t)f->n << 3);
        put_varint(out, scalar_of(f, p));
    }
}

static bool is_scalar(const struct kl_proto_field *f)
{
    return f->kind >= KL_PROTO_BOOL && f->kind <= KL_PROTO_INT64;
}

static void encode_repeated(struct kl_buf *out, const struct kl_proto_field *f, const char *items,
                            size_t n)
{
    if (!n)
        return;
    if (!is_scalar(f)) {
        for (size_t i = 0; i < n; i++)
            encode_one(out, f, items + i * f->size);
        return;
    }
    size_t start = open_nested(out, f->n); // packed
    for (size_t i = 0; i < n; i++)
        put_varint(out, scalar_of(f, items + i * f->size));
    close_nested(out, start);
}

void kl_proto_encode(struct kl_buf *out, const struct kl_proto_desc *d, const void *msg)
{
    for (const struct kl_proto_field *f = d->fields; f < d->fields + d->nfields; f++) {
        const char *p = (const char *)msg + f->offset;
        if (f->flags & KL_PROTO_REPEATED) {
            encode_repeated(out, f, *(const char *const *)p,
                            *(const size_t *)((const char *)msg + f->count_offset));
        } else if (f->kind == KL_PROTO_MESSAGE) {
            if (*(const char *const *)p)
                encode_one(out, f, *(const char *const *)p);
        } else if (f->kind == KL_PROTO_STRING ? ((const struct kl_str *)p)->n != 0
                                              : scalar_of(f, p) != 0) {
            encode_one(out, f, p);
        }
    }
}

static bool get_varint(struct kl_str *s, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s->n && i < 10; i++) {
        uint8_t c = (uint8_t)s->p[i];
        if (i == 9 && c > 1)
            return false;
        v |= (uint64_t)(c & 0x7f) << (7 * i);
        if (!(c & 0x80)) {
            *ret = v;
            *s = kl_str_from(*s, i + 1);
            return true;
        }
    }
    return false;
}

struct wire {
    uint32_t n, type;
    uint64_t value;      // type 0
    struct kl_str bytes; // type 2
};

static bool next_wire(struct kl_str *s, struct wire *w)
{
    uint64_t tag, len;
    if (!get_varint(s, &tag) || tag >> 3 == 0 || tag >> 3 > 536870911)
        return false;
    w->n = (uint32_t)(tag >> 3);
    w->type = tag & 7;
    switch (w->type) {
    case 0:
        return get_varint(s, &w->value);
    case 1:
    case 5:
        len = w->type == 1 ? 8 : 4;
        break;
    case 2:
        if (!get_varint(s, &len))
            return false;
        break;
    default:
        return false;
    }
    if (len > s->n)
        return false;
    w->bytes = (struct kl_str){s->p, (size_t)len};
    *s = kl_str_from(*s, (size_t)len);
    return true;
}

// Most messages number their fields 1, 2, 3.
static const struct kl_proto_field *find_field(const struct kl_proto_desc *d, uint32_t n)
{
    if (n <= d->nfields && d->fields[n - 1].n == n)
        return &d->fields[n - 1];
    for (size_t i = 0; i < d->nfields; i++)
        if (d->fields[i].n == n)
            return &d->fields[i];
    return NULL;
}

static void store_scalar(const struct kl_proto_field *f, char *p, uint64_t v)
{
    switch (f->kind) {
    case KL_PROTO_BOOL:
        *(bool *)p = v != 0;
        break;
    case KL_PROTO_INT32:
    case KL_PROTO_UINT32:
        *(uint32_t *)p = (uint32_t)v;
        break;
    default:
        *(uint64_t *)p = v;
    }
}

static int decode_into(struct kl_arena *a, const struct kl_proto_desc *d, struct kl_str data,
                       char *msg, int depth);

static int decode_map_entry(struct kl_proto_kv *kv, struct kl_str s)
{
    struct wire w;
    *kv = (struct kl_proto_kv){{"", 0}, {"", 0}};
    while (s.n) {
        if (!next_wire(&s, &w))
            return KL_EPROTO;
        if (w.type == 2 && w.n == 1)
            kv->key = w.bytes;
        else if (w.type == 2 && w.n == 2)
            kv->value = w.bytes;
    }
    return 0;
}

static int decode_scalars(const struct kl_proto_field *f, const struct wire *w, char *p,
                          size_t *count)
{
    uint64_t v;
    if (w->type == 0) {
        store_scalar(f, p, w->value);
        if (count)
            ++*count;
        return 0;
    }
    if (w->type != 2 || !count)
        return KL_EPROTO;
    for (struct kl_str s = w->bytes; s.n; p += f->size, ++*count) {
        if (!get_varint(&s, &v))
            return KL_EPROTO;
        store_scalar(f, p, v);
    }
    return 0;
}

// The array of a repeated field was sized by size_arrays.
static int decode_field(struct kl_arena *a, const struct kl_proto_field *f, const struct wire *w,
                        char *msg, int depth)
{
    char *p = msg + f->offset;
    size_t *count = NULL;
    if (f->flags & KL_PROTO_REPEATED) {
        count = (size_t *)(msg + f->count_offset);
        p = *(char **)p + *count * f->size;
    }
    if (is_scalar(f))
        return decode_scalars(f, w, p, count);
    if (w->type != 2)
        return KL_EPROTO;
    int r = 0;
    if (f->kind == KL_PROTO_STRING) {
        *(struct kl_str *)p = w->bytes;
    } else if (f->kind == KL_PROTO_MAP) {
        r = decode_map_entry((struct kl_proto_kv *)p, w->bytes);
    } else {
        if (!count) {
            char **slot = (char **)p; // a second occurrence merges into the first
            if (!*slot && !(*slot = kl_arena_zalloc(a, f->sub->size)))
                return KL_ENOMEM;
            p = *slot;
        }
        r = decode_into(a, f->sub, w->bytes, p, depth + 1);
    }
    if (count)
        ++*count;
    return r;
}

static size_t elements_in(const struct kl_proto_field *f, const struct wire *w)
{
    if (!is_scalar(f) || w->type != 2)
        return 1;
    size_t n = 0;
    for (size_t i = 0; i < w->bytes.n; i++)
        n += !(w->bytes.p[i] & 0x80);
    return n;
}

// First pass: sizes and allocates the arrays. A message merged a second time keeps what it had.
static int size_arrays(struct kl_arena *a, const struct kl_proto_desc *d, struct kl_str data,
                       char *msg)
{
    size_t counts[MAX_FIELDS] = {0};
    struct wire w;
    while (data.n) {
        if (!next_wire(&data, &w))
            return KL_EPROTO;
        const struct kl_proto_field *f = find_field(d, w.n);
        if (f && f->flags & KL_PROTO_REPEATED)
            counts[f - d->fields] += elements_in(f, &w);
    }
    for (size_t i = 0; i < d->nfields; i++) {
        const struct kl_proto_field *f = &d->fields[i];
        if (!counts[i])
            continue;
        size_t have = *(size_t *)(msg + f->count_offset);
        if (counts[i] > MAX_ELEMENTS || have > MAX_ELEMENTS)
            return KL_ELIMIT;
        char *items = kl_arena_zalloc(a, (have + counts[i]) * f->size);
        if (!items)
            return KL_ENOMEM;
        if (have)
            memcpy(items, *(char **)(msg + f->offset), have * f->size);
        *(char **)(msg + f->offset) = items;
    }
    return 0;
}

static void clear_oneof(const struct kl_proto_desc *d, const struct kl_proto_field *keep, char *msg)
{
    for (const struct kl_proto_field *f = d->fields; f < d->fields + d->nfields; f++) {
        if (f == keep || !(f->flags & KL_PROTO_ONEOF))
            continue;
        memset(msg + f->offset, 0, f->kind == KL_PROTO_MESSAGE ? sizeof(void *) : f->size);
    }
}

static int decode_into(struct kl_arena *a, const struct kl_proto_desc *d, struct kl_str data,
                       char *msg, int depth)
{
    if (depth > MAX_DEPTH || d->nfields > MAX_FIELDS)
        return KL_EPROTO;
    int r = d->has_repeated ? size_arrays(a, d, data, msg) : 0;
    struct wire w;
    while (!r && data.n) {
        if (!next_wire(&data, &w))
            return KL_EPROTO;
        const struct kl_proto_field *f = find_field(d, w.n);
        if (!f)
            continue;
        if (f->flags & KL_PROTO_ONEOF)
            clear_oneof(d, f, msg);
        r = decode_field(a, f, &w, msg, depth);
    }
    return r;
}

int kl_proto_decode(struct kl_arena *a, const struct kl_proto_desc *d, struct kl_str data,
                    void **ret_msg, struct kl_error *err)
{
    char *msg = kl_arena_zalloc(a, d->size);
    int r = msg ? decode_into(a, d, data, msg, 0) : KL_ENOMEM;
    if (r)
        return kl_error_set(err, r, "decoding message %s: %s", d->name, kl_err_text(r));
    *ret_msg = msg;
    return 0;
}

struct kl_str kl_proto_map_get(const struct kl_proto_kv *kv, size_t n, struct kl_str key)
{
    for (size_t i = 0; i < n; i++)
        if (kl_str_eq(kv[i].key, key))
            return kv[i].value;
    return (struct kl_str){NULL, 0};
}
