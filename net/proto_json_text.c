// SPDX-License-Identifier: Apache-2.0
// What JSON consists of, with encoding/json's words for what is none; and protojson's where.
#include "net/proto_json_int.h"
#include <stdio.h>

enum { MAX_SKIPPED = 1000 };

// ---- where a value ends

static bool ends_literal(char c)
{
    return kl_jtext_is_space(c) || c == ',' || c == '}' || c == ']' || c == '{' || c == '[' ||
           c == '"';
}

// One character; true: the value ends behind it.
static bool edge_step(struct kl_json_edge *e, char c)
{
    if (e->quoted) {
        bool escape = !e->escaped && c == '\\';
        e->quoted = e->escaped || c != '"';
        e->escaped = escape;
        return !e->quoted && !e->depth;
    }
    if (kl_jtext_is_space(c))
        return false;
    e->begun = true;
    if (c == '"')
        e->quoted = true;
    else if (c == '{' || c == '[')
        e->depth++;
    else if ((c == '}' || c == ']') && e->depth <= 1)
        return true; // also one that closes nothing: the parser says what is wrong
    else if (c == '}' || c == ']')
        e->depth--;
    else
        e->literal = !e->depth;
    return false;
}

int kl_json_edge(struct kl_json_edge *e, struct kl_str text, bool last, size_t *ret_n,
                 struct kl_error *err)
{
    *ret_n = 0;
    for (; e->at < text.n && !*ret_n; e->at++) {
        if (e->literal && ends_literal(text.p[e->at])) {
            *ret_n = e->at;
            return 0;
        }
        *ret_n = edge_step(e, text.p[e->at]) ? e->at + 1 : 0;
    }
    if (*ret_n || !last)
        return 0;
    if (e->literal)
        *ret_n = text.n;
    else if (e->begun)
        return kl_error_set(err, KL_EEOF, "unexpected EOF");
    return 0;
}

// ---- the text

// As encoding/json names a character that does not belong.
int kl_jtext_bad_syntax(struct kl_jtext *t, const char *context)
{
    if (t->at >= t->s.n)
        return kl_error_set(t->err, KL_EBADREQUEST, "unexpected EOF");
    unsigned char c = (unsigned char)t->s.p[t->at];
    if (c == '\'')
        return kl_error_set(t->err, KL_EBADREQUEST, "invalid character '\\'' %s", context);
    if (c == '\n' || c == '\r' || c == '\t')
        return kl_error_set(t->err, KL_EBADREQUEST, "invalid character '\\%c' %s",
                            c == '\n'   ? 'n'
                            : c == '\r' ? 'r'
                                        : 't',
                            context);
    if (c < ' ' || c == 0x7f)
        return kl_error_set(t->err, KL_EBADREQUEST, "invalid character '\\x%02x' %s", c, context);
    if (c > 0x7f) // its byte as a rune
        return kl_error_set(t->err, KL_EBADREQUEST, "invalid character '%c%c' %s", 0xc0 | c >> 6,
                            0x80 | (c & 0x3f), context);
    return kl_error_set(t->err, KL_EBADREQUEST, "invalid character '%c' %s", c, context);
}

// "proto: (line 1:8): ..." of what begins at `at`.
static int bad_at(struct kl_jtext *t, size_t at, const char *proto, const char *what,
                  struct kl_str name, const char *after)
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at; i++) {
        column = t->s.p[i] == '\n' ? 1 : column + 1;
        line += t->s.p[i] == '\n';
    }
    return kl_error_set(t->err, KL_EBADREQUEST, "%s(line %zu:%zu): %s%.*s%s", proto, line, column,
                        what, (int)(name.n < 300 ? name.n : 300), name.p, after);
}

int kl_jtext_bad_value(struct kl_jtext *t, size_t at, const char *what, struct kl_str name,
                       const char *after)
{
    return bad_at(t, at, "proto: ", what, name, after);
}

int kl_jtext_unexpected(struct kl_jtext *t, size_t at, struct kl_str token)
{
    return bad_at(t, at, "proto: syntax error ", "unexpected token ", token, "");
}

char kl_jtext_peek(struct kl_jtext *t)
{
    while (t->at < t->s.n && kl_jtext_is_space(t->s.p[t->at]))
        t->at++;
    return t->at < t->s.n ? t->s.p[t->at] : 0;
}

