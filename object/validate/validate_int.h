// SPDX-License-Identifier: Apache-2.0
// What the files of validation share. A rule that is a fact about one field is a row of a table
// (struct kl_rule) that one walker reads; a rule across fields is a function called from a row.
// Rows stand in upstream's order, which is the order of the errors.
//
// Paths are chains on the stack, put together only when there is something to say.
#pragma once
#include "object/names.h"
#include "object/quantity.h"
#include "object/validate/validate.h"

struct kl_vpath {
    const struct kl_vpath *up; // NULL: the first element
    const char *name;          // or
    struct kl_str key;         // [key], p set, or
    uint32_t sym;              // a schema field's name, or
    uint32_t index;            // [index]
};
#define F(p, field) (&(struct kl_vpath){.up = (p), .sym = KL_F_##field})
#define FS(p, s) (&(struct kl_vpath){.up = (p), .sym = (s)})
#define N(p, text) (&(struct kl_vpath){.up = (p), .name = (text)})
#define I(p, i) (&(struct kl_vpath){.up = (p), .index = (uint32_t)(i)})
#define K(p, k) (&(struct kl_vpath){.up = (p), .key = (k)})

enum { KL_V_MESSAGES = 5 };
struct kl_v {
    struct kl_findings *f;
    const struct kl_resource *res;
    const struct kl_value *now, *old; // roots; old NULL on create
    const struct kl_pod_ctx *pod;     // of the pod (template) that is being walked
    struct kl_cel_env *device_env;    // made with the first selector of devices
    struct kl_warnings *warnings;     // of warn.h; NULL when the object is validated
    size_t (*name_rule)(struct kl_v *c, struct kl_str name, const char *ret[]); // KL_V_MESSAGES
    struct kl_vpath meta, spec, status;
};

// ---- errors. `v` may be NULL: a nil pointer.
void kl_v_required(struct kl_v *c, const struct kl_vpath *p, const char *detail);
void kl_v_invalid(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *v,
                  const char *detail);
void kl_v_invalid_str(struct kl_v *c, const struct kl_vpath *p, struct kl_str s,
                      const char *detail);
void kl_v_invalid_int(struct kl_v *c, const struct kl_vpath *p, int64_t i, const char *detail);
void kl_v_invalid_text(struct kl_v *c, const struct kl_vpath *p, struct kl_str shown,
                       const char *detail); // the value as it is to be shown
void kl_v_invalid_omitted(struct kl_v *c, const struct kl_vpath *p, const char *detail); // no value
// A struct or list as encoding/json shows upstream's type; `internal` types carry Go's names.
void kl_v_invalid_json(struct kl_v *c, const struct kl_vpath *p, const struct kl_type *type,
                       const struct kl_value *v, bool internal, const char *detail);
void kl_v_unsupported(struct kl_v *c, const struct kl_vpath *p, struct kl_str s,
                      const char *const *supported);
void kl_v_unsupported_text(struct kl_v *c, const struct kl_vpath *p, struct kl_str shown,
                           const char *const *supported);
