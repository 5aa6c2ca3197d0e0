// SPDX-License-Identifier: Apache-2.0
// CEL as Kubernetes 1.36 has it: the language, its type checker, its libraries, its costs.
//
// An environment declares variables. A program is one expression, parsed, checked and planned
// against it; it is immutable and may be evaluated by many threads at once. Values are small and
// passed by value; what they refer to lives in the arena of the evaluation or in the trees that
// were bound, which are never copied. Texts of errors are cel-go's.
//
// Reference: cel-spec, cel-go 0.26, k8s.io/apiserver/pkg/cel.
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "object/value.h"

struct kl_cel_env;
struct kl_cel_type;
struct kl_cel_decl;
struct kl_cel_program;
struct kl_cel_lazy;
struct kl_cel_authorizer;
struct kl_type;

enum {
    KL_CEL_PER_CALL_LIMIT = 1000000,    // admission: cost of one evaluation
    KL_CEL_RUNTIME_BUDGET = 10000000,   // admission: cost of all of a policy or of a resource
    KL_CEL_MATCH_BUDGET = 2500000,      // matchConditions of one webhook
    KL_CEL_ESTIMATE_LIMIT = 10000000,   // CRD: estimated cost of one rule
    KL_CEL_ESTIMATE_TOTAL = 100000000,  // CRD: of all rules
    KL_CEL_CHECK_FREQUENCY = 100,       // iterations between two questions whether to stop
    KL_CEL_MAX_REQUEST_BYTES = 3 << 20, // what estimates take as the largest request
    KL_CEL_MAX_MESSAGE_BYTES = 5 << 10, // what a messageExpression may give
};

// ---- values
enum kl_cel_kind {
    KL_CEL_ERROR, // a message in s
    KL_CEL_NULL,
    KL_CEL_BOOL,
    KL_CEL_INT,
    KL_CEL_UINT,
    KL_CEL_DOUBLE,
    KL_CEL_STRING,
    KL_CEL_BYTES,
    KL_CEL_TIMESTAMP, // i seconds since 1970, n nanoseconds, offset seconds east of UTC
    KL_CEL_DURATION,  // i nanoseconds
    KL_CEL_LIST,
    KL_CEL_MAP,
    KL_CEL_TYPE,     // its name in s
    KL_CEL_OPTIONAL, // p: the value, NULL for optional.none()
    KL_CEL_OPAQUE,   // preserved unknown data
    KL_CEL_IP,
    KL_CEL_CIDR,
    KL_CEL_URL,
    KL_CEL_QUANTITY,
    KL_CEL_SEMVER,
    KL_CEL_FORMAT,
    KL_CEL_AUTHORIZER,
    KL_CEL_PATH_CHECK,
    KL_CEL_GROUP_CHECK,
    KL_CEL_RESOURCE_CHECK,
    KL_CEL_DECISION,
    KL_CEL_JSON_PATCH,
    KL_CEL_OBJECT, // Object{...} of a mutating policy; lazily computed variables
};

struct kl_cel_val {
    uint8_t kind; // enum kl_cel_kind
    uint8_t form; // internal: how a list or map is stored
    uint8_t spare[2];
    uint32_t n; // bytes, elements; nanoseconds of a timestamp
    union {
        bool b;
        int64_t i;
        uint64_t u;
        double d;
        const char *s;
        const void *p;
    };
    union {
        const void *aux; // internal: schema of a wrapped node
        int32_t offset;
    };
};

struct kl_cel_val kl_cel_null(void);
struct kl_cel_val kl_cel_bool(bool b);
struct kl_cel_val kl_cel_int(int64_t i);
struct kl_cel_val kl_cel_uint(uint64_t u);
struct kl_cel_val kl_cel_double(double d);
struct kl_cel_val kl_cel_string(struct kl_str s); // borrows
struct kl_cel_val kl_cel_error(struct kl_str message);
struct kl_cel_val kl_cel_none(void);
// optional.of(v); the value is kept in the arena.
struct kl_cel_val kl_cel_optional(struct kl_arena *a, struct kl_cel_val v);
// A tree without a CEL schema, seen as the JSON that upstream's converter would give: members that
// Go always writes are there. `type` is the tree's own type, NULL for an untyped tree. NULL tree:
// null.
struct kl_cel_val kl_cel_node(struct kl_arena *a, const struct kl_value *v,
                              const struct kl_type *type);
// An untyped tree seen through a CRD's schema: self and oldSelf.
struct kl_cel_val kl_cel_typed(struct kl_arena *a, const struct kl_value *v,
                               const struct kl_cel_decl *decl);
