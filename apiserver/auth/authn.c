// SPDX-License-Identifier: Apache-2.0
// Who is it? A front proxy's user, a client certificate, a bearer token, or nobody.
#include "apiserver/auth/authn_int.h"
#include "apiserver/auth/revoke.h"
#include "apiserver/pki_int.h"
#include "base/clock.h"
#include "net/tls.h"
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <time.h>

// ---- certificates

// What is kept with a connection. A certificate that runs out ends what it was good for, as
// upstream, which looks at it anew with every request.
struct identity {
    struct kl_user *user; // NULL: the certificate is not good for a user of its own
    int64_t expires_s;
    bool proxy; // speaks for others by headers
};

static void free_identity(void *p)
{
    struct identity *id = p;
    kl_user_unref(id->user);
    free(id);
}

static int64_t time_of(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? timegm(&tm) : 0;
}

static void put_serial(X509 *cert, struct kl_user *u)
{
    BIGNUM *bn = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
    char *hex = bn ? BN_bn2hex(bn) : NULL;
    const char *from = hex ? hex : "";
    while (*from == '0') // BN_bn2hex writes whole bytes
        from++;
    size_t n = strlen(from);
    for (size_t i = 0; i < n && n < sizeof u->serial; i++)
        u->serial[i] = (char)(from[i] >= 'A' && from[i] <= 'F' ? from[i] | 0x20 : from[i]);
    OPENSSL_free(hex);
    BN_free(bn);
}

// CN and O as upstream's CommonNameUserConversion; credential-id is the certificate's fingerprint.
static struct kl_user *user_of_cert(X509 *cert)
{
    struct kl_arena a;
    struct kl_str cn, *orgs, id;
    size_t norgs;
    struct kl_user *u = NULL;
    unsigned char *der = NULL, md[SHA256_DIGEST_LENGTH];
    char text[sizeof "X509SHA256=" + 2 * SHA256_DIGEST_LENGTH] = "X509SHA256=";
    kl_arena_init(&a, 1 << 20);
    int len = i2d_X509(cert, &der);
    if (len > 0 && !kl_tls_cert_user(cert, &a, &cn, &orgs, &norgs) && cn.n) {
        size_t n = strlen(text);
        SHA256(der, (size_t)len, md);
        for (size_t i = 0; i < sizeof md; i++) {
            text[n++] = "0123456789abcdef"[md[i] >> 4];
            text[n++] = "0123456789abcdef"[md[i] & 15];
        }
        id = (struct kl_str){text, n};
        struct kl_user_extra extra = {KL_STR("authentication.kubernetes.io/credential-id"), &id, 1};
        u = kl_user_new(cn, KL_STR(""), orgs, norgs, &extra, 1);
    }
    OPENSSL_free(der);
    kl_arena_fini(&a);
    return u;
}

// What the connection's certificate is good for; NULL: there is none, or no memory (looked at again
// next time).
static struct identity *identity_of(const struct kl_authn *n, struct kl_http_req *hr)
{
    struct identity *id = kl_http_conn_data(hr);
    bool verified = false;
    X509 *cert = id ? NULL : kl_http_peer_cert(hr, &verified, NULL);
    if (!cert || !(id = calloc(1, sizeof *id)))
        return id;
    id->expires_s = time_of(X509_get0_notAfter(cert));
    id->user = verified ? user_of_cert(cert) : NULL;
    if (id->user) {
        id->user->issued_s = time_of(X509_get0_notBefore(cert));
        put_serial(cert, id->user);
    }
    id->proxy = n->proxy && kl_front_proxy_trusts(n->proxy, cert);
    kl_http_conn_set_data(hr, id, free_identity);
    return id;
}

// 1: *ret is who it is; 0: the certificate says nobody; negative: one that is not good.
static int by_certificate(const struct kl_authn *n, struct kl_http_req *hr, struct kl_user **ret)
{
    struct identity *id = identity_of(n, hr);
    if (!id)
        return 0;
    bool over = kl_wall_ms() / 1000 > id->expires_s;
    if (id->proxy && !over) {
        int rc = kl_front_proxy_user(n->proxy, hr, ret);
        if (rc)
            return rc;
    }
    if (over || !id->user)
        return id->proxy && !over ? 0 : KL_EUNAUTHORIZED;
    *ret = kl_user_ref(id->user);
    return 1;
}

