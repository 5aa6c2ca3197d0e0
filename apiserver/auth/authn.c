// SPDX-License-Identifier: Apache-2.0
// Who is it? A client certificate, a bearer token, or nobody.
#include "apiserver/auth/authn_int.h"
#include "apiserver/pki_int.h"
#include "base/clock.h"
#include "net/tls.h"
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <time.h>

// ---- the key

static int take_algorithm(struct kl_authn *n, struct kl_error *err)
{
    char curve[32] = "";
    size_t len = 0;
    if (EVP_PKEY_get_base_id(n->key) == EVP_PKEY_RSA) {
        n->alg = "RS256";
        n->md = EVP_sha256();
        return 0;
    }
    if (EVP_PKEY_get_base_id(n->key) == EVP_PKEY_EC)
        EVP_PKEY_get_group_name(n->key, curve, sizeof curve, &len);
    if (!strcmp(curve, "prime256v1") || !strcmp(curve, "P-256")) {
        n->alg = "ES256";
        n->md = EVP_sha256();
        n->ec_bytes = 32;
    } else if (!strcmp(curve, "secp384r1") || !strcmp(curve, "P-384")) {
        n->alg = "ES384";
        n->md = EVP_sha384();
        n->ec_bytes = 48;
    } else if (!strcmp(curve, "secp521r1") || !strcmp(curve, "P-521")) {
        n->alg = "ES512";
        n->md = EVP_sha512();
        n->ec_bytes = 66;
    } else {
        return kl_error_set(err, KL_EINVALID,
                            "service account key: neither RSA nor ECDSA on P-256, P-384 or P-521");
    }
    return 0;
}

static int make_kid(struct kl_authn *n, struct kl_error *err)
{
    unsigned char *der = NULL, md[SHA256_DIGEST_LENGTH];
    int len = i2d_PUBKEY(n->key, &der);
    if (len <= 0)
        return kl_tls_error(err, KL_EINVALID, "service account key");
    SHA256(der, (size_t)len, md);
    OPENSSL_free(der);
    struct kl_buf b;
    kl_buf_init(&b, sizeof n->kid);
    kl_base64url(&b, md, sizeof md);
    if (!b.err) {
        memcpy(n->kid, b.p, b.n);
        n->kid[b.n] = 0;
    }
    int rc = b.err;
    kl_buf_fini(&b);
    return rc ? kl_error_set(err, rc, "service account key: out of memory") : 0;
}

static void put_number(struct kl_buf *out, EVP_PKEY *key, const char *param, const char *name,
                       size_t bytes)
{
    BIGNUM *bn = NULL;
    unsigned char raw[1024];
    if (EVP_PKEY_get_bn_param(key, param, &bn) != 1)
        return;
    int n = bytes ? (int)bytes : BN_num_bytes(bn);
    if (n <= (int)sizeof raw && BN_bn2binpad(bn, raw, n) == n) {
        kl_buf_printf(out, ",\"%s\":\"", name);
        kl_base64url(out, raw, (size_t)n);
        kl_buf_putc(out, '"');
    }
    BN_free(bn);
}

static int make_jwks(struct kl_authn *n, struct kl_error *err)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_buf_printf(&b, "{\"keys\":[{\"use\":\"sig\",\"kty\":\"%s\",\"kid\":\"%s\"",
                  n->ec_bytes ? "EC" : "RSA", n->kid);
    if (n->ec_bytes)
        kl_buf_printf(&b, ",\"crv\":\"P-%d\"", n->ec_bytes == 66 ? 521 : (int)n->ec_bytes * 8);
    kl_buf_printf(&b, ",\"alg\":\"%s\"", n->alg);
    if (n->ec_bytes) {
        put_number(&b, n->key, OSSL_PKEY_PARAM_EC_PUB_X, "x", n->ec_bytes);
        put_number(&b, n->key, OSSL_PKEY_PARAM_EC_PUB_Y, "y", n->ec_bytes);
    } else {
        put_number(&b, n->key, OSSL_PKEY_PARAM_RSA_N, "n", 0);
        put_number(&b, n->key, OSSL_PKEY_PARAM_RSA_E, "e", 0);
    }
    kl_buf_puts(&b, KL_STR("}]}"));
    kl_buf_putc(&b, 0);
    n->jwks = b.err ? NULL : strdup(b.p);
    kl_buf_fini(&b);
    return n->jwks ? 0 : kl_error_set(err, KL_ENOMEM, "service account key: out of memory");
}

