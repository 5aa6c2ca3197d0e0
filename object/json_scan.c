// SPDX-License-Identifier: Apache-2.0
// JSON's tokens (RFC 8259).
#include "object/json_int.h"

const char *kl_json_skip_spaces(const char *p, const char *end)
{
#ifdef __SSE2__
    // Pretty-printed text: a line break and much indentation.
    while (end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)p);
        __m128i space = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8(' ')),
                                                  _mm_cmpeq_epi8(v, _mm_set1_epi8('\n'))),
                                     _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('\t')),
                                                  _mm_cmpeq_epi8(v, _mm_set1_epi8('\r'))));
        unsigned mask = (unsigned)_mm_movemask_epi8(space);
        if (mask != 0xffff)
            return p + __builtin_ctz(~mask);
        p += 16;
    }
#endif
    while (p < end && kl_json_is_space((unsigned char)*p))
        p++;
    return p;
}

static bool is_tail(const char *p, const char *end, size_t n)
{
    if ((size_t)(end - p) < n)
        return false;
    for (size_t i = 1; i < n; i++)
        if (((unsigned char)p[i] & 0xc0) != 0x80)
            return false;
    return true;
}

size_t kl_json_utf8_len(const char *p, const char *end)
{
    unsigned char c = (unsigned char)*p, second = end - p > 1 ? (unsigned char)p[1] : 0;
    if (c < 0x80)
        return 1;
    if (c >= 0xc2 && c <= 0xdf)
        return is_tail(p, end, 2) ? 2 : 0;
    if (c >= 0xe0 && c <= 0xef) {
        // No overlong forms, no surrogates.
        if ((c == 0xe0 && second < 0xa0) || (c == 0xed && second > 0x9f))
            return 0;
        return is_tail(p, end, 3) ? 3 : 0;
    }
    if (c >= 0xf0 && c <= 0xf4) {
        if ((c == 0xf0 && second < 0x90) || (c == 0xf4 && second > 0x8f))
            return 0;
        return is_tail(p, end, 4) ? 4 : 0;
    }
    return 0;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f');
}

// Behind the escape sequence at p.
static const char *escape_end(const char *p, const char *end)
{
    if (end - p < 2)
        return NULL;
    if (p[1] != 'u')
        return memchr("\"\\/bfnrt", p[1], 8) ? p + 2 : NULL;
    if (end - p < 6)
        return NULL;
    for (int i = 2; i < 6; i++)
        if (!is_hex(p[i]))
            return NULL;
    return p + 6;
}

const char *kl_json_string_rest(const char *p, const char *end, unsigned *flags)
{
    while (p < end) {
        unsigned char c = (unsigned char)*p;
        if (c == '"')
            return p;
        if (c == '\\') {
            *flags |= KL_JSON_ESCAPED;
            p = escape_end(p, end);
            if (!p)
                return NULL;
        } else if (c < 0x20) {
            return NULL;
        } else if (c < 0x80) {
            p = kl_json_plain_end(p, end);
        } else {
            size_t n = kl_json_utf8_len(p, end);
            if (n == 0)
                *flags |= KL_JSON_BAD_UTF8;
            p += n ? n : 1;
        }
    }
    return NULL;
}

static bool is_digit(const char *p, const char *end)
{
    return p < end && *p >= '0' && *p <= '9';
}

const char *kl_json_number_end(const char *p, const char *end, bool *ret_plain)
{
    *ret_plain = true;
    if (p < end && *p == '-')
        p++;
    if (!is_digit(p, end))
        return NULL;
    if (*p++ != '0')
        while (is_digit(p, end))
            p++;
    if (p < end && *p == '.') {
        *ret_plain = false;
        p++;
        if (!is_digit(p, end))
            return NULL;
        while (is_digit(p, end))
            p++;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        *ret_plain = false;
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        if (!is_digit(p, end))
            return NULL;
        while (is_digit(p, end))
            p++;
    }
    return p;
}

static const char *literal_end(const char *p, const char *end, const char *literal, size_t n)
{
    return (size_t)(end - p) >= n && memcmp(p, literal, n) == 0 ? p + n : NULL;
}

static const char *scalar_end(const char *p, const char *end, unsigned *flags)
{
    bool plain;
    switch (*p) {
    case '"':
        p = kl_json_string_end(p + 1, end, flags);
        return p ? p + 1 : NULL;
    case 't':
        return literal_end(p, end, "true", 4);
    case 'f':
        return literal_end(p, end, "false", 5);
    case 'n':
        return literal_end(p, end, "null", 4);
    default:
        return kl_json_number_end(p, end, &plain);
    }
}

static const char *space_noted(const char *p, const char *end, unsigned *flags)
{
    const char *q = kl_json_space(p, end);
    if (q != p)
        *flags |= KL_JSON_SPACED;
    return q;
}

// A key, the colon and the space behind it.
static const char *key_end(const char *p, const char *end, unsigned *flags)
{
    if (p == end || *p != '"')
        return NULL;
    p = kl_json_string_end(p + 1, end, flags);
    if (!p)
        return NULL;
    p = space_noted(p + 1, end, flags);
    return p < end && *p == ':' ? space_noted(p + 1, end, flags) : NULL;
}

const char *kl_json_skip(const char *p, const char *end, size_t depth, unsigned *flags)
{
    uint8_t is_object[KL_JSON_DEPTH_MAX / 8 + 1]; // bit per open container
    size_t open = 0;
    for (;;) {
        if (p == end)
            return NULL;
        if (*p == '{' || *p == '[') {
            bool object = *p == '{';
            if (depth + open >= KL_JSON_DEPTH_MAX)
                return NULL;
            uint8_t bit = (uint8_t)(1u << (open % 8));
            is_object[open / 8] =
                (uint8_t)((open % 8 ? is_object[open / 8] & ~bit : 0) | (object ? bit : 0));
            open++;
            p = space_noted(p + 1, end, flags);
            if (p == end)
                return NULL;
            if (*p != (object ? '}' : ']')) {
                p = object ? key_end(p, end, flags) : p;
                if (!p)
                    return NULL;
                continue;
            }
        } else {
            p = scalar_end(p, end, flags);
            if (!p || open == 0)
                return p;
            p = space_noted(p, end, flags);
        }
        // p stands behind a value or at the bracket that closes an empty container.
        for (;;) {
            if (p == end)
                return NULL;
            bool object = is_object[(open - 1) / 8] >> ((open - 1) % 8) & 1;
            if (*p == (object ? '}' : ']')) {
                p++;
                if (--open == 0)
                    return p;
                p = space_noted(p, end, flags);
                continue;
            }
            if (*p != ',')
                return NULL;
            p = space_noted(p + 1, end, flags);
            p = object ? key_end(p, end, flags) : p;
            if (!p)
                return NULL;
            break;
        }
    }
}
