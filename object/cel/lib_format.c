// SPDX-License-Identifier: Apache-2.0
// string.format(list): at run time, and its check of literals at compile time.
#include "object/cel/env_int.h"
#include "base/buf.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_BYTES = 64 << 20, MAX_PRECISION = 10000 };

// One clause: %[.precision]letter
struct clause {
    char letter;
    int64_t precision; // -1: none
};

// Bytes read behind the percent sign, or 0 with *ret_error.
static size_t parse_clause(struct kl_arena *a, struct kl_str s, struct clause *ret,
                           struct kl_str *ret_error)
{
    size_t i = 0;
    *ret = (struct clause){.precision = -1};
    if (s.p[i] == '.') {
        i++;
        size_t from = i;
        while (i < s.n && s.p[i] >= '0' && s.p[i] <= '9')
            i++;
        struct kl_str digits = {s.p + from, i - from};
        if (i >= s.n) {
            *ret_error = KL_STR("could not parse formatting clause: error while parsing precision: "
                                "could not find end of precision specifier");
            return 0;
        }
        if (!kl_str_to_i64(digits, &ret->precision)) {
            *ret_error = kl_arena_printf(
                a,
                "could not parse formatting clause: error while parsing precision: error while "
                "converting precision to integer: strconv.Atoi: parsing \"%.*s\": %s",
                KL_PRI(digits), digits.n ? "value out of range" : "invalid syntax");
            return 0;
        }
    }
    ret->letter = s.p[i++];
    if (!strchr("sdfebxXo", ret->letter)) {
        *ret_error = kl_arena_printf(
            a, "could not parse formatting clause: unrecognized formatting clause \"%c\"",
            ret->letter);
        return 0;
    }
    return i;
}

static const char *wrong_type(char letter)
{
    switch (letter) {
    case 'd':
        return "decimal clause can only be used on integers, was given ";
    case 'f':
        return "fixed-point clause can only be used on doubles, was given ";
    case 'e':
        return "scientific clause can only be used on doubles, was given ";
    case 'b':
        return "only integers and bools can be formatted as binary, was given ";
    case 'o':
        return "octal clause can only be used on integers, was given ";
    case 's':
        return "string clause can only be used on strings, bools, bytes, ints, doubles, maps, "
               "lists, types, durations, and timestamps, was given ";
    default:
        return "only integers, byte buffers, and strings can be formatted as hex, was given ";
    }
}

// ---- at run time
struct formatter {
    struct kl_arena *arena;
    struct kl_buf out;
    struct kl_str error;
};

static bool fail(struct formatter *f, char letter, struct kl_str type)
{
    f->error = kl_arena_printf(f->arena, "error during formatting: %s%.*s", wrong_type(letter),
                               KL_PRI(type));
    return false;
}

static bool put_string(struct formatter *f, struct kl_cel_val v, int depth);

// A member of a list or a map: quoted where CEL quotes.
static bool put_member(struct formatter *f, struct kl_cel_val v, int depth)
{
    struct kl_str s;
    switch (v.kind) {
    case KL_CEL_STRING:
        kl_buf_puts(&f->out, cel_quote(f->arena, cel_text(v)));
        return true;
    case KL_CEL_BYTES:
        kl_buf_putc(&f->out, 'b');
        kl_buf_puts(&f->out, cel_quote(f->arena, cel_text(v)));
        return true;
    case KL_CEL_DOUBLE:
        if (isnan(v.d) || isinf(v.d))
            kl_buf_puts(&f->out, isnan(v.d) ? KL_STR("\"NaN\"")
                                 : v.d < 0  ? KL_STR("\"-Inf\"")
                                            : KL_STR("\"+Inf\""));
        else
            kl_buf_printf(&f->out, "%.6f", v.d);
        return true;
    case KL_CEL_TIMESTAMP:
    case KL_CEL_DURATION:
        s = cel_text(cel_convert(f->arena, v, T_STRING));
        kl_buf_printf(&f->out, "%s(\"%.*s\")",
                      v.kind == KL_CEL_TIMESTAMP ? "timestamp" : "duration", KL_PRI(s));
        return true;
    case KL_CEL_INT:
    case KL_CEL_UINT:
    case KL_CEL_BOOL:
    case KL_CEL_NULL:
    case KL_CEL_TYPE:
    case KL_CEL_LIST:
    case KL_CEL_MAP:
        return put_string(f, v, depth);
    default:
        f->error =
            kl_arena_printf(f->arena, "error during formatting: no formatting function for %.*s",
                            KL_PRI(cel_kind_name(v)));
        return false;
    }
}

