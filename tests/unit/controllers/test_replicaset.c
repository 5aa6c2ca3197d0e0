// SPDX-License-Identifier: Apache-2.0
#include "controllers/pods.h"
#include "controllers/replicaset.h"
#include "harness.h"
#include <stdio.h>
#include <stdlib.h>

static void apply_rs(int replicas, int min_ready_s)
{
    char json[1024];
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"apps/v1\",\"kind\":\"ReplicaSet\",\"metadata\":{\"name\":\"web\","
             "\"namespace\":\"ns\"},\"spec\":{\"replicas\":%d,\"minReadySeconds\":%d,"
             "\"selector\":{\"matchLabels\":{\"app\":\"web\"}},\"template\":{\"metadata\":{"
             "\"labels\":{\"app\":\"web\",\"extra\":\"x\"},\"annotations\":{\"n\":\"1\"}},"
             "\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}}}",
             replicas, min_ready_s);
    fake_apply(h.f, json);
}

static int set_up(void **state)
{
    harness_start("replicaset");
    return 0;
}

static void makes_its_pods_and_counts_them(void **state)
{
    size_t n;
    apply_rs(3, 0);
    harness_run(3000);
    struct kl_object **pods = fake_list(h.f, PODS, "ns", &n);
    assert_int_equal(n, 3);
    const struct kl_value *pod = &pods[0]->root, *owner = kl_meta_controller(pod);
    assert_true(kl_str_starts(kl_meta_name(pod), KL_STR("web-")));
    assert_text(kl_text(kl_get(owner, KL_F_kind)), "ReplicaSet");
    assert_text(kl_text(kl_get(owner, KL_F_name)), "web");
    assert_true(kl_is_true(kl_get(owner, KL_F_blockOwnerDeletion)));
    assert_text(kl_text(kl_map_value(kl_meta_labels(pod), KL_STR("extra"))), "x");
    assert_text(kl_annotation(pod, "n"), "1");
    char message[400];
    snprintf(message, sizeof(message), "Created pod: %.*s", KL_PRI(kl_meta_name(pod)));
    assert_true(fake_has_event(h.f, "web", "Normal", "SuccessfulCreate", message));
    free(pods);
    assert_int_equal(status_of(REPLICASETS, "ns", "web", KL_F_replicas), 3);
    assert_int_equal(status_of(REPLICASETS, "ns", "web", KL_F_readyReplicas), 3);
    assert_int_equal(status_of(REPLICASETS, "ns", "web", KL_F_availableReplicas), 3);
    assert_int_equal(status_of(REPLICASETS, "ns", "web", KL_F_fullyLabeledReplicas), 3);
    assert_int_equal(status_of(REPLICASETS, "ns", "web", KL_F_observedGeneration), 1);
    // Nothing more is written when nothing happens.
    fake_reset_calls(h.f);
    harness_run(600000);
    assert_int_equal(fake_calls(h.f, KL_VERB_UPDATE, REPLICASETS, "status"), 0);
    assert_int_equal(fake_calls(h.f, KL_VERB_CREATE, PODS, ""), 0);
}

static void a_replication_controller_too(void **state)
{
    harness_start("replicationcontroller");
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"ReplicationController\",\"metadata\":{"
                    "\"name\":\"rc\",\"namespace\":\"ns\"},\"spec\":{\"replicas\":2,\"selector\":{"
                    "\"app\":\"rc\"},\"template\":{\"metadata\":{\"labels\":{\"app\":\"rc\"}},"
                    "\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}}}");
    harness_run(3000);
    size_t n;
    struct kl_object **pods = fake_list(h.f, PODS, "ns", &n);
    assert_int_equal(n, 2);
    const struct kl_value *owner = kl_meta_controller(&pods[0]->root);
    assert_text(kl_text(kl_get(owner, KL_F_kind)), "ReplicationController");
    assert_text(kl_text(kl_get(owner, KL_F_apiVersion)), "v1");
    char name[300];
    snprintf(name, sizeof(name), "%.*s", KL_PRI(kl_meta_name(&pods[0]->root)));
    free(pods);
    assert_int_equal(status_of(CONTROLLERS, "ns", "rc", KL_F_readyReplicas), 2);
    assert_int_equal(status_of(CONTROLLERS, "ns", "rc", KL_F_observedGeneration), 1);
    // One that no longer matches is let go, and replaced.
    fake_patch(h.f, PODS, "ns", name, NULL, "{\"metadata\":{\"labels\":{\"app\":\"other\"}}}");
    harness_run(3000);
    assert_null(kl_meta_controller(&fake_get(h.f, PODS, "ns", name)->root));
    assert_int_equal(count_pods("ns", "Running"), 3);
}

