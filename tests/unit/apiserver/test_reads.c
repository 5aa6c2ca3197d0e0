// SPDX-License-Identifier: Apache-2.0
// Lists, watches, and the forms that answers come in.
#include "rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define MERGE "content-type: application/merge-patch+json\r\n"
#define TABLE "accept: application/json;as=Table;v=v1;g=meta.k8s.io\r\n"
#define TABLE_V1BETA1 "accept: application/json;as=Table;v=v1beta1;g=meta.k8s.io\r\n"
#define PARTIAL "accept: application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io\r\n"
#define PARTIALS "accept: application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io\r\n"
#define PROTOBUF "accept: application/vnd.kubernetes.protobuf\r\n"

static struct rig rig;

static int set_up(void **state)
{
    (void)state;
    rig_start(&rig, 2);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rig_stop(&rig);
    return 0;
}

#define RUN(rows) rig_rows(&rig, rows, KL_COUNT(rows))

static void test_forms(void **state)
{
    static const struct rig_row rows[] = {
        {"POST", "/api/v1/namespaces", "{\"metadata\":{\"name\":\"f\"}}", 201, {NULL}},
        {"POST",
         "/api/v1/namespaces/f/configmaps",
         "{\"metadata\":{\"name\":\"a\"},\"data\":{}}",
         201,
         {NULL}},
        {"GET",
         "/api/v1/namespaces/f/configmaps/a",
         NULL,
         200,
         {"\"kind\":\"Table\"", "\"columnDefinitions\":[{", "\"cells\":[\"a\",0"},
         TABLE},
        {"GET",
         "/api/v1/namespaces/f/configmaps?includeObject=None",
         NULL,
         200,
         {"\"object\":null"},
         TABLE},
        {"GET",
         "/api/v1/namespaces/f/configmaps/a",
         NULL,
         200,
         {"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{"},
         PARTIAL},
        {"GET",
         "/api/v1/namespaces/f/configmaps",
         NULL,
         200,
         {"{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/v1\",",
          "\"items\":[{"},
         PARTIALS},
        // An object's form for a list, and a list's for an object.
        {"GET",
         "/api/v1/namespaces/f/configmaps",
         NULL,
         406,
         {"\"reason\":\"NotAcceptable\"",
          "you requested PartialObjectMetadata, but the requested object is a list "
          "(*core.ConfigMapList)"},
         PARTIAL},
        {"GET",
         "/api/v1/namespaces/f/configmaps/a",
         NULL,
         406,
         {"you requested PartialObjectMetadataList, but the requested object is not a list "
          "(*core.ConfigMap)"},
         PARTIALS},
        {"GET",
         "/apis/rbac.authorization.k8s.io/v1/clusterroles",
         NULL,
         406,
         {"(*rbac.ClusterRoleList)"},
         PARTIAL},
        {"GET",
         "/api/v1/namespaces/f/configmaps/a",
         NULL,
         200,
         {"content-type: application/vnd.kubernetes.protobuf", "k8s"},
         PROTOBUF},
        {"GET",
         "/api/v1/namespaces/f/configmaps",
         NULL,
         200,
         {"content-type: application/vnd.kubernetes.protobuf", "k8s"},
         PROTOBUF},
        {"GET",
         "/api/v1/namespaces/f/configmaps",
         NULL,
         200,
         {"kind: ConfigMapList", "name: a", "application/yaml"},
         "accept: application/yaml\r\n"},
        {"GET",
         "/api/v1/namespaces/f/configmaps/a?pretty=true",
         NULL,
         200,
         {"{\n  \"kind\": \"ConfigMap\",\n"}},
        {"GET",
         "/api/v1/namespaces/f/configmaps?pretty=1",
         NULL,
         200,
         {"{\n  \"kind\": \"ConfigMapList\",\n"}},
        {"HEAD", "/api/v1/namespaces/f/configmaps/a", NULL, 405, {"!ConfigMap"}},
        // One kind in two versions and two groups.
        {"POST",
         "/apis/autoscaling/v1/namespaces/f/horizontalpodautoscalers",
         "{\"metadata\":{\"name\":\"h\"},\"spec\":{\"maxReplicas\":3,"
         "\"targetCPUUtilizationPercentage\":50,\"scaleTargetRef\":{\"apiVersion\":\"apps/"
         "v1\",\"kind\":\"Deployment\","
         "\"name\":"
         "\"d\"}}}",
         201,
         {"\"apiVersion\":\"autoscaling/v1\"", "targetCPUUtilizationPercentage"}},
        {"GET",
         "/apis/autoscaling/v2/namespaces/f/horizontalpodautoscalers",
         NULL,
         200,
         {"\"apiVersion\":\"autoscaling/v2\"", "\"averageUtilization\":50"}},
        {"PATCH",
         "/apis/autoscaling/v1/namespaces/f/horizontalpodautoscalers/h",
         "{\"spec\":{\"maxReplicas\":4}}",
         200,
         {"\"maxReplicas\":4", "\"targetCPUUtilizationPercentage\":50"},
         MERGE},
        {"POST",
         "/apis/events.k8s.io/v1/namespaces/f/events",
         "{\"metadata\":{\"name\":\"e\"},\"eventTime\":\"2026-01-01T00:00:00.000000Z\","
         "\"reportingController\":\"c\",\"reportingInstance\":\"i\",\"action\":\"a\",\"reason\":"
         "\"r\","
         "\"type\":\"Normal\",\"note\":\"text\",\"regarding\":{\"namespace\":\"f\"}}",
         201,
         {"\"note\":\"text\""}},
        {"GET",
         "/api/v1/namespaces/f/events/e",
         NULL,
         200,
         {"\"message\":\"text\"", "\"involvedObject\":{"}},
        {"PATCH",
         "/apis/events.k8s.io/v1/namespaces/f/events/e",
         "{\"series\":{\"count\":2,"
         "\"lastObservedTime\":\"2026-01-01T00:00:01.000000Z\"}}",
         200,
         {"\"count\":2"},
         MERGE},
    };
    (void)state;
    RUN(rows);
}

