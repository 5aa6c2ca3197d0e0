// SPDX-License-Identifier: Apache-2.0
// RBAC against upstream's own cases (plugin/pkg/auth/authorizer/rbac), bindings, aggregation, the
// decision cache, escalation checks and what a refusal says.
#include "fixture.h"
#include "apiserver/auth/authz_int.h"
#include "base/clock.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

// ---- one rule, one request

struct rule_case {
    const char *rule; // JSON
    const char *verb, *group, *plural, *sub, *name, *path;
    bool allowed;
};

static const struct rule_case rule_cases[] = {
#define PODS "{\"apiGroups\":[\"\"],\"resources\":[\"pods\"],\"verbs\":[\"get\",\"list\"]}"
    {PODS, "get", "", "pods", "", "x", NULL, true},
    {PODS, "list", "", "pods", "", "", NULL, true},
    {PODS, "delete", "", "pods", "", "x", NULL, false},
    {PODS, "get", "apps", "pods", "", "x", NULL, false},
    {PODS, "get", "", "pods", "log", "x", NULL, false},
    {PODS, "get", "", "services", "", "x", NULL, false},
    {PODS, "get", "", "", "", "", "/pods", false},
#define ALL "{\"apiGroups\":[\"*\"],\"resources\":[\"*\"],\"verbs\":[\"*\"]}"
    {ALL, "anything", "any", "thing", "sub", "x", NULL, true},
    {ALL, "get", "", "", "", "", "/healthz", false},
#define SUB "{\"apiGroups\":[\"*\"],\"resources\":[\"*/scale\",\"pods/log\"],\"verbs\":[\"get\"]}"
    {SUB, "get", "apps", "deployments", "scale", "x", NULL, true},
    {SUB, "get", "apps", "deployments", "", "x", NULL, false},
    {SUB, "get", "", "pods", "log", "x", NULL, true},
    {SUB, "get", "", "pods", "logs", "x", NULL, false},
    {SUB, "get", "", "scale", "", "x", NULL, false},
    {SUB, "get", "", "pods", "xscale", "x", NULL, false},
#define PART "{\"apiGroups\":[\"\"],\"resources\":[\"pods/*\"],\"verbs\":[\"get\"]}"
    {PART, "get", "", "pods", "log", "x", NULL, false}, // upstream knows no such form
#define NAMED                                                                                      \
    "{\"apiGroups\":[\"\"],\"resources\":[\"configmaps\"],\"resourceNames\":[\"a\",\"b\"],"        \
    "\"verbs\":[\"get\",\"create\"]}"
    {NAMED, "get", "", "configmaps", "", "b", NULL, true},
    {NAMED, "get", "", "configmaps", "", "c", NULL, false},
    {NAMED, "create", "", "configmaps", "", "", NULL, false},
#define PATHS "{\"nonResourceURLs\":[\"/version\",\"/apis/*\",\"/logs**\"],\"verbs\":[\"get\"]}"
    {PATHS, "get", "", "", "", "", "/version", true},
    {PATHS, "get", "", "", "", "", "/version/", false},
    {PATHS, "get", "", "", "", "", "/apis/apps", true},
    {PATHS, "get", "", "", "", "", "/apis", false},
    {PATHS, "get", "", "", "", "", "/logs/x", true},
    {PATHS, "post", "", "", "", "", "/version", false},
    {PATHS, "get", "", "version", "", "", NULL, false},
#define ALL_PATHS "{\"nonResourceURLs\":[\"*\"],\"verbs\":[\"*\"]}"
    {ALL_PATHS, "post", "", "", "", "", "/any/thing", true},
    {ALL_PATHS, "get", "", "pods", "", "x", NULL, false},
};

