// SPDX-License-Identifier: Apache-2.0
// K3s' bootstrap record: the key is /bootstrap/ and the first 12 hexadecimal digits of SHA-256 of
// the token's secret; the value "SALT:BASE64" of nonce, AES-256-GCM's text and tag, under PBKDF2 of
// that secret (HMAC-SHA-1, 4,096 times); in it a JSON map of files, each {"Content": BASE64, ...}
// or, as older versions had it, BASE64 alone. Those also sealed with the whole token, or with
// nothing.
#include "apiserver/k3s.h"
#include "apiserver/identity.h"
#include "base/log.h"
#include "net/tls.h"
#include "object/json.h"
#include "store/wait.h"
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    WAIT_MS = 60 * 1000,
    MAX_SEALED = 4 << 20,
    MAX_ARENA = 16 << 20,
    PBKDF2_ROUNDS = 4096,
    KEY = 32,
    NONCE = 12,
    TAG = 16,
    NAME_DIGITS = 12,
};

static const struct {
    const char *name, *path;
} files[] = {
    {"ServerCA", "server/tls/server-ca.crt"}, {"ServerCAKey", "server/tls/server-ca.key"},
    {"ClientCA", "server/tls/client-ca.crt"}, {"ClientCAKey", "server/tls/client-ca.key"},
    {"ServiceKey", "server/tls/service.key"},
};

static int damaged(struct kl_error *err)
{
    ERR_clear_error();
    return kl_error_set(err, KL_ECORRUPT, "K3s' certificates in the datastore are damaged");
}

// ---- opened

// Into the arena; an ending of one or two '='.
static bool decode_base64(struct kl_arena *a, struct kl_str text, struct kl_str *ret)
{
    size_t pad = 0;
    text = kl_str_trim(text);
    if (text.n % 4 || text.n > MAX_SEALED)
        return false;
    while (pad < 2 && pad < text.n && text.p[text.n - 1 - pad] == '=')
        pad++;
    char *p = kl_arena_alloc(a, text.n / 4 * 3 + 1);
    int n = p && text.n
                ? EVP_DecodeBlock((unsigned char *)p, (const unsigned char *)text.p, (int)text.n)
                : 0;
    if (!p || n < (int)pad)
        return false;
    *ret = (struct kl_str){p, (size_t)n - pad};
    return true;
}

static bool decrypt(EVP_CIPHER_CTX *c, const unsigned char key[KEY], struct kl_str box,
                    unsigned char *out)
{
    int n, last;
    const unsigned char *p = (const unsigned char *)box.p;
    unsigned char tag[TAG];
    size_t body = box.n - NONCE - TAG;
    memcpy(tag, p + NONCE + body, TAG);
    return EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, p) == 1 &&
           EVP_DecryptUpdate(c, out, &n, p + NONCE, (int)body) == 1 &&
           EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG, tag) == 1 &&
           EVP_DecryptFinal_ex(c, out + n, &last) == 1;
}

static int open_box(struct kl_arena *a, struct kl_str secret, struct kl_str sealed,
                    struct kl_str *ret, struct kl_error *err)
{
    struct kl_str salt, rest = sealed, box;
    unsigned char key[KEY];
    if (!kl_str_split(&rest, ':', &salt) || !decode_base64(a, rest, &box) || box.n < NONCE + TAG)
        return damaged(err);
    unsigned char *plain = kl_arena_alloc(a, box.n);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    bool ok = plain && c &&
              PKCS5_PBKDF2_HMAC_SHA1(secret.p, (int)secret.n, (const unsigned char *)salt.p,
                                     (int)salt.n, PBKDF2_ROUNDS, KEY, key) == 1 &&
              decrypt(c, key, box, plain);
    EVP_CIPHER_CTX_free(c);
    OPENSSL_cleanse(key, sizeof key);
    *ret = (struct kl_str){(char *)plain, box.n - NONCE - TAG};
    return ok ? 0 : damaged(err); // whose it is was told by the key's name
}

static bool file_of(struct kl_arena *a, const struct kl_value *all, const char *name,
                    struct kl_str *ret)
{
    const struct kl_value *v = kl_map_value(all, kl_str(name));
    const struct kl_value *content =
        v && v->kind == KL_MAP ? kl_map_value(v, KL_STR("Content")) : v;
    *ret = KL_STR("");
    return !content || decode_base64(a, kl_text(content), ret);
}

