// SPDX-License-Identifier: Apache-2.0
#include "scheduler/schedule.h"
#include "base/clock.h"
#include "object/json.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

static struct kl_cache cache;
static struct kl_arena arena;
static size_t next_start;
static uint64_t seed;

static int set_up(void **state)
{
    kl_cache_init(&cache);
    kl_arena_init(&arena, 0);
    next_start = 0;
    seed = 7;
    return 0;
}

static int tear_down(void **state)
{
    kl_cache_fini(&cache);
    kl_arena_fini(&arena);
    return 0;
}

static struct kl_object *object(uint16_t res, const char *json)
{
    struct kl_value draft;
    struct kl_error err = {0};
    struct kl_str text = kl_arena_dup(&arena, kl_str(json));
    if (kl_json_decode(&arena, kl_res(res)->type, text, NULL, &draft, &err) < 0)
        fail_msg("%s in %s", err.msg, json);
    return kl_object_freeze(kl_res(res)->type, &draft);
}

static void add_node(const char *name, const char *labels, const char *spec, int cpu, int memory_mi,
                     int pods)
{
    char json[1024];
    snprintf(json, sizeof(json),
             "{\"metadata\":{\"name\":\"%s\",\"labels\":{%s}},\"spec\":{%s},\"status\":{"
             "\"allocatable\":{\"cpu\":\"%d\",\"memory\":\"%dMi\",\"pods\":\"%d\","
             "\"ephemeral-storage\":\"10Gi\",\"example.com/gpu\":\"2\"}}}",
             name, labels, spec, cpu, memory_mi, pods);
    struct kl_object *o = object(KL_RES_core_v1_nodes, json);
    assert_int_equal(kl_cache_set_node(&cache, o), 0);
    kl_object_unref(o);
}

static struct kl_pod_info *pod(const char *spec)
{
    static int uid;
    char json[2048];
    snprintf(json, sizeof(json),
             "{\"metadata\":{\"name\":\"p\",\"namespace\":\"ns\",\"uid\":\"u%d\"},\"spec\":{%s}}",
             ++uid, spec);
    struct kl_object *o = object(KL_RES_core_v1_pods, json);
    struct kl_pod_info *p = kl_pod_info_new(o);
    kl_object_unref(o);
    assert_non_null(p);
    return p;
}

#define ASKS(cpu, memory)                                                                          \
    "\"containers\":[{\"name\":\"c\",\"resources\":{\"requests\":{\"cpu\":\"" cpu                  \
    "\",\"memory\":\"" memory "\"}}}]"

static struct kl_schedule_result schedule(struct kl_pod_info *p)
{
    struct kl_schedule_opts o = {.next_start = &next_start, .random = &seed};
    struct kl_schedule_result r;
    assert_int_equal(kl_schedule(&arena, &cache, p, &o, &r), 0);
    return r;
}

static void expect_node(const char *spec, const char *node)
{
    struct kl_pod_info *p = pod(spec);
    struct kl_schedule_result r = schedule(p);
    if (!r.node)
        fail_msg("no node: %.*s", KL_PRI(r.message));
    if (!kl_str_eqz(r.node->name, node))
        fail_msg("got %.*s, expected %s", KL_PRI(r.node->name), node);
    kl_pod_info_free(p);
}

static void expect_none(const char *spec, uint32_t rejected_by, const char *message)
{
    struct kl_pod_info *p = pod(spec);
    struct kl_schedule_result r = schedule(p);
    assert_null(r.node);
    if (!kl_str_eqz(r.message, message))
        fail_msg("got      \"%.*s\"\nexpected \"%s\"", KL_PRI(r.message), message);
    assert_int_equal(r.rejected_by, rejected_by);
    kl_pod_info_free(p);
}

static void no_nodes(void **state)
{
    expect_none(ASKS("1", "1Mi"), ~0u, "no nodes available to schedule pods");
}

#define NO_VICTIMS(n)                                                                              \
    " no new claims to deallocate, preemption: 0/" n " nodes are available: " n                    \
    " No preemption victims found for incoming pod."
#define NO_HELP(n)                                                                                 \
    " no new claims to deallocate, preemption: 0/" n " nodes are available: " n                    \
    " Preemption is not helpful for scheduling."

static void full_nodes(void **state)
{
    add_node("a", "", "", 2, 1000, 10);
    struct kl_pod_info *p = pod(ASKS("1500m", "10Mi"));
    assert_int_equal(kl_cache_assume(&cache, p, kl_cache_node(&cache, KL_STR("a"))), 0);
    expect_none(ASKS("1", "10Mi"), 1u << KL_PLUGIN_RESOURCES,
                "0/1 nodes are available: 1 Insufficient cpu." NO_VICTIMS("1"));
    // More than the whole node has: nobody's leaving could help.
    expect_none(ASKS("3", "2000Mi"), 1u << KL_PLUGIN_RESOURCES,
                "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory." NO_HELP("1"));
    expect_node(ASKS("500m", "10Mi"), "a");
    kl_cache_forget(&cache, p->uid);
    expect_node(ASKS("2", "10Mi"), "a");
}

