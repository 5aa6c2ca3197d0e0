// SPDX-License-Identifier: Apache-2.0
// Kubernetes' protobuf encoding (k8s.io/apimachinery runtime/serializer/protobuf) against the
// schema.
#pragma once
#include "base/buf.h"
#include "object/schema.h"
#include "object/value.h"

// One message, without envelope, byte-identical to upstream's generated code for the same object.
// v is canonical: members in schema order, map keys sorted. Running out of memory shows in
// out->err.
void kl_pb_encode(struct kl_buf *out, const struct kl_type *type, const struct kl_value *v);
// The exact length kl_pb_encode would write; costs as much as encoding.
size_t kl_pb_size(const struct kl_type *type, const struct kl_value *v);
// Makes a draft in the order of canonical form; its strings and bytes refer to `data`, which must
// outlive it. Unknown fields are skipped and repeated messages merged, as upstream does. What a
// client can get wrong is checked: quantities, and that embedded JSON is JSON (made compact).
// KL_EBADREQUEST with upstream's wording where it has one, KL_ENOMEM.
int kl_pb_decode(struct kl_arena *a, const struct kl_type *type, struct kl_str data,
                 struct kl_value *ret, struct kl_error *err);
// The same for what this or another API server wrote (storage, answers): quantities and embedded
// JSON are taken as they stand. Malformed protobuf fails all the same.
int kl_pb_decode_trusted(struct kl_arena *a, const struct kl_type *type, struct kl_str data,
                         struct kl_value *ret, struct kl_error *err);

// The envelope "k8s\0" + runtime.Unknown{typeMeta, raw, contentEncoding, contentType}.
struct kl_envelope {
    struct kl_str api_version, kind, raw, content_encoding, content_type;
};
#define KL_PB_MAGIC_BYTES 4
bool kl_pb_is_envelope(struct kl_str data);
int kl_pb_open(struct kl_str data, struct kl_envelope *ret, struct kl_error *err);
// Magic, envelope and message in one pass: quicker than kl_pb_size and the two calls below.
void kl_pb_encode_object(struct kl_buf *out, struct kl_str api_version, struct kl_str kind,
                         const struct kl_type *type, const struct kl_value *v);
// Writes magic, typeMeta and the header of raw for a message of raw_size bytes, which the caller
// appends; kl_pb_end_envelope then writes what follows raw.
void kl_pb_begin_envelope(struct kl_buf *out, struct kl_str api_version, struct kl_str kind,
                          size_t raw_size);
void kl_pb_end_envelope(struct kl_buf *out);
void kl_pb_put_varint(struct kl_buf *out, uint64_t v);
