// SPDX-License-Identifier: Apache-2.0
// Functions on strings; positions count code points.
#include "object/cel/lib_int.h"
#include "base/buf.h"

enum { MAX_BYTES = 64 << 20 };

static struct kl_cel_val kept(struct cel_run *r, struct kl_buf *b)
{
    struct kl_str s = b->err ? (struct kl_str){NULL, 0} : kl_arena_dup(cel_arena(r), kl_buf_str(b));
    kl_buf_fini(b);
    return s.p ? cel_str(s) : CEL_NO_MEMORY;
}

static bool starts_at(struct kl_str s, size_t at, struct kl_str sub)
{
    return at <= s.n && s.n - at >= sub.n && (!sub.n || !memcmp(s.p + at, sub.p, sub.n));
}

static bool two_strings(const struct kl_cel_val *args)
{
    return args[0].kind == KL_CEL_STRING && args[1].kind == KL_CEL_STRING;
}

CEL_FN(cel_fn_contains)
{
    if (!two_strings(args))
        return CEL_NO_OVERLOAD;
    return cel_ok(!args[1].n || memmem(args[0].s, args[0].n, args[1].s, args[1].n) != NULL);
}

CEL_FN(cel_fn_ends)
{
    return two_strings(args) ? cel_ok(kl_str_ends(cel_text(args[0]), cel_text(args[1])))
                             : CEL_NO_OVERLOAD;
}

CEL_FN(cel_fn_starts)
{
    return two_strings(args) ? cel_ok(kl_str_starts(cel_text(args[0]), cel_text(args[1])))
                             : CEL_NO_OVERLOAD;
}

// The byte at which code point `point` begins; s.n for the end. False behind it.
static bool byte_of(struct kl_str s, int64_t point, size_t *ret)
{
    size_t i = 0;
    if (point < 0)
        return false;
    for (; point && i < s.n; point--)
        cel_rune(s, &i);
    *ret = i;
    return point == 0;
}

static struct kl_cel_val out_of_range(struct cel_run *r, int64_t i)
{
    return cel_errf(cel_arena(r), "index out of range: %lld", (long long)i);
}

CEL_FN(cel_fn_char_at)
{
    struct kl_str s = cel_text(args[0]);
    size_t from, to;
    if (!byte_of(s, args[1].i, &from))
        return out_of_range(r, args[1].i);
    to = from;
    if (to < s.n)
        cel_rune(s, &to);
    return cel_str((struct kl_str){s.p + from, to - from});
}

CEL_FN(cel_fn_index_of)
{
    struct kl_str s = cel_text(args[0]), sub = cel_text(args[1]);
    int64_t point = n == 3 ? args[2].i : 0;
    size_t i;
    if (!sub.n)
        return cel_i(point);
    if (point < 0)
        return out_of_range(r, point);
    if (!byte_of(s, point, &i))
        return cel_i(-1);
    for (; i < s.n; point++) {
        if (starts_at(s, i, sub))
            return cel_i(point);
        cel_rune(s, &i);
    }
    return cel_i(-1);
}

CEL_FN(cel_fn_last_index_of)
{
    struct kl_str s = cel_text(args[0]), sub = cel_text(args[1]);
    int64_t count = (int64_t)cel_rune_count(s), found = -1, point = 0;
    int64_t from = n == 3 ? args[2].i : count - 1;
    if (!sub.n)
        return cel_i(n == 3 ? args[2].i : count);
    if (n < 3 && s.n < sub.n)
        return cel_i(-1);
    if (from < 0)
        return out_of_range(r, from);
    if (from >= count)
        return cel_i(-1);
    for (size_t i = 0; i < s.n && point <= from; point++) {
        if (starts_at(s, i, sub))
            found = point;
        cel_rune(s, &i);
    }
    return cel_i(found);
}

static struct kl_cel_val change_case(struct cel_run *r, struct kl_cel_val v, char first, char last)
{
    char *p = kl_arena_alloc(cel_arena(r), (size_t)v.n + 1);
    if (!p)
        return CEL_NO_MEMORY;
    for (uint32_t i = 0; i < v.n; i++)
        p[i] = v.s[i] >= first && v.s[i] <= last ? (char)(v.s[i] ^ 32) : v.s[i];
    v.s = p;
    return v;
}

CEL_FN(cel_fn_lower)
{
    return change_case(r, args[0], 'A', 'Z');
}

CEL_FN(cel_fn_upper)
{
    return change_case(r, args[0], 'a', 'z');
}

