// SPDX-License-Identifier: Apache-2.0
// A compiled schema: nodes are runs of 32-bit words, equal runs are kept once, texts apart.
//
// A node: [flags] [properties | attributes << 20], then its properties as pairs (name, node) sorted
// by name, then its attributes as pairs (tag, value). What a value is, its tag says: a node, a text
// or a list [n, ...] by its place, or a 64-bit number in two words.
#pragma once
#include "object/cel/cel.h"
#include "object/crd/crd.h"
#include <pthread.h>

enum {
    CRD_OBJECT = 1 << 0,
    CRD_ARRAY = 1 << 1,
    CRD_STRING = 1 << 2,
    CRD_INTEGER = 1 << 3,
    CRD_NUMBER = 1 << 4,
    CRD_BOOLEAN = 1 << 5,
    CRD_TYPES = (1 << 6) - 1, // no bit: no type
    CRD_NULLABLE = 1 << 6,
    CRD_INT_OR_STRING = 1 << 7,
    CRD_PRESERVE = 1 << 8,
    CRD_EMBEDDED = 1 << 9,
    CRD_EXCL_MAX = 1 << 10,
    CRD_EXCL_MIN = 1 << 11,
    CRD_UNIQUE = 1 << 12,
    CRD_LIST_ATOMIC = 1 << 13,
    CRD_LIST_SET = 1 << 14,
    CRD_LIST_MAP = 1 << 15,
    CRD_MAP_ATOMIC = 1 << 16,
    CRD_EXTRA_TRUE = 1 << 17,  // additionalProperties: true
    CRD_EXTRA_FALSE = 1 << 18, // additionalProperties: false
    // What the node or a node below it has:
    CRD_HAS_RULES = 1 << 19,
    CRD_HAS_DEFAULTS = 1 << 20,
    CRD_HAS_LISTS = 1 << 21,
    CRD_HAS_EMBEDDED = 1 << 22,
    CRD_HAS_ALL_OF_RULES = 1 << 23, // in branches of allOf
    CRD_HAS_ANY =
        CRD_HAS_RULES | CRD_HAS_DEFAULTS | CRD_HAS_LISTS | CRD_HAS_EMBEDDED | CRD_HAS_ALL_OF_RULES,
};

enum crd_tag {
    CRD_NO_TAG,
    CRD_ITEMS,       // node
    CRD_EXTRA,       // node: additionalProperties
    CRD_FORMAT,      // text
    CRD_FORMAT_KIND, // enum crd_format
    CRD_PATTERN,     // text
    CRD_MAX,         // double
    CRD_MIN,
    CRD_MULTIPLE_OF,
    CRD_MAX_LENGTH, // int64
    CRD_MIN_LENGTH,
    CRD_MAX_ITEMS,
    CRD_MIN_ITEMS,
    CRD_MAX_PROPERTIES,
    CRD_MIN_PROPERTIES,
    CRD_ENUM,     // list of pairs (is a string, text: the string or JSON)
    CRD_REQUIRED, // list of texts
    CRD_ALL_OF,   // list of nodes
    CRD_ANY_OF,
    CRD_ONE_OF,
    CRD_NOT,
    CRD_DEFAULT, // text: JSON
    CRD_KEYS,    // list of texts
    CRD_RULES,   // list of CRD_RULE_WORDS words each
};

enum crd_rule_word {
    CRD_RULE_TEXT,
    CRD_RULE_MESSAGE,
    CRD_RULE_EXPRESSION,
    CRD_RULE_REASON,
    CRD_RULE_PATH,
    CRD_RULE_OPTIONAL, // optionalOldSelf
    CRD_RULE_WORDS,
};

enum crd_format {
    CRD_F_NONE, // also formats that take every string
    CRD_F_BSON,
    CRD_F_URI,
    CRD_F_EMAIL,
    CRD_F_HOSTNAME,
    CRD_F_IPV4,
    CRD_F_IPV6,
    CRD_F_CIDR,
    CRD_F_MAC,
    CRD_F_UUID,
    CRD_F_UUID3,
    CRD_F_UUID4,
    CRD_F_UUID5,
    CRD_F_ISBN,
    CRD_F_ISBN10,
    CRD_F_ISBN13,
    CRD_F_CREDITCARD,
    CRD_F_SSN,
    CRD_F_HEXCOLOR,
    CRD_F_RGBCOLOR,
    CRD_F_BYTE,
    CRD_F_PASSWORD,
    CRD_F_DATE,
    CRD_F_DURATION,
    CRD_F_DATETIME,
    CRD_F_SHORT_NAME,
    CRD_F_LONG_NAME,
    CRD_F_UNKNOWN,
};

// A place in a schema's words. 0: no schema.
typedef uint32_t crd_ref;

struct crd_words {
    const uint32_t *w;
    const char *text;
};

struct crd_cel;      // compiled rules: cel.c
struct crd_patterns; // compiled patterns: pattern.c

