// SPDX-License-Identifier: Apache-2.0
// Sets of field paths: what metadata.managedFields says that somebody owns
// (structured-merge-diff's fieldpath.Set), and their text, FieldsV1.
//
// A set is immutable once made and lives in an arena; sets share what they have in common. NULL is
// the empty set everywhere. Elements borrow their texts: the object or the FieldsV1 text that a set
// was made from must live as long as the set. Operations fail only for want of memory: the result
// is then kl_fieldset_oom, which every further operation hands on, so that one check at the end is
// enough.
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "object/value.h"

// Nesting beyond this is refused in FieldsV1; objects deeper than this are owned as a whole there.
enum { KL_FIELDSET_DEPTH = 500 };

enum kl_elem_kind {
    KL_ELEM_FIELD, // a struct's field or a map's key: f:name
    KL_ELEM_KEY,   // the item of a list whose key fields have these values: k:{"name":"a"}
    KL_ELEM_VALUE, // the item of a set that is this scalar: v:"a"
    KL_ELEM_INDEX, // i:3
};

struct kl_elem_key {
    struct kl_str name;
    struct kl_value value;
};

struct kl_elem {
    uint32_t kind; // enum kl_elem_kind
    uint32_t n;    // of keys
    union {
        struct kl_str name;
        const struct kl_elem_key *keys; // by name
        struct kl_value value;
        int64_t index;
    };
};

struct kl_fieldset_node {
    struct kl_elem elem;
    const struct kl_fieldset *children;
    bool member; // the path that ends here is in the set
};

struct kl_fieldset {
    uint32_t n;
    struct kl_fieldset_node nodes[]; // in the order of kl_elem_cmp
};

extern const struct kl_fieldset kl_fieldset_oom;

// upstream's order of elements: fields, keys, values, indexes.
int kl_elem_cmp(const struct kl_elem *a, const struct kl_elem *b);
// value.Compare: numbers, strings, booleans, lists, maps, null.
int kl_elem_value_cmp(const struct kl_value *a, const struct kl_value *b);
// As messages show an element: .name, [name="a"], [=1], [3].
void kl_elem_show(struct kl_buf *out, const struct kl_elem *e);

// ---- making
// A level under construction: nodes in any order, the same element more than once.
struct kl_fieldset_builder {
    struct kl_fieldset_node *nodes;
    uint32_t n, cap;
    bool unsorted, failed;
};
void kl_fieldset_add(struct kl_arena *a, struct kl_fieldset_builder *b, const struct kl_elem *e,
                     bool member, const struct kl_fieldset *children);
// The set of what was added; NULL when that was nothing.
const struct kl_fieldset *kl_fieldset_build(struct kl_arena *a, struct kl_fieldset_builder *b);
// The set of one path of names, "spec.replicas".
const struct kl_fieldset *kl_fieldset_of(struct kl_arena *a, const char *dotted);

// ---- operations
const struct kl_fieldset *kl_fieldset_union(struct kl_arena *a, const struct kl_fieldset *s,
                                            const struct kl_fieldset *t);
const struct kl_fieldset *kl_fieldset_intersection(struct kl_arena *a, const struct kl_fieldset *s,
                                                   const struct kl_fieldset *t);
const struct kl_fieldset *kl_fieldset_difference(struct kl_arena *a, const struct kl_fieldset *s,
                                                 const struct kl_fieldset *t);
// Members of t take all that is below them with them.
const struct kl_fieldset *kl_fieldset_recursive_difference(struct kl_arena *a,
                                                           const struct kl_fieldset *s,
                                                           const struct kl_fieldset *t);
// The paths of s that are no prefix of another of its paths.
const struct kl_fieldset *kl_fieldset_leaves(struct kl_arena *a, const struct kl_fieldset *s);
bool kl_fieldset_equal(const struct kl_fieldset *s, const struct kl_fieldset *t);
bool kl_fieldset_covers(const struct kl_fieldset *s, const struct kl_fieldset *t); // t within s
bool kl_fieldset_meets(const struct kl_fieldset *s, const struct kl_fieldset *t);
size_t kl_fieldset_size(const struct kl_fieldset *s);
const struct kl_fieldset_node *kl_fieldset_find(const struct kl_fieldset *s,
                                                const struct kl_elem *e);
// Each path, members of a level before what lies deeper, as upstream lists conflicts.
void kl_fieldset_each(const struct kl_fieldset *s,
                      void (*cb)(void *arg, const struct kl_elem *const *path, size_t n),
                      void *arg);

// ---- FieldsV1
// KL_EBADREQUEST for what upstream cannot read; elements of unknown kinds are skipped, as there.
// The text must outlive the set.
int kl_fieldset_parse(struct kl_arena *a, struct kl_str text, const struct kl_fieldset **ret_set,
                      struct kl_error *err);
// Whether the set that the text (JSON, as everything that is stored) says may have a path in common
// with t: false is certain. Skips what it need not read.
bool kl_fieldset_text_may_meet(struct kl_str text, const struct kl_fieldset *t);
void kl_fieldset_write(struct kl_buf *out, const struct kl_fieldset *s);
