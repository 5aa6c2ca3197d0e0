// SPDX-License-Identifier: Apache-2.0
// Lines PAIR, tab, object, tab, what k8s.io/kubernetes v1.36.3 converts it to (both JSON).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "object/convert.h"
#include "object/json.h"

#define FILE_MAX (1 << 20)

static const char *cases_path;

static const struct kl_resource *resource(const char *group, const char *version,
                                          const char *plural)
{
    for (uint16_t i = 0; i < kl_nresources; i++) // those that are not served by default as well
        if (!strcmp(kl_resources[i].group, group) && !strcmp(kl_resources[i].version, version) &&
            !strcmp(kl_resources[i].plural, plural))
            return &kl_resources[i];
    fail_msg("no %s", plural);
    return NULL;
}

static const struct {
    const char *name, *from[3], *to[3];
} pairs[] = {
    {"hpa-v2-v1",
     {"autoscaling", "v2", "horizontalpodautoscalers"},
     {"autoscaling", "v1", "horizontalpodautoscalers"}},
    {"hpa-v1-v2",
     {"autoscaling", "v1", "horizontalpodautoscalers"},
     {"autoscaling", "v2", "horizontalpodautoscalers"}},
    {"event-core-events", {"", "v1", "events"}, {"events.k8s.io", "v1", "events"}},
    {"event-events-core", {"events.k8s.io", "v1", "events"}, {"", "v1", "events"}},
    {"claim-v1-v1beta1",
     {"resource.k8s.io", "v1", "resourceclaims"},
     {"resource.k8s.io", "v1beta1", "resourceclaims"}},
    {"claim-v1beta1-v1",
     {"resource.k8s.io", "v1beta1", "resourceclaims"},
     {"resource.k8s.io", "v1", "resourceclaims"}},
    {"template-v1-v1beta1",
     {"resource.k8s.io", "v1", "resourceclaimtemplates"},
     {"resource.k8s.io", "v1beta1", "resourceclaimtemplates"}},
    {"template-v1beta1-v1",
     {"resource.k8s.io", "v1beta1", "resourceclaimtemplates"},
     {"resource.k8s.io", "v1", "resourceclaimtemplates"}},
    {"slice-v1-v1beta1",
     {"resource.k8s.io", "v1", "resourceslices"},
     {"resource.k8s.io", "v1beta1", "resourceslices"}},
    {"slice-v1beta1-v1",
     {"resource.k8s.io", "v1beta1", "resourceslices"},
     {"resource.k8s.io", "v1", "resourceslices"}},
};

static void convert(struct kl_arena *a, const struct kl_resource *from,
                    const struct kl_resource *to, struct kl_str in, struct kl_buf *out)
{
    struct kl_value draft, converted;
    struct kl_error err = {0};
    if (kl_json_decode(a, from->type, in, NULL, &draft, &err) < 0 ||
        kl_convert(a, from, to, &draft, &converted, &err) < 0)
        fail_msg("%s", err.msg);
    struct kl_object *o = kl_object_freeze(to->type, &converted);
    kl_json_encode(out, to->type, &o->root, KL_STR(""));
    kl_object_unref(o);
}

static void check_case(struct kl_str pair, struct kl_str in, struct kl_str want)
{
    for (size_t i = 0; i < KL_COUNT(pairs); i++) {
        if (!kl_str_eqz(pair, pairs[i].name))
            continue;
        const char *const *f = pairs[i].from, *const *t = pairs[i].to;
        const struct kl_resource *from = resource(f[0], f[1], f[2]);
        const struct kl_resource *to = resource(t[0], t[1], t[2]);
        assert_true(kl_convert_needed(from, to));
        struct kl_arena a;
        struct kl_buf out;
        kl_arena_init(&a, 1 << 24);
        kl_buf_init(&out, FILE_MAX);
        convert(&a, from, to, in, &out);
        if (!kl_str_eq(kl_buf_str(&out), want))
            fail_msg("%s of %.*s\n got  %.*s\n want %.*s", pairs[i].name, KL_PRI(in),
                     KL_PRI(kl_buf_str(&out)), KL_PRI(want));
        kl_buf_fini(&out);
        kl_arena_fini(&a);
        return;
    }
    fail_msg("no pair %.*s", KL_PRI(pair));
}

