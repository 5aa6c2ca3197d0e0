// SPDX-License-Identifier: Apache-2.0
// IP addresses and prefixes as Go's net/netip reads and prints them.
#include "object/cel/lib_int.h"
#include <arpa/inet.h>

// ---- parsing, with netip's messages
static const char *parse_v4(struct kl_str s, uint8_t out[4], struct kl_str *ret_at)
{
    int value = 0, part = 0, digits = 0;
    *ret_at = KL_STR("");
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c >= '0' && c <= '9') {
            if (digits == 1 && value == 0)
                return "IPv4 field has octet with leading zero";
            value = value * 10 + c - '0';
            digits++;
            if (value > 255)
                return "IPv4 field has value >255";
        } else if (c == '.') {
            if (i == 0 || i == s.n - 1 || s.p[i - 1] == '.') {
                *ret_at = kl_str_from(s, i);
                return "IPv4 field must have at least one digit";
            }
            if (part == 3)
                return "IPv4 address too long";
            out[part++] = (uint8_t)value;
            value = digits = 0;
        } else {
            *ret_at = kl_str_from(s, i);
            return "unexpected character";
        }
    }
    if (part < 3)
        return "IPv4 address too short";
    out[3] = (uint8_t)value;
    return NULL;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static const char *parse_v6(struct kl_str in, struct cel_ip *out, bool *ret_zone,
                            struct kl_str *ret_at)
{
    struct kl_str s = in, zone = KL_STR("");
    ptrdiff_t percent = kl_str_chr(in, '%');
    int ellipsis = -1, i = 0;
    *ret_at = KL_STR("");
    if (percent >= 0) {
        s = (struct kl_str){in.p, (size_t)percent};
        zone = kl_str_from(in, (size_t)percent + 1);
        if (!zone.n)
            return "zone must be a non-empty string";
        *ret_zone = true;
    }
    if (s.n >= 2 && s.p[0] == ':' && s.p[1] == ':') {
        ellipsis = 0;
        s = kl_str_from(s, 2);
        if (!s.n)
            return NULL;
    }
    while (i < 16) {
        size_t off = 0;
        uint32_t acc = 0;
        for (; off < s.n && hex_digit(s.p[off]) >= 0; off++) {
            acc = (acc << 4) + (uint32_t)hex_digit(s.p[off]);
            *ret_at = s;
            if (off > 3)
                return "each group must have 4 or less digits";
            if (acc > 0xffff)
                return "IPv6 field has value >=2^16";
        }
        *ret_at = s;
        if (off == 0)
            return "each colon-separated field must have at least one digit";
        if (off < s.n && s.p[off] == '.') {
            if (ellipsis < 0 && i != 12)
                return "embedded IPv4 address must replace the final 2 fields of the address";
            if (i + 4 > 16)
                return "too many hex fields to fit an embedded IPv4 at the end of the address";
            struct kl_str ignored;
            const char *bad = parse_v4(s, out->bytes + i, &ignored);
            if (bad)
                return bad;
            s = KL_STR("");
            i += 4;
            break;
        }
        out->bytes[i] = (uint8_t)(acc >> 8);
        out->bytes[i + 1] = (uint8_t)acc;
        i += 2;
        s = kl_str_from(s, off);
        if (!s.n)
            break;
        *ret_at = s;
        if (s.p[0] != ':')
            return "unexpected character, want colon";
        if (s.n == 1)
            return "colon must be followed by more characters";
        s = kl_str_from(s, 1);
        *ret_at = s;
        if (s.p[0] == ':') {
            if (ellipsis >= 0)
                return "multiple :: in address";
            ellipsis = i;
            s = kl_str_from(s, 1);
            if (!s.n)
                break;
        }
    }
    *ret_at = s;
    if (s.n)
        return "trailing garbage after address";
    *ret_at = KL_STR("");
    if (i < 16) {
        if (ellipsis < 0)
            return "address string too short";
        int n = 16 - i;
        memmove(out->bytes + ellipsis + n, out->bytes + ellipsis, (size_t)(i - ellipsis));
        memset(out->bytes + ellipsis, 0, (size_t)n);
    } else if (ellipsis >= 0) {
        return "the :: must expand to at least one field of zeros";
    }
    return NULL;
}