static int hex4(struct kl_jtext *t, uint32_t *ret)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++, t->at++) {
        char c = t->at < t->s.n ? t->s.p[t->at] : 0;
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0)
            return kl_jtext_bad_syntax(t, "in \\u hexadecimal character escape");
        v = v << 4 | (uint32_t)d;
    }
    *ret = v;
    return 0;
}

static void put_utf8(struct kl_buf *b, uint32_t r)
{
    if (r < 0x80) {
        kl_buf_putc(b, (char)r);
    } else if (r < 0x800) {
        kl_buf_putc(b, (char)(0xc0 | r >> 6));
        kl_buf_putc(b, (char)(0x80 | (r & 63)));
    } else {
        if (r < 0x10000) {
            kl_buf_putc(b, (char)(0xe0 | r >> 12));
        } else {
            kl_buf_putc(b, (char)(0xf0 | r >> 18));
            kl_buf_putc(b, (char)(0x80 | (r >> 12 & 63)));
        }
        kl_buf_putc(b, (char)(0x80 | (r >> 6 & 63)));
        kl_buf_putc(b, (char)(0x80 | (r & 63)));
    }
}

static int unescape(struct kl_jtext *t, size_t start)
{
    static const char letters[] = "\"\\/bfnrt", chars[] = "\"\\/\b\f\n\r\t";
    char c = t->at < t->s.n ? t->s.p[t->at] : 0;
    const char *at = c ? strchr(letters, c) : NULL;
    uint32_t r = 0, low = 0;
    if (at) {
        t->at++;
        return kl_buf_putc(t->scratch, chars[at - letters]);
    }
    if (c != 'u')
        return kl_jtext_bad_syntax(t, "in string escape code");
    t->at++;
    int rc = hex4(t, &r);
    if (rc || r < 0xd800 || r > 0xdfff) {
        if (!rc)
            put_utf8(t->scratch, r);
        return rc;
    }
    if (r >= 0xdc00 || t->s.n - t->at < 6 || t->s.p[t->at] != '\\' || t->s.p[t->at + 1] != 'u')
        return bad_at(t, start, "proto: syntax error ",
                      "invalid escape code in string: lone surrogate", KL_STR(""), "");
    t->at += 2;
    if ((rc = hex4(t, &low)))
        return rc;
    if (low < 0xdc00 || low > 0xdfff)
        return bad_at(t, start, "proto: syntax error ",
                      "invalid escape code in string: lone surrogate", KL_STR(""), "");
    put_utf8(t->scratch, 0x10000 + ((r - 0xd800) << 10) + (low - 0xdc00));
    return 0;
}

// The string at the cursor; *ret refers to the text, or to the scratch until the next.
static int take_string(struct kl_jtext *t, struct kl_str *ret)
{
    size_t start = t->at++, from = t->at;
    int rc = 0;
    kl_buf_clear(t->scratch);
    for (; !rc; t->at++) {
        if (t->at >= t->s.n || (unsigned char)t->s.p[t->at] < ' ')
            return kl_jtext_bad_syntax(t, "in string literal");
        if (t->s.p[t->at] == '"')
            break;
        if (t->s.p[t->at] != '\\')
            continue;
        kl_buf_append(t->scratch, t->s.p + from, t->at++ - from);
        rc = unescape(t, start);
        from = t->at--;
    }
    if (rc)
        return rc;
    *ret = (struct kl_str){t->s.p + from, t->at++ - from};
    if (t->scratch->n || from > start + 1) {
        kl_buf_puts(t->scratch, *ret);
        *ret = kl_buf_str(t->scratch);
    }
    if (t->scratch->err)
        return kl_error_set(t->err, t->scratch->err, "a string in JSON: %s",
                            kl_err_text(t->scratch->err));
    if (!kl_utf8_valid(*ret))
        return bad_at(t, start, "proto: syntax error ", "invalid UTF-8 in string", KL_STR(""), "");
    return 0;
}

static void take_digits(struct kl_jtext *t)
{
    while (t->at < t->s.n && t->s.p[t->at] >= '0' && t->s.p[t->at] <= '9')
        t->at++;
}

static bool at_digit(const struct kl_jtext *t)
{
    return t->at < t->s.n && t->s.p[t->at] >= '0' && t->s.p[t->at] <= '9';
}

