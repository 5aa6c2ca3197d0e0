// SPDX-License-Identifier: Apache-2.0
#include "controllers/deletable.h"
#include "harness.h"
#include <stdio.h>

#define MAPS kl_res(KL_RES_core_v1_configmaps)
#define SERVICES kl_res(KL_RES_core_v1_services)
#define GROUPS kl_res(KL_RES_scheduling_v1alpha2_podgroups)

static void fill(void)
{
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
}

static int set_up(void **state)
{
    harness_start("namespace");
    fill();
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

static void what_is_not_served_is_not_asked_for(void **state)
{
    fake_delete(h.f, NAMESPACES, "", "a", KL_PROPAGATE_DEFAULT);
    harness_run(1000);
    assert_null(fake_get(h.f, NAMESPACES, "", "a"));
    assert_int_equal(fake_calls(h.f, KL_VERB_LIST, GROUPS, ""), 0);
}

static bool serves_all(void *arg, const struct kl_resource *res)
{
    return true;
}

static int set_up_all(void **state)
{
    harness_start_serving("namespace", serves_all);
    fill();
    return 0;
}

static void what_a_flag_has_switched_on_is_emptied(void **state)
{
    fake_apply(h.f, "{\"apiVersion\":\"scheduling.k8s.io/v1alpha2\",\"kind\":\"PodGroup\","
                    "\"metadata\":{\"name\":\"g\",\"namespace\":\"a\"},\"spec\":{}}");
    fake_delete(h.f, NAMESPACES, "", "a", KL_PROPAGATE_DEFAULT);
    harness_run(1000);
    assert_null(fake_get(h.f, GROUPS, "a", "g"));
    assert_null(fake_get(h.f, NAMESPACES, "", "a"));
}

// Each stored kind once, whichever versions there are.
static void every_kind_is_looked_at_once(void **state)
{
    const struct kl_controller_env env[] = {{.serves = NULL}, {.serves = serves_all}};
    for (size_t e = 0; e < KL_COUNT(env); e++) {
        const struct kl_resource *seen[512], *r;
        size_t n = 0;
        uint16_t it = 0;
        while ((r = kl_deletable_next(&env[e], &it, KL_VERB_BIT(KL_VERB_LIST)))) {
            for (size_t i = 0; i < n; i++)
                assert_string_not_equal(seen[i]->etcd_prefix, r->etcd_prefix);
            seen[n++] = r;
        }
        for (uint16_t i = 0; i < kl_nresources; i++) {
            bool found = false;
            r = kl_res(i);
            for (size_t k = 0; k < n && r->etcd_prefix; k++)
                found |= !strcmp(seen[k]->etcd_prefix, r->etcd_prefix);
            bool wanted = r->etcd_prefix && r->type && r->verbs & KL_VERB_BIT(KL_VERB_LIST) &&
                          (e || r->enabled);
            if (wanted && !found)
                fail_msg("%s %s", r->api_version, r->plural);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_active_one_is_left_alone, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(it_is_emptied_and_ended, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(pods_end_first, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(what_a_finalizer_holds_is_named, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(failures_are_told_and_tried_again, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(what_is_not_served_is_not_asked_for, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(what_a_flag_has_switched_on_is_emptied, set_up_all,
                                        harness_stop),
        cmocka_unit_test(every_kind_is_looked_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
