// SPDX-License-Identifier: Apache-2.0
// What writes answer, request by request: the words and codes are kube-apiserver's.
#include "rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define NS "/api/v1/namespaces/default"
#define CM NS "/configmaps"
#define MERGE "content-type: application/merge-patch+json\r\n"
#define JSON_PATCH "content-type: application/json-patch+json\r\n"
#define STRATEGIC "content-type: application/strategic-merge-patch+json\r\n"
#define YAML_BODY "content-type: application/yaml\r\n"

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

static void test_paths(void **state)
{
    static const struct rig_row rows[] = {
        {"GET", "/api/v1/nothings", NULL, 404, {"could not find the requested resource"}},
        {"GET", "/api/v1/configmaps/x", NULL, 404, {"could not find"}},
        {"GET", NS "/nodes", NULL, 404, {"could not find"}},
        {"DELETE", "/api/v1/configmaps", NULL, 405, {"MethodNotAllowed"}},
        {"POST", CM "/x", "{}", 405, {"MethodNotAllowed"}},
        {"GET",
         CM "/no",
         NULL,
         404,
         {"configmaps \\\"no\\\" not found", "\"kind\":\"configmaps\""}},
        // An escaped slash cuts the path as a plain one does; dots never leave the place in the
        // key.
        {"GET", NS "/configmaps%2Fno", NULL, 404, {"configmaps \\\"no\\\" not found"}},
        {"GET", CM "/..", NULL, 400, {"Name parameter invalid: \\\"..\\\": may not be '..'"}},
        {"GET", "/api/v1/namespaces/../configmaps", NULL, 400, {"Namespace parameter invalid"}},
        {"GET", CM "/a%25b", NULL, 400, {"may not contain '%'"}},
        {"GET", CM "?watch=false&limit=x", NULL, 400, {"BadRequest"}},
        {"GET", CM, NULL, 406, {"NotAcceptable"}, "accept: text/html\r\n"},
    };
    (void)state;
    RUN(rows);
}

static void test_create(void **state)
{
    static const struct rig_row rows[] = {
        {"POST",
         CM,
         "{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":\"v\"}}",
         201,
         {"\"namespace\":\"default\"", "\"uid\":\"", "\"creationTimestamp\":\"",
          "\"data\":{\"k\":", "!generation"}},
        {"POST",
         CM,
         "{\"metadata\":{\"name\":\"a\"}}",
         409,
         {"configmaps \\\"a\\\" already exists", "AlreadyExists"}},
        {"POST", CM, "{\"metadata\":{\"generateName\":\"g-\"}}", 201, {"\"name\":\"g-"}},
        {"POST",
         CM,
         "{\"metadata\":{}}",
         422,
         {"ConfigMap \\\"\\\" is invalid: metadata.name: Required value: name or generateName is "
          "required"}},
        {"POST", CM, "{\"metadata\":{\"name\":\"A\"}}", 422, {"a lowercase RFC 1123 subdomain"}},
        {"POST",
         CM,
         "{\"metadata\":{\"name\":\"b\",\"namespace\":\"other\"}}",
         400,
         {"the namespace of the provided object does not match the namespace sent on the request"}},
        {"POST",
         CM,
         "{\"metadata\":{\"name\":\"b\",\"resourceVersion\":\"5\"}}",
         500,
         {"resourceVersion should not be set on objects to be created"}},
        {"POST",
         "/api/v1/namespaces/none/configmaps",
         "{\"metadata\":{\"name\":\"b\"}}",
         404,
         {"namespaces \\\"none\\\" not found"}},
        {"POST",
         CM,
         "{\"kind\":\"Secret\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"b\"}}",
         400,
         {"Secret in version", "cannot be handled as a ConfigMap"}},
        {"POST",
         CM,
         "{\"apiVersion\":\"v2\",\"metadata\":{\"name\":\"b\"}}",
         400,
         {"the API version in the data (v2) does not match the expected API version (v1)"}},
        {"POST", CM, "{", 400, {"BadRequest"}},
        {"POST",
         CM,
         "{\"metadata\":{\"name\":\"w\"},\"foo\":1}",
         201,
         {"warning: 299 - \"unknown field \\\"foo\\\"\""}},
        {"POST",
         CM "?fieldValidation=Strict",
         "{\"metadata\":{\"name\":\"s\"},\"foo\":1}",
         400,
         {"strict decoding error: unknown field \\\"foo\\\""}},
        {"POST",
         CM "?fieldValidation=Ignore",
         "{\"metadata\":{\"name\":\"s\"},\"foo\":1}",
         201,
         {"!Warning:"}},
        {"POST",
         CM "?dryRun=All",
         "{\"metadata\":{\"name\":\"dry\"}}",
         201,
         {"\"name\":\"dry\"", "!resourceVersion"}},
        {"GET", CM "/dry", NULL, 404, {"not found"}},
        {"POST", CM "?dryRun=Some", "{\"metadata\":{\"name\":\"dry\"}}", 422, {"dryRun"}},
        {"POST", CM, "metadata: {name: yml}\ndata: {k: \"1\"}\n", 201, {"\"k\":\"1\""}, YAML_BODY},
        {"POST", CM, "<x/>", 415, {"UnsupportedMediaType"}, "content-type: text/xml\r\n"},
        {"POST",
         "/api/v1/namespaces",
         "{\"metadata\":{\"name\":\"n1\",\"namespace\":\"x\"}}",
         201,
         {"\"finalizers\":[\"kubernetes\"]", "\"phase\":\"Active\"", "!\"namespace\":"}},
        {"POST",
         NS "/secrets",
         "{\"metadata\":{\"name\":\"s\"},\"stringData\":{\"k\":\"v\"}}",
         201,
         {"\"data\":{\"k\":\"dg==\"}", "\"type\":\"Opaque\"", "!stringData"}},
    };
    (void)state;
    RUN(rows);
}

