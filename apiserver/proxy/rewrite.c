// SPDX-License-Identifier: Apache-2.0
#include "apiserver/proxy/rewrite.h"
#include "base/err.h"

// "deflate" is a bare stream, without zlib's header, as upstream takes it.
enum {
    WINDOW_GZIP = 15 + 16,
    WINDOW_BARE = -15,
    MEM_LEVEL = 8,
    PIECE = 32 << 10,
    EMPTY_STREAM = 1 << 10
};

bool kl_rewrite_coding(struct kl_str content_encoding, enum kl_coding *ret)
{
    *ret = kl_str_eqz(content_encoding, "gzip")      ? KL_CODING_GZIP
           : kl_str_eqz(content_encoding, "deflate") ? KL_CODING_DEFLATE
                                                     : KL_CODING_NONE;
    return *ret || !content_encoding.n;
}

int kl_rewrite_init(struct kl_rewrite *x, enum kl_coding coding, const struct kl_link_rule *rule)
{
    int window = coding == KL_CODING_GZIP ? WINDOW_GZIP : WINDOW_BARE;
    int level = coding == KL_CODING_GZIP ? Z_DEFAULT_COMPRESSION : Z_BEST_COMPRESSION;
    *x = (struct kl_rewrite){.coding = coding};
    if (coding && inflateInit2(&x->in, window) != Z_OK)
        return KL_ENOMEM;
    if (coding &&
        deflateInit2(&x->out, level, Z_DEFLATED, window, MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK) {
        inflateEnd(&x->in);
        return KL_ENOMEM;
    }
    kl_html_init(&x->html, rule);
    kl_buf_init(&x->plain, 64 << 20);
    return 0;
}

void kl_rewrite_fini(struct kl_rewrite *x)
{
    kl_html_fini(&x->html);
    kl_buf_fini(&x->plain);
    if (x->coding) {
        inflateEnd(&x->in);
        deflateEnd(&x->out);
    }
}

static int pack(struct kl_rewrite *x, bool last, struct kl_buf *out)
{
    x->out.next_in = (Bytef *)x->plain.p;
    x->out.avail_in = (uInt)x->plain.n;
    for (;;) {
        if (x->plain.err || kl_buf_reserve(out, PIECE))
            return KL_ENOMEM;
        x->out.next_out = (Bytef *)out->p + out->n;
        x->out.avail_out = PIECE;
        int rc = deflate(&x->out, last ? Z_FINISH : Z_NO_FLUSH);
        out->n += PIECE - x->out.avail_out;
        if (rc == Z_STREAM_END || (!last && x->out.avail_out))
            break;
        if (rc != Z_OK && rc != Z_BUF_ERROR)
            return KL_EINTERNAL;
    }
    kl_buf_clear(&x->plain);
    return 0;
}

static int unpack(struct kl_rewrite *x, struct kl_str *data, struct kl_buf *out)
{
    char piece[PIECE];
    struct kl_str all = *data;
    size_t made = 0;
    x->in.next_in = (Bytef *)(uintptr_t)all.p;
    x->in.avail_in = (uInt)all.n;
    x->began |= all.n > 0;
    *data = KL_STR("");
    do {
        // gzip: one stream may follow another.
        if (x->ended && x->in.avail_in &&
            (x->coding != KL_CODING_GZIP || inflateReset(&x->in) != Z_OK))
            return 0;
        x->ended = false;
        x->in.next_out = (Bytef *)piece;
        x->in.avail_out = sizeof piece;
        int rc = inflate(&x->in, Z_NO_FLUSH);
        if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
            return rc == Z_MEM_ERROR ? KL_ENOMEM : KL_EPROTO;
        x->ended = rc == Z_STREAM_END;
        size_t n = sizeof piece - x->in.avail_out;
        kl_html_feed(&x->html, (struct kl_str){piece, n}, &x->plain);
        if ((rc = pack(x, false, out)))
            return rc;
        made += n;
        // Streams of nothing count too. Without input zlib has but the rest of a word.
        if (x->ended)
            made += EMPTY_STREAM;
        if (made >= KL_REWRITE_TURN && x->in.avail_in) {
            *data = kl_str_from(all, all.n - x->in.avail_in);
            return 0;
        }
    } while (x->in.avail_in || !x->in.avail_out);
    return 0;
}

int kl_rewrite_feed(struct kl_rewrite *x, struct kl_str *data, struct kl_buf *out)
{
    if (x->coding)
        return unpack(x, data, out);
    kl_html_feed(&x->html, *data, out);
    *data = KL_STR("");
    return out->err;
}

int kl_rewrite_end(struct kl_rewrite *x, struct kl_buf *out)
{
    if (x->coding && !x->began)
        return 0;
    if (x->coding && !x->ended)
        return KL_EPROTO;
    kl_html_end(&x->html, x->coding ? &x->plain : out);
    return x->coding ? pack(x, true, out) : out->err;
}
