// SPDX-License-Identifier: Apache-2.0
// String formats (kube-openapi pkg/validation/strfmt) and which of them count where
// (apiserver/validation/formats.go).
#include "object/cel/url_int.h"
#include "object/crd/crd_int.h"
#include "object/names.h"
#include "object/timestamp.h"
#include "object/validate/validate_int.h"
#include <ctype.h>

// strfmt's: RE2 knows the classes.
#define HOSTNAME                                                                                   \
    "^([a-zA-Z0-9\\p{S}\\p{L}]((-?[a-zA-Z0-9\\p{S}\\p{L}]{0,62})?)|([a-zA-Z0-9\\p{S}\\p{L}]"       \
    "(([a-zA-Z0-9-\\p{S}\\p{L}]{0,61}[a-zA-Z0-9\\p{S}\\p{L}])?)(\\.)){1,}([a-zA-Z\\p{L}]){2,63})$"

static const struct {
    const char *name; // without dashes
    uint8_t format;
} formats[] = {
    {"bsonobjectid", CRD_F_BSON},
    {"uri", CRD_F_URI},
    {"email", CRD_F_EMAIL},
    {"hostname", CRD_F_HOSTNAME},
    {"ipv4", CRD_F_IPV4},
    {"ipv6", CRD_F_IPV6},
    {"cidr", CRD_F_CIDR},
    {"mac", CRD_F_MAC},
    {"uuid", CRD_F_UUID},
    {"uuid3", CRD_F_UUID3},
    {"uuid4", CRD_F_UUID4},
    {"uuid5", CRD_F_UUID5},
    {"isbn", CRD_F_ISBN},
    {"isbn10", CRD_F_ISBN10},
    {"isbn13", CRD_F_ISBN13},
    {"creditcard", CRD_F_CREDITCARD},
    {"ssn", CRD_F_SSN},
    {"hexcolor", CRD_F_HEXCOLOR},
    {"rgbcolor", CRD_F_RGBCOLOR},
    {"byte", CRD_F_BYTE},
    {"password", CRD_F_PASSWORD},
    {"date", CRD_F_DATE},
    {"duration", CRD_F_DURATION},
    {"datetime", CRD_F_DATETIME},
    {"k8sshortname", CRD_F_SHORT_NAME},
    {"k8slongname", CRD_F_LONG_NAME},
};

static bool same_without_dashes(struct kl_str s, const char *z)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '-' && s.p[i] != *z++)
            return false;
    return !*z;
}

enum crd_format crd_format_of(struct kl_str format, uint32_t types)
{
    if (!format.n)
        return CRD_F_NONE;
    if (types == CRD_INTEGER)
        return kl_str_eqz(format, "int32") || kl_str_eqz(format, "int64") ? CRD_F_NONE
                                                                          : CRD_F_UNKNOWN;
    if (types == CRD_NUMBER)
        return kl_str_eqz(format, "float") || kl_str_eqz(format, "double") ? CRD_F_NONE
                                                                           : CRD_F_UNKNOWN;
    // Of several types, as of none, strings' formats count.
    if (types == CRD_OBJECT || types == CRD_ARRAY || types == CRD_BOOLEAN)
        return CRD_F_UNKNOWN;
    for (size_t i = 0; i < KL_COUNT(formats); i++)
        if (same_without_dashes(format, formats[i].name))
            return (enum crd_format)formats[i].format;
    return CRD_F_UNKNOWN;
}

// ---- digits
static bool is_hex(char c)
{
    return isxdigit((unsigned char)c) != 0;
}

// Groups of hexadecimal digits, a dash between two or not.
static bool is_uuid(struct kl_str s, char version)
{
    static const uint8_t groups[] = {8, 4, 4, 4, 12};
    size_t at = 0;
    for (size_t g = 0; g < KL_COUNT(groups); g++) {
        if (g && at < s.n && s.p[at] == '-')
            at++;
        for (size_t i = 0; i < groups[g]; i++, at++) {
            if (at >= s.n || !is_hex(s.p[at]))
                return false;
            if (version && g == 2 && !i && s.p[at] != version)
                return false;
            if (version > '3' && g == 3 && !i && !strchr("89abAB", s.p[at]))
                return false;
        }
    }
    return at == s.n;
}