static void test_update(void **state)
{
    static const struct rig_row rows[] = {
        {"POST",
         CM,
         "{\"metadata\":{\"name\":\"u\"},\"data\":{\"k\":\"1\"}}",
         201,
         {NULL},
         NULL,
         "resourceVersion"},
        {"PUT",
         CM "/u",
         "{\"metadata\":{\"name\":\"u\",\"resourceVersion\":\"$1\"}}",
         200,
         {"!\"data\"", "!\"resourceVersion\":\"$1\""}},
        {"PUT",
         CM "/u",
         "{\"metadata\":{\"name\":\"u\",\"resourceVersion\":\"$1\"}}",
         409,
         {"Operation cannot be fulfilled on configmaps \\\"u\\\": the object has been modified"}},
        {"PUT",
         CM "/u",
         "{\"metadata\":{\"name\":\"u\"},\"data\":{\"k\":\"2\"}}",
         200,
         {"\"k\":\"2\""},
         NULL,
         "resourceVersion"},
        {"PUT",
         CM "/u",
         "{\"metadata\":{\"name\":\"u\"},\"data\":{\"k\":\"2\"}}",
         200,
         {"\"resourceVersion\":\"$1\""}}, // nothing changed: nothing written
        {"PUT",
         CM "/u?dryRun=All",
         "{\"metadata\":{\"name\":\"u\"},\"data\":{\"k\":\"3\"}}",
         200,
         {"\"k\":\"3\"", "\"resourceVersion\":\"$1\""}},
        {"GET", CM "/u", NULL, 200, {"\"k\":\"2\""}},
        {"PUT",
         CM "/u",
         "{\"metadata\":{\"name\":\"v\"}}",
         400,
         {"the name of the object (v) does not match the name on the URL (u)"}},
        {"PUT", CM "/u", "{\"metadata\":{}}", 400, {"name must be provided"}},
        {"PUT", CM "/none", "{\"metadata\":{\"name\":\"none\"}}", 404, {"not found"}},
        {"PUT",
         CM "/u",
         "{\"metadata\":{\"name\":\"u\",\"uid\":\"x\"}}",
         409,
         {"Precondition failed: UID in precondition: x"}},
        // Leases may be made by an update.
        {"PUT",
         "/apis/coordination.k8s.io/v1/namespaces/default/leases/l",
         "{\"metadata\":{\"name\":\"l\"},\"spec\":{}}",
         201,
         {"\"name\":\"l\""}},
        // A status and the rest do not change each other.
        {"POST", "/api/v1/nodes", "{\"metadata\":{\"name\":\"n\"}}", 201, {"\"taints\""}},
        {"PUT",
         "/api/v1/nodes/n/status",
         "{\"metadata\":{\"name\":\"n\"},\"spec\":{\"podCIDR\":\"10.0.0.0/24\"},\"status\":{"
         "\"phase\":\"Running\"}}",
         200,
         {"\"phase\":\"Running\"", "!podCIDR"}},
        {"PUT",
         "/api/v1/nodes/n",
         "{\"metadata\":{\"name\":\"n\"},\"spec\":{\"podCIDR\":\"10.0.0.0/24\"},\"status\":{}}",
         200,
         {"\"phase\":\"Running\"", "podCIDR"}},
    };
    (void)state;
    RUN(rows);
}

