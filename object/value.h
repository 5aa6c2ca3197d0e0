// SPDX-License-Identifier: Apache-2.0
// The one value model: what JSON, YAML and protobuf decode to and every layer above reads.
//
// A tree is either a draft (mutable, its memory an arena's) or part of an object (immutable, one
// block of memory with one atomic count). A draft may refer to nodes of an object that stays
// referenced as long as the draft is used; freezing copies all into a block of its own.
//
// Canonical form (what kl_object_freeze makes and encoders expect): members of a struct stand in
// the order of the schema's fields, map keys are sorted bytewise and unique, and what upstream's Go
// struct could not tell from unset is absent: null, and where the field is neither a pointer nor
// of an open kind, zero numbers, false, empty strings, lists and maps (empty structs stay where the
// field is a pointer or an item). apiVersion and kind of a built-in root are not in the tree: its
// type says them.
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "object/symbols.h" // generated: enum kl_sym { KL_F_apiVersion, ... } from the schema
#include <stdatomic.h>

struct kl_type;

enum kl_value_kind {
    KL_NULL,
    KL_BOOL,
    KL_INT, // also durations (ns)
    KL_FLOAT,
    KL_TIME,   // microseconds since 1970, UTC; time and microtime alike
    KL_STRING, // UTF-8, not NUL-terminated; quantities in canonical form
    KL_BYTES,  // raw bytes (base64 in JSON)
    KL_RAW,    // verbatim compact JSON text: fieldsV1, rawExtension, json
    KL_ARRAY,
    KL_STRUCT, // members keyed by symbol; only for types of the schema
    KL_MAP,    // members keyed by string; map types and untyped objects
};

struct kl_value {
    uint32_t kind : 4;
    uint32_t owned : 1; // draft only: `items` belongs to the draft's arena and to this node alone
    uint32_t spare : 3;
    uint32_t sym : 24; // as a member of a struct: its field's symbol
    uint32_t n;        // bytes, elements or members
    union {
        bool b;
        int64_t i;
        double d;
        const char *s;
        struct kl_value *items; // ARRAY: n; STRUCT: n, each with sym; MAP: 2n, key then value
    };
};
_Static_assert(sizeof(struct kl_value) == 16, "nodes are small");

typedef uint32_t kl_sym;

// ---- reading. All accept NULL and give the zero answer for an absent or differently typed value.
const struct kl_value *kl_get(const struct kl_value *v, kl_sym field); // NULL when absent
const struct kl_value *kl_map_value(const struct kl_value *v, struct kl_str key);
const struct kl_value *kl_at(const struct kl_value *v, size_t index); // array element
bool kl_has_text(const struct kl_value *list, struct kl_str text);    // one of its items is
// kl_path(v, KL_F_metadata, KL_F_labels)
const struct kl_value *kl_path_list(const struct kl_value *v, const kl_sym *fields, size_t n);
#define kl_path(v, ...)                                                                            \
    kl_path_list((v), (const kl_sym[]){__VA_ARGS__}, sizeof((const kl_sym[]){__VA_ARGS__}) / 4)

static inline size_t kl_len(const struct kl_value *v)
{
    return v && v->kind >= KL_ARRAY ? v->n : 0;
}
static inline struct kl_str kl_text(const struct kl_value *v) // STRING, BYTES, RAW
{
    return v && v->kind >= KL_STRING && v->kind <= KL_RAW ? (struct kl_str){v->s, v->n}
                                                          : (struct kl_str){"", 0};
}
static inline int64_t kl_int_or(const struct kl_value *v, int64_t otherwise) // INT, TIME
{
    return v && (v->kind == KL_INT || v->kind == KL_TIME) ? v->i : otherwise;
}
static inline bool kl_is_true(const struct kl_value *v)
{
    return v && v->kind == KL_BOOL && v->b;
}
static inline bool kl_is(const struct kl_value *v, enum kl_value_kind kind)
{
    return v && v->kind == (uint32_t)kind;
}
#define kl_text_at(v, ...) kl_text(kl_path((v), __VA_ARGS__))
#define kl_int_at(v, otherwise, ...) kl_int_or(kl_path((v), __VA_ARGS__), (otherwise))
#define kl_true_at(v, ...) kl_is_true(kl_path((v), __VA_ARGS__))

// for (KL_EACH(item, list)): elements of an array, members of a struct, values of a map are walked
// by the three macros below; a NULL list has none, and what is no map has no keys.
#define KL_EACH(item, list)                                                                        \
    const struct kl_value *item = kl_len(list) ? (list)->items : NULL;                             \
    (item != NULL) && (item < (list)->items + (list)->n);                                          \
    item++
#define KL_MAP_EACH_KEY(key, map) /* key[0] is the key, key[1] the value */                        \
    const struct kl_value *key = kl_is(map, KL_MAP) ? (map)->items : NULL;                         \
    (key != NULL) && (key < (map)->items + 2 * (size_t)(map)->n);                                  \
    key += 2

