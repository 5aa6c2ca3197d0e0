// SPDX-License-Identifier: Apache-2.0
#include "apiserver/encryption/salsa.h"
#include <openssl/crypto.h>
#include <string.h>

static uint32_t get32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put32(unsigned char *p, uint32_t v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
    p[2] = (unsigned char)(v >> 16);
    p[3] = (unsigned char)(v >> 24);
}

static uint32_t rotate(uint32_t v, int n)
{
    return v << n | v >> (32 - n);
}

static void quarter(uint32_t *x, int a, int b, int c, int d)
{
    x[b] ^= rotate(x[a] + x[d], 7);
    x[c] ^= rotate(x[b] + x[a], 9);
    x[d] ^= rotate(x[c] + x[b], 13);
    x[a] ^= rotate(x[d] + x[c], 18);
}

static void rounds(uint32_t x[16])
{
    for (int i = 0; i < 10; i++) {
        quarter(x, 0, 4, 8, 12);
        quarter(x, 5, 9, 13, 1);
        quarter(x, 10, 14, 2, 6);
        quarter(x, 15, 3, 7, 11);
        quarter(x, 0, 1, 2, 3);
        quarter(x, 5, 6, 7, 4);
        quarter(x, 10, 11, 8, 9);
        quarter(x, 15, 12, 13, 14);
    }
}

static void fill(uint32_t x[16], const unsigned char key[32], const unsigned char in[16])
{
    static const unsigned char sigma[] = "expand 32-byte k";
    for (int i = 0; i < 4; i++) {
        x[5 * i] = get32(sigma + 4 * i);
        x[1 + i] = get32(key + 4 * i);
        x[11 + i] = get32(key + 16 + 4 * i);
        x[6 + i] = get32(in + 4 * i);
    }
}

void kl_salsa_init(struct kl_salsa *s, const unsigned char key[32],
                   const unsigned char nonce[KL_SALSA_NONCE])
{
    static const int out[8] = {0, 5, 10, 15, 6, 7, 8, 9};
    uint32_t x[16];
    unsigned char sub[32], in[16] = {0};
    fill(x, key, nonce);
    rounds(x);
    for (int i = 0; i < 8; i++)
        put32(sub + 4 * i, x[out[i]]);
    memcpy(in, nonce + 16, 8); // behind it the number of the block
    fill(s->state, sub, in);
    s->used = KL_SALSA_BLOCK;
    OPENSSL_cleanse(x, sizeof x);
    OPENSSL_cleanse(sub, sizeof sub);
}

static void next_block(struct kl_salsa *s)
{
    uint32_t x[16];
    memcpy(x, s->state, sizeof x);
    rounds(x);
    for (int i = 0; i < 16; i++)
        put32(s->block + 4 * i, x[i] + s->state[i]);
    if (!++s->state[8])
        s->state[9]++;
    s->used = 0;
    OPENSSL_cleanse(x, sizeof x);
}

void kl_salsa_first(struct kl_salsa *s, unsigned char ret[32])
{
    next_block(s);
    memcpy(ret, s->block, 32);
    s->used = 32;
}

void kl_salsa_xor(struct kl_salsa *s, unsigned char *to, const unsigned char *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s->used == KL_SALSA_BLOCK)
            next_block(s);
        to[i] = from[i] ^ s->block[s->used++];
    }
}