static void test_rules(void **state)
{
    struct kl_arena a;
    struct kl_error err;
    kl_arena_init(&a, 0);
    for (size_t i = 0; i < KL_COUNT(rule_cases); i++) {
        const struct rule_case *c = &rule_cases[i];
        struct kl_value v;
        struct kl_attrs t = {.verb = kl_str(c->verb),
                             .group = kl_str(c->group),
                             .plural = kl_str(c->plural),
                             .sub = kl_str(c->sub),
                             .name = kl_str(c->name),
                             .path = kl_str(c->path),
                             .is_resource = !c->path};
        assert_int_equal(kl_json_decode(&a, kl_type(KL_TYPE_rbac_v1_PolicyRule), kl_str(c->rule),
                                        NULL, &v, &err),
                         0);
        if (kl_rule_allows(&v, &t) != c->allowed)
            fail_msg("case %zu: %s %s/%s %s should be %s by %s", i, c->verb, c->plural, c->sub,
                     c->path ? c->path : c->name, c->allowed ? "allowed" : "refused", c->rule);
    }
    kl_arena_fini(&a);
}

// ---- bindings

static const char *const team[] = {"team", NULL};

static bool may(struct fixture *f, struct kl_user *u, const char *verb, const char *plural,
                const char *ns, const char *name, struct kl_str *reason)
{
    struct kl_str ignored;
    struct kl_attrs t = {.user = u,
                         .verb = kl_str(verb),
                         .group = KL_STR(""),
                         .version = KL_STR("v1"),
                         .plural = kl_str(plural),
                         .ns = kl_str(ns),
                         .name = kl_str(name),
                         .is_resource = true};
    return kl_authorize(&f->srv.loops[0], &f->arena, &t, reason ? reason : &ignored);
}

static bool may_path(struct fixture *f, struct kl_user *u, const char *path)
{
    struct kl_str ignored;
    struct kl_attrs t = {.user = u, .verb = KL_STR("get"), .path = kl_str(path)};
    return kl_authorize(&f->srv.loops[0], &f->arena, &t, &ignored);
}

#define CR(name, labels, rules)                                                                    \
    "{\"metadata\":{\"name\":\"" name "\",\"labels\":{" labels "}},\"rules\":[" rules "]}"
#define BIND(ns, name, kind, role, subject)                                                        \
    "{\"metadata\":{\"name\":\"" name "\"" ns                                                      \
    "},\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"" kind                   \
    "\",\"name\":\"" role "\"},\"subjects\":[" subject "]}"
#define IN(ns) ",\"namespace\":\"" ns "\""
#define GROUP(g)                                                                                   \
    "{\"kind\":\"Group\",\"apiGroup\":\"rbac.authorization.k8s.io\",\"name\":\"" g "\"}"
#define USER(g) "{\"kind\":\"User\",\"apiGroup\":\"rbac.authorization.k8s.io\",\"name\":\"" g "\"}"
#define ACCOUNT(ns, n) "{\"kind\":\"ServiceAccount\",\"name\":\"" n "\"" ns "}"

