// SPDX-License-Identifier: Apache-2.0
#include "harness.h"
#include "client/helpers.h"
#include <stdio.h>
#include <stdlib.h>

#define MAPS kl_res(KL_RES_core_v1_configmaps)

static int set_up(void **state)
{
    harness_start("garbage-collector");
    return 0;
}

static const char *uid_of(const char *name)
{
    static char uid[64];
    struct kl_object *o = fake_get(h.f, MAPS, "ns", name);
    assert_non_null(o);
    snprintf(uid, sizeof(uid), "%.*s", KL_PRI(kl_meta_uid(&o->root)));
    return uid;
}

static void add_map(const char *ns, const char *name, const char *owner, const char *owner_uid,
                    bool block)
{
    char json[1024];
    int n = snprintf(json, sizeof(json),
                     "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"%s\","
                     "\"namespace\":\"%s\"",
                     name, ns);
    if (owner)
        n += snprintf(json + n, sizeof(json) - (size_t)n,
                      ",\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\","
                      "\"name\":\"%s\",\"uid\":\"%s\",\"blockOwnerDeletion\":%s}]",
                      owner, owner_uid ? owner_uid : uid_of(owner), block ? "true" : "false");
    snprintf(json + n, sizeof(json) - (size_t)n, "}}");
    fake_apply(h.f, json);
}

// owner ← a, b; a ← leaf
static void make_family(bool block)
{
    add_map("ns", "owner", NULL, NULL, false);
    add_map("ns", "a", "owner", NULL, block);
    add_map("ns", "b", "owner", NULL, block);
    add_map("ns", "leaf", "a", NULL, block);
    harness_run(1000);
    assert_int_equal(fake_count(h.f, MAPS, "ns"), 4);
}

static void background(void **state)
{
    make_family(true);
    fake_delete(h.f, MAPS, "ns", "owner", KL_PROPAGATE_BACKGROUND);
    assert_null(fake_get(h.f, MAPS, "ns", "owner")); // at once, before its dependents
    assert_int_equal(fake_count(h.f, MAPS, "ns"), 3);
    harness_run(1000);
    assert_int_equal(fake_count(h.f, MAPS, "ns"), 0);
}

static void foreground_waits_for_those_that_block(void **state)
{
    make_family(true);
    fake_patch(h.f, MAPS, "ns", "leaf", NULL, "{\"metadata\":{\"finalizers\":[\"x.io/hold\"]}}");
    fake_delete(h.f, MAPS, "ns", "owner", KL_PROPAGATE_FOREGROUND);
    harness_run(2000);
    assert_null(fake_get(h.f, MAPS, "ns", "b"));
    assert_true(kl_meta_deleting(&fake_get(h.f, MAPS, "ns", "leaf")->root));
    assert_true(kl_meta_deleting(&fake_get(h.f, MAPS, "ns", "a")->root));
    assert_non_null(fake_get(h.f, MAPS, "ns", "owner"));
    fake_patch(h.f, MAPS, "ns", "leaf", NULL, "{\"metadata\":{\"finalizers\":null}}");
    harness_run(2000);
    assert_int_equal(fake_count(h.f, MAPS, "ns"), 0);
}

static void foreground_does_not_wait_for_the_others(void **state)
{
    add_map("ns", "owner", NULL, NULL, false);
    add_map("ns", "a", "owner", NULL, false);
    fake_patch(h.f, MAPS, "ns", "a", NULL, "{\"metadata\":{\"finalizers\":[\"x.io/hold\"]}}");
    harness_run(1000);
    fake_delete(h.f, MAPS, "ns", "owner", KL_PROPAGATE_FOREGROUND);
    harness_run(2000);
    assert_null(fake_get(h.f, MAPS, "ns", "owner"));
    assert_true(kl_meta_deleting(&fake_get(h.f, MAPS, "ns", "a")->root));
}

static void orphan(void **state)
{
    make_family(true);
    fake_delete(h.f, MAPS, "ns", "owner", KL_PROPAGATE_ORPHAN);
    harness_run(2000);
    assert_null(fake_get(h.f, MAPS, "ns", "owner"));
    struct kl_object *a = fake_get(h.f, MAPS, "ns", "a");
    assert_non_null(a);
    assert_non_null(fake_get(h.f, MAPS, "ns", "leaf"));
    assert_int_equal(kl_len(kl_path(&a->root, KL_F_metadata, KL_F_ownerReferences)), 0);
    harness_run(60000);
    assert_int_equal(fake_count(h.f, MAPS, "ns"), 3);
}

