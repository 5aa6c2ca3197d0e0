// SPDX-License-Identifier: Apache-2.0
// The syntax tree: what the parser makes, the macros rewrite, the checker types and the planner
// reads. All of it lives in the arena of one compilation.
#pragma once
#include "object/cel/cel.h"
#include "object/cel/type_int.h"

enum expr_kind { E_BAD, E_LIT, E_IDENT, E_SELECT, E_CALL, E_LIST, E_MAP, E_STRUCT, E_FOLD };

struct overload;
struct cel_decl;

struct cel_entry {
    struct cel_expr *key; // maps
    struct kl_str field;  // structs
    struct cel_expr *value;
    int32_t offset; // of the colon
    bool optional;
};

struct cel_expr {
    uint8_t kind;
    uint8_t test;                // SELECT: has()
    uint16_t depth;              // as cel-go counts its visitor's recursion
    int32_t offset;              // in code points; -1: nowhere
    uint32_t n;                  // args, elements, entries
    const struct cel_type *type; // checked
    struct kl_str name;          // IDENT, SELECT's field, CALL's function, STRUCT's type
    union {
        struct kl_cel_val lit;
        struct {
            struct cel_expr *target; // SELECT's operand; CALL: NULL unless a member call
            struct cel_expr **args;  // CALL, LIST
            bool *optional;          // LIST: NULL or one for each element
        };
        struct cel_entry *entries;
        struct {
            struct cel_expr *range, *accu, *cond, *step, *result;
            struct kl_str iter, iter2, accu_var; // iter2.n 0: one variable
        };
    };
    // What the checker found.
    int32_t var;         // IDENT: place among the environment's variables, -1: local or type
    bool is_type;        // IDENT: the constant of a type
    bool resolved;       // IDENT or SELECT read as one name
    uint16_t noverloads; // CALL
    const struct overload *const *overloads;
    // What the estimator found.
    struct cel_estimate *estimate;
};

// ---- errors of one compilation
struct cel_issue {
    int line, column; // column from 0; line -1: nowhere
    struct kl_str message;
};
struct cel_source {
    struct kl_str text;
    uint32_t *bytes; // byte offset of each code point, and the end
    uint32_t n;      // code points
    uint32_t *lines; // code point offsets at which lines 2, 3, ... begin
    uint32_t nlines;
};
enum { CEL_MAX_ISSUES = 100, CEL_MAX_DEPTH = 250, CEL_MAX_CODE_POINTS = 100000 };
struct cel_issues {
    struct kl_arena *arena;
    const struct cel_source *src;
    struct cel_issue *items;
    uint32_t n, total;
    bool out_of_memory;
};
int cel_source_init(struct cel_source *s, struct kl_arena *a, struct kl_str text);
void cel_issue_at(struct cel_issues *is, int32_t offset, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
struct kl_str cel_issues_text(struct cel_issues *is); // p NULL: out of memory

// ---- making nodes; NULL when memory ran out (issues remember it)
struct cel_builder {
    struct kl_arena *arena;
    struct cel_issues *issues;
    int32_t offset; // what nodes made by macros get
    unsigned flags; // of the environment: which macros there are
};
struct cel_expr *cel_new(struct cel_builder *b, enum expr_kind kind, int32_t offset);
struct cel_expr *cel_ident(struct cel_builder *b, struct kl_str name);
struct cel_expr *cel_literal(struct cel_builder *b, struct kl_cel_val v);
struct cel_expr *cel_call(struct cel_builder *b, const char *function, struct cel_expr *target,
                          size_t n, struct cel_expr *const *args);
struct cel_expr *cel_list(struct cel_builder *b, size_t n, struct cel_expr *const *items);
struct cel_expr *cel_copy(struct cel_builder *b, const struct cel_expr *e);

// Expands a call that is a macro. *ret stays NULL when it is none.
bool cel_expand(struct cel_builder *b, int32_t offset, struct kl_str function,
                struct cel_expr *target, size_t n, struct cel_expr **args, struct cel_expr **ret);

// Parses, with the macros of an environment's flags. NULL with issues.
struct cel_expr *cel_parse(struct kl_arena *a, const struct cel_source *src, unsigned env_flags,
                           struct cel_issues *issues);
// Text of a literal without prefix and quotes, escapes resolved. NULL or what is wrong.
const char *cel_unquote(struct kl_arena *a, struct kl_str token, bool bytes, struct kl_str *ret);

#define CEL_ACCU KL_STR("@result")