static void body_bindings(struct fixture *f)
{
    struct kl_user *jane = fixture_user("jane", team), *joe = fixture_user("joe", NULL),
                   *sa = fixture_user("system:serviceaccount:ns1:robot", NULL),
                   *root = fixture_user("root", (const char *[]){"system:masters", NULL});
    struct kl_str reason;
    assert_true(may(f, root, "delete", "nodes", "", "n", NULL));
    assert_false(may(f, jane, "get", "pods", "ns1", "p", NULL));

    fixture_put(f, KL_RES_rbac_v1_clusterroles, CR("reader", "", PODS));
    struct kl_str key = fixture_put(f, KL_RES_rbac_v1_rolebindings,
                                    BIND(IN("ns1"), "b", "ClusterRole", "reader", GROUP("team")));
    // An acknowledged change counts at once, though a refusal was kept.
    assert_true(may(f, jane, "get", "pods", "ns1", "p", NULL));
    assert_true(may(f, jane, "list", "pods", "ns1", "", NULL));
    assert_false(may(f, jane, "get", "pods", "ns2", "p", NULL));
    assert_false(may(f, jane, "list", "pods", "", "", NULL));
    assert_false(may(f, joe, "get", "pods", "ns1", "p", NULL));
    fixture_delete(f, key);
    assert_false(may(f, jane, "get", "pods", "ns1", "p", NULL));

    // A Role is looked for in the binding's namespace; a missing one is said.
    fixture_put(f, KL_RES_rbac_v1_rolebindings, BIND(IN("ns2"), "b", "Role", "local", USER("joe")));
    assert_false(may(f, joe, "get", "pods", "ns2", "p", &reason));
    assert_string_equal(reason.p, "RBAC: role.rbac.authorization.k8s.io \"local\" not found");
    fixture_put(f, KL_RES_rbac_v1_roles,
                "{\"metadata\":{\"name\":\"local\",\"namespace\":\"ns2\"},\"rules\":[" PODS "]}");
    assert_true(may(f, joe, "get", "pods", "ns2", "p", NULL));
    assert_false(may(f, joe, "get", "pods", "ns1", "p", NULL));

    // A ServiceAccount without a namespace is of the binding's namespace, and of none cluster-wide.
    fixture_put(f, KL_RES_rbac_v1_rolebindings,
                BIND(IN("ns1"), "r", "ClusterRole", "reader", ACCOUNT("", "robot")));
    assert_true(may(f, sa, "get", "pods", "ns1", "p", NULL));
    fixture_put(f, KL_RES_rbac_v1_clusterrolebindings,
                BIND("", "r", "ClusterRole", "reader", ACCOUNT("", "robot")));
    assert_false(may(f, sa, "get", "pods", "ns3", "p", NULL));
    fixture_put(f, KL_RES_rbac_v1_clusterrolebindings,
                BIND("", "r", "ClusterRole", "reader", ACCOUNT(IN("ns1"), "robot")));
    assert_true(may(f, sa, "get", "pods", "ns3", "p", NULL));

    // Names: one decision by name does not answer for another.
    fixture_put(f, KL_RES_rbac_v1_clusterroles, CR("some", "", NAMED));
    fixture_put(f, KL_RES_rbac_v1_clusterrolebindings,
                BIND("", "some", "ClusterRole", "some", USER("joe")));
    for (int i = 0; i < 2; i++) {
        assert_true(may(f, joe, "get", "configmaps", "ns1", "a", NULL));
        assert_false(may(f, joe, "get", "configmaps", "ns1", "c", NULL));
        assert_true(may(f, joe, "get", "configmaps", "ns1", "b", NULL));
        assert_false(may(f, joe, "list", "configmaps", "ns1", "", NULL));
    }

    struct kl_user *nobody = fixture_user("system:anonymous", NULL);
    assert_false(may_path(f, nobody, "/version"));
    fixture_put(f, KL_RES_rbac_v1_clusterroles, CR("public", "", PATHS));
    fixture_put(f, KL_RES_rbac_v1_clusterrolebindings,
                BIND("", "public", "ClusterRole", "public", GROUP("system:unauthenticated")));
    assert_true(may_path(f, nobody, "/version"));
    assert_false(may_path(f, nobody, "/metrics"));
    assert_false(may_path(f, jane, "/version"));
    kl_user_unref(nobody);
    kl_user_unref(jane);
    kl_user_unref(joe);
    kl_user_unref(sa);
    kl_user_unref(root);
}

static void body_aggregation(struct fixture *f)
{
    struct kl_user *jane = fixture_user("jane", team);
    fixture_put(f, KL_RES_rbac_v1_clusterroles,
                "{\"metadata\":{\"name\":\"sum\"},\"aggregationRule\":{\"clusterRoleSelectors\":[{"
                "\"matchLabels\":{\"to\":\"sum\"}}]},\"rules\":[" ALL "]}");
    fixture_put(f, KL_RES_rbac_v1_clusterrolebindings,
                BIND("", "sum", "ClusterRole", "sum", USER("jane")));
    // What stands in the aggregated role itself does not count.
    assert_false(may(f, jane, "get", "pods", "ns1", "p", NULL));
    fixture_put(f, KL_RES_rbac_v1_clusterroles, CR("part", "\"to\":\"sum\"", PODS));
    assert_true(may(f, jane, "get", "pods", "ns1", "p", NULL));
    assert_false(may(f, jane, "get", "services", "ns1", "p", NULL));
    // Two that select each other end.
    fixture_put(
        f, KL_RES_rbac_v1_clusterroles,
        "{\"metadata\":{\"name\":\"loop\",\"labels\":{\"to\":\"sum\"}},\"aggregationRule\":{"
        "\"clusterRoleSelectors\":[{\"matchExpressions\":[{\"key\":\"to\",\"operator\":"
        "\"Exists\"}]},{}]}}");
    assert_false(may(f, jane, "get", "services", "ns1", "p", NULL));
    kl_user_unref(jane);
}

