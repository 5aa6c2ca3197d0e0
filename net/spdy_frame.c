// SPDX-License-Identifier: Apache-2.0
// SPDY/3 header blocks: name/value pairs under zlib with the protocol's dictionary. One compression
// state lives as long as the session, in each direction.
#include "net/spdy_int.h"

// A window of 2 KiB holds the dictionary; more memory brings nothing for these headers.
enum { WINDOW_BITS = 11, MEM_LEVEL = 2 };

int kl_spdy_zip_init(struct kl_spdy_zip *z)
{
    *z = (struct kl_spdy_zip){0};
    if (deflateInit2(&z->deflate, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_BITS, MEM_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return KL_ENOMEM;
    z->deflate_open = true;
    if (inflateInit(&z->inflate) != Z_OK)
        return KL_ENOMEM;
    z->inflate_open = true;
    return deflateSetDictionary(&z->deflate, (const Bytef *)kl_spdy_dictionary,
                                KL_SPDY_DICTIONARY_BYTES) == Z_OK
               ? 0
               : KL_EINTERNAL;
}

void kl_spdy_zip_fini(struct kl_spdy_zip *z)
{
    if (z->deflate_open)
        deflateEnd(&z->deflate);
    if (z->inflate_open)
        inflateEnd(&z->inflate);
    *z = (struct kl_spdy_zip){0};
}

static int deflate_part(struct kl_spdy_zip *z, const void *p, size_t n, int flush,
                        struct kl_buf *out)
{
    z->deflate.next_in = (Bytef *)p;
    z->deflate.avail_in = (uInt)n;
    do {
        if (kl_buf_reserve(out, 512))
            return KL_ENOMEM;
        uInt room = (uInt)(out->cap - out->n);
        z->deflate.next_out = (Bytef *)out->p + out->n;
        z->deflate.avail_out = room;
        if (deflate(&z->deflate, flush) == Z_STREAM_ERROR)
            return KL_EINTERNAL;
        out->n += room - z->deflate.avail_out;
    } while (z->deflate.avail_out == 0 || z->deflate.avail_in);
    return 0;
}

static int put_text(struct kl_buf *b, struct kl_str s, bool lower)
{
    char len[4];
    kl_spdy_put32(len, (uint32_t)s.n);
    kl_buf_append(b, len, 4);
    size_t at = b->n;
    if (kl_buf_puts(b, s))
        return b->err;
    for (size_t i = at; lower && i < b->n; i++)
        if (b->p[i] >= 'A' && b->p[i] <= 'Z')
            b->p[i] = (char)(b->p[i] - 'A' + 'a');
    return 0;
}

int kl_spdy_pack(struct kl_spdy_zip *z, const struct kl_http_header *h, size_t nh,
                 struct kl_buf *out)
{
    struct kl_buf plain;
    char count[4];
    int rc;
    kl_buf_init(&plain, 1024 * 1024);
    kl_spdy_put32(count, (uint32_t)nh);
    kl_buf_append(&plain, count, 4);
    for (size_t i = 0; i < nh; i++) {
        put_text(&plain, h[i].name, true);
        put_text(&plain, h[i].value, false);
    }
    rc = plain.err ? plain.err : deflate_part(z, plain.p, plain.n, Z_SYNC_FLUSH, out);
    kl_buf_fini(&plain);
    return rc;
}

static int inflate_all(struct kl_spdy_zip *z, struct kl_str in, struct kl_buf *out)
{
    z->inflate.next_in = (Bytef *)in.p;
    z->inflate.avail_in = (uInt)in.n;
    for (;;) {
        if (kl_buf_reserve(out, 512))
            return out->err;
        // reserve may have given more than the bound allows in total
        size_t room = out->cap - out->n;
        z->inflate.next_out = (Bytef *)out->p + out->n;
        z->inflate.avail_out = (uInt)room;
        int r = inflate(&z->inflate, Z_SYNC_FLUSH);
        out->n += room - z->inflate.avail_out;
        if (r == Z_NEED_DICT) {
            if (inflateSetDictionary(&z->inflate, (const Bytef *)kl_spdy_dictionary,
                                     KL_SPDY_DICTIONARY_BYTES) != Z_OK)
                return KL_EPROTO;
            continue;
        }
        if (r != Z_OK && r != Z_BUF_ERROR)
            return KL_EPROTO;
        if (z->inflate.avail_out)
            return z->inflate.avail_in ? KL_EPROTO : 0;
    }
}

struct cursor {
    const char *p;
    size_t n;
};

static bool take_u32(struct cursor *c, uint32_t *ret)
{
    if (c->n < 4)
        return false;
    *ret = kl_spdy_u32(c->p);
    c->p += 4;
    c->n -= 4;
    return true;
}

static bool take_text(struct cursor *c, struct kl_str *ret)
{
    uint32_t n;
    if (!take_u32(c, &n) || n > c->n)
        return false;
    *ret = (struct kl_str){c->p, n};
    c->p += n;
    c->n -= n;
    return true;
}

// A value is one or more strings with a NUL between them.
static size_t count_values(struct kl_str v)
{
    size_t n = 1;
    for (size_t i = 0; i < v.n; i++)
        n += v.p[i] == 0;
    return n;
}

static int parse_pairs(struct cursor all, struct kl_arena *a, struct kl_http_header **ret,
                       size_t *ret_n)
{
    struct cursor c = all;
    uint32_t pairs;
    size_t n = 0, total = 0;
    struct kl_str name, value;
    if (!take_u32(&c, &pairs))
        return KL_EPROTO;
    for (uint32_t i = 0; i < pairs; i++) {
        if (!take_text(&c, &name) || !take_text(&c, &value) || !name.n)
            return KL_EPROTO;
        total += count_values(value);
    }
    if (c.n)
        return KL_EPROTO;
    struct kl_http_header *h = kl_arena_alloc(a, (total + 1) * sizeof(*h));
    if (!h)
        return KL_ENOMEM;
    c = all;
    take_u32(&c, &pairs);
    for (uint32_t i = 0; i < pairs; i++) {
        take_text(&c, &name);
        take_text(&c, &value);
        struct kl_str part;
        while (kl_str_split(&value, 0, &part))
            if (n < total)
                h[n++] = (struct kl_http_header){name, part};
    }
    *ret = h;
    *ret_n = n;
    return 0;
}

int kl_spdy_unpack(struct kl_spdy_zip *z, struct kl_str in, size_t max, struct kl_arena *a,
                   struct kl_http_header **ret, size_t *ret_n)
{
    struct kl_buf plain;
    kl_buf_init(&plain, max + 512);
    int rc = inflate_all(z, in, &plain);
    if (!rc && plain.n > max)
        rc = KL_ELIMIT;
    if (!rc) {
        struct kl_str copy = kl_arena_dup(a, kl_buf_str(&plain));
        rc = copy.p ? parse_pairs((struct cursor){copy.p, copy.n}, a, ret, ret_n) : KL_ENOMEM;
    }
    kl_buf_fini(&plain);
    return rc;
}
