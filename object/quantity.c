// SPDX-License-Identifier: Apache-2.0
#include "object/quantity.h"
#include <limits.h>

typedef unsigned __int128 u128;

#define NANO_PER_UNIT 1000000000
#define NANO_MAX ((__int128)(~(u128)0 >> 1))
// Upstream computes in int64 up to this many digits and in unbounded decimals above.
#define FAST_DIGITS 18
// Digits of a binary quantity's fraction that count exactly; later ones only as "not zero".
#define FRACTION_DIGITS 256

#define FORMAT_TEXT                                                                                \
    "quantities must match the regular expression "                                                \
    "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
#define NUMERIC_TEXT "unable to parse numeric part of quantity"
#define SUFFIX_TEXT "unable to parse quantity's suffix"

enum { DECIMAL_SI, BINARY_SI, DECIMAL_EXPONENT };

// A quantity's text in its parts.
struct parts {
    struct kl_str num,
        denom; // digits before (without leading zeros, "0" for none) and after the dot
    struct kl_str suffix;
    bool negative;
    bool has_digits;
    uint8_t format;
    int32_t exponent; // of ten, or of two for BINARY_SI
};

struct parsed {
    struct kl_quantity q;
    struct parts parts;
    bool keep;      // upstream prints the text as it was given
    bool saturated; // q.nano is not exact
    int64_t exp10;  // of all digits as a whole number, when it is saturated
};

static const u128 pow10_table[19] = {1,
                                     10,
                                     100,
                                     1000,
                                     10000,
                                     100000,
                                     1000000,
                                     10000000,
                                     100000000,
                                     1000000000,
                                     10000000000,
                                     100000000000,
                                     1000000000000,
                                     10000000000000,
                                     100000000000000,
                                     1000000000000000,
                                     10000000000000000,
                                     100000000000000000,
                                     1000000000000000000};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_suffix_letter(char c)
{
    switch (c) {
    case 'e':
    case 'E':
    case 'i':
    case 'n':
    case 'u':
    case 'm':
    case 'k':
    case 'K':
    case 'M':
    case 'G':
    case 'T':
    case 'P':
        return true;
    default:
        return false;
    }
}

static struct kl_str take_digits(struct kl_str s, size_t *pos)
{
    size_t start = *pos;
    while (*pos < s.n && is_digit(s.p[*pos]))
        (*pos)++;
    return (struct kl_str){s.p + start, *pos - start};
}

// parseQuantityString: more lenient than the expression that its error names (".", "+", "5." pass).
static bool split_text(struct kl_str s, struct parts *p)
{
    size_t pos = 0;
    if (s.p[0] == '-' || s.p[0] == '+') {
        p->negative = s.p[0] == '-';
        pos++;
    }
    size_t zeros = pos;
    while (pos < s.n && s.p[pos] == '0')
        pos++;
    p->num = take_digits(s, &pos);
    p->has_digits = pos > zeros;
    if (p->num.n == 0)
        p->num = KL_STR("0");
    if (pos < s.n && s.p[pos] == '.') {
        pos++;
        p->denom = take_digits(s, &pos);
        p->has_digits = p->has_digits || p->denom.n;
    }
    p->suffix = kl_str_from(s, pos);
    while (pos < s.n && is_suffix_letter(s.p[pos]))
        pos++;
    if (pos < s.n && (s.p[pos] == '-' || s.p[pos] == '+'))
        pos++;
    take_digits(s, &pos);
    return pos == s.n;
}

static int thousands(char c)
{
    switch (c) {
    case 'K':
        return 1;
    case 'M':
        return 2;
    case 'G':
        return 3;
    case 'T':
        return 4;
    case 'P':
        return 5;
    case 'E':
        return 6;
    default:
        return 0;
    }
}

static bool read_suffix(struct parts *p)
{
    struct kl_str s = p->suffix;
    if (s.n == 0) {
        p->exponent = 0;
        return true;
    }
    if (s.n == 1) {
        switch (s.p[0]) {
        case 'n':
            p->exponent = -9;
            return true;
        case 'u':
            p->exponent = -6;
            return true;
        case 'm':
            p->exponent = -3;
            return true;
        case 'k':
            p->exponent = 3;
            return true;
        case 'K':
            return false;
        default:
            p->exponent = 3 * thousands(s.p[0]);
            return p->exponent != 0;
        }
    }
    if (s.n == 2 && s.p[1] == 'i' && thousands(s.p[0])) {
        p->format = BINARY_SI;
        p->exponent = 10 * thousands(s.p[0]);
        return true;
    }
    if (s.p[0] != 'e' && s.p[0] != 'E')
        return false;
    struct kl_str digits = kl_str_from(s, 1);
    if (digits.p[0] == '+') {
        digits = kl_str_from(digits, 1);
        if (digits.n == 0 || !is_digit(digits.p[0]))
            return false;
    }
    int64_t e;
    if (!kl_str_to_i64(digits, &e))
        return false;
    p->format = DECIMAL_EXPONENT;
    p->exponent = (int32_t)e; // cut to 32 bits, as upstream does
    return true;
}

