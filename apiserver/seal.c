// SPDX-License-Identifier: Apache-2.0
// Layout: "KLSEAL" version log2(N) r p, salt 16, nonce 12, tag 16, the rest. All before the tag is
// authenticated too.
#include "apiserver/seal.h"
#include "base/rand.h"
#include "net/tls.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

enum {
    VERSION = 1,
    LOG_N = 14, // with r = 8: 16 MiB and some tens of milliseconds a guess
    MAX_LOG_N = 20,
    BLOCK_R = 8,
    PARALLEL_P = 1,
    SALT = 16,
    NONCE = 12,
    TAG = 16,
    KEY = 32,
    AT_PARAMS = 6,
    AT_SALT = AT_PARAMS + 4,
    AT_NONCE = AT_SALT + SALT,
    AT_TAG = AT_NONCE + NONCE,
    AT_BODY = AT_TAG + TAG,
    MAX_BODY = 1 << 20,
    MAX_SCRYPT_BYTES = 1100 << 20,
};
static const char magic[AT_PARAMS] = "KLSEAL";

static bool derive(struct kl_str secret, const unsigned char *head, unsigned char key[KEY])
{
    return EVP_PBE_scrypt(secret.p, secret.n, head + AT_SALT, SALT,
                          (uint64_t)1 << head[AT_PARAMS + 1], head[AT_PARAMS + 2],
                          head[AT_PARAMS + 3], MAX_SCRYPT_BYTES, key, KEY) == 1;
}

static bool encrypt(EVP_CIPHER_CTX *c, const unsigned char *key, unsigned char *frame,
                    struct kl_str plain)
{
    int n;
    return EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, frame + AT_NONCE) == 1 &&
           EVP_EncryptUpdate(c, NULL, &n, frame, AT_TAG) == 1 &&
           EVP_EncryptUpdate(c, frame + AT_BODY, &n, (const unsigned char *)plain.p,
                             (int)plain.n) == 1 &&
           EVP_EncryptFinal_ex(c, frame + AT_BODY + n, &n) == 1 &&
           EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG, frame + AT_TAG) == 1;
}

static bool decrypt(EVP_CIPHER_CTX *c, const unsigned char *key, const unsigned char *frame,
                    size_t body, unsigned char *out)
{
    int n;
    unsigned char tag[TAG];
    memcpy(tag, frame + AT_TAG, TAG);
    return EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, frame + AT_NONCE) == 1 &&
           EVP_DecryptUpdate(c, NULL, &n, frame, AT_TAG) == 1 &&
           EVP_DecryptUpdate(c, out, &n, frame + AT_BODY, (int)body) == 1 &&
           EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG, tag) == 1 &&
           EVP_DecryptFinal_ex(c, out + n, &n) == 1;
}

int kl_seal(struct kl_str secret, struct kl_str plain, struct kl_buf *out, struct kl_error *err)
{
    unsigned char key[KEY];
    if (!secret.n || plain.n > MAX_BODY)
        return kl_error_set(err, KL_EINVALID, "seal: no secret, or too much to seal");
    if (kl_buf_reserve(out, AT_BODY + plain.n))
        return kl_error_set(err, KL_ENOMEM, "seal: out of memory");
    unsigned char *frame = (unsigned char *)out->p + out->n;
    memcpy(frame, magic, sizeof magic);
    frame[AT_PARAMS] = VERSION;
    frame[AT_PARAMS + 1] = LOG_N;
    frame[AT_PARAMS + 2] = BLOCK_R;
    frame[AT_PARAMS + 3] = PARALLEL_P;
    kl_rand_bytes(frame + AT_SALT, SALT + NONCE);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int rc = c && derive(secret, frame, key) && encrypt(c, key, frame, plain)
                 ? 0
                 : kl_tls_error(err, KL_EINTERNAL, "seal");
    EVP_CIPHER_CTX_free(c);
    OPENSSL_cleanse(key, sizeof key);
    if (!rc)
        out->n += AT_BODY + plain.n;
    return rc;
}

int kl_unseal(struct kl_str secret, struct kl_str sealed, struct kl_buf *out, struct kl_error *err)
{
    const unsigned char *frame = (const unsigned char *)sealed.p;
    unsigned char key[KEY];
    if (sealed.n < AT_BODY || sealed.n > AT_BODY + MAX_BODY || memcmp(frame, magic, sizeof magic))
        return kl_error_set(err, KL_ECORRUPT, "not sealed by kinglet");
    size_t body = sealed.n - AT_BODY;
    unsigned log_n = frame[AT_PARAMS + 1], r = frame[AT_PARAMS + 2], p = frame[AT_PARAMS + 3];
    if (frame[AT_PARAMS] != VERSION)
        return kl_error_set(err, KL_EUNSUPPORTED, "sealed by a later version of kinglet");
    if (log_n < 1 || log_n > MAX_LOG_N || r < 1 || r > 16 || p < 1 || p > 16)
        return kl_error_set(err, KL_ECORRUPT, "sealed with impossible parameters");
    if (kl_buf_reserve(out, body + 1))
        return kl_error_set(err, KL_ENOMEM, "unseal: out of memory");
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int rc = 0;
    if (!c || !derive(secret, frame, key))
        rc = kl_tls_error(err, KL_EINTERNAL, "unseal");
    else if (!decrypt(c, key, frame, body, (unsigned char *)out->p + out->n))
        rc = kl_error_set(err, KL_EUNAUTHORIZED, "sealed with another secret, or changed");
    EVP_CIPHER_CTX_free(c);
    OPENSSL_cleanse(key, sizeof key);
    if (!rc)
        out->n += body;
    else
        OPENSSL_cleanse(out->p + out->n, body);
    return rc;
}
