// SPDX-License-Identifier: Apache-2.0
// Policies and webhooks inside: what is configured, as each loop has it compiled, and one request's
// way through it.
#pragma once
#include "apiserver/admission/chain_int.h"
#include "apiserver/auth/auth.h"
#include "apiserver/webhook.h"
#include "object/cel/admission.h"
#include "object/selector.h"

struct kl_hook_run;

// ---- shown.c: the object as somebody wants to see it.
// Object and old object in the version of one resource, both canonical, with their texts.
struct kl_shown {
    struct kl_shown *next;
    const struct kl_resource *row; // NULL: a kind of its own (Scale, Eviction, ...)
    const struct kl_type *type;
    struct kl_str group, version, kind, api_version;
    struct kl_object *object, *old; // referenced; NULL: there is none
    struct kl_str object_json, old_json;
    struct kl_value object_tree, old_tree; // untyped, for CEL
    bool has_trees;
};
// The form in the version of `row` (NULL: the one the request was made in). NULL: r->fail is set.
struct kl_shown *kl_shown_of(struct kl_hook_run *run, const struct kl_resource *row);
// Has the forms made that validation will look at and only a webhook can convert. 0: they are
// there. KL_ADMIT_WAIT: `then` comes; ask again.
int kl_shown_prepare(struct kl_hook_run *run, void (*then)(void *arg));
// The draft has changed: what was made of it is let go.
void kl_shown_drop(struct kl_hook_run *run);
int kl_shown_texts(struct kl_hook_run *run, struct kl_shown *f); // fills *_json
int kl_shown_trees(struct kl_hook_run *run, struct kl_shown *f); // fills *_tree
// Takes an untyped tree of the form's kind back into the draft: typed, defaulted, in the storage
// version. *ret_changed: it differs from what the form has. Negative: err is set.
int kl_shown_take(struct kl_hook_run *run, struct kl_shown *f, const struct kl_value *untyped,
                  bool *ret_changed, struct kl_error *err);
// AdmissionRequest without uid, object and oldObject, as an untyped tree; matched as `res`.
int kl_shown_request(struct kl_hook_run *run, const struct kl_shown *f,
                     const struct kl_resource *res, struct kl_value *ret);
struct kl_str kl_admit_op_name(enum kl_admit_op op);

// ---- match.c: rules, selectors (rules.Matcher, matching.Matcher, predicates).
struct kl_match {
    struct kl_selector namespaces, objects;
    const struct kl_value *rules, *exclude; // lists of RuleWithOperations, borrowed
    bool equivalent;
    bool all;          // no rules match everything (policies)
    struct kl_str bad; // not empty: a selector cannot be read
};
// From a webhook or a matchConstraints value; texts live in the arena or in the value.
void kl_match_init(struct kl_match *m, struct kl_arena *a, const struct kl_value *spec,
                   const struct kl_value *rules);
// 1: matches, *ret_res is the resource (row) by which it does; 0: it does not; negative: err has
// why that cannot be said (r->fail is set when it is a Status of its own).
int kl_match_run(const struct kl_match *m, struct kl_hook_run *run,
                 const struct kl_resource **ret_res, struct kl_error *err);
bool kl_admit_is_exempt(const struct kl_admit *ad);

// ---- expr.c
// One evaluation after another on the same bindings.
struct kl_eval {
    struct kl_exprs *x;
    struct kl_hook_run *run;
    struct kl_cel_val vars[8];
    int64_t budget;
    int64_t variable_cost;
    struct kl_cel_authorizer authorizer;
};
int kl_eval_init(struct kl_eval *v, struct kl_exprs *x, struct kl_hook_run *run, struct kl_shown *f,
                 const struct kl_resource *res, const struct kl_value *params, struct kl_object *ns,
                 int64_t budget);
// 0: *ret. KL_EINVALID: it is in error, with upstream's words; KL_ELIMIT: the budget is used up,
// nothing more is run.
int kl_eval_run(struct kl_eval *v, enum kl_expr_env env, const struct kl_expr *e,
                struct kl_cel_val *ret, struct kl_str *ret_error);
// After evaluations whose results are to be used: negative, with r->fail set, when one of them has
// asked `authorizer` what only a webhook can say. The results mean nothing then; kl_req_fail waits
// for the answer and runs the request again.
int kl_eval_settled(struct kl_hook_run *run);
// matchConditions of the webhook or policy of this name: 1, 0, or negative with *ret_error.
int kl_conditions_run(struct kl_eval *v, struct kl_str name, const struct kl_expr *list, size_t n,
                      bool fail_closed, struct kl_str *ret_error);

