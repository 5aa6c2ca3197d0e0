// SPDX-License-Identifier: Apache-2.0
// Functions: the table of overloads and what implements them.
#pragma once
#include "object/cel/value_int.h"

struct cel_run; // one evaluation

// args[0] is a member call's target. Errors are values.
typedef struct kl_cel_val cel_fn(struct cel_run *r, const struct kl_cel_val *args, size_t n);

enum overload_flag {
    OV_MEMBER = 1 << 0,
    OV_SINGLETON = 1 << 1, // one implementation for all overloads, no check of types before
    OV_UNGUARDED = 1 << 2, // arguments' types are not checked before
    OV_PATCH = 1 << 3,     // only with KL_CEL_PATCH_TYPES
};

// How a call is charged beside the general rules.
enum overload_cost { OC_NONE, OC_SETS, OC_SETS2, OC_OUTPUT, OC_FLATTEN, OC_SELF, OC_KEYS };

// One overload. The signature is text: "list(A), int -> A". Rows of one function stand together in
// the order in which the checker tries them.
struct overload {
    const char *function;
    const char *id;
    const char *sig;
    cel_fn *fn; // NULL: the planner knows it
    uint8_t flags;
    uint8_t cost; // enum overload_cost
};
extern const struct overload cel_overloads[];
extern const size_t cel_noverloads;

// The rows of one function; NULL when there is none.
const struct overload *cel_function(struct kl_str name, unsigned env_flags, size_t *ret_n);
enum { CEL_MAX_ARGS = 4 };
struct signature {
    size_t n;
    const struct cel_type *args[CEL_MAX_ARGS];
    const struct cel_type *result;
};
// Reads the text. Parameters become variables of the mapping, or dyn without one. False: out of
// memory.
bool cel_signature(struct kl_arena *a, const struct overload *o, struct cel_mapping *m,
                   struct signature *ret);
// Whether values fit an overload at run time (matchesRuntimeSignature).
bool cel_fits(const struct overload *o, struct kl_arena *a, const struct kl_cel_val *args,
              size_t n);
struct kl_arena *cel_arena(struct cel_run *r);

#define CEL_FN(name)                                                                               \
    struct kl_cel_val name(struct cel_run *r, const struct kl_cel_val *args, size_t n)