// ---- bearer tokens

// `Bearer TOKEN` in any case; p NULL for other schemes, which upstream does not look at.
static struct kl_str bearer_token(const struct kl_http_req *hr)
{
    struct kl_str rest = kl_str_trim(kl_http_header(hr, KL_STR("authorization"))), scheme, token;
    if (!kl_str_split(&rest, ' ', &scheme) || !kl_str_ieq(scheme, KL_STR("bearer")) ||
        !kl_str_split(&rest, ' ', &token) || !token.n)
        return (struct kl_str){NULL, 0};
    return token;
}

bool kl_bearer_is_spaced(const struct kl_http_req *hr)
{
    struct kl_str rest = kl_str_trim(kl_http_header(hr, KL_STR("authorization"))), scheme, token;
    return kl_str_split(&rest, ' ', &scheme) && kl_str_ieq(scheme, KL_STR("bearer")) &&
           kl_str_split(&rest, ' ', &token) && !token.n;
}

static const struct kl_str PROTOCOL_PREFIX = KL_STR_INIT("base64url.bearer.authorization.k8s.io.");

struct kl_str kl_authn_strip_protocols(struct kl_arena *a, struct kl_str value)
{
    struct kl_str rest = value, one, out = KL_STR("");
    while (rest.n && kl_str_split(&rest, ',', &one)) {
        one = kl_str_trim(one);
        if (!kl_str_starts(one, PROTOCOL_PREFIX))
            out = kl_arena_printf(a, "%.*s%s%.*s", KL_PRI(out), out.n ? ", " : "", KL_PRI(one));
    }
    return out.p ? out : KL_STR("");
}

// A browser cannot set headers on a WebSocket: the token is one of the protocols (apiserver
// pkg/authentication/request/websocket).
static struct kl_str protocol_token(struct kl_http_req *hr)
{
    const struct kl_str prefix = PROTOCOL_PREFIX, none = {NULL, 0};
    struct kl_str rest = kl_http_header(hr, KL_STR("sec-websocket-protocol")), one;
    struct kl_buf b;
    if (!rest.n || !kl_http_is_upgrade(hr))
        return none;
    while (kl_str_split(&rest, ',', &one)) {
        one = kl_str_trim(one);
        if (!kl_str_starts(one, prefix))
            continue;
        kl_buf_init(&b, KL_TOKEN_MAX_BYTES);
        struct kl_str token = none;
        if (!kl_base64url_decode(&b, kl_str_from(one, prefix.n)))
            token = kl_arena_dup(kl_http_req_arena(hr), kl_buf_str(&b));
        kl_buf_fini(&b);
        return token;
    }
    return none;
}

static bool anonymous_may(const struct kl_auth_conf *conf, struct kl_http_req *hr)
{
    struct kl_str path = kl_http_path(hr);
    if (!conf->anonymous || !conf->nanonymous_paths)
        return conf->anonymous;
    for (size_t i = 0; i < conf->nanonymous_paths; i++)
        if (kl_str_eq(path, conf->anonymous_paths[i]))
            return true;
    return false;
}

static int by_nothing(struct kl_api_loop *al, struct kl_http_req *hr, struct kl_user **ret)
{
    const struct kl_auth_conf *conf = kl_auth_conf_of(al);
    if (!conf || !al->srv->o.anonymous || !anonymous_may(conf, hr))
        return KL_EUNAUTHORIZED;
    if (!al->authn->anonymous)
        al->authn->anonymous =
            kl_user_new(KL_STR("system:anonymous"), KL_STR(""), NULL, 0, NULL, 0);
    *ret = kl_user_ref(al->authn->anonymous);
    return *ret ? 0 : KL_EUNAUTHORIZED;
}

