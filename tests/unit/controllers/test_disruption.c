// SPDX-License-Identifier: Apache-2.0
#include "harness.h"
#include "client/helpers.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BUDGETS kl_res(KL_RES_policy_v1_poddisruptionbudgets)

static int set_up(void **state)
{
    harness_start("disruption,replicaset,deployment,replicationcontroller");
    return 0;
}

static void apply_budget(const char *spec)
{
    char json[600];
    snprintf(
        json, sizeof(json),
        "{\"apiVersion\":\"policy/v1\",\"kind\":\"PodDisruptionBudget\",\"metadata\":{\"name\":"
        "\"b\",\"namespace\":\"ns\"},\"spec\":{%s,\"selector\":{\"matchLabels\":{\"app\":"
        "\"web\"}}}}",
        spec);
    fake_apply(h.f, json);
}

static void apply_workload(const char *api, const char *kind, const char *name, int replicas)
{
    char json[700];
    const char *selector = strcmp(kind, "ReplicationController") == 0 ? "" : "\"matchLabels\":";
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"%s\",\"kind\":\"%s\",\"metadata\":{\"name\":\"%s\",\"namespace\":"
             "\"ns\"},\"spec\":{\"replicas\":%d,\"selector\":{%s%s\"app\":\"web\",\"of\":\"%s\"%s},"
             "\"template\":{\"metadata\":{\"labels\":{\"app\":\"web\",\"of\":\"%s\"}},\"spec\":{"
             "\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}}}",
             api, kind, name, replicas, selector, *selector ? "{" : "", name, *selector ? "}" : "",
             name);
    fake_apply(h.f, json);
}

static void assert_counts(int64_t healthy, int64_t desired, int64_t expected, int64_t allowed)
{
    assert_int_equal(status_of(BUDGETS, "ns", "b", KL_F_currentHealthy), healthy);
    assert_int_equal(status_of(BUDGETS, "ns", "b", KL_F_desiredHealthy), desired);
    assert_int_equal(status_of(BUDGETS, "ns", "b", KL_F_expectedPods), expected);
    assert_int_equal(status_of(BUDGETS, "ns", "b", KL_F_disruptionsAllowed), allowed);
    assert_condition(BUDGETS, "ns", "b", "DisruptionAllowed", allowed ? "True" : "False",
                     allowed ? "SufficientPods" : "InsufficientPods", "");
}

static void nothing_may_go_of_nothing(void **state)
{
    apply_budget("\"minAvailable\":0");
    harness_run(1000);
    assert_counts(0, 0, 0, 0);
    assert_int_equal(status_of(BUDGETS, "ns", "b", KL_F_observedGeneration), 1);
    assert_true(fake_has_event(h.f, "b", "Normal", "NoPods", "No matching pods found"));
}

static void a_number_counts_the_pods(void **state)
{
    apply_budget("\"minAvailable\":2");
    apply_workload("apps/v1", "ReplicaSet", "web", 3);
    harness_run(5000);
    assert_counts(3, 2, 3, 1);
    // Nothing more is written when nothing happens.
    fake_reset_calls(h.f);
    harness_run(600000);
    assert_int_equal(fake_calls(h.f, KL_VERB_UPDATE, BUDGETS, "status"), 0);
    fake_patch(h.f, BUDGETS, "ns", "b", NULL, "{\"spec\":{\"minAvailable\":3}}");
    harness_run(1000);
    assert_counts(3, 3, 3, 0);
}

static void a_part_is_of_what_the_controllers_want(void **state)
{
    h.may_run = NULL;
    apply_budget("\"maxUnavailable\":\"30%\"");
    apply_workload("apps/v1", "Deployment", "d", 4);
    apply_workload("v1", "ReplicationController", "rc", 3);
    apply_workload("apps/v1", "ReplicaSet", "rs", 3);
    harness_run(8000);
    assert_counts(10, 7, 10, 3);
    // One pod less is not one wanted less.
    size_t n;
    struct kl_object **pods = fake_list(h.f, PODS, "ns", &n);
    char name[300];
    snprintf(name, sizeof(name), "%.*s", KL_PRI(kl_meta_name(&pods[0]->root)));
    free(pods);
    h.ready_ms = 1 << 30;
    fake_delete(h.f, PODS, "ns", name, KL_PROPAGATE_DEFAULT);
    harness_run(5000);
    assert_counts(9, 7, 10, 2);
}

static void whose_pods_these_are_must_be_known(void **state)
{
    fake_apply(
        h.f, "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"lost\","
             "\"namespace\":\"ns\",\"labels\":{\"app\":\"web\"},\"ownerReferences\":[{"
             "\"apiVersion\":\"apps/v1\",\"kind\":\"StatefulSet\",\"name\":\"gone\",\"uid\":\"u\","
             "\"controller\":true}]},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":"
             "\"i\"}]}}");
    apply_budget("\"maxUnavailable\":1");
    harness_run(3000);
    assert_int_equal(status_of(BUDGETS, "ns", "b", KL_F_disruptionsAllowed), 0);
    assert_condition(BUDGETS, "ns", "b", "DisruptionAllowed", "False", "SyncFailed",
                     "found no controllers for pod \"lost\"");
    assert_true(fake_has_event(h.f, "b", "Warning", "CalculateExpectedPodCountFailed",
                               "Failed to calculate the number of expected pods: found no "
                               "controllers for pod \"lost\""));
}

