// SPDX-License-Identifier: Apache-2.0
#include "object/zone.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MAX = 256 * 1024, DAY_S = 86400 };
#define ZONEINFO "/usr/share/zoneinfo/"

struct change { // of a POSIX rule: when in a year
    char kind;  // 'J': day 1 to 365 without 29 February; 'N': day 0 to 365; 'M': month, week, day
    int month, week, day;
    int32_t at_s;
};

struct kl_zone {
    size_t n; // transitions
    int64_t *when;
    int32_t *offset; // from when on
    int32_t before;  // the first
    // What holds after the last.
    bool has_rule, has_summer;
    int32_t winter, summer;
    struct change from, to;
};

// ---- days

static int64_t days_of(int64_t year, int month, int day) // since 1970-01-01, proleptic Gregorian
{
    year += (month - 1) / 12;
    month = (month - 1) % 12 + 1;
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400, y = year - era * 400;
    int64_t d = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5;
    return era * 146097 + y * 365 + y / 4 - y / 100 + d + day - 719469;
}

static void civil_of(int64_t days, struct kl_civil *ret)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097, d = days - era * 146097;
    int64_t y = (d - d / 1460 + d / 36524 - d / 146096) / 365;
    d -= 365 * y + y / 4 - y / 100;
    int m = (int)((5 * d + 2) / 153);
    ret->day = (int)(d - (153 * m + 2) / 5) + 1;
    ret->month = m < 10 ? m + 3 : m - 9;
    ret->year = y + era * 400 + (ret->month <= 2);
}

static int weekday_of(int64_t days)
{
    int w = (int)((days + 4) % 7);
    return w < 0 ? w + 7 : w;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static bool is_leap(int64_t y)
{
    return y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
}

// ---- the rule behind the table: "CET-1CEST,M3.5.0,M10.5.0/3"

static bool skip_name(struct kl_str *s)
{
    size_t n = 0;
    if (s->n && s->p[0] == '<') {
        ptrdiff_t end = kl_str_chr(*s, '>');
        if (end < 0)
            return false;
        *s = kl_str_from(*s, (size_t)end + 1);
        return true;
    }
    while (n < s->n && (s->p[n] | 32) >= 'a' && (s->p[n] | 32) <= 'z')
        n++;
    *s = kl_str_from(*s, n);
    return n >= 3;
}

static bool take(struct kl_str *s, char c)
{
    if (!s->n || s->p[0] != c)
        return false;
    *s = kl_str_from(*s, 1);
    return true;
}

static bool get_number(struct kl_str *s, int min, int max, int *ret)
{
    int v = 0;
    size_t n = 0;
    for (; n < s->n && n < 4 && s->p[n] >= '0' && s->p[n] <= '9'; n++)
        v = 10 * v + s->p[n] - '0';
    *s = kl_str_from(*s, n);
    *ret = v;
    return n && v >= min && v <= max;
}

static bool get_time(struct kl_str *s, int max_hours, int32_t *ret)
{
    bool minus = take(s, '-');
    int h, m = 0, sec = 0;
    if (!minus)
        take(s, '+');
    if (!get_number(s, 0, max_hours, &h) ||
        (take(s, ':') &&
         (!get_number(s, 0, 59, &m) || (take(s, ':') && !get_number(s, 0, 59, &sec)))))
        return false;
    *ret = (h * 3600 + m * 60 + sec) * (minus ? -1 : 1);
    return true;
}

static bool get_change(struct kl_str *s, struct change *ret)
{
    *ret = (struct change){.kind = 'N', .at_s = 2 * 3600};
    if (!take(s, ','))
        return false;
    if (take(s, 'M')) {
        ret->kind = 'M';
        if (!get_number(s, 1, 12, &ret->month) || !take(s, '.') ||
            !get_number(s, 1, 5, &ret->week) || !take(s, '.') || !get_number(s, 0, 6, &ret->day))
            return false;
    } else {
        if (take(s, 'J'))
            ret->kind = 'J';
        if (!get_number(s, ret->kind == 'J', 365, &ret->day))
            return false;
    }
    return !take(s, '/') || get_time(s, 167, &ret->at_s);
}

static bool read_rule(struct kl_zone *z, struct kl_str s)
{
    if (!skip_name(&s) || !get_time(&s, 24, &z->winter))
        return false;
    z->winter = -z->winter;
    z->has_rule = true;
    if (!s.n)
        return true;
    z->has_summer = true;
    z->summer = z->winter + 3600;
    if (!skip_name(&s))
        return false;
    if (s.n && s.p[0] != ',') {
        if (!get_time(&s, 24, &z->summer))
            return false;
        z->summer = -z->summer;
    }
    if (!s.n) // the rule of the United States
        s = KL_STR(",M3.2.0,M11.1.0");
    return get_change(&s, &z->from) && get_change(&s, &z->to) && !s.n;
}

static int64_t change_in(const struct change *c, int64_t year, int32_t offset)
{
    int64_t day = days_of(year, 1, 1);
    if (c->kind == 'M') {
        int64_t first = days_of(year, c->month, 1), next = days_of(year, c->month + 1, 1);
        day = first + (c->day - weekday_of(first) + 7) % 7 + 7 * (c->week - 1);
        if (day >= next)
            day -= 7;
    } else if (c->kind == 'J') {
        day += c->day - 1 + (is_leap(year) && c->day >= 60);
    } else {
        day += c->day;
    }
    return day * DAY_S + c->at_s - offset;
}

// ---- the offset at a time, and how long it holds

struct span {
    int32_t offset;
    int64_t start, end; // [start, end)
};

static struct span rule_at(const struct kl_zone *z, int64_t t, int64_t start)
{
    struct span s = {z->winter, start, INT64_MAX};
    struct kl_civil c;
    if (!z->has_summer)
        return s;
    civil_of(floor_div(t + z->winter, DAY_S), &c);
    for (int64_t y = c.year - 1; y <= c.year + 1; y++) {
        const int64_t at[2] = {change_in(&z->from, y, z->winter), change_in(&z->to, y, z->summer)};
        for (int k = 0; k < 2; k++) {
            int i = at[0] < at[1] ? k : 1 - k; // in the south summer ends first
            if (at[i] <= t) {
                s.offset = i == 0 ? z->summer : z->winter;
                s.start = at[i] > start ? at[i] : start;
            } else if (at[i] < s.end) {
                s.end = at[i];
            }
        }
    }
    return s;
}

static struct span span_at(const struct kl_zone *z, int64_t t)
{
    size_t low = 0, high = z->n; // the first transition after t
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (z->when[mid] <= t)
            low = mid + 1;
        else
            high = mid;
    }
    int64_t start = low ? z->when[low - 1] : INT64_MIN;
    if (low == z->n && z->has_rule)
        return rule_at(z, t, start);
    return (struct span){low ? z->offset[low - 1] : z->before, start,
                         low < z->n ? z->when[low] : INT64_MAX};
}

