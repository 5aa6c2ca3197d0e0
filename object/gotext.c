// SPDX-License-Identifier: Apache-2.0
#include "object/gotext_int.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_DEPTH = 64 };

// Decodes one rune; an invalid byte gives -1 and takes one byte, as utf8.DecodeRune does.
static int32_t next_rune(struct kl_str s, size_t *ret_len)
{
    unsigned char c = (unsigned char)s.p[0];
    size_t n = c < 0x80 ? 1 : c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 0;
    *ret_len = 1;
    if (n == 1)
        return c;
    if (n == 0 || c >= 0xf5 || n > s.n || !kl_utf8_valid((struct kl_str){s.p, n}))
        return -1;
    int32_t r = c & (0x7f >> n);
    for (size_t i = 1; i < n; i++)
        r = (r << 6) | ((unsigned char)s.p[i] & 0x3f);
    *ret_len = n;
    return r;
}

// unicode.IsPrint without its tables: right for all but unassigned code points.
static bool is_print(int32_t r)
{
    if (r < 0x7f)
        return r >= 0x20;
    if (r <= 0xa0 || r == 0xad || r == 0x61c || r == 0x1680 || r == 0x180e || r == 0xfeff)
        return false;
    if ((r >= 0x2000 && r <= 0x200f) || (r >= 0x2028 && r <= 0x202f) ||
        (r >= 0x205f && r <= 0x206f) || r == 0x3000)
        return false;
    return !(r >= 0xd800 && r <= 0xf8ff) && !(r >= 0xfff0 && r <= 0xfffb) &&
           (r & 0xfffe) != 0xfffe && r < 0xe0000;
}

void kl_go_quote(struct kl_buf *out, struct kl_str s)
{
    kl_buf_putc(out, '"');
    while (s.n) {
        size_t n;
        int32_t r = next_rune(s, &n);
        static const char from[] = "\a\b\f\n\r\t\v\\\"", to[] = "abfnrtv\\\"";
        const char *known = r > 0 && r < 0x80 ? strchr(from, r) : NULL;
        if (known)
            kl_buf_printf(out, "\\%c", to[known - from]);
        else if (r < 0)
            kl_buf_printf(out, "\\x%02x", (unsigned char)s.p[0]);
        else if (is_print(r))
            kl_buf_append(out, s.p, n);
        else if (r < 0x20 || r == 0x7f)
            kl_buf_printf(out, "\\x%02x", (unsigned)r);
        else if (r < 0x10000)
            kl_buf_printf(out, "\\u%04x", (unsigned)r);
        else
            kl_buf_printf(out, "\\U%08x", (unsigned)r);
        s = kl_str_from(s, n);
    }
    kl_buf_putc(out, '"');
}

// strconv's shortest digits in %v's form: %e for exponents below -4 and from 21 on.
static void print_double(struct kl_buf *out, double d)
{
    if (isnan(d) || isinf(d)) {
        kl_buf_puts(out, isnan(d) ? KL_STR("NaN") : d > 0 ? KL_STR("+Inf") : KL_STR("-Inf"));
        return;
    }
    char text[40];
    int digits = 1;
    do
        snprintf(text, sizeof(text), "%.*e", digits - 1, d);
    while (strtod(text, NULL) != d && ++digits <= 17);
    int exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    if (exponent < -4 || exponent >= 21) {
        kl_buf_puts(out, kl_str(text));
        return;
    }
    int decimals = digits - 1 - exponent;
    kl_buf_printf(out, "%.*f", decimals > 0 ? decimals : 0, d);
}

static void print_value(struct kl_buf *out, const struct kl_value *v, int depth)
{
    if (!v || v->kind == KL_NULL) {
        kl_buf_puts(out, KL_STR("<nil>"));
        return;
    }
    if (depth > MAX_DEPTH || out->n > KL_GO_TEXT_MAX_BYTES) {
        kl_buf_puts(out, KL_STR("..."));
        return;
    }
    switch (v->kind) {
    case KL_BOOL:
        kl_buf_puts(out, v->b ? KL_STR("true") : KL_STR("false"));
        break;
    case KL_INT:
    case KL_TIME:
        kl_buf_printf(out, "%" PRId64, v->i);
        break;
    case KL_FLOAT:
        print_double(out, v->d);
        break;
    case KL_ARRAY:
        kl_buf_putc(out, '[');
        for (uint32_t i = 0; i < v->n; i++) {
            if (i)
                kl_buf_putc(out, ' ');
            print_value(out, &v->items[i], depth + 1);
        }
        kl_buf_putc(out, ']');
        break;
    case KL_MAP: {
        // fmt sorts the keys; patches and objects need not have them sorted
        kl_buf_puts(out, KL_STR("map["));
        const struct kl_value *last = NULL;
        for (uint32_t done = 0; done < v->n && out->n <= KL_GO_TEXT_MAX_BYTES; done++) {
            const struct kl_value *best = NULL;
            for (KL_MAP_EACH_KEY(key, v)) {
                if (last && kl_str_cmp(kl_text(key), kl_text(last)) <= 0)
                    continue;
                if (!best || kl_str_cmp(kl_text(key), kl_text(best)) < 0)
                    best = key;
            }
            if (!best)
                break;
            if (last)
                kl_buf_putc(out, ' ');
            kl_buf_puts(out, kl_text(best));
            kl_buf_putc(out, ':');
            print_value(out, best + 1, depth + 1);
            last = best;
        }
        kl_buf_putc(out, ']');
        break;
    }
    default:
        kl_buf_puts(out, kl_text(v));
    }
}

void kl_go_print(struct kl_buf *out, const struct kl_value *v)
{
    print_value(out, v, 0);
}

void kl_go_print_s(struct kl_buf *out, const struct kl_value *v)
{
    if (kl_is(v, KL_STRING)) {
        kl_buf_puts(out, kl_text(v));
    } else if (!v || v->kind == KL_NULL) {
        kl_buf_puts(out, KL_STR("%!s(<nil>)"));
    } else if (v->kind == KL_ARRAY || v->kind == KL_MAP) {
        print_value(out, v, 0);
    } else {
        kl_buf_printf(out, "%%!s(%s=", kl_go_value_type(v));
        print_value(out, v, 0);
        kl_buf_putc(out, ')');
    }
}

const char *kl_go_value_type(const struct kl_value *v)
{
    if (!v)
        return "%!s(<nil>)";
    switch (v->kind) {
    case KL_BOOL:
        return "bool";
    case KL_INT:
        return "int64";
    case KL_FLOAT:
        return "float64";
    case KL_STRING:
        return "string";
    case KL_ARRAY:
        return "[]interface {}";
    case KL_MAP:
        return "map[string]interface {}";
    default:
        return "%!s(<nil>)";
    }
}
