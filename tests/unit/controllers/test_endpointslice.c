// SPDX-License-Identifier: Apache-2.0
#include "controllers/endpointslice.h"
#include "harness.h"
#include <stdio.h>
#include <stdlib.h>

#define SLICES kl_res(KL_RES_discovery_v1_endpointslices)
#define SERVICES kl_res(KL_RES_core_v1_services)
#define ONE_PORT "{\"name\":\"http\",\"port\":80,\"targetPort\":\"web\",\"protocol\":\"TCP\"}"

static int set_up(void **state)
{
    harness_start("endpointslice");
    h.no_kubelet = true;
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"n1\","
                    "\"labels\":{\"topology.kubernetes.io/zone\":\"z1\"}}}");
    return 0;
}

static void apply_service(const char *labels, const char *spec)
{
    char json[1000];
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"svc\","
             "\"namespace\":\"ns\",\"labels\":{%s}},\"spec\":{\"clusterIP\":\"10.0.0.1\","
             "\"ipFamilies\":[\"IPv4\"],\"selector\":{\"app\":\"web\"},%s}}",
             labels, spec);
    fake_apply(h.f, json);
}

static void apply_pod(const char *name, const char *ip, bool ready, int port)
{
    char json[1000];
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s\",\"namespace\":"
             "\"ns\",\"labels\":{\"app\":\"web\"}},\"spec\":{\"nodeName\":\"n1\",\"containers\":[{"
             "\"name\":\"c\",\"image\":\"i\",\"ports\":[{\"name\":\"web\",\"protocol\":\"TCP\","
             "\"containerPort\":%d}]}]},\"status\":{\"phase\":\"Running\",\"podIP\":\"%s\","
             "\"podIPs\":[{\"ip\":\"%s\"}],\"conditions\":[{\"type\":\"Ready\",\"status\":\"%s\"}"
             "]}}",
             name, port, ip, ip, ready ? "True" : "False");
    fake_apply(h.f, json);
}

static const struct kl_value *only_slice(void)
{
    size_t n;
    struct kl_object **list = fake_list(h.f, SLICES, "ns", &n);
    assert_int_equal(n, 1);
    const struct kl_value *root = &list[0]->root;
    free(list);
    return root;
}

// "IP ready serving terminating" of an endpoint.
static void assert_endpoint(const struct kl_value *e, const char *expected)
{
    const struct kl_value *c = kl_get(e, KL_F_conditions);
    char text[100];
    snprintf(text, sizeof(text), "%.*s %d %d %d",
             KL_PRI(kl_text(kl_at(kl_get(e, KL_F_addresses), 0))),
             kl_is_true(kl_get(c, KL_F_ready)), kl_is_true(kl_get(c, KL_F_serving)),
             kl_is_true(kl_get(c, KL_F_terminating)));
    assert_string_equal(text, expected);
}

static const struct kl_value *first_endpoint(void)
{
    const struct kl_value *list = kl_get(only_slice(), KL_F_endpoints);
    assert_int_equal(kl_len(list), 1);
    return kl_at(list, 0);
}

static size_t writes(void)
{
    return fake_calls(h.f, KL_VERB_CREATE, SLICES, "") +
           fake_calls(h.f, KL_VERB_UPDATE, SLICES, "") +
           fake_calls(h.f, KL_VERB_DELETE, SLICES, "");
}