static bool put_list(struct formatter *f, struct kl_cel_val v, int depth)
{
    size_t n = cel_count(v);
    kl_buf_putc(&f->out, '[');
    for (size_t i = 0; i < n; i++) {
        kl_buf_puts(&f->out, i ? KL_STR(", ") : KL_STR(""));
        if (!put_member(f, cel_get(f->arena, v, i), depth))
            return false;
    }
    kl_buf_putc(&f->out, ']');
    return true;
}

struct pair {
    struct kl_str key, value;
};

static int by_key(const void *x, const void *y)
{
    return kl_str_cmp(((const struct pair *)x)->key, ((const struct pair *)y)->key);
}

static bool member_text(struct formatter *f, struct kl_cel_val v, int depth, struct kl_str *ret)
{
    struct formatter part = {.arena = f->arena};
    kl_buf_init(&part.out, MAX_BYTES);
    bool ok = put_member(&part, v, depth);
    *ret = kl_arena_dup(f->arena, kl_buf_str(&part.out));
    kl_buf_fini(&part.out);
    f->error = part.error;
    return ok && ret->p;
}

static bool put_map(struct formatter *f, struct kl_cel_val v, int depth)
{
    size_t n = cel_count(v);
    struct pair *pairs = kl_arena_alloc(f->arena, (n + 1) * sizeof *pairs);
    for (size_t i = 0; pairs && i < n; i++) {
        struct kl_cel_val key, value;
        kl_cel_entry(f->arena, v, i, &key, &value);
        if (key.kind != KL_CEL_STRING && key.kind != KL_CEL_BOOL && key.kind != KL_CEL_INT &&
            key.kind != KL_CEL_UINT) {
            f->error = kl_arena_printf(
                f->arena,
                "error during formatting: no formatting function for map key of type %.*s",
                KL_PRI(cel_kind_name(key)));
            return false;
        }
        if (!member_text(f, key, depth, &pairs[i].key) ||
            !member_text(f, value, depth, &pairs[i].value))
            return false;
    }
    if (!pairs)
        return false;
    qsort(pairs, n, sizeof *pairs, by_key);
    kl_buf_putc(&f->out, '{');
    for (size_t i = 0; i < n; i++)
        kl_buf_printf(&f->out, "%s%.*s:%.*s", i ? ", " : "", KL_PRI(pairs[i].key),
                      KL_PRI(pairs[i].value));
    kl_buf_putc(&f->out, '}');
    return true;
}

static bool put_string(struct formatter *f, struct kl_cel_val v, int depth)
{
    if (depth > 200)
        return false;
    if (v.kind == KL_CEL_LIST)
        return put_list(f, v, depth + 1);
    if (v.kind == KL_CEL_MAP)
        return put_map(f, v, depth + 1);
    if (v.kind > KL_CEL_TYPE)
        return fail(f, 's', cel_kind_name(v));
    struct kl_cel_val s = cel_convert(f->arena, v, T_STRING);
    if (cel_is_error(s)) {
        f->error = kl_arena_printf(
            f->arena, "error during formatting: could not convert argument %.*s to string",
            KL_PRI(cel_quote(f->arena, cel_text(s))));
        return false;
    }
    kl_buf_puts(&f->out, cel_text(s));
    return true;
}

static struct kl_str special_text(double d)
{
    return isnan(d) ? KL_STR("NaN") : d < 0 ? KL_STR("-∞") : KL_STR("∞");
}

