// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "object/apply/managed.h"
#include "object/apply/typed.h"

// One entry. Who it is, is manager, operation, subresource and, of an updater, apiVersion.
struct kl_manager {
    struct kl_str name, subresource, api_version;
    bool applied;
    bool has_time;
    int64_t time_us;
    struct kl_str text;            // FieldsV1 as it was; p NULL: made anew from `set`
    const struct kl_fieldset *set; // once `read`
    bool read;
    bool gone;
};

struct kl_managed {
    struct kl_arena *arena;
    struct kl_manager *m;
    size_t n, cap;
};

// Reads entries, but not their sets. KL_EBADREQUEST with upstream's message.
int kl_managed_open(struct kl_arena *a, const struct kl_value *entries, struct kl_managed *ret,
                    struct kl_error *err);
int kl_managed_read(struct kl_managed *x, struct kl_manager *m, struct kl_error *err);
int kl_managed_read_all(struct kl_managed *x, struct kl_error *err);
struct kl_manager *kl_managed_find(struct kl_managed *x, const struct kl_manager *who);
struct kl_manager *kl_managed_add(struct kl_managed *x, const struct kl_manager *m); // NULL: memory
void kl_manager_set(struct kl_manager *m, const struct kl_fieldset *set); // changed; NULL: gone
size_t kl_managed_count(const struct kl_managed *x);
// Sorted as upstream sorts; null when there is none.
int kl_managed_close(struct kl_managed *x, struct kl_value *ret, struct kl_error *err);
// The identifier by which upstream sorts managers in messages.
struct kl_str kl_manager_id(struct kl_arena *a, const struct kl_manager *m);
int kl_managed_cap(struct kl_managed *x);

// Whether entries at least look well: no, and kl_managed_open gives nothing.
bool kl_managed_is_reset(const struct kl_value *entries);

// ---- between versions
struct kl_tree {
    const struct kl_resource *res;
    const struct kl_type *type;
    struct kl_str api_version;
    struct kl_value v; // untyped, or typed and canonical
};
struct kl_tree kl_tree_of(const struct kl_managed_env *env, const struct kl_value *v);
// 0; KL_ENOTFOUND: there is no such version; KL_EINVALID: that version does not know a field of it;
// or a failure.
int kl_tree_convert(const struct kl_managed_env *env, const struct kl_tree *t,
                    struct kl_str api_version, struct kl_tree *ret, struct kl_error *err);
// The type that sets of this version are about; NULL: no such version.
const struct kl_type *kl_tree_type(const struct kl_managed_env *env, struct kl_str api_version,
                                   const struct kl_resource **ret_res);

// A failure of a conversion, with what was converted before it. Returns rc.
int kl_tree_wrap(int rc, struct kl_error *err, const char *what);
// Whether a live custom resource can be shown in the versions of all managers (upstream reconciles
// their sets with it there, at each write): KL_EINVALID where a version is gone or lacks a field of
// it. A webhook is not asked for that.
int kl_managed_check_live(const struct kl_managed_env *env, const struct kl_managed *x,
                          const struct kl_tree *live, struct kl_error *err);

// What no manager owns of the object's head (StripMeta).
const struct kl_fieldset *kl_managed_stripped(struct kl_arena *a);
// The paths of env->reset as a set.
const struct kl_fieldset *kl_managed_reset(const struct kl_managed_env *env);

// updater.update: takes from every manager but `self` what changed between the trees. `self` may
// be NULL. With `conflicts` not NULL: managers whose fields were changed are collected there
// (sets in `set`), and nothing is taken when there are some and `force` is not set.
struct kl_managed_change {
    const struct kl_tree *was, *is;
    const struct kl_manager *self;
    bool force;
    struct kl_managed *conflicts;
    struct kl_comparison own; // in the version of the request, without what is reset
};
int kl_managed_take(const struct kl_managed_env *env, struct kl_managed *x,
                    struct kl_managed_change *c, struct kl_error *err);
// The whole of an update by `who` on open entries.
int kl_managed_step(const struct kl_managed_env *env, struct kl_managed *x,
                    const struct kl_manager *who, const struct kl_value *live,
                    const struct kl_value *now, struct kl_error *err);
const struct kl_value *kl_managed_entries(const struct kl_value *root);
