// SPDX-License-Identifier: Apache-2.0
#include "harness.h"

#define ACCOUNTS kl_res(KL_RES_core_v1_serviceaccounts)
#define MAPS kl_res(KL_RES_core_v1_configmaps)

static int set_up(void **state)
{
    harness_start("serviceaccount,root-ca-certificate-publisher");
    fake_apply(h.f, "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"a\"}}");
    harness_run(1000);
    return 0;
}

static void each_namespace_gets_them(void **state)
{
    assert_non_null(fake_get(h.f, ACCOUNTS, "a", "default"));
    struct kl_object *map = fake_get(h.f, MAPS, "a", "kube-root-ca.crt");
    assert_non_null(map);
    assert_text(kl_text(kl_map_value(kl_get(&map->root, KL_F_data), KL_STR("ca.crt"))), "the CA");
}

static void they_are_put_back(void **state)
{
    fake_remove(h.f, ACCOUNTS, "a", "default");
    fake_remove(h.f, MAPS, "a", "kube-root-ca.crt");
    harness_run(1000);
    each_namespace_gets_them(state);
    fake_patch(h.f, MAPS, "a", "kube-root-ca.crt", NULL, "{\"data\":{\"ca.crt\":\"forged\"}}");
    harness_run(1000);
    each_namespace_gets_them(state);
}

static void not_where_the_namespace_is_going_away(void **state)
{
    fake_delete(h.f, NAMESPACES, "", "a", KL_PROPAGATE_DEFAULT);
    fake_remove(h.f, ACCOUNTS, "a", "default");
    fake_remove(h.f, MAPS, "a", "kube-root-ca.crt");
    harness_run(1000);
    assert_null(fake_get(h.f, ACCOUNTS, "a", "default"));
    assert_null(fake_get(h.f, MAPS, "a", "kube-root-ca.crt"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_namespace_gets_them, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(they_are_put_back, set_up, harness_stop),
        cmocka_unit_test_setup_teardown(not_where_the_namespace_is_going_away, set_up,
                                        harness_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