// What is left without white space and dashes, or without all that is no digit; at most cap bytes.
static size_t keep(struct kl_str s, bool digits, char *to, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool drop = digits ? c < '0' || c > '9' : c == '-' || (c && strchr(" \t\n\f\r", c));
        if (drop)
            continue;
        if (n == cap)
            return cap + 1;
        to[n++] = c;
    }
    return n;
}

static bool all_digits(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] < '0' || p[i] > '9')
            return false;
    return true;
}

static bool is_isbn(struct kl_str s, size_t length)
{
    char d[13];
    int sum = 0;
    if (keep(s, false, d, sizeof d) != length)
        return false;
    if (length == 13) {
        if (!all_digits(d, 13))
            return false;
        for (int i = 0; i < 12; i++)
            sum += (i % 2 ? 3 : 1) * (d[i] - '0');
        return d[12] - '0' == (10 - sum % 10) % 10;
    }
    if (!all_digits(d, 9) || (d[9] != 'X' && !all_digits(d + 9, 1)))
        return false;
    for (int i = 0; i < 9; i++)
        sum += (i + 1) * (d[i] - '0');
    sum += 10 * (d[9] == 'X' ? 10 : d[9] - '0');
    return sum % 11 == 0;
}

static bool is_card_number(const char *d, size_t n)
{
    int two = (d[0] - '0') * 10 + (d[1] - '0'), four = two * 100 + (d[2] - '0') * 10 + (d[3] - '0');
    if (d[0] == '4')
        return n == 13 || n == 16;
    if (two >= 51 && two <= 55)
        return n == 16;
    if (four == 6011 || two == 65)
        return n == 16;
    if (two == 34 || two == 37)
        return n == 15;
    if (four / 10 >= 300 && four / 10 <= 305)
        return n == 14;
    if (two == 36 || two == 38)
        return n == 14;
    if (four == 2131 || four == 1800)
        return n == 15;
    return four / 10 == 35 ? false : four / 100 == 35 && n == 16;
}

static bool is_credit_card(struct kl_str s)
{
    char d[20];
    int sum = 0;
    size_t n = keep(s, true, d, sizeof d);
    if (n < 13 || n > sizeof d || !is_card_number(d, n))
        return false;
    for (size_t i = 0; i < n; i++) {
        int x = d[n - 1 - i] - '0';
        sum += i % 2 == 0 ? x : x * 2 > 9 ? x * 2 - 9 : x * 2;
    }
    return sum % 10 == 0;
}

static bool is_ssn(struct kl_str s)
{
    return s.n == 11 && all_digits(s.p, 3) && (s.p[3] == '-' || s.p[3] == ' ') &&
           all_digits(s.p + 4, 2) && (s.p[6] == '-' || s.p[6] == ' ') && all_digits(s.p + 7, 4);
}

static bool is_hex_color(struct kl_str s)
{
    if (s.n && s.p[0] == '#')
        s = kl_str_from(s, 1);
    for (size_t i = 0; i < s.n; i++)
        if (!is_hex(s.p[i]))
            return false;
    return s.n == 3 || s.n == 6;
}

static size_t skip_spaces(struct kl_str s, size_t at)
{
    while (at < s.n && s.p[at] && strchr(" \t\n\f\r", s.p[at]))
        at++;
    return at;
}

static bool is_rgb_color(struct kl_str s)
{
    size_t at = 4;
    if (!kl_str_starts(s, KL_STR("rgb(")))
        return false;
    for (int i = 0; i < 3; i++) {
        int value = 0;
        at = skip_spaces(s, at);
        size_t from = at;
        for (; at < s.n && at < from + 3 && s.p[at] >= '0' && s.p[at] <= '9'; at++)
            value = value * 10 + (s.p[at] - '0');
        if (at == from || value > 255 || (s.p[from] == '0' && at > from + 1))
            return false;
        at = skip_spaces(s, at);
        if (at >= s.n || s.p[at++] != (i < 2 ? ',' : ')'))
            return false;
    }
    return at == s.n;
}

