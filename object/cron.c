// SPDX-License-Identifier: Apache-2.0
#include "object/cron.h"
#include "object/timestamp.h"
#include <stdio.h>
#include <string.h>

static const struct field {
    int64_t min, max;
    const char *names; // three letters each, from `min`
} fields[5] = {{0, 59, NULL},
               {0, 23, NULL},
               {1, 31, NULL},
               {1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
               {0, 6, "sunmontuewedthufrisat"}};

static const struct {
    const char *name, *text;
} descriptors[] = {
    {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"},
    {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},    {"@midnight", "0 0 * * *"},
    {"@hourly", "0 * * * *"},
};

// ---- reading

static int parse_number(struct kl_str s, int64_t *ret, struct kl_error *err)
{
    struct kl_str digits = s.n && s.p[0] == '+' ? kl_str_from(s, 1) : s;
    if (!kl_str_to_i64(digits, ret))
        return kl_error_set(err, KL_EINVALID,
                            "failed to parse int from %.*s: strconv.Atoi: parsing \"%.*s\": "
                            "invalid syntax",
                            KL_PRI(s), KL_PRI(s));
    if (*ret < 0)
        return kl_error_set(err, KL_EINVALID, "negative number (%lld) not allowed: %.*s",
                            (long long)*ret, KL_PRI(s));
    return 0;
}

static int parse_value(const struct field *f, struct kl_str s, int64_t *ret, struct kl_error *err)
{
    for (size_t i = 0; f->names && s.n == 3 && f->names[3 * i]; i++)
        if (kl_str_ieq(s, (struct kl_str){f->names + 3 * i, 3})) {
            *ret = f->min + (int64_t)i;
            return 0;
        }
    return parse_number(s, ret, err);
}

static size_t count(struct kl_str s, char ch)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += s.p[i] == ch;
    return n;
}

// "*", "5", "1-5", each with "/STEP": sets bits.
static int parse_range(const struct field *f, struct kl_str expr, uint64_t *bits, bool *any,
                       struct kl_error *err)
{
    struct kl_str rest = expr, span, low, high = {0};
    int64_t start = f->min, end = f->max, step = 1;
    int rc;
    kl_str_split(&rest, '/', &span);
    struct kl_str range = span;
    kl_str_split(&range, '-', &low);
    bool star = kl_str_eqz(low, "*") || kl_str_eqz(low, "?"), single = !range.p;
    if (!star) {
        if ((rc = parse_value(f, low, &start, err)))
            return rc;
        end = start;
        if (count(span, '-') > 1)
            return kl_error_set(err, KL_EINVALID, "too many hyphens: %.*s", KL_PRI(expr));
        high = range;
        if (!single && (rc = parse_value(f, high, &end, err)))
            return rc;
    }
    if (count(expr, '/') > 1)
        return kl_error_set(err, KL_EINVALID, "too many slashes: %.*s", KL_PRI(expr));
    if (rest.p) {
        if ((rc = parse_number(rest, &step, err)))
            return rc;
        if (single)
            end = f->max;
    }
    if (start < f->min)
        return kl_error_set(err, KL_EINVALID,
                            "beginning of range (%lld) below minimum (%lld): %.*s",
                            (long long)start, (long long)f->min, KL_PRI(expr));
    if (end > f->max)
        return kl_error_set(err, KL_EINVALID, "end of range (%lld) above maximum (%lld): %.*s",
                            (long long)end, (long long)f->max, KL_PRI(expr));
    if (start > end)
        return kl_error_set(err, KL_EINVALID,
                            "beginning of range (%lld) beyond end of range (%lld): %.*s",
                            (long long)start, (long long)end, KL_PRI(expr));
    if (!step)
        return kl_error_set(err, KL_EINVALID, "step of range should be a positive number: %.*s",
                            KL_PRI(expr));
    *any |= star && step == 1;
    for (int64_t v = start; v <= end; v += step < 64 ? step : 64)
        *bits |= (uint64_t)1 << v;
    return 0;
}

static bool next_word(struct kl_str *rest, struct kl_str *ret)
{
    *rest = kl_str_trim(*rest);
    size_t n = 0;
    while (n < rest->n && !strchr(" \t\n\r\v\f", rest->p[n]))
        n++;
    *ret = (struct kl_str){rest->p, n};
    *rest = kl_str_from(*rest, n);
    return n > 0;
}

static int wrong_count(struct kl_str all, size_t n, struct kl_error *err)
{
    char text[900] = "";
    size_t at = 0;
    for (struct kl_str word; at < sizeof text && next_word(&all, &word);)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%.*s", at ? " " : "", KL_PRI(word));
    return kl_error_set(err, KL_EINVALID, "expected exactly 5 fields, found %zu: [%s]", n, text);
}

static int parse_fields(struct kl_str all, struct kl_cron *ret, struct kl_error *err)
{
    uint64_t *const bits[5] = {&ret->minutes, &ret->hours, &ret->days, &ret->months,
                               &ret->weekdays};
    struct kl_str rest = all, word, part;
    size_t n = 0;
    while (next_word(&rest, &word))
        n++;
    if (n != 5)
        return wrong_count(all, n, err);
    rest = all;
    for (size_t i = 0; i < 5 && next_word(&rest, &word); i++) {
        bool any = false;
        for (struct kl_str list = word; kl_str_split(&list, ',', &part);) {
            int rc = part.n ? parse_range(&fields[i], part, bits[i], &any, err) : 0;
            if (rc)
                return rc;
        }
        if (i == 2)
            ret->any_day = any;
        if (i == 4)
            ret->any_weekday = any;
    }
    return 0;
}

static int parse_descriptor(struct kl_str s, struct kl_cron *ret, struct kl_error *err)
{
    int64_t ns;
    for (size_t i = 0; i < KL_COUNT(descriptors); i++)
        if (kl_str_eqz(s, descriptors[i].name))
            return parse_fields(kl_str(descriptors[i].text), ret, err);
    if (!kl_str_starts(s, KL_STR("@every ")))
        return kl_error_set(err, KL_EINVALID, "unrecognized descriptor: %.*s", KL_PRI(s));
    struct kl_str d = kl_str_from(s, 7);
    if (kl_duration_parse(d, &ns))
        return kl_error_set(err, KL_EINVALID,
                            "failed to parse duration %.*s: time: invalid duration \"%.*s\"",
                            KL_PRI(s), KL_PRI(d));
    ret->every_s = ns < INT64_C(2000000000) ? 1 : ns / 1000000000;
    return 0;
}

static int parse_zone(struct kl_str *s, struct kl_zone **ret, struct kl_error *err)
{
    if (!kl_str_starts(*s, KL_STR("TZ=")) && !kl_str_starts(*s, KL_STR("CRON_TZ=")))
        return kl_zone_load(KL_STR("Local"), ret, err);
    ptrdiff_t end = kl_str_chr(*s, ' '), eq = kl_str_chr(*s, '=');
    if (end < 0) // where that library panics, and Kubernetes catches it
        return kl_error_set(err, KL_EINVALID,
                            "invalid schedule format: runtime error: slice bounds out of range "
                            "[:-1]");
    struct kl_str name = {s->p + eq + 1, (size_t)(end - eq - 1)};
    int rc = kl_zone_load(name, ret, err);
    if (rc == KL_EINVALID)
        kl_error_wrap(err, "provided bad location %.*s", KL_PRI(name));
    *s = kl_str_trim(kl_str_from(*s, (size_t)end));
    return rc;
}

int kl_cron_parse(struct kl_str text, struct kl_cron *ret, struct kl_error *err)
{
    struct kl_cron c = {0};
    if (!text.n)
        return kl_error_set(err, KL_EINVALID, "empty spec string");
    int rc = parse_zone(&text, &c.zone, err);
    if (!rc)
        rc = text.n && text.p[0] == '@' ? parse_descriptor(text, &c, err)
                                        : parse_fields(text, &c, err);
    if (rc)
        kl_cron_fini(&c);
    else
        *ret = c;
    return rc;
}

void kl_cron_fini(struct kl_cron *c)
{
    kl_zone_free(c->zone);
    c->zone = NULL;
}

// ---- the next time: month, day, hour and minute are looked for in turn; one that had to move
// begins those below it anew, and where it wraps the search begins again

static bool day_matches(const struct kl_cron *c, const struct kl_civil *t)
{
    bool day = c->days >> t->day & 1, weekday = c->weekdays >> t->weekday & 1;
    return c->any_day || c->any_weekday ? day && weekday : day || weekday;
}

struct search {
    const struct kl_cron *cron;
    int64_t t;
    struct kl_civil at; // t in the zone
    bool moved;
};

static void go_to(struct search *s, int64_t t)
{
    s->t = t;
    s->at = kl_zone_civil(s->cron->zone, t);
}

static void go_to_civil(struct search *s, struct kl_civil c)
{
    go_to(s, kl_zone_time(s->cron->zone, c));
}

// False: it came into the next year.
static bool find_month(struct search *s)
{
    while (!(s->cron->months >> s->at.month & 1)) {
        struct kl_civil c = s->at;
        if (!s->moved)
            go_to_civil(s, (struct kl_civil){.year = c.year, .month = c.month, .day = 1});
        s->moved = true;
        c = s->at;
        c.month++;
        go_to_civil(s, c);
        if (s->at.month == 1)
            return false;
    }
    return true;
}

static bool find_day(struct search *s)
{
    while (!day_matches(s->cron, &s->at)) {
        struct kl_civil c = s->at;
        c.hour = c.minute = c.second = 0;
        if (!s->moved)
            go_to_civil(s, c);
        s->moved = true;
        c = s->at;
        c.day++;
        go_to_civil(s, c);
        if (s->at.hour) // there is no midnight where the clock skips it
            go_to(s, s->t + (s->at.hour > 12 ? 24 - s->at.hour : -s->at.hour) * 3600);
        if (s->at.day == 1)
            return false;
    }
    return true;
}

static bool find_hour(struct search *s)
{
    while (!(s->cron->hours >> s->at.hour & 1)) {
        if (!s->moved) {
            struct kl_civil c = s->at;
            c.minute = c.second = 0;
            go_to_civil(s, c);
        }
        s->moved = true;
        go_to(s, s->t + 3600);
        if (!s->at.hour)
            return false;
    }
    return true;
}

static bool find_minute(struct search *s)
{
    while (!(s->cron->minutes >> s->at.minute & 1)) {
        go_to(s, s->t - (s->moved ? 0 : s->t % 60) + 60);
        s->moved = true;
        if (!s->at.minute)
            return false;
    }
    return true;
}

// Schedules have second 0.
static bool find_second(struct search *s)
{
    if (s->at.second) {
        go_to(s, s->t + 60 - s->at.second);
        s->moved = true;
        return false;
    }
    return true;
}

int64_t kl_cron_next(const struct kl_cron *c, int64_t t)
{
    struct search s = {.cron = c};
    if (c->every_s)
        return t + c->every_s;
    go_to(&s, t + 1);
    int64_t limit = s.at.year + 5;
    while (s.at.year <= limit)
        if (find_month(&s) && find_day(&s) && find_hour(&s) && find_minute(&s) && find_second(&s))
            return s.t;
    return -1;
}
