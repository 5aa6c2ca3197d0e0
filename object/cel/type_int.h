// SPDX-License-Identifier: Apache-2.0
// Types as the checker sees them, and declared types with what a schema says besides.
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "object/value.h"

enum type_kind {
    T_DYN,
    T_ANY,
    T_BOOL,
    T_BYTES,
    T_DOUBLE,
    T_DURATION,
    T_ERROR,
    T_INT,
    T_LIST,
    T_MAP,
    T_NULL,
    T_OPAQUE,
    T_STRING,
    T_STRUCT,
    T_TIMESTAMP,
    T_TYPE,
    T_PARAM,
    T_UINT,
};

struct kl_cel_decl;

struct cel_type {
    uint8_t kind;
    uint8_t n;    // parameters
    uint32_t var; // PARAM: number of a type variable of the checker, from 1
    struct kl_str name;
    const struct cel_type *p[2];
    const struct kl_cel_decl *decl; // STRUCT: its fields; NULL: none that can be read
};

extern const struct cel_type cel_types[]; // by enum type_kind, those without parameters
#define CEL_TYPE(kind) (&cel_types[kind])

const struct cel_type *cel_type_list(struct kl_arena *a, const struct cel_type *elem);
const struct cel_type *cel_type_map(struct kl_arena *a, const struct cel_type *key,
                                    const struct cel_type *value);
const struct cel_type *cel_type_optional(struct kl_arena *a, const struct cel_type *t);
const struct cel_type *cel_type_of_type(struct kl_arena *a, const struct cel_type *t);
const struct cel_type *cel_type_named(struct kl_arena *a, enum type_kind kind, struct kl_str name);
bool cel_type_same(const struct cel_type *a, const struct cel_type *b, bool param_names);
// FormatCELType, or with `as_string` Type.String().
struct kl_str cel_type_text(struct kl_arena *a, const struct cel_type *t, bool as_string);
bool cel_type_is_optional(const struct cel_type *t);
static inline bool cel_is_dyn(const struct cel_type *t)
{
    return t->kind == T_DYN || t->kind == T_ANY;
}

// ---- assignability: type variables have numbers; what they stand for is kept with a log, so that
// what a failed attempt has bound is undone.
struct cel_mapping {
    struct kl_arena *arena;
    const struct cel_type **to; // by number - 1
    struct cel_undo {
        uint32_t var;
        const struct cel_type *before;
    } * log;
    uint32_t nvars, cap, nlog, log_cap;
    bool out_of_memory;
};
const struct cel_type *cel_new_var(struct cel_mapping *m);
// On failure the mapping is as before.
bool cel_assignable(struct cel_mapping *m, const struct cel_type *t1, const struct cel_type *t2);
bool cel_assignable_list(struct cel_mapping *m, size_t n, const struct cel_type *const *t1,
                         const struct cel_type *const *t2);
const struct cel_type *cel_substitute(struct cel_mapping *m, const struct cel_type *t,
                                      bool vars_to_dyn);
const struct cel_type *cel_most_general(const struct cel_type *a, const struct cel_type *b);

// ---- declared types
enum decl_shape { D_SCALAR, D_LIST, D_MAP, D_OBJECT };
enum decl_flag {
    DF_NULLABLE = 1 << 0,
    DF_INT_OR_STRING = 1 << 1,
    DF_PRESERVE = 1 << 2,
    DF_SCHEMA = 1 << 3,    // made from a schema: values are checked against it
    DF_ROOT = 1 << 7,      // estimates know sizes by the path from here
    DF_UNKEYED = 1 << 4,   // an object without properties
    DF_DATE = 1 << 5,      // timestamps of format date
    DF_ANY_FIELD = 1 << 6, // Object{...}: every field there is, of type dyn
};
struct decl_field {
    struct kl_str name; // as an identifier
    struct kl_str key;  // the property's name
    const struct kl_cel_decl *decl;
};
struct kl_cel_decl {
    const struct cel_type *type;
    uint8_t shape, flags, list_type; // enum kl_list_type
    const struct kl_cel_decl *elem, *key;
    struct decl_field *fields; // sorted by name
    uint32_t nfields;
    struct kl_str *map_keys; // list type map
    uint32_t nmap_keys;
    int64_t max_elements, min_size;
};
const struct decl_field *cel_decl_field(const struct kl_cel_decl *d, struct kl_str name);
const struct decl_field *cel_decl_property(const struct kl_cel_decl *d, struct kl_str key);
