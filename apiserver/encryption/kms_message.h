// SPDX-License-Identifier: Apache-2.0
// What is said to a KMS v2 plug-in and what it answers (kms/apis/v2), and the message that a sealed
// value is stored as (kmsv2/v2's EncryptedObject). Nothing that is read is believed. What is read
// borrows from the bytes and from the arena.
#pragma once
#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"
#include "net/proto.h"

enum {
    KL_KMS_KEY_ID_MAX = 1024,
    KL_KMS_REPLY_MAX = 1 << 20,
    KL_KMS_ID_BYTES = 32, // a hash of what a seed is sealed as
    KL_KMS_SEED_BYTES = 32,
};

enum kl_kms_source { KL_KMS_SOURCE_KEY = 0, KL_KMS_SOURCE_SEED = 1 };

struct kl_kms_object {
    struct kl_str data, key_id, source;
    struct kl_proto_kv *annotations;
    size_t n_annotations;
    int32_t source_type; // enum kl_kms_source
};

// EncryptedObject. `id` names its seed. KL_ECORRUPT: it is none.
int kl_kms_object_read(struct kl_arena *a, struct kl_str sealed, struct kl_kms_object *ret,
                       unsigned char id[KL_KMS_ID_BYTES], struct kl_error *err);
// Appends the fields that are there.
void kl_kms_object_write(struct kl_buf *out, const struct kl_kms_object *o);

// Answers, with upstream's words for those that are refused. KL_EPROTO, KL_EUNAVAILABLE.
// Status: a plug-in that is well, and the key that it seals with now.
int kl_kms_read_status(struct kl_arena *a, struct kl_str reply, struct kl_str *ret_key_id,
                       struct kl_error *err);
// Encrypt: an object without its data.
int kl_kms_read_encrypted(struct kl_arena *a, struct kl_str reply, struct kl_kms_object *ret,
                          unsigned char id[KL_KMS_ID_BYTES], struct kl_error *err);
// Decrypt: the seed. KL_ECORRUPT when it is none.
int kl_kms_read_decrypted(struct kl_arena *a, struct kl_str reply,
                          unsigned char ret_seed[KL_KMS_SEED_BYTES], struct kl_error *err);

// Requests; NULL: no memory.
struct kl_bytes *kl_kms_write_encrypt(struct kl_str plaintext);
struct kl_bytes *kl_kms_write_decrypt(const struct kl_kms_object *o);
