// SPDX-License-Identifier: Apache-2.0
// Fields behind feature gates that are off at this version are dropped on write.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "object/defaults.h"
#include "object/gates.h"
#include "object/json.h"

static struct kl_arena arena;
static const struct kl_gate_set *gates; // of check()

static int setup(void **state)
{
    kl_arena_init(&arena, 1 << 24);
    return 0;
}

static int teardown(void **state)
{
    kl_arena_fini(&arena);
    return 0;
}

static struct kl_value decode(enum kl_type_index type, const char *json)
{
    struct kl_value v;
    struct kl_error err = {0};
    if (kl_json_decode(&arena, kl_type(type), kl_str(json), NULL, &v, &err) < 0)
        fail_msg("%s", err.msg);
    return v;
}

// What stays of `json` when it replaces `old` (NULL: on create) is `want`.
static void check(enum kl_type_index type, const char *json, const char *old, const char *want)
{
    struct kl_value draft = decode(type, json), expected = decode(type, want), before;
    if (old)
        before = decode(type, old);
    kl_drop_gated(&arena, kl_type(type), &draft, old ? &before : NULL, gates);
    struct kl_object *got = kl_object_freeze(kl_type(type), &draft);
    struct kl_object *exp = kl_object_freeze(kl_type(type), &expected);
    struct kl_buf out;
    kl_buf_init(&out, 1 << 20);
    kl_json_encode(&out, kl_type(type), &got->root, KL_STR(""));
    if (!kl_value_equal(&got->root, &exp->root))
        fail_msg("got %.*s\nwant %s", KL_PRI(kl_buf_str(&out)), want);
    kl_buf_fini(&out);
    kl_object_unref(got);
    kl_object_unref(exp);
}

#define LEASE(extra) "{\"spec\":{\"holderIdentity\":\"a\"" extra "}}"
#define STATEFUL(extra)                                                                            \
    "{\"spec\":{\"updateStrategy\":{\"type\":\"RollingUpdate\",\"rollingUpdate\":{\"partition\":"  \
    "1" extra "}}}}"
#define POD(extra, source)                                                                         \
    "{\"spec\":{\"hostname\":\"h\"" extra ",\"volumes\":[{\"name\":\"v\",\"projected\":"           \
    "{\"sources\":[{\"configMap\":{\"name\":\"c\"}" source "}]}}]}}"
#define BUNDLE ",\"clusterTrustBundle\":{\"path\":\"p\"}"

static void test_off(void **state)
{
    check(KL_TYPE_coordination_v1_Lease, LEASE(",\"strategy\":\"s\",\"preferredHolder\":\"b\""),
          NULL, LEASE(""));
    check(KL_TYPE_apps_v1_StatefulSet, STATEFUL(",\"maxUnavailable\":2"), NULL, STATEFUL(""));
    check(KL_TYPE_core_v1_Pod, POD("", BUNDLE), NULL, POD("", ""));
}

static void test_on(void **state)
{
    check(KL_TYPE_core_v1_Pod, POD(",\"hostnameOverride\":\"o\"", ""), NULL,
          POD(",\"hostnameOverride\":\"o\"", ""));
}

static void test_in_use(void **state)
{
    check(KL_TYPE_coordination_v1_Lease, LEASE(",\"strategy\":\"new\""),
          LEASE(",\"strategy\":\"old\""), LEASE(",\"strategy\":\"new\""));
    check(KL_TYPE_coordination_v1_Lease, LEASE(",\"strategy\":\"new\",\"preferredHolder\":\"b\""),
          LEASE(",\"strategy\":\"old\""), LEASE(",\"strategy\":\"new\""));
    check(KL_TYPE_core_v1_Pod, POD("", BUNDLE), POD("", BUNDLE), POD("", BUNDLE));
    check(KL_TYPE_core_v1_Pod, POD("", BUNDLE), POD("", ""), POD("", ""));
}