static void replaces_a_deleted_pod(void **state)
{
    size_t n;
    apply_rs(2, 0);
    harness_run(3000);
    struct kl_object **pods = fake_list(h.f, PODS, "ns", &n);
    char name[300];
    snprintf(name, sizeof(name), "%.*s", KL_PRI(kl_meta_name(&pods[0]->root)));
    free(pods);
    fake_delete(h.f, PODS, "ns", name, KL_PROPAGATE_DEFAULT);
    harness_run(3000);
    assert_int_equal(count_pods("ns", "Running"), 2);
    assert_null(fake_get(h.f, PODS, "ns", name));
    assert_int_equal(fake_calls(h.f, KL_VERB_CREATE, PODS, ""), 3);
}

static void availability_waits_for_min_ready_seconds(void **state)
{
    apply_rs(2, 30);
    harness_run(3000);
    assert_int_equal(status_of(REPLICASETS, "ns", "web", KL_F_readyReplicas), 2);
    assert_int_equal(status_of(REPLICASETS, "ns", "web", KL_F_availableReplicas), 0);
    harness_run(30000);
    assert_int_equal(status_of(REPLICASETS, "ns", "web", KL_F_availableReplicas), 2);
}

static bool only_odd(const struct kl_value *pod)
{
    struct kl_str name = kl_meta_name(pod);
    return (name.p[name.n - 1] - '0') % 2;
}

static void scales_down_the_unready_first(void **state)
{
    h.may_run = only_odd;
    apply_rs(6, 0);
    harness_run(3000);
    assert_int_equal(count_pods("ns", "Running"), 3);
    fake_patch(h.f, REPLICASETS, "ns", "web", NULL, "{\"spec\":{\"replicas\":3}}");
    harness_run(3000);
    assert_int_equal(count_pods("ns", "Running"), 3);
    assert_int_equal(count_pods("ns", NULL), 3);
    assert_int_equal(status_of(REPLICASETS, "ns", "web", KL_F_observedGeneration), 2);
}

static int no_pods(void *arg, const char *user, const struct kl_call *call, struct kl_error *err)
{
    if (call->verb == KL_VERB_CREATE && call->res == PODS)
        return kl_error_set(err, KL_EFORBIDDEN, "pods \"web-\" is forbidden: exceeded quota: q");
    return 0;
}

static void a_quota_is_asked_gently_and_shown(void **state)
{
    fake_on_call(h.f, no_pods, NULL);
    apply_rs(50, 0);
    kl_timers_advance(h.ts, 3); // one attempt
    assert_int_equal(fake_calls(h.f, KL_VERB_CREATE, PODS, ""), 1);
    harness_run(100);
    assert_condition(REPLICASETS, "ns", "web", "ReplicaFailure", "True", "FailedCreate",
                     "pods \"web-\" is forbidden: exceeded quota: q");
    assert_true(fake_has_event(h.f, "web", "Warning", "FailedCreate",
                               "Error creating: pods \"web-\" is forbidden: exceeded quota: q"));
    fake_on_call(h.f, NULL, NULL);
    harness_run(120000);
    assert_int_equal(count_pods("ns", "Running"), 50);
    struct kl_object *rs = fake_get(h.f, REPLICASETS, "ns", "web");
    assert_null(
        kl_condition_find(kl_path(&rs->root, KL_F_status, KL_F_conditions), "ReplicaFailure"));
}

