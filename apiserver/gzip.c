// SPDX-License-Identifier: Apache-2.0
#include "apiserver/gzip.h"
#include <stdlib.h>
#include <zlib.h>

enum {
    LEVEL = 1,             // defaultGzipContentEncodingLevel
    WINDOW_GZIP = 15 + 16, // zlib's way to say gzip
    MEM_LEVEL = 8,
    OUT_BYTES = 32 << 10,
    FIRST_CHUNKS = 64,
    MAX_BODY = 64 << 20,
};

bool kl_gzip_wanted(struct kl_http_req *hr)
{
    struct kl_str accept = kl_http_header(hr, KL_STR("accept-encoding")), part;
    if (!accept.n)
        return false;
    bool takes = false;
    while (!takes && kl_str_split(&accept, ',', &part))
        takes = kl_str_eqz(kl_str_trim(part), "gzip");
    struct kl_str ip = takes ? kl_http_peer_ip(hr) : KL_STR("");
    return takes && !kl_str_starts(ip, KL_STR("127.")) && !kl_str_eqz(ip, "::1");
}

static bool start(z_stream *z)
{
    *z = (z_stream){0};
    return deflateInit2(z, LEVEL, Z_DEFLATED, WINDOW_GZIP, MEM_LEVEL, Z_DEFAULT_STRATEGY) == Z_OK;
}

// Compresses into out; `last` writes the end of the stream too.
static int put(z_stream *z, const void *p, size_t n, bool last, struct kl_buf *out)
{
    z->next_in = (Bytef *)(uintptr_t)p;
    z->avail_in = (uInt)n;
    for (;;) {
        if (kl_buf_reserve(out, OUT_BYTES))
            return KL_ENOMEM;
        z->next_out = (Bytef *)out->p + out->n;
        z->avail_out = OUT_BYTES;
        int rc = deflate(z, last ? Z_FINISH : Z_NO_FLUSH);
        out->n += OUT_BYTES - z->avail_out;
        if (rc == Z_STREAM_END || (!last && z->avail_out))
            return 0;
        if (rc != Z_OK && rc != Z_BUF_ERROR)
            return KL_EINTERNAL;
    }
}

// ---- streams

struct stream {
    const struct kl_http_source *src;
    void *arg;
    bool compress, src_ended, ended;
    z_stream z;
    struct kl_http_chunk first[FIRST_CHUNKS]; // asked for before the answer began
    int nfirst, at;
};

static int pull_src(struct stream *s, struct kl_http_chunk *chunks, int max)
{
    int n = 0;
    if (s->at < s->nfirst) {
        while (n < max && s->at < s->nfirst)
            chunks[n++] = s->first[s->at++];
        return n;
    }
    return s->src_ended ? 0 : s->src->pull(s->arg, chunks, max, &s->src_ended);
}

static bool is_over(const struct stream *s)
{
    return s->src_ended && s->at == s->nfirst;
}

static int pull_plain(struct stream *s, struct kl_http_chunk *chunks, int max, bool *ret_end)
{
    int n = pull_src(s, chunks, max);
    *ret_end = is_over(s);
    return n;
}

static int pull_gzip(struct stream *s, struct kl_http_chunk *chunks, bool *ret_end)
{
    struct kl_http_chunk in[16];
    struct kl_buf out;
    int rc = 0, n = pull_src(s, in, (int)KL_COUNT(in));
    if (n < 0)
        return n;
    kl_buf_init(&out, MAX_BODY);
    for (int i = 0; i < n; i++) {
        if (!rc)
            rc = put(&s->z, (const char *)in[i].bytes->p + in[i].off, in[i].n, false, &out);
        kl_bytes_unref(in[i].bytes);
    }
    if (!rc && is_over(s) && !s->ended) {
        rc = put(&s->z, NULL, 0, true, &out);
        s->ended = true;
    }
    struct kl_bytes *b = !rc && out.n ? kl_bytes_from_buf(&out) : NULL;
    bool failed = rc || out.err || (out.n && !b);
    kl_buf_fini(&out);
    if (failed)
        return rc ? rc : KL_ENOMEM;
    *ret_end = s->ended;
    if (!b) // what came so far is in the compressor: there is more where it came from
        return n || s->ended ? (s->ended ? 0 : pull_gzip(s, chunks, ret_end)) : 0;
    chunks[0] = (struct kl_http_chunk){.bytes = b, .n = (uint32_t)b->n};
    return 1;
}

