// SPDX-License-Identifier: Apache-2.0
// Which requests a webhook is for, what an answer of one says, and which plug-ins flags choose.
#include "apiserver/admission/config.h"
#include "apiserver/admission/hooks_int.h"
#include "apiserver/admission/plugins_int.h"
#include "fixture.h"
#include "object/json.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define CM KL_RES_core_v1_configmaps
#define NSS KL_RES_core_v1_namespaces
#define DEPLOY KL_RES_apps_v1_deployments
#define HPA KL_RES_autoscaling_v2_horizontalpodautoscalers
#define EVENTS KL_RES_events_v1_events

// ---- rules and selectors

#define RULE(groups, versions, ops, resources)                                                     \
    "{\"apiGroups\":[" groups "],\"apiVersions\":[" versions "],\"operations\":[" ops              \
    "],\"resources\":[" resources "]"
#define ANY RULE("\"*\"", "\"*\"", "\"*\"", "\"*/*\"")

static const struct {
    const char *webhook; // what it has beside its name
    uint16_t res;
    const char *sub, *ns, *labels; // of the object
    enum kl_admit_op op;
    int want;
    const char *by; // version by which it matches; NULL: the request's
} cases[] = {
    {"\"rules\":[" ANY "}]", CM, "", "default", NULL, KL_ADMIT_CREATE, 1, NULL},
    {"\"rules\":[" ANY "}]", DEPLOY, "scale", "default", NULL, KL_ADMIT_UPDATE, 1, NULL},
    {"", CM, "", "default", NULL, KL_ADMIT_CREATE, 0, NULL},
    // operations
    {"\"rules\":[" RULE("\"\"", "\"v1\"", "\"CREATE\"", "\"configmaps\"") "}]", CM, "", "default",
     NULL, KL_ADMIT_CREATE, 1, NULL},
    {"\"rules\":[" RULE("\"\"", "\"v1\"", "\"CREATE\"", "\"configmaps\"") "}]", CM, "", "default",
     NULL, KL_ADMIT_DELETE, 0, NULL},
    // groups and resources
    {"\"rules\":[" RULE("\"apps\"", "\"v1\"", "\"*\"", "\"configmaps\"") "}]", CM, "", "default",
     NULL, KL_ADMIT_CREATE, 0, NULL},
    {"\"rules\":[" RULE("\"apps\"", "\"v1\"", "\"*\"", "\"deployments\"") "}]", DEPLOY, "scale",
     "default", NULL, KL_ADMIT_UPDATE, 0, NULL},
    {"\"rules\":[" RULE("\"apps\"", "\"v1\"", "\"*\"", "\"deployments/*\"") "}]", DEPLOY, "scale",
     "default", NULL, KL_ADMIT_UPDATE, 1, NULL},
    {"\"rules\":[" RULE("\"apps\"", "\"v1\"", "\"*\"", "\"deployments/*\"") "}]", DEPLOY, "",
     "default", NULL, KL_ADMIT_UPDATE, 1, NULL},
    {"\"rules\":[" RULE("\"apps\"", "\"v1\"", "\"*\"", "\"*/scale\"") "}]", DEPLOY, "scale",
     "default", NULL, KL_ADMIT_UPDATE, 1, NULL},
    {"\"rules\":[" RULE("\"apps\"", "\"v1\"", "\"*\"", "\"*\"") "}]", DEPLOY, "scale", "default",
     NULL, KL_ADMIT_UPDATE, 0, NULL},
    // scope; a namespace is in itself and yet cluster-scoped
    {"\"rules\":[" ANY ",\"scope\":\"Namespaced\"}]", CM, "", "default", NULL, KL_ADMIT_CREATE, 1,
     NULL},
    {"\"rules\":[" ANY ",\"scope\":\"Cluster\"}]", CM, "", "default", NULL, KL_ADMIT_CREATE, 0,
     NULL},
    {"\"rules\":[" ANY ",\"scope\":\"Cluster\"}]", NSS, "", "default", NULL, KL_ADMIT_UPDATE, 1,
     NULL},
    {"\"rules\":[" ANY ",\"scope\":\"Namespaced\"}]", NSS, "", "default", NULL, KL_ADMIT_UPDATE, 0,
     NULL},
    // versions
    {"\"matchPolicy\":\"Exact\",\"rules\":[" RULE("\"autoscaling\"", "\"v1\"", "\"*\"",
                                                  "\"*\"") "}]",
     HPA, "", "default", NULL, KL_ADMIT_CREATE, 0, NULL},
    {"\"matchPolicy\":\"Equivalent\",\"rules\":[" RULE("\"autoscaling\"", "\"v1\"", "\"*\"",
                                                       "\"*\"") "}]",
     HPA, "", "default", NULL, KL_ADMIT_CREATE, 1, "autoscaling/v1"},
    {"\"matchPolicy\":\"Equivalent\",\"rules\":[" RULE("\"\"", "\"v1\"", "\"*\"",
                                                       "\"events\"") "}]",
     EVENTS, "", "default", NULL, KL_ADMIT_CREATE, 1, "v1"},
    {"\"matchPolicy\":\"Equivalent\",\"rules\":[" RULE("\"batch\"", "\"v1\"", "\"*\"",
                                                       "\"*\"") "}]",
     HPA, "", "default", NULL, KL_ADMIT_CREATE, 0, NULL},
    // selectors
    {"\"rules\":[" ANY "}],\"objectSelector\":{\"matchLabels\":{\"a\":\"b\"}}", CM, "", "default",
     "{\"a\":\"b\"}", KL_ADMIT_CREATE, 1, NULL},
    {"\"rules\":[" ANY "}],\"objectSelector\":{\"matchLabels\":{\"a\":\"b\"}}", CM, "", "default",
     "{\"a\":\"c\"}", KL_ADMIT_CREATE, 0, NULL},
    {"\"rules\":[" ANY "}],\"namespaceSelector\":{\"matchLabels\":{\"team\":\"x\"}}", CM, "",
     "default", NULL, KL_ADMIT_CREATE, 1, NULL},
    {"\"rules\":[" ANY "}],\"namespaceSelector\":{\"matchLabels\":{\"team\":\"y\"}}", CM, "",
     "default", NULL, KL_ADMIT_CREATE, 0, NULL},
    {"\"rules\":[" ANY "}],\"namespaceSelector\":{\"matchLabels\":{\"team\":\"x\"}}", CM, "",
     "nowhere", NULL, KL_ADMIT_CREATE, KL_ENOTFOUND, NULL},
    {"\"rules\":[" ANY "}],\"namespaceSelector\":{\"matchLabels\":{\"team\":\"x\"}}",
     KL_RES_core_v1_nodes, "", "", NULL, KL_ADMIT_CREATE, 1, NULL},
    // a namespace that is written counts with the labels it is to have
    {"\"rules\":[" ANY "}],\"namespaceSelector\":{\"matchLabels\":{\"team\":\"new\"}}", NSS, "",
     "default", "{\"team\":\"new\"}", KL_ADMIT_UPDATE, 1, NULL},
};

