// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/authn_int.h"
#include "net/tls.h"
#include <openssl/ec.h>
#include <openssl/err.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void kl_base64url(struct kl_buf *out, const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)p[i] << 16;
        if (i + 1 < n)
            v |= (unsigned)p[i + 1] << 8;
        if (i + 2 < n)
            v |= p[i + 2];
        kl_buf_putc(out, alphabet[v >> 18]);
        kl_buf_putc(out, alphabet[(v >> 12) & 63]);
        if (i + 1 < n)
            kl_buf_putc(out, alphabet[(v >> 6) & 63]);
        if (i + 2 < n)
            kl_buf_putc(out, alphabet[v & 63]);
    }
}

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

int kl_base64url_decode(struct kl_buf *out, struct kl_str s)
{
    unsigned v = 0;
    int bits = 0;
    if (s.n % 4 == 1)
        return KL_EBADREQUEST;
    for (size_t i = 0; i < s.n; i++) {
        int d = digit(s.p[i]);
        if (d < 0)
            return KL_EBADREQUEST;
        v = v << 6 | (unsigned)d;
        if ((bits += 6) >= 8)
            kl_buf_putc(out, (char)(v >> (bits -= 8)));
        v &= (1u << bits) - 1;
    }
    return v ? KL_EBADREQUEST : out->err; // one text for one run of bytes
}

// RFC 7518 3.4: r and s side by side instead of DER.
static int put_ec_signature(const struct kl_authn *n, struct kl_buf *out, const unsigned char *der,
                            size_t len)
{
    unsigned char raw[2 * 66];
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)len);
    int k = (int)n->ec_bytes;
    bool ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, k) == k &&
              BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + k, k) == k;
    ECDSA_SIG_free(sig);
    if (ok)
        kl_base64url(out, raw, 2 * n->ec_bytes);
    return ok ? 0 : KL_EINTERNAL;
}

int kl_jwt_sign(const struct kl_authn *n, struct kl_str claims, struct kl_buf *out,
                struct kl_error *err)
{
    struct kl_buf header;
    unsigned char sig[1024];
    size_t len = sizeof sig, start = out->n;
    kl_buf_init(&header, 256);
    kl_buf_printf(&header, "{\"alg\":\"%s\",\"kid\":\"%s\"}", n->alg, n->kid);
    kl_base64url(out, header.p, header.n);
    kl_buf_fini(&header);
    kl_buf_putc(out, '.');
    kl_base64url(out, claims.p, claims.n);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = !out->err && ctx && EVP_DigestSignInit(ctx, NULL, n->md, NULL, n->key) == 1 &&
              EVP_DigestSign(ctx, sig, &len, (unsigned char *)out->p + start, out->n - start) == 1;
    EVP_MD_CTX_free(ctx);
    if (!ok)
        return kl_tls_error(err, KL_EINTERNAL, "failed to generate token");
    kl_buf_putc(out, '.');
    if (!n->ec_bytes)
        kl_base64url(out, sig, len);
    else if (put_ec_signature(n, out, sig, len))
        return kl_tls_error(err, KL_EINTERNAL, "failed to generate token");
    return out->err ? kl_error_set(err, out->err, "token: out of memory") : 0;
}

// The signature in the form that OpenSSL checks; *der is freed by the caller when it is not raw's.
static size_t signature_for_openssl(const struct kl_authn *n, const struct kl_buf *raw,
                                    unsigned char **der)
{
    *der = NULL;
    if (!n->ec_bytes) {
        *der = OPENSSL_memdup(raw->p, raw->n);
        return *der ? raw->n : 0;
    }
    if (raw->n != 2 * n->ec_bytes)
        return 0;
    const unsigned char *p = (const unsigned char *)raw->p;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(p, (int)n->ec_bytes, NULL),
           *s = BN_bin2bn(p + n->ec_bytes, (int)n->ec_bytes, NULL);
    int len = -1;
    if (sig && r && s && ECDSA_SIG_set0(sig, r, s) == 1)
        len = i2d_ECDSA_SIG(sig, der);
    else
        BN_free(r), BN_free(s);
    ECDSA_SIG_free(sig);
    return len > 0 ? (size_t)len : 0;
}

static bool signature_good(const struct kl_authn *n, struct kl_str signed_part,
                           const struct kl_buf *raw)
{
    unsigned char *der;
    size_t len = signature_for_openssl(n, raw, &der);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok =
        len && ctx && EVP_DigestVerifyInit(ctx, NULL, n->md, NULL, n->key) == 1 &&
        EVP_DigestVerify(ctx, der, len, (const unsigned char *)signed_part.p, signed_part.n) == 1;
    EVP_MD_CTX_free(ctx);
    OPENSSL_free(der);
    ERR_clear_error();
    return ok;
}

// Takes the algorithm from the key, never from the token.
static int check_header(const struct kl_authn *n, struct kl_arena *a, struct kl_str json,
                        struct kl_error *err)
{
    struct kl_value h;
    if (kl_json_parse(a, json, NULL, &h, err) || h.kind != KL_MAP)
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid bearer token");
    struct kl_str kid = kl_text(kl_map_value(&h, KL_STR("kid")));
    if (kl_map_value(&h, KL_STR("crit")))
        return kl_error_set(err, KL_EUNAUTHORIZED, "unsupported critical header");
    if (kid.n && !kl_str_eqz(kid, n->kid))
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid signature, no keys found");
    if (!kl_str_eqz(kl_text(kl_map_value(&h, KL_STR("alg"))), n->alg))
        return kl_error_set(err, KL_EUNAUTHORIZED, "unexpected signature algorithm");
    return 0;
}

static int verify_parts(const struct kl_authn *n, struct kl_arena *a, const struct kl_str part[3],
                        struct kl_str signed_part, struct kl_buf *b, struct kl_value *ret,
                        struct kl_error *err)
{
    int rc;
    if (kl_base64url_decode(b, part[0]))
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid bearer token");
    if ((rc = check_header(n, a, kl_buf_str(b), err)))
        return rc;
    kl_buf_clear(b);
    if (kl_base64url_decode(b, part[2]) || !signature_good(n, signed_part, b))
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid signature");
    kl_buf_clear(b);
    if (kl_base64url_decode(b, part[1]))
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid bearer token");
    struct kl_str json = kl_arena_dup(a, kl_buf_str(b));
    if (!json.p)
        return kl_error_set(err, KL_ENOMEM, "token: out of memory");
    if (kl_json_parse(a, json, NULL, ret, err) || ret->kind != KL_MAP)
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid bearer token");
    return 0;
}

int kl_jwt_verify(const struct kl_authn *n, struct kl_arena *a, struct kl_str token,
                  struct kl_value *ret_claims, struct kl_error *err)
{
    struct kl_str part[3], rest = token, more;
    int k = 0;
    if (token.n > KL_TOKEN_MAX_BYTES)
        return kl_error_set(err, KL_EUNAUTHORIZED, "token is too long");
    while (k < 3 && kl_str_split(&rest, '.', &part[k]))
        k++;
    if (k < 3 || kl_str_split(&rest, '.', &more))
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid bearer token");
    struct kl_buf b;
    struct kl_str signed_part = {token.p, part[0].n + 1 + part[1].n};
    kl_buf_init(&b, KL_TOKEN_MAX_BYTES);
    int rc = verify_parts(n, a, part, signed_part, &b, ret_claims, err);
    kl_buf_fini(&b);
    return rc;
}