static void reasons_are_counted_and_sorted(void **state)
{
    add_node("a", "", "\"unschedulable\":true", 4, 1000, 10);
    add_node("b", "", "\"taints\":[{\"key\":\"k\",\"value\":\"v\",\"effect\":\"NoSchedule\"}]", 4,
             1000, 10);
    add_node("c", "", "\"taints\":[{\"key\":\"k\",\"value\":\"v\",\"effect\":\"NoExecute\"}]", 4,
             1000, 10);
    add_node("d", "", "", 4, 1000, 0);
    expect_none(ASKS("1", "1Mi"),
                1u << KL_PLUGIN_NODE_UNSCHEDULABLE | 1u << KL_PLUGIN_TAINTS |
                    1u << KL_PLUGIN_RESOURCES,
                "0/4 nodes are available: 1 Too many pods, 1 node(s) were unschedulable, 2 node(s) "
                "had untolerated taint(s). no new claims to deallocate, preemption: 0/4 nodes are "
                "available: 1 No preemption victims found for incoming pod, 3 Preemption is not "
                "helpful for scheduling.");
}

static void tolerations(void **state)
{
    add_node("a", "", "\"taints\":[{\"key\":\"k\",\"value\":\"v\",\"effect\":\"NoSchedule\"}]", 4,
             1000, 10);
    expect_node("\"tolerations\":[{\"key\":\"k\",\"operator\":\"Equal\",\"value\":\"v\"}]", "a");
    expect_node("\"tolerations\":[{\"key\":\"k\",\"operator\":\"Exists\",\"effect\":"
                "\"NoSchedule\"}]",
                "a");
    expect_node("\"tolerations\":[{\"operator\":\"Exists\"}]", "a");
    expect_none("\"tolerations\":[{\"key\":\"k\",\"value\":\"w\"}]", 1u << KL_PLUGIN_TAINTS,
                "0/1 nodes are available: 1 node(s) had untolerated taint(s)." NO_HELP("1"));
    expect_none("\"tolerations\":[{\"key\":\"k\",\"operator\":\"Exists\",\"effect\":"
                "\"NoExecute\"}]",
                1u << KL_PLUGIN_TAINTS,
                "0/1 nodes are available: 1 node(s) had untolerated taint(s)." NO_HELP("1"));
}

#define REQUIRED(expr)                                                                             \
    "\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{"         \
    "\"nodeSelectorTerms\":[" expr "]}}}"

static void selectors_and_affinity(void **state)
{
    add_node("a", "\"disk\":\"ssd\",\"n\":\"5\"", "", 4, 1000, 10);
    add_node("b", "\"disk\":\"hdd\"", "", 4, 1000, 10);
    expect_node("\"nodeSelector\":{\"disk\":\"ssd\"}", "a");
    expect_node(REQUIRED("{\"matchExpressions\":[{\"key\":\"disk\",\"operator\":\"NotIn\","
                         "\"values\":[\"ssd\"]}]}"),
                "b");
    expect_node(REQUIRED("{\"matchExpressions\":[{\"key\":\"n\",\"operator\":\"Gt\",\"values\":["
                         "\"4\"]}]}"),
                "a");
    expect_node(REQUIRED("{},{\"matchFields\":[{\"key\":\"metadata.name\",\"operator\":\"In\","
                         "\"values\":[\"b\"]}]}"),
                "b");
    expect_none("\"nodeSelector\":{\"disk\":\"tape\"}", 1u << KL_PLUGIN_NODE_AFFINITY,
                "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
                " no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption "
                "is not helpful for scheduling.");
    for (int i = 0; i < 10; i++)
        expect_node("\"affinity\":{\"nodeAffinity\":{"
                    "\"preferredDuringSchedulingIgnoredDuringExecution\":[{\"weight\":1,"
                    "\"preference\":{\"matchExpressions\":[{\"key\":\"disk\",\"operator\":\"In\","
                    "\"values\":[\"hdd\"]}]}}]}}",
                    "b");
}

