// SPDX-License-Identifier: Apache-2.0
// Values inside: how lists and maps are stored, equality, order, conversions.
#pragma once
#include "object/cel/cel.h"
#include "object/cel/type_int.h"
#include "object/quantity.h"

// kl_cel_val.form of lists and maps
enum form {
    F_ITEMS,  // p: struct kl_cel_val[n]; a map: key, value, key, value
    F_GROWS,  // p: struct cel_growing, changed in place while a comprehension fills it
    F_CONCAT, // list; p: struct cel_concat
    F_NODE,   // p: struct kl_value; aux: struct kl_type or NULL
    F_TYPED,  // p: struct kl_value; aux: struct kl_cel_decl
    F_LAZY,   // map; p: struct cel_lazy
};
struct cel_growing {
    struct kl_cel_val *items; // map: key and value in turn
    uint32_t n, cap;          // n: elements or entries
    uint32_t *index;          // map: open addressing, entry + 1
    uint32_t index_cap;
};
struct cel_concat {
    struct kl_cel_val left, right;
};
struct cel_lazy {
    struct kl_cel_val (*get)(void *ctx, struct kl_arena *a, struct kl_str name);
    void *ctx;
    struct cel_growing known;
};
struct cel_ip {
    uint8_t bytes[16];
    uint8_t len;  // 4 or 16
    uint8_t bits; // of a prefix
};
struct cel_url {
    struct kl_str text, scheme, host, path, query; // path as EscapedPath
    struct kl_str whole;                           // URL.String()
};
struct cel_quantity {
    struct kl_quantity q;
};
struct cel_semver {
    uint64_t part[3];
    struct kl_str pre, build;
};
struct cel_format {
    const char *name, *shown;
    int kind;
    uint32_t max_regex;
};
struct cel_authz {
    struct kl_cel_authz q;
};
struct cel_patch {
    struct kl_cel_json_patch v;
};
struct cel_object { // Object{...}
    struct kl_str type;
    struct cel_growing fields;
};

static inline struct kl_cel_val cel_str(struct kl_str s)
{
    return (struct kl_cel_val){.kind = KL_CEL_STRING, .n = (uint32_t)s.n, .s = s.p};
}
static inline struct kl_str cel_text(struct kl_cel_val v)
{
    return (struct kl_str){v.s, v.n};
}
static inline bool cel_is_error(struct kl_cel_val v)
{
    return v.kind == KL_CEL_ERROR;
}
static inline struct kl_cel_val cel_ok(bool b)
{
    return (struct kl_cel_val){.kind = KL_CEL_BOOL, .b = b};
}
static inline struct kl_cel_val cel_i(int64_t i)
{
    return (struct kl_cel_val){.kind = KL_CEL_INT, .i = i};
}
#define CEL_ERR(lit) ((struct kl_cel_val){.kind = KL_CEL_ERROR, .n = sizeof(lit) - 1, .s = "" lit})
#define CEL_NO_OVERLOAD CEL_ERR("no such overload")
// Known by its address: it ends an evaluation.
extern const char cel_no_memory[sizeof "out of memory"];
#define CEL_NO_MEMORY                                                                              \
    ((struct kl_cel_val){.kind = KL_CEL_ERROR, .n = sizeof cel_no_memory - 1, .s = cel_no_memory})
