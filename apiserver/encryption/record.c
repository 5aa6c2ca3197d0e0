// SPDX-License-Identifier: Apache-2.0
// The cluster's own keys as one value: "KLKEYS1\n", four bytes of length, the root key sealed with
// the token (apiserver/seal.h), and the state sealed with the root key (AES-GCM, JSON). Only the
// token's part is slow to open, and it stays the same, so that following a rotation costs nothing.
#include "apiserver/encryption/encryption_int.h"
#include "apiserver/seal.h"
#include "base/rand.h"
#include "object/json.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>

static const char magic[] = "KLKEYS1\n";
enum { HEAD = 8 + 4, MAX_STATE = 16 << 10 };

static struct kl_str root_str(const struct kl_enc_root *r)
{
    return (struct kl_str){(const char *)r->key, sizeof r->key};
}

static int open_root(struct kl_str sealed, struct kl_str secret, struct kl_enc_root *root,
                     struct kl_error *err)
{
    struct kl_buf b;
    if (root->sealed && kl_str_eq(kl_bytes_str(root->sealed), sealed))
        return 0;
    kl_buf_init(&b, 256);
    int rc = kl_unseal(secret, sealed, &b, err);
    if (!rc && b.n != KL_ENC_ROOT)
        rc = kl_error_set(err, KL_ECORRUPT, "the encryption keys in the datastore are damaged");
    if (!rc) {
        memcpy(root->key, b.p, KL_ENC_ROOT);
        kl_bytes_unref(root->sealed);
        if (!(root->sealed = kl_bytes_new(sealed)))
            rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    if (b.p)
        OPENSSL_cleanse(b.p, b.cap);
    kl_buf_fini(&b);
    return rc;
}

static int read_state(struct kl_str json, struct kl_enc_record *ret, struct kl_error *err)
{
    struct kl_arena a;
    struct kl_value v;
    kl_arena_init(&a, 1 << 20);
    int rc = kl_json_parse(&a, json, NULL, &v, err);
    *ret = (struct kl_enc_record){0};
    if (!rc) {
        ret->enabled = kl_is_true(kl_map_value(&v, KL_STR("enabled")));
        ret->rotation = kl_int_or(kl_map_value(&v, KL_STR("rotation")), 0);
        ret->finished = kl_int_or(kl_map_value(&v, KL_STR("finished")), 0);
        for (KL_EACH(k, kl_map_value(&v, KL_STR("keys")))) {
            struct kl_str name = kl_text(kl_map_value(k, KL_STR("name")));
            struct kl_str secret = kl_text(kl_map_value(k, KL_STR("secret")));
            unsigned char raw[48];
            if (ret->nkeys == KL_ENC_MAX_KEYS || secret.n != 44 ||
                EVP_DecodeBlock(raw, (const unsigned char *)secret.p, 44) != 33) {
                rc = kl_error_set(err, KL_ECORRUPT,
                                  "the encryption keys in the datastore are damaged");
                break;
            }
            snprintf(ret->keys[ret->nkeys].name, sizeof ret->keys[0].name, "%.*s", KL_PRI(name));
            memcpy(ret->keys[ret->nkeys++].secret, raw, 32);
            OPENSSL_cleanse(raw, sizeof raw);
        }
    }
    kl_arena_fini(&a);
    return rc;
}

int kl_enc_record_read(struct kl_str value, struct kl_str secret, struct kl_enc_root *root,
                       struct kl_enc_record *ret, struct kl_error *err)
{
    if (value.n < HEAD || memcmp(value.p, magic, sizeof magic - 1))
        return kl_error_set(err, KL_EUNSUPPORTED,
                            "the encryption keys in the datastore are of another version");
    const unsigned char *p = (const unsigned char *)value.p + 8;
    size_t n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    if (n > value.n - HEAD)
        return kl_error_set(err, KL_ECORRUPT, "the encryption keys in the datastore are damaged");
    int rc = open_root((struct kl_str){value.p + HEAD, n}, secret, root, err);
    if (rc)
        return rc;
    struct kl_buf b;
    kl_buf_init(&b, MAX_STATE + 64);
    rc = kl_box_open(KL_BOX_AESGCM, root_str(root), KL_STR(KL_ENCRYPTION_KEY),
                     kl_str_from(value, HEAD + n), &b, err);
    if (!rc)
        rc = read_state(kl_buf_str(&b), ret, err);
    if (b.p)
        OPENSSL_cleanse(b.p, b.cap);
    kl_buf_fini(&b);
    return rc;
}

static int make_root(struct kl_str secret, struct kl_enc_root *root, struct kl_error *err)
{
    struct kl_buf b;
    if (root->sealed)
        return 0;
    kl_rand_bytes(root->key, sizeof root->key);
    kl_buf_init(&b, 4096);
    int rc = kl_seal(secret, root_str(root), &b, err);
    if (!rc && !(root->sealed = kl_bytes_from_buf(&b)))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_buf_fini(&b);
    return rc;
}

int kl_enc_record_write(const struct kl_enc_record *r, struct kl_str secret,
                        struct kl_enc_root *root, struct kl_buf *out, struct kl_error *err)
{
    struct kl_buf b;
    int rc = make_root(secret, root, err);
    if (rc)
        return rc;
    kl_buf_init(&b, MAX_STATE);
    kl_buf_reserve(&b, MAX_STATE / 2);
    kl_buf_printf(&b, "{\"enabled\":%s,\"rotation\":%lld,\"finished\":%lld,\"keys\":[",
                  r->enabled ? "true" : "false", (long long)r->rotation, (long long)r->finished);
    for (size_t i = 0; i < r->nkeys; i++) {
        unsigned char text[48];
        EVP_EncodeBlock(text, r->keys[i].secret, 32);
        kl_buf_printf(&b, "%s{\"name\":\"%s\",\"secret\":\"%s\"}", i ? "," : "", r->keys[i].name,
                      (char *)text);
        OPENSSL_cleanse(text, sizeof text);
    }
    kl_buf_puts(&b, KL_STR("]}"));
    unsigned char head[HEAD];
    uint32_t n = root->sealed->n;
    memcpy(head, magic, 8);
    for (int i = 0; i < 4; i++)
        head[8 + i] = (unsigned char)(n >> (24 - 8 * i));
    kl_buf_append(out, head, HEAD);
    kl_buf_puts(out, kl_bytes_str(root->sealed));
    rc = b.err ? kl_error_set(err, b.err, "encryption keys: %s", kl_err_text(b.err))
               : kl_box_seal(KL_BOX_AESGCM, root_str(root), KL_STR(KL_ENCRYPTION_KEY),
                             kl_buf_str(&b), out, err);
    if (b.p)
        OPENSSL_cleanse(b.p, b.cap);
    kl_buf_fini(&b);
    return rc;
}

// Secrets, with all keys to open; the first seals unless it is switched off.
struct kl_enc_config *kl_enc_record_config(const struct kl_enc_record *r, kl_rev rev)
{
    struct kl_enc_config *c = kl_enc_config_new();
    if (!c)
        return NULL;
    c->record = rev;
    struct kl_enc_rule *rule = KL_ARENA_NEW(&c->arena, struct kl_enc_rule);
    struct kl_enc_provider *p = kl_arena_zalloc(&c->arena, 2 * sizeof *p);
    struct kl_str *resources = KL_ARENA_NEW(&c->arena, struct kl_str);
    struct kl_enc_key *keys = kl_arena_zalloc(&c->arena, (r->nkeys + 1) * sizeof *keys);
    if (!rule || !p || !resources || !keys) {
        kl_enc_config_unref(c);
        return NULL;
    }
    *resources = KL_STR("secrets");
    for (size_t i = 0; i < r->nkeys; i++) {
        keys[i].name = kl_arena_dup(&c->arena, kl_str(r->keys[i].name));
        keys[i].secret = kl_arena_dup(
            &c->arena, (struct kl_str){(const char *)r->keys[i].secret, sizeof r->keys[i].secret});
    }
    struct kl_enc_provider box = {.kind = KL_ENC_SECRETBOX,
                                  .prefix = KL_STR("k8s:enc:secretbox:v1:"),
                                  .keys = keys,
                                  .nkeys = r->nkeys};
    struct kl_enc_provider plain = {.kind = KL_ENC_IDENTITY, .prefix = KL_STR("")};
    p[0] = r->enabled ? box : plain;
    p[1] = r->enabled ? plain : box;
    *rule = (struct kl_enc_rule){
        .resources = resources, .nresources = 1, .providers = p, .nproviders = 2};
    c->rules = rule;
    c->nrules = 1;
    return c;
}
