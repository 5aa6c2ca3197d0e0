// SPDX-License-Identifier: Apache-2.0
// A planned expression: what is evaluated. Its shape follows cel-go's interpretables, because the
// runtime cost is counted on them: attributes with qualifiers, calls, constructors, folds.
#pragma once
#include "object/cel/env_int.h"

enum plan_kind {
    P_CONST,
    P_ATTR,
    P_TEST, // has(): an attribute whose last qualifier is tested
    P_OR,
    P_AND,
    P_EQ,
    P_NE,
    P_NOT_FALSE,
    P_CALL,
    P_OPT_OR,
    P_OPT_OR_VALUE,
    P_LIST,
    P_MAP,
    P_STRUCT,
    P_FOLD,
    P_IN_SET,
};

enum attr_kind { A_VAR, A_LOCAL, A_REL, A_COND };

struct cel_attr;
struct cel_qual {
    struct kl_cel_val key;       // constant
    const struct cel_attr *attr; // or computed
    bool optional, test;
};
struct cel_attr {
    uint8_t kind;
    uint32_t index;                 // variable or slot
    const struct cel_plan *operand; // REL; COND: the condition
    struct cel_attr *yes, *no;
    struct cel_qual *quals;
    uint32_t nquals, cap;
};

enum call_flag {
    CALL_EARLY = 1 << 0, // the first argument in error ends it: later ones are not evaluated
    CALL_ANY = 1 << 1,   // several overloads: which one is decided by the values
    CALL_BARE = 1 << 2,  // values are not checked against the signature
};

struct cel_plan {
    uint8_t kind;
    uint8_t flags;
    uint16_t nrows; // CALL_ANY
    uint32_t n;     // args, elements, entries
    union {
        struct kl_cel_val value; // CONST
        struct cel_attr *attr;
        struct { // CALL, OR, AND, EQ, ...: args; LIST: args; MAP: keys and values; STRUCT: values
            const struct cel_plan **args;
            const bool *optional;
            const struct overload *overload; // NULL: several
            const struct overload *rows;
            struct kl_str function;
            struct kl_str *fields;
            void *regex;
            struct cel_growing *set;
        };
        struct {
            const struct cel_plan *range, *accu, *cond, *step, *result;
            uint32_t slot; // accumulator, then the variables
            bool two;
        };
    };
};

// One evaluation.
struct slot {
    struct kl_cel_val v;
    const struct cel_plan *init; // accumulator not yet computed
};
struct cel_run {
    struct kl_arena *arena;
    const struct kl_cel_program *program;
    const struct kl_cel_eval *with;
    struct slot *slots;
    uint64_t cost, limit;
    uint32_t checks;                // of interruption
    const struct overload *current; // of the call that runs
    int stop;                       // KL_ELIMIT, KL_ENOMEM, KL_ECANCELED: all ends
};
struct kl_cel_val cel_run_plan(struct cel_run *r, const struct cel_plan *p);
struct kl_cel_val cel_run_attr(struct cel_run *r, const struct cel_attr *a);
struct kl_cel_val cel_run_fold(struct cel_run *r, const struct cel_plan *p);
// Charges; false when the limit is passed.
bool cel_charge(struct cel_run *r, uint64_t cost);
// What a call costs once its arguments and its result are known.
uint64_t cel_call_cost(struct cel_run *r, struct kl_str function, const struct overload *o,
                       const struct kl_cel_val *args, size_t n, struct kl_cel_val result);
