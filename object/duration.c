// SPDX-License-Identifier: Apache-2.0
// Durations of timestamp.h.
#include "object/json_int.h"
#include "object/timestamp.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// Nanoseconds of the unit at the start of s (up to the next digit or dot), 0 when there is none.
static uint64_t take_unit(struct kl_str *s)
{
    static const struct {
        struct kl_str name;
        uint64_t ns;
    } units[] = {
        {KL_STR_INIT("ns"), 1},           {KL_STR_INIT("us"), 1000},
        {KL_STR_INIT("\xc2\xb5s"), 1000}, // U+00B5 micro sign
        {KL_STR_INIT("\xce\xbcs"), 1000}, // U+03BC Greek mu
        {KL_STR_INIT("ms"), 1000000},     {KL_STR_INIT("s"), 1000000000},
        {KL_STR_INIT("m"), 60000000000},  {KL_STR_INIT("h"), 3600000000000},
    };
    size_t n = 0;
    while (n < s->n && s->p[n] != '.' && !is_digit(s->p[n]))
        n++;
    struct kl_str name = {s->p, n};
    *s = kl_str_from(*s, n);
    for (size_t i = 0; i < KL_COUNT(units); i++)
        if (kl_str_eq(name, units[i].name))
            return units[i].ns;
    return 0;
}

#define DURATION_LIMIT (UINT64_C(1) << 63)

// One "12.5h" of a duration.
static bool take_term(struct kl_str *s, uint64_t *ret_ns)
{
    uint64_t v = 0, f = 0;
    double scale = 1;
    size_t digits = 0;
    while (s->n && is_digit(s->p[0])) {
        uint64_t d = (uint64_t)(s->p[0] - '0');
        if (v > DURATION_LIMIT / 10 || v * 10 + d > DURATION_LIMIT)
            return false;
        v = v * 10 + d;
        *s = kl_str_from(*s, 1);
        digits++;
    }
    if (s->n && s->p[0] == '.') {
        bool full = false; // further digits are below what 63 bits hold
        *s = kl_str_from(*s, 1);
        while (s->n && is_digit(s->p[0])) {
            uint64_t d = (uint64_t)(s->p[0] - '0');
            full = full || f > (DURATION_LIMIT - 1) / 10 || f * 10 + d > DURATION_LIMIT;
            if (!full) {
                f = f * 10 + d;
                scale *= 10;
            }
            *s = kl_str_from(*s, 1);
            digits++;
        }
    }
    uint64_t unit = digits ? take_unit(s) : 0;
    if (unit == 0 || v > DURATION_LIMIT / unit)
        return false;
    v *= unit;
    if (f > 0)
        v += (uint64_t)((double)f * ((double)unit / scale));
    *ret_ns = v;
    return v <= DURATION_LIMIT;
}

int kl_duration_parse(struct kl_str s, int64_t *ret_ns)
{
    bool negative = false;
    if (s.n && (s.p[0] == '-' || s.p[0] == '+')) {
        negative = s.p[0] == '-';
        s = kl_str_from(s, 1);
    }
    if (s.n == 0)
        return KL_EINVALID;
    if (kl_str_eq(s, KL_STR("0"))) {
        *ret_ns = 0;
        return 0;
    }
    uint64_t sum = 0;
    while (s.n) {
        uint64_t term;
        if (!take_term(&s, &term))
            return KL_EINVALID;
        sum += term;
        if (sum > DURATION_LIMIT)
            return KL_EINVALID;
    }
    if (!negative && sum == DURATION_LIMIT)
        return KL_EINVALID;
    *ret_ns = (int64_t)(negative ? -sum : sum);
    return 0;
}

static size_t number_length(struct kl_str s)
{
    size_t n = 0;
    while (n < s.n && ((s.p[n] >= '0' && s.p[n] <= '9') || s.p[n] == '.'))
        n++;
    return n;
}

