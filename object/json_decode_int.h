// SPDX-License-Identifier: Apache-2.0
// The state of the JSON decoder, shared by its parts: the loop (json_decode.c), the tokens
// (json_scalar.c) and the wording of errors (json_error.c).
#pragma once
#include "object/json_int.h"

struct kl_json_frame {
    const struct kl_type *type;   // of the container
    const struct kl_field *field; // struct: the member being read
    uint64_t seen;                // struct: the first 64 fields met
    uint32_t base;                // index of its first member on the stack of values
    uint16_t next;                // struct: the field expected next
    uint8_t kind;                 // KL_STRUCT, KL_MAP, KL_ARRAY
    bool lax;                     // upstream decodes what is inside without strict checks
    bool doubled;                 // struct: a member came twice
};

enum { FRAMES_FIRST = 24, VALUES_FIRST = 256 };

struct kl_json_decoder {
    struct kl_arena *arena;
    const char *end;
    struct kl_strict *strict;
    struct kl_error *err;         // message of `failed`
    int failed;                   // first type error: kept while reading on
    size_t merge_work, note_work; // spent on repeated members and on paths of strict findings
    bool lax_failed;              // the failure is within a lax container: final when that closes
    int fatal;                    // KL_ENOMEM, or an error that ends decoding
    struct kl_json_frame *frames; // the innermost is frames[depth - 1]
    struct kl_value *values;
    size_t depth, frames_cap, top, values_cap;
    struct kl_json_frame first_frames[FRAMES_FIRST];
    struct kl_value first_values[VALUES_FIRST];
};

// Notes a strict finding about a member of the innermost container.
void kl_json_note_strict(struct kl_json_decoder *d, const char *what, struct kl_str field);
// A value that the Go type cannot take. Only the first is reported, and reading goes on, for a
// syntax error further on comes first; what types with a decoder of their own refuse is `final`.
void kl_json_fail_type(struct kl_json_decoder *d, const char *value, struct kl_str number,
                       const struct kl_type *t, bool final);
void kl_json_fail(struct kl_json_decoder *d, struct kl_str message, bool final);

// ---- Each reads at p into v and answers where the value ends; NULL on a syntax error. d->fatal is
// set when decoding must end.
const char *kl_json_read_string(struct kl_json_decoder *d, const char *p, struct kl_str *ret);
const char *kl_json_read_integer(struct kl_json_decoder *d, const char *p, const struct kl_type *t,
                                 bool final, struct kl_value *v);
const char *kl_json_read_number(struct kl_json_decoder *d, const char *p, bool float_only,
                                struct kl_value *v);
const char *kl_json_read_bool(struct kl_json_decoder *d, const char *p, struct kl_value *v);
// Passes over a value that is not kept.
const char *kl_json_read_over(struct kl_json_decoder *d, const char *p);
// Passes over a value of the wrong kind and reports it.
const char *kl_json_mismatch(struct kl_json_decoder *d, const char *p, const struct kl_type *t,
                             bool final);
// What is neither string, number, boolean nor container: quantities, times, bytes, raw JSON.
const char *kl_json_read_special(struct kl_json_decoder *d, const char *p, const struct kl_type *t,
                                 struct kl_value *v);
void kl_json_fail_duration(struct kl_json_decoder *d, struct kl_str text);
