// SPDX-License-Identifier: Apache-2.0
// A borrowed run of bytes with its length; passed by value, never owns.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct kl_str {
    const char *p;
    size_t n;
};

#define KL_STR(lit) ((struct kl_str){"" lit, sizeof(lit) - 1})
#define KL_STR_INIT(lit)                                                                           \
    {                                                                                              \
        "" lit, sizeof(lit) - 1                                                                    \
    }
// For printf's "%.*s".
#define KL_PRI(s) (int)(s).n, (s).p
#define KL_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define KL_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline struct kl_str kl_str(const char *z)
{
    return (struct kl_str){z ? z : "", z ? strlen(z) : 0};
}

static inline bool kl_str_eq(struct kl_str a, struct kl_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool kl_str_eqz(struct kl_str a, const char *z)
{
    return kl_str_eq(a, kl_str(z));
}

// Byte order, shorter first on a common prefix: etcd's and Go's string order.
static inline int kl_str_cmp(struct kl_str a, struct kl_str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

// The same for qsort and bsearch over struct kl_str.
static inline int kl_str_order(const void *a, const void *b)
{
    return kl_str_cmp(*(const struct kl_str *)a, *(const struct kl_str *)b);
}

static inline bool kl_str_starts(struct kl_str s, struct kl_str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

static inline bool kl_str_ends(struct kl_str s, struct kl_str suffix)
{
    return s.n >= suffix.n &&
           (suffix.n == 0 || memcmp(s.p + s.n - suffix.n, suffix.p, suffix.n) == 0);
}

static inline struct kl_str kl_str_from(struct kl_str s, size_t off)
{
    return off >= s.n ? (struct kl_str){s.p + s.n, 0} : (struct kl_str){s.p + off, s.n - off};
}

// Index of the first `c`, or -1.
static inline ptrdiff_t kl_str_chr(struct kl_str s, char c)
{
    const char *p = s.n ? memchr(s.p, c, s.n) : NULL;
    return p ? p - s.p : -1;
}

struct kl_str kl_str_trim(struct kl_str s); // without leading and trailing space, tab, CR, LF
bool kl_str_ieq(struct kl_str a, struct kl_str b);
// Cuts at the first `sep`: writes what stands before it to *ret_head, the rest after it to *rest.
// Without `sep` all of *rest is the head. Returns false when *rest was exhausted before
// (its p is NULL then), so that `while (kl_str_split(&rest, ',', &part))` walks every part.
bool kl_str_split(struct kl_str *rest, char sep, struct kl_str *ret_head);
// Decimal, optional minus; false on empty, other bytes or overflow.
bool kl_str_to_i64(struct kl_str s, int64_t *ret_i);
bool kl_str_to_u64(struct kl_str s, uint64_t *ret_u);
char *kl_put_decimal(char *p, uint64_t v); // at most 20 digits; returns where they end
char *kl_str_to_c(struct kl_str s);        // malloc'ed, with a NUL behind it; NULL without memory
bool kl_utf8_valid(struct kl_str s);       // RFC 3629: no surrogates, no overlong forms
uint64_t kl_str_hash(struct kl_str s);     // SipHash-like with a process key; never stored
