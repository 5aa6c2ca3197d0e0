// SPDX-License-Identifier: Apache-2.0
// A SPDY session that echoes: '>' first makes it the client's, all else the server's. Behind '='
// the header blocks are plain and compressed here, so that changes reach what is in them. Every
// stream and the session end exactly once.
#include "fuzz_net.h"
#include "net/spdy.h"
#include "net/spdy_int.h"

enum { INPUT_MAX = 100000 };

struct state {
    struct fuzz_net net;
    struct kl_spdy *spdy;
    bool client;
    long opened, closed, ended;
};

struct stream {
    struct state *s;
    struct kl_duplex *d;
};

static void on_data(void *arg, struct kl_str data)
{
    struct stream *st = arg;
    kl_duplex_write(st->d, data);
}

static void on_eof(void *arg)
{
    struct stream *st = arg;
    kl_duplex_shutdown(st->d);
}

static void on_stream_close(void *arg, int status)
{
    struct stream *st = arg;
    st->s->closed++;
    kl_duplex_close(st->d);
    free(st);
}

static const struct kl_duplex_cbs stream_cbs = {on_data, on_eof, NULL, on_stream_close};

static void own(struct state *s, struct kl_duplex *d)
{
    struct stream *st = malloc(sizeof(*st));
    *st = (struct stream){s, d};
    s->opened++;
    kl_duplex_start(d, &stream_cbs, st);
}

static void on_stream(void *arg, struct kl_duplex *d, const struct kl_http_header *h, size_t nh)
{
    for (size_t i = 0; i < nh; i++)
        FUZZ_CHECK(h[i].name.n, "a header without a name");
    own(arg, d);
    kl_spdy_reply(d, h, nh < 4 ? nh : 4);
}

static void on_close(void *arg, int status)
{
    struct state *s = arg;
    FUZZ_CHECK(s->opened == s->closed, "%ld streams, %ld closed", s->opened, s->closed);
    s->ended++;
    kl_spdy_free(s->spdy);
}

static const struct kl_spdy_cbs cbs = {on_stream, on_close};

static void begin(struct fuzz_net *net, int fd)
{
    struct state *s = (struct state *)net;
    struct kl_duplex *d, *st;
    struct kl_http_header h = KL_HTTP_HEADER("streamType", "stdin");
    FUZZ_CHECK(kl_duplex_open_fd(net->loop, fd, &d, NULL) == 0, "duplex");
    FUZZ_CHECK(kl_spdy_new(d, s->client, NULL, &cbs, s, &s->spdy, NULL) == 0, "spdy");
    if (s->client && kl_spdy_open(s->spdy, &h, 1, NULL, NULL, &st, NULL) == 0) {
        own(s, st);
        kl_duplex_write(st, KL_STR("early"));
    }
}

static bool over(struct fuzz_net *net)
{
    return ((struct state *)net)->ended == 1;
}

static void pack_block(struct kl_spdy_zip *z, struct kl_buf *b, const uint8_t *p, size_t n)
{
    FUZZ_CHECK(!kl_buf_reserve(b, deflateBound(&z->deflate, n) + 64), "memory");
    z->deflate.next_in = (Bytef *)p;
    z->deflate.avail_in = (uInt)n;
    z->deflate.next_out = (Bytef *)b->p + b->n;
    z->deflate.avail_out = (uInt)(b->cap - b->n);
    deflate(&z->deflate, Z_SYNC_FLUSH);
    b->n = b->cap - z->deflate.avail_out;
}

// Frame by frame; what is no whole frame goes as it is.
static void pack(struct kl_buf *b, const uint8_t *p, size_t n)
{
    struct kl_spdy_zip z;
    FUZZ_CHECK(!kl_spdy_zip_init(&z), "zlib");
    while (n >= 8) {
        size_t len = kl_spdy_u32((const char *)p + 4) & 0xffffff, start = b->n, fixed = 0;
        if (len > n - 8)
            len = n - 8;
        if (p[0] & 0x80)
            fixed = p[3] == KL_SPDY_SYN_STREAM                             ? 10
                    : p[3] == KL_SPDY_SYN_REPLY || p[3] == KL_SPDY_HEADERS ? 4
                                                                           : 0;
        if (fixed && len >= fixed) {
            kl_buf_append(b, p, 8 + fixed);
            pack_block(&z, b, p + 8 + fixed, len - fixed);
            size_t now = b->n - start - 8;
            b->p[start + 5] = (char)(now >> 16);
            b->p[start + 6] = (char)(now >> 8);
            b->p[start + 7] = (char)now;
        } else {
            kl_buf_append(b, p, 8 + len);
        }
        p += 8 + len;
        n -= 8 + len;
    }
    kl_buf_append(b, p, n);
    kl_spdy_zip_fini(&z);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct state s;
    if (!s.net.loop) {
        struct kl_error err;
        FUZZ_CHECK(kl_loop_new("fuzz", &s.net.loop, &err) == 0, "%s", err.msg);
        s.net.begin = begin;
        s.net.over = over;
    }
    s.client = size && data[0] == '>';
    s.opened = s.closed = s.ended = 0;
    data += s.client;
    size -= s.client;
    if (!size || data[0] != '=' || size > INPUT_MAX) {
        fuzz_net_run(&s.net, data, size);
        return 0;
    }
    struct kl_buf b;
    kl_buf_init(&b, INPUT_MAX * 4);
    pack(&b, data + 1, size - 1);
    fuzz_net_run(&s.net, (const uint8_t *)b.p, b.n);
    kl_buf_fini(&b);
    return 0;
}
