// SPDX-License-Identifier: Apache-2.0
#include "store/transfer/cron.h"
#include "support.h"
#include "base/str.h"
#include <stdlib.h>
#include <string.h>

static time_t at(const char *text)
{
    struct tm t = {.tm_isdst = -1};
    assert_non_null(strptime(text, "%Y-%m-%d %H:%M:%S", &t));
    return mktime(&t);
}

static void next_times(void **state)
{
    static const struct {
        const char *cron, *from, *next;
    } cases[] = {
        {"* * * * *", "2026-01-01 00:00:00", "2026-01-01 00:01:00"},
        {"* * * * *", "2026-01-01 00:00:59", "2026-01-01 00:01:00"},
        {"*/15 * * * *", "2026-01-01 00:16:00", "2026-01-01 00:30:00"},
        {"5/20 * * * *", "2026-01-01 00:26:00", "2026-01-01 00:45:00"},
        {"0 */12 * * *", "2026-01-01 00:00:00", "2026-01-01 12:00:00"},
        {"30 2 * * *", "2026-01-31 02:30:00", "2026-02-01 02:30:00"},
        {"0 0 29 2 *", "2026-01-01 00:00:00", "2028-02-29 00:00:00"},
        {"0 9-17/4 * * mon-fri", "2026-01-02 17:30:00", "2026-01-05 09:00:00"},
        {"0 0 13 * 5", "2026-01-03 00:00:00", "2026-01-09 00:00:00"}, // either day
        {"0 0 13 * 5", "2026-01-09 00:00:00", "2026-01-13 00:00:00"},
        {"0 0 * * 7", "2026-01-01 00:00:00", "2026-01-04 00:00:00"}, // Sunday
        {"0 0 * * 0", "2026-01-01 00:00:00", "2026-01-04 00:00:00"},
        {"15,45 3 1 jan,JUL *", "2026-01-01 03:45:00", "2026-07-01 03:15:00"},
        {"@hourly", "2026-01-01 05:20:00", "2026-01-01 06:00:00"},
        {"@weekly", "2026-01-01 00:00:00", "2026-01-04 00:00:00"},
        {" 0  0\t1 1 * ", "2026-01-01 00:00:00", "2027-01-01 00:00:00"},
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_cron c;
        struct kl_error err = {0};
        if (kl_cron_parse(cases[i].cron, &c, &err))
            fail_msg("%s: %s", cases[i].cron, err.msg);
        time_t have = kl_cron_next(&c, at(cases[i].from)), want = at(cases[i].next);
        if (have != want)
            fail_msg("%s from %s: %ld, not %ld", cases[i].cron, cases[i].from, (long)have,
                     (long)want);
    }
}

static void summer_time(void **state)
{
    struct kl_cron c;
    setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
    tzset();
    assert_int_equal(kl_cron_parse("30 2 * * *", &c, NULL), 0);
    // On 2026-03-29 there is no 02:30; on 2026-10-25 it is there twice.
    assert_int_equal(kl_cron_next(&c, at("2026-03-28 12:00:00")), at("2026-03-30 02:30:00"));
    time_t first = kl_cron_next(&c, at("2026-10-24 12:00:00"));
    assert_int_equal(kl_cron_next(&c, first) - first, 3600);
    setenv("TZ", "UTC0", 1);
    tzset();
}

static void never(void **state)
{
    struct kl_cron c;
    assert_int_equal(kl_cron_parse("0 0 31 2 *", &c, NULL), 0);
    assert_int_equal(kl_cron_next(&c, at("2026-01-01 00:00:00")), -1);
}

static void refused(void **state)
{
    static const char *const bad[] = {"",           "* * * *",     "* * * * * *", "60 * * * *",
                                      "* 24 * * *", "* * 0 * *",   "* * * 13 *",  "* * * * 8",
                                      "a * * * *",  "5-1 * * * *", "*/0 * * * *", "*/ * * * *",
                                      "1, * * * *", "-1 * * * *",  "@reboot",     "1-2-3 * * * *"};
    for (size_t i = 0; i < KL_COUNT(bad); i++) {
        struct kl_cron c;
        struct kl_error err = {0};
        if (kl_cron_parse(bad[i], &c, &err) != KL_EINVALID)
            fail_msg("\"%s\" was accepted", bad[i]);
        assert_true(strlen(err.msg) > 10);
    }
}

int main(void)
{
    setenv("TZ", "UTC0", 1);
    tzset();
    const struct CMUnitTest tests[] = {cmocka_unit_test(next_times), cmocka_unit_test(summer_time),
                                       cmocka_unit_test(never), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