static void test_patch(void **state)
{
    static const struct rig_row rows[] = {
        {"POST",
         CM,
         "{\"metadata\":{\"name\":\"p\"},\"data\":{\"k\":\"1\"}}",
         201,
         {NULL},
         NULL,
         "resourceVersion"},
        {"PATCH", CM "/p", "{}", 200, {"\"resourceVersion\":\"$1\""}, MERGE},
        {"PATCH",
         CM "/p",
         "{\"data\":{\"k\":null,\"l\":\"2\"}}",
         200,
         {"\"data\":{\"l\":\"2\"}", "!\"k\""},
         MERGE},
        {"PATCH",
         CM "/p",
         "{\"metadata\":{\"resourceVersion\":\"$1\"},\"data\":{}}",
         409,
         {"the object has been modified"},
         MERGE},
        {"PATCH",
         CM "/p",
         "{\"metadata\":{\"name\":\"q\"}}",
         400,
         {"the name of the object (q) does not match the name on the URL (p)"},
         MERGE},
        {"PATCH",
         CM "/p",
         "[{\"op\":\"test\",\"path\":\"/data/l\",\"value\":\"3\"}]",
         422,
         {"the server rejected our request due to an error in our request"},
         JSON_PATCH},
        {"PATCH",
         CM "/p",
         "[{\"op\":\"replace\",\"path\":\"/data/l\",\"value\":\"3\"}]",
         200,
         {"\"l\":\"3\""},
         JSON_PATCH},
        {"PATCH", CM "/p", "{}", 400, {"error decoding patch"}, JSON_PATCH},
        {"PATCH", CM "/p", "[]", 400, {"error decoding patch"}, MERGE},
        {"PATCH", CM "/p", "{\"data\":1}", 422, {"patch: Invalid value: "}, MERGE},
        {"PATCH",
         CM "/p?fieldValidation=Strict",
         "{\"foo\":\"x\"}",
         422,
         {" \\\"\\\" is invalid: patch: Invalid value: \\\"map[foo:x]\\\": strict decoding error: "
          "unknown field \\\"foo\\\""},
         STRATEGIC},
        {"PATCH", CM "/p", "{\"foo\":\"x\"}", 200, {"299 - \"unknown field"}, STRATEGIC},
        {"PATCH", CM "/none", "{}", 404, {"configmaps \\\"none\\\" not found"}, MERGE},
        {"PATCH", CM "/p", "{}", 415, {"UnsupportedMediaType"}, "content-type: text/plain\r\n"},
    };
    (void)state;
    RUN(rows);
}

