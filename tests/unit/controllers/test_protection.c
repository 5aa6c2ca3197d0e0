// SPDX-License-Identifier: Apache-2.0
#include "harness.h"
#include "controllers/finalizer.h"
#include <stdio.h>

#define PVC_FINALIZER "kubernetes.io/pvc-protection"
#define PV_FINALIZER "kubernetes.io/pv-protection"

static int set_up(void **state)
{
    harness_start("persistentvolumeclaim-protection,persistentvolume-protection");
    h.no_kubelet = true;
    return 0;
}

static void apply_claim(const char *name)
{
    char json[400];
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"v1\",\"kind\":\"PersistentVolumeClaim\",\"metadata\":{\"name\":"
             "\"%s\",\"namespace\":\"ns\"},\"spec\":{\"accessModes\":[\"ReadWriteOnce\"],"
             "\"resources\":{\"requests\":{\"storage\":\"1Gi\"}}}}",
             name);
    fake_apply(h.f, json);
}

static void apply_pod(const char *name, const char *claim, const char *node)
{
    char json[400];
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s\",\"namespace\":"
             "\"ns\"},\"spec\":{\"nodeName\":\"%s\",\"volumes\":[{\"name\":\"v\","
             "\"persistentVolumeClaim\":{\"claimName\":\"%s\"}}],\"containers\":[{\"name\":\"c\","
             "\"image\":\"i\"}]}}",
             name, node, claim);
    fake_apply(h.f, json);
}

static bool is_there(const struct kl_resource *res, const char *ns, const char *name)
{
    return fake_get(h.f, res, ns, name) != NULL;
}

static void a_used_claim_stays_until_its_pod_has_ended(void **state)
{
    h.no_kubelet = false;
    apply_claim("data");
    apply_pod("p", "data", "n1");
    harness_run(1000);
    assert_true(kl_has_finalizer(&fake_get(h.f, CLAIMS, "ns", "data")->root, PVC_FINALIZER));
    fake_delete(h.f, CLAIMS, "ns", "data", KL_PROPAGATE_DEFAULT);
    harness_run(60000);
    assert_true(is_there(CLAIMS, "ns", "data"));
    fake_delete(h.f, PODS, "ns", "p", KL_PROPAGATE_DEFAULT);
    harness_run(60000);
    assert_false(is_there(PODS, "ns", "p"));
    assert_false(is_there(CLAIMS, "ns", "data"));
}

static void who_has_no_node_uses_nothing(void **state)
{
    apply_claim("data");
    apply_claim("other");
    apply_pod("waits", "data", "");
    apply_pod("runs", "other", "n1");
    harness_run(1000);
    fake_delete(h.f, CLAIMS, "ns", "data", KL_PROPAGATE_DEFAULT);
    harness_run(1000);
    assert_false(is_there(CLAIMS, "ns", "data"));
}

// A claim made for a pod's ephemeral volume is that pod's; one of the same name by chance is not.
static void an_ephemeral_volume_uses_the_claim_made_for_it(void **state)
{
    apply_claim("p-v");
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\","
                    "\"namespace\":\"ns\"},\"spec\":{\"nodeName\":\"n1\",\"volumes\":[{\"name\":"
                    "\"v\",\"ephemeral\":{\"volumeClaimTemplate\":{\"spec\":{}}}}],"
                    "\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}");
    harness_run(1000);
    fake_delete(h.f, CLAIMS, "ns", "p-v", KL_PROPAGATE_DEFAULT);
    harness_run(1000);
    assert_false(is_there(CLAIMS, "ns", "p-v"));
    char patch[300];
    apply_claim("p-v");
    snprintf(patch, sizeof(patch),
             "{\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":"
             "\"p\",\"uid\":\"%.*s\",\"controller\":true}]}}",
             KL_PRI(kl_meta_uid(&fake_get(h.f, PODS, "ns", "p")->root)));
    fake_patch(h.f, CLAIMS, "ns", "p-v", NULL, patch);
    harness_run(1000);
    fake_delete(h.f, CLAIMS, "ns", "p-v", KL_PROPAGATE_DEFAULT);
    harness_run(1000);
    assert_true(is_there(CLAIMS, "ns", "p-v"));
    // A pod that ended and waits for the claim to go does not keep it.
    fake_patch(h.f, PODS, "ns", "p", NULL, "{\"metadata\":{\"finalizers\":[\"a.b/claims\"]}}");
    fake_delete(h.f, PODS, "ns", "p", KL_PROPAGATE_DEFAULT);
    harness_run(1000);
    assert_true(is_there(CLAIMS, "ns", "p-v")); // its 30 s have not passed
    fake_patch(h.f, PODS, "ns", "p", NULL, "{\"metadata\":{\"deletionGracePeriodSeconds\":0}}");
    harness_run(1000);
    assert_true(is_there(PODS, "ns", "p"));
    assert_false(is_there(CLAIMS, "ns", "p-v"));
}

