// SPDX-License-Identifier: Apache-2.0
// Text of string and bytes literals: prefixes, quotes, escapes, line ends.
#include "object/cel/ast_int.h"
#include "object/cel/value_int.h"

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool is_code_point(uint32_t r)
{
    return r < 0xd800 || (r > 0xdfff && r <= 0x10ffff);
}

// Digits behind \x, \u, \U or an octal escape. NULL or what is wrong.
static const char *numeric_escape(struct kl_str s, size_t *i, bool bytes, uint32_t *ret)
{
    char c = s.p[*i];
    bool octal = c >= '0' && c <= '3';
    int n = octal ? 3 : c == 'x' || c == 'X' ? 2 : c == 'u' ? 4 : 8;
    const char *bad =
        octal ? "unable to unescape octal sequence in string" : "unable to unescape string";
    if (bytes && (c == 'u' || c == 'U'))
        return bad;
    if (!octal)
        (*i)++;
    if (s.n - *i < (size_t)n)
        return bad;
    uint32_t v = 0;
    for (int k = 0; k < n; k++) {
        int digit = hex_digit(s.p[(*i)++]);
        if (digit < 0 || (octal && digit > 7))
            return bad;
        v = v * (octal ? 8 : 16) + (uint32_t)digit;
    }
    if (!bytes && !is_code_point(v))
        return "invalid unicode code point";
    *ret = v;
    return NULL;
}

static const char *unescape(struct kl_str s, bool bytes, char *out, size_t *ret_n)
{
    static const char from[] = "abfnrtv\\'\"`?", to[] = "\a\b\f\n\r\t\v\\'\"`?";
    size_t n = 0;
    for (size_t i = 0; i < s.n;) {
        if (s.p[i] != '\\') {
            out[n++] = s.p[i++];
            continue;
        }
        if (++i >= s.n)
            return "unable to unescape string, found '\\' as last character";
        const char *simple = strchr(from, s.p[i]);
        uint32_t v = 0;
        if (s.p[i] && simple) {
            out[n++] = to[simple - from];
            i++;
            continue;
        }
        if (!strchr("xXuU0123", s.p[i]) || !s.p[i])
            return "unable to unescape string";
        const char *bad = numeric_escape(s, &i, bytes, &v);
        if (bad)
            return bad;
        if (bytes)
            out[n++] = (char)v;
        else
            n += cel_put_rune(out + n, v);
    }
    *ret_n = n;
    return NULL;
}

const char *cel_unquote(struct kl_arena *a, struct kl_str token, bool bytes, struct kl_str *ret)
{
    // A line end is one \n whatever it was. An escape never makes more bytes than it has.
    char *text = kl_arena_alloc(a, token.n + 4), *out = kl_arena_alloc(a, token.n + 4);
    size_t n = 0;
    bool raw = false;
    if (!text || !out)
        return "out of memory";
    for (size_t i = 0; i < token.n; i++) {
        if (token.p[i] == '\r' && i + 1 < token.n && token.p[i + 1] == '\n')
            continue;
        text[n++] = token.p[i] == '\r' ? '\n' : token.p[i];
    }
    struct kl_str s = {text, n};
    if (s.n && (s.p[0] == 'r' || s.p[0] == 'R')) {
        raw = true;
        s = kl_str_from(s, 1);
    }
    if (s.n < 2 || s.p[0] != s.p[s.n - 1] || (s.p[0] != '"' && s.p[0] != '\''))
        return "unable to unescape string";
    size_t quotes = s.n >= 6 && s.p[1] == s.p[0] && s.p[2] == s.p[0] ? 3 : 1;
    s = (struct kl_str){s.p + quotes, s.n - 2 * quotes};
    if (raw || kl_str_chr(s, '\\') < 0) {
        *ret = s;
        return NULL;
    }
    const char *bad = unescape(s, bytes, out, &n);
    *ret = (struct kl_str){out, n};
    return bad;
}
