// SPDX-License-Identifier: Apache-2.0
// JSON (RFC 8259) to and from values, as sigs.k8s.io/json and encoding/json treat it.
#pragma once
#include "base/buf.h"
#include "object/schema.h"
#include "object/value.h"

enum kl_field_validation { KL_VALIDATE_IGNORE, KL_VALIDATE_WARN, KL_VALIDATE_STRICT };

// What strict decoding found: `unknown field "spec.foo"`, `duplicate field "spec.foo"`; at most
// KL_STRICT_MAX kept, as upstream does. The caller sets n to 0 first; each step adds to it.
#define KL_STRICT_MAX 100
struct kl_strict {
    struct kl_str messages[KL_STRICT_MAX]; // in the decoder's arena
    size_t n;
};

// Decodes one JSON document against a type into a draft. Strings are copied only when they had
// escapes; otherwise the draft refers to `text`, which must outlive it. Unknown fields are dropped
// (and noted in `strict` unless NULL), names match exactly, nesting is bounded at 10,000 as
// upstream's decoder does. Type errors read as Go's: `json: cannot unmarshal string into Go struct
// field PodSpec.spec.hostNetwork of type bool`. Fails with KL_EBADREQUEST and that message; a
// syntax error has upstream's `couldn't get version/kind; json parse error: ` before it where the
// type is a kind of the API. KL_ETOOLARGE above 4 GiB, KL_ENOMEM.
// Root apiVersion and kind are kept in the draft (kl_object_freeze drops them for built-in roots).
// A null that clears a pointer, list or map is a KL_NULL member, which reads as absent.
int kl_json_decode(struct kl_arena *a, const struct kl_type *type, struct kl_str text,
                   struct kl_strict *strict, struct kl_value *ret, struct kl_error *err);
// Untyped: objects become KL_MAP, numbers int64 where exact, else double. A duplicate key's last
// value wins (noted in strict).
int kl_json_parse(struct kl_arena *a, struct kl_str text, struct kl_strict *strict,
                  struct kl_value *ret, struct kl_error *err);
// Turns an untyped tree into a typed draft (for YAML, patches, defaults): as kl_json_decode.
int kl_typed_from_untyped(struct kl_arena *a, const struct kl_type *type,
                          const struct kl_value *untyped, struct kl_strict *strict,
                          struct kl_value *ret, struct kl_error *err);
// And back: KL_STRUCT to KL_MAP, times and bytes to strings; what patches work on. As the encoder,
// with what Go always writes; apiVersion and kind only if the tree has them.
int kl_untyped_from_typed(struct kl_arena *a, const struct kl_type *type,
                          const struct kl_value *typed, struct kl_value *ret);

// Reads only metadata-like heads without building a tree: apiVersion and kind of a document.
int kl_json_peek_gvk(struct kl_str text, struct kl_str *ret_api_version, struct kl_str *ret_kind);

// Writes canonical values as kube-apiserver does: Go field order, Go's escapes (\u003c for < > &,
// \u2028, \u2029), emit rules of the schema, no spaces, no final newline.
// With a type of KL_T_STRUCT and `head` (e.g. "\"kind\":\"Pod\",\"apiVersion\":\"v1\",") that text
// is written after the opening brace; pass an empty head for list items. The buffer's maximum must
// leave some 64 bytes more than the text.
void kl_json_encode(struct kl_buf *out, const struct kl_type *type, const struct kl_value *v,
                    struct kl_str head);
// Untyped value (or NULL: null).
void kl_json_write(struct kl_buf *out, const struct kl_value *v);
void kl_json_write_string(struct kl_buf *out, struct kl_str s); // with quotes and Go's escapes
void kl_json_write_strings(struct kl_buf *out, const struct kl_str *s, size_t n); // an array
// Text with two or `indent` spaces, as `pretty=true` answers; input must be valid JSON.
void kl_json_pretty(struct kl_buf *out, struct kl_str text, int indent);
// Whether text is one valid JSON document; for KL_RAW. Appends its compact form to out if not NULL.
bool kl_json_compact(struct kl_buf *out, struct kl_str text);
