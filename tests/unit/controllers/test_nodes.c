// SPDX-License-Identifier: Apache-2.0
#include "harness.h"
#include "client/helpers.h"
#include "controllers/node_health.h"
#include "object/timestamp.h"
#include <stdio.h>
#include <stdlib.h>

#define LEASES kl_res(KL_RES_coordination_v1_leases)
enum { MAX_NODES = 8 };
static bool alive[MAX_NODES];
static int nnodes;

static void node_name(char name[24], int i)
{
    snprintf(name, 24, "node-%d", i);
}

static void post_status(int i, const char *ready)
{
    char json[1024], name[24], now[KL_TIME_TEXT];
    node_name(name, i);
    kl_time_text(kl_timers_wall_us(h.ts), now);
    snprintf(json, sizeof(json),
             "{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"%s\",\"reason\":"
             "\"KubeletReady\",\"lastHeartbeatTime\":\"%s\",\"lastTransitionTime\":\"%s\"}]}}",
             ready, now, now);
    fake_patch(h.f, NODES, "", name, "status", json);
}

static void renew_lease(int i)
{
    char json[512], name[24], now[KL_TIME_TEXT];
    node_name(name, i);
    kl_microtime_text(kl_timers_wall_us(h.ts), now);
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"coordination.k8s.io/v1\",\"kind\":\"Lease\",\"metadata\":{\"name\":"
             "\"%s\",\"namespace\":\"kube-node-lease\"},\"spec\":{\"renewTime\":\"%s\"}}",
             name, now);
    fake_apply(h.f, json);
}

// Lets time pass while the kubelets that are alive renew their leases every ten seconds.
static void run_nodes(int64_t ms)
{
    for (int64_t t = 0; t < ms; t += 10000) {
        for (int i = 0; i < nnodes; i++) {
            if (alive[i])
                renew_lease(i);
        }
        harness_run(ms - t < 10000 ? ms - t : 10000);
    }
}

static void add_pod(const char *name, const char *node, const char *tolerations)
{
    char json[1024];
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s\",\"namespace\":"
             "\"ns\"},\"spec\":{\"nodeName\":\"%s\",\"tolerations\":[%s],\"containers\":[{\"name\":"
             "\"c\"}]},\"status\":{\"phase\":\"Running\",\"conditions\":[{\"type\":\"Ready\","
             "\"status\":\"True\"}]}}",
             name, node, tolerations);
    fake_apply(h.f, json);
}

#define FIVE_MINUTES                                                                               \
    "{\"key\":\"node.kubernetes.io/not-ready\",\"operator\":\"Exists\",\"effect\":\"NoExecute\","  \
    "\"tolerationSeconds\":300},{\"key\":\"node.kubernetes.io/unreachable\",\"operator\":"         \
    "\"Exists\",\"effect\":\"NoExecute\",\"tolerationSeconds\":300}"

static void start_with(int n)
{
    harness_start("node-lifecycle,taint-eviction,pod-garbage-collector");
    h.no_kubelet = true;
    nnodes = n;
    for (int i = 0; i < n; i++) {
        char json[256], name[24];
        node_name(name, i);
        snprintf(
            json, sizeof(json),
            "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"%s\",\"labels\":"
            "{\"kubernetes.io/os\":\"linux\"}}}",
            name);
        fake_apply(h.f, json);
        post_status(i, "True");
        alive[i] = true;
    }
    run_nodes(10000);
}

static int set_up(void **state)
{
    start_with(3);
    return 0;
}

static bool has_taint(const char *node, const char *key, const char *effect)
{
    struct kl_object *o = fake_get(h.f, NODES, "", node);
    for (KL_EACH(t, kl_path(&o->root, KL_F_spec, KL_F_taints))) {
        if (kl_str_eqz(kl_text(kl_get(t, KL_F_key)), key) &&
            kl_str_eqz(kl_text(kl_get(t, KL_F_effect)), effect))
            return true;
    }
    return false;
}

static void leases_keep_a_node_alive(void **state)
{
    fake_reset_calls(h.f);
    run_nodes(600000); // the status itself is not posted again
    const struct kl_value *ready = condition_of(NODES, "", "node-0", "Ready");
    assert_text(kl_text(kl_get(ready, KL_F_status)), "True");
    assert_int_equal(fake_calls(h.f, KL_VERB_UPDATE, NODES, "status"), 0);
    assert_int_equal(fake_calls(h.f, KL_VERB_PATCH, NODES, ""), 0);
    assert_true(fake_has_event(h.f, "node-0", "Normal", "RegisteredNode",
                               "Node node-0 event: Registered Node node-0 in Controller"));
    struct kl_object *node = fake_get(h.f, NODES, "", "node-0");
    assert_text(kl_text(kl_map_value(kl_meta_labels(&node->root), KL_STR("beta.kubernetes.io/os"))),
                "linux");
}