static void body_messages(struct fixture *f)
{
    static const struct {
        enum kl_verb op;
        uint16_t res;
        const char *sub, *ns, *name, *want;
    } cases[] = {
        {KL_VERB_LIST, KL_RES_core_v1_pods, "", "default", "",
         "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the "
         "namespace \"default\""},
        {KL_VERB_LIST, KL_RES_core_v1_nodes, "", "", "",
         "nodes is forbidden: User \"jane\" cannot list resource \"nodes\" in API group \"\" at "
         "the "
         "cluster scope"},
        {KL_VERB_GET, KL_RES_apps_v1_deployments, "scale", "ns", "web",
         "deployments.apps \"web\" is forbidden: User \"jane\" cannot get resource "
         "\"deployments/scale\" in API group \"apps\" in the namespace \"ns\""},
    };
    struct kl_user *jane = fixture_user("jane", team);
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct fixture_req q;
        fixture_req_init(f, &q, jane, cases[i].op, cases[i].res, cases[i].sub, cases[i].ns,
                         cases[i].name, "");
        assert_false(kl_authorize_req(&q.r));
        assert_string_equal(q.r.fail.message.p, cases[i].want);
        assert_int_equal(q.r.fail.http, 403);
        assert_true(kl_str_eqz(q.r.fail.reason, "Forbidden"));
        assert_true(kl_str_eqz(q.r.fail.kind, kl_res(cases[i].res)->plural));
        fixture_req_fini(&q);
    }
    struct fixture_req q;
    fixture_req_init(f, &q, jane, KL_VERB_GET, KL_RES_core_v1_pods, "", "", "", "");
    q.r.info.is_resource = false;
    q.r.info.verb = KL_STR("get");
    q.r.info.path = KL_STR("/foo");
    assert_false(kl_authorize_req(&q.r));
    assert_string_equal(q.r.fail.message.p, "forbidden: User \"jane\" cannot get path \"/foo\"");
    fixture_req_fini(&q);
    kl_user_unref(jane);
}

// Says what the escalation check of a role or binding says: "" is yes.
static const char *escalation(struct fixture *f, struct kl_user *u, uint16_t res, const char *ns,
                              const char *json)
{
    struct fixture_req q;
    struct kl_value v;
    struct kl_error err;
    fixture_req_init(f, &q, u, KL_VERB_CREATE, res, "", ns, "", json);
    assert_int_equal(kl_json_decode(&f->arena, kl_res(res)->type, kl_str(json), NULL, &v, &err), 0);
    struct kl_object *o = kl_object_freeze(kl_res(res)->type, &v);
    int rc = kl_rbac_check_escalation(&q.r, &o->root, NULL);
    const char *said = rc ? kl_arena_dup(&f->arena, q.r.fail.message).p : "";
    kl_object_unref(o);
    fixture_req_fini(&q);
    return said;
}

