// SPDX-License-Identifier: Apache-2.0
#include "harness.h"
#include "controllers/deployment.h"
#include <stdio.h>
#include <stdlib.h>

static char strategy[256];

static void apply_deployment(int replicas, const char *image, const char *more)
{
    char json[2048];
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"web\","
             "\"namespace\":\"ns\",\"annotations\":{\"note\":\"x\"}},\"spec\":{\"replicas\":%d,"
             "\"revisionHistoryLimit\":10,\"progressDeadlineSeconds\":600,%s%s"
             "\"selector\":{\"matchLabels\":{\"app\":\"web\"}},\"template\":{\"metadata\":{"
             "\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":[{\"name\":\"c\","
             "\"image\":\"%s\"}]}}}}",
             replicas, strategy, more, image);
    fake_apply(h.f, json);
}

static void use_strategy(const char *surge, const char *unavailable)
{
    snprintf(strategy, sizeof(strategy),
             "\"strategy\":{\"type\":\"RollingUpdate\",\"rollingUpdate\":{\"maxSurge\":%s,"
             "\"maxUnavailable\":%s}},",
             surge, unavailable);
}

static int set_up(void **state)
{
    harness_start("deployment,replicaset");
    use_strategy("\"25%\"", "\"25%\"");
    return 0;
}

static void set_image(const char *image)
{
    char patch[256];
    snprintf(patch, sizeof(patch),
             "{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"%s\"}]"
             "}}}}",
             image);
    fake_patch(h.f, DEPLOYMENTS, "ns", "web", NULL, patch);
}

// The ReplicaSet whose template has this image; NULL: none.
static const struct kl_value *rs_of(const char *image)
{
    size_t n;
    struct kl_object **list = fake_list(h.f, REPLICASETS, "ns", &n);
    const struct kl_value *found = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *rs = &list[i]->root;
        const struct kl_value *c =
            kl_at(kl_path(rs, KL_F_spec, KL_F_template, KL_F_spec, KL_F_containers), 0);
        if (kl_str_eqz(kl_text(kl_get(c, KL_F_image)), image))
            found = rs;
    }
    free(list);
    return found;
}

static int64_t size_of(const char *image)
{
    return kl_int_at(rs_of(image), -1, KL_F_spec, KL_F_replicas);
}

static void assert_scaled(const char *direction, const char *image, int from, int to)
{
    char text[400];
    struct kl_str name = kl_meta_name(rs_of(image));
    snprintf(text, sizeof(text), "Scaled %s replica set %.*s from %d to %d", direction,
             KL_PRI(name), from, to);
    assert_true(fake_has_event(h.f, "web", "Normal", "ScalingReplicaSet", text));
}

static void assert_progress(const char *status, const char *reason, const char *image,
                            const char *what)
{
    char text[400];
    struct kl_str name = kl_meta_name(rs_of(image));
    snprintf(text, sizeof(text), "ReplicaSet \"%.*s\" %s", KL_PRI(name), what);
    assert_condition(DEPLOYMENTS, "ns", "web", "Progressing", status, reason, text);
}