static void test_lists(void **state)
{
    static const struct rig_row rows[] = {
        {"POST", "/api/v1/namespaces", "{\"metadata\":{\"name\":\"la\"}}", 201, {NULL}},
        {"POST", "/api/v1/namespaces", "{\"metadata\":{\"name\":\"lb\"}}", 201, {NULL}},
        {"POST",
         "/api/v1/namespaces/la/secrets",
         "{\"metadata\":{\"name\":\"hidden\"}}",
         201,
         {NULL}},
        {"POST", "/api/v1/namespaces/lb/secrets", "{\"metadata\":{\"name\":\"one\"}}", 201, {NULL}},
        {"POST",
         "/api/v1/namespaces/lb/secrets",
         "{\"metadata\":{\"name\":\"two\"}}",
         201,
         {NULL},
         NULL,
         "resourceVersion"},
        {"POST", "/api/v1/namespaces/lb/secrets", "{\"metadata\":{\"name\":\"zzz\"}}", 201, {NULL}},
        {"GET",
         "/api/v1/namespaces/lb/secrets?resourceVersion=$1&resourceVersionMatch=Exact",
         NULL,
         200,
         {"\"resourceVersion\":\"$1\"", "\"name\":\"two\"", "!zzz"}},
        {"GET", "/api/v1/namespaces/lb/secrets?resourceVersion=$1", NULL, 200, {"zzz"}},
        {"GET",
         "/api/v1/namespaces/lb/secrets?resourceVersion=99999999",
         NULL,
         504,
         {"\"Timeout: Too large resource version: 99999999, current: ", "ResourceVersionTooLarge"}},
        {"GET",
         "/api/v1/namespaces/lb/secrets/one?resourceVersion=18446744073709551615",
         NULL,
         504,
         {"\"Timeout: Too large resource version: 18446744073709551615, current: ",
          "\"retryAfterSeconds\":1"}},
        {"GET", "/api/v1/namespaces/lb/secrets/one?resourceVersion=$1", NULL, 200, {"\"one\""}},
        {"GET",
         "/api/v1/namespaces/lb/secrets?resourceVersion=0&limit=1",
         NULL,
         200,
         {"\"one\"", "\"two\"", "\"zzz\"", "!continue", "!remainingItemCount"}},
        {"GET",
         "/api/v1/namespaces/lb/secrets?resourceVersion=$1&resourceVersionMatch=Exact&limit=1",
         NULL,
         200,
         {"\"one\"", "!\"two\"", "\"remainingItemCount\":1"}},
        {"GET",
         "/api/v1/namespaces/lb/secrets?fieldSelector=metadata.name%21%3Dtwo&limit=2",
         NULL,
         200,
         {"\"one\"", "\"zzz\"", "!continue"}},
        {"GET",
         "/api/v1/namespaces/lb/secrets?fieldSelector=metadata.name%21%3Dzzz&limit=2",
         NULL,
         200,
         {"\"one\"", "\"two\"", "\"continue\"", "!remainingItemCount"}},
        {"GET",
         "/api/v1/namespaces/lb/secrets/one?export=1",
         NULL,
         400,
         {"the export parameter, deprecated since v1.14, is no longer supported"}},
        {"GET", "/api/v1/namespaces/lb/secrets/one?export=0", NULL, 200, {"\"one\""}},
        {"GET",
         "/api/v1/namespaces/lb/secrets?continue=x&resourceVersionMatch=Exact",
         NULL,
         422,
         {"forbidden unless resourceVersion is provided, resourceVersionMatch: Forbidden: "
          "resourceVersionMatch is forbidden when continue is provided"}},
        {"GET",
         "/api/v1/namespaces/lb/secrets?resourceVersion=x",
         NULL,
         400,
         {"resourceVersion: Invalid value: \\\"x\\\": strconv.ParseUint"}},
        {"GET",
         "/api/v1/namespaces/lb/secrets?resourceVersionMatch=Exact",
         NULL,
         422,
         {"resourceVersionMatch is forbidden unless resourceVersion is provided"}},
        {"GET",
         "/api/v1/namespaces/lb/secrets?limit=1",
         NULL,
         200,
         {"\"one\"", "!\"two\"", "\"remainingItemCount\":2"},
         NULL,
         "continue"},
        {"GET",
         "/api/v1/namespaces/lb/secrets?limit=1&continue=$1",
         NULL,
         200,
         {"\"two\"", "!\"one\"", "\"remainingItemCount\":1"},
         NULL,
         "continue"},
        {"GET",
         "/api/v1/namespaces/lb/secrets?continue=$1",
         NULL,
         200,
         {"\"zzz\"", "!\"two\"", "!\"continue\""}},
        {"GET",
         "/api/v1/namespaces/lb/secrets?continue=$1&resourceVersion=5",
         NULL,
         400,
         {"specifying resource version is not allowed when using continue"}},
        // {"v":"meta.k8s.io/v1","rv":-1,"start":"../la/"}: never another namespace
        {"GET",
         "/api/v1/namespaces/lb/secrets?continue="
         "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiLi4vbGEvIn0",
         NULL,
         400,
         {"continue key is not valid", "!hidden"}},
        // {"v":"meta.k8s.io/v1","rv":-1,"start":"la/"}
        {"GET",
         "/api/v1/namespaces/lb/secrets?continue="
         "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoibGEvIn0",
         NULL,
         400,
         {"continue key is not valid", "!hidden"}},
        // {"v":"meta.k8s.io/v1","rv":-1,"start":"a"}
        {"GET",
         "/api/v1/namespaces/lb/secrets?continue="
         "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiYSJ9",
         NULL,
         200,
         {"\"one\"", "!hidden"}},
        {"GET",
         "/api/v1/namespaces/lb/secrets?continue=%21%21%21",
         NULL,
         400,
         {"continue key is not valid"}},
        {"GET",
         "/api/v1/secrets?fieldSelector=metadata.name%3Dhidden",
         NULL,
         200,
         {"\"hidden\"", "!\"one\""}},
        {"GET",
         "/api/v1/secrets?fieldSelector=spec.x%3Dy",
         NULL,
         400,
         {"field label not supported: spec.x"}},
        {"GET", "/api/v1/secrets?labelSelector=%3D%3D", NULL, 400, {"expected: !, identifier"}},
    };
    (void)state;
    RUN(rows);
}