static const char *parse_addr(struct kl_str s, struct cel_ip *out, bool *ret_zone,
                              struct kl_str *ret_at)
{
    *out = (struct cel_ip){0};
    *ret_zone = false;
    *ret_at = KL_STR("");
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '.') {
            out->len = 4;
            return parse_v4(s, out->bytes, ret_at);
        }
        if (s.p[i] == ':') {
            out->len = 16;
            return parse_v6(s, out, ret_zone, ret_at);
        }
        if (s.p[i] == '%')
            return "missing IPv6 address";
    }
    return "unable to parse IP";
}

static bool is_mapped(const struct cel_ip *ip)
{
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
    return ip->len == 16 && !memcmp(ip->bytes, prefix, 12);
}

// netip.ParseAddr's error text.
static struct kl_str addr_error(struct kl_arena *a, struct kl_str s, const char *bad,
                                struct kl_str at)
{
    struct kl_str q = cel_quote(a, s);
    return at.n ? kl_arena_printf(a, "ParseAddr(%.*s): %s (at %.*s)", KL_PRI(q), bad,
                                  KL_PRI(cel_quote(a, at)))
                : kl_arena_printf(a, "ParseAddr(%.*s): %s", KL_PRI(q), bad);
}

static struct kl_cel_val parse_ip(struct kl_arena *a, struct kl_str s)
{
    struct cel_ip *ip = KL_ARENA_NEW(a, struct cel_ip);
    struct kl_str at, q = cel_quote(a, s);
    bool zone;
    if (!ip)
        return CEL_NO_MEMORY;
    const char *bad = parse_addr(s, ip, &zone, &at);
    if (bad)
        return cel_errf(a, "IP Address %.*s parse error during conversion from string: %.*s",
                        KL_PRI(q), KL_PRI(addr_error(a, s, bad, at)));
    if (zone)
        return cel_errf(a, "IP address %.*s with zone value is not allowed", KL_PRI(q));
    if (is_mapped(ip))
        return cel_errf(a, "IPv4-mapped IPv6 address %.*s is not allowed", KL_PRI(q));
    return (struct kl_cel_val){.kind = KL_CEL_IP, .p = ip};
}

static struct kl_cel_val parse_cidr(struct kl_arena *a, struct kl_str s)
{
    static const char prefix[] = "network address parse error during conversion from string: ";
    struct cel_ip *ip = KL_ARENA_NEW(a, struct cel_ip);
    struct kl_str at, q = cel_quote(a, s);
    ptrdiff_t slash = -1;
    bool zone;
    if (!ip)
        return CEL_NO_MEMORY;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '/')
            slash = (ptrdiff_t)i;
    if (slash < 0)
        return cel_errf(a, "%s%snetip.ParsePrefix(%.*s): no '/'", prefix, prefix, KL_PRI(q));
    struct kl_str addr = {s.p, (size_t)slash}, bits = kl_str_from(s, (size_t)slash + 1);
    const char *bad = parse_addr(addr, ip, &zone, &at);
    if (bad)
        return cel_errf(a, "%s%snetip.ParsePrefix(%.*s): %.*s", prefix, prefix, KL_PRI(q),
                        KL_PRI(addr_error(a, addr, bad, at)));
    if (zone)
        return cel_errf(a, "%s%snetip.ParsePrefix(%.*s): IPv6 zones cannot be present in a prefix",
                        prefix, prefix, KL_PRI(q));
    int64_t n;
    bool plain = bits.n == 1 || (bits.n > 1 && bits.p[0] >= '1' && bits.p[0] <= '9');
    if (!plain || bits.p[0] == '-' || !kl_str_to_i64(bits, &n))
        return cel_errf(a, "%s%snetip.ParsePrefix(%.*s): bad bits after slash: %.*s", prefix,
                        prefix, KL_PRI(q), KL_PRI(cel_quote(a, bits)));
    if (n < 0 || n > ip->len * 8)
        return cel_errf(a, "%s%snetip.ParsePrefix(%.*s): prefix length out of range", prefix,
                        prefix, KL_PRI(q));
    if (is_mapped(ip))
        return cel_errf(a, "%sIPv4-mapped IPv6 address %.*s is not allowed", prefix, KL_PRI(q));
    ip->bits = (uint8_t)n;
    return (struct kl_cel_val){.kind = KL_CEL_CIDR, .p = ip};
}

