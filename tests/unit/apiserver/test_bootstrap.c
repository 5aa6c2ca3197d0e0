// SPDX-License-Identifier: Apache-2.0
// The well-known objects: their upstream shapes, that a restart writes nothing, and what is put
// back.
#include "fixture.h"
#include "apiserver/auth/authz_int.h"
#include "apiserver/bootstrap_int.h"
#include "base/clock.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void on_done(void *arg)
{
    *(bool *)arg = true;
}

static kl_rev revision(struct fixture *f)
{
    return kl_view_rev(kl_reader_view(f->srv.loops[0].reader));
}

static void bootstrap(struct fixture *f)
{
    bool done = false;
    kl_bootstrap_start(&f->srv, on_done, &done);
    fixture_wait(f, &done);
}

static const char *text_of(struct fixture *f, uint16_t res, const char *ns, const char *name)
{
    struct kl_object *o = fixture_get(f, res, ns, name);
    return fixture_json(f, o->type, &o->root);
}

static void body_shapes(struct fixture *f)
{
    int64_t t0 = kl_mono_ns();
    bootstrap(f);
    print_message("first start: %lld us, revision %lld\n", (long long)(kl_mono_ns() - t0) / 1000,
                  (long long)revision(f));
    const char *ns = text_of(f, KL_RES_core_v1_namespaces, "", "kube-system");
    fixture_assert_has(ns, "\"labels\":{\"kubernetes.io/metadata.name\":\"kube-system\"}");
    fixture_assert_has(
        ns, "\"spec\":{\"finalizers\":[\"kubernetes\"]},\"status\":{\"phase\":\"Active\"}}");
    fixture_assert_has(ns, "\"uid\":\"");
    fixture_assert_has(ns, "\"creationTimestamp\":\"20");
    fixture_get(f, KL_RES_core_v1_namespaces, "", "default");
    fixture_get(f, KL_RES_core_v1_namespaces, "", "kube-public");
    fixture_get(f, KL_RES_core_v1_namespaces, "", "kube-node-lease");

    const char *svc = text_of(f, KL_RES_core_v1_services, "default", "kubernetes");
    fixture_assert_has(svc, "\"labels\":{\"component\":\"apiserver\",\"provider\":\"kubernetes\"}");
    fixture_assert_has(
        svc, "\"spec\":{\"ports\":[{\"name\":\"https\",\"protocol\":\"TCP\",\"port\":443,"
             "\"targetPort\":6443}],\"clusterIP\":\"10.43.0.1\",\"clusterIPs\":[\"10.43.0.1\"]"
             ",\"type\":\"ClusterIP\",\"sessionAffinity\":\"None\",\"ipFamilies\":[\"IPv4\"],"
             "\"ipFamilyPolicy\":\"SingleStack\",\"internalTrafficPolicy\":\"Cluster\"},"
             "\"status\":{\"loadBalancer\":{}}}");
    fixture_assert_has(
        text_of(f, KL_RES_core_v1_endpoints, "default", "kubernetes"),
        "\"subsets\":[{\"addresses\":[{\"ip\":\"192.0.2.7\"}],\"ports\":[{\"name\":\"https\","
        "\"port\":6443,\"protocol\":\"TCP\"}]}]");
    fixture_assert_has(
        text_of(f, KL_RES_discovery_v1_endpointslices, "default", "kubernetes"),
        "\"addressType\":\"IPv4\",\"endpoints\":[{\"addresses\":[\"192.0.2.7\"],"
        "\"conditions\":{\"ready\":true}}],\"ports\":[{\"name\":\"https\",\"protocol\":\"TCP\","
        "\"port\":6443}]}");
    fixture_assert_has(
        text_of(f, KL_RES_networking_v1_ipaddresses, "", "10.43.0.1"),
        "\"spec\":{\"parentRef\":{\"resource\":\"services\",\"namespace\":\"default\","
        "\"name\":\"kubernetes\"}}");
    fixture_assert_has(text_of(f, KL_RES_networking_v1_servicecidrs, "", "kubernetes"),
                       "\"spec\":{\"cidrs\":[\"10.43.0.0/16\"]}");
    fixture_assert_has(
        text_of(f, KL_RES_core_v1_configmaps, "kube-system", "extension-apiserver-authentication"),
        "\"client-ca-file\":\"-----BEGIN CERTIFICATE-----\\nAAAA\\n");
    fixture_assert_has(text_of(f, KL_RES_scheduling_v1_priorityclasses, "", "system-node-critical"),
                       "\"generation\":1,");
    fixture_assert_has(
        text_of(f, KL_RES_apiregistration_v1_apiservices, "", "v1.apps"),
        "\"spec\":{\"group\":\"apps\",\"version\":\"v1\",\"groupPriorityMinimum\":17800,"
        "\"versionPriority\":15}");
    const char *fs = text_of(f, KL_RES_flowcontrol_v1_flowschemas, "", "probes");
    fixture_assert_has(fs, "\"matchingPrecedence\":2,");
    fixture_assert_has(fs,
                       "\"type\":\"Dangling\",\"status\":\"False\",\"lastTransitionTime\":\"20");

    const char *view = text_of(f, KL_RES_rbac_v1_clusterroles, "", "view");
    fixture_assert_has(view, "\"kubernetes.io/bootstrapping\":\"rbac-defaults\"");
    fixture_assert_has(view, "\"rbac.authorization.k8s.io/aggregate-to-edit\":\"true\"");
    fixture_assert_has(view, "\"configmaps\"");
    fixture_assert_has(
        text_of(f, KL_RES_rbac_v1_rolebindings, "kube-system",
                "system::leader-locking-kube-scheduler"),
        "\"apiGroup\":\"rbac.authorization.k8s.io\",\"name\":\"system:kube-scheduler\"");
}

