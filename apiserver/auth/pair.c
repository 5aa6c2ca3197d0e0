// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/pair.h"
#include "base/buf.h"
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <string.h>

enum { TYPES_SHOWN_MAX = 4096 };

// ---- PEM as encoding/pem reads it: what is no whole block is passed over

struct block {
    struct kl_str type;
    const unsigned char *der;
    size_t n;
};

static bool ends_with(struct kl_str s, const char *with)
{
    size_t n = strlen(with);
    return s.n >= n && !memcmp(s.p + s.n - n, with, n);
}

static struct kl_str take_line(struct kl_str *rest)
{
    struct kl_str line = *rest;
    ptrdiff_t end = kl_str_chr(line, '\n');
    if (end >= 0)
        line.n = (size_t)end;
    *rest = kl_str_from(*rest, end >= 0 ? (size_t)end + 1 : line.n);
    if (end > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    while (line.n && (line.p[line.n - 1] == ' ' || line.p[line.n - 1] == '\t'))
        line.n--;
    return line;
}

static const char *last_begin(const char *from, const char *end)
{
    static const char begin[] = "-----BEGIN ";
    const char *found = NULL, *p = from;
    while ((p = memmem(p, (size_t)(end - p), begin, sizeof begin - 1)))
        found = p++;
    return found;
}

static bool decode(struct kl_arena *a, const char *from, const char *end, struct block *ret)
{
    size_t most = end > from ? (size_t)(end - from) : 0, n = 0, padding = 0;
    unsigned char *text = kl_arena_alloc(a, most + 4), *out = kl_arena_alloc(a, most + 4);
    if (!text || !out)
        return false;
    for (size_t i = 0; i < most; i++)
        if (from[i] != ' ' && from[i] != '\t' && from[i] != '\r' && from[i] != '\n') {
            padding += from[i] == '=';
            text[n++] = (unsigned char)from[i];
        }
    ret->der = out;
    ret->n = 0;
    if (!n)
        return true;
    if (n % 4 || padding > 2 || (padding && text[n - 1] != '=') ||
        (padding == 2 && text[n - 2] != '='))
        return false;
    int got = EVP_DecodeBlock(out, text, (int)n);
    ret->n = got > 0 ? (size_t)got - padding : 0;
    return got > 0;
}

// The block between begin and end, whose END has `tail` behind it.
static bool read_block(struct kl_arena *a, struct kl_str s, const char *begin, const char *end,
                       struct kl_str tail, struct block *ret)
{
    struct kl_str rest = {begin + 11, (size_t)(s.p + s.n - begin) - 11};
    struct kl_str type = take_line(&rest), next = rest, after;
    if (!ends_with(type, "-----"))
        return false;
    type.n -= 5;
    for (struct kl_str line; rest.n && (line = take_line(&next), kl_str_chr(line, ':') >= 0);) {
        rest = next;
        if (end < rest.p) // not to be read to the end of the text by each block
            return false;
    }
    if (!rest.n)
        return false;
    if (tail.n < type.n + 5 || !kl_str_starts(tail, type) ||
        memcmp(tail.p + type.n, "-----", 5) != 0)
        return false;
    after = kl_str_from(tail, type.n + 5);
    ret->type = type;
    return !take_line(&after).n && decode(a, rest.p, end, ret);
}

// The next block, behind which *rest is then; false: there is none.
static bool next_block(struct kl_arena *a, struct kl_str *rest, struct block *ret)
{
    static const char mark[] = "\n-----END ";
    struct kl_str s = *rest;
    while (s.n) {
        const char *end = memmem(s.p, s.n, mark, sizeof mark - 1);
        if (!end)
            return false;
        struct kl_str tail = kl_str_from(s, (size_t)(end - s.p) + sizeof mark - 1), after = tail;
        const char *begin = last_begin(s.p, end);
        if (begin && (begin == s.p || begin[-1] == '\n') &&
            read_block(a, s, begin, end, tail, ret)) {
            take_line(&after);
            *rest = after;
            return true;
        }
        s = tail;
    }
    return false;
}

// ---- the pair

// Types that were passed over, as fmt shows them.
static const char *skipped_text(struct kl_arena *a, const char *before, struct kl_str pem)
{
    struct kl_buf b;
    struct block x;
    size_t n = 0;
    kl_buf_init(&b, TYPES_SHOWN_MAX);
    while (next_block(a, &pem, &x))
        kl_buf_printf(&b, "%s%.*s", n++ ? " " : "", KL_PRI(x.type));
    struct kl_str out =
        kl_arena_printf(a, "%s of the following types: [%.*s]", before, KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
    return out.p ? out.p : before;
}

static const char *find_certificate(struct kl_arena *a, struct kl_str pem, struct block *ret)
{
    struct kl_str rest = pem;
    size_t n = 0;
    bool key = false;
    for (; next_block(a, &rest, ret); n++) {
        if (kl_str_eqz(ret->type, "CERTIFICATE"))
            return NULL;
        key = ends_with(ret->type, "PRIVATE KEY");
    }
    if (!n)
        return "tls: failed to find any PEM data in certificate input";
    if (n == 1 && key)
        return "tls: failed to find certificate PEM data in certificate input, but did find a "
               "private key; PEM inputs may have been switched";
    return skipped_text(a,
                        "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after "
                        "skipping PEM blocks",
                        pem);
}

static const char *find_key(struct kl_arena *a, struct kl_str pem, struct block *ret)
{
    struct kl_str rest = pem;
    size_t n = 0;
    bool certificate = false;
    for (; next_block(a, &rest, ret); n++) {
        if (kl_str_eqz(ret->type, "PRIVATE KEY") || ends_with(ret->type, " PRIVATE KEY"))
            return NULL;
        certificate = kl_str_eqz(ret->type, "CERTIFICATE");
    }
    if (!n)
        return "tls: failed to find any PEM data in key input";
    if (n == 1 && certificate)
        return "tls: found a certificate rather than a key in the PEM for the private key";
    return skipped_text(a,
                        "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key "
                        "input after skipping PEM blocks",
                        pem);
}

static bool is_known(int id)
{
    return id == EVP_PKEY_RSA || id == EVP_PKEY_EC || id == EVP_PKEY_ED25519;
}

static const char *match(const X509 *x, const EVP_PKEY *key)
{
    const EVP_PKEY *public = X509_get0_pubkey(x);
    int id = key ? EVP_PKEY_get_base_id(key) : EVP_PKEY_NONE;
    if (id == EVP_PKEY_X25519)
        return "tls: found unknown private key type in PKCS#8 wrapping";
    if (!is_known(id))
        return "tls: failed to parse private key";
    if (!public || !is_known(EVP_PKEY_get_base_id(public)))
        return "tls: unknown public key algorithm";
    if (EVP_PKEY_get_base_id(public) != id)
        return "tls: private key type does not match public key type";
    return EVP_PKEY_eq(public, key) == 1 ? NULL : "tls: private key does not match public key";
}

const char *kl_tls_pair_bad(struct kl_arena *a, struct kl_str cert, struct kl_str key)
{
    struct block c, k;
    const char *why = find_certificate(a, cert, &c);
    if (!why)
        why = find_key(a, key, &k);
    if (why)
        return why;
    const unsigned char *p = c.der, *q = k.der;
    X509 *x = d2i_X509(NULL, &p, (long)c.n);
    EVP_PKEY *private = x ? d2i_AutoPrivateKey(NULL, &q, (long)k.n) : NULL;
    if (!x)
        why = "x509: malformed certificate";
    else if (p != c.der + c.n)
        why = "x509: trailing data";
    else
        why = match(x, private);
    EVP_PKEY_free(private);
    X509_free(x);
    ERR_clear_error();
    return why;
}
