// SPDX-License-Identifier: Apache-2.0
// Kinds and subresources with ways of their own.
#include "rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define NS "/api/v1/namespaces/default"
#define POD_SPEC "\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}"
#define MERGE "content-type: application/merge-patch+json\r\n"
#define STRATEGIC "content-type: application/strategic-merge-patch+json\r\n"
#define TABLE "accept: application/json;as=Table;v=v1;g=meta.k8s.io\r\n"

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
#define BINDING(target) "{\"metadata\":{\"name\":\"p\"},\"target\":" target "}"

static void test_pods(void **state)
{
    static const struct rig_row rows[] = {
        {"POST",
         NS "/pods",
         "{\"metadata\":{\"name\":\"p\"}," POD_SPEC "}",
         403,
         {"serviceaccount \\\"default\\\" not found"}},
        {"POST", NS "/serviceaccounts", "{\"metadata\":{\"name\":\"default\"}}", 201, {NULL}},
        {"POST",
         NS "/pods",
         "{\"metadata\":{\"name\":\"p\",\"labels\":{\"a\":\"b\"}}," POD_SPEC "}",
         201,
         {"\"qosClass\":\"BestEffort\"", "\"generation\":1", "kube-api-access-",
          "\"preemptionPolicy\"", "not-ready"}},
        {"POST",
         NS "/pods/p/binding",
         "{\"target\":{\"name\":\"n\"}}",
         400,
         {"name in URL does not match name in Binding object"}},
        {"POST", NS "/pods/p/binding", BINDING("{}"), 500, {"target.name: Required value"}},
        {"POST",
         NS "/pods/p/binding?dryRun=All",
         BINDING("{\"name\":\"n\"}"),
         201,
         {"\"status\":\"Success\""}},
        {"POST",
         NS "/pods/p/binding",
         BINDING("{\"name\":\"n\"}"),
         201,
         {"\"status\":\"Success\""}},
        {"POST",
         NS "/pods/p/binding",
         BINDING("{\"name\":\"m\"}"),
         409,
         {"pod p is already assigned to node \\\"n\\\""}},
        {"PATCH",
         NS "/pods/p",
         "{\"spec\":{\"nodeName\":\"m\"}}",
         422,
         {"pod updates may not change fields other than"},
         MERGE},
        {"PATCH",
         NS "/pods/p/ephemeralcontainers",
         "{\"spec\":{\"nodeName\":\"m\",\"ephemeralContainers\":[{\"name\":\"e\",\"image\":\"i\"}]}"
         "}",
         200,
         {"\"ephemeralContainers\":[{\"name\":\"e\"", "\"nodeName\":\"n\""},
         STRATEGIC},
        {"PATCH",
         NS "/pods/p/ephemeralcontainers",
         "{\"spec\":{\"ephemeralContainers\":null}}",
         422,
         {"may not be removed"},
         MERGE},
        {"PATCH",
         NS "/pods/p/status",
         "{\"status\":{\"phase\":\"Running\"}}",
         200,
         {"\"phase\":\"Running\""},
         MERGE},
        // A budget without room refuses, one with room is used up by one eviction.
        {"POST",
         "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
         "{\"metadata\":{\"name\":\"b\"},\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}}}}",
         201,
         {NULL}},
        {"PATCH",
         "/apis/policy/v1/namespaces/default/poddisruptionbudgets/b/status",
         "{\"status\":{\"observedGeneration\":1,\"desiredHealthy\":1,\"currentHealthy\":0}}",
         200,
         {NULL},
         MERGE},
        {"POST",
         NS "/pods/p/eviction",
         "{\"metadata\":{\"name\":\"q\"}}",
         400,
         {"name in URL does not match name in Eviction object"}},
        {"POST",
         NS "/pods/p/eviction",
         "{\"metadata\":{\"name\":\"p\"}}",
         429,
         {"Cannot evict pod as it would violate the pod's disruption budget.",
          "The disruption budget b needs 1 healthy pods and has 0 currently"}},
        {"PATCH",
         "/apis/policy/v1/namespaces/default/poddisruptionbudgets/b/status",
         "{\"status\":{\"disruptionsAllowed\":1}}",
         200,
         {NULL},
         MERGE},
        {"POST",
         NS "/pods/p/eviction",
         "{\"metadata\":{\"name\":\"p\"}}",
         201,
         {"\"status\":\"Success\""}},
        {"GET",
         "/apis/policy/v1/namespaces/default/poddisruptionbudgets/b",
         NULL,
         200,
         {"\"disruptionsAllowed\":0", "\"disruptedPods\":{\"p\":\""}},
        // Grace: 30 s as the pod has it, only ever shortened, none to end it.
        {"GET",
         NS "/pods/p",
         NULL,
         200,
         {"\"deletionGracePeriodSeconds\":30",
          "\"generation\":", "\"reason\":\"EvictionByEvictionAPI\""}},
        {"DELETE",
         NS "/pods/p?gracePeriodSeconds=60",
         NULL,
         200,
         {"\"deletionGracePeriodSeconds\":30"}},
        {"DELETE",
         NS "/pods/p?gracePeriodSeconds=5",
         NULL,
         200,
         {"\"deletionGracePeriodSeconds\":5"}},
        {"DELETE", NS "/pods/p?gracePeriodSeconds=0", NULL, 200, {"\"name\":\"p\""}},
        {"GET", NS "/pods/p", NULL, 404, {"not found"}},
    };
    (void)state;
    RUN(rows);
}