static int64_t digits_to_i64(struct kl_str a, struct kl_str b)
{
    int64_t v = 0;
    for (size_t i = 0; i < a.n; i++)
        v = v * 10 + (a.p[i] - '0');
    for (size_t i = 0; i < b.n; i++)
        v = v * 10 + (b.p[i] - '0');
    return v;
}

static char digit_at(const struct parts *p, size_t i)
{
    return i < p->num.n ? p->num.p[i] : p->denom.p[i - p->num.n];
}

// v * 10^e, or false when that is over NANO_MAX.
static bool scale_up(u128 *v, int64_t e)
{
    if (*v == 0)
        return true;
    while (e > 0) {
        int step = e > 18 ? 18 : (int)e;
        if (__builtin_mul_overflow(*v, pow10_table[step], v) || *v > (u128)NANO_MAX)
            return false;
        e -= step;
    }
    return true;
}

// The decimal digits times 10^exp10 in units of 10^-9, rounded up.
static bool decimal_nano(const struct parts *p, int64_t exp10, u128 *ret)
{
    size_t n = p->num.n + p->denom.n;
    size_t keep = n;
    int64_t shift = exp10 + 9;
    if (shift < 0)
        keep = (size_t)-shift >= n ? 0 : n - (size_t)-shift;
    u128 v = 0;
    for (size_t i = 0; i < keep; i++) {
        if (__builtin_mul_overflow(v, (u128)10, &v) || v > (u128)NANO_MAX - 9)
            return false;
        v += (u128)(digit_at(p, i) - '0');
    }
    for (size_t i = keep; i < n; i++) {
        if (digit_at(p, i) != '0') {
            v++;
            break;
        }
    }
    *ret = v;
    return shift <= 0 || scale_up(ret, shift);
}

// num.denom * 2^exponent in units of 10^-9, rounded up and capped at the largest int64.
static u128 binary_nano(const struct parts *p)
{
    const u128 cap = (u128)INT64_MAX * NANO_PER_UNIT;
    if (p->num.n > 19)
        return cap;
    u128 whole = 0;
    for (size_t i = 0; i < p->num.n; i++)
        whole = whole * 10 + (u128)(p->num.p[i] - '0');
    if (whole > (u128)INT64_MAX >> p->exponent)
        return cap;
    whole <<= p->exponent;
    // The fraction as decimal digits, multiplied by 2^10 pass by pass.
    uint8_t frac[FRACTION_DIGITS];
    size_t n = p->denom.n < FRACTION_DIGITS ? p->denom.n : FRACTION_DIGITS;
    bool rest = false;
    for (size_t i = 0; i < n; i++)
        frac[i] = (uint8_t)(p->denom.p[i] - '0');
    for (size_t i = n; i < p->denom.n && !rest; i++)
        rest = p->denom.p[i] != '0';
    uint64_t above = 0;
    for (int e = 0; e < p->exponent; e += 10) {
        uint32_t carry = 0;
        for (size_t i = n; i-- > 0;) {
            uint32_t d = frac[i] * 1024u + carry;
            frac[i] = (uint8_t)(d % 10);
            carry = d / 10;
        }
        above = above * 1024 + carry;
    }
    u128 v = (whole + above) * NANO_PER_UNIT;
    uint32_t nano = 0;
    for (size_t i = 0; i < 9; i++)
        nano = nano * 10 + (i < n ? frac[i] : 0u);
    for (size_t i = 9; i < n && !rest; i++)
        rest = frac[i] != 0;
    v += nano + (rest ? 1u : 0u);
    return v > cap ? cap : v;
}

static void set_amount(struct parsed *r, u128 nano)
{
    r->q.nano = r->parts.negative ? -(__int128)nano : (__int128)nano;
    r->q.format = r->parts.format;
}