int32_t kl_zone_offset(const struct kl_zone *z, int64_t t)
{
    return span_at(z, t).offset;
}

struct kl_civil kl_zone_civil(const struct kl_zone *z, int64_t t)
{
    struct kl_civil c;
    t += kl_zone_offset(z, t);
    int64_t days = floor_div(t, DAY_S);
    int s = (int)(t - days * DAY_S);
    civil_of(days, &c);
    c.hour = s / 3600;
    c.minute = s / 60 % 60;
    c.second = s % 60;
    c.weekday = weekday_of(days);
    return c;
}

int64_t kl_zone_time(const struct kl_zone *z, struct kl_civil c)
{
    int64_t t = days_of(c.year, c.month, c.day) * DAY_S + c.hour * 3600 + c.minute * 60 + c.second;
    struct span s = span_at(z, t);
    int64_t utc = t - s.offset;
    return utc < s.start || utc >= s.end ? t - kl_zone_offset(z, utc) : utc;
}

// ---- files

static int64_t get_be(const unsigned char *p, int n)
{
    uint64_t v = p[0] & 0x80 ? UINT64_MAX : 0;
    for (int i = 0; i < n; i++)
        v = v << 8 | p[i];
    return (int64_t)v;
}

enum { HEAD = 44, ISUT = 20, ISSTD = 24, LEAP = 28, TIMES = 32, TYPES = 36, CHARS = 40 };

// One of the file's two tables, with times of `width` bytes. Its length; 0: it is not whole.
static size_t table_size(const unsigned char *h, size_t width)
{
    size_t n = HEAD;
    for (int at = ISUT; at <= CHARS; at += 4)
        if (get_be(h + at, 4) < 0 || get_be(h + at, 4) > FILE_MAX)
            return 0;
    n += (size_t)get_be(h + TIMES, 4) * (width + 1) + (size_t)get_be(h + TYPES, 4) * 6 +
         (size_t)get_be(h + CHARS, 4) + (size_t)get_be(h + LEAP, 4) * (width + 4) +
         (size_t)get_be(h + ISSTD, 4) + (size_t)get_be(h + ISUT, 4);
    return n;
}

