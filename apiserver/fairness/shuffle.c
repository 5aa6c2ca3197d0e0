// SPDX-License-Identifier: Apache-2.0
#include "apiserver/fairness/queueset.h"
#include <math.h>
#include <openssl/sha.h>
#include <string.h>

enum { HASH_BITS = 60, MAX_DECK = 1 << 26 };

bool kl_shuffle_valid(int deck, int hand)
{
    return deck > 0 && hand > 0 && hand <= deck && deck <= MAX_DECK &&
           hand <= KL_SHUFFLE_MAX_HAND && ceil(log2(deck) * hand) <= HASH_BITS;
}

void kl_shuffle_deal(int deck, int hand, uint64_t hash, int ret[KL_SHUFFLE_MAX_HAND])
{
    int left[KL_SHUFFLE_MAX_HAND]; // places among the cards that are not dealt yet
    for (int i = 0; i < hand; i++) {
        left[i] = (int)(hash % (uint64_t)(deck - i));
        hash /= (uint64_t)(deck - i);
    }
    for (int i = 0; i < hand; i++) {
        int card = left[i];
        for (int j = i; j > 0; j--)
            card += card >= left[j - 1];
        ret[i] = card;
    }
}

uint64_t kl_flow_hash(const char *schema, size_t schema_n, const char *by, size_t by_n)
{
    unsigned char text[1024], sum[SHA256_DIGEST_LENGTH];
    uint64_t hash = 0;
    // Names of objects are at most 253 bytes; a longer user is told apart by its first bytes.
    if (schema_n > 256)
        schema_n = 256;
    if (by_n > sizeof text - 1 - schema_n)
        by_n = sizeof text - 1 - schema_n;
    memcpy(text, schema, schema_n);
    text[schema_n] = 0;
    memcpy(text + schema_n + 1, by, by_n);
    SHA256(text, schema_n + 1 + by_n, sum);
    for (int i = 7; i >= 0; i--)
        hash = hash << 8 | sum[i];
    return hash;
}
