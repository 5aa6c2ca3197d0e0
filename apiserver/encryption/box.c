// SPDX-License-Identifier: Apache-2.0
#include "apiserver/encryption/box.h"
#include "apiserver/encryption/salsa.h"
#include "base/rand.h"
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/params.h>

enum { GCM_NONCE = 12, TAG = 16, IV = 16, BLOCK = 16, INFO = 32, MAX_BYTES = 64 << 20 };

bool kl_box_key_fits(enum kl_box kind, size_t n)
{
    if (kind == KL_BOX_SECRETBOX || kind == KL_BOX_SEED)
        return n == 32;
    return n == 16 || n == 24 || n == 32;
}

static int broken(struct kl_error *err, const char *what)
{
    return kl_error_set(err, KL_EINTERNAL, "encryption: %s", what);
}

static int not_ours(struct kl_error *err)
{
    return kl_error_set(err, KL_ECORRUPT, "cipher: message authentication failed");
}

static unsigned char *room(struct kl_buf *out, size_t n)
{
    return kl_buf_reserve(out, n) ? NULL : (unsigned char *)out->p + out->n;
}

// ---- AES-GCM

static const EVP_CIPHER *gcm_of(size_t key)
{
    return key == 16 ? EVP_aes_128_gcm() : key == 24 ? EVP_aes_192_gcm() : EVP_aes_256_gcm();
}

static const unsigned char *bytes(struct kl_str s)
{
    return (const unsigned char *)s.p;
}

static int gcm_seal(struct kl_str key, struct kl_str context, struct kl_str plain,
                    struct kl_buf *out, struct kl_error *err)
{
    unsigned char *p = room(out, GCM_NONCE + plain.n + TAG);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n, rc = KL_ENOMEM;
    if (p && c) {
        kl_rand_bytes(p, GCM_NONCE);
        bool ok = EVP_EncryptInit_ex(c, gcm_of(key.n), NULL, bytes(key), p) == 1 &&
                  EVP_EncryptUpdate(c, NULL, &n, bytes(context), (int)context.n) == 1 &&
                  EVP_EncryptUpdate(c, p + GCM_NONCE, &n, bytes(plain), (int)plain.n) == 1 &&
                  EVP_EncryptFinal_ex(c, p + GCM_NONCE + n, &n) == 1 &&
                  EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG, p + GCM_NONCE + plain.n) == 1;
        rc = ok ? 0 : broken(err, "AES-GCM");
    }
    EVP_CIPHER_CTX_free(c);
    if (!rc)
        out->n += GCM_NONCE + plain.n + TAG;
    return rc == KL_ENOMEM ? kl_error_set(err, rc, "out of memory") : rc;
}

static int gcm_open(struct kl_str key, struct kl_str context, struct kl_str sealed,
                    struct kl_buf *out, struct kl_error *err)
{
    if (sealed.n < GCM_NONCE + TAG)
        return kl_error_set(err, KL_ECORRUPT, "the stored data was shorter than the required size");
    size_t size = sealed.n - GCM_NONCE - TAG;
    const unsigned char *s = bytes(sealed);
    unsigned char *p = room(out, size + 1), tag[TAG];
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n, rc = KL_ENOMEM;
    memcpy(tag, s + GCM_NONCE + size, TAG);
    if (p && c) {
        bool ok = EVP_DecryptInit_ex(c, gcm_of(key.n), NULL, bytes(key), s) == 1 &&
                  EVP_DecryptUpdate(c, NULL, &n, bytes(context), (int)context.n) == 1 &&
                  EVP_DecryptUpdate(c, p, &n, s + GCM_NONCE, (int)size) == 1 &&
                  EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG, tag) == 1 &&
                  EVP_DecryptFinal_ex(c, p + n, &n) == 1;
        rc = ok ? 0 : not_ours(err);
    }
    EVP_CIPHER_CTX_free(c);
    if (!rc)
        out->n += size;
    return rc == KL_ENOMEM ? kl_error_set(err, rc, "out of memory") : rc;
}

// ---- AES-CBC

