// SPDX-License-Identifier: Apache-2.0
// labels.Parse: the grammar of label selectors, with its error texts.
//
//   selector    ::= requirement ("," requirement)*
//   requirement ::= "!" KEY | KEY | KEY ("in" | "notin") "(" values ")" | KEY ("=" | "==" | "!=" |
//                   ">" | "<") VALUE
#include "object/selector_int.h"

enum token {
    TOK_END,
    TOK_CLOSE,
    TOK_COMMA,
    TOK_NOT,
    TOK_DOUBLE_EQUALS,
    TOK_EQUALS,
    TOK_GREATER,
    TOK_IDENTIFIER,
    TOK_IN,
    TOK_LESS,
    TOK_NOT_EQUALS,
    TOK_NOT_IN,
    TOK_OPEN,
};

struct parser {
    struct kl_arena *arena;
    struct kl_error *err;
    struct kl_str rest; // behind the token looked at
    enum token tok;
    struct kl_str lit;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_special(char c)
{
    return c && strchr("=!(),><", c);
}

static enum token special_token(struct kl_str s, size_t *ret_len)
{
    bool equals = s.n > 1 && s.p[1] == '=';
    *ret_len = 1;
    switch (s.p[0]) {
    case '(':
        return TOK_OPEN;
    case ')':
        return TOK_CLOSE;
    case ',':
        return TOK_COMMA;
    case '>':
        return TOK_GREATER;
    case '<':
        return TOK_LESS;
    case '!':
        *ret_len = equals ? 2 : 1;
        return equals ? TOK_NOT_EQUALS : TOK_NOT;
    default:
        *ret_len = equals ? 2 : 1;
        return equals ? TOK_DOUBLE_EQUALS : TOK_EQUALS;
    }
}

// Reads the next token. A NUL byte ends the text (as upstream's lexer has it), or an identifier.
static void advance(struct parser *p)
{
    while (p->rest.n && is_space(p->rest.p[0]))
        p->rest = kl_str_from(p->rest, 1);
    if (p->rest.n == 0 || p->rest.p[0] == '\0') {
        p->tok = TOK_END;
        p->lit = KL_STR("");
        p->rest.n = 0;
        return;
    }
    size_t n = 0;
    if (is_special(p->rest.p[0])) {
        p->tok = special_token(p->rest, &n);
    } else {
        while (n < p->rest.n && p->rest.p[n] && !is_special(p->rest.p[n]) &&
               !is_space(p->rest.p[n]))
            n++;
        p->tok = TOK_IDENTIFIER;
    }
    p->lit = (struct kl_str){p->rest.p, n};
    p->rest = kl_str_from(p->rest, n);
    if (p->rest.n && p->rest.p[0] == '\0' && p->tok == TOK_IDENTIFIER)
        p->rest = kl_str_from(p->rest, 1);
    if (p->tok == TOK_IDENTIFIER && kl_str_eq(p->lit, KL_STR("in")))
        p->tok = TOK_IN;
    else if (p->tok == TOK_IDENTIFIER && kl_str_eq(p->lit, KL_STR("notin")))
        p->tok = TOK_NOT_IN;
}

// Where a value or key is expected the keywords are plain identifiers.
static bool at_identifier(const struct parser *p)
{
    return p->tok == TOK_IDENTIFIER || p->tok == TOK_IN || p->tok == TOK_NOT_IN;
}

static int fail(struct parser *p, const char *expected)
{
    return kl_error_set(p->err, KL_EBADREQUEST, "found '%.*s'%s", KL_PRI(p->lit), expected);
}

static int parse_operator(struct parser *p, enum kl_selector_op *ret)
{
    switch (p->tok) {
    case TOK_IN:
        *ret = KL_OP_IN;
        break;
    case TOK_NOT_IN:
        *ret = KL_OP_NOT_IN;
        break;
    case TOK_EQUALS:
    case TOK_DOUBLE_EQUALS:
        *ret = KL_OP_EQ;
        break;
    case TOK_NOT_EQUALS:
        *ret = KL_OP_NOT_EQ;
        break;
    case TOK_GREATER:
        *ret = KL_OP_GT;
        break;
    case TOK_LESS:
        *ret = KL_OP_LT;
        break;
    default:
        return fail(p, ", expected: in, notin, =, ==, !=, gt, lt");
    }
    advance(p);
    return 0;
}

// The identifiers between parentheses, possibly empty ones: "(a,,b)" holds an empty value.
static int parse_list(struct parser *p, struct kl_str *values, size_t *n)
{
    for (;;) {
        if (at_identifier(p)) {
            values[(*n)++] = p->lit;
            advance(p);
            if (p->tok == TOK_CLOSE)
                return 0;
            if (p->tok != TOK_COMMA)
                return fail(p, ", expected: ',' or ')'");
        } else if (p->tok == TOK_COMMA) {
            if (*n == 0)
                values[(*n)++] = KL_STR("");
            advance(p);
            if (p->tok == TOK_CLOSE || p->tok == TOK_COMMA)
                values[(*n)++] = KL_STR("");
            if (p->tok == TOK_CLOSE)
                return 0;
        } else {
            return fail(p, ", expected: ',', or identifier");
        }
    }
}

static int parse_values(struct parser *p, struct kl_str **ret_values, size_t *ret_n)
{
    size_t room = 3;
    if (p->tok != TOK_OPEN)
        return fail(p, " expected: '('");
    for (size_t i = 0; i < p->rest.n && p->rest.p[i] != ')'; i++)
        room += p->rest.p[i] == ',' ? 2 : 0;
    struct kl_str *values = kl_arena_alloc(p->arena, room * sizeof(*values));
    if (!values)
        return kl_error_set(p->err, KL_ENOMEM, "out of memory");
    size_t n = 0;
    advance(p);
    if (at_identifier(p) || p->tok == TOK_COMMA) {
        int r = parse_list(p, values, &n);
        if (r)
            return r;
        n = kl_sort_unique_strs(values, n);
    } else if (p->tok == TOK_CLOSE) {
        values[n++] = KL_STR("");
    } else {
        return fail(p, ", expected: ',', ')' or identifier");
    }
    advance(p); // the closing parenthesis
    *ret_values = values;
    *ret_n = n;
    return 0;
}

static int parse_exact_value(struct parser *p, struct kl_str **ret_values)
{
    struct kl_str *value = KL_ARENA_NEW(p->arena, struct kl_str);
    if (!value)
        return kl_error_set(p->err, KL_ENOMEM, "out of memory");
    *value = KL_STR("");
    *ret_values = value;
    if (p->tok == TOK_END || p->tok == TOK_COMMA)
        return 0;
    if (!at_identifier(p))
        return fail(p, ", expected: identifier");
    *value = p->lit;
    advance(p);
    return 0;
}

static int parse_requirement(struct parser *p, struct kl_requirement *ret)
{
    bool negated = p->tok == TOK_NOT;
    if (negated)
        advance(p);
    if (!at_identifier(p))
        return fail(p, ", expected: identifier");
    struct kl_str key = p->lit, *values = NULL;
    int r = kl_requirement_check_key(p->arena, key, p->err);
    if (r)
        return r;
    advance(p);
    // "!key" before anything else than a comma or the end keeps its meaning and the rest is what
    // the caller complains about, as upstream does
    if (negated || p->tok == TOK_END || p->tok == TOK_COMMA)
        return kl_requirement_new(p->arena, key, negated ? KL_OP_NOT_EXISTS : KL_OP_EXISTS, NULL, 0,
                                  ret, p->err);
    enum kl_selector_op op = KL_OP_EQ;
    size_t n = 1;
    r = parse_operator(p, &op);
    if (!r)
        r = op == KL_OP_IN || op == KL_OP_NOT_IN ? parse_values(p, &values, &n)
                                                 : parse_exact_value(p, &values);
    return r ? r : kl_requirement_new(p->arena, key, op, values, n, ret, p->err);
}

int kl_label_selector_parse(struct kl_arena *a, struct kl_str text, struct kl_selector *ret,
                            struct kl_error *err)
{
    struct parser p = {.arena = a, .err = err, .rest = text};
    struct kl_requirement *reqs = NULL;
    size_t n = 0, room = 1;
    for (size_t i = 0; i < text.n; i++)
        room += text.p[i] == ',';
    advance(&p);
    if (p.tok != TOK_END) {
        reqs = kl_arena_alloc(a, room * sizeof(*reqs));
        if (!reqs)
            return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    while (p.tok != TOK_END) {
        if (!at_identifier(&p) && p.tok != TOK_NOT)
            return fail(&p, ", expected: !, identifier, or 'end of string'");
        int r = parse_requirement(&p, &reqs[n]);
        if (r == KL_EBADREQUEST)
            return err ? kl_error_wrap(err, "unable to parse requirement") : r;
        if (r)
            return r;
        n++;
        if (p.tok == TOK_END)
            break;
        if (p.tok != TOK_COMMA)
            return fail(&p, ", expected: ',' or 'end of string'");
        advance(&p);
        if (!at_identifier(&p) && p.tok != TOK_NOT)
            return fail(&p, ", expected: identifier after ','");
    }
    if (kl_sort_requirements(a, reqs, n))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    *ret = (struct kl_selector){.reqs = reqs, .n = n};
    return 0;
}
