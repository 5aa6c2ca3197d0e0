// SPDX-License-Identifier: Apache-2.0
// The parser of CEL.g4 by recursive descent: from members up to the whole expression.
#include "object/cel/parse_int.h"
#include "object/cel/value_int.h"

static uint16_t deeper(const struct cel_expr *a, const struct cel_expr *b)
{
    uint16_t d = a && a->depth > (b ? b->depth : 0) ? a->depth : b ? b->depth : 0;
    return d < UINT16_MAX ? d : UINT16_MAX;
}

static struct cel_expr *checked_depth(struct parser *p, struct cel_expr *e, uint16_t below)
{
    if (!e)
        return cel_parse_fail(p);
    e->depth = (uint16_t)(below + 1);
    if (e->depth > CEL_MAX_DEPTH) {
        cel_issue_at(p->b.issues, -1, "max recursion depth exceeded");
        return cel_parse_fail(p);
    }
    return e;
}

// '.' '?'? name or '.' name '(' args ')'
static struct cel_expr *parse_dot(struct parser *p, struct cel_expr *operand)
{
    const struct cel_token *dot = p->tok;
    struct kl_str name;
    cel_parse_advance(p);
    bool optional = p->tok->kind == TK_QUESTION;
    if (optional)
        cel_parse_advance(p);
    if (p->tok->kind != TK_IDENT && p->tok->kind != TK_ESC_IDENT)
        return cel_parse_no_alternative(p, dot, p->tok);
    const struct cel_token *id = p->tok;
    cel_parse_name(p, &name);
    if (!optional && p->tok->kind == TK_LPAREN && id->kind == TK_IDENT) {
        int32_t offset = p->tok->offset;
        struct items args;
        cel_parse_advance(p);
        if (!cel_parse_args(p, &args))
            return cel_parse_fail(p);
        uint16_t below = cel_parse_depth(&args);
        below = operand->depth > below ? operand->depth : below;
        return checked_depth(p, cel_parse_call(p, offset, name, operand, args.n, args.p), below);
    }
    struct cel_expr *e;
    p->b.offset = dot->offset;
    if (optional) {
        p->b.offset = id->offset;
        struct cel_expr *args[2] = {operand, cel_literal(&p->b, cel_str(name))};
        p->b.offset = dot->offset;
        e = args[1] ? cel_call(&p->b, "_?._", NULL, 2, args) : NULL;
    } else if ((e = cel_new(&p->b, E_SELECT, dot->offset))) {
        e->target = operand;
        e->name = name;
    }
    return checked_depth(p, e, operand->depth);
}

static struct cel_expr *parse_index(struct parser *p, struct cel_expr *operand)
{
    const struct cel_token *open = p->tok;
    cel_parse_advance(p);
    if (!cel_parse_sync(p, EXPR_FIRST | TK_BIT(TK_QUESTION)))
        return cel_parse_fail(p);
    bool optional = p->tok->kind == TK_QUESTION;
    if (optional)
        cel_parse_advance(p);
    struct cel_expr *args[2] = {operand, cel_parse_expr(p)};
    if (!args[1] || !cel_parse_match(p, TK_RBRACKET, FOLLOW_MEMBER))
        return cel_parse_fail(p);
    p->b.offset = open->offset;
    return checked_depth(p, cel_call(&p->b, optional ? "_[?_]" : "_[_]", NULL, 2, args),
                         deeper(args[0], args[1]));
}

static struct cel_expr *parse_member(struct parser *p)
{
    int before = p->depth[R_MEMBER];
    if (!cel_parse_enter(p, R_MEMBER))
        return NULL;
    struct cel_expr *e = cel_parse_primary(p);
    while (e && (p->tok->kind == TK_DOT || p->tok->kind == TK_LBRACKET)) {
        if (!cel_parse_enter(p, R_MEMBER))
            return NULL;
        e = p->tok->kind == TK_DOT ? parse_dot(p, e) : parse_index(p, e);
    }
    p->depth[R_MEMBER] = before;
    return e;
}

static struct cel_expr *parse_unary(struct parser *p)
{
    if (!cel_parse_enter(p, R_UNARY) || !cel_parse_sync(p, EXPR_FIRST))
        return cel_parse_fail(p);
    const struct cel_token *first = p->tok;
    enum token op = first->kind;
    size_t n = 0;
    bool number = op == TK_MINUS &&
                  (cel_parse_peek(p, 1)->kind == TK_INT || cel_parse_peek(p, 1)->kind == TK_FLOAT);
    if ((op == TK_NOT || op == TK_MINUS) && !number)
        for (; p->tok->kind == op; n++)
            cel_parse_advance(p);
    struct cel_expr *e = parse_member(p);
    p->depth[R_UNARY]--;
    if (!e || n % 2 == 0)
        return e;
    uint16_t depth = e->depth;
    p->b.offset = first->offset;
    struct cel_expr *call = cel_call(&p->b, op == TK_NOT ? "!_" : "-_", NULL, 1, &e);
    if (!call)
        return cel_parse_fail(p);
    call->depth = depth;
    return call;
}

static const char *calc_operator(enum token t, int *ret_strength)
{
    *ret_strength = t == TK_PLUS || t == TK_MINUS ? 1 : 2;
    switch (t) {
    case TK_PLUS:
        return "_+_";
    case TK_MINUS:
        return "_-_";
    case TK_STAR:
        return "_*_";
    case TK_SLASH:
        return "_/_";
    case TK_PERCENT:
        return "_%_";
    default:
        return NULL;
    }
}