static void endpoints_follow_their_pods(void **state)
{
    apply_service("\"team\":\"a\"", "\"ports\":[" ONE_PORT "]");
    harness_run(2000);
    const struct kl_value *slice = only_slice(); // an empty one says that somebody has looked
    assert_int_equal(kl_len(kl_get(slice, KL_F_endpoints)), 0);
    assert_true(kl_str_starts(kl_meta_name(slice), KL_STR("svc-")));
    assert_text(kl_text(kl_get(slice, KL_F_addressType)), "IPv4");
    assert_text(kl_text(kl_map_value(kl_meta_labels(slice), KL_STR(KL_SLICE_SERVICE_LABEL))),
                "svc");
    assert_text(kl_text(kl_map_value(kl_meta_labels(slice),
                                     KL_STR("endpointslice.kubernetes.io/managed-by"))),
                "endpointslice-controller.k8s.io"); // upstream's, so that either takes over
    assert_text(kl_text(kl_map_value(kl_meta_labels(slice), KL_STR("team"))), "a");
    assert_true(kl_controlled_by(slice, kl_meta_uid(&fake_get(h.f, SERVICES, "ns", "svc")->root)));
    char name[100];
    snprintf(name, sizeof(name), "%.*s", KL_PRI(kl_meta_name(slice)));

    apply_pod("p", "10.1.0.1", false, 8080);
    harness_run(2000);
    assert_endpoint(first_endpoint(), "10.1.0.1 0 0 0");
    assert_text(kl_meta_name(only_slice()), name); // the empty one was filled
    const struct kl_value *port = kl_at(kl_get(only_slice(), KL_F_ports), 0);
    assert_text(kl_text(kl_get(port, KL_F_name)), "http");
    assert_int_equal(kl_int_or(kl_get(port, KL_F_port), 0), 8080);
    const struct kl_value *e = first_endpoint();
    assert_text(kl_text(kl_get(e, KL_F_nodeName)), "n1");
    assert_text(kl_text(kl_get(e, KL_F_zone)), "z1");
    assert_text(kl_text_at(e, KL_F_targetRef, KL_F_name), "p");
    assert_null(kl_get(e, KL_F_hints));

    apply_pod("p", "10.1.0.1", true, 8080);
    harness_run(2000);
    assert_endpoint(first_endpoint(), "10.1.0.1 1 1 0");
    fake_reset_calls(h.f);
    harness_run(60000);
    assert_int_equal(writes(), 0);

    fake_delete(h.f, PODS, "ns", "p", KL_PROPAGATE_DEFAULT);
    harness_run(2000);
    assert_endpoint(first_endpoint(), "10.1.0.1 0 1 1");
    fake_remove(h.f, PODS, "ns", "p");
    harness_run(2000);
    assert_int_equal(kl_len(kl_get(only_slice(), KL_F_endpoints)), 0);

    apply_pod("q", "10.1.0.2", true, 8080);
    harness_run(2000);
    assert_endpoint(first_endpoint(), "10.1.0.2 1 1 0");
    fake_patch(h.f, PODS, "ns", "q", NULL, "{\"metadata\":{\"labels\":{\"app\":\"other\"}}}");
    fake_patch(h.f, SERVICES, "ns", "svc", NULL, "{\"metadata\":{\"labels\":{\"team\":\"b\"}}}");
    harness_run(2000);
    assert_int_equal(kl_len(kl_get(only_slice(), KL_F_endpoints)), 0);
    assert_text(kl_text(kl_map_value(kl_meta_labels(only_slice()), KL_STR("team"))), "b");
}

static void who_is_not_ready_may_be_published(void **state)
{
    apply_service("", "\"publishNotReadyAddresses\":true,\"ports\":[" ONE_PORT "]");
    apply_pod("p", "10.1.0.1", false, 8080);
    harness_run(2000);
    assert_endpoint(first_endpoint(), "10.1.0.1 1 0 0");
    fake_patch(h.f, PODS, "ns", "p", "status", "{\"status\":{\"phase\":\"Succeeded\"}}");
    harness_run(2000);
    assert_int_equal(kl_len(kl_get(only_slice(), KL_F_endpoints)), 0);
}

static void pods_with_other_ports_have_slices_of_their_own(void **state)
{
    apply_service("", "\"ports\":[" ONE_PORT ",{\"name\":\"x\",\"port\":1,\"targetPort\":\"none\","
                      "\"protocol\":\"TCP\"},{\"name\":\"y\",\"port\":2,\"targetPort\":99,"
                      "\"protocol\":\"UDP\",\"appProtocol\":\"dns\"}]");
    apply_pod("a", "10.1.0.1", true, 8080);
    apply_pod("b", "10.1.0.2", true, 9090);
    apply_pod("c", "10.1.0.3", true, 8080);
    harness_run(2000);
    size_t n, sum = 0;
    struct kl_object **list = fake_list(h.f, SLICES, "ns", &n);
    assert_int_equal(n, 2);
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *ports = kl_get(&list[i]->root, KL_F_ports);
        int64_t port = kl_int_or(kl_get(kl_at(ports, 0), KL_F_port), 0);
        size_t have = kl_len(kl_get(&list[i]->root, KL_F_endpoints));
        assert_int_equal(kl_len(ports), 2); // nobody has "none"
        assert_int_equal(kl_int_or(kl_get(kl_at(ports, 1), KL_F_port), 0), 99);
        assert_text(kl_text(kl_get(kl_at(ports, 1), KL_F_appProtocol)), "dns");
        assert_int_equal(have, port == 8080 ? 2 : port == 9090 ? 1 : 0);
        sum += have;
    }
    assert_int_equal(sum, 3);
    free(list);
    fake_remove(h.f, PODS, "ns", "b");
    harness_run(2000);
    assert_int_equal(kl_len(kl_get(only_slice(), KL_F_endpoints)), 2);
}