// A map whose values are computed when first read, once: `variables`. `get` gives the value or an
// error value; it is called at most once for a name and may evaluate another program in the same
// arena. Names that the type does not have are not asked for.
struct kl_cel_val
kl_cel_lazy(struct kl_arena *a,
            struct kl_cel_val (*get)(void *ctx, struct kl_arena *a, struct kl_str name), void *ctx);

// Compares two semantic versions; false when one is none. The arena takes what is worked with.
bool kl_cel_semver_cmp(struct kl_arena *a, struct kl_str x, struct kl_str y, int *ret);

struct kl_str kl_cel_text(struct kl_cel_val v); // STRING, BYTES, ERROR, TYPE; else empty
size_t kl_cel_len(struct kl_cel_val v);         // LIST, MAP
struct kl_cel_val kl_cel_at(struct kl_arena *a, struct kl_cel_val list, size_t i);
// Entry i of a map, in no order that can be relied on.
void kl_cel_entry(struct kl_arena *a, struct kl_cel_val map, size_t i, struct kl_cel_val *ret_key,
                  struct kl_cel_val *ret_value);
// As an untyped tree in the arena: what ConvertToNative gives for JSON. KL_EINVALID for what JSON
// has no form for.
int kl_cel_to_value(struct kl_arena *a, struct kl_cel_val v, struct kl_value *ret,
                    struct kl_error *err);
// cel-go's Format(): a text that is CEL again; for messages and tests.
struct kl_str kl_cel_format(struct kl_arena *a, struct kl_cel_val v);
// A JSONPatch value's members. False when v is something else.
struct kl_cel_json_patch {
    struct kl_str op, path, from;
    struct kl_cel_val value; // KL_CEL_ERROR when not set
    bool has_value;
};
bool kl_cel_as_json_patch(struct kl_cel_val v, struct kl_cel_json_patch *ret);

// ---- types
enum kl_cel_simple {
    KL_CEL_T_DYN,
    KL_CEL_T_BOOL,
    KL_CEL_T_INT,
    KL_CEL_T_UINT,
    KL_CEL_T_DOUBLE,
    KL_CEL_T_STRING,
    KL_CEL_T_BYTES,
    KL_CEL_T_TIMESTAMP,
    KL_CEL_T_DURATION,
    KL_CEL_T_NULL,
    KL_CEL_T_QUANTITY,
    KL_CEL_T_AUTHORIZER,
    KL_CEL_T_RESOURCE_CHECK,
    KL_CEL_T_ANY, // like DYN, but no list or map to the type checker
};

// A declared type with what cost estimates need of it. All are made in an environment and live as
// long as it. NULL when memory ran out.
const struct kl_cel_decl *kl_cel_decl_simple(struct kl_cel_env *e, enum kl_cel_simple t);
const struct kl_cel_decl *kl_cel_decl_list(struct kl_cel_env *e, const struct kl_cel_decl *elem,
                                           int64_t max_items); // -1: no limit
const struct kl_cel_decl *kl_cel_decl_map(struct kl_cel_env *e, const struct kl_cel_decl *elem,
                                          int64_t max_properties); // keys are strings
const struct kl_cel_decl *kl_cel_decl_map_of(struct kl_cel_env *e, const struct kl_cel_decl *key,
                                             const struct kl_cel_decl *elem,
                                             int64_t max_properties);
// The same type, of a value that has at most so many elements or bytes.
const struct kl_cel_decl *kl_cel_decl_sized(struct kl_cel_env *e, const struct kl_cel_decl *d,
                                            int64_t max_elements);
const struct kl_cel_decl *kl_cel_decl_optional(struct kl_cel_env *e, const struct kl_cel_decl *d);
struct kl_cel_field {
    struct kl_str name;
    const struct kl_cel_decl *decl;
};
const struct kl_cel_decl *kl_cel_decl_object(struct kl_cel_env *e, struct kl_str name,
                                             const struct kl_cel_field *fields, size_t n);
// Adds a field to an object type, so that later expressions see it: `variables`. Not while a
// compilation runs.
int kl_cel_decl_add_field(struct kl_cel_env *e, const struct kl_cel_decl *object,
                          struct kl_str name, const struct kl_cel_decl *d);
// The type of a structural schema: a JSONSchemaProps tree, typed or untyped, which must live as
// long as the environment. `name` is given to it and, with the path, to the objects in it; `root`
// adds apiVersion, kind and metadata. *ret is NULL where the schema has no type that CEL can see.
int kl_cel_decl_schema(struct kl_cel_env *e, struct kl_str name, const struct kl_value *schema,
                       bool root, const struct kl_cel_decl **ret, struct kl_error *err);
