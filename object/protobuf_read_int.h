// SPDX-License-Identifier: Apache-2.0
// A bounded cursor over protobuf's wire format, with the messages of upstream's generated code.
#pragma once
#include "base/err.h"
#include "base/str.h"
#include "object/protobuf_int.h"

struct kl_pb_cursor {
    const char *p, *end;
};

struct kl_pb_tag {
    uint64_t key;
    uint32_t number;
    unsigned wire;
};

int kl_pb_eof(struct kl_error *err);
int kl_pb_varint_slow(struct kl_pb_cursor *c, uint64_t *ret, struct kl_error *err);
// An illegal number or the end of a group; `message` names the message.
int kl_pb_bad_tag(uint64_t key, const char *message, struct kl_error *err);
int kl_pb_bad_wire(unsigned wire, const char *field, struct kl_error *err);
int kl_pb_bad_length(struct kl_error *err);
// Steps over a field's value, groups with all that is in them.
int kl_pb_skip(struct kl_pb_cursor *c, unsigned wire, struct kl_error *err);

static inline int kl_pb_varint(struct kl_pb_cursor *c, uint64_t *ret, struct kl_error *err)
{
    if (c->p < c->end && !(*c->p & 0x80)) {
        *ret = (uint8_t)*c->p++;
        return 0;
    }
    return kl_pb_varint_slow(c, ret, err);
}

// Reads a tag as it stands; a caller refuses one that kl_pb_tag_is_bad with kl_pb_bad_tag.
static inline int kl_pb_tag(struct kl_pb_cursor *c, struct kl_pb_tag *ret, struct kl_error *err)
{
    uint64_t key = 0;
    int rc = kl_pb_varint(c, &key, err);
    if (rc < 0)
        return rc;
    ret->key = key;
    ret->number = (uint32_t)(key >> 3);
    ret->wire = key & 7;
    return 0;
}

static inline bool kl_pb_tag_is_bad(const struct kl_pb_tag *t)
{
    return t->wire == KL_WIRE_END || (int32_t)t->number <= 0;
}

static inline int kl_pb_bytes(struct kl_pb_cursor *c, struct kl_str *ret, struct kl_error *err)
{
    uint64_t n = 0;
    int rc = kl_pb_varint(c, &n, err);
    if (rc < 0)
        return rc;
    if (n > (uint64_t)(c->end - c->p))
        return (int64_t)n < 0 ? kl_pb_bad_length(err) : kl_pb_eof(err);
    *ret = (struct kl_str){c->p, (size_t)n};
    c->p += n;
    return 0;
}

// A message of a few scalar fields numbered 1 to 4. The mask says which are known and as what.
struct kl_pb_small {
    uint64_t varint[5];
    struct kl_str bytes[5];
    unsigned seen; // 1 << number
};
#define KL_PB_SMALL_VARINT(number) (1u << (number))
#define KL_PB_SMALL_BYTES(number) (1u << ((number) + 8))

int kl_pb_read_small(struct kl_str data, const char *message, unsigned known,
                     struct kl_pb_small *ret, struct kl_error *err);
