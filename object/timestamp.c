// SPDX-License-Identifier: Apache-2.0
#include "object/timestamp.h"

#define US_PER_SECOND INT64_C(1000000)
#define SECONDS_PER_DAY INT64_C(86400)
#define RFC3339 "2006-01-02T15:04:05Z07:00"
#define RFC3339_MICRO "2006-01-02T15:04:05.000000Z07:00"

// Days from 1970-01-01 of a date in the proleptic Gregorian calendar, counted in years that start
// in March so that the leap day is a year's last one.
static int64_t days_of_date(int64_t year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

struct date {
    int64_t year;
    int month, day;
};

static struct date date_of_days(int64_t days)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    int month = (int)(mp < 10 ? mp + 3 : mp - 9);
    return (struct date){yoe + era * 400 + (month <= 2), month,
                         (int)(doy - (153 * mp + 2) / 5 + 1)};
}

static int days_in_month(int month, int64_t year)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// What is left of the text, the layout element that did not fit, and Go's remark.
struct cursor {
    struct kl_str rest;
    struct kl_str hold;  // rest when the element began
    const char *element; // NULL: all fitted so far
    const char *remark;
};

static void fail_at(struct cursor *c, const char *element)
{
    c->element = element;
    c->rest = c->hold;
}

static void skip_literal(struct cursor *c, char literal, const char *element)
{
    if (c->element)
        return;
    c->hold = c->rest;
    if (c->rest.n == 0 || c->rest.p[0] != literal)
        fail_at(c, element);
    else
        c->rest = kl_str_from(c->rest, 1);
}

// One or two digits (`fixed`: just two) of a value in [low, high].
static int take_number(struct cursor *c, bool fixed, int low, int high, const char *element,
                       const char *range)
{
    if (c->element)
        return 0;
    c->hold = c->rest;
    struct kl_str s = c->rest;
    bool two = s.n > 1 && is_digit(s.p[1]);
    if (s.n == 0 || !is_digit(s.p[0]) || (fixed && !two)) {
        fail_at(c, element);
        return 0;
    }
    int v = two ? (s.p[0] - '0') * 10 + (s.p[1] - '0') : s.p[0] - '0';
    c->rest = kl_str_from(s, two ? 2 : 1);
    if (v < low || v > high) {
        c->element = element;
        c->remark = range;
    }
    return v;
}

static int take_year(struct cursor *c)
{
    c->hold = c->rest;
    struct kl_str s = c->rest;
    for (size_t i = 0; i < 4; i++) {
        if (i >= s.n || !is_digit(s.p[i])) {
            fail_at(c, "2006");
            return 0;
        }
    }
    c->rest = kl_str_from(s, 4);
    return (s.p[0] - '0') * 1000 + (s.p[1] - '0') * 100 + (s.p[2] - '0') * 10 + (s.p[3] - '0');
}

static size_t fraction_digits(struct kl_str s)
{
    size_t n = 0;
    if (s.n < 2 || (s.p[0] != '.' && s.p[0] != ','))
        return 0;
    while (n + 1 < s.n && is_digit(s.p[n + 1]))
        n++;
    return n;
}

static int micros_of(struct kl_str digits)
{
    int us = 0;
    for (size_t i = 0; i < 6; i++)
        us = us * 10 + (i < digits.n ? digits.p[i] - '0' : 0);
    return us;
}

// Stricter than Go in one point: its layout with digits reads a sign behind the dot (".+12345").
static int take_fraction(struct cursor *c, bool micro)
{
    if (c->element)
        return 0;
    size_t n = fraction_digits(c->rest);
    if (micro) {
        c->hold = c->rest;
        if (n < 6) {
            fail_at(c, ".000000");
            return 0;
        }
        n = 6; // Exactly the six of the layout: a seventh does not fit the zone that follows.
    }
    if (n == 0)
        return 0;
    int us = micros_of((struct kl_str){c->rest.p + 1, n});
    c->rest = kl_str_from(c->rest, n + 1);
    return us;
}

static int take_zone(struct cursor *c)
{
    static const char element[] = "Z07:00";
    if (c->element)
        return 0;
    c->hold = c->rest;
    struct kl_str s = c->rest;
    if (s.n && s.p[0] == 'Z') {
        c->rest = kl_str_from(s, 1);
        return 0;
    }
    if (s.n < 6 || s.p[3] != ':') {
        fail_at(c, element);
        return 0;
    }
    struct cursor part = {.rest = {s.p + 1, 2}};
    int hours = take_number(&part, true, 0, 24, element, "time zone offset hour");
    bool hours_off = part.remark != NULL;
    if (!part.element || hours_off) {
        const char *remark = part.remark;
        part = (struct cursor){.rest = {s.p + 4, 2}};
        int minutes = take_number(&part, true, 0, 60, element, "time zone offset minute");
        if (!part.remark)
            part.remark = remark;
        hours = hours * 60 + minutes;
    }
    c->rest = kl_str_from(s, 6);
    if (part.remark) {
        c->element = element;
        c->remark = part.remark;
    } else if (part.element || (s.p[0] != '+' && s.p[0] != '-')) {
        fail_at(c, element);
    }
    return s.p[0] == '-' ? -hours * 60 : hours * 60;
}

// Go's time.quote: other than printable ASCII in hexadecimal.
static size_t put_quoted(char *out, size_t cap, struct kl_str s)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;
    out[n++] = '"';
    for (size_t i = 0; i < s.n && n + 6 < cap; i++) {
        unsigned char b = (unsigned char)s.p[i];
        if (b >= 0x80 || b < ' ') {
            out[n++] = '\\';
            out[n++] = 'x';
            out[n++] = hex[b >> 4];
            out[n++] = hex[b & 15];
            continue;
        }
        if (b == '"' || b == '\\')
            out[n++] = '\\';
        out[n++] = (char)b;
    }
    out[n++] = '"';
    out[n] = 0;
    return n;
}

