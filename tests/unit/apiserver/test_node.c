// SPDX-License-Identifier: Apache-2.0
// The Node authoriser: what a kubelet may reach hangs on the pods bound to its node.
#include "fixture.h"
#include "apiserver/auth/authz_int.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

struct node_case {
    const char *verb, *group, *plural, *sub, *ns, *name;
    bool allowed;
    const char *reason;
};

#define NO_RELATION "no relationship found between node 'n1' and this object"
#define LEASES "coordination.k8s.io", "leases"
static const struct node_case cases[] = {
    {"get", "", "secrets", "", "ns1", "by-volume", true, NULL},
    {"get", "", "secrets", "", "ns1", "by-env", true, NULL},
    {"get", "", "secrets", "", "ns1", "by-pull", true, NULL},
    {"get", "", "secrets", "", "ns1", "by-init", true, NULL},
    {"watch", "", "secrets", "", "ns1", "by-projection", true, NULL},
    {"list", "", "secrets", "", "ns1", "by-volume", true, NULL},
    {"list", "", "secrets", "", "ns1", "", false, "No Object name found"},
    {"get", "", "secrets", "", "ns1", "other", false, NO_RELATION},
    {"get", "", "secrets", "", "ns2", "by-volume", false, NO_RELATION},
    {"get", "", "secrets", "", "ns1", "of-n2", false, NO_RELATION},
    {"get", "", "secrets", "", "ns1", "of-mirror", false, NO_RELATION},
    {"update", "", "secrets", "", "ns1", "by-volume", false,
     "can only read resources of this type"},
    {"get", "", "configmaps", "", "ns1", "by-volume", false, NO_RELATION},
    {"get", "", "configmaps", "", "ns1", "conf", true, NULL},
    {"get", "", "configmaps", "", "ns1", "kube-root-ca.crt", true, NULL},
    {"get", "", "persistentvolumeclaims", "", "ns1", "claim", true, NULL},
    {"get", "", "persistentvolumeclaims", "", "ns1", "p1-scratch", true, NULL},
    {"get", "", "persistentvolumeclaims", "", "ns1", "p1-conf", false, NO_RELATION},
    {"get", "", "persistentvolumes", "", "", "pv1", true, NULL},
    {"get", "", "persistentvolumes", "", "", "pv2", false, NO_RELATION},
    {"list", "", "persistentvolumes", "", "", "", false,
     "can only get individual resources of this type"},
    {"create", "", "serviceaccounts", "token", "ns1", "robot", true, NULL},
    {"create", "", "serviceaccounts", "token", "ns1", "default", false, NO_RELATION},
    {"get", "", "pods", "", "ns1", "p1", true, NULL},
    {"get", "", "pods", "", "ns1", "p2", false, NO_RELATION},
    {"list", "", "pods", "", "", "", false,
     "can only list/watch pods with spec.nodeName field selector"},
    {"patch", "", "pods", "status", "ns1", "p1", true, NULL},
    {"patch", "", "pods", "status", "ns1", "p2", false,
     "node \"n1\" can only update pod status for pods with spec.nodeName set to itself"},
    {"patch", "", "pods", "status", "ns1", "gone", true, NULL}, // the registry says 404
    {"delete", "", "pods", "", "ns1", "p1", true, NULL},
    {"delete", "", "pods", "", "ns1", "p2", false,
     "node \"n1\" can only delete pods with spec.nodeName set to itself"},
    {"update", "", "pods", "", "ns1", "p1", false, ""},
    {"create", "", "pods", "binding", "ns1", "p1", false, ""},
    {"get", "", "nodes", "", "", "n1", true, NULL},
    {"get", "", "nodes", "", "", "n2", false,
     "node 'n1' cannot read 'n2', only its own Node object"},
    {"list", "", "nodes", "", "", "", false,
     "node 'n1' cannot read all nodes, only its own Node object"},
    {"create", "", "nodes", "", "", "", true, NULL},
    {"patch", "", "nodes", "status", "", "n1", true, NULL},
    {"patch", "", "nodes", "status", "", "n2", false,
     "node \"n1\" is not allowed to modify node \"n2\""},
    {"delete", "", "nodes", "", "", "n1", false, ""},
    {"update", LEASES, "", "kube-node-lease", "n1", true, NULL},
    {"create", LEASES, "", "kube-node-lease", "", true, NULL},
    {"update", LEASES, "", "kube-node-lease", "n2", false,
     "can only access node lease with the same name as the requesting node"},
    {"get", LEASES, "", "kube-system", "n1", false,
     "can only access leases in the \"kube-node-lease\" system namespace"},
    {"get", "storage.k8s.io", "csinodes", "", "", "n1", true, NULL},
    {"get", "storage.k8s.io", "csinodes", "", "", "n2", false,
     "can only access CSINode with the same name as the requesting node"},
    {"create", "", "events", "", "ns1", "", true, NULL},
    {"list", "", "services", "", "", "", true, NULL},
    {"list", "", "endpoints", "", "", "", false, ""},
    {"list", "node.k8s.io", "runtimeclasses", "", "", "", true, NULL},
    {"list", "apps", "deployments", "", "", "", false, ""},
};

