// SPDX-License-Identifier: Apache-2.0
// IP addresses and CIDRs as upstream's legacy and strict checks take them.
#include "object/validate/warn_int.h"
#include <arpa/inet.h>
#include <stdio.h>

struct address {
    uint8_t b[16]; // IPv4 in the last four
    bool v4;       // written with dots only
    bool mapped;   // ::ffff:1.2.3.4
    bool zeros;    // leading zeros in a number
};

static bool parse_v4(struct kl_str s, uint8_t b[4], bool *zeros)
{
    struct kl_str rest = s, part;
    size_t n = 0;
    while (kl_str_split(&rest, '.', &part)) {
        unsigned value = 0;
        if (n == 4 || !part.n || part.n > 16)
            return false;
        for (size_t i = 0; i < part.n; i++) {
            if (part.p[i] < '0' || part.p[i] > '9' || value > 255)
                return false;
            value = value * 10 + (unsigned)(part.p[i] - '0');
        }
        if (value > 255)
            return false;
        *zeros |= part.n > 1 && part.p[0] == '0';
        b[n++] = (uint8_t)value;
    }
    return n == 4;
}

// netutils.ParseIPSloppy
static bool parse_ip(struct kl_str s, struct address *a)
{
    static const uint8_t mapped[12] = {[10] = 0xff, 0xff};
    char z[INET6_ADDRSTRLEN + 1];
    memset(a, 0, sizeof *a);
    if (kl_str_chr(s, ':') < 0) {
        a->v4 = true;
        memcpy(a->b, mapped, sizeof mapped);
        return parse_v4(s, a->b + 12, &a->zeros);
    }
    if (s.n >= sizeof z)
        return false;
    memcpy(z, s.p, s.n);
    z[s.n] = 0;
    if (strlen(z) != s.n || inet_pton(AF_INET6, z, a->b) != 1)
        return false;
    a->mapped = !memcmp(a->b, mapped, sizeof mapped);
    return true;
}

static void print_ip(const struct address *a, char out[INET6_ADDRSTRLEN])
{
    static const uint8_t zero[12] = {0};
    const uint8_t *q = a->b + 12;
    if (a->v4 || a->mapped)
        inet_ntop(AF_INET, q, out, INET6_ADDRSTRLEN);
    else if (!memcmp(a->b, zero, 12) && (q[0] || q[1])) // dotted there, not in Go
        snprintf(out, INET6_ADDRSTRLEN, "::%x:%x", q[0] << 8 | q[1], q[2] << 8 | q[3]);
    else
        inet_ntop(AF_INET6, a->b, out, INET6_ADDRSTRLEN);
}

