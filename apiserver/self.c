// SPDX-License-Identifier: Apache-2.0
#include "apiserver/self.h"
#include <openssl/sha.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

// RFC 4648 base32 without padding, in lower case.
static void put_base32(char *out, const unsigned char *p, size_t n)
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    uint32_t bits = 0;
    int have = 0;
    for (size_t i = 0; i < n; i++) {
        bits = bits << 8 | p[i];
        for (have += 8; have >= 5; have -= 5)
            *out++ = digits[bits >> (have - 5) & 31];
    }
    if (have)
        *out++ = digits[bits << (5 - have) & 31];
    *out = 0;
}

void kl_self_id(char ret[KL_SELF_ID_SIZE])
{
    static const char role[] = "kube-apiserver";
    char host[256] = "", text[400];
    unsigned char hash[SHA256_DIGEST_LENGTH];
    gethostname(host, sizeof host - 1);
    // Both with their lengths in front, two bytes each.
    size_t h = strlen(host), r = sizeof role - 1, n = 0;
    text[n++] = (char)(h >> 8);
    text[n++] = (char)h;
    memcpy(text + n, host, h);
    n += h;
    text[n++] = 0;
    text[n++] = (char)r;
    memcpy(text + n, role, r);
    SHA256((const unsigned char *)text, n + r, hash);
    memcpy(ret, "apiserver-", 10);
    put_base32(ret + 10, hash, 16);
}
