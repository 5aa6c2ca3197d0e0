// SPDX-License-Identifier: Apache-2.0
// The stored form of the node ports, as upstream's allocators write it: a RangeAllocation whose
// data are the bytes of a number, most significant first, in which bit N says that port N of the
// range is taken. What earlier versions wrote, the bits as they are, is read too.
#include "apiserver/allocate/allocate.h"
#include "object/protobuf.h"

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

// Range and data of the message; false when it is damaged.
static bool read_allocation(struct kl_str message, struct kl_str *range, struct kl_str *data)
{
    uint64_t tag, n;
    *range = *data = KL_STR("");
    while (message.n) {
        if (!read_varint(&message, &tag) || (tag & 7) != 2 || !read_varint(&message, &n) ||
            n > message.n)
            return false;
        struct kl_str field = {message.p, (size_t)n};
        if (tag >> 3 == 2)
            *range = field;
        else if (tag >> 3 == 3)
            *data = field;
        message = kl_str_from(message, (size_t)n);
    }
    return true;
}

// The ports of one range that are in the other. `reversed`: the last byte is of the first ports.
static void take_bits(const struct kl_port_range *from, struct kl_str data, bool reversed,
                      const struct kl_port_range *r, uint8_t *bits)
{
    for (size_t i = 0; i < data.n && i < kl_port_bytes(from); i++) {
        uint8_t byte = (uint8_t)data.p[reversed ? data.n - 1 - i : i];
        for (unsigned k = 0; byte && k < 8; k++) {
            int64_t port = (int64_t)(from->first + 8 * i + k);
            if (!(byte >> k & 1) || !kl_port_range_has(from, port) || !kl_port_range_has(r, port))
                continue;
            size_t at = (size_t)(port - r->first);
            bits[at / 8] |= (uint8_t)(1u << (at % 8));
        }
    }
}

int kl_ports_read(struct kl_str stored, const struct kl_port_range *r, uint8_t *bits)
{
    struct kl_port_range from;
    struct kl_envelope env;
    struct kl_error err;
    struct kl_str range = KL_STR(""), data = stored;
    char text[KL_PORT_RANGE_TEXT];
    bool wrapped = kl_pb_is_envelope(stored);
    memset(bits, 0, kl_port_bytes(r));
    if (wrapped && (kl_pb_open(stored, &env, &err) || !read_allocation(env.raw, &range, &data) ||
                    range.n >= sizeof text))
        return KL_EINVALID;
    memcpy(text, range.p, range.n);
    text[range.n] = 0;
    if (kl_port_range_parse(text, &from, &err))
        return KL_EINVALID;
    take_bits(&from, data, wrapped, r, bits);
    return stored.n && (from.first != r->first || from.count != r->count);
}

struct kl_bytes *kl_ports_write(const struct kl_port_range *r, const uint8_t *bits)
{
    struct kl_buf b, raw;
    size_t n = kl_port_bytes(r);
    kl_buf_init(&b, n + 4096);
    kl_buf_init(&raw, n + 4096);
    while (n && !bits[n - 1])
        n--;
    char range[KL_PORT_RANGE_TEXT];
    kl_port_range_text(r, range);
    size_t len = strlen(range);
    kl_buf_append(&raw, empty_meta, sizeof empty_meta);
    kl_buf_putc(&raw, 0x12);
    kl_pb_put_varint(&raw, len);
    kl_buf_append(&raw, range, len);
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