// The part of it that a path leads to: property name, or "*" for items and additional properties.
const struct kl_cel_decl *kl_cel_decl_child(const struct kl_cel_decl *d, struct kl_str name);
int64_t kl_cel_decl_max_elements(const struct kl_cel_decl *d);
uint64_t kl_cel_decl_max_cardinality(const struct kl_cel_decl *d); // of its list items or values
// A program's result as a declared type, for variables that later expressions read.
const struct kl_cel_decl *kl_cel_decl_result(struct kl_cel_env *e, const struct kl_cel_program *p);
// The types of `request` and `namespaceObject` in admission.
const struct kl_cel_decl *kl_cel_decl_request(struct kl_cel_env *e);
const struct kl_cel_decl *kl_cel_decl_namespace(struct kl_cel_env *e);
// Property names as identifiers and back. KL_EINVALID when there is none.
int kl_cel_escape(struct kl_arena *a, struct kl_str name, struct kl_str *ret);
int kl_cel_unescape(struct kl_arena *a, struct kl_str name, struct kl_str *ret);

// ---- environments
enum {
    KL_CEL_PATCH_TYPES = 1 << 0, // JSONPatch{}, Object{}, jsonpatch.escapeKey()
    KL_CEL_BINDINGS = 1 << 1,    // cel.bind()
};
// Declaring is not thread-safe; compiling against a finished environment is.
struct kl_cel_env *kl_cel_env_new(unsigned flags); // NULL when memory ran out
struct kl_cel_env *kl_cel_env_ref(struct kl_cel_env *e);
void kl_cel_env_unref(struct kl_cel_env *e); // accepts NULL
// Declares a variable; the name may have dots ("authorizer.requestResource"). Gives its place in
// the values of an evaluation, or KL_EEXISTS, KL_ENOMEM.
int kl_cel_env_var(struct kl_cel_env *e, struct kl_str name, const struct kl_cel_decl *d);

// ---- programs
// Compiles. KL_EINVALID: *ret_issues (in the arena) has cel-go's text of all findings, e.g.
// "ERROR: <input>:1:3: undeclared reference to 'x' (in container '')\n | ...". KL_ENOMEM.
// A program keeps its environment.
int kl_cel_compile(struct kl_cel_env *e, struct kl_str expression, struct kl_arena *a,
                   struct kl_cel_program **ret, struct kl_str *ret_issues, struct kl_error *err);
struct kl_cel_program *kl_cel_program_ref(struct kl_cel_program *p);
void kl_cel_program_unref(struct kl_cel_program *p); // accepts NULL
// "bool", "list(string)": cel-go's name of the result's type.
struct kl_str kl_cel_program_type(const struct kl_cel_program *p);
bool kl_cel_program_is(const struct kl_cel_program *p, enum kl_cel_simple t);
bool kl_cel_program_uses(const struct kl_cel_program *p, struct kl_str variable);
// The static estimate with the sizes of the declared types.
struct kl_cel_cost {
    uint64_t min, max;
};
struct kl_cel_cost kl_cel_program_cost(const struct kl_cel_program *p);

struct kl_cel_eval {
    const struct kl_cel_val *vars;  // by the places that kl_cel_env_var gave
    uint64_t cost_limit;            // 0: none
    bool (*interrupted)(void *ctx); // NULL: never
    void *interrupted_ctx;
    const struct kl_cel_authorizer *authorizer; // behind values of that type
};
// Evaluates. *ret lives in the arena, in the bound trees and in the program. KL_EINVALID with
// cel-go's message; KL_ELIMIT when the cost went over the limit; KL_ENOMEM when the arena was full.
// *ret_cost (may be NULL) is set in every case.
int kl_cel_eval(const struct kl_cel_program *p, const struct kl_cel_eval *with, struct kl_arena *a,
                struct kl_cel_val *ret, uint64_t *ret_cost, struct kl_error *err);

// ---- authorizer
struct kl_cel_authz {
    bool resource_request;
    struct kl_str verb, path;
    struct kl_str group, resource, subresource, ns, name, field_selector, label_selector;
    bool as_service_account; // instead of the request's user
    struct kl_str sa_namespace, sa_name;
};
struct kl_cel_decision {
    bool allowed, errored;
    struct kl_str reason, error;
};
struct kl_cel_authorizer {
    void *ctx;
    // Decides at once; texts live in the arena.
    void (*authorize)(void *ctx, struct kl_arena *a, const struct kl_cel_authz *q,
                      struct kl_cel_decision *ret);
};
struct kl_cel_val kl_cel_authorizer(struct kl_arena *a); // the variable `authorizer`
struct kl_cel_val kl_cel_resource_check(struct kl_arena *a, struct kl_str group,
                                        struct kl_str resource, struct kl_str subresource,
                                        struct kl_str ns, struct kl_str name);