// Deep equality; both sides canonical or both drafts of one origin (order of struct members and
// map keys does not matter). Absent (NULL) equals KL_NULL.
bool kl_value_equal(const struct kl_value *a, const struct kl_value *b);

// ---- making. Scalars and strings borrow: the text must live as long as the draft.
static inline struct kl_value kl_null(void)
{
    return (struct kl_value){.kind = KL_NULL};
}
static inline struct kl_value kl_bool(bool b)
{
    return (struct kl_value){.kind = KL_BOOL, .b = b};
}
static inline struct kl_value kl_int(int64_t i)
{
    return (struct kl_value){.kind = KL_INT, .i = i};
}
static inline struct kl_value kl_float(double d)
{
    return (struct kl_value){.kind = KL_FLOAT, .d = d};
}
static inline struct kl_value kl_time(int64_t us)
{
    return (struct kl_value){.kind = KL_TIME, .i = us};
}
static inline struct kl_value kl_string(struct kl_str s)
{
    return (struct kl_value){.kind = KL_STRING, .n = (uint32_t)s.n, .s = s.p};
}
#define kl_stringz(z) kl_string(kl_str(z))
static inline struct kl_value kl_raw_json(struct kl_str s)
{
    return (struct kl_value){.kind = KL_RAW, .n = (uint32_t)s.n, .s = s.p};
}
static inline struct kl_value kl_new_struct(void)
{
    return (struct kl_value){.kind = KL_STRUCT};
}
static inline struct kl_value kl_new_map(void)
{
    return (struct kl_value){.kind = KL_MAP};
}
static inline struct kl_value kl_new_array(void)
{
    return (struct kl_value){.kind = KL_ARRAY};
}

// ---- changing a draft. Each makes room in the arena as needed and copies the one level that it
// changes when that level belongs to an object. NULL or KL_ENOMEM when the arena is exhausted (the
// draft is as before then). A NULL parent gives KL_ENOMEM, so that edits can be chained.
// A value passed in is copied shallowly; what it refers to is shared, never changed in place. So
// finish a value before passing it in, or edit it where it lies.
int kl_set(struct kl_arena *a, struct kl_value *parent, kl_sym field, struct kl_value v);
int kl_unset(struct kl_arena *a, struct kl_value *parent, kl_sym field);
int kl_map_set_value(struct kl_arena *a, struct kl_value *map, struct kl_str key,
                     struct kl_value v);
int kl_map_unset(struct kl_arena *a, struct kl_value *map, struct kl_str key);
int kl_append(struct kl_arena *a, struct kl_value *array, struct kl_value v);
int kl_remove_at(struct kl_arena *a, struct kl_value *array, size_t index);
// The child for changing it; made with the given kind (KL_STRUCT, KL_MAP, KL_ARRAY) when absent or
// of another kind. The pointer holds until the parent's own members change.
struct kl_value *kl_edit(struct kl_arena *a, struct kl_value *parent, kl_sym field,
                         enum kl_value_kind kind);
struct kl_value *kl_edit_map(struct kl_arena *a, struct kl_value *map, struct kl_str key,
                             enum kl_value_kind kind);
struct kl_value *kl_edit_at(struct kl_arena *a, struct kl_value *array, size_t index);
// Fills the member when absent; for defaulting.
int kl_set_default(struct kl_arena *a, struct kl_value *parent, kl_sym field, struct kl_value v);
// A deep copy within the arena that shares nothing with v.
int kl_copy(struct kl_arena *a, const struct kl_value *v, struct kl_value *ret_copy);

// ---- objects
struct kl_object {
    atomic_uint refs;
    uint32_t size_bytes; // of the whole block
    const struct kl_type *type;
    struct kl_value root;
};

// Copies a draft into one canonical block. Sorts, drops what canonical form leaves out; walks the
// type's schema in parallel. Fails with KL_ENOMEM only.
struct kl_object *kl_object_freeze(const struct kl_type *type, const struct kl_value *draft);
struct kl_object *kl_object_ref(struct kl_object *o); // NULL in, NULL out
void kl_object_unref(struct kl_object *o);            // accepts NULL
// A draft root over the object: the object must stay referenced while the draft lives.
static inline struct kl_value kl_object_draft(const struct kl_object *o)
{
    struct kl_value v = o->root;
    v.owned = 0;
    return v;
}

// metadata in short
struct kl_str kl_meta_name(const struct kl_value *root);
struct kl_str kl_meta_namespace(const struct kl_value *root);
struct kl_str kl_meta_uid(const struct kl_value *root);
struct kl_str kl_meta_rv(const struct kl_value *root);
const struct kl_value *kl_meta_labels(const struct kl_value *root);
const struct kl_value *kl_meta_annotations(const struct kl_value *root);
static inline bool kl_meta_deleting(const struct kl_value *root)
{
    return kl_path(root, KL_F_metadata, KL_F_deletionTimestamp) != NULL;
}
// The entry of metadata.ownerReferences with controller: true, or NULL.
const struct kl_value *kl_meta_controller(const struct kl_value *root);