void kl_v_duplicate(struct kl_v *c, const struct kl_vpath *p, struct kl_str s);
void kl_v_duplicate_text(struct kl_v *c, const struct kl_vpath *p, struct kl_str shown);
void kl_v_not_found(struct kl_v *c, const struct kl_vpath *p, struct kl_str s);
void kl_v_forbidden(struct kl_v *c, const struct kl_vpath *p, const char *detail);
void kl_v_internal(struct kl_v *c, const struct kl_vpath *p, const char *detail);
void kl_v_too_long(struct kl_v *c, const struct kl_vpath *p, int64_t max);
void kl_v_too_many(struct kl_v *c, const struct kl_vpath *p, size_t is, size_t max);
// For details that are put together; lives in the arena.
const char *kl_v_text(struct kl_v *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct kl_str kl_v_quoted(struct kl_v *c, struct kl_str s); // Go's %q
struct kl_str kl_v_path_text(struct kl_arena *a, const struct kl_vpath *p);
// What encoding/json makes of upstream's value.
struct kl_str kl_v_json(struct kl_v *c, const struct kl_type *type, const struct kl_value *v,
                        bool internal);

// ---- formats: each adds an Invalid for every message (IsDNS1123Label and its kind).
enum kl_v_format {
    KL_V_LABEL,      // DNS-1123 label
    KL_V_SUBDOMAIN,  // DNS-1123 subdomain
    KL_V_LONG_NAME,  // the same in the words of declarative validation
    KL_V_SHORT_NAME, // a label in those words
    KL_V_DNS1035,
    KL_V_PATH_SEGMENT,
    KL_V_QUALIFIED,
    KL_V_LABEL_VALUE,
    KL_V_PORT_NAME,
    KL_V_ENV_NAME,
    KL_V_CONFIG_KEY,
    KL_V_HEADER_NAME,
    KL_V_PERCENT,
    KL_V_SUBDOMAIN_UNDERSCORE,
    KL_V_WILDCARD,
    KL_V_C_IDENTIFIER,
    KL_V_SUBDOMAIN_CASELESS,
    KL_V_LONG_NAME_CASELESS, // in the words of declarative validation; pattern: its first 253 bytes
    KL_V_NO_CHECK,
    KL_V_OWN, // names: what kl_v.name_rule says
};
// The messages of one value: their count.
size_t kl_v_messages(enum kl_v_format format, struct kl_str s, const char *ret[KL_V_MESSAGES]);
bool kl_v_format(struct kl_v *c, const struct kl_vpath *p, struct kl_str s,
                 enum kl_v_format format); // true: valid
// "must be between 1 and 65535, inclusive"
void kl_v_range(struct kl_v *c, const struct kl_vpath *p, int64_t i, int64_t lo, int64_t hi);
void kl_v_port(struct kl_v *c, const struct kl_vpath *p, int64_t port);
void kl_v_port_or_name(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *v);
void kl_v_nonnegative(struct kl_v *c, const struct kl_vpath *p, int64_t i);
void kl_v_labels(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *map);
void kl_v_annotations(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *map);
void kl_v_selector(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *selector);
void kl_v_relative_path(struct kl_v *c, const struct kl_vpath *p, struct kl_str path);
void kl_v_no_backsteps(struct kl_v *c, const struct kl_vpath *p, struct kl_str path);
void kl_v_local_path(struct kl_v *c, const struct kl_vpath *p, struct kl_str path);
void kl_v_domain_key(struct kl_v *c, const struct kl_vpath *p, struct kl_str key);
void kl_v_immutable(struct kl_v *c, const struct kl_vpath *p, const struct kl_type *type,
                    const struct kl_value *now, const struct kl_value *old, bool internal);
void kl_v_conditions(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *list);

// Addresses: legacy fields refuse leading zeros and mapped addresses, no more.
bool kl_v_ip(struct kl_v *c, const struct kl_vpath *p, struct kl_str s, bool canonical);
bool kl_v_cidr(struct kl_v *c, const struct kl_vpath *p, struct kl_str s, bool canonical);
void kl_v_interface_address(struct kl_v *c, const struct kl_vpath *p, struct kl_str s);
// GetWarningsForIP, GetWarningsForCIDR (warn_int.h): of what is read but not written so.
void kl_warn_ip(struct kl_v *c, const struct kl_vpath *p, struct kl_str s);
void kl_warn_cidr(struct kl_v *c, const struct kl_vpath *p, struct kl_str s);
int kl_v_ip_family(struct kl_str s); // 4, 6 or 0
int kl_v_cidr_family(struct kl_str s);
bool kl_v_cidr_contains(struct kl_str outer, struct kl_str inner, bool strictly);
void kl_v_endpoint_ip(struct kl_v *c, const struct kl_vpath *p, struct kl_str s); // non-special

bool kl_v_in(struct kl_str s, const char *const *set);

// ---- rules as data
enum kl_rule_op {
    KL_R_END,
    KL_R_REQUIRED,  // a string, list or map that is empty; `text` is the detail
    KL_R_PRESENT,   // a pointer that is nil
    KL_R_FORMAT,    // a string that is not empty
    KL_R_NAME,      // required, then format
    KL_R_ENUM,      // a value that is there
    KL_R_NEED_ENUM, // required, then enum
    KL_R_ANY_ENUM,  // the empty string is a value as well
    KL_R_NONNEG,
    KL_R_POSITIVE,
    KL_R_RANGE,     // a number that is there (a pointer)
    KL_R_RANGE_ANY, // a plain number, zero as well
    KL_R_LABELS,
    KL_R_SELECTOR,
    KL_R_SUB,     // a struct that is there
    KL_R_EACH,    // a list of structs
    KL_R_CALL,    // fn(c, the struct, its path)
    KL_R_ON,      // fn(c, the member, its path) when there
    KL_R_EACH_ON, // fn for every item
    KL_R_UNIQUE,  // items' field `sym2` is unique: Duplicate at item.field
    KL_R_MAX_ITEMS,
    KL_R_IMMUTABLE, // top level only, on update
};
typedef void kl_rule_fn(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p);
struct kl_rule {
    uint8_t op, format;
    uint32_t sym, sym2;
    const char *text;
    const char *const *set;
    const struct kl_rule *rules;
    kl_rule_fn *fn;
    int64_t lo, hi;
};
void kl_v_walk(struct kl_v *c, const struct kl_rule *rules, const struct kl_value *v,
               const struct kl_vpath *p);

#define R_REQUIRED(f, detail)                                                                      \
    {                                                                                              \
        .op = KL_R_REQUIRED, .sym = KL_F_##f, .text = (detail)                                     \
    }
#define R_PRESENT(f, detail)                                                                       \
    {                                                                                              \
        .op = KL_R_PRESENT, .sym = KL_F_##f, .text = (detail)                                      \
    }
#define R_FORMAT(f, how)                                                                           \
    {                                                                                              \
        .op = KL_R_FORMAT, .sym = KL_F_##f, .format = (how)                                        \
    }
#define R_NAME(f, how)                                                                             \
    {                                                                                              \
        .op = KL_R_NAME, .sym = KL_F_##f, .format = (how)                                          \
    }
#define R_ENUM(f, values)                                                                          \
    {                                                                                              \
        .op = KL_R_ENUM, .sym = KL_F_##f, .set = (values)                                          \
    }
#define R_NEED_ENUM(f, values)                                                                     \
    {                                                                                              \
        .op = KL_R_NEED_ENUM, .sym = KL_F_##f, .set = (values)                                     \
    }
#define R_ANY_ENUM(f, values)                                                                      \
    {                                                                                              \
        .op = KL_R_ANY_ENUM, .sym = KL_F_##f, .set = (values)                                      \
    }
#define R_NONNEG(f)                                                                                \
    {                                                                                              \
        .op = KL_R_NONNEG, .sym = KL_F_##f                                                         \
    }
#define R_POSITIVE(f)                                                                              \
    {                                                                                              \
        .op = KL_R_POSITIVE, .sym = KL_F_##f                                                       \
    }
#define R_RANGE(f, a, b)                                                                           \
    {                                                                                              \
        .op = KL_R_RANGE, .sym = KL_F_##f, .lo = (a), .hi = (b)                                    \
    }
#define R_RANGE_ANY(f, a, b)                                                                       \
    {                                                                                              \
        .op = KL_R_RANGE_ANY, .sym = KL_F_##f, .lo = (a), .hi = (b)                                \
    }
#define R_LABELS(f)                                                                                \
    {                                                                                              \
        .op = KL_R_LABELS, .sym = KL_F_##f                                                         \
    }
#define R_SELECTOR(f)                                                                              \
    {                                                                                              \
        .op = KL_R_SELECTOR, .sym = KL_F_##f                                                       \
    }
#define R_SUB(f, table)                                                                            \
    {                                                                                              \
        .op = KL_R_SUB, .sym = KL_F_##f, .rules = (table)                                          \
    }
#define R_EACH(f, table)                                                                           \
    {                                                                                              \
        .op = KL_R_EACH, .sym = KL_F_##f, .rules = (table)                                         \
    }
#define R_CALL(function)                                                                           \
    {                                                                                              \
        .op = KL_R_CALL, .fn = (function)                                                          \
    }
#define R_ON(f, function)                                                                          \
    {                                                                                              \
        .op = KL_R_ON, .sym = KL_F_##f, .fn = (function)                                           \
    }
#define R_EACH_ON(f, function)                                                                     \
    {                                                                                              \
        .op = KL_R_EACH_ON, .sym = KL_F_##f, .fn = (function)                                      \
    }
#define R_UNIQUE(f, key)                                                                           \
    {                                                                                              \
        .op = KL_R_UNIQUE, .sym = KL_F_##f, .sym2 = KL_F_##key                                     \
    }
#define R_MAX_ITEMS(f, max)                                                                        \
    {                                                                                              \
        .op = KL_R_MAX_ITEMS, .sym = KL_F_##f, .hi = (max)                                         \
    }
#define R_END                                                                                      \
    {                                                                                              \
        .op = KL_R_END                                                                             \
    }

// ---- metadata
// ValidateObjectMeta of pkg/apis/core/validation with the kind's name format.
void kl_v_meta(struct kl_v *c, enum kl_v_format name);
void kl_v_meta_update(struct kl_v *c);
// Without the check for known finalizers (apimachinery's own).
void kl_v_meta_plain(struct kl_v *c, enum kl_v_format name);
void kl_v_meta_update_plain(struct kl_v *c);
// ValidateTemplateObjectMeta: labels and annotations only
void kl_v_template_meta(struct kl_v *c, const struct kl_value *meta, const struct kl_vpath *p);
// ValidateCoordinatedLeaseStrategy, whose path repeats itself
void kl_v_lease_strategy(struct kl_v *c, struct kl_str strategy, const struct kl_vpath *p);
// validateKubeFinalizerName
void kl_v_known_finalizer(struct kl_v *c, const struct kl_vpath *p, struct kl_str s);

// ---- kinds
struct kl_v_kind {
    uint16_t res;
    void (*create)(struct kl_v *c);
    void (*update)(struct kl_v *c); // NULL: metadata only
    void (*status)(struct kl_v *c);
    const char *other; // a further subresource; yet another takes a row after this one
    void (*sub)(struct kl_v *c);
};
const struct kl_v_kind *kl_v_kind_of(const struct kl_resource *storage);
// One list a file: kinds.c has them all.
extern const struct kl_v_kind kl_v_pods[], kl_v_services[], kl_v_core[], kl_v_volume_kinds[],
    kl_v_workloads[], kl_v_jobs[], kl_v_cluster[], kl_v_network[], kl_v_storage[],
    kl_v_flowcontrol[], kl_v_certificates[], kl_v_trust[], kl_v_devices[], kl_v_device_claims[],
    kl_v_device_slices[], kl_v_machinery[], kl_v_webhooks[], kl_v_policies[], kl_v_scheduling[],
    kl_v_pools[];

static inline const struct kl_value *kl_v_spec(const struct kl_v *c)
{
    return kl_get(c->now, KL_F_spec);
}
static inline const struct kl_value *kl_v_old_spec(const struct kl_v *c)
{
    return kl_get(c->old, KL_F_spec);
}
// A struct that is no pointer: what is not there is empty.
static inline const struct kl_value *kl_v_or_empty(const struct kl_value *v)
{
    static const struct kl_value empty = {.kind = KL_STRUCT};
    return v ? v : &empty;
}
static inline bool kl_v_is(const struct kl_value *parent, kl_sym f, const char *text)
{
    return kl_str_eqz(kl_text(kl_get(parent, f)), text);
}