// The path upstream takes for what fits an int64; false when it would go on to big decimals.
static bool parse_fast(struct parsed *r)
{
    struct parts *p = &r->parts;
    size_t digits = p->num.n + p->denom.n;
    if (p->format == BINARY_SI) {
        if (p->denom.n || (int64_t)p->num.n > 15 - 1 - p->exponent * 3 / 10)
            return false;
        int64_t v = digits_to_i64(p->num, p->denom);
        r->keep = (v & 7) != 0;
        set_amount(r, ((u128)v << p->exponent) * NANO_PER_UNIT);
        return true;
    }
    if (digits > FAST_DIGITS)
        return false;
    int32_t scale = (int32_t)((uint32_t)p->exponent - (uint32_t)p->denom.n);
    if (scale < -9)
        return false;
    int64_t v = digits_to_i64(p->num, p->denom);
    u128 nano = (u128)v;
    r->saturated = !scale_up(&nano, (int64_t)scale + 9);
    r->exp10 = scale; // as it wrapped: what is printed must be what was read
    set_amount(r, r->saturated ? (u128)NANO_MAX : nano);
    // Wider than the canonical form: upstream keeps "1.500" and "+1" as well.
    if (scale % 3 == 0 && p->num.p[0] != '0') {
        r->keep = digits < 3 || digit_at(p, digits - 1) != '0' || digit_at(p, digits - 2) != '0' ||
                  digit_at(p, digits - 3) != '0';
    }
    return true;
}

static int parse_text(struct kl_str s, struct parsed *r, struct kl_error *err)
{
    memset(r, 0, sizeof(*r));
    if (s.n == 0 || !split_text(s, &r->parts))
        return kl_error_set(err, KL_EBADREQUEST, FORMAT_TEXT);
    if (!read_suffix(&r->parts))
        return kl_error_set(err, KL_EBADREQUEST, SUFFIX_TEXT);
    if (parse_fast(r))
        return 0;
    struct parts *p = &r->parts;
    if (!p->has_digits)
        return kl_error_set(err, KL_EBADREQUEST, NUMERIC_TEXT);
    u128 nano;
    if (p->format == BINARY_SI) {
        nano = binary_nano(p);
        if (nano < NANO_PER_UNIT && nano > 0)
            p->format = DECIMAL_SI;
    } else if (!decimal_nano(p, (int64_t)p->exponent - (int64_t)p->denom.n, &nano)) {
        nano = (u128)NANO_MAX;
        r->saturated = true;
        r->exp10 = (int64_t)p->exponent - (int64_t)p->denom.n;
    }
    set_amount(r, nano);
    return 0;
}

int kl_quantity_parse(struct kl_str s, struct kl_quantity *ret, struct kl_error *err)
{
    struct parsed r;
    int rc = parse_text(s, &r, err);
    if (rc == 0)
        *ret = r.q;
    return rc;
}

static size_t put_u128(char *out, u128 v)
{
    char tmp[40];
    size_t n = 0;
    while (v > UINT64_MAX) {
        tmp[n++] = (char)('0' + (int)(v % 10));
        v /= 10;
    }
    for (uint64_t u = (uint64_t)v; u || n == 0; u /= 10)
        tmp[n++] = (char)('0' + (int)(u % 10));
    for (size_t i = 0; i < n; i++)
        out[i] = tmp[n - 1 - i];
    return n;
}

static size_t put_i64(char *out, int64_t v)
{
    size_t n = 0;
    if (v < 0)
        out[n++] = '-';
    return n + put_u128(out + n, v < 0 ? -(u128)v : (u128)v);
}

// Upstream's table of suffixes has none above E (10^18) and Ei (2^60): it prints the bare number.
static size_t put_decimal_suffix(char *out, uint8_t format, int64_t exp10)
{
    static const char si[] = "num kMGTPE";
    if (exp10 == 0)
        return 0;
    if (format == DECIMAL_EXPONENT) {
        out[0] = 'e';
        return 1 + put_i64(out + 1, exp10);
    }
    if (exp10 > 18)
        return 0;
    out[0] = si[exp10 / 3 + 3];
    return 1;
}

size_t kl_quantity_text(const struct kl_quantity *q, char ret[KL_QUANTITY_TEXT])
{
    static const char binary[] = " KMGTPE";
    size_t n = 0;
    u128 v = q->nano < 0 ? -(u128)q->nano : (u128)q->nano;
    if (v == 0) {
        ret[0] = '0';
        ret[1] = 0;
        return 1;
    }
    if (q->nano < 0)
        ret[n++] = '-';
    if (q->format == BINARY_SI && v >= (u128)1024 * NANO_PER_UNIT && v % NANO_PER_UNIT == 0) {
        int e = 0;
        for (v /= NANO_PER_UNIT; v % 1024 == 0; v /= 1024)
            e++;
        n += put_u128(ret + n, v);
        if (e > 0 && e <= 6) {
            ret[n++] = binary[e];
            ret[n++] = 'i';
        }
        ret[n] = 0;
        return n;
    }
    int64_t exp10 = -9;
    for (; v > UINT64_MAX && v % 1000 == 0; v /= 1000)
        exp10 += 3;
    if (v <= UINT64_MAX) {
        uint64_t u = (uint64_t)v;
        for (; u % 1000 == 0; u /= 1000)
            exp10 += 3;
        v = u;
    }
    n += put_u128(ret + n, v);
    n += put_decimal_suffix(ret + n, q->format == BINARY_SI ? DECIMAL_SI : q->format, exp10);
    ret[n] = 0;
    return n;
}

