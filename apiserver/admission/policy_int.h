// SPDX-License-Identifier: Apache-2.0
// Policies and their bindings, compiled; and the parameters they are evaluated with.
#pragma once
#include "apiserver/admission/hooks_int.h"

struct kl_check { // one validation
    struct kl_expr expr, message_expr;
    bool has_message_expr;
    struct kl_str message, reason;
};

struct kl_mutation {
    bool json_patch; // else applyConfiguration
    struct kl_expr expr;
};

struct kl_policy {
    bool ignore;    // failurePolicy
    bool if_needed; // reinvocationPolicy
    bool has_param;
    struct kl_str param_group, param_version, param_api_version, param_kind;
    struct kl_str param_plural; // of the custom resource that it was last, in the unit's arena
    struct kl_expr *conditions;
    size_t nconditions;
    struct kl_check *checks;
    size_t nchecks;
    struct kl_expr *notes; // auditAnnotations, by their key
    size_t nnotes;
    struct kl_mutation *mutations;
    size_t nmutations;
};

// Compiles what is not yet: 0 or KL_ENOMEM with r->fail set.
int kl_policy_ready(struct kl_hook_run *run, struct kl_unit *u);

// A binding that applies to the request, with its parameters.
struct kl_bound {
    struct kl_unit *policy, *binding; // binding NULL: the policy itself is at fault
    const struct kl_resource *res;    // by which the policy matches
    const struct kl_resource *param;  // of paramKind; NULL: the policy has none
    struct kl_shown *form;
    struct kl_value *params; // untyped trees; one null: evaluated without
    size_t nparams;
    struct kl_str error; // not empty: what is wrong with the configuration
};
// Calls visit for each of the kind's policies' bindings that apply, in the order of names, until it
// gives something else than 0.
int kl_policies_each(struct kl_hook_run *run, enum kl_unit_kind policies,
                     enum kl_unit_kind bindings,
                     int (*visit)(struct kl_hook_run *run, struct kl_bound *b, void *arg),
                     void *arg);
// The namespace that the request is in; NULL: none (cluster-scoped, or a namespace itself).
int kl_policy_namespace(struct kl_hook_run *run, struct kl_object **ret);
