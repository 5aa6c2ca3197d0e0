// SPDX-License-Identifier: Apache-2.0
// Public keys that tokens are checked with: of PEM files and of JSON Web Key Sets (RFC 7517).
#include "apiserver/auth/authn_int.h"
#include "net/tls.h"
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <stdlib.h>

unsigned kl_jwt_ec_bytes(EVP_PKEY *key)
{
    char curve[32] = "";
    size_t len = 0;
    if (EVP_PKEY_get_base_id(key) != EVP_PKEY_EC)
        return 0;
    EVP_PKEY_get_group_name(key, curve, sizeof curve, &len);
    return !strcmp(curve, "prime256v1") || !strcmp(curve, "P-256")  ? 32
           : !strcmp(curve, "secp384r1") || !strcmp(curve, "P-384") ? 48
           : !strcmp(curve, "secp521r1") || !strcmp(curve, "P-521") ? 66
                                                                    : 0;
}

int kl_jwt_kid(EVP_PKEY *key, struct kl_buf *out)
{
    unsigned char *der = NULL, md[SHA256_DIGEST_LENGTH];
    int len = i2d_PUBKEY(key, &der);
    if (len <= 0)
        return KL_EINVALID;
    SHA256(der, (size_t)len, md);
    OPENSSL_free(der);
    kl_base64url(out, md, sizeof md);
    return out->err;
}

void kl_jwt_keys_fini(struct kl_jwt_keys *k)
{
    for (size_t i = 0; i < k->n; i++) {
        EVP_PKEY_free(k->v[i].key);
        free(k->v[i].kid);
        free(k->v[i].alg);
    }
    free(k->v);
    *k = (struct kl_jwt_keys){0};
}

int kl_jwt_keys_add(struct kl_jwt_keys *k, EVP_PKEY *key, struct kl_str kid, struct kl_str alg,
                    struct kl_error *err)
{
    struct kl_buf b;
    bool rsa = EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
    if (!rsa && !kl_jwt_ec_bytes(key))
        return kl_error_set(err, KL_EINVALID, "neither RSA nor ECDSA on P-256, P-384 or P-521");
    if (k->n >= KL_JWT_KEYS_MAX)
        return kl_error_set(err, KL_ELIMIT, "more than %d keys", KL_JWT_KEYS_MAX);
    kl_buf_init(&b, 64);
    if (!kid.p && !kl_jwt_kid(key, &b))
        kid = kl_buf_str(&b);
    struct kl_jwt_key *v = realloc(k->v, (k->n + 1) * sizeof *v);
    if (v)
        k->v = v;
    struct kl_jwt_key n = {.ec_bytes = kl_jwt_ec_bytes(key), .kid = kl_str_to_c(kid)};
    if (alg.n)
        n.alg = kl_str_to_c(alg);
    kl_buf_fini(&b);
    if (!v || !n.kid || (alg.n && !n.alg)) {
        free(n.kid);
        free(n.alg);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    EVP_PKEY_up_ref(key);
    n.key = key;
    k->v[k->n++] = n;
    return 0;
}

// ---- PEM

static EVP_PKEY *key_of_block(const char *name, const unsigned char *der, long n)
{
    const unsigned char *p = der;
    if (!strcmp(name, PEM_STRING_X509)) {
        X509 *cert = d2i_X509(NULL, &p, n);
        EVP_PKEY *key = cert ? X509_get_pubkey(cert) : NULL;
        X509_free(cert);
        return key;
    }
    if (!strcmp(name, PEM_STRING_PUBLIC))
        return d2i_PUBKEY(NULL, &p, n);
    if (!strcmp(name, PEM_STRING_RSA_PUBLIC))
        return d2i_PublicKey(EVP_PKEY_RSA, NULL, &p, n);
    if (strstr(name, "PRIVATE KEY"))
        return d2i_AutoPrivateKey(NULL, &p, n);
    return NULL;
}

int kl_jwt_keys_from_pem(struct kl_jwt_keys *k, struct kl_str pem, const char *what,
                         struct kl_error *err)
{
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long n;
    int rc = 0;
    size_t before = k->n;
    while (!rc && b && PEM_read_bio(b, &name, &header, &der, &n) == 1) {
        EVP_PKEY *key = key_of_block(name, der, n);
        if (key)
            rc = kl_jwt_keys_add(k, key, (struct kl_str){0}, KL_STR(""), err);
        EVP_PKEY_free(key);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_clear_free(der, (size_t)n);
        name = header = NULL;
        der = NULL;
    }
    BIO_free(b);
    ERR_clear_error();
    if (rc)
        return kl_error_wrap(err, "%s", what);
    if (k->n == before)
        return kl_error_set(err, KL_EINVALID,
                            "%s: data does not contain any valid RSA or ECDSA public keys", what);
    return 0;
}

// ---- JWK

static BIGNUM *number(const struct kl_value *jwk, const char *name)
{
    struct kl_str text = kl_text(kl_map_value(jwk, kl_str(name)));
    struct kl_buf b;
    BIGNUM *bn = NULL;
    kl_buf_init(&b, 4096);
    if (text.n && !kl_base64url_decode(&b, text))
        bn = BN_bin2bn((const unsigned char *)b.p, (int)b.n, NULL);
    kl_buf_fini(&b);
    return bn;
}

static EVP_PKEY *from_params(const char *type, OSSL_PARAM_BLD *bld)
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    return key;
}