static int pack(struct kl_arena *a, struct kl_str json, struct kl_buf *out, struct kl_error *err)
{
    struct kl_value all;
    struct kl_str text;
    if (kl_json_parse(a, json, NULL, &all, err) || all.kind != KL_MAP)
        return damaged(err);
    for (size_t i = 0; i < KL_COUNT(files); i++) {
        if (!file_of(a, &all, files[i].name, &text))
            return damaged(err);
        if (!text.n)
            return kl_error_set(err, KL_ECORRUPT,
                                "K3s' certificates in the datastore are not whole: there is no %s",
                                files[i].name);
        kl_buf_printf(out, "%s %zu\n", files[i].path, text.n);
        kl_buf_puts(out, text);
    }
    if (file_of(a, &all, "EncryptionConfig", &text) && text.n)
        kl_log(KL_LOG_WARN, "identity",
               "K3s may have encrypted Secrets in this datastore: those that it did cannot be "
               "read (k3s secrets-encrypt disable and reencrypt, before the take-over)");
    return out->err ? kl_error_set(err, out->err, "identity: %s", kl_err_text(out->err)) : 0;
}

// ---- looked for

static const struct kl_kine_record *find(const struct kl_kine_record *v, size_t n,
                                         struct kl_str secret)
{
    unsigned char md[SHA256_DIGEST_LENGTH];
    char key[sizeof "/bootstrap/" + NAME_DIGITS];
    SHA256((const unsigned char *)secret.p, secret.n, md);
    int len = snprintf(key, sizeof key, "/bootstrap/");
    for (int i = 0; i < NAME_DIGITS / 2; i++)
        len += snprintf(key + len, sizeof key - (size_t)len, "%02x", md[i]);
    for (size_t i = 0; i < n; i++)
        if (kl_str_eqz(v[i].key, key))
            return &v[i];
    return NULL;
}

static int open_record(const struct kl_kine_record *r, struct kl_str secret, struct kl_buf *out,
                       struct kl_error *err)
{
    struct kl_arena a;
    struct kl_str plain = {0};
    kl_arena_init(&a, MAX_ARENA);
    int rc = open_box(&a, secret, r->value, &plain, err);
    if (!rc)
        rc = pack(&a, plain, out, err);
    if (plain.p)
        OPENSSL_cleanse((char *)plain.p, plain.n);
    kl_arena_fini(&a);
    return rc;
}

// The first key of K3s'; p is NULL when there is none.
static struct kl_str k3s_key(const struct kl_kine_record *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!kl_str_eqz(v[i].key, KL_IDENTITY_KEY))
            return v[i].key;
    return (struct kl_str){NULL, 0};
}

int kl_k3s_open(const struct kl_kine_record *v, size_t n, struct kl_str token, bool given,
                struct kl_buf *out, struct kl_error *err)
{
    struct kl_str secret = kl_token_secret(token, NULL);
    const struct kl_str tries[] = {secret, kl_str_trim(token), KL_STR("")};
    if (!secret.n || !k3s_key(v, n).p)
        return 0;
    for (size_t i = 0; i < KL_COUNT(tries); i++) {
        const struct kl_kine_record *r = find(v, n, tries[i]);
        if (r)
            return open_record(r, tries[i], out, err);
    }
    return given ? kl_error_set(err, KL_EUNAUTHORIZED,
                                "the token is not that of the K3s cluster whose datastore this is "
                                "(--token)")
                 : 0;
}

static void say_outcome(struct kl_str key, bool adopted)
{
    if (adopted)
        kl_log(KL_LOG_INFO, "identity", "K3s' CAs and key of service accounts are adopted");
    else if (key.p)
        kl_log(KL_LOG_WARN, "identity",
               "K3s' certificates under %.*s are not adopted, as its token was not given "
               "(--token): its kubeconfigs, service account tokens and nodes are to be issued anew",
               KL_PRI(key));
}

int kl_k3s_identity(struct kl_store *s, struct kl_str token, bool given, struct kl_buf *out,
                    struct kl_error *err)
{
    struct kl_op get = {
        .kind = KL_OP_GET, .key = KL_STR("/bootstrap/"), .end = KL_STR("/bootstrap0")};
    struct kl_txn txn = {.body = {.then = &get, .nthen = 1}};
    int rc = kl_store_run_txn(s, &txn, WAIT_MS, err);
    size_t n = rc ? 0 : get.nkvs;
    struct kl_kine_record *v = calloc(n + 1, sizeof(*v));
    for (size_t i = 0; v && i < n; i++)
        v[i] = (struct kl_kine_record){kl_kv_key(get.kvs[i]), kl_kv_value(get.kvs[i])};
    if (!rc && !v)
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    rc = rc ? kl_error_wrap(err, "K3s' certificates in the datastore")
            : kl_k3s_open(v, n, token, given, out, err);
    if (!rc)
        say_outcome(k3s_key(v, n), out->n > 0);
    free(v);
    kl_txn_fini(&txn);
    return rc;
}