#define DEPLOYMENTS "/apis/apps/v1/namespaces/default/deployments"
#define TEMPLATE                                                                                   \
    "\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":{\"metadata\":{\"labels\":{"        \
    "\"a\":\"b\"}}," POD_SPEC "}"

static void test_scale(void **state)
{
    static const struct rig_row rows[] = {
        {"POST",
         DEPLOYMENTS,
         "{\"metadata\":{\"name\":\"d\"},\"spec\":{\"replicas\":2," TEMPLATE "}}",
         201,
         {"\"generation\":1"}},
        {"GET",
         DEPLOYMENTS "/d/scale",
         NULL,
         200,
         {"\"kind\":\"Scale\",\"apiVersion\":\"autoscaling/v1\"", "\"spec\":{\"replicas\":2}",
          "\"selector\":\"a=b\""}},
        {"GET", DEPLOYMENTS "/d/scale", NULL, 200, {"\"Desired\"", "\"kind\":\"Table\""}, TABLE},
        {"PUT",
         DEPLOYMENTS "/d/scale",
         "{\"metadata\":{\"name\":\"d\"},\"spec\":{\"replicas\":3}}",
         200,
         {"\"spec\":{\"replicas\":3}"}},
        {"PATCH",
         DEPLOYMENTS "/d/scale",
         "{\"spec\":{\"replicas\":4}}",
         200,
         {"\"spec\":{\"replicas\":4}"},
         STRATEGIC},
        {"PATCH",
         DEPLOYMENTS "/d/scale?dryRun=All",
         "{\"spec\":{\"replicas\":9}}",
         200,
         {"\"kind\":\"Scale\"", "\"spec\":{\"replicas\":9}"},
         MERGE},
        {"PUT",
         DEPLOYMENTS "/d/scale",
         "{\"spec\":{\"replicas\":1}}",
         400,
         {"undeterminable: name must be provided"}},
        {"PUT",
         DEPLOYMENTS "/d/scale",
         "{\"metadata\":{\"name\":\"d\"},\"spec\":{\"replicas\":-1}}",
         422,
         {"must be greater than or equal to 0"}},
        {"GET", DEPLOYMENTS "/d", NULL, 200, {"\"replicas\":4", "\"generation\":3"}},
        {"PATCH",
         DEPLOYMENTS "/d",
         "{\"metadata\":{\"annotations\":{\"x\":\"y\"}}}",
         200,
         {"\"generation\":4"},
         MERGE},
        {"PATCH",
         DEPLOYMENTS "/d",
         "{\"metadata\":{\"labels\":{\"x\":\"y\"}}}",
         200,
         {"\"generation\":4"},
         MERGE},
        {"PATCH",
         DEPLOYMENTS "/d/status",
         "{\"status\":{\"replicas\":1}}",
         200,
         {"\"generation\":4", "\"status\":{\"replicas\":1"},
         MERGE},
        {"PATCH",
         DEPLOYMENTS "/d",
         "{\"spec\":{\"template\":{\"spec\":{\"restartPolicy\":\"Never\"}}}}",
         422,
         {"Unsupported value: \\\"Never\\\": supported values: \\\"Always\\\""},
         MERGE},
        {"GET", DEPLOYMENTS "/none/scale", NULL, 404, {"deployments.apps \\\"none\\\" not found"}},
    };
    (void)state;
    RUN(rows);
}

static void test_services(void **state)
{
    static const struct rig_row rows[] = {
        {"POST",
         NS "/services",
         "{\"metadata\":{\"name\":\"s\"},\"spec\":{\"type\":\"NodePort\",\"clusterIP\":\"10.43.0."
         "9\","
         "\"ports\":[{\"name\":\"a\",\"port\":53,\"protocol\":\"UDP\",\"nodePort\":30053},{"
         "\"name\":"
         "\"b\",\"port\":53,\"protocol\":\"TCP\"}]}}",
         201,
         {"\"clusterIPs\":[\"10.43.0.9\"]",
          "\"protocol\":\"TCP\",\"port\":53,\"targetPort\":53,\"nodePort\":30053"}},
        {"GET",
         "/apis/networking.k8s.io/v1/ipaddresses/10.43.0.9",
         NULL,
         200,
         {"\"name\":\"s\"", "\"resource\":\"services\""}},
        {"POST",
         NS "/services",
         "{\"metadata\":{\"name\":\"t\"},\"spec\":{\"clusterIP\":\"10.43.0.9\",\"ports\":[{"
         "\"port\":1"
         "}]}}",
         422,
         {"provided IP is already allocated"}},
        {"POST",
         NS "/services",
         "{\"metadata\":{\"name\":\"t\"},\"spec\":{\"clusterIP\":\"10.44.0.9\",\"ports\":[{"
         "\"port\":1"
         "}]}}",
         422,
         {"failed to allocate IP 10.44.0.9: the provided network does not match the current "
          "range"}},
        {"POST",
         NS "/services",
         "{\"metadata\":{\"name\":\"t\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"port\":1,"
         "\"nodePort\":30053}]}}",
         422,
         {"spec.ports[0].nodePort", "provided port is already allocated"}},
        {"POST",
         NS "/services",
         "{\"metadata\":{\"name\":\"t\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"port\":1,"
         "\"nodePort\":53}]}}",
         422,
         {"The range of valid ports is 30000-32767"}},
        {"POST",
         NS "/services?dryRun=All",
         "{\"metadata\":{\"name\":\"t\"},\"spec\":{\"clusterIP\":\"10.43.0.8\",\"ports\":[{"
         "\"port\":1"
         "}]}}",
         201,
         {"10.43.0.8"}},
        {"GET", "/apis/networking.k8s.io/v1/ipaddresses/10.43.0.8", NULL, 404, {"not found"}},
        {"PATCH",
         NS "/services/s",
         "{\"spec\":{\"clusterIP\":\"10.43.0.7\"}}",
         422,
         {"may not change once set"},
         MERGE},
        // Back to ClusterIP the node ports are free again.
        {"PATCH",
         NS "/services/s",
         "{\"spec\":{\"type\":\"ClusterIP\"}}",
         200,
         {"!\"nodePort\""},
         MERGE},
        {"POST",
         NS "/services",
         "{\"metadata\":{\"name\":\"t\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"port\":1,"
         "\"nodePort\":30053}]}}",
         201,
         {"30053"}},
        // As ExternalName it gives its address back, and gets another when it wants one again.
        {"PATCH",
         NS "/services/s",
         "{\"spec\":{\"type\":\"ExternalName\",\"externalName\":\"x.y\"}}",
         200,
         {"!\"clusterIP\""},
         MERGE},
        {"GET", "/apis/networking.k8s.io/v1/ipaddresses/10.43.0.9", NULL, 404, {"not found"}},
        {"PATCH",
         NS "/services/s",
         "{\"spec\":{\"type\":\"ClusterIP\",\"clusterIP\":\"10.43.0.9\"}}",
         200,
         {"\"clusterIP\":\"10.43.0.9\""},
         MERGE},
        // The claims go with the Service, also when a finalizer held it.
        {"PATCH",
         NS "/services/s",
         "{\"metadata\":{\"finalizers\":[\"a.b/c\"]}}",
         200,
         {NULL},
         MERGE},
        {"DELETE", NS "/services/s", NULL, 200, {"deletionTimestamp"}},
        {"GET", "/apis/networking.k8s.io/v1/ipaddresses/10.43.0.9", NULL, 200, {NULL}},
        {"PATCH", NS "/services/s", "{\"metadata\":{\"finalizers\":null}}", 200, {NULL}, MERGE},
        {"GET", "/apis/networking.k8s.io/v1/ipaddresses/10.43.0.9", NULL, 404, {"not found"}},
        {"DELETE", NS "/services/t", NULL, 200, {"\"name\":\"t\""}},
        {"POST",
         NS "/services",
         "{\"metadata\":{\"name\":\"v\"},\"spec\":{\"type\":\"LoadBalancer\","
         "\"externalTrafficPolicy\":\"Local\",\"ports\":[{\"port\":1,\"nodePort\":30053}]}}",
         201,
         {"\"healthCheckNodePort\":3"}},
    };
    (void)state;
    RUN(rows);
}

// Answers as kube-apiserver 1.36.3 gave them to the same requests.
static void test_recorded(void **state)
{
    static const struct rig_row rows[] = {
        // A Pod can be changed after its service account is gone.
        {"POST",
         "/api/v1/namespaces/default/serviceaccounts",
         "{\"metadata\":{\"name\":\"gone\"}}",
         201,
         {NULL}},
        {"POST",
         "/api/v1/namespaces/default/pods",
         "{\"metadata\":{\"name\":\"of-gone\"},\"spec\":{\"serviceAccountName\":\"gone\","
         "\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}",
         201,
         {"\"mountPath\":\"/var/run/secrets/kubernetes.io/serviceaccount\""}},
        {"DELETE", "/api/v1/namespaces/default/serviceaccounts/gone", NULL, 200, {NULL}},
        {"PATCH",
         "/api/v1/namespaces/default/pods/of-gone",
         "{\"metadata\":{\"labels\":{\"l\":\"1\"}}}",
         200,
         {"\"l\":\"1\""},
         MERGE},
        {"PATCH",
         "/api/v1/namespaces/default/pods/of-gone",
         "{\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}",
         422,
         {"pod updates may not change fields"},
         MERGE},
        // A Job without labels shares its template's map, the generated ones among them.
        {"POST",
         "/apis/batch/v1/namespaces/default/jobs",
         "{\"metadata\":{\"name\":\"shared\"},\"spec\":{\"template\":{\"metadata\":{\"labels\":{"
         "\"a\":\"b\"}},\"spec\":{\"restartPolicy\":\"Never\",\"containers\":[{\"name\":\"c\","
         "\"image\":\"i\"}]}}}}",
         201,
         {"\"labels\":{\"a\":\"b\",\"batch.kubernetes.io/controller-uid\":\"",
          "\"job-name\":\"shared\"},\""}},
        {"POST",
         "/apis/batch/v1/namespaces/default/jobs",
         "{\"metadata\":{\"name\":\"own\",\"labels\":{\"a\":\"b\"}},\"spec\":{\"template\":{"
         "\"metadata\":{\"labels\":{\"a\":\"b\"}},\"spec\":{\"restartPolicy\":\"Never\","
         "\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}}}",
         201,
         {"\"labels\":{\"a\":\"b\"},"}},
        // What a registry adds to clusterIPs nobody owns; an address left out is the one it has.
        {"POST",
         "/api/v1/namespaces/default/services",
         "{\"metadata\":{\"name\":\"none\"},\"spec\":{\"clusterIP\":\"None\",\"ports\":[{\"port\":"
         "80}]}}",
         201,
         {"\"clusterIPs\":[\"None\"]", "\"f:clusterIP\":{}", "!f:clusterIPs"}},
        {"PUT",
         "/api/v1/namespaces/default/services/none",
         "{\"metadata\":{\"name\":\"none\"},\"spec\":{\"clusterIP\":\"\",\"ipFamilies\":[],"
         "\"ports\":[{\"port\":81}]}}",
         200,
         {"\"clusterIP\":\"None\""}},
        // No update makes a deletion.
        {"POST",
         "/api/v1/namespaces/default/configmaps",
         "{\"metadata\":{\"name\":\"alive\"}}",
         201,
         {NULL}},
        {"PUT",
         "/api/v1/namespaces/default/configmaps/alive",
         "{\"metadata\":{\"name\":\"alive\",\"deletionTimestamp\":\"2001-01-01T00:00:00Z\","
         "\"deletionGracePeriodSeconds\":5}}",
         422,
         {"metadata.deletionTimestamp: Invalid value: \\\"2001-01-01T00:00:00Z\\\": field is "
          "immutable, metadata.deletionGracePeriodSeconds: Invalid value: 5: field is immutable"}},
        {"PATCH",
         "/api/v1/namespaces/default/configmaps/alive",
         "{\"metadata\":{\"generateName\":\"x-\"}}",
         200,
         {"\"generateName\":\"x-\""},
         MERGE},
        {"PUT",
         "/api/v1/namespaces/default/configmaps/alive",
         "{\"metadata\":{\"name\":\"alive\"}}",
         200,
         {"!generateName"}},
        // Labels are not a status writer's in some kinds, and count for a slice's generation.
        {"POST",
         "/apis/apps/v1/namespaces/default/deployments",
         "{\"metadata\":{\"name\":\"rec\"},\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}},"
         "\"template\":{\"metadata\":{\"labels\":{\"a\":\"b\"}},\"spec\":{\"containers\":[{"
         "\"name\":\"c\",\"image\":\"i\"}]}}}}",
         201,
         {NULL}},
        {"PATCH",
         "/apis/apps/v1/namespaces/default/deployments/rec/status",
         "{\"metadata\":{\"labels\":{\"l\":\"1\"},\"annotations\":{\"n\":\"1\"}}}",
         200,
         {"!\"l\":\"1\"", "\"n\":\"1\""},
         MERGE},
        {"POST",
         "/apis/networking.k8s.io/v1/servicecidrs",
         "{\"metadata\":{\"name\":\"rec\"},\"spec\":{\"cidrs\":[\"10.77.0.0/24\"]}}",
         201,
         {NULL}},
        {"PATCH",
         "/apis/networking.k8s.io/v1/servicecidrs/rec/status",
         "{\"metadata\":{\"labels\":{\"l\":\"1\"},\"annotations\":{\"n\":\"1\"}}}",
         200,
         {"!\"l\":\"1\"", "!\"n\":\"1\""},
         MERGE},
        {"POST",
         "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
         "{\"metadata\":{\"name\":\"rec\"},\"addressType\":\"IPv4\",\"endpoints\":[]}",
         201,
         {"\"generation\":1", "\"f:endpoints\":{}", "\"endpoints\":null"}},
        // An empty list that was sent is its sender's, where Go always writes the field.
        {"POST",
         "/apis/storage.k8s.io/v1/csinodes",
         "{\"metadata\":{\"name\":\"rec\"},\"spec\":{\"drivers\":[]}}",
         201,
         {"\"fieldsV1\":{\"f:spec\":{\"f:drivers\":{}}}", "\"spec\":{\"drivers\":null}"}},
        {"POST",
         "/apis/rbac.authorization.k8s.io/v1/clusterroles",
         "{\"metadata\":{\"name\":\"rec\"},\"rules\":[]}",
         201,
         {"\"fieldsV1\":{\"f:rules\":{}}", "\"rules\":null"}},
        {"PATCH",
         "/apis/rbac.authorization.k8s.io/v1/clusterroles/rec?fieldManager=m",
         "{\"apiVersion\":\"rbac.authorization.k8s.io/v1\",\"kind\":\"ClusterRole\",\"metadata\":{"
         "\"name\":\"rec\"},\"rules\":[]}",
         409,
         {"conflict with \\\"unknown\\\" using rbac.authorization.k8s.io/v1: .rules"},
         "content-type: application/apply-patch+yaml\r\n"},
        {"POST",
         "/api/v1/namespaces/default/endpoints",
         "{\"metadata\":{\"name\":\"empty\"},\"subsets\":[]}",
         201,
         {"!managedFields"}},
        {"PATCH",
         "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/rec",
         "{\"metadata\":{\"annotations\":{\"n\":\"1\"}}}",
         200,
         {"\"generation\":1"},
         MERGE},
        {"PATCH",
         "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/rec",
         "{\"metadata\":{\"labels\":{\"l\":\"1\"}}}",
         200,
         {"\"generation\":2"},
         MERGE},
        // How often the template changed is the registry's to say, whatever is sent.
        {"POST",
         "/apis/apps/v1/namespaces/default/daemonsets",
         "{\"metadata\":{\"name\":\"rec\",\"annotations\":{\"deprecated.daemonset.template."
         "generation\":\"x\"}},\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":"
         "{\"metadata\":{\"labels\":{\"a\":\"b\"}},\"spec\":{\"containers\":[{\"name\":\"c\","
         "\"image\":\"i\"}]}}}}",
         400,
         {"DaemonSet in version \\\"v1\\\" cannot be handled as a DaemonSet: strconv.ParseInt: "
          "parsing \\\"x\\\": invalid syntax"}},
        {"POST",
         "/apis/apps/v1/namespaces/default/daemonsets",
         "{\"metadata\":{\"name\":\"rec\"},\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}},"
         "\"template\":{\"metadata\":{\"labels\":{\"a\":\"b\"}},\"spec\":{\"containers\":[{"
         "\"name\":\"c\",\"image\":\"i\"}]}}}}",
         201,
         {"\"deprecated.daemonset.template.generation\":\"1\"",
          "\"f:annotations\":{\".\":{},\"f:deprecated.daemonset.template.generation\":{}}"}},
        {"PUT",
         "/apis/apps/v1/namespaces/default/daemonsets/rec",
         "{\"metadata\":{\"name\":\"rec\",\"annotations\":{\"deprecated.daemonset.template."
         "generation\":\"9\"}},\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}},\"template\":"
         "{\"metadata\":{\"labels\":{\"a\":\"b\"}},\"spec\":{\"containers\":[{\"name\":\"c\","
         "\"image\":\"i\"}]}}}}",
         200,
         {"\"deprecated.daemonset.template.generation\":\"1\"", "\"generation\":1,"}},
        {"PUT",
         "/apis/apps/v1/namespaces/default/daemonsets/rec",
         "{\"metadata\":{\"name\":\"rec\"},\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}},"
         "\"template\":{\"metadata\":{\"labels\":{\"a\":\"b\"}},\"spec\":{\"containers\":[{"
         "\"name\":\"c\",\"image\":\"j\"}]}}}}",
         200,
         {"\"deprecated.daemonset.template.generation\":\"2\"", "\"generation\":2,"}},
        {"PATCH",
         "/apis/apps/v1/namespaces/default/daemonsets/rec",
         "{\"metadata\":{\"annotations\":{\"deprecated.daemonset.template.generation\":null}}}",
         200,
         {"\"deprecated.daemonset.template.generation\":\"2\""},
         MERGE},
        {"PATCH",
         "/apis/apps/v1/namespaces/default/daemonsets/rec",
         "{\"metadata\":{\"annotations\":{\"deprecated.daemonset.template.generation\":\"x\"}}}",
         422,
         {"strconv.ParseInt: parsing"},
         MERGE},
        {"PATCH",
         "/apis/apps/v1/namespaces/default/daemonsets/rec/status",
         "{\"metadata\":{\"annotations\":{\"deprecated.daemonset.template.generation\":\"7\"}}}",
         200,
         {"\"deprecated.daemonset.template.generation\":\"2\""},
         MERGE},
        // What is asked and not stored has a namespace and owners of fields as well.
        {"POST",
         "/api/v1/namespaces/default/serviceaccounts",
         "{\"metadata\":{\"name\":\"rec\"}}",
         201,
         {"rec"}},
        {"POST",
         "/api/v1/namespaces/default/serviceaccounts/rec/token",
         "{\"metadata\":{\"namespace\":\"other\"},\"spec\":{}}",
         400,
         {"the namespace of the provided object does not match the namespace sent on the request"}},
        {"POST",
         "/api/v1/namespaces/default/serviceaccounts/rec/token",
         "{\"spec\":{\"expirationSeconds\":7200}}",
         201,
         {"\"fieldsV1\":{\"f:spec\":{\"f:expirationSeconds\":{}}},\"subresource\":\"token\""}},
        {"POST",
         "/api/v1/namespaces/default/bindings",
         "{\"metadata\":{\"namespace\":\"other\",\"name\":\"x\"},\"target\":{\"name\":\"n\"}}",
         400,
         {"the namespace of the provided object does not match the namespace sent on the request"}},
        {"POST",
         "/api/v1/namespaces/default/pods/x/eviction",
         "{\"apiVersion\":\"policy/"
         "v1\",\"kind\":\"Eviction\",\"metadata\":{\"namespace\":\"other\",\"name\":\"x\"}}",
         400,
         {"the namespace of the provided object does not match the namespace sent on the request"}},
        {"POST",
         "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews",
         "{\"metadata\":{\"namespace\":\"other\"},\"spec\":{\"user\":\"x\",\"resourceAttributes\":{"
         "\"namespace\":\"default\",\"verb\":\"get\",\"resource\":\"pods\"}}}",
         400,
         {"the namespace of the provided object does not match the namespace sent on the request"}},
        {"POST",
         "/apis/authorization.k8s.io/v1/subjectaccessreviews",
         "{\"metadata\":{\"namespace\":\"other\"},\"spec\":{\"user\":\"x\",\"resourceAttributes\":{"
         "\"namespace\":\"default\",\"verb\":\"get\",\"resource\":\"pods\"}}}",
         201,
         {"\"f:user\":{}", "!\"namespace\":\"other\""}},
        // The old paths of watches are for GET.
        {"POST", "/api/v1/watch/pods", "{}", 405, {"MethodNotAllowed"}},
        {"DELETE", "/api/v1/watch/namespaces/default/pods/x", NULL, 405, {"MethodNotAllowed"}},
        // Discovery names no group and version where they are the resource's own.
        {"GET",
         "/apis",
         NULL,
         200,
         {"{\"name\":\"apps\"},\"versions\"",
          "\"responseKind\":{\"group\":\"\",\"version\":\"\",\"kind\":\"Deployment\"}",
          "\"responseKind\":{\"group\":\"autoscaling\",\"version\":\"v1\",\"kind\":\"Scale\"}"},
         "accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList\r\n"},
        {"GET",
         NS "/pods",
         NULL,
         403,
         {"x-content-type-options: nosniff", "User \\\"nobody\\\" cannot list resource"},
         "impersonate-user: nobody\r\n"},
        {"PATCH",
         NS "/limitranges/x?fieldManager=m",
         "{\"apiVersion\":\"v1\",\"kind\":\"LimitRange\",\"metadata\":{\"name\":\"x\"},"
         "\"spec\":{\"limits\":[{\"type\":\"Pod\",\"max\":{\"cpu\":\"q\"}}]}}",
         500,
         {"failed to convert new object (/x; /v1, Kind=LimitRange) to proper version: unable to "
          "convert unstructured object to /v1, Kind=LimitRange: quantities must match the regular "
          "expression"},
         "content-type: application/apply-patch+yaml\r\n"},
    };
    (void)state;
    RUN(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pods), cmocka_unit_test(test_scale),
                                       cmocka_unit_test(test_services),
                                       cmocka_unit_test(test_recorded)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