// ---- addresses
// net.ParseMAC
static bool is_mac(struct kl_str s)
{
    bool dots = s.n > 4 && s.p[4] == '.';
    size_t group = dots ? 4 : 2, n = 0, at = 0;
    char sep = dots ? '.' : s.n > 2 ? s.p[2] : 0;
    if (!dots && sep != ':' && sep != '-')
        return false;
    for (;; n++) {
        for (size_t i = 0; i < group; i++, at++)
            if (at >= s.n || !is_hex(s.p[at]))
                return false;
        if (at == s.n)
            break;
        if (s.p[at++] != sep)
            return false;
    }
    n = (n + 1) * (dots ? 2 : 1);
    return n == 6 || n == 8 || n == 20;
}

static bool is_strict_ipv6(struct kl_str s)
{
    // net.ParseIP: no leading zeros in a dotted tail.
    for (size_t i = 1; i + 1 < s.n; i++)
        if (s.p[i] == '0' && (s.p[i - 1] == '.' || s.p[i - 1] == ':') && isdigit(s.p[i + 1]) &&
            memchr(s.p + i, '.', s.n - i))
            return false;
    return kl_str_chr(s, ':') >= 0 && kl_v_ip_family(s) != 0;
}

// ---- times
static bool is_date(struct kl_str s)
{
    char text[sizeof "2006-01-02T00:00:00Z"];
    int64_t us;
    struct kl_error ignored;
    if (s.n != 10)
        return false;
    memcpy(text, s.p, 10);
    memcpy(text + 10, "T00:00:00Z", 11);
    return kl_time_parse((struct kl_str){text, 20}, &us, &ignored) == 0;
}

// strfmt.IsDateTime: date, "t", hh:mm:ss, a fraction after any byte, a zone.
static bool is_date_time(struct kl_str s)
{
    size_t t = 0, at;
    while (t < s.n && s.p[t] != 't' && s.p[t] != 'T')
        t++;
    if (t == s.n || !is_date((struct kl_str){s.p, t}))
        return false;
    struct kl_str clock = kl_str_from(s, t + 1);
    for (size_t i = 0; i < clock.n; i++)
        if (clock.p[i] == 't' || clock.p[i] == 'T')
            clock.n = i;
    if (clock.n < 9 || !all_digits(clock.p, 2) || clock.p[2] != ':' ||
        !all_digits(clock.p + 3, 2) || clock.p[5] != ':' || !all_digits(clock.p + 6, 2))
        return false;
    if (memcmp(clock.p, "23", 2) > 0 || clock.p[3] > '5' || clock.p[6] > '5')
        return false;
    at = 8;
    // The fraction's point is any byte in upstream's pattern; digits have to follow it.
    size_t zone = at;
    for (int with = 1; with >= 0; with--) {
        zone = at;
        if (with) {
            size_t d = at + 1;
            while (d < clock.n && isdigit((unsigned char)clock.p[d]))
                d++;
            if (d == at + 1 || clock.p[at] == '\n')
                continue;
            zone = d;
        }
        struct kl_str z = kl_str_from(clock, zone);
        if (z.n == 1 && (z.p[0] == 'z' || z.p[0] == 'Z'))
            return true;
        if (z.n == 6 && (z.p[0] == '+' || z.p[0] == '-') && all_digits(z.p + 1, 2) &&
            z.p[3] == ':' && all_digits(z.p + 4, 2))
            return true;
    }
    return false;
}

static bool is_unit(struct kl_str unit)
{
    // The last name of each unit is a prefix of what may stand.
    static const char *const whole[] = {"ns", "us", "\xc2\xb5s", "ms", "s", "m",
                                        "h",  "hr", "d",         "w",  "wk"};
    static const char *const prefix[] = {"nano", "micro", "milli", "sec",
                                         "min",  "hour",  "day",   "week"};
    for (size_t i = 0; i < KL_COUNT(whole); i++)
        if (kl_str_ieq(unit, kl_str(whole[i])))
            return true;
    for (size_t i = 0; i < KL_COUNT(prefix); i++) {
        size_t n = strlen(prefix[i]);
        if (unit.n >= n && kl_str_ieq((struct kl_str){unit.p, n}, kl_str(prefix[i])))
            return true;
    }
    return false;
}