CEL_FN(cel_fn_replace)
{
    struct kl_str s = cel_text(args[0]), old = cel_text(args[1]), with = cel_text(args[2]);
    int64_t left = n == 4 ? args[3].i : -1;
    struct kl_buf out;
    size_t i = 0;
    kl_buf_init(&out, MAX_BYTES);
    while (left && i <= s.n) {
        const char *at = old.n ? memmem(s.p + i, s.n - i, old.p, old.n) : s.p + i;
        if (!at)
            break;
        size_t begin = (size_t)(at - s.p);
        kl_buf_append(&out, s.p + i, begin - i);
        kl_buf_puts(&out, with);
        left -= left > 0;
        i = begin + old.n;
        if (!old.n) { // before every code point and at the end
            size_t next = i;
            if (i >= s.n)
                break;
            cel_rune(s, &next);
            kl_buf_append(&out, s.p + i, next - i);
            i = next;
        }
    }
    if (i < s.n)
        kl_buf_append(&out, s.p + i, s.n - i);
    return kept(r, &out);
}

CEL_FN(cel_fn_split)
{
    struct kl_str s = cel_text(args[0]), sep = cel_text(args[1]);
    int64_t limit = n == 3 ? args[2].i : -1;
    struct kl_cel_val list = cel_new_growing(cel_arena(r), KL_CEL_LIST);
    struct cel_growing *g = (struct cel_growing *)list.p;
    bool ok = g != NULL;
    size_t i = 0;
    if (limit == 0)
        return cel_list_of(NULL, 0);
    while (ok && (limit < 0 || (int64_t)g->n + 1 < limit)) {
        size_t end = i;
        const char *at = sep.n ? memmem(s.p + i, s.n - i, sep.p, sep.n) : NULL;
        if (sep.n ? !at : i >= s.n)
            break;
        if (sep.n)
            end = (size_t)(at - s.p);
        else
            cel_rune(s, &end);
        if (!sep.n && end >= s.n)
            break;
        ok = cel_push(cel_arena(r), g, cel_str((struct kl_str){s.p + i, end - i}));
        i = end + sep.n;
    }
    if (ok && (sep.n || i < s.n))
        ok = cel_push(cel_arena(r), g, cel_str(kl_str_from(s, i)));
    return ok ? cel_settled(list) : CEL_NO_MEMORY;
}

CEL_FN(cel_fn_substring)
{
    struct kl_str s = cel_text(args[0]);
    size_t from, to = s.n;
    if (n == 3 && args[1].i > args[2].i)
        return cel_errf(cel_arena(r), "invalid substring range. start: %lld, end: %lld",
                        (long long)args[1].i, (long long)args[2].i);
    if (!byte_of(s, args[1].i, &from))
        return out_of_range(r, args[1].i);
    if (n == 3 && !byte_of(s, args[2].i, &to))
        return out_of_range(r, args[2].i);
    return cel_str((struct kl_str){s.p + from, to - from});
}

static bool is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

CEL_FN(cel_fn_trim)
{
    struct kl_str s = cel_text(args[0]);
    size_t from = s.n, to = 0;
    for (size_t i = 0; i < s.n;) {
        size_t begin = i;
        if (is_space(cel_rune(s, &i)))
            continue;
        from = from == s.n ? begin : from;
        to = i;
    }
    return cel_str(to ? (struct kl_str){s.p + from, to - from} : KL_STR(""));
}

CEL_FN(cel_fn_quote)
{
    static const char from[] = "\a\b\f\n\r\t\v\\\"", to[] = "abfnrtv\\\"";
    struct kl_str s = cel_text(args[0]);
    struct kl_buf out;
    kl_buf_init(&out, MAX_BYTES);
    kl_buf_putc(&out, '"');
    for (size_t i = 0; i < s.n;) {
        char utf8[4];
        uint32_t c = cel_rune(s, &i);
        const char *simple = c && c < 0x80 ? strchr(from, (int)c) : NULL;
        if (simple)
            kl_buf_printf(&out, "\\%c", to[simple - from]);
        else
            kl_buf_append(&out, utf8, cel_put_rune(utf8, c));
    }
    kl_buf_putc(&out, '"');
    return kept(r, &out);
}

CEL_FN(cel_fn_join)
{
    struct kl_buf out;
    struct kl_str sep = n == 2 ? cel_text(args[1]) : KL_STR("");
    size_t count = cel_count(args[0]);
    kl_buf_init(&out, MAX_BYTES);
    for (size_t i = 0; i < count; i++) {
        struct kl_cel_val v = cel_get(cel_arena(r), args[0], i);
        if (i)
            kl_buf_puts(&out, sep);
        if (v.kind != KL_CEL_STRING) {
            kl_buf_fini(&out);
            return cel_errf(cel_arena(r), "join: invalid input: %.*s",
                            KL_PRI(cel_show(cel_arena(r), v)));
        }
        kl_buf_puts(&out, cel_text(v));
    }
    return kept(r, &out);
}

CEL_FN(cel_fn_escape_key)
{
    struct kl_buf out;
    kl_buf_init(&out, MAX_BYTES);
    for (uint32_t i = 0; i < args[0].n; i++) {
        char c = args[0].s[i];
        if (c == '/' || c == '~')
            kl_buf_puts(&out, c == '/' ? KL_STR("~1") : KL_STR("~0"));
        else
            kl_buf_putc(&out, c);
    }
    return kept(r, &out);
}
