// SPDX-License-Identifier: Apache-2.0
#include "client/recorder.h"
#include "fake_client.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

static struct kl_timers *ts;
static struct fake_cluster *f;
static struct kl_client *client;
static struct kl_recorder *r;
static const struct kl_object_ref about = {
    .api_version = KL_STR_INIT("apps/v1"),
    .kind = KL_STR_INIT("ReplicaSet"),
    .ns = KL_STR_INIT("ns"),
    .name = KL_STR_INIT("web"),
    .uid = KL_STR_INIT("u1"),
    .rv = KL_STR_INIT("7"),
    .field_path = KL_STR_INIT(""),
};

static int set_up(void **state)
{
    ts = kl_timers_new_virtual((int64_t)1700000000 * 1000000);
    f = fake_cluster_new(ts);
    client = fake_client_new(f, "test");
    r = kl_recorder_new(client, ts, KL_STR("replicaset-controller"), KL_STR(""));
    return 0;
}

static int tear_down(void **state)
{
    kl_recorder_free(r);
    fake_on_call(f, NULL, NULL);
    fake_cluster_free(f);
    kl_client_free(client);
    kl_timers_free(ts);
    return 0;
}

static struct kl_object **events(size_t *n)
{
    kl_timers_advance(ts, 1000);
    return fake_list(f, kl_res(KL_RES_core_v1_events), "ns", n);
}

static void writes_what_upstream_writes(void **state)
{
    size_t n;
    kl_recorder_event(r, &about, "Normal", "SuccessfulCreate", KL_STR("Created pod: web-1"));
    struct kl_object **list = events(&n);
    assert_int_equal(n, 1);
    const struct kl_value *e = &list[0]->root;
    assert_true(kl_str_starts(kl_meta_name(e), KL_STR("web.17979cfe3"))); // 1.7e18 ns in hex
    assert_true(kl_str_eqz(kl_text_at(e, KL_F_involvedObject, KL_F_kind), "ReplicaSet"));
    assert_true(kl_str_eqz(kl_text_at(e, KL_F_involvedObject, KL_F_uid), "u1"));
    assert_true(kl_str_eqz(kl_text_at(e, KL_F_source, KL_F_component), "replicaset-controller"));
    assert_true(kl_str_eqz(kl_text_at(e, KL_F_reportingComponent), "replicaset-controller"));
    assert_int_equal(kl_int_at(e, 0, KL_F_count), 1);
    assert_int_equal(kl_int_at(e, 0, KL_F_firstTimestamp), (int64_t)1700000000 * 1000000);
    free(list);
}

static void equal_events_become_a_count(void **state)
{
    size_t n;
    // The second is told before the first is written.
    kl_recorder_event(r, &about, "Normal", "Same", KL_STR("again"));
    kl_recorder_event(r, &about, "Normal", "Same", KL_STR("again"));
    kl_timers_advance(ts, 5000);
    kl_recorder_event(r, &about, "Normal", "Same", KL_STR("again"));
    struct kl_object **list = events(&n);
    assert_int_equal(n, 1);
    assert_int_equal(kl_int_at(&list[0]->root, 0, KL_F_count), 3);
    assert_int_equal(kl_int_at(&list[0]->root, 0, KL_F_lastTimestamp) -
                         kl_int_at(&list[0]->root, 0, KL_F_firstTimestamp),
                     5000000);
    free(list);
    assert_int_equal(fake_calls(f, KL_VERB_PATCH, kl_res(KL_RES_core_v1_events), ""), 2);
}

static void similar_events_are_combined(void **state)
{
    size_t n;
    for (int i = 0; i < 15; i++)
        kl_recorder_eventf(r, &about, "Normal", "SuccessfulCreate", "Created pod: web-%d", i);
    struct kl_object **list = events(&n);
    assert_int_equal(n, 10); // nine as they are, the rest in one
    free(list);
    assert_true(fake_has_event(f, "web", "Normal", "SuccessfulCreate",
                               "(combined from similar events): Created pod: web-14"));
}

static void spam_is_dropped(void **state)
{
    for (int i = 0; i < 60; i++)
        kl_recorder_event(r, &about, "Warning", "BackOff", KL_STR("spam"));
    kl_timers_advance(ts, 1000);
    assert_int_equal(kl_recorder_dropped(r), 35);
    kl_timers_advance(ts, 300 * 1000); // one token
    kl_recorder_event(r, &about, "Warning", "BackOff", KL_STR("spam"));
    kl_recorder_event(r, &about, "Warning", "BackOff", KL_STR("spam"));
    assert_int_equal(kl_recorder_dropped(r), 36);
}

static int unavailable;
static int refuse(void *arg, const char *user, const struct kl_call *call, struct kl_error *err)
{
    return unavailable-- > 0 ? kl_error_set(err, KL_EUNAVAILABLE, "down") : 0;
}

static void waits_for_a_server_that_is_down(void **state)
{
    unavailable = 3;
    fake_on_call(f, refuse, NULL);
    kl_recorder_event(r, &about, "Normal", "Late", KL_STR("but there"));
    kl_timers_advance(ts, 29000);
    assert_int_equal(fake_count(f, kl_res(KL_RES_core_v1_events), "ns"), 0);
    kl_timers_advance(ts, 2000);
    assert_true(fake_has_event(f, "web", "Normal", "Late", "but there"));
}

static void an_expired_event_begins_anew(void **state)
{
    size_t n;
    kl_recorder_event(r, &about, "Normal", "Same", KL_STR("again"));
    struct kl_object **list = events(&n);
    char name[300] = {0};
    memcpy(name, kl_meta_name(&list[0]->root).p, kl_meta_name(&list[0]->root).n);
    free(list);
    fake_remove(f, kl_res(KL_RES_core_v1_events), "ns", name);
    kl_recorder_event(r, &about, "Normal", "Same", KL_STR("again"));
    list = events(&n);
    assert_int_equal(n, 1);
    free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(writes_what_upstream_writes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(equal_events_become_a_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(similar_events_are_combined, set_up, tear_down),
        cmocka_unit_test_setup_teardown(spam_is_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(waits_for_a_server_that_is_down, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_expired_event_begins_anew, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
