// SPDX-License-Identifier: Apache-2.0
// The lexer of CEL.g4. The longest match wins; where nothing matches, what was read up to the
// first impossible character is reported and skipped, as ANTLR does.
#include "object/cel/lex_int.h"
#include "object/cel/value_int.h"

const char *const cel_token_names[] = {
    "<EOF>",      "'=='",
    "'!='",       "'in'",
    "'<'",        "'<='",
    "'>='",       "'>'",
    "'&&'",       "'||'",
    "'['",        "']'",
    "'{'",        "'}'",
    "'('",        "')'",
    "'.'",        "','",
    "'-'",        "'!'",
    "'?'",        "':'",
    "'+'",        "'*'",
    "'/'",        "'%'",
    "'true'",     "'false'",
    "'null'",     "",
    "",           "NUM_FLOAT",
    "NUM_INT",    "NUM_UINT",
    "STRING",     "BYTES",
    "IDENTIFIER", "ESC_IDENTIFIER",
};

struct lexer {
    struct kl_str s; // the whole text; every scan works on byte offsets
    struct cel_issues *issues;
};

static int at(const struct lexer *l, size_t i)
{
    return i < l->s.n ? (unsigned char)l->s.p[i] : -1;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(int c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_letter(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

// The end of an escape that begins behind the backslash at i, or 0 with *ret_bad.
static size_t scan_escape(const struct lexer *l, size_t i, size_t *ret_bad)
{
    int c = at(l, i), digits = 0;
    if (c >= 0 && strchr("abfnrtv\"'\\?`", c))
        return i + 1;
    if (c >= '0' && c <= '3') {
        for (int k = 1; k <= 2; k++)
            if (at(l, i + (size_t)k) < '0' || at(l, i + (size_t)k) > '7') {
                *ret_bad = i + (size_t)k;
                return 0;
            }
        return i + 3;
    }
    digits = c == 'x' || c == 'X' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (!digits) {
        *ret_bad = i;
        return 0;
    }
    for (int k = 1; k <= digits; k++)
        if (!is_hex(at(l, i + (size_t)k))) {
            *ret_bad = i + (size_t)k;
            return 0;
        }
    return i + (size_t)digits + 1;
}

// Behind one character of a string, or 0 with *ret_bad.
static size_t scan_char(const struct lexer *l, size_t i, bool raw, size_t *ret_bad)
{
    return at(l, i) == '\\' && !raw ? scan_escape(l, i + 1, ret_bad) : i + 1;
}

static size_t scan_triple(const struct lexer *l, size_t i, int quote, bool raw, size_t *ret_bad)
{
    for (i += 3; at(l, i) >= 0;) {
        if (at(l, i) == quote && at(l, i + 1) == quote && at(l, i + 2) == quote)
            return i + 3;
        i = scan_char(l, i, raw, ret_bad);
        if (!i)
            return 0;
    }
    *ret_bad = i;
    return 0;
}

// The end of a string that begins at the quote, or 0 with *ret_bad: where it went wrong.
static size_t scan_string(const struct lexer *l, size_t i, bool raw, size_t *ret_bad)
{
    int quote = at(l, i);
    if (at(l, i + 1) == quote && at(l, i + 2) == quote) {
        size_t end = scan_triple(l, i, quote, raw, ret_bad);
        return end ? end : i + 2; // the empty string in front
    }
    for (i++; at(l, i) >= 0 && at(l, i) != '\n' && at(l, i) != '\r';) {
        if (at(l, i) == quote)
            return i + 1;
        i = scan_char(l, i, raw, ret_bad);
        if (!i)
            return 0;
    }
    *ret_bad = i;
    return 0;
}

static size_t scan_exponent(const struct lexer *l, size_t i)
{
    if (at(l, i) != 'e' && at(l, i) != 'E')
        return 0;
    i++;
    if (at(l, i) == '+' || at(l, i) == '-')
        i++;
    if (!is_digit(at(l, i)))
        return 0;
    while (is_digit(at(l, i)))
        i++;
    return i;
}

static size_t scan_number(const struct lexer *l, size_t i, enum token *ret)
{
    size_t e;
    *ret = TK_INT;
    if (at(l, i) == '0' && at(l, i + 1) == 'x' && is_hex(at(l, i + 2))) {
        for (i += 2; is_hex(at(l, i));)
            i++;
    } else {
        while (is_digit(at(l, i)))
            i++;
        if (at(l, i) == '.' && is_digit(at(l, i + 1))) {
            *ret = TK_FLOAT;
            for (i++; is_digit(at(l, i));)
                i++;
        }
        if ((e = scan_exponent(l, i))) {
            *ret = TK_FLOAT;
            return e;
        }
        if (*ret == TK_FLOAT)
            return i;
    }
    if (at(l, i) == 'u' || at(l, i) == 'U') {
        *ret = TK_UINT;
        i++;
    }
    return i;
}

static size_t scan_word(const struct lexer *l, size_t i, enum token *ret)
{
    static const struct {
        const char *word;
        enum token kind;
    } words[] = {{"in", TK_IN}, {"true", TK_TRUE}, {"false", TK_FALSE}, {"null", TK_NULL}};
    size_t from = i;
    while (is_letter(at(l, i)) || is_digit(at(l, i)))
        i++;
    struct kl_str text = {l->s.p + from, i - from};
    *ret = TK_IDENT;
    for (size_t k = 0; k < KL_COUNT(words); k++)
        if (kl_str_eqz(text, words[k].word))
            *ret = words[k].kind;
    return i;
}

static size_t scan_escaped_ident(const struct lexer *l, size_t i, size_t *ret_bad)
{
    size_t from = ++i;
    while (at(l, i) >= 0 && (is_letter(at(l, i)) || is_digit(at(l, i)) || strchr(".-/ ", at(l, i))))
        i++;
    if (i > from && at(l, i) == '`')
        return i + 1;
    *ret_bad = i;
    return 0;
}

static size_t scan_operator(const struct lexer *l, size_t i, enum token *ret, size_t *ret_bad)
{
    static const char singles[] = "[]{}().,-?:+*/%";
    static const uint8_t kinds[] = {TK_LBRACKET, TK_RBRACKET, TK_LBRACE, TK_RBRACE, TK_LPAREN,
                                    TK_RPAREN,   TK_DOT,      TK_COMMA,  TK_MINUS,  TK_QUESTION,
                                    TK_COLON,    TK_PLUS,     TK_STAR,   TK_SLASH,  TK_PERCENT};
    int c = at(l, i), next = at(l, i + 1);
    const char *single = c > 0 ? strchr(singles, c) : NULL;
    if (single) {
        *ret = (enum token)kinds[single - singles];
        return i + 1;
    }
    switch (c) {
    case '<':
    case '>':
        *ret = next == '=' ? (c == '<' ? TK_LE : TK_GE) : c == '<' ? TK_LT : TK_GT;
        return i + (next == '=' ? 2 : 1);
    case '!':
        *ret = next == '=' ? TK_NE : TK_NOT;
        return i + (next == '=' ? 2 : 1);
    case '=':
    case '&':
    case '|':
        *ret = c == '=' ? TK_EQ : c == '&' ? TK_AND : TK_OR;
        if (next == c)
            return i + 2;
        *ret_bad = i + 1;
        return 0;
    default:
        *ret_bad = i;
        return 0;
    }
}

// The end of the token at i, or 0 with *ret_bad.
static size_t scan(const struct lexer *l, size_t i, enum token *ret, size_t *ret_bad)
{
    int c = at(l, i);
    size_t prefix = 0, end;
    bool bytes = c == 'b' || c == 'B';
    int second = at(l, i + bytes);
    bool raw = second == 'r' || second == 'R';
    prefix = (size_t)bytes + raw;
    int quote = at(l, i + prefix);
    if (quote == '"' || quote == '\'') {
        *ret = bytes ? TK_BYTES : TK_STRING;
        end = scan_string(l, i + prefix, raw, ret_bad);
        if (end || !prefix)
            return end;
        return scan_word(l, i, ret); // the letters alone are a name
    }
    if (is_letter(c))
        return scan_word(l, i, ret);
    if (is_digit(c) || (c == '.' && is_digit(at(l, i + 1)))) {
        if (c != '.')
            return scan_number(l, i, ret);
        for (i++; is_digit(at(l, i));)
            i++;
        *ret = TK_FLOAT;
        end = scan_exponent(l, i);
        return end ? end : i;
    }
    if (c == '`') {
        *ret = TK_ESC_IDENT;
        return scan_escaped_ident(l, i, ret_bad);
    }
    return scan_operator(l, i, ret, ret_bad);
}

static bool is_space(int c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f';
}

struct cel_token *cel_lex(struct kl_arena *a, const struct cel_source *src,
                          struct cel_issues *issues, size_t *ret_n)
{
    struct lexer l = {.s = src->text, .issues = issues};
    struct cel_token *tokens = kl_arena_alloc(a, (src->n + 1) * sizeof *tokens);
    size_t i = 0, n = 0;
    uint32_t point = 0;
    if (!tokens)
        return NULL;
    while (i < l.s.n) {
        size_t bad = i;
        enum token kind = TK_EOF;
        if (is_space(at(&l, i))) {
            i++;
            continue;
        }
        if (at(&l, i) == '/' && at(&l, i + 1) == '/') {
            while (i < l.s.n && at(&l, i) != '\n')
                i++;
            continue;
        }
        while (src->bytes[point] < i)
            point++;
        size_t end = scan(&l, i, &kind, &bad);
        if (end) {
            tokens[n++] = (struct cel_token){kind, (int32_t)point, {l.s.p + i, end - i}};
            i = end;
            continue;
        }
        if (bad < l.s.n)
            cel_rune(l.s, &bad); // with the character that cannot be there
        cel_issue_at(issues, (int32_t)point, "Syntax error: token recognition error at: '%.*s'",
                     (int)(bad - i), l.s.p + i);
        i = bad;
    }
    tokens[n++] = (struct cel_token){TK_EOF, (int32_t)src->n, {"<EOF>", 5}};
    *ret_n = n;
    return tokens;
}
