// SPDX-License-Identifier: Apache-2.0
// Replays what upstream's type checker says of policies (made by typecheck_vectors): the warnings
// of their status, word for word.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "object/cel/typecheck.h"
#include "object/json.h"

static const char *path;

// The warnings as the vectors have them.
static struct kl_str shown(struct kl_arena *a, const struct kl_value *list, bool typed)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    for (KL_EACH(w, list)) {
        struct kl_str ref = typed ? kl_text(kl_get(w, KL_F_fieldRef))
                                  : kl_text(kl_map_value(w, KL_STR("fieldRef")));
        struct kl_str text =
            typed ? kl_text(kl_get(w, KL_F_warning)) : kl_text(kl_map_value(w, KL_STR("warning")));
        kl_buf_printf(&b, "%.*s\n%.*s\n", KL_PRI(ref), KL_PRI(text));
    }
    struct kl_str s = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

static bool agrees(char *line, int number)
{
    struct kl_arena a;
    struct kl_value v, root = kl_new_map(), policy, got;
    struct kl_error err = {0};
    kl_arena_init(&a, 256 << 20);
    assert_int_equal(kl_json_parse(&a, kl_str(line), NULL, &v, &err), 0);
    assert_int_equal(kl_map_set_value(&a, &root, KL_STR("spec"), *kl_map_value(&v, KL_STR("spec"))),
                     0);
    assert_int_equal(kl_typed_from_untyped(
                         &a, kl_type(KL_TYPE_admissionregistration_v1_ValidatingAdmissionPolicy),
                         &root, NULL, &policy, &err),
                     0);
    assert_int_equal(kl_policy_typecheck(&a, &policy, NULL, 0, 0, &got), 0);
    struct kl_str want = shown(&a, kl_map_value(&v, KL_STR("warnings")), false),
                  is = shown(&a, &got, true);
    bool same = kl_str_eq(want, is);
    if (!same)
        fprintf(stderr, "line %d: %.*s\n--- got\n%.*s\n--- want\n%.*s\n", number,
                (int)strcspn(line, "\n") > 300 ? 300 : (int)strcspn(line, "\n"), line, KL_PRI(is),
                KL_PRI(want));
    kl_arena_fini(&a);
    return same;
}

static void test_vectors(void **state)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    int n = 0, bad = 0;
    assert_non_null(f);
    while (getline(&line, &room, f) > 0)
        bad += !agrees(line, ++n);
    free(line);
    fclose(f);
    assert_true(n > 20);
    assert_int_equal(bad, 0);
}

static const struct kl_value *typed(struct kl_arena *a, uint16_t type, const char *json)
{
    struct kl_value *v = KL_ARENA_NEW(a, struct kl_value);
    struct kl_error err = {0};
    assert_non_null(v);
    if (kl_json_decode(a, kl_type(type), kl_str(json), NULL, v, &err))
        fail_msg("%s", err.msg);
    return v;
}

#define DEFINITION(plural, kind, established, schema)                                              \
    "{\"metadata\":{\"name\":\"" plural ".example.com\"},\"spec\":{\"group\":\"example.com\","     \
    "\"versions\":[{\"name\":\"v1\",\"served\":true" schema "},{\"name\":\"v2\"}]},\"status\":{"   \
    "\"conditions\":[{\"type\":\"Established\",\"status\":\"" established                          \
    "\"}],\"acceptedNames\":{"                                                                     \
    "\"plural\":\"" plural "\",\"kind\":\"" kind "\"}}}"