// ---- what is configured
struct kl_hook { // one webhook of a configuration
    const struct kl_value *spec;
    struct kl_str name, config;
    struct kl_match match;
    bool ignore;    // failurePolicy
    bool if_needed; // reinvocationPolicy
    bool dry_run;   // has no side effects on a dry run
    int review;     // 1: v1, 2: v1beta1, 0: neither
    uint32_t timeout_ms;
    struct kl_expr *conditions;
    size_t nconditions;
    struct kl_webhook *client; // made on first use
};

enum kl_unit_kind {
    KL_UNIT_MAP,
    KL_UNIT_MAP_BINDING,
    KL_UNIT_MUTATING_WEBHOOKS,
    KL_UNIT_VAP,
    KL_UNIT_VAP_BINDING,
    KL_UNIT_VALIDATING_WEBHOOKS,
    KL_UNITS
};

// One object, compiled when it is first looked at. Shared by the loop's sets until it changes.
struct kl_unit {
    unsigned refs;
    enum kl_unit_kind kind;
    struct kl_kv *kv;         // referenced
    struct kl_object *object; // the version's
    struct kl_str name;
    struct kl_arena arena;
    struct kl_exprs exprs;
    // webhooks
    struct kl_hook *hooks;
    size_t nhooks;
    // policies and bindings
    struct kl_match match;
    bool has_match;
    struct kl_policy *policy;
    struct kl_str policy_name;
};

struct kl_hookset {
    unsigned refs;
    struct kl_unit **units[KL_UNITS];
    size_t n[KL_UNITS];
};
void kl_hookset_unref(struct kl_hookset *s);
void kl_policy_free(struct kl_unit *u);

// ---- one request. In the request's arena.
struct kl_hook_run {
    struct kl_admit *ad;
    struct kl_hookset *set;
    struct kl_arena *arena;
    struct kl_shown *forms;
    bool validating;
    size_t unit, hook, index; // the webhook that is next
    // mutating
    bool reinvoke, again; // this is the second pass; one is wanted
    uint8_t *hook_state;  // KL_INVOKED, KL_REQUIRED of each webhook
    size_t nhook_state;
    uint8_t *policy_state; // of each policy, binding and parameter
    size_t npolicy_state;
    struct kl_object *left; // what the first pass left behind
    struct kl_value owners; // metadata.managedFields as they were
    struct kl_webhook_call *flying;
    int64_t asked_ns; // when webhooks began to be asked; 0: none are
    // validating
    struct kl_hook_call *calls;
    size_t ncalls, pending;
};
enum { KL_INVOKED = 1, KL_REQUIRED = 2 };

// The loop's set for its newest view; *ret NULL: nothing is configured. Borrowed until control
// returns. Negative: it cannot be told what is configured, nothing may pass.
int kl_hooks_of(struct kl_api_loop *al, struct kl_hookset **ret);
int kl_hooks_mutate(struct kl_admit *ad, struct kl_hookset *s);
int kl_hooks_validate(struct kl_admit *ad, struct kl_hookset *s);
int kl_plugins_mutate(struct kl_admit *ad, bool last);
int kl_plugins_validate(struct kl_admit *ad, bool last);

// ---- review.c: AdmissionReview there and back.
struct kl_review {
    bool allowed;
    struct kl_str patch;                              // decoded; empty: none
    const struct kl_value *result, *warnings, *audit; // untyped
};
struct kl_bytes *kl_review_write(struct kl_hook_run *run, const struct kl_hook *h,
                                 struct kl_shown *f, const struct kl_resource *res,
                                 const char *uid);
// KL_EINVALID: err has "failed to call webhook: ..." or "received invalid webhook response: ...".
int kl_review_read(struct kl_arena *a, const struct kl_hook *h, bool mutating, const char *uid,
                   int status, struct kl_str body, struct kl_review *ret, struct kl_error *err);
// Fills r->fail: admission webhook "x" denied the request: ...
void kl_review_deny(struct kl_req *r, struct kl_str webhook, const struct kl_value *result);
void kl_review_notes(struct kl_hook_run *run, const struct kl_hook *h, const struct kl_review *v);

// ---- webhooks.c
// Whether the webhook is to be called: 1 with the resource it matched by and the form; 0; negative.
int kl_hook_wanted(struct kl_hook_run *run, struct kl_unit *u, struct kl_hook *h,
                   const struct kl_resource **ret_res, struct kl_shown **ret_form);
int kl_webhooks_mutate(struct kl_hook_run *run);
int kl_webhooks_validate(struct kl_hook_run *run);
// What comes behind the webhooks of a run once they answered (hooks.c).
void kl_hooks_resume(struct kl_hook_run *run, int rc);

// ---- policy_validating.c, policy_mutating.c
int kl_policies_validate(struct kl_hook_run *run);
int kl_policies_mutate(struct kl_hook_run *run);