static size_t endpoints_in_all(size_t *ret_slices)
{
    size_t n, sum = 0;
    struct kl_object **list = fake_list(h.f, SLICES, "ns", &n);
    for (size_t i = 0; i < n; i++) {
        size_t have = kl_len(kl_get(&list[i]->root, KL_F_endpoints));
        assert_true(have <= KL_SLICE_ENDPOINTS_MAX);
        sum += have;
    }
    free(list);
    *ret_slices = n;
    return sum;
}

static void many_pods_share_slices_and_a_change_writes_one(void **state)
{
    char name[20], ip[20];
    size_t n;
    for (int i = 0; i < 250; i++) {
        snprintf(name, sizeof(name), "p%d", i);
        snprintf(ip, sizeof(ip), "10.1.1.%d", i);
        apply_pod(name, ip, true, 8080);
    }
    apply_service("", "\"ports\":[" ONE_PORT "]");
    harness_run(3000);
    assert_int_equal(endpoints_in_all(&n), 250);
    assert_int_equal(n, 3);
    fake_reset_calls(h.f);
    fake_remove(h.f, PODS, "ns", "p17");
    harness_run(3000);
    assert_int_equal(endpoints_in_all(&n), 249);
    assert_int_equal(writes(), 1);
    fake_reset_calls(h.f);
    apply_pod("new", "10.1.2.1", true, 8080); // goes where it fits best
    harness_run(3000);
    assert_int_equal(endpoints_in_all(&n), 250);
    assert_int_equal(n, 3);
    assert_int_equal(writes(), 1);
    fake_reset_calls(h.f);
    apply_pod("p18", "10.1.1.18", false, 8080);
    harness_run(3000);
    assert_int_equal(writes(), 1);
}

static void traffic_may_stay_near(void **state)
{
    apply_service("", "\"trafficDistribution\":\"PreferSameNode\",\"ports\":[" ONE_PORT "]");
    apply_pod("p", "10.1.0.1", true, 8080);
    harness_run(2000);
    const struct kl_value *hints = kl_get(first_endpoint(), KL_F_hints);
    assert_text(kl_text(kl_get(kl_at(kl_get(hints, KL_F_forZones), 0), KL_F_name)), "z1");
    assert_text(kl_text(kl_get(kl_at(kl_get(hints, KL_F_forNodes), 0), KL_F_name)), "n1");
    fake_patch(h.f, SERVICES, "ns", "svc", NULL,
               "{\"spec\":{\"trafficDistribution\":"
               "\"PreferClose\"}}");
    harness_run(2000);
    hints = kl_get(first_endpoint(), KL_F_hints);
    assert_int_equal(kl_len(kl_get(hints, KL_F_forZones)), 1);
    assert_int_equal(kl_len(kl_get(hints, KL_F_forNodes)), 0);
    fake_patch(h.f, SERVICES, "ns", "svc", NULL, "{\"spec\":{\"trafficDistribution\":null}}");
    harness_run(2000);
    assert_null(kl_get(first_endpoint(), KL_F_hints));
}

static void both_families_have_slices(void **state)
{
    apply_service("", "\"ipFamilies\":[\"IPv4\",\"IPv6\"],\"ports\":[" ONE_PORT "]");
    apply_pod("p", "10.1.0.1", true, 8080);
    fake_patch(h.f, PODS, "ns", "p", "status",
               "{\"status\":{\"podIPs\":[{\"ip\":\"10.1.0.1\"},{\"ip\":\"fd00::1\"}]}}");
    harness_run(2000);
    size_t n;
    struct kl_object **list = fake_list(h.f, SLICES, "ns", &n);
    assert_int_equal(n, 2);
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *e = kl_at(kl_get(&list[i]->root, KL_F_endpoints), 0);
        bool v6 = kl_str_eqz(kl_text(kl_get(&list[i]->root, KL_F_addressType)), "IPv6");
        assert_endpoint(e, v6 ? "fd00::1 1 1 0" : "10.1.0.1 1 1 0");
    }
    free(list);
    fake_patch(h.f, SERVICES, "ns", "svc", NULL, "{\"spec\":{\"ipFamilies\":[\"IPv4\"]}}");
    harness_run(2000);
    assert_text(kl_text(kl_get(only_slice(), KL_F_addressType)), "IPv4");
}

