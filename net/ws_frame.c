// SPDX-License-Identifier: Apache-2.0
// RFC 6455 section 5: frames.
#include "net/ws_int.h"
#include <openssl/evp.h>

void kl_ws_reader_init(struct kl_ws_reader *r, bool client, size_t max_message)
{
    *r = (struct kl_ws_reader){.client = client, .max_message = max_message};
    kl_buf_init(&r->message, max_message);
}

void kl_ws_reader_fini(struct kl_ws_reader *r)
{
    kl_buf_fini(&r->message);
}

void kl_ws_mask(char *p, size_t n, const unsigned char mask[4], uint64_t offset)
{
    size_t i = 0;
    uint64_t wide;
    unsigned char turned[8];
    for (unsigned k = 0; k < 8; k++)
        turned[k] = mask[(offset + k) & 3];
    memcpy(&wide, turned, 8);
    for (; i + 8 <= n; i += 8) {
        uint64_t v;
        memcpy(&v, p + i, 8);
        v ^= wide;
        memcpy(p + i, &v, 8);
    }
    for (; i < n; i++)
        p[i] = (char)(p[i] ^ (char)turned[i & 7]);
}

size_t kl_ws_put_header(unsigned char *p, int op, uint64_t n, const unsigned char *mask)
{
    size_t len = 2;
    unsigned char masked = mask ? 0x80 : 0;
    p[0] = (unsigned char)(0x80 | op);
    if (n < 126) {
        p[1] = (unsigned char)(masked | n);
    } else if (n <= 0xffff) {
        p[1] = masked | 126;
        p[2] = (unsigned char)(n >> 8);
        p[3] = (unsigned char)n;
        len = 4;
    } else {
        p[1] = masked | 127;
        for (int i = 0; i < 8; i++)
            p[2 + i] = (unsigned char)(n >> (56 - 8 * i));
        len = 10;
    }
    if (mask) {
        memcpy(p + len, mask, 4);
        len += 4;
    }
    return len;
}

// Length of the header whose first two bytes are there.
static unsigned header_length(const unsigned char *h)
{
    unsigned n = 2, short_len = h[1] & 0x7f;
    n += short_len == 126 ? 2 : short_len == 127 ? 8 : 0;
    return n + (h[1] & 0x80 ? 4 : 0);
}

// 0 or a close code.
static int begin_frame(struct kl_ws_reader *r)
{
    const unsigned char *h = r->head;
    bool masked = h[1] & 0x80, control = h[0] & 0x08;
    uint64_t n = h[1] & 0x7f;
    unsigned at = 2;
    r->fin = h[0] & 0x80;
    r->op = h[0] & 0x0f;
    if (h[0] & 0x70) // no extension was negotiated
        return 1002;
    if (masked == r->client)
        return 1002;
    if (n == 126) {
        n = (uint64_t)h[2] << 8 | h[3];
        at = 4;
        if (n < 126)
            return 1002;
    } else if (n == 127) {
        n = 0;
        for (int i = 0; i < 8; i++)
            n = n << 8 | h[2 + i];
        at = 10;
        if (n <= 0xffff || n >> 63)
            return 1002;
    }
    if (masked)
        memcpy(r->mask, h + at, 4);
    else
        memset(r->mask, 0, 4);
    r->left = r->frame_n = n;
    if (control) {
        r->control_n = 0;
        if (!r->fin || n > 125 || r->op > KL_WS_PONG)
            return 1002;
        return 0;
    }
    if (r->op > KL_WS_BINARY)
        return 1002;
    if ((r->op == KL_WS_CONT) != (r->message_op != 0))
        return 1002; // a continuation of nothing, or a message within a message
    if (n > r->max_message - r->message.n)
        return 1009;
    if (r->op != KL_WS_CONT)
        r->message_op = r->op;
    return 0;
}

static int take_payload(struct kl_ws_reader *r, struct kl_str part)
{
    uint64_t offset = r->frame_n - r->left;
    char *at;
    if (r->op & 0x08) {
        at = (char *)r->control + r->control_n;
        memcpy(at, part.p, part.n);
        r->control_n += (unsigned)part.n;
    } else {
        size_t old = r->message.n;
        if (kl_buf_append(&r->message, part.p, part.n))
            return 1009;
        at = r->message.p + old;
    }
    if (!r->client)
        kl_ws_mask(at, part.n, r->mask, offset);
    r->left -= part.n;
    return 0;
}

static int end_frame(struct kl_ws_reader *r, const struct kl_ws_reader_cbs *cbs, void *arg)
{
    r->in_payload = false;
    r->head_n = 0;
    if (r->op & 0x08) {
        cbs->control(arg, r->op, (struct kl_str){(char *)r->control, r->control_n});
        return 0;
    }
    if (!r->fin)
        return 0;
    enum kl_ws_op op = (enum kl_ws_op)r->message_op;
    struct kl_buf whole = r->message;
    kl_buf_init(&r->message, r->max_message);
    r->message_op = 0;
    int bad = op == KL_WS_TEXT && !kl_utf8_valid(kl_buf_str(&whole)) ? 1007 : 0;
    if (!bad)
        cbs->message(arg, op, kl_buf_str(&whole));
    if (whole.cap <= 64 * 1024 && !r->message.p) {
        kl_buf_clear(&whole); // usual sizes keep their memory
        r->message = whole;
    } else {
        kl_buf_fini(&whole);
    }
    return bad;
}

size_t kl_ws_reader_feed(struct kl_ws_reader *r, struct kl_str data,
                         const struct kl_ws_reader_cbs *cbs, void *arg, int *ret_close)
{
    size_t used = 0;
    *ret_close = 0;
    while (!r->stopped && !*ret_close) {
        if (!r->in_payload) {
            unsigned need = r->head_n < 2 ? 2 : header_length(r->head);
            if (r->head_n < need) {
                if (used == data.n)
                    break;
                r->head[r->head_n++] = (unsigned char)data.p[used++];
                continue;
            }
            *ret_close = begin_frame(r);
            r->in_payload = true;
            continue;
        }
        if (r->left) {
            size_t n = data.n - used < r->left ? data.n - used : (size_t)r->left;
            if (!n)
                break;
            *ret_close = take_payload(r, (struct kl_str){data.p + used, n});
            used += n;
        }
        if (!*ret_close && !r->left)
            *ret_close = end_frame(r, cbs, arg);
    }
    return used;
}

void kl_ws_accept_key(struct kl_str key, char ret[32])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    ret[0] = 0;
    if (c && EVP_DigestInit_ex(c, EVP_sha1(), NULL) && EVP_DigestUpdate(c, key.p, key.n) &&
        EVP_DigestUpdate(c, guid, sizeof(guid) - 1) && EVP_DigestFinal_ex(c, digest, &n))
        EVP_EncodeBlock((unsigned char *)ret, digest, (int)n);
    EVP_MD_CTX_free(c);
}