struct kl_cel_val cel_errf(struct kl_arena *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

size_t cel_rune_count(struct kl_str s);
uint32_t cel_rune(struct kl_str s, size_t *i); // decodes and steps; U+FFFD for what is not UTF-8
size_t cel_put_rune(char out[4], uint32_t r);

const char *cel_go_type(struct kl_cel_val v);           // as %T prints it
struct kl_str cel_kind_name(struct kl_cel_val v);       // the runtime type's name
uint64_t cel_size(struct kl_cel_val v, bool optionals); // actualSize of cost trackers
struct kl_cel_val cel_equal(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y);
struct kl_cel_val cel_equal_bare(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y);
bool cel_is_equal(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y);
// -1, 0, 1 as INT, or an error; cel_comparable says whether the type has an order at all.
struct kl_cel_val cel_compare(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y);
bool cel_numbers_equal(struct kl_cel_val x, struct kl_cel_val y); // x is a number
bool cel_comparable(struct kl_cel_val v);
struct kl_cel_val cel_convert(struct kl_arena *a, struct kl_cel_val v, enum type_kind to);
bool cel_is_zero(struct kl_cel_val v, bool *ret_zero); // false: the type has no zero

// ---- lists and maps
size_t cel_count(struct kl_cel_val v);
struct kl_cel_val cel_get(struct kl_arena *a, struct kl_cel_val list, size_t i);
struct kl_cel_val cel_list_of(const struct kl_cel_val *items, size_t n);
struct kl_cel_val cel_new_growing(struct kl_arena *a, enum kl_cel_kind kind);
bool cel_push(struct kl_arena *a, struct cel_growing *g, struct kl_cel_val v);
struct kl_cel_val cel_settled(struct kl_cel_val v); // F_GROWS to F_ITEMS
// Joined without copying.
struct kl_cel_val cel_list_concat(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y);
struct kl_cel_val cel_list_add(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y);
struct kl_cel_val cel_contains(struct kl_arena *a, struct kl_cel_val list, struct kl_cel_val v);
// 0: not there. An error value counts as found.
bool cel_find(struct kl_arena *a, struct kl_cel_val map, struct kl_cel_val key,
              struct kl_cel_val *ret);
bool cel_put(struct kl_arena *a, struct cel_growing *g, struct kl_cel_val key,
             struct kl_cel_val value); // replaces
struct kl_cel_val cel_insert(struct kl_arena *a, struct kl_cel_val map, struct kl_cel_val key,
                             struct kl_cel_val value);
// Index of a list from a value: -1 with *ret_err.
int64_t cel_index(struct kl_arena *a, struct kl_cel_val v, struct kl_cel_val *ret_err);

// ---- trees that are seen, not copied
struct kl_cel_val cel_wrap_node(struct kl_arena *a, const struct kl_value *v,
                                const struct kl_type *t);
struct kl_cel_val cel_wrap_typed(struct kl_arena *a, const struct kl_value *v,
                                 const struct kl_cel_decl *d);
bool cel_node_find(struct kl_arena *a, struct kl_cel_val map, struct kl_str key,
                   struct kl_cel_val *ret);
size_t cel_node_count(struct kl_cel_val map);
void cel_node_entry(struct kl_arena *a, struct kl_cel_val map, size_t i, struct kl_cel_val *ret_key,
                    struct kl_cel_val *ret_value);
bool cel_typed_find(struct kl_arena *a, struct kl_cel_val map, struct kl_str key,
                    struct kl_cel_val *ret);
struct kl_cel_val cel_typed_equal(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y);
struct kl_cel_val cel_typed_list_add(struct kl_arena *a, struct kl_cel_val x, struct kl_cel_val y);

// ---- texts as Go prints them
struct kl_str cel_double_g(struct kl_arena *a, double d);        // %g
struct kl_str cel_double_f(struct kl_arena *a, double d);        // 'f', -1
struct kl_str cel_quote(struct kl_arena *a, struct kl_str s);    // %q
struct kl_str cel_show(struct kl_arena *a, struct kl_cel_val v); // %v
bool cel_parse_double(struct kl_str s, double *ret);
struct kl_str cel_time_text(struct kl_arena *a, struct kl_cel_val v);
bool cel_time_parse(struct kl_str s, struct kl_cel_val *ret);
struct kl_str cel_ip_text(struct kl_arena *a, const struct cel_ip *ip, bool prefix);
int cel_semver_cmp(const struct cel_semver *x, const struct cel_semver *y);