static void an_owner_that_never_was(void **state)
{
    add_map("ns", "lost", "nobody", "uid-nobody", false);
    harness_run(1000);
    assert_null(fake_get(h.f, MAPS, "ns", "lost"));
}

static void an_owner_of_another_uid(void **state)
{
    add_map("ns", "owner", NULL, NULL, false);
    add_map("ns", "lost", "owner", "uid-of-its-predecessor", false);
    harness_run(1000);
    assert_null(fake_get(h.f, MAPS, "ns", "lost"));
    assert_non_null(fake_get(h.f, MAPS, "ns", "owner"));
}

static void one_of_two_owners_is_enough(void **state)
{
    char patch[512], first[64];
    add_map("ns", "one", NULL, NULL, false);
    add_map("ns", "two", NULL, NULL, false);
    add_map("ns", "child", "one", NULL, false);
    snprintf(first, sizeof(first), "%s", uid_of("one"));
    snprintf(patch, sizeof(patch),
             "{\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\","
             "\"name\":\"one\",\"uid\":\"%s\"},{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\","
             "\"name\":\"two\",\"uid\":\"%s\"}]}}",
             first, uid_of("two"));
    fake_patch(h.f, MAPS, "ns", "child", NULL, patch);
    harness_run(1000);
    fake_delete(h.f, MAPS, "ns", "one", KL_PROPAGATE_BACKGROUND);
    harness_run(1000);
    struct kl_object *child = fake_get(h.f, MAPS, "ns", "child");
    assert_non_null(child);
    const struct kl_value *refs = kl_path(&child->root, KL_F_metadata, KL_F_ownerReferences);
    assert_int_equal(kl_len(refs), 1); // the dangling one was struck
    assert_text(kl_text(kl_get(kl_at(refs, 0), KL_F_name)), "two");
    fake_delete(h.f, MAPS, "ns", "two", KL_PROPAGATE_BACKGROUND);
    harness_run(1000);
    assert_null(fake_get(h.f, MAPS, "ns", "child"));
}

static void an_owner_in_another_namespace_does_not_count(void **state)
{
    char text[400], uid[64];
    add_map("ns", "owner", NULL, NULL, false);
    snprintf(uid, sizeof(uid), "%s", uid_of("owner"));
    harness_run(1000);
    add_map("elsewhere", "child", "owner", uid, false);
    harness_run(1000);
    assert_null(fake_get(h.f, MAPS, "elsewhere", "child"));
    snprintf(text, sizeof(text),
             "ownerRef [v1/ConfigMap, namespace: elsewhere, name: owner, uid: %s] does not exist "
             "in namespace \"elsewhere\"",
             uid);
    assert_true(fake_has_event(h.f, "child", "Warning", "OwnerRefInvalidNamespace", text));
}

static void nothing_is_collected_without_reason(void **state)
{
    make_family(true);
    fake_reset_calls(h.f);
    fake_expire_watches(h.f);
    harness_run(3600000);
    assert_int_equal(fake_count(h.f, MAPS, "ns"), 4);
    assert_int_equal(fake_calls(h.f, KL_VERB_DELETE, MAPS, ""), 0);
    // What went while the watch was gone is noticed by the relist.
    fake_expire_watches(h.f);
    fake_remove(h.f, MAPS, "ns", "a");
    harness_run(60000);
    assert_null(fake_get(h.f, MAPS, "ns", "leaf"));
    assert_non_null(fake_get(h.f, MAPS, "ns", "b"));
}

static void a_ring_in_foreground_deletion_ends(void **state)
{
    char patch[512], a[64];
    add_map("ns", "a", NULL, NULL, false);
    add_map("ns", "b", "a", NULL, true);
    snprintf(a, sizeof(a), "%s", uid_of("b"));
    snprintf(patch, sizeof(patch),
             "{\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\","
             "\"name\":\"b\",\"uid\":\"%s\",\"blockOwnerDeletion\":true}]}}",
             a);
    fake_patch(h.f, MAPS, "ns", "a", NULL, patch);
    harness_run(1000);
    fake_delete(h.f, MAPS, "ns", "a", KL_PROPAGATE_FOREGROUND);
    harness_run(30000);
    assert_int_equal(fake_count(h.f, MAPS, "ns"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(background, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(foreground_waits_for_those_that_block, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(foreground_does_not_wait_for_the_others, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(orphan, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(an_owner_that_never_was, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(an_owner_of_another_uid, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(one_of_two_owners_is_enough, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(an_owner_in_another_namespace_does_not_count, set_up,
                                        harness_stop),
        cmocka_unit_test_setup_teardown(nothing_is_collected_without_reason, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(a_ring_in_foreground_deletion_ends, set_up, harness_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
