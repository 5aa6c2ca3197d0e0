// SPDX-License-Identifier: Apache-2.0
// What the files of authorisation share.
#pragma once
#include "apiserver/auth/auth.h"
#include "apiserver/auth/conf.h"
#include "watchcache/filter.h"

// ---- rbac_rule.c: one PolicyRule against one request (upstream's rbac/v1/evaluation_helpers.go).
bool kl_list_has(const struct kl_value *list, struct kl_str s);
// Verb, group and resource (or path) match; *ret_named: the rule is for some names only, and
// kl_rule_allows_name decides.
bool kl_rule_matches(const struct kl_value *rule, const struct kl_attrs *t, bool *ret_named);
bool kl_rule_matches_path(const struct kl_value *rule, struct kl_str path); // its nonResourceURLs
bool kl_rule_allows_name(const struct kl_value *rule, struct kl_str name);
bool kl_rule_allows(const struct kl_value *rule, const struct kl_attrs *t);

// ---- rbac.c. A walk over the rules that apply to somebody, in upstream's order. Memory is the
// arena's.
struct kl_rbac_walk {
    struct kl_api_loop *al;
    struct kl_arena *arena;
    const struct kl_user *user;
    struct kl_str ns; // empty: cluster-wide bindings only
    // false ends the walk. `source` (borrowed, may be NULL) says why: kl_rbac_source_text.
    bool (*visit)(struct kl_rbac_walk *w, const struct kl_value *rule);
    void *arg;

    // Of the rule that is being visited.
    const struct kl_value *binding, *subject;
    bool cluster_binding;
    // Roles that could not be read: text of utilerrors.NewAggregate, empty when none.
    struct kl_str errors;
    int nerrors;
};
void kl_rbac_walk(struct kl_rbac_walk *w);
// The rules of one role only: KL_ENOTFOUND when it is not there. False from visit ends it.
int kl_rbac_walk_role(struct kl_rbac_walk *w, const struct kl_value *role_ref, struct kl_str ns,
                      struct kl_error *err);
// ClusterRoleBinding "b" of ClusterRole "r" to Group "g"
struct kl_str kl_rbac_source_text(const struct kl_rbac_walk *w);
// The rules of a ClusterRole with an aggregationRule: those of the roles it selects, again and
// again.
void kl_rbac_walk_aggregated(struct kl_rbac_walk *w, const struct kl_value *cluster_role);

// Whether a list of rules grants all that `rule` does (rbac_escalation.c).
bool kl_rbac_covers(struct kl_arena *a, const struct kl_value *rules, const struct kl_value *rule);

// ---- authz_node.c. The name of the node that a user is, p NULL for others.
struct kl_str kl_node_of_user(const struct kl_user *u);
// What a node may do beyond RBAC. *ret_reason on refusal.
bool kl_node_authorize(struct kl_api_loop *al, struct kl_arena *a, struct kl_str node,
                       const struct kl_attrs *t, struct kl_str *ret_reason);
void kl_node_hints_free(struct kl_authz_cache *c);

// ---- authz.c
struct kl_verdict {
    bool explain; // in: reasons are wanted, as SubjectAccessReview answers them; nothing is kept
    enum kl_decision decision;
    struct kl_str reason, error; // in the arena; the error is of an authoriser that could not say
};
void kl_authz_decide(struct kl_api_loop *al, struct kl_arena *a, const struct kl_attrs *t,
                     struct kl_verdict *v);

// The reason is given for yes and for no, as SubjectAccessReview answers it.
bool kl_authorize_explain(struct kl_api_loop *al, struct kl_arena *a, const struct kl_attrs *t,
                          struct kl_str *ret_reason);

// ---- authz_webhook.c
enum kl_decision kl_webhook_authorize(struct kl_api_loop *al, struct kl_arena *a,
                                      const struct kl_authorizer *z, const struct kl_attrs *t,
                                      struct kl_verdict *v);
// A SubjectAccessReview that a webhook answered with; out->code when it is none.
void kl_access_review_read(const struct kl_authorizer *z, struct kl_reply *out, struct kl_str body);

// As Go's %q for what is printable; the rest is escaped.
struct kl_str kl_quoted(struct kl_arena *a, struct kl_str s);
void kl_forbidden_fill(struct kl_arena *a, struct kl_fail *f, struct kl_str group,
                       struct kl_str plural, struct kl_str name, struct kl_str why);

#define KL_NODE_HINTS 64 // a power of two
struct kl_node_hint {
    uint64_t hash;
    char *pod_key; // the pod whose reference gave access last time
};

struct kl_authz_cache {
    struct kl_map decisions; // key: who and what; value: enum decision
    struct kl_watch watch[2];
    bool watching;
    kl_rev rev; // the decisions are right for this revision
    int64_t hits, misses;
    struct kl_node_hint hints[KL_NODE_HINTS];
};
struct kl_authz_cache *
kl_authz_cache_of(struct kl_api_loop *al); // made on first use; NULL: no memory
