// SPDX-License-Identifier: Apache-2.0
// What the two directions of the protobuf codec share.
#pragma once
#include "object/schema.h"

// The widest type has 44 fields; a unit test holds the tables to this.
#define KL_PB_MAX_FIELDS 64
// Messages within messages. Only JSONSchemaProps nests without end; upstream knows no bound.
#define KL_PB_MAX_DEPTH 512

enum {
    KL_WIRE_VARINT,
    KL_WIRE_FIXED64,
    KL_WIRE_BYTES,
    KL_WIRE_START,
    KL_WIRE_END,
    KL_WIRE_FIXED32
};

// The number that stands on the wire at this depth of nested inline messages.
static inline unsigned kl_pb_number(const struct kl_field *f, unsigned depth)
{
    return depth < sizeof(f->pb_in) && f->pb_in[depth] ? f->pb_in[depth] : f->pb;
}

// Whether the field sits in a further nested message below this depth.
static inline bool kl_pb_is_nested(const struct kl_field *f, unsigned depth)
{
    return (f->flags & KL_FIELD_INLINE_PB) && depth < sizeof(f->pb_in) && f->pb_in[depth];
}

// How a map's value or a named list's item is written: as its type says.
static inline uint8_t kl_pb_type_of(const struct kl_type *t)
{
    switch (t->kind) {
    case KL_T_STRING:
        return KL_PB_STRING;
    case KL_T_BYTES:
        return KL_PB_BYTES;
    case KL_T_BOOLEAN:
        return KL_PB_BOOL;
    case KL_T_INTEGER:
        return KL_PB_INT64;
    case KL_T_NUMBER:
        return KL_PB_DOUBLE;
    default:
        return KL_PB_MESSAGE;
    }
}
