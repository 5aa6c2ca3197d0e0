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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_used_claim_stays_until_its_pod_has_ended, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(who_has_no_node_uses_nothing, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(an_ephemeral_volume_uses_the_claim_made_for_it, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(a_bound_volume_stays, set_up, harness_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