static void first_rollout(void **state)
{
    apply_deployment(3, "v1", "");
    kl_timers_advance(h.ts, 8);
    const struct kl_value *rs = rs_of("v1");
    assert_non_null(rs);
    struct kl_str hash = kl_text(kl_map_value(kl_meta_labels(rs), KL_STR("pod-template-hash")));
    char name[300];
    snprintf(name, sizeof(name), "web-%.*s", KL_PRI(hash));
    assert_text(kl_meta_name(rs), name);
    assert_text(kl_annotation(rs, KL_REVISION), "1");
    assert_text(kl_annotation(rs, KL_DESIRED_REPLICAS), "3");
    assert_text(kl_annotation(rs, KL_MAX_REPLICAS), "4");
    assert_text(kl_annotation(rs, "note"), "x");
    assert_int_equal(kl_len(kl_path(rs, KL_F_spec, KL_F_selector, KL_F_matchLabels)), 2);
    char created[400];
    snprintf(created, sizeof(created), "Created new replica set \"%s\"", name);
    assert_condition(DEPLOYMENTS, "ns", "web", "Progressing", "True", "NewReplicaSetCreated",
                     created);
    assert_condition(DEPLOYMENTS, "ns", "web", "Available", "False", "MinimumReplicasUnavailable",
                     "Deployment does not have minimum availability.");
    harness_run(5000);
    assert_progress("True", "NewReplicaSetAvailable", "v1", "has successfully progressed.");
    assert_condition(DEPLOYMENTS, "ns", "web", "Available", "True", "MinimumReplicasAvailable",
                     "Deployment has minimum availability.");
    assert_int_equal(status_of(DEPLOYMENTS, "ns", "web", KL_F_replicas), 3);
    assert_int_equal(status_of(DEPLOYMENTS, "ns", "web", KL_F_updatedReplicas), 3);
    assert_int_equal(status_of(DEPLOYMENTS, "ns", "web", KL_F_availableReplicas), 3);
    assert_int_equal(status_of(DEPLOYMENTS, "ns", "web", KL_F_unavailableReplicas), 0);
    assert_text(kl_annotation(&fake_get(h.f, DEPLOYMENTS, "ns", "web")->root, KL_REVISION), "1");
    assert_scaled("up", "v1", 0, 3);
    fake_reset_calls(h.f);
    harness_run(1200000);
    assert_int_equal(fake_calls(h.f, KL_VERB_UPDATE, DEPLOYMENTS, "status"), 0);
    assert_int_equal(fake_calls(h.f, KL_VERB_UPDATE, REPLICASETS, ""), 0);
}

static void a_rolling_update_keeps_its_promise(void **state)
{
    apply_deployment(10, "v1", "");
    harness_run(5000);
    set_image("v2");
    int64_t min_ready = 10, max_pods = 0;
    for (int i = 0; i < 600 && size_of("v1") != 0; i++) {
        harness_run(100);
        int64_t ready = (int64_t)count_pods("ns", "Running");
        int64_t all = (int64_t)count_pods("ns", NULL);
        min_ready = ready < min_ready ? ready : min_ready;
        max_pods = all > max_pods ? all : max_pods;
    }
    harness_run(5000);
    assert_int_equal(size_of("v1"), 0);
    assert_int_equal(size_of("v2"), 10);
    assert_int_equal(min_ready, 8); // 25% of 10 down, rounded down
    assert_int_equal(max_pods, 13); // 25% up, rounded up
    assert_text(kl_annotation(rs_of("v2"), KL_REVISION), "2");
    assert_text(kl_annotation(&fake_get(h.f, DEPLOYMENTS, "ns", "web")->root, KL_REVISION), "2");
    assert_progress("True", "NewReplicaSetAvailable", "v2", "has successfully progressed.");
    assert_scaled("up", "v2", 0, 3);
    assert_scaled("down", "v1", 10, 8);
}

static void one_replica_is_replaced_without_a_gap(void **state)
{
    apply_deployment(1, "v1", "");
    harness_run(3000);
    set_image("v2");
    kl_timers_advance(h.ts, 50);
    assert_int_equal(size_of("v1"), 1); // maxUnavailable rounds to 0, maxSurge to 1
    assert_int_equal(size_of("v2"), 1);
    harness_run(5000);
    assert_int_equal(size_of("v1"), 0);
}

static void a_rollback_takes_the_old_replicaset_again(void **state)
{
    apply_deployment(2, "v1", "");
    harness_run(5000);
    set_image("v2");
    harness_run(10000);
    set_image("v1"); // kubectl rollout undo patches the template back
    harness_run(10000);
    assert_int_equal(fake_count(h.f, REPLICASETS, "ns"), 2);
    assert_int_equal(size_of("v1"), 2);
    assert_int_equal(size_of("v2"), 0);
    assert_text(kl_annotation(rs_of("v1"), KL_REVISION), "3");
    assert_text(kl_annotation(rs_of("v1"), KL_REVISION_HISTORY), "1");
    assert_text(kl_annotation(rs_of("v2"), KL_REVISION), "2");
    set_image("v2");
    harness_run(10000);
    set_image("v1");
    harness_run(10000);
    assert_text(kl_annotation(rs_of("v1"), KL_REVISION), "5");
    assert_text(kl_annotation(rs_of("v1"), KL_REVISION_HISTORY), "1,3");
}

