// SPDX-License-Identifier: Apache-2.0
// Schedules and zones, against the answers of the library that Kubernetes uses (cron_vectors).
#include "object/cron.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const char *vectors;

static void as_upstream(void **state)
{
    char line[512], text[600];
    FILE *f = fopen(vectors, "r");
    int n = 0, bad = 0;
    if (access("/usr/share/zoneinfo/Europe/Berlin", R_OK))
        skip(); // no tzdata
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        char *field[4], *at = line;
        line[strcspn(line, "\n")] = 0;
        field[0] = at;
        for (int i = 3; i > 0; i--) { // a schedule may hold a tab
            char *tab = strrchr(line, '\t');
            assert_non_null(tab);
            if (i == 1)
                tab = strchr(line, '\t');
            *tab = 0;
            field[i] = tab + 1;
        }
        bool utc = strcmp(field[0], "UTC") == 0;
        snprintf(text, sizeof text, "%s%s%s%s", utc ? "" : "TZ=", utc ? "" : field[0],
                 utc ? "" : " ", field[1]);
        struct kl_cron c;
        struct kl_error err = {0};
        int rc = kl_cron_parse(kl_str(text), &c, &err);
        char got[1100];
        if (rc)
            snprintf(got, sizeof got, "%s", err.msg);
        else
            snprintf(got, sizeof got, "%lld", (long long)kl_cron_next(&c, atoll(field[2])));
        if (!rc && strcmp(got, "-1") == 0)
            strcpy(got, "0");
        if (strcmp(got, field[3]) != 0 && bad++ < 20)
            printf("%s from %s: %s, not %s\n", text, field[2], got, field[3]);
        if (!rc)
            kl_cron_fini(&c);
        n++;
    }
    fclose(f);
    assert_int_equal(bad, 0);
    assert_true(n > 900);
}

static void local_time_that_names_itself(void **state)
{
    struct kl_zone *z;
    struct kl_error err = {0};
    setenv("TZ", "Local", 1);
    assert_int_equal(kl_zone_load(KL_STR("Local"), &z, &err), 0); // UTC, as with any unknown name
    assert_int_equal(kl_zone_offset(z, 1700000000), 0);
    assert_int_equal(err.code, 0);
    kl_zone_free(z);
    unsetenv("TZ");
}

static void a_schedule_without_a_space_after_its_zone(void **state)
{
    struct kl_cron c;
    struct kl_error err = {0};
    assert_int_equal(kl_cron_parse(KL_STR("TZ=0"), &c, &err), KL_EINVALID);
    assert_string_equal(err.msg, "invalid schedule format: runtime error: slice bounds out of "
                                 "range [:-1]");
}

static void zones_by_name(void **state)
{
    static const char *const wrong[] = {"Nowhere", "../zoneinfo/UTC", "/etc/localtime", "Europe/",
                                        "Europe"};
    struct kl_error err = {0};
    struct kl_zone *z;
    for (size_t i = 0; i < KL_COUNT(wrong); i++)
        assert_int_equal(kl_zone_load(kl_str(wrong[i]), &z, &err), KL_EINVALID);
    assert_string_equal(err.msg, "unknown time zone Europe"); // a directory
    assert_int_equal(kl_zone_load(KL_STR(""), &z, &err), 0);
    assert_int_equal(kl_zone_offset(z, 0), 0);
    kl_zone_free(z);
    setenv("TZ", ":America/New_York", 1);
    assert_int_equal(kl_zone_load(KL_STR("Local"), &z, &err), 0);
    assert_int_equal(kl_zone_offset(z, 1767225600), -5 * 3600);
    kl_zone_free(z);
    setenv("TZ", "UTC", 1);
}

// Any prefix and any changed byte of a file is read or refused.
static void damaged_files(void **state)
{
    char file[8192];
    struct kl_error err = {0};
    struct kl_zone *z;
    FILE *f = fopen("/usr/share/zoneinfo/Europe/Berlin", "rb");
    if (!f)
        skip();
    size_t n = fread(file, 1, sizeof file, f);
    fclose(f);
    for (size_t i = 0; i < n; i++)
        if (!kl_zone_read((struct kl_str){file, i}, &z, &err))
            kl_zone_free(z);
    for (size_t i = 0; i < n; i++) {
        char was = file[i];
        for (int bit = 0; bit < 8; bit++) {
            file[i] = (char)(was ^ 1 << bit);
            if (kl_zone_read((struct kl_str){file, n}, &z, &err))
                continue;
            for (int64_t t = -4000000000; t < 8000000000; t += 700000001)
                kl_zone_civil(z, t);
            kl_zone_free(z);
        }
        file[i] = was;
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_upstream),
        cmocka_unit_test(a_schedule_without_a_space_after_its_zone),
        cmocka_unit_test(local_time_that_names_itself),
        cmocka_unit_test(zones_by_name),
        cmocka_unit_test(damaged_files),
    };
    vectors = argv[1];
    setenv("TZ", "UTC", 1);
    return argc == 2 ? cmocka_run_group_tests(tests, NULL, NULL) : 2;
}