// What a server publishes of custom kinds; those that are not served are not looked at.
static void test_custom(void **state)
{
    struct kl_arena a;
    struct kl_value got;
    struct kl_str *names;
    size_t n;
    kl_arena_init(&a, 64 << 20);
    const uint16_t crd = KL_TYPE_apiextensions_v1_CustomResourceDefinition;
    const struct kl_value *definitions[] = {
        typed(&a, crd,
              DEFINITION("as", "A", "True",
                         ",\"schema\":{\"openAPIV3Schema\":{\"type\":\"object\",\"properties\":"
                         "{\"metadata\":{\"type\":\"object\"},\"spec\":{\"type\":\"object\","
                         "\"properties\":{\"n\":{\"type\":\"integer\"}}}}}}")),
        typed(&a, crd, DEFINITION("bs", "B", "True", "")),
        typed(&a, crd, DEFINITION("cs", "C", "False", ""))};
    const struct kl_value *policy = typed(
        &a, KL_TYPE_admissionregistration_v1_ValidatingAdmissionPolicy,
        "{\"spec\":{\"matchConstraints\":{\"resourceRules\":[{\"apiGroups\":[\"example.com\",\"\"],"
        "\"apiVersions\":[\"v1\",\"v2\"],\"resources\":[\"as\",\"bs\",\"cs\",\"as/status\"]},"
        "{\"apiGroups\":[\"apps\"],\"apiVersions\":[\"v1\"],\"resources\":[\"deployments\"]},"
        "{\"apiGroups\":[\"*\"],\"apiVersions\":[\"v1\"],\"resources\":[\"ds\"]}]},"
        "\"validations\":[{\"expression\":\"object.metadata.name == object.kind\"},"
        "{\"expression\":\"object.spec.n == 1\"},"
        "{\"expression\":\"object.metadata.labels.x == ''\"}]}}");
    assert_int_equal(kl_policy_customs(&a, policy, &names, &n), 0);
    assert_int_equal(n, 3);
    for (size_t i = 0; i < n; i++)
        assert_true(kl_str_eqz(names[i], (const char *const[]){"as.example.com", "bs.example.com",
                                                               "cs.example.com"}[i]));
    assert_int_equal(kl_policy_typecheck(&a, policy, definitions, KL_COUNT(definitions), 7, &got),
                     0);
    struct kl_str is = shown(&a, &got, true);
    assert_string_equal(is.p,
                        "spec.validations[1].expression\n"
                        "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'n'\n"
                        " | object.spec.n == 1\n | ...........^\n\n"
                        "example.com/v1, Kind=B: ERROR: <input>:1:7: undefined field 'spec'\n"
                        " | object.spec.n == 1\n | ......^\n\n"
                        "spec.validations[2].expression\n"
                        "example.com/v1, Kind=B: ERROR: <input>:1:16: undefined field 'labels'\n"
                        " | object.metadata.labels.x == ''\n | ...............^\n\n");
    kl_arena_fini(&a);
}

static void check_params(const char *api_version, const char *const *want)
{
    struct kl_arena a;
    struct kl_value got;
    struct kl_str group, kind;
    char text[1024];
    kl_arena_init(&a, 64 << 20);
    const struct kl_value *definition =
        typed(&a, KL_TYPE_apiextensions_v1_CustomResourceDefinition,
              DEFINITION("limits", "Limit", "True",
                         ",\"schema\":{\"openAPIV3Schema\":{\"type\":\"object\",\"properties\":"
                         "{\"most\":{\"type\":\"integer\"}}}}"));
    snprintf(text, sizeof text,
             "{\"spec\":{\"paramKind\":{\"apiVersion\":\"%s\",\"kind\":\"Limit\"},"
             "\"matchConstraints\":{\"resourceRules\":[{\"apiGroups\":[\"apps\"],"
             "\"apiVersions\":[\"v1\"],\"resources\":[\"deployments\"]}]},"
             "\"validations\":[{\"expression\":\"object.spec.replicas <= params.most\"},"
             "{\"expression\":\"params.least == 1\"},"
             "{\"expression\":\"params.most == params.metadata.name\"}]}}",
             api_version);
    const struct kl_value *policy =
        typed(&a, KL_TYPE_admissionregistration_v1_ValidatingAdmissionPolicy, text);
    assert_true(kl_policy_param(policy, &group, &kind));
    assert_true(kl_str_eqz(group, "example.com") && kl_str_eqz(kind, "Limit"));
    assert_true(kl_policy_is_param(definition, group, kind));
    assert_false(kl_policy_is_param(definition, group, KL_STR("limits")));
    assert_int_equal(kl_policy_typecheck(&a, policy, &definition, 1, 7, &got), 0);
    assert_string_equal(shown(&a, &got, true).p, *want);
    assert_int_equal(kl_policy_typecheck(&a, policy, NULL, 0, 7, &got), 0);
    assert_int_equal(kl_len(&got), 0); // nobody knows the kind: any field will do
    kl_arena_fini(&a);
}

static void test_custom_params(void **state)
{
    static const char *const found =
        "spec.validations[1].expression\n"
        "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'least'\n"
        " | params.least == 1\n | ......^\n\n"
        "spec.validations[2].expression\n"
        "apps/v1, Kind=Deployment: ERROR: <input>:1:13: found no matching overload for '_==_' "
        "applied to '(int, string)'\n"
        " | params.most == params.metadata.name\n | ............^\n\n";
    static const char *const nothing = "";
    check_params("example.com/v1", &found);
    check_params("example.com/v2", &nothing); // which is not served
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors),
                                       cmocka_unit_test(test_custom),
                                       cmocka_unit_test(test_custom_params)};
    path = argc > 1 ? argv[1] : "typecheck_vectors.txt";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