static void adopts_orphans_and_releases_strays(void **state)
{
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"orphan\","
                    "\"namespace\":\"ns\",\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":["
                    "{\"name\":\"c\"}]}}");
    apply_rs(2, 0);
    harness_run(3000);
    assert_int_equal(fake_count(h.f, PODS, "ns"), 2);
    struct kl_object *pod = fake_get(h.f, PODS, "ns", "orphan");
    assert_text(kl_text(kl_get(kl_meta_controller(&pod->root), KL_F_name)), "web");
    fake_patch(h.f, PODS, "ns", "orphan", NULL, "{\"metadata\":{\"labels\":{\"app\":\"other\"}}}");
    harness_run(3000);
    pod = fake_get(h.f, PODS, "ns", "orphan");
    assert_null(kl_meta_controller(&pod->root));
    assert_int_equal(fake_count(h.f, PODS, "ns"), 3);
}

static struct kl_value make_pod(struct kl_arena *a, const char *uid, const char *node,
                                const char *phase, int64_t ready_us, int64_t created_us,
                                const char *cost)
{
    struct kl_value pod = kl_new_struct(), meta = kl_new_struct(), spec = kl_new_struct();
    struct kl_value status = kl_new_struct(), conditions = kl_new_array(), c = kl_new_struct();
    kl_set_z(a, &meta, KL_F_uid, uid);
    kl_set(a, &meta, KL_F_creationTimestamp, kl_time(created_us));
    kl_set(a, &pod, KL_F_metadata, meta);
    if (cost)
        kl_set_annotation(a, &pod, "controller.kubernetes.io/pod-deletion-cost", kl_str(cost));
    kl_set_z(a, &spec, KL_F_nodeName, node);
    kl_set(a, &pod, KL_F_spec, spec);
    kl_set_z(a, &status, KL_F_phase, phase);
    if (ready_us) {
        kl_set_z(a, &c, KL_F_type, "Ready");
        kl_set_z(a, &c, KL_F_status, "True");
        kl_set(a, &c, KL_F_lastTransitionTime, kl_time(ready_us));
        kl_append(a, &conditions, c);
        kl_set(a, &status, KL_F_conditions, conditions);
    }
    kl_set(a, &pod, KL_F_status, status);
    return pod;
}

static void ranking_follows_upstream(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    const int64_t s = 1000000, now = 100000 * s;
    // From first to be deleted to last.
    struct kl_value pods[] = {
        make_pod(&a, "0-unassigned", "", "Pending", 0, now - 10 * s, NULL),
        make_pod(&a, "1-pending", "n", "Pending", 0, now - 10 * s, NULL),
        make_pod(&a, "2-unknown", "n", "Unknown", 0, now - 10 * s, NULL),
        make_pod(&a, "3-unready", "n", "Running", 0, now - 10 * s, NULL),
        make_pod(&a, "4-cheap", "n", "Running", now - 9000 * s, now - 9000 * s, "-5"),
        make_pod(&a, "5-crowded", "n", "Running", now - 9000 * s, now - 9000 * s, NULL),
        make_pod(&a, "6-young", "n", "Running", now - 10 * s, now - 9000 * s, NULL),
        make_pod(&a, "7-old", "n", "Running", now - 9000 * s, now - 9000 * s, NULL),
        make_pod(&a, "8-dear", "n", "Running", now - 10 * s, now - 10 * s, "7"),
    };
    enum { N = KL_COUNT(pods) };
    for (int turn = 0; turn < N; turn++) {
        const struct kl_value *list[N];
        int rank[N];
        for (int i = 0; i < N; i++) {
            int from = (i * 4 + turn) % N; // 4 and 9 have no common divisor: a permutation
            list[i] = &pods[from];
            rank[i] = from == 5 ? 3 : 1;
        }
        assert_int_equal(kl_pods_sort_for_deletion(list, rank, N, now), 0);
        for (int i = 0; i < N; i++) {
            if (list[i] != &pods[i])
                fail_msg("place %d: %.*s", i, KL_PRI(kl_meta_uid(list[i])));
        }
    }
    kl_arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(makes_its_pods_and_counts_them, set_up, harness_stop),
        cmocka_unit_test_teardown(a_replication_controller_too, harness_stop),
        cmocka_unit_test_setup_teardown(replaces_a_deleted_pod, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(availability_waits_for_min_ready_seconds, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(scales_down_the_unready_first, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(a_quota_is_asked_gently_and_shown, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(adopts_orphans_and_releases_strays, set_up, harness_stop),
        cmocka_unit_test(ranking_follows_upstream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