static const EVP_CIPHER *cbc_of(size_t key)
{
    return key == 16 ? EVP_aes_128_cbc() : key == 24 ? EVP_aes_192_cbc() : EVP_aes_256_cbc();
}

static int cbc_seal(struct kl_str key, struct kl_str plain, struct kl_buf *out,
                    struct kl_error *err)
{
    unsigned char *p = room(out, IV + plain.n + BLOCK);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n = 0, m = 0, rc = KL_ENOMEM;
    if (p && c) {
        kl_rand_bytes(p, IV);
        bool ok = EVP_EncryptInit_ex(c, cbc_of(key.n), NULL, bytes(key), p) == 1 &&
                  EVP_EncryptUpdate(c, p + IV, &n, bytes(plain), (int)plain.n) == 1 &&
                  EVP_EncryptFinal_ex(c, p + IV + n, &m) == 1;
        rc = ok ? 0 : broken(err, "AES-CBC");
    }
    EVP_CIPHER_CTX_free(c);
    if (!rc)
        out->n += IV + (size_t)n + (size_t)m;
    return rc == KL_ENOMEM ? kl_error_set(err, rc, "out of memory") : rc;
}

static int cbc_open(struct kl_str key, struct kl_str sealed, struct kl_buf *out,
                    struct kl_error *err)
{
    if (sealed.n < IV)
        return kl_error_set(err, KL_ECORRUPT, "the stored data was shorter than the required size");
    if ((sealed.n - IV) % BLOCK)
        return kl_error_set(err, KL_ECORRUPT,
                            "the stored data is not a multiple of the block size");
    unsigned char *p = room(out, sealed.n);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n = 0, m = 0, rc = KL_ENOMEM;
    if (p && c) {
        bool ok = EVP_DecryptInit_ex(c, cbc_of(key.n), NULL, bytes(key), bytes(sealed)) == 1 &&
                  EVP_DecryptUpdate(c, p, &n, bytes(sealed) + IV, (int)(sealed.n - IV)) == 1 &&
                  EVP_DecryptFinal_ex(c, p + n, &m) == 1;
        rc = ok ? 0 : kl_error_set(err, KL_ECORRUPT, "invalid padding on input");
    }
    EVP_CIPHER_CTX_free(c);
    if (!rc)
        out->n += (size_t)n + (size_t)m;
    return rc == KL_ENOMEM ? kl_error_set(err, rc, "out of memory") : rc;
}

// ---- XSalsa20-Poly1305

static bool poly1305(const unsigned char key[32], const unsigned char *p, size_t n,
                     unsigned char tag[TAG])
{
    size_t got = 0;
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "POLY1305", NULL);
    EVP_MAC_CTX *c = mac ? EVP_MAC_CTX_new(mac) : NULL;
    bool ok = c && EVP_MAC_init(c, key, 32, NULL) == 1 && EVP_MAC_update(c, p, n) == 1 &&
              EVP_MAC_final(c, tag, &got, TAG) == 1 && got == TAG;
    EVP_MAC_CTX_free(c);
    EVP_MAC_free(mac);
    return ok;
}

static int box_seal(struct kl_str key, struct kl_str plain, struct kl_buf *out,
                    struct kl_error *err)
{
    unsigned char *p = room(out, KL_SALSA_NONCE + TAG + plain.n), poly[32];
    struct kl_salsa s;
    if (!p)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_rand_bytes(p, KL_SALSA_NONCE);
    kl_salsa_init(&s, bytes(key), p);
    unsigned char *body = p + KL_SALSA_NONCE + TAG;
    kl_salsa_first(&s, poly);
    kl_salsa_xor(&s, body, bytes(plain), plain.n);
    bool ok = poly1305(poly, body, plain.n, p + KL_SALSA_NONCE);
    OPENSSL_cleanse(&s, sizeof s);
    OPENSSL_cleanse(poly, sizeof poly);
    if (!ok)
        return broken(err, "Poly1305");
    out->n += KL_SALSA_NONCE + TAG + plain.n;
    return 0;
}