struct kl_crd_schema {
    struct kl_type type; // first: kl_crd_of_type
    struct kl_type list_type, items_type;
    struct kl_field *fields, *list_fields;
    struct crd_words words;
    crd_ref root;
    bool preserve; // spec.preserveUnknownFields, or there is no schema
    bool has_rest;
    char *head; // texts of what follows
    struct kl_str group, version, kind, list_kind, api_version;
    size_t bytes;
    atomic_uint refs;
    atomic_bool retired;  // kl_crd_schema_retire
    pthread_mutex_t lock; // of what is made on first use
    struct crd_cel *cel;
    struct crd_patterns *patterns;
};

// A schema without types: its words alone.
int crd_schema_bare(const struct kl_value *schema, struct kl_crd_schema **ret,
                    struct kl_error *err);

// ---- reading nodes
static inline uint32_t crd_flags(const struct crd_words *s, crd_ref n)
{
    return s->w[n];
}
static inline uint32_t crd_nprops(const struct crd_words *s, crd_ref n)
{
    return s->w[n + 1] & 0xfffff;
}
static inline struct kl_str crd_text(const struct crd_words *s, uint32_t text)
{
    uint32_t n;
    memcpy(&n, s->text + text, 4);
    return (struct kl_str){s->text + text + 4, n};
}
// Property i of a node, in the order of the names.
static inline struct kl_str crd_prop_name(const struct crd_words *s, crd_ref n, uint32_t i)
{
    return crd_text(s, s->w[n + 2 + 2 * i]);
}
static inline crd_ref crd_prop_node(const struct crd_words *s, crd_ref n, uint32_t i)
{
    return s->w[n + 3 + 2 * i];
}
crd_ref crd_prop(const struct crd_words *s, crd_ref n, struct kl_str name); // 0: none. O(log n)
uint32_t crd_attr(const struct crd_words *s, crd_ref n, enum crd_tag tag);  // 0: none
static inline struct kl_str crd_attr_text(const struct crd_words *s, crd_ref n, enum crd_tag tag)
{
    uint32_t t = crd_attr(s, n, tag);
    return t ? crd_text(s, t) : (struct kl_str){"", 0};
}
static inline double crd_double(const struct crd_words *s, uint32_t at)
{
    double d;
    memcpy(&d, s->w + at, 8);
    return d;
}
static inline int64_t crd_int(const struct crd_words *s, uint32_t at)
{
    int64_t i;
    memcpy(&i, s->w + at, 8);
    return i;
}
// A list: its length, or 0 for none; elements follow behind the length.
static inline uint32_t crd_list(const struct crd_words *s, crd_ref n, enum crd_tag tag,
                                const uint32_t **ret)
{
    uint32_t at = crd_attr(s, n, tag);
    *ret = at ? s->w + at + 1 : NULL;
    return at ? s->w[at] : 0;
}
// additionalProperties is there, be it a schema or a truth value.
static inline bool crd_has_extra(const struct crd_words *s, crd_ref n)
{
    return (crd_flags(s, n) & (CRD_EXTRA_TRUE | CRD_EXTRA_FALSE)) || crd_attr(s, n, CRD_EXTRA);
}
// The schema of a member: a property's, or that of additional ones. 0: none.
static inline crd_ref crd_member(const struct crd_words *s, crd_ref n, struct kl_str name)
{
    crd_ref p = n ? crd_prop(s, n, name) : 0;
    return p || !n ? p : crd_attr(s, n, CRD_EXTRA);
}
// The format of a schema of this type; CRD_F_UNKNOWN: ignored.
uint32_t crd_type_bits(struct kl_str type); // CRD_OBJECT ...; 0: none or unknown
enum crd_format crd_format_of(struct kl_str format, uint32_t types);
bool crd_format_valid(enum crd_format format, struct kl_str s, struct kl_crd_schema *cache,
                      struct kl_arena *a);
bool crd_is_email(struct kl_str s); // net/mail.ParseAddress

// Room for all that a list or map has, for changing it; the first n items or members are there.
// NULL: no memory.
struct kl_value *crd_own_items(struct kl_arena *a, const struct kl_value *v, uint32_t n);

static inline bool crd_is_meta(struct kl_str name)
{
    return kl_str_eqz(name, "metadata") || kl_str_eqz(name, "kind") ||
           kl_str_eqz(name, "apiVersion");
}

// ---- building
struct crd_builder;
// Compiles a typed JSONSchemaProps into words that the caller frees with crd_words_free.
int crd_compile(const struct kl_value *schema, struct crd_words *ret, crd_ref *ret_root,
                size_t *ret_bytes, struct kl_error *err);
void crd_words_free(struct crd_words *w);

// ---- walks over untyped trees. `root` treats the node as that of a resource.
// Prunes and, unless `keep_nulls`, drops nulls. *ret shares what did not change.
int crd_prune(struct kl_arena *a, const struct crd_words *s, crd_ref node, bool root,
              bool keep_nulls, const struct kl_value *v, struct kl_strict *strict,
              struct kl_value *ret);
