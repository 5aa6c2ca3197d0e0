// SPDX-License-Identifier: Apache-2.0
#include "client/informer.h"
#include "fake_client.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>

static struct kl_timers *ts;
static struct fake_cluster *f;
static struct kl_client *client;
static struct kl_informers *set;
static struct kl_informer *pods;
static struct kl_handler handler;
static int adds, updates, removes, syncs;

static void on_add(struct kl_handler *h, struct kl_object *o)
{
    adds++;
}

static void on_update(struct kl_handler *h, struct kl_object *old, struct kl_object *o)
{
    assert_false(kl_str_eq(kl_meta_rv(&old->root), kl_meta_rv(&o->root)));
    updates++;
}

static void on_remove(struct kl_handler *h, struct kl_object *o)
{
    removes++;
}

static void on_synced(struct kl_handler *h)
{
    syncs++;
}

static void add_pod(const char *name, const char *node)
{
    char json[512];
    snprintf(
        json, sizeof(json),
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s\","
        "\"namespace\":\"ns\"},\"spec\":{\"nodeName\":\"%s\",\"containers\":[{\"name\":\"c\"}]}}",
        name, node);
    fake_apply(f, json);
}

static int set_up(void **state)
{
    adds = updates = removes = syncs = 0;
    ts = kl_timers_new_virtual(0);
    f = fake_cluster_new(ts);
    client = fake_client_new(f, "test");
    set = kl_informers_new(client, ts);
    pods = kl_informers_get(set, kl_res(KL_RES_core_v1_pods));
    assert_ptr_equal(pods, kl_informers_get(set, kl_res(KL_RES_core_v1_pods)));
    assert_int_equal(kl_informer_add_index(pods, kl_index_node_name), 0);
    assert_int_equal(kl_informer_add_index(pods, kl_index_namespace), 1);
    assert_int_equal(kl_informer_add_index(pods, kl_index_node_name), 0);
    handler = (struct kl_handler){
        .add = on_add, .update = on_update, .remove = on_remove, .synced = on_synced};
    kl_informer_add_handler(pods, &handler);
    return 0;
}

static int tear_down(void **state)
{
    kl_informers_free(set);
    kl_client_free(client);
    fake_cluster_free(f);
    kl_timers_free(ts);
    return 0;
}

static size_t on_node(const char *node)
{
    size_t n;
    kl_informer_index(pods, 0, kl_str(node), &n);
    return n;
}

static void follows_a_cluster(void)
{
    add_pod("a", "n1");
    add_pod("b", "n1");
    add_pod("c", "n2");
    assert_int_equal(kl_informers_start(set), 0);
    assert_false(kl_informer_synced(pods));
    kl_timers_advance(ts, 100);
    assert_true(kl_informer_synced(pods));
    assert_int_equal(adds, 3);
    assert_int_equal(syncs, 1);
    assert_int_equal(on_node("n1"), 2);
    assert_int_equal(on_node("n2"), 1);
    assert_non_null(kl_informer_get(pods, KL_STR("ns"), KL_STR("a")));

    add_pod("a", "n2"); // replaces: moves in the index
    fake_remove(f, kl_res(KL_RES_core_v1_pods), "ns", "b");
    add_pod("d", "n3");
    kl_timers_advance(ts, 100);
    assert_int_equal(adds, 4);
    assert_int_equal(updates, 1);
    assert_int_equal(removes, 1);
    assert_int_equal(on_node("n1"), 0);
    assert_int_equal(on_node("n2"), 2);
    assert_null(kl_informer_get(pods, KL_STR("ns"), KL_STR("b")));
    assert_int_equal(kl_informer_len(pods), 3);
}

static void streams_its_list(void **state)
{
    follows_a_cluster();
    assert_int_equal(fake_calls(f, KL_VERB_LIST, kl_res(KL_RES_core_v1_pods), ""), 0);
}

static void lists_where_streams_are_refused(void **state)
{
    fake_refuse_streams(f);
    follows_a_cluster();
    assert_int_equal(fake_calls(f, KL_VERB_LIST, kl_res(KL_RES_core_v1_pods), ""), 1);
}

static void relists_without_repeating_itself(void **state)
{
    follows_a_cluster();
    adds = updates = removes = 0;
    fake_expire_watches(f);
    fake_remove(f, kl_res(KL_RES_core_v1_pods), "ns", "c");
    add_pod("e", "n1");
    kl_timers_advance(ts, 60000);
    assert_int_equal(adds, 1);
    assert_int_equal(updates, 0);
    assert_int_equal(removes, 1);
    assert_int_equal(syncs, 1);
    assert_int_equal(kl_informer_len(pods), 3);
}

static void a_late_handler_hears_of_everything(void **state)
{
    follows_a_cluster();
    struct kl_handler late = {.add = on_add, .synced = on_synced};
    adds = syncs = 0;
    kl_informer_add_handler(pods, &late);
    assert_int_equal(adds, 3);
    assert_int_equal(syncs, 1);
    kl_informer_remove_handler(pods, &late);
    add_pod("f", "n1");
    kl_timers_advance(ts, 100);
    assert_int_equal(adds, 4); // only the first handler's
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(streams_its_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lists_where_streams_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(relists_without_repeating_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_late_handler_hears_of_everything, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
