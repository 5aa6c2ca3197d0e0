// SPDX-License-Identifier: Apache-2.0
#include "harness.h"
#include <stdio.h>

#define MAPS kl_res(KL_RES_core_v1_configmaps)
#define SERVICES kl_res(KL_RES_core_v1_services)
#define GROUPS kl_res(KL_RES_scheduling_v1alpha2_podgroups)

static int set_up(void **state)
{
    harness_start("namespace");
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"a\"}}");
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"m\","
                    "\"namespace\":\"a\"}}");
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"m\","
                    "\"namespace\":\"other\"}}");
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"s\","
                    "\"namespace\":\"a\"}}");
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"Event\",\"metadata\":{\"name\":\"e\","
                    "\"namespace\":\"a\"},\"involvedObject\":{}}");
    harness_run(1000);
    return 0;
}

static void add_pod(void)
{
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\","
                    "\"namespace\":\"a\"},\"spec\":{\"nodeName\":\"n\",\"containers\":[{\"name\":"
                    "\"c\"}]}}");
}

static void an_active_one_is_left_alone(void **state)
{
    harness_run(60000);
    assert_non_null(fake_get(h.f, MAPS, "a", "m"));
    assert_int_equal(fake_calls(h.f, KL_VERB_DELETECOLLECTION, MAPS, ""), 0);
}

static void it_is_emptied_and_ended(void **state)
{
    fake_delete(h.f, NAMESPACES, "", "a", KL_PROPAGATE_DEFAULT);
    assert_non_null(fake_get(h.f, NAMESPACES, "", "a"));
    harness_run(1000);
    assert_null(fake_get(h.f, NAMESPACES, "", "a"));
    assert_null(fake_get(h.f, MAPS, "a", "m"));
    assert_null(fake_get(h.f, SERVICES, "a", "s"));
    assert_int_equal(fake_count(h.f, kl_res(KL_RES_core_v1_events), "a"), 0);
    assert_non_null(fake_get(h.f, MAPS, "other", "m"));
}

static void pods_end_first(void **state)
{
    h.stop_ms = 5000;
    add_pod();
    harness_run(2000);
    fake_delete(h.f, NAMESPACES, "", "a", KL_PROPAGATE_DEFAULT);
    harness_run(3000);
    assert_non_null(fake_get(h.f, PODS, "a", "p"));
    assert_true(kl_meta_deleting(&fake_get(h.f, PODS, "a", "p")->root));
    assert_non_null(fake_get(h.f, MAPS, "a", "m")); // the pod may still need it
    assert_condition(NAMESPACES, "", "a", "NamespaceDeletionContentFailure", "False",
                     "ContentDeleted",
                     "All content successfully deleted, may be waiting on finalization");
    harness_run(3500); // looked at again as soon as the pod has gone
    assert_null(fake_get(h.f, NAMESPACES, "", "a"));
}

static void what_a_finalizer_holds_is_named(void **state)
{
    fake_patch(h.f, MAPS, "a", "m", NULL, "{\"metadata\":{\"finalizers\":[\"x.io/hold\"]}}");
    fake_delete(h.f, NAMESPACES, "", "a", KL_PROPAGATE_DEFAULT);
    harness_run(3000);
    assert_condition(NAMESPACES, "", "a", "NamespaceContentRemaining", "True",
                     "SomeResourcesRemain",
                     "Some resources are remaining: configmaps. has 1 resource instances");
    assert_condition(NAMESPACES, "", "a", "NamespaceFinalizersRemaining", "True",
                     "SomeFinalizersRemain",
                     "Some content in the namespace has finalizers remaining: x.io/hold in 1 "
                     "resource instances");
    fake_patch(h.f, MAPS, "a", "m", NULL, "{\"metadata\":{\"finalizers\":null}}");
    harness_run(10000);
    assert_null(fake_get(h.f, NAMESPACES, "", "a"));
}

static bool broken;
static int hook(void *arg, const char *user, const struct kl_call *call, struct kl_error *err)
{
    if (broken && call->verb == KL_VERB_DELETECOLLECTION && call->res == MAPS)
        return kl_error_set(err, KL_EINTERNAL, "disk on fire");
    return 0;
}

static void failures_are_told_and_tried_again(void **state)
{
    broken = true;
    fake_on_call(h.f, hook, NULL);
    fake_delete(h.f, NAMESPACES, "", "a", KL_PROPAGATE_DEFAULT);
    harness_run(3000);
    assert_condition(NAMESPACES, "", "a", "NamespaceDeletionContentFailure", "True",
                     "ContentDeletionFailed",
                     "Failed to delete all resource types, 1 remaining: disk on fire");
    assert_null(fake_get(h.f, SERVICES, "a", "s")); // the others went on
    broken = false;
    harness_run(70000);
    assert_null(fake_get(h.f, NAMESPACES, "", "a"));
}

static int no_groups(void *arg, const char *user, const struct kl_call *call, struct kl_error *err)
{
    if (call->res == GROUPS)
        return kl_error_set(err, KL_ENOTFOUND, "the server could not find the requested resource");
    return 0;
}

static void what_is_not_served_is_asked_for_once(void **state)
{
    fake_on_call(h.f, no_groups, NULL);
    fake_delete(h.f, NAMESPACES, "", "a", KL_PROPAGATE_DEFAULT);
    harness_run(1000);
    assert_null(fake_get(h.f, NAMESPACES, "", "a"));
    assert_int_equal(fake_calls(h.f, KL_VERB_LIST, GROUPS, ""), 1);
    assert_int_equal(fake_calls(h.f, KL_VERB_DELETECOLLECTION, GROUPS, ""), 0);
    fake_on_call(h.f, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_active_one_is_left_alone, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(it_is_emptied_and_ended, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(pods_end_first, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(what_a_finalizer_holds_is_named, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(failures_are_told_and_tried_again, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(what_is_not_served_is_asked_for_once, set_up, harness_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