static void decode(struct fixture *f, const char *type, struct kl_str text, struct kl_value *ret,
                   int want)
{
    struct kl_error err = {0};
    const struct kl_type *t = kl_type_by_name(kl_str(type));
    assert_non_null(t);
    int rc = kl_json_decode(&f->arena, t, text, NULL, ret, &err);
    if (rc != want)
        fail_msg("%.*s: %s", KL_PRI(text), err.msg);
}

static void match_body(struct fixture *f)
{
    struct kl_user *u = fixture_user("u", NULL);
    fixture_put(f, NSS, "{\"metadata\":{\"name\":\"default\",\"labels\":{\"team\":\"x\"}}}");
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct fixture_req q;
        struct kl_value hook, object;
        struct kl_match m;
        struct kl_error err = {0};
        const struct kl_resource *by = NULL, *res = kl_res(cases[i].res);
        struct kl_str text = kl_arena_printf(&f->arena, "{\"name\":\"x\"%s%s}",
                                             *cases[i].webhook ? "," : "", cases[i].webhook);
        decode(f, "io.k8s.api.admissionregistration.v1.ValidatingWebhook", text, &hook, 0);
        fixture_req_init(f, &q, u, KL_VERB_CREATE, cases[i].res, cases[i].sub, cases[i].ns, "o",
                         NULL);
        text = kl_arena_printf(&f->arena, "{\"metadata\":{\"name\":\"o\",\"labels\":%s}}",
                               cases[i].labels ? cases[i].labels : "null");
        decode(f, kl_resource_storage(res)->type->name, text, &object, 0);
        struct kl_admit ad;
        struct kl_hook_run run = {.ad = &ad, .arena = &f->arena};
        q.r.info.ns = kl_str(cases[i].ns);
        q.r.info.sub = kl_str(cases[i].sub);
        kl_admit_init(&ad, &q.r, cases[i].op);
        ad.object = &object;
        kl_match_init(&m, &f->arena, &hook, kl_get(&hook, KL_F_rules));
        int got = kl_match_run(&m, &run, &by, &err);
        if (got != cases[i].want)
            fail_msg("case %zu: %s: got %d, want %d: %s", i, cases[i].webhook, got, cases[i].want,
                     err.msg);
        if (got == 1)
            assert_string_equal(by->api_version, cases[i].by ? cases[i].by : res->api_version);
        fixture_req_fini(&q);
    }
    kl_user_unref(u);
}

