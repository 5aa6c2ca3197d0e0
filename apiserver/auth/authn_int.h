// SPDX-License-Identifier: Apache-2.0
// What the files of authentication share.
#pragma once
#include "apiserver/auth/auth.h"
#include "apiserver/auth/conf.h"
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <uv.h>

#define KL_TOKEN_MAX_BYTES ((size_t)16 << 10)

// ---- keys.c: public keys that tokens are checked with.
enum { KL_JWT_KEYS_MAX = 256 };
struct kl_jwt_key {
    EVP_PKEY *key;
    unsigned ec_bytes; // of r and of s; 0: RSA
    char *kid;
    char *alg; // the only one it is for, or NULL
};
struct kl_jwt_keys {
    struct kl_jwt_key *v;
    size_t n;
};
// References the key. kid.p NULL: base64url(sha256(DER of the public key)), as upstream's.
int kl_jwt_keys_add(struct kl_jwt_keys *k, EVP_PKEY *key, struct kl_str kid, struct kl_str alg,
                    struct kl_error *err);
// Public keys, private keys and certificates of a PEM text; KL_EINVALID when there is none.
int kl_jwt_keys_from_pem(struct kl_jwt_keys *k, struct kl_str pem, const char *what,
                         struct kl_error *err);
int kl_jwt_keys_from_jwks(struct kl_jwt_keys *k, struct kl_str json, struct kl_error *err);
void kl_jwt_keys_fini(struct kl_jwt_keys *k);
void kl_jwt_keys_write(const struct kl_jwt_keys *k, struct kl_buf *out); // as a JSON Web Key Set
const char *kl_jwt_key_alg(const struct kl_jwt_key *k); // what service accounts' are signed with
unsigned kl_jwt_ec_bytes(EVP_PKEY *key);
int kl_jwt_kid(EVP_PKEY *key, struct kl_buf *out);

// ---- static_token.c: --token-auth-file.
struct kl_static_tokens;
int kl_static_tokens_read(const char *path, struct kl_static_tokens **ret, struct kl_error *err);
void kl_static_tokens_free(struct kl_static_tokens *t);
// A reference, or NULL.
struct kl_user *kl_static_token_user(const struct kl_static_tokens *t, struct kl_str token);

// ---- front_proxy.c: --requestheader-*.
struct kl_front_proxy;
// By the settings, else the cluster's own proxy with a certificate of own_ca; *ret NULL: neither.
int kl_front_proxy_new(const struct kl_api_settings *s, struct kl_str own_ca,
                       struct kl_front_proxy **ret, struct kl_error *err);
void kl_front_proxy_free(struct kl_front_proxy *f);
bool kl_front_proxy_trusts(const struct kl_front_proxy *f, X509 *cert);
// 1: *ret is whom the headers name; 0: they name nobody; negative: no memory.
int kl_front_proxy_user(const struct kl_front_proxy *f, struct kl_http_req *hr,
                        struct kl_user **ret);

// ---- the server's part
struct kl_authn {
    EVP_PKEY *key; // signs
    const char *alg;
    const EVP_MD *md;
    size_t ec_bytes;
    char kid[44];
    struct kl_jwt_keys keys;  // of service account tokens; our own first
    struct kl_str *issuers;   // of them; the first goes into tokens
    struct kl_str *audiences; // of the server
    size_t nissuers, naudiences;
    struct kl_arena arena;
    const struct kl_api_settings *settings;
    char *jwks;
    struct kl_static_tokens *tokens;
    struct kl_front_proxy *proxy;
    struct kl_remote *webhook; // of tokens
    struct kl_abac *abac;      // in the arena; NULL: no policy file
    unsigned started_with;     // kl_auth_conf_input's
    // The configuration: loops look at the generation with every request.
    atomic_uint generation;
    uv_mutex_t lock; // of conf
    struct kl_auth_conf *conf;
    bool anonymous;
    struct kl_conf_watch *watch; // of its files; loops[0]
    struct kl_conf_reloads {
        atomic_llong n, last_ms; // since 1970
    } reloads[2][2];             // authentication, authorization; failed, done
};
// Reads the files and builds the configuration anew. Blocking, some milliseconds.
int kl_authn_load_conf(struct kl_authn *n, struct kl_error *err);
int kl_auth_read_file(struct kl_arena *a, const char *path, size_t max_bytes, struct kl_str *ret,
                      struct kl_error *err); // NUL-terminated
// The loop's conf, brought up to date; NULL: no memory.
const struct kl_auth_conf *kl_auth_conf_of(struct kl_api_loop *al);

