// SPDX-License-Identifier: Apache-2.0
// Protobuf messages as JSON and back (protobuf.dev/programming-guides/json, as Go's protojson does
// it): bytes are base64, 64-bit numbers strings, enums names. For descriptions that have names
// (net/proto.h). No maps, no floating point.
#pragma once
#include "net/proto.h"

// ---- JSON to the wire

enum { KL_PROTO_JSON_DEPTH = 60 }; // of messages in each other; what is skipped: 1,000

// Finds the end of the first value of a text that comes in pieces. Zeroed at first.
struct kl_json_edge {
    size_t at; // what was looked at
    uint32_t depth;
    bool begun, quoted, escaped, literal;
};
// The whole text so far. *ret_n: behind the value, with the space before it; 0: more is needed.
// `last`: nothing follows. KL_EEOF: it ends in the midst of a value. No more is checked.
int kl_json_edge(struct kl_json_edge *e, struct kl_str text, bool last, size_t *ret_n,
                 struct kl_error *err);

// Appends one message. Names as in the .proto or in lowerCamelCase; unknown ones are skipped, as
// are enums' unknown names. KL_EBADREQUEST with protojson's words for what does not fit, with
// encoding/json's for what is no JSON; KL_ELIMIT, KL_ENOMEM (out's).
int kl_proto_from_json(struct kl_buf *out, const struct kl_proto_desc *d, struct kl_str json,
                       struct kl_error *err);

// ---- The wire to JSON, in pieces: nothing is held but a few numbers, however long the message is.

struct kl_proto_json_level {
    const struct kl_proto_desc *d;
    const struct kl_proto_field *open; // whose array is open
    uint64_t left;                     // bytes
    uint16_t last;                     // field's number
    bool any;
};
struct kl_proto_json {
    struct kl_proto_json_level levels[KL_PROTO_JSON_DEPTH];
    int depth; // 0: done
    uint8_t state, shift, carry_n, wire;
    unsigned char carry[3]; // of base64
    const struct kl_proto_field *f;
    uint64_t v, left; // the number or length being read; of the text
    uint64_t all;     // of the whole message
};
// A message of n bytes.
void kl_proto_json_begin(struct kl_proto_json *j, const struct kl_proto_desc *d, uint64_t n,
                         struct kl_buf *out);
// Some bytes of it; zero numbers and empty texts must have been left out and fields must come in
// their order, as kl_proto_encode writes them. KL_EPROTO, or out's error.
int kl_proto_json_put(struct kl_proto_json *j, struct kl_str some, struct kl_buf *out);
static inline bool kl_proto_json_done(const struct kl_proto_json *j)
{
    return !j->depth;
}
// How many bytes it still takes.
static inline uint64_t kl_proto_json_left(const struct kl_proto_json *j)
{
    return j->all;
}
// A string with its quotes and protojson's escapes.
void kl_proto_json_string(struct kl_buf *out, struct kl_str s);
