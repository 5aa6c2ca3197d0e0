// SPDX-License-Identifier: Apache-2.0
// The scanner below the JSON decoder, the writers and the checks. All positions are pointers into
// the text; NULL means a syntax error, which kl_json_syntax_error then words.
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "object/json.h"
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define KL_JSON_DEPTH_MAX 10000 // containers within each other, as upstream's decoder allows

enum {
    KL_JSON_ESCAPED = 1, // a string has escapes
    KL_JSON_BAD_UTF8 = 2,
    KL_JSON_SPACED = 4, // white space between tokens
};

static inline bool kl_json_is_space(unsigned char c)
{
    return c <= ' ' && (c == ' ' || c == '\n' || c == '\r' || c == '\t');
}

const char *kl_json_skip_spaces(const char *p, const char *end);
// Behind white space; most often there is none.
static inline const char *kl_json_space(const char *p, const char *end)
{
    return p < end && (unsigned char)*p > ' ' ? p : kl_json_skip_spaces(p, end);
}

// The first byte from p on that is no plain ASCII of a string.
static inline const char *kl_json_plain_end(const char *p, const char *end)
{
#ifdef __SSE2__
    while (end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)p);
        // Signed comparison: bytes from 0x80 on are negative and found with the control characters.
        __m128i odd = _mm_or_si128(_mm_cmplt_epi8(v, _mm_set1_epi8(0x20)),
                                   _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')),
                                                _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'))));
        unsigned mask = (unsigned)_mm_movemask_epi8(odd);
        if (mask)
            return p + __builtin_ctz(mask);
        p += 16;
    }
#endif
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' &&
           *p != '\\')
        p++;
    return p;
}

// From a byte that is no plain ASCII of a string: handles escapes and UTF-8 up to the closing
// quote. A loop: a string has as many escapes as a client likes.
const char *kl_json_string_rest(const char *p, const char *end, unsigned *flags);
// p stands behind the opening quote; answers where the closing one is.
static inline const char *kl_json_string_end(const char *p, const char *end, unsigned *flags)
{
    p = kl_json_plain_end(p, end);
    return p < end && *p == '"' ? p : kl_json_string_rest(p, end, flags);
}

// Bytes of the UTF-8 sequence at p, 0 when there is no valid one.
size_t kl_json_utf8_len(const char *p, const char *end);
// Behind the number at p. *ret_plain: neither fraction nor exponent.
const char *kl_json_number_end(const char *p, const char *end, bool *ret_plain);
// Behind the value at p, which lies in `depth` containers. `flags` gathers KL_JSON_*.
const char *kl_json_skip(const char *p, const char *end, size_t depth, unsigned *flags);
// Words the first syntax error as Go does and returns KL_EBADREQUEST; 0 when there is none.
int kl_json_syntax_error(struct kl_str text, struct kl_error *err);

// The content of a string with escapes or bad UTF-8. p is NULL when memory ran out.
struct kl_str kl_json_unescape(struct kl_arena *a, struct kl_str raw, unsigned flags);
// A number that is no exact int64; false when it is out of float64's range.
bool kl_json_to_double(struct kl_arena *a, struct kl_str text, double *ret);
// Go's base64.StdEncoding. The offset of the first bad byte is *ret_bad when false.
bool kl_json_base64_decode(struct kl_arena *a, struct kl_str text, struct kl_str *ret,
                           size_t *ret_bad);
void kl_json_put_float(struct kl_buf *out, double d);
// Valid JSON without the white space between tokens.
void kl_json_put_compact(struct kl_buf *out, struct kl_str text);
// Go's strconv.Quote.
void kl_json_put_go_quoted(struct kl_buf *out, struct kl_str s);
// `unknown field "a.b"` and its like, kept once each.
int kl_strict_add(struct kl_arena *a, struct kl_strict *strict, const char *what,
                  struct kl_str path);

// What an element or a member that Go always writes is when nothing was decoded into it: null for
// what is a pointer, slice or map, an empty struct, a zero.
struct kl_value kl_json_zero(const struct kl_type *t);

// Of entries with one key the last value counts; it takes the place of the first. again_cb is told
// of each later one. The items are n pairs. KL_ENOMEM.
int kl_map_make_unique(struct kl_value *items, size_t *n,
                       void (*again_cb)(void *arg, const struct kl_value *key), void *arg);
// Of a struct's members that came twice one is left, as Go decodes twice into the same value. *work
// adds up over a document. KL_ENOMEM; KL_ELIMIT when a document has too much of this.
int kl_struct_merge(struct kl_arena *a, const struct kl_type *t, struct kl_value *items, size_t *n,
                    size_t *work);

// The names that Go's errors show; json_names.c.
void kl_go_type_name(struct kl_buf *out, const struct kl_type *t);
void kl_go_field_type_name(struct kl_buf *out, const struct kl_type *owner,
                           const struct kl_field *f);
// "VolumeSource." where the field comes from an embedded Go struct, else empty.
struct kl_str kl_go_embedded_prefix(const struct kl_type *owner, const struct kl_field *f);
