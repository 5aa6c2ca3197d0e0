// SPDX-License-Identifier: Apache-2.0
// The insides of JSON's tokens: escapes, numbers, base64, raw text.
#include "object/json_int.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char replacement[3] = {(char)0xef, (char)0xbf, (char)0xbd}; // U+FFFD

static unsigned hex4(const char *p)
{
    unsigned v = 0;
    for (int i = 0; i < 4; i++)
        v = v << 4 | (unsigned)(p[i] <= '9' ? p[i] - '0' : (p[i] | 32) - 'a' + 10);
    return v;
}

static char *put_utf8(char *out, unsigned c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

// The escape at p, which the scanner found well-formed. A lone surrogate becomes U+FFFD.
static const char *unescape_one(const char *p, const char *end, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (p[1] != 'u') {
        *(*out)++ = to[strchr(from, p[1]) - from];
        return p + 2;
    }
    unsigned c = hex4(p + 2);
    p += 6;
    if (c >= 0xd800 && c <= 0xdfff) {
        unsigned low = end - p >= 6 && p[0] == '\\' && p[1] == 'u' ? hex4(p + 2) : 0;
        if (c < 0xdc00 && low >= 0xdc00 && low <= 0xdfff) {
            p += 6;
            c = 0x10000 + ((c - 0xd800) << 10 | (low - 0xdc00));
        } else {
            c = 0xfffd;
        }
    }
    *out = put_utf8(*out, c);
    return p;
}

struct kl_str kl_json_unescape(struct kl_arena *a, struct kl_str raw, unsigned flags)
{
    // An escape never gets longer; a byte that is not UTF-8 becomes three.
    char *text = kl_arena_alloc(a, raw.n * (flags & KL_JSON_BAD_UTF8 ? 3 : 1) + 1), *out = text;
    if (!text)
        return (struct kl_str){NULL, 0};
    const char *p = raw.p, *end = p + raw.n;
    while (p < end) {
        if (*p == '\\') {
            p = unescape_one(p, end, &out);
            continue;
        }
        size_t n = kl_json_utf8_len(p, end);
        memcpy(out, n ? p : replacement, n ? n : 3);
        out += n ? n : 3;
        p += n ? n : 1;
    }
    return (struct kl_str){text, (size_t)(out - text)};
}

bool kl_json_to_double(struct kl_arena *a, struct kl_str text, double *ret)
{
    char small[64], *z = small;
    if (text.n >= sizeof(small)) {
        z = kl_arena_alloc(a, text.n + 1);
        if (!z)
            return false;
    }
    memcpy(z, text.p, text.n);
    z[text.n] = 0;
    *ret = strtod(z, NULL); // the process runs in the C locale
    return isfinite(*ret);
}

// As encoding/json: shortest digits that read back, exponent form below 1e-6 and from 1e21 on.
void kl_json_put_float(struct kl_buf *out, double d)
{
    if (!isfinite(d)) {
        kl_buf_puts(out, KL_STR("null"));
        return;
    }
    char digits[40];
    // Up to 15 digits always read back as themselves; the smallest numbers have fewer.
    int places = fabs(d) < 1e-300 ? 0 : 14;
    do
        snprintf(digits, sizeof(digits), "%.*e", places, d);
    while (strtod(digits, NULL) != d && ++places < 17);
    char *e = strchr(digits, 'e');
    int exponent = (int)strtol(e + 1, NULL, 10);
    char mantissa[24];
    size_t n = 0;
    for (const char *p = digits; p < e; p++)
        if (*p >= '0' && *p <= '9')
            mantissa[n++] = *p;
    while (n > 1 && mantissa[n - 1] == '0')
        n--;
    if (digits[0] == '-')
        kl_buf_putc(out, '-');
    double size = fabs(d);
    if (size != 0 && (size < 1e-6 || size >= 1e21)) {
        kl_buf_putc(out, mantissa[0]);
        if (n > 1)
            kl_buf_printf(out, ".%.*s", (int)(n - 1), mantissa + 1);
        kl_buf_printf(out, "e%c%d", exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        kl_buf_puts(out, KL_STR("0."));
        for (int i = -1; i > exponent; i--)
            kl_buf_putc(out, '0');
        kl_buf_append(out, mantissa, n);
    } else {
        size_t whole = (size_t)exponent + 1;
        kl_buf_append(out, mantissa, whole < n ? whole : n);
        for (size_t i = n; i < whole; i++)
            kl_buf_putc(out, '0');
        if (whole < n) {
            kl_buf_putc(out, '.');
            kl_buf_append(out, mantissa + whole, n - whole);
        }
    }
}

static const int8_t base64_values[128] = {
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 62,
    -1, -1, -1, 63, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, -1, -1, -1, -1, -1, -1, -1, 0,
    1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
    23, 24, 25, -1, -1, -1, -1, -1, -1, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38,
    39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, -1, -1, -1, -1, -1,
};

static int base64_value(char c)
{
    return (unsigned char)c < 128 ? base64_values[(unsigned char)c] : -1;
}

static size_t skip_breaks(struct kl_str s, size_t i)
{
    while (i < s.n && (s.p[i] == '\n' || s.p[i] == '\r'))
        i++;
    return i;
}

bool kl_json_base64_decode(struct kl_arena *a, struct kl_str text, struct kl_str *ret,
                           size_t *ret_bad)
{
    uint8_t *out = kl_arena_alloc(a, text.n / 4 * 3 + 3);
    size_t n = 0, i = 0;
    *ret_bad = 0;
    if (!out)
        return false;
    for (;;) {
        while (text.n - i > 4) { // the quick way: four digits, no line breaks
            int a0 = base64_value(text.p[i]), a1 = base64_value(text.p[i + 1]);
            int a2 = base64_value(text.p[i + 2]), a3 = base64_value(text.p[i + 3]);
            if ((a0 | a1 | a2 | a3) < 0)
                break;
            out[n++] = (uint8_t)(a0 << 2 | a1 >> 4);
            out[n++] = (uint8_t)(a1 << 4 | a2 >> 2);
            out[n++] = (uint8_t)(a2 << 6 | a3);
            i += 4;
        }
        unsigned group = 0;
        int got = 0;
        for (; got < 4; got++) {
            i = skip_breaks(text, i);
            if (i == text.n) {
                *ret_bad = i - (size_t)got;
                if (got)
                    return false;
                *ret = (struct kl_str){(const char *)out, n};
                return true;
            }
            int v = base64_value(text.p[i]);
            if (v < 0)
                break;
            group = group << 6 | (unsigned)v;
            i++;
        }
        if (got < 4) {
            // Padding is the only other thing that may stand here, and only at the very end.
            *ret_bad = i;
            if (text.p[i] != '=' || got < 2)
                return false;
            i = skip_breaks(text, i + 1);
            if (got == 2) {
                *ret_bad = i == text.n ? i : i - 1;
                if (i == text.n || text.p[i] != '=')
                    return false;
                i = skip_breaks(text, i + 1);
            }
            *ret_bad = i;
            if (i < text.n)
                return false;
            group <<= 6 * (4 - got);
        }
        out[n] = (uint8_t)(group >> 16);
        out[n + 1] = (uint8_t)(group >> 8);
        out[n + 2] = (uint8_t)group;
        n += (size_t)got - 1;
        if (got < 4) {
            *ret = (struct kl_str){(const char *)out, n};
            return true;
        }
    }
}

void kl_json_put_compact(struct kl_buf *out, struct kl_str text)
{
    const char *p = text.p, *end = p + text.n;
    if (kl_buf_reserve(out, text.n))
        return;
    char *to = out->p + out->n;
    while ((p = kl_json_space(p, end)) < end) {
        const char *from = p;
        if (*p == '"') {
            unsigned flags = 0;
            p = kl_json_string_end(p + 1, end, &flags);
            p = p ? p + 1 : end;
        } else {
            while (p < end && (unsigned char)*p > ' ' && *p != '"')
                p++;
        }
        if (p == from) // a control character: not JSON, but not endless either
            p++;
        memcpy(to, from, (size_t)(p - from));
        to += p - from;
    }
    out->n = (size_t)(to - out->p);
}

void kl_json_put_go_quoted(struct kl_buf *out, struct kl_str s)
{
    kl_buf_putc(out, '"');
    for (const char *p = s.p, *end = p + s.n; p < end;) {
        unsigned char c = (unsigned char)*p;
        size_t n = kl_json_utf8_len(p, end);
        if (c == '"' || c == '\\')
            kl_buf_printf(out, "\\%c", c);
        else if (c >= 7 && c <= 13)
            kl_buf_printf(out, "\\%c", "abtnvfr"[c - 7]);
        else if (n == 0 || c < 0x20 || c == 0x7f)
            kl_buf_printf(out, "\\x%02x", c);
        else
            kl_buf_append(out, p, n);
        p += n ? n : 1;
    }
    kl_buf_putc(out, '"');
}

int kl_strict_add(struct kl_arena *a, struct kl_strict *strict, const char *what,
                  struct kl_str path)
{
    if (strict->n == KL_STRICT_MAX)
        return 0;
    struct kl_buf text;
    kl_buf_init(&text, 16 << 20);
    kl_buf_printf(&text, "%s ", what);
    kl_json_put_go_quoted(&text, path);
    int r = text.err;
    for (size_t i = 0; r == 0 && i < strict->n; i++)
        if (kl_str_eq(strict->messages[i], kl_buf_str(&text)))
            r = 1;
    if (r == 0) {
        struct kl_str copy = kl_arena_dup(a, kl_buf_str(&text));
        if (copy.p)
            strict->messages[strict->n++] = copy;
        else
            r = KL_ENOMEM;
    }
    kl_buf_fini(&text);
    return r < 0 ? r : 0;
}
