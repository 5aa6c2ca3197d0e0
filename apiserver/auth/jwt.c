// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/authn_int.h"
#include "net/tls.h"
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

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

// ---- checking

static const struct {
    const char *name;
    const EVP_MD *(*md)(void);
    unsigned ec_bytes; // 0: RSA
    bool pss;
} algorithms[] = {
    {"RS256", EVP_sha256, 0, false},  {"RS384", EVP_sha384, 0, false},
    {"RS512", EVP_sha512, 0, false},  {"PS256", EVP_sha256, 0, true},
    {"PS384", EVP_sha384, 0, true},   {"PS512", EVP_sha512, 0, true},
    {"ES256", EVP_sha256, 32, false}, {"ES384", EVP_sha384, 48, false},
    {"ES512", EVP_sha512, 66, false},
};

bool kl_jwt_alg_known(struct kl_str alg)
{
    for (size_t i = 0; i < KL_COUNT(algorithms); i++)
        if (kl_str_eqz(alg, algorithms[i].name))
            return true;
    return false;
}

// ECDSA's r and s as the DER that OpenSSL checks.
static int der_of(struct kl_str sig, unsigned k, unsigned char **ret)
{
    const unsigned char *p = (const unsigned char *)sig.p;
    *ret = NULL;
    if (sig.n != 2 * (size_t)k)
        return 0;
    ECDSA_SIG *x = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(p, (int)k, NULL), *s = BN_bin2bn(p + k, (int)k, NULL);
    int len = -1;
    if (x && r && s && ECDSA_SIG_set0(x, r, s) == 1)
        len = i2d_ECDSA_SIG(x, ret);
    else
        BN_free(r), BN_free(s);
    ECDSA_SIG_free(x);
    return len;
}

static bool verify(const struct kl_jwt *t, const struct kl_jwt_key *k, size_t alg)
{
    unsigned char *der = NULL;
    const unsigned char *sig = (const unsigned char *)t->signature.p;
    size_t n = t->signature.n;
    if (k->ec_bytes) {
        int len = der_of(t->signature, k->ec_bytes, &der);
        if (len <= 0)
            return false;
        sig = der;
        n = (size_t)len;
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL;
    bool ok = ctx && EVP_DigestVerifyInit(ctx, &pctx, algorithms[alg].md(), NULL, k->key) == 1;
    if (ok && algorithms[alg].pss)
        ok = EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_AUTO) == 1;
    ok = ok && EVP_DigestVerify(ctx, sig, n, (const unsigned char *)t->signed_part.p,
                                t->signed_part.n) == 1;
    EVP_MD_CTX_free(ctx);
    OPENSSL_free(der);
    ERR_clear_error();
    return ok;
}

// The kind of the key decides which algorithms are possible, never the token alone.
bool kl_jwt_signed_by(const struct kl_jwt *t, const struct kl_jwt_key *k)
{
    for (size_t i = 0; i < KL_COUNT(algorithms); i++)
        if (kl_str_eqz(t->alg, algorithms[i].name))
            return algorithms[i].ec_bytes == k->ec_bytes &&
                   (!k->alg || kl_str_eqz(t->alg, k->alg)) && verify(t, k, i);
    return false;
}

static int parse_header(struct kl_arena *a, struct kl_str json, struct kl_jwt *t,
                        struct kl_error *err)
{
    struct kl_value h;
    if (kl_json_parse(a, json, NULL, &h, err) || h.kind != KL_MAP)
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid bearer token");
    if (kl_map_value(&h, KL_STR("crit")))
        return kl_error_set(err, KL_EUNAUTHORIZED, "unsupported critical header");
    t->kid = kl_text(kl_map_value(&h, KL_STR("kid")));
    t->alg = kl_text(kl_map_value(&h, KL_STR("alg")));
    return 0;
}

static struct kl_str decode_part(struct kl_arena *a, struct kl_str part)
{
    struct kl_buf b;
    struct kl_str out = {NULL, 0};
    kl_buf_init(&b, part.n + 1);
    if (!kl_base64url_decode(&b, part))
        out = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return out;
}

int kl_jwt_parse(struct kl_arena *a, struct kl_str token, size_t max_bytes, struct kl_jwt *t,
                 struct kl_error *err)
{
    struct kl_str part[3], rest = token, more;
    int k = 0;
    if (token.n > max_bytes)
        return kl_error_set(err, KL_EUNAUTHORIZED, "token is too long");
    while (k < 3 && kl_str_split(&rest, '.', &part[k]))
        k++;
    if (k < 3 || kl_str_split(&rest, '.', &more))
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid bearer token");
    t->signed_part = (struct kl_str){token.p, part[0].n + 1 + part[1].n};
    struct kl_str header = decode_part(a, part[0]), claims = decode_part(a, part[1]);
    t->signature = decode_part(a, part[2]);
    if (!header.p || !claims.p)
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid bearer token");
    if (!t->signature.p)
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid signature");
    int rc = parse_header(a, header, t, err);
    if (rc)
        return rc;
    if (kl_json_parse(a, claims, NULL, &t->claims, err) || t->claims.kind != KL_MAP)
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid bearer token");
    return 0;
}

int kl_jwt_check(const struct kl_jwt *t, const struct kl_jwt_keys *keys, struct kl_error *err)
{
    bool any = false;
    for (size_t i = 0; i < keys->n; i++) {
        if (t->kid.n && !kl_str_eqz(t->kid, keys->v[i].kid))
            continue;
        any = true;
        if (kl_jwt_signed_by(t, &keys->v[i]))
            return 0;
    }
    if (!any)
        return kl_error_set(err, KL_EUNAUTHORIZED, "invalid signature, no keys found");
    return kl_error_set(err, KL_EUNAUTHORIZED,
                        kl_jwt_alg_known(t->alg) ? "invalid signature"
                                                 : "unexpected signature algorithm");
}

int kl_jwt_verify(const struct kl_authn *n, struct kl_arena *a, struct kl_str token,
                  struct kl_value *ret_claims, struct kl_error *err)
{
    struct kl_jwt t;
    int rc = kl_jwt_parse(a, token, KL_TOKEN_MAX_BYTES, &t, err);
    if (!rc && !(rc = kl_jwt_check(&t, &n->keys, err)))
        *ret_claims = t.claims;
    return rc;
}