static void body_restart(struct fixture *f)
{
    bootstrap(f);
    kl_rev rev = revision(f);
    int64_t t0 = kl_mono_ns();
    bootstrap(f);
    print_message("restart: %lld us\n", (long long)(kl_mono_ns() - t0) / 1000);
    assert_int_equal(revision(f), rev);
}

static void body_put_back(struct fixture *f)
{
    bootstrap(f);
    // A user took a rule away and added one; made one binding their own; another server's address.
    fixture_put(
        f, KL_RES_rbac_v1_clusterroles,
        "{\"metadata\":{\"name\":\"system:basic-user\",\"uid\":\"keep\",\"labels\":{\"a\":"
        "\"b\"}},\"rules\":[{\"apiGroups\":[\"\"],\"resources\":[\"own\"],\"verbs\":[\"get\"]"
        "}]}");
    fixture_put(f, KL_RES_rbac_v1_clusterrolebindings,
                "{\"metadata\":{\"name\":\"system:discovery\",\"annotations\":{"
                "\"rbac.authorization.kubernetes.io/autoupdate\":\"false\"}},\"roleRef\":{"
                "\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":"
                "\"system:discovery\"}}");
    fixture_put(f, KL_RES_rbac_v1_clusterrolebindings,
                "{\"metadata\":{\"name\":\"system:basic-user\",\"uid\":\"old\"},\"roleRef\":{"
                "\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":"
                "\"cluster-admin\"}}");
    f->srv.o.advertise_address = "192.0.2.8";
    f->srv.o.port = 7443;
    kl_rev rev = revision(f);
    bootstrap(f);
    assert_int_equal(revision(f), rev + 5);

    const char *role = text_of(f, KL_RES_rbac_v1_clusterroles, "", "system:basic-user");
    fixture_assert_has(role, "\"uid\":\"keep\"");
    fixture_assert_has(role, "\"a\":\"b\",\"kubernetes.io/bootstrapping\":\"rbac-defaults\"");
    fixture_assert_has(role, "\"own\"");
    fixture_assert_has(role, "\"selfsubjectaccessreviews\"");
    const char *own = text_of(f, KL_RES_rbac_v1_clusterrolebindings, "", "system:discovery");
    assert_null(strstr(own, "system:authenticated"));
    const char *anew = text_of(f, KL_RES_rbac_v1_clusterrolebindings, "", "system:basic-user");
    assert_null(strstr(anew, "\"uid\":\"old\""));
    fixture_assert_has(anew, "\"kind\":\"ClusterRole\",\"name\":\"system:basic-user\"}");
    fixture_assert_has(text_of(f, KL_RES_core_v1_endpoints, "default", "kubernetes"),
                       "[{\"ip\":\"192.0.2.8\"}],\"ports\":[{\"name\":\"https\",\"port\":7443,");
    fixture_assert_has(text_of(f, KL_RES_core_v1_services, "default", "kubernetes"),
                       "\"targetPort\":7443}],\"clusterIP\":\"10.43.0.1\"");
    rev = revision(f);
    bootstrap(f);
    assert_int_equal(revision(f), rev);
}

