// SPDX-License-Identifier: Apache-2.0
// Protobuf (proto3) messages as plain C structs, encoded and decoded by field tables. Structs and
// tables are generated from JSON facts by net/gen_proto.py. Repeated fields are an array `x` and a
// count `n_x`; messages are pointers, NULL when absent; of a oneof's members the last one on the
// wire is set and the others are zero.
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include <stdint.h>

enum kl_proto_kind {
    KL_PROTO_STRING, // and bytes
    KL_PROTO_BOOL,
    KL_PROTO_INT32, // and enums
    KL_PROTO_UINT32,
    KL_PROTO_INT64, // and uint64
    KL_PROTO_MESSAGE,
    KL_PROTO_MAP, // map<string,string>
};
#define KL_PROTO_REPEATED 1
#define KL_PROTO_ONEOF 2    // a message has one oneof at most
#define KL_PROTO_BYTES 4    // which JSON needs to know (net/proto_json.h): a string that is bytes,
#define KL_PROTO_UNSIGNED 8 // an int64 that is a uint64

struct kl_proto_kv {
    struct kl_str key, value;
};

struct kl_proto_desc;
struct kl_proto_field {
    uint16_t n; // wire number, rising
    uint8_t kind, flags;
    uint16_t offset, count_offset;
    uint16_t size; // of one element
    const struct kl_proto_desc *sub;
};
// For JSON. values: an enum's, ended by a NULL name.
struct kl_proto_value {
    const char *name;
    int32_t n;
};
struct kl_proto_name {
    const char *name; // as in the .proto
    const struct kl_proto_value *values;
};
struct kl_proto_desc {
    const char *name;
    const struct kl_proto_field *fields;
    uint16_t nfields;
    uint16_t size; // of the struct
    uint8_t has_repeated, has_oneof;
    const struct kl_proto_name *names; // of the fields; NULL: not generated
};
struct kl_proto_method {
    const char *path; // "/runtime.v1.RuntimeService/Version"
    const struct kl_proto_desc *in, *out;
};

// Appends the message; zero scalars and NULL messages are left out, as proto3 does.
void kl_proto_encode(struct kl_buf *out, const struct kl_proto_desc *d, const void *msg);
// Decodes into a new struct in the arena; strings refer to `data`. Unknown fields are skipped.
// KL_EPROTO on malformed input, KL_ELIMIT on too many elements, KL_ENOMEM when the arena's bound is
// reached.
int kl_proto_decode(struct kl_arena *a, const struct kl_proto_desc *d, struct kl_str data,
                    void **ret_msg, struct kl_error *err);
// Value of a key, or p NULL.
struct kl_str kl_proto_map_get(const struct kl_proto_kv *kv, size_t n, struct kl_str key);

// ---- By hand, for messages that are written straight into what is sent.
static inline size_t kl_proto_varint_size(uint64_t v)
{
    return (size_t)(9 * (64 - __builtin_clzll(v | 1)) + 64) / 64;
}
static inline char *kl_proto_put_varint(char *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *p++ = (char)(v | 0x80);
    *p++ = (char)v;
    return p;
}
// Fields below 16, whose tags are one byte. Zero numbers and empty strings are left out.
static inline size_t kl_proto_int_size(int64_t v)
{
    return v ? 1 + kl_proto_varint_size((uint64_t)v) : 0;
}
static inline size_t kl_proto_message_size(size_t n) // of n bytes, with tag and length
{
    return 1 + kl_proto_varint_size(n) + n;
}
static inline size_t kl_proto_string_size(size_t n)
{
    return n ? kl_proto_message_size(n) : 0;
}
static inline char *kl_proto_put_int(char *p, int field, int64_t v)
{
    if (!v)
        return p;
    *p++ = (char)(field << 3);
    return kl_proto_put_varint(p, (uint64_t)v);
}
static inline char *kl_proto_put_head(char *p, int field, size_t n) // of what is n bytes long
{
    *p++ = (char)(field << 3 | 2);
    return kl_proto_put_varint(p, n);
}
static inline char *kl_proto_put_string(char *p, int field, struct kl_str s)
{
    if (!s.n)
        return p;
    p = kl_proto_put_head(p, field, s.n);
    memcpy(p, s.p, s.n);
    return p + s.n;
}