// A ReplicaSet that says it is a Deployment's which is not there wants what it says itself.
static void who_lost_its_deployment_is_asked(void **state)
{
    fake_apply(
        h.f, "{\"apiVersion\":\"apps/v1\",\"kind\":\"ReplicaSet\",\"metadata\":{\"name\":\"rest\","
             "\"namespace\":\"ns\",\"ownerReferences\":[{\"apiVersion\":\"apps/v1\",\"kind\":"
             "\"Deployment\",\"name\":\"gone\",\"uid\":\"u\",\"controller\":true}]},\"spec\":{"
             "\"replicas\":7,\"selector\":{\"matchLabels\":{\"app\":\"web\"}},\"template\":{"
             "\"metadata\":{\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":"
             "\"c\",\"image\":\"i\"}]}}}}");
    apply_budget("\"maxUnavailable\":3");
    harness_run(5000);
    assert_counts(7, 4, 7, 3);
}

static void what_has_no_scale_is_named(void **state)
{
    fake_apply(h.f,
               "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"agent\","
               "\"namespace\":\"ns\",\"labels\":{\"app\":\"web\"},\"ownerReferences\":[{"
               "\"apiVersion\":\"apps/v1\",\"kind\":\"DaemonSet\",\"name\":\"agent\",\"uid\":\"u\","
               "\"controller\":true}]},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":"
               "\"i\"}]}}");
    apply_budget("\"maxUnavailable\":1");
    harness_run(3000);
    assert_condition(BUDGETS, "ns", "b", "DisruptionAllowed", "False", "SyncFailed",
                     "daemonsets.apps does not implement the scale subresource");
}

static void a_pod_without_a_controller_is_told(void **state)
{
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"alone\","
                    "\"namespace\":\"ns\",\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{"
                    "\"name\":\"c\",\"image\":\"i\"}]}}");
    apply_budget("\"minAvailable\":\"50%\"");
    harness_run(3000);
    assert_counts(1, 0, 0, 0);
    assert_true(fake_has_event(
        h.f, "b", "Warning", "UnmanagedPods",
        "Pods selected by this PodDisruptionBudget (selector: "
        "&LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]"
        "LabelSelectorRequirement{},}) were found to be unmanaged. As a result, the status of the "
        "PDB cannot be calculated correctly, which may result in undefined behavior. To account "
        "for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."));
}

static void who_was_evicted_counts_again_when_it_stays(void **state)
{
    apply_budget("\"minAvailable\":1");
    apply_workload("apps/v1", "ReplicaSet", "web", 2);
    harness_run(5000);
    assert_counts(2, 1, 2, 1);
    size_t n;
    struct kl_object **pods = fake_list(h.f, PODS, "ns", &n);
    char patch[600], text[64], name[300];
    snprintf(name, sizeof(name), "%.*s", KL_PRI(kl_meta_name(&pods[0]->root)));
    free(pods);
    time_t now = (time_t)(kl_timers_wall_us(h.ts) / 1000000);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    snprintf(patch, sizeof(patch),
             "{\"status\":{\"disruptionsAllowed\":0,\"disruptedPods\":{\"%s\":\"%s\"}}}", name,
             text);
    fake_patch(h.f, BUDGETS, "ns", "b", "status", patch);
    harness_run(1000);
    assert_counts(1, 1, 2, 0);
    harness_run(121000);
    assert_counts(2, 1, 2, 1);
    assert_true(fake_has_event(h.f, name, "Warning", "NotDeleted",
                               "Pod was expected by PDB ns/ns to be deleted but it wasn't"));
}

static void a_disruption_that_did_not_come_is_taken_back(void **state)
{
    h.no_kubelet = true;
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\","
                    "\"namespace\":\"ns\"},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":"
                    "\"i\"}]}}");
    char patch[300], text[64];
    time_t now = (time_t)(kl_timers_wall_us(h.ts) / 1000000);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    snprintf(patch, sizeof(patch),
             "{\"status\":{\"conditions\":[{\"type\":\"DisruptionTarget\",\"status\":\"True\","
             "\"reason\":\"EvictionByEvictionAPI\",\"lastTransitionTime\":\"%s\"}]}}",
             text);
    fake_patch(h.f, PODS, "ns", "p", "status", patch);
    harness_run(110000);
    assert_text(kl_text(kl_get(condition_of(PODS, "ns", "p", "DisruptionTarget"), KL_F_status)),
                "True");
    harness_run(15000);
    assert_text(kl_text(kl_get(condition_of(PODS, "ns", "p", "DisruptionTarget"), KL_F_status)),
                "False");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_may_go_of_nothing, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(a_number_counts_the_pods, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(a_part_is_of_what_the_controllers_want, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(whose_pods_these_are_must_be_known, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(who_lost_its_deployment_is_asked, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(what_has_no_scale_is_named, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(a_pod_without_a_controller_is_told, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(who_was_evicted_counts_again_when_it_stays, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(a_disruption_that_did_not_come_is_taken_back, set_up,
                                        harness_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
