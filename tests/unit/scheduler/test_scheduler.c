// SPDX-License-Identifier: Apache-2.0
#include "scheduler/scheduler.h"
#include "client/helpers.h"
#include "fake_client.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>

#define PODS kl_res(KL_RES_core_v1_pods)
#define NODES kl_res(KL_RES_core_v1_nodes)

static struct kl_timers *ts;
static struct fake_cluster *f;
static struct kl_client *client;
static struct kl_scheduler *s;

static int set_up(void **state)
{
    ts = kl_timers_new_virtual((int64_t)1700000000 * 1000000);
    f = fake_cluster_new(ts);
    client = fake_client_new(f, "system:kube-scheduler");
    struct kl_scheduler_options o = {.timers = ts, .seed = 1};
    assert_int_equal(kl_scheduler_start(NULL, client, &o, &s, NULL), 0);
    kl_timers_advance(ts, 50);
    return 0;
}

static int tear_down(void **state)
{
    kl_scheduler_stop(s);
    fake_cluster_free(f);
    kl_client_free(client);
    kl_timers_free(ts);
    return 0;
}

static void add_node(const char *name, int cpu)
{
    char json[512];
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"%s\"},\"status\":{"
             "\"allocatable\":{\"cpu\":\"%d\",\"memory\":\"8Gi\",\"pods\":\"110\"}}}",
             name, cpu);
    fake_apply(f, json);
}

static void add_pod(const char *name, int cpu, const char *more)
{
    char json[768];
    snprintf(json, sizeof(json),
             "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s\",\"namespace\":"
             "\"ns\"},\"spec\":{%s\"containers\":[{\"name\":\"c\",\"resources\":{\"requests\":{"
             "\"cpu\":\"%d\"}}}]}}",
             name, more, cpu);
    fake_apply(f, json);
}

static void expect_on(const char *pod, const char *node)
{
    struct kl_object *o = fake_get(f, PODS, "ns", pod);
    assert_non_null(o);
    struct kl_str got = kl_text_at(&o->root, KL_F_spec, KL_F_nodeName);
    if (!kl_str_eqz(got, node))
        fail_msg("%s is on \"%.*s\", expected \"%s\"", pod, KL_PRI(got), node);
}

static void binds_and_says_so(void **state)
{
    add_node("n", 4);
    add_pod("a", 1, "");
    kl_timers_advance(ts, 50);
    expect_on("a", "n");
    assert_true(fake_has_event(f, "a", "Normal", "Scheduled", "Successfully assigned ns/a to n"));
    assert_true(kl_scheduler_idle(s));
}

static void says_why_not_and_comes_back(void **state)
{
    static const char why[] =
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: "
        "0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    add_node("n", 2);
    add_pod("a", 2, "");
    kl_timers_advance(ts, 50);
    add_pod("b", 1, "");
    kl_timers_advance(ts, 50);
    expect_on("b", "");
    assert_true(fake_has_event(f, "b", "Warning", "FailedScheduling", why));
    const struct kl_value *c = kl_condition_find(
        kl_path(&fake_get(f, PODS, "ns", "b")->root, KL_F_status, KL_F_conditions), "PodScheduled");
    assert_non_null(c);
    assert_true(kl_str_eqz(kl_text(kl_get(c, KL_F_status)), "False"));
    assert_true(kl_str_eqz(kl_text(kl_get(c, KL_F_reason)), "Unschedulable"));
    assert_true(kl_str_eqz(kl_text(kl_get(c, KL_F_message)), why));
    // The status it wrote itself is no reason to try again.
    struct kl_scheduler_stats stats;
    kl_timers_advance(ts, 60000);
    kl_scheduler_get_stats(s, &stats);
    assert_int_equal(stats.attempts, 2);
    assert_int_equal(stats.unschedulable, 1);
    fake_remove(f, PODS, "ns", "a");
    kl_timers_advance(ts, 50);
    expect_on("b", "n");
}

static void without_nodes(void **state)
{
    add_pod("a", 1, "");
    kl_timers_advance(ts, 50);
    assert_true(fake_has_event(f, "a", "Warning", "FailedScheduling",
                               "no nodes available to schedule pods"));
    kl_timers_advance(ts, 2000);
    add_node("n", 2);
    kl_timers_advance(ts, 50);
    expect_on("a", "n");
}

static void assumed_pods_count_at_once(void **state)
{
    char name[24];
    add_node("n", 4);
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof(name), "p%d", i);
        add_pod(name, 1, "");
    }
    kl_timers_advance(ts, 100);
    int bound = 0;
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof(name), "p%d", i);
        struct kl_object *o = fake_get(f, PODS, "ns", name);
        bound += kl_text_at(&o->root, KL_F_spec, KL_F_nodeName).n != 0;
    }
    assert_int_equal(bound, 4);
    assert_int_equal(fake_calls(f, KL_VERB_CREATE, PODS, "binding"), 4);
}

static int refusals;
static int refuse(void *arg, const char *user, const struct kl_call *call, struct kl_error *err)
{
    if (call->sub && strcmp(call->sub, "binding") == 0 && refusals-- > 0)
        return kl_error_set(err, KL_EINTERNAL, "no");
    return 0;
}

static void a_failed_binding_is_tried_again(void **state)
{
    refusals = 1;
    fake_on_call(f, refuse, NULL);
    add_node("n", 1);
    add_pod("a", 1, "");
    kl_timers_advance(ts, 50);
    expect_on("a", "");
    assert_true(fake_has_event(f, "a", "Warning", "FailedScheduling", "binding rejected: no"));
    kl_timers_advance(ts, 1100);
    expect_on("a", "n"); // its place was given back
}

static void gated_and_foreign_pods_are_left_alone(void **state)
{
    add_node("n", 4);
    add_pod("gated", 1, "\"schedulingGates\":[{\"name\":\"g\"}],");
    add_pod("foreign", 1, "\"schedulerName\":\"mine\",");
    kl_timers_advance(ts, 10000);
    expect_on("gated", "");
    expect_on("foreign", "");
    fake_patch(f, PODS, "ns", "gated", NULL, "{\"spec\":{\"schedulingGates\":null}}");
    kl_timers_advance(ts, 50);
    expect_on("gated", "n");
}

static void pods_that_have_ended_free_their_place(void **state)
{
    add_node("n", 1);
    add_pod("a", 1, "");
    kl_timers_advance(ts, 50);
    add_pod("b", 1, "");
    kl_timers_advance(ts, 2000);
    expect_on("b", "");
    fake_patch(f, PODS, "ns", "a", "status", "{\"status\":{\"phase\":\"Succeeded\"}}");
    kl_timers_advance(ts, 50);
    expect_on("b", "n");
}

static void uncordoning_helps(void **state)
{
    add_node("n", 1);
    fake_patch(f, NODES, "", "n", NULL, "{\"spec\":{\"unschedulable\":true}}");
    add_pod("a", 1, "");
    kl_timers_advance(ts, 5000);
    expect_on("a", "");
    fake_patch(f, NODES, "", "n", NULL, "{\"spec\":{\"unschedulable\":false}}");
    kl_timers_advance(ts, 50);
    expect_on("a", "n");
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(binds_and_says_so),
        T(says_why_not_and_comes_back),
        T(without_nodes),
        T(assumed_pods_count_at_once),
        T(a_failed_binding_is_tried_again),
        T(gated_and_foreign_pods_are_left_alone),
        T(pods_that_have_ended_free_their_place),
        T(uncordoning_helps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