static void test_delete(void **state)
{
    static const struct rig_row rows[] = {
        {"POST",
         CM,
         "{\"metadata\":{\"name\":\"d\",\"finalizers\":[\"a.b/c\"]}}",
         201,
         {NULL},
         NULL,
         "uid"},
        {"DELETE",
         CM "/d",
         "{\"preconditions\":{\"uid\":\"x\"}}",
         409,
         {"the UID in the precondition (x) does not match the UID in record ($1)"}},
        {"DELETE",
         CM "/d?propagationPolicy=Foreground",
         NULL,
         200,
         {"\"deletionTimestamp\"", "\"deletionGracePeriodSeconds\":0", "foregroundDeletion"}},
        {"PATCH",
         CM "/d",
         "{\"metadata\":{\"finalizers\":[\"a.b/c\",\"x.y/z\"]}}",
         422,
         {"no new finalizers can be added if the object is being deleted"},
         MERGE},
        {"PATCH", CM "/d", "{\"metadata\":{\"finalizers\":null}}", 200, {"\"name\":\"d\""}, MERGE},
        {"GET", CM "/d", NULL, 404, {"not found"}},
        {"DELETE", CM "/d", NULL, 404, {"configmaps \\\"d\\\" not found"}},
        {"POST", CM, "{\"metadata\":{\"name\":\"e\"}}", 201, {NULL}, NULL, "uid"},
        {"DELETE", CM "/e?dryRun=All", NULL, 200, {"\"status\":\"Success\""}},
        {"DELETE",
         CM "/e",
         "{\"propagationPolicy\":\"Orphan\",\"orphanDependents\":true}",
         422,
         {"orphanDependents and deletionPropagation cannot be both set"}},
        {"DELETE",
         CM "/e",
         "{\"gracePeriodSeconds\":9223372036854775807}",
         200,
         {"\"status\":\"Success\"", "\"kind\":\"configmaps\"", "\"uid\":\"$1\""}},
        {"DELETE", "/api/v1/namespaces/default", NULL, 403, {"this namespace may not be deleted"}},
        {"POST", "/api/v1/namespaces", "{\"metadata\":{\"name\":\"gone\"}}", 201, {NULL}},
        {"DELETE", "/api/v1/namespaces/gone", NULL, 200, {"\"phase\":\"Terminating\""}},
        {"POST",
         "/api/v1/namespaces/gone/configmaps",
         "{\"metadata\":{\"name\":\"x\"}}",
         403,
         {"because it is being terminated", "NamespaceTerminating"}},
        {"PUT",
         "/api/v1/namespaces/gone/finalize",
         "{\"metadata\":{\"name\":\"gone\"},\"spec\":{\"finalizers\":[]}}",
         200,
         {NULL}},
        {"GET", "/api/v1/namespaces/gone", NULL, 404, {"not found"}},
        // A Job's pods stay unless the deletion says otherwise, with a warning.
        {"POST",
         "/apis/batch/v1/namespaces/default/jobs",
         "{\"metadata\":{\"name\":\"j\"},\"spec\":{\"template\":{\"spec\":{\"restartPolicy\":"
         "\"Never\",\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}}}",
         201,
         {NULL}},
        {"DELETE",
         "/apis/batch/v1/namespaces/default/jobs/j",
         NULL,
         200,
         {"\"finalizers\":[\"orphan\"]", "child pods are preserved by default"}},
        // Collections: the list as it was, and then nothing.
        {"POST", "/api/v1/namespaces", "{\"metadata\":{\"name\":\"many\"}}", 201, {NULL}},
        {"POST",
         "/api/v1/namespaces/many/configmaps",
         "{\"metadata\":{\"name\":\"a\",\"labels\":{\"x\":\"1\"}}}",
         201,
         {NULL}},
        {"POST",
         "/api/v1/namespaces/many/configmaps",
         "{\"metadata\":{\"name\":\"b\"}}",
         201,
         {NULL}},
        {"DELETE",
         "/api/v1/namespaces/many/configmaps?labelSelector=x%3D1",
         NULL,
         200,
         {"ConfigMapList", "\"name\":\"a\"", "!\"name\":\"b\""}},
        {"GET",
         "/api/v1/namespaces/many/configmaps",
         NULL,
         200,
         {"\"name\":\"b\"", "!\"name\":\"a\""}},
    };
    (void)state;
    RUN(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_paths), cmocka_unit_test(test_create),
                                       cmocka_unit_test(test_update), cmocka_unit_test(test_patch),
                                       cmocka_unit_test(test_delete)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