// The canonical form of a decimal beyond NANO_MAX, worked out on its digits.
static int write_huge(struct kl_arena *a, const struct parsed *r, struct kl_str *ret)
{
    const struct parts *p = &r->parts;
    size_t n = p->num.n + p->denom.n;
    int64_t exp10 = r->exp10;
    char *out = kl_arena_alloc(a, n + 2 + 2 + 24); // sign, carry, zeros, exponent
    if (!out)
        return KL_ENOMEM;
    char *d = out + 2;
    memcpy(d, p->num.p, p->num.n);
    if (p->denom.n)
        memcpy(d + p->num.n, p->denom.p, p->denom.n);
    if (exp10 < -9) {
        size_t drop = (size_t)(-9 - exp10), kept = drop < n ? n - drop : 0;
        bool up = false;
        for (size_t i = kept; i < n && !up; i++)
            up = d[i] != '0';
        n = kept;
        exp10 = -9;
        if (up) {
            size_t i = n;
            while (i > 0 && d[i - 1] == '9')
                d[--i] = '0';
            if (i > 0) {
                d[i - 1]++;
            } else {
                *--d = '1';
                n++;
            }
        }
    }
    while (n > 1 && d[n - 1] == '0') {
        n--;
        exp10++;
    }
    while (exp10 % 3 != 0) {
        d[n++] = '0';
        exp10--;
    }
    while (n > 1 && d[0] == '0') {
        d++;
        n--;
    }
    if (p->negative) {
        *--d = '-';
        n++;
    }
    n += put_decimal_suffix(d + n, p->format, exp10);
    *ret = (struct kl_str){d, n};
    return 0;
}

int kl_quantity_normalize(struct kl_arena *a, struct kl_str s, struct kl_str *ret,
                          struct kl_error *err)
{
    struct parsed r;
    int rc = parse_text(s, &r, err);
    if (rc < 0)
        return rc;
    if (r.keep) {
        *ret = s;
        return 0;
    }
    if (r.q.nano == 0) {
        *ret = KL_STR("0");
        return 0;
    }
    if (r.saturated) {
        rc = write_huge(a, &r, ret);
        return rc < 0 ? kl_error_set(err, rc, "out of memory") : 0;
    }
    char text[KL_QUANTITY_TEXT];
    size_t n = kl_quantity_text(&r.q, text);
    if (n == s.n && memcmp(text, s.p, n) == 0) {
        *ret = s;
        return 0;
    }
    struct kl_str copy = kl_arena_dup(a, (struct kl_str){text, n});
    if (!copy.p)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    *ret = copy;
    return 0;
}

int kl_quantity_cmp(const struct kl_quantity *a, const struct kl_quantity *b)
{
    return (a->nano > b->nano) - (a->nano < b->nano);
}

// Away from zero, as upstream's int64 amounts round.
static int64_t round_up(__int128 nano, int64_t per)
{
    __int128 v = nano / per;
    if (v * per != nano)
        v += nano < 0 ? -1 : 1;
    if (v > INT64_MAX)
        return INT64_MAX;
    return v < INT64_MIN ? INT64_MIN : (int64_t)v;
}

int64_t kl_quantity_value(const struct kl_quantity *q)
{
    return round_up(q->nano, NANO_PER_UNIT);
}

int64_t kl_quantity_milli(const struct kl_quantity *q)
{
    return round_up(q->nano, NANO_PER_UNIT / 1000);
}

// A zero takes over the format of what is added to it, as upstream's does.
void kl_quantity_add(struct kl_quantity *a, const struct kl_quantity *b)
{
    if (a->nano == 0)
        a->format = b->format;
    if (__builtin_add_overflow(a->nano, b->nano, &a->nano))
        a->nano = b->nano < 0 ? -NANO_MAX : NANO_MAX;
}

void kl_quantity_sub(struct kl_quantity *a, const struct kl_quantity *b)
{
    if (a->nano == 0)
        a->format = b->format;
    if (__builtin_sub_overflow(a->nano, b->nano, &a->nano))
        a->nano = b->nano < 0 ? NANO_MAX : -NANO_MAX;
}

int64_t kl_quantity_milli_of(struct kl_str s)
{
    struct kl_quantity q;
    return s.n && kl_quantity_parse(s, &q, NULL) == 0 ? kl_quantity_milli(&q) : 0;
}

int64_t kl_quantity_value_of(struct kl_str s)
{
    struct kl_quantity q;
    return s.n && kl_quantity_parse(s, &q, NULL) == 0 ? kl_quantity_value(&q) : 0;
}