static bool not_v2(const struct kl_value *pod)
{
    const struct kl_value *c = kl_at(kl_path(pod, KL_F_spec, KL_F_containers), 0);
    return !kl_str_eqz(kl_text(kl_get(c, KL_F_image)), "v2");
}

static void a_stuck_rollout_times_out_and_heals(void **state)
{
    apply_deployment(4, "v1", "");
    harness_run(5000);
    h.may_run = not_v2;
    set_image("v2");
    harness_run(598000);
    assert_progress("True", "ReplicaSetUpdated", "v2", "is progressing.");
    assert_int_equal(count_pods("ns", "Running"), 3); // one of four may be missing
    harness_run(10000);
    assert_progress("False", "ProgressDeadlineExceeded", "v2", "has timed out progressing.");
    assert_condition(DEPLOYMENTS, "ns", "web", "Available", "True", "MinimumReplicasAvailable",
                     "Deployment has minimum availability.");
    h.may_run = NULL;
    harness_run(20000);
    assert_progress("True", "NewReplicaSetAvailable", "v2", "has successfully progressed.");
    assert_int_equal(size_of("v2"), 4);
}

static void scaling_amid_a_rollout_is_proportional(void **state)
{
    use_strategy("3", "2");
    apply_deployment(10, "v1", "");
    harness_run(5000);
    h.may_run = not_v2;
    set_image("v2");
    harness_run(5000);
    assert_int_equal(size_of("v1"), 8);
    assert_int_equal(size_of("v2"), 5);
    fake_patch(h.f, DEPLOYMENTS, "ns", "web", NULL, "{\"spec\":{\"replicas\":15}}");
    harness_run(5000);
    assert_int_equal(size_of("v1"), 11); // upstream's documented example
    assert_int_equal(size_of("v2"), 7);
}

static void plain_scaling(void **state)
{
    apply_deployment(2, "v1", "");
    harness_run(3000);
    fake_patch(h.f, DEPLOYMENTS, "ns", "web", NULL, "{\"spec\":{\"replicas\":5}}");
    harness_run(3000);
    assert_int_equal(size_of("v1"), 5);
    assert_text(kl_annotation(rs_of("v1"), KL_DESIRED_REPLICAS), "5");
    assert_text(kl_annotation(rs_of("v1"), KL_REVISION), "1");
    assert_scaled("up", "v1", 2, 5);
    fake_patch(h.f, DEPLOYMENTS, "ns", "web", NULL, "{\"spec\":{\"replicas\":0}}");
    harness_run(3000);
    assert_int_equal(count_pods("ns", NULL), 0);
    assert_scaled("down", "v1", 5, 0);
}

static void a_paused_one_does_not_roll_but_scales(void **state)
{
    apply_deployment(2, "v1", "");
    harness_run(3000);
    fake_patch(h.f, DEPLOYMENTS, "ns", "web", NULL, "{\"spec\":{\"paused\":true}}");
    harness_run(1000);
    assert_condition(DEPLOYMENTS, "ns", "web", "Progressing", "Unknown", "DeploymentPaused",
                     "Deployment is paused");
    set_image("v2");
    fake_patch(h.f, DEPLOYMENTS, "ns", "web", NULL, "{\"spec\":{\"replicas\":4}}");
    harness_run(3000);
    assert_null(rs_of("v2"));
    assert_int_equal(size_of("v1"), 4);
    fake_patch(h.f, DEPLOYMENTS, "ns", "web", NULL, "{\"spec\":{\"paused\":false}}");
    harness_run(10000);
    assert_int_equal(size_of("v2"), 4);
    assert_progress("True", "NewReplicaSetAvailable", "v2", "has successfully progressed.");
}

