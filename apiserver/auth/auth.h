// SPDX-License-Identifier: Apache-2.0
// Who is it, and may they? Authentication by client certificate and ServiceAccount token,
// authorisation by RBAC with upstream's rules.
#pragma once
#include "apiserver/server_int.h"

// Authenticates one HTTP request on its loop: headers of a front proxy, a verified client
// certificate (kept with the connection), a bearer token, else system:anonymous. Returns 0 with a
// reference in *ret, or KL_EUNAUTHORIZED when credentials were given and are not good; then
// kl_ask_wait says whether that stands or an answer is on its way.
int kl_authenticate(struct kl_api_loop *al, struct kl_http_req *hr, struct kl_ask *ask,
                    struct kl_user **ret);
// Whether a token was sent behind more than one space, which nobody reads, upstream neither.
bool kl_bearer_is_spaced(const struct kl_http_req *hr);
// Impersonate-User, -Uid, -Group and -Extra-* headers: replaces r->user by whom the caller wants to
// be, when they may. Without such headers nothing is done. KL_EFORBIDDEN, KL_EBADREQUEST: r->fail
// is filled, and stands unless kl_ask_wait(&r->ask) says so.
int kl_impersonate(struct kl_req *r, struct kl_http_req *hr);

// authorizer.Attributes
struct kl_attrs {
    const struct kl_user *user;
    struct kl_str verb, group, version, plural, sub, ns, name; // resource requests
    struct kl_str path;                                        // non-resource requests
    bool is_resource;
    // Parsed selectors, or NULL: what nodes may list hangs on them, and webhooks are told.
    const struct kl_selector *fields, *labels;
    struct kl_ask *ask; // the request's; NULL: webhooks that have not answered yet say nothing
};
// The authorisers in their order (--authorization-mode, --authorization-config; Node and RBAC when
// nothing else is said). RBAC works on the roles and bindings of the loop's newest view (cached by
// decision until one of them changes). On refusal *ret_reason (arena) says why as upstream does
// ("" mostly), and kl_ask_wait(t->ask) whether it stands.
bool kl_authorize(struct kl_api_loop *al, struct kl_arena *a, const struct kl_attrs *t,
                  struct kl_str *ret_reason);
// The attributes of a request; and the check with the 403 filled in on refusal:
// pods is forbidden: User "u" cannot list resource "pods" in API group "" in the namespace
// "default"
bool kl_authorize_req(struct kl_req *r);
void kl_attrs_of_req(const struct kl_req *r, struct kl_attrs *ret);
// `User "u" cannot get path "/x"` and the like; and NewForbidden with a text of its own.
struct kl_str kl_forbidden_text(struct kl_arena *a, const struct kl_attrs *t);
void kl_fail_forbidden(struct kl_req *r, struct kl_str group, struct kl_str plural,
                       struct kl_str name, struct kl_str why);
// For writes of roles and bindings, before they are stored: nobody grants what they do not have,
// unless they may escalate or bind. `now` is in storage form (a role or a binding, by r->info.res);
// `old` is what it replaces, NULL on create. 0, or negative with r->fail set.
int kl_rbac_check_escalation(struct kl_req *r, const struct kl_value *now,
                             const struct kl_value *old);

// All rules that apply to a user in a namespace, for SelfSubjectRulesReview and escalation checks:
// calls visit for each PolicyRule value (borrowed) until it returns false.
void kl_rbac_visit_rules(struct kl_api_loop *al, const struct kl_user *u, struct kl_str ns,
                         bool (*visit)(void *arg, const struct kl_value *rule), void *arg);

struct kl_api_settings;
// Token signer, verifiers and the configuration, made at start from kl_pki and the settings (NULL:
// the defaults; borrowed). Freed by kl_authn_free.
struct kl_authn *kl_authn_new(const struct kl_pki *pki, const struct kl_api_settings *settings,
                              struct kl_error *err);
void kl_authn_free(struct kl_authn *n);
// Reads the configuration files anew when they change; on this loop, NULL: no more.
void kl_authn_watch(struct kl_apiserver *s, struct kl_loop *loop);
void kl_authn_loop_fini(struct kl_api_loop *al); // per-loop caches of both
void kl_authz_loop_fini(struct kl_api_loop *al);

// serviceaccounts/token: answers the TokenRequest in r->body. A complete subresource handler.
void kl_token_request_run(struct kl_req *r);
// TokenReview, SelfSubjectReview, SubjectAccessReview and its kin: complete handlers, by resource.
void kl_review_run(struct kl_req *r);
// Members (with a comma before each) of the ConfigMap extension-apiserver-authentication.
void kl_authn_request_headers(const struct kl_apiserver *s, struct kl_buf *out);
// The value of Sec-WebSocket-Protocol without the tokens that may be in it, for what it goes on to.
struct kl_str kl_authn_strip_protocols(struct kl_arena *a, struct kl_str value);
// /openid/v1/jwks and /.well-known/openid-configuration as JSON text appended to out.
void kl_authn_jwks(struct kl_apiserver *s, struct kl_buf *out);
void kl_authn_oidc_config(struct kl_apiserver *s, struct kl_buf *out);
