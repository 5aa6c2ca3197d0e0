// SPDX-License-Identifier: Apache-2.0
// What is wrong with a text, in the words of Go's encoding/json. Runs only after a scan failed:
// one byte at a time, simple rather than quick.
#include "object/json_int.h"

struct scan {
    const char *p, *end;
    const char *context; // of the first error; NULL: the text ended too early
    bool failed;
    size_t depth;
    uint8_t is_object[KL_JSON_DEPTH_MAX / 8 + 1];
};

static void fail(struct scan *s, const char *context)
{
    if (!s->failed) {
        s->failed = true;
        s->context = s->p < s->end ? context : NULL;
    }
}

// Within a number, a literal or an escape: Go's scanner takes the end of the text for a space
// there.
static void fail_token(struct scan *s, const char *context)
{
    fail(s, context);
    s->context = context;
}

static void spaces(struct scan *s)
{
    while (s->p < s->end && kl_json_is_space((unsigned char)*s->p))
        s->p++;
}

static bool at(const struct scan *s, char c)
{
    return !s->failed && s->p < s->end && *s->p == c;
}

static bool at_digit(const struct scan *s)
{
    return s->p < s->end && *s->p >= '0' && *s->p <= '9';
}

static void digits(struct scan *s, const char *context)
{
    if (!at_digit(s)) {
        fail_token(s, context);
        return;
    }
    while (at_digit(s))
        s->p++;
}

static void number(struct scan *s)
{
    if (at(s, '-'))
        s->p++;
    if (at(s, '0'))
        s->p++;
    else
        digits(s, "in numeric literal");
    if (at(s, '.')) {
        s->p++;
        digits(s, "after decimal point in numeric literal");
    }
    if (at(s, 'e') || at(s, 'E')) {
        s->p++;
        if (at(s, '+') || at(s, '-'))
            s->p++;
        digits(s, "in exponent of numeric literal");
    }
}

static void escape(struct scan *s)
{
    s->p++;
    if (!at(s, 'u')) {
        if (s->p < s->end && *s->p && strchr("\"\\/bfnrt", *s->p))
            s->p++;
        else
            fail_token(s, "in string escape code");
        return;
    }
    s->p++;
    for (int i = 0; i < 4 && !s->failed; i++) {
        char c = s->p < s->end ? *s->p : 0;
        if ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f'))
            s->p++;
        else
            fail_token(s, "in \\u hexadecimal character escape");
    }
}

static void string(struct scan *s)
{
    s->p++;
    while (!s->failed && !at(s, '"')) {
        if (s->p == s->end || (unsigned char)*s->p < 0x20)
            fail(s, "in string literal");
        else if (*s->p == '\\')
            escape(s);
        else
            s->p++;
    }
    if (!s->failed)
        s->p++;
}

static void literal(struct scan *s, const char *word)
{
    static const char *const contexts[] = {
        "in literal true (expecting 'r')",  "in literal true (expecting 'u')",
        "in literal true (expecting 'e')",  "in literal false (expecting 'a')",
        "in literal false (expecting 'l')", "in literal false (expecting 's')",
        "in literal false (expecting 'e')", "in literal null (expecting 'u')",
        "in literal null (expecting 'l')",  "in literal null (expecting 'l')",
    };
    size_t first = word[0] == 't' ? 0 : word[0] == 'f' ? 3 : 7;
    s->p++;
    for (size_t i = 1; word[i] && !s->failed; i++) {
        if (at(s, word[i]))
            s->p++;
        else
            fail_token(s, contexts[first + i - 1]);
    }
}

static void scalar(struct scan *s)
{
    if (s->p == s->end)
        fail(s, "looking for beginning of value");
    else if (*s->p == '"')
        string(s);
    else if (*s->p == 't')
        literal(s, "true");
    else if (*s->p == 'f')
        literal(s, "false");
    else if (*s->p == 'n')
        literal(s, "null");
    else if (*s->p == '-' || at_digit(s))
        number(s);
    else
        fail(s, "looking for beginning of value");
}