// Defaults below v. True in *ret_changed when *ret differs from *v.
int crd_default(struct kl_arena *a, const struct crd_words *s, crd_ref node,
                const struct kl_value *v, struct kl_value *ret, bool *ret_changed);
// Kind, apiVersion and metadata of embedded objects in v.
int crd_coerce(struct kl_arena *a, const struct crd_words *s, crd_ref node, bool drop_malformed,
               const struct kl_value *v, struct kl_strict *strict, struct kl_value *ret,
               struct kl_error *err);
// What that would refuse, as a finding: at most one.
struct crd_path;
int crd_check_heads(struct kl_findings *f, const struct crd_words *s, crd_ref node,
                    const struct crd_path *path, const struct kl_value *v);

// ---- errors
// A chain on the stack, or a text; put together only when there is something to say.
struct crd_path {
    const struct crd_path *up;
    struct kl_str name; // p set: .name, or [name] with `key`
    uint32_t index;     // [index]
    bool key;
};
struct kl_str crd_path_text(struct kl_arena *a, const struct crd_path *p); // "<nil>" for none

// `reason` as in field.ErrorType; `shown` is the value as the message has it (p NULL: not shown).
// False when memory ran out.
#define CRD_OMIT ((struct kl_str){NULL, 0})
bool crd_find(struct kl_findings *f, const char *reason, struct kl_str field, struct kl_str shown,
              struct kl_str detail);
bool crd_find_at(struct kl_findings *f, const char *reason, const struct crd_path *path,
                 struct kl_str shown, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
void crd_find_again(struct kl_findings *f, struct kl_field_finding finding);
struct kl_str crd_show(struct kl_arena *a, const struct kl_value *v); // as ErrorBody shows it
struct kl_str crd_quote(struct kl_arena *a, struct kl_str s);

// ---- what was, beside what is (common.CorrelatedObject). Old trees have the keys of large maps
// sorted, so that no write is quadratic.
int crd_sort_old(struct kl_arena *a, struct kl_value *v);
const struct kl_value *crd_old_value(const struct kl_value *map, struct kl_str key); // or NULL
struct crd_pair {
    const struct crd_words *s;
    crd_ref node;
    const struct kl_value *now, *old;
    uint32_t *index; // of old items by their keys, made when first asked for
    uint32_t mask;
};
// The pair of a member or an item; false: they cannot be correlated. Indexes live in a.
bool crd_pair_key(const struct crd_pair *p, struct kl_str name, const struct kl_value *now,
                  struct crd_pair *ret);
bool crd_pair_item(struct kl_arena *a, struct crd_pair *p, const struct kl_value *now,
                   struct crd_pair *ret);
bool crd_pair_equal(struct kl_arena *a, struct crd_pair *p); // false for NULL
// The old item of a list of type map with the keys of this one; NULL: none.
const struct kl_value *crd_pair_old_item(struct kl_arena *a, struct crd_pair *p,
                                         const struct kl_value *item);

// ---- validation of one tree
// kube-openapi's validator. `p` NULL: a create. `prefix`: "" or "status".
int crd_validate_tree(struct kl_findings *f, struct kl_crd_schema *cache, const struct crd_words *s,
                      crd_ref node, const char *prefix, const struct kl_value *v,
                      struct crd_pair *p);
int crd_validate_lists(struct kl_findings *f, const struct crd_words *s, crd_ref node,
                       const struct crd_path *path, const struct kl_value *v);
// apiVersion, kind and metadata of one resource. False: out of memory.
bool crd_validate_head(struct kl_findings *f, const struct crd_path *path,
                       const struct kl_value *v);
int crd_validate_embedded(struct kl_findings *f, const struct crd_words *s, crd_ref node,
                          const struct crd_path *path, const struct kl_value *v);
// x-kubernetes-validations of a tree. *budget is what is left, negative when it is used up. What
// ratcheting lets pass goes to `warnings` (NULL: nowhere).
struct crd_rule_scope {
    struct kl_findings *f, *warnings;
    struct kl_crd_schema *schema;
    crd_ref node;
    bool root; // the value is a resource
    const struct crd_path *path;
    struct crd_pair *pair; // NULL: nothing is ratcheted
};
int crd_validate_rules(const struct crd_rule_scope *scope, const struct kl_value *now,
                       const struct kl_value *old, int64_t *budget);
void crd_cel_free(struct crd_cel *c);

// ---- patterns
// Whether the text matches; *ret_error when the pattern is none. Compiled patterns are kept with
// `cache` (NULL: not kept), at most CRD_PATTERNS_MAX.
enum { CRD_PATTERNS_MAX = 64 };
int crd_pattern_match(struct kl_crd_schema *cache, struct kl_str pattern, struct kl_str text,
                      struct kl_arena *a, bool *ret_match, struct kl_str *ret_error);
void crd_patterns_free(struct crd_patterns *p);
