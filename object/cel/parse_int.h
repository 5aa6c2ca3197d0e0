// SPDX-License-Identifier: Apache-2.0
// What the two halves of the parser share.
#pragma once
#include "object/cel/lex_int.h"

enum rule { R_EXPR, R_OR, R_AND, R_RELATION, R_CALC, R_UNARY, R_MEMBER, R_PRIMARY, R_NRULES };

struct parser {
    struct cel_builder b;
    const struct cel_source *src;
    const struct cel_token *tok; // the one looked at
    const struct cel_token *end;
    int depth[R_NRULES];
    bool failed;
};

#define PRIMARY_FIRST                                                                              \
    (TK_BIT(TK_LBRACKET) | TK_BIT(TK_LBRACE) | TK_BIT(TK_LPAREN) | TK_BIT(TK_DOT) |                \
     TK_BIT(TK_MINUS) | TK_BIT(TK_TRUE) | TK_BIT(TK_FALSE) | TK_BIT(TK_NULL) | TK_BIT(TK_FLOAT) |  \
     TK_BIT(TK_INT) | TK_BIT(TK_UINT) | TK_BIT(TK_STRING) | TK_BIT(TK_BYTES) | TK_BIT(TK_IDENT))
#define EXPR_FIRST (PRIMARY_FIRST | TK_BIT(TK_NOT))

// Operators and closers that may come behind a complete primary, as far as the rule can know.
#define FOLLOW_MEMBER                                                                              \
    (TK_BIT(TK_EOF) | TK_BIT(TK_EQ) | TK_BIT(TK_NE) | TK_BIT(TK_IN) | TK_BIT(TK_LT) |              \
     TK_BIT(TK_LE) | TK_BIT(TK_GE) | TK_BIT(TK_GT) | TK_BIT(TK_AND) | TK_BIT(TK_OR) |              \
     TK_BIT(TK_LBRACKET) | TK_BIT(TK_DOT) | TK_BIT(TK_MINUS) | TK_BIT(TK_QUESTION) |               \
     TK_BIT(TK_PLUS) | TK_BIT(TK_STAR) | TK_BIT(TK_SLASH) | TK_BIT(TK_PERCENT))

struct items {
    void *p;
    size_t n, cap, size;
};

struct cel_expr *cel_parse_expr(struct parser *p);
struct cel_expr *cel_parse_primary(struct parser *p);
struct cel_expr *cel_parse_fail(struct parser *p);
bool cel_parse_enter(struct parser *p, enum rule r); // counts the depth of a rule
// exprList? ')'
bool cel_parse_args(struct parser *p, struct items *args);
uint16_t cel_parse_depth(const struct items *args);
bool cel_parse_name(struct parser *p, struct kl_str *ret); // of a field
struct cel_expr *cel_parse_no_alternative(struct parser *p, const struct cel_token *from,
                                          const struct cel_token *to);
struct cel_expr *cel_parse_call(struct parser *p, int32_t offset, struct kl_str function,
                                struct cel_expr *target, size_t n, struct cel_expr **args);

// A decision of the grammar: one token too many is passed over.
bool cel_parse_sync(struct parser *p, uint64_t set);
// A token that must come. `follow` is what may come behind it.
bool cel_parse_match(struct parser *p, enum token kind, uint64_t follow);
void cel_parse_advance(struct parser *p);
const struct cel_token *cel_parse_peek(const struct parser *p, size_t n);
void *cel_parse_push(struct parser *p, struct items *items); // a cleared item
static inline bool is_in(enum token t, uint64_t set)
{
    return (set & TK_BIT(t)) != 0;
}
