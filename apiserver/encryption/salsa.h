// SPDX-License-Identifier: Apache-2.0
// XSalsa20 (D. J. Bernstein, "Extending the Salsa20 nonce"): a stream of bytes by a key of 32 and a
// nonce of 24 bytes. No branch and no table depends on a secret.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { KL_SALSA_NONCE = 24, KL_SALSA_BLOCK = 64 };

struct kl_salsa {
    uint32_t state[16];
    unsigned char block[KL_SALSA_BLOCK];
    size_t used; // of the block
};

void kl_salsa_init(struct kl_salsa *s, const unsigned char key[32],
                   const unsigned char nonce[KL_SALSA_NONCE]);
void kl_salsa_first(struct kl_salsa *s, unsigned char ret[32]); // the stream's first bytes
void kl_salsa_xor(struct kl_salsa *s, unsigned char *to, const unsigned char *from, size_t n);