bool kl_v_ip(struct kl_v *c, const struct kl_vpath *p, struct kl_str s, bool canonical)
{
    struct address a;
    char text[INET6_ADDRSTRLEN];
    if (!parse_ip(s, &a)) {
        kl_v_invalid_str(c, p, s, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        return false;
    }
    if (a.zeros)
        kl_v_invalid_str(c, p, s, "must not have leading 0s");
    if (a.mapped)
        kl_v_invalid_str(c, p, s, "must not be an IPv4-mapped IPv6 address");
    if (a.zeros || a.mapped)
        return false;
    print_ip(&a, text);
    if (!canonical || kl_str_eqz(s, text))
        return true;
    kl_v_invalid_str(c, p, s, kl_v_text(c, "must be in canonical form (\"%s\")", text));
    return false;
}

int kl_v_ip_family(struct kl_str s)
{
    struct address a;
    return !parse_ip(s, &a) ? 0 : a.v4 || a.mapped ? 4 : 6;
}

static bool parse_cidr(struct kl_str s, struct address *a, unsigned *bits)
{
    ptrdiff_t slash = kl_str_chr(s, '/');
    if (slash < 0 || !parse_ip((struct kl_str){s.p, (size_t)slash}, a))
        return false;
    struct kl_str n = kl_str_from(s, (size_t)slash + 1);
    *bits = 0;
    if (!n.n || n.n > 8)
        return false;
    for (size_t i = 0; i < n.n; i++) {
        if (n.p[i] < '0' || n.p[i] > '9')
            return false;
        *bits = *bits * 10 + (unsigned)(n.p[i] - '0');
    }
    a->zeros |= n.n > 1 && n.p[0] == '0';
    return *bits <= (a->v4 ? 32u : 128u);
}

static bool mask(struct address *a, unsigned bits)
{
    bool had = false;
    for (unsigned i = a->v4 ? 96 + bits : bits; i < 128; i++) {
        uint8_t bit = (uint8_t)(0x80 >> (i % 8));
        had |= (a->b[i / 8] & bit) != 0;
        a->b[i / 8] &= (uint8_t)~bit;
    }
    return had;
}

bool kl_v_cidr(struct kl_v *c, const struct kl_vpath *p, struct kl_str s, bool canonical)
{
    struct address a;
    unsigned bits;
    char ip[INET6_ADDRSTRLEN];
    if (!parse_cidr(s, &a, &bits)) {
        kl_v_invalid_str(c, p, s,
                         "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        return false;
    }
    const char *why = a.zeros          ? "must not have leading 0s in IP or prefix length"
                      : a.mapped       ? "must not have an IPv4-mapped IPv6 address"
                      : mask(&a, bits) ? "must not have bits set beyond the prefix length"
                                       : NULL;
    if (why)
        return kl_v_invalid_str(c, p, s, why), false;
    print_ip(&a, ip);
    const char *is = canonical ? kl_v_text(c, "%s/%u", ip, bits) : NULL;
    if (!is || kl_str_eqz(s, is))
        return true;
    kl_v_invalid_str(c, p, s, kl_v_text(c, "must be in canonical form (\"%s\")", is));
    return false;
}

void kl_warn_ip(struct kl_v *c, const struct kl_vpath *p, struct kl_str s)
{
    struct address a;
    char is[INET6_ADDRSTRLEN];
    if (!parse_ip(s, &a) || (a.v4 && !a.zeros))
        return;
    print_ip(&a, is);
    if (a.zeros || a.mapped)
        kl_warn(c, p, "non-standard IP address %.*s is invalid: use \"%s\"",
                KL_PRI(kl_v_quoted(c, s)), is);
    else if (!kl_str_eqz(s, is))
        kl_warn(c, p, "IPv6 address %.*s should be in RFC 5952 canonical format (\"%s\")",
                KL_PRI(kl_v_quoted(c, s)), is);
}

// net.IPNet.String: a mapped network is one of IPv4, if all of the prefix is in its mask.
static const char *network_text(struct kl_v *c, struct address a, unsigned bits)
{
    char is[INET6_ADDRSTRLEN];
    mask(&a, bits);
    a.mapped = a.mapped && bits >= 96;
    print_ip(&a, is);
    return kl_v_text(c, "%s/%u", is, a.mapped ? bits - 96 : bits);
}

void kl_warn_cidr(struct kl_v *c, const struct kl_vpath *p, struct kl_str s)
{
    struct address a, whole;
    unsigned bits;
    char is[INET6_ADDRSTRLEN];
    if (!parse_cidr(s, &a, &bits))
        return;
    whole = a;
    bool more = mask(&whole, bits);
    if (!more && a.v4 && !a.zeros)
        return;
    print_ip(&a, is);
    if (more)
        kl_warn(c, p,
                "CIDR value %.*s is ambiguous in this context (should be \"%s\" or \"%s/%d\"?)",
                KL_PRI(kl_v_quoted(c, s)), network_text(c, a, bits), is, a.v4 ? 32 : 128);
    if (a.zeros || a.mapped)
        kl_warn(c, p, "non-standard CIDR value %.*s is invalid: use \"%s\"",
                KL_PRI(kl_v_quoted(c, s)), network_text(c, a, bits));
    else if (!more && !kl_str_eqz(s, kl_v_text(c, "%s/%u", is, bits)))
        kl_warn(c, p, "IPv6 CIDR value %.*s should be in RFC 5952 canonical format (\"%s/%u\")",
                KL_PRI(kl_v_quoted(c, s)), is, bits);
}

// IsValidInterfaceAddress: an address and the length of its network's prefix
void kl_v_interface_address(struct kl_v *c, const struct kl_vpath *p, struct kl_str s)
{
    struct address a;
    unsigned bits;
    char ip[INET6_ADDRSTRLEN];
    if (!parse_cidr(s, &a, &bits)) {
        kl_v_invalid_str(c, p, s,
                         "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or "
                         "2001:db8::1/64)");
        return;
    }
    print_ip(&a, ip);
    int shown = a.mapped && bits > 32 ? (int)bits - 96 : (int)bits; // may be negative, as there
    const char *is = kl_v_text(c, "%s/%d", ip, shown);
    if (!kl_str_eqz(s, is))
        kl_v_invalid_str(c, p, s, kl_v_text(c, "must be in canonical form (\"%s\")", is));
}

int kl_v_cidr_family(struct kl_str s)
{
    struct address a;
    unsigned bits;
    return !parse_cidr(s, &a, &bits) ? 0 : a.v4 ? 4 : 6;
}

bool kl_v_cidr_contains(struct kl_str outer, struct kl_str inner, bool strictly)
{
    struct address a, b;
    unsigned abits, bbits;
    if (!parse_cidr(outer, &a, &abits) || !parse_cidr(inner, &b, &bbits) || a.v4 != b.v4)
        return false;
    mask(&b, abits > bbits ? bbits : abits);
    mask(&a, abits);
    return !memcmp(a.b, b.b, 16) && (strictly ? bbits > abits : bbits >= abits);
}

void kl_v_endpoint_ip(struct kl_v *c, const struct kl_vpath *p, struct kl_str s)
{
    static const uint8_t zero[16] = {0}, loop6[16] = {[15] = 1};
    struct address a;
    if (!parse_ip(s, &a)) {
        kl_v_invalid_str(c, p, s, "must be a valid IP address");
        return;
    }
    bool v4 = a.v4 || a.mapped;
    const uint8_t *q = a.b + 12;
    if (v4 ? !memcmp(q, zero, 4) : !memcmp(a.b, zero, 16))
        kl_v_invalid_str(c, p, s, kl_v_text(c, "may not be unspecified (%.*s)", KL_PRI(s)));
    if (v4 ? q[0] == 127 : !memcmp(a.b, loop6, 16))
        kl_v_invalid_str(c, p, s, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    if (v4 ? q[0] == 169 && q[1] == 254 : a.b[0] == 0xfe && (a.b[1] & 0xc0) == 0x80)
        kl_v_invalid_str(c, p, s, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    if (v4 ? q[0] == 224 && !q[1] && !q[2] : a.b[0] == 0xff && (a.b[1] & 0x0f) == 2)
        kl_v_invalid_str(c, p, s,
                         "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
}