static void a_silent_node_is_lost_and_found(void **state)
{
    add_pod("web", "node-0", FIVE_MINUTES);
    add_pod("other", "node-1", FIVE_MINUTES);
    run_nodes(10000);
    alive[0] = false;
    run_nodes(40000);
    assert_text(kl_text(kl_get(condition_of(NODES, "", "node-0", "Ready"), KL_F_status)), "True");
    run_nodes(20000);
    assert_condition(NODES, "", "node-0", "Ready", "Unknown", "NodeStatusUnknown",
                     "Kubelet stopped posting node status.");
    assert_condition(NODES, "", "node-0", "MemoryPressure", "Unknown", "NodeStatusNeverUpdated",
                     "Kubelet never posted node status.");
    assert_true(has_taint("node-0", "node.kubernetes.io/unreachable", "NoSchedule"));
    assert_true(has_taint("node-0", "node.kubernetes.io/unreachable", "NoExecute"));
    assert_false(has_taint("node-1", "node.kubernetes.io/unreachable", "NoSchedule"));
    assert_true(fake_has_event(h.f, "node-0", "Normal", "NodeNotReady",
                               "Node node-0 status is now: NodeNotReady"));
    assert_text(kl_text(kl_get(condition_of(PODS, "ns", "web", "Ready"), KL_F_status)), "False");
    assert_true(fake_has_event(h.f, "web", "Warning", "NodeNotReady", "Node is not ready"));
    // It comes back in time: nobody is evicted.
    alive[0] = true;
    post_status(0, "True");
    run_nodes(10000);
    assert_false(has_taint("node-0", "node.kubernetes.io/unreachable", "NoSchedule"));
    assert_false(has_taint("node-0", "node.kubernetes.io/unreachable", "NoExecute"));
    assert_true(fake_has_event(h.f, "web", "Normal", "TaintManagerEviction",
                               "Cancelling deletion of Pod ns/web"));
    run_nodes(400000);
    assert_false(kl_meta_deleting(&fake_get(h.f, PODS, "ns", "web")->root));
}

static void pods_of_a_lost_node_are_evicted_in_time(void **state)
{
    add_pod("patient", "node-0", FIVE_MINUTES);
    add_pod("hasty", "node-0", "");
    add_pod("eternal", "node-0", "{\"operator\":\"Exists\"}");
    run_nodes(10000);
    alive[0] = false;
    run_nodes(60000);
    assert_true(kl_meta_deleting(&fake_get(h.f, PODS, "ns", "hasty")->root));
    assert_true(fake_has_event(h.f, "hasty", "Normal", "TaintManagerEviction",
                               "Marking for deletion Pod ns/hasty"));
    assert_condition(PODS, "ns", "hasty", "DisruptionTarget", "True", "DeletionByTaintManager",
                     "Taint manager: deleting due to NoExecute taint");
    run_nodes(280000);
    assert_false(kl_meta_deleting(&fake_get(h.f, PODS, "ns", "patient")->root));
    run_nodes(20000);
    assert_true(kl_meta_deleting(&fake_get(h.f, PODS, "ns", "patient")->root));
    assert_false(kl_meta_deleting(&fake_get(h.f, PODS, "ns", "eternal")->root));
}

static void when_all_are_silent_nobody_is_evicted(void **state)
{
    add_pod("web", "node-0", "");
    run_nodes(10000);
    alive[0] = alive[1] = alive[2] = false;
    run_nodes(600000);
    assert_text(kl_text(kl_get(condition_of(NODES, "", "node-0", "Ready"), KL_F_status)),
                "Unknown");
    assert_true(has_taint("node-0", "node.kubernetes.io/unreachable", "NoSchedule"));
    assert_false(has_taint("node-0", "node.kubernetes.io/unreachable", "NoExecute"));
    assert_false(kl_meta_deleting(&fake_get(h.f, PODS, "ns", "web")->root));
}

