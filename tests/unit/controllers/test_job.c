// SPDX-License-Identifier: Apache-2.0
#include "controllers/job.h"
#include "harness.h"
#include "controllers/finalizer.h"
#include <stdio.h>
#include <stdlib.h>

#define JOBS kl_res(KL_RES_batch_v1_jobs)

static int set_up(void **state)
{
    harness_start("job,ttl-after-finished");
    return 0;
}

static void apply_job(const char *spec)
{
    char json[1500];
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"batch/v1\",\"kind\":\"Job\",\"metadata\":{\"name\":\"j\","
             "\"namespace\":\"ns\"},\"spec\":{\"backoffLimit\":6,\"selector\":{\"matchLabels\":{"
             "\"job\":\"j\"}},\"template\":{\"metadata\":{\"labels\":{\"job\":\"j\"}},\"spec\":{"
             "\"restartPolicy\":\"Never\",\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}},%s}}",
             spec);
    fake_apply(h.f, json);
}

static const struct kl_value *job(void)
{
    struct kl_object *o = fake_get(h.f, JOBS, "ns", "j");
    assert_non_null(o);
    return &o->root;
}

// "active ready succeeded failed"
static void assert_status(const char *expected)
{
    const struct kl_value *s = kl_get(job(), KL_F_status);
    char text[100];
    snprintf(text, sizeof(text), "%d %d %d %d", (int)kl_int_or(kl_get(s, KL_F_active), 0),
             (int)kl_int_or(kl_get(s, KL_F_ready), 0), (int)kl_int_or(kl_get(s, KL_F_succeeded), 0),
             (int)kl_int_or(kl_get(s, KL_F_failed), 0));
    assert_string_equal(text, expected);
}

static void assert_ended(const char *type, const char *reason, const char *message)
{
    assert_condition(JOBS, "ns", "j", type, "True", reason, message);
    const struct kl_value *uncounted = kl_path(job(), KL_F_status, KL_F_uncountedTerminatedPods);
    assert_int_equal(kl_len(kl_get(uncounted, KL_F_succeeded)), 0);
    assert_int_equal(kl_len(kl_get(uncounted, KL_F_failed)), 0);
    size_t n;
    struct kl_object **pods = fake_list(h.f, PODS, "ns", &n);
    for (size_t i = 0; i < n; i++)
        assert_false(kl_job_tracks(&pods[i]->root));
    free(pods);
}

static void end_pod(const struct kl_value *pod, const char *status)
{
    char name[300], patch[600];
    snprintf(name, sizeof(name), "%.*s", KL_PRI(kl_meta_name(pod)));
    snprintf(patch, sizeof(patch), "{\"status\":{%s}}", status);
    fake_patch(h.f, PODS, "ns", name, "status", patch);
}

#define SUCCEEDED "\"phase\":\"Succeeded\",\"conditions\":[]"
#define FAILED "\"phase\":\"Failed\",\"conditions\":[]"

// Of the running pods those of this index (-1: any), at most `max`; how many there were.
static int end_pods(int index, int max, const char *status)
{
    size_t n;
    int ended = 0;
    struct kl_object **pods = fake_list(h.f, PODS, "ns", &n);
    for (size_t i = 0; i < n; i++)
        kl_object_ref(pods[i]);
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *pod = &pods[i]->root;
        bool runs = kl_str_eqz(kl_text_at(pod, KL_F_status, KL_F_phase), "Running");
        if (runs && !kl_meta_deleting(pod) && ended < max &&
            (index < 0 || kl_pod_completion_index(pod) == index)) {
            end_pod(pod, status);
            ended++;
        }
        kl_object_unref(pods[i]);
    }
    free(pods);
    return ended;
}

