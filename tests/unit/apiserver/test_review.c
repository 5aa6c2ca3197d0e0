// SPDX-License-Identifier: Apache-2.0
// Access reviews, token reviews, who am I.
#include "fixture.h"
#include "apiserver/auth/authz_int.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static const char *review(struct fixture *f, struct kl_user *u, uint16_t res, const char *ns,
                          const char *body)
{
    struct fixture_req q;
    fixture_req_init(f, &q, u, KL_VERB_CREATE, res, "", ns, "", body);
    kl_review_run(&q.r);
    if (q.r.result != KL_RESULT_FAIL)
        assert_int_equal(q.r.http, 201);
    const char *s = fixture_req_json(f, &q);
    fixture_req_fini(&q);
    return s;
}

#define SAR KL_RES_authorization_v1_subjectaccessreviews
#define GET_PODS                                                                                   \
    "\"resourceAttributes\":{\"verb\":\"get\",\"resource\":\"pods\",\"namespace\":\"ns1\"}"

static void body_access(struct fixture *f)
{
    struct kl_user *jane = fixture_user("jane", NULL);
    fixture_put(
        f, KL_RES_rbac_v1_clusterroles,
        "{\"metadata\":{\"name\":\"reader\"},\"rules\":[{\"apiGroups\":[\"\"],\"resources\":["
        "\"pods\"],\"verbs\":[\"get\"]}]}");
    fixture_put(f, KL_RES_rbac_v1_rolebindings,
                "{\"metadata\":{\"name\":\"b\",\"namespace\":\"ns1\"},\"roleRef\":{\"apiGroup\":"
                "\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"reader\"},"
                "\"subjects\":[{\"kind\":\"User\",\"apiGroup\":\"rbac.authorization.k8s.io\","
                "\"name\":\"jane\"}]}");
    fixture_assert_has(
        review(f, jane, KL_RES_authorization_v1_selfsubjectaccessreviews, "",
               "{\"spec\":{" GET_PODS "}}"),
        "\"status\":{\"allowed\":true,\"reason\":\"RBAC: allowed by RoleBinding \\\"b/ns1\\\" of "
        "ClusterRole \\\"reader\\\" to User \\\"jane\\\"\"}");
    fixture_assert_has(review(f, jane, SAR, "", "{\"spec\":{\"user\":\"joe\"," GET_PODS "}}"),
                       "\"status\":{\"allowed\":false}");
    fixture_assert_has(review(f, jane, SAR, "", "{\"spec\":{\"user\":\"jane\"," GET_PODS "}}"),
                       "\"allowed\":true");
    fixture_assert_has(
        review(f, jane, SAR, "",
               "{\"spec\":{\"groups\":[\"system:masters\"],\"nonResourceAttributes\":{\"path\":"
               "\"/x\",\"verb\":\"get\"}}}"),
        "\"allowed\":true");
    assert_string_equal(
        review(f, jane, SAR, "", "{\"spec\":{\"user\":\"joe\"}}"),
        "422 Invalid: .authorization.k8s.io \"\" is invalid: spec.resourceAttributes: "
        "Invalid value: null: exactly one of nonResourceAttributes or "
        "resourceAttributes must be specified");
    assert_string_equal(review(f, jane, SAR, "", "{\"spec\":{" GET_PODS "}}"),
                        "422 Invalid: .authorization.k8s.io \"\" is invalid: spec.user: Invalid "
                        "value: \"\": at least one of user or group must be specified");
    fixture_assert_has(review(f, jane, KL_RES_authorization_v1_localsubjectaccessreviews, "ns2",
                              "{\"spec\":{\"user\":\"joe\"," GET_PODS "}}"),
                       "spec.resourceAttributes.namespace: Invalid value: \"ns1\": must match "
                       "metadata.namespace");
    const char *rules = review(f, jane, KL_RES_authorization_v1_selfsubjectrulesreviews, "",
                               "{\"spec\":{\"namespace\":\"ns1\"}}");
    fixture_assert_has(
        rules, "\"resourceRules\":[{\"verbs\":[\"get\"],\"apiGroups\":[\"\"],\"resources\":["
               "\"pods\"]}]");
    fixture_assert_has(rules, "\"incomplete\":false");
    assert_string_equal(review(f, jane, KL_RES_authorization_v1_selfsubjectrulesreviews, "", "{}"),
                        "400 BadRequest: no namespace on request");
    kl_user_unref(jane);
}

static void body_identity(struct fixture *f)
{
    struct kl_str id = KL_STR("JTI=1");
    struct kl_user_extra extra = {KL_STR("authentication.kubernetes.io/credential-id"), &id, 1};
    struct kl_user *jane = kl_user_new(KL_STR("jane"), KL_STR("u"), NULL, 0, &extra, 1);
    fixture_assert_has(
        review(f, jane, KL_RES_authentication_v1_selfsubjectreviews, "", "{}"),
        "\"status\":{\"userInfo\":{\"username\":\"jane\",\"uid\":\"u\",\"groups\":["
        "\"system:authenticated\"],\"extra\":{\"authentication.kubernetes.io/credential-id\":["
        "\"JTI=1\"]}}}");
    const uint16_t tr = KL_RES_authentication_v1_tokenreviews;
    assert_string_equal(review(f, jane, tr, "", "{}"),
                        "400 BadRequest: token is required for TokenReview in authentication");
    const char *bad = review(f, jane, tr, "", "{\"spec\":{\"token\":\"x\"}}");
    fixture_assert_has(bad, "\"error\":\"invalid bearer token\"");
    assert_null(strstr(bad, "\"authenticated\":true"));

    fixture_put(f, KL_RES_core_v1_serviceaccounts,
                "{\"metadata\":{\"name\":\"robot\",\"namespace\":\"ns1\",\"uid\":\"u-robot\"}}");
    struct fixture_req q;
    fixture_req_init(f, &q, jane, KL_VERB_CREATE, KL_RES_core_v1_serviceaccounts, "token", "ns1",
                     "robot", "{\"spec\":{\"audiences\":[\"vault\",\"x\"]}}");
    kl_token_request_run(&q.r);
    const char *made = fixture_req_json(f, &q);
    fixture_req_fini(&q);
    const char *at = strstr(made, "\"token\":\"");
    assert_non_null(at);
    struct kl_str token = {at + 9, strcspn(at + 9, "\"")};
    const char *good = review(
        f, jane, tr, "",
        kl_arena_printf(&f->arena, "{\"spec\":{\"token\":\"%.*s\",\"audiences\":[\"vault\"]}}",
                        KL_PRI(token))
            .p);
    fixture_assert_has(good, "\"status\":{\"authenticated\":true,\"user\":{\"username\":"
                             "\"system:serviceaccount:ns1:robot\",\"uid\":\"u-robot\",\"groups\":["
                             "\"system:serviceaccounts\",\"system:serviceaccounts:ns1\","
                             "\"system:authenticated\"]");
    fixture_assert_has(good, "\"audiences\":[\"vault\"]");
    // Not for this server itself.
    fixture_assert_has(
        review(f, jane, tr, "",
               kl_arena_printf(&f->arena, "{\"spec\":{\"token\":\"%.*s\"}}", KL_PRI(token)).p),
        "\"error\":\"[invalid bearer token, token audiences [\\\"vault\\\" \\\"x\\\"] is invalid "
        "for the target audiences ");
    kl_user_unref(jane);
}

#define ON_LOOP(name)                                                                              \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        fixture_run(body_##name);                                                                  \
    }
ON_LOOP(access)
ON_LOOP(identity)

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_access),
                                       cmocka_unit_test(test_identity)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