static void test_match(void **state)
{
    fixture_run(match_body);
}

// ---- answers

#define REVIEW(response)                                                                           \
    "{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\",\"response\":" response  \
    "}"

static const struct {
    const char *body;
    bool mutating;
    int status;
    const char *error; // NULL: it is well
    bool allowed;
    const char *patch;
} answers[] = {
    {REVIEW("{\"uid\":\"u\",\"allowed\":true}"), true, 200, NULL, true, ""},
    {REVIEW("{\"uid\":\"u\",\"allowed\":false}"), false, 200, NULL, false, ""},
    {REVIEW("{\"uid\":\"u\",\"allowed\":true,\"patchType\":\"JSONPatch\",\"patch\":\"W10=\"}"),
     true, 200, NULL, true, "[]"},
    {REVIEW("{\"uid\":\"u\",\"allowed\":true,\"patchType\":\"JSONPatch\",\"patch\":\"W10=\"}"),
     false, 200,
     "received invalid webhook response: validating webhook may not return response.patch", false,
     NULL},
    {REVIEW("{\"uid\":\"u\",\"allowed\":true,\"patch\":\"W10=\"}"), true, 200,
     "received invalid webhook response: webhook returned response.patch but not "
     "response.patchType",
     false, NULL},
    {REVIEW("{\"uid\":\"u\",\"allowed\":true,\"patchType\":\"JSONPatch\"}"), true, 200,
     "received invalid webhook response: webhook returned response.patchType but not "
     "response.patch",
     false, NULL},
    {REVIEW("{\"uid\":\"u\",\"allowed\":true,\"patchType\":\"Other\",\"patch\":\"W10=\"}"), true,
     200, "unsupported patch type \"Other\"", false, NULL},
    {REVIEW("{\"uid\":\"u\",\"allowed\":true,\"patchType\":\"JSONPatch\",\"patch\":\"W1\"}"), true,
     200, "failed to call webhook: illegal base64 data in response.patch", false, NULL},
    {REVIEW("{\"uid\":\"other\",\"allowed\":true}"), true, 200,
     "received invalid webhook response: expected response.uid=\"u\", got \"other\"", false, NULL},
    {REVIEW("null"), true, 200, "received invalid webhook response: webhook response was absent",
     false, NULL},
    {"{\"response\":{\"uid\":\"u\",\"allowed\":true}}", true, 200,
     "received invalid webhook response: expected webhook response of admission.k8s.io/v1, "
     "Kind=AdmissionReview, got /, Kind=",
     false, NULL},
    {"", true, 200,
     "failed to call webhook: 0-length response with status code: 200 and content type: ", false,
     NULL},
    {"[", true, 200, "failed to call webhook: couldn't get version/kind; json parse error: ", false,
     NULL},
    {"[]", true, 200, "failed to call webhook: json: cannot unmarshal ", false, NULL},
    {REVIEW("{\"uid\":\"u\",\"allowed\":\"yes\"}"), true, 200,
     "failed to call webhook: json: cannot unmarshal ", false, NULL},
    {"nothing here", true, 404,
     "failed to call webhook: the server could not find the requested resource", false, NULL},
    {"it \"broke\"\n", true, 500,
     "failed to call webhook: an error on the server (\"it \\\"broke\\\"\") has prevented the "
     "request from succeeding",
     false, NULL},
    {"", true, 301,
     "failed to call webhook: the server responded with the status code 301 but did not return "
     "more information",
     false, NULL},
};