static int identify(struct kl_api_loop *al, struct kl_http_req *hr, struct kl_ask *ask,
                    struct kl_user **ret)
{
    int by_cert = by_certificate(al->srv->authn, hr, ret);
    if (by_cert > 0)
        return 0;
    struct kl_str token = bearer_token(hr);
    if (!token.p)
        token = protocol_token(hr);
    if (token.p) {
        struct kl_error err;
        return kl_token_authenticate(al, ask, kl_http_req_arena(hr), token, NULL, 0, ret, NULL,
                                     NULL, &err)
                   ? KL_EUNAUTHORIZED
                   : 0;
    }
    return by_cert < 0 ? KL_EUNAUTHORIZED : by_nothing(al, hr, ret);
}

int kl_authenticate(struct kl_api_loop *al, struct kl_http_req *hr, struct kl_ask *ask,
                    struct kl_user **ret)
{
    int rc = identify(al, hr, ask, ret);
    if (rc || !kl_revoked(al, *ret))
        return rc;
    kl_user_unref(*ret);
    *ret = NULL;
    return KL_EUNAUTHORIZED;
}

// ---- all authenticators of tokens

static int by_list(struct kl_token_ask *t, struct kl_user **ret, struct kl_error *err)
{
    const struct kl_authn *n = t->al->srv->authn;
    *ret = n->tokens ? kl_static_token_user(n->tokens, t->token) : NULL;
    return *ret ? 1 : 0;
}

static int try_all(struct kl_token_ask *t, struct kl_user **ret, struct kl_error *err)
{
    static int (*const all[])(struct kl_token_ask *, struct kl_user **, struct kl_error *) = {
        by_list, kl_account_token, kl_bootstrap_token, kl_oidc_token, kl_webhook_token};
    struct kl_error why, joined = {.code = KL_EUNAUTHORIZED, .msg = ""};
    int nerrors = 0;
    for (size_t i = 0; i < KL_COUNT(all); i++) {
        int rc = all[i](t, ret, &why);
        if (rc > 0)
            return 0;
        if (t->ask && kl_ask_is_pending(t->ask))
            return kl_error_set(err, KL_EAGAIN, "the answer is on its way");
        if (!rc)
            continue;
        if (nerrors++)
            kl_error_set(&joined, KL_EUNAUTHORIZED, "%.500s, %.500s", joined.msg, why.msg);
        else
            joined = why;
    }
    if (!nerrors)
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid bearer token");
    return kl_error_set(err, KL_EUNAUTHORIZED, nerrors > 1 ? "[%s]" : "%s", joined.msg);
}

int kl_token_authenticate(struct kl_api_loop *al, struct kl_ask *ask, struct kl_arena *a,
                          struct kl_str token, const struct kl_str *audiences, size_t naudiences,
                          struct kl_user **ret, const struct kl_str **ret_audiences,
                          size_t *ret_naudiences, struct kl_error *err)
{
    const struct kl_authn *n = al->srv->authn;
    struct kl_token_ask t = {.al = al,
                             .ask = ask,
                             .arena = a,
                             .token = token,
                             .audiences = naudiences ? audiences : n->audiences,
                             .naudiences = naudiences ? naudiences : n->naudiences};
    if (token.n > KL_TOKEN_MAX_BYTES)
        return kl_error_set(err, KL_EUNAUTHORIZED, "token is too long");
    int rc = try_all(&t, ret, err);
    if (rc)
        return rc;
    if (!t.both && naudiences) { // good for the server, whoever asks: WrapAudienceAgnosticToken
        struct kl_str *both = kl_arena_alloc(a, naudiences * sizeof *both);
        for (size_t i = 0; both && i < naudiences; i++)
            for (size_t k = 0; k < n->naudiences; k++)
                if (kl_str_eq(audiences[i], n->audiences[k]))
                    both[t.nboth++] = audiences[i];
        t.both = both;
        if (!t.nboth) {
            kl_user_unref(*ret);
            *ret = NULL;
            return kl_error_set(err, KL_EUNAUTHORIZED, "invalid bearer token");
        }
    }
    if (ret_audiences) {
        *ret_audiences = t.both ? t.both : t.audiences;
        *ret_naudiences = t.both ? t.nboth : t.naudiences;
    }
    return 0;
}
