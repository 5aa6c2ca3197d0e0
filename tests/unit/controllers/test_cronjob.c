// SPDX-License-Identifier: Apache-2.0
#include "harness.h"
#include "client/helpers.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CRONJOBS kl_res(KL_RES_batch_v1_cronjobs)
#define JOBS kl_res(KL_RES_batch_v1_jobs)
#define MINUTE 60000

static int set_up(void **state) // the clock shows 22:13:20 on 2023-11-14
{
    harness_start("cronjob");
    h.no_kubelet = true;
    return 0;
}

static void apply_cron(const char *schedule, const char *more)
{
    char json[900];
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"batch/v1\",\"kind\":\"CronJob\",\"metadata\":{\"name\":\"c\","
             "\"namespace\":\"ns\"},\"spec\":{\"schedule\":\"%s\",%s\"jobTemplate\":{\"metadata\":{"
             "\"labels\":{\"l\":\"1\"},\"annotations\":{\"a\":\"2\"}},\"spec\":{\"template\":{"
             "\"spec\":{\"restartPolicy\":\"Never\",\"containers\":[{\"name\":\"c\",\"image\":"
             "\"i\"}]}}}}}}",
             schedule, more);
    fake_apply(h.f, json);
}

static size_t count_jobs(void)
{
    size_t n;
    free(fake_list(h.f, JOBS, "ns", &n));
    return n;
}

static void finish(const char *name, const char *condition, const char *at)
{
    char patch[400];
    snprintf(patch, sizeof(patch),
             "{\"status\":{\"startTime\":\"%s\",\"completionTime\":\"%s\",\"conditions\":[{"
             "\"type\":\"%s\",\"status\":\"True\"}]}}",
             at, at, condition);
    fake_patch(h.f, JOBS, "ns", name, "status", patch);
}

static const struct kl_value *status(void)
{
    return kl_get(&fake_get(h.f, CRONJOBS, "ns", "c")->root, KL_F_status);
}

static size_t active(void)
{
    return kl_len(kl_get(status(), KL_F_active));
}

static void starts_a_job_each_minute(void **state)
{
    apply_cron("*/1 * * * ?", "\"timeZone\":\"Etc/UTC\",");
    harness_run(30000);
    assert_int_equal(count_jobs(), 0);
    harness_run(20000);
    assert_int_equal(count_jobs(), 1);
    struct kl_object *job = fake_get(h.f, JOBS, "ns", "c-28333334");
    assert_non_null(job);
    assert_text(kl_annotation(&job->root, "batch.kubernetes.io/cronjob-scheduled-timestamp"),
                "2023-11-14T22:14:00Z");
    assert_text(kl_annotation(&job->root, "a"), "2");
    assert_text(kl_text(kl_map_value(kl_meta_labels(&job->root), KL_STR("l"))), "1");
    assert_text(kl_text(kl_get(kl_meta_controller(&job->root), KL_F_kind)), "CronJob");
    assert_true(fake_has_event(h.f, "c", "Normal", "SuccessfulCreate", "Created job c-28333334"));
    assert_int_equal(active(), 1);
    assert_int_equal(kl_int_at(status(), 0, KL_F_lastScheduleTime), INT64_C(1700000040000000));
    harness_run(2 * MINUTE);
    assert_int_equal(count_jobs(), 3);
    assert_int_equal(active(), 3);
    assert_text(kl_text(kl_get(kl_at(kl_get(status(), KL_F_active), 2), KL_F_name)), "c-28333336");
    finish("c-28333334", "Complete", "2023-11-14T22:15:30Z");
    harness_run(1000);
    assert_int_equal(active(), 2);
    assert_int_equal(kl_int_at(status(), 0, KL_F_lastSuccessfulTime), INT64_C(1700000130000000));
    assert_true(fake_has_event(h.f, "c", "Normal", "SawCompletedJob",
                               "Saw completed job: c-28333334, condition: Complete"));
}

static void one_at_a_time(void **state)
{
    apply_cron("* * * * *", "\"concurrencyPolicy\":\"Forbid\",");
    harness_run(3 * MINUTE);
    assert_int_equal(count_jobs(), 1);
    assert_int_equal(active(), 1);
    assert_true(fake_has_event(h.f, "c", "Normal", "JobAlreadyActive",
                               "Not starting job because prior execution is running and "
                               "concurrency policy is Forbid"));
    finish("c-28333334", "Failed", "2023-11-14T22:15:30Z");
    harness_run(MINUTE);
    assert_int_equal(count_jobs(), 2);
    assert_int_equal(active(), 1);
}