static void test_cases(void **state)
{
    static char text[FILE_MAX];
    FILE *f = fopen(cases_path, "rb");
    if (!f)
        fail_msg("cannot open %s", cases_path);
    struct kl_str rest = {text, fread(text, 1, sizeof(text), f)}, line, pair, in;
    fclose(f);
    size_t n = 0;
    while (kl_str_split(&rest, '\n', &line)) {
        if (line.n == 0)
            continue;
        assert_true(kl_str_split(&line, '\t', &pair) && kl_str_split(&line, '\t', &in));
        check_case(pair, in, line);
        n++;
    }
    assert_true(n >= 30);
}

// A v1 object written by hand may carry annotations that do not parse: they are dropped, as
// upstream does, and the rest converts.
static void test_broken_annotations(void **state)
{
    check_case(KL_STR("hpa-v1-v2"),
               KL_STR("{\"metadata\":{\"name\":\"h\",\"annotations\":{"
                      "\"autoscaling.alpha.kubernetes.io/behavior\":\"[]\","
                      "\"autoscaling.alpha.kubernetes.io/conditions\":\"{\","
                      "\"autoscaling.alpha.kubernetes.io/current-metrics\":\"[1]\","
                      "\"autoscaling.alpha.kubernetes.io/metrics\":"
                      "\"[{\\\"type\\\":\\\"Pods\\\",\\\"pods\\\":"
                      "{\\\"targetAverageValue\\\":\\\"zz\\\"}}]\",\"x\":\"y\"}},"
                      "\"spec\":{\"scaleTargetRef\":{\"kind\":\"D\",\"name\":\"d\"},"
                      "\"maxReplicas\":1,\"targetCPUUtilizationPercentage\":50},\"status\":{"
                      "\"currentReplicas\":0,\"desiredReplicas\":0}}"),
               KL_STR("{\"metadata\":{\"name\":\"h\",\"annotations\":{\"x\":\"y\"}},"
                      "\"spec\":{\"scaleTargetRef\":{\"kind\":\"D\",\"name\":\"d\"},"
                      "\"maxReplicas\":1,\"metrics\":[{\"type\":\"Resource\",\"resource\":"
                      "{\"name\":\"cpu\",\"target\":{\"type\":\"Utilization\","
                      "\"averageUtilization\":50}}}]},\"status\":{\"desiredReplicas\":0,"
                      "\"currentMetrics\":null}}"));
}

static void test_not_needed(void **state)
{
    const struct kl_resource *pods = resource("", "v1", "pods");
    const struct kl_resource *v2 = resource("autoscaling", "v2", "horizontalpodautoscalers");
    const struct kl_resource *v1 = resource("autoscaling", "v1", "horizontalpodautoscalers");
    assert_false(kl_convert_needed(pods, pods));
    assert_false(kl_convert_needed(v2, v2));
    assert_true(kl_convert_needed(v1, v2));
    assert_ptr_equal(kl_resource_storage(v1), v2);
    struct kl_arena a;
    struct kl_buf out;
    kl_arena_init(&a, 1 << 20);
    kl_buf_init(&out, FILE_MAX);
    convert(&a, pods, pods, KL_STR("{\"metadata\":{\"name\":\"p\"}}"), &out);
    assert_true(kl_str_starts(kl_buf_str(&out), KL_STR("{\"metadata\":{\"name\":\"p\"},")));
    kl_buf_fini(&out);
    kl_arena_fini(&a);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_broken_annotations),
        cmocka_unit_test(test_not_needed),
    };
    if (argc != 2)
        return 2;
    cases_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