static struct cel_expr *binary(struct parser *p, const char *op, int32_t offset,
                               struct cel_expr *left, struct cel_expr *right)
{
    struct cel_expr *args[2] = {left, right};
    if (!left || !right)
        return cel_parse_fail(p);
    p->b.offset = offset;
    return checked_depth(p, cel_call(&p->b, op, NULL, 2, args), deeper(left, right));
}

static struct cel_expr *parse_calc(struct parser *p, int strength)
{
    int before = p->depth[R_CALC], found;
    if (!cel_parse_enter(p, R_CALC))
        return NULL;
    struct cel_expr *e = parse_unary(p);
    const char *op;
    while (e && (op = calc_operator(p->tok->kind, &found)) && found >= strength) {
        int32_t offset = p->tok->offset;
        if (!cel_parse_enter(p, R_CALC))
            return NULL;
        cel_parse_advance(p);
        e = binary(p, op, offset, e, parse_calc(p, found + 1));
    }
    p->depth[R_CALC] = before;
    return e;
}

static const char *relation_operator(enum token t)
{
    switch (t) {
    case TK_LT:
        return "_<_";
    case TK_LE:
        return "_<=_";
    case TK_GT:
        return "_>_";
    case TK_GE:
        return "_>=_";
    case TK_EQ:
        return "_==_";
    case TK_NE:
        return "_!=_";
    case TK_IN:
        return "@in";
    default:
        return NULL;
    }
}

static struct cel_expr *parse_relation(struct parser *p)
{
    int before = p->depth[R_RELATION];
    if (!cel_parse_enter(p, R_RELATION))
        return NULL;
    struct cel_expr *e = parse_calc(p, 1);
    const char *op;
    while (e && (op = relation_operator(p->tok->kind))) {
        int32_t offset = p->tok->offset;
        if (!cel_parse_enter(p, R_RELATION))
            return NULL;
        cel_parse_advance(p);
        e = binary(p, op, offset, e, parse_calc(p, 1));
    }
    p->depth[R_RELATION] = before;
    return e;
}

// a && b && c becomes a balanced tree, so that long chains are not deep.
static struct cel_expr *balance(struct parser *p, const char *op, struct cel_expr **terms,
                                const int32_t *ops, size_t lo, size_t hi)
{
    size_t mid = (lo + hi + 1) / 2;
    struct cel_expr *left = mid == lo ? terms[mid] : balance(p, op, terms, ops, lo, mid - 1);
    struct cel_expr *right = mid == hi ? terms[mid + 1] : balance(p, op, terms, ops, mid + 1, hi);
    struct cel_expr *args[2] = {left, right};
    if (!left || !right)
        return cel_parse_fail(p);
    p->b.offset = ops[mid];
    struct cel_expr *e = cel_call(&p->b, op, NULL, 2, args);
    if (e)
        e->depth = deeper(left, right);
    return e;
}

static struct cel_expr *parse_logic(struct parser *p, enum token op)
{
    struct items terms = {.size = sizeof(struct cel_expr *)}, ops = {.size = sizeof(int32_t)};
    enum rule rule = op == TK_OR ? R_OR : R_AND;
    if (!cel_parse_enter(p, rule))
        return NULL;
    for (;;) {
        struct cel_expr *e = op == TK_OR ? parse_logic(p, TK_AND) : parse_relation(p);
        struct cel_expr **slot = e ? cel_parse_push(p, &terms) : NULL;
        if (!slot)
            return cel_parse_fail(p);
        *slot = e;
        if (p->tok->kind != op)
            break;
        int32_t *offset = cel_parse_push(p, &ops);
        if (!offset)
            return NULL;
        *offset = p->tok->offset;
        cel_parse_advance(p);
    }
    p->depth[rule]--;
    if (terms.n == 1)
        return ((struct cel_expr **)terms.p)[0];
    return balance(p, op == TK_OR ? "_||_" : "_&&_", terms.p, ops.p, 0, ops.n - 1);
}

struct cel_expr *cel_parse_expr(struct parser *p)
{
    if (!cel_parse_enter(p, R_EXPR))
        return NULL;
    struct cel_expr *e = parse_logic(p, TK_OR);
    if (e && p->tok->kind == TK_QUESTION) {
        int32_t offset = p->tok->offset;
        struct cel_expr *args[3] = {e};
        cel_parse_advance(p);
        args[1] = parse_logic(p, TK_OR);
        if (!args[1] || !cel_parse_match(p, TK_COLON, EXPR_FIRST))
            return cel_parse_fail(p);
        args[2] = cel_parse_expr(p);
        if (!args[2])
            return NULL;
        p->b.offset = offset;
        uint16_t below = deeper(args[0], args[1]);
        below = args[2]->depth > below ? args[2]->depth : below;
        e = checked_depth(p, cel_call(&p->b, "_?_:_", NULL, 3, args), below);
    }
    p->depth[R_EXPR]--;
    return e;
}

struct cel_expr *cel_parse(struct kl_arena *a, const struct cel_source *src, unsigned env_flags,
                           struct cel_issues *issues)
{
    size_t n = 0;
    struct parser p = {.b = {.arena = a, .issues = issues, .flags = env_flags}, .src = src};
    if (src->n > CEL_MAX_CODE_POINTS) {
        cel_issue_at(issues, -1, "expression code point size exceeds limit: size: %u, limit %d",
                     src->n, CEL_MAX_CODE_POINTS);
        return NULL;
    }
    struct cel_token *tokens = cel_lex(a, src, issues, &n);
    if (!tokens) {
        issues->out_of_memory = true;
        return NULL;
    }
    p.tok = tokens;
    p.end = tokens + n;
    struct cel_expr *e = cel_parse_expr(&p);
    if (e && !cel_parse_match(&p, TK_EOF, 0))
        e = NULL;
    return issues->total || issues->out_of_memory ? NULL : e;
}