static void test_watches(void **state)
{
    static const struct rig_row rows[] = {
        {"POST",
         "/api/v1/namespaces",
         "{\"metadata\":{\"name\":\"w\"}}",
         201,
         {NULL},
         NULL,
         "resourceVersion"},
        {"POST",
         "/api/v1/namespaces/w/configmaps",
         "{\"metadata\":{\"name\":\"a\",\"labels\":{\"x\":\"1\"}}}",
         201,
         {NULL}},
        {"PATCH",
         "/api/v1/namespaces/w/configmaps/a",
         "{\"metadata\":{\"labels\":null}}",
         200,
         {NULL},
         MERGE},
        {"POST", "/api/v1/namespaces/w/configmaps", "{\"metadata\":{\"name\":\"b\"}}", 201, {NULL}},
        {"DELETE", "/api/v1/namespaces/w/configmaps/b", NULL, 200, {NULL}},
        {"GET",
         "/api/v1/namespaces/w/configmaps?watch=1&resourceVersion=$1&timeoutSeconds=1",
         NULL,
         200,
         {"{\"type\":\"ADDED\",\"object\":{\"kind\":\"ConfigMap\"", "{\"type\":\"MODIFIED\"",
          "{\"type\":\"DELETED\"", "!ERROR"}},
        // One that leaves the selector is DELETED for it.
        {"GET",
         "/api/v1/namespaces/w/configmaps?watch=1&resourceVersion=$1&timeoutSeconds=1&"
         "labelSelector=x",
         NULL,
         200,
         {"ADDED", "DELETED", "!MODIFIED", "!\"name\":\"b\""}},
        {"GET",
         "/api/v1/namespaces/w/configmaps?watch=1&timeoutSeconds=1&sendInitialEvents=true&"
         "allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan",
         NULL,
         200,
         {"\"name\":\"a\"", "BOOKMARK", "\"k8s.io/initial-events-end\":\"true\"",
          "!\"name\":\"b\""}},
        {"GET",
         "/api/v1/namespaces/w/configmaps?watch=1&timeoutSeconds=1&sendInitialEvents=true",
         NULL,
         422,
         {"sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"}},
        {"GET",
         "/api/v1/namespaces/w/configmaps?watch=1&timeoutSeconds=1",
         NULL,
         200,
         {"\"kind\":\"Table\"", "\"columnDefinitions\":[", "\"cells\":[\"a\""},
         TABLE},
        // A bookmark is a row as every other is: of an object that has nothing but a revision.
        {"GET",
         "/api/v1/namespaces/w/configmaps?watch=1&timeoutSeconds=1&sendInitialEvents=true&"
         "allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&includeObject=None&"
         "fieldSelector=metadata.name%3Dnone",
         NULL,
         200,
         {"{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"Table\",\"apiVersion\":"
          "\"meta.k8s.io/v1beta1\"",
          "\"columnDefinitions\":[{", "\"rows\":[{\"cells\":[\"\",0,\"\\u003cunknown\\u003e\"]",
          "\"object\":{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1beta1\"",
          "\"k8s.io/initial-events-end\":\"true\""},
         TABLE_V1BETA1},
        {"GET",
         "/api/v1/namespaces/w/configmaps?watch=1&timeoutSeconds=1",
         NULL,
         200,
         {"PartialObjectMetadata\"", "!\"data\""},
         PARTIAL},
        {"GET",
         "/api/v1/watch/namespaces/w/configmaps/a?timeoutSeconds=1",
         NULL,
         200,
         {"\"name\":\"a\""}},
        {"GET",
         "/api/v1/namespaces/w/configmaps?watch=1&timeoutSeconds=1",
         NULL,
         200,
         {"application/vnd.kubernetes.protobuf;stream=watch"},
         PROTOBUF},
        {"GET",
         "/api/v1/namespaces/w/configmaps?watch=1&resourceVersion=x",
         NULL,
         500,
         {"resourceVersion: Invalid value: \\\"x\\\": strconv.ParseUint"}},
    };
    (void)state;
    RUN(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms), cmocka_unit_test(test_lists),
                                       cmocka_unit_test(test_watches)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