static void what_others_change_is_put_right(void **state)
{
    apply_service("", "\"ports\":[" ONE_PORT "]");
    apply_pod("p", "10.1.0.1", true, 8080);
    fake_apply(h.f, "{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\","
                    "\"metadata\":{\"name\":\"by-hand\",\"namespace\":\"ns\",\"labels\":{"
                    "\"kubernetes.io/service-name\":\"svc\"}},\"addressType\":\"IPv4\","
                    "\"endpoints\":[{\"addresses\":[\"10.9.9.9\"]}]}");
    harness_run(3000);
    assert_non_null(fake_get(h.f, SLICES, "ns", "by-hand")); // not this controller's
    fake_remove(h.f, SLICES, "ns", "by-hand");
    char name[100];
    snprintf(name, sizeof(name), "%.*s", KL_PRI(kl_meta_name(only_slice())));
    fake_patch(h.f, SLICES, "ns", name, NULL, "{\"endpoints\":[]}");
    harness_run(3000);
    assert_endpoint(first_endpoint(), "10.1.0.1 1 1 0");
    fake_remove(h.f, SLICES, "ns", name);
    harness_run(3000);
    assert_endpoint(first_endpoint(), "10.1.0.1 1 1 0");
    // A Service of the same name is another one: it takes over no slice of the old one.
    snprintf(name, sizeof(name), "%.*s", KL_PRI(kl_meta_name(only_slice())));
    fake_remove(h.f, SERVICES, "ns", "svc");
    apply_service("", "\"ports\":[" ONE_PORT "]");
    harness_run(3000);
    assert_false(kl_str_eqz(kl_meta_name(only_slice()), name));
    assert_endpoint(first_endpoint(), "10.1.0.1 1 1 0");
}

static void a_pod_of_an_unknown_node_is_left_out(void **state)
{
    apply_service("", "\"ports\":[" ONE_PORT "]");
    apply_pod("p", "10.1.0.1", true, 8080);
    apply_pod("q", "10.1.0.2", true, 8080);
    fake_patch(h.f, PODS, "ns", "q", "any", "{\"spec\":{\"nodeName\":\"n2\"}}");
    harness_run(2000);
    assert_endpoint(first_endpoint(), "10.1.0.1 1 1 0");
    assert_true(fake_has_event(h.f, "svc", "Warning", "FailedToUpdateEndpointSlices",
                               "Error updating Endpoint Slices for Service ns/svc: skipping Pod q "
                               "for Service ns/svc: Node n2 Not Found"));
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"n2\"}}");
    harness_run(20000);
    assert_int_equal(kl_len(kl_get(only_slice(), KL_F_endpoints)), 2);
}

static int no_slices(void *arg, const char *user, const struct kl_call *call, struct kl_error *err)
{
    if (call->verb == *(enum kl_verb *)arg && call->res == SLICES)
        return kl_error_set(err, KL_EFORBIDDEN, "no");
    return 0;
}

static void a_refusal_is_told(void **state)
{
    enum kl_verb verb = KL_VERB_CREATE;
    char text[300];
    fake_on_call(h.f, no_slices, &verb);
    apply_service("", "\"ports\":[" ONE_PORT "]");
    harness_run(2000);
    assert_true(fake_has_event(h.f, "svc", "Warning", "FailedToUpdateEndpointSlices",
                               "Error updating Endpoint Slices for Service ns/svc: failed to "
                               "create EndpointSlice for Service ns/svc: no"));
    verb = KL_VERB_UPDATE;
    harness_run(4000);
    apply_pod("p", "10.1.0.1", true, 8080);
    harness_run(2000);
    snprintf(text, sizeof(text),
             "Error updating Endpoint Slices for Service ns/svc: failed to update %.*s "
             "EndpointSlice for Service ns/svc: no",
             KL_PRI(kl_meta_name(only_slice())));
    assert_true(fake_has_event(h.f, "svc", "Warning", "FailedToUpdateEndpointSlices", text));
    fake_on_call(h.f, NULL, NULL);
    harness_run(20000);
    assert_endpoint(first_endpoint(), "10.1.0.1 1 1 0");
}

static void services_without_a_selector_are_left_alone(void **state)
{
    apply_service("", "\"selector\":null");
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"ext\","
                    "\"namespace\":\"ns\"},\"spec\":{\"type\":\"ExternalName\",\"externalName\":"
                    "\"a.b\",\"selector\":{\"app\":\"web\"}}}");
    harness_run(3000);
    assert_int_equal(fake_count(h.f, SLICES, "ns"), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, harness_stop)
    const struct CMUnitTest tests[] = {
        T(endpoints_follow_their_pods),
        T(who_is_not_ready_may_be_published),
        T(pods_with_other_ports_have_slices_of_their_own),
        T(many_pods_share_slices_and_a_change_writes_one),
        T(traffic_may_stay_near),
        T(both_families_have_slices),
        T(what_others_change_is_put_right),
        T(a_pod_of_an_unknown_node_is_left_out),
        T(a_refusal_is_told),
        T(services_without_a_selector_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