static void the_new_one_replaces_the_old(void **state)
{
    apply_cron("* * * * *", "\"concurrencyPolicy\":\"Replace\",");
    harness_run(50000);
    assert_non_null(fake_get(h.f, JOBS, "ns", "c-28333334"));
    harness_run(MINUTE);
    assert_null(fake_get(h.f, JOBS, "ns", "c-28333334"));
    assert_non_null(fake_get(h.f, JOBS, "ns", "c-28333335"));
    assert_int_equal(active(), 1);
    assert_true(fake_has_event(h.f, "c", "Normal", "SuccessfulDelete", "Deleted job c-28333334"));
}

static void old_ones_go(void **state)
{
    apply_cron("* * * * *", "\"successfulJobsHistoryLimit\":1,\"failedJobsHistoryLimit\":0,");
    harness_run(50000 + 2 * MINUTE);
    assert_int_equal(count_jobs(), 3);
    finish("c-28333334", "Complete", "2023-11-14T22:14:30Z");
    finish("c-28333335", "Complete", "2023-11-14T22:15:30Z");
    finish("c-28333336", "Failed", "2023-11-14T22:16:08Z");
    harness_run(1000);
    assert_int_equal(count_jobs(), 1);
    assert_non_null(fake_get(h.f, JOBS, "ns", "c-28333335"));
    assert_int_equal(active(), 0);
}

static void what_is_suspended_or_late_is_not_made_up_for(void **state)
{
    apply_cron("* * * * *", "\"suspend\":true,\"startingDeadlineSeconds\":20,");
    harness_run(5 * MINUTE);
    assert_int_equal(count_jobs(), 0);
    harness_run(30000); // 22:18:50: the last one was due 50 seconds ago
    fake_patch(h.f, CRONJOBS, "ns", "c", NULL, "{\"spec\":{\"suspend\":false}}");
    harness_run(5000);
    assert_int_equal(count_jobs(), 0);
    harness_run(10000);
    assert_int_equal(count_jobs(), 1);
    assert_non_null(fake_get(h.f, JOBS, "ns", "c-28333339"));
}

static void a_zone_moves_the_hours(void **state)
{
    apply_cron("30 23 * * *", "\"timeZone\":\"Europe/Berlin\",");
    harness_run(20 * MINUTE); // 22:33 UTC
    assert_int_equal(count_jobs(), 1);
    struct kl_object *job = fake_get(h.f, JOBS, "ns", "c-28333350");
    assert_non_null(job);
    assert_text(kl_annotation(&job->root, "batch.kubernetes.io/cronjob-scheduled-timestamp"),
                "2023-11-14T23:30:00+01:00");
}

static void what_cannot_be_read_is_told(void **state)
{
    apply_cron("0 0 31 2 *", "");
    harness_run(1000);
    assert_true(fake_has_event(h.f, "c", "Warning", "InvalidSchedule",
                               "invalid schedule: 0 0 31 2 * : time difference between two "
                               "schedules is less than 1 second"));
    fake_patch(h.f, CRONJOBS, "ns", "c", NULL,
               "{\"spec\":{\"schedule\":\"* * * * *\",\"timeZone\":\"Mars/Base\"}}");
    fake_patch(h.f, CRONJOBS, "ns", "c", NULL, "{\"metadata\":{\"labels\":{\"x\":\"y\"}}}");
    harness_run(1000);
    assert_true(fake_has_event(h.f, "c", "Warning", "UnknownTimeZone",
                               "invalid timeZone: \"Mars/Base\": unknown time zone Mars/Base"));
    assert_int_equal(count_jobs(), 0);
}

static void a_job_that_vanished_is_forgotten(void **state)
{
    apply_cron("* * * * *", "");
    harness_run(50000);
    assert_int_equal(active(), 1);
    fake_delete(h.f, JOBS, "ns", "c-28333334", KL_PROPAGATE_BACKGROUND);
    harness_run(1000);
    assert_int_equal(active(), 0);
    assert_true(
        fake_has_event(h.f, "c", "Normal", "MissingJob", "Active job went missing: c-28333334"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(starts_a_job_each_minute, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(one_at_a_time, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(the_new_one_replaces_the_old, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(old_ones_go, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(what_is_suspended_or_late_is_not_made_up_for, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(a_zone_moves_the_hours, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_is_told, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(a_job_that_vanished_is_forgotten, set_up, harness_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