CEL_FN(cel_fn_add);
CEL_FN(cel_fn_sub);
CEL_FN(cel_fn_mul);
CEL_FN(cel_fn_div);
CEL_FN(cel_fn_mod);
CEL_FN(cel_fn_neg);
CEL_FN(cel_fn_not);
CEL_FN(cel_fn_lt);
CEL_FN(cel_fn_le);
CEL_FN(cel_fn_gt);
CEL_FN(cel_fn_ge);
CEL_FN(cel_fn_in);
CEL_FN(cel_fn_size);
CEL_FN(cel_fn_type);
CEL_FN(cel_fn_same);
CEL_FN(cel_fn_bool);
CEL_FN(cel_fn_bytes);
CEL_FN(cel_fn_double);
CEL_FN(cel_fn_duration);
CEL_FN(cel_fn_int);
CEL_FN(cel_fn_string);
CEL_FN(cel_fn_timestamp);
CEL_FN(cel_fn_uint);
CEL_FN(cel_fn_contains);
CEL_FN(cel_fn_ends);
CEL_FN(cel_fn_starts);
CEL_FN(cel_fn_matches);
CEL_FN(cel_fn_year);
CEL_FN(cel_fn_month);
CEL_FN(cel_fn_yday);
CEL_FN(cel_fn_mday0);
CEL_FN(cel_fn_mday1);
CEL_FN(cel_fn_wday);
CEL_FN(cel_fn_hours);
CEL_FN(cel_fn_minutes);
CEL_FN(cel_fn_seconds);
CEL_FN(cel_fn_millis);
CEL_FN(cel_fn_opt_of);
CEL_FN(cel_fn_opt_nonzero);
CEL_FN(cel_fn_opt_none);
CEL_FN(cel_fn_opt_value);
CEL_FN(cel_fn_opt_has);
CEL_FN(cel_fn_first);
CEL_FN(cel_fn_last);
CEL_FN(cel_fn_unwrap);
CEL_FN(cel_fn_map_insert);
CEL_FN(cel_fn_map_insert_all);
CEL_FN(cel_fn_char_at);
CEL_FN(cel_fn_index_of);
CEL_FN(cel_fn_last_index_of);
CEL_FN(cel_fn_lower);
CEL_FN(cel_fn_upper);
CEL_FN(cel_fn_replace);
CEL_FN(cel_fn_split);
CEL_FN(cel_fn_substring);
CEL_FN(cel_fn_trim);
CEL_FN(cel_fn_format);
CEL_FN(cel_fn_quote);
CEL_FN(cel_fn_join);
CEL_FN(cel_fn_is_sorted);
CEL_FN(cel_fn_sum_int);
CEL_FN(cel_fn_sum_uint);
CEL_FN(cel_fn_sum_double);
CEL_FN(cel_fn_sum_duration);
CEL_FN(cel_fn_min);
CEL_FN(cel_fn_max);
CEL_FN(cel_fn_list_index_of);
CEL_FN(cel_fn_list_last_index_of);
CEL_FN(cel_fn_slice);
CEL_FN(cel_fn_flatten);
CEL_FN(cel_fn_sort);
CEL_FN(cel_fn_sort_keys);
CEL_FN(cel_fn_range);
CEL_FN(cel_fn_reverse);
CEL_FN(cel_fn_distinct);
CEL_FN(cel_fn_sets_contains);
CEL_FN(cel_fn_sets_equivalent);
CEL_FN(cel_fn_sets_intersects);
CEL_FN(cel_fn_find);
CEL_FN(cel_fn_find_all);
CEL_FN(cel_fn_url);
CEL_FN(cel_fn_is_url);
CEL_FN(cel_fn_url_scheme);
CEL_FN(cel_fn_url_host);
CEL_FN(cel_fn_url_hostname);
CEL_FN(cel_fn_url_port);
CEL_FN(cel_fn_url_path);
CEL_FN(cel_fn_url_query);
CEL_FN(cel_fn_quantity);
CEL_FN(cel_fn_is_quantity);
CEL_FN(cel_fn_q_sign);
CEL_FN(cel_fn_q_gt);
CEL_FN(cel_fn_q_lt);
CEL_FN(cel_fn_q_cmp);
CEL_FN(cel_fn_q_float);
CEL_FN(cel_fn_q_int);
CEL_FN(cel_fn_q_is_int);
CEL_FN(cel_fn_q_add);
CEL_FN(cel_fn_q_sub);
CEL_FN(cel_fn_ip);
CEL_FN(cel_fn_is_ip);
CEL_FN(cel_fn_ip_family);
CEL_FN(cel_fn_ip_canonical);
CEL_FN(cel_fn_ip_unspecified);
CEL_FN(cel_fn_ip_loopback);
CEL_FN(cel_fn_ip_ll_multicast);
CEL_FN(cel_fn_ip_ll_unicast);
CEL_FN(cel_fn_ip_global);
CEL_FN(cel_fn_ip_string);
CEL_FN(cel_fn_cidr);
CEL_FN(cel_fn_is_cidr);
CEL_FN(cel_fn_cidr_has_ip);
CEL_FN(cel_fn_cidr_has_cidr);
CEL_FN(cel_fn_cidr_ip);
CEL_FN(cel_fn_cidr_len);
CEL_FN(cel_fn_cidr_masked);
CEL_FN(cel_fn_cidr_string);
CEL_FN(cel_fn_semver);
CEL_FN(cel_fn_is_semver);
CEL_FN(cel_fn_sv_gt);
CEL_FN(cel_fn_sv_lt);
CEL_FN(cel_fn_sv_cmp);
CEL_FN(cel_fn_sv_major);
CEL_FN(cel_fn_sv_minor);
CEL_FN(cel_fn_sv_patch);
CEL_FN(cel_fn_format_named);
CEL_FN(cel_fn_format_constant);
CEL_FN(cel_fn_format_validate);
CEL_FN(cel_fn_az_path);
CEL_FN(cel_fn_az_group);
CEL_FN(cel_fn_az_service_account);
CEL_FN(cel_fn_az_resource);
CEL_FN(cel_fn_az_subresource);
CEL_FN(cel_fn_az_namespace);
CEL_FN(cel_fn_az_name);
CEL_FN(cel_fn_az_field_selector);
CEL_FN(cel_fn_az_label_selector);
CEL_FN(cel_fn_az_check);
CEL_FN(cel_fn_az_errored);
CEL_FN(cel_fn_az_error);
CEL_FN(cel_fn_az_allowed);
CEL_FN(cel_fn_az_reason);
CEL_FN(cel_fn_escape_key);

const struct cel_format *cel_format_find(struct kl_str name);
const struct kl_cel_authorizer *cel_run_authorizer(struct cel_run *r);