// Go's, or any number with a unit somewhere in the text.
static bool is_duration(struct kl_str s)
{
    int64_t ns;
    bool found = false;
    if (kl_duration_parse(s, &ns) == 0)
        return true;
    for (size_t i = 0; i < s.n;) {
        size_t from = i;
        while (i < s.n && isdigit((unsigned char)s.p[i]))
            i++;
        if (i == from) {
            i++;
            continue;
        }
        struct kl_str number = {s.p + from, i - from};
        size_t at = skip_spaces(s, i), unit = at;
        while (at < s.n && (isalpha((unsigned char)s.p[at]) ||
                            (s.p[at] == '\xc2' && at + 1 < s.n && s.p[at + 1] == '\xb5')))
            at += s.p[at] == '\xc2' ? 2 : 1;
        if (at == unit)
            continue;
        i = at;
        if (!kl_str_to_i64(number, &ns))
            return false;
        found |= is_unit((struct kl_str){s.p + unit, at - unit});
    }
    return found;
}

// ---- names
static bool is_hostname(struct kl_str s, struct kl_crd_schema *cache, struct kl_arena *a)
{
    struct kl_str ignored, rest = s, part;
    bool match;
    if (crd_pattern_match(cache, KL_STR(HOSTNAME), s, a, &match, &ignored) || !match || s.n > 255)
        return false;
    while (kl_str_split(&rest, '.', &part))
        if (part.n > 63)
            return false;
    return true;
}

// Segments of lower-case letters, digits and inner dashes.
static bool is_name(struct kl_str s, size_t max, bool dots)
{
    struct kl_str rest = s, part;
    if (!s.n || s.n > max || (!dots && kl_str_chr(s, '.') >= 0))
        return false;
    while (kl_str_split(&rest, '.', &part)) {
        if (!part.n || part.p[0] == '-' || part.p[part.n - 1] == '-')
            return false;
        for (size_t i = 0; i < part.n; i++)
            if (!islower((unsigned char)part.p[i]) && !isdigit((unsigned char)part.p[i]) &&
                part.p[i] != '-')
                return false;
    }
    return true;
}

static bool is_object_id(struct kl_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_hex(s.p[i]))
            return false;
    return s.n == 24;
}

bool crd_format_valid(enum crd_format format, struct kl_str s, struct kl_crd_schema *cache,
                      struct kl_arena *a)
{
    switch (format) {
    case CRD_F_BSON:
        return is_object_id(s);
    case CRD_F_URI:
        return cel_url_parse(a, s, NULL) == NULL;
    case CRD_F_EMAIL:
        return crd_is_email(s);
    case CRD_F_HOSTNAME:
        return is_hostname(s, cache, a);
    case CRD_F_IPV4:
        return kl_str_chr(s, '.') >= 0 && kl_v_ip_family(s) != 0;
    case CRD_F_IPV6:
        return is_strict_ipv6(s);
    case CRD_F_CIDR:
        return kl_v_cidr_family(s) != 0;
    case CRD_F_MAC:
        return is_mac(s);
    case CRD_F_UUID:
        return is_uuid(s, 0);
    case CRD_F_UUID3:
        return is_uuid(s, '3');
    case CRD_F_UUID4:
        return is_uuid(s, '4');
    case CRD_F_UUID5:
        return is_uuid(s, '5');
    case CRD_F_ISBN:
        return is_isbn(s, 10) || is_isbn(s, 13);
    case CRD_F_ISBN10:
        return is_isbn(s, 10);
    case CRD_F_ISBN13:
        return is_isbn(s, 13);
    case CRD_F_CREDITCARD:
        return is_credit_card(s);
    case CRD_F_SSN:
        return is_ssn(s);
    case CRD_F_HEXCOLOR:
        return is_hex_color(s);
    case CRD_F_RGBCOLOR:
        return is_rgb_color(s);
    case CRD_F_BYTE:
        return kl_is_base64(s);
    case CRD_F_DATE:
        return is_date(s);
    case CRD_F_DURATION:
        return is_duration(s);
    case CRD_F_DATETIME:
        return is_date_time(s);
    case CRD_F_SHORT_NAME:
        return is_name(s, 63, false);
    case CRD_F_LONG_NAME:
        return is_name(s, 253, true);
    default:
        return true;
    }
}
