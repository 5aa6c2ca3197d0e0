// SPDX-License-Identifier: Apache-2.0
// All controllers and the scheduler together.
#include "client/helpers.h"
#include "harness.h"
#include "scheduler/scheduler.h"
#include <stdio.h>
#include <stdlib.h>

static struct kl_client *client;
static struct kl_scheduler *scheduler;

static void add_node(const char *name)
{
    char json[768];
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"%s\"},\"status\":{"
             "\"allocatable\":{\"cpu\":\"4\",\"memory\":\"8Gi\",\"pods\":\"110\"},\"conditions\":[{"
             "\"type\":\"Ready\",\"status\":\"True\"}]}}",
             name);
    fake_apply(h.f, json);
}

static bool has_node(const struct kl_value *pod)
{
    return kl_text_at(pod, KL_F_spec, KL_F_nodeName).n != 0;
}

static int set_up(void **state)
{
    harness_start(NULL);
    h.may_run = has_node;
    h.keep_node = true;
    client = fake_client_new(h.f, "system:kube-scheduler");
    struct kl_scheduler_options o = {.timers = h.ts, .seed = 1};
    assert_int_equal(kl_scheduler_start(NULL, client, &o, &scheduler, NULL), 0);
    add_node("n1");
    add_node("n2");
    fake_apply(h.f,
               "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"ns\"}}");
    fake_apply(h.f,
               "{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"web\","
               "\"namespace\":\"ns\"},\"spec\":{\"replicas\":4,\"strategy\":{\"type\":"
               "\"RollingUpdate\",\"rollingUpdate\":{\"maxSurge\":1,\"maxUnavailable\":0}},"
               "\"selector\":{\"matchLabels\":{\"app\":\"web\"}},\"template\":{\"metadata\":{"
               "\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":\"c\","
               "\"resources\":{\"requests\":{\"cpu\":\"1\"}}}]}}}}");
    harness_run(8000);
    return 0;
}

static int tear_down(void **state)
{
    kl_scheduler_stop(scheduler);
    kl_timers_advance(h.ts, 10);
    kl_client_free(client);
    return harness_stop(state);
}

static void a_deployment_runs(void **state)
{
    size_t n;
    int on[3] = {0};
    assert_int_equal(count_pods("ns", "Running"), 4);
    assert_int_equal(status_of(DEPLOYMENTS, "ns", "web", KL_F_availableReplicas), 4);
    struct kl_object **pods = fake_list(h.f, PODS, "ns", &n);
    for (size_t i = 0; i < n; i++)
        on[kl_text_at(&pods[i]->root, KL_F_spec, KL_F_nodeName).p[1] - '0']++;
    free(pods);
    assert_int_equal(on[1], 2);
    assert_int_equal(on[2], 2);
    assert_non_null(fake_get(h.f, kl_res(KL_RES_core_v1_serviceaccounts), "ns", "default"));
}

static void deleting_it_takes_all_along(void **state)
{
    fake_delete(h.f, DEPLOYMENTS, "ns", "web", KL_PROPAGATE_BACKGROUND);
    harness_run(5000);
    assert_int_equal(fake_count(h.f, REPLICASETS, "ns"), 0);
    assert_int_equal(fake_count(h.f, PODS, "ns"), 0);
}

static void deleting_it_in_the_foreground_too(void **state)
{
    fake_delete(h.f, DEPLOYMENTS, "ns", "web", KL_PROPAGATE_FOREGROUND);
    harness_run(200);
    assert_non_null(fake_get(h.f, DEPLOYMENTS, "ns", "web")); // waits for its pods
    harness_run(5000);
    assert_null(fake_get(h.f, DEPLOYMENTS, "ns", "web"));
    assert_int_equal(fake_count(h.f, PODS, "ns"), 0);
}

static void orphans_are_adopted_again(void **state)
{
    fake_delete(h.f, DEPLOYMENTS, "ns", "web", KL_PROPAGATE_ORPHAN);
    harness_run(3000);
    assert_int_equal(fake_count(h.f, REPLICASETS, "ns"), 1);
    assert_int_equal(count_pods("ns", "Running"), 4);
}

static void deleting_the_namespace_ends_everything(void **state)
{
    fake_delete(h.f, NAMESPACES, "", "ns", KL_PROPAGATE_DEFAULT);
    harness_run(10000);
    assert_null(fake_get(h.f, NAMESPACES, "", "ns"));
    assert_int_equal(fake_count(h.f, PODS, "ns") + fake_count(h.f, REPLICASETS, "ns") +
                         fake_count(h.f, DEPLOYMENTS, "ns"),
                     0);
    assert_null(fake_get(h.f, kl_res(KL_RES_core_v1_serviceaccounts), "ns", "default"));
}

static void at_rest_nothing_is_written(void **state)
{
    size_t writes = 0;
    // One lease renewal is what a node does by itself; without kubelets they are lost after a
    // while, so look at less than their grace.
    harness_run(20000);
    fake_reset_calls(h.f);
    harness_run(15000);
    for (uint16_t i = 0; i < kl_nresources; i++) {
        for (int v = 0; v < KL_VERB_COUNT; v++)
            writes += fake_calls(h.f, (enum kl_verb)v, kl_res(i), "") +
                      fake_calls(h.f, (enum kl_verb)v, kl_res(i), "status");
    }
    assert_int_equal(writes, 0);
    assert_true(kl_controllers_idle(h.controllers));
    assert_true(kl_scheduler_idle(scheduler));
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_deployment_runs),
        T(deleting_it_takes_all_along),
        T(deleting_it_in_the_foreground_too),
        T(orphans_are_adopted_again),
        T(deleting_the_namespace_ends_everything),
        T(at_rest_nothing_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
