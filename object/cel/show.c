// SPDX-License-Identifier: Apache-2.0
// Values as text, as Go prints them: numbers, quoted strings, times, whole values.
#include "object/cel/value_int.h"
#include "object/timestamp.h"
#include "base/buf.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// The shortest decimal digits that read back as d, without sign and point; the point stands behind
// *ret_point of them.
static size_t shortest(double d, char digits[32], int *ret_point)
{
    char text[64];
    for (int prec = 0; prec < 17; prec++) {
        snprintf(text, sizeof text, "%.*e", prec, d);
        if (strtod(text, NULL) == d)
            break;
    }
    size_t n = 0;
    const char *p = text;
    for (; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            digits[n++] = *p;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    *ret_point = *p == 'e' ? (int)strtol(p + 1, NULL, 10) + 1 : 1;
    return n;
}

static const char *special(double d)
{
    return isnan(d) ? "NaN" : isinf(d) ? (d < 0 ? "-Inf" : "+Inf") : NULL;
}

static struct kl_str fixed(struct kl_arena *a, double d)
{
    char digits[32], text[400];
    int point = 1;
    size_t n = 0, nd = 1;
    digits[0] = '0';
    if (signbit(d))
        text[n++] = '-';
    if (d != 0)
        nd = shortest(d, digits, &point);
    if (point <= 0)
        text[n++] = '0';
    for (int i = 0; i < point; i++)
        text[n++] = (size_t)i < nd ? digits[i] : '0';
    if (point < (int)nd) {
        text[n++] = '.';
        for (int i = point; i < (int)nd; i++)
            text[n++] = i < 0 ? '0' : digits[i];
    }
    return kl_arena_dup(a, (struct kl_str){text, n});
}

struct kl_str cel_double_f(struct kl_arena *a, double d)
{
    const char *s = special(d);
    return s ? kl_str(s) : fixed(a, d);
}

struct kl_str cel_double_g(struct kl_arena *a, double d)
{
    char digits[32];
    int point;
    const char *s = special(d);
    if (s)
        return kl_str(s);
    size_t n = shortest(d, digits, &point);
    int exp = point - 1;
    if (d == 0 || (exp >= -4 && exp < 6))
        return fixed(a, d);
    return kl_arena_printf(a, "%s%c%s%.*se%c%02d", signbit(d) ? "-" : "", digits[0],
                           n > 1 ? "." : "", (int)n - 1, digits + 1, exp < 0 ? '-' : '+', abs(exp));
}

bool cel_parse_double(struct kl_str s, double *ret)
{
    static const char *const words[] = {"inf", "infinity", "nan"};
    char text[512], *end;
    struct kl_str bare = s;
    size_t n = 0;
    if (bare.n && (bare.p[0] == '+' || bare.p[0] == '-'))
        bare = kl_str_from(bare, 1);
    for (size_t i = 0; i < KL_COUNT(words); i++)
        if (kl_str_ieq(bare, kl_str(words[i]))) {
            if (i == 2 && bare.n != s.n)
                return false;
            *ret = i == 2 ? NAN : s.p[0] == '-' ? -INFINITY : INFINITY;
            return true;
        }
    if (!bare.n || bare.n >= sizeof text - 1)
        return false;
    if (s.p[0] == '-')
        text[n++] = '-';
    bool hex = bare.n > 2 && bare.p[0] == '0' && (bare.p[1] | 32) == 'x', power = false;
    for (size_t i = 0; i < bare.n; i++) {
        char c = bare.p[i];
        bool ok =
            (c >= '0' && c <= '9') || strchr(".eE+-", c) || (hex && strchr("xXpPabcdfABCDF", c));
        if (!ok || !c)
            return false;
        power |= (c | 32) == 'p';
        text[n++] = c;
    }
    text[n] = 0;
    if (hex && !power)
        return false;
    *ret = strtod(text, &end);
    return end == text + n && end != text && !isinf(*ret);
}

// What Go's %q shows as it is: letters, marks, numbers, punctuation, symbols. Unassigned code
// points of the planes in use are taken for printable.
static bool is_printable(uint32_t r)
{
    static const uint32_t hidden[][2] = {
        {0x80, 0xa0},       {0xad, 0xad},       {0x600, 0x605},     {0x61c, 0x61c},
        {0x6dd, 0x6dd},     {0x70f, 0x70f},     {0x1680, 0x1680},   {0x180e, 0x180e},
        {0x2000, 0x200f},   {0x2028, 0x202f},   {0x205f, 0x206f},   {0x3000, 0x3000},
        {0xd800, 0xf8ff},   {0xfeff, 0xfeff},   {0xfff0, 0xfffb},   {0xfffe, 0xffff},
        {0x1d173, 0x1d17a}, {0x323b0, 0xe00ff}, {0xe01f0, 0x10ffff}};
    for (size_t i = 0; i < KL_COUNT(hidden); i++)
        if (r >= hidden[i][0] && r <= hidden[i][1])
            return false;
    return true;
}

struct kl_str cel_quote(struct kl_arena *a, struct kl_str s)
{
    static const char from[] = "\a\b\f\n\r\t\v\\\"", to[] = "abfnrtv\\\"";
    struct kl_buf out;
    kl_buf_init(&out, 64 << 20);
    kl_buf_putc(&out, '"');
    for (size_t i = 0; i < s.n;) {
        size_t begin = i;
        uint32_t r = cel_rune(s, &i);
        const char *simple = r && r < 0x80 ? strchr(from, (int)r) : NULL;
        if (simple)
            kl_buf_printf(&out, "\\%c", to[simple - from]);
        else if (r == 0xfffd && i - begin == 1)
            kl_buf_printf(&out, "\\x%02x", (unsigned char)s.p[begin]);
        else if (r < 0x20 || r == 0x7f)
            kl_buf_printf(&out, "\\x%02x", r);
        else if (!is_printable(r))
            kl_buf_printf(&out, r > 0xffff ? "\\U%08x" : "\\u%04x", r);
        else
            kl_buf_append(&out, s.p + begin, i - begin);
    }
    kl_buf_putc(&out, '"');
    struct kl_str text = kl_arena_dup(a, kl_buf_str(&out));
    kl_buf_fini(&out);
    return text.p ? text : KL_STR("");
}

// ---- times
static bool two_digits(const char *p, int *ret)
{
    if (p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9')
        return false;
    *ret = (p[0] - '0') * 10 + p[1] - '0';
    return true;
}

bool cel_time_parse(struct kl_str s, struct kl_cel_val *ret)
{
    int64_t us;
    int32_t offset = 0;
    uint32_t nanos = 0, scale = 100000000;
    int h, m;
    if (kl_time_parse(s, &us, NULL))
        return false;
    for (size_t i = 11; i < s.n; i++)
        if (s.p[i] == '.' || s.p[i] == ',') {
            for (i++; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++, scale /= 10)
                nanos += (uint32_t)(s.p[i] - '0') * scale;
            break;
        }
    if (s.n > 6 && s.p[s.n - 1] != 'Z' && two_digits(s.p + s.n - 5, &h) &&
        two_digits(s.p + s.n - 2, &m))
        offset = (h * 3600 + m * 60) * (s.p[s.n - 6] == '-' ? -1 : 1);
    int64_t seconds = us / 1000000 - (us % 1000000 < 0);
    *ret =
        (struct kl_cel_val){.kind = KL_CEL_TIMESTAMP, .i = seconds, .n = nanos, .offset = offset};
    return true;
}

struct kl_str cel_time_text(struct kl_arena *a, struct kl_cel_val v)
{
    char text[KL_TIME_TEXT], nanos[16] = "", zone[16] = "Z";
    size_t n = kl_time_text((v.i + v.offset) * 1000000, text);
    if (v.n) {
        size_t len = (size_t)snprintf(nanos, sizeof nanos, ".%09u", v.n);
        while (len > 1 && len < sizeof nanos && nanos[len - 1] == '0')
            nanos[--len] = 0;
    }
    if (v.offset) {
        int minutes = abs(v.offset) / 60;
        snprintf(zone, sizeof zone, "%c%02d:%02d", v.offset < 0 ? '-' : '+', minutes / 60,
                 minutes % 60);
    }
    return kl_arena_printf(a, "%.*s%s%s", (int)n - 1, text, nanos, zone);
}

// ---- whole values
struct printer {
    struct kl_arena *arena;
    struct kl_buf out;
    bool cel; // as CEL text, else as %v
    int depth;
};

static void put(struct printer *p, struct kl_cel_val v);

struct entry {
    struct kl_str key, value;
};

static int by_key(const void *x, const void *y)
{
    return kl_str_cmp(((const struct entry *)x)->key, ((const struct entry *)y)->key);
}

static void put_map(struct printer *p, struct kl_cel_val v)
{
    size_t n = cel_count(v);
    struct entry *entries = kl_arena_alloc(p->arena, (n + 1) * sizeof *entries);
    for (size_t i = 0; entries && i < n; i++) {
        struct kl_cel_val k, val;
        kl_cel_entry(p->arena, v, i, &k, &val);
        entries[i].key = p->cel ? kl_cel_format(p->arena, k) : cel_show(p->arena, k);
        entries[i].value = p->cel ? kl_cel_format(p->arena, val) : cel_show(p->arena, val);
    }
    if (!entries)
        return;
    qsort(entries, n, sizeof *entries, by_key);
    kl_buf_putc(&p->out, '{');
    for (size_t i = 0; i < n; i++)
        kl_buf_printf(&p->out, "%s%.*s: %.*s", i ? ", " : "", KL_PRI(entries[i].key),
                      KL_PRI(entries[i].value));
    kl_buf_putc(&p->out, '}');
}

static void put_double(struct printer *p, double d)
{
    if (!p->cel) {
        kl_buf_puts(&p->out, cel_double_g(p->arena, d));
        return;
    }
    struct kl_str s = cel_double_f(p->arena, d);
    if (isnan(d) || isinf(d))
        kl_buf_printf(&p->out, "double(\"%s\")",
                      isnan(d) ? "NaN"
                      : d < 0  ? "-Infinity"
                               : "Infinity");
    else
        kl_buf_printf(&p->out, "%.*s%s", KL_PRI(s), kl_str_chr(s, '.') < 0 ? ".0" : "");
}

static void put_bytes(struct printer *p, struct kl_str s)
{
    if (p->cel)
        kl_buf_puts(&p->out, KL_STR("b\""));
    else
        kl_buf_putc(&p->out, '[');
    for (size_t i = 0; i < s.n; i++)
        kl_buf_printf(&p->out, p->cel ? "\\%03o" : i ? " %u" : "%u", (unsigned char)s.p[i]);
    kl_buf_putc(&p->out, p->cel ? '"' : ']');
}

static void put(struct printer *p, struct kl_cel_val v)
{
    struct kl_str s;
    char text[KL_TIME_TEXT];
    if (++p->depth > 200) {
        p->depth--;
        return;
    }
    switch (v.kind) {
    case KL_CEL_STRING:
        kl_buf_puts(&p->out, p->cel ? cel_quote(p->arena, cel_text(v)) : cel_text(v));
        break;
    case KL_CEL_BYTES:
        put_bytes(p, cel_text(v));
        break;
    case KL_CEL_UINT:
        kl_buf_printf(&p->out, "%llu%s", (unsigned long long)v.u, p->cel ? "u" : "");
        break;
    case KL_CEL_DOUBLE:
        put_double(p, v.d);
        break;
    case KL_CEL_DURATION:
        s = cel_text(cel_convert(p->arena, v, T_STRING));
        if (p->cel)
            kl_buf_printf(&p->out, "duration(\"%.*s\")", KL_PRI(s));
        else
            kl_buf_append(&p->out, text, kl_duration_text(v.i, text));
        break;
    case KL_CEL_TIMESTAMP:
        v.offset = 0;
        s = cel_time_text(p->arena, v);
        kl_buf_printf(&p->out, p->cel ? "timestamp(\"%.*s\")" : "%.*s", KL_PRI(s));
        break;
    case KL_CEL_LIST:
        kl_buf_putc(&p->out, '[');
        for (size_t i = 0; i < cel_count(v); i++) {
            kl_buf_puts(&p->out, i ? KL_STR(", ") : KL_STR(""));
            put(p, cel_get(p->arena, v, i));
        }
        kl_buf_putc(&p->out, ']');
        break;
    case KL_CEL_MAP:
        put_map(p, v);
        break;
    case KL_CEL_TYPE:
    case KL_CEL_ERROR:
        kl_buf_puts(&p->out, cel_text(v));
        break;
    case KL_CEL_OPTIONAL:
        if (!v.p) {
            kl_buf_puts(&p->out, KL_STR("optional.none()"));
            break;
        }
        kl_buf_puts(&p->out, p->cel ? KL_STR("optional.of(") : KL_STR("optional("));
        put(p, *(const struct kl_cel_val *)v.p);
        kl_buf_putc(&p->out, ')');
        break;
    case KL_CEL_NULL:
        kl_buf_puts(&p->out, KL_STR("null"));
        break;
    case KL_CEL_INT:
    case KL_CEL_BOOL:
        kl_buf_puts(&p->out, cel_text(cel_convert(p->arena, v, T_STRING)));
        break;
    case KL_CEL_IP:
    case KL_CEL_CIDR:
        kl_buf_puts(&p->out, cel_ip_text(p->arena, v.p, v.kind == KL_CEL_CIDR));
        break;
    case KL_CEL_URL:
        kl_buf_puts(&p->out, ((const struct cel_url *)v.p)->whole);
        break;
    case KL_CEL_QUANTITY: {
        char q[KL_QUANTITY_TEXT];
        size_t n = kl_quantity_text(&((const struct cel_quantity *)v.p)->q, q);
        kl_buf_append(&p->out, q, n);
        break;
    }
    case KL_CEL_SEMVER: {
        const struct cel_semver *sv = v.p;
        kl_buf_printf(&p->out, "%llu.%llu.%llu%s%.*s%s%.*s", (unsigned long long)sv->part[0],
                      (unsigned long long)sv->part[1], (unsigned long long)sv->part[2],
                      sv->pre.n ? "-" : "", KL_PRI(sv->pre), sv->build.n ? "+" : "",
                      KL_PRI(sv->build));
        break;
    }
    default:
        kl_buf_puts(&p->out, cel_kind_name(v));
        break;
    }
    p->depth--;
}

static struct kl_str shown(struct kl_arena *a, struct kl_cel_val v, bool cel)
{
    struct printer p = {.arena = a, .cel = cel};
    kl_buf_init(&p.out, 64 << 20);
    put(&p, v);
    struct kl_str text = kl_arena_dup(a, kl_buf_str(&p.out));
    kl_buf_fini(&p.out);
    return text.p ? text : KL_STR("");
}

struct kl_str kl_cel_format(struct kl_arena *a, struct kl_cel_val v)
{
    return shown(a, v, true);
}

struct kl_str cel_show(struct kl_arena *a, struct kl_cel_val v)
{
    return shown(a, v, false);
}
