// SPDX-License-Identifier: Apache-2.0
// Kubernetes' protobuf encoding (k8s.io/apimachinery runtime/serializer/protobuf) against the schema.
#pragma once
#include "base/buf.h"
#include "object/schema.h"
#include "object/value.h"

// One message, without envelope, byte-identical to upstream's generated code for the same object.
void kl_pb_encode(struct kl_buf *out, const struct kl_type *type, const struct kl_value *v);
// The exact length kl_pb_encode would write.
size_t kl_pb_size(const struct kl_type *type, const struct kl_value *v);
// Unknown fields are skipped, as upstream does. Strings and bytes refer to `data`.
int kl_pb_decode(struct kl_arena *a, const struct kl_type *type, struct kl_str data,
                 struct kl_value *ret, struct kl_error *err);

// The envelope "k8s\0" + runtime.Unknown{typeMeta, raw, contentEncoding, contentType}.
struct kl_envelope {
    struct kl_str api_version, kind, raw, content_encoding, content_type;
};
#define KL_PB_MAGIC_BYTES 4
bool kl_pb_is_envelope(struct kl_str data);
int kl_pb_open(struct kl_str data, struct kl_envelope *ret, struct kl_error *err);
// Writes magic, typeMeta and the header of raw for a message of raw_size bytes, which the caller
// appends; kl_pb_close_envelope then writes what follows raw.
void kl_pb_begin_envelope(struct kl_buf *out, struct kl_str api_version, struct kl_str kind,
                          size_t raw_size);
void kl_pb_end_envelope(struct kl_buf *out);
void kl_pb_put_varint(struct kl_buf *out, uint64_t v);