static void key(struct scan *s)
{
    spaces(s);
    if (!at(s, '"')) {
        fail(s, "looking for beginning of object key string");
        return;
    }
    string(s);
    if (s->failed)
        return;
    spaces(s);
    if (!at(s, ':')) {
        fail(s, "after object key");
        return;
    }
    s->p++;
}

static bool in_object(const struct scan *s)
{
    size_t i = s->depth - 1;
    return s->is_object[i / 8] >> (i % 8) & 1;
}

// Opens a container; true when it is empty.
static bool open_container(struct scan *s)
{
    bool object = *s->p == '{';
    if (s->depth == KL_JSON_DEPTH_MAX) {
        fail(s, "exceeded max depth");
        return false;
    }
    uint8_t bit = (uint8_t)(1u << (s->depth % 8)), *byte = &s->is_object[s->depth / 8];
    *byte = (uint8_t)(object ? *byte | bit : *byte & ~bit);
    s->depth++;
    s->p++;
    spaces(s);
    if (at(s, object ? '}' : ']'))
        return true;
    if (object)
        key(s);
    return false;
}

// Behind a value: closes what ends, stands at the next value then. False at the end of the text.
static bool next_value(struct scan *s)
{
    for (;;) {
        if (s->depth == 0 || s->failed)
            return false;
        spaces(s);
        bool object = in_object(s);
        if (at(s, object ? '}' : ']')) {
            s->p++;
            s->depth--;
            continue;
        }
        if (!at(s, ',')) {
            fail(s, object ? "after object key:value pair" : "after array element");
            return false;
        }
        s->p++;
        if (object)
            key(s);
        return !s->failed;
    }
}

static void document(struct scan *s)
{
    do {
        spaces(s);
        if (s->p < s->end && (*s->p == '{' || *s->p == '['))
            while (!open_container(s) && !s->failed) {
                spaces(s);
                if (s->p == s->end || (*s->p != '{' && *s->p != '[')) {
                    scalar(s);
                    break;
                }
            }
        else
            scalar(s);
    } while (!s->failed && next_value(s));
    if (s->failed)
        return;
    spaces(s);
    if (s->p < s->end)
        fail(s, "after top-level value");
}

// Go shows the byte as if it were a code point of its own.
static void quote_char(char out[16], unsigned char c)
{
    static const char shorts[] = "abtnvfr"; // from \a on
    char *p = out;
    *p++ = '\'';
    if (c == '\'' || c == '\\') {
        *p++ = '\\';
        *p++ = (char)c;
    } else if (c >= 7 && c <= 13) {
        *p++ = '\\';
        *p++ = shorts[c - 7];
    } else if (c < 0x20 || c == 0x7f) {
        memcpy(p, "\\x", 2);
        p[2] = "0123456789abcdef"[c >> 4];
        p[3] = "0123456789abcdef"[c & 15];
        p += 4;
    } else if (c < 0x80) {
        *p++ = (char)c;
    } else if (c < 0xa1 || c == 0xad) {
        memcpy(p, "\\u00", 4);
        p[4] = "0123456789abcdef"[c >> 4];
        p[5] = "0123456789abcdef"[c & 15];
        p += 6;
    } else {
        *p++ = (char)(0xc0 | c >> 6);
        *p++ = (char)(0x80 | (c & 0x3f));
    }
    *p++ = '\'';
    *p = 0;
}

int kl_json_syntax_error(struct kl_str text, struct kl_error *err)
{
    struct scan s = {.p = text.p, .end = text.p + text.n};
    document(&s);
    if (!s.failed)
        return 0;
    if (!s.context)
        return kl_error_set(err, KL_EBADREQUEST, "unexpected end of JSON input");
    char quoted[16];
    quote_char(quoted, s.p < s.end ? (unsigned char)*s.p : ' ');
    return kl_error_set(err, KL_EBADREQUEST, "invalid character %s %s", quoted, s.context);
}