static void host_ports(void **state)
{
    add_node("a", "", "", 4, 1000, 10);
    const char *port = "\"containers\":[{\"name\":\"c\",\"ports\":[{\"hostPort\":80,\"protocol\":"
                       "\"TCP\"}]}]";
    struct kl_pod_info *p = pod(port);
    assert_int_equal(kl_cache_assume(&cache, p, kl_cache_node(&cache, KL_STR("a"))), 0);
    expect_none(port, 1u << KL_PLUGIN_NODE_PORTS,
                "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod "
                "ports." NO_VICTIMS("1"));
    expect_node("\"containers\":[{\"name\":\"c\",\"ports\":[{\"hostPort\":80,\"protocol\":\"UDP\"}]"
                "}]",
                "a");
}

static void requests_add_up_as_upstream(void **state)
{
    struct kl_pod_info *p = pod(
        "\"overhead\":{\"cpu\":\"10m\"},\"containers\":[{\"name\":\"a\",\"resources\":{"
        "\"requests\":"
        "{\"cpu\":\"100m\",\"memory\":\"100Mi\",\"example.com/gpu\":\"1\"}}},{\"name\":\"b\","
        "\"resources\":{\"requests\":{\"cpu\":\"200m\"}}}],\"initContainers\":[{\"name\":\"i\","
        "\"resources\":{\"requests\":{\"cpu\":\"50m\",\"memory\":\"300Mi\"}}},{\"name\":\"side\","
        "\"restartPolicy\":\"Always\",\"resources\":{\"requests\":{\"cpu\":\"30m\",\"memory\":"
        "\"20Mi\"}}},{\"name\":\"late\",\"resources\":{\"requests\":{\"cpu\":\"400m\"}}}]");
    // containers and sidecar: 330m; late with the sidecar: 430m; overhead: 10m
    assert_int_equal(p->requests.cpu_milli, 440);
    assert_int_equal(p->requests.memory, (int64_t)300 << 20);
    assert_int_equal(kl_node_amounts_get(&p->requests, KL_STR("example.com/gpu")), 1);
    kl_pod_info_free(p);
    p = pod("\"resources\":{\"requests\":{\"cpu\":\"2\"}}," ASKS("1", "1Mi"));
    assert_int_equal(p->requests.cpu_milli, 2000);
    kl_pod_info_free(p);
}

static void scalars_are_counted(void **state)
{
    const char *gpu = "\"containers\":[{\"name\":\"c\",\"resources\":{\"requests\":{"
                      "\"example.com/gpu\":\"2\"}}}]";
    add_node("a", "", "", 4, 1000, 10);
    struct kl_pod_info *p = pod(gpu);
    assert_int_equal(kl_cache_assume(&cache, p, kl_cache_node(&cache, KL_STR("a"))), 0);
    expect_none(gpu, 1u << KL_PLUGIN_RESOURCES,
                "0/1 nodes are available: 1 Insufficient example.com/gpu." NO_VICTIMS("1"));
    assert_true(kl_cache_remove_pod(&cache, p->uid));
    expect_node(gpu, "a");
}

static void packing_spreads_and_fills_up(void **state)
{
    char name[24];
    int taken[4] = {0};
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        add_node(name, "", "", 4, 4000, 110);
    }
    for (int i = 0; i < 16; i++) {
        struct kl_pod_info *p = pod(ASKS("1", "500Mi"));
        struct kl_schedule_result r = schedule(p);
        assert_non_null(r.node);
        taken[r.node->name.p[1] - '0']++;
        assert_int_equal(kl_cache_assume(&cache, p, r.node), 0);
        if (i == 3) { // one each so far: the least allocated comes first
            for (int k = 0; k < 4; k++)
                assert_int_equal(taken[k], 1);
        }
    }
    for (int k = 0; k < 4; k++)
        assert_int_equal(taken[k], 4);
    expect_none(ASKS("1", "500Mi"), 1u << KL_PLUGIN_RESOURCES,
                "0/4 nodes are available: 4 Insufficient cpu." NO_VICTIMS("4"));
}

static void a_large_cluster_is_sampled(void **state)
{
    char name[24];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        add_node(name, "", "", 4, 4000, 110);
    }
    struct kl_pod_info *p = pod(ASKS("1", "500Mi"));
    struct kl_schedule_result r = schedule(p);
    assert_int_equal(r.feasible, 420); // 50 - 1000/125 percent
    assert_int_equal(next_start, 420);
    int64_t began = kl_mono_ns();
    for (int i = 0; i < 100; i++) {
        kl_arena_reset(&arena);
        schedule(p);
    }
    print_message("filter and score 420 of 1000 nodes: %lld us a pod\n",
                  (long long)((kl_mono_ns() - began) / 100000));
    kl_pod_info_free(p);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(no_nodes),
        T(full_nodes),
        T(reasons_are_counted_and_sorted),
        T(tolerations),
        T(selectors_and_affinity),
        T(host_ports),
        T(requests_add_up_as_upstream),
        T(scalars_are_counted),
        T(packing_spreads_and_fills_up),
        T(a_large_cluster_is_sampled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