struct kl_str cel_ip_text(struct kl_arena *a, const struct cel_ip *ip, bool prefix)
{
    char text[INET6_ADDRSTRLEN] = "";
    const uint8_t *b = ip->bytes;
    if (ip->len == 4) {
        inet_ntop(AF_INET, b, text, sizeof text);
    } else { // inet_ntop writes ::a.b.c.d where netip writes hex
        int best = -1, best_n = 1;
        for (int i = 0; i < 8; i++) {
            int n = 0;
            while (i + n < 8 && !b[2 * (i + n)] && !b[2 * (i + n) + 1])
                n++;
            if (n > best_n) {
                best = i;
                best_n = n;
            }
        }
        struct kl_str out = KL_STR("");
        for (int i = 0; i < 8; i++) {
            if (i == best) {
                out = kl_arena_printf(a, "%.*s::", KL_PRI(out));
                i += best_n - 1;
                continue;
            }
            out = kl_arena_printf(a, "%.*s%s%x", KL_PRI(out), i && i != best + best_n ? ":" : "",
                                  b[2 * i] << 8 | b[2 * i + 1]);
        }
        return prefix ? kl_arena_printf(a, "%.*s/%d", KL_PRI(out), ip->bits) : out;
    }
    return prefix ? kl_arena_printf(a, "%s/%d", text, ip->bits) : kl_arena_printf(a, "%s", text);
}

// ---- functions
static const struct cel_ip *ip_of(struct kl_cel_val v)
{
    return v.p;
}

CEL_FN(cel_fn_ip)
{
    return parse_ip(cel_arena(r), cel_text(args[0]));
}

CEL_FN(cel_fn_is_ip)
{
    return cel_ok(!cel_is_error(parse_ip(cel_arena(r), cel_text(args[0]))));
}

CEL_FN(cel_fn_ip_family)
{
    return cel_i(ip_of(args[0])->len == 4 ? 4 : 6);
}

CEL_FN(cel_fn_ip_canonical)
{
    struct kl_cel_val v = parse_ip(cel_arena(r), cel_text(args[0]));
    if (cel_is_error(v))
        return v;
    return cel_ok(kl_str_eq(cel_ip_text(cel_arena(r), v.p, false), cel_text(args[0])));
}

static bool all_zero(const uint8_t *p, size_t n)
{
    while (n && !p[n - 1])
        n--;
    return n == 0;
}

static bool is_unspecified(const struct cel_ip *ip)
{
    return all_zero(ip->bytes, ip->len);
}

static bool is_loopback(const struct cel_ip *ip)
{
    return ip->len == 4 ? ip->bytes[0] == 127 : all_zero(ip->bytes, 15) && ip->bytes[15] == 1;
}

static bool is_multicast(const struct cel_ip *ip)
{
    return ip->len == 4 ? (ip->bytes[0] & 0xf0) == 0xe0 : ip->bytes[0] == 0xff;
}

static bool is_link_local(const struct cel_ip *ip)
{
    return ip->len == 4 ? ip->bytes[0] == 169 && ip->bytes[1] == 254
                        : ip->bytes[0] == 0xfe && (ip->bytes[1] & 0xc0) == 0x80;
}