static void test_answers(void **state)
{
    struct kl_hook h = {.review = 1, .name = KL_STR("x")};
    for (size_t i = 0; i < KL_COUNT(answers); i++) {
        struct kl_arena a;
        struct kl_review v;
        struct kl_error err = {0};
        kl_arena_init(&a, 1 << 20);
        int rc = kl_review_read(&a, &h, answers[i].mutating, "u", answers[i].status,
                                kl_str(answers[i].body), &v, &err);
        if (!answers[i].error) {
            if (rc)
                fail_msg("%s: %s", answers[i].body, err.msg);
            assert_int_equal(v.allowed, answers[i].allowed);
            assert_int_equal(v.patch.n, strlen(answers[i].patch));
            assert_memory_equal(v.patch.p, answers[i].patch, v.patch.n);
        } else if (!rc || strncmp(err.msg, answers[i].error, strlen(answers[i].error)) != 0) {
            fail_msg("%s: got %d %s, want %s", answers[i].body, rc, err.msg, answers[i].error);
        }
        kl_arena_fini(&a);
    }
}

// v1beta1 answers need neither their kind nor the uid, and their patches no type.
static void test_old_answers(void **state)
{
    struct kl_hook h = {.review = 2, .name = KL_STR("x")};
    struct kl_arena a;
    struct kl_review v;
    struct kl_error err = {0};
    kl_arena_init(&a, 1 << 20);
    assert_int_equal(kl_review_read(&a, &h, true, "u", 200,
                                    KL_STR("{\"response\":{\"allowed\":true,\"patch\":\"W10=\"}}"),
                                    &v, &err),
                     0);
    assert_true(v.allowed);
    assert_memory_equal(v.patch.p, "[]", 2);
    kl_arena_fini(&a);
}

// ---- flags

static size_t row(const char *name)
{
    for (size_t i = 0; i < kl_nplugins; i++)
        if (!strcmp(kl_plugins[i].name, name))
            return i;
    fail_msg("no plug-in %s", name);
    return 0;
}

static void test_select(void **state)
{
    const char *const off[] = {"ValidatingAdmissionWebhook", "Priority", NULL};
    const char *const on[] = {"Priority", NULL}, *const odd[] = {"Nonsense", NULL};
    kl_admit_set set;
    struct kl_error err = {0};
    assert_int_equal(kl_admit_select(NULL, NULL, &set, &err), 0);
    assert_true(set >> row("NamespaceLifecycle") & 1);
    assert_true(set >> row("MutatingAdmissionPolicy") & 1);
    assert_int_equal(kl_admit_select(NULL, off, &set, &err), 0);
    assert_false(set >> row("ValidatingAdmissionWebhook") & 1);
    assert_true(set >> row("MutatingAdmissionWebhook") & 1);
    assert_int_equal(kl_admit_select(odd, NULL, &set, &err), KL_EINVALID);
    assert_string_equal(err.msg, "enable-admission-plugins plugin \"Nonsense\" is unknown");
    assert_int_equal(kl_admit_select(NULL, odd, &set, &err), KL_EINVALID);
    assert_string_equal(err.msg, "disable-admission-plugins plugin \"Nonsense\" is unknown");
    assert_int_equal(kl_admit_select(on, off, &set, &err), KL_EINVALID);
    assert_string_equal(
        err.msg, "[Priority] in enable-admission-plugins and disable-admission-plugins overlapped");
}

// ---- what is configured

static int admit(struct fixture *f, uint16_t res, struct kl_user *u, const char **ret_message)
{
    struct fixture_req q;
    struct kl_admit ad;
    struct kl_value v = kl_new_struct();
    fixture_req_init(f, &q, u, KL_VERB_CREATE, res, "", "default", "x", "");
    kl_admit_init(&ad, &q.r, KL_ADMIT_CREATE);
    ad.draft = &v;
    int mutated = kl_admit_mutate(&ad);
    *ret_message = kl_arena_dup(&f->arena, q.r.fail.message).p;
    ad.object = &v;
    assert_int_equal(kl_admit_validate(&ad), mutated);
    fixture_req_fini(&q);
    return mutated;
}

