// SPDX-License-Identifier: Apache-2.0
#include "base/rand.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

void kl_rand_bytes(void *p, size_t n)
{
    for (char *at = p; n > 0;) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0 && errno != EINTR)
            abort();
        if (got > 0) {
            at += got;
            n -= (size_t)got;
        }
    }
}

uint64_t kl_rand_u64(void)
{
    uint64_t u;
    kl_rand_bytes(&u, sizeof(u));
    return u;
}

void kl_uuid(char ret[37])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char b[16];
    kl_rand_bytes(b, sizeof(b));
    b[6] = (b[6] & 0x0f) | 0x40; // version 4
    b[8] = (b[8] & 0x3f) | 0x80; // variant of RFC 4122
    char *p = ret;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = hex[b[i] >> 4];
        *p++ = hex[b[i] & 15];
    }
    *p = 0;
}

void kl_rand_name(char *ret, size_t n)
{
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    enum { LETTERS = sizeof(alphabet) - 1, FAIR = 256 / LETTERS * LETTERS };
    unsigned char pool[32];
    size_t left = 0;
    for (size_t i = 0; i < n;) {
        if (left == 0)
            kl_rand_bytes(pool, left = sizeof(pool));
        unsigned char c = pool[--left];
        if (c < FAIR)
            ret[i++] = alphabet[c % LETTERS];
    }
    ret[n] = 0;
}