static void body_escalation(struct fixture *f)
{
    const uint16_t role = KL_RES_rbac_v1_roles, binding = KL_RES_rbac_v1_rolebindings;
    struct kl_user *jane = fixture_user("jane", team),
                   *root = fixture_user("root", (const char *[]){"system:masters", NULL});
#define ROLE(rules) "{\"metadata\":{\"name\":\"r\",\"namespace\":\"ns1\"},\"rules\":[" rules "]}"
    assert_string_equal(escalation(f, root, role, "ns1", ROLE(ALL)), "");
    assert_string_equal(
        escalation(f, jane, role, "ns1", ROLE(PODS)),
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"jane\" (groups=[\"team\" "
        "\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n"
        "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}");
    fixture_put(f, KL_RES_rbac_v1_clusterroles, CR("reader", "", PODS));
    fixture_put(f, KL_RES_rbac_v1_clusterroles, CR("all", "", ALL "," ALL_PATHS));
    fixture_put(f, binding, BIND(IN("ns1"), "b", "ClusterRole", "reader", GROUP("team")));
    assert_string_equal(escalation(f, jane, role, "ns1", ROLE(PODS)), "");
    assert_string_equal(escalation(f, jane, binding, "ns1",
                                   BIND(IN("ns1"), "x", "ClusterRole", "reader", USER("joe"))),
                        "");
    assert_string_equal(
        escalation(f, jane, binding, "ns1",
                   BIND(IN("ns1"), "x", "ClusterRole", "all", USER("joe"))),
        "rolebindings.rbac.authorization.k8s.io \"x\" is forbidden: user \"jane\" "
        "(groups=[\"team\" "
        "\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n"
        "{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n"
        "{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}");
    assert_string_equal(escalation(f, jane, binding, "ns1",
                                   BIND(IN("ns1"), "x", "ClusterRole", "gone", USER("joe"))),
                        "clusterroles.rbac.authorization.k8s.io \"gone\" not found");
    // The verb bind on that role opens it.
    fixture_put(
        f, KL_RES_rbac_v1_clusterroles,
        CR("binder", "",
           "{\"apiGroups\":[\"rbac.authorization.k8s.io\"],\"resources\":[\"clusterroles\"],"
           "\"resourceNames\":[\"all\"],\"verbs\":[\"bind\"]}"));
    fixture_put(f, binding, BIND(IN("ns1"), "c", "ClusterRole", "binder", USER("jane")));
    assert_string_equal(escalation(f, jane, binding, "ns1",
                                   BIND(IN("ns1"), "x", "ClusterRole", "all", USER("joe"))),
                        "");
    assert_string_equal(
        escalation(f, jane, KL_RES_rbac_v1_clusterroles, "",
                   "{\"metadata\":{\"name\":\"agg\"},\"aggregationRule\":{\"clusterRoleSelectors\":"
                   "[{}]}}"),
        "clusterroles.rbac.authorization.k8s.io \"agg\" is forbidden: must have cluster-admin "
        "privileges to use the aggregationRule");
    kl_user_unref(jane);
    kl_user_unref(root);
}

static void body_cache(struct fixture *f)
{
    struct kl_user *jane = fixture_user("jane", team);
    bool tick = false;
    fixture_put(f, KL_RES_rbac_v1_clusterroles, CR("reader", "", PODS));
    fixture_put(f, KL_RES_rbac_v1_clusterrolebindings,
                BIND("", "b", "ClusterRole", "reader", GROUP("team")));
    fixture_put(f, KL_RES_core_v1_namespaces, "{\"metadata\":{\"name\":\"x\"}}");
    tick = true;
    fixture_wait(f, &tick);
    struct kl_authz_cache *c;
    for (int i = 0; i < 100; i++)
        assert_true(may(f, jane, "get", "pods", "ns1", i % 2 ? "p" : "q", NULL));
    c = kl_authz_cache_of(&f->srv.loops[0]);
    // One look at the rules was enough (two when the watches were behind at first).
    assert_true(c->hits >= 98);
    assert_true(c->decisions.n >= 1);
    int64_t hits = c->hits, t0 = kl_mono_ns();
    for (int i = 0; i < 10000; i++)
        may(f, jane, "get", "pods", "ns1", "p", NULL);
    print_message("a kept decision: %lld ns\n", (long long)(kl_mono_ns() - t0) / 10000);
    assert_int_equal(c->hits, hits + 10000);
    kl_user_unref(jane);
}

#define ON_LOOP(name)                                                                              \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        fixture_run(body_##name);                                                                  \
    }
ON_LOOP(bindings)
ON_LOOP(aggregation)
ON_LOOP(messages)
ON_LOOP(escalation)
ON_LOOP(cache)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),       cmocka_unit_test(test_bindings),
        cmocka_unit_test(test_aggregation), cmocka_unit_test(test_messages),
        cmocka_unit_test(test_escalation),  cmocka_unit_test(test_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