static void a_bound_volume_stays(void **state)
{
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"PersistentVolume\",\"metadata\":{\"name\":"
                    "\"pv\"},\"spec\":{\"capacity\":{\"storage\":\"1Gi\"},\"accessModes\":["
                    "\"ReadWriteOnce\"],\"hostPath\":{\"path\":\"/x\"}},\"status\":{\"phase\":"
                    "\"Bound\"}}");
    harness_run(1000);
    assert_true(kl_has_finalizer(&fake_get(h.f, VOLUMES, "", "pv")->root, PV_FINALIZER));
    fake_delete(h.f, VOLUMES, "", "pv", KL_PROPAGATE_DEFAULT);
    harness_run(1000);
    assert_true(is_there(VOLUMES, "", "pv"));
    fake_patch(h.f, VOLUMES, "", "pv", "status", "{\"status\":{\"phase\":\"Released\"}}");
    harness_run(1000);
    assert_false(is_there(VOLUMES, "", "pv"));
}

static bool serves_all(void *arg, const struct kl_resource *res)
{
    return true;
}

static int set_up_groups(void **state)
{
    harness_start_serving("podgroup-protection", serves_all);
    h.no_kubelet = true;
    return 0;
}

static void apply_member(const char *name, const char *group)
{
    char json[400];
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s\",\"namespace\":"
             "\"ns\"},\"spec\":{\"schedulingGroup\":{\"podGroupName\":\"%s\"},\"containers\":[{"
             "\"name\":\"c\",\"image\":\"i\"}]}}",
             name, group);
    fake_apply(h.f, json);
}

static void a_group_stays_until_its_pods_have_ended(void **state)
{
    const struct kl_resource *groups = kl_res(KL_RES_scheduling_v1alpha2_podgroups);
    fake_apply(h.f, "{\"apiVersion\":\"scheduling.k8s.io/v1alpha2\",\"kind\":\"PodGroup\","
                    "\"metadata\":{\"name\":\"g\",\"namespace\":\"ns\",\"finalizers\":["
                    "\"scheduling.k8s.io/podgroup-protection\"]},\"spec\":{}}");
    apply_member("a", "g");
    apply_member("b", "g");
    apply_member("c", "other");
    harness_run(1000);
    fake_delete(h.f, groups, "ns", "g", KL_PROPAGATE_DEFAULT);
    fake_patch(h.f, PODS, "ns", "a", "status", "{\"status\":{\"phase\":\"Succeeded\"}}");
    harness_run(60000);
    assert_true(is_there(groups, "ns", "g")); // b may run
    fake_patch(h.f, PODS, "ns", "b", "status", "{\"status\":{\"phase\":\"Failed\"}}");
    harness_run(1000);
    assert_false(is_there(groups, "ns", "g"));
}

static void a_pod_that_goes_frees_its_group(void **state)
{
    const struct kl_resource *groups = kl_res(KL_RES_scheduling_v1alpha2_podgroups);
    fake_apply(h.f, "{\"apiVersion\":\"scheduling.k8s.io/v1alpha2\",\"kind\":\"PodGroup\","
                    "\"metadata\":{\"name\":\"g\",\"namespace\":\"ns\",\"finalizers\":["
                    "\"a.b/c\",\"scheduling.k8s.io/podgroup-protection\"]},\"spec\":{}}");
    apply_member("a", "g");
    harness_run(1000);
    fake_delete(h.f, groups, "ns", "g", KL_PROPAGATE_DEFAULT);
    harness_run(1000);
    fake_remove(h.f, PODS, "ns", "a");
    harness_run(1000);
    const struct kl_value *group = &fake_get(h.f, groups, "ns", "g")->root;
    assert_false(kl_has_finalizer(group, "scheduling.k8s.io/podgroup-protection"));
    assert_true(kl_has_finalizer(group, "a.b/c")); // which is not ours
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_used_claim_stays_until_its_pod_has_ended, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(who_has_no_node_uses_nothing, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(an_ephemeral_volume_uses_the_claim_made_for_it, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(a_bound_volume_stays, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(a_group_stays_until_its_pods_have_ended, set_up_groups,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(a_pod_that_goes_frees_its_group, set_up_groups,
                                        harness_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