struct kl_authn *kl_authn_new(const struct kl_pki *pki, struct kl_error *err)
{
    struct kl_authn *n = calloc(1, sizeof *n);
    struct kl_str domain = pki->cluster_domain.n ? pki->cluster_domain : KL_STR("cluster.local");
    if (!n || asprintf(&n->issuer, "https://kubernetes.default.svc.%.*s", KL_PRI(domain)) < 0) {
        free(n);
        kl_error_set(err, KL_ENOMEM, "service account key: out of memory");
        return NULL;
    }
    if (!(n->key = kl_pki_load_key(pki->service_key, "service account key", err)) ||
        take_algorithm(n, err) || make_kid(n, err) || make_jwks(n, err)) {
        kl_authn_free(n);
        return NULL;
    }
    ERR_clear_error();
    return n;
}

void kl_authn_free(struct kl_authn *n)
{
    if (!n)
        return;
    EVP_PKEY_free(n->key); // wipes the private part
    free(n->issuer);
    free(n->jwks);
    free(n);
}

void kl_authn_jwks(struct kl_apiserver *s, struct kl_buf *out)
{
    kl_buf_puts(out, kl_str(s->authn->jwks));
}

void kl_authn_oidc_config(struct kl_apiserver *s, struct kl_buf *out)
{
    const char *host = s->o.advertise_address ? s->o.advertise_address : "127.0.0.1";
    bool v6 = strchr(host, ':') != NULL;
    kl_buf_puts(out, KL_STR("{\"issuer\":"));
    kl_json_write_string(out, kl_str(s->authn->issuer));
    kl_buf_printf(out, ",\"jwks_uri\":\"https://%s%s%s:%d/openid/v1/jwks\"", v6 ? "[" : "", host,
                  v6 ? "]" : "", s->http ? kl_apiserver_port(s) : s->o.port);
    kl_buf_printf(out,
                  ",\"response_types_supported\":[\"id_token\"],"
                  "\"subject_types_supported\":[\"public\"],"
                  "\"id_token_signing_alg_values_supported\":[\"%s\"]}",
                  s->authn->alg);
}

// ---- certificates

// What is kept with a connection. A certificate that runs out ends what it was good for, as
// upstream, which looks at it anew with every request.
struct identity {
    struct kl_user *user;
    int64_t expires_s;
};

static void free_identity(void *p)
{
    struct identity *id = p;
    kl_user_unref(id->user);
    free(id);
}

static void keep_identity(struct kl_http_req *hr, X509 *cert, struct kl_user *u)
{
    struct identity *id = malloc(sizeof *id);
    struct tm tm;
    if (!id || ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) != 1) {
        free(id);
        return; // looked at again next time
    }
    *id = (struct identity){kl_user_ref(u), timegm(&tm)};
    kl_http_conn_set_data(hr, id, free_identity);
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

// 1: *ret is who it is; 0: no certificate; negative: one that is not good.
static int by_certificate(struct kl_http_req *hr, struct kl_user **ret)
{
    struct identity *id = kl_http_conn_data(hr);
    if (id && kl_wall_ms() / 1000 > id->expires_s)
        return KL_EUNAUTHORIZED;
    if (id) {
        *ret = kl_user_ref(id->user);
        return 1;
    }
    bool verified = false;
    X509 *cert = kl_http_peer_cert(hr, &verified, NULL);
    if (!cert)
        return 0;
    struct kl_user *u = verified ? user_of_cert(cert) : NULL;
    if (!u)
        return KL_EUNAUTHORIZED;
    keep_identity(hr, cert, u);
    *ret = u;
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

int kl_authenticate(struct kl_api_loop *al, struct kl_http_req *hr, struct kl_ask *ask,
                    struct kl_user **ret)
{
    (void)ask;
    int by_cert = by_certificate(hr, ret);
    if (by_cert > 0)
        return 0;
    struct kl_str token = bearer_token(hr);
    if (token.p) {
        struct kl_error err;
        return kl_token_authenticate(al, kl_http_req_arena(hr), token, NULL, 0, ret, NULL, NULL,
                                     &err)
                   ? KL_EUNAUTHORIZED
                   : 0;
    }
    if (by_cert < 0 || !al->srv->o.anonymous)
        return KL_EUNAUTHORIZED;
    *ret = kl_user_new(KL_STR("system:anonymous"), KL_STR(""), NULL, 0, NULL, 0);
    return *ret ? 0 : KL_EUNAUTHORIZED;
}