// en-US: 1.500000×10⁰⁴. Upstream passes the precision as the width.
static bool put_scientific(struct formatter *f, double d, int width)
{
    static const char *const raised[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    struct kl_buf out;
    char text[64];
    kl_buf_init(&out, 256);
    if (isnan(d) || isinf(d)) {
        kl_buf_puts(&out, special_text(d));
    } else {
        snprintf(text, sizeof text, "%e", d);
        char *e = strchr(text, 'e');
        kl_buf_append(&out, text, (size_t)(e - text));
        kl_buf_puts(&out, KL_STR("×10"));
        for (const char *p = e + 1; *p; p++) {
            if (*p == '-')
                kl_buf_puts(&out, KL_STR("⁻"));
            else if (*p >= '0' && *p <= '9')
                kl_buf_puts(&out, kl_str(raised[*p - '0']));
        }
    }
    for (size_t n = cel_rune_count(kl_buf_str(&out)); n < (size_t)width; n++)
        kl_buf_putc(&f->out, ' ');
    kl_buf_puts(&f->out, kl_buf_str(&out));
    kl_buf_fini(&out);
    return true;
}

static bool put_double(struct formatter *f, struct kl_cel_val v, struct clause c)
{
    struct kl_str s = cel_text(v);
    bool special = v.kind == KL_CEL_STRING && (kl_str_eqz(s, "NaN") || kl_str_eqz(s, "Infinity") ||
                                               kl_str_eqz(s, "-Infinity"));
    if (v.kind != KL_CEL_DOUBLE && !special)
        return fail(f, c.letter, cel_kind_name(v));
    double d = special ? cel_convert(f->arena, v, T_DOUBLE).d : v.d;
    int precision = c.precision < 0               ? 6
                    : c.precision > MAX_PRECISION ? MAX_PRECISION
                                                  : (int)c.precision;
    if (c.letter == 'e')
        return put_scientific(f, d, precision);
    if (isnan(d) || isinf(d)) {
        kl_buf_puts(&f->out, special_text(d));
        return true;
    }
    char text[MAX_PRECISION + 400];
    int n = snprintf(text, sizeof text, "%.*f", precision, d);
    // Thousands are grouped.
    int first = text[0] == '-', whole = n - (precision ? precision + 1 : 0) - first;
    kl_buf_append(&f->out, text, (size_t)first);
    for (int i = 0; i < whole; i++) {
        kl_buf_putc(&f->out, text[first + i]);
        if ((whole - i) % 3 == 1 && i + 1 < whole)
            kl_buf_putc(&f->out, ',');
    }
    kl_buf_puts(&f->out, kl_str(text + first + whole));
    return true;
}

static bool put_integer(struct formatter *f, struct kl_cel_val v, char letter)
{
    bool negative = v.kind == KL_CEL_INT && v.i < 0;
    uint64_t u = negative ? -(uint64_t)v.i : v.u;
    char text[72];
    size_t n = sizeof text;
    unsigned base = letter == 'b' ? 2 : letter == 'o' ? 8 : letter == 'd' ? 10 : 16;
    const char *digits = letter == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    if (v.kind != KL_CEL_INT && v.kind != KL_CEL_UINT)
        return fail(f, letter, cel_kind_name(v));
    do
        text[--n] = digits[u % base];
    while (u /= base);
    if (negative)
        text[--n] = '-';
    return kl_buf_append(&f->out, text + n, sizeof text - n) == 0;
}

static bool put_clause(struct formatter *f, struct kl_cel_val v, struct clause c)
{
    switch (c.letter) {
    case 's':
        return put_string(f, v, 0);
    case 'f':
    case 'e':
        return put_double(f, v, c);
    case 'b':
        if (v.kind == KL_CEL_BOOL)
            return kl_buf_putc(&f->out, v.b ? '1' : '0') == 0;
        return put_integer(f, v, c.letter);
    case 'x':
    case 'X':
        if (v.kind != KL_CEL_STRING && v.kind != KL_CEL_BYTES)
            return put_integer(f, v, c.letter);
        for (uint32_t i = 0; i < v.n; i++)
            kl_buf_printf(&f->out, c.letter == 'x' ? "%02x" : "%02X", (unsigned char)v.s[i]);
        return true;
    default:
        return put_integer(f, v, c.letter);
    }
}

CEL_FN(cel_fn_format)
{
    struct formatter f = {.arena = cel_arena(r)};
    struct kl_str s = cel_text(args[0]);
    size_t next = 0, count = cel_count(args[1]);
    bool ok = true;
    kl_buf_init(&f.out, MAX_BYTES);
    for (size_t i = 0; ok && i < s.n;) {
        struct clause c;
        if (s.p[i] != '%' || (i + 1 < s.n && s.p[i + 1] == '%')) {
            kl_buf_putc(&f.out, s.p[i]);
            i += s.p[i] == '%' ? 2 : 1;
            continue;
        }
        size_t read = 0;
        if (next >= count)
            f.error = kl_arena_printf(f.arena, "index %zu out of range", next);
        else if (i + 1 >= s.n)
            f.error = KL_STR("unexpected end of string");
        else
            read = parse_clause(f.arena, kl_str_from(s, i + 1), &c, &f.error);
        ok = read && put_clause(&f, cel_get(f.arena, args[1], next++), c);
        i += read + 1;
    }
    struct kl_str text =
        ok && !f.out.err ? kl_arena_dup(f.arena, kl_buf_str(&f.out)) : (struct kl_str){NULL, 0};
    kl_buf_fini(&f.out);
    if (text.p)
        return cel_str(text);
    return f.error.p ? kl_cel_error(f.error) : CEL_NO_MEMORY;
}

// ---- at compile time
static bool is_one_of(const struct cel_type *t, const char *kinds)
{
    static const char letters[] = {
        [T_LIST] = 'l',      [T_MAP] = 'm',      [T_INT] = 'i',   [T_UINT] = 'u', [T_DOUBLE] = 'd',
        [T_BOOL] = 'b',      [T_STRING] = 's',   [T_BYTES] = 'y', [T_NULL] = 'n', [T_TYPE] = 't',
        [T_TIMESTAMP] = 'T', [T_DURATION] = 'D', [T_UINT + 1] = 0};
    return t->kind == T_DYN || (letters[t->kind] && strchr(kinds, letters[t->kind]));
}

// The node whose type %s cannot show, or NULL.
static const struct cel_expr *not_printable(const struct cel_expr *e)
{
    const struct cel_expr *bad = NULL;
    if (!is_one_of(e->type, "lmiudbsyntTD"))
        return e;
    if (e->kind == E_LIST)
        for (uint32_t i = 0; !bad && i < e->n; i++)
            bad = not_printable(e->args[i]);
    if (e->kind == E_MAP)
        for (uint32_t i = 0; !bad && i < e->n; i++) {
            bad = not_printable(e->entries[i].key);
            bad = bad ? bad : not_printable(e->entries[i].value);
        }
    return bad;
}

static const struct cel_expr *bad_argument(const struct cel_expr *arg, char letter)
{
    const char *kinds = letter == 'd' || letter == 'o'   ? "iu"
                        : letter == 'f' || letter == 'e' ? "ds"
                        : letter == 'b'                  ? "iub"
                                                         : "iusy";
    if (letter == 's')
        return not_printable(arg);
    return is_one_of(arg->type, kinds) ? NULL : arg;
}

void cel_validate_format(struct kl_arena *a, struct cel_expr *call, struct cel_issues *issues)
{
    const struct cel_expr *list = call->args[0];
    struct kl_str s = cel_text(call->target->lit);
    uint32_t used = 0;
    for (size_t i = 0; i < s.n;) {
        struct clause c;
        struct kl_str error = KL_STR("");
        if (s.p[i] != '%' || (i + 1 < s.n && s.p[i + 1] == '%')) {
            i += s.p[i] == '%' ? 2 : 1;
            continue;
        }
        size_t read = 0;
        if (i + 1 >= s.n)
            error = KL_STR("unexpected end of string");
        else if (used >= list->n)
            error = kl_arena_printf(a, "index %u out of range", used);
        else
            read = parse_clause(a, kl_str_from(s, i + 1), &c, &error);
        if (!read) {
            cel_issue_at(issues, call->offset, "%.*s", KL_PRI(error));
            return;
        }
        const struct cel_expr *bad = bad_argument(list->args[used++], c.letter);
        if (bad) {
            cel_issue_at(issues, bad->offset, "error during formatting: %s%.*s",
                         wrong_type(c.letter), KL_PRI(bad->type->name));
            return;
        }
        i += read + 1;
    }
    if (list->n > used)
        cel_issue_at(issues, call->offset,
                     "too many arguments supplied to string.format (expected %u, got %u)", used,
                     list->n);
}