static void runs_to_completion(void **state)
{
    apply_job("\"completions\":3,\"parallelism\":2");
    harness_run(4000);
    assert_int_equal(count_pods("ns", "Running"), 2);
    assert_status("2 2 0 0");
    assert_true(kl_int_at(job(), 0, KL_F_status, KL_F_startTime) > 0);
    size_t n;
    struct kl_object **pods = fake_list(h.f, PODS, "ns", &n);
    assert_true(kl_controlled_by(&pods[0]->root, kl_meta_uid(job())));
    assert_true(kl_job_tracks(&pods[0]->root));
    free(pods);
    assert_int_equal(end_pods(-1, 1, SUCCEEDED), 1);
    harness_run(4000);
    assert_status("2 2 1 0");
    assert_int_equal(end_pods(-1, 2, SUCCEEDED), 2);
    harness_run(4000);
    assert_status("0 0 3 0");
    assert_int_equal(fake_count(h.f, PODS, "ns"), 3);
    assert_ended("SuccessCriteriaMet", "CompletionsReached",
                 "Reached expected number of succeeded pods");
    assert_ended("Complete", "CompletionsReached", "Reached expected number of succeeded pods");
    assert_true(kl_int_at(job(), 0, KL_F_status, KL_F_completionTime) > 0);
    assert_true(fake_has_event(h.f, "j", "Normal", "Completed", "Job completed"));
    fake_reset_calls(h.f);
    harness_run(600000);
    assert_int_equal(fake_calls(h.f, KL_VERB_UPDATE, JOBS, "status"), 0);
}

// Without a number of completions the first success is enough, when the others have ended too.
static void a_work_queue_ends_with_its_workers(void **state)
{
    apply_job("\"parallelism\":3");
    harness_run(4000);
    assert_status("3 3 0 0");
    end_pods(-1, 1, SUCCEEDED);
    harness_run(4000);
    assert_status("2 2 1 0");
    assert_false(kl_job_finished(job()));
    end_pods(-1, 1, FAILED);
    end_pods(-1, 1, SUCCEEDED);
    harness_run(4000);
    assert_status("0 0 2 1");
    assert_ended("Complete", "CompletionsReached", "Reached expected number of succeeded pods");
}