// ---- jwt.c: JSON web signatures in compact form (RFC 7515).
void kl_base64url(struct kl_buf *out, const void *p, size_t n);
// Without padding, no other bytes; appended to out. KL_EBADREQUEST.
int kl_base64url_decode(struct kl_buf *out, struct kl_str s);
// Appends header.claims.signature.
int kl_jwt_sign(const struct kl_authn *n, struct kl_str claims, struct kl_buf *out,
                struct kl_error *err);
bool kl_jwt_alg_known(struct kl_str alg);
struct kl_jwt {
    struct kl_str alg, kid, signed_part, signature;
    struct kl_value claims; // a map: NOT to be trusted before the signature was checked
};
// Takes it apart; memory is the arena's and the token's. KL_EUNAUTHORIZED.
int kl_jwt_parse(struct kl_arena *a, struct kl_str token, size_t max_bytes, struct kl_jwt *ret,
                 struct kl_error *err);
bool kl_jwt_signed_by(const struct kl_jwt *t, const struct kl_jwt_key *k);
// By one of the keys: those of the token's kid when it names one. KL_EUNAUTHORIZED.
int kl_jwt_check(const struct kl_jwt *t, const struct kl_jwt_keys *keys, struct kl_error *err);
// The claims of a token that one of the server's keys signed. KL_EUNAUTHORIZED.
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
    bool legacy; // of a Secret: it does not run out
};
void kl_claims_write(const struct kl_claims *c, struct kl_buf *out);
// Strings are claims' own or the arena's. KL_EUNAUTHORIZED when it is no such token.
int kl_claims_read(struct kl_arena *a, const struct kl_value *json, struct kl_claims *ret,
                   struct kl_error *err);
// Times with a minute's leeway, as upstream words them.
int kl_claims_check_time(const struct kl_claims *c, int64_t now_s, struct kl_error *err);
#define KL_CLAIMS_LEEWAY_S 60
#define KL_LEGACY_ISSUER KL_STR("kubernetes/serviceaccount")

// ---- the authenticators of bearer tokens. 1: *ret is a reference to whom it is; 0: it is none of
// theirs; negative: it is, and no good (KL_EUNAUTHORIZED), or what it hangs on is not known yet
// (KL_EAGAIN: the ask is marked).
struct kl_token_ask {
    struct kl_api_loop *al;
    struct kl_ask *ask;
    struct kl_arena *arena;
    struct kl_str token;
    const struct kl_str *audiences; // asked for; the server's by default
    size_t naudiences;
    const struct kl_str *both; // those of them that the token has; NULL: it is for all
    size_t nboth;
};
int kl_account_token(struct kl_token_ask *t, struct kl_user **ret, struct kl_error *err);
int kl_bootstrap_token(struct kl_token_ask *t, struct kl_user **ret, struct kl_error *err);
int kl_oidc_token(struct kl_token_ask *t, struct kl_user **ret, struct kl_error *err);
int kl_webhook_token(struct kl_token_ask *t, struct kl_user **ret, struct kl_error *err);
// A TokenReview that the webhook answered with; out->code when it is none.
void kl_token_review_read(struct kl_reply *out, struct kl_str body, int64_t ttl_ms);
void kl_oidc_loop_fini(struct kl_api_loop *al);
// All of them in upstream's order. `audiences` NULL: the server's. *ret_audiences (may be NULL):
// those of them that the token has, in the arena. KL_EUNAUTHORIZED with upstream's words; ask as
// above.
int kl_token_authenticate(struct kl_api_loop *al, struct kl_ask *ask, struct kl_arena *a,
                          struct kl_str token, const struct kl_str *audiences, size_t naudiences,
                          struct kl_user **ret, const struct kl_str **ret_audiences,
                          size_t *ret_naudiences, struct kl_error *err);

// ---- what a loop keeps (authn.c)
struct kl_account_entry;
struct kl_oidc_loop;
struct kl_authn_cache {
    struct kl_auth_conf *conf;
    unsigned generation;
    struct kl_map tokens; // account tokens by SHA-256: no token is kept in memory
    struct kl_account_entry *newest;
    struct kl_oidc_loop *oidc; // one for each of the conf's issuers; made on first use
    struct kl_user *anonymous;
};
struct kl_authn_cache *kl_authn_cache_of(struct kl_api_loop *al); // NULL: no memory
void kl_account_tokens_drop(struct kl_authn_cache *c);

// authentication.k8s.io UserInfo of a user as a draft of its type; and back from an untyped tree.
int kl_user_put(struct kl_arena *a, struct kl_value *info, const struct kl_user *u);
struct kl_user *kl_user_from(struct kl_arena *a, const struct kl_value *untyped);
