// SPDX-License-Identifier: Apache-2.0
// Character references of attribute values (WHATWG HTML 13.2.5.72 ff., as x/net/html reads them).
#include "apiserver/proxy/html_int.h"

// What numbers of Windows-1252 mean: 0x80 to 0x9f.
static const uint16_t windows[] = {0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021,
                                   0x2c6,  0x2030, 0x160,  0x2039, 0x152,  0x8d,   0x17d,  0x8f,
                                   0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
                                   0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e,  0x178};

static void put_rune(struct kl_buf *out, uint32_t x)
{
    if (x < 0x80) {
        kl_buf_putc(out, (char)x);
    } else if (x < 0x800) {
        kl_buf_putc(out, (char)(0xc0 | x >> 6));
        kl_buf_putc(out, (char)(0x80 | (x & 63)));
    } else if (x < 0x10000) {
        kl_buf_putc(out, (char)(0xe0 | x >> 12));
        kl_buf_putc(out, (char)(0x80 | (x >> 6 & 63)));
        kl_buf_putc(out, (char)(0x80 | (x & 63)));
    } else {
        kl_buf_putc(out, (char)(0xf0 | x >> 18));
        kl_buf_putc(out, (char)(0x80 | (x >> 12 & 63)));
        kl_buf_putc(out, (char)(0x80 | (x >> 6 & 63)));
        kl_buf_putc(out, (char)(0x80 | (x & 63)));
    }
}

// "&#..." at the beginning of s: how much of it is read; 1: an ampersand and no more.
static size_t put_number(struct kl_str s, struct kl_buf *out)
{
    size_t i = 2;
    uint32_t x = 0; // wraps around, as a rune of Go does
    if (s.n > 3 && (s.p[i] == 'x' || s.p[i] == 'X'))
        i++;
    bool hex = i == 3;
    while (s.n > 3 && i < s.n) {
        char c = s.p[i++];
        if (c >= '0' && c <= '9')
            x = (hex ? 16 : 10) * x + (uint32_t)(c - '0');
        else if (hex && c >= 'a' && c <= 'f')
            x = 16 * x + (uint32_t)(c - 'a') + 10;
        else if (hex && c >= 'A' && c <= 'F')
            x = 16 * x + (uint32_t)(c - 'A') + 10;
        else {
            if (c != ';')
                i--;
            break;
        }
    }
    if (s.n <= 3 || i <= 3) {
        kl_buf_putc(out, '&');
        return 1;
    }
    if (x >= 0x80 && x <= 0x9f)
        x = windows[x - 0x80];
    else if (!x || (x >= 0xd800 && x <= 0xdfff) || x > 0x10ffff)
        x = 0xfffd;
    put_rune(out, x);
    return i;
}

// What the name stands for, or NULL.
static const char *named(struct kl_str name)
{
    unsigned lo = 0, hi = kl_html_nentities;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const char *at = kl_html_entities + kl_html_entity_at[mid];
        int c = kl_str_cmp(name, kl_str(at));
        if (!c)
            return at + name.n + 1;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

static size_t put_reference(struct kl_str s, struct kl_buf *out)
{
    size_t i = 1;
    if (s.n > 1 && s.p[1] == '#')
        return put_number(s, out);
    while (i < s.n) {
        char c = s.p[i++];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
            continue;
        if (c != ';')
            i--;
        break;
    }
    struct kl_str name = {s.p + 1, i - 1};
    bool open = name.n && name.p[name.n - 1] != ';';
    // A query's next parameter may be called as a reference is: "?a=1&copy=2".
    const char *text = !name.n || (open && i < s.n && s.p[i] == '=') ? NULL : named(name);
    if (text)
        kl_buf_puts(out, kl_str(text));
    else
        kl_buf_append(out, s.p, i);
    return i;
}

static void put_references(struct kl_str s, struct kl_buf *out)
{
    while (s.n) {
        ptrdiff_t at = kl_str_chr(s, '&');
        size_t plain = at < 0 ? s.n : (size_t)at;
        kl_buf_append(out, s.p, plain);
        s = kl_str_from(s, plain);
        if (s.n)
            s = kl_str_from(s, put_reference(s, out));
    }
}

void kl_html_unescape(struct kl_str s, struct kl_buf *out)
{
    struct kl_buf plain;
    if (kl_str_chr(s, '\r') < 0) {
        put_references(s, out);
        return;
    }
    kl_buf_init(&plain, s.n + 1);
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\r' && i + 1 < s.n && s.p[i + 1] == '\n')
            continue;
        kl_buf_putc(&plain, s.p[i] == '\r' ? '\n' : s.p[i]);
    }
    put_references(kl_buf_str(&plain), out);
    out->err = out->err ? out->err : plain.err;
    kl_buf_fini(&plain);
}

void kl_html_escape(struct kl_str s, struct kl_buf *out)
{
    for (size_t i = 0; i < s.n; i++) {
        switch (s.p[i]) {
        case '&':
            kl_buf_puts(out, KL_STR("&amp;"));
            break;
        case '\'':
            kl_buf_puts(out, KL_STR("&#39;"));
            break;
        case '<':
            kl_buf_puts(out, KL_STR("&lt;"));
            break;
        case '>':
            kl_buf_puts(out, KL_STR("&gt;"));
            break;
        case '"':
            kl_buf_puts(out, KL_STR("&#34;"));
            break;
        case '\r':
            kl_buf_puts(out, KL_STR("&#13;"));
            break;
        default:
            kl_buf_putc(out, s.p[i]);
        }
    }
}
