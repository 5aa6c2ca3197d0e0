// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "apiserver/auth/authn_int.h"

// What a loop knows of an issuer's keys.
struct kl_oidc_keys {
    struct kl_jwt_keys keys;
    struct kl_remote *jwks; // where they came from
    bool fetched;
    struct kl_oidc_keys *next; // of those that signed distributed claims, the newest first
    size_t nissuer;
    char issuer[];
};

// What a loop has for an issuer of the configuration.
struct kl_oidc_loop {
    struct kl_oidc_keys own;
    struct kl_oidc_keys *others;
};

// ---- oidc.c
struct kl_str kl_oidc_issuer_of(const struct kl_jwt *jwt);
// IDTokenVerifier.Verify of go-oidc for a token of the issuer: 0; KL_EUNAUTHORIZED with its words;
// KL_EUNAVAILABLE: the issuer's keys could not be had; KL_EAGAIN: they are being fetched. `i` is
// the issuer of the configuration whose CA, audiences and algorithms count.
int kl_oidc_verify(struct kl_token_ask *t, struct kl_authn_cache *c, size_t i, struct kl_str issuer,
                   const struct kl_jwt *jwt, struct kl_error *err);

// ---- oidc_keys.c: fetched when an issuer's first token comes, and again when a token names a key
// that is not known or that does not fit. As above.
int kl_oidc_check_signature(struct kl_token_ask *t, struct kl_authn_cache *c, size_t i,
                            struct kl_str issuer, const struct kl_jwt *jwt, struct kl_error *err);
void kl_oidc_keys_drop(struct kl_oidc_loop *l);
// An issuer's discovery document (OpenID Connect Discovery 1.0, 4.2). KL_EPROTO.
int kl_oidc_discovery_read(struct kl_arena *a, struct kl_str body, struct kl_str issuer,
                           struct kl_str *ret_jwks_uri, struct kl_error *err);

// ---- oidc_distributed.c: puts the claim of groups in `claims` when the token says that it is
// elsewhere. 0, KL_EUNAUTHORIZED or KL_EAGAIN.
int kl_oidc_expand(struct kl_token_ask *t, struct kl_authn_cache *c, size_t i,
                   struct kl_value *claims, struct kl_error *err);

// oidc_claims.c: the user that verified claims stand for. KL_EUNAUTHORIZED with upstream's words.
int kl_oidc_user(const struct kl_oidc *o, struct kl_arena *a, const struct kl_value *claims,
                 struct kl_user **ret, struct kl_error *err);