// While it cannot be told what is configured, nothing passes but configurations themselves. What
// was known once stays in force.
static void body_unreadable(struct fixture *f)
{
    static const char *const none[] = {NULL};
    const uint16_t hooks = KL_RES_admissionregistration_v1_validatingwebhookconfigurations;
    struct kl_user *u = fixture_user("eve", none);
    const char *why;
    f->srv.admission = 0; // plug-ins are others' matter
    struct kl_str key = fixture_put_raw(f, hooks, "", "bad", "junk");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(admit(f, CM, u, &why), KL_EFORBIDDEN);
        fixture_assert_has(why, "configmaps \"x\" is forbidden: not yet ready to handle request");
        assert_int_equal(admit(f, hooks, u, &why), 0);
    }
    fixture_delete(f, key);
    assert_int_equal(admit(f, CM, u, &why), 0);
    fixture_put_raw(f, hooks, "", "new", "junk"); // nobody has ever read it
    assert_int_equal(admit(f, CM, u, &why), 0);
    kl_user_unref(u);
}

static void test_unreadable(void **state)
{
    fixture_run(body_unreadable);
}

// ---- PodSecurity: pods that are there

#define POD(name, owner)                                                                           \
    "{\"metadata\":{\"namespace\":\"n\",\"name\":\"" name "\"" owner                               \
    "},\"spec\":{\"hostIPC\":true,\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}"
#define OWNED(uid)                                                                                 \
    ",\"ownerReferences\":[{\"apiVersion\":\"apps/v1\",\"kind\":\"ReplicaSet\",\"name\":\"r\","    \
    "\"uid\":\"" uid "\",\"controller\":true}]"

static void body_existing_pods(struct fixture *f)
{
    static const char *const none[] = {NULL}, *const pods[] = {POD("a", OWNED("1")),
                                                               POD("b", OWNED("1")),
                                                               POD("c", OWNED("2")),
                                                               POD("d", OWNED("1")), POD("e", "")};
    struct kl_user *u = fixture_user("eve", none);
    struct kl_error err = {0};
    struct fixture_req q;
    struct kl_admit ad;
    struct kl_value now, old = kl_new_struct();
    kl_admit_set set;
    assert_int_equal(kl_admit_select(NULL, NULL, &set, &err), 0);
    assert_int_equal(kl_admit_config_new(NULL, set, &f->srv.admit_config, &err), 0);
    for (size_t i = 0; i < KL_COUNT(pods); i++)
        fixture_put(f, KL_RES_core_v1_pods, pods[i]);
    assert_int_equal(
        kl_json_decode(&f->arena, kl_res(NSS)->type,
                       KL_STR("{\"metadata\":{\"name\":\"n\",\"labels\":{"
                              "\"pod-security.kubernetes.io/enforce\":\"baseline\"}}}"),
                       NULL, &now, &err),
        0);
    fixture_req_init(f, &q, u, KL_VERB_UPDATE, NSS, "", "", "n", "");
    kl_admit_init(&ad, &q.r, KL_ADMIT_UPDATE);
    ad.object = &now;
    ad.old = &old;
    assert_int_equal(kl_plugins[row("PodSecurity")].validate(&ad), 0);
    assert_int_equal(q.r.nwarnings, 2);
    fixture_assert_has(q.r.warnings[0].p, "existing pods in namespace \"n\" violate");
    fixture_assert_has(q.r.warnings[1].p, "a (and 4 other pods): host namespaces");
    fixture_req_fini(&q);
    kl_admit_config_free(f->srv.admit_config);
    kl_user_unref(u);
}

static void test_existing_pods(void **state)
{
    fixture_run(body_existing_pods);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),       cmocka_unit_test(test_answers),
        cmocka_unit_test(test_old_answers), cmocka_unit_test(test_select),
        cmocka_unit_test(test_unreadable),  cmocka_unit_test(test_existing_pods),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
