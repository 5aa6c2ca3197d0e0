// SPDX-License-Identifier: Apache-2.0
#include "store/transfer/cron.h"
#include "base/str.h"

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul",
                                          "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const day_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};

static const struct field {
    const char *name;
    int min, max;
    const char *const *names; // of min and what follows
} fields[] = {{"minute", 0, 59, NULL},
              {"hour", 0, 23, NULL},
              {"day of the month", 1, 31, NULL},
              {"month", 1, 12, month_names},
              {"day of the week", 0, 7, day_names}};

static const struct {
    const char *name, *text;
} short_forms[] = {{"@hourly", "0 * * * *"},  {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
                   {"@weekly", "0 0 * * 0"},  {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
                   {"@annually", "0 0 1 1 *"}};

static bool get_value(const struct field *f, struct kl_str s, int *ret)
{
    int64_t v;
    for (int i = 0; f->names && f->names[i]; i++) {
        if (kl_str_ieq(s, kl_str(f->names[i]))) {
            *ret = f->min + i;
            return true;
        }
    }
    if (!s.n || s.n > 3 || s.p[0] == '-' || !kl_str_to_i64(s, &v) || v < f->min || v > f->max)
        return false;
    *ret = (int)v;
    return true;
}

// "*", "5", "1-5", each with "/STEP": sets bits.
static bool get_part(const struct field *f, struct kl_str part, uint64_t *bits)
{
    int64_t step = 1;
    int from = f->min, to = f->max;
    ptrdiff_t slash = kl_str_chr(part, '/');
    if (slash >= 0) {
        if (!kl_str_to_i64(kl_str_from(part, (size_t)slash + 1), &step) || step < 1 || step > 60)
            return false;
        part.n = (size_t)slash;
    }
    if (!kl_str_eqz(part, "*")) {
        ptrdiff_t dash = kl_str_chr(part, '-');
        struct kl_str first = {part.p, dash >= 0 ? (size_t)dash : part.n};
        if (!get_value(f, first, &from))
            return false;
        if (dash >= 0 && !get_value(f, kl_str_from(part, (size_t)dash + 1), &to))
            return false;
        if (dash < 0 && slash < 0)
            to = from;
        if (to < from)
            return false;
    }
    for (int v = from; v <= to; v += (int)step)
        *bits |= (uint64_t)1 << v;
    return true;
}

static int get_field(const struct field *f, struct kl_str text, uint64_t *ret_bits,
                     struct kl_error *err)
{
    struct kl_str rest = text, part;
    *ret_bits = 0;
    while (kl_str_split(&rest, ',', &part)) {
        if (!get_part(f, part, ret_bits))
            return kl_error_set(err, KL_EINVALID, "schedule: %s %.*s: not between %d and %d",
                                f->name, KL_PRI(text), f->min, f->max);
    }
    return 0;
}

int kl_cron_parse(const char *text, struct kl_cron *ret, struct kl_error *err)
{
    for (size_t i = 0; i < KL_COUNT(short_forms); i++) {
        if (kl_str_eqz(kl_str_trim(kl_str(text)), short_forms[i].name))
            text = short_forms[i].text;
    }
    struct kl_str rest = kl_str_trim(kl_str(text)), part[5];
    uint64_t bits[5];
    int n = 0;
    while (rest.n) {
        size_t w = 0;
        while (w < rest.n && rest.p[w] != ' ' && rest.p[w] != '\t')
            w++;
        if (n < 5)
            part[n] = (struct kl_str){rest.p, w};
        n++;
        rest = kl_str_trim(kl_str_from(rest, w));
    }
    if (n != 5)
        return kl_error_set(err, KL_EINVALID,
                            "schedule \"%s\": it needs five fields (minute, hour, day of the "
                            "month, month, day of the week)",
                            text);
    for (int i = 0; i < 5; i++) {
        int r = get_field(&fields[i], part[i], &bits[i], err);
        if (r)
            return r;
    }
    if (bits[4] & 1 << 7) // Sunday has two numbers
        bits[4] |= 1;
    *ret = (struct kl_cron){.minutes = bits[0],
                            .hours = (uint32_t)bits[1],
                            .days = (uint32_t)bits[2],
                            .months = (uint32_t)bits[3],
                            .weekdays = (uint32_t)bits[4],
                            .any_day = part[2].p[0] == '*',
                            .any_weekday = part[4].p[0] == '*'};
    return 0;
}

static bool day_matches(const struct kl_cron *c, const struct tm *t)
{
    bool day = c->days >> t->tm_mday & 1, weekday = c->weekdays >> t->tm_wday & 1;
    if (c->any_day || c->any_weekday)
        return day && weekday;
    return day || weekday;
}

time_t kl_cron_next(const struct kl_cron *c, time_t t)
{
    struct tm m;
    t += 60 - t % 60; // zones are whole minutes from UTC
    for (time_t end = t + (time_t)5 * 366 * 86400; t < end;) {
        localtime_r(&t, &m);
        if (!(c->months >> (m.tm_mon + 1) & 1) || !day_matches(c, &m)) {
            // To the next midnight; mktime knows how long a day is.
            m.tm_mday++;
            m.tm_hour = m.tm_min = m.tm_sec = 0;
            m.tm_isdst = -1;
            time_t midnight = mktime(&m);
            t = midnight > t ? midnight : t + 3600;
        } else if (!(c->hours >> m.tm_hour & 1)) {
            t += (60 - m.tm_min) * 60;
        } else if (!(c->minutes >> m.tm_min & 1)) {
            t += 60;
        } else {
            return t;
        }
    }
    return -1;
}