static bool may(struct fixture *f, struct kl_user *u, const char *verb, const char *group,
                const char *plural, const char *ns, const char *path)
{
    struct kl_str ignored;
    struct kl_attrs t = {.user = u,
                         .verb = kl_str(verb),
                         .group = kl_str(group),
                         .plural = kl_str(plural),
                         .ns = kl_str(ns),
                         .path = kl_str(path),
                         .is_resource = !path};
    return kl_authorize(&f->srv.loops[0], &f->arena, &t, &ignored);
}

// What the default roles mean together.
static void body_roles(struct fixture *f)
{
    bootstrap(f);
    struct kl_user *anyone = fixture_user("jane", NULL),
                   *nobody = fixture_user("system:anonymous", NULL),
                   *sched = fixture_user("system:kube-scheduler", NULL);
    assert_true(may(f, nobody, "get", "", "", "", "/livez"));
    assert_true(may(f, nobody, "get", "", "", "", "/version"));
    assert_false(may(f, nobody, "get", "", "", "", "/api"));
    assert_false(may(f, nobody, "get", "", "", "", "/metrics"));
    assert_true(may(f, anyone, "get", "", "", "", "/api"));
    assert_true(may(f, anyone, "get", "", "", "", "/apis/apps/v1"));
    assert_true(
        may(f, anyone, "create", "authorization.k8s.io", "selfsubjectaccessreviews", "", NULL));
    assert_false(may(f, anyone, "list", "", "pods", "default", NULL));
    assert_true(may(f, sched, "list", "", "pods", "", NULL));
    assert_false(may(f, sched, "list", "", "secrets", "", NULL));
    // edit through its aggregation, within one namespace.
    fixture_put(f, KL_RES_rbac_v1_rolebindings,
                "{\"metadata\":{\"name\":\"e\",\"namespace\":\"dev\"},\"roleRef\":{\"apiGroup\":"
                "\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"edit\"},"
                "\"subjects\":[{\"kind\":\"User\",\"apiGroup\":\"rbac.authorization.k8s.io\","
                "\"name\":\"jane\"}]}");
    assert_true(may(f, anyone, "create", "apps", "deployments", "dev", NULL));
    assert_true(may(f, anyone, "list", "", "endpoints", "dev", NULL)); // of view
    assert_false(may(f, anyone, "create", "apps", "deployments", "prod", NULL));
    assert_false(may(f, anyone, "create", "rbac.authorization.k8s.io", "roles", "dev", NULL));
    kl_user_unref(anyone);
    kl_user_unref(nobody);
    kl_user_unref(sched);
}

static void test_first_address(void **state)
{
    char ip[64];
    bool v6;
    assert_true(kl_first_address("10.43.0.0/16", ip, &v6));
    assert_string_equal(ip, "10.43.0.1");
    assert_true(kl_first_address("10.43.7.255/24", ip, &v6));
    assert_string_equal(ip, "10.43.7.1");
    assert_true(kl_first_address("fd00:10:96::/112", ip, &v6));
    assert_string_equal(ip, "fd00:10:96::1");
    assert_true(v6);
    assert_false(kl_first_address("10.43.0.0", ip, &v6));
    assert_false(kl_first_address("10.43.0.0/33", ip, &v6));
    assert_false(kl_first_address("x/8", ip, &v6));
}

#define ON_LOOP(name)                                                                              \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        fixture_run(body_##name);                                                                  \
    }
ON_LOOP(shapes)
ON_LOOP(restart)
ON_LOOP(put_back)
ON_LOOP(roles)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_address), cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_restart),       cmocka_unit_test(test_put_back),
        cmocka_unit_test(test_roles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
