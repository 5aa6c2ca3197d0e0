// SPDX-License-Identifier: Apache-2.0
// Tokens, numbered as upstream's grammar numbers them: messages list them in that order.
#pragma once
#include "object/cel/ast_int.h"

enum token {
    TK_EOF,
    TK_EQ,
    TK_NE,
    TK_IN,
    TK_LT,
    TK_LE,
    TK_GE,
    TK_GT,
    TK_AND,
    TK_OR,
    TK_LBRACKET,
    TK_RBRACKET,
    TK_LBRACE,
    TK_RBRACE,
    TK_LPAREN,
    TK_RPAREN,
    TK_DOT,
    TK_COMMA,
    TK_MINUS,
    TK_NOT,
    TK_QUESTION,
    TK_COLON,
    TK_PLUS,
    TK_STAR,
    TK_SLASH,
    TK_PERCENT,
    TK_TRUE,
    TK_FALSE,
    TK_NULL,
    TK_FLOAT = 31,
    TK_INT,
    TK_UINT,
    TK_STRING,
    TK_BYTES,
    TK_IDENT,
    TK_ESC_IDENT,
};
#define TK_BIT(t) (UINT64_C(1) << (t))

struct cel_token {
    enum token kind;
    int32_t offset; // code points
    struct kl_str text;
};

// All tokens with TK_EOF at the end; what is none is reported and left out. NULL: out of memory.
struct cel_token *cel_lex(struct kl_arena *a, const struct cel_source *src,
                          struct cel_issues *issues, size_t *ret_n);
extern const char *const cel_token_names[];
