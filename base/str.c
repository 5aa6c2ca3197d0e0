// SPDX-License-Identifier: Apache-2.0
#include "base/str_int.h"
#include "base/rand.h"
#include <endian.h>
#include <stdlib.h>

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct kl_str kl_str_trim(struct kl_str s)
{
    while (s.n && is_space(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n && is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

static unsigned char lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

bool kl_str_ieq(struct kl_str a, struct kl_str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++) {
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    }
    return true;
}

bool kl_str_split(struct kl_str *rest, char sep, struct kl_str *ret_head)
{
    if (!rest->p)
        return false;
    ptrdiff_t at = kl_str_chr(*rest, sep);
    if (at < 0) {
        *ret_head = *rest;
        *rest = (struct kl_str){NULL, 0};
    } else {
        *ret_head = (struct kl_str){rest->p, (size_t)at};
        *rest = kl_str_from(*rest, (size_t)at + 1);
    }
    return true;
}

bool kl_str_to_u64(struct kl_str s, uint64_t *ret_u)
{
    uint64_t u = 0;
    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(u, (uint64_t)10, &u) ||
            __builtin_add_overflow(u, (uint64_t)(s.p[i] - '0'), &u))
            return false;
    }
    *ret_u = u;
    return true;
}

bool kl_str_to_i64(struct kl_str s, int64_t *ret_i)
{
    bool minus = s.n && s.p[0] == '-';
    uint64_t u;
    if (!kl_str_to_u64(minus ? kl_str_from(s, 1) : s, &u) || u > (uint64_t)INT64_MAX + minus)
        return false;
    *ret_i = minus ? (int64_t)(0 - u) : (int64_t)u;
    return true;
}

bool kl_utf8_valid(struct kl_str s)
{
    const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n;
    while (p < end) {
        // Mostly ASCII: eight bytes at a time.
        uint64_t w;
        while (end - p >= 8 && (memcpy(&w, p, 8), !(w & 0x8080808080808080u)))
            p += 8;
        if (p == end)
            break;
        unsigned c = *p++;
        if (c < 0x80)
            continue;
        // RFC 3629 section 4: the second byte's range excludes overlong forms and surrogates.
        unsigned lo = 0x80, hi = 0xbf, more;
        if (c >= 0xc2 && c <= 0xdf) {
            more = 1;
        } else if (c >= 0xe0 && c <= 0xef) {
            more = 2;
            lo = c == 0xe0 ? 0xa0 : 0x80;
            hi = c == 0xed ? 0x9f : 0xbf;
        } else if (c >= 0xf0 && c <= 0xf4) {
            more = 3;
            lo = c == 0xf0 ? 0x90 : 0x80;
            hi = c == 0xf4 ? 0x8f : 0xbf;
        } else {
            return false;
        }
        if ((size_t)(end - p) < more || *p < lo || *p > hi)
            return false;
        for (unsigned i = 1; i < more; i++) {
            if ((p[i] & 0xc0) != 0x80)
                return false;
        }
        p += more;
    }
    return true;
}

// The key that keeps a client from choosing names that collide. Set once before main.
static uint64_t hash_key[2];

__attribute__((constructor)) static void init_hash_key(void)
{
    kl_rand_bytes(hash_key, sizeof(hash_key));
}

static inline uint64_t rotl(uint64_t x, int b)
{
    return (x << b) | (x >> (64 - b));
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] = rotl(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] = rotl(v[2], 32);
}

// SipHash-1-3 (Aumasson and Bernstein): one round per word, three at the end.
uint64_t kl_siphash13(const uint64_t key[2], struct kl_str s)
{
    uint64_t v[4] = {
        key[0] ^ 0x736f6d6570736575u,
        key[1] ^ 0x646f72616e646f6du,
        key[0] ^ 0x6c7967656e657261u,
        key[1] ^ 0x7465646279746573u,
    };
    const char *p = s.p, *end = s.p + (s.n & ~(size_t)7);
    uint64_t m;
    for (; p != end; p += 8) {
        memcpy(&m, p, 8);
        m = le64toh(m);
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    m = 0;
    if (s.n & 7)
        memcpy(&m, p, s.n & 7);
    m = le64toh(m) | (uint64_t)s.n << 56;
    v[3] ^= m;
    sip_round(v);
    v[0] ^= m;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t kl_str_hash(struct kl_str s)
{
    return kl_siphash13(hash_key, s);
}

char *kl_put_decimal(char *p, uint64_t v)
{
    char digits[20];
    int n = 0;
    do
        digits[n++] = (char)('0' + v % 10);
    while (v /= 10);
    while (n)
        *p++ = digits[--n];
    return p;
}

char *kl_str_to_c(struct kl_str s)
{
    char *p = malloc(s.n + 1);
    if (p) {
        if (s.n)
            memcpy(p, s.p, s.n);
        p[s.n] = 0;
    }
    return p;
}
