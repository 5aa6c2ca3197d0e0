// SPDX-License-Identifier: Apache-2.0
// Seats are shared by loops: many clients on several of them write through a level of three seats.
// Everybody gets through, nothing is lost count of, and ThreadSanitizer has something to look at.
#include "rig.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { LOOPS = 3, CLIENTS = 8, WRITES = 25 };

static struct rig rig;
static int created[CLIENTS];

#define FLOW "/apis/flowcontrol.apiserver.k8s.io/v1"

static void request(const char *method, const char *path, const char *headers, const char *body,
                    int want)
{
    struct rig_answer a;
    rig_request(&rig, method, path, headers, body, body ? strlen(body) : 0, &a);
    if (a.status != want)
        fail_msg("%s %s: %d %s", method, path, a.status, a.body);
    rig_answer_fini(&a);
}

static long metric(const char *line)
{
    struct rig_answer a;
    rig_request(&rig, "GET", "/metrics", NULL, NULL, 0, &a);
    const char *at = strstr(a.body, line);
    long v = at ? strtol(at + strlen(line), NULL, 10) : -1;
    rig_answer_fini(&a);
    return v;
}

static void *client(void *arg)
{
    int id = (int)((int *)arg - created);
    char headers[128], body[200];
    snprintf(headers, sizeof headers, "Impersonate-User: noisy-%d\r\n", id % 3);
    for (int i = 0; i < WRITES; i++) {
        struct rig_answer a;
        snprintf(body, sizeof body, "{\"metadata\":{\"name\":\"c%d-%d\"},\"data\":{\"k\":\"v\"}}",
                 id, i);
        rig_request(&rig, "POST", "/api/v1/namespaces/default/configmaps", headers, body,
                    strlen(body), &a);
        created[id] += a.status == 201;
        rig_answer_fini(&a);
    }
    return NULL;
}

static void test_seats(void **state)
{
    pthread_t threads[CLIENTS];
    (void)state;
    rig_start(&rig, LOOPS);
    request(
        "POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", NULL,
        "{\"metadata\":{\"name\":\"noisy\"},\"roleRef\":{\"apiGroup\":"
        "\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"edit\"},\"subjects\":"
        "[{\"kind\":\"User\",\"apiGroup\":\"rbac.authorization.k8s.io\",\"name\":\"noisy-0\"},"
        "{\"kind\":\"User\",\"apiGroup\":\"rbac.authorization.k8s.io\",\"name\":\"noisy-1\"},"
        "{\"kind\":\"User\",\"apiGroup\":\"rbac.authorization.k8s.io\",\"name\":\"noisy-2\"}]}",
        201);
    request(
        "POST", FLOW "/prioritylevelconfigurations", NULL,
        "{\"metadata\":{\"name\":\"narrow\"},\"spec\":{\"type\":\"Limited\",\"limited\":{"
        "\"nominalConcurrencyShares\":1,\"borrowingLimitPercent\":0,\"limitResponse\":{\"type\":"
        "\"Queue\",\"queuing\":{\"queues\":16,\"handSize\":2,\"queueLengthLimit\":50}}}}}",
        201);
    request(
        "POST", FLOW "/flowschemas", NULL,
        "{\"metadata\":{\"name\":\"narrow\"},\"spec\":{\"priorityLevelConfiguration\":{\"name\":"
        "\"narrow\"},\"matchingPrecedence\":50,\"distinguisherMethod\":{\"type\":\"ByUser\"},"
        "\"rules\":[{\"subjects\":[{\"kind\":\"Group\",\"group\":{\"name\":"
        "\"system:authenticated\"}}],\"resourceRules\":[{\"verbs\":[\"*\"],\"apiGroups\":["
        "\"*\"],\"resources\":[\"*\"],\"namespaces\":[\"*\"]}]}]}}",
        201);
#define OF_NARROW "{flow_schema=\"narrow\",priority_level=\"narrow\"} "
    while (metric("apiserver_flowcontrol_dispatched_requests_total" OF_NARROW) < 0)
        ; // not in use yet; the test's time limit is the deadline
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, client, &created[i]), 0);
    // The objects change meanwhile: what waits stays where it waits.
    for (int i = 0; i < 10; i++) {
        char body[128];
        snprintf(body, sizeof body, "{\"metadata\":{\"labels\":{\"turn\":\"%d\"}}}", i);
        request("PATCH", FLOW "/prioritylevelconfigurations/narrow",
                "Content-Type: application/merge-patch+json\r\n", body, 200);
        metric("x");
        request("GET", "/debug/api_priority_and_fairness/dump_requests?includeRequestDetails=1",
                NULL, NULL, 200);
    }
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(created[i], WRITES);
    assert_int_equal(metric("apiserver_flowcontrol_dispatched_requests_total" OF_NARROW),
                     CLIENTS * WRITES);
    // Who has an answer may still have its seat for a moment.
    while (metric("apiserver_flowcontrol_current_executing_requests" OF_NARROW) ||
           metric("apiserver_flowcontrol_current_inqueue_requests" OF_NARROW))
        ;
    assert_int_equal(
        metric("apiserver_flowcontrol_nominal_limit_seats{priority_level=\"narrow\"} "), 3);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_seats)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
