// SPDX-License-Identifier: Apache-2.0
// What the files of defaulting share: a place in a draft that is copied only when it is changed.
#pragma once
#include "object/defaults.h"
#include "object/schema.h"
#include "object/types_gen.h"

struct kl_default_ctx {
    struct kl_arena *arena;
    int err; // KL_ENOMEM once it happened; later changes do nothing
};

// A struct, list or map of the draft, or where one would be. Reading never copies; the first change
// makes the levels from the root down to it the draft's own.
struct kl_default_node {
    struct kl_default_ctx *ctx;
    struct kl_default_node *up; // NULL for the root
    const struct kl_value *v;   // NULL: absent
    struct kl_value *root;      // of the root only
    struct kl_str key;          // within a map
    uint32_t sym, index;        // within a struct, a list
    uint8_t kind;               // KL_STRUCT, KL_ARRAY or KL_MAP
};

static inline struct kl_default_node kl_default_in(struct kl_default_node *up, kl_sym sym,
                                                   enum kl_value_kind kind)
{
    return (struct kl_default_node){
        .ctx = up->ctx, .up = up, .v = kl_get(up->v, sym), .sym = sym, .kind = kind};
}

static inline struct kl_default_node kl_default_at(struct kl_default_node *list, size_t index)
{
    return (struct kl_default_node){.ctx = list->ctx,
                                    .up = list,
                                    .v = kl_at(list->v, index),
                                    .index = (uint32_t)index,
                                    .kind = KL_STRUCT};
}

// The place for changing it, made when absent. NULL after an error.
struct kl_value *kl_default_own(struct kl_default_node *n);
void kl_default_set(struct kl_default_node *n, kl_sym sym, struct kl_value v);
void kl_default_unset(struct kl_default_node *n, kl_sym sym);
void kl_default_map_set(struct kl_default_node *map, struct kl_str key, struct kl_value v);

// Whether the member is there at all: what a Go pointer, map or slice tells from nil.
static inline bool kl_default_has(const struct kl_default_node *n, kl_sym sym)
{
    return kl_get(n->v, sym) != NULL;
}
static inline struct kl_str kl_default_text(const struct kl_default_node *n, kl_sym sym)
{
    return kl_text(kl_get(n->v, sym));
}
static inline bool kl_default_is(const struct kl_default_node *n, kl_sym sym, const char *text)
{
    return kl_str_eqz(kl_default_text(n, sym), text);
}
// Where nil differs from zero.
static inline void kl_default_ptr(struct kl_default_node *n, kl_sym sym, struct kl_value v)
{
    if (!kl_default_has(n, sym))
        kl_default_set(n, sym, v);
}
// Plain strings and numbers: zero is unset.
static inline void kl_default_string(struct kl_default_node *n, kl_sym sym, const char *text)
{
    if (kl_default_text(n, sym).n == 0)
        kl_default_set(n, sym, kl_stringz(text));
}
static inline void kl_default_number(struct kl_default_node *n, kl_sym sym, int64_t i)
{
    if (kl_int_or(kl_get(n->v, sym), 0) == 0)
        kl_default_set(n, sym, kl_int(i));
}
// Adds the entries of `from` that the map member does not have.
void kl_default_fill(struct kl_default_node *n, kl_sym sym, const struct kl_value *from);

// ---- the tables of gen_defaults.py

enum kl_walk_shape { KL_WALK_STRUCT, KL_WALK_ARRAY, KL_WALK_MAP, KL_WALK_RESOURCES, KL_WALK_GATED };

struct kl_walk_step {
    uint32_t sym;
    uint16_t row;
    uint8_t shape;
    uint8_t absent; // goes there even when the struct is absent
};

struct kl_default_literal {
    struct kl_value value; // its sym is the field's
    bool ptr;
};

struct kl_default_row {
    void (*apply)(struct kl_default_node *n);
    const struct kl_default_literal *literals;
    const struct kl_walk_step *steps;
    uint8_t nliterals, nsteps;
};

struct kl_gated_row {
    const struct kl_walk_step *steps;
    uint8_t nsteps;
    uint16_t type; // whose fields these are
};

extern const struct kl_default_row kl_default_rows[];
extern const struct kl_gated_row kl_gated_rows[];           // what is off by default
extern const struct kl_gated_row kl_switched_rows[];        // what may be switched on or off
extern const uint16_t kl_default_row_of[KL_TYPE_NAMED_END]; // 0: nothing to do
extern const uint16_t kl_gated_row_of[KL_TYPE_NAMED_END];
extern const uint16_t kl_switched_row_of[KL_TYPE_NAMED_END];

// `latest`, or no tag and no digest; false for what is no image reference.
bool kl_image_is_latest(struct kl_str reference);
// The requests of a pod's containers become those of the pod (gate PodLevelResources).
void kl_default_pod_resources(struct kl_default_node *pod_spec);

#define X(type, function) void function(struct kl_default_node *n);
#include "object/defaults_list.h"
#undef X