static void failures_are_retried_with_patience(void **state)
{
    apply_job("\"completions\":1,\"parallelism\":1,\"backoffLimit\":1");
    harness_run(4000);
    assert_int_equal(end_pods(-1, 1, FAILED), 1);
    harness_run(4000);
    assert_status("0 0 0 1");
    assert_int_equal(count_pods("ns", "Running"), 0); // not within ten seconds
    harness_run(10000);
    assert_status("1 1 0 1");
    assert_int_equal(end_pods(-1, 1, FAILED), 1);
    harness_run(4000);
    assert_status("0 0 0 2");
    assert_ended("FailureTarget", "BackoffLimitExceeded",
                 "Job has reached the specified backoff limit");
    assert_ended("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
    assert_true(fake_has_event(h.f, "j", "Warning", "BackoffLimitExceeded",
                               "Job has reached the specified backoff limit"));
    harness_run(1000000);
    assert_int_equal(fake_count(h.f, PODS, "ns"), 2);
}

static void restarts_in_place_count_against_the_limit(void **state)
{
    apply_job("\"completions\":1,\"parallelism\":1,\"backoffLimit\":3,\"template\":{\"metadata\":{"
              "\"labels\":{\"job\":\"j\"}},\"spec\":{\"restartPolicy\":\"OnFailure\","
              "\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}");
    harness_run(4000);
    end_pods(-1, 1, "\"containerStatuses\":[{\"name\":\"c\",\"restartCount\":2}]");
    harness_run(4000);
    assert_false(kl_job_finished(job()));
    end_pods(-1, 1, "\"containerStatuses\":[{\"name\":\"c\",\"restartCount\":3}]");
    harness_run(40000);
    assert_ended("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
    assert_int_equal(count_pods("ns", NULL), 0);
    assert_status("0 0 0 1");
}

static void a_job_has_only_so_much_time(void **state)
{
    apply_job("\"completions\":1,\"parallelism\":1,\"activeDeadlineSeconds\":30");
    harness_run(25000);
    assert_status("1 1 0 0");
    harness_run(20000);
    assert_ended("Failed", "DeadlineExceeded", "Job was active longer than specified deadline");
    assert_int_equal(count_pods("ns", NULL), 0);
}

static void a_job_may_have_all_the_time_there_is(void **state)
{
    apply_job("\"completions\":1,\"parallelism\":1,\"activeDeadlineSeconds\":9223372036854775807");
    harness_run(25000);
    assert_status("1 1 0 0");
}

static const struct kl_value *pod_of_index(int index, struct kl_object **keep)
{
    size_t n;
    struct kl_object **pods = fake_list(h.f, PODS, "ns", &n);
    *keep = NULL;
    for (size_t i = 0; i < n; i++)
        if (kl_pod_completion_index(&pods[i]->root) == index)
            *keep = pods[i];
    free(pods);
    assert_non_null(*keep);
    return &(*keep)->root;
}

static void every_index_is_completed_once(void **state)
{
    struct kl_object *keep;
    apply_job("\"completionMode\":\"Indexed\",\"completions\":4,\"parallelism\":3");
    harness_run(4000);
    assert_status("3 3 0 0");
    const struct kl_value *pod = pod_of_index(1, &keep);
    assert_true(kl_str_starts(kl_meta_name(pod), KL_STR("j-1-")));
    assert_text(kl_text_at(pod, KL_F_spec, KL_F_hostname), "j-1");
    assert_text(kl_text(kl_map_value(kl_meta_labels(pod),
                                     KL_STR("batch.kubernetes.io/job-completion-index"))),
                "1");
    const struct kl_value *c = kl_at(kl_path(pod, KL_F_spec, KL_F_containers), 0);
    const struct kl_value *variable = kl_at(kl_get(c, KL_F_env), 0);
    assert_text(kl_text(kl_get(variable, KL_F_name)), "JOB_COMPLETION_INDEX");
    assert_text(kl_text_at(variable, KL_F_valueFrom, KL_F_fieldRef, KL_F_fieldPath),
                "metadata.labels['batch.kubernetes.io/job-completion-index']");
    end_pods(0, 1, SUCCEEDED);
    end_pods(2, 1, SUCCEEDED);
    harness_run(4000);
    assert_text(kl_text_at(job(), KL_F_status, KL_F_completedIndexes), "0,2");
    assert_status("2 2 2 0");
    end_pods(1, 1, FAILED);
    end_pods(3, 1, SUCCEEDED);
    harness_run(20000);
    assert_text(kl_text_at(job(), KL_F_status, KL_F_completedIndexes), "0,2,3");
    assert_status("1 1 3 1");
    end_pods(1, 1, SUCCEEDED);
    harness_run(4000);
    assert_text(kl_text_at(job(), KL_F_status, KL_F_completedIndexes), "0-3");
    assert_ended("Complete", "CompletionsReached", "Reached expected number of succeeded pods");
}

static void an_index_has_a_limit_of_its_own(void **state)
{
    struct kl_object *keep;
    apply_job("\"completionMode\":\"Indexed\",\"completions\":3,\"parallelism\":3,"
              "\"backoffLimit\":2147483647,\"backoffLimitPerIndex\":1");
    harness_run(4000);
    end_pods(1, 1, FAILED);
    harness_run(5000);
    assert_true(
        kl_job_tracks(pod_of_index(1, &keep))); // to be counted when another takes its place
    assert_status("2 2 0 0");
    harness_run(10000);
    assert_status("3 3 0 1");
    size_t n, again = 0;
    struct kl_object **pods = fake_list(h.f, PODS, "ns", &n);
    for (size_t i = 0; i < n; i++)
        again += kl_pod_index_failures(&pods[i]->root) == 1;
    free(pods);
    assert_int_equal(again, 1);
    end_pods(1, 1, FAILED);
    harness_run(5000);
    assert_text(kl_text_at(job(), KL_F_status, KL_F_failedIndexes), "1");
    assert_false(kl_job_finished(job()));
    end_pods(-1, 2, SUCCEEDED);
    harness_run(5000);
    assert_text(kl_text_at(job(), KL_F_status, KL_F_completedIndexes), "0,2");
    assert_ended("Failed", "FailedIndexes", "Job has failed indexes");
    assert_status("0 0 2 2");
}

static void only_so_many_indexes_may_fail(void **state)
{
    apply_job("\"completionMode\":\"Indexed\",\"completions\":4,\"parallelism\":4,"
              "\"backoffLimit\":2147483647,\"backoffLimitPerIndex\":0,\"maxFailedIndexes\":1");
    harness_run(4000);
    end_pods(0, 1, FAILED);
    harness_run(4000);
    assert_false(kl_job_finished(job()));
    end_pods(2, 1, FAILED);
    harness_run(40000);
    assert_text(kl_text_at(job(), KL_F_status, KL_F_failedIndexes), "0,2");
    assert_ended("Failed", "MaxFailedIndexesExceeded",
                 "Job has exceeded the specified maximal number of failed indexes");
    assert_int_equal(count_pods("ns", "Running"), 0);
}

#define POLICY                                                                                     \
    "\"podFailurePolicy\":{\"rules\":[{\"action\":\"Ignore\",\"onPodConditions\":[{\"type\":"      \
    "\"DisruptionTarget\",\"status\":\"True\"}]},{\"action\":\"FailJob\",\"onExitCodes\":{"        \
    "\"containerName\":\"c\",\"operator\":\"In\",\"values\":[42,43]}}]}"

static void a_policy_says_which_failures_count(void **state)
{
    apply_job("\"completions\":1,\"parallelism\":1,\"backoffLimit\":0," POLICY);
    harness_run(4000);
    assert_int_equal(end_pods(-1, 1,
                              "\"phase\":\"Failed\",\"conditions\":[{\"type\":\"DisruptionTarget\","
                              "\"status\":\"True\"}]"),
                     1);
    harness_run(20000);
    assert_status("1 1 0 0"); // as if nothing had been
    char message[300];
    size_t n;
    struct kl_object **pods = fake_list(h.f, PODS, "ns", &n);
    message[0] = 0;
    for (size_t i = 0; i < n; i++)
        if (kl_str_eqz(kl_text_at(&pods[i]->root, KL_F_status, KL_F_phase), "Running"))
            snprintf(message, sizeof(message),
                     "Container c for pod ns/%.*s failed with exit code 43 matching FailJob rule "
                     "at index 1",
                     KL_PRI(kl_meta_name(&pods[i]->root)));
    free(pods);
    end_pods(-1, 1,
             "\"phase\":\"Failed\",\"containerStatuses\":[{\"name\":\"c\",\"state\":{"
             "\"terminated\":{\"exitCode\":43,\"finishedAt\":\"2023-11-14T22:13:40Z\"}}}]");
    harness_run(4000);
    assert_ended("FailureTarget", "PodFailurePolicy", message);
    assert_ended("Failed", "PodFailurePolicy", message);
    assert_status("0 0 0 1");
}

static void some_successes_may_be_enough(void **state)
{
    apply_job("\"completionMode\":\"Indexed\",\"completions\":5,\"parallelism\":5,"
              "\"successPolicy\":{\"rules\":[{\"succeededIndexes\":\"4\"},{\"succeededIndexes\":"
              "\"0-2\",\"succeededCount\":2}]}");
    harness_run(4000);
    end_pods(1, 1, SUCCEEDED);
    harness_run(4000);
    assert_false(kl_job_finished(job()));
    end_pods(2, 1, SUCCEEDED);
    harness_run(40000);
    assert_ended("SuccessCriteriaMet", "SuccessPolicy", "Matched rules at index 1");
    assert_ended("Complete", "SuccessPolicy", "Matched rules at index 1");
    assert_int_equal(count_pods("ns", "Running"), 0);
    assert_status("0 0 2 0");
}

static void a_job_may_rest(void **state)
{
    apply_job("\"completions\":2,\"parallelism\":2,\"suspend\":true");
    harness_run(4000);
    assert_int_equal(fake_count(h.f, PODS, "ns"), 0);
    assert_condition(JOBS, "ns", "j", "Suspended", "True", "JobSuspended", "Job suspended");
    assert_int_equal(kl_int_at(job(), 0, KL_F_status, KL_F_startTime), 0);
    fake_patch(h.f, JOBS, "ns", "j", NULL, "{\"spec\":{\"suspend\":false}}");
    harness_run(4000);
    assert_status("2 2 0 0");
    assert_condition(JOBS, "ns", "j", "Suspended", "False", "JobResumed", "Job resumed");
    assert_true(kl_int_at(job(), 0, KL_F_status, KL_F_startTime) > 0);
    assert_true(fake_has_event(h.f, "j", "Normal", "Resumed", "Job resumed"));
    fake_patch(h.f, JOBS, "ns", "j", NULL, "{\"spec\":{\"suspend\":true}}");
    harness_run(40000);
    assert_int_equal(fake_count(h.f, PODS, "ns"), 0);
    assert_status("0 0 0 0"); // who is stopped has not failed
}

static void surplus_pods_go_uncounted(void **state)
{
    apply_job("\"completions\":9,\"parallelism\":4");
    harness_run(4000);
    fake_patch(h.f, JOBS, "ns", "j", NULL, "{\"spec\":{\"parallelism\":1}}");
    harness_run(40000);
    assert_int_equal(fake_count(h.f, PODS, "ns"), 1);
    assert_status("1 1 0 0");
}

static size_t most_at_once, now_at_once;
static int64_t last_ms;

static int count_at_once(void *arg, const char *user, const struct kl_call *call,
                         struct kl_error *err)
{
    int64_t now = kl_timers_now_ms(h.ts);
    if (call->res != PODS || (call->verb != KL_VERB_PATCH && call->verb != KL_VERB_DELETE))
        return 0;
    now_at_once = now == last_ms ? now_at_once + 1 : 1;
    last_ms = now;
    most_at_once = now_at_once > most_at_once ? now_at_once : most_at_once;
    return 0;
}

static void many_pods_go_some_at_a_time(void **state)
{
    apply_job("\"completions\":601,\"parallelism\":601,\"backoffLimit\":0");
    harness_run(8000);
    assert_status("601 601 0 0");
    most_at_once = 0;
    fake_on_call(h.f, count_at_once, NULL);
    assert_int_equal(end_pods(-1, 1, FAILED), 1);
    harness_run(10000);
    assert_int_equal(count_pods("ns", "Running"), 0);
    assert_ended("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
    assert_int_equal(most_at_once, 500);
    fake_on_call(h.f, NULL, NULL);
}

static void pods_that_are_deleted_have_failed(void **state)
{
    size_t n;
    apply_job("\"completions\":1,\"parallelism\":1");
    harness_run(4000);
    struct kl_object **pods = fake_list(h.f, PODS, "ns", &n);
    char name[100];
    snprintf(name, sizeof(name), "%.*s", KL_PRI(kl_meta_name(&pods[0]->root)));
    free(pods);
    fake_delete(h.f, PODS, "ns", name, KL_PROPAGATE_DEFAULT);
    harness_run(60000);
    assert_null(fake_get(h.f, PODS, "ns", name)); // its finalizer went
    assert_status("1 1 0 1");
}

static void pods_are_adopted_and_let_go(void **state)
{
    apply_job("\"completions\":2,\"parallelism\":2");
    harness_run(4000);
    size_t n;
    struct kl_object **pods = fake_list(h.f, PODS, "ns", &n);
    char name[100];
    snprintf(name, sizeof(name), "%.*s", KL_PRI(kl_meta_name(&pods[0]->root)));
    free(pods);
    fake_patch(h.f, PODS, "ns", name, NULL, "{\"metadata\":{\"labels\":{\"job\":\"none\"}}}");
    harness_run(4000);
    const struct kl_value *pod = &fake_get(h.f, PODS, "ns", name)->root;
    assert_null(kl_meta_controller(pod));
    assert_false(kl_job_tracks(pod));
    assert_status("2 2 0 0");
    fake_patch(h.f, PODS, "ns", name, NULL, "{\"metadata\":{\"labels\":{\"job\":\"j\"}}}");
    harness_run(40000);
    assert_int_equal(count_pods("ns", NULL), 2); // one of three is too many
    assert_status("2 2 0 0");
    // What a Job that goes leaves behind is not held.
    fake_remove(h.f, JOBS, "ns", "j");
    harness_run(4000);
    pods = fake_list(h.f, PODS, "ns", &n);
    assert_int_equal(n, 2);
    for (size_t i = 0; i < n; i++)
        assert_false(kl_job_tracks(&pods[i]->root));
    free(pods);
}

static int orphan_goes(void *arg, const char *user, const struct kl_call *call,
                       struct kl_error *err)
{
    if (call->verb == KL_VERB_GET && call->res == JOBS && fake_get(h.f, PODS, "ns", "orphan"))
        fake_remove(h.f, PODS, "ns", "orphan");
    return 0;
}

static void an_orphan_may_go_before_it_is_adopted(void **state)
{
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"orphan\","
                    "\"namespace\":\"ns\",\"labels\":{\"job\":\"j\"}}}");
    fake_on_call(h.f, orphan_goes, NULL);
    apply_job("\"completions\":1,\"parallelism\":1");
    harness_run(4000);
    assert_null(fake_get(h.f, PODS, "ns", "orphan"));
    assert_status("1 1 0 0"); // no event tells the Job
    fake_on_call(h.f, NULL, NULL);
}

static void a_finished_job_goes_when_its_time_has_come(void **state)
{
    apply_job("\"completions\":1,\"parallelism\":1,\"ttlSecondsAfterFinished\":60");
    harness_run(4000);
    end_pods(-1, 1, SUCCEEDED);
    harness_run(50000);
    assert_true(kl_job_finished(job()));
    fake_patch(h.f, JOBS, "ns", "j", NULL, "{\"spec\":{\"ttlSecondsAfterFinished\":100}}");
    harness_run(40000);
    assert_false(kl_meta_deleting(job()));
    harness_run(20000);
    assert_true(kl_meta_deleting(job())); // in the foreground, the garbage collector's work
}

static void others_manage_their_own_jobs(void **state)
{
    apply_job("\"completions\":1,\"parallelism\":1,\"managedBy\":\"example.com/x\"");
    harness_run(4000);
    assert_int_equal(fake_count(h.f, PODS, "ns"), 0);
    assert_null(kl_get(job(), KL_F_status));
}

static void indexes_are_sets(void **state)
{
    static const struct {
        const char *text, *parsed;
        int64_t completions, total;
    } rows[] = {
        {"", "", 9, 0},         {"1", "1", 9, 1},         {"1,2", "1,2", 9, 2},
        {"1,2,3", "1-3", 9, 3}, {"0-3,5", "0-3,5", 9, 5}, {"0-3,5-20", "0-3,5-8", 9, 8},
        {"9,10", "", 9, 0},     {"1,x,3", "1,3", 9, 2},   {"1-2,3-4", "1-4", 9, 4},
    };
    struct kl_arena a;
    kl_arena_init(&a, 0);
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_indexes set;
        assert_int_equal(kl_indexes_parse(&a, kl_str(rows[i].text), rows[i].completions, &set), 0);
        assert_text(kl_indexes_text(&a, &set), rows[i].parsed);
        assert_int_equal(kl_indexes_total(&set), rows[i].total);
        for (int64_t k = 0; k < rows[i].completions; k++) {
            bool in = false;
            for (size_t r = 0; r < set.n; r++)
                in |= set.v[r].first <= k && k <= set.v[r].last;
            assert_int_equal(kl_indexes_has(&set, k), in);
        }
    }
    struct kl_indexes set;
    int64_t more[] = {0, 4, 4, 8}, missing[9];
    kl_indexes_parse(&a, KL_STR("1-3,6"), 9, &set);
    kl_indexes_add(&a, &set, more, KL_COUNT(more));
    assert_text(kl_indexes_text(&a, &set), "0-4,6,8");
    assert_int_equal(kl_indexes_missing(&set, 11, missing, 9), 4);
    assert_int_equal(missing[0], 5);
    assert_int_equal(missing[1], 7);
    assert_int_equal(missing[3], 10);
    assert_int_equal(kl_indexes_missing(&set, 11, missing, 2), 2);
    assert_int_equal(kl_indexes_missing(&set, 5, missing, 9), 0);
    kl_arena_fini(&a);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, harness_stop)
    const struct CMUnitTest tests[] = {
        T(runs_to_completion),
        T(a_work_queue_ends_with_its_workers),
        T(failures_are_retried_with_patience),
        T(restarts_in_place_count_against_the_limit),
        T(a_job_has_only_so_much_time),
        T(a_job_may_have_all_the_time_there_is),
        T(every_index_is_completed_once),
        T(an_index_has_a_limit_of_its_own),
        T(only_so_many_indexes_may_fail),
        T(a_policy_says_which_failures_count),
        T(some_successes_may_be_enough),
        T(a_job_may_rest),
        T(surplus_pods_go_uncounted),
        T(many_pods_go_some_at_a_time),
        T(pods_that_are_deleted_have_failed),
        T(pods_are_adopted_and_let_go),
        T(an_orphan_may_go_before_it_is_adopted),
        T(a_finished_job_goes_when_its_time_has_come),
        T(others_manage_their_own_jobs),
        cmocka_unit_test(indexes_are_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