static int box_open(struct kl_str key, struct kl_str sealed, struct kl_buf *out,
                    struct kl_error *err)
{
    unsigned char poly[32], tag[TAG];
    struct kl_salsa s;
    if (sealed.n < KL_SALSA_NONCE + TAG)
        return kl_error_set(err, KL_ECORRUPT, "the stored data was shorter than the required size");
    size_t size = sealed.n - KL_SALSA_NONCE - TAG;
    unsigned char *p = room(out, size + 1);
    if (!p)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    const unsigned char *from = bytes(sealed), *body = from + KL_SALSA_NONCE + TAG;
    kl_salsa_init(&s, bytes(key), from);
    kl_salsa_first(&s, poly);
    bool ok = poly1305(poly, body, size, tag) && !CRYPTO_memcmp(tag, from + KL_SALSA_NONCE, TAG);
    if (ok)
        kl_salsa_xor(&s, p, body, size);
    OPENSSL_cleanse(&s, sizeof s);
    OPENSSL_cleanse(poly, sizeof poly);
    if (!ok)
        return kl_error_set(err, KL_ECORRUPT, "output array was not large enough for encryption");
    out->n += size;
    return 0;
}

// ---- AES-GCM with a key of its own for each value

static bool derive(struct kl_str seed, const unsigned char *info, unsigned char key[32])
{
    unsigned char text[INFO + 1];
    unsigned n = 0;
    memcpy(text, info, INFO);
    text[INFO] = 1;
    return HMAC(EVP_sha256(), seed.p, (int)seed.n, text, sizeof text, key, &n) && n == 32;
}

static int seed_seal(struct kl_str seed, struct kl_str context, struct kl_str plain,
                     struct kl_buf *out, struct kl_error *err)
{
    unsigned char *p = room(out, INFO), key[32];
    if (!p)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_rand_bytes(p, INFO);
    if (!derive(seed, p, key))
        return broken(err, "HKDF");
    out->n += INFO;
    int rc = gcm_seal((struct kl_str){(char *)key, sizeof key}, context, plain, out, err);
    OPENSSL_cleanse(key, sizeof key);
    return rc;
}

static int seed_open(struct kl_str seed, struct kl_str context, struct kl_str sealed,
                     struct kl_buf *out, struct kl_error *err)
{
    unsigned char key[32];
    if (sealed.n < INFO)
        return kl_error_set(err, KL_ECORRUPT, "the stored data was shorter than the required size");
    if (!derive(seed, bytes(sealed), key))
        return broken(err, "HKDF");
    int rc = gcm_open((struct kl_str){(char *)key, sizeof key}, context, kl_str_from(sealed, INFO),
                      out, err);
    OPENSSL_cleanse(key, sizeof key);
    return rc;
}

int kl_box_seal(enum kl_box kind, struct kl_str key, struct kl_str context, struct kl_str plain,
                struct kl_buf *out, struct kl_error *err)
{
    if (plain.n > MAX_BYTES || !kl_box_key_fits(kind, key.n))
        return kl_error_set(err, KL_EINVALID, "encryption: too much, or a key of another size");
    switch (kind) {
    case KL_BOX_AESGCM:
        return gcm_seal(key, context, plain, out, err);
    case KL_BOX_AESCBC:
        return cbc_seal(key, plain, out, err);
    case KL_BOX_SECRETBOX:
        return box_seal(key, plain, out, err);
    case KL_BOX_SEED:
        return seed_seal(key, context, plain, out, err);
    }
    return KL_EINVALID;
}

int kl_box_open(enum kl_box kind, struct kl_str key, struct kl_str context, struct kl_str sealed,
                struct kl_buf *out, struct kl_error *err)
{
    if (sealed.n > MAX_BYTES || !kl_box_key_fits(kind, key.n))
        return kl_error_set(err, KL_EINVALID, "encryption: too much, or a key of another size");
    switch (kind) {
    case KL_BOX_AESGCM:
        return gcm_open(key, context, sealed, out, err);
    case KL_BOX_AESCBC:
        return cbc_open(key, sealed, out, err);
    case KL_BOX_SECRETBOX:
        return box_open(key, sealed, out, err);
    case KL_BOX_SEED:
        return seed_open(key, context, sealed, out, err);
    }
    return KL_EINVALID;
}
