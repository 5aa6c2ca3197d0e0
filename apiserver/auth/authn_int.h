// SPDX-License-Identifier: Apache-2.0
// What the files of authentication share: signed tokens and what they claim.
#pragma once
#include "apiserver/auth/auth.h"
#include <openssl/evp.h>

#define KL_TOKEN_MAX_BYTES ((size_t)16 << 10)

struct kl_authn {
    EVP_PKEY *key;   // signs and verifies
    const char *alg; // "ES256", "ES384", "ES512", "RS256"
    const EVP_MD *md;
    size_t ec_bytes; // of r and of s; 0: RSA
    char kid[44];    // base64url(sha256(DER of the public key)), as upstream's
    char *issuer;    // also the only audience of the server
    char *jwks;
};

// ---- jwt.c: JSON web signatures in compact form (RFC 7515).
void kl_base64url(struct kl_buf *out, const void *p, size_t n);
// Without padding, no other bytes; appended to out. KL_EBADREQUEST.
int kl_base64url_decode(struct kl_buf *out, struct kl_str s);
// Appends header.claims.signature.
int kl_jwt_sign(const struct kl_authn *n, struct kl_str claims, struct kl_buf *out,
                struct kl_error *err);
// The claims of a token that this key signed, parsed into the arena. KL_EUNAUTHORIZED.
int kl_jwt_verify(const struct kl_authn *n, struct kl_arena *a, struct kl_str token,
                  struct kl_value *ret_claims, struct kl_error *err);

// ---- claims.c: what upstream's bound service account tokens say.
struct kl_claims_ref {
    struct kl_str name, uid;
};
struct kl_claims {
    struct kl_str issuer, subject, id, ns;
    struct kl_claims_ref account, pod, secret, node;         // name.n == 0: not bound to one
    int64_t expires_s, not_before_s, issued_s, warn_after_s; // 0: not given
    const struct kl_str *audiences;
    size_t naudiences;
};
void kl_claims_write(const struct kl_claims *c, struct kl_buf *out);
// Strings are claims' own or the arena's. KL_EUNAUTHORIZED when it is no such token.
int kl_claims_read(struct kl_arena *a, const struct kl_value *json, struct kl_claims *ret,
                   struct kl_error *err);
// Times with a minute's leeway, as upstream words them.
int kl_claims_check_time(const struct kl_claims *c, int64_t now_s, struct kl_error *err);
#define KL_CLAIMS_LEEWAY_S 60

// ---- authn_token.c: the user behind a bearer token, by the loop's view. `audiences` are those
// asked for (NULL: the server's). *ret_audiences (may be NULL): those of them that the token has,
// in the arena. KL_EUNAUTHORIZED with upstream's words.
int kl_token_authenticate(struct kl_api_loop *al, struct kl_arena *a, struct kl_str token,
                          const struct kl_str *audiences, size_t naudiences, struct kl_user **ret,
                          const struct kl_str **ret_audiences, size_t *ret_naudiences,
                          struct kl_error *err);
