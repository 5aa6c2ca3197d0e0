// SPDX-License-Identifier: Apache-2.0
// Schemas as data: what every walk over typed values reads. The built-in ones are constant tables
// that object/schema/gen_schema.py makes from the API facts; a CRD's are built at run time.
#pragma once
#include "base/str.h"
#include "object/symbols.h"
#include "object/types_gen.h"
#include <stdint.h>

enum kl_type_kind {
    KL_T_STRING,
    KL_T_INTEGER,
    KL_T_NUMBER,
    KL_T_BOOLEAN,
    KL_T_BYTES,
    KL_T_STRUCT,
    KL_T_ARRAY,
    KL_T_MAP,
    KL_T_ANY, // untyped: null, bool, int, float, string, array, map
    KL_T_QUANTITY,
    KL_T_INT_OR_STRING,
    KL_T_TIME,
    KL_T_MICROTIME,
    KL_T_DURATION,
    KL_T_RAW_EXTENSION, // KL_RAW
    KL_T_UNKNOWN,       // runtime.Unknown
    KL_T_FIELDS_V1,     // KL_RAW
    KL_T_JSON,          // KL_RAW
    KL_T_SCHEMA_OR_ARRAY,
    KL_T_SCHEMA_OR_BOOL,
    KL_T_SCHEMA_OR_STRINGS,
};

enum kl_format {
    KL_FMT_NONE,
    KL_FMT_INT32,
    KL_FMT_INT64,
    KL_FMT_DOUBLE,
    KL_FMT_BYTE,
    KL_FMT_DATE_TIME,
    KL_FMT_OTHER
};

enum kl_list_type { KL_LIST_NONE, KL_LIST_ATOMIC, KL_LIST_SET, KL_LIST_MAP };

enum kl_pb_type {
    KL_PB_NONE,
    KL_PB_BOOL,
    KL_PB_INT32,
    KL_PB_INT64,
    KL_PB_UINT32,
    KL_PB_UINT64,
    KL_PB_FLOAT,
    KL_PB_DOUBLE,
    KL_PB_STRING,
    KL_PB_BYTES,
    KL_PB_MESSAGE,
    KL_PB_MAP
};

enum {
    KL_FIELD_REQUIRED = 1 << 0,
    KL_FIELD_PTR = 1 << 1, // nullable: unset differs from zero
    // Written even when zero: null for lists, maps and pointers, {} for structs.
    KL_FIELD_EMIT_ALWAYS = 1 << 2,
    KL_FIELD_EMIT_NONZERO = 1 << 3, // struct left out when all of it is zero
    KL_FIELD_PB_REPEATED = 1 << 4,
    KL_FIELD_PATCH_MERGE = 1 << 5,       // patchStrategy merge
    KL_FIELD_PATCH_RETAIN_KEYS = 1 << 6, // patchStrategy retainKeys
    KL_FIELD_PATCH_REPLACE = 1 << 7,
    KL_FIELD_ENUM_CLOSED = 1 << 8, // `values` is a closed set, else known names of an open one
    KL_FIELD_INLINE_PB = 1 << 9,   // pb_in says the nested messages it sits in
    KL_FIELD_KEEP_NULL = 1 << 10,  // of a custom kind: null is a value
    KL_FIELD_REST = 1 << 11,       // of a custom kind: a map of members that have no field
    KL_FIELD_GRANULAR = 1 << 12, // members have owners of their own here, though the type is atomic
};

struct kl_field {
    const struct kl_type *type;
    const char *default_json;      // JSON text of the default the schema carries, or NULL
    const char *const *values;     // enum or known names, NULL-ended, or NULL
    const uint32_t *list_map_keys; // symbols, 0-ended, or NULL
    uint32_t sym;
    uint32_t merge_key; // symbol of patchMergeKey, 0: none
    uint16_t flags;
    uint16_t pb;       // protobuf field number, 0: not in the message
    uint16_t gate;     // index into kl_gates + 1, 0: none
    uint8_t pb_type;   // enum kl_pb_type
    uint8_t list_type; // enum kl_list_type
    uint8_t pb_in[4];  // field numbers of the enclosing nested messages, outermost first
};

struct kl_type {
    const char *name;              // "io.k8s.api.core.v1.Pod"; NULL for anonymous arrays and maps
    const struct kl_type *elem;    // array items, map values
    const struct kl_field *fields; // KL_T_STRUCT: in Go struct order
    const uint16_t *by_pb;         // field indexes by rising wire number (outermost first)
    const uint16_t *by_name;       // field indexes by bytewise name; both are nfields long
    uint16_t nfields;
    uint8_t kind;       // enum kl_type_kind; an array with a name is a message
    uint8_t format;     // enum kl_format
    uint8_t map_atomic; // mapType atomic (structs and maps)
    uint8_t in_openapi;
    uint8_t has_type_meta : 1; // a kind of the API: its apiVersion and kind say its type
    uint8_t custom : 1;        // a custom kind's (object/crd/crd.h): objects hold it by count
    uint8_t slot_bits;
    const uint8_t *slots; // perfect hash of the names: field index + 1; NULL: none
    uint64_t slot_mul;
};

#define KL_SYM_NONE 0u

// Symbols are interned names of schema fields; those of the built-in schemas are constants
// (KL_F_metadata). Dynamic ones are added when a CRD's schema is compiled and never from input.
struct kl_str kl_sym_name(uint32_t sym);
uint32_t kl_sym_find(struct kl_str name);   // KL_SYM_NONE when no schema has this name
uint32_t kl_sym_intern(struct kl_str name); // any thread; for schemas only; 0 when out of memory

const struct kl_type *kl_type_by_name(struct kl_str definition_name);        // NULL when unknown
const struct kl_field *kl_type_field(const struct kl_type *t, uint32_t sym); // NULL: no such
const struct kl_field *kl_type_field_named(const struct kl_type *t, struct kl_str name);

// Feature gates (gates.json): default state at this version.
enum kl_gate_stage {
    KL_GATE_STAGE_ALPHA,
    KL_GATE_STAGE_BETA,
    KL_GATE_STAGE_GA,
    KL_GATE_STAGE_DEPRECATED,
    KL_GATE_STAGE_PAIR
};
struct kl_gate {
    const char *name;
    uint8_t on; // default
    uint8_t locked;
    uint8_t stage;
};
extern const struct kl_gate kl_gates[]; // behind kl_ngates: pairs of gates, on when both are
extern const uint16_t kl_ngates;
extern const uint16_t kl_ngate_rows; // with the pairs

// A built-in type by its generated index: kl_type(KL_TYPE_core_v1_Pod),
// kl_type(KL_TYPE_meta_v1_Status). The anonymous types (arrays, maps, scalars) follow the named
// ones.
extern const struct kl_type kl_type_table[];
extern const uint32_t kl_type_table_n;
static inline const struct kl_type *kl_type(enum kl_type_index i)
{
    return &kl_type_table[i];
}
static inline bool kl_type_is_builtin(const struct kl_type *t)
{
    return t >= kl_type_table && t < kl_type_table + kl_type_table_n;
}
// A custom kind's type lives as long as something refers to it; nothing happens for other types.
void kl_custom_type_ref(const struct kl_type *t);
void kl_custom_type_unref(const struct kl_type *t);
// The built-in type of an apiVersion's group and version and a kind, lists and options included.
const struct kl_type *kl_type_by_kind(struct kl_str group, struct kl_str version,
                                      struct kl_str kind);

// All built-in types, for tools and tests.
extern const struct kl_type *const kl_types[];
extern const uint16_t kl_ntypes;