// --feature-gates switches fields both ways.
static void test_switched(void **state)
{
    struct kl_gate_set set;
    struct kl_error err = {0};
    const char *const list[] = {"CoordinatedLeaderElection=true", "kube:HostnameOverride=false",
                                NULL};
    kl_gate_set_default(&set);
    assert_false(set.changed);
    assert_false(kl_gate_named_on(&set, "CoordinatedLeaderElection"));
    if (kl_gate_set_parse(&set, list, &err))
        fail_msg("%s", err.msg);
    assert_true(set.changed);
    assert_true(kl_gate_named_on(&set, "CoordinatedLeaderElection"));
    gates = &set;
    check(KL_TYPE_coordination_v1_Lease, LEASE(",\"strategy\":\"s\""), NULL,
          LEASE(",\"strategy\":\"s\""));
    check(KL_TYPE_core_v1_Pod, POD(",\"hostnameOverride\":\"o\"", BUNDLE), NULL, POD("", ""));
    // In use, a field of a gate that was switched off stays too.
    check(KL_TYPE_core_v1_Pod, POD(",\"hostnameOverride\":\"o\"", ""),
          POD(",\"hostnameOverride\":\"o\"", ""), POD(",\"hostnameOverride\":\"o\"", ""));
    gates = NULL;
}

static void test_stages(void **state)
{
    struct kl_gate_set set;
    struct kl_error err = {0};
    const char *const list[] = {"APIServingWithRoutine=false", "AllAlpha=true", NULL};
    const char *const beta[] = {"AllBeta=false", NULL};
    kl_gate_set_default(&set);
    if (kl_gate_set_parse(&set, list, &err))
        fail_msg("%s", err.msg);
    assert_false(kl_gate_named_on(&set, "APIServingWithRoutine"));
    assert_true(kl_gate_named_on(&set, "AllowUnsafeMalformedObjectDeletion"));
    kl_gate_set_default(&set);
    if (kl_gate_set_parse(&set, beta, &err))
        fail_msg("%s", err.msg);
    assert_false(kl_gate_named_on(&set, "HostnameOverride"));
    assert_true(kl_gate_named_on(&set, "APIServerTracing")); // GA
}

// Answers of kube-apiserver 1.36.3 --feature-gates=...
static void test_refused(void **state)
{
    static const char *const cases[][2] = {
        {"Foo=true", "unrecognized feature gate: Foo"},
        {"x", "missing bool value for x"},
        {"x=y", "invalid value of x=y, err: strconv.ParseBool: parsing \"y\": invalid syntax"},
        {"AllAlpha=x",
         "invalid value of AllAlpha=x, err: strconv.ParseBool: parsing \"x\": invalid syntax"},
        {"APIServerTracing=false",
         "cannot set feature gate APIServerTracing to false, feature is locked to true"},
        {"foo:Bar=true", "component not registered: foo"},
        {"WorkloadAwarePreemption=true",
         "WorkloadAwarePreemption is enabled, but depends on features that are disabled: "
         "[GangScheduling]"},
        {"NodeDeclaredFeatures=false,AllBeta=false,InPlacePodLevelResourcesVerticalScaling=true",
         "InPlacePodLevelResourcesVerticalScaling is enabled, but depends on features that are "
         "disabled: [NodeDeclaredFeatures PodLevelResources]"},
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_gate_set set;
        struct kl_error err = {0};
        char text[128];
        const char *list[8] = {NULL};
        size_t n = 0;
        snprintf(text, sizeof text, "%s", cases[i][0]);
        for (char *p = text; p; p = strchr(p, ',')) {
            if (*p == ',')
                *p++ = 0;
            list[n++] = p;
        }
        kl_gate_set_default(&set);
        assert_int_equal(kl_gate_set_parse(&set, list, &err), KL_EINVALID);
        assert_string_equal(err.msg, cases[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_off),      cmocka_unit_test(test_on),
        cmocka_unit_test(test_switched), cmocka_unit_test(test_stages),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_in_use),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
