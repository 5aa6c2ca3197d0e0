// SPDX-License-Identifier: Apache-2.0
#include "apiserver/encryption/kms_message.h"
#include "base/rand.h"
#include <openssl/crypto.h>
#include <openssl/sha.h>

_Static_assert(KL_KMS_ID_BYTES == SHA256_DIGEST_LENGTH, "the hash is SHA-256");

enum { SOURCE_MAX = 1024, ANNOTATIONS_MAX = 32 * 1024, OBJECT_MAX = 1 << 20 };

#define FIELD(n, kind, type, member)                                                               \
    {                                                                                              \
        n, kind, 0, offsetof(struct type, member), 0, 0, NULL                                      \
    }
#define FIELD_MAP(n, type, member)                                                                 \
    {                                                                                              \
        n, KL_PROTO_MAP, KL_PROTO_REPEATED, offsetof(struct type, member),                         \
            offsetof(struct type, n_##member), sizeof(struct kl_proto_kv), NULL                    \
    }
#define MESSAGE(type, fields, repeated)                                                            \
    static const struct kl_proto_desc type##_desc = {                                              \
        #type, fields, sizeof fields / sizeof fields[0], sizeof(struct type), repeated, 0}

struct status {
    struct kl_str version, healthz, key_id;
};
static const struct kl_proto_field status_fields[] = {FIELD(1, KL_PROTO_STRING, status, version),
                                                      FIELD(2, KL_PROTO_STRING, status, healthz),
                                                      FIELD(3, KL_PROTO_STRING, status, key_id)};
MESSAGE(status, status_fields, 0);

struct encrypt {
    struct kl_str plaintext, uid;
};
static const struct kl_proto_field encrypt_fields[] = {
    FIELD(1, KL_PROTO_STRING, encrypt, plaintext), FIELD(2, KL_PROTO_STRING, encrypt, uid)};
MESSAGE(encrypt, encrypt_fields, 0);

struct encrypted {
    struct kl_str ciphertext, key_id;
    struct kl_proto_kv *annotations;
    size_t n_annotations;
};
static const struct kl_proto_field encrypted_fields[] = {
    FIELD(1, KL_PROTO_STRING, encrypted, ciphertext), FIELD(2, KL_PROTO_STRING, encrypted, key_id),
    FIELD_MAP(3, encrypted, annotations)};
MESSAGE(encrypted, encrypted_fields, 1);

struct decrypt {
    struct kl_str ciphertext, uid, key_id;
    struct kl_proto_kv *annotations;
    size_t n_annotations;
};
static const struct kl_proto_field decrypt_fields[] = {
    FIELD(1, KL_PROTO_STRING, decrypt, ciphertext), FIELD(2, KL_PROTO_STRING, decrypt, uid),
    FIELD(3, KL_PROTO_STRING, decrypt, key_id), FIELD_MAP(4, decrypt, annotations)};
MESSAGE(decrypt, decrypt_fields, 1);

struct decrypted {
    struct kl_str plaintext;
};
static const struct kl_proto_field decrypted_fields[] = {
    FIELD(1, KL_PROTO_STRING, decrypted, plaintext)};
MESSAGE(decrypted, decrypted_fields, 0);

static const struct kl_proto_field kl_kms_object_fields[] = {
    FIELD(1, KL_PROTO_STRING, kl_kms_object, data),
    FIELD(2, KL_PROTO_STRING, kl_kms_object, key_id),
    FIELD(3, KL_PROTO_STRING, kl_kms_object, source), FIELD_MAP(4, kl_kms_object, annotations),
    FIELD(5, KL_PROTO_INT32, kl_kms_object, source_type)};
MESSAGE(kl_kms_object, kl_kms_object_fields, 1);

// ---- objects

static bool make_id(const struct kl_kms_object *o, unsigned char ret[KL_KMS_ID_BYTES])
{
    struct kl_buf b;
    struct kl_kms_object bare = *o;
    bare.data = KL_STR("");
    kl_buf_init(&b, OBJECT_MAX);
    kl_kms_object_write(&b, &bare);
    bool ok = !b.err;
    SHA256((const unsigned char *)(b.p ? b.p : ""), b.n, ret);
    kl_buf_fini(&b);
    return ok;
}

void kl_kms_object_write(struct kl_buf *out, const struct kl_kms_object *o)
{
    kl_proto_encode(out, &kl_kms_object_desc, o);
}

int kl_kms_object_read(struct kl_arena *a, struct kl_str sealed, struct kl_kms_object *ret,
                       unsigned char id[KL_KMS_ID_BYTES], struct kl_error *err)
{
    void *m;
    int rc = kl_proto_decode(a, &kl_kms_object_desc, sealed, &m, err);
    if (rc)
        return rc;
    const struct kl_kms_object *o = m;
    if (!o->data.n || !o->source.n || o->source.n > SOURCE_MAX || !o->key_id.n ||
        o->key_id.n > KL_KMS_KEY_ID_MAX || o->source_type < KL_KMS_SOURCE_KEY ||
        o->source_type > KL_KMS_SOURCE_SEED || !make_id(o, id))
        return kl_error_set(err, KL_ECORRUPT, "the encrypted object is damaged");
    *ret = *o;
    return 0;
}

// ---- answers

int kl_kms_read_status(struct kl_arena *a, struct kl_str reply, struct kl_str *ret_key_id,
                       struct kl_error *err)
{
    void *m;
    int rc = kl_proto_decode(a, &status_desc, reply, &m, err);
    if (rc)
        return rc;
    const struct status *s = m;
    if (!kl_str_eqz(s->healthz, "ok"))
        return kl_error_set(err, KL_EUNAVAILABLE, "got unexpected healthz status: %.*s",
                            KL_PRI(s->healthz));
    if (!kl_str_eqz(s->version, "v2") && !kl_str_eqz(s->version, "v2beta1"))
        return kl_error_set(err, KL_EUNAVAILABLE, "expected KMSv2 API version v2, got %.*s",
                            KL_PRI(s->version));
    if (!s->key_id.n || s->key_id.n > KL_KMS_KEY_ID_MAX)
        return kl_error_set(err, KL_EUNAVAILABLE, "got an empty key_id, or one that is too long");
    *ret_key_id = s->key_id;
    return 0;
}

static bool annotations_fit(const struct kl_proto_kv *kv, size_t n)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += kv[i].key.n + kv[i].value.n;
    return total <= ANNOTATIONS_MAX;
}

