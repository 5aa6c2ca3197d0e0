// SPDX-License-Identifier: Apache-2.0
// What is wrong with a cron schedule or a time zone, in the words of robfig/cron and of Go.
#include "object/timestamp.h"
#include "object/validate/cron_int.h"
#include <unistd.h>

struct field {
    int64_t min, max;
    const char *names; // three letters each, from `min`
};

static const struct field fields[5] = {{0, 59, NULL},
                                       {0, 23, NULL},
                                       {1, 31, NULL},
                                       {1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
                                       {0, 6, "sunmontuewedthufrisat"}};

static const char *parse_number(struct kl_v *c, struct kl_str s, int64_t *ret)
{
    struct kl_str digits = s.n && s.p[0] == '+' ? kl_str_from(s, 1) : s;
    if (!kl_str_to_i64(digits, ret))
        return kl_v_text(c,
                         "failed to parse int from %.*s: strconv.Atoi: parsing \"%.*s\": invalid "
                         "syntax",
                         KL_PRI(s), KL_PRI(s));
    return *ret < 0 ? kl_v_text(c, "negative number (%lld) not allowed: %.*s", (long long)*ret,
                                KL_PRI(s))
                    : NULL;
}

static const char *parse_value(struct kl_v *c, const struct field *f, struct kl_str s, int64_t *ret)
{
    for (size_t i = 0; f->names && s.n == 3 && f->names[3 * i]; i++)
        if (kl_str_ieq(s, (struct kl_str){f->names + 3 * i, 3})) {
            *ret = f->min + (int64_t)i;
            return NULL;
        }
    return parse_number(c, s, ret);
}

static size_t count(struct kl_str s, char ch)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += s.p[i] == ch;
    return n;
}

static const char *check_range(struct kl_v *c, const struct field *f, struct kl_str expr)
{
    struct kl_str rest = expr, span, low, high = {0};
    int64_t start = f->min, end = f->max, step = 1;
    const char *why;
    kl_str_split(&rest, '/', &span);
    struct kl_str range = span;
    kl_str_split(&range, '-', &low);
    bool star = kl_str_eqz(low, "*") || kl_str_eqz(low, "?"), single = !range.p;
    if (!star) {
        if ((why = parse_value(c, f, low, &start)))
            return why;
        end = start;
        if (count(span, '-') > 1)
            return kl_v_text(c, "too many hyphens: %.*s", KL_PRI(expr));
        high = range;
        if (!single && (why = parse_value(c, f, high, &end)))
            return why;
    }
    if (count(expr, '/') > 1)
        return kl_v_text(c, "too many slashes: %.*s", KL_PRI(expr));
    if (rest.p) {
        if ((why = parse_number(c, rest, &step)))
            return why;
        if (single)
            end = f->max;
    }
    if (start < f->min)
        return kl_v_text(c, "beginning of range (%lld) below minimum (%lld): %.*s",
                         (long long)start, (long long)f->min, KL_PRI(expr));
    if (end > f->max)
        return kl_v_text(c, "end of range (%lld) above maximum (%lld): %.*s", (long long)end,
                         (long long)f->max, KL_PRI(expr));
    if (start > end)
        return kl_v_text(c, "beginning of range (%lld) beyond end of range (%lld): %.*s",
                         (long long)start, (long long)end, KL_PRI(expr));
    return step ? NULL
                : kl_v_text(c, "step of range should be a positive number: %.*s", KL_PRI(expr));
}

static const char *check_descriptor(struct kl_v *c, struct kl_str s)
{
    static const char *const known[] = {"@yearly", "@annually", "@monthly", "@weekly",
                                        "@daily",  "@midnight", "@hourly",  NULL};
    int64_t ns;
    if (kl_v_in(s, known))
        return NULL;
    if (!kl_str_starts(s, KL_STR("@every ")))
        return kl_v_text(c, "unrecognized descriptor: %.*s", KL_PRI(s));
    struct kl_str d = kl_str_from(s, 7);
    return kl_duration_parse(d, &ns) ? kl_v_text(c,
                                                 "failed to parse duration %.*s: time: invalid "
                                                 "duration \"%.*s\"",
                                                 KL_PRI(s), KL_PRI(d))
                                     : NULL;
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

const char *kl_cron_error(struct kl_v *c, struct kl_str s)
{
    struct kl_str rest = s, word, part;
    const char *why = NULL;
    size_t n = 0;
    if (!s.n)
        return "empty spec string";
    if (kl_str_starts(s, KL_STR("TZ=")) || kl_str_starts(s, KL_STR("CRON_TZ=")))
        next_word(&rest, &word);
    rest = kl_str_trim(rest);
    if (rest.n && rest.p[0] == '@')
        return check_descriptor(c, rest);
    struct kl_str all = rest;
    while (next_word(&rest, &word))
        n++;
    if (n != 5) {
        const char *text = "";
        for (rest = all; next_word(&rest, &word);)
            text = kl_v_text(c, "%s%s%.*s", text, *text ? " " : "", KL_PRI(word));
        return kl_v_text(c, "expected exactly 5 fields, found %zu: [%s]", n, text);
    }
    rest = all;
    for (size_t i = 0; i < 5 && next_word(&rest, &word); i++)
        for (struct kl_str list = word; !why && kl_str_split(&list, ',', &part);)
            if (part.n)
                why = check_range(c, &fields[i], part);
    return why;
}

const char *kl_zone_error(struct kl_v *c, struct kl_str zone)
{
    struct kl_str rest = zone, part;
    bool good = true;
    if (!zone.n)
        return "timeZone must be nil or non-empty string";
    while (good && kl_str_split(&rest, '/', &part)) {
        good = part.n > 0 && part.n <= 14 && part.p[0] != '-' && !kl_str_eqz(part, ".") &&
               !kl_str_eqz(part, "..");
        for (size_t i = 0; good && i < part.n; i++) {
            char ch = part.p[i];
            good = (ch >= '0' && ch <= '9') || ((ch | 32) >= 'a' && (ch | 32) <= 'z') ||
                   strchr(".-_+", ch);
        }
    }
    if (zone.p[zone.n - 1] == '/')
        good = false;
    if (good && kl_str_ieq(zone, KL_STR("Local")))
        return "timeZone must be an explicit time zone as defined in "
               "https://www.iana.org/time-zones";
    if (good && !kl_str_eqz(zone, "UTC")) {
        const char *file = kl_v_text(c, "/usr/share/zoneinfo/%.*s", KL_PRI(zone));
        good = access("/usr/share/zoneinfo", F_OK) != 0 || access(file, R_OK) == 0;
    }
    return good ? NULL : kl_v_text(c, "unknown time zone %.*s", KL_PRI(zone));
}
