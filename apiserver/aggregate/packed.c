// SPDX-License-Identifier: Apache-2.0
// Members of an object as they are kept: lengths of name and value, name, value, all deflated.
#include "apiserver/aggregate/document.h"
#include "object/json.h"
#include <stdlib.h>
#include <zlib.h>

static size_t begin_entry(struct kl_buf *b, struct kl_str name)
{
    const uint32_t n[2] = {(uint32_t)name.n, 0};
    size_t at = b->n;
    kl_buf_append(b, n, sizeof n);
    kl_buf_puts(b, name);
    return at;
}

static void end_entry(struct kl_buf *b, size_t at, struct kl_str name)
{
    const size_t head = 2 * sizeof(uint32_t);
    uint32_t n = (uint32_t)(b->n - at - head - name.n);
    if (!b->err)
        memcpy(b->p + at + sizeof n, &n, sizeof n);
}

void kl_packed_put(struct kl_buf *plain, const struct kl_value *key)
{
    size_t at = begin_entry(plain, kl_text(key));
    kl_json_write(plain, &key[1]);
    end_entry(plain, at, kl_text(key));
}

void kl_packed_put_text(struct kl_buf *plain, struct kl_str name, struct kl_str value)
{
    size_t at = begin_entry(plain, name);
    kl_buf_puts(plain, value);
    end_entry(plain, at, name);
}

int kl_packed_close(struct kl_buf *plain, struct kl_bytes **ret)
{
    uLongf n = compressBound(plain->n);
    if (plain->err)
        return plain->err;
    unsigned char *p = malloc(n);
    if (!p)
        return KL_ENOMEM;
    struct kl_bytes *packed = compress2(p, &n, (const Bytef *)plain->p, plain->n, 6) == Z_OK
                                  ? kl_bytes_new((struct kl_str){(char *)p, n})
                                  : NULL;
    free(p);
    if (!packed)
        return KL_ENOMEM;
    kl_buf_clear(plain);
    *ret = packed;
    return 0;
}

// ---- reading

struct kl_packed_reader {
    struct kl_bytes *packed;
    z_stream z;
    struct kl_buf buf; // the piece
};

struct kl_packed_reader *kl_packed_reader_new(struct kl_bytes *packed)
{
    struct kl_packed_reader *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    if (inflateInit(&r->z) != Z_OK) {
        free(r);
        return NULL;
    }
    r->packed = kl_bytes_ref(packed);
    r->z.next_in = (Bytef *)packed->p;
    r->z.avail_in = packed->n;
    kl_buf_init(&r->buf, 2 * KL_REMOTE_MAX_BYTES);
    return r;
}

void kl_packed_reader_free(struct kl_packed_reader *r)
{
    if (!r)
        return;
    inflateEnd(&r->z);
    kl_buf_fini(&r->buf);
    kl_bytes_unref(r->packed);
    free(r);
}

// n more bytes behind what is in the buffer; 0: the end, nothing was there.
static int read_more(struct kl_packed_reader *r, size_t n)
{
    if (kl_buf_reserve(&r->buf, n))
        return KL_ENOMEM;
    r->z.next_out = (Bytef *)r->buf.p + r->buf.n;
    r->z.avail_out = (uInt)n;
    int rc = Z_OK;
    while (r->z.avail_out && rc == Z_OK)
        rc = inflate(&r->z, Z_SYNC_FLUSH);
    size_t got = n - r->z.avail_out;
    r->buf.n += got;
    return got == n ? 1 : rc == Z_STREAM_END && !got ? 0 : KL_EINTERNAL;
}

int kl_packed_reader_next(struct kl_packed_reader *r, struct kl_str *name, struct kl_str *value)
{
    uint32_t n[2];
    kl_buf_clear(&r->buf);
    int rc = read_more(r, sizeof n);
    if (rc <= 0)
        return rc;
    memcpy(n, r->buf.p, sizeof n);
    kl_buf_clear(&r->buf);
    if (n[0] + n[1] && (rc = read_more(r, (size_t)n[0] + n[1])) <= 0)
        return rc ? rc : KL_EINTERNAL;
    *name = (struct kl_str){r->buf.p, n[0]};
    *value = (struct kl_str){r->buf.p + n[0], n[1]};
    return 1;
}
