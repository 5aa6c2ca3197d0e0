// SPDX-License-Identifier: Apache-2.0
#include "store/key_rule.h"

// Every rule is strings over an alphabet of code points, encoded in an order that memcmp keeps.
struct alphabet {
    uint32_t min, max;
    bool utf8;
    const char *name;
};

static struct alphabet alphabet_of(enum kl_key_text text)
{
    switch (text) {
    case KL_KEY_NO_NUL:
        return (struct alphabet){1, 0xff, false, "bytes other than NUL"};
    case KL_KEY_ASCII:
        return (struct alphabet){0, 0x7f, false, "ASCII"};
    case KL_KEY_UTF8:
        return (struct alphabet){1, 0x10ffff, true, "UTF-8 without NUL"};
    case KL_KEY_BYTES:
        break;
    }
    return (struct alphabet){0, 0xff, false, "any bytes"};
}

static size_t encode(const struct alphabet *a, uint32_t c, char *out)
{
    if (!a->utf8 || c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(lead[n] | c);
    return n;
}

static bool is_surrogate(const struct alphabet *a, uint32_t c)
{
    return a->utf8 && c >= 0xd800 && c < 0xe000;
}

// Length of the character that s begins with; 0: none of the alphabet.
static size_t take(const struct alphabet *a, struct kl_str s, uint32_t *ret_c)
{
    unsigned char b = (unsigned char)s.p[0];
    size_t n = !a->utf8 || b < 0x80 ? 1 : b < 0xc2 ? 0 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
    if (!n || n > s.n)
        return 0;
    uint32_t c = n == 1 ? b : b & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if (((unsigned char)s.p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | ((unsigned char)s.p[i] & 0x3f);
    }
    char again[4];
    *ret_c = c;
    bool shortest = encode(a, c, again) == n;
    return c >= a->min && c <= a->max && shortest && !is_surrogate(a, c) ? n : 0;
}

// The smallest character from `from` on whose encoding is not less than s. 0: none.
static size_t next_char(const struct alphabet *a, uint32_t from, struct kl_str s, char *out)
{
    uint32_t low = from, high = a->max + 1;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        size_t n = encode(a, mid, out);
        if (kl_str_cmp((struct kl_str){out, n}, s) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (is_surrogate(a, low))
        low = 0xe000;
    return low > a->max ? 0 : encode(a, low, out);
}

ptrdiff_t kl_key_rule_bound(const struct kl_key_rule *rule, struct kl_str bound, char *out)
{
    struct alphabet a = alphabet_of(rule->text);
    size_t at = 0, n;
    uint32_t c;
    while (at < bound.n && (n = take(&a, kl_str_from(bound, at), &c)) != 0)
        at += n;
    memcpy(out, bound.p ? bound.p : "", at);
    if (at == bound.n)
        return (ptrdiff_t)at;
    n = next_char(&a, a.min, kl_str_from(bound, at), out + at);
    while (!n && at) { // everything that begins like this is less: the character before goes up
        do
            at--;
        while (a.utf8 && ((unsigned char)out[at] & 0xc0) == 0x80);
        char last[4];
        size_t len = 0;
        len = take(&a, kl_str_from(bound, at), &c);
        memcpy(last, bound.p + at, len);
        n = c == a.max ? 0 : next_char(&a, c + 1, (struct kl_str){last, len}, out + at);
    }
    return n ? (ptrdiff_t)(at + n) : -1;
}

int kl_key_rule_check(const struct kl_key_rule *rule, struct kl_str key, struct kl_error *err)
{
    if (rule->max_bytes && key.n > rule->max_bytes)
        return kl_error_set(err, KL_ETOOLARGE,
                            "etcdserver: request is too large: a key of %zu bytes, of which this "
                            "datastore's tables hold %zu",
                            key.n, rule->max_bytes);
    if (rule->text == KL_KEY_BYTES)
        return 0;
    struct alphabet a = alphabet_of(rule->text);
    uint32_t c;
    for (size_t at = 0, n; at < key.n; at += n) {
        n = take(&a, kl_str_from(key, at), &c);
        if (!n)
            return kl_error_set(err, KL_EBADREQUEST,
                                "etcdserver: a key with byte 0x%02x at %zu: this datastore's "
                                "tables, made by kine, hold keys of %s only",
                                (unsigned char)key.p[at], at, a.name);
    }
    return 0;
}
