// SPDX-License-Identifier: Apache-2.0
// The ciphers of encryption at rest, byte for byte as upstream stores them
// (apiserver/pkg/storage/value/encrypt). AES by OpenSSL; XSalsa20-Poly1305, which OpenSSL does not
// have, is Salsa20 written here and OpenSSL's Poly1305: one more library for one cipher would cost
// every server its memory.
#pragma once
#include "base/buf.h"
#include "base/err.h"

enum kl_box {
    KL_BOX_AESGCM,    // nonce 12, ciphertext, tag 16; the context is authenticated
    KL_BOX_AESCBC,    // iv 16, ciphertext padded as PKCS #7
    KL_BOX_SECRETBOX, // nonce 24, tag 16, ciphertext (NaCl)
    KL_BOX_SEED,      // info 32, then as AESGCM with the key HKDF-Expand(SHA-256, seed, info)
};
#define KL_BOX_SEED_BYTES 32

bool kl_box_key_fits(enum kl_box kind, size_t key_bytes);
// Append to out. `context` is the key in the store. KL_ECORRUPT: not sealed with this key, or
// changed. Any thread.
int kl_box_seal(enum kl_box kind, struct kl_str key, struct kl_str context, struct kl_str plain,
                struct kl_buf *out, struct kl_error *err);
int kl_box_open(enum kl_box kind, struct kl_str key, struct kl_str context, struct kl_str sealed,
                struct kl_buf *out, struct kl_error *err);
