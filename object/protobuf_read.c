// SPDX-License-Identifier: Apache-2.0
#include "object/protobuf_read_int.h"

int kl_pb_eof(struct kl_error *err)
{
    return kl_error_set(err, KL_EBADREQUEST, "unexpected EOF");
}

int kl_pb_bad_length(struct kl_error *err)
{
    return kl_error_set(err, KL_EBADREQUEST, "proto: negative length found during unmarshaling");
}

int kl_pb_bad_tag(uint64_t key, const char *message, struct kl_error *err)
{
    if ((key & 7) == KL_WIRE_END)
        return kl_error_set(err, KL_EBADREQUEST, "proto: %s: wiretype end group for non-group",
                            message);
    return kl_error_set(err, KL_EBADREQUEST, "proto: %s: illegal tag %d (wire type %llu)", message,
                        (int32_t)(uint32_t)(key >> 3), (unsigned long long)key);
}

int kl_pb_bad_wire(unsigned wire, const char *field, struct kl_error *err)
{
    return kl_error_set(err, KL_EBADREQUEST, "proto: wrong wireType = %u for field %s", wire,
                        field);
}

int kl_pb_varint_slow(struct kl_pb_cursor *c, uint64_t *ret, struct kl_error *err)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (c->p >= c->end)
            return kl_pb_eof(err);
        uint8_t b = (uint8_t)*c->p++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            *ret = v;
            return 0;
        }
    }
    return kl_error_set(err, KL_EBADREQUEST, "proto: integer overflow");
}

static int skip_bytes(struct kl_pb_cursor *c, size_t n, struct kl_error *err)
{
    if ((size_t)(c->end - c->p) < n)
        return kl_pb_eof(err);
    c->p += n;
    return 0;
}

int kl_pb_skip(struct kl_pb_cursor *c, unsigned wire, struct kl_error *err)
{
    for (size_t depth = 0;;) {
        uint64_t key = 0;
        struct kl_str bytes = {NULL, 0};
        int rc = 0;
        switch (wire) {
        case KL_WIRE_VARINT:
            rc = kl_pb_varint(c, &key, err);
            break;
        case KL_WIRE_FIXED64:
            rc = skip_bytes(c, 8, err);
            break;
        case KL_WIRE_BYTES:
            rc = kl_pb_bytes(c, &bytes, err);
            break;
        case KL_WIRE_START:
            depth++;
            break;
        case KL_WIRE_END:
            if (depth == 0)
                return kl_error_set(err, KL_EBADREQUEST, "proto: unexpected end of group");
            depth--;
            break;
        case KL_WIRE_FIXED32:
            rc = skip_bytes(c, 4, err);
            break;
        default:
            return kl_error_set(err, KL_EBADREQUEST, "proto: illegal wireType %u", wire);
        }
        if (rc < 0 || depth == 0)
            return rc;
        rc = kl_pb_varint(c, &key, err);
        if (rc < 0)
            return rc;
        wire = key & 7;
    }
}

int kl_pb_read_small(struct kl_str data, const char *message, unsigned known,
                     struct kl_pb_small *ret, struct kl_error *err)
{
    struct kl_pb_cursor c = {data.p, data.p + data.n};
    while (c.p < c.end) {
        struct kl_pb_tag tag = {0};
        int rc = kl_pb_tag(&c, &tag, err);
        if (rc < 0)
            return rc;
        if (kl_pb_tag_is_bad(&tag))
            return kl_pb_bad_tag(tag.key, message, err);
        bool varint = tag.number <= 4 && (known & KL_PB_SMALL_VARINT(tag.number));
        bool bytes = tag.number <= 4 && (known & KL_PB_SMALL_BYTES(tag.number));
        if (!varint && !bytes) {
            rc = kl_pb_skip(&c, tag.wire, err);
        } else if (tag.wire != (varint ? KL_WIRE_VARINT : KL_WIRE_BYTES)) {
            rc = kl_pb_bad_wire(tag.wire, message, err);
        } else {
            rc = varint ? kl_pb_varint(&c, &ret->varint[tag.number], err)
                        : kl_pb_bytes(&c, &ret->bytes[tag.number], err);
            ret->seen |= 1u << tag.number;
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}
