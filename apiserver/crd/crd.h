// SPDX-License-Identifier: Apache-2.0
// Custom resources: every loop follows the CustomResourceDefinitions in the store and knows which
// kinds they make. Rows for the request path are made on first use, shared by all loops, and live
// as long as somebody uses them (object/custom.h).
#pragma once
#include "apiserver/server_int.h"
#include "object/custom.h"

#define KL_CRD_PREFIX "/registry/apiextensions.k8s.io/customresourcedefinitions/"

struct kl_crds;

// What one version of a definition says, read once and hung on that version (slot KL_CACHE_OWN).
// Immutable but for the compiled rows, which come when they are first asked for.
struct kl_crd {
    struct kl_cache_own own;
    struct kl_custom_family *plain; // names only; NULL: none were accepted yet
    struct kl_crd_cell *cell;       // the compiled rows; shared while spec and names are the same
    bool served;                    // requests find it (names accepted, or established)
    bool accepted, established, terminating;
    uint64_t stamp; // changes when uid, spec, names or what is served change
};

// What a definition's version says; `before` (may be NULL) is its predecessor. Borrowed from kv.
// NULL fills err.
struct kl_crd *kl_crd_of(struct kl_kv *kv, const struct kl_crd *before, struct kl_error *err);
// Its compiled rows, one reference; compiles them when nobody has. NULL fills err.
struct kl_custom_family *kl_crd_compiled(const struct kl_crd *crd, struct kl_kv *kv,
                                         struct kl_error *err);
// Both are the same kinds: what runs on one may go on.
bool kl_crd_same(const struct kl_crd *a, const struct kl_crd *b);

// ---- of a loop, on that loop
int kl_crds_start(struct kl_api_loop *al, struct kl_error *err); // its reader is there
void kl_crds_stop(struct kl_api_loop *al);

// Finds the custom resource that the request's path names: fills info.res and info.subres and keeps
// the rows for the request's life. Nothing changes when there is none; negative: r->fail is set.
int kl_crd_resolve(struct kl_req *r);
// Once more, after others had their turn: the definition may have changed or gone (then info.res is
// NULL). Nothing for what is no custom resource; negative: r->fail is set.
int kl_crd_again(struct kl_req *r);
// The same for others; *ret_family gets a reference when a row is found.
const struct kl_resource *kl_crd_find(struct kl_api_loop *al, struct kl_str group,
                                      struct kl_str version, struct kl_str plural,
                                      struct kl_custom_family **ret_family, struct kl_error *err);
// Whether its definition is being deleted: nothing of it can be created.
bool kl_crd_terminating(struct kl_api_loop *al, const struct kl_custom_family *f);

// Walks all definitions in no order: start with *it = 0; false at the end. The loop's view is
// followed first. Borrowed until control returns to the loop.
bool kl_crds_next(struct kl_api_loop *al, size_t *it, struct kl_kv **ret_kv,
                  const struct kl_crd **ret_crd);
// One by its name; NULL: there is none.
const struct kl_crd *kl_crds_get(struct kl_api_loop *al, struct kl_str name, struct kl_kv **ret_kv);

// Somebody who must know when a kind changes or goes (watches: they end, as upstream's do).
// Embedded; `changed` comes at most once, afterwards it is left already.
struct kl_crd_user {
    const struct kl_custom_family *family;
    void (*changed)(struct kl_crd_user *u);
    struct kl_crd_user *next, **pprev;
};
void kl_crd_use(struct kl_api_loop *al, struct kl_crd_user *u);
void kl_crd_leave(struct kl_crd_user *u); // harmless when it was left

// ---- served rows in the order of group, version (the preferred first) and plural
struct kl_crd_row {
    const struct kl_resource *res; // plain: names and subresources
    struct kl_kv *kv;              // the definition's version; keeps res
    const struct kl_crd *crd;
};
// In the arena; group.p NULL: all. Only established ones. NULL with *ret_n 0: none, or no memory.
struct kl_crd_row *kl_crds_rows(struct kl_api_loop *al, struct kl_arena *a, struct kl_str group,
                                size_t *ret_n);
// storageVersionHash of discovery into buf[16].
const char *kl_crd_storage_hash(const struct kl_custom_family *f, char buf[16]);

// ---- strategy.c
// What the registry does for custom resources, and for their definitions.
extern const struct kl_strategy kl_custom_strategy;
int kl_crd_prepare_create(struct kl_req *r, struct kl_value *draft);
int kl_crd_prepare_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old);
// The deletion of a definition: marks it and lets its instances go first. A verdict of the write
// machine; 0: it is marked already, delete as usual.
int kl_crd_delete(struct kl_req *r, struct kl_value *draft);
// Rules of a custom object that is to be written.
int kl_custom_check(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                    struct kl_field_errors *e);
// Before a create: refuses it while the definition goes. Negative: r->fail is set.
int kl_custom_may_create(struct kl_req *r);
// A status write: all but the status, and the managed fields, is as it was.
int kl_custom_keep_for_status(struct kl_req *r, struct kl_value *draft, const struct kl_value *old);

// ---- conditions.c: pure. What the conditions and names of a definition should be.
struct kl_crd_names { // all names of a group that others have accepted
    struct kl_map resources, kinds;
};
// Fills what other definitions of the group have. KL_ENOMEM.
void kl_crd_names_init(struct kl_crd_names *n);
int kl_crd_names_add(struct kl_crd_names *n, const struct kl_resource *plain);
int kl_crd_names_take(struct kl_crd_names *n,
                      const struct kl_value *accepted); // status.acceptedNames
void kl_crd_names_fini(struct kl_crd_names *n);
// Brings the draft's status to what it should be; true when it changed. `now_us` is the time of
// transitions. Negative: KL_ENOMEM.
int kl_crd_conditions(struct kl_arena *a, struct kl_value *crd, const struct kl_crd_names *taken,
                      int64_t now_us);
// Sets one condition (apihelpers.SetCRDCondition). 1: something changed.
int kl_crd_set_condition(struct kl_arena *a, struct kl_value *crd, const char *type, bool is,
                         const char *reason, struct kl_str message, int64_t now_us);
bool kl_crd_condition_is_true(const struct kl_value *crd, const char *type);

// ---- controller.c: the controllers of apiextensions-apiserver, on loops[0].
struct kl_crd_controller;
int kl_crd_controller_start(struct kl_apiserver *s, struct kl_error *err);
void kl_crd_controller_stop(struct kl_apiserver *s);
// A definition changed or went.
void kl_crd_controller_look(struct kl_crd_controller *c, struct kl_str name);

// ---- openapi.c
void kl_crd_openapi_init(struct kl_apiserver *s);