static void recreate_stops_the_old_before_the_new(void **state)
{
    snprintf(strategy, sizeof(strategy), "\"strategy\":{\"type\":\"Recreate\"},");
    h.stop_ms = 5000;
    apply_deployment(3, "v1", "");
    harness_run(5000);
    assert_int_equal(count_pods("ns", "Running"), 3);
    set_image("v2");
    harness_run(4000);
    assert_int_equal(fake_count(h.f, PODS, "ns"), 3); // still stopping
    assert_null(rs_of("v2"));
    harness_run(5000);
    assert_int_equal(size_of("v2"), 3);
    assert_int_equal(count_pods("ns", "Running"), 3);
}

static void old_replicasets_are_cleaned_up(void **state)
{
    apply_deployment(1, "v1", "");
    fake_patch(h.f, DEPLOYMENTS, "ns", "web", NULL, "{\"spec\":{\"revisionHistoryLimit\":2}}");
    for (int i = 1; i <= 5; i++) {
        char image[16];
        snprintf(image, sizeof(image), "v%d", i);
        set_image(image);
        harness_run(10000);
    }
    assert_int_equal(fake_count(h.f, REPLICASETS, "ns"), 3);
    assert_null(rs_of("v2"));
    assert_non_null(rs_of("v3"));
    assert_non_null(rs_of("v4"));
    assert_non_null(rs_of("v5"));
}

static int no_replicasets(void *arg, const char *user, const struct kl_call *call,
                          struct kl_error *err)
{
    if (call->verb == KL_VERB_CREATE && call->res == REPLICASETS) {
        assert_string_equal(user, "system:serviceaccount:kube-system:deployment-controller");
        return kl_error_set(err, KL_EFORBIDDEN, "exceeded quota: q");
    }
    return 0;
}

static void a_refused_replicaset_is_shown(void **state)
{
    fake_on_call(h.f, no_replicasets, NULL);
    apply_deployment(1, "v1", "");
    harness_run(200);
    const struct kl_value *c = condition_of(DEPLOYMENTS, "ns", "web", "Progressing");
    assert_text(kl_text(kl_get(c, KL_F_reason)), "ReplicaSetCreateError");
    assert_true(kl_str_starts(kl_text(kl_get(c, KL_F_message)),
                              KL_STR("Failed to create new replica set \"web-")));
    assert_true(kl_str_ends(kl_text(kl_get(c, KL_F_message)), KL_STR("\": exceeded quota: q")));
    fake_on_call(h.f, NULL, NULL);
    harness_run(20000);
    assert_int_equal(size_of("v1"), 1);
}

static void a_collision_of_hashes_is_resolved(void **state)
{
    struct kl_arena a;
    kl_arena_init(&a, 0);
    apply_deployment(1, "v1", "");
    harness_run(2000);
    char name[300], json[1024];
    snprintf(name, sizeof(name), "%.*s", KL_PRI(kl_meta_name(rs_of("v1"))));
    fake_remove(h.f, DEPLOYMENTS, "ns", "web");
    fake_remove(h.f, REPLICASETS, "ns", name);
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"apps/v1\",\"kind\":\"ReplicaSet\",\"metadata\":{\"name\":\"%s\","
             "\"namespace\":\"ns\"},\"spec\":{\"replicas\":0,\"selector\":{\"matchLabels\":{"
             "\"app\":\"stranger\"}},\"template\":{\"metadata\":{\"labels\":{\"app\":\"stranger\"}}"
             "}}}",
             name);
    fake_apply(h.f, json);
    apply_deployment(1, "v1", "");
    harness_run(5000);
    assert_int_equal(status_of(DEPLOYMENTS, "ns", "web", KL_F_collisionCount), 1);
    assert_non_null(rs_of("v1"));
    assert_int_equal(size_of("v1"), 1);
    kl_arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(first_rollout, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(a_rolling_update_keeps_its_promise, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(one_replica_is_replaced_without_a_gap, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(a_rollback_takes_the_old_replicaset_again, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(a_stuck_rollout_times_out_and_heals, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(scaling_amid_a_rollout_is_proportional, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(plain_scaling, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(a_paused_one_does_not_roll_but_scales, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(recreate_stops_the_old_before_the_new, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(old_replicasets_are_cleaned_up, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(a_refused_replicaset_is_shown, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(a_collision_of_hashes_is_resolved, set_up, harness_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