static int take_number(struct kl_jtext *t, struct kl_str *ret)
{
    size_t start = t->at;
    t->at += t->s.p[t->at] == '-';
    if (!at_digit(t))
        return kl_jtext_bad_syntax(t, "in numeric literal");
    if (t->s.p[t->at] == '0')
        t->at++;
    else
        take_digits(t);
    if (t->at < t->s.n && t->s.p[t->at] == '.') {
        t->at++;
        if (!at_digit(t))
            return kl_jtext_bad_syntax(t, "after decimal point in numeric literal");
        take_digits(t);
    }
    if (t->at < t->s.n && (t->s.p[t->at] == 'e' || t->s.p[t->at] == 'E')) {
        t->at++;
        if (t->at < t->s.n && (t->s.p[t->at] == '+' || t->s.p[t->at] == '-'))
            t->at++;
        if (!at_digit(t))
            return kl_jtext_bad_syntax(t, "in exponent of numeric literal");
        take_digits(t);
    }
    *ret = (struct kl_str){t->s.p + start, t->at - start};
    return 0;
}

int kl_jtext_take_word(struct kl_jtext *t, const char *word)
{
    char context[40];
    for (size_t i = 0; word[i]; i++, t->at++) {
        if (t->at < t->s.n && t->s.p[t->at] == word[i])
            continue;
        snprintf(context, sizeof(context), "in literal %s (expecting '%c')", word, word[i]);
        return kl_jtext_bad_syntax(t, context);
    }
    return 0;
}

// A value that is no object or array: its kind, and of texts and numbers what it says.
int kl_jtext_take_scalar(struct kl_jtext *t, enum kl_jtext_kind *kind, struct kl_str *ret)
{
    char c = kl_jtext_peek(t);
    *ret = KL_STR("");
    *kind = c == '"'   ? KL_JTEXT_STRING
            : c == 't' ? KL_JTEXT_TRUE
            : c == 'f' ? KL_JTEXT_FALSE
            : c == 'n' ? KL_JTEXT_NUL
                       : KL_JTEXT_NUMBER;
    switch (*kind) {
    case KL_JTEXT_STRING:
        return take_string(t, ret);
    case KL_JTEXT_TRUE:
        return kl_jtext_take_word(t, "true");
    case KL_JTEXT_FALSE:
        return kl_jtext_take_word(t, "false");
    case KL_JTEXT_NUL:
        return kl_jtext_take_word(t, "null");
    default:
        if (c != '-' && (c < '0' || c > '9'))
            return kl_jtext_bad_syntax(t, "looking for beginning of value");
        return take_number(t, ret);
    }
}

// The next name of an object, with its colon; *ret_end: there is none, and the brace was taken.
int kl_jtext_next_name(struct kl_jtext *t, bool first, struct kl_str *ret, bool *ret_end)
{
    char c = kl_jtext_peek(t);
    *ret_end = c == '}';
    if (*ret_end) {
        t->at++;
        return 0;
    }
    if (!first) {
        if (c != ',')
            return kl_jtext_bad_syntax(t, "after object key:value pair");
        t->at++;
        c = kl_jtext_peek(t);
    }
    if (c != '"')
        return kl_jtext_bad_syntax(t, "looking for beginning of object key string");
    int rc = take_string(t, ret);
    if (rc)
        return rc;
    if (kl_jtext_peek(t) != ':')
        return kl_jtext_bad_syntax(t, "after object key");
    t->at++;
    return 0;
}

int kl_jtext_next_element(struct kl_jtext *t, bool first, bool *ret_end)
{
    char c = kl_jtext_peek(t);
    *ret_end = c == ']';
    if (*ret_end || (!first && c == ',')) {
        t->at++;
        return 0;
    }
    return first ? 0 : kl_jtext_bad_syntax(t, "after array element");
}

int kl_jtext_skip(struct kl_jtext *t, int depth)
{
    struct kl_str s;
    enum kl_jtext_kind kind;
    bool end = false;
    char c = kl_jtext_peek(t);
    int rc = 0;
    if (c != '{' && c != '[')
        return kl_jtext_take_scalar(t, &kind, &s);
    if (depth > MAX_SKIPPED)
        return kl_error_set(t->err, KL_EBADREQUEST, "exceeded max depth");
    t->at++;
    for (bool first = true; !rc; first = false) {
        rc = c == '{' ? kl_jtext_next_name(t, first, &s, &end)
                      : kl_jtext_next_element(t, first, &end);
        if (rc || end)
            return rc;
        rc = kl_jtext_skip(t, depth + 1);
    }
    return rc;
}