static int pull(void *arg, struct kl_http_chunk *chunks, int max, bool *ret_end)
{
    struct stream *s = arg;
    return s->compress ? pull_gzip(s, chunks, ret_end) : pull_plain(s, chunks, max, ret_end);
}

static void drop_first(struct stream *s)
{
    while (s->at < s->nfirst)
        kl_bytes_unref(s->first[s->at++].bytes);
    if (s->compress)
        deflateEnd(&s->z);
}

static void close_stream(void *arg)
{
    struct stream *s = arg;
    drop_first(s);
    s->src->close(s->arg); // may free s: the request's arena
}

static const struct kl_http_source source = {.pull = pull, .close = close_stream};

// Asks for the beginning; how much there is, at least. Negative: the source failed.
static int64_t ask_first(struct stream *s)
{
    int64_t bytes = 0;
    while (bytes < KL_GZIP_MIN_BYTES && !s->src_ended && s->nfirst + 16 <= FIRST_CHUNKS) {
        int n = s->src->pull(s->arg, s->first + s->nfirst, 16, &s->src_ended);
        if (n < 0)
            return n;
        if (!n)
            break;
        for (int i = 0; i < n; i++)
            bytes += s->first[s->nfirst + i].n;
        s->nfirst += n;
    }
    return bytes;
}

static size_t put_headers(struct kl_http_header *out, const struct kl_http_header *h, size_t nh)
{
    size_t n = 0;
    for (size_t i = 0; i < nh && n + 2 < KL_GZIP_MAX_HEADERS; i++)
        if (!kl_str_eqz(h[i].name, "content-length"))
            out[n++] = h[i];
    out[n++] = (struct kl_http_header)KL_HTTP_HEADER("content-encoding", "gzip");
    out[n++] = (struct kl_http_header)KL_HTTP_HEADER("vary", "Accept-Encoding");
    return n;
}

int kl_gzip_respond(struct kl_api_call *c, int status, const struct kl_http_header *h, size_t nh,
                    const struct kl_http_source *src, void *arg)
{
    struct kl_http_header out[KL_GZIP_MAX_HEADERS];
    if (!kl_gzip_wanted(c->hr))
        return kl_http_respond_stream(c->hr, status, h, nh, src, arg);
    struct stream *s = KL_ARENA_NEW(c->req.arena, struct stream);
    if (!s)
        return kl_http_respond_stream(c->hr, status, h, nh, src, arg);
    s->src = src;
    s->arg = arg;
    int64_t bytes = ask_first(s);
    if (bytes < 0) {
        drop_first(s);
        return (int)bytes;
    }
    s->compress = bytes >= KL_GZIP_MIN_BYTES && start(&s->z);
    if (s->compress) {
        nh = put_headers(out, h, nh);
        h = out;
    }
    int rc = kl_http_respond_stream(c->hr, status, h, nh, &source, s);
    if (rc)
        drop_first(s);
    return rc;
}

// ---- bodies

struct kl_bytes *kl_gzip_body(struct kl_http_req *hr, struct kl_bytes *body,
                              struct kl_http_header *h, size_t *nh, size_t max)
{
    struct kl_buf out;
    z_stream z;
    if (body->n < KL_GZIP_MIN_BYTES || *nh + 2 > max || !kl_gzip_wanted(hr) || !start(&z))
        return kl_bytes_ref(body);
    kl_buf_init(&out, MAX_BODY);
    int rc = put(&z, body->p, body->n, true, &out);
    deflateEnd(&z);
    struct kl_bytes *b = rc ? NULL : kl_bytes_from_buf(&out);
    kl_buf_fini(&out);
    if (!b)
        return kl_bytes_ref(body);
    h[(*nh)++] = (struct kl_http_header)KL_HTTP_HEADER("content-encoding", "gzip");
    h[(*nh)++] = (struct kl_http_header)KL_HTTP_HEADER("vary", "Accept-Encoding");
    return b;
}
