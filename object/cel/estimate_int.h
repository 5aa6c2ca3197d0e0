// SPDX-License-Identifier: Apache-2.0
// Ranges of sizes and costs, and what the estimator knows of a node.
#pragma once
#include "object/cel/env_int.h"

struct range {
    uint64_t min, max;
};
#define UNKNOWN ((struct range){0, UINT64_MAX})

static inline uint64_t sat_add(uint64_t x, uint64_t y)
{
    return x > UINT64_MAX - y ? UINT64_MAX : x + y;
}
static inline uint64_t sat_mul(uint64_t x, uint64_t y)
{
    return y && x > UINT64_MAX / y ? UINT64_MAX : x * y;
}
uint64_t cel_scale(uint64_t x, double factor);
static inline struct range plus(struct range a, struct range b)
{
    return (struct range){sat_add(a.min, b.min), sat_add(a.max, b.max)};
}
static inline struct range times(struct range a, struct range b)
{
    return (struct range){sat_mul(a.min, b.min), sat_mul(a.max, b.max)};
}
static inline struct range scaled(struct range a, double factor)
{
    return (struct range){cel_scale(a.min, factor), cel_scale(a.max, factor)};
}
static inline struct range either(struct range a, struct range b)
{
    return (struct range){a.min < b.min ? a.min : b.min, a.max > b.max ? a.max : b.max};
}
static inline struct range exactly(uint64_t n)
{
    return (struct range){n, n};
}

// One node of the checked tree as an argument: its size, where it comes from.
struct cel_estimate {
    struct range size; // computed
    bool has_size;
    struct range key, value; // of what is in it
    bool has_entry;
    uint8_t container;              // enum type_kind of the entry
    const struct kl_cel_decl *path; // the declared type it leads to
    bool on_path;
};
struct argument {
    const struct cel_expr *e; // NULL: an element that no node stands for
    const struct cel_type *type;
    struct range size;
    bool has_size;
    const struct kl_cel_decl *path;
};
struct call_estimate {
    struct range cost, result;
    bool has_result;
};
// Kubernetes' rules by function, then those of cel-go's extensions by overload; false: none.
bool cel_estimate_library(struct kl_str function, const struct overload *o,
                          const struct argument *target, const struct argument *args, size_t n,
                          struct call_estimate *ret);