static const char pod1[] =
    "{\"metadata\":{\"name\":\"p1\",\"namespace\":\"ns1\"},\"spec\":{\"nodeName\":\"n1\","
    "\"serviceAccountName\":\"robot\",\"imagePullSecrets\":[{\"name\":\"by-pull\"}],"
    "\"initContainers\":[{\"name\":\"i\",\"image\":\"i\",\"env\":[{\"name\":\"E\",\"valueFrom\":{"
    "\"secretKeyRef\":{\"name\":\"by-init\",\"key\":\"k\"}}}]}],"
    "\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"envFrom\":[{\"secretRef\":{\"name\":\"by-"
    "env\""
    "}}]}],\"volumes\":[{\"name\":\"a\",\"secret\":{\"secretName\":\"by-volume\"}},"
    "{\"name\":\"conf\",\"configMap\":{\"name\":\"conf\"}},"
    "{\"name\":\"d\",\"persistentVolumeClaim\":{\"claimName\":\"claim\"}},"
    "{\"name\":\"scratch\",\"ephemeral\":{\"volumeClaimTemplate\":{\"spec\":{}}}},"
    "{\"name\":\"b\",\"projected\":{\"sources\":[{\"secret\":{\"name\":\"by-projection\"}},"
    "{\"configMap\":{\"name\":\"kube-root-ca.crt\"}}]}}]}}";

static bool ask(struct fixture *f, struct kl_user *u, const struct node_case *c,
                const struct kl_selector *fields, struct kl_str *reason)
{
    struct kl_attrs t = {.user = u,
                         .verb = kl_str(c->verb),
                         .group = kl_str(c->group),
                         .plural = kl_str(c->plural),
                         .sub = kl_str(c->sub),
                         .ns = kl_str(c->ns),
                         .name = kl_str(c->name),
                         .is_resource = true,
                         .fields = fields};
    return kl_authorize(&f->srv.loops[0], &f->arena, &t, reason);
}

static void body_cases(struct fixture *f)
{
    static const char *const groups[] = {"system:nodes", NULL};
    struct kl_user *n1 = fixture_user("system:node:n1", groups),
                   *n2 = fixture_user("system:node:n2", groups),
                   *fake = fixture_user("system:node:n1", NULL);
    struct kl_str key = fixture_put(f, KL_RES_core_v1_pods, pod1);
    fixture_put(
        f, KL_RES_core_v1_pods,
        "{\"metadata\":{\"name\":\"p2\",\"namespace\":\"ns1\"},\"spec\":{\"nodeName\":\"n2\","
        "\"containers\":[{\"name\":\"n1\",\"image\":\"i\"}],\"volumes\":[{\"name\":\"a\","
        "\"secret\":{\"secretName\":\"of-n2\"}}]}}");
    fixture_put(f, KL_RES_core_v1_pods,
                "{\"metadata\":{\"name\":\"m\",\"namespace\":\"ns1\",\"annotations\":{"
                "\"kubernetes.io/config.mirror\":\"x\"}},\"spec\":{\"nodeName\":\"n1\","
                "\"containers\":[{\"name\":\"c\",\"image\":\"i\"}],\"volumes\":[{\"name\":\"a\","
                "\"secret\":{\"secretName\":\"of-mirror\"}}]}}");
    fixture_put(f, KL_RES_core_v1_persistentvolumes,
                "{\"metadata\":{\"name\":\"pv1\"},\"spec\":{\"claimRef\":{\"namespace\":\"ns1\","
                "\"name\":\"claim\"}}}");
    fixture_put(f, KL_RES_core_v1_persistentvolumes, "{\"metadata\":{\"name\":\"pv2\"}}");
    for (int round = 0; round < 2; round++) // with hints the second time
        for (size_t i = 0; i < KL_COUNT(cases); i++) {
            const struct node_case *c = &cases[i];
            struct kl_str reason;
            if (ask(f, n1, c, NULL, &reason) != c->allowed)
                fail_msg("%s %s/%s %s/%s: %s", c->verb, c->plural, c->sub, c->ns, c->name,
                         c->allowed ? reason.p : "allowed");
            if (!c->allowed)
                assert_string_equal(reason.p, c->reason);
        }
    struct kl_str reason;
    assert_false(ask(f, fake, &cases[0], NULL, &reason)); // not in system:nodes
    assert_false(ask(f, n2, &cases[0], NULL, &reason));

    struct kl_selector own, others;
    struct kl_error err;
    const struct node_case list = {"watch", "", "pods", "", "", "", true, NULL};
    kl_field_selector_parse(&f->arena, KL_STR("spec.nodeName=n1"), &own, &err);
    kl_field_selector_parse(&f->arena, KL_STR("spec.nodeName=n2"), &others, &err);
    assert_true(ask(f, n1, &list, &own, &reason));
    assert_false(ask(f, n1, &list, &others, &reason));

    // The pod goes, and with it what it opened.
    fixture_delete(f, key);
    assert_false(ask(f, n1, &cases[0], NULL, &reason));
    assert_string_equal(reason.p, NO_RELATION);
    kl_user_unref(n1);
    kl_user_unref(n2);
    kl_user_unref(fake);
}

static void test_cases(void **state)
{
    fixture_run(body_cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
