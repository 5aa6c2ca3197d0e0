// SPDX-License-Identifier: Apache-2.0
#include "store/peer/frame.h"
#include "base/err.h"

static const char magic[8] = "KLPEER\r\n"; // a text protocol on the port is noticed at once

struct cursor {
    const unsigned char *p, *end;
    bool bad;
};

static uint64_t take_int(struct cursor *c, unsigned bytes)
{
    uint64_t v = 0;
    if ((size_t)(c->end - c->p) < bytes) {
        c->bad = true;
        return 0;
    }
    while (bytes--)
        v = v << 8 | *c->p++;
    return v;
}

static struct kl_str take_text(struct cursor *c)
{
    size_t n = (size_t)take_int(c, 2);
    if (c->bad || (size_t)(c->end - c->p) < n) {
        c->bad = true;
        return (struct kl_str){"", 0};
    }
    struct kl_str s = {(const char *)c->p, n};
    c->p += n;
    return s;
}

static struct cursor open_body(struct kl_str body, bool with_magic)
{
    struct cursor c = {(const unsigned char *)body.p, (const unsigned char *)body.p + body.n,
                       false};
    if (!with_magic)
        return c;
    c.bad = body.n < sizeof magic || memcmp(body.p, magic, sizeof magic) != 0;
    if (!c.bad)
        c.p += sizeof magic;
    return c;
}

static unsigned char *put_int(unsigned char *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        p[i] = (unsigned char)(v >> 8 * (bytes - 1 - i));
    return p + bytes;
}

static unsigned char *put_magic(unsigned char *p)
{
    memcpy(p, magic, sizeof magic);
    return p + sizeof magic;
}

// The last field: cut to what is left.
static unsigned char *put_text(unsigned char *p, const unsigned char *end, struct kl_str s)
{
    size_t room = (size_t)(end - p) - 2, n = s.n < room ? s.n : room;
    p = put_int(p, n, 2);
    memcpy(p, s.p, n);
    return p + n;
}

void kl_frame_put_head(unsigned char p[KL_FRAME_HEAD], struct kl_frame_head h)
{
    p = put_int(p, h.n, 4);
    *p++ = h.type;
    *p++ = h.channel;
    put_int(p, 0, 2);
}

static size_t close_frame(unsigned char *frame, const unsigned char *end, uint8_t type)
{
    size_t n = (size_t)(end - frame);
    kl_frame_put_head(frame, (struct kl_frame_head){(uint32_t)(n - KL_FRAME_HEAD), type, 0});
    return n;
}

size_t kl_hello_encode(const struct kl_hello *h, unsigned char f[static KL_FRAME_CONTROL_MAX])
{
    unsigned char *p = put_magic(f + KL_FRAME_HEAD);
    p = put_int(p, h->version, 2);
    p = put_int(p, h->version_min, 2);
    p = put_int(p, h->kind, 1);
    p = put_int(p, h->from, 8);
    p = put_int(p, h->to, 8);
    p = put_int(p, h->cluster, 8);
    p = put_int(p, h->boot, 8);
    p = put_text(p, f + KL_FRAME_CONTROL_MAX, h->name);
    return close_frame(f, p, KL_FRAME_HELLO);
}

size_t kl_welcome_encode(const struct kl_welcome *w, unsigned char f[static KL_FRAME_CONTROL_MAX])
{
    unsigned char *p = put_magic(f + KL_FRAME_HEAD);
    p = put_int(p, w->version, 2);
    p = put_int(p, (uint16_t)w->code, 2);
    p = put_int(p, w->cluster, 8);
    p = put_int(p, w->boot, 8);
    p = put_text(p, f + KL_FRAME_CONTROL_MAX, w->text);
    return close_frame(f, p, KL_FRAME_WELCOME);
}

size_t kl_end_encode(int code, struct kl_str text, unsigned char f[static KL_FRAME_CONTROL_MAX])
{
    unsigned char *p = put_int(f + KL_FRAME_HEAD, (uint16_t)(int16_t)code, 2);
    p = put_text(p, f + KL_FRAME_CONTROL_MAX, text);
    return close_frame(f, p, KL_FRAME_END);
}

int kl_hello_decode(struct kl_str body, struct kl_hello *ret)
{
    struct cursor c = open_body(body, true);
    struct kl_hello h;
    h.version = (uint16_t)take_int(&c, 2);
    h.version_min = (uint16_t)take_int(&c, 2);
    h.kind = (uint8_t)take_int(&c, 1);
    h.from = take_int(&c, 8);
    h.to = take_int(&c, 8);
    h.cluster = take_int(&c, 8);
    h.boot = take_int(&c, 8);
    h.name = take_text(&c);
    if (c.bad || h.version_min > h.version || h.kind > KL_HELLO_STREAM || !h.from)
        return KL_EPROTO;
    *ret = h;
    return 0;
}

int kl_welcome_decode(struct kl_str body, struct kl_welcome *ret)
{
    struct cursor c = open_body(body, true);
    struct kl_welcome w;
    w.version = (uint16_t)take_int(&c, 2);
    w.code = (int16_t)take_int(&c, 2);
    w.cluster = take_int(&c, 8);
    w.boot = take_int(&c, 8);
    w.text = take_text(&c);
    if (c.bad || w.code > 0)
        return KL_EPROTO;
    *ret = w;
    return 0;
}

int kl_end_decode(struct kl_str body, int *ret_code, struct kl_str *ret_text)
{
    struct cursor c = open_body(body, false);
    int code = (int16_t)take_int(&c, 2);
    struct kl_str text = take_text(&c);
    if (c.bad || code > 0)
        return KL_EPROTO;
    *ret_code = code;
    *ret_text = text;
    return 0;
}

static int begin_frame(struct kl_frame_reader *r, const struct kl_frame_ops *ops, void *arg)
{
    struct cursor c = {r->head, r->head + KL_FRAME_HEAD, false};
    r->h.n = (uint32_t)take_int(&c, 4);
    r->h.type = (uint8_t)take_int(&c, 1);
    r->h.channel = (uint8_t)take_int(&c, 1);
    r->room = NULL;
    r->body_n = 0;
    if (take_int(&c, 2))
        return KL_EPROTO;
    return ops->begin(arg, r->h, &r->room);
}

int kl_frame_feed(struct kl_frame_reader *r, struct kl_str data, const struct kl_frame_ops *ops,
                  void *arg)
{
    while (data.n) {
        if (r->head_n < KL_FRAME_HEAD) {
            size_t want = KL_FRAME_HEAD - r->head_n, n = data.n < want ? data.n : want;
            memcpy(r->head + r->head_n, data.p, n);
            r->head_n += (uint32_t)n;
            data = kl_str_from(data, n);
            if (r->head_n < KL_FRAME_HEAD)
                return 0;
            int rc = begin_frame(r, ops, arg);
            if (rc)
                return rc;
        }
        size_t want = r->h.n - r->body_n, n = data.n < want ? data.n : want;
        if (n)
            memcpy(r->room + r->body_n, data.p, n);
        r->body_n += (uint32_t)n;
        data = kl_str_from(data, n);
        if (r->body_n < r->h.n)
            return 0;
        r->head_n = 0;
        int rc = ops->end(arg, r->h);
        if (rc)
            return rc;
    }
    return 0;
}
