// SPDX-License-Identifier: Apache-2.0
// What of authentication and authorisation can change while the server runs: the structured
// configurations (apiserver.config.k8s.io/v1), or what the flags say in their place. A conf is
// immutable and counted; every loop takes over a new one at its next request.
#pragma once
#include "apiserver/auth/abac.h"
#include "apiserver/auth/ask.h"
#include "apiserver/settings.h"
#include "object/cel/cel.h"
#include <stdatomic.h>

#define KL_AUTH_CONF_MAX_BYTES ((size_t)1 << 20)

// One of claim (with a prefix) or expression; neither: not mapped.
struct kl_claim_source {
    struct kl_str claim, prefix;
    struct kl_cel_program *expr;
};
struct kl_claim_extra {
    struct kl_str key;
    struct kl_cel_program *expr;
};
struct kl_claim_rule {
    struct kl_str claim, value;  // required
    struct kl_str text, message; // or an expression, and what is said when it is false
    struct kl_cel_program *expr;
};

struct kl_oidc {
    struct kl_str issuer;
    struct kl_remote *discovery;
    const struct kl_str *audiences, *algs;
    size_t naudiences, nalgs;
    struct kl_claim_source username, groups, uid;
    struct kl_claim_extra *extra;
    struct kl_claim_rule *claim_rules, *user_rules;
    size_t nextra, nclaim_rules, nuser_rules;
};

enum kl_authz_kind {
    KL_AUTHZ_ABAC,
    KL_AUTHZ_NODE,
    KL_AUTHZ_RBAC,
    KL_AUTHZ_WEBHOOK,
    KL_AUTHZ_ALWAYS_ALLOW,
    KL_AUTHZ_ALWAYS_DENY,
};
struct kl_authorizer {
    enum kl_authz_kind kind;
    struct kl_str name;
    const struct kl_abac *abac; // of ABAC; lives as long as the server
    // of webhooks
    struct kl_remote *to;
    uint32_t timeout_ms;
    int64_t yes_ttl_ms, no_ttl_ms; // 0: not kept
    bool v1beta1, deny_on_failure;
    struct kl_cel_program **conditions;
    struct kl_str *condition_texts;
    size_t nconditions;
};

struct kl_auth_conf {
    atomic_uint refs;
    struct kl_arena arena;
    bool anonymous;
    const struct kl_str *anonymous_paths; // only these, when there are any
    size_t nanonymous_paths;
    struct kl_oidc *jwt;
    size_t njwt;
    struct kl_authorizer *authz;
    size_t nauthz;
    bool by_roles; // authz is Node and RBAC, and nothing else
};

// What is read besides the flags.
struct kl_auth_conf_input {
    const struct kl_api_settings *settings;
    bool anonymous;
    const struct kl_str *issuers; // the service accounts': no OIDC issuer may be one of them
    size_t nissuers;
    const struct kl_abac *abac; // NULL: there is no policy file
    // What the server was started with, a bit for each kind: a new AuthorizationConfiguration has
    // them all but for webhooks, and of Node, RBAC and ABAC no others. 0: it starts.
    unsigned started_with;
    struct kl_str authentication, authorization; // texts of the files; p NULL: not given
};
// KL_EINVALID with upstream's findings in one line.
int kl_auth_conf_new(const struct kl_auth_conf_input *in, struct kl_auth_conf **ret,
                     struct kl_error *err);
struct kl_auth_conf *kl_auth_conf_ref(struct kl_auth_conf *c);
void kl_auth_conf_unref(struct kl_auth_conf *c); // accepts NULL