int kl_kms_read_encrypted(struct kl_arena *a, struct kl_str reply, struct kl_kms_object *ret,
                          unsigned char id[KL_KMS_ID_BYTES], struct kl_error *err)
{
    void *m;
    int rc = kl_proto_decode(a, &encrypted_desc, reply, &m, err);
    if (rc)
        return rc;
    const struct encrypted *e = m;
    struct kl_kms_object o = {.key_id = e->key_id,
                              .source = e->ciphertext,
                              .annotations = e->annotations,
                              .n_annotations = e->n_annotations,
                              .source_type = KL_KMS_SOURCE_SEED};
    if (!o.source.n || o.source.n > SOURCE_MAX)
        return kl_error_set(err, KL_EUNAVAILABLE,
                            "failed to validate encrypted DEK source: it is empty or too long");
    if (!o.key_id.n || o.key_id.n > KL_KMS_KEY_ID_MAX)
        return kl_error_set(err, KL_EUNAVAILABLE,
                            "failed to validate key id: it is empty or too long");
    if (!annotations_fit(o.annotations, o.n_annotations))
        return kl_error_set(err, KL_EUNAVAILABLE,
                            "failed to validate annotations: they are too long");
    if (!make_id(&o, id))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    *ret = o;
    return 0;
}

int kl_kms_read_decrypted(struct kl_arena *a, struct kl_str reply,
                          unsigned char ret_seed[KL_KMS_SEED_BYTES], struct kl_error *err)
{
    void *m;
    int rc = kl_proto_decode(a, &decrypted_desc, reply, &m, err);
    if (rc)
        return rc;
    struct kl_str p = ((struct decrypted *)m)->plaintext;
    if (p.n != KL_KMS_SEED_BYTES)
        return kl_error_set(err, KL_ECORRUPT, "invalid seed length %zu used for key generation",
                            p.n);
    memcpy(ret_seed, p.p, p.n);
    return 0;
}

// ---- requests

static struct kl_bytes *encode(const struct kl_proto_desc *d, const void *m)
{
    struct kl_buf b;
    kl_buf_init(&b, KL_KMS_REPLY_MAX);
    kl_proto_encode(&b, d, m);
    struct kl_bytes *out = kl_bytes_from_buf(&b);
    if (b.p)
        OPENSSL_cleanse(b.p, b.n);
    kl_buf_fini(&b);
    return out;
}

struct kl_bytes *kl_kms_write_encrypt(struct kl_str plaintext)
{
    char uid[37];
    kl_uuid(uid);
    return encode(&encrypt_desc, &(struct encrypt){.plaintext = plaintext, .uid = kl_str(uid)});
}

struct kl_bytes *kl_kms_write_decrypt(const struct kl_kms_object *o)
{
    char uid[37];
    kl_uuid(uid);
    return encode(&decrypt_desc, &(struct decrypt){.ciphertext = o->source,
                                                   .uid = kl_str(uid),
                                                   .key_id = o->key_id,
                                                   .annotations = o->annotations,
                                                   .n_annotations = o->n_annotations});
}
