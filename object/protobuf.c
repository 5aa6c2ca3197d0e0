// SPDX-License-Identifier: Apache-2.0
// The storage and wire envelope: "k8s\0" and a runtime.Unknown.
#include "object/protobuf.h"
#include "object/protobuf_read_int.h"

static const char magic[KL_PB_MAGIC_BYTES] = {'k', '8', 's', 0};

bool kl_pb_is_envelope(struct kl_str data)
{
    return data.n >= KL_PB_MAGIC_BYTES && memcmp(data.p, magic, KL_PB_MAGIC_BYTES) == 0;
}

void kl_pb_put_varint(struct kl_buf *out, uint64_t v)
{
    char tmp[10];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        tmp[n++] = (char)(v | 0x80);
    tmp[n++] = (char)v;
    kl_buf_append(out, tmp, n);
}

static size_t varint_size(uint64_t v)
{
    size_t n = 1;
    while (v >>= 7)
        n++;
    return n;
}

static void put_string(struct kl_buf *out, char tag, struct kl_str s)
{
    kl_buf_putc(out, tag);
    kl_pb_put_varint(out, s.n);
    kl_buf_puts(out, s);
}

void kl_pb_begin_envelope(struct kl_buf *out, struct kl_str api_version, struct kl_str kind,
                          size_t raw_size)
{
    size_t meta = 2 + varint_size(api_version.n) + api_version.n + varint_size(kind.n) + kind.n;
    kl_buf_append(out, magic, sizeof(magic));
    kl_buf_putc(out, 0x0a);
    kl_pb_put_varint(out, meta);
    put_string(out, 0x0a, api_version);
    put_string(out, 0x12, kind);
    kl_buf_putc(out, 0x12);
    kl_pb_put_varint(out, raw_size);
}

void kl_pb_end_envelope(struct kl_buf *out)
{
    kl_buf_append(out, "\x1a\x00\x22\x00", 4); // contentEncoding and contentType, empty
}

static int read_type_meta(struct kl_str data, struct kl_envelope *ret, struct kl_error *err)
{
    struct kl_pb_small m = {0};
    int rc =
        kl_pb_read_small(data, "TypeMeta", KL_PB_SMALL_BYTES(1) | KL_PB_SMALL_BYTES(2), &m, err);
    if (rc < 0)
        return rc;
    if (m.seen & 1u << 1)
        ret->api_version = m.bytes[1];
    if (m.seen & 1u << 2)
        ret->kind = m.bytes[2];
    return 0;
}

int kl_pb_open(struct kl_str data, struct kl_envelope *ret, struct kl_error *err)
{
    if (data.n == 0)
        return kl_error_set(err, KL_EBADREQUEST, "empty data");
    if (!kl_pb_is_envelope(data))
        return kl_error_set(err, KL_EBADREQUEST,
                            "provided data does not appear to be a protobuf message, expected "
                            "prefix [107 56 115 0]");
    if (data.n == KL_PB_MAGIC_BYTES)
        return kl_error_set(err, KL_EBADREQUEST, "empty body");
    struct kl_envelope e = {{"", 0}, {"", 0}, {"", 0}, {"", 0}, {"", 0}};
    struct kl_pb_small m = {0};
    int rc = kl_pb_read_small(kl_str_from(data, KL_PB_MAGIC_BYTES), "Unknown",
                              KL_PB_SMALL_BYTES(1) | KL_PB_SMALL_BYTES(2) | KL_PB_SMALL_BYTES(3) |
                                  KL_PB_SMALL_BYTES(4),
                              &m, err);
    if (rc < 0)
        return rc;
    if (m.seen & 1u << 1) {
        rc = read_type_meta(m.bytes[1], &e, err);
        if (rc < 0)
            return rc;
    }
    if (m.seen & 1u << 2)
        e.raw = m.bytes[2];
    if (m.seen & 1u << 3)
        e.content_encoding = m.bytes[3];
    if (m.seen & 1u << 4)
        e.content_type = m.bytes[4];
    *ret = e;
    return 0;
}