static int report(struct kl_str s, const struct cursor *c, bool micro, struct kl_error *err)
{
    char value[400], part[400];
    put_quoted(value, sizeof(value), s);
    if (c->remark)
        return kl_error_set(err, KL_EBADREQUEST, "parsing time %s: %s out of range", value,
                            c->remark);
    put_quoted(part, sizeof(part), c->rest);
    if (c->element[0] == 0)
        return kl_error_set(err, KL_EBADREQUEST, "parsing time %s: extra text: %s", value, part);
    return kl_error_set(err, KL_EBADREQUEST, "parsing time %s as \"%s\": cannot parse %s as \"%s\"",
                        value, micro ? RFC3339_MICRO : RFC3339, part, c->element);
}

static int parse_time(struct kl_str s, bool micro, int64_t *ret_us, struct kl_error *err)
{
    struct cursor c = {.rest = s};
    int year = take_year(&c);
    skip_literal(&c, '-', "-");
    int month = take_number(&c, true, 1, 12, "01", "month");
    skip_literal(&c, '-', "-");
    int day = take_number(&c, true, 0, 99, "02", "day");
    skip_literal(&c, 'T', "T");
    int hour = take_number(&c, false, 0, 23, "15", "hour");
    skip_literal(&c, ':', ":");
    int minute = take_number(&c, true, 0, 59, "04", "minute");
    skip_literal(&c, ':', ":");
    int second = take_number(&c, true, 0, 59, "05", "second");
    int us = take_fraction(&c, micro);
    int offset = take_zone(&c);
    if (!c.element && c.rest.n)
        c.element = "";
    if (!c.element && (day < 1 || day > days_in_month(month, year))) {
        c.element = "";
        c.remark = "day";
    }
    if (c.element)
        return report(s, &c, micro, err);
    int64_t seconds = days_of_date(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 +
                      second - offset;
    *ret_us = seconds * US_PER_SECOND + us;
    return 0;
}

static bool two_digits(const char *p, int *ret)
{
    unsigned hi = (unsigned)(p[0] - '0'), lo = (unsigned)(p[1] - '0');
    *ret = (int)(hi * 10 + lo);
    return hi < 10 && lo < 10;
}

// The form that nearly every text has, "2006-01-02T15:04:05Z"; false: let the whole parser look.
static bool parse_plain(struct kl_str s, int64_t *ret_us)
{
    int century, year, month, day, hour, minute, second;
    const char *p = s.p;
    if (s.n != 20 || p[4] != '-' || p[7] != '-' || p[10] != 'T' || p[13] != ':' || p[16] != ':' ||
        p[19] != 'Z')
        return false;
    if (!two_digits(p, &century) || !two_digits(p + 2, &year) || !two_digits(p + 5, &month) ||
        !two_digits(p + 8, &day) || !two_digits(p + 11, &hour) || !two_digits(p + 14, &minute) ||
        !two_digits(p + 17, &second))
        return false;
    year += century * 100;
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(month, year) || hour > 23 ||
        minute > 59 || second > 59)
        return false;
    *ret_us =
        (days_of_date(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second) *
        US_PER_SECOND;
    return true;
}

int kl_time_parse(struct kl_str s, int64_t *ret_us, struct kl_error *err)
{
    return parse_plain(s, ret_us) ? 0 : parse_time(s, false, ret_us, err);
}

int kl_microtime_parse(struct kl_str s, int64_t *ret_us, struct kl_error *err)
{
    return parse_time(s, true, ret_us, err);
}

static char *put_two(char *p, int v)
{
    p[0] = (char)('0' + v / 10);
    p[1] = (char)('0' + v % 10);
    return p + 2;
}

static size_t write_time(int64_t us, bool micro, char *out)
{
    int64_t seconds = us / US_PER_SECOND, frac = us % US_PER_SECOND;
    if (frac < 0) {
        frac += US_PER_SECOND;
        seconds--;
    }
    int64_t days = seconds / SECONDS_PER_DAY, rest = seconds % SECONDS_PER_DAY;
    if (rest < 0) {
        rest += SECONDS_PER_DAY;
        days--;
    }
    struct date d = date_of_days(days);
    char *p = out;
    uint64_t year = d.year < 0 ? (uint64_t)-d.year : (uint64_t)d.year;
    if (d.year < 0)
        *p++ = '-';
    for (uint64_t limit = 1000; limit > year && limit > 1; limit /= 10)
        *p++ = '0';
    p = kl_put_decimal(p, year);
    *p++ = '-';
    p = put_two(p, d.month);
    *p++ = '-';
    p = put_two(p, d.day);
    *p++ = 'T';
    p = put_two(p, (int)(rest / 3600));
    *p++ = ':';
    p = put_two(p, (int)(rest / 60 % 60));
    *p++ = ':';
    p = put_two(p, (int)(rest % 60));
    if (micro) {
        *p++ = '.';
        for (int64_t unit = 100000; unit; unit /= 10)
            *p++ = (char)('0' + (int)(frac / unit % 10));
    }
    *p++ = 'Z';
    *p = 0;
    return (size_t)(p - out);
}

size_t kl_time_text(int64_t us, char ret[KL_TIME_TEXT])
{
    return write_time(us, false, ret);
}

size_t kl_microtime_text(int64_t us, char ret[KL_TIME_TEXT])
{
    return write_time(us, true, ret);
}