static bool read_table(struct kl_zone *z, const unsigned char *h, int width)
{
    size_t n = (size_t)get_be(h + TIMES, 4), types = (size_t)get_be(h + TYPES, 4);
    const unsigned char *times = h + HEAD, *idx = times + n * (size_t)width, *info = idx + n;
    if (!types || !(z->when = calloc(n + 1, sizeof *z->when)) ||
        !(z->offset = calloc(n + 1, sizeof *z->offset)))
        return false;
    z->n = n;
    for (size_t i = 0; i < n; i++) {
        z->when[i] = get_be(times + i * (size_t)width, width);
        if (idx[i] >= types || (i && z->when[i] < z->when[i - 1]))
            return false;
        z->offset[i] = (int32_t)get_be(info + 6 * idx[i], 4);
    }
    // Before the first: the first type that is not summer time.
    size_t first = 0;
    while (first < types && info[6 * first + 4])
        first++;
    z->before = (int32_t)get_be(info + 6 * (first < types ? first : 0), 4);
    for (size_t i = 0; i < types; i++)
        if (get_be(info + 6 * i, 4) < -26 * 3600 || get_be(info + 6 * i, 4) > 26 * 3600)
            return false;
    return true;
}

static bool is_head(struct kl_str s)
{
    return s.n >= HEAD && memcmp(s.p, "TZif", 4) == 0;
}

static bool read_file(struct kl_zone *z, struct kl_str s)
{
    int width = 4;
    if (!is_head(s))
        return false;
    size_t size = table_size((const unsigned char *)s.p, 4);
    if (!size || size > s.n)
        return false;
    if (s.p[4] >= '2') {
        s = kl_str_from(s, size);
        width = 8;
        size = is_head(s) ? table_size((const unsigned char *)s.p, 8) : 0;
        if (!size || size > s.n)
            return false;
    }
    if (!read_table(z, (const unsigned char *)s.p, width))
        return false;
    s = kl_str_from(s, size);
    if (width == 4 || s.n < 2 || s.p[0] != '\n')
        return true;
    struct kl_str rule = kl_str_from(s, 1);
    ptrdiff_t end = kl_str_chr(rule, '\n');
    if (end > 0 && !read_rule(z, (struct kl_str){rule.p, (size_t)end}))
        z->has_rule = z->has_summer = false;
    return true;
}

int kl_zone_read(struct kl_str tzif, struct kl_zone **ret, struct kl_error *err)
{
    struct kl_zone *z = calloc(1, sizeof *z);
    if (!z)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    if (tzif.n <= FILE_MAX && read_file(z, tzif)) {
        *ret = z;
        return 0;
    }
    kl_zone_free(z);
    return kl_error_set(err, KL_EINVALID, "malformed time zone information");
}

void kl_zone_free(struct kl_zone *z)
{
    if (!z)
        return;
    free(z->when);
    free(z->offset);
    free(z);
}

static int read_path(const char *path, struct kl_zone **ret, struct kl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *mem = fd < 0 ? NULL : malloc(FILE_MAX);
    size_t n = 0;
    ssize_t r = -1;
    while (mem && n < FILE_MAX && (r = read(fd, mem + n, FILE_MAX - n)) != 0) {
        if (r > 0)
            n += (size_t)r;
        else if (errno != EINTR)
            break;
    }
    int rc = r == 0 ? kl_zone_read((struct kl_str){mem, n}, ret, err)
                    : kl_error_set(err, KL_EIO, "%s cannot be read", path);
    free(mem);
    if (fd >= 0)
        close(fd);
    return rc;
}

static int load_local(struct kl_zone **ret, struct kl_error *err)
{
    const char *tz = getenv("TZ");
    if (!tz)
        return read_path("/etc/localtime", ret, err);
    struct kl_str name = kl_str(tz);
    take(&name, ':');
    if (name.n && name.p[0] == '/')
        return read_path(name.p, ret, err);
    if (kl_str_eqz(name, "Local")) // no file is called so; it would lead here again
        return kl_error_set(err, KL_EINVALID, "unknown time zone Local");
    return kl_zone_load(name, ret, err);
}

// Its path stays below the directory.
static bool is_name(struct kl_str name)
{
    return name.n < 200 && name.p[0] != '/' && name.p[0] != '\\' &&
           !memmem(name.p, name.n, "..", 2) && !memchr(name.p, 0, name.n);
}

int kl_zone_load(struct kl_str name, struct kl_zone **ret, struct kl_error *err)
{
    char path[256] = ZONEINFO;
    if (kl_str_eqz(name, "Local") && !load_local(ret, NULL))
        return 0;
    if (!name.n || kl_str_eqz(name, "UTC") || kl_str_eqz(name, "Local")) {
        *ret = calloc(1, sizeof **ret);
        return *ret ? 0 : kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    if (!is_name(name))
        return kl_error_set(err, KL_EINVALID, "time: invalid location name");
    memcpy(path + sizeof ZONEINFO - 1, name.p, name.n);
    if (!read_path(path, ret, err))
        return 0;
    return kl_error_set(err, KL_EINVALID, "unknown time zone %.*s", KL_PRI(name));
}