static EVP_PKEY *rsa_key(const struct kl_value *jwk)
{
    BIGNUM *n = number(jwk, "n"), *e = number(jwk, "e");
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;
    if (n && e && bld && BN_num_bits(n) >= 1024 && BN_num_bits(n) <= 16384 &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e) == 1)
        key = from_params("RSA", bld);
    OSSL_PARAM_BLD_free(bld);
    BN_free(n);
    BN_free(e);
    return key;
}

static EVP_PKEY *ec_key(const struct kl_value *jwk)
{
    struct kl_str crv = kl_text(kl_map_value(jwk, KL_STR("crv")));
    int bytes = kl_str_eqz(crv, "P-256")   ? 32
                : kl_str_eqz(crv, "P-384") ? 48
                : kl_str_eqz(crv, "P-521") ? 66
                                           : 0;
    unsigned char point[1 + 2 * 66] = {4};
    BIGNUM *x = number(jwk, "x"), *y = number(jwk, "y");
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;
    char name[8];
    if (bytes && x && y && bld && BN_bn2binpad(x, point + 1, bytes) == bytes &&
        BN_bn2binpad(y, point + 1 + bytes, bytes) == bytes) {
        memcpy(name, crv.p, crv.n);
        name[crv.n] = 0;
        if (OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, name, 0) == 1 &&
            OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point,
                                             1 + 2 * (size_t)bytes) == 1)
            key = from_params("EC", bld);
    }
    OSSL_PARAM_BLD_free(bld);
    BN_free(x);
    BN_free(y);
    return key;
}

int kl_jwt_keys_from_jwks(struct kl_jwt_keys *k, struct kl_str json, struct kl_error *err)
{
    struct kl_arena a;
    struct kl_value root;
    int rc;
    kl_arena_init(&a, 16 << 20);
    if (kl_json_parse(&a, json, NULL, &root, err) || root.kind != KL_MAP ||
        !kl_is(kl_map_value(&root, KL_STR("keys")), KL_ARRAY)) {
        rc = kl_error_set(err, KL_EINVALID, "failed to decode keys: not a JSON Web Key Set");
        kl_arena_fini(&a);
        return rc;
    }
    rc = 0;
    for (KL_EACH(jwk, kl_map_value(&root, KL_STR("keys")))) {
        struct kl_str kty = kl_text(kl_map_value(jwk, KL_STR("kty"))),
                      use = kl_text(kl_map_value(jwk, KL_STR("use")));
        if (use.n && !kl_str_eqz(use, "sig"))
            continue;
        EVP_PKEY *key = kl_str_eqz(kty, "RSA")  ? rsa_key(jwk)
                        : kl_str_eqz(kty, "EC") ? ec_key(jwk)
                                                : NULL; // others are not for us
        struct kl_str kid = kl_text(kl_map_value(jwk, KL_STR("kid")));
        if (key)
            rc = kl_jwt_keys_add(k, key, kid, kl_text(kl_map_value(jwk, KL_STR("alg"))), err);
        EVP_PKEY_free(key);
        if (rc)
            break;
    }
    ERR_clear_error();
    kl_arena_fini(&a);
    return rc;
}

// ---- as a key set of our own

static void put_number(struct kl_buf *out, EVP_PKEY *key, const char *param, const char *name,
                       size_t bytes)
{
    BIGNUM *bn = NULL;
    unsigned char raw[2048];
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

const char *kl_jwt_key_alg(const struct kl_jwt_key *k)
{
    return !k->ec_bytes        ? "RS256"
           : k->ec_bytes == 32 ? "ES256"
           : k->ec_bytes == 48 ? "ES384"
                               : "ES512";
}

// As go-jose writes them.
void kl_jwt_keys_write(const struct kl_jwt_keys *k, struct kl_buf *b)
{
    kl_buf_puts(b, KL_STR("{\"keys\":["));
    for (size_t i = 0; i < k->n; i++) {
        const struct kl_jwt_key *x = &k->v[i];
        kl_buf_printf(b, "%s{\"use\":\"sig\",\"kty\":\"%s\",\"kid\":\"%s\"", i ? "," : "",
                      x->ec_bytes ? "EC" : "RSA", x->kid);
        if (x->ec_bytes)
            kl_buf_printf(b, ",\"crv\":\"P-%d\"", x->ec_bytes == 66 ? 521 : (int)x->ec_bytes * 8);
        kl_buf_printf(b, ",\"alg\":\"%s\"", kl_jwt_key_alg(x));
        if (x->ec_bytes) {
            put_number(b, x->key, OSSL_PKEY_PARAM_EC_PUB_X, "x", x->ec_bytes);
            put_number(b, x->key, OSSL_PKEY_PARAM_EC_PUB_Y, "y", x->ec_bytes);
        } else {
            put_number(b, x->key, OSSL_PKEY_PARAM_RSA_N, "n", 0);
            put_number(b, x->key, OSSL_PKEY_PARAM_RSA_E, "e", 0);
        }
        kl_buf_putc(b, '}');
    }
    kl_buf_puts(b, KL_STR("]}"));
}
