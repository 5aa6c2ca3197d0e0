// SPDX-License-Identifier: Apache-2.0
// The stored form of the node ports, as upstream's allocators write it: a RangeAllocation whose
// data are the bytes of a number, most significant first, in which bit N says that port N of the
// range is taken. What earlier versions wrote, the bits as they are, is read too.
#include "apiserver/allocate/allocate.h"
#include "object/protobuf.h"
#include <stdio.h>

// ObjectMeta with nothing in it, as gogo writes it.
static const char empty_meta[] = {0x0a, 0x10, 0x0a, 0,    0x12, 0,    0x1a, 0,    0x22,
                                  0,    0x2a, 0,    0x32, 0,    0x38, 0,    0x42, 0};

static bool read_varint(struct kl_str *s, uint64_t *ret)
{
    *ret = 0;
    for (unsigned shift = 0; s->n && shift < 64; shift += 7) {
        uint8_t b = (uint8_t)*s->p;
        *s = kl_str_from(*s, 1);
        *ret |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80)
            return true;
    }
    return false;
}

// The bytes of field 3 (data) of the message; false when it is damaged.
static bool find_data(struct kl_str message, struct kl_str *ret)
{
    uint64_t tag, n;
    *ret = KL_STR("");
    while (message.n) {
        if (!read_varint(&message, &tag) || (tag & 7) != 2 || !read_varint(&message, &n) ||
            n > message.n)
            return false;
        if (tag >> 3 == 3)
            *ret = (struct kl_str){message.p, (size_t)n};
        message = kl_str_from(message, (size_t)n);
    }
    return true;
}

bool kl_ports_read(struct kl_str stored, uint8_t bits[KL_NODE_PORT_BYTES])
{
    struct kl_envelope env;
    struct kl_error err;
    struct kl_str data;
    memset(bits, 0, KL_NODE_PORT_BYTES);
    if (!kl_pb_is_envelope(stored)) {
        memcpy(bits, stored.p, stored.n < KL_NODE_PORT_BYTES ? stored.n : KL_NODE_PORT_BYTES);
        return true;
    }
    if (kl_pb_open(stored, &env, &err) || !find_data(env.raw, &data))
        return false;
    for (size_t i = 0; i < data.n && i < KL_NODE_PORT_BYTES; i++)
        bits[i] = (uint8_t)data.p[data.n - 1 - i];
    return true;
}

struct kl_bytes *kl_ports_write(const uint8_t bits[KL_NODE_PORT_BYTES])
{
    struct kl_buf b, raw;
    size_t n = KL_NODE_PORT_BYTES;
    kl_buf_init(&b, 4096);
    kl_buf_init(&raw, 4096);
    while (n && !bits[n - 1])
        n--;
    char range[32];
    int len = snprintf(range, sizeof range, "%d-%d", KL_NODE_PORT_FIRST,
                       KL_NODE_PORT_FIRST + KL_NODE_PORT_COUNT - 1);
    kl_buf_append(&raw, empty_meta, sizeof empty_meta);
    kl_buf_putc(&raw, 0x12);
    kl_pb_put_varint(&raw, (uint64_t)len);
    kl_buf_append(&raw, range, (size_t)len);
    kl_buf_putc(&raw, 0x1a);
    kl_pb_put_varint(&raw, n);
    for (size_t i = n; i--;)
        kl_buf_putc(&raw, (char)bits[i]);
    kl_pb_begin_envelope(&b, KL_STR("v1"), KL_STR("RangeAllocation"), raw.n);
    kl_buf_puts(&b, kl_buf_str(&raw));
    kl_pb_end_envelope(&b);
    struct kl_bytes *out = raw.err ? NULL : kl_bytes_from_buf(&b);
    kl_buf_fini(&raw);
    kl_buf_fini(&b);
    return out;
}