CEL_FN(cel_fn_ip_unspecified)
{
    return cel_ok(is_unspecified(ip_of(args[0])));
}

CEL_FN(cel_fn_ip_loopback)
{
    return cel_ok(is_loopback(ip_of(args[0])));
}

CEL_FN(cel_fn_ip_ll_multicast)
{
    const struct cel_ip *ip = ip_of(args[0]);
    return cel_ok(ip->len == 4 ? ip->bytes[0] == 224 && !ip->bytes[1] && !ip->bytes[2]
                               : ip->bytes[0] == 0xff && (ip->bytes[1] & 15) == 2);
}

CEL_FN(cel_fn_ip_ll_unicast)
{
    return cel_ok(is_link_local(ip_of(args[0])));
}

CEL_FN(cel_fn_ip_global)
{
    static const uint8_t broadcast[4] = {255, 255, 255, 255};
    const struct cel_ip *ip = ip_of(args[0]);
    if (ip->len == 4 && (is_unspecified(ip) || !memcmp(ip->bytes, broadcast, 4)))
        return cel_ok(false);
    return cel_ok(!is_unspecified(ip) && !is_loopback(ip) && !is_multicast(ip) &&
                  !is_link_local(ip));
}

CEL_FN(cel_fn_ip_string)
{
    return cel_convert(cel_arena(r), args[0], T_STRING);
}

CEL_FN(cel_fn_cidr_string)
{
    return cel_convert(cel_arena(r), args[0], T_STRING);
}

CEL_FN(cel_fn_cidr)
{
    return parse_cidr(cel_arena(r), cel_text(args[0]));
}

CEL_FN(cel_fn_is_cidr)
{
    return cel_ok(!cel_is_error(parse_cidr(cel_arena(r), cel_text(args[0]))));
}

static bool same_bits(const struct cel_ip *x, const struct cel_ip *y, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    uint8_t mask = (uint8_t)(0xff00 >> rest);
    return !memcmp(x->bytes, y->bytes, whole) &&
           (!rest || ((x->bytes[whole] ^ y->bytes[whole]) & mask) == 0);
}

CEL_FN(cel_fn_cidr_has_ip)
{
    struct kl_cel_val other =
        args[1].kind == KL_CEL_STRING ? parse_ip(cel_arena(r), cel_text(args[1])) : args[1];
    if (cel_is_error(other)) // upstream says no more of it
        return CEL_NO_OVERLOAD;
    const struct cel_ip *net = ip_of(args[0]), *ip = ip_of(other);
    return cel_ok(net->len == ip->len && same_bits(net, ip, net->bits));
}

CEL_FN(cel_fn_cidr_has_cidr)
{
    struct kl_cel_val other =
        args[1].kind == KL_CEL_STRING ? parse_cidr(cel_arena(r), cel_text(args[1])) : args[1];
    if (cel_is_error(other))
        return other;
    const struct cel_ip *net = ip_of(args[0]), *inner = ip_of(other);
    unsigned bits = net->bits < inner->bits ? net->bits : inner->bits;
    return cel_ok(net->len == inner->len && same_bits(net, inner, bits) &&
                  net->bits <= inner->bits);
}

CEL_FN(cel_fn_cidr_ip)
{
    return (struct kl_cel_val){.kind = KL_CEL_IP, .p = args[0].p};
}

CEL_FN(cel_fn_cidr_len)
{
    return cel_i(ip_of(args[0])->bits);
}

CEL_FN(cel_fn_cidr_masked)
{
    struct cel_ip *masked = KL_ARENA_NEW(cel_arena(r), struct cel_ip);
    if (!masked)
        return CEL_NO_MEMORY;
    *masked = *ip_of(args[0]);
    for (unsigned bit = masked->bits; bit < masked->len * 8u; bit++)
        masked->bytes[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
    return (struct kl_cel_val){.kind = KL_CEL_CIDR, .p = masked};
}
