// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "object/timestamp.h"

#define LAYOUT "2006-01-02T15:04:05Z07:00"
#define MICRO "2006-01-02T15:04:05.000000Z07:00"

static void check_time(const char *in, int64_t us, const char *text)
{
    int64_t got = 0;
    struct kl_error err = {0};
    char out[KL_TIME_TEXT];
    if (kl_time_parse(kl_str(in), &got, &err) < 0)
        fail_msg("%s: %s", in, err.msg);
    assert_int_equal(got, us);
    assert_int_equal(kl_time_text(got, out), strlen(text));
    assert_string_equal(out, text);
}

static void test_times(void **state)
{
    check_time("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z");
    check_time("2024-02-29T23:59:59Z", 1709251199000000, "2024-02-29T23:59:59Z");
    check_time("2000-03-01T00:00:00.123456789Z", 951868800123456, "2000-03-01T00:00:00Z");
    check_time("2000-03-01T01:30:00+01:30", 951868800000000, "2000-03-01T00:00:00Z");
    check_time("2000-03-01T3:04:05Z", 951879845000000, "2000-03-01T03:04:05Z");
    check_time("2000-03-01T00:00:00,5Z", 951868800500000, "2000-03-01T00:00:00Z");
    check_time("0001-01-01T00:00:00Z", KL_TIME_ZERO_US, "0001-01-01T00:00:00Z");
    check_time("1969-12-31T23:59:59.5Z", -500000, "1969-12-31T23:59:59Z");
    check_time("9999-12-31T23:59:59Z", 253402300799000000, "9999-12-31T23:59:59Z");
    check_time("2000-01-01T00:00:00-24:60", 946774800000000, "2000-01-02T01:00:00Z");
}

static void check_error(const char *in, bool micro, const char *want)
{
    int64_t us;
    struct kl_error err = {0};
    int rc =
        micro ? kl_microtime_parse(kl_str(in), &us, &err) : kl_time_parse(kl_str(in), &us, &err);
    assert_int_equal(rc, KL_EBADREQUEST);
    assert_string_equal(err.msg, want);
}

static void test_errors(void **state)
{
    check_error("x", false, "parsing time \"x\" as \"" LAYOUT "\": cannot parse \"x\" as \"2006\"");
    check_error("", false, "parsing time \"\" as \"" LAYOUT "\": cannot parse \"\" as \"2006\"");
    check_error("2000-01-01", false,
                "parsing time \"2000-01-01\" as \"" LAYOUT "\": cannot parse \"\" as \"T\"");
    check_error("2000-13-01T00:00:00Z", false,
                "parsing time \"2000-13-01T00:00:00Z\": month out of range");
    check_error("2001-02-29T00:00:00Z", false,
                "parsing time \"2001-02-29T00:00:00Z\": day out of range");
    check_error("2001-02-01T24:00:00Z", false,
                "parsing time \"2001-02-01T24:00:00Z\": hour out of range");
    check_error("2001-02-01T00:00:00Zz", false,
                "parsing time \"2001-02-01T00:00:00Zz\": extra text: \"z\"");
    check_error("2001-02-01T00:00:00+1:00", false,
                "parsing time \"2001-02-01T00:00:00+1:00\" as \"" LAYOUT
                "\": cannot parse \"+1:00\" as \"Z07:00\"");
    check_error("\"\xc3\xa4", false,
                "parsing time \"\\\"\\xc3\\xa4\" as \"" LAYOUT
                "\": cannot parse \"\\\"\\xc3\\xa4\" as \"2006\"");
    check_error("2001-02-01T00:00:00Z", true,
                "parsing time \"2001-02-01T00:00:00Z\" as \"" MICRO
                "\": cannot parse \"Z\" as \".000000\"");
    check_error("2001-02-01T00:00:00.1234567Z", true,
                "parsing time \"2001-02-01T00:00:00.1234567Z\" as \"" MICRO
                "\": cannot parse \"7Z\" as \"Z07:00\"");
}

static void test_microtime(void **state)
{
    int64_t us = 0;
    char out[KL_TIME_TEXT];
    assert_int_equal(kl_microtime_parse(KL_STR("2000-03-01T00:00:00.000120Z"), &us, NULL), 0);
    assert_int_equal(us, 951868800000120);
    kl_microtime_text(us, out);
    assert_string_equal(out, "2000-03-01T00:00:00.000120Z");
}

// Every day of 800 years: the text of a day reads back as that day.
static void test_every_day(void **state)
{
    const int64_t day_us = INT64_C(86400000000);
    for (int64_t d = -146097; d <= 146097; d++) {
        char out[KL_TIME_TEXT];
        int64_t us;
        size_t n = kl_time_text(d * day_us, out);
        assert_int_equal(kl_time_parse((struct kl_str){out, n}, &us, NULL), 0);
        assert_int_equal(us, d * day_us);
    }
}

static void check_duration(const char *in, int64_t ns, const char *text)
{
    int64_t got = -1;
    char out[KL_TIME_TEXT];
    if (!text) {
        assert_int_equal(kl_duration_parse(kl_str(in), &got), KL_EINVALID);
        return;
    }
    assert_int_equal(kl_duration_parse(kl_str(in), &got), 0);
    assert_int_equal(got, ns);
    kl_duration_text(got, out);
    assert_string_equal(out, text);
}

static void test_durations(void **state)
{
    check_duration("0", 0, "0s");
    check_duration("1h30m", 5400000000000, "1h30m0s");
    check_duration("-1.5s", -1500000000, "-1.5s");
    check_duration("100ms", 100000000, "100ms");
    check_duration("1.5us", 1500, "1.5\xc2\xb5s");
    check_duration("1\xce\xbcs", 1000, "1\xc2\xb5s");
    check_duration("7ns", 7, "7ns");
    check_duration("61.25s", 61250000000, "1m1.25s");
    check_duration("-2562047h47m16.854775808s", INT64_MIN, "-2562047h47m16.854775808s");
    check_duration("2562047h47m16.854775808s", 0, NULL);
    check_duration("", 0, NULL);
    check_duration("1", 0, NULL);
    check_duration(".s", 0, NULL);
    check_duration("1d", 0, NULL);
    check_duration("99999999999999999999s", 0, NULL);
}

static void test_human(void **state)
{
    static const struct {
        int64_t s;
        const char *text;
    } cases[] = {
        {-2, "<invalid>"},  {-1, "0s"},        {0, "0s"},      {119, "119s"},      {120, "2m"},
        {125, "2m5s"},      {599, "9m59s"},    {600, "10m"},   {10799, "179m"},    {10800, "3h"},
        {10860, "3h1m"},    {28799, "7h59m"},  {28800, "8h"},  {172799, "47h"},    {172800, "2d"},
        {176400, "2d1h"},   {691199, "7d23h"}, {691200, "8d"}, {63071999, "729d"}, {63072000, "2y"},
        {63158400, "2y1d"}, {252288000, "8y"},
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        char out[KL_TIME_TEXT];
        kl_human_duration(cases[i].s, out);
        assert_string_equal(out, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),     cmocka_unit_test(test_errors),
        cmocka_unit_test(test_microtime), cmocka_unit_test(test_every_day),
        cmocka_unit_test(test_durations), cmocka_unit_test(test_human),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
