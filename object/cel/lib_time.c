// SPDX-License-Identifier: Apache-2.0
// Parts of timestamps, in UTC or in a zone given by offset or by IANA name, and of durations.
#include "object/cel/lib_int.h"
#include "object/cel/zone_int.h"

struct parts {
    int64_t year;
    int month, mday, yday, wday, hour, min, sec; // month, mday and yday from 0
};

static struct parts split(int64_t seconds)
{
    struct parts p;
    int64_t days = seconds / 86400, rest = seconds % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    p.hour = (int)(rest / 3600);
    p.min = (int)(rest / 60 % 60);
    p.sec = (int)(rest % 60);
    p.wday = (int)(((days + 4) % 7 + 7) % 7);
    // Years from March, by eras of 400 years.
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    p.mday = (int)(doy - (153 * mp + 2) / 5);
    p.month = (int)(mp < 10 ? mp + 2 : mp - 10);
    p.year = yoe + era * 400 + (p.month <= 1);
    bool leap = (p.year % 4 == 0 && p.year % 100 != 0) || p.year % 400 == 0;
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    p.yday = before[p.month] + p.mday + (leap && p.month > 1);
    return p;
}

static bool parse_int(struct kl_str s, int64_t *ret)
{
    if (s.n && s.p[0] == '+')
        s = kl_str_from(s, 1);
    return kl_str_to_i64(s, ret);
}

// False with *ret_error.
static bool zone_offset(struct cel_run *r, struct kl_cel_val t, struct kl_str zone,
                        int64_t *ret_offset, struct kl_cel_val *ret_error)
{
    ptrdiff_t colon = kl_str_chr(zone, ':');
    int64_t hours, minutes;
    if (colon < 0) {
        if (cel_zone_offset(zone, t.i, ret_offset))
            return true;
        *ret_error = cel_errf(cel_arena(r), "unknown time zone %.*s", KL_PRI(zone));
        return false;
    }
    struct kl_str h = {zone.p, (size_t)colon}, m = kl_str_from(zone, (size_t)colon + 1);
    bool hours_ok = parse_int(h, &hours);
    if (!hours_ok || !parse_int(m, &minutes)) {
        struct kl_str bad = hours_ok ? m : h;
        *ret_error = cel_errf(cel_arena(r), "strconv.Atoi: parsing %.*s: invalid syntax",
                              KL_PRI(cel_quote(cel_arena(r), bad)));
        return false;
    }
    if (hours > 100000 || hours < -100000 || minutes > 6000000 || minutes < -6000000)
        hours = minutes = 0;
    *ret_offset = 60 * (zone.p[0] == '-' ? hours * 60 - minutes : hours * 60 + minutes);
    return true;
}

static bool parts_of(struct cel_run *r, const struct kl_cel_val *args, size_t n, struct parts *ret,
                     struct kl_cel_val *ret_error)
{
    int64_t offset = 0;
    if (n > 1 && !zone_offset(r, args[0], cel_text(args[1]), &offset, ret_error))
        return false;
    *ret = split(args[0].i + offset);
    return true;
}

#define PART(name, what)                                                                           \
    CEL_FN(name)                                                                                   \
    {                                                                                              \
        struct parts p;                                                                            \
        struct kl_cel_val error;                                                                   \
        return parts_of(r, args, n, &p, &error) ? cel_i(what) : error;                             \
    }
#define PART_OR(name, what, of_duration)                                                           \
    CEL_FN(name)                                                                                   \
    {                                                                                              \
        struct parts p;                                                                            \
        struct kl_cel_val error;                                                                   \
        if (args[0].kind == KL_CEL_DURATION)                                                       \
            return cel_i(args[0].i / INT64_C(of_duration));                                        \
        return parts_of(r, args, n, &p, &error) ? cel_i(what) : error;                             \
    }
PART(cel_fn_year, p.year)
PART(cel_fn_month, p.month)
PART(cel_fn_yday, p.yday)
PART(cel_fn_mday0, p.mday)
PART(cel_fn_mday1, p.mday + 1)
PART(cel_fn_wday, p.wday)
PART_OR(cel_fn_hours, p.hour, 3600000000000)
PART_OR(cel_fn_minutes, p.min, 60000000000)
PART_OR(cel_fn_seconds, p.sec, 1000000000)
PART_OR(cel_fn_millis, args[0].n / 1000000, 1000000)
