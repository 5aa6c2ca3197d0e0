// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "apiserver/auth/authn_int.h"

// What a loop knows of an issuer.
struct kl_oidc_loop {
    struct kl_jwt_keys keys;
    struct kl_remote *jwks; // where they came from
    bool fetched;
};

// oidc_claims.c: the user that verified claims stand for. KL_EUNAUTHORIZED with upstream's words.
int kl_oidc_user(const struct kl_oidc *o, struct kl_arena *a, const struct kl_value *claims,
                 struct kl_user **ret, struct kl_error *err);