void kl_duration_complaint(struct kl_buf *out, struct kl_str text)
{
    static const char *const units[] = {"ns", "us", "\xc2\xb5s", "\xce\xbcs", "ms", "s", "m", "h"};
    struct kl_str rest = text, unit = {"", 0};
    if (rest.n && (rest.p[0] == '-' || rest.p[0] == '+'))
        rest = kl_str_from(rest, 1);
    bool number = false, known = true;
    while (rest.n && known) {
        size_t n = number_length(rest);
        number = n > 0 && !(n == 1 && rest.p[0] == '.');
        if (!number)
            break;
        unit = rest = kl_str_from(rest, n);
        unit.n = 0;
        while (unit.n < rest.n && unit.p[unit.n] != '.' &&
               (unit.p[unit.n] < '0' || unit.p[unit.n] > '9'))
            unit.n++;
        known = false;
        for (size_t i = 0; i < KL_COUNT(units); i++)
            known |= kl_str_eqz(unit, units[i]);
        rest = kl_str_from(rest, unit.n);
    }
    kl_buf_puts(out, KL_STR("time: "));
    if (number && !known && unit.n) {
        kl_buf_puts(out, KL_STR("unknown unit "));
        kl_json_put_go_quoted(out, unit);
        kl_buf_puts(out, KL_STR(" in duration "));
    } else if (number && !known) {
        kl_buf_puts(out, KL_STR("missing unit in duration "));
    } else {
        kl_buf_puts(out, KL_STR("invalid duration "));
    }
    kl_json_put_go_quoted(out, text);
}

// v in units of 10^-places, without trailing zeros of the fraction.
static char *put_fixed(char *p, uint64_t v, int places)
{
    uint64_t unit = 1;
    for (int i = 0; i < places; i++)
        unit *= 10;
    p = kl_put_decimal(p, v / unit);
    uint64_t frac = v % unit;
    if (frac == 0)
        return p;
    *p++ = '.';
    for (; frac; frac %= unit) {
        unit /= 10;
        *p++ = (char)('0' + (int)(frac / unit));
    }
    return p;
}

size_t kl_duration_text(int64_t ns, char ret[KL_TIME_TEXT])
{
    uint64_t u = ns < 0 ? -(uint64_t)ns : (uint64_t)ns;
    char *p = ret;
    if (ns < 0)
        *p++ = '-';
    if (u == 0) {
        *p++ = '0';
    } else if (u < 1000) {
        p = kl_put_decimal(p, u);
        *p++ = 'n';
    } else if (u < 1000000) {
        p = put_fixed(p, u, 3);
        *p++ = '\xc2';
        *p++ = '\xb5';
    } else if (u < 1000000000) {
        p = put_fixed(p, u, 6);
        *p++ = 'm';
    } else {
        uint64_t minutes = u / 60000000000;
        if (minutes >= 60) {
            p = kl_put_decimal(p, minutes / 60);
            *p++ = 'h';
        }
        if (minutes) {
            p = kl_put_decimal(p, minutes % 60);
            *p++ = 'm';
        }
        p = put_fixed(p, u % 60000000000, 9);
    }
    *p++ = 's';
    *p = 0;
    return (size_t)(p - ret);
}

// "3h" or, unless the second number is zero, "3h5m".
static char *put_pair(char *p, int64_t a, char a_unit, int64_t b, char b_unit)
{
    p = kl_put_decimal(p, (uint64_t)a);
    *p++ = a_unit;
    if (b) {
        p = kl_put_decimal(p, (uint64_t)b);
        *p++ = b_unit;
    }
    return p;
}

size_t kl_human_duration(int64_t seconds, char ret[KL_TIME_TEXT])
{
    static const char invalid[] = "<invalid>";
    if (seconds < -1) {
        memcpy(ret, invalid, sizeof(invalid));
        return sizeof(invalid) - 1;
    }
    int64_t s = seconds < 0 ? 0 : seconds;
    int64_t minutes = s / 60, hours = s / 3600, days = s / 86400;
    char *p;
    if (s < 120)
        p = put_pair(ret, s, 's', 0, 0);
    else if (minutes < 180)
        p = put_pair(ret, minutes, 'm', minutes < 10 ? s % 60 : 0, 's');
    else if (hours < 48)
        p = put_pair(ret, hours, 'h', hours < 8 ? minutes % 60 : 0, 'm');
    else if (days < 365 * 2)
        p = put_pair(ret, days, 'd', days < 8 ? hours % 24 : 0, 'h');
    else
        p = put_pair(ret, days / 365, 'y', days < 365 * 8 ? days % 365 : 0, 'd');
    *p = 0;
    return (size_t)(p - ret);
}