static void a_kubelet_that_is_not_ready_is_tainted(void **state)
{
    post_status(1, "False");
    run_nodes(10000);
    assert_true(has_taint("node-1", "node.kubernetes.io/not-ready", "NoSchedule"));
    assert_true(has_taint("node-1", "node.kubernetes.io/not-ready", "NoExecute"));
    alive[1] = false;
    run_nodes(70000); // now it is silent as well: the taint is changed at once
    assert_true(has_taint("node-1", "node.kubernetes.io/unreachable", "NoExecute"));
    assert_false(has_taint("node-1", "node.kubernetes.io/not-ready", "NoExecute"));
    assert_false(has_taint("node-1", "node.kubernetes.io/not-ready", "NoSchedule"));
}

static void cordoning_taints(void **state)
{
    fake_patch(h.f, NODES, "", "node-2", NULL,
               "{\"spec\":{\"unschedulable\":true,\"taints\":[{\"key\":\"mine\",\"effect\":"
               "\"NoSchedule\"}]}}");
    harness_run(1000);
    assert_true(has_taint("node-2", "node.kubernetes.io/unschedulable", "NoSchedule"));
    assert_true(has_taint("node-2", "mine", "NoSchedule"));
    fake_patch(h.f, NODES, "", "node-2", NULL, "{\"spec\":{\"unschedulable\":false}}");
    harness_run(1000);
    assert_false(has_taint("node-2", "node.kubernetes.io/unschedulable", "NoSchedule"));
    assert_true(has_taint("node-2", "mine", "NoSchedule"));
}

static void evictions_have_a_rate(void **state)
{
    harness_stop(state);
    start_with(5);
    alive[0] = alive[1] = false;
    run_nodes(50000);
    int tainted = has_taint("node-0", "node.kubernetes.io/unreachable", "NoExecute") +
                  has_taint("node-1", "node.kubernetes.io/unreachable", "NoExecute");
    assert_int_equal(tainted, 1); // the second ten seconds later
    run_nodes(10000);
    assert_true(has_taint("node-0", "node.kubernetes.io/unreachable", "NoExecute"));
    assert_true(has_taint("node-1", "node.kubernetes.io/unreachable", "NoExecute"));
    // With most of a small zone gone, evictions stop.
    alive[2] = alive[3] = false;
    run_nodes(200000);
    tainted = has_taint("node-2", "node.kubernetes.io/unreachable", "NoExecute") +
              has_taint("node-3", "node.kubernetes.io/unreachable", "NoExecute");
    assert_true(tainted <= 1);
}

static void pods_of_a_deleted_node_are_removed(void **state)
{
    add_pod("web", "node-0", FIVE_MINUTES);
    run_nodes(10000);
    alive[0] = false;
    fake_remove(h.f, NODES, "", "node-0");
    run_nodes(30000);
    assert_non_null(fake_get(h.f, PODS, "ns", "web"));
    run_nodes(50000);
    assert_null(fake_get(h.f, PODS, "ns", "web"));
    assert_true(fake_has_event(h.f, "node-0", "Normal", "RemovingNode",
                               "Node node-0 event: Removing Node node-0 from Controller"));
}

static void zones_are_judged_as_upstream(void **state)
{
    assert_int_equal(kl_zone_judge(&(struct kl_zone){.ready = 0, .not_ready = 1}), KL_ZONE_FULL);
    assert_int_equal(kl_zone_judge(&(struct kl_zone){.ready = 1, .not_ready = 2}), KL_ZONE_NORMAL);
    assert_int_equal(kl_zone_judge(&(struct kl_zone){.ready = 2, .not_ready = 3}), KL_ZONE_PARTIAL);
    assert_int_equal(kl_zone_judge(&(struct kl_zone){.ready = 5, .not_ready = 6}), KL_ZONE_NORMAL);
    struct kl_zone big = {.ready = 20, .not_ready = 40};
    assert_int_equal(kl_zone_taint_at(&big, false), 0);
    kl_zone_tainted(&big, 1000);
    assert_int_equal(kl_zone_taint_at(&big, false), 101000);
    assert_true(kl_zone_taint_at(&big, true) == INT64_MAX);
    assert_true(kl_zone_taint_at(&(struct kl_zone){.ready = 2, .not_ready = 3}, false) ==
                INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(leases_keep_a_node_alive, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(a_silent_node_is_lost_and_found, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(pods_of_a_lost_node_are_evicted_in_time, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(when_all_are_silent_nobody_is_evicted, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(a_kubelet_that_is_not_ready_is_tainted, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(cordoning_taints, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(evictions_have_a_rate, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(pods_of_a_deleted_node_are_removed, set_up, harness_stop),
        cmocka_unit_test(zones_are_judged_as_upstream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
